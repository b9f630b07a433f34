//! The encoder and the shift decoder, put together from the kernels' layers.
//!
//! Both are made from the networks that [`crate::model`] built, so that the architecture is written down once.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use super::attention::Attention;
use super::buffer::{Aligned, Buffer, Pool};
use super::convolution::{Base, Convolution, Method, Padded};
use super::kernels::{Kernels, kernels};
use super::map::{Affine, Map, Norm, activate, resampled};
use super::matrix::{Packed, Product, Rows, Storage, multiply};
use crate::model::blocks::{self, Layer, Modulations, Resample};
use crate::model::layers::{Conv, Linear, sinusoid, values};
use crate::model::prediction::{BLOCK, Heads, coarse_basis};
use crate::model::{ModelConfig, encoder, latent_map, unet};

/// A fully connected layer.
#[derive(Debug)]
pub struct Dense {
    weights: Packed,
    bias: Aligned,
}

impl Dense {
    /// `weights`: `[output, input]`; `bias`: `[output]`.
    pub fn new(weights: &[f32], bias: &[f32], storage: Storage) -> Self {
        let input = weights.len() / bias.len();
        let weights = Packed::new(input, bias.len(), storage, |i, o| weights[o * input + i]);
        Self { bias: Aligned::padded(bias, weights.width()), weights }
    }

    fn from_layer(layer: &Linear, storage: Storage) -> Self {
        Self::new(&values(&layer.weight), &values(&layer.bias), storage)
    }

    pub fn bytes(&self) -> usize {
        self.weights.bytes()
    }

    /// `[rows, output]` (filled up to a multiple of 16), written or added.
    pub fn apply(&self, kernels: &Kernels, x: Rows, output: &mut [f32], add: bool) {
        let product = Product { values: output, stride: self.weights.width(), bias: Some(&self.bias), add };
        multiply(kernels, x, &self.weights, 0, product);
    }

    /// One vector.
    fn vector(&self, kernels: &Kernels, x: &[f32]) -> Vec<f32> {
        self.vectors(kernels, x, 1)
    }

    /// Several vectors, one after the other: the weights are read once for all.
    fn vectors(&self, kernels: &Kernels, x: &[f32], rows: usize) -> Vec<f32> {
        let (depth, width, columns) = (x.len() / rows, self.weights.width(), self.weights.columns);
        let mut output = vec![0.0; rows * width];
        self.apply(kernels, Rows { values: x, stride: depth, rows, depth }, &mut output, false);
        if width != columns {
            output = output.chunks_exact(width).flat_map(|row| &row[..columns]).copied().collect();
        }
        output
    }
}

fn silu(values: &mut [f32]) {
    for v in values {
        *v /= 1.0 + (-*v).exp();
    }
}

/// Where the layer that is being built stands, and what the layers before it have asked for.
struct Plan {
    /// Of the layer's input; a layer that resamples leaves that of its output.
    side: usize,
    time: Modulations,
    latent: Modulations,
    storage: Storage,
}

/// What modulates the residual blocks, for each image of the batch: the outputs of [`Modulations`].
struct Conditions {
    time: Vec<Arc<[f32]>>,
    latent: Vec<Arc<[f32]>>,
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
    output: usize,
}

fn convolution(conv: &Conv, side: usize, storage: Storage) -> Convolution {
    let [_, input, ..] = conv.weight.dims();
    let method = Method::for_side(side, input, conv.stride);
    Convolution::new(&values(&conv.weight), &values(&conv.bias), input, conv.stride, method, storage)
}

impl ResBlock {
    fn new(block: &blocks::ResBlock, plan: &mut Plan) -> Self {
        match block.resample {
            Resample::Keep => {}
            Resample::Up => plan.side *= 2,
            Resample::Down => plan.side /= 2,
        }
        let skip = |conv: &Conv| Dense::new(&values(&conv.weight), &values(&conv.bias), plan.storage);
        Self {
            in_norm: Norm::new(&block.in_norm),
            in_conv: convolution(&block.in_conv, plan.side, plan.storage),
            time: plan.time.add(&block.time),
            latent: block.latent.as_ref().map(|layer| plan.latent.add(layer)),
            out_norm: Norm::new(&block.out_norm),
            out_conv: convolution(&block.out_conv, plan.side, plan.storage),
            skip: block.skip.as_ref().map(skip),
            resample: block.resample,
            output: block.out_norm.channels(),
        }
    }

