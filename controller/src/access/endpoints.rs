//! What each endpoint of the API asks for: the one table. An endpoint that is not in it is for those who may do everything.

use super::{Grants, Role};

/// Where a role must be theirs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Anywhere: the answer is only about environments in which it is, or there is nothing about any in it. What is written is
    /// looked at by the endpoint itself, which knows the environment from the body.
    Anywhere,
    /// Everywhere: it is about all of the controller.
    Everywhere,
    /// In the environment that the path names.
    Environment,
}

/// One endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Endpoint {
    /// The method.
    pub method: &'static str,
    /// The path below `/api/v1`, with its parameters in braces.
    pub path: &'static str,
    /// What the caller must be.
    pub role: Role,
    /// Where.
    pub scope: Scope,
    /// What it does, in a line.
    pub says: &'static str,
    /// What is answered holds a secret, which is never kept.
    pub is_secret: bool,
    /// It stops something: never held up, whatever else is asked.
    pub is_stop: bool,
}

const fn endpoint(
    method: &'static str,
    path: &'static str,
    role: Role,
    scope: Scope,
    says: &'static str,
) -> Endpoint {
    Endpoint {
        method,
        path,
        role,
        scope,
        says,
        is_secret: false,
        is_stop: false,
    }
}

const fn secret(mut endpoint: Endpoint) -> Endpoint {
    endpoint.is_secret = true;
    endpoint
}

const fn stop(mut endpoint: Endpoint) -> Endpoint {
    endpoint.is_stop = true;
    endpoint
}

use Role::{Admin, Approver, Operator, Viewer};
use Scope::{Anywhere, Environment, Everywhere};

