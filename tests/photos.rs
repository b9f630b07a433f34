//! Photos in and out through the library: formats, depths, orientations, colour profiles, metadata, broken files.

use std::fs::File;
use std::io::{BufReader, BufWriter, Cursor, Write};
use std::path::{Path, PathBuf};

use image::codecs::{jpeg::JpegEncoder, png::PngEncoder, webp::WebPEncoder};
use image::metadata::Orientation;
use image::{ColorType, DynamicImage, ImageDecoder, ImageEncoder, ImageFormat, ImageReader};
use moxcms::ColorProfile;
use pdae_studio::photo::xmp::DigitalSource;
use pdae_studio::photo::{self, ExportError, ExportFormat, ExportOptions, Frame, Photo, PhotoError, Pixels, Upsampling, put_back};

const STATEMENT: &str = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia";
const OUTPUTS: [&str; 4] = ["png", "jpg", "webp", "tif"];
/// Side of the model's pictures in these tests.
const SIZE: u32 = 8;

/// A picture without any symmetry, with every bit of its depth in use.
fn picture(colour: ColorType) -> DynamicImage {
    let (width, height) = (23, 17);
    let value = |x: u32, y: u32, c: u32| ((x * 2801 + y * 1999 + c * 21_001 + x * y * 37) % 65_536) as u16;
    let deep =
        DynamicImage::ImageRgba16(image::ImageBuffer::from_fn(width, height, |x, y| image::Rgba([0, 1, 2, 3].map(|c| value(x, y, c)))));
    match colour {
        ColorType::L8 => DynamicImage::ImageLuma8(deep.to_luma8()),
        ColorType::La8 => DynamicImage::ImageLumaA8(deep.to_luma_alpha8()),
        ColorType::L16 => DynamicImage::ImageLuma16(deep.to_luma16()),
        ColorType::La16 => DynamicImage::ImageLumaA16(deep.to_luma_alpha16()),
        ColorType::Rgb8 => DynamicImage::ImageRgb8(deep.to_rgb8()),
        ColorType::Rgba8 => DynamicImage::ImageRgba8(deep.to_rgba8()),
        ColorType::Rgb16 => DynamicImage::ImageRgb16(deep.to_rgb16()),
        ColorType::Rgba16 => deep,
        other => panic!("no picture in {other:?}"),
    }
}

/// What an encoder is told beside the pixels.
#[derive(Default, Clone)]
struct Tags {
    orientation: Option<u8>,
    icc: Option<Vec<u8>>,
}

/// A block of EXIF as a camera writes it: make, orientation, size of the picture as it lies, and a preview.
fn camera_exif(orientation: u8, width: u32, height: u32) -> Vec<u8> {
    let mut out = b"MM\0\x2a\0\0\0\x08".to_vec();
    let entry = |out: &mut Vec<u8>, tag: u16, kind: u16, count: u32, value: u32| {
        out.extend(tag.to_be_bytes());
        out.extend(kind.to_be_bytes());
        out.extend(count.to_be_bytes());
        out.extend(value.to_be_bytes());
    };
    // The first directory: 8 + 2 + 3 * 12 + 4 = 50.
    out.extend(3u16.to_be_bytes());
    entry(&mut out, 0x010f, 2, 8, 50);
    entry(&mut out, 0x0112, 3, 1, u32::from(orientation) << 16);
    entry(&mut out, 0x8769, 4, 1, 58);
    out.extend(88u32.to_be_bytes());
    out.extend(b"Testcam\0");
    // The second, at 58: 58 + 2 + 2 * 12 + 4 = 88.
    out.extend(2u16.to_be_bytes());
    entry(&mut out, 0xa002, 4, 1, width);
    entry(&mut out, 0xa003, 4, 1, height);
    out.extend(0u32.to_be_bytes());
    // The preview's, at 88: 88 + 2 + 2 * 12 + 4 = 118.
    out.extend(2u16.to_be_bytes());
    entry(&mut out, 0x0201, 4, 1, 118);
    entry(&mut out, 0x0202, 4, 1, 7);
    out.extend(0u32.to_be_bytes());
    out.extend(b"PREVIEW");
    out
}

