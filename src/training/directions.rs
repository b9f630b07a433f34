//! Attribute directions: latent statistics, a linear classifier on normalised latents (paper, section 4.4), and the directions that
//! edits follow.
//!
//! The paper edits along a row of the classifier. A row is what *tells* an attribute best, which is not what *changes* with it: where
//! latents are correlated it cancels most of the way that real faces move, and a weak autoencoder barely shows it. So the directions
//! here are ridge discriminants: `(C + ridge I)^-1 (mean with - mean without)` on normalised latents of covariance `C`. A ridge of 0
//! is the discriminant itself, an infinite one the plain difference of the means, which also moves whatever is usual beside the
//! attribute.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use burn::optim::{Adam, AdamConfig, AdamState, Optimizer};
use burn::tensor::activation::sigmoid;
use burn::tensor::{Device, Tensor, TensorData};

use super::data::AttributeTable;
use super::latents::{self, Latents, Statistics};
use super::{ImageSet, TrainError};
use crate::checkpoint::Bundle;
use crate::editing::attributes;
use crate::editing::linear::{cholesky, solve};
use crate::model::parameters::WeightData;

/// Latents that never vary must not make the covariance singular.
const LEAST_RIDGE: f64 = 1e-4;

/// How the classifier is fitted.
#[derive(Debug, Clone, PartialEq)]
pub struct FitOptions {
    /// Full-batch steps.
    pub iterations: usize,
    /// Adam's first learning rate; it falls to 0 along a cosine.
    pub rate: f64,
    /// Factor of `|w|^2 / 2` beside each attribute's mean cross entropy.
    pub l2: f64,
    /// Added to the variance of every normalised latent when directions are fitted.
    pub ridge: f64,
    /// Leave the sliders to the classifier's own rows, as published, instead of discriminants.
    pub raw: bool,
    /// What 100 percent of a slider is, as a multiple of the published scale.
    pub strength: f32,
    /// Attributes with a ridge or a strength of their own.
    pub ridge_of: BTreeMap<String, f64>,
    pub strength_of: BTreeMap<String, f32>,
}

impl Default for FitOptions {
    fn default() -> Self {
        Self {
            iterations: 300,
            rate: 0.03,
            l2: 1e-3,
            ridge: 2.0,
            raw: false,
            strength: 1.0,
            ridge_of: BTreeMap::new(),
            strength_of: BTreeMap::new(),
        }
    }
}

impl FitOptions {
    /// With the names in `ridge_of` and `strength_of` as the table spells them.
    fn named_as(self, names: &[String]) -> Result<Self, TrainError> {
        Ok(Self { ridge_of: spelled(self.ridge_of, names)?, strength_of: spelled(self.strength_of, names)?, ..self })
    }
}

/// What some attributes have of their own, under their names as the table or bundle spells them.
pub(super) fn spelled<V>(values: BTreeMap<String, V>, names: &[String]) -> Result<BTreeMap<String, V>, TrainError> {
    let spell = |(name, value): (String, V)| match attributes::find(&name, names) {
        Some(found) => Ok((found.to_owned(), value)),
        None => Err(TrainError::UnknownAttribute { name, known: names.join(", ") }),
    };
    values.into_iter().map(spell).collect()
}

/// A fitted classifier with the statistics it belongs to.
#[derive(Debug, Clone, PartialEq)]
pub struct Directions {
    pub attributes: Vec<String>,
    pub mean: Vec<f32>,
    pub std: Vec<f32>,
    /// The classifier, `[attribute, latent]`, row-major.
    pub weight: Vec<f32>,
    pub bias: Vec<f32>,
    /// What sliders follow, `[attribute, latent]`, rows of length 1. A row of zeros where all images agree. `None` = the classifier's
    /// rows.
    pub directions: Option<Vec<f32>>,
    /// Of each slider, see [`FitOptions::strength`].
    pub strength: Vec<f32>,
}

