//! The layers that every network here is made of, with their parameters in the published layout.

use burn::module::{Module, Param};
use burn::tensor::activation::silu;
use burn::tensor::module::conv2d;
use burn::tensor::ops::ConvOptions;
use burn::tensor::{Device, FloatDType, Tensor};

use super::autodiff::{self, Map};
use super::cpu::LANE;
use super::parameters::{Init, ParameterError, Parameters};

/// Groups of every group norm in the published networks.
pub const GROUPS: usize = 32;

/// 2-D convolution with padding `kernel / 2`.
#[derive(Module, Debug)]
pub struct Conv {
    pub(super) weight: Param<Tensor<4>>,
    pub(super) bias: Param<Tensor<1>>,
    pub(super) stride: usize,
    padding: usize,
    #[module(skip)]
    compute: Option<FloatDType>,
}

impl Conv {
    /// `kernel` 1 or 3, `stride` 1 or 2. [`Parameters::side`] is the side of the *output*.
    pub fn new(p: &mut Parameters, name: &str, input: usize, output: usize, kernel: usize, stride: usize) -> Result<Self, ParameterError> {
        Self::with_init(p, name, input, output, kernel, stride, Init::FanIn(input * kernel * kernel))
    }

    /// A convolution that starts at zero, so that a residual branch starts as the identity.
    pub fn zeroed(p: &mut Parameters, name: &str, input: usize, output: usize, kernel: usize) -> Result<Self, ParameterError> {
        Self::with_init(p, name, input, output, kernel, 1, Init::Zeros)
    }

    fn with_init(
        p: &mut Parameters,
        name: &str,
        input: usize,
        output: usize,
        kernel: usize,
        stride: usize,
        init: Init,
    ) -> Result<Self, ParameterError> {
        p.scope(name, |p| {
            Ok(Self {
                weight: p.tensor("weight", [output, input, kernel, kernel], init)?,
                bias: p.tensor("bias", [output], init)?,
                stride,
                padding: kernel / 2,
                compute: p.compute(),
            })
        })
    }

    /// As [`Conv::forward`].
    pub fn apply(&self, x: Map) -> Map {
        let [output, input, kernel, _] = self.weight.dims();
        let whole = input.is_multiple_of(LANE) && output.is_multiple_of(LANE) && self.compute.is_none();
        let Some(values) = x.channels_last().filter(|_| whole) else { return x.through(|x| self.forward(x)) };
        let [n, h, w, _] = values.dims();
        match (kernel, self.stride) {
            (3, 1) => x.with(autodiff::convolution(values.clone(), self.weight.val(), self.bias.val())),
            // All of it, and of that every other pixel: four times the work, which Winograd's filtering takes off again.
            (3, 2) if h.is_multiple_of(2) && w.is_multiple_of(2) => {
                let all = autodiff::convolution(values.clone(), self.weight.val(), self.bias.val());
                let pairs = all.reshape([n * h / 2, 2, w / 2, 2 * output]);
                x.with(pairs.slice([0..n * h / 2, 0..1, 0..w / 2, 0..output]).reshape([n, h / 2, w / 2, output]))
            }
            (1, 1) => {
                let rows = values.clone().reshape([n * h * w, input]);
                let rows = affine_rows(rows, self.weight.val().reshape([output, input]), self.bias.val(), None);
                x.with(rows.reshape([n, h, w, output]))
            }
            _ => x.through(|x| self.forward(x)),
        }
    }

    /// `[batch, in, height, width]` to `[batch, out, height / stride, width / stride]`.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let options = ConvOptions::new([self.stride; 2], [self.padding; 2], [1, 1], 1);
        let Some(narrow) = self.compute else { return conv2d(x, self.weight.val(), Some(self.bias.val()), options) };
        let product = conv2d(x.cast(narrow), self.weight.val().cast(narrow), None, options);
        product.cast(FloatDType::F32) + self.bias.val().reshape([1, -1, 1, 1])
    }
}

