//! Where what is remembered is kept: in a file of the program's own. The framework does not write its file in one piece, and where it
//! cannot read it, it takes it for empty.

use std::fs::{self, File, TryLockError};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use eframe::Storage;

use super::Settings;
use crate::files;

/// The file, in the program's folder.
const FILE: &str = "settings.ron";
/// The framework's file there, which kept the settings in earlier versions. It keeps the window's size still.
const FRAMEWORK_FILE: &str = "app.ron";
/// The framework's own keys in it.
const FRAMEWORK_KEYS: [&str; 2] = ["window", "egui"];
/// The key of [`Settings`] in the framework's storage.
const KEY: &str = "studio";
/// Locked as long as a window is open.
const LOCK: &str = "lock";

/// Where this window keeps its settings.
pub(super) enum Keeping {
    /// The program has no folder of its own.
    Framework,
    File(SettingsFile),
    /// Another window keeps its own there, or what is there could not be read and not be moved either.
    Nothing,
}

/// What a window starts with.
pub(super) struct Start {
    pub keeping: Keeping,
    pub settings: Settings,
    /// The settings are all that the last window left: what they do not lead to is not in use.
    pub is_whole: bool,
    /// Another window is open.
    pub is_second: bool,
    /// What could not be read, and where it is kept instead.
    pub unreadable: Option<String>,
}

impl Start {
    fn with(keeping: Keeping, settings: Option<Settings>) -> Self {
        let is_whole = settings.is_some();
        Self { keeping, settings: settings.unwrap_or_default(), is_whole, is_second: false, unreadable: None }
    }

    /// Reads what the last window left. `folder` is the program's, `storage` the framework's.
    pub fn read(folder: Option<&Path>, storage: Option<&dyn Storage>) -> Self {
        let old = || eframe::get_value::<Settings>(storage?, KEY);
        let Some(folder) = folder else { return Self::with(Keeping::Framework, old()) };
        let path = folder.join(FILE);
        let text = fs::read_to_string(&path);
        let settings = text.as_ref().ok().and_then(|text| parse(text));
        let Some(lock) = lock(folder) else {
            // Its photos are open in the other one.
            let settings = settings.map(|settings| Settings { session: Vec::new(), closed: Vec::new(), ..settings });
            return Self { is_whole: false, is_second: true, ..Self::with(Keeping::Nothing, settings) };
        };
        let is_new = text.as_ref().is_err_and(|error| error.kind() == ErrorKind::NotFound);
        let file = Keeping::File(SettingsFile { path: path.clone(), text: text.ok(), writing: None, _lock: lock });
        if settings.is_some() {
            return Self::with(file, settings);
        }
        let has = |key: &str| storage.is_some_and(|storage| storage.get_string(key).is_some());
        let damaged = match is_new {
            false => path,
            true if old().is_some() || FRAMEWORK_KEYS.into_iter().any(has) => return Self::with(file, old()),
            true => folder.join(FRAMEWORK_FILE),
        };
        if !damaged.exists() {
            return Self::with(file, None);
        }
        match set_aside(&damaged) {
            Ok(aside) => Self { unreadable: Some(format!("It is kept as {}", aside.display())), ..Self::with(file, None) },
            Err(error) => {
                let unreadable = Some(format!("Nothing is kept until {} is moved: {error}", damaged.display()));
                Self { unreadable, ..Self::with(Keeping::Nothing, None) }
            }
        }
    }
}

/// A file that no other window writes.
pub(super) struct SettingsFile {
    path: PathBuf,
    /// What is in it.
    text: Option<String>,
    /// Whether it could be written, once that is known.
    writing: Option<JoinHandle<bool>>,
    /// `None` where the system has none.
    _lock: Option<File>,
}

impl SettingsFile {
    /// Writes the settings if they have changed. A disk may take its time, which the window does not wait for.
    pub fn write(&mut self, settings: &Settings) {
        if !self.finish() {
            self.text = None;
        }
        let mut text = Text::default();
        eframe::set_value(&mut text, KEY, settings);
        if text.0.is_none() || text.0 == self.text {
            return;
        }
        let (path, bytes) = (self.path.clone(), text.0.clone().unwrap_or_default());
        let write = move || {
            let written = files::write_renamed(&path, true, |file| file.write_all(bytes.as_bytes()));
            if let Err(error) = &written {
                log::warn!("{} could not be written: {error}", path.display());
            }
            written.is_ok()
        };
        match std::thread::Builder::new().name("settings writer".into()).spawn(write) {
            Ok(writing) => (self.text, self.writing) = (text.0, Some(writing)),
            Err(error) => log::warn!("no thread to write the settings with: {error}"),
        }
    }

    /// Waits until the file is written; `false` if it could not be.
    fn finish(&mut self) -> bool {
        self.writing.take().is_none_or(|writing| writing.join().unwrap_or(false))
    }
}

impl Drop for SettingsFile {
    fn drop(&mut self) {
        self.finish();
    }
}

