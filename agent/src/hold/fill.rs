//! A file system that is filled: by one unnamed file, which ends with its holder.
//!
//! It grows in steps, so that a stop is heard in between, and what is left is asked of the file system before each. The
//! reserve is never touched, and half of it is given back to others who have come to need it; nothing is given back
//! of what `leave` says, because coming to the end of that is what is tested.

use super::held::{Held, HoldError};
use super::holder::Grip;
use super::place::{self, Place};
use super::strain::{self, LOOK_EVERY, Resource, Strain};
use crate::kernel::disk;
use squall_experiments::dose::{Dose, Evidence, FillDose};
use squall_experiments::fault::{Fill, FillGoal};
use std::fs::File;
use std::time::{Duration, Instant};

/// One step by fallocate(2): a moment of bookkeeping on a disk, some 5 ms of clearing pages on a tmpfs.
const STEP_BYTES: u64 = 32 << 20;
/// One step by writing: a slow disk takes a tenth of a second for it.
const WRITE_BYTES: u64 = 4 << 20;
/// What a step is made of: less is not worth a call, and no file system has larger blocks.
const GRAIN_BYTES: u64 = 64 << 10;
/// How often a step is made at most where a rate is asked for.
const STEP_EVERY: Duration = Duration::from_millis(20);

struct Filled {
    file: File,
    place: Place,
    /// Bytes of the file that were asked of the file system.
    length: u64,
    asked: u64,
    /// What is left free by all means.
    floor: u64,
    /// Whether what is below the floor is given back.
    yields: bool,
    rate: Option<u64>,
    /// The file system takes no fallocate(2).
    by_writing: bool,
    begun: Instant,
    next: Instant,
    strain: Strain,
}

/// Takes the first step and shows that the file system has less than before.
pub(crate) fn arm(
    fault: &Fill,
    grip: &Grip,
    limits: &strain::Limits,
) -> Result<(Box<dyn Held>, Evidence), HoldError> {
    let place = place::find(&fault.path, grip)?;
    let before = place.room()?;
    let asked = asked(fault, before, &place)?;
    let (floor, yields) = match fault.goal {
        FillGoal::Leave(left) => (left.get(), false),
        _ => (fault.reserve.get(), true),
    };
    let now = Instant::now();
    let mut filled = Filled {
        file: place.unnamed(false)?,
        place,
        length: 0,
        asked,
        floor,
        yields,
        rate: fault.rate.map(squall_experiments::units::ByteRate::get),
        by_writing: false,
        begun: now,
        next: now,
        strain: Strain::new(&[Resource::Io], limits),
    };
    filled.step()?;
    let (held, after) = (filled.held()?, filled.place.room()?);
    if held == 0 {
        return Err(HoldError::Unable(format!(
            "{} took nothing: {} bytes are free and {floor} of them are to stay so",
            filled.place.in_words, after.free
        )));
    }
    let evidence = Evidence {
        means: if filled.by_writing {
            "an unnamed file, written".to_owned()
        } else {
            "an unnamed file, by fallocate".to_owned()
        },
        read_back: vec![
            format!("{held} bytes taken of {asked} asked for, growing"),
            format!(
                "free at {}: {} bytes before, {} now, {floor} are left",
                filled.place.in_words, before.free, after.free
            ),
        ],
        warnings: filled.strain.warnings(),
    };
    Ok((Box::new(filled), evidence))
}

/// How many bytes are to be taken; says why not where that is none, or more than there is.
fn asked(fault: &Fill, room: disk::Room, place: &Place) -> Result<u64, HoldError> {
    let at = &place.in_words;
    let whole = room.used + room.free;
    if whole == 0 {
        return Err(HoldError::Unable(format!(
            "the file system at {at} does not say how large it is: name a folder on another"
        )));
    }
    let asked = match fault.goal {
        FillGoal::Size(size) => size.get(),
        FillGoal::To(share) => {
            let goal = u128::from(whole) * u128::from(share.get()) / 1_000_000;
            u64::try_from(goal)
                .unwrap_or(whole)
                .saturating_sub(room.used)
        }
        FillGoal::Leave(left) => room.free.saturating_sub(left.get()),
    };
    if asked < GRAIN_BYTES {
        return Err(HoldError::Unable(format!(
            "the file system at {at} is that full already: {} of {whole} bytes are in use, and {} are free",
            room.used, room.free
        )));
    }
    let reserve = match fault.goal {
        FillGoal::Leave(left) => left.get(),
        _ => fault.reserve.get(),
    };
    let most = room.free.saturating_sub(reserve);
    if asked > most {
        return Err(HoldError::Unable(format!(
            "{asked} bytes are asked for, and the {} that are free at {at} leave {most} above the reserve of {}: ask for \
             less, or for a smaller reserve",
            room.free, fault.reserve
        )));
    }
    Ok(asked / GRAIN_BYTES * GRAIN_BYTES)
}

