//! A bundle: one folder with `manifest.json` (readable) and `model.safetensors` (the weights).

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use super::CheckpointError;
use super::tensors::{self, Precision};
use crate::device::NamedDevice;
use crate::editing::{LatentSpace, Locks};
use crate::files;
use crate::model::cpu::Storage;
use crate::model::parameters::WeightData;
use crate::model::{Autoencoder, ModelConfig, Parameters, Weights};

pub const MANIFEST: &str = "manifest.json";
pub const WEIGHTS: &str = "model.safetensors";
/// What weights are called while others have that name.
const NEW_WEIGHTS: &str = "model-new.safetensors";
/// Changes when an older program could no longer read a bundle.
pub const FORMAT: u32 = 1;

/// The folder of the model that comes with the program: `models/default` beside the program, in its shared data, in the present
/// folder, or (for a build from source) in the source tree.
pub fn default_folder() -> PathBuf {
    let name = Path::new("models/default");
    let program = std::env::current_exe().ok().and_then(|p| p.parent().map(Path::to_owned));
    let mut places = vec![];
    if let Some(program) = program {
        places.push(program.join(name));
        places.push(program.join("../share/pdae-studio").join(name));
    }
    places.push(name.to_owned());
    places.push(Path::new(env!("CARGO_MANIFEST_DIR")).join(name));
    places.iter().find(|p| p.join(MANIFEST).is_file()).cloned().unwrap_or_else(|| name.to_owned())
}

/// The readable half of a bundle.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    pub format: u32,
    pub name: String,
    pub config: ModelConfig,
    /// Names of the classifier's rows, which are the sliders. Empty = no directions.
    #[serde(default)]
    pub attributes: Vec<String>,
    pub provenance: Provenance,
    pub weights: WeightsEntry,
}

/// Where the weights come from and on what terms they may be used.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Provenance {
    /// What made the weights, in a sentence.
    pub source: String,
    /// Licence of the weights (not of this program).
    pub licence: String,
    /// Free text: data, samples seen, time, device.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub details: BTreeMap<String, String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WeightsEntry {
    pub file: String,
    pub sha256: String,
    pub precision: Precision,
}

/// A bundle in memory: plain numbers, no device yet.
///
/// Tensor names: `encoder.*`, `decoder.*`, `latent_dpm.*` as published below those prefixes; `latents.mean`, `latents.std`
/// (`[latent]`); `classifier.weight` (`[attributes, latent]`) and `classifier.bias`; `directions.weight` (`[attributes, latent]`)
/// where sliders follow something else than the classifier's rows, which published checkpoints do not; `directions.strength`
/// (`[attributes]`) where 100 percent is another multiple of the published scale than 1; `locks.steps` (`[attributes, latent]`) and
/// `locks.effects` (`[2, attributes, attributes]`) where locks follow what sliders were found to change in pictures.
#[derive(Debug, Clone)]
pub struct Bundle {
    pub folder: PathBuf,
    pub manifest: Manifest,
    pub weights: Weights,
}

impl Bundle {
    /// Reads and checks a bundle. `path` is its folder (or one of the two files inside it).
    pub fn load(path: &Path) -> Result<Self, CheckpointError> {
        let is_part = path.file_name().is_some_and(|name| name == MANIFEST || name == WEIGHTS || name == NEW_WEIGHTS);
        let folder = if is_part && path.is_file() { path.parent().unwrap_or(Path::new(".")) } else { path };
        let manifest = Self::read_manifest(folder)?;
        let file = Path::new(&manifest.weights.file);
        // A manifest from elsewhere must not point outside its own folder.
        if file.components().count() != 1 || file.file_name().is_none() {
            let reason = "the manifest's weights file is not a plain file name".into();
            return Err(CheckpointError::Config { path: folder.join(MANIFEST), reason });
        }
        let file = folder.join(file);
        let (weights, sha256) = tensors::read(&file)?;
        if sha256 != manifest.weights.sha256 {
            return Err(CheckpointError::Checksum { path: file });
        }
        let bundle = Self { folder: folder.into(), manifest, weights };
        bundle.check_latent_space()?;
        Ok(bundle)
    }

