//! The link to the controller: WebSocket frames over a stream, one JSON message each.

pub(crate) mod dial;
mod identity;
mod pinned;

use crate::kernel::channel;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use hyper::body::Bytes;
use squall_experiments::wire::skew::{self, Noticed, TooFar, Unread};
use squall_experiments::wire::{FromAgent, FromController, MESSAGE_BYTES_MAX};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, timeout_at};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message};

/// Messages waiting for a controller that reads slowly. Doses are dropped when it is full; when something else does
/// not fit, the link counts as lost: the controller has read nothing for minutes.
pub(crate) const OUTBOX_MAX: usize = 4096;
/// The default of 128 KiB each way is for servers; ours are a few hundred bytes a second.
const BUFFER_BYTES: usize = 4096;

/// Why there is no link.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkError {
    /// The socket is none.
    #[error("the inherited link cannot be used")]
    Open {
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The other side does not speak WebSocket.
    #[error(
        "the controller opened no link (after 401 or 403 join again: `squall agents` there says why)"
    )]
    Handshake {
        /// Why.
        #[source]
        source: Box<Error>,
    },
    /// Not the link's fault: what would end a hanging agent is gone.
    #[error("its watchdog is gone, and the agent does not go on without it: start it again")]
    Watchdog,
    /// The controller speaks another language.
    #[error(transparent)]
    Version(#[from] TooFar),
}

impl LinkError {
    /// Whether the controller answered, and said no: this agent was shut out, or forgotten.
    fn is_no(&self) -> bool {
        match self {
            Self::Handshake { source } => match &**source {
                Error::Http(answer) => answer.status().is_client_error(),
                _ => false,
            },
            _ => false,
        }
    }
}

/// What a link runs over.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}
type Socket = WebSocketStream<Box<dyn Stream>>;

/// How often a far controller is asked whether it is there: the kernel answers for a process that stands still.
const ASK_EVERY: Duration = Duration::from_secs(10);
/// A far controller that says nothing for so long, and answers nothing, is gone: another may lead.
const SILENT_MAX: Duration = Duration::from_secs(25);

/// What the controller says, message by message.
pub(crate) struct Inbox {
    frames: SplitStream<Socket>,
    /// When the last was heard, where silence means that the controller is gone.
    heard: Option<Instant>,
    /// What was passed over.
    noticed: Noticed,
}

/// A link that stands.
pub(crate) struct Link {
    /// What is heard.
    pub(crate) inbox: Inbox,
    /// What is said goes in here.
    pub(crate) outbox: mpsc::Sender<FromAgent>,
    /// Ends with the outbox, once everything is said.
    pub(crate) writer: tokio::task::JoinHandle<()>,
    /// Where the controller is, if it is reached over a network.
    pub(crate) peer: Option<SocketAddr>,
}

/// Opens the link on an inherited socket.
pub(crate) async fn open(socket: OwnedFd) -> Result<Link, LinkError> {
    let open = |source| LinkError::Open { source };
    let peer = channel::peer(&socket);
    let socket = std::os::unix::net::UnixStream::from(socket);
    socket.set_nonblocking(true).map_err(open)?;
    let socket = UnixStream::from_std(socket).map_err(open)?;
    let link = shake_hands("ws://controller/agent", socket, false).await?;
    Ok(Link { peer, ..link })
}

/// Opens a link to `url` over a stream that leads there; a `far` controller is asked from time to time whether it is there.
async fn shake_hands(
    url: &str,
    stream: impl Stream + 'static,
    far: bool,
) -> Result<Link, LinkError> {
    let config = WebSocketConfig::default()
        .read_buffer_size(BUFFER_BYTES)
        .write_buffer_size(0)
        .max_message_size(Some(MESSAGE_BYTES_MAX))
        .max_frame_size(Some(MESSAGE_BYTES_MAX));
    let stream: Box<dyn Stream> = Box::new(stream);
    let (socket, _) = tokio_tungstenite::client_async_with_config(url, stream, Some(config))
        .await
        .map_err(|source| LinkError::Handshake {
            source: Box::new(source),
        })?;
    let (sink, stream) = socket.split();
    let (outbox, receiver) = mpsc::channel(OUTBOX_MAX);
    Ok(Link {
        inbox: Inbox {
            frames: stream,
            heard: far.then(Instant::now),
            noticed: Noticed::default(),
        },
        outbox,
        writer: tokio::spawn(write(sink, receiver, far)),
        peer: None,
    })
}

async fn write(
    mut sink: SplitSink<Socket, Message>,
    mut outbox: mpsc::Receiver<FromAgent>,
    far: bool,
) {
    let mut ask = tokio::time::interval_at(Instant::now() + ASK_EVERY, ASK_EVERY);
    ask.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let message = tokio::select! {
            message = outbox.recv() => message,
            _ = ask.tick(), if far => {
                if sink.send(Message::Ping(Bytes::new())).await.is_err() {
                    return;
                }
                continue;
            }
        };
        let Some(message) = message else { break };
        let text = match serde_json::to_string(&message) {
            Ok(text) => text,
            Err(error) => {
                tracing::error!(%error, "a message cannot be encoded");
                continue;
            }
        };
        if text.len() > MESSAGE_BYTES_MAX {
            tracing::error!(
                bytes = text.len(),
                "a message is too long for the wire and is dropped"
            );
            continue;
        }
        // The reader sees the end of the link and says so.
        if sink.send(Message::text(text)).await.is_err() {
            return;
        }
    }
    let _ = sink.close().await;
}

impl Inbox {
    /// May be dropped while it waits, and asked again: silence counts from the last that was heard.
    async fn frame(&mut self) -> Option<Result<Message, Error>> {
        let Some(heard) = &mut self.heard else {
            return self.frames.next().await;
        };
        let Ok(frame) = timeout_at(*heard + SILENT_MAX, self.frames.next()).await else {
            tracing::warn!(
                "the controller says nothing for {SILENT_MAX:?}: the link counts as lost"
            );
            return None;
        };
        *heard = Instant::now();
        frame
    }

    /// The next message, or what of it is not understood; `None` when the link is lost, or talks nonsense. A newer controller may say what
    /// this agent does not know: kinds of messages that are not known are passed over.
    pub(crate) async fn next(&mut self) -> Option<Result<FromController, Unread>> {
        loop {
            let text = match self.frame().await? {
                Ok(Message::Text(text)) => text,
                // The library answers pings by itself.
                Ok(Message::Ping(_) | Message::Pong(_)) => continue,
                Ok(Message::Close(_)) => return None,
                Ok(_) => {
                    tracing::error!("the controller sent a frame that is not text");
                    return None;
                }
                Err(error) => {
                    tracing::debug!(%error, "the link is lost");
                    return None;
                }
            };
            match skew::of_controller(text.as_str()) {
                Ok(message) => return Some(Ok(message)),
                Err(Unread::Kind(kind)) => {
                    if self.noticed.is_first(&kind) {
                        tracing::warn!(
                            kind,
                            "the controller is newer, and says what this agent does not know: it is passed over"
                        );
                    }
                }
                Err(unread @ Unread::Content { .. }) => return Some(Err(unread)),
                Err(error @ Unread::Nonsense(_)) => {
                    tracing::error!(%error, "the controller's words make no sense: the link is closed");
                    return None;
                }
            }
        }
    }
}
