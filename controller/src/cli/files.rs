//! Experiment files, read for a command.

use squall_experiments::experiment::Experiment;
use squall_experiments::language::{self, Colour, FILE_BYTES_MAX, Reading};
use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};

/// A file that could not be read at all.
#[derive(Debug, thiserror::Error)]
#[error("`{}` cannot be read", path.display())]
pub(super) struct Unreadable {
    path: PathBuf,
    #[source]
    source: std::io::Error,
}

/// A file that was read.
#[derive(Debug)]
pub(super) struct FileRead {
    pub(super) path: String,
    pub(super) text: String,
    pub(super) reading: Reading,
}

/// A file that can be run.
#[derive(Debug)]
pub(super) struct Good {
    pub(super) path: String,
    pub(super) text: String,
    pub(super) experiment: Experiment,
    pub(super) digest: String,
}

/// Reads a file, or standard input where its name is `-`.
pub(super) fn read(path: &Path) -> Result<FileRead, Unreadable> {
    let unreadable = |source| Unreadable {
        path: path.to_owned(),
        source,
    };
    // A little more than the most: the reader then says that it is too much.
    let most = FILE_BYTES_MAX as u64 + 1;
    let mut bytes = Vec::new();
    let name = if path.as_os_str() == "-" {
        let stdin = std::io::stdin().lock();
        stdin
            .take(most)
            .read_to_end(&mut bytes)
            .map_err(unreadable)?;
        "<stdin>".to_owned()
    } else {
        let file = std::fs::File::open(path).map_err(unreadable)?;
        file.take(most)
            .read_to_end(&mut bytes)
            .map_err(unreadable)?;
        path.display().to_string()
    };
    let (reading, text) = language::read_bytes(&name, &bytes);
    Ok(FileRead {
        path: name,
        text,
        reading,
    })
}

/// Reads a file that is to be planned or run. Whatever is wrong with it is said on standard error.
pub(super) fn good(path: &Path) -> Option<Good> {
    let read = match read(path) {
        Ok(read) => read,
        Err(error) => {
            super::say::failed(super::BAD_INPUT, &error);
            return None;
        }
    };
    if !read.reading.diagnostics.is_empty() {
        super::say::err!("{}", read.reading.render(&read.text, colour_of_stderr()));
    }
    let (experiment, digest) = read.reading.experiment.zip(read.reading.digest)?;
    Some(Good {
        path: read.path,
        text: read.text,
        experiment,
        digest,
    })
}

/// Colours on a terminal, unless the person wants none (<https://no-color.org>).
pub(super) fn colour_of_stderr() -> Colour {
    let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    if wanted && std::io::stderr().is_terminal() {
        Colour::Always
    } else {
        Colour::Never
    }
}
