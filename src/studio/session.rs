//! What was open, so that a restart or a crash loses nothing.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use egui::Event;
use serde::{Deserialize, Serialize};

use super::history::{Change, Steps};
use super::history_strip::Snapshot;
use super::interpolation::unedited;
use super::settings::Keeping;
use super::shelf::{Kept, Shelved};
use super::{SAMPLE, SAMPLE_NAME, SAVE_INTERVAL, StudioApp};
use crate::editing::Recipe;
use crate::engine::{Opening, Origin, PhotoId, Reopening, Request};
use crate::photo::{Frame, Photo};

/// Pixels of the largest picture without a file that is kept. Larger ones are no photos of faces, and would fill the disk.
const LARGEST_STORED: u64 = 40_000_000;
/// Kept pictures that nothing leads to any more are left by a crash. They are removed only when no window can still be using them.
const LEFT_BEHIND: Duration = Duration::from_secs(24 * 60 * 60);
/// Photos that were closed and come back as they were when they are opened again.
const CLOSED: usize = 20;
/// Starts at which a photo may be missing (its drive is unplugged, say) before what was done to it is forgotten.
const PATIENCE: u32 = 10;

/// A photo that was open, and what was done to it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SavedPhoto {
    /// Its file. Without one and without `stored`: the sample photo.
    path: Option<PathBuf>,
    /// Where the pixels of a picture without a file (pasted, made up) are kept.
    stored: Option<Stored>,
    /// Of the file that was edited, as hexadecimal; earlier versions kept none.
    sha256: Option<String>,
    /// What is edited of it, if not what is found.
    frame: Option<Frame>,
    recipe: Recipe,
    steps: Steps,
    snapshots: Vec<Snapshot>,
    present: bool,
    /// Starts in a row at which it could not be opened.
    missed: u32,
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

    /// Whether it can be written to the settings.
    fn is_text(&self) -> bool {
        let files = self.path.iter().chain(self.stored.iter().map(|stored| &stored.file));
        files.into_iter().all(|file| file.to_str().is_some())
    }

    /// Whether there is more to it than an open photo.
    pub(super) fn is_worked_on(&self) -> bool {
        self.recipe.is_changed() || self.steps != Steps::default() || !self.snapshots.is_empty()
    }

    pub(super) fn is_sample(&self) -> bool {
        self.path.is_none() && self.stored.is_none()
    }

    fn name(&self) -> String {
        match (&self.path, &self.stored) {
            (Some(path), _) => path.display().to_string(),
            (None, Some(stored)) => stored.name.clone(),
            (None, None) => SAMPLE_NAME.to_owned(),
        }
    }

    /// For the next start; `None` if it was missing for too long.
    fn missed_again(self) -> Option<Self> {
        let missed = self.missed + 1;
        (missed < PATIENCE).then_some(Self { present: false, missed, ..self })
    }

    /// Whether there is another photo in its file than the one that was edited: the edited one itself, say.
    fn is_another(&self, sha256: Option<&String>) -> bool {
        self.sha256.as_ref().is_some_and(|own| Some(own) != sha256)
    }

    fn into_kept(self) -> Kept {
        let Self { mut recipe, steps, snapshots, .. } = self;
        // Earlier versions knew no other way than to change it, but of an unedited photo there is nothing to keep.
        recipe.keep_background |= !recipe.is_changed();
        Kept { recipe, history: steps.into(), snapshots, ..Kept::default() }
    }

    /// The same where the edit would not be of what it was made on: it is a step back.
    fn into_undone(self) -> Kept {
        let mut kept = self.into_kept();
        let plain = Recipe { keep_background: true, ..unedited(&kept.recipe) };
        kept.history.commit(&kept.recipe, &plain, Change::Whole, 0.0);
        Kept { recipe: plain, ..kept }
    }

    fn is_of(&self, name: &str, path: Option<&PathBuf>, stored: Option<&PathBuf>) -> bool {
        match (&self.path, &self.stored) {
            (None, None) => path.is_none() && stored.is_none() && name == SAMPLE_NAME,
            (own, kept) => own.as_ref() == path && kept.as_ref().map(|kept| &kept.file) == stored,
        }
    }

    /// How to open it again; `None` if the sample cannot be read, which it always can.
    pub(super) fn opening(&self) -> Option<Opening> {
        let origin = match (&self.path, &self.stored) {
            (Some(path), _) => Origin::File(path.clone()),
            (None, Some(Stored { file, name })) => Origin::Stored { file: file.clone(), name: name.clone() },
            (None, None) => Origin::Memory(Box::new(Photo::decode(SAMPLE, SAMPLE_NAME).ok()?)),
        };
        Some(Opening::Again(Reopening { origin, frame: self.frame }))
    }
}

