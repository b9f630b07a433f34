//! The recipe as a file beside an exported picture: everything that makes the same picture from the same photo again.

use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::Recipe;
use crate::photo::{ExportOptions, Frame, Photo, Upsampling};

/// Changes when an older program could no longer read a sidecar.
pub const FORMAT: u32 = 1;
/// Larger files than this are no recipes.
const MAX_BYTES: u64 = 1 << 20;

/// What is written beside an export.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sidecar {
    pub format: u32,
    /// Name and version of the program that made it.
    pub program: String,
    pub source: SourceEntry,
    pub model: ModelEntry,
    /// The part of the photo that the model saw, in pixels of the upright photo.
    pub frame: Frame,
    /// Where the stochastic latent came from: this seed's noise, or (without one) inversion of the photo.
    #[serde(default)]
    pub seed: Option<u64>,
    /// Denoising steps of the inversion, where they are not those of the decode.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inversion_steps: Option<usize>,
    #[serde(flatten)]
    pub recipe: Recipe,
    #[serde(default)]
    pub crop: Crop,
    #[serde(default)]
    pub upsampling: Upsampling,
    #[serde(default)]
    pub export: ExportOptions,
}

/// The photo that was edited.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceEntry {
    /// File name without folder; the hash, not this, says which photo it was.
    pub file: String,
    /// SHA-256 of the file, as hexadecimal; `None` for a picture that never was a file.
    pub sha256: Option<String>,
}

/// The model that it was edited with.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelEntry {
    pub name: String,
    /// SHA-256 of the weights, as hexadecimal.
    pub sha256: String,
}

/// How much of the photo is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Crop {
    /// The whole photo, at its own size.
    #[default]
    None,
    /// The square that the model saw, from the edited photo, at the photo's resolution.
    Full,
    /// The decoded picture itself, at the model's size.
    Model,
}

#[derive(Debug, Error)]
pub enum SidecarError {
    #[error("the recipe {path} could not be read: {reason}. Name a recipe that PDAE Studio saved", path = path.display())]
    Read { path: PathBuf, reason: String },
    #[error("{path} is not a recipe: {reason}. Name a file that PDAE Studio saved beside a picture, ending in .recipe.json", path = path.display())]
    NotARecipe { path: PathBuf, reason: String },
    #[error("the recipe {path} was made by a newer version of the program; update PDAE Studio to use it", path = .0.display())]
    Newer(PathBuf),
    #[error("the recipe {path} exists already. Choose another name, or allow it to be replaced", path = .0.display())]
    Exists(PathBuf),
    #[error("the recipe {path} could not be written: {reason}. Check that the folder exists and the disk has room", path = path.display())]
    Write { path: PathBuf, reason: String },
}

impl SourceEntry {
    pub fn of(photo: &Photo) -> Self {
        let file = photo.path.as_deref().and_then(Path::file_name).map(|n| n.to_string_lossy().into_owned());
        Self { file: file.unwrap_or_else(|| photo.name.clone()), sha256: photo.sha256.clone() }
    }
}

impl Sidecar {
    /// The program as it names itself in recipes.
    pub fn program() -> String {
        concat!("PDAE Studio ", env!("CARGO_PKG_VERSION")).to_owned()
    }

    pub fn read(path: &Path) -> Result<Self, SidecarError> {
        let unreadable = |reason: String| SidecarError::Read { path: path.into(), reason };
        let other = |reason: String| SidecarError::NotARecipe { path: path.into(), reason };
        let found = std::fs::metadata(path).map_err(|e| unreadable(e.to_string()))?;
        if found.is_dir() {
            return Err(other("it is a folder".into()));
        }
        if found.len() > MAX_BYTES {
            return Err(other(format!("it is {} bytes large", found.len())));
        }
        let bytes = std::fs::read(path).map_err(|e| unreadable(e.to_string()))?;
        let text = String::from_utf8(bytes).map_err(|_| other("it is not text".into()))?;
        let value: serde_json::Value = serde_json::from_str(&text).map_err(|e| {
            let what = if e.is_eof() { "it breaks off in the middle" } else { "it is not written as one" };
            other(format!("{what} ({e})"))
        })?;
        if value["format"].as_u64().is_some_and(|format| format > u64::from(FORMAT)) {
            return Err(SidecarError::Newer(path.into()));
        }
        let mut sidecar: Self = serde_json::from_value(value).map_err(|e| other(e.to_string()))?;
        sidecar.check().map_err(unreadable)?;
        // Zeros are left out in memory.
        sidecar.recipe.sliders.retain(|_, percent| *percent != 0.0);
        Ok(sidecar)
    }

    /// What a hand-written or damaged file may get wrong.
    fn check(&self) -> Result<(), String> {
        let Recipe {
            sliders,
            locked: _,
            steps,
            solver: _,
            inversion: _,
            guidance,
            stop_percent,
            keep_background: _,
            fresh_noise,
            noise_seed: _,
        } = &self.recipe;
        if let Some((name, percent)) = sliders.iter().find(|(_, p)| !p.is_finite() || p.abs() > Recipe::MAX_PERCENT) {
            return Err(format!("{name} is {percent}, which is out of range (-1000 to 1000 percent)"));
        }
        for steps in std::iter::once(steps).chain(&self.inversion_steps) {
            if !(1..=Recipe::MAX_STEPS).contains(steps) {
                return Err(format!("{steps} steps are out of range (1 to {})", Recipe::MAX_STEPS));
            }
        }
        if !self.frame.is_valid() {
            return Err("the frame is out of range".into());
        }
        if !guidance.is_finite() || !(0.0..=1.0).contains(stop_percent) {
            return Err("guidance or stop_percent is out of range".into());
        }
        if !(0.0..=1.0).contains(fresh_noise) {
            return Err("fresh_noise is out of range (0 to 1)".into());
        }
        Ok(())
    }

