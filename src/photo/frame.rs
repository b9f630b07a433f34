//! The square of a photo that the model sees: a similarity transform between the two.

use image::{Rgb, RgbImage, RgbaImage};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::Photo;

/// A square anywhere in a photo, at any angle. It may reach beyond the photo's border.
///
/// Photo coordinates are pixels from the upper left *corner* of the upper left pixel, whose centre is at (0.5, 0.5). Frame
/// coordinates `(u, v)` are fractions of the side: (0, 0) is the frame's own upper left corner, (1, 1) the one opposite.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Frame {
    /// `[x, y]` in pixels.
    pub centre: [f64; 2],
    /// In pixels, above zero.
    pub side: f64,
    /// Radians; positive turns the frame clockwise in the photo.
    pub angle: f64,
}

/// Side of the largest crop in pixels.
const LARGEST_CROP: f64 = 16_384.0;

/// A frame fitted to the points of a face.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fit {
    pub frame: Frame,
    /// Root mean square distance between the points and the template, in fractions of the side.
    pub residual: f64,
}

/// Where a face's right eye, left eye, nose and mouth centre lie in the pictures that models are trained on, in fractions of the side.
///
/// These are the face detector's own points, averaged over 684 pictures in the framing of CelebA-HQ: it sets the nose and above all
/// the mouth lower (by 0.7 and 2.9 % of the side) than the five-point detector that the training pictures were measured with.
pub const TEMPLATE: [[f64; 2]; 4] = [[0.3765, 0.4846], [0.6231, 0.4836], [0.5013, 0.6364], [0.5012, 0.7552]];
/// How much each point counts. The nose moves with the head's turn and the mouth with its expression: on those pictures these weights
/// give frames whose inner corners are 2.7 % of the side off the true ones on average, equal ones 3.7 %.
const WEIGHTS: [f64; 4] = [1.0, 1.0, 0.0, 0.3];

impl Fit {
    /// Residuals above this are worse than 999 of 1000 aligned pictures: faces in profile, and things that are no face.
    pub const POOR: f64 = 0.08;

    pub fn is_poor(&self) -> bool {
        self.residual > Self::POOR
    }
}

impl Frame {
    /// The largest upright square in the middle.
    pub fn centre(photo: &Photo) -> Self {
        Self::middle_of(photo.width(), photo.height())
    }

    /// The same for a photo of `width` x `height` pixels.
    pub fn middle_of(width: u32, height: u32) -> Self {
        let side = width.min(height);
        // Whole pixels: a square of the model's own size is then cut without resampling.
        let middle = |length: u32| f64::from((length - side) / 2) + f64::from(side) / 2.0;
        Self { centre: [middle(width), middle(height)], side: f64::from(side), angle: 0.0 }
    }

    /// The frame in which a face lies as the model expects it, by weighted least squares. Points are right eye, left eye, nose and
    /// mouth centre in pixels; should they all coincide, the frame is one pixel wide and the residual infinite.
    pub fn from_landmarks(points: [[f64; 2]; 4]) -> Fit {
        let total: f64 = WEIGHTS.iter().sum();
        let mean = |p: &[[f64; 2]; 4]| [0, 1].map(|k| p.iter().zip(WEIGHTS).map(|(p, w)| w * p[k]).sum::<f64>() / total);
        let (from, to) = (mean(&TEMPLATE), mean(&points));
        // A similarity without its shift is one complex number: the closed form of the fit is a quotient of sums.
        let (mut cosine, mut sine, mut spread) = (0.0, 0.0, 0.0);
        for ((t, p), w) in TEMPLATE.iter().zip(&points).zip(WEIGHTS) {
            let (tx, ty, px, py) = (t[0] - from[0], t[1] - from[1], p[0] - to[0], p[1] - to[1]);
            cosine += w * (tx * px + ty * py);
            sine += w * (tx * py - ty * px);
            spread += w * (tx * tx + ty * ty);
        }
        let side = cosine.hypot(sine) / spread;
        if side.is_nan() || side <= 0.0 {
            return Fit { frame: Self { centre: to, side: 1.0, angle: 0.0 }, residual: f64::INFINITY };
        }
        let turned = Self { centre: [0.0; 2], side, angle: sine.atan2(cosine) };
        let offset = turned.point(from);
        let frame = Self { centre: [to[0] - offset[0], to[1] - offset[1]], ..turned };
        let squares = TEMPLATE.iter().zip(points).map(|(t, p)| {
            let [x, y] = frame.point(*t);
            (x - p[0]).powi(2) + (y - p[1]).powi(2)
        });
        Fit { frame, residual: (squares.sum::<f64>() / 4.0).sqrt() / side }
    }

