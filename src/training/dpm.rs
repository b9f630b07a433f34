//! The DPM: the unconditional diffusion model that everything else stands on.

use std::path::Path;
use std::sync::Arc;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use image::RgbImage;

use super::data::{BatchSource, fixed_noise};
use super::forward::noised;
use super::learner::initialise;
use super::run::{self, Progress, Stage, StageKind};
use super::{Batch, Hyperparameters, ImageSet, Learner, Limits, RunConfig, RunFolder, TrainError, pictures};
use crate::diffusion::{Chain, Direction, Schedule};
use crate::model::{Denoiser, ModelConfig, Weights, per_image};

/// Sample pictures: images, a row's length, and DDIM steps.
const SAMPLES: usize = 16;
const COLUMNS: usize = 8;
const SAMPLE_STEPS: usize = 25;
/// A run's fixed noise must not be that of one of its steps.
const SAMPLE_SEED: u64 = 0x5a3b_1e5d;

/// `mean((noise - eps)^2)` over all elements, `[1]`; each image weighted as [`crate::model::Prediction::dpm_weight`] says.
///
/// `x_0` in [-1, 1] and `noise` are `[batch, 3, size, size]`, `t` one timestep an image.
pub fn loss(denoiser: &Denoiser, schedule: &Schedule, min_snr: Option<f64>, x_0: Tensor<4>, noise: Tensor<4>, t: &[usize]) -> Tensor<1> {
    let x_t = noised(schedule, x_0, noise.clone(), t);
    let error = (noise - denoiser.forward(x_t, t)).square();
    let weight = per_image(&error, t, |t| denoiser.prediction().dpm_weight(schedule.alphas_cumprod[t], min_snr));
    (error * weight).mean()
}

/// The stage of [`run::train`].
#[derive(Debug, Clone)]
pub struct DpmStage {
    pub schedule: Schedule,
    pub min_snr: Option<f64>,
    /// Side of the images in pixels.
    pub image_size: usize,
}

impl DpmStage {
    pub fn new(config: &RunConfig) -> Self {
        let schedule = Schedule::new(&config.model.schedule);
        Self { schedule, min_snr: config.hyperparameters.min_snr, image_size: config.model.image_size }
    }
}

impl Stage for DpmStage {
    type Network = Denoiser;
    type Data = ImageSet;
    type Batch = Batch;

    fn batches(&self, data: &Arc<ImageSet>, seed: u64, batch: usize) -> BatchSource<Batch> {
        let (data, timesteps) = (data.clone(), self.schedule.len());
        Arc::new(move |step| data.draw(seed, step, batch, timesteps))
    }

    fn loss(&self, network: &Denoiser, batch: Batch, device: &Device) -> Tensor<1> {
        let (x_0, noise, t) = batch.upload(device);
        loss(network, &self.schedule, self.min_snr, x_0, noise, &t)
    }

    fn picture(&self, averaged: &Denoiser) -> Option<RgbImage> {
        let device = averaged.devices().swap_remove(0);
        let x_t = fixed_noise(SAMPLE_SEED, [SAMPLES, 3, self.image_size, self.image_size], &device);
        let mut chain = Chain::new(&self.schedule, SAMPLE_STEPS, Direction::Decode, x_t);
        while let Some(t) = chain.timestep() {
            let eps = averaged.forward(chain.x.clone(), &[t; SAMPLES]);
            chain.advance(&self.schedule, eps);
        }
        Some(pictures::grid(chain.x.split(COLUMNS, 0)))
    }
}

/// A randomly initialised DPM, ready to learn on `device`.
pub fn learner(model: &ModelConfig, hyperparameters: Hyperparameters, device: &Device) -> Result<Learner<Denoiser>, TrainError> {
    let device = device.clone().autodiff();
    // The names are those that the DPM has inside a bundle.
    let (network, names) = initialise(&hyperparameters, &device, |p| p.scope("decoder", |p| Denoiser::new(p, model)));
    Ok(Learner::new(network?.set_require_grad(true), names, hyperparameters))
}

/// Trains a DPM in a run folder, from its last state if it has one. A fresh run begins with the weights of `start` (under
/// `decoder.`, see [`load`]) or with random ones.
pub fn train(
    folder: &RunFolder,
    config: &RunConfig,
    start: Option<&Weights>,
    data: &Arc<ImageSet>,
    limits: &Limits,
    device: &Device,
) -> Result<Progress, TrainError> {
    config.model.check().map_err(TrainError::Config)?;
    let mut learner = learner(&config.model, config.hyperparameters, device)?;
    if let Some(weights) = start {
        learner.start_from(weights)?;
    }
    run::train(&DpmStage::new(config), &mut learner, data, folder, config, limits, &device.clone().autodiff())
}

/// A trained DPM from a `train dpm` run or from a bundle: its configuration and its weights under `decoder.`.
pub fn load(path: &Path) -> Result<(ModelConfig, Weights), TrainError> {
    match RunFolder::existing(path) {
        Some(folder) => {
            let config = folder.config(StageKind::Dpm)?.ok_or_else(|| TrainError::NoState { path: path.into() })?;
            Ok((config.model, folder.averaged_weights()?.1))
        }
        None => {
            let bundle = crate::checkpoint::Bundle::load(path)?;
            Ok((bundle.manifest.config, bundle.weights))
        }
    }
}
