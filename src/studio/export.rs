//! Saving: where to, how much of the photo, and what goes into the file. One dialog, so that nothing is asked twice.

use std::path::{Path, PathBuf};

use egui::{Key, RichText, Slider, TextEdit, Ui};
use serde::{Deserialize, Serialize};

use super::command::Command;
use super::files::{buttons, path_from_text, with_ending};
use super::tokens::{Palette, size, space};
use crate::editing::{Crop, sidecar};
use crate::engine::PhotoId;
use crate::photo::{ExportFormat, ExportOptions};

/// How pictures are saved; remembered from one to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Choices {
    /// 1 to 100.
    pub jpeg_quality: u8,
    /// Only the square that the model saw, not the whole photo.
    pub face_only: bool,
    pub keep_metadata: bool,
    pub state_source: bool,
    pub save_recipe: bool,
}

impl Default for Choices {
    fn default() -> Self {
        let ExportOptions { jpeg_quality, keep_metadata, state_source, .. } = ExportOptions::default();
        Self { jpeg_quality, face_only: false, keep_metadata, state_source, save_recipe: false }
    }
}

impl Choices {
    pub fn crop(&self) -> Crop {
        if self.face_only { Crop::Full } else { Crop::None }
    }

    pub fn options(&self, overwrite: bool) -> ExportOptions {
        let Self { jpeg_quality, keep_metadata, state_source, .. } = *self;
        ExportOptions { jpeg_quality, keep_metadata, state_source, overwrite }
    }
}

/// What the person asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The system's dialog, for the path.
    Browse,
    Save {
        photo: PhotoId,
        path: PathBuf,
        /// Everything that is there already was agreed to be replaced.
        overwrite: bool,
    },
}

/// The dialog, and what is remembered.
#[derive(Debug, Default)]
pub struct Export {
    pub choices: Choices,
    dialog: Option<Dialog>,
}

#[derive(Debug)]
struct Dialog {
    /// The photo that is saved, whichever is shown by then.
    photo: PhotoId,
    text: String,
    /// The system's dialog has asked about this file already.
    agreed: Option<PathBuf>,
    /// The question whether to replace these is open.
    in_the_way: Vec<PathBuf>,
    wants_focus: bool,
}

impl Export {
    /// Opens the dialog for a photo, with a path.
    pub fn open(&mut self, photo: PhotoId, path: &Path) {
        let text = path.display().to_string();
        self.dialog = Some(Dialog { photo, text, agreed: None, in_the_way: Vec::new(), wants_focus: true });
    }

    /// Puts in a path that the system's dialog gave, opening the dialog for the present photo should it be closed. `agreed`: it has asked
    /// about replacing.
    pub fn choose(&mut self, present: Option<PhotoId>, path: PathBuf, agreed: bool) {
        let Some(photo) = self.dialog.as_ref().map(|dialog| dialog.photo).or(present) else { return };
        self.open(photo, &path);
        if let Some(dialog) = &mut self.dialog {
            dialog.agreed = agreed.then_some(path);
        }
    }

    /// The text of the path field, to set it from outside.
    pub fn path_text_mut(&mut self) -> Option<&mut String> {
        self.dialog.as_mut().map(|dialog| &mut dialog.text)
    }

    /// Draws the dialog, if it is open. `can_browse`: the system has a dialog for the path. `is_original`: whether a path is that of the
    /// photo itself.
    pub fn show(&mut self, ctx: &egui::Context, can_browse: bool, is_original: impl Fn(PhotoId, &Path) -> bool) -> Option<Answer> {
        let dialog = self.dialog.as_mut()?;
        let choices = &mut self.choices;
        let frame = egui::Frame::window(&ctx.global_style()).shadow(egui::Shadow::NONE);
        let modal = egui::Modal::new(egui::Id::unique("export")).frame(frame).show(ctx, |ui| {
            ui.set_width(size::DIALOG);
            if dialog.in_the_way.is_empty() { dialog.show(ui, choices, can_browse) } else { dialog.confirm(ui, is_original) }
        });
        let dismissed = modal.should_close();
        let (answer, cancelled) = modal.inner;
        if cancelled || dismissed || matches!(answer, Some(Answer::Save { .. })) {
            self.dialog = None;
        }
        answer
    }
}

impl Dialog {
    /// The answer, and whether the dialog was cancelled.
    fn show(&mut self, ui: &mut Ui, choices: &mut Choices, can_browse: bool) -> (Option<Answer>, bool) {
        ui.heading(Command::SaveAs.label().trim_end_matches('…'));
        ui.add_space(space::S);
        let (entered, browse) = self.show_path(ui, can_browse);
        let path = (!self.text.trim().is_empty()).then(|| with_ending(path_from_text(&self.text)));
        let format = path.as_deref().map(ExportFormat::of);
        match &format {
            Some(Ok(format)) => ui.weak(about(*format)),
            Some(Err(error)) => ui.colored_label(Palette::of(ui.visuals()).alert, error.to_string()),
            None => ui.weak("Type where to save the photo"),
        };
        ui.add_space(space::M);
        show_choices(ui, choices, matches!(format, Some(Ok(ExportFormat::Jpeg))));
        ui.add_space(space::M);
        let writable = matches!(format, Some(Ok(_)));
        let (save, cancel) = buttons(ui, "Save", writable);
        if browse {
            return (Some(Answer::Browse), cancel);
        }
        let Some(path) = path.filter(|_| writable && (save || entered)) else { return (None, cancel) };
        self.text = path.display().to_string();
        self.in_the_way = self.existing(&path, choices.save_recipe);
        let overwrite = self.agreed.as_ref() == Some(&path);
        (self.in_the_way.is_empty().then_some(Answer::Save { photo: self.photo, path, overwrite }), false)
    }

