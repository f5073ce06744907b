//! Which agents are there: one link each, the newest.

use super::session::{self, Session};
use super::{FleetError, Heard, link};
use crate::leader::Term;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use squall_experiments::join::{Labels, check_labels};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::oneshot;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::Role;

/// What a connected agent said of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Connected {
    /// From where it dialled.
    pub address: SocketAddr,
    /// When its link was opened, microseconds since the Unix epoch.
    pub since_us: i64,
    /// Its version.
    pub version: String,
    /// Its node's kernel.
    pub kernel: String,
    /// What its node is labelled with.
    pub labels: Labels,
}

struct Present {
    /// Tells this link from the one that took its place.
    number: u64,
    connected: Connected,
    /// Dropped, the link is closed.
    _hold: oneshot::Sender<()>,
}

#[derive(Default)]
struct Links {
    opened: u64,
    present: BTreeMap<String, Present>,
}

/// Which agents are there. Cloning it is another handle to the same.
#[derive(Clone, Default)]
pub struct Registry {
    links: Arc<Mutex<Links>>,
    /// Until when its controller leads.
    term: Term,
}

impl Registry {
    /// Of a controller that leads until its term is over: then it says nothing but stops.
    #[must_use]
    pub fn new(term: Term) -> Self {
        Self {
            term,
            ..Self::default()
        }
    }

    /// Serves one agent's link until it is gone, or another of the same node takes its place: an agent that lost its
    /// link may be back before the controller knows.
    pub async fn serve(&self, node: String, address: SocketAddr, upgraded: Upgraded) {
        let stream = TokioIo::new(upgraded);
        let framing = Some(link::framing());
        let socket = WebSocketStream::from_raw_socket(stream, Role::Server, framing).await;
        match session::greet_on(socket, self.term.clone())
            .await
            .and_then(|s| named(s, &node))
        {
            Ok(session) => self.attend(node, address, session).await,
            Err(error) => tracing::warn!(node, %address, %error, "a link was refused"),
        }
    }

    async fn attend(&self, node: String, address: SocketAddr, mut session: Session) {
        let (hold, mut let_go) = oneshot::channel();
        let number = self.enter(&node, address, &session, hold);
        tracing::info!(node, %address, "an agent is there");
        let why = loop {
            tokio::select! {
                biased;
                _ = &mut let_go => break "its place was taken, or it was shut out".to_owned(),
                heard = session.hear() => match heard {
                    Heard::Lost(why) => break why,
                    Heard::Message(message) => tracing::debug!(node, ?message, "heard outside of a run"),
                },
            }
        };
        self.leave(&node, number);
        tracing::info!(node, %address, why, "an agent is gone");
    }

    fn enter(
        &self,
        node: &str,
        address: SocketAddr,
        session: &Session,
        hold: oneshot::Sender<()>,
    ) -> u64 {
        let hello = &session.hello;
        let connected = Connected {
            address,
            since_us: jiff::Timestamp::now().as_microsecond(),
            version: hello.version.clone(),
            kernel: hello.capabilities.kernel.clone(),
            labels: hello.labels.clone(),
        };
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        links.opened += 1;
        let number = links.opened;
        let present = Present {
            number,
            connected,
            _hold: hold,
        };
        links.present.insert(node.to_owned(), present);
        number
    }

    fn leave(&self, node: &str, number: u64) {
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        if links.present.get(node).is_some_and(|p| p.number == number) {
            links.present.remove(node);
        }
    }

    /// Closes the link of a node, if it has one.
    pub fn hang_up(&self, node: &str) {
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        links.present.remove(node);
    }

    /// Closes all links: their agents look for the leader.
    pub fn hang_up_all(&self) {
        let links = self.links.lock();
        links
            .unwrap_or_else(PoisonError::into_inner)
            .present
            .clear();
    }

    /// Who is there.
    #[must_use]
    pub fn connected(&self) -> BTreeMap<String, Connected> {
        let links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        let present = links.present.iter();
        present
            .map(|(node, present)| (node.clone(), present.connected.clone()))
            .collect()
    }
}

/// An agent is called what its certificate says, and nothing else.
fn named(session: Session, node: &str) -> Result<Session, FleetError> {
    let hello = &session.hello;
    if hello.node != node {
        return Err(FleetError::Forged {
            says: hello
                .node
                .chars()
                .filter(|c| !c.is_control())
                .take(64)
                .collect(),
            is: node.to_owned(),
        });
    }
    check_labels(&hello.labels).map_err(FleetError::Labels)?;
    Ok(session)
}
