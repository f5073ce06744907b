//! Runs as traces, for whoever looks at the systems that they hit: sent over OTLP/HTTP when a run is over, where somebody asked for it.
//!
//! A trace is one more fold of a run's events, as its report is. The controller tells what agents did, too: their words about a fault say when
//! it was in force and for how long that took, so that agents dial nobody else, carry no exporter, and those of older versions are in the trace
//! as well. What the parts are called is in [`squall_experiments::trace`].
//!
//! ```text
//!  a run is over ──▶ its spans ──▶ queue, bounded ──▶ batches ──▶ the receiver
//!                                    └─ full: dropped    └─ not taken: dropped          both are counted
//! ```
//!
//! Nothing of this is waited for: a run has its verdict, and its end is told, before its trace is made.

mod export;
mod spans;
#[cfg(test)]
mod tests;

use crate::run::desk::Ended;
use crate::store::{Store, interrupted};
use export::{Courier, Service, exporter};
use opentelemetry_otlp::ExporterBuildError;
use opentelemetry_sdk::trace::{SpanData, SpanExporter};
use prometheus_client::metrics::counter::Counter;
use squall_experiments::event::{Event, Happening};
use squall_experiments::ids::RunId;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// So many spans may wait: those of a run over 10,000 targets, and of some more. Each is a kilobyte or two.
const WAITING_MAX: usize = 32_768;

/// So many are sent at once: well below what receivers take (some take 4 MiB).
const BATCH_MAX: usize = 512;

/// A batch is given up after so long; the exporter's own limit, which the environment may set, is mostly shorter.
const BATCH_TIME_MAX: Duration = Duration::from_secs(20);

/// Where traces go.
#[derive(Debug, Clone, clap::Args)]
pub struct TraceArgs {
    /// Sends each run as a trace to this receiver of OTLP over HTTP (protobuf), once it is over: `http://collector:4318`. Headers are in
    /// OTEL_EXPORTER_OTLP_HEADERS, an authority in OTEL_EXPORTER_OTLP_CERTIFICATE
    #[arg(long = "otlp", value_name = "URL", env = "OTEL_EXPORTER_OTLP_ENDPOINT")]
    endpoint: Option<String>,
}

/// Why no traces can be sent.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// The address, or a certificate.
    #[error("traces cannot be sent to `{endpoint}`: see --otlp and OTEL_EXPORTER_OTLP_…")]
    Client {
        /// Where to.
        endpoint: String,
        /// Why not.
        #[source]
        source: crate::probe::ProbeError,
    },
    /// What the environment says.
    #[error("traces cannot be sent: see OTEL_EXPORTER_OTLP_…")]
    Exporter(#[from] ExporterBuildError),
}

/// What became of spans, in figures.
#[derive(Debug, Clone, Default)]
pub struct Counts {
    /// Taken by the receiver.
    pub sent: Counter,
    /// Given up: the queue was full, or the receiver did not take them.
    pub dropped: Counter,
}

enum Word {
    Span(Service, Box<SpanData>),
    /// Everything that was said before is to be sent, or given up.
    Flush(oneshot::Sender<()>),
}

/// Where runs that are over are told. Cloning it is another handle to the same.
#[derive(Clone)]
pub struct Traces {
    say: mpsc::Sender<Word>,
    counts: Counts,
}

impl TraceArgs {
    /// Begins to send, where somebody asked for it.
    ///
    /// # Errors
    /// The address or what the environment says of it cannot be used.
    pub fn start(&self, counts: Counts) -> Result<Option<Traces>, TraceError> {
        let Some(endpoint) = self.endpoint.as_deref().filter(|url| !url.is_empty()) else {
            return Ok(None);
        };
        let url = traces_url(endpoint);
        let courier = Courier::new(&url).map_err(|source| TraceError::Client {
            endpoint: endpoint.to_owned(),
            source,
        })?;
        let controller = exporter(&courier, &url, Service::Controller)?;
        let agents = exporter(&courier, &url, Service::Agent)?;
        Ok(Some(Traces::start(controller, agents, counts, WAITING_MAX)))
    }
}

/// OTLP's specification: the signal's path below what the general variable says.
fn traces_url(endpoint: &str) -> String {
    let endpoint = endpoint.trim_end_matches('/');
    if endpoint.ends_with("/v1/traces") {
        endpoint.to_owned()
    } else {
        format!("{endpoint}/v1/traces")
    }
}

