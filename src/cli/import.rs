//! `import`: published checkpoints to a bundle.

use std::path::PathBuf;

use clap::Args;
use thiserror::Error;

use crate::checkpoint::CheckpointError;
use crate::checkpoint::import::{ImportOptions, import};
use crate::checkpoint::tensors::Precision;
use crate::files;

#[derive(Debug, Args)]
pub struct ImportArgs {
    /// Folder with the downloaded files; the parts may lie anywhere below it.
    folder: PathBuf,
    /// Folder of the new bundle.
    #[arg(short, long, value_name = "BUNDLE")]
    output: PathBuf,
    /// The model's name.
    #[arg(long)]
    name: Option<String>,
    /// Keep 32-bit weights (twice the size; 16-bit ones are as good for editing).
    #[arg(long)]
    f32: bool,
    /// Licence of the weights, for the model's card.
    #[arg(long)]
    licence: Option<String>,
    /// A sentence on where the weights come from, for the model's card.
    #[arg(long)]
    source: Option<String>,
    /// Replace BUNDLE if it exists.
    #[arg(long)]
    overwrite: bool,
}

#[derive(Debug, Error)]
pub enum ImportError {
    #[error("{path} exists already. Choose another name, or replace it with --overwrite", path = .0.display())]
    Exists(PathBuf),
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
}

pub fn run(args: &ImportArgs) -> Result<(), ImportError> {
    // Reading gigabytes should not end in this.
    if args.output.exists() && !args.overwrite {
        return Err(ImportError::Exists(args.output.clone()));
    }
    files::check_folder(&args.output).map_err(CheckpointError::io("write to", &args.output))?;
    let defaults = ImportOptions::default();
    let name = args.folder.file_name().map_or(defaults.name, |n| n.to_string_lossy().into_owned());
    let options = ImportOptions {
        name: args.name.clone().unwrap_or(name),
        precision: if args.f32 { Precision::F32 } else { Precision::F16 },
        licence: args.licence.clone().unwrap_or(defaults.licence),
        source: args.source.clone(),
    };
    let mut bundle = import(&args.folder, &options)?;
    bundle.save(&args.output, args.overwrite)?;
    println!(
        "{}: {} attributes. Open it with: pdae-studio --model {}",
        args.output.display(),
        bundle.manifest.attributes.len(),
        args.output.display()
    );
    Ok(())
}
