//! Putting an edit back into the photo that it came from.

use std::ops::Range;

use image::{Rgb32FImage, RgbImage, RgbaImage};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::frame::{Border, catmull_rom_weights, split};
use super::pixels::Sample;
use super::{Frame, Photo};

/// Share of the frame, from its border inwards, over which the change fades to nothing.
const FEATHER: f64 = 0.08;
/// Pixels of the model's picture around each one that its link to the photo is fitted to.
const RADIUS: usize = 2;
/// Squared contrast (0 to 255) below which a neighbourhood of the photo says nothing about the change.
const FLAT: f32 = 30.0;
/// Most that fine detail is strengthened by, as a share of itself. Full strength would also raise the grain of skin.
const MOST_GAIN: f32 = 0.25;
/// Root mean square change of a neighbourhood (0 to 255 a channel) from which decoded pixels come in where the photo does not explain
/// the edit, and at which they do so the most.
const LARGE: [f32; 2] = [20.0, 60.0];
/// Most that decoded pixels count for. Alone, those of a small model are a blur amid sharp skin.
const MOST_REPLACED: f32 = 0.6;

/// From a photo, a frame in it and the model's size, how much of a change is wanted where: `[size, size]`, 0 to 1, row by row. `None`: all of
/// it everywhere. [`crate::face::person::reach`] is one.
pub type Reach = fn(&RgbaImage, Frame, u32) -> Option<Vec<f32>>;

/// Levels (of 255) by which the channels of a photo without colour may differ, after a lossy file's rounding.
const COLOURLESS: u8 = 2;

/// Rows that are changed at a time: few enough that their change is still in the processor's caches when it is added.
const BAND: usize = 32;

/// How the change gets from the model's size to the photo's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Upsampling {
    /// Interpolated: all of the photo's own fine detail stays as it is.
    Smooth,
    /// The photo's fine detail follows what the change does with the coarse detail around it, so that a line that the edit removes
    /// does not stay behind as its own fine edges. Where the change is large and the photo no longer explains the edited picture,
    /// decoded pixels are blended in.
    #[default]
    Guided,
}

/// Where a frame is more than this many times the model's size, the change is interpolated to so many times its size first.
const REFINED: usize = 4;

/// What an edit changed, at the model's size or a multiple of it.
#[derive(Debug)]
struct Change {
    size: usize,
    /// Whether straight lines from value to value are smooth enough.
    refined: bool,
    /// Row-major. Red, green and blue of the change (0 to 255 a channel); what becomes of the photo's fine detail (-1: it is taken
    /// away; 0: it is left alone); red, green and blue of the photo at the model's size, beyond which its detail begins; nothing.
    values: Vec<[f32; 8]>,
}

/// Adds the *change* that an edit made, not the decoded picture itself, to the photo's own pixels, so that skin, hair and
/// background keep their detail. `edited` and `reconstructed` are `[3, size, size]` in [-1, 1], decoded the same way; where they are
/// equal the photo is returned bit for bit. Where the photo has no colour in the frame, the change has none either: models know faces in
/// colour only, and would stain it. What of the frame lies outside the photo is left out. `reach` says how much of the change is
/// wanted where; without it, all of it everywhere.
pub fn put_back(
    photo: &Photo,
    frame: Frame,
    edited: &[f32],
    reconstructed: &[f32],
    size: u32,
    upsampling: Upsampling,
    reach: Option<Reach>,
) -> Photo {
    let mut out = photo.clone();
    let mut change = Change::new(edited, reconstructed, size as usize);
    if change.is_nothing() {
        return out;
    }
    let srgb = photo.srgb_pixels();
    let guide = guide(&srgb, frame, size);
    change.take_colour_from(&guide);
    let reach = reach.and_then(|reach| reach(&srgb, frame, size));
    let guide = (upsampling == Upsampling::Guided).then_some(&guide);
    let whole = [[0.0; 2], [srgb.width(), srgb.height()].map(f64::from)];
    let patch = Patch::new(change, frame, srgb.dimensions(), whole, guide, reach.as_deref());
    // In bands: the change of a whole large photo would take three times the photo's own memory.
    for top in patch.rows.clone().step_by(BAND) {
        let band = top..(top + BAND).min(patch.rows.end);
        let mut deltas = Rgb32FImage::new(patch.columns.len() as u32, band.len() as u32);
        deltas.par_chunks_exact_mut(3 * patch.columns.len().max(1)).zip(band).for_each(|(row, y)| {
            for (delta, x) in row.as_chunks_mut::<3>().0.iter_mut().zip(patch.columns.clone()) {
                let [r, g, b, _] = srgb.get_pixel(x as u32, y as u32).0;
                *delta = patch.at(x, y, [r, g, b]).unwrap_or_default();
            }
        });
        out.add_srgb(patch.columns.start as u32, top as u32, &deltas);
    }
    out
}

