//! Residual blocks, attention, and the stages that a UNet is a list of.

use burn::module::Module;
use burn::tensor::activation::softmax;
use burn::tensor::module::{avg_pool2d, interpolate};
use burn::tensor::ops::{AvgPoolOptions, InterpolateMode, InterpolateOptions};
use burn::tensor::{FloatDType, Tensor};

use super::autodiff::{self, Map};
use super::layers::{Conv, GroupNorm, Linear, affine_rows, product, values};
use super::parameters::{Init, ParameterError, Parameters};

/// What a residual block does to the resolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resample {
    Keep,
    /// Nearest neighbour, twice the side.
    Up,
    /// 2 x 2 average, half the side.
    Down,
}

/// ADM residual block with scale-shift conditioning on the timestep and, in the shift half, on the semantic latent as well.
#[derive(Module, Debug)]
pub struct ResBlock {
    pub(super) in_norm: GroupNorm,
    pub(super) in_conv: Conv,
    pub(super) time: Linear,
    pub(super) latent: Option<Linear>,
    pub(super) out_norm: GroupNorm,
    pub(super) out_conv: Conv,
    pub(super) skip: Option<Conv>,
    #[module(skip)]
    pub(super) resample: Resample,
}

/// Channel counts and conditioning of a [`ResBlock`].
#[derive(Debug, Clone, Copy)]
pub struct ResBlockShape {
    pub input: usize,
    pub output: usize,
    pub embedding: usize,
    pub resample: Resample,
    /// Whether the semantic latent modulates this block (shift half only).
    pub latent: bool,
}

impl ResBlock {
    /// [`Parameters::side`] must be the side of the block's input; it is left at the side of its output.
    pub fn new(p: &mut Parameters, shape: ResBlockShape) -> Result<Self, ParameterError> {
        let ResBlockShape { input, output, embedding, resample, latent } = shape;
        match resample {
            Resample::Keep => {}
            Resample::Up => p.side *= 2,
            Resample::Down => p.side /= 2,
        }
        Ok(Self {
            in_norm: GroupNorm::new(p, "in_layers.0", input)?,
            in_conv: Conv::new(p, "in_layers.2", input, output, 3, 1)?,
            time: Linear::new(p, "emb_layers.1", embedding, 2 * output)?,
            latent: if latent { Some(Linear::new(p, "emb_z_layers.1", embedding, 2 * output)?) } else { None },
            out_norm: GroupNorm::new(p, "out_layers.0", output)?,
            out_conv: Conv::zeroed(p, "out_layers.3", output, output, 3)?,
            skip: if input == output { None } else { Some(Conv::new(p, "skip_connection", input, output, 1, 1)?) },
            resample,
        })
    }

    fn resampled(&self, x: Map) -> Map {
        let [n, c, h, w] = x.dims();
        match (self.resample, x.channels_last()) {
            (Resample::Keep, _) => x,
            (Resample::Up, None) => {
                x.through(|x| interpolate(x, InterpolateOptions::new(InterpolateMode::Nearest).with_output_size([2 * h, 2 * w])))
            }
            (Resample::Down, None) => x.through(|x| avg_pool2d(x, AvgPoolOptions::new([2, 2]).with_stride([2, 2]))),
            (Resample::Up, Some(values)) => {
                let pairs = values.clone().reshape([n, h, 1, w, 1, c]).expand([n, h, 2, w, 2, c]);
                x.with(pairs.reshape([n, 2 * h, 2 * w, c]))
            }
            (Resample::Down, Some(values)) => {
                let rows = values.clone().reshape([n * h / 2, 2, w * c]).mean_dim(1);
                x.with(rows.reshape([n * h / 2 * w / 2, 2, c]).mean_dim(1).reshape([n, h / 2, w / 2, c]))
            }
        }
    }

    pub fn forward(&self, x: Map, conditions: &Conditions) -> Map {
        let h = self.in_conv.apply(self.resampled(self.in_norm.of(x.clone()).silu()));
        let mut h = self.out_norm.of(h).then(self.time.forward(conditions.time.clone()));
        if let (Some(layer), Some(z)) = (&self.latent, &conditions.latent) {
            h = h.then(layer.forward(z.clone()));
        }
        let h = self.out_conv.apply(h.silu());
        let x = self.resampled(x);
        match &self.skip {
            Some(conv) => conv.apply(x) + h,
            None => x + h,
        }
    }
}

