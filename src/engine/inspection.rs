//! What the paper shows, for one's own photo: the chain from noise to picture, and the gap that the mean shift fills.

use burn::tensor::Tensor;
use image::RgbImage;

use super::PhotoId;
use super::edit::{Decode, EditError, Editor, Latents, values};
use crate::editing::Recipe;
use crate::photo::from_model;

/// Noise is shown so that three standard deviations are black and white.
const NOISE_RANGE: f32 = 3.0;
/// Of the noise that the gap is measured with.
const GAP_SEED: u64 = 1;

/// Look into the decode of a photo.
#[derive(Debug, Clone, PartialEq)]
pub struct InspectRequest {
    /// Rises with every request; events carry it back.
    pub generation: u64,
    pub photo: PhotoId,
    pub recipe: Recipe,
    /// Timesteps at which the gap is measured, evenly over the schedule.
    pub gap_points: usize,
}

/// One step of a decode, as pictures of the model's size.
#[derive(Debug, Clone, PartialEq)]
pub struct ChainPicture {
    /// What the network was asked about; falls from T - 1.
    pub timestep: usize,
    /// The noisy picture before the step.
    pub x_t: RgbImage,
    /// The picture that the network sees in it.
    pub x0_hat: RgbImage,
}

/// The mean squared gap between the true posterior mean and the predicted one (paper, section 3 and figure 2).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GapPoint {
    pub timestep: usize,
    /// Of the pre-trained DPM alone.
    pub plain: f64,
    /// With the mean shift.
    pub shifted: f64,
}

impl Editor {
    /// One step of a decode with what it sees, of the first picture in the batch; `None` at the end.
    pub fn step_seen(&self, decode: &mut Decode) -> Result<Option<ChainPicture>, EditError> {
        let Some(timestep) = decode.chain.timestep() else { return Ok(None) };
        let x_t = self.noise_picture(&decode.chain.x)?;
        let Some(x0_hat) = self.step_predicting(decode) else { return Ok(None) };
        let x0_hat = from_model(&values(x0_hat.narrow(0, 0, 1))?, self.size());
        Ok(Some(ChainPicture { timestep, x_t, x0_hat }))
    }

    /// A stochastic latent or any other `x_t` (`[batch, 3, size, size]`) as a picture, of the first in the batch.
    pub fn noise_picture(&self, x_t: &Tensor<4>) -> Result<RgbImage, EditError> {
        let values: Vec<f32> = values(x_t.clone().narrow(0, 0, 1))?.into_iter().map(|v| v / NOISE_RANGE).collect();
        Ok(from_model(&values, self.size()))
    }

    /// The timesteps at which the gap is measured: `points` of them, evenly, the last of the schedule included.
    pub fn gap_timesteps(&self, points: usize) -> Vec<usize> {
        let last = self.model.schedule.len() - 1;
        (1..=points).map(|i| (last * i / points).max(1)).collect()
    }

    /// The gap of the photo at a timestep, for one draw of noise.
    pub fn posterior_gap(&self, latents: &Latents, timestep: usize) -> Result<GapPoint, EditError> {
        let x_0 = self.image_tensor(latents.x_0.clone(), 1);
        let noise = self.noise(GAP_SEED.wrapping_add(timestep as u64));
        let gaps = self.model.posterior_gap(x_0, noise, self.latent_tensor(latents.z.clone(), 1), timestep);
        let gaps = values(Tensor::cat(gaps.to_vec(), 0))?;
        Ok(GapPoint { timestep, plain: gaps[0].into(), shifted: gaps[1].into() })
    }
}
