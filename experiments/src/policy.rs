//! What a controller's environments ask of an experiment, and what they bound it by: a `kind: Policy` file, checked.

use crate::fault::FaultKind;
use crate::target::Share;
use crate::units::{Age, Percent};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// How far an experiment has come in an environment.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(try_from = "u8", into = "u8")]
pub enum Stage {
    /// 1: outside production, by anyone with the operator role.
    NonProduction,
    /// 2: in production, by hand, small, with somebody else's approval.
    Limited,
    /// 3: by itself.
    Automated,
}

impl Stage {
    /// All of them, the first first.
    pub const ALL: [Self; 3] = [Self::NonProduction, Self::Limited, Self::Automated];

    /// The number by which people know it.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::NonProduction => 1,
            Self::Limited => 2,
            Self::Automated => 3,
        }
    }
}

impl From<Stage> for u8 {
    fn from(stage: Stage) -> Self {
        stage.number()
    }
}

/// There are three.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} is no stage: there are 1 (non-production), 2 (limited production) and 3 (automated)")]
pub struct NoStage(u8);

impl TryFrom<u8> for Stage {
    type Error = NoStage;
    fn try_from(number: u8) -> Result<Self, NoStage> {
        let found = Self::ALL.into_iter().find(|stage| stage.number() == number);
        found.ok_or(NoStage(number))
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self {
            Self::NonProduction => "non-production",
            Self::Limited => "limited production",
            Self::Automated => "automated",
        };
        write!(f, "{} ({word})", self.number())
    }
}

/// All environments of a controller.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Policy {
    /// At least one; names differ.
    pub environments: Vec<Environment>,
    /// Whose signed evidence counts here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub trust: Vec<Trusted>,
}

/// One environment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Environment {
    /// Lower-case words joined by hyphens.
    pub name: String,
    /// The highest stage that an experiment can reach here: 1 is no production, 2 is production by hand, 3 also by itself.
    pub stage: Stage,
    /// Agents with all of these labels belong here; every agent where nothing is said.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub nodes: BTreeMap<String, String>,
    /// Environments whose held runs count for stage 2 here; at least one where `stage` is 2 or 3.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub from: Vec<String>,
    /// What stage 2 needs of `from`.
    #[serde(default)]
    pub needs: Needs,
    /// What a run that nobody starts by hand needs of this environment; such runs are refused where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub automated: Option<Needs>,
    /// Who else must agree in stage 2.
    #[serde(default)]
    pub approvals: Approvals,
    /// How long an answer to the checklist is good.
    #[serde(default = "Environment::checklist_default")]
    pub checklist: Age,
    /// What a run may be at most.
    #[serde(default)]
    pub limits: Limits,
    /// When runs may start; always where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hours: Option<Hours>,
}

impl Environment {
    /// A week: longer than most releases stay.
    #[must_use]
    pub fn checklist_default() -> Age {
        Age::days(7)
    }

    /// Whether an agent with these labels belongs here.
    #[must_use]
    pub fn has(&self, labels: &BTreeMap<String, String>) -> bool {
        let said = |(name, value): (&String, &String)| labels.get(name) == Some(value);
        self.nodes.iter().all(said)
    }
}

/// So many held runs, not older than so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Needs {
    /// Held runs of the digest since it last broke.
    pub held: u32,
    /// None of those counted is older.
    pub within: Age,
}

impl Default for Needs {
    /// Three within two weeks: one may be luck, and what ran a month ago was another system.
    fn default() -> Self {
        Self {
            held: 3,
            within: Age::days(14),
        }
    }
}

/// Who else must agree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Approvals {
    /// So many people, none of whom asked or starts the run.
    pub count: u32,
    /// An approval is good for so long.
    pub valid_for: Age,
}

impl Default for Approvals {
    /// One other person, for a day.
    fn default() -> Self {
        Self {
            count: 1,
            valid_for: Age::days(1),
        }
    }
}

/// What a run may be at most: its blast radius.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Limits {
    /// No step goes beyond this share of what matches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<Percent>,
    /// Targets hit by one run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub targets: Option<u32>,
    /// Runs at once in this environment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runs: Option<u32>,
    /// Targets hit by all runs of this environment together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub targets_together: Option<u32>,
    /// How long baseline and method of one run may take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration: Option<Age>,
    /// Kinds of fault; all where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub faults: Option<Vec<FaultKind>>,
    /// Namespaces of Kubernetes that a target must name; any, or none, where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespaces: Option<Vec<String>>,
}

