//! A photo's pixels in the depth that its file has.

use image::{DynamicImage, ImageBuffer, Rgba, RgbaImage};

/// 16 bits a channel.
pub type Rgba16Image = ImageBuffer<Rgba<u16>, Vec<u16>>;

/// Upright RGBA pixels, 8 or 16 bits a channel, in the photo's own colour space. Alpha is straight (not premultiplied).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pixels {
    Eight(RgbaImage),
    Sixteen(Rgba16Image),
}

/// A channel value as a share of its range.
pub(crate) trait Sample: Copy {
    /// 0 to 1.
    fn to_unit(self) -> f32;
    /// The nearest value to `unit`, clipped to [0, 1].
    fn from_unit(unit: f32) -> Self;
}

/// A channel value over white, both as shares of the range.
#[inline]
pub(crate) fn over_white(unit: f32, alpha: f32) -> f32 {
    unit * alpha + (1.0 - alpha)
}

impl Sample for u8 {
    fn to_unit(self) -> f32 {
        f32::from(self) / 255.0
    }

    fn from_unit(unit: f32) -> Self {
        // The cast cuts fractions off and saturates; `round` would be a call per value on processors without an instruction for it.
        (unit * 255.0 + 0.5) as Self
    }
}

impl Sample for u16 {
    fn to_unit(self) -> f32 {
        f32::from(self) / 65535.0
    }

    fn from_unit(unit: f32) -> Self {
        (unit * 65535.0 + 0.5) as Self
    }
}

impl From<DynamicImage> for Pixels {
    /// Whatever has more than 8 bits becomes 16 bits.
    fn from(image: DynamicImage) -> Self {
        match image {
            DynamicImage::ImageLuma8(_) | DynamicImage::ImageLumaA8(_) | DynamicImage::ImageRgb8(_) | DynamicImage::ImageRgba8(_) => {
                Self::Eight(image.into_rgba8())
            }
            image => Self::Sixteen(image.into_rgba16()),
        }
    }
}

impl From<Pixels> for DynamicImage {
    fn from(pixels: Pixels) -> Self {
        match pixels {
            Pixels::Eight(image) => Self::ImageRgba8(image),
            Pixels::Sixteen(image) => Self::ImageRgba16(image),
        }
    }
}

impl Pixels {
    /// Width and height.
    pub fn dimensions(&self) -> (u32, u32) {
        match self {
            Self::Eight(image) => image.dimensions(),
            Self::Sixteen(image) => image.dimensions(),
        }
    }

    /// Whether no pixel has any colour. An edit may have put some in.
    pub fn are_grey(&self) -> bool {
        fn equal<S: PartialEq>(samples: &[S]) -> bool {
            samples.as_chunks::<4>().0.iter().all(|[r, g, b, _]| r == g && g == b)
        }
        match self {
            Self::Eight(image) => equal(image),
            Self::Sixteen(image) => equal(image),
        }
    }

    /// A rectangle of the picture, which must lie inside.
    pub fn crop(&self, x: u32, y: u32, width: u32, height: u32) -> Self {
        use image::imageops::crop_imm;
        match self {
            Self::Eight(image) => Self::Eight(crop_imm(image, x, y, width, height).to_image()),
            Self::Sixteen(image) => Self::Sixteen(crop_imm(image, x, y, width, height).to_image()),
        }
    }
}
