//! Adam's step as two operations for each parameter, on every device. Put together from the tensor library's, it starts some ten
//! kernels for every parameter, which takes a card longer than the rest of a step.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, Flex, backend_extension};
use burn::tensor::{Tensor, TensorData};
use rayon::prelude::*;

use crate::model::autodiff::{Plain, floats};

/// Sums that are kept side by side while squares are added up.
pub const SUMS: usize = 64;

/// Tensors whose squares one kernel adds up: with the sums and the library's own buffer these are the eight that WebGPU promises.
const AT_ONCE: usize = 5;

/// The least that is worth another thread.
const RUN: usize = 1 << 15;

/// Kingma and Ba, "Adam", 2015 (arXiv 1412.6980), with its own constants.
const BETA: [f64; 2] = [0.9, 0.999];
/// PyTorch's.
const EPSILON: f64 = 1e-8;

/// What is the same for all parameters.
#[derive(Debug, Clone, Copy)]
pub struct Step {
    /// Of the two averages: what stays, and what a new value counts.
    pub first: [f32; 2],
    pub second: [f32; 2],
    /// Of the average of weights.
    pub average: [f32; 2],
    /// Of the old weight (decoupled weight decay).
    pub kept: f32,
    /// The learning rate with the averages' corrections for having started at zero.
    pub rate: f32,
    pub epsilon: f32,
}

impl Step {
    /// The step after `taken` others; `kept` is the factor on the old weight, `decay` what stays of the average of weights.
    pub fn new(taken: u64, rate: f64, kept: f64, decay: f64) -> Self {
        let time = i32::try_from(taken + 1).unwrap_or(i32::MAX);
        let [first, second] = BETA.map(|beta| 1.0 - beta.powi(time));
        let pair = |stays: f64| [stays as f32, (1.0 - stays) as f32];
        Self {
            first: pair(BETA[0]),
            second: pair(BETA[1]),
            average: pair(decay),
            kept: kept as f32,
            rate: (rate * second.sqrt() / first) as f32,
            epsilon: (EPSILON * second.sqrt()) as f32,
        }
    }

    /// Weight, both averages and the average of weights after this step, from those before it.
    pub fn of(&self, [weight, first, second, average]: [f32; 4], gradient: f32) -> [f32; 4] {
        let first = first * self.first[0] + gradient * self.first[1];
        let second = second * self.second[0] + gradient * gradient * self.second[1];
        let weight = weight * self.kept - self.rate * first / (second.sqrt() + self.epsilon);
        [weight, first, second, average * self.average[0] + weight * self.average[1]]
    }
}

/// A parameter and what is kept of it.
#[derive(Debug, Clone)]
pub struct Kept<const D: usize> {
    pub weight: Tensor<D>,
    pub first: Tensor<D>,
    pub second: Tensor<D>,
    /// The moving average of the weight.
    pub average: Tensor<D>,
}

impl<const D: usize> Kept<D> {
    /// After one step along a gradient times a `factor` (`[1]`).
    pub fn after(self, step: Step, gradient: Tensor<D>, factor: &Tensor<1>) -> Self {
        let [weight, first, second, average] = [self.weight, self.first, self.second, self.average].map(Tensor::into_dispatch);
        let (gradient, factor) = (gradient.into_dispatch(), factor.clone().into_dispatch());
        let (weight, first, second, average) = Dispatch::adam_step(weight, first, second, average, gradient, factor, step);
        let [weight, first, second, average] = [weight, first, second, average].map(Tensor::from_dispatch);
        Self { weight, first, second, average }
    }
}

/// The sum of the squares of many tensors' values.
#[derive(Default)]
pub struct Squares(Vec<Tensor<1>>);

impl Squares {
    pub fn add<const D: usize>(&mut self, values: Tensor<D>) {
        let count = values.shape().num_elements();
        self.0.push(values.reshape([count]));
    }

