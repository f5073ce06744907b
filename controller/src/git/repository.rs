//! What is fetched of a repository, verified and read. There is no work tree: nothing of it is ever a file on this machine.

use super::command::{Said, git};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

/// So many files are looked at.
const FILES_MAX: usize = 1_000;
/// The largest file that is looked at: a blackout calendar.
const FILE_BYTES_MAX: u64 = 4 << 20;
/// All of them together.
const BYTES_MAX: u64 = 64 << 20;

/// Where files come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Source {
    /// `https://…`, `ssh://…` or `file:///…`.
    pub url: String,
    /// Which branch.
    #[serde(default = "Source::branch_default")]
    pub branch: String,
    /// Which folder of it; all of it where nothing is said.
    #[serde(default)]
    pub path: String,
    /// Whose signatures a commit must have, as ssh-keygen(1) reads it (ALLOWED SIGNERS); anybody's commit counts where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed_signers: Option<PathBuf>,
}

/// Why nothing can be taken from a repository.
#[derive(Debug, thiserror::Error)]
pub enum GitError {
    /// What was said.
    #[error("{what} `{value}` cannot be used: {why}")]
    Source {
        /// Of what.
        what: &'static str,
        /// As it was said.
        value: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The program.
    #[error("`git {what}` cannot be called; is git installed?")]
    Call {
        /// Its verb.
        what: String,
        /// What the kernel said.
        #[source]
        source: std::io::Error,
    },
    /// It took too long.
    #[error("`git {what}` took too long, and was ended")]
    Slow {
        /// Its verb.
        what: String,
    },
    /// It did not do it.
    #[error("`git {what}` failed: {said}")]
    Failed {
        /// Its verb.
        what: String,
        /// In its words.
        said: String,
    },
    /// More than there may be.
    #[error("{what} is more than is looked at")]
    Large {
        /// What.
        what: String,
    },
    /// The signature.
    #[error("commit {commit} is not signed by anybody who may: {said}")]
    Unsigned {
        /// Which.
        commit: String,
        /// Why not, in git's words.
        said: String,
    },
    /// A folder of the controller's own.
    #[error("the folder `{}` cannot be made", path.display())]
    Folder {
        /// Which.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: std::io::Error,
    },
}

/// The files of one commit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tree {
    /// Its name.
    pub commit: String,
    /// Path in the repository and text of each file that may be meant for Squall.
    pub files: BTreeMap<String, String>,
}

/// A file of a commit, as runs are told to come from it.
#[must_use]
pub fn at_commit(path: &str, commit: &str) -> String {
    format!("{path} at {commit}")
}

impl Source {
    /// The branch of who says none.
    pub(crate) fn branch_default() -> String {
        "main".into()
    }

    /// Whether it can be given to git at all.
    ///
    /// # Errors
    /// An address of another kind or with a password, a branch or a path that is none.
    pub fn check(&self) -> Result<(), GitError> {
        let bad = |what, value: &str, why| {
            Err(GitError::Source {
                what,
                value: value.to_owned(),
                why,
            })
        };
        let known = ["https://", "ssh://", "file:///"];
        let rest = known
            .iter()
            .find_map(|scheme| self.url.strip_prefix(scheme));
        let Some(rest) = rest else {
            return bad(
                "the address",
                &self.url,
                "it begins with https://, ssh:// or file:///",
            );
        };
        if self
            .url
            .chars()
            .any(|c| c.is_control() || c.is_whitespace())
        {
            return bad("the address", &self.url, "it has blanks");
        }
        let host = rest.split('/').next().unwrap_or_default();
        if host.starts_with('-')
            || host
                .split_once('@')
                .is_some_and(|(user, _)| user.contains(':'))
        {
            return bad(
                "the address",
                "…",
                "it holds a password, or a host that looks like an option",
            );
        }
        let plain = |c: char| c.is_ascii_alphanumeric() || "._/-".contains(c);
        let is_ref = !self.branch.is_empty()
            && self.branch.chars().all(plain)
            && !self.branch.contains("..");
        if !is_ref || self.branch.starts_with(['-', '/', '.']) || self.branch.ends_with(['/', '.'])
        {
            return bad("the branch", &self.branch, "write its name, such as `main`");
        }
        let parts_are_good = self.path.split('/').all(|part| !matches!(part, "." | ".."));
        if !parts_are_good
            || self.path.starts_with(['/', '-', ':'])
            || self.path.chars().any(char::is_control)
        {
            return bad(
                "the path",
                &self.path,
                "write a folder of the repository, such as `chaos`",
            );
        }
        Ok(())
    }
}

