//! The judge: a small convolutional network that tells attributes from photos alone.
//!
//! It never sees a latent, so what it says of an edited picture is an opinion from outside the model. `evaluate` asks it; no bundle
//! holds it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::module::Module;
use burn::tensor::activation::{relu, sigmoid};
use burn::tensor::module::{adaptive_avg_pool2d, interpolate};
use burn::tensor::ops::{InterpolateMode, InterpolateOptions};
use burn::tensor::{Device, Tensor, TensorData};
use image::RgbImage;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde::{Deserialize, Serialize};

use super::data::{AttributeTable, BatchSource, step_seed};
use super::directions::{Report, auroc};
use super::learner::initialise;
use super::parts::{Divide, cut};
use super::run::{self, Progress, Stage, StageKind};
use super::{Hyperparameters, ImageSet, Learner, Limits, RunConfig, RunFolder, TrainError};
use crate::model::layers::{Conv, GroupNorm, Linear};
use crate::model::{Map, ParameterError, Parameters};

/// The side at which features are averaged.
const LAST_SIDE: usize = 4;
/// From this side down a level has a second, residual convolution; above it one would cost more than all others together.
const RESIDUAL_SIDE: usize = 16;
/// Most channels of a level, as a multiple of the first level's.
const MOST_CHANNELS: usize = 8;
/// Images judged at once.
const JUDGE_BATCH: usize = 64;

/// What a judge looks at and what it tells.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JudgeConfig {
    /// Side in pixels at which photos are judged; a power of two from 8.
    pub image_size: usize,
    /// Channels of the first level, a multiple of 32.
    pub width: usize,
    pub attributes: Vec<String>,
}

impl JudgeConfig {
    fn check(&self) -> Result<(), TrainError> {
        let wrong = |reason: &str| Err(TrainError::Config(reason.into()));
        if !self.image_size.is_power_of_two() || !(8..=256).contains(&self.image_size) {
            return wrong("a judge's --size must be 8, 16, 32, 64, 128 or 256");
        }
        if self.width == 0 || !self.width.is_multiple_of(32) || self.width > 512 {
            return wrong("a judge's --width must be a multiple of 32, at most 512");
        }
        Ok(())
    }
}

/// Strided convolutions, an average over what is left, one linear layer.
#[derive(Module, Debug)]
pub struct Judge {
    levels: Vec<Level>,
    head: Linear,
    image_size: usize,
}

#[derive(Module, Debug)]
struct Level {
    down: Conv,
    norm: GroupNorm,
    residual: Option<(Conv, GroupNorm)>,
}

impl Judge {
    fn new(p: &mut Parameters, config: &JudgeConfig) -> Result<Self, ParameterError> {
        let (mut levels, mut side, mut input) = (Vec::new(), config.image_size, 3);
        while side > LAST_SIDE {
            side /= 2;
            p.side = side;
            let output = config.width * (1 << levels.len()).min(MOST_CHANNELS);
            let level = p.scope(format!("levels.{}", levels.len()), |p| -> Result<_, ParameterError> {
                let (down, norm) = (Conv::new(p, "down", input, output, 3, 2)?, GroupNorm::new(p, "norm", output)?);
                let residual = if side <= RESIDUAL_SIDE {
                    Some((Conv::zeroed(p, "residual", output, output, 3)?, GroupNorm::new(p, "residual_norm", output)?))
                } else {
                    None
                };
                Ok(Level { down, norm, residual })
            })?;
            levels.push(level);
            input = output;
        }
        Ok(Self { levels, head: Linear::new(p, "head", input, config.attributes.len())?, image_size: config.image_size })
    }

    /// A logit an attribute, `[batch, attribute]`, of photos `[batch, 3, size, size]` of the judge's size, in [-1, 1].
    pub fn forward(&self, x: Tensor<4>) -> Tensor<2> {
        let mut x = Map::new(x, self.head.compute());
        for level in &self.levels {
            x = level.norm.of(level.down.apply(x)).silu();
            if let Some((conv, norm)) = &level.residual {
                x = x.clone() + conv.apply(norm.of(x).silu());
            }
        }
        let x = x.into_tensor();
        let [n, c, h, w] = x.dims();
        self.head.forward(x.reshape([n, c, h * w]).mean_dim(2).reshape([n, c]))
    }

