//! Finding faces, aligning them, and putting an edit back through the transform.

use std::path::{Path, PathBuf};

use image::{DynamicImage, Rgb, RgbImage, imageops};
use pdae_studio::face::person::{PersonMask, reach};
use pdae_studio::face::{Detector, Face, find};
use pdae_studio::photo::frame::TEMPLATE;
use pdae_studio::photo::{Fit, Frame, Photo, Pixels, Upsampling, put_back, to_model};
use proptest::prelude::*;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use safetensors::SafeTensors;

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn portrait(name: &str) -> Photo {
    Photo::open(&here("assets/portraits").join(name)).unwrap()
}

fn photo(pixels: RgbImage) -> Photo {
    Photo::from_image(DynamicImage::ImageRgb8(pixels), "test").unwrap()
}

const PORTRAITS: [&str; 3] = ["sample.jpg", "obama.jpg", "biden.jpg"];

// --- the network ---

#[test]
fn the_network_agrees_with_the_original() {
    let bytes = std::fs::read(here("tests/golden/face/short-range.safetensors")).unwrap();
    let golden = SafeTensors::deserialize(&bytes).unwrap();
    let floats = |name: &str| -> Vec<f32> {
        golden.tensor(name).unwrap().data().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
    };
    let image = RgbImage::from_raw(128, 128, golden.tensor("image").unwrap().data().to_vec()).unwrap();
    // In a batch with another picture: pictures don't influence each other.
    let other = RgbImage::from_pixel(128, 128, Rgb([90, 60, 200]));
    let found = Detector::built_in().unwrap().raw(&[other, image]).unwrap();
    let furthest = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    let (scores, boxes) = (&found[1].0, &found[1].1);
    assert_eq!((scores.len(), boxes.len()), (896, 896 * 16));
    let (scores, boxes) = (furthest(scores, &floats("scores")), furthest(boxes, &floats("boxes")));
    // Logits reach 100 and boxes 128 pixels.
    assert!(scores < 2e-3 && boxes < 2e-3, "off by {scores} in the logits and {boxes} pixels in the boxes");
}

#[test]
fn the_person_mask_agrees_with_the_original() {
    let bytes = std::fs::read(here("tests/golden/face/person.safetensors")).unwrap();
    let golden = SafeTensors::deserialize(&bytes).unwrap();
    let image = RgbImage::from_raw(128, 128, golden.tensor("image").unwrap().data().to_vec()).unwrap();
    let doubled = RgbImage::from_fn(256, 256, |x, y| *image.get_pixel(x / 2, y / 2));
    let mask = PersonMask::built_in().unwrap().of(&doubled).unwrap();
    let original = golden.tensor("mask").unwrap();
    let original: Vec<f32> = original.data().as_chunks::<2>().0.iter().map(|b| half::f16::from_le_bytes(*b).to_f32()).collect();
    assert_eq!(mask.len(), original.len());
    let furthest = mask.iter().zip(&original).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    // The original is kept in 16-bit floats.
    assert!(furthest < 2e-3, "off by {furthest}");
    let share = original.iter().sum::<f32>() / original.len() as f32;
    assert!((0.3..0.7).contains(&share), "there is a person, and something behind: {share}");
}

#[test]
fn edits_reach_the_person_and_not_what_is_behind() {
    let size = 64;
    for name in PORTRAITS {
        let photo = portrait(name);
        let faces = find(&Detector::built_in().unwrap(), &photo).unwrap();
        let reach = reach(&photo.srgb_pixels(), faces[0].fit().frame, size).unwrap();
        let at = |x: usize, y: usize| reach[y * size as usize + x];
        assert!(reach.iter().all(|share| (0.0..=1.0).contains(share)));
        assert!([(24, 31), (40, 31), (32, 40), (32, 48)].into_iter().all(|(x, y)| at(x, y) == 1.0), "{name}: eyes, nose and mouth");
        assert!([(1, 1), (62, 1), (1, 20), (62, 20)].into_iter().all(|(x, y)| at(x, y) < 0.05), "{name}: behind the head");
    }
}

#[test]
fn a_face_is_within_reach_where_nobody_is_seen() {
    let stripes = photo(RgbImage::from_fn(200, 200, |x, y| Rgb([(x * 11 % 256) as u8, (y * 7 % 256) as u8, 90])));
    let reach = reach(&stripes.srgb_pixels(), Frame::centre(&stripes), 32).unwrap();
    assert_eq!(reach[20 * 32 + 16], 1.0, "the middle of the face");
    assert!(reach.iter().sum::<f32>() < 0.5 * 32.0 * 32.0, "not everything is");
}

