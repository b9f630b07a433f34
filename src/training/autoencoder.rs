//! PDAE's own stage: encoder and mean shift on top of a frozen DPM (paper, section 3).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use image::RgbImage;

use super::data::{BatchSource, fixed_noise};
use super::forward::noised;
use super::learner::initialise;
use super::run::{self, Progress, Stage, StageKind};
use super::{Batch, Hyperparameters, ImageSet, Learner, Limits, RunConfig, RunFolder, TrainError, pictures};
use crate::checkpoint::bundle::{FORMAT, MANIFEST, Manifest, Provenance, WEIGHTS, WeightsEntry};
use crate::checkpoint::tensors::Precision;
use crate::checkpoint::{Bundle, CheckpointError};
use crate::diffusion::{Chain, Direction, Schedule, guided_noise};
use crate::model::parameters::WeightData;
use crate::model::{Denoiser, Encoder, ModelConfig, Parameters, ShiftDecoder, Weights, per_image};

/// Sample pictures: images and DDIM steps.
const SAMPLES: usize = 8;
const SAMPLE_STEPS: usize = 25;
const SAMPLE_SEED: u64 = 0x7d11_c0de;
/// What a bundle's provenance says.
const SOURCE: &str = "trained with PDAE Studio (`pdae-studio train`)";

/// The networks of this stage. The decoder's DPM is frozen; all else is trained.
#[derive(Module, Debug)]
pub struct Networks {
    pub encoder: Encoder,
    pub decoder: ShiftDecoder,
}

impl Networks {
    /// Both networks under the names that they have inside a bundle.
    pub fn new(p: &mut Parameters, model: &ModelConfig) -> Result<Self, TrainError> {
        let encoder = p.scope("encoder", |p| Encoder::new(p, model.encoder, model.latent_dim))?;
        let decoder = p.scope("decoder", |p| ShiftDecoder::new(p, model))?;
        Ok(Self { encoder, decoder })
    }
}

/// `mean(weight_t * (noise - (eps + shift_coef_t * G))^2)` over all elements, `[1]` (paper, equation 14).
///
/// `x_0` in [-1, 1] and `noise` are `[batch, 3, size, size]`, `t` one timestep an image.
pub fn loss(networks: &Networks, schedule: &Schedule, x_0: Tensor<4>, noise: Tensor<4>, t: &[usize]) -> Tensor<1> {
    let z = networks.encoder.forward(x_0.clone());
    let x_t = noised(schedule, x_0, noise.clone(), t);
    // No parameter on the way to eps requires gradients, so its half is computed without being recorded.
    let (eps, gradient) = networks.decoder.forward(x_t, t, z);
    let coefficient = per_image(&noise, t, |t| schedule.shift_coef[t]);
    let weight = per_image(&noise, t, |t| networks.decoder.denoiser.prediction().autoencoder_weight(schedule.alphas_cumprod[t]));
    ((noise - (eps + gradient * coefficient)).square() * weight).mean()
}

/// The stage of [`run::train`].
#[derive(Debug, Clone)]
pub struct AutoencoderStage {
    pub schedule: Schedule,
    /// What the sample pictures reconstruct: the first images that are not trained on, or else the first ones.
    originals: Tensor<4>,
}

impl AutoencoderStage {
    /// `device` without differentiation.
    pub fn new(config: &RunConfig, data: &ImageSet, device: &Device) -> Self {
        let first = if data.validation > 0 { data.training() } else { 0 };
        let indices: Vec<usize> = (first..data.len().min(first + SAMPLES)).collect();
        Self { schedule: Schedule::new(&config.model.schedule), originals: data.images(&indices, device) }
    }
}

impl Stage for AutoencoderStage {
    type Network = Networks;
    type Data = ImageSet;
    type Batch = Batch;

    fn batches(&self, data: &Arc<ImageSet>, seed: u64, batch: usize) -> BatchSource<Batch> {
        let (data, timesteps) = (data.clone(), self.schedule.len());
        Arc::new(move |step| data.draw(seed, step, batch, timesteps))
    }

