//! The decoder's layers in the order in which a pass runs through them.
//!
//! Made from the networks that [`crate::model`] built, so that the architecture is written down once.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use burn::tensor::DType;
use burn_cubecl::tensor::CubeTensor;

use super::recording::{Input, Recorder};
use super::surface::{Convolution, Dense, Mix, Modulation, Norm, Parameter, Rows, Surface, as_map, flat};
use crate::model::blocks::{self, Layer, Modulations, Resample};
use crate::model::layers::{Conv, GroupNorm, Linear, sinusoid, values};
use crate::model::prediction::{BLOCK, COARSE, Heads, coarse_basis};
use crate::model::{ModelConfig, latent_map, unet};

pub(super) fn convolution(conv: &Conv, compute: DType) -> Convolution {
    let [output, input, kernel, _] = conv.weight.dims();
    let weight = values(&conv.weight);
    let area = kernel * kernel;
    let of_filter = |o: usize| (0..area * input).map(move |i| (o * input + i % input) * area + i / input);
    let weight: Vec<f32> = (0..output).flat_map(of_filter).map(|from| weight[from]).collect();
    Convolution {
        weight: Parameter::new(&weight, &[output, kernel, kernel, input], compute),
        bias: Parameter::new(&values(&conv.bias), &[output], compute),
        kernel,
        stride: conv.stride,
    }
}

pub(super) fn dense(weight: &[f32], bias: &[f32], dtype: DType) -> Dense {
    Dense {
        weight: Parameter::new(weight, &[bias.len(), weight.len() / bias.len()], dtype),
        bias: Parameter::new(bias, &[bias.len()], DType::F32),
    }
}

fn linear(layer: &Linear) -> Dense {
    dense(&values(&layer.weight), &values(&layer.bias), DType::F32)
}

fn modulations(all: Modulations) -> Dense {
    dense(&all.weight, &all.bias, DType::F32)
}

pub(super) fn norm(layer: &GroupNorm) -> Norm {
    let parameter = |values: Vec<f32>| Parameter::new(&values, &[values.len()], DType::F32);
    Norm { gain: parameter(values(&layer.weight)), offset: parameter(values(&layer.bias)) }
}

/// What the layers that were built so far have asked for.
struct Plan {
    compute: DType,
    time: Modulations,
    latent: Modulations,
}

/// What modulates the residual blocks of a pass.
struct Conditions<'a> {
    time: &'a Rows,
    latent: Option<&'a Rows>,
}

#[derive(Debug)]
struct ResBlock {
    in_norm: Norm,
    in_conv: Convolution,
    /// Where this block's part of the modulations starts.
    time: usize,
    latent: Option<usize>,
    out_norm: Norm,
    out_conv: Convolution,
    /// The 1 x 1 convolution past a block whose channels change.
    skip: Option<Dense>,
    resample: Resample,
}

impl ResBlock {
    fn new(block: &blocks::ResBlock, plan: &mut Plan) -> Self {
        Self {
            in_norm: norm(&block.in_norm),
            in_conv: convolution(&block.in_conv, plan.compute),
            time: plan.time.add(&block.time),
            latent: block.latent.as_ref().map(|layer| plan.latent.add(layer)),
            out_norm: norm(&block.out_norm),
            out_conv: convolution(&block.out_conv, plan.compute),
            skip: block.skip.as_ref().map(|conv| dense(&values(&conv.weight), &values(&conv.bias), plan.compute)),
            resample: block.resample,
        }
    }

    fn resampled(&self, on: &Surface, x: CubeTensor) -> CubeTensor {
        match self.resample {
            Resample::Keep => x,
            Resample::Up => on.resample(&x, true),
            Resample::Down => on.resample(&x, false),
        }
    }

    fn apply(&self, on: &Surface, x: CubeTensor, conditions: &Conditions) -> CubeTensor {
        let h = self.resampled(on, on.norm(&self.in_norm, &x, &[], true));
        let h = on.convolve(&self.in_conv, h);
        let mut modulations = vec![Modulation { rows: conditions.time, start: self.time }];
        if let (Some(start), Some(rows)) = (self.latent, conditions.latent) {
            modulations.push(Modulation { rows, start });
        }
        let h = on.convolve(&self.out_conv, on.norm(&self.out_norm, &h, &modulations, true));
        let x = self.resampled(on, x);
        match &self.skip {
            Some(skip) => on.add(&as_map(on.product(skip, flat(on.narrowed(&x))), &h), &h, Some(&skip.bias)),
            None => on.add(&x, &h, None),
        }
    }
}

