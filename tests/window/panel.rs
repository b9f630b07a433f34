//! The panel of sliders, the presets and the strip under the picture.

use egui::accesskit::{Role, Toggled};
use egui::{Event, Key, Modifiers, MouseWheelSource, MouseWheelUnit, TouchPhase, vec2};
use egui_kittest::kittest::{NodeT, Queryable};

use crate::Window;

fn focus_smile(window: &mut Window) {
    window.slider("Smile").focus();
    window.harness.run();
    assert!(window.slider("Smile").is_focused());
}

fn unfold_advanced(window: &mut Window) {
    window.harness.get_by_label("Advanced").scroll_to_me();
    window.harness.run();
    window.harness.get_by_label("Advanced").click();
    window.harness.run();
}

#[test]
fn favourites_come_first() {
    let mut window = Window::open();
    let sliders = |window: &Window| window.harness.get_all_by_role_and_label(Role::Slider, "Smile").count();
    assert_eq!(sliders(&window), 1);
    focus_smile(&mut window);
    window.press(Modifiers::NONE, Key::F);
    assert_eq!(sliders(&window), 2, "beside its group it is among the favourites");
    let favourites = window.harness.get_by_label_contains("Favourites").rect();
    let first = window.harness.get_all_by_role_and_label(Role::Slider, "Smile").map(|slider| slider.rect().top());
    let first = first.fold(f32::INFINITY, f32::min);
    let group = window.harness.get_by_label_contains("Expression").rect();
    assert!(favourites.top() < first && first < group.top());

    // Either of the two is the same slider; the menu takes it out again.
    let upper = window.harness.get_all_by_role_and_label(Role::Slider, "Smile").next().expect("a slider");
    upper.set_value_accesskit(40.0);
    window.until("the change", |app| app.recipe().slider("Smiling") == 40.0);
    window.harness.get_all_by_role_and_label(Role::Slider, "Smile").next().expect("a slider").click_secondary();
    window.harness.run();
    window.click("Remove from favourites");
    assert_eq!(sliders(&window), 1);
    assert_eq!(window.app().recipe().slider("Smiling"), 40.0);
}

#[test]
fn the_wheel_moves_a_slider_only_with_shift() {
    let mut window = Window::open();
    let turn = |window: &mut Window, turns: f32, modifiers: Modifiers| {
        let (unit, phase, source) = (MouseWheelUnit::Line, TouchPhase::Move, MouseWheelSource::Wheel);
        window.harness.event_modifiers(Event::MouseWheel { unit, delta: vec2(0.0, turns), phase, source, modifiers }, modifiers);
        window.harness.step();
    };
    let at = window.slider("Smile").rect().center();
    window.harness.hover_at(at);
    window.harness.step();
    turn(&mut window, 1.0, Modifiers::SHIFT);
    assert_eq!(window.app().recipe().slider("Smiling"), 5.0);
    turn(&mut window, 1.0, Modifiers::SHIFT);
    turn(&mut window, -1.0, Modifiers::SHIFT);
    assert_eq!(window.app().recipe().slider("Smiling"), 5.0);
    turn(&mut window, 1.0, Modifiers::NONE);
    assert_eq!(window.app().recipe().slider("Smiling"), 5.0, "it scrolls the panel");
    window.until_refined();
    window.press(Modifiers::COMMAND, Key::Z);
    assert_eq!(window.app().recipe().slider("Smiling"), 0.0, "turns in a row are one step");
}

#[test]
fn a_lock_is_closed_and_opened_and_is_an_undo_step() {
    let mut window = Window::open();
    let state = |window: &Window| window.harness.get_by_role_and_label(Role::Button, "Keep Young").accesskit_node().toggled();
    assert_eq!(state(&window), Some(Toggled::False));
    window.click("Keep Young");
    assert!(window.app().recipe().locked.contains("Young"));
    assert_eq!(state(&window), Some(Toggled::True));
    window.click("Undo");
    assert!(window.app().recipe().locked.is_empty());
    window.click("Redo");
    // "Changed" shows what is kept, too.
    window.click("Changed");
    window.slider("Young");
    assert!(window.harness.query_by_role_and_label(Role::Slider, "Smile").is_none());
    window.slider("Young").focus();
    window.harness.run();
    window.press(Modifiers::NONE, Key::L);
    assert!(window.app().recipe().locked.is_empty());
}

