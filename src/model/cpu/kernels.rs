//! The inner loops, each written once over [`Lanes`] and compiled for AVX-512, AVX2 and the plain target; the machine decides at run
//! time which of them is used.

use std::sync::LazyLock;

use super::lanes::{LANE, Lanes, Portable, exp, silu};

/// Rows that the largest matrix kernel works on at once.
pub const MAX_ROWS: usize = 12;

/// One block of a matrix product: `rows x (panels * 16)` results.
///
/// Row `i` of the left matrix is `segments.len()` runs of `depth` floats; run `s` starts at `a + i * a_stride + segments[s]`. That is
/// an ordinary matrix with one run, and a convolution over a padded picture with one run for each row of its kernel, without the
/// copies that would make it an ordinary matrix.
pub struct Block<'a> {
    pub a: *const f32,
    pub a_stride: usize,
    pub segments: &'a [usize],
    pub depth: usize,
    /// The right matrix: for each panel of 16 columns all its rows, `b_stride` numbers from one panel to the next.
    pub b: Right,
    pub b_stride: usize,
    /// Numbers of a panel that the next block will need, fetched meanwhile.
    pub ahead: usize,
    pub c: *mut f32,
    pub c_stride: usize,
    /// One value a column, or null.
    pub bias: *const f32,
    /// Whether the product is added to what is in `c`.
    pub add: bool,
}

/// Where the right matrix of a block starts.
#[derive(Clone, Copy)]
pub enum Right {
    Floats(*const f32),
    /// Integers that each column multiplies by its scale; the scales of the next panel are `stride` floats further.
    Shorts {
        values: *const i16,
        scales: *const f32,
        stride: usize,
    },
}

/// One tile of a feature map on its way into or out of the Winograd domain.
pub struct TileIn {
    /// Upper left pixel of the padded tile.
    pub from: *const f32,
    /// Floats from one row to the next, and from one pixel to the next.
    pub row: usize,
    pub pixel: usize,
    /// A multiple of 16.
    pub channels: usize,
    /// Position `p` of the domain goes to `to + p * position`.
    pub to: *mut f32,
    pub position: usize,
}

/// Sixteen channels of one tile on the way back.
pub struct TileOut {
    pub from: *const f32,
    pub position: usize,
    pub to: *mut f32,
    /// What is added, laid out as `to`; null = nothing. May be `to` itself.
    pub base: *const f32,
    pub row: usize,
    pub pixel: usize,
    pub bias: *const f32,
    /// Pixels of the tile that lie in the picture.
    pub height: usize,
    pub width: usize,
}

/// One block of a product whose left matrix is read by columns: `rows x (panels * 16)` results, each a sum over `depth` rows of both.
///
/// That is a gradient by weights: both matrices have a row for each pixel, and the pixels are what is summed over.
pub struct Outer {
    /// Row `k` of the left matrix starts at `a + k * a_stride`; its first floats belong to the rows of the result.
    pub a: *const f32,
    pub a_stride: usize,
    /// Row `k` of the right matrix starts at `b + k * b_stride`.
    pub b: *const f32,
    pub b_stride: usize,
    pub depth: usize,
    pub c: *mut f32,
    pub c_stride: usize,
    /// Whether the product is added to what is in `c`.
    pub add: bool,
}

/// Nine taps of sixteen filters on their way into F(4x4, 3x3)'s domain, or back.
pub struct Filters {
    /// `[9][16]`.
    pub taps: *mut f32,
    /// Position `p` of the domain is at `domain + p * position`.
    pub domain: *mut f32,
    pub position: usize,
}

/// The way back through a per-channel `(x - centre) * scale + shift` and SiLU.
pub struct RunBack {
    /// What the map was applied to, and the gradient by what came out; both lie as `to`, channels beside each other.
    pub from: *const f32,
    pub gradient: *const f32,
    /// The gradient by what SiLU was applied to.
    pub to: *mut f32,
    pub pixels: usize,
    /// A multiple of 16.
    pub channels: usize,
    pub centre: *const f32,
    pub scale: *const f32,
    pub shift: *const f32,
    pub silu: bool,
    /// For each channel the sum of `to`, and of `to` times `from - centre`; added to.
    pub sum: *mut f32,
    pub product: *mut f32,
}

