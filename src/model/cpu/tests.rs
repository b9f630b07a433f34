//! Every instruction set that this machine has, against the tensor library's operators.

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Device, Distribution, Tensor, TensorData};
use proptest::prelude::*;

use super::buffer::Pool;
use super::convolution::{Base, Convolution, Method, Padded};
use super::kernels::available;
use super::matrix::Storage;
use super::network::{Decoder, Encoder, Noisy};
use super::training;
use crate::diffusion::{Betas, ScheduleConfig};
use crate::model::autodiff::tests::check_gradients;
use crate::model::{DenoiserConfig, EncoderKind, ModelConfig, Parameters, Prediction, ShiftDecoder, encoder};

fn random(len: usize, seed: u64) -> Vec<f32> {
    use rand::{RngExt, SeedableRng, rngs::StdRng};
    let mut rng = StdRng::seed_from_u64(seed);
    (0..len).map(|_| rng.random_range(-1.0f32..1.0)).collect()
}

/// `|got - want| / |want|`, Euclidean.
fn relative_error(got: &[f32], want: &[f32]) -> f64 {
    assert_eq!(got.len(), want.len());
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
    norm(&mut got.iter().zip(want).map(|(a, b)| f64::from(a - b))) / norm(&mut want.iter().map(|v| f64::from(*v))).max(1e-12)
}

fn floats<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_to_vec().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Odd sides, single rows, channels that fill no lane: everything that a blocked kernel gets wrong first.
    #[test]
    fn convolutions_agree_with_the_tensor_library(
        batch in 1usize..3, height in 1usize..11, width in 1usize..19, input in 1usize..5, output in 1usize..70,
        lanes in any::<bool>(), stride in 1usize..3, base in 0usize..3, seed in any::<u64>(),
    ) {
        let input = if lanes { 16 * input } else { input };
        let device = Device::flex();
        let x = random(batch * input * height * width, seed);
        let (weight, bias) = (random(output * input * 9, seed ^ 1), random(output, seed ^ 2));
        let tensor = |v: &[f32], shape: [usize; 4]| Tensor::<4>::from_data(TensorData::new(v.to_vec(), shape), &device);
        let options = burn::tensor::ops::ConvOptions::new([stride; 2], [1, 1], [1, 1], 1);
        let want = burn::tensor::module::conv2d(
            tensor(&x, [batch, input, height, width]),
            tensor(&weight, [output, input, 3, 3]),
            Some(Tensor::<1>::from_data(TensorData::new(bias.clone(), [output]), &device)),
            options,
        );
        let want = floats(want.permute([0, 2, 3, 1]));
        let pool = Pool::default();
        let mut padded = Padded::new(&pool, batch, height, width, input);
        for image in 0..batch {
            for i in 0..height * width {
                let pixel = padded.offset(image, i / width + 1, i % width + 1);
                for c in 0..input {
                    padded.values[pixel + c] = x[(image * input + c) * height * width + i];
                }
            }
        }
        let methods: &[Method] = match stride == 1 && lanes {
            true => &[Method::Direct, Method::Winograd2, Method::Winograd4],
            false => &[Method::Direct],
        };
        for kernels in available() {
            for (method, (storage, bound)) in methods.iter().flat_map(|m| [(m, (Storage::Floats, 1e-5)), (m, (Storage::Shorts, 5e-4))]) {
                let conv = Convolution::new(&weight, &bias, input, stride, *method, storage);
                let pixels = want.len() / output;
                let before = random(pixels * conv.width(), seed ^ 3);
                let mut got = before.clone();
                let base_map = match base { 0 => Base::Zero, 1 => Base::Output, _ => Base::Map(&before) };
                conv.apply(kernels, &pool, &padded, base_map, &mut got);
                let (mut seen, mut summed) = (Vec::new(), Vec::new());
                for (i, want) in want.iter().enumerate() {
                    let at = i / output * conv.width() + i % output;
                    seen.push(got[at]);
                    summed.push(want + if base == 0 { 0.0 } else { before[at] });
                }
                let error = relative_error(&seen, &summed);
                prop_assert!(error < bound, "{} {method:?} {storage:?}: {error:.1e}", kernels.name);
            }
        }
    }
}

