//! The interpolation view: two ends side by side, the picture between them, a slider and a film strip.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use egui::{
    Align, Align2, Button, Checkbox, ComboBox, DragValue, Layout, Rect, Response, Role, ScrollArea, Sense, Slider, Stroke, StrokeKind,
    TextureHandle, TextureOptions, Ui, Widget, WidgetInfo, vec2,
};
use image::RgbImage;
use serde::{Deserialize, Serialize};

use super::command::Command;
use super::picture;
use super::shelf::Shelf;
use super::tokens::{Palette, radius, size, space};
use crate::editing::{Easing, Recipe, ping_pong};
use crate::engine::edit::InterpolationPath;
use crate::engine::interpolation::{End, InterpolationRequest, Way};
use crate::engine::{PhotoId, Quality, Request};
use crate::photo::animation::Sequence;

/// Pictures in a film strip.
const FRAMES: std::ops::RangeInclusive<usize> = 2..=61;
/// Pictures a second.
const RATES: std::ops::RangeInclusive<u16> = 1..=30;
/// Places that the slider can stand at, less one.
const PLACES: f64 = 200.0;
/// Pictures that are kept beside those of the strip.
const KEPT: usize = 48;

/// What is remembered from one start to the next.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Options {
    pub path: InterpolationPath,
    pub easing: Easing,
    pub keep_detail: bool,
    pub frames: usize,
    /// Pictures a second.
    pub rate: u16,
    pub ping_pong: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { path: InterpolationPath::Latent, easing: Easing::Linear, keep_detail: true, frames: 9, rate: 8, ping_pong: true }
    }
}

/// One end: an open photo as it is or with its sliders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Choice {
    photo: PhotoId,
    edited: bool,
}

/// What is to be written as soon as its pictures are there.
#[derive(Debug, Clone, PartialEq)]
struct Pending {
    path: PathBuf,
    overwrite: bool,
    what: Export,
    /// Of a single picture.
    share: f64,
}

/// What of the way is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Export {
    Picture,
    Strip,
    Animation,
}

/// The view's state.
pub struct Interpolate {
    pub options: Options,
    ends: [Option<Choice>; 2],
    /// The end that the next photo to be opened becomes.
    next_end: usize,
    /// The slider: 0 is the first end, 1 the second.
    share: f64,
    dragging: bool,
    /// Place in the played sequence, in pictures.
    playing: Option<f64>,
    /// Of the last request.
    generation: u64,
    /// Of the first request for the present way.
    oldest: u64,
    way: Option<Way>,
    /// Final pictures by their place.
    pictures: HashMap<u32, (Arc<RgbImage>, TextureHandle)>,
    /// The last preview, for want of a final picture.
    preview: Option<TextureHandle>,
    /// What the last request was made for: place, whether by a drag, pictures in the strip and their pace.
    asked: Option<(u32, bool, usize, Easing)>,
    /// Where the slider stood when its picture was to be saved. It may move while the path is chosen.
    marked: f64,
    pending: Option<Pending>,
    /// A pending export was given up, and nobody was told yet.
    gave_up: bool,
}

impl Default for Interpolate {
    fn default() -> Self {
        Self {
            options: Options::default(),
            ends: [None; 2],
            next_end: 1,
            share: 0.5,
            dragging: false,
            playing: None,
            generation: 0,
            oldest: 0,
            way: None,
            pictures: HashMap::new(),
            preview: None,
            asked: None,
            marked: 0.5,
            pending: None,
            gave_up: false,
        }
    }
}

/// The photo as it is, decoded the same way.
pub(super) fn unedited(recipe: &Recipe) -> Recipe {
    let mut plain = Recipe { fresh_noise: 0.0, ..recipe.clone() };
    plain.sliders.clear();
    plain
}

/// Pictures are told apart by their share of the way in thousandths.
fn place(share: f64) -> u32 {
    (share * 1000.0).round() as u32
}

impl Interpolate {
    // --- what is asked of the engine ---

