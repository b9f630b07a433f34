//! The networks of one bundle, put together: photo to latents, latents to photo.

use burn::tensor::{Device, FloatDType, Tensor, TensorData};

use super::cpu::{self, Noisy};
use super::gpu;
use super::{Encoder, LatentDpm, ModelConfig, ParameterError, Parameters, ShiftDecoder, Weights};
use crate::diffusion::{Chain, Direction, Inversion, Schedule, Solver, guided_noise};

/// Encoder, decoder and latent DPM on one device, ready to be asked.
#[derive(Debug)]
pub struct Autoencoder {
    pub config: ModelConfig,
    pub schedule: Schedule,
    networks: Networks,
    pub latent_dpm: Option<LatentDpm>,
    pub cost: Cost,
    device: Device,
}

/// What computes encoder and decoder.
#[derive(Debug)]
enum Networks {
    /// The tensor library, on any device.
    Tensors { encoder: Encoder, decoder: Box<ShiftDecoder> },
    /// Kernels of our own, on the CPU.
    Cpu { encoder: cpu::Encoder, decoder: Box<cpu::Decoder> },
    /// The same on a graphics card, in few kernels.
    Gpu { encoder: gpu::Encoder, decoder: gpu::Decoder },
}

/// What a model weighs and what a step costs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cost {
    /// Scalars in all networks.
    pub parameters: u64,
    /// Scalars of the decoder, both branches.
    pub decoder_parameters: u64,
    /// Billions of floating-point operations of one guided step at batch 1, both branches, a multiply-add counted as two.
    pub step_gflop: f64,
    /// The same for a step of the plain DPM.
    pub plain_step_gflop: f64,
    /// The same for the semantic encoder.
    pub encoder_gflop: f64,
}

/// How strongly and for how long the mean shift guides a decode.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Guidance {
    /// Factor on the mean shift; 1 is what was trained.
    pub strength: f64,
    /// Share of the chain, at its end, that is left to the plain DPM (0 to 1).
    pub stop_percent: f64,
}

impl Guidance {
    /// For faces from nothing: the end of the chain is the plain DPM's, which draws finer detail than a sampled latent asks for (the
    /// published stop of 0.3).
    pub fn unconditional() -> Self {
        Self { strength: 1.0, stop_percent: 0.3 }
    }
}

impl Default for Guidance {
    fn default() -> Self {
        Self { strength: 1.0, stop_percent: 0.0 }
    }
}

impl Autoencoder {
    /// Builds the networks from weights whose names start with `encoder.`, `decoder.` and (where configured) `latent_dpm.`.
    pub fn new(config: &ModelConfig, weights: &Weights, device: &Device) -> Result<Self, ParameterError> {
        Self::build_networks(config, &mut Parameters::from_weights(weights, device))
    }

    /// The same from any source of parameters, which afterwards knows the names of all that were used.
    pub fn build_networks(config: &ModelConfig, p: &mut Parameters) -> Result<Self, ParameterError> {
        // The encoder looks at a photo once, and everything hangs on what it says: it is not narrowed.
        let compute = p.compute();
        p.narrow_to(None);
        let encoder = p.scope("encoder", |p| Encoder::new(p, config.encoder, config.latent_dim))?;
        p.narrow_to(compute);
        let (encoder_parameters, encoder_macs) = (p.parameter_count(), p.multiply_adds());
        let decoder = p.scope("decoder", |p| ShiftDecoder::new(p, config))?;
        let decoder_parameters = p.parameter_count() - encoder_parameters;
        let gflop = |multiply_adds: u64| 2.0 * multiply_adds as f64 / 1e9;
        let step_gflop = gflop(p.multiply_adds() - encoder_macs);
        let plain_step_gflop = step_gflop - gflop(decoder.shift_multiply_adds());
        let latent_dpm = match &config.latent_dpm {
            Some(latent) => Some(p.scope("latent_dpm", |p| LatentDpm::new(p, latent))?),
            None => None,
        };
        let cost =
            Cost { parameters: p.parameter_count(), decoder_parameters, step_gflop, plain_step_gflop, encoder_gflop: gflop(encoder_macs) };
        let schedule = Schedule::new(&config.schedule);
        let networks = Networks::Tensors { encoder, decoder: Box::new(decoder) };
        Ok(Self { config: config.clone(), schedule, networks, latent_dpm, cost, device: p.device().clone() })
    }