/// `to * scale + (from - centre) * factor + shift`, channel by channel, in the place of `to`.
pub struct Blend {
    pub from: *const f32,
    pub to: *mut f32,
    pub pixels: usize,
    /// A multiple of 16.
    pub channels: usize,
    pub centre: *const f32,
    pub scale: *const f32,
    pub factor: *const f32,
    pub shift: *const f32,
}

/// A run of pixels through a per-channel map.
pub struct Run {
    pub from: *const f32,
    pub from_pixel: usize,
    pub to: *mut f32,
    pub to_pixel: usize,
    pub pixels: usize,
    /// A multiple of 16.
    pub channels: usize,
    /// Taken off first, or null.
    pub centre: *const f32,
    pub scale: *const f32,
    pub shift: *const f32,
    pub silu: bool,
}

type BlockFn = unsafe fn(&Block);
type OuterFn = unsafe fn(&Outer);

/// The inner loops for one instruction set.
pub struct Kernels {
    pub name: &'static str,
    /// Most rows of a block.
    pub rows: usize,
    /// Panels of a block: `[0]` are the kernels for one panel, `[1]` those for two (where `panels` is 2), by rows less one.
    pub panels: usize,
    /// For a right matrix of floats.
    pub block: [[BlockFn; MAX_ROWS]; 2],
    /// For one of integers.
    pub block_of_shorts: [[BlockFn; MAX_ROWS]; 2],
    /// By panels and rows, as `block`.
    pub outer: [[OuterFn; MAX_ROWS]; 2],
    /// Winograd F(2x2, 3x3) and F(4x4, 3x3).
    pub tile_in: [unsafe fn(&TileIn); 2],
    pub tile_out: [unsafe fn(&TileOut); 2],
    /// The transpose of `tile_out`: pixels of a gradient into the Winograd domain.
    pub tile_back: unsafe fn(&TileIn),
    /// From taps to the domain, and its transpose.
    pub filters: [unsafe fn(&Filters); 2],
    pub run: unsafe fn(&Run),
    pub run_back: unsafe fn(&RunBack),
    pub blend: unsafe fn(&Blend),
    /// Sums and sums of squares over `pixels` (one at least) of `channels` (a multiple of 16); `about_first`: of what the pixels are from
    /// the first of them, as the values' own squares lose what little they differ by ([`raw_moments`] makes one of the other).
    pub sums: unsafe fn(from: *const f32, pixels: usize, channels: usize, about_first: bool, sum: *mut f32, square: *mut f32),
    /// Softmax in place over a row (its length a multiple of 16; `-inf` becomes 0).
    pub softmax: unsafe fn(row: *mut f32, len: usize),
}

impl std::fmt::Debug for Kernels {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.debug_struct("Kernels").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Sum and sum of squares of a channel, from what [`Kernels::sums`] gives about its first value.
pub fn raw_moments([sum, square]: [f32; 2], first: f32, pixels: usize) -> [f64; 2] {
    let ([sum, square], first) = ([sum, square].map(f64::from), f64::from(first));
    let rest = pixels as f64 * first;
    [sum + rest, square + first * (2.0 * sum + rest)]
}

/// The best kernels for this machine.
pub fn kernels() -> &'static Kernels {
    static BEST: LazyLock<&'static Kernels> = LazyLock::new(|| available()[0]);
    *BEST
}

/// All kernels that this machine can run, best first.
pub fn available() -> Vec<&'static Kernels> {
    let mut found: Vec<&'static Kernels> = Vec::new();
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") {
            found.push(&avx512::KERNELS);
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            found.push(&avx2::KERNELS);
        }
    }
    found.push(&portable::KERNELS);
    found
}

/// A Winograd transform for 3-tap filters: `N = M + 2` inputs give `M` outputs.
trait Winograd<const N: usize, const M: usize> {
    unsafe fn input<L: Lanes>(d: [L; N]) -> [L; N];
    unsafe fn output<L: Lanes>(m: [L; N]) -> [L; M];
}

/// F(2, 3) with the points 0, 1, -1 and infinity.
struct F2;

impl Winograd<4, 2> for F2 {
    #[inline(always)]
    unsafe fn input<L: Lanes>(d: [L; 4]) -> [L; 4] {
        unsafe { [d[0].sub(d[2]), d[1].add(d[2]), d[2].sub(d[1]), d[1].sub(d[3])] }
    }
    #[inline(always)]
    unsafe fn output<L: Lanes>(m: [L; 4]) -> [L; 2] {
        unsafe { [m[0].add(m[1]).add(m[2]), m[1].sub(m[2]).sub(m[3])] }
    }
}

