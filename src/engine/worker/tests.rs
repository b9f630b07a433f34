//! The engine without a window, on the small golden model.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use image::{DynamicImage, RgbImage};

use crate::checkpoint::import::{ImportOptions, import};
use crate::device::DeviceChoice;
use crate::diffusion::Inversion;
use crate::editing::{Crop, Recipe, Sidecar, sidecar};
use crate::engine::close_up::{CloseUp, Part};
use crate::engine::edit::{Decode, Editor, InterpolationPath};
use crate::engine::exploration::{SampleRequest, SampleSource};
use crate::engine::inspection::InspectRequest;
use crate::engine::interpolation::{End, InterpolationRequest, SIDE, Way};
use crate::engine::{Engine, Event, ExportRequest, Job, Opening, Origin, PhotoId, Quality, RenderRequest, Reopening, Request};
use crate::photo::xmp::DigitalSource;
use crate::photo::{ExportOptions, Frame, Photo, Pixels};

/// Long enough for a busy machine; a test only waits this long when it fails.
const PATIENCE: Duration = Duration::from_secs(300);

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

/// The photo that is opened first.
const FIRST: PhotoId = PhotoId(1);

/// Opens it.
fn open_first(photo: Box<Photo>) -> Request {
    Request::Open(FIRST, Opening::Memory(photo))
}

/// That photo to a file, with what is usual.
fn export(path: &Path, recipe: Recipe) -> Request {
    export_of(FIRST, path, recipe)
}

fn export_of(photo: PhotoId, path: &Path, recipe: Recipe) -> Request {
    let (path, options, crop) = (path.to_owned(), ExportOptions::default(), Crop::default());
    Request::Export(Box::new(ExportRequest { photo, path, recipe, options, crop, save_recipe: false }))
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
    assert!(engine.send(open_first(photo())));
    until(&engine, |e| matches!(e, Event::LatentsReady));
    for generation in 1..=200 {
        engine.render(RenderRequest { photo: FIRST, generation, recipe: recipe(generation as f32 / 2.0), quality: Quality::Final });
    }
    let events = until(&engine, |e| shows(e, 200, Quality::Final));
    let mut shown: Vec<u64> =
        events.iter().filter_map(|e| if let Event::Picture { generation, .. } = e { Some(*generation) } else { None }).collect();
    // A draft and the picture itself.
    shown.dedup();
    assert!(shown.len() <= 3, "200 requests at once decoded {} pictures: {shown:?}", shown.len());
    assert!(shown.windows(2).all(|w| w[0] < w[1]), "an older picture followed a newer one: {shown:?}");
    assert!(engine.events().recv_timeout(Duration::from_millis(300)).is_err(), "nothing is left to do");
}

#[test]
fn short_previews_start_in_the_middle_of_the_chain() {
    let folder = tempfile::tempdir().unwrap();
    let editor = Editor::load(&tiny_bundle(folder.path()), DeviceChoice::Cpu).unwrap();
    let picture = Frame::centre(&photo()).cut(&photo(), editor.size());
    let mut latents = editor.read(&picture).unwrap();
    let edit = recipe(60.0);
    assert!(latents.warm_start(&edit, 1).is_none(), "nothing is inferred yet");
    let mut inversion = editor.inversion(&latents, Recipe::INVERSION_STEPS, Inversion::Implicit);
    while editor.step_inversion(&mut inversion, &mut latents) {}
    (latents.x_t, latents.inferred) = (inversion.x, true);
    let starts: Vec<usize> = (1..=4).filter_map(|steps| latents.warm_start(&edit, steps)).map(|start| start.timestep).collect();
    assert_eq!(starts, [250, 250, 422, 422]);
    assert!(latents.warm_start(&edit, 5).is_none(), "there is time for the whole way");
    assert!(latents.warm_start(&Recipe { fresh_noise: 0.5, ..edit.clone() }, 1).is_none());
    assert!(latents.warm_start(&Recipe { guidance: 2.0, ..edit.clone() }, 1).is_none());
    // One step from there is nearer to the whole way than one step from noise.
    let decoded = |mut decode: Decode| {
        while editor.step(&mut decode) {}
        editor.pictures(decode).unwrap()
    };
    let distance = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f32>();
    let ideal = decoded(editor.decode(&latents, &edit, 100)).remove(0);
    let warm = decoded(editor.decode_warm(latents.warm_start(&edit, 1).unwrap(), &latents, &edit, 1, true));
    let cold = decoded(editor.decode(&latents, &edit, 1)).remove(0);
    assert_eq!(warm.len(), 2, "the edit and its base");
    assert!(distance(&warm[0], &ideal) < distance(&cold, &ideal));
}

#[test]
fn a_final_picture_that_is_on_the_screen_is_not_decoded_again() {
    let (engine, _folder) = start();
    engine.send(open_first(photo()));
    until(&engine, |e| matches!(e, Event::LatentsReady));
    // A preview takes as many steps whatever the machine, and of another guidance it starts from the noise as the final picture does.
    let render = |generation: u64, smile: f32, quality: Quality| {
        engine.render(RenderRequest { photo: FIRST, generation, recipe: Recipe { steps: 1, guidance: 1.5, ..recipe(smile) }, quality });
        match until(&engine, |e| shows(e, generation, quality)).pop() {
            Some(Event::Picture { image, .. }) => image,
            _ => unreachable!(),
        }
    };
    // The first picture of all measures what the machine can do.
    let _ = render(1, 0.0, Quality::Final);
    let preview = render(2, 30.0, Quality::Preview);
    let end = render(3, 30.0, Quality::Final);
    let other = render(4, 90.0, Quality::Final);
    assert!(Arc::ptr_eq(&preview, &end), "the same picture, not another one like it");
    assert!(*end != *other, "another edit is another picture");
}

