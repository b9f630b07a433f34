//! LPIPS, the distance of two pictures in what a network sees that was trained on photographs of things (Zhang, Isola, Efros, Shechtman and
//! Wang, "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric", 2018): AlexNet, version 0.1.
//!
//! Its weights come with its authors' Python package `lpips` and are not shipped here; README says how to make a file of them.

use std::path::Path;

use burn::module::Param;
use burn::tensor::module::{conv2d, max_pool2d};
use burn::tensor::ops::{ConvOptions, MaxPoolOptions};
use burn::tensor::{Device, Tensor};

use super::EvaluationError;
use crate::checkpoint::{CheckpointError, tensors};
use crate::model::Parameters;
use crate::model::parameters::{Init, ParameterError};

/// One of AlexNet's convolutions; before the second and the third the map is pooled.
struct Shape {
    name: &'static str,
    input: usize,
    output: usize,
    kernel: usize,
    stride: usize,
    padding: usize,
    pooled: bool,
}

const fn shape(name: &'static str, [input, output]: [usize; 2], [kernel, stride, padding]: [usize; 3], pooled: bool) -> Shape {
    Shape { name, input, output, kernel, stride, padding, pooled }
}

const SHAPES: [Shape; 5] = [
    shape("net.slice1.0", [3, 64], [11, 4, 2], false),
    shape("net.slice2.3", [64, 192], [5, 1, 2], true),
    shape("net.slice3.6", [192, 384], [3, 1, 1], true),
    shape("net.slice4.8", [384, 256], [3, 1, 1], false),
    shape("net.slice5.10", [256, 256], [3, 1, 1], false),
];

/// What pictures in [-1, 1] are shifted and divided by, for red, green and blue.
const SHIFT: [f32; 3] = [-0.030, -0.088, -0.188];
const SCALE: [f32; 3] = [0.458, 0.448, 0.450];
/// What keeps a feature of length 0 from being divided by it.
const LEAST: f64 = 1e-10;

struct Layer {
    shape: &'static Shape,
    weight: Param<Tensor<4>>,
    bias: Param<Tensor<1>>,
    /// How much each feature counts, `[1, output, 1, 1]`.
    counts: Param<Tensor<4>>,
}

/// The metric, on a device.
pub struct Lpips {
    layers: Vec<Layer>,
}

impl Lpips {
    /// From a safetensors file with the names of the Python package's `LPIPS(net="alex")`.
    pub fn load(path: &Path, device: &Device) -> Result<Self, EvaluationError> {
        let (weights, _) = tensors::read(path)?;
        Ok(Self::new(&mut Parameters::from_weights(&weights, device)).map_err(CheckpointError::from)?)
    }

    fn new(p: &mut Parameters) -> Result<Self, ParameterError> {
        let layer = |(i, shape): (usize, &'static Shape)| {
            let Shape { name, input, output, kernel, .. } = *shape;
            let fan_in = Init::FanIn(input * kernel * kernel);
            Ok(Layer {
                shape,
                weight: p.tensor(&format!("{name}.weight"), [output, input, kernel, kernel], fan_in)?,
                bias: p.tensor(&format!("{name}.bias"), [output], fan_in)?,
                counts: p.tensor(&format!("lin{i}.model.1.weight"), [1, output, 1, 1], Init::Ones)?,
            })
        };
        Ok(Self { layers: SHAPES.iter().enumerate().map(layer).collect::<Result<_, _>>()? })
    }

    /// The distance of each picture from its counterpart, both `[batch, 3, size, size]` in [-1, 1] (what lies outside is cut off, as on a
    /// screen), on the metric's device and at least 31 pixels wide. 0 = equal.
    pub fn distances(&self, a: Tensor<4>, b: Tensor<4>) -> Vec<f64> {
        let batch = a.dims()[0];
        let mut total = Tensor::<4>::zeros([batch, 1, 1, 1], &a.device());
        let [mut a, mut b] = [a, b].map(prepared);
        for layer in &self.layers {
            (a, b) = (layer.features(a), layer.features(b));
            let apart = (unit(a.clone()) - unit(b.clone())).square();
            total = total + (apart * layer.counts.val()).sum_dim(1).mean_dim(2).mean_dim(3);
        }
        let values = total.into_data().convert::<f32>().try_to_vec::<f32>().unwrap_or_default();
        values.into_iter().map(f64::from).collect()
    }
}

