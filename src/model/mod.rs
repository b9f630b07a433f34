//! The networks: the pre-trained DPM, the shift decoder that steers it, the encoder, and the latent DPM.
//!
//! Everything is driven by a [`ModelConfig`]; every parameter is asked for by its published name through [`Parameters`], which
//! is the one place that knows where weights come from (a checkpoint or a random initialisation).

pub(crate) mod autodiff;
pub mod autoencoder;
pub mod blocks;
pub mod config;
pub mod cpu;
pub mod encoder;
pub mod gpu;
pub mod latent_dpm;
mod latent_map;
pub mod layers;
pub mod parameters;
pub mod prediction;
pub mod unet;

pub use autodiff::Map;
pub use autoencoder::{Autoencoder, Cost, Guidance};
pub use config::{DenoiserConfig, EncoderKind, LatentDpmConfig, ModelConfig};
pub use encoder::Encoder;
pub use latent_dpm::LatentDpm;
pub use parameters::{ParameterError, Parameters, Weights};
pub(crate) use prediction::per_image;
pub use prediction::{Heads, Prediction, fine_colour};
pub use unet::{Denoiser, ShiftDecoder, fold_patches, unfold_patches};