/// What is still to be opened again.
#[derive(Debug, Default)]
pub struct Restoring {
    waiting: Vec<SavedPhoto>,
    /// Those that the engine was asked for and has not answered.
    outstanding: BTreeSet<PhotoId>,
    present: Option<PhotoId>,
    /// What could not be opened at this start, and may be at the next one.
    missing: Vec<SavedPhoto>,
    closed: Closed,
}

/// What was closed, the last one last. The pixels of those that have no file end with the window.
#[derive(Debug, Default)]
struct Closed(Vec<SavedPhoto>);

impl Closed {
    fn push(&mut self, saved: SavedPhoto) {
        self.0.retain(|other| (&other.path, &other.stored) != (&saved.path, &saved.stored));
        self.0.push(saved);
        if self.0.len() > CLOSED {
            drop(Self(vec![self.0.remove(0)]));
        }
    }
}

impl Drop for Closed {
    fn drop(&mut self) {
        self.0.iter().filter_map(|saved| saved.stored.as_ref()).for_each(|stored| remove(&stored.file));
    }
}

impl Restoring {
    /// What was done to a photo that was just opened, if that was because of the session, and whether it is undone.
    pub(super) fn take(
        &mut self,
        id: PhotoId,
        name: &str,
        path: Option<&PathBuf>,
        stored: Option<&PathBuf>,
        sha256: Option<&String>,
    ) -> Option<(Kept, bool)> {
        let saved = self.waiting.remove(self.waiting.iter().position(|saved| saved.is_of(name, path, stored))?);
        if saved.present {
            self.present = Some(id);
        }
        let undone = saved.recipe.is_changed() && saved.is_another(sha256);
        Some((if undone { saved.into_undone() } else { saved.into_kept() }, undone))
    }

    /// How to open a photo as it was that was missing at the start or was closed, and is opened by hand.
    pub(super) fn missing_again(&self, path: &Path) -> Option<Opening> {
        self.missing.iter().chain(&self.closed.0).find(|saved| saved.path.as_deref() == Some(path))?.opening()
    }

    /// That was asked for.
    pub(super) fn found(&mut self, path: &Path, id: PhotoId) {
        let is_it = |saved: &SavedPhoto| saved.path.as_deref() == Some(path);
        match self.missing.iter().position(is_it) {
            Some(i) => self.wait_for(self.missing[i].clone(), id),
            None => self.reopened(is_it, id),
        }
        self.missing.retain(|saved| !is_it(saved));
    }

    /// The engine was asked for a photo with what was done to it.
    fn wait_for(&mut self, saved: SavedPhoto, id: PhotoId) {
        self.waiting.push(SavedPhoto { present: true, ..saved });
        self.outstanding.insert(id);
    }

    /// Keeps what was done to a photo that is closed.
    pub(super) fn close(&mut self, saved: SavedPhoto) {
        self.closed.push(saved);
    }

    pub(super) fn has_closed(&self) -> bool {
        !self.closed.0.is_empty()
    }

    /// Of a kind, the one that was closed last.
    pub(super) fn closed(&self, is_wanted: impl Fn(&SavedPhoto) -> bool) -> Option<&SavedPhoto> {
        self.closed.0.iter().rfind(|saved| is_wanted(saved))
    }

