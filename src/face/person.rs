//! Which part of a picture shows a person: MediaPipe's selfie segmentation, the square one, layer for layer as published.
//!
//! An encoder like MobileNetV3's (Howard et al., 2019, arXiv 1905.02244) goes down to 16 x 16 cells; a decoder comes back up and lets
//! at every size through what its own coarser view asks for.

use burn::tensor::activation::{hard_swish, relu, sigmoid};
use burn::tensor::module::{adaptive_avg_pool2d, conv_transpose2d, interpolate};
use burn::tensor::ops::{ConvTransposeOptions, InterpolateMode, InterpolateOptions};
use burn::tensor::{Device, Tensor, TensorData};
use image::imageops::{self, FilterType};
use image::{ImageBuffer, Luma, RgbImage, RgbaImage};

use super::FaceError;
use super::network::Conv;
use crate::checkpoint::{CheckpointError, tensors};
use crate::model::parameters::{Init, ParameterError, Parameters, Weights};
use crate::photo::Frame;
use crate::photo::frame::Border;

/// Small enough (0.2 MB) to travel inside the program, as the face detector.
const WEIGHTS: &[u8] = include_bytes!("../../models/person-mask/model.safetensors");
/// Side of the network's input and of its answer in pixels.
pub const INPUT: usize = 256;

#[derive(Debug, Clone, Copy)]
enum Activation {
    Relu,
    HardSwish,
}
use Activation::{HardSwish, Relu};

/// Channels in, within and out, kernel and stride of the depthwise convolution, channels that its gate squeezes to (0: it has none).
const BLOCKS: [(usize, usize, usize, usize, usize, usize, Activation); 8] = [
    (16, 16, 16, 3, 2, 8, Relu),
    (16, 72, 24, 3, 2, 0, Relu),
    (24, 88, 24, 3, 1, 0, Relu),
    (24, 96, 32, 5, 2, 24, HardSwish),
    (32, 128, 32, 5, 1, 32, HardSwish),
    (32, 128, 32, 5, 1, 32, HardSwish),
    (32, 96, 32, 5, 1, 24, HardSwish),
    (32, 96, 32, 5, 1, 24, HardSwish),
];
/// Blocks after which features are kept for the decoder, at 64 x 64 and 32 x 32; those of the stem are, too.
const KEPT: [usize; 2] = [0, 2];
/// Channels of the decoder's input.
const DEEPEST: usize = 128;
/// Channels of its stages, coarse to fine.
const STAGES: [usize; 3] = [24, 16, 16];

/// Below the first, the network is sure enough that there is no person, and nothing may change; above the second, all may.
const SURE: [f32; 2] = [0.13, 0.9];
/// The middle of a face in its frame, and how far it goes to the side and up and down: that much is always a person's.
const FACE: ([f32; 2], [f32; 2]) = ([0.5, 0.62], [0.24, 0.28]);
/// How far around it, as a multiple, that fades out.
const FADE: f32 = 1.3;

/// How far edits reach in a frame, for a model's size: the person and nothing else, `[size, size]` from 0 to 1, row by row. The face is
/// always within reach, also where the network does not see a person, in a painting say. `None` if the network cannot be run: then nothing
/// is known.
///
/// From the model's own, coarser picture of the frame the network would take parts of the background for a person.
pub fn reach(srgb: &RgbaImage, frame: Frame, size: u32) -> Option<Vec<f32>> {
    let picture = frame.resample(srgb, INPUT as u32, Border::Replicate);
    let mask = PersonMask::built_in().and_then(|network| network.of(&picture));
    let mask = mask.inspect_err(|e| log::warn!("{e}")).ok()?;
    let mask: ImageBuffer<Luma<f32>, Vec<f32>> = ImageBuffer::from_raw(INPUT as u32, INPUT as u32, mask)?;
    let mut reach = imageops::resize(&mask, size, size, FilterType::Triangle);
    for (x, y, Luma([share])) in reach.enumerate_pixels_mut() {
        let person = ((*share - SURE[0]) / (SURE[1] - SURE[0])).clamp(0.0, 1.0);
        *share = person.max(face([x as f32 + 0.5, y as f32 + 0.5].map(|v| v / size as f32)));
    }
    Some(reach.into_raw())
}

/// 1 in the face, 0 far from it.
fn face(place: [f32; 2]) -> f32 {
    let (centre, radii) = FACE;
    let [x, y] = [0, 1].map(|k| (place[k] - centre[k]) / radii[k]);
    ((FADE - x.hypot(y)) / (FADE - 1.0)).clamp(0.0, 1.0)
}

/// The network on the CPU.
#[derive(Debug)]
pub struct PersonMask {
    stem: Conv,
    blocks: Vec<Block>,
    head: [Conv; 2],
    stages: Vec<Stage>,
    /// From the last stage to the mask, twice as wide: `[in, out, 2, 2]` and the bias.
    out: (Tensor<4>, Tensor<1>),
    device: Device,
}

#[derive(Debug)]
struct Block {
    expand: Conv,
    depthwise: Conv,
    gate: Option<[Conv; 2]>,
    project: Conv,
    activation: Activation,
    /// Whether the input is added in the end.
    residual: bool,
}

