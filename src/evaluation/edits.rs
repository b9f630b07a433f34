//! Edits in the eyes of a judge: whether an attribute shows, and what else changed.
//!
//! Faces without the attribute get it, through their own inferred `x_T`. The judge sees the edited picture beside the plain
//! reconstruction, so what the autoencoder itself changes is not held against the edit.

use std::collections::BTreeSet;

use burn::tensor::Tensor;

use super::probe::label;
use super::{BATCH, EvaluationError, Goal, Line, Subject};
use crate::diffusion::{Inversion, Solver};
use crate::model::Guidance;
use crate::training::directions::auroc;
use crate::training::judge::{self, Judge};

/// The attributes that are judged, with the share of faces on which the judge should say yes.
pub const JUDGED: [(&str, f64); 8] = [
    ("Smiling", 0.8),
    ("Eyeglasses", 0.6),
    ("Male", 0.6),
    ("Young", 0.6),
    ("Blond_Hair", 0.6),
    ("Bangs", 0.6),
    ("No_Beard", 0.6),
    ("Mouth_Slightly_Open", 0.6),
];

/// How faces are edited.
#[derive(Debug, Clone, PartialEq)]
pub struct EditOptions {
    /// Slider value in percent.
    pub percent: f32,
    /// What the locked edits leave alone; empty = every other attribute.
    pub locked: BTreeSet<String>,
}

impl Default for EditOptions {
    fn default() -> Self {
        Self { percent: 100.0, locked: BTreeSet::new() }
    }
}

/// A face as the model has read it, and as the judge saw its reconstruction.
struct Face {
    /// Among the validation images.
    image: usize,
    z: Vec<f32>,
    x_t: Tensor<4>,
    before: Vec<f32>,
    /// That reconstruction.
    picture: Tensor<4>,
}

/// What edits of one attribute did.
#[derive(Default)]
struct Outcome {
    faces: usize,
    /// Faces on which the judge says yes.
    yes: usize,
    /// Sum over faces of the mean absolute change of all other probabilities.
    change: f64,
    /// The same of those that are to be locked.
    held: f64,
    /// Sum over faces of the mean absolute change of the picture's values, on [0, 1].
    picture: f64,
}

const OTHERS: &str = "mean change of the others";
const HELD: &str = "mean change of what is locked";
const PICTURE: &str = "mean change of the picture";

impl Outcome {
    fn lines(&self, what: &str) -> [Line; 2] {
        let faces = self.faces as f64;
        [
            Line::new(what, "share that shows it", self.yes as f64 / faces, self.faces),
            Line::new(what, OTHERS, self.change / faces, self.faces),
        ]
    }
}

/// How well the judge tells attributes from photos, then for each attribute how often an edit shows, then what edits change beside it.
pub fn measure(subject: &Subject) -> Result<Vec<Line>, EvaluationError> {
    // `evaluate` has checked that there are both.
    let (Some((config, judge)), Some(table)) = (&subject.judge, &subject.labels) else { return Ok(Vec::new()) };
    let common: Vec<(&str, f64, usize, usize)> = JUDGED
        .iter()
        .filter(|(name, _)| subject.space.direction(name).is_some())
        .filter_map(|(name, goal)| {
            let place = |names: &[String]| names.iter().position(|known| known == name);
            Some((*name, *goal, place(&config.attributes)?, place(&table.names)?))
        })
        .collect();
    if common.is_empty() {
        return Err(EvaluationError::NoCommonAttribute(JUDGED.map(|(name, _)| name).join(", ")));
    }
    let mut lines = vec![trust(subject, &config.attributes, judge)];
    let without = |column: usize| -> Vec<usize> {
        let known = |i: &usize| table.row(&subject.images.names[*i]).is_some();
        let lacks = |i: &usize| !label(table, &subject.images.names[*i], column);
        (0..subject.images.len()).filter(known).filter(lacks).take(subject.job.count).collect()
    };
    let chosen: BTreeSet<usize> = common.iter().flat_map(|(_, _, _, column)| without(*column)).collect();
    let faces = read(subject, judge, &chosen.into_iter().collect::<Vec<_>>());
    let (mut beside, mut held, mut pictures, mut edits) = ([0.0; 2], [0.0; 2], [0.0; 2], 0);
    for (name, goal, place, column) in common {
        (subject.tell)(format!("edits: {name}"));
        let images = without(column);
        let own: Vec<&Face> = faces.iter().filter(|face| images.contains(&face.image)).collect();
        let locks = locks(subject, name);
        let places: Vec<usize> = locks.iter().filter_map(|name| config.attributes.iter().position(|known| known == name)).collect();
        let edit = |locked: &BTreeSet<String>| edit(subject, judge, &own, (name, place), locked, &places);
        let (raw, locked) = (edit(&BTreeSet::new()), edit(&locks));
        if raw.faces == 0 {
            lines.push(Line::missing(format!("edit: {name}"), "share that shows it", "no face without it"));
            continue;
        }
        let what = format!("edit: {name} at {:+}", subject.job.edits.percent);
        let [shows, changes] = raw.lines(&what);
        lines.extend([shows.with_goal(Goal::AtLeast(goal)), changes]);
        lines.extend(locked.lines(&(what + ", locked")));
        for (i, outcome) in [raw, locked].iter().enumerate() {
            beside[i] += outcome.change;
            held[i] += outcome.held;
            pictures[i] += outcome.picture;
        }
        edits += own.len();
    }
    if edits > 0 {
        let [raw, locked] = beside.map(|change| change / edits as f64);
        lines.push(Line::new("what edits leave alone", OTHERS, raw, edits));
        lines.push(Line::new("what edits leave alone, locked", OTHERS, locked, edits).with_goal(Goal::AtMost(raw / 2.0)));
        let [raw, locked] = pictures.map(|change| change / edits as f64);
        lines.push(Line::new("what edits leave alone", PICTURE, raw, edits));
        lines.push(Line::new("what edits leave alone, locked", PICTURE, locked, edits));
        // With everything locked it is the same.
        if !subject.job.edits.locked.is_empty() {
            let [raw, locked] = held.map(|change| change / edits as f64);
            lines.push(Line::new("what the locks hold", HELD, raw, edits));
            lines.push(Line::new("what the locks hold, locked", HELD, locked, edits));
        }
    }
    Ok(lines)
}

