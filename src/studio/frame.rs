//! Which part of the photo is edited: boxes over its faces, one of which is picked, and the frame that is set by hand.
//!
//! - [`adjust`]: the frame by hand.

pub mod adjust;

use std::sync::Arc;

use egui::{Align2, CursorIcon, Margin, Panel, Pos2, Rect, Role, Sense, Stroke, StrokeKind, Ui, WidgetInfo};

use super::command::Command;
use super::picture::{Picture, Place, chip};
use super::tokens::{Palette, on_picture, radius, space};
use crate::face::Face;
use crate::photo::Frame;
use adjust::{Adjustment, Outcome};

/// The open photo's faces, the frame in use, and the one that is being set.
#[derive(Default)]
pub struct Framing {
    /// Width and height of the photo in pixels.
    size: [u32; 2],
    /// Best first, as the command line counts them.
    faces: Arc<[Face]>,
    frame: Option<Frame>,
    adjustment: Option<Adjustment>,
    /// Whether the model made it, so that nobody looked for a face.
    made_up: bool,
}

/// What the person decided.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Choice {
    /// To set the frame by hand.
    Adjust,
    /// To edit what is in this frame.
    Use(Frame),
}

/// Between the photo's pixels and the screen's points.
#[derive(Debug, Clone, Copy)]
struct OnScreen {
    place: Place,
    /// Points a pixel.
    scale: f64,
}

impl OnScreen {
    fn new(place: Place, width: u32) -> Self {
        Self { place, scale: f64::from(place.whole.width()) / f64::from(width.max(1)) }
    }

    fn point(&self, [x, y]: [f64; 2]) -> Pos2 {
        self.place.whole.min + egui::vec2((x * self.scale) as f32, (y * self.scale) as f32)
    }

    fn pixel(&self, point: Pos2) -> [f64; 2] {
        let from = point - self.place.whole.min;
        [f64::from(from.x) / self.scale, f64::from(from.y) / self.scale]
    }
}

impl Framing {
    /// A photo was opened. `size` is its width and height in pixels; `faces` are best first.
    /// A picture that the model made up is framed as it frames faces.
    pub fn open(&mut self, size: [u32; 2], faces: Arc<[Face]>, frame: Frame, made_up: bool) {
        *self = Self { size, faces, frame: Some(frame), adjustment: None, made_up };
    }

    /// The open photo is seen through another frame.
    pub fn reframed(&mut self, frame: Frame) {
        self.frame = Some(frame);
    }

    /// The frame in use.
    pub fn frame(&self) -> Option<Frame> {
        self.frame
    }

    /// Whether the frame in use is another than the one that is found first.
    pub fn is_set(&self) -> bool {
        let [width, height] = self.size;
        let found = self.faces.first().map_or_else(|| Frame::middle_of(width, height), |face| face.fit().frame);
        self.frame.is_some_and(|frame| frame != found)
    }

    pub fn is_adjusting(&self) -> bool {
        self.adjustment.is_some()
    }

    /// Begins with the frame in use.
    pub fn start_adjusting(&mut self) {
        self.adjustment = self.frame.map(|frame| Adjustment::new(frame, self.size));
    }

    /// The face that the frame in use was fitted to.
    fn chosen(&self) -> Option<usize> {
        self.faces.iter().position(|face| Some(face.fit().frame) == self.frame)
    }

