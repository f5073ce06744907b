//! What happens on a game day, as people read it: in the terminal, and in the report.

use super::event::{Action, DayEvent, Declined, HandedOver, Opened, StepEnded, What};
use super::report::at_clock;
use jiff::tz::TimeZone;
use squall_experiments::verdict::Verdict;

/// How something is meant to be seen.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub enum Tone {
    /// As hoped.
    Good,
    /// Something broke.
    Bad,
    /// Something to look at.
    Unsure,
    /// For the record.
    Quiet,
}

impl Tone {
    /// A class of the reports' style sheet.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Bad => "bad",
            Self::Unsure => "unsure",
            Self::Quiet => "quiet",
        }
    }

    /// Of a verdict, or of none.
    #[must_use]
    pub const fn of(verdict: Option<Verdict>) -> Self {
        match verdict {
            Some(Verdict::Held) => Self::Good,
            Some(Verdict::Broken) => Self::Bad,
            Some(Verdict::Inconclusive | Verdict::Halted) | None => Self::Unsure,
            Some(Verdict::Refused) => Self::Quiet,
        }
    }
}

/// One line of the timeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Who; none where it happened by itself.
    pub who: Option<String>,
    /// What.
    pub what: String,
    /// How it is meant to be seen.
    pub tone: Tone,
}

/// Tells events one after another.
#[derive(Debug, Default)]
pub struct Teller {
    /// The experiments' names.
    names: Vec<String>,
    /// In which time zone the day is.
    zone: Option<TimeZone>,
}

impl Teller {
    /// The time of an event, as the clock of the day's place shows it.
    #[must_use]
    pub fn clock(&self, event: &DayEvent) -> String {
        at_clock(event.at_us, self.zone.as_ref())
    }

    fn step(&self, step: u32) -> String {
        let index = usize::try_from(step).unwrap_or_default().wrapping_sub(1);
        let name = self.names.get(index);
        name.map_or_else(
            || format!("step {step}"),
            |name| format!("step {step}, {name}"),
        )
    }

    /// The next event, in words.
    pub fn tell(&mut self, what: &What) -> Line {
        if let What::Opened(opened) = what {
            let all = &opened.experiments;
            self.names = all.iter().map(|e| e.name.clone()).collect();
            self.zone = TimeZone::get(&opened.game_day.time_zone).ok();
        }
        match what {
            What::Opened(opened) => self.opened(opened),
            What::Go(go) => {
                let run = format!("go: {} as run {}", self.step(go.step), go.run);
                said(&go.by, with(run, &go.because), Tone::Good)
            }
            What::Refused(not) => {
                let what = format!("{} is not let begin", self.step(not.step));
                happened(with(what, &not.reasons.join("; ")), Tone::Unsure)
            }
            What::Began(began) => {
                let what = format!("{} is under way", self.step(began.step));
                happened(what, Tone::Quiet)
            }
            What::NoGo(no) => self.declined("no-go:", no),
            What::Skipped(no) => self.declined("leaves out", no),
            What::Stopped(stop) => {
                let what = format!("stops {}", self.step(stop.step));
                said(&stop.by, with(what, &stop.because), Tone::Bad)
            }
            What::Ended(ended) => self.ended(ended),
            What::HandedOver(handed) => handed_over(handed),
            What::Noted(note) => said(&note.by, note.text.clone(), Tone::Quiet),
            What::Action(action) => to_be_done(action),
            What::TakenUp(controller) => {
                let address = &controller.address;
                let what = format!("the controller at {address} goes on with the day");
                happened(what, Tone::Unsure)
            }
            What::Over(over) => {
                let what = "ends the game day".to_owned();
                said(&over.by, with(what, &over.because), Tone::Quiet)
            }
        }
    }

    fn opened(&self, opened: &Opened) -> Line {
        let name = &opened.game_day.metadata.name;
        let leader = opened.game_day.leader();
        let leader = leader.map_or("nobody", |leader| &leader.name);
        let of = opened.source.as_ref();
        let of = of.map_or_else(String::new, |commit| format!(" of commit {commit}"));
        let what = format!("opens {name}{of}; {leader} has the lead");
        said(&opened.by, what, Tone::Quiet)
    }

    fn declined(&self, how: &str, no: &Declined) -> Line {
        let what = format!("{how} {}", self.step(no.step));
        said(&no.by, with(what, &no.because), Tone::Unsure)
    }

    fn ended(&self, ended: &StepEnded) -> Line {
        let verdict = ended.verdict;
        let words = verdict.map_or("no verdict".to_owned(), |v| v.to_string());
        let what = format!("{} ended: {words}", self.step(ended.step));
        happened(with(what, &ended.because), Tone::of(verdict))
    }
}

fn handed_over(handed: &HandedOver) -> Line {
    let what = if handed.by == handed.to {
        "takes the lead".to_owned()
    } else {
        format!("gives the lead to {}", handed.to)
    };
    said(&handed.by, with(what, &handed.because), Tone::Unsure)
}

fn to_be_done(action: &Action) -> Line {
    let due = action.due;
    let due = due.map_or_else(String::new, |due| format!(" until {due}"));
    let what = format!("to be done by {}{due}: {}", action.owner, action.text);
    said(&action.by, what, Tone::Quiet)
}

fn said(who: &str, what: String, tone: Tone) -> Line {
    Line {
        who: Some(who.to_owned()),
        what,
        tone,
    }
}

fn happened(what: String, tone: Tone) -> Line {
    Line {
        who: None,
        what,
        tone,
    }
}

fn with(what: String, because: &str) -> String {
    if because.is_empty() {
        what
    } else {
        format!("{what}: {because}")
    }
}
