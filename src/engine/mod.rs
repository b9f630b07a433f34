//! The engine: one background thread that owns the device and the model. Requests go in, events come out.
//!
//! - **Newest wins.** A render request carries a generation number and the whole recipe. Only the newest waiting one is kept, and
//!   the worker looks for it between any two denoising steps. Where a picture of the same photo was decoded to its end before, the
//!   first step of any other edit is shown as a draft, and the decode goes on to its end unless a newer request comes: a drag shows a
//!   picture a step. Before that, previews of a few steps are finished first, or a drag faster than a preview would show nothing until
//!   the hand rests. Pictures never go back to an older generation.
//! - The worker does one denoising step of its most urgent job at a time (render, inversion of the present photo, export,
//!   interpolation, inspection, samples, inversion of other photos), so a drag stays live while a photo is still being inverted, and
//!   cancelling takes one step.
//! - Several photos may be open. One of them is the present one, which renders are of. Requests name their photo: what is on the screen when a
//!   person asks may no longer be the present photo when the engine hears of it.
//! - A job that ends without a result is told ([`Event::Cancelled`], [`Event::Failed`]), whoever ended it.
//! - A panic inside a job becomes [`Event::Failed`]; the thread and the photo live on. If the device was a GPU, it is given up for
//!   the CPU.

pub mod close_up;
pub mod edit;
pub mod exploration;
pub mod inspection;
pub mod interpolation;
pub mod latest;
pub mod sample;
pub mod view;
mod worker;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use image::RgbImage;
use serde::{Deserialize, Serialize};

use crate::checkpoint::Manifest;
use crate::device::DeviceChoice;
use crate::editing::{Crop, Recipe};
use crate::face::Face;
use crate::model::Cost;
use crate::photo::animation::Sequence;
use crate::photo::{ExportOptions, Frame, Photo};
use close_up::{CloseUp, Part};
use exploration::SampleRequest;
use inspection::{ChainPicture, GapPoint, InspectRequest};
use interpolation::InterpolationRequest;
use latest::Latest;
pub(crate) use worker::QUIET;

/// An open photo. Who opens it chooses one, and none a second time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PhotoId(pub u64);

/// What the window may ask for.
#[derive(Debug)]
pub enum Request {
    /// Use another bundle; the open photos are read again.
    LoadBundle(PathBuf),
    /// Make a new bundle of a folder of published checkpoints, and use it.
    Import { folder: PathBuf, output: PathBuf },
    /// Compute on something else; the model is loaded and the open photos are read again.
    UseDevice(DeviceChoice),
    /// Answered by [`Event::Devices`].
    ListDevices,
    /// Open a photo beside those that are open, and make it the present one. Answered by [`Event::PhotoOpened`] or [`Event::NotOpened`].
    Open(PhotoId, Opening),
    /// Keep the pixels of a photo that has no file of its own as a PNG, so that it can be reopened. Answered by [`Event::Stored`].
    Store { id: PhotoId, file: PathBuf },
    /// Make another open photo the present one. Answered by [`Event::PhotoOpened`].
    Select(PhotoId),
    /// Forget a photo.
    Close(PhotoId),
    /// Read a photo again, under another frame. Answered by [`Event::Reframed`].
    Reframe { photo: PhotoId, frame: Frame },
    /// Show this part of the present photo at its own resolution from now on, or none. Answered by [`Event::CloseUp`] unless the photo is
    /// no longer the present one or has no such part, and again before every picture; ended when another photo, frame or model takes its
    /// place.
    LookCloser { photo: PhotoId, part: Option<Part> },
    /// Make faces up, in place of any grid under way.
    Sample(SampleRequest),
    /// Look into the decode of a photo, in place of any inspection under way.
    Inspect(InspectRequest),
    /// Decode at full quality, put the change back into the photo and write it.
    Export(Box<ExportRequest>),
    /// Write pictures as a strip, an animation or a video, by the ending of `path`.
    ExportSequence { path: PathBuf, sequence: Sequence, overwrite: bool },
    /// Give up an inversion (of all photos, until they are worked on again), export, interpolation, grid or inspection in progress.
    Cancel(Job),
    #[cfg(test)]
    Panic,
}

/// Where a photo comes from.
#[derive(Debug)]
pub enum Opening {
    File(PathBuf),
    /// From the clipboard.
    Memory(Box<Photo>),
    /// As it was in an earlier session.
    Again(Reopening),
    /// A face of the last grid.
    Sample {
        generation: u64,
        index: usize,
    },
}

/// A photo of an earlier session.
#[derive(Debug)]
pub struct Reopening {
    pub origin: Origin,
    /// The frame that was used, if not the one that is found.
    pub frame: Option<Frame>,
}

/// Where an earlier session had a photo from.
#[derive(Debug)]
pub enum Origin {
    File(PathBuf),
    /// Pixels that were kept by [`Request::Store`], and the name that they were shown with.
    Stored {
        file: PathBuf,
        name: String,
    },
    Memory(Box<Photo>),
}

/// A photo as a file.
#[derive(Debug, Clone, PartialEq)]
pub struct ExportRequest {
    pub photo: PhotoId,
    pub path: PathBuf,
    pub recipe: Recipe,
    pub options: ExportOptions,
    pub crop: Crop,
    /// Whether what makes the same file again is written beside it.
    pub save_recipe: bool,
}

