//! The thread behind [`super::Engine`]. Jobs other than opening, rendering and exporting have a file each.

mod exploration;
mod inspection;
mod interpolation;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Select, Sender, TryRecvError};
use image::RgbImage;

use super::close_up::Part;
use super::edit::{Decode, EditError, Editor, Latents};
use super::view::{Settings, View};
use super::{Ends, Event, ExportRequest, Job, Opening, Origin, PhotoId, Quality, RenderRequest, Reopening, Request};
use crate::checkpoint::import::{ImportOptions, import};
use crate::device::{self, DeviceChoice};
use crate::diffusion::{Chain, Inversion};
use crate::editing::sidecar::{self, SourceEntry};
use crate::editing::{Recipe, Sidecar};
use crate::face::Face;
use crate::memory;
use crate::panics;
use crate::photo::animation::Sequence;
use crate::photo::{self, ExportOptions, Frame, Photo, Upsampling};
use exploration::Sampling;
use inspection::Inspection;
use interpolation::Interpolation;

/// What a preview may take.
const PREVIEW_BUDGET: Duration = Duration::from_millis(100);
/// How long a drag's decode waits for the hand's next move after its draft: a little longer than a screen's frame. Otherwise every move
/// would have to wait for a step that is thrown away for it.
const REST: Duration = Duration::from_millis(20);
/// How long nothing is asked for before memory is given back.
pub(crate) const QUIET: Duration = Duration::from_secs(1);
const PREVIEW_STEPS: std::ops::RangeInclusive<usize> = 1..=10;
/// Passes that make a card ready.
const TUNING: usize = 2 * Editor::REHEARSALS;

pub(super) fn run(Ends { requests, renders, interpolations, events, wake }: Ends, bundle: PathBuf, device: DeviceChoice) {
    let mut worker = Worker::new(events, wake, device);
    worker.guarded(Job::LoadingModel, |w| w.load(bundle, device));
    let mut select = Select::new();
    select.recv(&requests);
    select.recv(&renders);
    select.recv(&interpolations);
    loop {
        if !worker.has_work() {
            if select.ready_timeout(QUIET).is_err() {
                // What was opened, computed and drawn passed through much memory, which glibc keeps until it is told not to.
                memory::give_back();
                select.ready();
            }
        } else if let Some(rest) = worker.rest.take() {
            let _ = select.ready_timeout(rest);
        }
        // Requests first: a render that was asked for after a photo must not be taken before it.
        loop {
            match requests.try_recv() {
                Ok(request) => worker.handle(request),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => return,
            }
        }
        if let Some((photo, part)) = worker.closer.take() {
            worker.guarded(Job::Rendering, |w| {
                w.look_closer(photo, part);
                Ok(())
            });
        }
        if let Ok(render) = renders.try_recv() {
            worker.take_render(render);
        }
        if let Ok(interpolation) = interpolations.try_recv() {
            worker.take_interpolation(interpolation);
        }
        worker.step();
    }
}

struct Worker {
    events: Sender<Event>,
    wake: Arc<dyn Fn() + Send + Sync>,
    device: DeviceChoice,
    editor: Option<Editor>,
    /// In the order of their opening.
    photos: Vec<OpenPhoto>,
    /// The one on the screen: renders are of it, and it is read before all others.
    present: Option<PhotoId>,
    active: Option<Render>,
    /// Waits for a preview in progress.
    next: Option<RenderRequest>,
    /// Rendered again when the stochastic latent has been inferred.
    last: Option<RenderRequest>,
    interpolation: Interpolation,
    sampling: Sampling,
    inspection: Option<Inspection>,
    export: Option<Export>,
    /// What is to be looked at closely from now on: the newest wish, which waits until no other request does.
    closer: Option<(PhotoId, Option<Part>)>,
    /// One denoising step, as measured over the last decode.
    step_time: Option<Duration>,
    /// How long to wait for a request before work goes on.
    rest: Option<Duration>,
    /// After a model came to a graphics card: the next pass of [`Editor::rehearse`], and after these of [`Editor::look`].
    tuning: Option<usize>,
}

struct OpenPhoto {
    id: PhotoId,
    /// An export may still need it after it was closed.
    photo: Arc<Photo>,
    /// Where its pixels are kept, if it has no file of its own.
    stored: Option<PathBuf>,
    faces: Arc<[Face]>,
    frame: Frame,
    view: View,
    latents: Latents,
    /// How the stochastic latent is inferred, or was; `None`: it came along with a made-up face.
    inversion_method: Option<Inversion>,
    /// On the way to the stochastic latent.
    inversion: Option<Chain<4>>,
}

