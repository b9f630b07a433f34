//! Tensors on a card, and what starts kernels on them.

use std::sync::OnceLock;

use burn::backend::cubecl::dtype_to_storage_type;
use burn::tensor::DType;
use burn::tensor::ops::ConvOptions;
use burn_cubecl::CubeDevice;
use burn_cubecl::cubecl::calculate_cube_count_elemwise;
use burn_cubecl::cubecl::client::Client;
use burn_cubecl::cubecl::ir::ElemType;
use burn_cubecl::cubecl::prelude::{CubeCount, CubeDim};
use burn_cubecl::kernel::conv::{ConvStrategy, conv_forward_nhwc};
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::kernel::matmul::{MatmulStrategy, matmul};
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::ops::{permute, reshape};
use burn_cubecl::tensor::CubeTensor;
use half::{bf16, f16};

use super::kernels;
use super::product::{Matrices, Patches, Size};
use crate::model::layers::GROUPS;
use crate::model::prediction::{BLOCK, COARSE};

/// Where a pass runs, and what it multiplies in.
#[derive(Clone)]
pub struct Surface {
    pub(super) client: Client,
    pub(super) device: CubeDevice,
    pub(super) compute: DType,
}

/// A parameter: floats, until a pass first asks for them on its card, in the type that they are needed in there.
#[derive(Debug)]
pub struct Parameter {
    shape: Vec<usize>,
    /// As the bytes of that type.
    bytes: Vec<u8>,
    dtype: DType,
    uploaded: OnceLock<CubeTensor>,
}

impl Parameter {
    pub fn new(values: &[f32], shape: &[usize], dtype: DType) -> Self {
        assert_eq!(values.len(), shape.iter().product::<usize>());
        Self { shape: shape.to_vec(), bytes: bytes_of(values, dtype), dtype, uploaded: OnceLock::new() }
    }

    /// Of the last axis.
    pub fn width(&self) -> usize {
        self.shape.last().copied().unwrap_or_default()
    }

    fn on(&self, surface: &Surface) -> CubeTensor {
        self.uploaded.get_or_init(|| surface.upload(&self.bytes, &self.shape, self.dtype)).clone()
    }
}

fn bytes_of(values: &[f32], dtype: DType) -> Vec<u8> {
    match dtype {
        DType::F16 => values.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes()).collect(),
        DType::BF16 => values.iter().flat_map(|v| bf16::from_f32(*v).to_le_bytes()).collect(),
        _ => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
    }
}

/// A convolution with padding `kernel / 2`, in the type that the pass multiplies in.
#[derive(Debug)]
pub struct Convolution {
    /// `[output, kernel, kernel, input]`.
    pub weight: Parameter,
    pub bias: Parameter,
    pub kernel: usize,
    pub stride: usize,
}

/// A fully connected layer. Products are in the type of its weight, the bias is 32-bit.
#[derive(Debug)]
pub struct Dense {
    /// `[output, input]`.
    pub weight: Parameter,
    pub bias: Parameter,
}

/// Group norm.
#[derive(Debug)]
pub struct Norm {
    pub gain: Parameter,
    pub offset: Parameter,
}

/// The part of an embedding's modulations that is one block's: `[rows, all blocks']`, from a column on.
#[derive(Clone, Copy)]
pub struct Modulation<'a> {
    pub rows: &'a Rows,
    pub start: usize,
}

/// A row for each image, or one row for all.
#[derive(Debug, Clone)]
pub struct Rows {
    pub tensor: CubeTensor,
    pub first: usize,
    pub shared: bool,
}

impl Rows {
    pub fn width(&self) -> usize {
        self.tensor.meta.shape()[1]
    }

    /// Where the first image's values start, and how much further each next one's do.
    fn place(&self, column: usize) -> (u32, u32) {
        ((self.first * self.width() + column) as u32, if self.shared { 0 } else { self.width() as u32 })
    }
}

/// A network's output times a factor of its image's, with `skip` plus its input times the next, and with `fine_colour` plus its input's
/// fine colour ([`crate::model::fine_colour`]) times the one after.
#[derive(Clone, Copy)]
pub struct Mix<'a> {
    pub factors: &'a Rows,
    pub column: usize,
    pub skip: bool,
    /// With the basis of coarse colour.
    pub fine_colour: Option<&'a Parameter>,
}

pub(super) const EXPECT: &str = "the tensor library has a kernel for every shape";

