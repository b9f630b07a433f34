//! Sliders and their locks, learned through the decoder.
//!
//! A direction that tells an attribute in latents is not yet one that changes it in pictures and nothing else. So every slider of a bundle
//! gets two steps that were learned for it: the usual one, which shows its attribute and leaves alone what it can, and a *pure* one that
//! locks follow, for which whatever else changes costs much more. They are learned by gradient through the frozen networks. A photo is
//! noised to a middle timestep, where the network predicts the image once with its latent and once with the latent moved; the difference,
//! put on the photo, is nearly what a whole decode makes of the edit. Readers look at the picture before and after: the bundle's own
//! encoder with its classifier, and if there is one a critic, a network that was trained on photos alone and is not taken in by what only
//! the encoder sees. Who has the attribute is to lose it and everybody else to get it, as one slider does both. A step pays for an
//! attribute that does not change, for every other probability that does, and for every pixel ([`Prices`]): the cheapest way to a smile
//! leaves the background and the light as they were. Face by face: a step without side effects on average may have many on everyone.
//! Afterwards both steps of every slider are tried in whole decodes, and the bundle keeps what they do ([`Locks`]). Not in the paper.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::module::{Module, Param};
use burn::tensor::activation::sigmoid;
use burn::tensor::{Device, Tensor, TensorData};
use image::RgbImage;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde::{Deserialize, Serialize};

use super::autoencoder::Networks;
use super::data::{BatchSource, step_seed};
use super::directions::spelled;
use super::forward::noised;
use super::judge::{self, Judge, softplus};
use super::latents::{self, Facts, Latents};
use super::learner::initialise;
use super::parts::{Divide, each};
use super::run::{self, Progress, Stage, StageKind};
use super::{Batch, Hyperparameters, ImageSet, Learner, Limits, RunConfig, RunFolder, TrainError};
use crate::checkpoint::Bundle;
use crate::diffusion::{Inversion, Schedule, Solver};
use crate::editing::linear::{cholesky, solve_lower};
use crate::editing::{FULL_SCALE, LatentSpace, Locks};
use crate::model::parameters::{Init, WeightData};
use crate::model::{Autoencoder, Guidance, Parameters, Weights, per_image};

/// The share of the timesteps that pictures are predicted from. From cleaner ones the picture is nearly given, and an edit hardly shows.
const TIMESTEPS: std::ops::Range<f64> = 0.5..0.95;
/// Added to the variance of every normalised latent, so that steps may leave the few directions in which photos differ most.
const RIDGE: f64 = 0.02;
/// What a step's squared length costs, in units of how photos differ: steps are to lead to other faces, not beside all faces.
const LENGTH_PRICE: f64 = 2e-4;
/// Below this squared, a changed probability costs no less than a smaller one: the kink of an absolute value at 0 would be felt by all.
const SMALLEST_CHANGE: f64 = 1e-4;
/// The tensor that is learned.
const STEPS: &str = "steps";

/// What steps pay for, beside the cross entropy of the attribute that they are to change.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Prices {
    /// The mean change of the other probabilities, for usual steps.
    pub others: f64,
    /// The same for pure steps.
    pub others_locked: f64,
    /// The mean change of the picture's values, on [-1, 1].
    pub pixels: f64,
    /// The same for attributes that are large in a picture, as hair is.
    pub pixels_of: BTreeMap<String, f64>,
}

impl Default for Prices {
    fn default() -> Self {
        Self { others: 8.0, others_locked: 60.0, pixels: 8.0, pixels_of: BTreeMap::new() }
    }
}

/// What `train sliders` learns.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SlidersRun {
    pub attributes: Vec<String>,
    /// SHA-256 of the encoder whose latents the steps are in.
    pub encoder: String,
    /// The run of the critic, by name.
    pub critic: Option<String>,
    pub prices: Prices,
}

/// What [`train`] works on.
#[derive(Debug, Clone)]
pub struct SlidersJob {
    /// The bundle whose sliders are learned; it is rewritten.
    pub bundle: PathBuf,
    /// Folder or tar of images.
    pub data: PathBuf,
    /// Images at the end that are left out.
    pub validation: usize,
    /// The run of a judge that reads pictures beside the encoder.
    pub critic: Option<PathBuf>,
    pub prices: Prices,
    /// Faces that both steps of every slider are tried on in the end, in decodes of so many steps.
    pub faces: usize,
    pub steps: usize,
    pub hyperparameters: Hyperparameters,
}

