//! What a fault on one owner's traffic is tried on: a socket that is the victim's, in a namespace where others' are too.
//!
//! It is the test's as well, which speaks by it, and so still hears how it fares when the victim has ended.

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use lab::world::Result;
use lab::world::dns::{Client, Resolver};
use lab::world::http::Service;
use lab::world::victim::Victim;
use lab::world::wire::{Ip, Wire, named, victim};
use serde_json::json;
use squall_experiments::fault::{Fault, FaultKind};

use super::{WEB_PORT, names_suffering, volley_suffering, web_suffering};
use lab::world::agent::written;

/// The socket, and who is at its other end.
pub(super) enum Owned {
    /// It sends packets.
    Packets(UdpSocket),
    /// It asks for names.
    Names(
        Mutex<Client>,
        #[expect(dead_code, reason = "it answers as long as it is kept")] Resolver,
    ),
    /// It is connected to, from elsewhere: whose a new connection is, is whose the listener is.
    Listens(
        TcpListener,
        #[expect(dead_code, reason = "it answers as long as it is kept")] Service,
    ),
}

/// As [`super::strong`], for what such a socket sees.
pub(crate) fn strong(kind: FaultKind) -> Fault {
    let filter = json!({ "to": { "ports": [WEB_PORT.to_string()] }, "direction": "ingress" });
    match kind {
        FaultKind::Http => {
            written(json!({ "http": { "effect": { "abort": 503 }, "filter": filter } }))
        }
        FaultKind::Tcp => written(json!({ "tcp": { "effect": "refuse", "filter": filter } })),
        kind => super::strong(kind),
    }
}

impl Owned {
    pub(super) fn set(kind: FaultKind, wire: &Wire) -> Result<Self> {
        let far = named(Ip::V4);
        Ok(match kind {
            FaultKind::Dns => {
                let resolver = Resolver::start(&wire.peer, &[far])?;
                Self::Names(Mutex::new(Client::new(&wire.victim, far)?), resolver)
            }
            FaultKind::Http | FaultKind::Tcp => {
                let bind = || Ok(TcpListener::bind(web())?);
                let listener = wire.victim.enter(bind)?;
                let service = Service::on(listener.try_clone()?, Arc::new(|_| true))?;
                Self::Listens(listener, service)
            }
            _ => Self::Packets(wire.udp(far)?),
        })
    }

    /// A victim that has the socket open as well.
    pub(super) fn victim(&self, wire: &Wire, tag: &str) -> Result<Victim> {
        let twin = match self {
            Self::Packets(socket) => socket.as_fd().try_clone_to_owned()?,
            Self::Names(client, _) => {
                let client = client.lock().map_err(|_| "the client is poisoned")?;
                client.as_fd().try_clone_to_owned()?
            }
            Self::Listens(listener, _) => listener.as_fd().try_clone_to_owned()?,
        };
        wire.victim.enter(|| Victim::start_with(tag, twin))
    }

    /// As [`super::Scene::suffering`].
    pub(super) fn suffering(
        &self,
        wire: &Wire,
        since: Instant,
        time: Duration,
    ) -> Result<Option<Duration>> {
        match self {
            Self::Packets(socket) => volley_suffering(socket, since, time),
            Self::Names(client, _) => {
                let mut client = client.lock().map_err(|_| "the client is poisoned")?;
                Ok(names_suffering(&mut client, since, time))
            }
            Self::Listens(..) => Ok(web_suffering(&wire.peer, web(), since, time)),
        }
    }
}

fn web() -> SocketAddr {
    (victim(Ip::V4), WEB_PORT).into()
}