/// F(4, 3) with the points 0, `+-P`, `+-Q` and infinity. With 3/4 and 3/2 the error is half that of the usual 1 and 2 (Barabasz et
/// al., 2020, on choosing points), and all constants but one are exact.
struct F4;

const P: f32 = 0.75;
const Q: f32 = 1.5;

impl Winograd<6, 4> for F4 {
    #[inline(always)]
    unsafe fn input<L: Lanes>(d: [L; 6]) -> [L; 6] {
        const P2: f32 = P * P;
        const Q2: f32 = Q * Q;
        unsafe {
            let [d0, d1, d2, d3, d4, d5] = d;
            let both = L::splat(-(P2 + Q2));
            let product = L::splat(P2 * Q2);
            let (even_p, odd_p) = (d2.mul_add(L::splat(-Q2), d4), d1.mul_add(L::splat(-Q2), d3).mul(L::splat(P)));
            let (even_q, odd_q) = (d2.mul_add(L::splat(-P2), d4), d1.mul_add(L::splat(-P2), d3).mul(L::splat(Q)));
            [
                d0.mul_add(product, d2.mul_add(both, d4)),
                even_p.add(odd_p),
                even_p.sub(odd_p),
                even_q.add(odd_q),
                even_q.sub(odd_q),
                d1.mul_add(product, d3.mul_add(both, d5)),
            ]
        }
    }
    #[inline(always)]
    unsafe fn output<L: Lanes>(m: [L; 6]) -> [L; 4] {
        unsafe {
            let [m0, m1, m2, m3, m4, m5] = m;
            let (sum_p, difference_p) = (m1.add(m2), m1.sub(m2));
            let (sum_q, difference_q) = (m3.add(m4), m3.sub(m4));
            [
                m0.add(sum_p).add(sum_q),
                difference_p.mul_add(L::splat(P), difference_q.mul(L::splat(Q))),
                sum_p.mul_add(L::splat(P * P), sum_q.mul(L::splat(Q * Q))),
                difference_p.mul_add(L::splat(P * P * P), difference_q.mul_add(L::splat(Q * Q * Q), m5)),
            ]
        }
    }
}

impl F4 {
    /// The transpose of `output`.
    #[inline(always)]
    unsafe fn back<L: Lanes>(y: [L; 4]) -> [L; 6] {
        unsafe {
            let [y0, y1, y2, y3] = y;
            let (even_p, odd_p) = (y2.mul_add(L::splat(P * P), y0), y3.mul_add(L::splat(P * P), y1).mul(L::splat(P)));
            let (even_q, odd_q) = (y2.mul_add(L::splat(Q * Q), y0), y3.mul_add(L::splat(Q * Q), y1).mul(L::splat(Q)));
            [y0, even_p.add(odd_p), even_p.sub(odd_p), even_q.add(odd_q), even_q.sub(odd_q), y3]
        }
    }
}

/// What a right matrix is made of.
trait Number: Copy {
    unsafe fn load<L: Lanes>(from: *const Self) -> L;
    /// The matrix, which must be made of these.
    unsafe fn of(right: Right) -> *const Self;
}

impl Number for f32 {
    #[inline(always)]
    unsafe fn load<L: Lanes>(from: *const Self) -> L {
        unsafe { L::load(from) }
    }
    #[inline(always)]
    unsafe fn of(right: Right) -> *const Self {
        match right {
            Right::Floats(values) => values,
            Right::Shorts { .. } => std::ptr::null(),
        }
    }
}

impl Number for i16 {
    #[inline(always)]
    unsafe fn load<L: Lanes>(from: *const Self) -> L {
        unsafe { L::load_shorts(from) }
    }
    #[inline(always)]
    unsafe fn of(right: Right) -> *const Self {
        match right {
            Right::Shorts { values, .. } => values,
            Right::Floats(_) => std::ptr::null(),
        }
    }
}

