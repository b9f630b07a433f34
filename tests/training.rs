//! Training on the CPU with networks of a size that learns in seconds.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use burn::tensor::{Device, Tensor, TensorData};
use clap::Parser;
use image::RgbImage;
use pdae_studio::checkpoint::import::ImportOptions;
use pdae_studio::checkpoint::tensors::Precision;
use pdae_studio::checkpoint::{Bundle, import};
use pdae_studio::cli::train::TrainArgs;
use pdae_studio::device::DeviceChoice;
use pdae_studio::diffusion::{Schedule, ScheduleConfig};
use pdae_studio::editing::LatentSpace;
use pdae_studio::engine::sample::{SampleOptions, Sampler};
use pdae_studio::model::parameters::WeightData;
use pdae_studio::model::{Denoiser, DenoiserConfig, EncoderKind, LatentDpm, LatentDpmConfig, ModelConfig, Parameters, Prediction, Weights};
use pdae_studio::training::autoencoder::{self, AutoencoderStage, BundleDetails, Networks, Start};
use pdae_studio::training::data::{AttributeTable, BatchSource, square};
use pdae_studio::training::directions::{self, DirectionsJob, FitOptions, auroc};
use pdae_studio::training::dpm::{self, DpmStage};
use pdae_studio::training::latent_dpm::{self, LatentJob, LatentSet};
use pdae_studio::training::latents::{Latents, encoder_sha256};
use pdae_studio::training::run::{self, Stage, StageKind};
use pdae_studio::training::sliders::{self, Prices, SlidersJob};
use pdae_studio::training::{Batch, Hyperparameters, ImageSet, Learner, Limits, RunConfig, RunFolder, TrainError};

fn tiny_model() -> ModelConfig {
    ModelConfig {
        image_size: 64,
        patch: 4,
        prediction: Prediction::Velocity,
        fine_colour: None,
        latent_dim: 8,
        latent_map: 2,
        encoder: EncoderKind::Celeba64,
        denoiser: DenoiserConfig {
            base_channel: 32,
            channel_multiplier: vec![1],
            num_residual_blocks_of_a_block: 1,
            attention_resolutions: vec![],
            num_heads: 1,
            head_channel: -1,
            use_new_attention_order: false,
        },
        schedule: ScheduleConfig::default(),
        latent_dpm: None,
    }
}

fn config(stage: StageKind) -> RunConfig {
    let hyperparameters = Hyperparameters { batch: 4, rate: 2e-3, warmup: 5, ema: 0.9, ..Hyperparameters::default() };
    RunConfig { stage, model: tiny_model(), hyperparameters }
}

fn limits(steps: u64) -> Limits {
    Limits { steps: Some(steps), save_every: 2, sample_every: 0, log_every: 1, ..Limits::default() }
}

/// Smooth colour ramps; every second one (odd `i`) is bright on the left.
fn picture(i: usize, size: u32) -> RgbImage {
    RgbImage::from_fn(size, size, |x, y| {
        let bright = if i % 2 == 1 && x < size / 2 { 120 } else { 0 };
        let ramp = |v: u32, k: usize| (v * 100 / size + (i * k % 30) as u32 + bright).min(255) as u8;
        image::Rgb([ramp(x, 7), ramp(y, 11), ramp((x + y) / 2, 13)])
    })
}

/// A folder of `count` PNG pictures, `000.png` first.
fn folder_of_images(count: usize) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for i in 0..count {
        picture(i, 64).save(folder.path().join(format!("{i:03}.png"))).expect("a picture");
    }
    folder
}

fn images(count: usize, validation: usize) -> Arc<ImageSet> {
    Arc::new(ImageSet::load(folder_of_images(count).path(), 64, validation).expect("images"))
}

fn scalar(tensor: Tensor<1>) -> f64 {
    f64::from(tensor.into_scalar::<f32>())
}

/// Reference tensors of the golden case.
fn golden<const D: usize>(name: &str) -> Tensor<D> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/pdae-tiny-64/golden.safetensors");
    let bytes = std::fs::read(path).expect("golden.safetensors");
    let file = safetensors::SafeTensors::deserialize(&bytes).expect("a safetensors file");
    let view = file.tensor(name).expect("the tensor");
    let values: Vec<f32> = match view.dtype() {
        safetensors::Dtype::I64 => view.data().as_chunks::<8>().0.iter().map(|b| i64::from_le_bytes(*b) as f32).collect(),
        _ => view.data().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
    };
    Tensor::from_data(TensorData::new(values, view.shape().to_vec()), &Device::flex())
}

#[test]
fn golden_losses() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/pdae-tiny-64");
    let bundle = import(&folder, &ImportOptions { precision: Precision::F32, ..Default::default() }).expect("the golden case imports");
    let model = &bundle.manifest.config;
    let schedule = Schedule::new(&model.schedule);
    let networks = Networks::new(&mut Parameters::from_weights(&bundle.weights, &Device::flex()), model).expect("networks");
    let t: Vec<usize> = golden::<1>("t").into_data().try_to_vec::<f32>().expect("floats").into_iter().map(|t| t as usize).collect();
    let check = |name: &str, got: Tensor<1>| {
        let (got, want) = (scalar(got), scalar(golden(name)));
        let error = (got - want).abs() / want;
        println!("{name}: {got:.6}, reference {want:.6}, relative error {error:.1e}");
        assert!(error < 1e-4, "{name}: {got} is not {want}");
    };
    check("dpm_training_loss", dpm::loss(&networks.decoder.denoiser, &schedule, None, golden("x_0"), golden("noise"), &t));
    check("training_loss", autoencoder::loss(&networks, &schedule, golden("x_0"), golden("noise"), &t));
}

