//! `sample`: faces of nobody, from noise alone.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};
use image::{GenericImage, RgbImage};
use indicatif::{ProgressBar, ProgressStyle};
use thiserror::Error;

use super::ModelArgs;
use crate::diffusion::Solver;
use crate::editing::Recipe;
use crate::engine::sample::{SampleError, SampleOptions, Sampler};
use crate::files;
use crate::model::Guidance;
use crate::photo::animation::{Sequence, SequenceError};
use crate::photo::{self, ExportError};

/// Faces decoded at once: enough to keep a device busy, little enough for its memory.
const BATCH: usize = 16;

#[derive(Debug, Args)]
pub struct SampleArgs {
    /// Where to write: a file ending in .png for a grid, else a folder for single files.
    #[arg(short, long, value_name = "OUT")]
    output: PathBuf,
    /// Number of faces, 1 to 10000.
    #[arg(short = 'n', long, default_value_t = 16, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=10_000))]
    count: usize,
    /// Seed of the noise; the same seed draws the same faces.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Denoising steps a face, 1 to 999.
    #[arg(long, default_value_t = SampleOptions::default().steps, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=Recipe::MAX_STEPS as u64))]
    steps: usize,
    /// Denoising steps of its semantic latent, 1 to 999, which cost next to nothing.
    #[arg(long, default_value_t = SampleOptions::default().latent_steps, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=Recipe::MAX_STEPS as u64))]
    latent_steps: usize,
    /// How the steps are taken [default: ddim, as published; denoised for models that would leave grain].
    #[arg(long)]
    sampler: Option<Sampling>,
    /// Share of the steps, at the end, that the plain diffusion model takes alone: 0 to 1.
    #[arg(long, default_value_t = SampleOptions::default().guidance.stop_percent, value_parser = parse_share)]
    stop_percent: f64,
    /// Faces in a row of the grid [default: about as many as there are rows].
    #[arg(long, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=100))]
    columns: Option<usize>,
    /// Leave out the XMP statement that a trained model made the pictures.
    #[arg(long)]
    no_statement: bool,
    /// Replace results that exist.
    #[arg(long)]
    overwrite: bool,
    #[command(flatten)]
    model: ModelArgs,
}

/// The solvers, as they are named on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Sampling {
    /// As published.
    Ddim,
    /// DPM-Solver++ 2M, which needs fewer steps.
    Multistep,
    /// The same, ending with the image predicted while a little noise is left.
    Denoised,
}

impl From<Sampling> for Solver {
    fn from(sampling: Sampling) -> Self {
        match sampling {
            Sampling::Ddim => Self::Ddim,
            Sampling::Multistep => Self::Multistep,
            Sampling::Denoised => Self::Denoised,
        }
    }
}

