//! Which part of a photo is edited, in the real window with the real engine: boxes over the faces, the frame by hand, and saving.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use egui::accesskit::Role;
use egui::{Key, Modifiers, Pos2, vec2};
use egui_kittest::kittest::{NodeT, Queryable};
use egui_kittest::wgpu::WgpuTestRenderer;
use egui_kittest::{Harness, HarnessBuilder, SnapshotOptions};
use image::{Rgb, RgbImage, imageops};
use pdae_studio::checkpoint::import;
use pdae_studio::checkpoint::import::ImportOptions;
use pdae_studio::device::DeviceChoice;
use pdae_studio::engine::Quality;
use pdae_studio::photo::Frame;
use pdae_studio::studio::{StartOptions, StudioApp};

/// Far more than the slowest machine needs for any of this.
const PATIENCE: Duration = Duration::from_secs(180);

struct Window {
    harness: Harness<'static, StudioApp>,
    folder: tempfile::TempDir,
    photo: RgbImage,
}

impl Window {
    /// Opens the window on a photo and waits until the first picture is final.
    fn open(photo: RgbImage) -> Self {
        Self::open_with(photo, |builder| builder)
    }

    fn open_with(photo: RgbImage, adapt: impl FnOnce(HarnessBuilder<StudioApp>) -> HarnessBuilder<StudioApp>) -> Self {
        let folder = tempfile::tempdir().expect("a folder for the test");
        let bundle = folder.path().join("tiny");
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/pdae-tiny-64");
        import(&golden, &ImportOptions::default()).expect("the golden case imports").save(&bundle, false).expect("the bundle is written");
        let path = folder.path().join("people.png");
        photo.save(&path).expect("the photo is written");
        let start = StartOptions { bundle, photo: Some(path), device: DeviceChoice::Cpu, folder: None };
        let builder = Harness::builder().with_size([1100.0, 700.0]).with_max_steps(12);
        let harness = adapt(builder).build_eframe(|cc| StudioApp::new(cc, start).for_tests());
        let mut window = Self { harness, folder, photo };
        window.until_final();
        window.harness.run();
        window
    }

    fn app(&self) -> &StudioApp {
        self.harness.state()
    }

    fn frame(&self) -> Frame {
        self.app().frame().expect("a photo is open")
    }

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

    /// Waits for the final picture of everything as it stands.
    #[track_caller]
    fn until_final(&mut self) {
        self.until("final picture", |app| {
            app.shown().is_some_and(|shown| shown.generation == app.generation() && shown.quality == Quality::Final) && !app.is_busy()
        });
    }

    #[track_caller]
    fn click(&mut self, label: &str) {
        self.harness.get_by_role_and_label(Role::Button, label).click();
        self.harness.run();
    }

    fn has_button(&self, label: &str) -> bool {
        self.harness.query_by_role_and_label(Role::Button, label).is_some()
    }

    /// Moves a slider and saves the whole photo; returns what was written.
    #[track_caller]
    fn edit_and_save(&mut self, name: &str) -> RgbImage {
        self.harness.get_by_role_and_label(Role::Slider, "Smile").set_value_accesskit(100.0);
        self.until("the change", |app| app.recipe().slider("Smiling") == 100.0);
        for _ in 0..3 {
            self.harness.step();
        }
        self.until_final();
        let path = self.save_as(name);
        self.click("Save");
        self.until("notice", |app| app.notices().any(|notice| notice.starts_with("Saved") && notice.contains(name)));
        image::open(path).expect("a picture").to_rgb8()
    }

    fn save_as(&mut self, name: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        self.click("Save edited photo as…");
        *self.harness.state_mut().path_text_mut().expect("the path field is open") = path.display().to_string();
        self.harness.run();
        path
    }

    /// Where a pixel of the photo lies on the screen while the frame is adjusted.
    fn on_screen(&self, [x, y]: [f64; 2]) -> Pos2 {
        let area = self.harness.get_by_role_and_label(Role::Group, "Frame").rect();
        let size = vec2(self.photo.width() as f32, self.photo.height() as f32);
        let scale = (area.size() / size).min_elem();
        area.center() - size * scale * 0.5 + vec2(x as f32, y as f32) * scale
    }

    fn drag(&mut self, from: Pos2, to: Pos2) {
        self.harness.hover_at(from);
        self.harness.step();
        self.harness.drag_at(from);
        self.harness.step();
        for share in [0.3, 0.7, 1.0] {
            self.harness.hover_at(from + (to - from) * share);
            self.harness.step();
        }
        self.harness.drop_at(to);
        self.harness.run();
    }
}

