//! Locks that follow what pictures show. Not in the paper.
//!
//! A slider's step moves more than its attribute: in the latent, where a classifier sees it, and in the picture, where a decoder answers
//! with more than it was asked for. So for every slider a second, *pure* step was looked for that changes its attribute and, in pictures,
//! as little else as can be (`training::sliders`). What both steps do to every attribute is known, and locks are made of that.

use super::linear::{cholesky, solve};

/// Beside what pure steps do to their own attributes, squared: one that hardly moves its attribute is not made enormous to move it.
const RIDGE: f64 = 0.02;

/// What is known of every slider's effects.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Locks {
    /// The pure steps at 100 percent, in normalised latents, `[attribute][latent]`.
    pub steps: Vec<Vec<f32>>,
    /// The mean change of every attribute's logit in pictures by every slider at 100 percent, `[slider][attribute]`: on its usual step,
    /// and on the pure one.
    pub effects: [Vec<Vec<f32>>; 2],
}

impl Locks {
    /// The slider's step under locks on other attributes: nearer to the pure one, the larger their share in what it does beside its own
    /// attribute (by the share's square root); and what the rest of it would do to them on average is taken out, by their own pure steps.
    /// With everything else locked that is the pure step itself.
    pub(super) fn apply(&self, own: usize, step: Vec<f64>, locked: &[usize]) -> Vec<f64> {
        let (Some(pure), Some(effects)) = (self.steps.get(own), self.effects[0].get(own)) else { return step };
        let effect = |attribute: usize| effects.get(attribute).map_or(0.0, |effect| f64::from(*effect));
        let all: f64 = (0..effects.len()).filter(|attribute| *attribute != own).map(|attribute| effect(attribute).abs()).sum();
        let share = if all > 0.0 { locked.iter().map(|attribute| effect(*attribute).abs()).sum::<f64>() / all } else { 1.0 };
        // What is locked moves with the rest of a face, most of which is not locked: for locks on a few the root holds them much better,
        // and edits show nearly as often.
        let share = share.sqrt();
        let mut step: Vec<f64> = step.iter().zip(pure).map(|(usual, pure)| usual + share * (f64::from(*pure) - usual)).collect();
        let left: Vec<f64> = locked.iter().map(|attribute| (1.0 - share) * effect(*attribute)).collect();
        for (attribute, amount) in locked.iter().zip(self.amounts(locked, &left)) {
            step.iter_mut().zip(&self.steps[*attribute]).for_each(|(value, pure)| *value -= amount * f64::from(*pure));
        }
        step
    }

    /// How much of each locked attribute's pure step makes up the effects `left` on them: least squares, with a ridge.
    fn amounts(&self, locked: &[usize], left: &[f64]) -> Vec<f64> {
        let n = locked.len();
        let effect = |slider: usize, attribute: usize| f64::from(self.effects[1][locked[slider]][locked[attribute]]);
        let pure = &self.effects[1];
        let own = pure.iter().enumerate().map(|(i, row)| f64::from(row[i]).powi(2)).sum::<f64>() / pure.len() as f64;
        let product = |i: usize, j: usize| (0..n).map(|k| effect(i, k) * effect(j, k)).sum::<f64>();
        let mut gram: Vec<f64> = (0..n * n).map(|at| product(at / n, at % n)).collect();
        (0..n).for_each(|i| gram[i * n + i] += (RIDGE * own).max(1e-6));
        solve(&cholesky(gram, n), (0..n).map(|i| (0..n).map(|k| effect(i, k) * left[k]).sum()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three attributes, each read from one latent; every slider also moves its neighbours, the pure steps hardly.
    fn locks() -> (Locks, Vec<Vec<f64>>) {
        let usual = vec![vec![3.0, 1.0, -1.5], vec![1.0, 2.0, 0.5], vec![0.0, 0.4, 2.0]];
        let pure: Vec<Vec<f32>> = vec![vec![2.0, 0.1, 0.0], vec![0.0, 2.0, -0.1], vec![0.05, 0.0, 2.0]];
        let alone = usual.iter().map(|row| row.iter().map(|v| *v as f32).collect()).collect();
        (Locks { effects: [alone, pure.clone()], steps: pure }, usual)
    }

    #[test]
    fn what_is_locked_stays_and_the_rest_of_the_edit_too() {
        let (locks, usual) = locks();
        let step = locks.apply(0, usual[0].clone(), &[1]);
        assert!(step[1].abs() < 0.1, "{step:?}");
        assert!(step[0] > 2.0 && step[2] < -0.5, "what is not locked goes on: {step:?}");
    }

    #[test]
    fn with_everything_else_locked_a_slider_is_pure() {
        let (locks, usual) = locks();
        let step = locks.apply(0, usual[0].clone(), &[1, 2]);
        let pure: Vec<f64> = locks.steps[0].iter().map(|v| f64::from(*v)).collect();
        assert!(step.iter().zip(&pure).all(|(a, b)| (a - b).abs() < 1e-6), "{step:?}");
    }

    #[test]
    fn an_attribute_that_nothing_moves_cannot_be_made_up_for() {
        let (mut locks, usual) = locks();
        locks.steps[1] = vec![0.0, 1e-4, 1.0];
        locks.effects[1][1] = vec![0.0, 1e-4, 0.0];
        let step = locks.apply(0, usual[0].clone(), &[1]);
        assert!(step.iter().all(|v| v.abs() < 4.0), "{step:?}");
    }
}
