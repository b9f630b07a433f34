//! Which photos a call of `edit` means, and where each result goes.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use super::edit::EditCommandError;
use crate::editing::sidecar;
use crate::photo::ExportFormat;

/// Endings that make a file in a folder a photo. What PDAE Studio cannot read is listed too, so that it is not passed over in silence.
const PHOTO_ENDINGS: [&str; 12] = ["jpg", "jpeg", "png", "webp", "tif", "tiff", "bmp", "gif", "avif", "heic", "heif", "jxl"];

/// One photo and the file that it becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    pub photo: PathBuf,
    pub output: PathBuf,
}

/// What `-o` names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    File,
    Folder,
}

/// An ending that a picture can be written with.
pub fn parse_ending(text: &str) -> Result<String, String> {
    let ending = text.trim_start_matches('.').to_lowercase();
    match ExportFormat::of(&Path::new("x").with_extension(&ending)) {
        Ok(_) => Ok(ending),
        Err(_) => Err(format!("{text:?} is none of png, jpg, webp and tif")),
    }
}

/// A folder, if there is more than one photo, or if the output looks like one.
pub fn target(photos: &[PathBuf], output: &Path) -> Target {
    let several = photos.len() > 1 || photos.iter().any(|p| p.is_dir());
    if several || output.is_dir() || ends_in_separator(output) || output.extension().is_none() { Target::Folder } else { Target::File }
}

/// Refuses what nobody means by a folder: a picture's name, unless a folder has it or a separator ends it, and a file.
pub fn check_folder(output: &Path) -> Result<(), EditCommandError> {
    if output.is_file() {
        return Err(EditCommandError::FileForFolder(output.into()));
    }
    if is_photo(output) && !output.is_dir() && !ends_in_separator(output) {
        return Err(EditCommandError::PictureForFolder(output.into()));
    }
    Ok(())
}

fn ends_in_separator(path: &Path) -> bool {
    path.as_os_str().to_string_lossy().ends_with(std::path::is_separator)
}

/// By its ending.
fn is_photo(path: &Path) -> bool {
    path.extension().is_some_and(|ending| PHOTO_ENDINGS.contains(&&*ending.to_string_lossy().to_lowercase()))
}

/// Every photo once, those of a folder in the order of their names; no two results with one name, nor with one recipe if there are
/// `recipes` beside them, and none in the place of another photo.
pub fn jobs(photos: &[PathBuf], output: &Path, target: Target, ending: Option<&str>, recipes: bool) -> Result<Vec<Job>, EditCommandError> {
    let mut files = vec![];
    for photo in photos {
        if photo.is_dir() {
            let found = photos_in(photo)?;
            if found.is_empty() {
                return Err(EditCommandError::NoPhotos(photo.clone()));
            }
            files.extend(found);
        } else {
            files.push(photo.clone());
        }
    }
    let mut seen = HashSet::new();
    files.retain(|file| seen.insert(file.clone()));
    if target == Target::File {
        return Ok(files.into_iter().map(|photo| Job { photo, output: output.into() }).collect());
    }
    let mut taken = HashSet::new();
    let places: HashSet<String> = files.iter().map(|file| place(file)).collect();
    let name = |photo: PathBuf| {
        let own = place(&photo);
        // A photo that is yet to be read would be lost, even where results may be replaced.
        let is_photo = |name: &str| {
            let place = place(&output.join(name));
            place != own && places.contains(&place)
        };
        let name = result_name(&photo, ending, recipes, &mut taken, is_photo);
        Job { photo, output: output.join(name) }
    };
    Ok(files.into_iter().map(name).collect())
}

/// Where a file is, whatever way leads to its folder and in whatever case its name is.
fn place(file: &Path) -> String {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let folder = folder.canonicalize().unwrap_or_else(|_| folder.into());
    folder.join(file.file_name().unwrap_or_default()).to_string_lossy().to_lowercase()
}