    fn loss(&self, network: &Networks, batch: Batch, device: &Device) -> Tensor<1> {
        let (x_0, noise, t) = batch.upload(device);
        loss(network, &self.schedule, x_0, noise, &t)
    }

    /// Originals above what `z` alone brings back from random `x_T`.
    fn picture(&self, averaged: &Networks) -> Option<RgbImage> {
        let x_0 = self.originals.clone();
        let z = averaged.encoder.forward(x_0.clone());
        let x_t = fixed_noise(SAMPLE_SEED, x_0.dims(), &x_0.device());
        let mut chain = Chain::new(&self.schedule, SAMPLE_STEPS, Direction::Decode, x_t);
        while let Some(t) = chain.timestep() {
            let timesteps = vec![t; x_0.dims()[0]];
            let (eps, gradient) = averaged.decoder.forward(chain.x.clone(), &timesteps, z.clone());
            chain.advance(&self.schedule, guided_noise(&self.schedule, t, eps, gradient, 1.0));
        }
        Some(pictures::grid(vec![x_0, chain.x]))
    }
}

/// What a fresh run begins with.
#[derive(Debug, Clone, Copy)]
pub enum Start<'a> {
    /// A trained DPM (weights under `decoder.`); encoder and shift half are random.
    Dpm(&'a Weights),
    /// All networks of a bundle.
    Bundle(&'a Weights),
}

/// Encoder and shift half, ready to learn on `device`, around a frozen DPM.
///
/// Without a start all of them are random; that only makes sense when a saved state is restored right afterwards.
pub fn learner(
    model: &ModelConfig,
    start: Option<Start>,
    hyperparameters: Hyperparameters,
    device: &Device,
) -> Result<Learner<Networks>, TrainError> {
    let device = device.clone().autodiff();
    let (networks, names) = initialise(&hyperparameters, &device, |p| Networks::new(p, model));
    let mut networks = networks?.set_require_grad(true);
    if let Some(Start::Dpm(weights)) = start {
        let mut p = Parameters::from_weights(weights, &device);
        p.train_in(hyperparameters.compute());
        networks.decoder.denoiser = p.scope("decoder", |p| Denoiser::new(p, model))?;
    }
    networks.decoder.denoiser = networks.decoder.denoiser.no_grad();
    let mut learner = Learner::new(networks, names, hyperparameters);
    if let Some(Start::Bundle(weights)) = start {
        learner.start_from(weights)?;
    }
    Ok(learner)
}

/// Trains in a run folder, from its last state if it has one; only a fresh run needs `start` ([`super::dpm::load`]).
pub fn train(
    folder: &RunFolder,
    config: &RunConfig,
    start: Option<Start>,
    data: &Arc<ImageSet>,
    limits: &Limits,
    device: &Device,
) -> Result<Progress, TrainError> {
    config.model.check().map_err(TrainError::Config)?;
    if start.is_none() && folder.progress()?.is_none() {
        return Err(TrainError::NoDpm);
    }
    let mut learner = learner(&config.model, start, config.hyperparameters, device)?;
    let stage = AutoencoderStage::new(config, data, device);
    run::train(&stage, &mut learner, data, folder, config, limits, &device.clone().autodiff())
}

/// What a bundle is to say of itself.
#[derive(Debug, Clone)]
pub struct BundleDetails {
    pub name: String,
    pub licence: String,
    /// The training data, by name.
    pub data: String,
    /// The device that was trained on, by name.
    pub device: String,
    pub precision: Precision,
}

/// What became of a bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Written {
    /// It has these networks already, and keeps what was added to them since.
    Before,
    /// It is new. The former one may be in another folder now.
    Now(Option<PathBuf>),
}

/// Makes `target` the bundle of a run's last state, if it is not that already.
///
/// Sliders and a latent DPM are learned for the networks they belong to, in hours. So a bundle that has any, or that is another model, is
/// not replaced but renamed. Directions count only where they are not fitted again at once, `with_directions`.
pub fn update_bundle(folder: &RunFolder, target: &Path, details: &BundleDetails, with_directions: bool) -> Result<Written, TrainError> {
    let (_, weights) = folder.averaged_weights()?;
    let comes_again = match Bundle::load(target) {
        Ok(bundle) if holds(&bundle, &weights, details.precision) => return Ok(Written::Before),
        Ok(bundle) => comes_again(&bundle, with_directions),
        Err(_) => !target.join(MANIFEST).exists(),
    };
    let former = if comes_again { None } else { Some(set_aside(target)?) };
    write_bundle(folder, target, details)?;
    Ok(Written::Now(former))
}

