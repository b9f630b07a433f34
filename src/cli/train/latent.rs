//! `train latent`: the latent DPM of a bundle.

use std::path::PathBuf;

use clap::Args;

use super::{SittingArgs, check_writable, encoding_bar, say_where, set};
use crate::checkpoint::Bundle;
use crate::training::TrainError;
use crate::training::latent_dpm::{self, LatentJob};

#[derive(Debug, Args)]
pub struct LatentArgs {
    #[command(flatten)]
    sitting: SittingArgs,
    /// The bundle to add a latent DPM to; it is rewritten.
    #[arg(long)]
    bundle: PathBuf,
    /// Folder or tar of photos, as framed in training. The run keeps their latents, so it is needed only once.
    #[arg(long)]
    data: Option<PathBuf>,
    /// Hold back the last N photos (by name).
    #[arg(long, value_name = "N", default_value_t = 0)]
    validation: usize,
    /// Width of the hidden layers [default: 384].
    #[arg(long)]
    width: Option<usize>,
    /// Layers, the first and the last included [default: 5].
    #[arg(long)]
    layers: Option<usize>,
}

pub fn run(args: &LatentArgs) -> Result<(), TrainError> {
    let sitting = &args.sitting;
    let folder = sitting.open_folder()?;
    check_writable(&args.bundle)?;
    let before = latent_dpm::configured(&folder)?;
    let mut network = match &before {
        Some(before) => before.model.network.clone(),
        None => latent_dpm::default_network(Bundle::read_manifest(&args.bundle)?.config.latent_dim),
    };
    set(&mut network.model_channel, args.width);
    set(&mut network.num_layers, args.layers);
    let defaults = before.map_or_else(latent_dpm::default_hyperparameters, |before| before.hyperparameters);
    let job = LatentJob {
        bundle: args.bundle.clone(),
        data: args.data.clone(),
        validation: args.validation,
        network,
        hyperparameters: sitting.hyperparameters(defaults),
    };
    let device = sitting.open_device()?;
    let bar = encoding_bar();
    let training = latent_dpm::prepare(&folder, &job, &device.device, |done| bar.set_position(done as u64))?;
    bar.finish_and_clear();
    let progress = training.train(&folder, &sitting.limits(), &device.device)?;
    say_where(&progress);
    println!("The latent DPM is in {0}. Try it: pdae-studio sample -o faces.png --model {0}", args.bundle.display());
    Ok(())
}