#[derive(Debug)]
pub(super) struct Attention {
    norm: Norm,
    /// To all queries (already divided by the square root of a head's width), then all keys, then all values, each head by head.
    qkv: Dense,
    out: Dense,
    heads: usize,
}

impl Attention {
    pub(super) fn new(layer: &blocks::Attention, compute: DType) -> Self {
        let (weight, bias) = layer.qkv_by_part();
        let out = dense(&values(&layer.proj_out.weight), &values(&layer.proj_out.bias), compute);
        Self { norm: norm(&layer.norm), qkv: dense(&weight, &bias, compute), out, heads: layer.heads }
    }

    /// `x` is 32-bit, as is what comes out.
    pub(super) fn apply(&self, on: &Surface, x: CubeTensor) -> CubeTensor {
        let batch = x.meta.shape()[0];
        let qkv = on.product(&self.qkv, flat(on.norm(&self.norm, &x, &[], false)));
        let mixed = on.attention(&qkv, &self.qkv.bias, batch, self.heads);
        let h = as_map(on.product(&self.out, mixed), &x);
        on.add(&x, &h, Some(&self.out.bias))
    }
}

// Most are residual blocks, and there are some dozens in all.
#[allow(clippy::large_enum_variant)]
#[derive(Debug)]
enum Step {
    ResBlock(ResBlock),
    Attention(Attention),
}

#[derive(Debug)]
struct Stage(Vec<Step>);

impl Stage {
    fn new(stage: &blocks::Stage, plan: &mut Plan) -> Self {
        let step = |layer: &Layer| match layer {
            Layer::ResBlock(block) => Step::ResBlock(ResBlock::new(block, plan)),
            Layer::Attention(attention) => Step::Attention(Attention::new(attention, plan.compute)),
            Layer::Conv(_) => unreachable!("the only stage that is a convolution is the network's first"),
        };
        Self(stage.layers.iter().map(step).collect())
    }

    fn apply(&self, on: &Surface, x: CubeTensor, conditions: &Conditions) -> CubeTensor {
        self.0.iter().fold(x, |x, step| match step {
            Step::ResBlock(block) => block.apply(on, x, conditions),
            Step::Attention(attention) => attention.apply(on, x),
        })
    }
}

/// Middle block, upward path and output layers of one branch.
#[derive(Debug)]
struct DecoderHalf {
    middle: Stage,
    blocks: Vec<Stage>,
    norm: Norm,
    conv: Convolution,
}

impl DecoderHalf {
    fn new(half: &unet::DecoderHalf, plan: &mut Plan) -> Self {
        let middle = Stage::new(&half.middle_block, plan);
        let blocks = half.output_blocks.iter().map(|stage| Stage::new(stage, plan)).collect();
        Self { middle, blocks, norm: norm(&half.out_norm), conv: convolution(&half.out_conv, plan.compute) }
    }

    /// `[batch, side, side, folded channels]`.
    fn apply(&self, on: &Surface, features: &[CubeTensor], conditions: &Conditions) -> CubeTensor {
        let bottom = features.last().expect("the downward path has at least one block");
        let h = self.middle.apply(on, bottom.clone(), conditions);
        let joined = |h: CubeTensor, (block, skip): (&Stage, &CubeTensor)| block.apply(on, on.join(&h, skip), conditions);
        let h = self.blocks.iter().zip(features.iter().rev()).fold(h, joined);
        on.convolve(&self.conv, on.norm(&self.norm, &h, &[], true))
    }
}

/// The map that the semantic latent draws for the shift half.
#[derive(Debug)]
struct LatentMap {
    linear: Dense,
    conv: Convolution,
}

impl LatentMap {
    fn new(map: &latent_map::LatentMap, compute: DType) -> Self {
        let (weight, bias) = map.linear_by_pixel();
        Self { linear: dense(&weight, &bias, DType::F32), conv: convolution(&map.conv, compute) }
    }

    /// The features as the shift half reads them: with this latent's map on those of the first level.
    fn added(&self, on: &Surface, features: &[CubeTensor], z: CubeTensor) -> Vec<CubeTensor> {
        let Some(top) = features.first().map(|top| top.meta.shape().to_vec()) else { return Vec::new() };
        let drawn = on.dense(&self.linear, z, false);
        let channels = self.conv.weight.width();
        let drawn = on.narrowed(&burn_cubecl::ops::reshape(drawn, [top[0], top[1], top[2], channels].into()));
        let map = on.convolve(&self.conv, drawn);
        features.iter().map(|f| if f.meta.shape()[..] == top[..] { on.add(f, &map, None) } else { f.clone() }).collect()
    }
}

