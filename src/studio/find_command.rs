//! The command palette: type what you want to do.

use egui::{Align, Button, Key, Modifiers, Role, ScrollArea, TextEdit, Ui, WidgetInfo, vec2};

use super::command::Command;
use super::tokens::space;

/// Height of the list.
const LIST: f32 = 320.0;

/// The open palette.
#[derive(Debug, Default)]
pub struct FindCommand {
    text: String,
    /// Index among those that match.
    chosen: usize,
    wants_focus: bool,
}

impl FindCommand {
    pub fn new() -> Self {
        Self { wants_focus: true, ..Self::default() }
    }

    /// Commands whose label or tooltip has every word of the text, those whose label starts with it first.
    fn matching(&self, can: impl Fn(Command) -> bool) -> Vec<Command> {
        let text = self.text.to_lowercase();
        let words: Vec<&str> = text.split_whitespace().collect();
        let mut found: Vec<(bool, Command)> = Command::ALL
            .into_iter()
            .filter(|command| *command != Command::FindCommand && can(*command))
            .filter(|command| {
                let all = format!("{} {}", command.label(), command.tooltip()).to_lowercase();
                words.iter().all(|word| all.contains(word))
            })
            .map(|command| (!command.label().to_lowercase().starts_with(text.trim()), command))
            .collect();
        found.sort_by_key(|(later, _)| *later);
        found.into_iter().map(|(_, command)| command).collect()
    }

    /// Draws it. `None` while it stays open; then the chosen command, if any.
    pub fn show(&mut self, ctx: &egui::Context, can: impl Fn(Command) -> bool) -> Option<Option<Command>> {
        let (up, down) =
            ctx.input_mut(|input| (input.consume_key(Modifiers::NONE, Key::ArrowUp), input.consume_key(Modifiers::NONE, Key::ArrowDown)));
        let mut chosen = None;
        let frame = egui::Frame::window(&ctx.global_style()).shadow(egui::Shadow::NONE);
        let modal = egui::Modal::new(egui::Id::unique("find command")).frame(frame).show(ctx, |ui| {
            ui.set_width(420.0);
            let edit = ui.add(TextEdit::singleline(&mut self.text).hint_text("What do you want to do?").desired_width(f32::INFINITY));
            edit.widget_info(|| WidgetInfo::labeled(Role::SearchInput, true, "Find a command"));
            if std::mem::take(&mut self.wants_focus) {
                edit.request_focus();
            }
            if edit.changed() {
                self.chosen = 0;
            }
            let entered = edit.lost_focus() && ui.input(|input| input.key_pressed(Key::Enter));
            let found = self.matching(&can);
            let last = found.len().saturating_sub(1);
            self.chosen = (self.chosen + usize::from(down)).saturating_sub(usize::from(up)).min(last);
            ui.add_space(space::S);
            chosen = self.show_found(ui, &found, up || down);
            if entered {
                chosen = found.get(self.chosen).copied();
            }
        });
        if chosen.is_some() || modal.should_close() { Some(chosen) } else { None }
    }

    fn show_found(&self, ui: &mut Ui, found: &[Command], moved: bool) -> Option<Command> {
        let mut clicked = None;
        // Always as high: a box remembers how high it was, and would stay as low as its shortest list.
        ScrollArea::vertical().max_height(LIST).min_scrolled_height(LIST).auto_shrink(false).show(ui, |ui| {
            if found.is_empty() {
                ui.weak("No command that can be used now has these words.");
            }
            for (i, command) in found.iter().enumerate() {
                let shortcut = ui.ctx().format_shortcut(&command.shortcut());
                let button = Button::selectable(i == self.chosen, command.label()).shortcut_text(shortcut);
                let response = ui.add(button.min_size(vec2(ui.available_width() - space::M, 0.0)));
                if moved && i == self.chosen {
                    response.scroll_to_me(Some(Align::Center));
                }
                if response.on_hover_text(command.tooltip()).clicked() {
                    clicked = Some(*command);
                }
            }
        });
        clicked
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_find_commands_in_any_order() {
        let find = |text: &str| FindCommand { text: text.into(), ..FindCommand::default() }.matching(|_| true);
        assert_eq!(find("zoom in").first(), Some(&Command::ZoomIn));
        assert!(find("slider every").contains(&Command::ResetAll));
        assert_eq!(find("op").first(), Some(&Command::Open));
        assert!(find("xyzzy").is_empty());
        assert!(FindCommand::default().matching(|command| command == Command::Undo) == [Command::Undo]);
    }
}