    /// The same model by what is fastest on its device, for forward passes alone: see the two that follow.
    pub fn on_kernels(self, storage: cpu::Storage, compute: Option<FloatDType>) -> Self {
        if self.device == Device::flex() { self.on_cpu_kernels(storage) } else { self.on_gpu_kernels(compute) }
    }

    /// The same model on the CPU's own kernels, many times faster there than the tensor library, its weights kept as `storage` says.
    /// Tensors must be the CPU's. A model that is on them already stays as it is.
    pub fn on_cpu_kernels(mut self, storage: cpu::Storage) -> Self {
        if let Networks::Tensors { encoder, decoder } = &self.networks {
            self.networks = Networks::Cpu {
                encoder: cpu::Encoder::new(encoder, &self.config, storage),
                decoder: Box::new(cpu::Decoder::new(decoder, &self.config, storage)),
            };
        }
        self
    }

    /// The same model in kernels of our own for graphics cards, where there is a card and they have what the model needs;
    /// `compute` is the type of its products where it is narrower than 32 bits.
    pub fn on_gpu_kernels(mut self, compute: Option<FloatDType>) -> Self {
        if gpu::Decoder::takes(&self.config, &self.device) {
            self.networks = match self.networks {
                Networks::Tensors { encoder, decoder } => {
                    let decoder = gpu::Decoder::new(&decoder, &self.config, compute);
                    Networks::Gpu { encoder: gpu::Encoder::new(&encoder), decoder }
                }
                others => others,
            };
        }
        self
    }

    pub fn device(&self) -> &Device {
        &self.device
    }

    /// A tensor on this model's device.
    pub fn tensor<const D: usize>(&self, values: Vec<f32>, shape: [usize; D]) -> Tensor<D> {
        Tensor::from_data(TensorData::new(values, shape), &self.device)
    }

    /// The semantic latent of images `[batch, 3, size, size]` in [-1, 1]: `[batch, latent]`.
    pub fn semantic_latent(&self, x_0: Tensor<4>) -> Tensor<2> {
        match &self.networks {
            Networks::Tensors { encoder, .. } => encoder.forward(x_0),
            Networks::Gpu { encoder, .. } => encoder.forward(x_0),
            Networks::Cpu { encoder, .. } => {
                let batch = x_0.dims()[0];
                self.tensor(encoder.forward(&floats(x_0)), [batch, self.config.latent_dim])
            }
        }
    }

    /// The noise in `x_t` (`[batch, 3, size, size]`) as the plain DPM sees it, one timestep an image.
    pub fn noise(&self, x_t: Tensor<4>, timesteps: &[usize]) -> Tensor<4> {
        match &self.networks {
            Networks::Tensors { decoder, .. } => decoder.denoiser.forward(x_t, timesteps),
            Networks::Cpu { decoder, .. } => {
                let shape = x_t.dims();
                self.tensor(decoder.noise(Noisy { x_t: &floats(x_t), timesteps }), shape)
            }
            Networks::Gpu { decoder, .. } => decoder.noise(x_t, timesteps),
        }
    }

    /// The noise `eps` in `x_t` (`[batch, 3, size, size]`) and the mean shift `G` that `z` (`[batch, latent]`) asks for, one timestep an
    /// image.
    pub fn guided(&self, x_t: Tensor<4>, timesteps: &[usize], z: Tensor<2>) -> (Tensor<4>, Tensor<4>) {
        let (eps, mut gradients) = self.guided_many(x_t, timesteps, &[z]);
        (eps, gradients.swap_remove(0))
    }

