//! What a commit would change. Pure.

use super::repository::Tree;
use crate::calendar::{PrepareError, Prepared};
use crate::store::{GameDayFiles, NamedText, ScheduleFiles, ScheduleKept};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use squall_experiments::language::{self, Colour};
use std::collections::BTreeMap;

/// What happens to what a file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Change {
    /// It is not in force yet.
    New,
    /// It, or a file that it names, says something else.
    Changed,
    /// All of its files say what they said.
    Same,
}

/// A schedule that a commit has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Put {
    /// Its name.
    pub name: String,
    /// What happens to it.
    pub change: Change,
    /// All its files.
    #[serde(skip)]
    pub files: ScheduleFiles,
}

/// An experiment that a commit has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Tried {
    /// Its file.
    pub path: String,
    /// Its name.
    pub name: String,
    /// SHA-256 over what it does, in hex: what it has earned is of this.
    pub digest: String,
    /// Whether it does something else than at the commit in force; none where that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change: Option<Change>,
}

/// A game day that a commit has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DayPut {
    /// Its file.
    pub path: String,
    /// Its name.
    pub name: String,
    /// When it is: YYYY-MM-DD.
    pub date: String,
    /// Whether it is opened or is there already; none where its date is over, and where that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change: Option<Change>,
    /// All its files.
    #[serde(skip)]
    pub files: GameDayFiles,
}

/// A file that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Broken {
    /// Which.
    pub path: String,
    /// All that is said of it, with line and caret.
    pub said: String,
}

/// What a commit would change.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// Which.
    pub commit: String,
    /// The commit that is in force; none as long as there is none, and where that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_force: Option<String>,
    /// Schedules that it has.
    pub put: Vec<Put>,
    /// Schedules that came from Git, and are not in it any more.
    pub remove: Vec<String>,
    /// Experiments that it has.
    pub experiments: Vec<Tried>,
    /// Game days that it has.
    #[serde(default)]
    pub game_days: Vec<DayPut>,
    /// Files that cannot be used. What they were when they were last good stays in force.
    pub broken: Vec<Broken>,
    /// Files that are right.
    pub good: usize,
}

impl Plan {
    /// Whether anything is different afterwards.
    #[must_use]
    pub fn changes(&self) -> bool {
        !self.remove.is_empty()
            || self.put.iter().any(|put| put.change != Change::Same)
            || self.opens().next().is_some()
    }

    /// The game days that it opens.
    pub fn opens(&self) -> impl Iterator<Item = &DayPut> {
        let all = self.game_days.iter();
        all.filter(|day| day.change == Some(Change::New))
    }
}

/// Works out what a commit would change of the schedules in force, and of the commit that was taken last, where that is known.
#[must_use]
pub fn plan(tree: &Tree, in_force: &[ScheduleKept], taken: Option<&Tree>) -> Plan {
    let mut plan = Plan {
        commit: tree.commit.clone(),
        in_force: taken
            .map(|taken| taken.commit.clone())
            .filter(|commit| !commit.is_empty()),
        ..Plan::default()
    };
    let mut named: BTreeMap<String, String> = BTreeMap::new();
    for (path, text) in tree
        .files
        .iter()
        .filter(|(path, _)| !path.ends_with(".ics"))
    {
        let said = match language::kind(text).as_deref() {
            Some("Schedule") => schedule(tree, path, in_force, &mut named, &mut plan),
            Some("GameDay") => match game_day(tree, path, text) {
                Ok(one) => {
                    plan.game_days.push(one);
                    None
                }
                Err(said) => Some(said),
            },
            // Of a file that says no kind, an experiment's reader says what is missing.
            Some("Experiment") | None => match experiment(path, text, taken) {
                Ok(one) => {
                    plan.experiments.push(one);
                    None
                }
                Err(said) => Some(said),
            },
            // Somebody else's.
            Some(_) => continue,
        };
        match said {
            Some(said) => plan.broken.push(Broken {
                path: path.clone(),
                said,
            }),
            None => plan.good += 1,
        }
    }
    let gone = in_force.iter().filter(|kept| {
        kept.source.is_some()
            && !tree.files.contains_key(&kept.files.schedule.name)
            && !named.contains_key(&kept.name)
    });
    plan.remove = gone.map(|kept| kept.name.clone()).collect();
    plan
}

