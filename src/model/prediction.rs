//! What the two heads of a decoder predict, and how that becomes `eps` and `G`.

use std::sync::Arc;

use burn::tensor::{Tensor, TensorData};
use serde::{Deserialize, Serialize};

use super::ModelConfig;
use crate::diffusion::{Schedule, Solver};

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
    /// The heads are what a fixed skip from `x_t` leaves of `x_0`, and its correction:
    /// `x_0 = c_skip x_t / sqrt(abar) + sqrt(1 - c_skip) head`, with `c_skip = s^2 / (s^2 + (1 - abar) / abar)` and `s` = 0.05
    /// (Karras et al., 2022, equation 7). For networks with fewer channels than a patch has values: those cannot repeat the noise of
    /// every pixel, which the other two ask for, but they can draw the image, and the skip takes the rest of the noise away.
    ///
    /// With [`ModelConfig::fine_colour`] the skip of fine colour is one of its own, as photos have next to none of it: `c_skip` with that
    /// `s` there, and all else as before. What such a network cannot see of the noise is mostly this.
    Image,
}

/// Standard deviation of the detail that the skip of [`Prediction::Image`] expects, images being in [-1, 1].
const DETAIL: f64 = 0.05;

impl Prediction {
    /// How a decode from random `x_T` takes its steps, where others take them as `usual`. Networks that predict the image are too narrow
    /// for the last of the noise: what they draw of it is grain.
    pub fn solver_from_noise(self, usual: Solver) -> Solver {
        match self {
            Self::Image => Solver::Denoised,
            Self::Noise | Self::Velocity => usual,
        }
    }

    /// Weight of the DPM's squared error in `eps` at a timestep with this `abar`: 1, or with `min_snr` `min(snr, g) / snr`
    /// (Hang et al., 2023).
    ///
    /// For velocities it is the error in `v` that is weighted, with `min(snr, g) / (snr + 1)`, for images the one in `x_0`, with
    /// `min(snr, g)`, and never by less than a tenth.
    pub fn dpm_weight(self, abar: f64, min_snr: Option<f64>) -> f64 {
        let snr = abar / (1.0 - abar);
        match (self, min_snr) {
            (Self::Noise, None) => 1.0,
            (Self::Noise, Some(limit)) => snr.min(limit) / snr,
            (Self::Velocity, None) => 1.0 / abar,
            (Self::Velocity, Some(limit)) => (snr.min(limit) / (snr + 1.0) + 0.1) / abar,
            (Self::Image, None) => 1.0 / snr,
            (Self::Image, Some(limit)) => (snr.min(limit) + 0.1) / snr,
        }
    }

    /// Weight of the autoencoder's squared error in `eps`: the published `snr^0.1 / (1 + snr)`, and on top of it half the error in
    /// `v` for velocities, in `x_0` for images. The noisiest steps decide what a face looks like and the published weight nearly
    /// leaves them out.
    pub fn autoencoder_weight(self, abar: f64) -> f64 {
        let snr = abar / (1.0 - abar);
        let published = snr.powf(0.1) / (1.0 + snr);
        match self {
            Self::Noise => published,
            Self::Velocity => published + 0.5 / abar,
            Self::Image => published + 0.5 / snr,
        }
    }

    /// How the heads' outputs at a timestep with this `abar` become `eps` and `G`; `None` where they are these already. `fine_colour`: see
    /// [`ModelConfig::fine_colour`].
    fn factors(self, abar: f64, fine_colour: Option<f64>) -> Option<Factors> {
        let (signal, sigma) = (abar.sqrt(), (1.0 - abar).sqrt());
        match self {
            Self::Noise => None,
            Self::Velocity => Some(Factors { noise: [signal, sigma, 0.0], gradient: signal / sigma }),
            Self::Image => {
                let skip = |detail: f64| detail * detail / (detail * detail + (1.0 - abar) / abar);
                let (usual, fine) = (skip(DETAIL), skip(fine_colour.unwrap_or(DETAIL)));
                let head = signal * (1.0 - usual).sqrt() / sigma;
                Some(Factors { noise: [-head, (1.0 - usual) / sigma, (usual - fine) / sigma], gradient: head / sigma })
            }
        }
    }
}

/// `eps = noise[0] head + noise[1] x_t + noise[2] fine_colour(x_t)` for the first head, `G = gradient head` for the second.
#[derive(Debug, Clone, Copy)]
struct Factors {
    noise: [f64; 3],
    gradient: f64,
}

/// Turns the outputs of the heads into `eps` and `G`.
#[derive(Debug, Clone)]
pub struct Heads {
    prediction: Prediction,
    /// One for each timestep; none where the heads give `eps` and `G` themselves.
    factors: Arc<[Factors]>,
}

