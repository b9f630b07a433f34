//! Everything a person can tell the window to do, once: menus, shortcuts and buttons all read from here.

use egui::{Key, KeyboardShortcut, Modifiers};

/// A command of the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Command {
    Open,
    OpenByPath,
    OpenSample,
    ClosePhoto,
    ReopenClosed,
    SaveAs,
    SaveBetween,
    SaveStrip,
    SaveAnimation,
    Quit,
    Redo,
    Undo,
    ResetAll,
    AdjustFrame,
    KeepSnapshot,
    CopyPicture,
    Paste,
    FindCommand,
    GoPhoto,
    GoInterpolate,
    GoExplore,
    ShowEdited,
    ShowSplit,
    ShowSideBySide,
    ShowDifference,
    ZoomIn,
    ZoomOut,
    ZoomToFit,
    ActualSize,
    ShowHistory,
    Inspect,
    SystemTheme,
    LightTheme,
    DarkTheme,
    Play,
    SwapEnds,
    ChooseModel,
    ImportModel,
    ShowModelCard,
    About,
}

use Command::{
    About, ActualSize, AdjustFrame, ChooseModel, ClosePhoto, CopyPicture, DarkTheme, FindCommand, GoExplore, GoInterpolate, GoPhoto,
    ImportModel, Inspect, KeepSnapshot, LightTheme, Open, OpenByPath, OpenSample, Paste, Play, Quit, Redo, ReopenClosed, ResetAll,
    SaveAnimation, SaveAs, SaveBetween, SaveStrip, ShowDifference, ShowEdited, ShowHistory, ShowModelCard, ShowSideBySide, ShowSplit,
    SwapEnds, SystemTheme, Undo, ZoomIn, ZoomOut, ZoomToFit,
};

/// The menus, left to right. The inner slices are groups, with a line between them.
pub const MENUS: [(&str, &[&[Command]]); 5] = [
    ("File", &[&[Open, OpenByPath, OpenSample], &[SaveAs], &[SaveBetween, SaveStrip, SaveAnimation], &[ClosePhoto, ReopenClosed, Quit]]),
    ("Edit", &[&[Undo, Redo], &[ResetAll, KeepSnapshot], &[AdjustFrame], &[CopyPicture, Paste], &[FindCommand]]),
    (
        "View",
        &[
            &[GoPhoto, GoInterpolate, GoExplore],
            &[ShowEdited, ShowSplit, ShowSideBySide, ShowDifference],
            &[ZoomIn, ZoomOut, ZoomToFit, ActualSize],
            &[ShowHistory, Inspect],
            &[Play, SwapEnds],
            &[SystemTheme, LightTheme, DarkTheme],
        ],
    ),
    ("Model", &[&[ChooseModel, ImportModel], &[ShowModelCard]]),
    ("Help", &[&[About]]),
];

impl Command {
    pub const ALL: [Self; 40] = [
        Open,
        OpenByPath,
        OpenSample,
        ClosePhoto,
        ReopenClosed,
        SaveAs,
        SaveBetween,
        SaveStrip,
        SaveAnimation,
        Quit,
        Redo,
        Undo,
        ResetAll,
        AdjustFrame,
        KeepSnapshot,
        CopyPicture,
        Paste,
        FindCommand,
        GoPhoto,
        GoInterpolate,
        GoExplore,
        ShowEdited,
        ShowSplit,
        ShowSideBySide,
        ShowDifference,
        ZoomIn,
        ZoomOut,
        ZoomToFit,
        ActualSize,
        ShowHistory,
        Inspect,
        SystemTheme,
        LightTheme,
        DarkTheme,
        Play,
        SwapEnds,
        ChooseModel,
        ImportModel,
        ShowModelCard,
        About,
    ];

