//! How a file earns its stage: asked, approved, answered, vouched for.

use super::caller::Told;
use super::openapi::{Answers, Operation};
use super::openapi::{Body, Created, Path, Query};
use super::page::{Page, Wanted};
use super::problem::Problem;
use super::{Api, FILE_BODY_BYTES_MAX, now_us};
use crate::access::{Caller, Role};
use crate::fleet::secret::ApiSecret;
use crate::practice::{self, PracticeError, Start};
use crate::stage::statement::Envelope;
use crate::stage::{
    self, Answer, Approval, Decision, Evidence, Together, Trigger, Vote, checklist,
};
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use schemars::{JsonSchema, SchemaGenerator};
use serde::{Deserialize, Serialize};
use squall_experiments::experiment::Experiment;
use squall_experiments::ids::RunId;
use squall_experiments::language;
use squall_experiments::policy::Policy;

/// The most bytes of a reason.
const BECAUSE_BYTES_MAX: usize = 1000;

/// A file, and how it is to be started.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PromotionWanted {
    /// The experiment file.
    pub file: String,
    /// What the file is called, for people.
    #[serde(default)]
    pub path: String,
    /// How it would be started; by hand where nothing is said.
    #[serde(default = "by_hand")]
    pub trigger: Trigger,
}

const fn by_hand() -> Trigger {
    Trigger::Hand
}

/// A request for somebody's approval.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ApprovalWanted {
    /// The experiment file.
    pub file: String,
    /// What the file is called, for people.
    #[serde(default)]
    pub path: String,
    /// Why.
    pub because: String,
}

/// What somebody says to a request.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VoteWanted {
    /// Yes or no.
    pub agree: bool,
    /// Why.
    pub because: String,
}

/// Answers to questions of the checklist.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AnswersWanted {
    /// The experiment file.
    pub file: String,
    /// What the file is called, for people.
    #[serde(default)]
    pub path: String,
    /// Which questions, from 1, are answered with yes.
    #[serde(default)]
    pub yes: Vec<u8>,
    /// Which with no.
    #[serde(default)]
    pub no: Vec<u8>,
    /// Why.
    pub because: String,
}

/// The public key of what this controller vouches for.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EvidenceKey {
    /// Ed25519, in base64: what others write below `trust`.
    pub key: String,
}

impl From<PracticeError> for Problem {
    fn from(error: PracticeError) -> Self {
        let status = match &error {
            PracticeError::Store(_) => None,
            PracticeError::NoEnvironment { .. } | PracticeError::NoEvidence(_) => {
                Some(StatusCode::NOT_FOUND)
            }
            PracticeError::NotTheirs { .. } => Some(StatusCode::FORBIDDEN),
            PracticeError::Statement(_) => Some(StatusCode::UNPROCESSABLE_ENTITY),
            PracticeError::File { .. } | PracticeError::Policy(_) | PracticeError::Key(_) => {
                Some(StatusCode::INTERNAL_SERVER_ERROR)
            }
        };
        match (error, status) {
            (PracticeError::Store(error), _) => error.into(),
            (error, status) => {
                let status = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
                Self::new(status, crate::words::chain(&error))
            }
        }
    }
}

/// An experiment file that was sent, and that the caller may have to do with.
pub(super) struct Sent {
    pub(super) experiment: Experiment,
    pub(super) digest: String,
}

pub(super) fn sent(
    caller: &Caller,
    role: Role,
    environment: &str,
    path: &str,
    file: &str,
) -> Result<Sent, Problem> {
    let reading = language::read(path, file);
    let (Some(experiment), Some(digest)) = (reading.experiment, reading.digest) else {
        let diagnostics = reading.diagnostics.iter().map(|one| serde_json::json!(one));
        let said = format!(
            "the experiment file cannot be used: {} mistakes",
            reading.diagnostics.len()
        );
        return Err(Problem {
            diagnostics: diagnostics.collect(),
            ..Problem::new(StatusCode::UNPROCESSABLE_ENTITY, said)
        });
    };
    if !caller
        .grants
        .may(role, environment, &stage::namespaces(&experiment))
    {
        return Err(Problem::new(
            StatusCode::FORBIDDEN,
            format!(
                "the token of {} is no {role} for all namespaces that this file hits",
                caller.name
            ),
        ));
    }
    Ok(Sent { experiment, digest })
}