/// Gives a bundle another name and other terms, where there are any.
pub fn rename(target: &Path, name: Option<&str>, licence: Option<&str>) -> Result<(), TrainError> {
    let mut bundle = Bundle::load(target)?;
    let before = bundle.manifest.clone();
    let set = |place: &mut String, value: Option<&str>| value.into_iter().for_each(|value| value.clone_into(place));
    set(&mut bundle.manifest.name, name);
    set(&mut bundle.manifest.provenance.licence, licence);
    if bundle.manifest != before {
        bundle.save(target, true)?;
    }
    Ok(())
}

/// Whether a bundle has these weights, as they are stored.
fn holds(bundle: &Bundle, weights: &Weights, precision: Precision) -> bool {
    let same = |(name, data): (&String, &WeightData)| {
        bundle.weights.tensors.get(name).is_some_and(|kept| {
            kept.shape == data.shape && kept.values.iter().zip(&data.values).all(|(kept, value)| *kept == precision.stored(*value))
        })
    };
    bundle.manifest.weights.precision == precision && weights.tensors.iter().all(same)
}

/// Whether nothing is lost with a bundle: it has the networks of a run, and no more than fitted directions that a run brings along.
fn comes_again(bundle: &Bundle, with_directions: bool) -> bool {
    let manifest = &bundle.manifest;
    let is_learned = manifest.config.latent_dpm.is_some() || bundle.weights.tensors.keys().any(|name| name.starts_with("locks."));
    manifest.provenance.source == SOURCE && !is_learned && (with_directions || manifest.attributes.is_empty())
}

/// Renames a bundle to the first name with a number that is free.
fn set_aside(bundle: &Path) -> Result<PathBuf, TrainError> {
    let name = bundle.file_name().ok_or_else(|| CheckpointError::Exists { path: bundle.into() })?;
    let numbered = |number: u32| {
        let mut name = name.to_owned();
        name.push(format!("-{number}"));
        bundle.with_file_name(name)
    };
    let free = (1..).map(numbered).find(|path| !path.exists()).ok_or_else(|| CheckpointError::Exists { path: bundle.into() })?;
    std::fs::rename(bundle, &free).map_err(TrainError::io("rename", bundle))?;
    Ok(free)
}

/// Writes the averaged networks of a run's last state as a bundle, still without directions. An older one is replaced.
pub fn write_bundle(folder: &RunFolder, target: &Path, details: &BundleDetails) -> Result<Bundle, TrainError> {
    let config: RunConfig = folder.config(StageKind::Autoencoder)?.ok_or_else(|| TrainError::NoState { path: folder.path().into() })?;
    let (progress, weights) = folder.averaged_weights()?;
    let mut facts = BTreeMap::from([
        ("data".to_owned(), details.data.clone()),
        ("device".to_owned(), details.device.clone()),
        ("steps".to_owned(), progress.step.to_string()),
        ("samples seen".to_owned(), progress.samples.to_string()),
        ("minutes".to_owned(), format!("{:.1}", progress.minutes)),
    ]);
    if let Some(loss) = progress.loss {
        facts.insert("loss".to_owned(), format!("{loss:.5}"));
    }
    let manifest = Manifest {
        format: FORMAT,
        name: details.name.clone(),
        config: config.model,
        attributes: Vec::new(),
        provenance: Provenance { source: SOURCE.into(), licence: details.licence.clone(), details: facts },
        weights: WeightsEntry { file: WEIGHTS.into(), sha256: String::new(), precision: details.precision },
    };
    let mut bundle = Bundle { folder: target.into(), manifest, weights };
    bundle.save(target, true)?;
    Ok(bundle)
}