    /// Reads the manifest alone.
    pub fn read_manifest(folder: &Path) -> Result<Manifest, CheckpointError> {
        let path = folder.join(MANIFEST);
        let not_a_model = |reason: String| CheckpointError::NotAModel { path: folder.into(), reason };
        let text = std::fs::read_to_string(&path).map_err(|error| match error.kind() {
            _ if folder.is_file() => not_a_model("it is a file".into()),
            ErrorKind::NotFound if !folder.exists() => not_a_model("there is no such folder".into()),
            ErrorKind::NotFound => not_a_model(format!("there is no {MANIFEST} in it")),
            ErrorKind::InvalidData => not_a_model(format!("its {MANIFEST} is not text")),
            _ => CheckpointError::io("read", &path)(error),
        })?;
        let manifest: Manifest =
            serde_json::from_str(&text).map_err(|e| not_a_model(format!("its {MANIFEST} is not a bundle's manifest ({e})")))?;
        let config = |reason: String| CheckpointError::Config { path: path.clone(), reason };
        if manifest.format > FORMAT {
            return Err(config("made by a newer version of the program; update PDAE Studio to open it".into()));
        }
        manifest.config.check().map_err(config)?;
        Ok(manifest)
    }

    /// Writes a new bundle folder. An existing one is only replaced with `replace`; whenever that is broken off, there is a whole bundle
    /// in the folder, the old one or the new one. Of several that are saved there at a time, one is there in the end.
    pub fn save(&mut self, folder: &Path, replace: bool) -> Result<(), CheckpointError> {
        create(folder, replace)?;
        // The weights that another one's manifest leads to would be replaced before it is there, or removed after that.
        let _lock = files::lock_folder(folder);
        let precision = self.manifest.weights.precision;
        // The weights that the manifest in the folder leads to stay until it leads to others.
        let before = Self::read_manifest(folder).ok().map(|manifest| manifest.weights.file);
        let file = if before.as_deref() == Some(WEIGHTS) { NEW_WEIGHTS } else { WEIGHTS };
        // Statistics of one kind of number each: a bundle is one precision throughout, and f16 is exact enough for all of them.
        self.manifest.weights.sha256 = tensors::write(&folder.join(file), &self.weights.tensors, precision)?;
        self.write_manifest(folder, file)?;
        // Their usual name is free now. Where a file system cannot give a file a second name, they keep the one that they have.
        if file == NEW_WEIGHTS && files::give_second_name(&folder.join(NEW_WEIGHTS), &folder.join(WEIGHTS)).is_ok() {
            self.write_manifest(folder, WEIGHTS)?;
        }
        for unused in [WEIGHTS, NEW_WEIGHTS].into_iter().filter(|name| *name != self.manifest.weights.file) {
            let _ = std::fs::remove_file(folder.join(unused));
        }
        self.folder = folder.into();
        Ok(())
    }

    fn write_manifest(&mut self, folder: &Path, weights: &str) -> Result<(), CheckpointError> {
        self.manifest.weights.file = weights.into();
        let text = serde_json::to_string_pretty(&self.manifest).unwrap_or_default() + "\n";
        tensors::write_renamed(&folder.join(MANIFEST), text.as_bytes())
    }

    /// Builds the networks on a device.
    pub fn build(&self, device: &Device) -> Result<Autoencoder, CheckpointError> {
        Ok(Autoencoder::new(&self.manifest.config, &self.weights, device)?)
    }

    /// The same for forward passes alone, by what is fastest on the device.
    pub fn build_for_use(&self, device: &Device) -> Result<Autoencoder, CheckpointError> {
        Ok(self.build(device)?.on_kernels(self.storage(), None))
    }

    /// The same in the precision that the device is to compute in, letting go of the weights as soon as the networks have them: less
    /// memory at the peak.
    pub fn into_model(self, device: &NamedDevice) -> Result<Autoencoder, CheckpointError> {
        let mut parameters = Parameters::from_weights(&self.weights, &device.device).computing_in(device.compute);
        let model = Autoencoder::build_networks(&self.manifest.config, &mut parameters)?;
        let storage = self.storage();
        drop(self);
        Ok(model.on_kernels(storage, device.compute))
    }

