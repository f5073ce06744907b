//! What others run for the same fault, a delay of what goes to one address: the same programs in the same order, each
//! started by itself and entering the namespace by itself, as they do.
//!
//! - Chaos Mesh's daemon (`pkg/chaosdaemon/{ipset,iptables,tc}_server.go`, read at 608b61e7): flushes the sets, sets the
//!   chains, sets tc; at the end chains and tc once more, with nothing in them. Its `nsexec` is an nsenter.
//! - pumba (`pkg/runtime/docker/netem.go`, read at 69b78e6d): a prio tree with netem in its third band. It runs tc by
//!   `docker exec` or in a container of its own, which costs more than the nsenter that stands for it here.
//! - nsenter with tc and nft by hand: the shortest that does it.
//!
//! Where a kernel lacks what they use, they could not do it at all. So that there is a figure, the nearest command that
//! succeeds is run in the place of each that would not, and the name says so: it is the number of programs that costs.

use std::process::Command;
use std::time::Instant;

use lab::vm::on_path;
use lab::world::wire::{Ip, named};
use lab::world::{Result, output};

use super::ms;

/// Another tool's way of bringing a fault and taking it back.
#[derive(Clone)]
pub(super) struct Rival {
    /// What it is.
    pub(super) name: String,
    netns: String,
    come: Vec<Vec<String>>,
    go: Vec<Vec<String>>,
    after: Vec<Vec<String>>,
}

/// nsenter's word for a namespace.
fn entrance(netns: &str) -> String {
    format!("--net=/run/netns/{netns}")
}

fn words(line: &str, link: &str) -> Vec<String> {
    line.split_whitespace()
        .map(|word| match word {
            "LINK" => link.to_owned(),
            "ADDRESS" => named(Ip::V4).to_string(),
            other => other.to_owned(),
        })
        .collect()
}

impl Rival {
    /// Those that work on this kernel, in a namespace and on a link of it.
    pub(super) fn all(netns: &str, link: &str) -> Vec<Self> {
        [by_hand, chaos_mesh, pumba]
            .into_iter()
            .filter_map(|make| {
                let candidates = [true, false].map(|netem| make(netns, link, netem));
                candidates.into_iter().find(Self::works)
            })
            .collect()
    }

    /// Chaos Mesh's daemon.
    pub(super) fn chaos_mesh(netns: &str, link: &str) -> Option<Self> {
        [true, false]
            .map(|netem| chaos_mesh(netns, link, netem))
            .into_iter()
            .find(Self::works)
    }

    /// The same in another namespace, taken to work there too.
    pub(super) fn elsewhere(&self, netns: &str) -> Self {
        Self {
            netns: entrance(netns),
            ..self.clone()
        }
    }

    /// pumba's tree, which all traffic of the link goes through.
    pub(super) fn tree(netns: &str, link: &str) -> Option<Self> {
        Some(pumba(netns, link, true)).filter(Self::works)
    }

    /// Two netfilter hooks in which there is nothing: what the kernel itself takes for letting anyone look at packets.
    pub(super) fn empty_hooks(netns: &str) -> Self {
        Self::new(
            "two empty hooks",
            netns,
            ("", true),
            &[
                "nft add table inet bare",
                "nft add chain inet bare in { type filter hook prerouting priority -300 ; }",
                "nft add chain inet bare out { type filter hook postrouting priority 300 ; }",
            ],
            &["nft delete table inet bare"],
        )
    }

    fn new(
        name: &str,
        netns: &str,
        (link, netem): (&str, bool),
        come: &[&str],
        go: &[&str],
    ) -> Self {
        let name = if netem {
            name.to_owned()
        } else {
            format!("{name}, but tbf: no netem here")
        };
        Self {
            name,
            netns: entrance(netns),
            come: come.iter().map(|line| words(line, link)).collect(),
            go: go.iter().map(|line| words(line, link)).collect(),
            after: Vec::new(),
        }
    }

