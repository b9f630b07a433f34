//! The engine without a window, on the small golden model.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use image::{DynamicImage, RgbImage};

use crate::checkpoint::import::{ImportOptions, import};
use crate::device::DeviceChoice;
use crate::editing::{Crop, Recipe, Sidecar, sidecar};
use crate::engine::{Engine, Event, ExportRequest, Job, Quality, RenderRequest, Request};
use crate::photo::{ExportOptions, Frame, Photo, Pixels};

/// Long enough for a busy machine; a test only waits this long when it fails.
const PATIENCE: Duration = Duration::from_secs(120);

fn tiny_bundle(folder: &Path) -> PathBuf {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/pdae-tiny-64");
    let path = folder.join("bundle");
    import(&golden, &ImportOptions::default()).unwrap().save(&path, false).unwrap();
    path
}

fn photo() -> Box<Photo> {
    let pixels = RgbImage::from_fn(80, 96, |x, y| image::Rgb([(x * 3) as u8, (y * 2) as u8, ((x + y) % 256) as u8]));
    Box::new(Photo::from_image(DynamicImage::ImageRgb8(pixels), "test").unwrap())
}

fn recipe(smile: f32) -> Recipe {
    let mut recipe = Recipe { steps: 3, ..Default::default() };
    recipe.set_slider("Smiling", smile);
    recipe
}

/// The open photo to a file, with what is usual.
fn export(path: &Path, recipe: Recipe) -> Request {
    let (path, options, crop) = (path.to_owned(), ExportOptions::default(), Crop::default());
    Request::Export(Box::new(ExportRequest { path, recipe, options, crop, save_recipe: false }))
}

fn start() -> (Engine, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let engine = Engine::start(tiny_bundle(folder.path()), DeviceChoice::Cpu, || {}).unwrap();
    (engine, folder)
}

/// Events up to and including the first that `last` accepts.
#[track_caller]
fn until(engine: &Engine, last: impl Fn(&Event) -> bool) -> Vec<Event> {
    let (start, mut seen) = (Instant::now(), Vec::new());
    while start.elapsed() < PATIENCE {
        if let Ok(event) = engine.events().recv_timeout(PATIENCE) {
            let found = last(&event);
            seen.push(event);
            if found {
                return seen;
            }
        }
    }
    let said: Vec<String> = seen.iter().map(|e| format!("{e:?}").chars().take(80).collect()).collect();
    panic!("the engine never got there; it said {said:#?}");
}

fn shows(event: &Event, wanted: u64, at: Quality) -> bool {
    matches!(event, Event::Picture { generation, quality, .. } if *generation == wanted && *quality == at)
}

#[test]
fn a_burst_of_requests_decodes_few_and_shows_the_last() {
    let (engine, _folder) = start();
    assert!(engine.send(Request::OpenPhoto(photo())));
    until(&engine, |e| matches!(e, Event::LatentsReady));
    for generation in 1..=200 {
        engine.render(RenderRequest { generation, recipe: recipe(generation as f32 / 2.0), quality: Quality::Final });
    }
    let events = until(&engine, |e| shows(e, 200, Quality::Final));
    let shown: Vec<u64> =
        events.iter().filter_map(|e| if let Event::Picture { generation, .. } = e { Some(*generation) } else { None }).collect();
    assert!(shown.len() <= 3, "200 requests at once decoded {} pictures: {shown:?}", shown.len());
    assert!(shown.windows(2).all(|w| w[0] < w[1]), "an older picture followed a newer one: {shown:?}");
    assert!(engine.events().recv_timeout(Duration::from_millis(300)).is_err(), "nothing is left to do");
}

