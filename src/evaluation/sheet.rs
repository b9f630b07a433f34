//! A sheet of edits: portraits down, edits across, so that a model can be judged at a glance.

use std::path::PathBuf;

use image::imageops::{self, FilterType};
use image::{DynamicImage, GenericImage, RgbImage};

use super::{EvaluationError, drawing};
use crate::diffusion::Inversion;
use crate::editing::{Crop, Recipe, attributes, describe};
use crate::engine::edit::{Editor, Latents};
use crate::photo::{Frame, Photo, Upsampling, from_model};

/// The attributes of a sheet, unless others are asked for.
pub const USUAL: [&str; 6] = ["Smiling", "Eyeglasses", "Male", "Young", "Blond_Hair", "Bangs"];

/// Height of the headings, and the size of their letters, as shares of a cell.
const HEADING: f32 = 0.28;
const LETTERS: f32 = 0.105;

/// What a sheet shows.
#[derive(Debug, Clone, PartialEq)]
pub struct SheetOptions {
    /// Names as the bundle has them. Each takes two columns.
    pub attributes: Vec<String>,
    /// Each slider's value in percent, once negative and once positive.
    pub percent: f32,
    pub steps: usize,
    /// Side of a cell in pixels.
    pub cell: u32,
}

impl SheetOptions {
    /// The usual attributes that a bundle has.
    pub fn of(known: &[String]) -> Self {
        let attributes = USUAL.iter().filter_map(|name| attributes::find(name, known)).map(str::to_owned).collect();
        Self { attributes, percent: 100.0, steps: Recipe::DEFAULT_STEPS, cell: 160 }
    }

    fn columns(&self) -> usize {
        2 + 2 * self.attributes.len()
    }
}

/// Draws a sheet. Each row: the face in the photo, what the model rebuilds of it, then each attribute at minus and plus `percent`, the
/// change put back into the photo. `tell` hears what is being done.
pub fn sheet(editor: &Editor, photos: &[PathBuf], options: &SheetOptions, tell: &dyn Fn(String)) -> Result<RgbImage, EvaluationError> {
    let cell = options.cell;
    let heading = (cell as f32 * HEADING) as u32;
    let size = (cell * options.columns() as u32, heading + cell * photos.len() as u32);
    let mut sheet = RgbImage::from_pixel(size.0, size.1, image::Rgb([255; 3]));
    for (row, path) in photos.iter().enumerate() {
        let photo = Photo::open(path)?;
        for (column, picture) in pictures(editor, &photo, options, tell)?.into_iter().enumerate() {
            let picture = if picture.width() == cell { picture } else { imageops::resize(&picture, cell, cell, FilterType::CatmullRom) };
            let place = (column as u32 * cell, heading + row as u32 * cell);
            sheet.copy_from(&picture, place.0, place.1).map_err(|e| EvaluationError::Drawing(e.to_string()))?;
        }
    }
    let centre = |column: usize| (column as i32 * cell as i32 + cell as i32 / 2, heading as i32 / 2);
    let words: Vec<_> = headings(options).into_iter().enumerate().map(|(column, text)| (text, centre(column))).collect();
    drawing::write_words(sheet, &words, (cell as f32 * LETTERS) as u32)
}

fn headings(options: &SheetOptions) -> Vec<String> {
    let both = |name: &String| [-1.0, 1.0].map(|sign| format!("{} {:+}", describe(name).label, sign * options.percent));
    ["Photo".to_owned(), "Rebuilt".to_owned()].into_iter().chain(options.attributes.iter().flat_map(both)).collect()
}

/// One row, left to right.
fn pictures(editor: &Editor, photo: &Photo, options: &SheetOptions, tell: &dyn Fn(String)) -> Result<Vec<RgbImage>, EvaluationError> {
    let frame = editor.find_faces(photo)?.first().map_or_else(|| Frame::centre(photo), |face| face.fit().frame);
    tell(format!("reading {}", photo.name));
    let mut latents = editor.read(&editor.cut(photo, frame))?;
    let mut inversion = editor.inversion(&latents, Recipe::inversion_steps(options.steps), Inversion::default());
    while editor.step_inversion(&mut inversion, &mut latents) {}
    latents.x_t = inversion.x;
    latents.inferred = true;
    let plain = Recipe { steps: options.steps, ..Recipe::default() };
    let mut row = vec![seen(&frame.crop(photo)), rebuilt(editor, &latents, &plain)?];
    for name in &options.attributes {
        for percent in [-options.percent, options.percent] {
            tell(format!("{}: {name} {percent:+}", photo.name));
            let mut recipe = plain.clone();
            recipe.set_slider(name, percent);
            let mut pair = editor.decode_pair(&latents, &recipe, options.steps);
            while editor.step(&mut pair) {}
            row.push(seen(&editor.finish(photo, frame, &recipe, pair, Crop::Full, Upsampling::default())?));
        }
    }
    Ok(row)
}

fn rebuilt(editor: &Editor, latents: &Latents, plain: &Recipe) -> Result<RgbImage, EvaluationError> {
    let mut decode = editor.decode(latents, plain, plain.steps);
    while editor.step(&mut decode) {}
    Ok(from_model(&editor.pictures(decode)?.concat(), editor.size()))
}

fn seen(photo: &Photo) -> RgbImage {
    photo.srgb(0, 0, photo.width(), photo.height())
}

/// A sheet as a photo that can be written, with the statement that a model was at work.
pub fn as_photo(sheet: RgbImage) -> Result<Photo, EvaluationError> {
    let blank = Photo::from_image(DynamicImage::new_rgb8(1, 1), "sheet")?;
    Ok(blank.replaced_by(sheet))
}
