//! Deterministic DDIM in both directions (paper, equation 15 and appendix A).

use burn::tensor::Tensor;

use super::Schedule;

/// The noise that the mean shift asks for: `eps - sqrt(1 - abar_t) * G` (paper, equation 13), scaled by `strength` (1 = as trained).
pub fn guided_noise<const D: usize>(schedule: &Schedule, timestep: usize, eps: Tensor<D>, gradient: Tensor<D>, strength: f64) -> Tensor<D> {
    eps - gradient * ((1.0 - schedule.alphas_cumprod[timestep]).sqrt() * strength)
}

/// Which way a [`Chain`] walks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From noise (`x_T`) to the image.
    Decode,
    /// From the image to its stochastic latent `x_T`.
    Encode,
}

/// A `ddimN` chain that is advanced one step at a time, so that its owner may show, drop or pause it between any two steps.
///
/// ```text
/// while let Some(timestep) = chain.timestep() {
///     let eps = network(chain.x.clone(), timestep);
///     chain.advance(&schedule, eps);
/// }
/// ```
#[derive(Debug, Clone)]
pub struct Chain<const D: usize> {
    /// The present `x_t`.
    pub x: Tensor<D>,
    timesteps: Vec<usize>,
    position: usize,
    direction: Direction,
}

impl<const D: usize> Chain<D> {
    /// A chain of `steps` steps from `x`: `x_T` when decoding, `x_0` in [-1, 1] when encoding.
    pub fn new(schedule: &Schedule, steps: usize, direction: Direction, x: Tensor<D>) -> Self {
        let timesteps = schedule.ddim_timesteps(steps);
        let position = match direction {
            Direction::Decode => timesteps.len() - 1,
            Direction::Encode => 0,
        };
        Self { x, timesteps, position, direction }
    }

    /// Steps in all.
    pub fn steps(&self) -> usize {
        self.timesteps.len() - 1
    }

    /// Steps done.
    pub fn done(&self) -> usize {
        match self.direction {
            Direction::Decode => self.steps() - self.position,
            Direction::Encode => self.position,
        }
    }

    /// The timestep that the network is to be asked about, or `None` at the end.
    pub fn timestep(&self) -> Option<usize> {
        (self.done() < self.steps()).then(|| self.timesteps[self.position])
    }

    /// Whether this step is guided when the last `stop_percent` of a decode is left to the plain DPM:
    /// step `i` (counted down to 1) is guided while `i - 1 >= int(stop_percent * N)`.
    pub fn is_guided(&self, stop_percent: f64) -> bool {
        match self.direction {
            Direction::Decode => self.position as i64 > (stop_percent * self.steps() as f64) as i64,
            Direction::Encode => true,
        }
    }

    /// Takes one step with the (guided) noise that the network saw in [`Chain::x`]; returns the predicted `x_0` in [-1, 1].
    pub fn advance(&mut self, schedule: &Schedule, eps: Tensor<D>) -> Tensor<D> {
        let next = match self.direction {
            Direction::Decode => self.position - 1,
            Direction::Encode => self.position + 1,
        };
        let abar = schedule.alphas_cumprod[self.timesteps[self.position]];
        let abar_next = schedule.alphas_cumprod[self.timesteps[next]];
        let (signal, ratio) = (1.0 / abar.sqrt(), (1.0 / abar - 1.0).sqrt());
        let x0_hat = (self.x.clone() * signal - eps * ratio).clamp(-1.0, 1.0);
        // Clamping moved the prediction; the noise that is consistent with it is re-derived.
        let eps = (self.x.clone() * signal - x0_hat.clone()) * (1.0 / ratio);
        self.x = x0_hat.clone() * abar_next.sqrt() + eps * (1.0 - abar_next).sqrt();
        self.position = next;
        x0_hat
    }
}
