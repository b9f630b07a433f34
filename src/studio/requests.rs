//! What the window asks of the engine.

use std::path::PathBuf;

use super::command::Command;
use super::session::SavedPhoto;
use super::shelf::{Kept, Shelf};
use super::{SAMPLE, SAMPLE_NAME, StudioApp, Workspace, models};
use crate::engine::{ExportRequest, Job, Opening, Origin, PhotoId, Quality, RenderRequest, Reopening, Request};
use crate::photo::{ExportFormat, Frame, Photo, check_place};

/// Recent photos and models that are remembered.
const RECENT: usize = 10;

/// A photo that is being opened.
pub(super) struct Expected {
    /// Its file, if it has one.
    path: Option<PathBuf>,
    /// It is nowhere else, and is to be kept by the program: the window must not close before.
    pub is_to_be_kept: bool,
}

impl Expected {
    fn new(opening: &Opening) -> Self {
        let path = match opening {
            Opening::File(path) | Opening::Again(Reopening { origin: Origin::File(path), .. }) => Some(path.clone()),
            _ => None,
        };
        let is_to_be_kept = match opening {
            Opening::Memory(photo) => photo.name != SAMPLE_NAME,
            Opening::Sample { .. } => true,
            Opening::File(_) | Opening::Again(_) => false,
        };
        Self { path, is_to_be_kept }
    }
}

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
        let (Some(engine), Some(photo)) = (&self.engine, self.shelf.present()) else { return };
        self.generation += 1;
        self.settle_at = None;
        engine.render(RenderRequest { photo, generation: self.generation, recipe: self.recipe.clone(), quality });
    }

    pub(super) fn remember_path(&mut self, path: &PathBuf) {
        self.files.remember(path);
        self.recent.retain(|other| other != path);
        self.recent.insert(0, path.clone());
        self.recent.truncate(RECENT);
    }

    pub(super) fn open_path(&mut self, path: PathBuf) {
        // The next start may be from another folder.
        let path = std::path::absolute(&path).unwrap_or(path);
        self.remember_path(&path);
        if self.opening.values().any(|other| other.path.as_ref() == Some(&path)) {
            // It is shown when it comes.
            return self.restoring.put_in_front(&path);
        }
        match self.shelf.of_path(&path) {
            Some(id) => self.select(id),
            None => {
                let opening = self.restoring.missing_again(&path).unwrap_or_else(|| Opening::File(path.clone()));
                if let Some(id) = self.open_new(opening) {
                    self.restoring.found(&path, id);
                }
            }
        }
    }

    pub(super) fn open_photo(&mut self, photo: Photo) {
        self.open_new(Opening::Memory(Box::new(photo)));
    }

    /// Asks for another photo; `None` if there is no room for it, which is told.
    pub(super) fn open_new(&mut self, opening: Opening) -> Option<PhotoId> {
        if self.shelf.len() + self.opening.len() >= Shelf::MOST {
            self.notices.tell("Many photos are open already. Close some first");
            return None;
        }
        let (id, expected) = (PhotoId(self.next_photo), Expected::new(&opening));
        if !self.send(Request::Open(id, opening)) {
            return None;
        }
        self.next_photo += 1;
        self.opening.insert(id, expected);
        self.jobs.started(Job::OpeningPhoto);
        Some(id)
    }

    /// Opens the photo of a kind that was closed last, with what was done to it; `false` if there is none, or no room.
    pub(super) fn reopen(&mut self, is_wanted: impl Fn(&SavedPhoto) -> bool) -> bool {
        let Some(opening) = self.restoring.closed(&is_wanted).and_then(SavedPhoto::opening) else { return false };
        let id = self.open_new(opening);
        if let Some(id) = id {
            self.restoring.reopened(&is_wanted, id);
        }
        id.is_some()
    }

    /// Makes another open photo the present one.
    pub(super) fn select(&mut self, id: PhotoId) {
        if self.shelf.present() != Some(id) {
            self.go_back_to(id);
        }
    }

    /// The same, whether or not it is on the screen.
    pub(super) fn go_back_to(&mut self, id: PhotoId) {
        if self.send(Request::Select(id)) {
            self.jobs.started(Job::OpeningPhoto);
        }
    }

    pub(super) fn close(&mut self, ctx: &egui::Context, id: PhotoId) {
        if !self.send(Request::Close(id)) {
            return;
        }
        if let Some((name, saved)) = self.shelf.get(id).and_then(|photo| Some((photo.photo.name.clone(), self.saved(photo)?))) {
            if saved.is_worked_on() {
                let keys = ctx.format_shortcut(&Command::ReopenClosed.shortcut());
                self.notices.tell(format!("Closed {name}. Its edit comes back when it is opened again ({keys})"));
            }
            self.restoring.close(saved);
        }
        let was_present = self.shelf.present() == Some(id);
        let beside = self.shelf.remove(id);
        if was_present {
            self.photo = None;
            self.drags_on |= self.held.take().is_some();
            self.set_kept(Kept { recipe: self.untouched.clone(), ..Kept::default() });
            self.picture.close();
        }
        // Also where this one was to follow another that was closed, and has not come yet.
        if let Some(beside) = beside.filter(|_| self.shelf.present().is_none()) {
            self.select(beside);
        }
    }

    pub(super) fn load_model(&mut self, folder: PathBuf) {
        // The next start may be from another folder.
        let full = std::path::absolute(&folder).unwrap_or_else(|_| folder.clone());
        self.used_models.retain(|other| *other != full);
        self.used_models.insert(0, full);
        self.used_models.truncate(RECENT);
        if self.send(Request::LoadBundle(folder)) {
            self.jobs.started(Job::LoadingModel);
        }
    }

    pub(super) fn import_model(&mut self, folder: PathBuf) {
        let Some(own) = self.models_folder() else {
            return self.notices.trouble("There is no folder for models here. Use “pdae-studio import” on the command line instead", "");
        };
        let output = models::import_folder(&own, &folder);
        if self.send(Request::Import { folder, output }) {
            self.jobs.started(Job::Importing);
        }
    }

    /// Where imported models are kept.
    pub(super) fn models_folder(&self) -> Option<PathBuf> {
        Some(self.folder.as_ref()?.join("models"))
    }

    /// Asks for the pictures that the interpolation view wants.
    pub(super) fn follow_interpolation(&mut self) {
        let request = match self.workspace {
            Workspace::Interpolate => self.interpolate.update(&self.shelf, &self.recipe, self.untouched.steps),
            _ => return,
        };
        if let (Some(engine), Some(request)) = (&self.engine, request) {
            engine.interpolate(request);
        }
    }

    /// Writes the pictures that were waited for, or tells that they will not come.
    pub(super) fn finish_interpolation(&mut self) {
        if let Some(request) = self.interpolate.take_export() {
            if self.send(request) {
                self.jobs.started(Job::WritingSequence);
            }
            if self.workspace != Workspace::Interpolate {
                self.leave_interpolation();
            }
        }
        if self.interpolate.take_gave_up() {
            self.closing = false;
            self.notices.tell("The pictures were not saved");
        }
    }

    /// Has no more pictures made, unless they are to be saved.
    fn leave_interpolation(&mut self) {
        if let (Some(engine), Some(request)) = (&self.engine, self.interpolate.leave()) {
            engine.interpolate(request);
            self.jobs.ended(Job::Interpolating);
        }
    }

    /// Changes to another view.
    pub(super) fn go(&mut self, workspace: Workspace) {
        if self.workspace == Workspace::Interpolate && workspace != Workspace::Interpolate {
            self.leave_interpolation();
        }
        self.workspace = workspace;
    }

    pub(super) fn open_sample(&mut self) {
        if self.reopen(SavedPhoto::is_sample) {
            return;
        }
        match Photo::decode(SAMPLE, SAMPLE_NAME) {
            Ok(photo) => self.open_photo(photo),
            Err(error) => self.notices.trouble("The sample photo could not be opened", error.to_string()),
        }
    }

    /// Reads the photo under another frame.
    pub(super) fn reframe(&mut self, frame: Frame) {
        if let Some(photo) = self.shelf.present()
            && self.send(Request::Reframe { photo, frame })
        {
            self.jobs.started(Job::OpeningPhoto);
        }
    }

    pub(super) fn save_photo(&mut self, photo: PhotoId, path: PathBuf, overwrite: bool) {
        // Told here, before any work: the engine would find out only after the decode.
        if let Err(error) = ExportFormat::of(&path).and_then(|_| check_place(&path, overwrite)) {
            self.notices.trouble(error.to_string(), "");
            return self.export.open(photo, &path);
        }
        // The system's dialog may have been open while another photo was saved through this one.
        if self.jobs.is_running(Job::Exporting) {
            self.notices.tell("Another photo is being saved. Try again when that is done");
            return self.export.open(photo, &path);
        }
        // Another one may be shown by now: one that was being opened has come, say.
        let recipe = match self.shelf.get(photo) {
            Some(_) if self.shelf.present() == Some(photo) => self.recipe.clone(),
            Some(shelved) => shelved.kept.recipe.clone(),
            None => return self.notices.trouble("That photo was closed. Open it again to save it", ""),
        };
        self.files.remember(&path);
        let choices = self.export.choices;
        let (crop, options) = (choices.crop(), choices.options(overwrite));
        let request = ExportRequest { photo, path, recipe, options, crop, save_recipe: choices.save_recipe };
        if self.send(Request::Export(Box::new(request))) {
            self.jobs.started(Job::Exporting);
        }
    }
}
