//! nftables expressions on the wire (`include/uapi/linux/netfilter/nf_tables.h`): the few this agent uses.

use super::sets::{self, Set};
use crate::kernel::net::attr::Body;
use serde::{Deserialize, Serialize};

const NFTA_LIST_ELEM: u16 = 1;
const NFTA_EXPR_NAME: u16 = 1;
const NFTA_EXPR_DATA: u16 = 2;
const NFTA_DATA_VALUE: u16 = 1;
const NFTA_DATA_VERDICT: u16 = 2;
/// The first 16-byte register; every comparison here loads it afresh.
const REG_1: u32 = 1;
const REG_VERDICT: u32 = 0;
/// `NFT_CMP_EQ`, `NFT_RANGE_EQ`.
const OP_EQUAL: u32 = 0;

/// What `meta` can load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Meta {
    /// The link-layer protocol, u16 big-endian (0x0800, 0x86dd).
    Protocol = 1,
    /// The packet's queueing priority (`SO_PRIORITY`), u32.
    Priority = 2,
    /// The receiving link's index, u32.
    InLink = 4,
    /// The sending link's index, u32.
    OutLink = 5,
    /// The network protocol, u8 (2 for IPv4, 10 for IPv6).
    NetworkProtocol = 15,
    /// The transport protocol, u8.
    TransportProtocol = 16,
}

/// Where `payload` counts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Base {
    /// The network header.
    Network = 1,
    /// The transport header.
    Transport = 2,
}

/// What `reject` answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reject {
    /// A TCP reset.
    TcpReset,
    /// ICMP or ICMPv6 port unreachable.
    PortUnreachable,
}

/// How packets get into a queue: the nft expression, or, where the kernel lacks it, the xtables target beneath it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum QueueMeans {
    /// nft's own `queue`.
    Native,
    /// `target NFQUEUE` revision 3 through nft_compat.
    Compat,
}

/// Where a rule leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing more happens to the packet at this hook.
    Accept,
    /// The packet ends here; a sender of this namespace's own is told (`EPERM`).
    Drop,
    /// Back to the chain that jumped here.
    Return,
    /// To another chain, and back.
    Jump(String),
    /// To another chain, for good.
    Goto(String),
}

/// The expressions of one rule, in order, and the sets that they look into.
#[derive(Debug, Clone, Default)]
pub(crate) struct Expressions {
    list: Body,
    sets: Vec<Set>,
}

impl Expressions {
    /// The bytes of the list (the value of `NFTA_RULE_EXPRESSIONS`).
    #[must_use]
    pub(crate) fn bytes(&self) -> &[u8] {
        self.list.bytes()
    }

    /// The sets that must be there before the rule.
    pub(super) fn sets(&self) -> &[Set] {
        &self.sets
    }

    /// What it weighs in a transaction: itself, and what is in its sets.
    #[must_use]
    pub(crate) fn weight(&self) -> usize {
        1 + self.sets.iter().map(Set::len).sum::<usize>()
    }

    fn push(mut self, name: &str, fill: impl FnOnce(&mut Body)) -> Self {
        self.list.nest(NFTA_LIST_ELEM, |elem| {
            elem.put_str(NFTA_EXPR_NAME, name)
                .nest(NFTA_EXPR_DATA, fill);
        });
        self
    }

    /// Loads a fact about the packet.
    #[must_use]
    pub(crate) fn meta(self, key: Meta) -> Self {
        self.push("meta", |b| {
            b.put_be32(1, REG_1).put_be32(2, key as u32);
        })
    }

    /// Loads bytes of the packet. A packet too short, or a fragment without its header, does not match.
    #[must_use]
    pub(crate) fn payload(self, base: Base, offset: u32, length: u32) -> Self {
        self.push("payload", |b| {
            b.put_be32(1, REG_1)
                .put_be32(2, base as u32)
                .put_be32(3, offset)
                .put_be32(4, length);
        })
    }

