//! Writing files so that a crash or a full disk never leaves half of one.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tempfile::NamedTempFile;

/// Files that have no name of their own yet.
static UNFINISHED: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// Lets `write` fill a temporary file in the same folder, then renames it to `path`. An existing file is only replaced with
/// `overwrite`; otherwise the error is [`io::ErrorKind::AlreadyExists`].
pub fn write_renamed<E: From<io::Error>>(path: &Path, overwrite: bool, write: impl FnOnce(&mut File) -> Result<(), E>) -> Result<(), E> {
    let (_listed, mut file) = temporary(folder_of(path), |path| File::create_new(path))?;
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
    temporary(folder_of(path), |path| File::create_new(path)).map(drop)
}

/// Whether a folder is there and can be written to, or can be made, for whoever has long to compute before.
pub fn check_folder(folder: &Path) -> io::Result<()> {
    match folder.ancestors().find(|place| !place.as_os_str().is_empty() && place.exists()) {
        Some(place) if !place.is_dir() => Err(io::ErrorKind::NotADirectory.into()),
        place => temporary(place.unwrap_or(Path::new(".")), |path| File::create_new(path)).map(drop),
    }
}

/// Removes what is half written when the program is told to stop, by Ctrl-C or by the system, and then stops it, with the exit status that
/// shells give for that. Where there are no signals, as on Windows, a file may stay.
pub fn clean_up_when_stopped() {
    #[cfg(unix)]
    {
        use signal_hook::consts::{SIGINT, SIGTERM};
        let listen = |mut signals: signal_hook::iterator::Signals| {
            let Some(signal) = signals.forever().next() else { return };
            // Locked until the end, so that no further file is begun.
            let unfinished = unfinished();
            for file in unfinished.iter() {
                let _ = std::fs::remove_file(file);
            }
            std::process::exit(128 + signal)
        };
        let signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM]);
        let heard = signals.and_then(|signals| std::thread::Builder::new().name("signals".into()).spawn(move || listen(signals)));
        if let Err(reason) = heard {
            log::debug!("unfinished files will stay when the program is stopped: {reason}");
        }
    }
}

fn unfinished() -> MutexGuard<'static, BTreeSet<PathBuf>> {
    UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A place in the list of unfinished files.
struct Listed(PathBuf);

impl Drop for Listed {
    fn drop(&mut self) {
        unfinished().remove(&self.0);
    }
}

/// Makes a file with a name that nobody else has, which is removed in the end unless it gets another. Nobody has heard of that name, so
/// errors leave it out.
fn temporary<F>(folder: &Path, make: impl Fn(&Path) -> io::Result<F>) -> io::Result<(Listed, NamedTempFile<F>)> {
    let mut listed = None;
    let file = tempfile::Builder::new().prefix(".pdae-").suffix(".tmp").make_in(folder, |path| {
        // Not to be stopped between the two.
        let mut unfinished = unfinished();
        let file = make(path)?;
        unfinished.insert(path.into());
        listed = Some(Listed(path.into()));
        Ok(file)
    })?;
    Ok((listed.expect("it was made"), file))
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Gives a file a second name in the same folder, in place of any file that has it.
pub fn give_second_name(file: &Path, name: &Path) -> io::Result<()> {
    let folder = name.parent().unwrap_or(Path::new("."));
    // A link cannot take a name that is taken, but can be renamed to it.
    let (_listed, between) = temporary(folder, |path| std::fs::hard_link(file, path))?;
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
    fn what_cannot_be_written_is_found_before_and_no_hidden_name_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("missing/a.txt");
        for error in [check_writable(&missing), write_renamed(&missing, true, |_| Ok::<_, io::Error>(()))].map(Result::unwrap_err) {
            assert_eq!(error.kind(), io::ErrorKind::NotFound);
            assert!(!error.to_string().contains("tmp"), "{error}");
        }
        let file = folder.path().join("a.txt");
        check_writable(&file).unwrap();
        check_folder(folder.path()).unwrap();
        check_folder(&folder.path().join("b/c")).unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "no litter");
        std::fs::write(&file, "").unwrap();
        assert_eq!(check_folder(&file.join("b")).unwrap_err().kind(), io::ErrorKind::NotADirectory);
    }

    #[test]
    fn an_unfinished_file_is_listed_as_long_as_it_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let listed = || unfinished().iter().filter(|file| file.starts_with(folder.path())).count();
        let result: io::Result<()> = write_renamed(&folder.path().join("a.txt"), false, |_| {
            assert_eq!(listed(), 1);
            Ok(())
        });
        result.unwrap();
        assert_eq!(listed(), 0);
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
