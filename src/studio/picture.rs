//! The picture: before and after, the divider, zoom.

use std::sync::Arc;

use egui::emath::GuiRounding as _;
use egui::{
    Align2, Color32, ColorImage, CornerRadius, CursorIcon, EventFilter, FontId, Key, Modifiers, Pos2, Rect, Role, Sense, Stroke, TextStyle,
    TextureHandle, TextureOptions, Ui, Vec2, WidgetInfo, pos2, vec2,
};
use image::RgbImage;
use serde::{Deserialize, Serialize};

use super::close_up::{Closer, Look};
use super::tokens::{Palette, on_picture, radius, space};
use crate::engine::Quality;
use crate::engine::close_up::{CloseUp, Part};

/// How before and after are shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Compare {
    #[default]
    Edited,
    Split,
    SideBySide,
    Difference,
}

/// Which picture is on the screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Shown {
    pub generation: u64,
    pub quality: Quality,
}

/// Where the photo is on the screen, in points.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Place {
    /// The whole photo; zoomed in, it reaches beyond what is seen.
    pub whole: Rect,
    /// What of the window it may be drawn into.
    pub seen: Rect,
}

/// The open photo, before and after.
pub struct Picture {
    before: Option<TextureHandle>,
    after: Option<TextureHandle>,
    /// What the difference is measured from.
    original: Option<Arc<RgbImage>>,
    /// Where `after` differs from it; made when it is to be seen.
    difference: Option<TextureHandle>,
    /// The pixels of `after`, for the clipboard.
    pixels: Option<Arc<RgbImage>>,
    shown: Option<Shown>,
    /// Pictures of an older generation belong to another photo.
    oldest: u64,
    pub compare: Compare,
    /// The divider's place, as a share of the picture's width.
    pub divider: f32,
    /// 1 = the whole picture.
    zoom: f32,
    /// How far the picture's middle is from the area's, in points.
    pan: Vec2,
    /// While the pointer is pressed down on the picture: where it was when the picture was last moved along, or else when it was pressed.
    grabbed: Option<Pos2>,
    /// Where the original, or else the edited picture, was drawn last.
    place: Option<Place>,
    /// The photo's own size, in pixels.
    size: Vec2,
    /// Pixels of the screen for each of the photo's, where all of it is seen.
    fitted_scale: f32,
    closer: Closer,
}

/// How much larger than the whole picture any photo can be seen,
const MAX_ZOOM: f32 = 8.0;
/// and at least as many pixels of the screen for each of its own.
const MAX_SCALE: f32 = 2.0;
const ZOOM_STEP: f32 = 1.25;
/// Where the divider starts.
const MIDDLE: f32 = 0.5;
/// Share of the width that an arrow key moves the divider by.
const DIVIDER_STEP: f32 = 0.02;
const WHOLE: Rect = Rect { min: Pos2::ZERO, max: pos2(1.0, 1.0) };

impl Default for Picture {
    fn default() -> Self {
        Self {
            before: None,
            after: None,
            original: None,
            difference: None,
            pixels: None,
            shown: None,
            oldest: 0,
            compare: Compare::default(),
            divider: MIDDLE,
            zoom: 1.0,
            pan: Vec2::ZERO,
            grabbed: None,
            place: None,
            size: Vec2::ZERO,
            fitted_scale: 1.0,
            closer: Closer::default(),
        }
    }
}

impl Picture {
    /// Shows a newly opened photo, `size` pixels wide and high. Pictures of a generation before `oldest` are not for it.
    pub fn open(&mut self, ctx: &egui::Context, original: Arc<RgbImage>, size: [u32; 2], oldest: u64) {
        self.size = size.map(|side| side as f32).into();
        // Not known before it is drawn.
        self.fitted_scale = 1.0;
        self.before = Some(texture(ctx, "before", &original, TextureOptions::LINEAR));
        self.original = Some(original);
        self.forget_edits(oldest);
        self.closer = Closer::default();
        self.fit();
    }

    /// Shows the open photo without an edit until a picture of generation `oldest` or newer comes.
    pub fn forget_edits(&mut self, oldest: u64) {
        (self.after, self.difference) = (None, None);
        self.pixels = None;
        self.shown = None;
        self.oldest = oldest;
        self.closer.forget_edits();
    }

