//! From losses to weights: Adam, gradient clipping, warm-up and the moving average that is used in the end.

use std::collections::{BTreeMap, HashMap};

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::optim::GradientsParams;
use burn::tensor::container::TensorContainer;
use burn::tensor::{Device, FloatDType, Tensor, TensorData};
use serde::{Deserialize, Serialize};

use super::adam::{Kept, Squares, Step};
use super::parts::Threads;
use crate::model::parameters::{WeightData, collect};
use crate::model::{ParameterError, Parameters, Weights};

/// How a network is trained; everything that, with the data, decides the result.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Hyperparameters {
    /// Images a step (128 in the paper).
    pub batch: usize,
    /// Adam's learning rate (1e-4 in the paper).
    pub rate: f64,
    /// Steps over which the learning rate rises from 0.
    pub warmup: u64,
    /// Decay of the moving average (0.9999 in the paper); less in the first steps.
    pub ema: f64,
    /// Largest Euclidean norm of all gradients together.
    pub clip: f64,
    /// AdamW's share of every weight that is taken off a step, times the rate; 0 = plain Adam.
    #[serde(default)]
    pub weight_decay: f64,
    /// DPM only: weight `min(snr, g) / snr` (Hang et al., 2023). `None` = the paper's plain mean squared error.
    pub min_snr: Option<f64>,
    /// Of weights, data order, noise and timesteps.
    pub seed: u64,
    /// Mixed precision (Micikevicius et al., 2018) in bfloat16, which needs no scaling of the loss: products are bfloat16, all else and
    /// the weights 32-bit.
    #[serde(default)]
    pub bf16: bool,
}

impl Hyperparameters {
    /// What products are computed in, if not in the weights' own type.
    pub fn compute(&self) -> Option<FloatDType> {
        self.bf16.then_some(FloatDType::BF16)
    }
}

impl Default for Hyperparameters {
    fn default() -> Self {
        Self { batch: 128, rate: 1e-4, warmup: 500, ema: 0.9999, clip: 1.0, weight_decay: 0.0, min_snr: None, seed: 0, bf16: false }
    }
}

/// A network in training with everything that its next step depends on.
///
/// Parameters that require gradients are trained; all others stay as they are. The averages are kept here and not in `burn`'s module
/// optimizer because that one restores its state onto the *default* device, which need not exist on this machine.
pub struct Learner<M: Module> {
    network: M,
    names: HashMap<ParamId, String>,
    hyperparameters: Hyperparameters,
    moments: Moments,
    step: u64,
}

/// Per trained parameter: Adam's two averages and the moving average of the weights. No entry = no step taken yet.
#[derive(Default)]
struct Moments {
    first: TensorContainer<ParamId>,
    second: TensorContainer<ParamId>,
    ema: TensorContainer<ParamId>,
}

impl<M: Module> Learner<M> {
    /// `names`: the published name of every parameter.
    pub fn new(network: M, names: HashMap<ParamId, String>, hyperparameters: Hyperparameters) -> Self {
        Self { network, names, hyperparameters, moments: Moments::default(), step: 0 }
    }

    /// The network as it is trained, on the device for differentiation.
    pub fn network(&self) -> &M {
        &self.network
    }

    /// Steps taken.
    pub fn step(&self) -> u64 {
        self.step
    }

    /// The learning rate of the next step.
    pub fn rate(&self) -> f64 {
        let h = &self.hyperparameters;
        h.rate * ((self.step + 1) as f64 / h.warmup.max(1) as f64).min(1.0)
    }

    /// One step downhill from a loss computed with [`Learner::network`].
    pub fn descend(&mut self, loss: &Tensor<1>) {
        self.update(GradientsParams::from_grads(loss.backward(), &self.network));
    }

