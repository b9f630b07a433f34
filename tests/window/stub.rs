//! An engine without a model: it opens real photos and answers every request at once, with flat pictures.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Select};
use image::{Rgb, RgbImage};
use pdae_studio::checkpoint::{Bundle, bundle};
use pdae_studio::device::DeviceChoice;
use pdae_studio::engine::close_up::CloseUp;
use pdae_studio::engine::inspection::{ChainPicture, GapPoint, InspectRequest};
use pdae_studio::engine::interpolation::InterpolationRequest;
use pdae_studio::engine::{Ends, Engine, Event, Job, ModelCard, Opening, Origin, PhotoId, RenderRequest, Reopening, Request};
use pdae_studio::model::Cost;
use pdae_studio::photo::{Frame, Photo, PhotoError};

/// Side of the pictures that it makes.
const SIDE: u32 = 16;

/// Starts it.
pub fn start(ctx: &egui::Context) -> std::io::Result<Engine> {
    // Its other end is gone, so that nothing waits.
    start_held(ctx, crossbeam_channel::bounded(0).1)
}

/// The same, but a photo is written only when something comes through the gate.
pub fn start_held(ctx: &egui::Context, gate: Receiver<()>) -> std::io::Result<Engine> {
    let wake = ctx.clone();
    Engine::start_with(
        move || wake.request_repaint(),
        |ends| {
            let photos = Vec::new();
            Stub { ends, photos, gate }.run();
        },
    )
}

struct Stub {
    ends: Ends,
    photos: Vec<(PhotoId, Photo)>,
    gate: Receiver<()>,
}

/// A picture that tells one number from another.
fn flat(value: f64) -> Arc<RgbImage> {
    let grey = (value.abs() * 997.0) as u64 % 200;
    Arc::new(RgbImage::from_pixel(SIDE, SIDE, Rgb([grey as u8, 120, 255 - grey as u8])))
}

impl Stub {
    fn run(mut self) {
        self.tell(Event::ModelLoaded(Arc::new(card())));
        loop {
            let (requests, renders, interpolations) =
                (self.ends.requests.clone(), self.ends.renders.clone(), self.ends.interpolations.clone());
            let mut select = Select::new();
            select.recv(&requests);
            select.recv(&renders);
            select.recv(&interpolations);
            select.ready();
            loop {
                match requests.try_recv() {
                    Ok(request) => self.answer(request),
                    Err(crossbeam_channel::TryRecvError::Empty) => break,
                    Err(crossbeam_channel::TryRecvError::Disconnected) => return,
                }
            }
            if let Ok(RenderRequest { generation, recipe, quality, .. }) = renders.try_recv() {
                let image = flat(recipe.sliders.values().map(|v| f64::from(*v)).sum::<f64>() + 1.0);
                self.tell(Event::Picture { generation, quality, image, step: Duration::from_millis(1) });
            }
            if let Ok(InterpolationRequest { generation, pictures, .. }) = interpolations.try_recv() {
                for (share, quality) in pictures {
                    self.tell(Event::Between { generation, share, quality, image: flat(share) });
                }
                self.tell(Event::Finished { job: Job::Interpolating });
            }
        }
    }

    fn tell(&self, event: Event) {
        let _ = self.ends.events.send(event);
        (self.ends.wake)();
    }