    /// `[1]`; `None` without any values.
    pub fn total(self) -> Option<Tensor<1>> {
        let (several, rest) = self.0.as_chunks::<AT_ONCE>();
        let none = Tensor::<1>::zeros([SUMS], &self.0.first()?.device()).into_dispatch();
        let sums = several.iter().cloned().fold(none, |sums, five| {
            let [a, b, c, d, e] = five.map(Tensor::into_dispatch);
            Dispatch::add_squares_of_five(sums, a, b, c, d, e)
        });
        let sums = rest.iter().cloned().fold(sums, |sums, one| Dispatch::add_squares(sums, one.into_dispatch()));
        Some(Tensor::<1>::from_dispatch(sums).sum())
    }
}

#[backend_extension(Flex, Cube, Fusion)]
pub trait AdamOps: Backend {
    /// `sums` (`[SUMS]`) with the squares of the gradient's values added to any of them.
    #[fusion(dtype = sums, shape = sums)]
    fn add_squares(sums: FloatTensor<Self>, gradient: FloatTensor<Self>) -> FloatTensor<Self>;

    /// The same with those of [`AT_ONCE`] gradients.
    #[fusion(dtype = sums, shape = sums)]
    fn add_squares_of_five(
        sums: FloatTensor<Self>,
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        c: FloatTensor<Self>,
        d: FloatTensor<Self>,
        e: FloatTensor<Self>,
    ) -> FloatTensor<Self>;

    /// As [`Kept::after`].
    #[allow(clippy::too_many_arguments)]
    #[fusion(meta = |weight, first, second, average, _, _, _| (weight.clone(), first.clone(), second.clone(), average.clone()))]
    fn adam_step(
        weight: FloatTensor<Self>,
        first: FloatTensor<Self>,
        second: FloatTensor<Self>,
        average: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        factor: FloatTensor<Self>,
        step: Step,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);
}

/// As [`floats`], to write into; a copy of them, if others hold the tensor, too.
fn floats_mut(tensor: &mut Plain) -> &mut [f32] {
    let (start, end) = tensor.layout().contiguous_offsets().expect("row by row");
    &mut tensor.storage_mut()[start..end]
}

impl AdamOps for Flex {
    fn add_squares(sums: Plain, gradient: Plain) -> Plain {
        let (sums, gradient) = (sums.to_contiguous(), gradient.to_contiguous());
        let mut out = floats(&sums).to_vec();
        let squares = |run: &[f32]| run.iter().map(|v| f64::from(v * v)).sum::<f64>();
        out[0] += floats(&gradient).par_chunks(RUN).map(squares).sum::<f64>() as f32;
        Plain::from_data(TensorData::new(out, [SUMS]))
    }

    fn add_squares_of_five(sums: Plain, a: Plain, b: Plain, c: Plain, d: Plain, e: Plain) -> Plain {
        [a, b, c, d, e].into_iter().fold(sums, Self::add_squares)
    }

    fn adam_step(
        weight: Plain,
        first: Plain,
        second: Plain,
        average: Plain,
        gradient: Plain,
        factor: Plain,
        step: Step,
    ) -> (Plain, Plain, Plain, Plain) {
        let [mut weight, mut first, mut second, mut average] = [weight, first, second, average].map(|tensor| tensor.to_contiguous());
        let (gradient, factor) = (gradient.to_contiguous(), floats(&factor.to_contiguous())[0]);
        let [w, f, s, a] = [&mut weight, &mut first, &mut second, &mut average].map(|tensor| floats_mut(tensor).par_chunks_mut(RUN));
        w.zip(f).zip(s.zip(a)).zip(floats(&gradient).par_chunks(RUN)).for_each(|(((weight, first), (second, average)), gradient)| {
            for (i, gradient) in gradient.iter().enumerate() {
                let before = [weight[i], first[i], second[i], average[i]];
                [weight[i], first[i], second[i], average[i]] = step.of(before, gradient * factor);
            }
        });
        (weight, first, second, average)
    }
}

#[cfg(test)]
mod tests {
    use burn::optim::{AdamConfig, AdamState, AdaptiveMomentumState, Optimizer};
    use burn::tensor::{Device, Distribution};

    use super::*;
    use crate::device::DeviceChoice;

    fn devices() -> Vec<Device> {
        let card = DeviceChoice::Gpu.open();
        if card.is_err() {
            println!("SKIPPED Adam on a card: wgpu finds no adapter on this machine");
        }
        let cuda = DeviceChoice::Cuda.open();
        [Device::flex()].into_iter().chain(card.map(|found| found.device)).chain(cuda.map(|found| found.device)).collect()
    }

