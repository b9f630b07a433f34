//! The way from one edited photo to another: what is asked for, and how the photos' own detail is kept.

use image::imageops::{self, FilterType};
use image::{ImageBuffer, Rgb, Rgb32FImage, RgbImage};

use super::edit::InterpolationPath;
use super::{PhotoId, Quality};
use crate::editing::Recipe;

/// Side in pixels of pictures that keep the photos' own detail.
pub const SIDE: u32 = 512;

/// Pictures on the way between two photos.
#[derive(Debug, Clone, PartialEq)]
pub struct InterpolationRequest {
    /// Rises with every request; events carry it back.
    pub generation: u64,
    pub way: Way,
    /// Shares of the way, from 0 (the first end) to 1, the most wanted first.
    pub pictures: Vec<(f64, Quality)>,
}

/// From where to where, and how.
#[derive(Debug, Clone, PartialEq)]
pub struct Way {
    pub ends: [End; 2],
    pub path: InterpolationPath,
    /// Denoising steps of a final picture.
    pub steps: usize,
    /// Whether what the model cannot rebuild of the photos is put back, see [`compose`]. Pictures then have a side of [`SIDE`] pixels,
    /// otherwise the model's.
    pub keep_detail: bool,
}

/// An open photo under a recipe.
#[derive(Debug, Clone, PartialEq)]
pub struct End {
    pub photo: PhotoId,
    pub recipe: Recipe,
}

impl Way {
    /// Whether both ends are edits of one photo.
    pub fn is_within_one_photo(&self) -> bool {
        self.ends[0].photo == self.ends[1].photo
    }

    /// How much of each end's own detail goes into the picture at `share`. Between two edits of one photo it is that photo's
    /// throughout; between two people it fades out towards the middle, or one's hair would shine through the other's.
    pub fn detail_weights(&self, share: f64) -> [f64; 2] {
        if self.is_within_one_photo() { [1.0 - share, share] } else { [1.0 - 2.0 * share, 2.0 * share - 1.0].map(|w| w.max(0.0)) }
    }
}

/// What the model cannot rebuild of a photo: the frame as it is, and as it decodes without an edit.
#[derive(Debug, Clone, Copy)]
pub struct Detail<'a> {
    /// Share of it that is added, 0 to 1.
    pub weight: f64,
    /// [`SIDE`] pixels wide and high.
    pub photo: &'a RgbImage,
    /// `[3, size, size]` in [-1, 1].
    pub rebuilt: &'a [f32],
}

/// A decoded picture (`[3, size, size]` in [-1, 1]) at [`SIDE`] pixels, plus the difference between photo and reconstruction of each
/// detail. At the ends of a way that is the photo itself.
pub fn compose(decoded: &[f32], size: u32, details: &[Detail<'_>]) -> RgbImage {
    let mut values: Vec<f32> = decoded.iter().map(|v| v.clamp(-1.0, 1.0)).collect();
    for detail in details {
        for (value, rebuilt) in values.iter_mut().zip(detail.rebuilt) {
            *value -= detail.weight as f32 * rebuilt.clamp(-1.0, 1.0);
        }
    }
    let plane = (size * size) as usize;
    // What is left after subtracting lies in [-2, 2], and the resizing cuts floats off at 0 and 1.
    let squeezed = |v: f32| v / 4.0 + 0.5;
    let small: Rgb32FImage = ImageBuffer::from_fn(size, size, |x, y| {
        let i = (y * size + x) as usize;
        Rgb([values[i], values[plane + i], values[2 * plane + i]].map(squeezed))
    });
    let mut large = imageops::resize(&small, SIDE, SIDE, FilterType::CatmullRom);
    large.iter_mut().for_each(|v| *v = (*v - 0.5) * 4.0);
    for detail in details {
        for (value, own) in large.iter_mut().zip(detail.photo.iter()) {
            *value += detail.weight as f32 * (f32::from(*own) / 127.5 - 1.0);
        }
    }
    // The conversion clips.
    let bytes = large.iter().map(|value| ((value + 1.0) * 127.5 + 0.5) as u8).collect();
    RgbImage::from_raw(SIDE, SIDE, bytes).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn way(a: u64, b: u64) -> Way {
        let end = |id| End { photo: PhotoId(id), recipe: Recipe::default() };
        Way { ends: [end(a), end(b)], path: InterpolationPath::Latent, steps: 5, keep_detail: true }
    }

    #[test]
    fn the_ends_of_a_way_are_the_photos() {
        let size = 8;
        let photo = RgbImage::from_fn(SIDE, SIDE, |x, y| Rgb([(x % 256) as u8, (y % 256) as u8, 77]));
        let rebuilt: Vec<f32> = (0..3 * size * size).map(|i| (i as f32).sin()).collect();
        for (share, end) in [(0.0, 0), (1.0, 1)] {
            for way in [way(1, 2), way(1, 1)] {
                let weight = way.detail_weights(share)[end];
                assert_eq!(weight, 1.0);
                let shown = compose(&rebuilt, size, &[Detail { weight, photo: &photo, rebuilt: &rebuilt }]);
                let worst = shown.iter().zip(photo.iter()).map(|(a, b)| a.abs_diff(*b)).max();
                assert!(worst <= Some(1), "however badly the model rebuilds it: {worst:?}");
            }
        }
    }

    #[test]
    fn a_picture_without_detail_keeps_its_darks_and_lights() {
        let size = 8;
        for value in [-1.0f32, -0.5, 0.0, 0.5, 1.0] {
            let shown = compose(&vec![value; 3 * size * size], size as u32, &[]);
            let want = ((value + 1.0) * 127.5).round() as u8;
            assert!(shown.iter().all(|v| v.abs_diff(want) <= 1), "{value}: {} instead of {want}", shown.get_pixel(200, 200).0[0]);
        }
        // Half of a photo's detail, as between it and another person.
        let (photo, rebuilt) = (RgbImage::from_pixel(SIDE, SIDE, Rgb([255; 3])), vec![1.0f32; 3 * size * size]);
        let shown = compose(&vec![-1.0; 3 * size * size], size as u32, &[Detail { weight: 0.5, photo: &photo, rebuilt: &rebuilt }]);
        assert!(shown.iter().all(|v| *v <= 1), "the detail of a photo that is rebuilt well is nothing: {}", shown.get_pixel(9, 9).0[0]);
    }

    #[test]
    fn two_people_are_never_seen_at_once() {
        for i in 0..=10 {
            let [a, b] = way(1, 2).detail_weights(f64::from(i) / 10.0);
            assert!(a == 0.0 || b == 0.0);
            let [a, b] = way(1, 1).detail_weights(f64::from(i) / 10.0);
            assert!((a + b - 1.0).abs() < 1e-12, "one photo's detail stays whole");
        }
    }
}
