//! The layers of [`crate::model::autodiff`] on a graphics card, forwards and backwards.
//!
//! They are for cards whose matrix units shaders do not reach. The library's convolutions are plain ones there, and the gradient by the
//! weights is one with the output's gradient for a filter; here all three are products of matrices ([`super::winograd`]).

// The kernel compiler's macro makes functions of more arguments than it is given.
#![allow(clippy::too_many_arguments)]

use burn::backend::Autodiff;
use burn::backend::Backend;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::backend_extension;
use burn::backend::tensor::FloatTensor;
use burn::tensor::DType;
use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::kernel::matmul::{MatmulStrategy, matmul};
use burn_cubecl::ops::{permute, reshape};
use burn_cubecl::tensor::CubeTensor;
use burn_cubecl::{Cube, CubeBackend};

use super::kernels::of_cube;
use super::surface::{EXPECT, Surface, channels, extent, values};
use super::winograd::{self, ELEMENTS, TILE};
use crate::model::autodiff::{TrainedLayers, with_channels};
use crate::model::layers::GROUPS;

/// Values that there may be in Winograd's domain at a time, unless they are one image's: 128 MB. Larger batches go in parts, as do those of
/// tests.
const DOMAIN: usize = if cfg!(test) { 1 << 19 } else { 1 << 25 };

/// Rows of a matrix product's depth that are one part's, at least. A product over all tiles has few results, and one part would occupy
/// little of a card.
const DEPTH: usize = 256;

/// Parts of a product's depth, at most.
const PARTS: usize = 8;

/// Channels and rows that a cube sums side by side.
const COLUMNS: u32 = 16;
const ROWS: u32 = 16;

/// Group norm over 32 groups, epsilon 1e-5, then `x * scale + shift` (`[image, channel]` each) and if so asked SiLU. One cube a group, images
/// along y.
#[cube(launch)]
fn normalise(
    x: &[f32],
    scale: &[f32],
    shift: &[f32],
    y: &mut [f32],
    positions: u32,
    #[comptime] per_group: u32,
    #[comptime] silu: bool,
    #[comptime] units: u32,
) {
    let mut shared = Shared::<[f32]>::new_slice(comptime!(units as usize));
    let (first, base) = group(positions, per_group);
    let moments = moments(x, &mut shared, base, positions, per_group, units);
    let (mean, rest, inverse) = (moments[0usize], moments[1usize], moments[2usize]);
    let mut i = UNIT_POS;
    while i < positions * per_group {
        let at = place(base, i, per_group);
        let of_channel = (first + i % per_group) as usize;
        let mut value = (x[at] - mean - rest) * inverse * scale[of_channel] + shift[of_channel];
        if silu {
            value /= 1.0f32 + (-value).exp();
        }
        y[at] = value;
        i += units;
    }
}

/// Where the values of a cube's group begin: those of its channels, of which every image has one, and those of a map.
#[cube]
fn group(positions: u32, #[comptime] per_group: u32) -> (u32, u32) {
    let channels = comptime!(per_group * GROUPS as u32);
    let first = CUBE_POS_X * per_group;
    (CUBE_POS_Y * channels + first, CUBE_POS_Y * positions * channels + first)
}

/// Where the value `i` of a group is whose first one is at `base`.
#[cube]
fn place(base: u32, i: u32, #[comptime] per_group: u32) -> usize {
    (base + i / per_group * comptime!(per_group * GROUPS as u32) + i % per_group) as usize
}

/// A group's mean, what single precision left of it, and the inverse standard deviation: values far from zero would lose by the mean alone.
#[cube]
fn moments(
    x: &[f32],
    shared: &mut Shared<[f32]>,
    base: u32,
    positions: u32,
    #[comptime] per_group: u32,
    #[comptime] units: u32,
) -> Array<f32> {
    let count = positions * per_group;
    let mut sum = 0.0f32;
    let mut i = UNIT_POS;
    while i < count {
        sum += x[place(base, i, per_group)];
        i += units;
    }
    let mean = of_cube(shared, sum, units, false) / f32::cast_from(count);
    let mut rest = 0.0f32;
    let mut squares = 0.0f32;
    let mut i = UNIT_POS;
    while i < count {
        let centred = x[place(base, i, per_group)] - mean;
        rest += centred;
        squares += centred * centred;
        i += units;
    }
    let rest = of_cube(shared, rest, units, false) / f32::cast_from(count);
    let variance = of_cube(shared, squares, units, false) / f32::cast_from(count) - rest * rest;
    let mut moments = Array::<f32>::new(3usize);
    moments[0usize] = mean;
    moments[1usize] = rest;
    moments[2usize] = 1.0f32 / (max(variance, 0.0f32) + 1e-5f32).sqrt();
    moments
}

