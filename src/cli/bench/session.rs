//! A person at work: start, a photo, a drag, and an edit of a large photo on the command line.

use std::cell::Cell;
use std::path::Path;
use std::time::{Duration, Instant};

use image::DynamicImage;
use image::imageops::{self, FilterType};

use super::{BenchError, line, machine, milliseconds, networks, time_line};
use crate::device::DeviceChoice;
use crate::editing::{Crop, Recipe};
use crate::engine::close_up::Part;
use crate::engine::edit::{EditError, Editor};
use crate::engine::{Engine, Event, Opening, PhotoId, QUIET, Quality, RenderRequest, Request};
use crate::memory;
use crate::photo::{self, ExportOptions, Frame, Photo, Upsampling};

const SAMPLE: &[u8] = include_bytes!("../../../assets/portraits/sample.jpg");
/// Pixels of the large photo.
const LARGE: f64 = 12e6;
/// Steps that are timed before and after what is told in steps' time.
const STEPS: usize = 5;

pub fn measure(bundle: &Path, device: DeviceChoice) -> Result<(), BenchError> {
    let sample = Photo::decode(SAMPLE, "sample").map_err(EditError::from)?;
    let large = enlarged(&sample)?;
    let editor = at_work(bundle, device, &sample, &large)?;
    println!();
    large_edit(&editor, large)
}

/// A photo as large as a camera's.
fn enlarged(photo: &Photo) -> Result<Photo, BenchError> {
    let scale = (LARGE / (f64::from(photo.width()) * f64::from(photo.height()))).sqrt();
    let [width, height] = [photo.width(), photo.height()].map(|side| (f64::from(side) * scale) as u32);
    let large = imageops::resize(&*photo.srgb_pixels(), width, height, FilterType::Triangle);
    Ok(Photo::from_image(DynamicImage::ImageRgba8(large), "large").map_err(EditError::from)?)
}

/// A recipe that differs with its number.
fn recipe(editor: &Editor, number: u64) -> Recipe {
    let mut recipe = Recipe::default();
    if let Some(attribute) = editor.card.manifest.attributes.last() {
        recipe.set_slider(attribute, 20.0 + number as f32);
    }
    recipe
}

fn at_work(bundle: &Path, device: DeviceChoice, sample: &Photo, large: &Photo) -> Result<Editor, BenchError> {
    // What the steps before left behind must not be taken for free.
    memory::give_back();
    let before = machine::memory();
    let start = Instant::now();
    let editor = Editor::load(bundle, device)?;
    time_line("Model loaded", start.elapsed());
    let latents = editor.read(&editor.cut(sample, Frame::centre(sample)))?;
    let mut decode = editor.decode_pair(&latents, &recipe(&editor, 0), 2);
    while editor.step(&mut decode) {}
    if let (Some(before), Some(now)) = (before, machine::memory()) {
        let (used, weights) = (now.saturating_sub(before) as f64 / 1e6, editor.card.cost.parameters as f64 * 4.0 / 1e6);
        line("Memory of the model", &format!("{used:.0} MB after a decode; its weights are {weights:.0} MB of 32-bit floats"));
    }
    let engine = Engine::start(bundle.to_owned(), device, || {})?;
    wait(&engine, |e| matches!(e, Event::ModelLoaded(_)))?;
    let opened = Instant::now();
    let photo = Cell::new(open(&engine, PhotoId(1), sample)?);
    let picture = |generation: u64, quality: Quality| -> Result<Duration, BenchError> {
        let start = Instant::now();
        engine.render(RenderRequest { photo: photo.get(), generation, recipe: recipe(&editor, generation), quality });
        wait(&engine, |e| matches!(e, Event::Picture { generation: g, quality: q, .. } if *g == generation && *q == quality))?;
        Ok(start.elapsed())
    };
    picture(1, Quality::Preview)?;
    time_line("Photo to first picture", opened.elapsed());
    wait(&engine, |e| matches!(e, Event::LatentsReady))?;
    wait(&engine, |e| matches!(e, Event::Picture { quality: Quality::Final, .. }))?;
    time_line("Photo to final picture", opened.elapsed());
    let drag = |from: u64| -> Result<Duration, BenchError> {
        let mut previews = (from..from + 10).map(|generation| picture(generation, Quality::Preview)).collect::<Result<Vec<_>, _>>()?;
        previews.sort();
        Ok(previews[previews.len() / 2])
    };
    // The recipe of the last preview, as when a slider is let go; and one that no preview has shown.
    let (times, step) = beside_steps(&editor, || Ok::<_, BenchError>([drag(2)?, picture(11, Quality::Final)?]));
    let [preview, release] = times?;
    steps_line("Drag to preview", preview, step);
    steps_line("Release to final", release, step);
    let (typed, step) = beside_steps(&editor, || picture(20, Quality::Final));
    steps_line("A typed value to final", typed?, step);
    // By then the engine has given its memory back.
    std::thread::sleep(QUIET + Duration::from_millis(500));
    time_line("A drag's first, after rest", picture(25, Quality::Preview)?);
    photo.set(open(&engine, PhotoId(2), large)?);
    wait(&engine, |e| matches!(e, Event::LatentsReady))?;
    picture(30, Quality::Final)?;
    time_line("Drag to preview, large photo", drag(31)?);
    let (size, middle) = ([1400, 1000], [large.width(), large.height()].map(|side| side / 2));
    let at = [0, 1].map(|k| middle[k].saturating_sub(size[k] / 2));
    let start = Instant::now();
    engine.send(Request::LookCloser { photo: photo.get(), part: Some(Part { at, size, scale: 1.0 }) });
    wait(&engine, |e| matches!(e, Event::CloseUp { .. }))?;
    time_line("  zoomed in to its pixels", start.elapsed());
    time_line("  drag to preview there", drag(51)?);
    Ok(editor)
}

