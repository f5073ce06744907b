//! Lines that a program writes, to a file or to systemd's journal, followed from their end.

mod entries;
mod journal;

use self::journal::Journal;
use super::{ProbeError, Seen};
use crate::judge::Outcome;
use regex::bytes::{Regex, RegexBuilder};
use squall_experiments::probe::{Lines, Log as Asked};
use std::fs::{File, Metadata};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// So much of a line is looked at; the rest of it is skipped.
const LINE_BYTES_MAX: usize = 64 << 10;

/// So much is read at one look; what is more comes with the next.
const LOOK_BYTES_MAX: u64 = 64 << 20;

/// So much is read at once.
const CHUNK_BYTES: usize = 64 << 10;

/// A compiled expression may take so much memory: those of people take kilobytes.
const PATTERN_BYTES_MAX: usize = 1 << 20;

/// A log that is looked at again and again.
#[derive(Clone)]
pub(super) struct Following {
    log: Arc<Mutex<Log>>,
    every: Duration,
}

struct Log {
    lines: Source,
    pattern: Regex,
    looked: Instant,
}

enum Source {
    File(Tail),
    Journal(Journal),
}

impl Following {
    pub(super) fn new(probe: &str, asked: &Asked) -> Result<Self, ProbeError> {
        let pattern = RegexBuilder::new(&asked.pattern)
            .size_limit(PATTERN_BYTES_MAX)
            .build()
            .map_err(|error| ProbeError::Data {
                probe: probe.to_owned(),
                path: asked.pattern.clone(),
                why: error.to_string(),
            })?;
        let lines = match &asked.of {
            Lines::File(path) => Source::File(Tail::at_the_end(path.into())),
            Lines::Journal { unit, folder } => {
                let folder = folder.as_ref().map(PathBuf::from);
                Source::Journal(Journal::new(unit.clone(), folder))
            }
        };
        let log = Log {
            lines,
            pattern,
            looked: Instant::now(),
        };
        Ok(Self {
            log: Arc::new(Mutex::new(log)),
            every: asked.every.duration(),
        })
    }

    pub(super) async fn look(&self) -> Seen {
        let (log, every) = (Arc::clone(&self.log), self.every);
        let looked = tokio::task::spawn_blocking(move || {
            let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
            let found = log.look();
            (found, log.since(every))
        });
        let (found, seconds) = match looked.await {
            Ok((Ok(found), seconds)) => (found, seconds),
            Ok((Err(why), _)) => return Seen::only(Outcome::Unanswered(why)),
            Err(error) => return Seen::only(Outcome::Unanswered(error.to_string())),
        };
        #[expect(clippy::cast_precision_loss, reason = "lines of one second")]
        let value = Some(found.lines as f64 / seconds);
        let outcome = match found.last {
            None => Outcome::Success,
            Some(line) => Outcome::Failed(format!("a line matched: `{line}`")),
        };
        Seen {
            value,
            ..Seen::only(outcome)
        }
    }
}

impl Log {
    fn look(&mut self) -> Result<Found, String> {
        let mut found = Found::default();
        let mut judge = |line: &[u8]| found.judge(&self.pattern, line);
        match &mut self.lines {
            Source::File(tail) => tail.look(&mut judge)?,
            Source::Journal(journal) => journal.look(&mut judge)?,
        }
        Ok(found)
    }

    /// Seconds since the last look. A first look comes at once, and its lines count for a whole interval.
    fn since(&mut self, every: Duration) -> f64 {
        let now = Instant::now();
        let since = now - self.looked;
        self.looked = now;
        since.max(every).as_secs_f64()
    }
}

/// The matching lines of one look.
#[derive(Debug, Default, PartialEq, Eq)]
struct Found {
    lines: u64,
    /// The beginning of the last of them.
    last: Option<String>,
}

impl Found {
    fn judge(&mut self, pattern: &Regex, line: &[u8]) {
        const SHOWN_CHARACTERS_MAX: usize = 120;
        if pattern.is_match(line) {
            self.lines += 1;
            let text = String::from_utf8_lossy(line);
            let shown = text.trim().chars().filter(|c| !c.is_control());
            self.last = Some(shown.take(SHOWN_CHARACTERS_MAX).collect());
        }
    }
}

/// A file, and where the reading stands.
struct Tail {
    path: PathBuf,
    open: Option<File>,
    /// A line whose end has not been written yet.
    begun: Vec<u8>,
    /// The rest of a line that is too long.
    skips: bool,
}

impl Tail {
    /// What is in the file already does not count. A file that is not there yet will be new from its beginning.
    fn at_the_end(path: PathBuf) -> Self {
        let mut tail = Self {
            path,
            open: None,
            begun: Vec::new(),
            skips: false,
        };
        if let Ok((mut file, _)) = tail.file()
            && file.seek(SeekFrom::End(0)).is_ok()
        {
            tail.open = Some(file);
        }
        tail
    }

    fn file(&self) -> io::Result<(File, Metadata)> {
        let metadata = std::fs::metadata(&self.path)?;
        if !metadata.is_file() {
            // Opening a pipe would wait for a writer.
            return Err(io::Error::other("it is not a regular file"));
        }
        let file = File::open(&self.path)?;
        let metadata = file.metadata()?;
        Ok((file, metadata))
    }

