//! `git`, called so that nothing in a repository or on the machine makes it do anything else: no shell, no hooks, no settings of the
//! machine or of a person, no prompts, no protocols but those that are named, and an end to how long it takes and how much it says.

use super::repository::GitError;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;

/// A repository of files that people write is fetched in seconds; a line that is slow takes longer.
const TIME_MAX: Duration = Duration::from_secs(120);

/// So much of what it says is read.
pub(super) const SAID_MAX: u64 = 32 << 20;

/// Where programs are. Not the caller's own path, which may name anything.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Settings that stand above whatever a repository has of its own.
const SETTINGS: [&str; 10] = [
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.symlinks=false",
    "credential.helper=",
    "fetch.recurseSubmodules=false",
    "gc.auto=0",
    "gpg.format=ssh",
    "gpg.ssh.program=ssh-keygen",
    "maintenance.auto=false",
    "transfer.fsckObjects=true",
];

/// What it is called with: everything else of the environment stays outside.
const ENVIRONMENT: [(&str, &str); 9] = [
    ("PATH", PATH),
    ("LC_ALL", "C"),
    ("GIT_CONFIG_NOSYSTEM", "1"),
    ("GIT_CONFIG_GLOBAL", "/dev/null"),
    ("GIT_TERMINAL_PROMPT", "0"),
    ("GIT_ASKPASS", "/bin/false"),
    ("SSH_ASKPASS", "/bin/false"),
    ("GIT_ALLOW_PROTOCOL", "https:ssh:file"),
    // Read by git itself; nothing from outside is in it.
    (
        "GIT_SSH_COMMAND",
        "ssh -oBatchMode=yes -oStrictHostKeyChecking=yes",
    ),
];

/// How a call ended.
pub(super) struct Said {
    pub(super) is_good: bool,
    pub(super) out: Vec<u8>,
    pub(super) err: String,
}

/// Calls `git` in a bare repository. `home` is an empty folder; `more` are further settings.
pub(super) async fn git(
    home: &Path,
    repository: &Path,
    more: &[String],
    args: &[&str],
) -> Result<Said, GitError> {
    let what = args.first().copied().unwrap_or_default();
    let failed = |source| GitError::Call {
        what: what.to_owned(),
        source,
    };
    let mut child = command(home, repository, more, args)
        .spawn()
        .map_err(failed)?;
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let through = async {
        // What it says beyond the limit is not read: it ends by the broken pipe.
        let (out, err) = tokio::try_join!(read(out), read(err))?;
        Ok::<_, std::io::Error>((child.wait().await?, out, err))
    };
    let ended = tokio::time::timeout(TIME_MAX, through).await;
    let ended = ended.map_err(|_| GitError::Slow {
        what: what.to_owned(),
    })?;
    let (status, out, err) = ended.map_err(failed)?;
    if out.len() as u64 >= SAID_MAX {
        return Err(GitError::Large {
            what: "what is in the repository".into(),
        });
    }
    Ok(Said {
        is_good: status.success(),
        out,
        err: String::from_utf8_lossy(&err).trim().to_owned(),
    })
}

fn command(home: &Path, repository: &Path, more: &[String], args: &[&str]) -> Command {
    let mut command = Command::new("git");
    command
        .env_clear()
        .envs(ENVIRONMENT)
        .env("HOME", home)
        .current_dir(home);
    let more = more.iter().map(String::as_str);
    for setting in SETTINGS.into_iter().chain(more) {
        command.args(["-c", setting]);
    }
    command.arg("--git-dir").arg(repository).args(args);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

async fn read(from: Option<impl AsyncRead + Unpin>) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(from) = from {
        from.take(SAID_MAX).read_to_end(&mut bytes).await?;
    }
    Ok(bytes)
}
