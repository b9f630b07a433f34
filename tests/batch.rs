//! `edit` over many photos, recipes, and `interpolate`, as a person calls them.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use assert_cmd::Command;
use image::codecs::{gif::GifDecoder, png::PngDecoder, webp::WebPDecoder};
use image::{AnimationDecoder, ImageDecoder, Rgb, RgbImage};
use tempfile::TempDir;

fn program() -> Command {
    Command::cargo_bin("pdae-studio").expect("the program is built")
}

/// The golden case as a bundle, made once by the program's own `import`.
fn bundle() -> &'static Path {
    static BUNDLE: OnceLock<(TempDir, PathBuf)> = OnceLock::new();
    &BUNDLE
        .get_or_init(|| {
            let folder = tempfile::tempdir().expect("a folder");
            let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/pdae-tiny-64");
            let path = folder.path().join("tiny");
            program().arg("import").arg(golden).arg("-o").arg(&path).args(["--name", "Tiny"]).assert().success();
            (folder, path)
        })
        .1
}

/// A photo of 80 x 70 pixels.
fn photo(path: &Path, seed: u32) -> PathBuf {
    RgbImage::from_fn(80, 70, |x, y| Rgb([(x * 2 + seed) as u8, (y * 3) as u8, ((x + y * seed) % 64 * 3) as u8])).save(path).unwrap();
    path.to_owned()
}

/// `edit` or `interpolate` on the small model, with few steps.
fn call(command: &str, inputs: &[&Path], out: &Path, more: &[&str]) -> Command {
    let mut call = program();
    call.arg(command).args(inputs).arg("-o").arg(out).args(["--device", "cpu", "--model"]).arg(bundle());
    if !more.contains(&"--recipe") {
        call.args(["--steps", if command == "edit" { "2" } else { "1" }]);
    }
    call.args(more);
    call
}

/// Exit code, standard output, standard error.
fn run(mut command: Command) -> (bool, String, String) {
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let stderr = text(output.stderr);
    assert!(!stderr.contains("panicked"), "{stderr}");
    (output.status.success(), text(output.stdout), stderr)
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn a_batch_goes_on_past_bad_photos_and_tells_each() {
    let folder = tempfile::tempdir().unwrap();
    let (photos, out) = (folder.path().join("in"), folder.path().join("new/out"));
    std::fs::create_dir(&photos).unwrap();
    photo(&photos.join("a.png"), 1);
    std::fs::write(photos.join("b.jpg"), "broken").unwrap();
    photo(&photos.join("c.webp"), 2);
    photo(&photos.join("d.bmp"), 3);
    std::fs::write(photos.join("notes.txt"), "no photo").unwrap();
    let missing = folder.path().join("missing.png");

    let (ok, stdout, stderr) = run(call("edit", &[&photos, &missing], &out, &["--set", "smiling=80", "--json"]));
    assert!(!ok, "two of five failed");
    assert!(stderr.contains("2 of 5 photos failed") && stderr.contains("b.jpg") && stderr.contains("missing.png"), "{stderr}");
    assert_eq!(names(&out), ["a.png", "c.webp", "d.png"]);
    let lines: Vec<serde_json::Value> = stdout.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect();
    assert_eq!(lines.len(), 5);
    for (line, (name, good)) in
        lines.iter().zip([("a.png", true), ("b.jpg", false), ("c.webp", true), ("d.bmp", true), ("missing.png", false)])
    {
        assert!(line["path"].as_str().unwrap().ends_with(name), "{line}");
        assert_eq!(line["ok"], good, "{line}");
        assert!(line["milliseconds"].is_u64(), "{line}");
        if good {
            assert_eq!((&line["width"], &line["height"]), (&80.into(), &70.into()), "{line}");
            assert!(Path::new(line["output"].as_str().unwrap()).is_file(), "{line}");
        } else {
            assert!(line["error"].as_str().unwrap().contains(name), "{line}");
        }
    }
    assert!(image::open(out.join("c.webp")).unwrap() != image::open(photos.join("c.webp")).unwrap(), "the edit shows");

    let (ok, _, stderr) = run(call("edit", &[&photos.join("a.png"), &photos.join("c.webp")], &out, &[]));
    assert!(!ok && stderr.matches("exists already").count() == 2, "nothing is replaced unasked: {stderr}");
    let (ok, stdout, stderr) =
        run(call("edit", &[&photos.join("a.png"), &photos.join("c.webp")], &out, &["--overwrite", "--format", "tif"]));
    assert!(ok && stdout.lines().count() == 2 && stderr.contains("2 photos edited"), "{stdout}{stderr}");
    assert!(out.join("a.tif").is_file() && out.join("c.tif").is_file());
}

#[test]
fn every_result_has_a_recipe_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let (one, two, out) = (folder.path().join("a.png"), folder.path().join("a.webp"), folder.path().join("out"));
    photo(&one, 1);
    photo(&two, 2);
    let (ok, _, stderr) = run(call("edit", &[&one, &two], &out, &["--set", "smiling=80", "--save-recipe"]));
    assert!(ok, "{stderr}");
    assert_eq!(names(&out), ["a-2.recipe.json", "a-2.webp", "a.png", "a.recipe.json"]);

    // One that is in the way is found before anything is written.
    std::fs::remove_file(out.join("a.png")).unwrap();
    let (ok, _, stderr) = run(call("edit", &[&one], &out.join("a.png"), &["--save-recipe"]));
    assert!(!ok && stderr.contains("a.recipe.json"), "{stderr}");
    assert!(!out.join("a.png").exists());
}

