//! From events, the day's and its runs', to a [`DayReport`]. Total: a record that is torn off folds too.

use super::{
    ActionReport, DayMoment, DayReport, HandOverReport, NoGoReport, NoteReport, RunReport,
    StepReport,
};
use crate::gameday::event::{DayEvent, DayId, Declined, HandedOver, Opened, What};
use crate::gameday::words::{Line, Teller, Tone};
use crate::report::Summary;
use crate::report::words::stop_in_words;
use squall_experiments::event::{Event, Happening, StopReason};
use squall_experiments::ids::RunId;
use std::collections::BTreeMap;

impl DayReport {
    /// Tells a day from its events, and from those of its runs as far as there are any.
    #[must_use]
    pub fn of(id: &DayId, events: &[DayEvent], runs: &BTreeMap<RunId, Vec<Event>>) -> Self {
        let mut telling = Telling {
            said: Self::empty(id),
            teller: Teller::default(),
        };
        for event in events {
            telling.take(event);
        }
        for (run, events) in runs {
            telling.run(run, events);
        }
        // Stable: what happened at one moment stays in its order.
        telling.said.timeline.sort_by_key(|moment| moment.at_us);
        telling.said
    }

    fn empty(id: &DayId) -> Self {
        Self {
            version: Self::VERSION,
            id: id.0.clone(),
            name: String::new(),
            owner: None,
            runbook: None,
            date: None,
            time_zone: String::new(),
            objectives: Vec::new(),
            people: Vec::new(),
            lead: String::new(),
            opened_us: 0,
            opened_by: String::new(),
            ended_us: None,
            conclusion: None,
            steps: Vec::new(),
            no_gos: Vec::new(),
            hand_overs: Vec::new(),
            actions: Vec::new(),
            notes: Vec::new(),
            timeline: Vec::new(),
        }
    }
}

struct Telling {
    said: DayReport,
    teller: Teller,
}

impl Telling {
    fn take(&mut self, event: &DayEvent) {
        let at_us = event.at_us;
        let line = self.teller.tell(&event.what);
        self.line(at_us, line);
        match &event.what {
            What::Opened(opened) => self.opened(at_us, opened),
            What::Go(go) => self.go(at_us, go.step, &go.by, &go.run),
            What::Refused(not) => {
                self.not_gone(at_us, not.step, None, not.reasons.join("; "), false);
                // It never was a run.
                self.drop_run(&not.run);
            }
            What::Began(_) | What::TakenUp(_) => {}
            What::NoGo(said) => self.decided(at_us, said, false),
            What::Skipped(said) => {
                self.decided(at_us, said, true);
                if let Some(step) = self.step(said.step) {
                    step.skipped_by = Some(said.by.clone());
                }
            }
            What::Stopped(stopped) => {
                if let Some(run) = self.of_run(&stopped.run) {
                    run.stopped_by.get_or_insert_with(|| stopped.by.clone());
                }
            }
            What::Ended(ended) => {
                if let Some(run) = self.of_run(&ended.run) {
                    run.ended_us = Some(at_us);
                    run.verdict = ended.verdict;
                    run.because.clone_from(&ended.because);
                }
            }
            What::HandedOver(handed) => self.handed_over(at_us, handed),
            What::Noted(note) => self.said.notes.push(NoteReport {
                at_us,
                by: note.by.clone(),
                text: note.text.clone(),
            }),
            What::Action(action) => self.said.actions.push(ActionReport {
                text: action.text.clone(),
                owner: action.owner.clone(),
                due: action.due,
                by: action.by.clone(),
            }),
            What::Over(over) => {
                self.said.ended_us = Some(at_us);
                self.said.conclusion = Some(over.because.clone()).filter(|said| !said.is_empty());
            }
        }
    }

    fn line(&mut self, at_us: u64, line: Line) {
        self.said.timeline.push(DayMoment {
            at_us,
            who: line.who,
            what: line.what,
            tone: line.tone,
        });
    }

    fn opened(&mut self, at_us: u64, opened: &Opened) {
        let (day, said) = (&opened.game_day, &mut self.said);
        said.name.clone_from(&day.metadata.name);
        said.owner.clone_from(&day.metadata.owner);
        said.runbook.clone_from(&day.metadata.runbook);
        said.date = Some(day.date);
        said.time_zone.clone_from(&day.time_zone);
        said.objectives.clone_from(&day.objectives);
        said.people.clone_from(&day.people);
        said.lead = day.leader().map_or_else(String::new, |p| p.name.clone());
        said.opened_us = at_us;
        said.opened_by.clone_from(&opened.by);
        let steps = (1..).zip(day.experiments.iter().zip(&opened.experiments));
        said.steps = steps
            .map(|(step, (round, planned))| StepReport {
                step,
                file: round.file.clone(),
                name: planned.name.clone(),
                hypothesis: planned.hypothesis.clone(),
                environment: planned.environment.clone(),
                before: round.before.clone(),
                skipped_by: None,
                runs: Vec::new(),
            })
            .collect();
    }

