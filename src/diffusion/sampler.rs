//! Deterministic DDIM in both directions (paper, equation 15 and appendix A).

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

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

/// How a decode gets from one timestep to the next.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Solver {
    /// As published: the predicted image is taken to hold over the whole step.
    Ddim,
    /// DPM-Solver++ 2M (Lu et al., 2022, algorithm 2) over [`Schedule::dense_timesteps`]: the predicted image is extrapolated from the
    /// last two. The same cost, and a better answer where the steps are few.
    #[default]
    Multistep,
    /// The same over [`Schedule::denoising_timesteps`]: it ends with the image predicted where little noise is left, and does not draw
    /// what a weak network makes of the rest (the closing denoising step of Jolicoeur-Martineau et al., 2021, "Adversarial score
    /// matching and improved sampling for image generation"). For pictures from random `x_T`: a photo's own holds its detail to the end.
    Denoised,
}

impl Solver {
    /// As tables name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ddim => "DDIM as published",
            Self::Multistep => "DPM-Solver++ 2M",
            Self::Denoised => "DPM-Solver++ 2M, denoised end",
        }
    }
}

/// How the stochastic latent of an image is inferred.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Inversion {
    /// As published: every step uses the noise that the network sees at its start, where the decode will use that at its end.
    Explicit,
    /// Every step uses the noise at its end, seen in a guess that the step before gave, over [`Schedule::dense_timesteps`]: nearly the
    /// decode's own steps backwards (Pan et al., 2023, "Effective real image editing with accelerated iterative diffusion
    /// inversion"), for one evaluation more in all.
    #[default]
    Implicit,
}

impl Inversion {
    /// Evaluations of the network for a decode of `steps` steps.
    pub fn evaluations(self, steps: usize) -> usize {
        match self {
            Self::Explicit => steps.max(1),
            Self::Implicit => steps.max(1) + 1,
        }
    }
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
    /// The `x_t` that the network is to be asked about; at the end, the result.
    pub x: Tensor<D>,
    timesteps: Vec<usize>,
    /// Which timestep each evaluation is at.
    plan: Vec<usize>,
    done: usize,
    direction: Direction,
    solver: Solver,
    /// The last predicted image and the step (in half the logarithm of the signal-to-noise ratio) that it was used for.
    previous: Option<(Tensor<D>, f64)>,
    /// In an implicit inversion, the last `x_t` that is settled.
    settled: Option<Tensor<D>>,
}

impl<const D: usize> Chain<D> {
    /// A chain of `steps` steps from `x`: `x_T` when decoding, `x_0` in [-1, 1] when encoding.
    pub fn new(schedule: &Schedule, steps: usize, direction: Direction, x: Tensor<D>) -> Self {
        Self::over(schedule.ddim_timesteps(steps), direction, x)
    }

    fn over(timesteps: Vec<usize>, direction: Direction, x: Tensor<D>) -> Self {
        let steps = timesteps.len() - 1;
        let plan = match direction {
            Direction::Decode => (1..=steps).rev().collect(),
            Direction::Encode => (0..steps).collect(),
        };
        Self { x, timesteps, plan, done: 0, direction, solver: Solver::Ddim, previous: None, settled: None }
    }

    /// A decode of `steps` steps by another solver.
    pub fn decode(schedule: &Schedule, steps: usize, solver: Solver, x_t: Tensor<D>) -> Self {
        let timesteps = match solver {
            Solver::Ddim => schedule.ddim_timesteps(steps),
            Solver::Multistep => schedule.dense_timesteps(steps),
            Solver::Denoised => schedule.denoising_timesteps(steps),
        };
        Self { solver, ..Self::over(timesteps, Direction::Decode, x_t) }
    }

    /// The end of a decode, from an `x_t` in the middle of the chain: `steps` steps (at most `timestep`) by the multistep solver.
    pub fn decode_from(schedule: &Schedule, timestep: usize, steps: usize, x_t: Tensor<D>) -> Self {
        let timesteps = schedule.dense_timesteps_up_to(timestep, steps);
        Self { solver: Solver::Multistep, ..Self::over(timesteps, Direction::Decode, x_t) }
    }

    /// An inversion of an image `x_0` in [-1, 1] for a decode of `steps` steps.
    pub fn invert(schedule: &Schedule, steps: usize, inversion: Inversion, x_0: Tensor<D>) -> Self {
        match inversion {
            Inversion::Explicit => Self::new(schedule, steps, Direction::Encode, x_0),
            Inversion::Implicit => {
                let chain = Self::over(schedule.dense_timesteps(steps), Direction::Encode, x_0);
                Self { plan: (0..chain.timesteps.len()).collect(), settled: Some(chain.x.clone()), ..chain }
            }
        }
    }

    /// Evaluations of the network in all: one a step, but for implicit inversions.
    pub fn steps(&self) -> usize {
        self.plan.len()
    }

    /// Evaluations done.
    pub fn done(&self) -> usize {
        self.done
    }

