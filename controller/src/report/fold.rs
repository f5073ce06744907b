//! From events to a [`Summary`].
//!
//! Total: any sequence of events folds, the empty one and one torn off in the middle included. What an event names
//! that was never announced (a fault without a plan) is still reported, since it may have acted.

use super::summary::{
    Environment, ExpectationReport, FaultOutcome, FaultReport, FileReport, FirstBroken, Moment,
    PhaseKind, PhaseReport, Point, PulseReport, StageReport, Summary, Timings, Unit,
    ViolationReport,
};
use super::words::{cause_in_words, dose_in_words, span_ms, state_in_words, stop_in_words};
use squall_experiments::dose::Dose;
use squall_experiments::event::{
    BaselineTaken, Created, Event, FaultArmed, FaultEnded, Finished, Happening, TargetJoined,
    Violation, Window,
};
use squall_experiments::expectation::{Check, Expectation};
use squall_experiments::fault::Holding;
use squall_experiments::plan::{Plan, PlannedFault};
use squall_experiments::run_life::RunState;
use std::collections::HashMap;

impl Summary {
    /// Tells a run from its events, in the order in which they happened.
    #[must_use]
    pub fn of(events: &[Event]) -> Self {
        let mut telling = Telling::default();
        for event in events {
            telling.take(event);
        }
        telling.so_far()
    }
}

/// A run that is being told while it happens.
#[derive(Debug, Default)]
pub struct Telling {
    said: Summary,
    /// Where each fault is: of thousands, each has its say many times.
    places: HashMap<String, usize>,
    start_us: Option<u64>,
    end_ms: f64,
}

/// Microseconds to milliseconds; exact for any difference of two moments within 285 years.
#[expect(
    clippy::cast_precision_loss,
    reason = "differences within a run stay far below 2^53 microseconds"
)]
pub(super) fn ms(us: u64) -> f64 {
    us as f64 / 1000.0
}

impl Telling {
    /// Everything told so far. A phase or a fault without an end is taken to last until the latest event.
    #[must_use]
    pub fn so_far(&self) -> Summary {
        let mut said = self.said.clone();
        said.version = Summary::VERSION;
        if said.verdict.is_none() {
            said.because = "The record ends before a verdict.".into();
        }
        said.timings.duration_ms = self.end_ms;
        if let Some(last) = said.phases.last_mut() {
            last.to_ms = last.to_ms.max(last.from_ms).min(self.end_ms);
        }
        stages(&mut said, self.end_ms);
        let in_force = in_force(&said.faults, self.end_ms);
        for expectation in &mut said.expectations {
            expectation.sum_up(&in_force);
        }
        said
    }

    /// The same, without the cost of a copy: phases and stages in it are open.
    pub(crate) const fn raw(&self) -> &Summary {
        &self.said
    }

    /// Milliseconds from the run's first event to a moment.
    pub(crate) fn since_start_ms(&self, at_us: u64) -> f64 {
        ms(at_us.saturating_sub(self.start_us.unwrap_or(at_us)))
    }

