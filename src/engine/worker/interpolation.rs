//! Pictures between two photos, the most wanted first.

use std::collections::VecDeque;
use std::sync::Arc;

use super::Worker;
use crate::engine::edit::{Decode, EditError};
use crate::engine::interpolation::{Detail, End, InterpolationRequest, Way, compose};
use crate::engine::view::Settings;
use crate::engine::{Event, Job, PhotoId, Quality};
use crate::photo::from_model;

/// The pictures that were asked for last.
#[derive(Default)]
pub(super) struct Interpolation {
    wanted: Option<Wanted>,
    active: Option<Active>,
}

struct Wanted {
    generation: u64,
    way: Way,
    left: VecDeque<(f64, Quality)>,
    total: usize,
}

/// A decode under way.
#[expect(clippy::large_enum_variant, reason = "there is one at a time")]
enum Active {
    /// How a photo decodes without an edit, which its detail is measured from.
    Base {
        photo: PhotoId,
        settings: Settings,
        decode: Decode,
    },
    Picture {
        generation: u64,
        way: Way,
        share: f64,
        quality: Quality,
        settings: Settings,
        decode: Decode,
    },
}

impl Interpolation {
    pub fn has_work(&self) -> bool {
        self.active.is_some() || self.wanted.is_some()
    }

    /// Whether it works on this photo.
    pub fn is_of(&self, id: PhotoId) -> bool {
        let leads_there = |way: &Way| way.ends.iter().any(|end| end.photo == id);
        let active = self.active.as_ref().is_some_and(|active| match active {
            Active::Base { photo, .. } => *photo == id,
            Active::Picture { way, .. } => leads_there(way),
        });
        active || self.wanted.as_ref().is_some_and(|wanted| leads_there(&wanted.way))
    }

    /// As with renders, a preview under way is finished and a final picture gives way, unless it is wanted still.
    fn take(&mut self, request: InterpolationRequest) {
        let InterpolationRequest { generation, way, pictures } = request;
        let mut left: VecDeque<_> = pictures.into();
        let total = left.len();
        let keep = match &self.active {
            // The view was left.
            _ if left.is_empty() => false,
            Some(Active::Base { .. }) => true,
            Some(Active::Picture { quality: Quality::Preview, .. }) => true,
            Some(Active::Picture { way: other, share, quality, .. }) if *other == way && left.front() == Some(&(*share, *quality)) => {
                left.pop_front();
                true
            }
            _ => false,
        };
        if !keep {
            self.active = None;
        }
        self.wanted = (!left.is_empty()).then_some(Wanted { generation, way, left, total });
    }
}

impl Worker {
    /// Takes a newer request. Where it wants nothing more, what was under way is told to have ended: the window may have taken the progress
    /// that was told before for a job that goes on.
    pub(super) fn take_interpolation(&mut self, request: InterpolationRequest) {
        let had_work = self.interpolation.has_work();
        self.interpolation.take(request);
        if had_work && !self.interpolation.has_work() {
            self.tell(Event::Finished { job: Job::Interpolating });
        }
    }

    /// One denoising step of what is needed next: the ends' stochastic latents, how they decode unedited, the pictures.
    pub(super) fn step_interpolation(&mut self) -> Result<(), EditError> {
        if self.interpolation.active.is_none() {
            let Some(wanted) = &self.interpolation.wanted else { return Ok(()) };
            let indices = wanted.way.ends.each_ref().map(|End { photo, .. }| self.index(*photo));
            let [Some(a), Some(b)] = indices else {
                self.abandon(Job::Interpolating);
                return Ok(());
            };
            if let Some(i) = [a, b].into_iter().find(|i| !self.photos[*i].latents.inferred) {
                return self.step_needed_inversion(i);
            }
            self.start_picture([a, b]);
        }
        let (Some(editor), Some(active)) = (&self.editor, &mut self.interpolation.active) else {
            self.abandon(Job::Interpolating);
            return Ok(());
        };
        let (Active::Base { decode, .. } | Active::Picture { decode, .. }) = active;
        if !editor.step(decode) {
            self.finish_active()?;
        }
        Ok(())
    }

    fn start_picture(&mut self, indices: [usize; 2]) {
        let (Some(editor), Some(wanted)) = (&self.editor, &self.interpolation.wanted) else { return };
        let Some((share, quality)) = wanted.left.front().copied() else {
            self.interpolation.wanted = None;
            return;
        };
        let way = wanted.way.clone();
        let steps = match quality {
            Quality::Final => way.steps,
            Quality::Preview => self.preview_steps().min(way.steps),
        };
        let recipe = &way.ends[0].recipe;
        let settings = Settings::new(recipe, steps, true);
        let photos = indices.map(|i| &self.photos[i]);
        let weights = way.detail_weights(share);
        let missing = photos.iter().zip(weights).find(|(open, weight)| way.keep_detail && *weight > 0.0 && !open.view.has_base(settings));
        if let Some((open, _)) = missing {
            let decode = editor.decode_unedited(&open.latents, recipe, steps);
            self.interpolation.active = Some(Active::Base { photo: open.id, settings, decode });
            return;
        }
        let ends = [(&photos[0].latents, &way.ends[0].recipe), (&photos[1].latents, &way.ends[1].recipe)];
        let decode = editor.decode_between(ends, share, way.path, steps);
        let generation = wanted.generation;
        self.interpolation.active = Some(Active::Picture { generation, way, share, quality, settings, decode });
        if let Some(wanted) = &mut self.interpolation.wanted {
            wanted.left.pop_front();
        }
    }

    fn finish_active(&mut self) -> Result<(), EditError> {
        let (Some(editor), Some(active)) = (&self.editor, self.interpolation.active.take()) else { return Ok(()) };
        match active {
            Active::Base { photo, settings, decode } => {
                let base = editor.pictures(decode)?.into_iter().next();
                if let (Some(i), Some(base)) = (self.index(photo), base) {
                    self.photos[i].view.set_base(settings, base);
                }
            }
            Active::Picture { generation, way, share, quality, settings, decode } => {
                let size = editor.size();
                let Some(decoded) = editor.pictures(decode)?.into_iter().next() else { return Ok(()) };
                let image = if way.keep_detail {
                    let weights = way.detail_weights(share);
                    let views =
                        way.ends.iter().zip(weights).filter_map(|(end, weight)| Some((&self.photos[self.index(end.photo)?].view, weight)));
                    let details: Vec<Detail<'_>> = views
                        .filter(|(_, weight)| *weight > 0.0)
                        .filter_map(|(view, weight)| Some(Detail { weight, photo: view.cut(), rebuilt: view.base(settings)? }))
                        .collect();
                    compose(&decoded, size, &details)
                } else {
                    from_model(&decoded, size)
                };
                self.tell(Event::Between { generation, share, quality, image: Arc::new(image) });
                self.tell_interpolation_progress();
            }
        }
        Ok(())
    }

    fn tell_interpolation_progress(&mut self) {
        let Some(Wanted { left, total, .. }) = &self.interpolation.wanted else {
            return self.tell(Event::Finished { job: Job::Interpolating });
        };
        let (done, total) = (total - left.len(), *total);
        if left.is_empty() {
            self.interpolation.wanted = None;
            self.tell(Event::Finished { job: Job::Interpolating });
        } else {
            self.tell(Event::Progress { job: Job::Interpolating, done, total });
        }
    }
}
