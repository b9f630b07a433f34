//! The window. It sends requests to the engine, shows the events that come back, and never waits for either.
//!
//! - [`command`]: everything a person can tell the window to do, for menus, shortcuts and buttons.
//! - [`picture`]: before and after. [`sliders`]: the panel. [`progress`]: the strip under the picture. [`status`]: the status bar.
//! - [`files`]: dialogs, typed paths, drops, pastes. [`notices`]: messages. [`history`]: undo and redo.
//! - [`tokens`]: distances, sizes and colours.

pub mod command;
pub mod files;
pub mod history;
pub mod notices;
pub mod picture;
pub mod progress;
pub mod sliders;
pub mod status;
pub mod tokens;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use egui::{Align, Button, CentralPanel, Frame, Key, Layout, Margin, MenuBar, Modifiers, Panel, RichText, Stroke, Ui, vec2};
use image::{DynamicImage, RgbaImage};
use serde::{Deserialize, Serialize};

use crate::device::DeviceChoice;
use crate::editing::Recipe;
use crate::engine::{Engine, Event, Job, ModelCard, Quality, RenderRequest, Request};
use crate::photo::{ExportFormat, ExportOptions, Photo};
use command::Command;
use files::{Chosen, Files, Outcome, Purpose};
use history::{Change, History};
use notices::Notices;
use picture::{Compare, Picture, Shown};
use progress::Jobs;
use sliders::{Sliders, Touch};
use status::OpenPhoto;
use tokens::{Palette, size, space};

const TITLE: &str = "PDAE Studio";
/// Also the folder of the settings.
const APP_ID: &str = "pdae-studio";
/// The key of [`Settings`] in the settings file.
const SETTINGS: &str = "studio";
/// Opens when no photo was named, so that the sliders have something to work on.
const SAMPLE: &[u8] = include_bytes!("../../assets/portraits/sample.jpg");
/// Seconds after the last arrow key until the picture is refined.
const SETTLE: f64 = 0.25;
/// Denoising steps in tests.
const TEST_STEPS: usize = 3;

/// What the command line decided.
#[derive(Debug, Clone)]
pub struct StartOptions {
    pub bundle: PathBuf,
    /// `None`: the sample photo.
    pub photo: Option<PathBuf>,
    pub device: DeviceChoice,
}

/// Opens the window and stays until it is closed.
pub fn run(options: StartOptions) -> Result<(), eframe::Error> {
    let viewport = egui::ViewportBuilder::default()
        .with_title(TITLE)
        .with_app_id(APP_ID)
        .with_inner_size([1180.0, 760.0])
        .with_min_inner_size([800.0, 560.0])
        .with_drag_and_drop(true);
    let native = eframe::NativeOptions { viewport, renderer: eframe::Renderer::Wgpu, ..Default::default() };
    eframe::run_native(APP_ID, native, Box::new(|cc| Ok(Box::new(StudioApp::new(cc, options)))))
}

/// Whether there is a screen to open a window on. Only systems with X11 or Wayland can tell beforehand.
pub fn has_display() -> bool {
    let display_server = cfg!(all(unix, not(any(target_os = "macos", target_os = "ios", target_os = "android"))));
    let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    !display_server || set("DISPLAY") || set("WAYLAND_DISPLAY") || set("WAYLAND_SOCKET")
}

/// What is remembered from one start to the next. Window size and panel width are kept by the framework.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Settings {
    compare: Compare,
    last_folder: Option<PathBuf>,
}

/// A slider that is held down.
struct Held {
    attribute: String,
    /// The recipe before.
    from: Recipe,
    moved: bool,
}

