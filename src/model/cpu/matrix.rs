//! Matrix products with a right-hand side that was laid out beforehand.

use rayon::prelude::*;

use super::buffer::{Aligned, Buffer, Pool};
use super::kernels::{Block, Kernels, Outer, Right};
use super::lanes::LANE;

/// How a matrix is kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Storage {
    #[default]
    Floats,
    /// As 16-bit integers with one scale a column (and group of rows): half the memory to read, and for weights an error of about
    /// 4e-5 of their root mean square, where 16-bit floats have 2.8e-4.
    Shorts,
}

/// A matrix `[depth, columns]` as the kernels read it: panels of 16 columns, each with all its rows, the last filled up with zeros.
#[derive(Debug)]
pub struct Packed {
    pub depth: usize,
    pub columns: usize,
    data: Data,
}

#[derive(Debug)]
enum Data {
    Floats(Aligned),
    /// Floats for a while.
    Lent(Buffer),
    /// `scales`: for each panel and group of rows sixteen.
    Shorts {
        values: Aligned,
        scales: Aligned,
        group: usize,
    },
}

impl Packed {
    /// `value(row, column)` for every element.
    pub fn new(depth: usize, columns: usize, storage: Storage, value: impl Fn(usize, usize) -> f32 + Sync) -> Self {
        Self::filled(depth, columns, depth, storage, |panel, rows| {
            for column in panel * LANE..columns.min((panel + 1) * LANE) {
                for (row, to) in rows.iter_mut().enumerate() {
                    to[column % LANE] = value(row, column);
                }
            }
        })
    }

    /// `fill(panel, rows)` writes what is not zero of the rows of one panel, sixteen columns each. Panels are filled side by side. `group`
    /// rows (a divisor of `depth`) share a scale where there are any; a product must keep to one group.
    pub fn filled(depth: usize, columns: usize, group: usize, storage: Storage, fill: impl Fn(usize, &mut [[f32; LANE]]) + Sync) -> Self {
        let (panels, size) = (columns.div_ceil(LANE), depth * LANE);
        let data = match storage {
            Storage::Floats => {
                let mut values = Aligned::zeros(panels * size);
                let filled = values.par_chunks_exact_mut(size).enumerate();
                filled.for_each(|(panel, values)| fill(panel, values.as_chunks_mut().0));
                Data::Floats(values)
            }
            Storage::Shorts => {
                let (mut values, mut scales) = (Aligned::zeros(panels * size / 2), Aligned::zeros(panels * size / group));
                let parts = values.as_shorts_mut().par_chunks_exact_mut(size).zip(scales.par_chunks_exact_mut(size / group));
                parts.enumerate().for_each_init(
                    || vec![[0.0; LANE]; depth],
                    |floats, (panel, (values, scales))| {
                        floats.fill([0.0; LANE]);
                        fill(panel, floats);
                        let groups = floats.chunks_exact(group).zip(values.chunks_exact_mut(group * LANE));
                        groups.zip(scales.as_chunks_mut().0).for_each(|((from, to), scales)| *scales = narrow(from, to));
                    },
                );
                Data::Shorts { values, scales, group }
            }
        };
        Self { depth, columns, data }
    }

    /// `fill(panel, values)` writes all rows of one panel, sixteen floats each, over what was in the pool's memory.
    pub fn by_panels(pool: &Pool, depth: usize, columns: usize, fill: impl Fn(usize, &mut [[f32; LANE]])) -> Self {
        let mut values = pool.take(columns.div_ceil(LANE) * depth * LANE);
        for (panel, values) in values.as_chunks_mut().0.chunks_exact_mut(depth).enumerate() {
            fill(panel, values);
        }
        Self { depth, columns, data: Data::Lent(values) }
    }

    /// Panels of 16 columns.
    pub fn panels(&self) -> usize {
        self.columns.div_ceil(LANE)
    }

    /// Columns with the padding.
    pub fn width(&self) -> usize {
        self.panels() * LANE
    }

