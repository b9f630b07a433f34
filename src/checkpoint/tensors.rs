//! Safetensors files as [`Weights`], in f32 or f16.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use half::{bf16, f16};
use rayon::prelude::*;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::CheckpointError;
use crate::model::Weights;
use crate::model::parameters::WeightData;

/// Larger files than this are refused before they are read.
const MAX_BYTES: u64 = 8 << 30;

/// How weights are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    F16,
    F32,
}

impl Precision {
    /// A value as it is after it was stored.
    pub fn stored(self, value: f32) -> f32 {
        match self {
            Self::F16 => f16::from_f32(value).to_f32(),
            Self::F32 => value,
        }
    }
}

/// Reads every floating-point tensor of a safetensors file; also returns the file's SHA-256 as hexadecimal.
pub fn read(path: &Path) -> Result<(Weights, String), CheckpointError> {
    let size = std::fs::metadata(path).map_err(CheckpointError::io("open", path))?.len();
    if size > MAX_BYTES {
        return Err(CheckpointError::Unreadable { path: path.into(), reason: format!("it is {} GiB large", size >> 30) });
    }
    let bytes = std::fs::read(path).map_err(CheckpointError::io("read", path))?;
    std::thread::scope(|scope| {
        let sum = scope.spawn(|| hex(&Sha256::digest(&bytes)));
        let weights = from_bytes(&bytes, &path.display().to_string())?;
        Ok((weights, sum.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))))
    })
}

/// Every floating-point tensor of a safetensors file in memory; `origin` names it in messages.
pub fn from_bytes(bytes: &[u8], origin: &str) -> Result<Weights, CheckpointError> {
    let unreadable = |reason: String| CheckpointError::Unreadable { path: origin.into(), reason };
    let file = SafeTensors::deserialize(bytes).map_err(|e| unreadable(e.to_string()))?;
    let counts = |view: &TensorView| matches!(view.dtype(), Dtype::I64 | Dtype::I32 | Dtype::U8 | Dtype::BOOL);
    let views = file.tensors().into_iter().filter(|(_, view)| !counts(view));
    // All memory is this thread's: what others had taken would stay theirs for a while after it was let go.
    let mut read: Vec<_> = views.map(|(name, view)| (vec![0.0; view.data().len() / width(&view)], name, view)).collect();
    read.par_iter_mut().try_for_each(|(values, name, view)| {
        let refused = || unreadable(format!("tensor {name} is of type {:?}, not f16, bf16 or f32", view.dtype()));
        read_floats(view, values).ok_or_else(refused)
    })?;
    let tensors = read.into_iter().map(|(values, name, view)| (name, WeightData { shape: view.shape().to_vec(), values })).collect();
    Ok(Weights { origin: origin.to_owned(), tensors })
}

/// Bytes of one value.
fn width(view: &TensorView) -> usize {
    if view.dtype() == Dtype::F32 { 4 } else { 2 }
}

/// `None`: it is of a type that no weights are.
fn read_floats(view: &TensorView, to: &mut [f32]) -> Option<()> {
    fn each<const N: usize>(data: &[u8], to: &mut [f32], value: impl Fn([u8; N]) -> f32) {
        to.iter_mut().zip(data.as_chunks().0).for_each(|(to, bytes)| *to = value(*bytes));
    }
    match view.dtype() {
        Dtype::F32 => each(view.data(), to, f32::from_le_bytes),
        Dtype::F16 => each(view.data(), to, |bytes| f16::from_le_bytes(bytes).to_f32()),
        Dtype::BF16 => each(view.data(), to, |bytes| bf16::from_le_bytes(bytes).to_f32()),
        _ => return None,
    }
    Some(())
}

/// Writes tensors to a new file beside `path` and renames it; returns its SHA-256 as hexadecimal.
pub fn write(path: &Path, tensors: &BTreeMap<String, WeightData>, precision: Precision) -> Result<String, CheckpointError> {
    let encoded: Vec<(String, Vec<usize>, Vec<u8>)> = tensors
        .iter()
        .map(|(name, t)| {
            let bytes = match precision {
                Precision::F32 => t.values.iter().flat_map(|v| v.to_le_bytes()).collect(),
                Precision::F16 => t.values.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes()).collect(),
            };
            (name.clone(), t.shape.clone(), bytes)
        })
        .collect();
    let dtype = match precision {
        Precision::F32 => Dtype::F32,
        Precision::F16 => Dtype::F16,
    };
    let unwritable = |e: safetensors::SafeTensorError| CheckpointError::Unreadable { path: path.into(), reason: e.to_string() };
    let views = encoded
        .iter()
        .map(|(name, shape, bytes)| Ok((name.as_str(), TensorView::new(dtype, shape.clone(), bytes)?)))
        .collect::<Result<Vec<_>, _>>()
        .map_err(unwritable)?;
    let bytes = safetensors::serialize(views, None).map_err(unwritable)?;
    write_renamed(path, &bytes)?;
    Ok(hex(&Sha256::digest(&bytes)))
}

/// Writes bytes to `path`, replacing it in one go.
pub fn write_renamed(path: &Path, bytes: &[u8]) -> Result<(), CheckpointError> {
    crate::files::write_renamed(path, true, |file| file.write_all(bytes)).map_err(CheckpointError::io("write", path))
}

/// The SHA-256 of a file as hexadecimal.
pub fn sha256_of(path: &Path) -> Result<String, CheckpointError> {
    use std::io::Read;
    let mut file = std::fs::File::open(path).map_err(CheckpointError::io("open", path))?;
    let (mut hasher, mut buffer) = (Sha256::new(), vec![0; 1 << 20]);
    loop {
        match file.read(&mut buffer).map_err(CheckpointError::io("read", path))? {
            0 => return Ok(hex(&hasher.finalize())),
            n => hasher.update(&buffer[..n]),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
