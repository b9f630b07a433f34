//! The frame set by hand: dragged, scaled and turned over the original, with the outline of a face to lay eyes, nose and mouth on.

use std::f64::consts::{PI, TAU};

use egui::{
    Button, Color32, CursorIcon, DragValue, EventFilter, Key, Label, Layout, Mesh, Modifiers, Pos2, Response, RichText, Role, Sense, Shape,
    Stroke, Ui, Vec2, WidgetInfo,
};

use super::OnScreen;
use crate::photo::Frame;
use crate::photo::frame::TEMPLATE;
use crate::studio::picture::Picture;
use crate::studio::tokens::{Palette, on_picture};

/// Side of the smallest frame in pixels; less holds no face.
const LEAST_SIDE: f64 = 8.0;
/// Side of the largest frame in the photo's longer sides.
const MOST_SIDES: f64 = 4.0;
/// How far from a handle it can be grabbed, in points.
const REACH: f32 = 14.0;
const HANDLE: f32 = 6.0;
/// From the frame's upper side to the knob that turns it, in points.
const KNOB: f32 = 30.0;
/// Share of the side that an arrow key moves the frame by; with Shift, ten times as much.
const MOVE_STEP: f64 = 0.005;
/// Share of the side that plus and minus change it by.
const SIZE_STEP: f64 = 0.01;
/// What comma and period turn the frame by.
const TURN_STEP: f64 = PI / 360.0;
/// How fast the wheel changes the size, per point of its way.
const WHEEL: f64 = 0.002;
/// The outline is left out of frames smaller than this, in points.
const LEAST_OUTLINE: f32 = 48.0;

const HINT: &str = "Lay eyes, nose and mouth on the marks. Drag: move. Wheel or corner: size. Knob: turn.";
const KEYS: &str = "Arrow keys move the frame, + and - change its size, comma and period turn it. Enter applies, Escape cancels";

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Outcome {
    Apply(Frame),
    Cancel,
}

/// What of the frame is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Handle {
    Inside,
    Corner,
    Knob,
}

/// A drag under way: it always starts from the frame as it was, so that no rounding adds up.
#[derive(Debug, Clone, Copy)]
struct Grip {
    handle: Handle,
    from: Frame,
    /// Where it was grabbed, in pixels.
    at: [f64; 2],
}

/// A frame that is being set.
#[derive(Debug)]
pub struct Adjustment {
    frame: Frame,
    /// Width and height of the photo in pixels.
    size: [f64; 2],
    grip: Option<Grip>,
    wants_focus: bool,
    /// Whether a value was being typed in the frame before: its Escape is not for this.
    was_typing: bool,
}

impl Adjustment {
    /// Starts with `frame` in a photo of `size` (width and height in pixels).
    pub fn new(frame: Frame, size: [u32; 2]) -> Self {
        Self { frame, size: size.map(f64::from), grip: None, wants_focus: true, was_typing: false }
    }

    /// The frame as it stands.
    pub fn frame(&self) -> Frame {
        self.frame
    }

    /// Draws original and frame into what is left of `ui`, and lets the frame be moved.
    pub fn show(&mut self, ui: &mut Ui, picture: &mut Picture) -> Option<Outcome> {
        let area = ui.available_rect_before_wrap();
        let response = ui.interact(area, ui.scope_id().with("frame"), Sense::drag());
        response.widget_info(|| WidgetInfo::labeled(Role::Group, true, "Frame"));
        if std::mem::take(&mut self.wants_focus) || response.drag_started() {
            response.request_focus();
        }
        // What is not the frame's moves the picture. Where the pointer went before it was pressed down in the same moment does not.
        let drag = if self.grip.is_none() && !response.drag_started() { response.drag_delta() } else { Vec2::ZERO };
        let place = picture.show_original(ui, &response, drag)?;
        let screen = OnScreen::new(place, self.size[0] as u32);
        self.follow_pointer(ui, &response, &screen);
        let outcome = self.follow_keys(ui, &response);
        self.frame = bounded(self.frame, self.size);
        self.paint(ui, &response, &screen);
        outcome
    }

    /// Draws the row of controls. `found` is the frame of a face that was found.
    pub fn show_controls(&mut self, ui: &mut Ui, found: Option<Frame>) -> Option<Outcome> {
        ui.horizontal(|ui| {
            self.show_values(ui);
            ui.add(Label::new(RichText::new(HINT).weak()).wrap()).on_hover_text(KEYS);
        });
        let mut outcome = None;
        ui.with_layout(Layout::right_to_left(egui::Align::Min), |ui| {
            let palette = Palette::of(ui.visuals());
            let apply = Button::new(RichText::new("Apply").color(palette.on_accent)).fill(palette.accent);
            if ui.add(apply).on_hover_text("Edit what is in the frame").clicked() {
                outcome = Some(Outcome::Apply(self.frame));
            }
            if ui.button("Cancel").on_hover_text("Leave the frame as it was").clicked() {
                outcome = Some(Outcome::Cancel);
            }
            let back = ui.add_enabled(found.is_some(), Button::new("Back to the found face"));
            let back = back.on_hover_text("Lay the frame on the face that was found");
            let back = back.on_disabled_hover_text("No face was found in this photo");
            if let Some(found) = found.filter(|_| back.clicked()) {
                self.frame = found;
            }
        });
        outcome
    }