    /// Tells one more event.
    pub fn take(&mut self, event: &Event) {
        if self.start_us.is_none() {
            self.start_us = Some(event.at_us);
            self.said.timings.started_at = Timings::start_text(event.at_us);
        }
        // A clock that was set back in the run must not give negative times.
        let at = self.since_start_ms(event.at_us);
        self.end_ms = self.end_ms.max(at);
        match &event.what {
            Happening::Created(created) => self.created(created),
            Happening::Planned(plan) => self.planned(plan),
            Happening::Entered(state) => self.entered(at, *state),
            Happening::Observed(window) => self.observed(at, window),
            Happening::BaselineTaken(taken) => self.baseline(taken),
            Happening::Armed(armed) => self.armed(at, armed),
            Happening::Refused(refused) => {
                let fault = self.fault(&refused.id.0);
                fault.outcome = FaultOutcome::Refused(refused.reason.clone());
                let what = format!(
                    "{} not injected into {}: {}",
                    fault.fault, fault.target, refused.reason
                );
                self.tell(at, what);
            }
            Happening::Dosed(dosed) => self.fault(&dosed.id.0).set_dose(at, &dosed.dose),
            Happening::Ended(ended) => self.ended(at, ended),
            Happening::TargetJoined(joined) => self.joined(at, joined),
            Happening::TargetLeft(left) => {
                let what = format!("{} is let go: {}", left.target.label, left.reason);
                self.tell(at, what);
            }
            Happening::Stuck(stuck) => {
                let fault = self.fault(&stuck.id.0);
                fault.outcome = FaultOutcome::Stuck(stuck.reason.clone());
                let what = format!(
                    "{} cannot be shown gone from {}: {}",
                    fault.fault, fault.target, stuck.reason
                );
                self.tell(at, what);
            }
            Happening::Violated(violation) => self.violated(at, violation),
            Happening::StopDecided(reason) => {
                self.said.stop_at_ms = Some(at);
                self.said.stop_reason = Some(reason.clone());
                self.tell(at, format!("stop: {}", stop_in_words(reason)));
            }
            Happening::Recovered => self.tell(at, "the steady state is proven back".into()),
            Happening::Noted(note) => {
                self.said.notes.push(note.clone());
                self.tell(at, note.clone());
            }
            Happening::Finished(finished) => self.finished(at, finished),
        }
    }

    fn joined(&mut self, at: f64, joined: &TargetJoined) {
        let stage = self.said.phases.last().and_then(|phase| phase.stage);
        for planned in &joined.faults {
            let fault = self.fault(&planned.id.0);
            fault.stage = stage.unwrap_or_default();
            fault.fault = planned.what();
            fault.target.clone_from(&planned.target.label);
            fault.node.clone_from(&planned.target.node);
        }
        let what = format!(
            "{} joins: {} of {} that match now are hit",
            joined.target.label, joined.hit, joined.candidates
        );
        self.tell(at, what);
    }

    fn tell(&mut self, at_ms: f64, what: String) {
        self.said.timeline.push(Moment { at_ms, what });
    }

    fn armed(&mut self, at: f64, armed: &FaultArmed) {
        let fault = self.fault(&armed.id.0);
        fault.outcome = FaultOutcome::InForce;
        fault.armed_at_ms = Some(at);
        fault.arm_took_us = Some(armed.took_us);
        fault.means.clone_from(&armed.evidence.means);
        fault.held = armed.held;
        fault.read_back.clone_from(&armed.evidence.read_back);
        fault.warnings.clone_from(&armed.evidence.warnings);
        let took = span_ms(ms(armed.took_us));
        let held = match fault.held {
            Holding::Kernel => String::new(),
            other => format!("; held: {}", other.word()),
        };
        let what = format!(
            "{} in force on {} ({took} after the command; {}{held})",
            fault.fault, fault.target, fault.means
        );
        self.tell(at, what);
    }

    fn created(&mut self, created: &Created) {
        let said = &mut self.said;
        said.run = created.run.to_string();
        said.name.clone_from(&created.name);
        said.hypothesis.clone_from(&created.hypothesis);
        said.seed = created.seed;
        said.digest.clone_from(&created.digest);
        said.file = FileReport {
            path: created.file_path.clone(),
            text: created.file_text.clone(),
        };
        said.environment = Environment {
            node: created.node.clone(),
            kernel: created.capabilities.kernel.clone(),
            cgroup: created.capabilities.cgroup.clone(),
            squall: created.version.clone(),
        };
        said.expectations = created
            .expectations
            .iter()
            .map(|e| ExpectationReport {
                probe: e.probe.clone(),
                text: e.text.clone(),
                unit: Unit::of(&e.text),
                baseline: None,
                worst_under_fault: None,
                worst_beside: None,
                last: None,
                windows_under_fault: 0,
                windows_unsatisfied: 0,
                violated_at_ms: None,
                points: Vec::new(),
            })
            .collect();
    }