    /// Whether Enter was pressed in the field, and whether the system's dialog is wanted.
    fn show_path(&mut self, ui: &mut Ui, can_browse: bool) -> (bool, bool) {
        let label = ui.label("Path");
        ui.horizontal(|ui| {
            let width = ui.available_width() - if can_browse { size::BROWSE } else { 0.0 };
            let edit = ui.add(TextEdit::singleline(&mut self.text).desired_width(width).hint_text("/home/me/photo.jpg"));
            let edit = edit.labelled_by(label.id);
            if std::mem::take(&mut self.wants_focus) {
                edit.request_focus();
            }
            let entered = edit.lost_focus() && ui.input(|input| input.key_pressed(Key::Enter));
            let browse = can_browse && ui.button("Browse…").on_hover_text("Choose the folder and the name in a file dialog").clicked();
            (entered, browse)
        })
        .inner
    }

    /// The files that saving would replace and that nobody has been asked about.
    fn existing(&self, path: &Path, recipe: bool) -> Vec<PathBuf> {
        let picture = (self.agreed.as_deref() != Some(path)).then(|| path.to_owned());
        picture.into_iter().chain(recipe.then(|| sidecar::path_beside(path))).filter(|path| path.exists()).collect()
    }

    fn confirm(&mut self, ui: &mut Ui, is_original: impl Fn(PhotoId, &Path) -> bool) -> (Option<Answer>, bool) {
        let names: Vec<_> = self.in_the_way.iter().map(|path| path.file_name().unwrap_or_default().to_string_lossy()).collect();
        ui.heading(format!("Replace {}?", names.join(" and ")));
        ui.add_space(space::S);
        ui.label(match names.len() {
            _ if self.in_the_way.iter().any(|path| is_original(self.photo, path)) => {
                "This is the photo that you are editing. Without it the edit cannot be changed any more, and replacing it cannot be undone."
            }
            1 => "There is a file of that name already. Replacing it cannot be undone.",
            _ => "There are files of these names already. Replacing them cannot be undone.",
        });
        ui.add_space(space::M);
        let (replace, cancel) = buttons(ui, "Replace", true);
        if cancel || replace {
            // Back to the path, so that another name can be typed.
            self.in_the_way.clear();
            self.wants_focus = true;
        }
        (replace.then(|| Answer::Save { photo: self.photo, path: path_from_text(&self.text), overwrite: true }), false)
    }
}

fn show_choices(ui: &mut Ui, choices: &mut Choices, is_jpeg: bool) {
    let Choices { jpeg_quality, face_only, keep_metadata, state_source, save_recipe } = choices;
    ui.radio_value(face_only, false, "Whole photo, at its own size");
    ui.radio_value(face_only, true, "Only the square around the face");
    ui.add_space(space::S);
    if is_jpeg {
        ui.horizontal(|ui| {
            let label = ui.label("Quality");
            ui.add(Slider::new(jpeg_quality, 1..=100))
                .labelled_by(label.id)
                .on_hover_text("More is better and larger. 95 is hard to tell from the photo");
        });
    }
    ui.checkbox(keep_metadata, "Keep the photo's metadata")
        .on_hover_text("EXIF and XMP: camera, date, place, author. The colour profile stays always");
    ui.checkbox(state_source, "Say in the file that it was edited with AI")
        .on_hover_text("IPTC digital source type, in XMP: a photo with parts made by a trained model");
    ui.checkbox(save_recipe, "Save a recipe beside it")
        .on_hover_text("A small file from which pdae-studio edit --recipe makes the same picture again");
}

fn about(format: ExportFormat) -> RichText {
    RichText::new(match format {
        ExportFormat::Png => "PNG: every pixel exact, 8 or 16 bits, transparency",
        ExportFormat::Jpeg => "JPEG: small, 8 bits, transparency becomes white",
        ExportFormat::WebP => "WebP: every pixel exact, 8 bits, transparency",
        ExportFormat::Tiff => "TIFF: every pixel exact, 8 or 16 bits, transparency",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_system_dialog_has_asked_is_not_asked_again() {
        let folder = tempfile::tempdir().unwrap();
        let [picture, recipe] = ["a.png", "a.recipe.json"].map(|name| folder.path().join(name));
        std::fs::write(&picture, "old").unwrap();
        let mut export = Export::default();
        export.open(PhotoId(1), &picture);
        let existing = |export: &Export, recipe| export.dialog.as_ref().unwrap().existing(&picture, recipe);
        assert!(existing(&export, true) == [&*picture]);
        export.choose(Some(PhotoId(2)), picture.clone(), true);
        assert_eq!(export.dialog.as_ref().unwrap().photo, PhotoId(1), "the one that the dialog was opened for");
        assert!(existing(&export, true).is_empty());
        std::fs::write(&recipe, "old").unwrap();
        assert!(existing(&export, true) == [&*recipe], "nobody has asked about this one");
        assert!(existing(&export, false).is_empty());
    }

    #[test]
    fn choices_start_as_the_command_line_does() {
        assert_eq!(Choices::default().options(false), ExportOptions::default());
        assert_eq!(Choices::default().crop(), Crop::default());
    }
}
