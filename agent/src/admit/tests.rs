//! Admission against a small model: what a person with pen and paper would say of a handful of faults on a handful of
//! targets.

use super::*;
use crate::policy::Limits;
use proptest::prelude::*;
use squall_experiments::capability::Capability;
use std::collections::BTreeMap;

/// The targets of the model, and what each is.
const TARGETS: [(&str, Option<Site>); 6] = [
    ("host", Some(Site::Host)),
    ("process", Some(Site::Process)),
    ("group", Some(Site::Group)),
    ("netns", Some(Site::Netns)),
    ("container", Some(Site::Container)),
    ("nobody", None),
];

/// Port sets of the model: bit n is port n + 1. Filters are `to` ports; an empty set is every packet.
fn delay(ports: u8) -> Fault {
    let ports: Vec<String> = (0..4)
        .filter(|n| ports >> n & 1 == 1)
        .map(|n| (n + 1).to_string())
        .collect();
    let filter = serde_json::json!({ "to": { "ports": ports } });
    serde_json::from_value(serde_json::json!({ "delay": { "time": "10ms", "filter": filter } }))
        .unwrap()
}

/// The model's number of the kind that has a means of its own, and one only.
const PAUSE: u8 = 5;
const HTTP: u8 = 6;

fn http(ports: u8) -> Fault {
    let text = serde_json::to_value(delay(ports)).unwrap()["delay"]["filter"].clone();
    let http = serde_json::json!({ "effect": "reset", "filter": text });
    serde_json::from_value(serde_json::json!({ "http": http })).unwrap()
}

fn fault(kind: u8, ports: u8) -> Fault {
    let text = match kind {
        0 => return delay(ports),
        1 => r#"{"partition": {}}"#,
        2 => r#"{"kill": {}}"#,
        3 => r#"{"cpu": {"load": "10%"}}"#,
        HTTP => return http(ports),
        PAUSE => r#"{"pause": {}}"#,
        _ => r#"{"memory": {"size": "1MiB"}}"#,
    };
    serde_json::from_str(text).unwrap()
}

/// What a node can: bit 0 detour, bit 1 queue; the rest is always there.
fn capabilities(shaping: u8) -> Capabilities {
    let means = |kind: FaultKind| match kind {
        kind if kind.is_shaping() => {
            let all = [(1, Means::Detour), (2, Means::Queue)];
            all.into_iter()
                .filter(|(bit, _)| shaping & bit != 0)
                .map(|(_, m)| m)
                .collect()
        }
        FaultKind::Partition => vec![Means::Nftables],
        kind if kind.is_redirecting() => vec![Means::Redirect],
        FaultKind::Freeze | FaultKind::NicDown | FaultKind::Fds => vec![Means::Journal],
        _ => vec![Means::Process],
    };
    let capability = |fault| Capability {
        fault,
        means: means(fault),
        held: fault.holding(),
        notes: Vec::new(),
    };
    Capabilities {
        faults: FaultKind::ALL.into_iter().map(capability).collect(),
        ..Capabilities::default()
    }
}

/// What the model remembers of a live fault.
#[derive(Debug, Clone, PartialEq)]
struct Noted {
    kind: u8,
    ports: u8,
    target: usize,
    detoured: bool,
}

/// The network namespace that a target's packets are in. The fourth and the fifth are one: a pod, found in two ways.
fn netns_of(target: usize) -> Option<u64> {
    match target {
        0 => Some(1),
        3 | 4 => Some(2),
        _ => None,
    }
}

/// The model's own answer, from the rules as the README tells them.
fn expected(
    live: &BTreeMap<u8, Noted>,
    (id, kind, ports, target): (u8, u8, u8, usize),
    shaping: u8,
    most: usize,
) -> &'static str {
    if let Some(same) = live.get(&id) {
        let equal = same.kind == kind
            && (!matches!(kind, 0 | HTTP) || same.ports == ports)
            && same.target == target;
        return if equal { "already" } else { "deny" };
    }
    let fits = match (kind, target) {
        (_, 5) => false,
        (0 | 1 | HTTP, _) => true,
        (2 | PAUSE, site) => matches!(site, 1 | 2 | 4),
        (_, site) => site != 3,
    };
    if !fits || live.len() >= most {
        return "deny";
    }
    let same = |other: &Noted| {
        other.target == target
            || (netns_of(target).is_some() && netns_of(other.target) == netns_of(target))
    };
    let crosses =
        |other: &Noted| same(other) && (other.ports == 0 || ports == 0 || other.ports & ports != 0);
    if kind == HTTP && live.values().any(|o| o.kind == HTTP && crosses(o)) {
        return "deny";
    }
    if kind <= 1 && matches!(target, 1 | 2) {
        // Only the queue can tell whose a packet is.
        return if shaping & 2 != 0 { "queue" } else { "deny" };
    }
    if kind == HTTP && matches!(target, 1 | 2) && shaping & 2 == 0 {
        return "deny";
    }
    if kind != 0 {
        return "accept";
    }
    let crossed = live.values().any(|other| other.detoured && crosses(other));
    match (shaping & 1 != 0, shaping & 2 != 0) {
        (false, false) => "deny",
        (true, _) if !crossed => "detour",
        (true, false) => "deny",
        (_, true) => "queue",
    }
}

