//! The node's need comes first: a fault that presses gives way before the node itself is lost, and comes back by and by.
//!
//! The kernel's account of pressure (PSI) is read once a second: the share of the time, since the last look, in which work
//! stood still for want of memory, of a disk, or of a processor. Above the limit that the node's policy sets, a fault
//! goes down to nine tenths of what it has, with each look again; two seconds after the last such look it begins to grow
//! again. A fault looks at what it presses on, and at memory: a node that thrashes is lost to whatever is done there.

use crate::kernel::cgroup;
use crate::kernel::psi::{self, Line};
use serde::{Deserialize, Serialize};
use squall_experiments::dose::BackOff;
use squall_experiments::units::Percent;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How often it is looked. A look reads two or three files: half a millisecond, on an emulated machine twenty.
pub(crate) const LOOK_EVERY: Duration = Duration::from_secs(1);
/// What is kept of what there is when it gives way.
const KEPT_SHARE: f64 = 0.9;
/// How long nothing must have stood still before it grows again: the pressure must have had time to ease.
const EASED: Duration = Duration::from_secs(2);
/// By how much it grows again with each look.
const GROWTH_SHARE: f64 = 0.05;
/// The share of the time that some of the target's own work may wait for memory: the target is to be squeezed, but at half of
/// the time its work is standing, not slow.
const GROUP_LIMIT: f64 = 0.5;

/// How much of the time work on the node may stand still before faults give way; at 100 % they never do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct Limits {
    /// Some work waits for a processor.
    pub(crate) cpu: Percent,
    /// All work waits for memory at once.
    pub(crate) memory: Percent,
    /// All work waits for a disk at once.
    pub(crate) io: Percent,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // That some wait is what a load is for, and the scheduler goes on to share: nobody is lost by that alone.
            cpu: Percent::ALL,
            // systemd-oomd ends whole groups at 60 % of their own; a node that stands still for a third of the time
            // answers its controller late.
            memory: percent(30),
            // On a node that does little else, a disk that is kept busy alone gives nearly this much.
            io: percent(90),
        }
    }
}

fn percent(whole: u64) -> Percent {
    Percent::new(whole * 10_000).unwrap_or(Percent::ALL)
}

/// What is short.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Resource {
    /// Processors.
    Cpu,
    /// Memory.
    Memory,
    /// Disks.
    Io,
}

/// Where an account is.
#[derive(Debug)]
enum Account {
    Node(PathBuf),
    /// v2's, of the target's cgroup.
    Group(OwnedFd),
}

/// One account that is looked at.
#[derive(Debug)]
struct Watch {
    account: Account,
    resource: Resource,
    line: Line,
    limit: f64,
    /// When it was last looked at, and the total by then.
    seen: Option<(Instant, u64)>,
}

/// One fault's eye on what it presses on.
#[derive(Debug)]
pub(crate) struct Strain {
    watches: Vec<Watch>,
    next: Instant,
    /// Before this it does not grow again.
    eased: Instant,
    share: f64,
    said: Option<BackOff>,
}

impl Strain {
    /// Looks at the node's account of memory, and of what else is pressed on.
    pub(crate) fn new(pressed: &[Resource], limits: &Limits) -> Self {
        let mut resources = vec![Resource::Memory];
        resources.extend(pressed.iter().filter(|one| **one != Resource::Memory));
        let now = Instant::now();
        let mut strain = Self {
            watches: resources
                .into_iter()
                .map(|resource| Watch::node(resource, limits))
                .collect(),
            next: now + LOOK_EVERY,
            eased: now,
            share: 1.0,
            said: None,
        };
        strain.watches.retain_mut(|watch| watch.begin(now));
        strain
    }

    /// And at the memory of the target's cgroup, where v2 has an account of it.
    pub(crate) fn and_group(mut self, group: Option<&cgroup::Group>) -> Self {
        let mut watch = group.and_then(|group| {
            Some(Watch {
                account: Account::Group(group.fd.try_clone().ok()?),
                resource: Resource::Memory,
                line: Line::Some,
                limit: GROUP_LIMIT,
                seen: None,
            })
        });
        if let Some(watch) = watch.take_if(|watch| watch.begin(Instant::now())) {
            self.watches.push(watch);
        }
        self
    }

    /// What the reader of the evidence should know.
    pub(crate) fn warnings(&self) -> Vec<String> {
        if !self.watches.is_empty() {
            return Vec::new();
        }
        vec!["this kernel tells no pressure (PSI), so the fault cannot give way to the node: boot with `psi=1`".to_owned()]
    }

    /// When it must be looked again.
    pub(crate) const fn next_look(&self) -> Instant {
        self.next
    }

    /// The share of what was asked for that may be done now. `held` is what is done of it: giving way begins from there.
    pub(crate) fn share(&mut self, held: f64) -> f64 {
        let now = Instant::now();
        if now < self.next {
            return self.share;
        }
        self.next = now + LOOK_EVERY;
        let over: Vec<String> = self
            .watches
            .iter_mut()
            .filter_map(|watch| watch.over(now))
            .collect();
        if !over.is_empty() {
            self.give_way(held * KEPT_SHARE, over.join("; "));
        } else if now >= self.eased {
            self.share = (self.share + GROWTH_SHARE).min(1.0);
        }
        self.share
    }