    /// Why the frame may not fit, where nobody has set it by hand.
    fn concern(&self) -> Option<&'static str> {
        let [width, height] = self.size;
        match self.chosen() {
            Some(face) => {
                let poor = self.faces[face].fit().is_poor();
                poor.then_some("The face is turned far to the side or partly hidden, so the edit may not fit it.")
            }
            None => {
                let in_the_middle = !self.made_up && self.faces.is_empty() && self.frame == Some(Frame::middle_of(width, height));
                in_the_middle.then_some("No face was found, so the square in the middle is edited.")
            }
        }
    }

    /// Of the faces the one nearest to a frame.
    fn found_near(&self, frame: Frame) -> Option<Frame> {
        let distance = |f: &Frame| (f.centre[0] - frame.centre[0]).hypot(f.centre[1] - frame.centre[1]);
        self.faces.iter().map(|face| face.fit().frame).min_by(|a, b| distance(a).total_cmp(&distance(b)))
    }

    /// The row under the picture: the controls of the frame that is being set, or why one should be.
    pub fn show_row(&mut self, ui: &mut Ui) -> Option<Choice> {
        let concern = self.concern();
        if concern.is_none() && self.adjustment.is_none() {
            return None;
        }
        let row = egui::Frame::new().inner_margin(Margin { top: space::S as i8, ..Margin::ZERO });
        let row = Panel::bottom("frame").resizable(false).frame(row).show_separator_line(false);
        row.show(ui, |ui| match (&self.adjustment, concern) {
            (Some(adjustment), _) => {
                let frame = adjustment.frame();
                let found = self.found_near(frame);
                let outcome = self.adjustment.as_mut().and_then(|adjustment| adjustment.show_controls(ui, found));
                self.finish(outcome)
            }
            (None, Some(concern)) => show_concern(ui, concern),
            (None, None) => None,
        })
        .inner
    }

    /// Draws the frame that is being set over the original.
    pub fn show_adjustment(&mut self, ui: &mut Ui, picture: &mut Picture) -> Option<Choice> {
        let outcome = self.adjustment.as_mut()?.show(ui, picture);
        self.finish(outcome)
    }

    fn finish(&mut self, outcome: Option<Outcome>) -> Option<Choice> {
        let outcome = outcome?;
        self.adjustment = None;
        match outcome {
            Outcome::Apply(frame) => (Some(frame) != self.frame).then_some(Choice::Use(frame)),
            Outcome::Cancel => None,
        }
    }

    /// Boxes over the faces, where there are several, to pick one. They are drawn while the pointer is over the picture, while one has
    /// the keyboard, and as long as `undecided`; they can be reached always.
    pub fn show_faces(&self, ui: &Ui, place: Option<Place>, undecided: bool) -> Option<Choice> {
        let place = place.filter(|_| self.faces.len() > 1)?;
        let screen = OnScreen::new(place, self.size[0]);
        let chosen = self.chosen();
        let boxes: Vec<_> = (0..self.faces.len()).filter_map(|i| self.show_box(ui, &screen, i, chosen == Some(i))).collect();
        let drawn = undecided || ui.rect_contains_pointer(place.seen) || boxes.iter().any(|(_, response)| response.has_focus());
        for (i, response) in boxes.iter().filter(|_| drawn) {
            paint_box(ui, response, *i, chosen == Some(*i));
        }
        let (picked, _) = boxes.iter().find(|(i, response)| response.clicked() && chosen != Some(*i))?;
        Some(Choice::Use(self.faces[*picked].fit().frame))
    }

    /// A face's box as something to click; `None` where it is out of sight.
    fn show_box(&self, ui: &Ui, screen: &OnScreen, i: usize, chosen: bool) -> Option<(usize, egui::Response)> {
        let face = &self.faces[i];
        let whole = Rect::from_two_pos(screen.point([face.left, face.top]), screen.point([face.right, face.bottom]));
        let rect = whole.intersect(screen.place.seen);
        if !rect.is_positive() {
            return None;
        }
        let response = ui.interact(rect, ui.scope_id().with(("face", i)), Sense::click());
        let name = format!("Face {} of {}", i + 1, self.faces.len());
        response.widget_info(|| WidgetInfo::selected(Role::Button, ui.is_enabled(), chosen, &name));
        // Over the face that is edited the pointer looks at the picture.
        let response = if chosen { response } else { response.on_hover_text("Edit this face").on_hover_cursor(CursorIcon::PointingHand) };
        Some((i, response))
    }
}

