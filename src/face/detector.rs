//! From the network's numbers to faces: anchors, decoding, weighted non-maximum suppression.

use std::sync::OnceLock;

use burn::tensor::{Device, Tensor, TensorData};
use image::RgbImage;
use thiserror::Error;

use super::network::{ANCHORS, BlazeFace, INPUT, VALUES};
use super::{Face, Landmarks};
use crate::checkpoint::{CheckpointError, tensors};

/// Small enough (0.2 MB) to travel inside the program, so that faces are found wherever it runs.
const WEIGHTS: &[u8] = include_bytes!("../../models/face-detector/model.safetensors");
/// Pictures that the network takes at once: bounds memory, and is enough to keep every core busy.
const BATCH: usize = 16;
/// Boxes that overlap by more than this (intersection over union) are the same face.
const SAME_FACE: f64 = 0.3;

#[derive(Debug, Error)]
pub enum FaceError {
    #[error("a network that finds faces or persons is damaged in this program: {0}. Install the program again")]
    Weights(#[from] CheckpointError),
    #[error("what was found in the photo could not be read back: {0}. Try again, or frame the face by hand")]
    ReadBack(String),
}

/// The network on the CPU. It is small: copying photos to a GPU would take longer than the work itself.
#[derive(Debug)]
pub struct Detector {
    network: BlazeFace,
    device: Device,
}

/// What the network says of one picture: logits `[896]` and boxes `[896 * 16]`.
pub type Raw = (Vec<f32>, Vec<f32>);

impl Detector {
    /// The detector that is built into the program.
    pub fn built_in() -> Result<Self, FaceError> {
        let weights = tensors::from_bytes(WEIGHTS, "the built-in face detector")?;
        let device = Device::flex();
        let network = BlazeFace::new(&weights, &device).map_err(CheckpointError::from)?;
        Ok(Self { network, device })
    }

    /// What the network says of pictures that are 128 x 128.
    pub fn raw(&self, pictures: &[RgbImage]) -> Result<Vec<Raw>, FaceError> {
        let mut out = Vec::with_capacity(pictures.len());
        for batch in pictures.chunks(BATCH) {
            let input: Vec<f32> = batch.iter().flat_map(crate::photo::to_model).collect();
            let input = Tensor::from_data(TensorData::new(input, [batch.len(), 3, INPUT, INPUT]), &self.device);
            let (scores, boxes) = self.network.forward(input);
            let (scores, boxes) = (read(scores)?, read(boxes)?);
            out.extend(scores.chunks(ANCHORS).zip(boxes.chunks(ANCHORS * VALUES)).map(|(s, b)| (s.to_vec(), b.to_vec())));
        }
        Ok(out)
    }

    /// The faces in pictures that are 128 x 128, best first, in fractions of the picture's side. `least` is the smallest score.
    pub fn detect(&self, pictures: &[RgbImage], least: f64) -> Result<Vec<Vec<Face>>, FaceError> {
        Ok(self.raw(pictures)?.iter().map(|(scores, boxes)| suppress(decode(scores, boxes, least))).collect())
    }
}

pub(super) fn read<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>, FaceError> {
    let data = tensor.try_into_data().map_err(|e| FaceError::ReadBack(format!("{e:?}")))?;
    data.convert::<f32>().try_to_vec::<f32>().map_err(|e| FaceError::ReadBack(format!("{e:?}")))
}

/// The anchors' centres in fractions of the side, in the network's order: rows of cells, at 16 x 16 and then at 8 x 8.
fn anchors() -> &'static [[f64; 2]] {
    static CENTRES: OnceLock<Vec<[f64; 2]>> = OnceLock::new();
    CENTRES.get_or_init(|| {
        let grid = |cells: usize, each: usize| {
            (0..cells * cells * each).map(move |i| {
                let cell = i / each;
                [(cell % cells) as f64 + 0.5, (cell / cells) as f64 + 0.5].map(|v| v / cells as f64)
            })
        };
        grid(16, 2).chain(grid(8, 6)).collect()
    })
}