    /// `eps` and one `G` for each of several latents over the same `x_t`.
    pub fn guided_many(&self, x_t: Tensor<4>, timesteps: &[usize], latents: &[Tensor<2>]) -> (Tensor<4>, Vec<Tensor<4>>) {
        match &self.networks {
            Networks::Tensors { decoder, .. } => decoder.forward_many(x_t, timesteps, latents),
            Networks::Cpu { decoder, .. } => {
                let shape = x_t.dims();
                let latents: Vec<Vec<f32>> = latents.iter().map(|z| floats(z.clone())).collect();
                let latents: Vec<&[f32]> = latents.iter().map(|z| &z[..]).collect();
                let (eps, gradients) = decoder.guided(Noisy { x_t: &floats(x_t), timesteps }, &latents);
                (self.tensor(eps, shape), gradients.into_iter().map(|g| self.tensor(g, shape)).collect())
            }
            Networks::Gpu { decoder, .. } => decoder.guided(x_t, timesteps, latents),
        }
    }

    /// The same as [`Autoencoder::guided`] for the first step of a decode, of which all but `G` is remembered where that saves time.
    fn guided_first(&self, x_t: Tensor<4>, timesteps: &[usize], z: Tensor<2>) -> (Tensor<4>, Tensor<4>) {
        match &self.networks {
            Networks::Tensors { .. } => self.guided(x_t, timesteps, z),
            Networks::Gpu { decoder, .. } => decoder.guided_first(x_t, timesteps, z),
            Networks::Cpu { decoder, .. } => {
                let shape = x_t.dims();
                let (eps, mut gradients) = decoder.guided_first(Noisy { x_t: &floats(x_t), timesteps }, &[&floats(z)]);
                (self.tensor(eps, shape), self.tensor(gradients.swap_remove(0), shape))
            }
        }
    }

    /// The next step of a chain over images, guided by `z`. Returns the predicted image, or `None` at the chain's end.
    pub fn step(&self, chain: &mut Chain<4>, z: &Tensor<2>, guidance: Guidance) -> Option<Tensor<4>> {
        let t = self.next_timestep(chain)?;
        let timesteps = vec![t; chain.x.dims()[0]];
        let eps = if chain.is_guided(guidance.stop_percent) {
            let guided = if chain.starts_decode() { Self::guided_first } else { Self::guided };
            let (eps, gradient) = guided(self, chain.x.clone(), &timesteps, z.clone());
            guided_noise(&self.schedule, t, eps, gradient, guidance.strength)
        } else {
            self.noise(chain.x.clone(), &timesteps)
        };
        Some(chain.advance(&self.schedule, eps))
    }

    /// The timestep of a chain's next step. At the first one, everything that all its timesteps ask for is computed together.
    fn next_timestep(&self, chain: &Chain<4>) -> Option<usize> {
        if chain.done() == 0 {
            match &self.networks {
                Networks::Tensors { .. } => {}
                Networks::Cpu { decoder, .. } => decoder.get_ready(chain.timesteps_ahead()),
                Networks::Gpu { decoder, .. } => decoder.get_ready(chain.timesteps_ahead()),
            }
        }
        chain.timestep()
    }

    /// The mean squared gap between the true posterior mean of `x_{t-1}` and the predicted one, each `[1]`: the DPM's own, and with the mean
    /// shift `Sigma_t G`, which moves the noise by `shift_coef_t G` (paper, equation 14). Equation 13 is the DDIM sampler's, and another
    /// shift at small `t`. `x_0` (in [-1, 1]) and `noise` are `[batch, 3, size, size]`.
    pub fn posterior_gap(&self, x_0: Tensor<4>, noise: Tensor<4>, z: Tensor<2>, t: usize) -> [Tensor<1>; 2] {
        let (signal, sigma) = self.schedule.forward_factors(t);
        let timesteps = vec![t; x_0.dims()[0]];
        let (eps, gradient) = self.guided(x_0 * signal + noise.clone() * sigma, &timesteps, z);
        let shifted = eps.clone() + gradient * self.schedule.shift_coef[t];
        [eps, shifted].map(|eps| (eps - noise.clone()).square().mean() * self.schedule.posterior_factor(t))
    }