/// What of an sRGB picture is in the frame, at the model's size: what [`Upsampling::Guided`] is guided by.
pub(crate) fn guide(srgb: &RgbaImage, frame: Frame, size: u32) -> RgbImage {
    frame.resample(srgb, size, Border::Replicate)
}

/// As [`put_back`] with [`Upsampling::Guided`], for what is on a screen: 8 bits and sRGB, the guide made once for many edits. What is shown
/// may be part of the photo, whose upper left and lower right corner are at `whole` in its pixels.
pub(crate) fn put_on_screen(
    shown: &RgbImage,
    whole: [[f64; 2]; 2],
    frame: Frame,
    edited: &[f32],
    reconstructed: &[f32],
    guide: &RgbImage,
    reach: Option<&[f32]>,
) -> RgbImage {
    let mut out = shown.clone();
    let mut change = Change::new(edited, reconstructed, guide.width() as usize);
    if covered(frame, shown.dimensions()).iter().any(Range::is_empty) || change.is_nothing() {
        return out;
    }
    change.take_colour_from(guide);
    let patch = Patch::new(change, frame, shown.dimensions(), whole, Some(guide), reach);
    let rows = out.par_chunks_exact_mut(3 * shown.width() as usize).enumerate().skip(patch.rows.start).take(patch.rows.len());
    rows.for_each(|(y, row)| {
        for (x, pixel) in row.as_chunks_mut::<3>().0.iter_mut().enumerate().skip(patch.columns.start).take(patch.columns.len()) {
            if let Some(delta) = patch.at(x, y, *pixel) {
                // Written out: a closure over the channels is a call a channel.
                let [r, g, b] = *pixel;
                *pixel = [add(r, delta[0]), add(g, delta[1]), add(b, delta[2])];
            }
        }
    });
    out
}

#[inline]
fn add(value: u8, delta: f32) -> u8 {
    u8::from_unit(value.to_unit() + delta)
}

/// The columns and rows of a picture that a frame reaches into.
fn covered(frame: Frame, (width, height): (u32, u32)) -> [Range<usize>; 2] {
    let corners = frame.corners();
    [(0, width), (1, height)].map(|(k, length)| {
        let least = corners.iter().map(|c| c[k]).fold(f64::INFINITY, f64::min).floor().clamp(0.0, f64::from(length));
        let most = corners.iter().map(|c| c[k]).fold(f64::NEG_INFINITY, f64::max).ceil().clamp(0.0, f64::from(length));
        least as usize..most as usize
    })
}

/// A change, and where on a photo it goes.
struct Patch<L> {
    change: Change,
    mask: Feather,
    locate: L,
    /// For a frame smaller than the model's picture: the mean of what falls on a pixel is taken, as when it was cut.
    samples: u32,
    /// What of the photo the frame covers.
    columns: Range<usize>,
    rows: Range<usize>,
}

impl Patch<()> {
    fn new(
        mut change: Change,
        frame: Frame,
        (width, height): (u32, u32),
        whole: [[f64; 2]; 2],
        guide: Option<&RgbImage>,
        reach: Option<&[f32]>,
    ) -> Patch<impl Fn([f64; 2]) -> [f64; 2] + Sync> {
        let size = change.size;
        if let Some(guide) = guide {
            change.follow(guide);
        }
        if let Some(reach) = reach {
            change.keep_within(reach);
        }
        if frame.side > (size * REFINED) as f64 {
            change = change.refined();
        }
        let [columns, rows] = covered(frame, (width, height));
        Patch {
            change,
            mask: Feather::new(frame, whole),
            locate: frame.locator(),
            samples: (size as f64 / frame.side).ceil().clamp(1.0, 64.0) as u32,
            columns,
            rows,
        }
    }
}

