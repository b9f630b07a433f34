//! The networks on a CPU, without the tensor library: the same weights and the same mathematics, ahead of general-purpose runtimes.
//!
//! Graphics cards have kernels of their own ([`super::gpu`]). This room is made from the modules in [`crate::model`] once they hold a model's
//! weights, and serves forward passes only; training uses those modules themselves, and of this room [`training`] alone: layers forwards
//! and backwards, on the same kernels. What makes it fast:
//!
//! - Feature maps stay channels-last, as the kernels want them, through the whole network. Group norm, the modulations by timestep and
//!   semantic latent, SiLU, resampling, the concatenation with a skip and the border that a convolution needs are one pass.
//! - 3 x 3 convolutions go through Winograd's minimal filtering (Lavin and Gray, 2016) with weights transformed when a model is loaded.
//! - The matrix kernel reads convolution windows where they lie, and the weights of the next block are fetched during the present one.
//! - Weights that came as 16-bit floats are kept as 16-bit integers: there is half as much to read, and small maps are bound by that.
//! - Everything that depends on the timestep or the semantic latent alone is computed once and kept.
//! - The two halves of a guided step run side by side, and each spreads over further threads where there are some.
//!
//! From the bottom up: [`lanes`] (sixteen floats), [`kernels`] (inner loops for AVX-512, AVX2 and any machine), [`matrix`],
//! [`convolution`], [`map`] and [`attention`] (layers), [`network`]; and [`training`].

mod attention;
mod buffer;
mod convolution;
mod kernels;
mod lanes;
mod map;
mod matrix;
mod network;
#[cfg(test)]
mod tests;
pub(super) mod training;

pub(super) use kernels::kernels;
pub(super) use lanes::LANE;
pub use matrix::Storage;
pub use network::{Decoder, Encoder, Noisy};

/// GFLOP/s of a matrix product large enough to be at its best, on all threads: what the machine can do at most.
pub fn peak_gflops() -> f64 {
    matrix::peak_gflops(kernels())
}

/// The instruction set that the networks use on this machine.
pub fn instruction_set() -> &'static str {
    kernels().name
}
