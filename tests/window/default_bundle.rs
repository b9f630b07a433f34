//! The window with the model that comes along, on real portraits: what a person does in a first hour with it.
//!
//! No test here knows what the weights make of a face, only that pictures come and differ.

use egui::accesskit::Role;
use egui::{Event, Key, Modifiers, pos2};
use egui_kittest::kittest::{NodeT, Queryable};
use image::RgbImage;
use pdae_studio::checkpoint::bundle;
use pdae_studio::engine::Quality;
use std::path::{Path, PathBuf};

use crate::Window;

fn portrait(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/portraits").join(name)
}

fn pixels(path: &Path) -> RgbImage {
    image::open(path).expect("a picture").to_rgb8()
}

/// The window on a portrait.
fn open(name: &str) -> Window {
    let folder = tempfile::tempdir().expect("a folder for the test");
    Window::start(folder, bundle::default_folder(), Some(portrait(name)), None, |builder| builder)
}

/// Drags a slider from its middle to a share of its rail with the mouse.
fn drag(window: &mut Window, label: &str, share: f32) {
    let rail = window.slider(label).rect();
    let at = |share: f32| pos2(rail.left() + share * rail.width(), rail.center().y);
    window.harness.hover_at(at(0.5));
    window.harness.drag_at(at(0.5));
    window.harness.step();
    for i in 1..=4 {
        window.harness.hover_at(at(0.5 + (share - 0.5) * i as f32 / 4.0));
        window.harness.step();
    }
    window.harness.drop_at(at(share));
    window.harness.step();
}

#[test]
fn a_portrait_is_edited_compared_and_saved() {
    let mut window = open("obama.jpg");
    let before = pixels(&portrait("obama.jpg"));
    let frame = window.app().frame().expect("a photo is open");
    drag(&mut window, "Smile", 0.9);
    window.until_final();
    let smile = window.app().recipe().slider("Smiling");
    assert!((70.0..=100.0).contains(&smile), "{smile}");

    let smiling = window.save(&window.path("smiling.png"));
    assert_eq!(smiling.dimensions(), before.dimensions());
    let changed = |picture: &RgbImage| picture.pixels().zip(before.pixels()).filter(|(a, b)| a != b).count();
    assert!(changed(&smiling) > 100, "the edit is in it");
    let outside = before.enumerate_pixels().filter(|(x, y, pixel)| {
        let inside = frame.locate([f64::from(*x) + 0.5, f64::from(*y) + 0.5]).iter().all(|v| (0.0..=1.0).contains(v));
        !inside && smiling.get_pixel(*x, *y) != *pixel
    });
    assert_eq!(outside.count(), 0, "nothing changed beside the face");

    window.press(Modifiers::COMMAND, Key::Z);
    assert!(!window.app().recipe().is_changed());
    window.until_final();
    assert_eq!(changed(&window.save(&window.path("undone.png"))), 0, "without an edit the photo itself is written");
    window.press(Modifiers::COMMAND | Modifiers::SHIFT, Key::Z);
    assert_eq!(window.app().recipe().slider("Smiling"), smile);
    window.until_final();
    assert!(window.save(&window.path("again.png")) == smiling, "the same edit gives the same file");

    for (key, label) in [(Key::Num2, "Split"), (Key::Num3, "Side by side"), (Key::Num4, "Difference"), (Key::Num1, "Edited only")] {
        window.press(Modifiers::COMMAND, key);
        let chosen = window.harness.get_by_role_and_label(Role::Button, label);
        assert_eq!(chosen.accesskit_node().toggled(), Some(egui::accesskit::Toggled::True), "{label}");
        let divider = window.harness.query_by_role_and_label(Role::Slider, "Divider").is_some();
        assert_eq!(divider, label == "Split");
    }
    assert_eq!(window.app().notices().filter(|notice| !notice.starts_with("Saved")).count(), 0);
}

