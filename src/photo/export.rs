//! Writing pictures: to a temporary file first, then renamed, never over another file unless told to.

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::xmp::{self, DigitalSource};
use super::{Photo, encode, exif};

/// How to write a picture.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ExportOptions {
    /// 1 to 100, for JPEG.
    pub jpeg_quality: u8,
    /// Whether the photo's EXIF and XMP go into the copy. Its colour profile always does.
    pub keep_metadata: bool,
    /// Whether an edited picture's XMP says that it was made with a trained model.
    pub state_source: bool,
    /// Whether an existing file may be replaced. Not a property of the picture, so it is never saved.
    #[serde(skip)]
    pub overwrite: bool,
}

impl Default for ExportOptions {
    fn default() -> Self {
        Self { jpeg_quality: 95, keep_metadata: true, state_source: true, overwrite: false }
    }
}

/// The formats that pictures are written in, chosen by the file's ending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExportFormat {
    /// Lossless, 8 or 16 bits.
    Png,
    /// 8 bits, without alpha.
    Jpeg,
    /// Lossless, 8 bits.
    WebP,
    /// Lossless, 8 or 16 bits.
    Tiff,
}

#[derive(Debug, Error)]
pub enum ExportError {
    #[error("{path} does not end in .png, .jpg, .jpeg, .webp, .tif or .tiff, so it is not clear how to write it", path = .0.display())]
    Ending(PathBuf),
    #[error("{path} exists already. Choose another name, or allow it to be replaced", path = .0.display())]
    Exists(PathBuf),
    #[error("{path} cannot be written: {format:?} holds at most {limit} pixels a side. Choose PNG or TIFF", path = path.display())]
    TooLarge { path: PathBuf, format: ExportFormat, limit: u32 },
    #[error("{path} could not be written: {reason}. Nothing was changed; check that the folder exists and the disk has room", path = path.display())]
    Write { path: PathBuf, reason: String },
}

impl ExportFormat {
    /// By the ending of `path`.
    pub fn of(path: &Path) -> Result<Self, ExportError> {
        match path.extension().map(|e| e.to_string_lossy().to_lowercase()).as_deref() {
            Some("png") => Ok(Self::Png),
            Some("jpg" | "jpeg") => Ok(Self::Jpeg),
            Some("webp") => Ok(Self::WebP),
            Some("tif" | "tiff") => Ok(Self::Tiff),
            _ => Err(ExportError::Ending(path.into())),
        }
    }

    /// Most pixels a side.
    fn limit(self) -> u32 {
        match self {
            Self::WebP => 16_383,
            Self::Jpeg => 65_535,
            Self::Png | Self::Tiff => u32::MAX,
        }
    }
}

/// What goes into a file beside its pixels, colour profile excepted.
#[derive(Debug, Default)]
pub(super) struct Attachments {
    pub exif: Option<Vec<u8>>,
    pub xmp: Option<Vec<u8>>,
}

/// Writes a photo. Alpha and 16 bits are kept where the format has them.
pub fn write(photo: &Photo, path: &Path, options: &ExportOptions) -> Result<(), ExportError> {
    let format = ExportFormat::of(path)?;
    if path.exists() && !options.overwrite {
        return Err(ExportError::Exists(path.into()));
    }
    let limit = format.limit();
    if photo.width().max(photo.height()) > limit {
        return Err(ExportError::TooLarge { path: path.into(), format, limit });
    }
    let attachments = attachments(photo, options);
    write_with(path, options.overwrite, |out| encode::encode(photo, format, options.jpeg_quality.clamp(1, 100), attachments, out))
}

/// Whether a picture will get its place, for whoever has long to compute before.
pub fn check_place(path: &Path, overwrite: bool) -> Result<(), ExportError> {
    if path.exists() && !overwrite {
        return Err(ExportError::Exists(path.into()));
    }
    crate::files::check_writable(path).map_err(|e| ExportError::Write { path: path.into(), reason: e.to_string() })
}

/// Lets `encode` fill a new file.
pub(super) fn write_with<E: std::fmt::Display>(
    path: &Path,
    overwrite: bool,
    encode: impl FnOnce(&mut BufWriter<&mut std::fs::File>) -> Result<(), E>,
) -> Result<(), ExportError> {
    crate::files::write_renamed(path, overwrite, |file| {
        let mut out = BufWriter::new(file);
        encode(&mut out).map_err(|e| std::io::Error::other(e.to_string()))?;
        out.flush()
    })
    .map_err(|e| match e.kind() {
        std::io::ErrorKind::AlreadyExists => ExportError::Exists(path.into()),
        _ => ExportError::Write { path: path.into(), reason: e.to_string() },
    })
}

fn attachments(photo: &Photo, options: &ExportOptions) -> Attachments {
    // An edit of what a model has made throughout is still that.
    let edit = photo.is_edited.then_some(DigitalSource::CompositeWithTrainedAlgorithmicMedia);
    let source = photo.made_by.or(edit).filter(|_| options.state_source);
    let mut kept = if options.keep_metadata { photo.metadata.clone() } else { Default::default() };
    if let Some(exif) = &mut kept.exif {
        exif::set_size(exif, photo.width(), photo.height());
    }
    // A packet that cannot be read may say anything, so it is not passed on.
    let own = kept.xmp.and_then(|packet| xmp::rewritten(&packet, source));
    Attachments { exif: kept.exif, xmp: own.or_else(|| source.map(xmp::statement)) }
}