impl OpenPhoto {
    /// What a render comes to: a final picture needs the photo's own stochastic latent.
    fn reachable(&self, quality: Quality) -> Quality {
        if self.latents.inferred { quality } else { Quality::Preview }
    }

    /// Whether its stochastic latent is inferred in this way, or need not be.
    fn is_read_by(&self, inversion: Inversion) -> bool {
        self.inversion_method.is_none_or(|method| method == inversion)
    }
}

/// What is known of a photo once it was read.
struct Reading {
    faces: Arc<[Face]>,
    frame: Frame,
    latents: Latents,
    inversion: Option<Chain<4>>,
}

struct Render {
    request: RenderRequest,
    /// What is really rendered: a final picture from noise would be thrown away when the inversion ends.
    quality: Quality,
    settings: Settings,
    decode: Decode,
    /// What it predicted after the first step.
    first: Option<Vec<f32>>,
    /// What its steps took, and reading them back.
    busy: Duration,
}

/// A photo on its way to a file, as it was when that was asked for: it may be closed or seen through another frame meanwhile.
struct Export {
    request: ExportRequest,
    photo: Arc<Photo>,
    frame: Frame,
    /// Once the stochastic latent is known.
    latents: Option<Latents>,
    /// On the way there, where the open photo is no longer.
    own_reading: Option<(Latents, Chain<4>)>,
    decode: Option<Decode>,
}

impl Worker {
    fn new(events: Sender<Event>, wake: Arc<dyn Fn() + Send + Sync>, device: DeviceChoice) -> Self {
        Self {
            events,
            wake,
            device,
            editor: None,
            photos: Vec::new(),
            present: None,
            active: None,
            next: None,
            last: None,
            interpolation: Interpolation::default(),
            sampling: Sampling::default(),
            inspection: None,
            export: None,
            closer: None,
            step_time: None,
            rest: None,
            tuning: None,
        }
    }

    fn has_work(&self) -> bool {
        self.tuning.is_some()
            || self.active.is_some()
            || self.next.is_some()
            || self.inverting().is_some()
            || self.export.is_some()
            || self.interpolation.has_work()
            || self.sampling.has_work()
            || self.inspection.is_some()
    }

    fn index(&self, id: PhotoId) -> Option<usize> {
        self.photos.iter().position(|photo| photo.id == id)
    }

    fn present(&self) -> Option<&OpenPhoto> {
        self.photos.get(self.index(self.present?)?)
    }

    /// The photo whose stochastic latent is inferred next: the present one before all others.
    fn inverting(&self) -> Option<usize> {
        let inverts = |photo: &OpenPhoto| photo.inversion.is_some();
        let present = self.present.and_then(|id| self.index(id)).filter(|i| inverts(&self.photos[*i]));
        present.or_else(|| self.photos.iter().position(inverts))
    }

    fn tell(&self, event: Event) {
        // The window is gone: the next receive ends the thread.
        let _ = self.events.send(event);
        (self.wake)();
    }

    fn fail(&self, job: Job, message: String, details: String) {
        self.tell(Event::Failed { job, message, details });
    }

    /// Runs part of a job; errors and panics become events and never end the thread.
    fn guarded(&mut self, job: Job, f: impl FnOnce(&mut Self) -> Result<(), EditError>) {
        match catch_unwind(AssertUnwindSafe(|| f(self))) {
            Ok(Ok(())) => {}
            // A device that no longer gives back what it computed is as lost as one that panics.
            Ok(Err(EditError::ReadBack(details))) => self.recover(job, details),
            Ok(Err(error)) => {
                self.drop_job(job);
                self.fail(job, error.to_string(), format!("{error:?}"));
            }
            Err(panic) => self.recover(job, panics::text(&*panic)),
        }
    }

    /// Forgets a job without a word: who calls this tells what became of it.
    fn drop_job(&mut self, job: Job) {
        match job {
            Job::Rendering => (self.active, self.next) = (None, None),
            Job::ReadingPhoto => self.photos.iter_mut().for_each(|photo| photo.inversion = None),
            Job::Exporting => self.export = None,
            Job::Interpolating => self.interpolation = Interpolation::default(),
            Job::Sampling => self.sampling.stop(),
            Job::Inspecting => self.inspection = None,
            Job::Tuning => self.tuning = None,
            Job::LoadingModel | Job::OpeningPhoto | Job::WritingSequence | Job::Importing => {}
        }
    }

    fn is_running(&self, job: Job) -> bool {
        match job {
            Job::Rendering => self.active.is_some() || self.next.is_some(),
            Job::ReadingPhoto => self.inverting().is_some(),
            Job::Exporting => self.export.is_some(),
            Job::Interpolating => self.interpolation.has_work(),
            Job::Sampling => self.sampling.has_work(),
            Job::Inspecting => self.inspection.is_some(),
            Job::Tuning => self.tuning.is_some(),
            Job::LoadingModel | Job::OpeningPhoto | Job::WritingSequence | Job::Importing => false,
        }
    }

