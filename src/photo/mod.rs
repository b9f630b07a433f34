//! Photos: decode, frame what the model sees, put an edit back, write files.

pub mod export;
pub mod frame;
pub mod open;
pub mod paste;

pub use export::{ExportError, ExportFormat, ExportOptions, write};
pub(crate) use frame::{Border, Pyramid};
pub use frame::{Fit, Frame, from_model, to_model};
pub use open::{Photo, PhotoError};
pub use paste::{Upsampling, put_back};