/// How well the classifier tells the attributes apart.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// Area under the ROC curve of each attribute; `None` where all images agree.
    pub auroc: Vec<(String, Option<f64>)>,
    /// Images that were judged, and whether they were held back from training.
    pub images: usize,
    pub held_back: bool,
}

impl Report {
    /// Mean over the attributes that have one.
    pub fn mean(&self) -> Option<f64> {
        let known: Vec<f64> = self.auroc.iter().filter_map(|(_, area)| *area).collect();
        (!known.is_empty()).then(|| known.iter().sum::<f64>() / known.len() as f64)
    }
}

/// Fits the classifier on the training images that the table knows, their latents normalised by `statistics`, and judges it on the others (on all of them if none is held back).
pub fn fit(
    latents: &Latents,
    data: &ImageSet,
    table: &AttributeTable,
    statistics: Statistics,
    options: &FitOptions,
    device: &Device,
) -> Option<(Directions, Report)> {
    let Statistics { mean, std } = statistics;
    let labelled = |range: std::ops::Range<usize>| {
        let (mut z, mut labels) = (Vec::new(), Vec::new());
        for i in range {
            let Some(row) = table.row(&data.names[i]) else { continue };
            z.extend(latents.rows(i..i + 1).iter().zip(&mean).zip(&std).map(|((v, mean), std)| (v - mean) / std));
            labels.extend(row.iter().map(|yes| f32::from(u8::from(*yes))));
        }
        Examples { count: labels.len() / table.names.len(), z, labels }
    };
    let training = labelled(0..data.training());
    let validation = labelled(data.training()..data.len());
    if training.count == 0 {
        return None;
    }
    let (weight, bias) = fit_linear(&training, latents.dim, table.names.len(), options, device);
    let ridges: Vec<f64> = table.names.iter().map(|name| *options.ridge_of.get(name).unwrap_or(&options.ridge)).collect();
    let directions = (!options.raw).then(|| training.discriminants(latents.dim, &ridges, device));
    let strength = table.names.iter().map(|name| *options.strength_of.get(name).unwrap_or(&options.strength)).collect();
    let judged = if validation.count > 0 { &validation } else { &training };
    let areas = judged.areas(&weight, &bias, latents.dim);
    let report = Report { auroc: table.names.iter().cloned().zip(areas).collect(), images: judged.count, held_back: validation.count > 0 };
    Some((Directions { attributes: table.names.clone(), mean, std, weight, bias, directions, strength }, report))
}

/// Normalised latents with their labels.
struct Examples {
    count: usize,
    /// `[example, latent]`.
    z: Vec<f32>,
    /// `[example, attribute]`, 1 or 0.
    labels: Vec<f32>,
}

impl Examples {
    fn areas(&self, weight: &[f32], bias: &[f32], dim: usize) -> Vec<Option<f64>> {
        let attributes = bias.len();
        (0..attributes)
            .map(|a| {
                let row = &weight[a * dim..(a + 1) * dim];
                let score = |z: &[f32]| z.iter().zip(row).map(|(z, w)| z * w).sum::<f32>() + bias[a];
                let labels = self.labels.iter().skip(a).step_by(attributes).map(|label| *label > 0.5);
                auroc(self.z.chunks_exact(dim).map(score).zip(labels).collect())
            })
            .collect()
    }