/// Three portraits side by side, each 200 pixels wide.
fn people() -> RgbImage {
    let mut photo = RgbImage::from_pixel(600, 220, Rgb([126, 132, 130]));
    for (i, name) in ["sample.jpg", "obama.jpg", "biden.jpg"].into_iter().enumerate() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/portraits").join(name);
        let portrait = image::open(path).expect("a portrait").to_rgb8();
        let small = imageops::resize(&portrait, 190, 190, imageops::FilterType::Triangle);
        imageops::replace(&mut photo, &small, 200 * i as i64 + 5, 15);
    }
    photo
}

fn landscape() -> RgbImage {
    RgbImage::from_fn(240, 160, |x, y| Rgb([60, 80 + (y / 2) as u8, 110 + (x / 3) as u8]))
}

/// Whether two pictures differ within a frame, and nowhere else.
fn differ_only_within(frame: Frame, before: &RgbImage, after: &RgbImage) -> bool {
    let mut within = false;
    for (x, y, pixel) in before.enumerate_pixels() {
        if pixel != after.get_pixel(x, y) {
            let inside = frame.locate([f64::from(x) + 0.5, f64::from(y) + 0.5]).iter().all(|v| (0.0..=1.0).contains(v));
            if !inside {
                return false;
            }
            within = true;
        }
    }
    within
}

#[test]
fn one_click_picks_another_face_and_editing_goes_on_there() {
    let mut window = Window::open(people());
    assert!((1..=3).all(|i| window.has_button(&format!("Face {i} of 3"))));
    let first = window.frame();
    window.harness.get_by_role_and_label(Role::Button, "Face 2 of 3").click();
    window.until("another frame", |app| app.frame() != Some(first));
    let second = window.frame();
    assert!((second.centre[0] - first.centre[0]).abs() > 150.0, "{first:?} {second:?}");
    window.until_final();
    let saved = window.edit_and_save("second.png");
    assert!(differ_only_within(second, &window.photo, &saved));

    // The slider stays where it is, for the next face too.
    window.harness.get_by_role_and_label(Role::Button, "Face 3 of 3").click();
    window.until("another frame", |app| app.frame() != Some(second));
    assert_eq!(window.app().recipe().slider("Smiling"), 100.0);
}

#[test]
fn the_keyboard_reaches_and_picks_a_face() {
    let mut window = Window::open(people());
    let first = window.frame();
    let focused = |window: &Window| window.harness.get_by_role_and_label(Role::Button, "Face 3 of 3").accesskit_node().is_focused();
    for _ in 0..80 {
        if focused(&window) {
            break;
        }
        window.harness.key_press(Key::Tab);
        window.harness.run();
    }
    assert!(focused(&window), "Tab comes by every face");
    window.harness.key_press(Key::Enter);
    window.until("another frame", |app| app.frame() != Some(first));
}

#[test]
fn a_photo_without_a_face_says_so_and_is_framed_by_hand() {
    let mut window = Window::open(landscape());
    assert_eq!(window.frame(), Frame::middle_of(240, 160));
    assert!(window.harness.query_by_label_contains("No face was found").is_some());
    window.click("Adjust frame…");
    assert!(window.harness.get_by_role_and_label(Role::Group, "Frame").accesskit_node().is_focused());
    assert!(window.harness.get_by_label("Back to the found face").accesskit_node().is_disabled());

    // A corner halfway to the middle: half the side.
    let (corner, middle) = (window.on_screen([200.0, 160.0]), window.on_screen([120.0, 80.0]));
    window.drag(corner, corner + (middle - corner) * 0.5);
    // Then by 30 pixels to the left.
    let left = window.on_screen([90.0, 80.0]);
    window.drag(middle, left);
    // The arrow keys move it by 1/200 of the side.
    window.harness.key_press(Key::ArrowDown);
    window.harness.key_press(Key::ArrowDown);
    window.harness.key_press_modifiers(Modifiers::SHIFT, Key::ArrowUp);
    window.harness.run();
    window.click("Apply");
    window.until("another frame", |app| app.frame() != Some(Frame::middle_of(240, 160)));
    let frame = window.frame();
    let near = |a: f64, b: f64| (a - b).abs() < 1.0;
    assert!(near(frame.side, 80.0) && near(frame.centre[0], 90.0) && near(frame.centre[1], 80.0 - 8.0 * 0.4), "{frame:?}");
    assert_eq!(frame.angle, 0.0);
    assert!(window.harness.query_by_label_contains("No face was found").is_none(), "it was set by hand");
    window.until_final();
    let saved = window.edit_and_save("by-hand.png");
    assert!(differ_only_within(frame, &window.photo, &saved));
}

