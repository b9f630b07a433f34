//! Opening and saving: the system's dialogs, the path field that stands in for them, drops and pastes.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, unbounded};
use egui::{Button, Key, TextEdit, Ui};

use super::command::Command;
use super::tokens::{size, space};

/// A dialog that answers faster than a hand can was never shown: there is no portal, and no helper program, to show it.
const FASTEST_HAND: Duration = Duration::from_millis(400);

/// The endings that the open dialog lists.
const ENDINGS: [&str; 10] = ["jpg", "jpeg", "png", "webp", "tif", "tiff", "bmp", "gif", "heic", "heif"];

/// What a path is wanted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    Open,
    Save,
    /// A picture between two photos.
    SavePicture,
    /// All of them, side by side.
    SaveStrip,
    /// All of them, one after the other.
    SaveAnimation,
    /// A model's folder.
    Model,
    /// A folder of published checkpoints.
    Checkpoints,
}

impl Purpose {
    /// What the dialog is called.
    fn title(self) -> &'static str {
        match self {
            Self::Open => "Open a photo",
            Self::Save => Command::SaveAs.label().trim_end_matches('…'),
            Self::SavePicture => Command::SaveBetween.label().trim_end_matches('…'),
            Self::SaveStrip => Command::SaveStrip.label().trim_end_matches('…'),
            Self::SaveAnimation => Command::SaveAnimation.label().trim_end_matches('…'),
            Self::Model => "Choose the folder of a model",
            Self::Checkpoints => "Choose the folder with the published files",
        }
    }

    fn action(self) -> &'static str {
        match self {
            Self::Open => "Open",
            Self::Save | Self::SavePicture | Self::SaveStrip | Self::SaveAnimation => "Save",
            Self::Model => "Use",
            Self::Checkpoints => "Import",
        }
    }

    fn is_save(self) -> bool {
        self.action() == "Save"
    }

    fn is_folder(self) -> bool {
        matches!(self, Self::Model | Self::Checkpoints)
    }

    /// Names and endings of the formats to choose from; the first ending is the default.
    fn formats(self) -> &'static [(&'static str, &'static [&'static str])] {
        match self {
            Self::Open => &[("Photos", &ENDINGS)],
            Self::Save => &[("PNG", &["png"]), ("JPEG", &["jpg", "jpeg"]), ("WebP", &["webp"]), ("TIFF", &["tif", "tiff"])],
            Self::SavePicture | Self::SaveStrip => &[("PNG", &["png"])],
            Self::SaveAnimation => {
                &[("GIF", &["gif"]), ("WebP", &["webp"]), ("Animated PNG", &["apng"]), ("Video", &["mp4"]), ("WebM video", &["webm"])]
            }
            Self::Model | Self::Checkpoints => &[],
        }
    }

    /// A name without an ending gets the first one.
    fn complete(self, path: PathBuf) -> PathBuf {
        match self.formats().first().and_then(|(_, endings)| endings.first()) {
            Some(ending) if self.is_save() && path.extension().is_none() => path.with_extension(ending),
            _ => path,
        }
    }
}

/// A path that the person settled on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chosen {
    pub purpose: Purpose,
    pub path: PathBuf,
    /// The person agreed to replace the file, here or in the system's dialog.
    pub overwrite: bool,
}

/// What came of a dialog or the path field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Chosen(Chosen),
    /// The system has no file dialog; the path field is open in its place.
    NoDialog(Purpose),
}

struct Answer {
    purpose: Purpose,
    path: Option<PathBuf>,
    took: Duration,
}

struct PathField {
    purpose: Purpose,
    text: String,
    /// The file exists; the question whether to replace it is open.
    asks_to_replace: bool,
    wants_focus: bool,
}

/// Dialogs in progress and the path field.
pub struct Files {
    answers: Receiver<Answer>,
    answer: Sender<Answer>,
    dialog_open: bool,
    field: Option<PathField>,
    /// Where the last photo was opened or written.
    pub last_folder: Option<PathBuf>,
    /// Off: always use the path field.
    pub system_dialogs: bool,
}

