//! Anonymous memory that is touched page by page, and what of it is resident.

use std::io;
use std::num::NonZeroUsize;
use std::ptr::NonNull;

use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap_anonymous, munmap};

/// One private anonymous mapping. Untouched pages cost nothing.
#[derive(Debug)]
pub(crate) struct Region {
    start: NonNull<libc::c_void>,
    length: NonZeroUsize,
    touched: usize,
    page: usize,
}

/// The size of a page in bytes.
pub(crate) fn page_bytes() -> usize {
    rustix::param::page_size()
}

impl Region {
    /// Reserves addresses for `length` bytes, rounded up to pages.
    ///
    /// # Errors
    /// `ENOMEM` when the address space, or the overcommit limit, is used up.
    pub(crate) fn reserve(length: usize) -> io::Result<Self> {
        let page = page_bytes();
        let length = NonZeroUsize::new(length.max(1).next_multiple_of(page))
            .ok_or_else(|| io::Error::from_raw_os_error(libc::ENOMEM))?;
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        let flags = MapFlags::MAP_PRIVATE | MapFlags::MAP_NORESERVE;
        // SAFETY: a new anonymous mapping at an address of the kernel's choice disturbs no other memory.
        let start = unsafe { mmap_anonymous(None, length, protection, flags)? };
        // Huge pages would make the dose a multiple of 2 MiB.
        // SAFETY: the range is exactly the mapping made above.
        let _ = unsafe { madvise(start, length.get(), MmapAdvise::MADV_NOHUGEPAGE) };
        Ok(Self {
            start,
            length,
            touched: 0,
            page,
        })
    }

    /// Bytes touched so far.
    pub(crate) const fn touched(&self) -> usize {
        self.touched
    }

    /// Touches the next `bytes`, as far as there are some; returns how many were. Each page gets its own contents, so
    /// that no deduplication (KSM) or compression makes less of them.
    pub(crate) fn touch(&mut self, bytes: usize) -> usize {
        let end = self
            .touched
            .saturating_add(bytes.next_multiple_of(self.page))
            .min(self.length.get());
        let from = self.touched;
        while self.touched < end {
            // SAFETY: `touched` is below the mapping's length and a multiple of the page size, so the eight bytes are
            // inside it and aligned; nobody else has a reference into it.
            unsafe {
                let at = self
                    .start
                    .as_ptr()
                    .cast::<u8>()
                    .add(self.touched)
                    .cast::<u64>();
                at.write_volatile(self.touched as u64 ^ 0x5371_7561_6c6c_2121);
            }
            self.touched += self.page;
        }
        end - from
    }

    /// Gives back the last `bytes` that were touched.
    pub(crate) fn give_back(&mut self, bytes: usize) -> usize {
        let bytes = (bytes / self.page * self.page).min(self.touched);
        if bytes == 0 {
            return 0;
        }
        self.touched -= bytes;
        // SAFETY: the range lies inside the mapping; its contents are of no interest to anybody.
        let result = unsafe {
            let at = self.start.as_ptr().cast::<u8>().add(self.touched);
            let at = NonNull::new_unchecked(at.cast::<libc::c_void>());
            madvise(at, bytes, MmapAdvise::MADV_DONTNEED)
        };
        if result.is_err() {
            self.touched += bytes;
            return 0;
        }
        bytes
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: exactly the mapping this value owns, and no reference into it is left.
        let _ = unsafe { munmap(self.start, self.length.get()) };
    }
}

/// What this process has resident, in bytes: (anonymous, all of it), from /proc/self/status, whose counters the kernel
/// may batch per CPU; good to some 64 pages per CPU.
///
/// # Errors
/// /proc is not there.
pub(crate) fn resident_bytes() -> io::Result<(u64, u64)> {
    let text = std::fs::read_to_string("/proc/self/status")?;
    let kib = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key))?;
        line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()
    };
    match (kib("RssAnon:"), kib("VmRSS:")) {
        (Some(anonymous), Some(all)) => Ok((anonymous << 10, all << 10)),
        _ => Err(io::Error::other("no RssAnon in /proc/self/status")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_touched_is_resident_and_what_is_given_back_is_not() {
        const BYTES: usize = 32 << 20;
        let before = resident_bytes().unwrap().0;
        let mut region = Region::reserve(BYTES).unwrap();
        assert_eq!(region.touch(BYTES), BYTES);
        let full = resident_bytes().unwrap().0;
        assert!(full - before > 31 << 20, "{before} {full}");
        assert_eq!(region.give_back(BYTES / 2), BYTES / 2);
        let half = resident_bytes().unwrap().0;
        assert!(half - before < 17 << 20, "{before} {half}");
        assert_eq!(region.touch(BYTES), BYTES / 2);
    }
}
