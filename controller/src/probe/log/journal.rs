//! systemd's journal, followed from its end: what one unit wrote, and what systemd wrote about it.

use super::entries::{Id, JournalFile, Place};
use std::collections::HashMap;
use std::fs::{DirEntry, ReadDir};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// Where journald keeps its files: those that outlast a boot, and those that do not.
const FOLDERS: [&str; 2] = ["/var/log/journal", "/run/log/journal"];

/// systemd keeps a link here for each unit that is active, for journald; nothing but its name is looked at.
const ACTIVE: &str = "/run/systemd/units";

/// A machine's journal has tens of files, a large one hundreds.
const FILES_MAX: usize = 10_000;

/// So many entries, of whatever unit, are looked at in one look; what is more comes with the next.
const LOOK_ENTRIES_MAX: u64 = 100_000;

/// The journal of one unit, and how far each of its files has been read.
///
/// Files are known by the id in their header: a rotation renames them.
pub(super) struct Journal {
    unit: String,
    folder: Option<PathBuf>,
    /// Nothing until a look could read everything: what was there then is old.
    places: Option<HashMap<Id, Place>>,
    /// The last number of each sequence at that time. A file that appears later goes on with one of them or has its own.
    old: HashMap<Id, u64>,
    /// The unit has written before, or is active: that nothing comes is that it says nothing, and not that its name is wrong.
    is_known: bool,
}

impl Journal {
    pub(super) fn new(unit: String, folder: Option<PathBuf>) -> Self {
        Self {
            unit,
            folder,
            places: None,
            old: HashMap::new(),
            is_known: false,
        }
    }

    /// Gives each new message to `take`. A unit of which nothing is known is an error: its silence would say nothing.
    pub(super) fn look(&mut self, mut take: impl FnMut(&[u8])) -> Result<(), String> {
        let paths = self.paths()?;
        self.read(&paths, &mut take)?;
        self.is_known = self.is_known || self.is_active() || self.has_written(&paths)?;
        if self.is_known {
            return Ok(());
        }
        let unit = &self.unit;
        let kind = if unit.contains('.') {
            ""
        } else {
            ", and has no type such as `.service`"
        };
        Err(format!(
            "nothing in the journal is of the unit `{unit}` or about it, and it is not active: its silence says nothing; the name is misspelt{kind}, or it runs on another machine"
        ))
    }

    /// Of the machine's own journal alone is it known which units run beside it.
    fn is_active(&self) -> bool {
        let link = Path::new(ACTIVE).join(format!("invocation:{}", self.unit));
        self.folder.is_none() && link.symlink_metadata().is_ok()
    }

