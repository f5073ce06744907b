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
    /// What is answered holds a secret, which is never kept.
    pub is_secret: bool,
    /// It stops something: never held up, whatever else is asked.
    pub is_stop: bool,
}

const fn endpoint(method: &'static str, path: &'static str, role: Role, scope: Scope) -> Endpoint {
    Endpoint {
        method,
        path,
        role,
        scope,
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
pub const ENDPOINTS: &[Endpoint] = &[
    endpoint("GET", "/agents", Viewer, Everywhere),
    endpoint("DELETE", "/agents/{node}", Admin, Everywhere),
    endpoint("POST", "/agents/{node}/revoke", Admin, Everywhere),
    endpoint("GET", "/join-tokens", Admin, Everywhere),
    secret(endpoint("POST", "/join-tokens", Admin, Everywhere)),
    endpoint("DELETE", "/join-tokens/{id}", Admin, Everywhere),
    endpoint("GET", "/runs", Viewer, Anywhere),
    endpoint("POST", "/runs", Operator, Anywhere),
    endpoint("GET", "/runs/{run}", Viewer, Anywhere),
    endpoint("GET", "/runs/{run}/events", Viewer, Anywhere),
    endpoint("GET", "/runs/{run}/report", Viewer, Anywhere),
    endpoint("GET", "/runs/{run}/preflight", Viewer, Anywhere),
    // Whoever may start anything may stop everything.
    stop(endpoint("POST", "/runs/{run}/stop", Operator, Anywhere)),
    endpoint("GET", "/metrics", Viewer, Everywhere),
    endpoint("GET", "/halt", Viewer, Anywhere),
    stop(endpoint("POST", "/halt", Operator, Anywhere)),
    endpoint("DELETE", "/halt", Operator, Everywhere),
    endpoint("GET", "/schedules", Viewer, Everywhere),
    endpoint("GET", "/schedule-files", Viewer, Everywhere),
    endpoint("PUT", "/schedules/{name}", Operator, Everywhere),
    endpoint("DELETE", "/schedules/{name}", Operator, Everywhere),
    stop(endpoint(
        "POST",
        "/schedules/{name}/suspend",
        Operator,
        Anywhere,
    )),
    endpoint("POST", "/schedules/{name}/resume", Operator, Everywhere),
    endpoint("GET", "/schedules/{name}/starts", Viewer, Everywhere),
    endpoint("GET", "/policy", Viewer, Anywhere),
    endpoint("GET", "/whoami", Viewer, Anywhere),
    endpoint(
        "POST",
        "/environments/{environment}/promotions",
        Operator,
        Environment,
    ),
    endpoint(
        "GET",
        "/environments/{environment}/approvals",
        Viewer,
        Environment,
    ),
    endpoint(
        "POST",
        "/environments/{environment}/approvals",
        Operator,
        Environment,
    ),
    endpoint(
        "GET",
        "/environments/{environment}/approvals/{id}",
        Viewer,
        Environment,
    ),
    endpoint(
        "POST",
        "/environments/{environment}/approvals/{id}/votes",
        Approver,
        Environment,
    ),
    endpoint(
        "POST",
        "/environments/{environment}/answers",
        Operator,
        Environment,
    ),
    endpoint(
        "GET",
        "/environments/{environment}/evidence",
        Viewer,
        Environment,
    ),
    endpoint(
        "GET",
        "/environments/{environment}/evidence/{run}/statement",
        Viewer,
        Environment,
    ),
    endpoint("GET", "/evidence/key", Viewer, Anywhere),
    endpoint("POST", "/evidence", Operator, Anywhere),
    endpoint("GET", "/tokens", Admin, Everywhere),
    secret(endpoint("POST", "/tokens", Admin, Everywhere)),
    endpoint("DELETE", "/tokens/{id}", Admin, Everywhere),
    endpoint("GET", "/audit", Admin, Everywhere),
    endpoint("GET", "/audit/verification", Admin, Everywhere),
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
    found.unwrap_or(endpoint("", "", Admin, Everywhere))
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