/// Writes a test file with the `image` crate's encoders, not with the program's.
fn save(image: &DynamicImage, path: &Path, tags: &Tags) {
    fn with<E: ImageEncoder>(mut encoder: E, image: &DynamicImage, tags: &Tags) {
        if let Some(orientation) = tags.orientation {
            encoder.set_exif_metadata(camera_exif(orientation, image.width(), image.height())).unwrap();
        }
        if let Some(icc) = &tags.icc {
            encoder.set_icc_profile(icc.clone()).unwrap();
        }
        image.write_with_encoder(encoder).unwrap();
    }
    let out = BufWriter::new(File::create(path).unwrap());
    match ImageFormat::from_path(path).unwrap() {
        ImageFormat::Png => with(PngEncoder::new(out), image, tags),
        ImageFormat::Jpeg => with(JpegEncoder::new_with_quality(out, 90), image, tags),
        ImageFormat::WebP => with(WebPEncoder::new_lossless(out), image, tags),
        ImageFormat::Tiff => save_tiff(image, out, tags),
        format => image.save_with_format(path, format).unwrap(),
    }
}

fn save_tiff(image: &DynamicImage, out: BufWriter<File>, tags: &Tags) {
    use tiff::encoder::{ImageEncoder, TiffEncoder, TiffKindStandard, colortype};
    fn put<C: colortype::ColorType>(mut image: ImageEncoder<'_, BufWriter<File>, C, TiffKindStandard>, tags: &Tags, samples: &[C::Inner])
    where
        [C::Inner]: tiff::encoder::TiffValue,
    {
        let directory = image.encoder();
        directory.write_tag(tiff::tags::Tag::Make, "Testcam").unwrap();
        if let Some(orientation) = tags.orientation {
            directory.write_tag(tiff::tags::Tag::Orientation, u16::from(orientation)).unwrap();
        }
        if let Some(icc) = &tags.icc {
            directory.write_tag(tiff::tags::Tag::IccProfile, &icc[..]).unwrap();
        }
        image.write_data(samples).unwrap();
    }
    let (w, h) = (image.width(), image.height());
    let mut encoder = TiffEncoder::new(out).unwrap();
    match image {
        DynamicImage::ImageLuma8(i) => put(encoder.new_image::<colortype::Gray8>(w, h).unwrap(), tags, i),
        DynamicImage::ImageLuma16(i) => put(encoder.new_image::<colortype::Gray16>(w, h).unwrap(), tags, i),
        DynamicImage::ImageRgb8(i) => put(encoder.new_image::<colortype::RGB8>(w, h).unwrap(), tags, i),
        DynamicImage::ImageRgb16(i) => put(encoder.new_image::<colortype::RGB16>(w, h).unwrap(), tags, i),
        DynamicImage::ImageRgba8(i) => put(encoder.new_image::<colortype::RGBA8>(w, h).unwrap(), tags, i),
        DynamicImage::ImageRgba16(i) => put(encoder.new_image::<colortype::RGBA16>(w, h).unwrap(), tags, i),
        other => panic!("no TIFF of {:?}", other.color()),
    }
}

fn decoder(path: &Path) -> impl ImageDecoder {
    ImageReader::new(BufReader::new(File::open(path).unwrap())).with_guessed_format().unwrap().into_decoder().unwrap()
}

/// A tag of a TIFF file: the `image` crate refuses those that are larger than the picture.
fn tiff_tag(path: &Path, tag: u16) -> Option<Vec<u8>> {
    let mut decoder = tiff::decoder::Decoder::new(BufReader::new(File::open(path).unwrap())).unwrap();
    decoder.find_tag(tiff::tags::Tag::from_u16_exhaustive(tag)).unwrap().map(|value| value.into_u8_vec().unwrap())
}

fn is_tiff(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending == "tif")
}

fn icc(path: &Path) -> Option<Vec<u8>> {
    if is_tiff(path) { tiff_tag(path, 34675) } else { decoder(path).icc_profile().unwrap() }
}

/// The upright picture of a file, read with the `image` crate alone.
fn upright(path: &Path) -> DynamicImage {
    let mut decoder = decoder(path);
    let orientation = decoder.orientation().unwrap();
    let mut image = DynamicImage::from_decoder(decoder).unwrap();
    image.apply_orientation(orientation);
    image
}

/// The photo after an edit that changes nothing, written.
fn untouched(from: &Path, to: &Path) {
    let photo = Photo::open(from).unwrap();
    let values: Vec<f32> = (0..3 * SIZE * SIZE).map(|i| (i as f32 * 0.37).sin()).collect();
    let same = put_back(&photo, Frame::centre(&photo), &values, &values, SIZE, Upsampling::default(), None);
    photo::write(&same, to, &ExportOptions::default()).unwrap();
}

