//! `train judge`: the classifier of photos that `evaluate` asks about edits.

use std::path::PathBuf;

use clap::Args;

use super::{CommonArgs, print_report, say_where, set};
use crate::training::TrainError;
use crate::training::judge::{self, JudgeJob};

#[derive(Debug, Args)]
pub struct JudgeArgs {
    #[command(flatten)]
    common: CommonArgs,
    /// CSV with a column `image` and one column of 1 and 0 for each attribute.
    #[arg(long, value_name = "CSV")]
    attributes: PathBuf,
    /// Side in pixels at which photos are judged, a power of two [default: 64].
    #[arg(long)]
    size: Option<usize>,
    /// Channels of the first level, a multiple of 32 [default: 32].
    #[arg(long)]
    width: Option<usize>,
}

pub fn run(args: &JudgeArgs) -> Result<(), TrainError> {
    let (common, sitting) = (&args.common, &args.common.sitting);
    let folder = sitting.open_folder()?;
    common.check_data()?;
    let before = judge::configured(&folder)?;
    let (mut image_size, mut width) = before.as_ref().map_or((64, 32), |before| (before.model.image_size, before.model.width));
    set(&mut image_size, args.size);
    set(&mut width, args.width);
    let job = JudgeJob {
        data: common.data.clone(),
        attributes: args.attributes.clone(),
        validation: common.validation,
        image_size,
        width,
        hyperparameters: sitting.hyperparameters(before.map_or_else(judge::default_hyperparameters, |before| before.hyperparameters)),
    };
    let device = sitting.open_device()?;
    let (progress, report) = judge::train(&folder, &job, &sitting.limits(), &device.device)?;
    say_where(&progress);
    print_report(&report);
    println!("Ask it about edits with: pdae-studio evaluate --judge {}", sitting.run.display());
    Ok(())
}
