//! The square of a photo that the model sees.

use image::imageops::{self, FilterType};
use image::{Rgb, RgbImage};
use serde::{Deserialize, Serialize};

use super::Photo;

/// An axis-aligned square in a photo, in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Square {
    pub x: u32,
    pub y: u32,
    pub side: u32,
}

impl Square {
    /// The largest square in the middle.
    pub fn centre(photo: &Photo) -> Self {
        let side = photo.width().min(photo.height());
        Self { x: (photo.width() - side) / 2, y: (photo.height() - side) / 2, side }
    }

    /// Whether it lies inside the photo.
    pub fn fits(self, photo: &Photo) -> bool {
        let within = |start: u32, limit: u32| start.checked_add(self.side).is_some_and(|end| end <= limit);
        self.side > 0 && within(self.x, photo.width()) && within(self.y, photo.height())
    }

    /// The square's pixels at `size x size`, in sRGB. Transparent pixels are laid over white.
    pub fn cut(self, photo: &Photo, size: u32) -> RgbImage {
        let opaque = photo.srgb(self.x, self.y, self.side, self.side);
        if self.side == size {
            return opaque;
        }
        // Triangle widens its support with the ratio, so shrinking averages over the area and does not alias.
        imageops::resize(&opaque, size, size, FilterType::Triangle)
    }

    /// The square as a photo of its own, at full resolution.
    pub fn crop(self, photo: &Photo) -> Photo {
        let pixels = photo.pixels.crop(self.x, self.y, self.side, self.side);
        Photo {
            name: photo.name.clone(),
            path: photo.path.clone(),
            pixels,
            profile: photo.profile.clone(),
            metadata: photo.metadata.clone(),
            sha256: photo.sha256.clone(),
            ..*photo
        }
    }
}

/// Pixels to the model's range: `[3, size, size]` row-major, [-1, 1].
pub fn to_model(image: &RgbImage) -> Vec<f32> {
    let (w, h) = (image.width() as usize, image.height() as usize);
    let mut out = vec![0.0; 3 * w * h];
    for (i, pixel) in image.pixels().enumerate() {
        for c in 0..3 {
            out[c * w * h + i] = f32::from(pixel.0[c]) / 127.5 - 1.0;
        }
    }
    out
}

/// The model's `[3, size, size]` back to pixels; values outside [-1, 1] are clipped.
pub fn from_model(values: &[f32], size: u32) -> RgbImage {
    let plane = (size * size) as usize;
    RgbImage::from_fn(size, size, |x, y| {
        let i = (y * size + x) as usize;
        Rgb([0, 1, 2].map(|c| ((values[c * plane + i] + 1.0) * 127.5).round().clamp(0.0, 255.0) as u8))
    })
}