    fn step(&mut self, step: u32) -> Option<&mut StepReport> {
        self.said.steps.iter_mut().find(|known| known.step == step)
    }

    fn of_run(&mut self, run: &RunId) -> Option<&mut RunReport> {
        let all = self.said.steps.iter_mut().flat_map(|step| &mut step.runs);
        let mut found = all.filter(|known| known.run == run.0);
        found.next()
    }

    fn drop_run(&mut self, run: &RunId) {
        for step in &mut self.said.steps {
            step.runs.retain(|known| known.run != run.0);
        }
    }

    fn go(&mut self, at_us: u64, step: u32, by: &str, run: &RunId) {
        let said = RunReport {
            run: run.0.clone(),
            go_by: by.to_owned(),
            go_us: at_us,
            ..RunReport::default()
        };
        if let Some(step) = self.step(step) {
            step.runs.push(said);
        }
    }

    fn decided(&mut self, at_us: u64, said: &Declined, skipped: bool) {
        let (by, because) = (Some(said.by.clone()), said.because.clone());
        self.not_gone(at_us, said.step, by, because, skipped);
    }

    fn not_gone(
        &mut self,
        at_us: u64,
        step: u32,
        by: Option<String>,
        because: String,
        skipped: bool,
    ) {
        let name = self.step(step).map(|known| known.name.clone());
        self.said.no_gos.push(NoGoReport {
            at_us,
            step,
            name: name.unwrap_or_default(),
            by,
            because,
            skipped,
        });
    }

    fn handed_over(&mut self, at_us: u64, handed: &HandedOver) {
        let from = std::mem::replace(&mut self.said.lead, handed.to.clone());
        self.said.hand_overs.push(HandOverReport {
            at_us,
            from,
            to: handed.to.clone(),
            by: handed.by.clone(),
            because: handed.because.clone(),
        });
    }

    /// What a run's own record says of it.
    fn run(&mut self, run: &RunId, events: &[Event]) {
        let times = Times::of(events);
        let summary = Summary::of(events);
        let Some(said) = self.of_run(run) else { return };
        said.recorded = !events.is_empty();
        said.fault_in_us = times.fault_in;
        said.fault_gone_us = times.fault_gone;
        said.detect_ms = times.detect_ms();
        said.recover_ms = summary.timings.recover_ms;
        let armed = summary.faults.iter().filter(|f| f.armed_at_ms.is_some());
        for fault in armed {
            let words = format!("{} on {}", fault.fault, fault.target);
            if !said.faults.contains(&words) {
                said.faults.push(words);
            }
        }
        said.broke = summary.first_broken;
        for (at_us, what, tone) in times.turns {
            let who = None;
            self.line(at_us, Line { who, what, tone });
        }
    }
}

/// A run's turns that matter to the day.
#[derive(Default)]
struct Times {
    fault_in: Option<u64>,
    fault_gone: Option<u64>,
    stop_decided: Option<u64>,
    turns: Vec<(u64, String, Tone)>,
}

impl Times {
    fn of(events: &[Event]) -> Self {
        let mut times = Self::default();
        for event in events {
            times.take(event.at_us, &event.what);
        }
        if let Some(gone) = times.fault_gone {
            let what = "the last fault is gone".to_owned();
            times.turns.push((gone, what, Tone::Quiet));
        }
        times
    }

    fn take(&mut self, at_us: u64, what: &Happening) {
        let mut turn = |what: String, tone| self.turns.push((at_us, what, tone));
        match what {
            Happening::Armed(_) if self.fault_in.is_none() => {
                turn("the first fault is in force".into(), Tone::Unsure);
                self.fault_in = Some(at_us);
            }
            Happening::Ended(_) if self.fault_in.is_some() => self.fault_gone = Some(at_us),
            Happening::Stuck(stuck) => turn(
                format!("a fault cannot be shown gone: {}", stuck.reason),
                Tone::Bad,
            ),
            Happening::Violated(violation) => {
                let named = &violation.expectation;
                let what = format!("{} of {} is violated", named.text, named.probe);
                turn(format!("{what}: {}", violation.measured), Tone::Bad);
            }
            Happening::StopDecided(StopReason::Done) => {}
            Happening::StopDecided(reason) => {
                let what = format!("the run is to end: {}", stop_in_words(reason));
                turn(what, Tone::Unsure);
                self.stop_decided.get_or_insert(at_us);
            }
            Happening::Recovered => turn("the steady state is proven back".into(), Tone::Good),
            _ => {}
        }
    }

    /// Nothing is detected before there is something.
    fn detect_ms(&self) -> Option<f64> {
        let span_us = self.stop_decided?.checked_sub(self.fault_in?)?;
        #[expect(
            clippy::cast_precision_loss,
            reason = "differences within a run stay far below 2^53 microseconds"
        )]
        Some(span_us as f64 / 1000.0)
    }
}
