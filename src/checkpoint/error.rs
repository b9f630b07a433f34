//! What can be wrong with a checkpoint, in sentences that name the file and what to do.

use std::path::PathBuf;

use thiserror::Error;

use crate::model::ParameterError;

#[derive(Debug, Error)]
pub enum CheckpointError {
    #[error("could not {action} {path}: {source}", path = path.display())]
    Io { action: &'static str, path: PathBuf, source: std::io::Error },
    #[error("{path} is not a readable checkpoint: {reason}. It may be damaged or only partly downloaded; fetch it again", path = path.display())]
    Unreadable { path: PathBuf, reason: String },
    #[error(
        "{path} is not a model: {reason}. Choose a folder with manifest.json and model.safetensors; published checkpoints have to be \
         imported first (`pdae-studio import`, or Import a published model in the window)",
        path = path.display()
    )]
    NotAModel { path: PathBuf, reason: String },
    #[error("{path} is not the file that the bundle was made with (its SHA-256 differs). Copy the bundle again", path = path.display())]
    Checksum { path: PathBuf },
    #[error("{path}: {reason}", path = path.display())]
    Config { path: PathBuf, reason: String },
    #[error("{path} holds no {what}", path = path.display())]
    NotFound { path: PathBuf, what: String },
    #[error("{path} holds more than one {what}: {found}. Name a folder with just one", path = path.display())]
    Ambiguous { path: PathBuf, what: &'static str, found: String },
    #[error("{path} exists already. Choose another name or remove it first", path = path.display())]
    Exists { path: PathBuf },
    #[error(transparent)]
    Parameters(#[from] ParameterError),
}

impl CheckpointError {
    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }
}
