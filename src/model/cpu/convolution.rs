//! 3 x 3 convolutions with padding 1 over channels-last feature maps, directly or through Winograd's minimal filtering.

use super::buffer::{Aligned, Buffer, Pool};
use super::kernels::{Block, Filters, Kernels, Outer, TileIn, TileOut, f4_filter};
use super::lanes::LANE;
use super::matrix::{Packed, Shared, Storage, in_parallel, outer_of_blocks, rows_of_blocks};

/// A feature map with a border of zeros, `[batch, rows, columns, channels]`: the picture's pixel `(y, x)` is at `(y + 1, x + 1)`.
///
/// Rows and columns are enough for whole tiles of either Winograd transform.
pub struct Padded {
    pub values: Buffer,
    pub batch: usize,
    pub height: usize,
    pub width: usize,
    pub channels: usize,
}

/// Rows (or columns) of a padded picture of this side.
fn padded(side: usize) -> usize {
    side.div_ceil(4) * 4 + 2
}

impl Padded {
    /// A map whose border is zero and whose inside is yet to be written.
    pub fn new(pool: &Pool, batch: usize, height: usize, width: usize, channels: usize) -> Self {
        let (rows, columns) = (padded(height), padded(width));
        let mut values = pool.take(batch * rows * columns * channels);
        for image in values.chunks_exact_mut(rows * columns * channels) {
            for (y, row) in image.chunks_exact_mut(columns * channels).enumerate() {
                if y == 0 || y > height {
                    row.fill(0.0);
                } else {
                    row[..channels].fill(0.0);
                    row[(width + 1) * channels..].fill(0.0);
                }
            }
        }
        Self { values, batch, height, width, channels }
    }

    /// Floats from one row to the next.
    pub fn row(&self) -> usize {
        padded(self.width) * self.channels
    }

    /// Where pixel `(y, x)` of the bordered picture starts; `(1, 1)` is the picture's first.
    pub fn offset(&self, image: usize, y: usize, x: usize) -> usize {
        (image * padded(self.height) + y) * self.row() + x * self.channels
    }
}

/// How a convolution is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    Direct,
    /// F(2x2, 3x3): 2.25 times fewer multiplications, weights 1.8 times as large.
    Winograd2,
    /// F(4x4, 3x3): 4 times fewer, weights 4 times as large.
    Winograd4,
}

impl Method {
    /// What is fastest for feature maps of this side (measured; see `benches/README.md`). Small maps are bound by reading the weights.
    pub fn for_side(side: usize, input: usize, stride: usize) -> Self {
        match side {
            _ if stride != 1 || !input.is_multiple_of(LANE) => Self::Direct,
            0..=4 => Self::Direct,
            5..=8 => Self::Winograd2,
            _ => Self::Winograd4,
        }
    }
}

/// A 3 x 3 convolution, ready to be applied.
#[derive(Debug)]
pub struct Convolution {
    method: Method,
    weights: Packed,
    bias: Aligned,
    input: usize,
    stride: usize,
}

/// What the convolution is added to.
#[derive(Clone, Copy)]
pub enum Base<'a> {
    Zero,
    /// What is in the output already.
    Output,
    /// Another map of the output's shape.
    Map(&'a [f32]),
}

impl Convolution {
    /// `weights`: `[output, input, 3, 3]`; `bias`: `[output]`.
    pub fn new(weights: &[f32], bias: &[f32], input: usize, stride: usize, method: Method, storage: Storage) -> Self {
        let output = bias.len();
        let filters = weights.as_chunks::<9>().0;
        // Nine taps of the filters from channel `i` to sixteen channels of the output.
        let taps = |panel: usize, i: usize| {
            let mut taps = [[0.0; LANE]; 9];
            for o in panel * LANE..output.min((panel + 1) * LANE) {
                let filter = &filters[o * input + i];
                taps.iter_mut().zip(filter).for_each(|(taps, value)| taps[o % LANE] = *value);
            }
            taps
        };
        let packed = match method {
            Method::Direct => Packed::filled(9 * input, output, 9 * input, storage, |panel, rows| {
                for i in 0..input {
                    taps(panel, i).into_iter().enumerate().for_each(|(tap, values)| rows[tap * input + i] = values);
                }
            }),
            Method::Winograd2 => transformed(input, output, storage, &F2_FILTER, taps),
            Method::Winograd4 => transformed(input, output, storage, &f4_filter(), taps),
        };
        Self { method, bias: Aligned::padded(bias, packed.width()), weights: packed, input, stride }
    }

