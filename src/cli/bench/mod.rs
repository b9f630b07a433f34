//! `bench`: how fast this machine is with a model, as one table.

mod machine;
mod networks;
mod session;
mod start;

use std::time::{Duration, Instant};

use clap::Args;
use cpu_time::ProcessTime;
use serde::Serialize;
use thiserror::Error;

use super::ModelArgs;
use crate::device;
use crate::engine::edit::EditError;
use networks::Network;

#[derive(Debug, Args)]
pub struct BenchArgs {
    /// Measure a network of this shape with random weights, instead of a model. Only steps are measured then.
    #[arg(long, value_enum)]
    network: Option<Network>,
    /// Only the steps of the networks; nothing that needs a photo.
    #[arg(long)]
    steps_only: bool,
    /// Threads to use [default: all cores].
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Times that each step is measured.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    repeat: u32,
    /// Print the steps as one line of JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    model: ModelArgs,
}

#[derive(Debug, Error)]
pub enum BenchError {
    #[error(transparent)]
    Edit(#[from] EditError),
    #[error("the threads could not be started: {0}. Try fewer of them with --threads")]
    Threads(#[from] rayon::ThreadPoolBuildError),
    #[error("the engine could not be started: {0}. Close other programs and try again")]
    Engine(#[from] std::io::Error),
    #[error("the engine stopped before it was measured: {0}")]
    Stopped(String),
    #[error("the network cannot be built: {0}")]
    Network(String),
}

/// How long something took, over several times.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Timing {
    /// Milliseconds, the middle one.
    pub median: f64,
    /// Milliseconds, the shortest.
    pub least: f64,
    /// Milliseconds that all threads of the program computed, the middle one.
    pub cpu: f64,
}

/// Runs something a few times to warm up and then `repeat` times.
pub(crate) fn timed(repeat: u32, mut run: impl FnMut()) -> Timing {
    (0..3).for_each(|_| run());
    let (mut wall, mut cpu) = (Vec::new(), Vec::new());
    for _ in 0..repeat {
        let (start, computed) = (Instant::now(), ProcessTime::now());
        run();
        wall.push(milliseconds(start.elapsed()));
        cpu.push(milliseconds(computed.elapsed()));
    }
    wall.sort_by(f64::total_cmp);
    cpu.sort_by(f64::total_cmp);
    Timing { median: wall[wall.len() / 2], least: wall[0], cpu: cpu[cpu.len() / 2] }
}

pub(crate) fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

pub fn run(args: &BenchArgs) -> Result<(), BenchError> {
    if let Some(threads) = args.threads {
        rayon::ThreadPoolBuilder::new().num_threads(threads.into()).build_global()?;
    }
    let bundle = args.model.bundle();
    let measured = networks::measure(args.network, &bundle, args.model.device, args.repeat)?;
    if args.json {
        println!("{}", serde_json::to_string(&measured).unwrap_or_default());
        return Ok(());
    }
    line("Machine", &machine::description());
    line("Computes on", &measured.backend);
    line("Matrix product", &format!("{:.0} GFLOP/s (f32, {})", measured.peak, device::threads(measured.threads)));
    line("Network", &measured.name);
    println!();
    println!("{:<26}{:>10}{:>10}{:>10}{:>10}{:>10}{:>10}", "", "median ms", "least ms", "CPU ms", "a second", "GFLOP/s", "of peak");
    for step in &measured.steps {
        let speed = step.gflop / step.timing.median * 1e3;
        println!(
            "{:<26}{:>10.2}{:>10.2}{:>10.2}{:>10.1}{:>10.0}{:>9.0}%",
            step.name,
            step.timing.median,
            step.timing.least,
            step.timing.cpu,
            1e3 / step.timing.median,
            speed,
            100.0 * speed / measured.peak
        );
    }
    if args.network.is_none() && !args.steps_only {
        println!();
        start::measure(&bundle, args.model.device)?;
        session::measure(&bundle, args.model.device)?;
    }
    if let Some(bytes) = machine::peak_memory() {
        line("Most memory", &format!("{:.0} MB", bytes as f64 / 1e6));
    }
    Ok(())
}

fn line(name: &str, value: &str) {
    println!("{name:<26}{value}");
}

fn time_line(name: &str, time: Duration) {
    println!("{name:<26}{:>10.1} ms", milliseconds(time));
}