    /// Follows the ends and the slider: a request, if other pictures are wanted than were asked for. `recipe` is the present photo's,
    /// `steps` those of a final picture.
    pub fn update(&mut self, shelf: &Shelf, recipe: &Recipe, steps: usize) -> Option<InterpolationRequest> {
        self.choose_ends(shelf);
        let way = self.way_of(shelf, recipe, steps);
        if way != self.way {
            self.forget();
            self.way = way;
        }
        let way = self.way.clone()?;
        let asked = (place(self.share), self.dragging, self.options.frames, self.options.easing);
        // After Cancel this stays so until something changes.
        if self.asked == Some(asked) || !self.is_way() {
            return None;
        }
        let pictures = self.missing();
        self.asked = Some(asked);
        if pictures.is_empty() {
            return None;
        }
        self.generation += 1;
        Some(InterpolationRequest { generation: self.generation, way, pictures })
    }

    /// A request that ends the one in progress, for when the view is left; none where pictures that are to be saved are being made.
    pub fn leave(&mut self) -> Option<InterpolationRequest> {
        self.playing = None;
        // A drag has asked for its own picture alone.
        let are_made = self.asked.take().is_some_and(|(_, dragging, ..)| !dragging);
        if are_made && self.pending.is_some() {
            return None;
        }
        self.give_up_export();
        self.generation += 1;
        Some(InterpolationRequest { generation: self.generation, way: self.way.clone()?, pictures: Vec::new() })
    }

    /// The picture at the slider, one to be saved, then those of the strip. While the slider moves, the first alone.
    fn missing(&self) -> Vec<(f64, Quality)> {
        let is_there = |share: f64| self.pictures.contains_key(&place(share));
        let mut missing = Vec::new();
        if !is_there(self.share) && self.playing.is_none() {
            missing.push((self.share, if self.dragging { Quality::Preview } else { Quality::Final }));
        }
        if !self.dragging {
            for share in self.saved_alone().into_iter().chain(self.shares()) {
                if !is_there(share) && missing.iter().all(|(other, _)| place(*other) != place(share)) {
                    missing.push((share, Quality::Final));
                }
            }
        }
        missing
    }

    /// Where the single picture is that waits to be written.
    fn saved_alone(&self) -> Option<f64> {
        self.pending.as_ref().filter(|pending| pending.what == Export::Picture).map(|pending| pending.share)
    }

    fn shares(&self) -> Vec<f64> {
        self.options.easing.shares(self.options.frames).collect()
    }

    /// Drops all pictures: another way, or another model.
    pub fn forget(&mut self) {
        self.pictures.clear();
        self.preview = None;
        self.asked = None;
        self.give_up_export();
        self.oldest = self.generation + 1;
    }

    fn choose_ends(&mut self, shelf: &Shelf) {
        for end in &mut self.ends {
            *end = end.filter(|choice| shelf.get(choice.photo).is_some());
        }
        let Some(present) = shelf.present() else { return };
        let first = self.ends[0].get_or_insert(Choice { photo: present, edited: false }).photo;
        if self.ends[1].is_none() {
            let other = shelf.iter().map(|photo| photo.id).find(|id| *id != first);
            self.ends[1] = Some(other.map_or(Choice { photo: first, edited: true }, |photo| Choice { photo, edited: true }));
        }
    }

    fn way_of(&self, shelf: &Shelf, recipe: &Recipe, steps: usize) -> Option<Way> {
        let end = |choice: Option<Choice>| {
            let Choice { photo, edited } = choice?;
            let shelved = shelf.get(photo)?;
            let recipe = match (edited, shelf.present() == Some(photo)) {
                (true, true) => recipe.clone(),
                (true, false) => shelved.kept.recipe.clone(),
                (false, true) => unedited(recipe),
                (false, false) => unedited(&shelved.kept.recipe),
            };
            Some(End { photo, recipe })
        };
        let [a, b] = self.ends.map(end);
        Some(Way { ends: [a?, b?], path: self.options.path, steps, keep_detail: self.options.keep_detail })
    }

    /// What it is called: by the photo, or by both.
    pub fn name(&self, shelf: &Shelf) -> String {
        let names = self.ends.map(|end| end.and_then(|choice| Some(shelf.get(choice.photo)?.photo.name.as_str())));
        match names {
            [Some(a), Some(b)] if a != b => format!("{a} to {b}"),
            [a, b] => a.or(b).unwrap_or_default().to_owned(),
        }
    }

