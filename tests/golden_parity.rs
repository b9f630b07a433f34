//! Every tensor of the golden case (`tests/golden`), computed by the authors' code in float32, against ours.
//!
//! Bounds: 1e-4 relative for a single pass, 1e-3 for a ten-step chain. With products in f16 a single pass stays within 3e-3 where their
//! sums are 32-bit, and within 2e-2 on the GPU backend, whose kernels may sum in f16 as well; in bf16 within 3e-2. The same checks run on the GPU backend where wgpu finds an
//! adapter (Mesa's software Vulkan counts) and are skipped by name where it does not.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use burn::tensor::{Device, FloatDType, Tensor, TensorData};
use pdae_studio::checkpoint::import::ImportOptions;
use pdae_studio::checkpoint::tensors::Precision;
use pdae_studio::checkpoint::{Bundle, import};
use pdae_studio::diffusion::{Schedule, lerp, slerp};
use pdae_studio::model::cpu::Storage;
use pdae_studio::model::{Autoencoder, Guidance, Parameters, Prediction};

const SINGLE: f64 = 1e-4;
const CHAIN: f64 = 1e-3;
const SINGLE_F16: f64 = 3e-3;
const SINGLE_F16_SUMS: f64 = 2e-2;
const SINGLE_BF16: f64 = 3e-2;
const SINGLE_SHORTS: f64 = 1e-3;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/pdae-tiny-64")
}

fn bundle() -> Bundle {
    import(&folder(), &ImportOptions { precision: Precision::F32, ..Default::default() }).expect("the golden case imports")
}

/// The reference tensors, and which of them a test has looked at.
struct Golden {
    tensors: HashMap<String, (Vec<usize>, Vec<f32>)>,
    device: Device,
}

impl Golden {
    fn new(device: &Device) -> Self {
        let bytes = std::fs::read(folder().join("golden.safetensors")).expect("golden.safetensors");
        let file = safetensors::SafeTensors::deserialize(&bytes).expect("a safetensors file");
        let tensors = file
            .tensors()
            .into_iter()
            .map(|(name, view)| {
                let values = match view.dtype() {
                    safetensors::Dtype::F32 => view.data().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
                    safetensors::Dtype::I64 => view.data().as_chunks::<8>().0.iter().map(|b| i64::from_le_bytes(*b) as f32).collect(),
                    other => panic!("{name}: {other:?}"),
                };
                (name, (view.shape().to_vec(), values))
            })
            .collect();
        Self { tensors, device: device.clone() }
    }

    fn values(&self, name: &str) -> Vec<f32> {
        self.tensors[name].1.clone()
    }

    fn integers(&self, name: &str) -> Vec<usize> {
        self.values(name).into_iter().map(|v| v as usize).collect()
    }

    fn tensor<const D: usize>(&self, name: &str) -> Tensor<D> {
        let (shape, values) = &self.tensors[name];
        Tensor::from_data(TensorData::new(values.clone(), shape.clone()), &self.device)
    }

    #[track_caller]
    fn check<const D: usize>(&self, name: &str, got: Tensor<D>, bound: f64) {
        assert_eq!(got.dims().to_vec(), self.tensors[name].0, "{name}: shape");
        self.check_values(name, &got.into_data().convert::<f32>().try_to_vec::<f32>().expect("floats"), bound);
    }

    #[track_caller]
    fn check_values(&self, name: &str, got: &[f32], bound: f64) {
        let error = relative_error(got, &self.tensors[name].1);
        println!("{name}: relative error {error:.1e}");
        assert!(error < bound, "{name}: relative error {error:.2e}, allowed {bound:.0e}");
    }
}

/// `|got - want| / |want|`, Euclidean.
fn relative_error(got: &[f32], want: &[f32]) -> f64 {
    assert_eq!(got.len(), want.len());
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
    let difference = norm(&mut got.iter().zip(want).map(|(a, b)| f64::from(a - b)));
    difference / norm(&mut want.iter().map(|v| f64::from(*v))).max(1e-12)
}

