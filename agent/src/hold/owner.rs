//! Whose a packet is, in a network namespace that others share.
//!
//! No mark is set and no cgroup's class: nodes route and filter by those. A packet that waits in the holder's queue is looked up
//! instead: the kernel says which socket it belongs to (sock_diag), and /proc who has that socket open. The packet waits
//! meanwhile, so that the first one of a connection is attributed as well as all others, and so is every packet of a
//! connection that was there before. This needs no cgroup of a certain generation, and is the same on every kernel.
//!
//! Where addresses are translated, as for what goes to a service of Kubernetes, a packet on the wire has other ends than its socket:
//! the kernel's connection tracking knows both. It is told with the packet where the kernel can
//! (CONFIG_NETFILTER_NETLINK_GLUE_CT; not before the connection is tracked, as for what arrives), and asked for elsewhere.
//!
//! Limits: the first packet of a translated connection is nobody's where it arrives, and, without that option, where it leaves.
//! TCP and UDP only, as other packets have no socket that could be asked for. A socket that several processes have
//! open belongs to each of them. A connection that waits to be accepted belongs to who listens.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;

use super::held::HoldError;
use super::redirect::LO;
use super::tcp::segment::{Transport, ends};
use crate::kernel::cgroup;
use crate::kernel::net::nfqueue::Packet;
use crate::kernel::net::sockets::{Asked, Sockets};
use crate::kernel::net::tracked::{Tracked, Tracking};
use squall_experiments::filter::Direction;

/// How long an answer about a socket is believed: it may be closed, and its ports used by another, or handed to another
/// process. A packet that begins a connection is looked up in any case.
const BELIEVED_NS: u64 = 50_000_000;
/// Conversations that are remembered, for packets that come after their socket was closed.
const REMEMBERED_MAX: usize = 65_536;
/// How long, once nothing is heard of them: longer than a connection takes to end (tcp(7), TIME_WAIT).
const REMEMBERED_NS: u64 = 120_000_000_000;
/// netfilter's number of the hook at which what arrives is met (`NF_INET_PRE_ROUTING`).
const PREROUTING: u8 = 0;

/// Who is meant.
#[derive(Debug)]
pub(crate) enum Whose {
    /// These processes.
    Processes(Vec<u32>),
    /// Those in this cgroup, and in the groups below it.
    Group(cgroup::Group),
}

/// Tells the packets of some from those of others.
#[derive(Debug)]
pub(crate) struct Owner {
    whose: Whose,
    sockets: Sockets,
    /// None where the kernel cannot be asked.
    tracking: Option<Tracking>,
    /// Sockets that the owner had open when last looked, and when that was.
    inodes: HashSet<u32>,
    looked_ns: Option<u64>,
    said: HashMap<Conversation, Said>,
}

type Conversation = (Transport, SocketAddr, SocketAddr);

/// What is known of a packet beside its ends.
#[derive(Debug, Clone, Copy)]
struct Met {
    link: u32,
    begins: bool,
    tracked: Option<Tracked>,
    now_ns: u64,
}

