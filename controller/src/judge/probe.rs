//! All expectations of one probe, through one phase after another.

use super::announced::Announced;
use super::control::Control;
use super::expectation::{Asked, Finding, Judged};
use super::spells::Spells;
use super::tally::Tally;
use super::trial::Trial;
use squall_experiments::enough::Pace;
use squall_experiments::event::{BaselineTaken, ExpectationRef, Window};
use squall_experiments::expectation::Measure;
use squall_experiments::experiment::SteadyState;
use squall_experiments::probe::OnError;
use std::time::Duration;

/// Windows are a second long, or as long as a slower probe's interval.
const WINDOW_US_MIN: u64 = 1_000_000;

const NS_PER_US: u64 = 1_000;

/// What the whole file decides for each of its judges.
#[derive(Debug, Clone, Copy)]
pub struct JudgeSettings {
    /// The chance of ever confirming one healthy expectation in one phase: the file's `falseStop`, split over its expectations and phases.
    pub alpha: f64,
    /// How sure a share must be within its bound before it is called so: the file's `confidence`. It is not split, since
    /// all expectations must be shown.
    pub confidence: f64,
}

/// A confirmed violation.
#[derive(Debug, Clone, PartialEq)]
pub struct Confirmed {
    /// Which expectation.
    pub expectation: ExpectationRef,
    /// In words, with the figures.
    pub measured: String,
    /// What it rests on: attempts, or windows for what is judged by windows.
    pub samples: u64,
    /// There was no data.
    pub no_data: bool,
}

/// Judges one probe. Times are microseconds since the Unix epoch.
#[derive(Debug, Clone)]
pub struct Judge {
    name: String,
    pace: Pace,
    expectations: Vec<Judged>,
    /// Only attempts that were due from here on say anything about the phase.
    since_us: u64,
    window_us: u64,
    window_began_us: u64,
    /// Nothing heard for so long is a violation.
    silence_us: u64,
    heard_us: u64,
    silent: bool,
    confirm: u32,
    /// What is shown: every attempt that ended in the window.
    shown: Tally,
    /// Those of them that belong to the phase.
    judged: Tally,
    phase: Tally,
    /// What is judged: windows of what was due in them.
    spells: Spells,
    good_windows_in_row: u32,
    data_windows: u64,
    /// The attempts that are under way.
    announced: Announced,
    /// So many of the phase were given up.
    missing: u64,
    /// The phase is over since then, where it is.
    until_us: Option<u64>,
    /// The group beside it.
    control: Option<Control>,
}

impl Judge {
    /// Judges `probe` from `now_us` on.
    #[must_use]
    pub fn new(steady: &SteadyState, settings: JudgeSettings, now_us: u64) -> Self {
        let cadence = steady.probe.cadence();
        let (every_us, timeout_us) = (us(cadence.every), us(cadence.timeout));
        let window_us = WINDOW_US_MIN.max(every_us.div_ceil(WINDOW_US_MIN) * WINDOW_US_MIN);
        let mut bodies = 0..;
        let asked = Asked {
            noun: cadence.noun,
            every_us,
            confirm: steady.confirm,
            clear: steady.clear,
            block_us: steady.block.map(|block| block.get() / NS_PER_US),
            window_us,
            since_us: now_us,
        };
        // What may be left out without a word is not known to be missing.
        let regular = cadence.trouble.on_error != OnError::Ignore;
        let expectations = steady
            .expect
            .iter()
            .map(|expectation| {
                let body = matches!(expectation.measure, Measure::Body(_));
                let reference = ExpectationRef {
                    probe: steady.name.clone(),
                    text: expectation.to_string(),
                };
                let body = body.then(|| bodies.next()).flatten();
                Judged::new(expectation, reference, asked, body, settings)
            })
            .collect();
        let control = steady.compare.is_some();
        Self {
            name: steady.name.clone(),
            pace: Pace::of(steady),
            expectations,
            since_us: now_us,
            window_us,
            window_began_us: now_us,
            silence_us: timeout_us + window_us * u64::from(steady.confirm.max(1)),
            heard_us: now_us,
            silent: false,
            confirm: steady.confirm.max(1),
            shown: Tally::new(),
            judged: Tally::new(),
            phase: Tally::new(),
            spells: Spells::new(now_us, window_us, regular),
            good_windows_in_row: 0,
            data_windows: 0,
            announced: Announced::new(every_us, regular),
            missing: 0,
            until_us: None,
            control: control.then(|| Control::new(now_us, Announced::new(every_us, regular))),
        }
    }

