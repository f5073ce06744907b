//! The redirect: matched TCP connections are led to the holder, which lives in the target's network namespace, reads
//! them, and sends them on to where they were meant for.
//!
//! ```text
//!   client ──▶ chains of an owned nat table ──▶ holder ── its own connection, not led anywhere ──▶ the service
//! ```
//! Only where a connection begins is it led here: those that were there before go on untouched. With the holder its
//! table goes, and new connections go straight at once; those that it had taken over end with it.
//!
//! Where only one owner's connections are meant, it is asked whose each is before (see [`chosen`]).
//!
//! The connections are served on a thread of their own, so that the first one can always be told to stop. A holder whose
//! service has ended must not go on leading connections to nobody: it exits, and so does the fault.

mod chosen;
mod serve;

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd};

use squall_experiments::filter::{Direction, Ports, Protocol, ResolvedEndpoint, ResolvedFilter};

pub(crate) use serve::{Meeting, Serve, upstream};

use self::chosen::Chosen;
use super::held::HoldError;
use super::owner::Owner;
use super::{names, steer};
use crate::kernel::net::nft::expr::{Base, Expressions, Meta, Verdict};
use crate::kernel::net::nft::{Draft, Family, Hook, OwnedTable};
use crate::kernel::net::origin::{self, OWN_PRIORITY};
use serve::Service;

/// Before everybody's destination translation (-100): a service's address is still the one that the client named.
const PRIORITY: i32 = -110;
/// How many port numbers are tried until one is free for both IP versions.
const PORT_TRIES_MAX: usize = 16;
/// `lo` has index 1 in every namespace.
pub(crate) const LO: u32 = 1;

/// Connections led to this process.
pub(crate) struct Redirect {
    // Dropped first: connections must end while their addresses are still translated.
    service: Service,
    table: OwnedTable,
    /// Whose connections alone are led, where only some's are.
    chosen: Option<Chosen>,
}

impl Redirect {
    /// Arms it in the current network namespace and reads it back from the kernel. `filter` must name a port.
    pub(crate) fn arm(
        filter: &ResolvedFilter,
        serve: Serve,
        owner: Option<Owner>,
    ) -> Result<(Self, Vec<String>), HoldError> {
        let mut table = OwnedTable::create(Family::Inet, &names::mine())?;
        let (listeners, port) = listen(filter.direction)?;
        let service = Service::start(listeners, port, serve)?;
        let lead = Expressions::default().counter().redirect_to(port);
        let chosen = if let Some(owner) = owner {
            Some(Chosen::arm(owner, filter, &mut table, lead)?)
        } else {
            let mut draft = Draft::default();
            steer::draft_chains(&mut draft, Family::Inet, filter, vec![lead]);
            draft_hooks(&mut draft, filter.direction, steer::PICK);
            table.commit(&draft)?;
            None
        };
        let redirect = Self {
            table,
            service,
            chosen,
        };
        let lines = redirect.read_back(filter.direction, port)?;
        Ok((redirect, lines))
    }

    fn read_back(&self, direction: Direction, port: u16) -> Result<Vec<String>, HoldError> {
        let table = &self.table;
        self.led()?;
        let chains = hooks(direction);
        let wanted = chains.into_iter().map(|(chain, _)| (chain, PRIORITY));
        let mut lines = steer::hooks_read_back(table, wanted)?;
        if let Some(chosen) = &self.chosen {
            lines.extend(chosen.read_back(table, direction)?);
        }
        lines.push(format!(
            "{table}: counts connections and leads them to port {port} of process {}",
            std::process::id()
        ));
        Ok(lines)
    }

    /// What becomes readable when a connection begins whose owner is to be found.
    pub(crate) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.chosen.as_ref().map(AsFd::as_fd)
    }

    /// Lets the connections that have begun go on to where they belong.
    pub(crate) fn turn(&mut self) -> Result<(), HoldError> {
        match &mut self.chosen {
            Some(chosen) => chosen.turn(&mut self.table),
            None => Ok(()),
        }
    }

    /// Connections led here so far, from the kernel.
    pub(crate) fn count(&self) -> Result<u64, HoldError> {
        self.service.check()?;
        self.led()
    }

    fn led(&self) -> Result<u64, HoldError> {
        match &self.chosen {
            None => Ok(steer::read_action(&self.table, "redir")?.0),
            Some(chosen) => chosen.led(&self.table),
        }
    }

    /// Other addresses.
    pub(crate) fn update(&mut self, filter: &ResolvedFilter) -> Result<(), HoldError> {
        let mut draft = Draft::default();
        steer::draft_update(&mut draft, Family::Inet, filter, []);
        Ok(self.table.commit(&draft)?)
    }

    /// Ends it in an orderly way: no more connections, and a moment for the requests that are under way.
    pub(crate) fn release(self) -> Result<u64, HoldError> {
        let Self {
            service,
            mut table,
            chosen,
        } = self;
        let mut draft = Draft::default();
        steer::draft_nothing(&mut draft);
        table.commit(&draft)?;
        let count = match chosen {
            None => {
                drop(service);
                steer::read_action(&table, "redir").map(|(connections, _)| connections)
            }
            Some(chosen) => {
                // First, so that no connection waits while those that were led are served.
                let released = chosen.release(&table);
                drop(service);
                released
            }
        };
        table.delete()?;
        count
    }
}