impl Keeping {
    /// Keeps the settings. `storage` is the framework's.
    pub fn keep(&mut self, settings: &Settings, storage: &mut dyn Storage) {
        match self {
            Self::Framework => eframe::set_value(storage, KEY, settings),
            Self::File(file) => {
                file.write(settings);
                // Those of an earlier version go once there are newer ones, or they would come back some day.
                if file.path.is_file() && eframe::get_value::<Settings>(storage, KEY).is_some() {
                    storage.remove_string(KEY);
                }
            }
            Self::Nothing => {}
        }
    }
}

/// Locks the program's folder; `None` while another window has locked it. A folder that cannot be locked is used as it is.
fn lock(folder: &Path) -> Option<Option<File>> {
    let open = || File::options().create(true).truncate(false).write(true).open(folder.join(LOCK));
    let file = fs::create_dir_all(folder).and_then(|()| open()).ok();
    let is_taken = file.as_ref().is_some_and(|file| matches!(file.try_lock(), Err(TryLockError::WouldBlock)));
    (!is_taken).then_some(file)
}

/// Gives a file a name that nothing has yet; returns it.
fn set_aside(path: &Path) -> std::io::Result<PathBuf> {
    let name = |i: u32| path.with_extension(if i == 1 { "unreadable.ron".into() } else { format!("unreadable-{i}.ron") });
    let aside = (1..).map(name).find(|name| !name.exists()).unwrap_or_else(|| name(1));
    fs::rename(path, &aside)?;
    Ok(aside)
}

fn parse(text: &str) -> Option<Settings> {
    eframe::get_value(&Text(Some(text.to_owned())), KEY)
}

/// One text as a storage: the framework turns settings into text for storages alone.
#[derive(Default)]
struct Text(Option<String>);

impl Storage for Text {
    fn get_string(&self, _: &str) -> Option<String> {
        self.0.clone()
    }

    fn set_string(&mut self, _: &str, value: String) {
        self.0 = Some(value);
    }

    fn remove_string(&mut self, _: &str) {
        self.0 = None;
    }

    fn flush(&mut self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(folder: &Path, storage: &Text) -> Start {
        Start::read(Some(folder), Some(storage))
    }

    fn recent(start: &Start) -> &[PathBuf] {
        &start.settings.recent
    }

    fn settings(path: &str) -> Settings {
        Settings { recent: vec![path.into()], ..Settings::default() }
    }

    fn keep(mut start: Start, settings: &Settings, storage: &mut Text) {
        start.keeping.keep(settings, storage);
    }

    #[test]
    fn settings_of_earlier_versions_are_taken_over() {
        let folder = tempfile::tempdir().unwrap();
        let mut storage = Text::default();
        Keeping::Framework.keep(&settings("/old.png"), &mut storage);
        let start = read(folder.path(), &storage);
        assert!(recent(&start) == [Path::new("/old.png")] && start.is_whole);
        keep(start, &settings("/new.png"), &mut storage);
        let start = read(folder.path(), &storage);
        assert_eq!(recent(&start), [Path::new("/new.png")]);
        keep(start, &settings("/new.png"), &mut storage);
        assert!(storage.0.is_none(), "they are not needed any more");
    }

    #[test]
    fn what_cannot_be_read_is_kept_aside() {
        let folder = tempfile::tempdir().unwrap();
        let mut storage = Text::default();
        for (file, aside) in
            [(FRAMEWORK_FILE, "app.unreadable.ron"), (FILE, "settings.unreadable.ron"), (FILE, "settings.unreadable-2.ron")]
        {
            fs::write(folder.path().join(file), format!("(recent:[{aside}")).unwrap();
            let start = read(folder.path(), &storage);
            assert!(start.unreadable.as_ref().is_some_and(|text| text.contains(aside)), "{:?}", start.unreadable);
            assert!(!start.is_whole, "nobody knows what is in use");
            keep(start, &settings("/new.png"), &mut storage);
            assert!(fs::read_to_string(folder.path().join(aside)).unwrap().contains(aside));
            let start = read(folder.path(), &storage);
            assert!(recent(&start) == [Path::new("/new.png")] && start.unreadable.is_none());
        }
        // Neither is a first start.
        let folder = tempfile::tempdir().unwrap();
        let start = read(folder.path(), &storage);
        assert!(!start.is_whole && start.unreadable.is_none());
    }

    #[test]
    fn a_second_window_keeps_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let mut storage = Text::default();
        let mut first = read(folder.path(), &storage);
        assert!(!first.is_second);
        first.keeping.keep(&Settings { session: vec![Default::default()], ..settings("/first.png") }, &mut storage);
        while !folder.path().join(FILE).exists() {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        let second = read(folder.path(), &storage);
        assert!(second.is_second && !second.is_whole && second.unreadable.is_none());
        assert!(recent(&second) == [Path::new("/first.png")] && second.settings.session.is_empty());
        keep(second, &settings("/second.png"), &mut storage);
        drop(first);
        let third = read(folder.path(), &storage);
        assert!(!third.is_second && third.settings.session.len() == 1);
        assert_eq!(recent(&third), [Path::new("/first.png")]);
    }
}