    /// One step downhill from the mean of several losses, each with its weight in it, computed and differentiated on a thread of its own.
    /// Returns that mean, off the device for differentiation.
    pub(super) fn descend_in_parts<P: Send>(
        &mut self,
        threads: &Threads,
        parts: Vec<(f64, P)>,
        device: &Device,
        loss: impl Fn(&M, P) -> Tensor<1> + Sync,
    ) -> Tensor<1> {
        // Of their own, or all parts would grow one graph for differentiation.
        let parts = parts.into_iter().map(|part| (self.network.clone().fork(device), part)).collect();
        let found = threads.map(parts, |(network, (weight, part)): (M, (f64, P))| {
            let loss = loss(&network, part) * weight;
            (GradientsParams::from_grads(loss.backward(), &network), loss.inner())
        });
        let (gradients, losses): (Vec<_>, Vec<_>) = found.into_iter().unzip();
        self.update(sum(&self.network, gradients));
        Tensor::cat(losses, 0).sum()
    }

    fn update(&mut self, mut gradients: GradientsParams) {
        let factor = clip_factor(&self.network, &gradients, self.hyperparameters.clip);
        let rate = self.rate();
        let step = self.step as f64;
        let decay = self.hyperparameters.ema.min((1.0 + step) / (10.0 + step));
        let kept = 1.0 - rate * self.hyperparameters.weight_decay;
        if let Some(factor) = factor {
            let step = Step::new(self.step, rate, kept, decay);
            let mut update = Update { gradients: &mut gradients, factor, step, moments: &mut self.moments };
            self.network = self.network.clone().map(&mut update);
        }
        self.step += 1;
    }

    /// The moving average of the network, off the device for differentiation: what samples and bundles are made with.
    pub fn averaged(&self) -> M {
        self.network.valid().map(&mut Replace { values: &self.moments.ema })
    }

    /// The averaged weights under their published names.
    pub fn averaged_weights(&self) -> BTreeMap<String, WeightData> {
        collect(&self.averaged(), &self.names)
    }

    /// Everything the next step depends on, as named tensors: `weights.*`, `ema.*`, `adam.1.*`, `adam.2.*`.
    pub fn state(&self) -> BTreeMap<String, WeightData> {
        let network = self.network.valid();
        let with_prefix = |prefix: &str, tensors: BTreeMap<String, WeightData>| -> Vec<(String, WeightData)> {
            tensors.into_iter().map(|(name, data)| (format!("{prefix}.{name}"), data)).collect()
        };
        let mut state: BTreeMap<_, _> = with_prefix("weights", collect(&network, &self.names)).into_iter().collect();
        for (prefix, values) in [("ema", &self.moments.ema), ("adam.1", &self.moments.first), ("adam.2", &self.moments.second)] {
            let mut kept = Names { values, names: HashMap::new(), all: &self.names };
            network.visit(&mut kept);
            state.extend(with_prefix(prefix, collect(&network.clone().map(&mut Replace { values }), &kept.names)));
        }
        state
    }

    /// Begins with given weights, by their published names, instead of random ones. Adam and the averages begin anew.
    pub fn start_from(&mut self, weights: &Weights) -> Result<(), ParameterError> {
        let tensors = weights.tensors.iter().map(|(name, data)| (format!("weights.{name}"), data.clone())).collect();
        self.restore(0, &Weights { origin: weights.origin.clone(), tensors })
    }

    /// Takes up where [`Learner::state`] was taken after `step` steps.
    pub fn restore(&mut self, step: u64, state: &Weights) -> Result<(), ParameterError> {
        let mut restore = Restore { state, names: &self.names, moments: Moments::default(), error: None };
        let network = self.network.clone().map(&mut restore);
        if let Some(error) = restore.error {
            return Err(error);
        }
        (self.network, self.moments, self.step) = (network, restore.moments, step);
        Ok(())
    }
}

/// Builds a randomly initialised network. The same seed gives the same weights on the same kind of device.
pub fn initialise<R>(
    hyperparameters: &Hyperparameters,
    device: &Device,
    build: impl FnOnce(&mut Parameters) -> R,
) -> (R, HashMap<ParamId, String>) {
    // The generator belongs to the process: two networks being initialised at once would share its numbers.
    static GENERATOR: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let _alone = GENERATOR.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    device.seed(hyperparameters.seed);
    let mut parameters = Parameters::random(device);
    parameters.train_in(hyperparameters.compute());
    let network = build(&mut parameters);
    (network, parameters.into_names())
}

