//! What was open, so that a restart or a crash loses nothing.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use egui::Event;
use serde::{Deserialize, Serialize};

use super::history::Steps;
use super::history_strip::Snapshot;
use super::shelf::{Kept, Shelved};
use super::{SAMPLE, SAMPLE_NAME, SAVE_INTERVAL, StudioApp};
use crate::editing::Recipe;
use crate::engine::{Origin, PhotoId, Reopening, Request};
use crate::photo::{Frame, Photo};

/// Pixels of the largest picture without a file that is kept. Larger ones are no photos of faces, and would fill the disk.
const LARGEST_STORED: u64 = 40_000_000;
/// Kept pictures that nothing leads to any more are left by a crash. They are removed only when no window can still be using them.
const LEFT_BEHIND: Duration = Duration::from_secs(24 * 60 * 60);

/// A photo that was open, and what was done to it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SavedPhoto {
    /// Its file. Without one and without `stored`: the sample photo.
    path: Option<PathBuf>,
    /// Where the pixels of a picture without a file (pasted, made up) are kept.
    stored: Option<Stored>,
    /// What is edited of it, if not what is found.
    frame: Option<Frame>,
    recipe: Recipe,
    steps: Steps,
    snapshots: Vec<Snapshot>,
    present: bool,
}

/// A picture that has no file of its own.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Stored {
    file: PathBuf,
    name: String,
}

impl SavedPhoto {
    fn is_there(&self) -> bool {
        let file = self.stored.as_ref().map(|stored| &stored.file).or(self.path.as_ref());
        file.is_none_or(|file| file.is_file())
    }

    fn name(&self) -> String {
        match (&self.path, &self.stored) {
            (Some(path), _) => path.display().to_string(),
            (None, Some(stored)) => stored.name.clone(),
            (None, None) => SAMPLE_NAME.to_owned(),
        }
    }

    /// How to open it again; `None` if the sample cannot be read, which it always can.
    fn request(&self) -> Option<Request> {
        let origin = match (&self.path, &self.stored) {
            (Some(path), _) => Origin::File(path.clone()),
            (None, Some(Stored { file, name })) => Origin::Stored { file: file.clone(), name: name.clone() },
            (None, None) => Origin::Memory(Box::new(Photo::decode(SAMPLE, SAMPLE_NAME).ok()?)),
        };
        Some(Request::Reopen(Reopening { origin, frame: self.frame }))
    }
}

/// What is still to be opened again.
#[derive(Debug, Default)]
pub struct Restoring {
    waiting: Vec<SavedPhoto>,
    /// Answers of the engine that are still to come.
    outstanding: usize,
    present: Option<PhotoId>,
}

impl Restoring {
    /// What was done to a photo that was just opened, if that was because of the session.
    pub(super) fn take(&mut self, id: PhotoId, name: &str, path: Option<&PathBuf>, stored: Option<&PathBuf>) -> Option<Kept> {
        let fits = |saved: &SavedPhoto| match (&saved.path, &saved.stored) {
            (None, None) => path.is_none() && stored.is_none() && name == SAMPLE_NAME,
            (own, kept) => own.as_ref() == path && kept.as_ref().map(|kept| &kept.file) == stored,
        };
        let SavedPhoto { recipe, steps, snapshots, present, .. } = self.waiting.remove(self.waiting.iter().position(fits)?);
        if present {
            self.present = Some(id);
        }
        Some(Kept { recipe, history: steps.into(), snapshots, ..Kept::default() })
    }

    /// The engine is done with one more; returns the photo to show when it was the last one.
    fn answered(&mut self) -> Option<PhotoId> {
        self.outstanding = self.outstanding.checked_sub(1)?;
        if self.outstanding > 0 {
            return None;
        }
        // What could not be opened was told, and is not tried a second time.
        self.waiting.clear();
        self.present.take()
    }
}

impl StudioApp {
    /// What is open now, or still to be opened again.
    pub(super) fn session(&self) -> Vec<SavedPhoto> {
        let open = self.shelf.iter().filter_map(|photo| self.saved(photo));
        open.chain(self.restoring.waiting.iter().cloned()).collect()
    }

    /// `None` for a picture that could not be found again.
    fn saved(&self, photo: &Shelved) -> Option<SavedPhoto> {
        let stored = photo.stored.clone().map(|file| Stored { file, name: photo.photo.name.clone() });
        if photo.path.is_none() && stored.is_none() && photo.photo.name != SAMPLE_NAME {
            return None;
        }
        let present = self.shelf.present() == Some(photo.id);
        let (recipe, history, snapshots) = match present {
            true => (&self.recipe, &self.history, &self.snapshots),
            false => (&photo.kept.recipe, &photo.kept.history, &photo.kept.snapshots),
        };
        Some(SavedPhoto {
            path: photo.path.clone(),
            // A made-up face has no frame that could be found again.
            frame: (photo.frame_is_set || stored.is_some()).then_some(photo.frame),
            stored,
            recipe: recipe.clone(),
            steps: history.nearest_steps(),
            snapshots: snapshots.clone(),
            present,
        })
    }

    /// Opens what was open; `false` if there is nothing left of it.
    pub(super) fn restore(&mut self, session: Vec<SavedPhoto>) -> bool {
        self.remove_left_behind(&session);
        let (there, gone): (Vec<_>, Vec<_>) = session.into_iter().partition(SavedPhoto::is_there);
        if !gone.is_empty() {
            let names = gone.iter().map(SavedPhoto::name).collect::<Vec<_>>();
            self.notices.trouble("Some photos of the last time are no longer there", names.join("\n"));
        }
        let requests: Vec<Request> = there.iter().filter_map(SavedPhoto::request).collect();
        self.restoring = Restoring { waiting: there, outstanding: requests.len(), present: None };
        requests.into_iter().for_each(|request| self.open_new(request));
        self.restoring.outstanding > 0
    }