/// What steps are learned with unless told otherwise.
pub fn default_hyperparameters() -> Hyperparameters {
    Hyperparameters { batch: 32, rate: 0.05, warmup: 20, ema: 0.99, ..Hyperparameters::default() }
}

/// All usual steps, then all pure ones, `[2 * attribute, latent]`, in coordinates in which photos differ alike in every direction.
#[derive(Module, Debug)]
pub struct Steps {
    steps: Param<Tensor<2>>,
}

/// Images, noise and timesteps, and what is done to each image.
#[derive(Debug, Clone)]
pub struct StepsBatch {
    pictures: Batch,
    edits: Vec<Edit>,
}

#[derive(Debug, Clone, Copy)]
struct Edit {
    attribute: usize,
    /// By the pure step instead of the usual one.
    pure: bool,
}

impl Divide for StepsBatch {
    fn divide(self, sizes: &[usize]) -> Vec<Self> {
        self.pictures.divide(sizes).into_iter().zip(each(self.edits, sizes)).map(|(pictures, edits)| Self { pictures, edits }).collect()
    }
}

/// A judge beside the classifier.
struct Critic {
    judge: Judge,
    /// For each attribute of the bundle the judge's, where it has one.
    columns: Vec<Option<usize>>,
}

impl Critic {
    fn load(path: &Path, attributes: &[String], device: &Device) -> Result<Self, TrainError> {
        let (config, judge) = judge::load(path, device)?;
        let column = |name: &String| config.attributes.iter().position(|known| known == name);
        Ok(Self { judge, columns: attributes.iter().map(column).collect() })
    }

    /// Its logits in the bundle's order; what it does not know is as in `others`. All `[batch, attribute]`.
    fn logits(&self, picture: Tensor<4>, others: &Tensor<2>) -> Tensor<2> {
        let own = self.judge.logits(picture);
        let [_, width] = own.dims();
        let attributes = self.columns.len();
        let mut choice = vec![0.0f32; width * attributes];
        let mut unknown = vec![1.0f32; attributes];
        for (attribute, column) in self.columns.iter().enumerate() {
            if let Some(column) = column {
                choice[column * attributes + attribute] = 1.0;
                unknown[attribute] = 0.0;
            }
        }
        let device = others.device();
        let choice: Tensor<2> = Tensor::from_data(TensorData::new(choice, [width, attributes]), &device);
        let unknown: Tensor<2> = Tensor::from_data(TensorData::new(unknown, [1, attributes]), &device);
        own.matmul(choice) + others.clone() * unknown
    }
}

/// Who reads attributes from pictures.
struct Readers {
    mean: Tensor<2>,
    std: Tensor<2>,
    /// `[latent, attribute]` and `[1, attribute]`.
    classifier: Tensor<2>,
    bias: Tensor<2>,
    critic: Option<Critic>,
}

impl Readers {
    fn new(bundle: &Bundle, critic: Option<&PathBuf>, device: &Device) -> Result<Self, TrainError> {
        let space = bundle.latent_space();
        let (dim, attributes) = (space.mean.len(), space.attributes.len());
        let row = |values: Vec<f32>| -> Tensor<2> {
            let width = values.len();
            Tensor::from_data(TensorData::new(values, [1, width]), device)
        };
        let bias = bundle.weights.tensors.get("classifier.bias").map_or_else(|| vec![0.0; attributes], |bias| bias.values.clone());
        let classifier: Tensor<2> = Tensor::from_data(TensorData::new(space.classifier.concat(), [attributes, dim]), device);
        let critic = critic.map(|path| Critic::load(path, &space.attributes, device)).transpose()?;
        Ok(Self { mean: row(space.mean), std: row(space.std), classifier: classifier.transpose(), bias: row(bias), critic })
    }

    /// The logits of each, `[batch, attribute]`, from a picture and what the encoder makes of it.
    fn read(&self, picture: Tensor<4>, z: Tensor<2>) -> Vec<Tensor<2>> {
        let own = ((z - self.mean.clone()) / self.std.clone()).matmul(self.classifier.clone()) + self.bias.clone();
        match &self.critic {
            Some(critic) => vec![critic.logits(picture, &own), own],
            None => vec![own],
        }
    }
}