/// The photo made brighter by a tenth of the range in the middle.
fn brighter(photo: &Photo) -> Photo {
    let (before, after) = (vec![0.0; (3 * SIZE * SIZE) as usize], vec![0.2; (3 * SIZE * SIZE) as usize]);
    put_back(photo, Frame::centre(photo), &after, &before, SIZE, Upsampling::default(), None)
}

#[test]
fn no_edit_is_the_identity_for_every_lossless_format_depth_and_orientation() {
    use ColorType::{L8, L16, La8, La16, Rgb8, Rgb16, Rgba8, Rgba16};
    let folder = tempfile::tempdir().unwrap();
    let cases: [(&str, &[ColorType]); 6] = [
        ("png", &[L8, La8, L16, La16, Rgb8, Rgba8, Rgb16, Rgba16]),
        ("tif", &[L8, L16, Rgb8, Rgba8, Rgb16, Rgba16]),
        ("webp", &[Rgb8, Rgba8]),
        ("jpg", &[L8, Rgb8]),
        ("bmp", &[Rgb8]),
        ("gif", &[Rgba8]),
    ];
    let mut checked = 0;
    for (ending, colours) in cases {
        let orientations: &[u8] = if matches!(ending, "bmp" | "gif") { &[1] } else { &[1, 2, 3, 4, 5, 6, 7, 8] };
        for (&colour, &orientation) in colours.iter().flat_map(|c| orientations.iter().map(move |o| (c, o))) {
            let from = folder.path().join("in").with_extension(ending);
            let tags = Tags { orientation: (orientation != 1).then_some(orientation), icc: None };
            save(&picture(colour), &from, &tags);
            let want = upright(&from);
            assert_eq!(orientation >= 5, want.width() < want.height(), "the test file is turned");
            let deep = want.color().bytes_per_pixel() / want.color().channel_count() == 2;
            for out in if deep { &["png", "tif"][..] } else { &["png", "tif", "webp"][..] } {
                let to = folder.path().join(format!("{checked}.{out}"));
                untouched(&from, &to);
                let got = image::open(&to).unwrap();
                let case = format!("{ending} {colour:?} orientation {orientation} to {out}");
                assert_eq!(decoder(&to).orientation().unwrap(), Orientation::NoTransforms, "{case}");
                assert!(got.to_rgba16() == want.to_rgba16(), "{case}: pixels differ");
                assert_eq!(got.color().has_alpha(), want.color().has_alpha(), "{case}");
                if *out == "png" {
                    assert_eq!(got.color(), want.color(), "{case}");
                }
                checked += 1;
            }
        }
    }
    assert!(checked > 300, "{checked} cases");
}

#[test]
fn a_change_reaches_16_bit_pixels_between_the_levels_of_8_bits() {
    let flat = DynamicImage::ImageRgb16(image::ImageBuffer::from_pixel(40, 40, image::Rgb([30_001u16, 20_002, 10_003])));
    let edited = brighter(&Photo::from_image(flat, "flat").unwrap());
    let Pixels::Sixteen(pixels) = &edited.pixels else { panic!("16 bits are kept") };
    let [r, g, b, a] = pixels.get_pixel(20, 20).0;
    // A tenth of 65535 is 6553.5.
    for (value, before) in [(r, 30_001.0), (g, 20_002.0), (b, 10_003.0)] {
        assert!((f64::from(value) - (before + 6553.5)).abs() <= 1.0, "{value} from {before}");
    }
    assert_eq!(a, u16::MAX);
    assert!(edited.is_edited);
}

