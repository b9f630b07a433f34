//! `sheet`: edits of portraits side by side.

use std::path::PathBuf;

use clap::Args;

use super::ModelArgs;
use super::evaluate::spinner;
use crate::editing::{Recipe, attributes};
use crate::evaluation::EvaluationError;
use crate::evaluation::sheet::{self, SheetOptions};
use crate::photo::{self, ExportFormat, ExportOptions, Photo};

#[derive(Debug, Args)]
pub struct SheetArgs {
    /// Portraits, one row each.
    #[arg(required = true, value_name = "PHOTO")]
    photos: Vec<PathBuf>,
    /// Where to write: .jpg, .png, .webp or .tif.
    #[arg(short, long, value_name = "OUT")]
    output: PathBuf,
    /// Sliders to show, two columns each [default: smile, glasses, masculine, young, blond hair, fringe].
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    sliders: Vec<String>,
    /// Each slider's value in percent, once negative and once positive.
    #[arg(long, default_value_t = 100.0, value_parser = parse_percent)]
    percent: f32,
    /// Denoising steps a picture, 1 to 999. Photos are read in as many, but at least 20.
    #[arg(long, default_value_t = Recipe::DEFAULT_STEPS, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=Recipe::MAX_STEPS as u64))]
    steps: usize,
    /// Side of a picture in pixels, 32 to 1024.
    #[arg(long, default_value_t = 160, value_parser = clap::value_parser!(u32).range(32..=1024))]
    cell: u32,
    /// Replace OUT if it exists.
    #[arg(long)]
    overwrite: bool,
    #[command(flatten)]
    model: ModelArgs,
}

fn parse_percent(text: &str) -> Result<f32, String> {
    let percent = text.trim_end_matches('%').parse().map_err(|_| format!("{text:?} is not a number"))?;
    if (1.0..=Recipe::MAX_PERCENT).contains(&percent) { Ok(percent) } else { Err(format!("{percent} is out of range (1 to 1000 percent)")) }
}

pub fn run(args: &SheetArgs) -> Result<(), EvaluationError> {
    ExportFormat::of(&args.output)?;
    photo::check_place(&args.output, args.overwrite)?;
    // Loading a model and drawing rows only to find out in a later one.
    for path in &args.photos {
        Photo::check(path)?;
    }
    let editor = args.model.editor()?;
    let options = options(args, &editor.card.manifest.attributes)?;
    let bar = spinner();
    let sheet = sheet::sheet(&editor, &args.photos, &options, &|text| bar.set_message(text))?;
    bar.finish_and_clear();
    let (width, height) = sheet.dimensions();
    let written = ExportOptions { jpeg_quality: 90, overwrite: args.overwrite, ..ExportOptions::default() };
    photo::write(&sheet::as_photo(sheet)?, &args.output, &written)?;
    println!("{} ({width} x {height} pixels)", args.output.display());
    Ok(())
}

fn options(args: &SheetArgs, known: &[String]) -> Result<SheetOptions, EvaluationError> {
    let mut options = SheetOptions { percent: args.percent, steps: args.steps, cell: args.cell, ..SheetOptions::of(known) };
    if !args.sliders.is_empty() {
        let find = |name: &String| {
            let unknown = || EvaluationError::UnknownSlider { name: name.clone(), known: known.join(", ") };
            attributes::find(name, known).map(str::to_owned).ok_or_else(unknown)
        };
        options.attributes = args.sliders.iter().map(find).collect::<Result<_, _>>()?;
    }
    Ok(options)
}
