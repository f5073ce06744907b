//! Kills at any moment: runs over a town of two controllers on one database, in each of which something is ended in the hardest way at a
//! moment that the seed draws. Whatever it was and whenever: no fault outlives its agent or its lease, the run has an end and a verdict
//! that fits what happened, and the town is afterwards what it was before.

use std::fmt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use super::fingerprint::Fingerprint;
use super::town::{LIMIT, Town};
use super::{Result, until};

/// Longer than a run takes, so that some kills come after its end.
const MOMENT_MAX: Duration = Duration::from_secs(14);

/// What is dead stays dead for so long at most.
const DEAD_MAX: Duration = Duration::from_secs(6);

/// Later than this a run has begun.
const BEGUN_MAX: Duration = Duration::from_secs(5);

/// How exactly it is known where in a run a kill was: the two programs that note the times are busy, and so is the machine.
const SLACK_MS: f64 = 700.0;

/// What is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Victim {
    /// The controller that drives the run.
    Leader,
    /// The database, which takes the lead from the leader.
    Database,
    /// One agent.
    Agent,
    /// The controller that stands by.
    StandBy,
    /// All agents at once.
    Agents,
    /// The leader and one agent.
    LeaderAndAgent,
    /// Nothing: the run must be held.
    Nobody,
}

impl Victim {
    /// In turn, so that each has as many runs.
    pub const ALL: [Self; 7] = [
        Self::Leader,
        Self::Database,
        Self::Agent,
        Self::StandBy,
        Self::Agents,
        Self::LeaderAndAgent,
        Self::Nobody,
    ];

    fn leads(self) -> bool {
        matches!(self, Self::Leader | Self::LeaderAndAgent | Self::Database)
    }
}

/// What became of one run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What was killed.
    pub victim: Victim,
    /// Which of the nodes' agents were.
    pub agents: Vec<u8>,
    /// When, counted from the start of `squall run`.
    pub moment: Duration,
    /// Its verdict; none where it was killed before it had begun.
    pub verdict: Option<String>,
    /// Why, in a sentence.
    pub because: String,
    /// How long what was in force at the kill was felt afterwards, where its holder was killed.
    pub felt: Duration,
    /// What should not be so. Empty when all is well.
    pub wrong: Vec<String>,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (victim, at) = (self.victim, self.moment.as_secs_f64());
        let verdict = self.verdict.as_deref().unwrap_or("never begun");
        let felt = self.felt.as_secs_f64();
        write!(f, "{victim:?} {:?} at {at:.1} s: {verdict}", self.agents)?;
        write!(f, ", felt {felt:.1} s ({})", self.because)?;
        self.wrong
            .iter()
            .try_for_each(|one| write!(f, "; WRONG: {one}"))
    }
}

/// Draws numbers, the same for the same seed (Steele, Lea & Flood 2014).
#[derive(Debug)]
struct Dice(u64);

impl Dice {
    /// Below `end`.
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        for (shift, factor) in [(30, 0xbf58_476d_1ce4_e5b9_u64), (27, 0x94d0_49bb_1331_11eb)] {
            mixed = (mixed ^ (mixed >> shift)).wrapping_mul(factor);
        }
        (mixed ^ (mixed >> 31)) % end.max(1)
    }

    fn within(&mut self, most: Duration) -> Duration {
        Duration::from_millis(self.below(u64::try_from(most.as_millis()).unwrap_or(u64::MAX)))
    }
}

/// A town, and what it is like when nothing is wrong.
pub struct Campaign {
    town: Town,
    before: Fingerprint,
    dice: Dice,
    begun: usize,
}

impl Campaign {
    /// Makes a town of so many nodes.
    ///
    /// # Errors
    /// Without root, or where anything does not start.
    pub fn new(programs: &Path, nodes: u8, seed: u64) -> Result<Self> {
        let town = Town::paired(nodes, programs)?;
        let before = town.fingerprint()?;
        Ok(Self {
            town,
            before,
            dice: Dice(seed),
            begun: 0,
        })
    }

    /// The next run, with its kill.
    ///
    /// # Errors
    /// When the town does not come back.
    pub fn one_more(&mut self) -> Result<Outcome> {
        let victim = Victim::ALL[self.begun % Victim::ALL.len()];
        self.begun += 1;
        let size = self.town.size();
        let one = u8::try_from(self.dice.below(u64::from(size)))?;
        let agents: Vec<u8> = match victim {
            Victim::Agent | Victim::LeaderAndAgent => vec![one],
            Victim::Agents => (0..size).collect(),
            _ => Vec::new(),
        };
        let moment = self.dice.within(MOMENT_MAX);
        let leader = self.town.leader().ok_or("nobody leads")?;
        let known = self.runs()?;
        let file = self.town.late("[ all ]", "4s")?;
        let started = Instant::now();
        let run = self.town.start(&file)?;
        thread::sleep(moment.saturating_sub(started.elapsed()));
        self.kill(victim, leader, &agents)?;
        let killed_us = SystemTime::now().duration_since(UNIX_EPOCH)?.as_micros();
        let felt = self.felt(victim, &agents)?;
        thread::sleep(self.dice.within(DEAD_MAX));
        self.raise(victim, &agents)?;
        // Who started it may have lost its controller: what counts is what is kept.
        let (_, _, said) = run.wait()?;
        self.town.until_whole()?;
        let mut outcome = Outcome {
            victim,
            agents,
            moment,
            verdict: None,
            because: said.lines().last().unwrap_or_default().to_owned(),
            felt,
            wrong: Vec::new(),
        };
        self.judge(&mut outcome, &known, i64::try_from(killed_us)?)?;
        Ok(outcome)
    }

