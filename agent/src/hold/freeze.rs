//! A freeze: the kernel's freezer holds every process of a cgroup and of those below it.
//!
//! No kernel object gives that back by itself, so that a journal does: what was before is on disk before the group is told
//! to freeze, and a guard is ready to put it back. A group that is frozen already is refused, by whomever it was frozen:
//! before a freeze of ours there was always a group that ran.
//!
//! Nothing that must not be hit may be inside: it is looked before, after, and as long as it lasts.

use super::held::{Held, HoldError};
use super::holder::Grip;
use super::safeguard::{Safeguard, Undoable};
use super::speech::{HoldSpec, Prey};
use crate::inventory::process::{Identity, identity};
use crate::journal::Undo;
use crate::kernel::freezer::{self, Freezer};
use squall_experiments::dose::{Dose, Evidence, FreezeDose};
use squall_experiments::wire::EndCause;
use std::time::{Duration, Instant};

/// How long it is waited for everything to stand still: that takes milliseconds but for what waits inside the kernel and
/// cannot be disturbed (state D), which executes nothing of its program either.
const FREEZE_LIMIT: Duration = Duration::from_secs(1);
const FREEZE_STEP: Duration = Duration::from_millis(2);
/// How often it is looked who is inside, and whether those have been told to die.
const LOOK_EVERY: Duration = Duration::from_millis(250);

struct Frozen {
    freezer: Freezer,
    path: String,
    prey: Prey,
    /// Who was inside when it froze: with the last of them it ends. Nobody frozen starts another.
    processes: Vec<Identity>,
    /// When it was last looked at, and whether all of it stood still then.
    seen: (Instant, bool),
    dose: FreezeDose,
    over: Option<EndCause>,
}

/// Writes down, freezes, and reads back from the kernel that all of it stands still.
pub(crate) fn arm(
    spec: &HoldSpec,
    grip: &mut Grip,
) -> Result<(Box<dyn Held>, Evidence), HoldError> {
    let (freezer, path) = freezer_of(grip)?;
    let prey = spec.prey.clone().unwrap_or_default();
    let inside = |operation| HoldError::kernel(operation, format!("cgroup {path}"));
    let pids = freezer
        .processes()
        .map_err(inside("list the processes of"))?;
    spared(&pids, &prey, &path)?;
    let state = freezer.state().map_err(inside("ask the freezer of"))?;
    if state.told || state.frozen {
        return Err(HoldError::Unable(format!(
            "cgroup {path} is frozen already, by somebody else or with one above it: thaw that first"
        )));
    }
    // From here on dropping this thaws, and so does its guard.
    let safeguard = Safeguard::stand(spec, undo(&freezer, &path)?)?;
    let mut frozen = Frozen {
        freezer,
        prey,
        processes: Vec::new(),
        seen: (Instant::now(), false),
        dose: FreezeDose::default(),
        over: None,
        path,
    };
    frozen.freeze()?;
    frozen.look()?;
    let all = frozen.seen.1;
    let evidence = Evidence {
        means: safeguard.means(if frozen.freezer.is_v2() {
            "the freezer of cgroup v2"
        } else {
            "the freezer of cgroup v1"
        }),
        read_back: vec![format!(
            "the kernel says that cgroup {} is {}, with {} processes in it",
            frozen.path,
            if all { "frozen" } else { "freezing" },
            frozen.dose.processes
        )],
        warnings: if all {
            Vec::new()
        } else {
            vec![
                "something in it waits inside the kernel and will stand still when that lets it go"
                    .to_owned(),
            ]
        },
    };
    Ok((safeguard.hold(frozen), evidence))
}

