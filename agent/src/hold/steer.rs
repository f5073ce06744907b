//! Which packets a fault takes hold of, and where: the part that detour, queue and partition share.
//!
//! ```text
//! in-eth0, out-eth0, …  (base chains)  ──▶  pick  ──▶  spare  ──▶  act: counter, and what is done to the packet
//!                                                        │ spared, neighbour discovery: return
//! ```
//! Each leads on with `goto`, so that nothing comes back. A packet that no fault names meets the rules that pick and no more: it is
//! asked first whom it is for, and then whether it is to be spared. A chain costs such a packet about as much as a rule does, so where
//! few rules pick they stand in the base chains as well. An update of the addresses replaces the rules of all in one transaction; the
//! counter in `act` goes on counting and no packet meets a half-made list.

use std::collections::BTreeMap;

use squall_experiments::filter::{Direction, Network, Protocol, ResolvedEndpoint, ResolvedFilter};

use super::held::HoldError;
use crate::kernel::net::NetError;
use crate::kernel::net::links::{self, Link};
use crate::kernel::net::netlink::Netlink;
use crate::kernel::net::nft::expr::{Expressions, Verdict};
use crate::kernel::net::nft::matching::{
    End, Match, Net, Ports, Transport, spare_neighbour_discovery,
};
use crate::kernel::net::nft::{ChainSeen, Draft, Family, Hook, OwnedTable, RULES_MAX};

/// The chain that picks packets.
pub(crate) const PICK: &str = "pick";
/// The chain that lets some of those go all the same.
const SPARE: &str = "spare";
/// The chain that acts on the others.
pub(crate) const ACT: &str = "act";

impl From<NetError> for HoldError {
    fn from(error: NetError) -> Self {
        match error {
            NetError::Refused {
                operation,
                object,
                text,
                errno,
            } => Self::Kernel {
                operation,
                object: text.map_or(object.clone(), |t| {
                    format!("{object} (the kernel says: {t})")
                }),
                source: errno,
            },
            other => Self::Unable(other.to_string()),
        }
    }
}

/// So few rules that pick stand in each base chain, and so few with their sets in all of them: there may be two chains for each of a
/// thousand links, and a transaction takes but [`RULES_MAX`].
const FEW: usize = 8;
const FEW_IN_ALL: usize = RULES_MAX / 4;

/// Drafts the chains that every fault has. The base chains come after them.
pub(crate) fn draft_chains(
    draft: &mut Draft,
    family: Family,
    filter: &ResolvedFilter,
    act: Vec<Expressions>,
) {
    draft.chain(ACT).chain(SPARE).chain(PICK);
    for expressions in act {
        draft.rule(ACT, expressions);
    }
    draft_picks(draft, family, filter);
}

/// Drafts the rules of base chains that do nothing but pick.
pub(crate) fn draft_bases<'a>(
    draft: &mut Draft,
    family: Family,
    filter: &ResolvedFilter,
    bases: impl IntoIterator<Item = &'a str>,
) {
    let bases: Vec<&str> = bases.into_iter().collect();
    let rules = picks(family, filter);
    let weight: usize = rules.iter().map(Expressions::weight).sum();
    let few = rules.len() <= FEW && weight * bases.len() <= FEW_IN_ALL;
    for base in bases {
        // Each has sets of its own.
        let rules = if few {
            picks(family, filter)
        } else {
            vec![on(PICK)]
        };
        for rule in rules {
            draft.rule(base, rule);
        }
    }
}

/// Drafts whom they pick and spare anew, for other addresses; `bases` as in [`draft_bases`].
pub(crate) fn draft_update<'a>(
    draft: &mut Draft,
    family: Family,
    filter: &ResolvedFilter,
    bases: impl IntoIterator<Item = &'a str> + Clone,
) {
    draft.flush(PICK).flush(SPARE);
    for base in bases.clone() {
        draft.flush(base);
    }
    draft_picks(draft, family, filter);
    draft_bases(draft, family, filter, bases);
}

/// Drafts that nothing is acted on any more: what is picked goes its way.
pub(crate) fn draft_nothing(draft: &mut Draft) {
    draft.flush(SPARE);
}

fn draft_picks(draft: &mut Draft, family: Family, filter: &ResolvedFilter) {
    draft.rule(SPARE, spare_neighbour_discovery(family));
    for spared in spared(filter) {
        for expressions in spared.expressions(family) {
            draft.rule(SPARE, expressions.verdict(&Verdict::Return));
        }
    }
    draft.rule(SPARE, on(ACT));
    for pick in picks(family, filter) {
        draft.rule(PICK, pick);
    }
}

