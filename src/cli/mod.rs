//! The command line: one file a command, each a thin shell over the library.

pub mod bench;
pub mod edit;
pub mod evaluate;
pub mod framing;
pub mod import;
pub mod info;
mod inputs;
pub mod interpolate;
mod numbers;
pub mod sample;
pub mod sheet;
pub mod train;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue};
use clap::{Args, CommandFactory, Parser, Subcommand};

use crate::checkpoint::bundle;
use crate::device::DeviceChoice;
use crate::engine::edit::{EditError, Editor};
use crate::studio;

/// Edit face photos with sliders, live, on your own machine.
///
/// Without a command it opens the window, on PHOTO if one is given.
#[derive(Debug, Parser)]
#[command(name = "pdae-studio", version, args_conflicts_with_subcommands = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    /// Photo to open in the window.
    photo: Option<PathBuf>,
    /// Print when the window is drawn and when the photo is in it, and close; for `bench`.
    #[arg(long, hide = true)]
    time_start: bool,
    #[command(flatten)]
    model: ModelArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Edit photos and write the results.
    Edit(Box<edit::EditArgs>),
    /// Write the way from one face to another: a strip of pictures, an animation or a video.
    Interpolate(interpolate::InterpolateArgs),
    /// Draw faces of nobody: unconditional samples of a model with a latent DPM.
    Sample(sample::SampleArgs),
    /// Print what a bundle is: image size, parameters, cost of a step, attributes, provenance.
    Info(info::InfoArgs),
    /// Turn a folder of published PyTorch checkpoints into a bundle.
    Import(import::ImportArgs),
    /// Draw edits of portraits side by side, to see what a model can do.
    Sheet(sheet::SheetArgs),
    /// Measure a model on photos that it was not trained on.
    Evaluate(Box<evaluate::EvaluateArgs>),
    /// Measure how fast this machine is with a model.
    Bench(bench::BenchArgs),
    /// Train a model on your own photos.
    Train(Box<train::TrainArgs>),
}

/// Which model, on what.
#[derive(Debug, Clone, Args)]
pub struct ModelArgs {
    /// Folder of the model [default: the one that comes with the program].
    #[arg(long, value_name = "BUNDLE")]
    model: Option<PathBuf>,
    /// What to compute on: auto, cpu, gpu, gpu-f16, cuda or cuda-f16.
    #[arg(long, default_value = "auto")]
    device: DeviceChoice,
}

impl ModelArgs {
    /// The named bundle, or the one that comes with the program.
    pub fn bundle(&self) -> PathBuf {
        self.model.clone().unwrap_or_else(bundle::default_folder)
    }

    /// The named bundle on the named device.
    fn editor(&self) -> Result<Editor, EditError> {
        let editor = Editor::load(&self.bundle(), self.device)?;
        if !editor.is_on_cpu() {
            tell_of_card(&editor.card.device);
        }
        Ok(editor)
    }
}

/// Says why nothing seems to happen at first.
fn tell_of_card(name: &str) {
    eprintln!("Computing on {name}. It gets its kernels ready first, which takes seconds to a minute.");
}

/// Runs the program; every error ends here, as one sentence on standard error.
pub fn run(cli: Cli) -> ExitCode {
    let result: Result<(), Box<dyn std::error::Error>> = match cli.command {
        Some(Command::Edit(args)) => edit::run(&args).map_err(Into::into),
        Some(Command::Interpolate(args)) => interpolate::run(&args).map_err(Into::into),
        Some(Command::Sample(args)) => sample::run(&args).map_err(Into::into),
        Some(Command::Info(args)) => info::run(&args).map_err(Into::into),
        Some(Command::Import(args)) => import::run(&args).map_err(Into::into),
        Some(Command::Sheet(args)) => sheet::run(&args).map_err(Into::into),
        Some(Command::Evaluate(args)) => evaluate::run(&args).map_err(Into::into),
        Some(Command::Bench(args)) => bench::run(&args).map_err(Into::into),
        Some(Command::Train(args)) => train::run(*args).map_err(Into::into),
        None => open_window(cli.photo, &cli.model, cli.time_start),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pdae-studio: {}", sentence(&error));
            ExitCode::FAILURE
        }
    }
}

/// An error as it is told here. Most are the window's, too, where there are no options to name.
fn sentence(error: &impl std::fmt::Display) -> String {
    error.to_string().replace("or allow it to be replaced", "or replace it with --overwrite")
}

fn open_window(photo: Option<PathBuf>, model: &ModelArgs, time_start: bool) -> Result<(), Box<dyn std::error::Error>> {
    if let Some(word) = photo.as_deref().and_then(mistyped) {
        let meant = meant_by(word).map_or_else(String::new, |command| format!("Did you mean `pdae-studio {command}`? "));
        return Err(format!("there is neither a command nor a file called {word}. {meant}All commands: pdae-studio --help").into());
    }
    if !studio::has_display() {
        return Err(no_display("neither DISPLAY nor WAYLAND_DISPLAY is set").into());
    }
    let options = studio::StartOptions { bundle: model.bundle(), photo, device: model.device, folder: None };
    let opened = if time_start {
        studio::timed::run(options)
    } else {
        studio::run(studio::StartOptions { folder: studio::own_folder(), ..options })
    };
    opened.map_err(|error| match error {
        eframe::Error::WinitEventLoop(reason) => {
            log::info!("{reason}");
            no_display("what DISPLAY or WAYLAND_DISPLAY names does not answer").into()
        }
        error => error.into(),
    })
}

fn no_display(why: &str) -> String {
    format!(
        "there is no display to open a window on ({why}). Without one, edit photos like this:\n\n    \
         pdae-studio edit PHOTO -o OUT.png --set smiling=60"
    )
}

/// What looks like a command rather than a photo, of which there is none by that name.
fn mistyped(photo: &Path) -> Option<&str> {
    let word = photo.to_str()?;
    let is_word = !word.contains('.') && !word.contains(std::path::is_separator);
    (is_word && !photo.exists()).then_some(word)
}

/// The command whose name is nearest to a mistyped one.
fn meant_by(word: &str) -> Option<String> {
    let commands = clap::Command::new("pdae-studio").subcommands(Cli::command().get_subcommands().cloned());
    match commands.try_get_matches_from(["pdae-studio", word]).err()?.get(ContextKind::SuggestedSubcommand)? {
        ContextValue::Strings(names) => names.first().cloned(),
        ContextValue::String(name) => Some(name.clone()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistyped_command_is_told_from_a_photo() {
        assert_eq!(mistyped(Path::new("eddit")), Some("eddit"));
        for photo in ["eddit.jpg", "photos/eddit", "src"] {
            assert_eq!(mistyped(Path::new(photo)), None, "{photo}");
        }
        assert_eq!(meant_by("eddit").as_deref(), Some("edit"));
        assert_eq!(meant_by("xyzzy"), None);
    }
}