    /// Writes bytes into the packet's TCP header, and its checksum anew.
    #[must_use]
    pub(crate) fn write_tcp(self, offset: u32, value: &[u8]) -> Self {
        const CHECKSUM_INET: u32 = 1;
        const CHECKSUM_AT: u32 = 16;
        let loaded = self.push("immediate", |b| {
            b.put_be32(1, REG_1).nest(2, |d| {
                d.put(NFTA_DATA_VALUE, value);
            });
        });
        loaded.push("payload", |b| {
            b.put_be32(5, REG_1)
                .put_be32(2, Base::Transport as u32)
                .put_be32(3, offset)
                .put_be32(4, value.len() as u32)
                .put_be32(6, CHECKSUM_INET)
                .put_be32(7, CHECKSUM_AT);
        })
    }

    /// Goes on only where the loaded value is this one.
    #[must_use]
    pub(crate) fn equals(self, value: &[u8]) -> Self {
        self.push("cmp", |b| {
            b.put_be32(1, REG_1).put_be32(2, OP_EQUAL).nest(3, |d| {
                d.put(NFTA_DATA_VALUE, value);
            });
        })
    }

    /// Goes on only where the loaded value is in the set. A set is bound to one rule: a copy of the rule is refused beside it.
    #[must_use]
    pub(crate) fn among(self, set: Set) -> Self {
        let mut list = self.push("lookup", |b| {
            b.put_str(1, sets::ANY_NAME)
                .put_be32(2, REG_1)
                .put_be32(4, set.id());
        });
        list.sets.push(set);
        list
    }

    /// Keeps only the masked bits of the loaded value.
    #[must_use]
    pub(crate) fn mask(self, mask: &[u8]) -> Self {
        self.push("bitwise", |b| {
            b.put_be32(1, REG_1)
                .put_be32(2, REG_1)
                .put_be32(3, mask.len() as u32);
            b.nest(4, |d| {
                d.put(NFTA_DATA_VALUE, mask);
            });
            b.nest(5, |d| {
                d.put(NFTA_DATA_VALUE, &vec![0; mask.len()]);
            });
        })
    }

    /// Goes on only where the loaded value lies between both, themselves included.
    #[must_use]
    pub(crate) fn range(self, from: &[u8], to: &[u8]) -> Self {
        self.push("range", |b| {
            b.put_be32(1, REG_1).put_be32(2, OP_EQUAL);
            b.nest(3, |d| {
                d.put(NFTA_DATA_VALUE, from);
            });
            b.nest(4, |d| {
                d.put(NFTA_DATA_VALUE, to);
            });
        })
    }

    /// Counts packets and bytes that get here.
    #[must_use]
    pub(crate) fn counter(self) -> Self {
        self.push("counter", |b| {
            b.put(1, &0u64.to_be_bytes()).put(2, &0u64.to_be_bytes());
        })
    }

    /// Hands the packet to the link of that index (netdev family only). Where no such link is, the packet vanishes
    /// without its sender being told (`nf_fwd_netdev_egress`, net/netfilter/nf_dup_netdev.c).
    #[must_use]
    pub(crate) fn forward_to(self, link: u32) -> Self {
        let loaded = self.push("immediate", |b| {
            b.put_be32(1, REG_1).nest(2, |d| {
                d.put(NFTA_DATA_VALUE, &link.to_ne_bytes());
            });
        });
        loaded.push("fwd", |b| {
            b.put_be32(1, REG_1);
        })
    }

    /// Refuses the packet with an answer (inet family only).
    #[must_use]
    pub(crate) fn reject(self, how: Reject) -> Self {
        const TCP_RST: u32 = 1;
        const ICMPX_UNREACH: u32 = 2;
        const ICMPX_PORT_UNREACH: u8 = 1;
        self.push("reject", |b| match how {
            Reject::TcpReset => {
                b.put_be32(1, TCP_RST);
            }
            Reject::PortUnreachable => {
                b.put_be32(1, ICMPX_UNREACH).put(2, &[ICMPX_PORT_UNREACH]);
            }
        })
    }