/// The stage of [`run::train`].
struct StepsStage {
    networks: Networks,
    schedule: Schedule,
    readers: Readers,
    /// From the coordinates that are learned in to normalised latents: `[latent, latent]`, to be multiplied from the left.
    spread: Tensor<2>,
    attributes: usize,
    /// Those that have a slider.
    edited: Vec<usize>,
    prices: Prices,
    /// What changed pixels cost, by attribute.
    pixels: Vec<f64>,
}

impl StepsStage {
    /// What a batch costs, a mean over its images, `[1]`.
    fn cost(&self, steps: Tensor<2>, batch: StepsBatch, device: &Device) -> Tensor<1> {
        let (x_0, noise, t) = batch.pictures.upload(device);
        let rows = |width: usize, value: &dyn Fn(Edit, usize) -> f32| -> Tensor<2> {
            let values: Vec<f32> = batch.edits.iter().flat_map(|edit| (0..width).map(|column| value(*edit, column))).collect();
            Tensor::from_data(TensorData::new(values, [t.len(), width]), device)
        };
        let chosen = |is: bool| f32::from(u8::from(is));
        let own = rows(self.attributes, &|edit, column| chosen(column == edit.attribute));
        let step = rows(2 * self.attributes, &|edit, row| chosen(row == edit.attribute + if edit.pure { self.attributes } else { 0 }));
        let price = rows(1, &|edit, _| (if edit.pure { self.prices.others_locked } else { self.prices.others }) as f32);
        let pixels = rows(1, &|edit, _| self.pixels[edit.attribute] as f32);
        let steps = step.matmul(steps);
        let length = steps.clone().square().sum_dim(1).mean();

        let z = self.networks.encoder.forward(x_0.clone());
        let before = self.readers.read(x_0.clone(), z.clone());
        let readers = before.len() as f64;
        let of_own = |logits: &Tensor<2>| (logits.clone() * own.clone()).sum_dim(1);
        let found = before[1..].iter().fold(of_own(&before[0]), |sum, logits| sum + of_own(logits));
        // Up where the readers do not see the attribute, down where they do.
        let side = found.lower_elem(0.0).float() * 2.0 - 1.0;
        let moved = z.clone() + (steps * side.clone()).matmul(self.spread.clone()) * self.readers.std.clone();
        let x_t = noised(&self.schedule, x_0.clone(), noise, &t);
        let gradients = self.networks.decoder.gradients(&x_t, &t, &[z, moved]);
        // A change of the predicted noise is one of the predicted image the other way round.
        let factor = per_image(&x_0, &t, |t| {
            let (signal, sigma) = self.schedule.forward_factors(t);
            -sigma / signal * self.schedule.shift_coef[t]
        });
        let change = (gradients[1].clone() - gradients[0].clone()) * factor;
        let picture = x_0 + change.clone();
        let after = self.readers.read(picture.clone(), self.networks.encoder.forward(picture));

        let others = (own.clone() * -1.0 + 1.0) * (1.0 / (self.attributes - 1).max(1) as f64);
        let cost = |(before, after): (Tensor<2>, Tensor<2>)| {
            let shows = softplus(of_own(&after) * side.clone() * -1.0).mean();
            let change = ((sigmoid(after) - sigmoid(before)).square() + SMALLEST_CHANGE).sqrt();
            shows + ((change * others.clone()).sum_dim(1) * price.clone()).mean()
        };
        let costs = before.into_iter().zip(after).map(cost);
        let picture = (change.abs().flatten::<2>(1, 3).mean_dim(1) * pixels).mean();
        costs.fold(picture + length * LENGTH_PRICE, |sum, cost| sum + cost * (1.0 / readers))
    }
}

impl Stage for StepsStage {
    type Network = Steps;
    type Data = ImageSet;
    type Batch = StepsBatch;

    fn batches(&self, data: &Arc<ImageSet>, seed: u64, batch: usize) -> BatchSource<StepsBatch> {
        let [first, end] = [TIMESTEPS.start, TIMESTEPS.end].map(|share| (share * self.schedule.len() as f64) as usize);
        let (data, edited) = (data.clone(), self.edited.clone());
        Arc::new(move |step| {
            let mut pictures = data.draw(seed, step, batch, (end - first).max(1));
            pictures.t.iter_mut().for_each(|t| *t += first);
            let mut rng = StdRng::seed_from_u64(!step_seed(seed, step));
            let mut edit = |_| Edit { attribute: edited[rng.random_range(0..edited.len())], pure: rng.random() };
            StepsBatch { pictures, edits: (0..batch).map(&mut edit).collect() }
        })
    }