/// What modulates the residual blocks: the embeddings of the timestep and of the semantic latent, both already through SiLU,
/// `[batch, 4 * base]`.
#[derive(Debug, Clone)]
pub struct Conditions {
    pub time: Tensor<2>,
    pub latent: Option<Tensor<2>>,
}

/// All layers that turn one embedding into the residual blocks' modulations, as a single one: for networks that only look forward.
#[derive(Debug, Default)]
pub(super) struct Modulations {
    /// `[all blocks' outputs, embedding]`.
    pub(super) weight: Vec<f32>,
    pub(super) bias: Vec<f32>,
}

impl Modulations {
    /// Adds a layer; returns where its output starts.
    pub(super) fn add(&mut self, layer: &Linear) -> usize {
        let start = self.bias.len();
        self.weight.extend(values(&layer.weight));
        self.bias.extend(values(&layer.bias));
        start
    }
}

/// Self-attention over the positions of a feature map, with a residual connection.
#[derive(Module, Debug)]
pub struct Attention {
    pub(super) norm: GroupNorm,
    pub(super) qkv: PointwiseConv,
    pub(super) proj_out: PointwiseConv,
    pub(super) heads: usize,
    pub(super) new_order: bool,
}

impl Attention {
    pub fn new(p: &mut Parameters, channels: usize, heads: usize, new_order: bool) -> Result<Self, ParameterError> {
        let positions = p.side * p.side;
        p.add_multiply_adds(2 * positions * positions * channels);
        Ok(Self {
            norm: GroupNorm::new(p, "norm", channels)?,
            qkv: PointwiseConv::new(p, "qkv", channels, 3 * channels, Init::FanIn(channels))?,
            proj_out: PointwiseConv::new(p, "proj_out", channels, channels, Init::Zeros)?,
            heads,
            new_order,
        })
    }

    /// Weight `[3 * channels, channels]` and bias of the layer before the products, its rows in one order whichever was published: all
    /// queries, already divided by the square root of a head's width, then all keys, then all values, each head by head.
    pub(super) fn qkv_by_part(&self) -> (Vec<f32>, Vec<f32>) {
        let (weight, bias) = (values(&self.qkv.weight), values(&self.qkv.bias));
        let channels = self.norm.channels();
        let width = channels / self.heads;
        // Published layouts: all queries, all keys, all values ("new"), or the three of each head side by side.
        let source = |row: usize| -> (usize, f32) {
            let (part, head, i) = (row / channels, row % channels / width, row % width);
            let scale = if part == 0 { 1.0 / (width as f32).sqrt() } else { 1.0 };
            (if self.new_order { row } else { (head * 3 + part) * width + i }, scale)
        };
        let mut rows = Vec::with_capacity(weight.len());
        let mut biases = Vec::with_capacity(bias.len());
        for (from, scale) in (0..3 * channels).map(source) {
            rows.extend(weight[from * channels..(from + 1) * channels].iter().map(|v| v * scale));
            biases.push(bias[from] * scale);
        }
        (rows, biases)
    }

    /// Same shape out.
    pub fn forward(&self, x: Map) -> Map {
        let normed = self.norm.of(x.clone()).forward();
        let mixed = match normed.channels_last() {
            Some(values) => x.with(self.mixed_last(values.clone())),
            None => normed.through(|values| self.mixed(values)),
        };
        x + mixed
    }

    /// All heads' queries, keys or values (`i` = 0, 1 or 2), out of `outer` runs of all three with `inner` values of each head.
    fn part<const D: usize>(&self, qkv: Tensor<D>, [outer, inner]: [usize; 2], i: usize) -> Tensor<4> {
        // Published layouts: all queries, all keys, all values ("new"), or the three of each head side by side.
        match self.new_order {
            true => qkv.reshape([outer, 3, self.heads, inner]).narrow(1, i, 1),
            false => qkv.reshape([outer, self.heads, 3, inner]).narrow(2, i, 1),
        }
    }