/// Fully connected layer; its weight is `[out, in]`, as in the published files.
#[derive(Module, Debug)]
pub struct Linear {
    pub(super) weight: Param<Tensor<2>>,
    pub(super) bias: Param<Tensor<1>>,
    #[module(skip)]
    compute: Option<FloatDType>,
}

impl Linear {
    pub fn new(p: &mut Parameters, name: &str, input: usize, output: usize) -> Result<Self, ParameterError> {
        let side = std::mem::take(&mut p.side);
        let layer = p.scope(name, |p| {
            Ok(Self {
                weight: p.tensor("weight", [output, input], Init::FanIn(input))?,
                bias: p.tensor("bias", [output], Init::FanIn(input))?,
                compute: p.compute(),
            })
        });
        p.side = side;
        layer
    }

    /// The type that it multiplies in; `None`: the weights' own.
    pub fn compute(&self) -> Option<FloatDType> {
        self.compute
    }

    /// `[batch, in]` to `[batch, out]`.
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        affine_rows(x, self.weight.val(), self.bias.val(), self.compute)
    }
}

/// `[rows, in]` to `[rows, out]`; `weight`: `[out, in]`.
pub(super) fn affine_rows(x: Tensor<2>, weight: Tensor<2>, bias: Tensor<1>, compute: Option<FloatDType>) -> Tensor<2> {
    if compute.is_none() && bias.dims()[0].is_multiple_of(LANE) && autodiff::multiplies(&x.device()) {
        return autodiff::dense(x, weight, bias);
    }
    product(x, weight.transpose(), compute) + bias.unsqueeze()
}

/// `a` times `b` in a narrower type where one is asked for, as 32-bit floats.
pub(super) fn product<const D: usize>(a: Tensor<D>, b: Tensor<D>, compute: Option<FloatDType>) -> Tensor<D> {
    match compute {
        None => a.matmul(b),
        Some(narrow) => a.cast(narrow).matmul(b.cast(narrow)).cast(FloatDType::F32),
    }
}

/// A per-channel `x * scale + shift`, both `[batch, channel]`.
///
/// Group norm ends in one, the time embedding multiplies another on top and the semantic latent a third (paper, equation 12), so
/// they are combined on vectors first and the feature map is touched once.
#[derive(Debug, Clone)]
struct Affine {
    scale: Tensor<2>,
    shift: Tensor<2>,
}

impl Affine {
    /// This map followed by `x * (1 + scale) + shift`, scale and shift being the halves of a modulation, `[batch, 2 * channel]`.
    fn then(self, modulation: Tensor<2>) -> Self {
        let [n, c] = self.scale.dims();
        let scale = modulation.clone().slice([0..n, 0..c]) + 1.0;
        let shift = modulation.slice([0..n, c..2 * c]);
        Self { scale: self.scale * scale.clone(), shift: self.shift * scale + shift }
    }

    /// `[batch, channel, height, width]`, same out.
    fn apply(self, x: Tensor<4>) -> Tensor<4> {
        let [n, c] = self.scale.dims();
        x * self.scale.reshape([n, c, 1, 1]) + self.shift.reshape([n, c, 1, 1])
    }
}

/// Group normalisation over 32 groups, epsilon 1e-5.
#[derive(Module, Debug)]
pub struct GroupNorm {
    pub(super) weight: Param<Tensor<1>>,
    pub(super) bias: Param<Tensor<1>>,
    channels: usize,
}

impl GroupNorm {
    pub fn new(p: &mut Parameters, name: &str, channels: usize) -> Result<Self, ParameterError> {
        p.scope(name, |p| {
            Ok(Self { weight: p.tensor("weight", [channels], Init::Ones)?, bias: p.tensor("bias", [channels], Init::Zeros)?, channels })
        })
    }

    /// The normalisation of this map, to be applied to it by [`Normalised::forward`] or [`Normalised::silu`].
    pub fn of(&self, x: Map) -> Normalised {
        Normalised { x, gain: self.weight.val(), offset: self.bias.val(), modulations: vec![] }
    }

    pub fn channels(&self) -> usize {
        self.channels
    }
}

