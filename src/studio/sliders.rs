//! The panel of sliders: one a direction of the model, in groups, with a search.

use egui::{
    Align, Button, CollapsingHeader, Color32, DragValue, Label, Layout, Response, RichText, Role, ScrollArea, Sense, Slider,
    SliderClamping, Stroke, TextEdit, Ui, WidgetInfo, lerp, pos2, vec2,
};

use super::command::Command;
use super::history::Change;
use super::tokens::{Palette, size, space};
use crate::editing::{Group, Recipe, describe};

/// The ends of a slider, in percent.
const RANGE: f32 = 100.0;
/// How far a typed value may go, in percent. Beyond it nothing of a face is left.
const TYPED_RANGE: f32 = 300.0;

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
}

impl Sliders {
    /// Draws the panel and writes what the person changes into `recipe`. The clicked command, if any, comes second.
    pub fn show(&mut self, ui: &mut Ui, attributes: &[String], recipe: &mut Recipe, enabled: bool) -> (Touch, Option<Command>) {
        let mut command = None;
        ui.horizontal(|ui| {
            ui.heading("Change");
            ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
                let reset = Command::ResetAll;
                let button = ui.add_enabled(recipe.is_changed(), Button::new(reset.label()));
                if button.on_hover_text(reset.tooltip_with_shortcut(ui.ctx())).clicked() {
                    command = Some(reset);
                }
            });
        });
        ui.add_space(space::XS);
        self.show_search(ui);
        ui.add_space(space::S);
        let touch = ScrollArea::vertical().auto_shrink(false).show(ui, |ui| {
            // Room for the scroll bar, so that it never covers a button.
            ui.set_max_width(ui.available_width() - space::M);
            ui.add_enabled_ui(enabled, |ui| self.show_groups(ui, attributes, recipe)).inner
        });
        (touch.inner, command)
    }

    fn show_search(&mut self, ui: &mut Ui) {
        let has_text = !self.search.is_empty();
        ui.horizontal(|ui| {
            let width = ui.available_width() - if has_text { 60.0 } else { 0.0 };
            let edit = TextEdit::singleline(&mut self.search).hint_text("Search sliders").desired_width(width);
            let response = ui.add(edit);
            response.widget_info(|| WidgetInfo::labeled(Role::SearchInput, true, "Search sliders"));
            if has_text && ui.button("Clear").clicked() {
                self.search.clear();
            }
        });
    }

    fn show_groups(&self, ui: &mut Ui, attributes: &[String], recipe: &mut Recipe) -> Touch {
        if attributes.is_empty() {
            ui.weak("This model has no sliders.");
            return Touch::None;
        }
        let mut touch = Touch::None;
        let mut found = false;
        let searching = !self.search.trim().is_empty();
        for group in Group::ALL {
            let members = self.members(group, attributes);
            if members.is_empty() {
                continue;
            }
            found = true;
            let changed = members.iter().filter(|attribute| recipe.slider(attribute) != 0.0).count();
            let title = if changed > 0 { format!("{} ({changed})", group.title()) } else { group.title().to_owned() };
            CollapsingHeader::new(RichText::new(title).strong())
                .id_salt(group.title())
                .default_open(OPEN.contains(&group))
                .open(searching.then_some(true))
                .show_unindented(ui, |ui| {
                    for attribute in members {
                        let row = show_row(ui, attribute, recipe);
                        if row != Touch::None {
                            touch = row;
                        }
                    }
                    ui.add_space(space::XS);
                });
        }
        if !found {
            ui.weak("No slider has that name.");
        }
        touch
    }

    /// The attributes of a group that match the search, the most wanted first.
    fn members<'a>(&self, group: Group, attributes: &'a [String]) -> Vec<&'a str> {
        let search = self.search.trim().to_lowercase();
        let mut members: Vec<(usize, String, &str)> = attributes
            .iter()
            .filter_map(|name| {
                let attribute = describe(name);
                let matches = attribute.label.to_lowercase().contains(&search) || name.to_lowercase().contains(&search);
                let rank = WANTED.iter().position(|wanted| wanted == name).unwrap_or(WANTED.len());
                (attribute.group == group && matches).then_some((rank, attribute.label, name.as_str()))
            })
            .collect();
        members.sort();
        members.into_iter().map(|(_, _, name)| name).collect()
    }
}