    fn answer(&mut self, request: Request) {
        match request {
            Request::Open(id, opening) => {
                let photo = match opening {
                    Opening::File(path) | Opening::Again(Reopening { origin: Origin::File(path), .. }) => Photo::open(&path),
                    Opening::Memory(photo) | Opening::Again(Reopening { origin: Origin::Memory(photo), .. }) => Ok(*photo),
                    Opening::Again(Reopening { origin: Origin::Stored { file, name }, .. }) => {
                        Photo::open(&file).map(|photo| Photo { name, path: None, ..photo })
                    }
                    Opening::Sample { index, .. } => Photo::from_image((*flat(index as f64)).clone().into(), "Face"),
                };
                self.open(id, photo);
            }
            Request::Store { .. } => self.tell(Event::Stored),
            Request::Select(id) => {
                if let Some((id, photo)) = self.photos.iter().find(|(other, _)| *other == id) {
                    self.tell(opened(*id, photo));
                }
            }
            Request::Close(id) => {
                // As when another model has read it a moment before.
                if let Some((id, photo)) = self.photos.iter().find(|(other, _)| *other == id) {
                    self.tell(opened(*id, photo));
                }
                self.photos.retain(|(other, _)| *other != id);
            }
            Request::LookCloser { photo, part } => {
                if let Some(part) = part {
                    let close_up = CloseUp { part, before: flat(part.scale), edit: None };
                    self.tell(Event::CloseUp { photo, close_up });
                }
            }
            Request::Reframe { photo: id, frame } => self.tell(Event::Reframed { id, frame, original: flat(frame.side) }),
            Request::Sample(request) => {
                for index in 0..request.count {
                    let image = flat(request.seed as f64 + index as f64);
                    self.tell(Event::Sampled { generation: request.generation, index, image });
                }
                self.tell(Event::Finished { job: Job::Sampling });
            }
            Request::Inspect(InspectRequest { generation, .. }) => {
                self.tell(Event::NoiseSeen { generation, image: flat(0.0) });
                for timestep in [999, 500] {
                    let picture = ChainPicture { timestep, x_t: (*flat(1.0)).clone(), x0_hat: (*flat(2.0)).clone() };
                    self.tell(Event::ChainSeen { generation, picture: Arc::new(picture) });
                    self.tell(Event::GapMeasured { generation, point: GapPoint { timestep, plain: 1e-2, shifted: 1e-3 } });
                }
                self.tell(Event::Finished { job: Job::Inspecting });
            }
            Request::Export(request) => {
                let _ = self.gate.recv();
                self.tell(Event::Exported { job: Job::Exporting, path: request.path });
            }
            Request::ExportSequence { path, .. } => self.tell(Event::Exported { job: Job::WritingSequence, path }),
            Request::ListDevices => self.tell(Event::Devices(vec![(DeviceChoice::Cpu, "CPU, 1 thread".into())])),
            Request::LoadBundle(folder) => self.load(folder),
            Request::Import { output, .. } => {
                self.tell(Event::Finished { job: Job::Importing });
                self.load(output);
            }
            Request::UseDevice(_) => self.load(card().folder),
            Request::Cancel(job) => self.tell(Event::Cancelled { job }),
        }
    }

    fn load(&self, folder: PathBuf) {
        self.tell(Event::ModelLoaded(Arc::new(ModelCard { folder, ..card() })));
    }

    fn open(&mut self, id: PhotoId, photo: Result<Photo, PhotoError>) {
        match photo {
            Ok(photo) => {
                self.tell(opened(id, &photo));
                self.photos.push((id, photo));
                self.tell(Event::LatentsReady);
            }
            Err(error) => {
                self.tell(Event::Failed { job: Job::OpeningPhoto, message: error.to_string(), details: String::new() });
                self.tell(Event::NotOpened(id));
            }
        }
    }
}

fn opened(id: PhotoId, photo: &Photo) -> Event {
    Event::PhotoOpened {
        id,
        name: photo.name.clone(),
        path: photo.path.clone(),
        stored: None,
        sha256: photo.sha256.clone(),
        width: photo.width(),
        height: photo.height(),
        faces: Arc::new([]),
        frame: Frame::centre(photo),
        made_up: false,
        original: flat(f64::from(photo.width())),
    }
}

fn card() -> ModelCard {
    let folder = bundle::default_folder();
    let mut manifest = Bundle::read_manifest(&folder).expect("the model that comes along");
    // Whatever that model can do, every view has something to show.
    manifest.config.latent_dpm = Some(pdae_studio::model::LatentDpmConfig {
        input_channel: manifest.config.latent_dim,
        model_channel: 1,
        num_layers: 1,
        time_emb_channel: 2,
        use_norm: true,
    });
    let cost = Cost { parameters: 1, decoder_parameters: 1, encoder_gflop: 0.1, step_gflop: 0.1, plain_step_gflop: 0.1 };
    ModelCard { folder, manifest, cost, device: "CPU, 1 thread".into() }
}
