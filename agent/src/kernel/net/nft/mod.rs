//! Owned nftables tables: made in transactions, read back, and gone with the socket that made them.
//!
//! A table with the owner flag (Linux 5.12) belongs to the netlink socket that created it: no other socket may change
//! it, and the kernel removes it, hooks and all, when the last descriptor of that socket is closed. It is the whole of
//! the undo. The socket is close-on-exec.

pub(crate) mod expr;
pub(crate) mod matching;
mod read;
mod sets;

pub(crate) use read::{ChainSeen, RuleSeen, tables};

use super::NetError;
use super::attr::Body;
use super::late;
use super::netlink::{APPEND, Answers, Ask, CREATE, EXCLUSIVE, Message, Netlink, Protocol};
use expr::Expressions;
use std::cell::RefCell;

/// `NFNL_SUBSYS_NFTABLES`.
const SUBSYSTEM: u8 = 10;
const NEWTABLE: u16 = 0;
const DELTABLE: u16 = 2;
const NEWCHAIN: u16 = 3;
const DELCHAIN: u16 = 5;
const NEWRULE: u16 = 6;
const DELRULE: u16 = 8;
const NEWSET: u16 = 9;
const NEWSETELEM: u16 = 12;
const TABLE_F_OWNER: u32 = 2;
/// Rules of one transaction; beyond it a single send may not hold them, and arming is no longer quick.
pub(crate) const RULES_MAX: usize = 2_048;
/// The same for where ranges of addresses begin and end.
const BOUNDS_MAX: usize = 16_384;

/// The families used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Family {
    /// IPv4 and IPv6 together (`NFPROTO_INET`).
    Inet = 1,
    /// Links (`NFPROTO_NETDEV`).
    Netdev = 5,
}

impl Family {
    /// nft's word for it.
    #[must_use]
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Inet => "inet",
            Self::Netdev => "netdev",
        }
    }
}

/// Where a base chain is hooked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Hook {
    /// What a link has received (netdev).
    Ingress(String),
    /// What a link is about to send (netdev, Linux 5.16).
    Egress(String),
    /// Before routing (inet).
    Prerouting,
    /// For this namespace's own sockets (inet).
    Input,
    /// From this namespace's own sockets (inet).
    Output,
    /// After routing (inet).
    Postrouting,
}

impl Hook {
    /// The kernel's number for it (`enum nf_inet_hooks`, `enum nf_dev_hooks`).
    fn number(&self) -> u32 {
        match self {
            Self::Ingress(_) | Self::Prerouting => 0,
            Self::Egress(_) | Self::Input => 1,
            Self::Output => 3,
            Self::Postrouting => 4,
        }
    }

    fn device(&self) -> Option<&str> {
        match self {
            Self::Ingress(device) | Self::Egress(device) => Some(device),
            _ => None,
        }
    }
}

/// Changes to one table, applied together or not at all.
#[derive(Debug, Default)]
pub(crate) struct Draft {
    changes: Vec<Change>,
}

#[derive(Debug)]
enum Change {
    BaseChain {
        name: String,
        hook: Hook,
        priority: i32,
        /// Whether only the first packet of a connection comes here, and its address may be translated.
        translates: bool,
    },
    Chain {
        name: String,
    },
    DeleteChain {
        name: String,
    },
    Flush {
        chain: String,
    },
    Rule {
        chain: String,
        expressions: Expressions,
    },
}

impl Draft {
    /// A chain at a hook; lower priorities come first. Packets that reach its end go on.
    pub(crate) fn base_chain(&mut self, name: &str, hook: Hook, priority: i32) -> &mut Self {
        self.push(Change::BaseChain {
            name: name.to_owned(),
            hook,
            priority,
            translates: false,
        })
    }

    /// A chain of address translation at a hook: the first packet of each new connection comes here.
    pub(crate) fn nat_chain(&mut self, name: &str, hook: Hook, priority: i32) -> &mut Self {
        self.push(Change::BaseChain {
            name: name.to_owned(),
            hook,
            priority,
            translates: true,
        })
    }

    /// A chain to jump to.
    pub(crate) fn chain(&mut self, name: &str) -> &mut Self {
        self.push(Change::Chain {
            name: name.to_owned(),
        })
    }

