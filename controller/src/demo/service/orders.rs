//! The order service, in two versions that differ in one decision: what to do when payment is slow.
//!
//! Both take an order with `POST /orders`, charge it over one of a few connections to payment, and answer.
//!
//! - **v1** waits for payment, however long. While payment answers 300 ms late, every order holds a connection for
//!   as long, eight connections serve some 25 orders a second, and at 50 orders a second the rest queue up, later
//!   and later. Nothing fails; it just never answers in time again.
//! - **v2** gives payment a deadline. Past it the order is accepted as payment-pending (202), and charged in the
//!   background when payment has time.

use crate::demo::http;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc};

/// Connections to payment: what a service that was sized on a good day would have. A charge takes 5 ms then, so
/// eight connections serve 1,600 orders a second.
const PAYMENT_CONNECTIONS: usize = 8;
/// v2's deadline for payment: twenty times what payment takes on a good day, and a quarter of what the order may
/// take, so that even a machine that is busy compiling leaves room.
const DEADLINE_MS: u64 = 100;
/// Orders that may wait to be charged in the background: more than the demo's load makes in its whole life. Past
/// it, orders are refused rather than forgotten.
const PENDING_MAX: usize = 20_000;
/// How long the background gives payment for one charge before it tries again, and how long it then waits.
const SETTLE_MS: u64 = 5_000;
const SETTLE_AGAIN_MS: u64 = 250;
/// Charges in the background at once: they must not take the connections from new orders.
const SETTLERS: usize = 4;

/// Which decision the service was built with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::demo) enum Version {
    /// Waits for payment, however long.
    V1,
    /// A deadline on payment; past it the order is payment-pending.
    V2,
}

/// What the service did, on `GET /stats`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::demo) struct Stats {
    /// Orders paid before they were answered.
    pub(in crate::demo) paid: u64,
    /// Orders accepted as payment-pending.
    pub(in crate::demo) pending: u64,
    /// Of those, charged since.
    pub(in crate::demo) settled: u64,
    /// Orders refused.
    pub(in crate::demo) refused: u64,
}

impl Stats {
    /// What was counted after `before` was.
    pub(in crate::demo) const fn since(&self, before: &Self) -> Self {
        Self {
            paid: self.paid.saturating_sub(before.paid),
            pending: self.pending.saturating_sub(before.pending),
            settled: self.settled.saturating_sub(before.settled),
            refused: self.refused.saturating_sub(before.refused),
        }
    }
}

struct Orders {
    version: Version,
    payment: http::Client,
    charge_url: String,
    connections: Semaphore,
    pending: mpsc::Sender<u64>,
    number: AtomicU64,
    counts: Counts,
}

#[derive(Default)]
struct Counts {
    paid: AtomicU64,
    pending: AtomicU64,
    settled: AtomicU64,
    refused: AtomicU64,
}

/// The service's routes, with its background work started.
pub(super) fn router(payment: SocketAddr, version: Version) -> Router {
    let (pending, queue) = mpsc::channel(PENDING_MAX);
    let orders = Arc::new(Orders {
        version,
        payment: http::Client::new(PAYMENT_CONNECTIONS + SETTLERS),
        charge_url: format!("http://{payment}/charge"),
        connections: Semaphore::new(PAYMENT_CONNECTIONS),
        pending,
        number: AtomicU64::new(0),
        counts: Counts::default(),
    });
    let queue = Arc::new(tokio::sync::Mutex::new(queue));
    for _ in 0..SETTLERS {
        tokio::spawn(settle(Arc::clone(&orders), Arc::clone(&queue)));
    }
    Router::new()
        .route("/orders", post(order))
        .route("/stats", get(stats))
        .with_state(orders)
}

async fn order(State(orders): State<Arc<Orders>>) -> (StatusCode, String) {
    let number = orders.number.fetch_add(1, Relaxed) + 1;
    let charged = match orders.version {
        Version::V1 => orders.charge(number).await,
        Version::V2 => {
            let deadline = Duration::from_millis(DEADLINE_MS);
            match tokio::time::timeout(deadline, orders.charge(number)).await {
                Ok(charged) => charged,
                Err(_) => return orders.accept_pending(number),
            }
        }
    };
    if charged {
        orders.counts.paid.fetch_add(1, Relaxed);
        (
            StatusCode::CREATED,
            format!("{{\"order\":{number},\"state\":\"paid\"}}"),
        )
    } else {
        orders.counts.refused.fetch_add(1, Relaxed);
        (
            StatusCode::BAD_GATEWAY,
            format!("{{\"order\":{number},\"state\":\"payment failed\"}}"),
        )
    }
}

async fn stats(State(orders): State<Arc<Orders>>) -> Json<Stats> {
    let counts = &orders.counts;
    Json(Stats {
        paid: counts.paid.load(Relaxed),
        pending: counts.pending.load(Relaxed),
        settled: counts.settled.load(Relaxed),
        refused: counts.refused.load(Relaxed),
    })
}

impl Orders {
    /// Charges an order over one of the few connections to payment.
    async fn charge(&self, number: u64) -> bool {
        // Closed only with the service itself.
        let Ok(_connection) = self.connections.acquire().await else {
            return false;
        };
        self.ask_payment(number).await
    }

    async fn ask_payment(&self, number: u64) -> bool {
        let key = number.to_string();
        let answer = self
            .payment
            .post(&self.charge_url, ("idempotency-key", &key))
            .await;
        matches!(answer, Ok(status) if status.is_success())
    }

    fn accept_pending(&self, number: u64) -> (StatusCode, String) {
        if self.pending.try_send(number).is_ok() {
            self.counts.pending.fetch_add(1, Relaxed);
            (
                StatusCode::ACCEPTED,
                format!("{{\"order\":{number},\"state\":\"payment-pending\"}}"),
            )
        } else {
            self.counts.refused.fetch_add(1, Relaxed);
            (
                StatusCode::SERVICE_UNAVAILABLE,
                format!("{{\"order\":{number},\"state\":\"refused\"}}"),
            )
        }
    }
}

/// Charges what is pending, one after another, until it is charged.
async fn settle(orders: Arc<Orders>, queue: Arc<tokio::sync::Mutex<mpsc::Receiver<u64>>>) {
    loop {
        let next = queue.lock().await.recv().await;
        let Some(number) = next else { return };
        let patience = Duration::from_millis(SETTLE_MS);
        while !matches!(
            tokio::time::timeout(patience, orders.ask_payment(number)).await,
            Ok(true)
        ) {
            tokio::time::sleep(Duration::from_millis(SETTLE_AGAIN_MS)).await;
        }
        orders.counts.settled.fetch_add(1, Relaxed);
    }
}
