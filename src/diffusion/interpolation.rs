//! Mixing latents of two photos (paper, section 4.3).

use burn::tensor::Tensor;

/// `(1 - alpha) a + alpha b`: for semantic latents.
pub fn lerp<const D: usize>(a: Tensor<D>, b: Tensor<D>, alpha: f64) -> Tensor<D> {
    a * (1.0 - alpha) + b * alpha
}

/// Spherical interpolation over all elements: for stochastic latents, whose length must stay that of noise. Both `[1, ...]`.
pub fn slerp<const D: usize>(a: Tensor<D>, b: Tensor<D>, alpha: f64) -> Tensor<D> {
    let dot = |x: &Tensor<D>, y: &Tensor<D>| -> f64 { f64::from((x.clone() * y.clone()).sum().into_scalar::<f32>()) };
    let cosine = dot(&a, &b) / (dot(&a, &a) * dot(&b, &b)).sqrt();
    let theta = cosine.clamp(-1.0, 1.0).acos();
    if !theta.is_finite() || theta.sin().abs() < 1e-6 {
        return lerp(a, b, alpha);
    }
    a * (((1.0 - alpha) * theta).sin() / theta.sin()) + b * ((alpha * theta).sin() / theta.sin())
}
