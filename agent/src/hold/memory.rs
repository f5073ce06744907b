//! Memory pressure: anonymous pages, touched inside the target's cgroup and kept resident.
//!
//! It grows at the rate asked for, up to the size asked for, and never into the reserve below the nearest limit: what
//! is left is asked of the kernel before every step. When work stands still for want of memory it gives way ([`strain`]).
//! Once there it only looks, once a second, and touches nothing again.

use super::held::{Held, HoldError};
use super::holder::Grip;
use super::strain::{self, LOOK_EVERY, Strain};
use crate::kernel::{cgroup, memory};
use squall_experiments::dose::{Dose, Evidence, MemoryDose};
use squall_experiments::fault::{Memory, MemoryBase, MemorySize};
use std::time::{Duration, Instant};

/// One step of growth: small enough for a smooth rate and a short turn (touching 4 MiB takes 1 to 3 ms), large enough
/// that asking what is left costs little beside it.
const STEP_BYTES: u64 = 4 << 20;
/// How often a step is made at most.
const STEP_EVERY: Duration = Duration::from_millis(5);
/// What is kept where others have grown into the reserve.
const KEPT_SHARE: f64 = 0.95;

struct Taken {
    region: memory::Region,
    asked: u64,
    rate: Option<u64>,
    reserve: u64,
    group: Option<(cgroup::Group, bool)>,
    /// What was resident before.
    own: u64,
    next: Instant,
    /// When growth last began, and what was touched then: the rate counts from there.
    growing: (Instant, u64),
    strain: Strain,
}

/// Takes the first step and shows that it is resident.
pub(crate) fn arm(
    fault: &Memory,
    grip: &mut Grip,
    limits: &strain::Limits,
) -> Result<(Box<dyn Held>, Evidence), HoldError> {
    let group = take_group(grip);
    let room = room(group.as_ref(), u64::MAX)?;
    let asked = size(fault, group.as_ref())?;
    let reserve = fault.reserve.get();
    let ceiling = room.limit.saturating_sub(reserve);
    if asked > ceiling {
        return Err(HoldError::Unable(format!(
            "{} is {asked} bytes, and the limit of {} bytes leaves {ceiling} above the reserve of {}: ask for less, or \
             for a smaller reserve",
            fault.size, room.limit, fault.reserve
        )));
    }
    let length = usize::try_from(asked).map_err(|_| {
        HoldError::Unable(format!("{asked} bytes do not fit into an address space"))
    })?;
    let own = resident()?;
    let region = memory::Region::reserve(length).map_err(HoldError::kernel(
        "reserve",
        format!("{asked} bytes of address space"),
    ))?;
    let now = Instant::now();
    let mut taken = Taken {
        region,
        asked,
        rate: fault.rate.map(squall_experiments::units::ByteRate::get),
        reserve,
        strain: Strain::new(&[], limits)
            .and_group(group.as_ref().filter(|(_, v2)| *v2).map(|(g, _)| g)),
        group,
        own,
        next: now,
        growing: (now, 0),
    };
    taken.step()?;
    let evidence = Evidence {
        means: "anonymous pages in the target's cgroup".to_owned(),
        read_back: vec![
            format!(
                "{} bytes resident of {asked} asked for, growing",
                taken.resident_now()?
            ),
            format!(
                "limit {} bytes, {} left, reserve {reserve}",
                room.limit, room.left
            ),
        ],
        warnings: taken.strain.warnings(),
    };
    Ok((Box::new(taken), evidence))
}

pub(super) fn take_group(grip: &mut Grip) -> Option<(cgroup::Group, bool)> {
    let by = |what: &dyn Fn(&cgroup::Group) -> bool| grip.groups.iter().position(what);
    let v1 = by(&|g| g.controllers.iter().any(|c| c == "memory"));
    let (at, v2) = match v1 {
        Some(at) => (at, false),
        None => (by(&|g| g.controllers.is_empty())?, true),
    };
    Some((grip.groups.swap_remove(at), v2))
}

/// What is left below the nearest limit: the cgroup's, its ancestors', or the node's memory itself.
fn room(
    group: Option<&(cgroup::Group, bool)>,
    enough: u64,
) -> Result<cgroup::MemoryRoom, HoldError> {
    let host = host_room()?;
    let inside = group.and_then(|(g, v2)| cgroup::memory_room(&g.fd, &g.path, *v2, enough));
    Ok(inside.map_or(host, |inside| cgroup::MemoryRoom {
        limit: inside.limit.min(host.limit),
        left: inside.left.min(host.left),
    }))
}