    fn show_values(&mut self, ui: &mut Ui) {
        let label = ui.label("Size");
        let most = MOST_SIDES * self.size[0].max(self.size[1]);
        let speed = (self.frame.side / 200.0).max(0.1);
        let side = DragValue::new(&mut self.frame.side).range(LEAST_SIDE..=most).speed(speed).max_decimals(1).suffix(" px");
        ui.add(side).labelled_by(label.id).on_hover_text("Side of the frame in pixels of the photo");
        let label = ui.label("Angle");
        let mut degrees = self.frame.angle.to_degrees();
        let angle = DragValue::new(&mut degrees).range(-180.0..=180.0).speed(0.2).max_decimals(1).suffix("°");
        if ui.add(angle).labelled_by(label.id).on_hover_text("How far the frame is turned clockwise").changed() {
            self.frame.angle = degrees.to_radians();
        }
    }

    fn follow_pointer(&mut self, ui: &Ui, response: &Response, screen: &OnScreen) {
        if response.drag_started() {
            self.grip = response.interact_pointer_pos().and_then(|pointer| self.grip(pointer, screen));
        }
        match (self.grip, response.interact_pointer_pos()) {
            (Some(grip), Some(pointer)) if response.dragged() => self.frame = grip.moved_to(screen.pixel(pointer)),
            _ => self.grip = None,
        }
        let Some(pointer) = ui.input(|input| input.pointer.hover_pos()).filter(|_| response.contains_pointer()) else { return };
        let handle = self.grip.map(|grip| grip.handle).or_else(|| self.grip(pointer, screen).map(|grip| grip.handle));
        if let Some(handle) = handle {
            ui.ctx().set_cursor_icon(match handle {
                Handle::Inside => CursorIcon::Move,
                Handle::Corner => CursorIcon::ResizeNwSe,
                Handle::Knob => CursorIcon::Grab,
            });
        }
        // With Ctrl the wheel zooms the view.
        let (zoom, scroll) = ui.input(|input| (input.zoom_delta(), input.smooth_scroll_delta()));
        if zoom == 1.0 && self.grip.is_none() {
            self.frame.side *= (f64::from(scroll.y) * WHEEL).exp();
        }
    }

    /// What a press at `pointer` would hold.
    fn grip(&self, pointer: Pos2, screen: &OnScreen) -> Option<Grip> {
        let within_reach = |point: Pos2| point.distance(pointer) <= REACH;
        let handle = if within_reach(self.knob(screen)) {
            Handle::Knob
        } else if self.corners(screen).into_iter().any(within_reach) {
            Handle::Corner
        } else if self.frame.locate(screen.pixel(pointer)).iter().all(|v| (0.0..=1.0).contains(v)) {
            Handle::Inside
        } else {
            return None;
        };
        Some(Grip { handle, from: self.frame, at: screen.pixel(pointer) })
    }

    fn corners(&self, screen: &OnScreen) -> [Pos2; 4] {
        self.frame.corners().map(|corner| screen.point(corner))
    }

    /// Beyond the upper side, or within it where that is out of sight.
    fn knob(&self, screen: &OnScreen) -> Pos2 {
        let [middle, below] = [[0.5, 0.0], [0.5, 1.0]].map(|point| screen.point(self.frame.point(point)));
        let outwards = (middle - below).normalized();
        let beyond = middle + KNOB * outwards;
        if screen.place.seen.shrink(HANDLE).contains(beyond) { beyond } else { middle - KNOB * outwards }
    }

