//! Opening photos, upright and within limits.

use std::borrow::Cow;
use std::io::Cursor;
use std::path::{Path, PathBuf};

use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits, Rgb, Rgb32FImage, RgbImage, RgbaImage};
use rayon::prelude::*;
use sha2::{Digest, Sha256};
use thiserror::Error;

use super::pixels::{Sample, over_white};
use super::xmp::{self, DigitalSource};
use super::{Pixels, Profile, exif, heic};

/// A photo in memory, upright, in its own depth and colour space.
#[derive(Debug, Clone)]
pub struct Photo {
    /// For titles and suggested names; the file's stem or "Pasted picture".
    pub name: String,
    /// The file it came from, if any.
    pub path: Option<PathBuf>,
    pub pixels: Pixels,
    /// Whether the alpha channel means anything.
    pub has_alpha: bool,
    /// Whether the file has grey values only.
    pub is_grey: bool,
    /// The embedded colour profile; `None` is sRGB.
    pub profile: Option<Profile>,
    pub metadata: Metadata,
    /// SHA-256 of the file, as hexadecimal.
    pub sha256: Option<String>,
    /// Whether any pixel is no longer the file's own.
    pub is_edited: bool,
    /// What a trained model had to do with it before any edit.
    pub made_by: Option<DigitalSource>,
}

/// What a file says beside its pixels, made to describe the upright picture.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Metadata {
    /// From the TIFF header on.
    pub exif: Option<Vec<u8>>,
    /// The packet as it was.
    pub xmp: Option<Vec<u8>>,
}

/// Pixels of the largest photo that is taken: 100 megapixels and some (cameras with 102 exist).
pub const MAX_PIXELS: u64 = 120_000_000;
/// Side of the largest photo, in pixels.
pub const MAX_SIDE: u32 = 60_000;
/// Bytes that decoding may take.
pub(super) const MAX_BYTES: u64 = 2 << 30;
/// Bytes that what a PNG says beside its pixels may take; the decoder's own default.
const MAX_PNG_EXTRAS: u64 = 64 << 20;
/// Bytes of the largest file; 120 megapixels at 16 bits without compression fit.
const MAX_FILE_BYTES: u64 = 1 << 30;

#[derive(Debug, Error)]
pub enum PhotoError {
    #[error("{path} could not be opened: {source}", path = path.display())]
    Io { path: PathBuf, source: std::io::Error },
    #[error("{name} is not a picture in a format that PDAE Studio reads (JPEG, PNG, WebP, TIFF, BMP, GIF, HEIC)")]
    Format { name: String },
    #[error("{name} is a file in the {format} format, which PDAE Studio does not read. Convert it to JPEG or PNG first")]
    KnownFormat { name: String, format: &'static str },
    #[error("{name} is a kind of HEIC picture that PDAE Studio does not read ({reason}). Convert it to JPEG or PNG first")]
    PartOfFormat { name: String, reason: String },
    #[error("{name} could not be read: {reason}. The file may be damaged or only partly copied")]
    Decode { name: String, reason: String },
    #[error("{name} has {width} x {height} pixels, more than the 120 megapixels that PDAE Studio takes. Make it smaller first")]
    TooLarge { name: String, width: u32, height: u32 },
    #[error("{name} needs {gigabytes:.1} GB of memory to decode, more than the 2.1 GB that PDAE Studio takes. Make it smaller first")]
    TooMuchMemory { name: String, gigabytes: f64 },
    #[error("{name} is empty (0 bytes). Copy it again")]
    Empty { name: String },
}

impl Photo {
    /// Opens a file. The format is told by its contents, not its name; EXIF orientation is applied.
    pub fn open(path: &Path) -> Result<Self, PhotoError> {
        let shown = path.file_name().map_or_else(|| path.display().to_string(), |n| n.to_string_lossy().into_owned());
        let size = Self::check(path)?;
        if size > MAX_FILE_BYTES {
            return Err(PhotoError::TooMuchMemory { name: shown, gigabytes: size as f64 / 1e9 });
        }
        let bytes = std::fs::read(path).map_err(|source| PhotoError::Io { path: path.into(), source })?;
        let mut photo = Self::decode(&bytes, &shown)?;
        photo.name = path.file_stem().map_or(shown, |n| n.to_string_lossy().into_owned());
        photo.path = Some(path.into());
        Ok(photo)
    }