/// All of them.
#[rustfmt::skip] // A table: a row is a line.
pub const ENDPOINTS: &[Endpoint] = &[
    endpoint("GET", "/agents", Viewer, Everywhere, "The agents that joined, and what those that are there said of themselves"),
    endpoint("DELETE", "/agents/{node}", Admin, Everywhere, "Forgets an agent: its name is free, and its certificate worth nothing"),
    endpoint("POST", "/agents/{node}/revoke", Admin, Everywhere, "Shuts an agent out: its link is closed, and its certificate worth nothing"),
    endpoint("GET", "/join-tokens", Admin, Everywhere, "The tokens by which agents may join"),
    secret(endpoint("POST", "/join-tokens", Admin, Everywhere, "Makes a token by which agents may join; it is shown this once")),
    endpoint("DELETE", "/join-tokens/{id}", Admin, Everywhere, "Takes back a token by which agents join"),
    endpoint("GET", "/runs", Viewer, Anywhere, "The runs, the newest first"),
    endpoint("POST", "/runs", Operator, Anywhere, "Starts a run of an experiment file, or says why not"),
    endpoint("GET", "/runs/{run}", Viewer, Anywhere, "A run, and how it ended"),
    endpoint("GET", "/runs/{run}/events", Viewer, Anywhere, "What happens in a run, as it happens, up to its verdict"),
    endpoint("GET", "/runs/{run}/report", Viewer, Anywhere, "What a run did and saw: JSON, or what `Accept` says"),
    endpoint("GET", "/runs/{run}/preflight", Viewer, Anywhere, "Why a run was allowed to start, checklist and all"),
    // Whoever may start anything may stop everything.
    stop(endpoint("POST", "/runs/{run}/stop", Operator, Anywhere, "Stops a run: its faults end at once")),
    endpoint("GET", "/metrics", Viewer, Everywhere, "What Prometheus asks for"),
    endpoint("GET", "/halt", Viewer, Anywhere, "Whether everything stands still"),
    stop(endpoint("POST", "/halt", Operator, Anywhere, "Stops everything; nothing starts until the halt is lifted")),
    endpoint("DELETE", "/halt", Operator, Everywhere, "Lifts the halt"),
    // In which environment a schedule runs its files say: the endpoints look.
    endpoint("GET", "/schedules", Viewer, Anywhere, "The schedules, with their next times"),
    endpoint("GET", "/schedule-files", Viewer, Everywhere, "The schedules, with all their files"),
    endpoint("PUT", "/schedules/{name}", Operator, Anywhere, "Puts a schedule into force"),
    endpoint("DELETE", "/schedules/{name}", Operator, Anywhere, "Takes a schedule out of force; what became of its times stays"),
    stop(endpoint("POST", "/schedules/{name}/suspend", Operator, Anywhere, "Suspends a schedule: it starts nothing until it is resumed")),
    endpoint("POST", "/schedules/{name}/resume", Operator, Anywhere, "Resumes a schedule"),
    endpoint("GET", "/schedules/{name}/starts", Viewer, Anywhere, "What became of a schedule's past times, the newest first"),
    // Fetches, and answers about files of all environments.
    endpoint("GET", "/git/plan", Operator, Everywhere, "What a branch of the repository that is followed would change; changes nothing"),
    endpoint("GET", "/gamedays", Viewer, Anywhere, "The game days, the newest first"),
    endpoint("POST", "/gamedays", Operator, Anywhere, "Opens a game day, with its experiments' files"),
    endpoint("GET", "/gamedays/{day}", Viewer, Anywhere, "A game day, and where it is"),
    endpoint("GET", "/gamedays/{day}/events", Viewer, Anywhere, "What happens on a game day, as it happens, up to its end"),
    endpoint("GET", "/gamedays/{day}/report", Viewer, Anywhere, "The whole day: JSON, or what `Accept` says"),
    endpoint("POST", "/gamedays/{day}/go", Operator, Anywhere, "Go: starts the run of the step that waits, or says why not"),
    // Of these the day knows who may: its file names them.
    endpoint("POST", "/gamedays/{day}/no-go", Viewer, Anywhere, "No-go: the step waits on"),
    endpoint("POST", "/gamedays/{day}/skip", Viewer, Anywhere, "Leaves a step out"),
    endpoint("POST", "/gamedays/{day}/notes", Viewer, Anywhere, "Writes something down"),
    endpoint("POST", "/gamedays/{day}/actions", Viewer, Anywhere, "Writes down what is to be done afterwards"),
    endpoint("POST", "/gamedays/{day}/lead", Viewer, Anywhere, "Gives the lead to somebody else, or takes it"),
    stop(endpoint("POST", "/gamedays/{day}/stop", Viewer, Anywhere, "Stops the run of the day's step: its faults end at once")),
    endpoint("POST", "/gamedays/{day}/end", Viewer, Anywhere, "Ends the game day"),
    endpoint("GET", "/policy", Viewer, Anywhere, "The environments, and what each asks of an experiment"),
    endpoint("GET", "/whoami", Viewer, Anywhere, "Who one is, and what one may"),
    endpoint("POST", "/environments/{environment}/plans", Operator, Environment, "What a run of a file would hit here; touches nothing"),
    endpoint("POST", "/environments/{environment}/promotions", Operator, Environment, "What is missing before a file may run here; changes nothing"),
    endpoint("GET", "/environments/{environment}/approvals", Viewer, Environment, "What was asked for here, the newest first"),
    endpoint("POST", "/environments/{environment}/approvals", Operator, Environment, "Asks for somebody else's approval of a file"),
    endpoint("GET", "/environments/{environment}/approvals/{id}", Viewer, Environment, "A request for approval, and what was said to it"),
    endpoint("POST", "/environments/{environment}/approvals/{id}/votes", Approver, Environment, "Says yes or no to what somebody else asked for"),
    endpoint("POST", "/environments/{environment}/answers", Operator, Environment, "Answers questions of the checklist for a file"),
    endpoint("GET", "/environments/{environment}/evidence", Viewer, Environment, "What runs have shown here, the oldest first"),
    endpoint("GET", "/environments/{environment}/evidence/{run}/statement", Viewer, Environment, "What a run has shown, signed for another controller"),
    endpoint("POST", "/environments/{environment}/gates/{question}", Operator, Environment, "Judges a release under a fault: for Argo Rollouts and Flagger"),
    endpoint("GET", "/evidence/key", Viewer, Anywhere, "The public key of what this controller signs"),
    endpoint("POST", "/evidence", Operator, Anywhere, "Takes what another controller signed, if the policy trusts it"),
    endpoint("GET", "/tokens", Admin, Everywhere, "The API tokens, without their secrets"),
    secret(endpoint("POST", "/tokens", Admin, Everywhere, "Makes an API token; it is shown this once")),
    endpoint("DELETE", "/tokens/{id}", Admin, Everywhere, "Takes back an API token"),
    endpoint("GET", "/audit", Admin, Everywhere, "Who did what, the oldest first"),
    endpoint("GET", "/audit/verification", Admin, Everywhere, "Holds the audit log against its own chain"),
];

/// The endpoint of a route: its path as it was declared, with its parameters in braces.
#[must_use]
pub fn find(method: &str, path: &str) -> Endpoint {
    // A HEAD is a GET whose answer is not read.
    let method = if method == "HEAD" { "GET" } else { method };
    let all = ENDPOINTS.iter();
    let found = all
        .copied()
        .find(|one| one.method == method && one.path == path);
    found.unwrap_or(endpoint("", "", Admin, Everywhere, ""))
}

impl Endpoint {
    /// Whether somebody may use it; `environment` is what its path names.
    #[must_use]
    pub fn lets(&self, grants: &Grants, environment: Option<&str>) -> bool {
        match (self.scope, environment) {
            (Anywhere, _) => grants.has(self.role),
            (Environment, Some(environment)) => grants.has_in(self.role, environment),
            (Everywhere, _) | (Environment, None) => grants.has_everywhere(self.role),
        }
    }
}