#[test]
fn profiles_are_kept_and_the_model_sees_srgb() {
    let folder = tempfile::tempdir().unwrap();
    let p3 = ColorProfile::new_display_p3().encode().unwrap();
    let flat = DynamicImage::ImageRgb8(image::RgbImage::from_pixel(40, 40, image::Rgb([180, 90, 80])));
    for from in OUTPUTS {
        let path = folder.path().join("p3").with_extension(from);
        save(&flat, &path, &Tags { orientation: None, icc: Some(p3.clone()) });
        let photo = Photo::open(&path).unwrap();
        let seen = Frame::centre(&photo).cut(&photo, SIZE).get_pixel(4, 4).0;
        // Display P3 (180, 90, 80) is about (192, 86, 76) in sRGB.
        assert!(seen[0] > 187 && seen[1] < 90, "{from}: the model saw {seen:?}");
        let edited = brighter(&photo);
        let Pixels::Eight(before) = &photo.pixels else { panic!("8 bits") };
        let Pixels::Eight(after) = &edited.pixels else { panic!("8 bits") };
        assert_ne!(before.get_pixel(20, 20), after.get_pixel(20, 20));
        // The change is a tenth in sRGB, whatever the photo's own space.
        let seen_after = edited.srgb(20, 20, 1, 1).get_pixel(0, 0).0;
        for (after, before) in seen_after.into_iter().zip(seen) {
            assert!((f64::from(after) - f64::from(before) - 25.5).abs() < 3.0, "{from}: {seen:?} became {seen_after:?}");
        }
        for to in OUTPUTS {
            for keep_metadata in [true, false] {
                let out = folder.path().join(format!("{from}-{keep_metadata}.{to}"));
                photo::write(&edited, &out, &ExportOptions { keep_metadata, overwrite: true, ..Default::default() }).unwrap();
                assert!(icc(&out).as_deref() == Some(&p3[..]), "{from} to {to}: the profile");
            }
        }
    }
}

#[test]
fn grey_files_stay_grey_unless_an_edit_brings_colour() {
    let folder = tempfile::tempdir().unwrap();
    let grey = ColorProfile::new_gray_with_gamma(1.8).encode().unwrap();
    let path = folder.path().join("grey.png");
    save(&picture(ColorType::L8), &path, &Tags { orientation: None, icc: Some(grey.clone()) });
    let photo = Photo::open(&path).unwrap();
    let (same, edited) = (folder.path().join("same.png"), folder.path().join("edited.png"));
    photo::write(&photo, &same, &ExportOptions::default()).unwrap();
    assert_eq!(decoder(&same).icc_profile().unwrap().as_ref(), Some(&grey));
    let overwrite = ExportOptions { overwrite: true, ..ExportOptions::default() };
    photo::write(&brighter(&photo), &same, &overwrite).unwrap();
    let written = decoder(&same);
    assert_eq!((written.color_type(), written.original_color_type().channel_count()), (ColorType::L8, 1));
    assert_eq!(decoder(&same).icc_profile().unwrap(), Some(grey));
    assert_ne!(Photo::open(&same).unwrap().pixels, photo.pixels);
    let mut coloured = photo.clone();
    coloured.add_srgb(3, 0, &image::Rgb32FImage::from_pixel(17, 17, image::Rgb([0.2, 0.0, -0.1])));
    photo::write(&coloured, &edited, &ExportOptions::default()).unwrap();
    let icc = decoder(&edited).icc_profile().unwrap().expect("a profile");
    assert_eq!(ColorProfile::new_from_slice(&icc).unwrap().color_space, moxcms::DataColorSpace::Rgb);
    let again = Photo::open(&edited).unwrap();
    // The square is the middle 17 columns.
    assert_eq!(again.srgb(0, 0, 3, 17), photo.srgb(0, 0, 3, 17), "what was not edited looks the same");
}

#[test]
fn exif_is_kept_upright_or_stripped() {
    let folder = tempfile::tempdir().unwrap();
    for from in OUTPUTS {
        let path = folder.path().join("camera").with_extension(from);
        save(&picture(ColorType::Rgb8), &path, &Tags { orientation: Some(6), icc: None });
        let photo = Photo::open(&path).unwrap();
        assert_eq!((photo.width(), photo.height()), (17, 23));
        for to in OUTPUTS {
            let out = |name: &str| folder.path().join(format!("{from}-{name}.{to}"));
            photo::write(&photo, &out("kept"), &ExportOptions::default()).unwrap();
            let bytes = std::fs::read(out("kept")).unwrap();
            let read = exif::Reader::new().read_from_container(&mut Cursor::new(&bytes)).expect("EXIF");
            let value = |tag| read.get_field(tag, exif::In::PRIMARY);
            let make = value(exif::Tag::Make).map(|f| f.display_value().to_string());
            assert_eq!(make.as_deref(), Some("\"Testcam\""), "{from} to {to}");
            let orientation = value(exif::Tag::Orientation).and_then(|f| f.value.get_uint(0));
            assert!(matches!(orientation, None | Some(1)), "{from} to {to}: {orientation:?}");
            if from != "tif" {
                let size = [exif::Tag::PixelXDimension, exif::Tag::PixelYDimension].map(|tag| value(tag).and_then(|f| f.value.get_uint(0)));
                assert_eq!(size, [Some(17), Some(23)], "{from} to {to}");
            }
            assert!(!bytes.windows(7).any(|w| w == b"PREVIEW"), "{from} to {to}: the unedited preview is still there");

            photo::write(&photo, &out("stripped"), &ExportOptions { keep_metadata: false, ..Default::default() }).unwrap();
            assert!(!std::fs::read(out("stripped")).unwrap().windows(7).any(|w| w == b"Testcam"), "{from} to {to}");
        }
    }
}

