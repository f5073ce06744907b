//! Deployment gates: a release goes on only where it holds under a fault. Argo Rollouts (web metric provider) and Flagger (webhooks) call
//! them as they are. Both ask again and again; the run has a name that follows from what is asked, so that each release is judged once.
//!
//! | asked | answered with 200 | by |
//! | --- | --- | --- |
//! | `judge` | always; how it stands is in the body | Argo Rollouts: `jsonPath: "{$.verdict}"` |
//! | `pass` | until the run ends otherwise than held | Flagger: `rollout` |
//! | `confirm` | once the run has held | Flagger: `confirm-promotion` |
//! | `rollback` | once the run was broken; starts none | Flagger: `rollback` |

use super::caller::Told;
use super::openapi::{Body, Path};
use super::problem::Problem;
use super::{Api, FILE_BODY_BYTES_MAX, now_us, practice};
use crate::access::{Caller, Role};
use crate::run::desk::{Refused, Trigger, Wanted};
use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use squall_experiments::ids::RunId;
use squall_experiments::verdict::Verdict;
use std::collections::BTreeMap;

/// A run that was asked for so lately may not have begun.
const BEGINS_US: i64 = 10_000_000;
/// What metadata must have.
const FILE: &str = "experiment";

/// What is asked of a gate: see the table above.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "the table above says it")]
pub enum Question {
    Judge,
    Pass,
    Confirm,
    Rollback,
}

/// What Flagger sends to a webhook; what else it sends is not looked at.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Release {
    /// What is released.
    pub name: String,
    /// Where.
    pub namespace: String,
    /// Which state of it: another one is judged anew.
    pub checksum: String,
    /// `experiment`: the file that it must hold under. Whatever else is here makes it another question, such as `attempt: "2"`.
    pub metadata: BTreeMap<String, String>,
}

/// How a release stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GateSeen {
    /// The run that judges it.
    pub run: RunId,
    /// `underWay`, `held`, `broken`, `inconclusive`, `refused` or `halted`.
    pub verdict: String,
}

impl GateSeen {
    fn new(run: &RunId, verdict: Option<Verdict>) -> Self {
        let verdict = verdict.map_or_else(|| "underWay".to_owned(), |verdict| verdict.to_string());
        Self {
            run: run.clone(),
            verdict,
        }
    }

    fn says_yes(&self, question: Question) -> bool {
        match question {
            Question::Judge => true,
            Question::Pass => ["underWay", "held"].contains(&self.verdict.as_str()),
            Question::Confirm => self.verdict == "held",
            Question::Rollback => self.verdict == "broken",
        }
    }
}

pub(super) async fn ask(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path((environment, question)): Path<(String, Question)>,
    Body(release): Body<Release, FILE_BODY_BYTES_MAX>,
) -> Result<(Extension<Told>, Json<GateSeen>), Problem> {
    let bad = |why: &str| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, why);
    let file = release.metadata.get(FILE);
    let file =
        file.ok_or_else(|| bad("`metadata.experiment` has the text of an experiment file"))?;
    if release.checksum.is_empty() {
        return Err(bad(
            "`checksum` says which state is released; without, each would have the verdict of the first",
        ));
    }
    let path = format!("gate of {}/{}", release.namespace, release.name);
    practice::sent(&caller, Role::Operator, &environment, &path, file)?;
    let run = run_of(&environment, &release);
    let seen = match look(&api, &run).await? {
        Some(seen) => seen,
        None if question == Question::Rollback => {
            return Err(not_yet("no run has judged this release"));
        }
        None => {
            let wanted = Wanted {
                run: Some(run.clone()),
                file_text: file.clone(),
                file_path: path,
                environment,
                by: caller.name,
                trigger: Trigger::Automated,
                seed: None,
            };
            match api.desk.start(wanted).await {
                Ok(_) | Err(Refused::Taken(_)) => GateSeen::new(&run, None),
                Err(refused) => return Err(refused.into()),
            }
        }
    };
    let told = Told(serde_json::json!({ "run": seen.run, "verdict": seen.verdict }));
    match seen.says_yes(question) {
        true => Ok((Extension(told), Json(seen))),
        false => Err(not_yet(&format!("run {}: {}", seen.run, seen.verdict))),
    }
}

fn not_yet(why: &str) -> Problem {
    Problem::new(StatusCode::CONFLICT, why)
}

/// One name for one release, question and environment, whoever asks and however often.
fn run_of(environment: &str, release: &Release) -> RunId {
    let (name, namespace) = (&release.name, &release.namespace);
    let asked = serde_json::json!([
        environment,
        namespace,
        name,
        release.checksum,
        release.metadata
    ]);
    let hash = Sha256::digest(asked.to_string());
    let hex = hash.iter().take(8).map(|byte| format!("{byte:02x}"));
    RunId(format!("gate-{}", hex.collect::<String>()))
}

/// How a run stands; none where there is no such run.
async fn look(api: &Api, run: &RunId) -> Result<Option<GateSeen>, Problem> {
    if api.desk.subscribe(run).is_some() {
        return Ok(Some(GateSeen::new(run, None)));
    }
    let Some(started) = api.store.started(run).await? else {
        return Ok(None);
    };
    let verdict = match api.store.end_of(run).await?.flatten() {
        None if started.at_us > now_us() - BEGINS_US => None,
        // Its controller ended before it did.
        None => Some(Verdict::Inconclusive),
        verdict => verdict,
    };
    Ok(Some(GateSeen::new(run, verdict)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn release(text: &str) -> Release {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn each_release_has_a_run_of_its_own_and_no_more() {
        let text = r#"{"name":"podinfo","namespace":"test","phase":"Progressing","checksum":"85d557f47b","metadata":{"experiment":"e"}}"#;
        let run = |environment: &str, text: &str| run_of(environment, &release(text));
        let first = run("prod", text);
        assert_eq!(
            first,
            run("prod", &text.replace("Progressing", "Promoting"))
        );
        let others = [
            ("85d557f47b", "x"),
            ("podinfo", "y"),
            ("\"test\"", "\"z\""),
            ("\"e\"", "\"f\""),
        ];
        for (from, to) in others {
            assert_ne!(first, run("prod", &text.replace(from, to)), "{from}");
        }
        assert_ne!(first, run("staging", text));
    }

    #[test]
    fn only_what_held_is_confirmed_and_only_what_broke_is_rolled_back() {
        use Question::{Confirm, Judge, Pass, Rollback};
        let run = RunId::from("gate-1");
        let verdicts = [
            None,
            Some(Verdict::Held),
            Some(Verdict::Broken),
            Some(Verdict::Inconclusive),
            Some(Verdict::Refused),
            Some(Verdict::Halted),
        ];
        let table = verdicts.map(|verdict| {
            let seen = GateSeen::new(&run, verdict);
            [Judge, Pass, Confirm, Rollback].map(|question| seen.says_yes(question))
        });
        assert_eq!(
            table,
            [
                [true, true, false, false],
                [true, true, true, false],
                [true, false, false, true],
                [true, false, false, false],
                [true, false, false, false],
                [true, false, false, false],
            ]
        );
    }
}
