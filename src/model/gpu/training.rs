//! The layers of [`crate::model::autodiff`] on a graphics card, forwards and backwards.
//!
//! They are for cards whose matrix units shaders do not reach. The library's convolutions are plain ones there, and the gradient by the
//! weights is one with the output's gradient for a filter; here all three are products of matrices ([`super::winograd`]), and these, like
//! those of fully connected layers and attention, go through one kernel ([`super::product`]). Norms are in [`super::norm`].

// The kernel compiler's macro makes functions of more arguments than it is given.
#![allow(clippy::too_many_arguments)]

use burn::backend::Autodiff;
use burn::backend::Backend;
use burn::backend::autodiff::NodeId;
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
use burn_cubecl::ops::reshape;
use burn_cubecl::tensor::CubeTensor;
use burn_cubecl::{Cube, CubeBackend};

use super::product::{Matrices, Size};
use super::surface::{Surface, channels, values};
use super::winograd::{self, ELEMENTS, TILE};
use crate::model::autodiff::{Affines, TrainedLayers, with_channels};

/// Values that there may be in Winograd's domain at a time, unless they are one image's: 256 MB. Larger batches go in parts, as do those of
/// tests.
const DOMAIN: usize = if cfg!(test) { 1 << 19 } else { 1 << 26 };

/// Channels and rows that a cube sums side by side.
pub(super) const COLUMNS: u32 = 16;
pub(super) const ROWS: u32 = 16;

/// The sum of a cube's values in one column, by the unit that has it.
#[cube]
pub(super) fn of_column(values: &Shared<[f32]>) -> f32 {
    let mut sum = 0.0f32;
    for row in 0..ROWS {
        sum += values[(row * COLUMNS + UNIT_POS) as usize];
    }
    sum
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
        y[(CUBE_POS_Y * columns + column) as usize] = of_column(&shared);
    }
}

/// Images, rows and columns of a map, and its channels.
fn size(x: &CubeTensor) -> [usize; 4] {
    x.meta.shape()[..].try_into().expect("a map has four axes")
}

/// Rows and columns.
fn sides(x: &CubeTensor) -> [usize; 2] {
    x.meta.shape()[..].try_into().expect("rows have two axes")
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
        // About as many each time.
        let times = images.div_ceil((DOMAIN / (ELEMENTS * channels * tiles)).max(1));
        Self { images, tiles, at_once: images.div_ceil(times) }
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

    /// A convolution of `x` with filters in Winograd's domain.
    fn filtered(&self, x: &CubeTensor, filters: &CubeTensor, bias: Option<&CubeTensor>) -> CubeTensor {
        let [batch, height, width, input] = size(x);
        let output = channels(filters);
        let y = self.empty(&[batch, height, width, output], DType::F32);
        for part in Parts::new(size(x), input.max(output)).each() {
            let (first, tiles) = part;
            let (v, u) = (Matrices::rows(&self.spread(x, part, false), tiles, input), Matrices::rows(filters, input, output));
            let m = self.multiply(&v, &u, Size { batch: ELEMENTS, rows: tiles, depth: input, columns: output }, None, DType::F32);
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
            let v = Matrices::rows(&self.spread(x, part, false), tiles, input).transposed();
            let m = Matrices::rows(&self.spread(gradient, part, true), tiles, output);
            let u = self.multiply(&v, &m, Size { batch: ELEMENTS, rows: input, depth: tiles, columns: output }, None, DType::F32);
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
            );
            weight
        };
        let parts = Parts::new(size(x), input.max(output));
        let found = parts.each().map(of_part).reduce(|sum, part| self.add(&sum, &part, None));
        found.expect("a batch has images")
    }

    /// The products of two tensors' last two axes.
    fn products(&self, a: &Matrices, b: &Matrices, [n, heads, rows, depth, columns]: [usize; 5]) -> CubeTensor {
        let y = self.multiply(a, b, Size { batch: n * heads, rows, depth, columns }, None, DType::F32);
        reshape(y, [n, heads, rows, columns].into())
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
        let parts = (rows / 256).clamp(1, 1024);
        let sums = sum(x, rows, parts);
        reshape(if parts > 1 { sum(&sums, parts, 1) } else { sums }, [columns].into())
    }
}

/// A tensor's last two axes as matrices.
fn matrices(x: CubeTensor) -> Matrices {
    let whole = |x: CubeTensor| Matrices::of(&into_contiguous(x)).expect("rows of a tensor are in even steps");
    Matrices::of(&x).unwrap_or_else(|| whole(x))
}

