//! What comes back after the window was closed, or crashed.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Mutex;

use egui::accesskit::Role;
use egui::{Color32, ColorImage, Event, Key, Modifiers, ViewportCommand};
use egui_kittest::Harness;
use egui_kittest::kittest::{NodeT, Queryable};
use image::{Rgb, RgbImage, imageops};
use pdae_studio::checkpoint::bundle;
use pdae_studio::device::DeviceChoice;
use pdae_studio::studio::{StartOptions, StudioApp};

use crate::{Window, random};

/// Settings in memory. They outlive the windows that write them.
#[derive(Default)]
pub struct Settings(Mutex<BTreeMap<String, String>>);

impl eframe::Storage for Settings {
    fn get_string(&self, key: &str) -> Option<String> {
        self.0.lock().expect("no panic").get(key).cloned()
    }

    fn set_string(&mut self, key: &str, value: String) {
        self.0.lock().expect("no panic").insert(key.to_owned(), value);
    }

    fn remove_string(&mut self, key: &str) {
        self.0.lock().expect("no panic").remove(key);
    }

    fn flush(&mut self) {}
}

/// Closes the window and opens it again on what it remembers.
fn restart(window: Window, photos: usize) -> Window {
    let (settings, folder) = close(window);
    start_again(settings, folder, photos)
}

fn start_again(settings: Settings, folder: tempfile::TempDir, photos: usize) -> Window {
    let mut window = Window::start(folder, bundle::default_folder(), None, Some(Box::leak(Box::new(settings))), |builder| builder);
    window.until("the photos", |app| app.photos() == photos && !app.is_busy());
    window.until_final();
    window
}

fn stored(window: &Window) -> Vec<PathBuf> {
    let folder = std::fs::read_dir(window.path("own/session"));
    folder
        .map(|entries| entries.flatten().map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|e| e == "png")).collect())
        .unwrap_or_default()
}

fn start_with_two_people() -> Window {
    let folder = tempfile::tempdir().expect("a folder for the test");
    let mut people = RgbImage::from_pixel(420, 220, Rgb([126, 132, 130]));
    for (i, name) in ["sample.jpg", "obama.jpg"].into_iter().enumerate() {
        let portrait = image::open(concat!(env!("CARGO_MANIFEST_DIR"), "/assets/portraits/").to_owned() + name).expect("a portrait");
        let small = imageops::resize(&portrait.to_rgb8(), 190, 190, imageops::FilterType::Triangle);
        imageops::replace(&mut people, &small, 200 * i as i64 + 5, 15);
    }
    let path = folder.path().join("people.png");
    people.save(&path).expect("the photo is written");
    Window::start(folder, bundle::default_folder(), Some(path), None, |builder| builder)
}

fn select(window: &mut Window, name: &str) {
    let before = window.app().generation();
    window.click(&format!("Show {name}"));
    window.until("the other photo", |app| app.generation() > before && !app.is_busy());
    window.until_final();
}

