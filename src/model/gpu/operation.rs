//! The network as an operation of the tensor library: it is put in line with the library's own, and told to the card in its turn.

use std::sync::Arc;

use burn::backend::fusion::custom::TensorSpec;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, backend_extension};
use burn::tensor::{DType, Device, FloatDType, Tensor};
use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::into_contiguous;

use super::encoder;
use super::network::Network;
use crate::model::{self, ModelConfig, unet};

/// The DPM and the shift half, on a graphics card.
#[derive(Debug)]
pub struct Decoder(Arc<Network>);

/// The semantic encoder, on a graphics card.
#[derive(Debug)]
pub struct Encoder(Arc<encoder::Encoder>);

/// One reading of photos.
#[derive(Debug, Clone)]
pub struct Reading(Arc<encoder::Encoder>);

/// One pass through a network.
#[derive(Debug, Clone)]
pub struct Pass {
    network: Arc<Network>,
    timesteps: Arc<[usize]>,
}

/// Bytes that WebGPU promises to a cube.
const SHARED_MEMORY: usize = 16 << 10;

/// `G` for several sets of latents is one tensor, set after set.
fn outputs(x_t: &TensorSpec, z: &TensorSpec, _pass: &Pass) -> (TensorSpec, TensorSpec) {
    let mut gradients = x_t.clone();
    gradients.shape[0] = z.shape[0];
    (x_t.clone(), gradients)
}

/// A latent for each photo.
fn latents(x_0: &TensorSpec, reading: &Reading) -> TensorSpec {
    let mut latents = x_0.clone();
    latents.shape = [x_0.shape[0], reading.0.width()].into();
    latents
}

#[backend_extension(Cube, Fusion)]
pub trait NetworkOps: Backend {
    #[fusion(meta = latents)]
    fn semantic_latent(x_0: FloatTensor<Self>, reading: Reading) -> FloatTensor<Self>;

    #[fusion(dtype = x_t, shape = x_t)]
    fn decoder_noise(x_t: FloatTensor<Self>, pass: Pass) -> FloatTensor<Self>;

    #[fusion(meta = outputs)]
    fn decoder_guided(x_t: FloatTensor<Self>, z: FloatTensor<Self>, pass: Pass) -> (FloatTensor<Self>, FloatTensor<Self>);

    #[fusion(meta = outputs)]
    fn decoder_first(x_t: FloatTensor<Self>, z: FloatTensor<Self>, pass: Pass) -> (FloatTensor<Self>, FloatTensor<Self>);
}

impl NetworkOps for CubeBackend {
    fn semantic_latent(x_0: FloatTensor<Self>, reading: Reading) -> FloatTensor<Self> {
        reading.0.read(&into_contiguous(x_0))
    }

    fn decoder_noise(x_t: FloatTensor<Self>, pass: Pass) -> FloatTensor<Self> {
        pass.network.pass(&into_contiguous(x_t), &pass.timesteps, None).0
    }

    fn decoder_guided(x_t: FloatTensor<Self>, z: FloatTensor<Self>, pass: Pass) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let (eps, gradients) = pass.network.pass(&into_contiguous(x_t), &pass.timesteps, Some(&into_contiguous(z)));
        (eps, gradients.expect("latents were given"))
    }

    fn decoder_first(x_t: FloatTensor<Self>, z: FloatTensor<Self>, pass: Pass) -> (FloatTensor<Self>, FloatTensor<Self>) {
        pass.network.first_pass(&into_contiguous(x_t), &pass.timesteps, &into_contiguous(z))
    }
}

impl Encoder {
    /// Of an encoder whose tensors may be anywhere.
    pub fn new(encoder: &model::Encoder) -> Self {
        Self(Arc::new(encoder::Encoder::new(encoder)))
    }

    /// The latents of photos (`[batch, 3, size, size]`, on a graphics card): `[batch, latent]`.
    pub fn forward(&self, x_0: Tensor<4>) -> Tensor<2> {
        Tensor::from_dispatch(Dispatch::semantic_latent(x_0.into_dispatch(), Reading(self.0.clone())))
    }
}

impl Decoder {
    /// Of a network whose tensors may be anywhere; `compute` is the type of its products where it is narrower than 32 bits.
    pub fn new(decoder: &unet::ShiftDecoder, config: &ModelConfig, compute: Option<FloatDType>) -> Self {
        Self(Arc::new(Network::new(decoder, config, compute.map_or(DType::F32, DType::from))))
    }

    /// Whether the kernels can run this model there. They cannot on the CPU's backend, or where a row of attention's weights does not fit
    /// into the memory that every card shares among a cube's units.
    pub fn takes(config: &ModelConfig, device: &Device) -> bool {
        let bottom = 1 << (config.denoiser.channel_multiplier.len() - 1);
        let rates = config.denoiser.attention_resolutions.iter().copied().filter(|rate| *rate <= bottom).chain([bottom]);
        let widest = config.denoiser.channel_multiplier.iter().max().map_or(0, |m| m * config.denoiser.base_channel);
        let floats = rates.map(|rate| (config.grid() / rate.max(1)).pow(2)).max().unwrap_or(0) + widest + 256;
        *device != Device::flex() && floats * size_of::<f32>() <= SHARED_MEMORY
    }

    /// Timesteps of the passes to come: what hangs on them alone is computed for all of them with the next one.
    pub fn get_ready(&self, timesteps: impl IntoIterator<Item = usize>) {
        self.0.get_ready(timesteps);
    }

    fn at(&self, timesteps: &[usize]) -> Pass {
        Pass { network: self.0.clone(), timesteps: timesteps.into() }
    }

    /// The noise in `x_t` (`[batch, 3, size, size]`, on a graphics card), one timestep an image.
    pub fn noise(&self, x_t: Tensor<4>, timesteps: &[usize]) -> Tensor<4> {
        Tensor::from_dispatch(Dispatch::decoder_noise(x_t.into_dispatch(), self.at(timesteps)))
    }

    /// `(eps, G)` for the first step of a decode, of which all but `G` is remembered.
    pub fn guided_first(&self, x_t: Tensor<4>, timesteps: &[usize], z: Tensor<2>) -> (Tensor<4>, Tensor<4>) {
        let (eps, gradient) = Dispatch::decoder_first(x_t.into_dispatch(), z.into_dispatch(), self.at(timesteps));
        (Tensor::from_dispatch(eps), Tensor::from_dispatch(gradient))
    }

    /// `eps`, and `G` for each of several sets of latents (`[batch, latent]`), over the same `x_t`.
    pub fn guided(&self, x_t: Tensor<4>, timesteps: &[usize], latents: &[Tensor<2>]) -> (Tensor<4>, Vec<Tensor<4>>) {
        let batch = timesteps.len();
        let z = match latents {
            [z] => z.clone(),
            _ => Tensor::cat(latents.to_vec(), 0),
        };
        let (eps, gradients) = Dispatch::decoder_guided(x_t.into_dispatch(), z.into_dispatch(), self.at(timesteps));
        let gradients = Tensor::<4>::from_dispatch(gradients);
        let gradients = match latents {
            [_] => vec![gradients],
            _ => (0..latents.len()).map(|set| gradients.clone().narrow(0, set * batch, batch)).collect(),
        };
        (Tensor::from_dispatch(eps), gradients)
    }
}