    /// Gives a job up. The window, which shows it as long as it runs, is told.
    fn abandon(&mut self, job: Job) {
        if self.is_running(job) {
            self.drop_job(job);
            self.tell(Event::Cancelled { job });
        }
    }

    /// Gives up all that works with the photos' latents.
    fn abandon_all(&mut self) {
        // A picture is no job that the window shows.
        self.drop_job(Job::Rendering);
        for job in [Job::ReadingPhoto, Job::Exporting, Job::Interpolating, Job::Sampling, Job::Inspecting] {
            self.abandon(job);
        }
    }

    /// After a panic: a GPU is given up for the CPU, since its state cannot be trusted; on the CPU the job alone is lost.
    fn recover(&mut self, job: Job, details: String) {
        // A model that does not load takes nothing from the one that is there.
        let is_loading = matches!(job, Job::LoadingModel | Job::Importing);
        let bundle = self.editor.as_ref().map(|e| e.card.folder.clone()).filter(|_| !is_loading);
        if !is_loading {
            self.drop_job(job);
            self.abandon_all();
        }
        if let (false, Some(bundle)) = (self.device == DeviceChoice::Cpu || self.on_cpu(), bundle) {
            self.device = DeviceChoice::Cpu;
            self.fail(job, "The graphics card stopped working; PDAE Studio goes on with the CPU, more slowly.".into(), details);
            self.editor = None;
            self.guarded(Job::LoadingModel, |w| w.load(bundle, DeviceChoice::Cpu));
        } else {
            let message = match job {
                Job::LoadingModel if self.editor.is_some() => {
                    "An internal error stopped the model from loading. The one before stays in use."
                }
                Job::LoadingModel => {
                    "The model could not be loaded because of an internal error. Choose another model, or install this one again."
                }
                Job::Importing => "The model could not be imported because of an internal error. Try other files.",
                Job::OpeningPhoto => "The photo could not be opened because of an internal error. Try another photo.",
                _ => "An internal error stopped this picture. Your photo and sliders are safe; move a slider to try again.",
            };
            self.fail(job, message.into(), details);
        }
    }

    fn on_cpu(&self) -> bool {
        self.editor.as_ref().is_none_or(|e| e.card.device.starts_with("CPU"))
    }

    fn handle(&mut self, request: Request) {
        match request {
            Request::LoadBundle(path) => self.guarded(Job::LoadingModel, |w| w.load(path, w.device)),
            Request::Import { folder, output } => self.guarded(Job::Importing, |w| w.import(&folder, &output)),
            Request::UseDevice(choice) => self.guarded(Job::LoadingModel, |w| w.use_device(choice)),
            Request::ListDevices => self.tell(Event::Devices(device::list())),
            Request::Open(id, opening) => {
                self.guarded(Job::OpeningPhoto, |w| w.open(id, opening));
                if self.index(id).is_none() {
                    self.tell(Event::NotOpened(id));
                }
            }
            Request::Store { id, file } => self.store(id, file),
            Request::Select(id) => match self.index(id) {
                Some(i) => {
                    self.select(id);
                    self.tell(opened(&self.photos[i]));
                    self.need_inversion(i);
                }
                None => self.tell(Event::Cancelled { job: Job::OpeningPhoto }),
            },
            Request::Close(id) => self.close(id),
            Request::Reframe { photo, frame } => self.guarded(Job::OpeningPhoto, |w| w.reframe(photo, frame)),
            Request::LookCloser { photo, part } => self.closer = Some((photo, part)),
            Request::Sample(request) => self.sampling.start(request),
            Request::Inspect(request) => self.inspection = Some(Inspection::new(request)),
            Request::Export(request) => self.start_export(*request),
            Request::ExportSequence { path, sequence, overwrite } => self.write_sequence(path, sequence, overwrite),
            Request::Cancel(job) => self.abandon(job),
            #[cfg(test)]
            Request::Panic => self.guarded(Job::Rendering, |_| panic!("on purpose")),
        }
    }