    /// Ridge discriminants, `[attribute, latent]`, rows of length 1; `ridges`: of each attribute.
    fn discriminants(&self, dim: usize, ridges: &[f64], device: &Device) -> Vec<f32> {
        let (n, attributes) = (self.count, ridges.len());
        let z: Tensor<2> = Tensor::from_data(TensorData::new(self.z.clone(), [n, dim]), device);
        let y: Tensor<2> = Tensor::from_data(TensorData::new(self.labels.clone(), [n, attributes]), device);
        let host = |tensor: Tensor<2>| -> Vec<f64> {
            tensor.into_data().convert::<f32>().try_to_vec::<f32>().unwrap_or_default().into_iter().map(f64::from).collect()
        };
        // The latents are normalised, but over all training images, labelled or not.
        let mean = host(z.clone().mean_dim(0));
        let positives = host(y.clone().sum_dim(0));
        let sums = host(y.transpose().matmul(z.clone()));
        let mut covariance = host(z.clone().transpose().matmul(z) * (1.0 / n as f64));
        for (i, row) in covariance.chunks_exact_mut(dim).enumerate() {
            row.iter_mut().zip(&mean).for_each(|(c, m)| *c -= mean[i] * m);
        }
        let mut factors: Vec<(f64, Vec<f64>)> = Vec::new();
        for ridge in ridges {
            if factors.iter().all(|(known, _)| known != ridge) {
                let mut ridged = covariance.clone();
                (0..dim).for_each(|i| ridged[i * dim + i] += ridge.max(LEAST_RIDGE));
                factors.push((*ridge, cholesky(ridged, dim)));
            }
        }
        let direction = |((sum, positives), ridge): ((&[f64], &f64), &f64)| {
            let negatives = n as f64 - positives;
            if *positives == 0.0 || negatives == 0.0 {
                return vec![0.0; dim];
            }
            let gap = sum.iter().zip(&mean).map(|(sum, mean)| sum / positives - (mean * n as f64 - sum) / negatives).collect();
            let factor = factors.iter().find(|(known, _)| known == ridge).map_or(&[][..], |(_, factor)| factor);
            let solved = solve(factor, gap);
            let length = solved.iter().map(|v| v * v).sum::<f64>().sqrt();
            solved.into_iter().map(|v| if length > 0.0 { (v / length) as f32 } else { 0.0 }).collect()
        };
        sums.chunks_exact(dim).zip(&positives).zip(ridges).flat_map(direction).collect()
    }
}

/// Logistic regressions, one a column, all at once: weight `[attribute, latent]` and bias, from zero.
///
/// The gradients of mean cross entropy are written out: they are two products, and need no recording.
fn fit_linear(examples: &Examples, dim: usize, attributes: usize, options: &FitOptions, device: &Device) -> (Vec<f32>, Vec<f32>) {
    let n = examples.count;
    let z: Tensor<2> = Tensor::from_data(TensorData::new(examples.z.clone(), [n, dim]), device);
    let y: Tensor<2> = Tensor::from_data(TensorData::new(examples.labels.clone(), [n, attributes]), device);
    let mut weight = Descent::new(Tensor::zeros([attributes, dim], device));
    let mut bias = Descent::new(Tensor::zeros([1, attributes], device));
    for i in 0..options.iterations {
        let rate = options.rate * 0.5 * (1.0 + (std::f64::consts::PI * i as f64 / options.iterations as f64).cos());
        let logits = z.clone().matmul(weight.value.clone().transpose()) + bias.value.clone();
        let error = (sigmoid(logits) - y.clone()) * (1.0 / n as f64);
        let weight_gradient = error.clone().transpose().matmul(z.clone()) + weight.value.clone() * options.l2;
        weight.step(rate, weight_gradient);
        bias.step(rate, error.sum_dim(0));
    }
    let values = |tensor: Tensor<2>| tensor.into_data().convert::<f32>().try_to_vec::<f32>().unwrap_or_default();
    (values(weight.value), values(bias.value))
}

/// One parameter under Adam.
struct Descent {
    value: Tensor<2>,
    adam: Adam,
    state: Option<AdamState<2>>,
}

impl Descent {
    fn new(value: Tensor<2>) -> Self {
        Self { value, adam: AdamConfig::new().with_epsilon(1e-8).build(), state: None }
    }

    fn step(&mut self, rate: f64, gradient: Tensor<2>) {
        let (value, state) = self.adam.step(rate, self.value.clone(), gradient, self.state.take());
        (self.value, self.state) = (value, state);
    }
}