/// The window's state.
pub struct StudioApp {
    /// `None` where the system gave no thread.
    engine: Option<Engine>,
    model: Option<Arc<ModelCard>>,
    photo: Option<OpenPhoto>,
    recipe: Recipe,
    /// What a new photo starts with.
    untouched: Recipe,
    history: History,
    held: Option<Held>,
    /// When a small change is to be refined, in the frame clock's seconds.
    settle_at: Option<f64>,
    /// Of the last render request.
    generation: u64,
    picture: Picture,
    sliders: Sliders,
    notices: Notices,
    jobs: Jobs,
    files: Files,
    step: Option<Duration>,
    show_times: bool,
}

impl StudioApp {
    /// The window inside eframe, with what it remembers.
    pub fn new(cc: &eframe::CreationContext<'_>, options: StartOptions) -> Self {
        let mut app = Self::with_context(&cc.egui_ctx, options);
        if let Some(settings) = cc.storage.and_then(|storage| eframe::get_value::<Settings>(storage, SETTINGS)) {
            app.picture.compare = settings.compare;
            app.files.last_folder = app.files.last_folder.or(settings.last_folder.filter(|folder| folder.is_dir()));
        }
        app
    }

    /// Starts the engine and opens the first photo.
    pub fn with_context(ctx: &egui::Context, options: StartOptions) -> Self {
        tokens::apply(ctx);
        // Ctrl with plus and minus zoom the picture, not the window.
        ctx.options_mut(|options| options.zoom_with_keyboard = false);
        let mut app = Self {
            engine: None,
            model: None,
            photo: None,
            recipe: Recipe::default(),
            untouched: Recipe::default(),
            history: History::default(),
            held: None,
            settle_at: None,
            generation: 0,
            picture: Picture::default(),
            sliders: Sliders::default(),
            notices: Notices::default(),
            jobs: Jobs::default(),
            files: Files::default(),
            step: None,
            show_times: true,
        };
        let wake = ctx.clone();
        match Engine::start(options.bundle, options.device, move || wake.request_repaint()) {
            Ok(engine) => {
                app.engine = Some(engine);
                app.jobs.started(Job::LoadingModel);
                match options.photo {
                    Some(path) => app.open_path(path),
                    None => app.open_sample(),
                }
            }
            Err(error) => app.notices.trouble("The engine could not be started. Close some programs and start again", error.to_string()),
        }
        app
    }

    /// For tests: few steps, nothing on the screen that differs from run to run, and no dialogs of the system.
    #[must_use]
    pub fn for_tests(mut self) -> Self {
        self.untouched.steps = TEST_STEPS;
        self.recipe = self.untouched.clone();
        self.show_times = false;
        self.files.system_dialogs = false;
        self
    }

    /// The edit as it stands.
    pub fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    /// Which decode is on the screen; `None` while it is the original.
    pub fn shown(&self) -> Option<Shown> {
        self.picture.shown()
    }

    /// The generation of the last picture that was asked for.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The text of the path field, if it is open.
    pub fn path_text_mut(&mut self) -> Option<&mut String> {
        self.files.path_text_mut()
    }

    /// The notices on the screen.
    pub fn notices(&self) -> impl Iterator<Item = &str> {
        self.notices.messages()
    }

    /// Whether the engine is at work on anything but pictures.
    pub fn is_busy(&self) -> bool {
        [Job::LoadingModel, Job::OpeningPhoto, Job::ReadingPhoto, Job::Exporting].into_iter().any(|job| self.jobs.is_running(job))
    }

    fn settings(&self) -> Settings {
        Settings { compare: self.picture.compare, last_folder: self.files.last_folder.clone() }
    }

    // --- to the engine ---

    fn send(&mut self, request: Request) -> bool {
        let sent = self.engine.as_ref().is_some_and(|engine| engine.send(request));
        if !sent {
            self.notices.trouble("The engine is busy. Try again in a moment", "");
        }
        sent
    }

    /// Asks for a picture of the recipe as it stands.
    fn render(&mut self, quality: Quality) {
        let (Some(engine), Some(_)) = (&self.engine, &self.photo) else { return };
        self.generation += 1;
        self.settle_at = None;
        engine.render(RenderRequest { generation: self.generation, recipe: self.recipe.clone(), quality });
    }

