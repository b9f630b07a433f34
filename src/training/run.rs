//! A run: a folder that holds the state of a training, and the loop that advances it.
//!
//! ```text
//! run.json                what is trained and how
//! state.json              which state is the last complete one
//! state-00012000.safetensors   weights, moving average and Adam's averages after 12,000 steps
//! loss.jsonl              one line every few steps
//! samples-00012000.png    what the moving average makes of fixed noise
//! ```
//!
//! Every file is written beside its place and renamed, and `state.json` is renamed last: a run that is killed at any moment goes on
//! from the state that `state.json` names. A step's batch depends on the seed and the step alone, so it goes on as if never stopped.

use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use burn::module::Module;
use burn::tensor::{Device, FloatDType, Tensor};
use image::RgbImage;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::data::{BatchSource, Loader};
use super::parts::{Divide, Threads};
use super::{Hyperparameters, Learner, TrainError, pictures};
use crate::checkpoint::CheckpointError;
use crate::checkpoint::tensors::{self, Precision, write_renamed};
use crate::model::{ModelConfig, Weights, gpu};
use crate::panics;

const CONFIG: &str = "run.json";
const STATE: &str = "state.json";
const LOSS_LOG: &str = "loss.jsonl";
/// How often a run whose output goes to a file says where it is.
const PLAIN_REPORT: Duration = Duration::from_secs(60);

/// What a folder trains.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StageKind {
    Dpm,
    Autoencoder,
    Latent,
    Judge,
    Sliders,
}

impl StageKind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Dpm => "dpm",
            Self::Autoencoder => "autoencoder",
            Self::Latent => "latent",
            Self::Judge => "judge",
            Self::Sliders => "sliders",
        }
    }
}

/// What is trained and how: the contents of `run.json`. `N` describes the network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunConfig<N = ModelConfig> {
    pub stage: StageKind,
    pub model: N,
    pub hyperparameters: Hyperparameters,
}

/// What every description of a network can do.
pub trait NetworkConfig: PartialEq + Serialize + DeserializeOwned {}

impl<N: PartialEq + Serialize + DeserializeOwned> NetworkConfig for N {}

/// How long a run goes on and how often it tells of itself.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// Steps in all, those of earlier sittings included.
    pub steps: Option<u64>,
    /// Minutes of this sitting.
    pub minutes: Option<f64>,
    pub save_every: u64,
    /// 0 = no sample pictures.
    pub sample_every: u64,
    /// Steps between lines of the loss log.
    pub log_every: u64,
    /// Whether to show progress on the terminal.
    pub progress: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self { steps: None, minutes: None, save_every: 500, sample_every: 2000, log_every: 20, progress: false }
    }
}

/// Where a run stands: the contents of `state.json`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    pub step: u64,
    /// Of all sittings.
    pub minutes: f64,
    pub samples: u64,
    /// Mean loss of the last steps before the save.
    pub loss: Option<f64>,
    /// Of this sitting, without the time for saves and sample pictures; `None` before its first step.
    #[serde(skip)]
    pub samples_per_second: Option<f64>,
    file: String,
}

/// One line of the loss log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LossEntry {
    pub step: u64,
    pub samples: u64,
    pub minutes: f64,
    /// Mean over the steps since the previous line.
    pub loss: f64,
    /// Learning rate.
    pub rate: f64,
    pub samples_per_second: f64,
}

/// A network with its loss.
pub trait Stage: Sync {
    type Network: Module;
    /// What batches are drawn from.
    type Data;
    /// What a loss is computed from, on the host.
    type Batch: Divide + Send + 'static;

    /// The batches of a run with this seed, `batch` examples each.
    fn batches(&self, data: &Arc<Self::Data>, seed: u64, batch: usize) -> BatchSource<Self::Batch>;

    /// The mean loss `[1]` of a batch, computed on `device`. On a processor several threads ask at once, with parts of a batch.
    fn loss(&self, network: &Self::Network, batch: Self::Batch, device: &Device) -> Tensor<1>;

    /// What the averaged network makes of fixed inputs, where that can be shown.
    fn picture(&self, averaged: &Self::Network) -> Option<RgbImage>;
}

/// The folder of a run.
#[derive(Debug, Clone)]
pub struct RunFolder {
    path: PathBuf,
}

