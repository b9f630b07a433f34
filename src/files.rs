//! Writing files so that a crash or a full disk never leaves half of one.

use std::fs::File;
use std::io;
use std::path::Path;

/// Lets `write` fill a temporary file in the same folder, then renames it to `path`. An existing file is only replaced with
/// `overwrite`; otherwise the error is [`io::ErrorKind::AlreadyExists`].
pub fn write_renamed<E: From<io::Error>>(path: &Path, overwrite: bool, write: impl FnOnce(&mut File) -> Result<(), E>) -> Result<(), E> {
    let folder = folder_of(path);
    let mut builder = tempfile::Builder::new();
    // Temporary files are private by default; this one becomes an ordinary file, so it gets the user's ordinary permissions.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut file = builder.prefix(".pdae-").suffix(".tmp").tempfile_in(folder)?;
    write(file.as_file_mut())?;
    file.as_file().sync_all()?;
    if overwrite {
        file.persist(path).map_err(|e| e.error)?;
    } else {
        file.persist_noclobber(path).map_err(|e| e.error)?;
    }
    Ok(())
}

/// Whether [`write_renamed`] will be able to write there, for whoever has long to compute before.
pub fn check_writable(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    tempfile::Builder::new().prefix(".pdae-").suffix(".tmp").tempfile_in(folder_of(path)).map(drop)
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Gives a file a second name in the same folder, in place of any file that has it.
pub fn give_second_name(file: &Path, name: &Path) -> io::Result<()> {
    let folder = name.parent().unwrap_or(Path::new("."));
    // A link cannot take a name that is taken, but can be renamed to it.
    let between = tempfile::Builder::new().prefix(".pdae-").suffix(".tmp").make_in(folder, |path| std::fs::hard_link(file, path))?;
    between.into_temp_path().persist(name).map_err(|error| error.error)
}

/// Waits until nobody else has locked a folder, and keeps it locked as long as the result lives. `None` where the system has no locks for
/// folders, as Windows.
pub fn lock_folder(folder: &Path) -> Option<File> {
    let folder = File::open(folder).ok()?;
    folder.lock().ok()?;
    Some(folder)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_failed_write_leaves_the_old_file_and_no_litter() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        std::fs::write(&path, "old").unwrap();
        let result: io::Result<()> = write_renamed(&path, true, |file| {
            file.write_all(b"ne")?;
            Err(io::Error::other("disk full"))
        });
        assert!(result.is_err());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "old");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_second_name_replaces_what_had_it() {
        let folder = tempfile::tempdir().unwrap();
        let [a, b] = ["a.txt", "b.txt"].map(|name| folder.path().join(name));
        std::fs::write(&a, "new").unwrap();
        std::fs::write(&b, "old").unwrap();
        give_second_name(&a, &b).unwrap();
        std::fs::remove_file(&a).unwrap();
        assert_eq!(std::fs::read_to_string(&b).unwrap(), "new");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no litter");
    }

    #[test]
    fn an_existing_file_is_kept_unless_told_otherwise() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        let write = |overwrite, text: &str| write_renamed(&path, overwrite, |file| file.write_all(text.as_bytes()));
        write(false, "one").unwrap();
        assert_eq!(write(false, "two").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        write(true, "three").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "three");
    }
}
