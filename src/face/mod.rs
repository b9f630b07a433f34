//! Finding faces in photos.
//!
//! - [`network`]: the published BlazeFace network. [`detector`]: its numbers turned into faces.
//! - [`search`]: a whole photo, with faces of every size and tilt.
//! - [`person`]: which part of a picture shows a person, and which what is behind.

pub mod detector;
pub mod network;
pub mod person;
pub mod search;

pub use detector::{Detector, FaceError};
pub use search::find;

use crate::photo::{Fit, Frame};

/// A face: how sure the detector is, the box around it, and six points. In pixels of the photo from its upper left corner (or in
/// fractions of the network's input, as long as it has not left the detector).
#[derive(Debug, Clone, PartialEq)]
pub struct Face {
    /// 0 to 1.
    pub score: f64,
    pub left: f64,
    pub top: f64,
    pub right: f64,
    pub bottom: f64,
    pub landmarks: Landmarks,
}

/// Points as `[x, y]`. Right and left are the person's own: the right eye is on the left in a picture.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Landmarks {
    pub right_eye: [f64; 2],
    pub left_eye: [f64; 2],
    /// The tip.
    pub nose: [f64; 2],
    /// The centre.
    pub mouth: [f64; 2],
    /// In front of the ear, at the cheek bone.
    pub right_ear: [f64; 2],
    pub left_ear: [f64; 2],
}

impl From<[[f64; 2]; 6]> for Landmarks {
    fn from([right_eye, left_eye, nose, mouth, right_ear, left_ear]: [[f64; 2]; 6]) -> Self {
        Self { right_eye, left_eye, nose, mouth, right_ear, left_ear }
    }
}

impl Landmarks {
    /// Every point moved.
    pub fn map(self, f: impl Fn([f64; 2]) -> [f64; 2]) -> Self {
        Self::from([self.right_eye, self.left_eye, self.nose, self.mouth, self.right_ear, self.left_ear].map(f))
    }

    /// Between the eyes.
    pub fn eye_distance(&self) -> f64 {
        (self.left_eye[0] - self.right_eye[0]).hypot(self.left_eye[1] - self.right_eye[1])
    }

    /// The direction from the right to the left eye in radians: 0 is upright, positive turns clockwise.
    pub fn tilt(&self) -> f64 {
        (self.left_eye[1] - self.right_eye[1]).atan2(self.left_eye[0] - self.right_eye[0])
    }
}

impl Face {
    /// Intersection over union of the boxes.
    pub fn overlap(&self, other: &Self) -> f64 {
        let width = (self.right.min(other.right) - self.left.max(other.left)).max(0.0);
        let height = (self.bottom.min(other.bottom) - self.top.max(other.top)).max(0.0);
        let area = |f: &Self| (f.right - f.left) * (f.bottom - f.top);
        let both = width * height;
        if both > 0.0 { both / (area(self) + area(other) - both) } else { 0.0 }
    }

    /// The square in which the model expects this face.
    pub fn fit(&self) -> Fit {
        let Landmarks { right_eye, left_eye, nose, mouth, .. } = self.landmarks;
        Frame::from_landmarks([right_eye, left_eye, nose, mouth])
    }
}
