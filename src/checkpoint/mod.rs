//! Files that hold a model: our own bundles, and the published PyTorch checkpoints that can be turned into one.

pub mod bundle;
pub mod error;
pub mod import;
pub mod pytorch;
pub mod tensors;

pub use bundle::{Bundle, Manifest, Provenance};
pub use error::CheckpointError;
pub use import::import;
