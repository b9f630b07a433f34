//! The latent DPM: a diffusion model over normalised semantic latents, for faces from nothing (paper, section 4.5 and appendix).
//!
//! The mean absolute error of the noise, `T` = 1000, a constant beta of 0.008, AdamW at 1e-3 with a weight decay of 0.01. The data set
//! is encoded once; the run folder keeps its latents, so a step costs a few matrix products and no picture.

use std::path::PathBuf;
use std::sync::Arc;

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use image::RgbImage;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rand_distr::StandardNormal;
use serde::{Deserialize, Serialize};

use super::data::{BatchSource, fixed_noise, step_seed};
use super::latents::{self, Facts, Latents, Statistics};
use super::learner::initialise;
use super::parts::{Divide, cut, each};
use super::run::{self, Progress, Stage, StageKind};
use super::{Hyperparameters, ImageSet, Learner, Limits, RunConfig, RunFolder, TrainError, pictures};
use crate::checkpoint::Bundle;
use crate::diffusion::Schedule;
use crate::model::{Autoencoder, Guidance, LatentDpm, LatentDpmConfig};

/// Sample pictures: images and DDIM steps for latents and images.
const SAMPLES: usize = 8;
const SAMPLE_LATENT_STEPS: usize = 50;
const SAMPLE_STEPS: usize = 25;
const SAMPLE_SEED: u64 = 0x1a7e_0d0f;

/// What `train latent` trains.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LatentRun {
    pub network: LatentDpmConfig,
    /// SHA-256 of the encoder whose latents these are.
    pub encoder: String,
}

/// Normalised latents to train on.
#[derive(Debug, Clone, PartialEq)]
pub struct LatentSet {
    latents: Latents,
    /// The first so many are trained on.
    training: usize,
    statistics: Statistics,
}

/// Latents, noise and timesteps, drawn at random.
#[derive(Debug, Clone)]
pub struct LatentBatch {
    /// `[batch, latent]`, normalised.
    pub z_0: TensorData,
    /// The same shape, standard normal.
    pub noise: TensorData,
    /// One a latent.
    pub t: Vec<usize>,
}

impl Divide for LatentBatch {
    fn divide(self, sizes: &[usize]) -> Vec<Self> {
        let (z_0, noise, t) = (cut(self.z_0, sizes), cut(self.noise, sizes), each(self.t, sizes));
        z_0.into_iter().zip(noise).zip(t).map(|((z_0, noise), t)| Self { z_0, noise, t }).collect()
    }
}

impl LatentSet {
    /// `latents` as the encoder gave them, of which the first `training` are trained on.
    pub fn new(latents: &Latents, training: usize, statistics: Statistics) -> Self {
        Self { latents: latents.normalised(&statistics), training, statistics }
    }

    /// Number of latents to train on.
    pub fn training(&self) -> usize {
        self.training
    }

    /// The batch of one step: training latents with replacement, `t` uniform in `0..timesteps`. It depends on `seed` and `step` alone.
    pub fn draw(&self, seed: u64, step: u64, batch: usize, timesteps: usize) -> LatentBatch {
        let mut rng = StdRng::seed_from_u64(step_seed(seed, step));
        let shape = [batch, self.latents.dim];
        let mut values = Vec::with_capacity(batch * self.latents.dim);
        for _ in 0..batch {
            let index = rng.random_range(0..self.training);
            values.extend_from_slice(self.latents.rows(index..index + 1));
        }
        let t = (0..batch).map(|_| rng.random_range(0..timesteps)).collect();
        let noise: Vec<f32> = rng.sample_iter(StandardNormal).take(batch * self.latents.dim).collect();
        LatentBatch { z_0: TensorData::new(values, shape), noise: TensorData::new(noise, shape), t }
    }
}

/// `mean(|noise - eps|)` over all elements, `[1]`. `z_0` (normalised) and `noise` are `[batch, latent]`, `t` one timestep a row.
pub fn loss(network: &LatentDpm, schedule: &Schedule, z_0: Tensor<2>, noise: Tensor<2>, t: &[usize]) -> Tensor<1> {
    let column = |value: fn((f64, f64)) -> f64| -> Tensor<2> {
        let values: Vec<f32> = t.iter().map(|t| value(schedule.forward_factors(*t)) as f32).collect();
        Tensor::from_data(TensorData::new(values, [t.len(), 1]), &z_0.device())
    };
    let z_t = z_0.clone() * column(|(signal, _)| signal) + noise.clone() * column(|(_, sigma)| sigma);
    (noise - network.forward(z_t, t)).abs().mean()
}