    /// Whether there is any way to go.
    fn is_way(&self) -> bool {
        self.way.as_ref().is_some_and(|way| way.ends[0] != way.ends[1])
    }

    // --- what the engine tells ---

    pub fn take_picture(&mut self, ctx: &egui::Context, generation: u64, share: f64, quality: Quality, image: Arc<RgbImage>) {
        if generation < self.oldest {
            return;
        }
        let texture = picture::texture(ctx, "between", &image, TextureOptions::LINEAR);
        match quality {
            Quality::Preview => self.preview = Some(texture),
            Quality::Final => {
                self.pictures.insert(place(share), (image, texture));
                self.evict();
            }
        }
    }

    /// Forgets pictures that the slider stood at, when they have become many.
    fn evict(&mut self) {
        let strip: Vec<u32> = self.shares().into_iter().map(place).collect();
        if self.pictures.len() > strip.len() + KEPT {
            let (now, saved) = (place(self.share), self.saved_alone().map(place));
            self.pictures.retain(|place, _| *place == now || Some(*place) == saved || strip.contains(place));
        }
    }

    /// Its pictures will not come.
    pub fn give_up_export(&mut self) {
        self.gave_up |= self.pending.take().is_some();
    }

    /// Whether an export was given up since this was asked the last time.
    pub fn take_gave_up(&mut self) -> bool {
        std::mem::take(&mut self.gave_up)
    }

    /// A photo was opened while the view was open: it becomes an end.
    pub fn opened(&mut self, photo: PhotoId) {
        self.ends[self.next_end] = Some(Choice { photo, edited: true });
        self.next_end = 1;
    }

    // --- commands ---

    pub fn swap(&mut self) {
        self.ends.swap(0, 1);
        self.share = 1.0 - self.share;
    }

    pub fn is_playing(&self) -> bool {
        self.playing.is_some()
    }

    pub fn can_play(&self) -> bool {
        self.is_way()
    }

    pub fn play_or_pause(&mut self) {
        self.playing = if self.playing.is_some() { None } else { Some(0.0) };
        self.asked = None;
    }

    /// The sequence that is played and written, as shares.
    fn sequence(&self) -> Vec<f64> {
        let shares = self.shares();
        if self.options.ping_pong { ping_pong(&shares) } else { shares }
    }

    /// Moves a played sequence on by `seconds`, over the pictures that are there.
    fn advance(&mut self, seconds: f64) {
        let Some(position) = self.playing else { return };
        let there: Vec<f64> = self.sequence().into_iter().filter(|share| self.pictures.contains_key(&place(*share))).collect();
        if there.is_empty() {
            return;
        }
        let position = (position + seconds * f64::from(self.options.rate)) % there.len() as f64;
        self.playing = Some(position);
        self.share = there[position as usize % there.len()];
    }

    /// The picture at the slider.
    pub fn picture(&self) -> Option<&Arc<RgbImage>> {
        self.pictures.get(&place(self.share)).map(|(image, _)| image)
    }

    /// Which quality the picture at the slider has.
    pub fn quality(&self) -> Option<Quality> {
        match (self.picture(), &self.preview) {
            (Some(_), _) => Some(Quality::Final),
            (None, Some(_)) => Some(Quality::Preview),
            (None, None) => None,
        }
    }

    pub fn share(&self) -> f64 {
        self.share
    }

    /// Keeps in mind where the slider stands, for a picture that is to be saved.
    pub fn mark(&mut self) {
        self.marked = self.share;
    }

    pub fn marked(&self) -> f64 {
        self.marked
    }

    /// Pictures of the strip that are there.
    pub fn pictures_there(&self) -> usize {
        self.shares().into_iter().filter(|share| self.pictures.contains_key(&place(*share))).count()
    }

    /// Writes as soon as all pictures are there; a single one is the marked one.
    pub fn export(&mut self, what: Export, path: PathBuf, overwrite: bool) {
        self.pending = Some(Pending { path, overwrite, what, share: self.marked });
        self.asked = None;
    }

    pub fn is_exporting(&self) -> bool {
        self.pending.is_some()
    }

