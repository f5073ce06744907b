//! File systems of one's own, seen by nobody else: small ones, and full ones.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::Path;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use super::Result;

/// Does `work` on a thread that shares no mount with anybody; the processes it starts inherit what it mounts.
///
/// # Errors
/// Without root, and what `work` fails with.
pub fn apart<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let apart = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNS)?;
            let (none, private) = (None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE);
            mount(none, "/", none, private, none)?;
            work()
        });
        let panicked = |_| Err("work apart from all mounts panicked".into());
        apart.join().unwrap_or_else(panicked)
    })
}

/// Mounts a file system in memory, of so many bytes.
///
/// # Errors
/// Without root, or where there is no such folder.
pub fn in_memory(place: &str, bytes: u64) -> Result<()> {
    let size = format!("size={bytes},nr_inodes=1000");
    let (name, kind) = (Some("squall-test"), Some("tmpfs"));
    Ok(mount(
        name,
        place,
        kind,
        MsFlags::empty(),
        Some(size.as_str()),
    )?)
}

/// Where a program may want to write: its temporary files, its state, its home.
const WRITTEN_TO: [&str; 4] = ["/tmp", "/var", "/dev/shm", "/root"];

/// Less than anybody wants to write.
const SMALL_BYTES: u64 = 64 << 10;

/// Does `work` where every folder that a program may want to write to is full: `ENOSPC`, whatever is written. It is given an
/// open file there, for a log that cannot be written either.
///
/// # Errors
/// Without root, and what `work` fails with.
pub fn full<T: Send>(work: impl FnOnce(File) -> Result<T> + Send) -> Result<T> {
    apart(|| {
        let log = "/tmp/log";
        for place in WRITTEN_TO
            .into_iter()
            .filter(|place| Path::new(place).is_dir())
        {
            in_memory(place, SMALL_BYTES)?;
        }
        let log = File::create(log)?;
        for place in WRITTEN_TO
            .into_iter()
            .filter(|place| Path::new(place).is_dir())
        {
            fill_up(&Path::new(place).join("full"))?;
        }
        work(log)
    })
}

/// Writes a file until there is no room for another byte.
///
/// # Errors
/// It cannot be made, or writing fails otherwise.
pub fn fill_up(file: &Path) -> Result<()> {
    let mut file = fs::File::create(file)?;
    loop {
        match file.write(&[0; 4096]) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::StorageFull => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}