    /// `sources` are read as one map with their channels one after the other.
    fn apply(&self, kernels: &Kernels, pool: &Pool, sources: &[&Map], conditions: &Conditions) -> Map {
        let batch = sources[0].batch;
        let affine: Vec<Affine> = (0..batch).map(|image| self.in_norm.affine(sources, image)).collect();
        let x = activate(kernels, pool, sources, &affine, self.resample);
        let shape = [batch, x.height, x.width, self.output];
        let mut h = pool.take(shape.iter().product());
        self.in_conv.apply(kernels, pool, &x, Base::Zero, &mut h);
        drop(x);
        let h = Map::new(kernels, h, shape);
        let affine: Vec<Affine> = (0..batch).map(|image| self.modulated(&h, image, conditions)).collect();
        let x = activate(kernels, pool, &[&h], &affine, Resample::Keep);
        // The convolution is done with what it was computed from: its memory takes the result.
        let Map { values: mut out, .. } = h;
        let base = self.skipped(kernels, pool, sources, &mut out);
        let base = match &base {
            Skipped::Written => Base::Output,
            Skipped::Same(map) => Base::Map(map),
            Skipped::Made(map) => Base::Map(map),
        };
        self.out_conv.apply(kernels, pool, &x, base, &mut out);
        Map::new(kernels, out, shape)
    }

    fn modulated(&self, h: &Map, image: usize, conditions: &Conditions) -> Affine {
        let range = |start: usize| start..start + 2 * self.output;
        let affine = self.out_norm.affine(&[h], image).then(&conditions.time[image][range(self.time)]);
        match self.latent {
            Some(start) => affine.then(&conditions.latent[image][range(start)]),
            None => affine,
        }
    }

    /// The way past the block: into `out`, or where it already is.
    fn skipped<'a>(&self, kernels: &Kernels, pool: &Pool, sources: &[&'a Map], out: &mut [f32]) -> Skipped<'a> {
        match (&self.skip, self.resample, sources) {
            (None, Resample::Keep, [x]) => Skipped::Same(&x.values),
            (None, resample, [x]) => Skipped::Made(resampled(pool, x, resample)),
            (None, ..) => unreachable!("a block without a skip convolution has one input of its own width"),
            (Some(skip), resample, sources) => {
                let mut row = 0;
                for source in sources {
                    let made = (resample != Resample::Keep).then(|| resampled(pool, source, resample));
                    let values: &[f32] = made.as_deref().unwrap_or(&source.values);
                    let (depth, rows) = (source.channels, values.len() / source.channels);
                    let product =
                        Product { values: &mut *out, stride: self.output, bias: (row == 0).then_some(&skip.bias[..]), add: row > 0 };
                    multiply(kernels, Rows { values, stride: depth, rows, depth }, &skip.weights, row, product);
                    row += depth;
                }
                Skipped::Written
            }
        }
    }

    fn bytes(&self) -> usize {
        self.in_conv.bytes() + self.out_conv.bytes() + self.skip.as_ref().map_or(0, Dense::bytes)
    }
}

/// What [`ResBlock::skipped`] found.
enum Skipped<'a> {
    Written,
    Same(&'a [f32]),
    Made(Buffer),
}

// Most are residual blocks, and there are some dozens in all.
#[allow(clippy::large_enum_variant)]
#[derive(Debug)]
enum Step {
    ResBlock(ResBlock),
    Attention(Attention),
}

/// The layers of a stage that follow each other; only the first reads several sources.
#[derive(Debug)]
struct Stage(Vec<Step>);

