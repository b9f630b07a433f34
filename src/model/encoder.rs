//! The semantic encoder `E`: photo in, semantic latent `z` out.

use burn::module::Module;
use burn::tensor::Tensor;

use super::autodiff::Map;
use super::blocks::Attention;
use super::config::EncoderKind;
use super::layers::{Conv, GroupNorm, Linear};
use super::parameters::{ParameterError, Parameters};

/// Attention heads of the published encoders.
const HEADS: usize = 4;

/// Stride-2 convolutions with group norm and SiLU, attention after one of them, one linear layer.
#[derive(Module, Debug)]
pub struct Encoder {
    pub(super) stages: Vec<EncoderStage>,
    pub(super) head: Linear,
}

#[derive(Module, Debug)]
pub(super) struct EncoderStage {
    pub(super) conv: Conv,
    pub(super) attention: Option<Attention>,
    pub(super) norm: GroupNorm,
}

impl Encoder {
    pub fn new(p: &mut Parameters, kind: EncoderKind, latent_dim: usize) -> Result<Self, ParameterError> {
        let (widths, attend): (&[usize], usize) = match kind {
            EncoderKind::Celeba64 => (&[64, 128, 128, 128], 1),
            EncoderKind::Ffhq128 => (&[64, 128, 256, 256, 256], 2),
        };
        p.side = kind.image_size();
        p.scope("encoder", |p| {
            let (mut stages, mut index, mut input) = (Vec::new(), 0, 3);
            for (i, &output) in widths.iter().enumerate() {
                p.side /= 2;
                let conv = Conv::new(p, &index.to_string(), input, output, 3, 2)?;
                index += 1;
                let attention = if i == attend {
                    let layer = p.scope(index, |p| Attention::new(p, output, HEADS, false))?;
                    index += 1;
                    Some(layer)
                } else {
                    None
                };
                let norm = GroupNorm::new(p, &index.to_string(), output)?;
                index += 2; // the norm and a SiLU without parameters
                stages.push(EncoderStage { conv, attention, norm });
                input = output;
            }
            let flattened = input * p.side * p.side;
            index += 1; // the flattening, without parameters
            Ok(Self { stages, head: Linear::new(p, &index.to_string(), flattened, latent_dim)? })
        })
    }

    /// `[batch, 3, size, size]` in [-1, 1] to `[batch, latent]`.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<2> {
        let mut x = Map::new(x, self.head.compute());
        for stage in &self.stages {
            x = stage.conv.apply(x);
            if let Some(attention) = &stage.attention {
                x = attention.forward(x);
            }
            x = stage.norm.of(x).silu();
        }
        let x = x.into_tensor();
        let [n, c, h, w] = x.dims();
        self.head.forward(x.reshape([n, c * h * w]))
    }
}
