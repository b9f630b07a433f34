//! Which part of a photo is edited, on the command line.

use clap::{Args, ValueEnum};
use thiserror::Error;

use super::numbers;
use crate::engine::edit::{EditError, Editor};
use crate::photo::{Frame, Photo, Upsampling};

#[derive(Debug, Args)]
pub struct FramingArgs {
    /// Which face to edit, where there are several: 1 is the one that is found most surely
    /// [default: that of the recipe, on the photo it was made for; else 1].
    #[arg(long, value_name = "N", value_parser = numbers::at_least_one::<u32>)]
    face: Option<u32>,
    /// Don't look for a face: edit the square in the middle of the photo.
    #[arg(long, conflicts_with = "face")]
    no_align: bool,
    /// How the change gets to the photo's size: its fine detail is adapted to the change (guided) or left as it is (smooth).
    /// [default: guided]
    #[arg(long, value_enum)]
    upsampling: Option<UpsamplingArg>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum UpsamplingArg {
    Guided,
    Smooth,
}

#[derive(Debug, Error)]
pub enum FramingError {
    #[error("there is no face {wanted} in {name}: {found} found. Choose another with --face")]
    NoSuchFace { name: String, wanted: u32, found: String },
    #[error(transparent)]
    Edit(#[from] EditError),
}

impl FramingArgs {
    /// Whether nothing was asked for.
    pub fn is_default(&self) -> bool {
        self.face.is_none() && !self.no_align
    }

    pub fn upsampling(&self) -> Option<Upsampling> {
        self.upsampling.map(|upsampling| match upsampling {
            UpsamplingArg::Guided => Upsampling::Guided,
            UpsamplingArg::Smooth => Upsampling::Smooth,
        })
    }

    /// The frame to edit. What a person should know about it goes to `warnings`.
    pub fn frame(&self, editor: &Editor, photo: &Photo, warnings: &mut Vec<String>) -> Result<Frame, FramingError> {
        if self.no_align {
            return Ok(Frame::centre(photo));
        }
        let faces = editor.find_faces(photo)?;
        let wanted = self.face.unwrap_or(1);
        let Some(face) = faces.get(wanted as usize - 1) else {
            if wanted > 1 {
                let found = match faces.len() {
                    1 => "1 was".to_owned(),
                    n => format!("{n} were"),
                };
                return Err(FramingError::NoSuchFace { name: photo.name.clone(), wanted, found });
            }
            warnings
                .push("no face was found: the square in the middle is edited. Crop the photo around the face for a better result".into());
            return Ok(Frame::centre(photo));
        };
        let fit = face.fit();
        if fit.is_poor() {
            warnings.push("the face is turned far to the side or partly hidden: expect a weaker result".into());
        }
        Ok(fit.frame)
    }
}