/// Mean loss of an averaged network over fixed batches.
fn judge<S: Stage>(stage: &S, learner: &Learner<S::Network>, data: &Arc<S::Data>) -> f64 {
    let network = learner.averaged();
    let batches = stage.batches(data, 99, 8);
    (0..8).map(|step| scalar(stage.loss(&network, batches(step), &Device::flex()))).sum::<f64>() / 8.0
}

/// What a bundle of a test says of itself.
fn details() -> BundleDetails {
    BundleDetails { name: "Test".into(), licence: "none".into(), data: "ramps".into(), device: "CPU".into(), precision: Precision::F16 }
}

fn trained_dpm(folder: &RunFolder, data: &Arc<ImageSet>, steps: u64) -> RunConfig {
    let config = config(StageKind::Dpm);
    dpm::train(folder, &config, None, data, &limits(steps), &Device::flex()).expect("a trained DPM");
    config
}

#[test]
fn both_stages_learn_and_the_dpm_stays_frozen() {
    let (data, device) = (images(6, 0), Device::flex());
    let place = tempfile::tempdir().expect("a temporary folder");
    let dpm_folder = RunFolder::create(&place.path().join("dpm")).expect("a run folder");
    let config_dpm = config(StageKind::Dpm);
    let stage = DpmStage::new(&config_dpm);
    let mut learner = dpm::learner(&config_dpm.model, config_dpm.hyperparameters, &device).expect("a DPM");
    let before = judge(&stage, &learner, &data);
    let started = std::time::Instant::now();
    run::train(&stage, &mut learner, &data, &dpm_folder, &config_dpm, &limits(300), &device.clone().autodiff()).expect("training");
    let after = judge(&stage, &learner, &data);
    println!("DPM: {before:.4} to {after:.4}, {:.0} samples/s", 300.0 * 4.0 / started.elapsed().as_secs_f64());
    assert!(after < 0.7 * before, "the DPM's loss went from {before} to {after}");

    let (model, weights) = dpm::load(dpm_folder.path()).expect("the DPM");
    let config = RunConfig { stage: StageKind::Autoencoder, model, ..config(StageKind::Autoencoder) };
    let stage = AutoencoderStage::new(&config, &data, &device);
    let mut learner = autoencoder::learner(&config.model, Some(Start::Dpm(&weights)), config.hyperparameters, &device).expect("networks");
    let before = judge(&stage, &learner, &data);
    let folder = RunFolder::create(&place.path().join("autoencoder")).expect("a run folder");
    run::train(&stage, &mut learner, &data, &folder, &config, &limits(150), &device.autodiff()).expect("training");
    let after = judge(&stage, &learner, &data);
    println!("autoencoder: {before:.4} to {after:.4}");
    assert!(after < 0.9 * before, "the autoencoder's loss went from {before} to {after}");

    let trained = learner.averaged_weights();
    for (name, data) in &weights.tensors {
        assert_eq!(trained.get(name), Some(data), "{name} belongs to the frozen DPM");
    }
    assert!(learner.state().keys().all(|key| !key.starts_with("ema.decoder.input_blocks")));

    // What was trained can be gone on with in a new run: all of it, or its DPM alone.
    let device = Device::flex();
    let trained = Weights { origin: "trained".into(), tensors: trained };
    let again = autoencoder::learner(&config.model, Some(Start::Bundle(&trained)), config.hyperparameters, &device).expect("networks");
    assert_eq!((again.step(), again.averaged_weights()), (0, trained.tensors.clone()));
    let mut dpm = dpm::learner(&config.model, config.hyperparameters, &device).expect("a DPM");
    dpm.start_from(&trained).expect("the DPM's own weights");
    assert!(dpm.averaged_weights().iter().all(|(name, data)| trained.tensors.get(name) == Some(data)));
    let empty = Weights { origin: "nothing".into(), tensors: BTreeMap::new() };
    assert!(dpm.start_from(&empty).is_err(), "a missing tensor is told");
}

#[test]
fn mixed_precision_learns_as_well_and_keeps_32_bit_weights() {
    let (data, device) = (images(6, 0), Device::flex());
    let place = tempfile::tempdir().expect("a temporary folder");
    let single = config(StageKind::Dpm);
    let mixed = RunConfig { hyperparameters: Hyperparameters { bf16: true, ..single.hyperparameters }, ..single.clone() };
    let trained = |name: &str, config: &RunConfig| {
        let stage = DpmStage::new(config);
        let mut learner = dpm::learner(&config.model, config.hyperparameters, &device).expect("a DPM");
        let folder = RunFolder::create(&place.path().join(name)).expect("a run folder");
        let before = judge(&stage, &learner, &data);
        run::train(&stage, &mut learner, &data, &folder, config, &limits(100), &device.clone().autodiff()).expect("training");
        (before, judge(&stage, &learner, &data), learner.averaged_weights())
    };
    let [(start, single_end, single_weights), (mixed_start, mixed_end, weights)] = [trained("single", &single), trained("mixed", &mixed)];
    println!("32 bits: {start:.4} to {single_end:.4}; mixed: {mixed_start:.4} to {mixed_end:.4}");
    assert!((mixed_start / start - 1.0).abs() < 0.02, "the same network: {start} and {mixed_start}");
    assert!(mixed_end < start - 0.8 * (start - single_end), "32 bits learned from {start} to {single_end}, mixed to {mixed_end}");
    assert!(weights != single_weights, "it was another computation");
    let fine = |value: &f32| value.to_bits() & 0xffff != 0;
    assert!(weights.values().flat_map(|data| &data.values).filter(|value| fine(value)).count() > 1000, "weights were rounded to bfloat16");
}

