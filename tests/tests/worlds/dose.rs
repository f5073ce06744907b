//! Doses, measured by the victim: what was asked for is what is felt, and the neighbour feels nothing.

use std::time::Duration;

use lab::verify::{WORLD, World};
use lab::world::Result;
use lab::world::agent::{Agent, written};
use lab::world::check::{self, Verdict};
use lab::world::tcp::{Attempt, connect, throughput};
use lab::world::volley::{Pace, Volley};
use lab::world::wire::{Ip, Wire, named, neighbour};
use libtest_mimic::Trial;
use serde_json::{Value, json};
use squall_experiments::capability::{Capabilities, Means};
use squall_experiments::fault::{Fault, FaultKind};
use squall_experiments::target::Target;
use squall_experiments::wire::Armed;

use crate::{as_root, beside_others};

/// Longer than any test.
pub(crate) const LEASE: &str = "60s";

/// How much the neighbour's median may wander while a fault acts on the same wire: what two untouched volleys differ by. On an
/// emulated machine that is a scheduler's tick or two.
pub(crate) fn wandering() -> Duration {
    Duration::from_millis(if emulated() { 2 } else { 1 })
}

pub(crate) fn emulated() -> bool {
    std::env::var(WORLD).is_ok_and(|world| world == World::Vm.name())
}

/// On which side of the victim's interface, over which protocol.
#[derive(Clone, Copy)]
struct Way {
    egress: bool,
    ip: Ip,
}

const OUT_4: Way = Way {
    egress: true,
    ip: Ip::V4,
};
const IN_4: Way = Way {
    egress: false,
    ip: Ip::V4,
};
const OUT_6: Way = Way {
    egress: true,
    ip: Ip::V6,
};
const IN_6: Way = Way {
    egress: false,
    ip: Ip::V6,
};

impl Way {
    /// Only packets between the victim and the named address, on this side.
    fn filter(self) -> Value {
        let named = json!({ "hosts": [named(self.ip).to_string()] });
        if self.egress {
            json!({ "to": named, "direction": "egress" })
        } else {
            json!({ "from": named, "direction": "ingress" })
        }
    }
}

/// What a volley under a fault is judged by: the untouched one, the touched one, the means.
type Judge = fn(&Volley, &Volley, Means) -> Verdict;

/// The loss of which every kernel shows that it is as large as was asked for.
const RANDOM: &str = "random";

/// One dose.
struct Case {
    name: &'static str,
    kind: FaultKind,
    parameters: Value,
    way: Way,
    pace: Pace,
    judge: Judge,
}

/// For medians. On an emulated machine half as many in the same time: there a packet costs a holder a millisecond.
fn some() -> Pace {
    let (count, gap_ms) = if emulated() { (100, 10) } else { (200, 5) };
    pace(count, Duration::from_millis(gap_ms))
}

/// For distributions.
fn more() -> Pace {
    let (count, gap_ms) = if emulated() { (500, 6) } else { (1000, 3) };
    pace(count, Duration::from_millis(gap_ms))
}

/// For shares: over 10,000 packets one point is four standard deviations of 5 % or more.
///
/// An emulated machine is some ten times slower: at the pace kept here its holder falls behind, and what waits there
/// counts as lost.
fn many() -> Pace {
    pace(
        10_000,
        Duration::from_micros(if emulated() { 1500 } else { 400 }),
    )
}

fn pace(count: u32, gap: Duration) -> Pace {
    Pace {
        count,
        gap,
        patience: Duration::from_secs(1),
        size: 64,
    }
}

/// Whether it is about shares, and so sends as much as the machine bears.
fn is_many(case: &Case) -> bool {
    case.pace.count == many().count
}

/// How exact a delay has to be. An emulated processor needs 1.3 to 2.7 ms more to let go of a packet in user space, once 4.7 (measured beside
/// other work on the host); the real machine shows that it is the processor.
fn exactness(means: Means) -> check::Exactness {
    match means {
        Means::Detour => check::DETOUR,
        _ if emulated() => check::Exactness {
            ms: 3.0 + check::QUEUE.ms,
            ..check::QUEUE
        },
        _ => check::QUEUE,
    }
}

/// So many milliseconds may a percentile of spread delays be off, where it may be by `real_ms` on a real machine.
fn spread_by(means: Means, real_ms: f64) -> f64 {
    if emulated() && means == Means::Queue {
        real_ms + 4.0
    } else {
        real_ms
    }
}

macro_rules! delayed_by {
    ($ms:literal) => {
        |before, now, means| {
            check::delayed(before, now, Duration::from_millis($ms), exactness(means))
        }
    };
}