    /// What is run after each end, and not counted.
    fn leaving(mut self, after: &[&str]) -> Self {
        self.after = after.iter().map(|line| words(line, "")).collect();
        self
    }

    /// Whether each command does what it is for. What it left half done is taken away.
    fn works(&self) -> bool {
        let works = self.come().and_then(|_| self.go()).is_ok();
        if !works {
            let _ = self.go();
        }
        works
    }

    /// Brings the fault; says how many milliseconds that took.
    pub(super) fn come(&self) -> Result<f64> {
        self.run(&self.come)
    }

    /// Takes it back; says how many milliseconds that took.
    pub(super) fn go(&self) -> Result<f64> {
        let took = self.run(&self.go);
        let after = self.run(&self.after);
        let took = took?;
        after?;
        Ok(took)
    }

    fn run(&self, commands: &[Vec<String>]) -> Result<f64> {
        let begun = Instant::now();
        let mut failed = None;
        for command in commands {
            // Chaos Mesh goes on after some that fail, as deleting what is not there; those begin with `-`.
            let (may_fail, command) = match command.first().map(String::as_str) {
                Some("-") => (true, &command[1..]),
                _ => (false, &command[..]),
            };
            let ran = output(Command::new("nsenter").arg(&self.netns).args(command));
            if let (Err(error), false) = (ran, may_fail) {
                failed.get_or_insert(error);
            }
        }
        match failed {
            None => Ok(ms(begun.elapsed())),
            Some(error) => Err(error),
        }
    }
}

fn by_hand(netns: &str, link: &str, netem: bool) -> Rival {
    let shape = if netem {
        "tc qdisc add dev LINK root netem delay 100ms"
    } else {
        "tc qdisc add dev LINK root tbf rate 1gbit burst 1mb latency 50ms"
    };
    Rival::new(
        "nsenter + tc + nft by hand",
        netns,
        (link, netem),
        &[
            shape,
            "nft add table inet rival",
            "nft add chain inet rival out { type filter hook output priority 0 ; }",
            "nft add rule inet rival out ip daddr ADDRESS meta mark set 1",
        ],
        &["tc qdisc del dev LINK root", "nft delete table inet rival"],
    )
}

/// FlushIPSets: a set under another name, filled, and given its own.
const SETS: [&str; 3] = [
    "ipset create rivalold hash:net",
    "ipset add rivalold ADDRESS",
    "ipset rename rivalold rival",
];

/// SetIptablesChains (`initializeEnv`), and how SetTcs begins.
const CHAINS: [&str; 11] = [
    "iptables -w -N CHAOS-INPUT",
    "iptables -w -F CHAOS-INPUT",
    "iptables -w -S INPUT",
    "iptables -w -A INPUT -j CHAOS-INPUT",
    "iptables -w -N CHAOS-OUTPUT",
    "iptables -w -F CHAOS-OUTPUT",
    "iptables -w -S OUTPUT",
    "iptables -w -A OUTPUT -j CHAOS-OUTPUT",
    "ip -j addr show",
    "- tc qdisc del dev lo root",
    "- tc qdisc del dev LINK root",
];

/// The qdiscs of SetTcs, and the nearest to them without netem.
const QDISCS: [&str; 5] = [
    "tc qdisc add dev LINK root handle 1: prio bands 4 priomap 1 2 2 2 1 2 0 0 1 1 1 1 1 1 1 1",
    "tc qdisc add dev LINK parent 1:1 handle 2: sfq",
    "tc qdisc add dev LINK parent 1:2 handle 3: sfq",
    "tc qdisc add dev LINK parent 1:3 handle 4: sfq",
    "tc qdisc add dev LINK parent 1:4 handle 5: netem delay 100ms",
];
const QDISCS_NEAREST: [&str; 5] = [
    "tc qdisc add dev LINK root handle 1: htb default 1",
    "tc class add dev LINK parent 1: classid 1:1 htb rate 10gbit",
    "tc class add dev LINK parent 1: classid 1:2 htb rate 10gbit",
    "tc class add dev LINK parent 1: classid 1:4 htb rate 10gbit",
    "tc qdisc add dev LINK parent 1:4 handle 5: tbf rate 1gbit burst 1mb latency 50ms",
];

