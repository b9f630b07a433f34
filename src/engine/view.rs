//! The open photo at the size of a screen, with every edit put back into it: what the window shows.

use std::cell::OnceCell;
use std::sync::Arc;

use image::{DynamicImage, Rgb, RgbImage, RgbaImage, imageops};

use super::Quality;
use super::close_up::{CloseUp, Part};
use super::interpolation::SIDE;
use crate::diffusion::Solver;
use crate::editing::Recipe;
use crate::face::person;
use crate::photo::pixels::{self, Sample};
use crate::photo::{Frame, Photo, paste};

/// Longest side of what is shown, in pixels. A larger photo is put together in full only when it is exported.
const LONGEST: u32 = 1400;

/// Previews and finals alternate, and the previews' number of steps follows the machine's mood.
const BASES: usize = 8;

/// A photo made small enough to be put together many times a second.
#[derive(Debug)]
pub struct View {
    photo: Photo,
    /// Its pixels over white.
    pixels: Arc<RgbImage>,
    /// The photo's frame, in the view's pixels.
    frame: Frame,
    /// Newest last.
    bases: Vec<Base>,
    /// The last picture that was put together: a final one in as many steps as the preview before it is there already.
    last: Option<Last>,
    whole: Option<Whole>,
    /// What of the photo is looked at closely.
    close: Option<Close>,
    /// What the window was given last.
    shown: Option<ShownEdit>,
    /// The frame at [`SIDE`] pixels, once it was asked for.
    cut: OnceCell<RgbImage>,
    around: Surroundings,
    /// Of the photo itself, for what is looked at closely.
    around_photo: Surroundings,
}

/// What edits are put into.
#[derive(Debug, Default)]
struct Surroundings {
    /// What changes are put back along, once one was.
    guide: OnceCell<RgbImage>,
    /// How far edits of the person reach, once one was shown ([`person::reach`]).
    reach: OnceCell<Option<Vec<f32>>>,
}

/// A picture that an edit is put into.
struct Canvas<'a> {
    pixels: &'a RgbImage,
    /// The frame in it, and the photo's upper left and lower right corner.
    frame: Frame,
    whole: [[f64; 2]; 2],
    /// What it was cut from, and the frame in that.
    source: (&'a Photo, Frame),
    around: &'a Surroundings,
}

/// How the unedited photo decodes. Edits are put back as their difference from it, so what the model cannot rebuild stays as it is.
#[derive(Debug)]
struct Base {
    settings: Settings,
    /// `[3, size, size]` in [-1, 1].
    picture: Arc<[f32]>,
}

#[derive(Debug)]
struct Last {
    recipe: Recipe,
    settings: Settings,
    picture: Arc<RgbImage>,
    edit: Decoded,
}

/// A part of the photo that is looked at closely.
#[derive(Debug)]
struct Close {
    part: Part,
    /// What it is a part of, and the frame in that.
    photo: Arc<Photo>,
    photo_frame: Frame,
    /// Its pixels over white.
    pixels: Arc<RgbImage>,
    /// The photo's frame, in these pixels, and the photo's upper left and lower right corner.
    frame: Frame,
    whole: [[f64; 2]; 2],
}

/// How an edit decodes, and the photo without it: each `[3, size, size]` in [-1, 1].
#[derive(Debug, Clone)]
struct Decoded {
    edited: Arc<[f32]>,
    /// `None` as long as it is not known.
    base: Option<Arc<[f32]>>,
    size: u32,
    keep_background: bool,
}

/// An edit that the window is given a picture of.
#[derive(Debug)]
struct ShownEdit {
    edit: Decoded,
    /// Set by [`View::shown_as`].
    told: Option<(u64, Quality)>,
}

/// A picture that was decoded to its end, from which drafts of other edits start.
#[derive(Debug)]
struct Whole {
    settings: Settings,
    noise: FreshNoise,
    /// `[3, size, size]` in [-1, 1].
    picture: Vec<f32>,
    /// What its decode predicted after the first step.
    first: Vec<f32>,
}

