//! The short-range BlazeFace network (Bazarevsky et al., 2019, arXiv 1907.05047), layer for layer as published.

use burn::tensor::activation::relu;
use burn::tensor::module::{conv2d, max_pool2d};
use burn::tensor::ops::{ConvOptions, MaxPoolOptions, PadMode};
use burn::tensor::{Device, Tensor};

use crate::model::parameters::{Init, ParameterError, Parameters, Weights};

/// Side of the network's input in pixels.
pub const INPUT: usize = 128;
/// Anchors: two at every cell of 16 x 16, six at every cell of 8 x 8.
pub const ANCHORS: usize = 16 * 16 * 2 + 8 * 8 * 6;
/// Numbers that describe a face: box centre, box size and six points, all in input pixels relative to the anchor.
pub const VALUES: usize = 16;

/// Input channels, output channels and stride of every block.
const BLOCKS: [(usize, usize, usize); 16] = [
    (24, 24, 1),
    (24, 28, 1),
    (28, 32, 2),
    (32, 36, 1),
    (36, 42, 1),
    (42, 48, 2),
    (48, 56, 1),
    (56, 64, 1),
    (64, 72, 1),
    (72, 80, 1),
    (80, 88, 1),
    (88, 96, 2),
    (96, 96, 1),
    (96, 96, 1),
    (96, 96, 1),
    (96, 96, 1),
];
/// Blocks up to this one work on 16 x 16 cells; the finer anchors look at its output.
const FINE: usize = 11;

/// The network's parameters on a device.
#[derive(Debug)]
pub struct BlazeFace {
    stem: Conv,
    blocks: Vec<Block>,
    scores: [Conv; 2],
    boxes: [Conv; 2],
}

#[derive(Debug)]
struct Block {
    depthwise: Conv,
    pointwise: Conv,
    stride: usize,
    /// Output channels beyond the input's.
    widening: usize,
}

/// A convolution with TFLite's "same" padding.
#[derive(Debug)]
pub(super) struct Conv {
    weight: Tensor<4>,
    bias: Tensor<1>,
    options: ConvOptions<2>,
}

impl BlazeFace {
    pub fn new(weights: &Weights, device: &Device) -> Result<Self, ParameterError> {
        let p = &mut Parameters::from_weights(weights, device);
        let mut names = (0..).map(|i| format!("conv{i}"));
        let mut conv = |output, input, kernel, stride, groups| {
            let name = names.next().unwrap_or_default();
            Conv::new(p, &name, [output, input, kernel, kernel], stride, groups)
        };
        let stem = conv(24, 3, 5, 2, 1)?;
        let mut blocks = Vec::new();
        for (input, output, stride) in BLOCKS {
            let (depthwise, pointwise) = (conv(input, 1, 3, stride, input)?, conv(output, input, 1, 1, 1)?);
            blocks.push(Block { depthwise, pointwise, stride, widening: output - input });
        }
        let scores = [conv(2, 88, 1, 1, 1)?, conv(6, 96, 1, 1, 1)?];
        let boxes = [conv(2 * VALUES, 88, 1, 1, 1)?, conv(6 * VALUES, 96, 1, 1, 1)?];
        Ok(Self { stem, blocks, scores, boxes })
    }

    /// `[batch, 3, 128, 128]` in [-1, 1] to score logits `[batch, 896, 1]` and boxes `[batch, 896, 16]`.
    pub fn forward(&self, x: Tensor<4>) -> (Tensor<3>, Tensor<3>) {
        let mut x = relu(self.stem.forward(x));
        let (fine, coarse) = self.blocks.split_at(FINE);
        for block in fine {
            x = block.forward(x);
        }
        let at_16 = x.clone();
        for block in coarse {
            x = block.forward(x);
        }
        let head = |[fine, coarse]: &[Conv; 2], values| {
            Tensor::cat(vec![by_anchor(fine.forward(at_16.clone()), values), by_anchor(coarse.forward(x.clone()), values)], 1)
        };
        (head(&self.scores, 1), head(&self.boxes, VALUES))
    }
}

/// `[batch, anchors * values, height, width]` to `[batch, height * width * anchors, values]`.
fn by_anchor(x: Tensor<4>, values: usize) -> Tensor<3> {
    let [n, c, h, w] = x.dims();
    x.permute([0, 2, 3, 1]).reshape([n, h * w * c / values, values])
}

impl Block {
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let changed = self.pointwise.forward(self.depthwise.forward(x.clone()));
        let mut kept = x;
        if self.stride == 2 {
            kept = max_pool2d(kept, MaxPoolOptions::new([2, 2]));
        }
        if self.widening > 0 {
            kept = kept.pad([(0, self.widening), (0, 0), (0, 0)], PadMode::Constant(0.0));
        }
        relu(kept + changed)
    }
}

impl Conv {
    pub(super) fn new(p: &mut Parameters, name: &str, shape: [usize; 4], stride: usize, groups: usize) -> Result<Self, ParameterError> {
        // Every input side here is even, so "same" at stride 2 needs one row less than at stride 1, and TFLite leaves out the first.
        let padding = shape[2] - stride.min(shape[2]);
        let padding = (padding / 2, padding - padding / 2);
        p.scope(name, |p| {
            Ok(Self {
                weight: p.tensor("weight", shape, Init::Zeros)?.val(),
                bias: p.tensor("bias", [shape[0]], Init::Zeros)?.val(),
                options: ConvOptions::new_with_padding([stride; 2], [padding; 2], [1, 1], groups),
            })
        })
    }

    pub(super) fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        conv2d(x, self.weight.clone(), Some(self.bias.clone()), self.options.clone())
    }
}
