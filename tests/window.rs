//! The real window with the real engine, without a screen: a tiny bundle, a generated photo, and what a person would do.

#[path = "window/default_bundle.rs"]
mod default_bundle;
#[path = "window/panel.rs"]
mod panel;
#[path = "window/random.rs"]
mod random;
#[path = "window/restart.rs"]
mod restart;
#[path = "window/stub.rs"]
mod stub;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use egui::accesskit::Role;
use egui::{Key, Modifiers, Theme};
use egui_kittest::kittest::{NodeT, Queryable};
use egui_kittest::wgpu::WgpuTestRenderer;
use egui_kittest::{Harness, HarnessBuilder, Node, SnapshotOptions, SnapshotResults};
use image::{Rgb, RgbImage};
use pdae_studio::checkpoint::import;
use pdae_studio::checkpoint::import::ImportOptions;
use pdae_studio::device::DeviceChoice;
use pdae_studio::engine::Quality;
use pdae_studio::studio::{StartOptions, StudioApp};

/// Far more than the slowest machine needs for any of this.
const PATIENCE: Duration = Duration::from_secs(180);

/// A window and the files that it works on.
struct Window {
    harness: Harness<'static, StudioApp>,
    folder: tempfile::TempDir,
}

impl Window {
    /// Opens the window on a photo and waits until the first picture is final and the photo is read.
    fn open() -> Self {
        Self::open_with(Theme::Dark, |builder| builder)
    }

    fn open_with(theme: Theme, adapt: impl FnOnce(HarnessBuilder<StudioApp>) -> HarnessBuilder<StudioApp>) -> Self {
        let folder = tempfile::tempdir().expect("a folder for the test");
        let bundle = folder.path().join("tiny");
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/pdae-tiny-64");
        let options = ImportOptions { name: "Tiny".into(), ..Default::default() };
        import(&golden, &options).expect("the golden case imports").save(&bundle, false).expect("the bundle is written");
        let photo = folder.path().join("portrait.png");
        drawing().save(&photo).expect("the photo is written");

        Self::start(folder, bundle, Some(photo), None, |builder| adapt(builder.with_theme(theme)))
    }

