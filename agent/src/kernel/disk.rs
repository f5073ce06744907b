//! Unnamed files on a file system: they take room, numbers and time, and end with their last descriptor (open(2),
//! `O_TMPFILE`).

use rustix::fs::{FallocateFlags, Mode, OFlags, ResolveFlags};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt};

/// How much a file system has, and how much of it is free, for those without special rights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Room {
    /// Bytes in use.
    pub(crate) used: u64,
    /// Bytes that can still be taken.
    pub(crate) free: u64,
    /// Files that it can have in all; 0 where there is no fixed number.
    pub(crate) files: u64,
    /// Files that can still be made.
    pub(crate) files_free: u64,
}

/// The root folder of a process, which is where its paths begin.
///
/// # Errors
/// `ENOENT`: it is gone; `EACCES` without `CAP_SYS_PTRACE`.
pub(crate) fn root_of(pid: u32) -> io::Result<OwnedFd> {
    root(&format!("/proc/{pid}/root"))
}

/// The folder that is the root as seen from here.
///
/// # Errors
/// None that is to be met.
pub(crate) fn own_root() -> io::Result<OwnedFd> {
    root("/")
}

fn root(path: &str) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

/// A folder below that root: no link and no `..` in it leads out of the root (openat2(2), Linux 5.6).
///
/// # Errors
/// `ENOENT`, `ENOTDIR`, `EACCES`; `ENOSYS` where a seccomp profile does not know the call.
pub(crate) fn folder(root: impl AsFd, path: &str) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    Ok(rustix::fs::openat2(
        root,
        path,
        flags,
        Mode::empty(),
        resolve,
    )?)
}

/// A file without a name; past the page cache if `direct`.
///
/// # Errors
/// `EOPNOTSUPP` or `EISDIR`: the file system has no unnamed files; `EINVAL`: it has no direct I/O; `EROFS`, `ENOSPC`.
pub(crate) fn unnamed(folder: impl AsFd, direct: bool) -> io::Result<File> {
    let mut flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    flags.set(OFlags::DIRECT, direct);
    let mode = Mode::RUSR | Mode::WUSR;
    Ok(rustix::fs::openat(folder, ".", flags, mode)?.into())
}

/// What the file system says of itself now.
///
/// # Errors
/// `EIO` and the like.
pub(crate) fn room(on: impl AsFd) -> io::Result<Room> {
    let all = rustix::fs::fstatvfs(on)?;
    Ok(Room {
        used: all.f_blocks.saturating_sub(all.f_bfree) * all.f_frsize,
        free: all.f_bavail * all.f_frsize,
        files: all.f_files,
        files_free: all.f_favail,
    })
}

/// Whether the file system is made of memory: tmpfs or ramfs (statfs(2)).
///
/// # Errors
/// `EIO` and the like.
pub(crate) fn is_in_memory(on: impl AsFd) -> io::Result<bool> {
    const RAMFS_MAGIC: i64 = 0x8584_58f6;
    let kind = i128::from(rustix::fs::fstatfs(on)?.f_type);
    Ok(kind == i128::from(libc::TMPFS_MAGIC) || kind == i128::from(RAMFS_MAGIC))
}

/// Bytes that the file really takes.
///
/// # Errors
/// None that is documented for an open file.
pub(crate) fn taken(file: &File) -> io::Result<u64> {
    /// stat(2): `st_blocks` counts these whatever the file system's blocks are.
    const STAT_BLOCK_BYTES: u64 = 512;
    Ok(file.metadata()?.blocks() * STAT_BLOCK_BYTES)
}

/// Lets the file grow by so many bytes that are really taken.
///
/// # Errors
/// `ENOSPC`, `EDQUOT`; `EOPNOTSUPP`: only writing takes room there.
pub(crate) fn allocate(file: &File, from: u64, bytes: u64) -> io::Result<()> {
    Ok(rustix::fs::fallocate(
        file,
        FallocateFlags::empty(),
        from,
        bytes,
    )?)
}

/// Writes so many bytes that no file system makes less of by compressing them, or by sharing equal blocks.
///
/// # Errors
/// `ENOSPC`, `EDQUOT`, `EIO`.
pub(crate) fn write(file: &File, from: u64, bytes: u64) -> io::Result<()> {
    const CHUNK_BYTES: usize = 256 << 10;
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut at = from;
    while at < from + bytes {
        let length = (from + bytes - at).min(CHUNK_BYTES as u64);
        let part = &mut chunk[..usize::try_from(length).unwrap_or(CHUNK_BYTES)];
        noise(part, at);
        file.write_all_at(part, at)?;
        at += length;
    }
    Ok(())
}

/// Bytes that look like chance (splitmix64), different for each place.
pub(crate) fn noise(bytes: &mut [u8], place: u64) {
    let mut state = place ^ 0x5371_7561_6c6c_2121;
    for eight in bytes.chunks_mut(8) {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let mixed = (mixed ^ (mixed >> 31)).to_ne_bytes();
        eight.copy_from_slice(&mixed[..eight.len()]);
    }
}

/// Has the kernel forget what it keeps of the file in memory, as far as that is on disk.
///
/// # Errors
/// None that is documented for an open file.
pub(crate) fn forget(file: &File) -> io::Result<()> {
    Ok(rustix::fs::fadvise(
        file,
        0,
        None,
        rustix::fs::Advice::DontNeed,
    )?)
}