    /// Whether there is a file to open, for whoever has much to do before. Returns its bytes.
    pub fn check(path: &Path) -> Result<u64, PhotoError> {
        let io = |source| PhotoError::Io { path: path.into(), source };
        let found = std::fs::metadata(path).map_err(io)?;
        if found.is_dir() {
            return Err(io(std::io::Error::new(std::io::ErrorKind::IsADirectory, "it is a folder. Choose a photo in it instead")));
        }
        Ok(found.len())
    }

    /// Decodes a file's bytes; `name` is for messages. Of an animation, the first frame.
    pub fn decode(bytes: &[u8], name: &str) -> Result<Self, PhotoError> {
        if bytes.is_empty() {
            return Err(PhotoError::Empty { name: name.into() });
        }
        if heic::recognises(bytes) {
            let heic::Heic { image, icc, metadata } = heic::decode(bytes, name)?;
            return Self::with_file(image, name, bytes, icc, metadata);
        }
        let decode = |e: image::ImageError| PhotoError::Decode { name: name.into(), reason: e.to_string() };
        let mut reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(|e| decode(image::ImageError::IoError(e)))?;
        if let Some(format) = known_format(bytes) {
            return Err(PhotoError::KnownFormat { name: name.into(), format });
        }
        let Some(format) = reader.format() else { return Err(PhotoError::Format { name: name.into() }) };
        if format == ImageFormat::Jpeg && !ends_properly(bytes) {
            // The decoder fills what is missing with grey and says nothing.
            return Err(PhotoError::Decode { name: name.into(), reason: "it ends in the middle of the picture".into() });
        }
        // Applied below, once the size is known. But a PNG unpacks its profile, of whatever size, before it tells that.
        let mut limits = Limits::no_limits();
        limits.max_alloc = (format == ImageFormat::Png).then_some(MAX_PNG_EXTRAS);
        reader.limits(limits);
        let mut decoder = reader.into_decoder().map_err(|e| match e {
            image::ImageError::Unsupported(_) => PhotoError::Format { name: name.into() },
            e => decode(e),
        })?;
        check_size(&decoder, name)?;
        let mut limits = Limits::default();
        limits.max_alloc = Some(MAX_BYTES);
        decoder.set_limits(limits).map_err(decode)?;
        // A photo with damaged metadata is still a photo.
        let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
        let (exif, xmp, icc) = if format == ImageFormat::Tiff {
            // The decoder has no EXIF, and refuses profiles larger than the picture.
            let metadata = exif::from_tiff(bytes);
            (metadata.exif, metadata.xmp, metadata.icc)
        } else {
            (decoder.exif_metadata().ok().flatten(), decoder.xmp_metadata().ok().flatten(), decoder.icc_profile().ok().flatten())
        };
        let mut image = DynamicImage::from_decoder(decoder).map_err(decode)?;
        image.apply_orientation(orientation);
        Self::with_file(image, name, bytes, icc, Metadata { exif, xmp })
    }

    /// A photo from its file's upright pixels and what else the file says.
    fn with_file(image: DynamicImage, name: &str, bytes: &[u8], icc: Option<Vec<u8>>, mut metadata: Metadata) -> Result<Self, PhotoError> {
        if let Some(exif) = &mut metadata.exif {
            exif::make_upright(exif);
        }
        let mut photo = Self::from_image(image, name)?;
        photo.profile = icc.and_then(|icc| Profile::read(&icc, photo.is_grey));
        photo.made_by = metadata.xmp.as_deref().and_then(xmp::source);
        photo.metadata = metadata;
        photo.sha256 = Some(Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect());
        Ok(photo)
    }

    /// A photo from sRGB pixels that are already in memory.
    pub fn from_image(image: DynamicImage, name: &str) -> Result<Self, PhotoError> {
        let (width, height) = (image.width(), image.height());
        if width == 0 || height == 0 {
            return Err(PhotoError::Empty { name: name.into() });
        }
        let (has_alpha, is_grey) = (image.color().has_alpha(), !image.color().has_color());
        Ok(Self {
            name: name.into(),
            path: None,
            pixels: image.into(),
            has_alpha,
            is_grey,
            profile: None,
            metadata: Metadata::default(),
            sha256: None,
            is_edited: false,
            made_by: None,
        })
    }

    /// The photo with other pixels of the same kind, for a part of it.
    pub(crate) fn with_pixels(&self, pixels: Pixels) -> Self {
        Self {
            pixels,
            name: self.name.clone(),
            path: self.path.clone(),
            profile: self.profile.clone(),
            metadata: self.metadata.clone(),
            sha256: self.sha256.clone(),
            ..*self
        }
    }