    /// Frame coordinates to the photo's pixels.
    pub fn point(&self, [u, v]: [f64; 2]) -> [f64; 2] {
        let (sine, cosine) = self.angle.sin_cos();
        let (x, y) = ((u - 0.5) * self.side, (v - 0.5) * self.side);
        [self.centre[0] + x * cosine - y * sine, self.centre[1] + x * sine + y * cosine]
    }

    /// The photo's pixels to frame coordinates: the inverse of [`Frame::point`].
    pub fn locate(&self, point: [f64; 2]) -> [f64; 2] {
        self.locator()(point)
    }

    /// [`Frame::locate`] for many points: what depends on the frame alone is computed once.
    pub(super) fn locator(&self) -> impl Fn([f64; 2]) -> [f64; 2] + Sync + use<> {
        let (sine, cosine) = self.angle.sin_cos();
        let (across, down) = (cosine / self.side, sine / self.side);
        let [cx, cy] = self.centre;
        #[inline]
        move |[x, y]| {
            let (x, y) = (x - cx, y - cy);
            [x * across + y * down + 0.5, y * across - x * down + 0.5]
        }
    }

    /// Whether the numbers can be a frame at all; a hand-written file may hold others.
    pub fn is_valid(&self) -> bool {
        let within = |v: f64| v.abs() <= 1e6;
        self.centre.into_iter().all(within) && self.side > 0.0 && within(self.side) && self.angle.is_finite()
    }

    /// The framed part as a photo of its own, at about the photo's resolution: upright frames on whole pixels inside the photo keep
    /// its depth and colour space, all others become 8-bit sRGB.
    pub fn crop(&self, photo: &Photo) -> Photo {
        let [left, top] = self.point([0.0, 0.0]);
        let fits = |start: f64, length: u32| start >= 0.0 && start + self.side <= f64::from(length);
        if self.angle == 0.0
            && [left, top, self.side].iter().all(|v| v.fract() == 0.0)
            && fits(left, photo.width())
            && fits(top, photo.height())
        {
            return photo.with_pixels(photo.pixels.crop(left as u32, top as u32, self.side as u32, self.side as u32));
        }
        let side = self.side.round().clamp(1.0, LARGEST_CROP) as u32;
        Photo { is_edited: photo.is_edited, ..photo.replaced_by(self.resample(&photo.srgb_pixels(), side, Border::Replicate)) }
    }

    /// The corners in the photo's pixels: upper left, upper right, lower right, lower left.
    pub fn corners(&self) -> [[f64; 2]; 4] {
        [[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]].map(|corner| self.point(corner))
    }

    /// The frame in a copy of the photo whose sides are `factor` times as long.
    pub fn scaled(&self, factor: f64) -> Self {
        Self { centre: self.centre.map(|v| v * factor), side: self.side * factor, ..*self }
    }

    /// The frame's pixels at `size x size`. Beyond the photo its border pixels go on; transparent pixels are laid over white.
    pub fn cut(&self, photo: &Photo, size: u32) -> RgbImage {
        self.resample(&photo.srgb_pixels(), size, Border::Replicate)
    }