    /// The pending export, if its pictures are there.
    pub fn take_export(&mut self) -> Option<Request> {
        let Pending { what, share, .. } = self.pending.as_ref()?;
        let shares = match what {
            Export::Picture => vec![*share],
            Export::Strip => self.shares(),
            Export::Animation => self.sequence(),
        };
        let frames: Option<Vec<RgbImage>> =
            shares.iter().map(|share| self.pictures.get(&place(*share)).map(|(image, _)| (**image).clone())).collect();
        let frames = frames?;
        let Pending { path, overwrite, .. } = self.pending.take()?;
        let sequence = Sequence { frames, frame_time: 1000 / self.options.rate.max(1), state_source: true };
        Some(Request::ExportSequence { path, sequence, overwrite })
    }

    // --- drawing ---

    /// Draws the options. `can_save`: no pictures are being saved.
    pub fn show_options(&mut self, ui: &mut Ui, shelf: &Shelf, can_save: bool, commands: &mut Vec<Command>) {
        ui.horizontal(|ui| {
            ui.heading("Interpolate");
            ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
                if ui.button("Swap").on_hover_text(Command::SwapEnds.tooltip()).clicked() {
                    commands.push(Command::SwapEnds);
                }
            });
        });
        ui.add_space(space::S);
        ScrollArea::vertical().auto_shrink(false).show(ui, |ui| {
            ui.set_max_width(ui.available_width() - space::M);
            for (index, title) in ["From", "To"].into_iter().enumerate() {
                row(ui, title, |ui| self.show_end(ui, shelf, index, commands));
            }
            ui.add_space(space::S);
            let options = &mut self.options;
            row(ui, "Way", |ui| {
                for (path, name, tooltip) in [
                    (InterpolationPath::Latent, "Latent", "Mix what the two faces are: the usual way"),
                    (InterpolationPath::Trajectory, "Trajectory", "Mix the two mean shifts at every step: takes somewhat longer"),
                ] {
                    ui.selectable_value(&mut options.path, path, name).on_hover_text(tooltip);
                }
            });
            row(ui, "Pace", |ui| {
                ui.selectable_value(&mut options.easing, Easing::Linear, "Even").on_hover_text("Equal steps");
                ui.selectable_value(&mut options.easing, Easing::Smooth, "Smooth").on_hover_text("Slowly away, slowly in");
            });
            // Made anew only when the value is settled.
            field(ui, "Pictures", DragValue::new(&mut options.frames).range(FRAMES).speed(0.1).update_while_editing(false))
                .on_hover_text("Pictures in the film strip, both ends included");
            field(ui, "Speed", DragValue::new(&mut options.rate).range(RATES).speed(0.1).suffix(" a second"))
                .on_hover_text("When played or saved");
            ui.add_space(space::XS);
            ui.add(Checkbox::new(&mut options.ping_pong, "There and back")).on_hover_text("Played and saved without a jump");
            ui.add(Checkbox::new(&mut options.keep_detail, "Keep the photos' detail"))
                .on_hover_text("Adds what the model cannot rebuild. Between two people it fades out towards the middle");
            ui.add_space(space::L);
            ui.label("Save");
            ui.add_space(space::XS);
            for command in [Command::SaveBetween, Command::SaveStrip, Command::SaveAnimation] {
                let text = command.label().trim_start_matches("Save ").trim_end_matches(" as…");
                let mut text: String = format!("{text}…");
                if let Some(first) = text.get_mut(..1) {
                    first.make_ascii_uppercase();
                }
                let width = ui.available_width();
                let response = ui.add_enabled_ui(can_save, |ui| ui.add_sized(vec2(width, size::ROW), Button::new(text))).inner;
                response.widget_info(|| WidgetInfo::labeled(Role::Button, can_save, command.label()));
                if response.on_hover_text(command.tooltip_with_shortcut(ui.ctx())).clicked() {
                    commands.push(command);
                }
            }
        });
    }

    fn show_end(&mut self, ui: &mut Ui, shelf: &Shelf, index: usize, commands: &mut Vec<Command>) {
        let name = |choice: Choice| {
            let name = shelf.get(choice.photo).map_or("", |photo| &photo.photo.name);
            if choice.edited { format!("{name}, edited") } else { name.to_owned() }
        };
        let shown = self.ends[index].map_or_else(|| "No photo".to_owned(), name);
        let accessible = if index == 0 { "From" } else { "To" };
        let combo = ComboBox::from_id_salt(("end", index)).selected_text(shown).truncate().width(ui.available_width());
        let response = combo.show_ui(ui, |ui| {
            for photo in shelf.iter() {
                for edited in [false, true] {
                    let choice = Choice { photo: photo.id, edited };
                    if ui.selectable_label(self.ends[index] == Some(choice), name(choice)).clicked() {
                        self.ends[index] = Some(choice);
                    }
                }
            }
            ui.separator();
            if ui.button("Open another photo…").clicked() {
                self.next_end = index;
                commands.push(Command::Open);
            }
        });
        response.response.widget_info(|| WidgetInfo::labeled(Role::ComboBox, true, accessible));
    }

    /// Draws ends, slider and strip into what is left of `ui`.
    pub fn show(&mut self, ui: &mut Ui, shelf: &Shelf, commands: &mut Vec<Command>) {
        if self.playing.is_some() {
            let (seconds, rate) = (ui.input(|input| f64::from(input.stable_dt.min(0.2))), f64::from(self.options.rate.max(1)));
            self.advance(seconds);
            ui.ctx().request_repaint_after(std::time::Duration::from_secs_f64(0.5 / rate));
        }
        let area = ui.available_rect_before_wrap();
        let frames = self.options.frames as f32;
        let frame_side = ((area.width() - (frames - 1.0) * space::XS) / frames).clamp(40.0, 88.0);
        let strip = area.with_min_y(area.bottom() - frame_side - space::M);
        let controls = Rect::from_min_max(egui::pos2(area.left(), strip.top() - 44.0), egui::pos2(area.right(), strip.top()));
        let cells = area.with_max_y(controls.top() - space::S).with_min_y(area.top() + space::M);
        self.show_cells(ui, cells, shelf);
        ui.scope_builder(egui::UiBuilder::new().max_rect(controls), |ui| self.show_controls(ui, commands));
        ui.scope_builder(egui::UiBuilder::new().max_rect(strip), |ui| self.show_strip(ui, frame_side));
    }

    fn show_cells(&self, ui: &Ui, area: Rect, shelf: &Shelf) {
        let gap = space::M;
        let width = ((area.width() - 2.0 * gap) / 3.0).max(10.0);
        let side = width.min(area.height());
        let top = area.center().y - side / 2.0;
        let between = self.pictures.get(&place(self.share)).map(|(_, texture)| texture).or(self.preview.as_ref());
        let photo = |index: usize| Some(&shelf.get(self.ends[index]?.photo)?.thumbnail);
        let end = |index: usize| self.pictures.get(&place(index as f64)).map(|(_, texture)| texture).or_else(|| photo(index));
        let middle = between.or_else(|| photo(usize::from(self.share >= 0.5)));
        let percent = format!("{:.0} %", self.share * 100.0);
        let captions = ["From", &percent, "To"];
        for (i, (texture, caption)) in [end(0), middle, end(1)].into_iter().zip(captions).enumerate() {
            let left = area.center().x + (i as f32 - 1.5) * width + (i as f32 - 1.0) * gap + (width - side) / 2.0;
            let cell = Rect::from_min_size(egui::pos2(left, top), vec2(side, side));
            let response = ui.interact(cell, ui.scope_id().with(("cell", i)), Sense::hover());
            let name = ["The first end", "The picture between", "The second end"][i];
            response.widget_info(|| WidgetInfo::labeled(Role::Image, true, name));
            match texture {
                Some(texture) => picture::paint(ui, &cell, cell, texture, caption),
                None => _ = ui.painter().rect_filled(cell, f32::from(radius::PICTURE), Palette::of(ui.visuals()).panel),
            }
        }
    }

    fn show_controls(&mut self, ui: &mut Ui, commands: &mut Vec<Command>) {
        ui.horizontal_centered(|ui| {
            let play = if self.is_playing() { "Pause" } else { "Play" };
            let button = ui.add_enabled(self.can_play(), Button::new(play).min_size(vec2(64.0, 0.0)));
            if button.on_hover_text(Command::Play.tooltip_with_shortcut(ui.ctx())).clicked() {
                commands.push(Command::Play);
            }
            if !self.is_way() {
                ui.weak("Both ends are the same. Open a second photo, or choose “edited” for one end and move its sliders.");
                return;
            }
            ui.spacing_mut().slider_width = (ui.available_width() - space::XS).max(80.0);
            let before = self.share;
            let slider = Slider::new(&mut self.share, 0.0..=1.0).show_value(false).step_by(1.0 / PLACES);
            let response = ui.add(slider);
            response.widget_info(|| WidgetInfo::slider(true, before, "Between the ends"));
            self.dragging = response.is_pointer_button_down_on();
            if self.share != before {
                self.playing = None;
            }
        });
    }

    fn show_strip(&mut self, ui: &mut Ui, side: f32) {
        let palette = Palette::of(ui.visuals());
        ScrollArea::horizontal().auto_shrink(false).show(ui, |ui| {
            ui.horizontal(|ui| {
                ui.spacing_mut().item_spacing.x = space::XS;
                let shares = self.shares();
                let count = shares.len();
                // Centred where there is room to spare.
                let spare = ui.available_width() - count as f32 * (side + space::XS) + space::XS;
                ui.add_space((spare / 2.0).max(0.0));
                for (i, share) in shares.into_iter().enumerate() {
                    let (rect, response) = ui.allocate_exact_size(vec2(side, side), Sense::click());
                    let there = self.pictures.get(&place(share));
                    let name = format!("Picture {} of {count}", i + 1);
                    response.widget_info(|| WidgetInfo::labeled(Role::Button, true, &name));
                    match there {
                        Some((_, texture)) => egui::Image::from_texture(texture).corner_radius(radius::PICTURE).paint_at(ui, rect),
                        None => {
                            ui.painter().rect_filled(rect, f32::from(radius::PICTURE), palette.control);
                            let font = egui::TextStyle::Small.resolve(ui.style());
                            ui.painter().text(rect.center(), Align2::CENTER_CENTER, i + 1, font, palette.weak_text);
                        }
                    }
                    let here = place(share) == place(self.share);
                    if here || response.hovered() || response.has_focus() {
                        let colour = if here || response.has_focus() { palette.accent } else { palette.control_active };
                        ui.painter().rect_stroke(rect, f32::from(radius::PICTURE), Stroke::new(2.0, colour), StrokeKind::Inside);
                    }
                    if response.on_hover_text(name).clicked() {
                        (self.share, self.playing) = (share, None);
                    }
                }
            });
        });
    }
}