#[test]
fn pasted_pictures_made_up_faces_frames_and_steps_come_back() {
    let mut window = start_with_two_people();
    let first_frame = window.app().frame();
    window.harness.get_by_role_and_label(Role::Button, "Face 2 of 2").click();
    window.until("another frame", |app| app.frame() != first_frame);
    window.until_final();
    let frame = window.app().frame();
    window.set("Smile", "Smiling", 40.0);
    window.until_refined();
    window.set("Young", "Young", -20.0);
    window.until_refined();
    window.click("Undo");

    // A picture of the clipboard, and a face that nobody photographed.
    let pasted =
        ColorImage::new([90, 70], (0..90 * 70).map(|i| Color32::from_rgb((i % 90) as u8, (i / 90) as u8, (i % 251) as u8)).collect());
    let wanted: Vec<u8> = pasted.pixels.iter().flat_map(|pixel| [pixel.r(), pixel.g(), pixel.b()]).collect();
    window.harness.event(Event::PasteImage(pasted.into()));
    window.until("the pasted picture", |app| app.photos() == 2 && !app.is_busy());
    window.until_final();
    window.press(Modifiers::NONE, Key::F4);
    window.click("Make faces");
    window.until("a face", |app| app.exploration().faces_there() >= 1);
    window.harness.step();
    window.harness.get_by_role_and_label(Role::Button, "Face 1").click();
    window.until("the face as a photo", |app| app.photos() == 3 && !app.is_busy());
    window.until_final();
    window.set("Smile", "Smiling", 70.0);
    window.until_refined();
    let face_frame = window.app().frame();
    let began = std::time::Instant::now();
    while stored(&window).len() < 2 && began.elapsed() < crate::PATIENCE {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }

    let mut window = restart(window, 3);
    assert_eq!(window.app().notices().count(), 0);
    assert!(window.harness.query_by_role_and_label(Role::Image, "Face 1").is_some(), "what was on the screen is again");
    assert_eq!(window.app().recipe().slider("Smiling"), 70.0);
    assert_eq!(window.app().frame(), face_frame);
    window.click("Undo");
    assert!(!window.app().recipe().is_changed());

    select(&mut window, "people");
    assert_eq!(window.app().frame(), frame, "the second face again");
    assert_eq!((window.app().recipe().slider("Smiling"), window.app().recipe().slider("Young")), (40.0, 0.0));
    window.click("Redo");
    assert_eq!(window.app().recipe().slider("Young"), -20.0);
    window.click("Undo");
    window.click("Undo");
    assert!(!window.app().recipe().is_changed());

    select(&mut window, "Pasted picture");
    let saved = window.save(&window.path("pasted.png"));
    assert_eq!(saved.dimensions(), (90, 70));
    assert!(saved.into_raw() == wanted, "to the bit");

    // A second restart finds them at the same place; closing one forgets its pixels, at the latest
    // with the window.
    let mut window = restart(window, 3);
    assert!(window.harness.query_by_role_and_label(Role::Image, "Pasted picture").is_some());
    window.click("Close Pasted picture");
    window.until("one less", |app| app.photos() == 2 && !app.is_busy());
    let window = restart(window, 2);
    assert_eq!(stored(&window).len(), 1);
    assert_eq!(window.app().notices().count(), 0);
}