impl<L: Fn([f64; 2]) -> [f64; 2]> Patch<L> {
    /// What is added to a pixel of these 8-bit sRGB values, in 1 for white; `None` outside the frame.
    #[inline]
    fn at(&self, x: usize, y: usize, own: [u8; 3]) -> Option<[f32; 3]> {
        let centre = [x as f64 + 0.5, y as f64 + 0.5];
        let place = (self.locate)(centre);
        let mask = self.mask.at(place);
        if mask <= 0.0 {
            return None;
        }
        let values = if self.samples == 1 { self.change.at(place) } else { self.change.mean(&self.locate, centre, self.samples) };
        // In coded values, not in linear light: there, darkening would turn the grain of skin into black specks.
        let [r, g, b, gain, own_r, own_g, own_b, _] = values;
        let share = mask / 255.0;
        let delta = |change: f32, own: u8, coarse: f32| (change + gain * (f32::from(own) - coarse)) * share;
        Some([delta(r, own[0], own_r), delta(g, own[1], own_g), delta(b, own[2], own_b)])
    }
}

/// How the eye weighs red, green and blue (Rec. 709).
const WEIGHTS: [f32; 3] = [0.2126, 0.7152, 0.0722];

#[inline]
fn luma(rgb: [f32; 3]) -> f32 {
    rgb.into_iter().zip(WEIGHTS).map(|(v, weight)| v * weight).sum()
}

/// 0 below the first bound, 1 above the second, smooth between.
fn rise(value: f32, [from, to]: [f32; 2]) -> f32 {
    let t = ((value - from) / (to - from)).clamp(0.0, 1.0);
    t * t * (3.0 - 2.0 * t)
}

impl Change {
    fn new(edited: &[f32], reconstructed: &[f32], size: usize) -> Self {
        let plane = size * size;
        let value = |i: usize| (edited[i].clamp(-1.0, 1.0) - reconstructed[i].clamp(-1.0, 1.0)) * 127.5;
        let values = (0..plane).map(|i| [value(i), value(plane + i), value(2 * plane + i), 0.0, 0.0, 0.0, 0.0, 0.0]).collect();
        Self { size, refined: false, values }
    }

    fn is_nothing(&self) -> bool {
        self.values.iter().all(|values| values[..3] == [0.0; 3])
    }

    /// Leaves only brightness of the change if the photo, at the model's size, has no colour.
    fn take_colour_from(&mut self, photo: &RgbImage) {
        let spread = |pixel: &[u8; 3]| pixel.iter().max().zip(pixel.iter().min()).map_or(0, |(most, least)| most - least);
        if photo.pixels().all(|pixel| spread(&pixel.0) <= COLOURLESS) {
            for [r, g, b, ..] in &mut self.values {
                let grey = luma([*r, *g, *b]);
                (*r, *g, *b) = (grey, grey, grey);
            }
        }
    }

    /// Fits `edited = (1 + gain) * photo + offset` to the brightness around every pixel, as a guided filter does (He, Sun and Tang,
    /// 2010), and keeps the gain; upsampled, it is applied to that part of the photo which the model's size cannot hold. Where the
    /// change is large and the two are not alike, less of that part is kept: without any, what is left is the decoded picture.
    fn follow(&mut self, photo: &RgbImage) {
        let mut moments: Vec<[f32; 8]> = Vec::with_capacity(self.values.len());
        let mut energies: Vec<[f32; 1]> = Vec::with_capacity(self.values.len());
        for (values, pixel) in self.values.iter_mut().zip(photo.pixels()) {
            let [r, g, b, ..] = *values;
            let own = pixel.0.map(f32::from);
            values[4..7].copy_from_slice(&own);
            let before = luma(own);
            let after = before + luma([r, g, b]);
            moments.push([before, after, before * before, after * after, before * after, 0.0, 0.0, 0.0]);
            energies.push([luma([r * r, g * g, b * b])]);
        }
        let (moments, energies) = (box_mean(&moments, self.size, RADIUS), box_mean(&energies, self.size, 1));
        let (gains, replaced): (Vec<[f32; 1]>, Vec<[f32; 1]>) = moments
            .into_iter()
            .zip(energies)
            .map(|([i, t, ii, tt, it, ..], [energy])| {
                let (variance, edited_variance, covariance) = (ii - i * i, tt - t * t, it - t * i);
                // Exactly 0 without a change. Detail is taken away at most once, and never turned over.
                let gain = ((covariance - variance) / (variance.max(0.0) + FLAT)).clamp(-1.0, MOST_GAIN);
                let (variance, edited_variance) = (variance.max(0.0), edited_variance.max(0.0));
                let alike = ((covariance + FLAT) / ((variance + FLAT) * (edited_variance + FLAT)).sqrt()).clamp(0.0, 1.0);
                let replaced = MOST_REPLACED * rise(energy.sqrt(), LARGE) * (1.0 - alike);
                ([gain], [replaced])
            })
            .unzip();
        let smooth = box_mean(&gains, self.size, RADIUS).into_iter().zip(box_mean(&replaced, self.size, 1));
        for (values, ([gain], [replaced])) in self.values.iter_mut().zip(smooth) {
            values[3] = (1.0 + gain) * (1.0 - replaced) - 1.0;
        }
    }