/// Every kind of layer in every layout: two levels with resampling, attention in both head orders and with heads narrower than a
/// lane, patches, velocities, maps that the latent draws, both encoders.
fn configurations() -> [ModelConfig; 3] {
    [
        (64, 8, EncoderKind::Celeba64, Prediction::Noise, 4, false, vec![1, 2], 0),
        (128, 8, EncoderKind::Ffhq128, Prediction::Velocity, 2, true, vec![1, 3, 2], 3),
        (64, 4, EncoderKind::Celeba64, Prediction::Image, 1, false, vec![1, 1, 1], 16),
    ]
    .map(|(image_size, patch, encoder, prediction, num_heads, new_order, multiplier, latent_map)| ModelConfig {
        image_size,
        patch,
        prediction,
        fine_colour: (prediction == Prediction::Image).then_some(0.01),
        latent_dim: 40,
        latent_map,
        encoder,
        denoiser: DenoiserConfig {
            base_channel: 32,
            channel_multiplier: multiplier,
            num_residual_blocks_of_a_block: 1,
            attention_resolutions: vec![2],
            num_heads,
            head_channel: -1,
            use_new_attention_order: new_order,
        },
        schedule: ScheduleConfig { timesteps: 1000, betas: Betas::Linear },
        latent_dpm: None,
    })
}

/// Layers in training with every instruction set; [`crate::model::autodiff`] compares the best with the tensor library.
#[test]
fn instruction_sets_train_alike() {
    for (batch, height, width, input, output) in [(2, 5, 7, 32, 48), (1, 9, 4, 64, 96), (3, 2, 2, 96, 32)] {
        let pixels = batch * height * width;
        let (x, gradient) = (random(pixels * input, 1), random(pixels * output, 2));
        let (weight, bias) = (random(output * input * 9, 3), random(output, 4));
        let (scale, shift, by_norm) = (random(batch * input, 5), random(batch * input, 6), random(pixels * input, 7));
        let results = |kernels| {
            let size = [batch, height, width];
            let back = training::convolution_back(kernels, Some(&x), size, &weight, &gradient, [true; 2]);
            let (normed, statistics) = training::norm(kernels, &x, batch, &scale, &shift, true);
            let [by_x, by_scale, by_shift] = training::norm_back(kernels, &x, &statistics, &scale, &shift, true, &by_norm);
            let convolved = training::convolution(kernels, &x, size, &weight, &bias);
            let back = [back.x, back.weight, back.bias].map(|found| found.expect("it was asked for"));
            [convolved, normed, by_x, by_scale, by_shift].into_iter().chain(back).collect::<Vec<_>>()
        };
        let best = results(available()[0]);
        for kernels in available() {
            for (i, (got, want)) in results(kernels).iter().zip(&best).enumerate() {
                let error = relative_error(got, want);
                assert!(error < 1e-5, "{} {input} to {output}, {i}: {error:.1e}", kernels.name);
            }
        }
    }
}

/// Where they are trained, networks are put together from other operations, in another order of memory ([`crate::model::autodiff`]).
#[test]
fn networks_in_training_agree_with_the_tensor_library() {
    let device = Device::flex().autodiff();
    for config in configurations() {
        let Randomised { encoder, decoder } = Randomised::new(&config, &device);
        let (batch, size) = (3, config.image_size);
        let x = random(batch * 3 * size * size, 1);
        let pass = |encoder: &encoder::Encoder, decoder: &ShiftDecoder, device: &Device| {
            let x = Tensor::<4>::from_data(TensorData::new(x.clone(), [batch, 3, size, size]), device);
            let z = encoder.forward(x.clone());
            let (eps, gradient) = decoder.forward(x, &[7, 850, 20], z.clone());
            [floats(z), floats(eps), floats(gradient)]
        };
        let (got, want) = (pass(&encoder, &decoder, &device), pass(&encoder.valid(), &decoder.valid(), &device.clone().inner()));
        for (got, want) in got.iter().zip(&want) {
            let error = relative_error(got, want);
            assert!(error < 5e-5, "{size}: {error:.1e}");
        }
    }
}

/// So do the gradients, of every parameter and of the input.
#[test]
fn networks_learn_what_they_would_with_the_tensor_library() {
    let device = Device::flex().autodiff();
    for config in configurations() {
        let Randomised { encoder, decoder } = Randomised::new(&config, &device);
        let weighed = |out: Tensor<4>| {
            let weights = random(out.dims().iter().product(), 4);
            (out.clone() * Tensor::<4>::from_data(TensorData::new(weights, out.dims()), &out.device())).sum()
        };
        check_gradients((encoder, decoder), [2, 3, config.image_size, config.image_size], |(encoder, decoder), x| {
            let z = encoder.forward(x.clone());
            let [batch, latent] = z.dims();
            let (eps, gradient) = decoder.forward(x, &[7, 850], z.clone());
            weighed(eps) + weighed(gradient) + weighed(z.reshape([batch, latent, 1, 1]))
        });
    }
}

