//! Parses the command line and starts the window or one command.

use clap::Parser;
use pdae_studio::cli::{self, Cli};
use pdae_studio::files;

fn main() -> std::process::ExitCode {
    // Without a desktop portal, rfd reports that as an error and acts as on Cancel; the window says so in its own words.
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("error,rfd=off")).init();
    files::clean_up_when_stopped();
    cli::run(Cli::parse())
}
