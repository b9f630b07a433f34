//! A look into the decode of the present photo: the chain step by step, then the gap timestep by timestep.

use std::collections::VecDeque;
use std::sync::Arc;

use super::Worker;
use crate::engine::edit::{Decode, EditError};
use crate::engine::inspection::InspectRequest;
use crate::engine::{Event, Job};

pub(super) struct Inspection {
    generation: u64,
    decode: Decode,
    timesteps: VecDeque<usize>,
    total: usize,
    done: usize,
}

impl Worker {
    pub(super) fn start_inspection(&mut self, request: InspectRequest) -> Result<(), EditError> {
        let InspectRequest { generation, recipe, gap_points } = request;
        let (Some(editor), Some(open)) = (&self.editor, self.present()) else { return Ok(()) };
        let decode = editor.decode(&open.latents, &recipe, recipe.steps);
        let image = Arc::new(editor.noise_picture(&decode.chain.x)?);
        let timesteps: VecDeque<usize> = editor.gap_timesteps(gap_points).into();
        let total = decode.chain.steps() + timesteps.len();
        self.inspection = Some(Inspection { generation, decode, timesteps, total, done: 0 });
        self.tell(Event::NoiseSeen { generation, image });
        Ok(())
    }

    pub(super) fn step_inspection(&mut self) -> Result<(), EditError> {
        let open = self.photos.iter().find(|photo| Some(photo.id) == self.present);
        let (Some(editor), Some(open), Some(inspection)) = (&self.editor, open, &mut self.inspection) else {
            self.inspection = None;
            return Ok(());
        };
        let generation = inspection.generation;
        let event = if let Some(picture) = editor.step_seen(&mut inspection.decode)? {
            Event::ChainSeen { generation, picture: Arc::new(picture) }
        } else if let Some(timestep) = inspection.timesteps.pop_front() {
            Event::GapMeasured { generation, point: editor.posterior_gap(&open.latents, timestep)? }
        } else {
            self.inspection = None;
            self.tell(Event::Finished { job: Job::Inspecting });
            return Ok(());
        };
        inspection.done += 1;
        let (done, total) = (inspection.done, inspection.total);
        self.tell(event);
        self.tell(Event::Progress { job: Job::Inspecting, done, total });
        Ok(())
    }
}