/// Several images with different timesteps.
#[test]
fn networks_agree_with_the_tensor_library() {
    let device = Device::flex();
    for config in configurations() {
        let image_size = config.image_size;
        let model = Randomised::new(&config, &device);
        let batch = 2;
        let (x, z) = (random(batch * 3 * image_size * image_size, 1), random(batch * 40, 2));
        let x_tensor = Tensor::<4>::from_data(TensorData::new(x.clone(), [batch, 3, image_size, image_size]), &device);
        let z_tensor = Tensor::<2>::from_data(TensorData::new(z.clone(), [batch, 40]), &device);
        let timesteps = [7, 850];
        let (eps, gradient) = model.decoder.forward(x_tensor.clone(), &timesteps, z_tensor);
        let (eps, gradient, latent) = (floats(eps), floats(gradient), floats(model.encoder.forward(x_tensor)));
        for kernels in available() {
            let decoder = Decoder::with_kernels(&model.decoder, &config, Storage::Floats, kernels);
            let noisy = Noisy { x_t: &x, timesteps: &timesteps };
            let other = random(batch * 40, 5);
            let (got, mut gradients) = decoder.guided(noisy, &[&other, &z]);
            let errors = [
                relative_error(&got, &eps),
                relative_error(&decoder.noise(noisy), &eps),
                relative_error(&gradients.remove(1), &gradient),
                relative_error(&Encoder::with_kernels(&model.encoder, &config, Storage::Floats, kernels).forward(&x), &latent),
            ];
            assert!(errors.iter().all(|e| *e < 2e-5), "{} {image_size}: {errors:?}", kernels.name);
            // Weights as integers.
            let narrow = Decoder::with_kernels(&model.decoder, &config, Storage::Shorts, kernels);
            let (got, gradients_of_narrow) = narrow.guided(noisy, &[&z]);
            let errors = [
                relative_error(&got, &eps),
                relative_error(&gradients_of_narrow[0], &gradient),
                relative_error(&Encoder::with_kernels(&model.encoder, &config, Storage::Shorts, kernels).forward(&x), &latent),
            ];
            assert!(errors.iter().all(|e| *e < 1e-3), "{} {image_size}: {errors:?}", kernels.name);
            assert!(10 * narrow.bytes() < 6 * decoder.bytes(), "half the memory and a few scales");
            assert!(relative_error(&gradients[0], &gradient) > 1e-4, "another latent gives another gradient");
            // All timesteps of a chain at once give what each gives by itself, beside those that were known already.
            let ready = Decoder::with_kernels(&model.decoder, &config, Storage::Floats, kernels);
            ready.noise(Noisy { x_t: &x, timesteps: &[7, 30] });
            ready.get_ready([999, 850, 7, 3, 30]);
            for timesteps in [[7, 850], [3, 999]] {
                let noisy = Noisy { x_t: &x, timesteps: &timesteps };
                assert!(relative_error(&ready.noise(noisy), &decoder.noise(noisy)) < 1e-6, "{} {timesteps:?}", kernels.name);
            }
            // What is remembered of a first step is right for other latents, and is not taken for another image's or timestep's.
            let fresh = |x, z| Decoder::with_kernels(&model.decoder, &config, Storage::Floats, kernels).guided(x, &[z]);
            let (later, moved) = ([9, 850], random(x.len(), 6));
            let others = [Noisy { x_t: &x, timesteps: &later }, Noisy { x_t: &moved, timesteps: &timesteps }];
            for noisy in [noisy, noisy].into_iter().chain(others).chain([noisy]) {
                for z in [&z, &other] {
                    let ((eps, gradients), (want_eps, want)) = (decoder.guided_first(noisy, &[z]), fresh(noisy, z));
                    assert!(relative_error(&eps, &want_eps) < 1e-6 && relative_error(&gradients[0], &want[0]) < 1e-6, "{}", kernels.name);
                }
            }
        }
    }
}

/// Networks with random weights everywhere, also where training starts from zeros.
struct Randomised {
    encoder: encoder::Encoder,
    decoder: ShiftDecoder,
}

impl Randomised {
    fn new(config: &ModelConfig, device: &Device) -> Self {
        let p = &mut Parameters::random(device);
        let encoder = encoder::Encoder::new(p, config.encoder, config.latent_dim).unwrap();
        let decoder = ShiftDecoder::new(p, config).unwrap();
        let mut randomise = Randomise(device.clone());
        Self { encoder: encoder.map(&mut randomise), decoder: decoder.map(&mut randomise) }
    }
}

struct Randomise(Device);

impl ModuleMapper for Randomise {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        param.map(|t| {
            let fan = t.dims()[1..].iter().product::<usize>().max(1) as f64;
            let spread = if D == 1 { 0.5 } else { 1.0 / fan.sqrt() };
            t.clone() * 0.5 + Tensor::random(t.dims(), Distribution::Uniform(-spread, spread), &self.0)
        })
    }
}
