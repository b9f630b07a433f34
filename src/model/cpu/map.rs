//! Feature maps, channels last, and the passes over them that are no convolution: moments, group norm with SiLU, resampling.

use super::buffer::{Aligned, Buffer, Pool};
use super::convolution::Padded;
use super::kernels::{Kernels, Run};
use super::lanes::LANE;
use super::matrix::{Shared, in_parallel};
use crate::model::blocks::Resample;
use crate::model::layers::{GROUPS, GroupNorm, values};

/// `[batch, height, width, channels]`, with the moments that a group norm over it needs: they are taken once, however many
/// blocks read the map.
#[derive(Debug)]
pub struct Map {
    pub values: Buffer,
    pub batch: usize,
    pub height: usize,
    pub width: usize,
    pub channels: usize,
    /// Sum and sum of squares over the pixels, for each image and channel.
    moments: Vec<[f64; 2]>,
}

/// Pixels that are summed in single precision before they go on in double.
const RUN: usize = 256;

impl Map {
    /// A map around values that are all written.
    pub fn new(kernels: &Kernels, values: Buffer, [batch, height, width, channels]: [usize; 4]) -> Self {
        assert_eq!(values.len(), batch * height * width * channels);
        assert!(channels.is_multiple_of(LANE));
        let pixels = height * width;
        let parts = pixels.div_ceil(RUN);
        let mut sums = vec![0.0f32; batch * parts * 2 * channels];
        let to = Shared::new(&mut sums);
        in_parallel(batch * parts, |task| {
            let (image, first) = (task / parts, task % parts * RUN);
            let from = values[(image * pixels + first) * channels..].as_ptr();
            let sum = to.at(task * 2 * channels);
            // SAFETY: the run ends with the image, channels are whole lanes, and every task sums into a place of its own.
            unsafe { (kernels.sums)(from, RUN.min(pixels - first), channels, false, sum, sum.wrapping_add(channels)) };
        });
        let mut moments = vec![[0.0; 2]; batch * channels];
        for (task, part) in sums.chunks_exact(2 * channels).enumerate() {
            for (c, moment) in moments[task / parts * channels..][..channels].iter_mut().enumerate() {
                moment[0] += f64::from(part[c]);
                moment[1] += f64::from(part[channels + c]);
            }
        }
        Self { values, batch, height, width, channels, moments }
    }

    pub fn pixels(&self) -> usize {
        self.height * self.width
    }
}

/// A per-channel `x * scale + shift` for one image.
#[derive(Debug, Clone)]
pub struct Affine {
    scale: Aligned,
    shift: Aligned,
}

impl Affine {
    /// This map followed by `x * (1 + scale) + shift`; `modulation` holds all scales and then all shifts.
    pub fn then(mut self, modulation: &[f32]) -> Self {
        let channels = self.scale.len();
        let (scales, shifts) = modulation.split_at(channels);
        for c in 0..channels {
            self.scale[c] *= 1.0 + scales[c];
            self.shift[c] = self.shift[c] * (1.0 + scales[c]) + shifts[c];
        }
        self
    }
}

/// Group normalisation over 32 groups, epsilon 1e-5.
#[derive(Debug)]
pub struct Norm {
    weight: Vec<f32>,
    bias: Vec<f32>,
}

impl Norm {
    pub fn new(layer: &GroupNorm) -> Self {
        Self { weight: values(&layer.weight), bias: values(&layer.bias) }
    }

    /// The normalisation of one image of the sources, taken as one map with their channels one after the other.
    pub fn affine(&self, sources: &[&Map], image: usize) -> Affine {
        let channels = self.weight.len();
        let group = channels / GROUPS;
        let moments: Vec<[f64; 2]> =
            sources.iter().flat_map(|s| &s.moments[image * s.channels..(image + 1) * s.channels]).copied().collect();
        assert_eq!(moments.len(), channels);
        let count = (group * sources[0].pixels()) as f64;
        let mut affine = Affine { scale: Aligned::zeros(channels), shift: Aligned::zeros(channels) };
        for (g, moments) in moments.chunks_exact(group).enumerate() {
            let [sum, square] = moments.iter().fold([0.0; 2], |[s, q], m| [s + m[0], q + m[1]]);
            let mean = sum / count;
            let inverse = 1.0 / ((square / count - mean * mean).max(0.0) + 1e-5).sqrt();
            for c in g * group..(g + 1) * group {
                let scale = inverse * f64::from(self.weight[c]);
                affine.scale[c] = scale as f32;
                affine.shift[c] = (f64::from(self.bias[c]) - mean * scale) as f32;
            }
        }
        affine
    }
}

/// One row of the sources through their affine map, as one row of all channels.
#[derive(Clone, Copy)]
struct Row<'a> {
    sources: &'a [&'a Map],
    affine: &'a Affine,
    silu: bool,
}

