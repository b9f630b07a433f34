//! PyTorch checkpoints. The pickle inside is interpreted by `burn-store`'s reader, which knows tensors and containers and executes
//! nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use burn::store::pytorch_reader::{DType, PytorchReader, Tensor};
use half::{bf16, f16};

use super::CheckpointError;
use crate::model::Weights;
use crate::model::parameters::WeightData;

/// An opened checkpoint whose tensors are read only when asked for, so an optimiser state beside the weights costs nothing.
pub struct PytorchFile {
    path: std::path::PathBuf,
    reader: PytorchReader,
}

impl PytorchFile {
    pub fn open(path: &Path) -> Result<Self, CheckpointError> {
        let unreadable = |reason: String| CheckpointError::Unreadable { path: path.into(), reason };
        // The reader is a parser of hostile input that is not ours: a bug in it must not take the program down.
        let reader = std::panic::catch_unwind(|| PytorchReader::new(path))
            .map_err(|_| unreadable("its contents make no sense".into()))?
            .map_err(|e| unreadable(e.to_string()))?;
        Ok(Self { path: path.into(), reader })
    }

    /// The first parts of the dotted tensor names: the checkpoint's top-level keys.
    pub fn top_level_keys(&self) -> BTreeSet<String> {
        self.reader.keys().iter().map(|key| key.split('.').next().unwrap_or(key).to_owned()).collect()
    }

    /// All floating-point tensors whose name is `key` or starts with `key.`, under `prefix` instead.
    pub fn read(&self, key: &str, prefix: &str) -> Result<BTreeMap<String, WeightData>, CheckpointError> {
        let mut out = BTreeMap::new();
        for (name, tensor) in self.reader.tensors() {
            let rest = if name == key { "" } else { name.strip_prefix(key).and_then(|r| r.strip_prefix('.')).unwrap_or("\0") };
            if rest == "\0" {
                continue;
            }
            let target = if rest.is_empty() { prefix.to_owned() } else { format!("{prefix}.{rest}") };
            if let Some(values) = self.floats(name, tensor)? {
                out.insert(target, WeightData { shape: tensor.shape().to_vec(), values });
            }
        }
        Ok(out)
    }

    fn floats(&self, name: &str, tensor: &Tensor) -> Result<Option<Vec<f32>>, CheckpointError> {
        let bytes = tensor.read().map_err(|e| CheckpointError::Unreadable {
            path: self.path.clone(),
            reason: format!("the tensor {name} could not be read ({e})"),
        })?;
        let pairs = || bytes.as_chunks::<2>().0.iter();
        Ok(Some(match tensor.dtype() {
            DType::F32 => bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
            DType::F64 => bytes.as_chunks::<8>().0.iter().map(|b| f64::from_le_bytes(*b) as f32).collect(),
            DType::F16 => pairs().map(|b| f16::from_le_bytes(*b).to_f32()).collect(),
            DType::BF16 => pairs().map(|b| bf16::from_le_bytes(*b).to_f32()).collect(),
            _ => return Ok(None),
        }))
    }

    /// Reads into [`Weights`] that name this file in their errors.
    pub fn weights(&self, tensors: BTreeMap<String, WeightData>) -> Weights {
        Weights { origin: self.path.display().to_string(), tensors }
    }
}
