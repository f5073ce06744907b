//! The kernel layer against the real kernel, in namespaces of its own. Needs root; says so where it is not.

use crate::kernel::net::NetError;
use crate::kernel::net::links;
use crate::kernel::net::netlink::{Netlink, Protocol};
use crate::kernel::net::netns::{self, in_scratch};
use crate::kernel::net::nft::expr::{Expressions, Verdict};
use crate::kernel::net::nft::matching::{End, Match, Net, Ports, spare_neighbour_discovery};
use crate::kernel::net::nft::{self, Draft, Family, Hook, OwnedTable};
use crate::kernel::net::probe::NetAbilities;
use crate::kernel::net::qdisc::{self, OwnIfb};

fn may_make_namespaces() -> bool {
    match in_scratch(|| Ok(())) {
        Ok(()) => true,
        Err(e) => {
            eprintln!("skipped: {e}");
            false
        }
    }
}

#[test]
fn abilities() {
    if !may_make_namespaces() {
        return;
    }
    let started = std::time::Instant::now();
    let abilities = NetAbilities::probe();
    eprintln!("{:?}\n{abilities:#?}", started.elapsed());
    assert_eq!(abilities.owned_table, Ok(()));
    assert_eq!(abilities.reject(), Ok(()));
}

fn filtering_draft() -> Draft {
    let mut draft = Draft::default();
    draft
        .chain("act")
        .chain("pick")
        .base_chain("in-lo", Hook::Ingress("lo".into()), -300);
    draft.rule(
        "in-lo",
        Expressions::default().verdict(&Verdict::Jump("pick".into())),
    );
    draft.rule("pick", spare_neighbour_discovery(Family::Netdev));
    let net = Net {
        address: "fd00:1::".parse().unwrap(),
        prefix: 61,
    };
    let ends = [
        End {
            nets: vec![net],
            ports: Some(Ports {
                first: 80,
                last: 99,
            }),
        },
        End {
            nets: vec![Net {
                address: "10.1.2.3".parse().unwrap(),
                prefix: 32,
            }],
            ports: None,
        },
    ];
    for end in ends {
        for list in Match::to(end).expressions(Family::Netdev) {
            draft.rule("pick", list.verdict(&Verdict::Goto("act".into())));
        }
    }
    draft.rule("act", Expressions::default().counter().forward_to(1));
    draft
}

#[test]
fn an_owned_table_reads_back_what_was_asked_and_goes_with_its_socket() {
    if !may_make_namespaces() {
        return;
    }
    in_scratch(|| {
        let mut table = OwnedTable::create(Family::Netdev, "sqtest")?;
        let draft = filtering_draft();
        table.commit(&draft)?;
        let chains = table.chains()?;
        let base = chains.iter().find(|c| c.name == "in-lo").unwrap();
        assert_eq!(
            (base.hook, base.devices.as_slice()),
            (Some((0, -300)), ["lo".to_owned()].as_slice())
        );
        assert_eq!(table.rules("pick")?.len(), 3);
        let acts = table.rules("act")?;
        let act = &acts[0];
        assert_eq!(
            (act.expressions.join(" ").as_str(), act.counter),
            ("counter immediate fwd", Some((0, 0)))
        );

        let mut other = Netlink::open(Protocol::Netfilter)?;
        assert!(
            OwnedTable::create(Family::Netdev, "sqtest").is_err(),
            "the name is taken"
        );
        drop(table);
        assert!(nft::tables(&mut other, Family::Netdev)?.is_empty());
        Ok(())
    })
    .unwrap();
}

#[test]
fn a_batch_with_one_bad_change_changes_nothing_and_names_it() {
    if !may_make_namespaces() {
        return;
    }
    in_scratch(|| {
        let mut table = OwnedTable::create(Family::Inet, "sqtest")?;
        let mut draft = Draft::default();
        draft
            .chain("good")
            .rule("missing", Expressions::default().counter());
        let error = table.commit(&draft).unwrap_err();
        assert!(error.to_string().contains("chain missing"), "{error}");
        assert_eq!(error.errno(), Some(libc::ENOENT));
        assert!(table.chains()?.is_empty());
        let mut good = Draft::default();
        good.chain("good")
            .rule("good", Expressions::default().counter());
        table.commit(&good)?;
        assert_eq!(table.rules("good")?.len(), 1);
        Ok(())
    })
    .unwrap();
}

#[test]
fn an_ifb_is_made_listed_and_deleted() {
    if !may_make_namespaces() {
        return;
    }
    in_scratch(|| {
        let mut route = Netlink::open(Protocol::Route)?;
        let ifb = OwnIfb::create(&mut route, "sqtest1")?;
        ifb.set_up(&mut route)?;
        let seen = links::by_name(&mut route, "sqtest1")?.unwrap();
        assert!(seen.up && seen.kind == "ifb");
        assert!(matches!(
            OwnIfb::create(&mut route, "sqtest1"),
            Err(NetError::Refused { .. })
        ));
        assert!(qdisc::root(&mut route, &seen)?.is_none_or(|q| q.kind != "netem"));
        ifb.delete(&mut route)?;
        ifb.delete(&mut route)?;
        assert_eq!(links::by_index(&mut route, seen.index)?, None);
        Ok(())
    })
    .unwrap();
}

#[test]
fn the_namespaces_of_the_node_are_found_once_each() {
    if !may_make_namespaces() {
        return;
    }
    let here = netns::Netns::current().unwrap().identity();
    let all = netns::all().unwrap();
    assert_eq!(all.iter().filter(|n| n.identity() == here).count(), 1);
    assert!(netns::Netns::of_process(u32::MAX).is_err());
}