    fn open_path(&mut self, path: PathBuf) {
        self.files.remember(&path);
        if self.send(Request::OpenPath(path)) {
            self.jobs.started(Job::OpeningPhoto);
        }
    }

    fn open_photo(&mut self, photo: Photo) {
        if self.send(Request::OpenPhoto(Box::new(photo))) {
            self.jobs.started(Job::OpeningPhoto);
        }
    }

    fn open_sample(&mut self) {
        match Photo::decode(SAMPLE, "Sample") {
            Ok(photo) => self.open_photo(photo),
            Err(error) => self.notices.trouble("The sample photo could not be opened", error.to_string()),
        }
    }

    fn export(&mut self, path: PathBuf, overwrite: bool) {
        // Told here, before any work: the engine would find out only after the decode.
        if let Err(error) = ExportFormat::of(&path) {
            return self.notices.trouble(error.to_string(), "");
        }
        let options = ExportOptions { overwrite, ..Default::default() };
        let recipe = self.recipe.clone();
        if self.send(Request::Export { path, recipe, options }) {
            self.jobs.started(Job::Exporting);
        }
    }

    // --- from the engine ---

    fn take_events(&mut self, ctx: &egui::Context) {
        let Some(engine) = &self.engine else { return };
        for event in engine.events().clone().try_iter() {
            self.take_event(ctx, event);
        }
    }

    fn take_event(&mut self, ctx: &egui::Context, event: Event) {
        match event {
            Event::ModelLoaded(card) => {
                self.jobs.ended(Job::LoadingModel);
                self.model = Some(card);
                self.step = None;
            }
            Event::PhotoOpened { name, width, height, original, faces: _, frame: _ } => {
                self.jobs.ended(Job::OpeningPhoto);
                self.photo = Some(OpenPhoto { name, width, height });
                self.recipe = self.untouched.clone();
                self.history.clear();
                self.held = None;
                self.render(Quality::Final);
                self.picture.open(ctx, &original, self.generation);
            }
            Event::Reframed { frame: _, original } => {
                self.jobs.ended(Job::OpeningPhoto);
                self.render(Quality::Final);
                self.picture.open(ctx, &original, self.generation);
            }
            Event::LatentsReady => self.jobs.ended(Job::ReadingPhoto),
            Event::Progress { job, done, total } => self.jobs.progress(job, done, total),
            Event::Picture { generation, quality, image, step } => {
                self.step = Some(step);
                if quality == Quality::Final {
                    self.jobs.ended(Job::Rendering);
                }
                self.picture.offer(ctx, Shown { generation, quality }, image);
            }
            Event::Exported { path } => {
                self.jobs.ended(Job::Exporting);
                self.notices.tell(format!("Saved {}", path.display()));
            }
            Event::Cancelled { job } => self.jobs.ended(job),
            Event::Failed { job, message, details } => {
                self.jobs.ended(job);
                self.notices.trouble(message, details);
            }
        }
    }

    // --- commands ---

    fn is_enabled(&self, command: Command) -> bool {
        match command {
            Command::SaveAs => self.photo.is_some() && !self.jobs.is_running(Job::Exporting),
            Command::Undo => self.history.can_undo(),
            Command::Redo => self.history.can_redo(),
            Command::ResetAll => self.recipe.is_changed(),
            Command::CopyPicture => self.picture.shown().is_some(),
            Command::ZoomIn => self.picture.is_open() && self.picture.can_zoom_in(),
            Command::ZoomOut | Command::ZoomToFit => self.picture.is_zoomed(),
            Command::Open | Command::OpenByPath | Command::OpenSample | Command::Paste => self.engine.is_some(),
            Command::Quit | Command::ShowEdited | Command::ShowSplit | Command::ShowSideBySide => true,
        }
    }