    fn planned(&mut self, plan: &Plan) {
        for (number, stage) in (0..).zip(&plan.stages) {
            let mut words: Vec<String> = stage.arm.iter().map(PlannedFault::what).collect();
            words.sort();
            words.dedup();
            self.said.stages.push(StageReport {
                number,
                step: stage.name.clone(),
                share: stage.share.to_string(),
                hit: stage.hit,
                candidates: stage.candidates,
                hold: stage.hold.to_string(),
                faults: words,
                from_ms: None,
                to_ms: None,
            });
            for planned in &stage.arm {
                let mut fault = FaultReport::unknown(&planned.id.0);
                fault.stage = number;
                fault.fault = planned.what();
                fault.target.clone_from(&planned.target.label);
                fault.node.clone_from(&planned.target.node);
                self.add(fault);
            }
        }
    }

    fn entered(&mut self, at: f64, state: RunState) {
        if let Some(last) = self.said.phases.last_mut() {
            last.to_ms = at;
        }
        let (kind, stage) = match state {
            RunState::Planned | RunState::Gated => (PhaseKind::Preparing, None),
            RunState::Baseline => (PhaseKind::Baseline, None),
            RunState::Injecting(stage) => (PhaseKind::Injecting, Some(stage)),
            RunState::Recovering => (PhaseKind::Recovering, None),
            RunState::Finished => return,
        };
        self.said.phases.push(PhaseReport {
            kind,
            stage,
            from_ms: at,
            to_ms: f64::MAX,
        });
        if kind != PhaseKind::Preparing {
            self.tell(at, format!("{} begins", state_in_words(state)));
        }
    }

    fn observed(&mut self, at: f64, window: &Window) {
        let of_probe = self
            .said
            .expectations
            .iter_mut()
            .filter(|e| e.probe == window.probe);
        for (index, expectation) in of_probe.enumerate() {
            let check = window.checks.get(index).cloned().unwrap_or_default();
            // What is not finite cannot be drawn, nor be written as JSON.
            let measured = check.measured.filter(|m| m.is_finite());
            expectation.last = measured.or(expectation.last);
            expectation.points.push(Point {
                at_ms: at,
                length_ms: ms(window.length_ms.saturating_mul(1000)),
                measured,
                bound: check.bound.filter(|b| b.is_finite()),
                satisfied: check.satisfied,
                evidence: if check.evidence.is_finite() {
                    check.evidence
                } else {
                    f64::MAX
                },
                stop_at: check.stop_at.filter(|at| at.is_finite()),
            });
        }
    }

    fn baseline(&mut self, taken: &BaselineTaken) {
        let of_probe = self
            .said
            .expectations
            .iter_mut()
            .filter(|e| e.probe == taken.probe);
        for (expectation, measured) in of_probe.zip(&taken.measured) {
            expectation.baseline = measured.filter(|m| m.is_finite());
        }
    }

    fn violated(&mut self, at: f64, violation: &Violation) {
        let named = &violation.expectation;
        let hit = self
            .said
            .expectations
            .iter_mut()
            .find(|e| e.probe == named.probe && e.text == named.text);
        if let Some(expectation) = hit {
            expectation.violated_at_ms.get_or_insert(at);
        }
        self.said.first_broken.get_or_insert_with(|| FirstBroken {
            probe: named.probe.clone(),
            expectation: named.text.clone(),
            measured: violation.measured.clone(),
            at_ms: at,
        });
        self.tell(
            at,
            format!(
                "{} of {} is violated: {}",
                named.text, named.probe, violation.measured
            ),
        );
        self.said.violations.push(ViolationReport {
            at_ms: at,
            probe: named.probe.clone(),
            expectation: named.text.clone(),
            measured: violation.measured.clone(),
            during: violation.during,
            samples: violation.samples,
            no_data: violation.no_data,
        });
    }