#[test]
fn a_part_that_is_looked_at_closely_is_what_is_written() {
    let (engine, folder) = start();
    let pixels = RgbImage::from_fn(2000, 1600, |x, y| image::Rgb([(x / 9) as u8, (y / 8) as u8, ((x * y / 700) % 256) as u8]));
    engine.send(open_first(Box::new(Photo::from_image(DynamicImage::ImageRgb8(pixels.clone()), "large").unwrap())));
    until(&engine, |e| matches!(e, Event::LatentsReady));
    let look = |part: Option<Part>| engine.send(Request::LookCloser { photo: FIRST, part });
    let close_up = |events: Vec<Event>| {
        let close_up = events.into_iter().rev().find_map(|e| if let Event::CloseUp { close_up, .. } = e { Some(close_up) } else { None });
        close_up.expect("a part of the photo")
    };
    let cut =
        |image: &RgbImage, part: Part| image::imageops::crop_imm(image, part.at[0], part.at[1], part.size[0], part.size[1]).to_image();
    let part = Part { at: [300, 200], size: [700, 500], scale: 1.0 };

    // A picture that is there already comes with it, and every later one.
    engine.render(RenderRequest { photo: FIRST, generation: 1, recipe: recipe(60.0), quality: Quality::Final });
    until(&engine, |e| shows(e, 1, Quality::Final));
    look(Some(part));
    let first = close_up(until(&engine, |e| matches!(e, Event::CloseUp { .. })));
    assert!(*first.before == cut(&pixels, part));
    assert!(first.edit.is_some_and(|(generation, quality, _)| (generation, quality) == (1, Quality::Final)));
    engine.render(RenderRequest { photo: FIRST, generation: 2, recipe: recipe(-80.0), quality: Quality::Final });
    let CloseUp { edit: Some((2, Quality::Final, edited)), .. } = close_up(until(&engine, |e| shows(e, 2, Quality::Final))) else {
        panic!("the part comes before the picture")
    };
    let path = folder.path().join("edited.png");
    engine.send(export(&path, recipe(-80.0)));
    until(&engine, |e| matches!(e, Event::Exported { .. }));
    let written = cut(&image::open(&path).unwrap().into_rgb8(), part);
    assert!(written != cut(&pixels, part), "the edit reaches this part");
    let furthest = written.iter().zip(edited.iter()).map(|(a, b)| a.abs_diff(*b)).max();
    assert!(furthest <= Some(1), "{furthest:?} of 255 levels, where rounding is one");

    // What is further away takes no more pixels than are seen, and what lies beyond the photo is left out.
    look(Some(Part { at: [1800, 0], size: [900, 1600], scale: 0.5 }));
    let away = close_up(until(&engine, |e| matches!(e, Event::CloseUp { .. })));
    assert_eq!((away.part.size, away.before.dimensions()), ([200, 1600], (100, 800)));
    for nothing in [Part { at: [5000, 0], ..part }, Part { size: [0, 10], ..part }, Part { scale: 0.0, ..part }] {
        look(Some(nothing));
        // A render that is asked for at once may be taken first.
        engine.send(Request::ListDevices);
        until(&engine, |e| matches!(e, Event::Devices(_)));
        engine.render(RenderRequest { photo: FIRST, generation: 3, recipe: recipe(-80.0), quality: Quality::Final });
        let events = until(&engine, |e| shows(e, 3, Quality::Final));
        assert!(!events.iter().any(|e| matches!(e, Event::CloseUp { .. })), "{nothing:?}");
    }
}

/// On the model that comes along: the tiny one's first step knows next to nothing.
#[test]
fn after_one_step_a_draft_is_close_to_the_end() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let engine = Engine::start(root.join("models/default"), DeviceChoice::Cpu, || {}).unwrap();
    engine.send(Request::Open(FIRST, Opening::File(root.join("assets/portraits/sample.jpg"))));
    until(&engine, |e| matches!(e, Event::LatentsReady));
    let smiling = |percent: f32| Recipe { steps: Recipe::DEFAULT_STEPS, ..recipe(percent) };
    let before = final_picture(&engine, 1, smiling(30.0));
    engine.render(RenderRequest { photo: FIRST, generation: 2, recipe: smiling(60.0), quality: Quality::Preview });
    let draft = match until(&engine, |e| shows(e, 2, Quality::Preview)).pop() {
        Some(Event::Picture { image, .. }) => image,
        _ => unreachable!(),
    };
    // The decode that the draft came from goes on, as what is asked for now.
    engine.render(RenderRequest { photo: FIRST, generation: 3, recipe: smiling(60.0), quality: Quality::Final });
    let events = until(&engine, |e| shows(e, 3, Quality::Final));
    let Some(Event::Picture { image: end, .. }) = events.last() else { unreachable!() };
    let distance = |a: &RgbImage| a.as_raw().iter().zip(end.as_raw()).map(|(a, b)| u64::from(a.abs_diff(*b))).sum::<u64>();
    let (draft, before) = (distance(&draft), distance(&before));
    assert!(draft * 2 < before, "from the end: the picture before {before}, the draft {draft}");
}

