//! The areas beside the bars: the slider panel, the picture with the strip under it, what stands in for a picture.

use egui::{Align, Button, Frame, Layout, Margin, Panel, Role, Stroke, Ui, WidgetInfo};

use super::command::Command;
use super::frame;
use super::history::Change;
use super::history_strip::{self, Wish};
use super::inspector;
use super::shelf::Choice;
use super::sliders::Touch;
use super::tokens::{self, Palette, size, space};
use super::{StudioApp, Workspace};
use crate::engine::{Job, Quality, Request};

/// Shown until the first slider is moved.
const HINT: &str = "Drag a slider to change the face. Hold B to see the original.";

impl StudioApp {
    pub(super) fn show_sliders(&mut self, ui: &mut Ui) -> (Touch, Option<Command>) {
        match &self.model {
            Some(model) => {
                let (mut preset, recipe) = (None, self.recipe.clone());
                let (presets, inspector, attributes) = (&mut self.presets, &mut self.inspector, &model.manifest.attributes);
                let shown = self.sliders.show(
                    ui,
                    attributes,
                    &mut self.recipe,
                    self.photo.is_some(),
                    |ui| preset = presets.show(ui, &recipe),
                    |ui, recipe| inspector::show_settings(ui, recipe, inspector),
                );
                if let Some(preset) = preset {
                    // Followed as any other change to the recipe.
                    self.recipe = preset;
                    return (Touch::Changed(Change::Whole), shown.1);
                }
                shown
            }
            None => {
                let loading = self.jobs.is_running(Job::LoadingModel);
                ui.weak(if loading { "The sliders come with the model." } else { "No model is loaded." });
                (Touch::None, None)
            }
        }
    }

    pub(super) fn show_canvas(&mut self, ui: &mut Ui, commands: &mut Vec<Command>) {
        tokens::stand_out_from_canvas(ui);
        let quality = match self.workspace {
            Workspace::Photo => self.picture.shown().map(|shown| shown.quality),
            Workspace::Interpolate => self.interpolate.quality(),
            Workspace::Explore => None,
        };
        self.show_progress(ui, quality);
        match self.workspace {
            Workspace::Photo if self.picture.is_open() => {
                self.show_history_strip(ui);
                self.show_compare_bar(ui, commands);
                let in_row = self.framing.show_row(ui);
                let area = ui.available_rect_before_wrap();
                let in_picture = ui.scope_builder(egui::UiBuilder::new().max_rect(area), |ui| self.show_picture(ui)).inner;
                match in_row.or(in_picture) {
                    Some(frame::Choice::Adjust) => self.framing.start_adjusting(),
                    Some(frame::Choice::Use(frame)) => self.reframe(frame),
                    None => {}
                }
            }
            Workspace::Interpolate if !self.shelf.is_empty() => self.interpolate.show(ui, &self.shelf, commands),
            Workspace::Explore => {
                if let Some(face) = self.explore.show(ui) {
                    self.open_new(face);
                    self.go(Workspace::Photo);
                }
            }
            _ if self.is_busy() => {}
            _ => self.show_invitation(ui, commands),
        }
    }

    fn show_picture(&mut self, ui: &mut Ui) -> Option<frame::Choice> {
        if self.framing.is_adjusting() {
            let choice = self.framing.show_adjustment(ui, &mut self.picture);
            self.look_closer(ui.ctx());
            return choice;
        }
        let name = self.photo.as_ref().map_or("Picture", |photo| &photo.name);
        let hold_original = Self::holds_original(ui.ctx());
        self.picture.show(ui, name, hold_original);
        self.look_closer(ui.ctx());
        self.framing.show_faces(ui, self.picture.place(), !self.recipe.is_changed())
    }

    /// Asks for what is seen at its own resolution, if it is enlarged.
    fn look_closer(&mut self, ctx: &egui::Context) {
        let (Some(engine), Some(photo)) = (&self.engine, self.shelf.present()) else { return };
        if let Some(part) = self.picture.due_request(ctx) {
            if engine.send(Request::LookCloser { photo, part }) {
                self.picture.asked(part);
            } else {
                // So many requests wait that it is asked again later.
                ctx.request_repaint_after(std::time::Duration::from_millis(100));
            }
        }
    }