    /// Nothing of what there is changes before the model is there and has read the photos: the old one goes on where the new one, or
    /// its device, cannot be had.
    fn load(&mut self, bundle: PathBuf, device: DeviceChoice) -> Result<(), EditError> {
        let editor = Editor::load(&bundle, device)?;
        let readings = self.photos.iter().map(|open| read_frame(&editor, &open.photo, open.frame)).collect::<Result<Vec<_>, _>>()?;
        self.abandon_all();
        self.sampling = Sampling::default();
        self.tell(Event::ModelLoaded(Arc::new(editor.card.clone())));
        self.tuning = (!editor.is_on_cpu()).then_some(0);
        if self.tuning.is_some() {
            self.tell(Event::Progress { job: Job::Tuning, done: 0, total: TUNING });
        }
        (self.editor, self.device) = (Some(editor), device);
        self.step_time = None;
        for (open, (latents, inversion)) in self.photos.iter_mut().zip(readings) {
            open.view = View::new(&open.photo, open.frame);
            (open.latents, open.inversion) = (latents, Some(inversion));
            open.inversion_method = Some(Inversion::default());
        }
        if let Some(open) = self.present() {
            self.tell(opened(open));
        }
        // The model before is gone, too.
        memory::give_back();
        Ok(())
    }

    fn import(&mut self, folder: &Path, output: &Path) -> Result<(), EditError> {
        let name = folder.file_name().map_or_else(|| ImportOptions::default().name, |name| name.to_string_lossy().into_owned());
        import(folder, &ImportOptions { name, ..Default::default() })?.save(output, false)?;
        self.tell(Event::Finished { job: Job::Importing });
        self.load(output.into(), self.device)
    }

    fn use_device(&mut self, choice: DeviceChoice) -> Result<(), EditError> {
        match self.editor.as_ref().map(|editor| editor.card.folder.clone()) {
            Some(bundle) => self.load(bundle, choice),
            // For the model that is chosen next.
            None => {
                self.device = choice;
                self.tell(Event::Finished { job: Job::LoadingModel });
                Ok(())
            }
        }
    }

    fn open(&mut self, id: PhotoId, opening: Opening) -> Result<(), EditError> {
        match opening {
            Opening::File(path) => self.open_photo(id, Photo::open(&path)?, None, None),
            Opening::Memory(photo) => self.open_photo(id, *photo, None, None),
            Opening::Again(reopening) => self.reopen(id, reopening),
            Opening::Sample { generation, index } => self.open_sample(id, generation, index),
        }
    }

    /// `frame`: to be used instead of the one that is found. `stored`: where the pixels of a photo without a file are kept.
    fn open_photo(&mut self, id: PhotoId, photo: Photo, frame: Option<Frame>, stored: Option<PathBuf>) -> Result<(), EditError> {
        let Some(editor) = &self.editor else { return Err(EditError::NoModel) };
        let faces: Arc<[Face]> = editor.find_faces(&photo)?.into();
        let found = || faces.first().map_or_else(|| Frame::centre(&photo), |face| face.fit().frame);
        let frame = frame.unwrap_or_else(found);
        let (latents, inversion) = read_frame(editor, &photo, frame)?;
        self.add_photo(id, photo, Reading { faces, frame, latents, inversion: Some(inversion) }, stored);
        Ok(())
    }

    fn reopen(&mut self, id: PhotoId, Reopening { origin, frame }: Reopening) -> Result<(), EditError> {
        match origin {
            Origin::File(path) => self.open_photo(id, Photo::open(&path)?, frame, None),
            Origin::Memory(photo) => self.open_photo(id, *photo, frame, None),
            Origin::Stored { file, name } => {
                let photo = Photo { name, path: None, sha256: None, ..Photo::open(&file)? };
                self.open_photo(id, photo, frame, Some(file))
            }
        }
    }

    /// Keeps a photo's pixels. Compressing them takes a while and no device: it has its own thread.
    fn store(&mut self, id: PhotoId, file: PathBuf) {
        let Some(index) = self.index(id) else { return self.tell(Event::Stored) };
        self.photos[index].stored = Some(file.clone());
        let photo = self.photos[index].photo.clone();
        let (events, wake) = (self.events.clone(), self.wake.clone());
        let write = move || {
            let options = ExportOptions { overwrite: true, ..ExportOptions::default() };
            let folder = file.parent().map_or(Ok(()), std::fs::create_dir_all);
            let written = folder
                .map_err(|error| error.to_string())
                .and_then(|()| photo::write(&photo, &file, &options).map_err(|error| error.to_string()));
            if let Err(error) = written {
                log::warn!("{} will not come back after a restart: {error}", photo.name);
            }
            let _ = events.send(Event::Stored);
            wake();
        };
        if let Err(error) = std::thread::Builder::new().name("picture keeper".into()).spawn(write) {
            log::warn!("no thread to keep a picture with: {error}");
            self.tell(Event::Stored);
        }
    }

    /// Makes a photo that has been read the present one.
    fn add_photo(&mut self, id: PhotoId, photo: Photo, reading: Reading, stored: Option<PathBuf>) {
        let Reading { faces, frame, latents, inversion } = reading;
        let view = View::new(&photo, frame);
        let inversion_method = inversion.is_some().then(Inversion::default);
        let open = OpenPhoto { id, photo: Arc::new(photo), stored, faces, frame, view, latents, inversion_method, inversion };
        self.select(id);
        self.tell(opened(&open));
        self.photos.push(open);
    }