#[test]
fn a_graphics_card_is_made_ready_before_the_first_picture() {
    if DeviceChoice::Gpu.open().is_err() {
        eprintln!("SKIPPED a_graphics_card_is_made_ready_before_the_first_picture: no Vulkan, Metal or DirectX driver");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let engine = Engine::start(tiny_bundle(folder.path()), DeviceChoice::Gpu, || {}).unwrap();
    let events = until(&engine, |e| matches!(e, Event::Finished { job: Job::Tuning }));
    let steps: Vec<usize> =
        events.iter().filter_map(|e| if let Event::Progress { job: Job::Tuning, done, .. } = e { Some(*done) } else { None }).collect();
    assert_eq!(steps, [0, 1, 2, 3, 4, 5]);
    assert!(!events.iter().any(|e| matches!(e, Event::Failed { .. })), "{events:?}");
}

#[test]
fn a_drag_shows_previews_on_the_way() {
    let (engine, _folder) = start();
    engine.send(open_first(photo()));
    until(&engine, |e| matches!(e, Event::LatentsReady));
    // Faster than any preview can be decoded, for long enough that several could be.
    let (mut generation, mut previews, begin) = (0, HashSet::new(), Instant::now());
    while previews.len() < 3 && begin.elapsed() < PATIENCE {
        generation += 1;
        engine.render(RenderRequest { photo: FIRST, generation, recipe: recipe(generation as f32), quality: Quality::Preview });
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
    engine.send(open_first(photo()));
    let mut events = until(&engine, |e| matches!(e, Event::PhotoOpened { .. }));
    engine.render(RenderRequest { photo: FIRST, generation: 1, recipe: recipe(0.0), quality: Quality::Final });
    events.extend(until(&engine, |e| shows(e, 1, Quality::Final)));
    let position = |wanted: &dyn Fn(&Event) -> bool| events.iter().position(wanted);
    let preview = position(&|e| shows(e, 1, Quality::Preview)).expect("a first picture");
    let ready = position(&|e| matches!(e, Event::LatentsReady)).expect("the latents");
    assert!(preview < ready);
    assert!(position(&|e| matches!(e, Event::Progress { job: Job::ReadingPhoto, .. })).is_some());
}

/// A worker without its thread, to be taken step by step: requests then come in the middle of a decode.
fn worker(folder: &Path) -> (super::Worker, crossbeam_channel::Receiver<Event>) {
    let (events, seen) = crossbeam_channel::unbounded();
    let mut worker = super::Worker::new(events, Arc::new(|| {}), DeviceChoice::Cpu);
    worker.load(tiny_bundle(folder), DeviceChoice::Cpu).unwrap();
    worker.open_photo(FIRST, *photo(), None, None).unwrap();
    (worker, seen)
}

#[test]
fn what_waits_is_forgotten_for_what_is_newer() {
    let folder = tempfile::tempdir().unwrap();
    let (mut worker, seen) = worker(folder.path());
    let render = |generation: u64, smile: f32| RenderRequest { photo: FIRST, generation, recipe: recipe(smile), quality: Quality::Preview };
    worker.take_render(render(1, 20.0));
    worker.step();
    worker.take_render(render(2, 40.0));
    assert!(worker.next.is_some(), "it waits for the first to be shown");
    worker.take_render(render(3, 20.0));
    assert!(worker.next.is_none(), "the first is what is asked for again");
    while worker.has_work() {
        worker.step();
    }
    assert!(!seen.try_iter().any(|event| matches!(event, Event::Picture { generation: 1 | 2, .. })));
}

#[test]
fn what_is_under_way_is_no_final_picture_before_the_stochastic_latent() {
    let folder = tempfile::tempdir().unwrap();
    let (mut worker, seen) = worker(folder.path());
    // In as few steps as a preview, so that the second request asks for what the first one has begun.
    let render = |generation: u64, quality: Quality| RenderRequest { photo: FIRST, generation, recipe: recipe(20.0), quality };
    worker.take_render(render(1, Quality::Preview));
    worker.step();
    assert!(worker.active.as_ref().is_some_and(|active| active.decode.chain.done() == 1));
    worker.take_render(render(2, Quality::Final));
    assert!(worker.active.as_ref().is_some_and(|active| active.decode.chain.done() == 1), "it goes on");
    while worker.has_work() {
        worker.step();
    }
    let pictures: Vec<Option<(u64, Quality)>> = seen
        .try_iter()
        .filter_map(|event| match event {
            Event::Picture { generation, quality, .. } => Some(Some((generation, quality))),
            Event::LatentsReady => Some(None),
            _ => None,
        })
        .collect();
    assert_eq!(pictures, [Some((2, Quality::Preview)), None, Some((2, Quality::Final))]);
}

#[test]
fn failures_are_told_and_survived() {
    let (engine, folder) = start();
    engine.send(Request::Open(PhotoId(7), Opening::File(folder.path().join("missing.jpg"))));
    until(&engine, |e| matches!(e, Event::Failed { job: Job::OpeningPhoto, message, .. } if message.contains("missing.jpg")));
    until(&engine, |e| matches!(e, Event::NotOpened(PhotoId(7))));
    engine.send(Request::LoadBundle(folder.path().join("no-such-bundle")));
    until(&engine, |e| matches!(e, Event::Failed { job: Job::LoadingModel, .. }));
    engine.send(open_first(photo()));
    until(&engine, |e| matches!(e, Event::LatentsReady));
    engine.send(Request::Panic);
    until(&engine, |e| matches!(e, Event::Failed { job: Job::Rendering, details, .. } if details == "on purpose"));
    engine.render(RenderRequest { photo: FIRST, generation: 1, recipe: recipe(50.0), quality: Quality::Final });
    until(&engine, |e| shows(e, 1, Quality::Final));
}

/// Renders until the stochastic latent is inferred, and returns the final picture of `generation`.
fn final_picture(engine: &Engine, generation: u64, recipe: Recipe) -> Arc<RgbImage> {
    engine.render(RenderRequest { photo: FIRST, generation, recipe, quality: Quality::Final });
    match until(engine, |event| shows(event, generation, Quality::Final)).pop() {
        Some(Event::Picture { image, .. }) => image,
        other => panic!("{other:?}"),
    }
}

#[test]
fn another_inversion_reads_the_photo_again() {
    let (engine, _folder) = start();
    engine.send(open_first(photo()));
    until(&engine, |event| matches!(event, Event::PhotoOpened { .. }));
    let implicit = recipe(100.0);
    let explicit = Recipe { inversion: Inversion::Explicit, ..implicit.clone() };
    let first = final_picture(&engine, 1, implicit.clone());
    engine.render(RenderRequest { photo: FIRST, generation: 2, recipe: explicit.clone(), quality: Quality::Final });
    let seen = until(&engine, |event| shows(event, 2, Quality::Final));
    assert!(seen.iter().any(|event| matches!(event, Event::LatentsReady)));
    let Some(Event::Picture { image: second, .. }) = seen.last() else { panic!("no picture") };
    assert!(first != *second, "it starts from another stochastic latent");
    // Neither is read again while it stays.
    engine.render(RenderRequest { photo: FIRST, generation: 3, recipe: explicit, quality: Quality::Final });
    let seen = until(&engine, |event| shows(event, 3, Quality::Final));
    assert!(!seen.iter().any(|event| matches!(event, Event::LatentsReady)));
    assert!(final_picture(&engine, 4, implicit) == first, "and back, to the bit");
}

#[test]
fn another_device_reads_the_open_photos_again() {
    let (engine, _folder) = start();
    engine.send(open_first(photo()));
    until(&engine, |event| matches!(event, Event::PhotoOpened { .. }));
    let before = final_picture(&engine, 1, recipe(50.0));
    engine.send(Request::UseDevice(DeviceChoice::Cpu));
    let seen = until(&engine, |event| matches!(event, Event::PhotoOpened { .. }));
    assert!(seen.iter().any(|event| matches!(event, Event::ModelLoaded(card) if card.device.starts_with("CPU"))));
    assert!(final_picture(&engine, 2, recipe(50.0)) == before);
}

#[test]
fn a_stored_picture_is_reopened_as_it_was() {
    let (engine, folder) = start();
    let (original, file) = (photo(), folder.path().join("kept/1.png"));
    engine.send(open_first(original.clone()));
    let opened = until(&engine, |event| matches!(event, Event::PhotoOpened { .. }));
    let Some(Event::PhotoOpened { id, stored: None, .. }) = opened.last() else { panic!("not opened") };
    engine.send(Request::Store { id: *id, file: file.clone() });
    until(&engine, |event| matches!(event, Event::Stored));
    assert!(file.exists());
    engine.send(Request::Close(*id));
    engine.send(Request::Store { id: *id, file: file.clone() });
    until(&engine, |event| matches!(event, Event::Stored));
    let frame = Frame { centre: [30.0, 40.0], side: 22.0, angle: 0.1 };
    let origin = Origin::Stored { file: file.clone(), name: "Pasted".into() };
    engine.send(Request::Open(PhotoId(2), Opening::Again(Reopening { origin, frame: Some(frame) })));
    let seen = until(&engine, |event| matches!(event, Event::PhotoOpened { .. }));
    let Some(Event::PhotoOpened { id, name, path, stored, frame: used, .. }) = seen.last() else { panic!("not opened") };
    assert_eq!((name.as_str(), path, stored.as_ref(), *used), ("Pasted", &None, Some(&file), frame));
    let copy = folder.path().join("copy.png");
    engine.send(export_of(*id, &copy, Recipe { steps: 3, ..Recipe::default() }));
    until(&engine, |event| matches!(event, Event::Exported { .. }));
    assert!(Photo::open(&copy).unwrap().pixels == original.pixels);
}

#[test]
fn reading_a_photo_can_be_cancelled() {
    let (engine, _folder) = start();
    engine.send(open_first(photo()));
    until(&engine, |e| matches!(e, Event::PhotoOpened { .. }));
    engine.send(Request::Cancel(Job::ReadingPhoto));
    let events = until(&engine, |e| matches!(e, Event::Cancelled { job: Job::ReadingPhoto }));
    assert!(!events.iter().any(|e| matches!(e, Event::LatentsReady)));
}

#[test]
fn an_export_without_an_edit_is_the_photo_itself() {
    let (engine, folder) = start();
    let original = photo();
    engine.send(open_first(original.clone()));
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
    engine.send(Request::Open(FIRST, Opening::File(path)));
    let opened = until(&engine, |e| matches!(e, Event::PhotoOpened { .. }));
    let Some(Event::PhotoOpened { faces, frame, original, .. }) = opened.last() else { unreachable!() };
    assert_eq!(faces.len(), 1);
    assert_eq!(*frame, faces[0].fit().frame);

    let centre = Frame::centre(&photo);
    engine.send(Request::Reframe { photo: FIRST, frame: centre });
    let events = until(&engine, |e| matches!(e, Event::Reframed { .. }));
    let Some(Event::Reframed { id: FIRST, frame, original: reframed }) = events.last() else { unreachable!() };
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
    engine.send(open_first(photo()));
    let opened = until(&engine, |e| matches!(e, Event::PhotoOpened { .. }));
    assert!(
        matches!(opened.last(), Some(Event::PhotoOpened { frame, faces, .. }) if faces.is_empty() && *frame == Frame::centre(&photo()))
    );
}

#[test]
fn an_export_of_the_face_alone_comes_with_its_recipe() {
    let (engine, folder) = start();
    engine.send(open_first(photo()));
    until(&engine, |e| matches!(e, Event::LatentsReady));
    let path = folder.path().join("face.png");
    let (recipe, options) = (recipe(80.0), ExportOptions { keep_metadata: false, ..Default::default() });
    let request = ExportRequest {
        photo: FIRST,
        path: path.clone(),
        recipe: recipe.clone(),
        options: options.clone(),
        crop: Crop::Full,
        save_recipe: true,
    };
    engine.send(Request::Export(Box::new(request)));
    until(&engine, |e| matches!(e, Event::Exported { .. }));
    assert_eq!(image::image_dimensions(&path).unwrap(), (80, 80), "the square in the middle");
    let saved = Sidecar::read(&sidecar::path_beside(&path)).unwrap();
    assert_eq!((saved.recipe, saved.crop, saved.export, saved.seed), (recipe, Crop::Full, options, None));
    assert_eq!(saved.frame, Frame::middle_of(80, 96));
    assert_eq!((saved.model.sha256.len(), saved.inversion_steps), (64, Some(Recipe::INVERSION_STEPS)));
}

/// Another photo than [`photo`].
fn other_photo() -> Box<Photo> {
    let pixels = RgbImage::from_fn(90, 70, |x, y| image::Rgb([200 - x as u8, (y * 3) as u8, (x * y % 256) as u8]));
    Box::new(Photo::from_image(DynamicImage::ImageRgb8(pixels), "other").unwrap())
}

#[track_caller]
fn open(engine: &Engine, id: PhotoId, photo: Box<Photo>) -> PhotoId {
    engine.send(Request::Open(id, Opening::Memory(photo)));
    until(engine, |e| matches!(e, Event::PhotoOpened { id: opened, .. } if *opened == id));
    id
}

fn way(ends: [(PhotoId, f32); 2], path: InterpolationPath, keep_detail: bool) -> Way {
    let end = |(photo, smile)| End { photo, recipe: recipe(smile) };
    Way { ends: ends.map(end), path, steps: 3, keep_detail }
}

/// Mean difference a channel, 0 to 255.
fn distance(a: &RgbImage, b: &RgbImage) -> f64 {
    let sum: f64 = a.iter().zip(b.iter()).map(|(a, b)| f64::from(a.abs_diff(*b))).sum();
    sum / a.len() as f64
}

#[test]
fn a_way_begins_and_ends_at_its_photos() {
    let (engine, _folder) = start();
    let (first, second) = (photo(), other_photo());
    let cut = |photo: &Photo| Frame::centre(photo).cut(photo, SIDE);
    let (a, b) = (cut(&first), cut(&second));
    let ids = [(FIRST, first), (PhotoId(2), second)].map(|(id, photo)| {
        let id = open(&engine, id, photo);
        until(&engine, |e| matches!(e, Event::LatentsReady));
        id
    });
    for path in [InterpolationPath::Latent, InterpolationPath::Trajectory] {
        let request = InterpolationRequest {
            generation: 1,
            way: way([(ids[0], 0.0), (ids[1], 0.0)], path, true),
            pictures: [0.0, 0.5, 1.0].map(|share| (share, Quality::Final)).to_vec(),
        };
        engine.interpolate(request);
        let events = until(&engine, |e| matches!(e, Event::Finished { job: Job::Interpolating }));
        let pictures: Vec<_> =
            events.iter().filter_map(|e| if let Event::Between { image, .. } = e { Some(image.clone()) } else { None }).collect();
        assert_eq!(pictures.len(), 3);
        assert!(distance(&pictures[0], &a) < 1.0, "{}", distance(&pictures[0], &a));
        assert!(distance(&pictures[2], &b) < 1.0, "{}", distance(&pictures[2], &b));
        assert!(distance(&pictures[1], &a) > 2.0 && distance(&pictures[1], &b) > 2.0, "the middle is neither");
    }
}

#[test]
fn a_newer_way_replaces_an_older_one() {
    let (engine, _folder) = start();
    let id = open(&engine, FIRST, photo());
    until(&engine, |e| matches!(e, Event::LatentsReady));
    for generation in 1..=20 {
        engine.interpolate(InterpolationRequest {
            generation,
            way: way([(id, 0.0), (id, generation as f32)], InterpolationPath::Latent, false),
            pictures: (0..=50).map(|i| (f64::from(i) / 50.0, Quality::Final)).collect(),
        });
    }
    engine.interpolate(InterpolationRequest {
        generation: 21,
        way: way([(id, 0.0), (id, 80.0)], InterpolationPath::Latent, false),
        pictures: vec![(1.0, Quality::Final)],
    });
    let events = until(&engine, |e| matches!(e, Event::Between { generation: 21, .. }));
    let older = events.iter().filter(|e| matches!(e, Event::Between { generation, .. } if *generation < 21)).count();
    assert!(older < 60, "{older} pictures of 1020 that nobody waits for any more");
    let Some(Event::Between { image, .. }) = events.last() else { unreachable!() };
    assert_eq!(image.width(), 64, "without the photo's detail at the model's size");
}

#[test]
fn a_cancelled_way_stops() {
    let (engine, _folder) = start();
    let id = open(&engine, FIRST, photo());
    let request =
        |pictures| InterpolationRequest { generation: 1, way: way([(id, 0.0), (id, 50.0)], InterpolationPath::Latent, true), pictures };
    engine.interpolate(request((0..1000).map(|i| (f64::from(i) / 999.0, Quality::Final)).collect()));
    until(&engine, |e| matches!(e, Event::Between { .. }));
    engine.send(Request::Cancel(Job::Interpolating));
    until(&engine, |e| matches!(e, Event::Cancelled { job: Job::Interpolating }));
    // A photo that is closed under its way ends the way, not the engine.
    engine.send(Request::Close(id));
    engine.interpolate(request(vec![(0.5, Quality::Final)]));
    open(&engine, FIRST, photo());
    until(&engine, |e| matches!(e, Event::LatentsReady));
}

#[test]
fn several_photos_keep_their_latents() {
    let (engine, _folder) = start();
    let first = open(&engine, FIRST, photo());
    until(&engine, |e| matches!(e, Event::LatentsReady));
    let second = open(&engine, PhotoId(2), other_photo());
    assert_ne!(first, second);
    until(&engine, |e| matches!(e, Event::LatentsReady));
    engine.send(Request::Select(first));
    let back = until(&engine, |e| matches!(e, Event::PhotoOpened { .. }));
    assert!(matches!(back.last(), Some(Event::PhotoOpened { id, name, .. }) if *id == first && name == "test"));
    engine.render(RenderRequest { photo: FIRST, generation: 9, recipe: recipe(40.0), quality: Quality::Final });
    let events = until(&engine, |e| shows(e, 9, Quality::Final));
    assert!(!events.iter().any(|e| matches!(e, Event::Progress { job: Job::ReadingPhoto, .. })), "it was read once");
}

#[test]
fn faces_are_made_up_and_can_be_edited() {
    let (engine, folder) = start();
    let request = |generation, source, seed| SampleRequest { generation, source, seed, count: 2, steps: 3 };
    engine.send(Request::Sample(request(1, SampleSource::Unconditional, 7)));
    let faces = |events: Vec<Event>| -> Vec<_> {
        events.into_iter().filter_map(|e| if let Event::Sampled { image, .. } = e { Some(image) } else { None }).collect()
    };
    let first = faces(until(&engine, |e| matches!(e, Event::Finished { job: Job::Sampling })));
    assert_eq!(first.len(), 2);
    assert!(first[0] != first[1]);
    engine.send(Request::Sample(request(2, SampleSource::Unconditional, 8)));
    let next = faces(until(&engine, |e| matches!(e, Event::Finished { job: Job::Sampling })));
    assert!(next[0] == first[1], "a face is its seed's");

    engine.send(Request::Open(FIRST, Opening::Sample { generation: 2, index: 1 }));
    let opened = until(&engine, |e| matches!(e, Event::PhotoOpened { .. }));
    assert!(matches!(opened.last(), Some(Event::PhotoOpened { width: 64, made_up: true, original, .. }) if *original == next[1]));
    let states = |id, name: &str| {
        let path = folder.path().join(name);
        engine.send(export_of(id, &path, recipe(0.0)));
        until(&engine, |e| matches!(e, Event::Exported { .. }));
        Photo::open(&path).unwrap().made_by
    };
    assert_eq!(states(FIRST, "face.png"), Some(DigitalSource::TrainedAlgorithmicMedia), "though no slider was moved");
    engine.render(RenderRequest { photo: FIRST, generation: 1, recipe: recipe(60.0), quality: Quality::Final });
    until(&engine, |e| shows(e, 1, Quality::Final));

    let source = SampleSource::Variations { photo: FIRST, recipe: recipe(0.0), amount: 0.4 };
    engine.send(Request::Sample(request(5, source, 1)));
    until(&engine, |e| matches!(e, Event::Finished { job: Job::Sampling }));
    engine.send(Request::Open(PhotoId(2), Opening::Sample { generation: 5, index: 0 }));
    let Some(Event::PhotoOpened { id, .. }) = until(&engine, |e| matches!(e, Event::PhotoOpened { .. })).pop() else { unreachable!() };
    assert_eq!(states(id, "sibling.png"), Some(DigitalSource::TrainedAlgorithmicMedia), "there is no photo in it");

    let id = open(&engine, PhotoId(3), photo());
    let variations = |amount| SampleSource::Variations { photo: id, recipe: recipe(0.0), amount };
    engine.send(Request::Sample(request(3, variations(0.0), 1)));
    let same = faces(until(&engine, |e| matches!(e, Event::Finished { job: Job::Sampling })));
    let cut = Frame::centre(&photo()).cut(&photo(), SIDE);
    assert!(distance(&same[0], &cut) < 1.0, "nothing is varied by nothing: {}", distance(&same[0], &cut));
    engine.send(Request::Sample(request(4, variations(0.4), 1)));
    let varied = faces(until(&engine, |e| matches!(e, Event::Finished { job: Job::Sampling })));
    assert!(distance(&varied[0], &cut) > 1.0 && varied[0] != varied[1]);
    engine.send(Request::Open(PhotoId(4), Opening::Sample { generation: 4, index: 1 }));
    let opened = until(&engine, |e| matches!(e, Event::PhotoOpened { .. })).pop();
    let Some(Event::PhotoOpened { id: variation, .. }) = opened else { unreachable!() };
    assert_eq!(states(variation, "variation.png"), Some(DigitalSource::CompositeWithTrainedAlgorithmicMedia), "a photo is in it");
    engine.send(Request::Close(id));
}

#[test]
fn an_inspection_shows_the_chain_and_the_gap() {
    let (engine, _folder) = start();
    open(&engine, FIRST, photo());
    until(&engine, |e| matches!(e, Event::LatentsReady));
    engine.send(Request::Inspect(InspectRequest { generation: 5, photo: FIRST, recipe: recipe(30.0), gap_points: 4 }));
    let events = until(&engine, |e| matches!(e, Event::Finished { job: Job::Inspecting }));
    let timesteps: Vec<usize> = events
        .iter()
        .filter_map(|e| match e {
            Event::ChainSeen { generation: 5, picture } => Some(picture.timestep),
            _ => None,
        })
        .collect();
    assert_eq!(timesteps, [999, 444, 111], "those of the recipe's own solver");
    let gaps: Vec<_> = events.iter().filter_map(|e| if let Event::GapMeasured { point, .. } = e { Some(*point) } else { None }).collect();
    assert_eq!(gaps.len(), 4);
    assert!(gaps.iter().all(|gap| gap.plain > 0.0 && gap.shifted > 0.0 && gap.plain.is_finite() && gap.shifted != gap.plain));
    assert!(events.iter().any(|e| matches!(e, Event::NoiseSeen { image, .. } if image.width() == 64)));
}

#[test]
fn fresh_noise_changes_the_picture_and_nothing_else() {
    let (engine, _folder) = start();
    open(&engine, FIRST, photo());
    until(&engine, |e| matches!(e, Event::LatentsReady));
    let picture = |generation, recipe: Recipe| {
        engine.render(RenderRequest { photo: FIRST, generation, recipe, quality: Quality::Final });
        match until(&engine, |e| shows(e, generation, Quality::Final)).pop() {
            Some(Event::Picture { image, .. }) => image,
            _ => unreachable!(),
        }
    };
    let plain = picture(1, recipe(0.0));
    let fresh = picture(2, Recipe { fresh_noise: 0.5, noise_seed: 3, ..recipe(0.0) });
    let other = picture(3, Recipe { fresh_noise: 0.5, noise_seed: 4, ..recipe(0.0) });
    assert!(plain != fresh && fresh != other);
    assert!(picture(4, recipe(0.0)) == plain, "the photo's own is still there");
}

#[test]
fn a_sequence_is_written_beside_the_work() {
    let (engine, folder) = start();
    let path = folder.path().join("way.gif");
    let sequence = || crate::photo::animation::Sequence { frames: vec![RgbImage::new(8, 8); 3], frame_time: 100, state_source: true };
    engine.send(Request::ExportSequence { path: path.clone(), sequence: sequence(), overwrite: false });
    until(&engine, |e| matches!(e, Event::Exported { job: Job::WritingSequence, .. }));
    assert!(path.exists());
    engine.send(Request::ExportSequence { path, sequence: sequence(), overwrite: false });
    until(&engine, |e| matches!(e, Event::Failed { job: Job::WritingSequence, message, .. } if message.contains("exists already")));
}

/// Takes a worker to the end of what it has to do; returns what it told on the way.
fn finish(worker: &mut super::Worker, seen: &crossbeam_channel::Receiver<Event>) -> Vec<Event> {
    while worker.has_work() {
        worker.step();
    }
    seen.try_iter().collect()
}

fn tells_cancelled(events: &[Event], wanted: Job) -> bool {
    events.iter().any(|event| matches!(event, Event::Cancelled { job } if *job == wanted))
}

#[test]
fn an_export_is_of_the_photo_that_it_was_asked_for_as_it_was_then() {
    let folder = tempfile::tempdir().unwrap();
    let (mut worker, seen) = worker(folder.path());
    worker.open_photo(PhotoId(2), *other_photo(), None, None).unwrap();
    let second = worker.present.unwrap();
    let to = |name: &str| folder.path().join(name);
    let saved = |worker: &mut super::Worker, name: &str| {
        let events = finish(worker, &seen);
        assert!(events.iter().any(|event| matches!(event, Event::Exported { .. })), "{name}: {events:?}");
        Photo::open(&to(name)).unwrap().pixels
    };
    // The other photo has taken its place on the screen.
    worker.handle(export(&to("a.png"), recipe(80.0)));
    let wanted = saved(&mut worker, "a.png");
    assert_eq!(wanted.dimensions(), (80, 96));
    assert!(wanted != photo().pixels);

    worker.handle(export(&to("b.png"), recipe(80.0)));
    worker.step();
    worker.handle(Request::Reframe { photo: FIRST, frame: Frame { centre: [30.0, 40.0], side: 22.0, angle: 0.1 } });
    worker.handle(Request::Select(second));
    assert!(saved(&mut worker, "b.png") == wanted);

    // Closed before its latents were read to the end.
    worker.open_photo(PhotoId(3), *photo(), None, None).unwrap();
    let third = worker.present.unwrap();
    worker.handle(export_of(third, &to("c.png"), recipe(80.0)));
    worker.handle(Request::Close(third));
    assert!(saved(&mut worker, "c.png") == wanted);
    worker.handle(export_of(third, &to("d.png"), recipe(80.0)));
    assert!(tells_cancelled(&finish(&mut worker, &seen), Job::Exporting), "there is nothing to write");
}

#[test]
fn jobs_that_are_given_up_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let (mut worker, seen) = worker(folder.path());
    worker.handle(Request::Close(FIRST));
    assert!(tells_cancelled(&finish(&mut worker, &seen), Job::ReadingPhoto));
    let open = |worker: &mut super::Worker, id| {
        worker.open_photo(PhotoId(id), *photo(), None, None).unwrap();
        finish(worker, &seen);
        PhotoId(id)
    };
    let look = |photo| Request::Inspect(InspectRequest { generation: 1, photo, recipe: recipe(0.0), gap_points: 2 });
    let vary = |photo| {
        let source = SampleSource::Variations { photo, recipe: recipe(0.0), amount: 0.5 };
        Request::Sample(SampleRequest { generation: 1, source, seed: 1, count: 3, steps: 3 })
    };
    let (first, second) = (open(&mut worker, 2), open(&mut worker, 3));
    let go = || InterpolationRequest {
        generation: 1,
        way: way([(first, 0.0), (second, 0.0)], InterpolationPath::Latent, true),
        pictures: vec![(0.25, Quality::Final), (0.5, Quality::Final)],
    };
    // The view was left.
    worker.take_interpolation(go());
    worker.step();
    worker.take_interpolation(InterpolationRequest { pictures: Vec::new(), ..go() });
    assert!(!worker.is_running(Job::Interpolating));
    assert!(matches!(seen.try_iter().last(), Some(Event::Finished { job: Job::Interpolating })));
    let framed = || Request::Reframe { photo: first, frame: Frame { centre: [30.0, 40.0], side: 22.0, angle: 0.1 } };
    let told = |worker: &mut super::Worker, job| {
        assert!(!worker.is_running(job));
        assert!(tells_cancelled(&seen.try_iter().collect::<Vec<_>>(), job), "{job:?}");
    };

    worker.handle(look(second));
    worker.step();
    worker.handle(Request::Select(first));
    told(&mut worker, Job::Inspecting);
    worker.take_interpolation(go());
    worker.step();
    worker.handle(vary(first));
    worker.handle(framed());
    told(&mut worker, Job::Interpolating);
    worker.handle(vary(first));
    worker.step();
    worker.handle(framed());
    told(&mut worker, Job::Sampling);
    worker.take_interpolation(go());
    worker.step();
    worker.handle(Request::Close(second));
    told(&mut worker, Job::Interpolating);
    worker.handle(vary(first));
    worker.handle(Request::Close(first));
    told(&mut worker, Job::Sampling);

    // Another model takes the place of the one that works on it.
    let third = open(&mut worker, 4);
    worker.handle(export_of(third, &folder.path().join("out.png"), recipe(80.0)));
    worker.step();
    worker.handle(export_of(third, &folder.path().join("another.png"), recipe(80.0)));
    assert!(tells_cancelled(&seen.try_iter().collect::<Vec<_>>(), Job::Exporting), "another takes its place");
    worker.load(folder.path().join("bundle"), DeviceChoice::Cpu).unwrap();
    told(&mut worker, Job::Exporting);
    worker.handle(Request::Open(PhotoId(9), Opening::Sample { generation: 1, index: 0 }));
    assert!(matches!(seen.try_iter().last(), Some(Event::NotOpened(PhotoId(9)))));
}

#[test]
fn reading_that_was_cancelled_goes_on_at_the_next_wish() {
    let folder = tempfile::tempdir().unwrap();
    let (mut worker, seen) = worker(folder.path());
    let cancel_late = |worker: &mut super::Worker| {
        while worker.photos[0].latents.passed.is_empty() {
            worker.step();
        }
        worker.handle(Request::Cancel(Job::Exporting));
        assert!(worker.is_running(Job::ReadingPhoto), "that was another job");
        worker.handle(Request::Cancel(Job::ReadingPhoto));
        assert!(tells_cancelled(&finish(worker, &seen), Job::ReadingPhoto), "nothing goes on by itself");
    };
    let forget = |worker: &mut super::Worker| {
        let frame = worker.photos[0].frame;
        worker.handle(Request::Reframe { photo: FIRST, frame });
    };
    let is_read = |worker: &mut super::Worker| {
        finish(worker, &seen);
        let latents = &worker.photos[0].latents;
        let passed: Vec<usize> = latents.passed.iter().map(|start| start.timestep).collect();
        latents.inferred && passed == [250, 422]
    };
    cancel_late(&mut worker);
    worker.take_render(RenderRequest { photo: FIRST, generation: 1, recipe: recipe(20.0), quality: Quality::Preview });
    assert!(is_read(&mut worker));
    forget(&mut worker);
    cancel_late(&mut worker);
    worker.handle(Request::Select(FIRST));
    assert!(is_read(&mut worker));
    forget(&mut worker);
    cancel_late(&mut worker);
    worker.handle(export(&folder.path().join("out.png"), recipe(20.0)));
    assert!(is_read(&mut worker));
    forget(&mut worker);
    cancel_late(&mut worker);
    worker.handle(Request::Inspect(InspectRequest { generation: 1, photo: FIRST, recipe: recipe(0.0), gap_points: 2 }));
    assert!(is_read(&mut worker));
}

#[test]
fn what_is_asked_of_a_photo_is_done_to_that_photo() {
    let folder = tempfile::tempdir().unwrap();
    let (mut worker, seen) = worker(folder.path());
    let vary = |generation| {
        let source = SampleSource::Variations { photo: FIRST, recipe: recipe(0.0), amount: 0.4 };
        Request::Sample(SampleRequest { generation, source, seed: 1, count: 2, steps: 3 })
    };
    let faces = |events: Vec<Event>| -> Vec<Arc<RgbImage>> {
        events.into_iter().filter_map(|event| if let Event::Sampled { image, .. } = event { Some(image) } else { None }).collect()
    };
    worker.handle(vary(1));
    let wanted = faces(finish(&mut worker, &seen));
    worker.photos[0].view.forget_bases();
    worker.handle(vary(2));
    worker.step();
    worker.open_photo(PhotoId(2), *other_photo(), None, None).unwrap();
    let second = worker.present.unwrap();
    assert_eq!(faces(finish(&mut worker, &seen)), wanted, "though another photo was opened meanwhile");
    let settings = super::Settings::new(&recipe(0.0), 3, true);
    assert!(worker.photos[0].view.has_base(settings) && !worker.photos[1].view.has_base(settings));

    let frame = Frame { centre: [30.0, 40.0], side: 22.0, angle: 0.1 };
    worker.handle(Request::Reframe { photo: FIRST, frame });
    assert!(finish(&mut worker, &seen).iter().any(|event| matches!(event, Event::Reframed { id: FIRST, frame: f, .. } if *f == frame)));
    assert_eq!((worker.photos[0].frame, worker.photos[1].frame), (frame, Frame::centre(&other_photo())));
    worker.take_render(RenderRequest { photo: FIRST, generation: 1, recipe: recipe(20.0), quality: Quality::Final });
    assert!(!worker.has_work(), "it is not on the screen");
    worker.take_render(RenderRequest { photo: second, generation: 2, recipe: recipe(20.0), quality: Quality::Final });
    assert!(worker.has_work());
}

#[test]
fn a_device_that_cannot_be_had_takes_nothing_away() {
    let folder = tempfile::tempdir().unwrap();
    let (mut worker, seen) = worker(folder.path());
    // As if it were a card that works.
    worker.device = DeviceChoice::Gpu;
    worker.editor.as_mut().unwrap().card.device = "A card".into();
    worker.handle(export(&folder.path().join("out.png"), recipe(80.0)));
    worker.guarded(Job::LoadingModel, |_| panic!("another card's driver"));
    assert_eq!((worker.device, worker.on_cpu()), (DeviceChoice::Gpu, false));
    let events = finish(&mut worker, &seen);
    assert!(events.iter().any(|event| matches!(event, Event::Failed { job: Job::LoadingModel, .. })));
    assert!(events.iter().any(|event| matches!(event, Event::Exported { .. })), "what was under way goes on");
    // A card that fails at work is given up.
    worker.guarded(Job::Rendering, |_| panic!("the card's own driver"));
    assert_eq!((worker.device, worker.on_cpu()), (DeviceChoice::Cpu, true));
    worker.device = DeviceChoice::Gpu;
    worker.editor = None;
    worker.handle(Request::UseDevice(DeviceChoice::Cpu));
    assert!(seen.try_iter().any(|event| matches!(event, Event::Finished { job: Job::LoadingModel })), "there is nothing to load");
}

#[test]
fn latents_are_drawn_from_clamped_noise() {
    let folder = tempfile::tempdir().unwrap();
    let editor = Editor::load(&tiny_bundle(folder.path()), DeviceChoice::Cpu).unwrap();
    let drawn = |scale: f32| {
        let dim = editor.model.config.latent_dim;
        let noise = editor.latent_tensor((0..dim).map(|i| if i % 2 == 0 { scale } else { -scale }).collect(), 1);
        editor.model.sample_latents_from_noise(noise, 5).unwrap().into_data()
    };
    assert_eq!(drawn(3.0), drawn(1.0));
    assert_ne!(drawn(0.5), drawn(1.0));
}