/// A feature map that is about to be normalised.
#[derive(Debug, Clone)]
pub struct Normalised {
    x: Map,
    gain: Tensor<1>,
    offset: Tensor<1>,
    modulations: Vec<Tensor<2>>,
}

impl Normalised {
    /// Followed by `x * (1 + scale) + shift`, scale and shift being the halves of a modulation, `[batch, 2 * channel]`.
    pub fn then(mut self, modulation: Tensor<2>) -> Self {
        self.modulations.push(modulation);
        self
    }

    pub fn forward(self) -> Map {
        self.finish(false)
    }

    /// With SiLU.
    pub fn silu(self) -> Map {
        self.finish(true)
    }

    fn finish(self, with_silu: bool) -> Map {
        match self.x.channels_last().cloned() {
            Some(values) => {
                let x = self.x.clone();
                x.with(autodiff::norm(values, self.after(), with_silu))
            }
            None => {
                let x = self.x.clone().into_tensor();
                let affine = self.modulations.into_iter().fold(normalisation(&x, self.gain, self.offset), Affine::then);
                self.x.through(|x| if with_silu { silu(affine.apply(x)) } else { affine.apply(x) })
            }
        }
    }

    /// What is left to do where the normalisation is part of an operation: see [`autodiff::norm`].
    fn after(self) -> Tensor<3> {
        let [n, c, ..] = self.x.dims();
        match &self.modulations[..] {
            [] if autodiff::multiplies(&self.gain.device()) => autodiff::affine(self.gain, self.offset, n),
            [modulation] if autodiff::multiplies(&self.gain.device()) => autodiff::modulated(self.gain, self.offset, modulation.clone()),
            _ => {
                let [scale, shift] = [self.gain, self.offset].map(|values| values.reshape([1, c]).expand([n, c]));
                let Affine { scale, shift } = self.modulations.into_iter().fold(Affine { scale, shift }, Affine::then);
                Tensor::stack(vec![scale, shift], 0)
            }
        }
    }
}

/// Group norm of this `[batch, channel, height, width]` as a per-channel map, not yet applied.
fn normalisation(x: &Tensor<4>, gain: Tensor<1>, offset: Tensor<1>) -> Affine {
    let [n, c, h, w] = x.dims();
    let per_group = c / GROUPS;
    let grouped = x.clone().reshape([n, GROUPS, per_group * h * w]);
    let mean = grouped.clone().mean_dim(2);
    let centred = grouped - mean.clone();
    let variance = (centred.clone() * centred).mean_dim(2);
    let inverse = (variance + 1e-5).sqrt().recip();
    let scale = inverse * gain.reshape([1, GROUPS, per_group]);
    let shift = offset.reshape([1, GROUPS, per_group]) - mean * scale.clone();
    Affine { scale: scale.reshape([n, c]), shift: shift.reshape([n, c]) }
}

/// The sinusoidal embedding of timesteps: `cos` half first, then `sin`; `[batch]` to `[batch, width]`.
pub fn timestep_embedding(timesteps: &[usize], width: usize, device: &Device) -> Tensor<2> {
    let values: Vec<f32> = timesteps.iter().flat_map(|t| sinusoid(*t, width)).collect();
    Tensor::from_data(burn::tensor::TensorData::new(values, [timesteps.len(), width]), device)
}

/// One row of [`timestep_embedding`].
pub(super) fn sinusoid(timestep: usize, width: usize) -> Vec<f32> {
    let half = width / 2;
    let mut row = vec![0.0f32; width];
    for i in 0..half {
        let frequency = (-(10_000f64.ln()) * i as f64 / half as f64).exp();
        let angle = timestep as f64 * frequency;
        row[i] = angle.cos() as f32;
        row[half + i] = angle.sin() as f32;
    }
    row
}

/// A parameter's values, row by row.
pub(super) fn values<const D: usize>(parameter: &Param<Tensor<D>>) -> Vec<f32> {
    let data = parameter.val().into_data().convert::<f32>();
    data.try_to_vec().expect("converted to f32 just now")
}
