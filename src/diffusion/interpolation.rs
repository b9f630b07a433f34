//! Mixing latents of two photos (paper, section 4.3).

use burn::tensor::Tensor;

/// `(1 - alpha) a + alpha b`: for semantic latents.
pub fn lerp<const D: usize>(a: Tensor<D>, b: Tensor<D>, alpha: f64) -> Tensor<D> {
    a * (1.0 - alpha) + b * alpha
}

/// Spherical interpolation over all elements: for stochastic latents, whose length must stay that of noise. Both `[1, ...]`.
pub fn slerp<const D: usize>(a: Tensor<D>, b: Tensor<D>, alpha: f64) -> Tensor<D> {
    let cosine = dot(&a, &b) / (dot(&a, &a) * dot(&b, &b)).sqrt();
    let theta = cosine.clamp(-1.0, 1.0).acos();
    if !theta.is_finite() || theta.sin().abs() < 1e-6 {
        return lerp(a, b, alpha);
    }
    a * (((1.0 - alpha) * theta).sin() / theta.sin()) + b * ((alpha * theta).sin() / theta.sin())
}

/// [`slerp`] between the inferred stochastic latents of two photos. They are only nearly noise: their variance is off by up to half,
/// which each photo's own decode undoes and a picture between them does not. So the way bends towards variance 1 in its middle; not
/// between a photo and itself.
pub fn slerp_inferred<const D: usize>(a: Tensor<D>, b: Tensor<D>, alpha: f64) -> Tensor<D> {
    let cosine = dot(&a, &b) / (dot(&a, &a) * dot(&b, &b)).sqrt();
    let bend = (std::f64::consts::PI * alpha).sin() * (1.0 - cosine).clamp(0.0, 1.0);
    let mixed = slerp(a, b, alpha);
    let deviation = (dot(&mixed, &mixed) / mixed.shape().num_elements() as f64).sqrt();
    if !bend.is_finite() || deviation < 1e-6 {
        return mixed;
    }
    mixed * (1.0 - bend + bend / deviation)
}

fn dot<const D: usize>(x: &Tensor<D>, y: &Tensor<D>) -> f64 {
    f64::from((x.clone() * y.clone()).sum().into_scalar::<f32>())
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Distribution};

    use super::*;

    fn noise(deviation: f64) -> Tensor<2> {
        Tensor::random([1, 4096], Distribution::Normal(0.0, deviation), &Device::flex())
    }

    fn deviation(x: Tensor<2>) -> f64 {
        (dot(&x, &x) / 4096.0).sqrt()
    }

    #[test]
    fn the_middle_between_two_photos_is_noise() {
        let (a, b) = (noise(0.7), noise(1.3));
        let between = |alpha| slerp_inferred(a.clone(), b.clone(), alpha);
        assert!((deviation(between(0.5)) - 1.0).abs() < 0.03, "but for the little that the two have in common");
        assert!(deviation(between(0.0) - a.clone()) < 1e-3 && deviation(between(1.0) - b.clone()) < 1e-3, "the ends are the photos' own");
        let own = slerp_inferred(a.clone(), a.clone(), 0.5);
        assert!(deviation(own - a.clone()) < 1e-3, "a photo and its edit share theirs");
        assert!(deviation(slerp_inferred(a.clone() * 0.0, a.clone() * 0.0, 0.5)) < 1e-12);
    }
}