impl Default for Files {
    fn default() -> Self {
        let (answer, answers) = unbounded();
        Self { answers, answer, dialog_open: false, field: None, last_folder: None, system_dialogs: true }
    }
}

impl Files {
    /// Asks for a path; `suggestion` is a file name or empty.
    pub fn ask(&mut self, ctx: &egui::Context, purpose: Purpose, suggestion: &str) {
        if !self.system_dialogs {
            return self.stand_in(purpose, suggestion);
        }
        if self.dialog_open {
            return;
        }
        let (answer, ctx, folder, suggestion) = (self.answer.clone(), ctx.clone(), self.last_folder.clone(), suggestion.to_owned());
        let started = std::thread::Builder::new().name("file dialog".into()).spawn(move || {
            let began = Instant::now();
            let mut dialog = rfd::FileDialog::new();
            if let Some(folder) = folder {
                dialog = dialog.set_directory(folder);
            }
            dialog = dialog.set_title(purpose.title());
            for (name, endings) in purpose.formats() {
                dialog = dialog.add_filter(*name, endings);
            }
            let path = match purpose {
                _ if purpose.is_save() => dialog.set_file_name(suggestion).save_file(),
                _ if purpose.is_folder() => dialog.pick_folder(),
                _ => dialog.pick_file(),
            };
            // The window may be gone by now.
            let _ = answer.send(Answer { purpose, path, took: began.elapsed() });
            ctx.request_repaint();
        });
        self.dialog_open = started.is_ok();
        if !self.dialog_open {
            self.stand_in(purpose, "");
        }
    }

    /// Where a file of that name goes unless the person says otherwise.
    pub fn suggested_path(&self, name: &str) -> PathBuf {
        self.last_folder.clone().or_else(|| std::env::current_dir().ok()).unwrap_or_default().join(name)
    }

    /// In place of a dialog. Saving an edited photo has a field for the path of its own.
    fn stand_in(&mut self, purpose: Purpose, suggestion: &str) {
        if purpose != Purpose::Save {
            self.type_path(purpose, suggestion);
        }
    }

    /// Opens the path field. `suggestion` is a file name or empty.
    pub fn type_path(&mut self, purpose: Purpose, suggestion: &str) {
        let text = self.suggested_path(suggestion).display().to_string();
        self.field = Some(PathField { purpose, text, asks_to_replace: false, wants_focus: true });
    }

    /// The text in the path field, to set it from outside.
    pub fn path_text_mut(&mut self) -> Option<&mut String> {
        self.field.as_mut().map(|field| &mut field.text)
    }

    /// Takes what a dialog answered since the last frame. `suggestion` gives a file name for the path field, should there be no dialog.
    pub fn poll(&mut self, suggestion: impl FnOnce(Purpose) -> String) -> Option<Outcome> {
        let Answer { purpose, path, took } = self.answers.try_recv().ok()?;
        self.dialog_open = false;
        match path {
            Some(path) => {
                self.remember(&path);
                let full = purpose.complete(path.clone());
                // The dialog asked about the name that was typed, not about one that it gets here.
                let overwrite = full == path;
                Some(Outcome::Chosen(Chosen { purpose, path: full, overwrite }))
            }
            None if took < FASTEST_HAND => {
                self.system_dialogs = false;
                self.stand_in(purpose, &suggestion(purpose));
                Some(Outcome::NoDialog(purpose))
            }
            None => None,
        }
    }

    pub fn remember(&mut self, path: &Path) {
        if let Some(folder) = path.parent().filter(|folder| folder.is_dir()) {
            self.last_folder = Some(folder.to_owned());
        }
    }

    /// Draws the path field, if it is open.
    pub fn show(&mut self, ctx: &egui::Context) -> Option<Chosen> {
        let field = self.field.as_mut()?;
        let mut chosen = None;
        let mut close = false;
        let frame = egui::Frame::window(&ctx.global_style()).shadow(egui::Shadow::NONE);
        let modal = egui::Modal::new(egui::Id::unique("path field")).frame(frame).show(ctx, |ui| {
            ui.set_width(size::DIALOG);
            if field.asks_to_replace {
                (chosen, close) = confirm_replace(ui, field);
            } else {
                (chosen, close) = ask_for_path(ui, field);
            }
        });
        if let Some(chosen) = &chosen {
            self.remember(&chosen.path);
        }
        if close || chosen.is_some() || modal.should_close() {
            self.field = None;
        }
        chosen
    }
}