/// A repository, fetched into a folder of the controller's own.
#[derive(Debug, Clone)]
pub struct Repository {
    source: Source,
    folder: PathBuf,
    home: PathBuf,
}

impl Repository {
    /// Makes ready below a folder of the controller's own; fetches nothing.
    ///
    /// # Errors
    /// The source cannot be used, or there is no git.
    pub async fn open(source: Source, below: &Path) -> Result<Self, GitError> {
        source.check()?;
        let name: String = Sha256::digest(source.url.as_bytes())
            .iter()
            .take(8)
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let home = below.join("git").join("home");
        let folder = below.join("git").join(name);
        for path in [&home, &folder] {
            std::fs::create_dir_all(path).map_err(|source| GitError::Folder {
                path: path.clone(),
                source,
            })?;
        }
        let repository = Self {
            source,
            folder,
            home,
        };
        repository.git(&["init", "--quiet", "--bare"]).await?;
        Ok(repository)
    }

    async fn ask(&self, args: &[&str]) -> Result<Said, GitError> {
        let signers = self.source.allowed_signers.as_ref();
        let more: Vec<String> = signers
            .map(|file| format!("gpg.ssh.allowedSignersFile={}", file.display()))
            .into_iter()
            .collect();
        git(&self.home, &self.folder, &more, args).await
    }

    async fn git(&self, args: &[&str]) -> Result<Vec<u8>, GitError> {
        let said = self.ask(args).await?;
        let what = args.first().copied().unwrap_or_default().to_owned();
        if said.is_good {
            Ok(said.out)
        } else {
            Err(GitError::Failed {
                what,
                said: said.err,
            })
        }
    }

    /// Fetches the branch; the commit that it is at.
    ///
    /// # Errors
    /// It cannot be reached, or there is no such branch.
    pub async fn fetch(&self) -> Result<String, GitError> {
        self.fetch_into("head").await
    }

    /// Fetches another branch than the one that is followed, which stays where it is; the commit that it is at.
    ///
    /// # Errors
    /// It cannot be reached, there is no such branch, or it cannot be given to git at all.
    pub async fn fetch_other(&self, branch: &str) -> Result<String, GitError> {
        let mut other = self.clone();
        other.source.branch = branch.to_owned();
        other.source.check()?;
        other.fetch_into("other").await
    }

    async fn fetch_into(&self, name: &str) -> Result<String, GitError> {
        let from = format!("+refs/heads/{}:refs/squall/{name}", self.source.branch);
        self.git(&[
            "fetch",
            "--quiet",
            "--depth=1",
            "--no-tags",
            "--force",
            "--no-recurse-submodules",
            "--",
            &self.source.url,
            &from,
        ])
        .await?;
        let out = self
            .git(&[
                "rev-parse",
                "--verify",
                "--quiet",
                &format!("refs/squall/{name}^{{commit}}"),
            ])
            .await?;
        let commit = String::from_utf8_lossy(&out).trim().to_owned();
        let is_name = commit.len() >= 40 && commit.bytes().all(|b| b.is_ascii_hexdigit());
        is_name.then_some(commit).ok_or_else(|| GitError::Failed {
            what: "rev-parse".into(),
            said: "it named no commit".into(),
        })
    }

