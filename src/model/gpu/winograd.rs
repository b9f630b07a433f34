//! 3 x 3 convolutions as products of matrices, by Winograd's F(4x4, 3x3): a quarter of the multiplications of a plain convolution, and
//! all of them in a batched matrix product ([`super::product`]).
//!
//! An output tile of 4 x 4 pixels comes from an input tile of 6 x 6. With the transforms `B`, `G` and `A` (Lavin and Gray, "Fast
//! algorithms for convolutional neural networks", 2016, arXiv 1509.09308) it is `Aᵀ [(G g Gᵀ) * (Bᵀ d B)] A`, where `*` goes element by
//! element and so, over all tiles and channels, is one matrix product for each of the 36 elements. The way back goes through the same
//! transforms the other way round.
//!
//! Feature maps are `[image, row, column, channel]`; tiles are counted along rows, then columns, then images. In Winograd's domain
//! there are 36 matrices `[tile, channel]`, or `[input, output]` of filters.

// The kernel compiler's macro makes functions of more arguments than it is given.
#![allow(clippy::too_many_arguments)]

use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;

/// Values of a tile in Winograd's domain.
pub const ELEMENTS: usize = 36;
/// Pixels of an output tile's side.
pub const TILE: usize = 4;

/// `Bᵀ d` along one line of six.
#[cube]
fn input_line(d: &mut Array<f32>, start: usize, step: usize) {
    let (a, b, c) = (d[start], d[start + step], d[start + 2 * step]);
    let (e, f, g) = (d[start + 3 * step], d[start + 4 * step], d[start + 5 * step]);
    d[start] = 4.0f32 * a - 5.0f32 * c + f;
    d[start + step] = (e + f) - 4.0f32 * (b + c);
    d[start + 2 * step] = (f - e) + 4.0f32 * (b - c);
    d[start + 3 * step] = (f - c) + 2.0f32 * (e - b);
    d[start + 4 * step] = (f - c) - 2.0f32 * (e - b);
    d[start + 5 * step] = 4.0f32 * b - 5.0f32 * e + g;
}

/// `A y`: four values of a line as six.
#[cube]
fn output_line_back(y: &Array<f32>, from: usize, from_step: usize, out: &mut Array<f32>, to: usize, to_step: usize) {
    let (a, b, c, d) = (y[from], y[from + from_step], y[from + 2 * from_step], y[from + 3 * from_step]);
    out[to] = a;
    out[to + to_step] = (a + c) + (b + d);
    out[to + 2 * to_step] = (a + c) - (b + d);
    out[to + 3 * to_step] = (a + 4.0f32 * c) + 2.0f32 * (b + 4.0f32 * d);
    out[to + 4 * to_step] = (a + 4.0f32 * c) - 2.0f32 * (b + 4.0f32 * d);
    out[to + 5 * to_step] = d;
}

/// `Aᵀ m`: six values of a line as four.
#[cube]
fn output_line(m: &Array<f32>, from: usize, from_step: usize, out: &mut Array<f32>, to: usize, to_step: usize) {
    let (a, b, c) = (m[from], m[from + from_step], m[from + 2 * from_step]);
    let (d, e, f) = (m[from + 3 * from_step], m[from + 4 * from_step], m[from + 5 * from_step]);
    out[to] = a + (b + c) + (d + e);
    out[to + to_step] = (b - c) + 2.0f32 * (d - e);
    out[to + 2 * to_step] = (b + c) + 4.0f32 * (d + e);
    out[to + 3 * to_step] = (b - c) + 8.0f32 * (d - e) + f;
}

/// `G g`: three values of a line as six.
#[cube]
fn filter_line(g: &Array<f32>, from: usize, from_step: usize, out: &mut Array<f32>, to: usize, to_step: usize) {
    let (a, b, c) = (g[from], g[from + from_step], g[from + 2 * from_step]);
    out[to] = a / 4.0f32;
    out[to + to_step] = ((a + c) + b) / -6.0f32;
    out[to + 2 * to_step] = ((a + c) - b) / -6.0f32;
    out[to + 3 * to_step] = (a / 4.0f32 + c) / 6.0f32 + b / 12.0f32;
    out[to + 4 * to_step] = (a / 4.0f32 + c) / 6.0f32 - b / 12.0f32;
    out[to + 5 * to_step] = c;
}