fn ask_for_path(ui: &mut Ui, field: &mut PathField) -> (Option<Chosen>, bool) {
    ui.heading(field.purpose.title());
    ui.add_space(space::S);
    let label = ui.label("Path");
    let edit = ui.add(TextEdit::singleline(&mut field.text).desired_width(f32::INFINITY).hint_text(if field.purpose.is_folder() {
        "/home/me/folder"
    } else {
        "/home/me/photo.jpg"
    }));
    let edit = edit.labelled_by(label.id);
    if std::mem::take(&mut field.wants_focus) {
        edit.request_focus();
    }
    let entered = edit.lost_focus() && ui.input(|input| input.key_pressed(Key::Enter));
    ui.add_space(space::M);
    let path = (!field.text.trim().is_empty()).then(|| path_from_text(&field.text));
    let (go, cancel) = buttons(ui, field.purpose.action(), path.is_some());
    let Some(path) = path.filter(|_| go || entered) else { return (None, cancel) };
    let path = field.purpose.complete(path);
    if field.purpose.is_save() && path.exists() {
        field.text = path.display().to_string();
        field.asks_to_replace = true;
        return (None, false);
    }
    (Some(Chosen { purpose: field.purpose, path, overwrite: false }), false)
}

fn confirm_replace(ui: &mut Ui, field: &mut PathField) -> (Option<Chosen>, bool) {
    let path = path_from_text(&field.text);
    let name = path.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned());
    ui.heading(format!("Replace {name}?"));
    ui.add_space(space::S);
    ui.label("There is a file of that name already. Replacing it cannot be undone.");
    ui.add_space(space::M);
    let (replace, cancel) = buttons(ui, "Replace", true);
    if cancel {
        // Back to the field, so that another name can be typed.
        field.asks_to_replace = false;
        field.wants_focus = true;
    }
    (replace.then_some(Chosen { purpose: field.purpose, path, overwrite: true }), false)
}

/// The action and Cancel, at the right: whether each was clicked.
pub(super) fn buttons(ui: &mut Ui, action: &str, enabled: bool) -> (bool, bool) {
    // No higher than they are: a layout in the middle of what a higher box left would stand amid a hole.
    let row = egui::vec2(ui.available_width(), ui.spacing().interact_size.y);
    ui.allocate_ui_with_layout(row, egui::Layout::right_to_left(egui::Align::Center), |ui| {
        let palette = super::tokens::Palette::of(ui.visuals());
        let text = egui::RichText::new(action).color(palette.on_accent);
        let go = ui.add_enabled(enabled, Button::new(text).fill(palette.accent)).clicked();
        let cancel = ui.button("Cancel").clicked();
        (go, cancel)
    })
    .inner
}

