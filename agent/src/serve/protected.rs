//! What the node's policy and the agent's own safety keep from being hit.

use super::Agent;
use crate::hold::speech::{Places, Prey};
use crate::inventory::{self, Grasp, HeldTarget, Rules};
use squall_experiments::fault::{Exhausted, Fault};
use squall_experiments::filter::{Network, Ports, ResolvedEndpoint};
use squall_experiments::target::Target;
use squall_experiments::units::Percent;
use squall_experiments::wire::FromAgent;
use std::net::SocketAddr;
use std::sync::Arc;

/// The conversations with whoever is there.
pub(super) fn at(peer: SocketAddr) -> ResolvedEndpoint {
    ResolvedEndpoint {
        networks: vec![Network::single(peer.ip())],
        ports: vec![Ports {
            first: peer.port(),
            last: peer.port(),
        }],
        ..ResolvedEndpoint::default()
    }
}

/// The most containers beside a target that its holder is told of: what fits into one message to it.
const SIBLINGS_MAX: usize = 500;

impl Agent {
    pub(super) fn rules(&self) -> Rules {
        let me = std::process::id();
        let mut rules = Rules {
            protected_names: self.ready.policy.protect.processes.clone(),
            protected_units: self.ready.policy.protect.units.clone(),
            protected_netns: self.ready.policy.protect.netns.clone(),
            protected_namespaces: self.ready.policy.protect.namespaces.clone(),
            node: self.ready.node.clone(),
            ..Rules::default()
        };
        for pid in inventory::process::ancestors(me) {
            rules.spare_pids.insert(pid, "an ancestor of the agent");
        }
        for pid in &self.spare_pids {
            rules.spare_pids.insert(*pid, "the controller");
        }
        for entry in self.faults.values() {
            if let Some(FromAgent::Armed(armed)) = &entry.armed {
                rules
                    .spare_pids
                    .insert(armed.holder, "the holder of a fault");
            }
        }
        if let Some(watchdog) = &self.ready.watchdog {
            rules
                .spare_pids
                .insert(watchdog.pid(), "the agent's watchdog");
        }
        rules.spare_pids.insert(me, "the agent");
        rules
    }

    /// How many things the target's selection found that are still there, and how many others of them are hit.
    pub(super) fn among(&self, held: &HeldTarget) -> (usize, usize) {
        let found =
            |other: &&Arc<HeldTarget>| other.target == held.target && other.grasp.is_there();
        let hit = |other: &&Arc<HeldTarget>| {
            other.candidate.id != held.candidate.id
                && self
                    .faults
                    .values()
                    .any(|entry| entry.live.target == other.candidate.id)
        };
        // Where all may be hit nobody needs to count, and there may be thousands.
        if self.ready.policy.limits.share == Percent::ALL {
            return (usize::MAX, 0);
        }
        let all: Vec<_> = self.targets.values().filter(found).collect();
        (all.len(), all.iter().filter(|other| hit(other)).count())
    }

    /// Conversations that a fault on this target does not touch. The node's resolvers are the node's own: what others
    /// ask them from namespaces of their own is theirs.
    pub(super) fn spare(&self, grasp: &Grasp) -> Vec<ResolvedEndpoint> {
        let resolvers = match grasp {
            Grasp::Host => self.ready.resolvers.as_slice(),
            _ => &[],
        };
        let mut spare = self.ready.policy.spare(resolvers);
        spare.extend(self.controller.clone());
        spare
    }

    /// What a fault that names no packets spares all the same.
    pub(super) fn spared_by(&self, fault: &Fault, grasp: &Grasp) -> Vec<ResolvedEndpoint> {
        match fault {
            Fault::NicDown(_) => self.spared_links(grasp),
            Fault::Exhaust(exhaust) if exhaust.what == Exhausted::Conntrack => self.spare(grasp),
            _ => Vec::new(),
        }
    }

    /// What must be reached all the same where an interface is set down. The controller is reached from the node's own
    /// namespace.
    fn spared_links(&self, grasp: &Grasp) -> Vec<ResolvedEndpoint> {
        if !self.ready.policy.protect.links {
            return Vec::new();
        }
        let own = inventory::netns::own_inode();
        let is_own = matches!(grasp, Grasp::Host) || grasp.netns_inode() == own;
        let mut spare = match grasp {
            _ if is_own => self.spare(&Grasp::Host),
            _ => self.ready.policy.spare(&[]),
        };
        // Ports say nothing about the way.
        spare.retain(|end| !end.networks.is_empty());
        spare
    }

    pub(super) fn prey(&self, held: &HeldTarget) -> Prey {
        Prey {
            places: self.places(held),
            selector: match &held.target {
                // A pid does not come back: what was named by it has no replacement.
                Target::Process(selector) if selector.pid.is_none() => Some(selector.clone()),
                _ => None,
            },
            spare_pids: self.rules().spare_pids.into_keys().collect(),
            spare_names: self.ready.policy.protect.processes.clone(),
            spare_units: self.ready.policy.protect.units.clone(),
        }
    }

    /// Where a container's replacement is looked for.
    fn places(&self, held: &HeldTarget) -> Option<Places> {
        let Grasp::Container(container) = &held.grasp else {
            return None;
        };
        let beside = self
            .targets
            .values()
            .filter_map(|other| match &other.grasp {
                Grasp::Container(one)
                    if other.target == held.target && one.kin != container.kin =>
                {
                    Some(one.kin.clone())
                }
                _ => None,
            });
        let siblings: Vec<String> = beside.take(SIBLINGS_MAX + 1).collect();
        Some(Places {
            target: held.target.clone(),
            sockets: self.ready.policy.runtimes.clone(),
            kin: container.kin.clone(),
            siblings: (siblings.len() <= SIBLINGS_MAX).then_some(siblings),
            spare_namespaces: self.ready.policy.protect.namespaces.clone(),
        })
    }

    /// Why the faults that live must end now, if the policy's hours are over.
    pub(super) fn hours_are_over(&self) -> Option<String> {
        let hours = self.ready.policy.hours.as_ref()?;
        let over = !hours.is_open(jiff::Timestamp::now());
        over.then(|| format!("the node's policy allows faults {hours} only, and that time is over"))
    }
}