    /// Leaves of every value its share, and of what becomes of the photo's detail.
    fn keep_within(&mut self, reach: &[f32]) {
        for (values, share) in self.values.iter_mut().zip(reach) {
            values[..4].iter_mut().for_each(|value| *value *= share);
        }
    }

    /// The mean over one pixel of the photo, by `samples` x `samples` samples.
    fn mean(&self, locate: &impl Fn([f64; 2]) -> [f64; 2], centre: [f64; 2], samples: u32) -> [f32; 8] {
        let mut sum = [0.0; 8];
        let offset = |i: u32| (f64::from(i) + 0.5) / f64::from(samples) - 0.5;
        for j in 0..samples {
            for i in 0..samples {
                let values = self.at(locate([centre[0] + offset(i), centre[1] + offset(j)]));
                (0..8).for_each(|k| sum[k] += values[k]);
            }
        }
        sum.map(|s| s / (samples * samples) as f32)
    }

    /// The same at `REFINED` times the size. That between its values straight lines will do makes large photos three times as fast.
    fn refined(&self) -> Self {
        let size = self.size * REFINED;
        let place = |i: usize| (i as f64 + 0.5) / size as f64;
        let mut values = vec![[0.0; 8]; size * size];
        values.par_chunks_exact_mut(size).enumerate().for_each(|(y, row)| {
            for (x, values) in row.iter_mut().enumerate() {
                *values = self.spline([place(x), place(y)]);
            }
        });
        Self { size, refined: true, values }
    }

    #[inline]
    fn at(&self, place: [f64; 2]) -> [f32; 8] {
        if self.refined { self.linear(place) } else { self.spline(place) }
    }

    /// The weighted sum of values around a place. The border goes on beyond.
    #[inline]
    fn sum<const N: usize>(&self, first: [i64; 2], across: [f32; N], down: [f32; N]) -> [f32; 8] {
        let place = |first: i64, k: usize| (first + k as i64).clamp(0, self.size as i64 - 1) as usize;
        let mut sum = [0.0f32; 8];
        for (j, wy) in down.into_iter().enumerate() {
            let row = &self.values[place(first[1], j) * self.size..][..self.size];
            for (i, wx) in across.into_iter().enumerate() {
                let (values, weight) = (&row[place(first[0], i)], wx * wy);
                for (sum, value) in sum.iter_mut().zip(values) {
                    *sum += weight * value;
                }
            }
        }
        sum
    }

    /// Catmull-Rom splines through the values.
    #[inline]
    fn spline(&self, [u, v]: [f64; 2]) -> [f32; 8] {
        let ((left, fx), (top, fy)) = (split(u * self.size as f64 - 0.5), split(v * self.size as f64 - 0.5));
        self.sum([left - 1, top - 1], catmull_rom_weights(fx), catmull_rom_weights(fy))
    }

