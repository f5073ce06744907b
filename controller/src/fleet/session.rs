//! One agent's session: hello, and what is said and heard afterwards.

use super::FleetError;
use super::link::{self, Heard, Sayer};
use crate::leader::Term;
use squall_experiments::wire::skew::{Speaks, agree};
use squall_experiments::wire::{FromAgent, FromController, Hello, PROTOCOL_LEAST, Welcome};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;

/// An agent tries out what its node can do before it says hello; that takes milliseconds, and seconds on a busy machine.
const HELLO_MAX: Duration = Duration::from_secs(15);

/// The controller's own.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// An agent that said hello.
#[derive(Debug)]
pub struct Session {
    /// In which term it was welcomed.
    pub(super) term: Option<u64>,
    /// Its first word.
    pub hello: Hello,
    sayer: Sayer,
    heard: mpsc::Receiver<Heard>,
}

/// Accepts an agent on a stream that it dialled.
///
/// # Errors
/// No hello in time, or another version of the protocol.
pub async fn greet<S>(stream: S) -> Result<Session, FleetError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let accept = tokio_tungstenite::accept_async_with_config(stream, Some(link::framing()));
    let accepted = tokio::time::timeout(HELLO_MAX, accept).await;
    match accepted {
        Ok(Ok(socket)) => greet_on(socket, Term::always()).await,
        Ok(Err(error)) => Err(no_hello(error.to_string())),
        Err(_) => Err(no_hello(format!("nothing for {HELLO_MAX:?}"))),
    }
}

fn no_hello(why: String) -> FleetError {
    FleetError::NoHello { why }
}

/// The same on a WebSocket that stands, for a controller that leads until its term is over.
///
/// # Errors
/// As [`greet`].
pub(super) async fn greet_on<S>(
    socket: WebSocketStream<S>,
    term: Term,
) -> Result<Session, FleetError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let greeting = async {
        let number = term.number();
        let (sayer, mut heard) = link::open(socket, term);
        match heard.recv().await {
            Some(Heard::Message(message)) => match *message {
                FromAgent::Hello(hello) => Ok((hello, sayer, heard, number)),
                other => Err(no_hello(format!("it said {other:?} first"))),
            },
            Some(Heard::Lost(why)) => Err(no_hello(why)),
            None => Err(no_hello("the link closed".into())),
        }
    };
    let greeted = tokio::time::timeout(HELLO_MAX, greeting).await;
    let greeted = greeted.unwrap_or_else(|_| Err(no_hello(format!("nothing for {HELLO_MAX:?}"))));
    let (hello, sayer, heard, term) = greeted?;
    let theirs = Speaks::said(&hello.version, hello.protocol, hello.protocol_least);
    let ours = Speaks::ours(VERSION);
    let agreed = agree(&theirs, &ours);
    if theirs.version != VERSION {
        tracing::info!(
            node = hello.node,
            agent = theirs.version,
            controller = VERSION,
            "an agent is of another version: what one does not know of the other's words is passed over"
        );
    }
    let welcome = FromController::Welcome(Welcome {
        // Where there is none, the agent learns from this why its link ends, and says so on its node.
        protocol: *agreed.as_ref().unwrap_or(&ours.newest),
        protocol_least: Some(PROTOCOL_LEAST),
        version: VERSION.to_owned(),
        spare_pids: vec![std::process::id()],
        term,
    });
    if !sayer.say(welcome) {
        return Err(no_hello("it hung up at once".into()));
    }
    agreed?;
    Ok(Session {
        term,
        hello,
        sayer,
        heard,
    })
}

impl Session {
    /// What says things to it, for others.
    pub(super) fn sayer(&self) -> Sayer {
        self.sayer.clone()
    }

    /// Says something without waiting; `false` when the agent is lost or reads nothing.
    #[must_use]
    pub fn say(&self, message: FromController) -> bool {
        self.sayer.say(message)
    }

    /// The next that is heard. After [`Heard::Lost`] nothing more is.
    pub async fn hear(&mut self) -> Heard {
        match self.heard.recv().await {
            Some(heard) => heard,
            None => std::future::pending().await,
        }
    }
}