fn open(engine: &Engine, id: PhotoId, photo: &Photo) -> Result<PhotoId, BenchError> {
    engine.send(Request::Open(id, Opening::Memory(Box::new(photo.clone()))));
    wait(engine, |e| matches!(e, Event::PhotoOpened { .. }))?;
    Ok(id)
}

fn wait(engine: &Engine, wanted: impl Fn(&Event) -> bool) -> Result<Event, BenchError> {
    loop {
        match engine.events().recv() {
            Ok(Event::Failed { message, .. }) => return Err(BenchError::Stopped(message)),
            Ok(event) if wanted(&event) => return Ok(event),
            Ok(_) => {}
            Err(error) => return Err(BenchError::Stopped(error.to_string())),
        }
    }
}

/// Does something, and tells how long a guided step takes then. A processor that changes its speed in between does so for both.
fn beside_steps<R>(editor: &Editor, work: impl FnOnce() -> R) -> (R, Duration) {
    let step = networks::guided_step(&editor.model, 1);
    let time = || {
        step();
        let mut times: [Duration; STEPS] = std::array::from_fn(|_| timed(&step).1);
        times.sort();
        times[STEPS / 2]
    };
    let before = time();
    let result = work();
    (result, (before + time()) / 2)
}

fn timed<R>(work: impl FnOnce() -> R) -> (R, Duration) {
    let start = Instant::now();
    let result = work();
    (result, start.elapsed())
}

fn steps_line(name: &str, time: Duration, step: Duration) {
    println!("{name:<26}{:>10.1} ms  ({:.1} steps' time)", milliseconds(time), time.as_secs_f64() / step.as_secs_f64());
}

/// A large photo through every stage of `edit`.
fn large_edit(editor: &Editor, large: Photo) -> Result<(), BenchError> {
    let folder = tempfile::tempdir()?;
    let (input, output) = (folder.path().join("large.jpg"), folder.path().join("edited.jpg"));
    let (width, height) = (large.width(), large.height());
    photo::write(&large, &input, &ExportOptions::default()).map_err(EditError::from)?;
    drop(large);
    line("Edit of a large photo", &format!("{width} x {height} pixels"));
    let mut stages = Stages::default();
    let photo = stages.take("  read the file", || Photo::open(&input)).map_err(EditError::from)?;
    let faces = stages.take("  find the face", || editor.find_faces(&photo))?;
    let frame = faces.first().map_or_else(|| Frame::centre(&photo), |face| face.fit().frame);
    let mut latents = stages.take("  cut and encode", || editor.read(&editor.cut(&photo, frame)))?;
    let recipe = recipe(editor, 1);
    stages.take_steps("  infer x_T", editor, || {
        let mut inversion = editor.inversion(&latents, Recipe::inversion_steps(recipe.steps), recipe.inversion);
        while editor.step_inversion(&mut inversion, &mut latents) {}
        latents.x_t = inversion.x;
    });
    let pair = stages.take("  decode", || {
        let mut pair = editor.decode_pair(&latents, &recipe, recipe.steps);
        while editor.step(&mut pair) {}
        pair
    });
    let edited = stages.take("  put back", || editor.finish(&photo, frame, &recipe, pair, Crop::None, Upsampling::default()))?;
    stages.take("  write the file", || photo::write(&edited, &output, &ExportOptions::default())).map_err(EditError::from)?;
    time_line("  in all", stages.total);
    Ok(())
}

#[derive(Default)]
struct Stages {
    total: Duration,
}

impl Stages {
    fn take<R>(&mut self, name: &str, work: impl FnOnce() -> R) -> R {
        let (result, time) = timed(work);
        time_line(name, time);
        self.total += time;
        result
    }

    /// The same, told in steps' time as well.
    fn take_steps<R>(&mut self, name: &str, editor: &Editor, work: impl FnOnce() -> R) -> R {
        let ((result, time), step) = beside_steps(editor, || timed(work));
        steps_line(name, time, step);
        self.total += time;
        result
    }
}
