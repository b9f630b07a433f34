//! The ADM UNet and the decoder that adds a second, trained half to it (paper, section 3.3 and figure 2).

use burn::module::Module;
use burn::tensor::activation::silu;
use burn::tensor::{Device, Tensor};

use super::autodiff::Map;
use super::blocks::{Attention, Conditions, Layer, ResBlock, ResBlockShape, Resample, Stage};
use super::config::{DenoiserConfig, ModelConfig};
use super::latent_map::LatentMap;
use super::layers::{Conv, GroupNorm, Linear, timestep_embedding};
use super::parameters::{ParameterError, Parameters};
use super::prediction::{Heads, Prediction};

/// The half that both branches share: time embedding and downward path.
#[derive(Module, Debug)]
pub(super) struct EncoderHalf {
    pub(super) time_embed: [Linear; 2],
    pub(super) input_blocks: Vec<Stage>,
    base: usize,
}

/// Middle block, upward path and output layers of one branch.
#[derive(Module, Debug)]
pub(super) struct DecoderHalf {
    pub(super) middle_block: Stage,
    pub(super) output_blocks: Vec<Stage>,
    pub(super) out_norm: GroupNorm,
    pub(super) out_conv: Conv,
}

/// The pre-trained DPM alone: predicts the noise in `x_t`.
#[derive(Module, Debug)]
pub struct Denoiser {
    pub(super) encoder_half: EncoderHalf,
    pub(super) decoder_half: DecoderHalf,
    patch: usize,
    #[module(skip)]
    pub(super) heads: Heads,
}

/// The DPM and the shift half on its skips: one pass yields the noise `eps` and the mean shift `G`.
#[derive(Module, Debug)]
pub struct ShiftDecoder {
    pub denoiser: Denoiser,
    pub shift: ShiftHalf,
}

/// What PDAE trains on top of a frozen DPM (together with the encoder).
#[derive(Module, Debug)]
pub struct ShiftHalf {
    pub(super) label_emb: Linear,
    pub(super) latent_map: Option<LatentMap>,
    pub(super) decoder_half: DecoderHalf,
    multiply_adds: u64,
}

/// The shape of the downward path, which both upward paths mirror.
struct Plan {
    skips: Vec<usize>,
    bottom_channels: usize,
    bottom_rate: usize,
}

fn attention_layer(p: &mut Parameters, index: usize, channels: usize, d: &DenoiserConfig) -> Result<Layer, ParameterError> {
    p.scope(index, |p| Ok(Layer::Attention(Attention::new(p, channels, d.heads(channels), d.use_new_attention_order)?)))
}

fn res_layer(p: &mut Parameters, index: usize, shape: ResBlockShape) -> Result<Layer, ParameterError> {
    p.scope(index, |p| Ok(Layer::ResBlock(ResBlock::new(p, shape)?)))
}

impl EncoderHalf {
    fn new(p: &mut Parameters, config: &ModelConfig) -> Result<(Self, Plan), ParameterError> {
        let d = &config.denoiser;
        let embedding = d.embedding();
        let time_embed = p.scope("time_embed", |p| -> Result<_, ParameterError> {
            Ok([Linear::new(p, "0", d.base_channel, embedding)?, Linear::new(p, "2", embedding, embedding)?])
        })?;
        p.side = config.grid();
        let mut channels = d.base_channel * d.channel_multiplier[0];
        let mut blocks = vec![p.scope("input_blocks.0", |p| {
            Conv::new(p, "0", config.folded_channels(), channels, 3, 1).map(|conv| Stage::new(vec![Layer::Conv(conv)]))
        })?];
        let mut skips = vec![channels];
        let mut rate = 1;
        for (level, multiplier) in d.channel_multiplier.iter().enumerate() {
            for _ in 0..d.num_residual_blocks_of_a_block {
                let output = d.base_channel * multiplier;
                let stage = p.scope(format!("input_blocks.{}", blocks.len()), |p| -> Result<_, ParameterError> {
                    let shape = ResBlockShape { input: channels, output, embedding, resample: Resample::Keep, latent: false };
                    let mut layers = vec![res_layer(p, 0, shape)?];
                    if d.attention_resolutions.contains(&rate) {
                        layers.push(attention_layer(p, 1, output, d)?);
                    }
                    Ok(Stage::new(layers))
                })?;
                blocks.push(stage);
                channels = output;
                skips.push(channels);
            }
            if level + 1 < d.channel_multiplier.len() {
                let shape = ResBlockShape { input: channels, output: channels, embedding, resample: Resample::Down, latent: false };
                let stage = p.scope(format!("input_blocks.{}", blocks.len()), |p| res_layer(p, 0, shape).map(|l| Stage::new(vec![l])))?;
                blocks.push(stage);
                skips.push(channels);
                rate *= 2;
            }
        }
        let plan = Plan { skips, bottom_channels: channels, bottom_rate: rate };
        Ok((Self { time_embed, input_blocks: blocks, base: d.base_channel }, plan))
    }