    fn is_chosen(&self, command: Command) -> bool {
        compare_of(command) == Some(self.picture.compare)
    }

    fn perform(&mut self, ctx: &egui::Context, command: Command) {
        if !self.is_enabled(command) {
            return;
        }
        match command {
            Command::Open => self.files.ask_open(ctx),
            Command::OpenByPath => self.files.type_path(Purpose::Open, ""),
            Command::OpenSample => self.open_sample(),
            Command::SaveAs => self.files.ask_save(ctx, &self.suggested_name()),
            Command::Quit => ctx.send_viewport_cmd(egui::ViewportCommand::Close),
            Command::Undo => {
                let back = self.history.undo(&self.recipe);
                self.replace_recipe(back);
            }
            Command::Redo => {
                let again = self.history.redo(&self.recipe);
                self.replace_recipe(again);
            }
            Command::ResetAll => {
                let reset = self.untouched.clone();
                let now = ctx.input(|input| input.time);
                self.history.commit(&self.recipe, &reset, Change::Whole, now);
                self.replace_recipe(Some(reset));
            }
            Command::CopyPicture => {
                if let Some(image) = self.picture.to_copy() {
                    ctx.copy_image(image);
                    self.notices.tell("Copied the picture");
                }
            }
            Command::Paste => ctx.send_viewport_cmd(egui::ViewportCommand::RequestPaste),
            Command::ShowEdited | Command::ShowSplit | Command::ShowSideBySide => {
                self.picture.compare = compare_of(command).unwrap_or_default();
            }
            Command::ZoomIn => self.picture.zoom_in(),
            Command::ZoomOut => self.picture.zoom_out(),
            Command::ZoomToFit => self.picture.fit(),
        }
    }

    fn replace_recipe(&mut self, recipe: Option<Recipe>) {
        if let Some(recipe) = recipe {
            self.recipe = recipe;
            self.held = None;
            self.render(Quality::Final);
        }
    }

    fn suggested_name(&self) -> String {
        files::suggested_name(self.photo.as_ref().map_or("", |photo| &photo.name))
    }

    // --- input that is not a widget's ---

    fn take_drops_and_pastes(&mut self, ctx: &egui::Context) {
        let dropped = ctx.input(|input| input.raw.dropped_files.iter().map(|file| file.path().to_owned()).collect::<Vec<_>>());
        if dropped.len() > 1 {
            self.notices.tell("Opened the first of the photos; the window shows one at a time");
        }
        if let Some(path) = dropped.into_iter().next() {
            self.open_path(path);
        }
        let in_text = ctx.text_edit_focused();
        let events = ctx.input(|input| input.events.clone());
        for event in events {
            match event {
                egui::Event::PasteImage(image) => self.paste_image(&image),
                egui::Event::Paste(text) if !in_text => self.paste_text(&text),
                _ => {}
            }
        }
    }

    fn paste_image(&mut self, image: &egui::ColorImage) {
        let [width, height] = image.size.map(|side| side as u32);
        let pixels: Vec<u8> = image.pixels.iter().flat_map(|pixel| pixel.to_srgba_unmultiplied()).collect();
        let Some(pixels) = RgbaImage::from_raw(width, height, pixels) else { return };
        let mut image = DynamicImage::ImageRgba8(pixels);
        if image.as_rgba8().is_some_and(|rgba| rgba.pixels().all(|pixel| pixel.0[3] == 255)) {
            image = DynamicImage::ImageRgb8(image.into_rgb8());
        }
        match Photo::from_image(image, "Pasted picture") {
            Ok(photo) => self.open_photo(photo),
            Err(error) => self.notices.trouble(error.to_string(), ""),
        }
    }

    fn paste_text(&mut self, text: &str) {
        let path = files::path_from_text(text);
        if path.is_file() {
            self.open_path(path);
        } else {
            self.notices.tell("There is no picture, and no path to one, on the clipboard");
        }
    }