    /// One of weights that change with every step: in 32 bits, through F(4x4, 3x3) at any side. `input` channels, a multiple of 16.
    ///
    /// `taps(i, o, to)` writes the nine weights from channel `i` to sixteen channels of the output, from `o` on; there is a multiple of 16
    /// of those as well.
    pub fn in_training(
        kernels: &Kernels,
        pool: &Pool,
        input: usize,
        bias: &[f32],
        taps: impl Fn(usize, usize, &mut [[f32; LANE]; 9]),
    ) -> Self {
        assert!(input.is_multiple_of(LANE) && bias.len().is_multiple_of(LANE), "{input} to {} channels", bias.len());
        let weights = Packed::by_panels(pool, 36 * input, bias.len(), |panel, rows| {
            let mut nine = [[0.0; LANE]; 9];
            for i in 0..input {
                taps(i, panel * LANE, &mut nine);
                let call = Filters { taps: nine.as_mut_ptr().cast(), domain: rows[i..].as_mut_ptr().cast(), position: input * LANE };
                // SAFETY: a panel has a row for each channel at all 36 positions.
                unsafe { (kernels.filters[0])(&call) };
            }
        });
        Self { method: Method::Winograd4, bias: Aligned::padded(bias, weights.width()), weights, input, stride: 1 }
    }

    /// Channels of the output in memory: the convolution's own, filled up to a multiple of 16.
    pub fn width(&self) -> usize {
        self.weights.width()
    }

    pub fn bytes(&self) -> usize {
        self.weights.bytes()
    }

    /// `[batch, height / stride, width / stride, width()]`.
    pub fn apply(&self, kernels: &Kernels, pool: &Pool, x: &Padded, base: Base, output: &mut [f32]) {
        let pixels = x.height.div_ceil(self.stride) * x.width.div_ceil(self.stride);
        assert_eq!(x.channels, self.input);
        assert_eq!(output.len(), x.batch * pixels * self.width());
        if let Base::Map(map) = base {
            assert_eq!(map.len(), output.len());
        }
        match self.method {
            Method::Direct => self.direct(kernels, x, base, output),
            Method::Winograd2 => self.winograd::<4, 2>(kernels, pool, x, base, output),
            Method::Winograd4 => self.winograd::<6, 4>(kernels, pool, x, base, output),
        }
    }

    fn direct(&self, kernels: &Kernels, x: &Padded, base: Base, output: &mut [f32]) {
        if let Base::Map(map) = base {
            output.copy_from_slice(map);
        }
        let (stride, width) = (self.stride, self.width());
        let (rows, columns) = (x.height.div_ceil(stride), x.width.div_ceil(stride));
        // The three pixels of a kernel's row lie side by side.
        let segments = [0, x.row(), 2 * x.row()];
        let to = Shared::new(output);
        let groups = self.weights.panels().div_ceil(kernels.panels);
        // A panel's weights stay in the cache for all pixels; pixels are divided only where there are too few panels.
        let parts = rayon::current_num_threads().div_ceil(groups).min(rows);
        in_parallel(groups * parts, |task| {
            let (panel, part) = (task / parts * kernels.panels, task % parts);
            let panels = kernels.panels.min(self.weights.panels() - panel);
            for image in 0..x.batch {
                for y in part * rows / parts..(part + 1) * rows / parts {
                    let block = Block {
                        a: x.values[x.offset(image, y * stride, 0)..].as_ptr(),
                        a_stride: stride * self.input,
                        segments: &segments,
                        depth: 3 * self.input,
                        b: self.weights.at(panel, 0),
                        b_stride: self.weights.stride(),
                        ahead: 0,
                        c: to.at((image * rows + y) * columns * width + panel * LANE),
                        c_stride: width,
                        bias: self.bias[panel * LANE..].as_ptr(),
                        add: !matches!(base, Base::Zero),
                    };
                    // SAFETY: a padded map has a pixel around every pixel, `apply` checked the output's size, and every task
                    // writes channels and rows of its own.
                    unsafe { rows_of_blocks(kernels, block, columns, panels) };
                }
            }
        });
    }