    /// Removes a chain.
    pub(crate) fn delete_chain(&mut self, name: &str) -> &mut Self {
        self.push(Change::DeleteChain {
            name: name.to_owned(),
        })
    }

    /// Removes all rules of a chain.
    pub(crate) fn flush(&mut self, chain: &str) -> &mut Self {
        self.push(Change::Flush {
            chain: chain.to_owned(),
        })
    }

    /// Appends a rule.
    pub(crate) fn rule(&mut self, chain: &str, expressions: Expressions) -> &mut Self {
        self.push(Change::Rule {
            chain: chain.to_owned(),
            expressions,
        })
    }

    fn push(&mut self, change: Change) -> &mut Self {
        self.changes.push(change);
        self
    }
}

/// A table that lives exactly as long as this value, or this process.
#[derive(Debug)]
pub(crate) struct OwnedTable {
    socket: Netlink,
    /// What asks the kernel back: not the owner, so that what it is told holds for everybody.
    reader: RefCell<Netlink>,
    family: Family,
    name: String,
}

impl OwnedTable {
    /// Creates an empty table owned by a socket of its own, and reads back that it is.
    ///
    /// # Errors
    /// When the kernel has no nftables, no owner flag, the name is taken, or rights are missing.
    pub(crate) fn create(family: Family, name: &str) -> Result<Self, NetError> {
        let mut socket = Netlink::open(Protocol::Netfilter)?;
        let mut body = header(family);
        body.put_str(1, name).put_be32(2, TABLE_F_OWNER);
        let object = format!("table {} {name} with an owner", family.name());
        socket.batch(
            "create",
            SUBSYSTEM,
            &[message(NEWTABLE, CREATE | EXCLUSIVE, body, object)],
        )?;
        let table = Self {
            socket,
            reader: RefCell::new(Netlink::open(Protocol::Netfilter)?),
            family,
            name: name.to_owned(),
        };
        table.check_owner()?;
        Ok(table)
    }

    fn check_owner(&self) -> Result<(), NetError> {
        let port = self.socket.port_id()?;
        let seen = tables(&mut self.reader.borrow_mut(), self.family)?
            .into_iter()
            .find(|t| t.name == self.name);
        match seen {
            Some(t) if t.owner == Some(port) => Ok(()),
            other => Err(NetError::ReadBack {
                object: self.to_string(),
                expected: format!("owned by netlink port {port}"),
                found: format!("{other:?}"),
            }),
        }
    }

    /// Its family.
    #[must_use]
    pub(crate) fn family(&self) -> Family {
        self.family
    }

    /// Applies a draft as one transaction: no packet sees half of it.
    ///
    /// # Errors
    /// The first change the kernel refuses; nothing was changed then. Too many rules.
    pub(crate) fn commit(&mut self, draft: &Draft) -> Result<(), NetError> {
        let weight = |change: &Change| match change {
            Change::Rule { expressions, .. } => (1, expressions.weight() - 1),
            _ => (0, 0),
        };
        let weights = draft.changes.iter().map(weight);
        let (rules, bounds) = weights.fold((0, 0), |sum, w| (sum.0 + w.0, sum.1 + w.1));
        for (what, wanted, limit) in [
            ("the fault's filter (in rules)", rules, RULES_MAX),
            (
                "the fault's filter (in bounds of addresses)",
                bounds,
                BOUNDS_MAX,
            ),
        ] {
            if wanted > limit {
                return Err(NetError::TooMany {
                    what,
                    wanted,
                    limit,
                });
            }
        }
        let messages: Vec<Message> = draft
            .changes
            .iter()
            .flat_map(|change| {
                let mut messages = self.encode_sets(change);
                messages.push(self.encode(change));
                messages
            })
            .collect();
        self.socket.batch("change", SUBSYSTEM, &messages)
    }

    /// The chains as the kernel has them.
    ///
    /// # Errors
    /// When the kernel refuses the list.
    pub(crate) fn chains(&self) -> Result<Vec<ChainSeen>, NetError> {
        read::chains(&mut self.reader.borrow_mut(), self.family, &self.name)
    }

