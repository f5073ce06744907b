//! The payment service: charges an order, once, in a few milliseconds.

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// What a charge takes: a quick service, so that what is seen under fault is the fault.
const CHARGE_MS: u64 = 4;

/// Orders charged so far, by their key: a charge that is asked for again, after a deadline, is not made again.
/// Bounded by what the demo's load can ask for in its lifetime.
type Charged = Arc<Mutex<HashSet<String>>>;

pub(super) fn router() -> Router {
    Router::new()
        .route("/charge", post(charge))
        .with_state(Charged::default())
}

async fn charge(State(charged): State<Charged>, headers: HeaderMap) -> (StatusCode, String) {
    let Some(key) = headers.get("idempotency-key").and_then(|v| v.to_str().ok()) else {
        return (StatusCode::BAD_REQUEST, "no idempotency-key".into());
    };
    tokio::time::sleep(Duration::from_millis(CHARGE_MS)).await;
    let mut charged = charged.lock().unwrap_or_else(PoisonError::into_inner);
    let first = charged.insert(key.to_owned());
    (
        StatusCode::OK,
        format!("{{\"charged\":{},\"first\":{first}}}", charged.len()),
    )
}
