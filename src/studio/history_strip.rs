//! The strip of thumbnails under the picture: snapshots, then every step of the present photo's history.

use egui::{
    Align, Align2, Color32, Rect, Role, ScrollArea, Sense, Stroke, StrokeKind, TextStyle, TextureHandle, Ui, WidgetInfo, pos2, vec2,
};
use image::RgbImage;
use serde::{Deserialize, Serialize};

use super::history::History;
use super::shelf;
use super::tokens::{Palette, on_picture, radius, size, space};
use crate::editing::{Recipe, describe};
use crate::photo::Frame;

/// Thumbnails that are kept; older ones are shown as numbers.
const KEPT: usize = 64;

/// An edit that the person wants to come back to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    pub name: String,
    pub recipe: Recipe,
}

/// How edits of one photo look.
#[derive(Default)]
pub struct Looks {
    list: Vec<(Recipe, TextureHandle)>,
}

impl Looks {
    /// Keeps how a finished picture looks. `width` is the photo's in pixels, `frame` its frame.
    pub fn keep(&mut self, ctx: &egui::Context, recipe: &Recipe, picture: &RgbImage, width: u32, frame: Frame) {
        self.list.retain(|(known, _)| known != recipe);
        self.list.push((recipe.clone(), shelf::thumbnail(ctx, picture, width, frame)));
        if self.list.len() > KEPT {
            self.list.drain(..1);
        }
    }

    /// Without an edit that is the photo (`unedited`), also where it was not decoded since the start.
    fn of<'a>(&'a self, recipe: &Recipe, unedited: Option<&'a TextureHandle>) -> Option<&'a TextureHandle> {
        let known = self.list.iter().find(|(known, _)| known == recipe).map(|(_, texture)| texture);
        known.or(unedited.filter(|_| !recipe.is_changed()))
    }
}

/// What a click asks for.
#[derive(Debug, Clone, PartialEq)]
pub enum Wish {
    GoTo(usize),
    Apply(Recipe),
    Forget(usize),
}

/// Draws the strip. `unedited` is how the photo looks without an edit.
pub fn show(
    ui: &mut Ui,
    history: &History,
    present: &Recipe,
    snapshots: &[Snapshot],
    looks: &Looks,
    unedited: Option<&TextureHandle>,
) -> Option<Wish> {
    let mut wish = None;
    let (all, place) = history.all(present);
    ScrollArea::horizontal().auto_shrink(false).stick_to_right(true).show(ui, |ui| {
        ui.horizontal(|ui| {
            ui.spacing_mut().item_spacing.x = space::S;
            for (i, Snapshot { name, recipe }) in snapshots.iter().enumerate() {
                let item =
                    Item { name: format!("Snapshot {name}"), mark: name, texture: looks.of(recipe, unedited), chosen: false, faded: false };
                let (clicked, forgotten) = show_item(ui, ("snapshot", i), &item, true);
                if clicked {
                    wish = Some(Wish::Apply(recipe.clone()));
                } else if forgotten {
                    wish = Some(Wish::Forget(i));
                }
            }
            if !snapshots.is_empty() {
                ui.separator();
            }
            for (i, recipe) in all.iter().enumerate() {
                let before = i.checked_sub(1).map(|i| all[i]);
                let name = describe_step(before, recipe);
                let mark = i.to_string();
                let item = Item { name, mark: &mark, texture: looks.of(recipe, unedited), chosen: i == place, faded: i > place };
                if show_item(ui, ("step", i), &item, false).0 && i != place {
                    wish = Some(Wish::GoTo(i));
                }
            }
        });
    });
    wish
}

struct Item<'a> {
    name: String,
    /// Stands in for a missing picture.
    mark: &'a str,
    texture: Option<&'a TextureHandle>,
    chosen: bool,
    faded: bool,
}

/// Whether it was clicked, and whether its cross was.
fn show_item(ui: &mut Ui, id: (&str, usize), item: &Item<'_>, removable: bool) -> (bool, bool) {
    let palette = Palette::of(ui.visuals());
    let (rect, response) = ui.allocate_exact_size(vec2(size::THUMBNAIL, size::THUMBNAIL), Sense::click());
    response.widget_info(|| WidgetInfo::selected(Role::Button, true, item.chosen, &item.name));
    match item.texture {
        Some(texture) => {
            let tint = if item.faded { Color32::from_white_alpha(90) } else { Color32::WHITE };
            egui::Image::from_texture(texture).corner_radius(radius::PICTURE).tint(tint).paint_at(ui, rect);
        }
        None => {
            ui.painter().rect_filled(rect, f32::from(radius::PICTURE), palette.control);
            ui.painter().text(rect.center(), Align2::CENTER_CENTER, item.mark, TextStyle::Small.resolve(ui.style()), palette.weak_text);
        }
    }
    let near = response.contains_pointer() || response.has_focus();
    if item.chosen || near {
        let colour = if item.chosen || response.has_focus() { palette.accent } else { palette.control_active };
        ui.painter().rect_stroke(rect, f32::from(radius::PICTURE), Stroke::new(2.0, colour), StrokeKind::Inside);
    }
    if item.chosen && response.gained_focus() {
        response.scroll_to_me(Some(Align::Center));
    }
    let mut forgotten = false;
    if removable {
        let corner = Rect::from_min_size(pos2(rect.right() - 18.0, rect.top()), vec2(18.0, 18.0));
        let cross = ui.interact(corner, ui.scope_id().with(id), Sense::click());
        cross.widget_info(|| WidgetInfo::labeled(Role::Button, true, format!("Forget {}", item.name)));
        if near || cross.hovered() || cross.has_focus() {
            ui.painter().rect_filled(corner, f32::from(radius::PICTURE), on_picture::CHIP);
            let font = TextStyle::Body.resolve(ui.style());
            ui.painter().text(corner.center(), Align2::CENTER_CENTER, "×", font, on_picture::CHIP_TEXT);
        }
        forgotten = cross.on_hover_text("Forget this snapshot").clicked();
    }
    (response.on_hover_text(&item.name).clicked(), forgotten)
}

/// What a step of the history did, in a few words.
fn describe_step(before: Option<&Recipe>, after: &Recipe) -> String {
    let Some(before) = before else { return "At first".into() };
    let names = before.sliders.keys().chain(after.sliders.keys());
    let mut changed: Vec<&String> = names.filter(|name| before.slider(name) != after.slider(name)).collect();
    changed.sort();
    changed.dedup();
    match changed[..] {
        [] if before.locked != after.locked => "Kept or let go".into(),
        [] => "Advanced settings".into(),
        [name] => format!("{} {:+.0}", describe(name).label, after.slider(name)),
        _ if !after.is_changed() => "Reset".into(),
        [name, ..] => format!("{} and {} more", describe(name).label, changed.len() - 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_named_by_what_they_did() {
        let mut smile = Recipe::default();
        smile.set_slider("Smiling", 40.0);
        let mut both = smile.clone();
        both.set_slider("Young", -20.0);
        let mut kept = both.clone();
        kept.locked.insert("Male".into());
        let plain = Recipe::default();
        assert_eq!(describe_step(None, &plain), "At first");
        assert_eq!(describe_step(Some(&plain), &smile), "Smile +40");
        assert_eq!(describe_step(Some(&plain), &both), "Smile and 1 more");
        assert_eq!(describe_step(Some(&both), &plain), "Reset");
        assert_eq!(describe_step(Some(&both), &kept), "Kept or let go");
        assert_eq!(describe_step(Some(&plain), &Recipe { steps: 7, ..plain.clone() }), "Advanced settings");
    }
}
