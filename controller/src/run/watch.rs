//! All probes' judges, and which of them an attempt is for. Pure.
//!
//! Attempts come with the place of who made them: the probes in the file's order, and then, in the same order, the controls
//! beside them; see [`squall_experiments::experiment::Experiment::place_of_control`].

use super::machine::Effect;
use crate::judge::{Confirmed, Judge, JudgeSettings, Trial};
use squall_experiments::event::{ExpectationRef, Happening};
use squall_experiments::experiment::Experiment;

/// A stage that is over.
#[derive(Debug, Clone)]
struct Aside {
    judges: Vec<Judge>,
    until_us: u64,
    /// The name of its step, where the whole dose of it was given: it must show that every expectation held.
    whole: Option<String>,
}

/// Judges every probe through the phases of a run.
#[derive(Debug, Clone)]
pub(super) struct Watch {
    experiment: Experiment,
    settings: JudgeSettings,
    judges: Vec<Judge>,
    /// Faults were asked for: from here on attempts are judged as made under them.
    faulted: bool,
    /// The judges of stages that are over, kept for what was due under their faults and is still coming in.
    aside: Vec<Aside>,
    /// The run was told to end: violations after that come from `aside` alone.
    stopped: bool,
}

impl Watch {
    pub(super) fn new(experiment: &Experiment, stages: usize) -> Self {
        Self {
            settings: JudgeSettings {
                alpha: alpha(experiment, stages),
                confidence: experiment.confidence.fraction(),
            },
            experiment: experiment.clone(),
            judges: Vec::new(),
            faulted: false,
            aside: Vec::new(),
            stopped: false,
        }
    }

    /// The first probe begins.
    pub(super) fn start(&mut self, now_us: u64) {
        let steady = self.experiment.steady_state.iter();
        self.judges = steady
            .map(|steady| Judge::new(steady, self.settings, now_us))
            .collect();
    }

    pub(super) fn take(&mut self, probe: usize, trial: &Trial) -> Vec<Confirmed> {
        let mut found = give(&mut self.judges, probe, trial);
        if self.stopped {
            found.clear();
        }
        for aside in &mut self.aside {
            if trial.due_us < aside.until_us {
                found.extend(give(&mut aside.judges, probe, trial));
            }
        }
        found
    }

    /// An attempt is under way. The judges of stages that are over hear of it, too: what was left out before it was due in theirs.
    pub(super) fn begun(&mut self, probe: usize, due_us: u64) {
        let asides = self.aside.iter_mut().map(|aside| &mut aside.judges);
        for judges in asides.chain([&mut self.judges]) {
            let probes = judges.len();
            if let Some(judge) = judges.get_mut(probe) {
                judge.begun(due_us);
            } else if let Some(judge) = judges.get_mut(probe.saturating_sub(probes)) {
                judge.begun_of_control(due_us);
            }
        }
    }

    pub(super) fn tick(&mut self, now_us: u64, out: &mut Vec<Effect>) -> Vec<Confirmed> {
        let mut found = Vec::new();
        for judge in &mut self.judges {
            let (window, confirmed) = judge.tick(now_us);
            out.extend(window.map(|window| Effect::Say(Happening::Observed(window))));
            found.extend(confirmed);
        }
        if self.stopped {
            found.clear();
        }
        let judges = self.aside.iter_mut().flat_map(|aside| &mut aside.judges);
        found.extend(judges.flat_map(|judge| judge.tick_after(now_us)));
        found
    }

    /// The baseline is over: takes it, and says why nothing should be injected, where nothing should.
    pub(super) fn baseline(&mut self, now_us: u64, out: &mut Vec<Effect>) -> Result<(), String> {
        for judge in &mut self.judges {
            let taken = judge.take_baseline(now_us);
            out.push(Effect::Say(Happening::BaselineTaken(taken)));
        }
        match self.judges.iter().find_map(Judge::unfit) {
            Some(reason) => Err(reason),
            None => Ok(()),
        }
    }

    /// A stage begins. What was due under the faults of an earlier one and is still coming in counts for that one.
    pub(super) fn injecting(&mut self, now_us: u64, out: &mut Vec<Effect>) {
        if self.faulted && !self.is_set_aside(now_us) {
            self.set_aside(now_us, None);
        }
        self.faulted = true;
        self.begin(now_us, out);
    }

    /// A stage was held to its end, in which the whole dose of the `step` was given. What was due in it may still come in.
    pub(super) fn held(&mut self, now_us: u64, step: &str) {
        self.set_aside(now_us, Some(step.to_owned()));
    }

