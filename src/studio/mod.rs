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
//! - [`top_bar`]. [`canvas`]: the picture's area. [`picture`]: before and after. [`close_up`]: it zoomed in. [`frame`]: which face, and the frame by hand.
//! - [`sliders`]: the panel. [`shelf`]: the open photos.
//! - [`interpolation`]: the view between two photos. [`explore`]: made-up faces. [`inspector`]: from noise to picture.
//! - [`find_command`]: the command palette. [`about`]: boxes about program and model. [`models`]: what models there are.
//! - [`progress`]: the strip under the picture. [`status`]: the status bar. [`notices`]: messages.
//! - [`history`]: undo and redo. [`history_strip`]: its steps as pictures, snapshots. [`presets`]: edits by name.
//! - [`closing`]: not before everything is saved.
//! - [`files`]: dialogs and typed paths. [`export`]: saving. [`session`]: what was open the last time. [`settings`]: their file.
//! - [`tokens`]: distances, sizes and colours. [`timed`]: a start for `bench`.

pub mod about;
mod actions;
mod canvas;
mod close_up;
mod closing;
pub mod command;
mod dragging;
mod events;
pub mod explore;
pub mod export;
pub mod files;
pub mod find_command;
pub mod frame;
pub mod history;
pub mod history_strip;
mod input;
pub mod inspector;
pub mod interpolation;
pub mod models;
pub mod notices;
pub mod picture;
pub mod presets;
pub mod progress;
mod requests;
pub mod session;
mod settings;
pub mod shelf;
pub mod sliders;
pub mod status;
pub mod timed;
pub mod tokens;
mod top_bar;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use egui::{CentralPanel, Frame, Margin, Panel, ThemePreference, Ui};
use serde::{Deserialize, Serialize};

use crate::device::DeviceChoice;
use crate::editing::Recipe;
use crate::engine::close_up::Part;
use crate::engine::{Engine, Job, ModelCard, PhotoId};
use about::About;
use command::Command;
use dragging::Held;
use explore::{Explore, Means};
use export::Export;
use files::Files;
use find_command::FindCommand;
use frame::Framing;
use history::History;
use history_strip::{Looks, Snapshot};
use input::Postponed;
use inspector::Inspector;
use interpolation::Interpolate;
use notices::Notices;
use picture::{Compare, Picture, Shown};
use presets::{Preset, Presets};
use progress::Jobs;
use requests::Expected;
use session::{Restoring, SavedPhoto};
use settings::{Keeping, Start};
use shelf::Shelf;
use sliders::{Sliders, Touch};
use status::OpenPhoto;
use tokens::{Palette, size, space};

const TITLE: &str = "PDAE Studio";
/// Also the folder of the settings.
const APP_ID: &str = "pdae-studio";
/// Opens when no photo was named, so that the sliders have something to work on.
const SAMPLE: &[u8] = include_bytes!("../../assets/portraits/sample.jpg");
/// What it is called.
const SAMPLE_NAME: &str = "Sample";
/// How often settings and session are written, if there was any change.
const SAVE_INTERVAL: Duration = Duration::from_secs(10);
/// Denoising steps in tests.
const TEST_STEPS: usize = 3;

/// What the command line decided.
#[derive(Debug, Clone)]
pub struct StartOptions {
    pub bundle: PathBuf,
    /// `None`: the sample photo.
    pub photo: Option<PathBuf>,
    pub device: DeviceChoice,
    /// For what the program keeps itself: imported models, pictures without a file. `None`: nothing is kept.
    pub folder: Option<PathBuf>,
}

/// The program's own folder, beside its settings; `None` where the system names no such place.
pub fn own_folder() -> Option<PathBuf> {
    eframe::storage_dir(APP_ID)
}

/// Opens the window and stays until it is closed.
pub fn run(options: StartOptions) -> Result<(), eframe::Error> {
    eframe::run_native(APP_ID, native_options(), Box::new(|cc| Ok(Box::new(StudioApp::new(cc, options)))))
}

