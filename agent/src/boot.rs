//! Starting: swept, then bound by its policy, then recovered, then able, and only then serving.
//!
//! Each phase is a type that only the one before can make, so that there is no way to serve without them.

use crate::capabilities;
use crate::hold::network;
use crate::inventory::containers::Sockets;
use crate::journal::{Journal, JournalError};
use crate::kernel::net::late;
use crate::kernel::{oom, process};
use crate::link::LinkError;
use crate::link::dial::Address;
use crate::policy::{self, Policy};
use crate::serve::{self, LineError, Way};
use crate::watchdog::Watchdog;
use crate::{confine, privileges};
use rustix::thread::CapabilitySet;
use squall_experiments::capability::Capabilities;
use squall_experiments::filter::Network;
use squall_experiments::join::Labels;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// What a former agent left idle is gone.
struct Swept;

/// And the node's policy is known.
struct Bound {
    policy: Policy,
}

/// And what a former agent changed and could not put back is as it was.
struct Recovered {
    policy: Policy,
}

/// And it is known what the node can do.
pub(crate) struct Ready {
    pub(crate) policy: Policy,
    pub(crate) capabilities: Capabilities,
    pub(crate) node: String,
    /// The node's own resolvers, as they were when the agent started.
    pub(crate) resolvers: Vec<Network>,
    /// What the node is labelled with.
    pub(crate) labels: Labels,
    /// Where a halt would lie.
    pub(crate) state: PathBuf,
    /// What ends the agent when it hangs; none where no process could be started.
    pub(crate) watchdog: Option<Watchdog>,
}

impl Swept {
    fn sweep() -> Self {
        // A fault ended with its holder; what may be left is an idle device, which is untidy and harmless: said, not
        // fatal.
        let swept = network::sweep_everywhere();
        late::close();
        match swept {
            Ok(0) => {}
            Ok(swept) => tracing::info!(swept, "removed idle devices that a former agent left"),
            Err(error) => {
                let error = crate::hold::held::chain(&error);
                tracing::warn!(error, "could not remove all that a former agent left");
            }
        }
        Self
    }

    /// What was said on the command line wins over the file: it is the same administrator's, and nearer.
    fn bind(self, mut policy: Policy, said: Sockets) -> Bound {
        if !said.cri.is_empty() {
            policy.runtimes.cri = said.cri;
        }
        if !said.docker.is_empty() {
            policy.runtimes.docker = said.docker;
        }
        Bound { policy }
    }
}

impl Bound {
    /// Replays the journal. Who does not know how the node was before does not serve.
    fn recover(self) -> Result<Recovered, JournalError> {
        for what in Journal::new(self.policy.journal.0.clone()).replay()? {
            tracing::warn!(what, "put back what a former agent had changed");
        }
        Ok(Recovered {
            policy: self.policy,
        })
    }
}

impl Recovered {
    fn probe(self, called: Called, state: PathBuf, watchdog: Option<Watchdog>) -> Ready {
        let resolvers = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
        Ready {
            resolvers: policy::resolvers(&resolvers),
            state,
            watchdog,
            capabilities: capabilities::probe(&self.policy),
            policy: self.policy,
            node: called.node,
            labels: called.labels,
        }
    }
}

/// What this node is called, and labelled with.
pub(crate) struct Called {
    pub(crate) node: String,
    pub(crate) labels: Labels,
}

impl Called {
    /// As the kernel says.
    pub(crate) fn by_the_kernel() -> Self {
        let name = rustix::system::uname();
        Self {
            node: name.nodename().to_string_lossy().into_owned(),
            labels: Labels::new(),
        }
    }
}

/// What the node's administrator says.
pub(crate) struct Setup<'a> {
    /// The node's policy, where it is not at its usual place.
    pub(crate) policy: Option<&'a Path>,
    /// Where the node keeps what must survive its agent.
    pub(crate) state: PathBuf,
    /// Container runtimes' sockets of the command line.
    pub(crate) sockets: Sockets,
    /// How long the agent may be silent while faults live.
    pub(crate) watchdog: Duration,
}