fn case(
    name: &'static str,
    kind: FaultKind,
    parameters: Value,
    way: Way,
    pace: Pace,
    judge: Judge,
) -> Case {
    Case {
        name,
        kind,
        parameters,
        way,
        pace,
        judge,
    }
}

fn delays() -> Vec<Case> {
    use FaultKind::Delay;
    let uniform: Judge =
        |before, now, means| check::spread(before, now, 84.0, 116.0, spread_by(means, 4.0));
    let normal: Judge =
        |before, now, means| check::spread(before, now, 74.4, 125.6, spread_by(means, 6.0));
    let jitter = json!({ "time": "100ms", "jitter": "20ms" });
    let bell = json!({ "time": "100ms", "jitter": "20ms", "distribution": "normal" });
    let time = |time: &str| json!({ "time": time });
    vec![
        case("10ms", Delay, time("10ms"), OUT_4, some(), delayed_by!(10)),
        case(
            "100ms",
            Delay,
            time("100ms"),
            OUT_4,
            some(),
            delayed_by!(100),
        ),
        case(
            "300ms",
            Delay,
            time("300ms"),
            OUT_4,
            some(),
            delayed_by!(300),
        ),
        case(
            "100ms_ingress",
            Delay,
            time("100ms"),
            IN_4,
            some(),
            delayed_by!(100),
        ),
        case(
            "100ms_ipv6",
            Delay,
            time("100ms"),
            OUT_6,
            some(),
            delayed_by!(100),
        ),
        case(
            "100ms_ipv6_ingress",
            Delay,
            time("100ms"),
            IN_6,
            some(),
            delayed_by!(100),
        ),
        case("jitter", Delay, jitter, OUT_4, more(), uniform),
        case("jitter_normal", Delay, bell, OUT_4, more(), normal),
    ]
}

fn losses_and_others() -> Vec<Case> {
    use FaultKind::{Corrupt, Duplicate, Loss, Reorder};
    let lost_5: Judge = |_, now, _| check::share("lost", now.loss(), 0.05, 0.01);
    // With p = 2 % and r = 20 % the bad state holds for 2/22 of the packets, five in a row on average. Bursts make
    // figures over 10,000 packets spread wider: three points are 3.7 standard deviations.
    let bursts: Judge = |_, now, _| {
        check::share("lost in bursts", now.loss(), 0.0909, 0.03)?;
        check::share(
            "a burst's length, of 100 packets",
            now.burst_length() / 100.0,
            0.05,
            0.013,
        )
    };
    let twice: Judge = |_, now, _| check::share("twice", now.duplicates(), 0.2, 0.02);
    // A flipped bit does not survive UDP's checksum: it is felt as a loss.
    let corrupt: Judge = |_, now, _| check::share("corrupt", now.loss(), 0.2, 0.02);
    let overtaking: Judge = |_, now, _| {
        let early = now
            .times()
            .iter()
            .filter(|time| **time < Duration::from_millis(25))
            .count();
        #[allow(clippy::cast_precision_loss, reason = "a thousand packets")]
        check::share("early", early as f64 / now.shots.len() as f64, 0.25, 0.06)?;
        check::share("overtaken", now.overtaken(), 0.7, 0.2)
    };
    let probability = |share: &str| json!({ "probability": share });
    let gemodel = json!({ "model": { "gemodel": { "p": "2%", "r": "20%" } } });
    let random = json!({ "model": { "random": probability("5%") } });
    let reorder = json!({ "chance": probability("25%"), "time": "50ms" });
    vec![
        case(RANDOM, Loss, random.clone(), OUT_4, many(), lost_5),
        case("random_ipv6_ingress", Loss, random, IN_6, many(), lost_5),
        case("bursts", Loss, gemodel, OUT_4, many(), bursts),
        case(
            "twice",
            Duplicate,
            json!({ "chance": probability("20%") }),
            OUT_4,
            many(),
            twice,
        ),
        case(
            "flipped",
            Corrupt,
            json!({ "chance": probability("20%") }),
            OUT_4,
            many(),
            corrupt,
        ),
        case("overtaking", Reorder, reorder, OUT_4, more(), overtaking),
    ]
}

