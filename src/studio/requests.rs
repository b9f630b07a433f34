//! What the window asks of the engine.

use std::path::PathBuf;

use super::{SAMPLE, StudioApp};
use crate::engine::{ExportRequest, Job, Quality, RenderRequest, Request};
use crate::photo::{ExportFormat, Frame, Photo};

impl StudioApp {
    pub(super) fn send(&mut self, request: Request) -> bool {
        let sent = self.engine.as_ref().is_some_and(|engine| engine.send(request));
        if !sent {
            self.notices.trouble("The engine is busy. Try again in a moment", "");
        }
        sent
    }

    /// Asks for a picture of the recipe as it stands.
    pub(super) fn render(&mut self, quality: Quality) {
        let (Some(engine), Some(_)) = (&self.engine, &self.photo) else { return };
        self.generation += 1;
        self.settle_at = None;
        engine.render(RenderRequest { generation: self.generation, recipe: self.recipe.clone(), quality });
    }

    pub(super) fn open_path(&mut self, path: PathBuf) {
        self.files.remember(&path);
        if self.send(Request::OpenPath(path)) {
            self.jobs.started(Job::OpeningPhoto);
        }
    }

    pub(super) fn open_photo(&mut self, photo: Photo) {
        if self.send(Request::OpenPhoto(Box::new(photo))) {
            self.jobs.started(Job::OpeningPhoto);
        }
    }

    pub(super) fn open_sample(&mut self) {
        match Photo::decode(SAMPLE, "Sample") {
            Ok(photo) => self.open_photo(photo),
            Err(error) => self.notices.trouble("The sample photo could not be opened", error.to_string()),
        }
    }

    /// Reads the photo under another frame.
    pub(super) fn reframe(&mut self, frame: Frame) {
        if self.send(Request::Reframe(frame)) {
            self.jobs.started(Job::OpeningPhoto);
        }
    }

    pub(super) fn save_photo(&mut self, path: PathBuf, overwrite: bool) {
        // Told here, before any work: the engine would find out only after the decode.
        if let Err(error) = ExportFormat::of(&path) {
            return self.notices.trouble(error.to_string(), "");
        }
        self.files.remember(&path);
        let choices = self.export.choices;
        let (crop, options) = (choices.crop(), choices.options(overwrite));
        let request = ExportRequest { path, recipe: self.recipe.clone(), options, crop, save_recipe: choices.save_recipe };
        if self.send(Request::Export(Box::new(request))) {
            self.jobs.started(Job::Exporting);
        }
    }
}