impl Stage {
    fn new(stage: &blocks::Stage, plan: &mut Plan) -> Self {
        let step = |layer: &Layer| match layer {
            Layer::ResBlock(block) => Step::ResBlock(ResBlock::new(block, plan)),
            Layer::Attention(attention) => Step::Attention(Attention::new(attention, plan.storage)),
            Layer::Conv(_) => unreachable!("the only stage that is a convolution is the network's first"),
        };
        Self(stage.layers.iter().map(step).collect())
    }

    fn apply(&self, kernels: &Kernels, pool: &Pool, sources: &[&Map], conditions: &Conditions) -> Map {
        let mut x: Option<Map> = None;
        for step in &self.0 {
            x = Some(match (step, x.take()) {
                (Step::ResBlock(block), None) => block.apply(kernels, pool, sources, conditions),
                (Step::ResBlock(block), Some(x)) => block.apply(kernels, pool, &[&x], conditions),
                (Step::Attention(attention), Some(x)) => attention.apply(kernels, pool, x),
                (Step::Attention(_), None) => unreachable!("attention follows a residual block"),
            });
        }
        x.expect("a stage has layers")
    }

    fn bytes(&self) -> usize {
        let step = |step: &Step| match step {
            Step::ResBlock(block) => block.bytes(),
            Step::Attention(attention) => attention.bytes(),
        };
        self.0.iter().map(step).sum()
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
        Self { middle, blocks, norm: Norm::new(&half.out_norm), conv: convolution(&half.out_conv, plan.side, plan.storage) }
    }

    /// `[batch, side, side, folded channels]`, the channels filled up to a multiple of 16.
    fn apply(&self, kernels: &Kernels, pool: &Pool, features: &[&Map], conditions: &Conditions) -> Buffer {
        let mut skips = features.iter().rev();
        let bottom = features.last().expect("the downward path has at least one block");
        let mut h = self.middle.apply(kernels, pool, &[bottom], conditions);
        for block in &self.blocks {
            let skip = skips.next().expect("as many skips as output blocks");
            h = block.apply(kernels, pool, &[&h, skip], conditions);
        }
        let affine: Vec<Affine> = (0..h.batch).map(|image| self.norm.affine(&[&h], image)).collect();
        let x = activate(kernels, pool, &[&h], &affine, Resample::Keep);
        let mut out = pool.take(h.batch * h.pixels() * self.conv.width());
        self.conv.apply(kernels, pool, &x, Base::Zero, &mut out);
        out
    }

    fn bytes(&self) -> usize {
        self.middle.bytes() + self.blocks.iter().map(Stage::bytes).sum::<usize>() + self.conv.bytes()
    }
}

/// The map that the semantic latent draws for the shift half.
#[derive(Debug)]
struct LatentMap {
    linear: Dense,
    conv: Convolution,
    channels: usize,
}

impl LatentMap {
    fn new(map: &latent_map::LatentMap, config: &ModelConfig, storage: Storage) -> Self {
        let (weight, bias) = map.linear_by_pixel();
        Self {
            linear: Dense::new(&weight, &bias, storage),
            conv: convolution(&map.conv, config.grid(), storage),
            channels: config.latent_map,
        }
    }

    /// The features of the first level with the maps of these latents (`[batch, latent]`) added; `None` in the place of all others.
    fn added(&self, kernels: &Kernels, pool: &Pool, features: &[Map], z: &[f32]) -> Vec<Option<Map>> {
        let Some(&Map { batch, height, width, channels, .. }) = features.first() else { return Vec::new() };
        let mut drawn = Padded::new(pool, batch, height, width, self.channels);
        for (image, z) in z.chunks_exact(z.len() / batch).enumerate() {
            let values = self.linear.vector(kernels, z);
            for (y, row) in values.chunks_exact(width * self.channels).enumerate() {
                let start = drawn.offset(image, y + 1, 1);
                drawn.values[start..start + row.len()].copy_from_slice(row);
            }
        }
        let added = |map: &Map| {
            ([map.height, map.channels] == [height, channels]).then(|| {
                let mut out = pool.take(map.values.len());
                self.conv.apply(kernels, pool, &drawn, Base::Map(&map.values), &mut out);
                Map::new(kernels, out, [batch, height, width, channels])
            })
        };
        features.iter().map(added).collect()
    }

