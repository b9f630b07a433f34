//! What runs on the card besides convolutions and matrix products. Feature maps are `[batch, position, channel]`.
//!
//! All sums are in 32 bits; what is read and written may be narrower.

// The kernel compiler's macro makes functions of more arguments than it is given.
#![allow(clippy::too_many_arguments)]

use burn_cubecl::cubecl;
use burn_cubecl::cubecl::ir::ElemType;
use burn_cubecl::cubecl::prelude::*;

use crate::model::layers::GROUPS;
use crate::model::prediction::{BLOCK, COARSE};

/// Group norm over 32 groups (epsilon 1e-5) with its gain and offset, then the modulations by timestep and semantic latent
/// (`x * (1 + scale) + shift` each; paper, equation 12), then SiLU. One cube a group.
///
/// `time` and `latent` hold a row of modulations for each image, or one for all (`*_step` 0); a block's own part starts at `*_start`
/// and is all scales, then all shifts.
#[cube(launch)]
pub fn norm<X: Float, Y: Float>(
    x: &[X],
    gain: &[f32],
    offset: &[f32],
    time: &[f32],
    latent: &[f32],
    y: &mut [Y],
    positions: u32,
    time_start: u32,
    time_step: u32,
    latent_start: u32,
    latent_step: u32,
    #[comptime] per_group: u32,
    #[comptime] modulations: u32,
    #[comptime] silu: bool,
    #[comptime] units: u32,
    #[define(X, Y)] _types: [ElemType; 2],
) {
    let channels = comptime!(per_group * GROUPS as u32);
    let mut shared = Shared::<[f32]>::new_slice(comptime!(units as usize));
    let image = CUBE_POS_X / comptime!(GROUPS as u32);
    let first = CUBE_POS_X % comptime!(GROUPS as u32) * per_group;
    let base = image * positions * channels + first;
    let count = positions * per_group;

    let mut sum = 0.0f32;
    let mut i = UNIT_POS;
    while i < count {
        sum += f32::cast_from(x[(base + i / per_group * channels + i % per_group) as usize]);
        i += units;
    }
    let mean = of_cube(&mut shared, sum, units, false) / f32::cast_from(count);

    let mut squares = 0.0f32;
    let mut i = UNIT_POS;
    while i < count {
        let centred = f32::cast_from(x[(base + i / per_group * channels + i % per_group) as usize]) - mean;
        squares += centred * centred;
        i += units;
    }
    let variance = of_cube(&mut shared, squares, units, false) / f32::cast_from(count);
    let inverse = 1.0f32 / (variance + 1e-5f32).sqrt();

    let mut i = UNIT_POS;
    while i < count {
        let at = (base + i / per_group * channels + i % per_group) as usize;
        let channel = first + i % per_group;
        let mut value = (f32::cast_from(x[at]) - mean) * inverse * gain[channel as usize] + offset[channel as usize];
        if comptime!(modulations > 0) {
            let scale = image * time_step + time_start + channel;
            value = value * (1.0f32 + time[scale as usize]) + time[(scale + channels) as usize];
        }
        if comptime!(modulations > 1) {
            let scale = image * latent_step + latent_start + channel;
            value = value * (1.0f32 + latent[scale as usize]) + latent[(scale + channels) as usize];
        }
        if silu {
            value /= 1.0f32 + (-value).exp();
        }
        y[at] = Y::cast_from(value);
        i += units;
    }
}

/// The sum of all units' values, or the `largest` of them, for all of them. `units` is a power of two.
#[cube]
pub(super) fn of_cube(shared: &mut Shared<[f32]>, value: f32, #[comptime] units: u32, #[comptime] largest: bool) -> f32 {
    let unit = UNIT_POS as usize;
    shared[unit] = value;
    sync_cube();
    let mut half = comptime!(units / 2).runtime();
    while half > 0u32 {
        if UNIT_POS < half {
            let (own, other) = (shared[unit], shared[unit + half as usize]);
            if largest {
                shared[unit] = max(own, other);
            } else {
                shared[unit] = own + other;
            }
        }
        sync_cube();
        half /= 2u32;
    }
    let result = shared[0usize];
    sync_cube();
    result
}

