//! An interface that is down: nothing passes, what the kernel forgets with it is as before afterwards, whoever died; and what
//! must be reached keeps its link.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use lab::world::agent::{Agent, written};
use lab::world::fingerprint::Fingerprint;
use lab::world::victim::Victim;
use lab::world::volley::{Pace, Volley};
use lab::world::wire::{Ip, Wire, named};
use lab::world::{Result, answer, until};
use libtest_mimic::Trial;
use serde_json::json;
use squall_experiments::dose::Dose;
use squall_experiments::fault::{Fault, Holding};
use squall_experiments::target::Target;
use squall_experiments::wire::Armed;
use tempfile::TempDir;

use crate::as_root;
use crate::dose::LEASE;
use crate::journal::kill_everybody;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        as_root("dose::nic_down", down_and_up),
        as_root(
            "nic::the_next_agent_sets_it_up_before_it_serves",
            everything_killed,
        ),
        as_root("nic::what_must_be_reached_keeps_its_link", reached),
        as_root("nic::a_node_forbids_it_by_default", forbidden),
    ]
}

/// How long it may take until packets pass again; microseconds, but for an emulated machine.
const BACK: Duration = Duration::from_secs(5);

/// A victim whose interface has all that the kernel forgets: addresses, routes over a gateway, permanent neighbours.
struct Linked {
    agent: Agent,
    wire: Wire,
    _victim: Victim,
    tag: String,
    home: TempDir,
}

impl Linked {
    fn new(name: &str, policy: &str) -> Result<Self> {
        let tag = format!("sqt-nic-{name}-{}", std::process::id());
        let wire = Wire::new()?;
        for route in [
            "route add 10.99.0.0/24 via 10.77.0.2",
            "route add default via 10.77.0.3 metric 77",
            "route add unreachable 10.98.0.0/24",
            "-6 route add fd99::/64 via fd77::2 dev eth0",
            "-6 route add default via fd77::3 dev eth0",
            "route add 10.97.0.0/24 nexthop via 10.77.0.2 weight 1 nexthop via 10.77.0.3 weight 2",
        ] {
            ip(&wire, route)?;
        }
        let victim = wire.victim.enter(|| Victim::start(&tag))?;
        let home = TempDir::new()?;
        let journal = home.path().join("journal");
        let text = format!("{policy}\njournal: {}\n", journal.display());
        fs::write(home.path().join("policy.yaml"), text)?;
        Ok(Self {
            agent: start(home.path())?,
            wire,
            _victim: victim,
            tag,
            home,
        })
    }

    fn inject(&mut self) -> Result<Armed> {
        let target = self.target();
        self.agent
            .inject(&target, &down(), written(json!(LEASE)), None)
    }

    fn target(&self) -> Target {
        written(json!({ "netns": { "process": { "command": self.tag } } }))
    }

    /// Whether datagrams come back: all of some, or none.
    fn passes(&self) -> Result<bool> {
        let pace = Pace {
            count: 10,
            gap: Duration::from_millis(5),
            patience: Duration::from_millis(300),
            size: 100,
        };
        for version in [Ip::V4, Ip::V6] {
            let Ok(socket) = self.wire.udp(named(version)) else {
                return Ok(false);
            };
            match Volley::fire(&socket, &pace) {
                Ok(volley) if volley.loss() == 0.0 => {}
                _ => return Ok(false),
            }
        }
        Ok(true)
    }

    fn passes_again(&self) -> Result<()> {
        until("packets that pass", BACK, || {
            self.passes().ok()?.then_some(())
        })
    }

    fn entries(&self) -> Vec<PathBuf> {
        let listed = fs::read_dir(self.home.path().join("journal"));
        let all = listed.into_iter().flatten().flatten();
        all.map(|entry| entry.path()).collect()
    }

    /// What `ip` shows of all that the kernel forgets with the link.
    fn settings(&self) -> Result<String> {
        let mut shown = String::new();
        for what in [
            "route show table all",
            "-6 route show table all",
            "-6 addr show dev eth0",
            "addr show dev eth0",
            "neigh show nud permanent",
        ] {
            let mut lines: Vec<String> = ip(&self.wire, what)?.lines().map(str::to_owned).collect();
            lines.sort();
            shown += &format!("{what}:\n{}\n", lines.join("\n"));
        }
        Ok(shown)
    }

    /// `settings` with the carrier there is: the kernel says so a while after the fact (net/core/link_watch.c: at most once a second).
    fn settled(&self) -> Result<String> {
        until("a carrier", BACK, || {
            let shown = self.settings().ok()?;
            (!shown.contains("NO-CARRIER")).then_some(shown)
        })
    }

    /// That all which `settled` showed before is shown again.
    fn is_as_before(&self, shown: &str) -> Result<()> {
        let mut after = String::new();
        let same = until("all that was set", BACK, || {
            after = self.settings().ok()?;
            (after == shown).then_some(())
        });
        same.map_err(|_| format!("before:\n{shown}\nafter:\n{after}").into())
    }
}

