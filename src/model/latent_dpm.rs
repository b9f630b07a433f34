//! The latent DPM: a diffusion model over normalised semantic latents, for unconditional samples (paper, section 4.5).

use burn::module::{Module, Param};
use burn::tensor::Tensor;
use burn::tensor::activation::silu;

use super::config::LatentDpmConfig;
use super::layers::{Linear, timestep_embedding};
use super::parameters::{Init, ParameterError, Parameters};
use crate::diffusion::{Chain, Direction, Schedule};

/// An MLP whose every layer but the first sees the input again, conditioned on the timestep by scaling.
#[derive(Module, Debug)]
pub struct LatentDpm {
    time_embed: [Linear; 2],
    layers: Vec<MlpLayer>,
    time_channels: usize,
}

#[derive(Module, Debug)]
struct MlpLayer {
    linear: Linear,
    condition: Option<Linear>,
    norm: Option<LayerNorm>,
}

impl LatentDpm {
    pub fn new(p: &mut Parameters, config: &LatentDpmConfig) -> Result<Self, ParameterError> {
        let (d, width) = (config.input_channel, config.model_channel);
        p.side = 0;
        let time_embed = p.scope("time_embed", |p| -> Result<_, ParameterError> {
            Ok([Linear::new(p, "0", config.time_emb_channel, d)?, Linear::new(p, "2", d, d)?])
        })?;
        let mut layers = Vec::new();
        for i in 0..config.num_layers {
            let last = i + 1 == config.num_layers;
            let input = if i == 0 { d } else { width + d };
            let output = if last { d } else { width };
            layers.push(p.scope(format!("layers.{i}"), |p| -> Result<_, ParameterError> {
                Ok(MlpLayer {
                    linear: Linear::new(p, "linear", input, output)?,
                    // Published files hold this layer twice, as `linear_emb` and as `cond_layers.1`.
                    condition: if last { None } else { Some(Linear::new(p, "cond_layers.1", d, output)?) },
                    norm: if last || !config.use_norm { None } else { Some(LayerNorm::new(p, "norm", output)?) },
                })
            })?);
        }
        Ok(Self { time_embed, layers, time_channels: config.time_emb_channel })
    }

    /// The noise in `z_t` (`[batch, latent]`), one timestep a row.
    pub fn forward(&self, z_t: Tensor<2>, timesteps: &[usize]) -> Tensor<2> {
        let t = timestep_embedding(timesteps, self.time_channels, &z_t.device());
        // Every layer's conditioning starts with a SiLU on the same embedding.
        let condition = silu(self.time_embed[1].forward(silu(self.time_embed[0].forward(t))));
        let mut h = z_t.clone();
        for (i, layer) in self.layers.iter().enumerate() {
            let input = if i == 0 { h } else { Tensor::cat(vec![h, z_t.clone()], 1) };
            h = layer.linear.forward(input);
            if let Some(scale) = &layer.condition {
                h = h * (scale.forward(condition.clone()) + 1.0);
                if let Some(norm) = &layer.norm {
                    h = norm.forward(h);
                }
                h = silu(h);
            }
        }
        h
    }

    /// Normalised latents from standard normal noise (`[batch, latent]`), which the published code clamps before its loop begins.
    pub fn sample_from_noise(&self, noise: Tensor<2>, steps: usize) -> Tensor<2> {
        self.sample(noise.clamp(-1.0, 1.0), steps)
    }

    /// Normalised latents from a `z_t` as it is, in `steps` DDIM steps, in [-1, 1] as the published loop leaves them.
    pub fn sample(&self, z_t: Tensor<2>, steps: usize) -> Tensor<2> {
        let schedule = Schedule::for_latents();
        let mut chain = Chain::new(&schedule, steps, Direction::Decode, z_t);
        while let Some(t) = chain.timestep() {
            let timesteps = vec![t; chain.x.dims()[0]];
            let eps = self.forward(chain.x.clone(), &timesteps);
            chain.advance(&schedule, eps);
        }
        chain.x
    }
}

/// Layer normalisation over the last dimension, epsilon 1e-5.
#[derive(Module, Debug)]
struct LayerNorm {
    weight: Param<Tensor<1>>,
    bias: Param<Tensor<1>>,
}

impl LayerNorm {
    fn new(p: &mut Parameters, name: &str, width: usize) -> Result<Self, ParameterError> {
        p.scope(name, |p| Ok(Self { weight: p.tensor("weight", [width], Init::Ones)?, bias: p.tensor("bias", [width], Init::Zeros)? }))
    }

    fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let centred = x.clone() - x.mean_dim(1);
        let variance = (centred.clone() * centred.clone()).mean_dim(1);
        centred / (variance + 1e-5).sqrt() * self.weight.val().unsqueeze() + self.bias.val().unsqueeze()
    }
}