    /// Area-filtered: every output pixel is the mean of as many interpolated samples as it covers pixels.
    pub(crate) fn resample(&self, image: &RgbaImage, size: u32, border: Border) -> RgbImage {
        let step = self.side / f64::from(size);
        let samples = (step - 1e-9).ceil().max(1.0) as u32;
        let sharp = step < 1.0 - 1e-9;
        let fine = step / f64::from(samples);
        let (sine, cosine) = self.angle.sin_cos();
        let (across, down) = (cosine * fine, sine * fine);
        // Corner of the frame, moved to the first sample and from pixel corners to pixel centres.
        let [x0, y0] = self.point([0.0, 0.0]).map(|v| v - 0.5);
        let share = 1.0 / (samples * samples) as f32;
        let mut out = RgbImage::new(size, size);
        out.par_chunks_mut(3 * size as usize).enumerate().for_each(|(row, pixels)| {
            for (column, pixel) in pixels.as_chunks_mut::<3>().0.iter_mut().enumerate() {
                let mut sum = [0.0f32; 3];
                for j in 0..samples {
                    let v = row as f64 * f64::from(samples) + f64::from(j) + 0.5;
                    for i in 0..samples {
                        let u = column as f64 * f64::from(samples) + f64::from(i) + 0.5;
                        let (x, y) = (x0 + u * across - v * down, y0 + u * down + v * across);
                        let value = if sharp { catmull_rom(image, x, y, border) } else { bilinear(image, x, y, border) };
                        for (sum, value) in sum.iter_mut().zip(value) {
                            *sum += value;
                        }
                    }
                }
                for (byte, sum) in pixel.iter_mut().zip(sum) {
                    *byte = to_byte(sum * share);
                }
            }
        });
        out
    }
}

/// What lies beyond an image's border.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Border {
    /// The border pixels, over and over.
    Replicate,
    Black,
}

/// To the nearest of 0 to 255.
#[inline]
pub(super) fn to_byte(value: f32) -> u8 {
    // The conversion clips, and cuts fractions off; `round` would be a call per value on processors without an instruction for it.
    (value + 0.5) as u8
}

/// The whole number below, and what is left.
#[inline]
pub(super) fn split(value: f64) -> (i64, f32) {
    // As with `round`: `floor` may be a call.
    let whole = value as i64;
    let whole = whole - i64::from(value < whole as f64);
    (whole, (value - whole as f64) as f32)
}

#[inline]
fn over_white([r, g, b, a]: [u8; 4]) -> [f32; 3] {
    let rgb = [f32::from(r), f32::from(g), f32::from(b)];
    if a == 255 {
        return rgb;
    }
    let a = f32::from(a) / 255.0;
    let white = 255.0 * (1.0 - a);
    [rgb[0] * a + white, rgb[1] * a + white, rgb[2] * a + white]
}

/// One pixel over white, 0 to 255 a channel.
#[inline]
fn pixel(image: &RgbaImage, x: i64, y: i64, border: Border) -> [f32; 3] {
    let (w, h) = (i64::from(image.width()), i64::from(image.height()));
    if border == Border::Black && (x < 0 || y < 0 || x >= w || y >= h) {
        return [0.0; 3];
    }
    over_white(image.get_pixel(x.clamp(0, w - 1) as u32, y.clamp(0, h - 1) as u32).0)
}

/// Between the four pixels around a point; whole numbers are pixel centres.
#[inline]
fn bilinear(image: &RgbaImage, x: f64, y: f64, border: Border) -> [f32; 3] {
    let ((left, fx), (top, fy)) = (split(x), split(y));
    let (w, h) = (i64::from(image.width()), i64::from(image.height()));
    let [a, b, c, d] = if left >= 0 && top >= 0 && left + 1 < w && top + 1 < h {
        let pixels = image.as_raw().as_chunks::<4>().0;
        let first = (top * w + left) as usize;
        let (above, below) = (&pixels[first..first + 2], &pixels[first + w as usize..first + w as usize + 2]);
        [over_white(above[0]), over_white(above[1]), over_white(below[0]), over_white(below[1])]
    } else {
        [(0, 0), (1, 0), (0, 1), (1, 1)].map(|(dx, dy)| pixel(image, left + dx, top + dy, border))
    };
    [0, 1, 2].map(|k| {
        let (above, below) = (a[k] + (b[k] - a[k]) * fx, c[k] + (d[k] - c[k]) * fx);
        above + (below - above) * fy
    })
}

