//! Many at once: a hundred targets armed together, and five hundred faults on one node.

use std::fs;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use lab::world::agent::{Agent, written};
use lab::world::netns::Netns;
use lab::world::wire::{Ip, named};
use lab::world::{Result, output, until};
use nix::sys::signal::Signal;
use serde_json::json;
use squall_experiments::fault::Fault;
use squall_experiments::ids::TargetId;
use squall_experiments::wire::Armed;

use super::footprint::Memory;
use super::rivals::Rival;
use super::{lease, ms, ms_of, netns, processor_time};
use crate::table::{Row, quantile};

/// Targets that are armed together.
const TARGETS: usize = 100;
/// Faults on each where the node has many: with the targets, five hundred holders.
const EACH: usize = 5;
/// How often all are armed together; the first time warms up.
const ROUNDS: usize = 6;
/// After each round: what the kernel puts away of a hundred tables, it does after their end, and not in the next round's time.
const SETTLED: Duration = Duration::from_millis(500);
/// How long the node's load by many holders is measured; a renewal falls into it.
const STEADY: Duration = Duration::from_secs(4);
/// How long holders may take to be gone after their agent was killed.
const GONE_LIMIT: Duration = Duration::from_secs(20);

pub(super) fn measure(rows: &mut Vec<Row>) -> Result<()> {
    let pods: Vec<Netns> = (0..TARGETS).map(pod).collect::<Result<_>>()?;
    let policy = tempfile::NamedTempFile::new()?;
    fs::write(policy.path(), "limits: { faults: 1000 }\n")?;
    let path = policy.path().display().to_string();
    let mut agent = Agent::start_with(&["--policy", &path])?;
    let targets: Vec<TargetId> = pods
        .iter()
        .map(|pod| {
            let found = agent.resolve(&netns(pod.name()), &delay(0));
            found.map(|mut found| found.swap_remove(0).id)
        })
        .collect::<Result<_>>()?;
    at_once(&mut agent, &targets, &pods, rows)?;
    many(agent, &targets, &pods, rows)
}

fn pod(number: usize) -> Result<Netns> {
    let pod = Netns::create(&format!("sqt-pod-{}-{number}", std::process::id()))?;
    output(Command::new("ip").args(["-n", pod.name(), "link", "set", "lo", "up"]))?;
    Ok(pod)
}

/// One of several that can be on one target together.
fn delay(number: usize) -> Fault {
    let port = (1000 + number).to_string();
    written(json!({ "delay": { "time": "100ms", "filter": {
        "to": { "hosts": [named(Ip::V4).to_string()], "ports": [port] },
        "protocol": "tcp",
    } } }))
}

fn at_once(
    agent: &mut Agent,
    targets: &[TargetId],
    pods: &[Netns],
    rows: &mut Vec<Row>,
) -> Result<()> {
    let orders: Vec<_> = targets.iter().map(|t| (t.clone(), delay(0))).collect();
    let (mut each, mut last, mut gone) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        thread::sleep(SETTLED);
        let begun = Instant::now();
        let armed = agent.arm_all(&orders, lease())?;
        let all = ms(begun.elapsed());
        let begun = Instant::now();
        agent.stop_all()?;
        for armed in &armed {
            agent.ended(&armed.id)?;
        }
        if round > 0 {
            last.push(all);
            gone.push(ms(begun.elapsed()));
            each.extend(armed.iter().map(|armed| ms_of(armed.took_us)));
        }
    }
    let rival = crowd_of_rivals(pods)?;
    let mut row = |what: &str, figure: f64, theirs: Option<f64>| {
        let row = Row::alone(format!("{TARGETS} targets at once: {what}"), "ms", figure);
        rows.push(match (theirs, &rival) {
            (Some(theirs), Some((name, ..))) => row.beside(name, theirs),
            _ => row,
        });
    };
    let theirs = |share| rival.as_ref().map(|(_, each, _)| quantile(each, share));
    row("command to armed, p50", quantile(&each, 0.5), theirs(0.5));
    row("command to armed, p99", quantile(&each, 0.99), theirs(0.99));
    let all = rival.as_ref().map(|(.., all)| *all);
    row("until the last is armed", quantile(&last, 0.5), all);
    row("until the last is gone", quantile(&gone, 0.5), None);
    Ok(())
}