proptest! {
    #[test]
    fn admission_answers_as_the_model_does(
        steps in prop::collection::vec((0u8..6, 0u8..7, 0u8..16, 0usize..6, any::<bool>()), 1..40),
        shaping in 0u8..4,
        most in 1usize..6,
    ) {
        let capabilities = capabilities(shaping);
        let limits = Limits { faults: most, ..Limits::default() };
        let policy = Policy { limits, ..Policy::default() };
        let mut live: Vec<Live> = Vec::new();
        let mut model: BTreeMap<u8, Noted> = BTreeMap::new();
        for (id, kind, ports, target, end) in steps {
            if end {
                model.remove(&id);
                live.retain(|l| l.id.0 != id.to_string());
                continue;
            }
            let (name, site) = TARGETS[target];
            let (fault_id, fault, target_id) = (FaultId(id.to_string()), fault(kind, ports), TargetId::from(name));
            let asked = Asked {
                id: &fault_id,
                fault: &fault,
                target: &target_id,
                lease: policy.limits.lease,
                means: None,
                site,
                netns: netns_of(target),
                among: (1, 0),
            };
            let answer = admit(asked, &live, node(&capabilities, &policy));
            let said = match &answer {
                Admission::Accept(Means::Detour) => "detour",
                Admission::Accept(Means::Queue) => "queue",
                Admission::Accept(_) => "accept",
                Admission::AlreadySo => "already",
                Admission::Deny(denial) => {
                    prop_assert!(denial.to_string().len() > 20, "{denial}");
                    "deny"
                }
            };
            prop_assert_eq!(said, expected(&model, (id, kind, ports, target), shaping, most));
            if let Admission::Accept(means) = answer {
                model.insert(id, Noted { kind, ports, target, detoured: means == Means::Detour });
                live.push(Live { id: fault_id, fault, target: target_id, netns: netns_of(target), means });
            }
        }
    }

    #[test]
    fn networks_meet_exactly_when_an_address_is_in_both(a: u32, one in 0u8..=32, flip in 0u32..32, other in 0u8..=32) {
        let b = a ^ (1 << flip);
        let network = |bits: u32, prefix| Network::new(std::net::Ipv4Addr::from(bits).into(), prefix).unwrap();
        // The addresses differ in one bit only, `flip` from the right: the shorter prefix decides.
        let within = u32::from(one.min(other)) <= 31 - flip;
        prop_assert_eq!(networks_meet(network(a, one), network(b, other)), within);
    }
}

fn node<'a>(capabilities: &'a Capabilities, policy: &'a Policy) -> Node<'a> {
    Node {
        capabilities,
        policy,
        now: NOON.parse().unwrap(),
        resolvers: 1,
        halted: None,
    }
}

fn one_on_netns(lease: Lease, means: Option<Means>, limits: &Limits) -> Admission {
    let (id, target, fault) = (FaultId::from("f"), TargetId::from("n"), delay(0));
    let asked = Asked {
        id: &id,
        fault: &fault,
        target: &target,
        lease,
        means,
        site: Some(Site::Netns),
        netns: None,
        among: (1, 0),
    };
    let policy = Policy {
        limits: limits.clone(),
        ..Policy::default()
    };
    admit(asked, &[], node(&capabilities(3), &policy))
}

#[test]
fn a_lease_beyond_the_nodes_is_denied() {
    let short = Limits {
        lease: "5s".parse().unwrap(),
        ..Limits::default()
    };
    let denied = one_on_netns("6s".parse().unwrap(), None, &short);
    assert!(matches!(
        denied,
        Admission::Deny(Denial::LeaseTooLong { .. })
    ));
    assert_eq!(
        one_on_netns("5s".parse().unwrap(), None, &short),
        Admission::Accept(Means::Detour)
    );
}

#[test]
fn means_that_were_asked_for_are_given_or_denied() {
    let lease = "5s".parse().unwrap();
    let ask = |means| one_on_netns(lease, Some(means), &Limits::default());
    assert_eq!(ask(Means::Queue), Admission::Accept(Means::Queue));
    assert!(matches!(
        ask(Means::Nftables),
        Admission::Deny(Denial::NotByThat { .. })
    ));
}