/// Nor need the names of files be text.
#[cfg(target_os = "linux")]
#[test]
fn every_photo_has_its_line_of_json() {
    use std::os::unix::ffi::OsStringExt;
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join(std::ffi::OsString::from_vec(b"caf\xe9.png".to_vec()));
    photo(&source, 1);
    let (ok, stdout, stderr) = run(call("edit", &[&source], &folder.path().join("out.png"), &["--set", "smiling=80", "--json"]));
    assert!(ok, "{stderr}");
    let line: serde_json::Value = serde_json::from_str(&stdout).expect("a line of JSON");
    assert!(line["path"].as_str().unwrap().ends_with("caf\u{fffd}.png"), "{line}");
}

#[test]
fn a_recipe_makes_the_same_file_again() {
    let folder = tempfile::tempdir().unwrap();
    let source = photo(&folder.path().join("a.png"), 1);
    let other = photo(&folder.path().join("other.png"), 9);
    let at = |name: &str| folder.path().join(name);
    for (name, more) in [
        ("plain.png", &["--set", "smiling=83.7", "--set", "young=-12.3"][..]),
        ("free.png", &["--set", "smiling=90"]),
        ("locked.png", &["--set", "smiling=90", "--lock", "young"]),
        ("quality.jpg", &["--set", "smiling=90", "--quality", "71", "--strip-metadata", "--no-statement"]),
        ("crop.webp", &["--set", "smiling=90", "--crop-only", "--upsampling", "smooth"]),
        ("model.tif", &["--set", "smiling=90", "--crop-only=model", "--seed", "18446744073709551615"]),
    ] {
        let first = at(name);
        let (ok, _, stderr) = run(call("edit", &[&source], &first, &[more, &["--save-recipe"]].concat()));
        assert!(ok, "{name}: {stderr}");
        let recipe = first.with_extension("recipe.json");
        let again = at(&format!("again-{name}"));
        let (ok, _, stderr) = run(call("edit", &[&source], &again, &["--recipe", recipe.to_str().unwrap()]));
        assert!(ok && !stderr.contains("another"), "{name}: {stderr}");
        assert!(std::fs::read(&first).unwrap() == std::fs::read(&again).unwrap(), "{name} is not the same again");
    }
    let (ok, _, stderr) = run(call("edit", &[&other], &at("other-plain.png"), &["--recipe", at("plain.recipe.json").to_str().unwrap()]));
    assert!(ok && stderr.contains("made for another photo (a.png) than other.png"), "{stderr}");
    assert!(std::fs::read(at("plain.png")).unwrap() != std::fs::read(at("other-plain.png")).unwrap());
    let bytes = |name: &str| std::fs::read(at(name)).unwrap();
    assert!(bytes("free.png") != bytes("locked.png"), "a lock changes the edit");
    let locked: serde_json::Value = serde_json::from_slice(&bytes("locked.recipe.json")).unwrap();
    assert_eq!(locked["locked"], serde_json::json!(["Young"]));
    let sides = ["plain.png", "crop.webp", "model.tif"].map(|name| image::image_dimensions(at(name)).unwrap());
    assert_eq!(sides, [(80, 70), (70, 70), (64, 64)]);

    let text = std::fs::read_to_string(at("plain.recipe.json")).unwrap();
    let recipe: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(recipe["source"]["file"], "a.png");
    assert_eq!(recipe["source"]["sha256"].as_str().unwrap().len(), 64);
    assert_eq!(recipe["model"]["name"], "Tiny");
    assert_eq!(recipe["frame"], serde_json::json!({"centre": [40.0, 35.0], "side": 70.0, "angle": 0.0}));
    assert_eq!((&recipe["steps"], &recipe["seed"]), (&2.into(), &serde_json::Value::Null));
    assert!(recipe["program"].as_str().unwrap().starts_with("PDAE Studio "));

    let changed = text.replace("\"Tiny\"", "\"Old\"").replace(recipe["model"]["sha256"].as_str().unwrap(), "0");
    std::fs::write(at("changed.json"), changed).unwrap();
    let (ok, stdout, stderr) =
        run(call("edit", &[&source], &at("changed.png"), &["--recipe", at("changed.json").to_str().unwrap(), "--json"]));
    assert!(ok && stderr.contains("another model (Old) than Tiny"), "{stderr}");
    assert!(stdout.contains("another model (Old) than Tiny"), "{stdout}");

    // Names in a recipe that was written by hand may be spelled as on the command line.
    let by_hand =
        String::from_utf8(bytes("locked.recipe.json")).unwrap().replace("\"Smiling\"", "\"smile\"").replace("\"Young\"", "\"YOUNG\"");
    std::fs::write(at("by-hand.json"), by_hand).unwrap();
    let (ok, _, stderr) = run(call("edit", &[&source], &at("by-hand.png"), &["--recipe", at("by-hand.json").to_str().unwrap()]));
    assert!(ok && bytes("by-hand.png") == bytes("locked.png"), "{stderr}");
    std::fs::write(at("broken.json"), "{").unwrap();
    let (ok, _, stderr) = run(call("edit", &[&source], &at("broken.png"), &["--recipe", at("broken.json").to_str().unwrap()]));
    assert!(!ok && stderr.contains("broken.json"), "{stderr}");
}

