//! How good a bundle is, in one table: what it rebuilds, what its latents know, what its edits do and what they leave alone.
//!
//! Rebuilding a photo through its inferred `x_T` proves the sampler and hardly the model: almost any network does it. What `z` alone
//! rebuilds, the linear probe and the edits prove the model. Goals are the paper's own figures where it gives any.
//!
//! Everything is measured on the last images of a data set, which training leaves out, and from a seed: the same call gives the same
//! table.

pub mod agreement;
pub mod drawing;
pub mod edits;
pub mod gap;
pub mod lpips;
pub mod probe;
pub mod reconstruction;
pub mod sheet;
pub mod similarity;
pub mod table;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use burn::tensor::Device;
use thiserror::Error;

use crate::checkpoint::{Bundle, CheckpointError};
use crate::editing::LatentSpace;
use crate::engine::edit::EditError;
use crate::model::Autoencoder;
use crate::photo::{ExportError, PhotoError};
use crate::training::data::AttributeTable;
use crate::training::judge::{self, Judge, JudgeConfig};
use crate::training::{ImageSet, TrainError};

pub use table::{Goal, Line, Table};

/// Images that go through a chain at once.
const BATCH: usize = 8;

#[derive(Debug, Error)]
pub enum EvaluationError {
    #[error("{part} needs {what}")]
    Needs { part: &'static str, what: &'static str },
    #[error("the bundle and the judge have none of the attributes {0} in common")]
    NoCommonAttribute(String),
    #[error("{path} names none of the last {images} images of the data set", path = path.display())]
    NoLabels { path: PathBuf, images: usize },
    #[error("this model has no slider called {name:?}. It has: {known}")]
    UnknownSlider { name: String, known: String },
    #[error("could not write {path}: {source}. Check that its folder exists and that you may write there", path = path.display())]
    Unwritable { path: PathBuf, source: std::io::Error },
    #[error("the drawing failed: {0}")]
    Drawing(String),
    #[error(transparent)]
    Train(#[from] TrainError),
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    #[error(transparent)]
    Edit(#[from] EditError),
    #[error(transparent)]
    Photo(#[from] PhotoError),
    #[error(transparent)]
    Export(#[from] ExportError),
}

/// The parts of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// Through the inferred `x_T`.
    Reconstruction,
    /// From `z` and random `x_T`.
    LatentOnly,
    /// The linear probe on `z`.
    Probe,
    /// What the judge says of edits.
    Edits,
    /// The posterior-mean gap by timestep.
    Gap,
    /// How well few steps agree with a hundred.
    Agreement,
}

impl Part {
    pub const ALL: [Self; 6] = [Self::Reconstruction, Self::LatentOnly, Self::Probe, Self::Edits, Self::Gap, Self::Agreement];
}

/// What is evaluated, on what, and how thoroughly.
#[derive(Debug, Clone)]
pub struct EvaluationJob {
    pub bundle: PathBuf,
    /// Folder or tar of images, framed as in training.
    pub data: PathBuf,
    /// CSV table; the probe and the edits need it.
    pub attributes: Option<PathBuf>,
    /// Folder of a `train judge` run; the edits need it.
    pub judge: Option<PathBuf>,
    /// Weights of [`lpips::Lpips`], which the rows on reconstruction then have too.
    pub lpips: Option<PathBuf>,
    pub parts: BTreeSet<Part>,
    /// The last so many images are those that nothing was trained on.
    pub validation: usize,
    /// Images that go through each chain, and faces that each attribute is edited on.
    pub count: usize,
    /// Denoising steps, one reconstruction row each. From `z` alone takes the most, edits take the fewest.
    pub steps: Vec<usize>,
    pub edits: edits::EditOptions,
    /// Of noise.
    pub seed: u64,
}

/// The table, and the curve behind its rows on the gap.
#[derive(Debug)]
pub struct Evaluation {
    pub table: Table,
    pub gap: Option<gap::GapCurve>,
}

impl Evaluation {
    /// The table with the curve beside it.
    pub fn to_json(&self) -> String {
        let mut json = serde_json::to_value(&self.table).unwrap_or_default();
        if let (Some(fields), Some(gap)) = (json.as_object_mut(), &self.gap) {
            fields.insert("gap".into(), serde_json::to_value(gap).unwrap_or_default());
        }
        serde_json::to_string_pretty(&json).unwrap_or_default() + "\n"
    }
}

/// A bundle on a device with the images it is judged on.
pub struct Subject<'a> {
    pub model: Autoencoder,
    pub space: LatentSpace,
    pub images: ImageSet,
    pub labels: Option<AttributeTable>,
    pub judge: Option<(JudgeConfig, Judge)>,
    pub lpips: Option<lpips::Lpips>,
    pub job: &'a EvaluationJob,
    /// Hears what is being done.
    pub tell: &'a dyn Fn(String),
}

/// Measures everything that the job asks for.
pub fn evaluate(job: &EvaluationJob, device: &Device, tell: &dyn Fn(String)) -> Result<Evaluation, EvaluationError> {
    let subject = Subject::load(job, device, tell)?;
    let mut lines = Vec::new();
    let mut gap = None;
    for part in &job.parts {
        match part {
            Part::Reconstruction => lines.extend(reconstruction::through_inferred_noise(&subject)?),
            Part::LatentOnly => lines.extend(reconstruction::from_latents_alone(&subject)?),
            Part::Probe => lines.extend(probe::measure(&subject)?),
            Part::Edits => lines.extend(edits::measure(&subject)?),
            Part::Agreement => lines.extend(agreement::measure(&subject)?),
            Part::Gap => {
                let curve = gap::measure(&subject)?;
                lines.extend(curve.lines());
                gap = Some(curve);
            }
        }
    }
    let manifest = Bundle::read_manifest(&job.bundle)?;
    let table = Table {
        model: manifest.name,
        weights: manifest.weights.sha256,
        data: crate::training::latents::data_name(&job.data),
        validation: subject.images.len(),
        seed: job.seed,
        lines,
    };
    Ok(Evaluation { table, gap })
}

impl<'a> Subject<'a> {
    fn load(job: &'a EvaluationJob, device: &Device, tell: &'a dyn Fn(String)) -> Result<Self, EvaluationError> {
        check(job)?;
        let bundle = Bundle::load(&job.bundle)?;
        let labels = job.attributes.as_deref().map(AttributeTable::load).transpose()?;
        let judge = job.judge.as_deref().map(|path| judge::load(path, device)).transpose()?;
        let lpips = job.lpips.as_deref().map(|path| lpips::Lpips::load(path, device)).transpose()?;
        tell("reading the images".into());
        let images = ImageSet::load_last(&job.data, bundle.manifest.config.image_size, job.validation)?;
        Ok(Self { model: bundle.build_for_use(device)?, space: bundle.latent_space(), images, labels, judge, lpips, job, tell })
    }

    /// The first images of those kept for validation, at most as many as the job's count, in batches of a few.
    fn batches(&self) -> Vec<Vec<usize>> {
        let indices: Vec<usize> = (0..self.images.len().min(self.job.count)).collect();
        indices.chunks(BATCH).map(<[usize]>::to_vec).collect()
    }

    fn attributes_file(&self) -> &Path {
        self.job.attributes.as_deref().unwrap_or(Path::new("the table"))
    }
}

/// What is missing is said before an hour of measuring.
fn check(job: &EvaluationJob) -> Result<(), EvaluationError> {
    let needs = |part, what| Err(EvaluationError::Needs { part, what });
    if job.parts.contains(&Part::Probe) && job.attributes.is_none() {
        return needs("the linear probe", "a table of attributes: name it with --attributes, or leave the row `probe` out");
    }
    if job.parts.contains(&Part::Edits) && (job.judge.is_none() || job.attributes.is_none()) {
        return needs(
            "the judgement of edits",
            "the run of a `train judge` (--judge) and a table of attributes (--attributes); or leave the row `edits` out",
        );
    }
    Ok(())
}