    /// The time embedding, through the SiLU that every residual block starts its own projection with.
    fn embed(&self, timesteps: &[usize], device: &Device) -> Tensor<2> {
        let x = timestep_embedding(timesteps, self.base, device);
        let x = silu(self.time_embed[0].forward(x));
        silu(self.time_embed[1].forward(x))
    }

    /// The features at the bottom and the skips, first block first.
    fn forward(&self, x: Tensor<4>, conditions: &Conditions) -> Vec<Map> {
        let mut features = Vec::with_capacity(self.input_blocks.len());
        let mut h = Map::new(x, self.time_embed[0].compute());
        for block in &self.input_blocks {
            h = block.forward(h, conditions);
            features.push(h.clone());
        }
        features
    }
}

impl DecoderHalf {
    /// `prefix` is empty for the DPM's own half and `shift_` for the trained one.
    fn new(p: &mut Parameters, config: &ModelConfig, plan: &Plan, prefix: &str) -> Result<Self, ParameterError> {
        let d = &config.denoiser;
        let embedding = d.embedding();
        let latent = !prefix.is_empty();
        let keep = |input, output| ResBlockShape { input, output, embedding, resample: Resample::Keep, latent };
        let mut channels = plan.bottom_channels;
        let mut rate = plan.bottom_rate;
        p.side = config.grid() / rate;
        let middle_block = p.scope(format!("{prefix}middle_block"), |p| -> Result<_, ParameterError> {
            Ok(Stage::new(vec![
                res_layer(p, 0, keep(channels, channels))?,
                attention_layer(p, 1, channels, d)?,
                res_layer(p, 2, keep(channels, channels))?,
            ]))
        })?;
        let mut skips = plan.skips.clone();
        let mut output_blocks = Vec::new();
        for (level, multiplier) in d.channel_multiplier.iter().enumerate().rev() {
            for i in 0..=d.num_residual_blocks_of_a_block {
                let output = d.base_channel * multiplier;
                // The downward path pushed exactly as many skips as this path has blocks.
                let skip = skips.pop().unwrap_or_default();
                let stage = p.scope(format!("{prefix}output_blocks.{}", output_blocks.len()), |p| -> Result<_, ParameterError> {
                    let mut layers = vec![res_layer(p, 0, keep(channels + skip, output))?];
                    if d.attention_resolutions.contains(&rate) {
                        layers.push(attention_layer(p, 1, output, d)?);
                    }
                    if level > 0 && i == d.num_residual_blocks_of_a_block {
                        let shape = ResBlockShape { resample: Resample::Up, ..keep(output, output) };
                        layers.push(res_layer(p, layers.len(), shape)?);
                        rate /= 2;
                    }
                    Ok(Stage::new(layers))
                })?;
                output_blocks.push(stage);
                channels = output;
            }
        }
        let (out_norm, out_conv) = p.scope(format!("{prefix}out"), |p| -> Result<_, ParameterError> {
            Ok((GroupNorm::new(p, "0", channels)?, Conv::zeroed(p, "2", channels, config.folded_channels(), 3)?))
        })?;
        Ok(Self { middle_block, output_blocks, out_norm, out_conv })
    }

    fn forward(&self, features: &[Map], conditions: &Conditions) -> Tensor<4> {
        let mut skips = features.iter().rev();
        let bottom = skips.clone().next().expect("the downward path has at least one block").clone();
        let mut h = self.middle_block.forward(bottom, conditions);
        for block in &self.output_blocks {
            let skip = skips.next().expect("as many skips as output blocks").clone();
            h = block.forward(h.cat(skip), conditions);
        }
        self.out_conv.apply(self.out_norm.of(h).silu()).into_tensor()
    }
}

impl Denoiser {
    pub fn new(p: &mut Parameters, config: &ModelConfig) -> Result<Self, ParameterError> {
        Ok(Self::with_plan(p, config)?.0)
    }

    fn with_plan(p: &mut Parameters, config: &ModelConfig) -> Result<(Self, Plan), ParameterError> {
        let (encoder_half, plan) = EncoderHalf::new(p, config)?;
        let decoder_half = DecoderHalf::new(p, config, &plan, "")?;
        Ok((Self { encoder_half, decoder_half, patch: config.patch, heads: Heads::new(config) }, plan))
    }

    /// What the output layers were trained to give, before it becomes noise.
    pub fn prediction(&self) -> Prediction {
        self.heads.prediction()
    }

    /// The noise in `x_t` (`[batch, 3, size, size]`), one timestep for each image of the batch.
    pub fn forward(&self, x_t: Tensor<4>, timesteps: &[usize]) -> Tensor<4> {
        let conditions = Conditions { time: self.encoder_half.embed(timesteps, &x_t.device()), latent: None };
        let features = self.encoder_half.forward(fold_patches(x_t.clone(), self.patch), &conditions);
        self.finish(&features, &conditions, x_t, timesteps)
    }

