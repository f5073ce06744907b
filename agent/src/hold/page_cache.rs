//! A file that is kept in memory: unnamed, as long as is wanted, and without contents, so that it takes no room on its disk.
//! What was read of it is charged to the cgroup of this process, which is the target's, and goes with the file.
//!
//! The kernel takes such pages back when the target needs memory, first those that were used once. So they are used twice,
//! and those that went all the same are read again at the next look: what suffers is the target's own files in memory.

use super::held::HoldError;
use super::place::Place;
use crate::kernel::{cgroup, disk, memory};
use std::fs::File;

/// Pages that are read in one turn: some 20 ms.
const STEP_PAGES: u64 = 8192;

/// The file, and where it counts.
pub(super) struct Cached {
    place: Place,
    file: File,
    group: cgroup::Group,
    v2: bool,
    /// Pages that are to be kept.
    pages: u64,
    /// Of those, kept when it was last looked.
    kept: u64,
}

impl Cached {
    pub(super) fn new(place: Place, group: cgroup::Group, v2: bool) -> Result<Self, HoldError> {
        if place.is_in_memory()? {
            return Err(HoldError::Unable(format!(
                "the file system at {} is memory itself, of which nothing is read from a disk again: name a folder on a disk, \
                 or use `memory`",
                place.in_words
            )));
        }
        Ok(Self {
            file: place.unnamed(false)?,
            place,
            group,
            v2,
            pages: 0,
            kept: 0,
        })
    }

    pub(super) const fn held(&self) -> u64 {
        self.kept
    }

    /// The memory limit and what is left below it, in pages. File pages of others count as left: they are to go.
    pub(super) fn room(&self) -> Result<(u64, u64), HoldError> {
        let room = cgroup::memory_room(&self.group.fd, &self.group.path, self.v2, 0);
        let room = room.ok_or_else(|| {
            HoldError::Unable(format!(
                "cgroup {} has no memory limit to take a share of: set one, or name another target",
                self.group.path
            ))
        })?;
        let page = memory::page_bytes() as u64;
        let cached = cgroup::file_bytes(&self.group.fd, self.v2).unwrap_or(0) / page;
        let left = room.left / page + cached.saturating_sub(self.kept);
        Ok((room.limit / page, left))
    }

    /// Keeps so many more, up to so many; whether there is more to do at once.
    pub(super) fn take(&mut self, more: u64, most: u64) -> Result<bool, HoldError> {
        let pages = (self.pages + more.min(STEP_PAGES)).min(most);
        self.keep(pages)?;
        Ok(more > STEP_PAGES && pages < most)
    }

    /// Keeps so many, and no more.
    pub(super) fn keep(&mut self, pages: u64) -> Result<(), HoldError> {
        let failed = |operation| {
            HoldError::kernel(operation, format!("the file at {}", self.place.in_words))
        };
        let page = memory::page_bytes() as u64;
        self.pages = pages;
        self.file
            .set_len(pages * page)
            .map_err(failed("set the length of"))?;
        let look = |most: u64| {
            let most = usize::try_from(most).unwrap_or(usize::MAX);
            disk::kept_in_memory(&self.file, pages * page, most)
        };
        let (_, missing) = look(STEP_PAGES).map_err(failed("ask what is in memory of"))?;
        for at in missing {
            disk::use_page(&self.file, at).map_err(failed("read"))?;
        }
        let (kept, _) = look(0).map_err(failed("ask what is in memory of"))?;
        self.kept = kept / page;
        Ok(())
    }
}
