//! HEIC photos, as phones take them (ISO/IEC 23008-12 with HEVC inside).

use std::panic::{AssertUnwindSafe, catch_unwind};

use image::{DynamicImage, ImageBuffer};
use moxcms::ColorProfile;

use super::open::{MAX_BYTES, Metadata, PhotoError, check_side};

/// A decoded file: upright pixels, and what it says beside them.
pub(super) struct Heic {
    pub image: DynamicImage,
    pub icc: Option<Vec<u8>>,
    /// As in the file. Its orientation is that of the camera; the container's, which counts, is already applied.
    pub metadata: Metadata,
}

/// Bytes a pixel while decoding: the planes at 4 bytes a sample, before and after the filters, and what is made of them.
const BYTES_A_PIXEL: u64 = 20;
/// Colour primaries of Display P3 (ITU-T H.273).
const P3_PRIMARIES: u16 = 12;

/// Whether a file is of this format, by its brands.
pub(super) fn recognises(bytes: &[u8]) -> bool {
    match bytes.get(4..12) {
        Some(b"ftypheic" | b"ftypheix" | b"ftyphevc" | b"ftyphevx" | b"ftypheim" | b"ftypheis") => true,
        // Any picture in this container: the brands that follow say what is inside.
        Some(b"ftypmif1" | b"ftypmsf1") => !is_avif(bytes),
        _ => false,
    }
}

/// Whether a file of the same container holds AV1.
pub(super) fn is_avif(bytes: &[u8]) -> bool {
    let length = bytes.first_chunk::<4>().map_or(0, |length| u32::from_be_bytes(*length) as usize);
    let brands = bytes.get(8..length.min(bytes.len())).unwrap_or_default();
    bytes.get(4..8) == Some(b"ftyp") && brands.as_chunks::<4>().0.iter().any(|brand| matches!(brand, b"avif" | b"avis"))
}

/// Decodes a file that [`recognises`] accepts; `name` is for messages. Size and memory are checked before any pixel is decoded.
pub(super) fn decode(bytes: &[u8], name: &str) -> Result<Heic, PhotoError> {
    let failed = |reason: String| PhotoError::Decode { name: name.into(), reason };
    let refused = |error: heic_decoder::HeifError| match error {
        heic_decoder::HeifError::Unsupported(what) => PhotoError::PartOfFormat { name: name.into(), reason: what.into() },
        other => failed(other.to_string()),
    };
    // Its own promise is never to panic; a young decoder of an intricate format may still break it.
    let decoded = catch_unwind(AssertUnwindSafe(|| {
        let info = heic_decoder::probe(bytes).map_err(refused)?;
        let (width, height) = (side(info.coded_width), side(info.coded_height));
        check_side(width, height, name)?;
        let needed = u64::from(width) * u64::from(height) * BYTES_A_PIXEL;
        if needed > MAX_BYTES {
            return Err(PhotoError::TooMuchMemory { name: name.into(), gigabytes: needed as f64 / 1e9 });
        }
        let decoded = heic_decoder::decode(bytes).map_err(refused)?;
        let image = pixels(&decoded).map_err(refused)?.ok_or_else(|| failed("its planes do not fit together".into()))?;
        Ok((image, decoded.metadata))
    }));
    let (image, said) = decoded.unwrap_or_else(|_| Err(failed("the decoder gave up".into())))?;
    let by_number = said.color_info.filter(|colour| colour.color_primaries == P3_PRIMARIES);
    let icc = said.icc_profile.or_else(|| by_number.and_then(|_| ColorProfile::new_display_p3().encode().ok()));
    Ok(Heic { image, icc, metadata: Metadata { exif: said.exif, xmp: said.xmp } })
}

fn side(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

/// More than 8 bits become 16. `None` if the sizes do not fit, which the decoder rules out.
fn pixels(decoded: &heic_decoder::DecodedImage) -> heic_decoder::Result<Option<DynamicImage>> {
    let deep = decoded.bit_depth_luma > 8 || decoded.alpha.as_ref().is_some_and(|alpha| alpha.bit_depth > 8);
    let (width, height) = (side(decoded.width), side(decoded.height));
    Ok(match (deep, decoded.alpha.is_some()) {
        (false, false) => ImageBuffer::from_raw(width, height, decoded.to_rgb8()?.data).map(DynamicImage::ImageRgb8),
        (true, false) => ImageBuffer::from_raw(width, height, decoded.to_rgb16()?.data).map(DynamicImage::ImageRgb16),
        (false, true) => {
            let mut rgba = decoded.to_rgba8()?;
            if rgba.premultiplied {
                straighten(&mut rgba.data, u8::MAX, |v| v.min(255.0) as u8);
            }
            ImageBuffer::from_raw(width, height, rgba.data).map(DynamicImage::ImageRgba8)
        }
        (true, true) => {
            let mut rgba = decoded.to_rgba16()?;
            if rgba.premultiplied {
                straighten(&mut rgba.data, u16::MAX, |v| v.min(65535.0) as u16);
            }
            ImageBuffer::from_raw(width, height, rgba.data).map(DynamicImage::ImageRgba16)
        }
    })
}

/// Colour that was multiplied by its alpha, back to colour.
fn straighten<S: Copy + Into<f32> + PartialEq>(samples: &mut [S], full: S, from: impl Fn(f32) -> S) {
    for [rgb @ .., alpha] in samples.as_chunks_mut::<4>().0 {
        let (part, whole): (f32, f32) = ((*alpha).into(), full.into());
        if *alpha == full || part == 0.0 {
            continue;
        }
        for sample in rgb {
            let value: f32 = (*sample).into();
            *sample = from(value * whole / part + 0.5);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brands_tell_heic_from_avif() {
        let file = |brands: &[u8]| [&(brands.len() as u32 + 8).to_be_bytes()[..], b"ftyp", brands].concat();
        assert!(recognises(&file(b"heic\0\0\0\0mif1heic")));
        assert!(recognises(&file(b"mif1\0\0\0\0mif1heic")));
        let avif = file(b"mif1\0\0\0\0mif1avif");
        assert!(!recognises(&avif) && is_avif(&avif) && is_avif(&file(b"avif\0\0\0\0")));
        assert!(!recognises(&file(b"isom\0\0\0\0mp41")) && !is_avif(b"ftyp") && !recognises(b""));
    }

    #[test]
    fn colour_over_alpha_is_straightened() {
        let mut samples = [50u8, 100, 0, 128, 9, 9, 9, 255, 7, 7, 7, 0];
        straighten(&mut samples, 255, |v| v.min(255.0) as u8);
        assert_eq!(samples, [100, 199, 0, 128, 9, 9, 9, 255, 7, 7, 7, 0]);
    }
}