#[test]
fn what_is_gone_is_told_and_the_rest_comes_back() {
    let mut window = start_with_two_people();
    window.open_photo(&PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/assets/portraits/obama.jpg")));
    let broken = window.path("broken.png");
    RgbImage::new(50, 50).save(&broken).expect("written");
    window.open_photo(&broken);
    select(&mut window, "people");
    window.set("Smile", "Smiling", 25.0);
    window.until_refined();
    std::fs::write(&broken, b"no longer a picture").expect("written");

    let window = restart(window, 2);
    assert!(window.app().notices().any(|notice| notice.contains("broken.png")));
    assert!(window.harness.query_by_role_and_label(Role::Image, "people").is_some(), "the present photo, though the last one failed");
    assert_eq!(window.app().recipe().slider("Smiling"), 25.0);

    std::fs::remove_file(window.path("people.png")).expect("removed");
    let window = restart(window, 1);
    assert!(window.app().notices().any(|notice| notice.contains("no longer there")));
}

#[test]
fn a_photo_that_was_replaced_by_its_edit_is_not_edited_again() {
    let mut window = start_with_two_people();
    window.set("Smile", "Smiling", 40.0);
    window.until_refined();
    let path = window.path("people.png");
    window.click("Save edited photo as…");
    window.type_path(&path);
    window.click("Save");
    window.click("Replace");
    window.until("notice", |app| app.notices().any(|notice| notice.starts_with("Saved")));
    let mut window = restart(window, 1);
    assert!(!window.app().recipe().is_changed());
    assert!(window.app().notices().any(|notice| notice.contains("people has changed")));
    window.click("Undo");
    assert_eq!(window.app().recipe().slider("Smiling"), 40.0);
}

#[test]
fn favourites_and_presets_come_back() {
    let mut window = start_with_two_people();
    window.slider("Smile").focus();
    window.harness.run();
    window.press(Modifiers::NONE, Key::F);
    window.press(Modifiers::COMMAND, Key::Num3);
    let window = restart(window, 1);
    assert_eq!(window.harness.get_all_by_role_and_label(Role::Slider, "Smile").count(), 2);
    let chosen = window.harness.get_by_role_and_label(Role::Button, "Side by side");
    assert_eq!(chosen.accesskit_node().toggled(), Some(egui::accesskit::Toggled::True));
}

/// What a window leaves, and where.
fn close(mut window: Window) -> (Settings, tempfile::TempDir) {
    let mut settings = Settings::default();
    eframe::App::save(window.harness.state_mut(), &mut settings);
    (settings, window.folder)
}

fn start_without_a_model(settings: Settings, folder: tempfile::TempDir) -> Window {
    let (bundle, own) = (folder.path().join("no model"), folder.path().join("own"));
    let start = StartOptions { bundle, photo: None, device: DeviceChoice::Cpu, folder: Some(own) };
    let settings: &'static Settings = Box::leak(Box::new(settings));
    let harness = Harness::builder().with_size([1100.0, 700.0]).with_max_steps(12).build_eframe(|cc| {
        cc.storage = Some(settings);
        StudioApp::new(cc, start).for_tests()
    });
    let mut window = Window { harness, folder };
    window.until("the failures", |app| !app.is_busy() && app.notices().any(|notice| notice.contains("No model is loaded")));
    window
}

#[test]
fn a_second_window_takes_nothing_from_the_first() {
    let mut window = start_with_two_people();
    window.set("Smile", "Smiling", 40.0);
    window.until_refined();
    let start = StartOptions { bundle: bundle::default_folder(), photo: None, device: DeviceChoice::Cpu, folder: Some(window.path("own")) };
    let mut second = Harness::builder().with_size([1100.0, 700.0]).build_eframe(|cc| StudioApp::new(cc, start).for_tests());
    assert!(second.state().notices().any(|notice| notice.starts_with("Another window")));
    let (settings, folder) = close(window);
    eframe::App::save(second.state_mut(), &mut Settings::default());
    drop(second);
    let window = start_again(settings, folder, 1);
    assert_eq!(window.app().recipe().slider("Smiling"), 40.0);
    assert_eq!(window.app().notices().count(), 0);
}

#[test]
fn settings_that_cannot_be_read_cost_no_picture() {
    let mut window = start_with_two_people();
    window.harness.event(Event::PasteImage(ColorImage::filled([90, 70], Color32::from_rgb(90, 120, 150)).into()));
    window.until("the pasted picture", |app| app.photos() == 2 && !app.is_busy());
    let began = std::time::Instant::now();
    while stored(&window).is_empty() && began.elapsed() < crate::PATIENCE {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let old = std::time::SystemTime::now() - std::time::Duration::from_secs(1_000_000);
    let picture = std::fs::File::options().write(true).open(&stored(&window)[0]).expect("opened");
    picture.set_modified(old).expect("its time is set");
    let (settings, folder) = close(window);
    let own = folder.path().join("own/settings.ron");
    let text = std::fs::read_to_string(&own).expect("read");
    std::fs::write(&own, &text[..text.len() / 2]).expect("written");
    let window = start_again(settings, folder, 1);
    assert!(window.app().notices().any(|notice| notice.starts_with("The settings could not be read")));
    assert_eq!(stored(&window).len(), 1);
    assert_eq!(std::fs::read_to_string(window.path("own/settings.unreadable.ron")).expect("kept"), text[..text.len() / 2]);
}

#[test]
fn what_is_pasted_just_before_the_end_comes_back() {
    let mut window = start_with_two_people();
    let paste = |window: &mut Window| {
        window.harness.event(Event::PasteImage(ColorImage::filled([90, 70], Color32::from_rgb(90, 120, 150)).into()));
    };
    // In the frame before, and in the one that closes the window.
    paste(&mut window);
    window.harness.step();
    paste(&mut window);
    assert!(!random::close(&mut window.harness));
    let began = std::time::Instant::now();
    while !random::commands(&window.harness).contains(&ViewportCommand::Close) && began.elapsed() < crate::PATIENCE {
        std::thread::sleep(std::time::Duration::from_millis(10));
        window.harness.step();
    }
    assert_eq!(stored(&window).len(), 2);
    let window = restart(window, 3);
    assert!(window.harness.query_by_role_and_label(Role::Image, "Pasted picture").is_some());
}

#[test]
fn without_a_model_nothing_is_forgotten() {
    let mut window = start_with_two_people();
    window.set("Smile", "Smiling", 40.0);
    window.until_refined();
    let pasted = ColorImage::filled([90, 70], Color32::from_rgb(90, 120, 150));
    window.harness.event(Event::PasteImage(pasted.into()));
    window.until("the pasted picture", |app| app.photos() == 2 && !app.is_busy());
    window.until_final();
    let (settings, folder) = close(window);

    // A second window sees what the first one saved.
    let (settings, folder) = close(start_without_a_model(settings, folder));
    let mut window = start_without_a_model(settings, folder);
    // A model that is chosen in the end reads them, without another start.
    window.press(Modifiers::COMMAND, Key::M);
    window.type_path(&bundle::default_folder());
    window.click("Use");
    window.until("the photos", |app| app.photos() == 2 && !app.is_busy());
    window.until_final();
    select(&mut window, "people");
    assert_eq!(window.app().recipe().slider("Smiling"), 40.0);
}

/// With a photo named, and another that comes back or is that one.
fn start_naming(settings: Settings, folder: tempfile::TempDir, named: PathBuf) -> Window {
    let settings: &'static Settings = Box::leak(Box::new(settings));
    let mut window = Window::start(folder, bundle::default_folder(), Some(named), Some(settings), |builder| builder);
    window.until("both photos", |app| app.photos() == 2 && !app.is_busy());
    window.until_final();
    window
}

#[test]
fn a_named_photo_opens_in_front_of_what_was_open() {
    let mut window = start_with_two_people();
    window.set("Smile", "Smiling", 40.0);
    window.until_refined();
    let (settings, folder) = close(window);
    let named = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/assets/portraits/obama.jpg"));
    let window = start_naming(settings, folder, named);
    assert!(window.harness.query_by_role_and_label(Role::Image, "obama").is_some());
    assert!(!window.app().recipe().is_changed());

    // One that was open is not opened twice.
    let (settings, folder) = close(window);
    let named = folder.path().join("people.png");
    let window = start_naming(settings, folder, named);
    assert!(window.harness.query_by_role_and_label(Role::Image, "people").is_some());
    assert_eq!(window.app().recipe().slider("Smiling"), 40.0);
}

#[test]
fn a_photo_that_was_closed_has_its_edit_when_it_is_opened_again() {
    let mut window = start_with_two_people();
    window.set("Smile", "Smiling", 40.0);
    window.until_refined();
    window.press(Modifiers::COMMAND, Key::W);
    window.until("no photo", |app| app.photos() == 0);
    let (settings, folder) = close(window);
    let settings: &'static Settings = Box::leak(Box::new(settings));
    let (named, bundle) = (folder.path().join("people.png"), bundle::default_folder());
    let window = Window::start(folder, bundle, Some(named), Some(settings), |builder| builder);
    assert_eq!((window.app().photos(), window.app().recipe().slider("Smiling")), (1, 40.0));
}

#[test]
fn a_photo_that_comes_back_has_its_edit() {
    let mut window = start_with_two_people();
    let first_frame = window.app().frame();
    window.harness.get_by_role_and_label(Role::Button, "Face 2 of 2").click();
    window.until("another frame", |app| app.frame() != first_frame);
    window.until_final();
    let frame = window.app().frame();
    window.set("Smile", "Smiling", 40.0);
    window.until_refined();
    window.open_photo(&PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/assets/portraits/obama.jpg")));
    let (path, unplugged) = (window.path("people.png"), window.path("unplugged"));
    std::fs::rename(&path, &unplugged).expect("renamed");
    let window = restart(window, 1);
    assert!(window.app().notices().any(|notice| notice.contains("no longer there")));
    let mut window = restart(window, 1);
    assert_eq!(window.app().notices().count(), 0, "told once");
    // Opened by hand, then found by itself.
    std::fs::rename(&unplugged, &path).expect("renamed");
    window.open_photo(&path);
    assert_eq!(window.app().recipe().slider("Smiling"), 40.0);
    assert_eq!(window.app().frame(), frame, "of the same face");
    let window = restart(window, 2);
    assert_eq!(window.app().recipe().slider("Smiling"), 40.0);
}