impl Surface {
    pub fn of(tensor: &CubeTensor, compute: DType) -> Self {
        Self { client: tensor.client.clone(), device: tensor.device.clone(), compute }
    }

    pub fn upload(&self, bytes: &[u8], shape: &[usize], dtype: DType) -> CubeTensor {
        let handle = self.client.create_from_slice(bytes);
        CubeTensor::new_contiguous(self.client.clone(), self.device.clone(), shape.into(), handle, dtype)
    }

    pub fn upload_floats(&self, values: &[f32], shape: &[usize]) -> CubeTensor {
        self.upload(&bytes_of(values, DType::F32), shape, DType::F32)
    }

    pub fn empty(&self, shape: &[usize], dtype: DType) -> CubeTensor {
        empty_device_contiguous_dtype(self.client.clone(), self.device.clone(), shape.into(), dtype)
    }

    /// As many units as there are values.
    pub(super) fn for_each(&self, values: usize) -> (CubeCount, CubeDim) {
        let dim = CubeDim::new(&self.client, values);
        (calculate_cube_count_elemwise(&self.client, values, dim), dim)
    }

    /// Units of one cube for so many values: a power of two.
    pub(super) fn units(&self, values: usize) -> u32 {
        let most = self.client.properties().hardware.max_units_per_cube.min(256);
        (values.next_power_of_two() as u32).clamp(1, 1 << most.ilog2())
    }

    /// `x`: `[batch, side, side, channel]`, same out, in the type that products are in.
    pub fn norm(&self, norm: &Norm, x: &CubeTensor, modulations: &[Modulation], silu: bool) -> CubeTensor {
        let (batch, positions, channels) = extent(x);
        let y = self.empty(x.meta.shape(), self.compute);
        let per_group = channels / GROUPS;
        let units = self.units(positions * per_group / 4);
        let gain = norm.gain.on(self);
        let [time, latent] = [0, 1].map(|i| match modulations.get(i) {
            Some(part) => (part.rows.tensor.clone(), part.rows.place(part.start)),
            None => (gain.clone(), (0, 0)),
        });
        kernels::norm::launch(
            &self.client,
            CubeCount::Static((batch * GROUPS) as u32, 1, 1),
            CubeDim::new_1d(units),
            x.clone().into_buffer_arg(),
            gain.into_buffer_arg(),
            norm.offset.on(self).into_buffer_arg(),
            time.0.into_buffer_arg(),
            latent.0.into_buffer_arg(),
            y.clone().into_buffer_arg(),
            positions as u32,
            time.1.0,
            time.1.1,
            latent.1.0,
            latent.1.1,
            per_group as u32,
            modulations.len() as u32,
            silu,
            units,
            types([x.dtype, self.compute]),
        );
        y
    }

    /// Whether this is no card, but a program that does what one would.
    pub fn is_software(&self) -> bool {
        self.client.properties().identity.physical.is_none()
    }

    /// The library's convolution and product, where they are faster than our own: it has some for matrix units, if shaders reach these
    /// (in WGSL they never do); and a software rasteriser plays a cube's units one after the other, whose shared memory only costs time.
    fn of_library(&self) -> Option<(ConvStrategy, MatmulStrategy)> {
        let properties = self.client.properties();
        let matmul = &properties.features.matmul;
        if !matmul.cmma.is_empty() || !matmul.mma.is_empty() {
            Some((ConvStrategy::default(), MatmulStrategy::default()))
        } else if self.is_software() {
            // There is one of each to choose: it would look for what is known, for every shape and at every start.
            Some((ConvStrategy::Direct, MatmulStrategy::Cube))
        } else {
            None
        }
    }

    /// `x`: `[batch, side, side, input]` in the type that products are in, as is what comes out.
    pub fn convolve(&self, conv: &Convolution, x: CubeTensor) -> CubeTensor {
        let Some((strategy, _)) = self.of_library() else { return self.own_convolution(conv, x) };
        let options = ConvOptions::new([conv.stride; 2], [conv.kernel / 2; 2], [1, 1], 1);
        let (weight, bias) = (conv.weight.on(self), conv.bias.on(self));
        into_contiguous(conv_forward_nhwc::<2>(x, weight, Some(bias), options, strategy).expect(EXPECT))
    }

