//! Self-attention over the positions of a feature map.

use super::buffer::Pool;
use super::kernels::{Block, Kernels};
use super::lanes::LANE;
use super::map::{Map, Norm, normalised};
use super::matrix::{Packed, Rows, Shared, Storage, in_parallel, rows_of_blocks};
use super::network::Dense;
use crate::model::blocks;
use crate::model::layers::values;

/// An attention block, ready to be applied.
#[derive(Debug)]
pub struct Attention {
    norm: Norm,
    /// To all queries (already divided by the square root of a head's width), then all keys, then all values, each head by head.
    qkv: Dense,
    out: Dense,
    heads: usize,
}

/// Positions whose scores are in memory at a time.
const POSITIONS: usize = 48;

impl Attention {
    pub fn new(layer: &blocks::Attention, storage: Storage) -> Self {
        let (weight, bias) = layer.qkv_by_part();
        let out = Dense::new(&values(&layer.proj_out.weight), &values(&layer.proj_out.bias), storage);
        Self { norm: Norm::new(&layer.norm), qkv: Dense::new(&weight, &bias, storage), out, heads: layer.heads }
    }

    pub fn bytes(&self) -> usize {
        self.qkv.bytes() + self.out.bytes()
    }

    /// Same shape out.
    pub fn apply(&self, kernels: &Kernels, pool: &Pool, x: Map) -> Map {
        let (channels, length) = (x.channels, x.pixels());
        let rows = x.batch * length;
        let affine: Vec<_> = (0..x.batch).map(|image| self.norm.affine(&[&x], image)).collect();
        let normed = normalised(kernels, pool, &x, &affine);
        let mut qkv = pool.take(rows * 3 * channels);
        let all = Rows { values: &normed, stride: channels, rows, depth: channels };
        self.qkv.apply(kernels, all, &mut qkv, false);
        drop(normed);
        let mut mixed = pool.take(rows * channels);
        let to = Shared::new(&mut mixed);
        in_parallel(x.batch * self.heads, |task| {
            let (image, head) = (task / self.heads, task % self.heads);
            // SAFETY: `mixed` has room for every position, and every task writes the columns of one head of one image.
            unsafe {
                self.mix(kernels, pool, &qkv[image * length * 3 * channels..], channels, length, head, to.at(image * length * channels))
            };
        });
        let Map { mut values, batch, height, width, .. } = x;
        let all = Rows { values: &mixed, stride: channels, rows, depth: channels };
        self.out.apply(kernels, all, &mut values, true);
        Map::new(kernels, values, [batch, height, width, channels])
    }

    /// One head of one image: `softmax(q k^T) v` into its columns of `[length, channels]`.
    ///
    /// # Safety
    ///
    /// `to` is valid for `length` rows of `channels` floats, and nobody else writes this head's.
    #[allow(clippy::too_many_arguments)]
    unsafe fn mix(&self, kernels: &Kernels, pool: &Pool, qkv: &[f32], channels: usize, length: usize, head: usize, to: *mut f32) {
        let width = channels / self.heads;
        let at = |part: usize, position: usize| &qkv[(3 * position + part) * channels + head * width..][..width];
        let keys = Packed::new(width, length, Storage::Floats, |row, position| at(1, position)[row]);
        let values = Packed::new(length, width, Storage::Floats, |position, column| at(2, position)[column]);
        let mut scores = pool.take(POSITIONS * keys.width());
        let mut out = pool.take(POSITIONS * values.width());
        let block = |a: *const f32, a_stride: usize, b: &Packed, panel: usize, c: *mut f32| Block {
            a,
            a_stride,
            segments: &[0],
            depth: b.depth,
            b: b.at(panel, 0),
            b_stride: b.stride(),
            ahead: 0,
            c: c.wrapping_add(panel * LANE),
            c_stride: b.width(),
            bias: std::ptr::null(),
            add: false,
        };
        for first in (0..length).step_by(POSITIONS) {
            let count = POSITIONS.min(length - first);
            for panel in (0..keys.panels()).step_by(kernels.panels) {
                let call = block(at(0, first).as_ptr(), 3 * channels, &keys, panel, scores.as_mut_ptr());
                // SAFETY: `count` queries follow the first, 3 * channels apart, and `scores` has as many rows.
                unsafe { rows_of_blocks(kernels, call, count, kernels.panels.min(keys.panels() - panel)) };
            }
            for row in scores.chunks_exact_mut(keys.width()).take(count) {
                row[length..].fill(f32::NEG_INFINITY);
                // SAFETY: a whole row.
                unsafe { (kernels.softmax)(row.as_mut_ptr(), row.len()) };
            }
            for panel in (0..values.panels()).step_by(kernels.panels) {
                let call = block(scores.as_ptr(), keys.width(), &values, panel, out.as_mut_ptr());
                // SAFETY: `scores` and `out` have `count` rows.
                unsafe { rows_of_blocks(kernels, call, count, kernels.panels.min(values.panels() - panel)) };
            }
            for (i, row) in out.chunks_exact(values.width()).take(count).enumerate() {
                // SAFETY: the caller vouches for `to`.
                unsafe { to.add((first + i) * channels + head * width).copy_from_nonoverlapping(row.as_ptr(), width) };
            }
        }
    }
}
