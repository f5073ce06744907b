//! What whoever is on call wants to see, for Prometheus: faults in force and how old the oldest is, how long stops take, who is there, how runs end.
//!
//! Of runs that this controller drives; one that stands by has none. What the store and the registry know is put in at each look.

use crate::trace::Counts;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use squall_experiments::event::{Finished, Happening};
use squall_experiments::ids::{FaultId, RunId};
use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Seconds: a stop is to take milliseconds, a lease ends what it does not reach after ten seconds.
const STOP_BUCKETS: [f64; 12] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Ended {
    verdict: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct State {
    state: &'static str,
}

/// What is put in at each look.
#[derive(Debug, Clone, Copy, Default)]
pub struct Look {
    /// Whether this controller leads.
    pub leads: bool,
    /// Whether everything is halted.
    pub halted: bool,
    /// Runs under way.
    pub runs: usize,
    /// Targets that are taken, also by interrupted runs whose leases are not over.
    pub targets: usize,
    /// Agents, where the store could be asked.
    pub agents: Option<Agents>,
}

/// How many agents there are.
#[derive(Debug, Clone, Copy, Default)]
pub struct Agents {
    /// With a link.
    pub connected: usize,
    /// Joined, and without one.
    pub away: usize,
    /// Shut out.
    pub revoked: usize,
}

#[derive(Debug, Default)]
struct Gauges {
    leads: Gauge,
    halted: Gauge,
    store: Gauge,
    under_way: Gauge,
    targets: Gauge,
    faults: Gauge,
    oldest: Gauge<f64, AtomicU64>,
    agents: Family<State, Gauge>,
    runs: Family<Ended, Counter>,
}

struct Inner {
    registry: Registry,
    gauges: Gauges,
    stops: Histogram,
    spans: Counts,
    live: Mutex<HashMap<RunId, HashMap<FaultId, Instant>>>,
}

/// All of them. Cloning it is another handle to the same.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

impl Default for Metrics {
    fn default() -> Self {
        let (gauges, stops) = (Gauges::default(), Histogram::new(STOP_BUCKETS));
        let mut registry = Registry::with_prefix("squall");
        let build = Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "Which Squall this is", build);
        let mut gauge = |name: &str, help: &str, gauge: &Gauge| {
            registry.register(name, help, gauge.clone());
        };
        gauge("leader", "Whether this controller leads", &gauges.leads);
        gauge("halted", "Whether everything is halted", &gauges.halted);
        gauge("store_up", "Whether the database answers", &gauges.store);
        gauge("runs_under_way", "Runs under way", &gauges.under_way);
        gauge(
            "targets_taken",
            "Targets that no other run may hit: of runs under way, and of interrupted ones until their leases are over",
            &gauges.targets,
        );
        gauge("faults_live", "Faults in force", &gauges.faults);
        registry.register(
            "oldest_fault_seconds",
            "For how long the oldest fault has been in force under its lease; 0 where there is none",
            gauges.oldest.clone(),
        );
        registry.register("agents", "Agents that have joined", gauges.agents.clone());
        registry.register("runs", "Runs that ended", gauges.runs.clone());
        registry.register(
            "stop_seconds",
            "From the decision to end a run to the last of its faults gone",
            stops.clone(),
        );
        let spans = Counts::default();
        registry.register(
            "trace_spans_sent",
            "Spans of traces that their receiver has taken",
            spans.sent.clone(),
        );
        registry.register(
            "trace_spans_dropped",
            "Spans of traces that were given up: too many waited, or their receiver did not take them",
            spans.dropped.clone(),
        );
        Self(Arc::new(Inner {
            registry,
            gauges,
            stops,
            spans,
            live: Mutex::default(),
        }))
    }
}

impl Metrics {
    fn live(&self) -> MutexGuard<'_, HashMap<RunId, HashMap<FaultId, Instant>>> {
        self.0.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What became of the spans of traces, to be counted there.
    #[must_use]
    pub fn spans(&self) -> Counts {
        self.0.spans.clone()
    }

