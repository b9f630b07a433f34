//! What sliders really change: decoded, encoded again, and read by the classifier.
//!
//! A lock keeps a slider off the classifier's rows of other attributes, which holds the latent still. The picture is what a person
//! sees, and a decoder answers a step in the latent with more than that step: a smile it was asked for without open lips may open
//! them all the same. So every slider is tried on a few faces, the picture is encoded again, and each attribute gets a row that
//! predicts what the classifier reads *there*. Locks follow these rows. Not in the paper.

use std::collections::BTreeSet;
use std::path::PathBuf;

use burn::tensor::{Device, Tensor};

use super::{ImageSet, TrainError};
use crate::checkpoint::Bundle;
use crate::diffusion::{Inversion, Solver};
use crate::editing::{LatentSpace, dot};
use crate::model::parameters::WeightData;
use crate::model::{Autoencoder, Guidance};

/// Trust in the classifier where nothing was tried, as a share of a trial's squared length.
const RIDGE: f64 = 0.1;

/// What [`add_to_bundle`] works on.
#[derive(Debug, Clone)]
pub struct ResponsesJob {
    pub bundle: PathBuf,
    /// Folder or tar of images.
    pub data: PathBuf,
    /// Images at the end that are left out.
    pub validation: usize,
    /// Faces that every slider is tried on.
    pub faces: usize,
    /// First the sliders alone, then locked against all others by what was found, as often as there are further rounds.
    pub rounds: usize,
    /// Steps of each decode.
    pub steps: usize,
}

/// A step in normalised latents, and the mean step that was found in the picture, both `[latent]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Trial {
    pub asked: Vec<f64>,
    pub found: Vec<f64>,
}

/// Rows that read from an asked step what the classifier's rows read from the found one: the nearest to the classifier's that explain
/// the trials (ridge regression on their difference).
pub fn rows(classifier: &[Vec<f32>], trials: &[Trial]) -> Vec<Vec<f32>> {
    let n = trials.len();
    let mean = trials.iter().map(|trial| dot(&trial.asked, &trial.asked)).sum::<f64>() / n.max(1) as f64;
    let mut gram: Vec<f64> = trials.iter().flat_map(|a| trials.iter().map(|b| dot(&a.asked, &b.asked))).collect();
    (0..n).for_each(|i| gram[i * n + i] += (RIDGE * mean).max(1e-9));
    let factor = super::directions::cholesky(gram, n);
    let row = |row: &Vec<f32>| {
        let row: Vec<f64> = row.iter().map(|v| f64::from(*v)).collect();
        let missing = trials.iter().map(|trial| dot(&row, &trial.found) - dot(&row, &trial.asked)).collect();
        let shares = super::directions::solve(&factor, missing);
        let corrected = |(i, value): (usize, &f64)| value + trials.iter().zip(&shares).map(|(t, share)| t.asked[i] * share).sum::<f64>();
        row.iter().enumerate().map(corrected).map(|v| v as f32).collect()
    };
    classifier.iter().map(row).collect()
}

/// Faces as the model has read them.
struct Faces {
    z: Vec<Vec<f32>>,
    x_t: Vec<Tensor<4>>,
    /// Normalised latents of the plain reconstructions.
    before: Vec<Vec<f32>>,
}

struct Trials<'a> {
    model: &'a Autoencoder,
    space: LatentSpace,
    steps: usize,
}

impl Trials<'_> {
    fn read(&self, data: &ImageSet, images: &[usize]) -> Faces {
        let mut faces = Faces { z: Vec::new(), x_t: Vec::new(), before: Vec::new() };
        for image in images {
            let x_0 = data.images(&[*image], self.model.device());
            let z = self.model.semantic_latent(x_0.clone());
            faces.x_t.push(self.model.infer_stochastic_latent_by(Inversion::default(), x_0, &z, self.steps));
            faces.z.push(z.into_data().convert::<f32>().try_to_vec().unwrap_or_default());
        }
        faces.before = faces.z.iter().zip(&faces.x_t).map(|(z, x_t)| self.seen(z.clone(), x_t)).collect();
        faces
    }

    /// Decodes, encodes again and normalises.
    fn seen(&self, z: Vec<f32>, x_t: &Tensor<4>) -> Vec<f32> {
        let dim = z.len();
        let z = self.model.tensor(z, [1, dim]);
        let picture = self.model.decode_by(Solver::default(), x_t.clone(), &z, self.steps, Guidance::default());
        let z: Vec<f32> = self.model.semantic_latent(picture).into_data().convert::<f32>().try_to_vec().unwrap_or_default();
        self.space.normalise(&z)
    }

    /// One slider at 100 percent on all faces.
    fn trial(&self, faces: &Faces, attribute: &str, locked: &BTreeSet<String>) -> Option<Trial> {
        self.space.direction(attribute)?;
        let (slider, percent) = (attribute.to_owned(), 100.0);
        let dim = self.space.mean.len();
        let mut trial = Trial { asked: vec![0.0; dim], found: vec![0.0; dim] };
        let add = |sum: &mut Vec<f64>, to: &[f32], from: &[f32]| {
            sum.iter_mut().zip(to.iter().zip(from)).for_each(|(sum, (to, from))| *sum += f64::from(to - from) / faces.z.len() as f64);
        };
        for ((z, x_t), before) in faces.z.iter().zip(&faces.x_t).zip(&faces.before) {
            let edited = self.space.edit(z, [(&slider, &percent)], locked);
            add(&mut trial.asked, &self.space.normalise(&edited), &self.space.normalise(z));
            add(&mut trial.found, &self.seen(edited, x_t), before);
        }
        Some(trial)
    }
}

