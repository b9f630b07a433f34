//! Pixels, profile and metadata to the bytes of a file, one function a format.

use std::borrow::Cow;
use std::io::{Seek, Write};

use image::codecs::jpeg::JpegEncoder;
use image::{DynamicImage, ImageBuffer, ImageEncoder, Luma, LumaA, Pixel, Primitive, Rgb, Rgba};
use thiserror::Error;
use tiff::encoder::colortype::{self, ColorType};
use tiff::encoder::{Compression, DeflateLevel, Predictor, TiffEncoder, TiffKindStandard, TiffValue};
use tiff::tags::{ExtraSamples, Tag};

use super::exif::{TiffDirectories, write_fields};
use super::export::Attachments;
use super::pixels::{self, Sample};
use super::{ExportFormat, Photo, Pixels};

/// JPEG's markers for what applications add.
const APP0: u8 = 0xe0;
const APP1: u8 = 0xe1;
/// Most bytes in a JPEG segment.
const MAX_SEGMENT: usize = 65_533;
const EXIF_PREFIX: &[u8] = b"Exif\0\0";
const XMP_PREFIX: &[u8] = b"http://ns.adobe.com/xap/1.0/\0";
/// Keyword of the text chunk that holds XMP in a PNG.
pub(super) const PNG_XMP: &str = "XML:com.adobe.xmp";
const TIFF_XMP: Tag = Tag::Unknown(700);