    /// Queues the packet to user space, passing it through where nobody listens.
    #[must_use]
    pub(crate) fn queue(self, means: QueueMeans, first: u16, total: u16) -> Self {
        const BYPASS: u16 = 1;
        match means {
            QueueMeans::Native => self.push("queue", |b| {
                b.put_be16(1, first).put_be16(2, total).put_be16(3, BYPASS);
            }),
            QueueMeans::Compat => {
                // struct xt_NFQ_info_v3 {u16 queuenum, queues_total, flags}, host order, padded to 8 (XT_ALIGN).
                let mut info: Vec<u8> = [first, total, BYPASS, 0]
                    .iter()
                    .flat_map(|v| v.to_ne_bytes())
                    .collect();
                info.truncate(8);
                self.push("target", |b| {
                    b.put_str(1, "NFQUEUE").put_be32(2, 3).put(3, &info);
                })
            }
        }
    }

    /// Leads a new connection to that port of this host itself (chains of address translation only).
    #[must_use]
    pub(crate) fn redirect_to(self, port: u16) -> Self {
        let loaded = self.push("immediate", |b| {
            b.put_be32(1, REG_1).nest(2, |d| {
                d.put(NFTA_DATA_VALUE, &port.to_be_bytes());
            });
        });
        loaded.push("redir", |b| {
            b.put_be32(1, REG_1);
        })
    }

    /// Goes on only where the packet is for an address of this namespace's own.
    #[must_use]
    pub(crate) fn for_this_host(self) -> Self {
        const RESULT_ADDRESS_TYPE: u32 = 3;
        const OF_DESTINATION: u32 = 2;
        const RTN_LOCAL: u32 = 2;
        let loaded = self.push("fib", |b| {
            b.put_be32(1, REG_1)
                .put_be32(2, RESULT_ADDRESS_TYPE)
                .put_be32(3, OF_DESTINATION);
        });
        loaded.equals(&RTN_LOCAL.to_ne_bytes())
    }

    /// Goes on only where the packet would begin a connection that is not tracked yet (`IP_CT_NEW`,
    /// include/uapi/linux/netfilter/nf_conntrack_common.h).
    #[must_use]
    pub(crate) fn begins_a_connection(self) -> Self {
        const KEY_STATE: u32 = 0;
        const NEW: u32 = 1 << 3;
        let loaded = self.push("ct", |b| {
            b.put_be32(1, REG_1).put_be32(2, KEY_STATE);
        });
        loaded.mask(&NEW.to_ne_bytes()).equals(&NEW.to_ne_bytes())
    }

    /// Goes on only where more than so many of the connections that came here are open (net/netfilter/nft_connlimit.c, Linux
    /// 4.18).
    #[must_use]
    pub(crate) fn more_open_than(self, count: u32) -> Self {
        const INVERTED: u32 = 1;
        self.push("connlimit", |b| {
            b.put_be32(1, count).put_be32(2, INVERTED);
        })
    }

    /// Takes the packet out of connection tracking (prerouting and output only).
    #[must_use]
    pub(crate) fn no_track(self) -> Self {
        self.push("notrack", |_| {})
    }

    /// Ends the rule.
    #[must_use]
    pub(crate) fn verdict(self, verdict: &Verdict) -> Self {
        // NF_DROP 0, NF_ACCEPT 1; NFT_JUMP -3, NFT_GOTO -4, NFT_RETURN -5.
        let (code, chain) = match verdict {
            Verdict::Drop => (0i32, None),
            Verdict::Accept => (1, None),
            Verdict::Jump(chain) => (-3, Some(chain)),
            Verdict::Goto(chain) => (-4, Some(chain)),
            Verdict::Return => (-5, None),
        };
        self.push("immediate", |b| {
            b.put_be32(1, REG_VERDICT).nest(2, |data| {
                data.nest(NFTA_DATA_VERDICT, |v| {
                    v.put_be32(1, code as u32);
                    if let Some(chain) = chain {
                        v.put_str(2, chain);
                    }
                });
            });
        })
    }
}