    /// The same of photos of any size.
    pub fn logits(&self, x: Tensor<4>) -> Tensor<2> {
        let (found, side) = (x.dims()[3], self.image_size);
        let x = match found.cmp(&side) {
            std::cmp::Ordering::Equal => x,
            std::cmp::Ordering::Greater => adaptive_avg_pool2d(x, [side, side]),
            std::cmp::Ordering::Less => interpolate(x, InterpolateOptions::new(InterpolateMode::Bilinear).with_output_size([side, side])),
        };
        self.forward(x.clamp(-1.0, 1.0))
    }

    /// How sure the judge is of each attribute, `[batch, attribute]` in [0, 1], of photos of any size in [-1, 1].
    pub fn probabilities(&self, x: Tensor<4>) -> Tensor<2> {
        sigmoid(self.logits(x))
    }
}

/// Images with their labels.
#[derive(Debug)]
pub struct LabelledImages {
    images: ImageSet,
    /// `[image, attribute]`, 1 or 0; empty for an image that the table does not know.
    labels: Vec<Vec<f32>>,
    /// Those that may be trained on and have labels.
    training: Vec<usize>,
}

/// Images and labels, drawn at random.
#[derive(Debug, Clone)]
pub struct JudgeBatch {
    /// `[batch, 3, size, size]` in [-1, 1].
    x: TensorData,
    /// `[batch, attribute]`, 1 or 0.
    labels: TensorData,
}

impl Divide for JudgeBatch {
    fn divide(self, sizes: &[usize]) -> Vec<Self> {
        cut(self.x, sizes).into_iter().zip(cut(self.labels, sizes)).map(|(x, labels)| Self { x, labels }).collect()
    }
}

impl LabelledImages {
    /// `None` if the table knows no image that may be trained on.
    pub fn new(images: ImageSet, table: &AttributeTable) -> Option<Self> {
        let row = |name: &String| table.row(name).map(|row| row.iter().map(|yes| f32::from(u8::from(*yes))).collect()).unwrap_or_default();
        let labels: Vec<Vec<f32>> = images.names.iter().map(row).collect();
        let training: Vec<usize> = (0..images.training()).filter(|i| !labels[*i].is_empty()).collect();
        (!training.is_empty()).then_some(Self { images, labels, training })
    }

    /// The batch of one step: training images with replacement, half of them mirrored, each shifted and in a light of its own. It depends
    /// on `seed` and `step` alone.
    pub fn draw(&self, seed: u64, step: u64, batch: usize) -> JudgeBatch {
        let mut rng = StdRng::seed_from_u64(step_seed(seed, step));
        let size = self.images.size;
        let (mut values, mut labels) = (Vec::with_capacity(batch * 3 * size * size), Vec::new());
        for _ in 0..batch {
            let index = self.training[rng.random_range(0..self.training.len())];
            let first = values.len();
            self.images.push_image(&mut values, index, rng.random_bool(0.5));
            vary(&mut values[first..], size, &mut rng);
            labels.extend_from_slice(&self.labels[index]);
        }
        let attributes = labels.len() / batch.max(1);
        JudgeBatch { x: TensorData::new(values, [batch, 3, size, size]), labels: TensorData::new(labels, [batch, attributes]) }
    }
}

/// Shifts a picture (planes of red, green and blue, in [-1, 1]) by up to a sixteenth of its side, what comes in being the edge again, and
/// changes its brightness, contrast and colours a little. A judge that has seen each photo as it is, over and over, knows its pixels by
/// heart, and is then far too sure of what it thinks of any other picture.
fn vary(values: &mut [f32], size: usize, rng: &mut StdRng) {
    let reach = (size / 16) as i32;
    let [right, down] = std::array::from_fn(|_| rng.random_range(-reach..=reach));
    let (contrast, brightness) = (rng.random_range(0.8..1.2f32), rng.random_range(-0.15..0.15f32));
    let from = |to: usize, shift: i32| (to as i32 - shift).clamp(0, size as i32 - 1) as usize;
    for plane in values.chunks_exact_mut(size * size) {
        let (gain, tint) = (contrast * rng.random_range(0.95..1.05f32), brightness + rng.random_range(-0.05..0.05f32));
        let before = plane.to_vec();
        for (y, row) in plane.chunks_exact_mut(size).enumerate() {
            let source = &before[from(y, down) * size..][..size];
            for (x, value) in row.iter_mut().enumerate() {
                *value = (source[from(x, right)] * gain + tint).clamp(-1.0, 1.0);
            }
        }
    }
}

