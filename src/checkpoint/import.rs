//! Turns the authors' downloaded folders into a bundle.
//!
//! Parts are recognised by what they contain, not by where they lie: a checkpoint by its top-level keys, a configuration by its
//! sections. The published layout is described in the README.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::CheckpointError;
use super::bundle::{Bundle, FORMAT, Manifest, Provenance, WeightsEntry, check_shape};
use super::pytorch::PytorchFile;
use super::tensors::{self, Precision};
use crate::diffusion::ScheduleConfig;
use crate::model::{Autoencoder, DenoiserConfig, EncoderKind, LatentDpmConfig, ModelConfig, Prediction, Weights};

/// The 40 CelebA attributes in the order of the published classifier's rows.
pub const CELEBA_ATTRIBUTES: [&str; 40] = [
    "5_o_Clock_Shadow",
    "Arched_Eyebrows",
    "Attractive",
    "Bags_Under_Eyes",
    "Bald",
    "Bangs",
    "Big_Lips",
    "Big_Nose",
    "Black_Hair",
    "Blond_Hair",
    "Blurry",
    "Brown_Hair",
    "Bushy_Eyebrows",
    "Chubby",
    "Double_Chin",
    "Eyeglasses",
    "Goatee",
    "Gray_Hair",
    "Heavy_Makeup",
    "High_Cheekbones",
    "Male",
    "Mouth_Slightly_Open",
    "Mustache",
    "Narrow_Eyes",
    "No_Beard",
    "Oval_Face",
    "Pale_Skin",
    "Pointy_Nose",
    "Receding_Hairline",
    "Rosy_Cheeks",
    "Sideburns",
    "Smiling",
    "Straight_Hair",
    "Wavy_Hair",
    "Wearing_Earrings",
    "Wearing_Hat",
    "Wearing_Lipstick",
    "Wearing_Necklace",
    "Wearing_Necktie",
    "Young",
];

/// How deep below the given folder parts are looked for.
const MAX_DEPTH: usize = 6;

/// What to make of a folder of published files.
#[derive(Debug, Clone)]
pub struct ImportOptions {
    pub name: String,
    pub precision: Precision,
    pub licence: String,
    /// A sentence on where the weights come from; the folder's name if absent.
    pub source: Option<String>,
}

impl Default for ImportOptions {
    fn default() -> Self {
        Self {
            name: "Imported model".into(),
            precision: Precision::F16,
            licence: "unknown: see where the files were downloaded".into(),
            source: None,
        }
    }
}

/// A kind of checkpoint, by the top-level key that gives it away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Autoencoder,
    Classifier,
    LatentStatistics,
    LatentDpm,
}

impl Part {
    fn name(self) -> &'static str {
        match self {
            Self::Autoencoder => "autoencoder checkpoint (keys ema_encoder and ema_decoder)",
            Self::Classifier => "classifier checkpoint (key ema_classifier)",
            Self::LatentStatistics => "latent statistics file (keys mean and std)",
            Self::LatentDpm => "latent DPM checkpoint (key ema_latent_denoise_fn)",
        }
    }
}

/// The sections of the published YAML files that matter here; all others are ignored.
#[derive(Debug, Default, Deserialize)]
struct ConfigFile {
    diffusion_config: Option<ScheduleConfig>,
    denoise_fn_config: Option<DenoiserConfig>,
    encoder_config: Option<EncoderSection>,
    latent_denoise_fn_config: Option<LatentDpmConfig>,
    trained_ddpm_config: Option<String>,
    patch: Option<usize>,
    prediction: Option<Prediction>,
    image_size: Option<usize>,
    labels: Option<Vec<String>>,
}

#[derive(Debug, Deserialize)]
struct EncoderSection {
    model: EncoderKind,
    latent_dim: usize,
}

