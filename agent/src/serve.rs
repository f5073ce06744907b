//! The agent's one task: hears the controller, decides, and keeps account of the faults.
//!
//! Nothing here waits: finding targets, resolving names and holding faults happen in tasks of their own, so that a
//! stop is heard at once whatever else is under way.

mod halts;
mod line;
mod moves;
mod protected;
mod skew;
mod watched;

use crate::admit::{self, Admission, Asked, Live, Site};
use crate::arming::{attach, begin, rename};
use crate::boot::Ready;
use crate::halt;
use crate::hold::network;
use crate::hold::speech::{Attached, HoldSpec};
use crate::hold::supervise::{Start, Wish};
use crate::inventory::{self, Grasp, HeldTarget, Resolution};
use crate::kernel::clock;
use crate::link::LinkError;
use crate::names::{self, Aimed};
use crate::notify::Systemd;
use crate::rhythm::Rhythm;
use halts::Halts;
use skew::VERSION;
use squall_experiments::capability::Means;
use squall_experiments::fault::Holding;
use squall_experiments::filter::{ResolvedEndpoint, ResolvedFilter};
use squall_experiments::ids::{FaultId, RunId, TargetId};
use squall_experiments::wire::{self, EndCause, FromAgent, FromController, Stop, Terms};
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};
use watched::Watched;

use line::{Line, Lost, News, Opened};
pub(crate) use line::{LineError, Way};

/// What is said of the end of a fault that this agent does not know.
const UNKNOWN: &str = "nothing is known of it here: it ended with an earlier agent, or long ago";
/// Reports of the faults' tasks on their way here. A fault makes a handful in its life and one a second; this loop
/// takes them at once.
const REPORTS_MAX: usize = 8192;
/// How many ends are remembered, so that arming again what has ended is answered with its end.
const FINISHED_MAX: usize = 4096;
/// How many targets are held at once: each is a descriptor or two.
const TARGETS_MAX: usize = 20_000;
/// How long the faults may take to end when the agent does. What is left then dies with it.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(3);

struct Entry {
    run: RunId,
    live: Live,
    wish: watch::Sender<Wish>,
    /// What to say when it is armed again.
    armed: Option<FromAgent>,
    since: Instant,
    names_due: Option<Instant>,
    /// What its filter is made of, where it has one.
    aim: Option<Aimed>,
}

struct Agent {
    ready: Ready,
    spare_pids: Vec<u32>,
    targets: HashMap<TargetId, Arc<HeldTarget>>,
    faults: HashMap<FaultId, Entry>,
    finished: HashMap<FaultId, FromAgent>,
    finished_order: VecDeque<FaultId>,
    /// None while there is no link; what would be said then is asked for again by a controller that wants to know.
    outbox: Option<mpsc::Sender<FromAgent>>,
    /// Where the controller is, if it is reached over a network.
    controller: Option<ResolvedEndpoint>,
    reports: mpsc::Sender<FromAgent>,
    resolutions: mpsc::Sender<(u64, Resolution)>,
    /// When live faults are looked after.
    rhythm: Rhythm,
    /// Who started the agent, if it wants to know that it runs.
    systemd: Systemd,
    /// The link is to be given up.
    lost: Option<Lost>,
    /// Which leaders were heard.
    terms: Terms,
}