/// Older cameras have a thumbnail without compression, in strips.
#[test]
fn a_thumbnail_in_strips_goes_too() {
    let mut block = b"MM\0\x2a\0\0\0\x08".to_vec();
    // An empty first directory, then the thumbnail's at 14: 14 + 2 + 2 * 12 + 4 = 44.
    block.extend([0, 0, 0, 0, 0, 14, 0, 2]);
    block.extend([0x01, 0x11, 0, 4, 0, 0, 0, 2, 0, 0, 0, 44]);
    block.extend([0x01, 0x17, 0, 3, 0, 0, 0, 2, 0, 4, 0, 3]);
    block.extend([0, 0, 0, 0, 0, 0, 0, 52, 0, 0, 0, 56]);
    block.extend(b"PREVIEW and more");
    photo::exif::make_upright(&mut block);
    assert!(block.ends_with(b"\0\0\0\0\0\0\0 and more"), "{block:?}");
    // A count that is no count of anything.
    block[20] = 0xff;
    block[10..14].copy_from_slice(&[0, 0, 0, 14]);
    photo::exif::make_upright(&mut block);
}

fn xmp(path: &Path) -> Option<String> {
    let packet = if is_tiff(path) { tiff_tag(path, 700) } else { decoder(path).xmp_metadata().unwrap() };
    packet.map(|packet| String::from_utf8(packet).unwrap())
}

#[test]
fn edited_pictures_say_so_in_every_format() {
    let folder = tempfile::tempdir().unwrap();
    let mut photo = Photo::from_image(picture(ColorType::Rgb8), "x").unwrap();
    photo.metadata.xmp = Some(
        br#"<x:xmpmeta xmlns:x="adobe:ns:meta/"><r:RDF xmlns:r="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><r:Description r:about=""
        xmlns:dc="http://purl.org/dc/elements/1.1/" dc:source="Anna's roll"/></r:RDF></x:xmpmeta>"#
            .to_vec(),
    );
    let edited = brighter(&photo);
    for ending in OUTPUTS {
        let write = |name: &str, photo: &Photo, keep_metadata, state_source| {
            let path = folder.path().join(name).with_extension(ending);
            photo::write(photo, &path, &ExportOptions { keep_metadata, state_source, ..Default::default() }).unwrap();
            xmp(&path)
        };
        let both = write("both", &edited, true, true).expect("XMP");
        assert!(both.contains(STATEMENT) && both.contains("Anna's roll"), "{ending}: {both}");
        let stated = write("stated", &edited, false, true).expect("XMP");
        assert!(stated.contains(STATEMENT) && !stated.contains("Anna"), "{ending}: {stated}");
        let kept = write("kept", &edited, true, false).expect("XMP");
        assert!(!kept.contains("digitalsourcetype") && kept.contains("Anna's roll"), "{ending}: {kept}");
        assert_eq!(write("neither", &edited, false, false), None, "{ending}");
        let unedited = write("unedited", &photo, true, true).expect("XMP");
        assert!(!unedited.contains("digitalsourcetype"), "an unedited photo is still only a photo: {unedited}");
    }
}

#[test]
fn what_a_model_made_throughout_stays_so() {
    let folder = tempfile::tempdir().unwrap();
    let source = DigitalSource::TrainedAlgorithmicMedia;
    let mut photo = Photo::from_image(picture(ColorType::Rgb8), "x").unwrap();
    photo.made_by = Some(source);
    for ending in OUTPUTS {
        let path = folder.path().join("face").with_extension(ending);
        photo::write(&photo, &path, &ExportOptions::default()).unwrap();
        let again = Photo::open(&path).unwrap();
        assert_eq!(again.made_by, Some(source), "{ending}: {:?}", xmp(&path));
        let out = folder.path().join("edited").with_extension(ending);
        photo::write(&brighter(&again), &out, &ExportOptions { keep_metadata: false, ..Default::default() }).unwrap();
        let stated = xmp(&out).expect("XMP");
        assert!(stated.contains(source.uri()) && !stated.contains("composite"), "{ending}: {stated}");
        photo::write(&photo, &out, &ExportOptions { state_source: false, overwrite: true, ..Default::default() }).unwrap();
        assert_eq!(xmp(&out), None, "{ending}");
    }
}

