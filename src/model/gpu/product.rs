//! Products of matrices, and convolutions as such, for cards whose matrix units shaders do not reach.
//!
//! With the library's products and convolutions a guided step took 22 ms there (an H100, WGSL) that takes 5 with these, and a product whose
//! depth is that of a whole batch, and whose result is small, took a hundred. Here every unit of a cube works out a small block of the
//! result in registers, from a strip of either matrix in shared memory; where the result alone would leave most of a card idle, the depth
//! is divided as well.

// The kernel compiler's macro makes functions of more arguments than it is given.
#![allow(clippy::too_many_arguments)]

use burn::tensor::DType;
use burn_cubecl::cubecl;
use burn_cubecl::cubecl::ir::ElemType;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::tensor::CubeTensor;
use serde::{Deserialize, Serialize};

use super::plans::{Plan, Product};
use super::surface::{Surface, types};

/// Values that shared memory is read by.
const ABREAST: u32 = 4;

type Abreast = Vector<f32, Const<{ ABREAST as usize }>>;

/// The block of a result that is one cube's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Tile {
    /// Units of a cube, down and across.
    down: u32,
    across: u32,
    /// Results of a unit, down and across: fours that lie as many fours apart as there are units, so that neighbours have neighbouring ones.
    rows: u32,
    columns: u32,
    /// How much of the depth is in shared memory at a time.
    depth: u32,
    /// Whether what comes next is read while that is worked on.
    ahead: bool,
}

impl Tile {
    /// Half as deep as others, for all of them have to fit into the memory that every card has for a cube.
    const HUGE: Self = Self { down: 16, across: 16, rows: 8, columns: 8, depth: 8, ahead: true };
    const LARGE: Self = Self { down: 16, across: 16, rows: 8, columns: 4, depth: 16, ahead: false };
    const MEDIUM: Self = Self { down: 8, across: 8, rows: 8, columns: 8, depth: 16, ahead: false };
    const SMALL: Self = Self { down: 8, across: 8, rows: 4, columns: 4, depth: 32, ahead: false };

    pub const ALL: [Self; 5] = [Self::HUGE, Self { ahead: true, ..Self::LARGE }, Self::LARGE, Self::MEDIUM, Self::SMALL];

    const fn units(self) -> u32 {
        self.down * self.across
    }

    const fn height(self) -> u32 {
        self.down * self.rows
    }

    const fn width(self) -> u32 {
        self.across * self.columns
    }
}

/// Cubes that keep a large card busy.
const CUBES: usize = 512;
/// Depth of a part, at least, and parts, at most: their results are added up afterwards.
const DEPTH: usize = 64;
const PARTS: usize = 256;

/// How a map lies from which a convolution takes its patches: `[image, row, column, channel]`, square, with a border of zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Patches {
    pub side: u32,
    pub channels: u32,
    /// A patch's side, odd.
    pub kernel: u32,
    pub stride: u32,
}

impl Patches {
    /// The side of what comes out.
    pub const fn out(self) -> u32 {
        (self.side - 1) / self.stride + 1
    }
}

/// A value of the matrix that has a row for every patch, in it all channels of its first pixel, then of its second, and so on.
#[cube]
fn of_patch<E: Float>(x: &[E], row: u32, at: u32, #[comptime] patches: Patches) -> f32 {
    let (side, channels, border) = comptime!((patches.side, patches.channels, patches.kernel / 2));
    let out = comptime!(patches.out());
    let (tap, channel) = (at / channels, at % channels);
    // In the padded image.
    let y = row / out % out * comptime!(patches.stride) + tap / comptime!(patches.kernel);
    let x_ = row % out * comptime!(patches.stride) + tap % comptime!(patches.kernel);
    let mut value = 0.0f32;
    if y >= border && y < border + side && x_ >= border && x_ < border + side {
        let image = row / comptime!(out * out);
        value = f32::cast_from(x[(((image * side + y - border) * side + x_ - border) * channels + channel) as usize]);
    }
    value
}