    /// Takes a decoded picture unless a newer or better one is shown already.
    pub fn offer(&mut self, ctx: &egui::Context, offered: Shown, image: Arc<RgbImage>) -> bool {
        if offered.generation < self.oldest || self.shown.is_some_and(|shown| offered < shown) {
            return false;
        }
        match &mut self.after {
            Some(after) if after.size() == [image.width() as usize, image.height() as usize] => {
                after.set(pixels(&image), TextureOptions::LINEAR)
            }
            after => *after = Some(texture(ctx, "after", &image, TextureOptions::LINEAR)),
        }
        self.difference = None;
        self.pixels = Some(image);
        self.shown = Some(offered);
        true
    }

    /// Shows no photo any more.
    pub fn close(&mut self) {
        *self = Self { compare: self.compare, divider: self.divider, ..Self::default() };
    }

    /// The edited picture, as it is on the screen.
    pub fn edited(&self) -> Option<&Arc<RgbImage>> {
        self.pixels.as_ref()
    }

    pub fn is_open(&self) -> bool {
        self.before.is_some()
    }

    /// What is on the screen; `None` while it is still the original.
    pub fn shown(&self) -> Option<Shown> {
        self.shown
    }

    /// The edited picture's pixels.
    pub fn to_copy(&self) -> Option<ColorImage> {
        self.pixels.as_deref().map(pixels)
    }

    pub fn zoom_in(&mut self) {
        self.zoom_about(ZOOM_STEP, Vec2::ZERO);
    }

    pub fn zoom_out(&mut self) {
        self.zoom_about(1.0 / ZOOM_STEP, Vec2::ZERO);
    }

    /// One pixel of the screen for each of the photo's.
    pub fn show_actual_size(&mut self) {
        self.zoom_about(1.0 / self.scale(), Vec2::ZERO);
    }

    /// Whether that is closer than the whole picture, and not what is seen already.
    pub fn can_show_actual_size(&self) -> bool {
        self.is_open() && self.fitted_scale > 0.0 && self.fitted_scale < 1.0 && (self.scale() - 1.0).abs() > 1e-3
    }

    /// Pixels of the screen for each of the photo's.
    pub fn scale(&self) -> f32 {
        self.fitted_scale * self.zoom
    }

    /// Takes a part of the present photo at its own resolution.
    pub fn take_close_up(&mut self, ctx: &egui::Context, close_up: CloseUp) {
        self.closer.take(ctx, close_up, self.oldest);
    }

    /// What the engine is to be asked for, as the picture was drawn last: a part to show at its own resolution, or no longer any.
    /// [`Picture::asked`] tells that it was.
    pub fn due_request(&mut self, ctx: &egui::Context) -> Option<Option<Part>> {
        self.closer.due_request(ctx)
    }

    pub fn asked(&mut self, part: Option<Part>) {
        self.closer.asked(part);
    }

    /// The part that is shown at its own resolution, if there is one with the edit that is on the screen.
    pub fn close_up(&self) -> Option<Part> {
        self.closer.part(self.shown)
    }

    pub fn fit(&mut self) {
        self.zoom = 1.0;
        self.pan = Vec2::ZERO;
    }

    pub fn is_zoomed(&self) -> bool {
        self.zoom > 1.0
    }

    pub fn can_zoom_in(&self) -> bool {
        self.zoom < self.max_zoom()
    }

    fn max_zoom(&self) -> f32 {
        MAX_ZOOM.max(MAX_SCALE / self.fitted_scale)
    }

    /// Zooms so that the point `from_middle` (in points, from the area's middle) stays where it is.
    fn zoom_about(&mut self, factor: f32, from_middle: Vec2) {
        let zoom = (self.zoom * factor).clamp(1.0, self.max_zoom());
        self.pan = from_middle - (from_middle - self.pan) * (zoom / self.zoom);
        self.zoom = zoom;
    }