/// How much of the stochastic latent is not the photo's, and what there is instead.
#[derive(Debug, Clone, Copy, PartialEq)]
struct FreshNoise(f64, u64);

impl FreshNoise {
    fn of(recipe: &Recipe) -> Self {
        Self(recipe.fresh_noise, if recipe.fresh_noise == 0.0 { 0 } else { recipe.noise_seed })
    }
}

/// What a decode depends on besides the sliders. Only pictures that agree in it may be compared.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// The timestep that it starts from, where that is not the noisiest.
    start: Option<usize>,
    steps: usize,
    solver: Solver,
    guidance: f64,
    stop_percent: f64,
    inferred: bool,
}

impl Settings {
    /// `inferred`: whether the stochastic latent is the photo's own.
    pub fn new(recipe: &Recipe, steps: usize, inferred: bool) -> Self {
        Self { start: None, steps, solver: recipe.solver, guidance: recipe.guidance, stop_percent: recipe.stop_percent, inferred }
    }

    /// The same for a decode that starts from a timestep in the middle of the chain.
    pub fn from(self, start: Option<usize>) -> Self {
        Self { start, ..self }
    }
}

impl View {
    pub fn new(photo: &Photo, frame: Frame) -> Self {
        let scale = (f64::from(LONGEST) / f64::from(photo.width().max(photo.height()))).min(1.0);
        let [width, height] = [photo.width(), photo.height()].map(|side| ((f64::from(side) * scale).round() as u32).max(1));
        let pixels = if photo.has_alpha {
            // Over white before it is made smaller: where nothing is seen of them, pixels have any colour.
            let pixels = photo.srgb(0, 0, photo.width(), photo.height());
            if scale < 1.0 { imageops::thumbnail(&pixels, width, height) } else { pixels }
        } else {
            over_white(&match photo.srgb_pixels() {
                pixels if scale < 1.0 => imageops::thumbnail(&*pixels, width, height),
                pixels => pixels.into_owned(),
            })
        };
        let view = Photo::from_image(DynamicImage::ImageRgb8(pixels), &photo.name);
        // Only a picture without pixels is no photo, and this one has some.
        let (photo, frame) = view.map_or_else(|_| (photo.clone(), frame), |view| (view, frame.scaled(scale)));
        let pixels = Arc::new(over_white(&photo.srgb_pixels()));
        Self {
            photo,
            pixels,
            frame,
            bases: Vec::new(),
            last: None,
            whole: None,
            close: None,
            shown: None,
            cut: OnceCell::new(),
            around: Surroundings::default(),
            around_photo: Surroundings::default(),
        }
    }

    /// The unedited photo.
    pub fn original(&self) -> Arc<RgbImage> {
        self.pixels.clone()
    }

    /// Whether a decode with these settings can be shown without decoding the unedited photo beside it.
    pub fn has_base(&self, settings: Settings) -> bool {
        self.bases.iter().any(|base| base.settings == settings)
    }

    /// The photo is decoded from other latents from now on.
    pub fn forget_bases(&mut self) {
        self.bases.clear();
        (self.last, self.whole, self.shown) = (None, None, None);
    }

    /// Keeps a picture that was decoded to its end, and what its decode predicted after the first step, to make drafts from.
    pub fn keep_whole(&mut self, recipe: &Recipe, settings: Settings, picture: Vec<f32>, first: Vec<f32>) {
        self.whole = Some(Whole { settings, noise: FreshNoise::of(recipe), picture, first });
    }

    fn whole(&self, recipe: &Recipe, settings: Settings) -> Option<&Whole> {
        let fits = |whole: &&Whole| whole.settings == settings && whole.noise == FreshNoise::of(recipe) && self.has_base(settings);
        self.whole.as_ref().filter(fits)
    }