    fn loss(&self, network: &Steps, batch: StepsBatch, device: &Device) -> Tensor<1> {
        self.cost(network.steps.val(), batch, device)
    }

    /// Steps are nothing to look at.
    fn picture(&self, _: &Steps) -> Option<RgbImage> {
        None
    }
}

/// The lower factor of how latents vary together over the training images, normalised, `[latent, latent]`.
fn spread(latents: &Latents, space: &LatentSpace, training: usize, device: &Device) -> Vec<f64> {
    let dim = latents.dim;
    let z: Vec<f32> = latents.rows(0..training).chunks_exact(dim).flat_map(|z| space.normalise(z)).collect();
    let z: Tensor<2> = Tensor::from_data(TensorData::new(z, [training, dim]), device);
    let z = z.clone() - z.mean_dim(0);
    let covariance = z.clone().transpose().matmul(z) * (1.0 / training as f64);
    let values = covariance.into_data().convert::<f32>().try_to_vec::<f32>().unwrap_or_default();
    let mut covariance: Vec<f64> = values.into_iter().map(f64::from).collect();
    (0..dim).for_each(|i| covariance[i * dim + i] += RIDGE);
    cholesky(covariance, dim)
}

/// Mean absolute effects of the sliders at 100 percent, as logits in pictures: on their own attributes and on the others.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Effects {
    pub own: f64,
    pub others: f64,
}

impl Effects {
    fn of(effects: &[Vec<f32>]) -> Self {
        let all = || effects.iter().enumerate().flat_map(|(i, row)| row.iter().enumerate().map(move |(j, v)| (i == j, f64::from(v.abs()))));
        let mean = |own: bool| {
            let kind: Vec<f64> = all().filter(|(is_own, _)| *is_own == own).map(|(_, v)| v).collect();
            kind.iter().sum::<f64>() / kind.len().max(1) as f64
        };
        Self { own: mean(true), others: mean(false) }
    }
}

/// What has been done, for whoever waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tick {
    /// Images encoded.
    Encoded(usize),
    /// Steps tried in whole decodes.
    Tried(usize),
}