fn because(text: &str) -> Result<String, Problem> {
    let text = text.trim();
    let prints = text.chars().all(|c| !c.is_control() || c == '\n');
    if !text.is_empty() && text.len() <= BECAUSE_BYTES_MAX && prints {
        return Ok(text.to_owned());
    }
    Err(Problem::new(
        StatusCode::UNPROCESSABLE_ENTITY,
        format!("`because` says why, in up to {BECAUSE_BYTES_MAX} bytes that print"),
    ))
}

async fn decide(
    api: &Api,
    caller: &Caller,
    environment: &str,
    sent: &Sent,
    trigger: Trigger,
) -> Result<Decision, Problem> {
    let start = Start {
        experiment: &sent.experiment,
        digest: &sent.digest,
        environment,
        trigger,
        by: &caller.name,
        targets: None,
        nodes: Vec::new(),
        together: Together::default(),
        folder: None,
    };
    Ok(api.practice.decide(&api.store, &start).await?)
}

pub(super) async fn policy(State(api): State<Api>) -> Json<Policy> {
    Json(Policy::clone(&api.practice.policy()))
}

/// What is missing before a file may run here. Changes nothing: a stage is decided by evidence alone.
pub(super) async fn promotion(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(environment): Path<String>,
    Body(wanted): Body<PromotionWanted, FILE_BODY_BYTES_MAX>,
) -> Result<Json<Decision>, Problem> {
    let sent = sent(
        &caller,
        Role::Operator,
        &environment,
        &wanted.path,
        &wanted.file,
    )?;
    Ok(Json(
        decide(&api, &caller, &environment, &sent, wanted.trigger).await?,
    ))
}

pub(super) async fn ask(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(environment): Path<String>,
    Body(wanted): Body<ApprovalWanted, FILE_BODY_BYTES_MAX>,
) -> Result<(Extension<Told>, Created<Approval>), Problem> {
    practice::environment(&api.practice.policy(), &environment)?;
    let sent = sent(
        &caller,
        Role::Operator,
        &environment,
        &wanted.path,
        &wanted.file,
    )?;
    let approval = Approval {
        id: ApiSecret::new().id,
        digest: sent.digest,
        experiment: sent.experiment.metadata.name,
        environment,
        requested_by: caller.name,
        because: because(&wanted.because)?,
        requested_us: now_us(),
        votes: Vec::new(),
    };
    api.store.add_approval(&approval).await?;
    let told = serde_json::json!({ "approval": approval.id, "digest": approval.digest });
    Ok((Extension(Told(told)), Created(approval)))
}

pub(super) async fn approvals(
    State(api): State<Api>,
    Path(environment): Path<String>,
    Query(wanted): Query<Wanted>,
) -> Result<Json<Page<Approval>>, Problem> {
    let (before, most) = (wanted.before()?, wanted.most()?);
    let all = api.store.approvals_in(&environment, before, most).await?;
    Ok(Json(
        wanted.page(all, |a| format!("{}:{}", a.requested_us, a.id))?,
    ))
}

async fn found(api: &Api, environment: &str, id: &str) -> Result<Approval, Problem> {
    let approval = api.store.approval(id).await?;
    let here = approval.filter(|approval| approval.environment == environment);
    here.ok_or_else(|| Problem::missing("request for approval", id))
}

pub(super) async fn approval(
    State(api): State<Api>,
    Path((environment, id)): Path<(String, String)>,
) -> Result<Json<Approval>, Problem> {
    Ok(Json(found(&api, &environment, &id).await?))
}

pub(super) async fn vote(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path((environment, id)): Path<(String, String)>,
    Body(wanted): Body<VoteWanted>,
) -> Result<(Extension<Told>, Created<Approval>), Problem> {
    let policy = api.practice.policy();
    let rule = practice::environment(&policy, &environment)?.approvals;
    let approval = found(&api, &environment, &id).await?;
    // Read before it is said: what comes to be known meanwhile was not known.
    let seen = api.store.evidence_seen().await?;
    let vote = Vote {
        by: caller.name.clone(),
        agree: wanted.agree,
        because: because(&wanted.because)?,
        at_us: now_us(),
        seen,
    };
    let refused = |why: stage::VoteRefused| {
        let status = match why {
            stage::VoteRefused::Requester => StatusCode::FORBIDDEN,
            _ => StatusCode::CONFLICT,
        };
        Problem::new(status, why.to_string())
    };
    approval
        .may_vote(&caller.name, rule, vote.at_us)
        .map_err(refused)?;
    if !api.store.add_vote(&id, &vote).await? {
        return Err(refused(stage::VoteRefused::Already));
    }
    let told =
        serde_json::json!({ "approval": id, "digest": approval.digest, "agree": vote.agree });
    let approval = found(&api, &environment, &id).await?;
    Ok((Extension(Told(told)), Created(approval)))
}

