//! Faces of every size and tilt in a whole photo.
//!
//! The network sees 128 x 128 pixels and is sure of faces whose eyes are 8 to 50 of them apart. So it looks at squares of halving
//! sizes, which overlap enough for every face to lie whole in one of them. What it finds there is looked at again, upright and in
//! the middle of a square of its own: that tells faces from mere likenesses, and makes the points as exact as they get, since the
//! network then sees every face alike, whatever its size and tilt in the photo.

use std::f64::consts::FRAC_PI_4;

use super::detector::{Detector, FaceError, mean};
use super::network::INPUT;
use super::{Face, Landmarks};
use crate::photo::{Border, Fit, Frame, Photo, Pyramid};

/// Score from which a face in the wide view is worth a second look.
const CANDIDATE: f64 = 0.4;
/// Score that the second look must give.
const FOUND: f64 = 0.75;
/// Residual of the fit to the template above which it is no face. Faces in profile stay below.
const MISSHAPEN: f64 = 2.0 * Fit::POOR;
/// Side of the largest square in the photo's longer side: room around a face that fills the photo.
const WIDEST: f64 = 1.6;
/// Side of the smallest square in pixels, for eyes 24 pixels apart.
const SMALLEST: f64 = 352.0;
/// The smallest square in the photo's longer side: bounds the time that large photos take. Eyes 1 % of the side apart are found.
const FINEST: f64 = 1.0 / 7.0;
/// The smallest turned square in the longer side. The network itself copes with 60 degrees of tilt, so turned squares are for heads
/// that lie on their side, and those are large in photos of faces.
const FINEST_TURNED: f64 = 0.4;
/// From one square to the next, in their side. What is left as overlap holds a face with its eyes 14 of 128 pixels apart; larger
/// ones are sure to be found in the next larger squares.
const STRIDE: f64 = 0.7;
/// Smaller squares are left out once a face is found with eyes further apart than this share of their side: what is still to be
/// found is then less than a quarter as large.
const ENOUGH: f64 = 0.44;
/// Side of the square of the second look in eye distances, and the three that are averaged in the end.
const CLOSE: f64 = 5.0;
const CLOSE_UPS: [f64; 3] = [0.85, 1.0, 1.15];
/// A photo with more faces than this is a crowd, where nobody wants to choose among them.
const MOST: usize = 64;

/// All faces in a photo, best first. Upright faces first; only where there is none, faces tilted beyond what the network itself
/// recognises (60 degrees) are searched for.
pub fn find(detector: &Detector, photo: &Photo) -> Result<Vec<Face>, FaceError> {
    let pixels = photo.srgb_pixels();
    let search = Search { detector, pyramid: Pyramid::new(&pixels, INPUT as u32), size: [photo.width(), photo.height()].map(f64::from) };
    for (angles, finest) in [(&[0.0][..], FINEST), (&[FRAC_PI_4, -FRAC_PI_4], FINEST_TURNED)] {
        let faces = search.at_angles(angles, finest)?;
        if !faces.is_empty() {
            return Ok(faces);
        }
    }
    Ok(Vec::new())
}

struct Search<'a> {
    detector: &'a Detector,
    pyramid: Pyramid<'a>,
    /// Width and height in pixels.
    size: [f64; 2],
}

impl Search<'_> {
    fn at_angles(&self, angles: &[f64], finest: f64) -> Result<Vec<Face>, FaceError> {
        let longer = self.size[0].max(self.size[1]);
        let smallest = SMALLEST.max(longer * finest);
        let mut side = longer * WIDEST;
        let mut faces: Vec<Face> = Vec::new();
        loop {
            let squares: Vec<Frame> = angles.iter().flat_map(|angle| squares(self.size, side, *angle)).collect();
            let seen = self.look(&squares, CANDIDATE)?;
            let candidates = squares.iter().zip(seen).flat_map(|(square, faces)| faces.into_iter().map(|face| in_photo(face, square)));
            for face in self.look_closer(distinct(candidates.collect()))? {
                add(&mut faces, face);
            }
            let widest_eyes = faces.iter().map(|f| f.landmarks.eye_distance()).fold(0.0, f64::max);
            let last = side <= smallest;
            side = (side / 2.0).max(smallest);
            if last || side * ENOUGH < widest_eyes {
                faces.sort_by(|a, b| b.score.total_cmp(&a.score));
                return Ok(faces);
            }
        }
    }

    fn look(&self, squares: &[Frame], least: f64) -> Result<Vec<Vec<Face>>, FaceError> {
        let pictures: Vec<_> = squares.iter().map(|s| self.pyramid.resample(*s, INPUT as u32, Border::Black)).collect();
        self.detector.detect(&pictures, least)
    }

    /// Each face again, upright and in the middle; those that do not hold up are dropped.
    fn look_closer(&self, candidates: Vec<Face>) -> Result<Vec<Face>, FaceError> {
        let squares: Vec<Frame> = candidates.iter().map(|face| close_up(&face.landmarks, 1.0)).collect();
        let seen = self.look(&squares, CANDIDATE)?;
        let centred = squares.iter().zip(seen).filter_map(|(square, faces)| central(faces, square));
        let centred = distinct(centred.collect());

        let squares: Vec<Frame> = centred.iter().flat_map(|face| CLOSE_UPS.map(|scale| close_up(&face.landmarks, scale))).collect();
        let seen = self.look(&squares, CANDIDATE)?;
        let views: Vec<Option<Face>> = squares.iter().zip(seen).map(|(square, faces)| central(faces, square)).collect();
        let faces = views.chunks(CLOSE_UPS.len()).filter_map(|views| {
            let views: Option<Vec<Face>> = views.iter().cloned().collect();
            views.map(|views| mean(&views))
        });
        Ok(faces.filter(|face| face.score >= FOUND && face.fit().residual < MISSHAPEN).collect())
    }
}