fn on(next: &str) -> Expressions {
    Expressions::default().verdict(&to(next))
}

fn to(next: &str) -> Verdict {
    Verdict::Goto(next.into())
}

/// The rules that pick.
fn picks(family: Family, filter: &ResolvedFilter) -> Vec<Expressions> {
    let each = picked(filter).into_iter();
    let each = each.flat_map(|picked| picked.expressions(family));
    each.map(|rule| rule.verdict(&to(SPARE))).collect()
}

/// What a filter picks: every pair of a source and a destination. Nothing where an end's names do not resolve.
fn picked(filter: &ResolvedFilter) -> Vec<Match> {
    let transport = filter.protocol.map(|p| match p {
        Protocol::Tcp => Transport::Tcp,
        Protocol::Udp => Transport::Udp,
        Protocol::Icmp => Transport::Icmp,
    });
    let (from, to) = (ends(filter.from.as_ref()), ends(filter.to.as_ref()));
    let pairs = from
        .iter()
        .flat_map(|source| to.iter().map(move |destination| (source, destination)));
    pairs
        .map(|(source, destination)| Match {
            source: source.clone(),
            destination: destination.clone(),
            transport,
        })
        .collect()
}

/// What is never touched, in whichever direction it goes.
fn spared(filter: &ResolvedFilter) -> Vec<Match> {
    let each = filter
        .spare
        .iter()
        .flat_map(|endpoint| ends(Some(endpoint)));
    each.flat_map(|end| {
        let from = Match {
            source: end.clone(),
            ..Match::default()
        };
        [Match::to(end), from]
    })
    .collect()
}

/// One for each range of ports, with all addresses.
fn ends(endpoint: Option<&ResolvedEndpoint>) -> Vec<End> {
    let Some(endpoint) = endpoint else {
        return vec![End::default()];
    };
    if endpoint.none {
        return Vec::new();
    }
    let net = |n: &Network| Net {
        address: n.address,
        prefix: n.prefix,
    };
    let nets: Vec<Net> = endpoint.networks.iter().map(net).collect();
    let ports = endpoint.ports.iter().map(|p| {
        Some(Ports {
            first: p.first,
            last: p.last,
        })
    });
    let any = endpoint.ports.is_empty().then_some(None);
    ports
        .chain(any)
        .map(|ports| End {
            nets: nets.clone(),
            ports,
        })
        .collect()
}

/// One side of one link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Side {
    In,
    Out,
}

/// The sides of a link on which a direction is looked at. Every packet on `lo` is both sent and received here, so one
/// side sees all of them; the receiving one is the default, because TCP is better delayed there.
fn sides(direction: Direction, loopback: bool) -> &'static [Side] {
    match (direction, loopback) {
        (Direction::Egress, _) => &[Side::Out],
        (Direction::Ingress, _) | (Direction::Both, true) => &[Side::In],
        (Direction::Both, false) => &[Side::In, Side::Out],
    }
}

/// The netdev base chains of one table: one for each side of each link, kept in step with the links there are.
#[derive(Debug)]
pub(crate) struct LinkHooks {
    filter: ResolvedFilter,
    priority: i32,
    hooked: BTreeMap<(u32, Side), String>,
}

impl LinkHooks {
    pub(crate) fn new(filter: &ResolvedFilter, priority: i32) -> Self {
        Self {
            filter: filter.clone(),
            priority,
            hooked: BTreeMap::new(),
        }
    }

    /// Other addresses, at every link and at those that come.
    pub(crate) fn update(
        &mut self,
        table: &mut OwnedTable,
        endpoints: &ResolvedFilter,
    ) -> Result<(), NetError> {
        let direction = self.filter.direction;
        self.filter = endpoints.clone();
        self.filter.direction = direction;
        loop {
            let drafted = self.draft_all(table);
            // A link went, and its chain with it, since the last time they were counted.
            let went = matches!(&drafted, Err(e) if e.is_absent()) && self.forget_gone(table)?;
            if !went {
                return drafted;
            }
        }
    }

    /// Forgets the chains that are there no more; says whether there were any.
    fn forget_gone(&mut self, table: &OwnedTable) -> Result<bool, NetError> {
        let (seen, before) = (table.chains()?, self.hooked.len());
        self.hooked
            .retain(|_, name| seen.iter().any(|chain| chain.name == *name));
        Ok(self.hooked.len() < before)
    }