/// Reads everything below `folder` and assembles a bundle in memory. Save it with [`Bundle::save`].
pub fn import(folder: &Path, options: &ImportOptions) -> Result<Bundle, CheckpointError> {
    let mut files = Vec::new();
    list(folder, 0, &mut files)?;
    let mut parts: BTreeMap<Part, Vec<PathBuf>> = BTreeMap::new();
    let mut configs: Vec<(PathBuf, ConfigFile)> = Vec::new();
    let mut broken = Vec::new();
    for path in files {
        match path.extension().and_then(|e| e.to_str()) {
            Some("pt" | "pth" | "ckpt") => match PytorchFile::open(&path) {
                Ok(file) => {
                    let keys = file.top_level_keys();
                    let has = |name: &str| keys.contains(name);
                    let part = if has("ema_decoder") && has("ema_encoder") {
                        Part::Autoencoder
                    } else if has("ema_latent_denoise_fn") {
                        Part::LatentDpm
                    } else if has("ema_classifier") {
                        Part::Classifier
                    } else if has("mean") && has("std") {
                        Part::LatentStatistics
                    } else {
                        continue; // the plain DPM (its weights are inside the decoder too) or something else
                    };
                    parts.entry(part).or_default().push(path);
                }
                Err(error) => broken.push(error),
            },
            Some("yml" | "yaml") => {
                let text = std::fs::read_to_string(&path).map_err(CheckpointError::io("read", &path))?;
                let config = serde_norway::from_str(&text)
                    .map_err(|e| CheckpointError::Config { path: path.clone(), reason: format!("not a readable configuration ({e})") })?;
                configs.push((path, config));
            }
            _ => {}
        }
    }
    // A damaged file might be the very part that would be reported missing below.
    if let Some(error) = broken.into_iter().next() {
        return Err(error);
    }
    let part = |part: Part| single(folder, part.name(), parts.get(&part).cloned().unwrap_or_default());
    let missing = |what: &str| CheckpointError::NotFound { path: folder.into(), what: what.into() };
    let autoencoder_path = part(Part::Autoencoder)?.ok_or_else(|| missing(Part::Autoencoder.name()))?;

    let with = |wanted: fn(&ConfigFile) -> bool| configs.iter().filter(move |(_, c)| wanted(c));
    let encoder_configs: Vec<_> = with(|c| c.encoder_config.is_some()).collect();
    let (autoencoder_config_path, autoencoder_config) = nearest(&encoder_configs, &autoencoder_path)
        .ok_or_else(|| missing("autoencoder configuration (a YAML file with encoder_config)"))?;
    let encoder = autoencoder_config.encoder_config.as_ref().ok_or_else(|| missing("encoder_config"))?;
    let dpm_configs: Vec<_> = with(|c| c.denoise_fn_config.is_some()).collect();
    let named = autoencoder_config.trained_ddpm_config.as_ref().map(|relative| autoencoder_config_path.with_file_name(relative));
    let (dpm_config_path, dpm_config) = match (&dpm_configs[..], named) {
        ([], _) => return Err(missing("DPM configuration (a YAML file with denoise_fn_config)")),
        ([only], _) => only,
        (many, named) => {
            many.iter().find(|(path, _)| named.as_ref().is_some_and(|n| same_tail(n, path))).ok_or_else(|| CheckpointError::Ambiguous {
                path: folder.into(),
                what: "DPM configuration",
                found: many.iter().map(|(p, _)| p.display().to_string()).collect::<Vec<_>>().join(", "),
            })?
        }
    };

    let mut config = ModelConfig {
        image_size: dpm_config.image_size.or(autoencoder_config.image_size).unwrap_or(encoder.model.image_size()),
        patch: dpm_config.patch.or(autoencoder_config.patch).unwrap_or(1),
        prediction: dpm_config.prediction.or(autoencoder_config.prediction).unwrap_or_default(),
        fine_colour: None,
        latent_dim: encoder.latent_dim,
        latent_map: 0,
        encoder: encoder.model,
        denoiser: dpm_config.denoise_fn_config.clone().ok_or_else(|| missing("denoise_fn_config"))?,
        schedule: dpm_config.diffusion_config.clone().unwrap_or_default(),
        latent_dpm: None,
    };

    let autoencoder = PytorchFile::open(&autoencoder_path)?;
    let mut weights = autoencoder.weights(BTreeMap::new());
    weights.tensors.append(&mut autoencoder.read("ema_encoder", "encoder")?);
    weights.tensors.append(&mut autoencoder.read("ema_decoder", "decoder")?);
    let mut used = vec![autoencoder_path, autoencoder_config_path.clone(), dpm_config_path.clone()];

    if let Some(path) = part(Part::LatentDpm)? {
        let latent_configs: Vec<_> = with(|c| c.latent_denoise_fn_config.is_some()).collect();
        let (config_path, latent) = nearest(&latent_configs, &path)
            .ok_or_else(|| missing("latent DPM configuration (a YAML file with latent_denoise_fn_config)"))?;
        config.latent_dpm = latent.latent_denoise_fn_config.clone();
        let mut tensors = PytorchFile::open(&path)?.read("ema_latent_denoise_fn", "latent_dpm")?;
        // Published files hold one layer under two names.
        tensors.retain(|name, _| !name.contains(".linear_emb."));
        weights.tensors.append(&mut tensors);
        used.extend([path, config_path.clone()]);
    }
    config.check().map_err(|reason| CheckpointError::Config { path: dpm_config_path.clone(), reason })?;

    let mut attributes = Vec::new();
    let (classifier, statistics) = (part(Part::Classifier)?, part(Part::LatentStatistics)?);
    if let Some(path) = statistics {
        let file = PytorchFile::open(&path)?;
        for key in ["mean", "std"] {
            weights.tensors.append(&mut file.read(key, &format!("latents.{key}"))?);
        }
        let read = Weights { origin: path.display().to_string(), tensors: weights.tensors.clone() };
        for key in ["latents.mean", "latents.std"] {
            check_shape(&read, key, &[config.latent_dim])?;
        }
        used.push(path);
    }
    if let Some(path) = classifier {
        let mut tensors = PytorchFile::open(&path)?.read("ema_classifier", "classifier")?;
        if !weights.tensors.contains_key("latents.mean") {
            return Err(missing(Part::LatentStatistics.name()));
        }
        let rows = tensors.get("classifier.weight").map_or(0, |t| t.shape[0]);
        let labels = configs.iter().find_map(|(_, c)| c.labels.clone());
        attributes = labels.unwrap_or_else(|| CELEBA_ATTRIBUTES.map(str::to_owned).to_vec());
        let read = Weights { origin: path.display().to_string(), tensors: tensors.clone() };
        check_shape(&read, "classifier.weight", &[attributes.len().max(rows.min(1)), config.latent_dim])?;
        weights.tensors.append(&mut tensors);
        used.push(path);
    }

    // Building the networks once finds every missing key and wrong shape now, and drops what no network asks for.
    let kept = check_networks(&config, &weights)?;
    weights.tensors.retain(|name, _| kept.contains(name) || name.starts_with("latents.") || name.starts_with("classifier."));

    let mut details = BTreeMap::new();
    for path in &used {
        let shown = path.strip_prefix(folder).unwrap_or(path);
        details.insert(format!("sha256 of {}", shown.display()), tensors::sha256_of(path)?);
    }
    let manifest = Manifest {
        format: FORMAT,
        name: options.name.clone(),
        config,
        attributes,
        provenance: Provenance {
            source: options.source.clone().unwrap_or_else(|| {
                let name = folder.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
                format!("imported from published checkpoints in {name}")
            }),
            licence: options.licence.clone(),
            details,
        },
        weights: WeightsEntry { file: super::bundle::WEIGHTS.into(), sha256: String::new(), precision: options.precision },
    };
    Ok(Bundle { folder: folder.into(), manifest, weights })
}

