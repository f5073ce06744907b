//! A look at the runbook: a page that answers, or a file beside the experiment.

use crate::git::Follower;
use crate::stage::checklist::RunbookSeen;
use std::path::{Component, Path};

/// Where a runbook that is a file may be.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Beside<'b> {
    /// Where the experiment's file lies, where that is known.
    pub(super) folder: Option<&'b Path>,
    /// The repository that is followed: of the commit that was taken last.
    pub(super) followed: Option<&'b Follower>,
}

/// Looks.
pub(super) async fn look(place: &str, at: Beside<'_>) -> RunbookSeen {
    let seen = if place.starts_with("http://") || place.starts_with("https://") {
        crate::probe::runbook::read(place).await
    } else {
        match (at.folder, at.followed) {
            (None, Some(followed)) => in_repository(place, followed).await,
            (folder, _) => beside(place, folder),
        }
    };
    match seen {
        Ok(evidence) => RunbookSeen {
            readable: true,
            evidence,
        },
        Err(evidence) => RunbookSeen {
            readable: false,
            evidence,
        },
    }
}

async fn in_repository(place: &str, followed: &Follower) -> Result<String, String> {
    match followed.file(place).await {
        Ok(Some((commit, bytes @ 1..))) => {
            Ok(format!("`{place}` is in commit {commit}, {bytes} bytes"))
        }
        Ok(Some(_)) => Err(format!(
            "`{place}` is empty in the repository that is followed"
        )),
        Ok(None) => Err(format!(
            "`{place}` is no file of the repository that is followed; it is looked for below its `path`"
        )),
        Err(error) => Err(crate::words::chain(&error)),
    }
}

fn beside(place: &str, folder: Option<&Path>) -> Result<String, String> {
    let Some(folder) = folder else {
        return Err(format!(
            "`{place}` is a file, and only the experiment's text is known here: name a page (https://…), or let the file come from Git"
        ));
    };
    let path = Path::new(place);
    // A file of the repository, and no other of this machine.
    let inside = path
        .components()
        .all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    let at = folder.join(path);
    if !inside || !is_below(&at, folder) {
        return Err(format!(
            "`{place}` is no file below the experiment's folder"
        ));
    }
    match std::fs::metadata(&at) {
        Ok(meta) if meta.is_file() && meta.len() > 0 => {
            Ok(format!("`{place}` is there, {} bytes", meta.len()))
        }
        Ok(_) => Err(format!("`{place}` is empty, or no file")),
        Err(error) => Err(format!("`{place}` cannot be read: {error}")),
    }
}

/// Links may lead out.
fn is_below(path: &Path, folder: &Path) -> bool {
    match (path.canonicalize(), folder.canonicalize()) {
        (Ok(path), Ok(folder)) => path.starts_with(folder),
        // What is not there is said so later.
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_runbook_is_a_file_below_or_a_page_that_answers() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("runbook.md"), "Call Ann.").unwrap();
        std::fs::write(folder.path().join("empty.md"), "").unwrap();
        std::os::unix::fs::symlink("/etc/passwd", folder.path().join("link.md")).unwrap();
        let at = Beside {
            folder: Some(folder.path()),
            followed: None,
        };
        let is_readable = async |place: &str| look(place, at).await.readable;
        assert!(is_readable("runbook.md").await);
        for bad in [
            "empty.md",
            "link.md",
            "../x.md",
            "/etc/passwd",
            "other.md",
            "http://127.0.0.1:1/",
        ] {
            assert!(!is_readable(bad).await, "{bad}");
        }
        assert!(!look("runbook.md", Beside::default()).await.readable);
    }
}