    /// Whether a key asks for the original: B, or Space where it does not press a button.
    fn holds_original(ctx: &egui::Context) -> bool {
        let free = !ctx.egui_wants_keyboard_input();
        let in_text = ctx.text_edit_focused();
        ctx.input(|input| {
            input.modifiers == Modifiers::NONE && ((!in_text && input.key_down(Key::B)) || (free && input.key_down(Key::Space)))
        })
    }

    fn take_files(&mut self, ctx: &egui::Context) {
        match self.files.poll(&self.suggested_name()) {
            Some(Outcome::Chosen(chosen)) => self.take_path(chosen),
            Some(Outcome::NoDialog(purpose)) => self.notices.tell(match purpose {
                Purpose::Open => "No file dialog is available here. Drop a photo on the window, paste one, or type its path.",
                Purpose::Save => "No file dialog is available here. Type where to save the photo.",
            }),
            None => {}
        }
        if let Some(chosen) = self.files.show(ctx) {
            self.take_path(chosen);
        }
    }

    fn take_path(&mut self, Chosen { purpose, path, overwrite }: Chosen) {
        match purpose {
            Purpose::Open => self.open_path(path),
            Purpose::Save => self.export(path, overwrite),
        }
    }

    /// Turns what happened to the sliders into requests and undo steps. `before` is the recipe at the start of the frame.
    fn follow(&mut self, ctx: &egui::Context, before: Recipe, touch: Touch) {
        let now = ctx.input(|input| input.time);
        let changed = self.recipe != before;
        match touch {
            Touch::Held { attribute, moved } => {
                let held = self.held.get_or_insert(Held { attribute, from: before, moved: false });
                held.moved |= moved;
                if changed {
                    self.render(Quality::Preview);
                }
            }
            other => {
                if let Some(Held { attribute, from, moved }) = self.held.take() {
                    let change = if moved { Change::Whole } else { Change::Nudge(attribute) };
                    self.history.commit(&from, &self.recipe, change, now);
                    if self.recipe != from || changed {
                        self.render(Quality::Final);
                    }
                } else if let Touch::Changed(change) = other
                    && changed
                {
                    let nudged = matches!(change, Change::Nudge(_));
                    self.history.commit(&before, &self.recipe, change, now);
                    // An arrow key that repeats would drop one final decode after the other and show none.
                    self.render(if nudged { Quality::Preview } else { Quality::Final });
                    self.settle_at = nudged.then_some(now + SETTLE);
                }
            }
        }
        if let Some(time) = self.settle_at {
            if now >= time {
                self.render(Quality::Final);
            } else {
                ctx.request_repaint_after(Duration::from_secs_f64(time - now));
            }
        }
    }

    // --- the areas of the window ---

    /// Draws the whole window.
    pub fn ui(&mut self, ui: &mut Ui) {
        let ctx = ui.ctx().clone();
        let palette = Palette::of(ui.visuals());
        let mut commands = command::pressed(&ctx);
        self.take_drops_and_pastes(&ctx);

        let bar = Frame::new().fill(palette.panel).inner_margin(Margin::symmetric(space::M as i8, 0));
        Panel::top("top bar").exact_size(size::TOP_BAR).frame(bar).show(ui, |ui| self.show_top_bar(ui, &mut commands));
        Panel::bottom("status bar").exact_size(size::STATUS_BAR).frame(bar).show(ui, |ui| {
            let step = self.step.filter(|_| self.show_times);
            status::show(ui, self.photo.as_ref(), self.model.as_deref(), step);
        });

        let before = self.recipe.clone();
        let panel = Frame::new().fill(palette.panel).inner_margin(Margin::same(space::M as i8));
        let touch = Panel::right("sliders")
            .default_size(size::PANEL)
            .size_range(size::PANEL_MIN..=size::PANEL_MAX)
            .frame(panel)
            .show(ui, |ui| {
                // Or the panel would shrink to whatever it shows while the model loads.
                ui.set_min_width(ui.available_width());
                let (touch, command) = self.show_sliders(ui);
                commands.extend(command);
                touch
            })
            .inner;
        self.follow(&ctx, before, touch);

        let canvas = Frame::new().fill(palette.canvas).inner_margin(Margin::symmetric(space::L as i8, 0));
        let area = CentralPanel::default().frame(canvas).show(ui, |ui| self.show_canvas(ui, &mut commands)).response.rect;
        self.show_drop_hint(ui, area);
        self.notices.show(ui, area.with_max_y(area.bottom() - 36.0));
        self.take_files(&ctx);
        for command in commands {
            self.perform(&ctx, command);
        }
    }

