//! Damaged, missing and hostile checkpoints end in a sentence that names the file and what is wrong with it.

use std::fs;
use std::path::{Path, PathBuf};

use pdae_studio::checkpoint::import::ImportOptions;
use pdae_studio::checkpoint::{Bundle, CheckpointError, import};
use tempfile::TempDir;

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/pdae-tiny-64")
}

/// A copy of the published-format folder that a test may damage.
fn copy() -> TempDir {
    let to = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(golden()).unwrap() {
        let folder = entry.unwrap().path();
        if folder.is_dir() {
            let target = to.path().join(folder.file_name().unwrap());
            fs::create_dir(&target).unwrap();
            for file in fs::read_dir(&folder).unwrap() {
                let file = file.unwrap().path();
                fs::copy(&file, target.join(file.file_name().unwrap())).unwrap();
            }
        }
    }
    to
}

fn error(folder: &Path) -> String {
    import(folder, &ImportOptions::default()).expect_err("the import must fail").to_string()
}

#[track_caller]
fn mentions(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "{message:?} does not mention {part:?}");
    }
}

#[test]
fn parts_are_found_wherever_they_lie() {
    let folder = copy();
    let deep = folder.path().join("downloads/a/b");
    fs::create_dir_all(&deep).unwrap();
    // The latent statistics and the classifier in one place, under other names.
    fs::rename(folder.path().join("latents/latents.pt"), deep.join("celeba.pt")).unwrap();
    fs::rename(folder.path().join("classifier/checkpoint.pt"), deep.join("classifier-of-40.pt")).unwrap();
    let bundle = import(folder.path(), &ImportOptions::default()).unwrap();
    assert_eq!(bundle.manifest.attributes.len(), 40);
    assert_eq!(bundle.latent_space().mean.len(), 128);
    assert!(bundle.weights.tensors.keys().all(|k| !k.contains("linear_emb")), "the doubled layer is dropped");
    assert!(!bundle.weights.tensors.keys().any(|k| k.contains("optimizer")));
}

#[test]
fn without_the_optional_parts_there_are_no_sliders() {
    let folder = copy();
    for part in ["classifier", "latents", "latent-dpm", "pre-trained-dpm/checkpoint.pt"] {
        let path = folder.path().join(part);
        if path.is_dir() { fs::remove_dir_all(path).unwrap() } else { fs::remove_file(path).unwrap() }
    }
    let bundle = import(folder.path(), &ImportOptions::default()).unwrap();
    assert!(bundle.manifest.attributes.is_empty() && bundle.manifest.config.latent_dpm.is_none());
}

#[test]
fn a_truncated_checkpoint_is_named() {
    let folder = copy();
    let path = folder.path().join("autoencoder/checkpoint.pt");
    let bytes = fs::read(&path).unwrap();
    for keep in [0, 1, 100, bytes.len() / 2, bytes.len() - 100] {
        fs::write(&path, &bytes[..keep]).unwrap();
        mentions(&error(folder.path()), &["autoencoder/checkpoint.pt", "damaged"]);
    }
}

#[test]
fn garbage_never_panics() {
    let folder = copy();
    let path = folder.path().join("autoencoder/checkpoint.pt");
    let bytes = fs::read(&path).unwrap();
    // Every few bytes of the directory at the end of the file and of the pickle at its start, inverted.
    for at in (0..4096).step_by(127).chain((bytes.len() - 4096..bytes.len()).step_by(127)) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0xff;
        fs::write(&path, damaged).unwrap();
        let _ = import(folder.path(), &ImportOptions::default()); // an error or not, but no panic
    }
}

#[test]
fn missing_parts_are_named() {
    let folder = copy();
    fs::remove_dir_all(folder.path().join("autoencoder")).unwrap();
    mentions(&error(folder.path()), &["autoencoder checkpoint", "ema_decoder"]);

    let folder = copy();
    fs::remove_file(folder.path().join("pre-trained-dpm/config.yml")).unwrap();
    mentions(&error(folder.path()), &["denoise_fn_config"]);

    let folder = copy();
    fs::remove_dir_all(folder.path().join("latents")).unwrap();
    mentions(&error(folder.path()), &["latent statistics"]);

    let empty = tempfile::tempdir().unwrap();
    mentions(&error(empty.path()), &["autoencoder checkpoint"]);
    mentions(&error(&empty.path().join("nowhere")), &["nowhere"]);
}

