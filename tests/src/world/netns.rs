//! Network namespaces with a name, made without changing the caller's own.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::thread;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};

use super::{Result, shout};

/// Where named namespaces are found, by Squall as by iproute2.
const FOLDER: &str = "/run/netns";

/// A network namespace that lives as long as this guard.
#[derive(Debug)]
pub struct Netns {
    name: String,
    handle: File,
}

impl Netns {
    /// A new namespace, empty but for a loopback that is down.
    ///
    /// # Errors
    /// When the name is taken or the kernel refuses.
    pub fn create(name: &str) -> Result<Self> {
        let place = path(name);
        fs::create_dir_all(FOLDER).map_err(|e| format!("cannot create {FOLDER}: {e}"))?;
        File::create_new(&place).map_err(|e| format!("cannot create {}: {e}", place.display()))?;
        let made = thread::scope(|scope| {
            let fresh = scope.spawn(|| -> nix::Result<()> {
                unshare(CloneFlags::CLONE_NEWNET)?;
                let own = Some("/proc/thread-self/ns/net");
                mount(own, &place, None::<&str>, MsFlags::MS_BIND, None::<&str>)
            });
            fresh.join().unwrap_or(Err(nix::Error::ECANCELED))
        });
        let opened = made
            .map_err(std::io::Error::from)
            .and_then(|()| File::open(&place));
        match opened {
            Ok(handle) => Ok(Self {
                name: name.to_owned(),
                handle,
            }),
            Err(error) => {
                remove(&place);
                Err(format!("cannot make network namespace {name}: {error}").into())
            }
        }
    }

    /// The name under /run/netns.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Does `work` inside, on a thread of its own: sockets made there stay there, and so do processes.
    ///
    /// # Errors
    /// When the namespace cannot be entered, or `work` fails.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        enter(&self.handle, work)
    }

    /// Takes its name away, as `ip netns delete` does; the namespace stays for those who are in it or hold it.
    pub fn delete_name(&self) {
        remove(&path(&self.name));
    }

    /// A hold of its own on the namespace, for whoever outlives the guard: see [`enter`].
    ///
    /// # Errors
    /// When no more files can be opened.
    pub fn handle(&self) -> Result<File> {
        Ok(self.handle.try_clone()?)
    }
}

/// Does `work` inside the namespace that `handle` holds, on a thread of its own.
///
/// # Errors
/// When the namespace cannot be entered, or what `work` fails with, as it is.
pub fn enter<T: Send>(handle: &File, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    thread::scope(|scope| {
        let inside = scope.spawn(|| {
            setns(handle, CloneFlags::CLONE_NEWNET)
                .map_err(|e| format!("cannot enter a network namespace: {e}"))?;
            work()
        });
        inside
            .join()
            .unwrap_or_else(|_| Err("work in a network namespace panicked".into()))
    })
}

impl Drop for Netns {
    fn drop(&mut self) {
        remove(&path(&self.name));
    }
}

fn path(name: &str) -> PathBuf {
    Path::new(FOLDER).join(name)
}

fn remove(place: &Path) {
    // Not mounted is as good; what matters is that the file can go.
    let _ = umount2(place, MntFlags::MNT_DETACH);
    if let Err(error) = fs::remove_file(place)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        shout(&format!("network namespace {}: {error}", place.display()));
    }
}