fn show_concern(ui: &mut Ui, concern: &str) -> Option<Choice> {
    let mut choice = None;
    ui.horizontal_wrapped(|ui| {
        let (dot, _) = ui.allocate_exact_size(egui::vec2(space::S, space::S), Sense::hover());
        ui.painter().circle_filled(dot.center(), 4.0, Palette::of(ui.visuals()).draft);
        ui.label(concern);
        let adjust = Command::AdjustFrame;
        if ui.button(adjust.label()).on_hover_text(adjust.tooltip_with_shortcut(ui.ctx())).clicked() {
            choice = Some(Choice::Adjust);
        }
    });
    choice
}

fn paint_box(ui: &Ui, response: &egui::Response, i: usize, chosen: bool) {
    let lively = response.has_focus() || response.hovered();
    let colour = if chosen || response.has_focus() { Palette::of(ui.visuals()).accent } else { on_picture::DIVIDER };
    let width = if lively { 3.0 } else { 2.0 };
    let corners = f32::from(radius::PICTURE);
    ui.painter().rect_stroke(response.rect, corners, Stroke::new(width + 2.0, on_picture::SHADOW), StrokeKind::Middle);
    ui.painter().rect_stroke(response.rect, corners, Stroke::new(width, colour), StrokeKind::Middle);
    chip(ui, &response.rect, Align2::LEFT_TOP, &(i + 1).to_string());
}

#[cfg(test)]
mod tests {
    use egui::pos2;

    use super::*;
    use crate::face::Landmarks;

    /// A face whose points lie on the template, in a frame around `x`, `y`.
    fn face(x: f64, y: f64) -> Face {
        let frame = Frame { centre: [x, y], side: 100.0, angle: 0.0 };
        let points = [[0.37, 0.48], [0.62, 0.48], [0.5, 0.64], [0.5, 0.75], [0.2, 0.5], [0.8, 0.5]];
        let [left, top] = frame.point([0.2, 0.2]);
        let [right, bottom] = frame.point([0.8, 0.9]);
        Face { score: 0.9, left, top, right, bottom, landmarks: Landmarks::from(points.map(|p| frame.point(p))) }
    }

    #[test]
    fn only_an_unset_frame_is_a_concern() {
        let mut framing = Framing::default();
        assert_eq!(framing.concern(), None);
        framing.open([300, 200], Arc::new([]), Frame::middle_of(300, 200), false);
        assert!(framing.concern().is_some_and(|concern| concern.contains("No face")));
        framing.reframed(Frame { centre: [100.0, 80.0], side: 90.0, angle: 0.1 });
        assert_eq!(framing.concern(), None, "set by hand");
        framing.open([128, 128], Arc::new([]), Frame::middle_of(128, 128), true);
        assert_eq!(framing.concern(), None, "made up");

        let mut turned = face(100.0, 100.0);
        framing.open([300, 200], Arc::new([turned.clone()]), turned.fit().frame, false);
        assert_eq!(framing.concern(), None, "a good fit");
        turned.landmarks.left_eye[0] = turned.landmarks.right_eye[0] + 2.0;
        framing.open([300, 200], Arc::new([turned.clone()]), turned.fit().frame, false);
        assert!(framing.concern().is_some_and(|concern| concern.contains("turned")));
    }

    #[test]
    fn the_way_back_leads_to_the_nearest_face() {
        let mut framing = Framing::default();
        let faces = [face(60.0, 100.0), face(240.0, 100.0)];
        let frames = faces.clone().map(|face| face.fit().frame);
        framing.open([300, 200], Arc::new(faces), frames[0], false);
        assert_eq!(framing.found_near(Frame { centre: [200.0, 90.0], side: 20.0, angle: 0.0 }), Some(frames[1]));
        assert_eq!(framing.chosen(), Some(0));
        framing.reframed(frames[1]);
        assert_eq!(framing.chosen(), Some(1));
    }

    #[test]
    fn pixels_and_points_are_inverse() {
        let whole = Rect::from_min_max(pos2(-40.0, 10.0), pos2(160.0, 110.0));
        let screen = OnScreen::new(Place { whole, seen: whole }, 800);
        assert_eq!(screen.point([400.0, 200.0]), pos2(60.0, 60.0));
        assert_eq!(screen.pixel(pos2(60.0, 60.0)), [400.0, 200.0]);
    }
}
