//! `edit`: photos in, sliders by name, photos out.

use std::borrow::Cow;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use thiserror::Error;

use super::ModelArgs;
use super::framing::{FramingArgs, FramingError};
use super::inputs::{self, Job, Target};
use crate::editing::sidecar::{self, ModelEntry, SidecarError, SourceEntry};
use crate::editing::{Crop, Recipe, Sidecar, attributes};
use crate::engine::edit::{EditError, Editor};
use crate::photo::{self, ExportError, ExportFormat, ExportOptions, Frame, Photo, PhotoError, Upsampling};

#[derive(Debug, Args)]
pub struct EditArgs {
    /// Photos to edit, or folders of photos.
    #[arg(required = true, value_name = "PHOTO")]
    photos: Vec<PathBuf>,
    /// Where to write: a file ending in .png, .jpg, .webp or .tif for one photo, else a folder.
    #[arg(short, long, value_name = "OUT")]
    output: PathBuf,
    /// A slider and its value in percent, e.g. smiling=60 or young=-40. May be given many times.
    #[arg(long = "set", value_name = "NAME=PERCENT", value_parser = parse_slider, allow_hyphen_values = true)]
    sliders: Vec<(String, f32)>,
    /// Leave an attribute as it is while other sliders move, e.g. --lock young. May be given many times.
    #[arg(long = "lock", value_name = "NAME")]
    locked: Vec<String>,
    /// Let edits change what is behind the person, too: a hat or more hair can then reach beyond the head.
    #[arg(long)]
    change_background: bool,
    /// Keep what is behind the person, though a recipe of an earlier version changes it.
    #[arg(long, conflicts_with = "change_background")]
    keep_background: bool,
    /// Apply a saved recipe; other options change it.
    #[arg(long, value_name = "FILE")]
    recipe: Option<PathBuf>,
    /// Write a recipe beside every result: OUT.recipe.json.
    #[arg(long)]
    save_recipe: bool,
    #[arg(
        long,
        value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=Recipe::MAX_STEPS as u64),
        help = format!(
            "Denoising steps, 1 to {} [default: {}]. The photo is read in as many, but at least {}",
            Recipe::MAX_STEPS,
            Recipe::DEFAULT_STEPS,
            Recipe::INVERSION_STEPS
        )
    )]
    steps: Option<usize>,
    /// Decode from the noise of this seed instead of the photo's own stochastic latent: in half the time, less faithful to details.
    #[arg(long)]
    seed: Option<u64>,
    /// Write only the square that the model saw: `full`, at the photo's resolution, or `model`, as decoded.
    #[arg(long, value_name = "full|model", num_args = 0..=1, require_equals = true, default_missing_value = "full", value_parser = parse_crop)]
    crop_only: Option<Crop>,
    /// JPEG quality, 1 to 100 [default: 95].
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=100))]
    quality: Option<u8>,
    /// Format of the results in a folder: png, jpg, webp or tif [default: the photo's own, else png].
    #[arg(long, value_name = "ENDING", value_parser = inputs::parse_ending)]
    format: Option<String>,
    /// Leave the photo's EXIF and XMP out of the result.
    #[arg(long)]
    strip_metadata: bool,
    /// Leave out the XMP statement that the picture was edited with a trained model.
    #[arg(long)]
    no_statement: bool,
    /// Replace results that exist.
    #[arg(long)]
    overwrite: bool,
    /// Print one line of JSON for each photo.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    framing: FramingArgs,
    #[command(flatten)]
    model: ModelArgs,
}