impl Heads {
    pub fn new(config: &ModelConfig) -> Self {
        let abar = Schedule::new(&config.schedule).alphas_cumprod;
        let factors = abar.iter().filter_map(|abar| config.prediction.factors(*abar, config.fine_colour)).collect();
        Self { prediction: config.prediction, factors }
    }

    pub fn prediction(&self) -> Prediction {
        self.prediction
    }

    /// `[a, b, c]` such that `eps = a head + b x_t + c fine_colour(x_t)`; `None` where the head is `eps` itself.
    pub(super) fn noise_factors(&self, timestep: usize) -> Option<[f64; 3]> {
        self.factors.get(timestep).map(|factors| factors.noise)
    }

    /// `a` such that `G = a head`; `None` where the head is `G` itself.
    pub(super) fn gradient_factor(&self, timestep: usize) -> Option<f64> {
        self.factors.get(timestep).map(|factors| factors.gradient)
    }

    /// `eps` from the first head's output for `x_t` (both `[batch, 3, size, size]`).
    pub fn noise(&self, head: Tensor<4>, x_t: Tensor<4>, timesteps: &[usize]) -> Tensor<4> {
        if self.prediction == Prediction::Noise {
            return head;
        }
        let factor = |i: usize| move |t: usize| self.noise_factors(t).map_or(0.0, |factors| factors[i]);
        let fine = self.minds_fine_colour().then(|| scaled(fine_colour(x_t.clone()), timesteps, factor(2)));
        let eps = scaled(head, timesteps, factor(0)) + scaled(x_t, timesteps, factor(1));
        fine.into_iter().fold(eps, |eps, fine| eps + fine)
    }

    /// Whether fine colour has a skip of its own.
    pub(super) fn minds_fine_colour(&self) -> bool {
        self.factors.iter().any(|factors| factors.noise[2] != 0.0)
    }

    /// `G` from the second head's output: scaled so that `sqrt(1 - abar) G` corrects `eps` as the head corrects what the first gives.
    pub fn gradient(&self, head: Tensor<4>, timesteps: &[usize]) -> Tensor<4> {
        if self.prediction == Prediction::Noise {
            return head;
        }
        scaled(head, timesteps, |t| self.gradient_factor(t).unwrap_or(0.0))
    }
}

/// Side of the blocks that fine colour is told from coarse in.
pub(super) const BLOCK: usize = 8;
/// Basis functions of coarse colour in a block: what varies at most twice over it, across and down together.
pub(super) const COARSE: usize = 6;

/// The first basis functions of a block's discrete cosine transform (of the second kind, orthonormal), `[COARSE, BLOCK, BLOCK]`.
pub(super) fn coarse_basis() -> Vec<f32> {
    let wave = |k: usize, i: usize| {
        let scale = if k == 0 { 1.0 } else { 2.0f64 } / BLOCK as f64;
        scale.sqrt() * (std::f64::consts::PI * (2 * i + 1) as f64 * k as f64 / (2 * BLOCK) as f64).cos()
    };
    let frequencies = (0..3).flat_map(|down| (0..3 - down).map(move |across| (down, across)));
    let pixels = |(down, across)| (0..BLOCK * BLOCK).map(move |i| (wave(down, i / BLOCK) * wave(across, i % BLOCK)) as f32);
    frequencies.flat_map(pixels).collect()
}