/// Serves until the agent is told to end, or nobody is left to serve; the faults end first.
pub(crate) async fn serve(ready: Ready, way: Way) -> Result<(), LineError> {
    let open = |source| LinkError::Open { source };
    let mut terminate = signal(SignalKind::terminate()).map_err(open)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(open)?;
    let mut line = Line::begin(way);
    let (reports, mut reported) = mpsc::channel(REPORTS_MAX);
    let (resolutions, mut resolved) = mpsc::channel(64);
    let mut agent = Agent {
        ready,
        spare_pids: Vec::new(),
        targets: HashMap::new(),
        faults: HashMap::new(),
        finished: HashMap::new(),
        finished_order: VecDeque::new(),
        outbox: None,
        controller: None,
        reports,
        resolutions,
        rhythm: Rhythm::new(std::time::Instant::now()),
        systemd: Systemd::from_environment(),
        lost: None,
        terms: Terms::default(),
    };
    agent.systemd.ready();
    let mut halts = Halts::of(&agent.ready.state);
    let watched = Watched::by(agent.ready.watchdog.as_ref());
    let result = loop {
        tokio::select! {
            biased;
            _ = terminate.recv() => break Ok(()),
            _ = interrupt.recv() => break Ok(()),
            news = line.next() => if let Some(end) = agent.news(news) { break end },
            () = halts.changed() => agent.heed_halt(),
            () = watched.lost() => break Err(LinkError::Watchdog.into()),
            Some(report) = reported.recv() => agent.report(report),
            Some((request, resolution)) = resolved.recv() => agent.resolved(request, resolution),
            () = sleep_until(agent.due()), if agent.has_due() => {
                if !agent.faults.is_empty() && agent.rhythm.take(std::time::Instant::now()) {
                    agent.look();
                }
            }
        }
        agent.beat();
        if let Some(lost) = agent.lost.take()
            && let Some(end) = agent.news(line.give_up(lost))
        {
            break end;
        }
    };
    agent.systemd.stopping();
    agent.end(&mut reported).await;
    drop(agent);
    line.flush().await;
    result
}

impl Agent {
    /// Takes what the line brings; how the agent ends, where it does.
    fn news(&mut self, news: News) -> Option<Result<(), LineError>> {
        match news {
            News::Opened(Opened { outbox, peer }) => {
                self.outbox = Some(outbox);
                self.controller = peer.map(protected::at);
                self.hello();
            }
            News::Said(message) => {
                self.terms.heard(clock::since_boot());
                return self.hear(*message).err().map(|error| Err(error.into()));
            }
            News::NotUnderstood(unread) => self.not_understood(&unread),
            News::Lost => {
                tracing::warn!(
                    faults = self.faults.len(),
                    "the link is lost; faults stay until their leases end"
                );
                self.outbox = None;
            }
            News::Over => return Some(Ok(())),
            News::Failed(error) => return Some(Err(error)),
        }
        None
    }

    fn hello(&mut self) {
        self.say(FromAgent::Hello(wire::Hello {
            protocol: wire::PROTOCOL,
            protocol_least: Some(wire::PROTOCOL_LEAST),
            version: VERSION.to_owned(),
            node: self.ready.node.clone(),
            pid: std::process::id(),
            capabilities: self.ready.capabilities.clone(),
            labels: self.ready.labels.clone(),
        }));
    }

    fn say(&mut self, message: FromAgent) {
        use mpsc::error::TrySendError::{Closed, Full};
        let Some(outbox) = &self.outbox else { return };
        match outbox.try_send(message) {
            Ok(()) | Err(Full(FromAgent::Dosed(_))) => {}
            Err(Closed(_)) => self.lost = Some(Lost::Broken),
            Err(Full(_)) => {
                tracing::error!("the controller does not read: the link counts as lost");
                self.lost = Some(Lost::Broken);
            }
        }
    }

    fn hear(&mut self, message: FromController) -> Result<(), LinkError> {
        match message {
            FromController::Welcome(welcome) => self.welcomed(welcome)?,
            FromController::Stop(stop) => self.stop(&stop),
            FromController::Renew(renew) => self.renew(&renew),
            FromController::Resolve(resolve) => self.resolve(resolve),
            FromController::Arm(arm) => self.arm(&arm),
            FromController::Moved(moved) => self.moved(&moved),
        }
        Ok(())
    }

    fn resolve(&mut self, resolve: wire::Resolve) {
        let rules = self.rules();
        let answer = self.resolutions.clone();
        let sockets = self.ready.policy.runtimes.clone();
        tokio::spawn(async move {
            let (target, faults) = (resolve.target, resolve.faults);
            let asked = inventory::containers::ask(&target, &faults, &sockets, &rules).await;
            let found = tokio::task::spawn_blocking(move || {
                inventory::resolve(&target, &faults, &rules, asked)
            });
            if let Ok(found) = found.await {
                let _ = answer.send((resolve.request, found)).await;
            }
        });
    }