#[test]
fn a_preset_is_for_every_photo() {
    let mut window = Window::open();
    window.set("Smile", "Smiling", 35.0);
    window.click("Presets");
    window.harness.get_by_role_and_label(Role::TextInput, "Preset name").focus();
    window.harness.run();
    window.harness.get_by_role_and_label(Role::TextInput, "Preset name").type_text("Happy");
    window.harness.run();
    window.click("Save preset");
    window.press(Modifiers::NONE, Key::Escape);

    let image = egui::ColorImage::filled([120, 80], egui::Color32::from_rgb(90, 120, 150));
    window.harness.event(Event::PasteImage(image.into()));
    window.until("the pasted picture", |app| app.photos() == 2 && !app.is_busy() && !app.recipe().is_changed());
    window.until_final();
    window.click("Presets");
    window.click("Happy");
    assert_eq!(window.app().recipe().slider("Smiling"), 35.0);
    window.until_final();
    window.click("Undo");
    assert!(!window.app().recipe().is_changed(), "one step");

    window.click("Presets");
    window.click("Forget Happy");
    assert!(window.harness.query_by_role_and_label(Role::Button, "Happy").is_none());
}

#[test]
fn a_snapshot_is_come_back_to() {
    let mut window = Window::open();
    window.set("Smile", "Smiling", 50.0);
    window.until_refined();
    window.press(Modifiers::COMMAND, Key::D);
    window.set("Smile", "Smiling", -80.0);
    window.until_refined();
    window.click("Snapshot 1");
    assert_eq!(window.app().recipe().slider("Smiling"), 50.0);
    window.until_final();
    window.click("Undo");
    assert_eq!(window.app().recipe().slider("Smiling"), -80.0, "going to a snapshot is a step");
    window.click("At first");
    assert!(!window.app().recipe().is_changed());
    window.click("Forget Snapshot 1");
    assert!(window.harness.query_by_role_and_label(Role::Button, "Snapshot 1").is_none());
}

#[test]
fn edits_may_reach_beyond_the_person() {
    let mut window = Window::open();
    window.set("Smile", "Smiling", 80.0);
    window.until_refined();
    let kept = window.save(&window.path("kept.png"));
    unfold_advanced(&mut window);
    window.harness.get_by_role_and_label(Role::CheckBox, "Keep the background").scroll_to_me();
    window.harness.run();
    window.harness.get_by_role_and_label(Role::CheckBox, "Keep the background").click();
    window.harness.run();
    assert!(!window.app().recipe().keep_background);
    window.until_refined();
    let changed = window.save(&window.path("changed.png"));
    assert!(kept != changed, "more of the photo changes");
    window.press(Modifiers::COMMAND, Key::Z);
    assert!(window.app().recipe().keep_background, "it is a step like others");
}

#[test]
fn sampler_and_inversion_are_chosen_in_the_panel() {
    let mut window = Window::open();
    unfold_advanced(&mut window);
    let choose = |window: &mut Window, list: &str, choice: &str| {
        window.harness.get_by_role_and_label(Role::ComboBox, list).scroll_to_me();
        window.harness.run();
        window.harness.get_by_role_and_label(Role::ComboBox, list).click();
        window.harness.run();
        window.click(choice);
    };
    let usual = window.app().recipe().clone();
    choose(&mut window, "Sampler: DPM-Solver++ 2M", "DDIM, as published");
    assert_ne!(window.app().recipe().solver, usual.solver);
    window.until_final();
    // The photo is read again by the other inversion, then shown.
    choose(&mut window, "Inversion: Closer to the photo", "DDIM, as published");
    assert_ne!(window.app().recipe().inversion, usual.inversion);
    window.until_final();
    window.click("Undo");
    window.click("Undo");
    assert_eq!(*window.app().recipe(), usual);
    window.until_final();
}

#[test]
fn a_drag_of_the_steps_is_one_step_back() {
    let mut window = Window::open();
    unfold_advanced(&mut window);
    let steps = |window: &Window| window.harness.get_by_role_and_label(Role::SpinButton, "Steps").rect();
    window.harness.get_by_role_and_label(Role::SpinButton, "Steps").scroll_to_me();
    window.harness.run();
    let (before, at) = (window.app().recipe().steps, steps(&window).center());
    window.harness.hover_at(at);
    window.harness.drag_at(at);
    window.harness.step();
    for i in 1..=5 {
        window.harness.hover_at(at + vec2(20.0 * i as f32, 0.0));
        window.harness.step();
    }
    window.harness.drop_at(at + vec2(100.0, 0.0));
    window.harness.run();
    assert!(window.app().recipe().steps > before + 3, "{}", window.app().recipe().steps);
    window.until_final();
    window.click("Undo");
    assert_eq!(window.app().recipe().steps, before);
}