    /// Checks a commit's signature, where one is asked for.
    ///
    /// # Errors
    /// There is none of anybody who may.
    pub async fn verify(&self, commit: &str) -> Result<(), GitError> {
        if self.source.allowed_signers.is_none() {
            return Ok(());
        }
        let said = self.ask(&["verify-commit", "--", commit]).await?;
        let why = said
            .err
            .lines()
            .next()
            .filter(|line| !line.is_empty())
            .unwrap_or("it has no signature");
        if said.is_good {
            Ok(())
        } else {
            Err(GitError::Unsigned {
                commit: commit.to_owned(),
                said: why.to_owned(),
            })
        }
    }

    /// Reads the files of a commit that may be meant for Squall: `.yaml`, `.yml` and `.ics`, below the path.
    ///
    /// # Errors
    /// There are too many, or they are too large.
    pub async fn tree(&self, commit: &str) -> Result<Tree, GitError> {
        let mut args = vec!["ls-tree", "-r", "-z", "-l", "--full-tree", commit, "--"];
        let path = self.source.path.trim_end_matches('/');
        if !path.is_empty() {
            args.push(path);
        }
        let out = self.git(&args).await?;
        let mut tree = Tree {
            commit: commit.to_owned(),
            files: BTreeMap::new(),
        };
        let mut bytes = 0;
        for entry in out.split(|byte| *byte == 0) {
            let Some((blob, size, path)) = entry_of(entry) else {
                continue;
            };
            bytes += size;
            if size > FILE_BYTES_MAX || bytes > BYTES_MAX || tree.files.len() >= FILES_MAX {
                return Err(GitError::Large {
                    what: format!("`{path}`"),
                });
            }
            let text = self.git(&["cat-file", "blob", &blob]).await?;
            tree.files
                .insert(path, String::from_utf8_lossy(&text).into_owned());
        }
        Ok(tree)
    }
}

impl Repository {
    /// How many bytes a plain file of a commit has; none where there is none of that path, which is below the folder that is looked at.
    ///
    /// # Errors
    /// The repository cannot be read.
    pub async fn file(&self, commit: &str, path: &str) -> Result<Option<u64>, GitError> {
        let mut parts = Path::new(path).components();
        if path.is_empty() || !parts.all(|part| matches!(part, Component::Normal(_))) {
            return Ok(None);
        }
        let whole = self.whole_path(path);
        let out = self
            .git(&["ls-tree", "-z", "-l", "--full-tree", commit, "--", &whole])
            .await?;
        let entry = out.split(|byte| *byte == 0).next().unwrap_or_default();
        let file = plain_file(entry).filter(|(_, _, path)| *path == whole);
        Ok(file.map(|(_, bytes, _)| bytes))
    }

    /// Where in the repository a file is whose path is below the folder that is looked at.
    pub(super) fn whole_path(&self, path: &str) -> String {
        let folder = self.source.path.trim_matches('/');
        let parts = [folder, path].into_iter().filter(|part| !part.is_empty());
        parts.collect::<Vec<_>>().join("/")
    }
}

/// The same of a name that may be meant for Squall.
fn entry_of(entry: &[u8]) -> Option<(String, u64, String)> {
    let is_ours = |path: &str| {
        [".yaml", ".yml", ".ics"]
            .iter()
            .any(|end| path.ends_with(end))
    };
    plain_file(entry).filter(|(_, _, path)| is_ours(path))
}

/// `MODE blob NAME SIZE<tab>PATH`: a plain file. Links and submodules are passed over.
fn plain_file(entry: &[u8]) -> Option<(String, u64, String)> {
    let text = std::str::from_utf8(entry).ok()?;
    let (head, path) = text.split_once('\t')?;
    let mut head = head.split_ascii_whitespace();
    let (mode, kind, blob, size) = (head.next()?, head.next()?, head.next()?, head.next()?);
    let is_file = mode.starts_with("100") && kind == "blob";
    is_file.then_some(())?;
    Some((blob.to_owned(), size.parse().ok()?, path.to_owned()))
}