/// Where a matrix's values lie: a line (a row of the left one, a column of the right one) is this far from the next, as is a step along it,
/// which is one of the depth.
#[derive(CubeType, Clone, Copy)]
struct Lines {
    base: u32,
    across: u32,
    along: u32,
    /// The first that is this cube's, and how many there are.
    first: u32,
    count: u32,
}

/// How a cube's units read a strip of a matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Strip {
    units: u32,
    /// Fours of lines, and the depth.
    fours: u32,
    depth: u32,
    /// Whether neighbours in memory are along a line: neighbouring units read these.
    along: bool,
    /// Whether all that blocks cover is there.
    whole: bool,
    patches: Option<Patches>,
}

impl Strip {
    /// Fours that a unit reads.
    fn of_unit(self) -> u32 {
        self.fours * self.depth / self.units
    }

    /// From one step of the depth to the next in shared memory. One more than is needed, so that units that write one below the other do
    /// not wait for each other.
    fn line(self) -> u32 {
        self.fours + 1
    }
}

/// The four, and the step of the depth, that this unit reads as its `i`th.
#[cube]
fn place(#[comptime] i: u32, #[comptime] strip: Strip) -> (u32, u32) {
    let index = UNIT_POS + comptime!(i * strip.units);
    if strip.along {
        (index / comptime!(strip.depth), index % comptime!(strip.depth))
    } else {
        (index % comptime!(strip.fours), index / comptime!(strip.fours))
    }
}

/// What this unit reads of the strip from a step of the depth on, into `staged`.
#[cube]
fn read<E: Float>(x: &[E], lines: &Lines, from: u32, end: u32, staged: &Sequence<RuntimeCell<Abreast>>, #[comptime] strip: Strip) {
    #[unroll]
    for i in 0..comptime!(strip.of_unit()) {
        let (four, step) = place(i, strip);
        let at = from + step;
        let mut value = Abreast::new(0.0f32);
        #[unroll]
        for k in 0..ABREAST {
            let line = lines.first + four * ABREAST + k;
            if strip.whole || (line < lines.count && at < end) {
                if comptime!(strip.patches.is_some()) {
                    value.insert(comptime!(k as usize), of_patch(x, line, at, comptime!(strip.patches.unwrap())));
                } else {
                    let of_line = x[(lines.base + line * lines.across + at * lines.along) as usize];
                    value.insert(comptime!(k as usize), f32::cast_from(of_line));
                }
            }
        }
        staged.index(comptime!(i as usize)).store(value);
    }
}

/// Puts what [`read`] read where the cube finds it.
#[cube]
fn put(staged: &Sequence<RuntimeCell<Abreast>>, shared: &mut Shared<[Abreast]>, #[comptime] strip: Strip) {
    #[unroll]
    for i in 0..comptime!(strip.of_unit()) {
        let (four, step) = place(i, strip);
        shared[(step * comptime!(strip.line()) + four) as usize] = staged.index(comptime!(i as usize)).read();
    }
}

/// Variables of their own, not an array, of which a driver may make memory.
#[cube]
fn variables(#[comptime] count: u32) -> Sequence<RuntimeCell<Abreast>> {
    let mut cells = Sequence::<RuntimeCell<Abreast>>::new();
    #[unroll]
    for _ in 0..count {
        cells.push(RuntimeCell::<Abreast>::new(Abreast::new(0.0f32)));
    }
    cells
}