/// Each target's commands on a thread of its own, as a daemon serves its requests: the milliseconds of each, and of all.
fn crowd_of_rivals(pods: &[Netns]) -> Result<Option<(String, Vec<f64>, f64)>> {
    let Some(first) = pods
        .first()
        .and_then(|pod| Rival::chaos_mesh(pod.name(), "lo"))
    else {
        return Ok(None);
    };
    let rivals: Vec<Rival> = pods.iter().map(|pod| first.elsewhere(pod.name())).collect();
    let begun = Instant::now();
    let times = of_each(&rivals, |rival| rival.come().map(|_| ms(begun.elapsed())));
    let all = ms(begun.elapsed());
    let gone = of_each(&rivals, Rival::go);
    gone.into_iter().collect::<Result<Vec<f64>>>()?;
    let times = times.into_iter().collect::<Result<Vec<f64>>>()?;
    Ok(Some((first.name.clone(), times, all)))
}

/// Each rival's work on a thread of its own.
fn of_each(rivals: &[Rival], work: impl Fn(&Rival) -> Result<f64> + Sync) -> Vec<Result<f64>> {
    let work = &work;
    thread::scope(|scope| {
        let running: Vec<_> = rivals
            .iter()
            .map(|rival| scope.spawn(move || work(rival)))
            .collect();
        running
            .into_iter()
            .map(|thread| {
                let panicked = |_| Err("a rival's thread panicked".into());
                thread.join().unwrap_or_else(panicked)
            })
            .collect()
    })
}

fn many(mut agent: Agent, targets: &[TargetId], pods: &[Netns], rows: &mut Vec<Row>) -> Result<()> {
    let orders: Vec<_> = (0..EACH)
        .flat_map(|number| targets.iter().map(move |t| (t.clone(), delay(number))))
        .collect();
    let begun = Instant::now();
    let armed = agent.arm_all(&orders, lease())?;
    let took = begun.elapsed();
    let what = |what: &str| format!("{} holders: {what}", armed.len());
    rows.push(Row::alone(what("until the last is armed"), "ms", ms(took)));
    let (mut own, mut share) = (0.0, 0.0);
    for holder in &armed {
        let memory = Memory::of(holder.holder)?;
        own += memory.dirty + memory.clean;
        share += memory.share;
    }
    #[allow(clippy::cast_precision_loss, reason = "some hundred")]
    let mean = own / armed.len() as f64;
    rows.push(Row::alone(what("private memory of each"), "MiB", mean));
    rows.push(Row::alone(what("memory of all (PSS)"), "MiB", share));
    let resident = Memory::of(agent.pid())?.resident;
    rows.push(Row::alone(what("the agent, resident"), "MiB", resident));
    let begun = Instant::now();
    let before = used(agent.pid(), &armed)?;
    let ids: Vec<_> = armed.iter().map(|armed| armed.id.clone()).collect();
    while begun.elapsed() < STEADY {
        agent.renew_all(&ids, lease())?;
        thread::sleep(STEADY / 2);
    }
    let burnt = (used(agent.pid(), &armed)?.saturating_sub(before)).as_secs_f64();
    let percent = burnt / begun.elapsed().as_secs_f64() * 100.0;
    rows.push(Row::alone(
        what("of a core, renewed each 2 s"),
        "%",
        percent,
    ));
    let begun = Instant::now();
    agent.signal(Signal::SIGKILL)?;
    until("the end of all holders", GONE_LIMIT, || {
        armed.iter().all(|a| has_ended(a.holder)).then_some(())
    })?;
    let gone = ms(begun.elapsed());
    rows.push(Row::alone(what("all gone after SIGKILL"), "ms", gone));
    for pod in pods {
        let left = pod.enter(|| output(Command::new("nft").args(["list", "tables"])))?;
        // iptables leaves its own, empty, behind.
        if let Some(line) = left.lines().find(|line| line.contains(" sq")) {
            return Err(format!("{}: {line} outlived its holder", pod.name()).into());
        }
    }
    Ok(())
}

/// Processor time of the agent and its holders so far.
fn used(agent: u32, armed: &[Armed]) -> Result<Duration> {
    let all = armed.iter().map(|armed| armed.holder).chain([agent]);
    all.map(processor_time).sum()
}

/// Whether a process is gone; one that only waits to be reaped is.
fn has_ended(pid: u32) -> bool {
    match fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => {
            let state = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
            state.starts_with(['Z', 'X'])
        }
        Err(_) => true,
    }
}