impl Met {
    fn of(packet: &Packet, begins: bool, now_ns: u64) -> Self {
        Self {
            link: packet.link,
            begins,
            tracked: packet.tracked,
            now_ns,
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Said {
    mine: bool,
    /// None where the next packet may well be told more of.
    asked_ns: Option<u64>,
    heard_ns: u64,
}

impl Owner {
    /// In the current network namespace.
    pub(crate) fn new(whose: Whose) -> Result<Self, HoldError> {
        let mut owner = Self {
            whose,
            sockets: Sockets::open()?,
            tracking: Tracking::open().ok(),
            inodes: HashSet::new(),
            looked_ns: None,
            said: HashMap::new(),
        };
        owner.look(0);
        Ok(owner)
    }

    /// For the evidence.
    pub(crate) fn in_words(&self) -> String {
        let who = match &self.whose {
            Whose::Processes(pids) => {
                let pids: Vec<String> = pids.iter().map(ToString::to_string).collect();
                format!("process {}", pids.join(", "))
            }
            Whose::Group(group) => format!("cgroup {}", group.path),
        };
        format!(
            "only packets of sockets that {who} has open, {} of them now; each is looked up while it waits",
            self.inodes.len()
        )
    }

    /// Whether a packet belongs to the owner: as its sender where it leaves, as its receiver where it arrives, as either
    /// where it goes over `lo` and is met only once.
    pub(crate) fn owns(
        &mut self,
        packet: &Packet,
        both: bool,
        now_ns: u64,
    ) -> Result<bool, HoldError> {
        let Some((transport, source, destination, begins)) = ends(&packet.bytes) else {
            return Ok(false);
        };
        let arrives = packet.hook == PREROUTING;
        let met = Met::of(packet, begins, now_ns);
        let mut mine = false;
        if arrives {
            mine |= self.has((transport, destination, source), met)?;
        }
        if !arrives || (both && packet.link == LO) {
            mine |= self.has((transport, source, destination), met)?;
        }
        Ok(mine)
    }

    /// Whether a packet belongs to the owner, where what goes over `lo` is met as it leaves: there the direction says which end
    /// is meant.
    pub(crate) fn concerns(
        &mut self,
        packet: &Packet,
        direction: Direction,
        now_ns: u64,
    ) -> Result<bool, HoldError> {
        let Some((transport, source, destination, begins)) = ends(&packet.bytes) else {
            return Ok(false);
        };
        let arrives = packet.hook == PREROUTING;
        let over_lo = !arrives && packet.link == LO;
        let as_receiver = arrives || (over_lo && direction != Direction::Egress);
        let as_sender = !arrives && (!over_lo || direction != Direction::Ingress);
        let met = Met::of(packet, begins, now_ns);
        let mut mine = false;
        for (is_asked, local, remote) in [
            (as_receiver, destination, source),
            (as_sender, source, destination),
        ] {
            mine |= is_asked && self.has((transport, local, remote), met)?;
        }
        Ok(mine)
    }

    /// One more of the same, for another queue.
    pub(crate) fn twin(&self) -> Result<Self, HoldError> {
        Self::new(match &self.whose {
            Whose::Processes(pids) => Whose::Processes(pids.clone()),
            Whose::Group(group) => Whose::Group(cgroup::Group {
                controllers: group.controllers.clone(),
                path: group.path.clone(),
                fd: group
                    .fd
                    .try_clone()
                    .map_err(HoldError::kernel("duplicate", "the cgroup's descriptor"))?,
            }),
        })
    }

    /// Whether the owner has a socket open.
    pub(crate) fn has_open(&mut self, inode: u32, now_ns: u64) -> bool {
        if inode == 0 {
            return false;
        }
        let fresh = |looked_ns: u64| now_ns.saturating_sub(looked_ns) < BELIEVED_NS;
        if !self.inodes.contains(&inode) || !self.looked_ns.is_some_and(fresh) {
            self.look(now_ns);
        }
        self.inodes.contains(&inode)
    }

    fn has(&mut self, conversation: Conversation, met: Met) -> Result<bool, HoldError> {
        let Met { begins, now_ns, .. } = met;
        let known = self.said.get_mut(&conversation);
        if let Some(said) = known {
            said.heard_ns = now_ns;
            let fresh = |asked_ns| now_ns.saturating_sub(asked_ns) < BELIEVED_NS;
            if !begins && said.asked_ns.is_some_and(fresh) {
                return Ok(said.mine);
            }
        }
        let known = self.said.get(&conversation);
        let is_new = known.is_none();
        // What was said of a first packet is no word on the connection.
        let before = known.filter(|said| said.asked_ns.is_some());
        let before = before.map(|said| said.mine);
        let (transport, local, remote) = conversation;
        let mut asked = Asked {
            is_tcp: transport == Transport::Tcp,
            local,
            remote,
            link: met.link,
        };
        let mut found = self.sockets.inode_of(asked)?;
        if found.is_none()
            && let Some(behind) = self.behind(asked, met.tracked)
        {
            asked = behind;
            found = self.sockets.inode_of(asked)?;
        }
        let mine = match found {
            // Nobody's: closed by its program, or not accepted yet. It is whose it was, or whose the listener is.
            None | Some(0) => match before {
                Some(before) if !begins => before,
                _ if transport == Transport::Tcp => {
                    let listener = self.sockets.inode_of(asked.listener())?;
                    self.has_open(listener.unwrap_or(0), now_ns)
                }
                _ => false,
            },
            Some(inode) => self.has_open(inode, now_ns),
        };
        // Of a first packet the kernel may not know yet that it is tracked.
        let may_change = found.is_none() && (begins || is_new);
        self.remember(conversation, mine, (!may_change).then_some(now_ns), now_ns);
        Ok(mine)
    }

    /// The ends of the socket behind those that its packets have on the wire, where these are others.
    fn behind(&mut self, wire: Asked, tracked: Option<Tracked>) -> Option<Asked> {
        let Asked {
            is_tcp,
            local,
            remote,
            ..
        } = wire;
        let asked = match (tracked, &mut self.tracking) {
            (Some(tracked), _) => Ok(Some(tracked)),
            (None, Some(tracking)) => tracking.of(is_tcp, local, remote),
            (None, None) => Ok(None),
        };
        let Ok(tracked) = asked else {
            // It will not be able to say more of the next one.
            self.tracking = None;
            return None;
        };
        let ends = tracked?.socket_of(local, remote)?;
        (ends != (local, remote)).then_some(Asked {
            local: ends.0,
            remote: ends.1,
            ..wire
        })
    }

    /// Notes whose a TCP connection is, by its socket.
    pub(crate) fn learn(&mut self, local: SocketAddr, remote: SocketAddr, inode: u32, now_ns: u64) {
        let mine = self.has_open(inode, now_ns);
        self.remember((Transport::Tcp, local, remote), mine, Some(now_ns), now_ns);
    }

    fn remember(
        &mut self,
        conversation: Conversation,
        mine: bool,
        asked_ns: Option<u64>,
        now_ns: u64,
    ) {
        if self.said.len() >= REMEMBERED_MAX {
            self.said
                .retain(|_, said| now_ns.saturating_sub(said.heard_ns) < REMEMBERED_NS);
        }
        if self.said.len() < REMEMBERED_MAX {
            let said = Said {
                mine,
                asked_ns,
                heard_ns: now_ns,
            };
            self.said.insert(conversation, said);
        }
    }

    /// The sockets that the owner has open now. A process that has just ended has none.
    fn look(&mut self, now_ns: u64) {
        let pids = match &self.whose {
            Whose::Processes(pids) => pids.clone(),
            Whose::Group(group) => cgroup::processes_below(&group.fd),
        };
        self.inodes = pids.into_iter().flat_map(open_sockets).collect();
        self.looked_ns = Some(now_ns);
    }
}

/// The inodes of a process's sockets (proc_pid_fd(5)).
fn open_sockets(pid: u32) -> Vec<u32> {
    let inode = |entry: std::io::Result<std::fs::DirEntry>| {
        let link = std::fs::read_link(entry.ok()?.path()).ok()?;
        let number = link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?;
        number.parse().ok()
    };
    let open = std::fs::read_dir(format!("/proc/{pid}/fd"));
    open.into_iter().flatten().filter_map(inode).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream, UdpSocket};

    /// Asks the real kernel about sockets of this very process; another process has none of them.
    #[test]
    fn sockets_are_known_by_their_packets() {
        known("127.0.0.1");
        // A machine without IPv6 has nothing to look up.
        if UdpSocket::bind("[::1]:0").is_ok() {
            known("[::1]");
        }
    }

    fn met(now_ns: u64) -> Met {
        Met {
            link: LO,
            begins: false,
            tracked: None,
            now_ns,
        }
    }

    fn known(host: &str) {
        let mut mine = Owner::new(Whose::Processes(vec![std::process::id()])).expect("sock_diag");
        let mut others = Owner::new(Whose::Processes(vec![1])).expect("sock_diag");
        let listener = TcpListener::bind(format!("{host}:0")).expect("a port");
        let at = listener.local_addr().expect("bound");
        let client = TcpStream::connect(at).expect("a connection");
        let from = client.local_addr().expect("bound");
        let datagrams = UdpSocket::bind(format!("{host}:0")).expect("a port");
        let udp = datagrams.local_addr().expect("bound");
        let far = format!("{host}:9").parse().expect("an address");
        for (owner, expected) in [(&mut mine, true), (&mut others, false)] {
            let mut has = |conversation| owner.has(conversation, met(0)).expect("an answer");
            assert_eq!(has((Transport::Tcp, from, at)), expected, "the client");
            assert_eq!(
                has((Transport::Tcp, at, from)),
                expected,
                "not accepted yet"
            );
            assert_eq!(has((Transport::Tcp, at, far)), expected, "to a listener");
            assert_eq!(has((Transport::Udp, udp, far)), expected, "a datagram");
            assert!(!has((Transport::Udp, far, udp)), "nobody's");
        }
        drop((client, listener));
        let later = BELIEVED_NS;
        let still = mine.has((Transport::Tcp, from, at), met(later));
        assert!(still.expect("an answer"), "what is closed is whose it was");
    }
}