/// The state after training `steps` steps in a folder, from whatever the folder holds.
fn state_after<S: Stage>(
    stage: &S,
    mut learner: Learner<S::Network>,
    data: &Arc<S::Data>,
    folder: &RunFolder,
    config: &RunConfig,
    steps: u64,
) -> BTreeMap<String, WeightData> {
    run::train(stage, &mut learner, data, folder, config, &limits(steps), &Device::flex().autodiff()).expect("training");
    learner.state()
}

#[test]
fn a_killed_run_goes_on_as_if_never_stopped() {
    let (data, config) = (images(6, 0), config(StageKind::Dpm));
    let place = tempfile::tempdir().expect("a temporary folder");
    let stage = DpmStage::new(&config);
    let fresh = || dpm::learner(&config.model, config.hyperparameters, &Device::flex()).expect("a DPM");
    let folder = |name: &str| RunFolder::create(&place.path().join(name)).expect("a run folder");

    let straight = state_after(&stage, fresh(), &data, &folder("straight"), &config, 7);

    let stopped = folder("stopped");
    state_after(&stage, fresh(), &data, &stopped, &config, 3);
    // What a kill in the middle of the next save leaves: half a newer state, half a line of the log.
    std::fs::write(stopped.path().join("state-00000004.safetensors"), [0; 100]).expect("a file");
    let log = stopped.path().join("loss.jsonl");
    let lines = std::fs::read_to_string(&log).expect("the loss log");
    let newer = lines.lines().last().expect("a line").replace("\"step\":3", "\"step\":4");
    std::fs::write(&log, format!("{lines}{newer}\n{{\"step\":5,\"sam")).expect("a file");
    let resumed = state_after(&stage, fresh(), &data, &stopped, &config, 7);

    assert!(straight == resumed, "the resumed run ended in other weights");
    let losses = |folder: &RunFolder| -> Vec<(u64, u64, f64)> {
        folder.losses().expect("the log").iter().map(|entry| (entry.step, entry.samples, entry.loss)).collect()
    };
    assert_eq!(losses(&folder("straight")), losses(&stopped));
    let left = std::fs::read_dir(stopped.path()).expect("the folder").count();
    assert_eq!(left, 4, "configuration, pointer, one state, log");

    let other = RunConfig { model: ModelConfig { patch: 2, ..config.model.clone() }, ..config.clone() };
    assert!(matches!(stopped.set_config(&other), Err(TrainError::OtherRun { .. })));
}

/// A stage that breaks in a chosen way from a step on.
struct Breaking {
    inner: DpmStage,
    calls: std::sync::atomic::AtomicU32,
    with: fn(Tensor<1>) -> Tensor<1>,
}

impl Stage for Breaking {
    type Network = Denoiser;
    type Data = ImageSet;
    type Batch = Batch;

    fn batches(&self, data: &Arc<ImageSet>, seed: u64, batch: usize) -> BatchSource<Batch> {
        self.inner.batches(data, seed, batch)
    }

    fn loss(&self, network: &Denoiser, batch: Batch, device: &Device) -> Tensor<1> {
        let calls = self.calls.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let loss = self.inner.loss(network, batch, device);
        if calls >= 3 { (self.with)(loss) } else { loss }
    }

    fn picture(&self, averaged: &Denoiser) -> Option<RgbImage> {
        self.inner.picture(averaged)
    }
}

#[test]
fn a_failing_device_or_loss_keeps_the_last_state() {
    let (data, mut config) = (images(4, 0), config(StageKind::Dpm));
    // So that it is not divided, and every step asks once for a loss.
    config.hyperparameters.batch = 1;
    let place = tempfile::tempdir().expect("a temporary folder");
    type Break = fn(Tensor<1>) -> Tensor<1>;
    let breaks: [(&str, Break); 2] = [("lost", |_| panic!("device lost")), ("nan", |loss| loss * f64::NAN)];
    for (name, with) in breaks {
        let folder = RunFolder::create(&place.path().join(name)).expect("a run folder");
        let stage = Breaking { inner: DpmStage::new(&config), calls: 0.into(), with };
        let mut learner = dpm::learner(&config.model, config.hyperparameters, &Device::flex()).expect("a DPM");
        let error =
            run::train(&stage, &mut learner, &data, &folder, &config, &limits(9), &Device::flex().autodiff()).expect_err("a failure");
        let text = error.to_string();
        println!("{text}");
        assert!(text.contains("state of step 2 is kept"), "{text}");
        assert_eq!(folder.state().expect("the state").0.step, 2);
    }
}

