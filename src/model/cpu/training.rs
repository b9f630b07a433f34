//! Layers forwards and backwards, on feature maps `[batch, height, width, channel]` in slices: what [`crate::model::autodiff`] makes
//! operations of the tensor library of.
//!
//! A batch is trained in parts, each in a pool of one thread ([`crate::training`]). Norms never leave their thread; convolutions are those
//! of the networks that only look forward, and would spread over the threads of a larger pool.

use std::sync::LazyLock;

use super::buffer::Pool;
use super::convolution::{Base, ByWeights, Convolution, Padded};
use super::kernels::{Blend, Kernels, Run, RunBack, raw_moments};
use super::lanes::LANE;
use crate::model::layers::GROUPS;

/// Working memory of all layers.
static POOL: LazyLock<Pool> = LazyLock::new(Pool::default);

/// Pixels that are summed in single precision before they go on in double.
const RUN: usize = 64;

/// Images, rows and columns of a feature map.
pub type Size = [usize; 3];

/// What the kernels rest on: whole pixels of whole lanes of channels.
fn check(x: &[f32], pixels: usize, channels: usize) {
    assert!(channels > 0 && channels.is_multiple_of(LANE), "{channels} channels");
    assert_eq!(x.len(), pixels * channels);
}

fn padded(x: &[f32], [batch, height, width]: Size) -> Padded {
    let channels = x.len() / (batch * height * width);
    let mut padded = Padded::new(&POOL, batch, height, width, channels);
    for (i, row) in x.chunks_exact(width * channels).enumerate() {
        let start = padded.offset(i / height, i % height + 1, 1);
        padded.values[start..start + row.len()].copy_from_slice(row);
    }
    padded
}

/// A 3 x 3 convolution with padding 1; `weight`: `[output, input, 3, 3]`, both numbers of channels multiples of 16.
pub fn convolution(kernels: &Kernels, x: &[f32], size: Size, weight: &[f32], bias: &[f32]) -> Vec<f32> {
    let pixels: usize = size.iter().product();
    let input = x.len() / pixels;
    check(x, pixels, input);
    assert_eq!(weight.len(), bias.len() * input * 9);
    let filters = weight.as_chunks::<9>().0;
    let taps = |i: usize, o: usize, to: &mut [[f32; LANE]; 9]| {
        for j in 0..LANE {
            let filter = &filters[(o + j) * input + i];
            (0..9).for_each(|tap| to[tap][j] = filter[tap]);
        }
    };
    let mut out = vec![0.0; pixels * bias.len()];
    Convolution::in_training(kernels, &POOL, input, bias, taps).apply(kernels, &POOL, &padded(x, size), Base::Zero, &mut out);
    out
}

/// The gradients of a convolution, where they are asked for.
pub struct ConvolutionBack {
    pub x: Option<Vec<f32>>,
    pub weight: Option<Vec<f32>>,
    pub bias: Option<Vec<f32>>,
}

/// The way back through [`convolution`]: by its weight where `x` is given, and where so `wanted` by its input and its bias.
pub fn convolution_back(
    kernels: &Kernels,
    x: Option<&[f32]>,
    size: Size,
    weight: &[f32],
    gradient: &[f32],
    wanted: [bool; 2],
) -> ConvolutionBack {
    let pixels: usize = size.iter().product();
    let output = gradient.len() / pixels;
    check(gradient, pixels, output);
    let input = weight.len() / (9 * output);
    assert_eq!(weight.len(), output * input * 9);
    let by = padded(gradient, size);
    let by_x = || {
        // The same convolution with its filters turned and the channels' sides exchanged.
        let filters = weight.as_chunks::<9>().0;
        let taps = |o: usize, i: usize, to: &mut [[f32; LANE]; 9]| {
            for (j, filter) in filters[o * input + i..][..LANE].iter().enumerate() {
                (0..9).for_each(|tap| to[tap][j] = filter[8 - tap]);
            }
        };
        let mut out = vec![0.0; pixels * input];
        Convolution::in_training(kernels, &POOL, output, &vec![0.0; input], taps).apply(kernels, &POOL, &by, Base::Zero, &mut out);
        out
    };
    let by_weight = |x: &[f32]| {
        check(x, pixels, input);
        ByWeights::new(kernels, &POOL, &padded(x, size), &by).weights(kernels)
    };
    ConvolutionBack { x: wanted[0].then(by_x), weight: x.map(by_weight), bias: wanted[1].then(|| totals(kernels, gradient, output)) }
}

