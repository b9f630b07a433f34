//! Where parameters come from: published names in, `burn` parameters out.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};

use burn::module::{Module, ModuleVisitor, Param, ParamId};
use burn::tensor::{Device, Distribution, FloatDType, Tensor, TensorData};
use thiserror::Error;

/// Named `f32` tensors in memory, with the name of the file they came from for error messages.
#[derive(Debug, Clone, Default)]
pub struct Weights {
    /// The file, as a person would name it.
    pub origin: String,
    pub tensors: BTreeMap<String, WeightData>,
}

/// One tensor: shape and row-major values.
#[derive(Debug, Clone, PartialEq)]
pub struct WeightData {
    pub shape: Vec<usize>,
    pub values: Vec<f32>,
}

/// Why weights do not fit a network.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ParameterError {
    #[error("{origin} has no tensor called {key} (expected shape {expected:?}). Is it the file for this model?")]
    Missing { origin: String, key: String, expected: Vec<usize> },
    #[error(
        "{origin}: the tensor {key} has shape {found:?}, but the model needs {expected:?}. The configuration and the weights do not belong together."
    )]
    Shape { origin: String, key: String, expected: Vec<usize>, found: Vec<usize> },
}

/// How a parameter starts when there is no checkpoint.
#[derive(Debug, Clone, Copy)]
pub enum Init {
    Zeros,
    Ones,
    /// Uniform in `+-1 / sqrt(fan_in)`, PyTorch's default for linear and convolution layers.
    FanIn(usize),
}

enum Source<'a> {
    Weights(&'a Weights),
    Random,
}

/// Hands out parameters by their published name while a network is being built.
///
/// It also keeps the list of names (so that a trained network can be written back under them) and counts the multiply-adds of the
/// layers it served, for which the builder keeps [`Parameters::side`] at the resolution of the layer being built.
pub struct Parameters<'a> {
    source: Source<'a>,
    prefix: Vec<String>,
    names: HashMap<ParamId, String>,
    device: Device,
    /// Side of the feature map, in (folded) pixels, at the layer that is being built. 0 = a layer on vectors.
    pub side: usize,
    compute: Option<FloatDType>,
    keep_narrow: bool,
    macs: u64,
    count: u64,
}

impl<'a> Parameters<'a> {
    /// Parameters from a checkpoint.
    pub fn from_weights(weights: &'a Weights, device: &Device) -> Self {
        Self::new(Source::Weights(weights), device)
    }

