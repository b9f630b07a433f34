//! The linear probe: what a straight line through the latents can tell.

use super::{EvaluationError, Goal, Line, Subject};
use crate::training::data::AttributeTable;
use crate::training::directions::auroc;
use crate::training::latents;

const GOAL: f64 = 0.9;

/// The mean area under the ROC curve of the bundle's classifier over the attributes that the table knows.
pub fn measure(subject: &Subject) -> Result<Vec<Line>, EvaluationError> {
    let (what, metric) = ("linear probe on z", "mean AUROC");
    // `evaluate` has checked that there is one.
    let Some(table) = &subject.labels else { return Ok(Vec::new()) };
    if subject.space.classifier.is_empty() {
        return Ok(vec![Line::missing(what, metric, "the bundle has no directions: run `train directions`")]);
    }
    let z = latents::encode(
        |x| subject.model.semantic_latent(x),
        &subject.images,
        subject.model.device(),
        |done| (subject.tell)(format!("{what}: {done} images")),
    );
    let normalised: Vec<Vec<f32>> = z.values.chunks_exact(z.dim.max(1)).map(|z| subject.space.normalise(z)).collect();
    let known: Vec<usize> = (0..subject.images.len()).filter(|i| table.row(&subject.images.names[*i]).is_some()).collect();
    if known.is_empty() {
        return Err(EvaluationError::NoLabels { path: subject.attributes_file().into(), images: subject.images.len() });
    }
    let areas: Vec<f64> = subject
        .space
        .attributes
        .iter()
        .zip(&subject.space.classifier)
        .filter_map(|(attribute, row)| {
            let column = table.names.iter().position(|name| name == attribute)?;
            auroc(known.iter().map(|&i| (dot(&normalised[i], row), label(table, &subject.images.names[i], column))).collect())
        })
        .collect();
    if areas.is_empty() {
        return Ok(vec![Line::missing(what, metric, "the images all agree, or the table has other attributes")]);
    }
    let mean = areas.iter().sum::<f64>() / areas.len() as f64;
    let note = format!("{} attributes", areas.len());
    Ok(vec![Line::new(what, metric, mean, known.len()).with_goal(Goal::AtLeast(GOAL)).with_note(note)])
}

/// An image's label; `false` where the table does not know the image.
pub(super) fn label(table: &AttributeTable, image: &str, column: usize) -> bool {
    table.row(image).is_some_and(|row| row[column])
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}