// --- finding ---

/// `source` on a canvas, so that `source`'s point p comes to lie at `place.point(p / size)`.
fn compose(source: &Photo, place: Frame, canvas: RgbImage) -> Photo {
    let (width, height) = (f64::from(source.width()), f64::from(source.height()));
    let mut out = canvas;
    // Small pictures are averaged before they are placed, as a camera would.
    let factor = (width / place.side).floor().max(1.0) as u32;
    let small = imageops::thumbnail(&*source.srgb_pixels(), source.width() / factor, source.height() / factor);
    for (x, y, pixel) in out.enumerate_pixels_mut() {
        let [u, v] = place.locate([f64::from(x) + 0.5, f64::from(y) + 0.5]);
        let v = v * width / height;
        if let Some(p) =
            imageops::sample_bilinear(&small, u as f32, v as f32).filter(|_| (0.0..1.0).contains(&u) && (0.0..1.0).contains(&v))
        {
            *pixel = Rgb([p.0[0], p.0[1], p.0[2]]);
        }
    }
    photo(out)
}

fn plain(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| Rgb([(110 + 40 * x / width) as u8, (120 + 30 * y / height) as u8, 130]))
}

/// Mean distance of points all over the inner square between two frames, in percent of the side.
fn distance(a: Frame, b: Frame) -> f64 {
    let points = [[0.2, 0.2], [0.8, 0.2], [0.2, 0.8], [0.8, 0.8]];
    let off = |p| {
        let (a, b): ([f64; 2], [f64; 2]) = (a.point(p), b.point(p));
        (a[0] - b[0]).hypot(a[1] - b[1])
    };
    points.map(off).iter().sum::<f64>() / 4.0 / b.side * 100.0
}

/// A frame of `source` as it lies in a composed photo.
fn carried(frame: Frame, source: &Photo, place: Frame) -> Frame {
    let size = f64::from(source.width());
    let centre = place.point(frame.centre.map(|v| v / size));
    Frame { centre, side: frame.side * place.side / size, angle: frame.angle + place.angle }
}

fn aligned(faces: &[Face]) -> Frame {
    faces[0].fit().frame
}

#[test]
fn the_portraits_are_found_and_aligned() {
    let detector = Detector::built_in().unwrap();
    for name in PORTRAITS {
        let photo = portrait(name);
        let faces = find(&detector, &photo).unwrap();
        assert_eq!(faces.len(), 1, "{name}");
        let Fit { frame, residual } = faces[0].fit();
        println!("{name}: score {:.2}, {frame:?}, residual {residual:.3}", faces[0].score);
        assert!(faces[0].score > 0.8 && residual < 0.06, "{name}: {:?}", faces[0]);
        // The pictures were cropped by hand to roughly what the model expects; one head is tilted.
        assert!(distance(frame, Frame::centre(&photo)) < 12.0 && frame.angle.abs() < 0.2, "{name}: {frame:?}");
    }
}

/// Tilted, small, large and off-centre copies of the portraits, at known places, must be framed as the portraits themselves are.
#[test]
fn alignment_follows_known_transforms() {
    let detector = Detector::built_in().unwrap();
    let mut rng = StdRng::seed_from_u64(1);
    let mut errors = Vec::new();
    for name in PORTRAITS {
        let source = portrait(name);
        let alone = find(&detector, &source).unwrap();
        let (frame, eyes) = (aligned(&alone), alone[0].landmarks.eye_distance() / f64::from(source.width()));
        // Degrees, eyes in pixels, canvas.
        let cases = [
            (0.0, 24.0, [2000, 1500]),
            (45.0, 24.0, [2000, 1500]),
            (-45.0, 30.0, [2000, 1500]),
            (20.0, 60.0, [1500, 2000]),
            (-30.0, 100.0, [1200, 900]),
            (45.0, 120.0, [1200, 900]),
            (-45.0, 200.0, [1600, 1200]),
            (10.0, 330.0, [1200, 1000]),
            (0.0, 400.0, [1000, 1000]),
        ];
        for (degrees, eye_distance, [width, height]) in cases {
            let side = eye_distance / eyes;
            let reach = |length: u32| {
                let room = (f64::from(length) - side * 0.7).max(0.0) / 2.0;
                f64::from(length) / 2.0 + if room > 0.0 { rng.random_range(-room..room) } else { 0.0 }
            };
            let centre = [width, height].map(reach);
            let place = Frame { centre, side, angle: f64::to_radians(degrees) };
            let faces = find(&detector, &compose(&source, place, plain(width, height))).unwrap();
            assert_eq!(faces.len(), 1, "{name} at {degrees} degrees, eyes {eye_distance} pixels apart");
            let error = distance(aligned(&faces), carried(frame, &source, place));
            println!(
                "{name} at {degrees} degrees, eyes {eye_distance} pixels apart: {error:.2} % of the side, score {:.2}",
                faces[0].score
            );
            errors.push(error);
        }
    }
    let mean = errors.iter().sum::<f64>() / errors.len() as f64;
    println!("mean alignment error: {mean:.2} % of the side");
    assert!(mean < 2.0, "mean alignment error {mean:.2} % of the side");
    assert!(errors.iter().all(|e| *e < 6.0), "{errors:?}");
}

