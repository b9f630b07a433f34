//! Part of the open photo at the resolution that it is looked at with: the whole view is made smaller ([`super::view`]), and zoomed in it
//! would be a blur.

use std::sync::Arc;

use image::imageops::FilterType;
use image::{DynamicImage, RgbImage};

use super::Quality;
use crate::photo::{Frame, Photo};

/// Which part, and how large it is seen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Part {
    /// Its upper left pixel in the photo.
    pub at: [u32; 2],
    /// Its width and height in the photo's pixels.
    pub size: [u32; 2],
    /// Pixels wanted for each of the photo's, above 0 and at most 1.
    pub scale: f64,
}

/// A picture of a part of the present photo, before and after.
#[derive(Debug, Clone)]
pub struct CloseUp {
    pub part: Part,
    pub before: Arc<RgbImage>,
    /// The edit that was on the screen last, if there is one: the generation that asked for it, and how good it is.
    pub edit: Option<(u64, Quality, Arc<RgbImage>)>,
}

impl Part {
    /// What of it lies in a photo of this size; `None` if nothing does.
    pub fn within(mut self, [width, height]: [u32; 2]) -> Option<Self> {
        for (k, length) in [width, height].into_iter().enumerate() {
            self.at[k] = self.at[k].min(length);
            self.size[k] = self.size[k].min(length - self.at[k]);
        }
        (self.size.iter().all(|length| *length > 0) && self.scale > 0.0 && self.scale <= 1.0).then_some(self)
    }

    /// Whether all of another part is in it.
    pub fn covers(&self, other: &Self) -> bool {
        (0..2).all(|k| self.at[k] <= other.at[k] && other.at[k] + other.size[k] <= self.at[k] + self.size[k])
    }

    /// The photo's pixels there, at most as many as are wanted. The part must lie inside.
    pub(super) fn cut(&self, photo: &Photo) -> RgbImage {
        let ([x, y], [width, height]) = (self.at, self.size);
        if self.scale == 1.0 {
            return photo.srgb(x, y, width, height);
        }
        // Before its colours are converted, as there are far fewer to convert then; but over white first, as where nothing is seen of them,
        // pixels have any colour.
        let size = self.size.map(|length| ((f64::from(length) * self.scale).round() as u32).max(1));
        let pixels = match photo.has_alpha {
            true => DynamicImage::from(photo.srgb(x, y, width, height)),
            false => photo.pixels.crop(x, y, width, height).into(),
        };
        // Means over whole pixels are fast, and good enough for fewer than half of them.
        let pixels = if 2 * size[0] < width && 2 * size[1] < height {
            pixels.thumbnail_exact(size[0], size[1])
        } else {
            pixels.resize_exact(size[0], size[1], FilterType::Triangle)
        };
        if photo.has_alpha {
            return pixels.into_rgb8();
        }
        photo.with_pixels(pixels.into()).srgb(0, 0, size[0], size[1])
    }

    /// A frame of the photo, and the photo's own upper left and lower right corner, in the pixels of a cut of this width and height.
    pub(super) fn place(&self, frame: Frame, photo: &Photo, (width, height): (u32, u32)) -> (Frame, [[f64; 2]; 2]) {
        // They differ by what their lengths were rounded.
        let scales = [f64::from(width) / f64::from(self.size[0]), f64::from(height) / f64::from(self.size[1])];
        let at = self.at.map(f64::from);
        let seen = |point: [f64; 2]| [0, 1].map(|k| (point[k] - at[k]) * scales[k]);
        let frame = Frame { centre: seen(frame.centre), side: frame.side * scales[0], ..frame };
        (frame, [seen([0.0; 2]), seen([photo.width(), photo.height()].map(f64::from))])
    }
}