/// The filter for one transport, at a port where none is named.
pub(crate) fn at(filter: &ResolvedFilter, protocol: Protocol, port: Option<u16>) -> ResolvedFilter {
    let mut filter = filter.clone();
    filter.protocol = Some(protocol);
    if let Some(port) = port {
        let to = filter.to.get_or_insert_with(ResolvedEndpoint::default);
        if to.ports.is_empty() {
            to.ports.push(Ports {
                first: port,
                last: port,
            });
        }
    }
    filter
}

/// Where what arrives and what leaves is met: of what arrives, only what is for this namespace itself.
pub(crate) fn hooks(direction: Direction) -> Vec<(&'static str, Hook)> {
    // A connection within the namespace over `lo` is made here as well: it is met where it leaves.
    match direction {
        Direction::Egress => vec![("out", Hook::Output)],
        Direction::Ingress | Direction::Both => {
            vec![("in", Hook::Prerouting), ("out", Hook::Output)]
        }
    }
}

fn draft_hooks(draft: &mut Draft, direction: Direction, then: &str) {
    for (chain, hook) in hooks(direction) {
        let arriving = hook == Hook::Prerouting;
        draft.nat_chain(chain, hook, PRIORITY);
        draft_beginnings(draft, chain, arriving, direction, then);
    }
}

/// Drafts what a chain at one of the [`hooks`] does with the beginnings of connections that are not our own.
fn draft_beginnings(
    draft: &mut Draft,
    chain: &str,
    arriving: bool,
    direction: Direction,
    then: &str,
) {
    let rule = Expressions::default;
    let own = rule()
        .meta(Meta::Priority)
        .equals(&OWN_PRIORITY.to_ne_bytes());
    draft.rule(chain, own.verdict(&Verdict::Accept));
    let picked = match (arriving, direction) {
        (true, _) => rule().for_this_host(),
        // What arrives over `lo` has left over it.
        (false, Direction::Ingress) => rule().meta(Meta::OutLink).equals(&LO.to_ne_bytes()),
        (false, _) => rule(),
    };
    let begins = begins(picked);
    draft.rule(chain, begins.verdict(&Verdict::Goto(then.into())));
}

/// Goes on only where a TCP connection begins. Where connection tracking begins with this very table, it takes the next
/// packet of an old connection for a new one, and that one must not be led away from its other end.
fn begins(rule: Expressions) -> Expressions {
    const TCP: u8 = 6;
    const FLAGS_AT: u32 = 13;
    const SYN: u8 = 0x02;
    const SYN_ACK_FIN_RST: u8 = 0x17;
    rule.meta(Meta::TransportProtocol)
        .equals(&[TCP])
        .payload(Base::Transport, FLAGS_AT, 1)
        .mask(&[SYN_ACK_FIN_RST])
        .equals(&[SYN])
}

/// A free port for both IP versions; only of loopback where nothing from elsewhere is led here, and loopback is up.
fn listen(direction: Direction) -> Result<(Vec<TcpListener>, u16), HoldError> {
    let far = direction != Direction::Egress;
    let failed =
        |e: io::Error| HoldError::kernel("listen at", "a port of the target's namespace")(e);
    for _ in 0..PORT_TRIES_MAX {
        let near = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).ok();
        let four = match near.filter(|_| !far) {
            Some(near) => near,
            None => TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).map_err(failed)?,
        };
        let port = four.local_addr().map_err(failed)?.port();
        let near = (!far).then(|| origin::listen_v6_only(Ipv6Addr::LOCALHOST, port));
        let six = match near {
            Some(Ok(near)) => Ok(near),
            _ => origin::listen_v6_only(Ipv6Addr::UNSPECIFIED, port),
        };
        match six {
            Ok(six) => return Ok((vec![four, six], port)),
            Err(e) if e.kind() == io::ErrorKind::AddrInUse => {}
            // A kernel without IPv6 has no connections to lead here either.
            Err(e) if e.raw_os_error() == Some(libc::EAFNOSUPPORT) => {
                return Ok((vec![four], port));
            }
            Err(e) => return Err(failed(e)),
        }
    }
    Err(HoldError::Unable(format!(
        "no port is free for both IPv4 and IPv6 after {PORT_TRIES_MAX} tries: the target's namespace has run out of them"
    )))
}