#[derive(Debug, Error)]
pub(super) enum EncodeError {
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error(transparent)]
    Image(#[from] image::ImageError),
    #[error(transparent)]
    Png(#[from] png::EncodingError),
    #[error(transparent)]
    WebP(#[from] image_webp::EncodingError),
    #[error(transparent)]
    Tiff(#[from] tiff::TiffError),
}

/// Pixels as a format takes them, and the profile that goes with them.
struct Picture {
    image: DynamicImage,
    icc: Option<Vec<u8>>,
}

pub(super) fn encode<W: Write + Seek>(
    photo: &Photo,
    format: ExportFormat,
    jpeg_quality: u8,
    attachments: Attachments,
    out: &mut W,
) -> Result<(), EncodeError> {
    let picture = prepare(photo, format);
    match format {
        ExportFormat::Png => encode_png(picture, attachments, out),
        ExportFormat::Jpeg => encode_jpeg(picture, jpeg_quality, attachments, out),
        ExportFormat::WebP => encode_webp(picture, attachments, out),
        ExportFormat::Tiff => encode_tiff(picture, attachments, out),
    }
}

/// As few channels as hold the photo, in the depth that the format has.
fn prepare(photo: &Photo, format: ExportFormat) -> Picture {
    use ExportFormat::{Jpeg, Png, Tiff};
    let alpha = photo.has_alpha && format != Jpeg;
    let deep = matches!(photo.pixels, Pixels::Sixteen(_)) && matches!(format, Png | Tiff);
    let profile = photo.profile.as_ref();
    // TIFF's encoder has no grey with alpha, WebP no grey at all, and a grey file must not hold the
    // RGB profile that some grey photos have.
    let grey_fits = format == Png || format != ExportFormat::WebP && !alpha;
    let grey = photo.is_grey && photo.pixels.are_grey() && grey_fits && profile.is_none_or(|p| p.grey_icc().is_some());
    let opaque;
    let pixels = if photo.has_alpha && !alpha {
        opaque = over_white(&photo.pixels);
        &opaque
    } else {
        &photo.pixels
    };
    let image = match pixels {
        Pixels::Eight(image) => fewest_channels(image, grey, alpha),
        Pixels::Sixteen(image) if deep => fewest_channels(image, grey, alpha),
        Pixels::Sixteen(_) => fewest_channels(&DynamicImage::from(pixels.clone()).into_rgba8(), grey, alpha),
    };
    let icc = profile.and_then(|p| if grey { p.grey_icc() } else { Some(p.icc()) });
    Picture { image, icc: icc.map(<[u8]>::to_vec) }
}

/// Straight from the photo's own pixels: of a large one, another copy in between is a lot of memory.
fn fewest_channels<S: Primitive>(image: &ImageBuffer<Rgba<S>, Vec<S>>, grey: bool, alpha: bool) -> DynamicImage
where
    Luma<S>: Pixel<Subpixel = S>,
    LumaA<S>: Pixel<Subpixel = S>,
    Rgb<S>: Pixel<Subpixel = S>,
    Rgba<S>: Pixel<Subpixel = S>,
    DynamicImage: From<ImageBuffer<Luma<S>, Vec<S>>>
        + From<ImageBuffer<LumaA<S>, Vec<S>>>
        + From<ImageBuffer<Rgb<S>, Vec<S>>>
        + From<ImageBuffer<Rgba<S>, Vec<S>>>,
{
    // Of grey, the three channels are equal, so the red one is the grey one, to the bit.
    match (grey, alpha) {
        (false, false) => map(image, |[r, g, b, _]| Rgb([r, g, b])).into(),
        (false, true) => image.clone().into(),
        (true, false) => map(image, |[v, ..]| Luma([v])).into(),
        (true, true) => map(image, |[v, _, _, a]| LumaA([v, a])).into(),
    }
}

fn map<S, P>(image: &ImageBuffer<Rgba<S>, Vec<S>>, convert: impl Fn([S; 4]) -> P) -> ImageBuffer<P, Vec<S>>
where
    S: Primitive,
    P: Pixel<Subpixel = S>,
    Rgba<S>: Pixel<Subpixel = S>,
{
    let mut out = ImageBuffer::new(image.width(), image.height());
    out.pixels_mut().zip(image.pixels()).for_each(|(out, pixel)| *out = convert(pixel.0));
    out
}

/// For formats without alpha.
fn over_white(pixels: &Pixels) -> Pixels {
    fn blend<S: Sample>(samples: &mut [S]) {
        for [rgb @ .., alpha] in samples.as_chunks_mut::<4>().0 {
            let share = alpha.to_unit();
            for v in rgb {
                *v = S::from_unit(pixels::over_white(v.to_unit(), share));
            }
            *alpha = S::from_unit(1.0);
        }
    }
    let mut out = pixels.clone();
    match &mut out {
        Pixels::Eight(image) => blend(image),
        Pixels::Sixteen(image) => blend(image),
    }
    out
}

fn encode_png<W: Write>(picture: Picture, attachments: Attachments, out: &mut W) -> Result<(), EncodeError> {
    let Picture { image, icc } = picture;
    let mut info = png::Info::with_size(image.width(), image.height());
    info.color_type = match image.color().channel_count() {
        1 => png::ColorType::Grayscale,
        2 => png::ColorType::GrayscaleAlpha,
        3 => png::ColorType::Rgb,
        _ => png::ColorType::Rgba,
    };
    let deep = image.color().bytes_per_pixel() / image.color().channel_count() == 2;
    info.bit_depth = if deep { png::BitDepth::Sixteen } else { png::BitDepth::Eight };
    info.icc_profile = icc.map(Cow::Owned);
    info.exif_metadata = attachments.exif.map(Cow::Owned);
    let mut encoder = png::Encoder::with_info(out, info)?;
    if let Some(xmp) = attachments.xmp {
        encoder.add_itxt_chunk(PNG_XMP.to_owned(), String::from_utf8_lossy(&xmp).into_owned())?;
    }
    encoder.set_compression(png::Compression::Balanced);
    let mut bytes = Cow::Borrowed(image.as_bytes());
    if deep && cfg!(target_endian = "little") {
        bytes.to_mut().as_chunks_mut::<2>().0.iter_mut().for_each(|pair| pair.reverse());
    }
    let mut writer = encoder.write_header()?;
    writer.write_image_data(&bytes)?;
    Ok(writer.finish()?)
}

fn encode_jpeg<W: Write>(picture: Picture, quality: u8, attachments: Attachments, out: &mut W) -> Result<(), EncodeError> {
    let Picture { image, icc } = picture;
    let mut bytes = Vec::new();
    let mut encoder = JpegEncoder::new_with_quality(&mut bytes, quality);
    if let Some(icc) = icc {
        encoder.set_icc_profile(icc).map_err(image::ImageError::Unsupported)?;
    }
    // Of a larger block there is no way to keep a part that is sure to make sense.
    if let Some(exif) = attachments.exif.filter(|exif| fits_segment(EXIF_PREFIX, exif)) {
        encoder.set_exif_metadata(exif).map_err(image::ImageError::Unsupported)?;
    }
    encoder.write_image(image.as_bytes(), image.width(), image.height(), image.color().into())?;
    let xmp = attachments.xmp.filter(|xmp| fits_segment(XMP_PREFIX, xmp));
    let (before, after) = bytes.split_at(if xmp.is_some() { end_of_headers(&bytes) } else { 0 });
    out.write_all(before)?;
    if let Some(xmp) = xmp {
        out.write_all(&[0xff, APP1])?;
        out.write_all(&((2 + XMP_PREFIX.len() + xmp.len()) as u16).to_be_bytes())?;
        out.write_all(XMP_PREFIX)?;
        out.write_all(&xmp)?;
    }
    Ok(out.write_all(after)?)
}

/// Where the JFIF header and EXIF end, which come first by their own standards.
fn end_of_headers(jpeg: &[u8]) -> usize {
    let mut at = 2;
    while let Some(&[0xff, APP0 | APP1, high, low]) = jpeg.get(at..at + 4) {
        at += 2 + usize::from(u16::from_be_bytes([high, low]));
    }
    at
}

fn fits_segment(prefix: &[u8], contents: &[u8]) -> bool {
    let fits = prefix.len() + contents.len() <= MAX_SEGMENT;
    if !fits {
        log::warn!("{} bytes of metadata are too many for a JPEG and were left out", contents.len());
    }
    fits
}

fn encode_webp<W: Write>(picture: Picture, attachments: Attachments, out: &mut W) -> Result<(), EncodeError> {
    let Picture { image, icc } = picture;
    let mut encoder = image_webp::WebPEncoder::new(out);
    if let Some(icc) = icc {
        encoder.set_icc_profile(icc);
    }
    if let Some(exif) = attachments.exif {
        encoder.set_exif_metadata(exif);
    }
    if let Some(xmp) = attachments.xmp {
        encoder.set_xmp_metadata(xmp);
    }
    let colour = if image.color().has_alpha() { image_webp::ColorType::Rgba8 } else { image_webp::ColorType::Rgb8 };
    Ok(encoder.encode(image.as_bytes(), image.width(), image.height(), colour)?)
}

fn encode_tiff<W: Write + Seek>(picture: Picture, attachments: Attachments, out: &mut W) -> Result<(), EncodeError> {
    use DynamicImage::{ImageLuma8, ImageLuma16, ImageRgb8, ImageRgb16, ImageRgba8, ImageRgba16};
    let Picture { image, icc } = picture;
    let more = TiffExtras { icc, attachments, alpha: image.color().has_alpha() };
    let size = (image.width(), image.height());
    let written = match &image {
        ImageLuma8(pixels) => more.encode::<colortype::Gray8, _>(pixels, size, out),
        ImageLuma16(pixels) => more.encode::<colortype::Gray16, _>(pixels, size, out),
        ImageRgb8(pixels) => more.encode::<colortype::RGB8, _>(pixels, size, out),
        ImageRgb16(pixels) => more.encode::<colortype::RGB16, _>(pixels, size, out),
        ImageRgba8(pixels) => more.encode::<colortype::RGB8, _>(pixels, size, out),
        ImageRgba16(pixels) => more.encode::<colortype::RGB16, _>(pixels, size, out),
        // `prepare` makes no others.
        other => more.encode::<colortype::RGB16, _>(&other.to_rgb16(), size, out),
    };
    Ok(written?)
}

struct TiffExtras {
    icc: Option<Vec<u8>>,
    attachments: Attachments,
    alpha: bool,
}

impl TiffExtras {
    /// `C` is without alpha, which TIFF has as an extra sample.
    fn encode<C: ColorType, W: Write + Seek>(self, samples: &[C::Inner], size: (u32, u32), out: &mut W) -> tiff::TiffResult<()>
    where
        [C::Inner]: TiffValue,
    {
        let deflate = Compression::Deflate(DeflateLevel::Balanced);
        let mut encoder = TiffEncoder::new(out)?.with_compression(deflate).with_predictor(Predictor::None);
        let directories = self.attachments.exif.as_deref().and_then(TiffDirectories::read);
        let mut pointers = vec![];
        if let Some(directories) = &directories {
            for (tag, fields) in [(Tag::ExifDirectory, directories.details()), (Tag::GpsDirectory, directories.gps())] {
                if !fields.is_empty() {
                    let mut directory = encoder.extra_directory()?;
                    write_fields::<_, TiffKindStandard>(&mut directory, fields)?;
                    pointers.push((tag, directory.finish_with_offsets()?.offset));
                }
            }
        }
        let mut image = encoder.new_image::<C>(size.0, size.1)?;
        if self.alpha {
            image.extra_samples(&[ExtraSamples::UnassociatedAlpha])?;
        }
        let directory = image.encoder();
        if let Some(directories) = &directories {
            write_fields(directory, directories.descriptive())?;
        }
        for (tag, offset) in pointers {
            directory.write_tag(tag, offset)?;
        }
        if let Some(icc) = &self.icc {
            directory.write_tag(Tag::IccProfile, &icc[..])?;
        }
        if let Some(xmp) = &self.attachments.xmp {
            directory.write_tag(TIFF_XMP, &xmp[..])?;
        }
        image.write_data(samples)
    }
}