    fn draft_all(&self, table: &mut OwnedTable) -> Result<(), NetError> {
        let mut draft = Draft::default();
        let bases = self.hooked.values().map(String::as_str);
        draft_update(&mut draft, table.family(), &self.filter, bases);
        table.commit(&draft)
    }

    /// Hooks links that have come and lets go of those that are no longer to be met (a port that joined a bridge).
    /// The chain of a link that is gone is taken away by the kernel, or left waiting for its name (seen on 6.18).
    pub(crate) fn refresh(
        &mut self,
        route: &mut Netlink,
        table: &mut OwnedTable,
    ) -> Result<(), NetError> {
        let all = links::list(route)?;
        let meet = links::hookable(&all);
        let sided = |l: &Link| {
            sides(self.filter.direction, l.loopback)
                .iter()
                .map(move |s| (l.index, *s))
                .collect::<Vec<_>>()
        };
        let wanted: BTreeMap<(u32, Side), String> = meet
            .iter()
            .flat_map(|l| sided(l).into_iter().map(|key| (key, l.name.clone())))
            .collect();
        // A link that is merely down keeps its hook: it harms nothing and is ready when it comes up.
        let is_down = |index: u32| all.iter().any(|l| l.index == index && !l.up);
        let stale: Vec<_> = self
            .hooked
            .keys()
            .filter(|key| !wanted.contains_key(*key) && !is_down(key.0))
            .copied()
            .collect();
        for key in stale {
            if let Some(chain) = self.hooked.remove(&key) {
                let mut draft = Draft::default();
                draft.flush(&chain).delete_chain(&chain);
                ignore_absent(table.commit(&draft))?;
            }
        }
        let new: Vec<_> = wanted
            .into_iter()
            .filter(|(key, _)| !self.hooked.contains_key(key))
            .collect();
        self.hook_all(table, &new)
    }

    /// Hooks links in one transaction: each waits for the kernel's readers, and a node may have a thousand links. Where
    /// one of them vanishes meanwhile, one by one, so that it does not keep the others unhooked.
    fn hook_all(
        &mut self,
        table: &mut OwnedTable,
        new: &[((u32, Side), String)],
    ) -> Result<(), NetError> {
        if new.is_empty() {
            return Ok(());
        }
        match self.hook(table, new) {
            Err(e) if e.is_absent() => {
                for one in new {
                    ignore_absent(self.hook(table, std::slice::from_ref(one)))?;
                }
                Ok(())
            }
            other => other,
        }
    }

    fn hook(
        &mut self,
        table: &mut OwnedTable,
        new: &[((u32, Side), String)],
    ) -> Result<(), NetError> {
        let mut draft = Draft::default();
        let mut chains = Vec::new();
        for (key, name) in new {
            let (word, hook) = match key.1 {
                Side::In => ("in", Hook::Ingress(name.clone())),
                Side::Out => ("out", Hook::Egress(name.clone())),
            };
            let chain = format!("{word}-{}-{name}", key.0);
            draft.base_chain(&chain, hook, self.priority);
            chains.push((*key, chain));
        }
        let bases = chains.iter().map(|(_, chain)| chain.as_str());
        draft_bases(&mut draft, table.family(), &self.filter, bases);
        table.commit(&draft)?;
        self.hooked.extend(chains);
        Ok(())
    }

    /// Reads the base chains back, a line each; an error when one that should be there is not.
    pub(crate) fn read_back(&self, table: &OwnedTable) -> Result<Vec<String>, HoldError> {
        let seen = table.chains()?;
        let mut lines = Vec::new();
        for ((_, side), name) in &self.hooked {
            let hook_number = u32::from(*side == Side::Out);
            let found = seen.iter().find(|c| c.name == *name);
            match found {
                Some(c)
                    if c.hook == Some((hook_number, self.priority)) && !c.devices.is_empty() =>
                {
                    let word = if *side == Side::In {
                        "ingress"
                    } else {
                        "egress"
                    };
                    lines.push(format!(
                        "{table}: chain at {word} of {}, priority {}",
                        c.devices.join(", "),
                        self.priority
                    ));
                }
                other => {
                    return Err(HoldError::Unable(format!(
                        "{table}: chain {name} was made, but the kernel shows {other:?}; nothing was left in force"
                    )));
                }
            }
        }
        if lines.is_empty() {
            return Err(HoldError::Unable(
                "there is no link that is up in this network namespace, so there is no packet to act on; \
                 name a namespace with an interface"
                    .into(),
            ));
        }
        Ok(lines)
    }
}

