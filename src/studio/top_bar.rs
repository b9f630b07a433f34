//! The bar at the top: menus, ways to compare, the most wanted commands.

use egui::{Align, Button, Layout, MenuBar, RichText, Role, Ui, WidgetInfo, vec2};

use super::command::{self, Command};
use super::tokens::{self, Palette, size, space};
use super::{StudioApp, models};
use crate::engine::{Job, Request};

impl StudioApp {
    pub(super) fn show_top_bar(&mut self, ui: &mut Ui, commands: &mut Vec<Command>) {
        ui.horizontal_centered(|ui| {
            // A menu bar takes all the width that it is given.
            ui.allocate_ui(vec2(size::MENU_BAR, ui.spacing().interact_size.y), |ui| self.show_menus(ui, commands));
            ui.add_space(space::S);
            self.show_switch(ui, &[Command::GoPhoto, Command::GoInterpolate, Command::GoExplore], commands);
            ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
                self.show_button(ui, Command::SaveAs, true, commands);
                self.show_button(ui, Command::Open, false, commands);
                ui.add_space(space::M);
                self.show_button(ui, Command::Redo, false, commands);
                self.show_button(ui, Command::Undo, false, commands);
            });
        });
    }

    fn show_menus(&mut self, ui: &mut Ui, commands: &mut Vec<Command>) {
        MenuBar::new().ui(ui, |ui| {
            // Menus are words until they are pointed at, but as large as the buttons.
            ui.spacing_mut().button_padding = vec2(space::S, space::XS);
            ui.spacing_mut().item_spacing.x = 0.0;
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
                        match (title, i) {
                            ("File", 0) => self.show_recent(ui),
                            ("Model", 0) => self.show_models(ui),
                            _ => {}
                        }
                    }
                });
            }
        });
    }

    fn show_recent(&mut self, ui: &mut Ui) {
        let recent = self.recent.clone();
        ui.add_enabled_ui(!recent.is_empty(), |ui| {
            ui.menu_button("Open recent", |ui| {
                ui.set_min_width(size::MENU);
                for path in recent {
                    let name = path.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned());
                    if ui.button(name).on_hover_text(path.display().to_string()).clicked() {
                        self.open_path(path);
                        ui.close();
                    }
                }
            });
        });
    }

    /// The models and devices to choose from.
    fn show_models(&mut self, ui: &mut Ui) {
        let Some(card) = self.model.clone() else { return };
        ui.menu_button("Model", |ui| {
            ui.set_min_width(size::MENU);
            for known in models::known(self.models_folder().as_deref(), &self.used_models) {
                let chosen = models::same(&known.folder, &card.folder);
                if ui.selectable_label(chosen, known.name).on_hover_text(known.folder.display().to_string()).clicked() && !chosen {
                    self.load_model(known.folder);
                    ui.close();
                }
            }
        });
        ui.menu_button("Compute on", |ui| {
            ui.set_min_width(size::MENU);
            if self.devices.is_empty() {
                if !self.asked_for_devices {
                    self.asked_for_devices = self.send(Request::ListDevices);
                }
                ui.weak("Looking for graphics cards…");
            }
            for (choice, name) in self.devices.clone() {
                let chosen = name == card.device;
                if ui.selectable_label(chosen, name).clicked() && !chosen {
                    if self.send(Request::UseDevice(choice)) {
                        self.jobs.started(Job::LoadingModel);
                    }
                    ui.close();
                }
            }
        });
    }

    /// Commands of which one is chosen, as one control.
    pub(super) fn show_switch(&self, ui: &mut Ui, among: &[Command], commands: &mut Vec<Command>) {
        let palette = Palette::of(ui.visuals());
        let background = ui.painter().add(egui::Shape::Noop);
        let mut area = egui::Rect::NOTHING;
        ui.scope(|ui| {
            ui.spacing_mut().item_spacing.x = 2.0;
            // Calmer than the one button that stands out.
            ui.visuals_mut().selection.bg_fill = palette.raised;
            ui.visuals_mut().selection.stroke.color = palette.strong_text;
            for command in among.iter().copied() {
                let button = ui.add(Button::selectable(self.is_chosen(command), command.label()));
                area |= button.rect;
                if button.on_hover_text(command.tooltip_with_shortcut(ui.ctx())).clicked() {
                    commands.push(command);
                }
            }
        });
        let radius = f32::from(tokens::radius::CONTROL) + 2.0;
        ui.painter().set(background, egui::Shape::rect_filled(area.expand(2.0), radius, palette.switch));
    }

    pub(super) fn show_menu_item(&self, ui: &mut Ui, command: Command, commands: &mut Vec<Command>) {
        let shortcut = ui.ctx().format_shortcut(&command.shortcut());
        let button = Button::selectable(self.is_chosen(command), command.label()).shortcut_text(shortcut);
        if ui.add_enabled(self.is_enabled(command), button).on_hover_text(command.tooltip()).clicked() {
            commands.push(command);
            ui.close();
        }
    }

    pub(super) fn show_button(&self, ui: &mut Ui, command: Command, primary: bool, commands: &mut Vec<Command>) {
        let palette = Palette::of(ui.visuals());
        let button = if primary {
            Button::new(RichText::new(short(command)).color(palette.on_accent)).fill(palette.accent)
        } else {
            Button::new(short(command))
        };
        let enabled = self.is_enabled(command);
        let response = ui.add_enabled(enabled, button);
        response.widget_info(|| WidgetInfo::labeled(Role::Button, enabled, command.label()));
        if response.on_hover_text(command.tooltip_with_shortcut(ui.ctx())).clicked() {
            commands.push(command);
        }
    }
}

/// The words on a button of the bar, which has less room than a menu.
fn short(command: Command) -> &'static str {
    match command {
        Command::SaveAs => "Save…",
        other => other.label(),
    }
}