/// How much of the file's first `bytes` the kernel keeps in memory, in bytes, and the places of those pages that it does not,
/// of which there are at most `most`.
///
/// # Errors
/// `ENOMEM` where there is no room for a map of it.
pub(crate) fn kept_in_memory(file: &File, bytes: u64, most: usize) -> io::Result<(u64, Vec<u64>)> {
    /// A window of the map: one byte is told for each of its pages.
    const WINDOW_BYTES: u64 = 1 << 30;
    let page = crate::kernel::memory::page_bytes() as u64;
    let (mut kept, mut missing, mut from) = (0, Vec::new(), 0);
    while from < bytes {
        let length = (bytes - from).min(WINDOW_BYTES);
        for (number, there) in resident_pages(file, from, length)?.iter().enumerate() {
            let at = from + number as u64 * page;
            if there & 1 == 1 {
                kept += page;
            } else if missing.len() < most {
                missing.push(at);
            }
        }
        from += length;
    }
    Ok((kept, missing))
}

/// A byte for each page of that part of the file; its lowest bit says that the page is in memory (mincore(2)).
fn resident_pages(file: &File, from: u64, length: u64) -> io::Result<Vec<u8>> {
    let too_long = |_| io::Error::from_raw_os_error(libc::ENOMEM);
    let length = usize::try_from(length).map_err(too_long)?;
    let page = crate::kernel::memory::page_bytes();
    let mut told = vec![0; length.div_ceil(page)];
    let (protection, flags) = (ProtFlags::READ, MapFlags::SHARED);
    // SAFETY: a new mapping at an address of the kernel's choice disturbs no other memory; nobody reads through it; `told`
    // has a byte for each of its pages; and it is unmapped, exactly as it was mapped, before this returns.
    unsafe {
        let start = mmap(std::ptr::null_mut(), length, protection, flags, file, from)?;
        let result = libc::mincore(start, length, told.as_mut_ptr());
        let error = io::Error::last_os_error();
        munmap(start, length)?;
        if result != 0 {
            return Err(error);
        }
    }
    Ok(told)
}

/// Has the kernel read so much of the file into memory, from there on, and count it as used.
///
/// # Errors
/// `EIO` and the like.
pub(crate) fn use_page(file: &File, at: u64) -> io::Result<()> {
    // What was read twice is not the first to go (Documentation/mm/multigen_lru.rst and its forerunner alike).
    let mut byte = [0];
    file.read_at(&mut byte, at)?;
    file.read_at(&mut byte, at).map(drop)
}

/// What this process has had read from and written to storage so far, in bytes (proc_pid_io(5)).
///
/// # Errors
/// The kernel keeps no such account.
pub(crate) fn storage_bytes() -> io::Result<(u64, u64)> {
    let text = std::fs::read_to_string("/proc/self/io")?;
    let of = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key))?;
        line.trim().parse().ok()
    };
    match (of("read_bytes:"), of("write_bytes:")) {
        (Some(read), Some(written)) => Ok((read, written)),
        _ => Err(io::Error::other("no read_bytes in /proc/self/io")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_does_not_lead_out_of_its_root() {
        let inside = std::env::temp_dir().join(format!("squall-root-{}", std::process::id()));
        std::fs::create_dir_all(inside.join("data")).unwrap();
        std::os::unix::fs::symlink("/", inside.join("out")).unwrap();
        std::os::unix::fs::symlink("../../..", inside.join("up")).unwrap();
        let root = root(inside.to_str().unwrap()).unwrap();
        let inode = |fd: &OwnedFd| rustix::fs::fstat(fd).unwrap().st_ino;
        for path in ["/", "/out", "/up", "/data/../.."] {
            let found = folder(&root, path).unwrap();
            assert_eq!(inode(&found), inode(&root), "{path}");
        }
        assert_ne!(inode(&folder(&root, "/data").unwrap()), inode(&root));
        assert!(folder(&root, "/etc").is_err());
        std::fs::remove_dir_all(&inside).unwrap();
    }

    #[test]
    fn what_is_read_is_kept_in_memory_until_it_is_forgotten() {
        const BYTES: u64 = 8 << 20;
        let at = folder(own_root().unwrap(), "/var/tmp").unwrap();
        let file = unnamed(at, false).unwrap();
        if is_in_memory(&file).unwrap() {
            // What has no disk behind it has no cache in front of one, and the fault is refused there.
            return;
        }
        file.set_len(BYTES).unwrap();
        let page = crate::kernel::memory::page_bytes() as u64;
        let kept = |most| kept_in_memory(&file, BYTES, most).unwrap();
        let (before, missing) = kept(3);
        assert_eq!((before, missing), (0, vec![0, page, 2 * page]));
        use_page(&file, 5 * page).unwrap();
        assert!(kept(0).0 >= page);
        assert!(taken(&file).unwrap() < page * 2, "it takes room");
    }

    #[test]
    fn what_is_written_takes_its_room() {
        const BYTES: u64 = 3 << 20;
        let file = unnamed(folder(own_root().unwrap(), "/dev/shm").unwrap(), false).unwrap();
        write(&file, 0, BYTES).unwrap();
        assert_eq!(taken(&file).unwrap(), BYTES);
        allocate(&file, BYTES, BYTES).unwrap();
        assert_eq!(taken(&file).unwrap(), 2 * BYTES);
        file.set_len(4096).unwrap();
        assert_eq!(taken(&file).unwrap(), 4096);
    }
}