impl Row<'_> {
    fn channels(self) -> usize {
        self.affine.scale.len()
    }

    /// # Safety
    ///
    /// `to` is valid for a row of all channels.
    unsafe fn write(self, kernels: &Kernels, image: usize, y: usize, to: *mut f32) {
        let mut channel = 0;
        for source in self.sources {
            let run = Run {
                from: source.values[(image * source.height + y) * source.width * source.channels..].as_ptr(),
                from_pixel: source.channels,
                to: to.wrapping_add(channel),
                to_pixel: self.channels(),
                pixels: source.width,
                channels: source.channels,
                centre: std::ptr::null(),
                scale: self.affine.scale[channel..].as_ptr(),
                shift: self.affine.shift[channel..].as_ptr(),
                silu: self.silu,
            };
            // SAFETY: the row lies in the source, and the caller vouches for `to`.
            unsafe { (kernels.run)(&run) };
            channel += source.channels;
        }
    }
}

/// The sources, taken as one map, through an affine map for each image and SiLU, resampled and with a border: what a convolution reads.
pub fn activate(kernels: &Kernels, pool: &Pool, sources: &[&Map], affine: &[Affine], resample: Resample) -> Padded {
    let (batch, height, width) = (sources[0].batch, sources[0].height, sources[0].width);
    let channels: usize = sources.iter().map(|s| s.channels).sum();
    let (rows, columns) = match resample {
        Resample::Keep => (height, width),
        Resample::Up => (2 * height, 2 * width),
        Resample::Down => (height / 2, width / 2),
    };
    let mut out = Padded::new(pool, batch, rows, columns, channels);
    let places: Vec<usize> = (0..batch * rows).map(|i| out.offset(i / rows, i % rows + 1, 1)).collect();
    let length = columns * channels;
    let to = Shared::new(&mut out.values);
    // SAFETY (of the three below): a task's rows lie in the bordered map, and no other task writes them.
    let row_at = |image: usize, y: usize| unsafe { std::slice::from_raw_parts_mut(to.at(places[image * rows + y]), length) };
    let write = |image: usize, y: usize, to: *mut f32| unsafe {
        Row { sources, affine: &affine[image], silu: true }.write(kernels, image, y, to);
    };
    match resample {
        Resample::Keep => in_parallel(batch * rows, |task| write(task / rows, task % rows, to.at(places[task]))),
        Resample::Up => in_parallel(batch * height, |task| {
            let (image, y) = (task / height, task % height);
            let mut row = pool.take(width * channels);
            write(image, y, row.as_mut_ptr());
            for half in 0..2 {
                doubled(&row, channels, row_at(image, 2 * y + half));
            }
        }),
        Resample::Down => in_parallel(batch * rows, |task| {
            let (image, y) = (task / rows, task % rows);
            let mut pair = pool.take(2 * width * channels);
            let (upper, lower) = pair.split_at_mut(width * channels);
            write(image, 2 * y, upper.as_mut_ptr());
            write(image, 2 * y + 1, lower.as_mut_ptr());
            averaged(upper, lower, channels, row_at(image, y));
        }),
    }
    out
}

/// The map through an affine map for each image, without SiLU or border: `[batch * pixels, channels]`.
pub fn normalised(kernels: &Kernels, pool: &Pool, map: &Map, affine: &[Affine]) -> Buffer {
    let mut out = pool.take(map.values.len());
    let to = Shared::new(&mut out);
    in_parallel(map.batch * map.height, |task| {
        let image = task / map.height;
        let row = Row { sources: &[map], affine: &affine[image], silu: false };
        // SAFETY: rows follow one another and each is written by one task.
        unsafe { row.write(kernels, image, task % map.height, to.at(task * map.width * map.channels)) };
    });
    out
}

/// The map at twice or half its side.
pub fn resampled(pool: &Pool, map: &Map, resample: Resample) -> Buffer {
    let (c, length) = (map.channels, map.width * map.channels);
    match resample {
        Resample::Keep => {
            let mut out = pool.take(map.values.len());
            out.copy_from_slice(&map.values);
            out
        }
        Resample::Up => {
            let mut out = pool.take(4 * map.values.len());
            for (row, pair) in map.values.chunks_exact(length).zip(out.chunks_exact_mut(4 * length)) {
                let (upper, lower) = pair.split_at_mut(2 * length);
                doubled(row, c, upper);
                lower.copy_from_slice(upper);
            }
            out
        }
        Resample::Down => {
            let mut out = pool.take(map.batch * (map.height / 2) * (map.width / 2) * c);
            let images = map.values.chunks_exact(map.height * length);
            let rows = images.flat_map(|image| image.chunks_exact(2 * length));
            for (pair, row) in rows.zip(out.chunks_exact_mut(map.width / 2 * c)) {
                averaged(&pair[..length], &pair[length..], c, row);
            }
            out
        }
    }
}

/// Every pixel of a row twice.
fn doubled(row: &[f32], channels: usize, out: &mut [f32]) {
    for (pixel, pair) in row.chunks_exact(channels).zip(out.chunks_exact_mut(2 * channels)) {
        pair[..channels].copy_from_slice(pixel);
        pair[channels..].copy_from_slice(pixel);
    }
}

/// The means of the 2 x 2 pixels of two rows.
fn averaged(upper: &[f32], lower: &[f32], channels: usize, out: &mut [f32]) {
    let pairs = upper.chunks_exact(2 * channels).zip(lower.chunks_exact(2 * channels));
    for ((upper, lower), out) in pairs.zip(out.chunks_exact_mut(channels)) {
        for (c, out) in out.iter_mut().enumerate() {
            *out = 0.25 * ((upper[c] + upper[channels + c]) + (lower[c] + lower[channels + c]));
        }
    }
}
