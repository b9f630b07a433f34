//! Faces that nobody photographed, as a grid to click and edit.

use std::collections::BTreeMap;

use egui::{
    Align2, Button, DragValue, Rect, Role, ScrollArea, Sense, Slider, Stroke, StrokeKind, TextStyle, TextureHandle, TextureOptions, Ui,
    WidgetInfo, vec2,
};
use image::RgbImage;

use super::interpolation::{field, row};
use super::picture;
use super::tokens::{Palette, radius, size, space};
use crate::editing::Recipe;
use crate::engine::exploration::{SampleRequest, SampleSource};
use crate::engine::{Opening, PhotoId, Request};

/// Faces in a grid.
const COUNTS: std::ops::RangeInclusive<usize> = 1..=60;
/// Where a person starts looking for a variation, in percent.
const AMOUNT: f32 = 30.0;

/// Where faces come from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Source {
    #[default]
    Nothing,
    Photo,
}

/// The view's state.
pub struct Explore {
    source: Source,
    /// How far variations go, in percent.
    amount: f32,
    count: usize,
    seed: u64,
    /// Of the last request.
    generation: u64,
    /// What the last request asked for.
    wanted: usize,
    faces: BTreeMap<usize, TextureHandle>,
}

impl Default for Explore {
    fn default() -> Self {
        Self { source: Source::default(), amount: AMOUNT, count: 12, seed: 1, generation: 0, wanted: 0, faces: BTreeMap::new() }
    }
}

/// What can be made with what is at hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Means {
    pub has_latent_dpm: bool,
    /// The present photo.
    pub photo: Option<PhotoId>,
}

impl Means {
    /// Why a source cannot be used, in a sentence.
    fn missing(self, source: Source) -> Option<&'static str> {
        match source {
            Source::Nothing if !self.has_latent_dpm => Some("This model cannot make faces up: it comes without a latent DPM."),
            Source::Photo if self.photo.is_none() => Some("Open a photo first; its face is then varied."),
            _ => None,
        }
    }
}

impl Explore {
    pub fn take_face(&mut self, ctx: &egui::Context, generation: u64, index: usize, image: &RgbImage) {
        if generation == self.generation {
            self.faces.insert(index, picture::texture(ctx, "face", image, TextureOptions::LINEAR));
        }
    }

    /// Drops the grid: another model.
    pub fn forget(&mut self) {
        self.wanted = 0;
        self.faces.clear();
        self.generation += 1;
    }

    /// Faces of the grid that are there.
    pub fn faces_there(&self) -> usize {
        self.faces.len()
    }

    /// A request for a grid as the options say. `recipe` is the present photo's.
    fn request(&mut self, photo: Option<PhotoId>, recipe: &Recipe, steps: usize) -> Request {
        self.generation += 1;
        self.wanted = self.count;
        self.faces.clear();
        let source = match photo.filter(|_| self.source == Source::Photo) {
            None => SampleSource::Unconditional,
            Some(photo) => SampleSource::Variations { photo, recipe: recipe.clone(), amount: f64::from(self.amount) / 100.0 },
        };
        Request::Sample(SampleRequest { generation: self.generation, source, seed: self.seed, count: self.count, steps })
    }

    /// Draws the options; returns what to ask the engine.
    pub fn show_options(&mut self, ui: &mut Ui, means: Means, recipe: &Recipe, steps: usize) -> Option<Request> {
        ui.heading("Explore");
        ui.add_space(space::S);
        let mut wanted = None;
        ScrollArea::vertical().auto_shrink(false).show(ui, |ui| {
            ui.set_max_width(ui.available_width() - space::M);
            row(ui, "Faces", |ui| {
                ui.selectable_value(&mut self.source, Source::Nothing, "Made up").on_hover_text("From noise alone");
                ui.selectable_value(&mut self.source, Source::Photo, "Variations").on_hover_text("Variations of the open photo");
            });
            let missing = means.missing(self.source);
            if let Some(missing) = missing {
                ui.add_space(space::XS);
                ui.weak(missing);
            }
            ui.add_enabled_ui(missing.is_none(), |ui| {
                if self.source == Source::Photo {
                    row(ui, "Distance", |ui| {
                        ui.spacing_mut().slider_width = (ui.available_width() - 66.0).max(40.0);
                        ui.add(Slider::new(&mut self.amount, 0.0..=100.0).step_by(1.0).suffix(" %"))
                            .on_hover_text("How far from the photo");
                    });
                }
                field(ui, "How many", DragValue::new(&mut self.count).range(COUNTS).speed(0.1));
                field(ui, "Seed", DragValue::new(&mut self.seed).speed(0.1)).on_hover_text("The same seed gives the same faces");
                ui.add_space(space::S);
                let width = ui.available_width();
                let palette = Palette::of(ui.visuals());
                let text = egui::RichText::new("Make faces").color(palette.on_accent);
                if ui.add_sized(vec2(width, size::ROW), Button::new(text).fill(palette.accent)).clicked() {
                    wanted = Some(self.request(means.photo, recipe, steps));
                }
                if ui.add_sized(vec2(width, size::ROW), Button::new("Others")).on_hover_text("The same with the next seeds").clicked() {
                    self.seed = self.seed.wrapping_add(self.count as u64);
                    wanted = Some(self.request(means.photo, recipe, steps));
                }
            });
            ui.add_space(space::M);
            ui.weak("Click a face to edit it.");
        });
        wanted
    }

