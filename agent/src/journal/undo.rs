//! The changes that can be undone: what was before, where, and putting it back.

use super::open_files::Limits;
use crate::kernel::freezer::Freezer;
use crate::kernel::net::forgotten::{self, Forgotten};
use crate::kernel::net::netlink::{Netlink, Protocol};
use crate::kernel::net::netns::{self, Netns};
use crate::kernel::net::{NetError, links};
use serde::{Deserialize, Serialize};
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How long the kernel may take until it says that it is as before: it takes microseconds.
const BACK_LIMIT: Duration = Duration::from_secs(1);
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// What was before, and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) enum Undo {
    /// A cgroup's freezer: it was thawed, as no fault freezes what is frozen already.
    Thaw {
        /// The group's folder.
        folder: PathBuf,
        /// The folder's inode: another group of that name is not meant.
        inode: u64,
        /// Whether it is v2's.
        v2: bool,
    },
    /// A network interface: it was up, as no fault sets down what is down already.
    LinkUp {
        /// The inode of its network namespace.
        netns: u64,
        /// Its number there.
        index: u32,
        /// Its name.
        name: String,
        /// What the kernel forgot with it.
        forgotten: Vec<Forgotten>,
    },
    /// The limits of open files of some processes.
    OpenFiles(Limits),
}

impl Undo {
    /// A name for what is changed: one change at a time.
    pub(crate) fn key(&self) -> String {
        match self {
            Self::Thaw { inode, v2, .. } => {
                format!("freezer-{}-{inode}", if *v2 { "v2" } else { "v1" })
            }
            Self::LinkUp { netns, index, .. } => format!("link-{netns}-{index}"),
            Self::OpenFiles(limits) => limits.key(),
        }
    }

    /// What is changed, for people.
    pub(crate) fn in_words(&self) -> String {
        match self {
            Self::Thaw { folder, .. } => format!("the freezer of cgroup {}", folder.display()),
            Self::LinkUp { netns, name, .. } => {
                format!("the interface {name} of network namespace {netns}")
            }
            Self::OpenFiles(limits) => limits.in_words(),
        }
    }

    /// Puts it back, and reads that back from the kernel. What is gone needs nothing.
    pub(crate) fn put_back(&self) -> io::Result<()> {
        match self {
            Self::Thaw { folder, inode, v2 } => {
                let Some(freezer) = Freezer::at(folder, *inode, *v2)? else {
                    return Ok(());
                };
                gone_is_fine(freezer.tell(false))?;
                wait(|| Ok(!freezer.state()?.told))
            }
            Self::LinkUp {
                netns,
                index,
                name,
                forgotten,
            } => link_up(*netns, *index, name, forgotten).map_err(said),
            Self::OpenFiles(limits) => limits.put_back(),
        }
    }
}

/// What the kernel said, with what it was asked.
fn said(error: NetError) -> io::Error {
    match error.errno() {
        Some(number) => io::Error::from_raw_os_error(number),
        None => io::Error::other(error.to_string()),
    }
}

/// Sets the link up in its namespace, wherever this process is. A namespace that is gone took the link with it.
fn link_up(inode: u64, index: u32, name: &str, all: &[Forgotten]) -> Result<(), NetError> {
    let act = || {
        let mut route = Netlink::open(Protocol::Route)?;
        let link = links::by_index(&mut route, index)?.filter(|link| link.name == name);
        let Some(link) = link else { return Ok(()) };
        links::set_up(&mut route, &link)?;
        forgotten::give_back(&mut route, all)
    };
    if Netns::current()?.identity().inode == inode {
        return act();
    }
    let there = netns::all()?
        .into_iter()
        .find(|netns| netns.identity().inode == inode);
    there.map_or(Ok(()), |netns| netns.inside(act))
}

/// A group that was removed meanwhile.
fn gone_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENODEV | libc::ENOENT)) => Ok(()),
        other => other,
    }
}

/// Until the kernel says so.
fn wait(done: impl Fn() -> io::Result<bool>) -> io::Result<()> {
    let begun = Instant::now();
    loop {
        match done() {
            Ok(true) => return Ok(()),
            Err(error) => return gone_is_fine(Err(error)),
            Ok(false) if begun.elapsed() > BACK_LIMIT => {
                return Err(io::Error::other(
                    "the kernel took the order, and does not show it done",
                ));
            }
            Ok(false) => std::thread::sleep(LOOK_EVERY),
        }
    }
}
