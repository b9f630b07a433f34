//! The engine: one background thread that owns the device and the model. Requests go in, events come out.
//!
//! - **Newest wins.** A render request carries a generation number and the whole recipe. Only the newest waiting one is kept, and
//!   the worker looks for it between any two denoising steps: a final decode is dropped for it at once. A preview, which is only a
//!   few steps, is finished first, or a drag faster than a preview would show nothing until the hand rests. Pictures never go back
//!   to an older generation.
//! - The worker does one denoising step of its most urgent job at a time (render, then inversion, then export), so a drag stays
//!   live while a photo is still being inverted, and cancelling takes one step.
//! - A panic inside a job becomes [`Event::Failed`]; the thread and the photo live on. If the device was a GPU, it is given up for
//!   the CPU.

pub mod edit;
pub mod sample;
pub mod view;
mod worker;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use image::RgbImage;

use crate::checkpoint::Manifest;
use crate::device::DeviceChoice;
use crate::editing::{Crop, Recipe};
use crate::face::Face;
use crate::model::Cost;
use crate::photo::{ExportOptions, Frame, Photo};

/// What the window may ask for.
#[derive(Debug)]
pub enum Request {
    /// Use another bundle; the open photo is encoded again.
    LoadBundle(PathBuf),
    /// Open a photo from a file.
    OpenPath(PathBuf),
    /// Open a photo that is already in memory (paste).
    OpenPhoto(Box<Photo>),
    /// Read the open photo again, under another frame. Answered by [`Event::Reframed`].
    Reframe(Frame),
    /// Decode at full quality, put the change back into the photo and write it.
    Export(Box<ExportRequest>),
    /// Give up the inversion and any export in progress.
    Cancel,
    #[cfg(test)]
    Panic,
}

/// The open photo as a file.
#[derive(Debug, Clone, PartialEq)]
pub struct ExportRequest {
    pub path: PathBuf,
    pub recipe: Recipe,
    pub options: ExportOptions,
    pub crop: Crop,
    /// Whether what makes the same file again is written beside it.
    pub save_recipe: bool,
}

/// A picture of the open photo under a recipe.
#[derive(Debug, Clone, PartialEq)]
pub struct RenderRequest {
    /// Rises with every request; events carry it back.
    pub generation: u64,
    pub recipe: Recipe,
    pub quality: Quality,
}

/// How much time a picture may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Quality {
    /// As many steps as fit about a tenth of a second, at least two: for dragging.
    Preview,
    /// The recipe's number of steps.
    Final,
}

/// The long jobs, for progress and errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Job {
    LoadingModel,
    OpeningPhoto,
    /// Inferring the stochastic latent.
    ReadingPhoto,
    Rendering,
    Exporting,
}

/// What the engine tells.
#[derive(Debug, Clone)]
pub enum Event {
    /// A bundle is ready.
    ModelLoaded(Arc<ModelCard>),
    /// A photo is open: its name, size in pixels, the faces in it (best first), the frame that is used (around the best face; without
    /// any, the square in the middle), and what the model sees there at its own size (the "before" picture).
    PhotoOpened {
        name: String,
        width: u32,
        height: u32,
        faces: Arc<[Face]>,
        frame: Frame,
        original: Arc<RgbImage>,
    },
    /// The open photo is seen through another frame. Its latents follow, as after opening.
    Reframed {
        frame: Frame,
        original: Arc<RgbImage>,
    },
    /// The stochastic latent is inferred: pictures now rebuild the photo exactly. The newest recipe is rendered again by itself.
    LatentsReady,
    Progress {
        job: Job,
        done: usize,
        total: usize,
    },
    /// The photo with an edit in it, at most the size of a screen. `step` is the time of one denoising step.
    Picture {
        generation: u64,
        quality: Quality,
        image: Arc<RgbImage>,
        step: Duration,
    },
    Exported {
        path: PathBuf,
    },
    Cancelled {
        job: Job,
    },
    /// A job failed; everything else goes on. `message` is for the person, `details` for a report.
    Failed {
        job: Job,
        message: String,
        details: String,
    },
}

/// What the window shows of a bundle.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelCard {
    pub folder: PathBuf,
    pub manifest: Manifest,
    pub cost: Cost,
    /// The device's name as the system gives it.
    pub device: String,
}

/// The window's end of the engine. Dropping it ends the thread after the step in progress.
pub struct Engine {
    requests: Sender<Request>,
    renders: Sender<RenderRequest>,
    // A clone of the worker's end: taking a waiting request back is how a newer one supersedes it.
    waiting_renders: Receiver<RenderRequest>,
    events: Receiver<Event>,
}

/// Requests that may wait; more than a person can click in the time of one step.
const WAITING: usize = 64;

impl Engine {
    /// Starts the thread and loads a bundle. `wake` is called after every event (to ask the window for a repaint).
    pub fn start(bundle: PathBuf, device: DeviceChoice, wake: impl Fn() + Send + 'static) -> std::io::Result<Self> {
        let (requests, worker_requests) = bounded(WAITING);
        let (renders, waiting_renders) = bounded(1);
        // Events are never dropped and never block the worker on a window that is busy: this one is unbounded on purpose, and
        // the worker's own pace bounds it.
        let (worker_events, events) = crossbeam_channel::unbounded();
        let worker_renders = waiting_renders.clone();
        std::thread::Builder::new()
            .name("engine".into())
            .spawn(move || worker::run(worker_requests, worker_renders, worker_events, Box::new(wake), bundle, device))?;
        Ok(Self { requests, renders, waiting_renders, events })
    }

    /// Sends a request; `false` if the engine is too busy to take it (the queue is full) or gone.
    pub fn send(&self, request: Request) -> bool {
        self.requests.try_send(request).is_ok()
    }

    /// Asks for a picture in place of any that is still waiting. Never blocks.
    pub fn render(&self, request: RenderRequest) {
        let mut request = request;
        loop {
            match self.renders.try_send(request) {
                Ok(()) | Err(TrySendError::Disconnected(_)) => return,
                Err(TrySendError::Full(back)) => {
                    request = back;
                    let _ = self.waiting_renders.try_recv();
                }
            }
        }
    }

    /// Events, oldest first.
    pub fn events(&self) -> &Receiver<Event> {
        &self.events
    }
}
