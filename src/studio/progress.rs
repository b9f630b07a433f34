//! The strip under the picture: whether it is a preview or final, and how far a long job is.

use egui::{Align, Layout, ProgressBar, Role, Sense, Ui, WidgetInfo, vec2};

use super::tokens::{Palette, size, space};
use crate::engine::{Job, Quality};

/// A job under way; `total` = 0 while nothing is known about its length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Running {
    job: Job,
    done: usize,
    total: usize,
}

/// The jobs under way.
#[derive(Debug, Default)]
pub struct Jobs {
    running: Vec<Running>,
}

impl Jobs {
    pub fn started(&mut self, job: Job) {
        self.progress(job, 0, 0);
    }

    pub fn progress(&mut self, job: Job, done: usize, total: usize) {
        self.ended(job);
        self.running.push(Running { job, done, total });
    }

    pub fn ended(&mut self, job: Job) {
        self.running.retain(|running| running.job != job);
    }

    pub fn is_running(&self, job: Job) -> bool {
        self.running.iter().any(|running| running.job == job)
    }

    /// The job that the person waits for the most. Rendering is not one of them: the sign tells of it.
    fn foremost(&self) -> Option<Running> {
        let order = [
            Job::Exporting,
            Job::WritingSequence,
            Job::Importing,
            Job::LoadingModel,
            Job::Tuning,
            Job::OpeningPhoto,
            Job::ReadingPhoto,
            Job::Interpolating,
            Job::Sampling,
            Job::Inspecting,
        ];
        order.into_iter().find_map(|job| self.running.iter().find(|running| running.job == job).copied())
    }

    /// Draws the strip, with a hint while nothing is under way; returns what the person wants to cancel.
    pub fn show(&self, ui: &mut Ui, quality: Option<Quality>, hint: Option<&str>) -> Option<Job> {
        let mut cancel = None;
        ui.horizontal_centered(|ui| {
            if let Some(quality) = quality {
                show_sign(ui, quality);
            }
            let Some(Running { job, done, total }) = self.foremost() else {
                if let Some(hint) = hint {
                    ui.add_space(space::M);
                    ui.weak(hint);
                }
                return;
            };
            ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
                if !matches!(job, Job::LoadingModel | Job::Tuning | Job::OpeningPhoto | Job::WritingSequence | Job::Importing)
                    && ui.button("Cancel").on_hover_text("Stop this; the picture stays").clicked()
                {
                    cancel = Some(job);
                }
                if total > 0 {
                    let bar = ProgressBar::new(done as f32 / total as f32).desired_width(size::PROGRESS.min(ui.available_width() * 0.5));
                    let bar = ui.add(bar.desired_height(6.0).fill(Palette::of(ui.visuals()).accent));
                    bar.widget_info(|| WidgetInfo::labeled(Role::ProgressIndicator, true, name(job)));
                }
                ui.weak(name(job)).on_hover_text(reason(job));
            });
        });
        cancel
    }
}

fn show_sign(ui: &mut Ui, quality: Quality) {
    let palette = Palette::of(ui.visuals());
    let (colour, text, tooltip) = match quality {
        Quality::Preview => (palette.draft, "Preview", "A quick look. The finished picture follows when you let go"),
        Quality::Final => (palette.good, "Final", "The finished picture"),
    };
    let (dot, _) = ui.allocate_exact_size(vec2(space::S, space::S), Sense::hover());
    ui.painter().circle_filled(dot.center(), 4.0, colour);
    ui.weak(text).on_hover_text(tooltip);
}

fn name(job: Job) -> &'static str {
    match job {
        Job::LoadingModel => "Loading the model…",
        Job::Tuning => "Getting the graphics card ready…",
        Job::OpeningPhoto => "Opening the photo…",
        Job::ReadingPhoto => "Reading the photo…",
        Job::Rendering => "Working…",
        Job::Exporting | Job::WritingSequence => "Saving…",
        Job::Interpolating => "Making pictures…",
        Job::Sampling => "Making faces up…",
        Job::Inspecting => "Looking into it…",
        Job::Importing => "Importing the model…",
    }
}

fn reason(job: Job) -> &'static str {
    match job {
        Job::LoadingModel => "The model is read from disk",
        Job::Tuning => "The first time, the fastest way to compute on this card is looked for; later starts remember it",
        Job::OpeningPhoto => "The photo is read from disk",
        Job::ReadingPhoto => "Until this is done, small details differ from the photo. You can edit meanwhile",
        Job::Rendering => "The picture is being made",
        Job::Exporting => "The edit is put back into the whole photo",
        Job::WritingSequence => "The pictures are written to a file",
        Job::Interpolating => "The pictures of the film strip are made, one after the other",
        Job::Sampling => "Faces are made, one after the other",
        Job::Inspecting => "The steps from noise to picture are collected",
        Job::Importing => "The published files are read and written as a model of PDAE Studio",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_foremost_job_is_the_one_that_was_asked_for_last() {
        let mut jobs = Jobs::default();
        jobs.progress(Job::ReadingPhoto, 3, 20);
        jobs.started(Job::Exporting);
        assert_eq!(jobs.foremost().map(|r| r.job), Some(Job::Exporting));
        jobs.ended(Job::Exporting);
        assert_eq!(jobs.foremost(), Some(Running { job: Job::ReadingPhoto, done: 3, total: 20 }));
        jobs.ended(Job::ReadingPhoto);
        jobs.started(Job::Rendering);
        assert_eq!(jobs.foremost(), None);
    }
}