    /// Whether a decode of this recipe in this way can be shown after its first step ([`View::draft`]).
    pub fn has_draft(&self, recipe: &Recipe, settings: Settings) -> bool {
        self.whole(recipe, settings).is_some()
    }

    /// The photo as a decode will show it in the end, told by what it predicts after the first step (`[3, size, size]` in [-1, 1]): the
    /// last whole picture, changed as that prediction has changed since.
    ///
    /// After one step a decode knows where an edit goes, but not yet how the photo's detail looks; the whole picture knows that, and
    /// the stochastic latent has not changed. Measured by the row `agreement` of `evaluate`.
    pub fn draft(&mut self, recipe: &Recipe, settings: Settings, first: &[f32], size: u32) -> Option<RgbImage> {
        let whole = self.whole(recipe, settings)?;
        let draft: Arc<[f32]> =
            whole.picture.iter().zip(first.iter().zip(&whole.first)).map(|(picture, (now, then))| picture + now - then).collect();
        let edit = self.decoded(settings, recipe.keep_background, draft, size);
        let picture = self.picture(&edit);
        self.shown = Some(ShownEdit { edit, told: None });
        Some(picture)
    }

    /// How the unedited photo decodes with these settings, if that is known: `[3, size, size]` in [-1, 1].
    pub fn base(&self, settings: Settings) -> Option<&[f32]> {
        self.shared_base(settings).map(|base| &**base)
    }

    fn shared_base(&self, settings: Settings) -> Option<&Arc<[f32]>> {
        self.bases.iter().find(|base| base.settings == settings).map(|base| &base.picture)
    }

    /// The unedited frame, [`SIDE`] pixels wide and high.
    pub fn cut(&self) -> &RgbImage {
        self.cut.get_or_init(|| self.frame.cut(&self.photo, SIDE))
    }

    /// Keeps how the unedited photo decodes: `[3, size, size]` in [-1, 1].
    pub fn set_base(&mut self, settings: Settings, picture: Vec<f32>) {
        self.bases.retain(|base| base.settings != settings);
        self.bases.push(Base { settings, picture: picture.into() });
        if self.bases.len() > BASES {
            self.bases.remove(0);
        }
    }

    /// The last picture of [`View::show_edit`], if it was made by this recipe in this way.
    pub fn last(&self, recipe: &Recipe, settings: Settings) -> Option<Arc<RgbImage>> {
        self.last.as_ref().filter(|last| last.settings == settings && last.recipe == *recipe).map(|last| last.picture.clone())
    }

    /// That picture is shown again.
    pub fn show_last(&mut self) {
        self.shown = self.last.as_ref().map(|last| ShownEdit { edit: last.edit.clone(), told: None });
    }

    /// The picture that was made last is given to the window now.
    pub fn shown_as(&mut self, generation: u64, quality: Quality) {
        if let Some(shown) = &mut self.shown {
            shown.told = Some((generation, quality));
        }
    }

    /// Looks at a part of the photo that this is a view of more closely, or at none.
    pub fn look_closer(&mut self, photo: &Arc<Photo>, photo_frame: Frame, part: Option<Part>) {
        self.close = part.and_then(|part| part.within([photo.width(), photo.height()])).map(|part| {
            let (photo, pixels) = (photo.clone(), Arc::new(part.cut(photo)));
            let (frame, whole) = part.place(photo_frame, &photo, pixels.dimensions());
            Close { part, photo, photo_frame, pixels, frame, whole }
        });
    }

    /// The part that is looked at closely, with the edit that is on the screen.
    pub fn close_up(&self) -> Option<CloseUp> {
        let close = self.close.as_ref()?;
        let Close { photo, photo_frame, pixels, frame, whole, .. } = close;
        let canvas = Canvas { pixels, frame: *frame, whole: *whole, source: (photo, *photo_frame), around: &self.around_photo };
        let edit = self.shown.as_ref().and_then(|shown| {
            let (generation, quality) = shown.told?;
            let picture = put(&canvas, &shown.edit)?;
            Some((generation, quality, Arc::new(picture)))
        });
        Some(CloseUp { part: close.part, before: close.pixels.clone(), edit })
    }