fn single_passes(model: &Autoencoder, golden: &Golden, bound: f64) {
    let t = golden.integers("t");
    // The encoder is never narrowed.
    golden.check("z", model.semantic_latent(golden.tensor("x_0")), SINGLE);
    let (eps, gradient) = model.guided(golden.tensor("x_t"), &t, golden.tensor("z"));
    golden.check("epsilon", eps, bound);
    golden.check("gradient", gradient, bound);
    golden.check("dpm_epsilon", model.noise(golden.tensor("x_t"), &t), bound);
    let latent_dpm = model.latent_dpm.as_ref().expect("the golden case has a latent DPM");
    golden.check("latent_epsilon", latent_dpm.forward(golden.tensor("latent_z_T"), &t), bound);
}

#[test]
fn single_passes_on_cpu() {
    let device = Device::flex();
    single_passes(&bundle().build(&device).expect("networks"), &Golden::new(&device), SINGLE);
}

/// Products in 16 bits, sums that pass from layer to layer in 32: what `gpu-f16` and `cuda-f16` compute in, and `train --bf16`.
fn narrow(device: &Device, compute: FloatDType) -> Autoencoder {
    let bundle = bundle();
    let mut parameters = Parameters::from_weights(&bundle.weights, device).computing_in(Some(compute));
    Autoencoder::build_networks(&bundle.manifest.config, &mut parameters).expect("networks")
}

#[test]
fn single_passes_in_16_bits() {
    let device = Device::flex();
    for (compute, bound) in [(FloatDType::F16, SINGLE_F16), (FloatDType::BF16, SINGLE_BF16)] {
        println!("{compute:?}");
        single_passes(&narrow(&device, compute), &Golden::new(&device), bound);
    }
}

/// What the window and the command line use on a CPU.
#[test]
fn on_the_cpu_kernels() {
    let device = Device::flex();
    let (bundle, golden) = (bundle(), Golden::new(&device));
    let model = bundle.build(&device).expect("networks").on_cpu_kernels(Storage::Floats);
    single_passes(&model, &golden, SINGLE);
    chains(&model, &bundle, &golden);
}

/// The same for bundles whose weights came as 16-bit floats: how these weights fare when they are kept as integers.
#[test]
fn on_the_cpu_kernels_with_weights_as_integers() {
    let device = Device::flex();
    let model = bundle().build(&device).expect("networks").on_cpu_kernels(Storage::Shorts);
    single_passes(&model, &Golden::new(&device), SINGLE_SHORTS);
}

#[test]
fn chains_on_cpu() {
    let device = Device::flex();
    let (bundle, golden) = (bundle(), Golden::new(&device));
    let model = bundle.build(&device).expect("networks");
    chains(&model, &bundle, &golden);
}

fn chains(model: &Autoencoder, bundle: &Bundle, golden: &Golden) {
    let (x_0, z, x_t): (Tensor<4>, Tensor<2>, Tensor<4>) = (golden.tensor("x_0"), golden.tensor("z"), golden.tensor("x_T"));
    golden.check("x_T", model.infer_stochastic_latent(x_0, &z, 10), CHAIN);
    let guidance = Guidance::default();
    golden.check("reconstruction", model.decode(x_t.clone(), &z, 10, guidance), CHAIN);
    golden.check("reconstruction_stop_0.3", model.decode(x_t.clone(), &z, 10, Guidance { stop_percent: 0.3, ..guidance }), CHAIN);
    // Stopping the guidance before the first step leaves the plain DPM.
    golden.check("dpm_sample", model.decode(x_t.clone(), &z, 10, Guidance { stop_percent: 1.0, ..guidance }), CHAIN);

    // The edit's latent arithmetic itself is checked in `edited_latent`.
    golden.check("edited", model.decode(x_t.clone(), &golden.tensor("edited_z"), 10, guidance), CHAIN);

    let alpha = f64::from(golden.values("interpolation_alpha")[0]);
    let (z_a, z_b) = (z.clone().narrow(0, 0, 1), z.narrow(0, 1, 1));
    let (x_a, x_b) = (x_t.clone().narrow(0, 0, 1), x_t.narrow(0, 1, 1));
    let mixed_z = lerp(z_a.clone(), z_b.clone(), alpha);
    let mixed_x = slerp(x_a, x_b, alpha);
    golden.check("interpolated_z", mixed_z.clone(), SINGLE);
    golden.check("interpolated_x_T", mixed_x.clone(), SINGLE);
    golden.check("interpolation", model.decode(mixed_x.clone(), &mixed_z, 10, guidance), CHAIN);
    golden.check("trajectory_interpolation", model.decode_trajectory(mixed_x, &z_a, &z_b, alpha, 10), CHAIN);

    let sample = model.sample_latents(golden.tensor("latent_z_T"), 10).expect("a latent DPM");
    golden.check("latent_sample_clamped", sample.clone(), CHAIN);
    let space = bundle.latent_space();
    let dim = space.mean.len();
    let (mean, std) = (model.tensor(space.mean, [1, dim]), model.tensor(space.std, [1, dim]));
    golden.check("latent_sample", sample * std + mean, CHAIN);
}