/// What brings coarse features to a finer size, where the encoder's own are waiting.
#[derive(Debug)]
struct Stage {
    narrow: Conv,
    gate: [Conv; 2],
    mix: Conv,
    depthwise: Conv,
}

impl PersonMask {
    /// The one that is built into the program.
    pub fn built_in() -> Result<Self, FaceError> {
        let weights = tensors::from_bytes(WEIGHTS, "the built-in person mask")?;
        Ok(Self::new(&weights, &Device::flex()).map_err(CheckpointError::from)?)
    }

    fn new(weights: &Weights, device: &Device) -> Result<Self, ParameterError> {
        let p = &mut Parameters::from_weights(weights, device);
        let mut names = (0..).map(|i| format!("conv{i}"));
        let mut conv = |output, input, kernel, stride, groups| {
            let name = names.next().unwrap_or_default();
            Conv::new(p, &name, [output, input, kernel, kernel], stride, groups)
        };
        let stem = conv(16, 3, 3, 2, 1)?;
        let mut blocks = Vec::new();
        for (input, inner, output, kernel, stride, squeezed, activation) in BLOCKS {
            blocks.push(Block {
                expand: conv(inner, input, 1, 1, 1)?,
                depthwise: conv(inner, 1, kernel, stride, inner)?,
                gate: if squeezed > 0 { Some([conv(squeezed, inner, 1, 1, 1)?, conv(inner, squeezed, 1, 1, 1)?]) } else { None },
                project: conv(output, inner, 1, 1, 1)?,
                activation,
                residual: input == output && stride == 1,
            });
        }
        let head = [conv(DEEPEST, 32, 1, 1, 1)?, conv(DEEPEST, 32, 1, 1, 1)?];
        let mut stages = Vec::new();
        let mut coarse = DEEPEST;
        for width in STAGES {
            stages.push(Stage {
                narrow: conv(width, coarse, 1, 1, 1)?,
                gate: [conv(width, width, 1, 1, 1)?, conv(width, width, 1, 1, 1)?],
                mix: conv(width, width, 1, 1, 1)?,
                depthwise: conv(width, 1, 3, 1, width)?,
            });
            coarse = width;
        }
        let out = p.scope(names.next().unwrap_or_default(), |p| {
            Ok((p.tensor("weight", [coarse, 1, 2, 2], Init::Zeros)?.val(), p.tensor("bias", [1], Init::Zeros)?.val()))
        })?;
        Ok(Self { stem, blocks, head, stages, out, device: device.clone() })
    }

    /// A picture of 256 x 256 pixels, head and shoulders, to 256 x 256 numbers from 0 (none of a person) to 1, row by row.
    pub fn of(&self, picture: &RgbImage) -> Result<Vec<f32>, FaceError> {
        let plane = INPUT * INPUT;
        let bytes = picture.as_raw();
        let input: Vec<f32> = (0..3 * plane).map(|i| f32::from(bytes[i % plane * 3 + i / plane]) / 255.0).collect();
        let mask = self.forward(Tensor::from_data(TensorData::new(input, [1, 3, INPUT, INPUT]), &self.device));
        super::detector::read(mask)
    }

    /// `[batch, 3, 256, 256]` in [0, 1] to `[batch, 1, 256, 256]`.
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let mut x = hard_swish(self.stem.forward(x));
        let mut kept = vec![x.clone()];
        for (i, block) in self.blocks.iter().enumerate() {
            x = block.forward(x);
            if KEPT.contains(&i) {
                kept.push(x.clone());
            }
        }
        let [features, gate] = &self.head;
        x = relu(features.forward(x.clone())) * sigmoid(gate.forward(mean(x)));
        for (stage, fine) in self.stages.iter().zip(kept.into_iter().rev()) {
            x = stage.forward(x, fine);
        }
        let (weight, bias) = self.out.clone();
        sigmoid(conv_transpose2d(x, weight, Some(bias), ConvTransposeOptions::new([2, 2], [0, 0], [0, 0], [1, 1], 1)))
    }
}

/// Of every channel, `[batch, channel, 1, 1]`.
fn mean(x: Tensor<4>) -> Tensor<4> {
    adaptive_avg_pool2d(x, [1, 1])
}

fn gate([squeeze, widen]: &[Conv; 2], x: Tensor<4>) -> Tensor<4> {
    sigmoid(widen.forward(relu(squeeze.forward(mean(x)))))
}

impl Block {
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let active = |x| match self.activation {
            Relu => relu(x),
            HardSwish => hard_swish(x),
        };
        let mut inner = active(self.depthwise.forward(active(self.expand.forward(x.clone()))));
        if let Some(layers) = &self.gate {
            inner = inner.clone() * gate(layers, inner);
        }
        let out = self.project.forward(inner);
        if self.residual { out + x } else { out }
    }
}

impl Stage {
    fn forward(&self, coarse: Tensor<4>, fine: Tensor<4>) -> Tensor<4> {
        let [_, _, height, width] = fine.dims();
        let options = InterpolateOptions::new(InterpolateMode::Bilinear).with_align_corners(false).with_output_size([height, width]);
        let coarse = self.narrow.forward(interpolate(coarse, options));
        let fine = fine.clone() * gate(&self.gate, fine + coarse.clone()) + coarse;
        let mixed = relu(self.mix.forward(fine));
        mixed.clone() + relu(self.depthwise.forward(mixed))
    }
}