#[derive(Debug, Error)]
pub enum EditCommandError {
    #[error("this model has no slider called {name:?}. It has: {known}")]
    UnknownSlider { name: String, known: String },
    #[error("{path} could not be listed or created: {source}", path = path.display())]
    Folder { path: PathBuf, source: std::io::Error },
    #[error(
        "{path} is a picture's name, but the results of several photos, or of a folder, go into a folder. Name one with -o, or end it in a slash",
        path = .0.display()
    )]
    PictureForFolder(PathBuf),
    #[error("{path} is a file, and a folder is wanted here. Name another folder with -o", path = .0.display())]
    FileForFolder(PathBuf),
    #[error("{path} holds no photos. Name photos, or a folder with some in it", path = .0.display())]
    NoPhotos(PathBuf),
    #[error("{failed} of {total} photos failed; the reasons are above")]
    SomeFailed { failed: usize, total: usize },
    #[error(transparent)]
    Sidecar(#[from] SidecarError),
    #[error(transparent)]
    Edit(#[from] EditError),
    #[error(transparent)]
    Framing(#[from] FramingError),
}

impl From<PhotoError> for EditCommandError {
    fn from(error: PhotoError) -> Self {
        Self::Edit(error.into())
    }
}

impl From<ExportError> for EditCommandError {
    fn from(error: ExportError) -> Self {
        Self::Edit(error.into())
    }
}

fn parse_slider(text: &str) -> Result<(String, f32), String> {
    let (name, value) = text.split_once('=').ok_or("write it as NAME=PERCENT, e.g. smiling=60")?;
    let value: f32 = value.trim().trim_end_matches('%').parse().map_err(|_| format!("{value:?} is not a number"))?;
    if !value.is_finite() || value.abs() > Recipe::MAX_PERCENT {
        return Err(format!("{value} is out of range (-1000 to 1000 percent)"));
    }
    Ok((name.trim().to_owned(), value))
}

fn parse_crop(text: &str) -> Result<Crop, String> {
    match text {
        "full" => Ok(Crop::Full),
        "model" => Ok(Crop::Model),
        other => Err(format!("{other:?} is neither full nor model")),
    }
}

/// One line of `--json`.
#[derive(Serialize)]
struct Line<'a> {
    /// As near as JSON comes to it: names need not be Unicode.
    path: Cow<'a, str>,
    ok: bool,
    #[serde(flatten)]
    outcome: Outcome<'a>,
    warnings: &'a [String],
    milliseconds: u128,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Outcome<'a> {
    Written { output: Cow<'a, str>, width: u32, height: u32 },
    Failed { error: String },
}

/// What is the same for every photo of a call.
struct Session<'a> {
    args: &'a EditArgs,
    editor: Editor,
    applied: Option<Sidecar>,
    recipe: Recipe,
    seed: Option<u64>,
    inversion_steps: usize,
    crop: Crop,
    upsampling: Upsampling,
    options: ExportOptions,
    bar: ProgressBar,
}

pub fn run(args: &EditArgs) -> Result<(), EditCommandError> {
    // What can be wrong with the arguments is found before any work is done.
    let target = inputs::target(&args.photos, &args.output);
    match target {
        Target::File => drop(ExportFormat::of(&args.output)?),
        Target::Folder => inputs::check_folder(&args.output)?,
    }
    let jobs = inputs::jobs(&args.photos, &args.output, target, args.format.as_deref(), args.save_recipe)?;
    let applied = args.recipe.as_deref().map(Sidecar::read).transpose()?;
    if let [job] = &jobs[..] {
        check_single(job, target, args)?;
    }
    if target == Target::Folder {
        std::fs::create_dir_all(&args.output).map_err(|source| EditCommandError::Folder { path: args.output.clone(), source })?;
    }
    let session = Session::new(args, applied, jobs.len())?;
    if let [job] = &jobs[..] {
        let result = session.run_and_tell(job);
        session.bar.finish_and_clear();
        return result;
    }
    let mut failed = 0;
    for job in &jobs {
        if let Err(error) = session.run_and_tell(job) {
            session.bar.suspend(|| eprintln!("pdae-studio: {}: {}", job.photo.display(), super::sentence(&error)));
            failed += 1;
        }
    }
    session.bar.finish_and_clear();
    let total = jobs.len();
    if failed > 0 {
        return Err(EditCommandError::SomeFailed { failed, total });
    }
    eprintln!("{total} photos edited");
    Ok(())
}

/// With a single photo there is no reason to load a model before finding these.
fn check_single(job: &Job, target: Target, args: &EditArgs) -> Result<(), EditCommandError> {
    if !args.json {
        check_free(job, args)?;
        Photo::check(&job.photo)?;
        // A folder may have to be made yet.
        if target == Target::File {
            photo::check_place(&job.output, args.overwrite)?;
        }
    }
    Ok(())
}

/// Whether everything that is written for a photo may be.
fn check_free(job: &Job, args: &EditArgs) -> Result<(), EditCommandError> {
    if args.overwrite {
        return Ok(());
    }
    if job.output.exists() {
        return Err(ExportError::Exists(job.output.clone()).into());
    }
    let recipe = sidecar::path_beside(&job.output);
    if args.save_recipe && recipe.exists() {
        return Err(SidecarError::Exists(recipe).into());
    }
    Ok(())
}

impl<'a> Session<'a> {
    fn new(args: &'a EditArgs, applied: Option<Sidecar>, photos: usize) -> Result<Self, EditCommandError> {
        let editor = args.model.editor()?;
        let recipe = recipe(args, applied.as_ref(), &editor.card.manifest.attributes)?;
        let saved = applied.as_ref().map(|a| a.export.clone()).unwrap_or_default();
        let options = ExportOptions {
            jpeg_quality: args.quality.unwrap_or(saved.jpeg_quality),
            keep_metadata: saved.keep_metadata && !args.strip_metadata,
            state_source: saved.state_source && !args.no_statement,
            overwrite: args.overwrite,
        };
        let seed = args.seed.or(applied.as_ref().and_then(|a| a.seed));
        let crop = args.crop_only.or(applied.as_ref().map(|a| a.crop)).unwrap_or_default();
        let upsampling = args.framing.upsampling().or(applied.as_ref().map(|a| a.upsampling)).unwrap_or_default();
        // A saved recipe is to give the same picture again, in whatever steps it read the photo.
        let inversion_steps = match &applied {
            Some(applied) if args.steps.is_none() => applied.inversion_steps.unwrap_or(recipe.steps),
            _ => Recipe::inversion_steps(recipe.steps),
        };
        let bar = ProgressBar::new(photos as u64 * steps_a_photo(&recipe, inversion_steps, seed));
        bar.set_style(
            ProgressStyle::with_template("{msg:24} {wide_bar} {pos}/{len} steps, {eta} left")
                .unwrap_or_else(|_| ProgressStyle::default_bar()),
        );
        bar.enable_steady_tick(Duration::from_millis(200));
        Ok(Self { args, editor, applied, recipe, seed, inversion_steps, crop, upsampling, options, bar })
    }

    /// Edits one photo and says what came of it, except for an error's sentence.
    fn run_and_tell(&self, job: &Job) -> Result<(), EditCommandError> {
        let (start, steps_before) = (Instant::now(), self.bar.position());
        self.bar.set_message(job.photo.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned()));
        let mut warnings = vec![];
        let result = self.edit(job, &mut warnings);
        // A photo that failed early must not leave the bar short.
        self.bar.set_position(steps_before + steps_a_photo(&self.recipe, self.inversion_steps, self.seed));
        let milliseconds = start.elapsed().as_millis();
        self.bar.suspend(|| {
            for warning in &warnings {
                eprintln!("pdae-studio: {}: {warning}", job.photo.display());
            }
            if self.args.json {
                let outcome = match &result {
                    Ok((width, height)) => Outcome::Written { output: job.output.to_string_lossy(), width: *width, height: *height },
                    Err(error) => Outcome::Failed { error: super::sentence(error) },
                };
                let line = Line { path: job.photo.to_string_lossy(), ok: result.is_ok(), outcome, warnings: &warnings, milliseconds };
                println!("{}", serde_json::to_string(&line).unwrap_or_default());
            } else if let Ok((width, height)) = &result {
                println!("{} ({width} x {height} pixels)", job.output.display());
            }
        });
        result.map(drop)
    }

    /// The size of what was written.
    fn edit(&self, job: &Job, warnings: &mut Vec<String>) -> Result<(u32, u32), EditCommandError> {
        check_free(job, self.args)?;
        photo::check_place(&job.output, self.args.overwrite)?;
        let photo = Photo::open(&job.photo)?;
        let (source, model) = (SourceEntry::of(&photo), self.editor.model_entry());
        if let Some(applied) = &self.applied {
            warnings.extend(applied.differences(&source, &model));
        }
        let frame = self.frame(&photo, &source, warnings)?;
        let mut latents = self.editor.read(&self.editor.cut(&photo, frame))?;
        if let Some(seed) = self.seed {
            latents.x_t = self.editor.noise(seed);
        } else {
            let mut inversion = self.editor.inversion(&latents, self.inversion_steps, self.recipe.inversion);
            while self.editor.step_inversion(&mut inversion, &mut latents) {
                self.bar.inc(1);
            }
            latents.x_t = inversion.x;
            latents.inferred = true;
        }
        let mut pair = self.editor.decode_pair(&latents, &self.recipe, self.recipe.steps);
        while self.editor.step(&mut pair) {
            self.bar.inc(1);
        }
        let edited = self.editor.finish(&photo, frame, &self.recipe, pair, self.crop, self.upsampling)?;
        photo::write(&edited, &job.output, &self.options)?;
        if self.args.save_recipe {
            self.sidecar(source, model, frame).write(&sidecar::path_beside(&job.output), self.options.overwrite)?;
        }
        Ok((edited.width(), edited.height()))
    }

    /// The recipe's frame for the photo that the recipe was made for; coordinates mean nothing in another one.
    fn frame(&self, photo: &Photo, source: &SourceEntry, warnings: &mut Vec<String>) -> Result<Frame, EditCommandError> {
        match self.applied.as_ref().filter(|a| a.source.sha256.is_some() && a.source.sha256 == source.sha256) {
            Some(applied) if self.args.framing.is_default() => Ok(applied.frame),
            _ => Ok(self.args.framing.frame(&self.editor, photo, warnings)?),
        }
    }

    fn sidecar(&self, source: SourceEntry, model: ModelEntry, frame: Frame) -> Sidecar {
        Sidecar {
            format: sidecar::FORMAT,
            program: Sidecar::program(),
            source,
            model,
            frame,
            seed: self.seed,
            inversion_steps: (self.inversion_steps != self.recipe.steps).then_some(self.inversion_steps),
            recipe: self.recipe.clone(),
            crop: self.crop,
            upsampling: self.upsampling,
            export: self.options.clone(),
        }
    }
}

