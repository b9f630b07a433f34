//! The posterior-mean gap by timestep, without and with the mean shift (paper, sections 3.1 and 4.1).
//!
//! The forward process's posterior mean is known where the photo is; the DPM predicts it from `x_t` alone and misses by what the
//! forward process forgot.

use serde::Serialize;

use super::reconstruction::noise_of;
use super::{EvaluationError, Line, Subject, drawing};

/// Timesteps that are measured.
const POINTS: usize = 25;
/// The middle of the chain, as shares of it: where it is decided what a face looks like.
const MIDDLE: std::ops::Range<f64> = 0.3..0.7;

/// Mean squared gaps, one entry a timestep.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GapCurve {
    /// `T`.
    pub steps: usize,
    pub timesteps: Vec<usize>,
    /// The DPM's own.
    pub without_shift: Vec<f64>,
    pub with_shift: Vec<f64>,
    /// Images that it is a mean over.
    pub images: usize,
}

/// Measures the gap on the job's images, each with noise of its own.
pub fn measure(subject: &Subject) -> Result<GapCurve, EvaluationError> {
    let steps = subject.model.schedule.len();
    let timesteps = timesteps(steps);
    let (mut without, mut with, mut images) = (vec![0.0; timesteps.len()], vec![0.0; timesteps.len()], 0);
    for batch in subject.batches() {
        (subject.tell)(format!("posterior-mean gap: {images} images done"));
        let x_0 = subject.images.images(&batch, subject.model.device());
        let z = subject.model.semantic_latent(x_0.clone());
        let noise = noise_of(subject.job.seed, &batch, x_0.dims(), subject.model.device());
        for (i, &t) in timesteps.iter().enumerate() {
            let gaps = subject.model.posterior_gap(x_0.clone(), noise.clone(), z.clone(), t);
            for (sums, gap) in [&mut without, &mut with].into_iter().zip(gaps) {
                sums[i] += f64::from(gap.into_scalar::<f32>()) * batch.len() as f64;
            }
        }
        images += batch.len();
    }
    let mean = |sums: Vec<f64>| sums.into_iter().map(|sum| sum / images.max(1) as f64).collect();
    Ok(GapCurve { steps, timesteps, without_shift: mean(without), with_shift: mean(with), images })
}

impl GapCurve {
    /// The share of the gap that the shift closes, as a mean over the measured timesteps in a part of the chain.
    pub fn closed(&self, part: std::ops::Range<f64>) -> f64 {
        let inside = |t: usize| part.contains(&(t as f64 / self.steps as f64));
        let pairs = self.timesteps.iter().zip(self.without_shift.iter().zip(&self.with_shift));
        let shares: Vec<f64> = pairs.filter(|(t, (without, _))| inside(**t) && **without > 0.0).map(|(_, (a, b))| 1.0 - b / a).collect();
        shares.iter().sum::<f64>() / shares.len().max(1) as f64
    }

    pub(super) fn lines(&self) -> [Line; 2] {
        let at = |share: f64| (share * self.steps as f64).round();
        let middle = format!("t from {} to {}", at(MIDDLE.start), at(MIDDLE.end));
        let line = |metric: &str, value: f64| Line::new("posterior-mean gap", metric, value, self.images);
        [
            line("share that the shift closes in the middle", self.closed(MIDDLE)).with_note(middle),
            line("share that the shift closes in the whole chain", self.closed(0.0..1.0)),
        ]
    }

    /// Both curves over the timesteps, as a PNG's pixels.
    pub fn plot(&self) -> Result<image::RgbImage, EvaluationError> {
        let curve = |values: &[f64]| self.timesteps.iter().map(|t| *t as f64).zip(values.iter().copied()).collect();
        drawing::log_plot(
            "Posterior-mean gap",
            "timestep",
            "mean squared gap",
            &[("without the shift", curve(&self.without_shift)), ("with the shift", curve(&self.with_shift))],
        )
    }
}

/// Evenly spaced, neither end: at `t` = 0 there is no gap, and hardly any at 1.
fn timesteps(steps: usize) -> Vec<usize> {
    let mut timesteps: Vec<usize> = (1..=POINTS).map(|i| i * (steps - 1) / (POINTS + 1)).filter(|t| *t > 0).collect();
    timesteps.dedup();
    timesteps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_that_is_closed_is_a_mean_over_the_part() {
        let curve = GapCurve {
            steps: 1000,
            timesteps: vec![100, 400, 500, 900],
            without_shift: vec![1.0, 2.0, 4.0, 1.0],
            with_shift: vec![1.0, 1.0, 1.0, 2.0],
            images: 1,
        };
        assert_eq!(curve.closed(0.3..0.7), (0.5 + 0.75) / 2.0);
        assert_eq!(curve.closed(0.0..1.0), (0.0 + 0.5 + 0.75 - 1.0) / 4.0);
        let plot = curve.plot().unwrap();
        let colours: std::collections::HashSet<_> = plot.pixels().map(|p| p.0).collect();
        assert!(colours.len() > 10, "lines and text");
        assert!(timesteps(1000).windows(2).all(|w| w[0] < w[1]) && timesteps(2).is_empty());
    }
}
