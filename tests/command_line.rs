//! The program as a person starts it: exit codes, what it says, and what it writes.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use assert_cmd::Command;
use assert_cmd::assert::Assert;
use image::{Rgb, RgbImage};
use tempfile::TempDir;

fn program() -> Command {
    let mut command = Command::cargo_bin("pdae-studio").expect("the program is built");
    command.env_remove("DISPLAY").env_remove("WAYLAND_DISPLAY").env_remove("WAYLAND_SOCKET");
    command
}

fn said(assert: &Assert) -> (String, String) {
    let output = assert.get_output();
    (String::from_utf8_lossy(&output.stdout).into_owned(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[track_caller]
fn fails_with(command: &mut Command, parts: &[&str]) {
    let assert = command.assert().failure();
    let (_, stderr) = said(&assert);
    for part in parts {
        assert!(stderr.contains(part), "{stderr:?} does not mention {part:?}");
    }
    assert!(!stderr.contains("panicked"), "{stderr}");
}

/// The golden case as a bundle, made once by the program's own `import`.
fn bundle() -> &'static Path {
    static BUNDLE: OnceLock<TempDir> = OnceLock::new();
    let folder = BUNDLE.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a folder");
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/pdae-tiny-64");
        program().arg("import").arg(golden).arg("-o").arg(folder.path().join("tiny")).args(["--name", "Tiny"]).assert().success();
        folder
    });
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| folder.path().join("tiny"))
}

/// A photo of 90 x 70 pixels, wider than its square crop.
fn photo(folder: &Path) -> PathBuf {
    let path = folder.join("photo.png");
    RgbImage::from_fn(90, 70, |x, y| Rgb([(x * 2) as u8, (y * 3) as u8, ((x + y) % 64 * 3) as u8]))
        .save(&path)
        .expect("the photo is written");
    path
}

fn edit(photo: &Path, out: &Path, more: &[&str]) -> Command {
    let mut command = program();
    command.arg("edit").arg(photo).arg("-o").arg(out).args(["--steps", "3", "--device", "cpu", "--model"]).arg(bundle()).args(more);
    command
}

#[test]
fn an_edit_changes_the_face_and_nothing_beside_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let (photo, out) = (photo(folder.path()), folder.path().join("out.png"));
    let assert = edit(&photo, &out, &["--set", "smiling=90", "--set", "Young=-40"]).assert().success();
    assert!(said(&assert).0.contains("out.png (90 x 70 pixels)"), "{assert}");
    let (before, after) = (image::open(photo).unwrap().to_rgb8(), image::open(&out).unwrap().to_rgb8());
    assert_eq!(before.dimensions(), after.dimensions());
    let changed = |x: std::ops::Range<u32>| {
        x.flat_map(|x| (0..70).map(move |y| (x, y))).filter(|&(x, y)| before.get_pixel(x, y) != after.get_pixel(x, y)).count()
    };
    assert!(changed(10..80) > 100, "the edit shows in the square");
    assert_eq!(changed(0..10) + changed(80..90), 0, "what lies outside the square is left alone");
}

#[test]
fn no_edit_returns_the_photo_bit_for_bit() {
    let folder = tempfile::tempdir().expect("a folder");
    let (photo, out) = (photo(folder.path()), folder.path().join("out.png"));
    edit(&photo, &out, &[]).assert().success();
    assert!(image::open(photo).unwrap().to_rgb8() == image::open(out).unwrap().to_rgb8());
}

#[test]
fn an_existing_file_is_kept_unless_asked_otherwise() {
    let folder = tempfile::tempdir().expect("a folder");
    let (photo, out) = (photo(folder.path()), folder.path().join("out.jpg"));
    std::fs::write(&out, "mine").unwrap();
    fails_with(&mut edit(&photo, &out, &[]), &["out.jpg", "exists", "--overwrite"]);
    assert_eq!(std::fs::read(&out).unwrap(), b"mine");
    edit(&photo, &out, &["--overwrite"]).assert().success();
    assert_eq!(image::open(&out).unwrap().to_rgb8().dimensions(), (90, 70));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2, "no temporary file is left behind");
}