/// The sum of what several passes found.
fn sum<M: Module>(network: &M, gradients: Vec<GradientsParams>) -> GradientsParams {
    struct Sum {
        gradients: Vec<GradientsParams>,
        sum: GradientsParams,
    }
    impl ModuleVisitor for Sum {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let found = self.gradients.iter_mut().filter_map(|gradients| gradients.remove::<D>(param.id));
            if let Some(gradient) = found.reduce(|a, b| a + b) {
                self.sum.register(param.id, gradient);
            }
        }
    }
    let mut sum = Sum { gradients, sum: GradientsParams::new() };
    network.visit(&mut sum);
    sum.sum
}

/// The factor (`[1]`, at most 1) that brings all gradients together to a norm of at most `limit`. It stays on the device. `None` where
/// there are no gradients.
fn clip_factor<M: Module>(network: &M, gradients: &GradientsParams, limit: f64) -> Option<Tensor<1>> {
    struct Sum<'a> {
        gradients: &'a GradientsParams,
        squares: Squares,
    }
    impl ModuleVisitor for Sum<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if let Some(gradient) = self.gradients.get::<D>(param.id) {
                self.squares.add(gradient);
            }
        }
    }
    let mut sum = Sum { gradients, squares: Squares::default() };
    network.visit(&mut sum);
    let norm = sum.squares.total()?.sqrt();
    Some(((norm + 1e-6).recip() * limit).clamp_max(1.0))
}

/// Adam's step and the moving average, parameter by parameter.
struct Update<'a> {
    gradients: &'a mut GradientsParams,
    factor: Tensor<1>,
    step: Step,
    moments: &'a mut Moments,
}

impl ModuleMapper for Update<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let (id, value, mapper) = param.consume();
        let Some(gradient) = self.gradients.remove::<D>(id) else {
            return Param::from_mapped_value(id, value, mapper);
        };
        let weight = value.inner();
        let moment = |of: &mut TensorContainer<ParamId>| of.remove::<Tensor<D>>(&id).unwrap_or_else(|| weight.zeros_like());
        let (first, second) = (moment(&mut self.moments.first), moment(&mut self.moments.second));
        let average = self.moments.ema.remove::<Tensor<D>>(&id).unwrap_or_else(|| weight.clone());
        let kept = Kept { weight, first, second, average }.after(self.step, gradient, &self.factor);
        self.moments.first.register(id, kept.first);
        self.moments.second.register(id, kept.second);
        self.moments.ema.register(id, kept.average);
        Param::from_mapped_value(id, kept.weight.autodiff().require_grad(), mapper)
    }
}

/// Puts values in the place of those parameters that have one.
struct Replace<'a> {
    values: &'a TensorContainer<ParamId>,
}

impl ModuleMapper for Replace<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let value = self.values.get::<Tensor<D>>(&param.id);
        param.map(|old| value.unwrap_or(old))
    }
}

/// Collects the names of those parameters that have a value.
struct Names<'a> {
    values: &'a TensorContainer<ParamId>,
    names: HashMap<ParamId, String>,
    all: &'a HashMap<ParamId, String>,
}

impl ModuleVisitor for Names<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if self.values.get::<Tensor<D>>(&param.id).is_some()
            && let Some(name) = self.all.get(&param.id)
        {
            self.names.insert(param.id, name.clone());
        }
    }
}

/// Puts a saved state back: weights always, averages where there are any.
struct Restore<'a> {
    state: &'a Weights,
    names: &'a HashMap<ParamId, String>,
    moments: Moments,
    error: Option<ParameterError>,
}

impl Restore<'_> {
    fn find<const D: usize>(&self, key: String, like: &Tensor<D>) -> Result<Tensor<D>, ParameterError> {
        let (origin, expected) = (self.state.origin.clone(), like.dims().to_vec());
        match self.state.tensors.get(&key) {
            None => Err(ParameterError::Missing { origin, key, expected }),
            Some(data) if data.shape != expected => Err(ParameterError::Shape { origin, key, expected, found: data.shape.clone() }),
            Some(data) => Ok(Tensor::from_data(TensorData::new(data.values.clone(), like.dims()), &like.device().inner())),
        }
    }
}