    /// Something happened in a run.
    pub fn heard(&self, run: &RunId, what: &Happening) {
        match what {
            Happening::Armed(armed) => {
                let mut live = self.live();
                let faults = live.entry(run.clone()).or_default();
                faults.insert(armed.id.clone(), Instant::now());
            }
            Happening::Ended(ended) => {
                let mut live = self.live();
                if let Some(faults) = live.get_mut(run) {
                    faults.remove(&ended.id);
                }
            }
            Happening::Finished(finished) => self.finished(finished),
            _ => {}
        }
    }

    fn finished(&self, finished: &Finished) {
        let verdict = finished.verdict.to_string();
        self.0.gauges.runs.get_or_create(&Ended { verdict }).inc();
        if let Some(ms) = finished.revert_ms {
            self.0.stops.observe(ms / 1e3);
        }
    }

    /// A run is over, with or without a verdict. What was not shown gone ends with its lease.
    pub fn over(&self, run: &RunId) {
        self.live().remove(run);
    }

    /// All of it, as OpenMetrics 1.0 has it.
    #[must_use]
    pub fn text(&self, look: Look) -> String {
        let gauges = &self.0.gauges;
        gauges.leads.set(i64::from(look.leads));
        gauges.halted.set(i64::from(look.halted));
        gauges.store.set(i64::from(look.agents.is_some()));
        gauges.under_way.set(count(look.runs));
        gauges.targets.set(count(look.targets));
        if let Some(agents) = look.agents {
            let set = |state, n| gauges.agents.get_or_create(&State { state }).set(count(n));
            let _before = set("connected", agents.connected);
            let _before = set("away", agents.away);
            let _before = set("revoked", agents.revoked);
        }
        let live = self.live();
        let faults = live.values().flat_map(HashMap::values);
        let oldest = faults.clone().min();
        gauges.faults.set(count(faults.count()));
        let age = oldest.map_or(0.0, |since| since.elapsed().as_secs_f64());
        gauges.oldest.set(age);
        drop(live);
        let mut text = String::new();
        // A string takes whatever is written.
        let _written = encode(&mut text, &self.0.registry);
        text
    }
}

fn count(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use squall_experiments::event::FaultEnded;
    use squall_experiments::verdict::Verdict;
    use squall_experiments::wire::EndCause;

    #[test]
    fn faults_count_while_they_are_in_force_and_runs_by_their_verdict() {
        let (metrics, run) = (Metrics::default(), RunId::from("r"));
        let says = |line: &str| {
            let text = metrics.text(Look::default());
            assert!(text.lines().any(|one| one == line), "{line}\n{text}");
        };
        says("squall_faults_live 0");
        says("squall_oldest_fault_seconds 0.0");
        for id in ["r-1", "r-2"] {
            let (run, id) = (run.clone(), FaultId::from(id));
            metrics
                .live()
                .entry(run)
                .or_default()
                .insert(id, Instant::now());
        }
        says("squall_faults_live 2");
        let ended = FaultEnded {
            id: FaultId::from("r-1"),
            cause: EndCause::Stopped,
            dose: None,
            took_us: None,
        };
        metrics.heard(&run, &Happening::Ended(ended));
        says("squall_faults_live 1");
        let finished = Finished {
            verdict: Verdict::Broken,
            because: "it broke".into(),
            detect_ms: None,
            revert_ms: Some(60.0),
            recover_ms: None,
        };
        metrics.heard(&run, &Happening::Finished(finished));
        metrics.over(&run);
        says("squall_faults_live 0");
        says("squall_runs_total{verdict=\"broken\"} 1");
        says("squall_stop_seconds_bucket{le=\"0.05\"} 0");
        says("squall_stop_seconds_bucket{le=\"0.1\"} 1");
    }
}