    /// That one was asked for.
    pub(super) fn reopened(&mut self, is_wanted: impl Fn(&SavedPhoto) -> bool, id: PhotoId) {
        if let Some(i) = self.closed.0.iter().rposition(is_wanted) {
            let saved = self.closed.0.remove(i);
            self.wait_for(saved, id);
        }
    }

    /// What was closed, for the next start. A picture without a file is not kept so long by one who closed it.
    pub(super) fn closed_files(&self) -> Vec<SavedPhoto> {
        self.closed.0.iter().filter(|saved| saved.stored.is_none() && saved.is_text()).cloned().collect()
    }

    pub(super) fn set_closed(&mut self, closed: Vec<SavedPhoto>) {
        self.closed = Closed(closed);
    }

    /// Shows one that is being opened, if it is of the session, once all others have come.
    pub(super) fn put_in_front(&mut self, path: &Path) {
        if self.waiting.iter().any(|saved| saved.path.as_deref() == Some(path)) {
            put_in_front(&mut self.waiting, path);
        }
    }

    /// The engine is done with a photo; returns the one to show when that was the last of the session.
    fn answered(&mut self, id: PhotoId) -> Option<PhotoId> {
        if !self.outstanding.remove(&id) || !self.outstanding.is_empty() {
            return None;
        }
        // What could not be opened was told, and is not tried a second time before the next start.
        self.missing.extend(self.waiting.drain(..).filter_map(SavedPhoto::missed_again));
        self.present.take()
    }

    /// The engine could not even try to open one, for want of a model: it goes on waiting.
    fn put_off(&mut self, id: PhotoId) {
        self.outstanding.remove(&id);
    }

    /// What to ask for, now that there is a model, of what was put off.
    fn again(&self) -> Vec<Opening> {
        if !self.outstanding.is_empty() {
            return Vec::new();
        }
        self.waiting.iter().filter_map(SavedPhoto::opening).collect()
    }
}

/// Makes a photo the one that is shown, which none of them is if it was not open; returns whether it was.
pub(super) fn put_in_front(session: &mut [SavedPhoto], path: &Path) -> bool {
    for saved in &mut *session {
        saved.present = saved.path.as_deref() == Some(path) && saved.is_there();
    }
    session.iter().any(|saved| saved.present)
}

impl StudioApp {
    /// What is open now, or still to be opened again.
    pub(super) fn session(&self) -> Vec<SavedPhoto> {
        let open = self.shelf.iter().filter_map(|photo| self.saved(photo));
        let others = self.restoring.waiting.iter().chain(&self.restoring.missing).cloned();
        open.chain(others).filter(SavedPhoto::is_text).collect()
    }