#[test]
fn a_wrong_shape_names_the_file_the_key_and_both_shapes() {
    let folder = copy();
    let config = folder.path().join("pre-trained-dpm/config.yml");
    let text = fs::read_to_string(&config).unwrap().replace("base_channel: 32", "base_channel: 64");
    fs::write(&config, text).unwrap();
    mentions(&error(folder.path()), &["autoencoder/checkpoint.pt", "decoder.time_embed.0.weight", "[128, 32]", "[256, 64]"]);
}

#[test]
fn a_missing_key_names_the_file_and_the_key() {
    let folder = copy();
    let config = folder.path().join("pre-trained-dpm/config.yml");
    // Attention where the weights have none.
    let text = fs::read_to_string(&config).unwrap().replace("- 2\nnum", "- 1\n- 2\nnum");
    let text = if text.contains("- 1\n- 2\n  num") {
        text
    } else {
        text.replace("  attention_resolutions:\n  - 2\n", "  attention_resolutions:\n  - 1\n  - 2\n")
    };
    fs::write(&config, text).unwrap();
    mentions(&error(folder.path()), &["autoencoder/checkpoint.pt", "decoder.input_blocks.1.1.norm.weight"]);
}

#[test]
fn two_models_in_one_folder_are_not_guessed_between() {
    let folder = copy();
    let again = folder.path().join("autoencoder-2");
    fs::create_dir(&again).unwrap();
    fs::copy(folder.path().join("autoencoder/checkpoint.pt"), again.join("checkpoint.pt")).unwrap();
    mentions(&error(folder.path()), &["more than one", "autoencoder-2"]);
}

#[test]
fn absurd_configurations_are_refused() {
    for (from, to, about) in [
        ("base_channel: 32", "base_channel: 33", "multiple of 32"),
        ("num_heads: 2", "num_heads: 0", "heads"),
        ("num_residual_blocks_of_a_block: 1", "num_residual_blocks_of_a_block: 1000", "residual"),
    ] {
        let folder = copy();
        let config = folder.path().join("pre-trained-dpm/config.yml");
        let text = fs::read_to_string(&config).unwrap();
        assert!(text.contains(from));
        fs::write(&config, text.replace(from, to)).unwrap();
        mentions(&error(folder.path()), &["config.yml", about]);
    }
    let folder = copy();
    fs::write(folder.path().join("pre-trained-dpm/config.yml"), "denoise_fn_config: [1, 2").unwrap();
    mentions(&error(folder.path()), &["config.yml", "not a readable configuration"]);
}

