//! How alike two pictures are: mean squared error and structural similarity.

/// A picture as planes, `[3, size, size]`, values in [0, 1].
#[derive(Debug, Clone, PartialEq)]
pub struct Planes {
    pub size: usize,
    pub values: Vec<f64>,
}

/// Side of SSIM's window and the standard deviation of its weights, in pixels, as published.
const WINDOW: usize = 11;
const SIGMA: f64 = 1.5;
/// What keeps SSIM's quotients from nothing over nothing, for values in [0, 1].
const C1: f64 = 0.01 * 0.01;
const C2: f64 = 0.03 * 0.03;

impl Planes {
    /// From values in [-1, 1] as a model gives them; what lies outside is cut off, as on a screen.
    pub fn from_model(values: &[f32], size: usize) -> Self {
        Self { size, values: values.iter().map(|v| (f64::from(*v).clamp(-1.0, 1.0) + 1.0) / 2.0).collect() }
    }

    fn channels(&self) -> std::slice::ChunksExact<'_, f64> {
        self.values.chunks_exact(self.size * self.size)
    }
}

/// Mean squared error of two pictures of one size.
pub fn mse(a: &Planes, b: &Planes) -> f64 {
    a.values.iter().zip(&b.values).map(|(a, b)| (a - b).powi(2)).sum::<f64>() / a.values.len() as f64
}

/// Peak signal-to-noise ratio in decibels: 10 log10(1 / MSE). Infinite for equal pictures.
pub fn psnr(a: &Planes, b: &Planes) -> f64 {
    -10.0 * mse(a, b).log10()
}

/// Mean structural similarity (Wang et al., 2004) of two pictures of one size, at least 11 pixels wide: Gaussian windows of 11 x 11
/// that lie wholly inside, each colour on its own. 1 = equal.
///
/// The similarity crates measure something else (windows of 8 x 8 side by side, or scales and colours of their own), whose figures
/// could not be held against published ones.
pub fn ssim(a: &Planes, b: &Planes) -> f64 {
    let channels = a.channels().zip(b.channels()).map(|(a_plane, b_plane)| ssim_plane(a_plane, b_plane, a.size));
    channels.sum::<f64>() / 3.0
}

fn ssim_plane(a: &[f64], b: &[f64], size: usize) -> f64 {
    let product = |x: &[f64], y: &[f64]| -> Vec<f64> { x.iter().zip(y).map(|(x, y)| x * y).collect() };
    let local = |values: &[f64]| local_means(values, size);
    let (mean_a, mean_b) = (local(a), local(b));
    let (squares_a, squares_b, products) = (local(&product(a, a)), local(&product(b, b)), local(&product(a, b)));
    let similarity = |i: usize| {
        let (ma, mb) = (mean_a[i], mean_b[i]);
        let (va, vb, covariance) = (squares_a[i] - ma * ma, squares_b[i] - mb * mb, products[i] - ma * mb);
        (2.0 * ma * mb + C1) * (2.0 * covariance + C2) / ((ma * ma + mb * mb + C1) * (va + vb + C2))
    };
    (0..mean_a.len()).map(similarity).sum::<f64>() / mean_a.len() as f64
}

/// Gaussian means of every window inside a `size x size` plane, rows first and then columns.
fn local_means(values: &[f64], size: usize) -> Vec<f64> {
    let weights = window();
    let inside = size + 1 - WINDOW;
    let mean = |values: &mut dyn Iterator<Item = f64>| values.zip(weights).map(|(value, weight)| value * weight).sum::<f64>();
    let along_rows: Vec<f64> = values
        .chunks_exact(size)
        .flat_map(|row| row.windows(WINDOW).map(|window| mean(&mut window.iter().copied())).collect::<Vec<_>>())
        .collect();
    let column = |x: usize, y: usize| mean(&mut (y..y + WINDOW).map(|y| along_rows[y * inside + x]));
    (0..inside * inside).map(|i| column(i % inside, i / inside)).collect()
}

fn window() -> [f64; WINDOW] {
    let centre = (WINDOW / 2) as f64;
    let weights: [f64; WINDOW] = std::array::from_fn(|i| (-(i as f64 - centre).powi(2) / (2.0 * SIGMA * SIGMA)).exp());
    let sum: f64 = weights.iter().sum();
    weights.map(|weight| weight / sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(value: impl Fn(usize, usize, usize) -> usize) -> Planes {
        let size = 24;
        let at = |i: usize| (value(i % size, i / size % size, i / (size * size)) % 64) as f64 / 63.0;
        Planes { size, values: (0..3 * size * size).map(at).collect() }
    }

    /// Against scikit-image 0.26: `structural_similarity(a, b, channel_axis=2, gaussian_weights=True, sigma=1.5,
    /// use_sample_covariance=False, data_range=1)`.
    #[test]
    fn ssim_agrees_with_scikit_image() {
        let coarse = pattern(|x, y, c| x * 7 + y * 13 + c * 29);
        let broken = pattern(|x, y, c| x * 7 + y * 13 + c * 29 + x * y % 17);
        let smooth = pattern(|x, y, c| x * 2 + y + c * 5);
        let rough = pattern(|x, y, c| x * 2 + y + c * 5 + (x + y) % 3);
        let inverse = Planes { size: 24, values: coarse.values.iter().map(|v| 1.0 - v).collect() };
        for (a, b, similarity, error) in [
            (&coarse, &broken, 0.441_676_898_828_5, 0.094_360_343_588_7),
            (&smooth, &rough, 0.936_375_917_135_8, 0.011_188_563_216_7),
            (&coarse, &inverse, -0.982_604_754_658_2, 0.343_710_049_177_4),
        ] {
            assert!((ssim(a, b) - similarity).abs() < 1e-9, "{} is not {similarity}", ssim(a, b));
            assert!((mse(a, b) - error).abs() < 1e-12, "{} is not {error}", mse(a, b));
        }
        assert!((ssim(&coarse, &coarse) - 1.0).abs() < 1e-12);
    }

    #[test]
    fn what_a_screen_cannot_show_does_not_count() {
        let (a, b) = (Planes::from_model(&[1.7, -3.0, 0.0], 1), Planes::from_model(&[1.0, -1.0, 0.0], 1));
        assert_eq!(a, b);
        assert_eq!(a.values, [1.0, 0.0, 0.5]);
    }
}
