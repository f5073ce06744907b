//! A tree of text files, from the checkout or from a test's imagination.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

/// Paths, relative to the checkout, and what is in the files.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    files: BTreeMap<String, String>,
}

impl Tree {
    /// Everything git tracks or would track: a report somebody left lying about breaks no rule.
    ///
    /// # Errors
    /// Outside a checkout, in a sentence.
    pub fn checkout() -> Result<Self, String> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .ok_or("the package lies nowhere")?;
        let listed = Command::new("git")
            .args(["ls-files", "--cached", "--others", "--exclude-standard"])
            .current_dir(root)
            .output()
            .map_err(|error| format!("cannot run git: {error}"))?;
        if !listed.status.success() {
            return Err(format!(
                "git lists no files: {}",
                String::from_utf8_lossy(&listed.stderr).trim()
            ));
        }
        let mut tree = Self::default();
        for path in String::from_utf8_lossy(&listed.stdout).lines() {
            // Binary files and those just deleted have no text to look at.
            if let Ok(text) = std::fs::read_to_string(root.join(path)) {
                tree.files.insert(path.to_owned(), text);
            }
        }
        Ok(tree)
    }

    /// A tree of one's own making.
    pub fn of(files: &[(&str, &str)]) -> Self {
        Self {
            files: files
                .iter()
                .map(|(path, text)| ((*path).to_owned(), (*text).to_owned()))
                .collect(),
        }
    }

    /// The paths of all files.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.files.keys().map(String::as_str)
    }

    /// The text of one file.
    pub fn text(&self, path: &str) -> Option<&str> {
        self.files.get(path).map(String::as_str)
    }

    /// Whether `path` is a file or a folder with files in it.
    pub fn holds(&self, path: &str) -> bool {
        let path = path.trim_end_matches('/');
        self.files.keys().any(|file| {
            file.strip_prefix(path)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
    }

    /// Rust files under `folder`, with their text.
    pub(super) fn rust(&self, folder: &str) -> impl Iterator<Item = (&str, &str)> {
        let under = move |path: &str| path.starts_with(folder) && path.ends_with(".rs");
        self.files
            .iter()
            .map(|(path, text)| (path.as_str(), text.as_str()))
            .filter(move |(path, _)| under(path))
    }
}

/// The lines of a Rust file that are code, with their numbers: without comment lines and, where
/// `tests` is false, without the test module at the end.
pub(super) fn code(text: &str, tests: bool) -> impl Iterator<Item = (usize, &str)> {
    let numbered = text
        .lines()
        .enumerate()
        .map(|(number, line)| (number + 1, line));
    numbered
        .take_while(move |(_, line)| tests || line.trim() != "#[cfg(test)]")
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
}