#[inline(always)]
unsafe fn block<L: Lanes, N: Number, const ROWS: usize, const PANELS: usize>(call: &Block) {
    unsafe {
        let mut sums = [[L::splat(0.0); PANELS]; ROWS];
        let mut b = N::of(call.b);
        let (stride, b_stride) = (call.a_stride, call.b_stride);
        for segment in call.segments {
            // Four starting points: x86 addresses the two rows after each by scaling the stride.
            let a = call.a.add(*segment);
            let mut starts: [*const f32; 4] = std::array::from_fn(|g| a.wrapping_add(g * 3 * stride));
            for _ in 0..call.depth / 4 {
                for k in 0..4 {
                    step(&mut sums, &starts, stride, b, b_stride, k, call.ahead);
                }
                for start in &mut starts {
                    *start = start.wrapping_add(4);
                }
                b = b.add(4 * LANE);
            }
            for k in 0..call.depth % 4 {
                step(&mut sums, &starts, stride, b, b_stride, k, call.ahead);
            }
            b = b.add(call.depth % 4 * LANE);
        }
        for p in 0..PANELS {
            let bias = if call.bias.is_null() { L::splat(0.0) } else { L::load(call.bias.add(p * LANE)) };
            for (i, row) in sums.iter().enumerate() {
                let to = call.c.add(i * call.c_stride + p * LANE);
                let sum = match call.b {
                    Right::Floats(_) => row[p].add(bias),
                    Right::Shorts { scales, stride, .. } => row[p].mul_add(L::load(scales.add(p * stride)), bias),
                };
                let sum = if call.add { sum.add(L::load(to)) } else { sum };
                sum.store(to);
            }
        }
    }
}

/// One column of the left block times one row of the right one.
#[inline(always)]
unsafe fn step<L: Lanes, N: Number, const ROWS: usize, const PANELS: usize>(
    sums: &mut [[L; PANELS]; ROWS],
    starts: &[*const f32; 4],
    stride: usize,
    b: *const N,
    b_stride: usize,
    k: usize,
    ahead: usize,
) {
    unsafe {
        let mut columns = [L::splat(0.0); PANELS];
        for (p, column) in columns.iter_mut().enumerate() {
            let from = b.wrapping_add(p * b_stride + k * LANE);
            *column = N::load(from);
            L::prefetch(from.wrapping_add(ahead).cast());
        }
        for i in 0..ROWS {
            let value = L::splat(*starts[i / 3].wrapping_add((i % 3) * stride + k));
            for p in 0..PANELS {
                sums[i][p] = value.mul_add(columns[p], sums[i][p]);
            }
        }
    }
}

// The second pass takes one element of every column.
#[allow(clippy::needless_range_loop)]
#[inline(always)]
unsafe fn tile_in<L: Lanes, W: Winograd<N, M>, const N: usize, const M: usize>(t: &TileIn) {
    unsafe {
        for channel in (0..t.channels).step_by(LANE) {
            let mut columns = [[L::splat(0.0); N]; N];
            for (x, column) in columns.iter_mut().enumerate() {
                let from = t.from.add(x * t.pixel + channel);
                *column = W::input(std::array::from_fn(|y| L::load(from.add(y * t.row))));
            }
            for y in 0..N {
                let row = W::input(std::array::from_fn(|x| columns[x][y]));
                for (x, value) in row.into_iter().enumerate() {
                    value.store(t.to.add((y * N + x) * t.position + channel));
                }
            }
        }
    }
}

// The second pass takes one element of every column.
#[allow(clippy::needless_range_loop)]
#[inline(always)]
unsafe fn tile_out<L: Lanes, W: Winograd<N, M>, const N: usize, const M: usize>(t: &TileOut) {
    unsafe {
        let mut columns = [[L::splat(0.0); M]; N];
        for (x, column) in columns.iter_mut().enumerate() {
            *column = W::output(std::array::from_fn(|y| L::load(t.from.add((y * N + x) * t.position))));
        }
        let bias = L::load(t.bias);
        for y in 0..t.height.min(M) {
            let row = W::output(std::array::from_fn(|x| columns[x][y]));
            for (x, value) in row.into_iter().enumerate() {
                if x < t.width {
                    let offset = y * t.row + x * t.pixel;
                    let value = value.add(bias);
                    let value = if t.base.is_null() { value } else { value.add(L::load(t.base.add(offset))) };
                    value.store(t.to.add(offset));
                }
            }
        }
    }
}