fn open(path: &Path) -> BufReader<File> {
    BufReader::new(File::open(path).unwrap())
}

#[test]
fn interpolations_have_the_frames_that_were_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let (a, b) = (photo(&folder.path().join("a.png"), 1), photo(&folder.path().join("b.png"), 9));
    let make = |name: &str, more: &[&str]| {
        let path = folder.path().join(name);
        let (ok, _, stderr) = run(call("interpolate", &[&a, &b], &path, &[&["--frames", "4"], more].concat()));
        assert!(ok, "{name}: {stderr}");
        path
    };
    let strip = image::open(make("strip.png", &["--easing", "smooth"])).unwrap().to_rgb8();
    assert_eq!(strip.dimensions(), (4 * 64, 64));
    let frame = |strip: &RgbImage, i: u32| image::imageops::crop_imm(strip, i * 64, 0, 64, 64).to_image();
    assert!((0..3).all(|i| frame(&strip, i) != frame(&strip, i + 1)), "every picture differs from the next");

    let gif = GifDecoder::new(open(&make("a.gif", &["--ping-pong"]))).unwrap();
    assert_eq!(gif.into_frames().collect_frames().unwrap().len(), 6, "4 there and 2 back");

    let mut webp = WebPDecoder::new(open(&make("a.webp", &["--fps", "10"]))).unwrap();
    let packet = String::from_utf8(webp.xmp_metadata().unwrap().expect("XMP")).unwrap();
    assert!(packet.contains("/trainedAlgorithmicMedia"), "{packet}");
    let frames = webp.into_frames().collect_frames().unwrap();
    assert_eq!(frames.len(), 4);
    assert_eq!(frames[1].delay().numer_denom_ms(), (100, 1));

    let apng = make("a.apng", &["--mode", "trajectory", "--size", "96"]);
    let frames = PngDecoder::new(open(&apng)).unwrap().apng().unwrap().into_frames().collect_frames().unwrap();
    assert_eq!((frames.len(), frames[3].buffer().dimensions()), (4, (96, 96)));

    let straight = image::open(make("straight.png", &[])).unwrap().to_rgb8();
    // Lossless: the same pictures in both files.
    let first = webp_frames(&folder.path().join("a.webp")).remove(0);
    assert!(first == frame(&straight, 0) && first == frame(&strip, 0), "all ways start at A");
    assert!(frame(&strip, 3) == frame(&straight, 3), "and end at B");
    assert!(frame(&strip, 1) != frame(&straight, 1), "easing changes what lies between");
}

fn webp_frames(path: &Path) -> Vec<RgbImage> {
    let frames = WebPDecoder::new(open(path)).unwrap().into_frames().collect_frames().unwrap();
    frames.into_iter().map(|f| image::DynamicImage::ImageRgba8(f.into_buffer()).into_rgb8()).collect()
}

#[test]
fn interpolation_names_what_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let a = photo(&folder.path().join("a.png"), 1);
    let out = |name: &str| folder.path().join(name);
    let (ok, _, stderr) = run(call("interpolate", &[&a, &a], &out("x.doc"), &[]));
    assert!(!ok && stderr.contains("x.doc") && stderr.contains(".apng"), "{stderr}");
    let (ok, _, stderr) = run(call("interpolate", &[&a, &out("none.png")], &out("x.gif"), &[]));
    assert!(!ok && stderr.contains("none.png"), "{stderr}");
    std::fs::write(out("mine.gif"), "mine").unwrap();
    let (ok, _, stderr) = run(call("interpolate", &[&a, &a], &out("mine.gif"), &[]));
    assert!(!ok && stderr.contains("exists"), "{stderr}");
    let mut without = call("interpolate", &[&a, &a], &out("x.mp4"), &[]);
    without.env("PATH", folder.path());
    let (ok, _, stderr) = run(without);
    assert!(!ok && stderr.contains("ffmpeg") && stderr.contains(".webp"), "{stderr}");
}