    /// Goes down to that share because somebody needs what is given back.
    pub(crate) fn give_way(&mut self, share: f64, why: String) {
        self.share = share.min(self.share).max(0.0);
        self.eased = Instant::now() + EASED;
        self.said = Some(BackOff {
            times: self.said.as_ref().map_or(0, |said| said.times) + 1,
            share: self.share,
            why,
        });
    }

    /// For the dose.
    pub(crate) fn said(&self) -> Option<BackOff> {
        self.said.clone().map(|said| BackOff {
            share: self.share,
            ..said
        })
    }
}

impl Watch {
    fn node(resource: Resource, limits: &Limits) -> Self {
        let (file, line, limit) = match resource {
            // That all work waits for a processor does not happen: whoever has it works.
            Resource::Cpu => ("cpu", Line::Some, limits.cpu),
            Resource::Memory => ("memory", Line::Full, limits.memory),
            Resource::Io => ("io", Line::Full, limits.io),
        };
        Self {
            account: Account::Node(PathBuf::from("/proc/pressure").join(file)),
            resource,
            line,
            limit: limit.fraction(),
            seen: None,
        }
    }

    fn total(&self) -> Option<u64> {
        let text = match &self.account {
            Account::Node(path) => std::fs::read_to_string(path).ok()?,
            Account::Group(fd) => cgroup::read(fd.as_fd(), 0, "memory.pressure").ok()?,
        };
        psi::stalled_us(&text, self.line)
    }

    /// Whether there is an account at all.
    fn begin(&mut self, now: Instant) -> bool {
        self.seen = self.total().map(|total| (now, total));
        self.seen.is_some()
    }

    /// Says so where work has stood still for too much of the time since the last look.
    #[expect(clippy::cast_precision_loss, reason = "microseconds of a few seconds")]
    fn over(&mut self, now: Instant) -> Option<String> {
        let total = self.total()?;
        let (then, before) = self.seen.replace((now, total))?;
        let share = total.saturating_sub(before) as f64 / (now - then).as_micros().max(1) as f64;
        (share > self.limit).then(|| {
            let whose = match self.account {
                Account::Node(_) => "the node's",
                Account::Group(_) => "the target's",
            };
            let what = match self.resource {
                Resource::Cpu => "cpu",
                Resource::Memory => "memory",
                Resource::Io => "io",
            };
            format!(
                "{whose} {what} pressure ({}) was {:.0} % of a second, above {:.0} %",
                self.line.word(),
                share.min(1.0) * 100.0,
                self.limit * 100.0
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As if so much time had passed, in which work stood still for that much of it.
    fn look(strain: &mut Strain, file: &std::path::Path, total_us: u64, held: f64) -> f64 {
        std::fs::write(file, format!("some total=0\nfull total={total_us}\n")).unwrap();
        let second = Duration::from_secs(1);
        strain.next -= second * 2;
        for watch in &mut strain.watches {
            watch.seen = watch
                .seen
                .map(|(_, before)| (Instant::now() - second, before));
        }
        strain.share(held)
    }

    fn near(share: f64, wanted: f64) -> bool {
        (share - wanted).abs() < 1e-9
    }

    #[test]
    fn it_gives_way_above_the_limit_and_comes_back_when_it_has_eased() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("memory");
        std::fs::write(&file, "some total=0\nfull total=0\n").unwrap();
        let mut strain = Strain::new(&[], &Limits::default());
        strain.watches = vec![Watch {
            account: Account::Node(file.clone()),
            ..Watch::node(Resource::Memory, &Limits::default())
        }];
        assert!(strain.watches[0].begin(Instant::now()));
        assert!(
            near(look(&mut strain, &file, 250_000, 1.0), 1.0),
            "below 30 %"
        );
        assert!(
            near(look(&mut strain, &file, 650_000, 0.5), 0.45),
            "40 % of it, half held"
        );
        let said = strain.said().unwrap();
        assert!(
            said.times == 1 && said.why.contains("memory pressure (full) was 40 %"),
            "{said:?}"
        );
        assert!(
            near(look(&mut strain, &file, 650_000, 0.45), 0.45),
            "too soon"
        );
        strain.eased = Instant::now();
        assert!(near(look(&mut strain, &file, 650_000, 0.45), 0.5));
        for _ in 0..20 {
            look(&mut strain, &file, 650_000, 1.0);
        }
        assert!(
            near(strain.said().unwrap().share, 1.0),
            "never more than was asked for"
        );
    }

    #[test]
    fn at_all_of_the_time_it_never_gives_way() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("cpu");
        std::fs::write(&file, "some total=0\nfull total=0\n").unwrap();
        let limits = Limits {
            memory: Percent::ALL,
            ..Limits::default()
        };
        let mut watch = Watch::node(Resource::Memory, &limits);
        watch.account = Account::Node(file.clone());
        let mut strain = Strain::new(&[], &limits);
        strain.watches = vec![watch];
        assert!(strain.watches[0].begin(Instant::now()));
        assert!(near(look(&mut strain, &file, 1_000_000, 1.0), 1.0));
    }
}