// The second pass takes one element of every column.
#[allow(clippy::needless_range_loop)]
#[inline(always)]
unsafe fn tile_back<L: Lanes>(t: &TileIn) {
    unsafe {
        for channel in (0..t.channels).step_by(LANE) {
            let mut columns = [[L::splat(0.0); 6]; 4];
            for (x, column) in columns.iter_mut().enumerate() {
                let from = t.from.add(x * t.pixel + channel);
                *column = F4::back(std::array::from_fn(|y| L::load(from.add(y * t.row))));
            }
            for y in 0..6 {
                let row = F4::back(std::array::from_fn(|x| columns[x][y]));
                for (x, value) in row.into_iter().enumerate() {
                    value.store(t.to.add((y * 6 + x) * t.position + channel));
                }
            }
        }
    }
}

/// The filter transform that belongs to the points 0, `+-P`, `+-Q` and infinity.
pub fn f4_filter() -> [[f64; 3]; 6] {
    let (p, q) = (f64::from(P), f64::from(Q));
    let row = |x: f64, other: f64| {
        let norm = 2.0 * x * x * (x * x - other * other);
        [1.0 / norm, x / norm, x * x / norm]
    };
    [[1.0 / (p * p * q * q), 0.0, 0.0], row(p, q), row(-p, q), row(q, p), row(-q, p), [0.0, 0.0, 1.0]]
}

#[inline(always)]
fn f4_filter_of_floats() -> [[f32; 3]; 6] {
    f4_filter().map(|row| row.map(|v| v as f32))
}

#[inline(always)]
unsafe fn filters_in<L: Lanes>(f: &Filters) {
    unsafe {
        let g = f4_filter_of_floats();
        let weighted = |factors: &[f32; 3], of: [L; 3]| {
            of[0].mul_add(L::splat(factors[0]), of[1].mul_add(L::splat(factors[1]), of[2].mul(L::splat(factors[2]))))
        };
        let taps: [L; 9] = std::array::from_fn(|tap| L::load(f.taps.add(tap * LANE)));
        for (y, row) in g.iter().enumerate() {
            let line = std::array::from_fn(|x| weighted(row, [taps[x], taps[3 + x], taps[6 + x]]));
            for (x, column) in g.iter().enumerate() {
                weighted(column, line).store(f.domain.add((6 * y + x) * f.position));
            }
        }
    }
}

#[inline(always)]
unsafe fn filters_out<L: Lanes>(f: &Filters) {
    unsafe {
        let g = f4_filter_of_floats();
        let mut taps = [[L::splat(0.0); 3]; 3];
        for (y, row) in g.iter().enumerate() {
            let mut line = [L::splat(0.0); 3];
            for (x, column) in g.iter().enumerate() {
                let value = L::load(f.domain.add((6 * y + x) * f.position));
                for k in 0..3 {
                    line[k] = value.mul_add(L::splat(column[k]), line[k]);
                }
            }
            for k in 0..3 {
                for l in 0..3 {
                    taps[k][l] = line[l].mul_add(L::splat(row[k]), taps[k][l]);
                }
            }
        }
        for (tap, value) in taps.into_iter().flatten().enumerate() {
            value.store(f.taps.add(tap * LANE));
        }
    }
}

#[inline(always)]
unsafe fn outer<L: Lanes, const ROWS: usize, const PANELS: usize>(call: &Outer) {
    unsafe {
        let mut sums = [[L::splat(0.0); PANELS]; ROWS];
        for k in 0..call.depth {
            let (a, b) = (call.a.add(k * call.a_stride), call.b.add(k * call.b_stride));
            let columns: [L; PANELS] = std::array::from_fn(|p| L::load(b.add(p * LANE)));
            for (i, row) in sums.iter_mut().enumerate() {
                let value = L::splat(*a.add(i));
                for p in 0..PANELS {
                    row[p] = value.mul_add(columns[p], row[p]);
                }
            }
        }
        for (i, row) in sums.into_iter().enumerate() {
            for (p, sum) in row.into_iter().enumerate() {
                let to = call.c.add(i * call.c_stride + p * LANE);
                let sum = if call.add { sum.add(L::load(to)) } else { sum };
                sum.store(to);
            }
        }
    }
}

