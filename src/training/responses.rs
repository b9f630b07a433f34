//! What sliders really change: decoded, and read from the picture.
//!
//! A lock keeps a slider off the classifier's rows of other attributes, which holds the latent still. The picture is what a person
//! sees, and a decoder answers a step in the latent with more than that step: a smile it was asked for without open lips may open
//! them all the same. So every slider is tried on a few faces, somebody reads the attributes from the picture, and each attribute gets
//! a row that predicts what is read *there*. Locks follow these rows. The reader is the bundle's own encoder and classifier, or a
//! critic: a network that was trained on photos alone and is not taken in by what only the encoder sees. Not in the paper.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor};

use super::judge::{self, Judge};
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
    /// The run of a judge that reads the pictures.
    pub critic: Option<PathBuf>,
}

/// A step in normalised latents (`[latent]`), and the mean change of each attribute's logit that was found in the pictures.
#[derive(Debug, Clone, PartialEq)]
pub struct Trial {
    pub asked: Vec<f64>,
    pub found: Vec<f64>,
}

/// Rows that read from an asked step the change of each attribute that is found in pictures: the nearest to the classifier's that
/// explain the trials (ridge regression on their difference).
pub fn rows(classifier: &[Vec<f32>], trials: &[Trial]) -> Vec<Vec<f32>> {
    let n = trials.len();
    let mean = trials.iter().map(|trial| dot(&trial.asked, &trial.asked)).sum::<f64>() / n.max(1) as f64;
    let mut gram: Vec<f64> = trials.iter().flat_map(|a| trials.iter().map(|b| dot(&a.asked, &b.asked))).collect();
    (0..n).for_each(|i| gram[i * n + i] += (RIDGE * mean).max(1e-9));
    let factor = super::directions::cholesky(gram, n);
    let row = |(attribute, row): (usize, &Vec<f32>)| {
        let row: Vec<f64> = row.iter().map(|v| f64::from(*v)).collect();
        let missing = trials.iter().map(|trial| trial.found[attribute] - dot(&row, &trial.asked)).collect();
        let shares = super::directions::solve(&factor, missing);
        let corrected = |(i, value): (usize, &f64)| value + trials.iter().zip(&shares).map(|(t, share)| t.asked[i] * share).sum::<f64>();
        row.iter().enumerate().map(corrected).map(|v| v as f32).collect()
    };
    classifier.iter().enumerate().map(row).collect()
}

/// Faces as the model has read them.
struct Faces {
    z: Vec<Vec<f32>>,
    x_t: Vec<Tensor<4>>,
    /// Logits of the plain reconstructions, one row a face.
    before: Vec<Vec<f64>>,
}

/// A judge beside the classifier.
struct Critic {
    judge: Judge,
    /// For each attribute of the bundle the judge's, where it has one, and the factor that brings its logits to the classifier's scale.
    columns: Vec<Option<(usize, f64)>>,
}

impl Critic {
    fn load(path: &Path, attributes: &[String], device: &Device) -> Result<Self, TrainError> {
        let (config, judge) = judge::load(path, device)?;
        let column = |name: &String| Some((config.attributes.iter().position(|known| known == name)?, 1.0));
        Ok(Self { judge, columns: attributes.iter().map(column).collect() })
    }

    /// Puts its own reading of a picture in the place of the classifier's.
    fn read(&self, picture: Tensor<4>, logits: &mut [f64]) {
        let read = judge::rows(self.judge.logits(picture)).swap_remove(0);
        for (logit, column) in logits.iter_mut().zip(&self.columns) {
            if let Some((column, factor)) = column {
                *logit = f64::from(read[*column]) * factor;
            }
        }
    }

    /// Sets the factors by the spread of both readings over the same faces.
    fn scale(&mut self, own: &[Vec<f64>], classifier: &[Vec<f64>]) {
        let spread = |rows: &[Vec<f64>], k: usize| {
            let mean = rows.iter().map(|row| row[k]).sum::<f64>() / rows.len() as f64;
            rows.iter().map(|row| (row[k] - mean).powi(2)).sum::<f64>().sqrt()
        };
        for (k, column) in self.columns.iter_mut().enumerate() {
            if let Some((_, factor)) = column {
                let (to, from) = (spread(classifier, k), spread(own, k));
                *factor = if from > 0.0 && to > 0.0 { to / from } else { 1.0 };
            }
        }
    }
}

struct Trials<'a> {
    model: &'a Autoencoder,
    space: LatentSpace,
    steps: usize,
    critic: Option<Critic>,
}

