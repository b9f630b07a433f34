//! `train`: a DPM, the autoencoder on top of it, the attribute directions and what they do, the latent DPM, and a judge for
//! `evaluate`.

mod judge;
mod latent;
mod sliders;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, Subcommand, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};

use super::numbers;
use crate::checkpoint::Bundle;
use crate::checkpoint::tensors::Precision;
use crate::device::{DeviceChoice, NamedDevice};
use crate::diffusion::ScheduleConfig;
use crate::files;
use crate::model::{DenoiserConfig, EncoderKind, ModelConfig, Prediction};
use crate::training::autoencoder::{self, BundleDetails, Start, Written};
use crate::training::directions::{self, DirectionsJob, FitOptions, Report};
use crate::training::latents::data_name;
use crate::training::run::{Progress, StageKind};
use crate::training::{Hyperparameters, ImageSet, Limits, RunConfig, RunFolder, TrainError, dpm};

/// Train on your own photos: first a DPM, then the autoencoder, then the directions and from them the sliders, and for faces from nothing
/// the latent DPM.
///
/// A run lives in a folder and is saved as it goes. The same command goes on where it stopped.
#[derive(Debug, Args)]
pub struct TrainArgs {
    #[command(subcommand)]
    stage: StageArgs,
}

#[derive(Debug, Subcommand)]
enum StageArgs {
    /// Train the diffusion model that everything else stands on.
    Dpm(DpmArgs),
    /// Train encoder and mean shift on top of a DPM, and write a bundle.
    Autoencoder(AutoencoderArgs),
    /// Fit attribute sliders to a bundle, from a table of attributes.
    Directions(DirectionsArgs),
    /// Learn what a bundle's sliders do, through the decoder: to show their attribute and change little else, under locks even less.
    Sliders(sliders::SlidersArgs),
    /// Train the latent DPM of a bundle, with which `sample` draws faces from nothing.
    Latent(latent::LatentArgs),
    /// Train a judge of photos, which `evaluate` asks whether edits show what they should.
    Judge(judge::JudgeArgs),
}