    fn bytes(&self) -> usize {
        self.linear.bytes() + self.conv.bytes()
    }
}

/// Values that were computed for some key not long ago.
#[derive(Debug)]
struct Recent<K>(Mutex<HashMap<K, Arc<[f32]>>>);

impl<K: std::hash::Hash + Eq> Recent<K> {
    /// Floats that are kept; a decode of a hundred steps fits for every published network.
    const MOST: usize = 6 << 20;

    fn new() -> Self {
        Self(Mutex::new(HashMap::new()))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<K, Arc<[f32]>>> {
        self.0.lock().unwrap_or_else(|e| e.into_inner())
    }

    // Computing is left to other threads, and whoever waits for them may take up any other work meanwhile: never under the lock.
    fn get(&self, key: K, compute: impl FnOnce() -> Vec<f32>) -> Arc<[f32]> {
        let known = self.lock().get(&key).cloned();
        known.unwrap_or_else(|| {
            let value: Arc<[f32]> = compute().into();
            self.keep(value.len(), [(key, value.clone())]);
            value
        })
    }

    /// Computes what is not known of these in one go, all of the same length, as far as they can be kept.
    fn get_ready(&self, keys: impl IntoIterator<Item = K>, length: usize, compute: impl FnOnce(&[K]) -> Vec<f32>) {
        let missing: Vec<K> = {
            let known = self.lock();
            keys.into_iter().filter(|key| !known.contains_key(key)).take(Self::MOST / length).collect()
        };
        if !missing.is_empty() {
            let values = compute(&missing);
            self.keep(length, missing.into_iter().zip(values.chunks_exact(length).map(Arc::from)));
        }
    }

    /// Keeps values of one length, if need be instead of all others.
    fn keep(&self, length: usize, values: impl IntoIterator<Item = (K, Arc<[f32]>)>) {
        let values: Vec<_> = values.into_iter().collect();
        let mut known = self.lock();
        if (known.len() + values.len()) * length > Self::MOST {
            known.clear();
        }
        known.extend(values);
    }
}

/// The DPM and the shift half, on the CPU.
#[derive(Debug)]
pub struct Decoder {
    kernels: &'static Kernels,
    pool: Pool,
    config: ModelConfig,
    heads: Heads,
    /// Of coarse colour.
    basis: Vec<f32>,
    time_embed: [Dense; 2],
    /// From the time embedding to the modulations of all residual blocks.
    time: Dense,
    times: Recent<usize>,
    label_emb: Dense,
    /// The same from the embedding of the semantic latent, for the shift half.
    latent: Dense,
    latents: Recent<Vec<u32>>,
    latent_map: Option<LatentMap>,
    first: Convolution,
    down: Vec<Stage>,
    plain: DecoderHalf,
    shift: DecoderHalf,
    /// Newest last.
    first_steps: Mutex<VecDeque<Arc<FirstStep>>>,
}

/// What the first step of a decode has in common with every other decode of the same `x_t`: all but the mean shift.
#[derive(Debug)]
struct FirstStep {
    x_t: Vec<f32>,
    timesteps: Vec<usize>,
    features: Vec<Map>,
    eps: Vec<f32>,
}

impl FirstStep {
    /// First steps that are remembered: of the photo's `x_T`, and of where previews start.
    const MOST: usize = 4;

    fn is_of(&self, x: Noisy) -> bool {
        self.timesteps == x.timesteps && self.x_t == x.x_t
    }
}

/// Images for a [`Decoder`]: `[batch, 3, size, size]` as plain floats, one timestep an image.
#[derive(Debug, Clone, Copy)]
pub struct Noisy<'a> {
    pub x_t: &'a [f32],
    pub timesteps: &'a [usize],
}

impl Decoder {
    pub fn new(decoder: &unet::ShiftDecoder, config: &ModelConfig, storage: Storage) -> Self {
        Self::with_kernels(decoder, config, storage, kernels())
    }