/// The stage of [`run::train`].
pub struct LatentStage {
    schedule: Schedule,
    /// What sample pictures are decoded with.
    autoencoder: Autoencoder,
    statistics: Statistics,
}

impl LatentStage {
    /// `device` without differentiation.
    pub fn new(bundle: &Bundle, statistics: Statistics, device: &Device) -> Result<Self, TrainError> {
        Ok(Self { schedule: Schedule::for_latents(), autoencoder: bundle.build(device)?, statistics })
    }
}

impl Stage for LatentStage {
    type Network = LatentDpm;
    type Data = LatentSet;
    type Batch = LatentBatch;

    fn batches(&self, data: &Arc<LatentSet>, seed: u64, batch: usize) -> BatchSource<LatentBatch> {
        let (data, timesteps) = (data.clone(), self.schedule.len());
        Arc::new(move |step| data.draw(seed, step, batch, timesteps))
    }

    fn loss(&self, network: &LatentDpm, batch: LatentBatch, device: &Device) -> Tensor<1> {
        let (z_0, noise) = (Tensor::from_data(batch.z_0, device), Tensor::from_data(batch.noise, device));
        loss(network, &self.schedule, z_0, noise, &batch.t)
    }

    /// Faces from fixed noise.
    fn picture(&self, averaged: &LatentDpm) -> Option<RgbImage> {
        let (model, dim) = (&self.autoencoder, self.autoencoder.config.latent_dim);
        let size = model.config.image_size;
        let z_t = fixed_noise(SAMPLE_SEED, [SAMPLES, dim], model.device());
        let z_n = averaged.sample_from_noise(z_t, SAMPLE_LATENT_STEPS);
        let row = |values: &[f32]| model.tensor(values.to_vec(), [1, dim]);
        let z = z_n * row(&self.statistics.std) + row(&self.statistics.mean);
        let x_t = fixed_noise(SAMPLE_SEED + 1, [SAMPLES, 3, size, size], model.device());
        Some(pictures::grid(vec![model.decode(x_t, &z, SAMPLE_STEPS, Guidance::unconditional())]))
    }
}

/// What [`prepare`] works on.
#[derive(Debug, Clone)]
pub struct LatentJob {
    /// The bundle that the latent DPM is for.
    pub bundle: PathBuf,
    /// Folder or tar of images; not needed where the run folder keeps their latents.
    pub data: Option<PathBuf>,
    /// The last so many images are never trained on.
    pub validation: usize,
    /// For latents of the bundle's length, see [`default_network`].
    pub network: LatentDpmConfig,
    pub hyperparameters: Hyperparameters,
}

/// What the latent DPM trains with unless told otherwise.
pub fn default_hyperparameters() -> Hyperparameters {
    Hyperparameters { batch: 512, rate: 1e-3, warmup: 100, ema: 0.999, weight_decay: 0.01, ..Hyperparameters::default() }
}

/// A network that costs a bundle few megabytes, for latents of this length.
pub fn default_network(latent_dim: usize) -> LatentDpmConfig {
    LatentDpmConfig { input_channel: latent_dim, model_channel: 384, num_layers: 5, time_emb_channel: 64, use_norm: true }
}

/// A randomly initialised latent DPM, ready to learn on `device`.
pub fn learner(network: &LatentDpmConfig, hyperparameters: Hyperparameters, device: &Device) -> Result<Learner<LatentDpm>, TrainError> {
    let device = device.clone().autodiff();
    let (dpm, names) = initialise(&hyperparameters, &device, |p| p.scope("latent_dpm", |p| LatentDpm::new(p, network)));
    Ok(Learner::new(dpm?.set_require_grad(true), names, hyperparameters))
}

/// A run that has its latents and only needs to be trained.
pub struct LatentTraining {
    bundle: Bundle,
    config: RunConfig<LatentRun>,
    facts: Facts,
    set: Arc<LatentSet>,
}

/// Gets the latents of a run. `tick` hears how many images have been encoded; it is not called where the folder keeps them.
pub fn prepare(folder: &RunFolder, job: &LatentJob, device: &Device, tick: impl FnMut(usize)) -> Result<LatentTraining, TrainError> {
    let bundle = Bundle::load(&job.bundle)?;
    let mut model = bundle.manifest.config.clone();
    model.latent_dpm = Some(job.network.clone());
    model.check().map_err(TrainError::Config)?;
    let config = RunConfig {
        stage: StageKind::Latent,
        model: LatentRun { network: job.network.clone(), encoder: latents::encoder_sha256(&bundle) },
        hyperparameters: job.hyperparameters,
    };
    // An unfit folder is refused before an hour of encoding, and its latents are never mixed up with another encoder's.
    folder.check_config(&config)?;
    let (facts, set) = latents_of(folder, job, &config, &bundle, device, tick)?;
    Ok(LatentTraining { bundle, config, facts, set: Arc::new(set) })
}

