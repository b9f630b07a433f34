//! How the way from one face to another is divided into pictures.

use serde::{Deserialize, Serialize};

/// Evenly, or slowly at both ends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Easing {
    #[default]
    Linear,
    Smooth,
}

impl Easing {
    /// Shares of the way for so many pictures (at least 2), from 0 to 1.
    pub fn shares(self, pictures: usize) -> impl Iterator<Item = f64> {
        let pictures = pictures.max(2);
        (0..pictures).map(move |i| {
            let t = i as f64 / (pictures - 1) as f64;
            match self {
                Self::Linear => t,
                Self::Smooth => t * t * (3.0 - 2.0 * t),
            }
        })
    }
}

/// There and back again, neither end twice, so that a repeated animation has no jump.
pub fn ping_pong<T: Clone>(pictures: &[T]) -> Vec<T> {
    let inner = pictures.get(1..pictures.len().saturating_sub(1)).unwrap_or_default();
    pictures.iter().chain(inner.iter().rev()).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_are_reached() {
        for easing in [Easing::Linear, Easing::Smooth] {
            let shares: Vec<f64> = easing.shares(5).collect();
            assert_eq!((shares[0], shares[2], shares[4]), (0.0, 0.5, 1.0), "{easing:?}");
            assert!(shares.windows(2).all(|w| w[0] < w[1]), "{easing:?}");
        }
        let (linear, smooth): (Vec<_>, Vec<_>) = (Easing::Linear.shares(9).collect(), Easing::Smooth.shares(9).collect());
        assert!(smooth[1] < linear[1], "smooth starts slowly");
    }

    #[test]
    fn the_way_back_repeats_neither_end() {
        assert_eq!(ping_pong(&[1, 2, 3, 4]), [1, 2, 3, 4, 3, 2]);
        assert_eq!(ping_pong(&[1, 2]), [1, 2]);
        assert!(ping_pong::<u8>(&[]).is_empty());
    }
}
