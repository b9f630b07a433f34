//! Short messages above the status bar. They never take the focus and never block anything.

use std::time::Duration;

use egui::{Align, CollapsingHeader, CornerRadius, Frame, Layout, Margin, RichText, ScrollArea, Stroke, Ui};

use super::tokens::{Palette, radius, size, space};

/// Seconds after which good news leaves by itself.
const SECONDS: f64 = 8.0;
/// Notices that are shown at a time.
const SHOWN: usize = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Good,
    Trouble,
}

#[derive(Debug, Clone)]
struct Notice {
    id: u64,
    kind: Kind,
    message: String,
    details: String,
    /// When it was first drawn, in the frame clock's seconds.
    since: Option<f64>,
}

/// The strip of notices.
#[derive(Debug, Default)]
pub struct Notices {
    list: Vec<Notice>,
    next: u64,
}

impl Notices {
    /// Good news; it leaves by itself.
    pub fn tell(&mut self, message: impl Into<String>) {
        self.add(Kind::Good, message.into(), String::new());
    }

    /// Something went wrong; it stays until it is dismissed. `details` is for a report and may be empty.
    pub fn trouble(&mut self, message: impl Into<String>, details: impl Into<String>) {
        self.add(Kind::Trouble, message.into(), details.into());
    }

    fn add(&mut self, kind: Kind, message: String, details: String) {
        self.list.retain(|notice| notice.message != message);
        self.next += 1;
        self.list.push(Notice { id: self.next, kind, message, details, since: None });
        if self.list.len() > SHOWN {
            self.list.remove(0);
        }
    }

    /// The messages on the screen, oldest first.
    pub fn messages(&self) -> impl Iterator<Item = &str> {
        self.list.iter().map(|notice| notice.message.as_str())
    }

    /// Draws the notices upwards from the lower edge of the picture area.
    pub fn show(&mut self, ui: &Ui, area: egui::Rect) {
        let now = ui.input(|input| input.time);
        let mut gone: Vec<u64> = Vec::new();
        for notice in &mut self.list {
            let since = *notice.since.get_or_insert(now);
            if notice.kind == Kind::Good {
                let left = since + SECONDS - now;
                if left <= 0.0 {
                    gone.push(notice.id);
                } else {
                    ui.ctx().request_repaint_after(Duration::from_secs_f64(left));
                }
            }
        }
        self.list.retain(|notice| !gone.contains(&notice.id));
        if self.list.is_empty() {
            return;
        }
        let mut dismissed = None;
        egui::Area::new(egui::Id::unique("notices"))
            .order(egui::Order::Foreground)
            .pivot(egui::Align2::CENTER_BOTTOM)
            .fixed_pos(area.center_bottom() - egui::vec2(0.0, space::M))
            .show(ui.ctx(), |ui| {
                ui.set_max_width(size::NOTICE.min(area.width() - 2.0 * space::M));
                for notice in &self.list {
                    if show_one(ui, notice) {
                        dismissed = Some(notice.id);
                    }
                }
            });
        self.list.retain(|notice| Some(notice.id) != dismissed);
    }
}

/// Draws one notice; `true` if it was dismissed.
fn show_one(ui: &mut Ui, notice: &Notice) -> bool {
    let palette = Palette::of(ui.visuals());
    let mark = if notice.kind == Kind::Good { palette.good } else { palette.alert };
    let mut dismissed = false;
    Frame::new()
        .fill(palette.raised)
        .stroke(Stroke::new(1.0, palette.line))
        .corner_radius(CornerRadius::same(radius::CARD))
        .shadow(ui.visuals().popup_shadow)
        .inner_margin(Margin::symmetric(space::M as i8, space::S as i8))
        .show(ui, |ui| {
            ui.push_id(notice.id, |ui| {
                ui.set_width(ui.available_width());
                ui.horizontal_top(|ui| {
                    let (dot, _) = ui.allocate_exact_size(egui::vec2(space::S, 24.0), egui::Sense::hover());
                    ui.painter().circle_filled(dot.center(), 3.5, mark);
                    ui.with_layout(Layout::right_to_left(Align::Min), |ui| {
                        dismissed = ui.button("Dismiss").clicked();
                        ui.with_layout(Layout::top_down(Align::Min), |ui| {
                            ui.add_space(space::XS - 1.0);
                            ui.label(RichText::new(&notice.message).color(palette.strong_text));
                        });
                    });
                });
                if !notice.details.is_empty() {
                    CollapsingHeader::new("Details").id_salt("details").show_unindented(ui, |ui| {
                        ScrollArea::vertical().max_height(120.0).show(ui, |ui| {
                            ui.label(RichText::new(&notice.details).monospace().color(palette.weak_text));
                        });
                        if ui.button("Copy details").clicked() {
                            ui.ctx().copy_text(format!("{}\n\n{}", notice.message, notice.details));
                        }
                    });
                }
            });
        });
    dismissed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_message_is_not_piled_up() {
        let mut notices = Notices::default();
        for _ in 0..5 {
            notices.trouble("The file is damaged", "");
        }
        assert_eq!(notices.messages().count(), 1);
        for i in 0..5 {
            notices.tell(format!("Saved {i}"));
        }
        assert_eq!(notices.messages().collect::<Vec<_>>(), ["Saved 2", "Saved 3", "Saved 4"]);
    }
}
