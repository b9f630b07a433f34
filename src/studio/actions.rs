//! What each command does, and when it can be had.

use super::StudioApp;
use super::command::Command;
use super::files;
use super::history::Change;
use super::picture::Compare;
use crate::editing::Recipe;
use crate::engine::{Job, Quality};

impl StudioApp {
    pub(super) fn is_enabled(&self, command: Command) -> bool {
        match command {
            Command::SaveAs => self.photo.is_some() && !self.jobs.is_running(Job::Exporting),
            Command::Undo => self.history.can_undo(),
            Command::Redo => self.history.can_redo(),
            Command::ResetAll => self.recipe.is_changed(),
            Command::AdjustFrame => self.photo.is_some() && !self.framing.is_adjusting(),
            Command::CopyPicture => self.picture.shown().is_some(),
            Command::ZoomIn => self.picture.is_open() && self.picture.can_zoom_in(),
            Command::ZoomOut | Command::ZoomToFit => self.picture.is_zoomed(),
            Command::Open | Command::OpenByPath | Command::OpenSample | Command::Paste => self.engine.is_some(),
            Command::Quit | Command::ShowEdited | Command::ShowSplit | Command::ShowSideBySide => true,
        }
    }

    pub(super) fn is_chosen(&self, command: Command) -> bool {
        compare_of(command) == Some(self.picture.compare)
    }

    pub(super) fn perform(&mut self, ctx: &egui::Context, command: Command) {
        if !self.is_enabled(command) {
            return;
        }
        match command {
            Command::Open => self.files.ask_open(ctx),
            Command::OpenByPath => self.files.type_path(),
            Command::OpenSample => self.open_sample(),
            Command::SaveAs => self.export.open(&self.files.suggested_path(&self.suggested_name())),
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
            Command::AdjustFrame => self.framing.start_adjusting(),
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

    pub(super) fn replace_recipe(&mut self, recipe: Option<Recipe>) {
        if let Some(recipe) = recipe {
            self.recipe = recipe;
            self.held = None;
            self.render(Quality::Final);
        }
    }

    pub(super) fn suggested_name(&self) -> String {
        files::suggested_name(self.photo.as_ref().map_or("", |photo| &photo.name))
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