impl Traces {
    fn start<E: SpanExporter + 'static>(
        controller: E,
        agents: E,
        counts: Counts,
        waiting: usize,
    ) -> Self {
        let (say, hear) = mpsc::channel(waiting);
        tokio::spawn(send(hear, controller, agents, counts.clone()));
        Self { say, counts }
    }

    /// Tells a run that is over. Never waits: what does not fit into the queue is dropped.
    pub fn tell(&self, events: &[Event]) {
        let spans::Spans { controller, agents } = spans::of(events);
        let of = |service| move |span| Word::Span(service, Box::new(span));
        let words = controller.into_iter().map(of(Service::Controller));
        let words = words.chain(agents.into_iter().map(of(Service::Agent)));
        let mut dropped = 0;
        for word in words {
            dropped += u64::from(self.say.try_send(word).is_err());
        }
        if dropped > 0 {
            self.counts.dropped.inc_by(dropped);
            tracing::warn!(
                dropped,
                "spans of a run's trace were dropped: too many wait to be sent"
            );
        }
    }

    /// Hears of each run that ended, beside somebody else. A run that another controller ended is told by that one.
    #[must_use]
    pub fn beside(self, other: Ended) -> Ended {
        std::sync::Arc::new(move |run, events| {
            if !is_interrupted(&events) {
                self.tell(&events);
            }
            other(run, events)
        })
    }

    /// Tells runs that an earlier leader left without an end, as they are kept.
    pub async fn tell_interrupted(&self, store: &Store, runs: &[RunId]) {
        for run in runs {
            match store.events(run).await {
                Ok(events) => self.tell(&events),
                Err(error) => {
                    let error = crate::words::chain(&error);
                    tracing::warn!(%run, error, "an interrupted run's trace is not sent");
                }
            }
        }
    }

    /// Waits until everything told so far is sent or given up, but not longer than `most`.
    pub async fn flush(&self, most: Duration) {
        let (done, hear) = oneshot::channel();
        let flushed = async {
            if self.say.send(Word::Flush(done)).await.is_ok() {
                // Gone is as good: nobody sends any more.
                let _done = hear.await;
            }
        };
        if tokio::time::timeout(most, flushed).await.is_err() {
            tracing::warn!("the traces of the last runs may not have been taken by their receiver");
        }
    }
}

fn is_interrupted(events: &[Event]) -> bool {
    let last = events.last().map(|event| &event.what);
    matches!(last, Some(Happening::Finished(finished)) if *finished == interrupted())
}

/// Sends what is said, batch by batch, until nobody is left to say anything.
async fn send<E: SpanExporter>(
    mut hear: mpsc::Receiver<Word>,
    controller: E,
    agents: E,
    counts: Counts,
) {
    let mut words = Vec::new();
    let mut works = true;
    while hear.recv_many(&mut words, BATCH_MAX).await > 0 {
        let (mut of_controller, mut of_agents, mut flushes) = (Vec::new(), Vec::new(), Vec::new());
        for word in words.drain(..) {
            match word {
                Word::Span(Service::Controller, span) => of_controller.push(*span),
                Word::Span(Service::Agent, span) => of_agents.push(*span),
                Word::Flush(done) => flushes.push(done),
            }
        }
        for (exporter, batch) in [(&controller, of_controller), (&agents, of_agents)] {
            if batch.is_empty() {
                continue;
            }
            let count = u64::try_from(batch.len()).unwrap_or(u64::MAX);
            let sent = tokio::time::timeout(BATCH_TIME_MAX, exporter.export(batch)).await;
            let error = match sent {
                Ok(Ok(())) => {
                    counts.sent.inc_by(count);
                    works = true;
                    continue;
                }
                Ok(Err(error)) => error.to_string(),
                Err(_) => format!("no answer within {} s", BATCH_TIME_MAX.as_secs()),
            };
            counts.dropped.inc_by(count);
            // Said once: a receiver that is away for a day is one line, not one for each run.
            if works {
                tracing::warn!(error, "traces are not taken by their receiver, and dropped");
            }
            works = false;
        }
        for done in flushes {
            // Whoever asked may have gone.
            let _asked = done.send(());
        }
    }
}
