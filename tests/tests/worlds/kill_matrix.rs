//! Every fault the node can inject, by every means it has, ended in every way it can end: each time the
//! victim measures that the fault was there and how fast it is gone, and the host is left as it was.

use std::fmt::Write as _;
use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime};

use lab::world::agent::{Agent, written};
use lab::world::fingerprint::Fingerprint;
use lab::world::stalls::Stalls;
use lab::world::{Result, until, victim};
use libtest_mimic::Trial;
use nix::sys::signal::Signal;
use serde_json::json;
use squall_experiments::capability::{Capabilities, Means};
use squall_experiments::fault::FaultKind;
use squall_experiments::ids::FaultId;
use squall_experiments::units::Lease;
use squall_experiments::wire::FromAgent;

use crate::as_root;
use crate::scene::Scene;

/// How a fault's life ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    HolderKilled,
    AgentKilled,
    ControllerGone,
    AgentStopped,
    HolderHung,
    TargetExits,
}

impl End {
    const ALL: [Self; 6] = [
        Self::HolderKilled,
        Self::AgentKilled,
        Self::ControllerGone,
        Self::AgentStopped,
        Self::HolderHung,
        Self::TargetExits,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::HolderKilled => "holder_killed",
            Self::AgentKilled => "agent_killed",
            Self::ControllerGone => "controller_gone",
            Self::AgentStopped => "agent_stopped",
            Self::HolderHung => "holder_hung",
            Self::TargetExits => "target_exits",
        }
    }

    /// How long the victim may go on suffering: 100 ms after a kill, one lease after anything that only
    /// stops answering.
    const fn limit(self) -> Duration {
        match self {
            Self::HolderKilled | Self::AgentKilled | Self::ControllerGone => {
                Duration::from_millis(100)
            }
            Self::AgentStopped | Self::HolderHung | Self::TargetExits => LEASE,
        }
    }

    /// Whether the agent is still there afterwards to clean up by itself.
    const fn spares_the_agent(self) -> bool {
        matches!(
            self,
            Self::HolderKilled | Self::HolderHung | Self::TargetExits
        )
    }
}

/// Long enough that no fault ends before its victim has felt it, and short enough to be waited for.
const LEASE: Duration = Duration::from_millis(1200);

/// How long is looked after the fault should be gone: a fault that comes back is not gone.
const AFTERWARDS: Duration = Duration::from_millis(300);

/// How long the agent may take to sweep up what a killed holder left idle.
const SWEPT_LIMIT: Duration = Duration::from_secs(5);

/// One cell's figure, for the table.
struct Row {
    fault: String,
    end: End,
    outcome: String,
}

static ROWS: Mutex<Vec<Row>> = Mutex::new(Vec::new());

/// One test per cell. A kind of fault that is new is in it by itself.
pub(crate) fn trials(capabilities: &Capabilities) -> Vec<Trial> {
    let mut trials = Vec::new();
    for kind in FaultKind::ALL {
        for means in capabilities
            .of(kind)
            .map(|c| c.means.clone())
            .unwrap_or_default()
        {
            // A kill is over when its target exits, and a crash loop waits for the next: no cell.
            let ends = End::ALL
                .into_iter()
                .filter(|end| kind != FaultKind::Kill || *end != End::TargetExits);
            trials.extend(ends.map(|end| {
                let fault = format!("{kind}_by_{}", format!("{means:?}").to_lowercase());
                as_root(format!("kill_matrix::{fault}::{}", end.name()), move || {
                    cell(&fault, kind, means, end)
                })
            }));
        }
    }
    trials
}

fn cell(fault: &str, kind: FaultKind, means: Means, end: End) -> Result<()> {
    let result = live_and_die(kind, means, end);
    let outcome = match &result {
        Ok(gone) => format!("{} ms", gone.as_millis()),
        Err(_) => "FAILED".to_owned(),
    };
    if let Ok(mut rows) = ROWS.lock() {
        rows.push(Row {
            fault: fault.to_owned(),
            end,
            outcome,
        });
    }
    result.map(drop)
}