    fn resolved(&mut self, request: u64, resolution: Resolution) {
        let candidates = resolution
            .held
            .iter()
            .map(|h| h.candidate.clone())
            .collect();
        self.let_go();
        if self.targets.len() + resolution.held.len() > TARGETS_MAX {
            let used: HashSet<&TargetId> = self.faults.values().map(|e| &e.live.target).collect();
            self.targets.retain(|id, _| used.contains(id));
        }
        // A target that is looked for again and again leaves those that ended behind.
        let faults = &self.faults;
        self.targets.retain(|id, held| {
            held.grasp.is_there() || faults.values().any(|entry| entry.live.target == *id)
        });
        for held in resolution.held {
            self.keep(held);
        }
        self.say(FromAgent::Resolved(wire::Resolved {
            request,
            candidates,
            excluded: resolution.excluded,
        }));
    }

    /// Takes a target in. What is held already and lives is the same: the older hold stays, but for what it lacks.
    fn keep(&mut self, mut held: HeldTarget) {
        let known = self.targets.get(&held.candidate.id);
        if let Some(known) = known.filter(|known| known.grasp.is_there()) {
            let (Grasp::Container(new), Grasp::Container(older)) = (&mut held.grasp, &known.grasp)
            else {
                return;
            };
            // Without it, what it lacks is resolved again.
            if let Err(error) = new.complete(older) {
                tracing::warn!(%error, "a container's hold is not complete");
            }
        }
        self.targets
            .insert(held.candidate.id.clone(), Arc::new(held));
    }

    fn arm(&mut self, arm: &wire::Arm) {
        let received = Instant::now();
        if let Some(end) = self.finished.get(&arm.id).cloned() {
            return self.say(end);
        }
        if let Some(denial) = self.barred(arm) {
            return self.deny(&arm.id, &denial);
        }
        let held = self
            .targets
            .get(&arm.target)
            .filter(|held| held.grasp.is_there());
        let site = held.map(|held| match held.grasp {
            Grasp::Host => Site::Host,
            Grasp::Process { .. } => Site::Process,
            Grasp::Groups(_) => Site::Group,
            Grasp::Netns { .. } => Site::Netns,
            Grasp::Container(_) => Site::Container,
        });
        let live: Vec<Live> = self
            .faults
            .values()
            .map(|entry| entry.live.clone())
            .collect();
        let among = held.map_or((1, 0), |held| self.among(held));
        let asked = Asked {
            id: &arm.id,
            fault: &arm.fault,
            target: &arm.target,
            lease: arm.lease,
            means: arm.means,
            site,
            netns: held.and_then(|held| held.grasp.netns_inode()),
            among,
        };
        let halted = halt::read(&self.ready.state);
        let node = admit::Node {
            capabilities: &self.ready.capabilities,
            policy: &self.ready.policy,
            now: jiff::Timestamp::now(),
            resolvers: self.ready.resolvers.len(),
            halted: halted.as_ref(),
        };
        let held = held.cloned();
        match (admit::admit(asked, &live, node), held) {
            (Admission::Accept(means), Some(held)) => self.start(arm, means, &held, received),
            (Admission::AlreadySo, _) => {
                self.aim_again(arm);
                let armed = self
                    .faults
                    .get(&arm.id)
                    .and_then(|entry| entry.armed.clone());
                if let Some(armed) = armed {
                    self.say(armed);
                }
            }
            (Admission::Deny(denial), _) => self.deny(&arm.id, &denial),
            (Admission::Accept(_), None) => {
                self.deny(&arm.id, &admit::Denial::UnknownTarget(arm.target.clone()));
            }
        }
    }

    /// What stands against it whatever the node can and allows.
    fn barred(&self, arm: &wire::Arm) -> Option<admit::Denial> {
        let kind = arm.fault.kind();
        if arm.pulse.is_some() && !kind.can_pulse() {
            return Some(admit::Denial::NoPulse(kind));
        }
        let mut live = self.faults.values();
        let other = live.find(|entry| entry.live.target == arm.target && entry.run != arm.run)?;
        Some(admit::Denial::OfAnotherRun(other.run.clone()))
    }