fn native_options() -> eframe::NativeOptions {
    let viewport = egui::ViewportBuilder::default()
        .with_title(TITLE)
        .with_app_id(APP_ID)
        .with_inner_size([1180.0, 760.0])
        .with_min_inner_size([900.0, 600.0])
        .with_drag_and_drop(true);
    eframe::NativeOptions { viewport, renderer: eframe::Renderer::Wgpu, ..Default::default() }
}

/// Whether there is a screen to open a window on. Only systems with X11 or Wayland can tell beforehand.
pub fn has_display() -> bool {
    let display_server = cfg!(all(unix, not(any(target_os = "macos", target_os = "ios", target_os = "android"))));
    let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    !display_server || set("DISPLAY") || set("WAYLAND_DISPLAY") || set("WAYLAND_SOCKET")
}

/// What the window is used for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Workspace {
    /// One photo, with sliders.
    #[default]
    Photo,
    /// The way between two.
    Interpolate,
    /// Made-up faces.
    Explore,
}

/// What is remembered from one start to the next. Window size and panel width are kept by the framework.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Settings {
    compare: Compare,
    last_folder: Option<PathBuf>,
    export: export::Choices,
    recent: Vec<PathBuf>,
    used_models: Vec<PathBuf>,
    theme: ThemePreference,
    interpolation: interpolation::Options,
    favourites: BTreeSet<String>,
    presets: Vec<Preset>,
    show_history: bool,
    shows_hint: bool,
    session: Vec<SavedPhoto>,
    closed: Vec<SavedPhoto>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            compare: Compare::default(),
            last_folder: None,
            export: export::Choices::default(),
            recent: Vec::new(),
            used_models: Vec::new(),
            theme: ThemePreference::System,
            interpolation: interpolation::Options::default(),
            favourites: BTreeSet::new(),
            presets: Vec::new(),
            show_history: true,
            shows_hint: true,
            session: Vec::new(),
            closed: Vec::new(),
        }
    }
}

/// The window's state.
pub struct StudioApp {
    /// `None` where the system gave no thread.
    engine: Option<Engine>,
    model: Option<Arc<ModelCard>>,
    /// The present photo.
    photo: Option<OpenPhoto>,
    shelf: Shelf,
    workspace: Workspace,
    interpolate: Interpolate,
    explore: Explore,
    inspector: Inspector,
    /// The present photo's edit.
    recipe: Recipe,
    /// What a new photo starts with.
    untouched: Recipe,
    history: History,
    snapshots: Vec<Snapshot>,
    looks: Looks,
    held: Option<Held>,
    /// The photo whose slider is held is no longer the present one: what the pointer does until it is let go means nothing.
    drags_on: bool,
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
    presets: Presets,
    restoring: Restoring,
    /// The photos that the engine was asked to open and has not answered for.
    opening: BTreeMap<PhotoId, Expected>,
    /// The next one that it is asked to open.
    next_photo: u64,
    /// Pictures without a file that the engine still writes to one of the program's own.
    storing: usize,
    /// The window is to close once everything is saved.
    closing: bool,
    /// See [`StartOptions::folder`].
    folder: Option<PathBuf>,
    keeping: Keeping,
    postponed: Postponed,
    /// When the first change was made that is not saved yet, in the frame clock's seconds.
    unsaved_since: Option<f64>,
    show_history: bool,
    /// Until the first slider is moved.
    shows_hint: bool,
    find_command: Option<FindCommand>,
    about: Option<About>,
    /// Newest first.
    recent: Vec<PathBuf>,
    used_models: Vec<PathBuf>,
    /// What can be computed on, once that was asked for.
    devices: Vec<(DeviceChoice, String)>,
    asked_for_devices: bool,
    theme: ThemePreference,
    step: Option<Duration>,
    show_times: bool,
}