impl Layer {
    fn features(&self, x: Tensor<4>) -> Tensor<4> {
        let Shape { stride, padding, pooled, .. } = *self.shape;
        let pooling = MaxPoolOptions { kernel_size: [3; 2], stride: [2; 2], padding: [(0, 0); 2], dilation: [1; 2], ceil_mode: false };
        let x = if pooled { max_pool2d(x, pooling) } else { x };
        let options = ConvOptions::new([stride; 2], [padding; 2], [1, 1], 1);
        burn::tensor::activation::relu(conv2d(x, self.weight.val(), Some(self.bias.val()), options))
    }
}

fn prepared(x: Tensor<4>) -> Tensor<4> {
    let by_colour = |values: [f32; 3]| Tensor::<1>::from_floats(values, &x.device()).reshape([1, 3, 1, 1]);
    let (shift, scale) = (by_colour(SHIFT), by_colour(SCALE));
    (x.clamp(-1.0, 1.0) - shift) / scale
}

/// The features of every place at length 1.
fn unit(x: Tensor<4>) -> Tensor<4> {
    let length = x.clone().square().sum_dim(1).sqrt();
    x / (length + LEAST)
}

#[cfg(test)]
mod tests {
    use burn::tensor::TensorData;

    use super::*;
    use crate::model::Weights;
    use crate::model::parameters::WeightData;

    fn values(shape: &[usize], of: impl Fn(f64) -> f64) -> WeightData {
        let count: usize = shape.iter().product();
        WeightData { shape: shape.to_vec(), values: (0..count).map(|i| of(i as f64) as f32).collect() }
    }

    /// Weights that any program can make.
    fn weights() -> Weights {
        let mut weights = Weights { origin: "made up".into(), ..Weights::default() };
        for (i, shape) in SHAPES.iter().enumerate() {
            let Shape { name, input, output, kernel, .. } = *shape;
            let size = (2.0 / (input * kernel * kernel) as f64).sqrt();
            let weight = values(&[output, input, kernel, kernel], |j| (0.7 * j).sin() * size);
            weights.tensors.insert(format!("{name}.weight"), weight);
            weights.tensors.insert(format!("{name}.bias"), values(&[output], |j| 0.1 * j.cos()));
            weights.tensors.insert(format!("lin{i}.model.1.weight"), values(&[1, output, 1, 1], |j| 0.5 + 0.5 * j.sin()));
        }
        weights
    }

    fn picture(of: impl Fn(f64) -> f64) -> Tensor<4> {
        let data = values(&[1, 3, 64, 64], of);
        Tensor::from_data(TensorData::new(data.values, [1, 3, 64, 64]), &Device::flex())
    }

    #[test]
    fn it_is_what_its_authors_program_measures() {
        let metric = Lpips::new(&mut Parameters::from_weights(&weights(), &Device::flex())).unwrap();
        let a = picture(|i| (0.37 * i).sin());
        let b = picture(|i| (0.37 * i + 0.5 * (0.011 * i).cos()).sin());
        let nothing = picture(|_| 0.0);
        // By the Python package `lpips` 0.1.4 with the same weights.
        for (other, want) in [(&b, 0.662_494_6), (&nothing, 0.522_176_8), (&a, 0.0)] {
            let found = metric.distances(a.clone(), other.clone());
            assert!(found.len() == 1 && (found[0] - want).abs() < 1e-5, "{found:?} instead of {want}");
        }
        let both = metric.distances(Tensor::cat(vec![a.clone(), a.clone()], 0), Tensor::cat(vec![a, b], 0));
        assert!(both[0] == 0.0 && (both[1] - 0.662_494_6).abs() < 1e-5, "each picture with its own: {both:?}");
    }

    #[test]
    fn weights_of_something_else_are_named() {
        let mut weights = weights();
        weights.tensors.remove("lin3.model.1.weight");
        let error = Lpips::new(&mut Parameters::from_weights(&weights, &Device::flex())).err().unwrap();
        assert!(error.to_string().contains("lin3.model.1.weight"), "{error}");
    }
}