/// The freezer of the target: of v1 where its processes are in that tree, else of v2.
fn freezer_of(grip: &mut Grip) -> Result<(Freezer, String), HoldError> {
    grip.groups
        .sort_by_key(|group| group.controllers.is_empty());
    let mut empty = None;
    for group in &grip.groups {
        let found = Freezer::of(group).map_err(HoldError::kernel(
            "open the freezer of",
            format!("cgroup {}", group.path),
        ))?;
        let Some(freezer) = found else { continue };
        if freezer.processes().is_ok_and(|all| !all.is_empty()) {
            return Ok((freezer, group.path.clone()));
        }
        empty = Some(group.path.clone());
    }
    Err(HoldError::Unable(match empty {
        Some(path) => format!("there is no process in cgroup {path} that could be frozen"),
        None => "the target has no group with a freezer: on cgroup v1 only what has one in that hierarchy can be frozen \
                 (containers have, systemd's units have not); to make processes stand still, use `pause`"
            .to_owned(),
    }))
}

fn undo(freezer: &Freezer, path: &str) -> Result<Undo, HoldError> {
    let (folder, inode) = freezer.place().map_err(HoldError::kernel(
        "find the folder of",
        format!("cgroup {path}"),
    ))?;
    Ok(Undo::Thaw {
        folder,
        inode,
        v2: freezer.is_v2(),
    })
}

/// Says no where something is inside that must not be hit.
fn spared(pids: &[u32], prey: &Prey, path: &str) -> Result<(), HoldError> {
    let Some(pid) = pids.iter().find(|pid| !prey.may_be_hit(**pid)) else {
        return Ok(());
    };
    let name =
        crate::inventory::process::name_of(*pid).unwrap_or_else(|| "of unknown name".to_owned());
    Err(HoldError::Unable(format!(
        "process {pid} ({name}) is in cgroup {path} and must not be hit: it is Squall's own, one it descends from, or \
         one that the node's policy protects; name a cgroup without it"
    )))
}

impl Frozen {
    fn freeze(&mut self) -> Result<(), HoldError> {
        let object = || format!("cgroup {}", self.path);
        self.freezer
            .tell(true)
            .map_err(HoldError::kernel("freeze", object()))?;
        let begun = Instant::now();
        while begun.elapsed() < FREEZE_LIMIT {
            let state = self.freezer.state();
            if state
                .map_err(HoldError::kernel("ask the freezer of", object()))?
                .frozen
            {
                break;
            }
            std::thread::sleep(FREEZE_STEP);
        }
        let inside = self
            .freezer
            .processes()
            .map_err(HoldError::kernel("list the processes of", object()))?;
        self.processes = inside.into_iter().filter_map(identity).collect();
        Ok(())
    }
}

impl Undoable for Frozen {
    const LOOK_EVERY: Option<Duration> = Some(LOOK_EVERY);

    /// Asks the kernel whether all of it stands still, and counts the time since the last look if it did, then and now.
    fn look(&mut self) -> Result<(), HoldError> {
        let object = || format!("cgroup {}", self.path);
        let pids = match self.freezer.processes() {
            Ok(pids) => pids,
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Vec::new(),
            Err(error) => return Err(HoldError::kernel("list the processes of", object())(error)),
        };
        // v1 lets nobody die who is frozen: whom somebody has told to die is let go, and so the target ends.
        self.processes
            .retain(|id| identity(id.pid) == Some(*id) && !freezer::is_told_to_die(id.pid));
        if self.processes.is_empty() {
            self.over = Some(EndCause::TargetGone);
            return Ok(());
        }
        spared(&pids, &self.prey, &self.path)?;
        let state = self
            .freezer
            .state()
            .map_err(HoldError::kernel("ask the freezer of", object()))?;
        if !state.told {
            self.over = Some(EndCause::Failed(format!(
                "somebody else has thawed cgroup {}",
                self.path
            )));
        }
        let now = Instant::now();
        let all = state.told && state.frozen;
        if all && self.seen.1 {
            self.dose.seconds += (now - self.seen.0).as_secs_f64();
        }
        self.seen = (now, all);
        self.dose.processes = pids.len() as u64;
        Ok(())
    }

    fn dose(&self) -> Dose {
        Dose::Freeze(self.dose.clone())
    }

    fn over(&self) -> Option<EndCause> {
        self.over.clone()
    }
}
