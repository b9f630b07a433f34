//! Opening photos, upright and within limits.

use std::io::Cursor;
use std::path::{Path, PathBuf};

use image::{DynamicImage, ImageDecoder, ImageReader, Limits, RgbaImage};
use thiserror::Error;

/// A photo in memory: upright, 8 bits a channel.
#[derive(Debug, Clone)]
pub struct Photo {
    /// For titles and suggested names; the file's stem or "Pasted picture".
    pub name: String,
    /// The file it came from, if any.
    pub path: Option<PathBuf>,
    pub pixels: RgbaImage,
    /// Whether the alpha channel means anything.
    pub has_alpha: bool,
}

/// Pixels of the largest photo that is taken: 100 megapixels and some.
pub const MAX_PIXELS: u64 = 120_000_000;
/// Side of the largest photo, in pixels.
pub const MAX_SIDE: u32 = 60_000;
/// Bytes that decoding may take.
const MAX_BYTES: u64 = 2 << 30;

#[derive(Debug, Error)]
pub enum PhotoError {
    #[error("{path} could not be opened: {source}", path = path.display())]
    Io { path: PathBuf, source: std::io::Error },
    #[error("{name} is not a picture in a format that PDAE Studio reads (JPEG, PNG, WebP, TIFF, BMP, GIF)")]
    Format { name: String },
    #[error("{name} could not be read: {reason}. The file may be damaged or only partly copied")]
    Decode { name: String, reason: String },
    #[error("{name} has {width} x {height} pixels, more than the 120 megapixels that PDAE Studio takes. Make it smaller first")]
    TooLarge { name: String, width: u32, height: u32 },
    #[error("{name} is only {width} x {height} pixels: too small to hold a face. At least 16 pixels a side are needed")]
    TooSmall { name: String, width: u32, height: u32 },
}

impl Photo {
    /// Opens a file. The format is told by its contents, not its name; EXIF orientation is applied.
    pub fn open(path: &Path) -> Result<Self, PhotoError> {
        let bytes = std::fs::read(path).map_err(|source| PhotoError::Io { path: path.into(), source })?;
        let shown = path.file_name().map_or_else(|| path.display().to_string(), |n| n.to_string_lossy().into_owned());
        let mut photo = Self::decode(&bytes, &shown)?;
        photo.name = path.file_stem().map_or(shown, |n| n.to_string_lossy().into_owned());
        photo.path = Some(path.into());
        Ok(photo)
    }

    /// Decodes a file's bytes; `name` is for messages.
    pub fn decode(bytes: &[u8], name: &str) -> Result<Self, PhotoError> {
        let decode = |e: image::ImageError| PhotoError::Decode { name: name.into(), reason: e.to_string() };
        let mut reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(|e| decode(image::ImageError::IoError(e)))?;
        if reader.format().is_none() {
            return Err(PhotoError::Format { name: name.into() });
        }
        reader.no_limits(); // applied below, once the size is known
        let mut decoder = reader.into_decoder().map_err(|e| match e {
            image::ImageError::Unsupported(_) => PhotoError::Format { name: name.into() },
            e => decode(e),
        })?;
        let (width, height) = decoder.dimensions();
        if width > MAX_SIDE || height > MAX_SIDE || u64::from(width) * u64::from(height) > MAX_PIXELS {
            return Err(PhotoError::TooLarge { name: name.into(), width, height });
        }
        let mut limits = Limits::default();
        limits.max_alloc = Some(MAX_BYTES);
        decoder.set_limits(limits).map_err(decode)?;
        // A photo with a damaged EXIF block is still a photo.
        let orientation = decoder.orientation().unwrap_or(image::metadata::Orientation::NoTransforms);
        let mut image = DynamicImage::from_decoder(decoder).map_err(decode)?;
        image.apply_orientation(orientation);
        Self::from_image(image, name)
    }

    /// A photo from pixels that are already in memory.
    pub fn from_image(image: DynamicImage, name: &str) -> Result<Self, PhotoError> {
        let (width, height) = (image.width(), image.height());
        if width < 16 || height < 16 {
            return Err(PhotoError::TooSmall { name: name.into(), width, height });
        }
        let has_alpha = image.color().has_alpha();
        Ok(Self { name: name.into(), path: None, pixels: image.into_rgba8(), has_alpha })
    }

    pub fn width(&self) -> u32 {
        self.pixels.width()
    }

    pub fn height(&self) -> u32 {
        self.pixels.height()
    }
}