    /// The timestep that the network is to be asked about, or `None` at the end.
    pub fn timestep(&self) -> Option<usize> {
        self.plan.get(self.done).map(|position| self.timesteps[*position])
    }

    /// The timesteps that the network is yet to be asked about, the next one first.
    pub fn timesteps_ahead(&self) -> impl Iterator<Item = usize> + '_ {
        self.plan[self.done..].iter().map(|position| self.timesteps[*position])
    }

    /// Whether this is a decode that has not taken its first step, so that `x` is what it was started from.
    pub fn starts_decode(&self) -> bool {
        self.direction == Direction::Decode && self.done == 0
    }

    /// In an implicit inversion, the last timestep and `x_t` that the chain has settled on; a decode may start from it.
    pub fn settled(&self) -> Option<(usize, &Tensor<D>)> {
        let position = self.plan.get(self.done.checked_sub(1)?)?;
        Some((self.timesteps[*position], self.settled.as_ref()?))
    }

    /// Whether this step is guided when the last `stop_percent` of a decode is left to the plain DPM:
    /// step `i` (counted down to 1) is guided while `i - 1 >= int(stop_percent * N)`.
    pub fn is_guided(&self, stop_percent: f64) -> bool {
        match self.direction {
            Direction::Decode => self.plan[self.done] as i64 > (stop_percent * self.steps() as f64) as i64,
            Direction::Encode => true,
        }
    }

    /// Takes one step with the (guided) noise that the network saw in [`Chain::x`]; returns the predicted `x_0` in [-1, 1].
    pub fn advance(&mut self, schedule: &Schedule, eps: Tensor<D>) -> Tensor<D> {
        let position = self.plan[self.done];
        self.done += 1;
        if let Some(settled) = self.settled.take() {
            return self.advance_implicitly(schedule, position, settled, eps);
        }
        let next = match self.direction {
            Direction::Decode => position - 1,
            Direction::Encode => position + 1,
        };
        let abar = schedule.alphas_cumprod[self.timesteps[position]];
        let abar_next = schedule.alphas_cumprod[self.timesteps[next]];
        let (signal, ratio) = (1.0 / abar.sqrt(), (1.0 / abar - 1.0).sqrt());
        let x0_hat = (self.x.clone() * signal - eps * ratio).clamp(-1.0, 1.0);
        let target = match self.solver {
            Solver::Ddim => x0_hat.clone(),
            Solver::Multistep | Solver::Denoised => {
                self.extrapolated(x0_hat.clone(), half_log_snr(abar_next) - half_log_snr(abar), next == 0)
            }
        };
        // Clamping moved the prediction; the noise that is consistent with it is re-derived: eps = (x * signal - target) / ratio. What
        // follows is target * sqrt(abar') + eps * sqrt(1 - abar') in as few passes over the picture as there can be.
        let of_noise = (1.0 - abar_next).sqrt() / ratio;
        self.x = target * (abar_next.sqrt() - of_noise) + self.x.clone() * (signal * of_noise);
        x0_hat
    }

    /// The predicted image in the middle of a step of this length, from the last two predictions. The last step is of first order:
    /// it is the longest, and extrapolating over it does more harm than good.
    fn extrapolated(&mut self, x0_hat: Tensor<D>, step: f64, last: bool) -> Tensor<D> {
        let previous = self.previous.replace((x0_hat.clone(), step));
        match previous {
            Some((before, step_before)) if !last && step_before != 0.0 => x0_hat.clone() + (x0_hat - before) * (step / (2.0 * step_before)),
            _ => x0_hat,
        }
    }

    /// `eps` is what the network saw in the guess for `position`; `settled` is the `x_t` of the position before (or the image itself).
    fn advance_implicitly(&mut self, schedule: &Schedule, position: usize, settled: Tensor<D>, eps: Tensor<D>) -> Tensor<D> {
        let abar = |position: usize| schedule.alphas_cumprod[self.timesteps[position]];
        let noisier = |x: &Tensor<D>, from: f64, to: f64| {
            // (x - eps * sqrt(1 - from)) * sqrt(to / from) + eps * sqrt(1 - to)
            let scale = (to / from).sqrt();
            x.clone() * scale + eps.clone() * ((1.0 - to).sqrt() - (1.0 - from).sqrt() * scale)
        };
        let here = abar(position);
        let x0_hat = (self.x.clone() * (1.0 / here.sqrt()) - eps.clone() * (1.0 / here - 1.0).sqrt()).clamp(-1.0, 1.0);
        let refined = if position == 0 { settled.clone() } else { noisier(&settled, abar(position - 1), here) };
        match self.plan.get(self.done) {
            Some(next) => (self.x, self.settled) = (noisier(&refined, here, abar(*next)), Some(refined)),
            None => self.x = refined,
        }
        x0_hat
    }
}

