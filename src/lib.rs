//! PDAE Studio: edit face photos through a diffusion autoencoder.
//!
//! The rooms, top to bottom; each knows only those below it:
//!
//! - [`studio`]: the window. [`cli`]: one file a command.
//! - [`evaluation`]: how good a bundle is, in one table, and sheets of edits.
//! - [`engine`]: the one background thread that owns the device and the model.
//! - [`training`]: data set, DPM, autoencoder, directions, latent DPM, judge.
//! - [`face`]: finding faces in photos.
//! - [`editing`]: what an edit is, as plain numbers. [`photo`]: image files in and out.
//! - [`checkpoint`]: bundles and the import of published files.
//! - [`model`]: the networks. [`diffusion`]: schedules, samplers, inversion, guidance.
//! - [`device`]: what to compute on. [`memory`]: giving it back. [`files`]: writing without leaving half a file.

pub mod checkpoint;
pub mod cli;
pub mod device;
pub mod diffusion;
pub mod editing;
pub mod engine;
pub mod evaluation;
pub mod face;
pub mod files;
pub mod memory;
pub mod model;
mod panics;
pub mod photo;
pub mod studio;
pub mod training;