    /// A photo of the session was opened, or could not be.
    pub(super) fn go_on_restoring(&mut self) {
        if let Some(present) = self.restoring.answered() {
            self.select(present);
        }
    }

    /// Keeps the pixels of a picture that has no file; returns where.
    pub(super) fn store(&mut self, id: PhotoId, width: u32, height: u32) -> Option<PathBuf> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let file = self.session_folder()?.join(format!("{}-{}.png", now.as_nanos(), id.0));
        let fits = u64::from(width) * u64::from(height) <= LARGEST_STORED;
        (fits && self.send(Request::Store { id, file: file.clone() })).then_some(file)
    }

    fn session_folder(&self) -> Option<PathBuf> {
        Some(self.folder.as_ref()?.join("session"))
    }

    fn remove_left_behind(&self, session: &[SavedPhoto]) {
        let Some(entries) = self.session_folder().and_then(|folder| std::fs::read_dir(folder).ok()) else { return };
        let used = |file: &Path| session.iter().any(|saved| saved.stored.as_ref().is_some_and(|stored| stored.file == file));
        for entry in entries.flatten() {
            let age = entry.metadata().and_then(|data| data.modified()).ok().and_then(|changed| changed.elapsed().ok());
            if age.is_some_and(|age| age > LEFT_BEHIND) && !used(&entry.path()) {
                remove(&entry.path());
            }
        }
    }

    /// Sees to it that a change is saved even if the person does nothing more: the framework saves only when it draws.
    pub(super) fn save_soon(&mut self, ctx: &egui::Context) {
        let now = ctx.input(|input| input.time);
        let acted = ctx.input(|input| {
            input.pointer.any_released()
                || input
                    .events
                    .iter()
                    .any(|event| matches!(event, Event::Key { .. } | Event::PasteImage(_) | Event::AccessKitActionRequest(_)))
                || !input.raw.dropped_files.is_empty()
        });
        if acted {
            self.unsaved_since.get_or_insert(now);
        }
        let Some(since) = self.unsaved_since else { return };
        let left = since + SAVE_INTERVAL.as_secs_f64() + 1.0 - now;
        if left < -5.0 {
            // Nothing is saved here, as in tests.
            self.unsaved_since = None;
        } else {
            ctx.request_repaint_after(Duration::from_secs_f64(left.max(1.0)));
        }
    }
}

/// Removes a kept picture. One that cannot be removed now is left behind, and removed at a later start.
pub(super) fn remove(file: &Path) {
    if let Err(error) = std::fs::remove_file(file) {
        log::info!("{} could not be removed: {error}", file.display());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_photo_gets_its_own_edit_back() {
        let saved = |path: Option<&str>, stored: Option<&str>, steps, present| SavedPhoto {
            path: path.map(PathBuf::from),
            stored: stored.map(|file| Stored { file: file.into(), name: "Pasted picture".into() }),
            recipe: Recipe { steps, ..Recipe::default() },
            present,
            ..SavedPhoto::default()
        };
        let waiting = vec![
            saved(Some("/a.png"), None, 1, true),
            saved(None, None, 2, false),
            saved(Some("/b.png"), None, 3, false),
            saved(None, Some("/kept/1.png"), 4, false),
        ];
        let mut restoring = Restoring { outstanding: waiting.len(), waiting, present: None };
        let mut steps = |id, name: &str, path: Option<&str>, stored: Option<&str>| {
            let kept = restoring.take(PhotoId(id), name, path.map(PathBuf::from).as_ref(), stored.map(PathBuf::from).as_ref());
            kept.map(|kept| kept.recipe.steps)
        };
        assert_eq!(steps(1, "a", Some("/a.png"), None), Some(1));
        assert_eq!(steps(2, "Pasted picture", None, None), None, "pasted just now");
        assert_eq!(steps(3, "Pasted picture", None, Some("/kept/1.png")), Some(4));
        assert_eq!(steps(4, SAMPLE_NAME, None, None), Some(2));
        assert_eq!(steps(5, "a", Some("/a.png"), None), None, "it was there once");
        assert_eq!([1, 2, 3].map(|_| restoring.answered()), [None; 3]);
        assert_eq!(restoring.answered(), Some(PhotoId(1)), "shown once all others have opened or failed");
        assert!(restoring.waiting.is_empty());
        assert_eq!(restoring.answered(), None);
    }

    #[test]
    fn sessions_of_earlier_versions_are_read() {
        let old = r#"[(path:Some("/a.png"),recipe:(sliders:{"Smiling":40.0},steps:20,guidance:1.0,stop_percent:0.0),snapshots:[],present:true),
            (path:None,recipe:(sliders:{},steps:20,guidance:1.0,stop_percent:0.0),snapshots:[],present:false)]"#;
        let mut storage = Texts::default();
        eframe::Storage::set_string(&mut storage, "session", old.to_owned());
        let session: Vec<SavedPhoto> = eframe::get_value(&storage, "session").expect("it can be read");
        assert_eq!((session.len(), session[0].recipe.slider("Smiling"), session[0].present), (2, 40.0, true));
        assert_eq!((&session[0].frame, &session[1].stored), (&None, &None));
    }

    #[derive(Default)]
    struct Texts(std::collections::BTreeMap<String, String>);

    impl eframe::Storage for Texts {
        fn get_string(&self, key: &str) -> Option<String> {
            self.0.get(key).cloned()
        }

        fn set_string(&mut self, key: &str, value: String) {
            self.0.insert(key.to_owned(), value);
        }

        fn remove_string(&mut self, key: &str) {
            self.0.remove(key);
        }

        fn flush(&mut self) {}
    }
}
