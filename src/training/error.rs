//! What can go wrong in training, in sentences that say what to do.

use std::path::PathBuf;

use thiserror::Error;

use crate::checkpoint::CheckpointError;
use crate::device::DeviceError;
use crate::model::ParameterError;

#[derive(Debug, Error)]
pub enum TrainError {
    #[error("could not {action} {path}: {source}", path = path.display())]
    Io { action: &'static str, path: PathBuf, source: std::io::Error },
    #[error("{path} is neither a folder nor a tar file with images", path = path.display())]
    NotImages { path: PathBuf },
    #[error(
        "{path} holds no image that could be read ({broken} damaged). Name a folder or a tar of JPEG, PNG, WebP, TIFF, BMP or GIF files",
        path = path.display()
    )]
    Empty { path: PathBuf, broken: usize },
    #[error("--validation {validation} leaves nothing to train on: the data set has only {images} images")]
    AllHeldBack { validation: usize, images: usize },
    #[error("{path}: {reason}", path = path.display())]
    Attributes { path: PathBuf, reason: String },
    #[error("these options do not make a model: {0}")]
    Config(String),
    #[error("{path} was started as {found}. Use another --run folder, or leave the network options away to go on with it", path = path.display())]
    OtherRun { path: PathBuf, found: String },
    #[error("{path} holds no training run that has been saved yet. Run `train dpm` first, or name another folder", path = path.display())]
    NoState { path: PathBuf },
    #[error("{path} is damaged: {reason}. Train into a fresh --run folder", path = path.display())]
    Damaged { path: PathBuf, reason: String },
    #[error("a pre-trained DPM is needed: name the folder of a `train dpm` run or a bundle with --dpm")]
    NoDpm,
    #[error("{path} keeps no latents yet: name the photos with --data once", path = path.display())]
    NoLatents { path: PathBuf },
    #[error("{path} has no sliders to try: fit them first, with `train directions`", path = path.display())]
    NoSliders { path: PathBuf },
    #[error("{path} got another {what} while this was trained, and was left as it is. Train again, so that both fit", path = path.display())]
    BundleChanged { path: PathBuf, what: &'static str },
    #[error("{name:?} is none of the attributes. There are: {known}")]
    UnknownAttribute { name: String, known: String },
    #[error("this device does not compute in bfloat16: leave --bf16 away, or use --device cuda or cpu")]
    NoBfloat16,
    #[error("say how long to train: --steps N, --minutes M, or both")]
    NoLimit,
    #[error("the loss is no longer a number at step {step}. {kept}. Start again from there with a smaller --rate")]
    NotFinite { step: u64, kept: String },
    #[error("the device failed at step {step}: {reason}. {kept}. Run the same command to go on; if memory ran out, with a smaller --batch")]
    Failed { step: u64, reason: String, kept: String },
    #[error("{path} names none of the training images in its image column (the first is {first})", path = path.display())]
    NoLabels { path: PathBuf, first: String },
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    #[error(transparent)]
    Parameters(#[from] ParameterError),
    #[error(transparent)]
    Device(#[from] DeviceError),
}

impl TrainError {
    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }
}
