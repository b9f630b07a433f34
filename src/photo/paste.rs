//! Putting an edit back into the photo that it came from.

use image::{Rgb, Rgb32FImage, imageops};

use super::{Photo, Square};

/// Share of the square, from its border inwards, over which the change fades to nothing.
const FEATHER: f32 = 0.08;

/// Adds the *change* that an edit made, not the decoded picture itself, to the photo's own pixels, so that skin, hair and
/// background keep their detail. `edited` and `reconstructed` are `[3, size, size]` in [-1, 1], decoded the same way; where they are
/// equal the photo is returned bit for bit.
pub fn put_back(photo: &Photo, square: Square, edited: &[f32], reconstructed: &[f32], size: u32) -> Photo {
    let plane = (size * size) as usize;
    let value = |i: usize| (edited[i].clamp(-1.0, 1.0) - reconstructed[i].clamp(-1.0, 1.0)) / 2.0;
    let change = Rgb32FImage::from_fn(size, size, |x, y| {
        let i = (y * size + x) as usize;
        Rgb([value(i), value(plane + i), value(2 * plane + i)])
    });
    let mut out = photo.clone();
    if change.as_raw().iter().all(|v| *v == 0.0) {
        return out;
    }
    let mut change = imageops::resize(&change, square.side, square.side, imageops::FilterType::CatmullRom);
    // A change that reaches the photo's own border has nothing to be blended with there.
    let touches = [square.x == 0, square.y == 0, square.x + square.side == photo.width(), square.y + square.side == photo.height()];
    for (x, y, delta) in change.enumerate_pixels_mut() {
        let mask = feather(x, y, square.side, touches);
        delta.0 = delta.0.map(|d| d * mask);
    }
    out.add_srgb(square.x, square.y, &change);
    out
}

/// 1 inside, falling smoothly to 0 at those sides (left, top, right, bottom) that lie within the photo.
fn feather(x: u32, y: u32, side: u32, touches: [bool; 4]) -> f32 {
    let width = (side as f32 * FEATHER).max(1.0);
    let from = |distance: u32, touches: bool| if touches { 1.0 } else { ((distance as f32 + 0.5) / width).min(1.0) };
    let smooth = |t: f32| t * t * (3.0 - 2.0 * t);
    let [left, top, right, bottom] = touches;
    [from(x, left), from(y, top), from(side - 1 - x, right), from(side - 1 - y, bottom)].map(smooth).into_iter().product()
}