impl StudioApp {
    /// The window inside eframe, with what it remembers.
    pub fn new(cc: &eframe::CreationContext<'_>, options: StartOptions) -> Self {
        let (ctx, wake) = (&cc.egui_ctx, cc.egui_ctx.clone());
        let StartOptions { bundle, photo, device, folder } = options;
        let mut app = Self::on_engine(ctx, Engine::start(bundle, device, move || wake.request_repaint()));
        let Start { keeping, settings, is_whole, is_second, unreadable } = Start::read(folder.as_deref(), cc.storage);
        (app.folder, app.keeping) = (folder, keeping);
        if let Some(details) = unreadable {
            app.notices.trouble("The settings could not be read. What was open the last time is not opened", details);
        }
        if is_second {
            app.notices.tell("Another window is open. What is done in this one is not there after a restart");
        }
        let session = app.remember(ctx, settings);
        if is_whole {
            app.remove_left_behind(&session);
        }
        app.open_first(photo, session);
        app
    }

    /// On an engine that was started already, and without anything remembered: for tests without a model.
    pub fn with_engine(ctx: &egui::Context, engine: std::io::Result<Engine>, photo: Option<PathBuf>) -> Self {
        let mut app = Self::on_engine(ctx, engine);
        app.open_first(photo, Vec::new());
        app
    }

    fn on_engine(ctx: &egui::Context, engine: std::io::Result<Engine>) -> Self {
        tokens::apply(ctx);
        // Ctrl with plus and minus zoom the picture, not the window.
        ctx.options_mut(|options| options.zoom_with_keyboard = false);
        let mut app = Self {
            engine: None,
            model: None,
            photo: None,
            shelf: Shelf::default(),
            workspace: Workspace::default(),
            interpolate: Interpolate::default(),
            explore: Explore::default(),
            inspector: Inspector::default(),
            recipe: Recipe::default(),
            untouched: Recipe::default(),
            history: History::default(),
            snapshots: Vec::new(),
            looks: Looks::default(),
            held: None,
            drags_on: false,
            settle_at: None,
            generation: 0,
            picture: Picture::default(),
            framing: Framing::default(),
            sliders: Sliders::default(),
            notices: Notices::default(),
            jobs: Jobs::default(),
            files: Files::default(),
            export: Export::default(),
            presets: Presets::default(),
            restoring: Restoring::default(),
            opening: BTreeMap::new(),
            next_photo: 1,
            storing: 0,
            closing: false,
            folder: None,
            keeping: Keeping::Framework,
            postponed: Postponed::default(),
            unsaved_since: None,
            show_history: true,
            shows_hint: true,
            find_command: None,
            about: None,
            recent: Vec::new(),
            used_models: Vec::new(),
            devices: Vec::new(),
            asked_for_devices: false,
            theme: ThemePreference::System,
            step: None,
            show_times: true,
        };
        match engine {
            Ok(engine) => {
                app.engine = Some(engine);
                app.jobs.started(Job::LoadingModel);
            }
            Err(error) => app.notices.trouble("The engine could not be started. Close some programs and start again", error.to_string()),
        }
        app
    }

    /// Takes up what was remembered; returns what was open.
    fn remember(&mut self, ctx: &egui::Context, settings: Settings) -> Vec<SavedPhoto> {
        self.picture.compare = settings.compare;
        self.export.choices = settings.export;
        self.recent = settings.recent;
        self.used_models = settings.used_models;
        self.interpolate.options = settings.interpolation;
        self.sliders.favourites = settings.favourites;
        self.presets = Presets::new(settings.presets);
        self.show_history = settings.show_history;
        self.shows_hint = settings.shows_hint;
        self.set_theme(ctx, settings.theme);
        self.files.last_folder = self.files.last_folder.take().or(settings.last_folder.filter(|folder| folder.is_dir()));
        self.restoring.set_closed(settings.closed);
        settings.session
    }

    /// What was open the last time, and the named photo in front of it; the sample where there is neither.
    fn open_first(&mut self, photo: Option<PathBuf>, mut session: Vec<SavedPhoto>) {
        if self.engine.is_none() {
            return self.keep_session(session);
        }
        let photo = photo.map(|path| std::path::absolute(&path).unwrap_or(path));
        let was_open = photo.as_ref().is_some_and(|path| session::put_in_front(&mut session, path));
        let restores = self.restore(session);
        match photo {
            Some(path) if was_open => self.remember_path(&path),
            Some(path) => self.open_path(path),
            None if restores => {}
            None => self.open_sample(),
        }
    }