/// At the end the same calls come with nothing in them: the chains are flushed, the qdiscs deleted.
const EMPTY: [&str; 9] = [
    "- iptables -w -N CHAOS-INPUT",
    "iptables -w -F CHAOS-INPUT",
    "iptables -w -S INPUT",
    "- iptables -w -N CHAOS-OUTPUT",
    "iptables -w -F CHAOS-OUTPUT",
    "iptables -w -S OUTPUT",
    "ip -j addr show",
    "- tc qdisc del dev lo root",
    "- tc qdisc del dev LINK root",
];

fn chaos_mesh(netns: &str, link: &str, netem: bool) -> Rival {
    // A kernel without netem has no sets either; with netem, the program may be missing.
    let sets = netem && on_path("ipset").is_some();
    let classify = if sets {
        "iptables -w -A TC-TABLES-0 -o LINK -m set --match-set rival dst,dst -j CLASSIFY --set-class 1:4 -w 5"
    } else {
        "iptables -w -A TC-TABLES-0 -o LINK -d ADDRESS -j CLASSIFY --set-class 1:4 -w 5"
    };
    let mut come: Vec<&str> = Vec::new();
    if sets {
        come.extend(SETS);
    }
    come.extend(CHAINS);
    come.extend(if netem { QDISCS } else { QDISCS_NEAREST });
    come.extend([
        "iptables -w -N TC-TABLES-0",
        "iptables -w -F TC-TABLES-0",
        "iptables -w -S TC-TABLES-0",
        classify,
        "iptables -w -S CHAOS-OUTPUT",
        "iptables -w -A CHAOS-OUTPUT -j TC-TABLES-0",
    ]);
    let name = if sets || !netem {
        "Chaos Mesh's daemon"
    } else {
        "Chaos Mesh's daemon, without its ipset"
    };
    let rival = Rival::new(name, netns, (link, netem), &come, &EMPTY);
    // It leaves chains and sets behind; each turn shall be the first.
    rival.leaving(&[
        "- iptables -w -F",
        "- iptables -w -X",
        if sets { "ipset destroy" } else { "true" },
    ])
}

fn pumba(netns: &str, link: &str, netem: bool) -> Rival {
    let (come, go): (&[&str], &[&str]) = if netem {
        (
            &[
                "tc qdisc add dev LINK root handle 1: prio",
                "tc qdisc add dev LINK parent 1:1 handle 10: sfq",
                "tc qdisc add dev LINK parent 1:2 handle 20: sfq",
                "tc qdisc add dev LINK parent 1:3 handle 30: netem delay 100ms",
                "tc filter add dev LINK protocol ip parent 1:0 prio 1 u32 match ip dst ADDRESS flowid 1:3",
            ],
            &[
                "tc qdisc del dev LINK parent 1:1 handle 10:",
                "tc qdisc del dev LINK parent 1:2 handle 20:",
                "tc qdisc del dev LINK parent 1:3 handle 30:",
                "tc qdisc del dev LINK root handle 1: prio",
            ],
        )
    } else {
        (
            &[
                "tc qdisc add dev LINK root handle 1: htb default 1",
                "tc class add dev LINK parent 1: classid 1:1 htb rate 10gbit",
                "tc class add dev LINK parent 1: classid 1:3 htb rate 10gbit",
                "tc qdisc add dev LINK parent 1:3 handle 30: tbf rate 1gbit burst 1mb latency 50ms",
                "tc filter add dev LINK protocol ip parent 1:0 prio 1 u32 match ip dst ADDRESS flowid 1:3",
            ],
            &[
                "tc filter del dev LINK parent 1:0",
                "tc qdisc del dev LINK parent 1:3 handle 30:",
                "tc class del dev LINK classid 1:1",
                "tc qdisc del dev LINK root",
            ],
        )
    };
    Rival::new("pumba's tc", netns, (link, netem), come, go)
}