/// `a` times `b`, for every matrix of a batch (along z), with a bias by column if it is `biased`: `out`, `[batch, part, row, column]`, where
/// a part is of so much of the depth. Cubes along x go down; those along y across, and for every strip of columns through the parts.
#[cube(launch)]
fn multiply<E: Float, O: Float>(
    a: &[E],
    b: &[E],
    bias: &[E],
    out: &mut [O],
    rows: u32,
    columns: u32,
    depth: u32,
    parts: u32,
    depth_a_part: u32,
    a_batch: u32,
    a_row: u32,
    a_column: u32,
    b_batch: u32,
    b_row: u32,
    b_column: u32,
    #[comptime] tile: Tile,
    #[comptime] of_a: Strip,
    #[comptime] of_b: Strip,
    #[comptime] biased: bool,
    #[define(E, O)] _types: [ElemType; 2],
) {
    let strip = comptime!(tile.depth);
    // Fours of a unit.
    let (of_rows, of_columns) = comptime!((tile.rows / ABREAST, tile.columns / ABREAST));
    let mut left = Shared::<[Abreast]>::new_slice(comptime!((strip * of_a.line()) as usize));
    let mut right = Shared::<[Abreast]>::new_slice(comptime!((strip * of_b.line()) as usize));
    let sums = variables(comptime!(tile.rows * of_columns));
    let (next_left, next_right) = (variables(comptime!(of_a.of_unit())), variables(comptime!(of_b.of_unit())));

    let (unit_row, unit_column) = (UNIT_POS / comptime!(tile.across), UNIT_POS % comptime!(tile.across));
    let first_row = CUBE_POS_X * comptime!(tile.height());
    let first_column = CUBE_POS_Y / parts * comptime!(tile.width());
    let part = CUBE_POS_Y % parts;
    let rows_of_a = Lines { base: CUBE_POS_Z * a_batch, across: a_row, along: a_column, first: first_row, count: rows };
    let columns_of_b = Lines { base: CUBE_POS_Z * b_batch, across: b_column, along: b_row, first: first_column, count: columns };
    let mut first = part * depth_a_part;
    let end = min(first + depth_a_part, depth);

    if comptime!(tile.ahead) {
        // A depth that is not so many parts' leaves some of them nothing.
        if first < end {
            read(a, &rows_of_a, first, end, &next_left, of_a);
            read(b, &columns_of_b, first, end, &next_right, of_b);
        }
    }
    while first < end {
        if comptime!(!tile.ahead) {
            read(a, &rows_of_a, first, end, &next_left, of_a);
            read(b, &columns_of_b, first, end, &next_right, of_b);
        }
        put(&next_left, &mut left, of_a);
        put(&next_right, &mut right, of_b);
        sync_cube();
        first += strip;
        if comptime!(tile.ahead) {
            // The shader decides this one, the host the one around it.
            if first < end {
                read(a, &rows_of_a, first, end, &next_left, of_a);
                read(b, &columns_of_b, first, end, &next_right, of_b);
            }
        }
        // In full: a loop costs as much as what is in it.
        #[unroll]
        for at in 0..strip {
            let mut of_right = Sequence::<Abreast>::new();
            #[unroll]
            for j in 0..of_columns {
                of_right.push(right[(comptime!(at * of_b.line() + j * tile.across) + unit_column) as usize]);
            }
            #[unroll]
            for i in 0..of_rows {
                let of_left = left[(comptime!(at * of_a.line() + i * tile.down) + unit_row) as usize];
                #[unroll]
                for k in 0..ABREAST {
                    let factor = Abreast::new(of_left.extract(comptime!(k as usize)));
                    #[unroll]
                    for j in 0..of_columns {
                        let sum = sums.index(comptime!(((i * ABREAST + k) * of_columns + j) as usize));
                        sum.store(sum.read() + factor * of_right[comptime!(j as usize)]);
                    }
                }
            }
        }
        sync_cube();
    }

    #[unroll]
    for i in 0..comptime!(tile.rows) {
        let row = first_row + (unit_row + i / ABREAST * comptime!(tile.down)) * ABREAST + i % ABREAST;
        #[unroll]
        for j in 0..of_columns {
            #[unroll]
            for k in 0..ABREAST {
                let column = first_column + (unit_column + j * comptime!(tile.across)) * ABREAST + k;
                if of_a.whole || (row < rows && column < columns) {
                    let sum = sums.index(comptime!((i * of_columns + j) as usize)).read();
                    let mut value = sum.extract(comptime!(k as usize));
                    if biased {
                        value += f32::cast_from(bias[column as usize]);
                    }
                    out[(((CUBE_POS_Z * parts + part) * rows + row) * columns + column) as usize] = O::cast_from(value);
                }
            }
        }
    }
}