#[derive(Debug, Args)]
struct DpmArgs {
    #[command(flatten)]
    common: CommonArgs,
    #[command(flatten)]
    network: NetworkArgs,
    /// Weight each image's loss by min(snr, G) / snr, which trains faster; 5 is usual [default: off, as in the paper].
    #[arg(long, value_name = "G", value_parser = numbers::positive::<f64>)]
    min_snr: Option<f64>,
    /// Begin with the DPM of a bundle and its shape, instead of random weights.
    #[arg(long, value_name = "BUNDLE", conflicts_with_all = ["preset", "image_size", "patch", "base", "mult", "blocks", "attention", "prediction"])]
    from: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct AutoencoderArgs {
    #[command(flatten)]
    common: CommonArgs,
    /// The trained DPM: the folder of a `train dpm` run, or a bundle. Not needed to go on with a run.
    #[arg(long, value_name = "RUN_OR_BUNDLE")]
    dpm: Option<PathBuf>,
    /// Go on with all networks of a bundle, such as the one that comes with the program.
    #[arg(long, value_name = "BUNDLE", conflicts_with_all = ["dpm", "latent"])]
    from: Option<PathBuf>,
    /// Length of the semantic latent [default: the preset's].
    #[arg(long)]
    latent: Option<usize>,
    /// Table of attributes; with it the bundle gets its sliders at once.
    #[arg(long, value_name = "CSV")]
    attributes: Option<PathBuf>,
    /// Where to write the bundle [default: RUN/bundle]. What is there is renamed (NAME-1, -2 ...), not replaced, if it has learned sliders, a
    /// latent DPM, or sliders that --attributes does not bring again, or is of another origin.
    #[arg(long)]
    bundle: Option<PathBuf>,
    /// The model's name [default: My model].
    #[arg(long)]
    name: Option<String>,
    /// On what terms the weights may be used; the training data decides [default: not stated: ask who trained it].
    #[arg(long)]
    licence: Option<String>,
    /// Keep 32-bit weights in the bundle.
    #[arg(long)]
    f32: bool,
}

#[derive(Debug, Args)]
struct DirectionsArgs {
    /// The bundle to add sliders to; it is rewritten.
    #[arg(long)]
    bundle: PathBuf,
    /// Folder or tar of photos, as framed in training.
    #[arg(long)]
    data: PathBuf,
    /// CSV with a column `image` and one column of 1 and 0 for each attribute.
    #[arg(long, value_name = "CSV")]
    attributes: PathBuf,
    /// Judge the sliders on the last N photos instead of fitting them to these.
    #[arg(long, value_name = "N", default_value_t = 0)]
    validation: usize,
    /// Regularisation of the classifier.
    #[arg(long, default_value_t = FitOptions::default().l2, value_parser = numbers::not_negative::<f64>)]
    l2: f64,
    /// How far sliders may also move what is usual beside their attribute: more is stronger, less is purer.
    #[arg(long, default_value_t = FitOptions::default().ridge, value_parser = numbers::not_negative::<f64>)]
    ridge: f64,
    /// The ridge of one slider, e.g. blond_hair=8. May be given many times.
    #[arg(long, value_name = "NAME=RIDGE", value_parser = named_number, conflicts_with = "raw")]
    ridge_of: Vec<(String, f64)>,
    /// Let sliders follow the classifier's own rows, as published: purer on a large model, hardly visible on a small one.
    #[arg(long, conflicts_with = "ridge")]
    raw: bool,
    /// What 100 percent of a slider is, as a multiple of the paper's scale
    #[arg(long, default_value_t = FitOptions::default().strength, value_parser = numbers::positive::<f32>)]
    strength: f32,
    /// The strength of one slider, e.g. smiling=1.5. May be given many times.
    #[arg(long, value_name = "NAME=STRENGTH", value_parser = named_number)]
    strength_of: Vec<(String, f64)>,
    /// What to compute on: auto, cpu, gpu or cuda.
    #[arg(long, default_value = "auto")]
    device: DeviceChoice,
}

/// What trainings on photos take.
#[derive(Debug, Args)]
struct CommonArgs {
    #[command(flatten)]
    sitting: SittingArgs,
    /// Folder or tar of photos.
    #[arg(long)]
    data: PathBuf,
    /// Hold back the last N photos (by name).
    #[arg(long, value_name = "N", default_value_t = 0)]
    validation: usize,
}

/// What every training takes. Absent options keep the run's values, or else the defaults.
#[derive(Debug, Args)]
struct SittingArgs {
    /// Folder of the run.
    #[arg(long)]
    run: PathBuf,
    /// Stop after so many steps in all, at least 1.
    #[arg(long, value_parser = numbers::at_least_one::<u64>)]
    steps: Option<u64>,
    /// Stop after so many minutes.
    #[arg(long, value_parser = numbers::positive::<f64>)]
    minutes: Option<f64>,
    /// Examples a step, 1 to 65536 [default: 128; latent 512; judge 64; sliders 32].
    #[arg(long, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=65536))]
    batch: Option<usize>,
    /// Learning rate [default: 1e-4; latent and judge 1e-3; sliders 0.05].
    #[arg(long, value_parser = numbers::positive::<f64>)]
    rate: Option<f64>,
    /// Steps over which the learning rate rises [default: 500; latent and judge 100; sliders 20].
    #[arg(long)]
    warmup: Option<u64>,
    /// Decay of the moving average of the weights, from 0 up to less than 1 [default: 0.9999; latent and judge 0.999; sliders 0.99].
    #[arg(long, value_parser = numbers::below_one)]
    ema: Option<f64>,
    /// Seed of weights, noise and order [default: 0].
    #[arg(long)]
    seed: Option<u64>,
    /// Multiply in bfloat16; weights stay 32-bit. Faster on graphics cards that have it, slower on processors.
    #[arg(long)]
    bf16: bool,
    /// Steps between saves.
    #[arg(long, value_name = "STEPS", default_value_t = Limits::default().save_every, value_parser = numbers::at_least_one::<u64>)]
    save_every: u64,
    /// Steps between sample pictures; 0 for none.
    #[arg(long, value_name = "STEPS", default_value_t = Limits::default().sample_every)]
    sample_every: u64,
    /// What to compute on: auto, cpu, gpu or cuda.
    #[arg(long, default_value = "auto")]
    device: DeviceChoice,
}

/// The network's shape. Absent options keep the run's values, or else the preset's.
#[derive(Debug, Args)]
struct NetworkArgs {
    /// A shape to start from [default: default].
    #[arg(long)]
    preset: Option<Preset>,
    /// Side of the photos in pixels: 64 or 128.
    #[arg(long)]
    image_size: Option<usize>,
    /// Fold PATCH x PATCH pixels into channels: more is faster and coarser.
    #[arg(long)]
    patch: Option<usize>,
    /// Channels of the first level, a multiple of 32.
    #[arg(long)]
    base: Option<usize>,
    /// Channels of each level as multiples of the first, e.g. 1,2,3.
    #[arg(long, value_delimiter = ',')]
    mult: Option<Vec<usize>>,
    /// Residual blocks a level.
    #[arg(long)]
    blocks: Option<usize>,
    /// Downsampling rates with attention, e.g. 2 or 2,4. The first level's is 1, and each further level's twice the one before.
    #[arg(long, value_delimiter = ',', value_parser = downsampling_rate)]
    attention: Option<Vec<usize>>,
    /// Length of the semantic latent.
    #[arg(long)]
    latent: Option<usize>,
    /// What the networks predict: noise, as published; velocity, which a small network learns sooner; or the image, for networks with
    /// fewer channels than a patch has values.
    #[arg(long)]
    prediction: Option<PredictionArg>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum PredictionArg {
    Noise,
    Velocity,
    Image,
}

impl From<PredictionArg> for Prediction {
    fn from(value: PredictionArg) -> Self {
        match value {
            PredictionArg::Noise => Self::Noise,
            PredictionArg::Velocity => Self::Velocity,
            PredictionArg::Image => Self::Image,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Preset {
    /// 128 px, for a GPU.
    Default,
    /// 128 px, for a machine without one: the shape of the model that comes with the program.
    Small128,
    /// 64 px, to try things out.
    Tiny64,
}

impl Preset {
    fn model(self) -> ModelConfig {
        let (image_size, patch, prediction, blocks, base_channel, channel_multiplier) = match self {
            Self::Default => (128, 4, Prediction::Velocity, 2, 64, vec![1, 2, 3]),
            Self::Small128 => (128, 8, Prediction::Image, 1, 128, vec![1, 1, 1]),
            Self::Tiny64 => (64, 4, Prediction::Velocity, 1, 128, vec![1, 1, 1]),
        };
        ModelConfig {
            image_size,
            patch,
            prediction,
            // Measured on photos of faces at this size.
            fine_colour: (self == Self::Small128).then_some(0.0126),
            latent_dim: 512,
            latent_map: if self == Self::Small128 { 6 } else { 0 },
            encoder: if image_size == 64 { EncoderKind::Celeba64 } else { EncoderKind::Ffhq128 },
            denoiser: DenoiserConfig {
                base_channel,
                channel_multiplier,
                num_residual_blocks_of_a_block: blocks,
                attention_resolutions: vec![2],
                num_heads: 1,
                head_channel: -1,
                use_new_attention_order: false,
            },
            schedule: ScheduleConfig::default(),
            latent_dpm: None,
        }
    }
}

impl NetworkArgs {
    /// The shape asked for, on top of what the run has.
    fn model(&self, run: Option<ModelConfig>) -> Result<ModelConfig, TrainError> {
        let mut model = match (self.preset, run) {
            (Some(preset), _) => preset.model(),
            (None, Some(model)) => model,
            (None, None) => Preset::Default.model(),
        };
        let d = &mut model.denoiser;
        set(&mut model.image_size, self.image_size);
        set(&mut model.patch, self.patch);
        set(&mut model.latent_dim, self.latent);
        set(&mut model.prediction, self.prediction.map(Into::into));
        set(&mut d.base_channel, self.base);
        set(&mut d.channel_multiplier, self.mult.clone());
        set(&mut d.num_residual_blocks_of_a_block, self.blocks);
        set(&mut d.attention_resolutions, self.attention.clone());
        let encoders = [EncoderKind::Celeba64, EncoderKind::Ffhq128];
        model.encoder = encoders
            .into_iter()
            .find(|encoder| encoder.image_size() == model.image_size)
            .ok_or_else(|| TrainError::Config(format!("there are encoders for 64 and 128 px, not for {}", model.image_size)))?;
        model.check().map_err(TrainError::Config)?;
        Ok(model)
    }
}

/// A rate that a level can have.
fn downsampling_rate(text: &str) -> Result<usize, String> {
    let rates = "it is no level's downsampling rate: those are 1, 2, 4 and so on, doubling with every level";
    text.parse().ok().filter(|rate: &usize| rate.is_power_of_two()).ok_or_else(|| rates.to_owned())
}

fn set<T>(place: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *place = value;
    }
}

impl SittingArgs {
    /// `before`: the run's own, or else the stage's defaults.
    fn hyperparameters(&self, before: Hyperparameters) -> Hyperparameters {
        let mut h = before;
        set(&mut h.batch, self.batch);
        set(&mut h.rate, self.rate);
        set(&mut h.warmup, self.warmup);
        set(&mut h.ema, self.ema);
        set(&mut h.seed, self.seed);
        h.bf16 |= self.bf16;
        h
    }

    fn limits(&self) -> Limits {
        Limits {
            steps: self.steps,
            minutes: self.minutes,
            save_every: self.save_every,
            sample_every: self.sample_every,
            progress: true,
            ..Limits::default()
        }
    }

    fn open_device(&self) -> Result<NamedDevice, TrainError> {
        let device = self.device.open_for_32_bit()?;
        eprintln!("Training on {}", device.name);
        Ok(device)
    }

    /// The run's folder, which is only made once everything that is trained from has been found.
    fn open_folder(&self) -> Result<RunFolder, TrainError> {
        if self.steps.is_none() && self.minutes.is_none() {
            return Err(TrainError::NoLimit);
        }
        check_writable(&self.run)?;
        Ok(RunFolder::at(&self.run))
    }
}

/// Hours of training should not end in a folder that cannot be written to.
fn check_writable(folder: &Path) -> Result<(), TrainError> {
    files::check_folder(folder).map_err(TrainError::io("write to", folder))
}

impl CommonArgs {
    /// Whether there is anything to read, for a training that makes its folder before it reads.
    fn check_data(&self) -> Result<(), TrainError> {
        let path = self.data.clone();
        let is_empty = std::fs::read_dir(&path).map(|mut entries| entries.next().is_none());
        match is_empty {
            Ok(true) => Err(TrainError::Empty { path, broken: 0 }),
            Err(_) if !path.is_file() => Err(TrainError::NotImages { path }),
            _ => Ok(()),
        }
    }

    fn images(&self, size: usize) -> Result<ImageSet, TrainError> {
        eprintln!("Reading {}", self.data.display());
        let data = ImageSet::load(&self.data, size, self.validation)?;
        eprintln!("{} images to train on, {} held back, {} damaged", data.training(), data.validation, data.broken);
        Ok(data)
    }
}

pub fn run(args: TrainArgs) -> Result<(), TrainError> {
    match args.stage {
        StageArgs::Dpm(args) => train_dpm(&args),
        StageArgs::Autoencoder(args) => train_autoencoder(&args),
        StageArgs::Directions(args) => fit_directions(&args),
        StageArgs::Sliders(args) => sliders::run(&args),
        StageArgs::Latent(args) => latent::run(&args),
        StageArgs::Judge(args) => judge::run(&args),
    }
}

fn train_dpm(args: &DpmArgs) -> Result<(), TrainError> {
    let sitting = &args.common.sitting;
    let folder = sitting.open_folder()?;
    let before: Option<RunConfig> = folder.config(StageKind::Dpm)?;
    let start = match &args.from {
        Some(bundle) if folder.progress()?.is_none() => Some(dpm::load(bundle)?),
        _ => None,
    };
    let shape = before.as_ref().map(|config| &config.model).or(start.as_ref().map(|(model, _)| model));
    let mut model = args.network.model(shape.cloned())?;
    model.latent_dpm = None;
    let mut hyperparameters = sitting.hyperparameters(before.map(|config| config.hyperparameters).unwrap_or_default());
    hyperparameters.min_snr = args.min_snr.or(hyperparameters.min_snr);
    let config = RunConfig { stage: StageKind::Dpm, model, hyperparameters };
    let device = sitting.open_device()?;
    let data = Arc::new(args.common.images(config.model.image_size)?);
    let progress = dpm::train(&folder, &config, start.as_ref().map(|(_, weights)| weights), &data, &sitting.limits(), &device.device)?;
    say_where(&progress);
    println!("Next: pdae-studio train autoencoder --dpm {} --run RUN --data {}", sitting.run.display(), args.common.data.display());
    Ok(())
}

fn train_autoencoder(args: &AutoencoderArgs) -> Result<(), TrainError> {
    let (common, sitting) = (&args.common, &args.common.sitting);
    let folder = sitting.open_folder()?;
    let target = args.bundle.clone().unwrap_or_else(|| sitting.run.join("bundle"));
    check_writable(&target)?;
    let before: Option<RunConfig> = folder.config(StageKind::Autoencoder)?;
    // A run that has a state holds its DPM, too.
    let resumes = folder.progress()?.is_some();
    let given = match args.dpm.as_ref().or(args.from.as_ref()) {
        Some(path) if !resumes => Some(dpm::load(path)?),
        _ => None,
    };
    let mut model = match (&before, &given) {
        (Some(before), _) => before.model.clone(),
        (None, Some((model, _))) => model.clone(),
        (None, None) => return Err(TrainError::NoDpm),
    };
    set(&mut model.latent_dim, args.latent);
    // A bundle that lends its DPM may have a latent DPM on latents that this encoder will not make.
    model.latent_dpm = None;
    let hyperparameters = sitting.hyperparameters(before.map(|config| config.hyperparameters).unwrap_or_default());
    let config = RunConfig { stage: StageKind::Autoencoder, model, hyperparameters };
    let device = sitting.open_device()?;
    let data = Arc::new(common.images(config.model.image_size)?);
    let start = given.as_ref().map(|(_, weights)| if args.from.is_some() { Start::Bundle(weights) } else { Start::Dpm(weights) });
    let progress = autoencoder::train(&folder, &config, start, &data, &sitting.limits(), &device.device)?;
    say_where(&progress);

    let details = BundleDetails {
        name: args.name.clone().unwrap_or_else(|| "My model".into()),
        licence: args.licence.clone().unwrap_or_else(|| "not stated: ask who trained it".into()),
        data: data_name(&common.data),
        device: device.name.clone(),
        precision: if args.f32 { Precision::F32 } else { Precision::F16 },
    };
    let written = autoencoder::update_bundle(&folder, &target, &details, args.attributes.is_some())?;
    if let Written::Now(Some(former)) = &written {
        println!(
            "The former bundle is {} now, with all that it has: new networks need new sliders and a new latent DPM.",
            former.display()
        );
    }
    if written == Written::Before {
        autoencoder::rename(&target, args.name.as_deref(), args.licence.as_deref())?;
    }
    let lacks_sliders = Bundle::read_manifest(&target)?.attributes.is_empty();
    if args.attributes.is_some() && !lacks_sliders {
        println!("The table of attributes was not read: the bundle has its sliders. `train directions` makes them anew.");
    } else if let Some(attributes) = &args.attributes {
        let job = DirectionsJob {
            bundle: target.clone(),
            data: common.data.clone(),
            attributes: attributes.clone(),
            validation: common.validation,
            fit: FitOptions::default(),
        };
        add_directions(&job, &device)?;
    }
    let done = match written {
        Written::Before => "The bundle has these networks already, and keeps what else is in it.",
        Written::Now(_) => "Bundle written.",
    };
    println!("{done} Open it with: pdae-studio --model {}", target.display());
    Ok(())
}

fn fit_directions(args: &DirectionsArgs) -> Result<(), TrainError> {
    check_writable(&args.bundle)?;
    let job = DirectionsJob {
        bundle: args.bundle.clone(),
        data: args.data.clone(),
        attributes: args.attributes.clone(),
        validation: args.validation,
        fit: FitOptions {
            l2: args.l2,
            ridge: args.ridge,
            raw: args.raw,
            strength: args.strength,
            ridge_of: args.ridge_of.iter().cloned().collect(),
            strength_of: args.strength_of.iter().map(|(name, strength)| (name.clone(), *strength as f32)).collect(),
            ..FitOptions::default()
        },
    };
    add_directions(&job, &args.device.open_for_32_bit()?)
}

fn add_directions(job: &DirectionsJob, device: &NamedDevice) -> Result<(), TrainError> {
    let bar = encoding_bar();
    let report = directions::add_to_bundle(job, &device.device, |done| bar.set_position(done as u64))?;
    bar.finish_and_clear();
    print_report(&report);
    Ok(())
}

/// `NAME=NUMBER`, the number positive.
fn named_number(text: &str) -> Result<(String, f64), String> {
    let (name, number) = text.split_once('=').ok_or("write it as NAME=NUMBER")?;
    match number.trim().parse() {
        Ok(number) if number > 0.0 && f64::is_finite(number) => Ok((name.trim().to_owned(), number)),
        _ => Err(format!("{number:?} is not a positive number")),
    }
}

fn encoding_bar() -> ProgressBar {
    counting_bar("{spinner} Encoding, {pos} images done")
}

fn counting_bar(template: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner());
    ProgressBar::no_length().with_style(style)
}

fn print_report(report: &Report) {
    let part = if report.held_back { "held-back" } else { "training" };
    println!("AUROC on {} {part} images (0.5 = chance, 1 = perfect):", report.images);
    for (attribute, area) in &report.auroc {
        println!("  {attribute:24} {}", area.map_or_else(|| "- (all images agree)".to_owned(), |area| format!("{area:.3}")));
    }
    if let Some(mean) = report.mean() {
        println!("  {:24} {mean:.4}", "mean");
    }
}

fn say_where(progress: &Progress) {
    let loss = progress.loss.map_or_else(String::new, |loss| format!(", loss {loss:.5}"));
    let rate = progress.samples_per_second.map_or_else(String::new, |rate| format!(", {rate:.1} samples/s"));
    println!("{} steps, {} samples, {:.1} minutes{loss}{rate}", progress.step, progress.samples, progress.minutes);
}
