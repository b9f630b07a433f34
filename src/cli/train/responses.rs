//! `train responses`: what the sliders of a bundle really change, for its locks.

use std::path::PathBuf;

use clap::Args;

use super::counting_bar;
use crate::device::DeviceChoice;
use crate::training::TrainError;
use crate::training::responses::{self, ResponsesJob};

#[derive(Debug, Args)]
pub struct ResponsesArgs {
    /// The bundle whose sliders to try; it is rewritten.
    #[arg(long)]
    bundle: PathBuf,
    /// Folder or tar of photos, as framed in training.
    #[arg(long)]
    data: PathBuf,
    /// Leave out the last N photos (by name).
    #[arg(long, value_name = "N", default_value_t = 0)]
    validation: usize,
    /// Photos that every slider is tried on.
    #[arg(long, default_value_t = 32, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=10_000))]
    faces: usize,
    /// Times that locked sliders are tried and mended.
    #[arg(long, default_value_t = 3, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=20))]
    rounds: usize,
    /// Steps of each decode.
    #[arg(long, default_value_t = 10, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=1000))]
    steps: usize,
    /// A `train judge` run that reads the pictures, as the model's own encoder sees in them what nobody else does: locks hold the
    /// rest stiller, and the edit, too. Not the judge that `evaluate` is to ask, which should not have had a say in the edits
    /// [default: the model's own encoder].
    #[arg(long, value_name = "RUN")]
    critic: Option<PathBuf>,
    /// What to compute on: auto, cpu, gpu or cuda.
    #[arg(long, default_value = "auto")]
    device: DeviceChoice,
}

pub fn run(args: &ResponsesArgs) -> Result<(), TrainError> {
    let device = args.device.open_for_32_bit()?;
    let job = ResponsesJob {
        bundle: args.bundle.clone(),
        data: args.data.clone(),
        validation: args.validation,
        faces: args.faces,
        rounds: args.rounds,
        steps: args.steps,
        critic: args.critic.clone(),
    };
    let bar = counting_bar("{spinner} Trying sliders, {pos} done");
    let changes = responses::add_to_bundle(&job, &device.device, |done| bar.set_position(done as u64))?;
    bar.finish_and_clear();
    println!("Mean change of the other attributes' logits in the picture when a slider goes to 100 percent:");
    println!("  unlocked             {:.3}", changes[0]);
    for (round, change) in changes.iter().enumerate().skip(1) {
        let by = if round == 1 { "locked by its rows".to_owned() } else { format!("mended, round {}", round - 1) };
        println!("  {by:<20} {change:.3}");
    }
    Ok(())
}