/// `Gᵀ u`: six values of a line as three.
#[cube]
fn filter_line_back(u: &Array<f32>, from: usize, from_step: usize, out: &mut Array<f32>, to: usize, to_step: usize) {
    let (a, b, c) = (u[from], u[from + from_step], u[from + 2 * from_step]);
    let (d, e, f) = (u[from + 3 * from_step], u[from + 4 * from_step], u[from + 5 * from_step]);
    out[to] = a / 4.0f32 - (b + c) / 6.0f32 + (d + e) / 24.0f32;
    out[to + to_step] = (c - b) / 6.0f32 + (d - e) / 12.0f32;
    out[to + 2 * to_step] = ((d + e) - (b + c)) / 6.0f32 + f;
}

/// Image, row and column where a tile starts.
#[cube]
fn place(first_image: usize, tile: usize, #[comptime] height: usize, #[comptime] width: usize) -> (usize, usize, usize) {
    let (down, across) = comptime!((height.div_ceil(TILE), width.div_ceil(TILE)));
    (first_image + tile / (across * down), tile / across % down * TILE, tile % across * TILE)
}

/// Input tiles with a border of zeros in Winograd's domain: `v`, `[36, tile, channel]`, of so many images from one on.
#[cube(launch)]
pub fn spread(x: &[f32], v: &mut [f32], first_image: u32, tiles: u32, channels: u32, #[comptime] height: u32, #[comptime] width: u32) {
    let (tiles, channels) = (tiles as usize, channels as usize);
    if ABSOLUTE_POS < tiles * channels {
        let (height, width) = comptime!((height as usize, width as usize));
        let (channel, tile) = (ABSOLUTE_POS % channels, ABSOLUTE_POS / channels);
        // In the padded image, whose first row and column are the border.
        let (image, row, column) = place(first_image as usize, tile, height, width);
        let mut d = Array::<f32>::new(36usize);
        #[unroll]
        for i in 0..6usize {
            #[unroll]
            for j in 0..6usize {
                let (r, c) = (row + i, column + j);
                d[i * 6 + j] = 0.0f32;
                if r >= 1 && r <= height && c >= 1 && c <= width {
                    d[i * 6 + j] = x[((image * height + r - 1) * width + c - 1) * channels + channel];
                }
            }
        }
        #[unroll]
        for i in 0..6usize {
            input_line(&mut d, i * 6, 1usize);
        }
        #[unroll]
        for j in 0..6usize {
            input_line(&mut d, j, 6usize);
        }
        #[unroll]
        for k in 0..36usize {
            v[(k * tiles + tile) * channels + channel] = d[k];
        }
    }
}

/// Output tiles' gradients in Winograd's domain: `m`, `[36, tile, channel]`.
#[cube(launch)]
pub fn spread_gradient(
    gradient: &[f32],
    m: &mut [f32],
    first_image: u32,
    tiles: u32,
    channels: u32,
    #[comptime] height: u32,
    #[comptime] width: u32,
) {
    let (tiles, channels) = (tiles as usize, channels as usize);
    if ABSOLUTE_POS < tiles * channels {
        let (height, width) = comptime!((height as usize, width as usize));
        let (channel, tile) = (ABSOLUTE_POS % channels, ABSOLUTE_POS / channels);
        let (image, row, column) = place(first_image as usize, tile, height, width);
        let mut y = Array::<f32>::new(16usize);
        #[unroll]
        for i in 0..4usize {
            #[unroll]
            for j in 0..4usize {
                y[i * 4 + j] = 0.0f32;
                if row + i < height && column + j < width {
                    y[i * 4 + j] = gradient[((image * height + row + i) * width + column + j) * channels + channel];
                }
            }
        }
        let mut half = Array::<f32>::new(24usize);
        #[unroll]
        for i in 0..4usize {
            output_line_back(&y, i * 4, 1usize, &mut half, i * 6, 1usize);
        }
        let mut d = Array::<f32>::new(36usize);
        #[unroll]
        for j in 0..6usize {
            output_line_back(&half, j, 6usize, &mut d, j, 6usize);
        }
        #[unroll]
        for k in 0..36usize {
            m[(k * tiles + tile) * channels + channel] = d[k];
        }
    }
}