    /// As [`View::show`], and remembered.
    pub fn show_edit(&mut self, recipe: Recipe, settings: Settings, edited: &[f32], size: u32) -> Arc<RgbImage> {
        let edit = self.decoded(settings, recipe.keep_background, edited.into(), size);
        let picture = Arc::new(self.picture(&edit));
        self.last = Some(Last { recipe, settings, picture: picture.clone(), edit });
        self.show_last();
        picture
    }

    /// The photo with an edit in it, in all of its frame or in the person only. `edited` is `[3, size, size]` in [-1, 1]; without a base for
    /// its settings the photo itself.
    pub fn show(&self, settings: Settings, keep_background: bool, edited: &[f32], size: u32) -> RgbImage {
        self.picture(&self.decoded(settings, keep_background, edited.into(), size))
    }

    fn decoded(&self, settings: Settings, keep_background: bool, edited: Arc<[f32]>, size: u32) -> Decoded {
        Decoded { edited, base: self.shared_base(settings).cloned(), size, keep_background }
    }

    fn picture(&self, edit: &Decoded) -> RgbImage {
        let whole = [[0.0; 2], [self.pixels.width(), self.pixels.height()].map(f64::from)];
        let (pixels, frame, source) = (&self.pixels, self.frame, (&self.photo, self.frame));
        put(&Canvas { pixels, frame, whole, source, around: &self.around }, edit).unwrap_or_else(|| (*self.pixels).clone())
    }
}

/// Puts an edit into a picture; `None` without a base.
fn put(canvas: &Canvas, edit: &Decoded) -> Option<RgbImage> {
    let base = edit.base.as_ref()?;
    let (Surroundings { guide, reach }, (photo, frame)) = (canvas.around, canvas.source);
    // Made once for both, if at all: it may be a conversion of all colours.
    let srgb = OnceCell::new();
    let srgb = || srgb.get_or_init(|| photo.srgb_pixels());
    let guide = guide.get_or_init(|| paste::guide(srgb(), frame, edit.size));
    let reach = || reach.get_or_init(|| person::reach(srgb(), frame, edit.size)).as_deref();
    let reach = edit.keep_background.then(reach).flatten();
    Some(paste::put_on_screen(canvas.pixels, canvas.whole, canvas.frame, &edit.edited, base, guide, reach))
}

fn over_white(pixels: &RgbaImage) -> RgbImage {
    let mut out = RgbImage::new(pixels.width(), pixels.height());
    for (Rgb(out), pixel) in out.pixels_mut().zip(pixels.pixels()) {
        let [r, g, b, a] = pixel.0;
        let over = |c: u8| u8::from_unit(pixels::over_white(c.to_unit(), a.to_unit()));
        *out = if a == 255 { [r, g, b] } else { [r, g, b].map(over) };
    }
    out
}

#[cfg(test)]
mod tests {
    use image::Rgba;

    use super::*;

    fn view(width: u32, height: u32) -> View {
        let pixels = RgbaImage::from_fn(width, height, |x, y| Rgba([(x % 200) as u8, (y % 200) as u8, 60, 255]));
        let photo = Photo::from_image(DynamicImage::ImageRgba8(pixels), "test").unwrap();
        View::new(&photo, Frame::centre(&photo))
    }