/// The gradient by what SiLU was applied to, if it was.
#[cube]
fn before_silu(gradient: f32, value: f32, #[comptime] silu: bool) -> f32 {
    let mut result = gradient;
    if silu {
        let sigmoid = 1.0f32 / (1.0f32 + (-value).exp());
        result = gradient * sigmoid * (1.0f32 + value * (1.0f32 - sigmoid));
    }
    result
}

/// The gradients of [`normalise`] by `x`, `scale` and `shift`.
#[cube(launch)]
fn normalise_back(
    x: &[f32],
    scale: &[f32],
    shift: &[f32],
    gradient: &[f32],
    by_x: &mut [f32],
    by_scale: &mut [f32],
    by_shift: &mut [f32],
    positions: u32,
    #[comptime] per_group: u32,
    #[comptime] silu: bool,
    #[comptime] units: u32,
) {
    let mut shared = Shared::<[f32]>::new_slice(comptime!(units as usize));
    let (first, base) = group(positions, per_group);
    let moments = moments(x, &mut shared, base, positions, per_group, units);
    let (mean, rest, inverse) = (moments[0usize], moments[1usize], moments[2usize]);

    // Mean and deviation hang on all of the group's values: what their gradients hang on in turn are these two means.
    let mut level = 0.0f32;
    let mut slope = 0.0f32;
    for c in 0..per_group {
        let of_channel = (first + c) as usize;
        let (factor, offset) = (scale[of_channel], shift[of_channel]);
        let mut sum = 0.0f32;
        let mut product = 0.0f32;
        let mut i = UNIT_POS;
        while i < positions {
            let at = place(base, i * per_group + c, per_group);
            let value = (x[at] - mean - rest) * inverse;
            let inner = before_silu(gradient[at], value * factor + offset, silu);
            sum += inner;
            product += inner * value;
            i += units;
        }
        let sum = of_cube(&mut shared, sum, units, false);
        let product = of_cube(&mut shared, product, units, false);
        if UNIT_POS == 0 {
            by_shift[of_channel] = sum;
            by_scale[of_channel] = product;
        }
        level += factor * sum;
        slope += factor * product;
    }
    let count = f32::cast_from(positions * per_group);
    let (level, slope) = (level / count, slope / count);

    let mut i = UNIT_POS;
    while i < positions * per_group {
        let at = place(base, i, per_group);
        let of_channel = (first + i % per_group) as usize;
        let (factor, offset) = (scale[of_channel], shift[of_channel]);
        let value = (x[at] - mean - rest) * inverse;
        let inner = before_silu(gradient[at], value * factor + offset, silu);
        by_x[at] = inverse * (inner * factor - level - value * slope);
        i += units;
    }
}

/// Sums of every column of `x`, `[row, column]`, over so many rows at a time: `y`, `[part, column]`. Columns are multiples of 16.
#[cube(launch)]
fn totals(x: &[f32], y: &mut [f32], rows: u32, columns: u32, rows_a_part: u32) {
    let units = comptime!(COLUMNS * ROWS);
    let mut shared = Shared::<[f32]>::new_slice(comptime!(units as usize));
    let column = CUBE_POS_X * COLUMNS + UNIT_POS % COLUMNS;
    let first = CUBE_POS_Y * rows_a_part;
    let end = min(first + rows_a_part, rows);
    let mut sum = 0.0f32;
    let mut row = first + UNIT_POS / COLUMNS;
    while row < end {
        sum += x[(row * columns + column) as usize];
        row += ROWS;
    }
    shared[UNIT_POS as usize] = sum;
    sync_cube();
    if UNIT_POS < COLUMNS {
        let mut sum = 0.0f32;
        for row in 0..ROWS {
            sum += shared[(row * COLUMNS + UNIT_POS) as usize];
        }
        y[(CUBE_POS_Y * columns + column) as usize] = sum;
    }
}

/// Images, rows and columns of a map, and its channels.
fn size(x: &CubeTensor) -> [usize; 4] {
    x.meta.shape()[..].try_into().expect("a map has four axes")
}