#[test]
fn two_people_are_interpolated() {
    let mut window = open("obama.jpg");
    window.open_photo(&portrait("biden.jpg"));
    window.press(Modifiers::NONE, Key::F3);
    window.until("film strip", |app| app.interpolation().pictures_there() == 9);
    window.slider("Between the ends").set_value_accesskit(0.5);
    window.until("the middle", |app| app.interpolation().quality() == Some(Quality::Final));

    let saved = |window: &mut Window, name: &str| {
        let path = window.path(name);
        window.press(Modifiers::COMMAND | Modifiers::SHIFT, Key::S);
        window.type_path(&path);
        window.click("Save");
        window.until("the file", |_| path.exists());
        pixels(&path)
    };
    let middle = saved(&mut window, "middle.png");
    window.slider("Between the ends").set_value_accesskit(0.0);
    window.until("the first end", |app| app.interpolation().share() == 0.0 && app.interpolation().quality() == Some(Quality::Final));
    let first = saved(&mut window, "first.png");
    assert_eq!(middle.dimensions(), first.dimensions());
    assert!(middle != first);

    // The other way round it begins with the other.
    window.press(Modifiers::SHIFT, Key::F5);
    window.until("film strip", |app| app.interpolation().pictures_there() == 9);
    window.slider("Between the ends").set_value_accesskit(0.0);
    window.until("the first end", |app| app.interpolation().share() == 0.0 && app.interpolation().quality() == Some(Quality::Final));
    assert!(saved(&mut window, "other.png") != first);
}