/// Returns how long the victim suffered after the end had come.
fn live_and_die(kind: FaultKind, means: Means, end: End) -> Result<Duration> {
    let scene = Scene::set(kind)?;
    let namespaces: Vec<_> = scene.wire().map(|wire| &wire.victim).into_iter().collect();
    let bare = Fingerprint::take(&namespaces)?;
    let mut agent = Agent::allowing(kind)?;
    let fault = scene.fault();
    let candidate = agent.resolve(&scene.target(), &fault)?.swap_remove(0);
    let idle = Fingerprint::take(&namespaces)?;
    let lease: Lease = written(json!(format!("{}ms", LONG_LEASE.as_millis())));
    let armed = agent.arm(candidate.id, &fault, lease, Some(means))?;
    scene.feel()?;
    if matches!(end, End::AgentStopped | End::HolderHung) {
        shorten_lease(&mut agent, &armed.id)?;
    }
    let stalls = Stalls::watch();
    bring_about(end, &mut agent, armed.holder, &scene)?;
    let begun = Instant::now();
    let last = scene
        .suffering(begun, end.limit() + AFTERWARDS)?
        .unwrap_or_default();
    let stood_still = stalls.between(begun, begun + last);
    if last > end.limit() + stood_still {
        return Err(format!(
            "the victim suffered for {last:?} more, allowed are {:?} and the {stood_still:?} for which the machine \
             itself stood still",
            end.limit()
        )
        .into());
    }
    let before = if end.spares_the_agent() {
        agent.ended(&armed.id)?;
        idle
    } else {
        drop(agent);
        // The next agent sweeps up before it serves.
        drop(Agent::start()?);
        bare
    };
    let mut left = Vec::new();
    let clean = until("the host as it was", SWEPT_LIMIT, || {
        left = before.difference(&Fingerprint::take(&namespaces).ok()?);
        left.is_empty().then_some(())
    });
    clean.map_err(|error| format!("{error}:\n{}", left.join("\n")))?;
    Ok(last)
}

/// Gives `fault` a short lease, and waits for a dose measured so long after it that the renewal has reached
/// the holder before somebody is stopped.
fn shorten_lease(agent: &mut Agent, fault: &FaultId) -> Result<()> {
    const REACHED_US: u64 = 200_000;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    let reached_us = u64::try_from(now.as_micros())? + REACHED_US;
    agent.renew(fault, written(json!(format!("{}ms", LEASE.as_millis()))))?;
    agent.hear("dose", Duration::from_secs(5), |message| match message {
        FromAgent::Dosed(dosed) if dosed.id == *fault && dosed.at_us > reached_us => Some(()),
        _ => None,
    })
}

/// So long that it is not the lease that ends a fault where it should be a kill.
const LONG_LEASE: Duration = Duration::from_secs(30);

fn bring_about(end: End, agent: &mut Agent, holder: u32, scene: &Scene) -> Result<()> {
    match end {
        End::HolderKilled => victim::signal(holder, Signal::SIGKILL),
        End::AgentKilled => agent.signal(Signal::SIGKILL),
        End::ControllerGone => {
            agent.hang_up();
            Ok(())
        }
        End::AgentStopped => agent.signal(Signal::SIGSTOP),
        End::HolderHung => victim::signal(holder, Signal::SIGSTOP),
        End::TargetExits => scene.exit_target(),
    }
}

/// The matrix as a table: how long each victim suffered after the end.
pub(crate) fn table() -> Option<String> {
    let rows = ROWS.lock().ok()?;
    let mut faults: Vec<&str> = rows.iter().map(|row| row.fault.as_str()).collect();
    faults.dedup();
    let mut table = format!("{:<24}", "gone after");
    for end in End::ALL {
        let _ = write!(table, "{:>18}", end.name());
    }
    for fault in &faults {
        let _ = write!(table, "\n{fault:<24}");
        for end in End::ALL {
            let cell = rows
                .iter()
                .find(|row| row.fault == *fault && row.end == end);
            let _ = write!(table, "{:>18}", cell.map_or("-", |row| &row.outcome));
        }
    }
    (!faults.is_empty()).then_some(table)
}