#[test]
fn damaged_files_cost_one_image_each() {
    let folder = folder_of_images(5);
    let at = |name: &str| folder.path().join(name);
    std::fs::write(at("002.png"), b"no picture at all").expect("a file");
    let bytes = std::fs::read(at("003.png")).expect("a picture");
    std::fs::write(at("003.png"), &bytes[..bytes.len() / 2]).expect("a file");
    std::fs::write(at("notes.txt"), b"not an image, not counted").expect("a file");
    picture(0, 200).save(at("big.jpg")).expect("a picture");
    let set = ImageSet::load(folder.path(), 64, 1).expect("images");
    assert_eq!((set.names.join(" ").as_str(), set.broken, set.training()), ("000 001 004 big", 2, 3));

    let tar_path = at("images.tar");
    let mut tar = tar::Builder::new(std::fs::File::create(&tar_path).expect("a tar"));
    for name in ["004.png", "000.png", "002.png"] {
        tar.append_path_with_name(at(name), format!("some/folder/{name}")).expect("an entry");
    }
    tar.finish().expect("a tar");
    let from_tar = ImageSet::load(&tar_path, 64, 0).expect("images");
    assert_eq!((from_tar.names.join(" ").as_str(), from_tar.broken), ("000 004", 1));
    let values = |set: &ImageSet, i| set.images(&[i], &Device::flex()).into_data().try_to_vec::<f32>().expect("floats");
    assert_eq!(values(&from_tar, 1), values(&set, 2));

    let empty = tempfile::tempdir().expect("a temporary folder");
    let error = ImageSet::load(empty.path(), 64, 0).expect_err("an empty folder").to_string();
    assert!(error.contains("holds no image"), "{error}");
    assert!(matches!(ImageSet::load(folder.path(), 64, 4), Err(TrainError::AllHeldBack { .. })));
}

#[test]
fn batches_repeat_flip_and_spare_the_validation_images() {
    let set = images(4, 2);
    let image = |i: usize| set.images(&[i], &Device::flex());
    let flipped = |x: &Tensor<4>| x.clone().flip([3]);
    let kinds: Vec<Vec<f32>> =
        [0, 1].into_iter().flat_map(|i| [image(i), flipped(&image(i))]).map(|x| x.into_data().try_to_vec().expect("floats")).collect();
    let mut seen = [0; 4];
    for step in 0..8 {
        let drawn = |step| {
            let (x_0, noise, t) = set.draw(1, step, 4, 1000).upload(&Device::flex());
            let [x_0, noise] = [x_0, noise].map(|x| x.into_data().try_to_vec::<f32>().expect("floats"));
            (x_0, noise, t)
        };
        let (values, noise, t) = drawn(step);
        assert!((values.clone(), noise.clone(), t.clone()) == drawn(step), "a step repeats");
        assert!(noise != drawn(step + 1).1, "and another is another");
        assert!(t.iter().all(|t| *t < 1000));
        let mean = |power| noise.iter().map(|v| v.powi(power)).sum::<f32>() / noise.len() as f32;
        // Some 49,000 values: these are six standard deviations.
        assert!(mean(1).abs() < 0.027 && (mean(2) - 1.0).abs() < 0.039, "standard normal: {}, {}", mean(1), mean(2));
        assert!(values.iter().all(|v| (-1.0..=1.0).contains(v)));
        for drawn in values.chunks_exact(3 * 64 * 64) {
            seen[kinds.iter().position(|kind| kind == drawn).expect("a training image, mirrored or not")] += 1;
        }
    }
    assert!(seen.iter().all(|count| *count > 0), "{seen:?}");
}

#[test]
fn resizing_averages() {
    let checks = RgbImage::from_fn(8, 4, |x, y| image::Rgb([if (x + y) % 2 == 0 { 200 } else { 100 }; 3]));
    assert!(square(&checks, 2).pixels().all(|p| p.0 == [150; 3]));
    // Where the sides do not divide, fine checks must still come out grey and not as coarser checks.
    let checks = RgbImage::from_fn(90, 90, |x, y| image::Rgb([if (x + y) % 2 == 0 { 200 } else { 100 }; 3]));
    assert!(square(&checks, 40).pixels().all(|p| p.0[0].abs_diff(150) < 12));
}

#[test]
fn areas_under_the_curve() {
    let scored = |values: &[(f32, bool)]| auroc(values.to_vec());
    assert_eq!(scored(&[(0.1, false), (0.2, false), (0.7, true), (0.9, true)]), Some(1.0));
    assert_eq!(scored(&[(0.1, true), (0.9, false)]), Some(0.0));
    assert_eq!(scored(&[(0.5, true), (0.5, false), (0.5, false)]), Some(0.5));
    assert_eq!(scored(&[(0.5, true), (0.6, true)]), None);
}

