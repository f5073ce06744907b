//! What this kernel can do to packets, found out by doing it in an empty network namespace.
//!
//! Nothing is concluded from a version number or a config file: a module may be missing, forbidden or backported.

use super::NetError;
use super::netlink::{Netlink, Protocol};
use super::netns::in_scratch;
use super::nfqueue::{Copying, Queue};
use super::nft::expr::{Expressions, QueueMeans, Reject, Verdict};
use super::nft::{Draft, Family, Hook, OwnedTable};
use super::qdisc::OwnIfb;
use super::rawsend::RawSender;
use super::shape::Shape;
use super::sockets::Sockets;

/// Whether something works; if not, why, in the kernel's words.
pub(crate) type Works = Result<(), String>;

/// What was tried, and what came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NetAbilities {
    /// An nftables table that vanishes with its socket (Linux 5.12).
    pub(crate) owned_table: Works,
    /// A chain at a link's ingress.
    pub(crate) ingress_hook: Works,
    /// A chain at a link's egress (Linux 5.16).
    pub(crate) egress_hook: Works,
    /// Handing packets to another link.
    pub(crate) forward: Works,
    /// The intermediate device that hands them back.
    pub(crate) ifb: Works,
    /// Delay, loss and the rest in the kernel.
    pub(crate) netem: Works,
    /// Refusing packets with an answer.
    pub(crate) reject: Works,
    /// Queueing packets to user space with nft's own expression.
    pub(crate) queue_native: Works,
    /// Queueing them with the xtables target.
    pub(crate) queue_compat: Works,
    /// Binding a queue.
    pub(crate) queue_socket: Works,
    /// Leading connections to a port of this host.
    pub(crate) redirect: Works,
    /// Telling packets for this host from others.
    pub(crate) for_this_host: Works,
    /// Writing into the headers of TCP.
    pub(crate) write_tcp: Works,
    /// Sending packets as they are.
    pub(crate) send_raw: Works,
    /// Listing connections.
    pub(crate) list_sockets: Works,
    /// Asking for the socket that a packet belongs to.
    pub(crate) ask_sockets: Works,
}

impl NetAbilities {
    /// Tries everything. Most of the time it takes the kernel needs to put away what was tried; leaves nothing.
    #[must_use]
    pub(crate) fn probe() -> Self {
        match in_scratch(|| Ok(probe_here())) {
            Ok(abilities) => abilities,
            Err(e) => Self::none(&describe(&e)),
        }
    }

    fn none(reason: &str) -> Self {
        let no = || Err(reason.to_owned());
        Self {
            owned_table: no(),
            ingress_hook: no(),
            egress_hook: no(),
            forward: no(),
            ifb: no(),
            netem: no(),
            reject: no(),
            queue_native: no(),
            queue_compat: no(),
            queue_socket: no(),
            redirect: no(),
            for_this_host: no(),
            write_tcp: no(),
            send_raw: no(),
            list_sockets: no(),
            ask_sockets: no(),
        }
    }

    /// Whether shaping can be done by the detour, and if not, everything that is missing.
    ///
    /// # Errors
    /// One reason for each missing part.
    pub(crate) fn detour(&self) -> Result<(), Vec<String>> {
        all_of(&[
            ("owned nftables tables (Linux 5.12)", &self.owned_table),
            ("the netdev ingress hook", &self.ingress_hook),
            ("the netdev egress hook (Linux 5.16)", &self.egress_hook),
            ("nftables `fwd`", &self.forward),
            ("ifb devices", &self.ifb),
            ("netem (module sch_netem)", &self.netem),
        ])
    }

    /// Whether shaping can be done in user space, and if not, everything that is missing.
    ///
    /// # Errors
    /// One reason for each missing part.
    pub(crate) fn queue(&self) -> Result<QueueMeans, Vec<String>> {
        all_of(&[
            ("owned nftables tables (Linux 5.12)", &self.owned_table),
            (
                "netfilter queues (module nfnetlink_queue)",
                &self.queue_socket,
            ),
        ])?;
        match (&self.queue_native, &self.queue_compat) {
            (Ok(()), _) => Ok(QueueMeans::Native),
            (_, Ok(())) => Ok(QueueMeans::Compat),
            (Err(native), Err(compat)) => Err(vec![format!(
                "no way into a queue: nft `queue`: {native}; xtables NFQUEUE: {compat}"
            )]),
        }
    }

    /// Whether packets can be dropped silently.
    ///
    /// # Errors
    /// One reason for each missing part.
    pub(crate) fn drop(&self) -> Result<(), Vec<String>> {
        all_of(&[
            ("owned nftables tables (Linux 5.12)", &self.owned_table),
            ("the netdev ingress hook", &self.ingress_hook),
            ("the netdev egress hook (Linux 5.16)", &self.egress_hook),
            ("nftables `fwd`", &self.forward),
        ])
    }

    /// Whether packets can be refused with an answer.
    ///
    /// # Errors
    /// One reason for each missing part.
    pub(crate) fn reject(&self) -> Result<(), Vec<String>> {
        all_of(&[
            ("owned nftables tables (Linux 5.12)", &self.owned_table),
            ("nftables `reject`", &self.reject),
        ])
    }

    /// Whether connections can be reset, refused, kept from closing and stalled.
    ///
    /// # Errors
    /// One reason for each missing part.
    pub(crate) fn connections(&self) -> Result<(), Vec<String>> {
        self.queue()?;
        all_of(&[
            (
                "writing into TCP headers (nftables `payload`)",
                &self.write_tcp,
            ),
            ("raw sockets (CAP_NET_RAW)", &self.send_raw),
            ("lists of sockets (module tcp_diag)", &self.list_sockets),
        ])
    }

