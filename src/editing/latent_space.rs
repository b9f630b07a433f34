//! Directions in the space of semantic latents (paper, section 4.4).

use std::collections::BTreeSet;

use super::Locks;

/// The published scale of an edit at 100 percent.
pub const FULL_SCALE: f32 = 0.3;

/// Latent statistics and the attribute classifier of a bundle.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LatentSpace {
    /// Mean of each latent dimension over the training set.
    pub mean: Vec<f32>,
    /// Standard deviation of each latent dimension over the training set.
    pub std: Vec<f32>,
    /// Names of the rows below.
    pub attributes: Vec<String>,
    /// What tells an attribute: one row each, on normalised latents.
    pub classifier: Vec<Vec<f32>>,
    /// What changes an attribute: one row each, of any length. In published checkpoints the classifier's own rows.
    pub directions: Vec<Vec<f32>>,
    /// What 100 percent of each attribute is, as a multiple of [`FULL_SCALE`]; 1 where there is none, as in published checkpoints.
    pub strength: Vec<f32>,
    /// What locks follow instead of the classifier, where somebody looked at pictures.
    pub locks: Option<Locks>,
}

impl LatentSpace {
    /// The unit vector along which an attribute grows, in normalised latents.
    pub fn direction(&self, attribute: &str) -> Option<Vec<f32>> {
        unit(&self.directions[self.row(attribute)?].iter().map(|v| f64::from(*v)).collect::<Vec<_>>())
    }

    /// Where a slider leads at 100 percent: a step in normalised latents, 0.3 times the square root of their number times the attribute's
    /// strength along its direction.
    ///
    /// Attributes in `locked` are to stay as they are. By [`LatentSpace::locks`] where there are any; or else the step is left without
    /// what the classifier would take for a change of them, its part that is orthogonal to their rows, at the length that is left (a
    /// direction that is mostly made of them moves little). The attribute itself cannot be locked against its own slider.
    pub fn step(&self, attribute: &str, locked: &BTreeSet<String>) -> Option<Vec<f64>> {
        let direction = self.direction(attribute)?;
        let own = self.row(attribute)?;
        let strength = self.strength.get(own).copied().unwrap_or(1.0);
        let length = f64::from(FULL_SCALE * strength) * (direction.len() as f64).sqrt();
        let step: Vec<f64> = direction.iter().map(|v| f64::from(*v) * length).collect();
        let locked: Vec<usize> = locked.iter().filter_map(|name| self.row(name)).filter(|row| *row != own).collect();
        Some(match &self.locks {
            _ if locked.is_empty() => step,
            Some(locks) => locks.apply(own, step, &locked),
            None => self.without_rows(step, &locked),
        })
    }

    /// The part of a step that is orthogonal to the classifier's rows of these attributes.
    fn without_rows(&self, mut step: Vec<f64>, locked: &[usize]) -> Vec<f64> {
        // Gram-Schmidt: an orthonormal basis of the locked rows, which are few.
        let mut basis: Vec<Vec<f64>> = Vec::new();
        for row in locked.iter().filter_map(|row| self.classifier.get(*row)) {
            let mut row: Vec<f64> = row.iter().map(|v| f64::from(*v)).collect();
            let length = dot(&row, &row).sqrt();
            basis.iter().for_each(|b| remove(&mut row, b));
            let left = dot(&row, &row).sqrt();
            // A row that the others already span would add nothing but rounding.
            if left > 1e-6 * length {
                row.iter_mut().for_each(|v| *v /= left);
                basis.push(row);
            }
        }
        basis.iter().for_each(|b| remove(&mut step, b));
        step
    }

    fn row(&self, attribute: &str) -> Option<usize> {
        self.attributes.iter().position(|name| name == attribute)
    }

    /// `(z - mean) / std`.
    pub fn normalise(&self, z: &[f32]) -> Vec<f32> {
        z.iter().zip(&self.mean).zip(&self.std).map(|((z, mean), std)| (z - mean) / std).collect()
    }

    /// The inverse of [`LatentSpace::normalise`].
    pub fn denormalise(&self, z_n: &[f32]) -> Vec<f32> {
        z_n.iter().zip(&self.mean).zip(&self.std).map(|((z, mean), std)| z * std + mean).collect()
    }