#[inline(always)]
unsafe fn run_back<L: Lanes>(r: &RunBack) {
    unsafe {
        let one = L::splat(1.0);
        for channel in (0..r.channels).step_by(LANE) {
            let (scale, shift) = (L::load(r.scale.add(channel)), L::load(r.shift.add(channel)));
            let centre = L::load(r.centre.add(channel));
            let (mut sum, mut product) = (L::load(r.sum.add(channel)), L::load(r.product.add(channel)));
            for pixel in 0..r.pixels {
                let offset = pixel * r.channels + channel;
                let (from, mut gradient) = (L::load(r.from.add(offset)).sub(centre), L::load(r.gradient.add(offset)));
                if r.silu {
                    let u = from.mul_add(scale, shift);
                    let sigmoid = one.div(exp(L::splat(0.0).sub(u)).add(one));
                    gradient = gradient.mul(sigmoid.mul(u.mul_add(one.sub(sigmoid), one)));
                }
                gradient.store(r.to.add(offset));
                sum = sum.add(gradient);
                product = gradient.mul_add(from, product);
            }
            sum.store(r.sum.add(channel));
            product.store(r.product.add(channel));
        }
    }
}

#[inline(always)]
unsafe fn blend<L: Lanes>(b: &Blend) {
    unsafe {
        for pixel in 0..b.pixels {
            for channel in (0..b.channels).step_by(LANE) {
                let (from, to) = (b.from.add(pixel * b.channels + channel), b.to.add(pixel * b.channels + channel));
                let from = L::load(from).sub(L::load(b.centre.add(channel)));
                let value = from.mul_add(L::load(b.factor.add(channel)), L::load(b.shift.add(channel)));
                L::load(to).mul_add(L::load(b.scale.add(channel)), value).store(to);
            }
        }
    }
}

#[inline(always)]
unsafe fn run<L: Lanes>(r: &Run) {
    unsafe {
        for pixel in 0..r.pixels {
            let (from, to) = (r.from.add(pixel * r.from_pixel), r.to.add(pixel * r.to_pixel));
            for channel in (0..r.channels).step_by(LANE) {
                let value = L::load(from.add(channel));
                let value = if r.centre.is_null() { value } else { value.sub(L::load(r.centre.add(channel))) };
                let value = value.mul_add(L::load(r.scale.add(channel)), L::load(r.shift.add(channel)));
                let value = if r.silu { silu(value) } else { value };
                value.store(to.add(channel));
            }
        }
    }
}

#[inline(always)]
unsafe fn sums<L: Lanes>(from: *const f32, pixels: usize, channels: usize, about_first: bool, sum: *mut f32, square: *mut f32) {
    unsafe {
        for channel in (0..channels).step_by(LANE) {
            let (mut s, mut q) = ([L::splat(0.0); 2], [L::splat(0.0); 2]);
            let first = if about_first { L::load(from.add(channel)) } else { L::splat(0.0) };
            for pixel in 0..pixels {
                let value = L::load(from.add(pixel * channels + channel)).sub(first);
                s[pixel % 2] = s[pixel % 2].add(value);
                q[pixel % 2] = value.mul_add(value, q[pixel % 2]);
            }
            s[0].add(s[1]).store(sum.add(channel));
            q[0].add(q[1]).store(square.add(channel));
        }
    }
}

#[inline(always)]
unsafe fn softmax<L: Lanes>(row: *mut f32, len: usize) {
    unsafe {
        let fold = |lane: L, f: fn(f32, f32) -> f32| {
            let mut values = [0.0; LANE];
            lane.store(values.as_mut_ptr());
            values.into_iter().reduce(f).unwrap_or(0.0)
        };
        let mut highest = L::splat(f32::NEG_INFINITY);
        for i in (0..len).step_by(LANE) {
            highest = highest.max(L::load(row.add(i)));
        }
        let highest = L::splat(fold(highest, f32::max));
        let (mut total, lowest) = (L::splat(0.0), L::splat(-80.0));
        for i in (0..len).step_by(LANE) {
            // `e^-80` is nothing beside the 1 of the highest, and the padding must not become NaN.
            let value = exp(L::load(row.add(i)).sub(highest).max(lowest));
            total = total.add(value);
            value.store(row.add(i));
        }
        let inverse = L::splat(1.0 / fold(total, |a, b| a + b));
        for i in (0..len).step_by(LANE) {
            L::load(row.add(i)).mul(inverse).store(row.add(i));
        }
    }
}

