//! Semantic latents of a data set: encoded once, kept in a run folder, normalised.

use std::collections::BTreeMap;
use std::path::Path;

use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{ImageSet, RunFolder, TrainError};
use crate::checkpoint::Bundle;
use crate::checkpoint::tensors::{self, Precision};
use crate::model::parameters::WeightData;

/// Images encoded at once.
const ENCODE_BATCH: usize = 64;
/// A latent that never varies is divided by this, which half precision still holds.
const LEAST_STD: f32 = 1e-4;
/// The files of a run folder that keep latents: the second is written last and says what the first holds.
const KEPT: &str = "latents.safetensors";
const KEPT_FACTS: &str = "latents.json";
/// The one tensor in it.
const TENSOR: &str = "z";

/// Semantic latents of all images of a set, on the host.
#[derive(Debug, Clone, PartialEq)]
pub struct Latents {
    /// Length of one latent.
    pub dim: usize,
    /// `[image, latent]`, row-major.
    pub values: Vec<f32>,
}

/// Mean and standard deviation of each latent dimension.
#[derive(Debug, Clone, PartialEq)]
pub struct Statistics {
    pub mean: Vec<f32>,
    pub std: Vec<f32>,
}

/// What kept latents were made from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// SHA-256 of the encoder.
    pub encoder: String,
    /// Name of the folder or tar of images.
    pub data: String,
    pub images: usize,
    /// The first so many may be trained on.
    pub training: usize,
}

impl Latents {
    /// Number of latents.
    pub fn len(&self) -> usize {
        self.values.len() / self.dim.max(1)
    }

    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    pub(super) fn rows(&self, range: std::ops::Range<usize>) -> &[f32] {
        &self.values[range.start * self.dim..range.end * self.dim]
    }

    /// Mean and standard deviation over the first `count` latents.
    pub fn statistics(&self, count: usize) -> Statistics {
        let (mut sum, mut squares) = (vec![0.0f64; self.dim], vec![0.0f64; self.dim]);
        let rows = || self.rows(0..count).chunks_exact(self.dim);
        for row in rows() {
            sum.iter_mut().zip(row).for_each(|(sum, v)| *sum += f64::from(*v));
        }
        let mean: Vec<f64> = sum.iter().map(|sum| sum / count as f64).collect();
        for row in rows() {
            for ((square, v), mean) in squares.iter_mut().zip(row).zip(&mean) {
                *square += (f64::from(*v) - mean).powi(2);
            }
        }
        let std = squares.iter().map(|s| ((s / count.saturating_sub(1).max(1) as f64).sqrt() as f32).max(LEAST_STD)).collect();
        Statistics { mean: mean.into_iter().map(|v| v as f32).collect(), std }
    }

    /// `(z - mean) / std`.
    pub fn normalised(&self, statistics: &Statistics) -> Self {
        let Statistics { mean, std } = statistics;
        let values =
            self.values.chunks_exact(self.dim.max(1)).flat_map(|z| z.iter().zip(mean).zip(std).map(|((z, mean), std)| (z - mean) / std));
        Self { dim: self.dim, values: values.collect() }
    }
}

impl Statistics {
    /// Those that a bundle holds.
    pub fn of(bundle: &Bundle) -> Option<Self> {
        let values = |name: &str| bundle.weights.tensors.get(name).map(|tensor| tensor.values.clone());
        Some(Self { mean: values("latents.mean")?, std: values("latents.std")? })
    }

    /// Puts them into a bundle in memory.
    pub fn store(self, bundle: &mut Bundle) {
        for (name, values) in [("latents.mean", self.mean), ("latents.std", self.std)] {
            bundle.weights.tensors.insert(name.to_owned(), WeightData { shape: vec![values.len()], values });
        }
    }
}

/// SHA-256 of a bundle's encoder as hexadecimal. It stays the same while other parts are added to the bundle.
pub fn encoder_sha256(bundle: &Bundle) -> String {
    let mut hasher = Sha256::new();
    for (name, tensor) in bundle.weights.tensors.iter().filter(|(name, _)| name.starts_with("encoder.")) {
        hasher.update(name);
        tensor.values.iter().for_each(|value| hasher.update(value.to_le_bytes()));
    }
    hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The bundle as its folder holds it by now: other trainings may have put their parts into it since `bundle` was loaded. One with
/// another encoder is refused.
pub(super) fn loaded_again(bundle: &Bundle) -> Result<Bundle, TrainError> {
    let now = Bundle::load(&bundle.folder)?;
    if encoder_sha256(&now) != encoder_sha256(bundle) {
        return Err(TrainError::BundleChanged { path: bundle.folder.clone(), what: "encoder" });
    }
    Ok(now)
}

/// Encodes every image of a set by `encoder` (`[batch, 3, size, size]` in [-1, 1] to `[batch, latent]`). `tick` hears how many are done.
pub fn encode(encoder: impl Fn(Tensor<4>) -> Tensor<2>, data: &ImageSet, device: &Device, mut tick: impl FnMut(usize)) -> Latents {
    let mut latents = Latents { dim: 0, values: Vec::new() };
    let indices: Vec<usize> = (0..data.len()).collect();
    for chunk in indices.chunks(ENCODE_BATCH) {
        let z = encoder(data.images(chunk, device));
        latents.dim = z.dims()[1];
        latents.values.extend(z.into_data().convert::<f32>().try_to_vec::<f32>().unwrap_or_default());
        tick(latents.len());
    }
    latents
}

/// The latents that a run folder keeps, if it does.
pub fn kept(folder: &RunFolder) -> Result<Option<(Facts, Latents)>, TrainError> {
    let Some(facts) = folder.read_json::<Facts>(KEPT_FACTS)? else { return Ok(None) };
    let (mut file, _) = tensors::read(&folder.path().join(KEPT))?;
    match file.tensors.remove(TENSOR) {
        Some(WeightData { shape, values }) if shape.len() == 2 && shape[0] == facts.images && facts.training <= facts.images => {
            Ok(Some((facts, Latents { dim: shape[1], values })))
        }
        _ => Err(folder.damaged(format!("{KEPT} does not hold what {KEPT_FACTS} says"))),
    }
}

/// Keeps latents in a run folder.
pub fn keep(folder: &RunFolder, facts: &Facts, latents: &Latents) -> Result<(), TrainError> {
    let tensor = WeightData { shape: vec![latents.len(), latents.dim], values: latents.values.clone() };
    tensors::write(&folder.path().join(KEPT), &BTreeMap::from([(TENSOR.to_owned(), tensor)]), Precision::F32)?;
    folder.write_json(KEPT_FACTS, facts)
}

/// The name of a folder or file, without its place.
pub fn data_name(path: &Path) -> String {
    path.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned())
}