    fn follow_keys(&mut self, ui: &Ui, response: &Response) -> Option<Outcome> {
        let typing = ui.ctx().text_edit_focused();
        let elsewhere = typing || std::mem::replace(&mut self.was_typing, typing) || ui.memory(|memory| memory.top_modal_layer().is_some());
        if ui.input(|input| input.key_pressed(Key::Escape)) && !elsewhere && !egui::Popup::is_any_open(ui.ctx()) {
            return Some(Outcome::Cancel);
        }
        if !response.has_focus() {
            return None;
        }
        let arrows = EventFilter { horizontal_arrows: true, vertical_arrows: true, ..Default::default() };
        ui.memory_mut(|memory| memory.set_focus_lock_filter(response.id, arrows));
        ui.input_mut(|input| {
            let mut count = |less: Key, more: Key| {
                // Shift first: the keys without it fit as well.
                let mut times = |modifiers, key| input.count_and_consume_key(modifiers, key) as f64;
                let large = times(Modifiers::SHIFT, more) - times(Modifiers::SHIFT, less);
                10.0 * large + times(Modifiers::NONE, more) - times(Modifiers::NONE, less)
            };
            let step = MOVE_STEP * self.frame.side;
            self.frame.centre[0] += step * count(Key::ArrowLeft, Key::ArrowRight);
            self.frame.centre[1] += step * count(Key::ArrowUp, Key::ArrowDown);
            self.frame.angle += TURN_STEP * count(Key::Comma, Key::Period);
            let mut times = |modifiers, key| input.count_and_consume_key(modifiers, key) as f64;
            // Plus is Shift and another key on many keyboards.
            let larger = times(Modifiers::SHIFT, Key::Plus) + times(Modifiers::NONE, Key::Plus) + times(Modifiers::NONE, Key::Equals);
            self.frame.side *= (1.0 + SIZE_STEP).powf(larger - times(Modifiers::NONE, Key::Minus));
            let enter = input.consume_key(Modifiers::NONE, Key::Enter);
            enter.then_some(Outcome::Apply(bounded(self.frame, self.size)))
        })
    }

    fn paint(&self, ui: &Ui, response: &Response, screen: &OnScreen) {
        let painter = ui.painter().with_clip_rect(screen.place.seen.intersect(ui.clip_rect()));
        let corners = self.corners(screen);
        painter
            .with_clip_rect(screen.place.whole.intersect(painter.clip_rect()))
            .add(outside(corners, screen.place.seen.size().length() + 2.0 * corners[0].distance(corners[2])));
        let colour = if response.has_focus() { Palette::of(ui.visuals()).accent } else { on_picture::DIVIDER };
        let line = |points: Vec<Pos2>, width: f32, colour: Color32| {
            painter.line(points.clone(), Stroke::new(width + 2.0, on_picture::SHADOW));
            painter.line(points, Stroke::new(width, colour));
        };
        if corners[0].distance(corners[1]) >= LEAST_OUTLINE {
            for curve in outline() {
                line(curve.into_iter().map(|p| screen.point(self.frame.point(p))).collect(), 1.5, on_picture::DIVIDER);
            }
        }
        let top = screen.point(self.frame.point([0.5, 0.0]));
        let knob = self.knob(screen);
        line(vec![top, knob], 1.5, colour);
        line([0, 1, 2, 3, 0].map(|i| corners[i]).to_vec(), 2.0, colour);
        for handle in corners.into_iter().chain([knob]) {
            painter.circle(handle, HANDLE, on_picture::DIVIDER, Stroke::new(2.0, colour));
        }
    }
}

impl Grip {
    /// The frame once the grip is at `to` (pixels of the photo).
    fn moved_to(&self, to: [f64; 2]) -> Frame {
        let Self { handle, from, at } = *self;
        let from_centre = |p: [f64; 2]| [p[0] - from.centre[0], p[1] - from.centre[1]];
        let (a, b) = (from_centre(at), from_centre(to));
        match handle {
            Handle::Inside => Frame { centre: [from.centre[0] + to[0] - at[0], from.centre[1] + to[1] - at[1]], ..from },
            Handle::Corner => Frame { side: from.side * b[0].hypot(b[1]) / a[0].hypot(a[1]).max(1e-9), ..from },
            Handle::Knob => Frame { angle: from.angle + b[1].atan2(b[0]) - a[1].atan2(a[0]), ..from },
        }
    }
}

/// The nearest frame that makes sense in a photo of `size`: its middle in the photo, its angle within half a turn.
fn bounded(frame: Frame, size: [f64; 2]) -> Frame {
    let most = MOST_SIDES * size[0].max(size[1]);
    Frame {
        centre: [0, 1].map(|k| frame.centre[k].clamp(0.0, size[k])),
        side: frame.side.clamp(LEAST_SIDE, most.max(LEAST_SIDE)),
        angle: frame.angle - TAU * (frame.angle / TAU).round(),
    }
}

/// A shade over everything beyond a square: four stripes like the sails of a windmill, each along one side. `reach` is their length.
fn outside(corners: [Pos2; 4], reach: f32) -> Shape {
    let mut mesh = Mesh::default();
    for i in 0..4 {
        let (from, to) = (corners[i], corners[(i + 1) % 4]);
        let along = (to - from).normalized() * reach;
        // The corners go round clockwise, so outwards is to the left.
        let outwards = along.rot90();
        let first = mesh.vertices.len() as u32;
        for vertex in [from, from + along, from + along + outwards, from + outwards] {
            mesh.colored_vertex(vertex, on_picture::OUTSIDE);
        }
        mesh.add_triangle(first, first + 1, first + 2);
        mesh.add_triangle(first, first + 2, first + 3);
    }
    Shape::mesh(mesh)
}