    fn own_convolution(&self, conv: &Convolution, x: CubeTensor) -> CubeTensor {
        let &[batch, side, _, channels] = &x.meta.shape()[..] else { unreachable!("a map has four axes") };
        let patches = Patches { side: side as u32, channels: channels as u32, kernel: conv.kernel as u32, stride: conv.stride as u32 };
        let (out, columns, depth) = (patches.out() as usize, conv.bias.width(), conv.kernel * conv.kernel * channels);
        let b = Matrices::rows(&conv.weight.on(self), columns, depth).transposed();
        let size = Size { batch: 1, rows: batch * out * out, depth, columns };
        let y = self.multiply(&Matrices::patches(&x, patches), &b, size, Some(&conv.bias.on(self)), self.compute);
        reshape(y, [batch, out, out, columns].into())
    }

    /// `x`: `[rows, input]` in the weight's type, as is what comes out: `[rows, output]`. Without the bias.
    pub fn product(&self, dense: &Dense, x: CubeTensor) -> CubeTensor {
        let Some((_, strategy)) = self.of_library() else { return self.own_product(dense, x) };
        let (weight, dtype) = (permute(dense.weight.on(self), &[1, 0]), x.dtype);
        into_contiguous(matmul(x, weight, None, strategy, dtype).expect(EXPECT))
    }

    fn own_product(&self, dense: &Dense, x: CubeTensor) -> CubeTensor {
        let &[rows, depth] = &x.meta.shape()[..] else { unreachable!("rows have two axes") };
        let columns = dense.bias.width();
        let b = Matrices::rows(&dense.weight.on(self), columns, depth).transposed();
        let y = self.multiply(&Matrices::rows(&x, rows, depth), &b, Size { batch: 1, rows, depth, columns }, None, x.dtype);
        reshape(y, [rows, columns].into())
    }

    /// The same with the bias, in 32 bits, and SiLU on request.
    pub fn dense(&self, dense: &Dense, x: CubeTensor, silu: bool) -> CubeTensor {
        let x = self.product(dense, x);
        self.finish(&x, Some(&dense.bias), silu, DType::F32)
    }

    /// A bias, or what stands in a kernel's place for one and is not read.
    fn or_nothing(&self, bias: Option<&Parameter>) -> CubeTensor {
        bias.map_or_else(|| self.empty(&[1], DType::F32), |bias| bias.on(self))
    }

    /// `x` in another type, with a bias by channel and SiLU on request.
    pub fn finish(&self, x: &CubeTensor, bias: Option<&Parameter>, silu: bool, dtype: DType) -> CubeTensor {
        let y = self.empty(x.meta.shape(), dtype);
        let (count, dim) = self.for_each(values(x));
        let bias_on_card = self.or_nothing(bias);
        kernels::finish::launch(
            &self.client,
            count,
            dim,
            x.clone().into_buffer_arg(),
            bias_on_card.into_buffer_arg(),
            y.clone().into_buffer_arg(),
            channels(x) as u32,
            bias.is_some(),
            silu,
            types([x.dtype, dtype]),
        );
        y
    }

    /// `x` in 32 bits.
    pub fn floats(&self, x: CubeTensor) -> CubeTensor {
        if x.dtype == DType::F32 { x } else { self.finish(&x, None, false, DType::F32) }
    }

    /// `x` in the type that products are in.
    pub fn narrowed(&self, x: &CubeTensor) -> CubeTensor {
        if x.dtype == self.compute { x.clone() } else { self.finish(x, None, false, self.compute) }
    }

    /// `x + h` in 32 bits, with a bias by channel.
    pub fn add(&self, x: &CubeTensor, h: &CubeTensor, bias: Option<&Parameter>) -> CubeTensor {
        let y = self.empty(x.meta.shape(), DType::F32);
        let (count, dim) = self.for_each(values(x));
        let bias_on_card = self.or_nothing(bias);
        kernels::add::launch(
            &self.client,
            count,
            dim,
            x.clone().into_buffer_arg(),
            h.clone().into_buffer_arg(),
            bias_on_card.into_buffer_arg(),
            y.clone().into_buffer_arg(),
            channels(x) as u32,
            bias.is_some(),
            types([x.dtype, h.dtype]),
        );
        y
    }

    /// 32-bit values of `from`, from its value `first` on, into all of `to`.
    pub fn copy(&self, from: &CubeTensor, first: usize, to: &CubeTensor) {
        let (count, dim) = self.for_each(values(to));
        kernels::copy::launch(&self.client, count, dim, from.clone().into_buffer_arg(), to.clone().into_buffer_arg(), first as u32);
    }