/// Half the logarithm of the signal-to-noise ratio, in which the solvers measure their steps.
fn half_log_snr(abar: f64) -> f64 {
    0.5 * (abar / (1.0 - abar)).ln()
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData};

    use super::*;
    use crate::diffusion::ScheduleConfig;

    /// The exact noise for data drawn from a normal distribution, which makes the ideal chain known in closed form.
    fn eps(schedule: &Schedule, x: Tensor<2>, t: usize) -> Tensor<2> {
        let (abar, variance) = (schedule.alphas_cumprod[t], 0.25);
        x * ((1.0 - abar).sqrt() / (abar * variance + 1.0 - abar))
    }

    fn start(values: [f32; 3]) -> Tensor<2> {
        Tensor::from_data(TensorData::new(values.to_vec(), [1, 3]), &Device::flex())
    }

    fn run(schedule: &Schedule, mut chain: Chain<2>) -> Vec<f32> {
        while let Some(t) = chain.timestep() {
            let noise = eps(schedule, chain.x.clone(), t);
            chain.advance(schedule, noise);
        }
        chain.x.into_data().try_to_vec().unwrap()
    }

    fn distance(a: &[f32], b: &[f32]) -> f64 {
        a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>().sqrt()
    }

    #[test]
    fn an_implicit_inversion_is_undone_better() {
        let schedule = Schedule::new(&ScheduleConfig::default());
        let image = [0.3f32, -0.2, 0.05];
        for steps in [5, 20, 50] {
            let rebuilt = |(inversion, solver)| {
                let x_t = run(&schedule, Chain::invert(&schedule, steps, inversion, start(image)));
                run(&schedule, Chain::decode(&schedule, steps, solver, start(x_t.try_into().unwrap())))
            };
            let ways = [(Inversion::Implicit, Solver::Multistep), (Inversion::Explicit, Solver::Ddim)];
            let [implicit, explicit] = ways.map(|way| distance(&rebuilt(way), &image));
            assert!(implicit < 0.5 * explicit, "{steps} steps: {implicit} against {explicit}");
        }
    }

    #[test]
    fn an_implicit_inversion_asks_once_more() {
        let schedule = Schedule::new(&ScheduleConfig::default());
        let chain = Chain::invert(&schedule, 20, Inversion::Implicit, start([0.0; 3]));
        assert_eq!((chain.steps(), Inversion::Implicit.evaluations(20)), (21, chain.steps()));
        assert_eq!(Chain::invert(&schedule, 20, Inversion::Explicit, start([0.0; 3])).steps(), 20);
    }

    #[test]
    fn a_decode_may_start_where_an_inversion_came_by() {
        let schedule = Schedule::new(&ScheduleConfig::default());
        let image = [0.3f32, -0.2, 0.05];
        let mut chain = Chain::invert(&schedule, 20, Inversion::Implicit, start(image));
        let mut settled = Vec::new();
        while let Some(t) = chain.timestep() {
            let noise = eps(&schedule, chain.x.clone(), t);
            chain.advance(&schedule, noise);
            settled.extend(chain.settled().map(|(t, x)| (t, x.clone())));
        }
        let timesteps: Vec<usize> = settled.iter().map(|(t, _)| *t).collect();
        assert_eq!(timesteps, schedule.dense_timesteps(20)[..20], "all but the end, which is the result");
        // One step from where little is left to do beats one from noise.
        let (t, x) = settled[5].clone();
        let warm = distance(&run(&schedule, Chain::decode_from(&schedule, t, 1, x)), &image);
        let whole = distance(&run(&schedule, Chain::decode(&schedule, 1, Solver::Multistep, chain.x)), &image);
        assert!(warm < 0.5 * whole, "{warm} against {whole}");
    }

    #[test]
    fn two_predictions_decode_better_than_one() {
        let schedule = Schedule::new(&ScheduleConfig::default());
        let decode = |steps, solver| run(&schedule, Chain::decode(&schedule, steps, solver, start([0.9, -1.4, 0.3])));
        let ideal = decode(999, Solver::Ddim);
        for (steps, ratio) in [(4, 0.7), (8, 0.3), (20, 0.4)] {
            let [one, two] = [Solver::Ddim, Solver::Multistep].map(|solver| distance(&decode(steps, solver), &ideal));
            assert!(two < ratio * one, "{steps} steps: {two} against {one}");
        }
    }

    #[test]
    fn a_denoised_end_asks_nothing_of_a_network_that_is_blind_for_little_noise() {
        let schedule = Schedule::new(&ScheduleConfig::default());
        let decode = |solver, blind_below| {
            let mut chain = Chain::decode(&schedule, 20, solver, start([0.9, -1.4, 0.3]));
            while let Some(t) = chain.timestep() {
                let noise = eps(&schedule, chain.x.clone(), t) * if t < blind_below { 0.0 } else { 1.0 };
                chain.advance(&schedule, noise);
            }
            chain.x.into_data().try_to_vec::<f32>().unwrap()
        };
        assert!(distance(&decode(Solver::Multistep, 50), &decode(Solver::Multistep, 0)) > 0.01, "it matters to others");
        assert_eq!(decode(Solver::Denoised, 50), decode(Solver::Denoised, 0));
    }
}