fn photos_in(folder: &Path) -> Result<Vec<PathBuf>, EditCommandError> {
    let failed = |source| EditCommandError::Folder { path: folder.into(), source };
    let mut files = vec![];
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let hidden = path.file_name().is_some_and(|n| n.to_string_lossy().starts_with('.'));
        if path.is_file() && !hidden && is_photo(&path) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// `anna.jpg`, or `anna-2.jpg` where another folder had an `anna.jpg` too, or where `anna.jpg` is another photo.
fn result_name(photo: &Path, ending: Option<&str>, recipes: bool, taken: &mut HashSet<String>, is_photo: impl Fn(&str) -> bool) -> String {
    let stem = photo.file_stem().map_or_else(|| "photo".into(), |s| s.to_string_lossy().into_owned());
    let own = photo.extension().map(|e| e.to_string_lossy().into_owned()).filter(|_| ExportFormat::of(photo).is_ok());
    let ending = ending.map(str::to_owned).or(own).unwrap_or_else(|| "png".into());
    let mut name = format!("{stem}.{ending}");
    let mut count = 1;
    let stands_for = |name: &str| {
        let file = if recipes { sidecar::path_beside(Path::new(name)) } else { name.into() };
        // Some file systems do not tell case apart.
        file.to_string_lossy().to_lowercase()
    };
    while is_photo(&name) || !taken.insert(stands_for(&name)) {
        count += 1;
        name = format!("{stem}-{count}.{ending}");
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_photo_and_a_file_name_is_a_file() {
        let one = [PathBuf::from("a.jpg")];
        assert_eq!(target(&one, Path::new("out.png")), Target::File);
        assert_eq!(target(&one, Path::new("out.docx")), Target::File, "a mistake to be told, not a folder to be made");
        assert_eq!(target(&one, Path::new("out")), Target::Folder);
        assert_eq!(target(&one, Path::new("out.d/")), Target::Folder);
        assert_eq!(target(&["a.jpg".into(), "b.jpg".into()], Path::new("out.png")), Target::Folder);
    }

    #[test]
    fn a_folder_of_results_is_not_called_as_a_picture_or_a_file_is() {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        std::fs::write(at("notes"), "").unwrap();
        std::fs::create_dir(at("mine.png")).unwrap();
        let refused = |name: &str| check_folder(&at(name)).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(refused("two.PNG").contains("two.PNG is a picture's name"), "{}", refused("two.PNG"));
        assert!(refused("notes").contains("notes is a file"), "{}", refused("notes"));
        for fine in ["two", "two.d", "two.png/", "mine.png"] {
            assert_eq!(refused(fine), "");
        }
    }

    #[test]
    fn results_keep_their_names_and_formats_and_never_collide() {
        let photos = ["x/a.jpg", "y/a.jpg", "a.JPG", "b.bmp", "x/a.jpg"].map(PathBuf::from);
        let names_of = |photos: &[PathBuf], ending, recipes| -> Vec<String> {
            let jobs = jobs(photos, Path::new("out"), Target::Folder, ending, recipes).unwrap();
            jobs.iter().map(|job| job.output.file_name().unwrap().to_string_lossy().into_owned()).collect()
        };
        let names = |ending| names_of(&photos, ending, false);
        assert_eq!(names(None), ["a.jpg", "a-2.jpg", "a-3.JPG", "b.png"]);
        assert_eq!(names(Some("tif")), ["a.tif", "a-2.tif", "a-3.tif", "b.tif"]);
        let alike = ["IMG_1.JPG", "img_1.heic", "IMG_2.JPG"].map(PathBuf::from);
        assert_eq!(names_of(&alike, None, false), ["IMG_1.JPG", "img_1.png", "IMG_2.JPG"]);
        assert_eq!(names_of(&alike, None, true), ["IMG_1.JPG", "img_1-2.png", "IMG_2.JPG"], "each has a recipe of its own");
    }

    #[test]
    fn no_result_takes_the_place_of_another_photo() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for name in ["a-2.png", "a.heic", "a.png", "b.bmp"] {
            std::fs::write(at(name), "").unwrap();
        }
        // Another way to the same folder.
        let output = at("sub/..");
        std::fs::create_dir(at("sub")).unwrap();
        let jobs = jobs(&[folder.path().into()], &output, Target::Folder, None, false).unwrap();
        let pairs: Vec<[String; 2]> =
            jobs.iter().map(|job| [&job.photo, &job.output].map(|p| p.file_name().unwrap().to_string_lossy().into_owned())).collect();
        assert_eq!(pairs, [["a-2.png", "a-2.png"], ["a.heic", "a-3.png"], ["a.png", "a.png"], ["b.bmp", "b.png"]]);
    }

    #[test]
    fn a_folder_gives_its_photos_in_order() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b.PNG", "a.jpg", "notes.txt", ".hidden.jpg", "c.heic"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        let found: Vec<String> =
            photos_in(folder.path()).unwrap().iter().map(|p| p.file_name().unwrap().to_string_lossy().into_owned()).collect();
        assert_eq!(found, ["a.jpg", "b.PNG", "c.heic"]);
        let empty = tempfile::tempdir().unwrap();
        assert!(jobs(&[empty.path().into()], Path::new("out"), Target::Folder, None, false).unwrap_err().to_string().contains("no photos"));
    }

    #[test]
    fn endings_are_checked() {
        assert_eq!(parse_ending(".JPG"), Ok("jpg".into()));
        assert!(parse_ending("gif").is_err());
    }
}