    /// Another picture, in sRGB, made from this photo: with its name and metadata.
    pub fn replaced_by(&self, picture: RgbImage) -> Self {
        Self {
            pixels: Pixels::Eight(DynamicImage::ImageRgb8(picture).into_rgba8()),
            has_alpha: false,
            is_grey: false,
            is_edited: true,
            made_by: self.made_by,
            profile: None,
            name: self.name.clone(),
            path: self.path.clone(),
            metadata: self.metadata.clone(),
            sha256: self.sha256.clone(),
        }
    }

    pub fn width(&self) -> u32 {
        self.pixels.dimensions().0
    }

    pub fn height(&self) -> u32 {
        self.pixels.dimensions().1
    }

    /// The whole photo as 8-bit sRGB. Alpha is the photo's own, or full where the pixels had to be converted (over white).
    pub fn srgb_pixels(&self) -> Cow<'_, RgbaImage> {
        match &self.pixels {
            Pixels::Eight(image) if self.profile.as_ref().is_none_or(Profile::is_srgb) => Cow::Borrowed(image),
            _ => Cow::Owned(DynamicImage::ImageRgb8(self.srgb(0, 0, self.width(), self.height())).into_rgba8()),
        }
    }

    /// A rectangle of the photo as 8-bit sRGB, transparent pixels laid over white: what a model or a screen is shown.
    /// The rectangle, in pixels, must lie inside the photo.
    pub fn srgb(&self, x: u32, y: u32, width: u32, height: u32) -> RgbImage {
        match &self.pixels {
            Pixels::Eight(image) => self.srgb_of(image, x, y, width, height),
            Pixels::Sixteen(image) => self.srgb_of(image, x, y, width, height),
        }
    }

    fn srgb_of<S: Sample>(&self, samples: &[S], x: u32, y: u32, width: u32, height: u32) -> RgbImage {
        let profile = self.profile.as_ref().filter(|p| !p.is_srgb());
        let mut out = RgbImage::new(width, height);
        let rows = samples.chunks_exact(4 * self.width() as usize).skip(y as usize).take(height as usize);
        for (samples, row) in rows.zip(0..) {
            let pixels = samples.as_chunks::<4>().0[x as usize..][..width as usize].iter().map(|pixel| pixel.map(S::to_unit));
            let values: Vec<f32> = pixels.clone().flat_map(|[r, g, b, _]| [r, g, b]).collect();
            let values = if let Some(profile) = profile { profile.to_srgb(&values) } else { values };
            for (i, [.., alpha]) in pixels.enumerate() {
                let over = |v: f32| u8::from_unit(over_white(v, alpha));
                out.put_pixel(i as u32, row, Rgb([over(values[3 * i]), over(values[3 * i + 1]), over(values[3 * i + 2])]));
            }
        }
        out
    }
}

impl Photo {
    /// Adds a change, given in sRGB as a share of the full range (-1 to 1 a channel), to the photo's own values, its left upper
    /// pixel at `x`, `y`; it must lie inside. Pixels without a change keep their exact bits; alpha is left alone.
    pub fn add_srgb(&mut self, x: u32, y: u32, change: &Rgb32FImage) {
        let profile = self.profile.as_ref().filter(|p| !p.is_srgb());
        let width = self.pixels.dimensions().0;
        let edited = match &mut self.pixels {
            Pixels::Eight(image) => add(image, width, profile, x, y, change),
            Pixels::Sixteen(image) => add(image, width, profile, x, y, change),
        };
        self.is_edited |= edited;
    }
}

