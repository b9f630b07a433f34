//! The panel of sliders: one a direction of the model, in groups, favourites first, with a search.

use std::collections::BTreeSet;

use egui::{
    Align, Button, CollapsingHeader, Color32, DragValue, Event, Key, Label, Layout, Modifiers, Painter, Pos2, Rect, Response, RichText,
    Role, ScrollArea, Sense, Slider, SliderClamping, Stroke, TextEdit, Ui, WidgetInfo, lerp, pos2, vec2,
};

use super::command::Command;
use super::history::Change;
use super::tokens::{Palette, size, space};
use crate::editing::{Group, Recipe, describe};

/// The ends of a slider, in percent.
const RANGE: f32 = 100.0;
/// How far a typed value may go, in percent. Beyond it nothing of a face is left.
const TYPED_RANGE: f32 = 300.0;

/// Percent that a turn of the wheel (with Shift) moves a slider by.
const WHEEL_STEP: f32 = 5.0;

/// Sliders that people ask for first; they lead their groups, in this order.
const WANTED: [&str; 14] = [
    "Smiling",
    "Mouth_Slightly_Open",
    "Young",
    "Male",
    "Pale_Skin",
    "Blond_Hair",
    "Bangs",
    "Black_Hair",
    "Gray_Hair",
    "No_Beard",
    "Mustache",
    "Eyeglasses",
    "Heavy_Makeup",
    "Wearing_Hat",
];

/// The groups that are open at first.
const OPEN: [Group; 2] = [Group::Expression, Group::FaceAndAge];

/// What the person did to the recipe in this frame.
#[derive(Debug, Clone, PartialEq)]
pub enum Touch {
    /// Nothing, or nothing any more.
    None,
    /// A slider or a value is held down; `moved` once it is a drag and not a click.
    Held { attribute: String, moved: bool },
    /// A change that is complete in itself.
    Changed(Change),
}

/// The panel's own state.
#[derive(Debug, Default)]
pub struct Sliders {
    search: String,
    /// Shows sliders that are off zero or kept, and no others.
    changed_only: bool,
    /// Attributes that the person marked; they come first.
    pub favourites: BTreeSet<String>,
}

