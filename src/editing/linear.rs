//! Small linear systems, in the plainest way.

/// What a pivot is at least, squared: rounding must not make one vanish. The ridges of those who call are far above it.
const LEAST_PIVOT: f64 = 1e-8;

/// The lower factor of a symmetric positive definite matrix, row-major, in its place, zeros above.
pub(crate) fn cholesky(mut a: Vec<f64>, dim: usize) -> Vec<f64> {
    for i in 0..dim {
        let (above, row) = a.split_at_mut(i * dim);
        for j in 0..i {
            let other = &above[j * dim..j * dim + j + 1];
            let dot: f64 = row[..j].iter().zip(other).map(|(a, b)| a * b).sum();
            row[j] = (row[j] - dot) / other[j];
        }
        let dot: f64 = row[..i].iter().map(|v| v * v).sum();
        row[i] = (row[i] - dot).max(LEAST_PIVOT).sqrt();
        row[i + 1..dim].fill(0.0);
    }
    a
}

/// Solves `L L^T x = b`.
pub(crate) fn solve(factor: &[f64], b: Vec<f64>) -> Vec<f64> {
    let (dim, mut b) = (b.len(), solve_lower(factor, b));
    for i in (0..dim).rev() {
        let dot: f64 = (i + 1..dim).map(|j| factor[j * dim + i] * b[j]).sum();
        b[i] = (b[i] - dot) / factor[i * dim + i];
    }
    b
}

/// Solves `L x = b`.
pub(crate) fn solve_lower(factor: &[f64], mut b: Vec<f64>) -> Vec<f64> {
    let dim = b.len();
    for i in 0..dim {
        let dot: f64 = factor[i * dim..i * dim + i].iter().zip(&b).map(|(l, x)| l * x).sum();
        b[i] = (b[i] - dot) / factor[i * dim + i];
    }
    b
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn linear_systems_are_solved() {
        let (dim, n) = (5, 40);
        let z: Vec<f64> = (0..n * dim).map(|i| (i as f64 * 1.7).sin()).collect();
        let mut a = vec![0.0; dim * dim];
        for (i, row) in a.chunks_exact_mut(dim).enumerate() {
            row.iter_mut().enumerate().for_each(|(j, v)| *v = z.chunks_exact(dim).map(|z| z[i] * z[j]).sum::<f64>());
            row[i] += 0.5;
        }
        let x: Vec<f64> = (0..dim).map(|i| i as f64 - 1.5).collect();
        let b = a.chunks_exact(dim).map(|row| row.iter().zip(&x).map(|(a, x)| a * x).sum()).collect();
        let factor = cholesky(a, dim);
        let lower: Vec<f64> = factor.chunks_exact(dim).map(|row| row.iter().zip(&x).map(|(l, x)| l * x).sum()).collect();
        let half = solve_lower(&factor, lower);
        assert!(half.iter().zip(&x).all(|(a, b)| (a - b).abs() < 1e-9), "{half:?}");
        let solved = solve(&factor, b);
        assert!(solved.iter().zip(&x).all(|(a, b)| (a - b).abs() < 1e-9), "{solved:?}");
    }
}