/// Runs the agent on an inherited socket until the controller is gone.
pub(crate) fn run(link_fd: i32, setup: Setup<'_>) -> ExitCode {
    // First, while nothing of ours can have this number.
    let link = match process::adopt_fd(link_fd) {
        Ok(link) => link,
        Err(error) => {
            start_log();
            tracing::error!(link_fd, %error, "no socket was inherited under this number");
            return ExitCode::from(2);
        }
    };
    through(Way::Inherited(link), Called::by_the_kernel(), setup)
}

/// Runs the agent until it is told to end, with a controller that it dials.
pub(crate) fn dial(address: Address, labels: Labels, setup: Setup<'_>) -> ExitCode {
    let node = address.node.clone();
    through(Way::Dialled(address), Called { node, labels }, setup)
}

fn through(way: Way, called: Called, setup: Setup<'_>) -> ExitCode {
    start_log();
    let watchdog = Watchdog::start(setup.watchdog)
        .inspect_err(|error| tracing::warn!(%error, "no watchdog: if the agent hangs, the leases end its faults"))
        .ok();
    let policy = Policy::load(setup.policy);
    prepare(policy.as_ref().is_ok_and(Policy::may_end_the_node));
    let swept = Swept::sweep();
    let policy = match policy {
        Ok(policy) => policy,
        Err(error) => {
            let error = crate::hold::held::chain(&error);
            tracing::error!(error, "no policy, no service");
            return ExitCode::from(2);
        }
    };
    let recovered = match swept.bind(policy, setup.sockets).recover() {
        Ok(recovered) => recovered,
        Err(error) => {
            let error = crate::hold::held::chain(&error);
            tracing::error!(error, "not recovered, no service");
            return ExitCode::from(3);
        }
    };
    match serve(recovered.probe(called, setup.state, watchdog), way) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let error = crate::hold::held::chain(&error);
            tracing::error!(error, "the agent ends");
            ExitCode::from(3)
        }
    }
}

fn start_log() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("SQUALL_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn"));
    // Fails only where the embedding program logs already; then that is right.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // Who cannot log cannot complain of it either: that would panic.
        .log_internal_errors(false)
        .try_init();
}

/// Best effort: each helps, none is needed.
fn prepare(ends_the_node: bool) {
    if let Err(error) = process::own_group() {
        tracing::warn!(%error, "no process group of its own: Ctrl-C hits the agent too");
    }
    if let Err(error) = oom::set(oom::PROTECTED) {
        tracing::debug!(%error, "oom_score_adj stays: grant CAP_SYS_RESOURCE to protect the agent");
    }
    let besides = if ends_the_node {
        privileges::TO_END_THE_NODE
    } else {
        CapabilitySet::empty()
    };
    if let Err(error) = privileges::shed(besides) {
        tracing::warn!(%error, "capabilities that are not needed stay");
    }
    if let Err(error) = process::enter_the_nodes_cgroups() {
        tracing::debug!(%error, "cgroups are seen as from here: in a container, grant CAP_SYS_ADMIN and CAP_SYS_PTRACE to press on others'");
    }
    if let Err(error) = confine::agent(ends_the_node) {
        let error = crate::hold::held::chain(&error);
        tracing::warn!(error, "system calls that are not needed stay");
    }
    // A held target is a descriptor, and there may be thousands.
    let (soft, hard) = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE)
        .unwrap_or((1024, 1024));
    if soft < hard {
        let _ =
            nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE, hard, hard);
    }
}

fn serve(ready: Ready, way: Way) -> Result<(), LineError> {
    // One thread, the main one: a holder dies with the *thread* that started it.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        // Each may wait for a resolver that does not answer; they end after a second of idleness.
        .max_blocking_threads(16)
        .thread_keep_alive(std::time::Duration::from_secs(1))
        .build()
        .map_err(|source| LinkError::Open { source })?;
    let result = runtime.block_on(serve::serve(ready, way));
    // A lookup that hangs in a resolver is not waited for.
    runtime.shutdown_background();
    result
}