/// How much of a batch is in Winograd's domain at a time.
struct Parts {
    images: usize,
    /// Of an image.
    tiles: usize,
    at_once: usize,
}

impl Parts {
    fn new([images, height, width, _]: [usize; 4], channels: usize) -> Self {
        let tiles = height.div_ceil(TILE) * width.div_ceil(TILE);
        Self { images, tiles, at_once: (DOMAIN / (ELEMENTS * channels * tiles)).min(images).max(1) }
    }

    /// First image and number of tiles of each.
    fn each(&self) -> impl Iterator<Item = (usize, usize)> {
        (0..self.images).step_by(self.at_once).map(|first| (first, self.at_once.min(self.images - first) * self.tiles))
    }
}

impl Surface {
    /// Tiles of so many images in Winograd's domain: of an input, or of an output's gradient.
    fn spread(&self, x: &CubeTensor, (first, tiles): (usize, usize), gradient: bool) -> CubeTensor {
        let [_, height, width, channels] = size(x);
        let domain = self.empty(&[ELEMENTS, tiles, channels], DType::F32);
        let (count, dim) = self.for_each(tiles * channels);
        let launch = if gradient { winograd::spread_gradient::launch } else { winograd::spread::launch };
        launch(
            &self.client,
            count,
            dim,
            x.clone().into_buffer_arg(),
            domain.clone().into_buffer_arg(),
            first as u32,
            tiles as u32,
            channels as u32,
            height as u32,
            width as u32,
        );
        domain
    }

    /// `weight`: `[output, input, 3, 3]`; see [`winograd::filters`].
    fn filters(&self, weight: &CubeTensor, turned: bool) -> CubeTensor {
        let [output, input, ..] = size(weight);
        let shape = if turned { [ELEMENTS, output, input] } else { [ELEMENTS, input, output] };
        let u = self.empty(&shape, DType::F32);
        let (count, dim) = self.for_each(input * output);
        winograd::filters::launch(
            &self.client,
            count,
            dim,
            weight.clone().into_buffer_arg(),
            u.clone().into_buffer_arg(),
            input as u32,
            output as u32,
            turned,
        );
        u
    }

    fn batched(&self, a: CubeTensor, b: CubeTensor) -> CubeTensor {
        into_contiguous(matmul(a, b, None, MatmulStrategy::Cube, DType::F32).expect(EXPECT))
    }

    /// A convolution of `x` with filters in Winograd's domain.
    fn filtered(&self, x: &CubeTensor, filters: &CubeTensor, bias: Option<&CubeTensor>) -> CubeTensor {
        let [batch, height, width, input] = size(x);
        let output = channels(filters);
        let y = self.empty(&[batch, height, width, output], DType::F32);
        for part in Parts::new(size(x), input.max(output)).each() {
            let m = self.batched(self.spread(x, part, false), filters.clone());
            let (first, tiles) = part;
            let (count, dim) = self.for_each(tiles * output);
            winograd::gather::launch(
                &self.client,
                count,
                dim,
                m.into_buffer_arg(),
                bias.unwrap_or(filters).clone().into_buffer_arg(),
                y.clone().into_buffer_arg(),
                first as u32,
                tiles as u32,
                output as u32,
                height as u32,
                width as u32,
                bias.is_some(),
            );
        }
        y
    }

    /// The gradient by the filters.
    fn filters_back(&self, x: &CubeTensor, gradient: &CubeTensor) -> CubeTensor {
        let (input, output) = (channels(x), channels(gradient));
        let of_part = |part: (usize, usize)| {
            let tiles = part.1;
            let mut parts = 1;
            let more = |parts: usize| 2 * parts * ELEMENTS * input * output <= DOMAIN && tiles / (2 * parts) >= DEPTH;
            while parts < PARTS && tiles.is_multiple_of(2 * parts) && more(parts) {
                parts *= 2;
            }
            let [v, m] = [(self.spread(x, part, false), input), (self.spread(gradient, part, true), output)]
                .map(|(domain, channels)| reshape(domain, [ELEMENTS * parts, tiles / parts, channels].into()));
            let u = self.batched(permute(v, &[0, 2, 1]), m);
            let weight = self.empty(&[output, input, 3, 3], DType::F32);
            let (count, dim) = self.for_each(input * output);
            winograd::filters_back::launch(
                &self.client,
                count,
                dim,
                u.into_buffer_arg(),
                weight.clone().into_buffer_arg(),
                input as u32,
                output as u32,
                parts as u32,
            );
            weight
        };
        let parts = Parts::new(size(x), input.max(output));
        let found = parts.each().map(of_part).reduce(|sum, part| self.add(&sum, &part, None));
        found.expect("a batch has images")
    }

