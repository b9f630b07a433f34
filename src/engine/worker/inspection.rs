//! A look into the decode of a photo: the chain step by step, then the gap timestep by timestep.

use std::collections::VecDeque;
use std::sync::Arc;

use super::Worker;
use crate::engine::edit::{Decode, EditError};
use crate::engine::inspection::InspectRequest;
use crate::engine::{Event, Job, PhotoId};

pub(super) struct Inspection {
    request: InspectRequest,
    /// `None` before the photo's stochastic latent is known.
    look: Option<Look>,
}

struct Look {
    decode: Decode,
    timesteps: VecDeque<usize>,
    total: usize,
    done: usize,
}

impl Inspection {
    pub fn new(request: InspectRequest) -> Self {
        Self { request, look: None }
    }

    pub fn is_of(&self, id: PhotoId) -> bool {
        self.request.photo == id
    }
}

impl Worker {
    pub(super) fn step_inspection(&mut self) -> Result<(), EditError> {
        let (Some(editor), Some(inspection)) = (&self.editor, &mut self.inspection) else { return Err(EditError::NoModel) };
        let InspectRequest { generation, photo, recipe, gap_points } = &inspection.request;
        let (generation, Some(i)) = (*generation, self.photos.iter().position(|open| open.id == *photo)) else {
            self.abandon(Job::Inspecting);
            return Ok(());
        };
        let latents = &self.photos[i].latents;
        let Some(look) = &mut inspection.look else {
            // The chain begins at the photo's own noise.
            if !latents.inferred {
                return self.step_needed_inversion(i);
            }
            let decode = editor.decode(latents, recipe, recipe.steps);
            let image = Arc::new(editor.noise_picture(&decode.chain.x)?);
            let timesteps: VecDeque<usize> = editor.gap_timesteps(*gap_points).into();
            let total = decode.chain.steps() + timesteps.len();
            inspection.look = Some(Look { decode, timesteps, total, done: 0 });
            self.tell(Event::NoiseSeen { generation, image });
            return Ok(());
        };
        let event = if let Some(picture) = editor.step_seen(&mut look.decode)? {
            Event::ChainSeen { generation, picture: Arc::new(picture) }
        } else if let Some(timestep) = look.timesteps.pop_front() {
            Event::GapMeasured { generation, point: editor.posterior_gap(latents, timestep)? }
        } else {
            self.inspection = None;
            self.tell(Event::Finished { job: Job::Inspecting });
            return Ok(());
        };
        look.done += 1;
        let (done, total) = (look.done, look.total);
        self.tell(event);
        self.tell(Event::Progress { job: Job::Inspecting, done, total });
        Ok(())
    }
}