impl ModuleMapper for Restore<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(name) = self.names.get(&param.id) else { return param };
        let (id, old, mapper) = param.consume();
        for (prefix, values) in [("ema", 0), ("adam.1", 1), ("adam.2", 2)] {
            let key = format!("{prefix}.{name}");
            if !self.state.tensors.contains_key(&key) {
                continue;
            }
            match self.find(key, &old) {
                Ok(value) => [&mut self.moments.ema, &mut self.moments.first, &mut self.moments.second][values].register(id, value),
                Err(error) => self.error = Some(error),
            }
        }
        let value = match self.find(format!("weights.{name}"), &old) {
            Ok(value) => value.autodiff().set_require_grad(old.is_require_grad()),
            Err(error) => {
                self.error = Some(error);
                old
            }
        };
        Param::from_mapped_value(id, value, mapper)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::DeviceChoice;
    use crate::model::LatentDpm;
    use crate::training::latent_dpm;

    #[test]
    fn a_card_takes_the_steps_of_a_processor() {
        let Ok(card) = DeviceChoice::Gpu.open() else {
            println!("SKIPPED a_card_takes_the_steps_of_a_processor: wgpu finds no adapter on this machine");
            return;
        };
        let hyperparameters = Hyperparameters { rate: 1e-3, warmup: 1, clip: 0.1, weight_decay: 0.1, ..Hyperparameters::default() };
        let devices = [Device::flex(), card.device];
        let [mut home, mut away] = devices
            .each_ref()
            .map(|device| latent_dpm::learner(&latent_dpm::default_network(4), hyperparameters, device).expect("a latent DPM"));
        away.restore(0, &Weights { origin: "test".into(), tensors: home.state() }).expect("the same network");
        let z: Vec<f32> = (0..12).map(|v| (v as f32 * 0.7).sin()).collect();
        for step in 0..4 {
            let [near, far] = [(&mut home, &devices[0]), (&mut away, &devices[1])].map(|(learner, device)| {
                let z: Tensor<2> = Tensor::from_data(TensorData::new(z.clone(), [3, 4]), &device.clone().autodiff());
                let loss = learner.network().forward(z, &[1 + step, 400, 900]).square().mean();
                learner.descend(&loss);
                loss.into_scalar::<f32>()
            });
            assert!((near - far).abs() < 1e-3 * near, "{near} {far}");
        }
        let (near, far) = (home.state(), away.state());
        assert_eq!(near.len(), far.len());
        for (name, values) in &near {
            let apart = values.values.iter().zip(&far[name].values).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            // A step is 1e-3 long; where a gradient is next to nothing, its direction is rounding's.
            assert!(apart < 2e-4, "{name}: {apart}");
        }
    }

    #[test]
    fn a_batch_in_parts_takes_the_same_step() {
        let device = Device::flex();
        let hyperparameters = Hyperparameters { rate: 1e-3, warmup: 1, ..Hyperparameters::default() };
        let learner = || latent_dpm::learner(&latent_dpm::default_network(4), hyperparameters, &device).expect("a latent DPM");
        let (mut whole, mut parts) = (learner(), learner());
        let z: Vec<f32> = (0..12).map(|v| (v as f32 * 0.7).sin()).collect();
        let on = device.clone().autodiff();
        let loss = |network: &LatentDpm, (z, t): (Vec<f32>, Vec<usize>)| {
            let z: Tensor<2> = Tensor::from_data(TensorData::new(z, [t.len(), 4]), &on);
            network.forward(z, &t).square().mean()
        };
        for step in 0..3 {
            let t = [1, 400, 900].map(|t| t + step);
            let all = loss(whole.network(), (z.clone(), t.to_vec()));
            whole.descend(&all);
            let cut = vec![(1.0 / 3.0, (z[..4].to_vec(), t[..1].to_vec())), (2.0 / 3.0, (z[4..].to_vec(), t[1..].to_vec()))];
            let mean = parts.descend_in_parts(&Threads::new(2), cut, &on, loss);
            let [all, mean] = [all.inner(), mean].map(|loss| loss.into_scalar::<f32>());
            assert!((all - mean).abs() < 1e-5 * all, "{all} {mean}");
        }
        // Adam makes steps of the rate's size, so weights that moved apart would be seen.
        let (whole, parts) = (whole.state(), parts.state());
        for (name, values) in &whole {
            let far = values.values.iter().zip(&parts[name].values).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(far < 1e-4, "{name}: {far}");
        }
    }
}