    /// `None` for a picture that could not be found again.
    pub(super) fn saved(&self, photo: &Shelved) -> Option<SavedPhoto> {
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
            sha256: photo.sha256.clone(),
            recipe: recipe.clone(),
            steps: history.nearest_steps(),
            snapshots: snapshots.clone(),
            present,
            missed: 0,
        })
    }

    /// Leaves what was open for the next start.
    pub(super) fn keep_session(&mut self, session: Vec<SavedPhoto>) {
        self.restoring.waiting = session;
    }

    /// Opens what was open; `false` if there is nothing left of it.
    pub(super) fn restore(&mut self, session: Vec<SavedPhoto>) -> bool {
        let (there, gone): (Vec<_>, Vec<_>) = session.into_iter().partition(SavedPhoto::is_there);
        // Told once, not at every start.
        let names = gone.iter().filter(|saved| saved.missed == 0).map(SavedPhoto::name).collect::<Vec<_>>();
        if !names.is_empty() {
            self.notices.trouble("Some photos of the last time are no longer there", names.join("\n"));
        }
        let missing = gone.into_iter().filter_map(SavedPhoto::missed_again).collect();
        let closed = std::mem::take(&mut self.restoring.closed);
        self.restoring = Restoring { waiting: there, missing, closed, ..Restoring::default() };
        self.restore_waiting();
        !self.restoring.outstanding.is_empty()
    }

    /// Opens what is waiting for a model.
    pub(super) fn restore_waiting(&mut self) {
        for opening in self.restoring.again() {
            // What there is no room for goes on waiting.
            let id = self.open_new(opening);
            self.restoring.outstanding.extend(id);
        }
    }

    /// A photo was opened, or could not be.
    pub(super) fn go_on_restoring(&mut self, id: PhotoId) {
        if let Some(present) = self.restoring.answered(id) {
            self.select(present);
        }
    }

    /// A photo could not be opened. Without a model, it is not the photo's fault.
    pub(super) fn restoring_failed(&mut self, id: PhotoId) {
        match self.model {
            Some(_) => self.go_on_restoring(id),
            None => self.restoring.put_off(id),
        }
    }

    /// Keeps the pixels of a picture that has no file; returns where.
    pub(super) fn store(&mut self, id: PhotoId, width: u32, height: u32) -> Option<PathBuf> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let file = self.session_folder()?.join(format!("{}-{}.png", now.as_nanos(), id.0));
        let fits = u64::from(width) * u64::from(height) <= LARGEST_STORED;
        let sent = fits && self.send(Request::Store { id, file: file.clone() });
        self.storing += usize::from(sent);
        sent.then_some(file)
    }

    pub(super) fn session_folder(&self) -> Option<PathBuf> {
        let folder = self.folder.as_ref().filter(|_| !matches!(self.keeping, Keeping::Nothing));
        Some(folder?.join("session"))
    }

    /// Removes the kept pictures that nothing leads to any more.
    pub(super) fn remove_left_behind(&self, session: &[SavedPhoto]) {
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
        let outstanding = BTreeSet::from([1, 3, 4, 9].map(PhotoId));
        let mut restoring = Restoring { outstanding, waiting, ..Restoring::default() };
        let mut steps = |id, name: &str, path: Option<&str>, stored: Option<&str>| {
            let [path, stored] = [path, stored].map(|file| file.map(PathBuf::from));
            let kept = restoring.take(PhotoId(id), name, path.as_ref(), stored.as_ref(), None);
            kept.map(|(kept, _)| kept.recipe.steps)
        };
        assert_eq!(steps(1, "a", Some("/a.png"), None), Some(1));
        assert_eq!(steps(2, "Pasted picture", None, None), None, "pasted just now");
        assert_eq!(steps(3, "Pasted picture", None, Some("/kept/1.png")), Some(4));
        assert_eq!(steps(4, SAMPLE_NAME, None, None), Some(2));
        assert_eq!(steps(5, "a", Some("/a.png"), None), None, "it was there once");
        assert_eq!([1, 2, 3, 4].map(|id| restoring.answered(PhotoId(id))), [None; 4]);
        assert_eq!(restoring.answered(PhotoId(9)), Some(PhotoId(1)), "shown once all others of the session have opened or failed");
        assert!(restoring.waiting.is_empty());
        assert_eq!(restoring.answered(PhotoId(9)), None);
        // The one that could not be opened is tried again at the next starts, but not for ever.
        let mut left = restoring.missing.remove(0);
        assert_eq!((&left.path, left.missed, restoring.missing.len()), (&Some("/b.png".into()), 1, 0));
        let mut starts = 1;
        while let Some(saved) = left.clone().missed_again() {
            (left, starts) = (saved, starts + 1);
        }
        assert_eq!(starts, PATIENCE - 1);
    }

    #[test]
    fn an_edit_is_not_applied_to_what_it_made() {
        let mut recipe = Recipe::default();
        recipe.set_slider("Smiling", 40.0);
        let saved = |sha256: Option<&str>| SavedPhoto {
            path: Some("/a.png".into()),
            sha256: sha256.map(str::to_owned),
            recipe: recipe.clone(),
            ..SavedPhoto::default()
        };
        let back = |sha256: Option<&str>| {
            let mut restoring = Restoring { waiting: vec![saved(sha256)], ..Restoring::default() };
            restoring.take(PhotoId(1), "a", Some(&"/a.png".into()), None, Some(&"12".into())).expect("it waits")
        };
        for same in [Some("12"), None] {
            let (kept, undone) = back(same);
            assert_eq!((kept.recipe, undone), (recipe.clone(), false));
        }
        let (mut kept, undone) = back(Some("34"));
        assert!(undone && !kept.recipe.is_changed() && kept.recipe.keep_background);
        assert_eq!(kept.history.undo(&kept.recipe), Some(recipe.clone()));
    }

    /// Versions from before there was a choice kept none.
    #[test]
    fn edits_from_before_keep_their_way_and_unedited_photos_do_not() {
        let mut edited = Recipe { keep_background: false, ..Recipe::default() };
        let plain = edited.clone();
        edited.set_slider("Smiling", 40.0);
        let keeps = |recipe: Recipe| SavedPhoto { recipe, ..SavedPhoto::default() }.into_kept().recipe.keep_background;
        assert_eq!((keeps(plain), keeps(edited)), (true, false));
    }

    #[test]
    fn the_photo_that_was_asked_for_last_is_shown() {
        let folder = tempfile::tempdir().unwrap();
        let [a, b] = ["a.png", "b.png"].map(|name| folder.path().join(name));
        let saved = |path: &PathBuf, present| SavedPhoto { path: Some(path.clone()), present, ..SavedPhoto::default() };
        std::fs::write(&b, "").unwrap();
        let mut restoring = Restoring { waiting: vec![saved(&a, true), saved(&b, false)], ..Restoring::default() };
        let present = |restoring: &Restoring| restoring.waiting.iter().map(|saved| saved.present).collect::<Vec<_>>();
        restoring.put_in_front(Path::new("/another.png"));
        assert_eq!(present(&restoring), [true, false]);
        restoring.put_in_front(&b);
        assert_eq!(present(&restoring), [false, true]);
    }

    #[test]
    fn the_pixels_of_closed_pictures_end_with_the_window() {
        let folder = tempfile::tempdir().unwrap();
        let files: Vec<PathBuf> = (0..CLOSED + 2).map(|i| folder.path().join(format!("{i}.png"))).collect();
        let there = || files.iter().map(|file| file.exists()).collect::<Vec<_>>();
        let mut restoring = Restoring::default();
        for file in &files {
            std::fs::write(file, "").unwrap();
            let stored = Some(Stored { file: file.clone(), name: "Pasted picture".into() });
            restoring.close(SavedPhoto { stored, ..SavedPhoto::default() });
        }
        assert!(there()[..2] == [false, false] && there()[2..].iter().all(|there| *there), "the oldest had no place");
        assert!(restoring.closed_files().is_empty(), "the next start does not know of them");
        restoring.reopened(|_| true, PhotoId(1));
        drop(restoring);
        assert_eq!(there().iter().filter(|there| **there).count(), 1, "the one that was opened again");
        assert!(files[CLOSED + 1].exists());
    }

    #[test]
    fn without_a_model_photos_wait() {
        let saved = |path: &str| SavedPhoto { path: Some(path.into()), ..SavedPhoto::default() };
        let mut restoring = Restoring { waiting: vec![saved("/a.png"), saved("/b.png")], ..Restoring::default() };
        assert_eq!(restoring.again().len(), 2);
        restoring.outstanding.extend([1, 2].map(PhotoId));
        restoring.put_off(PhotoId(1));
        assert!(restoring.again().is_empty(), "the engine still has one of them");
        restoring.put_off(PhotoId(3));
        assert!(restoring.again().is_empty(), "that was another photo");
        restoring.put_off(PhotoId(2));
        assert_eq!((restoring.waiting.len(), restoring.again().len()), (2, 2));
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