    fn select(&mut self, id: PhotoId) {
        self.present = Some(id);
        self.leave();
    }

    /// Pictures of the photo before are no longer wanted; its reading goes on when the next one's is done.
    fn leave(&mut self) {
        self.drop_job(Job::Rendering);
        self.last = None;
        for open in &mut self.photos {
            open.view.look_closer(&open.photo, open.frame, None);
        }
        self.abandon(Job::Inspecting);
    }

    fn close(&mut self, id: PhotoId) {
        let was_reading = self.is_running(Job::ReadingPhoto);
        self.photos.retain(|photo| photo.id != id);
        memory::give_back();
        if was_reading && !self.is_running(Job::ReadingPhoto) {
            self.tell(Event::Cancelled { job: Job::ReadingPhoto });
        }
        self.abandon_work_on(id);
        if self.present == Some(id) {
            self.present = None;
            self.leave();
        }
    }

    /// Gives up what was begun with a photo's latents and would end with others, or with none. An export has its own.
    fn abandon_work_on(&mut self, id: PhotoId) {
        if self.interpolation.is_of(id) {
            self.abandon(Job::Interpolating);
        }
        if self.sampling.is_of(id) {
            self.abandon(Job::Sampling);
        }
        if self.inspection.as_ref().is_some_and(|inspection| inspection.is_of(id)) {
            self.abandon(Job::Inspecting);
        }
    }

    fn reframe(&mut self, id: PhotoId, frame: Frame) -> Result<(), EditError> {
        let (Some(editor), Some(i)) = (&self.editor, self.index(id)) else {
            self.tell(Event::Cancelled { job: Job::OpeningPhoto });
            return Ok(());
        };
        // The photo stays open under its old frame should the new one fail.
        let (latents, inversion) = read_frame(editor, &self.photos[i].photo, frame)?;
        if self.present == Some(id) {
            self.drop_job(Job::Rendering);
            self.last = None;
        }
        self.abandon_work_on(id);
        let open = &mut self.photos[i];
        open.view = View::new(&open.photo, frame);
        (open.frame, open.latents, open.inversion) = (frame, latents, Some(inversion));
        open.inversion_method = Some(Inversion::default());
        let original = open.view.original();
        self.tell(Event::Reframed { id, frame, original });
        Ok(())
    }

    /// Starts the way to a photo's stochastic latent unless it is known or under way: reading may have been cancelled.
    fn need_inversion(&mut self, index: usize) {
        let (Some(editor), Some(open)) = (&self.editor, self.photos.get_mut(index)) else { return };
        if open.latents.inferred || open.inversion.is_some() {
            return;
        }
        open.latents.passed.clear();
        open.inversion = Some(editor.inversion(&open.latents, Recipe::INVERSION_STEPS, open.inversion_method.unwrap_or_default()));
    }

    /// The same, and the next step of it.
    fn step_needed_inversion(&mut self, index: usize) -> Result<(), EditError> {
        self.need_inversion(index);
        self.step_inversion(index)
    }

    /// Reads the present photo's stochastic latent again if a recipe wants it inferred in another way.
    fn follow_inversion(&mut self, wanted: Inversion) {
        let open = self.photos.iter_mut().find(|photo| Some(photo.id) == self.present);
        let (Some(editor), Some(open)) = (&self.editor, open) else { return };
        if open.is_read_by(wanted) {
            return;
        }
        open.inversion_method = Some(wanted);
        (open.latents.x_t, open.latents.inferred) = (editor.noise(Latents::UNINFERRED_SEED), false);
        // What was decoded from the other stochastic latent cannot be compared with what comes.
        open.view.forget_bases();
        open.inversion = None;
        let id = open.id;
        self.drop_job(Job::Rendering);
        self.abandon_work_on(id);
    }

    fn take_render(&mut self, request: RenderRequest) {
        // The window cannot know yet that another photo has taken that one's place; it asks again when it does.
        let Some(i) = self.index(request.photo).filter(|_| self.present == Some(request.photo)) else { return };
        self.follow_inversion(request.recipe.inversion);
        // Somebody is at work on the photo, even if they cancelled reading it before.
        self.need_inversion(i);
        self.last = Some(request.clone());
        let Some(open) = self.present() else { return };
        let settings = whole(&request.recipe, open);
        let (drafts, quality) = (open.view.has_draft(&request.recipe, settings), open.reachable(request.quality));
        match &mut self.active {
            // What is asked for is under way to its end already.
            Some(active) if active.request.recipe == request.recipe && active.settings == settings => {
                (active.quality, active.request) = (quality, request);
                self.next = None;
            }
            // A preview is finished first, unless the request can show a draft at once; finals give way (see the module documentation).
            Some(active) if active.quality == Quality::Preview && !drafts => self.next = Some(request),
            _ => self.start_render(request),
        }
    }

