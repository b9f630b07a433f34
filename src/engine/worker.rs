//! The thread behind [`super::Engine`].

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Select, Sender, TryRecvError};

use super::edit::{Decode, EditError, Editor, Latents};
use super::view::{Settings, View};
use super::{Event, ExportRequest, Job, Quality, RenderRequest, Request};
use crate::device::DeviceChoice;
use crate::diffusion::{Chain, Inversion};
use crate::editing::sidecar::{self, SourceEntry};
use crate::editing::{Recipe, Sidecar};
use crate::face::Face;
use crate::photo::{self, Frame, Photo, Upsampling};

/// What a preview may take.
const PREVIEW_BUDGET: Duration = Duration::from_millis(100);
const PREVIEW_STEPS: std::ops::RangeInclusive<usize> = 2..=10;

pub(super) fn run(
    requests: Receiver<Request>,
    renders: Receiver<RenderRequest>,
    events: Sender<Event>,
    wake: Box<dyn Fn() + Send>,
    bundle: PathBuf,
    device: DeviceChoice,
) {
    let mut worker = Worker {
        events,
        wake,
        device,
        editor: None,
        open: None,
        active: None,
        next: None,
        last: None,
        inversion: None,
        export: None,
        step_time: None,
    };
    worker.guarded(Job::LoadingModel, |w| w.load(bundle));
    let mut select = Select::new();
    select.recv(&requests);
    select.recv(&renders);
    loop {
        if !worker.has_work() {
            select.ready();
        }
        // Requests first: a render that was asked for after a photo must not be taken before it.
        loop {
            match requests.try_recv() {
                Ok(request) => worker.handle(request),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => return,
            }
        }
        if let Ok(render) = renders.try_recv() {
            worker.take_render(render);
        }
        worker.step();
    }
}

struct Worker {
    events: Sender<Event>,
    wake: Box<dyn Fn() + Send>,
    device: DeviceChoice,
    editor: Option<Editor>,
    open: Option<OpenPhoto>,
    active: Option<Render>,
    /// Waits for a preview in progress.
    next: Option<RenderRequest>,
    /// Rendered again when the stochastic latent has been inferred.
    last: Option<RenderRequest>,
    inversion: Option<Chain<4>>,
    export: Option<Export>,
    /// One denoising step, as measured over the last decode.
    step_time: Option<Duration>,
}

struct OpenPhoto {
    photo: Photo,
    faces: Arc<[Face]>,
    frame: Frame,
    view: View,
    latents: Latents,
}

struct Render {
    request: RenderRequest,
    /// What is really rendered: a final picture from noise would be thrown away when the inversion ends.
    quality: Quality,
    settings: Settings,
    decode: Decode,
    started: Instant,
}

struct Export {
    request: ExportRequest,
    decode: Option<Decode>,
}