/// One test per case and means.
pub(crate) fn trials(capabilities: &Capabilities) -> Vec<Trial> {
    let mut trials = Vec::new();
    let means = |kind| {
        capabilities
            .of(kind)
            .map(|c| c.means.clone())
            .unwrap_or_default()
    };
    for means in means(FaultKind::Delay) {
        let prefix = format!("dose::{}", format!("{means:?}").to_lowercase());
        for case in delays().into_iter().chain(losses_and_others()) {
            // An emulated holder has its hands full with one stream.
            let alone = emulated() && means == Means::Queue;
            // Its dice fall as on the real machine, where all of these run: one is enough to see them on this kernel.
            if alone && is_many(&case) && case.name != RANDOM {
                continue;
            }
            let name = format!("{prefix}::{}_{}", case.kind, case.name);
            let dose = move || dose(&case, means);
            trials.push(if alone {
                as_root(name, dose)
            } else {
                beside_others(name, dose)
            });
        }
        trials.push(as_root(format!("{prefix}::rate"), move || rate(means)));
        trials.push(beside_others(format!("{prefix}::both_ways"), move || {
            both_ways(means)
        }));
        trials.push(as_root(format!("{prefix}::two_at_once"), move || {
            two_at_once(means)
        }));
    }
    trials.push(beside_others(
        "dose::nftables::partition_drop",
        partition_drop,
    ));
    trials.push(beside_others(
        "dose::nftables::partition_reject",
        partition_reject,
    ));
    trials
}

/// The victim's namespace as a target.
pub(crate) fn netns(wire: &Wire) -> Target {
    written(json!({ "netns": { "name": wire.victim.name() } }))
}

pub(crate) fn fault(kind: FaultKind, mut parameters: Value, filter: Value) -> Fault {
    parameters["filter"] = filter;
    written(json!({ kind.word(): parameters }))
}

pub(crate) fn inject(
    agent: &mut Agent,
    wire: &Wire,
    fault: &Fault,
    means: Option<Means>,
) -> Result<Armed> {
    agent.inject(&netns(wire), fault, written(json!(LEASE)), means)
}

fn dose(case: &Case, means: Means) -> Result<()> {
    let wire = Wire::new()?;
    let mut agent = Agent::start()?;
    let fire = |at, pace: &Pace| Volley::fire(&wire.udp(at)?, pace);
    let (to, beside) = (named(case.way.ip), neighbour(case.way.ip));
    let (before, beside_before) = together(|| fire(to, &some()), || fire(beside, &some()))?;
    let fault = fault(case.kind, case.parameters.clone(), case.way.filter());
    let armed = inject(&mut agent, &wire, &fault, Some(means))?;
    let (now, beside_now) = if is_many(case) {
        (fire(to, &case.pace)?, fire(beside, &some())?)
    } else {
        together(|| fire(to, &case.pace), || fire(beside, &some()))?
    };
    (case.judge)(&before, &now, means)?;
    // The judge itself is on trial too: it must object to a wire on which nothing happens.
    if (case.judge)(&before, &before, means).is_ok() {
        return Err("the judge is content with an untouched wire".into());
    }
    check::untouched(&beside_before, &beside_now, wandering())
        .map_err(|e| format!("neighbour: {e}"))?;
    let ended = agent.stop(&armed.id)?;
    let dose = ended.dose.ok_or("no dose was measured")?;
    if !dose.in_force() {
        return Err(format!("the agent itself measured nothing: {dose:?}").into());
    }
    check::untouched(&before, &fire(to, &some())?, wandering())
        .map_err(|e| format!("after the stop: {e}").into())
}

/// Two volleys at the same time: each spends nearly all of it waiting.
fn together(
    one: impl FnOnce() -> Result<Volley> + Send,
    other: impl FnOnce() -> Result<Volley>,
) -> Result<(Volley, Volley)> {
    std::thread::scope(|scope| {
        let one = scope.spawn(one);
        let other = other();
        let one = one
            .join()
            .unwrap_or_else(|_| Err("a volley panicked".into()));
        Ok((one?, other?))
    })
}

fn rate(means: Means) -> Result<()> {
    let wire = Wire::new()?;
    let mut agent = Agent::start()?;
    let free = throughput(&wire, named(Ip::V4), Duration::from_secs(1))?;
    let fault = fault(
        FaultKind::Rate,
        json!({ "limit": "8Mbit/s" }),
        OUT_4.filter(),
    );
    let _armed = inject(&mut agent, &wire, &fault, Some(means))?;
    let limited = throughput(&wire, named(Ip::V4), Duration::from_secs(4))?;
    let beside = throughput(&wire, neighbour(Ip::V4), Duration::from_secs(1))?;
    // 8 Mbit/s are 1e6 B/s, of which headers take 4 to 5 %.
    if !(0.85e6..1.02e6).contains(&limited) {
        return Err(format!(
            "8 Mbit/s were asked for, {:.2} Mbit/s got through (free: {free:.0} B/s)",
            limited * 8e-6
        )
        .into());
    }
    if beside < free / 4.0 {
        return Err(format!("the neighbour got {beside:.0} B/s instead of {free:.0}").into());
    }
    Ok(())
}