#[test]
fn a_frame_that_is_being_set_can_be_turned_dropped_and_led_back() {
    let mut window = Window::open(people());
    let found = window.frame();
    window.harness.key_press_modifiers(Modifiers::COMMAND, Key::T);
    window.harness.run();
    assert!(!window.has_button("Face 2 of 3"), "the frame is in charge now");
    // The wheel makes it larger; Escape drops all of it.
    let middle = window.on_screen(found.centre);
    window.harness.hover_at(middle);
    window.harness.event(egui::Event::MouseWheel {
        unit: egui::MouseWheelUnit::Point,
        delta: vec2(0.0, 60.0),
        phase: egui::TouchPhase::Move,
        source: egui::MouseWheelSource::Wheel,
        modifiers: Modifiers::NONE,
    });
    window.harness.run();
    window.harness.key_press(Key::Escape);
    window.harness.run();
    assert_eq!(window.frame(), found);
    assert!(window.has_button("Face 2 of 3"));

    // Comma turns it to the left by half a degree, the knob by whatever the pointer says.
    window.harness.key_press_modifiers(Modifiers::COMMAND, Key::T);
    window.harness.run();
    window.harness.key_press(Key::Comma);
    window.harness.run();
    window.harness.key_press(Key::Enter);
    window.until("another frame", |app| app.frame() != Some(found));
    let turned = window.frame();
    assert!((found.angle - turned.angle - 0.5f64.to_radians()).abs() < 1e-9 && turned.centre == found.centre, "{turned:?}");
    window.until_final();

    window.harness.key_press_modifiers(Modifiers::COMMAND, Key::T);
    window.harness.run();
    window.click("Back to the found face");
    window.click("Apply");
    window.until("the found frame", |app| app.frame() == Some(found));
}

#[test]
fn saving_offers_the_face_alone_a_quality_and_a_recipe() {
    let mut window = Window::open(people());
    let frame = window.frame();
    window.harness.get_by_role_and_label(Role::Slider, "Smile").set_value_accesskit(80.0);
    window.until("the change", |app| app.recipe().slider("Smiling") == 80.0);
    let path = window.save_as("face.jpg");
    window.harness.get_by_role_and_label(Role::RadioButton, "Only the square around the face").click();
    window.harness.get_by_role_and_label(Role::CheckBox, "Save a recipe beside it").click();
    window.harness.run();
    window.harness.get_by_role_and_label(Role::Slider, "Quality").set_value_accesskit(60.0);
    window.harness.run();
    window.click("Save");
    window.until("notice", |app| app.notices().any(|notice| notice.starts_with("Saved")));
    let saved = image::open(&path).expect("a picture");
    assert_eq!(saved.width(), frame.side.round() as u32);
    let recipe = std::fs::read_to_string(path.with_extension("recipe.json")).expect("a recipe");
    let recipe: serde_json::Value = serde_json::from_str(&recipe).expect("JSON");
    assert_eq!((&recipe["crop"], &recipe["export"]["jpeg_quality"]), (&"full".into(), &60.into()));

    // The command line makes the same file from it.
    let at = |name: &str| window.folder.path().join(name);
    let mut program = assert_cmd::Command::cargo_bin("pdae-studio").expect("the program is built");
    program.arg("edit").arg(at("people.png")).arg("-o").arg(at("again.jpg")).arg("--model").arg(at("tiny"));
    program.args(["--device", "cpu", "--recipe"]).arg(path.with_extension("recipe.json")).assert().success();
    assert!(std::fs::read(&path).expect("saved") == std::fs::read(at("again.jpg")).expect("saved again"));

    // Both files are there now, and both are asked about.
    window.save_as("face.jpg");
    window.click("Save");
    assert!(window.harness.query_by_label("Replace face.jpg and face.recipe.json?").is_some());
    window.click("Cancel");
    // A format that cannot be written is told before anything is done.
    *window.harness.state_mut().path_text_mut().expect("still open") = "/tmp/face.bmp".into();
    window.harness.run();
    assert!(window.harness.get_by_role_and_label(Role::Button, "Save").accesskit_node().is_disabled());
    assert!(window.harness.query_by_label_contains("face.bmp").is_some());
}

#[test]
fn the_frame_over_the_photo_looks_as_it_did() {
    if catch_unwind(AssertUnwindSafe(|| drop(WgpuTestRenderer::new()))).is_err() {
        println!("SKIPPED the_frame_over_the_photo_looks_as_it_did: no graphics adapter");
        return;
    }
    let mut window = Window::open_with(people(), |builder| builder.with_theme(egui::Theme::Dark).wgpu().with_render_cursor(false));
    window.harness.key_press_modifiers(Modifiers::COMMAND, Key::T);
    window.harness.run();
    window.harness.key_press(Key::ArrowRight);
    window.harness.run();
    // Text is drawn a little differently from driver to driver.
    window.harness.snapshot_options("frame", &SnapshotOptions::new().threshold(1.5).max_failed_pixels(200usize));
}