/// Of images `[batch, 3, height, width]` whose sides 8 divides, the fine colour: brightness (the mean of red, green and blue) left out, and
/// of every block of 8 x 8 pixels the coarse part ([`coarse_basis`]), as far as photos have any. Taken twice it is the same as once.
pub fn fine_colour(x: Tensor<4>) -> Tensor<4> {
    let [batch, colours, height, width] = x.dims();
    let (rows, columns) = (height / BLOCK, width / BLOCK);
    let basis = TensorData::new(coarse_basis(), [COARSE, BLOCK * BLOCK]);
    let basis = Tensor::<2>::from_data(basis, &x.device());
    let colour = x.clone() - x.mean_dim(1);
    let blocks =
        colour.reshape([batch * colours, rows, BLOCK, columns, BLOCK]).permute([0, 1, 3, 2, 4]).reshape([-1, (BLOCK * BLOCK) as i32]);
    let coarse = blocks.clone().matmul(basis.clone().transpose()).matmul(basis);
    let fine = (blocks - coarse).reshape([batch * colours, rows, columns, BLOCK, BLOCK]).permute([0, 1, 3, 2, 4]);
    fine.reshape([batch, colours, height, width])
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

    /// From the head that a perfect network would give, `eps` is the true noise; and a head's correction moves `eps` as the change
    /// of that head itself would.
    #[test]
    fn heads_become_noise_and_shift() {
        let device = Device::flex();
        let schedule = Schedule::new(&ScheduleConfig::default());
        let random = || Tensor::<4>::random([3, 3, 4, 4], Distribution::Normal(0.0, 1.0), &device);
        let (x_0, noise, correction) = (random(), random(), random());
        let close = |a: Tensor<4>, b: Tensor<4>| a.into_data().assert_approx_eq::<f32>(&b.into_data(), Tolerance::absolute(1e-3));
        for (prediction, sign) in [(Prediction::Velocity, 1.0), (Prediction::Image, -1.0)] {
            let heads =
                Heads { prediction, factors: schedule.alphas_cumprod.iter().filter_map(|a| prediction.factors(*a, None)).collect() };
            for timesteps in [[20, 500, 980], [500; 3]] {
                let factor = |f: fn(f64) -> f64| per_image(&x_0, &timesteps, |t| f(schedule.alphas_cumprod[t]));
                let (signal, sigma) = (factor(f64::sqrt), factor(|a| (1.0 - a).sqrt()));
                let x_t = x_0.clone() * signal.clone() + noise.clone() * sigma.clone();
                let head = match prediction {
                    Prediction::Velocity => noise.clone() * signal - x_0.clone() * sigma.clone(),
                    // Equation 7 of Karras et al. solved for the network, with x_t / sqrt(abar) as the noisy image.
                    _ => {
                        let skip = factor(|a| 0.0025 / (0.0025 + (1.0 - a) / a));
                        (x_0.clone() - x_t.clone() / signal * skip.clone()) / (skip.neg() + 1.0).sqrt()
                    }
                };
                close(heads.noise(head.clone(), x_t.clone(), &timesteps), noise.clone());
                // sigma G is what guidance takes from eps: for a velocity the change itself, for an image its opposite.
                let shift = sigma * heads.gradient(correction.clone(), &timesteps);
                close(
                    heads.noise(head.clone(), x_t.clone(), &timesteps) + shift * sign,
                    heads.noise(head + correction.clone(), x_t, &timesteps),
                );
            }
        }
    }

    /// Fine colour that is drawn by nobody is taken for noise, but for as much as photos have; all else is as without its own skip.
    #[test]
    fn fine_colour_has_a_skip_of_its_own() {
        let device = Device::flex();
        let random = || Tensor::<4>::random([2, 3, 16, 24], Distribution::Normal(0.0, 1.0), &device);
        let close = |a: Tensor<4>, b: Tensor<4>| a.into_data().assert_approx_eq::<f32>(&b.into_data(), Tolerance::absolute(1e-4));
        let (head, x_t) = (random(), random());
        let fine = fine_colour(x_t.clone());
        close(fine_colour(fine.clone()), fine.clone());
        // Neither brightness nor a colour that changes little is in it.
        close(fine.clone().mean_dim(1), Tensor::zeros([2, 1, 16, 24], &device));
        close(fine_colour((x_t.clone() - fine.clone()) * 3.0), Tensor::zeros([2, 3, 16, 24], &device));
        let slope: Vec<f32> = (0..2 * 3 * 16 * 24).map(|i| if i / (16 * 24) % 3 == 0 { (i % 24) as f32 / 24.0 } else { 0.3 }).collect();
        let slope = fine_colour(Tensor::from_data(TensorData::new(slope, [2, 3, 16, 24]), &device));
        assert!(slope.abs().max().into_scalar::<f32>() < 0.01);
        let abar = Schedule::new(&ScheduleConfig::default()).alphas_cumprod;
        let heads = |own| Heads {
            prediction: Prediction::Image,
            factors: abar.iter().filter_map(|a| Prediction::Image.factors(*a, own)).collect(),
        };
        assert!(!heads(None).minds_fine_colour() && !heads(Some(DETAIL)).minds_fine_colour() && heads(Some(0.01)).minds_fine_colour());
        let deviation = 0.01;
        for timesteps in [[3, 40], [40; 2]] {
            let factor = |f: &dyn Fn(f64) -> f64| per_image(&x_t, &timesteps, |t| f(abar[t]));
            let [usual, own] = [None, Some(deviation)].map(|own| heads(own).noise(head.clone(), x_t.clone(), &timesteps));
            let more = own - usual;
            let share = |detail: f64| move |a: f64| detail * detail / (detail * detail + (1.0 - a) / a) / (1.0 - a).sqrt();
            close(more, fine.clone() * (factor(&share(DETAIL)) - factor(&share(deviation))));
        }
    }
}
