//! A controller that stands by: it answers what is kept, and leads everybody else to the leader.

use super::{Api, problem::Problem};
use axum::extract::{Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

/// What any controller may do: say a halt, which the leader sees in the database.
const ANYBODYS: &str = "/api/v1/halt";

/// What is read and the leader alone knows: which agents are there, and which commit is in force.
const LEADERS: [&str; 2] = ["/api/v1/agents", "/api/v1/git/plan"];

/// Lets through what this controller may answer. People and programs are sent on to the leader (307); an agent is told to try
/// elsewhere, or again (503): it has all the addresses.
pub(super) async fn led(State(api): State<Api>, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let people = path.starts_with("/api/");
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    // What happens now the leader alone knows, though it is only read.
    let live = LEADERS.contains(&path) || path.ends_with("/events");
    let says_halt = path == ANYBODYS && request.method() == Method::POST;
    if api.leader.leads() || (people && ((reads && !live) || says_halt)) {
        return next.run(request).await;
    }
    let Some(leader) = api.leader.elsewhere() else {
        return nobody().into_response();
    };
    let asked = request
        .uri()
        .path_and_query()
        .map_or(path, |asked| asked.as_str());
    let there = HeaderValue::from_str(&format!("{leader}{asked}"));
    let detail = format!("this controller stands by: the leader is {leader}");
    match there {
        Ok(there) if people => {
            let problem = Problem::new(StatusCode::TEMPORARY_REDIRECT, detail);
            ([(header::LOCATION, there)], problem).into_response()
        }
        _ => again(Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail)),
    }
}

/// There is no leader, as far as this controller knows.
pub(super) fn nobody() -> Problem {
    Problem::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "no controller leads at this moment: try again in a few seconds; if it stays so, look at the database",
    )
}

fn again(problem: Problem) -> Response {
    ([(header::RETRY_AFTER, "1")], problem).into_response()
}
