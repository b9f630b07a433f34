//! `interpolate`: the way from one face to another.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use image::RgbImage;
use image::imageops::{self, FilterType};
use indicatif::{ProgressBar, ProgressStyle};
use thiserror::Error;

use super::ModelArgs;
use crate::diffusion::Inversion;
use crate::editing::{Easing, Recipe, ping_pong};
use crate::engine::edit::{EditError, Editor, InterpolationPath, Latents};
use crate::photo::animation::{Sequence, SequenceError, SequenceFormat};
use crate::photo::{self, Frame, Photo};

#[derive(Debug, Args)]
pub struct InterpolateArgs {
    /// The photo to start from.
    a: PathBuf,
    /// The photo to end at.
    b: PathBuf,
    /// Where to write: .png (pictures side by side), .gif, .apng, .webp, or with the ffmpeg program .mp4 and .webm.
    #[arg(short, long, value_name = "OUT")]
    output: PathBuf,
    /// Pictures from A to B, both included, 2 to 1000 [default: 7 for a strip, 25 for the others].
    #[arg(long, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(2..=1000))]
    frames: Option<usize>,
    /// How the way is divided: evenly, or slowly at both ends.
    #[arg(long, value_enum, default_value_t)]
    easing: EasingArg,
    /// Go back to A again, so that a repeated animation has no jump.
    #[arg(long)]
    ping_pong: bool,
    /// What is mixed: the latents, or the mean shifts of both at every denoising step.
    #[arg(long, value_enum, default_value_t)]
    mode: Mode,
    /// Denoising steps a picture, 1 to 999. Photos are read in as many, but at least 20.
    #[arg(long, default_value_t = Recipe::DEFAULT_STEPS, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=Recipe::MAX_STEPS as u64))]
    steps: usize,
    /// Side of a picture in pixels, 16 to 4096 [default: the model's].
    #[arg(long, value_parser = clap::value_parser!(u32).range(16..=4096))]
    size: Option<u32>,
    /// Pictures a second, in animations and videos: 1 to 60.
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u16).range(1..=60))]
    fps: u16,
    /// Leave out the XMP statement that a trained model made the pictures.
    #[arg(long)]
    no_statement: bool,
    /// Replace OUT if it exists.
    #[arg(long)]
    overwrite: bool,
    #[command(flatten)]
    model: ModelArgs,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum EasingArg {
    #[default]
    Linear,
    Smooth,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Mode {
    #[default]
    Latent,
    Trajectory,
}

#[derive(Debug, Error)]
pub enum InterpolateError {
    #[error(transparent)]
    Edit(#[from] EditError),
    #[error(transparent)]
    Sequence(#[from] SequenceError),
}

pub fn run(args: &InterpolateArgs) -> Result<(), InterpolateError> {
    // What can be wrong with the arguments is found before any work is done.
    let format = SequenceFormat::of(&args.output)?;
    photo::check_place(&args.output, args.overwrite).map_err(SequenceError::from)?;
    format.check_available(&args.output)?;
    let photos = [Photo::open(&args.a).map_err(EditError::from)?, Photo::open(&args.b).map_err(EditError::from)?];
    let editor = args.model.editor()?;
    let frames = args.frames.unwrap_or(if format == SequenceFormat::Strip { 7 } else { 25 });
    let bar = ProgressBar::new(
        (photos.len() * Inversion::default().evaluations(Recipe::inversion_steps(args.steps)) + frames * args.steps) as u64,
    );
    bar.set_style(
        ProgressStyle::with_template("{msg:10} {wide_bar} {pos}/{len} steps, {eta} left").unwrap_or_else(|_| ProgressStyle::default_bar()),
    );
    bar.enable_steady_tick(Duration::from_millis(200));
    bar.set_message("Reading");
    let [a, b] = [read(&editor, &photos[0], args.steps, &bar)?, read(&editor, &photos[1], args.steps, &bar)?];
    bar.set_message("Decoding");
    let mut pictures = vec![];
    let easing = match args.easing {
        EasingArg::Linear => Easing::Linear,
        EasingArg::Smooth => Easing::Smooth,
    };
    for alpha in easing.shares(frames) {
        let path = match args.mode {
            Mode::Latent => InterpolationPath::Latent,
            Mode::Trajectory => InterpolationPath::Trajectory,
        };
        pictures.push(resized(editor.interpolate(&a, &b, alpha, path, args.steps)?, args.size));
        bar.inc(args.steps as u64);
    }
    bar.finish_and_clear();
    if args.ping_pong {
        pictures = ping_pong(&pictures);
    }
    let count = pictures.len();
    let sequence = Sequence { frames: pictures, frame_time: 1000 / args.fps, state_source: !args.no_statement };
    sequence.write(&args.output, args.overwrite)?;
    println!("{} ({count} pictures of {1} x {1} pixels)", args.output.display(), sequence.frames[0].width());
    Ok(())
}

fn read(editor: &Editor, photo: &Photo, steps: usize, bar: &ProgressBar) -> Result<Latents, EditError> {
    let faces = editor.find_faces(photo)?;
    let frame = faces.first().map_or_else(|| Frame::centre(photo), |face| face.fit().frame);
    let mut latents = editor.read(&editor.cut(photo, frame))?;
    let mut inversion = editor.inversion(&latents, Recipe::inversion_steps(steps), Inversion::default());
    while editor.step_inversion(&mut inversion, &mut latents) {
        bar.inc(1);
    }
    latents.x_t = inversion.x;
    latents.inferred = true;
    Ok(latents)
}

fn resized(picture: RgbImage, size: Option<u32>) -> RgbImage {
    match size {
        Some(size) if size != picture.width() => imageops::resize(&picture, size, size, FilterType::CatmullRom),
        _ => picture,
    }
}
