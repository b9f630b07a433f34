//! The noise schedule and the tables that follow from it.

use serde::{Deserialize, Serialize};

/// Which `beta_t` a model was trained with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Betas {
    /// From 1e-4 to 0.02, evenly.
    Linear,
    /// From a squared cosine, capped at 0.999 (Nichol and Dhariwal, 2021).
    Cosine,
    /// 0.008 throughout: the latent DPM's.
    Const0_008,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScheduleConfig {
    /// `T`, usually 1000.
    pub timesteps: usize,
    #[serde(rename = "betas_type")]
    pub betas: Betas,
}

impl Default for ScheduleConfig {
    fn default() -> Self {
        Self { timesteps: 1000, betas: Betas::Linear }
    }
}

/// Tables over the timesteps `0..T`, in double precision.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    /// `abar_t`: share of the image's variance that is left in `x_t`.
    pub alphas_cumprod: Vec<f64>,
    /// Factor of `G` in the PDAE loss: `-sqrt(alpha_t) (1 - abar_{t-1}) / sqrt(1 - abar_t)` (paper, equation 14).
    pub shift_coef: Vec<f64>,
}

impl Schedule {
    pub fn new(config: &ScheduleConfig) -> Self {
        let steps = config.timesteps;
        let betas: Vec<f64> = match config.betas {
            Betas::Linear => (0..steps).map(|i| 1e-4 + (0.02 - 1e-4) * i as f64 / (steps - 1) as f64).collect(),
            Betas::Cosine => {
                let abar = |t: f64| ((t + 0.008) / 1.008 * std::f64::consts::FRAC_PI_2).cos().powi(2);
                let at = |i: usize| abar(i as f64 / steps as f64);
                (0..steps).map(|i| (1.0 - at(i + 1) / at(i)).min(0.999)).collect()
            }
            Betas::Const0_008 => vec![0.008; steps],
        };
        let mut alphas_cumprod = Vec::with_capacity(steps);
        let mut shift_coef = Vec::with_capacity(steps);
        let mut previous = 1.0;
        for beta in betas {
            let alpha = 1.0 - beta;
            let abar = previous * alpha;
            shift_coef.push(-alpha.sqrt() * (1.0 - previous) / (1.0 - abar).sqrt());
            alphas_cumprod.push(abar);
            previous = abar;
        }
        Self { alphas_cumprod, shift_coef }
    }

    /// The latent DPM's schedule.
    pub fn for_latents() -> Self {
        Self::new(&ScheduleConfig { timesteps: 1000, betas: Betas::Const0_008 })
    }

    /// `T`.
    pub fn len(&self) -> usize {
        self.alphas_cumprod.len()
    }

    pub fn is_empty(&self) -> bool {
        self.alphas_cumprod.is_empty()
    }

    /// The timesteps of `ddimN`: `int(linspace(0, T - 1, N + 1))`, lowest first; `steps + 1` of them.
    pub fn ddim_timesteps(&self, steps: usize) -> Vec<usize> {
        let steps = steps.max(1);
        let last = (self.len() - 1) as f64;
        // NumPy multiplies the index by the step; the order of operations decides where `int` cuts.
        let step = last / steps as f64;
        (0..=steps).map(|i| if i == steps { self.len() - 1 } else { (i as f64 * step) as usize }).collect()
    }

    /// `steps + 1` timesteps, lowest first, that lie closer together where the image is nearly clean: `round((T - 1) (i / N)^2)`.
    /// Of the spacings that were tried (even in `t`, in the logarithm of the signal-to-noise ratio, and in between), this one
    /// agrees best with a hundred steps at few steps, and rebuilds photos best.
    pub fn dense_timesteps(&self, steps: usize) -> Vec<usize> {
        if steps > self.len() - 1 {
            return self.ddim_timesteps(steps);
        }
        self.dense_timesteps_up_to(self.len() - 1, steps)
    }

    /// The same up to another timestep than the last, for a decode that starts in the middle of the chain. At most `last` steps.
    pub fn dense_timesteps_up_to(&self, last: usize, steps: usize) -> Vec<usize> {
        let steps = steps.clamp(1, last.max(1));
        let mut timesteps: Vec<usize> = Vec::with_capacity(steps + 1);
        for i in 0..=steps {
            let ideal = (last as f64 * (i as f64 / steps as f64).powi(2)).round() as usize;
            timesteps.push(timesteps.last().map_or(0, |before| ideal.max(before + 1)));
        }
        timesteps
    }