#[test]
fn directions_find_what_was_planted() {
    let folder = folder_of_images(48);
    let table = folder.path().join("attributes.csv");
    let rows: String = (0..48).map(|i| format!("{i:03}.png,{},{}\n", if i % 2 == 1 { "1" } else { "-1" }, 1)).collect();
    std::fs::write(&table, format!("image,Bright_Left,Always\n{rows}")).expect("a table");

    let place = tempfile::tempdir().expect("a temporary folder");
    let dpm = RunFolder::create(&place.path().join("dpm")).expect("a run folder");
    let data = images(4, 0);
    let config_dpm = trained_dpm(&dpm, &data, 1);
    let run = RunFolder::create(&place.path().join("run")).expect("a run folder");
    let config = RunConfig { model: config_dpm.model, ..config(StageKind::Autoencoder) };
    let (_, weights) = dpm::load(dpm.path()).expect("the DPM");
    autoencoder::train(&run, &config, Some(Start::Dpm(&weights)), &data, &limits(1), &Device::flex()).expect("a trained autoencoder");
    let target = place.path().join("bundle");
    autoencoder::write_bundle(&run, &target, &details()).expect("a bundle");

    let fit = FitOptions { iterations: 100, ..FitOptions::default() };
    let job =
        DirectionsJob { bundle: target.clone(), data: folder.path().into(), attributes: table.clone(), validation: 16, fit: fit.clone() };
    let report = directions::add_to_bundle(&job, &Device::flex(), |_| {}).expect("directions");
    println!("{report:?}");
    assert_eq!((report.images, report.held_back), (16, true));
    assert!(report.auroc[0].1.expect("both kinds") > 0.95);
    assert_eq!(report.auroc[1], ("Always".to_owned(), None));

    let bundle = Bundle::load(&target).expect("the bundle");
    assert_eq!(bundle.manifest.attributes, ["Bright_Left", "Always"]);
    assert_eq!(bundle.manifest.provenance.details["steps"], "1");
    assert_eq!(bundle.weights.tensors["classifier.weight"].shape, [2, 8]);
    let directions = &bundle.weights.tensors["directions.weight"];
    assert_eq!(directions.shape, [2, 8]);
    let lengths: Vec<f32> = directions.values.chunks(8).map(|row| row.iter().map(|v| v * v).sum::<f32>()).collect();
    assert!((lengths[0] - 1.0).abs() < 1e-2 && lengths[1] == 0.0, "a unit vector, and nothing where all images agree: {lengths:?}");
    let space = bundle.latent_space();
    let moved = space.edit(&space.mean, [(&"Bright_Left".to_owned(), &100.0)], &BTreeSet::new());
    let logit: f32 = space.normalise(&moved).iter().zip(&space.classifier[0]).map(|(z, w)| z * w).sum();
    assert!(logit > 0.5, "the classifier sees the edit: {logit}");
    assert!(bundle.weights.tensors["latents.std"].values.iter().all(|v| *v > 0.0));
    bundle.build(&Device::flex()).expect("networks");

    // A slider's own ridge and strength, by whatever spelling.
    let own = FitOptions {
        ridge_of: [("bright left".to_owned(), 1e4)].into(),
        strength_of: [("BRIGHT_LEFT".to_owned(), 2.5)].into(),
        ..fit.clone()
    };
    directions::add_to_bundle(&DirectionsJob { fit: own.clone(), ..job.clone() }, &Device::flex(), |_| {}).expect("directions");
    let changed = Bundle::load(&target).expect("the bundle");
    assert_eq!(changed.weights.tensors["directions.strength"].values, [2.5, 1.0]);
    assert_ne!(changed.weights.tensors["directions.weight"], *directions);
    let unknown = FitOptions { ridge_of: [("beard".to_owned(), 1.0)].into(), ..own };
    let error = directions::add_to_bundle(&DirectionsJob { fit: unknown, ..job.clone() }, &Device::flex(), |_| {});
    assert!(error.expect_err("no such attribute").to_string().contains("Bright_Left"));

    let raw = DirectionsJob { fit: FitOptions { raw: true, ..fit }, ..job.clone() };
    directions::add_to_bundle(&raw, &Device::flex(), |_| {}).expect("directions");
    let bundle = Bundle::load(&target).expect("the bundle");
    assert!(!bundle.weights.tensors.contains_key("directions.weight"));
    assert_eq!(bundle.latent_space().directions, bundle.latent_space().classifier, "as published");

    let wrong = |text: &str| {
        std::fs::write(&table, text).expect("a table");
        AttributeTable::load(&table).expect_err("a mistake").to_string()
    };
    assert!(wrong("name,Smiling\n000,1\n").contains("no column called image"));
    assert!(wrong("image,Smiling\n000,maybe\n").contains("\"maybe\", not 1, 0 or -1"));
    std::fs::write(&table, "image,Smiling\nother,1\n").expect("a table");
    let error = directions::add_to_bundle(&job, &Device::flex(), |_| {}).expect_err("no common image").to_string();
    assert!(error.contains("none of the training images"), "{error}");
}

/// Latents around two opposite points, as an encoder might give them: with a mean and a scale of their own.
fn two_kinds_of_latents() -> LatentSet {
    let values = (0..64).flat_map(|i| (0..4).map(move |d| if (i + d) % 2 == 0 { 5.0 } else { 3.0 } + (i * 4 + d) as f32 * 1e-4)).collect();
    let latents = Latents { dim: 4, values };
    let statistics = latents.statistics(48);
    LatentSet::new(&latents, 48, statistics)
}