    /// The rows of a panel from `row` on; the next panel is [`Packed::stride`] numbers further.
    pub fn at(&self, panel: usize, row: usize) -> Right {
        let start = panel * self.stride() + row * LANE;
        match &self.data {
            Data::Floats(values) => Right::Floats(values[start..].as_ptr()),
            Data::Lent(values) => Right::Floats(values[start..].as_ptr()),
            Data::Shorts { values, scales, group } => {
                let stride = self.stride() / group;
                let scales = scales[panel * stride + row / group * LANE..].as_ptr();
                Right::Shorts { values: values.as_shorts()[start..].as_ptr(), scales, stride }
            }
        }
    }

    pub fn stride(&self) -> usize {
        self.depth * LANE
    }

    pub fn bytes(&self) -> usize {
        match &self.data {
            Data::Floats(values) => 4 * values.len(),
            Data::Lent(values) => 4 * values.len(),
            Data::Shorts { values, scales, .. } => 4 * (values.len() + scales.len()),
        }
    }
}

/// Rows of sixteen columns as integers, each column by as much of the range as it can have; returns what they are to be multiplied by.
fn narrow(rows: &[[f32; LANE]], to: &mut [i16]) -> [f32; LANE] {
    let mut largest = [0.0f32; LANE];
    rows.iter().for_each(|row| (0..LANE).for_each(|j| largest[j] = largest[j].max(row[j].abs())));
    let factors = largest.map(|v| if v > 0.0 { f32::from(i16::MAX) / v } else { 0.0 });
    for (row, to) in rows.iter().zip(to.as_chunks_mut::<LANE>().0) {
        // Half of the sign added, then cut off: the nearest integer, without a call.
        *to = std::array::from_fn(|j| (row[j] * factors[j] + 0.5f32.copysign(row[j])) as i16);
    }
    largest.map(|v| v / f32::from(i16::MAX))
}

/// A pointer that several threads write through, each to elements of its own.
#[derive(Clone, Copy)]
pub struct Shared(*mut f32);

// SAFETY: whoever uses one sees to it that no two threads touch the same element; every use says how.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Shared {
    pub fn new(values: &mut [f32]) -> Self {
        Self(values.as_mut_ptr())
    }

    pub fn at(self, offset: usize) -> *mut f32 {
        self.0.wrapping_add(offset)
    }
}

/// Calls `work` with every number below `tasks`, on all threads of the present pool.
pub fn in_parallel(tasks: usize, work: impl Fn(usize) + Sync + Send) {
    if tasks <= 1 || rayon::current_num_threads() == 1 {
        (0..tasks).for_each(work);
    } else {
        (0..tasks).into_par_iter().with_max_len(1).for_each(work);
    }
}

/// All rows of `c` for some panels, in blocks that are as even as they can be.
///
/// # Safety
///
/// As for a single block: `a`, `b`, `c` and `bias` are valid for what [`Block`] says, for `rows` rows and `panels` panels (at most
/// `kernels.panels`).
pub unsafe fn rows_of_blocks(kernels: &Kernels, first: Block, rows: usize, panels: usize) {
    let kernel = match first.b {
        Right::Floats(_) => &kernels.block,
        Right::Shorts { .. } => &kernels.block_of_shorts,
    };
    let blocks = rows.div_ceil(kernels.rows);
    let mut done = 0;
    for block in 0..blocks {
        let count = (rows - done).div_ceil(blocks - block);
        let call = Block { a: first.a.wrapping_add(done * first.a_stride), c: first.c.wrapping_add(done * first.c_stride), ..first };
        // SAFETY: the caller's; `count` is between 1 and `kernels.rows`.
        unsafe { (kernel[panels - 1][count - 1])(&call) };
        done += count;
    }
}

/// `c += a^T b`, or `c = a^T b`, for `rows` columns of `a` and `columns` (a multiple of 16) of `b`, in blocks as even as they can be.
///
/// # Safety
///
/// As for a single block: `a`, `b` and `c` are valid for what [`Outer`] says, for so many rows and columns.
pub unsafe fn outer_of_blocks(kernels: &Kernels, first: Outer, rows: usize, columns: usize) {
    let blocks = rows.div_ceil(kernels.rows);
    for column in (0..columns).step_by(kernels.panels * LANE) {
        let panels = kernels.panels.min((columns - column) / LANE);
        let mut done = 0;
        for block in 0..blocks {
            let count = (rows - done).div_ceil(blocks - block);
            let call = Outer {
                a: first.a.wrapping_add(done),
                b: first.b.wrapping_add(column),
                c: first.c.wrapping_add(done * first.c_stride + column),
                ..first
            };
            // SAFETY: the caller's; `count` is between 1 and `kernels.rows`.
            unsafe { (kernels.outer[panels - 1][count - 1])(&call) };
            done += count;
        }
    }
}