/// Output tiles from Winograd's domain (`m`, `[36, tile, channel]`), with a bias by channel if it is `biased`.
#[cube(launch)]
pub fn gather(
    m: &[f32],
    bias: &[f32],
    y: &mut [f32],
    first_image: u32,
    tiles: u32,
    channels: u32,
    #[comptime] height: u32,
    #[comptime] width: u32,
    #[comptime] biased: bool,
) {
    let (tiles, channels) = (tiles as usize, channels as usize);
    if ABSOLUTE_POS < tiles * channels {
        let (height, width) = comptime!((height as usize, width as usize));
        let (channel, tile) = (ABSOLUTE_POS % channels, ABSOLUTE_POS / channels);
        let (image, row, column) = place(first_image as usize, tile, height, width);
        let mut d = Array::<f32>::new(36usize);
        #[unroll]
        for k in 0..36usize {
            d[k] = m[(k * tiles + tile) * channels + channel];
        }
        let mut half = Array::<f32>::new(24usize);
        #[unroll]
        for j in 0..6usize {
            output_line(&d, j, 6usize, &mut half, j, 6usize);
        }
        let mut out = Array::<f32>::new(16usize);
        #[unroll]
        for i in 0..4usize {
            output_line(&half, i * 6, 1usize, &mut out, i * 4, 1usize);
        }
        let mut offset = 0.0f32;
        if biased {
            offset = bias[channel];
        }
        #[unroll]
        for i in 0..4usize {
            #[unroll]
            for j in 0..4usize {
                if row + i < height && column + j < width {
                    y[((image * height + row + i) * width + column + j) * channels + channel] = out[i * 4 + j] + offset;
                }
            }
        }
    }
}

/// Filters (`weight`: `[output, input, 3, 3]`) in Winograd's domain: `u`, `[36, input, output]`. `turned`: of the convolution that leads
/// back from the output to the input, `[36, output, input]`.
#[cube(launch)]
pub fn filters(weight: &[f32], u: &mut [f32], input: u32, output: u32, #[comptime] turned: bool) {
    let (input, output) = (input as usize, output as usize);
    if ABSOLUTE_POS < input * output {
        // In the order of what is written, which is four times as much as what is read.
        let from = if turned { ABSOLUTE_POS } else { ABSOLUTE_POS % output * input + ABSOLUTE_POS / output };
        let mut g = Array::<f32>::new(9usize);
        #[unroll]
        for tap in 0..9usize {
            if turned {
                g[8 - tap] = weight[from * 9 + tap];
            } else {
                g[tap] = weight[from * 9 + tap];
            }
        }
        let mut half = Array::<f32>::new(18usize);
        #[unroll]
        for j in 0..3usize {
            filter_line(&g, j, 3usize, &mut half, j, 3usize);
        }
        let mut d = Array::<f32>::new(36usize);
        #[unroll]
        for i in 0..6usize {
            filter_line(&half, i * 3, 1usize, &mut d, i * 6, 1usize);
        }
        #[unroll]
        for k in 0..36usize {
            u[k * input * output + ABSOLUTE_POS] = d[k];
        }
    }
}

/// Gradients by filters (`[output, input, 3, 3]`) from Winograd's domain: `u`, `[36, input, output]`.
#[cube(launch)]
pub fn filters_back(u: &[f32], weight: &mut [f32], input: u32, output: u32) {
    let (input, output) = (input as usize, output as usize);
    if ABSOLUTE_POS < input * output {
        let to = ABSOLUTE_POS % output * input + ABSOLUTE_POS / output;
        let mut d = Array::<f32>::new(36usize);
        #[unroll]
        for k in 0..36usize {
            d[k] = u[k * input * output + ABSOLUTE_POS];
        }
        let mut half = Array::<f32>::new(18usize);
        #[unroll]
        for j in 0..6usize {
            filter_line_back(&d, j, 6usize, &mut half, j, 6usize);
        }
        let mut g = Array::<f32>::new(9usize);
        #[unroll]
        for i in 0..3usize {
            filter_line_back(&half, i * 6, 1usize, &mut g, i * 3, 1usize);
        }
        #[unroll]
        for tap in 0..9usize {
            weight[to * 9 + tap] = g[tap];
        }
    }
}
