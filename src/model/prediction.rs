//! What the two heads of a decoder predict, and how that becomes `eps` and `G`.

use std::sync::Arc;

use burn::tensor::{Tensor, TensorData};
use serde::{Deserialize, Serialize};

use super::ModelConfig;
use crate::diffusion::Schedule;

/// The quantity that a network's heads were trained to give.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Prediction {
    /// The heads are `eps` and `G` themselves, as published.
    #[default]
    Noise,
    /// The heads are velocities, `v = sqrt(abar) eps - sqrt(1 - abar) x_0` (Salimans and Ho, 2022) and its correction: about one in
    /// size at every timestep, so that a small network learns them from far fewer images.
    Velocity,
}

impl Prediction {
    /// Weight of the DPM's squared error in `eps` at a timestep with this `abar`: 1, or with `min_snr` `min(snr, g) / snr`
    /// (Hang et al., 2023).
    ///
    /// For velocities it is the error in `v` that is weighted, with `min(snr, g) / (snr + 1)`, and never by less than a tenth.
    pub fn dpm_weight(self, abar: f64, min_snr: Option<f64>) -> f64 {
        let snr = abar / (1.0 - abar);
        match (self, min_snr) {
            (Self::Noise, None) => 1.0,
            (Self::Noise, Some(limit)) => snr.min(limit) / snr,
            (Self::Velocity, None) => 1.0 / abar,
            (Self::Velocity, Some(limit)) => (snr.min(limit) / (snr + 1.0) + 0.1) / abar,
        }
    }

    /// Weight of the autoencoder's squared error in `eps`: the published `snr^0.1 / (1 + snr)`, and for velocities half the error
    /// in `v` on top of it. The noisiest steps decide what a face looks like and the published weight nearly leaves them out.
    pub fn autoencoder_weight(self, abar: f64) -> f64 {
        let snr = abar / (1.0 - abar);
        let published = snr.powf(0.1) / (1.0 + snr);
        match self {
            Self::Noise => published,
            Self::Velocity => published + 0.5 / abar,
        }
    }
}

/// Turns the outputs of the heads into `eps` and `G`.
#[derive(Debug, Clone)]
pub struct Heads {
    /// `abar_t`, where the heads are velocities.
    alphas_cumprod: Option<Arc<[f64]>>,
}

impl Heads {
    pub fn new(config: &ModelConfig) -> Self {
        let alphas_cumprod = match config.prediction {
            Prediction::Noise => None,
            Prediction::Velocity => Some(Schedule::new(&config.schedule).alphas_cumprod.into()),
        };
        Self { alphas_cumprod }
    }

    pub fn prediction(&self) -> Prediction {
        if self.alphas_cumprod.is_some() { Prediction::Velocity } else { Prediction::Noise }
    }

    /// `eps` from the first head's output for `x_t` (both `[batch, 3, size, size]`): `sqrt(abar) v + sqrt(1 - abar) x_t`.
    pub fn noise(&self, head: Tensor<4>, x_t: Tensor<4>, timesteps: &[usize]) -> Tensor<4> {
        match &self.alphas_cumprod {
            None => head,
            Some(abar) => scaled(head, timesteps, |t| abar[t].sqrt()) + scaled(x_t, timesteps, |t| (1.0 - abar[t]).sqrt()),
        }
    }

    /// `G` from the second head's output: `sqrt(abar / (1 - abar)) v`, so that `sqrt(1 - abar) G` corrects `eps` by `sqrt(abar) v`.
    pub fn gradient(&self, head: Tensor<4>, timesteps: &[usize]) -> Tensor<4> {
        match &self.alphas_cumprod {
            None => head,
            Some(abar) => scaled(head, timesteps, |t| (abar[t] / (1.0 - abar[t])).sqrt()),
        }
    }
}

/// Each image of `x` times a value of its timestep.
fn scaled(x: Tensor<4>, timesteps: &[usize], value: impl Fn(usize) -> f64) -> Tensor<4> {
    // A chain asks for one timestep at a time: a scalar spares the upload.
    match timesteps {
        [first, rest @ ..] if rest.iter().all(|t| t == first) => x.mul_scalar(value(*first)),
        _ => {
            let factor = per_image(&x, timesteps, value);
            x * factor
        }
    }
}

/// A value of each image's timestep as `[batch, 1, 1, 1]`, on the device of `like`.
pub(crate) fn per_image(like: &Tensor<4>, timesteps: &[usize], value: impl Fn(usize) -> f64) -> Tensor<4> {
    let values: Vec<f32> = timesteps.iter().map(|t| value(*t) as f32).collect();
    Tensor::from_data(TensorData::new(values, [timesteps.len(), 1, 1, 1]), &like.device())
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Distribution, Tolerance};

    use super::*;
    use crate::diffusion::ScheduleConfig;

    /// With the velocity of a known image and noise, `eps` is that noise; and a velocity's correction moves the predicted image as
    /// the change of velocity itself would.
    #[test]
    fn velocities_become_noise_and_shift() {
        let device = Device::flex();
        let schedule = Schedule::new(&ScheduleConfig::default());
        let heads = Heads { alphas_cumprod: Some(schedule.alphas_cumprod.clone().into()) };
        let random = || Tensor::<4>::random([3, 3, 4, 4], Distribution::Normal(0.0, 1.0), &device);
        let (x_0, noise, correction) = (random(), random(), random());
        for timesteps in [[20, 500, 980], [500; 3]] {
            let factor = |f: fn(f64) -> f64| per_image(&x_0, &timesteps, |t| f(schedule.alphas_cumprod[t]));
            let (signal, sigma) = (factor(|a| a.sqrt()), factor(|a| (1.0 - a).sqrt()));
            let x_t = x_0.clone() * signal.clone() + noise.clone() * sigma.clone();
            let v = noise.clone() * signal.clone() - x_0.clone() * sigma.clone();
            let close = |a: Tensor<4>, b: Tensor<4>| a.into_data().assert_approx_eq::<f32>(&b.into_data(), Tolerance::absolute(1e-4));
            close(heads.noise(v.clone(), x_t.clone(), &timesteps), noise.clone());
            let corrected = heads.noise(v.clone(), x_t.clone(), &timesteps) + sigma * heads.gradient(correction.clone(), &timesteps);
            close(corrected, heads.noise(v + correction.clone(), x_t, &timesteps));
        }
    }
}