    /// How the CPU's kernels keep the weights: in no more bits than they came in.
    pub(crate) fn storage(&self) -> Storage {
        match self.manifest.weights.precision {
            Precision::F16 => Storage::Shorts,
            Precision::F32 => Storage::Floats,
        }
    }

    /// Latent statistics, classifier rows and directions.
    pub fn latent_space(&self) -> LatentSpace {
        let values = |name: &str| self.weights.tensors.get(name).map(|t| t.values.clone()).unwrap_or_default();
        let latents = |name: &str| rows(&values(name), self.manifest.config.latent_dim);
        let (classifier, directions) = (latents("classifier.weight"), latents("directions.weight"));
        LatentSpace {
            mean: values("latents.mean"),
            std: values("latents.std"),
            attributes: self.manifest.attributes.clone(),
            directions: if directions.is_empty() { classifier.clone() } else { directions },
            classifier,
            strength: values("directions.strength"),
            locks: self.locks(),
        }
    }

    fn locks(&self) -> Option<Locks> {
        let [steps, effects] = ["locks.steps", "locks.effects"].map(|name| self.weights.tensors.get(name));
        let attributes = self.manifest.attributes.len();
        let (alone, pure) = effects?.values.split_at(attributes * attributes);
        Some(Locks { steps: rows(&steps?.values, self.manifest.config.latent_dim), effects: [alone, pure].map(|e| rows(e, attributes)) })
    }

    fn check_latent_space(&self) -> Result<(), CheckpointError> {
        let dim = self.manifest.config.latent_dim;
        let attributes = self.manifest.attributes.len();
        let mut expected: Vec<(&str, Vec<usize>)> = vec![];
        if attributes > 0 {
            expected.push(("classifier.weight", vec![attributes, dim]));
            if self.weights.tensors.contains_key("directions.weight") {
                expected.push(("directions.weight", vec![attributes, dim]));
            }
            if self.weights.tensors.contains_key("directions.strength") {
                expected.push(("directions.strength", vec![attributes]));
            }
            // One is nothing without the other.
            if self.weights.tensors.keys().any(|name| name.starts_with("locks.")) {
                expected.push(("locks.steps", vec![attributes, dim]));
                expected.push(("locks.effects", vec![2, attributes, attributes]));
            }
        }
        for key in ["latents.mean", "latents.std"] {
            if attributes > 0 || self.weights.tensors.contains_key(key) {
                expected.push((key, vec![dim]));
            }
        }
        for (key, shape) in expected {
            check_shape(&self.weights, key, &shape)?;
        }
        Ok(())
    }
}

/// Makes a bundle's folder. Only one of several at a time makes a new one.
fn create(folder: &Path, replace: bool) -> Result<(), CheckpointError> {
    let create_new = || {
        folder.parent().map_or(Ok(()), std::fs::create_dir_all)?;
        std::fs::create_dir(folder)
    };
    let created = if replace { std::fs::create_dir_all(folder) } else { create_new() };
    created.map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists if !replace => CheckpointError::Exists { path: folder.into() },
        _ => CheckpointError::io("create", folder)(error),
    })
}

/// A row-major matrix as rows of this width.
fn rows(values: &[f32], width: usize) -> Vec<Vec<f32>> {
    values.chunks(width.max(1)).map(<[f32]>::to_vec).collect()
}

/// That a tensor exists and has the shape, or the error that says what is wrong.
pub(crate) fn check_shape(weights: &Weights, key: &str, expected: &[usize]) -> Result<(), CheckpointError> {
    use crate::model::ParameterError::{Missing, Shape};
    let (origin, key, expected) = (weights.origin.clone(), key.to_owned(), expected.to_vec());
    match weights.tensors.get(&key) {
        None => Err(Missing { origin, key, expected }.into()),
        Some(WeightData { shape, .. }) if *shape != expected => Err(Shape { origin, key, expected, found: shape.clone() }.into()),
        Some(_) => Ok(()),
    }
}