    /// Draws the picture into what is left of `ui`. `hold_original`: a key asks for the original.
    pub fn show(&mut self, ui: &mut Ui, name: &str, hold_original: bool) {
        let area = ui.available_rect_before_wrap();
        let Some(before) = self.before.clone() else { return };
        let cells = match self.compare {
            Compare::SideBySide => {
                let gap = space::M / 2.0;
                let (left, right) = area.split_left_right_at_fraction(0.5);
                vec![left.with_max_x(left.right() - gap), right.with_min_x(right.left() + gap)]
            }
            Compare::Edited | Compare::Split | Compare::Difference => vec![area],
        };
        let fitted = fit(self.size, cells[0].size());
        // Points on the picture that a response covers: both cells of a pair behave as one.
        let response = ui.interact(area, ui.scope_id().with("picture"), Sense::CLICK | Sense::DRAG);
        response.widget_info(|| WidgetInfo::labeled(Role::Image, true, name));
        self.navigate(ui, &response, &cells, fitted);
        let held = hold_original || (response.is_pointer_button_down_on() && !self.is_zoomed() && ui.input(|i| i.pointer.primary_down()));

        let (pan, size, scale) = (self.pan, fitted * self.zoom, ui.pixels_per_point());
        let place = |cell: &Rect| placed(cell.center() + pan, size, scale);
        self.take_place(ui, Place { whole: place(&cells[0]), seen: cells[0] }, before.size_vec2());
        match self.compare {
            Compare::SideBySide => {
                self.draw(ui, &cells[0], place(&cells[0]), Look::Before, "Original");
                let (look, chip) = if held { (Look::Before, "Original") } else { (Look::After, "Edited") };
                self.draw(ui, &cells[1], place(&cells[1]), look, chip);
            }
            Compare::Edited | Compare::Split | Compare::Difference if held => self.draw(ui, &area, place(&area), Look::Before, "Original"),
            Compare::Edited => self.draw(ui, &area, place(&area), Look::After, ""),
            Compare::Difference => {
                self.draw(ui, &area, place(&area), Look::Difference, "Difference");
            }
            Compare::Split => {
                let rect = place(&area);
                let seen = rect.intersect(area);
                let x = self.show_divider(ui, rect, seen);
                self.draw(ui, &area.with_min_x(x), rect, Look::After, "");
                self.draw(ui, &area.with_max_x(x), rect, Look::Before, "");
                chip(ui, &seen.with_max_x(x), Align2::LEFT_TOP, "Original");
                chip(ui, &seen.with_min_x(x), Align2::RIGHT_TOP, "Edited");
                paint_divider(ui, x, seen);
            }
        }
    }

    /// Remembers where the photo is drawn.
    fn take_place(&mut self, ui: &Ui, place: Place, coarse: Vec2) {
        self.place = Some(place);
        self.fitted_scale = place.whole.width() / self.zoom * ui.pixels_per_point() / self.size.x.max(1.0);
        self.closer.look(ui, self.is_zoomed().then_some(place), self.size, coarse);
    }

    /// Draws the photo at `rect` into `cell`, as sharp as there is, under a caption.
    fn draw(&mut self, ui: &Ui, cell: &Rect, rect: Rect, look: Look, label: &str) {
        let texture = match look {
            Look::Before => None,
            Look::After => self.after.clone(),
            Look::Difference => self.difference_texture(ui.ctx()),
        };
        // Until the first decode arrives the original stands in for it.
        let Some(texture) = texture.or_else(|| self.before.clone()) else { return };
        paint(ui, cell, rect, &texture, "");
        self.closer.paint(ui, cell, rect, self.size, look, self.shown);
        if !label.is_empty() {
            chip(ui, &rect.intersect(*cell), Align2::LEFT_TOP, label);
        }
    }

    /// Where the photo was drawn last.
    pub fn place(&self) -> Option<Place> {
        self.place
    }

    /// Draws the original alone into the place of `response`, and moves it by `drag`. Ctrl and the wheel, or a pinch, zoom.
    pub fn show_original(&mut self, ui: &Ui, response: &egui::Response, drag: Vec2) -> Option<Place> {
        let coarse = self.before.as_ref()?.size_vec2();
        let area = response.rect;
        let fitted = fit(self.size, area.size());
        if response.contains_pointer() {
            self.zoom_with_wheel(ui, &[area]);
        }
        self.pan += drag;
        self.keep_within(area.size(), fitted);
        let whole = placed(area.center() + self.pan, fitted * self.zoom, ui.pixels_per_point());
        self.take_place(ui, Place { whole, seen: area }, coarse);
        self.draw(ui, &area, whole, Look::Before, "");
        self.place
    }

    /// Whether it did.
    fn zoom_with_wheel(&mut self, ui: &Ui, cells: &[Rect]) -> bool {
        let (zoom, pointer) = ui.input(|input| (input.zoom_delta(), input.pointer.hover_pos()));
        if zoom == 1.0 {
            return false;
        }
        let cell = pointer.and_then(|p| cells.iter().find(|cell| cell.contains(p))).unwrap_or(&cells[0]);
        let from_middle = pointer.map_or(Vec2::ZERO, |p| p - cell.center());
        self.zoom_about(zoom, from_middle);
        true
    }

