//! What the window does with what the engine tells.

use super::StudioApp;
use super::picture::Shown;
use super::status::OpenPhoto;
use crate::engine::{Event, Job, Quality};

impl StudioApp {
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
                self.model = Some(card);
                self.step = None;
            }
            Event::PhotoOpened { name, width, height, original, faces, frame } => {
                self.jobs.ended(Job::OpeningPhoto);
                self.framing.open([width, height], faces, frame);
                self.photo = Some(OpenPhoto { name, width, height });
                self.recipe = self.untouched.clone();
                self.history.clear();
                self.held = None;
                self.render(Quality::Final);
                self.picture.open(ctx, &original, self.generation);
            }
            // The photo stays the same, and so does where the person looks at it.
            Event::Reframed { frame, original: _ } => {
                self.jobs.ended(Job::OpeningPhoto);
                self.framing.reframed(frame);
                self.render(Quality::Final);
                self.picture.forget_edits(self.generation);
            }
            Event::LatentsReady => self.jobs.ended(Job::ReadingPhoto),
            Event::Progress { job, done, total } => self.jobs.progress(job, done, total),
            Event::Picture { generation, quality, image, step } => {
                self.step = Some(step);
                if quality == Quality::Final {
                    self.jobs.ended(Job::Rendering);
                }
                self.picture.offer(ctx, Shown { generation, quality }, image);
            }
            Event::Exported { path } => {
                self.jobs.ended(Job::Exporting);
                self.notices.tell(format!("Saved {}", path.display()));
            }
            Event::Cancelled { job } => self.jobs.ended(job),
            Event::Failed { job, message, details } => {
                self.jobs.ended(job);
                self.notices.trouble(message, details);
            }
        }
    }
}