impl Worker {
    fn has_work(&self) -> bool {
        self.active.is_some() || self.next.is_some() || self.inversion.is_some() || self.export.is_some()
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
            Ok(Err(error)) => {
                self.drop_job(job);
                self.fail(job, error.to_string(), format!("{error:?}"));
            }
            Err(panic) => {
                let details = panic_text(&*panic);
                self.active = None;
                self.next = None;
                self.inversion = None;
                self.export = None;
                self.recover(job, details);
            }
        }
    }

    fn drop_job(&mut self, job: Job) {
        match job {
            Job::Rendering => self.active = None,
            Job::ReadingPhoto => self.inversion = None,
            Job::Exporting => self.export = None,
            Job::LoadingModel | Job::OpeningPhoto => {}
        }
    }

    /// After a panic: a GPU is given up for the CPU, since its state cannot be trusted; on the CPU the job alone is lost.
    fn recover(&mut self, job: Job, details: String) {
        let bundle = self.editor.as_ref().map(|e| e.card.folder.clone());
        if let (false, Some(bundle)) = (self.device == DeviceChoice::Cpu || self.on_cpu(), bundle) {
            self.device = DeviceChoice::Cpu;
            self.fail(job, "The graphics card stopped working; PDAE Studio goes on with the CPU, more slowly.".into(), details);
            self.editor = None;
            self.guarded(Job::LoadingModel, |w| w.load(bundle));
        } else {
            let message = match job {
                Job::LoadingModel => {
                    "The model could not be loaded because of an internal error. Choose another model, or install this one again."
                }
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
            Request::LoadBundle(path) => self.guarded(Job::LoadingModel, |w| w.load(path)),
            Request::OpenPath(path) => self.guarded(Job::OpeningPhoto, |w| w.open_photo(Photo::open(&path)?)),
            Request::OpenPhoto(photo) => self.guarded(Job::OpeningPhoto, |w| w.open_photo(*photo)),
            Request::Reframe(frame) => self.guarded(Job::OpeningPhoto, |w| w.reframe(frame)),
            Request::Export(request) => self.export = Some(Export { request: *request, decode: None }),
            Request::Cancel => {
                if self.inversion.take().is_some() {
                    self.tell(Event::Cancelled { job: Job::ReadingPhoto });
                }
                if self.export.take().is_some() {
                    self.tell(Event::Cancelled { job: Job::Exporting });
                }
            }
            #[cfg(test)]
            Request::Panic => self.guarded(Job::Rendering, |_| panic!("on purpose")),
        }
    }

    fn load(&mut self, bundle: PathBuf) -> Result<(), EditError> {
        let editor = Editor::load(&bundle, self.device)?;
        self.tell(Event::ModelLoaded(Arc::new(editor.card.clone())));
        self.editor = Some(editor);
        self.step_time = None;
        match self.open.take() {
            Some(OpenPhoto { photo, faces, frame, .. }) => self.read_photo(photo, faces, frame),
            None => Ok(()),
        }
    }

    fn open_photo(&mut self, photo: Photo) -> Result<(), EditError> {
        let Some(editor) = &self.editor else { return Err(EditError::NoModel) };
        let faces: Arc<[Face]> = editor.find_faces(&photo)?.into();
        let frame = faces.first().map_or_else(|| Frame::centre(&photo), |face| face.fit().frame);
        self.read_photo(photo, faces, frame)
    }

    fn read_photo(&mut self, photo: Photo, faces: Arc<[Face]>, frame: Frame) -> Result<(), EditError> {
        let latents = self.read_frame(&photo, frame)?;
        let view = View::new(&photo, frame);
        let (name, width, height, original) = (photo.name.clone(), photo.width(), photo.height(), view.original());
        self.open = Some(OpenPhoto { photo, faces: faces.clone(), frame, view, latents });
        self.tell(Event::PhotoOpened { name, width, height, faces, frame, original });
        Ok(())
    }

    fn reframe(&mut self, frame: Frame) -> Result<(), EditError> {
        let Some(open) = self.open.take() else { return Ok(()) };
        let read = self.read_frame(&open.photo, frame);
        // The photo stays open under its old frame should the new one fail.
        let latents = match read {
            Ok(latents) => latents,
            Err(error) => {
                self.open = Some(open);
                return Err(error);
            }
        };
        let view = View::new(&open.photo, frame);
        let original = view.original();
        self.open = Some(OpenPhoto { frame, view, latents, ..open });
        self.tell(Event::Reframed { frame, original });
        Ok(())
    }

    /// Starts the work on what a frame shows of a photo; returns its latents as far as they are known at once.
    fn read_frame(&mut self, photo: &Photo, frame: Frame) -> Result<Latents, EditError> {
        let Some(editor) = &self.editor else { return Err(EditError::NoModel) };
        let latents = editor.read(&editor.cut(photo, frame))?;
        self.inversion = Some(editor.inversion(&latents, Recipe::DEFAULT_STEPS, Inversion::default()));
        (self.active, self.next, self.last) = (None, None, None);
        Ok(latents)
    }

    fn take_render(&mut self, request: RenderRequest) {
        self.last = Some(request.clone());
        // See the module documentation: previews are finished, finals give way.
        if self.active.as_ref().is_some_and(|active| active.quality == Quality::Preview) {
            self.next = Some(request);
        } else {
            self.start_render(request);
        }
    }

    fn start_render(&mut self, request: RenderRequest) {
        let (Some(editor), Some(open)) = (&self.editor, &self.open) else { return };
        let quality = if open.latents.inferred { request.quality } else { Quality::Preview };
        let steps = match quality {
            Quality::Final => request.recipe.steps,
            Quality::Preview => self.preview_steps().min(request.recipe.steps),
        };
        let settings = Settings::new(&request.recipe, steps, open.latents.inferred);
        // Without sliders the picture is its own base, and with the base at hand it need not be decoded again.
        let decode = if request.recipe.is_changed() && !open.view.has_base(settings) {
            editor.decode_pair(&open.latents, &request.recipe, steps)
        } else {
            editor.decode(&open.latents, &request.recipe, steps)
        };
        self.active = Some(Render { request, quality, settings, decode, started: Instant::now() });
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
        if self.active.is_some() {
            self.guarded(Job::Rendering, Self::step_render);
        } else if self.inversion.is_some() {
            self.guarded(Job::ReadingPhoto, Self::step_inversion);
        } else if self.export.is_some() {
            self.guarded(Job::Exporting, Self::step_export);
        }
    }

    fn step_render(&mut self) -> Result<(), EditError> {
        let (Some(editor), Some(open), Some(render)) = (&self.editor, &mut self.open, &mut self.active) else {
            self.active = None;
            return Ok(());
        };
        if editor.step(&mut render.decode) {
            return Ok(());
        }
        let Some(Render { request, quality, settings, decode, started }) = self.active.take() else { return Ok(()) };
        let steps = decode.chain.steps() as u32;
        let mut pictures = editor.pictures(decode)?.into_iter();
        // Measured up to the picture in memory: on a GPU the steps themselves return at once.
        let step = started.elapsed() / steps.max(1);
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
        let image = Arc::new(open.view.show(settings, &edited, editor.size()));
        self.tell(Event::Picture { generation: request.generation, quality, image, step });
        Ok(())
    }

    fn step_inversion(&mut self) -> Result<(), EditError> {
        let (Some(editor), Some(open), Some(chain)) = (&self.editor, &mut self.open, &mut self.inversion) else {
            self.inversion = None;
            return Ok(());
        };
        if editor.step_inversion(chain, &open.latents) {
            let (done, total) = (chain.done(), chain.steps());
            self.tell(Event::Progress { job: Job::ReadingPhoto, done, total });
            return Ok(());
        }
        open.latents.x_t = chain.x.clone();
        open.latents.inferred = true;
        self.inversion = None;
        self.tell(Event::LatentsReady);
        if let Some(last) = self.last.clone() {
            self.start_render(RenderRequest { quality: Quality::Final, ..last });
        }
        Ok(())
    }

    fn step_export(&mut self) -> Result<(), EditError> {
        let (Some(editor), Some(open), Some(export)) = (&self.editor, &self.open, &mut self.export) else {
            self.export = None;
            return Ok(());
        };
        let recipe = &export.request.recipe;
        let decode = export.decode.get_or_insert_with(|| editor.decode_pair(&open.latents, recipe, recipe.steps));
        if editor.step(decode) {
            let (done, total) = (decode.chain.done(), decode.chain.steps());
            self.tell(Event::Progress { job: Job::Exporting, done, total });
            return Ok(());
        }
        let Some(Export { request, decode: Some(decode) }) = self.export.take() else { return Ok(()) };
        let ExportRequest { path, recipe, options, crop, save_recipe } = request;
        let upsampling = Upsampling::default();
        let edited = editor.finish(&open.photo, open.frame, decode, crop, upsampling)?;
        photo::write(&edited, &path, &options)?;
        if save_recipe {
            let sidecar = Sidecar {
                format: sidecar::FORMAT,
                program: Sidecar::program(),
                source: SourceEntry::of(&open.photo),
                model: editor.model_entry(),
                frame: open.frame,
                seed: (!open.latents.inferred).then_some(Latents::UNINFERRED_SEED),
                inversion_steps: (recipe.steps != Recipe::DEFAULT_STEPS).then_some(Recipe::DEFAULT_STEPS),
                recipe,
                crop,
                upsampling,
                export: options.clone(),
            };
            sidecar.write(&sidecar::path_beside(&path), options.overwrite)?;
        }
        self.tell(Event::Exported { path });
        Ok(())
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|s| (*s).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "panic without a message".into())
}

#[cfg(test)]
mod tests;
