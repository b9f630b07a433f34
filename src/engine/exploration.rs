//! Faces that nobody photographed: samples of the latent DPM (paper, section 4.5), and variations of an open photo.

use burn::tensor::Tensor;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use rand_distr::StandardNormal;

use super::PhotoId;
use super::edit::{Decode, EditError, Editor, Latents, values};
use crate::diffusion::slerp;
use crate::editing::Recipe;
use crate::model::Guidance;

/// Steps of the latent DPM, which is small.
const LATENT_STEPS: usize = 50;

/// A grid of faces.
#[derive(Debug, Clone, PartialEq)]
pub struct SampleRequest {
    /// Rises with every request; events carry it back.
    pub generation: u64,
    pub source: SampleSource,
    /// Of the first face; every following one has the next seed.
    pub seed: u64,
    pub count: usize,
    /// Denoising steps a face.
    pub steps: usize,
}

/// Where faces come from.
#[derive(Debug, Clone, PartialEq)]
pub enum SampleSource {
    /// From noise alone. The bundle must have a latent DPM.
    Unconditional,
    /// Around a photo under a recipe. `amount` 0 is the photo itself, 1 keeps nothing of it.
    Variations { photo: PhotoId, recipe: Recipe, amount: f64 },
}

/// The latents of a face that is yet to be decoded.
pub(super) struct Seedling {
    /// Semantic latent.
    pub z: Vec<f32>,
    /// Stochastic latent.
    pub x_t: Tensor<4>,
    /// How it is to be decoded.
    pub recipe: Recipe,
}

impl Editor {
    /// Whether faces can be sampled from noise alone.
    pub fn has_latent_dpm(&self) -> bool {
        self.model.latent_dpm.is_some() && !self.space.mean.is_empty()
    }

    /// A normalised semantic latent: from the latent DPM, or plain noise where the bundle has none.
    fn sample_normalised(&self, seed: u64) -> Result<Vec<f32>, EditError> {
        let mut rng = StdRng::seed_from_u64(seed);
        let noise: Vec<f32> = (0..self.model.config.latent_dim).map(|_| rng.sample(StandardNormal)).collect();
        if self.model.latent_dpm.is_none() {
            return Ok(noise);
        }
        match self.model.sample_latents_from_noise(self.latent_tensor(noise.clone(), 1), LATENT_STEPS) {
            Some(z_n) => values(z_n),
            None => Ok(noise),
        }
    }

    /// The face that a seed leads to.
    pub(super) fn unconditional(&self, seed: u64, steps: usize) -> Result<Seedling, EditError> {
        if !self.has_latent_dpm() {
            return Err(EditError::NoLatentDpm);
        }
        let z = self.space.denormalise(&self.sample_normalised(seed)?);
        let stop_percent = Guidance::unconditional().stop_percent;
        let usual = Recipe::default();
        let solver = self.model.config.prediction.solver_from_noise(usual.solver);
        Ok(Seedling { z, x_t: self.noise(seed), recipe: Recipe { steps, solver, stop_percent, ..usual } })
    }

    /// A face near a photo under a recipe. Both latents turn towards others by a quarter circle times `amount`, which keeps their
    /// length, as that of the noise they are distributed like.
    pub(super) fn variation(
        &self,
        latents: &Latents,
        recipe: &Recipe,
        amount: f64,
        seed: u64,
        steps: usize,
    ) -> Result<Seedling, EditError> {
        let z = self.space.edit(&latents.z, &recipe.sliders, &recipe.locked);
        let angle = amount.clamp(0.0, 1.0) * std::f64::consts::FRAC_PI_2;
        let (own, other) = (angle.cos() as f32, angle.sin() as f32);
        let z = if self.space.mean.is_empty() {
            z
        } else {
            let away = self.sample_normalised(seed)?;
            self.space.denormalise(&self.space.normalise(&z).iter().zip(away).map(|(a, b)| own * a + other * b).collect::<Vec<_>>())
        };
        let x_t = slerp(self.stochastic_latent(latents, recipe), self.noise(seed), amount.clamp(0.0, 1.0));
        Ok(Seedling { z, x_t, recipe: Recipe { steps, sliders: Default::default(), fresh_noise: 0.0, ..recipe.clone() } })
    }

    pub(super) fn grow(&self, seedling: &Seedling) -> Decode {
        let z = self.latent_tensor(seedling.z.clone(), 1);
        self.start(seedling.x_t.clone(), z, &seedling.recipe, seedling.recipe.steps)
    }

    /// The latents of a decoded face (`[3, size, size]` in [-1, 1]), as if it had been read from a photo.
    pub(super) fn adopt(&self, seedling: &Seedling, picture: Vec<f32>) -> Latents {
        Latents { x_0: picture, z: seedling.z.clone(), x_t: seedling.x_t.clone(), inferred: true, passed: Vec::new() }
    }
}