impl Sliders {
    /// Draws the panel and writes what the person changes into `recipe`. The clicked command, if any, comes second.
    /// `beside_reset` draws what stands beside the button that resets all.
    pub fn show(
        &mut self,
        ui: &mut Ui,
        attributes: &[String],
        recipe: &mut Recipe,
        enabled: bool,
        beside_reset: impl FnOnce(&mut Ui),
        below: impl FnOnce(&mut Ui, &mut Recipe) -> Touch,
    ) -> (Touch, Option<Command>) {
        let mut command = None;
        ui.horizontal(|ui| {
            ui.heading("Change");
            ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
                let reset = Command::ResetAll;
                let button = ui.add_enabled(recipe.is_changed(), Button::new(reset.label()));
                if button.on_hover_text(reset.tooltip_with_shortcut(ui.ctx())).clicked() {
                    command = Some(reset);
                }
                beside_reset(ui);
            });
        });
        ui.add_space(space::XS);
        self.show_search(ui);
        ui.add_space(space::S);
        let touch = ScrollArea::vertical().auto_shrink(false).show(ui, |ui| {
            // Room for the scroll bar, so that it never covers a button.
            ui.set_max_width(ui.available_width() - space::M);
            ui.add_enabled_ui(enabled, |ui| {
                let touch = self.show_groups(ui, attributes, recipe);
                let advanced = below(ui, recipe);
                if advanced == Touch::None { touch } else { advanced }
            })
            .inner
        });
        (touch.inner, command)
    }

    fn show_search(&mut self, ui: &mut Ui) {
        let has_text = !self.search.is_empty();
        ui.horizontal(|ui| {
            // Beside it: the filter, and the button that clears the search.
            let width = ui.available_width() - 84.0 - if has_text { 60.0 } else { 0.0 };
            let edit = TextEdit::singleline(&mut self.search).hint_text("Search sliders").desired_width(width);
            let response = ui.add(edit);
            response.widget_info(|| WidgetInfo::labeled(Role::SearchInput, true, "Search sliders"));
            if has_text && ui.button("Clear").clicked() {
                self.search.clear();
            }
            let filter = ui.add(Button::selectable(self.changed_only, "Changed").min_size(vec2(76.0, 0.0)));
            if filter.on_hover_text("Show only the sliders that are moved or kept").clicked() {
                self.changed_only = !self.changed_only;
            }
        });
    }

    fn show_groups(&mut self, ui: &mut Ui, attributes: &[String], recipe: &mut Recipe) -> Touch {
        if attributes.is_empty() {
            ui.weak("This model has no sliders.");
            return Touch::None;
        }
        let mut touch = Touch::None;
        let mut found = false;
        let filtering = self.changed_only || !self.search.trim().is_empty();
        let favourites: Vec<&str> = Group::ALL.into_iter().flat_map(|group| self.members(group, attributes, recipe)).collect();
        let favourites = favourites.into_iter().filter(|name| self.favourites.contains(*name)).collect();
        let groups = Group::ALL.map(|group| (group.title(), OPEN.contains(&group), self.members(group, attributes, recipe)));
        let mut marked = None;
        for (title, open, members) in std::iter::once(("Favourites", true, favourites)).chain(groups) {
            if members.is_empty() {
                continue;
            }
            found = true;
            let changed = members.iter().filter(|attribute| recipe.slider(attribute) != 0.0).count();
            let heading = if changed > 0 { format!("{title} ({changed})") } else { title.to_owned() };
            CollapsingHeader::new(RichText::new(heading).strong())
                .id_salt(title)
                .default_open(open)
                .open(filtering.then_some(true))
                .show_unindented(ui, |ui| {
                    for attribute in members {
                        let row = show_row(ui, attribute, self.favourites.contains(attribute), recipe);
                        if row.touch != Touch::None {
                            touch = row.touch;
                        }
                        if row.marked {
                            marked = Some(attribute.to_owned());
                        }
                    }
                    ui.add_space(space::XS);
                });
        }
        if let Some(attribute) = marked
            && !self.favourites.remove(&attribute)
        {
            self.favourites.insert(attribute);
        }
        if !found {
            ui.weak(if self.changed_only { "No slider is moved or kept." } else { "No slider has that name." });
        }
        touch
    }

    /// The attributes of a group that match search and filter, the most wanted first.
    fn members<'a>(&self, group: Group, attributes: &'a [String], recipe: &Recipe) -> Vec<&'a str> {
        let search = self.search.trim().to_lowercase();
        let mut members: Vec<(usize, String, &str)> = attributes
            .iter()
            .filter_map(|name| {
                let attribute = describe(name);
                let matches = attribute.label.to_lowercase().contains(&search) || name.to_lowercase().contains(&search);
                let rank = WANTED.iter().position(|wanted| wanted == name).unwrap_or(WANTED.len());
                let filtered = self.changed_only && recipe.slider(name) == 0.0 && !recipe.locked.contains(name);
                (attribute.group == group && matches && !filtered).then_some((rank, attribute.label, name.as_str()))
            })
            .collect();
        members.sort();
        members.into_iter().map(|(_, _, name)| name).collect()
    }
}

/// What came of a row.
struct Row {
    touch: Touch,
    /// It becomes a favourite, or stops being one.
    marked: bool,
}