    /// For particular kernels, which this machine must have.
    pub(super) fn with_kernels(decoder: &unet::ShiftDecoder, config: &ModelConfig, storage: Storage, kernels: &'static Kernels) -> Self {
        let down = &decoder.denoiser.encoder_half;
        let (time, latent) = (Modulations::default(), Modulations::default());
        let mut plan = Plan { side: config.grid(), time, latent, storage };
        let (first, rest) = down.input_blocks.split_first().expect("a network has a first convolution");
        let [Layer::Conv(first)] = &first.layers[..] else { unreachable!("the first stage is a convolution") };
        let first = convolution(first, plan.side, storage);
        let time_embed = [0, 1].map(|i| Dense::from_layer(&down.time_embed[i], storage));
        let down: Vec<Stage> = rest.iter().map(|stage| Stage::new(stage, &mut plan)).collect();
        // Both halves start where the downward path ends.
        let bottom = plan.side;
        let plain = DecoderHalf::new(&decoder.denoiser.decoder_half, &mut plan);
        plan.side = bottom;
        let shift = DecoderHalf::new(&decoder.shift.decoder_half, &mut plan);
        let modulations = |all: Modulations| Dense::new(&all.weight, &all.bias, storage);
        Self {
            kernels,
            pool: Pool::default(),
            heads: decoder.denoiser.heads.clone(),
            basis: coarse_basis(),
            config: config.clone(),
            time_embed,
            time: modulations(plan.time),
            times: Recent::new(),
            label_emb: Dense::from_layer(&decoder.shift.label_emb, storage),
            latent: modulations(plan.latent),
            latents: Recent::new(),
            latent_map: decoder.shift.latent_map.as_ref().map(|map| LatentMap::new(map, config, storage)),
            first,
            down,
            plain,
            shift,
            first_steps: Mutex::default(),
        }
    }

    /// Bytes of all weights as they lie in memory.
    pub fn bytes(&self) -> usize {
        let dense = [&self.time_embed[0], &self.time_embed[1], &self.time, &self.label_emb, &self.latent];
        dense.iter().map(|d| d.bytes()).sum::<usize>()
            + self.first.bytes()
            + self.down.iter().map(Stage::bytes).sum::<usize>()
            + self.latent_map.as_ref().map_or(0, LatentMap::bytes)
            + self.plain.bytes()
            + self.shift.bytes()
    }

    /// Computes what hangs on the timestep alone for all steps of a chain at once: its weights are then read once, not at every step.
    pub fn get_ready(&self, timesteps: impl IntoIterator<Item = usize>) {
        self.times.get_ready(timesteps, self.time.weights.columns, |missing| in_pool(|| self.time_modulations(missing)));
    }

    /// The noise in `x_t`: `[batch, 3, size, size]`.
    pub fn noise(&self, x: Noisy) -> Vec<f32> {
        in_pool(|| {
            let conditions = self.conditions(x, None);
            let features = self.features(x, &conditions);
            self.eps(x, &self.upward(&features, &conditions))
        })
    }

    /// `(eps, G)` for each of several sets of semantic latents (`[batch, latent]`) over the same images: the shared half and `eps` are
    /// computed once, and all halves at the same time.
    pub fn guided(&self, x: Noisy, latents: &[&[f32]]) -> (Vec<f32>, Vec<Vec<f32>>) {
        in_pool(|| {
            let plain = self.conditions(x, None);
            let features = self.features(x, &plain);
            let shifted = |z: &&[f32]| self.shifted(x, &features, z);
            rayon::join(|| self.eps(x, &self.upward(&features, &plain)), || latents.iter().map(shifted).collect())
        })
    }

    /// The same for the first step of a decode. While sliders move, decode after decode starts from one `x_t`: everything but the shift
    /// half, which alone reads the semantic latents, is computed once and remembered.
    pub fn guided_first(&self, x: Noisy, latents: &[&[f32]]) -> (Vec<f32>, Vec<Vec<f32>>) {
        let first = self.first_step(x);
        let shifted = |z: &&[f32]| self.shifted(x, &first.features, z);
        (first.eps.clone(), in_pool(|| latents.iter().map(shifted).collect()))
    }