/// What a pass needs of its timesteps: the residual blocks' modulations, and the factors that make `eps` and `G` of the heads.
#[derive(Debug, Clone)]
struct Times {
    modulations: Rows,
    /// Of the head, of `x_t` and of its fine colour for `eps`, of the head for `G`.
    factors: Rows,
}

impl Times {
    /// Floats that are kept; a decode of a hundred steps fits for every published network.
    const MOST: usize = 6 << 20;

    /// One row of each, for all images.
    fn of(modulations: &CubeTensor, factors: &CubeTensor) -> Self {
        let row = |tensor: &CubeTensor| Rows { tensor: tensor.clone(), first: 0, shared: true };
        Self { modulations: row(modulations), factors: row(factors) }
    }

    /// Those of one timestep for all images.
    fn row(&self, first: usize) -> Self {
        let row = |rows: &Rows| Rows { first, shared: true, ..rows.clone() };
        Self { modulations: row(&self.modulations), factors: row(&self.factors) }
    }
}

/// A tensor that stays as it is, whoever else has it.
///
/// Two may hold a tensor and one of them be told that it may write into it: the library counts itself among them where it made the
/// tensor, and cannot be seen to. So this holds it twice.
#[derive(Debug, Clone)]
struct Kept([CubeTensor; 2]);

impl Kept {
    fn new(tensor: &CubeTensor) -> Self {
        Self([tensor.clone(), tensor.clone()])
    }

    fn tensor(&self) -> CubeTensor {
        self.0[0].clone()
    }

    /// Whether this is that very tensor, not only one like it. While it is kept, no other can have its place.
    fn is(&self, other: &CubeTensor) -> bool {
        let (own, other) = (&self.0[0], other);
        let place = |tensor: &CubeTensor| {
            let handle = &tensor.handle;
            (std::ptr::from_ref(handle.memory.descriptor()), handle.offset_start, handle.offset_end)
        };
        place(own) == place(other) && own.meta == other.meta && own.dtype == other.dtype
    }
}

/// All of a first step that the semantic latent has no part in.
#[derive(Debug)]
struct FirstStep {
    /// No other of this network has it.
    number: u64,
    x_t: Kept,
    timesteps: Vec<usize>,
    start: Start,
}

impl FirstStep {
    /// First steps that are remembered: of the photo's `x_T`, and of where previews start.
    const MOST: usize = 4;
}

/// The shared half, and the DPM's own.
#[derive(Debug)]
struct Start {
    times: Times,
    features: Vec<CubeTensor>,
    eps: Kept,
}

/// The DPM and the shift half.
#[derive(Debug)]
pub struct Network {
    compute: DType,
    patch: usize,
    base: usize,
    heads: Heads,
    /// Of coarse colour, where fine colour has a skip of its own.
    basis: Option<Parameter>,
    time_embed: [Dense; 2],
    /// From the time embedding to the modulations of all residual blocks.
    time: Dense,
    times: Mutex<HashMap<usize, Times>>,
    /// Timesteps that the passes to come will ask for.
    ahead: Mutex<Vec<usize>>,
    first_steps: Mutex<VecDeque<Arc<FirstStep>>>,
    passes: Mutex<Recorder>,
    /// First steps so far.
    counter: AtomicU64,
    label_emb: Dense,
    /// The same as `time` from the embedding of the semantic latent, for the shift half.
    latent: Dense,
    latent_map: Option<LatentMap>,
    first: Convolution,
    down: Vec<Stage>,
    plain: DecoderHalf,
    shift: DecoderHalf,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}

impl Network {
    /// Images of a pass that is recorded: a pair.
    const MOST_RECORDED: usize = 2;

    /// Convolutions and attention's products are in `compute`; what hangs on timestep or latent alone is in 32 bits.
    pub fn new(decoder: &unet::ShiftDecoder, config: &ModelConfig, compute: DType) -> Self {
        let half = &decoder.denoiser.encoder_half;
        let mut plan = Plan { compute, time: Modulations::default(), latent: Modulations::default() };
        let (first, rest) = half.input_blocks.split_first().expect("a network has a first convolution");
        let [Layer::Conv(first)] = &first.layers[..] else { unreachable!("the first stage is a convolution") };
        let first = convolution(first, compute);
        let down = rest.iter().map(|stage| Stage::new(stage, &mut plan)).collect();
        let plain = DecoderHalf::new(&decoder.denoiser.decoder_half, &mut plan);
        let shift = DecoderHalf::new(&decoder.shift.decoder_half, &mut plan);
        let heads = decoder.denoiser.heads.clone();
        let basis = || Parameter::new(&coarse_basis(), &[COARSE, BLOCK * BLOCK], DType::F32);
        Self {
            compute,
            patch: config.patch,
            base: config.denoiser.base_channel,
            basis: heads.minds_fine_colour().then(basis),
            heads,
            time_embed: [0, 1].map(|i| linear(&half.time_embed[i])),
            time: modulations(plan.time),
            times: Mutex::default(),
            ahead: Mutex::default(),
            first_steps: Mutex::default(),
            passes: Mutex::default(),
            counter: AtomicU64::default(),
            label_emb: linear(&decoder.shift.label_emb),
            latent: modulations(plan.latent),
            latent_map: decoder.shift.latent_map.as_ref().map(|map| LatentMap::new(map, compute)),
            first,
            down,
            plain,
            shift,
        }
    }

