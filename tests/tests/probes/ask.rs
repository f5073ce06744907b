//! A probe as a file says it, asked through the controller's own library.

use lab::world::Result;
use squall_controller::clock::Clock;
use squall_controller::judge::{Outcome, Trial};
use squall_controller::probe::{self, Probes, Report, TRIALS_WAITING_MAX};
use squall_experiments::experiment::SteadyState;
use squall_experiments::language::{Colour, read};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

/// How long any answer may take on a busy machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// A probe out of a whole experiment file.
pub(crate) fn steady(probe: &str) -> Result<SteadyState> {
    steady_expecting(probe, "success >= 50%")
}

/// The same with these expectations, one violation of which is enough.
pub(crate) fn steady_expecting(probe: &str, expected: &str) -> Result<SteadyState> {
    let text = format!(
        "apiVersion: squall/v1\nkind: Experiment\nmetadata: {{ name: probes }}\nhypothesis: h\nsteadyState:\n  \
         - name: the probe\n    probe: {probe}\n    expect: [ {expected} ]\n    confirm: 1\nmethod:\n  - fault: kill\n    \
         on: {{ process: {{ name: nobody }} }}\n    hold: 60s\nbaseline: 60s\n"
    );
    let reading = read("probe.yaml", &text);
    let experiment = reading
        .experiment
        .ok_or_else(|| read("probe.yaml", &text).render(&text, Colour::Never))?;
    let first = experiment.steady_state.into_iter().next();
    Ok(first.ok_or("the file has no steady state")?)
}

/// Why the probe cannot begin.
pub(crate) fn refused(probe: &str) -> Result<String> {
    match probe::check(&[steady(probe)?]) {
        Ok(()) => Err(format!("{probe} could begin").into()),
        Err(error) => Ok(lab::chain(&error)),
    }
}

/// A probe that is under way; it ends with the value.
pub(crate) struct Asking {
    // Before the runtime that they run in.
    _probes: Probes,
    hear: mpsc::Receiver<(usize, Report)>,
    runtime: Runtime,
    clock: Clock,
    probe: String,
    /// When the attempts that are under way were due.
    under_way: BTreeSet<u64>,
}

impl Asking {
    pub(crate) fn start(probe: &str) -> Result<Self> {
        Self::of(steady(probe)?)
    }

    pub(crate) fn of(steady: SteadyState) -> Result<Self> {
        let probe = steady.name.clone();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let (say, hear) = mpsc::channel(TRIALS_WAITING_MAX);
        let clock = Clock::start();
        let probes = runtime
            .block_on(async { probe::start(&[steady], clock, &say) })
            .map_err(|error| lab::chain(&error))?;
        Ok(Self {
            _probes: probes,
            hear,
            runtime,
            clock,
            probe,
            under_way: BTreeSet::new(),
        })
    }

    /// The next attempt that ends.
    pub(crate) fn next(&mut self) -> Result<Trial> {
        let (hear, probe, under_way) = (&mut self.hear, &self.probe, &mut self.under_way);
        self.runtime.block_on(async {
            loop {
                match tokio::time::timeout(LIMIT, hear.recv()).await {
                    Ok(Some((_, Report::Ended(trial)))) => {
                        under_way.remove(&trial.due_us);
                        return Ok(*trial);
                    }
                    Ok(Some((_, Report::Begun(due_us)))) => {
                        under_way.insert(due_us);
                    }
                    Ok(None) => return Err("the probe ended".into()),
                    Err(_) => return Err(format!("{probe}: nothing within {LIMIT:?}").into()),
                }
            }
        })
    }

    /// All attempts up to the first that began after now; one that was due before it may end after it.
    pub(crate) fn until_now(&mut self) -> Result<Vec<Trial>> {
        let now = self.clock.now_us();
        let mut ended: Vec<Trial> = Vec::new();
        loop {
            ended.push(self.next()?);
            let last = ended
                .iter()
                .map(|trial| trial.due_us)
                .filter(|due| *due > now)
                .min();
            if last.is_some_and(|last| self.under_way.range(..last).next().is_none()) {
                ended.sort_by_key(|trial| trial.due_us);
                return Ok(ended);
            }
        }
    }
}

/// What the first attempts that end are.
pub(crate) fn attempts(probe: &str, count: usize) -> Result<Vec<Trial>> {
    let mut asking = Asking::start(probe)?;
    (0..count).map(|_| asking.next()).collect()
}

/// The first attempt.
pub(crate) fn once(probe: &str) -> Result<Trial> {
    let first = attempts(probe, 1)?.into_iter().next();
    Ok(first.ok_or("no attempt")?)
}

/// Asks until the probe has this value: a real server needs a moment to know something.
pub(crate) fn value(probe: &str, wanted: f64) -> Result<()> {
    let begun = Instant::now();
    loop {
        let trial = once(probe)?;
        if trial
            .value
            .is_some_and(|value| (value - wanted).abs() < 1e-9)
        {
            assert_eq!(trial.outcome, Outcome::Success);
            return Ok(());
        }
        if begun.elapsed() > LIMIT {
            return Err(format!("{probe}: {trial:?} and not {wanted}").into());
        }
    }
}

/// The source answered, and what it said is a violation with this in its reason.
pub(crate) fn failed(probe: &str, why: &[&str]) -> Result<()> {
    match once(probe)?.outcome {
        Outcome::Failed(reason) => has(&reason, why),
        other => Err(format!("{probe}: {other:?}").into()),
    }
}

/// The source could not be spoken to, for this reason.
pub(crate) fn unanswered(probe: &str, why: &[&str]) -> Result<()> {
    match once(probe)?.outcome {
        Outcome::Unanswered(reason) => has(&reason, why),
        other => Err(format!("{probe}: {other:?}").into()),
    }
}

fn has(reason: &str, wanted: &[&str]) -> Result<()> {
    match wanted.iter().find(|part| !reason.contains(**part)) {
        None => Ok(()),
        Some(missing) => Err(format!("`{missing}` is not in: {reason}").into()),
    }
}