/// The sums of all parts, `[batch, part, value]`, with a bias by column if it is `biased`: `[batch, value]`.
#[cube(launch)]
fn sum_of_parts<B: Float, O: Float>(
    x: &[f32],
    bias: &[B],
    out: &mut [O],
    values: u32,
    columns: u32,
    parts: u32,
    #[comptime] biased: bool,
    #[define(B, O)] _types: [ElemType; 2],
) {
    if ABSOLUTE_POS < out.len() {
        let at = ABSOLUTE_POS as u32;
        let first = at / values * parts * values + at % values;
        let mut sum = 0.0f32;
        for part in 0..parts {
            sum += x[(first + part * values) as usize];
        }
        if biased {
            sum += f32::cast_from(bias[(at % columns) as usize]);
        }
        out[ABSOLUTE_POS] = O::cast_from(sum);
    }
}

/// Matrices of one size, by the steps from one value to the next.
#[derive(Debug, Clone)]
pub struct Matrices {
    values: CubeTensor,
    /// From matrix to matrix, from row to row and from column to column.
    steps: [usize; 3],
    patches: Option<Patches>,
}

impl Matrices {
    /// Those of a tensor's last two axes, if those before them are in even steps.
    pub fn of(tensor: &CubeTensor) -> Option<Self> {
        let (shape, strides) = (tensor.meta.shape(), tensor.meta.strides());
        let outer = shape.len().checked_sub(2)?;
        let mut step = 0;
        let mut inner = 1;
        for axis in (0..outer).rev().filter(|axis| shape[*axis] > 1) {
            if inner == 1 {
                step = strides[axis];
            } else if strides[axis] != step * inner {
                return None;
            }
            inner *= shape[axis];
        }
        Some(Self { values: tensor.clone(), steps: [step, strides[outer], strides[outer + 1]], patches: None })
    }

    /// Row by row, one after the other.
    pub fn rows(tensor: &CubeTensor, rows: usize, columns: usize) -> Self {
        Self { values: tensor.clone(), steps: [rows * columns, columns, 1], patches: None }
    }

    /// One row for every patch of a map.
    pub fn patches(map: &CubeTensor, patches: Patches) -> Self {
        Self { values: map.clone(), steps: [0; 3], patches: Some(patches) }
    }

    /// Whether neighbours in memory are below each other.
    fn goes_down(&self) -> bool {
        let [_, row, column] = self.steps;
        self.patches.is_none() && row == 1 && column != 1
    }

    pub fn transposed(self) -> Self {
        let [batch, row, column] = self.steps;
        Self { steps: [batch, column, row], ..self }
    }
}

/// Of a product.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Size {
    pub batch: usize,
    pub rows: usize,
    pub depth: usize,
    pub columns: usize,
}

impl Size {
    fn cubes(self, tile: Tile) -> usize {
        self.batch * self.rows.div_ceil(tile.height() as usize) * self.columns.div_ceil(tile.width() as usize)
    }

    pub fn most_parts(self) -> usize {
        (self.depth / DEPTH).clamp(1, PARTS)
    }

    /// The parts that keep a card busy.
    fn parts(self, tile: Tile) -> usize {
        CUBES.div_ceil(self.cubes(tile)).min(self.most_parts())
    }

    /// The largest tile that still keeps a card busy, and the parts of the depth that it takes for that.
    pub fn plan(self) -> Plan {
        let tile = match () {
            () if self.cubes(Tile::LARGE) >= CUBES && self.rows >= 8 * Tile::LARGE.height() as usize => Tile::LARGE,
            () if self.cubes(Tile::MEDIUM) * self.most_parts().div_ceil(4) >= CUBES => Tile::MEDIUM,
            () => Tile::SMALL,
        };
        Plan { tile, parts: self.parts(tile) }
    }

    /// That one, and all others that may be faster.
    pub fn plans(self) -> Vec<Plan> {
        let mut plans = vec![self.plan()];
        // Nothing but the smallest where half of a tile would lie beside the result, and not that where it is one of very many.
        let fits = |tile: Tile| match tile {
            Tile::SMALL => self.cubes(tile) < 64 * CUBES,
            _ => self.rows > tile.height() as usize / 2 && self.columns > tile.width() as usize / 2,
        };
        for tile in Tile::ALL.into_iter().filter(|tile| fits(*tile)) {
            let usual = self.parts(tile);
            // Where one is enough for a busy card, two are only more work.
            let more = if usual > 1 { (2 * usual).min(self.most_parts()) } else { 1 };
            for parts in [usual, 1, usual.div_ceil(2), more] {
                let plan = Plan { tile, parts };
                if !plans.contains(&plan) {
                    plans.push(plan);
                }
            }
        }
        plans
    }
}