    /// Writes it as JSON, to a temporary file first.
    pub fn write(&self, path: &Path, overwrite: bool) -> Result<(), SidecarError> {
        let failed = |reason: String| SidecarError::Write { path: path.into(), reason };
        let text = serde_json::to_string_pretty(self).map_err(|e| failed(e.to_string()))? + "\n";
        crate::files::write_renamed(path, overwrite, |file| file.write_all(text.as_bytes())).map_err(|e| match e.kind() {
            std::io::ErrorKind::AlreadyExists => SidecarError::Exists(path.into()),
            _ => failed(e.to_string()),
        })
    }

    /// Sentences on what is not as it was when the recipe was made.
    pub fn differences(&self, source: &SourceEntry, model: &ModelEntry) -> Vec<String> {
        let mut out = vec![];
        if self.source.sha256.is_some() && self.source.sha256 != source.sha256 {
            out.push(format!("the recipe was made for another photo ({}) than {}, so the result differs", self.source.file, source.file));
        }
        if self.model.sha256 != model.sha256 {
            out.push(format!("the recipe was made with another model ({}) than {}, so the result differs", self.model.name, model.name));
        }
        out
    }
}

/// `out.png` to `out.recipe.json`.
pub fn path_beside(export: &Path) -> PathBuf {
    export.with_extension("recipe.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sidecar() -> Sidecar {
        let mut recipe = Recipe { steps: 7, guidance: 1.25, stop_percent: 0.1, ..Recipe::default() };
        recipe.set_slider("Smiling", 33.3);
        Sidecar {
            format: FORMAT,
            program: Sidecar::program(),
            source: SourceEntry { file: "a.jpg".into(), sha256: Some("12".into()) },
            model: ModelEntry { name: "Tiny".into(), sha256: "34".into() },
            frame: Frame { centre: [1.5, 2.25], side: 3.0, angle: -0.5 },
            seed: Some(u64::MAX),
            inversion_steps: Some(9),
            recipe,
            crop: Crop::Model,
            upsampling: Upsampling::Smooth,
            export: ExportOptions { jpeg_quality: 80, keep_metadata: false, ..ExportOptions::default() },
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.recipe.json");
        sidecar().write(&path, false).unwrap();
        assert_eq!(Sidecar::read(&path).unwrap(), sidecar());
        assert!(matches!(sidecar().write(&path, false), Err(SidecarError::Exists(_))));
        sidecar().write(&path, true).unwrap();
    }

    /// Such files made their pictures by the published sampler, backgrounds included, and must make the same ones again.
    #[test]
    fn a_recipe_from_before_there_was_a_choice_keeps_its_way() {
        use crate::diffusion::{Inversion, Solver};
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.recipe.json");
        let mut old = serde_json::to_value(sidecar()).unwrap();
        let fields = old.as_object_mut().unwrap();
        for name in ["solver", "inversion", "keep_background"] {
            assert!(fields.remove(name).is_some(), "{name}");
        }
        std::fs::write(&path, old.to_string()).unwrap();
        let recipe = Sidecar::read(&path).unwrap().recipe;
        assert_eq!((recipe.solver, recipe.inversion, recipe.keep_background), (Solver::Ddim, Inversion::Explicit, false));
        assert_eq!(recipe.steps, sidecar().recipe.steps);
    }

    #[test]
    fn what_cannot_be_used_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.recipe.json");
        let good = serde_json::to_value(sidecar()).unwrap();
        for (key, value, part) in [
            ("format", serde_json::json!(2), "newer"),
            ("steps", serde_json::json!(0), "0 steps"),
            ("steps", serde_json::json!(-1), "invalid"),
            ("inversion_steps", serde_json::json!(0), "0 steps"),
            ("stop_percent", serde_json::json!(1.5), "stop_percent"),
            ("sliders", serde_json::json!({"Smiling": 5000}), "Smiling"),
            ("frame", serde_json::json!(null), "invalid"),
            ("frame", serde_json::json!({"centre": [1.0, 2.0], "side": -3.0, "angle": 0.0}), "frame"),
        ] {
            let mut bad = good.clone();
            bad[key] = value;
            std::fs::write(&path, bad.to_string()).unwrap();
            let error = Sidecar::read(&path).unwrap_err().to_string();
            assert!(error.contains(part) && error.contains("a.recipe.json"), "{key}: {error}");
        }
        std::fs::write(&path, "{").unwrap();
        assert!(Sidecar::read(&path).is_err());
        for (bytes, part) in [(&b"{\n"[..], "breaks off"), (b"\xff\xd8\xff", "not text"), (b"{\"a\": 1}", "missing field")] {
            std::fs::write(&path, bytes).unwrap();
            let error = Sidecar::read(&path).unwrap_err().to_string();
            assert!(error.contains("a.recipe.json is not a recipe") && error.contains(part), "{error}");
        }
        assert!(Sidecar::read(folder.path()).is_err());
    }

    #[test]
    fn differences_are_named() {
        let sidecar = sidecar();
        assert!(sidecar.differences(&sidecar.source, &sidecar.model).is_empty());
        let other = SourceEntry { file: "b.jpg".into(), sha256: Some("56".into()) };
        let said = sidecar.differences(&other, &ModelEntry::default());
        assert_eq!(said.len(), 2);
        assert!(said[0].contains("a.jpg") && said[0].contains("b.jpg"), "{said:?}");
    }
}