    fn ended(&mut self, at: f64, ended: &FaultEnded) {
        let fault = self.fault(&ended.id.0);
        fault.outcome = FaultOutcome::Ended(ended.cause.clone());
        fault.ended_at_ms = Some(at);
        fault.end_took_us = ended.took_us;
        if let Some(dose) = &ended.dose {
            fault.set_dose(at, dose);
        }
        let took = ended.took_us.map_or(String::new(), |us| {
            format!(", {} after the stop", span_ms(ms(us)))
        });
        let what = format!(
            "{} gone from {} ({}{took})",
            fault.fault,
            fault.target,
            cause_in_words(&ended.cause)
        );
        self.tell(at, what);
    }

    fn finished(&mut self, at: f64, finished: &Finished) {
        self.said.verdict = Some(finished.verdict);
        self.said.because.clone_from(&finished.because);
        self.said.timings.detect_ms = finished.detect_ms;
        self.said.timings.revert_ms = finished.revert_ms;
        self.said.timings.recover_ms = finished.recover_ms;
        if let Some(last) = self.said.phases.last_mut() {
            last.to_ms = last.to_ms.min(at);
        }
        self.tell(at, format!("verdict: {}", finished.verdict));
    }

    /// The fault of that name, added if no plan announced it.
    fn fault(&mut self, id: &str) -> &mut FaultReport {
        let known = self.places.get(id).copied();
        let place = known.unwrap_or_else(|| self.add(FaultReport::unknown(id)));
        &mut self.said.faults[place]
    }

    fn add(&mut self, fault: FaultReport) -> usize {
        let place = self.said.faults.len();
        // The first of a name is the one that is meant.
        self.places.entry(fault.id.clone()).or_insert(place);
        self.said.faults.push(fault);
        place
    }
}

/// When each stage's faults were in force: from its first, to the next stage's first or the last one gone.
fn stages(said: &mut Summary, end_ms: f64) {
    for stage in &mut said.stages {
        let armed = said.faults.iter().filter(|f| f.stage == stage.number);
        stage.from_ms = armed.filter_map(|f| f.armed_at_ms).min_by(f64::total_cmp);
    }
    let starts: Vec<Option<f64>> = said.stages.iter().map(|s| s.from_ms).collect();
    let in_force = said.faults.iter().filter(|f| f.armed_at_ms.is_some());
    let last_end = in_force
        .map(|f| f.ended_at_ms.unwrap_or(end_ms))
        .max_by(f64::total_cmp);
    for (index, stage) in said.stages.iter_mut().enumerate() {
        let next = starts[index + 1..].iter().flatten().next().copied();
        stage.to_ms = stage.from_ms.and(next.or(last_end));
    }
}

impl FaultReport {
    /// A fault of which only the name is known.
    fn unknown(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            stage: 0,
            fault: format!("fault {id}"),
            target: "a target no plan named".into(),
            node: String::new(),
            outcome: FaultOutcome::NotReached,
            armed_at_ms: None,
            ended_at_ms: None,
            arm_took_us: None,
            end_took_us: None,
            means: String::new(),
            held: Holding::Kernel,
            read_back: Vec::new(),
            warnings: Vec::new(),
            dose: None,
            dose_in_words: String::new(),
            pulses: Vec::new(),
        }
    }

    fn set_dose(&mut self, at_ms: f64, dose: &Dose) {
        self.dose_in_words = dose_in_words(dose);
        if let Dose::Pulsed(pulsed) = dose {
            let open = self.pulses.last_mut().filter(|last| last.to_ms.is_none());
            match (open, pulsed.is_on) {
                (None, true) => self.pulses.push(PulseReport {
                    from_ms: at_ms,
                    to_ms: None,
                }),
                (Some(open), false) => open.to_ms = Some(at_ms),
                (None, false) | (Some(_), true) => {}
            }
        }
        self.dose = Some(dose.clone());
    }
}