/// proc_meminfo(5): MemAvailable counts what can be given back without swapping.
fn host_room() -> Result<cgroup::MemoryRoom, HoldError> {
    let text = std::fs::read_to_string("/proc/meminfo")
        .map_err(HoldError::kernel("read", "/proc/meminfo"))?;
    let bytes = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key))?;
        line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()
    };
    match (bytes("MemTotal:"), bytes("MemAvailable:")) {
        (Some(limit), Some(left)) => Ok(cgroup::MemoryRoom {
            limit: limit << 10,
            left: left << 10,
        }),
        _ => Err(HoldError::Unable(
            "/proc/meminfo tells no MemTotal and MemAvailable".to_owned(),
        )),
    }
}

fn size(fault: &Memory, group: Option<&(cgroup::Group, bool)>) -> Result<u64, HoldError> {
    let share = match fault.size {
        MemorySize::Bytes(bytes) => return Ok(bytes.get()),
        MemorySize::Share(share) => share,
    };
    let whole = match fault.of {
        MemoryBase::Host => host_room()?.limit,
        MemoryBase::Target => {
            let limit = group.and_then(|(g, v2)| cgroup::memory_room(&g.fd, &g.path, *v2, 0));
            limit
                .ok_or_else(|| {
                    HoldError::Unable(
                        "the target's cgroup has no memory limit to take a share of: write bytes, or `of: host`".to_owned(),
                    )
                })?
                .limit
        }
    };
    Ok(u64::try_from(u128::from(whole) * u128::from(share.get()) / 1_000_000).unwrap_or(u64::MAX))
}

fn resident() -> Result<u64, HoldError> {
    Ok(memory::resident_bytes()
        .map_err(HoldError::kernel("read", "/proc/self/status"))?
        .0)
}

impl Taken {
    fn resident_now(&self) -> Result<u64, HoldError> {
        Ok(resident()?.saturating_sub(self.own))
    }

    fn touched(&self) -> u64 {
        self.region.touched() as u64
    }

    /// What may be held now that the node, or the target, is short; all of it where neither is.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a share of what was asked for"
    )]
    fn spared(&mut self, left: u64) -> u64 {
        let held = self.touched() as f64 / self.asked.max(1) as f64;
        let mut share = self.strain.share(held);
        if left < self.reserve / 2 {
            let why = format!("less than half of the reserve was left, {left} bytes");
            self.strain.give_way(held * KEPT_SHARE, why);
            share = held * KEPT_SHARE;
        }
        (self.asked as f64 * share) as u64
    }

    /// What the rate allows by now.
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
        // The first step is due at once, so that there is something to show.
        let grown = self.growing.0.elapsed().as_secs_f64() * rate as f64;
        let first = memory::page_bytes() as u64;
        (self.growing.1 + grown as u64 + first).min(self.asked)
    }

    /// Grows by one step where rate, limit and pressure allow it.
    fn step(&mut self) -> Result<(), HoldError> {
        let now = Instant::now();
        let left = room(self.group.as_ref(), self.reserve + STEP_BYTES)?.left;
        let spared = self.spared(left);
        let over = self.touched().saturating_sub(spared);
        if over >= memory::page_bytes() as u64 {
            self.region.give_back(usize::try_from(over).unwrap_or(0));
            self.growing = (now, self.touched());
            self.next = now + LOOK_EVERY;
            return Ok(());
        }
        let wanted = self
            .allowed()
            .min(spared)
            .saturating_sub(self.touched())
            .min(STEP_BYTES);
        let fits = left.saturating_sub(self.reserve).min(wanted);
        let full = self.touched() >= self.asked.next_multiple_of(memory::page_bytes() as u64);
        if fits > 0 && !full {
            self.region.touch(usize::try_from(fits).unwrap_or(0));
        }
        self.next = now
            + if full || fits < wanted || spared < self.asked {
                LOOK_EVERY
            } else {
                self.next_page()
            };
        Ok(())
    }

    /// How long until the rate allows something worth waking up for.
    #[expect(clippy::cast_precision_loss, reason = "rates are far below 2^52")]
    fn next_page(&self) -> Duration {
        /// A rate so low that it moves less in this time is made of single pages.
        const PAGE_WAIT_MAX: Duration = Duration::from_millis(250);
        /// Waking for less costs more than it moves.
        const WORTH_BYTES: f64 = (256 << 10) as f64;
        self.rate.map_or(STEP_EVERY, |rate| {
            Duration::from_secs_f64(WORTH_BYTES / rate as f64).clamp(STEP_EVERY, PAGE_WAIT_MAX)
        })
    }
}

impl Held for Taken {
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
        Ok(Dose::Memory(MemoryDose {
            resident_bytes: self.resident_now()?,
            asked_bytes: self.asked,
            back_off: self.strain.said(),
        }))
    }

    fn release(mut self: Box<Self>) -> Result<Dose, HoldError> {
        self.dose()
    }
}