/// Softmax attention of one query a cube, over all positions. `qkv` is `[batch, position, 3 * channel]`: all queries, already divided by
/// the square root of a head's width, all keys, all values, each head by head; `bias` has its shape's last axis.
#[cube(launch)]
pub fn attention<X: Float>(
    qkv: &[X],
    bias: &[f32],
    y: &mut [X],
    #[comptime] positions: u32,
    #[comptime] heads: u32,
    #[comptime] width: u32,
    #[comptime] units: u32,
    #[define(X)] _type: ElemType,
) {
    let channels = comptime!(heads * width);
    let mut shared = Shared::<[f32]>::new_slice(comptime!(units as usize));
    let mut query = Shared::<[f32]>::new_slice(comptime!(width as usize));
    let mut weights = Shared::<[f32]>::new_slice(comptime!(positions as usize));
    // Queries are along x, heads of images along y.
    let head = CUBE_POS_Y % heads;
    let image = CUBE_POS_Y / heads;
    let row = image * positions * comptime!(3 * channels);
    let column = head * width;

    let mut i = UNIT_POS;
    while i < width {
        let at = row + CUBE_POS_X * comptime!(3 * channels) + column + i;
        query[i as usize] = f32::cast_from(qkv[at as usize]) + bias[(column + i) as usize];
        i += units;
    }
    sync_cube();

    let mut largest = f32::new(-3.0e38f32);
    let mut j = UNIT_POS;
    while j < positions {
        let key = row + j * comptime!(3 * channels) + channels + column;
        let mut score = 0.0f32;
        for i in 0..width {
            let value = f32::cast_from(qkv[(key + i) as usize]) + bias[(channels + column + i) as usize];
            score += query[i as usize] * value;
        }
        weights[j as usize] = score;
        largest = max(largest, score);
        j += units;
    }
    let largest = of_cube(&mut shared, largest, units, true);

    let mut sum = 0.0f32;
    let mut j = UNIT_POS;
    while j < positions {
        let weight = (weights[j as usize] - largest).exp();
        weights[j as usize] = weight;
        sum += weight;
        j += units;
    }
    // Also waits for all weights to be written.
    let sum = of_cube(&mut shared, sum, units, false);

    let mut i = UNIT_POS;
    while i < width {
        let value = row + comptime!(2 * channels) + column + i;
        let mut mixed = 0.0f32;
        for j in 0..positions {
            mixed += weights[j as usize] * f32::cast_from(qkv[(value + j * comptime!(3 * channels)) as usize]);
        }
        // The weights add up to one, so the values' bias comes out as it is.
        let at = (image * positions + CUBE_POS_X) * channels + column + i;
        y[at as usize] = X::cast_from(mixed / sum + bias[(comptime!(2 * channels) + column + i) as usize]);
        i += units;
    }
}

/// `x`, with a bias by channel, through SiLU, in another type: whatever is asked for.
#[cube(launch)]
pub fn finish<X: Float, Y: Float>(
    x: &[X],
    bias: &[f32],
    y: &mut [Y],
    channels: u32,
    #[comptime] biased: bool,
    #[comptime] silu: bool,
    #[define(X, Y)] _types: [ElemType; 2],
) {
    if ABSOLUTE_POS < y.len() {
        let mut value = f32::cast_from(x[ABSOLUTE_POS]);
        if biased {
            value += bias[ABSOLUTE_POS % channels as usize];
        }
        if silu {
            value /= 1.0f32 + (-value).exp();
        }
        y[ABSOLUTE_POS] = Y::cast_from(value);
    }
}

/// `x + h`, with a bias by channel.
#[cube(launch)]
pub fn add<X: Float, H: Float>(
    x: &[X],
    h: &[H],
    bias: &[f32],
    y: &mut [f32],
    channels: u32,
    #[comptime] biased: bool,
    #[define(X, H)] _types: [ElemType; 2],
) {
    if ABSOLUTE_POS < y.len() {
        let mut value = f32::cast_from(x[ABSOLUTE_POS]) + f32::cast_from(h[ABSOLUTE_POS]);
        if biased {
            value += bias[ABSOLUTE_POS % channels as usize];
        }
        y[ABSOLUTE_POS] = value;
    }
}

/// `y.len()` values of `x`, from `first` on.
#[cube(launch)]
pub fn copy(x: &[f32], y: &mut [f32], first: u32) {
    if ABSOLUTE_POS < y.len() {
        y[ABSOLUTE_POS] = x[first as usize + ABSOLUTE_POS];
    }
}

/// Both maps' channels, one after the other.
#[cube(launch)]
pub fn join(a: &[f32], b: &[f32], y: &mut [f32], of_a: u32, of_b: u32) {
    if ABSOLUTE_POS < y.len() {
        let (of_a, of_b) = (of_a as usize, of_b as usize);
        let position = ABSOLUTE_POS / (of_a + of_b);
        let channel = ABSOLUTE_POS % (of_a + of_b);
        if channel < of_a {
            y[ABSOLUTE_POS] = a[position * of_a + channel];
        } else {
            y[ABSOLUTE_POS] = b[position * of_b + channel - of_a];
        }
    }
}