    /// The whole chain from a stochastic latent to an image in about [-1, 1], as published.
    pub fn decode(&self, x_t: Tensor<4>, z: &Tensor<2>, steps: usize, guidance: Guidance) -> Tensor<4> {
        self.decode_by(Solver::Ddim, x_t, z, steps, guidance)
    }

    /// The same by a solver of choice.
    pub fn decode_by(&self, solver: Solver, x_t: Tensor<4>, z: &Tensor<2>, steps: usize, guidance: Guidance) -> Tensor<4> {
        let mut chain = Chain::decode(&self.schedule, steps, solver, x_t);
        while self.step(&mut chain, z, guidance).is_some() {}
        chain.x
    }

    /// The published DDIM inversion: the stochastic latent that decodes to `x_0` (`[batch, 3, size, size]` in [-1, 1]).
    pub fn infer_stochastic_latent(&self, x_0: Tensor<4>, z: &Tensor<2>, steps: usize) -> Tensor<4> {
        self.infer_stochastic_latent_by(Inversion::Explicit, x_0, z, steps)
    }

    /// The same by an inversion of choice.
    pub fn infer_stochastic_latent_by(&self, inversion: Inversion, x_0: Tensor<4>, z: &Tensor<2>, steps: usize) -> Tensor<4> {
        let mut chain = Chain::invert(&self.schedule, steps, inversion, x_0);
        while self.step(&mut chain, z, Guidance::default()).is_some() {}
        chain.x
    }

    /// The next step of trajectory interpolation: the mean shifts of two latents (each `[1, latent]`) mixed by `alpha` (0 = `z_a`).
    /// Returns the predicted image, or `None` at the chain's end.
    pub fn step_between(
        &self,
        chain: &mut Chain<4>,
        z_a: &Tensor<2>,
        z_b: &Tensor<2>,
        alpha: f64,
        guidance: Guidance,
    ) -> Option<Tensor<4>> {
        let t = self.next_timestep(chain)?;
        let timesteps = vec![t; chain.x.dims()[0]];
        let eps = if chain.is_guided(guidance.stop_percent) {
            let (eps, mut gradients) = self.guided_many(chain.x.clone(), &timesteps, &[z_a.clone(), z_b.clone()]);
            let (b, a) = (gradients.remove(1), gradients.remove(0));
            guided_noise(&self.schedule, t, eps, crate::diffusion::lerp(a, b, alpha), guidance.strength)
        } else {
            self.noise(chain.x.clone(), &timesteps)
        };
        Some(chain.advance(&self.schedule, eps))
    }

    /// Trajectory interpolation: one `x_T`, and at every step the mean shifts of both latents mixed by `alpha` (0 = `z_a`).
    pub fn decode_trajectory(&self, x_t: Tensor<4>, z_a: &Tensor<2>, z_b: &Tensor<2>, alpha: f64, steps: usize) -> Tensor<4> {
        let mut chain = Chain::new(&self.schedule, steps, Direction::Decode, x_t);
        while self.step_between(&mut chain, z_a, z_b, alpha, Guidance::default()).is_some() {}
        chain.x
    }

    /// Normalised semantic latents from noise `[batch, latent]` through the latent DPM, in [-1, 1] as the published loop leaves them.
    /// `None` where the bundle has no latent DPM.
    pub fn sample_latents(&self, z_t: Tensor<2>, steps: usize) -> Option<Tensor<2>> {
        Some(self.latent_dpm.as_ref()?.sample(z_t, steps))
    }

    /// The same from standard normal noise, started as published.
    pub fn sample_latents_from_noise(&self, noise: Tensor<2>, steps: usize) -> Option<Tensor<2>> {
        Some(self.latent_dpm.as_ref()?.sample_from_noise(noise, steps))
    }
}

/// The values of a tensor of the CPU's, whose memory is at hand.
fn floats<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().convert::<f32>().try_to_vec().expect("converted to f32 just now")
}
