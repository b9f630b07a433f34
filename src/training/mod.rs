//! Training: data set, DPM, autoencoder, directions. Resumable, seeded, on any device.
//!
//! A stage ([`dpm`], [`autoencoder`], [`latent_dpm`]) is a network and a loss; the [`learner`] turns losses into weights by [`adam`], and
//! the [`run`] around them feeds batches, saves, logs and draws; on processors it cuts batches into [`parts`]. [`judge`] is a classifier of
//! photos, for `evaluate` alone. [`directions`] fits the attribute classifier on a finished bundle, and [`sliders`] learns through the
//! decoder where its sliders lead. The method and its constants are those of the paper's section 3.4 and of its published configurations.

pub mod adam;
pub mod autoencoder;
pub mod data;
pub mod directions;
pub mod dpm;
pub mod error;
pub mod forward;
pub mod judge;
pub mod latent_dpm;
pub mod latents;
pub mod learner;
pub mod parts;
pub mod pictures;
pub mod run;
pub mod sliders;

pub use data::{Batch, ImageSet};
pub use error::TrainError;
pub use learner::{Hyperparameters, Learner};
pub use run::{Limits, RunConfig, RunFolder};
