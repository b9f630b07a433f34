//! Parses the command line and starts the window or one command.

use clap::Parser;
use pdae_studio::cli::{self, Cli};

fn main() -> std::process::ExitCode {
    env_logger::init();
    cli::run(Cli::parse())
}