    /// Opens it on another photo of the folder or on what it remembers, keeping what it keeps in `own` there.
    fn start(
        folder: tempfile::TempDir,
        bundle: PathBuf,
        photo: Option<PathBuf>,
        storage: Option<&'static dyn eframe::Storage>,
        adapt: impl FnOnce(HarnessBuilder<StudioApp>) -> HarnessBuilder<StudioApp>,
    ) -> Self {
        let start = StartOptions { bundle, photo, device: DeviceChoice::Cpu, folder: Some(folder.path().join("own")) };
        let builder = Harness::builder().with_size([1100.0, 700.0]).with_theme(Theme::Dark).with_max_steps(12);
        let harness = adapt(builder).build_eframe(|cc| {
            cc.storage = storage;
            StudioApp::new(cc, start).for_tests()
        });
        let mut window = Self { harness, folder };
        window.until("the first picture", |app| app.shown().is_some_and(|shown| shown.quality == Quality::Final) && !app.is_busy());
        window.harness.run();
        window
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn app(&self) -> &StudioApp {
        self.harness.state()
    }

    /// Draws frames until the engine has answered.
    #[track_caller]
    fn until(&mut self, what: &str, done: impl Fn(&StudioApp) -> bool) {
        let began = Instant::now();
        loop {
            self.harness.step();
            if done(self.app()) {
                return;
            }
            assert!(began.elapsed() < PATIENCE, "no {what}; notices: {:?}", self.app().notices().collect::<Vec<_>>());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits for the final picture of the recipe as it stands.
    #[track_caller]
    fn until_final(&mut self) {
        self.until("final picture", |app| {
            app.shown().is_some_and(|shown| shown.generation == app.generation() && shown.quality == Quality::Final)
        });
    }

    /// The same after something that does not ask for a picture at once.
    #[track_caller]
    fn until_refined(&mut self) {
        for _ in 0..3 {
            self.harness.step();
        }
        self.until_final();
    }

    #[track_caller]
    fn slider<'a>(&'a self, label: &'a str) -> Node<'a> {
        self.harness.get_by_role_and_label(Role::Slider, label)
    }

    #[track_caller]
    fn click(&mut self, label: &str) {
        self.harness.get_by_role_and_label(Role::Button, label).click();
        self.harness.run();
    }

    fn press(&mut self, modifiers: Modifiers, key: Key) {
        self.harness.key_press_modifiers(modifiers, key);
        self.harness.run();
    }

    #[track_caller]
    fn set(&mut self, label: &str, attribute: &str, percent: f64) {
        self.slider(label).set_value_accesskit(percent);
        self.until("the change", |app| f64::from(app.recipe().slider(attribute)) == percent);
    }

    /// Opens a photo through the path field, beside those that are open.
    #[track_caller]
    fn open_photo(&mut self, path: &Path) {
        let before = self.app().photos();
        self.click("Open…");
        self.type_path(path);
        self.click("Open");
        self.until("another photo", |app| app.photos() == before + 1 && !app.is_busy());
        self.until_final();
    }

    /// Saves the present photo through the path field and reads what was written.
    #[track_caller]
    fn save(&mut self, path: &Path) -> RgbImage {
        self.click("Save edited photo as…");
        self.type_path(path);
        self.click("Save");
        let said = format!("Saved {}", path.display());
        self.until("notice", |app| app.notices().any(|notice| notice == said));
        image::open(path).expect("a picture").to_rgb8()
    }

    fn type_path(&mut self, path: &Path) {
        *self.harness.state_mut().path_text_mut().expect("the path field is open") = path.display().to_string();
        self.harness.run();
    }
}

/// Something with a middle and a few edges; the tiny network knows no faces anyway.
fn drawing() -> RgbImage {
    RgbImage::from_fn(96, 96, |x, y| {
        let (dx, dy) = (x as f32 - 48.0, y as f32 - 50.0);
        if (dx / 30.0).powi(2) + (dy / 40.0).powi(2) < 1.0 { Rgb([214, 170, 140]) } else { Rgb([60, 80 + y as u8, 110 + x as u8]) }
    })
}

#[test]
fn the_window_opens_with_a_photo_and_sliders() {
    let window = Window::open();
    for label in ["Smile", "Open mouth", "Young", "Masculine"] {
        window.slider(label);
    }
    assert!(window.harness.query_by_role_and_label(Role::Slider, "Glasses").is_none(), "its group is closed at first");
    assert!(window.harness.query_by_role_and_label(Role::Image, "portrait").is_some(), "the photo's name is shown");
    assert_eq!(window.app().notices().count(), 0);
}

#[test]
fn a_value_that_is_set_gives_a_final_picture_and_undo_takes_it_back() {
    let mut window = Window::open();
    let first = window.app().shown().expect("a picture");
    window.slider("Smile").set_value_accesskit(60.0);
    window.until("the change", |app| app.recipe().slider("Smiling") == 60.0);
    // The preview follows at once, the final picture after a short rest.
    for _ in 0..3 {
        window.harness.step();
    }
    window.until_final();
    let edited = window.app().shown().expect("a picture");
    assert!(edited.generation > first.generation);

    window.click("Undo");
    assert_eq!(window.app().recipe().slider("Smiling"), 0.0);
    window.until_final();
    assert!(window.app().shown().is_some_and(|shown| shown.generation > edited.generation));

    window.click("Redo");
    assert_eq!(window.app().recipe().slider("Smiling"), 60.0);
    window.click("Reset Smile");
    assert_eq!(window.app().recipe().slider("Smiling"), 0.0);
    window.until_final();
}

#[test]
fn a_drag_shows_previews_and_is_one_step() {
    let mut window = Window::open();
    let first = window.app().generation();
    let rail = window.slider("Smile").rect();
    window.harness.hover_at(rail.center());
    window.harness.drag_at(rail.center());
    window.harness.step();
    for share in [0.6, 0.7, 0.8] {
        window.harness.hover_at(egui::pos2(rail.left() + share * rail.width(), rail.center().y));
        window.harness.step();
    }
    assert!(window.app().generation() >= first + 3, "a picture is asked for at every move");
    window.until("preview", |app| app.shown().is_some_and(|shown| shown.generation > first && shown.quality == Quality::Preview));
    let dragged = window.app().recipe().slider("Smiling");
    assert!((50.0..80.0).contains(&dragged), "{dragged}");

    window.harness.drop_at(egui::pos2(rail.left() + 0.8 * rail.width(), rail.center().y));
    window.until_final();
    assert_eq!(window.app().recipe().slider("Smiling"), dragged);
    window.harness.key_press_modifiers(Modifiers::COMMAND, Key::Z);
    window.harness.run();
    assert_eq!(window.app().recipe().slider("Smiling"), 0.0, "one step back");
}

#[test]
fn a_drag_ends_with_its_photo() {
    let mut window = Window::open();
    let rail = window.slider("Smile").rect();
    window.harness.hover_at(rail.center());
    window.harness.drag_at(rail.center());
    window.harness.step();
    let to = |share: f32| egui::pos2(rail.left() + share * rail.width(), rail.center().y);
    window.harness.hover_at(to(0.7));
    window.harness.step();
    let dragged = window.app().recipe().slider("Smiling");
    assert!(dragged > 20.0, "{dragged}");
    let image = egui::ColorImage::filled([120, 80], egui::Color32::from_rgb(90, 120, 150));
    window.harness.event(egui::Event::PasteImage(image.into()));
    window.until("the pasted picture", |app| app.photos() == 2);
    window.harness.hover_at(to(0.9));
    window.harness.step();
    window.harness.drop_at(to(0.8));
    window.harness.run();
    assert!(!window.app().recipe().is_changed(), "the drag was of the other photo");
    window.until_final();
    window.set("Smile", "Smiling", 10.0);
    window.click("Undo");
    assert!(!window.app().recipe().is_changed());

    window.click("Show portrait");
    window.until("the first photo", |app| app.recipe().slider("Smiling") == dragged);
    window.click("Undo");
    assert!(!window.app().recipe().is_changed(), "the drag is a step");
}

#[test]
fn the_keyboard_reaches_and_moves_a_slider() {
    let mut window = Window::open();
    for _ in 0..60 {
        if window.slider("Smile").is_focused() {
            break;
        }
        window.harness.key_press(Key::Tab);
        window.harness.run();
    }
    assert!(window.slider("Smile").is_focused(), "Tab comes by every slider");
    for _ in 0..5 {
        window.harness.key_press(Key::ArrowRight);
        window.harness.step();
    }
    window.harness.run();
    assert_eq!(window.app().recipe().slider("Smiling"), 5.0);
    window.until_final();
}

#[test]
fn a_search_finds_sliders_in_closed_groups() {
    let mut window = Window::open();
    window.harness.get_by_label("Search sliders").focus();
    window.harness.run();
    window.harness.get_by_label("Search sliders").type_text("glass");
    window.harness.run();
    window.slider("Glasses");
    assert!(window.harness.query_by_role_and_label(Role::Slider, "Smile").is_none());
}

#[test]
fn the_edited_photo_is_saved_through_the_path_field() {
    let mut window = Window::open();
    window.slider("Smile").set_value_accesskit(100.0);
    window.until("the change", |app| app.recipe().slider("Smiling") == 100.0);
    let path = window.path("saved.png");
    window.click("Save edited photo as…");
    window.type_path(&path);
    window.click("Save");
    window.until("notice", |app| app.notices().any(|notice| notice.starts_with("Saved")));
    let saved = image::open(&path).expect("a picture");
    assert_eq!((saved.width(), saved.height()), (96, 96));
    assert_ne!(saved.to_rgb8(), drawing(), "the edit is in it");

    // A second time it asks, and Cancel leaves the file alone.
    std::fs::write(&path, b"another file").expect("written");
    window.click("Save edited photo as…");
    window.type_path(&path);
    window.click("Save");
    assert!(window.harness.query_by_label("Replace saved.png?").is_some());
    window.click("Cancel");
    assert_eq!(std::fs::read(&path).expect("read"), b"another file");
    window.click("Save");
    window.click("Replace");
    window.until("the replaced file", |_| image::open(&path).is_ok());
}

#[test]
fn a_broken_photo_is_told_and_the_window_lives_on() {
    let mut window = Window::open();
    let broken = window.path("broken.jpg");
    std::fs::write(&broken, b"this is no photo").expect("written");
    window.click("Open…");
    window.type_path(&broken);
    window.click("Open");
    window.until("notice", |app| app.notices().any(|notice| notice.contains("broken.jpg")));
    assert!(!window.app().is_busy());
    window.harness.run();
    window.click("Dismiss");
    assert_eq!(window.app().notices().count(), 0);

    window.slider("Smile").set_value_accesskit(30.0);
    window.until("the change", |app| app.recipe().slider("Smiling") == 30.0);
    window.until_final();
}

#[test]
fn a_pasted_picture_opens_with_its_sliders_at_zero() {
    let mut window = Window::open();
    window.slider("Smile").set_value_accesskit(30.0);
    window.until("the change", |app| app.recipe().is_changed());
    let image = egui::ColorImage::filled([120, 80], egui::Color32::from_rgb(90, 120, 150));
    window.harness.event(egui::Event::PasteImage(image.into()));
    window.until("the pasted picture", |app| !app.recipe().is_changed());
    window.until_final();
    assert!(window.harness.query_by_role_and_label(Role::Image, "Pasted picture").is_some());
}

#[test]
fn menus_open_after_a_path_field_was_dismissed() {
    let mut window = Window::open();
    window.harness.key_press_modifiers(Modifiers::COMMAND, Key::O);
    window.harness.run();
    assert!(window.harness.query_by_label("Open a photo").is_some());
    window.harness.key_press(Key::Escape);
    window.harness.run();
    assert!(window.harness.query_by_label("Open a photo").is_none());
    window.click("View");
    window.harness.get_by_label_contains("Zoom in").click();
    window.harness.run();
    window.click("View");
    assert!(!window.harness.get_by_label_contains("Zoom to fit").accesskit_node().is_disabled(), "the picture is zoomed");
}

#[test]
fn a_large_photo_is_sharp_when_it_is_zoomed_in() {
    let mut window = Window::open();
    assert!(window.harness.query_by_role_and_label(Role::Button, "Zoom, 100 %").is_none(), "a small photo is enlarged to be seen");
    let path = window.path("large.png");
    RgbImage::from_fn(3000, 2400, |x, y| Rgb([(x / 12) as u8, (y / 10) as u8, (x ^ y) as u8])).save(&path).expect("written");
    window.open_photo(&path);
    window.until("the photo", |app| app.photos() == 2 && !app.is_busy());
    window.until_final();
    assert_eq!(window.app().close_up(), None, "all of it is seen, smaller than it is");

    window.press(Modifiers::COMMAND, Key::Num5);
    window.until("a part", |app| app.close_up().is_some());
    assert!(window.harness.query_by_role_and_label(Role::Button, "Zoom, 100 %").is_some());
    let part = window.app().close_up().expect("a part");
    assert_eq!(part.scale, 1.0);
    assert!(part.at[0] > 0 && part.at[0] + part.size[0] < 3000, "no more than is seen: {part:?}");
    // It goes with every picture, in every way to compare.
    window.set("Smile", "Smiling", 60.0);
    window.until_refined();
    window.until("the part", |app| app.close_up() == Some(part));
    // Two pictures side by side are smaller ones, with more of the photo in each.
    for (key, scale) in [(Key::Num2, 1.0), (Key::Num3, 0.5), (Key::Num4, 1.0), (Key::Num1, 1.0)] {
        window.press(Modifiers::COMMAND, key);
        window.until("the part", |app| app.close_up().is_some_and(|part| (part.scale - scale).abs() < 0.1));
    }
    // It follows the pointer, from where that was pressed down, and is another one elsewhere.
    let middle = window.harness.get_by_role_and_label(Role::Image, "large").rect().center();
    window.harness.hover_at(middle);
    window.harness.drag_at(middle);
    window.harness.step();
    for moved in [2.0, 5.0, 60.0, 300.0] {
        window.harness.hover_at(middle + egui::vec2(moved, 0.0));
        window.harness.step();
    }
    window.harness.drop_at(middle + egui::vec2(300.0, 0.0));
    window.until("the part to the left", |app| app.close_up().is_some_and(|other| other.at[0] + 300 == part.at[0]));
    // With more of the photo there are fewer of its pixels, and there is none when all of the photo is seen.
    window.press(Modifiers::COMMAND, Key::Minus);
    window.until("a larger part", |app| app.close_up().is_some_and(|other| other.scale < 1.0 && other.size[0] > part.size[0]));
    window.press(Modifiers::COMMAND, Key::Num5);
    window.until("all of its pixels", |app| app.close_up().is_some_and(|other| other.scale == 1.0));
    window.press(Modifiers::COMMAND, Key::T);
    window.until("the part beside the frame", |app| app.close_up().is_some_and(|other| other.scale == 1.0));
    window.press(Modifiers::NONE, Key::Escape);
    window.press(Modifiers::COMMAND, Key::Num0);
    window.until("the whole", |app| app.close_up().is_none());
    assert_eq!(window.app().notices().count(), 0);
}

#[test]
fn the_way_between_two_photos_is_made_played_and_saved() {
    let mut window = Window::open();
    let second = window.path("second.png");
    RgbImage::from_fn(80, 80, |x, y| Rgb([(x * 3) as u8, 40, (y * 3) as u8])).save(&second).expect("written");
    window.click("Open…");
    window.type_path(&second);
    window.click("Open");
    window.until("second photo", |app| app.photos() == 2 && !app.is_busy());
    assert!(window.harness.query_by_role_and_label(Role::Button, "Show portrait").is_some(), "the open photos are shown");

    window.click("Interpolate");
    window.until("film strip", |app| app.interpolation().pictures_there() == 9);
    for label in ["The first end", "The picture between", "The second end"] {
        assert!(window.harness.query_by_role_and_label(Role::Image, label).is_some(), "{label}");
    }
    window.click("Picture 3 of 9");
    assert!((window.app().interpolation().share() - 0.25).abs() < 1e-9);
    window.slider("Between the ends").set_value_accesskit(0.6);
    window.until("the picture at the slider", |app| app.interpolation().quality() == Some(Quality::Final));

    window.click("Smooth");
    window.until("the film strip at another pace", |app| app.interpolation().pictures_there() == 9);

    let path = window.path("way.png");
    window.click("Save strip as…");
    window.type_path(&path);
    window.click("Save");
    window.until("notice", |app| app.notices().any(|notice| notice.starts_with("Saved")));
    let strip = image::open(&path).expect("a strip");
    assert_eq!((strip.width(), strip.height()), (9 * 512, 512));

    // Only an ending of a moving format will do.
    window.click("Save animation as…");
    window.type_path(&window.path("way.bmp"));
    window.click("Save");
    assert!(window.app().notices().any(|notice| notice.contains("way.bmp")));

    // Drawing never comes to rest while it plays.
    window.harness.get_by_role_and_label(Role::Button, "Play").click();
    window.until("playing", |app| app.interpolation().is_playing());
    window.harness.step();
    window.harness.get_by_role_and_label(Role::Button, "Pause").click();
    window.until("a pause", |app| !app.interpolation().is_playing());
    window.click("Photo");
    window.slider("Smile");
}

#[test]
fn each_open_photo_keeps_its_own_edit() {
    let mut window = Window::open();
    window.slider("Smile").set_value_accesskit(60.0);
    window.until("the change", |app| app.recipe().slider("Smiling") == 60.0);
    let image = egui::ColorImage::filled([120, 80], egui::Color32::from_rgb(90, 120, 150));
    window.harness.event(egui::Event::PasteImage(image.into()));
    window.until("the pasted picture", |app| app.photos() == 2 && !app.recipe().is_changed());
    window.click("Show portrait");
    window.until("the first photo", |app| app.recipe().slider("Smiling") == 60.0);
    window.click("Undo");
    assert_eq!(window.app().recipe().slider("Smiling"), 0.0, "its history came along");
    window.click("Close portrait");
    window.until("the other photo", |app| app.photos() == 1 && app.shown().is_some());
    assert!(window.harness.query_by_role_and_label(Role::Image, "Pasted picture").is_some());
}

#[test]
fn nothing_changes_behind_a_dialog() {
    let mut window = Window::open();
    let second = window.path("second.png");
    RgbImage::from_fn(80, 72, |x, y| Rgb([(x * 3) as u8, 40, (y * 3) as u8])).save(&second).expect("written");
    window.open_photo(&second);
    window.set("Smile", "Smiling", 100.0);
    window.until_refined();
    window.click("Save edited photo as…");
    let path = window.path("saved.png");
    window.type_path(&path);
    for (modifiers, key) in [
        (Modifiers::COMMAND, Key::W),
        (Modifiers::COMMAND, Key::R),
        (Modifiers::COMMAND, Key::K),
        (Modifiers::COMMAND | Modifiers::SHIFT, Key::O),
        (Modifiers::NONE, Key::F4),
    ] {
        window.press(modifiers, key);
        let app = window.app();
        assert!(app.photos() == 2 && app.recipe().slider("Smiling") == 100.0, "{key:?}");
    }
    assert!(window.harness.query_by_label("Find a command").is_none());
    window.slider("Smile");
    // What is pasted opens in front of it, and is not what is saved.
    let image = egui::ColorImage::filled([120, 80], egui::Color32::from_rgb(90, 120, 150));
    window.harness.event(egui::Event::PasteImage(image.into()));
    window.until("the pasted picture", |app| app.photos() == 3 && !app.recipe().is_changed());
    window.click("Save");
    window.until("notice", |app| app.notices().any(|notice| notice.starts_with("Saved")));
    let saved = image::open(&path).expect("a picture").to_rgb8();
    assert_eq!(saved.dimensions(), (80, 72));
    assert_ne!(saved, image::open(&second).expect("a picture").to_rgb8(), "the edit is in it");
}

#[test]
fn what_cannot_be_written_is_told_before_any_work_and_the_path_stays() {
    let mut window = Window::open();
    let path = window.path("nowhere").join("a.png");
    window.click("Save edited photo as…");
    window.type_path(&path);
    window.click("Save");
    assert!(window.app().notices().any(|notice| notice.starts_with(&format!("{} could not be written", path.display()))));
    let text = window.harness.state_mut().path_text_mut().expect("the dialog is open").clone();
    assert_eq!(Path::new(&text), path);
}

#[test]
fn a_photo_that_is_about_to_be_replaced_is_named() {
    let mut window = Window::open();
    window.click("Save edited photo as…");
    window.type_path(&window.path("portrait.png"));
    window.click("Save");
    assert!(window.harness.query_by_label_contains("the photo that you are editing").is_some());
    window.click("Cancel");
    window.click("Cancel");
    assert_eq!(image::open(window.path("portrait.png")).expect("a picture").to_rgb8(), drawing());
}

#[test]
fn a_closed_photo_comes_back_with_its_edit() {
    let mut window = Window::open();
    window.set("Smile", "Smiling", 60.0);
    window.until_refined();
    let closed = |app: &StudioApp| app.photos() == 0 && app.notices().any(|notice| notice.starts_with("Closed portrait. Its edit"));
    window.press(Modifiers::COMMAND, Key::W);
    window.until("no photo", closed);
    window.press(Modifiers::COMMAND | Modifiers::SHIFT, Key::T);
    window.until("the photo", |app| app.photos() == 1 && app.recipe().slider("Smiling") == 60.0 && !app.is_busy());
    window.press(Modifiers::COMMAND | Modifiers::SHIFT, Key::T);
    assert_eq!(window.app().photos(), 1, "there is no other");
    window.press(Modifiers::COMMAND, Key::W);
    window.until("no photo", closed);
    let photo = window.path("portrait.png");
    window.press(Modifiers::COMMAND | Modifiers::SHIFT, Key::O);
    window.type_path(&photo);
    window.harness.get_all_by_role_and_label(Role::Button, "Open").next().expect("the path field").click();
    window.until("the photo", |app| app.photos() == 1 && !app.is_busy());
    assert_eq!(window.app().recipe().slider("Smiling"), 60.0, "also when it is opened by hand");
    window.click("Undo");
    assert_eq!(window.app().recipe().slider("Smiling"), 0.0, "its history came along");
}

#[test]
fn what_nobody_sees_is_not_undone() {
    let mut window = Window::open();
    window.set("Smile", "Smiling", 60.0);
    window.until_refined();
    for (view, photo) in [(Key::F4, Key::F2), (Key::F3, Key::F2)] {
        window.harness.key_press(view);
        window.harness.step();
        for key in [Key::Z, Key::R] {
            window.harness.key_press_modifiers(Modifiers::COMMAND, key);
            window.harness.step();
            assert_eq!(window.app().recipe().slider("Smiling"), 60.0, "{view:?}, {key:?}");
        }
        window.press(Modifiers::NONE, photo);
    }
    window.press(Modifiers::COMMAND, Key::Z);
    assert_eq!(window.app().recipe().slider("Smiling"), 0.0);
}

#[test]
fn commands_are_found_by_their_words() {
    let mut window = Window::open();
    window.harness.key_press_modifiers(Modifiers::COMMAND, Key::K);
    window.harness.run();
    window.harness.get_by_label("Find a command").type_text("side by");
    window.harness.run();
    window.harness.key_press(Key::Enter);
    window.harness.run();
    assert!(window.harness.query_by_label("Find a command").is_none());
    let chosen = window.harness.get_by_role_and_label(Role::Button, "Side by side");
    assert_eq!(chosen.accesskit_node().toggled(), Some(egui::accesskit::Toggled::True));
    window.click("Help");
    window.harness.get_by_label_contains("About PDAE Studio").click();
    window.harness.run();
    assert!(window.harness.query_by_label_contains("nothing leaves it").is_some());
    window.click("Close");
}

#[test]
fn both_themes_and_all_ways_to_compare_look_as_they_did() {
    let Some(()) = catch_unwind(AssertUnwindSafe(|| drop(WgpuTestRenderer::new()))).ok() else {
        println!("SKIPPED both_themes_and_all_ways_to_compare_look_as_they_did: no graphics adapter");
        return;
    };
    // Text is drawn a little differently from driver to driver.
    let options = SnapshotOptions::new().threshold(1.5).max_failed_pixels(200usize);
    let mut results = SnapshotResults::new();
    for (theme, name, compare) in [(Theme::Dark, "dark", "Side by side"), (Theme::Light, "light", "Split")] {
        let mut window = Window::open_with(theme, |builder| builder.wgpu().with_render_cursor(false));
        window.slider("Smile").set_value_accesskit(60.0);
        window.until("the change", |app| app.recipe().slider("Smiling") == 60.0);
        for _ in 0..3 {
            window.harness.step();
        }
        window.until_final();
        window.click(compare);
        window.harness.remove_cursor();
        window.harness.run();
        // What the tiny network decodes depends on the processor's rounding.
        let mut decoded = window.harness.get_by_role_and_label(Role::Image, "portrait").rect();
        decoded.min.x = decoded.center().x + 3.0;
        window.harness.mask(decoded);
        let step = window.harness.get_by_role_and_label(Role::Button, "Smile +60").rect();
        window.harness.mask(step);
        window.harness.snapshot_options(name, &options);
        results.extend_harness(&mut window.harness);
    }
}