    /// Never moved further than until an edge of the picture reaches the area's.
    fn keep_within(&mut self, area: Vec2, fitted: Vec2) {
        let most = ((fitted * self.zoom - area) * 0.5).max(Vec2::ZERO);
        self.pan = self.pan.clamp(-most, most);
    }

    fn difference_texture(&mut self, ctx: &egui::Context) -> Option<TextureHandle> {
        let (original, edited) = (self.original.as_ref()?, self.pixels.as_ref().or(self.original.as_ref())?);
        if self.difference.is_none() {
            self.difference = Some(texture(ctx, "difference", &difference(original, edited), TextureOptions::LINEAR));
        }
        self.difference.clone()
    }

    /// Zoom with Ctrl and the wheel or a pinch; move a zoomed picture with the wheel or by dragging.
    fn navigate(&mut self, ui: &Ui, response: &egui::Response, cells: &[Rect], fitted: Vec2) {
        if response.hovered() && !self.zoom_with_wheel(ui, cells) {
            self.pan += ui.input(|input| input.smooth_scroll_delta());
        }
        self.follow_drag(ui, response);
        self.keep_within(cells[0].size(), fitted);
        if self.is_zoomed() && response.hovered() {
            ui.ctx().set_cursor_icon(if response.dragged() { CursorIcon::Grabbing } else { CursorIcon::Grab });
        }
    }

    /// What was under the pointer when it was pressed down stays there, however far it goes before that is known to be a drag.
    fn follow_drag(&mut self, ui: &Ui, response: &egui::Response) {
        let (origin, pointer) = ui.input(|input| (input.pointer.press_origin(), input.pointer.latest_pos()));
        if response.is_pointer_button_down_on() && self.grabbed.is_none() {
            self.grabbed = origin;
        }
        if let (true, Some(from), Some(to)) = (response.dragged() || response.drag_stopped(), self.grabbed, pointer) {
            self.pan += to - from;
            self.grabbed = Some(to);
        }
        if !response.is_pointer_button_down_on() {
            self.grabbed = None;
        }
    }

    /// Lets the divider be moved; returns its place on the screen.
    fn show_divider(&mut self, ui: &Ui, rect: Rect, seen: Rect) -> f32 {
        let x = |divider: f32| (rect.left() + divider * rect.width()).clamp(seen.left(), seen.right());
        let handle = Rect::from_center_size(pos2(x(self.divider), seen.center().y), vec2(24.0, seen.height()));
        let response =
            ui.interact(handle, ui.scope_id().with("divider"), Sense::drag()).on_hover_and_drag_cursor(CursorIcon::ResizeHorizontal);
        if let Some(pointer) = response.interact_pointer_pos() {
            self.divider = (pointer.x - rect.left()) / rect.width();
        }
        if response.has_focus() {
            let arrows = EventFilter { horizontal_arrows: true, ..Default::default() };
            ui.memory_mut(|memory| memory.set_focus_lock_filter(response.id, arrows));
            let steps = ui.input_mut(|input| {
                let right = input.count_and_consume_key(Modifiers::NONE, Key::ArrowRight) as f32;
                right - input.count_and_consume_key(Modifiers::NONE, Key::ArrowLeft) as f32
            });
            self.divider += steps * DIVIDER_STEP;
        }
        self.divider = self.divider.clamp(0.0, 1.0);
        let percent = f64::from(self.divider * 100.0).round();
        response.widget_info(|| WidgetInfo::slider(true, percent, "Divider"));
        x(self.divider)
    }
}

pub(super) fn pixels(image: &RgbImage) -> ColorImage {
    ColorImage::from_rgb([image.width() as usize, image.height() as usize], image.as_raw())
}

/// A picture on the graphics card.
pub(super) fn texture(ctx: &egui::Context, name: &str, image: &RgbImage, options: TextureOptions) -> TextureHandle {
    ctx.load_texture(name, pixels(image), options)
}

/// How much a small change is enlarged to be seen.
const DIFFERENCE_GAIN: i32 = 3;

/// Grey where nothing changed; lighter and darker where the edit is, three times as strong.
pub(super) fn difference(original: &RgbImage, edited: &RgbImage) -> RgbImage {
    let mut out = original.clone();
    for (out, edited) in out.iter_mut().zip(edited.iter()) {
        *out = (128 + DIFFERENCE_GAIN * (i32::from(*edited) - i32::from(*out))).clamp(0, 255) as u8;
    }
    out
}

/// Where a picture of this size is drawn around a point: from a whole pixel of the screen on, or one of the photo's would be between two.
fn placed(centre: Pos2, size: Vec2, pixels_per_point: f32) -> Rect {
    Rect::from_min_size((centre - size / 2.0).round_to_pixels(pixels_per_point), size)
}

