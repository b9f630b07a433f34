//! The boxes about the program and about the model.

use egui::{CollapsingHeader, Grid, RichText, ScrollArea, Ui};

use super::tokens::{Palette, space};
use crate::engine::ModelCard;

/// Which box is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum About {
    Program,
    Model,
}

/// Texts that the licences of what is inside ask to be shown.
const LICENCES: [(&str, &str); 3] = [
    ("PDAE Studio: MIT", include_str!("../../LICENSE-MIT")),
    ("PDAE Studio: Apache-2.0", include_str!("../../LICENSE-APACHE")),
    ("The face detector and the person mask (MediaPipe, by Google): Apache-2.0", include_str!("../../models/face-detector/LICENSE")),
];

impl About {
    /// Draws the box; `false` once it is closed.
    pub fn show(self, ctx: &egui::Context, model: Option<&ModelCard>) -> bool {
        let frame = egui::Frame::window(&ctx.global_style()).shadow(egui::Shadow::NONE);
        let modal = egui::Modal::new(egui::Id::unique("about")).frame(frame).show(ctx, |ui| {
            ui.set_width(520.0);
            match (self, model) {
                (Self::Model, Some(model)) => show_model(ui, model),
                _ => show_program(ui),
            }
            ui.add_space(space::M);
            ui.with_layout(egui::Layout::right_to_left(egui::Align::Center), |ui| ui.button("Close").clicked()).inner
        });
        !(modal.inner || modal.should_close())
    }
}

fn show_program(ui: &mut Ui) {
    ui.heading(concat!("PDAE Studio ", env!("CARGO_PKG_VERSION")));
    ui.add_space(space::XS);
    ui.label("Edits face photos through a diffusion autoencoder. Everything runs on this machine; nothing leaves it.");
    ui.add_space(space::S);
    ui.weak(
        "The method: Zhang, Zhao and Lin, “Unsupervised Representation Learning from Pre-trained Diffusion Probabilistic Models”, \
         NeurIPS 2022 (arXiv 2212.12990).",
    );
    ui.add_space(space::S);
    ui.weak("Models have terms of their own: see “About this model”. The window is drawn with egui, the networks run on Burn.");
    ui.add_space(space::S);
    ScrollArea::vertical().max_height(260.0).show(ui, |ui| {
        for (title, text) in LICENCES {
            CollapsingHeader::new(title).show_unindented(ui, |ui| ui.label(RichText::new(text).monospace()));
        }
    });
}

/// Training writes its details as it calls them; here they stand among the card's own names.
fn capitalised(name: &str) -> String {
    let mut letters = name.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

fn show_model(ui: &mut Ui, model: &ModelCard) {
    let (manifest, config) = (&model.manifest, &model.manifest.config);
    ui.heading(&manifest.name);
    ui.add_space(space::S);
    ScrollArea::vertical().max_height(420.0).show(ui, |ui| {
        Grid::new("model card").num_columns(2).spacing([space::L, space::XS]).show(ui, |ui| {
            let mut line = |name: &str, value: String| {
                ui.label(RichText::new(name).color(Palette::of(ui.visuals()).weak_text));
                ui.add(egui::Label::new(value).wrap());
                ui.end_row();
            };
            line("Pictures", format!("{0} × {0} pixels", config.image_size));
            line("Parameters", format!("{:.1} million", model.cost.parameters as f64 / 1e6));
            line("One step", format!("{:.1} GFLOP", model.cost.step_gflop));
            line("Runs on", model.device.clone());
            line("Sliders", if manifest.attributes.is_empty() { "none".into() } else { manifest.attributes.len().to_string() });
            line("Makes faces up", if config.latent_dpm.is_some() { "yes" } else { "no: it has no latent DPM" }.into());
            line("Source", manifest.provenance.source.clone());
            line("Licence", manifest.provenance.licence.clone());
            for (name, value) in &manifest.provenance.details {
                line(&capitalised(name), value.clone());
            }
            line("Folder", model.folder.display().to_string());
        });
    });
}