/// Compiles every kernel for one instruction set.
macro_rules! instruction_set {
    ($module:ident, $name:literal, $lanes:ty, $($feature:literal,)? rows $rows:literal: [$($r:literal)*], panels $panels:literal) => {
        mod $module {
            use super::*;

            $(#[target_feature(enable = $feature)])?
            unsafe fn block<N: Number, const ROWS: usize, const PANELS: usize>(call: &Block) {
                unsafe { super::block::<$lanes, N, ROWS, PANELS>(call) }
            }
            $(#[target_feature(enable = $feature)])?
            unsafe fn outer<const ROWS: usize, const PANELS: usize>(call: &Outer) {
                unsafe { super::outer::<$lanes, ROWS, PANELS>(call) }
            }
            $(#[target_feature(enable = $feature)])?
            unsafe fn tile_back(t: &TileIn) {
                unsafe { super::tile_back::<$lanes>(t) }
            }
            $(#[target_feature(enable = $feature)])?
            unsafe fn filters_in(f: &Filters) {
                unsafe { super::filters_in::<$lanes>(f) }
            }
            $(#[target_feature(enable = $feature)])?
            unsafe fn filters_out(f: &Filters) {
                unsafe { super::filters_out::<$lanes>(f) }
            }
            $(#[target_feature(enable = $feature)])?
            unsafe fn run_back(r: &RunBack) {
                unsafe { super::run_back::<$lanes>(r) }
            }
            $(#[target_feature(enable = $feature)])?
            unsafe fn blend(b: &Blend) {
                unsafe { super::blend::<$lanes>(b) }
            }
            $(#[target_feature(enable = $feature)])?
            unsafe fn tile_in_2(t: &TileIn) {
                unsafe { super::tile_in::<$lanes, F2, 4, 2>(t) }
            }
            $(#[target_feature(enable = $feature)])?
            unsafe fn tile_in_4(t: &TileIn) {
                unsafe { super::tile_in::<$lanes, F4, 6, 4>(t) }
            }
            $(#[target_feature(enable = $feature)])?
            unsafe fn tile_out_2(t: &TileOut) {
                unsafe { super::tile_out::<$lanes, F2, 4, 2>(t) }
            }
            $(#[target_feature(enable = $feature)])?
            unsafe fn tile_out_4(t: &TileOut) {
                unsafe { super::tile_out::<$lanes, F4, 6, 4>(t) }
            }
            $(#[target_feature(enable = $feature)])?
            unsafe fn run(r: &Run) {
                unsafe { super::run::<$lanes>(r) }
            }
            $(#[target_feature(enable = $feature)])?
            unsafe fn sums(from: *const f32, pixels: usize, channels: usize, about_first: bool, sum: *mut f32, square: *mut f32) {
                unsafe { super::sums::<$lanes>(from, pixels, channels, about_first, sum, square) }
            }
            $(#[target_feature(enable = $feature)])?
            unsafe fn softmax(row: *mut f32, len: usize) {
                unsafe { super::softmax::<$lanes>(row, len) }
            }

            pub static KERNELS: Kernels = Kernels {
                name: $name,
                rows: $rows,
                panels: $panels,
                block: [[$(block::<f32, $r, 1>),*], [$(block::<f32, $r, $panels>),*]],
                block_of_shorts: [[$(block::<i16, $r, 1>),*], [$(block::<i16, $r, $panels>),*]],
                outer: [[$(outer::<$r, 1>),*], [$(outer::<$r, $panels>),*]],
                tile_in: [tile_in_2, tile_in_4],
                tile_out: [tile_out_2, tile_out_4],
                tile_back,
                filters: [filters_in, filters_out],
                run,
                run_back,
                blend,
                sums,
                softmax,
            };
        }
    };
}

// Rows and panels such that the sums fill the registers: 24 of 32, 12 of 16. Numbers of rows that a set does not reach repeat its last.
#[cfg(target_arch = "x86_64")]
instruction_set!(avx512, "AVX-512", super::super::lanes::Avx512, "avx512f", rows 12: [1 2 3 4 5 6 7 8 9 10 11 12], panels 2);
#[cfg(target_arch = "x86_64")]
instruction_set!(avx2, "AVX2", super::super::lanes::Avx2, "avx2,fma", rows 6: [1 2 3 4 5 6 6 6 6 6 6 6], panels 1);
instruction_set!(portable, "portable", Portable, rows 4: [1 2 3 4 4 4 4 4 4 4 4 4], panels 1);