#[test]
fn mistakes_are_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let (photo, out) = (photo(folder.path()), folder.path().join("out.png"));
    fails_with(&mut edit(&photo, &out, &["--set", "smilling=60"]), &["smilling", "Smiling"]);
    fails_with(&mut edit(&photo, &out, &["--set", "smiling=lots"]), &["lots"]);
    fails_with(&mut edit(&photo, &out, &["--set", "smiling=60", "--lock", "yung"]), &["yung", "Young"]);
    fails_with(&mut edit(&folder.path().join("none.png"), &out, &[]), &["none.png"]);
    fails_with(&mut edit(&photo, &folder.path().join("out.docx"), &[]), &["docx"]);
    let broken = folder.path().join("broken.jpg");
    std::fs::write(&broken, [0xff, 0xd8, 0xff, 0xe0, 0, 16]).unwrap();
    fails_with(&mut edit(&broken, &out, &[]), &["broken.jpg"]);
    fails_with(program().args(["info", "no-such-model"]), &["no-such-model"]);
    fails_with(program().arg("info").arg(folder.path()), &["is not a model: there is no manifest.json in it", "model.safetensors"]);
    fails_with(program().arg("info").arg(&photo), &["photo.png is not a model: it is a file"]);
    fails_with(program().arg("eddit"), &["neither a command nor a file called eddit", "pdae-studio edit"]);
    fails_with(&mut edit(&photo, &out, &["--recipe", photo.to_str().unwrap()]), &["photo.png is not a recipe: it is not text"]);
    fails_with(program().arg("sheet").arg(folder.path()).arg("-o").arg(&out).args(["--model", "nowhere"]), &["it is a folder"]);
    let two = folder.path().join("two.png");
    fails_with(edit(&photo, &two, &[]).arg(&broken), &["two.png is a picture's name", "folder"]);
    fails_with(edit(&photo, &photo, &[]).arg(&broken), &["photo.png is a file"]);
    assert!(!out.exists() && !two.exists());
}

#[test]
fn an_output_that_cannot_be_written_is_found_before_any_work() {
    let folder = tempfile::tempdir().expect("a folder");
    let (photo, missing) = (photo(folder.path()), folder.path().join("missing"));
    for (command, photos, out) in [("edit", 1, "out.png"), ("interpolate", 2, "out.gif"), ("sheet", 1, "out.jpg"), ("sample", 0, "out.png")]
    {
        let mut call = program();
        call.arg(command).args(std::iter::repeat_n(&photo, photos)).arg("-o").arg(missing.join(out)).args(["--model", "nowhere"]);
        fails_with(&mut call, &[out, "could not be written", "check that the folder exists"]);
        let (_, stderr) = said(&call.assert());
        assert!(!stderr.contains(".pdae-"), "{stderr}");
    }
    let mut call = program();
    call.args(["sample", "-o"]).arg(photo.join("faces")).args(["--model", "nowhere"]);
    fails_with(&mut call, &["faces could not be written to"]);
}

#[cfg(unix)]
#[test]
fn a_program_that_is_told_to_stop_leaves_no_half_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let (photo, out) = (photo(folder.path()), folder.path().join("out.gif"));
    let mut call = std::process::Command::new(assert_cmd::cargo::cargo_bin("pdae-studio"));
    // Large pictures, so that writing them takes a while.
    call.arg("interpolate").args([&photo, &photo]).arg("-o").arg(&out).args(["--steps", "1", "--frames", "6", "--size", "4096"]);
    let mut running = call.args(["--device", "cpu", "--model"]).arg(bundle()).spawn().expect("the program starts");
    let unfinished = || {
        let names = std::fs::read_dir(folder.path()).expect("the folder").map(|entry| entry.expect("an entry").file_name());
        names.filter(|name| name.to_string_lossy().ends_with(".tmp")).count()
    };
    while unfinished() == 0 {
        assert!(running.try_wait().expect("a process").is_none(), "it ended before it could be stopped");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let signal = std::process::Command::new("kill").arg(running.id().to_string()).status().expect("kill runs");
    assert!(signal.success());
    assert_eq!(running.wait().expect("it ends").code(), Some(128 + 15), "SIGTERM");
    assert_eq!(unfinished(), 0);
    assert!(!out.exists());
}

