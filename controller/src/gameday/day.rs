//! The life of a game day, pure.
//!
//! ```text
//!           go                began                 ended
//!  Waiting ────▶ Starting ────────▶ Running ──────────────────▶ Waiting (the next step) ─▶ … ─▶ Through
//!   │  ▲  ▲         │ refused         │ ended and showed nothing: refused, inconclusive
//!   │  │  └─────────┴─────────────────┘
//!   │  └─ no-go (the same step)
//!   ├─ skip ─▶ Waiting (the next step), or Through
//!   └─ over ─▶ Over ◀─ over ─ Through
//! ```
//!
//! - **Waiting**: a step waits for the lead's go.
//! - **Starting**: go was said; its run is being let in, or not.
//! - **Running**: its run is under way. A stop is taken in both, from everybody, as often as it is said.
//! - **Through**: no step is left.
//! - **Over**: notes and action items alone may follow, at any time.
//!
//! Go, no-go, skip and over are the lead's. Who has the lead may give it to anybody but an observer; a deputy, and the leader whom
//! the file names, may take it.

use super::event::{Controller, DayEvent, HandedOver, Opened, StepEnded, What};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use squall_experiments::game_day::{GameDay, Role};
use squall_experiments::ids::RunId;
use squall_experiments::verdict::Verdict;

/// Where a day is in its life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", tag = "is")]
pub enum Phase {
    /// A step waits for go.
    Waiting {
        /// Which.
        step: u32,
    },
    /// A run is being let in.
    Starting {
        /// Of which step.
        step: u32,
        /// Which.
        run: RunId,
        /// Somebody has stopped it already.
        stopped: bool,
    },
    /// A run is under way.
    Running {
        /// Of which step.
        step: u32,
        /// Which.
        run: RunId,
        /// Somebody has stopped it.
        stopped: bool,
    },
    /// No step is left.
    Through,
    /// The day is over.
    Over,
}

/// A game day up to now: the fold of its events.
#[derive(Debug, Clone, PartialEq)]
pub struct Day {
    /// What was opened.
    pub opened: Opened,
    /// Where it is.
    pub phase: Phase,
    /// Who has the lead.
    pub lead: String,
    /// The controller that has it.
    pub controller: Controller,
}

/// Why something cannot happen, as whoever wanted it is told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum No {
    /// The record begins otherwise.
    #[error("a game day begins when it is opened, and is opened once")]
    NotOpened,
    /// Somebody else.
    #[error(
        "{0} takes no part in this game day: its people are named in its file, as their tokens are"
    )]
    Stranger(String),
    /// Not the lead.
    #[error(
        "{lead} has the lead: go, no-go, skip and the end are theirs to say; a deputy takes the lead with `squall gameday hand-over`"
    )]
    NotTheLead {
        /// Who has it.
        lead: String,
    },
    /// Nobody who may take the lead.
    #[error(
        "{0} cannot take the lead: a deputy can, and the leader that the file names; whoever has it may give it to others"
    )]
    NoDeputy(String),
    /// An observer is given the lead.
    #[error("{0} looks on: an observer cannot have the lead")]
    Observer(String),
    /// They have it.
    #[error("{0} has the lead already")]
    Already(String),
    /// Another step is next.
    #[error("step {step} is not next: step {waiting} waits for go or no-go")]
    OutOfOrder {
        /// What was said.
        step: u32,
        /// What waits.
        waiting: u32,
    },
    /// A run is under way.
    #[error("step {step} is under way as run {run}: wait for its end, or stop it")]
    UnderWay {
        /// Which step.
        step: u32,
        /// Which run.
        run: RunId,
    },
    /// No run is under way.
    #[error("no step is under way")]
    NothingRuns,
    /// Another run is.
    #[error("run {0} is not the one that is under way")]
    AnotherRun(RunId),
    /// All steps are done.
    #[error("no step is left: end the game day")]
    Through,
    /// It is over.
    #[error("the game day is over")]
    Over,
}

impl No {
    /// Whether it is about who asked, and not about when.
    #[must_use]
    pub const fn is_about_who(&self) -> bool {
        matches!(
            self,
            Self::Stranger(_) | Self::NotTheLead { .. } | Self::NoDeputy(_)
        )
    }
}

impl Day {
    /// The day that these events tell of.
    ///
    /// # Errors
    /// One of them cannot have happened.
    pub fn of(events: &[DayEvent]) -> Result<Self, No> {
        let (first, later) = events.split_first().ok_or(No::NotOpened)?;
        let What::Opened(opened) = &first.what else {
            return Err(No::NotOpened);
        };
        let mut day = Self::opened(opened)?;
        for event in later {
            day = day.next(&event.what)?;
        }
        Ok(day)
    }

    fn opened(opened: &Opened) -> Result<Self, No> {
        let leader = opened.game_day.leader().ok_or(No::NotOpened)?;
        Ok(Self {
            lead: leader.name.clone(),
            controller: opened.controller.clone(),
            phase: if opened.experiments.is_empty() {
                Phase::Through
            } else {
                Phase::Waiting { step: 1 }
            },
            opened: opened.clone(),
        })
    }

    /// Its file.
    #[must_use]
    pub const fn game_day(&self) -> &GameDay {
        &self.opened.game_day
    }

    /// The run that is being started or under way.
    #[must_use]
    pub const fn run(&self) -> Option<&RunId> {
        match &self.phase {
            Phase::Starting { run, .. } | Phase::Running { run, .. } => Some(run),
            _ => None,
        }
    }

    /// Whether that run was stopped by somebody.
    #[must_use]
    pub const fn is_stopped(&self) -> bool {
        matches!(
            self.phase,
            Phase::Starting { stopped: true, .. } | Phase::Running { stopped: true, .. }
        )
    }

