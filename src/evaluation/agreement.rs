//! How well edits in few steps agree with the same edits in a hundred: what a preview, and a final picture, lose by being quick.
//!
//! The yardstick is the published DDIM in 100 steps from the photo's inferred `x_T` under the edited `z`. Beside whole decodes from
//! `x_T`, warm ones are measured: they start from an `x_t` that the inversion of the unedited photo came by, so that few steps go a
//! shorter way, and an edit that would have come about before that `x_t` is lost.

use burn::tensor::Tensor;

use super::reconstruction::planes;
use super::similarity::{Planes, psnr, ssim};
use super::{EvaluationError, Goal, Line, Subject};
use crate::diffusion::{Chain, Inversion, Solver};
use crate::editing::Recipe;
use crate::model::Guidance;

/// Steps of the yardstick.
const IDEAL_STEPS: usize = 100;
/// The edits, each on every face.
const EDITS: [&str; 6] = ["Smiling", "Eyeglasses", "Male", "Young", "Blond_Hair", "Bangs"];
/// What is asked of the default sampler, in dB.
const GOALS: [(usize, f64); 2] = [(4, 27.0), (8, 32.0)];

/// A quick way to the picture.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Way {
    /// From `x_T`.
    Whole(Solver, usize),
    /// From the inversion's `x_t` after `from` of its steps.
    Warm { from: usize, steps: usize },
    /// What a drag shows first: the whole picture of a slider that stood so many percent lower, changed as the prediction of the first
    /// step changes between the two.
    Draft(u8),
}

impl Way {
    fn all() -> Vec<Self> {
        let whole = |solver| [1, 2, 3, 4, 6, 8, 10, 20].map(|steps| Self::Whole(solver, steps));
        let warm = |from| [1, 2, 3, 4].map(|steps| Self::Warm { from, steps });
        let whole = [whole(Solver::Ddim), whole(Solver::Multistep)].into_iter().flatten();
        whole.chain([10, 13, 15, 17].into_iter().flat_map(warm)).chain([5, 10, 20, 60].map(Self::Draft)).collect()
    }

    fn goal(self) -> Option<Goal> {
        let Self::Whole(Solver::Multistep, steps) = self else { return None };
        GOALS.iter().find(|(known, _)| *known == steps).map(|(_, goal)| Goal::AtLeast(*goal))
    }

    fn label(self, timesteps: &[usize]) -> String {
        let steps = |steps: usize| if steps == 1 { "1 step".to_owned() } else { format!("{steps} steps") };
        match self {
            Self::Whole(solver, n) => format!("{}, {}", steps(n), solver.name()),
            Self::Warm { from, steps: n } => format!("{} from t = {}", steps(n), timesteps[from]),
            Self::Draft(moved) => format!("a draft of 1 step, {moved} percent from a whole picture"),
        }
    }
}

/// A face as the model has read it, alone in its batch.
struct Face {
    z: Vec<f32>,
    x_t: Tensor<4>,
    /// What the inversion came by, cleanest first.
    trail: Vec<(usize, Tensor<4>)>,
}