    /// The DPM's own upward path.
    fn upward(&self, features: &[Map], conditions: &Conditions) -> Buffer {
        self.plain.apply(self.kernels, &self.pool, &features.iter().collect::<Vec<_>>(), conditions)
    }

    /// `G` for one set of semantic latents.
    fn shifted(&self, x: Noisy, features: &[Map], z: &[f32]) -> Vec<f32> {
        let conditions = self.conditions(x, Some(z));
        let added = self.latent_map.as_ref().map(|map| map.added(self.kernels, &self.pool, features, z));
        let with_map = |i: usize| added.as_ref().and_then(|added| added.get(i)?.as_ref()).unwrap_or(&features[i]);
        let features: Vec<&Map> = (0..features.len()).map(with_map).collect();
        self.gradient(x, &self.shift.apply(self.kernels, &self.pool, &features, &conditions))
    }

    fn first_step(&self, x: Noisy) -> Arc<FirstStep> {
        let lock = || self.first_steps.lock().unwrap_or_else(|e| e.into_inner());
        let known = {
            let mut steps = lock();
            steps.iter().position(|step| step.is_of(x)).and_then(|i| steps.remove(i))
        };
        let step = known.unwrap_or_else(|| {
            in_pool(|| {
                let plain = self.conditions(x, None);
                let features = self.features(x, &plain);
                let eps = self.eps(x, &self.upward(&features, &plain));
                Arc::new(FirstStep { x_t: x.x_t.to_vec(), timesteps: x.timesteps.to_vec(), features, eps })
            })
        });
        let mut steps = lock();
        steps.push_back(step.clone());
        if steps.len() > FirstStep::MOST {
            steps.pop_front();
        }
        step
    }

    fn conditions(&self, x: Noisy, z: Option<&[f32]>) -> Conditions {
        let width = self.config.latent_dim;
        Conditions {
            time: x.timesteps.iter().map(|t| self.times.get(*t, || self.time_modulations(&[*t]))).collect(),
            latent: z.map_or_else(Vec::new, |z| z.chunks_exact(width).map(|z| self.latent_modulations(z)).collect()),
        }
    }

    /// For each timestep what it makes of the residual blocks, one after the other.
    fn time_modulations(&self, timesteps: &[usize]) -> Vec<f32> {
        let mut h: Vec<f32> = timesteps.iter().flat_map(|t| sinusoid(*t, self.config.denoiser.base_channel)).collect();
        for layer in &self.time_embed {
            h = layer.vectors(self.kernels, &h, timesteps.len());
            silu(&mut h);
        }
        self.time.vectors(self.kernels, &h, timesteps.len())
    }

    fn latent_modulations(&self, z: &[f32]) -> Arc<[f32]> {
        self.latents.get(z.iter().map(|v| v.to_bits()).collect(), || {
            let mut h = self.label_emb.vector(self.kernels, z);
            silu(&mut h);
            self.latent.vector(self.kernels, &h)
        })
    }

    /// The downward path: what every block of it gives, first block first.
    fn features(&self, x: Noisy, conditions: &Conditions) -> Vec<Map> {
        let (size, patch) = (self.config.image_size, self.config.patch);
        let (grid, batch) = (self.config.grid(), x.timesteps.len());
        let folded = fold(&self.pool, x.x_t, batch, size, patch);
        let shape = [batch, grid, grid, self.first.width()];
        let mut h = self.pool.take(shape.iter().product());
        self.first.apply(self.kernels, &self.pool, &folded, Base::Zero, &mut h);
        let mut features = vec![Map::new(self.kernels, h, shape)];
        for stage in &self.down {
            let h = stage.apply(self.kernels, &self.pool, &[&features[features.len() - 1]], conditions);
            features.push(h);
        }
        features
    }

