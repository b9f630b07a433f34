//! Edits that are kept by name, for any photo.

use egui::{Button, Key, Popup, PopupCloseBehavior, Role, ScrollArea, TextEdit, Ui, WidgetInfo, vec2};
use serde::{Deserialize, Serialize};

use super::tokens::{size, space};
use crate::editing::Recipe;

/// An edit and its name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Preset {
    pub name: String,
    recipe: Recipe,
    /// Whether the recipe says what becomes of the background. Presets from before there was a choice do not.
    #[serde(default)]
    says_background: bool,
}

impl Preset {
    pub fn new(name: String, recipe: Recipe) -> Self {
        Self { name, recipe, says_background: true }
    }

    /// The edit in place of another one, which keeps what the preset says nothing of.
    fn in_place_of(&self, present: &Recipe) -> Recipe {
        let mut recipe = self.recipe.clone();
        if !self.says_background {
            recipe.keep_background = present.keep_background;
        }
        recipe
    }
}

/// All presets, by name.
#[derive(Debug, Default)]
pub struct Presets {
    list: Vec<Preset>,
    /// The name that is being typed.
    name: String,
}

impl Presets {
    pub fn new(list: Vec<Preset>) -> Self {
        let mut presets = Self::default();
        list.into_iter().for_each(|preset| presets.save(preset));
        presets
    }

    pub fn list(&self) -> &[Preset] {
        &self.list
    }

    /// Keeps a preset, in place of one with its name.
    pub fn save(&mut self, preset: Preset) {
        self.list.retain(|other| other.name != preset.name);
        self.list.push(preset);
        self.list.sort_by_key(|preset| preset.name.to_lowercase());
    }

    /// Draws the button and what it opens; returns the edit to apply.
    pub fn show(&mut self, ui: &mut Ui, recipe: &Recipe) -> Option<Recipe> {
        let button = ui.button("Presets").on_hover_text("Edits that are kept by name, for any photo");
        let mut applied = None;
        Popup::from_toggle_button_response(&button).close_behavior(PopupCloseBehavior::CloseOnClickOutside).show(|ui| {
            ui.set_width(size::MENU);
            applied = self.show_list(ui, recipe);
            ui.separator();
            self.show_save(ui, recipe);
            if applied.is_some() {
                ui.close();
            }
        });
        applied
    }

    fn show_list(&mut self, ui: &mut Ui, present: &Recipe) -> Option<Recipe> {
        let (mut applied, mut forgotten) = (None, None);
        if self.list.is_empty() {
            ui.weak("No presets yet. Move some sliders, then save them here by a name.");
        }
        ScrollArea::vertical().max_height(260.0).show(ui, |ui| {
            for (i, preset) in self.list.iter().enumerate() {
                ui.horizontal(|ui| {
                    let width = ui.available_width() - size::RESET - space::L;
                    let apply = ui.add(Button::selectable(false, &preset.name).truncate().min_size(vec2(width, 0.0)));
                    if apply.on_hover_text("Apply to this photo").clicked() {
                        applied = Some(preset.in_place_of(present));
                    }
                    let forget = ui.button("×");
                    forget.widget_info(|| WidgetInfo::labeled(Role::Button, true, format!("Forget {}", preset.name)));
                    if forget.on_hover_text("Forget this preset").clicked() {
                        forgotten = Some(i);
                    }
                });
            }
        });
        if let Some(i) = forgotten {
            self.list.remove(i);
        }
        applied
    }

    fn show_save(&mut self, ui: &mut Ui, recipe: &Recipe) {
        ui.horizontal(|ui| {
            let edit = ui.add(TextEdit::singleline(&mut self.name).hint_text("Name").desired_width(ui.available_width() - 64.0));
            edit.widget_info(|| WidgetInfo::labeled(Role::TextInput, true, "Preset name"));
            let name = self.name.trim().to_owned();
            let can = !name.is_empty() && recipe.is_changed();
            let entered = edit.lost_focus() && ui.input(|input| input.key_pressed(Key::Enter));
            let button = ui.add_enabled(can, Button::new("Save"));
            button.widget_info(|| WidgetInfo::labeled(Role::Button, can, "Save preset"));
            let button = button.on_hover_text("Keep this edit by that name").on_disabled_hover_text("Move a slider and type a name first");
            if can && (entered || button.clicked()) {
                self.save(Preset::new(name, recipe.clone()));
                self.name.clear();
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_there_once() {
        let preset = |name: &str, steps| Preset::new(name.into(), Recipe { steps, ..Recipe::default() });
        let presets = Presets::new(vec![preset("b", 1), preset("A", 2), preset("b", 3)]);
        assert_eq!(presets.list(), [preset("A", 2), preset("b", 3)]);
    }

    #[test]
    fn what_a_preset_says_nothing_of_stays() {
        let mut recipe = Recipe { keep_background: false, ..Recipe::default() };
        recipe.set_slider("Smiling", 40.0);
        let new = Preset::new("a".into(), recipe.clone());
        let mut old = serde_json::to_value(&new).unwrap();
        old.as_object_mut().unwrap().remove("says_background");
        old["recipe"].as_object_mut().unwrap().remove("keep_background");
        let old: Preset = serde_json::from_value(old).unwrap();
        for keep_background in [false, true] {
            let present = Recipe { keep_background, ..Recipe::default() };
            assert_eq!(old.in_place_of(&present), Recipe { keep_background, ..recipe.clone() });
            assert_eq!(new.in_place_of(&present), recipe);
        }
    }
}