/// Points that a detector gets wrong by half a percent of the side (one standard deviation), 2 % of the eyes' distance, under known shifts, scales and turns.
#[test]
fn alignment_withstands_jittered_landmarks() {
    let mut rng = StdRng::seed_from_u64(3);
    let mut errors = Vec::new();
    for _ in 0..500 {
        let place = Frame {
            centre: [rng.random_range(0.0..4000.0), rng.random_range(0.0..3000.0)],
            side: rng.random_range(60.0..3000.0),
            angle: rng.random_range(-3.1..3.1),
        };
        let mut jitter = || {
            // Box and Muller.
            let (radius, angle) = ((-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt(), std::f64::consts::TAU * rng.random::<f64>());
            [0.005 * radius * angle.cos(), 0.005 * radius * angle.sin()]
        };
        let points = TEMPLATE.map(|[u, v]| {
            let [du, dv] = jitter();
            place.point([u + du, v + dv])
        });
        let fit = Frame::from_landmarks(points);
        assert!(!fit.is_poor(), "{fit:?}");
        errors.push(distance(fit.frame, place));
    }
    let mean = errors.iter().sum::<f64>() / errors.len() as f64;
    println!("mean alignment error with points off by 0.5 % of the side: {mean:.2} % of the side");
    assert!(mean < 2.0, "mean alignment error {mean:.2} % of the side");
}

#[test]
fn all_faces_are_found_best_first() {
    let detector = Detector::built_in().unwrap();
    let mut canvas = plain(1600, 900);
    let places = [[300.0, 400.0], [800.0, 500.0], [1300.0, 420.0]];
    for (name, centre) in PORTRAITS.into_iter().zip(places) {
        let place = Frame { centre, side: 420.0, angle: 0.2 };
        canvas = DynamicImage::ImageRgba8(compose(&portrait(name), place, canvas).srgb_pixels().into_owned()).into_rgb8();
    }
    let faces = find(&detector, &photo(canvas)).unwrap();
    assert_eq!(faces.len(), 3);
    assert!(faces.windows(2).all(|w| w[0].score >= w[1].score));
    for centre in places {
        assert!(faces.iter().any(|f| f.left < centre[0] && centre[0] < f.right && f.top < centre[1] && centre[1] < f.bottom));
    }
}

#[test]
fn nothing_is_found_where_there_is_no_face() {
    let detector = Detector::built_in().unwrap();
    let mut rng = StdRng::seed_from_u64(2);
    let noise = RgbImage::from_fn(700, 500, |_, _| Rgb(rng.random()));
    // A sky over rolling hills with a sun.
    let landscape = RgbImage::from_fn(1400, 900, |x, y| {
        let (x, y) = (f64::from(x), f64::from(y));
        let sun = (x - 1000.0).hypot(y - 200.0) < 60.0;
        let hill = y > 520.0 + 60.0 * (x / 170.0).sin() + 25.0 * (x / 41.0).cos();
        match (sun, hill) {
            (true, _) => Rgb([255, 240, 180]),
            (_, true) => Rgb([(60.0 + 30.0 * (x / 13.0).sin()) as u8, (120.0 - y / 20.0) as u8, 50]),
            _ => Rgb([(90.0 + y / 6.0) as u8, (140.0 + y / 8.0) as u8, 235]),
        }
    });
    let blots = RgbImage::from_fn(640, 640, |x, y| Rgb([((x as f64 / 31.0).sin() * (y as f64 / 23.0).cos() * 127.0 + 128.0) as u8; 3]));
    for (name, picture) in [("noise", noise), ("gradient", plain(900, 600)), ("landscape", landscape), ("blots", blots)] {
        let faces = find(&detector, &photo(picture)).unwrap();
        assert!(faces.is_empty(), "{name}: {faces:?}");
    }
}

// --- the frame ---

/// Smooth, so that resampling it is no question of taste.
fn waves(width: u32, height: u32) -> Photo {
    photo(RgbImage::from_fn(width, height, |x, y| {
        let wave = |a: f64, b: f64| (127.5 + 100.0 * (f64::from(x) / a).sin() * (f64::from(y) / b).cos()) as u8;
        Rgb([wave(23.0, 31.0), wave(41.0, 19.0), wave(29.0, 37.0)])
    }))
}

fn frames() -> impl Strategy<Value = Frame> {
    (20.0..230.0f64, 20.0..180.0f64, 20.0..400.0f64, -3.1..3.1f64).prop_map(|(x, y, side, angle)| Frame { centre: [x, y], side, angle })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn locating_is_the_inverse_of_placing(frame in frames(), u in -1.0..2.0f64, v in -1.0..2.0f64) {
        let [a, b] = frame.locate(frame.point([u, v]));
        prop_assert!((a - u).abs() < 1e-9 && (b - v).abs() < 1e-9);
    }

    #[test]
    fn landmarks_on_the_template_give_their_frame(frame in frames()) {
        // The template's own points, wherever they are: those of the unit frame.
        let unit = Frame::from_landmarks([[0.37, 0.48], [0.62, 0.48], [0.50, 0.64], [0.50, 0.75]]);
        let moved = Frame::from_landmarks([[0.37, 0.48], [0.62, 0.48], [0.50, 0.64], [0.50, 0.75]].map(|p| frame.point(p)));
        prop_assert!((moved.residual - unit.residual).abs() < 1e-9);
        for corner in [[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]] {
            let (a, b) = (moved.frame.point(corner), frame.point(unit.frame.point(corner)));
            prop_assert!((a[0] - b[0]).hypot(a[1] - b[1]) < 1e-6);
        }
    }

    /// An edit that brightens the picture by a constant brightens the photo by it, in the frame's middle, whatever the transform; what
    /// is outside stays bit for bit.
    #[test]
    fn a_constant_change_arrives_as_it_is(frame in frames(), guided in any::<bool>()) {
        let photo = waves(250, 200);
        let old_pixels = photo.srgb_pixels();
        let upsampling = if guided { Upsampling::Guided } else { Upsampling::Smooth };
        let before = vec![0.0f32; 3 * 32 * 32];
        let after = vec![20.0 / 127.5; 3 * 32 * 32];
        let edited = put_back(&photo, frame, &after, &before, 32, upsampling, None);
        for (x, y, pixel) in edited.srgb_pixels().enumerate_pixels() {
            let [u, v] = frame.locate([f64::from(x) + 0.5, f64::from(y) + 0.5]);
            let old = old_pixels.get_pixel(x, y);
            let off = |c: usize| i32::from(pixel.0[c]) - i32::from(old.0[c]);
            if !(0.0..=1.0).contains(&u) || !(0.0..=1.0).contains(&v) {
                prop_assert_eq!(pixel, old);
            } else if (0.1..0.9).contains(&u) && (0.1..0.9).contains(&v) {
                prop_assert!((0..3).all(|c| (off(c) - 20).abs() <= 1), "{:?} to {:?} at {}, {}", old, pixel, u, v);
            } else {
                prop_assert!((0..3).all(|c| (0..=21).contains(&off(c))));
            }
        }
    }

    #[test]
    fn no_change_returns_the_photo_bit_for_bit(frame in frames(), guided in any::<bool>(), seed in any::<u64>()) {
        let photo = waves(250, 200);
        let upsampling = if guided { Upsampling::Guided } else { Upsampling::Smooth };
        let mut rng = StdRng::seed_from_u64(seed);
        // Values beyond the range are clipped, so they are no change either.
        let decoded: Vec<f32> = (0..3 * 16 * 16).map(|_| rng.random_range(-1.5..1.5)).collect();
        let clipped: Vec<f32> = decoded.iter().map(|v| v.clamp(-1.0, 1.0)).collect();
        prop_assert_eq!(&put_back(&photo, frame, &decoded, &clipped, 16, upsampling, None).pixels, &photo.pixels);
    }
}

/// Out and in again: what is cut out of a photo, taken for the change of a dark photo and put back, is the photo. The dark one is a little
/// blue, as one without colour would be given none.
#[test]
fn cutting_and_putting_back_are_inverse() {
    let photo = waves(300, 260);
    let old_pixels = photo.srgb_pixels();
    let dark = self::photo(RgbImage::from_pixel(300, 260, Rgb([0, 0, 6])));
    let nothing: Vec<f32> = [0.0, 0.0, 6.0].into_iter().flat_map(|v: f32| vec![v / 127.5 - 1.0; 128 * 128]).collect();
    for frame in [
        Frame { centre: [150.0, 130.0], side: 200.0, angle: 0.0 },
        Frame { centre: [140.0, 120.0], side: 150.0, angle: 0.6 },
        Frame { centre: [160.0, 140.0], side: 100.0, angle: -2.0 },
        Frame { centre: [60.0, 70.0], side: 220.0, angle: 0.8 },
    ] {
        let cut = to_model(&frame.cut(&photo, 128));
        let back = put_back(&dark, frame, &cut, &nothing, 128, Upsampling::Smooth, None);
        let (mut sum, mut count) = (0.0, 0.0);
        for (x, y, pixel) in back.srgb_pixels().enumerate_pixels() {
            let [u, v] = frame.locate([f64::from(x) + 0.5, f64::from(y) + 0.5]);
            if (0.1..0.9).contains(&u) && (0.1..0.9).contains(&v) {
                let old = old_pixels.get_pixel(x, y);
                sum += (0..3).map(|c| f64::from(pixel.0[c].abs_diff(old.0[c]))).sum::<f64>() / 3.0;
                count += 1.0;
            }
        }
        assert!(count > 1000.0 && sum / count < 1.0, "{frame:?}: off by {:.2} of 255", sum / count);
    }
}

/// An edit that removes a dark bar, seen at 32 pixels: its fine edges go too.
#[test]
fn guided_upsampling_removes_fine_edges() {
    let bar = |dark: u8| {
        photo(RgbImage::from_fn(256, 256, |x, y| {
            let ripple = ((f64::from(x) / 3.0).sin() * (f64::from(y) / 4.0).sin() * 6.0) as i32;
            let base = if (x + y / 3).abs_diff(160) < 13 { i32::from(dark) } else { 180 };
            Rgb([(base + ripple) as u8; 3])
        }))
    };
    let (with, without) = (bar(60), bar(180));
    let frame = Frame { centre: [128.0, 128.0], side: 300.0, angle: 0.2 };
    let [before, after] = [&with, &without].map(|photo| to_model(&frame.cut(photo, 32)));
    let error = |upsampling| {
        let out = put_back(&with, frame, &after, &before, 32, upsampling, None);
        let (out, without) = (out.srgb_pixels(), without.srgb_pixels());
        let squares = out.iter().zip(without.iter()).map(|(a, b)| f64::from(a.abs_diff(*b)).powi(2));
        (squares.sum::<f64>() / out.len() as f64).sqrt()
    };
    let (smooth, guided) = (error(Upsampling::Smooth), error(Upsampling::Guided));
    assert!(guided < 0.8 * smooth, "guided is off by {guided:.2}, smooth by {smooth:.2} of 255");
}

#[test]
fn cutting_averages_over_the_area() {
    // Checks of one pixel are grey from afar, at any angle.
    let checks = photo(RgbImage::from_fn(256, 256, |x, y| Rgb([if (x + y) % 2 == 0 { 0 } else { 200 }; 3])));
    for angle in [0.0, 0.4, 0.785] {
        let frame = Frame { centre: [128.0, 128.0], side: 160.0, angle };
        let cut = frame.cut(&checks, 16);
        assert!(cut.pixels().all(|p| p.0[0].abs_diff(100) <= 4), "at {angle}");
    }
    // At the model's own size nothing is resampled.
    let photo = waves(80, 64);
    let old_pixels = photo.srgb_pixels();
    let cut = Frame::centre(&photo).cut(&photo, 64);
    assert!(cut.enumerate_pixels().all(|(x, y, p)| p.0[..] == old_pixels.get_pixel(x + 8, y).0[..3]));
}

#[test]
fn beyond_the_photo_the_border_goes_on_and_transparency_is_white() {
    let mut photo = photo(RgbImage::from_pixel(64, 64, Rgb([200, 10, 60])));
    let frame = Frame { centre: [0.0, 0.0], side: 300.0, angle: 0.3 };
    assert!(frame.cut(&photo, 32).pixels().all(|p| p.0 == [200, 10, 60]));
    let Pixels::Eight(pixels) = &mut photo.pixels else { panic!("8 bits") };
    pixels.pixels_mut().for_each(|p| p.0[3] = 0);
    assert!(frame.cut(&photo, 32).pixels().all(|p| p.0 == [255; 3]));
}

#[test]
fn points_without_extent_give_no_fit() {
    let fit = Frame::from_landmarks([[7.0, 9.0]; 4]);
    assert!(fit.is_poor() && fit.frame.side > 0.0);
}