    /// `[batch, height, width, channel]`, same out.
    fn mixed_last(&self, x: Tensor<4>) -> Tensor<4> {
        let [n, h, w, c] = x.dims();
        let (length, width) = (h * w, c / self.heads);
        let qkv = self.qkv.rows(x.reshape([n * length, c]));
        let split = |i: usize| self.part(qkv.clone(), [n * length, width], i).reshape([n, length, self.heads, width]).swap_dims(1, 2);
        let scale = 1.0 / (width as f64).sqrt();
        // A processor's are the library's.
        let product = if autodiff::multiplies(&qkv.device()) { autodiff::product } else { Tensor::matmul };
        let scores = product(split(0) * scale, split(1).swap_dims(2, 3));
        let mixed = product(softmax(scores, 3), split(2)).swap_dims(1, 2).reshape([n * length, c]);
        self.proj_out.rows(mixed).reshape([n, h, w, c])
    }

    /// `[batch, channel, height, width]`, same out.
    fn mixed(&self, x: Tensor<4>) -> Tensor<4> {
        let [n, c, h, w] = x.dims();
        let (length, width) = (h * w, c / self.heads);
        let qkv = self.qkv.forward(x.reshape([n, c, length]));
        let split = |i: usize| self.part(qkv.clone(), [n, width * length], i).reshape([n, self.heads, width, length]);
        let scale = 1.0 / (width as f64).sqrt();
        let scores = split(0).swap_dims(2, 3).matmul(split(1)) * scale;
        let mixed = softmax(scores, 3).matmul(split(2).swap_dims(2, 3));
        let mixed = mixed.swap_dims(2, 3).reshape([n, c, length]);
        self.proj_out.forward(mixed).reshape([n, c, h, w])
    }
}

/// A 1 x 1 convolution over positions, stored as the published `Conv1d`: weight `[out, in, 1]`.
#[derive(Module, Debug)]
pub(super) struct PointwiseConv {
    pub(super) weight: burn::module::Param<Tensor<3>>,
    pub(super) bias: burn::module::Param<Tensor<1>>,
    #[module(skip)]
    compute: Option<FloatDType>,
}

impl PointwiseConv {
    fn new(p: &mut Parameters, name: &str, input: usize, output: usize, init: Init) -> Result<Self, ParameterError> {
        p.scope(name, |p| {
            Ok(Self {
                weight: p.tensor("weight", [output, input, 1], init)?,
                bias: p.tensor("bias", [output], init)?,
                compute: p.compute(),
            })
        })
    }

    /// `[rows, in]` to `[rows, out]`.
    fn rows(&self, x: Tensor<2>) -> Tensor<2> {
        let [output, input, _] = self.weight.dims();
        affine_rows(x, self.weight.val().reshape([output, input]), self.bias.val(), self.compute)
    }

    /// `[batch, in, length]` to `[batch, out, length]`.
    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let [output, input, _] = self.weight.dims();
        let weight = self.weight.val().reshape([1, output, input]);
        product(weight, x, self.compute) + self.bias.val().reshape([1, output, 1])
    }
}

/// One entry of the published block lists: `0`, `1`, `2` below a block's number.
// A `Box` is no `Module`, and most layers are residual blocks anyway.
#[allow(clippy::large_enum_variant)]
#[derive(Module, Debug)]
pub enum Layer {
    Conv(Conv),
    ResBlock(ResBlock),
    Attention(Attention),
}

/// A block of the UNet: layers applied one after the other.
#[derive(Module, Debug)]
pub struct Stage {
    pub(super) layers: Vec<Layer>,
}

impl Stage {
    pub fn new(layers: Vec<Layer>) -> Self {
        Self { layers }
    }

    pub fn forward(&self, mut x: Map, conditions: &Conditions) -> Map {
        for layer in &self.layers {
            x = match layer {
                Layer::Conv(conv) => conv.apply(x),
                Layer::ResBlock(block) => block.forward(x, conditions),
                Layer::Attention(attention) => attention.forward(x),
            };
        }
        x
    }
}
