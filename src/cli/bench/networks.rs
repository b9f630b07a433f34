//! Single steps of the networks.

use std::hint::black_box;
use std::path::Path;
use std::time::Duration;

use burn::tensor::Tensor;
use clap::ValueEnum;
use serde::Serialize;

use super::{BenchError, Timing, timed};
use crate::checkpoint::Bundle;
use crate::device::DeviceChoice;
use crate::engine::edit::{self, EditError};
use crate::model::{Autoencoder, DenoiserConfig, EncoderKind, ModelConfig, Parameters, Prediction, cpu, gpu};

/// Shapes of networks that others have published figures for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Network {
    /// 128 px in patches of 4, base 64, levels 1-2-3: what `train` makes by default.
    Default,
    /// The published 64 px model for CelebA.
    Celeba64,
    /// The published 128 px model for FFHQ.
    Ffhq128,
}

impl Network {
    fn config(self) -> ModelConfig {
        let (image_size, patch, base_channel, channel_multiplier, attention) = match self {
            Self::Default => (128, 4, 64, vec![1, 2, 3], 2),
            Self::Celeba64 => (64, 1, 64, vec![1, 2, 4, 8], 4),
            Self::Ffhq128 => (128, 1, 128, vec![1, 1, 2, 3, 4], 8),
        };
        ModelConfig {
            image_size,
            patch,
            prediction: Prediction::Noise,
            fine_colour: None,
            latent_dim: 512,
            latent_map: 0,
            encoder: if image_size == 64 { EncoderKind::Celeba64 } else { EncoderKind::Ffhq128 },
            denoiser: DenoiserConfig {
                base_channel,
                channel_multiplier,
                num_residual_blocks_of_a_block: 2,
                attention_resolutions: vec![attention],
                num_heads: 1,
                head_channel: -1,
                use_new_attention_order: false,
            },
            schedule: Default::default(),
            latent_dpm: None,
        }
    }
}

/// What was measured of one network.
#[derive(Debug, Serialize)]
pub struct Measured {
    pub name: String,
    pub backend: String,
    pub threads: usize,
    /// A large matrix product on all threads, GFLOP/s.
    pub peak: f64,
    pub steps: Vec<Step>,
}

/// One kind of forward pass.
#[derive(Debug, Serialize)]
pub struct Step {
    pub name: String,
    /// Billions of floating-point operations, as the published architecture counts them: fewer are done.
    pub gflop: f64,
    #[serde(flatten)]
    pub timing: Timing,
}

pub fn measure(network: Option<Network>, bundle: &Path, device: DeviceChoice, repeat: u32) -> Result<Measured, BenchError> {
    let (name, model, device) = match network {
        Some(network) => {
            let device = device.open().map_err(EditError::from)?;
            let mut parameters = Parameters::random(&device.device).computing_in(device.compute);
            let model = Autoencoder::build_networks(&network.config(), &mut parameters).map_err(|e| BenchError::Network(e.to_string()))?;
            let model = model.on_kernels(cpu::Storage::Floats, device.compute);
            (format!("{network:?}, random weights").to_lowercase(), model, device)
        }
        None => {
            let bundle = Bundle::load(bundle).map_err(EditError::from)?;
            let name = bundle.manifest.name.clone();
            let (model, device) = edit::open(bundle, device)?;
            (name, model, device)
        }
    };
    let backend = if device.is_cpu() { format!("{}, {} kernels", device.name, cpu::instruction_set()) } else { device.name };
    let cost = model.cost;
    let name = format!("{name}: {:.1} million parameters, {:.2} GFLOP a guided step", cost.parameters as f64 / 1e6, cost.step_gflop);
    let threads = rayon::current_num_threads();
    Ok(Measured { name, backend, threads, peak: cpu::peak_gflops(), steps: steps(&model, repeat) })
}

/// Waits for results without fetching them, as the steps of a decode do not either.
fn computed<R>(model: &Autoencoder, results: R) {
    let results = black_box(results);
    if let Err(reason) = model.device().sync() {
        log::warn!("a step could not be waited for: {reason}");
    }
    drop(results);
}

/// Values that a network can be fed with.
fn feed<const D: usize>(model: &Autoencoder, shape: [usize; D]) -> Tensor<D> {
    model.tensor((0..shape.iter().product()).map(|i: usize| (i as f32 * 0.37).sin()).collect(), shape)
}

/// A guided step of `batch` pictures, waited for.
pub fn guided_step(model: &Autoencoder, batch: usize) -> impl Fn() {
    let (size, latent) = (model.config.image_size, model.config.latent_dim);
    let (x, z, timesteps) = (feed(model, [batch, 3, size, size]), feed(model, [batch, latent]), vec![500; batch]);
    move || computed(model, model.guided(x.clone(), &timesteps, z.clone()))
}

fn steps(model: &Autoencoder, repeat: u32) -> Vec<Step> {
    let (size, cost) = (model.config.image_size, model.cost);
    let (single, pair, x) = (guided_step(model, 1), guided_step(model, 2), feed(model, [1, 3, size, size]));
    let plain = || computed(model, model.noise(x.clone(), &[500]));
    let encoder = || computed(model, model.semantic_latent(x.clone()));
    let kinds: [(&str, f64, &dyn Fn()); 4] = [
        ("Guided step", cost.step_gflop, &single),
        ("Guided step, a pair", 2.0 * cost.step_gflop, &pair),
        ("Step of the plain DPM", cost.plain_step_gflop, &plain),
        ("Semantic latent", cost.encoder_gflop, &encoder),
    ];
    // As editing does: a card looks for its fastest kernels before.
    let looking = gpu::look(Duration::MAX);
    kinds.iter().for_each(|(.., pass)| pass());
    drop(looking);
    kinds.into_iter().map(|(name, gflop, pass)| Step { name: name.into(), gflop, timing: timed(repeat, pass) }).collect()
}
