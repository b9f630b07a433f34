//! The areas beside the bars: the slider panel, the picture with the strip under it, what stands in for a picture.

use egui::{Frame, Margin, Panel, Stroke, Ui};

use super::StudioApp;
use super::command::Command;
use super::frame::Choice;
use super::sliders::Touch;
use super::tokens::{self, Palette, space};
use crate::engine::{Job, Request};

impl StudioApp {
    pub(super) fn show_sliders(&mut self, ui: &mut Ui) -> (Touch, Option<Command>) {
        match &self.model {
            Some(model) => self.sliders.show(ui, &model.manifest.attributes, &mut self.recipe, self.photo.is_some()),
            None => {
                let loading = self.jobs.is_running(Job::LoadingModel);
                ui.weak(if loading { "The sliders come with the model." } else { "No model is loaded." });
                (Touch::None, None)
            }
        }
    }

    pub(super) fn show_canvas(&mut self, ui: &mut Ui, commands: &mut Vec<Command>) {
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
            let in_row = self.framing.show_row(ui);
            let area = ui.available_rect_before_wrap();
            let area = area.with_min_y(area.top() + space::L);
            let in_picture = ui.scope_builder(egui::UiBuilder::new().max_rect(area), |ui| self.show_picture(ui)).inner;
            match in_row.or(in_picture) {
                Some(Choice::Adjust) => self.framing.start_adjusting(),
                Some(Choice::Use(frame)) => self.reframe(frame),
                None => {}
            }
        } else if !self.is_busy() {
            self.show_invitation(ui, commands);
        }
    }

    fn show_picture(&mut self, ui: &mut Ui) -> Option<Choice> {
        if self.framing.is_adjusting() {
            return self.framing.show_adjustment(ui, &mut self.picture);
        }
        let name = self.photo.as_ref().map_or("Picture", |photo| &photo.name);
        let hold_original = Self::holds_original(ui.ctx());
        self.picture.show(ui, name, hold_original);
        self.framing.show_faces(ui, self.picture.place(), !self.recipe.is_changed())
    }

    /// What the canvas shows while no photo is open.
    pub(super) fn show_invitation(&self, ui: &mut Ui, commands: &mut Vec<Command>) {
        ui.vertical_centered(|ui| {
            ui.add_space((ui.available_height() * 0.5 - 60.0).max(0.0));
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