#[test]
fn a_published_model_is_imported_and_left_again() {
    let mut window = open("sample.jpg");
    let own = window.app().model().expect("a model").clone();
    window.set("Smile", "Smiling", 60.0);
    window.until_refined();

    window.press(Modifiers::COMMAND | Modifiers::SHIFT, Key::M);
    window.type_path(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/pdae-tiny-64"));
    window.click("Import");
    window.until("the imported model", |app| app.model().is_some_and(|model| model.manifest.name == "pdae-tiny-64") && !app.is_busy());
    assert!(window.path("own/models/pdae-tiny-64").is_dir());
    assert_eq!(window.app().recipe().slider("Smiling"), 60.0, "the edit is kept");
    window.until_final();
    window.set("Smile", "Smiling", 20.0);
    window.until_refined();

    // The other models are in a menu in the menu.
    window.click("Model");
    let inner = window.harness.get_all_by_role_and_label(Role::Button, "Model").nth(1).expect("a menu in the menu");
    inner.click();
    window.harness.run();
    window.click(&own.manifest.name);
    window.until("the first model", |app| app.model().is_some_and(|model| model.folder == own.folder) && !app.is_busy());
    window.until_final();
    assert_eq!(window.app().recipe().slider("Smiling"), 20.0);

    // And by its folder.
    window.press(Modifiers::COMMAND, Key::M);
    window.type_path(&window.path("own/models/pdae-tiny-64"));
    window.click("Use");
    window.until("the imported model", |app| app.model().is_some_and(|model| model.folder != own.folder) && !app.is_busy());
    window.until_final();
    assert_eq!(window.app().notices().count(), 0);
}

#[test]
fn the_processor_is_among_the_devices_and_chosen() {
    let mut window = open("sample.jpg");
    let device = window.app().model().expect("a model").device.clone();
    window.click("Model");
    window.click("Compute on");
    window.until("the devices", |app| app.devices().contains(&device.as_str()));
    window.harness.run();
    let chosen = window.harness.get_by_role_and_label(Role::Button, &device);
    assert_eq!(chosen.accesskit_node().toggled(), Some(egui::accesskit::Toggled::True));
    // Choosing what is chosen loads nothing again.
    let generation = window.app().generation();
    window.click(&device);
    assert!(!window.app().is_busy());
    assert_eq!(window.app().generation(), generation);
}

#[test]
fn every_trouble_is_told_in_a_sentence_and_the_window_lives_on() {
    let mut window = open("sample.jpg");
    let broken = window.path("broken.jpg");
    std::fs::write(&broken, &std::fs::read(portrait("sample.jpg")).expect("read")[..300]).expect("written");
    let no_model = window.path("no-model");
    std::fs::create_dir(&no_model).expect("made");
    std::fs::write(no_model.join("manifest.json"), b"{").expect("written");
    let model = window.app().model().expect("a model").folder.clone();

    let open = (Modifiers::COMMAND, Key::O, "Open");
    let use_model = (Modifiers::COMMAND, Key::M, "Use");
    let import = (Modifiers::COMMAND | Modifiers::SHIFT, Key::M, "Import");
    let missing = window.path("missing.jpg");
    for ((modifiers, key, action), path) in [(open, &broken), (open, &missing), (use_model, &no_model), (import, &no_model)] {
        let before = window.app().notices().count();
        window.press(modifiers, key);
        window.type_path(path);
        window.click(action);
        window.until("notice", |app| app.notices().count() > before);
        let said = window.app().notices().last().expect("a notice").to_owned();
        let name = path.file_name().expect("a name").to_string_lossy();
        assert!(said.contains(&*name) && said.len() > name.len() + 20, "{action}: {said}");
        assert!(!window.app().is_busy(), "{action}");
        window.harness.run();
        window.click("Dismiss");
    }
    assert_eq!(window.app().model().expect("a model").folder, model, "the model that works stays");
    window.set("Smile", "Smiling", 30.0);
    window.until_refined();
    assert_eq!(window.app().photos(), 1);
}

#[test]
fn the_keyboard_alone_opens_edits_compares_and_saves() {
    let mut window = open("sample.jpg");
    let type_text = |window: &mut Window, text: &str| {
        window.harness.event(Event::Text(text.to_owned()));
        window.harness.run();
    };
    // Find the command by its words; the path field has the keyboard at once.
    window.press(Modifiers::COMMAND, Key::K);
    type_text(&mut window, "by path");
    window.press(Modifiers::NONE, Key::Enter);
    window.press(Modifiers::COMMAND, Key::A);
    type_text(&mut window, &portrait("obama.jpg").display().to_string());
    window.press(Modifiers::NONE, Key::Enter);
    window.until("the photo", |app| app.photos() == 2 && !app.is_busy());
    window.until_final();

    for _ in 0..80 {
        if window.slider("Smile").is_focused() {
            break;
        }
        window.press(Modifiers::NONE, Key::Tab);
    }
    assert!(window.slider("Smile").is_focused(), "Tab comes by every slider");
    for _ in 0..30 {
        window.harness.key_press(Key::ArrowRight);
        window.harness.step();
    }
    window.until_refined();
    assert_eq!(window.app().recipe().slider("Smiling"), 30.0);
    window.press(Modifiers::NONE, Key::Delete);
    assert_eq!(window.app().recipe().slider("Smiling"), 0.0);
    window.press(Modifiers::COMMAND, Key::Z);
    assert_eq!(window.app().recipe().slider("Smiling"), 30.0);

    window.press(Modifiers::COMMAND, Key::Num2);
    for _ in 0..160 {
        if window.slider("Divider").is_focused() {
            break;
        }
        window.press(Modifiers::NONE, Key::Tab);
    }
    assert!(window.slider("Divider").is_focused(), "and by the divider");
    let before = window.slider("Divider").accesskit_node().numeric_value();
    window.press(Modifiers::NONE, Key::ArrowLeft);
    assert!(window.slider("Divider").accesskit_node().numeric_value() < before);

    let path = window.path("typed.png");
    window.press(Modifiers::COMMAND, Key::S);
    window.press(Modifiers::COMMAND, Key::A);
    type_text(&mut window, &path.display().to_string());
    window.press(Modifiers::NONE, Key::Enter);
    window.until("the file", |app| app.notices().any(|notice| notice.starts_with("Saved")));
    assert!(pixels(&path) != pixels(&portrait("obama.jpg")));
}