    /// Reads what is new: the rest of a file that was rotated away, then the one that has its name now.
    fn look(&mut self, judge: &mut impl FnMut(&[u8])) -> Result<(), String> {
        let told = |path: &PathBuf, error: io::Error| format!("{}: {error}", path.display());
        let mut left = LOOK_BYTES_MAX;
        if let Some(mut file) = self.open.take() {
            self.read(&mut file, &mut left, judge)
                .map_err(|error| told(&self.path, error))?;
            self.open = Some(file);
        }
        let (mut new, metadata) = self.file().map_err(|error| told(&self.path, error))?;
        let same = self.open.as_ref().and_then(|open| open.metadata().ok());
        let same =
            same.is_some_and(|old| (old.dev(), old.ino()) == (metadata.dev(), metadata.ino()));
        if same {
            return Ok(());
        }
        if left > 0 {
            self.begun.clear();
            self.skips = false;
            self.read(&mut new, &mut left, judge)
                .map_err(|error| told(&self.path, error))?;
            self.open = Some(new);
        }
        Ok(())
    }

    fn read(
        &mut self,
        file: &mut File,
        left: &mut u64,
        judge: &mut impl FnMut(&[u8]),
    ) -> io::Result<()> {
        if file.metadata()?.len() < file.stream_position()? {
            // Truncated: what is there was written since.
            file.rewind()?;
            self.begun.clear();
            self.skips = false;
        }
        let mut chunk = vec![0; CHUNK_BYTES];
        while *left > 0 {
            let read = file.read(&mut chunk)?;
            let Some(bytes) = chunk.get(..read).filter(|bytes| !bytes.is_empty()) else {
                return Ok(());
            };
            *left = left.saturating_sub(read as u64);
            self.take(bytes, judge);
        }
        Ok(())
    }

    fn take(&mut self, bytes: &[u8], judge: &mut impl FnMut(&[u8])) {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (text, ends) = match part.split_last() {
                Some((b'\n', text)) => (text, true),
                _ => (part, false),
            };
            if !self.skips {
                let room = LINE_BYTES_MAX.saturating_sub(self.begun.len());
                let fits = text.get(..room.min(text.len())).unwrap_or_default();
                self.begun.extend_from_slice(fits);
                if ends || text.len() > room {
                    judge(&self.begun);
                    self.begun.clear();
                    self.skips = true;
                }
            }
            if ends {
                self.skips = false;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    struct Bench {
        folder: tempfile::TempDir,
        tail: Tail,
    }

    impl Bench {
        fn new(before: Option<&str>) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("log");
            if let Some(before) = before {
                std::fs::write(&path, before).unwrap();
            }
            let tail = Tail::at_the_end(path);
            Self { folder, tail }
        }

        fn path(&self) -> PathBuf {
            self.folder.path().join("log")
        }

        fn write(&self, text: &str) {
            let mut options = std::fs::OpenOptions::new();
            let file = options.create(true).append(true).open(self.path());
            file.unwrap().write_all(text.as_bytes()).unwrap();
        }

        fn look(&mut self) -> Result<Found, String> {
            let (mut found, pattern) = (Found::default(), Regex::new("ERROR").unwrap());
            self.tail
                .look(&mut |line: &[u8]| found.judge(&pattern, line))?;
            Ok(found)
        }

        fn lines(&mut self) -> u64 {
            self.look().unwrap().lines
        }
    }

    #[test]
    fn new_lines_count_once() {
        let mut bench = Bench::new(Some("ERROR old\n"));
        assert_eq!(bench.lines(), 0);
        bench.write("ERROR 1\nfine\nERROR 2\nERR");
        let found = bench.look().unwrap();
        assert_eq!((found.lines, found.last.as_deref()), (2, Some("ERROR 2")));
        bench.write("OR 3\n");
        assert_eq!(bench.lines(), 1);
        assert_eq!(bench.lines(), 0);
    }

    #[test]
    fn a_rotated_file_is_read_to_its_end_and_the_new_one_from_its_beginning() {
        let mut bench = Bench::new(Some(""));
        bench.write("ERROR before\n");
        std::fs::rename(bench.path(), bench.folder.path().join("log.1")).unwrap();
        bench.write("ERROR after\n");
        assert_eq!(bench.lines(), 2);
        bench.write("ERROR later\n");
        assert_eq!(bench.lines(), 1);
    }

    #[test]
    fn a_truncated_file_is_read_from_its_beginning() {
        let mut bench = Bench::new(Some("a long line that was there before\n"));
        std::fs::write(bench.path(), "ERROR\n").unwrap();
        assert_eq!(bench.lines(), 1);
    }

    #[test]
    fn long_lines_are_cut_and_do_not_hide_the_next() {
        let mut bench = Bench::new(Some(""));
        let long = "x".repeat(3 * LINE_BYTES_MAX);
        bench.write(&format!("ERROR {long}\n{long}ERROR\nERROR\n"));
        assert_eq!(bench.lines(), 2);
    }

    #[test]
    fn a_file_that_is_not_there_is_told_and_new_when_it_comes() {
        let mut bench = Bench::new(None);
        let why = bench.look().unwrap_err();
        assert!(why.contains("log: No such file"), "{why}");
        bench.write("ERROR\n");
        assert_eq!(bench.lines(), 1);
        std::fs::remove_file(bench.path()).unwrap();
        assert!(bench.look().is_err());
        std::fs::create_dir(bench.path()).unwrap();
        assert!(bench.look().unwrap_err().contains("regular file"));
    }
}
