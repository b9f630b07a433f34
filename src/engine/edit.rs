//! One photo under one model: the steps that the engine thread and the command line share.

use std::path::Path;
use std::time::Duration;

use burn::tensor::{Device, Tensor};
use image::RgbImage;
use rand::{SeedableRng, rngs::StdRng};
use rand_distr::{Distribution, StandardNormal};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::ModelCard;
use crate::checkpoint::{Bundle, CheckpointError};
use crate::device::{DeviceChoice, DeviceError, NamedDevice};
use crate::diffusion::{Chain, Inversion, Solver, lerp, slerp, slerp_inferred};
use crate::editing::sidecar::{ModelEntry, SidecarError};
use crate::editing::{Crop, LatentSpace, Recipe};
use crate::face::{self, Detector, Face, FaceError, person};
use crate::memory;
use crate::model::{Autoencoder, Guidance, gpu};
use crate::photo::{ExportError, Frame, Photo, PhotoError, Reach, Upsampling, from_model, put_back, to_model};

/// Everything that can go wrong between a photo and its export.
#[derive(Debug, Error)]
pub enum EditError {
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    #[error(transparent)]
    Device(#[from] DeviceError),
    #[error(transparent)]
    Photo(#[from] PhotoError),
    #[error(transparent)]
    Face(#[from] FaceError),
    #[error(transparent)]
    Export(#[from] ExportError),
    #[error(transparent)]
    Sidecar(#[from] SidecarError),
    #[error("No model is loaded, so the photo cannot be read. Choose a model first.")]
    NoModel,
    #[error("This model cannot make faces up: it comes without a latent DPM. Choose a model that has one, or vary an open photo.")]
    NoLatentDpm,
    #[error("the model's output could not be read back from the device: {0}")]
    ReadBack(String),
}

/// The networks of a bundle, and the device that they are on: what was asked for, or where they decode fastest.
pub(crate) fn open(bundle: Bundle, choice: DeviceChoice) -> Result<(Autoencoder, NamedDevice), EditError> {
    let device = if choice == DeviceChoice::Auto {
        // What a step costs is known once the networks are built; where there is no card, they stay where they are.
        let model = bundle.build(&DeviceChoice::Cpu.open()?.device)?;
        let device = choice.for_step(model.cost.step_gflop).open()?;
        if device.is_cpu() {
            let storage = bundle.storage();
            // Before the kernels copy them: the weights need not lie in memory three times.
            drop(bundle);
            return Ok((model.on_cpu_kernels(storage), device));
        }
        device
    } else {
        choice.open()?
    };
    Ok((bundle.into_model(&device)?, device))
}

/// A bundle on a device.
pub struct Editor {
    pub card: ModelCard,
    pub(crate) model: Autoencoder,
    pub(super) space: LatentSpace,
    detector: Detector,
}

/// What is mixed on the way from one photo to another. The stochastic latents are mixed spherically in both.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum InterpolationPath {
    /// The semantic latents, linearly.
    #[default]
    Latent,
    /// The two mean shifts, at every denoising step.
    Trajectory,
}

/// A photo as the model has read it.
#[derive(Debug, Clone)]
pub struct Latents {
    /// The picture that was read, `[1, 3, size, size]` in [-1, 1].
    pub(super) x_0: Vec<f32>,
    /// Semantic latent.
    pub(super) z: Vec<f32>,
    /// Stochastic latent: noise until it is inferred.
    pub x_t: Tensor<4>,
    /// Whether `x_t` was inferred from the photo.
    pub inferred: bool,
    /// What the inversion came by of [`WARM_STARTS`].
    pub(super) passed: Vec<WarmStart>,
}

/// An `x_t` in the middle of the chain, from which a preview of few steps may start.
#[derive(Debug, Clone)]
pub struct WarmStart {
    pub timestep: usize,
    /// The step of the inversion that came by it.
    place: usize,
    /// `[1, 3, size, size]`.
    x_t: Tensor<4>,
}

/// How long a card looks for faster ways in one go, about: who comes with an edit meanwhile waits for as long.
const LOOK: Duration = Duration::from_millis(100);

/// From which step of the inversion a preview of 1, 2, 3 and 4 steps starts: where it agrees best with a hundred steps, by the row
/// `agreement` of `evaluate`. Longer previews do best from `x_T`.
const WARM_STARTS: [usize; 4] = [10, 10, 13, 13];

impl Latents {
    /// The noise that stands in for a stochastic latent which was not inferred.
    pub const UNINFERRED_SEED: u64 = 0;

    /// Where a preview of so many steps should start, if not from `x_t`. An edit that goes its own way from the first step on (fresh
    /// noise, another strength, a shift that stops early) has nothing in common with what the inversion came by, and a denoised end is not
    /// where these go.
    pub fn warm_start(&self, recipe: &Recipe, steps: usize) -> Option<&WarmStart> {
        let goes_its_own_way = recipe.fresh_noise != 0.0 || recipe.guidance != 1.0 || recipe.stop_percent != 0.0;
        let usual = !goes_its_own_way && recipe.solver != Solver::Denoised;
        let place = *WARM_STARTS.get(steps.checked_sub(1)?)?;
        self.passed.iter().find(|start| start.place == place).filter(|_| usual && self.inferred)
    }
}

impl Editor {
    pub fn load(bundle: &Path, choice: DeviceChoice) -> Result<Self, EditError> {
        let bundle = Bundle::load(bundle)?;
        let (space, folder, manifest) = (bundle.latent_space(), bundle.folder.clone(), bundle.manifest.clone());
        let (model, device) = open(bundle, choice)?;
        let card = ModelCard { folder, cost: model.cost, device: device.name, manifest };
        let detector = Detector::built_in()?;
        memory::give_back();
        Ok(Self { card, space, model, detector })
    }

    /// Side of the model's pictures in pixels.
    pub fn size(&self) -> u32 {
        self.model.config.image_size as u32
    }

    /// Whether this computes on the processor.
    pub fn is_on_cpu(&self) -> bool {
        *self.model.device() == Device::flex()
    }

    /// Passes of [`Editor::rehearse`] and [`Editor::look`]: 0 encodes, 1 takes a guided step, 2 takes one of two pictures at once.
    pub const REHEARSALS: usize = 3;

    /// One of the passes that editing needs, on nothing: a device that compiles its kernels at first use has then done so.
    pub fn rehearse(&self, pass: usize) -> Result<(), EditError> {
        self.pass(pass)?;
        // A card's second pass is recorded.
        if pass > 0 { self.pass(pass) } else { Ok(()) }
    }

    /// Has a card look for the fastest way to compute what is in such a pass, for about [`LOOK`]. Whether nothing is left to look for: what
    /// was found also holds for later starts.
    pub fn look(&self, pass: usize) -> Result<bool, EditError> {
        // A program that plays a card has one way for everything.
        if self.model.device().identity().is_none_or(|identity| identity.physical.is_none()) {
            return Ok(true);
        }
        let looking = gpu::look(LOOK);
        self.pass(pass)?;
        let found_all = looking.found_all();
        drop(looking);
        if found_all {
            self.rehearse(pass)?;
        }
        Ok(found_all)
    }

    fn pass(&self, pass: usize) -> Result<(), EditError> {
        let side = self.model.config.image_size;
        let seen = match pass {
            0 => values(self.model.semantic_latent(self.image_tensor(vec![0.0; 3 * side * side], 1)))?,
            batch => {
                let noise = Tensor::cat(vec![self.noise(0); batch], 0);
                let timesteps = vec![self.model.schedule.len() - 1; batch];
                let z = self.latent_tensor(vec![0.0; batch * self.model.config.latent_dim], batch);
                let (eps, gradient) = self.model.guided(noise, &timesteps, z);
                values(eps + gradient)?
            }
        };
        debug_assert!(!seen.is_empty());
        Ok(())
    }

    /// All faces in a photo, best first.
    pub fn find_faces(&self, photo: &Photo) -> Result<Vec<Face>, EditError> {
        Ok(face::find(&self.detector, photo)?)
    }

    /// The framed part of a photo, at the model's size.
    pub fn cut(&self, photo: &Photo, frame: Frame) -> RgbImage {
        frame.cut(photo, self.size())
    }

    /// Encodes a picture of the model's size: the semantic latent at once, noise for a stochastic latent (the same every time).
    pub fn read(&self, picture: &RgbImage) -> Result<Latents, EditError> {
        let x_0 = to_model(picture);
        let z = values(self.model.semantic_latent(self.image_tensor(x_0.clone(), 1)))?;
        Ok(Latents { x_t: self.noise(Latents::UNINFERRED_SEED), x_0, z, inferred: false, passed: Vec::new() })
    }

    /// The chain that infers the stochastic latent. Step it with [`Editor::step_inversion`]; its end goes into [`Latents::x_t`].
    pub fn inversion(&self, latents: &Latents, steps: usize, inversion: Inversion) -> Chain<4> {
        Chain::invert(&self.model.schedule, steps, inversion, self.image_tensor(latents.x_0.clone(), 1))
    }

    /// One step of an inversion; `false` at its end.
    pub fn step_inversion(&self, chain: &mut Chain<4>, latents: &mut Latents) -> bool {
        let goes_on = self.model.step(chain, &self.latent_tensor(latents.z.clone(), 1), Guidance::default()).is_some();
        if goes_on
            && let place = chain.done() - 1
            && WARM_STARTS.contains(&place)
            && let Some((timestep, x_t)) = chain.settled()
        {
            latents.passed.push(WarmStart { timestep, place, x_t: x_t.clone() });
        }
        goes_on
    }

    /// A decode of the photo under a recipe.
    pub fn decode(&self, latents: &Latents, recipe: &Recipe, steps: usize) -> Decode {
        let z = self.space.edit(&latents.z, &recipe.sliders, &recipe.locked);
        self.start(self.stochastic_latent(latents, recipe), self.latent_tensor(z, 1), recipe, steps)
    }

    /// The photo as it decodes without an edit, under a recipe's guidance.
    pub fn decode_unedited(&self, latents: &Latents, recipe: &Recipe, steps: usize) -> Decode {
        self.start(latents.x_t.clone(), self.latent_tensor(latents.z.clone(), 1), recipe, steps)
    }

    /// The stochastic latent that a recipe decodes: the photo's, with its share of fresh noise.
    pub fn stochastic_latent(&self, latents: &Latents, recipe: &Recipe) -> Tensor<4> {
        if recipe.fresh_noise == 0.0 {
            return latents.x_t.clone();
        }
        slerp(latents.x_t.clone(), self.noise(recipe.noise_seed), recipe.fresh_noise.clamp(0.0, 1.0))
    }

    /// The edited photo and its plain reconstruction side by side in one batch.
    pub fn decode_pair(&self, latents: &Latents, recipe: &Recipe, steps: usize) -> Decode {
        let mut z = self.space.edit(&latents.z, &recipe.sliders, &recipe.locked);
        z.extend(&latents.z);
        let x_t = Tensor::cat(vec![self.stochastic_latent(latents, recipe), latents.x_t.clone()], 0);
        self.start(x_t, self.latent_tensor(z, 2), recipe, steps)
    }

    /// The end of a decode of the photo under a recipe, from the middle of the chain; beside it in the batch the photo's plain
    /// reconstruction, if `paired`.
    pub fn decode_warm(&self, start: &WarmStart, latents: &Latents, recipe: &Recipe, steps: usize, paired: bool) -> Decode {
        let mut z = self.space.edit(&latents.z, &recipe.sliders, &recipe.locked);
        let mut x_t = start.x_t.clone();
        if paired {
            z.extend(&latents.z);
            x_t = Tensor::cat(vec![x_t.clone(), x_t], 0);
        }
        let z = self.latent_tensor(z, if paired { 2 } else { 1 });
        let chain = Chain::decode_from(&self.model.schedule, start.timestep, steps, x_t);
        Decode { chain, guide: Guide::Latent(z), guidance: Guidance::default() }
    }

    pub(super) fn start(&self, x_t: Tensor<4>, z: Tensor<2>, recipe: &Recipe, steps: usize) -> Decode {
        self.start_guided(x_t, Guide::Latent(z), recipe, steps)
    }

    fn start_guided(&self, x_t: Tensor<4>, guide: Guide, recipe: &Recipe, steps: usize) -> Decode {
        let guidance = Guidance { strength: recipe.guidance, stop_percent: recipe.stop_percent };
        Decode { chain: Chain::decode(&self.model.schedule, steps.max(1), recipe.solver, x_t), guide, guidance }
    }

    /// One step of a decode; `false` at its end.
    pub fn step(&self, decode: &mut Decode) -> bool {
        self.step_predicting(decode).is_some()
    }

    /// The same with the predicted pictures, `[batch, 3, size, size]` in [-1, 1].
    pub(super) fn step_predicting(&self, decode: &mut Decode) -> Option<Tensor<4>> {
        let Decode { chain, guide, guidance } = decode;
        match guide {
            Guide::Latent(z) => self.model.step(chain, z, *guidance),
            Guide::Between { z_a, z_b, alpha } => self.model.step_between(chain, z_a, z_b, *alpha, *guidance),
        }
    }

    /// The pictures at the end of a decode, one or two, each `[3, size, size]` in about [-1, 1].
    pub fn pictures(&self, decode: Decode) -> Result<Vec<Vec<f32>>, EditError> {
        let size = self.size() as usize;
        Ok(values(decode.chain.x)?.chunks(3 * size * size).map(<[f32]>::to_vec).collect())
    }

    /// The first picture of a batch, `[3, size, size]`.
    pub(super) fn first_picture(&self, pictures: Tensor<4>) -> Result<Vec<f32>, EditError> {
        let size = self.size() as usize;
        let mut pictures = values(pictures)?;
        pictures.truncate(3 * size * size);
        Ok(pictures)
    }

    /// What is written of a photo after a finished [`Editor::decode_pair`] of `recipe`: the whole of it at its own size with the change put
    /// back, or the part that `crop` says.
    pub fn finish(
        &self,
        photo: &Photo,
        frame: Frame,
        recipe: &Recipe,
        pair: Decode,
        crop: Crop,
        upsampling: Upsampling,
    ) -> Result<Photo, EditError> {
        let pictures = values(pair.chain.x)?;
        let (edited, reconstructed) = pictures.split_at(pictures.len() / 2);
        let reach = recipe.keep_background.then_some(person::reach as Reach);
        let put_back = || put_back(photo, frame, edited, reconstructed, self.size(), upsampling, reach);
        Ok(match crop {
            Crop::None => put_back(),
            Crop::Full => frame.crop(&put_back()),
            Crop::Model => photo.replaced_by(from_model(edited, self.size())),
        })
    }

    /// The model, as recipes name it.
    pub fn model_entry(&self) -> ModelEntry {
        let manifest = &self.card.manifest;
        ModelEntry { name: manifest.name.clone(), sha256: manifest.weights.sha256.clone() }
    }

    /// A stochastic latent `[1, 3, size, size]` of standard normal noise, the same for the same seed on every device.
    pub fn noise(&self, seed: u64) -> Tensor<4> {
        let size = self.model.config.image_size;
        let mut rng = StdRng::seed_from_u64(seed);
        self.image_tensor((0..3 * size * size).map(|_| StandardNormal.sample(&mut rng)).collect(), 1)
    }

    /// The decode of a picture between two edited photos: `alpha` 0 is the first, 1 the second. Guidance is the first recipe's.
    pub fn decode_between(
        &self,
        [(from, from_recipe), (to, to_recipe)]: [(&Latents, &Recipe); 2],
        alpha: f64,
        path: InterpolationPath,
        steps: usize,
    ) -> Decode {
        let z = |latents: &Latents, recipe: &Recipe| self.latent_tensor(self.space.edit(&latents.z, &recipe.sliders, &recipe.locked), 1);
        let (z_a, z_b) = (z(from, from_recipe), z(to, to_recipe));
        let x_t = slerp_inferred(self.stochastic_latent(from, from_recipe), self.stochastic_latent(to, to_recipe), alpha);
        let guide = match path {
            InterpolationPath::Latent => Guide::Latent(lerp(z_a, z_b, alpha)),
            InterpolationPath::Trajectory => Guide::Between { z_a, z_b, alpha },
        };
        self.start_guided(x_t, guide, from_recipe, steps)
    }

    /// The picture between two photos: `alpha` 0 is the first, 1 the second. `steps` denoising steps.
    pub fn interpolate(
        &self,
        from: &Latents,
        to: &Latents,
        alpha: f64,
        path: InterpolationPath,
        steps: usize,
    ) -> Result<RgbImage, EditError> {
        let plain = Recipe::default();
        let mut decode = self.decode_between([(from, &plain), (to, &plain)], alpha, path, steps);
        while self.step(&mut decode) {}
        Ok(from_model(&values(decode.chain.x)?, self.size()))
    }

    pub(super) fn image_tensor(&self, values: Vec<f32>, batch: usize) -> Tensor<4> {
        let size = self.model.config.image_size;
        self.model.tensor(values, [batch, 3, size, size])
    }

    pub(super) fn latent_tensor(&self, values: Vec<f32>, batch: usize) -> Tensor<2> {
        self.model.tensor(values, [batch, self.model.config.latent_dim])
    }
}

/// A decode in progress.
pub struct Decode {
    pub chain: Chain<4>,
    guide: Guide,
    guidance: Guidance,
}

/// What shifts the mean.
#[expect(clippy::large_enum_variant, reason = "there is one at a time")]
enum Guide {
    /// One semantic latent a picture, `[batch, latent]`.
    Latent(Tensor<2>),
    /// The mixed shifts of two, each `[1, latent]`.
    Between { z_a: Tensor<2>, z_b: Tensor<2>, alpha: f64 },
}

/// A tensor's values on the CPU, row-major.
pub(super) fn values<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>, EditError> {
    let data = tensor.try_into_data().map_err(|e| EditError::ReadBack(format!("{e:?}")))?;
    data.convert::<f32>().try_to_vec::<f32>().map_err(|e| EditError::ReadBack(format!("{e:?}")))
}
