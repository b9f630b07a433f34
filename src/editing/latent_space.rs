//! Directions in the space of semantic latents (paper, section 4.4).

/// The published scale of an edit at 100 percent.
pub const FULL_SCALE: f32 = 0.3;

/// Latent statistics and the attribute classifier of a bundle.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LatentSpace {
    /// Mean of each latent dimension over the training set.
    pub mean: Vec<f32>,
    /// Standard deviation of each latent dimension over the training set.
    pub std: Vec<f32>,
    /// Names of the classifier's rows.
    pub attributes: Vec<String>,
    /// One row an attribute, on normalised latents.
    pub classifier: Vec<Vec<f32>>,
}

impl LatentSpace {
    /// The unit vector along which an attribute grows, in normalised latents.
    pub fn direction(&self, attribute: &str) -> Option<Vec<f32>> {
        let row = &self.classifier[self.attributes.iter().position(|name| name == attribute)?];
        let length = row.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
        (length > 0.0).then(|| row.iter().map(|v| (f64::from(*v) / length) as f32).collect())
    }

    /// `(z - mean) / std`.
    pub fn normalise(&self, z: &[f32]) -> Vec<f32> {
        z.iter().zip(&self.mean).zip(&self.std).map(|((z, mean), std)| (z - mean) / std).collect()
    }

    /// The inverse of [`LatentSpace::normalise`].
    pub fn denormalise(&self, z_n: &[f32]) -> Vec<f32> {
        z_n.iter().zip(&self.mean).zip(&self.std).map(|((z, mean), std)| z * std + mean).collect()
    }

    /// The latent after an edit: `z_n + s * sqrt(latent_dim) * direction` for every slider, `s` = 0.3 at 100 percent.
    /// Attributes that this space does not know are left out; a latent without sliders comes back unchanged.
    pub fn edit<'a>(&self, z: &[f32], sliders: impl IntoIterator<Item = (&'a String, &'a f32)>) -> Vec<f32> {
        let mut sliders = sliders.into_iter().filter(|(_, percent)| **percent != 0.0).peekable();
        if sliders.peek().is_none() {
            return z.to_vec();
        }
        let mut z_n = self.normalise(z);
        let root = (z.len() as f32).sqrt();
        for (attribute, percent) in sliders {
            let Some(direction) = self.direction(attribute) else { continue };
            let scale = percent / 100.0 * FULL_SCALE * root;
            for (value, d) in z_n.iter_mut().zip(direction) {
                *value += scale * d;
            }
        }
        self.denormalise(&z_n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn space() -> LatentSpace {
        LatentSpace {
            mean: vec![1.0, 2.0, 3.0, 4.0],
            std: vec![2.0, 1.0, 0.5, 1.0],
            attributes: vec!["Smiling".into(), "Young".into()],
            classifier: vec![vec![3.0, 4.0, 0.0, 0.0], vec![0.0, 0.0, 2.0, 0.0]],
        }
    }

    #[test]
    fn a_full_slider_moves_by_the_published_scale() {
        let z = vec![1.0, 2.0, 3.0, 4.0];
        let edited = space().edit(&z, [(&"Smiling".to_owned(), &100.0)]);
        // direction (0.6, 0.8, 0, 0), sqrt(4) = 2, scale 0.3, times std.
        let want = [1.0 + 0.3 * 2.0 * 0.6 * 2.0, 2.0 + 0.3 * 2.0 * 0.8, 3.0, 4.0];
        assert!(edited.iter().zip(want).all(|(a, b): (&f32, f32)| (a - b).abs() < 1e-5), "{edited:?}");
    }

    #[test]
    fn no_slider_is_the_identity_to_the_bit() {
        let z = vec![0.1, 0.2, 0.3, 0.7];
        assert_eq!(space().edit(&z, [(&"Smiling".to_owned(), &0.0)]), z);
        assert_eq!(space().edit(&z, []), z);
    }
}