/// The largest size of the picture's shape within `room`.
pub(super) fn fit(picture: Vec2, room: Vec2) -> Vec2 {
    picture * (room / picture).min_elem().max(0.0)
}

/// Draws that part of a picture at `rect` which lies in `cell`.
pub(super) fn paint(ui: &Ui, cell: &Rect, rect: Rect, texture: &TextureHandle, label: &str) {
    let painter = ui.painter().with_clip_rect(cell.intersect(ui.clip_rect()));
    painter.image(texture.id(), rect, WHOLE, Color32::WHITE);
    if !label.is_empty() {
        chip(ui, &rect.intersect(*cell), Align2::LEFT_TOP, label);
    }
}

/// A small caption on the picture; left out where it does not fit.
pub(super) fn chip(ui: &Ui, room: &Rect, corner: Align2, label: &str) {
    let font: FontId = TextStyle::Small.resolve(ui.style());
    let galley = ui.painter().layout_no_wrap(label.to_owned(), font, on_picture::CHIP_TEXT);
    let padding = vec2(space::S, space::XS);
    let size = galley.size() + 2.0 * padding;
    let room = room.shrink(space::S);
    if room.width() < size.x || room.height() < size.y {
        return;
    }
    let rect = corner.align_size_within_rect(size, room);
    ui.painter().rect_filled(rect, CornerRadius::same(radius::PICTURE), on_picture::CHIP);
    ui.painter().galley(rect.min + padding, galley, on_picture::CHIP_TEXT);
}

fn paint_divider(ui: &Ui, x: f32, seen: Rect) {
    let painter = ui.painter();
    let focused = ui.memory(|memory| memory.has_focus(ui.scope_id().with("divider")));
    let colour = if focused { Palette::of(ui.visuals()).accent } else { on_picture::DIVIDER };
    painter.vline(x, seen.y_range(), Stroke::new(4.0, on_picture::SHADOW));
    painter.vline(x, seen.y_range(), Stroke::new(2.0, colour));
    let centre = pos2(x, seen.center().y);
    painter.circle(centre, 13.0, on_picture::DIVIDER, Stroke::new(1.5, if focused { colour } else { on_picture::SHADOW }));
    for side in [-1.0, 1.0] {
        let tip = centre + vec2(side * 7.0, 0.0);
        let stroke = Stroke::new(1.5, Color32::from_gray(60));
        painter.line(vec![tip + vec2(-side * 3.5, -3.5), tip, tip + vec2(-side * 3.5, 3.5)], stroke);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image() -> Arc<RgbImage> {
        Arc::new(RgbImage::new(8, 8))
    }

    #[test]
    fn pictures_never_go_back() {
        let ctx = egui::Context::default();
        let mut picture = Picture::default();
        picture.open(&ctx, image(), [8, 8], 5);
        let mut offer = |generation, quality| picture.offer(&ctx, Shown { generation, quality }, image());
        assert!(!offer(4, Quality::Final), "of the photo before");
        assert!(offer(5, Quality::Preview));
        assert!(offer(7, Quality::Preview));
        assert!(!offer(6, Quality::Final), "older than the one on the screen");
        assert!(offer(7, Quality::Final));
        assert!(!offer(7, Quality::Preview), "worse than the one on the screen");
        assert!(offer(7, Quality::Final), "rendered again");
        assert!(offer(8, Quality::Preview));
    }

    #[test]
    fn an_unchanged_pixel_is_grey_in_the_difference() {
        let original = RgbImage::from_pixel(2, 1, image::Rgb([10, 200, 90]));
        let mut edited = original.clone();
        edited.put_pixel(1, 0, image::Rgb([20, 100, 90]));
        let difference = difference(&original, &edited);
        assert_eq!(difference.get_pixel(0, 0).0, [128, 128, 128]);
        assert_eq!(difference.get_pixel(1, 0).0, [158, 0, 128]);
    }

    #[test]
    fn zooming_keeps_the_point_under_the_pointer() {
        let mut picture = Picture::default();
        let point = vec2(40.0, -10.0);
        picture.zoom_about(2.0, point);
        // The picture's point at `point` before: (point - 0) / 1; after: (point - pan) / zoom.
        assert_eq!((point - picture.pan) / picture.zoom, point);
        picture.zoom_about(0.01, Vec2::ZERO);
        assert_eq!(picture.zoom, 1.0);
    }
}