#[test]
fn a_training_is_refused_before_it_makes_a_folder() {
    let folder = tempfile::tempdir().expect("a folder");
    let (run, data) = (folder.path().join("run"), folder.path().join("data"));
    std::fs::create_dir(&data).unwrap();
    let train = |stage: &str, data: &Path, more: &[&str]| {
        let mut command = program();
        command.args(["train", stage, "--device", "cpu", "--run"]).arg(&run).arg("--data").arg(data).args(more);
        command
    };
    for (option, part) in [
        ("--rate=nan", "above 0"),
        ("--rate=-1", "above 0"),
        ("--ema=2", "not including, 1"),
        ("--min-snr=inf", "above 0"),
        ("--minutes=nan", "above 0"),
        ("--attention=3", "1, 2, 4 and so on"),
        ("--batch=0", "1..=65536"),
    ] {
        fails_with(&mut train("dpm", &data, &["--steps", "1", option]), &[part]);
    }
    fails_with(&mut train("dpm", &data, &["--steps", "0"]), &["at least 1"]);
    let (table, steps) = (folder.path().join("table.csv"), ["--steps", "1"]);
    std::fs::write(&table, "image,Smiling\na,1\n").unwrap();
    let attributes = ["--steps", "1", "--attributes", table.to_str().unwrap()];
    fails_with(&mut train("dpm", &folder.path().join("nowhere"), &steps), &["nowhere"]);
    fails_with(&mut train("dpm", &data, &steps), &["no image"]);
    fails_with(&mut train("judge", &data, &attributes), &["no image"]);
    fails_with(&mut train("autoencoder", &data, &["--steps", "1", "--dpm", "nowhere"]), &["nowhere is not a model"]);
    assert!(!run.exists());
}

#[test]
fn bench_tells_how_many_threads_compute() {
    let call = ["bench", "--threads", "1", "--steps-only", "--repeat", "1", "--device", "cpu", "--model"];
    let assert = program().args(call).arg(bundle()).assert().success();
    let (table, _) = said(&assert);
    assert!(table.contains("CPU, 1 thread,") && table.contains("(f32, 1 thread)"), "{table}");
}

#[test]
fn samples_come_as_a_grid_or_as_files() {
    let folder = tempfile::tempdir().expect("a folder");
    let sample = |out: &str, more: &[&str]| {
        let mut command = program();
        command.arg("sample").arg("-o").arg(folder.path().join(out)).args(["--steps", "2", "--latent-steps", "2", "--device", "cpu"]);
        command.arg("--model").arg(bundle()).args(more);
        command
    };
    sample("grid.png", &["-n", "3", "--seed", "5"]).assert().success();
    assert_eq!(image::open(folder.path().join("grid.png")).unwrap().to_rgb8().dimensions(), (128, 128));
    fails_with(&mut sample("grid.png", &[]), &["grid.png", "exists"]);
    sample("faces", &["-n", "2", "--seed", "5"]).assert().success();
    let [first, grid] = ["faces/0001.png", "grid.png"].map(|name| image::open(folder.path().join(name)).unwrap().to_rgb8());
    assert!(folder.path().join("faces/0002.png").exists());
    let corner = image::imageops::crop_imm(&grid, 0, 0, 64, 64).to_image();
    assert!(corner.iter().zip(first.iter()).all(|(a, b)| a.abs_diff(*b) <= 1), "the same seed draws the same face");
    let statement = String::from_utf8_lossy(&std::fs::read(folder.path().join("grid.png")).unwrap()).contains("trainedAlgorithmicMedia");
    assert!(statement, "the file says what made it");
    fails_with(&mut sample("faces.tiff", &[]), &["faces.tiff"]);
}

#[test]
fn evaluate_finds_out_first_whether_it_can_write() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    let evaluate = |option: &str, path: &Path| {
        let mut command = program();
        command.args(["evaluate", "--data", "nowhere", "--device", "cpu", "--model"]).arg(bundle()).arg(option).arg(path);
        command
    };
    std::fs::write(at("mine.json"), "mine").unwrap();
    fails_with(&mut evaluate("--json", &at("mine.json")), &["mine.json", "exists"]);
    fails_with(evaluate("--json", &at("mine.json")).arg("--overwrite"), &["nowhere"]);
    fails_with(&mut evaluate("--plot", &at("missing/gap.png")), &["could not write", "gap.png"]);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left behind");
}