fn ignore_absent(result: Result<(), NetError>) -> Result<(), NetError> {
    match result {
        Err(e) if e.is_absent() => Ok(()),
        other => other,
    }
}

/// Checks that the kernel has the rule that acts, with this expression; says its counter (packets, bytes).
pub(crate) fn read_action(table: &OwnedTable, needed: &str) -> Result<(u64, u64), HoldError> {
    read_rules(table, ACT, needed)
}

/// The same of another chain's rules.
pub(crate) fn read_rules(
    table: &OwnedTable,
    chain: &str,
    needed: &str,
) -> Result<(u64, u64), HoldError> {
    let (mut packets, mut bytes, mut found) = (0, 0, false);
    for rule in table.rules(chain)? {
        found |= rule.expressions.iter().any(|e| e == needed);
        let (p, b) = rule.counter.unwrap_or_default();
        packets += p;
        bytes += b;
    }
    if found {
        Ok((packets, bytes))
    } else {
        Err(HoldError::Unable(format!(
            "the rule that should {needed} packets is not in {table} any more: somebody removed it, so the fault is over"
        )))
    }
}

/// Reads base chains back by their names and priorities, a line each, and how many rules pick packets for them.
pub(crate) fn hooks_read_back(
    table: &OwnedTable,
    wanted: impl IntoIterator<Item = (&'static str, i32)>,
) -> Result<Vec<String>, HoldError> {
    let seen = table.chains()?;
    let mut lines = Vec::new();
    for (chain, priority) in wanted {
        let hooked = |(_, at)| at == priority;
        let is_there = |c: &ChainSeen| c.name == chain && c.hook.is_some_and(hooked);
        if !seen.iter().any(is_there) {
            return Err(HoldError::Unable(format!(
                "{table}: chain {chain} was made, the kernel shows {seen:?}"
            )));
        }
        lines.push(format!("{table}: chain `{chain}`, priority {priority}"));
    }
    lines.push(picks_read_back(table)?);
    Ok(lines)
}

/// How many rules pick packets, and how many spare them, as the kernel has them.
pub(crate) fn picks_read_back(table: &OwnedTable) -> Result<String, HoldError> {
    let (pick, spare) = (table.rules(PICK)?.len(), table.rules(SPARE)?.len());
    // The last rule of those that spare is that all others are acted on.
    let spare = spare.saturating_sub(1);
    Ok(format!(
        "{table}: {pick} rules that pick packets, {spare} that spare some of them"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(networks: &[&str], ports: &[&str]) -> ResolvedEndpoint {
        ResolvedEndpoint {
            networks: networks.iter().map(|n| n.parse().unwrap()).collect(),
            ports: ports.iter().map(|p| p.parse().unwrap()).collect(),
            none: false,
        }
    }

    #[test]
    fn a_filter_picks_every_pair_of_its_ends() {
        let filter = ResolvedFilter {
            to: Some(endpoint(&["10.0.0.1", "fd00::/8"], &["80", "90-99"])),
            from: Some(endpoint(&["10.1.0.0/16"], &[])),
            ..ResolvedFilter::default()
        };
        assert_eq!(picked(&filter).len(), 2, "one for each range of ports");
        assert_eq!(picked(&ResolvedFilter::default()), [Match::default()]);
    }

    #[test]
    fn a_name_that_does_not_resolve_picks_nothing_instead_of_everything() {
        let nobody = ResolvedEndpoint {
            none: true,
            ..endpoint(&[], &["80"])
        };
        let filter = ResolvedFilter {
            to: Some(nobody.clone()),
            ..ResolvedFilter::default()
        };
        assert!(picked(&filter).is_empty());
        let spare = ResolvedFilter {
            spare: vec![nobody],
            ..ResolvedFilter::default()
        };
        assert!(
            spared(&spare).is_empty(),
            "and spares nothing instead of everything"
        );
    }

    #[test]
    fn what_is_spared_is_spared_both_ways() {
        let filter = ResolvedFilter {
            spare: vec![endpoint(&["10.0.0.9"], &["443"])],
            ..ResolvedFilter::default()
        };
        let spared = spared(&filter);
        assert_eq!(spared.len(), 2);
        assert!(!spared[0].destination.nets.is_empty() && !spared[1].source.nets.is_empty());
    }

    #[test]
    fn a_packet_on_lo_is_met_on_one_side_only() {
        for direction in [Direction::Both, Direction::Ingress, Direction::Egress] {
            assert_eq!(sides(direction, true).len(), 1);
        }
        assert_eq!(sides(Direction::Both, false).len(), 2);
    }
}