    fn start_render(&mut self, request: RenderRequest) {
        self.next = None;
        let (Some(editor), Some(open)) = (&self.editor, self.present()) else { return };
        let quality = open.reachable(request.quality);
        let drafts = open.view.has_draft(&request.recipe, whole(&request.recipe, open));
        let steps = match quality {
            Quality::Preview if !drafts => self.preview_steps().min(request.recipe.steps),
            // With a draft after the first step, there is no need to be quick about the others.
            _ => request.recipe.steps,
        };
        let warm = open.latents.warm_start(&request.recipe, steps).filter(|_| quality == Quality::Preview && !drafts);
        let settings = Settings::new(&request.recipe, steps, open.latents.inferred).from(warm.map(|start| start.timestep));
        if let (Some(image), Some(step)) = (open.view.last(&request.recipe, settings), self.step_time) {
            self.active = None;
            if let Some(i) = self.index(request.photo) {
                self.photos[i].view.show_last();
            }
            self.tell_picture(request.generation, quality, image, step);
            return;
        }
        // Without sliders the picture is its own base, and with the base at hand it need not be decoded again.
        let paired = request.recipe.is_changed() && !open.view.has_base(settings);
        let decode = match warm {
            Some(start) => editor.decode_warm(start, &open.latents, &request.recipe, steps, paired),
            None if paired => editor.decode_pair(&open.latents, &request.recipe, steps),
            None => editor.decode(&open.latents, &request.recipe, steps),
        };
        self.active = Some(Render { request, quality, settings, decode, first: None, busy: Duration::ZERO });
    }

    fn preview_steps(&self) -> usize {
        let fitting = self.step_time.map_or(4, |step| (PREVIEW_BUDGET.as_secs_f64() / step.as_secs_f64().max(1e-6)) as usize);
        fitting.clamp(*PREVIEW_STEPS.start(), *PREVIEW_STEPS.end())
    }

    /// One denoising step of the most urgent job.
    fn step(&mut self) {
        if self.active.is_none()
            && let Some(request) = self.next.take()
        {
            self.start_render(request);
        }
        let inverting = self.inverting();
        let present_inverts = inverting.is_some_and(|i| Some(self.photos[i].id) == self.present);
        if self.tuning.is_some_and(|done| done < Editor::REHEARSALS) {
            self.guarded(Job::Tuning, Self::step_tuning);
        } else if self.active.is_some() {
            self.guarded(Job::Rendering, Self::step_render);
        } else if let Some(i) = inverting.filter(|_| present_inverts) {
            self.guarded(Job::ReadingPhoto, |w| w.step_inversion(i));
        } else if self.export.is_some() {
            self.guarded(Job::Exporting, Self::step_export);
        } else if self.interpolation.has_work() {
            self.guarded(Job::Interpolating, Self::step_interpolation);
        } else if self.inspection.is_some() {
            self.guarded(Job::Inspecting, Self::step_inspection);
        } else if self.sampling.has_work() {
            self.guarded(Job::Sampling, Self::step_sampling);
        } else if let Some(i) = inverting {
            self.guarded(Job::ReadingPhoto, |w| w.step_inversion(i));
        } else if self.tuning.is_some() {
            self.guarded(Job::Tuning, Self::step_tuning);
        }
    }

    /// Makes a card ready: for the passes that editing needs first, then, when there is nothing else to do, for doing them faster.
    fn step_tuning(&mut self) -> Result<(), EditError> {
        let (Some(editor), Some(done)) = (&self.editor, self.tuning.take()) else { return Ok(()) };
        let is_done = match done.checked_sub(Editor::REHEARSALS) {
            None => editor.rehearse(done).map(|()| true)?,
            Some(pass) => editor.look(pass)?,
        };
        let done = done + usize::from(is_done);
        if done < TUNING {
            self.tuning = Some(done);
            self.tell(Event::Progress { job: Job::Tuning, done, total: TUNING });
        } else {
            self.tell(Event::Finished { job: Job::Tuning });
        }
        Ok(())
    }

