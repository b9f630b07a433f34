//! The recipe: everything that turns a photo into an edited one, and nothing else. It can be saved and applied again.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::diffusion::{Inversion, Solver};

/// A whole edit. It always starts from the original latents, never from another edit, so nothing drifts and undo is exact.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Recipe {
    /// Attribute name (as in the bundle) to slider value in percent; 100 is the published scale 0.3. Zeros are left out.
    pub sliders: BTreeMap<String, f32>,
    /// Attributes that sliders of others leave as they are.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub locked: BTreeSet<String>,
    /// Denoising steps of the final decode.
    pub steps: usize,
    /// How the decode takes its steps.
    #[serde(default = "published_solver")]
    pub solver: Solver,
    /// How the photo's stochastic latent is inferred.
    #[serde(default = "published_inversion")]
    pub inversion: Inversion,
    /// Factor on the learned mean shift; 1 = as trained.
    pub guidance: f64,
    /// Share of the decode, at its end, that is left to the plain DPM (0 to 1).
    pub stop_percent: f64,
    /// Whether what is behind the person stays as it is in the photo, wherever the model would change it. Recipes that were saved before
    /// there was a choice change it.
    #[serde(default)]
    pub keep_background: bool,
    /// Share of fresh noise in the stochastic latent, mixed spherically: 0 is the photo's own, 1 keeps nothing of it.
    #[serde(skip_serializing_if = "is_zero")]
    pub fresh_noise: f64,
    /// Which fresh noise.
    #[serde(skip_serializing_if = "is_first")]
    pub noise_seed: u64,
}

fn is_zero(share: &f64) -> bool {
    *share == 0.0
}

fn is_first(seed: &u64) -> bool {
    *seed == 0
}

impl Default for Recipe {
    fn default() -> Self {
        Self {
            sliders: BTreeMap::new(),
            locked: BTreeSet::new(),
            steps: Self::DEFAULT_STEPS,
            solver: Solver::default(),
            inversion: Inversion::default(),
            guidance: 1.0,
            stop_percent: 0.0,
            keep_background: true,
            fresh_noise: 0.0,
            noise_seed: 0,
        }
    }
}

/// Recipes that were saved before there was a choice.
fn published_solver() -> Solver {
    Solver::Ddim
}

fn published_inversion() -> Inversion {
    Inversion::Explicit
}

impl Recipe {
    /// Enough for an edit that is hard to tell from the same one in a hundred steps (48 dB on average, see `benches/README.md`).
    pub const DEFAULT_STEPS: usize = 8;
    /// Fewest steps in which a photo's stochastic latent is inferred, unless a recipe says otherwise. Reading happens once and in the background,
    /// so that it need not be as short as what follows every release of a slider.
    pub const INVERSION_STEPS: usize = 20;
    /// Most steps that a schedule of 1000 timesteps can be cut into.
    pub const MAX_STEPS: usize = 999;
    /// Farthest that a slider can be set, in percent, in either direction.
    pub const MAX_PERCENT: f32 = 1000.0;

    /// In how many steps to read a photo whose edit is decoded in `steps`.
    pub fn inversion_steps(steps: usize) -> usize {
        steps.max(Self::INVERSION_STEPS)
    }

    /// The slider of an attribute, in percent; 0 where it was not touched.
    pub fn slider(&self, attribute: &str) -> f32 {
        self.sliders.get(attribute).copied().unwrap_or(0.0)
    }

    /// Sets a slider in percent. 0 removes it, so that an untouched recipe and a reset one are equal.
    pub fn set_slider(&mut self, attribute: &str, percent: f32) {
        if percent == 0.0 || !percent.is_finite() {
            self.sliders.remove(attribute);
        } else {
            self.sliders.insert(attribute.to_owned(), percent);
        }
    }

    /// Whether it changes the photo: any slider off zero, or fresh noise.
    pub fn is_changed(&self) -> bool {
        !self.sliders.is_empty() || self.fresh_noise != 0.0
    }
}
