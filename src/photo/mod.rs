//! Photos: decode, cut out what the model sees, put an edit back, write files.

pub mod animation;
mod encode;
pub mod exif;
pub mod export;
pub mod open;
pub mod paste;
pub mod pixels;
pub mod profile;
pub mod square;
pub mod xmp;

pub use export::{ExportError, ExportFormat, ExportOptions, write};
pub use open::{Metadata, Photo, PhotoError};
pub use paste::put_back;
pub use pixels::Pixels;
pub use profile::Profile;
pub use square::Square;
