//! Input that is not a widget's: drops, pastes, answers of dialogs, the key for the original.

use std::path::{Path, PathBuf};

use egui::{Event, Key, Modifiers};
use image::{DynamicImage, RgbaImage};

use super::StudioApp;
use super::export::Answer;
use super::files::{self, Chosen, Outcome, Purpose};
use super::interpolation::Export;
use super::models;
use crate::photo::Photo;
use crate::photo::animation::{SequenceError, SequenceFormat};

/// Input that is for the next frame.
#[derive(Debug, Default)]
pub(super) struct Postponed {
    events: Vec<Event>,
}

impl Postponed {
    /// Leaves in `events` what is for this frame; `true` if there is more to come.
    ///
    /// egui knows one place of the pointer a frame. Where a slow frame holds a button's release and a move after it, whatever was
    /// dragged would follow the pointer to where it went later.
    pub fn postpone(&mut self, events: &mut Vec<Event>) -> bool {
        let mut all = std::mem::take(&mut self.events);
        all.append(events);
        let released = all.iter().position(|event| matches!(event, Event::PointerButton { pressed: false, .. }));
        if let Some(i) = released.filter(|i| all[*i..].iter().any(|event| matches!(event, Event::PointerMoved(_)))) {
            self.events = all.split_off(i + 1);
        }
        *events = all;
        !self.events.is_empty()
    }
}

impl StudioApp {
    pub(super) fn take_drops_and_pastes(&mut self, ctx: &egui::Context) {
        let dropped = ctx.input(|input| input.raw.dropped_files.iter().map(|file| file.path().to_owned()).collect::<Vec<_>>());
        for path in dropped {
            self.open_path(path);
        }
        let in_text = ctx.text_edit_focused();
        let events = ctx.input(|input| input.events.clone());
        for event in events {
            match event {
                Event::PasteImage(image) => self.paste_image(&image),
                Event::Paste(text) if !in_text => self.paste_text(&text),
                _ => {}
            }
        }
    }

    pub(super) fn paste_image(&mut self, image: &egui::ColorImage) {
        let [width, height] = image.size.map(|side| side as u32);
        let pixels: Vec<u8> = image.pixels.iter().flat_map(|pixel| pixel.to_srgba_unmultiplied()).collect();
        let Some(pixels) = RgbaImage::from_raw(width, height, pixels) else { return };
        let mut image = DynamicImage::ImageRgba8(pixels);
        if image.as_rgba8().is_some_and(|rgba| rgba.pixels().all(|pixel| pixel.0[3] == 255)) {
            image = DynamicImage::ImageRgb8(image.into_rgb8());
        }
        match Photo::from_image(image, "Pasted picture") {
            Ok(photo) => self.open_photo(photo),
            Err(error) => self.notices.trouble(error.to_string(), ""),
        }
    }

    pub(super) fn paste_text(&mut self, text: &str) {
        let path = files::path_from_text(text);
        if path.is_file() {
            self.open_path(path);
        } else {
            self.notices.tell("There is no picture, and no path to one, on the clipboard");
        }
    }

    /// Whether a key asks for the original: B, or Space where it does not press a button.
    pub(super) fn holds_original(ctx: &egui::Context) -> bool {
        let free = !ctx.egui_wants_keyboard_input();
        let in_text = ctx.text_edit_focused();
        ctx.input(|input| {
            input.modifiers == Modifiers::NONE && ((!in_text && input.key_down(Key::B)) || (free && input.key_down(Key::Space)))
        })
    }

    pub(super) fn take_files(&mut self, ctx: &egui::Context) {
        let outcome = {
            let suggestions =
                [Purpose::Save, Purpose::SavePicture, Purpose::SaveStrip, Purpose::SaveAnimation].map(|p| (p, self.suggested_name(p)));
            self.files.poll(|purpose| suggestions.iter().find(|(p, _)| *p == purpose).map_or_else(String::new, |(_, name)| name.clone()))
        };
        match outcome {
            Some(Outcome::Chosen(chosen)) => self.take_path(chosen),
            Some(Outcome::NoDialog(purpose)) => self.notices.tell(match purpose {
                Purpose::Open => "No file dialog is available here. Drop a photo on the window, paste one, or type its path.",
                Purpose::Model | Purpose::Checkpoints => "No file dialog is available here. Type the folder's path.",
                _ => "No file dialog is available here. Type where to save it.",
            }),
            None => {}
        }
        if let Some(chosen) = self.files.show(ctx) {
            self.take_path(chosen);
        }
        let shelf = &self.shelf;
        let is_original =
            |id, path: &Path| shelf.get(id).and_then(|photo| photo.path.as_deref()).is_some_and(|own| models::same(own, path));
        match self.export.show(ctx, self.files.system_dialogs, is_original) {
            Some(Answer::Browse) => self.files.ask(ctx, Purpose::Save, &self.suggested_name(Purpose::Save)),
            Some(Answer::Save { photo, path, overwrite }) => self.save_photo(photo, path, overwrite),
            None => {}
        }
    }

    pub(super) fn take_path(&mut self, Chosen { purpose, path, overwrite }: Chosen) {
        match purpose {
            Purpose::Open => self.open_path(path),
            Purpose::Save => self.export.choose(self.shelf.present(), path, overwrite),
            Purpose::SavePicture => self.export_between(Export::Picture, path, overwrite),
            Purpose::SaveStrip => self.export_between(Export::Strip, path, overwrite),
            Purpose::SaveAnimation => self.export_between(Export::Animation, path, overwrite),
            Purpose::Model => self.load_model(path),
            Purpose::Checkpoints => self.import_model(path),
        }
    }

    fn export_between(&mut self, what: Export, path: PathBuf, overwrite: bool) {
        // Told here, before any picture is made.
        let checked = SequenceFormat::of(&path).and_then(|format| match (format, what) {
            (SequenceFormat::Strip, Export::Animation) => Err(SequenceError::Ending(path.clone())),
            (format, Export::Animation) => format.check_available(&path),
            (SequenceFormat::Strip, _) => Ok(()),
            _ => Err(SequenceError::Ending(path.clone())),
        });
        match checked {
            Ok(()) => self.interpolate.export(what, path, overwrite),
            Err(error) => self.notices.trouble(error.to_string(), ""),
        }
    }
}

#[cfg(test)]
mod tests {
    use egui::{PointerButton, pos2};

    use super::*;

    fn button(x: f32, pressed: bool) -> Event {
        Event::PointerButton { pos: pos2(x, 0.0), button: PointerButton::Primary, pressed, modifiers: Modifiers::NONE }
    }

    #[test]
    fn a_drag_ends_where_the_button_was_let_go() {
        let moved = |x| Event::PointerMoved(pos2(x, 0.0));
        let mut postponed = Postponed::default();
        let mut events = vec![moved(5.0), button(5.0, false), moved(90.0), button(90.0, true)];
        assert!(postponed.postpone(&mut events));
        assert_eq!(events, [moved(5.0), button(5.0, false)]);
        let mut events = vec![button(90.0, false), Event::Copy];
        assert!(!postponed.postpone(&mut events));
        assert_eq!(events, [moved(90.0), button(90.0, true), button(90.0, false), Event::Copy], "in their order, and nothing is lost");
    }
}