impl Trials<'_> {
    fn faces(&mut self, data: &ImageSet, images: &[usize]) -> Faces {
        let mut faces = Faces { z: Vec::new(), x_t: Vec::new(), before: Vec::new() };
        let mut pictures = Vec::new();
        for image in images {
            let x_0 = data.images(&[*image], self.model.device());
            let z = self.model.semantic_latent(x_0.clone());
            let x_t = self.model.infer_stochastic_latent_by(Inversion::default(), x_0, &z, self.steps);
            let z = host(z);
            pictures.push(self.decoded(z.clone(), &x_t));
            faces.x_t.push(x_t);
            faces.z.push(z);
        }
        if let Some(mut critic) = self.critic.take() {
            let by_classifier: Vec<_> = pictures.iter().map(|picture| self.read(picture.clone())).collect();
            let mut own = by_classifier.clone();
            own.iter_mut().zip(&pictures).for_each(|(logits, picture)| critic.read(picture.clone(), logits));
            critic.scale(&own, &by_classifier);
            self.critic = Some(critic);
        }
        faces.before = pictures.into_iter().map(|picture| self.read(picture)).collect();
        faces
    }

    fn decoded(&self, z: Vec<f32>, x_t: &Tensor<4>) -> Tensor<4> {
        let dim = z.len();
        let z = self.model.tensor(z, [1, dim]);
        self.model.decode_by(Solver::default(), x_t.clone(), &z, self.steps, Guidance::default())
    }

    /// A logit an attribute.
    fn read(&self, picture: Tensor<4>) -> Vec<f64> {
        let z: Vec<f64> = self.space.normalise(&host(self.model.semantic_latent(picture.clone()))).into_iter().map(f64::from).collect();
        let logit = |row: &Vec<f32>| row.iter().zip(&z).map(|(w, v)| f64::from(*w) * v).sum();
        let mut logits: Vec<f64> = self.space.classifier.iter().map(logit).collect();
        if let Some(critic) = &self.critic {
            critic.read(picture, &mut logits);
        }
        logits
    }

    /// One slider at 100 percent on all faces.
    fn trial(&self, faces: &Faces, attribute: &str, locked: &BTreeSet<String>) -> Option<Trial> {
        self.space.direction(attribute)?;
        let (slider, percent) = (attribute.to_owned(), 100.0);
        let mut trial = Trial { asked: vec![0.0; self.space.mean.len()], found: vec![0.0; self.space.attributes.len()] };
        let share = 1.0 / faces.z.len() as f64;
        for ((z, x_t), before) in faces.z.iter().zip(&faces.x_t).zip(&faces.before) {
            let edited = self.space.edit(z, [(&slider, &percent)], locked);
            let (to, from) = (self.space.normalise(&edited), self.space.normalise(z));
            for (sum, (to, from)) in trial.asked.iter_mut().zip(to.iter().zip(&from)) {
                *sum += f64::from(to - from) * share;
            }
            for (sum, (to, from)) in trial.found.iter_mut().zip(self.read(self.decoded(edited, x_t)).iter().zip(before)) {
                *sum += (to - from) * share;
            }
        }
        Some(trial)
    }
}

/// A tensor's values.
fn host(z: Tensor<2>) -> Vec<f32> {
    z.into_data().convert::<f32>().try_to_vec().unwrap_or_default()
}

/// Tries every slider of a bundle on some of a data set's faces and writes `directions.response` into the bundle. `tick` is told how
/// many sliders were tried. Returns the mean absolute change of the other attributes' logits, as found in the pictures, round by round:
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
    let space = bundle.latent_space();
    let names = space.attributes.clone();
    let critic = job.critic.as_ref().map(|path| Critic::load(path, &names, device)).transpose()?;
    let mut trials = Trials { model: &model, space, steps: job.steps, critic };
    let faces = job.faces.min(data.training());
    // Spread over the whole set, which may be sorted.
    let images: Vec<usize> = (0..faces).map(|i| i * data.training() / faces).collect();
    let faces = trials.faces(&data, &images);
    let (mut known, mut changes, mut done) = (Vec::new(), Vec::new(), 0);
    for round in 0..=job.rounds {
        let mut change = (0.0, 0usize);
        for (place, name) in names.iter().enumerate() {
            let locked = if round == 0 { BTreeSet::new() } else { names.iter().cloned().collect() };
            if let Some(trial) = trials.trial(&faces, name, &locked) {
                let others = trial.found.iter().enumerate().filter(|(other, _)| *other != place);
                change = others.fold(change, |(sum, count), (_, found)| (sum + found.abs(), count + 1));
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
        let reader = if job.critic.is_some() { ", read by a critic" } else { "" };
        let details = format!("every slider tried on {} images, {} rounds{reader}", images.len(), job.rounds);
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
        let classifier = vec![vec![1.0f32, -0.5, 0.3, 0.2, 0.7, -0.4]];
        let read = |step: &[f64]| step.iter().zip(&classifier[0]).map(|(v, w)| v * f64::from(*w)).sum::<f64>();
        let trials: Vec<Trial> = (0..400).map(asked).map(|asked| Trial { found: vec![read(&answer(&asked))], asked }).collect();
        let row: Vec<f64> = rows(&classifier, &trials)[0].iter().map(|v| f64::from(*v)).collect();
        let plain: Vec<f64> = classifier[0].iter().map(|v| f64::from(*v)).collect();
        let step = asked(1234);
        let truth = dot(&plain, &answer(&step));
        assert!((dot(&row, &step) - truth).abs() < 0.01, "{} {truth}", dot(&row, &step));
        assert!((dot(&plain, &step) - truth).abs() > 0.1, "there was something to find");
        assert_eq!([row[4], row[5]], [plain[4], plain[5]]);
    }
}
