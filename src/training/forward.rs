//! The forward process on batches: images and noise to `x_t`.

use burn::tensor::Tensor;

use crate::diffusion::Schedule;
use crate::model::per_image;

/// `x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) noise`, one timestep an image; all `[batch, 3, size, size]`, `x_0` in [-1, 1].
pub fn noised(schedule: &Schedule, x_0: Tensor<4>, noise: Tensor<4>, t: &[usize]) -> Tensor<4> {
    let signal = per_image(&x_0, t, |t| schedule.forward_factors(t).0);
    let sigma = per_image(&x_0, t, |t| schedule.forward_factors(t).1);
    x_0 * signal + noise * sigma
}