    fn winograd<const N: usize, const M: usize>(&self, kernels: &Kernels, pool: &Pool, x: &Padded, base: Base, output: &mut [f32]) {
        assert!(self.input.is_multiple_of(LANE));
        let (tile_in, tile_out) = (kernels.tile_in[M / 2 - 1], kernels.tile_out[M / 2 - 1]);
        let (width, positions) = (self.width(), N * N);
        let (rows, columns) = (x.height.div_ceil(M), x.width.div_ceil(M));
        let tiles = x.batch * rows * columns;
        let most = tiles_at_once(positions, self.input);
        let groups = tiles.div_ceil(most);
        let to = Shared::new(output);
        let place = |tile: usize| (tile / (rows * columns), tile / columns % rows * M, tile % columns * M);
        let mut first = 0;
        for group in 0..groups {
            let count = (tiles - first).div_ceil(groups - group);
            // Off a power of two, or the positions of a tile would evict each other from the cache.
            let in_position = count * self.input + LANE;
            let mut transformed = pool.take(positions * in_position);
            let domain = Shared::new(&mut transformed);
            in_parallel(count.div_ceil(4), |task| {
                for tile in task * 4..(task * 4 + 4).min(count) {
                    let (image, y, x_left) = place(first + tile);
                    let call = TileIn {
                        from: x.values[x.offset(image, y, x_left)..].as_ptr(),
                        row: x.row(),
                        pixel: self.input,
                        channels: self.input,
                        to: domain.at(tile * self.input),
                        position: in_position,
                    };
                    // SAFETY: padded maps hold whole tiles, and every task writes tiles of its own.
                    unsafe { tile_in(&call) };
                }
            });
            in_parallel(self.weights.panels().div_ceil(kernels.panels), |task| {
                let panel = task * kernels.panels;
                let panels = kernels.panels.min(self.weights.panels() - panel);
                let out_position = count * panels * LANE + LANE;
                let mut products = pool.take(positions * out_position);
                for position in 0..positions {
                    let block = Block {
                        a: domain.at(position * in_position),
                        a_stride: self.input,
                        segments: &[0],
                        depth: self.input,
                        b: self.weights.at(panel, position * self.input),
                        b_stride: self.weights.stride(),
                        ahead: self.input * LANE,
                        c: products[position * out_position..].as_mut_ptr(),
                        c_stride: panels * LANE,
                        bias: std::ptr::null(),
                        add: false,
                    };
                    // SAFETY: both buffers hold `count` rows for each position.
                    unsafe { rows_of_blocks(kernels, block, count, panels) };
                }
                for tile in 0..count {
                    let (image, y, x_left) = place(first + tile);
                    for p in 0..panels {
                        let channel = (panel + p) * LANE;
                        let offset = ((image * x.height + y) * x.width + x_left) * width + channel;
                        let call = TileOut {
                            from: products[(tile * panels + p) * LANE..].as_ptr(),
                            position: out_position,
                            to: to.at(offset),
                            base: match base {
                                Base::Zero => std::ptr::null(),
                                Base::Output => to.at(offset),
                                Base::Map(map) => map[offset..].as_ptr(),
                            },
                            row: x.width * width,
                            pixel: width,
                            bias: self.bias[channel..].as_ptr(),
                            height: x.height - y,
                            width: x.width - x_left,
                        };
                        // SAFETY: `apply` checked the sizes, the call keeps to the picture, and every task writes channels of its own.
                        unsafe { tile_out(&call) };
                    }
                }
            });
            first += count;
        }
    }
}

/// The gradient by the weights of a convolution, for each position of F(4x4, 3x3)'s domain a matrix `[input, output]`, and what takes it
/// out of the domain again.
///
/// A product in the domain is the convolution whichever of its three sides is sought, so this too has four times fewer multiplications.
pub struct ByWeights {
    domain: Buffer,
    input: usize,
    output: usize,
}