    /// Sums over all but the last axis.
    fn totals(&self, x: &CubeTensor) -> CubeTensor {
        let columns = channels(x);
        debug_assert!(columns.is_multiple_of(COLUMNS as usize));
        let rows = values(x) / columns;
        let sum = |x: &CubeTensor, rows: usize, parts: usize| {
            let y = self.empty(&[parts, columns], DType::F32);
            totals::launch(
                &self.client,
                CubeCount::Static(columns as u32 / COLUMNS, parts as u32, 1),
                CubeDim::new_1d(COLUMNS * ROWS),
                x.clone().into_buffer_arg(),
                y.clone().into_buffer_arg(),
                rows as u32,
                columns as u32,
                rows.div_ceil(parts) as u32,
            );
            y
        };
        let parts = (rows / 512).clamp(1, 64);
        let sums = sum(x, rows, parts);
        reshape(if parts > 1 { sum(&sums, parts, 1) } else { sums }, [columns].into())
    }

    fn normalised(&self, x: &CubeTensor, scale: &CubeTensor, shift: &CubeTensor, silu: bool) -> CubeTensor {
        let (batch, positions, channels) = extent(x);
        let y = self.empty(x.meta.shape(), DType::F32);
        let per_group = channels / GROUPS;
        let units = self.units(positions * per_group / 4);
        normalise::launch(
            &self.client,
            CubeCount::Static(GROUPS as u32, batch as u32, 1),
            CubeDim::new_1d(units),
            x.clone().into_buffer_arg(),
            scale.clone().into_buffer_arg(),
            shift.clone().into_buffer_arg(),
            y.clone().into_buffer_arg(),
            positions as u32,
            per_group as u32,
            silu,
            units,
        );
        y
    }
}

