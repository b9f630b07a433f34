//! `evaluate`: a bundle's figures in one table.

use std::collections::BTreeSet;
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};
use image::{ImageFormat, RgbImage};
use indicatif::{ProgressBar, ProgressStyle};

use super::{ModelArgs, numbers};
use crate::checkpoint::Bundle;
use crate::checkpoint::tensors::write_renamed;
use crate::editing::{Recipe, attributes};
use crate::evaluation::edits::EditOptions;
use crate::evaluation::{EvaluationError, EvaluationJob, Part, evaluate};
use crate::files;
use crate::photo::ExportError;

/// Measure a model on photos that it was not trained on.
///
/// Prints one table. Every row is a mean over the last photos of the data set; the same seed gives the same table.
#[derive(Debug, Args)]
pub struct EvaluateArgs {
    /// Folder or tar of photos, framed as in training.
    #[arg(long)]
    data: PathBuf,
    /// CSV with a column `image` and one column of 1 and 0 for each attribute: for the rows `probe` and `edits`.
    #[arg(long, value_name = "CSV")]
    attributes: Option<PathBuf>,
    /// The run of a `train judge`: for the row `edits`.
    #[arg(long, value_name = "RUN")]
    judge: Option<PathBuf>,
    /// Weights of LPIPS (AlexNet), a safetensors file with the names of the Python package `lpips`: adds it to `reconstruction` and `z`.
    #[arg(long, value_name = "FILE")]
    lpips: Option<PathBuf>,
    /// Which rows to measure [default: all that the files at hand allow].
    #[arg(long, value_delimiter = ',', value_name = "ROW,...")]
    rows: Vec<Row>,
    /// The last N photos (by name) are those that training left out.
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = numbers::at_least_one::<usize>)]
    validation: usize,
    /// Photos to decode for a row, and faces to edit for an attribute: more is slower and more certain.
    #[arg(long, default_value_t = 16, value_parser = numbers::at_least_one::<usize>)]
    count: usize,
    /// Denoising steps, 1 to 999, one reconstruction row each. `z` takes the most, `edits` take the fewest.
    #[arg(long, value_delimiter = ',', default_value = "100,20", value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=Recipe::MAX_STEPS as u64))]
    steps: Vec<usize>,
    /// Slider value of the edits, in percent.
    #[arg(long, default_value_t = EditOptions::default().percent)]
    percent: f32,
    /// What the locked edits leave alone [default: all other attributes].
    #[arg(long = "lock", value_name = "NAME")]
    locked: Vec<String>,
    /// Seed of the noise.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Write the table as JSON too, with the whole curve of the gap.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Draw the gap by timestep as a PNG.
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
    /// Replace the files of --json and --plot if they exist.
    #[arg(long)]
    overwrite: bool,
    #[command(flatten)]
    model: ModelArgs,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Row {
    /// SSIM and MSE through the inferred stochastic latent.
    Reconstruction,
    /// SSIM and MSE from the semantic latent alone.
    Z,
    /// What a linear classifier can tell from the semantic latent.
    Probe,
    /// What a judge says of edits, raw and locked.
    Edits,
    /// The posterior-mean gap, without and with the shift.
    Gap,
    /// How well edits in few steps agree with the same edits in a hundred; takes long, so it must be asked for.
    Agreement,
}

impl From<Row> for Part {
    fn from(row: Row) -> Self {
        match row {
            Row::Reconstruction => Self::Reconstruction,
            Row::Z => Self::LatentOnly,
            Row::Probe => Self::Probe,
            Row::Edits => Self::Edits,
            Row::Gap => Self::Gap,
            Row::Agreement => Self::Agreement,
        }
    }
}

pub fn run(args: &EvaluateArgs) -> Result<(), EvaluationError> {
    let bundle = args.model.bundle();
    let job = EvaluationJob {
        parts: parts(args),
        edits: EditOptions { percent: args.percent, locked: locks(args, &bundle)? },
        bundle,
        data: args.data.clone(),
        attributes: args.attributes.clone(),
        judge: args.judge.clone(),
        lpips: args.lpips.clone(),
        validation: args.validation,
        count: args.count,
        steps: args.steps.clone(),
        seed: args.seed,
    };
    if args.plot.is_some() && !job.parts.contains(&Part::Gap) {
        return Err(EvaluationError::Needs { part: "--plot", what: "the row `gap`: add it to --rows" });
    }
    // Hours of measuring should not end in this.
    for path in args.json.iter().chain(&args.plot) {
        if path.exists() && !args.overwrite {
            return Err(ExportError::Exists(path.clone()).into());
        }
        files::check_writable(path).map_err(|source| EvaluationError::Unwritable { path: path.clone(), source })?;
    }
    let device = args.model.device.open_for_32_bit().map_err(crate::engine::edit::EditError::from)?;
    if !device.is_cpu() {
        super::tell_of_card(&device.name);
    }
    let bar = spinner();
    let found = evaluate(&job, &device.device, &|text| bar.set_message(text))?;
    bar.finish_and_clear();
    print!("{}", found.table.to_text());
    if let Some(path) = &args.json {
        write_renamed(path, found.to_json().as_bytes())?;
    }
    if let (Some(path), Some(gap)) = (&args.plot, &found.gap) {
        write_png(&gap.plot()?, path)?;
    }
    Ok(())
}

/// The rows that were named, or those that can be measured with what is at hand.
fn parts(args: &EvaluateArgs) -> BTreeSet<Part> {
    if !args.rows.is_empty() {
        return args.rows.iter().copied().map(Into::into).collect();
    }
    let possible = |part: &Part| match part {
        Part::Probe => args.attributes.is_some(),
        Part::Edits => args.attributes.is_some() && args.judge.is_some(),
        Part::Reconstruction | Part::LatentOnly | Part::Gap => true,
        Part::Agreement => false,
    };
    Part::ALL.into_iter().filter(possible).collect()
}

fn locks(args: &EvaluateArgs, bundle: &Path) -> Result<BTreeSet<String>, EvaluationError> {
    let known = Bundle::read_manifest(bundle)?.attributes;
    let find = |name: &String| {
        let unknown = || EvaluationError::UnknownSlider { name: name.clone(), known: known.join(", ") };
        attributes::find(name, &known).map(str::to_owned).ok_or_else(unknown)
    };
    args.locked.iter().map(find).collect()
}

/// Says what is being done; its number is not known beforehand.
pub(super) fn spinner() -> ProgressBar {
    let style = ProgressStyle::with_template("{spinner} {elapsed} {msg}").unwrap_or_else(|_| ProgressStyle::default_spinner());
    let bar = ProgressBar::no_length().with_style(style);
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

fn write_png(picture: &RgbImage, path: &Path) -> Result<(), EvaluationError> {
    let mut bytes = Cursor::new(Vec::new());
    picture.write_to(&mut bytes, ImageFormat::Png).map_err(|e| EvaluationError::Drawing(e.to_string()))?;
    Ok(write_renamed(path, bytes.get_ref())?)
}