/// Area under the ROC curve of scores with their labels: the chance that a positive one scores above a negative one, ties counted
/// half. `None` without both kinds.
pub fn auroc(mut scored: Vec<(f32, bool)>) -> Option<f64> {
    scored.sort_by(|a, b| a.0.total_cmp(&b.0));
    let positives = scored.iter().filter(|(_, yes)| *yes).count() as f64;
    let negatives = scored.len() as f64 - positives;
    if positives == 0.0 || negatives == 0.0 {
        return None;
    }
    let (mut below, mut wins) = (0.0, 0.0);
    for tied in scored.chunk_by(|a, b| a.0 == b.0) {
        let yes = tied.iter().filter(|(_, yes)| *yes).count() as f64;
        let no = tied.len() as f64 - yes;
        wins += yes * (below + no / 2.0);
        below += no;
    }
    Some(wins / (positives * negatives))
}

/// What [`add_to_bundle`] works on.
#[derive(Debug, Clone)]
pub struct DirectionsJob {
    pub bundle: PathBuf,
    /// Folder or tar of images.
    pub data: PathBuf,
    /// CSV table.
    pub attributes: PathBuf,
    pub validation: usize,
    pub fit: FitOptions,
}

/// Encodes a data set with a bundle's encoder, fits the directions and writes them into the bundle.
pub fn add_to_bundle(job: &DirectionsJob, device: &Device, tick: impl FnMut(usize)) -> Result<Report, TrainError> {
    // The table is small and the data set is not: a mistake in it should show at once.
    let table = AttributeTable::load(&job.attributes)?;
    let options = job.fit.clone().named_as(&table.names)?;
    let bundle = Bundle::load(&job.bundle)?;
    let config = &bundle.manifest.config;
    let data = ImageSet::load(&job.data, config.image_size, job.validation)?;
    let model = bundle.build_for_use(device)?;
    let latents = latents::encode(|x| model.semantic_latent(x), &data, device, tick);
    // Encoding takes minutes, in which other trainings may end.
    let mut bundle = latents::loaded_again(&bundle)?;
    // A latent DPM samples latents as they were normalised when it was trained.
    let kept = Statistics::of(&bundle).filter(|_| bundle.manifest.config.latent_dpm.is_some());
    let statistics = kept.unwrap_or_else(|| latents.statistics(data.training()));
    let (directions, report) = fit(&latents, &data, &table, statistics, &options, device)
        .ok_or_else(|| TrainError::NoLabels { path: job.attributes.clone(), first: data.names[0].clone() })?;
    store(&mut bundle, directions, &report, data.training(), &job.data);
    let folder = bundle.folder.clone();
    bundle.save(&folder, true)?;
    Ok(report)
}

fn store(bundle: &mut Bundle, directions: Directions, report: &Report, images: usize, data: &Path) {
    let (dim, attributes) = (directions.mean.len(), directions.attributes.len());
    let tensors = [
        ("latents.mean", vec![dim], directions.mean),
        ("latents.std", vec![dim], directions.std),
        ("classifier.weight", vec![attributes, dim], directions.weight),
        ("classifier.bias", vec![attributes], directions.bias),
    ];
    bundle.weights.tensors.remove("directions.weight");
    bundle.weights.tensors.remove("directions.strength");
    // Found with the former sliders.
    bundle.weights.tensors.retain(|name, _| !name.starts_with("locks."));
    let is_usual = directions.strength.iter().all(|strength| *strength == 1.0);
    let strength = (!is_usual).then_some(("directions.strength", vec![attributes], directions.strength));
    let followed = directions.directions.map(|values| ("directions.weight", vec![attributes, dim], values));
    for (name, shape, values) in tensors.into_iter().chain(followed).chain(strength) {
        bundle.weights.tensors.insert(name.to_owned(), WeightData { shape, values });
    }
    bundle.manifest.attributes = directions.attributes;
    let part = if report.held_back { "validation" } else { "training" };
    let mean = report.mean().map_or_else(|| "unknown".to_owned(), |area| format!("{area:.4}"));
    let data = latents::data_name(data);
    bundle.manifest.provenance.details.extend([
        ("latent statistics".to_owned(), format!("over {images} images of {data}")),
        ("directions".to_owned(), format!("mean AUROC {mean} on {} {part} images", report.images)),
    ]);
}