/// Through the sixteen pixels around a point; whole numbers are pixel centres.
fn catmull_rom(image: &RgbaImage, x: f64, y: f64, border: Border) -> [f32; 3] {
    let ((left, fx), (top, fy)) = (split(x), split(y));
    let (across, down) = (catmull_rom_weights(fx), catmull_rom_weights(fy));
    let mut sum = [0.0f32; 3];
    for (dy, wy) in (-1..).zip(down) {
        for (dx, wx) in (-1..).zip(across) {
            let value = pixel(image, left + dx, top + dy, border);
            for (sum, value) in sum.iter_mut().zip(value) {
                *sum += wx * wy * value;
            }
        }
    }
    sum
}

/// The weights of four equidistant values for a point `t` (0 to 1) of the way from the second to the third.
#[inline]
pub(super) fn catmull_rom_weights(t: f32) -> [f32; 4] {
    let (t2, t3) = (t * t, t * t * t);
    [
        0.5 * (-t3 + 2.0 * t2 - t), //
        0.5 * (3.0 * t3 - 5.0 * t2 + 2.0),
        0.5 * (-3.0 * t3 + 4.0 * t2 + t),
        0.5 * (t3 - t2),
    ]
}

/// An image at full size, half, a quarter and so on, for cutting many small frames out of it quickly.
pub(crate) struct Pyramid<'a> {
    full: &'a RgbaImage,
    /// Each half as wide and high as the one before, rounded up.
    halves: Vec<RgbaImage>,
}

impl<'a> Pyramid<'a> {
    /// Down to about the size of the smallest picture that is cut.
    pub fn new(full: &'a RgbaImage, smallest: u32) -> Self {
        let mut halves: Vec<RgbaImage> = Vec::new();
        loop {
            let last = halves.last().unwrap_or(full);
            if last.width().max(last.height()) < 2 * smallest {
                return Self { full, halves };
            }
            halves.push(halve(last));
        }
    }

    /// As [`Frame::resample`], from the smallest level that still has the detail.
    pub fn resample(&self, frame: Frame, size: u32, border: Border) -> RgbImage {
        let ratio = (frame.side / f64::from(size)).max(1.0);
        match (ratio.log2().floor() as usize).min(self.halves.len()) {
            0 => frame.resample(self.full, size, border),
            level => frame.scaled(0.5f64.powi(level as i32)).resample(&self.halves[level - 1], size, border),
        }
    }
}

/// Means of 2 x 2 pixels over white; an odd last row or column is its own neighbour.
fn halve(image: &RgbaImage) -> RgbaImage {
    let (width, height) = (image.width().div_ceil(2), image.height().div_ceil(2));
    let mut out = RgbaImage::new(width, height);
    let stride = 4 * image.width() as usize;
    let source = image.as_raw();
    let last = image.height() as usize - 1;
    out.par_chunks_mut(4 * width as usize).enumerate().for_each(|(row, pixels)| {
        let line = |y: usize| source[y.min(last) * stride..][..stride].as_chunks::<4>().0.chunks(2);
        for ((out, above), below) in pixels.as_chunks_mut::<4>().0.iter_mut().zip(line(2 * row)).zip(line(2 * row + 1)) {
            let mut sum = [2u32; 3];
            for p in [above[0], above[above.len() - 1], below[0], below[below.len() - 1]] {
                let a = u32::from(p[3]);
                (0..3).for_each(|c| sum[c] += if a == 255 { u32::from(p[c]) } else { (u32::from(p[c]) * a + 255 * (255 - a)) / 255 });
            }
            *out = [(sum[0] / 4) as u8, (sum[1] / 4) as u8, (sum[2] / 4) as u8, 255];
        }
    });
    out
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