/// One slider: name, rail, value, lock, reset.
fn show_row(ui: &mut Ui, attribute: &str, favourite: bool, recipe: &mut Recipe) -> Row {
    let label = describe(attribute).label;
    let before = recipe.slider(attribute);
    let mut value = before;
    let mut touch = Touch::None;
    let (mut marked, mut locks) = (false, false);
    let locked = recipe.locked.contains(attribute);
    ui.push_id(attribute, |ui| {
        ui.horizontal(|ui| {
            ui.set_min_height(size::ROW);
            ui.spacing_mut().item_spacing.x = space::XS;
            let name = ui
                .allocate_ui_with_layout(vec2(size::NAME, size::ROW), Layout::left_to_right(Align::Center), |ui| {
                    ui.set_min_width(size::NAME);
                    ui.add(Label::new(&label).truncate().selectable(false).sense(Sense::click()))
                })
                .inner;
            let tooltip = format!("{attribute}. Right-click for more");
            if name.clone().on_hover_text(&tooltip).double_clicked() {
                value = 0.0;
            }

            let rail_width = ui.available_width() - size::VALUE - 2.0 * size::RESET - 3.0 * ui.spacing().item_spacing.x;
            let rail = show_rail(ui, &mut value, rail_width.max(40.0)).labelled_by(name.id).on_hover_text(&tooltip);
            // Slider itself only senses drags.
            let rail = rail.interact(Sense::click());
            let wheel = wheel_steps(ui, &rail);
            value += wheel * WHEEL_STEP;
            if rail.has_focus() {
                let keys = |keys: &[Key]| ui.input_mut(|input| keys.iter().any(|key| input.consume_key(Modifiers::NONE, *key)));
                if keys(&[Key::Delete, Key::Backspace]) {
                    value = 0.0;
                }
                locks |= keys(&[Key::L]);
                marked |= keys(&[Key::F]);
            }

            let typed = ui
                .allocate_ui_with_layout(vec2(size::VALUE, size::ROW), Layout::left_to_right(Align::Center), |ui| {
                    ui.spacing_mut().interact_size.x = size::VALUE;
                    // The widest text fits, so that the row does not shift.
                    ui.spacing_mut().button_padding.x = space::XS / 2.0;
                    let field = DragValue::new(&mut value)
                        .range(-TYPED_RANGE..=TYPED_RANGE)
                        .speed(1.0)
                        .max_decimals(1)
                        .custom_formatter(|value, _| signed(value))
                        // One edit is one step, not one a keystroke.
                        .update_while_editing(false)
                        .clip_text(true);
                    ui.add(field)
                })
                .inner
                .labelled_by(name.id);

            if rail.double_clicked() {
                value = 0.0;
            }
            for part in [&rail, &typed] {
                if part.is_pointer_button_down_on() {
                    touch = Touch::Held { attribute: attribute.to_owned(), moved: part.dragged() };
                }
            }
            let near = ui.rect_contains_pointer(ui.min_rect());
            locks |= show_lock(ui, &label, locked, near);
            if show_reset(ui, &label, before != 0.0) {
                value = 0.0;
                touch = Touch::Changed(Change::Whole);
            }
            for part in [&name, &rail] {
                part.context_menu(|ui| {
                    ui.set_min_width(size::MENU);
                    marked |= ui.button(if favourite { "Remove from favourites" } else { "Add to favourites" }).clicked();
                    locks |= ui.button(if locked { "Let it change" } else { "Keep it as it is" }).clicked();
                    if ui.button("Set back to 0").clicked() {
                        value = 0.0;
                    }
                });
            }
            if value != before && touch == Touch::None {
                let nudged = rail.changed() || wheel != 0.0;
                let change = if nudged { Change::Nudge(attribute.to_owned()) } else { Change::Whole };
                touch = Touch::Changed(change);
            }
        });
    });
    if value != before {
        recipe.set_slider(attribute, value.clamp(-TYPED_RANGE, TYPED_RANGE));
    }
    if locks {
        if !recipe.locked.remove(attribute) {
            recipe.locked.insert(attribute.to_owned());
        }
        touch = Touch::Changed(Change::Whole);
    }
    Row { touch, marked }
}

/// Turns of the wheel over a slider with Shift, which leaves the panel's own scrolling alone. Up and right are positive.
fn wheel_steps(ui: &Ui, rail: &Response) -> f32 {
    if !rail.hovered() || !ui.is_enabled() {
        return 0.0;
    }
    ui.input(|input| {
        let turns = input.events.iter().map(|event| match event {
            Event::MouseWheel { delta, modifiers, .. } if modifiers.shift => (delta.x + delta.y).signum() * f32::from(delta.length() > 0.0),
            _ => 0.0,
        });
        turns.sum()
    })
}

/// The lock keeps its place while it is hidden. It shows while it is closed, or the pointer or the keyboard is near.
fn show_lock(ui: &mut Ui, label: &str, locked: bool, near: bool) -> bool {
    let palette = Palette::of(ui.visuals());
    // Not a stop of the Tab key, which would take twice as long from slider to slider: L does the same on a slider.
    let (rect, response) = ui.allocate_exact_size(vec2(size::RESET, size::RESET), Sense::CLICK);
    response.widget_info(|| WidgetInfo::selected(Role::Button, ui.is_enabled(), locked, format!("Keep {label}")));
    let bright = response.hovered() || response.has_focus();
    if bright {
        ui.painter().rect_filled(rect, 4.0, palette.control_hovered);
    }
    if locked || near || bright {
        let colour = if locked { palette.accent } else { palette.weak_text };
        paint_lock(ui.painter(), rect.center(), locked, colour);
    }
    let tooltip = if locked { "Kept: the other sliders leave it alone. Click to let it change" } else { "Keep this while others move" };
    response.on_hover_text(tooltip).clicked()
}