    fn deny(&mut self, id: &FaultId, denial: &admit::Denial) {
        self.say(FromAgent::Refused(wire::Refused {
            id: id.clone(),
            reason: denial.to_string(),
            denied: true,
            gone: matches!(denial, admit::Denial::UnknownTarget(_)),
        }));
    }

    fn refuse(&mut self, id: &FaultId, reason: String) {
        self.say(FromAgent::Refused(wire::Refused {
            id: id.clone(),
            reason,
            denied: false,
            gone: false,
        }));
    }

    fn start(&mut self, arm: &wire::Arm, means: Means, held: &Arc<HeldTarget>, received: Instant) {
        let (attached, fds) = match attach(&held.grasp, arm.fault.kind()) {
            Ok(attached) => attached.into_iter().unzip(),
            Err(error) => {
                let reason = format!("{} cannot be held: {error}", held.candidate.label);
                return self.refuse(&arm.id, reason);
            }
        };
        let spec = self.spec(arm, means, held, attached);
        let (wish, wished) = watch::channel(Wish::default());
        let filter = arm.fault.filter().cloned();
        let aim =
            filter.map(|filter| Aimed::new(filter, self.spare(&held.grasp), arm.found.clone()));
        let names = aim.as_ref().is_some_and(|aim| aim.lock().has_names());
        self.faults.insert(
            arm.id.clone(),
            Entry {
                run: arm.run.clone(),
                live: Live {
                    id: arm.id.clone(),
                    fault: arm.fault.clone(),
                    target: arm.target.clone(),
                    netns: held.grasp.netns_inode(),
                    means,
                },
                wish,
                armed: None,
                since: received,
                names_due: names.then(|| received + names::AGAIN),
                aim: aim.clone(),
            },
        );
        let start = Start {
            spec,
            fds,
            label: held.candidate.label.clone(),
            received,
        };
        let reports = self.reports.clone();
        tokio::spawn(begin(start, aim, wished, move |report| {
            let dose = matches!(report, FromAgent::Dosed(_));
            if reports.try_send(report).is_err() && !dose {
                tracing::error!("a fault's report is lost: the agent does not keep up");
            }
        }));
    }

    /// What the holder is told.
    fn spec(
        &self,
        arm: &wire::Arm,
        means: Means,
        held: &HeldTarget,
        attached: Vec<Attached>,
    ) -> HoldSpec {
        let prey = arm.fault.kind().is_on_processes().then(|| self.prey(held));
        HoldSpec {
            id: arm.id.clone(),
            parent: 0,
            lease_ms: arm.lease.get() / 1_000_000,
            seed: arm.seed,
            fault: arm.fault.clone(),
            means,
            filter: ResolvedFilter {
                spare: self.spared_by(&arm.fault, &held.grasp),
                ..ResolvedFilter::default()
            },
            queue: network::queue_means(),
            attached,
            owned: arm.fault.kind().is_network() && held.grasp.shares_its_netns(),
            prey,
            pulse: arm.pulse,
            on_behalf_of: None,
            pressure: self.ready.policy.limits.pressure.clone(),
            journal: (arm.fault.kind().holding() == Holding::Journal)
                .then(|| self.ready.policy.journal.0.clone()),
        }
    }

    fn renew(&mut self, renew: &wire::Renew) {
        let lease = renew.lease.min(self.ready.policy.limits.lease).duration();
        for id in &renew.faults {
            if let Some(entry) = self.faults.get(id) {
                entry
                    .wish
                    .send_modify(|wish| wish.renewals = (wish.renewals.0 + 1, lease));
            }
        }
        if self.rhythm.renewed(std::time::Instant::now()) {
            self.look();
        }
    }

    fn stop(&mut self, stop: &Stop) {
        let now = Instant::now();
        for (id, entry) in &self.faults {
            let meant = match stop {
                Stop::Faults(ids) => ids.contains(id),
                Stop::Run(run) => entry.run == *run,
                Stop::All => true,
                Stop::Others(runs) => !runs.contains(&entry.run),
            };
            if meant {
                entry.end(now, None);
            }
        }
        // Who asks for the end of what has ended, or never was, is told so.
        if let Stop::Faults(ids) = stop {
            for id in ids
                .iter()
                .filter(|id| !self.faults.contains_key(id))
                .cloned()
                .collect::<Vec<_>>()
            {
                let end = self.finished.get(&id).cloned();
                self.say(end.unwrap_or_else(|| {
                    FromAgent::Ended(wire::Ended {
                        id,
                        cause: EndCause::HolderKilled(UNKNOWN.to_owned()),
                        dose: None,
                        at_us: clock::epoch_us(),
                        took_us: Some(0),
                        lasted_us: None,
                    })
                }));
            }
        }
    }

