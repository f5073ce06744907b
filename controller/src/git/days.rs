//! Game days of the commit that is in force: each is opened once, under its name and date.

use super::plan::{Change, DayPut};
use crate::calendar::GitRights;
use crate::gameday::{Days, DaysError, Planned};
use crate::practice::{self, Practice};
use crate::run::desk::ENVIRONMENT;
use crate::stage::namespaces;
use crate::store::{GameDayFiles, Origin, Store, StoreError};
use jiff::Timestamp;
use squall_experiments::game_day::GameDay;
use squall_experiments::language::{self, Colour};
use std::fmt;

/// Opens them, where the configuration lets the repository's files run.
pub struct GameDays {
    days: Days,
    practice: Practice,
    rights: GitRights,
}

impl fmt::Debug for GameDays {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GameDays").finish_non_exhaustive()
    }
}

impl GameDays {
    /// Opens them with these.
    #[must_use]
    pub fn new(days: Days, practice: Practice, rights: GitRights) -> Self {
        Self {
            days,
            practice,
            rights,
        }
    }

    /// Finds out what is to become of a day, and says why where it cannot be opened.
    pub(super) async fn stand(
        &self,
        store: &Store,
        put: &mut DayPut,
    ) -> Result<Option<String>, StoreError> {
        let day = match self.prepared(&put.files) {
            Ok((day, _)) => day,
            Err(said) => return Ok(Some(said)),
        };
        match Timestamp::now().in_tz(&day.time_zone) {
            // Nobody is there any more.
            Ok(now) if now.date() > day.date => return Ok(None),
            Ok(_) => {}
            Err(_) => return Ok(Some(format!("there is no time zone `{}`", day.time_zone))),
        }
        let Some(kept) = store.game_day_held(&put.name, &put.date).await? else {
            put.change = Some(Change::New);
            return Ok(None);
        };
        if store.game_day_files(&kept.id).await? == put.files {
            put.change = Some(Change::Same);
            return Ok(None);
        }
        Ok(Some(format!(
            "game day `{}` of {} was opened already, as {}, and stays as it was opened; with another name or date it is another",
            put.name, put.date, kept.id
        )))
    }

    /// Opens a day.
    pub(super) async fn open(&self, put: &DayPut, commit: &str) -> Result<(), DaysError> {
        match self.prepared(&put.files) {
            Ok((day, planned)) => {
                let from = Origin::Commit(commit);
                self.days.open(day, planned, &put.files, from).await?;
            }
            // It was good a moment ago; the policy may be another by now.
            Err(said) => tracing::error!(path = put.path, said, "a game day cannot be opened"),
        }
        Ok(())
    }

    fn prepared(&self, files: &GameDayFiles) -> Result<(GameDay, Vec<Planned>), String> {
        let own = &files.game_day;
        let read = language::read_game_day(&own.name, &own.text);
        let said = || read.render(&own.text, Colour::Never);
        let day = read.value.clone().ok_or_else(said)?;
        let rounds = day.experiments.iter();
        let planned =
            rounds.map(|round| self.planned(files, &round.file, round.environment.as_deref()));
        let planned = planned.collect::<Result<Vec<Planned>, String>>()?;
        Ok((day, planned))
    }

    fn planned(
        &self,
        files: &GameDayFiles,
        name: &str,
        environment: Option<&str>,
    ) -> Result<Planned, String> {
        let file = files.experiments.iter().find(|file| file.name == name);
        let file = file.ok_or_else(|| format!("`{name}` is not there"))?;
        let read = language::read(name, &file.text);
        let said = || read.render(&file.text, Colour::Never);
        let (experiment, digest) = read
            .experiment
            .clone()
            .zip(read.digest.clone())
            .ok_or_else(said)?;
        let environment = environment.unwrap_or(ENVIRONMENT);
        practice::environment(&self.practice.policy(), environment)
            .map_err(|error| error.to_string())?;
        if !self.rights.let_run(environment, &namespaces(&experiment)) {
            return Err(format!(
                "`{name}` is to run in `{environment}`, where `git.rights` of the configuration lets none of the repository's files run"
            ));
        }
        Ok(Planned {
            name: experiment.metadata.name,
            hypothesis: experiment.hypothesis,
            digest,
            environment: environment.to_owned(),
        })
    }
}
