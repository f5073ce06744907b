//! The node's own stop, and what it says of itself: both without any controller's help.

use std::fs;
use std::process::Command;

use lab::world::Result;
use lab::world::agent::{Agent, program, written};
use lab::world::victim::Victim;
use libtest_mimic::Trial;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use squall_experiments::fault::Fault;
use squall_experiments::target::Target;
use squall_experiments::wire::{Armed, EndCause};
use tempfile::TempDir;

use crate::as_root;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        as_root(
            "halt::ends_all_and_nothing_starts_until_it_is_lifted",
            until_lifted,
        ),
        as_root("halt::works_though_the_agent_hangs", hanging),
        as_root("doctor::says_what_the_agent_itself_finds", doctor),
    ]
}

fn with_state(state: &TempDir) -> Result<Agent> {
    Agent::start_with(&["--state", &state.path().display().to_string()])
}

/// `squall-agent …`: its exit code, and what it printed as JSON.
fn command(words: &[&str]) -> Result<(Option<i32>, Value)> {
    let output = Command::new(program("squall-agent")?)
        .args(words)
        .arg("--json")
        .output()?;
    let told = serde_json::from_slice(&output.stdout).map_err(|error| {
        format!(
            "{words:?}: {error}: {}",
            String::from_utf8_lossy(&output.stderr)
        )
    })?;
    Ok((output.status.code(), told))
}

fn burn(agent: &mut Agent, victim: &Victim) -> Result<Armed> {
    let target: Target = written(json!({ "process": { "pid": victim.pid() } }));
    let fault: Fault = written(json!({ "cpu": { "load": "1%" } }));
    agent.inject(&target, &fault, written(json!("60s")), None)
}

fn until_lifted() -> Result<()> {
    let victim = Victim::start("halt")?;
    let state = TempDir::new()?;
    let at = state.path().display().to_string();
    let mut agent = with_state(&state)?;
    let live = [burn(&mut agent, &victim)?, burn(&mut agent, &victim)?];
    let (code, told) = command(&["halt", "--state", &at, "--because", "drill"])?;
    let counted = told["faults"] == 2 && told["killed"] == 0 && told["left"] == json!([]);
    if code != Some(0) || !counted {
        return Err(format!("2 faults were live, and the halt says {code:?} {told}").into());
    }
    for armed in &live {
        let ended = agent.ended(&armed.id)?;
        if !matches!(&ended.cause, EndCause::Failed(why) if why.contains("drill")) {
            return Err(format!("halted, but the fault ended because of {ended:?}").into());
        }
    }
    let refused = |agent: &mut Agent| match burn(agent, &victim) {
        Err(error) if error.to_string().contains("halted by root") => Ok(()),
        other => Err(format!("the node is halted, but {other:?}")),
    };
    refused(&mut agent)?;
    drop(agent);
    let mut another = with_state(&state)?;
    refused(&mut another)?;
    let (code, told) = command(&["halt", "--state", &at, "--lift"])?;
    if code != Some(0) || told["lifted"] != true {
        return Err(format!("lifting says {code:?} {told}").into());
    }
    let armed = burn(&mut another, &victim)?;
    // A file that somebody makes by hand does as well.
    fs::write(state.path().join("halt"), "")?;
    let ended = another.ended(&armed.id)?;
    match &ended.cause {
        EndCause::Failed(why) if why.contains("by hand") => Ok(()),
        other => Err(format!("a file was there, and the fault ended because of {other:?}").into()),
    }
}

fn hanging() -> Result<()> {
    let victim = Victim::start("hang")?;
    let state = TempDir::new()?;
    let mut agent = with_state(&state)?;
    let armed = burn(&mut agent, &victim)?;
    agent.signal(Signal::SIGSTOP)?;
    let at = state.path().display().to_string();
    let (code, told) = command(&["halt", "--state", &at])?;
    // The dead wait to be reaped by the agent that hangs.
    let status = fs::read_to_string(format!("/proc/{}/status", armed.holder)).unwrap_or_default();
    let gone = status.is_empty() || status.contains("State:\tZ");
    agent.signal(Signal::SIGCONT)?;
    if code == Some(0) && told["killed"] == 1 && gone {
        return Ok(());
    }
    Err(format!("the agent hangs, and the halt says {code:?} {told}: {status}").into())
}

fn doctor() -> Result<()> {
    let agent = Agent::start()?;
    let capabilities = &agent.hello().capabilities;
    let state = TempDir::new()?;
    let at = state.path().display().to_string();
    let (code, told) = command(&["doctor", "--state", &at])?;
    let findings = told["findings"].as_array().ok_or("no findings")?;
    for capability in &capabilities.faults {
        let found = findings
            .iter()
            .find(|f| f["about"] == "fault" && f["name"] == capability.fault.word());
        let missing = found.ok_or("a fault is not told of")?["standing"] == "missing";
        if missing != capability.means.is_empty() {
            return Err(format!("the agent says {capability:?}, the doctor {found:?}").into());
        }
    }
    let missing = findings.iter().any(|f| f["standing"] == "missing");
    if code != Some(i32::from(missing)) {
        return Err(
            format!("something is missing: {missing}, and the exit code is {code:?}").into(),
        );
    }
    let policy = state.path().join("policy.yaml");
    fs::write(&policy, "limts: {}\n")?;
    fs::write(state.path().join("halt"), "")?;
    let (code, told) = command(&[
        "doctor",
        "--state",
        &at,
        "--policy",
        &policy.display().to_string(),
    ])?;
    let text = told.to_string();
    if code == Some(2) && text.contains("did you mean `limits`") && text.contains("by hand") {
        return Ok(());
    }
    Err(
        format!("the policy is wrong and the node halted, and the doctor says {code:?} {text}")
            .into(),
    )
}