/// Twice the side by repeating (`up`), or half of it by averages of 2 x 2. `side` is that of `y`.
#[cube(launch)]
pub fn resample<X: Float>(x: &[X], y: &mut [X], side: u32, channels: u32, #[comptime] up: bool, #[define(X)] _type: ElemType) {
    if ABSOLUTE_POS < y.len() {
        let (side, channels) = (side as usize, channels as usize);
        let channel = ABSOLUTE_POS % channels;
        let position = ABSOLUTE_POS / channels;
        let column = position % side;
        let row = position / side % side;
        let image = position / (side * side);
        if up {
            let half = side / 2;
            y[ABSOLUTE_POS] = x[((image * half + row / 2) * half + column / 2) * channels + channel];
        } else {
            let double = side * 2;
            let at = ((image * double + row * 2) * double + column * 2) * channels + channel;
            let below = at + double * channels;
            let sum =
                f32::cast_from(x[at]) + f32::cast_from(x[at + channels]) + f32::cast_from(x[below]) + f32::cast_from(x[below + channels]);
            y[ABSOLUTE_POS] = X::cast_from(sum * 0.25f32);
        }
    }
}

/// Images `[batch, 3, size, size]` to maps of patches, a patch's values as channels (PyTorch's `pixel_unshuffle`).
#[cube(launch)]
pub fn fold<Y: Float>(x: &[f32], y: &mut [Y], size: u32, #[comptime] patch: u32, #[define(Y)] _type: ElemType) {
    if ABSOLUTE_POS < y.len() {
        let (size, patch) = (size as usize, comptime!(patch as usize));
        let channels = comptime!(3 * patch * patch);
        let grid = size / patch;
        let channel = ABSOLUTE_POS % channels;
        let position = ABSOLUTE_POS / channels;
        let plane = position / (grid * grid) * 3 + channel / comptime!(patch * patch);
        let row = position / grid % grid * patch + channel / patch % patch;
        let column = position % grid * patch + channel % patch;
        y[ABSOLUTE_POS] = Y::cast_from(x[(plane * size + row) * size + column]);
    }
}

/// How much of each basis function of coarse colour is in every block of images `[batch, 3, size, size]`: `y`,
/// `[batch, 3, size / 8, size / 8, function]`. `basis`: see [`crate::model::prediction::coarse_basis`].
#[cube(launch)]
pub fn coarse_colour(x: &[f32], basis: &[f32], y: &mut [f32], size: u32) {
    if ABSOLUTE_POS < y.len() {
        let size = size as usize;
        let (function, block) = (ABSOLUTE_POS % COARSE, ABSOLUTE_POS / COARSE);
        let blocks = size / BLOCK;
        let (area, plane) = (size * size, block / (blocks * blocks));
        let corner = block / blocks % blocks * BLOCK * size + block % blocks * BLOCK;
        let image = plane / 3 * 3 * area;
        let mut sum = 0.0f32;
        for i in 0..BLOCK * BLOCK {
            let at = corner + i / BLOCK * size + i % BLOCK;
            let brightness = (x[image + at] + x[image + area + at] + x[image + 2 * area + at]) / 3.0f32;
            sum += (x[plane * area + at] - brightness) * basis[function * BLOCK * BLOCK + i];
        }
        y[ABSOLUTE_POS] = sum;
    }
}

/// The inverse of [`fold`], then `a * head + b * x`, with `fine_colour` plus `c * fine_colour(x)` by [`coarse_colour`], written from `start`
/// on. An image's factors are at `first`, and `step` further for every image after it.
#[cube(launch)]
pub fn unfold<H: Float>(
    head: &[H],
    x: &[f32],
    coarse: &[f32],
    basis: &[f32],
    factors: &[f32],
    y: &mut [f32],
    size: u32,
    start: u32,
    first: u32,
    step: u32,
    #[comptime] patch: u32,
    #[comptime] skip: bool,
    #[comptime] fine_colour: bool,
    #[define(H)] _type: ElemType,
) {
    if ABSOLUTE_POS < x.len() {
        let (size, patch) = (size as usize, comptime!(patch as usize));
        let grid = size / patch;
        let column = ABSOLUTE_POS % size;
        let row = ABSOLUTE_POS / size % size;
        let plane = ABSOLUTE_POS / (size * size);
        let image = plane / 3;
        let position = (image * grid + row / patch) * grid + column / patch;
        let channel = (plane % 3 * patch + row % patch) * patch + column % patch;
        let at = first as usize + image * step as usize;
        let mut value = f32::cast_from(head[position * comptime!(3 * patch * patch) + channel]) * factors[at];
        if skip {
            value += x[ABSOLUTE_POS] * factors[at + 1];
        }
        if fine_colour {
            let (area, here) = (size * size, row * size + column);
            let first = image * 3 * area + here;
            let mut fine = x[ABSOLUTE_POS] - (x[first] + x[first + area] + x[first + 2 * area]) / 3.0f32;
            let block = (plane * (size / BLOCK) + row / BLOCK) * (size / BLOCK) + column / BLOCK;
            let inside = row % BLOCK * BLOCK + column % BLOCK;
            for i in 0..COARSE {
                fine -= coarse[block * COARSE + i] * basis[i * BLOCK * BLOCK + inside];
            }
            value += fine * factors[at + 2];
        }
        y[start as usize + ABSOLUTE_POS] = value;
    }
}