    fn step_render(&mut self) -> Result<(), EditError> {
        let open = self.photos.iter_mut().find(|photo| Some(photo.id) == self.present);
        let (Some(editor), Some(open), Some(render)) = (&self.editor, open, &mut self.active) else {
            self.active = None;
            return Ok(());
        };
        let started = Instant::now();
        let predicted = editor.step_predicting(&mut render.decode);
        if let Some(predicted) = predicted {
            // The end of a single step is the picture itself.
            let first = (render.decode.chain.done() == 1 && render.decode.chain.steps() > 1).then(|| editor.first_picture(predicted));
            render.first = first.transpose()?.or(render.first.take());
            render.busy += started.elapsed();
            if let (1, Some(first)) = (render.decode.chain.done(), &render.first)
                && let Some(image) = open.view.draft(&render.request.recipe, render.settings, first, editor.size())
            {
                let (generation, quality, step) = (render.request.generation, Quality::Preview, render.busy);
                self.rest = (render.quality == Quality::Preview).then_some(REST);
                self.tell_picture(generation, quality, Arc::new(image), step);
            }
            return Ok(());
        }
        let Some(Render { request, quality, settings, decode, first, busy }) = self.active.take() else { return Ok(()) };
        let steps = decode.chain.steps() as u32;
        let mut pictures = editor.pictures(decode)?.into_iter();
        // Measured up to the picture in memory: on a GPU the steps themselves return at once.
        let step = (busy + started.elapsed()) / steps.max(1);
        let Some(edited) = pictures.next() else { return Ok(()) };
        match pictures.next() {
            Some(base) => open.view.set_base(settings, base),
            None => {
                // A pair takes up to twice as long and would make the next preview too coarse.
                self.step_time = Some(step);
                if !request.recipe.is_changed() {
                    open.view.set_base(settings, edited.clone());
                }
            }
        }
        if let Some(first) = first {
            open.view.keep_whole(&request.recipe, settings, edited.clone(), first);
        }
        let image = open.view.show_edit(request.recipe, settings, &edited, editor.size());
        self.tell_picture(request.generation, quality, image, step);
        Ok(())
    }

    /// Tells of the picture of the present photo that was made last, after the part of it that is looked at closely.
    fn tell_picture(&mut self, generation: u64, quality: Quality, image: Arc<RgbImage>, step: Duration) {
        if let Some(i) = self.present.and_then(|id| self.index(id)) {
            self.photos[i].view.shown_as(generation, quality);
            self.tell_close_up(i);
        }
        self.tell(Event::Picture { generation, quality, image, step });
    }

    fn tell_close_up(&self, index: usize) {
        let open = &self.photos[index];
        if let Some(close_up) = open.view.close_up() {
            self.tell(Event::CloseUp { photo: open.id, close_up });
        }
    }

    fn look_closer(&mut self, id: PhotoId, part: Option<Part>) {
        // The window asks again for the photo that took its place.
        let Some(i) = self.index(id).filter(|_| self.present == Some(id)) else { return };
        let open = &mut self.photos[i];
        open.view.look_closer(&open.photo, open.frame, part);
        self.tell_close_up(i);
    }

    /// One step towards the stochastic latent of the photo at `index`.
    fn step_inversion(&mut self, index: usize) -> Result<(), EditError> {
        let (Some(editor), Some(open)) = (&self.editor, self.photos.get_mut(index)) else { return Ok(()) };
        let Some(chain) = &mut open.inversion else { return Ok(()) };
        if editor.step_inversion(chain, &mut open.latents) {
            let (done, total) = (chain.done(), chain.steps());
            self.tell(Event::Progress { job: Job::ReadingPhoto, done, total });
            return Ok(());
        }
        open.latents.x_t = chain.x.clone();
        open.latents.inferred = true;
        open.inversion = None;
        let is_present = Some(open.id) == self.present;
        self.tell(Event::LatentsReady);
        if let Some(last) = self.last.clone().filter(|_| is_present) {
            self.start_render(RenderRequest { quality: Quality::Final, ..last });
        }
        Ok(())
    }

    fn start_export(&mut self, request: ExportRequest) {
        match self.index(request.photo).map(|i| &self.photos[i]) {
            Some(open) => {
                let is_read = open.latents.inferred && open.is_read_by(request.recipe.inversion);
                let (photo, frame, latents) = (open.photo.clone(), open.frame, is_read.then(|| open.latents.clone()));
                self.abandon(Job::Exporting);
                self.export = Some(Export { request, photo, frame, latents, own_reading: None, decode: None });
            }
            None => self.tell(Event::Cancelled { job: Job::Exporting }),
        }
    }