/// Mean cross entropy of logits with labels of 1 and 0, both `[batch, attribute]`; `[1]`.
pub fn loss(logits: Tensor<2>, labels: Tensor<2>) -> Tensor<1> {
    (softplus(logits.clone()) - logits * labels).mean()
}

/// `ln(1 + exp(x))` without overflow.
pub(super) fn softplus(x: Tensor<2>) -> Tensor<2> {
    relu(x.clone()) + ((x.abs() * -1.0).exp() + 1.0).log()
}

/// The stage of [`run::train`].
#[derive(Debug, Clone, Copy)]
pub struct JudgeStage;

impl Stage for JudgeStage {
    type Network = Judge;
    type Data = LabelledImages;
    type Batch = JudgeBatch;

    fn batches(&self, data: &Arc<LabelledImages>, seed: u64, batch: usize) -> BatchSource<JudgeBatch> {
        let data = data.clone();
        Arc::new(move |step| data.draw(seed, step, batch))
    }

    fn loss(&self, network: &Judge, batch: JudgeBatch, device: &Device) -> Tensor<1> {
        loss(network.forward(Tensor::from_data(batch.x, device)), Tensor::from_data(batch.labels, device))
    }

    /// There is nothing to see.
    fn picture(&self, _: &Judge) -> Option<RgbImage> {
        None
    }
}

/// What [`train`] works on.
#[derive(Debug, Clone)]
pub struct JudgeJob {
    /// Folder or tar of images.
    pub data: PathBuf,
    /// CSV table.
    pub attributes: PathBuf,
    /// The last so many images are never trained on.
    pub validation: usize,
    pub image_size: usize,
    pub width: usize,
    pub hyperparameters: Hyperparameters,
}

/// What a judge trains with unless told otherwise.
pub fn default_hyperparameters() -> Hyperparameters {
    Hyperparameters { batch: 64, rate: 1e-3, warmup: 100, ema: 0.999, weight_decay: 0.01, ..Hyperparameters::default() }
}

/// Trains a judge in a run folder, from its last state if it has one, and reports how well it tells the attributes of the images that
/// are held back (of all, if none is).
pub fn train(folder: &RunFolder, job: &JudgeJob, limits: &Limits, device: &Device) -> Result<(Progress, Report), TrainError> {
    let table = AttributeTable::load(&job.attributes)?;
    let model = JudgeConfig { image_size: job.image_size, width: job.width, attributes: table.names.clone() };
    model.check()?;
    let config = RunConfig { stage: StageKind::Judge, model, hyperparameters: job.hyperparameters };
    folder.check_config(&config)?;
    let images = ImageSet::load(&job.data, job.image_size, job.validation)?;
    let first = images.names[0].clone();
    let data = LabelledImages::new(images, &table).ok_or_else(|| TrainError::NoLabels { path: job.attributes.clone(), first })?;
    folder.set_config(&config)?;
    let data = Arc::new(data);
    let training_device = device.clone().autodiff();
    let (network, names) = initialise(&config.hyperparameters, &training_device, |p| Judge::new(p, &config.model));
    let mut learner = Learner::new(network?.set_require_grad(true), names, config.hyperparameters);
    let progress = run::train(&JudgeStage, &mut learner, &data, folder, &config, limits, &training_device)?;
    let report = report(&learner.averaged(), &data, &config.model.attributes, device);
    Ok((progress, report))
}

/// The area under the ROC curve of each attribute.
fn report(judge: &Judge, data: &LabelledImages, attributes: &[String], device: &Device) -> Report {
    let held_back = data.images.validation > 0;
    let first = if held_back { data.images.training() } else { 0 };
    let indices: Vec<usize> = (first..data.images.len()).filter(|i| !data.labels[*i].is_empty()).collect();
    let scores = judge_images(judge, &data.images, &indices, device);
    let area = |a: usize| auroc(scores.iter().zip(&indices).map(|(scores, i)| (scores[a], data.labels[*i][a] > 0.5)).collect());
    let auroc = attributes.iter().enumerate().map(|(a, name)| (name.clone(), area(a))).collect();
    Report { auroc, images: indices.len(), held_back }
}

/// How sure a judge is of each attribute of chosen images, one row an image.
pub fn judge_images(judge: &Judge, images: &ImageSet, indices: &[usize], device: &Device) -> Vec<Vec<f32>> {
    let judged = |chunk: &[usize]| rows(judge.probabilities(images.images(chunk, device)));
    indices.chunks(JUDGE_BATCH).flat_map(judged).collect()
}