impl Limits {
    /// Whether a step's share stays within [`share`](Self::share). A count is bounded by `targets`, and is no share.
    #[must_use]
    pub fn allows(&self, share: Share) -> bool {
        match (self.share, share) {
            (None, _) | (Some(_), Share::Count(_)) => true,
            (Some(most), Share::All) => most == Percent::ALL,
            (Some(most), Share::Percent(share)) => share <= most,
        }
    }
}

/// A day of the week.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "days of the week")]
pub enum Day {
    Mon,
    Tue,
    Wed,
    Thu,
    Fri,
    Sat,
    Sun,
}

impl Day {
    /// From Monday to Sunday, as a file writes them.
    pub const ALL: [(&'static str, Self); 7] = [
        ("mon", Self::Mon),
        ("tue", Self::Tue),
        ("wed", Self::Wed),
        ("thu", Self::Thu),
        ("fri", Self::Fri),
        ("sat", Self::Sat),
        ("sun", Self::Sun),
    ];
}

/// A time of day, `09:30`, in minutes since midnight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TimeOfDay(u16);

impl TimeOfDay {
    /// Minutes since midnight, up to 1,440 (`24:00`).
    #[must_use]
    pub const fn minutes(self) -> u16 {
        self.0
    }
}

impl fmt::Display for TimeOfDay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}:{:02}", self.0 / 60, self.0 % 60)
    }
}

/// Not a time of day.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no time of day: write it as `09:30`, from 00:00 to 24:00")]
pub struct NoTimeOfDay(String);

impl std::str::FromStr for TimeOfDay {
    type Err = NoTimeOfDay;
    fn from_str(text: &str) -> Result<Self, NoTimeOfDay> {
        let bad = || NoTimeOfDay(text.to_owned());
        let (hours, minutes) = text.split_once(':').ok_or_else(bad)?;
        let two = |part: &str| part.len() == 2 && part.bytes().all(|b| b.is_ascii_digit());
        if !two(hours) || !two(minutes) {
            return Err(bad());
        }
        let hours: u16 = hours.parse().map_err(|_| bad())?;
        let minutes: u16 = minutes.parse().map_err(|_| bad())?;
        let all = hours * 60 + minutes;
        (minutes < 60 && all <= 24 * 60)
            .then_some(Self(all))
            .ok_or_else(bad)
    }
}

impl TryFrom<String> for TimeOfDay {
    type Error = NoTimeOfDay;
    fn try_from(text: String) -> Result<Self, NoTimeOfDay> {
        text.parse()
    }
}

impl From<TimeOfDay> for String {
    fn from(time: TimeOfDay) -> Self {
        time.to_string()
    }
}

impl JsonSchema for TimeOfDay {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "TimeOfDay".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "pattern": "^([01][0-9]|2[0-3]):[0-5][0-9]$|^24:00$" })
    }
}

/// When runs may start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Hours {
    /// The IANA time zone in which the rest is meant.
    pub zone: String,
    /// At least one.
    pub days: Vec<Day>,
    /// From this time on, each of the days.
    pub from: TimeOfDay,
    /// Up to this time, which is later the same day.
    pub to: TimeOfDay,
}

impl fmt::Display for Hours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = |day: &Day| {
            Day::ALL
                .iter()
                .find(|(_, d)| d == day)
                .map(|(word, _)| *word)
        };
        let days: Vec<&str> = self.days.iter().filter_map(word).collect();
        let (days, from, to) = (days.join(", "), self.from, self.to);
        write!(f, "{days} {from} to {to} {}", self.zone)
    }
}

/// Another controller, whose signed evidence counts here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Trusted {
    /// What it is called here.
    pub name: String,
    /// Its public key (Ed25519, 32 bytes) in base64, as `squall evidence key` prints it there.
    pub key: String,
    /// It may speak for these environments alone.
    pub environments: Vec<String>,
}

impl Policy {
    /// The environment of that name.
    #[must_use]
    pub fn environment(&self, name: &str) -> Option<&Environment> {
        self.environments.iter().find(|e| e.name == name)
    }

    /// What a controller without a policy has: environments of these names, outside production and without limits of their own.
    #[must_use]
    pub fn without_file(names: impl IntoIterator<Item = String>) -> Self {
        let environment = |name| Environment {
            name,
            stage: Stage::NonProduction,
            nodes: BTreeMap::new(),
            from: Vec::new(),
            needs: Needs::default(),
            automated: None,
            approvals: Approvals::default(),
            checklist: Environment::checklist_default(),
            limits: Limits::default(),
            hours: None,
        };
        Self {
            environments: names.into_iter().map(environment).collect(),
            trust: Vec::new(),
        }
    }
}
