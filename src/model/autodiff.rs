//! Layers that are trained with this crate's own kernels, as operations of the tensor library with their gradients beside them: on a
//! processor with those of [`super::cpu`], on a graphics card with those of [`super::gpu`].
//!
//! The library's own operations would do, but its convolutions are several times slower, and a group norm made of elementwise operations
//! reads and writes a feature map ten times each way. The mathematics is the same (`tests` below).

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::fusion::custom::TensorSpec;
use burn::backend::ops::FloatTensorOps;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, TensorMetadata, backend_extension};
use burn::tensor::{DType, Device, FloatDType, Tensor, TensorData};

use super::cpu::{kernels, training};

/// Builds that reach a card's matrix units leave cards to the library, whose convolutions are made for these.
const CARDS: bool = !cfg!(any(feature = "vulkan", feature = "cuda"));

/// Whether layers on this device are differentiated here.
fn is_ours(device: &Device) -> bool {
    #[cfg(test)]
    if BY_THE_LIBRARY.get() {
        return false;
    }
    device.is_autodiff() && (CARDS || device.clone().inner() == Device::flex())
}

#[cfg(test)]
thread_local! {
    static BY_THE_LIBRARY: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// A 3 x 3 convolution with padding 1 over `x`, `[batch, height, width, input]`; `weight` is `[output, input, 3, 3]`. Both numbers of
/// channels must be multiples of 16.
pub(super) fn convolution(x: Tensor<4>, weight: Tensor<4>, bias: Tensor<1>) -> Tensor<4> {
    Tensor::from_dispatch(Dispatch::trained_convolution(x.into_dispatch(), weight.into_dispatch(), bias.into_dispatch()))
}

/// Group norm of `x`, `[batch, height, width, channel]`, then a map of its channels (`affine`, `[2, batch, channel]`: scales, then shifts),
/// and if so asked SiLU.
pub(super) fn norm(x: Tensor<4>, affine: Tensor<3>, silu: bool) -> Tensor<4> {
    Tensor::from_dispatch(Dispatch::trained_norm(x.into_dispatch(), affine.into_dispatch(), silu))
}

/// The map of a norm's channels for so many images, as [`norm`] takes it, from the norm's own factors and summands (`[channel]`).
/// Only on cards.
pub(super) fn affine(gain: Tensor<1>, offset: Tensor<1>, images: usize) -> Tensor<3> {
    Tensor::from_dispatch(Dispatch::trained_affine(gain.into_dispatch(), offset.into_dispatch(), images))
}

/// The same with a modulation by image on top (`[image, 2 * channel]`: what is added to a factor of one, then summands).
pub(super) fn modulated(gain: Tensor<1>, offset: Tensor<1>, modulation: Tensor<2>) -> Tensor<3> {
    Tensor::from_dispatch(Dispatch::trained_modulation(gain.into_dispatch(), offset.into_dispatch(), modulation.into_dispatch()))
}

/// Whether products on this device are differentiated here: a processor's are the library's.
pub(super) fn multiplies(device: &Device) -> bool {
    is_ours(device) && device.clone().inner() != Device::flex()
}

/// `x`, `[rows, in]`, through a fully connected layer with `weight`, `[out, in]`. `out` must be a multiple of 16.
pub(super) fn dense(x: Tensor<2>, weight: Tensor<2>, bias: Tensor<1>) -> Tensor<2> {
    Tensor::from_dispatch(Dispatch::trained_dense(x.into_dispatch(), weight.into_dispatch(), bias.into_dispatch()))
}

/// The products of matrices, `[.., row, depth]` times `[.., depth, column]`, of the same axes before.
pub(super) fn product(a: Tensor<4>, b: Tensor<4>) -> Tensor<4> {
    Tensor::from_dispatch(Dispatch::trained_product(a.into_dispatch(), b.into_dispatch()))
}

#[backend_extension(Flex, Cube, Fusion, Autodiff)]
pub trait TrainedLayers: Backend {
    #[fusion(meta = |x, _, bias| with_channels(x, bias.shape[0]))]
    fn trained_convolution(x: FloatTensor<Self>, weight: FloatTensor<Self>, bias: FloatTensor<Self>) -> FloatTensor<Self>;

    #[fusion(dtype = x, shape = x)]
    fn trained_norm(x: FloatTensor<Self>, affine: FloatTensor<Self>, silu: bool) -> FloatTensor<Self>;

    #[fusion(meta = |x, _, bias| with_channels(x, bias.shape[0]))]
    fn trained_dense(x: FloatTensor<Self>, weight: FloatTensor<Self>, bias: FloatTensor<Self>) -> FloatTensor<Self>;

    #[fusion(meta = |a, b| with_channels(a, b.shape[3]))]
    fn trained_product(a: FloatTensor<Self>, b: FloatTensor<Self>) -> FloatTensor<Self>;
}

/// What a processor does with the library's operations.
#[backend_extension(Cube, Fusion, Autodiff)]
pub trait Affines: Backend {
    #[fusion(meta = |gain, _, images| maps(gain, *images))]
    fn trained_affine(gain: FloatTensor<Self>, offset: FloatTensor<Self>, images: usize) -> FloatTensor<Self>;

    #[fusion(meta = |gain, _, modulation| maps(gain, modulation.shape[0]))]
    fn trained_modulation(gain: FloatTensor<Self>, offset: FloatTensor<Self>, modulation: FloatTensor<Self>) -> FloatTensor<Self>;
}

/// Scales and shifts of so many images, for as many channels as there are gains.
fn maps(gain: &TensorSpec, images: usize) -> TensorSpec {
    let mut spec = gain.clone();
    spec.shape = [2, images, gain.shape[0]].into();
    spec
}

/// `x` with another last axis.
pub(super) fn with_channels(x: &TensorSpec, channels: usize) -> TensorSpec {
    let mut spec = x.clone();
    let last = spec.shape.num_dims() - 1;
    spec.shape[last] = channels;
    spec
}

pub(crate) type Plain = FloatTensor<Flex>;

/// The values of tensors that are laid out row by row.
pub(crate) fn floats(tensor: &Plain) -> &[f32] {
    tensor.as_slice().expect("32-bit floats, row by row")
}

fn plain<const D: usize>(values: Vec<f32>, shape: [usize; D]) -> Plain {
    Plain::from_data(TensorData::new(values, shape))
}

fn dims<const D: usize>(tensor: &Plain) -> [usize; D] {
    let shape = tensor.layout().shape();
    std::array::from_fn(|i| shape[i])
}

/// Row by row both of them.
fn normed(x: &Plain, affine: &Plain, silu: bool) -> (Plain, Vec<[f64; 2]>) {
    let size: [usize; 4] = dims(x);
    let [scale, shift] = halves(affine);
    let (out, statistics) = training::norm(kernels(), floats(x), size[0], scale, shift, silu);
    (plain(out, size), statistics)
}

/// Scales and shifts.
fn halves(affine: &Plain) -> [&[f32]; 2] {
    let values = floats(affine);
    let (scale, shift) = values.split_at(values.len() / 2);
    [scale, shift]
}

/// A fully connected layer of the library's operations.
fn connected<B: Backend>(x: FloatTensor<B>, weight: FloatTensor<B>, bias: FloatTensor<B>) -> FloatTensor<B> {
    let output = bias.shape()[0];
    B::float_add(B::float_matmul(x, B::float_transpose(weight)), B::float_reshape(bias, [1, output].into()))
}

impl TrainedLayers for Flex {
    fn trained_convolution(x: Plain, weight: Plain, bias: Plain) -> Plain {
        let [x, weight, bias] = [x, weight, bias].map(|tensor| tensor.to_contiguous());
        let ([batch, height, width, _], [output]) = (dims(&x), dims(&bias));
        let out = training::convolution(kernels(), floats(&x), [batch, height, width], floats(&weight), floats(&bias));
        plain(out, [batch, height, width, output])
    }

    fn trained_norm(x: Plain, affine: Plain, silu: bool) -> Plain {
        normed(&x.to_contiguous(), &affine.to_contiguous(), silu).0
    }

    fn trained_dense(x: Plain, weight: Plain, bias: Plain) -> Plain {
        connected::<Self>(x, weight, bias)
    }

    fn trained_product(a: Plain, b: Plain) -> Plain {
        Self::float_matmul(a, b)
    }
}

impl<C: CheckpointStrategy> TrainedLayers for Autodiff<Flex, C> {
    fn trained_convolution(x: FloatTensor<Self>, weight: FloatTensor<Self>, bias: FloatTensor<Self>) -> FloatTensor<Self> {
        let learns = weight.is_tracked();
        let ((x, x_node), (weight, weight_node), (bias, bias_node)) = (x.into_parts(), weight.into_parts(), bias.into_parts());
        // Once, and not again on the way back.
        let x = x.to_contiguous();
        let out = Flex::trained_convolution(x.clone(), weight.clone(), bias);
        match Convolution.prepare::<C>([x_node, weight_node, bias_node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((learns.then_some(x), weight), out),
            OpsKind::UnTracked(prep) => prep.finish(out),
        }
    }

    fn trained_norm(x: FloatTensor<Self>, affine: FloatTensor<Self>, silu: bool) -> FloatTensor<Self> {
        let ((x, x_node), (affine, affine_node)) = (x.into_parts(), affine.into_parts());
        let [x, affine] = [x, affine].map(|tensor| tensor.to_contiguous());
        let (out, statistics) = normed(&x, &affine, silu);
        match Norm.prepare::<C>([x_node, affine_node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(([x, affine], statistics, silu), out),
            OpsKind::UnTracked(prep) => prep.finish(out),
        }
    }

    fn trained_dense(x: FloatTensor<Self>, weight: FloatTensor<Self>, bias: FloatTensor<Self>) -> FloatTensor<Self> {
        connected::<Self>(x, weight, bias)
    }

    fn trained_product(a: FloatTensor<Self>, b: FloatTensor<Self>) -> FloatTensor<Self> {
        Self::float_matmul(a, b)
    }
}

#[derive(Debug)]
struct Convolution;

impl Backward<Flex, 3> for Convolution {
    /// Input, where the weight learns, and weight.
    type State = (Option<Plain>, Plain);

    fn backward(self, ops: Ops<Self::State, 3>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let gradient = gradients.consume::<Flex>(&ops.node).to_contiguous();
        let (x, weight) = ops.state;
        let weight = weight.to_contiguous();
        let ([batch, height, width, _], [_, input, ..]) = (dims::<4>(&gradient), dims::<4>(&weight));
        let [by_x, by_weight, by_bias] = ops.parents;
        let wanted = [by_x.is_some(), by_bias.is_some()];
        let (x, size) = (x.as_ref().map(floats), [batch, height, width]);
        let found = training::convolution_back(kernels(), x, size, floats(&weight), floats(&gradient), wanted);
        if let (Some(node), Some(found)) = (by_x, found.x) {
            gradients.register::<Flex>(node.id, plain(found, [batch, height, width, input]));
        }
        if let (Some(node), Some(found)) = (by_weight, found.weight) {
            gradients.register::<Flex>(node.id, plain::<4>(found, dims(&weight)));
        }
        if let (Some(node), Some(found)) = (by_bias, found.bias) {
            let output = found.len();
            gradients.register::<Flex>(node.id, plain(found, [output]));
        }
    }
}

#[derive(Debug)]
struct Norm;

impl Backward<Flex, 2> for Norm {
    /// Input, scales and shifts, the groups' statistics, and whether there is SiLU.
    type State = ([Plain; 2], Vec<[f64; 2]>, bool);

    fn backward(self, ops: Ops<Self::State, 2>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let gradient = gradients.consume::<Flex>(&ops.node).to_contiguous();
        let ([x, affine], statistics, silu) = ops.state;
        let [scale, shift] = halves(&affine);
        let [by_x, by_scale, by_shift] = training::norm_back(kernels(), floats(&x), &statistics, scale, shift, silu, floats(&gradient));
        let [x_node, affine_node] = ops.parents;
        if let Some(node) = x_node {
            gradients.register::<Flex>(node.id, plain::<4>(by_x, dims(&x)));
        }
        if let Some(node) = affine_node {
            gradients.register::<Flex>(node.id, plain::<3>([by_scale, by_shift].concat(), dims(&affine)));
        }
    }
}

/// A feature map on its way through a network, in the order that its device computes in.
#[derive(Debug, Clone)]
pub struct Map {
    values: Tensor<4>,
    /// `[batch, height, width, channel]`, as this crate's own kernels want it, and not `[batch, channel, height, width]`.
    channels_last: bool,
}

impl Map {
    /// Of `[batch, channel, height, width]`, for a network that multiplies in `compute`. In a narrower type its products are the
    /// library's, and changing the order around every one of them would only cost time.
    pub fn new(x: Tensor<4>, compute: Option<FloatDType>) -> Self {
        match is_ours(&x.device()) && x.dtype() == DType::F32 && compute.is_none() {
            true => Self { values: x.permute([0, 2, 3, 1]), channels_last: true },
            false => Self { values: x, channels_last: false },
        }
    }

    /// `[batch, channel, height, width]`.
    pub fn into_tensor(self) -> Tensor<4> {
        if self.channels_last { self.values.permute([0, 3, 1, 2]) } else { self.values }
    }

    /// `[batch, channel, height, width]`.
    pub fn dims(&self) -> [usize; 4] {
        let dims = self.values.dims();
        if self.channels_last { [dims[0], dims[3], dims[1], dims[2]] } else { dims }
    }

    /// The values as they are, if the channels are last.
    pub(super) fn channels_last(&self) -> Option<&Tensor<4>> {
        self.channels_last.then_some(&self.values)
    }

    /// `[batch, channel, height, width]` in this one's order.
    pub(super) fn beside(&self, x: Tensor<4>) -> Self {
        self.with(if self.channels_last { x.permute([0, 2, 3, 1]) } else { x })
    }

    /// The same order of other values.
    pub(super) fn with(&self, values: Tensor<4>) -> Self {
        Self { values, channels_last: self.channels_last }
    }

    /// Something that wants channels first.
    pub(super) fn through(self, layer: impl FnOnce(Tensor<4>) -> Tensor<4>) -> Self {
        let channels_last = self.channels_last;
        let values = layer(self.into_tensor());
        Self { values: if channels_last { values.permute([0, 2, 3, 1]) } else { values }, channels_last }
    }

    /// Channels of both, one after the other.
    pub(super) fn cat(self, other: Self) -> Self {
        let dim = if self.channels_last { 3 } else { 1 };
        Self { values: Tensor::cat(vec![self.values, other.values], dim), channels_last: self.channels_last }
    }
}

impl std::ops::Add for Map {
    type Output = Self;

    /// Two of the same order.
    fn add(self, other: Self) -> Self {
        Self { values: self.values + other.values, channels_last: self.channels_last }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::LazyLock;

    use burn::module::{Module, ModuleVisitor, Param};
    use burn::tensor::Distribution;
    use burn::tensor::activation::silu;
    use burn::tensor::module::conv2d;
    use burn::tensor::ops::ConvOptions;

    use super::*;
    use crate::device::DeviceChoice;
    use crate::model::layers::GROUPS;

    /// What [`check_gradients`] bears.
    const GRADIENTS: f64 = 3e-4;

    /// What networks give on this thread where they are put together from the library's operations alone.
    fn by_the_library<T>(work: impl FnOnce() -> T) -> T {
        BY_THE_LIBRARY.set(true);
        let result = work();
        BY_THE_LIBRARY.set(false);
        result
    }

    /// Compares the gradients of a scalar by the input and by every parameter of a network (on a processor) with those of the library's
    /// operations there; then that by the input alone, with the parameters frozen. `scalar` works on its tensor's device.
    pub(crate) fn check_gradients<M: Module>(network: M, shape: [usize; 4], scalar: impl Fn(&M, Tensor<4>) -> Tensor<1>) {
        struct Found<'a>(&'a burn::tensor::Gradients, Vec<Option<Vec<f32>>>);
        impl ModuleVisitor for Found<'_> {
            fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
                self.1.push(param.val().grad(self.0).map(values));
            }
        }
        fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
            tensor.into_data().try_to_vec().expect("32-bit floats")
        }

        let home = Device::flex().autodiff();
        home.seed(3);
        let x = Tensor::<4>::random(shape, Distribution::Normal(0.0, 0.5), &home);
        let length = |values: &mut dyn Iterator<Item = f32>| values.map(|v| f64::from(v).powi(2)).sum::<f64>().sqrt();
        for frozen in [false, true] {
            let gradients_on = |device: &Device| {
                let network = network.clone().fork(device);
                let network = if frozen { network.no_grad() } else { network.set_require_grad(true) };
                let x = moved(&x, device);
                assert!(BY_THE_LIBRARY.get() || Map::new(x.clone(), None).channels_last().is_some(), "nothing to compare");
                let gradients = scalar(&network, x.clone()).backward();
                let mut found = Found(&gradients, vec![x.grad(&gradients).map(values)]);
                network.visit(&mut found);
                found.1
            };
            let want = by_the_library(|| gradients_on(&home));
            // Some are nothing but rounding: a bias before a norm makes no difference.
            let longest = want.iter().flatten().map(|want| length(&mut want.iter().copied())).fold(0.0, f64::max);
            for device in devices() {
                let got = gradients_on(&device);
                assert_eq!(got.len(), want.len());
                for (i, (got, want)) in got.into_iter().zip(&want).enumerate() {
                    let wanted = i == 0 || !frozen;
                    assert_eq!([got.is_some(), want.is_some()], [wanted; 2], "gradient {i}, {device:?}");
                    let (got, want) = (got.unwrap_or_default(), want.as_deref().unwrap_or_default());
                    assert_eq!(got.len(), want.len(), "{i}");
                    let apart = length(&mut got.iter().zip(want).map(|(a, b)| a - b));
                    let error = apart / length(&mut want.iter().copied()).max(1e-3 * longest);
                    assert!(error < GRADIENTS, "gradient {i} of {} values, {device:?}: {error:.1e}", want.len());
                }
            }
        }
    }

    fn random<const D: usize>(shape: [usize; D], device: &Device) -> Tensor<D> {
        Tensor::random(shape, Distribution::Normal(0.3, 1.0), device).require_grad()
    }

    /// `|got - want| / |want|`, Euclidean.
    fn error<const D: usize>(got: Tensor<D>, want: Tensor<D>) -> f32 {
        assert_eq!(got.dims(), want.dims());
        let length = |t: Tensor<D>| t.square().sum().sqrt().into_scalar::<f32>();
        length(got - want.clone()) / length(want).max(1e-12)
    }

    /// Output and gradients, as flat vectors, of a scalar that weighs every element of the output differently.
    fn passes<const D: usize>(out: &Tensor<D>, inputs: [&dyn Fn(&burn::tensor::Gradients) -> Tensor<1>; 3]) -> Vec<Tensor<1>> {
        let count: usize = out.dims().iter().product();
        let flat: Tensor<1> = out.clone().reshape([count]);
        let weights: Vec<f32> = (0..count).map(|i| ((i * 37 % 101) as f32 * 0.7).sin()).collect();
        let gradients = (flat.clone() * Tensor::from_data(TensorData::new(weights, [count]), &out.device())).sum().backward();
        let found = inputs.map(|input| input(&gradients));
        std::iter::once(flat.inner()).chain(found).collect()
    }

    fn by<const D: usize>(input: &Tensor<D>) -> impl Fn(&burn::tensor::Gradients) -> Tensor<1> + '_ {
        |gradients| {
            let gradient = input.grad(gradients).expect("a gradient");
            let count: usize = gradient.dims().iter().product();
            gradient.reshape([count])
        }
    }

    fn compare(what: &str, got: Vec<Tensor<1>>, want: Vec<Tensor<1>>) {
        for (i, (got, want)) in got.into_iter().zip(want).enumerate() {
            let error = error(got, want);
            assert!(error < 1e-4, "{what}, {}: {error:.1e}", ["output", "first", "second", "third"][i]);
        }
    }

    /// The processor, and the card where wgpu finds one.
    fn devices() -> Vec<Device> {
        static CARD: LazyLock<Option<Device>> = LazyLock::new(|| {
            let card = DeviceChoice::Gpu.open();
            if card.is_err() {
                println!("SKIPPED layers on a card: wgpu finds no adapter on this machine");
            }
            card.map(|found| found.device).ok()
        });
        [Device::flex()].into_iter().chain(CARD.clone().filter(|_| CARDS)).map(Device::autodiff).collect()
    }

    fn moved<const D: usize>(tensor: &Tensor<D>, device: &Device) -> Tensor<D> {
        Tensor::from_data(tensor.to_data(), device).require_grad()
    }

    fn home(tensors: Vec<Tensor<1>>) -> Vec<Tensor<1>> {
        tensors.into_iter().map(|tensor| Tensor::from_data(tensor.into_data(), &Device::flex())).collect()
    }

    #[test]
    fn only_whole_floats_have_their_channels_last() {
        let device = Device::flex().autodiff();
        let last = |device: &Device, compute| Map::new(Tensor::zeros([1, 3, 2, 2], device), compute).channels_last().is_some();
        assert!(last(&device, None));
        assert!(!last(&device, Some(FloatDType::BF16)));
        assert!(!last(&device.inner(), None));
    }

    fn first(x: Tensor<4>) -> Tensor<4> {
        x.permute([0, 3, 1, 2])
    }

    fn last(x: Tensor<4>) -> Tensor<4> {
        x.permute([0, 2, 3, 1])
    }

    #[test]
    fn convolutions_and_their_gradients_agree_with_the_tensor_library() {
        let device = Device::flex().autodiff();
        for [batch, height, width, input, output] in [
            [1, 1, 1, 16, 16],
            [2, 8, 8, 32, 48],
            [3, 5, 7, 48, 16],
            [1, 16, 16, 64, 64],
            [5, 4, 4, 16, 96],
            [2, 2, 13, 32, 32],
            [9, 12, 3, 80, 112],
            // Enough tiles for several parts of a card's product, and on a card more than are transformed at a time.
            [18, 32, 32, 16, 16],
        ] {
            let (x, weight, bias) =
                (random([batch, height, width, input], &device), random([output, input, 3, 3], &device), random([output], &device));
            let options = ConvOptions::new([1, 1], [1, 1], [1, 1], 1);
            let out = last(conv2d(first(x.clone()), weight.clone(), Some(bias.clone()), options));
            let want = passes(&out, [&by(&x), &by(&weight), &by(&bias)]);
            for device in devices() {
                let (x, weight, bias) = (moved(&x, &device), moved(&weight, &device), moved(&bias, &device));
                let out = convolution(x.clone(), weight.clone(), bias.clone());
                let got = passes(&out, [&by(&x), &by(&weight), &by(&bias)]);
                compare(&format!("{batch} x {height} x {width}, {input} to {output}, {device:?}"), home(got), want.clone());
            }
        }
    }

    #[test]
    fn products_and_their_gradients_agree_with_the_tensor_library() {
        let device = Device::flex().autodiff();
        // One row, more depth than one part, ends of blocks, and enough for the largest.
        for [rows, input, output] in [[1, 48, 16], [2000, 32, 48], [37, 100, 80], [4096, 64, 1024]] {
            let (x, weight, bias) = (random([rows, input], &device), random([output, input], &device), random([output], &device));
            let want =
                passes(&(x.clone().matmul(weight.clone().transpose()) + bias.clone().unsqueeze()), [&by(&x), &by(&weight), &by(&bias)]);
            for device in devices() {
                let (x, weight, bias) = (moved(&x, &device), moved(&weight, &device), moved(&bias, &device));
                let got = passes(&dense(x.clone(), weight.clone(), bias.clone()), [&by(&x), &by(&weight), &by(&bias)]);
                compare(&format!("{rows} rows, {input} to {output}, {device:?}"), home(got), want.clone());
            }
        }
        for [n, heads, rows, depth, columns] in [[2, 1, 64, 32, 64], [1, 3, 20, 70, 9], [3, 2, 5, 16, 33]] {
            let (a, b) = (random([n, rows, heads, depth], &device), random([n, heads, columns, depth], &device));
            // As attention has them: nothing lies row by row.
            let both = |a: &Tensor<4>, b: &Tensor<4>| [a.clone().swap_dims(1, 2), b.clone().swap_dims(2, 3)];
            let [left, right] = both(&a, &b);
            let want = passes(&left.matmul(right), [&by(&a), &by(&b), &by(&b)]);
            for device in devices() {
                let (a, b) = (moved(&a, &device), moved(&b, &device));
                let [left, right] = both(&a, &b);
                let got = passes(&product(left, right), [&by(&a), &by(&b), &by(&b)]);
                compare(&format!("{n} x {heads}, {rows} x {depth} x {columns}, {device:?}"), home(got), want.clone());
            }
        }
    }

    #[test]
    fn norms_and_their_gradients_agree_with_the_tensor_library() {
        let device = Device::flex().autodiff();
        let cases = [
            ([1, 3, 1, 32], true),
            ([2, 8, 8, 64], true),
            ([3, 5, 7, 96], false),
            ([2, 16, 9, 192], true),
            ([4, 2, 3, 32], false),
            ([2, 3, 5, 128], true),
            ([600, 4, 2, 64], true),
        ];
        // Ordinary, far from zero, nearly constant, and both.
        let levels = [(0.0, 1.0), (50.0, 1.0), (2.0, 1e-3), (-50.0, 1e-3)];
        for (([batch, height, width, channels], with_silu), (level, spread)) in
            cases.into_iter().flat_map(|case| levels.map(|level| (case, level)))
        {
            let noise = Tensor::<4>::random([batch, height, width, channels], Distribution::Normal(0.3, 1.0), &device);
            let x = (noise * spread + level).require_grad();
            let (scale, shift) = (random([batch, channels], &device), random([batch, channels], &device));
            let of_devices = devices().into_iter().map(|device| {
                let (x, scale, shift) = (moved(&x, &device), moved(&scale, &device), moved(&shift, &device));
                let out = norm(x.clone(), Tensor::stack(vec![scale.clone(), shift.clone()], 0), with_silu);
                (device, home(passes(&out, [&by(&x), &by(&scale), &by(&shift)])))
            });
            let of_devices: Vec<_> = of_devices.collect();
            let inputs: [&dyn Fn(&burn::tensor::Gradients) -> Tensor<1>; 3] = [&by(&x), &by(&scale), &by(&shift)];
            // What makes no difference is taken off first: here at least single precision shall be enough.
            let grouped = first(x.clone() - level).reshape([batch, GROUPS, channels / GROUPS * height * width]);
            let centred = grouped.clone() - grouped.mean_dim(2);
            let deviation = (centred.clone().square().mean_dim(2) + 1e-5).sqrt();
            let normed = (centred / deviation).reshape([batch, channels, height, width]);
            let [scale, shift] = [&scale, &shift].map(|t| t.clone().reshape([batch, channels, 1, 1]));
            let out = normed * scale + shift;
            let want = passes(&last(if with_silu { silu(out) } else { out }), inputs);
            for (device, got) in of_devices {
                compare(&format!("{batch} x {height} x {width}, {channels}, {level} +- {spread}, {device:?}"), got, want.clone());
            }
        }
    }

    #[test]
    fn modulations_and_their_gradients_agree_with_the_tensor_library() {
        let home_device = Device::flex().autodiff();
        for (images, channels) in [(1, 32), (5, 96), (70, 64)] {
            let (gain, offset) = (random([channels], &home_device), random([channels], &home_device));
            let modulation = random([images, 2 * channels], &home_device);
            let all = |values: &Tensor<1>| values.clone().reshape([1, channels]).expand([images, channels]);
            let half = |first: usize| modulation.clone().slice([0..images, first..first + channels]);
            let factor = half(0) + 1.0;
            let plain: Tensor<3> = Tensor::stack(vec![all(&gain), all(&offset)], 0);
            let both: Tensor<3> = Tensor::stack(vec![all(&gain) * factor.clone(), all(&offset) * factor + half(channels)], 0);
            let want = passes(&both, [&by(&gain), &by(&offset), &by(&modulation)]);
            let want_plain = passes(&plain, [&by(&gain), &by(&offset), &by(&gain)]);
            for device in devices().into_iter().filter(multiplies) {
                let (gain, offset, modulation) = (moved(&gain, &device), moved(&offset, &device), moved(&modulation, &device));
                let got =
                    passes(&modulated(gain.clone(), offset.clone(), modulation.clone()), [&by(&gain), &by(&offset), &by(&modulation)]);
                compare(&format!("{images} images, {channels} channels"), home(got), want.clone());
                let got = passes(&affine(gain.clone(), offset.clone(), images), [&by(&gain), &by(&offset), &by(&gain)]);
                compare(&format!("{images} images, {channels} channels, no modulation"), home(got), want_plain.clone());
            }
        }
    }
}