#[test]
fn a_drag_shows_previews_on_the_way() {
    let (engine, _folder) = start();
    engine.send(Request::OpenPhoto(photo()));
    until(&engine, |e| matches!(e, Event::LatentsReady));
    // Faster than any preview can be decoded, for long enough that several could be.
    let (mut generation, mut previews, begin) = (0, HashSet::new(), Instant::now());
    while previews.len() < 3 && begin.elapsed() < PATIENCE {
        generation += 1;
        engine.render(RenderRequest { generation, recipe: recipe(generation as f32), quality: Quality::Preview });
        while let Ok(event) = engine.events().try_recv() {
            if let Event::Picture { generation, quality: Quality::Preview, .. } = event {
                previews.insert(generation);
            }
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(previews.len() >= 3, "a long drag showed nothing: {previews:?}");
}

#[test]
fn the_first_picture_comes_before_the_stochastic_latent_and_is_refined_after_it() {
    let (engine, _folder) = start();
    engine.send(Request::OpenPhoto(photo()));
    let mut events = until(&engine, |e| matches!(e, Event::PhotoOpened { .. }));
    engine.render(RenderRequest { generation: 1, recipe: recipe(0.0), quality: Quality::Final });
    events.extend(until(&engine, |e| shows(e, 1, Quality::Final)));
    let position = |wanted: &dyn Fn(&Event) -> bool| events.iter().position(wanted);
    let preview = position(&|e| shows(e, 1, Quality::Preview)).expect("a first picture");
    let ready = position(&|e| matches!(e, Event::LatentsReady)).expect("the latents");
    assert!(preview < ready);
    assert!(position(&|e| matches!(e, Event::Progress { job: Job::ReadingPhoto, .. })).is_some());
}

#[test]
fn failures_are_told_and_survived() {
    let (engine, folder) = start();
    engine.send(Request::OpenPath(folder.path().join("missing.jpg")));
    until(&engine, |e| matches!(e, Event::Failed { job: Job::OpeningPhoto, message, .. } if message.contains("missing.jpg")));
    engine.send(Request::LoadBundle(folder.path().join("no-such-bundle")));
    until(&engine, |e| matches!(e, Event::Failed { job: Job::LoadingModel, .. }));
    engine.send(Request::OpenPhoto(photo()));
    until(&engine, |e| matches!(e, Event::LatentsReady));
    engine.send(Request::Panic);
    until(&engine, |e| matches!(e, Event::Failed { job: Job::Rendering, details, .. } if details == "on purpose"));
    engine.render(RenderRequest { generation: 1, recipe: recipe(50.0), quality: Quality::Final });
    until(&engine, |e| shows(e, 1, Quality::Final));
}

#[test]
fn reading_a_photo_can_be_cancelled() {
    let (engine, _folder) = start();
    engine.send(Request::OpenPhoto(photo()));
    until(&engine, |e| matches!(e, Event::PhotoOpened { .. }));
    engine.send(Request::Cancel);
    let events = until(&engine, |e| matches!(e, Event::Cancelled { job: Job::ReadingPhoto }));
    assert!(!events.iter().any(|e| matches!(e, Event::LatentsReady)));
}

#[test]
fn an_export_without_an_edit_is_the_photo_itself() {
    let (engine, folder) = start();
    let original = photo();
    engine.send(Request::OpenPhoto(original.clone()));
    let path = folder.path().join("out.png");
    engine.send(export(&path, recipe(0.0)));
    until(&engine, |e| matches!(e, Event::Exported { .. }));
    assert!(Pixels::from(image::open(&path).unwrap()) == original.pixels);

    engine.send(export(&path, recipe(80.0)));
    until(&engine, |e| matches!(e, Event::Failed { job: Job::Exporting, message, .. } if message.contains("exists already")));
    assert!(Pixels::from(image::open(&path).unwrap()) == original.pixels, "the first export is untouched");
}

#[test]
fn a_face_is_framed_and_the_frame_can_be_changed() {
    let (engine, folder) = start();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/portraits/obama.jpg");
    let photo = Photo::open(&path).unwrap();
    engine.send(Request::OpenPath(path));
    let opened = until(&engine, |e| matches!(e, Event::PhotoOpened { .. }));
    let Some(Event::PhotoOpened { faces, frame, original, .. }) = opened.last() else { unreachable!() };
    assert_eq!(faces.len(), 1);
    assert_eq!(*frame, faces[0].fit().frame);

    let centre = Frame::centre(&photo);
    engine.send(Request::Reframe(centre));
    let events = until(&engine, |e| matches!(e, Event::Reframed { .. }));
    let Some(Event::Reframed { frame, original: reframed }) = events.last() else { unreachable!() };
    assert_eq!(*frame, centre);
    assert!(reframed == original, "the whole photo is shown, whatever the model sees of it");
    until(&engine, |e| matches!(e, Event::LatentsReady));

    let out = folder.path().join("out.png");
    engine.send(export(&out, recipe(0.0)));
    until(&engine, |e| matches!(e, Event::Exported { .. }));
    assert!(Pixels::from(image::open(&out).unwrap()) == photo.pixels);

    // Another model sees the photo through the same frame.
    engine.send(Request::LoadBundle(folder.path().join("bundle")));
    let opened = until(&engine, |e| matches!(e, Event::PhotoOpened { .. }));
    assert!(matches!(opened.last(), Some(Event::PhotoOpened { frame, faces, .. }) if *frame == centre && faces.len() == 1));
}

#[test]
fn a_photo_without_a_face_is_framed_in_the_middle() {
    let (engine, _folder) = start();
    engine.send(Request::OpenPhoto(photo()));
    let opened = until(&engine, |e| matches!(e, Event::PhotoOpened { .. }));
    assert!(
        matches!(opened.last(), Some(Event::PhotoOpened { frame, faces, .. }) if faces.is_empty() && *frame == Frame::centre(&photo()))
    );
}

#[test]
fn an_export_of_the_face_alone_comes_with_its_recipe() {
    let (engine, folder) = start();
    engine.send(Request::OpenPhoto(photo()));
    until(&engine, |e| matches!(e, Event::LatentsReady));
    let path = folder.path().join("face.png");
    let (recipe, options) = (recipe(80.0), ExportOptions { keep_metadata: false, ..Default::default() });
    let request =
        ExportRequest { path: path.clone(), recipe: recipe.clone(), options: options.clone(), crop: Crop::Full, save_recipe: true };
    engine.send(Request::Export(Box::new(request)));
    until(&engine, |e| matches!(e, Event::Exported { .. }));
    assert_eq!(image::image_dimensions(&path).unwrap(), (80, 80), "the square in the middle");
    let saved = Sidecar::read(&sidecar::path_beside(&path)).unwrap();
    assert_eq!((saved.recipe, saved.crop, saved.export, saved.seed), (recipe, Crop::Full, options, None));
    assert_eq!(saved.frame, Frame::middle_of(80, 96));
    assert_eq!((saved.model.sha256.len(), saved.inversion_steps), (64, Some(Recipe::DEFAULT_STEPS)));
}
