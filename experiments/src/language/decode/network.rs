//! The faults on packets.

use super::fault::is_short;
use super::filter::{self, filter};
use crate::fault::{
    Chance, Corrupt, Delay, Distribution, Duplicate, Fault, Gemodel, Loss, LossModel, Partition,
    PartitionMode, Rate, Reorder,
};
use crate::filter::Filter;
use crate::language::reader::{Cx, Fields};
use crate::language::source::At;
use crate::language::tree::{Entry, Node, Value};
use crate::units::{BitRate, Delay as DelayTime, Percent};

/// netem counts the gap in 32 bits; more than this is never reached within a run.
const GAP_MOST: u32 = 1_000_000;

/// A fault's parameters, for messages.
pub(super) fn example(word: &str) -> &'static str {
    match word {
        "delay" => "300ms",
        "rate" => "10mbit",
        "reorder" => "{ probability: 25%, time: 20ms }",
        "memory" => "512MiB",
        "cpu" => "80%",
        "dns" => "nxdomain",
        "http" => "{ abort: 503, to: { port: 8080 } }",
        "fill" => "{ path: /var/lib/orders, to: 95% }",
        "io" => "{ path: /var/lib/orders, write: 20MiB/s }",
        "exhaust" => "ports",
        "tcp" => "{ mode: reset, to: { port: 5432 } }",
        _ => "5%",
    }
}

/// A fault's own fields with those of the filter.
fn with_filter<'a>(own: &[&'a str]) -> Vec<&'a str> {
    own.iter().copied().chain(filter::FIELDS).collect()
}

pub(super) fn delay(cx: &mut Cx<'_, '_>, owner: At, node: &Node) -> Option<Delay> {
    if is_short(node) {
        let time = above_zero(cx, node)?;
        return Some(Delay {
            time,
            jitter: None,
            distribution: Distribution::default(),
            correlation: None,
            filter: Filter::default(),
        });
    }
    let known = with_filter(&["time", "jitter", "distribution", "correlation"]);
    let fields = Fields::open(cx, owner, node, "a delay", &known)?;
    let time = fields
        .need(cx, "time", "time: 300ms")
        .and_then(|e| above_zero(cx, &e.node));
    let jitter = fields.option("jitter", |e| {
        cx.quantity::<DelayTime>(&e.node, "a time", "30ms")
    });
    let distribution = fields.option("distribution", |e| {
        let words = [
            ("uniform", Distribution::Uniform),
            ("normal", Distribution::Normal),
            ("pareto", Distribution::Pareto),
            ("paretonormal", Distribution::ParetoNormal),
        ];
        cx.word(&e.node, "a distribution", &words)
    });
    let correlation = correlation(cx, &fields);
    let filter = filter(cx, &fields);
    if let (Some(time), Some(Some(jitter)), Some(entry)) = (time, jitter, fields.get("jitter"))
        && jitter > time
    {
        cx.error(
            entry.node.at,
            format!("a jitter of {jitter} is more than the delay of {time}"),
        )
        .label("some packets would have to arrive before they were sent")
        .mend(format!("write at most {time}, or make the delay longer"));
        return None;
    }
    let jitter = jitter?.filter(|j| j.get() > 0);
    if jitter.is_none() {
        without_jitter(cx, &fields)?;
    }
    Some(Delay {
        time: time?,
        jitter,
        distribution: distribution?.unwrap_or_default(),
        correlation: correlation?,
        filter: filter?,
    })
}

/// What says how a delay varies makes no sense for one that does not.
fn without_jitter(cx: &mut Cx<'_, '_>, fields: &Fields<'_>) -> Option<()> {
    let useless = ["distribution", "correlation"];
    let mut found = false;
    for entry in useless.iter().filter_map(|name| fields.get(name)) {
        found = true;
        cx.error(
            entry.key_at,
            format!(
                "`{}` says how a jitter varies, and there is none",
                entry.key
            ),
        )
        .mend(format!("add `jitter: 30ms`, or remove `{}`", entry.key));
    }
    (!found).then_some(())
}

/// A time above zero: a delay of nothing is a slip.
fn above_zero(cx: &mut Cx<'_, '_>, node: &Node) -> Option<DelayTime> {
    let time: DelayTime = cx.quantity(node, "a time", "300ms")?;
    if time.get() == 0 {
        cx.error(node.at, "a delay of nothing does nothing")
            .mend("write how late packets are, such as `300ms`");
        return None;
    }
    Some(time)
}