#[test]
fn bundles_are_checked_when_they_are_opened() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bundle");
    let mut bundle = import(&golden(), &ImportOptions::default()).unwrap();
    bundle.save(&path, false).unwrap();
    assert!(matches!(bundle.save(&path, false), Err(CheckpointError::Exists { .. })));
    assert_eq!(Bundle::load(&path).unwrap().manifest, bundle.manifest);

    // Replaced while its own weights are still there, and where a crash or the file system has left them another name.
    let names = || {
        let mut names: Vec<_> = fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let weights = path.join("model.safetensors");
    let old = fs::read(path.join("manifest.json")).unwrap();
    let first = fs::metadata(&weights).unwrap();
    bundle.manifest.name = "another".into();
    bundle.save(&path, true).unwrap();
    assert_eq!((Bundle::load(&path).unwrap().manifest.name.as_str(), first.len()), ("another", fs::metadata(&weights).unwrap().len()));
    assert_eq!(names(), ["manifest.json", "model.safetensors"]);
    fs::rename(&weights, path.join("model-new.safetensors")).unwrap();
    fs::write(path.join("manifest.json"), String::from_utf8(old).unwrap().replace("model.safetensors", "model-new.safetensors")).unwrap();
    assert_eq!(Bundle::load(&path).unwrap().manifest.weights.file, "model-new.safetensors");
    bundle.save(&path, true).unwrap();
    assert_eq!(names(), ["manifest.json", "model.safetensors"]);
    Bundle::load(&path).unwrap();

    let bytes = fs::read(&weights).unwrap();
    let open = || Bundle::load(&path).expect_err("the bundle is damaged").to_string();
    let mut flipped = bytes.clone();
    *flipped.last_mut().unwrap() ^= 1;
    fs::write(&weights, &flipped).unwrap();
    mentions(&open(), &["model.safetensors", "SHA-256"]);
    for keep in [0, 4, 1000, bytes.len() - 1] {
        fs::write(&weights, &bytes[..keep]).unwrap();
        mentions(&open(), &["model.safetensors", "damaged"]);
    }
    // A header that claims more than there is.
    let mut hostile = u64::MAX.to_le_bytes().to_vec();
    hostile.extend(b"{}");
    fs::write(&weights, hostile).unwrap();
    mentions(&open(), &["model.safetensors", "damaged"]);
    fs::remove_file(&weights).unwrap();
    mentions(&open(), &["model.safetensors"]);

    fs::write(&weights, &bytes).unwrap();
    let manifest = fs::read_to_string(path.join("manifest.json")).unwrap();
    for (from, to, about) in [
        ("\"format\": 1", "\"format\": 99", "newer version"),
        ("model.safetensors", "../../etc/passwd", "plain file name"),
        ("{", "", "not a bundle's manifest"),
    ] {
        fs::write(path.join("manifest.json"), manifest.replacen(from, to, 1)).unwrap();
        mentions(&open(), &[about]);
    }
}

#[test]
fn of_bundles_that_are_saved_at_a_time_one_is_whole() {
    let folder = tempfile::tempdir().unwrap();
    let first = import(&golden(), &ImportOptions::default()).unwrap();
    // Each has a name and weights of its own.
    let own = |i: usize| {
        let mut bundle = first.clone();
        bundle.manifest.name = i.to_string();
        bundle.weights.tensors.get_mut("latents.mean").unwrap().values.fill(i as f32);
        bundle
    };
    let save_all = |path: &Path, replace: bool| {
        std::thread::scope(|scope| {
            let saves: Vec<_> = (0..6).map(|i| scope.spawn(move || own(i).save(path, replace).is_ok())).collect();
            saves.into_iter().map(|save| save.join().unwrap()).filter(|saved| *saved).count()
        })
    };
    let is_whole = |path: &Path| {
        let bundle = Bundle::load(path).unwrap();
        assert_eq!(bundle.weights.tensors["latents.mean"].values[0].to_string(), bundle.manifest.name);
        assert_eq!(fs::read_dir(path).unwrap().count(), 2);
    };
    let path = folder.path().join("new");
    assert_eq!(save_all(&path, false), 1);
    is_whole(&path);
    // Not on Windows, which has no locks for folders.
    for _ in 0..if cfg!(unix) { 10 } else { 0 } {
        assert_eq!(save_all(&path, true), 6);
        is_whole(&path);
    }
}

#[test]
fn half_precision_weights_round_trip() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bundle");
    let mut bundle = import(&golden(), &ImportOptions::default()).unwrap();
    bundle.save(&path, false).unwrap();
    let read = Bundle::load(&path).unwrap();
    for (name, tensor) in &bundle.weights.tensors {
        let back = &read.weights.tensors[name];
        assert_eq!(tensor.shape, back.shape, "{name}");
        // f16 has 11 significant bits, and values below 6e-5 lose some of those.
        let close = |a: f32, b: f32| (a - b).abs() <= a.abs() / 1024.0 + 1e-6;
        assert!(tensor.values.iter().zip(&back.values).all(|(a, b)| close(*a, *b)), "{name}");
    }
}