    fn values<const D: usize>(tensor: &Tensor<D>) -> Vec<f32> {
        tensor.clone().into_data().try_to_vec().expect("32-bit floats")
    }

    #[track_caller]
    fn check<const D: usize>(what: &str, got: &Tensor<D>, want: &Tensor<D>) {
        let (got, want) = (values(got), values(want));
        let far = got.iter().zip(&want).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        let largest = want.iter().map(|v| v.abs()).fold(0.0, f32::max);
        // The library's `1 - 0.999` is in single precision, and off by 5e-5 of itself.
        assert!(got.len() == want.len() && far < 1e-4 * largest, "{what}: {far:.1e} of {largest:.1e}");
    }

    #[test]
    fn steps_are_those_of_the_tensor_library() {
        let home = Device::flex();
        home.seed(11);
        let [start, g1, g2, g3] = [(); 4].map(|()| Tensor::<2>::random([300, 123], Distribution::Normal(0.0, 1.0), &home));
        let adam = AdamConfig::new().with_epsilon(EPSILON as f32).build();
        let (rate, kept, decay) = (0.01, 0.999, 0.6);
        // A transposed gradient is one that is not row by row.
        let gradients = [g1, g2.reshape([123, 300]).transpose(), g3];
        let factors = [1.0f32, 0.25, 0.5];
        for device in devices() {
            let (mut weight, mut state, mut average): (_, Option<AdamState<2>>, _) = (start.clone(), None, start.clone());
            let on = |tensor: &Tensor<2>| Tensor::<2>::from_data(tensor.to_data(), &device);
            let zeros = Tensor::zeros(start.dims(), &device);
            let mut got = Kept { weight: on(&start), first: zeros.clone(), second: zeros, average: on(&start) };
            for (taken, (gradient, factor)) in gradients.iter().zip(factors).enumerate() {
                let (new, next) = adam.step(rate, weight * kept, gradient.clone() * factor, state);
                average = average * decay + new.clone() * (1.0 - decay);
                (weight, state) = (new, next);
                let gradient = Tensor::<2>::from_data(gradient.clone().transpose().to_data(), &device).transpose();
                got = got.after(Step::new(taken as u64, rate, kept, decay), gradient, &Tensor::from_data([factor], &device));
                let AdaptiveMomentumState { moment_1, moment_2, .. } = &state.as_ref().expect("a state").momentum;
                check("weight", &got.weight, &weight);
                check("first", &got.first, moment_1);
                check("second", &got.second, moment_2);
                check("average", &got.average, &average);
            }
        }
    }

    #[test]
    fn what_others_hold_is_not_written_into() {
        for device in devices() {
            let ones = Tensor::<1>::ones([40], &device);
            let kept = Kept { weight: ones.clone(), first: ones.clone(), second: ones.clone(), average: ones.clone() };
            let after = kept.clone().after(Step::new(3, 0.1, 1.0, 0.5), ones.clone(), &Tensor::ones([1], &device));
            assert!(values(&after.average).iter().all(|v| *v < 1.0));
            for untouched in [&ones, &kept.weight, &kept.first, &kept.second, &kept.average] {
                assert_eq!(values(untouched), [1.0; 40]);
            }
        }
    }

    #[test]
    fn squares_are_added_up_over_tensors_of_any_size() {
        for device in devices() {
            let mut squares = Squares::default();
            let mut want = 0.0;
            // One too many for the kernel of several, the largest neither first nor last.
            for count in [1, 192, 70_001, 5, 3, 1000] {
                let values: Vec<f32> = (0..count).map(|i| (i % 17) as f32 * 0.25 - 1.0).collect();
                want += values.iter().map(|v| f64::from(v * v)).sum::<f64>();
                squares.add(Tensor::<1>::from_data(TensorData::new(values, [count]), &device));
            }
            let got = f64::from(squares.total().expect("there are values").into_scalar::<f32>());
            assert!((got - want).abs() < 1e-5 * want, "{got} {want}, {device:?}");
        }
    }
}