    /// For tests: few steps, nothing on the screen that differs from run to run, and no dialogs of the system.
    #[must_use]
    pub fn for_tests(mut self) -> Self {
        self.untouched.steps = TEST_STEPS;
        self.recipe = self.untouched.clone();
        self.show_times = false;
        self.shows_hint = false;
        self.files.system_dialogs = false;
        self
    }

    /// The model in use, once it is loaded.
    pub fn model(&self) -> Option<&ModelCard> {
        self.model.as_deref()
    }

    /// The names of what can be computed on, once that was asked for.
    pub fn devices(&self) -> Vec<&str> {
        self.devices.iter().map(|(_, name)| name.as_str()).collect()
    }

    /// The edit as it stands.
    pub fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    /// Which decode is on the screen; `None` while it is the original.
    pub fn shown(&self) -> Option<Shown> {
        self.picture.shown()
    }

    /// The part of the photo that is shown at its own resolution, in its pixels, if there is one with the edit on the screen.
    pub fn close_up(&self) -> Option<Part> {
        self.picture.close_up()
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
        let jobs = [Job::LoadingModel, Job::OpeningPhoto, Job::ReadingPhoto, Job::Exporting, Job::WritingSequence];
        jobs.into_iter().any(|job| self.jobs.is_running(job))
    }

    /// The open photos.
    pub fn photos(&self) -> usize {
        self.shelf.len()
    }

    /// The view of made-up faces.
    pub fn exploration(&self) -> &Explore {
        &self.explore
    }

    pub fn inspector(&self) -> &Inspector {
        &self.inspector
    }

    /// The interpolation view.
    pub fn interpolation(&self) -> &Interpolate {
        &self.interpolate
    }

    fn settings(&self) -> Settings {
        // Settings are text. A name that is none would keep all others from being saved.
        let texts = |paths: &[PathBuf]| paths.iter().filter(|path| path.to_str().is_some()).cloned().collect();
        Settings {
            compare: self.picture.compare,
            last_folder: self.files.last_folder.clone().filter(|folder| folder.to_str().is_some()),
            export: self.export.choices,
            recent: texts(&self.recent),
            used_models: texts(&self.used_models),
            theme: self.theme,
            interpolation: self.interpolate.options.clone(),
            favourites: self.sliders.favourites.clone(),
            presets: self.presets.list().to_vec(),
            show_history: self.show_history,
            shows_hint: self.shows_hint,
            session: self.session(),
            closed: self.restoring.closed_files(),
        }
    }

    /// Draws the whole window.
    pub fn ui(&mut self, ui: &mut Ui) {
        let ctx = ui.ctx().clone();
        let palette = Palette::of(ui.visuals());
        // What lies over the window has the keys to itself: a command would change what it asks about.
        let covered = ctx.memory(|memory| memory.top_modal_layer()).is_some();
        let mut commands = if covered { Vec::new() } else { command::pressed(&ctx) };
        self.take_drops_and_pastes(&ctx);
        self.save_soon(&ctx);

        let bar = Frame::new().fill(palette.panel).inner_margin(Margin::symmetric(space::M as i8, 0));
        Panel::top("top bar").exact_size(size::TOP_BAR).frame(bar).show(ui, |ui| self.show_top_bar(ui, &mut commands));
        Panel::bottom("status bar").exact_size(size::STATUS_BAR).frame(bar).show(ui, |ui| {
            let step = self.step.filter(|_| self.show_times);
            status::show(ui, self.photo.as_ref(), self.model.as_deref(), step);
        });

        self.show_shelf(ui);
        let before = self.recipe.clone();
        let mut touch = self.show_side_panel(ui, &mut commands);
        if self.drags_on(&ctx) {
            (self.recipe, touch) = (before.clone(), Touch::None);
        }
        self.follow(&ctx, before, touch);

        let canvas = Frame::new().fill(palette.canvas).inner_margin(Margin::symmetric(space::L as i8, 0));
        let area = CentralPanel::default().frame(canvas).show(ui, |ui| self.show_canvas(ui, &mut commands)).response.rect;
        self.follow_interpolation();
        self.show_drop_hint(ui, area);
        self.notices.show(ui, area.with_max_y(area.bottom() - 36.0));
        self.take_files(&ctx);
        commands.extend(self.show_boxes(&ctx));
        for command in commands {
            self.perform(&ctx, command);
        }
    }