    /// Fresh random parameters for training; seed the device first for a repeatable start.
    pub fn random(device: &Device) -> Parameters<'static> {
        Parameters::new(Source::Random, device)
    }

    fn new(source: Source<'a>, device: &Device) -> Self {
        Self {
            source,
            prefix: Vec::new(),
            names: HashMap::new(),
            device: device.clone(),
            side: 0,
            compute: None,
            keep_narrow: false,
            macs: 0,
            count: 0,
        }
    }

    /// Lets convolutions and linear layers multiply in a narrower type, for forward passes alone: their weights are kept in it. Norms,
    /// softmax, biases and all that passes from layer to layer stay 32-bit. `None` changes nothing.
    #[must_use]
    pub fn computing_in(mut self, compute: Option<FloatDType>) -> Self {
        self.narrow_to(compute);
        self
    }

    /// The same from here on.
    pub fn narrow_to(&mut self, compute: Option<FloatDType>) {
        (self.compute, self.keep_narrow) = (compute, true);
    }

    /// The same for training: weights stay 32-bit, so that small steps are not lost, and are narrowed at every use.
    pub fn train_in(&mut self, compute: Option<FloatDType>) {
        (self.compute, self.keep_narrow) = (compute, false);
    }

    /// The type that layers being built multiply in; `None`: the weights' own.
    pub fn compute(&self) -> Option<FloatDType> {
        self.compute
    }

    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Multiply-adds of one forward pass at batch 1 of everything built so far.
    pub fn multiply_adds(&self) -> u64 {
        self.macs
    }

    /// Adds multiply-adds that no parameter accounts for (attention's two products).
    pub fn add_multiply_adds(&mut self, n: usize) {
        self.macs += n as u64;
    }

    /// Number of scalars handed out so far.
    pub fn parameter_count(&self) -> u64 {
        self.count
    }

    /// The published name of every parameter handed out so far.
    pub fn into_names(self) -> HashMap<ParamId, String> {
        self.names
    }

    /// Builds something below `name`, e.g. `input_blocks` then `3` then `0`.
    pub fn scope<R>(&mut self, name: impl ToString, build: impl FnOnce(&mut Self) -> R) -> R {
        self.prefix.push(name.to_string());
        let result = build(self);
        self.prefix.pop();
        result
    }

    /// Whether the checkpoint has this tensor. Always true when initialising at random.
    pub fn has(&self, name: &str) -> bool {
        match &self.source {
            Source::Weights(w) => w.tensors.contains_key(&self.key(name)),
            Source::Random => true,
        }
    }

    fn key(&self, name: &str) -> String {
        let mut key = self.prefix.join(".");
        if !key.is_empty() {
            key.push('.');
        }
        key + name
    }

    /// One parameter of exactly this shape.
    pub fn tensor<const D: usize>(&mut self, name: &str, shape: [usize; D], init: Init) -> Result<Param<Tensor<D>>, ParameterError> {
        let key = self.key(name);
        let value: Tensor<D> = match &self.source {
            Source::Weights(w) => {
                let found = w.tensors.get(&key).ok_or_else(|| ParameterError::Missing {
                    origin: w.origin.clone(),
                    key: key.clone(),
                    expected: shape.to_vec(),
                })?;
                if found.shape != shape {
                    return Err(ParameterError::Shape {
                        origin: w.origin.clone(),
                        key,
                        expected: shape.to_vec(),
                        found: found.shape.clone(),
                    });
                }
                Tensor::from_data(TensorData::new(found.values.clone(), shape), &self.device)
            }
            Source::Random => match init {
                Init::Zeros => Tensor::zeros(shape, &self.device),
                Init::Ones => Tensor::ones(shape, &self.device),
                Init::FanIn(n) => {
                    let bound = 1.0 / (n as f64).sqrt();
                    Tensor::random(shape, Distribution::Uniform(-bound, bound), &self.device)
                }
            },
        };
        let value = match self.compute {
            Some(narrow) if self.keep_narrow && D > 1 => value.cast(narrow),
            _ => value,
        };
        let scalars: usize = shape.iter().product();
        self.count += scalars as u64;
        if D > 1 {
            self.macs += (scalars * self.side.max(1).pow(2)) as u64;
        }
        // The id is derived from the name, so an optimiser state finds its parameter again after a restart.
        let id = parameter_id(&key);
        self.names.insert(id, key);
        Ok(Param::initialized(id, value))
    }
}

fn parameter_id(key: &str) -> ParamId {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    ParamId::from(hasher.finish())
}

/// Reads a module's parameters back under their published names.
pub fn collect<M: Module>(module: &M, names: &HashMap<ParamId, String>) -> BTreeMap<String, WeightData> {
    struct Collector<'a> {
        names: &'a HashMap<ParamId, String>,
        out: BTreeMap<String, WeightData>,
    }
    impl ModuleVisitor for Collector<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let Some(name) = self.names.get(&param.id) else { return };
            let data = param.val().into_data().convert::<f32>();
            let shape = data.shape().to_vec();
            let values = data.try_to_vec::<f32>().unwrap_or_default();
            self.out.insert(name.clone(), WeightData { shape, values });
        }
    }
    let mut collector = Collector { names, out: BTreeMap::new() };
    module.visit(&mut collector);
    collector.out
}