fn decode(scores: &[f32], boxes: &[f32], least: f64) -> Vec<Face> {
    let fraction = |v: f32| f64::from(v) / INPUT as f64;
    let faces = anchors().iter().zip(scores).zip(boxes.chunks(VALUES)).filter_map(|((anchor, logit), values)| {
        let score = 1.0 / (1.0 + f64::from(-logit).exp());
        if score < least {
            return None;
        }
        let point = |i: usize| [anchor[0] + fraction(values[2 * i]), anchor[1] + fraction(values[2 * i + 1])];
        let (centre, half) = (point(0), [fraction(values[2]) / 2.0, fraction(values[3]) / 2.0]);
        Some(Face {
            score,
            left: centre[0] - half[0],
            top: centre[1] - half[1],
            right: centre[0] + half[0],
            bottom: centre[1] + half[1],
            landmarks: Landmarks {
                right_eye: point(2),
                left_eye: point(3),
                nose: point(4),
                mouth: point(5),
                right_ear: point(6),
                left_ear: point(7),
            },
        })
    });
    faces.collect()
}

/// Weighted non-maximum suppression: every group of overlapping faces becomes their mean, weighted by score, with the best score.
fn suppress(mut faces: Vec<Face>) -> Vec<Face> {
    faces.sort_by(|a, b| b.score.total_cmp(&a.score));
    let mut out = Vec::new();
    while let Some(best) = faces.first().cloned() {
        let (same, others): (Vec<Face>, Vec<Face>) = faces.into_iter().partition(|face| face.overlap(&best) > SAME_FACE);
        faces = others;
        out.push(Face { score: best.score, ..mean(&same) });
        // A box without an area overlaps nothing, not even itself.
        faces.retain(|face| *face != best);
    }
    out
}

/// The mean of faces, weighted by score; their mean score.
pub(super) fn mean(faces: &[Face]) -> Face {
    let total: f64 = faces.iter().map(|f| f.score).sum();
    let of = |value: &dyn Fn(&Face) -> f64| faces.iter().map(|f| f.score * value(f)).sum::<f64>() / total;
    let point = |value: &dyn Fn(&Face) -> [f64; 2]| [of(&|f| value(f)[0]), of(&|f| value(f)[1])];
    Face {
        score: total / faces.len() as f64,
        left: of(&|f| f.left),
        top: of(&|f| f.top),
        right: of(&|f| f.right),
        bottom: of(&|f| f.bottom),
        landmarks: Landmarks {
            right_eye: point(&|f| f.landmarks.right_eye),
            left_eye: point(&|f| f.landmarks.left_eye),
            nose: point(&|f| f.landmarks.nose),
            mouth: point(&|f| f.landmarks.mouth),
            right_ear: point(&|f| f.landmarks.right_ear),
            left_ear: point(&|f| f.landmarks.left_ear),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn face(left: f64, score: f64) -> Face {
        let points = Landmarks::from([[left, 0.5]; 6]);
        Face { score, left, top: 0.0, right: left + 1.0, bottom: 1.0, landmarks: points }
    }

    #[test]
    fn overlapping_faces_are_averaged_by_score() {
        let found = suppress(vec![face(0.1, 0.3), face(5.0, 0.5), face(0.0, 0.9)]);
        assert_eq!(found.len(), 2);
        assert!((found[0].left - 0.025).abs() < 1e-12 && (found[0].landmarks.nose[0] - 0.025).abs() < 1e-12);
        assert_eq!((found[0].score, found[1].score), (0.9, 0.5));
    }

    #[test]
    fn a_face_without_an_area_is_kept_once() {
        let mut flat = face(0.2, 0.7);
        flat.right = flat.left;
        assert!(suppress(vec![flat]).len() <= 1);
    }

    #[test]
    fn anchors_lie_on_both_grids() {
        assert_eq!(anchors().len(), ANCHORS);
        assert_eq!((anchors()[0], anchors()[2]), ([0.5 / 16.0; 2], [1.5 / 16.0, 0.5 / 16.0]));
        assert_eq!((anchors()[512], anchors()[895]), ([0.5 / 8.0; 2], [7.5 / 8.0; 2]));
    }
}
