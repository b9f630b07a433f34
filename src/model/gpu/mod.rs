//! The networks on a graphics card, each as one operation of the tensor library: the same weights and the same mathematics as the modules
//! in [`crate::model`], in a quarter of the kernels. Training uses the modules, whose layers are in [`training`] and [`norm`].
//!
//! A card spends most of a small network's time on being told what to do next, so what counts is the number of kernels that a step
//! starts:
//!
//! - Feature maps stay channels-last, as convolutions want them, and weights are laid out for them once: nothing is copied in between.
//! - Group norm, the modulations by timestep and semantic latent, and SiLU are one kernel; attention is another.
//! - Modulations of all residual blocks come from one matrix product, those of a chain's timesteps together before its first step.
//! - The whole network is told in one go, without the tensor library looking for operations to fuse.
//! - And it is told once: passes of one kind are repeated from a [`recording`].
//!
//! Convolutions and matrix products are the tensor library's own where shaders reach a card's matrix units, tuned for it; elsewhere those
//! in [`product`], each worked out in the way that [`plans`] finds fastest. All kernels here are written in the
//! library's kernel language, so they run wherever it does: Vulkan, Metal, DX12, CUDA.

mod adam;
mod encoder;
mod kernels;
mod network;
mod norm;
mod operation;
mod plans;
mod product;
mod recording;
mod surface;
mod training;
mod winograd;

pub use operation::{Decoder, Encoder};
pub use plans::{Looking, look};