    /// Whether packets can be told apart by whose they are.
    ///
    /// # Errors
    /// One reason for each missing part.
    pub(crate) fn owners(&self) -> Result<(), Vec<String>> {
        self.queue()?;
        all_of(&[(
            "answers about single sockets (modules tcp_diag, udp_diag)",
            &self.ask_sockets,
        )])
    }

    /// Whether connections can be led to a holder.
    ///
    /// # Errors
    /// One reason for each missing part.
    pub(crate) fn redirect(&self) -> Result<(), Vec<String>> {
        all_of(&[
            ("owned nftables tables (Linux 5.12)", &self.owned_table),
            ("nftables `redirect` (module nft_redir)", &self.redirect),
            ("nftables `fib` (module nft_fib_inet)", &self.for_this_host),
        ])
    }
}

fn all_of(parts: &[(&str, &Works)]) -> Result<(), Vec<String>> {
    let missing: Vec<String> = parts
        .iter()
        .filter_map(|(name, works)| {
            works
                .as_ref()
                .err()
                .map(|why| format!("this kernel lacks {name}: {why}"))
        })
        .collect();
    if missing.is_empty() {
        Ok(())
    } else {
        Err(missing)
    }
}

fn probe_here() -> NetAbilities {
    let lo = || "lo".to_owned();
    let rule = Expressions::default;
    let (mut inet, mut netdev) = (Tried::create(Family::Inet), Tried::create(Family::Netdev));
    NetAbilities {
        owned_table: inet.takes(Draft::default().chain("alone")),
        ingress_hook: netdev.acts(Hook::Ingress(lo()), None),
        egress_hook: netdev.acts(Hook::Egress(lo()), None),
        forward: netdev.acts(Hook::Ingress(lo()), Some(rule().counter().forward_to(1))),
        ifb: with_ifb(|_, _| Ok(())),
        netem: with_ifb(|route, ifb| {
            ifb.add_netem(
                route,
                &Shape {
                    packets_max: 1,
                    ..Shape::default()
                },
            )
        }),
        reject: inet.acts(Hook::Output, Some(rule().reject(Reject::PortUnreachable))),
        queue_native: inet.queues_by(QueueMeans::Native),
        queue_compat: inet.queues_by(QueueMeans::Compat),
        queue_socket: Queue::bind(Copying::Length, 1)
            .map(|_| ())
            .map_err(|e| describe(&e)),
        redirect: inet.redirects(),
        for_this_host: inet.acts(Hook::Prerouting, Some(rule().for_this_host())),
        write_tcp: inet.acts(Hook::Prerouting, Some(rule().write_tcp(14, &[0, 0]))),
        send_raw: RawSender::open(1).map(|_| ()).map_err(|e| describe(&e)),
        ask_sockets: Sockets::open()
            .and_then(|mut sockets| sockets.try_out())
            .map_err(|e| describe(&e)),
        list_sockets: Sockets::open()
            .and_then(|mut sockets| sockets.connections())
            .map(|_| ())
            .map_err(|e| describe(&e)),
    }
}

/// A table in which all is tried that tables can do: for each table that goes, the kernel waits until no packet is under way any
/// more (`nft_rcv_nl_event` of `net/netfilter/nf_tables_api.c`), some 13 ms.
struct Tried {
    table: Result<OwnedTable, String>,
    /// How many chains were asked for; each has a name of its own.
    chains: usize,
}

impl Tried {
    fn create(family: Family) -> Self {
        Self {
            table: OwnedTable::create(family, "sqprobe").map_err(|e| describe(&e)),
            chains: 0,
        }
    }

    /// Whether the kernel takes all of it.
    fn takes(&mut self, draft: &Draft) -> Works {
        let table = self.table.as_mut().map_err(|e| e.clone())?;
        table.commit(draft).map_err(|e| describe(&e))
    }

    /// Whether a chain at that hook can hand packets to one with this rule.
    fn acts(&mut self, hook: Hook, expressions: Option<Expressions>) -> Works {
        let (hooked, act) = (self.name(), self.name());
        let mut draft = Draft::default();
        draft.chain(&act).base_chain(&hooked, hook, 0);
        let jump = Verdict::Jump(act.clone());
        draft.rule(&hooked, Expressions::default().verdict(&jump));
        if let Some(expressions) = expressions {
            draft.rule(&act, expressions);
        }
        self.takes(&draft)
    }

    fn queues_by(&mut self, means: QueueMeans) -> Works {
        let rule = Expressions::default().queue(means, 1, 1);
        self.acts(Hook::Prerouting, Some(rule))
    }

    fn redirects(&mut self) -> Works {
        let hooked = self.name();
        let mut draft = Draft::default();
        draft.nat_chain(&hooked, Hook::Output, 0);
        draft.rule(&hooked, Expressions::default().redirect_to(1));
        self.takes(&draft)
    }

    fn name(&mut self) -> String {
        self.chains += 1;
        format!("tried-{}", self.chains)
    }
}

fn with_ifb(act: impl FnOnce(&mut Netlink, &OwnIfb) -> Result<(), NetError>) -> Works {
    let tried = || {
        let mut route = Netlink::open(Protocol::Route)?;
        let ifb = OwnIfb::create(&mut route, "sqprobe")?;
        let acted = act(&mut route, &ifb);
        ifb.delete(&mut route)?;
        acted
    };
    tried().map_err(|e| describe(&e))
}

/// The error with its cause, in one line.
fn describe(error: &NetError) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}