/// A file name for what is made of a photo.
pub fn suggested_name(photo: &str, ending: &str) -> String {
    // A name from the clipboard or another system may hold anything.
    let name: String = photo.chars().map(|c| if c.is_control() || r#"/\:*?"<>|"#.contains(c) { '-' } else { c }).collect();
    let name = name.trim().trim_matches('.');
    format!("{}-{ending}", if name.is_empty() { "photo" } else { name })
}

/// A name without an ending becomes a PNG.
pub(super) fn with_ending(path: PathBuf) -> PathBuf {
    Purpose::Save.complete(path)
}

/// A path as people paste or type it: quoted, from the home folder, as a `file://` address, or behind the folder that stood there.
pub fn path_from_text(text: &str) -> PathBuf {
    let text = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default().trim();
    let text = without_folder_before(unquoted(text));
    if let Some(address) = text.strip_prefix("file://") {
        return PathBuf::from(address_path(&percent_decoded(address), cfg!(windows)));
    }
    let in_home = text.strip_prefix('~').and_then(|rest| rest.strip_prefix(std::path::is_separator));
    match (in_home, std::env::home_dir()) {
        (Some(rest), Some(home)) => home.join(rest),
        _ => PathBuf::from(text),
    }
}

/// The path of an address: on Windows the slash before a drive (`/C:/a.png`) is none of its own.
fn address_path(path: &str, windows: bool) -> &str {
    match path.as_bytes() {
        [b'/', drive, b':', ..] if windows && drive.is_ascii_alphabetic() => &path[1..],
        _ => path,
    }
}

fn unquoted(text: &str) -> &str {
    ['"', '\''].iter().find_map(|q| text.strip_prefix(*q)?.strip_suffix(*q)).unwrap_or(text)
}

/// What was pasted behind a folder: the last whole path in the text, where the text as it stands leads nowhere.
fn without_folder_before(text: &str) -> &str {
    let leads_somewhere = |path: &Path| path.exists() || path.parent().is_some_and(Path::exists);
    let starts = ["//", "/~/", "/file://", "/\"", "/'"].iter().filter_map(|start| text.rfind(start)).filter(|at| *at > 0);
    match starts.min() {
        // Addresses have two slashes of their own and no folder before them.
        Some(at) if Path::new(text).is_absolute() && !leads_somewhere(Path::new(text)) => unquoted(&text[at + 1..]),
        _ => text,
    }
}

fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let code = match (first, tail) {
            (b'%', [high, low, ..]) => std::str::from_utf8(&[*high, *low]).ok().and_then(|hex| u8::from_str_radix(hex, 16).ok()),
            _ => None,
        };
        bytes.push(code.unwrap_or(*first));
        rest = if code.is_some() { &tail[2..] } else { tail };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suggested_names_are_file_names() {
        assert_eq!(suggested_name("anna", "edited.png"), "anna-edited.png");
        assert_eq!(suggested_name("a/b:c", "edited.png"), "a-b-c-edited.png");
        assert_eq!(suggested_name(" . ", "edited.png"), "photo-edited.png");
    }

    #[test]
    fn paths_are_taken_as_people_give_them() {
        assert_eq!(path_from_text(" \"/tmp/a b.png\"\n"), PathBuf::from("/tmp/a b.png"));
        assert_eq!(path_from_text("file:///tmp/a%20b.png"), PathBuf::from("/tmp/a b.png"));
        assert_eq!(path_from_text("file:///tmp/100%"), PathBuf::from("/tmp/100%"));
        assert_eq!(path_from_text(""), PathBuf::new());
        assert_eq!(path_from_text("~/a.png"), std::env::home_dir().unwrap().join("a.png"));
        assert_eq!(["/C:/a b.png", "/tmp/a.png"].map(|path| address_path(path, true)), ["C:/a b.png", "/tmp/a.png"]);
        assert_eq!(address_path("/C:/a b.png", false), "/C:/a b.png");
        let folder = tempfile::tempdir().unwrap();
        let behind = |text: &str| path_from_text(&format!("{}/{text}", folder.path().display()));
        assert_eq!(behind("/nowhere/at all/a.png"), PathBuf::from("/nowhere/at all/a.png"));
        assert_eq!(behind("\"/nowhere/a.png\""), PathBuf::from("/nowhere/a.png"));
        assert_eq!(behind("file:///nowhere/a.png"), PathBuf::from("/nowhere/a.png"));
        assert_eq!(behind("/a.png"), folder.path().join("a.png"), "two slashes are one where they lead somewhere");
        assert_eq!(behind("a.png"), folder.path().join("a.png"));
        assert_eq!(path_from_text("https://nowhere/a.png"), PathBuf::from("https://nowhere/a.png"), "told as it was typed");
    }

    #[test]
    fn a_name_without_an_ending_gets_the_usual_one() {
        assert_eq!(Purpose::Save.complete("/tmp/a".into()), PathBuf::from("/tmp/a.png"));
        assert_eq!(Purpose::Save.complete("/tmp/a.jpg".into()), PathBuf::from("/tmp/a.jpg"));
        assert_eq!(Purpose::SaveAnimation.complete("/tmp/a".into()), PathBuf::from("/tmp/a.gif"));
        assert_eq!(Purpose::Model.complete("/tmp/a".into()), PathBuf::from("/tmp/a"));
    }
}