/// A filter without ends hits both ways, and each packet once.
fn both_ways(means: Means) -> Result<()> {
    let wire = Wire::new()?;
    let mut agent = Agent::start()?;
    let fire = || Volley::fire(&wire.udp(named(Ip::V4))?, &some());
    let before = fire()?;
    let fault = fault(
        FaultKind::Delay,
        json!({ "time": "50ms" }),
        json!({ "protocol": "udp" }),
    );
    let _armed = inject(&mut agent, &wire, &fault, Some(means))?;
    Ok(check::delayed(
        &before,
        &fire()?,
        Duration::from_millis(100),
        exactness(means),
    )?)
}

/// Through a detour and a queue, one after the other: their tolerances add up.
const IN_A_ROW: check::Exactness = check::Exactness {
    ms: check::DETOUR.ms + check::QUEUE.ms,
    share: check::DETOUR.share + check::QUEUE.share,
};

/// Two faults on the same packets: both act. The second is held by whatever means the agent finds.
fn two_at_once(means: Means) -> Result<()> {
    let wire = Wire::new()?;
    let mut agent = Agent::start()?;
    let fire = |at, pace: &Pace| Volley::fire(&wire.udp(at)?, pace);
    let (before, beside_before) = together(
        || fire(named(Ip::V4), &some()),
        || fire(neighbour(Ip::V4), &some()),
    )?;
    let late = fault(FaultKind::Delay, json!({ "time": "100ms" }), OUT_4.filter());
    let lossy = json!({ "model": { "random": { "probability": "20%" } } });
    let lossy = fault(FaultKind::Loss, lossy, OUT_4.filter());
    let _late = inject(&mut agent, &wire, &late, Some(means))?;
    let lossy = inject(&mut agent, &wire, &lossy, None)?;
    // At the pace at which delays are measured: counting losses floods the holder of an emulated machine.
    check::delayed(
        &before,
        &fire(named(Ip::V4), &some())?,
        Duration::from_millis(100),
        IN_A_ROW,
    )?;
    let both = fire(named(Ip::V4), &many())?;
    check::share("lost", both.loss(), 0.2, 0.02)?;
    let beside = fire(neighbour(Ip::V4), &some())?;
    check::untouched(&beside_before, &beside, wandering())
        .map_err(|e| format!("neighbour: {e}"))?;
    agent.stop(&lossy.id)?;
    let one = fire(named(Ip::V4), &some())?;
    check::delayed(&before, &one, Duration::from_millis(100), IN_A_ROW)?;
    Ok(check::share(
        "lost after the loss had been stopped",
        one.loss(),
        0.0,
        0.0,
    )?)
}

const CONNECT_LIMIT: Duration = Duration::from_secs(1);

fn partition(mode: &str) -> Result<(Wire, Agent)> {
    let wire = Wire::new()?;
    let mut agent = Agent::start()?;
    if !matches!(
        connect(&wire, named(Ip::V4), CONNECT_LIMIT),
        Attempt::Connected(_)
    ) {
        return Err("no connection even without a partition".into());
    }
    let filter =
        json!({ "to": { "hosts": [named(Ip::V4).to_string(), named(Ip::V6).to_string()] } });
    let fault = fault(FaultKind::Partition, json!({ "mode": mode }), filter);
    inject(&mut agent, &wire, &fault, None)?;
    for ip in [Ip::V4, Ip::V6] {
        if !matches!(
            connect(&wire, neighbour(ip), CONNECT_LIMIT),
            Attempt::Connected(_)
        ) {
            return Err(format!("the neighbour is cut off as well, over {ip:?}").into());
        }
    }
    Ok((wire, agent))
}

fn partition_drop() -> Result<()> {
    let (wire, _agent) = partition("drop")?;
    for ip in [Ip::V4, Ip::V6] {
        let attempt = connect(&wire, named(ip), CONNECT_LIMIT);
        if attempt != Attempt::Silent {
            return Err(
                format!("connecting over {ip:?} gave {attempt:?} instead of silence").into(),
            );
        }
    }
    Ok(())
}

fn partition_reject() -> Result<()> {
    let (wire, _agent) = partition("reject")?;
    for ip in [Ip::V4, Ip::V6] {
        match connect(&wire, named(ip), CONNECT_LIMIT) {
            Attempt::Refused(after) if after < CONNECT_LIMIT / 2 => {}
            other => {
                return Err(
                    format!("connecting over {ip:?} gave {other:?} instead of a refusal").into(),
                );
            }
        }
    }
    Ok(())
}