#[test]
fn an_edit_over_transparency_keeps_it_and_jpeg_lays_it_over_white() {
    let folder = tempfile::tempdir().unwrap();
    let clear = image::RgbaImage::from_fn(32, 32, |x, _| image::Rgba([200, 0, 0, if x < 16 { 0 } else { 255 }]));
    let edited = brighter(&Photo::from_image(DynamicImage::ImageRgba8(clear.clone()), "clear").unwrap());
    for (ending, has_alpha) in [("png", true), ("webp", true), ("tif", true), ("jpg", false)] {
        let path = folder.path().join("clear").with_extension(ending);
        photo::write(&edited, &path, &ExportOptions::default()).unwrap();
        let out = image::open(&path).unwrap().to_rgba8();
        if has_alpha {
            assert!(out.pixels().zip(clear.pixels()).all(|(a, b)| a.0[3] == b.0[3]), "{ending}");
        } else {
            assert!(out.get_pixel(3, 16).0[..3].iter().all(|v| *v > 245), "white, not the hidden red: {:?}", out.get_pixel(3, 16));
        }
    }
}

fn heic(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/heic").join(name).with_extension("heic")
}

#[test]
fn heic_photos_are_upright_and_keep_what_they_say() {
    let photo = Photo::open(&heic("turned")).unwrap();
    assert_eq!((photo.width(), photo.height(), photo.has_alpha), (64, 96, false));
    // As stored, the upper left is 200, 180, 90; turned clockwise, it is the upper right.
    let [r, g, b] = photo.srgb(54, 5, 1, 1).get_pixel(0, 0).0;
    assert!(r.abs_diff(201) < 6 && g.abs_diff(180) < 8 && b.abs_diff(90) < 6, "{r} {g} {b}");
    let [r, g, _] = photo.srgb(10, 90, 1, 1).get_pixel(0, 0).0;
    assert!(r < 100 && g < 100, "the lower left is what was stored as the lower right");
    let exif = exif::Reader::new().read_raw(photo.metadata.exif.clone().expect("EXIF")).unwrap();
    assert_eq!(exif.get_field(exif::Tag::Make, exif::In::PRIMARY).unwrap().display_value().to_string(), "\"Testcam\"");
    let orientation = exif.get_field(exif::Tag::Orientation, exif::In::PRIMARY).and_then(|f| f.value.get_uint(0));
    assert!(matches!(orientation, None | Some(1)), "{orientation:?}");

    let deep = Photo::open(&heic("deep-clear")).unwrap();
    let Pixels::Sixteen(pixels) = &deep.pixels else { panic!("10 bits are more than 8") };
    assert!(deep.has_alpha && pixels.get_pixel(10, 30).0[3] < 600 && pixels.get_pixel(80, 30).0[3] > 64_900);
    let blue: std::collections::BTreeSet<u16> = (40..96).map(|x| pixels.get_pixel(x, 30).0[2] >> 6).collect();
    assert!(blue.len() > 40, "a gradient");
    // Zero edit, and back into a format that is written.
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out.png");
    untouched(&heic("deep-clear"), &out);
    assert!(image::open(&out).unwrap().to_rgba16() == *pixels);
}

/// Whatever bytes are changed or missing, the answer is a photo or a sentence.
#[test]
fn damaged_heic_files_never_panic() {
    let whole = std::fs::read(heic("deep-clear")).unwrap();
    let mut state = 1u32;
    let mut random = |below: usize| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as usize % below
    };
    let mut refused = 0;
    for round in 0..300 {
        let mut bytes = whole.clone();
        for _ in 0..=round % 7 {
            let at = random(bytes.len());
            bytes[at] = random(256) as u8;
        }
        if round % 3 == 0 {
            bytes.truncate(random(bytes.len()));
        }
        refused += usize::from(Photo::decode(&bytes, "damaged").is_err());
    }
    assert!(refused > 50, "{refused} of 300 refused");
}