impl ByWeights {
    /// `x`: what was convolved; `gradient`: by the result, of the same size. Both have multiples of 16 channels.
    pub fn new(kernels: &Kernels, pool: &Pool, x: &Padded, gradient: &Padded) -> Self {
        let (input, output) = (x.channels, gradient.channels);
        assert_eq!([x.batch, x.height, x.width], [gradient.batch, gradient.height, gradient.width]);
        assert!(input.is_multiple_of(LANE) && output.is_multiple_of(LANE));
        let (rows, columns) = (x.height.div_ceil(4), x.width.div_ceil(4));
        let tiles = x.batch * rows * columns;
        let groups = tiles.div_ceil(tiles_at_once(36, input.max(output)));
        let mut domain = pool.take(36 * input * output);
        let mut first = 0;
        for group in 0..groups {
            let count = (tiles - first).div_ceil(groups - group);
            let sides = [(x, 0, kernels.tile_in[1]), (gradient, 1, kernels.tile_back)];
            let transformed = sides.map(|(map, border, transform)| {
                let position = count * map.channels + LANE;
                let mut to = pool.take(36 * position);
                for tile in 0..count {
                    let (image, y, left) =
                        ((first + tile) / (rows * columns), (first + tile) / columns % rows * 4, (first + tile) % columns * 4);
                    let call = TileIn {
                        from: map.values[map.offset(image, y + border, left + border)..].as_ptr(),
                        row: map.row(),
                        pixel: map.channels,
                        channels: map.channels,
                        to: to[tile * map.channels..].as_mut_ptr(),
                        position,
                    };
                    // SAFETY: padded maps hold whole tiles, and `to` has room for all of them at every position.
                    unsafe { transform(&call) };
                }
                (to, position)
            });
            let [(from, from_position), (by, by_position)] = &transformed;
            for position in 0..36 {
                let block = Outer {
                    a: from[position * from_position..].as_ptr(),
                    a_stride: input,
                    b: by[position * by_position..].as_ptr(),
                    b_stride: output,
                    depth: count,
                    c: domain[position * input * output..].as_mut_ptr(),
                    c_stride: output,
                    add: first > 0,
                };
                // SAFETY: both hold `count` rows for each position, and the result a matrix.
                unsafe { outer_of_blocks(kernels, block, input, output) };
            }
            first += count;
        }
        Self { domain, input, output }
    }

    /// `[output, input, 3, 3]`.
    pub fn weights(mut self, kernels: &Kernels) -> Vec<f32> {
        let (input, output) = (self.input, self.output);
        let mut weights = vec![0.0; output * input * 9];
        let mut taps = [[0.0; LANE]; 9];
        for (panel, weights) in weights.chunks_exact_mut(LANE * input * 9).enumerate() {
            for i in 0..input {
                let domain = self.domain[i * output + panel * LANE..].as_mut_ptr();
                // SAFETY: there is a matrix for each of the 36 positions.
                unsafe { (kernels.filters[1])(&Filters { taps: taps.as_mut_ptr().cast(), domain, position: input * output }) };
                for (j, filters) in weights.chunks_exact_mut(input * 9).enumerate() {
                    let to: &mut [f32; 9] = filters[9 * i..].first_chunk_mut().expect("nine weights a filter");
                    *to = taps.map(|tap| tap[j]);
                }
            }
        }
        weights
    }
}

/// Tiles whose transforms are in memory together: few enough for the second-level cache, enough to use each weight many times.
fn tiles_at_once(positions: usize, channels: usize) -> usize {
    const BYTES: usize = 1 << 20;
    (BYTES / (4 * positions * channels)).clamp(24, 96)
}

/// Filters in the Winograd domain: for every position of it a matrix `[input, output]`, one after the other. `taps(panel, i)`: those of
/// sixteen filters, which are transformed side by side, in 64 bits.
fn transformed<const N: usize>(
    input: usize,
    output: usize,
    storage: Storage,
    g: &[[f64; 3]; N],
    taps: impl Fn(usize, usize) -> [[f32; LANE]; 9] + Sync,
) -> Packed {
    let weighted = |factors: &[f64; 3], of: [&[f64; LANE]; 3]| -> [f64; LANE] {
        std::array::from_fn(|j| factors[0] * of[0][j] + factors[1] * of[1][j] + factors[2] * of[2][j])
    };
    Packed::filled(N * N * input, output, input, storage, |panel, rows| {
        for i in 0..input {
            let taps = taps(panel, i).map(|values| values.map(f64::from));
            for (y, row) in g.iter().enumerate() {
                // The filters' columns first, then their rows.
                let line: [[f64; LANE]; 3] = std::array::from_fn(|x| weighted(row, [&taps[x], &taps[3 + x], &taps[6 + x]]));
                for (x, column) in g.iter().enumerate() {
                    rows[(y * N + x) * input + i] = weighted(column, line.each_ref()).map(|value| value as f32);
                }
            }
        }
    })
}

const F2_FILTER: [[f64; 3]; 4] = [[1.0, 0.0, 0.0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0.0, 0.0, 1.0]];