    /// Two 32-bit maps of one size as one with the channels of both.
    pub fn join(&self, a: &CubeTensor, b: &CubeTensor) -> CubeTensor {
        let mut shape = a.meta.shape().to_vec();
        let last = shape.len() - 1;
        shape[last] += channels(b);
        let y = self.empty(&shape, DType::F32);
        let (count, dim) = self.for_each(values(&y));
        kernels::join::launch(
            &self.client,
            count,
            dim,
            a.clone().into_buffer_arg(),
            b.clone().into_buffer_arg(),
            y.clone().into_buffer_arg(),
            channels(a) as u32,
            channels(b) as u32,
        );
        y
    }

    /// Twice the side of `[batch, side, side, channel]`, or half of it.
    pub fn resample(&self, x: &CubeTensor, up: bool) -> CubeTensor {
        let &[batch, side, _, channels] = &x.meta.shape()[..] else { unreachable!("a map has four axes") };
        let side = if up { 2 * side } else { side / 2 };
        let y = self.empty(&[batch, side, side, channels], x.dtype);
        let (count, dim) = self.for_each(values(&y));
        kernels::resample::launch(
            &self.client,
            count,
            dim,
            x.clone().into_buffer_arg(),
            y.clone().into_buffer_arg(),
            side as u32,
            channels as u32,
            up,
            types([x.dtype])[0],
        );
        y
    }

    /// `qkv`: `[batch * positions, 3 * channel]` without its bias; `[batch * positions, channel]` in the same type out.
    pub fn attention(&self, qkv: &CubeTensor, bias: &Parameter, batch: usize, heads: usize) -> CubeTensor {
        let rows = qkv.meta.shape()[0];
        let (positions, channels) = (rows / batch, channels(qkv) / 3);
        let y = self.empty(&[rows, channels], qkv.dtype);
        let units = self.units(positions.min(128));
        kernels::attention::launch(
            &self.client,
            CubeCount::Static(positions as u32, (batch * heads) as u32, 1),
            CubeDim::new_1d(units),
            qkv.clone().into_buffer_arg(),
            bias.on(self).into_buffer_arg(),
            y.clone().into_buffer_arg(),
            positions as u32,
            heads as u32,
            (channels / heads) as u32,
            units,
            types([qkv.dtype])[0],
        );
        y
    }

    /// Images `[batch, 3, size, size]` as maps of patches, in the type that products are in.
    pub fn fold(&self, x: &CubeTensor, patch: usize) -> CubeTensor {
        let &[batch, colours, size, _] = &x.meta.shape()[..] else { unreachable!("images have four axes") };
        let grid = size / patch;
        let y = self.empty(&[batch, grid, grid, colours * patch * patch], self.compute);
        let (count, dim) = self.for_each(values(x));
        kernels::fold::launch(
            &self.client,
            count,
            dim,
            x.clone().into_buffer_arg(),
            y.clone().into_buffer_arg(),
            size as u32,
            patch as u32,
            types([self.compute])[0],
        );
        y
    }

    fn coarse_colour(&self, x: &CubeTensor, basis: &Parameter) -> CubeTensor {
        let size = x.meta.shape()[3];
        let y = self.empty(&[values(x) / (BLOCK * BLOCK), COARSE], DType::F32);
        let (count, dim) = self.for_each(values(&y));
        let (x, basis) = (x.clone().into_buffer_arg(), basis.on(self).into_buffer_arg());
        kernels::coarse_colour::launch(&self.client, count, dim, x, basis, y.clone().into_buffer_arg(), size as u32);
        y
    }

    /// Maps of patches as images, mixed with `x`: into `y`, from its image `first_image` on.
    pub fn unfold(&self, head: &CubeTensor, x: &CubeTensor, mix: Mix, y: &CubeTensor, first_image: usize) {
        let &[_, colours, size, _] = &x.meta.shape()[..] else { unreachable!("images have four axes") };
        let patch = ((channels(head) / colours) as f64).sqrt().round() as usize;
        let (count, dim) = self.for_each(values(x));
        let (first, step) = mix.factors.place(mix.column);
        let factors = &mix.factors.tensor;
        let (coarse, basis) = match mix.fine_colour {
            Some(basis) => (self.coarse_colour(x, basis), basis.on(self)),
            None => (factors.clone(), factors.clone()),
        };
        kernels::unfold::launch(
            &self.client,
            count,
            dim,
            head.clone().into_buffer_arg(),
            x.clone().into_buffer_arg(),
            coarse.into_buffer_arg(),
            basis.into_buffer_arg(),
            factors.clone().into_buffer_arg(),
            y.clone().into_buffer_arg(),
            size as u32,
            (first_image * colours * size * size) as u32,
            first,
            step,
            patch as u32,
            mix.skip,
            mix.fine_colour.is_some(),
            types([head.dtype])[0],
        );
    }
}

