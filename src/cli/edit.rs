//! `edit`: one photo in, sliders by name, one photo out.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use thiserror::Error;

use super::ModelArgs;
use super::framing::{FramingArgs, FramingError};
use crate::editing::{Recipe, attributes};
use crate::engine::edit::{EditError, Editor};
use crate::photo::{self, ExportFormat, ExportOptions, Photo};

#[derive(Debug, Args)]
pub struct EditArgs {
    /// The photo to edit.
    photo: PathBuf,
    /// Where to write the result; .png or .jpg.
    #[arg(short, long, value_name = "OUT")]
    output: PathBuf,
    /// A slider and its value in percent, e.g. smiling=60 or young=-40. May be given many times.
    #[arg(long = "set", value_name = "NAME=PERCENT", value_parser = parse_slider, allow_hyphen_values = true)]
    sliders: Vec<(String, f32)>,
    /// Denoising steps, for reading the photo and for decoding it.
    #[arg(long, default_value_t = Recipe::DEFAULT_STEPS, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=999))]
    steps: usize,
    /// JPEG quality, 1 to 100.
    #[arg(long, default_value_t = ExportOptions::default().jpeg_quality, value_parser = clap::value_parser!(u8).range(1..=100))]
    quality: u8,
    /// Replace OUT if it exists.
    #[arg(long)]
    overwrite: bool,
    #[command(flatten)]
    framing: FramingArgs,
    #[command(flatten)]
    model: ModelArgs,
}

#[derive(Debug, Error)]
pub enum EditCommandError {
    #[error("this model has no slider called {name:?}. It has: {known}")]
    UnknownSlider { name: String, known: String },
    #[error(transparent)]
    Edit(#[from] EditError),
    #[error(transparent)]
    Framing(#[from] FramingError),
}

fn parse_slider(text: &str) -> Result<(String, f32), String> {
    let (name, value) = text.split_once('=').ok_or("write it as NAME=PERCENT, e.g. smiling=60")?;
    let value: f32 = value.trim().trim_end_matches('%').parse().map_err(|_| format!("{value:?} is not a number"))?;
    if !value.is_finite() || value.abs() > 1000.0 {
        return Err(format!("{value} is out of range (-1000 to 1000 percent)"));
    }
    Ok((name.trim().to_owned(), value))
}

pub fn run(args: &EditArgs) -> Result<(), EditCommandError> {
    // What can be wrong with the arguments is found before any work is done.
    let options = ExportOptions { jpeg_quality: args.quality, overwrite: args.overwrite };
    ExportFormat::of(&args.output).map_err(EditError::from)?;
    if args.output.exists() && !args.overwrite {
        return Err(EditError::from(photo::ExportError::Exists(args.output.clone())).into());
    }
    let photo = Photo::open(&args.photo).map_err(EditError::from)?;
    let editor = Editor::load(&args.model.bundle(), args.model.device)?;
    let recipe = recipe(args, &editor.card.manifest.attributes)?;
    let frame = args.framing.frame(&editor, &photo)?;

    let bar = ProgressBar::new(2 * args.steps as u64);
    bar.set_style(
        ProgressStyle::with_template("{msg:10} {wide_bar} {pos}/{len} steps, {eta} left").unwrap_or_else(|_| ProgressStyle::default_bar()),
    );
    bar.enable_steady_tick(Duration::from_millis(200));
    let mut latents = editor.read(&editor.cut(&photo, frame))?;
    bar.set_message("Reading");
    let mut inversion = editor.inversion(&latents, recipe.steps);
    while editor.step_inversion(&mut inversion, &latents) {
        bar.inc(1);
    }
    latents.x_t = inversion.x;
    latents.inferred = true;
    bar.set_message("Decoding");
    let mut pair = editor.decode_pair(&latents, &recipe);
    while editor.step(&mut pair) {
        bar.inc(1);
    }
    bar.finish_and_clear();
    let edited = editor.put_back(&photo, frame, pair, args.framing.upsampling())?;
    photo::write(&edited, &args.output, &options).map_err(EditError::from)?;
    println!("{} ({} x {} pixels)", args.output.display(), edited.width(), edited.height());
    Ok(())
}

fn recipe(args: &EditArgs, known: &[String]) -> Result<Recipe, EditCommandError> {
    let mut recipe = Recipe { steps: args.steps, ..Recipe::default() };
    for (name, percent) in &args.sliders {
        let Some(attribute) = attributes::find(name, known) else {
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            return Err(EditCommandError::UnknownSlider { name: name.clone(), known });
        };
        recipe.set_slider(attribute, *percent);
    }
    Ok(recipe)
}