    fn eps(&self, x: Noisy, head: &[f32]) -> Vec<f32> {
        let mut out = self.unfolded(head, x.timesteps.len());
        let image = out.len() / x.timesteps.len();
        for (i, t) in x.timesteps.iter().enumerate() {
            if let Some([head, x_t, fine]) = self.heads.noise_factors(*t).map(|factors| factors.map(|f| f as f32)) {
                let range = i * image..(i + 1) * image;
                let (out, x) = (&mut out[range.clone()], &x.x_t[range]);
                for (out, x) in out.iter_mut().zip(x) {
                    *out = *out * head + x * x_t;
                }
                if fine != 0.0 {
                    add_fine_colour(out, x, self.config.image_size, &self.basis, fine);
                }
            }
        }
        out
    }

    fn gradient(&self, x: Noisy, head: &[f32]) -> Vec<f32> {
        let mut out = self.unfolded(head, x.timesteps.len());
        let image = out.len() / x.timesteps.len();
        for (out, t) in out.chunks_exact_mut(image).zip(x.timesteps) {
            if let Some(factor) = self.heads.gradient_factor(*t) {
                out.iter_mut().for_each(|v| *v *= factor as f32);
            }
        }
        out
    }

    /// Channels-last patches to `[batch, 3, size, size]` (PyTorch's `pixel_shuffle`).
    fn unfolded(&self, head: &[f32], batch: usize) -> Vec<f32> {
        let (size, patch, grid) = (self.config.image_size, self.config.patch, self.config.grid());
        let width = head.len() / (batch * grid * grid);
        let mut out = vec![0.0; batch * 3 * size * size];
        for (i, pixel) in head.chunks_exact(width).enumerate() {
            let (image, y, x) = (i / (grid * grid), i / grid % grid, i % grid);
            for (line, run) in pixel[..3 * patch * patch].chunks_exact(patch).enumerate() {
                out[pixel_at(size, patch, image, y, x, line)..][..patch].copy_from_slice(run);
            }
        }
        out
    }
}

/// Where in `[batch, 3, size, size]` a line of a patch starts; lines are counted through the patch's rows, channel by channel.
fn pixel_at(size: usize, patch: usize, image: usize, y: usize, x: usize, line: usize) -> usize {
    ((image * 3 + line / patch) * size + y * patch + line % patch) * size + x * patch
}

/// `[batch, 3, size, size]` to bordered channels-last patches (PyTorch's `pixel_unshuffle`).
fn fold(pool: &Pool, values: &[f32], batch: usize, size: usize, patch: usize) -> Padded {
    let (grid, channels) = (size / patch, 3 * patch * patch);
    let mut out = Padded::new(pool, batch, grid, grid, channels);
    for image in 0..batch {
        for (y, x) in (0..grid * grid).map(|i| (i / grid, i % grid)) {
            let start = out.offset(image, y + 1, x + 1);
            for (line, run) in out.values[start..start + channels].chunks_exact_mut(patch).enumerate() {
                run.copy_from_slice(&values[pixel_at(size, patch, image, y, x, line)..][..patch]);
            }
        }
    }
    out
}

/// Runs on a thread of the pool: forking from outside it costs a wake-up every time.
fn in_pool<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    rayon::scope(|_| work())
}

/// The semantic encoder, on the CPU.
#[derive(Debug)]
pub struct Encoder {
    kernels: &'static Kernels,
    pool: Pool,
    side: usize,
    stages: Vec<EncoderStage>,
    head: Dense,
}

#[derive(Debug)]
struct EncoderStage {
    conv: Convolution,
    attention: Option<Attention>,
    norm: Norm,
}

impl Encoder {
    pub fn new(encoder: &encoder::Encoder, config: &ModelConfig, storage: Storage) -> Self {
        Self::with_kernels(encoder, config, storage, kernels())
    }