    pub fn label(self) -> &'static str {
        match self {
            Open => "Open…",
            OpenByPath => "Open by path…",
            OpenSample => "Open the sample photo",
            ClosePhoto => "Close photo",
            ReopenClosed => "Reopen the closed photo",
            SaveAs => "Save edited photo as…",
            SaveBetween => "Save picture as…",
            SaveStrip => "Save strip as…",
            SaveAnimation => "Save animation as…",
            Quit => "Quit",
            Redo => "Redo",
            Undo => "Undo",
            KeepSnapshot => "Keep a snapshot",
            ResetAll => "Reset all",
            AdjustFrame => "Adjust frame…",
            CopyPicture => "Copy picture",
            Paste => "Paste",
            FindCommand => "Find a command…",
            GoPhoto => "Photo",
            GoExplore => "Explore",
            GoInterpolate => "Interpolate",
            ShowEdited => "Edited only",
            ShowSplit => "Split",
            ShowSideBySide => "Side by side",
            ShowDifference => "Difference",
            ZoomIn => "Zoom in",
            ZoomOut => "Zoom out",
            Inspect => "From noise to picture…",
            ShowHistory => "History strip",
            ZoomToFit => "Zoom to fit",
            ActualSize => "Actual size",
            SystemTheme => "Colours as the system",
            LightTheme => "Light colours",
            DarkTheme => "Dark colours",
            Play => "Play or pause",
            SwapEnds => "Swap the ends",
            ChooseModel => "Use another model…",
            ImportModel => "Import a published model…",
            ShowModelCard => "About this model",
            About => "About PDAE Studio",
        }
    }

    pub fn tooltip(self) -> &'static str {
        match self {
            Open => "Choose a photo of a face",
            OpenByPath => "Type where the photo is",
            OpenSample => "Open the face that comes with PDAE Studio",
            ClosePhoto => "Take this photo out of the window; its file stays as it is, and its edit comes back with it",
            ReopenClosed => "Open the photo that was closed last, with its edit",
            SaveAs => "Put the edit back into the whole photo and write it to a file",
            SaveBetween => "Write the picture between the two ends to a file",
            SaveStrip => "Write all pictures side by side to one file",
            SaveAnimation => "Write all pictures as a GIF, WebP, animated PNG or video",
            Quit => "Close the window",
            Redo => "Do it again",
            Undo => "Take back the last change",
            KeepSnapshot => "Keep this edit of the photo, to come back to it",
            AdjustFrame => "Set by hand which part of the photo is edited",
            ResetAll => "Set every slider back to 0",
            CopyPicture => "Put the edited picture on the clipboard, at the size of a screen",
            Paste => "Open the picture or the path on the clipboard",
            FindCommand => "Type what you want to do",
            GoPhoto => "Edit a photo with sliders",
            GoExplore => "Find faces that nobody photographed",
            GoInterpolate => "Go from one face to another",
            ShowEdited => "Show the edited picture. Hold B, or press on the picture, for the original",
            ShowSplit => "Show the original left of a divider that you can drag",
            ShowSideBySide => "Show the original and the edited picture next to each other",
            ShowDifference => "Show where the edit changes the photo: grey is unchanged",
            ZoomIn => "Come closer",
            ZoomOut => "Step back",
            Inspect => "Show every step of the decode, and the gap that the mean shift fills",
            ShowHistory => "Show the steps of the edit as pictures",
            ZoomToFit => "Show the whole picture",
            ActualSize => "Show one pixel of the screen for each of the photo's",
            SystemTheme => "Light or dark, as the system is set",
            LightTheme => "Always light",
            DarkTheme => "Always dark",
            Play => "Run through the pictures of the film strip",
            SwapEnds => "Go the way from the other side",
            ChooseModel => "Choose the folder of a model",
            ImportModel => "Make a model from downloaded checkpoint and configuration files",
            ShowModelCard => "What the model is, where it comes from, and on what terms",
            About => "Version, licences and thanks",
        }
    }

    /// The keys for it. Digits go without Shift, which makes other keys of them.
    pub fn shortcut(self) -> KeyboardShortcut {
        let ctrl = |key| KeyboardShortcut::new(Modifiers::COMMAND, key);
        let ctrl_shift = |key| KeyboardShortcut::new(Modifiers::COMMAND | Modifiers::SHIFT, key);
        let shift = |key| KeyboardShortcut::new(Modifiers::SHIFT, key);
        let plain = |key| KeyboardShortcut::new(Modifiers::NONE, key);
        match self {
            AdjustFrame => ctrl(Key::T),
            Inspect => plain(Key::F6),
            GoExplore => plain(Key::F4),
            ShowHistory => ctrl(Key::H),
            KeepSnapshot => ctrl(Key::D),
            Open => ctrl(Key::O),
            OpenByPath => ctrl_shift(Key::O),
            OpenSample => ctrl_shift(Key::F),
            ClosePhoto => ctrl(Key::W),
            ReopenClosed => ctrl_shift(Key::T),
            SaveAs => ctrl(Key::S),
            SaveBetween => ctrl_shift(Key::S),
            SaveStrip => ctrl_shift(Key::E),
            SaveAnimation => ctrl(Key::E),
            Quit => ctrl(Key::Q),
            Redo => ctrl_shift(Key::Z),
            Undo => ctrl(Key::Z),
            ResetAll => ctrl(Key::R),
            // These two arrive as clipboard events; the keys are here to be shown.
            CopyPicture => ctrl(Key::C),
            Paste => ctrl(Key::V),
            FindCommand => ctrl(Key::K),
            GoPhoto => plain(Key::F2),
            GoInterpolate => plain(Key::F3),
            ShowEdited => ctrl(Key::Num1),
            ShowSplit => ctrl(Key::Num2),
            ShowSideBySide => ctrl(Key::Num3),
            ShowDifference => ctrl(Key::Num4),
            ZoomIn => ctrl(Key::Plus),
            ZoomOut => ctrl(Key::Minus),
            ZoomToFit => ctrl(Key::Num0),
            ActualSize => ctrl(Key::Num5),
            Play => plain(Key::F5),
            SwapEnds => shift(Key::F5),
            LightTheme => plain(Key::F7),
            DarkTheme => plain(Key::F8),
            SystemTheme => plain(Key::F9),
            ChooseModel => ctrl(Key::M),
            ImportModel => ctrl_shift(Key::M),
            ShowModelCard => shift(Key::F1),
            About => plain(Key::F1),
        }
    }

    /// The tooltip with the shortcut behind it.
    pub fn tooltip_with_shortcut(self, ctx: &egui::Context) -> String {
        format!("{} ({})", self.tooltip(), ctx.format_shortcut(&self.shortcut()))
    }

    /// Whether a text field keeps the shortcut for itself while it has the focus.
    fn belongs_to_text(self) -> bool {
        matches!(self, Undo | Redo | CopyPicture | Paste)
    }
}

