//! What was open, so that a restart or a crash loses nothing.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::history_strip::Snapshot;
use super::shelf::Kept;
use super::{SAMPLE_NAME, StudioApp};
use crate::editing::Recipe;
use crate::engine::PhotoId;

/// A photo that was open, and what was done to it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SavedPhoto {
    /// `None`: the sample photo.
    path: Option<PathBuf>,
    recipe: Recipe,
    snapshots: Vec<Snapshot>,
    present: bool,
}

/// What is still to be opened again.
#[derive(Debug, Default)]
pub struct Restoring {
    waiting: Vec<SavedPhoto>,
    present: Option<PhotoId>,
}

impl Restoring {
    /// What was done to a photo that was just opened. Second, whether it was the last one.
    fn take(&mut self, id: PhotoId, name: &str, path: Option<&PathBuf>) -> Option<Kept> {
        let fits = |saved: &SavedPhoto| saved.path.as_ref() == path && (path.is_some() || name == SAMPLE_NAME);
        let SavedPhoto { recipe, snapshots, present, .. } = self.waiting.remove(self.waiting.iter().position(fits)?);
        if present {
            self.present = Some(id);
        }
        Some(Kept { recipe, snapshots, ..Kept::default() })
    }
}

impl StudioApp {
    /// What is open now. Pictures without a file (pasted ones, made-up faces) are left out.
    pub(super) fn session(&self) -> Vec<SavedPhoto> {
        let saved = self.shelf.iter().filter_map(|photo| {
            let present = self.shelf.present() == Some(photo.id);
            if photo.path.is_none() && photo.photo.name != SAMPLE_NAME {
                return None;
            }
            let (recipe, snapshots) = if present { (&self.recipe, &self.snapshots) } else { (&photo.kept.recipe, &photo.kept.snapshots) };
            Some(SavedPhoto { path: photo.path.clone(), recipe: recipe.clone(), snapshots: snapshots.clone(), present })
        });
        saved.collect()
    }

    /// Opens what was open; `false` if there is nothing left of it.
    pub(super) fn restore(&mut self, session: Vec<SavedPhoto>) -> bool {
        let (there, gone): (Vec<_>, Vec<_>) = session.into_iter().partition(|saved| saved.path.as_ref().is_none_or(|path| path.is_file()));
        if !gone.is_empty() {
            let names = gone.iter().filter_map(|saved| saved.path.as_ref()).map(|path| path.display().to_string()).collect::<Vec<_>>();
            self.notices.trouble("Some photos of the last time are no longer there", names.join("\n"));
        }
        for saved in &there {
            match &saved.path {
                Some(path) => self.open_path(path.clone()),
                None => self.open_sample(),
            }
        }
        self.restoring.waiting = there;
        !self.restoring.waiting.is_empty()
    }

    /// What was done to a photo the last time, if it is opened because of that.
    pub(super) fn restored(&mut self, id: PhotoId, name: &str, path: Option<&PathBuf>) -> Option<Kept> {
        let kept = self.restoring.take(id, name, path)?;
        if self.restoring.waiting.is_empty()
            && let Some(present) = self.restoring.present.take()
            && present != id
        {
            self.select(present);
        }
        Some(kept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_photo_gets_its_own_edit_back() {
        let saved = |path: Option<&str>, steps, present| SavedPhoto {
            path: path.map(PathBuf::from),
            recipe: Recipe { steps, ..Recipe::default() },
            snapshots: vec![],
            present,
        };
        let mut restoring = Restoring {
            waiting: vec![saved(Some("/a.png"), 1, true), saved(None, 2, false), saved(Some("/b.png"), 3, false)],
            present: None,
        };
        let mut steps = |id, name: &str, path: Option<&str>| {
            restoring.take(PhotoId(id), name, path.map(PathBuf::from).as_ref()).map(|kept| kept.recipe.steps)
        };
        assert_eq!(steps(1, "a", Some("/a.png")), Some(1));
        assert_eq!(steps(2, "Pasted picture", None), None);
        assert_eq!(steps(3, SAMPLE_NAME, None), Some(2));
        assert_eq!(steps(4, "a", Some("/a.png")), None, "it was there once");
        assert_eq!(restoring.present, Some(PhotoId(1)));
    }
}
