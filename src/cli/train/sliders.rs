//! `train sliders`: what the sliders of a bundle do, alone and under locks.

use std::path::PathBuf;

use clap::Args;

use super::{SittingArgs, check_writable, counting_bar, encoding_bar, numbers, say_where};
use crate::training::TrainError;
use crate::training::sliders::{self, Prices, SlidersJob, Tick};

type Count = clap::builder::RangedU64ValueParser<usize>;

#[derive(Debug, Args)]
pub struct SlidersArgs {
    #[command(flatten)]
    sitting: SittingArgs,
    /// The bundle whose sliders to learn; it is rewritten.
    #[arg(long)]
    bundle: PathBuf,
    /// Folder or tar of photos, as framed in training.
    #[arg(long)]
    data: PathBuf,
    /// Leave out the last N photos (by name).
    #[arg(long, value_name = "N", default_value_t = 0)]
    validation: usize,
    /// A `train judge` run that reads the pictures beside the model's own encoder, which sees in them what nobody else does. Not the
    /// judge that `evaluate` is to ask, which should not have had a say in the edits.
    #[arg(long, value_name = "RUN")]
    critic: Option<PathBuf>,
    /// What changes of other attributes cost beside an edit that does not show: more, and edits change less, themselves included
    /// [default: 8].
    #[arg(long, value_parser = numbers::not_negative::<f64>)]
    price: Option<f64>,
    /// The same for sliders while everything else is locked [default: 60].
    #[arg(long, value_parser = numbers::not_negative::<f64>)]
    lock_price: Option<f64>,
    /// What changes of the picture cost, wherever they are: more, and backgrounds and light stay as they were [default: 8].
    #[arg(long, value_parser = numbers::not_negative::<f64>)]
    pixel_price: Option<f64>,
    /// The same for an attribute that is large in a picture, e.g. blond_hair=3. May be given many times.
    #[arg(long, value_name = "NAME=PRICE", value_parser = super::named_number)]
    pixel_price_of: Vec<(String, f64)>,
    /// Photos that every slider is tried on in the end, 1 to 10000.
    #[arg(long, default_value_t = 24, value_parser = Count::new().range(1..=10_000))]
    faces: usize,
    /// Steps of each of these decodes, 1 to 1000.
    #[arg(long, default_value_t = 6, value_parser = Count::new().range(1..=1000))]
    decode_steps: usize,
}

pub fn run(args: &SlidersArgs) -> Result<(), TrainError> {
    let sitting = &args.sitting;
    let folder = sitting.open_folder()?;
    check_writable(&args.bundle)?;
    let before = sliders::configured(&folder)?;
    let usual = before.as_ref().map_or_else(Prices::default, |before| before.model.prices.clone());
    let prices = Prices {
        others: args.price.unwrap_or(usual.others),
        others_locked: args.lock_price.unwrap_or(usual.others_locked),
        pixels: args.pixel_price.unwrap_or(usual.pixels),
        pixels_of: if args.pixel_price_of.is_empty() { usual.pixels_of } else { args.pixel_price_of.iter().cloned().collect() },
    };
    let defaults = before.map_or_else(sliders::default_hyperparameters, |before| before.hyperparameters);
    let job = SlidersJob {
        bundle: args.bundle.clone(),
        data: args.data.clone(),
        validation: args.validation,
        critic: args.critic.clone(),
        prices,
        faces: args.faces,
        steps: args.decode_steps,
        hyperparameters: sitting.hyperparameters(defaults),
    };
    let device = sitting.open_device()?;
    let encoding = encoding_bar();
    let trying = counting_bar("{spinner} Trying sliders, {pos} done");
    let (progress, [alone, pure]) = sliders::train(&folder, &job, &sitting.limits(), &device.device, |tick| match tick {
        Tick::Encoded(done) => encoding.set_position(done as u64),
        Tick::Tried(done) => {
            encoding.finish_and_clear();
            trying.set_position(done as u64);
        }
    })?;
    trying.finish_and_clear();
    say_where(&progress);
    println!("Mean change of logits in the picture when a slider goes to 100 percent:");
    println!("                    its own attribute   the others");
    println!("  alone             {:>17.3}   {:>10.3}", alone.own, alone.others);
    println!("  all others locked {:>17.3}   {:>10.3}", pure.own, pure.others);
    Ok(())
}
