//! Bodies on their way back: whole, cut short, or a sentence of our own. Nothing is collected.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use tokio::time::{Sleep, sleep};

use super::rule::{Rule, add};

/// Between the last byte that gets through and the break: what was written is sent by then.
const SENT: Duration = Duration::from_millis(20);

/// A response's body.
pub(super) enum Answer {
    /// As the service sends it.
    Whole(Incoming),
    /// Its beginning.
    Cut(Cut),
    /// Ours.
    Said(Full<Bytes>),
}

/// The beginning of a body, and then a break.
pub(super) struct Cut {
    body: Incoming,
    left: u64,
    rule: Arc<Rule>,
    breaking: Option<Pin<Box<Sleep>>>,
}

/// Why a message is not whole.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    /// The service's side broke.
    #[error("the service's answer broke off")]
    Service(#[from] hyper::Error),
    /// That is the fault.
    #[error("broken off by the fault")]
    OnPurpose,
}

impl Answer {
    /// The first `left` bytes. A body that is known to be no longer is left whole.
    pub(super) fn cut(body: Incoming, left: u64, rule: &Arc<Rule>) -> Self {
        match body.size_hint().exact() {
            Some(size) if size <= left => Self::Whole(body),
            _ => Self::Cut(Cut {
                body,
                left,
                rule: Arc::clone(rule),
                breaking: None,
            }),
        }
    }

    /// A sentence.
    pub(super) fn said(text: &'static str) -> Self {
        Self::Said(Full::new(Bytes::from_static(text.as_bytes())))
    }
}

impl Cut {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        loop {
            if let Some(breaking) = &mut self.breaking {
                ready!(breaking.as_mut().poll(cx));
                return Poll::Ready(Some(Err(Broken::OnPurpose)));
            }
            let next = match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => frame,
                // It was short enough.
                other => return Poll::Ready(other.map(|frame| frame.map_err(Broken::Service))),
            };
            let Ok(mut data) = next.into_data() else {
                // Trailers, which come behind the end of a body that was short enough.
                return Poll::Ready(None);
            };
            let length = data.len() as u64;
            if length <= self.left {
                self.left -= length;
                return Poll::Ready(Some(Ok(Frame::data(data))));
            }
            // What is left of it is less than the data, and so fits.
            data.truncate(usize::try_from(self.left).unwrap_or(usize::MAX));
            self.left = 0;
            add(&self.rule.tally.truncated);
            self.breaking = Some(Box::pin(sleep(SENT)));
            if !data.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(data))));
            }
        }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match self.get_mut() {
            Self::Whole(body) => Pin::new(body).poll_frame(cx).map_err(Broken::Service),
            Self::Cut(cut) => cut.poll(cx),
            Self::Said(body) => Pin::new(body)
                .poll_frame(cx)
                .map_err(|never| match never {}),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(body) => body.is_end_stream(),
            Self::Cut(_) => false,
            Self::Said(body) => body.is_end_stream(),
        }
    }

    /// A cut body promises its whole length: that is what makes it a broken one.
    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(body) => body.size_hint(),
            Self::Cut(cut) => cut.body.size_hint(),
            Self::Said(body) => body.size_hint(),
        }
    }
}