impl FaultReport {
    /// When it was in force, of a run that is told until `end_ms`.
    pub(super) fn spans(&self, end_ms: f64) -> Vec<(f64, f64)> {
        let last = self.ended_at_ms.unwrap_or(end_ms);
        if self.pulses.is_empty() {
            return self
                .armed_at_ms
                .map(|armed| (armed, last))
                .into_iter()
                .collect();
        }
        let pulses = self.pulses.iter();
        pulses
            .map(|p| (p.from_ms, p.to_ms.unwrap_or(last)))
            .collect()
    }
}

/// When at least one fault was in force, as stretches of time that do not touch, in order.
fn in_force(faults: &[FaultReport], end_ms: f64) -> Vec<(f64, f64)> {
    let mut spans: Vec<(f64, f64)> = faults.iter().flat_map(|f| f.spans(end_ms)).collect();
    spans.sort_by(|a, b| a.0.total_cmp(&b.0));
    spans.dedup_by(|next, so_far| {
        let touch = next.0 <= so_far.1;
        if touch {
            so_far.1 = so_far.1.max(next.1);
        }
        touch
    });
    spans
}

impl ExpectationReport {
    /// Looks at the windows under fault.
    fn sum_up(&mut self, in_force: &[(f64, f64)]) {
        self.windows_under_fault = 0;
        self.windows_unsatisfied = 0;
        self.worst_under_fault = None;
        self.worst_beside = None;
        let beside_control = self.is_beside_control();
        let one_sided = self.is_one_sided();
        for index in 0..self.points.len() {
            let point = self.points[index];
            if let Some(measured) = point.measured
                && point.is_under(in_force)
            {
                self.add_under_fault(&point, measured, one_sided);
                if beside_control && self.worst_under_fault == Some(measured) {
                    self.worst_beside = point.bound;
                }
            }
        }
    }

    /// Whether the bound is a limit on one side, so that what is satisfied is worse the nearer it is. From the middle
    /// of a band (`within 10% of baseline`), the farther is worse.
    fn is_one_sided(&self) -> bool {
        let read = self.text.parse::<Expectation>();
        read.map_or(true, |e| matches!(e.check, Check::Compare(..)))
    }

    fn add_under_fault(&mut self, point: &Point, measured: f64, one_sided: bool) {
        self.windows_under_fault += 1;
        let first_unsatisfied = !point.satisfied && self.windows_unsatisfied == 0;
        self.windows_unsatisfied += u64::from(!point.satisfied);
        // Past the bound, farther is worse; short of it, nearer is.
        let Some(bound) = point.bound else {
            self.worst_under_fault.get_or_insert(measured);
            return;
        };
        let distance = (measured - bound).abs();
        let so_far = self.worst_under_fault.map(|w| (w - bound).abs());
        let worse = match so_far {
            None => true,
            Some(_) if first_unsatisfied => true,
            Some(so_far) if !point.satisfied => distance > so_far,
            Some(_) if self.windows_unsatisfied > 0 => false,
            Some(so_far) if one_sided => distance < so_far,
            Some(so_far) => distance > so_far,
        };
        if worse {
            self.worst_under_fault = Some(measured);
        }
    }
}

impl Point {
    /// Whether the window says something of the time under fault: for a quarter of it a fault was in force, or it
    /// saw all of a shorter fault. Windows do not begin when faults do.
    fn is_under(&self, in_force: &[(f64, f64)]) -> bool {
        const SHARE_LEAST: f64 = 0.25;
        let from_ms = self.at_ms - self.length_ms;
        in_force.iter().any(|(armed, gone)| {
            let overlap = gone.min(self.at_ms) - armed.max(from_ms);
            overlap > 0.0 && (overlap >= SHARE_LEAST * self.length_ms || overlap >= gone - armed)
        })
    }
}