/// PSNR and SSIM against the yardstick for every way, as means over the job's count of faces and all edits of [`EDITS`].
pub fn measure(subject: &Subject) -> Result<Vec<Line>, EvaluationError> {
    let edits: Vec<&str> = EDITS.into_iter().filter(|name| subject.space.direction(name).is_some()).collect();
    if edits.is_empty() {
        return Err(EvaluationError::NoCommonAttribute(EDITS.join(", ")));
    }
    let ways = Way::all();
    let mut sums = vec![(0.0, 0.0); ways.len()];
    let mut pictures = 0;
    for image in 0..subject.images.len().min(subject.job.count) {
        let face = read(subject, image);
        for name in &edits {
            (subject.tell)(format!("agreement: {pictures} edits done"));
            let z = |less: u8| {
                let mut recipe = Recipe::default();
                recipe.set_slider(name, subject.job.edits.percent - f32::from(less));
                let z = subject.space.edit(&face.z, &recipe.sliders, &recipe.locked);
                subject.model.tensor(z, [1, subject.model.config.latent_dim])
            };
            let ideal = decoded(subject, &face, &z, Way::Whole(Solver::Ddim, IDEAL_STEPS));
            for (way, (total_psnr, total_ssim)) in ways.iter().zip(&mut sums) {
                let quick = decoded(subject, &face, &z, *way);
                *total_psnr += psnr(&quick, &ideal);
                *total_ssim += ssim(&quick, &ideal);
            }
            pictures += 1;
        }
    }
    let timesteps = subject.model.schedule.dense_timesteps(Recipe::INVERSION_STEPS);
    let lines = ways.iter().zip(sums).flat_map(|(way, (total_psnr, total_ssim))| {
        let what = format!("edits in {}", way.label(&timesteps));
        let psnr = Line::new(&what, "PSNR against 100 steps, dB", total_psnr / pictures as f64, pictures);
        let psnr = way.goal().map_or_else(|| psnr.clone(), |goal| psnr.clone().with_goal(goal));
        [psnr, Line::new(&what, "SSIM against 100 steps", total_ssim / pictures as f64, pictures)]
    });
    Ok(lines.collect())
}

fn read(subject: &Subject, image: usize) -> Face {
    let model = &subject.model;
    let x_0 = subject.images.images(&[image], model.device());
    let z = model.semantic_latent(x_0.clone());
    let mut chain = Chain::invert(&model.schedule, Recipe::INVERSION_STEPS, Inversion::Implicit, x_0);
    let mut trail = Vec::new();
    while model.step(&mut chain, &z, Guidance::default()).is_some() {
        trail.extend(chain.settled().map(|(t, x_t)| (t, x_t.clone())));
    }
    Face { z: z.into_data().convert::<f32>().try_to_vec().unwrap_or_default(), x_t: chain.x, trail }
}

/// `z`: the edited latent, with the slider so many percent lower.
fn decoded(subject: &Subject, face: &Face, z: &impl Fn(u8) -> Tensor<2>, way: Way) -> Planes {
    let model = &subject.model;
    let whole = |solver, steps| Chain::decode(&model.schedule, steps, solver, face.x_t.clone());
    let warm = |from: usize, steps| {
        let (timestep, x_t) = &face.trail[from];
        Chain::decode_from(&model.schedule, *timestep, steps, x_t.clone())
    };
    let end = |mut chain: Chain<4>, less: u8| {
        let z = z(less);
        while model.step(&mut chain, &z, Guidance::default()).is_some() {}
        chain.x
    };
    let picture = match way {
        Way::Whole(solver, steps) => end(whole(solver, steps), 0),
        Way::Warm { from, steps } => end(warm(from, steps), 0),
        Way::Draft(moved) => {
            let quick = |steps| whole(Solver::default(), steps);
            end(quick(Recipe::DEFAULT_STEPS), moved) + end(quick(1), 0) - end(quick(1), moved)
        }
    };
    planes(picture).swap_remove(0)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_way_has_its_own_row_and_the_goals_are_the_default_sampler_s() {
        let ways = Way::all();
        let timesteps: Vec<usize> = (0..=Recipe::INVERSION_STEPS).map(|i| 10 * i).collect();
        let labels: HashSet<String> = ways.iter().map(|way| way.label(&timesteps)).collect();
        assert_eq!(labels.len(), ways.len());
        assert!(labels.contains("1 step from t = 100") && labels.contains("8 steps, DDIM as published"));
        let goals: Vec<&Way> = ways.iter().filter(|way| way.goal().is_some()).collect();
        assert_eq!(goals, [&Way::Whole(Solver::Multistep, 4), &Way::Whole(Solver::Multistep, 8)]);
    }
}
