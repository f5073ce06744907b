//! Who calls the API, whether they may, and what is noted of it.
//!
//! ```text
//! address's pace ─▶ token ─▶ token's pace ─▶ endpoint's role, where ─▶ its threads ─▶ done once ─▶ endpoint ─▶ audit log
//! ```

use super::listen::Peer;
use super::problem::Problem;
use super::{Api, acts, now_us, once};
pub(super) use crate::access::Caller;
use crate::access::endpoints::{self, Endpoint, Scope};
use crate::fleet::secret::ApiSecret;
use crate::login::NoKeys;
use crate::store::Deed;
use axum::RequestExt;
use axum::extract::{MatchedPath, RawPathParams, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::net::{IpAddr, Ipv4Addr};

/// Below this path an endpoint's own begins.
const BASE: &str = "/api/v1";
/// So many bytes of a path are noted.
const PATH_BYTES_MAX: usize = 500;

/// What an endpoint adds to the audit log.
#[derive(Debug, Clone)]
pub(super) struct Told(pub(super) serde_json::Value);

/// Lets through who shows a good token and may do what they ask for, and nobody else.
pub(super) async fn known(State(api): State<Api>, request: Request, next: Next) -> Response {
    let endpoint = endpoint(&request);
    let peer = request.extensions().get::<Peer>();
    let address = peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.address.ip());
    let token = token(request.headers());
    let caller = match who(&api, &endpoint, address, token).await {
        Ok(caller) => caller,
        Err(problem) => {
            let ask = [(header::WWW_AUTHENTICATE, "Bearer")];
            return (ask, problem).into_response();
        }
    };
    if request.method().is_safe() {
        return let_in(api, caller, endpoint, request, next).await;
    }
    // With all that is kept of it: whoever hangs up meanwhile leaves nothing half done, and nothing that is not in the log.
    let done = acts::there(&api, let_in(api.clone(), caller, endpoint, request, next)).await;
    done.unwrap_or_else(IntoResponse::into_response)
}

/// Has done what a caller may, once, and notes what they tried.
async fn let_in(
    api: Api,
    caller: Caller,
    endpoint: Endpoint,
    mut request: Request,
    next: Next,
) -> Response {
    let environment = environment(&mut request).await;
    let method = request.method().clone();
    let action = format!("{method} {}", plain(request.uri().path()));
    let answer = if endpoint.lets(&caller.grants, environment.as_deref()) {
        request.extensions_mut().insert(caller.clone());
        once::once(&api, &caller, &endpoint, request, next).await
    } else {
        forbidden(&caller, &endpoint, environment.as_deref()).into_response()
    };
    if !matches!(method, Method::GET | Method::HEAD) {
        let told = answer.extensions().get::<Told>();
        let detail = told.map_or_else(|| "{}".to_owned(), |told| told.0.to_string());
        let noted = (action, answer.status().as_u16(), detail);
        let noting = note(api, caller, noted);
        if endpoint.is_stop {
            tokio::spawn(noting);
        } else {
            noting.await;
        }
    }
    answer
}

/// A path as a log shows it: whatever is in it, it is one line of letters that do nothing to whoever reads it.
fn plain(path: &str) -> String {
    let bytes = path.bytes().take(PATH_BYTES_MAX);
    let shown = bytes.map(|byte| match byte.is_ascii_graphic() {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    });
    shown.collect()
}

/// The endpoint that the router has found.
fn endpoint(request: &Request) -> Endpoint {
    let path = request.extensions().get::<MatchedPath>();
    let path = path.map(MatchedPath::as_str).unwrap_or_default();
    let own = path.strip_prefix(BASE).unwrap_or_default();
    endpoints::find(request.method().as_str(), own)
}

/// The environment that the path names.
async fn environment(request: &mut Request) -> Option<String> {
    let parameters: RawPathParams = request.extract_parts().await.ok()?;
    let mut named = parameters.iter().filter(|(name, _)| *name == "environment");
    named.next().map(|(_, value)| value.to_owned())
}

fn forbidden(caller: &Caller, endpoint: &Endpoint, environment: Option<&str>) -> Problem {
    let role = endpoint.role;
    let place = match (endpoint.scope, environment) {
        (Scope::Environment, Some(environment)) => format!(" in environment `{environment}`"),
        (Scope::Everywhere, _) => " everywhere".to_owned(),
        _ => String::new(),
    };
    Problem::new(
        StatusCode::FORBIDDEN,
        format!(
            "this needs the role {role}{place}, which the token of {} does not have",
            caller.name
        ),
    )
}

async fn who(
    api: &Api,
    endpoint: &Endpoint,
    address: IpAddr,
    token: Option<Token<'_>>,
) -> Result<Caller, Problem> {
    let pace = &api.practice.pace;
    // Stop overtakes everything.
    let in_time = |is_so: bool| match is_so || endpoint.is_stop {
        true => Ok(()),
        false => Err(Problem::new(
            StatusCode::TOO_MANY_REQUESTS,
            "too many requests from this token or address: try again in a second",
        )),
    };
    in_time(pace.address(address))?;
    let caller = match token {
        // A stop does not wait for a connection behind those who read.
        Some(Token::Api(token)) if endpoint.is_stop => {
            let store = api.desk.store().clone();
            let asking = async move { store.caller(&token.id, token.hash(), now_us()).await };
            acts::there(api, asking).await??
        }
        Some(Token::Api(token)) => api.store.caller(&token.id, token.hash(), now_us()).await?,
        Some(Token::Login(text)) => {
            let caller = api.logins.caller(text).await?;
            if let Some(caller) = caller.as_ref().filter(|one| api.logins.is_news(one)) {
                api.store.note_login(caller, now_us()).await?;
            }
            caller
        }
        None => None,
    };
    let Some(caller) = caller else {
        in_time(pace.bad(address))?;
        // One answer for all that is wrong with a token: which it was helps only those who guess.
        return Err(Problem::new(
            StatusCode::UNAUTHORIZED,
            "send `Authorization: Bearer TOKEN` with an API token that is neither expired nor revoked, or log in: `squall login`",
        ));
    };
    in_time(pace.token(&format!("{} {}", caller.token, caller.name)))?;
    Ok(caller)
}

/// What somebody shows.
enum Token<'h> {
    /// One of this controller's own.
    Api(ApiSecret),
    /// Anything else, which may be a token of the login provider.
    Login(&'h str),
}

fn token(headers: &HeaderMap) -> Option<Token<'_>> {
    let said = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    if let Some(text) = said.strip_prefix("Bearer ") {
        return Some(text.parse().map_or(Token::Login(text), Token::Api));
    }
    // Of programs that can be told nothing but an address: https://any:TOKEN@HOST/… (RFC 7617).
    let pair = STANDARD.decode(said.strip_prefix("Basic ")?).ok()?;
    let (_, password) = std::str::from_utf8(&pair).ok()?.split_once(':')?;
    password.parse().ok().map(Token::Api)
}

impl From<NoKeys> for Problem {
    fn from(error: NoKeys) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string())
    }
}

/// Notes who did what. What was done is done: a log that cannot be written is shouted about, and holds up nobody.
async fn note(api: Api, caller: Caller, (action, status, detail): (String, u16, String)) {
    let deed = Deed {
        at_us: now_us(),
        who: &caller.name,
        token: &caller.token,
        action: &action,
        status,
        detail: &detail,
    };
    if let Err(error) = api.store.audit(&deed).await {
        let error = crate::words::chain(&error);
        tracing::error!(
            who = caller.name,
            action,
            status,
            error,
            "not in the audit log"
        );
    }
}
