//! What each command does, and when it can be had.

use egui::ThemePreference;

use super::about::About;
use super::command::Command;
use super::files::{self, Purpose};
use super::find_command::FindCommand;
use super::history::Change;
use super::history_strip::Snapshot;
use super::interpolation::unedited;
use super::picture::{self, Compare};
use super::{StudioApp, Workspace};
use crate::editing::Recipe;
use crate::engine::{Job, Quality};

impl StudioApp {
    pub(super) fn is_enabled(&self, command: Command) -> bool {
        match command {
            Command::SaveAs => self.photo.is_some() && !self.jobs.is_running(Job::Exporting),
            // Elsewhere nobody would see what they do.
            Command::Undo => self.workspace == Workspace::Photo && self.history.can_undo(),
            Command::Redo => self.workspace == Workspace::Photo && self.history.can_redo(),
            Command::ResetAll => self.workspace == Workspace::Photo && self.recipe.is_changed(),
            Command::ReopenClosed => self.engine.is_some() && self.restoring.has_closed(),
            Command::CopyPicture => self.picture.shown().is_some(),
            Command::ZoomIn => self.workspace == Workspace::Photo && self.picture.is_open() && self.picture.can_zoom_in(),
            Command::ZoomOut | Command::ZoomToFit => self.workspace == Workspace::Photo && self.picture.is_zoomed(),
            Command::ActualSize => self.workspace == Workspace::Photo && self.picture.can_show_actual_size(),
            Command::Open | Command::OpenByPath | Command::OpenSample | Command::Paste => self.engine.is_some(),
            Command::AdjustFrame => self.photo.is_some() && !self.framing.is_adjusting(),
            Command::ClosePhoto => self.shelf.present().is_some(),
            Command::KeepSnapshot => self.photo.is_some() && !self.snapshots.iter().any(|snapshot| snapshot.recipe == self.recipe),
            Command::SaveBetween | Command::SaveStrip | Command::SaveAnimation => {
                let is_busy = self.interpolate.is_exporting() || self.jobs.is_running(Job::WritingSequence);
                self.workspace == Workspace::Interpolate && self.interpolate.can_play() && !is_busy
            }
            Command::Play | Command::SwapEnds => self.workspace == Workspace::Interpolate && self.interpolate.can_play(),
            Command::ChooseModel | Command::ImportModel => self.engine.is_some() && !self.jobs.is_running(Job::Importing),
            Command::ShowModelCard => self.model.is_some(),
            Command::Inspect => self.photo.is_some(),
            Command::Quit
            | Command::FindCommand
            | Command::GoPhoto
            | Command::GoInterpolate
            | Command::GoExplore
            | Command::ShowEdited
            | Command::ShowSplit
            | Command::ShowSideBySide
            | Command::ShowDifference
            | Command::ShowHistory
            | Command::SystemTheme
            | Command::LightTheme
            | Command::DarkTheme
            | Command::About => true,
        }
    }

    pub(super) fn is_chosen(&self, command: Command) -> bool {
        compare_of(command) == Some(self.picture.compare)
            || theme_of(command) == Some(self.theme)
            || workspace_of(command) == Some(self.workspace)
            || (command == Command::ShowHistory && self.show_history)
    }