    /// The latent after an edit: every slider's share of its step, see [`LatentSpace::step`], on normalised latents.
    /// Attributes that this space does not know are left out; a latent without sliders comes back unchanged. `locked` attributes
    /// stay as they are.
    pub fn edit<'a>(&self, z: &[f32], sliders: impl IntoIterator<Item = (&'a String, &'a f32)>, locked: &BTreeSet<String>) -> Vec<f32> {
        let mut sliders = sliders.into_iter().filter(|(_, percent)| **percent != 0.0).peekable();
        if sliders.peek().is_none() {
            return z.to_vec();
        }
        let mut z_n = self.normalise(z);
        for (attribute, percent) in sliders {
            let Some(step) = self.step(attribute, locked) else { continue };
            let share = f64::from(*percent) / 100.0;
            z_n.iter_mut().zip(step).for_each(|(value, step)| *value += (share * step) as f32);
        }
        self.denormalise(&z_n)
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Takes the part along the unit vector `b` out of `a`.
fn remove(a: &mut [f64], b: &[f64]) {
    let along = dot(a, b);
    a.iter_mut().zip(b).for_each(|(a, b)| *a -= along * b);
}

fn unit(row: &[f64]) -> Option<Vec<f32>> {
    let length = dot(row, row).sqrt();
    (length > 0.0).then(|| row.iter().map(|v| (v / length) as f32).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nothing() -> BTreeSet<String> {
        BTreeSet::new()
    }

    fn space() -> LatentSpace {
        LatentSpace {
            mean: vec![1.0, 2.0, 3.0, 4.0],
            std: vec![2.0, 1.0, 0.5, 1.0],
            attributes: vec!["Smiling".into(), "Young".into()],
            classifier: vec![vec![3.0, 4.0, 0.0, 0.0], vec![0.0, 0.0, 2.0, 0.0]],
            directions: vec![vec![3.0, 4.0, 0.0, 0.0], vec![0.0, 0.0, 2.0, 0.0]],
            strength: vec![],
            locks: None,
        }
    }

    #[test]
    fn a_full_slider_moves_by_the_published_scale() {
        let z = vec![1.0, 2.0, 3.0, 4.0];
        let edited = space().edit(&z, [(&"Smiling".to_owned(), &100.0)], &nothing());
        // direction (0.6, 0.8, 0, 0), sqrt(4) = 2, scale 0.3, times std.
        let want = [1.0 + 0.3 * 2.0 * 0.6 * 2.0, 2.0 + 0.3 * 2.0 * 0.8, 3.0, 4.0];
        assert!(edited.iter().zip(want).all(|(a, b): (&f32, f32)| (a - b).abs() < 1e-5), "{edited:?}");
        let stronger = LatentSpace { strength: vec![1.5, 1.0], ..space() };
        let edited = |space: &LatentSpace, percent: f32| space.edit(&z, [(&"Smiling".to_owned(), &percent)], &nothing());
        let (stronger, further) = (edited(&stronger, 100.0), edited(&space(), 150.0));
        assert!(stronger.iter().zip(&further).all(|(a, b)| (a - b).abs() < 1e-5), "{stronger:?} {further:?}");
    }

    #[test]
    fn a_locked_attribute_stays() {
        let mut space = space();
        space.directions[0] = vec![3.0, 0.0, 4.0, 0.0];
        let z = vec![1.0, 2.0, 3.0, 4.0];
        let smile = [(&"Smiling".to_owned(), &100.0f32)];
        let logit = |z: &[f32], row: usize| space.normalise(z).iter().zip(&space.classifier[row]).map(|(z, w)| z * w).sum::<f32>();
        let [free, locked, own] = [vec![], vec!["Young", "nobody knows"], vec!["Smiling"]]
            .map(|names| space.edit(&z, smile, &names.into_iter().map(str::to_owned).collect()));
        assert!(logit(&free, 1) > 0.5);
        assert!(logit(&locked, 1).abs() < 1e-6, "{}", logit(&locked, 1));
        assert!((logit(&locked, 0) - logit(&free, 0)).abs() < 1e-6, "the smile itself is the same");
        assert_eq!(own, free, "a slider is not locked against itself");
    }

    #[test]
    fn an_edit_locked_against_all_others_moves_none_of_them() {
        let dim = 16;
        // Of the square, or all rows would lie in the one plane that a sine and its cosine span.
        let row = |i: usize| -> Vec<f32> { (0..dim).map(|d| (((i * dim + d) as f32).powi(2) * 0.37).sin()).collect() };
        let names: Vec<String> = (0..9).map(|i| format!("a{i}")).collect();
        // One row twice: what is spanned already must not break the rest.
        let classifier: Vec<Vec<f32>> = (0..9).map(|i| row(if i == 8 { 7 } else { i })).collect();
        let directions = (20..29).map(row).collect();
        let space = LatentSpace {
            mean: vec![0.0; dim],
            std: vec![1.0; dim],
            attributes: names.clone(),
            classifier,
            directions,
            strength: vec![],
            locks: None,
        };
        let moves = |edited: &[f32], row: &[f32]| edited.iter().zip(row).map(|(z, w)| z * w).sum::<f32>();
        let edit = |locked: &BTreeSet<String>| space.edit(&vec![0.0; dim], [(&names[0], &100.0)], locked);
        let (free, locked) = (edit(&nothing()), edit(&names.iter().cloned().collect()));
        assert!(space.classifier[1..].iter().all(|row| moves(&locked, row).abs() < 1e-4));
        assert!(space.classifier[1..].iter().any(|row| moves(&free, row).abs() > 0.1), "there was something to lock");
        assert!(locked.iter().any(|v| v.abs() > 0.05), "something is left of the edit");
    }

    #[test]
    fn no_slider_is_the_identity_to_the_bit() {
        let z = vec![0.1, 0.2, 0.3, 0.7];
        assert_eq!(space().edit(&z, [(&"Smiling".to_owned(), &0.0)], &nothing()), z);
        assert_eq!(space().edit(&z, [], &nothing()), z);
    }
}