    pub(super) fn with_kernels(encoder: &encoder::Encoder, config: &ModelConfig, storage: Storage, kernels: &'static Kernels) -> Self {
        let stage = |stage: &encoder::EncoderStage| EncoderStage {
            conv: convolution(&stage.conv, 0, storage),
            attention: stage.attention.as_ref().map(|attention| Attention::new(attention, storage)),
            norm: Norm::new(&stage.norm),
        };
        let stages: Vec<EncoderStage> = encoder.stages.iter().map(stage).collect();
        // The published head reads channels first.
        let (weight, bias) = (values(&encoder.head.weight), values(&encoder.head.bias));
        let channels = stages.last().map_or(1, |s| s.conv.width());
        let input = weight.len() / bias.len();
        let pixels = input / channels;
        let reordered: Vec<f32> =
            weight.chunks_exact(input).flat_map(|row| (0..input).map(move |i| row[i % channels * pixels + i / channels])).collect();
        Self { kernels, pool: Pool::default(), side: config.encoder.image_size(), stages, head: Dense::new(&reordered, &bias, storage) }
    }

    /// `[batch, 3, size, size]` in [-1, 1] to `[batch, latent]`.
    pub fn forward(&self, x_0: &[f32]) -> Vec<f32> {
        // One by one: the maps of many images at once would not stay in the processor's caches.
        in_pool(|| x_0.chunks_exact(3 * self.side * self.side).flat_map(|image| self.latent(image)).collect())
    }

    /// One image, `[3, size, size]`.
    fn latent(&self, x_0: &[f32]) -> Vec<f32> {
        let mut x = fold(&self.pool, x_0, 1, self.side, 1);
        for stage in &self.stages {
            let shape = [1, x.height / 2, x.width / 2, stage.conv.width()];
            let mut h = self.pool.take(shape.iter().product());
            stage.conv.apply(self.kernels, &self.pool, &x, Base::Zero, &mut h);
            let mut h = Map::new(self.kernels, h, shape);
            if let Some(attention) = &stage.attention {
                h = attention.apply(self.kernels, &self.pool, h);
            }
            let affine = [stage.norm.affine(&[&h], 0)];
            x = activate(self.kernels, &self.pool, &[&h], &affine, Resample::Keep);
        }
        let row = x.width * x.channels;
        let flat: Vec<f32> = (1..=x.height).flat_map(|y| x.values[x.offset(0, y, 1)..][..row].iter().copied()).collect();
        self.head.vector(self.kernels, &flat)
    }
}

/// `factor` times the fine colour of an image `[3, size, size]` on top of `out` ([`crate::model::fine_colour`]). `basis`: see
/// [`coarse_basis`].
fn add_fine_colour(out: &mut [f32], x: &[f32], size: usize, basis: &[f32], factor: f32) {
    let plane = size * size;
    let (red, rest) = x.split_at(plane);
    let (green, blue) = rest.split_at(plane);
    let mut pure = [0.0f32; BLOCK * BLOCK];
    for (own, out) in [red, green, blue].into_iter().zip(out.chunks_exact_mut(plane)) {
        for corner in (0..plane).step_by(BLOCK * size).flat_map(|row| (row..row + size).step_by(BLOCK)) {
            for (y, line) in pure.chunks_exact_mut(BLOCK).enumerate() {
                let run = corner + y * size..corner + y * size + BLOCK;
                let all = own[run.clone()].iter().zip(&red[run.clone()]).zip(green[run.clone()].iter().zip(&blue[run]));
                line.iter_mut().zip(all).for_each(|(pure, ((own, red), (green, blue)))| *pure = own - (red + green + blue) / 3.0);
            }
            for wave in basis.chunks_exact(BLOCK * BLOCK) {
                // Columns side by side: one sum after the other takes as long as all else here together.
                let mut shares = [0.0f32; BLOCK];
                for (wave, pure) in wave.chunks_exact(BLOCK).zip(pure.chunks_exact(BLOCK)) {
                    shares.iter_mut().zip(wave.iter().zip(pure)).for_each(|(share, (a, b))| *share += a * b);
                }
                let share: f32 = shares.iter().sum();
                pure.iter_mut().zip(wave).for_each(|(pure, wave)| *pure -= share * wave);
            }
            for (y, line) in pure.chunks_exact(BLOCK).enumerate() {
                out[corner + y * size..][..BLOCK].iter_mut().zip(line).for_each(|(out, pure)| *out += factor * pure);
            }
        }
    }
}
