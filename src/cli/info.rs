//! `info`: a bundle's card.

use std::path::PathBuf;

use clap::Args;

use crate::checkpoint::{Bundle, CheckpointError, bundle};

#[derive(Debug, Args)]
pub struct InfoArgs {
    /// Folder of the model [default: the one that comes with the program].
    bundle: Option<PathBuf>,
}

pub fn run(args: &InfoArgs) -> Result<(), CheckpointError> {
    let folder = args.bundle.clone().unwrap_or_else(bundle::default_folder);
    let bundle = Bundle::load(&folder)?;
    let cost = bundle.build(&burn::tensor::Device::flex())?.cost;
    let m = &bundle.manifest;
    let c = &m.config;
    let line = |name: &str, value: String| println!("{name:<18}{value}");
    line("Model", m.name.clone());
    line("Folder", bundle.folder.display().to_string());
    line("Image size", format!("{0} x {0} pixels, patch {1}", c.image_size, c.patch));
    line("Prediction", format!("{:?}", c.prediction).to_lowercase());
    line(
        "Network",
        format!(
            "base {}, levels {:?}, {} block(s) a level, attention at {:?}",
            c.denoiser.base_channel,
            c.denoiser.channel_multiplier,
            c.denoiser.num_residual_blocks_of_a_block,
            c.denoiser.attention_resolutions
        ),
    );
    line(
        "Parameters",
        format!("{:.1} million, {:.1} of them in the decoder", millions(cost.parameters), millions(cost.decoder_parameters)),
    );
    line("Guided step", format!("{:.2} GFLOP (both branches, one picture)", cost.step_gflop));
    line("Semantic latent", format!("{} values", c.latent_dim));
    line("Latent DPM", if c.latent_dpm.is_some() { "yes".into() } else { "no".into() });
    line("Weights", format!("{:?}, SHA-256 {}", m.weights.precision, m.weights.sha256));
    line("Source", m.provenance.source.clone());
    line("Licence", m.provenance.licence.clone());
    for (name, value) in &m.provenance.details {
        line("", format!("{name}: {value}"));
    }
    line("Attributes", if m.attributes.is_empty() { "none".into() } else { m.attributes.join(", ") });
    Ok(())
}

fn millions(n: u64) -> f64 {
    n as f64 / 1e6
}