/// Tries every slider of a bundle on some of a data set's faces and writes `directions.response` into the bundle. `tick` is told how
/// many sliders were tried. Returns the mean absolute change of the classifier's other logits, as found in the pictures, round by round:
/// under the sliders alone, locked by the classifier's rows, then locked by the rows of the round before. The last rows, which are
/// stored, have seen all rounds.
pub fn add_to_bundle(job: &ResponsesJob, device: &Device, mut tick: impl FnMut(usize)) -> Result<Vec<f64>, TrainError> {
    let mut bundle = Bundle::load(&job.bundle)?;
    if bundle.manifest.attributes.is_empty() {
        return Err(TrainError::NoSliders { path: job.bundle.clone() });
    }
    let data = ImageSet::load(&job.data, bundle.manifest.config.image_size, job.validation)?;
    let model = bundle.build_for_use(device)?;
    bundle.weights.tensors.remove("directions.response");
    let mut trials = Trials { model: &model, space: bundle.latent_space(), steps: job.steps };
    let names = trials.space.attributes.clone();
    let faces = job.faces.min(data.training());
    // Spread over the whole set, which may be sorted.
    let images: Vec<usize> = (0..faces).map(|i| i * data.training() / faces).collect();
    let faces = trials.read(&data, &images);
    let (mut known, mut changes, mut done) = (Vec::new(), Vec::new(), 0);
    for round in 0..=job.rounds {
        let mut change = (0.0, 0usize);
        for (place, name) in names.iter().enumerate() {
            let locked = if round == 0 { BTreeSet::new() } else { names.iter().cloned().collect() };
            if let Some(trial) = trials.trial(&faces, name, &locked) {
                let others = trials.space.classifier.iter().enumerate().filter(|(other, _)| *other != place);
                for (_, row) in others {
                    change.0 += row.iter().zip(&trial.found).map(|(w, v)| f64::from(*w) * v).sum::<f64>().abs();
                    change.1 += 1;
                }
                known.push(trial);
            }
            done += 1;
            tick(done);
        }
        changes.push(change.0 / change.1.max(1) as f64);
        // After the sliders alone, locks by the classifier are tried first: what they leave is what there is to mend.
        if round > 0 {
            trials.space.responses = rows(&trials.space.classifier, &known);
        }
    }
    let (rows, dim) = (trials.space.responses, trials.space.mean.len());
    // Without a round of locks there are no rows, and locks go back to the classifier's.
    if !rows.is_empty() {
        let weights = WeightData { shape: vec![rows.len(), dim], values: rows.concat() };
        bundle.weights.tensors.insert("directions.response".into(), weights);
        let details = format!("every slider tried on {} images, {} rounds", images.len(), job.rounds);
        bundle.manifest.provenance.details.insert("responses".into(), details);
    }
    let folder = bundle.folder.clone();
    bundle.save(&folder, true)?;
    Ok(changes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A decoder that answers a step with a fixed linear map of it: the rows find what it will do to a step that was not tried, within
    /// the span of those that were, and leave the classifier alone outside.
    #[test]
    fn rows_predict_what_will_be_found() {
        let dim = 6;
        let answer = |asked: &[f64]| -> Vec<f64> { (0..dim).map(|i| asked[i] * 0.8 + 0.5 * asked[(i + 1) % dim]).collect() };
        let asked =
            |seed: usize| -> Vec<f64> { (0..dim).map(|i| if i < 4 { ((seed * 7 + i * 3) as f64).sin() * 3.0 } else { 0.0 }).collect() };
        // Many trials of the same span make the ridge small beside them.
        let trials: Vec<Trial> = (0..400).map(asked).map(|asked| Trial { found: answer(&asked), asked }).collect();
        let classifier = vec![vec![1.0f32, -0.5, 0.3, 0.2, 0.7, -0.4]];
        let row: Vec<f64> = rows(&classifier, &trials)[0].iter().map(|v| f64::from(*v)).collect();
        let plain: Vec<f64> = classifier[0].iter().map(|v| f64::from(*v)).collect();
        let step = asked(1234);
        let truth = dot(&plain, &answer(&step));
        assert!((dot(&row, &step) - truth).abs() < 0.01, "{} {truth}", dot(&row, &step));
        assert!((dot(&plain, &step) - truth).abs() > 0.1, "there was something to find");
        assert_eq!([row[4], row[5]], [plain[4], plain[5]]);
    }
}