impl RunFolder {
    /// A folder that need not be there yet: it is made when something is first kept in it.
    pub fn at(path: &Path) -> Self {
        Self { path: path.into() }
    }

    /// A new or existing folder.
    pub fn create(path: &Path) -> Result<Self, TrainError> {
        let folder = Self::at(path);
        folder.make()?;
        Ok(folder)
    }

    pub(super) fn make(&self) -> Result<(), TrainError> {
        std::fs::create_dir_all(&self.path).map_err(TrainError::io("create", &self.path))
    }

    /// A folder that has been trained in before.
    pub fn existing(path: &Path) -> Option<Self> {
        path.join(CONFIG).is_file().then(|| Self { path: path.into() })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The stage that the run was started as, if it was.
    pub fn stage(&self) -> Result<Option<StageKind>, TrainError> {
        #[derive(Deserialize)]
        struct StageOnly {
            stage: StageKind,
        }
        Ok(self.read_json::<StageOnly>(CONFIG)?.map(|config| config.stage))
    }

    /// What the run was started as, if it was. A run of another stage than `stage` is refused.
    pub fn config<N: NetworkConfig>(&self, stage: StageKind) -> Result<Option<RunConfig<N>>, TrainError> {
        match self.stage()? {
            Some(found) if found != stage => Err(self.other_run(format!("`train {}`", found.name()))),
            _ => self.read_json(CONFIG),
        }
    }

    /// Notes what is trained. A folder that has been trained to something else is refused.
    pub fn set_config<N: NetworkConfig>(&self, config: &RunConfig<N>) -> Result<(), TrainError> {
        self.check_config(config)?;
        self.make()?;
        self.write_json(CONFIG, config)
    }

    /// Refuses a folder that has been trained to something else.
    pub(super) fn check_config<N: NetworkConfig>(&self, config: &RunConfig<N>) -> Result<(), TrainError> {
        match self.config::<N>(config.stage)? {
            Some(found) if found.model != config.model && self.progress()?.is_some() => {
                Err(self.other_run(format!("`train {}` of another network", config.stage.name())))
            }
            _ => Ok(()),
        }
    }

    fn other_run(&self, found: String) -> TrainError {
        TrainError::OtherRun { path: self.path.clone(), found }
    }

    /// Where the last complete state stands.
    pub fn progress(&self) -> Result<Option<Progress>, TrainError> {
        self.read_json(STATE)
    }

    /// The tensors of the last complete state.
    pub fn state(&self) -> Result<(Progress, Weights), TrainError> {
        let progress = self.progress()?.ok_or_else(|| TrainError::NoState { path: self.path.clone() })?;
        let path = self.path.join(&progress.file);
        if Path::new(&progress.file).components().count() != 1 {
            return Err(self.damaged(format!("{STATE} names {}", progress.file)));
        }
        let lost = |reason: String| self.damaged(format!("its last state, {}, {reason}, and a run keeps no earlier one", progress.file));
        match tensors::read(&path) {
            Ok((weights, _)) => Ok((progress, weights)),
            Err(CheckpointError::Unreadable { reason, .. }) => Err(lost(format!("cannot be read ({reason})"))),
            Err(CheckpointError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => Err(lost("is missing".into())),
            Err(error) => Err(error.into()),
        }
    }

    /// The averaged weights of the last complete state under their published names.
    pub fn averaged_weights(&self) -> Result<(Progress, Weights), TrainError> {
        let (progress, state) = self.state()?;
        let mut weights = Weights { origin: state.origin, tensors: Default::default() };
        let (ema, live): (Vec<_>, Vec<_>) = state.tensors.into_iter().partition(|(name, _)| name.starts_with("ema."));
        // Frozen parameters have no average: they are what they are.
        let named = |prefix, tensors: Vec<(String, _)>| {
            tensors.into_iter().filter_map(move |(name, data)| Some((name.strip_prefix(prefix)?.to_owned(), data)))
        };
        weights.tensors.extend(named("weights.", live));
        weights.tensors.extend(named("ema.", ema));
        Ok((progress, weights))
    }

    /// Makes the learner's state the folder's last complete one.
    pub fn save<M: Module>(&self, learner: &Learner<M>, mut progress: Progress) -> Result<(), TrainError> {
        let state = learner.state();
        // Weights that are not numbers would replace the last good ones.
        if state.values().any(|tensor| tensor.values.iter().any(|v| !v.is_finite())) {
            return Err(TrainError::NotFinite { step: learner.step(), kept: self.kept() });
        }
        progress.step = learner.step();
        progress.file = format!("state-{:08}.safetensors", progress.step);
        tensors::write(&self.path.join(&progress.file), &state, Precision::F32)?;
        self.write_json(STATE, &progress)?;
        self.remove_others(&progress.file);
        Ok(())
    }

    /// Puts the last complete state into a learner; `None` if there is none yet.
    pub fn resume<M: Module>(&self, learner: &mut Learner<M>) -> Result<Option<Progress>, TrainError> {
        if self.progress()?.is_none() {
            return Ok(None);
        }
        let (progress, state) = self.state()?;
        learner.restore(progress.step, &state)?;
        Ok(Some(progress))
    }

    /// The loss log.
    pub fn losses(&self) -> Result<Vec<LossEntry>, TrainError> {
        let path = self.path.join(LOSS_LOG);
        match std::fs::read_to_string(&path) {
            // A kill may have cut the last line short.
            Ok(text) => Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(e) => Err(TrainError::io("read", path)(e)),
        }
    }

    /// Opens the loss log without the lines that a killed run wrote after its last save.
    fn open_log(&self, step: u64) -> Result<std::fs::File, TrainError> {
        let path = self.path.join(LOSS_LOG);
        let kept: String = self
            .losses()?
            .iter()
            .filter(|entry| entry.step <= step)
            .filter_map(|entry| serde_json::to_string(entry).ok())
            .map(|line| line + "\n")
            .collect();
        write_renamed(&path, kept.as_bytes())?;
        std::fs::OpenOptions::new().append(true).open(&path).map_err(TrainError::io("open", path))
    }

    /// What an error message can promise.
    fn kept(&self) -> String {
        match self.progress() {
            Ok(Some(progress)) => format!("The state of step {} is kept in {}", progress.step, self.path.display()),
            _ => "Nothing had been saved yet".into(),
        }
    }

    pub(super) fn damaged(&self, reason: String) -> TrainError {
        TrainError::Damaged { path: self.path.clone(), reason }
    }

    fn remove_others(&self, keep: &str) {
        let Ok(entries) = std::fs::read_dir(&self.path) else { return };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if name.starts_with("state-") && name.ends_with(".safetensors") && name != keep {
                // A leftover costs disk space and nothing else.
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }

    pub(super) fn read_json<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, TrainError> {
        let path = self.path.join(name);
        match std::fs::read_to_string(&path) {
            Ok(text) => serde_json::from_str(&text).map(Some).map_err(|e| self.damaged(format!("{name} makes no sense ({e})"))),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(TrainError::io("read", path)(e)),
        }
    }

    pub(super) fn write_json(&self, name: &str, value: &impl Serialize) -> Result<(), TrainError> {
        let text = serde_json::to_string_pretty(value).map_err(|e| self.damaged(e.to_string()))? + "\n";
        Ok(write_renamed(&self.path.join(name), text.as_bytes())?)
    }
}

/// Trains until a limit is reached, from the folder's last state if it has one. The state is saved at the end.
pub fn train<S: Stage, N: NetworkConfig>(
    stage: &S,
    learner: &mut Learner<S::Network>,
    data: &Arc<S::Data>,
    folder: &RunFolder,
    config: &RunConfig<N>,
    limits: &Limits,
    device: &Device,
) -> Result<Progress, TrainError> {
    if limits.steps.is_none() && limits.minutes.is_none() {
        return Err(TrainError::NoLimit);
    }
    if config.hyperparameters.bf16 && !device.supports_dtype(FloatDType::BF16) {
        return Err(TrainError::NoBfloat16);
    }
    folder.set_config(config)?;
    let progress = folder.resume(learner)?.unwrap_or_default();
    let mut sitting = Sitting {
        stage,
        data,
        folder,
        hyperparameters: config.hyperparameters,
        limits,
        device,
        started: Instant::now(),
        stepping: Duration::ZERO,
        timed: 0,
        first_step: learner.step(),
        minutes_before: progress.minutes,
        samples_before: progress.samples,
        loss: progress.loss,
        bar: bar(limits, learner.step()),
        reported: None,
        tuned: device.clone().inner() == Device::flex(),
    };
    // The GPU libraries report lost devices and full memory by panicking. The state on disk is whole at every moment.
    catch_unwind(AssertUnwindSafe(|| sitting.run(learner)))
        .map_err(|payload| failed(folder, learner.step(), panics::text(payload.as_ref()).lines().next().unwrap_or_default()))?
}

fn failed(folder: &RunFolder, step: u64, reason: &str) -> TrainError {
    TrainError::Failed { step, reason: reason.into(), kept: folder.kept() }
}

/// One sitting of a run, from its start to a limit.
struct Sitting<'a, S: Stage> {
    stage: &'a S,
    data: &'a Arc<S::Data>,
    folder: &'a RunFolder,
    hyperparameters: Hyperparameters,
    limits: &'a Limits,
    device: &'a Device,
    started: Instant,
    /// Time spent in steps, without saves and sample pictures.
    stepping: Duration,
    /// The steps that it was spent in.
    timed: u64,
    first_step: u64,
    minutes_before: f64,
    samples_before: u64,
    loss: Option<f64>,
    bar: ProgressBar,
    /// When the last line was printed, where there is no terminal.
    reported: Option<Instant>,
    /// Whether the device has its kernels. A card compiles them in its first step, and in builds that tune it looks for the fastest.
    tuned: bool,
}

impl<S: Stage> Sitting<'_, S> {
    fn run(&mut self, learner: &mut Learner<S::Network>) -> Result<Progress, TrainError> {
        let h = self.hyperparameters;
        let mut log = self.folder.open_log(learner.step())?;
        let threads = Threads::on(self.device, h.batch);
        let sizes = threads.shares(h.batch);
        let mut loader = Loader::start(&self.stage.batches(self.data, h.seed, h.batch), learner.step())?;
        // Losses stay on the device until a line is due: reading one waits for everything before it.
        let mut pending: Vec<Tensor<1>> = Vec::new();
        let (mut steps, mut line_started) = (0, Instant::now());
        if !self.tuned {
            let time = if cfg!(feature = "tuning") { "minutes at its first start" } else { "up to a minute" };
            self.say(format!("getting the card's kernels ready, which takes {time}"));
        }
        let mut looking = (!self.tuned).then(|| gpu::look(Duration::MAX));
        while !self.is_over(learner.step()) {
            let batch = loader.next_batch().ok_or_else(|| failed(self.folder, learner.step(), "a thread that prepares batches died"))?;
            let rate = learner.rate();
            let loss = match &sizes[..] {
                [_] => {
                    let loss = self.stage.loss(learner.network(), batch, self.device);
                    learner.descend(&loss);
                    loss.inner()
                }
                sizes => {
                    let weights = sizes.iter().map(|size| *size as f64 / h.batch as f64);
                    let parts = weights.zip(batch.divide(sizes)).collect();
                    learner.descend_in_parts(&threads, parts, self.device, |network, part| self.stage.loss(network, part, self.device))
                }
            };
            pending.push(loss);
            let step = learner.step();
            if self.tuned {
                steps += 1;
            } else {
                // Waits for the step, so that its minute is not taken for the pace of the run.
                self.mean_loss(&mut pending.clone(), step)?;
                self.tuned = true;
                drop(looking.take());
                line_started = Instant::now();
            }
            if due(step, self.limits.log_every) || due(step, self.limits.save_every) || self.is_over(step) {
                let loss = self.mean_loss(&mut pending, step)?;
                let took = line_started.elapsed();
                self.stepping += took;
                self.timed += steps;
                let samples_per_second = (steps * h.batch as u64) as f64 / took.as_secs_f64().max(1e-9);
                steps = 0;
                let progress = self.progress(step);
                let entry = LossEntry { step, samples: progress.samples, minutes: progress.minutes, loss, rate, samples_per_second };
                self.report(&mut log, &entry)?;
                line_started = Instant::now();
            }
            if due(step, self.limits.save_every) {
                self.folder.save(learner, self.progress(step))?;
                line_started = Instant::now();
            }
            if due(step, self.limits.sample_every) {
                let drawing = Instant::now();
                self.draw(learner)?;
                line_started += drawing.elapsed();
            }
        }
        let progress = self.progress(learner.step());
        if learner.step() > self.first_step {
            self.folder.save(learner, progress.clone())?;
            if self.limits.sample_every > 0 {
                self.draw(learner)?;
            }
        }
        self.bar.finish_and_clear();
        Ok(progress)
    }

    fn is_over(&self, step: u64) -> bool {
        self.limits.steps.is_some_and(|limit| step >= limit) || self.limits.minutes.is_some_and(|limit| self.minutes() >= limit)
    }

    /// Minutes of this sitting.
    fn minutes(&self) -> f64 {
        self.started.elapsed().as_secs_f64() / 60.0
    }

    fn progress(&self, step: u64) -> Progress {
        Progress {
            step,
            minutes: self.minutes_before + self.minutes(),
            samples: self.samples_before + (step - self.first_step) * self.hyperparameters.batch as u64,
            loss: self.loss,
            samples_per_second: (self.timed > 0)
                .then(|| (self.timed * self.hyperparameters.batch as u64) as f64 / self.stepping.as_secs_f64().max(1e-9)),
            file: String::new(),
        }
    }

    fn mean_loss(&mut self, pending: &mut Vec<Tensor<1>>, step: u64) -> Result<f64, TrainError> {
        let loss = f64::from(Tensor::cat(std::mem::take(pending), 0).mean().into_scalar::<f32>());
        if !loss.is_finite() {
            return Err(TrainError::NotFinite { step, kept: self.folder.kept() });
        }
        self.loss = Some(loss);
        Ok(loss)
    }

    fn report(&mut self, log: &mut std::fs::File, entry: &LossEntry) -> Result<(), TrainError> {
        let line = serde_json::to_string(entry).unwrap_or_default() + "\n";
        log.write_all(line.as_bytes()).map_err(TrainError::io("write", self.folder.path.join(LOSS_LOG)))?;
        let position = if self.limits.steps.is_some() { entry.step } else { self.started.elapsed().as_secs() };
        let message = format!("step {}, loss {:.5}, {:.0} samples/s", entry.step, entry.loss, entry.samples_per_second);
        self.bar.set_position(position);
        self.say(message);
        Ok(())
    }

    /// Shows a message. Where there is no terminal, it is a line of its own, and none follows within [`PLAIN_REPORT`].
    fn say(&mut self, message: String) {
        let is_due = self.reported.is_none_or(|last| last.elapsed() >= PLAIN_REPORT);
        if is_due && self.limits.progress && self.bar.is_hidden() {
            // Not a terminal: no bar, but a file should not stay empty for hours either.
            eprintln!("{message}");
            self.reported = Some(Instant::now());
        }
        self.bar.set_message(message);
    }

    fn draw(&self, learner: &Learner<S::Network>) -> Result<(), TrainError> {
        match self.stage.picture(&learner.averaged()) {
            Some(picture) => pictures::save(&picture, &self.folder.path.join(format!("samples-{:08}.png", learner.step()))),
            None => Ok(()),
        }
    }
}

fn due(step: u64, every: u64) -> bool {
    every > 0 && step.is_multiple_of(every)
}

/// A bar over steps where their number is known, else over the time that was asked for.
fn bar(limits: &Limits, step: u64) -> ProgressBar {
    let length = limits.steps.unwrap_or_else(|| (limits.minutes.unwrap_or_default() * 60.0).ceil() as u64);
    let target = if limits.progress { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let style = ProgressStyle::with_template("{wide_bar} {percent}%  {msg}, {eta} left").unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar = ProgressBar::with_draw_target(Some(length), target).with_style(style).with_message("starting");
    if limits.steps.is_some() {
        bar.set_position(step);
        // The rate is that of this sitting, not of the steps it found done.
        bar.reset_eta();
    }
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_state_is_named() {
        let place = tempfile::tempdir().unwrap();
        let folder = RunFolder::at(&place.path().join("run"));
        assert!(folder.progress().unwrap().is_none());
        folder.make().unwrap();
        let file = "state-00000002.safetensors";
        folder.write_json(STATE, &Progress { file: file.into(), ..Progress::default() }).unwrap();
        let said = |part: &str| {
            let error = folder.state().unwrap_err().to_string();
            assert!(error.contains(file) && error.contains(part) && error.contains("fresh --run folder"), "{error}");
            assert!(!error.contains("fetch"), "{error}");
        };
        said("is missing");
        std::fs::write(folder.path().join(file), [9; 20]).unwrap();
        said("cannot be read");
    }
}
