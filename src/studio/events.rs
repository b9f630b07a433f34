//! What the window does with what the engine tells.

use super::history_strip::Looks;
use super::picture::Shown;
use super::shelf::{self, Kept, Shelved};
use super::status::OpenPhoto;
use super::{SAMPLE_NAME, StudioApp, Workspace};
use crate::engine::{Event, Job, Quality};

impl StudioApp {
    /// Takes what was done to the present photo out of the window's state.
    pub(super) fn take_kept(&mut self) -> Kept {
        Kept {
            recipe: std::mem::take(&mut self.recipe),
            history: std::mem::take(&mut self.history),
            snapshots: std::mem::take(&mut self.snapshots),
            looks: std::mem::take(&mut self.looks),
        }
    }

    pub(super) fn set_kept(&mut self, kept: Kept) {
        let Kept { recipe, history, snapshots, looks } = kept;
        (self.recipe, self.history, self.snapshots, self.looks) = (recipe, history, snapshots, looks);
    }

    fn keep_look(&mut self, ctx: &egui::Context, picture: &image::RgbImage) {
        let shelved = self.shelf.present().and_then(|id| self.shelf.get(id));
        if let Some((frame, width)) = shelved.map(|photo| (photo.frame, photo.photo.width)) {
            self.looks.keep(ctx, &self.recipe, picture, width, frame);
        }
    }

    pub(super) fn take_events(&mut self, ctx: &egui::Context) {
        let Some(engine) = &self.engine else { return };
        for event in engine.events().clone().try_iter() {
            self.take_event(ctx, event);
        }
    }