    fn has_written(&self, paths: &[PathBuf]) -> Result<bool, String> {
        for path in paths {
            let Some(file) = open(path)? else { continue };
            if file.knows(&self.unit).map_err(|error| told(path, &error))? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn read(&mut self, paths: &[PathBuf], mut take: impl FnMut(&[u8])) -> Result<(), String> {
        let Some(places) = &mut self.places else {
            return self.begin(paths);
        };
        let mut left = LOOK_ENTRIES_MAX;
        let mut there = Vec::new();
        for path in paths {
            let Some(file) = open(path)? else { continue };
            there.push(file.id());
            let place = places.entry(file.id()).or_insert_with(|| {
                let old = self.old.get(&file.sequence()).copied();
                Place::beginning(old.unwrap_or_default())
            });
            file.read(place, &self.unit, &mut left, &mut take)
                .map_err(|error| told(path, &error))?;
        }
        // A file that is renamed while the folder is listed can be missing from the list, so that places are kept.
        if places.len() > FILES_MAX {
            places.retain(|id, _| there.contains(id));
        }
        Ok(())
    }

    fn begin(&mut self, paths: &[PathBuf]) -> Result<(), String> {
        let mut places = HashMap::new();
        for path in paths {
            let Some(file) = open(path)? else { continue };
            let end = file.end().map_err(|error| told(path, &error))?;
            places.insert(file.id(), end);
            let last = self.old.entry(file.sequence()).or_default();
            *last = file.last().max(*last);
        }
        if places.is_empty() {
            return Err(self.nothing());
        }
        self.places = Some(places);
        Ok(())
    }

    fn nothing(&self) -> String {
        let folders = match &self.folder {
            Some(folder) => folder.display().to_string(),
            None => FOLDERS.join(" and "),
        };
        format!(
            "no journal in {folders}; name the `folder` that journald writes to on this machine"
        )
    }

    /// The files of journals, in the folders and in those below that are a machine's.
    fn paths(&self) -> Result<Vec<PathBuf>, String> {
        let mut paths = Vec::new();
        let mut folders: Vec<PathBuf> = match &self.folder {
            Some(folder) => vec![folder.clone()],
            None => FOLDERS.map(PathBuf::from).to_vec(),
        };
        let tops = folders.len();
        let mut next = 0;
        while let Some(folder) = folders.get(next).cloned() {
            let is_top = next < tops;
            next += 1;
            let listed: ReadDir = match std::fs::read_dir(&folder) {
                Ok(listed) => listed,
                // One of journald's two is enough; a machine's own can be gone since its parent was listed.
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    if is_top && self.folder.is_some() {
                        return Err(told(&folder, &error));
                    }
                    continue;
                }
                Err(error) => return Err(told(&folder, &error)),
            };
            for entry in listed {
                let entry = entry.map_err(|error| told(&folder, &error))?;
                match kind(&entry).map_err(|error| told(&entry.path(), &error))? {
                    Kind::Journal => paths.push(entry.path()),
                    Kind::Machine if is_top => folders.push(entry.path()),
                    Kind::Machine | Kind::Other => {}
                }
                if paths.len() + folders.len() > FILES_MAX {
                    return Err(format!(
                        "{}: more than {FILES_MAX} files; let journald keep fewer (`journalctl --vacuum-files`)",
                        folder.display()
                    ));
                }
            }
        }
        if paths.is_empty() {
            return Err(self.nothing());
        }
        Ok(paths)
    }
}

enum Kind {
    Journal,
    Machine,
    Other,
}

fn kind(entry: &DirEntry) -> io::Result<Kind> {
    let (kind, name) = (entry.file_type()?, entry.file_name());
    let name = name.to_str().unwrap_or_default();
    // A `~`: a machine or a journald that ended without closing it.
    let is_journal = name.ends_with(".journal") || name.ends_with(".journal~");
    // A namespace of journald has a suffix.
    let machine = name.split('.').next().unwrap_or_default();
    let is_machine = machine.len() == 32 && machine.bytes().all(|b| b.is_ascii_hexdigit());
    Ok(if kind.is_file() && is_journal {
        Kind::Journal
    } else if kind.is_dir() && is_machine {
        Kind::Machine
    } else {
        Kind::Other
    })
}

/// Nothing for a file that was renamed or removed since it was listed, and for one that is only being made.
fn open(path: &Path) -> Result<Option<JournalFile>, String> {
    match JournalFile::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        // Such a file was put aside as damaged.
        Err(error) if error.kind() == ErrorKind::InvalidData && is_damaged(path) => Ok(None),
        Err(error) => Err(told(path, &error)),
        Ok(file) => Ok(file),
    }
}

fn is_damaged(path: &Path) -> bool {
    path.as_os_str().as_encoded_bytes().ends_with(b"~")
}

fn told(path: &Path, error: &io::Error) -> String {
    let path = path.display();
    match error.kind() {
        ErrorKind::PermissionDenied => format!(
            "{path}: {error}; the journal is for root and the group systemd-journal (or adm): let Squall's user be in it"
        ),
        ErrorKind::NotFound => {
            format!("{path}: {error}; name the `folder` that journald writes to on this machine")
        }
        _ => format!("{path}: {error}"),
    }
}