/// Learns both steps of a bundle's sliders in a run folder, from its last state if it has one, tries them and puts them into the bundle.
/// Returns what the usual and the pure steps were found to do.
pub fn train(
    folder: &RunFolder,
    job: &SlidersJob,
    limits: &Limits,
    device: &Device,
    mut tick: impl FnMut(Tick),
) -> Result<(Progress, [Effects; 2]), TrainError> {
    let bundle = Bundle::load(&job.bundle)?;
    if bundle.manifest.attributes.is_empty() {
        return Err(TrainError::NoSliders { path: job.bundle.clone() });
    }
    let prices = Prices { pixels_of: spelled(job.prices.pixels_of.clone(), &bundle.manifest.attributes)?, ..job.prices.clone() };
    let config = RunConfig {
        stage: StageKind::Sliders,
        model: SlidersRun {
            attributes: bundle.manifest.attributes.clone(),
            encoder: latents::encoder_sha256(&bundle),
            critic: job.critic.as_deref().map(latents::data_name),
            prices: prices.clone(),
        },
        hyperparameters: job.hyperparameters,
    };
    folder.check_config(&config)?;
    let training_device = device.clone().autodiff();
    let readers = Readers::new(&bundle, job.critic.as_ref(), &training_device)?;
    let data = Arc::new(ImageSet::load(&job.data, bundle.manifest.config.image_size, job.validation)?);
    folder.set_config(&config)?;
    let model = bundle.build_for_use(device)?;
    let facts =
        Facts { encoder: config.model.encoder.clone(), data: latents::data_name(&job.data), images: data.len(), training: data.training() };
    let latents = match latents::kept(folder)? {
        Some((kept, latents)) if kept == facts => latents,
        // The steps of a state are in coordinates that come from the photos it was learned on.
        Some((kept, _)) if folder.progress()?.is_some() => {
            let found =
                format!("`train sliders` on {} images of {}, {} of them held back", kept.images, kept.data, kept.images - kept.training);
            return Err(TrainError::OtherRun { path: folder.path().into(), found });
        }
        _ => {
            let latents = latents::encode(|x| model.semantic_latent(x), &data, device, |done| tick(Tick::Encoded(done)));
            latents::keep(folder, &facts, &latents)?;
            latents
        }
    };
    let space = bundle.latent_space();
    let (dim, attributes) = (space.mean.len(), space.attributes.len());
    let factor = spread(&latents, &space, data.training(), device);
    let values: Vec<f32> = factor.iter().map(|v| *v as f32).collect();
    let spread: Tensor<2> = Tensor::from_data(TensorData::new(values, [dim, dim]), &training_device);

    let mut learner = learner(&space, &factor, job.hyperparameters, &training_device)?;
    let mut parameters = Parameters::from_weights(&bundle.weights, &training_device);
    let stage = StepsStage {
        networks: Networks::new(&mut parameters, &bundle.manifest.config)?.no_grad(),
        schedule: Schedule::new(&bundle.manifest.config.schedule),
        readers,
        spread: spread.transpose(),
        attributes,
        edited: (0..attributes).filter(|a| space.direction(&space.attributes[*a]).is_some()).collect(),
        pixels: space.attributes.iter().map(|name| *prices.pixels_of.get(name).unwrap_or(&prices.pixels)).collect(),
        prices,
    };
    let progress = run::train(&stage, &mut learner, &data, folder, &config, limits, &training_device)?;
    let learned = learner.averaged().steps.val().matmul(stage.spread.clone().inner());
    let mut usual = judge::rows(learned);
    let pure = usual.split_off(attributes);

    let trials = Trials::new(&model, &bundle, job, &data, device)?;
    let mut tried = 0;
    let mut effects = |steps: &[Vec<f32>]| -> Vec<Vec<f32>> {
        let effect = |step: &Vec<f32>| {
            tried += 1;
            tick(Tick::Tried(tried));
            trials.effects(step)
        };
        steps.iter().map(effect).collect()
    };
    let effects = [effects(&usual), effects(&pure)];
    let found = [0, 1].map(|kind| Effects::of(&effects[kind]));
    store(&bundle, usual, Locks { steps: pure, effects }, job, &stage.prices, &progress, trials.faces.len())?;
    Ok((progress, found))
}

/// Begins with the steps that the bundle has: its sliders, and their locks or else the sliders as the classifier locks them.
fn learner(space: &LatentSpace, factor: &[f64], hyperparameters: Hyperparameters, device: &Device) -> Result<Learner<Steps>, TrainError> {
    let (dim, attributes) = (space.mean.len(), space.attributes.len());
    let (steps, names) =
        initialise(&hyperparameters, device, |p| p.tensor(STEPS, [2 * attributes, dim], Init::Zeros).map(|steps| Steps { steps }));
    let mut learner = Learner::new(steps?.set_require_grad(true), names, hyperparameters);
    let everything: BTreeSet<String> = space.attributes.iter().cloned().collect();
    let step = |name: &String, locked: &BTreeSet<String>| space.step(name, locked).unwrap_or_else(|| vec![0.0; dim]);
    let usual = space.attributes.iter().map(|name| step(name, &BTreeSet::new()));
    let pure = space.attributes.iter().map(|name| step(name, &everything));
    let values = usual.chain(pure).flat_map(|step| solve_lower(factor, step)).map(|v| v as f32).collect();
    let tensors = BTreeMap::from([(STEPS.to_owned(), WeightData { shape: vec![2 * attributes, dim], values })]);
    learner.start_from(&Weights { origin: "the bundle's sliders".into(), tensors })?;
    Ok(learner)
}

/// Faces as the model has read them, on which steps are tried in whole decodes.
struct Trials<'a> {
    model: &'a Autoencoder,
    readers: Readers,
    std: Vec<f32>,
    decode_steps: usize,
    faces: Vec<Face>,
}

struct Face {
    z: Vec<f32>,
    x_t: Tensor<4>,
    /// Logits of the plain reconstruction.
    before: Vec<f64>,
}