/// What reading the photo and decoding it take; noise from a seed takes none.
fn steps_a_photo(recipe: &Recipe, inversion_steps: usize, seed: Option<u64>) -> u64 {
    let reading = if seed.is_some() { 0 } else { recipe.inversion.evaluations(inversion_steps) };
    (recipe.steps + reading) as u64
}

/// The applied recipe, or an empty one, with what the options say.
fn recipe(args: &EditArgs, applied: Option<&Sidecar>, known: &[String]) -> Result<Recipe, EditCommandError> {
    let mut recipe = applied.map(|a| a.recipe.clone()).unwrap_or_default();
    recipe.steps = args.steps.unwrap_or(recipe.steps);
    let find = |name: &str| {
        attributes::find(name, known).map(str::to_owned).ok_or_else(|| {
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            EditCommandError::UnknownSlider { name: name.to_owned(), known }
        })
    };
    // A slider that silently does nothing, for want of its name as the model spells it, would be worse than an error.
    let sliders = std::mem::take(&mut recipe.sliders).into_iter();
    recipe.sliders = sliders.map(|(name, percent)| Ok((find(&name)?, percent))).collect::<Result<_, EditCommandError>>()?;
    recipe.locked = recipe.locked.iter().map(|name| find(name)).collect::<Result<_, _>>()?;
    recipe.keep_background = (recipe.keep_background || args.keep_background) && !args.change_background;
    for (name, percent) in &args.sliders {
        recipe.set_slider(&find(name)?, *percent);
    }
    for name in &args.locked {
        recipe.locked.insert(find(name)?);
    }
    Ok(recipe)
}