#[test]
fn without_a_display_it_names_the_command_that_works() {
    fails_with(&mut program(), &["no display", "pdae-studio edit"]);
    fails_with(program().env("DISPLAY", ":4242"), &["no display", "does not answer", "pdae-studio edit"]);
}

#[test]
fn info_prints_the_card_of_the_default_model() {
    let assert = program().arg("info").assert().success();
    let (card, _) = said(&assert);
    for part in ["Image size", "Parameters", "GFLOP", "SHA-256", "Smiling", "Eyeglasses", "non-commercial", "CelebA-HQ"] {
        assert!(card.contains(part), "the card does not mention {part}:\n{card}");
    }
}

/// The one file that everybody has: the sample portrait through the model that comes with the program.
#[test]
fn the_default_model_edits_the_sample_portrait() {
    let folder = tempfile::tempdir().expect("a folder");
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/portraits/sample.jpg");
    let out = folder.path().join("smiling.png");
    program()
        .arg("edit")
        .arg(&sample)
        .arg("-o")
        .arg(&out)
        .args(["--set", "smiling=100", "--steps", "4", "--device", "cpu"])
        .assert()
        .success();
    let (before, after) = (image::open(&sample).unwrap().to_rgb8(), image::open(&out).unwrap().to_rgb8());
    assert_eq!(before.dimensions(), after.dimensions());
    assert!(before != after, "the edit shows");
}

#[test]
fn what_is_behind_the_person_stays_unless_asked_otherwise() {
    let folder = tempfile::tempdir().expect("a folder");
    let portrait = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/portraits/obama.jpg");
    let before = image::open(&portrait).unwrap().to_rgb8();
    let (width, height) = before.dimensions();
    let changes_behind = |name: &str, more: &[&str]| {
        let out = folder.path().join(name);
        let call = ["--set", "blond_hair=100", "--steps", "2", "--device", "cpu"];
        program().arg("edit").arg(&portrait).arg("-o").arg(&out).args(call).args(more).assert().success();
        let after = image::open(&out).unwrap().to_rgb8();
        assert!(before != after, "the edit shows");
        // What is to be seen of the room beside the head.
        let behind = |x: u32, y: u32| (width / 10..width / 6).contains(&x) && (height / 10..height / 4).contains(&y);
        before.enumerate_pixels().filter(|(x, y, pixel)| behind(*x, *y) && after.get_pixel(*x, *y) != *pixel).count()
    };
    assert_eq!(changes_behind("kept.png", &[]), 0);
    assert!(changes_behind("changed.png", &["--change-background", "--save-recipe"]) > 100);
    let old = folder.path().join("changed.recipe.json");
    let recipe = ["--recipe", old.to_str().unwrap()];
    assert!(changes_behind("again.png", &recipe) > 100);
    assert_eq!(changes_behind("kept again.png", &[recipe[0], recipe[1], "--keep-background"]), 0);
}

#[test]
fn the_face_to_edit_can_be_chosen() {
    let folder = tempfile::tempdir().expect("a folder");
    let portrait = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/portraits/obama.jpg");
    let out = |name: &str| folder.path().join(name);
    let (aligned, middle) = (out("aligned.png"), out("middle.png"));
    let assert = edit(&portrait, &aligned, &["--set", "smiling=90"]).assert().success();
    assert!(!said(&assert).1.contains("face"), "{assert}");
    edit(&portrait, &middle, &["--set", "smiling=90", "--no-align", "--save-recipe"]).assert().success();
    let pixels = |path: &Path| image::open(path).unwrap().to_rgb8();
    assert_ne!(pixels(&aligned), pixels(&middle));
    // A recipe's own frame gives way to a face that was asked for, the first one too.
    let (recipe, again) = (out("middle.recipe.json"), out("again.png"));
    edit(&portrait, &again, &["--recipe", recipe.to_str().unwrap(), "--face", "1"]).assert().success();
    assert!(pixels(&again) == pixels(&aligned));
    fails_with(&mut edit(&portrait, &out("second.png"), &["--face", "2"]), &["no face 2 in obama", "1 was found"]);
    let assert = edit(&photo(folder.path()), &out("drawing.png"), &[]).assert().success();
    assert!(said(&assert).1.contains("no face was found"), "{assert}");
}