#[test]
fn tables_and_forward_process() {
    let device = Device::flex();
    let golden = Golden::new(&device);
    let schedule = Schedule::new(&bundle().manifest.config.schedule);
    let narrow = |values: &[f64]| values.iter().map(|v| *v as f32).collect::<Vec<_>>();
    golden.check_values("schedule.alphas_cumprod", &narrow(&schedule.alphas_cumprod), 1e-6);
    golden.check_values("schedule.shift_coef", &narrow(&schedule.shift_coef), 1e-6);
    let loss_weight: Vec<f64> = schedule.alphas_cumprod.iter().map(|abar| Prediction::Noise.autoencoder_weight(*abar)).collect();
    golden.check_values("schedule.loss_weight", &narrow(&loss_weight), 1e-6);
    assert_eq!(schedule.ddim_timesteps(10), golden.integers("ddim_timestep_map"));

    let (x_0, noise): (Tensor<4>, Tensor<4>) = (golden.tensor("x_0"), golden.tensor("noise"));
    let rows = golden.integers("t").into_iter().enumerate().map(|(i, t)| {
        let (signal, sigma) = schedule.forward_factors(t);
        x_0.clone().narrow(0, i, 1) * signal + noise.clone().narrow(0, i, 1) * sigma
    });
    golden.check("x_t", Tensor::cat(rows.collect(), 0), 1e-6);
}

#[test]
fn on_the_gpu_backend() {
    // In builds that tune, trying every variant of every kernel takes a software driver a quarter of an hour, and all of them must agree
    // anyway. The setting is read once a process, before any other test's thread can be told to wait: hence a process of its own.
    const LEVEL: &str = "CUBECL_AUTOTUNE_LEVEL";
    if cfg!(feature = "tuning") && std::env::var_os(LEVEL).is_none() {
        let program = std::env::current_exe().expect("this test's own program");
        let mut child = std::process::Command::new(program);
        child.args(["--exact", "on_the_gpu_backend", "--nocapture"]).env(LEVEL, "minimal");
        let output = child.output().expect("the test starts again");
        print!("{}", String::from_utf8_lossy(&output.stdout));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        return;
    }
    let Some(device) = pdae_studio::device::DeviceChoice::Gpu.open().map(|found| found.device).ok() else {
        println!("SKIPPED on_the_gpu_backend: wgpu finds no adapter on this machine");
        return;
    };
    let (bundle, golden) = (bundle(), Golden::new(&device));
    // The tensor library's operations, as in training.
    single_passes(&bundle.build(&device).expect("networks"), &golden, SINGLE);
    // What the window and the command line use.
    let model = bundle.build_for_use(&device).expect("networks");
    single_passes(&model, &golden, SINGLE);
    chains(&model, &bundle, &golden);
    // What is remembered of a first step is nobody's to write into.
    let (z, edited, x_t): (Tensor<2>, Tensor<2>, Tensor<4>) = (golden.tensor("z"), golden.tensor("edited_z"), golden.tensor("x_T"));
    let decoded = |z: &Tensor<2>| model.decode(x_t.clone(), z, 3, Guidance::default()).into_data();
    let first = decoded(&z);
    assert_ne!(decoded(&edited), first);
    assert_eq!(decoded(&z), first);
    if device.supports_dtype(FloatDType::F16) {
        let half = Some(FloatDType::F16);
        single_passes(&narrow(&device, FloatDType::F16).on_gpu_kernels(half), &golden, SINGLE_F16_SUMS);
    } else {
        println!("SKIPPED 16-bit floats on the GPU backend: the adapter has none");
    }
}