/// The ways back. `bias`, and the weight of its own gradient, are there for their shapes.
#[backend_extension(Cube, Fusion)]
pub trait LayersBack: Backend {
    #[fusion(meta = |gradient, weight| with_channels(gradient, weight.shape[1]))]
    fn convolution_by_input(gradient: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self>;

    #[fusion(dtype = weight, shape = weight)]
    fn convolution_by_weight(x: FloatTensor<Self>, gradient: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self>;

    #[fusion(dtype = bias, shape = bias)]
    fn sums_by_column(gradient: FloatTensor<Self>, bias: FloatTensor<Self>) -> FloatTensor<Self>;

    #[fusion(meta = |x, affine, _, _| (x.clone(), affine.clone()))]
    fn norm_by_both(
        x: FloatTensor<Self>,
        affine: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        silu: bool,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    #[fusion(meta = |gain, offset, _| (gain.clone(), offset.clone()))]
    fn affine_by_both(
        gain: FloatTensor<Self>,
        offset: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    #[fusion(meta = |gain, offset, modulation, _| (gain.clone(), offset.clone(), modulation.clone()))]
    fn modulation_by_all(
        gain: FloatTensor<Self>,
        offset: FloatTensor<Self>,
        modulation: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);

    #[fusion(meta = |gradient, weight| with_channels(gradient, weight.shape[1]))]
    fn dense_by_input(gradient: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self>;

    #[fusion(dtype = weight, shape = weight)]
    fn dense_by_weight(x: FloatTensor<Self>, gradient: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self>;

    #[fusion(dtype = a, shape = a)]
    fn product_by_left(gradient: FloatTensor<Self>, b: FloatTensor<Self>, a: FloatTensor<Self>) -> FloatTensor<Self>;

    #[fusion(dtype = b, shape = b)]
    fn product_by_right(a: FloatTensor<Self>, gradient: FloatTensor<Self>, b: FloatTensor<Self>) -> FloatTensor<Self>;
}

impl TrainedLayers for CubeBackend {
    fn trained_convolution(x: CubeTensor, weight: CubeTensor, bias: CubeTensor) -> CubeTensor {
        let [x, weight, bias] = [x, weight, bias].map(into_contiguous);
        let on = Surface::of(&x, DType::F32);
        on.filtered(&x, &on.filters(&weight, false), Some(&bias))
    }

    fn trained_norm(x: CubeTensor, affine: CubeTensor, silu: bool) -> CubeTensor {
        let [x, affine] = [x, affine].map(into_contiguous);
        Surface::of(&x, DType::F32).normalised(&x, &affine, silu)
    }

    fn trained_dense(x: CubeTensor, weight: CubeTensor, bias: CubeTensor) -> CubeTensor {
        let (on, bias) = (Surface::of(&x, DType::F32), into_contiguous(bias));
        let ([rows, depth], columns) = (sides(&x), values(&bias));
        let size = Size { batch: 1, rows, depth, columns };
        let y = on.multiply(&matrices(x), &matrices(weight).transposed(), size, Some(&bias), DType::F32);
        reshape(y, [rows, columns].into())
    }

    fn trained_product(a: CubeTensor, b: CubeTensor) -> CubeTensor {
        let ([n, heads, rows, depth], [.., columns]) = (size(&a), size(&b));
        Surface::of(&a, DType::F32).products(&matrices(a), &matrices(b), [n, heads, rows, depth, columns])
    }
}

impl Affines for CubeBackend {
    fn trained_affine(gain: CubeTensor, offset: CubeTensor, images: usize) -> CubeTensor {
        Surface::of(&gain, DType::F32).affine(gain, offset, None, images)
    }

    fn trained_modulation(gain: CubeTensor, offset: CubeTensor, modulation: CubeTensor) -> CubeTensor {
        let images = modulation.meta.shape()[0];
        Surface::of(&gain, DType::F32).affine(gain, offset, Some(modulation), images)
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

    fn sums_by_column(gradient: CubeTensor, _bias: CubeTensor) -> CubeTensor {
        let gradient = into_contiguous(gradient);
        Surface::of(&gradient, DType::F32).totals(&gradient)
    }

    fn norm_by_both(x: CubeTensor, affine: CubeTensor, gradient: CubeTensor, silu: bool) -> (CubeTensor, CubeTensor) {
        let [x, affine, gradient] = [x, affine, gradient].map(into_contiguous);
        Surface::of(&x, DType::F32).normalised_back(&x, &affine, &gradient, silu)
    }

    fn affine_by_both(gain: CubeTensor, offset: CubeTensor, gradient: CubeTensor) -> (CubeTensor, CubeTensor) {
        let [by_gain, by_offset, _] = Surface::of(&gain, DType::F32).affine_back(gain, offset, None, gradient);
        (by_gain, by_offset)
    }

    fn modulation_by_all(
        gain: CubeTensor,
        offset: CubeTensor,
        modulation: CubeTensor,
        gradient: CubeTensor,
    ) -> (CubeTensor, CubeTensor, CubeTensor) {
        Surface::of(&gain, DType::F32).affine_back(gain, offset, Some(modulation), gradient).into()
    }

    fn dense_by_input(gradient: CubeTensor, weight: CubeTensor) -> CubeTensor {
        let on = Surface::of(&gradient, DType::F32);
        let ([rows, depth], [_, columns]) = (sides(&gradient), sides(&weight));
        let y = on.multiply(&matrices(gradient), &matrices(weight), Size { batch: 1, rows, depth, columns }, None, DType::F32);
        reshape(y, [rows, columns].into())
    }

    fn dense_by_weight(x: CubeTensor, gradient: CubeTensor, _weight: CubeTensor) -> CubeTensor {
        let on = Surface::of(&x, DType::F32);
        let ([depth, columns], [_, rows]) = (sides(&x), sides(&gradient));
        let y = on.multiply(&matrices(gradient).transposed(), &matrices(x), Size { batch: 1, rows, depth, columns }, None, DType::F32);
        reshape(y, [rows, columns].into())
    }

    fn product_by_left(gradient: CubeTensor, b: CubeTensor, _a: CubeTensor) -> CubeTensor {
        let ([n, heads, rows, depth], [_, _, columns, _]) = (size(&gradient), size(&b));
        let on = Surface::of(&gradient, DType::F32);
        on.products(&matrices(gradient), &matrices(b).transposed(), [n, heads, rows, depth, columns])
    }

    fn product_by_right(a: CubeTensor, gradient: CubeTensor, _b: CubeTensor) -> CubeTensor {
        let ([n, heads, depth, rows], [.., columns]) = (size(&a), size(&gradient));
        Surface::of(&a, DType::F32).products(&matrices(a).transposed(), &matrices(gradient), [n, heads, rows, depth, columns])
    }
}

type Lazy = FloatTensor<Cube>;

impl<C: CheckpointStrategy> TrainedLayers for Autodiff<Cube, C> {
    fn trained_convolution(x: FloatTensor<Self>, weight: FloatTensor<Self>, bias: FloatTensor<Self>) -> FloatTensor<Self> {
        CONVOLUTION.track::<C>(x, weight, bias)
    }

    fn trained_norm(x: FloatTensor<Self>, affine: FloatTensor<Self>, silu: bool) -> FloatTensor<Self> {
        let ((x, x_node), (affine, affine_node)) = (x.into_parts(), affine.into_parts());
        let out = Cube::trained_norm(x.clone(), affine.clone(), silu);
        match Norm.prepare::<C>([x_node, affine_node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(([x, affine], silu), out),
            OpsKind::UnTracked(prep) => prep.finish(out),
        }
    }

    fn trained_dense(x: FloatTensor<Self>, weight: FloatTensor<Self>, bias: FloatTensor<Self>) -> FloatTensor<Self> {
        DENSE.track::<C>(x, weight, bias)
    }

    fn trained_product(a: FloatTensor<Self>, b: FloatTensor<Self>) -> FloatTensor<Self> {
        let ((a, a_node), (b, b_node)) = (a.into_parts(), b.into_parts());
        let out = Cube::trained_product(a.clone(), b.clone());
        match Product.prepare::<C>([a_node, b_node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish([a, b], out),
            OpsKind::UnTracked(prep) => prep.finish(out),
        }
    }
}

/// A layer with a weight and a bias: forwards (input, weight, bias), and the gradients by its input (gradient, weight) and by its weight
/// (input, gradient, weight).
#[derive(Debug, Clone, Copy)]
struct Weighted {
    forwards: fn(Lazy, Lazy, Lazy) -> Lazy,
    by_input: fn(Lazy, Lazy) -> Lazy,
    by_weight: fn(Lazy, Lazy, Lazy) -> Lazy,
}

const CONVOLUTION: Weighted =
    Weighted { forwards: Cube::trained_convolution, by_input: Cube::convolution_by_input, by_weight: Cube::convolution_by_weight };

const DENSE: Weighted = Weighted { forwards: Cube::trained_dense, by_input: Cube::dense_by_input, by_weight: Cube::dense_by_weight };

impl Weighted {
    fn track<C: CheckpointStrategy>(
        self,
        x: FloatTensor<Autodiff<Cube, C>>,
        weight: FloatTensor<Autodiff<Cube, C>>,
        bias: FloatTensor<Autodiff<Cube, C>>,
    ) -> FloatTensor<Autodiff<Cube, C>> {
        let learns = weight.is_tracked();
        let ((x, x_node), (weight, weight_node), (bias, bias_node)) = (x.into_parts(), weight.into_parts(), bias.into_parts());
        let out = (self.forwards)(x.clone(), weight.clone(), bias.clone());
        match self.prepare::<C>([x_node, weight_node, bias_node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((learns.then_some(x), weight, bias), out),
            OpsKind::UnTracked(prep) => prep.finish(out),
        }
    }
}

impl Backward<Cube, 3> for Weighted {
    /// Input, where the weight learns, weight and bias.
    type State = (Option<Lazy>, Lazy, Lazy);

    fn backward(self, ops: Ops<Self::State, 3>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let gradient = gradients.consume::<Cube>(&ops.node);
        let (x, weight, bias) = ops.state;
        let [by_x, by_weight, by_bias] = ops.parents;
        if let Some(node) = by_x {
            gradients.register::<Cube>(node.id, (self.by_input)(gradient.clone(), weight.clone()));
        }
        if let (Some(node), Some(x)) = (by_weight, x) {
            gradients.register::<Cube>(node.id, (self.by_weight)(x, gradient.clone(), weight));
        }
        if let Some(node) = by_bias {
            gradients.register::<Cube>(node.id, Cube::sums_by_column(gradient, bias));
        }
    }
}

#[derive(Debug)]
struct Norm;

impl Backward<Cube, 2> for Norm {
    /// Input, scales and shifts, and whether there is SiLU.
    type State = ([Lazy; 2], bool);

    fn backward(self, ops: Ops<Self::State, 2>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let gradient = gradients.consume::<Cube>(&ops.node);
        let ([x, affine], silu) = ops.state;
        register(gradients, ops.parents.map(|node| Some(node?.id)), Cube::norm_by_both(x, affine, gradient, silu).into());
    }
}

impl<C: CheckpointStrategy> Affines for Autodiff<Cube, C> {
    fn trained_affine(gain: FloatTensor<Self>, offset: FloatTensor<Self>, images: usize) -> FloatTensor<Self> {
        let ((gain, gain_node), (offset, offset_node)) = (gain.into_parts(), offset.into_parts());
        let out = Cube::trained_affine(gain.clone(), offset.clone(), images);
        match Affine.prepare::<C>([gain_node, offset_node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish([gain, offset], out),
            OpsKind::UnTracked(prep) => prep.finish(out),
        }
    }

    fn trained_modulation(gain: FloatTensor<Self>, offset: FloatTensor<Self>, modulation: FloatTensor<Self>) -> FloatTensor<Self> {
        let ((gain, gain_node), (offset, offset_node), (modulation, node)) =
            (gain.into_parts(), offset.into_parts(), modulation.into_parts());
        let out = Cube::trained_modulation(gain.clone(), offset.clone(), modulation.clone());
        match Affine.prepare::<C>([gain_node, offset_node, node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish([gain, offset, modulation], out),
            OpsKind::UnTracked(prep) => prep.finish(out),
        }
    }
}

#[derive(Debug)]
struct Affine;

impl Backward<Cube, 2> for Affine {
    type State = [Lazy; 2];

    fn backward(self, ops: Ops<Self::State, 2>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let gradient = gradients.consume::<Cube>(&ops.node);
        let [gain, offset] = ops.state;
        register(gradients, ops.parents.map(|node| Some(node?.id)), Cube::affine_by_both(gain, offset, gradient).into());
    }
}

impl Backward<Cube, 3> for Affine {
    type State = [Lazy; 3];

    fn backward(self, ops: Ops<Self::State, 3>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let gradient = gradients.consume::<Cube>(&ops.node);
        let [gain, offset, modulation] = ops.state;
        register(gradients, ops.parents.map(|node| Some(node?.id)), Cube::modulation_by_all(gain, offset, modulation, gradient).into());
    }
}

/// Those that are wanted.
fn register<const N: usize>(gradients: &mut Gradients, nodes: [Option<NodeId>; N], found: [Lazy; N]) {
    for (node, found) in nodes.into_iter().zip(found) {
        if let Some(node) = node {
            gradients.register::<Cube>(node, found);
        }
    }
}

#[derive(Debug)]
struct Product;

impl Backward<Cube, 2> for Product {
    type State = [Lazy; 2];

    fn backward(self, ops: Ops<Self::State, 2>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let gradient = gradients.consume::<Cube>(&ops.node);
        let [a, b] = ops.state;
        let [by_a, by_b] = ops.parents;
        if let Some(node) = by_a {
            gradients.register::<Cube>(node.id, Cube::product_by_left(gradient.clone(), b.clone(), a.clone()));
        }
        if let Some(node) = by_b {
            gradients.register::<Cube>(node.id, Cube::product_by_right(a, gradient, b));
        }
    }
}
