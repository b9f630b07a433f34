//! What a network looks like. The field names are those of the published configuration files.

use serde::{Deserialize, Serialize};

use super::Prediction;
use super::prediction::BLOCK;
use crate::diffusion::ScheduleConfig;

/// A whole model: image geometry, networks and noise schedule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelConfig {
    /// Side of the square RGB image in pixels, before patch folding.
    pub image_size: usize,
    /// Patches of `patch x patch` pixels are folded into channels before the decoder and unfolded after it. 1 = none.
    #[serde(default = "one")]
    pub patch: usize,
    /// What the decoder's two heads give.
    #[serde(default, skip_serializing_if = "is_published")]
    pub prediction: Prediction,
    /// What the skip of [`Prediction::Image`] expects of fine colour ([`super::fine_colour`]): its standard deviation in photos, images
    /// being in [-1, 1]. `None`: what it expects of all detail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fine_colour: Option<f64>,
    /// Length of the semantic latent `z` (512 in the paper).
    pub latent_dim: usize,
    /// Channels of the map that `z` draws at the decoder's grid for the shift half. 0 = none, as published.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub latent_map: usize,
    pub encoder: EncoderKind,
    pub denoiser: DenoiserConfig,
    pub schedule: ScheduleConfig,
    /// The latent DPM, for unconditional samples. Not every bundle has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latent_dpm: Option<LatentDpmConfig>,
}

fn is_published(prediction: &Prediction) -> bool {
    *prediction == Prediction::Noise
}

fn is_zero(channels: &usize) -> bool {
    *channels == 0
}

fn one() -> usize {
    1
}

/// The ADM UNet: base width, multipliers, attention.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DenoiserConfig {
    /// Channels of the first level; a multiple of 32 (the group norm has 32 groups).
    pub base_channel: usize,
    /// Channels of each level, as a multiple of `base_channel`.
    pub channel_multiplier: Vec<usize>,
    pub num_residual_blocks_of_a_block: usize,
    /// Downsampling rates (1, 2, 4, ...) at which attention follows every residual block.
    pub attention_resolutions: Vec<usize>,
    /// Attention heads; used where `head_channel` is -1.
    pub num_heads: usize,
    /// Channels a head, or -1.
    #[serde(default = "minus_one")]
    pub head_channel: i64,
    /// Whether queries, keys and values are split before the heads (`true`) or within each head (`false`).
    #[serde(default)]
    pub use_new_attention_order: bool,
}

fn minus_one() -> i64 {
    -1
}

/// The two published encoders, named by the image size they were made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum EncoderKind {
    /// `CELEBA64Encoder`: 3 -> 64 -> 128 (attention) -> 128 -> 128, Linear 2048 -> latent.
    #[serde(rename = "CELEBA64Encoder", alias = "celeba64")]
    Celeba64,
    /// `FFHQEncoder` and its 128 px siblings: 3 -> 64 -> 128 -> 256 (attention) -> 256 -> 256, Linear 4096 -> latent.
    #[serde(rename = "FFHQEncoder", alias = "CELEBAHQEncoder", alias = "HorseEncoder", alias = "BedroomEncoder", alias = "ffhq128")]
    Ffhq128,
}

impl EncoderKind {
    /// Side in pixels of the images that this encoder takes.
    pub fn image_size(self) -> usize {
        match self {
            Self::Celeba64 => 64,
            Self::Ffhq128 => 128,
        }
    }
}

/// The latent DPM: an MLP with skips from its input, on normalised semantic latents.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LatentDpmConfig {
    /// Length of the latent.
    pub input_channel: usize,
    /// Width of the hidden layers.
    pub model_channel: usize,
    pub num_layers: usize,
    pub time_emb_channel: usize,
    #[serde(default = "yes")]
    pub use_norm: bool,
}

fn yes() -> bool {
    true
}

impl DenoiserConfig {
    /// Number of attention heads for a block of `channels` channels.
    pub fn heads(&self, channels: usize) -> usize {
        match usize::try_from(self.head_channel) {
            Ok(width) if width > 0 => channels / width,
            _ => self.num_heads,
        }
    }

    /// Length of the time embedding.
    pub fn embedding(&self) -> usize {
        4 * self.base_channel
    }
}

impl ModelConfig {
    /// The side that the decoder itself works at, in folded pixels.
    pub fn grid(&self) -> usize {
        self.image_size / self.patch
    }

    /// Image channels as the decoder sees them: `3 * patch^2`.
    pub fn folded_channels(&self) -> usize {
        3 * self.patch * self.patch
    }

    /// Checks that the numbers can be built at all, so that a hostile or mistyped file ends in a sentence and not in a panic.
    pub fn check(&self) -> Result<(), String> {
        let d = &self.denoiser;
        let rates = 1usize << d.channel_multiplier.len().clamp(1, 12).saturating_sub(1);
        let rules = [
            (matches!(self.image_size, 8..=1024), "image_size must be between 8 and 1024"),
            (self.patch >= 1 && self.patch <= 16 && self.image_size.is_multiple_of(self.patch.max(1)), "patch must divide image_size"),
            (self.image_size == self.encoder.image_size(), "the encoder is made for another image_size"),
            (
                self.fine_colour.is_none_or(|deviation| (0.0..=1.0).contains(&deviation) && self.image_size.is_multiple_of(BLOCK)),
                "fine_colour must be between 0 and 1, and 8 must divide image_size",
            ),
            (matches!(self.latent_dim, 1..=8192), "latent_dim must be between 1 and 8192"),
            (matches!(self.latent_map, 0..=64), "latent_map must be at most 64 channels"),
            (
                d.base_channel >= 32 && d.base_channel <= 1024 && d.base_channel.is_multiple_of(32),
                "base_channel must be a multiple of 32, at most 1024",
            ),
            (matches!(d.channel_multiplier.len(), 1..=8), "channel_multiplier must name 1 to 8 levels"),
            (d.channel_multiplier.iter().all(|m| matches!(m, 1..=32)), "channel_multiplier must be between 1 and 32"),
            (matches!(d.num_residual_blocks_of_a_block, 1..=8), "num_residual_blocks_of_a_block must be between 1 and 8"),
            (self.patch >= 1 && self.grid().is_multiple_of(rates), "image_size / patch must be divisible by the deepest downsampling rate"),
            (d.head_channel == -1 || d.head_channel > 0, "head_channel must be -1 or positive"),
            (
                d.channel_multiplier.iter().map(|m| m * d.base_channel).all(|c| {
                    let h = d.heads(c);
                    h > 0 && c.is_multiple_of(h)
                }),
                "the attention heads must divide the channels",
            ),
            (matches!(self.schedule.timesteps, 2..=100_000), "timesteps must be between 2 and 100000"),
            (
                self.latent_dpm.as_ref().is_none_or(|l| {
                    l.input_channel == self.latent_dim
                        && matches!(l.model_channel, 1..=8192)
                        && matches!(l.num_layers, 1..=64)
                        && matches!(l.time_emb_channel, 2..=4096)
                }),
                "the latent DPM does not fit the latent",
            ),
        ];
        match rules.iter().find(|(holds, _)| !holds) {
            Some((_, rule)) => Err((*rule).to_owned()),
            None => Ok(()),
        }
    }
}