/// As rows of channels.
pub fn flat(x: CubeTensor) -> CubeTensor {
    let (rows, width) = (values(&x) / channels(&x), channels(&x));
    reshape(x, [rows, width].into())
}

/// `[rows, channel]` in the shape of a map.
pub fn as_map(x: CubeTensor, like: &CubeTensor) -> CubeTensor {
    let mut shape = like.meta.shape().to_vec();
    let last = shape.len() - 1;
    shape[last] = channels(&x);
    reshape(x, shape.into())
}

pub(super) fn types<const N: usize>(dtypes: [DType; N]) -> [ElemType; N] {
    dtypes.map(dtype_to_storage_type)
}

pub(super) fn values(x: &CubeTensor) -> usize {
    x.meta.shape().iter().product()
}

pub(super) fn channels(x: &CubeTensor) -> usize {
    x.meta.shape().last().copied().unwrap_or_default()
}

/// Batch, positions of an image, channels.
pub(super) fn extent(x: &CubeTensor) -> (usize, usize, usize) {
    let batch = x.meta.shape()[0];
    (batch, values(x) / (batch * channels(x)), channels(x))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::device::DeviceChoice;
    use crate::model::prediction::coarse_basis;

    /// On the first card that wgpu finds.
    pub fn surface(compute: DType) -> Option<Surface> {
        DeviceChoice::Gpu.open().ok()?;
        let device = CubeDevice::default();
        Some(Surface { client: device.client(), device, compute })
    }

    fn noise(count: usize, step: usize) -> Vec<f32> {
        (0..count).map(|i| ((i * step % 1009) as f32 * 0.37).sin()).collect()
    }

    fn read(on: &Surface, x: &CubeTensor) -> Vec<f32> {
        let x = on.floats(x.clone());
        let bytes = on.client.read_one(x.handle).expect("values");
        bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
    }

    /// `|got - want| / |want|`, Euclidean.
    fn error(got: &[f32], want: &[f32]) -> f64 {
        assert_eq!(got.len(), want.len());
        let length = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
        length(&mut got.iter().zip(want).map(|(a, b)| f64::from(a - b))) / length(&mut want.iter().map(|v| f64::from(*v)))
    }

    #[test]
    fn fine_colour_is_that_of_the_tensor_library() {
        use burn::tensor::{Device, Tensor, TensorData};

        let Some(on) = surface(DType::F32) else {
            println!("SKIPPED fine_colour_is_that_of_the_tensor_library: wgpu finds no adapter on this machine");
            return;
        };
        let shape = [2, 3, 24, 24];
        let count = shape.iter().product();
        let (x, head) = (noise(count, 17), noise(count, 29));
        let basis = Parameter::new(&coarse_basis(), &[COARSE, BLOCK * BLOCK], DType::F32);
        // Nothing of the head, and of fine colour another share in each image.
        let shares = [1.0f32, -0.5];
        let factors: Vec<f32> = shares.iter().flat_map(|share| [0.0, 0.0, *share, 0.0]).collect();
        let factors = Rows { tensor: on.upload_floats(&factors, &[2, 4]), first: 0, shared: false };
        let (y, mix) = (on.empty(&shape, DType::F32), Mix { factors: &factors, column: 0, skip: true, fine_colour: Some(&basis) });
        on.unfold(&on.upload_floats(&head, &[2, 6, 6, 48]), &on.upload_floats(&x, &shape), mix, &y, 0);
        let want = crate::model::fine_colour(Tensor::<4>::from_data(TensorData::new(x, shape), &Device::flex()));
        let mut want: Vec<f32> = want.into_data().try_to_vec().expect("32-bit floats");
        want.chunks_exact_mut(count / 2).zip(shares).for_each(|(image, share)| image.iter_mut().for_each(|v| *v *= share));
        assert!(error(&read(&on, &y), &want) < 1e-5);
    }

    #[test]
    fn own_convolutions_and_products_agree_with_the_tensor_library() {
        for (compute, bound) in [(DType::F32, 1e-5), (DType::F16, 1e-2)] {
            let Some(on) = surface(compute) else {
                println!("SKIPPED own_convolutions_and_products_agree_with_the_tensor_library: wgpu finds no adapter on this machine");
                return;
            };
            let of_library = || on.of_library().unwrap_or((ConvStrategy::Direct, MatmulStrategy::Cube));
            for [batch, side, input, output, kernel, stride] in [
                // Few channels, in and out, and odd sides.
                [1, 9, 3, 40, 3, 1],
                [1, 8, 96, 12, 3, 1],
                // A depth in parts, and two images.
                [2, 8, 192, 64, 3, 1],
                [1, 32, 64, 64, 3, 1],
                [1, 16, 64, 128, 3, 2],
                [1, 7, 32, 48, 3, 2],
                [3, 4, 64, 32, 1, 1],
            ] {
                let parameter = |shape: &[usize], step| Parameter::new(&noise(shape.iter().product(), step), shape, compute);
                let layer =
                    Convolution { weight: parameter(&[output, kernel, kernel, input], 7), bias: parameter(&[output], 3), kernel, stride };
                let x = on.upload(&bytes_of(&noise(batch * side * side * input, 11), compute), &[batch, side, side, input], compute);
                let options = ConvOptions::new([stride; 2], [kernel / 2; 2], [1, 1], 1);
                let (weight, bias) = (layer.weight.on(&on), layer.bias.on(&on));
                let want = conv_forward_nhwc::<2>(x.clone(), weight, Some(bias), options, of_library().0).expect(EXPECT);
                let got = on.own_convolution(&layer, x);
                assert_eq!(got.meta.shape(), want.meta.shape());
                let error = error(&read(&on, &got), &read(&on, &into_contiguous(want)));
                assert!(error < bound, "{side} x {side}, {input} to {output}, kernel {kernel} / {stride}, {compute:?}: {error:.1e}");
            }
            for [rows, input, output] in [[1, 512, 256], [300, 33, 100], [64, 1152, 64]] {
                let dense = Dense {
                    weight: Parameter::new(&noise(output * input, 5), &[output, input], compute),
                    bias: Parameter::new(&vec![0.0; output], &[output], DType::F32),
                };
                let x = on.upload(&bytes_of(&noise(rows * input, 13), compute), &[rows, input], compute);
                let weight = permute(dense.weight.on(&on), &[1, 0]);
                let want = into_contiguous(matmul(x.clone(), weight, None, of_library().1, compute).expect(EXPECT));
                let error = error(&read(&on, &on.own_product(&dense, x)), &read(&on, &want));
                assert!(error < bound, "{rows} rows, {input} to {output}, {compute:?}: {error:.1e}");
            }
        }
    }

    #[test]
    fn every_plan_of_a_product_comes_to_the_same_and_one_is_chosen() {
        let Some(on) = surface(DType::F32) else {
            println!("SKIPPED every_plan_of_a_product_comes_to_the_same_and_one_is_chosen: wgpu finds no adapter on this machine");
            return;
        };
        // With the last, some parts of the depth have nothing to do.
        for [rows, depth, columns] in [[256, 320, 128], [130, 70, 65], [16, 1024, 40], [128, 1104, 128]] {
            let (a, b) = (
                on.upload_floats(&noise(rows * depth, 7), &[rows, depth]),
                on.upload_floats(&noise(depth * columns, 3), &[depth, columns]),
            );
            let (left, right) = (Matrices::rows(&a, rows, depth), Matrices::rows(&b, depth, columns));
            let size = Size { batch: 1, rows, depth, columns };
            let by = |plan| on.work_out(plan, &left, &right, size, None, DType::F32);
            let want = read(&on, &by(size.plan()));
            for plan in size.plans() {
                let error = error(&read(&on, &by(plan)), &want);
                assert!(error < 1e-6, "{size:?} by {plan:?}: {error:.1e}");
            }
            let chosen = on.fastest(size, |on, plan, starts| {
                for _ in 0..starts {
                    on.work_out(plan, &left, &right, size, None, DType::F32);
                }
            });
            assert!(chosen.is_some(), "time is taken everywhere");
        }
    }
}