/// A line of a form: name, then controls.
pub(super) fn row(ui: &mut Ui, name: &str, contents: impl FnOnce(&mut Ui)) {
    ui.horizontal(|ui| {
        show_name(ui, name);
        contents(ui);
    });
}

/// A row with one widget, which screen readers call by the row's name.
pub(super) fn field(ui: &mut Ui, name: &str, widget: impl Widget) -> Response {
    ui.horizontal(|ui| {
        let name = show_name(ui, name);
        ui.add(widget).labelled_by(name.id)
    })
    .inner
}

fn show_name(ui: &mut Ui, name: &str) -> Response {
    ui.set_min_height(size::ROW);
    let area = ui.allocate_ui_with_layout(vec2(size::FORM_LABEL, size::ROW), Layout::left_to_right(Align::Center), |ui| {
        ui.set_min_width(size::FORM_LABEL);
        ui.label(name)
    });
    area.inner
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture() -> Arc<RgbImage> {
        Arc::new(RgbImage::new(4, 4))
    }

    fn with_way() -> Interpolate {
        let end = |smile: f32| {
            let mut recipe = Recipe::default();
            recipe.set_slider("Smiling", smile);
            End { photo: PhotoId(1), recipe }
        };
        let way = Way { ends: [end(0.0), end(50.0)], path: InterpolationPath::Latent, steps: 3, keep_detail: true };
        Interpolate { way: Some(way), ..Interpolate::default() }
    }

    #[test]
    fn a_drag_wants_a_preview_alone_and_a_rest_everything() {
        let mut view = with_way();
        view.share = 0.3;
        view.dragging = true;
        assert_eq!(view.missing(), [(0.3, Quality::Preview)]);
        view.dragging = false;
        let missing = view.missing();
        assert_eq!(missing.len(), 1 + view.options.frames);
        assert_eq!(missing[0], (0.3, Quality::Final));
        let ctx = egui::Context::default();
        view.take_picture(&ctx, 1, 0.3, Quality::Final, picture());
        view.take_picture(&ctx, 1, 0.0, Quality::Final, picture());
        assert_eq!(view.missing().len(), view.options.frames - 1);
    }

    #[test]
    fn pictures_of_another_way_are_not_shown() {
        let (mut view, ctx) = (with_way(), egui::Context::default());
        view.generation = 5;
        view.forget();
        view.take_picture(&ctx, 5, 0.5, Quality::Final, picture());
        assert_eq!(view.quality(), None);
        view.take_picture(&ctx, 6, 0.5, Quality::Preview, picture());
        assert_eq!(view.quality(), Some(Quality::Preview));
        view.take_picture(&ctx, 6, 0.5, Quality::Final, picture());
        assert_eq!(view.quality(), Some(Quality::Final));
    }

    #[test]
    fn playing_goes_there_and_back_over_what_is_there() {
        let (mut view, ctx) = (with_way(), egui::Context::default());
        view.options = Options { frames: 3, rate: 1, ..Options::default() };
        view.play_or_pause();
        view.advance(1.0);
        for share in [0.0, 0.5, 1.0] {
            view.take_picture(&ctx, 1, share, Quality::Final, picture());
        }
        view.playing = Some(0.0);
        let mut seen = Vec::new();
        for _ in 0..5 {
            view.advance(1.0);
            seen.push(view.share);
        }
        assert_eq!(seen, [0.5, 1.0, 0.5, 0.0, 0.5]);
    }

    #[test]
    fn an_export_waits_for_its_pictures() {
        let (mut view, ctx) = (with_way(), egui::Context::default());
        view.options.frames = 2;
        view.export(Export::Animation, "a.gif".into(), false);
        assert!(view.take_export().is_none());
        for share in [0.0, 1.0] {
            view.take_picture(&ctx, 1, share, Quality::Final, picture());
        }
        let Some(Request::ExportSequence { sequence, .. }) = view.take_export() else { panic!("everything is there") };
        assert_eq!(sequence.frames.len(), 2);
        assert!(!view.is_exporting());
    }

    #[test]
    fn an_export_goes_on_or_is_told_to_be_given_up() {
        let mut view = with_way();
        let export = |view: &mut Interpolate| {
            view.export(Export::Strip, "a.png".into(), false);
            view.asked = Some((500, false, 9, Easing::Linear));
        };
        export(&mut view);
        assert!(view.leave().is_none() && view.is_exporting(), "the engine goes on with it");
        view.forget();
        assert!(!view.is_exporting() && view.take_gave_up(), "another way");
        export(&mut view);
        view.asked = None;
        assert!(view.leave().is_some() && view.take_gave_up(), "nobody makes its pictures");
        assert!(view.leave().is_some() && !view.take_gave_up());
    }

    #[test]
    fn the_saved_picture_is_the_one_that_was_shown() {
        let (mut view, ctx) = (with_way(), egui::Context::default());
        view.share = 0.3;
        view.mark();
        view.share = 0.7;
        view.export(Export::Picture, "a.png".into(), false);
        assert_eq!(view.missing()[..2], [(0.7, Quality::Final), (0.3, Quality::Final)]);
        for i in 0..200 {
            view.take_picture(&ctx, 1, 0.5 + f64::from(i) / 1000.0, Quality::Final, picture());
        }
        assert!(view.take_export().is_none());
        view.take_picture(&ctx, 1, 0.3, Quality::Final, picture());
        view.take_picture(&ctx, 1, 0.9, Quality::Final, picture());
        let Some(Request::ExportSequence { sequence, .. }) = view.take_export() else { panic!("it is there") };
        assert_eq!(sequence.frames.len(), 1);
    }

    #[test]
    fn old_places_of_the_slider_are_forgotten() {
        let (mut view, ctx) = (with_way(), egui::Context::default());
        for i in 0..200 {
            view.take_picture(&ctx, 1, f64::from(i) / 200.0, Quality::Final, picture());
        }
        assert!(view.pictures.len() <= view.options.frames + KEPT + 1);
    }
}