    fn show_progress(&mut self, ui: &mut Ui, quality: Option<Quality>) {
        let strip = Frame::new().inner_margin(Margin::ZERO);
        let panel = Panel::bottom("progress").exact_size(40.0).frame(strip).show_separator_line(false);
        let hint = (self.shows_hint && self.workspace == Workspace::Photo && quality.is_some()).then_some(HINT);
        if let Some(job) = panel.show(ui, |ui| self.jobs.show(ui, quality, hint)).inner {
            self.send(Request::Cancel(job));
        }
    }

    /// The steps of the edit. There from the start, or the picture would jump at the first one.
    fn show_history_strip(&mut self, ui: &mut Ui) {
        if !self.show_history {
            return;
        }
        let strip = Frame::new().inner_margin(Margin { top: space::S as i8, ..Margin::ZERO });
        let panel = Panel::bottom("history").exact_size(size::THUMBNAIL + 2.0 * space::S).frame(strip).show_separator_line(false);
        let photo = self.shelf.present().and_then(|id| self.shelf.get(id)).map(|photo| &photo.thumbnail);
        let strip = |ui: &mut Ui| history_strip::show(ui, &self.history, &self.recipe, &self.snapshots, &self.looks, photo);
        let wish = panel.show(ui, strip).inner;
        match wish {
            Some(Wish::GoTo(place)) => {
                let reached = self.history.go_to(&self.recipe, place);
                self.replace_recipe(reached);
            }
            Some(Wish::Apply(recipe)) => self.apply(ui.ctx(), recipe),
            Some(Wish::Forget(i)) => _ = self.snapshots.remove(i),
            None => {}
        }
    }

    /// The ways to compare, above the picture.
    fn show_compare_bar(&self, ui: &mut Ui, commands: &mut Vec<Command>) {
        let strip = Frame::new().inner_margin(Margin::ZERO);
        Panel::top("compare").exact_size(44.0).frame(strip).show_separator_line(false).show(ui, |ui| {
            ui.horizontal_centered(|ui| {
                let ways = [Command::ShowEdited, Command::ShowSplit, Command::ShowSideBySide, Command::ShowDifference];
                self.show_switch(ui, &ways, commands);
                ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
                    let zoom = format!("{:.0} %", self.picture.scale() * 100.0);
                    let fit = ui.add_enabled(self.picture.is_zoomed(), Button::new(&zoom).frame(false));
                    fit.widget_info(|| WidgetInfo::labeled(Role::Button, self.picture.is_zoomed(), format!("Zoom, {zoom}")));
                    if fit.on_hover_text(Command::ZoomToFit.tooltip_with_shortcut(ui.ctx())).clicked() {
                        commands.push(Command::ZoomToFit);
                    }
                });
            });
        });
    }

    /// The open photos, where there are several.
    pub(super) fn show_shelf(&mut self, ui: &mut Ui) {
        if self.shelf.len() < 2 {
            return;
        }
        let palette = Palette::of(ui.visuals());
        let frame = Frame::new().fill(palette.panel).inner_margin(Margin::same(space::S as i8));
        let width = size::THUMBNAIL + 2.0 * space::S + space::XS;
        let choice = Panel::left("photos").exact_size(width).frame(frame).show(ui, |ui| self.shelf.show(ui)).inner;
        match choice {
            Some(Choice::Select(id)) => self.select(id),
            Some(Choice::Close(id)) => self.close(&ui.ctx().clone(), id),
            None => {}
        }
    }

    /// What the canvas shows while no photo is open.
    pub(super) fn show_invitation(&self, ui: &mut Ui, commands: &mut Vec<Command>) {
        ui.vertical_centered(|ui| {
            ui.add_space((ui.available_height() * 0.5 - 60.0).max(0.0));
            if self.model.is_none() {
                ui.heading("No model is loaded");
                ui.weak("Photos are read and edited by a model. Choose the folder of one.");
                ui.add_space(space::M);
                return self.show_button(ui, Command::ChooseModel, true, commands);
            }
            ui.heading("Open a photo of a face");
            ui.weak("Or drop one here, or paste it. It never leaves this machine.");
            ui.add_space(space::M);
            self.show_button(ui, Command::Open, true, commands);
        });
    }

    pub(super) fn show_drop_hint(&self, ui: &Ui, area: egui::Rect) {
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
