//! Writing pictures: to a temporary file first, then renamed, never over another file unless told to.

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use image::DynamicImage;
use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::PngEncoder;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::Photo;

/// How to write a picture.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ExportOptions {
    /// 1 to 100, for JPEG.
    pub jpeg_quality: u8,
    /// Whether an existing file may be replaced.
    pub overwrite: bool,
}

impl Default for ExportOptions {
    fn default() -> Self {
        Self { jpeg_quality: 95, overwrite: false }
    }
}

/// The formats that pictures are written in, chosen by the file's ending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExportFormat {
    Png,
    Jpeg,
}

#[derive(Debug, Error)]
pub enum ExportError {
    #[error("{path} does not end in .png, .jpg or .jpeg, so it is not clear how to write it", path = .0.display())]
    Ending(PathBuf),
    #[error("{path} exists already. Choose another name, or allow it to be replaced", path = .0.display())]
    Exists(PathBuf),
    #[error("{path} could not be written: {reason}. Nothing was changed; check that the folder exists and the disk has room", path = path.display())]
    Write { path: PathBuf, reason: String },
}

impl ExportFormat {
    pub fn of(path: &Path) -> Result<Self, ExportError> {
        match path.extension().map(|e| e.to_string_lossy().to_lowercase()).as_deref() {
            Some("png") => Ok(Self::Png),
            Some("jpg" | "jpeg") => Ok(Self::Jpeg),
            _ => Err(ExportError::Ending(path.into())),
        }
    }
}

/// Writes a photo. Alpha is kept where the format has it (PNG).
pub fn write(photo: &Photo, path: &Path, options: &ExportOptions) -> Result<(), ExportError> {
    let format = ExportFormat::of(path)?;
    if path.exists() && !options.overwrite {
        return Err(ExportError::Exists(path.into()));
    }
    let image = DynamicImage::ImageRgba8(photo.pixels.clone());
    let image = if photo.has_alpha && format == ExportFormat::Png { image } else { DynamicImage::ImageRgb8(image.into_rgb8()) };
    crate::files::write_renamed(path, options.overwrite, |file| {
        let mut out = BufWriter::new(file);
        match format {
            ExportFormat::Png => image.write_with_encoder(PngEncoder::new(&mut out)),
            ExportFormat::Jpeg => image.write_with_encoder(JpegEncoder::new_with_quality(&mut out, options.jpeg_quality.clamp(1, 100))),
        }
        .map_err(std::io::Error::other)?;
        out.flush()
    })
    .map_err(|e| match e.kind() {
        std::io::ErrorKind::AlreadyExists => ExportError::Exists(path.into()),
        _ => ExportError::Write { path: path.into(), reason: e.to_string() },
    })
}