    #[test]
    fn only_the_change_is_shown() {
        let (mut view, size) = (view(2800, 1400), 16);
        let original = view.original();
        assert_eq!(original.dimensions(), (1400, 700), "a large photo is made smaller");
        let base: Vec<f32> = (0..3 * size * size).map(|i| (i as f32).sin() * 0.5).collect();
        let settings = Settings::new(&Recipe::default(), 4, true);
        view.set_base(settings, base.clone());
        assert!(view.show(settings, false, &base, size) == *original, "however badly the model rebuilds the photo");
        let brighter: Vec<f32> = base.iter().map(|v| v + 0.25).collect();
        let shown = view.show(settings, false, &brighter, size);
        let difference = |x: u32, y: u32| i32::from(shown.get_pixel(x, y).0[2]) - i32::from(original.get_pixel(x, y).0[2]);
        assert!((28..=36).contains(&difference(700, 350)), "{}", difference(700, 350));
        assert_eq!(difference(20, 350), 0, "nothing changes outside the frame");
    }

    #[test]
    fn what_nobody_sees_of_a_transparent_photo_does_not_show_through() {
        // White, round, on black that is fully transparent: over white, there is nothing to be seen.
        let inside = |x: u32, y: u32| (f64::from(x) - 1000.0).hypot(f64::from(y) - 1000.0) < 700.0;
        let pixels = RgbaImage::from_fn(2000, 2000, |x, y| if inside(x, y) { Rgba([255; 4]) } else { Rgba([0; 4]) });
        let photo = Arc::new(Photo::from_image(DynamicImage::ImageRgba8(pixels), "test").unwrap());
        let mut view = View::new(&photo, Frame::centre(&photo));
        assert!(view.original().iter().all(|value| *value == 255));
        for scale in [0.3, 0.8, 1.0] {
            view.look_closer(&photo, Frame::centre(&photo), Some(Part { at: [100, 200], size: [900, 700], scale }));
            let close_up = view.close_up().expect("a part");
            assert!(close_up.before.iter().all(|value| *value == 255), "at {scale}");
        }
    }

    #[test]
    fn a_draft_changes_the_last_whole_picture_as_the_first_step_does() {
        let (mut view, size) = (view(64, 64), 8);
        let values = |from: f32| -> Vec<f32> { (0..3 * size * size).map(|i| ((i as f32 + from).sin()) * 0.3).collect() };
        let (settings, plain) = (Settings::new(&Recipe::default(), 4, true), Recipe::default());
        view.set_base(settings, values(0.0));
        assert!(!view.has_draft(&plain, settings), "nothing is whole yet");
        view.keep_whole(&plain, settings, values(1.0), values(2.0));
        let moved = |values: Vec<f32>| -> Vec<f32> { values.into_iter().map(|v| v + 0.2).collect() };
        let draft = view.draft(&plain, settings, &moved(values(2.0)), size).unwrap();
        let same = view.show(settings, plain.keep_background, &moved(values(1.0)), size);
        let far = |(a, b): (&u8, &u8)| a.abs_diff(*b) > 1;
        assert!(!draft.as_raw().iter().zip(same.as_raw()).any(far), "all but rounding");
        let noisy = Recipe { fresh_noise: 0.5, noise_seed: 1, ..plain.clone() };
        assert!(!view.has_draft(&noisy, settings), "from another stochastic latent nothing is known");
        view.keep_whole(&noisy, settings, values(1.0), values(2.0));
        assert!(view.has_draft(&noisy, settings) && !view.has_draft(&Recipe { noise_seed: 2, ..noisy }, settings));
        view.forget_bases();
        assert!(!view.has_draft(&plain, settings));
    }

    #[test]
    fn a_base_is_for_its_own_settings() {
        let mut view = view(64, 64);
        let settings = Settings::new(&Recipe::default(), 4, true);
        view.set_base(settings, vec![0.0; 3]);
        assert!(view.has_base(settings));
        for other in [
            Settings::new(&Recipe::default(), 5, true),
            Settings::new(&Recipe::default(), 4, false),
            Settings::new(&Recipe { guidance: 2.0, ..Recipe::default() }, 4, true),
            settings.from(Some(407)),
        ] {
            assert!(!view.has_base(other));
        }
    }
}