    /// Whether what a fault was aimed at has ended.
    fn is_gone(&self, fault: &FaultId) -> bool {
        let target = self.faults.get(fault).map(|entry| &entry.live.target);
        let held = target.and_then(|target| self.targets.get(target));
        held.is_none_or(|held| !held.grasp.is_there())
    }

    /// Takes down what a fault's task says, and passes it on.
    fn report(&mut self, mut report: FromAgent) {
        if let FromAgent::Refused(refused) = &mut report {
            refused.gone = self.is_gone(&refused.id);
        }
        match &report {
            FromAgent::Armed(armed) => {
                if let Some(entry) = self.faults.get_mut(&armed.id) {
                    entry.armed = Some(report.clone());
                }
            }
            FromAgent::Ended(wire::Ended { id, .. })
            | FromAgent::Refused(wire::Refused { id, .. }) => {
                self.faults.remove(id);
                self.finished.insert(id.clone(), report.clone());
                self.finished_order.push_back(id.clone());
                if self.finished_order.len() > FINISHED_MAX
                    && let Some(oldest) = self.finished_order.pop_front()
                {
                    self.finished.remove(&oldest);
                }
                if self.faults.is_empty() {
                    self.let_go();
                }
            }
            _ => {}
        }
        self.say(report);
    }

    /// Lets go of targets that are gone. What is held of them is a descriptor, and one on a network namespace keeps it alive, with
    /// all its links, long after its pod was deleted.
    fn let_go(&mut self) {
        let used: HashSet<&TargetId> = self.faults.values().map(|e| &e.live.target).collect();
        self.targets.retain(|id, held| {
            used.contains(id) || (held.grasp.is_there() && inventory::name_still_means(held))
        });
    }

    /// Looks after live faults: the policy's longest stay, names, and namespaces whose name is gone.
    fn look(&mut self) {
        self.heed_halt();
        let now = Instant::now();
        let most = self.ready.policy.limits.hold;
        let over = self.hours_are_over();
        for (id, entry) in &mut self.faults {
            if now.duration_since(entry.since) > most.duration() {
                let reason = format!("the node's policy lets no fault stay longer than {most}");
                entry.end(now, Some(EndCause::Failed(reason)));
            }
            if let Some(reason) = &over {
                entry.end(now, Some(EndCause::Failed(reason.clone())));
            }
            let target = self.targets.get(&entry.live.target);
            if target.is_some_and(|target| !inventory::name_still_means(target)) {
                entry.end(now, Some(EndCause::TargetGone));
            }
            if entry.names_due.is_some_and(|due| now >= due) {
                entry.names_due = Some(now + names::AGAIN);
                if let Some(aim) = entry.aim.clone() {
                    tokio::spawn(rename(id.clone(), aim, entry.wish.clone()));
                }
            }
        }
    }

    /// Ends every fault, waits for the proof, and says it.
    async fn end(&mut self, reported: &mut mpsc::Receiver<FromAgent>) {
        self.stop(&Stop::All);
        let limit = tokio::time::sleep(SHUTDOWN_LIMIT);
        tokio::pin!(limit);
        while !self.faults.is_empty() {
            tokio::select! {
                Some(report) = reported.recv() => {
                    self.report(report);
                    self.beat();
                }
                () = &mut limit => {
                    tracing::error!(faults = self.faults.len(), "not shown gone; the kernel ends them with the agent");
                    return;
                }
            }
        }
    }
}

impl Entry {
    fn end(&self, since: Instant, because: Option<EndCause>) {
        self.wish.send_if_modified(|wish| {
            let news = wish.stop.is_none();
            if news {
                wish.stop = Some(since);
                wish.stop_because = because;
            }
            news
        });
    }
}