impl<'a> Trials<'a> {
    fn new(model: &'a Autoencoder, bundle: &Bundle, job: &SlidersJob, data: &ImageSet, device: &Device) -> Result<Self, TrainError> {
        let readers = Readers::new(bundle, job.critic.as_ref(), device)?;
        let mut trials = Self { model, readers, std: bundle.latent_space().std, decode_steps: job.steps, faces: Vec::new() };
        let count = job.faces.min(data.training());
        // Spread over the whole set, which may be sorted.
        for image in (0..count).map(|i| i * data.training() / count) {
            let x_0 = data.images(&[image], device);
            let z = model.semantic_latent(x_0.clone());
            let x_t = model.infer_stochastic_latent_by(Inversion::default(), x_0, &z, job.steps);
            let z = judge::rows(z).swap_remove(0);
            let before = trials.read(z.clone(), &x_t);
            trials.faces.push(Face { z, x_t, before });
        }
        Ok(trials)
    }

    /// A logit an attribute of the decoded picture, the mean over the readers.
    fn read(&self, z: Vec<f32>, x_t: &Tensor<4>) -> Vec<f64> {
        let dim = z.len();
        let z = self.model.tensor(z, [1, dim]);
        let picture = self.model.decode_by(Solver::default(), x_t.clone(), &z, self.decode_steps, Guidance::default());
        let read = self.readers.read(picture.clone(), self.model.semantic_latent(picture));
        let share = 1.0 / read.len() as f64;
        let rows: Vec<Vec<f32>> = read.into_iter().map(|logits| judge::rows(logits).swap_remove(0)).collect();
        (0..rows[0].len()).map(|a| rows.iter().map(|row| f64::from(row[a])).sum::<f64>() * share).collect()
    }

    /// The mean change of every attribute's logit by a step in normalised latents.
    fn effects(&self, step: &[f32]) -> Vec<f32> {
        let mut sum = vec![0.0; self.readers.bias.dims()[1]];
        for face in &self.faces {
            let z = face.z.iter().zip(&self.std).zip(step).map(|((z, std), step)| z + std * step).collect();
            let after = self.read(z, &face.x_t);
            sum.iter_mut().zip(after.iter().zip(&face.before)).for_each(|(sum, (after, before))| *sum += after - before);
        }
        sum.into_iter().map(|sum| (sum / self.faces.len().max(1) as f64) as f32).collect()
    }
}

fn store(
    bundle: &Bundle,
    usual: Vec<Vec<f32>>,
    locks: Locks,
    job: &SlidersJob,
    prices: &Prices,
    progress: &Progress,
    faces: usize,
) -> Result<(), TrainError> {
    let learned_for = bundle.latent_space();
    let mut bundle = latents::loaded_again(bundle)?;
    let now = bundle.latent_space();
    let told_alike = now.attributes == learned_for.attributes && now.classifier == learned_for.classifier;
    if !told_alike || now.mean != learned_for.mean || now.std != learned_for.std {
        return Err(TrainError::BundleChanged { path: bundle.folder, what: "classifier" });
    }
    let attributes = bundle.manifest.attributes.len();
    let dim = bundle.manifest.config.latent_dim;
    // Directions are of any length; how far a slider goes is told by its strength.
    let full = f64::from(FULL_SCALE) * (dim as f64).sqrt();
    let strength = |step: &Vec<f32>| (step.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt() / full) as f32;
    let tensors = [
        ("directions.strength", vec![attributes], usual.iter().map(strength).collect()),
        ("directions.weight", vec![attributes, dim], usual.concat()),
        ("locks.steps", vec![attributes, dim], locks.steps.concat()),
        ("locks.effects", vec![2, attributes, attributes], locks.effects.concat().concat()),
    ];
    for (name, shape, values) in tensors {
        bundle.weights.tensors.insert(name.to_owned(), WeightData { shape, values });
    }
    let readers = if job.critic.is_some() { "the encoder and a critic" } else { "the encoder" };
    let Prices { others, others_locked, pixels, pixels_of } = prices;
    let mut paid = format!("prices {others} and {others_locked} for the others, {pixels} for pixels");
    pixels_of.iter().for_each(|(name, price)| paid += &format!(", {price} for {name}'s"));
    let text = format!("{} samples, read by {readers}, {paid}; tried on {faces} images", progress.samples);
    bundle.manifest.provenance.details.insert("sliders and locks".to_owned(), text);
    let folder = bundle.folder.clone();
    Ok(bundle.save(&folder, true)?)
}

/// What a run folder learns, if it does.
pub fn configured(folder: &RunFolder) -> Result<Option<RunConfig<SlidersRun>>, TrainError> {
    folder.config(StageKind::Sliders)
}