    /// The run is told to end.
    pub(super) fn stop(&mut self, now_us: u64) {
        self.stopped = true;
        if self.faulted && !self.is_set_aside(now_us) {
            self.set_aside(now_us, None);
        }
    }

    fn is_set_aside(&self, now_us: u64) -> bool {
        let last = self.aside.last();
        last.is_some_and(|last| last.until_us == now_us)
    }

    fn set_aside(&mut self, until_us: u64, whole: Option<String>) {
        let mut judges = self.judges.clone();
        judges.iter_mut().for_each(|judge| judge.end(until_us));
        self.aside.push(Aside {
            judges,
            until_us,
            whole,
        });
    }

    /// Whether everything that was due under a fault was heard.
    pub(super) fn heard(&self) -> bool {
        let mut judges = self.aside.iter().flat_map(|aside| &aside.judges);
        judges.all(Judge::heard)
    }

    /// What was due under a fault and was not heard by the end of the run is not known to have been well.
    pub(super) fn lost(&mut self) -> Vec<Confirmed> {
        let judges = self.aside.iter_mut().flat_map(|aside| &mut aside.judges);
        judges.flat_map(Judge::lost).collect()
    }

    /// All faults are known to be gone.
    pub(super) fn recovering(&mut self, now_us: u64, out: &mut Vec<Effect>) {
        self.begin(now_us, out);
    }

    fn begin(&mut self, now_us: u64, out: &mut Vec<Effect>) {
        for judge in &mut self.judges {
            let window = judge.begin(now_us, now_us);
            out.extend(window.map(|window| Effect::Say(Happening::Observed(window))));
        }
    }

    /// Whether every probe's steady state is back.
    pub(super) fn recovered(&self) -> bool {
        self.judges.iter().all(Judge::recovered)
    }

    /// What is missing before the stages in which whole doses were given say that every expectation held.
    pub(super) fn unproven(&self) -> Option<String> {
        let mut stages = self.aside.iter().filter_map(|aside| {
            let step = aside.whole.as_ref()?;
            let missing = aside.judges.iter().find_map(Judge::unproven)?;
            Some(format!("step `{step}`: {missing}"))
        });
        stages.next()
    }

    /// What those stages showed.
    pub(super) fn shown(&self) -> Vec<String> {
        let whole = self.aside.iter().filter_map(|aside| {
            let step = aside.whole.as_ref()?;
            let shown = aside.judges.iter().flat_map(Judge::shown);
            Some(shown.map(move |what| format!("shown in step `{step}`: {what}")))
        });
        whole.flatten().collect()
    }
}

/// Gives an attempt to the judge of its probe, or to the one that its control stands beside.
fn give(judges: &mut [Judge], probe: usize, trial: &Trial) -> Vec<Confirmed> {
    let probes = judges.len();
    if let Some(judge) = judges.get_mut(probe) {
        return judge.take(trial);
    }
    let beside = judges.get_mut(probe.saturating_sub(probes));
    beside.map_or_else(Vec::new, |judge| judge.take_of_control(trial))
}

/// The chance of a false stop that each expectation has in each phase: the file's, split evenly over all expectations and over the
/// baseline and every stage, so that all of them together stay below it.
fn alpha(experiment: &Experiment, stages: usize) -> f64 {
    let expectations: usize = experiment.steady_state.iter().map(|s| s.expect.len()).sum();
    #[expect(clippy::cast_precision_loss, reason = "thousands at most")]
    let parts = (expectations.max(1) * (stages + 1)) as f64;
    experiment.false_stop.fraction() / parts
}

/// Every expectation of an experiment, as events name them.
pub(super) fn expectations(experiment: &Experiment) -> Vec<ExpectationRef> {
    let steady = experiment.steady_state.iter();
    let refs = steady.flat_map(|steady| {
        let expect = steady.expect.iter();
        expect.map(|expectation| ExpectationRef {
            probe: steady.name.clone(),
            text: expectation.to_string(),
        })
    });
    refs.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::fixture;

    #[test]
    fn all_chances_of_a_false_stop_come_to_the_one_of_the_file() {
        let mut experiment = fixture::experiment();
        let one = experiment.steady_state[0].expect[0].clone();
        experiment.steady_state[0].expect = vec![one; 3];
        let mut second = experiment.steady_state[0].clone();
        second.expect.truncate(1);
        experiment.steady_state.push(second);
        let all = alpha(&experiment, 5) * 4.0 * 6.0;
        assert!(
            (all - experiment.false_stop.fraction()).abs() < 1e-12,
            "{all}"
        );
    }
}