/// Reads an experiment; what is wrong with it otherwise.
fn experiment(path: &str, text: &str, taken: Option<&Tree>) -> Result<Tried, String> {
    let read = language::read(path, text);
    let (Some(experiment), Some(digest)) = (&read.experiment, &read.digest) else {
        return Err(read.render(text, Colour::Never));
    };
    let before = |taken: &Tree| {
        let text = taken.files.get(path)?;
        language::read(path, text).digest
    };
    let change = taken.map(|taken| match before(taken) {
        None => Change::New,
        Some(before) if before == *digest => Change::Same,
        Some(_) => Change::Changed,
    });
    Ok(Tried {
        path: path.to_owned(),
        name: experiment.metadata.name.clone(),
        digest: digest.clone(),
        change,
    })
}

/// Reads a game day with its experiments' files; what is wrong with it otherwise.
fn game_day(tree: &Tree, path: &str, text: &str) -> Result<DayPut, String> {
    let read = language::read_game_day(path, text);
    let Some(day) = &read.value else {
        return Err(read.render(text, Colour::Never));
    };
    let mut experiments: Vec<NamedText> = Vec::new();
    for round in &day.experiments {
        if experiments.iter().all(|file| file.name != round.file) {
            experiments.push(beside(tree, path, &round.file)?);
        }
    }
    Ok(DayPut {
        path: path.to_owned(),
        name: day.metadata.name.clone(),
        date: day.date.to_string(),
        change: None,
        files: GameDayFiles {
            game_day: NamedText {
                name: path.to_owned(),
                text: text.to_owned(),
            },
            experiments,
        },
    })
}

/// A file that another names beside itself.
fn beside(tree: &Tree, path: &str, name: &str) -> Result<NamedText, String> {
    let folder = path.rsplit_once('/').map(|(folder, _)| folder);
    let whole = folder.map_or_else(|| name.to_owned(), |folder| format!("{folder}/{name}"));
    let text = tree.files.get(&whole).cloned().ok_or_else(|| {
        let commit = &tree.commit;
        format!("`{path}` names `{name}`, and there is no `{whole}` in commit {commit}")
    })?;
    Ok(NamedText {
        name: name.to_owned(),
        text,
    })
}

/// Takes in a schedule; what is wrong with it otherwise.
fn schedule(
    tree: &Tree,
    path: &str,
    in_force: &[ScheduleKept],
    named: &mut BTreeMap<String, String>,
    plan: &mut Plan,
) -> Option<String> {
    let (files, name) = match gather(tree, path) {
        Ok(gathered) => gathered,
        Err(said) => return Some(said),
    };
    if let Some(other) = named.insert(name.clone(), path.to_owned()) {
        return Some(format!(
            "a schedule of the name `{name}` is in `{other}` too"
        ));
    }
    let kept = in_force.iter().find(|kept| kept.name == name);
    let change = match kept {
        None => Change::New,
        Some(kept) if kept.source.is_none() => {
            return Some(format!(
                "a person put a schedule `{name}` into force; `squall schedule remove {name}` makes room"
            ));
        }
        Some(kept) if kept.files == files => Change::Same,
        Some(_) => Change::Changed,
    };
    plan.put.push(Put {
        name,
        change,
        files,
    });
    None
}

fn gather(tree: &Tree, path: &str) -> Result<(ScheduleFiles, String), String> {
    let text = tree.files.get(path).cloned().unwrap_or_default();
    let read = language::read_schedule(path, &text);
    let Some(schedule) = &read.value else {
        return Err(read.render(&text, Colour::Never));
    };
    let blackouts: Result<Vec<NamedText>, String> = schedule
        .blackouts
        .iter()
        .map(|name| beside(tree, path, name))
        .collect();
    let files = ScheduleFiles {
        experiment: beside(tree, path, &schedule.experiment)?,
        blackouts: blackouts?,
        schedule: NamedText {
            name: path.to_owned(),
            text: text.clone(),
        },
    };
    let prepared = Prepared::new(&files).map_err(|error| match error {
        PrepareError::File { path, said } => format!("{path}: {said}"),
        other => crate::words::chain(&other),
    })?;
    Ok((files, prepared.schedule.metadata.name))
}
