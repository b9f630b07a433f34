//! Photos: decode, frame what the model sees, put an edit back, write files.

pub mod animation;
mod encode;
pub mod exif;
pub mod export;
pub mod frame;
mod heic;
pub mod open;
pub mod paste;
pub mod pixels;
pub mod profile;
pub mod xmp;

pub use export::{ExportError, ExportFormat, ExportOptions, check_place, write};
pub(crate) use frame::{Border, Pyramid};
pub use frame::{Fit, Frame, from_model, to_model};
pub use open::{Metadata, Photo, PhotoError};
pub use paste::{Reach, Upsampling, put_back};
pub use pixels::Pixels;
pub use profile::Profile;