    /// Draws the grid; returns the face that was clicked, to be edited.
    pub fn show(&self, ui: &mut Ui) -> Option<Opening> {
        if self.wanted == 0 {
            ui.vertical_centered(|ui| {
                ui.add_space((ui.available_height() * 0.5 - 40.0).max(0.0));
                ui.heading("Faces that nobody photographed");
                ui.weak("Choose where they come from, then “Make faces”.");
            });
            return None;
        }
        let area = ui.available_rect_before_wrap();
        let (columns, side) = grid(area.size(), self.wanted);
        let mut clicked = None;
        ui.add_space(space::M);
        ScrollArea::vertical().auto_shrink(false).show(ui, |ui| {
            let indent = ((area.width() - columns as f32 * (side + space::S)) / 2.0).max(0.0);
            for first in (0..self.wanted).step_by(columns) {
                ui.horizontal(|ui| {
                    ui.spacing_mut().item_spacing = vec2(space::S, space::S);
                    ui.add_space(indent);
                    for index in first..(first + columns).min(self.wanted) {
                        if self.show_face(ui, index, side) {
                            clicked = Some(Opening::Sample { generation: self.generation, index });
                        }
                    }
                });
                ui.add_space(space::XS);
            }
        });
        clicked
    }

    fn show_face(&self, ui: &mut Ui, index: usize, side: f32) -> bool {
        let palette = Palette::of(ui.visuals());
        let (rect, response): (Rect, _) = ui.allocate_exact_size(vec2(side, side), Sense::click());
        let texture = self.faces.get(&index);
        let name = format!("Face {}", index + 1);
        response.widget_info(|| WidgetInfo::labeled(Role::Button, texture.is_some(), &name));
        let Some(texture) = texture else {
            ui.painter().rect_filled(rect, f32::from(radius::PICTURE), palette.panel);
            let font = TextStyle::Small.resolve(ui.style());
            ui.painter().text(rect.center(), Align2::CENTER_CENTER, index + 1, font, palette.weak_text);
            return false;
        };
        egui::Image::from_texture(texture).corner_radius(radius::PICTURE).paint_at(ui, rect);
        if response.hovered() || response.has_focus() {
            ui.painter().rect_stroke(rect, f32::from(radius::PICTURE), Stroke::new(2.0, palette.accent), StrokeKind::Inside);
        }
        response.on_hover_text("Edit this face").clicked()
    }
}

/// Columns and side in points of the largest squares that fit, none smaller than a thumbnail.
fn grid(room: egui::Vec2, count: usize) -> (usize, f32) {
    let side = |columns: usize| {
        let rows = count.div_ceil(columns);
        (room.x / columns as f32 - space::S).min((room.y - space::M) / rows as f32 - 2.0 * space::S)
    };
    let columns = (1..=count.max(1)).max_by(|a, b| side(*a).total_cmp(&side(*b))).unwrap_or(1);
    if side(columns) >= size::THUMBNAIL {
        return (columns, side(columns));
    }
    (((room.x / (size::THUMBNAIL + space::S)) as usize).max(1), size::THUMBNAIL)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grid_fills_the_room() {
        let (columns, side) = grid(vec2(900.0, 600.0), 12);
        assert_eq!(columns, 4);
        assert!(side > 170.0, "{side}");
        let (columns, side) = grid(vec2(200.0, 100.0), 60);
        assert_eq!((columns, side), (3, size::THUMBNAIL), "it scrolls");
        assert!(grid(vec2(10.0, 0.0), 1).0 == 1);
    }

    #[test]
    fn faces_of_an_older_grid_are_not_shown() {
        let (mut explore, ctx) = (Explore::default(), egui::Context::default());
        explore.request(None, &Recipe::default(), 3);
        explore.request(None, &Recipe::default(), 3);
        explore.take_face(&ctx, 1, 0, &RgbImage::new(4, 4));
        assert_eq!(explore.faces_there(), 0);
        explore.take_face(&ctx, 2, 0, &RgbImage::new(4, 4));
        assert_eq!(explore.faces_there(), 1);
    }

    #[test]
    fn what_is_missing_is_said() {
        let means = Means { has_latent_dpm: false, photo: None };
        assert!(means.missing(Source::Nothing).is_some_and(|text| text.contains("latent DPM")));
        assert!(means.missing(Source::Photo).is_some());
        assert_eq!(Means { has_latent_dpm: true, photo: Some(PhotoId(1)) }.missing(Source::Nothing), None);
    }
}
