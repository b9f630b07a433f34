//! Photos: decode, cut out what the model sees, put an edit back, write files.

pub mod export;
pub mod open;
pub mod paste;
pub mod square;

pub use export::{ExportError, ExportFormat, ExportOptions, write};
pub use open::{Photo, PhotoError};
pub use paste::put_back;
pub use square::Square;
