//! A node's policy, over the real wire: what it forbids, how much it allows, when, and what a wrong one does.

use std::fs::{self, File};
use std::process::{Command, Stdio};
use std::time::Duration;

use lab::world::agent::{Agent, program, written};
use lab::world::cgroup::Cgroup;
use lab::world::netns::Netns;
use lab::world::victim::Victim;
use lab::world::{Result, until};
use libtest_mimic::Trial;
use serde_json::{Value, json};
use squall_experiments::fault::Fault;
use squall_experiments::target::Target;
use squall_experiments::wire::EndCause;
use tempfile::TempDir;

use crate::as_root;
use crate::dose::LEASE;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        as_root("policy::what_it_forbids_is_denied_by_its_rule", forbidden),
        as_root("policy::as_many_as_it_allows_and_no_more", numbers),
        as_root("policy::when_its_hours_end_so_does_the_fault", hours),
        as_root(
            "policy::what_it_protects_is_not_reached_by_another_way",
            other_ways,
        ),
        as_root("policy::a_mistyped_one_is_no_service", mistyped),
    ]
}

/// An agent under a policy of its own; the file goes with it.
pub(crate) fn under(policy: &str) -> Result<(Agent, TempDir)> {
    let folder = TempDir::new()?;
    let file = folder.path().join("policy.yaml");
    fs::write(&file, policy)?;
    let agent = Agent::start_with(&["--policy", &file.display().to_string()])?;
    Ok((agent, folder))
}

/// Arming must be refused, with these words.
fn refused(agent: &mut Agent, target: &Target, fault: &Value, words: &str) -> Result<()> {
    let wanted: Fault = written(fault.clone());
    match agent.inject(target, &wanted, written(json!(LEASE)), None) {
        Err(error) if error.to_string().contains(words) => Ok(()),
        other => {
            Err(format!("{fault} was to be refused with `{words}`, but there was {other:?}").into())
        }
    }
}

fn forbidden() -> Result<()> {
    let victim = Victim::start("forbidden")?;
    let netns = Netns::create(&format!("sqt-{}-policy", std::process::id()))?;
    let process: Target = written(json!({ "process": { "pid": victim.pid() } }));
    let network: Target = written(json!({ "netns": { "name": netns.name() } }));
    let (mut agent, _folder) = under(
        "forbid: [ kill ]\n\
         limits: { delay: 50ms, loss: 10%, load: 20%, fill: 50% }\n",
    )?;
    for (target, fault, words) in [
        (&process, json!({ "kill": {} }), "policy forbids kill"),
        (
            &process,
            json!({ "cpu": { "load": "21%" } }),
            "loads up to 20%",
        ),
        (
            &process,
            json!({ "memory": { "size": "51%" } }),
            "up to 50%",
        ),
        (
            &process,
            json!({ "memory": { "size": "1MiB" } }),
            "as a share",
        ),
        (
            &network,
            json!({ "delay": { "time": "51ms" } }),
            "delays up to 50ms",
        ),
        (
            &network,
            json!({ "loss": { "model": { "random": { "probability": "11%" } } } }),
            "up to 10% of the packets",
        ),
        (
            &network,
            json!({ "partition": {} }),
            "up to 10% of the packets",
        ),
    ] {
        refused(&mut agent, target, &fault, words)?;
    }
    if !fs::read_to_string("/etc/resolv.conf")
        .unwrap_or_default()
        .contains("nameserver")
    {
        return Ok(());
    }
    let host: Target = written(json!({ "host": {} }));
    let dns = json!({ "dns": { "effect": "nxdomain" } });
    refused(&mut agent, &host, &dns, "the node's own resolvers")
}

fn numbers() -> Result<()> {
    let tag = format!("numbers-{}", std::process::id());
    let victims: Vec<Victim> = (0..4).map(|_| Victim::start(&tag)).collect::<Result<_>>()?;
    let (mut agent, _folder) =
        under("limits: { perKind: { cpu: 3 }, perTarget: 2, share: 50% }\n")?;
    let all: Target = written(json!({ "process": { "command": tag } }));
    let burn = json!({ "cpu": { "load": "1%" } });
    let fault: Fault = written(burn.clone());
    let found = agent.resolve(&all, &fault)?;
    if found.len() != victims.len() {
        return Err(format!("{} victims, found {found:?}", victims.len()).into());
    }
    let mut arm = |at: usize| {
        let lease = written(json!(LEASE));
        agent.arm(found[at].id.clone(), &fault, lease, None)
    };
    let denied = |armed: Result<_>, words: &str| match armed {
        Err(error) if error.to_string().contains(words) => Ok(()),
        Err(error) => Err(format!("`{words}` was expected, not {error}")),
        Ok(_) => Err(format!("`{words}` was expected, and it is in force")),
    };
    let first = arm(0)?;
    arm(0)?;
    denied(arm(0).map(drop), "2 faults at once on one target")?;
    arm(1)?;
    denied(arm(1).map(drop), "3 cpu faults at once")?;
    // Half of four are hit; and as many of the kind as may be, until one ends.
    agent.stop(&first.id)?;
    let third = agent.arm(found[2].id.clone(), &fault, written(json!(LEASE)), None);
    denied(third.map(drop), "here 2 of 4, and 2 are")?;
    agent.arm(found[1].id.clone(), &fault, written(json!(LEASE)), None)?;
    Ok(())
}

