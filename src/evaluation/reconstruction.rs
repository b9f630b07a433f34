//! What comes back of a photo: through its inferred `x_T`, by the samplers that edits use and by the published ones; and from `z` alone,
//! by the published sampler (which published figures stand for), by that of edits, and by that of faces from nothing.

use burn::tensor::{Device, Tensor};

use super::lpips::Lpips;
use super::similarity::{Planes, mse, ssim};
use super::{EvaluationError, Goal, Line, Subject};
use crate::diffusion::{Inversion, Solver};
use crate::model::Guidance;
use crate::training::data::fixed_noise;

/// The paper's own figures at 128 px: SSIM, and MSE on [0, 1], at 100 + 100 steps.
const PAPER_SSIM: f64 = 0.994;
const PAPER_MSE: f64 = 3.84e-5;
/// Steps from which the paper's figures are asked for; below it a sampler may lose some detail.
const PAPER_STEPS: usize = 100;
/// SSIM with few steps, and from `z` alone.
const QUICK_SSIM: f64 = 0.98;
const LATENT_ONLY_SSIM: f64 = 0.65;

/// Sums over images.
struct Sums<'a> {
    metric: Option<&'a Lpips>,
    ssim: f64,
    mse: f64,
    lpips: f64,
    images: usize,
}

impl<'a> Sums<'a> {
    fn new(metric: Option<&'a Lpips>) -> Self {
        Self { metric, ssim: 0.0, mse: 0.0, lpips: 0.0, images: 0 }
    }

    fn add(&mut self, original: Tensor<4>, rebuilt: Tensor<4>) {
        if let Some(metric) = self.metric {
            self.lpips += metric.distances(original.clone(), rebuilt.clone()).iter().sum::<f64>();
        }
        for (a, b) in planes(original).iter().zip(&planes(rebuilt)) {
            self.ssim += ssim(a, b);
            self.mse += mse(a, b);
            self.images += 1;
        }
    }

    /// SSIM and MSE, and LPIPS where its weights are at hand.
    fn lines(&self, what: &str) -> ([Line; 2], Option<Line>) {
        let line = |metric: &str, sum: f64| Line::new(what, metric, sum / self.images as f64, self.images);
        ([line("SSIM", self.ssim), line("MSE on [0, 1]", self.mse)], self.metric.map(|_| line("LPIPS (AlexNet)", self.lpips)))
    }
}

/// Infers each photo's `x_T` and decodes it again, in every number of steps that the job names: as edits do, and as published.
pub fn through_inferred_noise(subject: &Subject) -> Result<Vec<Line>, EvaluationError> {
    let mut lines = Vec::new();
    for &steps in &subject.job.steps {
        for (inversion, solver, how) in
            [(Inversion::default(), Solver::default(), ""), (Inversion::Explicit, Solver::Ddim, ", as published")]
        {
            let what = format!("reconstruction, {steps} + {steps} steps{how}");
            let mut sums = Sums::new(subject.lpips.as_ref());
            for batch in subject.batches() {
                (subject.tell)(format!("{what}: {} images done", sums.images));
                let x_0 = subject.images.images(&batch, subject.model.device());
                let z = subject.model.semantic_latent(x_0.clone());
                let x_t = subject.model.infer_stochastic_latent_by(inversion, x_0.clone(), &z, steps);
                sums.add(x_0, subject.model.decode_by(solver, x_t, &z, steps, Guidance::default()));
            }
            let ([ssim, mse], lpips) = sums.lines(&what);
            // The goals are those of edits; the other is there to be compared with.
            match (solver == Solver::default(), steps >= PAPER_STEPS) {
                (true, true) => lines.extend([ssim.with_goal(Goal::AtLeast(PAPER_SSIM)), mse.with_goal(Goal::AtMost(PAPER_MSE))]),
                (true, false) => lines.extend([ssim.with_goal(Goal::AtLeast(QUICK_SSIM)), mse]),
                (false, _) => lines.extend([ssim, mse]),
            }
            lines.extend(lpips);
        }
    }
    if subject.lpips.is_none() {
        lines.push(Line::missing("reconstruction", "LPIPS", "not measured: name its weights with --lpips"));
    }
    Ok(lines)
}

/// Decodes from random `x_T`: what is like the photo then comes from `z`.
pub fn from_latents_alone(subject: &Subject) -> Result<Vec<Line>, EvaluationError> {
    let steps = subject.job.steps.iter().max().copied().unwrap_or(PAPER_STEPS);
    let mut lines = Vec::new();
    for solver in [Solver::Ddim, Solver::Multistep, Solver::Denoised] {
        let what = format!("z alone, random x_T, {steps} steps, {}", solver.name());
        let mut sums = Sums::new(subject.lpips.as_ref());
        for batch in subject.batches() {
            (subject.tell)(format!("{what}: {} images done", sums.images));
            let x_0 = subject.images.images(&batch, subject.model.device());
            let z = subject.model.semantic_latent(x_0.clone());
            let x_t = noise_of(subject.job.seed, &batch, x_0.dims(), subject.model.device());
            sums.add(x_0, subject.model.decode_by(solver, x_t, &z, steps, Guidance::default()));
        }
        let ([ssim, mse], lpips) = sums.lines(&what);
        lines.extend([ssim.with_goal(Goal::AtLeast(LATENT_ONLY_SSIM)), mse]);
        lines.extend(lpips);
    }
    Ok(lines)
}

/// Noise of each image's own, whatever batch it comes in.
pub(super) fn noise_of(seed: u64, batch: &[usize], [_, c, h, w]: [usize; 4], device: &Device) -> Tensor<4> {
    let own = |index: &usize| fixed_noise(seed.wrapping_mul(1_000_003).wrapping_add(*index as u64), [1, c, h, w], device);
    Tensor::cat(batch.iter().map(own).collect(), 0)
}

/// `[batch, 3, size, size]` in about [-1, 1] as pictures on the host.
pub(super) fn planes(x: Tensor<4>) -> Vec<Planes> {
    let [_, c, _, size] = x.dims();
    let values = x.into_data().convert::<f32>().try_to_vec::<f32>().unwrap_or_default();
    values.chunks_exact(c * size * size).map(|picture| Planes::from_model(picture, size)).collect()
}
