//! Everything a person can tell the window to do, once: menus, shortcuts and buttons all read from here.

use egui::{Key, KeyboardShortcut, Modifiers};

/// A command of the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Command {
    Open,
    OpenByPath,
    OpenSample,
    SaveAs,
    Quit,
    Undo,
    Redo,
    ResetAll,
    AdjustFrame,
    CopyPicture,
    Paste,
    ShowEdited,
    ShowSplit,
    ShowSideBySide,
    ZoomIn,
    ZoomOut,
    ZoomToFit,
}

use Command::{
    AdjustFrame, CopyPicture, Open, OpenByPath, OpenSample, Paste, Quit, Redo, ResetAll, SaveAs, ShowEdited, ShowSideBySide, ShowSplit,
    Undo, ZoomIn, ZoomOut, ZoomToFit,
};

/// The menus, left to right. The inner slices are groups, with a line between them.
pub const MENUS: [(&str, &[&[Command]]); 3] = [
    ("File", &[&[Open, OpenByPath, OpenSample], &[SaveAs], &[Quit]]),
    ("Edit", &[&[Undo, Redo], &[ResetAll], &[AdjustFrame], &[CopyPicture, Paste]]),
    ("View", &[&[ShowEdited, ShowSplit, ShowSideBySide], &[ZoomIn, ZoomOut, ZoomToFit]]),
];

impl Command {
    pub const ALL: [Self; 17] = [
        Open,
        OpenByPath,
        OpenSample,
        SaveAs,
        Quit,
        // Before Undo: a shortcut with Shift also fits the same one without.
        Redo,
        Undo,
        ResetAll,
        AdjustFrame,
        CopyPicture,
        Paste,
        ShowEdited,
        ShowSplit,
        ShowSideBySide,
        ZoomIn,
        ZoomOut,
        ZoomToFit,
    ];

    pub fn label(self) -> &'static str {
        match self {
            Open => "Open…",
            OpenByPath => "Open by path…",
            OpenSample => "Open the sample photo",
            SaveAs => "Save edited photo as…",
            Quit => "Quit",
            Undo => "Undo",
            Redo => "Redo",
            ResetAll => "Reset all",
            AdjustFrame => "Adjust frame…",
            CopyPicture => "Copy picture",
            Paste => "Paste",
            ShowEdited => "Edited only",
            ShowSplit => "Split",
            ShowSideBySide => "Side by side",
            ZoomIn => "Zoom in",
            ZoomOut => "Zoom out",
            ZoomToFit => "Zoom to fit",
        }
    }

    pub fn tooltip(self) -> &'static str {
        match self {
            Open => "Choose a photo of a face",
            OpenByPath => "Type where the photo is",
            OpenSample => "Open the face that comes with PDAE Studio",
            SaveAs => "Put the edit back into the whole photo and write it to a file",
            Quit => "Close the window",
            Undo => "Take back the last change",
            Redo => "Do it again",
            ResetAll => "Set every slider back to 0",
            AdjustFrame => "Set by hand which part of the photo is edited",
            CopyPicture => "Put the edited picture on the clipboard",
            Paste => "Open the picture or the path on the clipboard",
            ShowEdited => "Show the edited picture. Hold B, or press on the picture, for the original",
            ShowSplit => "Show the original left of a divider that you can drag",
            ShowSideBySide => "Show the original and the edited picture next to each other",
            ZoomIn => "Come closer",
            ZoomOut => "Step back",
            ZoomToFit => "Show the whole picture",
        }
    }

    /// `None` where the system's own clipboard events do it.
    pub fn shortcut(self) -> Option<KeyboardShortcut> {
        let ctrl = |key| Some(KeyboardShortcut::new(Modifiers::COMMAND, key));
        match self {
            Open => ctrl(Key::O),
            SaveAs => ctrl(Key::S),
            Quit => ctrl(Key::Q),
            Undo => ctrl(Key::Z),
            Redo => Some(KeyboardShortcut::new(Modifiers::COMMAND | Modifiers::SHIFT, Key::Z)),
            ResetAll => ctrl(Key::R),
            AdjustFrame => ctrl(Key::T),
            // These two arrive as clipboard events; the keys are here to be shown.
            CopyPicture => ctrl(Key::C),
            Paste => ctrl(Key::V),
            ShowEdited => ctrl(Key::Num1),
            ShowSplit => ctrl(Key::Num2),
            ShowSideBySide => ctrl(Key::Num3),
            ZoomIn => ctrl(Key::Plus),
            ZoomOut => ctrl(Key::Minus),
            ZoomToFit => ctrl(Key::Num0),
            OpenByPath | OpenSample => None,
        }
    }

    /// The tooltip with the shortcut behind it.
    pub fn tooltip_with_shortcut(self, ctx: &egui::Context) -> String {
        match self.shortcut() {
            Some(shortcut) => format!("{} ({})", self.tooltip(), ctx.format_shortcut(&shortcut)),
            None => self.tooltip().to_owned(),
        }
    }

    /// Whether a text field keeps the shortcut for itself while it has the focus.
    fn belongs_to_text(self) -> bool {
        matches!(self, Undo | Redo | CopyPicture | Paste)
    }
}

/// The commands whose shortcuts were pressed in this frame, taken out of the input.
pub fn pressed(ctx: &egui::Context) -> Vec<Command> {
    let in_text = ctx.text_edit_focused();
    ctx.input_mut(|input| {
        let mut pressed: Vec<Command> = Command::ALL
            .into_iter()
            .filter(|command| !(in_text && command.belongs_to_text()))
            .filter(|command| command.shortcut().is_some_and(|shortcut| input.consume_shortcut(&shortcut)))
            .collect();
        // Both habits for "again", and the plus key without Shift.
        if !in_text && input.consume_key(Modifiers::COMMAND, Key::Y) {
            pressed.push(Redo);
        }
        if input.consume_key(Modifiers::COMMAND, Key::Equals) {
            pressed.push(ZoomIn);
        }
        if !in_text && input.events.iter().any(|event| matches!(event, egui::Event::Copy)) {
            pressed.push(CopyPicture);
        }
        pressed
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_command_is_in_one_menu_with_its_own_shortcut() {
        let listed: Vec<Command> = MENUS.iter().flat_map(|(_, groups)| groups.iter().flat_map(|group| group.iter().copied())).collect();
        assert_eq!(listed.len(), Command::ALL.len());
        assert_eq!(listed.iter().collect::<HashSet<_>>().len(), listed.len());
        let shortcuts: Vec<_> = Command::ALL.into_iter().filter_map(Command::shortcut).collect();
        assert_eq!(shortcuts.iter().map(|s| format!("{s:?}")).collect::<HashSet<_>>().len(), shortcuts.len());
    }
}
