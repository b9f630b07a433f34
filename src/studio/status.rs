//! The status bar: the photo at the left, the model and the device at the right.

use std::time::Duration;

use egui::{Align, Label, Layout, RichText, Ui};

use crate::engine::ModelCard;

/// The open photo, as the status bar and file names need it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenPhoto {
    pub name: String,
    pub width: u32,
    pub height: u32,
}

/// Draws the status bar. `step` is the time of one denoising step, where it is known and to be shown.
pub fn show(ui: &mut Ui, photo: Option<&OpenPhoto>, model: Option<&ModelCard>, step: Option<Duration>) {
    ui.horizontal_centered(|ui| {
        ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
            if let Some(model) = model {
                if let Some(step) = step {
                    small(ui, &milliseconds(step)).on_hover_text("Time of one step; a finished picture takes several");
                    small(ui, "·");
                }
                if step.is_some()
                    && let Some(memory) = memory_stats::memory_stats()
                {
                    small(ui, &megabytes(memory.physical_mem)).on_hover_text("Memory that the program uses");
                    small(ui, "·");
                }
                small(ui, &model.device).on_hover_text("What the model runs on. Your photos stay on this machine");
                small(ui, "·");
                small(ui, &model.manifest.name).on_hover_text(format!("The model, from {}", model.folder.display()));
            } else {
                small(ui, "No model");
            }
            ui.with_layout(Layout::left_to_right(Align::Center), |ui| match photo {
                Some(photo) => {
                    let text = format!("{}  ·  {} × {}", photo.name, photo.width, photo.height);
                    ui.add(Label::new(RichText::new(&text).small().weak()).truncate()).on_hover_text("The photo and its size in pixels");
                }
                None => {
                    small(ui, "No photo");
                }
            });
        });
    });
}

fn small(ui: &mut Ui, text: &str) -> egui::Response {
    ui.label(RichText::new(text).small().weak())
}

fn megabytes(bytes: usize) -> String {
    format!("{:.0} MB", bytes as f64 / 1e6)
}

fn milliseconds(step: Duration) -> String {
    let ms = step.as_secs_f64() * 1e3;
    if ms < 10.0 { format!("{ms:.1} ms per step") } else { format!("{ms:.0} ms per step") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_times_keep_a_decimal() {
        assert_eq!(milliseconds(Duration::from_micros(4_210)), "4.2 ms per step");
        assert_eq!(milliseconds(Duration::from_millis(842)), "842 ms per step");
    }
}