#[test]
fn other_protocols_and_families_are_not_in_the_way() {
    let filter = |text: &str| serde_json::from_str::<Filter>(text).unwrap();
    let tcp = filter(r#"{"protocol": "tcp"}"#);
    let udp = filter(r#"{"protocol": "udp"}"#);
    assert!(!may_overlap(&tcp, &udp) && may_overlap(&tcp, &Filter::default()));
    let four = filter(r#"{"to": {"hosts": ["0.0.0.0/0"]}}"#);
    let six = filter(r#"{"to": {"hosts": ["::/0"]}}"#);
    let name = filter(r#"{"to": {"hosts": ["db.shop"]}}"#);
    assert!(!may_overlap(&four, &six) && may_overlap(&four, &name));
}

/// What is forbidden unless it is allowed: the word in a policy, what it allows, by which means, and where alone that fits.
const LEAVES: [(&str, &str, Means, &[Site]); 5] = [
    (
        "freeze",
        r#"{"freeze": {}}"#,
        Means::Journal,
        &[Site::Group],
    ),
    (
        "fds",
        r#"{"fds": {"goal": {"leave": 10}}}"#,
        Means::Journal,
        &[Site::Process, Site::Group, Site::Container],
    ),
    (
        "nic",
        r#"{"nicDown": {"interface": "eth0"}}"#,
        Means::Journal,
        &[Site::Host, Site::Netns, Site::Container],
    ),
    (
        "reboot",
        r#"{"reboot": {"irreversible": true}}"#,
        Means::Process,
        &[Site::Host],
    ),
    (
        "shutdown",
        r#"{"shutdown": {"irreversible": true}}"#,
        Means::Process,
        &[Site::Host],
    ),
];

#[test]
fn what_no_process_holds_is_denied_unless_the_policy_allows_it_by_name() {
    const SITES: [Site; 5] = [
        Site::Host,
        Site::Process,
        Site::Group,
        Site::Netns,
        Site::Container,
    ];
    let (id, target) = (FaultId::from("f"), TargetId::from("g"));
    for (word, fault, means, sites) in LEAVES {
        let fault = serde_json::from_str(fault).unwrap();
        let ask = |allow: &str, site| {
            let leave = serde_json::from_str(&format!("[{allow:?}]")).unwrap();
            let policy = Policy {
                allow: leave,
                ..Policy::default()
            };
            let asked = Asked {
                id: &id,
                fault: &fault,
                target: &target,
                lease: "1s".parse().unwrap(),
                means: None,
                site: Some(site),
                netns: None,
                among: (1, 0),
            };
            admit(asked, &[], node(&capabilities(3), &policy))
        };
        for (other, ..) in LEAVES.iter().filter(|(other, ..)| *other != word) {
            let Admission::Deny(denial) = ask(other, sites[0]) else {
                panic!("{word} was allowed by `allow: [ {other} ]`");
            };
            let mend = format!("allow: [ {word} ]");
            assert!(denial.to_string().contains(&mend), "{denial}");
        }
        for site in SITES {
            match ask(word, site) {
                Admission::Accept(by) => assert!(by == means && sites.contains(&site), "{word}"),
                Admission::Deny(Denial::WrongTarget { .. }) => {
                    assert!(!sites.contains(&site), "{word} on {site:?}");
                }
                other => panic!("{word} on {site:?}: {other:?}"),
            }
        }
    }
    let unsaid = serde_json::from_str::<Fault>(r#"{"reboot": {"irreversible": false}}"#);
    assert!(
        unsaid
            .unwrap_err()
            .to_string()
            .contains("irreversible: true")
    );
}

/// A policy over the model's kinds and targets.
fn policies() -> impl Strategy<Value = Policy> {
    let kinds = || prop::collection::vec(prop::sample::select(&KINDS[..]), 0..3);
    let numbers = (1usize..8, 1usize..4, 1usize..4, 0u64..=10);
    (kinds(), kinds(), numbers, 1u64..30, any::<bool>()).prop_map(
        |(forbid, only, (faults, per_kind, per_target, share), delay_ms, day)| Policy {
            forbid,
            only,
            limits: Limits {
                faults,
                per_kind: KINDS.map(|kind| (kind, per_kind)).into(),
                per_target,
                share: Percent::new(share * 100_000).unwrap(),
                delay: format!("{delay_ms}ms").parse().unwrap(),
                ..Limits::default()
            },
            hours: Some(serde_saphyr::from_str(if day { DAY } else { NIGHT }).unwrap()),
            ..Policy::default()
        },
    )
}

const KINDS: [FaultKind; 4] = [
    FaultKind::Delay,
    FaultKind::Partition,
    FaultKind::Kill,
    FaultKind::Cpu,
];
/// It is noon in the model.
const DAY: &str = "open: [ \"09:00-17:00\" ]";
const NIGHT: &str = "open: [ \"17:00-09:00\" ]";

/// The rules of a policy that what is live breaks, in the words of the README.
fn broken(policy: &Policy, live: &[Live], found: usize) -> Vec<String> {
    let count = |wanted: &dyn Fn(&Live) -> bool| live.iter().filter(|l| wanted(l)).count();
    let limits = &policy.limits;
    let mut broken = Vec::new();
    let mut rule = |kept: bool, name: &str| {
        if !kept {
            broken.push(name.to_owned());
        }
    };
    rule(live.len() <= limits.faults, "faults");
    for kind in KINDS {
        let number = count(&|l| l.fault.kind() == kind);
        let not_among = !policy.only.is_empty() && !policy.only.contains(&kind);
        rule(
            number == 0 || !(policy.forbid.contains(&kind) || not_among),
            "forbidden",
        );
        rule(number <= limits.per_kind[&kind], "per kind");
    }
    let mut targets: Vec<&TargetId> = live.iter().map(|l| &l.target).collect();
    targets.sort_unstable();
    targets.dedup();
    for target in &targets {
        rule(
            count(&|l| l.target == **target) <= limits.per_target,
            "per target",
        );
    }
    // In tenths, rounded down; one may always be hit.
    let share = (limits.share.get() / 100_000) as usize * found / 10;
    rule(targets.len() <= share.max(1), "share");
    let late = limits.delay < "10ms".parse().unwrap();
    rule(
        !late || count(&|l| l.fault.kind() == FaultKind::Delay) == 0,
        "delay",
    );
    rule(
        live.is_empty()
            || policy
                .hours
                .as_ref()
                .unwrap()
                .is_open(NOON.parse().unwrap()),
        "hours",
    );
    broken
}

const NOON: &str = "2026-11-26T12:00:00Z";

proptest! {
    /// What is accepted breaks no rule, and what is denied would have broken one.
    #[test]
    fn a_policy_is_kept_and_denies_nothing_that_keeps_it(
        policy in policies(),
        steps in prop::collection::vec((0usize..4, 0usize..5, any::<bool>()), 1..30),
    ) {
        const FOUND: usize = 5;
        let capabilities = capabilities(3);
        let mut live: Vec<Live> = Vec::new();
        for (n, (kind, target, end)) in steps.into_iter().enumerate() {
            if end && !live.is_empty() {
                live.remove(n % live.len());
                continue;
            }
            let (id, target) = (FaultId(n.to_string()), TargetId(target.to_string()));
            let fault = fault([0, 1, 2, 3][kind], 0);
            let site = if kind < 2 { Site::Netns } else { Site::Process };
            let hit: std::collections::BTreeSet<_> =
                live.iter().map(|l| &l.target).filter(|other| **other != target).collect();
            let asked = Asked {
                id: &id,
                fault: &fault,
                target: &target,
                lease: policy.limits.lease,
                means: None,
                site: Some(site),
                netns: None,
                among: (FOUND, hit.len()),
            };
            let answer = admit(asked, &live, node(&capabilities, &policy));
            let mut then = live.clone();
            then.push(Live { id: id.clone(), fault: fault.clone(), target: target.clone(), netns: None, means: Means::Process });
            let broken = broken(&policy, &then, FOUND);
            match answer {
                Admission::Accept(means) => {
                    prop_assert!(broken.is_empty(), "accepted, but {broken:?}");
                    live.push(Live { id, fault, target, netns: None, means });
                }
                Admission::Deny(denial) => prop_assert!(!broken.is_empty(), "nothing is broken: {denial}"),
                Admission::AlreadySo => prop_assert!(false, "a new name"),
            }
        }
    }
}

#[test]
fn the_nodes_own_names_are_not_touched_unless_its_policy_says_so() {
    let dns: Fault = serde_json::from_str(r#"{"dns": {"effect": "nxdomain"}}"#).unwrap();
    let ask = |site, dns_protected| {
        let (id, target) = (FaultId::from("f"), TargetId::from("t"));
        let mut policy = Policy::default();
        policy.protect.dns = dns_protected;
        let asked = Asked {
            id: &id,
            fault: &dns,
            target: &target,
            lease: policy.limits.lease,
            means: None,
            site: Some(site),
            netns: None,
            among: (1, 0),
        };
        admit(asked, &[], node(&capabilities(3), &policy))
    };
    assert_eq!(ask(Site::Host, true), Admission::Deny(Denial::OwnDns));
    assert_eq!(ask(Site::Host, false), Admission::Accept(Means::Redirect));
    assert_eq!(ask(Site::Netns, true), Admission::Accept(Means::Redirect));
}