/// The left-hand side of [`multiply`]: `rows` rows of `depth` floats, `stride` floats apart.
#[derive(Clone, Copy)]
pub struct Rows<'a> {
    pub values: &'a [f32],
    pub stride: usize,
    pub rows: usize,
    pub depth: usize,
}

/// Where the product goes: row `i` to `values[i * stride..]`, over the padded width of the right-hand side.
pub struct Product<'a> {
    pub values: &'a mut [f32],
    pub stride: usize,
    pub bias: Option<&'a [f32]>,
    /// Added to what is there.
    pub add: bool,
}

/// `c = a * b[from..from + depth]`, with the columns spread over the threads.
pub fn multiply(kernels: &Kernels, a: Rows, b: &Packed, from: usize, c: Product) {
    let width = b.width();
    assert!(from + a.depth <= b.depth && a.rows > 0);
    assert!((a.rows - 1) * a.stride + a.depth <= a.values.len() && (a.rows - 1) * c.stride + width <= c.values.len());
    assert!(c.stride >= width && c.bias.is_none_or(|bias| bias.len() >= width));
    let to = Shared::new(c.values);
    // Few columns and many rows: rows are divided as well, or most threads would have nothing to do.
    let groups = b.panels().div_ceil(kernels.panels);
    let chunk = if groups >= rayon::current_num_threads() { a.rows } else { (a.rows / 4).max(64).min(a.rows) };
    let chunks = a.rows.div_ceil(chunk);
    in_parallel(groups * chunks, |task| {
        let (panel, row) = (task / chunks * kernels.panels, task % chunks * chunk);
        let panels = kernels.panels.min(b.panels() - panel);
        let block = Block {
            a: a.values[row * a.stride..].as_ptr(),
            a_stride: a.stride,
            segments: &[0],
            depth: a.depth,
            b: b.at(panel, from),
            b_stride: b.stride(),
            ahead: 0,
            c: to.at(row * c.stride + panel * LANE),
            c_stride: c.stride,
            bias: c.bias.map_or(std::ptr::null(), |bias| bias[panel * LANE..].as_ptr()),
            add: c.add,
        };
        // SAFETY: the bounds were checked above, and every task writes rows and columns of its own.
        unsafe { rows_of_blocks(kernels, block, chunk.min(a.rows - row), panels) };
    });
}

/// GFLOP/s of products that stay in the caches, one on each thread: the best of several rounds.
pub fn peak_gflops(kernels: &Kernels) -> f64 {
    const SIDE: usize = 192;
    const TIMES: usize = 40;
    let matrix = Packed::new(SIDE, SIDE, Storage::Floats, |i, j| (i + j) as f32 * 1e-4);
    let threads = rayon::current_num_threads();
    let round = || {
        let start = std::time::Instant::now();
        rayon::broadcast(|_| {
            let (a, mut c) = (Aligned::zeros(SIDE * SIDE), Aligned::zeros(SIDE * SIDE));
            for _ in 0..TIMES {
                for panel in (0..matrix.panels()).step_by(kernels.panels) {
                    let block = Block {
                        a: a.as_ptr(),
                        a_stride: SIDE,
                        segments: &[0],
                        depth: SIDE,
                        b: matrix.at(panel, 0),
                        b_stride: matrix.stride(),
                        ahead: 0,
                        c: c[panel * LANE..].as_mut_ptr(),
                        c_stride: SIDE,
                        bias: std::ptr::null(),
                        add: false,
                    };
                    // SAFETY: all matrices are `SIDE` square.
                    unsafe { rows_of_blocks(kernels, block, SIDE, kernels.panels.min(matrix.panels() - panel)) };
                }
            }
            std::hint::black_box(&c[..]);
        });
        (2 * SIDE * SIDE * SIDE * TIMES * threads) as f64 / start.elapsed().as_secs_f64() / 1e9
    };
    (0..30).map(|_| round()).fold(0.0, f64::max)
}