    /// Straight lines between the values (two a side at least). The border goes on beyond.
    #[inline]
    fn linear(&self, [u, v]: [f64; 2]) -> [f32; 8] {
        let last = self.size as i64 - 2;
        let place = |share: f64| match split(share * self.size as f64 - 0.5) {
            (first, _) if first < 0 => (0, 0.0),
            (first, _) if first > last => (last as usize, 1.0),
            (first, fraction) => (first as usize, fraction),
        };
        let ((left, fx), (top, fy)) = (place(u), place(v));
        let row = |y: usize| &self.values[y * self.size + left..][..2];
        let (above, below) = (row(top), row(top + 1));
        let weights = [(1.0 - fx) * (1.0 - fy), fx * (1.0 - fy), (1.0 - fx) * fy, fx * fy];
        let mut sum = [0.0; 8];
        for (values, weight) in [above[0], above[1], below[0], below[1]].iter().zip(weights) {
            for (sum, value) in sum.iter_mut().zip(values) {
                *sum += weight * value;
            }
        }
        sum
    }
}

/// Means over squares of `2 * radius + 1` pixels, cut off at the border: over rows first, then over columns of what that gave.
fn box_mean<const N: usize>(values: &[[f32; N]], size: usize, radius: usize) -> Vec<[f32; N]> {
    let along = |values: &[[f32; N]], step: usize, at: usize, place: usize| {
        let (from, to) = (place.saturating_sub(radius), (place + radius + 1).min(size));
        let first = at - (place - from) * step;
        let mut sum = [0.0; N];
        for i in 0..to - from {
            for (sum, value) in sum.iter_mut().zip(&values[first + i * step]) {
                *sum += value;
            }
        }
        for sum in &mut sum {
            *sum /= (to - from) as f32;
        }
        sum
    };
    let mut rows = vec![[0.0; N]; values.len()];
    rows.par_iter_mut().enumerate().with_min_len(size).for_each(|(at, mean)| *mean = along(values, 1, at, at % size));
    let mut all = vec![[0.0; N]; values.len()];
    all.par_iter_mut().enumerate().with_min_len(size).for_each(|(at, mean)| *mean = along(&rows, size, at, at / size));
    all
}

/// 1 inside the frame, falling smoothly to 0 at those of its sides that pass through the photo.
struct Feather {
    /// Left, top, right, bottom. A change that reaches the photo's own border has nothing to be blended with there.
    fades: [bool; 4],
    width: f64,
}

impl Feather {
    /// `whole`: the photo's upper left and lower right corner.
    fn new(frame: Frame, [least, most]: [[f64; 2]; 2]) -> Self {
        let [a, b, c, d] = frame.corners().map(|corner| [0, 1].map(|k| corner[k] - least[k]));
        let size = [0, 1].map(|k| most[k] - least[k]);
        let fades = [[a, d], [a, b], [b, c], [d, c]].map(|[from, to]| passes_through(from, to, size));
        Self { fades, width: FEATHER.max(1.0 / frame.side) }
    }

    #[inline]
    fn at(&self, [u, v]: [f64; 2]) -> f32 {
        if !(0.0..=1.0).contains(&u) || !(0.0..=1.0).contains(&v) {
            return 0.0;
        }
        let mut mask = 1.0;
        for (distance, fades) in [u, v, 1.0 - u, 1.0 - v].into_iter().zip(self.fades) {
            if fades && distance < self.width {
                let t = (distance / self.width) as f32;
                mask *= t * t * (3.0 - 2.0 * t);
            }
        }
        mask
    }
}