    fn step_export(&mut self) -> Result<(), EditError> {
        if self.export.as_ref().is_some_and(|export| export.latents.is_none()) {
            return self.step_export_reading();
        }
        let (Some(editor), Some(export)) = (&self.editor, &mut self.export) else { return Err(EditError::NoModel) };
        let Some(latents) = &export.latents else { return Ok(()) };
        let recipe = &export.request.recipe;
        let decode = export.decode.get_or_insert_with(|| editor.decode_pair(latents, recipe, recipe.steps));
        if editor.step(decode) {
            let (done, total) = (decode.chain.done(), decode.chain.steps());
            self.tell(Event::Progress { job: Job::Exporting, done, total });
            return Ok(());
        }
        let Some(Export { request, photo, frame, decode: Some(decode), .. }) = self.export.take() else { return Ok(()) };
        let ExportRequest { path, recipe, options, crop, save_recipe, .. } = request;
        let upsampling = Upsampling::default();
        let edited = editor.finish(&photo, frame, &recipe, decode, crop, upsampling)?;
        photo::write(&edited, &path, &options)?;
        drop(edited);
        memory::give_back();
        if save_recipe {
            let sidecar = Sidecar {
                format: sidecar::FORMAT,
                program: Sidecar::program(),
                source: SourceEntry::of(&photo),
                model: editor.model_entry(),
                frame,
                seed: None,
                inversion_steps: (recipe.steps != Recipe::INVERSION_STEPS).then_some(Recipe::INVERSION_STEPS),
                recipe,
                crop,
                upsampling,
                export: options.clone(),
            };
            sidecar.write(&sidecar::path_beside(&path), options.overwrite)?;
        }
        self.tell(Event::Exported { job: Job::Exporting, path });
        Ok(())
    }

    /// One step towards the stochastic latent that an export decodes: the open photo's. Where the photo was closed meanwhile, or is seen
    /// in another way, the export reads it for itself.
    fn step_export_reading(&mut self) -> Result<(), EditError> {
        let (Some(editor), Some(export)) = (&self.editor, &mut self.export) else { return Err(EditError::NoModel) };
        let inversion = export.request.recipe.inversion;
        let is_as_it_was = |open: &OpenPhoto| open.id == export.request.photo && open.frame == export.frame && open.is_read_by(inversion);
        if let Some(i) = self.photos.iter().position(is_as_it_was).filter(|_| export.own_reading.is_none()) {
            if !self.photos[i].latents.inferred {
                return self.step_needed_inversion(i);
            }
            export.latents = Some(self.photos[i].latents.clone());
            return Ok(());
        }
        let (mut latents, mut chain) = match export.own_reading.take() {
            Some(reading) => reading,
            None => {
                let latents = editor.read(&editor.cut(&export.photo, export.frame))?;
                let chain = editor.inversion(&latents, Recipe::INVERSION_STEPS, inversion);
                (latents, chain)
            }
        };
        if editor.step_inversion(&mut chain, &mut latents) {
            export.own_reading = Some((latents, chain));
        } else {
            (latents.x_t, latents.inferred) = (chain.x, true);
            export.latents = Some(latents);
        }
        Ok(())
    }

    /// Compressing an animation takes a while and no device: it has its own thread.
    fn write_sequence(&self, path: PathBuf, sequence: Sequence, overwrite: bool) {
        let job = Job::WritingSequence;
        let (events, wake) = (self.events.clone(), self.wake.clone());
        let write = move || {
            let event = match sequence.write(&path, overwrite) {
                Ok(()) => Event::Exported { job, path },
                Err(error) => Event::Failed { job, message: error.to_string(), details: format!("{error:?}") },
            };
            let _ = events.send(event);
            wake();
        };
        if let Err(error) = std::thread::Builder::new().name("sequence writer".into()).spawn(write) {
            self.fail(job, "The pictures could not be written. Close some programs and try again.".into(), error.to_string());
        }
    }
}

/// The latents of what a frame shows of a photo, as far as they are known at once, and the start of the way to the rest.
fn read_frame(editor: &Editor, photo: &Photo, frame: Frame) -> Result<(Latents, Chain<4>), EditError> {
    let latents = editor.read(&editor.cut(photo, frame))?;
    let inversion = editor.inversion(&latents, Recipe::INVERSION_STEPS, Inversion::default());
    Ok((latents, inversion))
}

/// How a recipe is decoded to its end.
fn whole(recipe: &Recipe, open: &OpenPhoto) -> Settings {
    Settings::new(recipe, recipe.steps, open.latents.inferred)
}

/// What the window is told of a photo that was read.
fn opened(open: &OpenPhoto) -> Event {
    Event::PhotoOpened {
        id: open.id,
        name: open.photo.name.clone(),
        path: open.photo.path.clone(),
        stored: open.stored.clone(),
        sha256: open.photo.sha256.clone(),
        width: open.photo.width(),
        height: open.photo.height(),
        faces: open.faces.clone(),
        frame: open.frame,
        made_up: open.inversion_method.is_none(),
        original: open.view.original(),
    }
}

#[cfg(test)]
mod tests;