/// The sum of every channel.
fn totals(kernels: &Kernels, x: &[f32], channels: usize) -> Vec<f32> {
    moments(kernels, x, channels).into_iter().map(|[sum, _]| sum as f32).collect()
}

/// Sum and sum of squares of every channel.
fn moments(kernels: &Kernels, x: &[f32], channels: usize) -> Vec<[f64; 2]> {
    check(x, x.len() / channels, channels);
    let mut moments = vec![[0.0; 2]; channels];
    let mut part = vec![0.0f32; 2 * channels];
    for run in x.chunks(RUN * channels) {
        let (sum, square) = part.split_at_mut(channels);
        // SAFETY: whole pixels of whole lanes of channels.
        unsafe { (kernels.sums)(run.as_ptr(), run.len() / channels, channels, true, sum.as_mut_ptr(), square.as_mut_ptr()) };
        for (c, moment) in moments.iter_mut().enumerate() {
            let [sum, square] = raw_moments([sum[c], square[c]], run[c], run.len() / channels);
            *moment = [moment[0] + sum, moment[1] + square];
        }
    }
    moments
}

/// Mean and inverse standard deviation of the groups of one image's channels, from the channels' sums and sums of squares.
fn statistics(moments: &[[f64; 2]], pixels: usize) -> Vec<[f64; 2]> {
    let per_group = moments.len() / GROUPS;
    let of_group = |group: &[[f64; 2]]| {
        let count = (per_group * pixels) as f64;
        let [sum, square] = group.iter().fold([0.0; 2], |[s, q], m| [s + m[0], q + m[1]]);
        let mean = sum / count;
        [mean, 1.0 / ((square / count - mean * mean).max(0.0) + 1e-5).sqrt()]
    };
    moments.chunks_exact(per_group).map(of_group).collect()
}

/// What is left of a mean when its nearest float is taken off.
fn beside(mean: f64) -> f64 {
    mean - f64::from(mean as f32)
}

/// The per-channel `(x - centre) * scale + shift` that normalises and then scales and shifts.
fn folded(statistics: &[[f64; 2]], scale: &[f32], shift: &[f32]) -> [Vec<f32>; 3] {
    let per_group = scale.len() / GROUPS;
    let of_channel = |c: usize| {
        let [mean, inverse] = statistics[c / per_group];
        let scale = inverse * f64::from(scale[c]);
        [mean, scale, f64::from(shift[c]) - beside(mean) * scale]
    };
    [0, 1, 2].map(|part| (0..scale.len()).map(|c| of_channel(c)[part] as f32).collect())
}

/// Channels and values of each of several images, with a scale and a shift for each channel.
fn of_each_image(x: &[f32], batch: usize, scale: &[f32], shift: &[f32]) -> [usize; 2] {
    let (channels, length) = (scale.len() / batch, x.len() / batch);
    assert!(channels > 0 && channels.is_multiple_of(GROUPS), "{channels} channels in {GROUPS} groups");
    assert_eq!((scale.len(), shift.len()), (batch * channels, batch * channels));
    check(x, batch * (length / channels), channels);
    [channels, length]
}

/// Group norm over 32 groups, then `x * scale + shift` (`[batch, channel]` each) and if so asked SiLU. With it come mean and inverse
/// standard deviation of every image's groups, which the way back needs.
pub fn norm(kernels: &Kernels, x: &[f32], batch: usize, scale: &[f32], shift: &[f32], silu: bool) -> (Vec<f32>, Vec<[f64; 2]>) {
    let mut out = vec![0.0; x.len()];
    let mut all = Vec::with_capacity(batch * GROUPS);
    let [channels, length] = of_each_image(x, batch, scale, shift);
    for (image, (from, to)) in x.chunks_exact(length).zip(out.chunks_exact_mut(length)).enumerate() {
        let of_image = image * channels..(image + 1) * channels;
        let statistics = statistics(&moments(kernels, from, channels), length / channels);
        all.extend(&statistics);
        let [centre, scale, shift] = folded(&statistics, &scale[of_image.clone()], &shift[of_image]);
        let run = Run {
            from: from.as_ptr(),
            from_pixel: channels,
            to: to.as_mut_ptr(),
            to_pixel: channels,
            pixels: length / channels,
            channels,
            centre: centre.as_ptr(),
            scale: scale.as_ptr(),
            shift: shift.as_ptr(),
            silu,
        };
        // SAFETY: both are whole images of whole lanes of channels.
        unsafe { (kernels.run)(&run) };
    }
    (out, all)
}

