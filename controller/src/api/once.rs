//! A request with an `Idempotency-Key` is done once, however often it is sent
//! (<https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/>).

use super::problem::Problem;
use super::{Api, now_us};
use crate::access::Caller;
use crate::access::endpoints::Endpoint;
use crate::store::Known;
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use sha2::{Digest as _, Sha256};
use squall_experiments::join::Fingerprint;

const KEY: &str = "idempotency-key";
/// Letters of a key; a UUID has 36.
const KEY_BYTES_MAX: usize = 200;
/// An answer that is kept: what was made, not a report.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// Does it, or answers what was answered when it was done.
pub(super) async fn once(
    api: &Api,
    caller: &Caller,
    endpoint: &Endpoint,
    request: Request,
    next: Next,
) -> Response {
    let key = request.headers().get(KEY).cloned();
    match key {
        // To stop twice is to stop.
        Some(key) if request.method() == Method::POST && !endpoint.is_stop => {
            let done = known_by(api, caller, endpoint, &key, request, next).await;
            done.unwrap_or_else(IntoResponse::into_response)
        }
        _ => next.run(request).await,
    }
}

async fn known_by(
    api: &Api,
    caller: &Caller,
    endpoint: &Endpoint,
    key: &HeaderValue,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let no = |status, why: &str| Problem::new(status, format!("`Idempotency-Key` {why}"));
    let bad = |why: &str| no(StatusCode::BAD_REQUEST, why);
    let key = key.to_str().map_err(|_| bad("is no text"))?.to_owned();
    if key.is_empty() || key.len() > KEY_BYTES_MAX {
        return Err(bad("has 1 to 200 letters, such as a UUID"));
    }
    let (head, body) = request.into_parts();
    let body = to_bytes(body, super::FILE_BODY_BYTES_MAX)
        .await
        .map_err(|_| {
            Problem::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "the body is too large, or broke off",
            )
        })?;
    let mut hash = Sha256::new();
    for part in [
        head.method.as_str().as_bytes(),
        head.uri.to_string().as_bytes(),
        &body,
    ] {
        hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        hash.update(part);
    }
    let request = Fingerprint(hash.finalize().into());
    let known = api
        .store
        .begin_once(&caller.name, &key, request, now_us())
        .await?;
    match known {
        Known::New => {}
        Known::UnderWay => {
            let why = "belongs to a request that is being done; ask again in a moment";
            return Err(no(StatusCode::CONFLICT, why));
        }
        Known::Another => {
            let why = "was used for another request; take a new one for each";
            return Err(no(StatusCode::UNPROCESSABLE_ENTITY, why));
        }
        Known::Done(status, body) => return replay(status, body),
    }
    let (api, who, is_secret) = (api.clone(), caller.name.clone(), endpoint.is_secret);
    // By itself: who hangs up must not leave it half done.
    let doing = tokio::spawn(async move {
        let answer = next.run(Request::from_parts(head, Body::from(body))).await;
        keep(&api, &who, &key, answer, is_secret).await
    });
    doing
        .await
        .map_err(|_| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the request failed"))?
}

async fn keep(
    api: &Api,
    who: &str,
    key: &str,
    answer: Response,
    is_secret: bool,
) -> Result<Response, Problem> {
    let (head, body) = answer.into_parts();
    let body = to_bytes(body, ANSWER_BYTES_MAX).await;
    let body = body
        .map_err(|_| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the answer is too long"))?;
    let text = String::from_utf8_lossy(&body);
    let status = head.status.as_u16();
    // What failed on this side may be tried again.
    let answered = (!head.status.is_server_error()).then_some((
        status,
        (!is_secret || !head.status.is_success()).then_some(&*text),
    ));
    api.store.end_once(who, key, answered).await?;
    Ok(Response::from_parts(head, Body::from(body)))
}

fn replay(status: u16, body: Option<String>) -> Result<Response, Problem> {
    let Some(body) = body else {
        return Err(Problem::new(
            StatusCode::CONFLICT,
            "this was done, and its secret was shown then and is kept nowhere: revoke what was made, and make another",
        ));
    };
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
    let kind = if status.is_success() {
        "application/json"
    } else {
        "application/problem+json"
    };
    let heads = [
        (header::CONTENT_TYPE.as_str(), kind),
        ("idempotency-replayed", "true"),
    ];
    Ok((status, heads, body).into_response())
}
