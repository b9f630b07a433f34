//! How long the window takes from the call of the program.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, unbounded};

use super::{BenchError, line, time_line};
use crate::device::DeviceChoice;
use crate::studio::{self, timed};

/// Starts that are measured, after one that fills the system's file cache.
const STARTS: usize = 3;
/// A window that is not there by then will not come.
const PATIENCE: Duration = Duration::from_secs(60);

pub fn measure(bundle: &Path, device: DeviceChoice) -> Result<(), BenchError> {
    if !studio::has_display() {
        line("Window", "not measured: there is no display");
        return Ok(());
    }
    let mut starts = Vec::new();
    for _ in 0..=STARTS {
        match start(bundle, device)? {
            Some(times) => starts.push(times),
            None => {
                line("Window", "not measured: it could not be opened");
                return Ok(());
            }
        }
    }
    let median = |time: fn(&[Duration; 2]) -> Duration| {
        let mut times: Vec<Duration> = starts[1..].iter().map(time).collect();
        times.sort();
        times[times.len() / 2]
    };
    time_line("Window drawn", median(|times| times[0]));
    time_line("Window with the photo", median(|times| times[1]));
    Ok(())
}

/// From the call until the window is drawn, and until the photo is in it. `None` where no window came.
fn start(bundle: &Path, device: DeviceChoice) -> std::io::Result<Option<[Duration; 2]>> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("--time-start").arg("--model").arg(bundle).args(["--device", &device.to_string()]);
    let called = Instant::now();
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    let lines = lines(&mut child, called);
    let time_of = |what: &str| lines.recv_timeout(PATIENCE).ok().filter(|(said, _)| said == what).map(|(_, time)| time);
    let times = time_of(timed::DRAWN).and_then(|drawn| Some([drawn, time_of(timed::READY)?]));
    if times.is_none() {
        child.kill()?;
    }
    child.wait()?;
    Ok(times)
}

/// What a program prints, and when.
fn lines(child: &mut Child, called: Instant) -> Receiver<(String, Duration)> {
    let (sender, receiver) = unbounded();
    if let Some(output) = child.stdout.take() {
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let _ = sender.send((line, called.elapsed()));
            }
        });
    }
    receiver
}