/// Whether any pixel was changed. `width` is that of the whole picture.
fn add<S: Sample + Send + Sync>(samples: &mut [S], width: u32, profile: Option<&Profile>, x: u32, y: u32, change: &Rgb32FImage) -> bool {
    let rows = samples.par_chunks_exact_mut(4 * width as usize).skip(y as usize);
    let changes = change.as_raw().par_chunks_exact(3 * change.width() as usize);
    let changed_rows = rows.zip(changes).filter_map(|(samples, deltas)| {
        let deltas = deltas.as_chunks::<3>().0.iter().copied();
        let pixels = &mut samples.as_chunks_mut::<4>().0[x as usize..];
        let Some(profile) = profile else {
            let mut edited = false;
            for (pixel, delta) in pixels.iter_mut().zip(deltas).filter(|(_, delta)| delta.iter().any(|d| *d != 0.0)) {
                edited = true;
                for (value, delta) in pixel.iter_mut().zip(delta) {
                    *value = S::from_unit(value.to_unit() + delta);
                }
            }
            return edited.then_some(());
        };
        let changed: Vec<(usize, [f32; 3])> = deltas.enumerate().filter(|(_, delta)| delta.iter().any(|d| *d != 0.0)).collect();
        if changed.is_empty() {
            return None;
        }
        let values: Vec<f32> = changed.iter().flat_map(|(i, _)| pixels[*i].map(S::to_unit).into_iter().take(3)).collect();
        let sum = |base: &[f32]| -> Vec<f32> {
            base.iter().zip(changed.iter().flat_map(|(_, delta)| *delta)).map(|(v, d)| (v + d).clamp(0.0, 1.0)).collect()
        };
        // What sRGB cannot hold was clipped on the way there. The difference of two values that went the same way is added instead
        // of the second one, so that colours beyond sRGB stay where they are.
        let base = profile.to_srgb(&values);
        let (from, to) = (profile.from_srgb(&base), profile.from_srgb(&sum(&base)));
        let values: Vec<f32> = values.iter().zip(from.iter().zip(&to)).map(|(v, (from, to))| v + to - from).collect();
        for ((i, _), value) in changed.iter().zip(values.as_chunks::<3>().0) {
            for c in 0..3 {
                pixels[*i][c] = S::from_unit(value[c]);
            }
        }
        Some(())
    });
    changed_rows.count() > 0
}

fn check_size(decoder: &impl ImageDecoder, name: &str) -> Result<(), PhotoError> {
    let (width, height) = decoder.dimensions();
    check_side(width, height, name)?;
    let pixels = u64::from(width) * u64::from(height);
    let deep = decoder.color_type().bytes_per_pixel() > 4 || decoder.color_type() == image::ColorType::L16;
    // What the decoder fills, and the RGBA copy of it.
    let bytes = decoder.total_bytes().saturating_add(pixels * if deep { 8 } else { 4 });
    if bytes > MAX_BYTES {
        return Err(PhotoError::TooMuchMemory { name: name.into(), gigabytes: bytes as f64 / 1e9 });
    }
    Ok(())
}

pub(super) fn check_side(width: u32, height: u32, name: &str) -> Result<(), PhotoError> {
    if width > MAX_SIDE || height > MAX_SIDE || u64::from(width) * u64::from(height) > MAX_PIXELS {
        return Err(PhotoError::TooLarge { name: name.into(), width, height });
    }
    Ok(())
}

/// Formats that people have pictures in, and that are recognised only to say so.
fn known_format(bytes: &[u8]) -> Option<&'static str> {
    let starts = |magic: &[u8]| bytes.starts_with(magic);
    match bytes.get(4..12) {
        _ if heic::is_avif(bytes) => return Some("AVIF"),
        Some(b"ftypcrx ") => return Some("camera raw"),
        Some([b'f', b't', b'y', b'p', ..]) => return Some("video"),
        Some(b"JXL \r\n\x87\n") => return Some("JPEG XL"),
        _ => {}
    }
    if starts(&[0xff, 0x0a]) {
        Some("JPEG XL")
    } else if starts(b"8BPS") {
        Some("Photoshop")
    } else if starts(b"%PDF") {
        Some("PDF")
    } else if starts(b"<svg") || starts(b"<?xml") && bytes[..bytes.len().min(2000)].windows(4).any(|w| w == b"<svg") {
        Some("SVG")
    } else if bytes.get(8..10) == Some(b"CR") || starts(b"FUJIFILMCCD-RAW") || starts(b"IIRO") || starts(b"IIU\0") {
        Some("camera raw")
    } else {
        None
    }
}

/// Whether a JPEG has its end-of-image marker. Coded pixels cannot contain one, but previews inside the metadata do, so the search
/// starts behind that, at the first scan.
fn ends_properly(jpeg: &[u8]) -> bool {
    const START_OF_SCAN: u8 = 0xda;
    const END_OF_IMAGE: [u8; 2] = [0xff, 0xd9];
    let mut at = 2;
    while let Some(&[0xff, marker]) = jpeg.get(at..at + 2) {
        if marker == START_OF_SCAN {
            return jpeg[at..].windows(2).any(|pair| pair == END_OF_IMAGE);
        }
        // A fill byte, or a marker without a length.
        if marker == 0xff {
            at += 1;
            continue;
        }
        let Some(&[high, low]) = jpeg.get(at + 2..at + 4) else { return false };
        at += 2 + usize::from(u16::from_be_bytes([high, low]));
    }
    // Not what this walk expects: the decoder has the last word.
    at < jpeg.len()
}