/// How long the window stays open once the agent has started.
const OPEN: Duration = Duration::from_secs(4);

/// `HH:MM:SS` in UTC, so much later than now.
fn clock(later: Duration) -> Result<String> {
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed()? + later;
    let second = now.as_secs() % 86_400;
    Ok(format!(
        "{:02}:{:02}:{:02}",
        second / 3600,
        second / 60 % 60,
        second % 60
    ))
}

fn hours() -> Result<()> {
    let victim = Victim::start("hours")?;
    let process: Target = written(json!({ "process": { "pid": victim.pid() } }));
    let burn = json!({ "cpu": { "load": "1%" } });
    // Twenty hours ago it opened, which is also four hours from now.
    let opened = clock(Duration::from_secs(4 * 3600))?;
    let (mut agent, _folder) = under(&format!(
        "hours: {{ open: [ \"{opened}-{}\" ] }}\n",
        clock(OPEN)?
    ))?;
    let armed = agent.inject(
        &process,
        &written(burn.clone()),
        written(json!("60s")),
        None,
    )?;
    let ended = agent.ended(&armed.id)?;
    if !matches!(&ended.cause, EndCause::Failed(why) if why.contains("that time is over")) {
        return Err(format!("the hours end, and the fault because of {ended:?}").into());
    }
    refused(&mut agent, &process, &burn, "it is not that time")
}

/// A protected process is not hit through its namespace, its group or the group above.
fn other_ways() -> Result<()> {
    let pid = std::process::id();
    let named = Netns::create(&format!("sqt-{pid}-vault"))?;
    let group = Cgroup::create(&format!("sqt-{pid}-outer"))?;
    let inner = format!("sqt-{pid}-outer/sqt-{pid}-vault.service");
    let unit = Cgroup::create(&inner)?;
    let mut inside = Command::new("unshare")
        .args(["-n", "sleep", "600"])
        .stdin(Stdio::null())
        .spawn()?;
    let result = (|| {
        unit.adopt(inside.id())?;
        until("a namespace of its own", Duration::from_secs(5), || {
            let own = fs::read_link("/proc/self/ns/net").ok()?;
            let its = fs::read_link(format!("/proc/{}/ns/net", inside.id())).ok()?;
            let sleeps = fs::read_to_string(format!("/proc/{}/comm", inside.id())).ok()?;
            (own != its && sleeps.trim() == "sleep").then_some(())
        })?;
        let policy = format!(
            "protect: {{ processes: [ sleep ], netns: [ \"sqt-{pid}-v*\" ], units: [ sqt-{pid}-vault.service ] }}\n"
        );
        let (mut agent, _folder) = under(&policy)?;
        let late: Fault = written(json!({ "delay": { "time": "1ms" } }));
        let burn: Fault = written(json!({ "cpu": { "load": "1%" } }));
        let by_process = json!({ "netns": { "process": { "pid": inside.id() } } });
        for (target, fault, words) in [
            (by_process, &late, "processes named sleep"),
            (
                json!({ "netns": { "name": named.name() } }),
                &late,
                "protects network namespace",
            ),
            (
                json!({ "cgroup": group.path() }),
                &burn,
                "is in it, which the node's policy",
            ),
            (json!({ "cgroup": unit.path() }), &burn, "protects unit"),
        ] {
            let target: Target = written(target);
            let spared = agent.excluded(&target, fault)?;
            if !spared.iter().any(|told| told.contains(words)) {
                return Err(format!("{target}: `{words}` was expected, not {spared:?}").into());
            }
        }
        // Its name alone is not protected any more: its unit is.
        let policy = format!("protect: {{ processes: [], units: [ sqt-{pid}-vault.service ] }}\n");
        let (mut agent, _folder) = under(&policy)?;
        let target: Target = written(json!({ "process": { "pid": inside.id() } }));
        let spared = agent.excluded(&target, &burn)?;
        if spared.iter().any(|told| told.contains("belongs to unit")) {
            return Ok(());
        }
        Err(format!("{target} belongs to a protected unit, but the agent says {spared:?}").into())
    })();
    inside.kill()?;
    inside.wait()?;
    result
}

fn mistyped() -> Result<()> {
    let folder = TempDir::new()?;
    let file = folder.path().join("policy.yaml");
    for (text, line, mend) in [
        ("limits:\n  fauls: 3\n", "line 2", "did you mean `faults`"),
        ("forbid: [ kil ]\n", "line 1", "did you mean `kill`"),
        (
            "hours: { open: [ mon 9-17 ] }\n",
            "line 1",
            "mon-fri 09:00-17:00",
        ),
    ] {
        fs::write(&file, text)?;
        let output = Command::new(program("squall-agent")?)
            .args(["run", "--link-fd", "0", "--policy"])
            .arg(&file)
            .stdin(File::open("/dev/null")?)
            .output()?;
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.code() != Some(2) || !told.contains(line) || !told.contains(mend) {
            return Err(format!("{text:?} is answered with {}: {told}", output.status).into());
        }
    }
    Ok(())
}