fn correlation(cx: &mut Cx<'_, '_>, fields: &Fields<'_>) -> Option<Option<Percent>> {
    let correlation = fields.option("correlation", |e| {
        cx.quantity::<Percent>(&e.node, "a percentage", "25%")
    })?;
    if let (Some(Percent::ALL), Some(entry)) = (correlation, fields.get("correlation")) {
        cx.error(
            entry.node.at,
            "with a correlation of 100% every packet fares like the first",
        )
        .mend("write less, such as `25%`");
        return None;
    }
    Some(correlation.filter(|c| c.get() > 0))
}

/// A probability above zero.
fn probability(cx: &mut Cx<'_, '_>, node: &Node) -> Option<Percent> {
    let probability: Percent = cx.quantity(node, "a percentage", "5%")?;
    if probability.get() == 0 {
        cx.error(node.at, "a probability of 0% does nothing")
            .mend("write one such as `5%`");
        return None;
    }
    Some(probability)
}

fn chance(cx: &mut Cx<'_, '_>, fields: &Fields<'_>) -> Option<Chance> {
    let probability = fields
        .need(cx, "probability", "probability: 5%")
        .and_then(|e| probability(cx, &e.node));
    let correlation = correlation(cx, fields);
    Some(Chance {
        probability: probability?,
        correlation: correlation?,
    })
}

/// `5%`.
fn short_chance(cx: &mut Cx<'_, '_>, node: &Node) -> Option<Chance> {
    Some(Chance {
        probability: probability(cx, node)?,
        correlation: None,
    })
}

pub(super) fn loss(cx: &mut Cx<'_, '_>, owner: At, node: &Node) -> Option<Loss> {
    if is_short(node) {
        let chance = short_chance(cx, node)?;
        total(cx, node, &chance);
        return Some(Loss {
            model: LossModel::Random(chance),
            filter: Filter::default(),
        });
    }
    let fields = Fields::open(
        cx,
        owner,
        node,
        "a loss",
        &with_filter(&["probability", "correlation", "gemodel"]),
    )?;
    let filter = filter(cx, &fields);
    let model = match (
        fields.get("gemodel"),
        fields.get("probability").or(fields.get("correlation")),
    ) {
        (Some(gemodel_entry), Some(other)) => {
            cx.error(
                gemodel_entry.key_at,
                format!("a loss has `gemodel` or `{}`, not both", other.key),
            )
            .related(other.key_at, "the other")
            .mend("`probability` loses packets evenly, `gemodel` in bursts: keep one of them");
            None
        }
        (Some(entry), None) => gemodel(cx, entry).map(LossModel::Gemodel),
        (None, None) => {
            cx.error(owner, "a loss needs `probability` or `gemodel`")
                .label("it is not said how much is lost")
                .mend("add `probability: 5%`, or `gemodel: { p: 1%, r: 20% }` for bursts")
                .missing();
            None
        }
        (None, Some(_)) => {
            let chance = chance(cx, &fields);
            if let (Some(chance), Some(entry)) = (&chance, fields.get("probability")) {
                total(cx, &entry.node, chance);
            }
            chance.map(LossModel::Random)
        }
    };
    Some(Loss {
        model: model?,
        filter: filter?,
    })
}

fn total(cx: &mut Cx<'_, '_>, node: &Node, chance: &Chance) {
    if chance.probability == Percent::ALL {
        cx.warning(node.at, "a loss of 100% lets nothing through")
            .mend("`partition` says that more clearly, and can also refuse");
    }
}

fn gemodel(cx: &mut Cx<'_, '_>, entry: &Entry) -> Option<Gemodel> {
    let fields = Fields::open(
        cx,
        entry.key_at,
        &entry.node,
        "a Gilbert-Elliott model",
        &["p", "r", "bad", "good"],
    )?;
    let percent =
        |cx: &mut Cx<'_, '_>, e: &Entry| cx.quantity::<Percent>(&e.node, "a percentage", "20%");
    let p_entry = fields.need(cx, "p", "p: 1%");
    let p = p_entry.and_then(|e| percent(cx, e));
    let r_entry = fields.need(cx, "r", "r: 20%");
    let r = r_entry.and_then(|e| percent(cx, e));
    let bad = fields.or("bad", Gemodel::BAD_DEFAULT, |e| percent(cx, e));
    let good = fields.or("good", Gemodel::GOOD_DEFAULT, |e| percent(cx, e));
    let mut fits = true;
    if let (Some(p), Some(e)) = (p, p_entry)
        && p.get() == 0
    {
        cx.error(e.node.at, "with `p` at 0% the bad state is never entered")
            .mend("write the chance, per packet, that a burst begins, such as `1%`");
        fits = false;
    }
    if let (Some(r), Some(e)) = (r, r_entry)
        && r.get() == 0
    {
        cx.error(e.node.at, "with `r` at 0% the first burst never ends")
            .mend(
                "write the chance, per packet, that a burst ends: `20%` is five packets on average",
            );
        fits = false;
    }
    let model = Gemodel {
        p: p?,
        r: r?,
        bad: bad?,
        good: good?,
    };
    if model.good >= model.bad {
        let at = fields
            .get("good")
            .or(fields.get("bad"))
            .map_or(entry.key_at, |e| e.node.at);
        cx.error(
            at,
            format!(
                "the good state loses {} and the bad one {}",
                model.good, model.bad
            ),
        )
        .mend("`bad` is the loss inside a burst and must be more than `good`, the loss outside");
        fits = false;
    }
    fits.then_some(model)
}