    /// The expectations, in the file's order.
    pub fn expectations(&self) -> impl Iterator<Item = &ExpectationRef> {
        self.expectations.iter().map(|judged| &judged.reference)
    }

    /// A new phase begins: it is judged by attempts due from `since_us` on alone. What the window under way showed
    /// so far is returned, where it showed anything.
    pub fn begin(&mut self, now_us: u64, since_us: u64) -> Option<Window> {
        let window = self.show(now_us);
        self.since_us = since_us;
        self.window_began_us = now_us;
        self.good_windows_in_row = 0;
        self.data_windows = 0;
        self.missing = 0;
        self.phase.clear();
        self.spells.begin(since_us);
        self.announced.begin(since_us);
        for judged in &mut self.expectations {
            judged.begin(since_us);
        }
        for due_us in self.announced.open() {
            for judged in &mut self.expectations {
                judged.begun(*due_us);
            }
        }
        if let Some(control) = &mut self.control {
            control.begin(since_us);
        }
        (window.attempts > 0).then_some(window)
    }

    /// An attempt that was due then is under way. Those that nobody announces are judged when they end; one that is left out between two that
    /// are announced is under way from here on, and will be given up.
    pub fn begun(&mut self, due_us: u64) {
        let mut under_way = self.announced.begun(due_us, self.since_us);
        under_way.push(due_us);
        self.under_way(under_way);
    }

    fn under_way(&mut self, mut due: Vec<u64>) {
        if let Some(until_us) = self.until_us {
            due.retain(|due_us| *due_us < until_us);
            self.announced.end(until_us);
        }
        due.retain(|due_us| *due_us >= self.since_us);
        for due_us in due {
            for judged in &mut self.expectations {
                judged.begun(due_us);
            }
        }
    }

    /// The same of the control's double of it.
    pub fn begun_of_control(&mut self, due_us: u64) {
        let Some(control) = &mut self.control else {
            return;
        };
        let mut due = control.announced.begun(due_us, self.since_us);
        due.push(due_us);
        if let Some(until_us) = self.until_us {
            due.retain(|due_us| *due_us < until_us);
            control.announced.end(until_us);
        }
        for due_us in due {
            for judged in &mut self.expectations {
                judged.begun_of_control(due_us);
            }
        }
    }

    /// Takes one attempt of the control and says what it confirmed.
    pub fn take_of_control(&mut self, trial: &Trial) -> Vec<Confirmed> {
        let Some(control) = &mut self.control else {
            return Vec::new();
        };
        control.heard(trial);
        if !control.announced.ended(trial.due_us) || trial.due_us < self.since_us {
            return Vec::new();
        }
        control.take(trial);
        self.spells.take_of_control(trial);
        self.each(|judged| judged.take_control(trial))
    }

    /// What an expectation has to say of something, all of it.
    fn each(&mut self, mut found: impl FnMut(&mut Judged) -> Option<Finding>) -> Vec<Confirmed> {
        let found = self.expectations.iter_mut().filter_map(|judged| {
            let finding = found(judged)?;
            Some(confirmed(&judged.reference, finding))
        });
        found.collect()
    }

    /// Looks at the attempts under way: which are later than a bound already?
    pub fn overdue(&mut self, now_us: u64) -> Vec<Confirmed> {
        let (open, since_us) = (self.announced.open(), self.since_us);
        let found = self.expectations.iter_mut().filter_map(|judged| {
            let finding = judged.overdue(open, since_us, now_us)?;
            Some(confirmed(&judged.reference, finding))
        });
        found.collect()
    }

    /// Takes one attempt and says what it confirmed.
    pub fn take(&mut self, trial: &Trial) -> Vec<Confirmed> {
        self.heard_us = self.heard_us.max(trial.ended_us);
        if !self.announced.ended(trial.due_us) {
            return Vec::new();
        }
        self.shown.take(trial);
        if trial.due_us < self.since_us {
            return Vec::new();
        }
        self.tally(trial);
        self.each(|judged| judged.take(trial))
    }

    /// Adds an attempt of the phase.
    fn tally(&mut self, trial: &Trial) {
        self.judged.take(trial);
        self.phase.take(trial);
        self.spells.take(trial);
    }