#[derive(Debug, Error)]
pub enum SampleCommandError {
    #[error("{path} is a file, and a folder is wanted here. Name another folder with -o, or a file ending in .png", path = .0.display())]
    File(PathBuf),
    #[error("{path} could not be written to: {source}. Check that you may write there, or name another folder with -o", path = path.display())]
    Folder { path: PathBuf, source: std::io::Error },
    #[error("{path} ends in neither .png (a grid) nor nothing (a folder), so it is not clear what to write", path = .0.display())]
    Ending(PathBuf),
    #[error(transparent)]
    Sample(#[from] SampleError),
    #[error(transparent)]
    Write(#[from] SequenceError),
}

fn parse_share(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|share| (0.0..=1.0).contains(share)).ok_or_else(|| format!("{text:?} is not a share between 0 and 1"))
}

pub fn run(args: &SampleArgs) -> Result<(), SampleCommandError> {
    let single_files = is_folder(&args.output)?;
    let names = if single_files { names(&args.output, args.count) } else { vec![args.output.clone()] };
    // An hour of drawing should not end in this.
    if let Some(taken) = names.iter().find(|name| name.exists() && !args.overwrite) {
        return Err(SequenceError::from(ExportError::Exists(taken.clone())).into());
    }
    let no_folder = |source| SampleCommandError::Folder { path: args.output.clone(), source };
    if single_files {
        files::check_folder(&args.output).map_err(no_folder)?;
    } else {
        photo::check_place(&args.output, args.overwrite).map_err(SequenceError::from)?;
    }
    let guidance = Guidance { stop_percent: args.stop_percent, ..Guidance::unconditional() };
    let options = SampleOptions { steps: args.steps, latent_steps: args.latent_steps, guidance, solver: args.sampler.map(Solver::from) };
    let mut sampler = Sampler::load(&args.model.bundle(), args.model.device, args.seed, options)?;
    if let Some(name) = sampler.card() {
        super::tell_of_card(name);
    }
    if single_files {
        std::fs::create_dir_all(&args.output).map_err(no_folder)?;
    }
    let bar = bar(args);
    let mut grid = Vec::new();
    let mut names = names.into_iter();
    for done in (0..args.count).step_by(BATCH) {
        for face in sampler.draw(BATCH.min(args.count - done), || bar.inc(1))? {
            match names.next().filter(|_| single_files) {
                Some(name) => write(face, &name, args)?,
                None => grid.push(face),
            }
        }
    }
    if !single_files {
        write(arranged(&grid, args.columns), &args.output, args)?;
    }
    bar.finish_and_clear();
    println!("{} ({} faces)", args.output.display(), args.count);
    Ok(())
}

fn is_folder(output: &Path) -> Result<bool, SampleCommandError> {
    match output.extension() {
        _ if output.is_dir() => Ok(true),
        None if output.is_file() => Err(SampleCommandError::File(output.into())),
        None => Ok(true),
        Some(ending) if ending.eq_ignore_ascii_case("png") => Ok(false),
        Some(_) => Err(SampleCommandError::Ending(output.into())),
    }
}

/// `0001.png` and so on, all of one length.
fn names(folder: &Path, count: usize) -> Vec<PathBuf> {
    let digits = count.to_string().len().max(4);
    (1..=count).map(|i| folder.join(format!("{i:0digits$}.png"))).collect()
}

fn write(picture: RgbImage, path: &Path, args: &SampleArgs) -> Result<(), SequenceError> {
    let sequence = Sequence { frames: vec![picture], frame_time: 1, state_source: !args.no_statement };
    sequence.write(path, args.overwrite)
}

fn bar(args: &SampleArgs) -> ProgressBar {
    let bar = ProgressBar::new((args.count.div_ceil(BATCH) * args.steps) as u64);
    bar.set_style(
        ProgressStyle::with_template("{wide_bar} {pos}/{len} steps, {eta} left").unwrap_or_else(|_| ProgressStyle::default_bar()),
    );
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

/// Pictures of one size in rows.
fn arranged(pictures: &[RgbImage], columns: Option<usize>) -> RgbImage {
    let columns = columns.unwrap_or_else(|| (pictures.len() as f64).sqrt().ceil() as usize).clamp(1, pictures.len().max(1));
    let (width, height) = pictures.first().map_or((0, 0), RgbImage::dimensions);
    let rows = pictures.len().div_ceil(columns);
    let mut grid = RgbImage::new(width * columns as u32, height * rows as u32);
    for (i, picture) in pictures.iter().enumerate() {
        let (x, y) = ((i % columns) as u32 * width, (i / columns) as u32 * height);
        grid.copy_from(picture, x, y).expect("the grid has a place for every picture");
    }
    grid
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grid_is_about_square_and_holds_every_picture() {
        let pictures: Vec<RgbImage> = (0..5).map(|i| RgbImage::from_pixel(4, 4, image::Rgb([10 + i; 3]))).collect();
        let grid = arranged(&pictures, None);
        assert_eq!(grid.dimensions(), (12, 8));
        let at = |x, y| grid.get_pixel(x, y).0[0];
        assert_eq!([at(0, 0), at(4, 0), at(8, 0), at(0, 4), at(4, 4), at(8, 4)], [10, 11, 12, 13, 14, 0]);
        assert_eq!(arranged(&pictures, Some(9)).dimensions(), (20, 4));
    }

    #[test]
    fn the_output_says_what_is_written() {
        assert!(is_folder(Path::new("faces")).unwrap());
        assert!(!is_folder(Path::new("faces.PNG")).unwrap());
        assert!(is_folder(Path::new("faces.jpg")).unwrap_err().to_string().contains("faces.jpg"));
        assert_eq!(names(Path::new("x"), 2), [Path::new("x/0001.png"), Path::new("x/0002.png")]);
    }
}