    /// The panel at the right; returns what happened to the sliders.
    fn show_side_panel(&mut self, ui: &mut Ui, commands: &mut Vec<Command>) -> Touch {
        let palette = Palette::of(ui.visuals());
        let frame = Frame::new().fill(palette.panel).inner_margin(Margin::same(space::M as i8));
        match self.workspace {
            Workspace::Photo => {
                let panel = Panel::right("sliders").default_size(size::PANEL).size_range(size::PANEL_MIN..=size::PANEL_MAX);
                let shown = panel.frame(frame).show(ui, |ui| {
                    // Or the panel would shrink to whatever it shows while the model loads.
                    ui.set_min_width(ui.available_width());
                    let (touch, command) = self.show_sliders(ui);
                    commands.extend(command);
                    touch
                });
                shown.inner
            }
            Workspace::Interpolate => {
                let panel = Panel::right("interpolation").exact_size(size::OPTIONS).frame(frame);
                let can_save = self.is_enabled(Command::SaveStrip);
                panel.show(ui, |ui| self.interpolate.show_options(ui, &self.shelf, can_save, commands));
                Touch::None
            }
            Workspace::Explore => {
                let means = Means {
                    has_latent_dpm: self.model.as_ref().is_some_and(|model| model.manifest.config.latent_dpm.is_some()),
                    photo: self.shelf.present(),
                };
                let panel = Panel::right("explore").exact_size(size::OPTIONS).frame(frame);
                let wanted = panel.show(ui, |ui| self.explore.show_options(ui, means, &self.recipe, self.untouched.steps)).inner;
                if let Some(request) = wanted
                    && self.send(request)
                {
                    self.jobs.started(Job::Sampling);
                }
                Touch::None
            }
        }
    }

    /// What lies over the window.
    fn show_boxes(&mut self, ctx: &egui::Context) -> Option<Command> {
        if let Some(about) = self.about
            && !about.show(ctx, self.model.as_deref())
        {
            self.about = None;
        }
        // The chain begins at the photo's own noise, which must be known.
        let photo = self.shelf.present().filter(|_| !self.jobs.is_running(Job::ReadingPhoto));
        let looks = self.inspector.show(ctx, &self.recipe, photo);
        if let Some(request) = looks {
            if self.send(request) {
                self.jobs.started(Job::Inspecting);
            } else {
                self.inspector.break_off();
            }
        }
        let mut find = self.find_command.take()?;
        match find.show(ctx, |command| self.is_enabled(command)) {
            Some(chosen) => chosen,
            None => {
                self.find_command = Some(find);
                None
            }
        }
    }
}

impl eframe::App for StudioApp {
    fn raw_input_hook(&mut self, ctx: &egui::Context, input: &mut egui::RawInput) {
        if self.postponed.postpone(&mut input.events) {
            ctx.request_repaint();
        }
    }

    /// Also called while the window is hidden, so that events never pile up.
    fn logic(&mut self, ctx: &egui::Context, _frame: &mut eframe::Frame) {
        self.take_events(ctx);
        self.finish_interpolation();
        self.close_when_saved(ctx);
    }

    fn ui(&mut self, ui: &mut Ui, _frame: &mut eframe::Frame) {
        Self::ui(self, ui);
    }

    fn auto_save_interval(&self) -> Duration {
        SAVE_INTERVAL
    }

    fn save(&mut self, storage: &mut dyn eframe::Storage) {
        let settings = self.settings();
        self.keeping.keep(&settings, storage);
        self.unsaved_since = None;
    }
}