    /// The day after something has happened.
    ///
    /// # Errors
    /// It cannot happen, or not by that person.
    pub fn next(&self, what: &What) -> Result<Self, No> {
        let mut day = self.clone();
        match what {
            What::Opened(_) => return Err(No::NotOpened),
            What::Go(go) => {
                self.leads(&go.by)?;
                self.waits(go.step)?;
                day.phase = Phase::Starting {
                    step: go.step,
                    run: go.run.clone(),
                    stopped: false,
                };
            }
            What::Refused(refused) => {
                self.starts(refused.step, &refused.run)?;
                day.phase = Phase::Waiting { step: refused.step };
            }
            What::Began(began) => {
                let stopped = self.starts(began.step, &began.run)?;
                day.phase = Phase::Running {
                    step: began.step,
                    run: began.run.clone(),
                    stopped,
                };
            }
            What::NoGo(said) => {
                self.leads(&said.by)?;
                self.waits(said.step)?;
            }
            What::Skipped(said) => {
                self.leads(&said.by)?;
                self.waits(said.step)?;
                day.phase = self.behind(said.step);
            }
            What::Stopped(said) => day.phase = self.stopped(said.step, &said.run)?,
            What::Ended(ended) => day.phase = self.ended(ended)?,
            What::HandedOver(handed) => {
                self.may_hand_over(handed)?;
                day.lead.clone_from(&handed.to);
            }
            What::Noted(note) => self.takes_part(&note.by).map(drop)?,
            What::Action(action) => self.takes_part(&action.by).map(drop)?,
            What::TakenUp(controller) => {
                self.is_not_over()?;
                day.controller = controller.clone();
            }
            What::Over(over) => {
                self.leads(&over.by)?;
                self.nothing_runs()?;
                day.phase = Phase::Over;
            }
        }
        Ok(day)
    }

    /// What somebody does on the day.
    ///
    /// # Errors
    /// They take no part.
    pub fn takes_part(&self, who: &str) -> Result<Role, No> {
        let person = self.game_day().person(who);
        let role = person.map(|person| person.role);
        role.ok_or_else(|| No::Stranger(who.to_owned()))
    }

    fn leads(&self, who: &str) -> Result<(), No> {
        self.takes_part(who)?;
        if *who == self.lead {
            return Ok(());
        }
        Err(No::NotTheLead {
            lead: self.lead.clone(),
        })
    }

    fn is_not_over(&self) -> Result<(), No> {
        match self.phase {
            Phase::Over => Err(No::Over),
            _ => Ok(()),
        }
    }

    fn nothing_runs(&self) -> Result<(), No> {
        self.is_not_over()?;
        match &self.phase {
            Phase::Starting { step, run, .. } | Phase::Running { step, run, .. } => {
                Err(No::UnderWay {
                    step: *step,
                    run: run.clone(),
                })
            }
            _ => Ok(()),
        }
    }

    /// This very step waits for the lead.
    fn waits(&self, step: u32) -> Result<(), No> {
        self.nothing_runs()?;
        match self.phase {
            Phase::Waiting { step: waiting } if waiting == step => Ok(()),
            Phase::Waiting { step: waiting } => Err(No::OutOfOrder { step, waiting }),
            _ => Err(No::Through),
        }
    }

    /// This very run is being let in; whether it was stopped already.
    fn starts(&self, step: u32, run: &RunId) -> Result<bool, No> {
        match &self.phase {
            Phase::Starting {
                step: own_step,
                run: own,
                stopped,
            } if *own == *run && *own_step == step => Ok(*stopped),
            _ => Err(No::AnotherRun(run.clone())),
        }
    }

    fn stopped(&self, step: u32, run: &RunId) -> Result<Phase, No> {
        if self.run().is_none() {
            return Err(No::NothingRuns);
        }
        let mut phase = self.phase.clone();
        match &mut phase {
            Phase::Starting {
                step: own_step,
                run: own,
                stopped,
            }
            | Phase::Running {
                step: own_step,
                run: own,
                stopped,
            } if *own == *run && *own_step == step => {
                *stopped = true;
                Ok(phase)
            }
            _ => Err(No::AnotherRun(run.clone())),
        }
    }

    /// What showed nothing may be tried again: it waits for another decision.
    fn ended(&self, ended: &StepEnded) -> Result<Phase, No> {
        match &self.phase {
            Phase::Running { step, run, .. } if *run == ended.run && *step == ended.step => {}
            _ => return Err(No::AnotherRun(ended.run.clone())),
        }
        Ok(match ended.verdict {
            Some(Verdict::Held | Verdict::Broken | Verdict::Halted) => self.behind(ended.step),
            Some(Verdict::Refused | Verdict::Inconclusive) | None => {
                Phase::Waiting { step: ended.step }
            }
        })
    }

    fn behind(&self, step: u32) -> Phase {
        let steps = self.opened.experiments.len();
        if usize::try_from(step).is_ok_and(|step| step < steps) {
            Phase::Waiting { step: step + 1 }
        } else {
            Phase::Through
        }
    }

    fn may_hand_over(&self, handed: &HandedOver) -> Result<(), No> {
        self.is_not_over()?;
        let by = self.takes_part(&handed.by)?;
        let to = self.takes_part(&handed.to)?;
        if to == Role::Observer {
            return Err(No::Observer(handed.to.clone()));
        }
        if handed.to == self.lead {
            return Err(No::Already(handed.to.clone()));
        }
        let takes = handed.by == handed.to && matches!(by, Role::Deputy | Role::Leader);
        if takes || handed.by == self.lead {
            return Ok(());
        }
        Err(No::NoDeputy(handed.by.clone()))
    }
}