impl Filled {
    fn held(&self) -> Result<u64, HoldError> {
        disk::taken(&self.file).map_err(HoldError::kernel(
            "ask for the size of",
            format!("the file at {}", self.place.in_words),
        ))
    }

    /// What the rate allows by now; the first grain is due at once, so that there is something to show.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "bounded by what was asked for"
    )]
    fn allowed(&self) -> u64 {
        let Some(rate) = self.rate else {
            return self.asked;
        };
        let grown = self.begun.elapsed().as_secs_f64() * rate as f64;
        (grown as u64).saturating_add(GRAIN_BYTES).min(self.asked)
    }

    /// Grows by one step where rate and room allow it, or makes room.
    fn step(&mut self) -> Result<(), HoldError> {
        let free = self.place.room()?.free;
        let spared = self.spared(free);
        if self.length > spared {
            return self.shrink(spared);
        }
        let most = if self.by_writing {
            WRITE_BYTES
        } else {
            STEP_BYTES
        };
        let wanted = self.allowed().min(spared);
        let wanted = wanted.saturating_sub(self.length).min(most);
        let fits = wanted.min(free.saturating_sub(self.floor)) / GRAIN_BYTES * GRAIN_BYTES;
        let grew = fits > 0 && self.grow(fits)?;
        let done = self.length >= self.asked;
        self.next = Instant::now()
            + match (done, grew, self.rate) {
                (false, true, None) => Duration::ZERO,
                (false, _, Some(_)) if wanted < GRAIN_BYTES || grew => STEP_EVERY,
                // All of it, or no room for more just now.
                _ => LOOK_EVERY,
            };
        Ok(())
    }

    /// Whether there was room for so much more.
    fn grow(&mut self, bytes: u64) -> Result<bool, HoldError> {
        let mut result = if self.by_writing {
            disk::write(&self.file, self.length, bytes)
        } else {
            disk::allocate(&self.file, self.length, bytes)
        };
        let unknown = |error: &std::io::Error| {
            matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::ENOSYS))
        };
        if !self.by_writing && result.as_ref().is_err_and(unknown) {
            self.by_writing = true;
            result = disk::write(&self.file, self.length, bytes.min(WRITE_BYTES));
        }
        match result {
            Ok(()) => {
                self.length += if self.by_writing {
                    bytes.min(WRITE_BYTES)
                } else {
                    bytes
                };
                Ok(true)
            }
            // Others were quicker, or a quota is in the way: as full as it gets.
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOSPC | libc::EDQUOT)) => {
                Ok(false)
            }
            Err(error) => Err(HoldError::kernel(
                "take",
                format!("{bytes} bytes at {}", self.place.in_words),
            )(error)),
        }
    }

    /// How long the file may be now that others need the reserve, or the node is short; all of it where neither is so.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a share of what was asked for"
    )]
    fn spared(&mut self, free: u64) -> u64 {
        let asked = self.asked as f64;
        let mut share = self.strain.share(self.length as f64 / asked);
        if self.yields && free < self.floor / 2 {
            let kept = self.length.saturating_sub(self.floor - free);
            share = kept as f64 / asked;
            let why = format!("less than half of the reserve was free, {free} bytes");
            self.strain.give_way(share, why);
        }
        (asked * share).round() as u64 / GRAIN_BYTES * GRAIN_BYTES
    }

    fn shrink(&mut self, length: u64) -> Result<(), HoldError> {
        self.length = length;
        self.next = Instant::now() + LOOK_EVERY;
        self.file.set_len(length).map_err(HoldError::kernel(
            "give back",
            format!("all but {length} bytes at {}", self.place.in_words),
        ))
    }
}

impl Held for Filled {
    fn next_turn(&self) -> Option<Instant> {
        Some(self.next)
    }

    fn turn(&mut self) -> Result<(), HoldError> {
        if Instant::now() >= self.next {
            self.step()?;
        }
        Ok(())
    }

    fn dose(&mut self) -> Result<Dose, HoldError> {
        Ok(Dose::Fill(FillDose {
            held_bytes: self.held()?,
            asked_bytes: self.asked,
            free_bytes: self.place.room()?.free,
            back_off: self.strain.said(),
        }))
    }

    fn release(mut self: Box<Self>) -> Result<Dose, HoldError> {
        self.dose()
    }
}
