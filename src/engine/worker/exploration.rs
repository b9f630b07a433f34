//! A grid of made-up faces, one after the other.

use std::sync::Arc;

use image::DynamicImage;

use super::{Frame, Photo, Reading, Worker};
use crate::engine::edit::{Decode, EditError};
use crate::engine::exploration::{SampleRequest, SampleSource, Seedling};
use crate::engine::interpolation::{Detail, compose};
use crate::engine::view::Settings;
use crate::engine::{Event, Job, PhotoId};
use crate::photo::xmp::DigitalSource;
use crate::photo::{PhotoError, from_model, to_model};

/// The grid that was asked for last.
#[derive(Default)]
pub(super) struct Sampling {
    request: Option<SampleRequest>,
    active: Option<Active>,
    /// What was decoded so far, of the grid of this generation.
    faces: Vec<Face>,
    generation: u64,
}

#[expect(clippy::large_enum_variant, reason = "there is one at a time")]
enum Active {
    /// How the photo decodes without an edit; variations are put back as their difference from it.
    Base {
        photo: PhotoId,
        settings: Settings,
        decode: Decode,
    },
    Face {
        seedling: Seedling,
        decode: Decode,
    },
}

struct Face {
    seedling: Seedling,
    /// As it is shown.
    image: Arc<image::RgbImage>,
    made_by: DigitalSource,
}

impl Sampling {
    pub fn has_work(&self) -> bool {
        self.request.is_some()
    }

    /// Whether it varies this photo.
    pub fn is_of(&self, id: PhotoId) -> bool {
        self.request.as_ref().is_some_and(|request| matches!(request.source, SampleSource::Variations { photo, .. } if photo == id))
    }

    pub fn start(&mut self, request: SampleRequest) {
        *self = Self { generation: request.generation, request: Some(request), active: None, faces: Vec::new() };
    }

    /// Keeps the faces that are there.
    pub fn stop(&mut self) {
        (self.request, self.active) = (None, None);
    }
}

impl Worker {
    pub(super) fn step_sampling(&mut self) -> Result<(), EditError> {
        if self.sampling.active.is_none() {
            let Some(active) = self.start_face()? else { return Ok(()) };
            self.sampling.active = Some(active);
        }
        let (Some(editor), Some(active)) = (&self.editor, &mut self.sampling.active) else { return Ok(()) };
        let (Active::Base { decode, .. } | Active::Face { decode, .. }) = active;
        if editor.step(decode) {
            return Ok(());
        }
        match self.sampling.active.take() {
            Some(Active::Base { photo, settings, decode }) => {
                let base = editor.pictures(decode)?.into_iter().next();
                if let (Some(i), Some(base)) = (self.index(photo), base) {
                    self.photos[i].view.set_base(settings, base);
                }
                Ok(())
            }
            Some(Active::Face { seedling, decode }) => self.finish_face(seedling, decode),
            None => Ok(()),
        }
    }

    fn start_face(&mut self) -> Result<Option<Active>, EditError> {
        let (Some(editor), Some(request)) = (&self.editor, &self.sampling.request) else { return Err(EditError::NoModel) };
        let seed = request.seed.wrapping_add(self.sampling.faces.len() as u64);
        let seedling = match &request.source {
            SampleSource::Unconditional => editor.unconditional(seed, request.steps)?,
            SampleSource::Variations { photo, recipe, amount } => {
                let Some(i) = self.index(*photo) else {
                    self.abandon(Job::Sampling);
                    return Ok(None);
                };
                if !self.photos[i].latents.inferred {
                    self.step_needed_inversion(i)?;
                    return Ok(None);
                }
                let open = &self.photos[i];
                let settings = Settings::new(recipe, request.steps, true);
                if !open.view.has_base(settings) {
                    let decode = editor.decode_unedited(&open.latents, recipe, request.steps);
                    return Ok(Some(Active::Base { photo: *photo, settings, decode }));
                }
                editor.variation(&open.latents, recipe, *amount, seed, request.steps)?
            }
        };
        let decode = editor.grow(&seedling);
        Ok(Some(Active::Face { seedling, decode }))
    }

    fn finish_face(&mut self, seedling: Seedling, decode: Decode) -> Result<(), EditError> {
        let (Some(editor), Some(request)) = (&self.editor, &self.sampling.request) else { return Ok(()) };
        let Some(decoded) = editor.pictures(decode)?.into_iter().next() else { return Ok(()) };
        let (image, made_by) = match &request.source {
            SampleSource::Unconditional => (from_model(&decoded, editor.size()), DigitalSource::TrainedAlgorithmicMedia),
            SampleSource::Variations { photo, recipe, .. } => {
                let settings = Settings::new(recipe, request.steps, true);
                let open = self.index(*photo).map(|i| &self.photos[i]);
                let detail = open.and_then(|open| Some(Detail { weight: 1.0, photo: open.view.cut(), rebuilt: open.view.base(settings)? }));
                // Of a made-up face there is no photo in it either.
                let made_by = open.and_then(|open| open.photo.made_by).unwrap_or(DigitalSource::CompositeWithTrainedAlgorithmicMedia);
                // With the photo's own detail.
                (compose(&decoded, editor.size(), detail.as_slice()), made_by)
            }
        };
        let (generation, total, index, image) = (request.generation, request.count, self.sampling.faces.len(), Arc::new(image));
        self.sampling.faces.push(Face { seedling, image: image.clone(), made_by });
        self.tell(Event::Sampled { generation, index, image });
        if index + 1 == total {
            self.sampling.stop();
            self.tell(Event::Finished { job: Job::Sampling });
        } else {
            self.tell(Event::Progress { job: Job::Sampling, done: index + 1, total });
        }
        Ok(())
    }

    /// Opens a face of the grid as a photo whose latents are known.
    pub(super) fn open_sample(&mut self, id: PhotoId, generation: u64, index: usize) -> Result<(), EditError> {
        let face = self.sampling.faces.get(index).filter(|_| self.sampling.generation == generation);
        let (Some(editor), Some(Face { seedling, image, made_by })) = (&self.editor, face) else {
            // Of a model before.
            self.tell(Event::Cancelled { job: Job::OpeningPhoto });
            return Ok(());
        };
        let name = format!("Face {}", index + 1);
        let mut photo = Photo::from_image(DynamicImage::ImageRgb8((**image).clone()), &name).map_err(|error: PhotoError| error)?;
        photo.made_by = Some(*made_by);
        let frame = Frame::centre(&photo);
        let latents = editor.adopt(seedling, to_model(&editor.cut(&photo, frame)));
        self.add_photo(id, photo, Reading { faces: Arc::new([]), frame, latents, inversion: None }, None);
        Ok(())
    }
}
