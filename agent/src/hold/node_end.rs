//! The end of a node, which nothing takes back: reboot and shutdown.
//!
//! ```text
//!   armed: able, and nothing done ─▶ still wanted (a renewal, a second later at least) ─▶ ordered ─▶ `Ended` is told ─▶ reboot(2)
//!               │ stop, lease, death                                                        from here on nothing helps
//!               ▼
//!            nothing was done
//! ```
//!
//! What calls reboot(2) is a process of its own, as the holder's own word of its end must have left the node by then. It waits
//! for an order that the holder's death is not, and it alone has not given up that call.

use super::END_NAME;
use super::held::{Held, HoldError};
use crate::kernel::power::{self, NodeEnd};
use crate::kernel::process;
use rustix::thread::CapabilitySet;
use squall_experiments::dose::{Dose, Evidence, NodeEndDose};
use squall_experiments::fault::FaultKind;
use squall_experiments::wire::EndCause;
use std::ffi::OsStr;
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

/// How long after `Armed` the renewal must come that orders it: time for a person to say stop, and for a controller to have heard.
const GRACE: Duration = Duration::from_secs(1);
/// How long after the order it is done: the agent tells the controller meanwhile.
const LEAVE: Duration = Duration::from_secs(1);
const ORDER: u8 = b'!';

struct Ending {
    kind: FaultKind,
    armed: Instant,
    /// None once it was ordered: then it is nobody's child that matters.
    waiting: Option<Child>,
}

/// Looks that it could be done, and does nothing yet.
pub(crate) fn arm(kind: FaultKind) -> Result<(Box<dyn Held>, Evidence), HoldError> {
    able().map_err(HoldError::Unable)?;
    let waiting = Command::new("/proc/self/exe")
        .arg0(END_NAME)
        .arg(kind.word())
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(HoldError::kernel("start", "what ends the node"))?;
    let ending = Ending {
        kind,
        armed: Instant::now(),
        waiting: Some(waiting),
    };
    let evidence = Evidence {
        means: "reboot(2), after sync(2)".to_owned(),
        read_back: vec![format!(
            "process {} is ready, and nothing has been done",
            ending.waiting.as_ref().map_or(0, Child::id)
        )],
        warnings: vec![format!(
            "the next renewal of its lease orders the {kind}; after that nothing takes it back"
        )],
    };
    Ok((Box::new(ending), evidence))
}

/// Whether this process could end the node; why not, in a sentence.
pub(crate) fn able() -> Result<(), String> {
    if !power::means_the_node() {
        return Err(
            "reboot(2) would not end the node from here: run the agent in the node's own pid namespace (`hostPID: true`)"
                .to_owned(),
        );
    }
    let has = rustix::thread::capabilities(None).is_ok_and(|sets| {
        let boot = CapabilitySet::SYS_BOOT;
        sets.effective.contains(boot)
    });
    if has {
        Ok(())
    } else {
        Err("grant CAP_SYS_BOOT".to_owned())
    }
}

impl Held for Ending {
    fn renewed(&mut self) {
        if self.armed.elapsed() < GRACE {
            return;
        }
        if let Some(mut waiting) = self.waiting.take() {
            let order = waiting
                .stdin
                .take()
                .map(|mut pipe| pipe.write_all(&[ORDER]));
            if !matches!(order, Some(Ok(()))) {
                self.waiting = Some(waiting);
            }
        }
    }

    fn turn(&mut self) -> Result<(), HoldError> {
        let ended = |child: &mut Child| !matches!(child.try_wait(), Ok(None));
        if self.waiting.as_mut().is_some_and(ended) {
            return Err(HoldError::Unable(format!(
                "the process that was to do the {} has ended, and nothing was done",
                self.kind
            )));
        }
        Ok(())
    }

    fn dose(&mut self) -> Result<Dose, HoldError> {
        let ordered = self.waiting.is_none();
        Ok(Dose::NodeEnd(NodeEndDose { ordered }))
    }

    fn over(&self) -> Option<EndCause> {
        self.waiting.is_none().then_some(EndCause::Done)
    }

    fn release(mut self: Box<Self>) -> Result<Dose, HoldError> {
        let dose = self.dose();
        if let Some(mut waiting) = self.waiting.take() {
            // The end of its pipe is the end of it.
            drop(waiting.stdin.take());
            let _ = waiting.wait();
        }
        dose
    }
}

/// The whole life of what ends the node: it waits for the order, or for the end of whoever would give it.
pub(crate) fn run() -> ExitCode {
    let word = std::env::args_os().nth(1);
    let how = if word.as_deref() == Some(OsStr::new(FaultKind::Shutdown.word())) {
        NodeEnd::Off
    } else {
        NodeEnd::Restart
    };
    let _ = process::set_name(c"squall-end");
    let _ = process::outlive();
    let mut said = [0; 1];
    if !matches!(std::io::stdin().read(&mut said), Ok(1)) || said != [ORDER] {
        return ExitCode::SUCCESS;
    }
    std::thread::sleep(LEAVE);
    let error = power::end_node(how);
    tracing::error!(%error, "the node is still there");
    ExitCode::FAILURE
}