/// A matrix as rows on the host.
pub fn rows(matrix: Tensor<2>) -> Vec<Vec<f32>> {
    let width = matrix.dims()[1].max(1);
    matrix.into_data().convert::<f32>().try_to_vec::<f32>().unwrap_or_default().chunks(width).map(<[f32]>::to_vec).collect()
}

/// The judge of a `train judge` run: its moving average.
pub fn load(path: &Path, device: &Device) -> Result<(JudgeConfig, Judge), TrainError> {
    let none = || TrainError::NoState { path: path.into() };
    let folder = RunFolder::existing(path).ok_or_else(none)?;
    let config: RunConfig<JudgeConfig> = folder.config(StageKind::Judge)?.ok_or_else(none)?;
    config.model.check()?;
    let (_, weights) = folder.averaged_weights()?;
    let judge = Judge::new(&mut Parameters::from_weights(&weights, device), &config.model)?;
    Ok((config.model, judge))
}

/// What a run folder trains, if it does.
pub fn configured(folder: &RunFolder) -> Result<Option<RunConfig<JudgeConfig>>, TrainError> {
    folder.config(StageKind::Judge)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use burn::module::{ModuleMapper, Param};
    use burn::tensor::Distribution;

    use super::*;
    use crate::model::autodiff::tests::check_gradients;

    /// Adds to weights what is not zero at the start of training either.
    struct Randomise(Device);

    impl ModuleMapper for Randomise {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            param.map(|t| t.clone() + Tensor::random(t.dims(), Distribution::Uniform(-0.05, 0.05), &self.0))
        }
    }

    #[test]
    fn a_picture_is_shifted_as_a_whole_and_its_light_changes_a_little() {
        let size = 32;
        // Rising to the right in red, downwards in green; blue is even.
        let ramp = |along: usize| along as f32 / 31.0 * 1.2 - 0.6;
        let planes = [|x: usize, _: usize| x, |_: usize, y: usize| y, |_: usize, _: usize| 0];
        let picture = |rng: Option<u64>| -> Vec<f32> {
            let mut values: Vec<f32> = planes.iter().flat_map(|plane| (0..size * size).map(|i| ramp(plane(i % size, i / size)))).collect();
            if let Some(seed) = rng {
                vary(&mut values, size, &mut StdRng::seed_from_u64(seed));
            }
            values
        };
        let plain = picture(None);
        let mut shifts = BTreeSet::new();
        for seed in 0..40 {
            let varied = picture(Some(seed));
            assert_eq!(varied, picture(Some(seed)), "it depends on the seed alone");
            let [red, green, blue] = [0, 1, 2].map(|plane| &varied[plane * size * size..][..size * size]);
            assert!(red.chunks_exact(size).all(|row| row == &red[..size]), "every row was shifted alike");
            assert!(green.chunks_exact(size).all(|row| row.iter().all(|v| *v == row[0])), "every column was shifted alike");
            assert!(blue.iter().all(|v| *v == blue[0]));
            // What came in at the edge repeats it.
            let repeated = |line: Vec<f32>| {
                let same = |n: usize| line[n] == line[n + 1];
                let (low, high) = ((0..size - 1).take_while(|n| same(*n)).count(), (0..size - 1).rev().take_while(|n| same(*n)).count());
                low as isize - high as isize
            };
            let shift = [repeated(red[..size].to_vec()), repeated(green.chunks_exact(size).map(|row| row[0]).collect())];
            assert!(shift.iter().all(|by| by.abs() <= 2), "{shift:?}");
            shifts.insert(shift);
            let change = varied.iter().zip(&plain).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(change > 0.0 && change < 0.5, "{change}");
        }
        assert!(shifts.len() > 10, "shifts differ from picture to picture: {shifts:?}");
    }

    #[test]
    fn a_judge_learns_what_it_would_with_the_tensor_library() {
        let device = Device::flex().autodiff();
        let config = JudgeConfig { image_size: 32, width: 32, attributes: vec!["one".into(), "other".into()] };
        let judge = Judge::new(&mut Parameters::random(&device), &config).unwrap().map(&mut Randomise(device.clone()));
        check_gradients(judge, [3, 3, 32, 32], |judge, x| {
            let labels = Tensor::<2>::from_data([[1.0, 0.0], [0.0, 0.0], [1.0, 1.0]], &x.device());
            loss(judge.forward(x), labels)
        });
    }
}