impl Surface {
    /// `a` times `b`, `[batch, row, column]`, with a bias by column in the type of both.
    pub fn multiply(&self, a: &Matrices, b: &Matrices, size: Size, bias: Option<&CubeTensor>, dtype: DType) -> CubeTensor {
        let dtypes = [b.values.dtype, dtype];
        let product = Product { size, patches: a.patches, a_down: a.goes_down(), b_down: b.goes_down(), dtypes };
        let plan = self.plan(product, |on, plan, starts| {
            for _ in 0..starts {
                on.work_out(plan, a, b, size, bias, dtype);
            }
        });
        self.work_out(plan, a, b, size, bias, dtype)
    }

    pub fn work_out(&self, plan: Plan, a: &Matrices, b: &Matrices, size: Size, bias: Option<&CubeTensor>, dtype: DType) -> CubeTensor {
        let Plan { tile, parts } = plan;
        let out = self.empty(&[size.batch, size.rows, size.columns], dtype);
        if parts == 1 {
            self.launch(a, b, size, bias, &out, tile, parts);
            return out;
        }
        let of_parts = self.empty(&[size.batch, parts, size.rows, size.columns], DType::F32);
        self.launch(a, b, size, None, &of_parts, tile, parts);
        let (count, dim) = self.for_each(size.batch * size.rows * size.columns);
        sum_of_parts::launch(
            &self.client,
            count,
            dim,
            of_parts.into_buffer_arg(),
            bias.unwrap_or(&b.values).clone().into_buffer_arg(),
            out.clone().into_buffer_arg(),
            (size.rows * size.columns) as u32,
            size.columns as u32,
            parts as u32,
            bias.is_some(),
            types([b.values.dtype, dtype]),
        );
        out
    }

    fn launch(&self, a: &Matrices, b: &Matrices, size: Size, bias: Option<&CubeTensor>, out: &CubeTensor, tile: Tile, parts: usize) {
        debug_assert_eq!(a.values.dtype, b.values.dtype);
        // Whole strips, so that none but the last is cut.
        let depth_a_part = size.depth.div_ceil(parts).next_multiple_of(tile.depth as usize);
        let across = size.columns.div_ceil(tile.width() as usize) * parts;
        let whole = [(size.rows, tile.height()), (size.columns, tile.width()), (size.depth, tile.depth)]
            .iter()
            .all(|(length, of_block)| length.is_multiple_of(*of_block as usize));
        let strip = Strip { units: tile.units(), fours: 0, depth: tile.depth, along: false, whole, patches: None };
        let steps = |m: &Matrices| m.steps.map(|step| step as u32);
        let ([a_batch, a_row, a_column], [b_batch, b_row, b_column]) = (steps(a), steps(b));
        multiply::launch(
            &self.client,
            CubeCount::Static(size.rows.div_ceil(tile.height() as usize) as u32, across as u32, size.batch as u32),
            CubeDim::new_1d(tile.units()),
            a.values.clone().into_buffer_arg(),
            b.values.clone().into_buffer_arg(),
            bias.unwrap_or(&b.values).clone().into_buffer_arg(),
            out.clone().into_buffer_arg(),
            size.rows as u32,
            size.columns as u32,
            size.depth as u32,
            parts as u32,
            depth_a_part as u32,
            a_batch,
            a_row,
            a_column,
            b_batch,
            b_row,
            b_column,
            tile,
            Strip { fours: tile.height() / ABREAST, along: !a.goes_down(), patches: a.patches, ..strip },
            Strip { fours: tile.width() / ABREAST, along: b.goes_down(), ..strip },
            bias.is_some(),
            types([b.values.dtype, out.dtype]),
        );
    }
}
