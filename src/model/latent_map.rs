//! A small picture that the semantic latent draws for the shift half, where a model has one.

use burn::module::Module;
use burn::tensor::Tensor;

use super::config::ModelConfig;
use super::layers::{Conv, Linear, values};
use super::parameters::{ParameterError, Parameters};

/// `z` through one linear layer to a map of few channels at the decoder's grid, and a 3 x 3 convolution to the first level's width; the
/// result is added to the skips of that level, for the shift half alone.
///
/// The published decoder hears `z` only as one scale and one shift a channel, the same at every pixel, and needs millions of images
/// until it places a mouth by them. The map says where things are from the start. Not in the paper; bundles without it
/// ([`ModelConfig::latent_map`] = 0) are the published network.
#[derive(Module, Debug)]
pub struct LatentMap {
    pub(super) linear: Linear,
    pub(super) conv: Conv,
    grid: usize,
}

impl LatentMap {
    /// `None` where the model has no map.
    pub fn new(p: &mut Parameters, config: &ModelConfig) -> Result<Option<Self>, ParameterError> {
        let (channels, grid) = (config.latent_map, config.grid());
        if channels == 0 {
            return Ok(None);
        }
        p.side = grid;
        let width = config.denoiser.base_channel * config.denoiser.channel_multiplier[0];
        p.scope("shift_latent_map", |p| {
            let linear = Linear::new(p, "linear", config.latent_dim, channels * grid * grid)?;
            Ok(Some(Self { linear, conv: Conv::zeroed(p, "conv", channels, width, 3)?, grid }))
        })
    }

    /// Weight `[grid * grid * channels, latent]` and bias of the linear layer with a pixel's channels side by side; as published, each
    /// channel's pixels are.
    pub(super) fn linear_by_pixel(&self) -> (Vec<f32>, Vec<f32>) {
        let (weight, bias) = (values(&self.linear.weight), values(&self.linear.bias));
        let pixels = self.grid * self.grid;
        let (channels, width) = (bias.len() / pixels, weight.len() / bias.len());
        let from = |i: usize| i % channels * pixels + i / channels;
        let rows = (0..bias.len()).flat_map(|i| &weight[from(i) * width..][..width]).copied().collect();
        (rows, (0..bias.len()).map(|i| bias[from(i)]).collect())
    }

    /// `z` (`[batch, latent]`) to what is added to a skip, `[batch, first level's channels, grid, grid]`.
    pub fn forward(&self, z: Tensor<2>) -> Tensor<4> {
        let [batch, _] = z.dims();
        let map = self.linear.forward(z);
        let channels = map.dims()[1] / (self.grid * self.grid);
        self.conv.forward(map.reshape([batch, channels, self.grid, self.grid]))
    }
}