/// Files that break programs, and a part of the sentence that each ends in.
fn broken_files(folder: &Path) -> Vec<(PathBuf, &'static str)> {
    let mut files = vec![];
    let mut add = |name: &str, bytes: Vec<u8>, says: &'static str| {
        let path = folder.join(name);
        std::fs::write(&path, bytes).unwrap();
        files.push((path, says));
    };
    for (ending, cut) in [("png", 0.5), ("jpg", 0.7), ("webp", 0.5), ("tif", 0.5), ("bmp", 0.5), ("gif", 0.5)] {
        let whole = folder.join("whole").with_extension(ending);
        save(&picture(if ending == "gif" { ColorType::Rgba8 } else { ColorType::Rgb8 }), &whole, &Tags::default());
        let mut bytes = std::fs::read(&whole).unwrap();
        std::fs::remove_file(&whole).unwrap();
        for share in [cut, 0.05] {
            bytes.truncate((bytes.len() as f64 * share) as usize + 12);
            add(&format!("truncated-{share}.{ending}"), bytes.clone(), "could not be read");
        }
        add(&format!("empty.{ending}"), vec![], "is empty");
        add(&format!("text.{ending}"), b"This is not a picture.".to_vec(), "not a picture in a format");
        add(&format!("noise.{ending}"), (0..999u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect(), "not a picture");
    }
    let mut bomb = vec![];
    let mut writer = png::Encoder::new(&mut bomb, 60_000, 60_000).write_header().unwrap();
    writer.write_chunk(png::chunk::IDAT, &[0x78, 0x9c, 0x63, 0, 0]).unwrap();
    drop(writer);
    add("bomb.png", bomb, "60000 x 60000");
    let mut bomb = b"GIF89a".to_vec();
    bomb.extend([0x60, 0xea, 0x60, 0xea, 0, 0, 0, b',', 0, 0, 0, 0, 0x60, 0xea, 0x60, 0xea, 0, 2]);
    add("bomb.gif", bomb, "60000 x 60000");
    let mut bomb = b"BM\0\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0\x60\xea\0\0\x60\xea\0\0\x01\0\x18\0".to_vec();
    bomb.extend([0; 24]);
    add("bomb.bmp", bomb, "60000 x 60000");
    add("phone.heic", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic".to_vec(), "could not be read");
    let heic = std::fs::read(heic("turned")).unwrap();
    for share in [0.1, 0.5, 0.9] {
        add(&format!("truncated-{share}.heic"), heic[..(heic.len() as f64 * share) as usize].to_vec(), "could not be read");
    }
    add("web.avif", b"\0\0\0\x1cftypavif\0\0\0\0avifmif1".to_vec(), "AVIF");
    files
}

#[test]
fn broken_files_end_in_a_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let mut wrong = vec![];
    for (path, says) in broken_files(folder.path()) {
        match Photo::open(&path) {
            Ok(photo) => wrong.push(format!("{} was opened: {} x {}", path.display(), photo.width(), photo.height())),
            Err(error) => {
                let name = path.file_name().unwrap().to_string_lossy().into_owned();
                let sentence = error.to_string();
                // Of a truncated header even the format may be gone.
                let right = sentence.contains(says) || says == "could not be read" && sentence.contains("not a picture");
                if !right || !sentence.contains(&name) {
                    wrong.push(format!("{name}: {sentence}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(matches!(Photo::open(folder.path()), Err(PhotoError::Io { .. })), "a folder is not a photo");
}

/// Small photos with metadata that would fill half a gigabyte.
#[cfg(target_os = "linux")]
fn metadata_bombs(folder: &Path) -> [PathBuf; 2] {
    let paths = ["profile.png", "directory.tif"].map(|name| folder.join(name));
    // A zero and two million times 258 more, with the codes that deflate has for them.
    let again = [1, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0].repeat(2_000_000);
    let bits = [&[1, 1, 0][..], &[0, 0, 1, 1, 0, 0, 0, 0], &again].concat();
    let bytes = bits.chunks(8).map(|bits| bits.iter().rev().fold(0u8, |byte, bit| byte << 1 | bit));
    let profile: Vec<u8> = b"x\0\0\x78\x9c".iter().copied().chain(bytes).collect();
    let mut writer = png::Encoder::new(File::create(&paths[0]).unwrap(), 2, 2).write_header().unwrap();
    writer.write_chunk(png::chunk::iCCP, &profile).unwrap();
    writer.write_image_data(&[9; 4]).unwrap();
    drop(writer);

    const COPIES: u16 = 500;
    let data = 8 + 2 + 12 * (9 + u32::from(COPIES)) + 4;
    let picture = [(256, 2), (257, 2), (258, 8), (259, 1), (262, 1), (273, data), (277, 1), (278, 2), (279, 4)];
    let picture = picture.map(|(tag, value)| (tag, 4, 1, value));
    let mut tiff = b"II*\0\x08\0\0\0".to_vec();
    tiff.extend((9 + COPIES).to_le_bytes());
    for (tag, kind, count, value) in picture.into_iter().chain((0..COPIES).map(|i| (50_000 + i, 7u16, 1u32 << 20, data))) {
        tiff.extend([tag.to_le_bytes(), kind.to_le_bytes()].concat());
        tiff.extend([count.to_le_bytes(), value.to_le_bytes()].concat());
    }
    tiff.resize(data as usize + (1 << 20), 0);
    std::fs::write(&paths[1], tiff).unwrap();
    paths
}

#[test]
#[cfg(target_os = "linux")]
fn a_bomb_takes_no_memory() {
    fn peak_kilobytes() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|l| l.starts_with("VmHWM")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
    let folder = tempfile::tempdir().unwrap();
    let files = broken_files(folder.path());
    let bombs = metadata_bombs(folder.path());
    let before = peak_kilobytes();
    for (path, _) in &files {
        let _ = Photo::open(path);
    }
    for path in &bombs {
        let photo = Photo::open(path).expect("a photo all the same");
        assert_eq!((photo.width(), photo.metadata), (2, photo::Metadata::default()), "{}", path.display());
        assert!(photo.profile.is_none(), "{}", path.display());
    }
    // The whole picture would be 10.8 GB. Other tests of this program run meanwhile.
    let taken = peak_kilobytes() - before;
    assert!(taken < 200_000, "{taken} kB");
}

#[test]
fn contents_count_and_endings_do_not() {
    let folder = tempfile::tempdir().unwrap();
    let (real, named) = (folder.path().join("a.png"), folder.path().join("a.jpg"));
    save(&picture(ColorType::Rgb8), &real, &Tags::default());
    std::fs::rename(&real, &named).unwrap();
    assert_eq!((Photo::open(&named).unwrap().width(), ExportFormat::of(&named).unwrap()), (23, ExportFormat::Jpeg));
}

#[test]
fn one_pixel_is_a_photo() {
    let folder = tempfile::tempdir().unwrap();
    let one = DynamicImage::ImageRgb8(image::RgbImage::from_pixel(1, 1, image::Rgb([9, 8, 7])));
    for ending in OUTPUTS {
        let path = folder.path().join("one").with_extension(ending);
        save(&one, &path, &Tags::default());
        let photo = Photo::open(&path).unwrap();
        assert_eq!(Frame::centre(&photo).cut(&photo, SIZE).dimensions(), (SIZE, SIZE));
        let out = folder.path().join("out").with_extension(ending);
        photo::write(&brighter(&photo), &out, &ExportOptions::default()).unwrap();
        assert_eq!(image::open(out).unwrap().width(), 1);
    }
}

#[test]
fn damaged_metadata_does_not_keep_a_photo_out() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.png");
    let whole = camera_exif(6, 23, 17);
    for length in 0..whole.len() {
        let mut out = BufWriter::new(File::create(&path).unwrap());
        let mut encoder = PngEncoder::new(&mut out);
        encoder.set_exif_metadata(whole[..length].to_vec()).unwrap();
        encoder.set_icc_profile(vec![7; length]).unwrap();
        picture(ColorType::Rgb8).write_with_encoder(encoder).unwrap();
        out.flush().unwrap();
        drop(out);
        let photo = Photo::open(&path).unwrap();
        for ending in OUTPUTS {
            let out = folder.path().join("out").with_extension(ending);
            photo::write(&photo, &out, &ExportOptions { overwrite: true, ..Default::default() }).unwrap();
        }
    }
}

#[test]
fn sizes_that_a_format_cannot_hold_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let wide = Photo::from_image(DynamicImage::ImageRgb8(image::RgbImage::new(16_384, 1)), "wide").unwrap();
    let path = folder.path().join("wide.webp");
    let error = photo::write(&wide, &path, &ExportOptions::default()).unwrap_err();
    assert!(matches!(error, ExportError::TooLarge { limit: 16_383, .. }), "{error}");
    assert!(error.to_string().contains("wide.webp") && error.to_string().contains("PNG"), "{error}");
    assert!(!path.exists());
    photo::write(&wide, &folder.path().join("wide.jpg"), &ExportOptions::default()).unwrap();
}