    fn kill(&mut self, victim: Victim, leader: usize, agents: &[u8]) -> Result<()> {
        match victim {
            Victim::Leader | Victim::LeaderAndAgent => self.town.kill_controller(leader)?,
            Victim::StandBy => self.town.kill_controller(1 - leader)?,
            Victim::Database => self.town.kill_database()?,
            Victim::Agent | Victim::Agents | Victim::Nobody => {}
        }
        agents
            .iter()
            .try_for_each(|&number| self.town.kill_agent(number))
    }

    /// How long it is until nothing is felt any more: where an agent was killed, and everywhere where the leader was.
    fn felt(&self, victim: Victim, agents: &[u8]) -> Result<Duration> {
        let all: Vec<u8> = (0..self.town.size()).collect();
        let on = if victim.leads() { &all } else { agents };
        let killed = Instant::now();
        until("the end of all faults", LIMIT, || {
            (self.town.felt_on(on).ok()? == 0).then(|| killed.elapsed())
        })
    }

    fn raise(&mut self, victim: Victim, agents: &[u8]) -> Result<()> {
        self.town.raise(victim == Victim::Database)?;
        agents.iter().try_for_each(|&number| self.town.join(number))
    }

    /// All runs that are kept, the newest first.
    fn runs(&self) -> Result<Vec<Value>> {
        let runs = self.town.kept(&["runs", "--json"])?;
        Ok(serde_json::from_value(runs)?)
    }

    fn judge(&self, outcome: &mut Outcome, known: &[Value], killed_us: i64) -> Result<()> {
        let is_new = |run: &Value| known.iter().all(|old| old["run"] != run["run"]);
        let mut wrong = Vec::new();
        let ended = until("the run's end", LIMIT, || {
            let new: Vec<Value> = self.runs().ok()?.into_iter().filter(is_new).collect();
            new.iter()
                .all(|run| run["underWay"] == false)
                .then_some(new)
        })?;
        match ended.as_slice() {
            [] if outcome.victim.leads() && outcome.moment < BEGUN_MAX => {}
            [] => wrong.push("there was no run".to_owned()),
            [run] => {
                let name = run["run"].as_str().unwrap_or_default();
                let report = self.town.kept(&["report", name, "--json"])?;
                let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                outcome.verdict = Some(text(&run["verdict"]));
                outcome.because = text(&run["because"]);
                let created_us = run["createdUs"].as_i64().ok_or("no time of creation")?;
                #[allow(clippy::cast_precision_loss, reason = "milliseconds of one run")]
                let killed_ms = (killed_us - created_us) as f64 / 1e3;
                wrong.extend(misjudged(outcome, killed_ms, &report));
            }
            more => wrong.push(format!("{} runs of one order", more.len())),
        }
        if self.town.felt()? > 0 {
            wrong.push("a fault is still felt".to_owned());
        }
        let mut left = self.before.difference(&self.town.fingerprint()?);
        // An agent that had just begun may still have tried what it can when that was taken: its processes are gone since.
        left.retain(|line| {
            !line.starts_with("- processes: ") && !line.starts_with("- open files of ")
        });
        wrong.extend(left);
        outcome.wrong = wrong;
        Ok(())
    }
}

/// Why a verdict does not fit a kill so long after the run's creation.
fn misjudged(outcome: &Outcome, killed_ms: f64, report: &Value) -> Option<String> {
    let verdict = outcome.verdict.as_deref().unwrap_or_default();
    let faults: &[Value] = report["faults"].as_array().map_or(&[], Vec::as_slice);
    let times = |key: &str| {
        let times = faults.iter().filter_map(|fault| fault[key].as_f64());
        times.collect::<Vec<f64>>()
    };
    let armed = times("armedAtMs").into_iter().fold(f64::INFINITY, f64::min);
    let gone = times("endedAtMs").into_iter().fold(0.0, f64::max);
    let during = killed_ms > armed + SLACK_MS && killed_ms < gone - SLACK_MS;
    let over = report["timings"]["durationMs"].as_f64().unwrap_or_default();
    let shown = faults.iter().all(|fault| fault["dose"].is_object()) && !faults.is_empty();
    let fits = match (outcome.victim, verdict) {
        (Victim::Nobody | Victim::StandBy, "held") => shown,
        // Who was killed can show nothing: held is what needs none of it.
        (Victim::Agent | Victim::Agents, "held") => shown && !during,
        // A database that is back within the leader's term was missed by nobody.
        (Victim::Database, "held") => shown,
        (_, "held") => shown && killed_ms > over - SLACK_MS,
        (Victim::Nobody | Victim::StandBy, _) => false,
        (Victim::Agent, "inconclusive") => {
            !during
                || outcome
                    .because
                    .contains(&format!("node-{}", outcome.agents[0]))
        }
        (_, "inconclusive") => true,
        (_, "refused") => times("armedAtMs").is_empty(),
        _ => false,
    };
    (!fits).then(|| {
        format!("{verdict} does not fit: killed at {killed_ms:.0} ms, in force {armed:.0}..{gone:.0} ms, over at {over:.0} ms")
    })
}