    fn finish(&self, features: &[Map], conditions: &Conditions, x_t: Tensor<4>, timesteps: &[usize]) -> Tensor<4> {
        let head = unfold_patches(self.decoder_half.forward(features, conditions), self.patch);
        self.heads.noise(head, x_t, timesteps)
    }
}

impl ShiftDecoder {
    pub fn new(p: &mut Parameters, config: &ModelConfig) -> Result<Self, ParameterError> {
        let (denoiser, plan) = Denoiser::with_plan(p, config)?;
        let before = p.multiply_adds();
        let label_emb = Linear::new(p, "label_emb", config.latent_dim, config.denoiser.embedding())?;
        let latent_map = LatentMap::new(p, config)?;
        let decoder_half = DecoderHalf::new(p, config, &plan, "shift_")?;
        let multiply_adds = p.multiply_adds() - before;
        Ok(Self { denoiser, shift: ShiftHalf { label_emb, latent_map, decoder_half, multiply_adds } })
    }

    /// Multiply-adds of the shift half for one image.
    pub(super) fn shift_multiply_adds(&self) -> u64 {
        self.shift.multiply_adds
    }

    /// `(eps, G)` for `x_t` (`[batch, 3, size, size]`), one timestep an image, and the semantic latent `z` (`[batch, latent]`).
    pub fn forward(&self, x_t: Tensor<4>, timesteps: &[usize], z: Tensor<2>) -> (Tensor<4>, Tensor<4>) {
        let (eps, mut gradients) = self.forward_many(x_t, timesteps, &[z]);
        (eps, gradients.swap_remove(0))
    }

    /// `eps` and one `G` for each of several latents over the same `x_t`: the shared half and `eps` are computed once.
    pub fn forward_many(&self, x_t: Tensor<4>, timesteps: &[usize], latents: &[Tensor<2>]) -> (Tensor<4>, Vec<Tensor<4>>) {
        let (features, plain) = self.begin(&x_t, timesteps);
        let gradients = self.gradients_of(&features, &plain, timesteps, latents);
        (self.denoiser.finish(&features, &plain, x_t, timesteps), gradients)
    }

    /// The same without `eps`.
    pub fn gradients(&self, x_t: &Tensor<4>, timesteps: &[usize], latents: &[Tensor<2>]) -> Vec<Tensor<4>> {
        let (features, plain) = self.begin(x_t, timesteps);
        self.gradients_of(&features, &plain, timesteps, latents)
    }

    fn begin(&self, x_t: &Tensor<4>, timesteps: &[usize]) -> (Vec<Map>, Conditions) {
        let Denoiser { encoder_half, patch, .. } = &self.denoiser;
        let plain = Conditions { time: encoder_half.embed(timesteps, &x_t.device()), latent: None };
        (encoder_half.forward(fold_patches(x_t.clone(), *patch), &plain), plain)
    }

    fn gradients_of(&self, features: &[Map], plain: &Conditions, timesteps: &[usize], latents: &[Tensor<2>]) -> Vec<Tensor<4>> {
        let Denoiser { patch, heads, .. } = &self.denoiser;
        let gradient = |z: &Tensor<2>| {
            let latent = silu(self.shift.label_emb.forward(z.clone()));
            let guided = Conditions { time: plain.time.clone(), latent: Some(latent) };
            let features = self.shift.features(features, z);
            heads.gradient(unfold_patches(self.shift.decoder_half.forward(&features, &guided), *patch), timesteps)
        };
        latents.iter().map(gradient).collect()
    }
}

impl ShiftHalf {
    /// The downward path's features as this half reads them: with the latent's map on those of the first level.
    fn features(&self, features: &[Map], z: &Tensor<2>) -> Vec<Map> {
        let (Some(map), Some(top)) = (&self.latent_map, features.first()) else { return features.to_vec() };
        let map = top.beside(map.forward(z.clone()));
        features.iter().map(|f| if f.dims() == top.dims() { f.clone() + map.clone() } else { f.clone() }).collect()
    }
}

/// Folds `patch x patch` pixels into channels: `[n, c, h, w]` to `[n, c * patch^2, h / patch, w / patch]` (PyTorch's `pixel_unshuffle`).
pub fn fold_patches(x: Tensor<4>, patch: usize) -> Tensor<4> {
    if patch == 1 {
        return x;
    }
    let [n, c, h, w] = x.dims();
    let (h, w) = (h / patch, w / patch);
    x.reshape([n, c, h, patch, w, patch]).permute([0, 1, 3, 5, 2, 4]).reshape([n, c * patch * patch, h, w])
}

/// The inverse of [`fold_patches`] (PyTorch's `pixel_shuffle`).
pub fn unfold_patches(x: Tensor<4>, patch: usize) -> Tensor<4> {
    if patch == 1 {
        return x;
    }
    let [n, c, h, w] = x.dims();
    let c = c / (patch * patch);
    x.reshape([n, c, patch, patch, h, w]).permute([0, 1, 4, 2, 5, 3]).reshape([n, c, h * patch, w * patch])
}