    pub(super) fn take_event(&mut self, ctx: &egui::Context, event: Event) {
        match event {
            Event::ModelLoaded(card) => {
                self.jobs.ended(Job::LoadingModel);
                // Of the device before; it ends unfinished when another takes its place.
                self.jobs.ended(Job::Tuning);
                self.model = Some(card);
                self.interpolate.forget();
                self.explore.forget();
                self.inspector.forget();
                self.looks = Looks::default();
                self.step = None;
                self.restore_waiting();
            }
            // The engine did not know yet that it was closed, and has made it the present one.
            Event::PhotoOpened { id, .. } if self.shelf.was_closed(id) => {
                match self.shelf.present() {
                    Some(present) => self.go_back_to(present),
                    None if self.shelf.is_empty() => self.jobs.ended(Job::OpeningPhoto),
                    // The one beside it was asked for.
                    None => {}
                }
            }
            Event::PhotoOpened { id, name, path, stored, sha256, width, height, original, faces, frame, made_up } => {
                self.jobs.ended(Job::OpeningPhoto);
                self.opening.remove(&id);
                if self.shelf.present() != Some(id) {
                    self.let_go(ctx);
                }
                self.framing.open([width, height], faces, frame, made_up);
                let photo = OpenPhoto { name, width, height };
                let thumbnail = shelf::thumbnail(ctx, &original, width, frame);
                let present = self.take_kept();
                self.shelf.keep(present);
                let before = self.restoring.take(id, &photo.name, path.as_ref(), stored.as_ref(), sha256.as_ref());
                if let Some((_, true)) = before {
                    self.notices.trouble(format!("{} has changed on disk. Undo brings its edit back", photo.name), "");
                }
                let lost_at_the_end = path.is_none() && stored.is_none() && photo.name != SAMPLE_NAME;
                let shelved = Shelved {
                    id,
                    photo: photo.clone(),
                    path,
                    stored,
                    sha256,
                    frame,
                    frame_is_set: self.framing.is_set(),
                    thumbnail,
                    kept: Kept::default(),
                };
                let kept = self.shelf.place(shelved).or(before.map(|(kept, _)| kept));
                if kept.is_none() && self.workspace == Workspace::Interpolate {
                    self.interpolate.opened(id);
                }
                if lost_at_the_end && let Some(file) = self.store(id, width, height) {
                    self.shelf.set_stored(id, file);
                }
                let kept = kept.unwrap_or_else(|| Kept { recipe: self.untouched.clone(), ..Kept::default() });
                self.photo = Some(photo);
                self.set_kept(kept);
                self.inspector.forget();
                self.render(Quality::Final);
                self.picture.open(ctx, original, [width, height], self.generation);
                self.go_on_restoring(id);
            }
            Event::NotOpened(id) => {
                if self.opening.remove(&id).is_some_and(|expected| expected.is_to_be_kept) {
                    // The window stays, to tell of it.
                    self.closing = false;
                }
                self.restoring_failed(id);
            }
            Event::Reframed { id, frame, original } => {
                self.jobs.ended(Job::OpeningPhoto);
                // What was made of what the other frame showed.
                self.interpolate.forget();
                let is_present = self.shelf.present() == Some(id);
                if is_present {
                    self.framing.reframed(frame);
                }
                // The faces of another photo are not at hand; its frame was chosen, or it would not change.
                let is_set = !is_present || self.framing.is_set();
                let width = self.shelf.get(id).map_or(1, |shelved| shelved.photo.width);
                self.shelf.reframe(id, frame, is_set, shelf::thumbnail(ctx, &original, width, frame));
                // The photo stays the same, and so does where the person looks at it.
                if is_present {
                    self.looks = Looks::default();
                    self.inspector.forget();
                    self.render(Quality::Final);
                    self.picture.forget_edits(self.generation);
                }
            }
            Event::LatentsReady => self.jobs.ended(Job::ReadingPhoto),
            Event::Progress { job, done, total } => self.jobs.progress(job, done, total),
            Event::Picture { generation, quality, image, step } => {
                self.step = Some(step);
                if quality == Quality::Final {
                    self.jobs.ended(Job::Rendering);
                }
                let is_present = generation == self.generation && quality == Quality::Final;
                if self.picture.offer(ctx, Shown { generation, quality }, image.clone()) && is_present {
                    self.keep_look(ctx, &image);
                }
            }
            Event::CloseUp { photo, close_up } => {
                if self.shelf.present() == Some(photo) {
                    self.picture.take_close_up(ctx, close_up);
                }
            }
            Event::Between { generation, share, quality, image } => self.interpolate.take_picture(ctx, generation, share, quality, image),
            Event::Sampled { generation, index, image } => self.explore.take_face(ctx, generation, index, &image),
            Event::NoiseSeen { generation, image } => self.inspector.take_noise(ctx, generation, &image),
            Event::ChainSeen { generation, picture } => self.inspector.take_step(ctx, generation, &picture),
            Event::GapMeasured { generation, point } => self.inspector.take_gap(generation, point),
            Event::Devices(devices) => self.devices = devices,
            Event::Stored => self.storing = self.storing.saturating_sub(1),
            Event::Finished { job } => self.jobs.ended(job),
            Event::Exported { job, path } => {
                self.jobs.ended(job);
                self.notices.tell(format!("Saved {}", path.display()));
            }
            Event::Cancelled { job } => {
                self.jobs.ended(job);
                match job {
                    Job::Interpolating => self.interpolate.give_up_export(),
                    Job::Inspecting => self.inspector.break_off(),
                    // By whom it is not known: the model may have changed under it.
                    Job::Exporting => {
                        self.closing = false;
                        self.notices.tell("The photo was not saved");
                    }
                    _ => {}
                }
            }
            Event::Failed { job, message, details } => {
                self.jobs.ended(job);
                match job {
                    Job::Interpolating => self.interpolate.give_up_export(),
                    Job::Inspecting => self.inspector.break_off(),
                    // The window stays, to tell of it.
                    Job::Exporting | Job::WritingSequence => self.closing = false,
                    _ => {}
                }
                self.notices.trouble(message, details);
            }
        }
    }
}