/// A padlock; the window's font has none.
fn paint_lock(painter: &Painter, centre: Pos2, closed: bool, colour: Color32) {
    let body = Rect::from_center_size(centre + vec2(0.0, 2.5), vec2(9.0, 7.0));
    painter.rect_filled(body, 1.5, colour);
    // The shackle: up the left side, over the top, down the right side, which ends in the air while the lock is open.
    let (left, right, top) = (body.left() + 1.5, body.right() - 1.5, body.top() - if closed { 2.5 } else { 4.0 });
    let radius = (right - left) / 2.0;
    let arc = (0..=8).map(|i| {
        let angle = std::f32::consts::PI * (1.0 + i as f32 / 8.0);
        pos2((left + right) / 2.0 + radius * angle.cos(), top + radius * angle.sin())
    });
    let end = pos2(right, if closed { body.top() } else { top + 1.0 });
    let points = std::iter::once(pos2(left, body.top())).chain(arc).chain([end]).collect();
    painter.add(egui::Shape::line(points, Stroke::new(1.5, colour)));
}

/// The slider proper. egui fills from the left end; here the middle is zero, so rail and handle are drawn over again.
fn show_rail(ui: &mut Ui, value: &mut f32, width: f32) -> Response {
    let before = *value;
    let palette = Palette::of(ui.visuals());
    let response = ui
        .scope(|ui| {
            ui.visuals_mut().widgets.inactive.bg_fill = palette.rail;
            ui.spacing_mut().slider_width = width;
            ui.spacing_mut().interact_size.y = 18.0;
            let slider = Slider::new(value, -RANGE..=RANGE).clamping(SliderClamping::Never).step_by(1.0).show_value(false);
            ui.add(slider)
        })
        .inner;
    // Slider follows every button, also the one that opens the menu.
    let primary = ui.input(|input| input.pointer.primary_down() || input.pointer.primary_released());
    if response.interact_pointer_pos().is_some() && !primary {
        *value = before;
    }
    if !ui.is_rect_visible(response.rect) {
        return response;
    }
    let rect = response.rect;
    let handle = rect.height() / 2.5;
    let x = |value: f32| lerp(rect.left() + handle..=rect.right() - handle, ((value + RANGE) / (2.0 * RANGE)).clamp(0.0, 1.0));
    let (zero, at) = (pos2(x(0.0), rect.center().y), pos2(x(*value), rect.center().y));
    let live = ui.is_enabled();
    let fill = if live { palette.accent } else { palette.control_active };
    let thickness = ui.spacing().slider_rail_height;
    let painter = ui.painter();
    painter.line_segment([zero - vec2(0.0, 5.0), zero + vec2(0.0, 5.0)], Stroke::new(1.0, palette.rail));
    if *value != 0.0 {
        painter.line_segment([zero, at], Stroke::new(thickness, fill));
    }
    let knob = if ui.visuals().dark_mode { palette.strong_text } else { Color32::WHITE };
    let knob = if live { knob } else { palette.control_hovered };
    let held = response.is_pointer_button_down_on() || response.hovered();
    let ring = match (response.has_focus(), live && (held || *value != 0.0)) {
        (true, _) => Stroke::new(3.0, palette.accent),
        (false, true) => Stroke::new(2.0, fill),
        (false, false) => Stroke::new(1.0, palette.rail),
    };
    painter.circle(at, handle, knob, ring);
    response
}

/// The reset button keeps its place while it is hidden, so that nothing jumps.
fn show_reset(ui: &mut Ui, label: &str, shown: bool) -> bool {
    let side = vec2(size::RESET, size::RESET);
    if !shown {
        ui.allocate_exact_size(side, Sense::hover());
        return false;
    }
    let palette = Palette::of(ui.visuals());
    let (rect, response) = ui.allocate_exact_size(side, Sense::click());
    let response = response.on_hover_text("Set back to 0");
    response.widget_info(|| WidgetInfo::labeled(Role::Button, ui.is_enabled(), format!("Reset {label}")));
    let bright = response.hovered() || response.has_focus();
    if bright {
        ui.painter().rect_filled(rect, 4.0, palette.control_hovered);
    }
    let stroke = Stroke::new(1.5, if bright { palette.strong_text } else { palette.weak_text });
    let arm = vec2(3.5, 3.5);
    ui.painter().line_segment([rect.center() - arm, rect.center() + arm], stroke);
    let arm = vec2(3.5, -3.5);
    ui.painter().line_segment([rect.center() - arm, rect.center() + arm], stroke);
    response.clicked()
}