fn ip(wire: &Wire, words: &str) -> Result<String> {
    let mut command = Command::new("ip");
    command.args(["-n", wire.victim.name()]);
    answer(command.args(words.split(' ')), "")
}

fn start(home: &Path) -> Result<Agent> {
    let policy = home.join("policy.yaml");
    Agent::start_with(&["--policy", &policy.display().to_string()])
}

fn down() -> Fault {
    written(json!({ "nicDown": { "interface": "eth0" } }))
}

const ALLOWED: &str = "allow: [ nic ]";

/// Datagrams pass, then none, then all again; and what was set on the interface is there again, to the letter.
fn down_and_up() -> Result<()> {
    let mut linked = Linked::new("dose", ALLOWED)?;
    linked.passes_again()?;
    let (before, shown) = (Fingerprint::of(&linked.wire.victim)?, linked.settled()?);
    let begun = Instant::now();
    let armed = linked.inject()?;
    let in_force = Instant::now();
    if armed.held != Holding::Journal {
        return Err(format!("it is held by a journal, and this was told: {armed:?}").into());
    }
    if linked.passes()? || linked.passes()? {
        return Err("packets pass over an interface that is down".into());
    }
    if linked.settings()? == shown {
        return Err("the kernel forgot nothing, and so nothing is shown by this".into());
    }
    let least = in_force.elapsed().as_secs_f64();
    let ended = linked.agent.stop(&armed.id)?;
    let most = begun.elapsed().as_secs_f64();
    linked.passes_again()?;
    linked.is_as_before(&shown)?;
    let left = before.difference(&Fingerprint::of(&linked.wire.victim)?);
    if !left.is_empty() || !linked.entries().is_empty() {
        return Err(format!("left behind: {left:?}, {:?}", linked.entries()).into());
    }
    match &ended.dose {
        // One address, four neighbours, five routes that somebody made over it.
        Some(Dose::NicDown(dose))
            if dose.seconds >= least && dose.seconds <= most && dose.forgotten >= 10 =>
        {
            Ok(())
        }
        other => {
            Err(format!("down for {least} s to {most} s, and this was reported: {other:?}").into())
        }
    }
}

/// With agent, holder and guard killed at once nothing is left that could set it up; the next agent has done so before its
/// first word, in a network namespace that is not its own.
fn everything_killed() -> Result<()> {
    let mut linked = Linked::new("all", ALLOWED)?;
    linked.passes_again()?;
    let shown = linked.settled()?;
    let armed = linked.inject()?;
    let guard = guard_of(&linked.entries())?;
    kill_everybody(&linked.agent, guard, armed.holder)?;
    if linked.passes()? || linked.entries().len() != 1 {
        return Err(format!(
            "nobody was left, and the journal says {:?}",
            linked.entries()
        )
        .into());
    }
    // Its first word has come when this returns.
    linked.agent = start(linked.home.path())?;
    if !linked.entries().is_empty() {
        return Err("the agent serves, and has not put back what stands in its journal".into());
    }
    linked.passes_again()?;
    linked.is_as_before(&shown)
}

/// The guard of the one fault there is.
fn guard_of(entries: &[PathBuf]) -> Result<u32> {
    let [entry] = entries else {
        return Err(format!("one entry was expected, and there are {entries:?}").into());
    };
    for process in fs::read_dir("/proc")?.flatten() {
        let line = fs::read(process.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).into_owned();
        if line.starts_with("squall-guard:") && line.contains(&*entry.to_string_lossy()) {
            return Ok(process.file_name().to_string_lossy().parse()?);
        }
    }
    Err("nothing guards the journal's entry".into())
}

/// An address that the policy protects, reached by a route over the interface; and the same where the policy says that links may go.
fn reached() -> Result<()> {
    let protect = |more: &str| format!("{ALLOWED}\nprotect: {{ addresses: [ 10.99.0.7 ]{more} }}");
    let mut linked = Linked::new("reached", &protect(""))?;
    let said = match linked.inject() {
        Ok(armed) => return Err(format!("what is reached over it was cut off: {armed:?}").into()),
        Err(error) => error.to_string(),
    };
    if !said.contains("10.99.0.7") || !said.contains("links: false") {
        return Err(format!("it was refused with {said:?}").into());
    }
    linked.passes_again()?;
    if !linked.entries().is_empty() {
        return Err(format!("the journal says {:?}", linked.entries()).into());
    }
    let mut linked = Linked::new("let-go", &protect(", links: false"))?;
    let armed = linked.inject()?;
    if linked.passes()? {
        return Err("packets pass over an interface that is down".into());
    }
    linked.agent.stop(&armed.id)?;
    linked.passes_again()
}

fn forbidden() -> Result<()> {
    let mut linked = Linked::new("forbidden", "allow: [ freeze ]")?;
    let said = match linked.inject() {
        Ok(armed) => return Err(format!("the policy let it through: {armed:?}").into()),
        Err(error) => error.to_string(),
    };
    linked.passes_again()?;
    if said.contains("allow: [ nic ]") {
        Ok(())
    } else {
        Err(format!("it was refused with {said:?}").into())
    }
}
