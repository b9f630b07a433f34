//! The bar at the top: menus, ways to compare, the most wanted commands.

use egui::{Align, Button, Layout, MenuBar, RichText, Ui, vec2};

use super::StudioApp;
use super::command::{self, Command};
use super::tokens::{self, Palette, size, space};

impl StudioApp {
    pub(super) fn show_top_bar(&self, ui: &mut Ui, commands: &mut Vec<Command>) {
        ui.horizontal_centered(|ui| {
            // A menu bar takes all the width that it is given.
            ui.allocate_ui(vec2(size::MENU_BAR, ui.spacing().interact_size.y), |ui| self.show_menus(ui, commands));
            ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
                self.show_button(ui, Command::SaveAs, true, commands);
                self.show_button(ui, Command::Open, false, commands);
                ui.add_space(space::M);
                self.show_button(ui, Command::Redo, false, commands);
                self.show_button(ui, Command::Undo, false, commands);
                ui.add_space(space::M);
                self.show_compare_switch(ui, commands);
            });
        });
    }

    pub(super) fn show_menus(&self, ui: &mut Ui, commands: &mut Vec<Command>) {
        MenuBar::new().ui(ui, |ui| {
            // Menus are words until they are pointed at, but as large as the buttons.
            ui.spacing_mut().button_padding = vec2(space::S, space::XS);
            for (title, groups) in command::MENUS {
                ui.menu_button(title, |ui| {
                    ui.set_min_width(size::MENU);
                    for (i, group) in groups.iter().enumerate() {
                        if i > 0 {
                            ui.separator();
                        }
                        for command in *group {
                            self.show_menu_item(ui, *command, commands);
                        }
                    }
                });
            }
        });
    }

    /// The ways to compare, as one control.
    pub(super) fn show_compare_switch(&self, ui: &mut Ui, commands: &mut Vec<Command>) {
        let palette = Palette::of(ui.visuals());
        let background = ui.painter().add(egui::Shape::Noop);
        let mut area = egui::Rect::NOTHING;
        ui.scope(|ui| {
            ui.spacing_mut().item_spacing.x = 2.0;
            // Calmer than the one button that stands out.
            ui.visuals_mut().selection.bg_fill = palette.raised;
            ui.visuals_mut().selection.stroke.color = palette.strong_text;
            for command in [Command::ShowSideBySide, Command::ShowSplit, Command::ShowEdited] {
                let button = ui.add(Button::selectable(self.is_chosen(command), command.label()));
                area |= button.rect;
                if button.on_hover_text(command.tooltip_with_shortcut(ui.ctx())).clicked() {
                    commands.push(command);
                }
            }
        });
        let radius = f32::from(tokens::radius::CONTROL) + 2.0;
        ui.painter().set(background, egui::Shape::rect_filled(area.expand(2.0), radius, palette.canvas));
    }

    pub(super) fn show_menu_item(&self, ui: &mut Ui, command: Command, commands: &mut Vec<Command>) {
        let mut button = Button::selectable(self.is_chosen(command), command.label());
        if let Some(shortcut) = command.shortcut() {
            button = button.shortcut_text(ui.ctx().format_shortcut(&shortcut));
        }
        if ui.add_enabled(self.is_enabled(command), button).on_hover_text(command.tooltip()).clicked() {
            commands.push(command);
            ui.close();
        }
    }

    pub(super) fn show_button(&self, ui: &mut Ui, command: Command, primary: bool, commands: &mut Vec<Command>) {
        let palette = Palette::of(ui.visuals());
        let button = if primary {
            Button::new(RichText::new(command.label()).color(palette.on_accent)).fill(palette.accent)
        } else {
            Button::new(command.label())
        };
        let response = ui.add_enabled(self.is_enabled(command), button);
        if response.on_hover_text(command.tooltip_with_shortcut(ui.ctx())).clicked() {
            commands.push(command);
        }
    }
}
