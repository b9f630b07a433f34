//! The window's end: the engine's threads end with it, whatever they are writing.

use egui::{Event, ViewportCommand};

use super::StudioApp;
use crate::engine::Job;

impl StudioApp {
    /// Keeps the window from closing while something is being saved, and closes it after that. Asked a second time, it closes at once.
    pub(super) fn close_when_saved(&mut self, ctx: &egui::Context) {
        // What is pasted in this frame is taken after this.
        let pasted = ctx.input(|input| input.events.iter().any(|event| matches!(event, Event::PasteImage(_))));
        let saves = self.is_saving() || (pasted && self.session_folder().is_some());
        if ctx.input(|input| input.viewport().close_requested()) {
            if saves && !self.closing {
                self.closing = true;
                ctx.send_viewport_cmd(ViewportCommand::CancelClose);
                self.notices.tell("Closing when the picture is saved…");
            }
        } else if self.closing && !saves {
            ctx.send_viewport_cmd(ViewportCommand::Close);
        }
    }

    fn is_saving(&self) -> bool {
        let writes = [Job::Exporting, Job::WritingSequence].into_iter().any(|job| self.jobs.is_running(job));
        writes || self.interpolate.is_exporting() || self.storing > 0 || self.is_opening_what_is_kept()
    }

    /// A picture without a file is kept once it is open, if there is a folder for it.
    fn is_opening_what_is_kept(&self) -> bool {
        self.session_folder().is_some() && self.opening.values().any(|expected| expected.is_to_be_kept)
    }
}