/// One slider: name, rail, value, reset.
fn show_row(ui: &mut Ui, attribute: &str, recipe: &mut Recipe) -> Touch {
    let label = describe(attribute).label;
    let before = recipe.slider(attribute);
    let mut value = before;
    let mut touch = Touch::None;
    let name_width = (ui.available_width() * 0.36).clamp(90.0, 170.0);
    ui.push_id(attribute, |ui| {
        ui.horizontal(|ui| {
            ui.set_min_height(size::ROW);
            let name = ui
                .allocate_ui_with_layout(vec2(name_width, size::ROW), Layout::left_to_right(Align::Center), |ui| {
                    ui.set_min_width(name_width);
                    ui.add(Label::new(&label).truncate().selectable(false).sense(Sense::click()))
                })
                .inner;
            if name.clone().on_hover_text(attribute).double_clicked() {
                value = 0.0;
            }

            let rail_width = ui.available_width() - size::VALUE - size::RESET - 2.0 * ui.spacing().item_spacing.x;
            let rail = show_rail(ui, &mut value, rail_width.max(40.0)).labelled_by(name.id).on_hover_text(attribute);
            // Slider itself only senses drags.
            let rail = rail.interact(Sense::click());

            let typed = ui
                .allocate_ui_with_layout(vec2(size::VALUE, size::ROW), Layout::left_to_right(Align::Center), |ui| {
                    ui.spacing_mut().interact_size.x = size::VALUE;
                    let field = DragValue::new(&mut value)
                        .range(-TYPED_RANGE..=TYPED_RANGE)
                        .speed(1.0)
                        .max_decimals(1)
                        .custom_formatter(|value, _| signed(value))
                        // One edit is one step, not one a keystroke.
                        .update_while_editing(false);
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
            if show_reset(ui, &label, before != 0.0) {
                value = 0.0;
                touch = Touch::Changed(Change::Whole);
            }
            if value != before && touch == Touch::None {
                let change = if rail.changed() { Change::Nudge(attribute.to_owned()) } else { Change::Whole };
                touch = Touch::Changed(change);
            }
        });
    });
    if value != before {
        recipe.set_slider(attribute, value.clamp(-TYPED_RANGE, TYPED_RANGE));
    }
    touch
}

/// The slider proper. egui fills from the left end; here the middle is zero, so rail and handle are drawn over again.
fn show_rail(ui: &mut Ui, value: &mut f32, width: f32) -> Response {
    let response = ui
        .scope(|ui| {
            ui.spacing_mut().slider_width = width;
            ui.spacing_mut().interact_size.y = 18.0;
            let slider = Slider::new(value, -RANGE..=RANGE).clamping(SliderClamping::Never).step_by(1.0).show_value(false);
            ui.add(slider)
        })
        .inner;
    if !ui.is_rect_visible(response.rect) {
        return response;
    }
    let palette = Palette::of(ui.visuals());
    let rect = response.rect;
    let handle = rect.height() / 2.5;
    let x = |value: f32| lerp(rect.left() + handle..=rect.right() - handle, ((value + RANGE) / (2.0 * RANGE)).clamp(0.0, 1.0));
    let (zero, at) = (pos2(x(0.0), rect.center().y), pos2(x(*value), rect.center().y));
    let live = ui.is_enabled();
    let fill = if live { palette.accent } else { palette.control_active };
    let thickness = ui.spacing().slider_rail_height;
    let painter = ui.painter();
    painter.line_segment([zero - vec2(0.0, 5.0), zero + vec2(0.0, 5.0)], Stroke::new(1.0, palette.control_active));
    if *value != 0.0 {
        painter.line_segment([zero, at], Stroke::new(thickness, fill));
    }
    let knob = if ui.visuals().dark_mode { palette.strong_text } else { Color32::WHITE };
    let knob = if live { knob } else { palette.control_hovered };
    let held = response.is_pointer_button_down_on() || response.hovered();
    let ring = match (response.has_focus(), live && (held || *value != 0.0)) {
        (true, _) => Stroke::new(3.0, palette.accent),
        (false, true) => Stroke::new(2.0, fill),
        (false, false) => Stroke::new(1.0, palette.control_active),
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
        assert_eq!(sliders.members(Group::Expression, &all), ["Smiling", "Narrow_Eyes"]);
        assert_eq!(sliders.members(Group::Hair, &all), ["Blond_Hair", "Bangs", "Bald"]);
        assert!(sliders.members(Group::Beard, &all).is_empty());
    }

    #[test]
    fn the_search_knows_both_names() {
        let all = names(&["Eyeglasses", "Smiling"]);
        let search = |text: &str| Sliders { search: text.to_owned() };
        assert_eq!(search("GLASS").members(Group::MakeUpAndAccessories, &all), ["Eyeglasses"]);
        assert_eq!(search("smiling").members(Group::Expression, &all), ["Smiling"]);
        assert_eq!(search("smile ").members(Group::Expression, &all), ["Smiling"]);
    }

    #[test]
    fn values_are_written_with_their_sign() {
        assert_eq!([0.0, -0.04, 35.0, -100.0, 12.54].map(signed), ["0", "0", "+35", "-100", "+12.5"]);
    }
}