pub(super) async fn answer(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(environment): Path<String>,
    Body(wanted): Body<AnswersWanted, FILE_BODY_BYTES_MAX>,
) -> Result<(Extension<Told>, Created<Decision>), Problem> {
    practice::environment(&api.practice.policy(), &environment)?;
    let sent = sent(
        &caller,
        Role::Operator,
        &environment,
        &wanted.path,
        &wanted.file,
    )?;
    let because = because(&wanted.because)?;
    let said = wanted.yes.iter().map(|item| (*item, true));
    let said: Vec<(u8, bool)> = said
        .chain(wanted.no.iter().map(|item| (*item, false)))
        .collect();
    if said.is_empty() || said.len() > usize::from(checklist::ITEMS) {
        return Err(Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "`yes` and `no` together name 1 to 12 questions",
        ));
    }
    for (item, _) in &said {
        checklist::is_asked(*item)
            .map_err(|why| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, why))?;
    }
    for (item, yes) in &said {
        let answer = Answer {
            digest: sent.digest.clone(),
            environment: environment.clone(),
            item: *item,
            yes: *yes,
            because: because.clone(),
            by: caller.name.clone(),
            at_us: now_us(),
        };
        api.store.add_answer(&answer).await?;
    }
    let told = serde_json::json!({ "digest": sent.digest, "yes": wanted.yes, "no": wanted.no });
    let decision = decide(&api, &caller, &environment, &sent, Trigger::Hand).await?;
    Ok((Extension(Told(told)), Created(decision)))
}

pub(super) async fn evidence(
    State(api): State<Api>,
    Path(environment): Path<String>,
    Query(wanted): Query<Wanted>,
) -> Result<Json<Page<Evidence>>, Problem> {
    let after = wanted.after_number()?;
    let all = api
        .store
        .evidence_in(&environment, after, wanted.most()?)
        .await?;
    Ok(Json(wanted.page(all, |one| one.recorded.to_string())?))
}

pub(super) async fn statement(
    State(api): State<Api>,
    Path((environment, run)): Path<(String, String)>,
) -> Result<Json<Envelope>, Problem> {
    let run = RunId(run);
    let here = api.store.evidence_of_run(&run).await?;
    if here.is_none_or(|evidence| evidence.environment != environment) {
        return Err(PracticeError::NoEvidence(run).into());
    }
    Ok(Json(api.practice.export(&api.store, &run).await?))
}

pub(super) async fn key(State(api): State<Api>) -> Json<EvidenceKey> {
    Json(EvidenceKey {
        key: api.practice.public_key(),
    })
}

/// What another controller signed, kept here.
pub(super) enum Imported {
    Now(Created<Evidence>),
    /// It is here already.
    Before(Json<Evidence>),
}

impl IntoResponse for Imported {
    fn into_response(self) -> Response {
        match self {
            Self::Now(answer) => answer.into_response(),
            Self::Before(answer) => answer.into_response(),
        }
    }
}

impl Answers for Imported {
    fn answers(operation: &mut Operation, schemas: &mut SchemaGenerator) {
        Created::<Evidence>::answers(operation, schemas);
        Json::<Evidence>::answers(operation, schemas);
    }
}

pub(super) async fn import(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Body(envelope): Body<Envelope>,
) -> Result<(Extension<Told>, Imported), Problem> {
    let evidence = api.practice.believe(&envelope)?;
    if !caller.grants.has_in(Role::Operator, &evidence.environment) {
        return Err(Problem::new(
            StatusCode::FORBIDDEN,
            format!(
                "the token of {} is no operator in `{}`",
                caller.name, evidence.environment
            ),
        ));
    }
    let added = api.store.add_evidence(&evidence).await?;
    let told = serde_json::json!({ "run": evidence.run, "digest": evidence.digest, "signedBy": evidence.signed_by });
    let imported = match added {
        true => Imported::Now(Created(evidence)),
        false => Imported::Before(Json(evidence)),
    };
    Ok((Extension(Told(told)), imported))
}

/// Why a run was allowed to start, checklist and all.
pub(super) async fn preflight(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(run): Path<String>,
) -> Result<Json<Decision>, Problem> {
    let decision = api.store.preflight(&RunId(run.clone())).await?;
    // Who may not see the environment is told what they would be told of a run that is not there.
    let seen = decision.filter(|d| caller.grants.has_in(Role::Viewer, &d.environment));
    seen.map(Json)
        .ok_or_else(|| Problem::missing("preflight of run", &run))
}