    pub(super) fn perform(&mut self, ctx: &egui::Context, command: Command) {
        if !self.is_enabled(command) {
            return;
        }
        match command {
            Command::Open => self.files.ask(ctx, Purpose::Open, ""),
            Command::OpenByPath => self.files.type_path(Purpose::Open, ""),
            Command::OpenSample => self.open_sample(),
            Command::SaveAs => {
                if let Some(id) = self.shelf.present() {
                    self.export.open(id, &self.files.suggested_path(&self.suggested_name(Purpose::Save)));
                }
            }
            Command::SaveBetween => {
                self.interpolate.mark();
                self.ask_where(ctx, Purpose::SavePicture);
            }
            Command::SaveStrip => self.ask_where(ctx, Purpose::SaveStrip),
            Command::SaveAnimation => self.ask_where(ctx, Purpose::SaveAnimation),
            Command::ClosePhoto => {
                if let Some(id) = self.shelf.present() {
                    self.close(ctx, id);
                }
            }
            Command::ReopenClosed => {
                self.reopen(|_| true);
            }
            Command::FindCommand => self.find_command = Some(FindCommand::new()),
            Command::Play => self.interpolate.play_or_pause(),
            Command::SwapEnds => self.interpolate.swap(),
            Command::ChooseModel => self.files.ask(ctx, Purpose::Model, ""),
            Command::ImportModel => self.files.ask(ctx, Purpose::Checkpoints, ""),
            Command::ShowModelCard => self.about = Some(About::Model),
            Command::About => self.about = Some(About::Program),
            Command::Inspect => self.inspector.is_open = true,
            Command::GoPhoto | Command::GoInterpolate | Command::GoExplore => self.go(workspace_of(command).unwrap_or_default()),
            Command::SystemTheme | Command::LightTheme | Command::DarkTheme => self.set_theme(ctx, theme_of(command).unwrap_or_default()),
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
                // Locks and advanced settings are no edit.
                self.apply(ctx, unedited(&self.recipe));
            }
            Command::AdjustFrame => {
                self.go(Workspace::Photo);
                self.framing.start_adjusting();
            }
            Command::KeepSnapshot => {
                let name = (self.snapshots.len() + 1).to_string();
                self.snapshots.push(Snapshot { name, recipe: self.recipe.clone() });
                self.show_history = true;
            }
            Command::ShowHistory => self.show_history = !self.show_history,
            Command::CopyPicture => {
                let between = self.interpolate.picture().filter(|_| self.workspace == Workspace::Interpolate);
                let image = between.map(|image| picture::pixels(image)).or_else(|| self.picture.to_copy());
                if let Some(image) = image {
                    ctx.copy_image(image);
                    self.notices.tell("Copied the picture");
                }
            }
            Command::Paste => ctx.send_viewport_cmd(egui::ViewportCommand::RequestPaste),
            Command::ShowEdited | Command::ShowSplit | Command::ShowSideBySide | Command::ShowDifference => {
                self.go(Workspace::Photo);
                self.picture.compare = compare_of(command).unwrap_or_default();
            }
            Command::ZoomIn => self.picture.zoom_in(),
            Command::ZoomOut => self.picture.zoom_out(),
            Command::ZoomToFit => self.picture.fit(),
            Command::ActualSize => self.picture.show_actual_size(),
        }
    }

    /// Changes to another edit, as one step of the history.
    pub(super) fn apply(&mut self, ctx: &egui::Context, recipe: Recipe) {
        let now = ctx.input(|input| input.time);
        self.history.commit(&self.recipe, &recipe, Change::Whole, now);
        self.replace_recipe(Some(recipe));
    }

    pub(super) fn replace_recipe(&mut self, recipe: Option<Recipe>) {
        if let Some(recipe) = recipe {
            self.recipe = recipe;
            self.held = None;
            self.render(Quality::Final);
        }
    }

    /// A file name for what is written.
    pub(super) fn suggested_name(&self, purpose: Purpose) -> String {
        let name = match purpose {
            Purpose::Save => self.photo.as_ref().map_or("", |photo| &photo.name).to_owned(),
            _ => self.interpolate.name(&self.shelf),
        };
        let name = name.as_str();
        match purpose {
            Purpose::Save => files::suggested_name(name, "edited.png"),
            Purpose::SavePicture => files::suggested_name(name, &format!("{:.0}-percent.png", self.interpolate.marked() * 100.0)),
            Purpose::SaveStrip => files::suggested_name(name, "strip.png"),
            Purpose::SaveAnimation => files::suggested_name(name, "animation.gif"),
            Purpose::Open | Purpose::Model | Purpose::Checkpoints => String::new(),
        }
    }

    fn ask_where(&mut self, ctx: &egui::Context, purpose: Purpose) {
        let suggestion = self.suggested_name(purpose);
        self.files.ask(ctx, purpose, &suggestion);
    }

    pub(super) fn set_theme(&mut self, ctx: &egui::Context, theme: ThemePreference) {
        self.theme = theme;
        ctx.set_theme(theme);
    }
}

fn theme_of(command: Command) -> Option<ThemePreference> {
    match command {
        Command::SystemTheme => Some(ThemePreference::System),
        Command::LightTheme => Some(ThemePreference::Light),
        Command::DarkTheme => Some(ThemePreference::Dark),
        _ => None,
    }
}

fn workspace_of(command: Command) -> Option<Workspace> {
    match command {
        Command::GoPhoto => Some(Workspace::Photo),
        Command::GoInterpolate => Some(Workspace::Interpolate),
        Command::GoExplore => Some(Workspace::Explore),
        _ => None,
    }
}

fn compare_of(command: Command) -> Option<Compare> {
    match command {
        Command::ShowEdited => Some(Compare::Edited),
        Command::ShowSplit => Some(Compare::Split),
        Command::ShowSideBySide => Some(Compare::SideBySide),
        Command::ShowDifference => Some(Compare::Difference),
        _ => None,
    }
}
