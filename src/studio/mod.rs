//! The window. It sends requests to the engine, shows the events that come back, and never waits for either.
//!
//! This file holds the state and the layout; what happens to the state has a file each:
//!
//! - [`requests`]: to the engine. [`events`]: from it.
//! - [`command`]: everything a person can tell the window to do, for menus, shortcuts and buttons. [`actions`]: how it is done.
//! - [`dragging`]: from sliders to pictures and undo steps. [`input`]: drops, pastes and dialogs' answers.
//!
//! The areas and their parts:
//!
//! - [`top_bar`]. [`canvas`]: the picture's area. [`picture`]: before and after. [`frame`]: which face, and the frame by hand.
//! - [`sliders`]: the panel.
//! - [`progress`]: the strip under the picture. [`status`]: the status bar. [`notices`]: messages.
//! - [`files`]: dialogs and typed paths. [`export`]: saving. [`history`]: undo and redo. [`tokens`]: distances, sizes and colours.

mod actions;
mod canvas;
pub mod command;
mod dragging;
mod events;
pub mod export;
pub mod files;
pub mod frame;
pub mod history;
mod input;
pub mod notices;
pub mod picture;
pub mod progress;
mod requests;
pub mod sliders;
pub mod status;
pub mod tokens;
mod top_bar;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use egui::{CentralPanel, Frame, Margin, Panel, Ui};
use serde::{Deserialize, Serialize};

use crate::device::DeviceChoice;
use crate::editing::Recipe;
use crate::engine::{Engine, Job, ModelCard};
use dragging::Held;
use export::Export;
use files::Files;
use frame::Framing;
use history::History;
use notices::Notices;
use picture::{Compare, Picture, Shown};
use progress::Jobs;
use sliders::Sliders;
use status::OpenPhoto;
use tokens::{Palette, size, space};

const TITLE: &str = "PDAE Studio";
/// Also the folder of the settings.
const APP_ID: &str = "pdae-studio";
/// The key of [`Settings`] in the settings file.
const SETTINGS: &str = "studio";
/// Opens when no photo was named, so that the sliders have something to work on.
const SAMPLE: &[u8] = include_bytes!("../../assets/portraits/sample.jpg");
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
    export: export::Choices,
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
    framing: Framing,
    sliders: Sliders,
    notices: Notices,
    jobs: Jobs,
    files: Files,
    export: Export,
    step: Option<Duration>,
    show_times: bool,
}

impl StudioApp {
    /// The window inside eframe, with what it remembers.
    pub fn new(cc: &eframe::CreationContext<'_>, options: StartOptions) -> Self {
        let mut app = Self::with_context(&cc.egui_ctx, options);
        if let Some(settings) = cc.storage.and_then(|storage| eframe::get_value::<Settings>(storage, SETTINGS)) {
            app.picture.compare = settings.compare;
            app.export.choices = settings.export;
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
            framing: Framing::default(),
            sliders: Sliders::default(),
            notices: Notices::default(),
            jobs: Jobs::default(),
            files: Files::default(),
            export: Export::default(),
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

    /// The part of the photo that is edited, once one is open.
    pub fn frame(&self) -> Option<crate::photo::Frame> {
        self.framing.frame()
    }

    /// The text of the path field, if it is open.
    pub fn path_text_mut(&mut self) -> Option<&mut String> {
        self.files.path_text_mut().or(self.export.path_text_mut())
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
        Settings { compare: self.picture.compare, last_folder: self.files.last_folder.clone(), export: self.export.choices }
    }

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