/// The commands whose shortcuts were pressed in this frame, taken out of the input.
pub fn pressed(ctx: &egui::Context) -> Vec<Command> {
    let in_text = ctx.text_edit_focused();
    // One with Shift would also fit the same one without, so it is tried first.
    let (shifted, plain): (Vec<_>, Vec<_>) = Command::ALL.into_iter().partition(|command| command.shortcut().modifiers.shift);
    ctx.input_mut(|input| {
        let mut pressed: Vec<Command> = shifted
            .into_iter()
            .chain(plain)
            .filter(|command| !(in_text && command.belongs_to_text()))
            .filter(|command| input.consume_shortcut(&command.shortcut()))
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
        let shortcuts: HashSet<_> = Command::ALL.into_iter().map(|command| format!("{:?}", command.shortcut())).collect();
        assert_eq!(shortcuts.len(), Command::ALL.len());
    }

    #[test]
    fn no_shortcut_is_taken_from_text_fields_or_from_typing() {
        // What a text field does with Ctrl and a letter, and what does not reach every window under X11.
        let taken = [Key::A, Key::X, Key::U, Key::I];
        for command in Command::ALL.into_iter().filter(|command| !command.belongs_to_text()) {
            let shortcut = command.shortcut();
            assert!(!taken.contains(&shortcut.logical_key), "{command:?}");
            let function_key = format!("{:?}", shortcut.logical_key).starts_with('F') && shortcut.logical_key != Key::F;
            assert!(shortcut.modifiers.command || function_key, "{command:?} would be typed");
        }
    }

    #[test]
    fn every_shortcut_leads_to_its_own_command() {
        for command in Command::ALL {
            let KeyboardShortcut { modifiers, logical_key: key } = command.shortcut();
            let ctx = egui::Context::default();
            let event = egui::Event::Key { key, physical_key: None, pressed: true, repeat: false, modifiers };
            let mut found = Vec::new();
            let input = egui::RawInput { events: vec![event], ..Default::default() };
            ctx.run_ui(input, |ui| found = pressed(ui.ctx())).textures_delta.clear();
            assert_eq!(found, [command]);
        }
    }
}