/// Squares that cover a photo of this size with overlap. Turned ones are narrower where they meet, so they lie closer.
fn squares(size: [f64; 2], side: f64, angle: f64) -> Vec<Frame> {
    let stride = side * if angle == 0.0 { STRIDE } else { STRIDE / 2f64.sqrt() };
    let centres = |length: f64| {
        let steps = ((length - side) / stride).ceil().max(0.0);
        (0..=steps as usize).map(move |i| match steps {
            0.0 => length / 2.0,
            _ => side / 2.0 + (length - side) * i as f64 / steps,
        })
    };
    centres(size[1]).flat_map(|y| centres(size[0]).map(move |x| Frame { centre: [x, y], side, angle })).collect()
}

/// The square of the second look, upright around eyes and mouth.
fn close_up(points: &Landmarks, scale: f64) -> Frame {
    let middle = |a: [f64; 2], b: [f64; 2]| [(a[0] + b[0]) / 2.0, (a[1] + b[1]) / 2.0];
    let between = middle(points.right_eye, points.left_eye);
    // In profile the eyes meet; the height of the face does not shrink.
    let height = (points.mouth[0] - between[0]).hypot(points.mouth[1] - between[1]);
    let size = points.eye_distance().max(0.9 * height).max(1.0);
    Frame { centre: middle(between, points.mouth), side: CLOSE * size * scale, angle: points.tilt() }
}

/// The best face whose box holds the middle of the square.
fn central(faces: Vec<Face>, square: &Frame) -> Option<Face> {
    let holds_middle = |f: &Face| f.left < 0.5 && f.right > 0.5 && f.top < 0.5 && f.bottom > 0.5;
    faces.into_iter().find(holds_middle).map(|face| in_photo(face, square))
}

/// A face in fractions of a square to pixels of the photo. The box stays upright, around the four turned corners.
fn in_photo(face: Face, square: &Frame) -> Face {
    let corners = [[face.left, face.top], [face.right, face.top], [face.right, face.bottom], [face.left, face.bottom]];
    let corners = corners.map(|corner| square.point(corner));
    let least = |k: usize| corners.iter().map(|c| c[k]).fold(f64::INFINITY, f64::min);
    let most = |k: usize| corners.iter().map(|c| c[k]).fold(f64::NEG_INFINITY, f64::max);
    Face {
        score: face.score,
        left: least(0),
        top: least(1),
        right: most(0),
        bottom: most(1),
        landmarks: face.landmarks.map(|p| square.point(p)),
    }
}

/// Whether two findings are one face: their noses are closer than the eyes of either.
fn same(a: &Face, b: &Face) -> bool {
    let [dx, dy] = [0, 1].map(|k| a.landmarks.nose[k] - b.landmarks.nose[k]);
    dx.hypot(dy) < 0.8 * a.landmarks.eye_distance().max(b.landmarks.eye_distance())
}

/// Adds a face, or keeps the better of it and one that is there already.
fn add(faces: &mut Vec<Face>, face: Face) {
    match faces.iter_mut().find(|known| same(known, &face)) {
        Some(known) if known.score < face.score => *known = face,
        Some(_) => {}
        None => faces.push(face),
    }
}

fn distinct(mut faces: Vec<Face>) -> Vec<Face> {
    faces.sort_by(|a, b| b.score.total_cmp(&a.score));
    let mut out = Vec::new();
    faces.into_iter().for_each(|face| add(&mut out, face));
    out.truncate(MOST);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every point of the photo lies well inside some square: half the overlap away from its border.
    #[test]
    fn squares_cover_the_photo() {
        for (size, side, angle) in [([900.0, 600.0], 200.0, 0.0), ([640.0, 2000.0], 384.0, 0.0), ([900.0, 600.0], 200.0, FRAC_PI_4)] {
            let squares = squares(size, side, angle);
            for i in 0..=40 {
                for j in 0..=40 {
                    let p = [size[0] * f64::from(i) / 40.0, size[1] * f64::from(j) / 40.0];
                    let inside = |s: &Frame| s.locate(p).iter().all(|v| (-1e-9..=1.0 + 1e-9).contains(v));
                    assert!(squares.iter().any(inside) || angle != 0.0 && near_corner(p, size, side), "{p:?} of {size:?}");
                }
            }
        }
    }

    /// Turned squares leave out the photo's very corners.
    fn near_corner(p: [f64; 2], size: [f64; 2], side: f64) -> bool {
        [0, 1].iter().any(|&k| p[k].min(size[k] - p[k]) < side / 2.0)
    }
}