#[test]
fn a_latent_dpm_learns_where_latents_lie() {
    let (device, set) = (Device::flex(), two_kinds_of_latents());
    let network = LatentDpmConfig { model_channel: 32, num_layers: 3, ..latent_dpm::default_network(4) };
    let hyperparameters = Hyperparameters { rate: 5e-3, warmup: 10, ema: 0.98, ..latent_dpm::default_hyperparameters() };
    let mut learner = latent_dpm::learner(&network, hyperparameters, &device).expect("a latent DPM");
    let schedule = Schedule::for_latents();
    let loss = |network: &LatentDpm, step, device: &Device| {
        let batch = set.draw(0, step, 64, schedule.len());
        let (z_0, noise) = (Tensor::from_data(batch.z_0, device), Tensor::from_data(batch.noise, device));
        latent_dpm::loss(network, &schedule, z_0, noise, &batch.t)
    };
    let before = scalar(loss(&learner.averaged(), 9999, &device));
    for step in 0..200 {
        let loss = loss(learner.network(), step, &device.clone().autodiff());
        learner.descend(&loss);
    }
    let averaged = learner.averaged();
    let after = scalar(loss(&averaged, 9999, &device));
    println!("latent DPM: {before:.4} to {after:.4}");
    assert!(after < 0.6 * before, "the loss went from {before} to {after}");
    let noise = pdae_studio::training::data::fixed_noise(3, [32, 4], &device);
    let samples: Vec<f32> = averaged.sample(noise, 50).into_data().try_to_vec().expect("floats");
    let like_one = samples.chunks(4).filter(|z| (0..4).all(|d| z[d] * z[0] * if d % 2 == 0 { 1.0 } else { -1.0 } > 0.1)).count();
    assert!(like_one >= 28, "{like_one} of 32 samples have the signs of one of the two kinds");
}

#[test]
fn decay_pulls_weights_down_even_without_a_gradient() {
    let hyperparameters = Hyperparameters { rate: 0.1, warmup: 1, weight_decay: 0.5, ..Hyperparameters::default() };
    let device = Device::flex();
    let mut learner = latent_dpm::learner(&latent_dpm::default_network(4), hyperparameters, &device).expect("a latent DPM");
    let weight = |learner: &Learner<LatentDpm>| learner.state()["weights.latent_dpm.layers.0.linear.weight"].values.clone();
    let before = weight(&learner);
    let z: Tensor<2> = Tensor::ones([2, 4], &device.autodiff());
    learner.descend(&(learner.network().forward(z, &[1, 2]).mean() * 0.0));
    assert!(before.iter().zip(weight(&learner)).all(|(before, after)| (before * 0.95 - after).abs() < 1e-6));
}

#[test]
fn trainings_at_once_leave_each_other_s_parts_in_the_bundle() {
    let photos = folder_of_images(6);
    let table = photos.path().join("attributes.csv");
    let rows: String = (0..6).map(|i| format!("{i:03},{}\n", i % 2)).collect();
    std::fs::write(&table, format!("image,Bright_Left\n{rows}")).expect("a table");
    let (place, device) = (tempfile::tempdir().expect("a temporary folder"), Device::flex());
    let folder = |name: &str| RunFolder::create(&place.path().join(name)).expect("a run folder");
    let (data, config_dpm) = (images(4, 0), trained_dpm(&folder("dpm"), &images(4, 0), 1));
    let config = RunConfig { model: config_dpm.model, ..config(StageKind::Autoencoder) };
    let (_, weights) = dpm::load(folder("dpm").path()).expect("the DPM");
    let run = folder("run");
    autoencoder::train(&run, &config, Some(Start::Dpm(&weights)), &data, &limits(1), &device).expect("a trained autoencoder");
    let target = place.path().join("bundle");
    autoencoder::write_bundle(&run, &target, &details()).expect("a bundle");
    // What another training puts into the bundle meanwhile.
    let change = |change: &dyn Fn(&mut Bundle)| {
        let mut bundle = Bundle::load(&target).expect("the bundle");
        change(&mut bundle);
        bundle.save(&target, true).expect("a bundle");
    };
    let note = |key: &str| change(&|bundle| drop(bundle.manifest.provenance.details.insert(key.into(), "meanwhile".into())));

    let fit = FitOptions { iterations: 20, ..FitOptions::default() };
    let job = DirectionsJob { bundle: target.clone(), data: photos.path().into(), attributes: table, validation: 0, fit };
    directions::add_to_bundle(&job, &device, |_| note("beside directions")).expect("directions");
    let job = LatentJob {
        bundle: target.clone(),
        data: Some(photos.path().into()),
        validation: 0,
        network: LatentDpmConfig { model_channel: 32, num_layers: 3, ..latent_dpm::default_network(8) },
        hyperparameters: Hyperparameters { batch: 4, ..latent_dpm::default_hyperparameters() },
    };
    let latent = latent_dpm::prepare(&folder("latent"), &job, &device, |_| ()).expect("latents");
    let job = SlidersJob {
        bundle: target.clone(),
        data: photos.path().into(),
        validation: 0,
        critic: None,
        prices: Prices::default(),
        faces: 1,
        steps: 2,
        hyperparameters: Hyperparameters { batch: 2, ..sliders::default_hyperparameters() },
    };
    sliders::train(&folder("sliders"), &job, &limits(1), &device, |_| note("beside sliders")).expect("sliders");
    latent.train(&folder("latent"), &limits(1), &device).expect("a latent DPM");
    let bundle = Bundle::load(&target).expect("the bundle");
    let said: Vec<&str> = bundle.manifest.provenance.details.keys().map(String::as_str).collect();
    for part in ["beside directions", "beside sliders", "directions", "latent DPM", "sliders and locks"] {
        assert!(said.contains(&part), "{part}: {said:?}");
    }
    assert!(["locks.steps", "latent_dpm.layers.0.linear.weight"].iter().all(|name| bundle.weights.tensors.contains_key(*name)));

    // But what no longer fits stays out.
    let refit = || change(&|bundle| bundle.weights.tensors.get_mut("classifier.weight").expect("a classifier").values.fill(0.5));
    let error = sliders::train(&folder("sliders"), &job, &limits(2), &device, |_| refit()).expect_err("another classifier");
    assert!(matches!(error, TrainError::BundleChanged { .. }), "{error}");
}