/// The gradients of [`norm`] by `x`, `scale` and `shift`, from its statistics.
pub fn norm_back(
    kernels: &Kernels,
    x: &[f32],
    statistics: &[[f64; 2]],
    scale: &[f32],
    shift: &[f32],
    silu: bool,
    gradient: &[f32],
) -> [Vec<f32>; 3] {
    let batch = statistics.len() / GROUPS;
    let mut by_x = vec![0.0; x.len()];
    let (mut by_scale, mut by_shift) = (Vec::with_capacity(scale.len()), Vec::with_capacity(scale.len()));
    let [channels, length] = of_each_image(x, batch, scale, shift);
    assert_eq!((statistics.len(), gradient.len()), (batch * GROUPS, x.len()));
    let (per_group, pixels) = (channels / GROUPS, length / channels);
    let count = (per_group * pixels) as f64;
    for (image, (from, to)) in x.chunks_exact(length).zip(by_x.chunks_exact_mut(length)).enumerate() {
        let of_image = image * channels..(image + 1) * channels;
        let (scale, shift) = (&scale[of_image.clone()], &shift[of_image]);
        let statistics = &statistics[image * GROUPS..][..GROUPS];
        let [centre, whole, offset] = folded(statistics, scale, shift);
        let gradient = &gradient[image * length..][..length];
        // By what SiLU was applied to; summed over the pixels, alone and times what x is from the centre.
        let mut sums = vec![[0.0f64; 2]; channels];
        let mut part = vec![0.0f32; 2 * channels];
        let run = RUN * channels;
        for ((from, gradient), to) in from.chunks(run).zip(gradient.chunks(run)).zip(to.chunks_mut(run)) {
            part.fill(0.0);
            let (sum, product) = part.split_at_mut(channels);
            let call = RunBack {
                from: from.as_ptr(),
                gradient: gradient.as_ptr(),
                to: to.as_mut_ptr(),
                pixels: from.len() / channels,
                channels,
                centre: centre.as_ptr(),
                scale: whole.as_ptr(),
                shift: offset.as_ptr(),
                silu,
                sum: sum.as_mut_ptr(),
                product: product.as_mut_ptr(),
            };
            // SAFETY: runs of equal length, whole pixels of whole lanes of channels.
            unsafe { (kernels.run_back)(&call) };
            for (c, total) in sums.iter_mut().enumerate() {
                total[0] += f64::from(sum[c]);
                total[1] += f64::from(product[c]);
            }
        }
        // Through the normalisation: mean and deviation of a group depend on all of its values.
        let (mut factor, mut rest) = (Vec::with_capacity(channels), Vec::with_capacity(channels));
        for (group, &[mean, inverse]) in statistics.iter().enumerate() {
            let of_group = group * per_group..(group + 1) * per_group;
            let by_scale_of = |c: usize| inverse * (sums[c][1] - beside(mean) * sums[c][0]);
            let mean_of = |of: &dyn Fn(usize) -> f64| of_group.clone().map(|c| f64::from(scale[c]) * of(c)).sum::<f64>() / count;
            let (level, slope) = (mean_of(&|c| sums[c][0]), mean_of(&by_scale_of));
            for c in of_group.clone() {
                by_scale.push(by_scale_of(c) as f32);
                by_shift.push(sums[c][0] as f32);
                factor.push((-inverse * inverse * slope) as f32);
                rest.push((inverse * (inverse * slope * beside(mean) - level)) as f32);
            }
        }
        let call = Blend {
            from: from.as_ptr(),
            to: to.as_mut_ptr(),
            pixels,
            channels,
            centre: centre.as_ptr(),
            scale: whole.as_ptr(),
            factor: factor.as_ptr(),
            shift: rest.as_ptr(),
        };
        // SAFETY: both are whole images of whole lanes of channels.
        unsafe { (kernels.blend)(&call) };
    }
    [by_x, by_scale, by_shift]
}