    /// The clock went on. Ends the windows that are full, and listens for silence.
    pub fn tick(&mut self, now_us: u64) -> (Option<Window>, Vec<Confirmed>) {
        let mut found = self.tick_after(now_us);
        let mut window = None;
        // An attempt each second falls now into one window and now into the next: an empty one may wait for it.
        let patience = if self.shown.attempts == 0 { 2 } else { 1 };
        if now_us >= self.window_began_us + patience * self.window_us {
            window = Some(self.show(now_us));
            self.window_began_us = now_us;
        }
        let silent = now_us.saturating_sub(self.heard_us) >= self.silence_us;
        if silent && !self.silent {
            found.extend(self.silence(now_us));
        }
        self.silent = silent;
        found.extend(self.silence_of_control(now_us));
        (window, found)
    }

    /// The clock went on: counts what came to be known by that, of late attempts, of missing ones, of blocks and of windows.
    pub fn tick_after(&mut self, now_us: u64) -> Vec<Confirmed> {
        let mut found = self.overdue(now_us);
        let given_up_us = now_us.saturating_sub(self.silence_us);
        found.extend(self.give_up(given_up_us));
        let waiting_since_us = self.announced.oldest(self.since_us);
        found.extend(self.each(|judged| judged.complete(now_us, waiting_since_us, given_up_us)));
        found.extend(self.close(now_us, false));
        found
    }

    /// Counts what was due before `before_us` and is still under way as violating: a probe ends its attempts itself, after its timeout at the
    /// latest, so that nothing will be heard of them any more.
    fn give_up(&mut self, before_us: u64) -> Vec<Confirmed> {
        let mut found = Vec::new();
        for due_us in self.announced.give_up(self.since_us, before_us) {
            self.missing += 1;
            let missing = Trial::missing(due_us, self.silence_us);
            self.shown.take(&missing);
            self.tally(&missing);
            found.extend(self.each(|judged| judged.lost(&missing)));
        }
        let lost = self.control.as_mut().map(|control| {
            let lost = control.announced.give_up(self.since_us, before_us);
            lost.into_iter()
        });
        for due_us in lost.into_iter().flatten() {
            found.extend(self.each(|judged| judged.lost_of_control(due_us)));
        }
        found
    }

    /// The phase ended at `until_us`; from now on only attempts that were due in it and are still under way say anything of it.
    pub fn end(&mut self, until_us: u64) {
        self.until_us = Some(until_us);
        self.announced.end(until_us);
        if let Some(control) = &mut self.control {
            control.announced.end(until_us);
        }
        self.shown = Tally::of_window();
        self.judged = Tally::of_window();
    }

    /// Whether every attempt of the phase was heard, or was given up.
    #[must_use]
    pub fn heard(&self) -> bool {
        self.announced.oldest(self.since_us).is_none()
    }

    /// Whatever is still under way will not be heard any more: it counts as violating.
    pub fn lost(&mut self) -> Vec<Confirmed> {
        let mut found = self.give_up(u64::MAX);
        found.extend(self.each(|judged| judged.complete(u64::MAX, None, u64::MAX)));
        found.extend(self.close(u64::MAX, true));
        found
    }

    fn silence(&self, now_us: u64) -> Option<Confirmed> {
        let seconds = now_us.saturating_sub(self.heard_us) / 1_000_000;
        self.expectations.first().map(|judged| Confirmed {
            expectation: judged.reference.clone(),
            measured: format!("nothing was heard of the probe for {seconds}s"),
            samples: 0,
            no_data: true,
        })
    }

    /// Nothing is known of a group beside which nobody answers.
    fn silence_of_control(&mut self, now_us: u64) -> Option<Confirmed> {
        let seconds = self
            .control
            .as_mut()?
            .falls_silent(now_us, self.silence_us)?;
        let beside = |judged: &&Judged| judged.is_beside_control();
        let judged = self.expectations.iter().find(beside)?;
        Some(Confirmed {
            expectation: judged.reference.clone(),
            measured: format!("nothing was heard of the control for {seconds}s"),
            samples: 0,
            no_data: true,
        })
    }

    /// Ends the window that is shown.
    fn show(&mut self, now_us: u64) -> Window {
        let length_us = now_us.saturating_sub(self.window_began_us);
        let mut window = self.shown.window(&self.name, length_us);
        let control = self.control.as_ref().map(Control::tally);
        for judged in &mut self.expectations {
            window
                .checks
                .push(judged.show(&self.judged, control, length_us));
        }
        self.shown.clear();
        self.judged.clear();
        if let Some(control) = &mut self.control {
            control.clear();
        }
        window
    }

