//! The semantic encoder's layers in the order in which a photo runs through them.

use burn::tensor::DType;
use burn_cubecl::ops::reshape;
use burn_cubecl::tensor::CubeTensor;

use super::network::{Attention, convolution, dense, norm};
use super::surface::{Convolution, Dense, Norm, Surface};
use crate::model::encoder;
use crate::model::layers::values;

#[derive(Debug)]
struct Stage {
    conv: Convolution,
    attention: Option<Attention>,
    norm: Norm,
}

/// Photo to semantic latent.
#[derive(Debug)]
pub struct Encoder {
    stages: Vec<Stage>,
    head: Dense,
}

impl Encoder {
    /// All of it is computed in 32 bits: a photo is read once, and everything follows from it.
    pub fn new(encoder: &encoder::Encoder) -> Self {
        let stage = |stage: &encoder::EncoderStage| Stage {
            conv: convolution(&stage.conv, DType::F32),
            attention: stage.attention.as_ref().map(|layer| Attention::new(layer, DType::F32)),
            norm: norm(&stage.norm),
        };
        let stages: Vec<Stage> = encoder.stages.iter().map(stage).collect();
        // The published layer reads maps channel by channel, and here they lie position by position.
        let channels = stages.last().map_or(1, |stage| stage.conv.bias.width());
        let (weight, bias) = (values(&encoder.head.weight), values(&encoder.head.bias));
        let flat = weight.len() / bias.len();
        let positions = flat / channels;
        let turned = |row: &[f32]| -> Vec<f32> { (0..flat).map(|i| row[i % channels * positions + i / channels]).collect() };
        let weight: Vec<f32> = weight.chunks_exact(flat).flat_map(turned).collect();
        Self { stages, head: dense(&weight, &bias, DType::F32) }
    }

    /// Length of a latent.
    pub fn width(&self) -> usize {
        self.head.bias.width()
    }

    /// `[batch, 3, size, size]`, 32-bit, to `[batch, latent]`.
    pub fn read(&self, x_0: &CubeTensor) -> CubeTensor {
        let on = &Surface::of(x_0, DType::F32);
        let batch = x_0.meta.shape()[0];
        let x = self.stages.iter().fold(on.fold(x_0, 1), |x, stage| {
            let h = on.convolve(&stage.conv, x);
            let h = match &stage.attention {
                Some(attention) => attention.apply(on, h),
                None => h,
            };
            on.norm(&stage.norm, &h, &[], true)
        });
        let flat = x.meta.shape().iter().product::<usize>() / batch;
        on.dense(&self.head, reshape(x, [batch, flat].into()), false)
    }
}
