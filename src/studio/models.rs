//! The models that can be chosen from, and what imported ones are called.

use std::path::{Path, PathBuf};

use crate::checkpoint::{Bundle, bundle};

/// A model on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    pub name: String,
    pub folder: PathBuf,
}

/// Models beside the one that comes with the program, imported ones in `own`, and those of `used` that are still there; by name.
pub fn known(own: Option<&Path>, used: &[PathBuf]) -> Vec<Known> {
    let beside = bundle::default_folder().parent().map(Path::to_owned);
    let folders = beside.as_deref().into_iter().chain(own).filter_map(|folder| std::fs::read_dir(folder).ok());
    let found = folders.flatten().flatten().map(|entry| entry.path()).chain(used.iter().cloned());
    let mut list: Vec<Known> = found.filter_map(|folder| Some(Known { name: Bundle::read_manifest(&folder).ok()?.name, folder })).collect();
    list.sort_by(|a, b| (&a.name, &a.folder).cmp(&(&b.name, &b.folder)));
    list.dedup_by(|a, b| same(&a.folder, &b.folder));
    list
}

/// Whether two paths lead to one folder.
pub fn same(a: &Path, b: &Path) -> bool {
    let full = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    full(a) == full(b)
}

/// A new folder for a model that is imported from `checkpoints`.
pub fn import_folder(own: &Path, checkpoints: &Path) -> PathBuf {
    let name = checkpoints.file_name().map_or_else(|| "model".into(), |name| name.to_string_lossy().into_owned());
    let free = |i: u32| own.join(if i == 1 { name.clone() } else { format!("{name}-{i}") });
    (1..).map(free).find(|folder| !folder.exists()).unwrap_or_else(|| own.join(&name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_model_that_comes_along_is_known_once() {
        let folder = bundle::default_folder();
        let list = known(None, std::slice::from_ref(&folder));
        assert_eq!(list.iter().filter(|known| same(&known.folder, &folder)).count(), 1);
    }

    #[test]
    fn imports_never_collide() {
        let own = tempfile::tempdir().unwrap();
        let first = import_folder(own.path(), Path::new("/downloads/celeba64"));
        assert_eq!(first, own.path().join("celeba64"));
        std::fs::create_dir(&first).unwrap();
        assert_eq!(import_folder(own.path(), Path::new("/downloads/celeba64")), own.path().join("celeba64-2"));
    }
}