/// The face that the model expects, as curves in frame coordinates: its oval, and eyes, nose and mouth where the template has them.
fn outline() -> Vec<Vec<[f64; 2]>> {
    const POINTS: usize = 40;
    let ellipse = |[x, y]: [f64; 2], across: f64, down: f64| {
        let point = |i: usize| {
            let (sine, cosine) = (TAU * i as f64 / POINTS as f64).sin_cos();
            [x + across * cosine, y + down * sine]
        };
        (0..=POINTS).map(point).collect::<Vec<_>>()
    };
    let [right_eye, left_eye, [x, y], mouth] = TEMPLATE;
    let nose = vec![[x, y - 0.10], [x, y - 0.03], [x - 0.04, y], [x, y + 0.02], [x + 0.04, y]];
    vec![
        ellipse([0.5, 0.56], 0.27, 0.37),
        ellipse(right_eye, 0.06, 0.025),
        ellipse(left_eye, 0.06, 0.025),
        nose,
        ellipse(mouth, 0.09, 0.03),
    ]
}

#[cfg(test)]
mod tests {
    use egui::pos2;

    use super::*;

    const FRAME: Frame = Frame { centre: [50.0, 40.0], side: 20.0, angle: 0.3 };

    fn grip(handle: Handle, at: [f64; 2]) -> Grip {
        Grip { handle, from: FRAME, at }
    }

    #[test]
    fn a_drag_moves_scales_or_turns() {
        let moved = grip(Handle::Inside, [52.0, 41.0]).moved_to([60.0, 30.0]);
        assert_eq!(moved, Frame { centre: [58.0, 29.0], ..FRAME });
        // A corner follows the pointer along its diagonal.
        let corner = FRAME.point([1.0, 1.0]);
        let scaled = grip(Handle::Corner, corner).moved_to(FRAME.point([1.5, 1.5]));
        assert!((scaled.side - 40.0).abs() < 1e-9 && scaled.centre == FRAME.centre, "{scaled:?}");
        // A knob dragged from above the middle to its right is a quarter turn.
        let turned = grip(Handle::Knob, FRAME.point([0.5, -0.2])).moved_to(FRAME.point([1.4, 0.5]));
        assert!((turned.angle - FRAME.angle - PI / 2.0).abs() < 1e-9, "{turned:?}");
    }

    #[test]
    fn frames_stay_where_they_make_sense() {
        let wild = Frame { centre: [-5.0, 900.0], side: 1e9, angle: 7.0 };
        let Frame { centre, side, angle } = bounded(wild, [100.0, 60.0]);
        assert_eq!((centre, side), ([0.0, 60.0], 400.0));
        assert!((angle - (7.0 - TAU)).abs() < 1e-9);
        assert_eq!(bounded(Frame { side: 0.0, ..FRAME }, [100.0, 60.0]).side, LEAST_SIDE);
        assert_eq!(bounded(FRAME, [100.0, 60.0]), FRAME);
    }

    /// The shade covers points beyond the square, once, and none within.
    #[test]
    fn the_shade_leaves_the_frame_out() {
        let corners = [pos2(40.0, 40.0), pos2(60.0, 44.0), pos2(56.0, 64.0), pos2(36.0, 60.0)];
        let Shape::Mesh(mesh) = outside(corners, 300.0) else { panic!("a mesh") };
        let covered = |p: Pos2| {
            let inside = |t: &[u32]| {
                let v = [t[0], t[1], t[2]].map(|i| mesh.vertices[i as usize].pos);
                let side = |a: Pos2, b: Pos2| (b - a).rot90().dot(p - a);
                let sides = [side(v[0], v[1]), side(v[1], v[2]), side(v[2], v[0])];
                sides.iter().all(|s| *s > 0.0) || sides.iter().all(|s| *s < 0.0)
            };
            mesh.indices.chunks(3).filter(|t| inside(t)).count()
        };
        assert_eq!(covered(pos2(48.3, 52.1)), 0);
        for p in [pos2(10.3, 50.7), pos2(50.1, 10.9), pos2(90.7, 50.2), pos2(50.9, 90.3), pos2(12.1, 11.3), pos2(91.9, 92.7)] {
            assert_eq!(covered(p), 1, "{p:?}");
        }
    }

    #[test]
    fn the_outline_lies_within_the_frame() {
        assert!(outline().into_iter().flatten().flatten().all(|v| (0.1..0.95).contains(&v)));
    }
}