#[derive(Parser)]
struct Command {
    #[command(flatten)]
    train: TrainArgs,
}

fn command(line: &str) -> Result<(), TrainError> {
    pdae_studio::cli::train::run(Command::parse_from(line.split_whitespace()).train)
}

#[test]
fn from_photos_to_a_bundle_on_the_command_line() {
    let photos = folder_of_images(6);
    let table = photos.path().join("attributes.csv");
    let rows: String = (0..6).map(|i| format!("{i:03},{}\n", i % 2)).collect();
    std::fs::write(&table, format!("image,Bright_Left\n{rows}")).expect("a table");
    let place = tempfile::tempdir().expect("a temporary folder");
    let (photos, place) = (photos.path().display(), place.path());
    let common = format!("--data {photos} --batch 2 --device cpu --validation 2");
    let network = "--preset tiny64 --patch 8 --base 32 --mult 1 --attention 4 --latent 8";
    let (dpm, run) = (place.join("dpm"), place.join("run"));

    let without_limit = command(&format!("train dpm --run {} {common}", dpm.display()));
    assert!(matches!(without_limit, Err(TrainError::NoLimit)));
    command(&format!("train dpm --run {} {common} {network} --steps 2 --sample-every 0", dpm.display())).expect("a DPM");
    // Going on needs neither the network nor the hyperparameters again.
    command(&format!("train dpm --run {} --data {photos} --device cpu --steps 3", dpm.display())).expect("a DPM");
    let progress = RunFolder::existing(&dpm).expect("a run").progress().expect("a state").expect("a state");
    assert_eq!((progress.step, progress.samples), (3, 6));
    let sample = image::open(dpm.join("samples-00000003.png")).expect("a sample picture");
    assert_eq!((sample.width(), sample.height()), (8 * 64, 2 * 64));

    let autoencoder = format!("train autoencoder --run {} {common} --steps 2 --attributes {}", run.display(), table.display());
    assert!(matches!(command(&autoencoder), Err(TrainError::NoDpm)));
    command(&format!("{autoencoder} --dpm {} --name Ramps", dpm.display())).expect("an autoencoder");
    let bundle = Bundle::load(&run.join("bundle")).expect("the bundle");
    assert_eq!((bundle.manifest.name.as_str(), bundle.manifest.attributes.len()), ("Ramps", 1));
    let sample = image::open(run.join("samples-00000002.png")).expect("a sample picture");
    assert_eq!((sample.width(), sample.height()), (2 * 64, 2 * 64));

    let wrong = command(&format!("train dpm --run {} {common} --steps 1", run.display())).expect_err("another stage").to_string();
    assert!(wrong.contains("train autoencoder"), "{wrong}");
    let bundle = run.join("bundle");
    let directions =
        format!("train directions --bundle {} --data {photos} --attributes {} --device cpu", bundle.display(), table.display());
    command(&directions).expect("directions");

    let latent = format!("train latent --run {} --bundle {} --device cpu", place.join("latent").display(), bundle.display());
    assert!(matches!(command(&format!("{latent} --steps 2")), Err(TrainError::NoLatents { .. })));
    let network = "--width 32 --layers 3 --batch 4 --sample-every 0";
    command(&format!("{latent} --steps 2 --data {photos} --validation 2 {network}")).expect("a latent DPM");
    let sampler = |seed| Sampler::load(&bundle, DeviceChoice::Cpu, seed, SampleOptions { steps: 2, latent_steps: 3, ..Default::default() });
    let faces = sampler(1).expect("a sampler").draw(3, || ()).expect("faces");
    assert_eq!(faces[0].dimensions(), (64, 64));
    let mut again = sampler(1).expect("a sampler");
    // Alone or in a batch, a seed's n-th face is the same up to rounding.
    for face in &faces {
        let alone = &again.draw(1, || ()).expect("a face")[0];
        assert!(alone.iter().zip(face.iter()).all(|(a, b)| a.abs_diff(*b) <= 1));
    }
    assert_ne!(sampler(2).expect("a sampler").draw(1, || ()).expect("a face")[0], faces[0]);

    // Going on needs neither photos nor network; other photos or another network need another folder.
    command(&format!("{latent} --steps 3 --sample-every 1")).expect("a latent DPM");
    let run = RunFolder::existing(&place.join("latent")).expect("a run");
    assert_eq!(run.progress().expect("a state").expect("a state").samples, 12);
    let picture = image::open(run.path().join("samples-00000003.png")).expect("a sample picture");
    assert_eq!((picture.width(), picture.height()), (8 * 64, 64));
    for other in [format!("--data {photos} --validation 1"), "--width 64".to_owned()] {
        assert!(matches!(command(&format!("{latent} --steps 4 {other}")), Err(TrainError::OtherRun { .. })), "{other}");
    }
    // Learning sliders gives each a usual and a pure step, and says what both do; a run without the photos says so.
    let fitted = Bundle::load(&bundle).expect("the bundle").latent_space();
    let sliders = |run: &str| {
        format!(
            "train sliders --run {} --bundle {} --batch 4 --faces 2 --decode-steps 2 --device cpu",
            place.join(run).display(),
            bundle.display()
        )
    };
    assert!(command(&format!("{} --steps 1 --data {}", sliders("sliders"), place.join("nowhere").display())).is_err());
    command(&format!("{} --steps 2 --data {photos}", sliders("sliders"))).expect("sliders");
    let learned = Bundle::load(&bundle).expect("the bundle");
    let moves = |space: &LatentSpace| space.step(&space.attributes[0], &BTreeSet::new()).expect("a slider");
    assert_ne!(moves(&learned.latent_space()), moves(&fitted));
    assert_eq!(learned.latent_space().classifier, fitted.classifier, "who tells attributes stays");
    assert_eq!(learned.weights.tensors["locks.steps"].shape, [1, 8]);
    assert_eq!(learned.weights.tensors["locks.effects"].shape, [2, 1, 1]);
    assert!(learned.weights.tensors["locks.effects"].values.iter().any(|v| *v != 0.0), "pictures change");
    // The same command goes on; another price needs another folder.
    command(&format!("{} --steps 3 --data {photos}", sliders("sliders"))).expect("more of it");
    let more = Bundle::load(&bundle).expect("the bundle");
    assert_ne!(more.latent_space().locks, learned.latent_space().locks);
    assert!(more.manifest.provenance.details["sliders and locks"].starts_with("12 samples"), "{:?}", more.manifest.provenance.details);
    assert!(matches!(command(&format!("{} --steps 4 --price 3 --data {photos}", sliders("sliders"))), Err(TrainError::OtherRun { .. })));
    // So do other photos, as what was learned is told in terms of how these differ.
    let held = command(&format!("{} --steps 4 --data {photos} --validation 2", sliders("sliders"))).expect_err("other photos").to_string();
    assert!(held.contains("6 images of") && held.contains("0 of them held back"), "{held}");
    // A critic reads beside the encoder, of which the bundle tells; it must have been trained.
    let critic = place.join("critic");
    let with = format!("{} --steps 1 --data {photos} --critic {} --pixel-price-of bright_left=3", sliders("read"), critic.display());
    assert!(matches!(command(&with.replace("bright_left=", "nothing=")), Err(TrainError::UnknownAttribute { .. })));
    assert!(matches!(command(&with), Err(TrainError::NoState { .. })));
    let judge = format!("train judge --run {} {common} --attributes {} --size 16 --steps 2", critic.display(), table.display());
    command(&judge).expect("a judge");
    command(&with).expect("sliders read by a critic");
    let read = Bundle::load(&bundle).expect("the bundle");
    assert!(read.manifest.provenance.details["sliders and locks"].contains("a critic"));
    assert!(read.manifest.provenance.details["sliders and locks"].contains("3 for Bright_Left's"));
    let mut bare = read.clone();
    bare.manifest.attributes.clear();
    bare.save(&place.join("bare"), false).expect("a bundle without sliders");
    let refused = command(&format!(
        "train sliders --run {} --bundle {} --steps 1 --data {photos} --device cpu",
        place.join("none").display(),
        place.join("bare").display()
    ));
    assert!(matches!(refused, Err(TrainError::NoSliders { .. })), "{refused:?}");
    // Fitting sliders again leaves the latents' scale alone, which the latent DPM was trained on.
    let before = Bundle::load(&bundle).expect("the bundle");
    assert!(before.manifest.config.latent_dpm.is_some());
    command(&format!("{directions} --validation 3")).expect("directions");
    let after = Bundle::load(&bundle).expect("the bundle");
    assert_eq!(before.weights.tensors["latents.std"], after.weights.tensors["latents.std"]);
    assert!(!after.weights.tensors.keys().any(|name| name.starts_with("locks.")), "they were the former sliders'");
    // To repeat what is done leaves the bundle alone, but for its name. To go on makes another one; what was made for the former stays with
    // that.
    command(&format!("{autoencoder} --name Slopes")).expect("nothing to do");
    let renamed = Bundle::load(&bundle).expect("the bundle");
    assert!(renamed.weights.tensors == after.weights.tensors);
    assert_eq!(renamed.manifest.name, "Slopes");
    assert_eq!(renamed.manifest.provenance.licence, after.manifest.provenance.licence);
    command(&autoencoder.replace("--steps 2", "--steps 3")).expect("more of it");
    let [new, former] = [bundle.clone(), bundle.with_file_name("bundle-1")].map(|path| Bundle::load(&path).expect("a bundle"));
    assert!(former.weights.tensors == after.weights.tensors && former.manifest.config.latent_dpm.is_some());
    assert_eq!((new.manifest.attributes.len(), &new.manifest.config.latent_dpm), (1, &None));
    assert_ne!(encoder_sha256(&new), encoder_sha256(&former));
    command(&autoencoder.replace("--steps 2", "--steps 4")).expect("still more");
    assert!(!bundle.with_file_name("bundle-2").exists(), "its directions came again");
    let mut other = former.clone();
    other.manifest.provenance.source = "elsewhere".into();
    other.save(&place.join("other"), false).expect("another model");
    command(&format!("{autoencoder} --bundle {}", place.join("other").display())).expect("a bundle");
    assert_eq!(Bundle::read_manifest(&place.join("other-1")).expect("a bundle").provenance.source, "elsewhere");
}
