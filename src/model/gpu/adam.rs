//! Adam's step on a graphics card: see [`crate::training::adam`].

// The kernel compiler's macro makes functions of more arguments than it is given.
#![allow(clippy::too_many_arguments)]

use burn::tensor::DType;
use burn_cubecl::CubeBackend;
use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;

use super::kernels::of_cube;
use super::surface::{Surface, values};
use crate::training::adam::{AdamOps, SUMS, Step};

/// As [`Step::of`]. The weight goes to a new place, for a network still holds the old one; what is kept of it is written over. With the
/// library's own buffer these are the eight that WebGPU promises.
#[cube(launch)]
fn step(
    weight: &[f32],
    to: &mut [f32],
    first: &mut [f32],
    second: &mut [f32],
    average: &mut [f32],
    gradient: &[f32],
    factor: &[f32],
    first_stays: f32,
    first_counts: f32,
    second_stays: f32,
    second_counts: f32,
    average_stays: f32,
    average_counts: f32,
    kept: f32,
    rate: f32,
    epsilon: f32,
) {
    let i = ABSOLUTE_POS;
    if i < to.len() {
        let slope = gradient[i] * factor[0usize];
        let m = first[i] * first_stays + slope * first_counts;
        let v = second[i] * second_stays + slope * slope * second_counts;
        let new = weight[i] * kept - rate * m / (v.sqrt() + epsilon);
        first[i] = m;
        second[i] = v;
        to[i] = new;
        average[i] = average[i] * average_stays + new * average_counts;
    }
}

/// A unit's sum of squares, of values as far apart as there are units.
#[cube]
fn of_unit(x: &[f32], count: u32, #[comptime] units: u32) -> f32 {
    let mut sum = 0.0f32;
    let mut i = CUBE_POS_X * units + UNIT_POS;
    // Not the buffer's length, which CUDA's is rounded up in.
    while i < count {
        sum += x[i as usize] * x[i as usize];
        i += comptime!(units * SUMS as u32);
    }
    sum
}

/// A sum for each cube, added to what was there.
#[cube(launch)]
fn squares(x: &[f32], before: &[f32], after: &mut [f32], count: u32, #[comptime] units: u32) {
    let mut shared = Shared::<[f32]>::new_slice(comptime!(units as usize));
    let sum = of_cube(&mut shared, of_unit(x, count, units), units, false);
    if UNIT_POS == 0 {
        after[CUBE_POS_X as usize] = before[CUBE_POS_X as usize] + sum;
    }
}

/// The same of several.
#[cube(launch)]
fn squares_of_five(
    a: &[f32],
    b: &[f32],
    c: &[f32],
    d: &[f32],
    e: &[f32],
    before: &[f32],
    after: &mut [f32],
    of_a: u32,
    of_b: u32,
    of_c: u32,
    of_d: u32,
    of_e: u32,
    #[comptime] units: u32,
) {
    let mut shared = Shared::<[f32]>::new_slice(comptime!(units as usize));
    let mut sum = of_unit(a, of_a, units);
    sum += of_unit(b, of_b, units);
    sum += of_unit(c, of_c, units);
    sum += of_unit(d, of_d, units);
    sum += of_unit(e, of_e, units);
    let sum = of_cube(&mut shared, sum, units, false);
    if UNIT_POS == 0 {
        after[CUBE_POS_X as usize] = before[CUBE_POS_X as usize] + sum;
    }
}

/// Row by row, and nobody else's.
fn own(tensor: CubeTensor) -> CubeTensor {
    let tensor = into_contiguous(tensor);
    if tensor.can_mut() {
        return tensor;
    }
    let on = Surface::of(&tensor, DType::F32);
    let own = on.empty(tensor.meta.shape(), DType::F32);
    on.copy(&tensor, 0, &own);
    own
}

impl AdamOps for CubeBackend {
    fn add_squares(sums: CubeTensor, gradient: CubeTensor) -> CubeTensor {
        let [sums, gradient] = [sums, gradient].map(into_contiguous);
        let on = Surface::of(&gradient, DType::F32);
        let after = on.empty(&[SUMS], DType::F32);
        let units = on.units(values(&gradient).div_ceil(SUMS));
        squares::launch(
            &on.client,
            CubeCount::Static(SUMS as u32, 1, 1),
            CubeDim::new_1d(units),
            gradient.clone().into_buffer_arg(),
            sums.into_buffer_arg(),
            after.clone().into_buffer_arg(),
            values(&gradient) as u32,
            units,
        );
        after
    }

    fn add_squares_of_five(sums: CubeTensor, a: CubeTensor, b: CubeTensor, c: CubeTensor, d: CubeTensor, e: CubeTensor) -> CubeTensor {
        let ([a, b, c, d, e], sums) = ([a, b, c, d, e].map(into_contiguous), into_contiguous(sums));
        let on = Surface::of(&sums, DType::F32);
        let after = on.empty(&[SUMS], DType::F32);
        let counts = [&a, &b, &c, &d, &e].map(|tensor| values(tensor) as u32);
        let [of_a, of_b, of_c, of_d, of_e] = counts;
        let units = on.units((counts.into_iter().max().unwrap_or_default() as usize).div_ceil(SUMS));
        squares_of_five::launch(
            &on.client,
            CubeCount::Static(SUMS as u32, 1, 1),
            CubeDim::new_1d(units),
            a.into_buffer_arg(),
            b.into_buffer_arg(),
            c.into_buffer_arg(),
            d.into_buffer_arg(),
            e.into_buffer_arg(),
            sums.into_buffer_arg(),
            after.clone().into_buffer_arg(),
            of_a,
            of_b,
            of_c,
            of_d,
            of_e,
            units,
        );
        after
    }

    fn adam_step(
        weight: CubeTensor,
        first: CubeTensor,
        second: CubeTensor,
        average: CubeTensor,
        gradient: CubeTensor,
        factor: CubeTensor,
        by: Step,
    ) -> (CubeTensor, CubeTensor, CubeTensor, CubeTensor) {
        let [weight, gradient, factor] = [weight, gradient, factor].map(into_contiguous);
        let [first, second, average] = [first, second, average].map(own);
        debug_assert!([&weight, &first, &second, &average, &gradient].iter().all(|tensor| tensor.dtype == DType::F32));
        let on = Surface::of(&weight, DType::F32);
        let to = on.empty(weight.meta.shape(), DType::F32);
        let (count, dim) = on.for_each(values(&to));
        step::launch(
            &on.client,
            count,
            dim,
            weight.into_buffer_arg(),
            to.clone().into_buffer_arg(),
            first.clone().into_buffer_arg(),
            second.clone().into_buffer_arg(),
            average.clone().into_buffer_arg(),
            gradient.into_buffer_arg(),
            factor.into_buffer_arg(),
            by.first[0],
            by.first[1],
            by.second[0],
            by.second[1],
            by.average[0],
            by.average[1],
            by.kept,
            by.rate,
            by.epsilon,
        );
        (to, first, second, average)
    }
}