/// The names of all tensors that the networks use.
fn check_networks(config: &ModelConfig, weights: &Weights) -> Result<std::collections::HashSet<String>, CheckpointError> {
    let device = burn::tensor::Device::flex();
    let mut p = crate::model::Parameters::from_weights(weights, &device);
    Autoencoder::build_networks(config, &mut p)?;
    Ok(p.into_names().into_values().collect())
}

fn list(folder: &Path, depth: usize, files: &mut Vec<PathBuf>) -> Result<(), CheckpointError> {
    let entries = std::fs::read_dir(folder).map_err(CheckpointError::io("open the folder", folder))?;
    let mut paths: Vec<PathBuf> = entries.filter_map(|e| e.ok().map(|e| e.path())).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            if depth < MAX_DEPTH {
                list(&path, depth + 1, files)?;
            }
        } else {
            files.push(path);
        }
    }
    Ok(())
}

fn single(folder: &Path, what: &'static str, mut found: Vec<PathBuf>) -> Result<Option<PathBuf>, CheckpointError> {
    match found.len() {
        0 | 1 => Ok(found.pop()),
        _ => Err(CheckpointError::Ambiguous {
            path: folder.into(),
            what,
            found: found.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(", "),
        }),
    }
}

/// The configuration in the same folder as a checkpoint, or the only one there is.
fn nearest<'a>(configs: &[&'a (PathBuf, ConfigFile)], checkpoint: &Path) -> Option<&'a (PathBuf, ConfigFile)> {
    configs
        .iter()
        .find(|(path, _)| path.parent() == checkpoint.parent())
        .or(if configs.len() == 1 { configs.first() } else { None })
        .copied()
}

/// Whether two paths end in the same folder and file name, which is what survives a move to another machine.
fn same_tail(a: &Path, b: &Path) -> bool {
    a.file_name() == b.file_name() && a.parent().and_then(Path::file_name) == b.parent().and_then(Path::file_name)
}