    /// A chain's rules as the kernel has them, with their counters.
    ///
    /// # Errors
    /// When the kernel refuses the list.
    pub(crate) fn rules(&self, chain: &str) -> Result<Vec<RuleSeen>, NetError> {
        read::rules(
            &mut self.reader.borrow_mut(),
            self.family,
            &self.name,
            chain,
        )
    }

    /// Deletes the table now, and says whether that went well. Dropping it has the same effect, later: its sockets are
    /// left to [`late`].
    ///
    /// # Errors
    /// When the kernel refuses; the table then goes as the socket closes.
    pub(crate) fn delete(mut self) -> Result<(), NetError> {
        let mut body = header(self.family);
        body.put_str(1, &self.name);
        let message = message(DELTABLE, 0, body, self.to_string());
        self.socket.batch("delete", SUBSYSTEM, &[message])?;
        late::keep(self.socket);
        late::keep(self.reader.into_inner());
        Ok(())
    }

    /// What a rule looks into must be there before it.
    fn encode_sets(&self, change: &Change) -> Vec<Message> {
        let Change::Rule { chain, expressions } = change else {
            return Vec::new();
        };
        let mut messages = Vec::new();
        let mut add = |number, fill: &dyn Fn(&mut Body)| {
            let mut body = header(self.family);
            fill(&mut body);
            let object = format!("a set for a rule of chain {chain} of {self}");
            messages.push(message(number, CREATE, body, object));
        };
        for set in expressions.sets() {
            add(NEWSET, &|body| set.put(body, &self.name));
            for part in set.parts() {
                add(NEWSETELEM, &|body| part.put(body, &self.name));
            }
        }
        messages
    }

    fn encode(&self, change: &Change) -> Message {
        let mut body = header(self.family);
        match change {
            Change::BaseChain {
                name,
                hook,
                priority,
                translates,
            } => {
                body.put_str(1, &self.name).put_str(3, name);
                body.nest(4, |h| {
                    h.put_be32(1, hook.number()).put_be32(2, *priority as u32);
                    if let Some(device) = hook.device() {
                        h.put_str(3, device);
                    }
                });
                body.put_str(7, if *translates { "nat" } else { "filter" });
                let at = hook
                    .device()
                    .map(|d| format!(" on {d}"))
                    .unwrap_or_default();
                message(
                    NEWCHAIN,
                    CREATE,
                    body,
                    format!("chain {name} of {self}{at}"),
                )
            }
            Change::Chain { name } => {
                body.put_str(1, &self.name).put_str(3, name);
                message(NEWCHAIN, CREATE, body, format!("chain {name} of {self}"))
            }
            Change::DeleteChain { name } => {
                body.put_str(1, &self.name).put_str(3, name);
                message(DELCHAIN, 0, body, format!("chain {name} of {self}"))
            }
            Change::Flush { chain } => {
                body.put_str(1, &self.name).put_str(2, chain);
                message(
                    DELRULE,
                    0,
                    body,
                    format!("the rules of chain {chain} of {self}"),
                )
            }
            Change::Rule { chain, expressions } => {
                body.put_str(1, &self.name)
                    .put_str(2, chain)
                    .nest_bytes(4, expressions.bytes());
                message(
                    NEWRULE,
                    CREATE | APPEND,
                    body,
                    format!("a rule of chain {chain} of {self}"),
                )
            }
        }
    }
}

impl std::fmt::Display for OwnedTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "table {} {}", self.family.name(), self.name)
    }
}

/// `struct nfgenmsg`: family, version 0, resource id 0.
fn header(family: Family) -> Body {
    Body::with_header(&[family as u8, 0, 0, 0])
}

fn kind(message: u16) -> u16 {
    u16::from(SUBSYSTEM) << 8 | message
}

fn message(number: u16, flags: u16, body: Body, object: String) -> Message {
    Message {
        kind: kind(number),
        flags,
        body: body.into_bytes(),
        object,
    }
}

fn dump(
    reader: &mut Netlink,
    what: &'static str,
    number: u16,
    body: &Body,
) -> Result<Answers, NetError> {
    reader.dump(
        Ask {
            operation: "list",
            object: what,
        },
        kind(number),
        body.bytes(),
    )
}
