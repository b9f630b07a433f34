//! Noise schedules, DDIM sampling and inversion, guidance by the learned mean shift, edits of latents.
//!
//! Nothing here knows a network: a step is given the noise that some network predicted. That keeps one sampler for images and
//! latents, for the plain and the guided DPM, and for tests without any network at all.

pub mod interpolation;
pub mod sampler;
pub mod schedule;

pub use interpolation::{lerp, slerp, slerp_inferred};
pub use sampler::{Chain, Direction, Inversion, Solver, guided_noise};
pub use schedule::{Betas, Schedule, ScheduleConfig};
