//! Which agents are there: one link each, the newest.

use super::lend::{self, Addressee, Lent, Mailboxes, Word};
use super::session::{self, Session};
use super::{FleetError, Heard, Present, Sayer, link};
use crate::leader::Term;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use squall_experiments::capability::Capabilities;
use squall_experiments::ids::RunId;
use squall_experiments::join::{Labels, check_labels};
use squall_experiments::wire::{FromAgent, FromController, Stop};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::oneshot;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::Role;

/// What a connected agent said of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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

struct Linked {
    /// Tells this link from the one that took its place.
    number: u64,
    connected: Connected,
    /// Nodes of one make can do the same, and share this.
    capabilities: Arc<Capabilities>,
    sayer: Sayer,
    /// Used or dropped, the link is closed, and this is why.
    hold: oneshot::Sender<&'static str>,
}

impl Linked {
    /// Closes the link.
    fn let_go(self, why: &'static str) {
        // Who attends it may have seen its end already.
        let _gone = self.hold.send(why);
    }
}

#[derive(Default)]
struct Links {
    opened: u64,
    present: BTreeMap<String, Linked>,
    makes: Vec<Arc<Capabilities>>,
    mailboxes: Mailboxes,
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
    pub async fn serve<S>(&self, node: String, address: SocketAddr, stream: S)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
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

    pub(super) async fn attend(&self, node: String, address: SocketAddr, mut session: Session) {
        let (hold, mut let_go) = oneshot::channel();
        let Some(number) = self.enter(&node, address, &session, hold) else {
            return tracing::info!(node, %address, "an agent is sent on: the term that it was told of is over");
        };
        self.tell_runs(&node, || Word::Away("another took its place".into()))
            .await;
        self.tell_runs(&node, || Word::Back).await;
        tracing::info!(node, %address, "an agent is there");
        let why = loop {
            tokio::select! {
                biased;
                why = &mut let_go => break why.unwrap_or("all links are closed").to_owned(),
                heard = session.hear() => match heard {
                    Heard::Lost(why) => break why,
                    Heard::Message(message) => self.pass_on(&node, &session, *message).await,
                },
            }
        };
        if self.leave(&node, number) {
            self.tell_runs(&node, || Word::Away(why.clone())).await;
        }
        tracing::info!(node, %address, why, "an agent is gone");
    }

    /// Leads a word to the run that it concerns.
    async fn pass_on(&self, node: &str, session: &Session, message: FromAgent) {
        let addressee = self.lock().mailboxes.route(message);
        match addressee {
            Addressee::Run(words, message) => {
                let _run_is_over = words.send((node.to_owned(), Word::Said(message))).await;
            }
            Addressee::Nobody(run) => {
                tracing::warn!(node, %run, "a fault of a run that is not under way is told to stop");
                let _gone = session.say(FromController::Stop(Stop::Run(run)));
            }
            Addressee::Past => {}
        }
    }

    async fn tell_runs(&self, node: &str, word: impl Fn() -> Word) {
        let mailboxes = self.lock().mailboxes.all();
        for words in mailboxes {
            let _run_is_over = words.send((node.to_owned(), word())).await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Links> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(
        &self,
        node: &str,
        address: SocketAddr,
        session: &Session,
        hold: oneshot::Sender<&'static str>,
    ) -> Option<u64> {
        let hello = &session.hello;
        let connected = Connected {
            address,
            since_us: crate::clock::kept_us(),
            version: hello.version.clone(),
            kernel: hello.capabilities.kernel.clone(),
            labels: hello.labels.clone(),
        };
        let mut links = self.lock();
        // Greeted before the links of that term were closed, and here only now: what it were asked for would be asked for in another.
        if !self.term.holds() || self.term.number() != session.term {
            return None;
        }
        links.opened += 1;
        let number = links.opened;
        let known = links
            .makes
            .iter()
            .find(|make| ***make == hello.capabilities);
        let capabilities = known.cloned().unwrap_or_else(|| {
            let make = Arc::new(hello.capabilities.clone());
            links.makes.retain(|make| Arc::strong_count(make) > 1);
            links.makes.push(Arc::clone(&make));
            make
        });
        // Under the lock that a run takes to begin: none that does can be missing here and armed already.
        let _gone = session.say(lend::others(links.mailboxes.runs()));
        let linked = Linked {
            number,
            connected,
            capabilities,
            sayer: session.sayer(),
            hold,
        };
        if let Some(before) = links.present.insert(node.to_owned(), linked) {
            before.let_go("another took its place");
        }
        Some(number)
    }

    /// Whether the link was the node's last.
    fn leave(&self, node: &str, number: u64) -> bool {
        let mut links = self.lock();
        let last = match links.present.get(node) {
            Some(present) => present.number == number,
            None => true,
        };
        if last {
            links.present.remove(node);
        }
        last
    }

    /// Closes the link of a node, if it has one.
    pub fn hang_up(&self, node: &str) {
        if let Some(linked) = self.lock().present.remove(node) {
            linked.let_go("it was shut out");
        }
    }

    /// Whether its controller leads now.
    #[must_use]
    pub fn leads(&self) -> bool {
        self.term.holds()
    }

    /// Closes all links, once what was said is written: their agents look for the leader.
    pub fn hang_up_all(&self) {
        self.lock().present.clear();
    }

    /// What a node's agent said of itself, where it is there. One at a time: a stop waits for whoever holds the lock.
    #[must_use]
    pub fn connected(&self, node: &str) -> Option<Connected> {
        let links = self.lock();
        links
            .present
            .get(node)
            .map(|linked| linked.connected.clone())
    }

    /// Whether a node's agent is there.
    #[must_use]
    pub fn is_connected(&self, node: &str) -> bool {
        self.lock().present.contains_key(node)
    }

    /// Who is there, for planning.
    #[must_use]
    pub fn present(&self) -> Vec<Present> {
        let links = self.lock();
        let present = links.present.iter();
        let present = present.map(|(node, linked)| Present {
            node: node.clone(),
            labels: linked.connected.labels.clone(),
            capabilities: Arc::clone(&linked.capabilities),
        });
        present.collect()
    }

    /// Says something to a node's agent without waiting; `false` when it is not there, or reads nothing: then its link is closed, so that
    /// nothing more is kept for it, and its faults end with their leases.
    #[must_use]
    pub fn say(&self, node: &str, message: FromController) -> bool {
        let mut links = self.lock();
        let Some(linked) = links.present.get(node) else {
            return false;
        };
        let said = linked.sayer.say(message);
        if !said
            && linked.sayer.is_full()
            && let Some(linked) = links.present.remove(node)
        {
            linked.let_go("it reads nothing");
        }
        said
    }

    /// Says stop to everybody, whatever is in force and whoever began it; to how many.
    pub fn stop_all(&self) -> usize {
        let links = self.lock();
        let told = links.present.values();
        told.filter(|linked| linked.sayer.say(FromController::Stop(Stop::All)))
            .count()
    }

    /// Lends all agents to a run.
    #[must_use]
    pub fn lend(&self, run: &RunId) -> Lent {
        Lent::new(self.clone(), run, &mut self.lock().mailboxes)
    }

    pub(super) fn take_back(&self, run: &RunId) {
        self.lock().mailboxes.close(run);
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