    fn show_top_bar(&self, ui: &mut Ui, commands: &mut Vec<Command>) {
        ui.horizontal_centered(|ui| {
            // A menu bar takes all the width that it is given.
            ui.allocate_ui(vec2(size::MENU_BAR, ui.spacing().interact_size.y), |ui| self.show_menus(ui, commands));
            ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
                self.show_button(ui, Command::SaveAs, true, commands);
                self.show_button(ui, Command::Open, false, commands);
                ui.add_space(space::M);
                self.show_button(ui, Command::Redo, false, commands);
                self.show_button(ui, Command::Undo, false, commands);
                ui.add_space(space::M);
                self.show_compare_switch(ui, commands);
            });
        });
    }

    fn show_menus(&self, ui: &mut Ui, commands: &mut Vec<Command>) {
        MenuBar::new().ui(ui, |ui| {
            // Menus are words until they are pointed at, but as large as the buttons.
            ui.spacing_mut().button_padding = vec2(space::S, space::XS);
            for (title, groups) in command::MENUS {
                ui.menu_button(title, |ui| {
                    ui.set_min_width(size::MENU);
                    for (i, group) in groups.iter().enumerate() {
                        if i > 0 {
                            ui.separator();
                        }
                        for command in *group {
                            self.show_menu_item(ui, *command, commands);
                        }
                    }
                });
            }
        });
    }

    /// The ways to compare, as one control.
    fn show_compare_switch(&self, ui: &mut Ui, commands: &mut Vec<Command>) {
        let palette = Palette::of(ui.visuals());
        let background = ui.painter().add(egui::Shape::Noop);
        let mut area = egui::Rect::NOTHING;
        ui.scope(|ui| {
            ui.spacing_mut().item_spacing.x = 2.0;
            // Calmer than the one button that stands out.
            ui.visuals_mut().selection.bg_fill = palette.raised;
            ui.visuals_mut().selection.stroke.color = palette.strong_text;
            for command in [Command::ShowSideBySide, Command::ShowSplit, Command::ShowEdited] {
                let button = ui.add(Button::selectable(self.is_chosen(command), command.label()));
                area |= button.rect;
                if button.on_hover_text(command.tooltip_with_shortcut(ui.ctx())).clicked() {
                    commands.push(command);
                }
            }
        });
        let radius = f32::from(tokens::radius::CONTROL) + 2.0;
        ui.painter().set(background, egui::Shape::rect_filled(area.expand(2.0), radius, palette.canvas));
    }

    fn show_menu_item(&self, ui: &mut Ui, command: Command, commands: &mut Vec<Command>) {
        let mut button = Button::selectable(self.is_chosen(command), command.label());
        if let Some(shortcut) = command.shortcut() {
            button = button.shortcut_text(ui.ctx().format_shortcut(&shortcut));
        }
        if ui.add_enabled(self.is_enabled(command), button).on_hover_text(command.tooltip()).clicked() {
            commands.push(command);
            ui.close();
        }
    }

    fn show_button(&self, ui: &mut Ui, command: Command, primary: bool, commands: &mut Vec<Command>) {
        let palette = Palette::of(ui.visuals());
        let button = if primary {
            Button::new(RichText::new(command.label()).color(palette.on_accent)).fill(palette.accent)
        } else {
            Button::new(command.label())
        };
        let response = ui.add_enabled(self.is_enabled(command), button);
        if response.on_hover_text(command.tooltip_with_shortcut(ui.ctx())).clicked() {
            commands.push(command);
        }
    }

    fn show_sliders(&mut self, ui: &mut Ui) -> (Touch, Option<Command>) {
        match &self.model {
            Some(model) => self.sliders.show(ui, &model.manifest.attributes, &mut self.recipe, self.photo.is_some()),
            None => {
                let loading = self.jobs.is_running(Job::LoadingModel);
                ui.weak(if loading { "The sliders come with the model." } else { "No model is loaded." });
                (Touch::None, None)
            }
        }
    }

    fn show_canvas(&mut self, ui: &mut Ui, commands: &mut Vec<Command>) {
        let strip = Frame::new().inner_margin(Margin::ZERO);
        let quality = self.picture.shown().map(|shown| shown.quality);
        let cancel = Panel::bottom("progress")
            .exact_size(40.0)
            .frame(strip)
            .show_separator_line(false)
            .show(ui, |ui| self.jobs.show(ui, quality))
            .inner;
        if cancel {
            self.send(Request::Cancel);
        }
        if self.picture.is_open() {
            let area = ui.available_rect_before_wrap();
            let area = area.with_min_y(area.top() + space::L);
            let name = self.photo.as_ref().map_or("Picture", |photo| &photo.name);
            let hold_original = Self::holds_original(ui.ctx());
            ui.scope_builder(egui::UiBuilder::new().max_rect(area), |ui| self.picture.show(ui, name, hold_original));
        } else if !self.is_busy() {
            self.show_invitation(ui, commands);
        }
    }

    /// What the canvas shows while no photo is open.
    fn show_invitation(&self, ui: &mut Ui, commands: &mut Vec<Command>) {
        ui.vertical_centered(|ui| {
            ui.add_space((ui.available_height() * 0.5 - 60.0).max(0.0));
            ui.heading("Open a photo of a face");
            ui.weak("Or drop one here, or paste it. It never leaves this machine.");
            ui.add_space(space::M);
            self.show_button(ui, Command::Open, true, commands);
        });
    }

    fn show_drop_hint(&self, ui: &Ui, area: egui::Rect) {
        if ui.input(|input| input.raw.hovered_files.is_empty()) {
            return;
        }
        let palette = Palette::of(ui.visuals());
        let layer = egui::LayerId::new(egui::Order::Foreground, egui::Id::unique("drop hint"));
        let painter = ui.ctx().layer_painter(layer);
        painter.rect(
            area.shrink(space::S),
            f32::from(tokens::radius::CARD),
            palette.panel.gamma_multiply(0.85),
            Stroke::new(2.0, palette.accent),
            egui::StrokeKind::Inside,
        );
        let font = egui::TextStyle::Heading.resolve(ui.style());
        painter.text(area.center(), egui::Align2::CENTER_CENTER, "Drop to open", font, palette.strong_text);
    }
}

fn compare_of(command: Command) -> Option<Compare> {
    match command {
        Command::ShowEdited => Some(Compare::Edited),
        Command::ShowSplit => Some(Compare::Split),
        Command::ShowSideBySide => Some(Compare::SideBySide),
        _ => None,
    }
}

impl eframe::App for StudioApp {
    /// Also called while the window is hidden, so that events never pile up.
    fn logic(&mut self, ctx: &egui::Context, _frame: &mut eframe::Frame) {
        self.take_events(ctx);
    }

    fn ui(&mut self, ui: &mut Ui, _frame: &mut eframe::Frame) {
        Self::ui(self, ui);
    }

    fn save(&mut self, storage: &mut dyn eframe::Storage) {
        eframe::set_value(storage, SETTINGS, &self.settings());
    }
}