    /// Timesteps that passes to come will ask for: the next one computes what hangs on them alone for all of them at once.
    pub fn get_ready(&self, timesteps: impl IntoIterator<Item = usize>) {
        *lock(&self.ahead) = timesteps.into_iter().collect();
    }

    /// `eps` for `x_t` (`[batch, 3, size, size]`, 32-bit), and with latents (`[batch * count, latent]`, set after set) `G` for each set,
    /// one after the other.
    pub fn pass(&self, x_t: &CubeTensor, timesteps: &[usize], z: Option<&CubeTensor>) -> (CubeTensor, Option<CubeTensor>) {
        let on = &Surface::of(x_t, self.compute);
        let times = self.times(on, timesteps);
        let whole = |x_t: &CubeTensor, times: Times, z: Option<&CubeTensor>| {
            let start = self.start(on, x_t, times);
            let gradients = z.map(|z| self.gradients(on, x_t, &start.times, &start.features, z));
            let Kept([eps, _]) = start.eps;
            (eps, gradients)
        };
        let mut inputs = vec![Input::all(x_t), Input::row(&times.modulations), Input::row(&times.factors)];
        inputs.extend(z.map(Input::all));
        let recorded = self.recorded(on, z.unwrap_or(x_t), &times, &inputs, |inputs| {
            let [x_t, modulations, factors, z @ ..] = inputs else { unreachable!("these are those above") };
            let (eps, gradients) = whole(x_t, Times::of(modulations, factors), z.first());
            std::iter::once(eps).chain(gradients).collect()
        });
        match recorded.as_deref() {
            Some([eps, gradients @ ..]) => (eps.clone(), gradients.first().cloned()),
            _ => whole(x_t, times, z),
        }
    }

    /// A pass from its recording ([`Recorder::repeat`]), where telling the card of it may take longer than running it. One over many images,
    /// as many as `of_each` has rows, has work enough, and needs the memory.
    fn recorded(
        &self,
        on: &Surface,
        of_each: &CubeTensor,
        times: &Times,
        inputs: &[Input],
        pass: impl Fn(&[CubeTensor]) -> Vec<CubeTensor>,
    ) -> Option<Vec<CubeTensor>> {
        let mut passes = lock(&self.passes);
        if of_each.meta.shape()[0] > Self::MOST_RECORDED {
            passes.clear();
            return None;
        }
        if times.modulations.shared { passes.repeat(on, inputs, pass) } else { None }
    }

    /// The same with latents for the first step of a decode. While sliders move, decode after decode starts from one `x_t`: everything but
    /// the shift half, which alone reads the latents, is computed once and remembered.
    pub fn first_pass(&self, x_t: &CubeTensor, timesteps: &[usize], z: &CubeTensor) -> (CubeTensor, CubeTensor) {
        let on = &Surface::of(x_t, self.compute);
        let known = {
            let mut steps = lock(&self.first_steps);
            let place = steps.iter().position(|step| step.timesteps == timesteps && step.x_t.is(x_t));
            place.and_then(|place| steps.remove(place))
        };
        let step = known.unwrap_or_else(|| {
            let start = self.start(on, x_t, self.times(on, timesteps));
            let number = self.counter.fetch_add(1, Ordering::Relaxed);
            Arc::new(FirstStep { number, x_t: Kept::new(x_t), timesteps: timesteps.to_vec(), start })
        });
        let mut steps = lock(&self.first_steps);
        steps.push_back(step.clone());
        if steps.len() > FirstStep::MOST {
            steps.pop_front();
        }
        drop(steps);
        let Start { times, features, eps } = &step.start;
        let held = [Input::all(x_t), Input::row(&times.modulations), Input::row(&times.factors)];
        let held = held.into_iter().chain(features.iter().map(Input::all)).map(|input| input.of_version(step.number));
        let inputs: Vec<Input> = std::iter::once(Input::all(z)).chain(held).collect();
        let recorded = self.recorded(on, z, times, &inputs, |inputs| {
            let [z, x_t, modulations, factors, features @ ..] = inputs else { unreachable!("these are those above") };
            vec![self.gradients(on, x_t, &Times::of(modulations, factors), features, z)]
        });
        let gradients = match recorded.as_deref() {
            Some([gradients]) => gradients.clone(),
            _ => self.gradients(on, x_t, times, features, z),
        };
        (eps.tensor(), gradients)
    }