/// A picture of the present photo under a recipe.
#[derive(Debug, Clone, PartialEq)]
pub struct RenderRequest {
    /// Which one that was; there is no picture if it is no longer.
    pub photo: PhotoId,
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
    /// Finding out which kernels are fastest on a graphics card, which happens the first time that each is used.
    Tuning,
    OpeningPhoto,
    /// Inferring the stochastic latent.
    ReadingPhoto,
    Rendering,
    Exporting,
    /// Writing a strip, an animation or a video, beside all other work.
    WritingSequence,
    Interpolating,
    Sampling,
    Inspecting,
    /// Turning published checkpoints into a bundle.
    Importing,
}

/// What the engine tells.
#[derive(Debug, Clone)]
pub enum Event {
    /// A bundle is ready.
    ModelLoaded(Arc<ModelCard>),
    /// A photo is open and the present one, or was read again by another model: its name, size in pixels, the faces in it (best first), the frame that is used (around the best face; without
    /// any, the square in the middle), and what the model sees there at its own size (the "before" picture).
    PhotoOpened {
        id: PhotoId,
        name: String,
        /// The file it came from, if any.
        path: Option<PathBuf>,
        /// Where its pixels are kept, if it has no file of its own.
        stored: Option<PathBuf>,
        /// Of its file, as hexadecimal.
        sha256: Option<String>,
        width: u32,
        height: u32,
        faces: Arc<[Face]>,
        frame: Frame,
        /// Whether the model made it, so that nobody looked for a face.
        made_up: bool,
        original: Arc<RgbImage>,
    },
    /// A photo that was to be opened is not; what was told before says why.
    NotOpened(PhotoId),
    /// An open photo is seen through another frame. Its latents follow, as after opening.
    Reframed {
        id: PhotoId,
        frame: Frame,
        original: Arc<RgbImage>,
    },
    /// A stochastic latent is inferred. If it is the present photo's, pictures now rebuild it exactly, and the newest recipe is rendered
    /// again by itself.
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
    /// The part of a photo that is looked at closely: as an answer, and before every picture of the photo.
    CloseUp {
        photo: PhotoId,
        close_up: CloseUp,
    },
    /// A picture on the way between two photos, at `share` of it.
    Between {
        generation: u64,
        share: f64,
        quality: Quality,
        image: Arc<RgbImage>,
    },
    /// A made-up face.
    Sampled {
        generation: u64,
        index: usize,
        image: Arc<RgbImage>,
    },
    /// The stochastic latent of the photo that is inspected, as a picture.
    NoiseSeen {
        generation: u64,
        image: Arc<RgbImage>,
    },
    /// A step of the decode that is inspected.
    ChainSeen {
        generation: u64,
        picture: Arc<ChainPicture>,
    },
    GapMeasured {
        generation: u64,
        point: GapPoint,
    },
    /// What can be computed on, with the names that the system gives.
    Devices(Vec<(DeviceChoice, String)>),
    Exported {
        job: Job,
        path: PathBuf,
    },
    /// What [`Request::Store`] asked for is done, or cannot be done.
    Stored,
    /// A job without a result of its own is done.
    Finished {
        job: Job,
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
    renders: Latest<RenderRequest>,
    interpolations: Latest<InterpolationRequest>,
    events: Receiver<Event>,
}

/// The thread's end of the engine.
pub struct Ends {
    /// To be taken before the others: a render that was asked for after a photo is of that photo.
    pub requests: Receiver<Request>,
    pub renders: Receiver<RenderRequest>,
    pub interpolations: Receiver<InterpolationRequest>,
    pub events: Sender<Event>,
    /// To be called after every event.
    pub wake: Arc<dyn Fn() + Send + Sync>,
}

/// Requests that may wait; more than a person can click in the time of one step.
const WAITING: usize = 64;

impl Engine {
    /// Starts the thread and loads a bundle. `wake` is called after every event (to ask the window for a repaint).
    pub fn start(bundle: PathBuf, device: DeviceChoice, wake: impl Fn() + Send + Sync + 'static) -> std::io::Result<Self> {
        Self::start_with(wake, move |ends| worker::run(ends, bundle, device))
    }

    /// The same with another worker, which returns when `requests` is disconnected: for tests without a model.
    pub fn start_with(wake: impl Fn() + Send + Sync + 'static, worker: impl FnOnce(Ends) + Send + 'static) -> std::io::Result<Self> {
        let (requests, worker_requests) = bounded(WAITING);
        let (renders, worker_renders) = Latest::new();
        let (interpolations, worker_interpolations) = Latest::new();
        // Events are never dropped and never block the worker on a window that is busy: this one is unbounded on purpose, and
        // the worker's own pace bounds it.
        let (worker_events, events) = crossbeam_channel::unbounded();
        let ends = Ends {
            requests: worker_requests,
            renders: worker_renders,
            interpolations: worker_interpolations,
            events: worker_events,
            wake: Arc::new(wake),
        };
        std::thread::Builder::new().name("engine".into()).spawn(move || worker(ends))?;
        Ok(Self { requests, renders, interpolations, events })
    }

    /// Sends a request; `false` if the engine is too busy to take it (the queue is full) or gone.
    pub fn send(&self, request: Request) -> bool {
        self.requests.try_send(request).is_ok()
    }

    /// Asks for a picture in place of any that is still waiting. Never blocks.
    pub fn render(&self, request: RenderRequest) {
        self.renders.put(request);
    }

    /// Asks for pictures between two photos in place of any that were asked for before. Never blocks.
    pub fn interpolate(&self, request: InterpolationRequest) {
        self.interpolations.put(request);
    }

    /// Events, oldest first.
    pub fn events(&self) -> &Receiver<Event> {
        &self.events
    }
}