    /// Judges the windows that are over, and all of whose attempts were heard, or which are to be judged without.
    fn close(&mut self, now_us: u64, without: bool) -> Vec<Confirmed> {
        let mut found = Vec::new();
        loop {
            let oldest = [
                self.announced.oldest(self.since_us),
                self.control
                    .as_ref()
                    .and_then(|control| control.announced.oldest(self.since_us)),
            ];
            let waiting_us = oldest.into_iter().flatten().min().filter(|_| !without);
            let until_us = self.until_us.unwrap_or(now_us).min(now_us);
            let used = self.announced.is_used();
            let Some(spell) = self
                .spells
                .next(now_us, until_us, waiting_us, used && !without)
            else {
                return found;
            };
            let has_data = spell.group.attempts > 0;
            let mut good = has_data;
            let control = self.control.is_some().then_some(&spell.control);
            for judged in &mut self.expectations {
                let (satisfied, finding) = judged.close(spell.number, &spell.group, control);
                good &= satisfied;
                found.extend(finding.map(|finding| confirmed(&judged.reference, finding)));
            }
            self.data_windows += u64::from(has_data);
            self.good_windows_in_row = if good {
                self.good_windows_in_row + 1
            } else {
                0
            };
        }
    }

    /// Whether the steady state of this probe is back: the last `confirm` whole windows of the phase each had data and each satisfied every expectation.
    #[must_use]
    pub const fn recovered(&self) -> bool {
        self.good_windows_in_row >= self.confirm
    }

    /// Takes what the phase measured as the baseline.
    pub fn take_baseline(&mut self, now_us: u64) -> BaselineTaken {
        // What its windows confirm now says that it is not fit.
        let _found = self.close(now_us, true);
        let length_us = now_us.saturating_sub(self.since_us);
        let phase = &self.phase;
        let measured = self.expectations.iter_mut();
        BaselineTaken {
            probe: self.name.clone(),
            attempts: phase.attempts,
            measured: measured
                .map(|judged| judged.take_baseline(phase, length_us))
                .collect(),
        }
    }

    /// Why the phase is not one to start from, where it is not: no answers, too few, or an expectation that does
    /// not hold. Asked after [`Judge::take_baseline`].
    #[must_use]
    pub fn unfit(&self) -> Option<String> {
        let name = &self.name;
        if self.phase.attempts == 0 {
            return Some(format!("probe `{name}` gave no data"));
        }
        if self.control.as_ref().is_some_and(Control::gave_nothing) {
            return Some(format!("the control of probe `{name}` gave no data"));
        }
        if self.missing > 0 {
            let (missing, all) = (self.missing, self.phase.attempts);
            return Some(format!(
                "probe `{name}`: of {all} attempts {missing} were due and never heard of"
            ));
        }
        if let Some(reason) = self.expectations.iter().find_map(Judged::unfit) {
            return Some(format!("probe `{name}`: {reason}"));
        }
        let (had, wanted) = (self.data_windows, u64::from(self.confirm));
        (had < wanted).then(|| {
            format!("probe `{name}` gave data in {had} windows of {} and {wanted} are needed: make the baseline longer", seconds(self.window_us))
        })
    }

    /// What is missing before the phase's silence says that every expectation held, where something is.
    #[must_use]
    pub fn unproven(&self) -> Option<String> {
        let name = &self.name;
        let mut missing = self
            .expectations
            .iter()
            .filter_map(|judged| judged.unproven(self.pace));
        missing.next().map(|what| format!("probe `{name}`: {what}"))
    }

    /// What the phase showed of each expectation that is a share of attempts, in words.
    #[must_use]
    pub fn shown(&self) -> Vec<String> {
        let shown = self.expectations.iter().filter_map(Judged::shown);
        shown.map(|what| format!("{}: {what}", self.name)).collect()
    }
}

fn confirmed(reference: &ExpectationRef, finding: Finding) -> Confirmed {
    Confirmed {
        expectation: reference.clone(),
        measured: finding.measured,
        samples: finding.samples,
        no_data: finding.no_data,
    }
}

fn seconds(us: u64) -> String {
    format!("{}s", us / 1_000_000)
}

fn us(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