impl LatentTraining {
    /// Trains from the folder's last state, if it has one, and puts the moving average into the bundle.
    pub fn train(self, folder: &RunFolder, limits: &Limits, device: &Device) -> Result<Progress, TrainError> {
        let mut learner = learner(&self.config.model.network, self.config.hyperparameters, device)?;
        let stage = LatentStage::new(&self.bundle, self.set.statistics.clone(), device)?;
        let progress = run::train(&stage, &mut learner, &self.set, folder, &self.config, limits, &device.clone().autodiff())?;
        self.store(&learner, &progress)?;
        Ok(progress)
    }

    fn store(&self, learner: &Learner<LatentDpm>, progress: &Progress) -> Result<(), TrainError> {
        let mut bundle = latents::loaded_again(&self.bundle)?;
        // As a bundle keeps them: another training may have stored these very ones meanwhile.
        let stored = |values: &[f32]| values.iter().map(|value| bundle.manifest.weights.precision.stored(*value)).collect();
        let own = Statistics { mean: stored(&self.set.statistics.mean), std: stored(&self.set.statistics.std) };
        if Statistics::of(&bundle).is_some_and(|statistics| statistics != own) {
            return Err(TrainError::BundleChanged { path: bundle.folder, what: "scale of its latents" });
        }
        bundle.weights.tensors.retain(|name, _| !name.starts_with("latent_dpm."));
        bundle.weights.tensors.extend(learner.averaged_weights());
        self.set.statistics.clone().store(&mut bundle);
        bundle.manifest.config.latent_dpm = Some(self.config.model.network.clone());
        let loss = progress.loss.map_or_else(String::new, |loss| format!(", last loss {loss:.4}"));
        let (latents, data) = (self.set.training, &self.facts.data);
        let text = format!("{} steps, {} samples from {latents} latents of {data}{loss}", progress.step, progress.samples);
        bundle.manifest.provenance.details.insert("latent DPM".to_owned(), text);
        let place = bundle.folder.clone();
        Ok(bundle.save(&place, true)?)
    }
}

/// The run folder's latents, or else those of `job.data`, which the folder keeps from then on.
fn latents_of(
    folder: &RunFolder,
    job: &LatentJob,
    config: &RunConfig<LatentRun>,
    bundle: &Bundle,
    device: &Device,
    tick: impl FnMut(usize),
) -> Result<(Facts, LatentSet), TrainError> {
    let (facts, found) = match latents::kept(folder)? {
        Some((facts, found)) => {
            check_same_data(folder, &facts, job, bundle)?;
            (facts, found)
        }
        None => {
            let path = job.data.as_ref().ok_or_else(|| TrainError::NoLatents { path: folder.path().into() })?;
            let data = ImageSet::load(path, bundle.manifest.config.image_size, job.validation)?;
            folder.set_config(config)?;
            let model = bundle.build_for_use(device)?;
            let found = latents::encode(|x| model.semantic_latent(x), &data, device, tick);
            let facts = Facts {
                encoder: latents::encoder_sha256(bundle),
                data: latents::data_name(path),
                images: data.len(),
                training: data.training(),
            };
            latents::keep(folder, &facts, &found)?;
            (facts, found)
        }
    };
    let statistics = Statistics::of(bundle).unwrap_or_else(|| found.statistics(facts.training));
    let set = LatentSet::new(&found, facts.training, statistics);
    Ok((facts, set))
}

/// Kept latents stand for the encoder and the data that the command names, or it would train on something else in silence.
fn check_same_data(folder: &RunFolder, facts: &Facts, job: &LatentJob, bundle: &Bundle) -> Result<(), TrainError> {
    let same = |data: &PathBuf| latents::data_name(data) == facts.data && facts.images - facts.training == job.validation;
    if facts.encoder == latents::encoder_sha256(bundle) && job.data.as_ref().is_none_or(same) {
        return Ok(());
    }
    let found = format!("`train latent` of another bundle, or on {} with --validation {}", facts.data, facts.images - facts.training);
    Err(TrainError::OtherRun { path: folder.path().into(), found })
}

/// The network that a run folder trains, if it does.
pub fn configured(folder: &RunFolder) -> Result<Option<RunConfig<LatentRun>>, TrainError> {
    folder.config(StageKind::Latent)
}