/// Whether a line from one point to another goes through the inside of the photo, not just along its border.
fn passes_through(from: [f64; 2], to: [f64; 2], size: [f64; 2]) -> bool {
    // Clip the line, as t from 0 to 1, to the strip between two borders, twice.
    let (mut start, mut end) = (0.0f64, 1.0f64);
    for ((from, to), length) in from.into_iter().zip(to).zip(size) {
        // Within a hundredth of a pixel of the border is on it.
        let (low, high) = (0.01, length - 0.01);
        let step = to - from;
        if step.abs() < 1e-9 {
            if from <= low || from >= high {
                return false;
            }
            continue;
        }
        let (a, b) = ((low - from) / step, (high - from) / step);
        (start, end) = (start.max(a.min(b)), end.min(a.max(b)));
    }
    start < end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_sides_within_the_photo_fade() {
        let square = |x: f64, side: f64| Frame { centre: [x, side / 2.0], side, angle: 0.0 };
        assert_eq!(Feather::new(square(45.0, 70.0), [[0.0; 2], [90.0, 70.0]]).fades, [true, false, true, false]);
        assert_eq!(Feather::new(square(35.0, 70.0), [[0.0; 2], [70.0, 70.0]]).fades, [false; 4]);
        let turned = Frame { angle: 0.5, ..square(45.0, 70.0) };
        assert_eq!(Feather::new(turned, [[0.0; 2], [90.0, 70.0]]).fades, [true; 4]);
        let beyond = Frame { side: 500.0, ..turned };
        assert_eq!(Feather::new(beyond, [[0.0; 2], [90.0, 70.0]]).fades, [false; 4]);
    }

    #[test]
    fn the_screen_shows_what_is_written() {
        let pixels = RgbImage::from_fn(150, 130, |x, y| image::Rgb([(x * 7 % 256) as u8, (y * 5 % 256) as u8, ((x * y) % 256) as u8]));
        let photo = Photo::from_image(image::DynamicImage::ImageRgb8(pixels.clone()), "test").unwrap();
        let wave = |phase: f32| -> Vec<f32> { (0..3 * 16 * 16).map(|i| (i as f32 * 0.21 + phase).sin() * 0.6).collect() };
        let whole = [[0.0; 2], [150.0, 130.0]];
        let reach: Reach = |_, _, _| Some((0..16 * 16).map(|i| if i % 16 < 10 { 1.0 } else { 0.3 }).collect());
        for side in [10.0, 60.0, 110.0] {
            let frame = Frame { centre: [70.0, 60.0], side, angle: 0.3 };
            let written = put_back(&photo, frame, &wave(0.4), &wave(0.0), 16, Upsampling::Guided, Some(reach));
            let guide = guide(&photo.srgb_pixels(), frame, 16);
            let shown =
                put_on_screen(&pixels, whole, frame, &wave(0.4), &wave(0.0), &guide, reach(&photo.srgb_pixels(), frame, 16).as_deref());
            assert!(image::DynamicImage::ImageRgba8(written.srgb_pixels().into_owned()).into_rgb8() == shown, "a frame of {side} pixels");
            assert!(shown != pixels);
            assert!(put_on_screen(&pixels, whole, frame, &wave(0.4), &wave(0.4), &guide, None) == pixels);
        }
    }

    #[test]
    fn a_photo_without_colour_gets_none() {
        let wave = |phase: f32| -> Vec<f32> { (0..3 * 16 * 16).map(|i| (i as f32 * 0.21 + phase).sin() * 0.6).collect() };
        let (frame, whole) = (Frame { centre: [60.0, 60.0], side: 110.0, angle: 0.2 }, [[0.0; 2], [120.0; 2]]);
        for (tint, colourless) in [(0, true), (1, true), (40, false)] {
            let grey = |x: u32, y: u32| (x + y) as u8 / 2 + (x * y % 50) as u8;
            let pixels = RgbImage::from_fn(120, 120, |x, y| image::Rgb([grey(x, y), grey(x, y), grey(x, y) + tint]));
            let photo = Photo::from_image(image::DynamicImage::ImageRgb8(pixels.clone()), "test").unwrap();
            let spread = |picture: &RgbImage| picture.pixels().map(|p| p.0[2].abs_diff(p.0[0]).max(p.0[1].abs_diff(p.0[0]))).max();
            for upsampling in [Upsampling::Smooth, Upsampling::Guided] {
                let out = put_back(&photo, frame, &wave(0.4), &wave(0.0), 16, upsampling, None).srgb(0, 0, 120, 120);
                assert!(out != pixels, "{upsampling:?}");
                assert_eq!(spread(&out) <= Some(tint + 1), colourless, "{upsampling:?}, {tint}: {:?}", spread(&out));
            }
            let shown = put_on_screen(&pixels, whole, frame, &wave(0.4), &wave(0.0), &guide(&photo.srgb_pixels(), frame, 16), None);
            assert_eq!(spread(&shown) <= Some(tint + 1), colourless, "on the screen");
        }
    }

    #[test]
    fn what_is_out_of_reach_stays_to_the_bit() {
        let pixels = RgbImage::from_fn(120, 120, |x, y| image::Rgb([(x * 2) as u8, (y * 2) as u8, ((x * y) % 256) as u8]));
        let photo = Photo::from_image(image::DynamicImage::ImageRgb8(pixels.clone()), "test").unwrap();
        let frame = Frame { centre: [60.0, 60.0], side: 120.0, angle: 0.0 };
        let (before, after) = (vec![-0.2; 3 * 256], vec![0.3; 3 * 256]);
        let left: Reach = |_, _, _| Some((0..256).map(|i| f32::from(u8::from(i % 16 < 8))).collect());
        for upsampling in [Upsampling::Smooth, Upsampling::Guided] {
            let out = put_back(&photo, frame, &after, &before, 16, upsampling, Some(left)).srgb(0, 0, 120, 120);
            // Splines reach two values far.
            let same = |x: u32, y: u32| out.get_pixel(x, y) == pixels.get_pixel(x, y);
            assert!((80..120).all(|x| (0..120).all(|y| same(x, y))), "{upsampling:?}");
            assert!((0..40).all(|x| (0..120).all(|y| !same(x, y))), "{upsampling:?}");
        }
    }

    #[test]
    fn refining_keeps_the_change() {
        let ramp: Vec<f32> = (0..3 * 256).map(|i| (i as f32 * 0.37).sin() * 0.5).collect();
        let change = Change::new(&ramp, &vec![0.0; 3 * 256], 16);
        let refined = change.refined();
        for i in 0..200 {
            let place = [f64::from(i) / 200.0, (f64::from(i) * 0.7).fract()];
            let (fine, coarse) = (refined.at(place), change.at(place));
            // Of values up to 64 with a new one at every pixel, the roughest that there is.
            assert!(fine.iter().zip(coarse).all(|(a, b)| (a - b).abs() < 4.0), "{fine:?} {coarse:?}");
        }
    }

    #[test]
    fn the_change_follows_an_edge_that_it_removes() {
        // The photo is bright on the right; the edit makes everything grey.
        let size = 16;
        let photo = RgbImage::from_fn(16, 16, |x, _| image::Rgb(if x < 8 { [60; 3] } else { [180; 3] }));
        let before = crate::photo::to_model(&photo);
        let after = vec![120.0 / 127.5 - 1.0; before.len()];
        let mut change = Change::new(&after, &before, size);
        change.follow(&photo);
        let [_, _, _, gain, ..] = change.at([0.5, 0.5]);
        assert!((-1.01..-0.75).contains(&gain), "detail at the edge is taken away: {gain}");
        let [_, _, _, flat, ..] = change.at([0.1, 0.5]);
        assert!(flat.abs() < 0.01, "where nothing is to be seen, nothing is said: {flat}");
    }

    /// The gain in the middle for an edit that turns one picture into another, both 16 pixels wide and high.
    fn gain(before: impl Fn(u32, u32) -> u8, after: impl Fn(u32, u32) -> u8) -> f32 {
        let picture = |value: &dyn Fn(u32, u32) -> u8| RgbImage::from_fn(16, 16, |x, y| image::Rgb([value(x, y); 3]));
        let [before, after] = [picture(&before), picture(&after)];
        let mut change = Change::new(&crate::photo::to_model(&after), &crate::photo::to_model(&before), 16);
        change.follow(&before);
        change.at([0.5, 0.5])[3]
    }

    #[test]
    fn detail_goes_where_the_photo_does_not_explain_a_large_change() {
        let down = |_, y: u32| if y % 6 < 3 { 90 } else { 150 };
        let across = |x: u32, _| if x % 6 < 3 { 40 } else { 220 };
        let other = gain(down, across);
        assert!(other < -0.9, "stripes the other way: {other}");
        let darker = gain(down, |x, y| down(x, y) - 80);
        assert!(darker.abs() < 0.02, "the same stripes in a shade: {darker}");
        let stronger = gain(down, |x, y| if down(x, y) == 90 { 60 } else { 180 });
        assert!((stronger - MOST_GAIN).abs() < 0.02, "stripes twice as strong: {stronger}");
        let slight = gain(|_, _| 120, |x, _| if x % 6 < 3 { 118 } else { 122 });
        assert!(slight.abs() < 0.05, "a slight pattern on plain skin: {slight}");
    }
}