    /// The same for a decode whose last evaluation is where a twentieth of the chain is left (t = 50 of 1000), the result being the image
    /// predicted there. At most `T - T / 20` steps.
    pub fn denoising_timesteps(&self, steps: usize) -> Vec<usize> {
        let (last, clean) = (self.len() - 1, self.len() / 20);
        if steps < 2 || clean == 0 {
            return self.dense_timesteps(steps);
        }
        std::iter::once(0).chain(self.dense_timesteps_up_to(last - clean, steps - 1).into_iter().map(|t| t + clean)).collect()
    }

    /// `x_t` for an image and noise of the same shape: `sqrt(abar_t)` and `sqrt(1 - abar_t)`.
    pub fn forward_factors(&self, t: usize) -> (f64, f64) {
        let abar = self.alphas_cumprod[t];
        (abar.sqrt(), (1.0 - abar).sqrt())
    }

    /// Factor from a squared error in the noise to one in the posterior mean: `beta_t^2 / (alpha_t (1 - abar_t))`. Both means, the forward
    /// process's and the one that a network predicts from `x_t`, differ only in the image that they take `x_t` for, and that by the noise.
    pub fn posterior_factor(&self, t: usize) -> f64 {
        let abar = self.alphas_cumprod[t];
        let alpha = abar / if t > 0 { self.alphas_cumprod[t - 1] } else { 1.0 };
        (1.0 - alpha).powi(2) / (alpha * (1.0 - abar))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timesteps_end_at_both_ends_and_rise() {
        let schedule = Schedule::new(&ScheduleConfig::default());
        for steps in [1, 2, 3, 7, 10, 50, 100, 998, 999] {
            let denoising = schedule.denoising_timesteps(steps.min(900));
            assert_eq!((denoising.len(), denoising[0], denoising.last()), (steps.min(900) + 1, 0, Some(&999)));
            for map in [schedule.ddim_timesteps(steps), schedule.dense_timesteps(steps)] {
                assert_eq!((map.len(), map[0], map[steps]), (steps + 1, 0, 999));
                assert!(map.windows(2).all(|w| w[0] < w[1]), "{steps} steps: {map:?}");
            }
        }
        assert_eq!(schedule.dense_timesteps(4), [0, 62, 250, 562, 999]);
        assert_eq!(schedule.dense_timesteps_up_to(250, 2), [0, 63, 250], "the same spacing from the middle on");
        assert_eq!(schedule.dense_timesteps_up_to(2, 9), [0, 1, 2]);
        assert_eq!(schedule.denoising_timesteps(5), [0, 50, 109, 287, 584, 999]);
        assert_eq!(schedule.denoising_timesteps(1), [0, 999]);
    }

    /// Against both posterior means written out, the predicted one without and with the mean shift.
    #[test]
    fn an_error_in_the_noise_is_an_error_in_the_mean() {
        let schedule = Schedule::new(&ScheduleConfig::default());
        for t in [1, 10, 500, 999] {
            let (abar, before) = (schedule.alphas_cumprod[t], schedule.alphas_cumprod[t - 1]);
            let (alpha, x_0, noise, eps, gradient) = (abar / before, 0.3, -0.7, -0.5, 0.4);
            let beta = 1.0 - alpha;
            let x_t = abar.sqrt() * x_0 + (1.0 - abar).sqrt() * noise;
            // Posterior mean of q(x_{t-1} | x_t, x_0), and the one that the DPM predicts.
            let truth = before.sqrt() * beta / (1.0 - abar) * x_0 + alpha.sqrt() * (1.0 - before) / (1.0 - abar) * x_t;
            let predicted = (x_t - beta / (1.0 - abar).sqrt() * eps) / alpha.sqrt();
            let shifted = predicted + beta * (1.0 - before) / (1.0 - abar) * gradient;
            for (mean, eps) in [(predicted, eps), (shifted, eps + schedule.shift_coef[t] * gradient)] {
                let gap = schedule.posterior_factor(t) * f64::powi(eps - noise, 2);
                assert!((gap - f64::powi(truth - mean, 2)).abs() < 1e-12, "t = {t}");
            }
        }
    }

    #[test]
    fn cosine_betas_are_capped() {
        let schedule = Schedule::new(&ScheduleConfig { timesteps: 1000, betas: Betas::Cosine });
        let abar = &schedule.alphas_cumprod;
        assert!((abar[999] / abar[998] - 0.001).abs() < 1e-9);
        assert!(abar.windows(2).all(|w| w[1] < w[0]));
    }
}