    fn start(&self, on: &Surface, x_t: &CubeTensor, times: Times) -> Start {
        let plain = Conditions { time: &times.modulations, latent: None };
        let first = on.floats(on.convolve(&self.first, on.fold(x_t, self.patch)));
        let mut features = vec![first];
        for stage in &self.down {
            let h = stage.apply(on, features[features.len() - 1].clone(), &plain);
            features.push(h);
        }
        let eps = on.empty(x_t.meta.shape(), DType::F32);
        let mix = Mix { factors: &times.factors, column: 0, skip: true, fine_colour: self.basis.as_ref() };
        on.unfold(&self.plain.apply(on, &features, &plain), x_t, mix, &eps, 0);
        Start { times, features, eps: Kept([eps.clone(), eps]) }
    }

    fn gradients(&self, on: &Surface, x_t: &CubeTensor, times: &Times, features: &[CubeTensor], z: &CubeTensor) -> CubeTensor {
        let batch = x_t.meta.shape()[0];
        let sets = z.meta.shape()[0] / batch;
        let mut shape = x_t.meta.shape().to_vec();
        shape[0] *= sets;
        let gradients = on.empty(&shape, DType::F32);
        let width = z.meta.shape()[1];
        for set in 0..sets {
            let z = match sets {
                1 => z.clone(),
                _ => burn_cubecl::kernel::slice(z.clone(), &[set * batch..(set + 1) * batch, 0..width]),
            };
            let h = on.dense(&self.label_emb, z.clone(), true);
            let latent = Rows { tensor: on.dense(&self.latent, h, false), first: 0, shared: false };
            let conditions = Conditions { time: &times.modulations, latent: Some(&latent) };
            let head = match &self.latent_map {
                Some(map) => self.shift.apply(on, &map.added(on, features, z), &conditions),
                None => self.shift.apply(on, features, &conditions),
            };
            let mix = Mix { factors: &times.factors, column: 3, skip: false, fine_colour: None };
            on.unfold(&head, x_t, mix, &gradients, set * batch);
        }
        gradients
    }

    fn times(&self, on: &Surface, timesteps: &[usize]) -> Times {
        let Some((&first, rest)) = timesteps.split_first() else { unreachable!("a batch has images") };
        if rest.iter().any(|t| *t != first) {
            return self.computed(on, timesteps);
        }
        let known = lock(&self.times).get(&first).cloned();
        known.unwrap_or_else(|| {
            let ahead = std::mem::take(&mut *lock(&self.ahead));
            let mut timesteps = vec![first];
            timesteps.extend(ahead.into_iter().filter(|t| *t != first).take(Times::MOST / self.time.bias.width()));
            let all = self.computed(on, &timesteps);
            let mut times = lock(&self.times);
            if (times.len() + timesteps.len()) * self.time.bias.width() > Times::MOST {
                times.clear();
            }
            times.extend(timesteps.iter().enumerate().map(|(i, t)| (*t, all.row(i))));
            all.row(0)
        })
    }

    /// A row for each of these timesteps.
    fn computed(&self, on: &Surface, timesteps: &[usize]) -> Times {
        let rows = timesteps.len();
        let waves: Vec<f32> = timesteps.iter().flat_map(|t| sinusoid(*t, self.base)).collect();
        let mut h = on.upload_floats(&waves, &[rows, self.base]);
        for layer in &self.time_embed {
            h = on.dense(layer, h, true);
        }
        let factors: Vec<f32> = timesteps
            .iter()
            .flat_map(|t| {
                let [head, x_t, fine] = self.heads.noise_factors(*t).unwrap_or([1.0, 0.0, 0.0]);
                [head, x_t, fine, self.heads.gradient_factor(*t).unwrap_or(1.0)].map(|factor| factor as f32)
            })
            .collect();
        let all = |tensor| Rows { tensor, first: 0, shared: false };
        Times { modulations: all(on.dense(&self.time, h, false)), factors: all(on.upload_floats(&factors, &[rows, 4])) }
    }
}