/// The parts of a fault that is a chance and a filter.
fn chance_and_filter(
    cx: &mut Cx<'_, '_>,
    owner: At,
    node: &Node,
    what: &'static str,
) -> Option<(Chance, Filter)> {
    if is_short(node) {
        return short_chance(cx, node).map(|chance| (chance, Filter::default()));
    }
    let fields = Fields::open(
        cx,
        owner,
        node,
        what,
        &with_filter(&["probability", "correlation"]),
    )?;
    let chance = chance(cx, &fields);
    let filter = filter(cx, &fields);
    Some((chance?, filter?))
}

pub(super) fn duplicate(cx: &mut Cx<'_, '_>, owner: At, node: &Node) -> Option<Duplicate> {
    let (chance, filter) = chance_and_filter(cx, owner, node, "a duplication")?;
    Some(Duplicate { chance, filter })
}

pub(super) fn corrupt(cx: &mut Cx<'_, '_>, owner: At, node: &Node) -> Option<Corrupt> {
    let (chance, filter) = chance_and_filter(cx, owner, node, "a corruption")?;
    Some(Corrupt { chance, filter })
}

pub(super) fn reorder(cx: &mut Cx<'_, '_>, owner: At, node: &Node) -> Option<Reorder> {
    if is_short(node) {
        cx.error(
            node.at,
            "a reordering needs a time as well: what overtakes must have something to overtake",
        )
        .mend("write `reorder: { probability: 25%, time: 20ms }`");
        return None;
    }
    let known = with_filter(&["probability", "correlation", "time", "gap"]);
    let fields = Fields::open(cx, owner, node, "a reordering", &known)?;
    let chance = chance(cx, &fields);
    let time = fields
        .need(cx, "time", "time: 20ms")
        .and_then(|e| above_zero(cx, &e.node));
    let gap = fields.or("gap", 1, |e| {
        cx.whole(&e.node, "a number of packets", 1..=GAP_MOST)
    });
    let filter = filter(cx, &fields);
    Some(Reorder {
        chance: chance?,
        time: time?,
        gap: gap?,
        filter: filter?,
    })
}

pub(super) fn rate(cx: &mut Cx<'_, '_>, owner: At, node: &Node) -> Option<Rate> {
    if is_short(node) {
        let limit = cx.quantity(node, "a bit rate", "10mbit")?;
        return Some(Rate {
            limit,
            filter: Filter::default(),
        });
    }
    let fields = Fields::open(cx, owner, node, "a rate", &with_filter(&["limit"]))?;
    let limit = fields
        .need(cx, "limit", "limit: 10mbit")
        .and_then(|e| cx.quantity::<BitRate>(&e.node, "a bit rate", "10mbit"));
    let filter = filter(cx, &fields);
    Some(Rate {
        limit: limit?,
        filter: filter?,
    })
}

const MODES: [(&str, PartitionMode); 2] = [
    ("drop", PartitionMode::Drop),
    ("reject", PartitionMode::Reject),
];

pub(super) fn partition(cx: &mut Cx<'_, '_>, owner: At, node: &Node) -> Option<Partition> {
    if let Value::Scalar { .. } = node.value
        && !node.is_null()
    {
        let mode = cx.word(node, "a way to cut", &MODES)?;
        return Some(Partition {
            mode,
            filter: Filter::default(),
        });
    }
    let fields = Fields::open(cx, owner, node, "a partition", &with_filter(&["mode"]))?;
    let mode = fields.or("mode", PartitionMode::default(), |e| {
        cx.word(&e.node, "a way to cut", &MODES)
    });
    let filter = filter(cx, &fields);
    Some(Partition {
        mode: mode?,
        filter: filter?,
    })
}

/// A partition from everything.
pub(super) fn partition_of_all() -> Fault {
    Fault::Partition(Partition {
        mode: PartitionMode::default(),
        filter: Filter::default(),
    })
}
