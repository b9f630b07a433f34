//! Faces from nothing: latents from the latent DPM, decoded from random `x_T` (paper, section 4.5).

use std::path::Path;

use burn::tensor::Tensor;
use image::RgbImage;
use rand::{SeedableRng, rngs::StdRng};
use rand_distr::{Distribution, StandardNormal};
use thiserror::Error;

use super::edit::{self, EditError, values};
use crate::checkpoint::Bundle;
use crate::device::DeviceChoice;
use crate::diffusion::{Chain, Solver};
use crate::editing::LatentSpace;
use crate::model::{Autoencoder, Guidance};
use crate::photo::from_model;

#[derive(Debug, Error)]
pub enum SampleError {
    #[error(
        "the model {name} has no latent DPM, so it cannot draw faces from nothing. Add one with `pdae-studio train latent`, or choose another model"
    )]
    NoLatentDpm { name: String },
    #[error(transparent)]
    Edit(#[from] EditError),
}

impl From<crate::checkpoint::CheckpointError> for SampleError {
    fn from(error: crate::checkpoint::CheckpointError) -> Self {
        Self::Edit(error.into())
    }
}

/// How faces are drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SampleOptions {
    /// Steps of the image.
    pub steps: usize,
    /// DDIM steps of the semantic latent.
    pub latent_steps: usize,
    pub guidance: Guidance,
    /// `None` = as published, but with a denoised end for models that otherwise leave grain.
    pub solver: Option<Solver>,
}

impl Default for SampleOptions {
    fn default() -> Self {
        Self { steps: 50, latent_steps: 100, guidance: Guidance::unconditional(), solver: None }
    }
}

/// A bundle with a latent DPM, and the noise that faces are drawn from: the n-th face of a seed is always the same.
pub struct Sampler {
    model: Autoencoder,
    space: LatentSpace,
    /// The graphics card's name, where it is one.
    card: Option<String>,
    noise: StdRng,
    options: SampleOptions,
}

impl Sampler {
    pub fn load(bundle: &Path, choice: DeviceChoice, seed: u64, options: SampleOptions) -> Result<Self, SampleError> {
        let bundle = Bundle::load(bundle)?;
        let space = bundle.latent_space();
        // Latents come out normalised: without their statistics they mean nothing.
        if bundle.manifest.config.latent_dpm.is_none() || space.mean.is_empty() || space.std.is_empty() {
            return Err(SampleError::NoLatentDpm { name: bundle.manifest.name });
        }
        let (model, device) = edit::open(bundle, choice)?;
        let card = (!device.is_cpu()).then_some(device.name);
        Ok(Self { model, space, card, noise: StdRng::seed_from_u64(seed), options })
    }

    /// The graphics card that this computes on, if it does.
    pub fn card(&self) -> Option<&str> {
        self.card.as_deref()
    }

    /// The next `count` faces, decoded at once. `tick` hears of every step of their chain.
    pub fn draw(&mut self, count: usize, mut tick: impl FnMut()) -> Result<Vec<RgbImage>, SampleError> {
        let (size, dim) = (self.model.config.image_size, self.model.config.latent_dim);
        let (mut z_t, mut x_t) = (Vec::new(), Vec::new());
        for _ in 0..count {
            z_t.extend(self.normal(dim));
            x_t.extend(self.normal(3 * size * size));
        }
        let z = self.semantic_latents(z_t, count)?;
        let x_t = self.model.tensor(x_t, [count, 3, size, size]);
        let usual = self.model.config.prediction.solver_from_noise(Solver::Ddim);
        let mut chain = Chain::decode(&self.model.schedule, self.options.steps, self.options.solver.unwrap_or(usual), x_t);
        while self.model.step(&mut chain, &z, self.options.guidance).is_some() {
            tick();
        }
        let pictures = values(chain.x)?;
        Ok(pictures.chunks(3 * size * size).map(|picture| from_model(picture, size as u32)).collect())
    }

    /// `[count, latent]`, de-normalised.
    fn semantic_latents(&self, z_t: Vec<f32>, count: usize) -> Result<Tensor<2>, SampleError> {
        let dim = self.model.config.latent_dim;
        let z_n = self.model.sample_latents_from_noise(self.model.tensor(z_t, [count, dim]), self.options.latent_steps);
        // `load` made sure that there is a latent DPM.
        let z_n = z_n.map(values).transpose()?.unwrap_or_default();
        let z = z_n.chunks(dim).flat_map(|z_n| self.space.denormalise(z_n)).collect();
        Ok(self.model.tensor(z, [count, dim]))
    }

    fn normal(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| StandardNormal.sample(&mut self.noise)).collect()
    }
}