/// The judge's own figure, on the photos as they are: an edit cannot be judged better than that.
fn trust(subject: &Subject, attributes: &[String], judge: &Judge) -> Line {
    (subject.tell)("asking the judge about the photos themselves".into());
    let (what, metric) = ("the judge, on photos", "mean AUROC");
    let Some(table) = &subject.labels else { return Line::missing(what, metric, "no table") };
    let known: Vec<usize> = (0..subject.images.len()).filter(|i| table.row(&subject.images.names[*i]).is_some()).collect();
    let scores = judge::judge_images(judge, &subject.images, &known, subject.model.device());
    let area = |(a, name): (usize, &String)| {
        let column = table.names.iter().position(|known| known == name)?;
        auroc(scores.iter().zip(&known).map(|(scores, i)| (scores[a], label(table, &subject.images.names[*i], column))).collect())
    };
    let areas: Vec<f64> = attributes.iter().enumerate().filter_map(area).collect();
    match areas.len() {
        0 => Line::missing(what, metric, "the images all agree"),
        n => Line::new(what, metric, areas.iter().sum::<f64>() / n as f64, known.len()),
    }
}

fn locks(subject: &Subject, attribute: &str) -> BTreeSet<String> {
    let all = || subject.space.attributes.iter().cloned().collect();
    let mut locked: BTreeSet<String> = if subject.job.edits.locked.is_empty() { all() } else { subject.job.edits.locked.clone() };
    locked.remove(attribute);
    locked
}

fn steps(subject: &Subject) -> usize {
    subject.job.steps.iter().min().copied().unwrap_or(20)
}

/// Infers the latents of chosen images, and asks the judge about their plain reconstructions.
fn read(subject: &Subject, judge: &Judge, images: &[usize]) -> Vec<Face> {
    let (model, steps) = (&subject.model, steps(subject));
    let mut faces = Vec::with_capacity(images.len());
    for batch in images.chunks(BATCH) {
        (subject.tell)(format!("edits: {} of {} faces read", faces.len(), images.len()));
        let x_0 = subject.images.images(batch, model.device());
        let z = model.semantic_latent(x_0.clone());
        let x_t = model.infer_stochastic_latent_by(Inversion::default(), x_0, &z, steps);
        let pictures = model.decode_by(Solver::default(), x_t.clone(), &z, steps, Guidance::default());
        let before = judge::rows(judge.probabilities(pictures.clone()));
        let latents = judge::rows(z);
        for (i, (z, before)) in latents.into_iter().zip(before).enumerate() {
            let [x_t, picture] = [&x_t, &pictures].map(|tensor| tensor.clone().narrow(0, i, 1));
            faces.push(Face { image: batch[i], z, x_t, before, picture });
        }
    }
    faces
}

/// Edits faces along one attribute, `place` in the judge's answers. `held`: the places of those that are to be locked.
fn edit(
    subject: &Subject,
    judge: &Judge,
    faces: &[&Face],
    (attribute, place): (&str, usize),
    locked: &BTreeSet<String>,
    held: &[usize],
) -> Outcome {
    let model = &subject.model;
    let slider = (attribute.to_owned(), subject.job.edits.percent);
    let mut outcome = Outcome::default();
    for batch in faces.chunks(BATCH) {
        let z: Vec<f32> = batch.iter().flat_map(|face| subject.space.edit(&face.z, [(&slider.0, &slider.1)], locked)).collect();
        let z = model.tensor(z, [batch.len(), model.config.latent_dim]);
        let stacked = |tensor: &dyn Fn(&Face) -> Tensor<4>| Tensor::cat(batch.iter().map(|face| tensor(face)).collect(), 0);
        let x_t = stacked(&|face| face.x_t.clone());
        let pictures = model.decode_by(Solver::default(), x_t, &z, steps(subject), Guidance::default());
        // From [-1, 1] to [0, 1].
        let change = ((pictures.clone() - stacked(&|face| face.picture.clone())) * 0.5).abs().mean();
        outcome.picture += f64::from(change.into_scalar::<f32>()) * batch.len() as f64;
        let after = judge::rows(judge.probabilities(pictures));
        for (face, after) in batch.iter().zip(after) {
            outcome.faces += 1;
            outcome.yes += usize::from(after[place] > 0.5);
            outcome.change += mean_change(&face.before, &after, (0..after.len()).filter(|other| *other != place));
            outcome.held += mean_change(&face.before, &after, held.iter().copied());
        }
    }
    outcome
}

/// Mean absolute change of some probabilities; 0 of none.
fn mean_change(before: &[f32], after: &[f32], places: impl Iterator<Item = usize>) -> f64 {
    let (sum, count) = places.fold((0.0, 0usize), |(sum, count), i| (sum + f64::from((after[i] - before[i]).abs()), count + 1));
    sum / count.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_edited_attribute_itself_is_no_side_effect() {
        assert!((mean_change(&[0.1, 0.5, 0.2], &[0.9, 0.4, 0.5], [1, 2].into_iter()) - 0.2).abs() < 1e-6);
        assert_eq!(mean_change(&[0.1], &[0.9], std::iter::empty()), 0.0);
    }
}