/// A value with its sign; whole numbers without decimals.
fn signed(value: f64) -> String {
    let value = (value * 10.0).round() / 10.0;
    if value == 0.0 {
        "0".to_owned()
    } else if value.fract() == 0.0 {
        format!("{value:+.0}")
    } else {
        format!("{value:+.1}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: &[&str]) -> Vec<String> {
        list.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn the_most_wanted_lead_their_group() {
        let all = names(&["Narrow_Eyes", "Smiling", "Bald", "Bangs", "Blond_Hair"]);
        let sliders = Sliders::default();
        assert_eq!(sliders.members(Group::Expression, &all, &Recipe::default()), ["Smiling", "Narrow_Eyes"]);
        assert_eq!(sliders.members(Group::Hair, &all, &Recipe::default()), ["Blond_Hair", "Bangs", "Bald"]);
        assert!(sliders.members(Group::Beard, &all, &Recipe::default()).is_empty());
    }

    #[test]
    fn the_search_knows_both_names() {
        let all = names(&["Eyeglasses", "Smiling"]);
        let nothing = Recipe::default();
        let search = |text: &str| Sliders { search: text.to_owned(), ..Sliders::default() };
        assert_eq!(search("GLASS").members(Group::MakeUpAndAccessories, &all, &nothing), ["Eyeglasses"]);
        assert_eq!(search("smiling").members(Group::Expression, &all, &nothing), ["Smiling"]);
        assert_eq!(search("smile ").members(Group::Expression, &all, &nothing), ["Smiling"]);
    }

    #[test]
    fn the_filter_shows_what_is_moved_or_kept() {
        let all = names(&["Smiling", "Narrow_Eyes", "High_Cheekbones"]);
        let sliders = Sliders { changed_only: true, ..Sliders::default() };
        let mut recipe = Recipe::default();
        assert!(sliders.members(Group::Expression, &all, &recipe).is_empty());
        recipe.set_slider("Smiling", 10.0);
        recipe.locked.insert("Narrow_Eyes".to_owned());
        assert_eq!(sliders.members(Group::Expression, &all, &recipe), ["Smiling", "Narrow_Eyes"]);
    }

    #[test]
    fn a_lock_is_drawn_closed_and_open() {
        let centre = pos2(40.0, 30.0);
        let drawn = |closed| {
            let ctx = egui::Context::default();
            let mut output = ctx.run_ui(egui::RawInput::default(), |ui| paint_lock(ui.painter(), centre, closed, Color32::RED));
            let red = |shape: &egui::Shape| match shape {
                egui::Shape::Rect(body) => body.fill == Color32::RED,
                egui::Shape::Path(shackle) => shackle.stroke.color == egui::epaint::ColorMode::Solid(Color32::RED),
                _ => false,
            };
            output.textures_delta.clear();
            let shapes: Vec<_> = std::mem::take(&mut output.shapes).into_iter().map(|clipped| clipped.shape).filter(red).collect();
            assert_eq!(shapes.len(), 2, "a body and a shackle");
            shapes
        };
        let ends = |shapes: &[egui::Shape]| match shapes {
            [egui::Shape::Rect(body), egui::Shape::Path(shackle)] => {
                let points = &shackle.points;
                let all = points.iter().fold(body.rect, |rect, point| rect.union(Rect::from_min_max(*point, *point)));
                assert!(Rect::from_center_size(centre, vec2(size::RESET, size::RESET)).contains_rect(all), "it fits its place");
                (points[0].y - body.rect.top(), points[points.len() - 1].y - body.rect.top())
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(ends(&drawn(true)), (0.0, 0.0), "both ends of the shackle are in the body");
        let (left, right) = ends(&drawn(false));
        assert!(left == 0.0 && right < -1.0, "one end is in the air: {right}");
    }

    #[test]
    fn no_value_makes_its_row_wider() {
        let width = |value: f32| {
            let ctx = egui::Context::default();
            super::super::tokens::apply(&ctx);
            let mut recipe = Recipe::default();
            recipe.set_slider("Smiling", value);
            let mut width = 0.0;
            let mut output = ctx.run_ui(egui::RawInput::default(), |ui| {
                ui.set_max_width(300.0);
                let row = ui.scope(|ui| show_row(ui, "Smiling", false, &mut recipe));
                width = row.response.rect.width();
            });
            output.textures_delta.clear();
            width
        };
        assert_eq!([100.0, -100.0, 299.9, -299.9].map(width), [width(0.0); 4]);
    }

    #[test]
    fn values_are_written_with_their_sign() {
        assert_eq!([0.0, -0.04, 35.0, -100.0, 12.54].map(signed), ["0", "0", "+35", "-100", "+12.5"]);
    }
}