/// The ways back. `bias`, and the weight of its own gradient, are there for their shapes.
#[backend_extension(Cube, Fusion)]
pub trait LayersBack: Backend {
    #[fusion(meta = |gradient, weight| with_channels(gradient, weight.shape[1]))]
    fn convolution_by_input(gradient: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self>;

    #[fusion(dtype = weight, shape = weight)]
    fn convolution_by_weight(x: FloatTensor<Self>, gradient: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self>;

    #[fusion(dtype = bias, shape = bias)]
    fn convolution_by_bias(gradient: FloatTensor<Self>, bias: FloatTensor<Self>) -> FloatTensor<Self>;

    #[fusion(meta = |x, scale, shift, _, _| (x.clone(), scale.clone(), shift.clone()))]
    fn norm_by_all(
        x: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        silu: bool,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);
}

impl TrainedLayers for CubeBackend {
    fn trained_convolution(x: CubeTensor, weight: CubeTensor, bias: CubeTensor) -> CubeTensor {
        let [x, weight, bias] = [x, weight, bias].map(into_contiguous);
        let on = Surface::of(&x, DType::F32);
        on.filtered(&x, &on.filters(&weight, false), Some(&bias))
    }

    fn trained_norm(x: CubeTensor, scale: CubeTensor, shift: CubeTensor, silu: bool) -> CubeTensor {
        let [x, scale, shift] = [x, scale, shift].map(into_contiguous);
        Surface::of(&x, DType::F32).normalised(&x, &scale, &shift, silu)
    }
}

impl LayersBack for CubeBackend {
    fn convolution_by_input(gradient: CubeTensor, weight: CubeTensor) -> CubeTensor {
        let [gradient, weight] = [gradient, weight].map(into_contiguous);
        let on = Surface::of(&gradient, DType::F32);
        on.filtered(&gradient, &on.filters(&weight, true), None)
    }

    fn convolution_by_weight(x: CubeTensor, gradient: CubeTensor, _weight: CubeTensor) -> CubeTensor {
        let [x, gradient] = [x, gradient].map(into_contiguous);
        let on = Surface::of(&x, DType::F32);
        on.filters_back(&x, &gradient)
    }

    fn convolution_by_bias(gradient: CubeTensor, _bias: CubeTensor) -> CubeTensor {
        let gradient = into_contiguous(gradient);
        Surface::of(&gradient, DType::F32).totals(&gradient)
    }

    fn norm_by_all(
        x: CubeTensor,
        scale: CubeTensor,
        shift: CubeTensor,
        gradient: CubeTensor,
        silu: bool,
    ) -> (CubeTensor, CubeTensor, CubeTensor) {
        let [x, scale, shift, gradient] = [x, scale, shift, gradient].map(into_contiguous);
        let on = Surface::of(&x, DType::F32);
        let (batch, positions, channels) = extent(&x);
        let [by_x, by_scale, by_shift] = [&x, &scale, &shift].map(|like| on.empty(like.meta.shape(), DType::F32));
        let units = on.units(positions);
        normalise_back::launch(
            &on.client,
            CubeCount::Static(GROUPS as u32, batch as u32, 1),
            CubeDim::new_1d(units),
            x.into_buffer_arg(),
            scale.into_buffer_arg(),
            shift.into_buffer_arg(),
            gradient.into_buffer_arg(),
            by_x.clone().into_buffer_arg(),
            by_scale.clone().into_buffer_arg(),
            by_shift.clone().into_buffer_arg(),
            positions as u32,
            (channels / GROUPS) as u32,
            silu,
            units,
        );
        (by_x, by_scale, by_shift)
    }
}

type Lazy = FloatTensor<Cube>;

impl<C: CheckpointStrategy> TrainedLayers for Autodiff<Cube, C> {
    fn trained_convolution(x: FloatTensor<Self>, weight: FloatTensor<Self>, bias: FloatTensor<Self>) -> FloatTensor<Self> {
        let learns = weight.is_tracked();
        let ((x, x_node), (weight, weight_node), (bias, bias_node)) = (x.into_parts(), weight.into_parts(), bias.into_parts());
        let out = Cube::trained_convolution(x.clone(), weight.clone(), bias.clone());
        match Convolution.prepare::<C>([x_node, weight_node, bias_node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((learns.then_some(x), weight, bias), out),
            OpsKind::UnTracked(prep) => prep.finish(out),
        }
    }

    fn trained_norm(x: FloatTensor<Self>, scale: FloatTensor<Self>, shift: FloatTensor<Self>, silu: bool) -> FloatTensor<Self> {
        let ((x, x_node), (scale, scale_node), (shift, shift_node)) = (x.into_parts(), scale.into_parts(), shift.into_parts());
        let out = Cube::trained_norm(x.clone(), scale.clone(), shift.clone(), silu);
        match Norm.prepare::<C>([x_node, scale_node, shift_node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(([x, scale, shift], silu), out),
            OpsKind::UnTracked(prep) => prep.finish(out),
        }
    }
}

#[derive(Debug)]
struct Convolution;

impl Backward<Cube, 3> for Convolution {
    /// Input, where the weight learns, weight and bias.
    type State = (Option<Lazy>, Lazy, Lazy);

    fn backward(self, ops: Ops<Self::State, 3>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let gradient = gradients.consume::<Cube>(&ops.node);
        let (x, weight, bias) = ops.state;
        let [by_x, by_weight, by_bias] = ops.parents;
        if let Some(node) = by_x {
            gradients.register::<Cube>(node.id, Cube::convolution_by_input(gradient.clone(), weight.clone()));
        }
        if let (Some(node), Some(x)) = (by_weight, x) {
            gradients.register::<Cube>(node.id, Cube::convolution_by_weight(x, gradient.clone(), weight));
        }
        if let Some(node) = by_bias {
            gradients.register::<Cube>(node.id, Cube::convolution_by_bias(gradient, bias));
        }
    }
}

#[derive(Debug)]
struct Norm;

impl Backward<Cube, 3> for Norm {
    /// Input, scale and shift, and whether there is SiLU.
    type State = ([Lazy; 3], bool);

    fn backward(self, ops: Ops<Self::State, 3>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let gradient = gradients.consume::<Cube>(&ops.node);
        let ([x, scale, shift], silu) = ops.state;
        let (by_x, by_scale, by_shift) = Cube::norm_by_all(x, scale, shift, gradient, silu);
        for (node, found) in ops.parents.into_iter().zip([by_x, by_scale, by_shift]) {
            if let Some(node) = node {
                gradients.register::<Cube>(node.id, found);
            }
        }
    }
}
