//! Whether a run stays within an environment's limits.

use super::gate::{Ask, Facts, Requirement};
use super::hours;
use squall_experiments::experiment::Experiment;
use squall_experiments::policy::Limits;
use squall_experiments::target::Target;
use std::collections::BTreeSet;
use std::time::Duration;

/// Every limit that the environment has, met or not.
pub(super) fn limits(ask: &Ask<'_>, facts: &Facts<'_>) -> Vec<Requirement> {
    let limits = &ask.environment.limits;
    let all = [
        nodes(ask),
        share(limits, ask.experiment),
        targets(limits, ask),
        together(limits, ask, facts),
        runs(limits, facts),
        duration(limits, ask.experiment),
        faults(limits, ask.experiment),
        in_namespaces(limits, ask.experiment),
        open(ask, facts),
        blackout(facts),
    ];
    all.into_iter().flatten().collect()
}

fn nodes(ask: &Ask<'_>) -> Option<Requirement> {
    let foreign: Vec<&str> = ask
        .nodes
        .iter()
        .filter(|(_, labels)| !ask.environment.has(labels))
        .map(|(node, _)| node.as_str())
        .collect();
    if ask.nodes.is_empty() || ask.environment.nodes.is_empty() {
        return None;
    }
    let labels: Vec<String> = ask
        .environment
        .nodes
        .iter()
        .map(|(k, v)| format!("{k}={v}"))
        .collect();
    Some(Requirement {
        what: "nodes".into(),
        needed: format!("all have {}", labels.join(", ")),
        found: match foreign.is_empty() {
            true => format!("{} of them", ask.nodes.len()),
            false => format!("not so: {}", foreign.join(", ")),
        },
        met: foreign.is_empty(),
        mend: "name targets of this environment, or run in the environment of those nodes".into(),
    })
}

fn share(limits: &Limits, experiment: &Experiment) -> Option<Requirement> {
    let most = limits.share?;
    let beyond: Vec<String> = experiment
        .method
        .iter()
        .flat_map(|step| &step.ramp)
        .filter(|share| !limits.allows(**share))
        .map(ToString::to_string)
        .collect();
    Some(Requirement {
        what: "share".into(),
        needed: format!("at most {most} of what matches"),
        found: match beyond.is_empty() {
            true => "within".into(),
            false => format!("ramp goes to {}", beyond.join(", ")),
        },
        met: beyond.is_empty(),
        mend: format!("let `ramp` end at {most}; that is another digest, which starts in stage 1"),
    })
}

fn targets(limits: &Limits, ask: &Ask<'_>) -> Option<Requirement> {
    let most = limits.targets? as usize;
    // Before it is planned nobody knows; the gate is asked again when it is.
    let hit = ask.targets?;
    Some(Requirement {
        what: "targets".into(),
        needed: format!("at most {most}"),
        found: hit.to_string(),
        met: hit <= most,
        mend: "name fewer targets, or a smaller share of them".into(),
    })
}

fn together(limits: &Limits, ask: &Ask<'_>, facts: &Facts<'_>) -> Option<Requirement> {
    let most = limits.targets_together? as usize;
    let hit = ask
        .targets
        .unwrap_or_default()
        .saturating_add(facts.together.targets);
    Some(Requirement {
        what: "targets of all runs".into(),
        needed: format!("at most {most}"),
        found: hit.to_string(),
        met: hit <= most,
        mend: "wait until other runs have ended; `squall runs` lists them".into(),
    })
}

fn runs(limits: &Limits, facts: &Facts<'_>) -> Option<Requirement> {
    let most = limits.runs? as usize;
    let under_way = facts.together.runs;
    Some(Requirement {
        what: "runs at once".into(),
        needed: format!("at most {most}"),
        found: format!("{under_way} under way"),
        met: under_way < most,
        mend: "wait until one has ended; `squall runs` lists them".into(),
    })
}

fn duration(limits: &Limits, experiment: &Experiment) -> Option<Requirement> {
    let most = limits.duration?;
    let takes = experiment.duration();
    Some(Requirement {
        what: "duration".into(),
        needed: format!("at most {most}"),
        found: format!("{:?}", Duration::from_secs(takes.as_secs())),
        met: takes <= most.duration(),
        mend:
            "shorten `hold`, `ramp` or `baseline`; that is another digest, which starts in stage 1"
                .into(),
    })
}

fn faults(limits: &Limits, experiment: &Experiment) -> Option<Requirement> {
    let allowed = limits.faults.as_ref()?;
    let kinds: BTreeSet<_> = experiment
        .method
        .iter()
        .flat_map(|step| &step.faults)
        .map(squall_experiments::fault::Fault::kind)
        .collect();
    let words = |kinds: &mut dyn Iterator<Item = String>| kinds.collect::<Vec<_>>().join(", ");
    let others = words(
        &mut kinds
            .iter()
            .filter(|k| !allowed.contains(k))
            .map(ToString::to_string),
    );
    Some(Requirement {
        what: "faults".into(),
        needed: words(&mut allowed.iter().map(ToString::to_string)),
        met: others.is_empty(),
        found: if others.is_empty() {
            "none other".into()
        } else {
            format!("also {others}")
        },
        mend: "leave those faults to other environments, or have the policy allow them".into(),
    })
}

fn in_namespaces(limits: &Limits, experiment: &Experiment) -> Option<Requirement> {
    let allowed = limits.namespaces.as_ref()?;
    let outside: Vec<String> = experiment
        .method
        .iter()
        .filter_map(|step| match namespace(&step.on) {
            Some(name) if allowed.contains(&name) => None,
            Some(name) => Some(name),
            None => Some(format!("{}, which names none", step.on)),
        })
        .collect();
    Some(Requirement {
        what: "namespaces".into(),
        needed: allowed.join(", "),
        met: outside.is_empty(),
        found: if outside.is_empty() {
            "within".into()
        } else {
            outside.join("; ")
        },
        mend: "say `namespace` in every target, one of those".into(),
    })
}

/// The namespaces of Kubernetes that an experiment's targets name, step by step.
#[must_use]
pub fn namespaces(experiment: &Experiment) -> Vec<Option<String>> {
    experiment
        .method
        .iter()
        .map(|step| namespace(&step.on))
        .collect()
}

/// The namespace of Kubernetes that a target names. Read from the target as it is written, so that it is found in
/// whatever kinds of target there are.
#[must_use]
fn namespace(target: &Target) -> Option<String> {
    fn find(value: &serde_json::Value) -> Option<String> {
        let fields = value.as_object()?;
        let said = fields.get("namespace").and_then(|name| name.as_str());
        said.map(str::to_owned)
            .or_else(|| fields.values().find_map(find))
    }
    find(&serde_json::to_value(target).ok()?)
}

fn open(ask: &Ask<'_>, facts: &Facts<'_>) -> Option<Requirement> {
    let hours = ask.environment.hours.as_ref()?;
    let (met, found) = hours::within(hours, facts.now_us).unwrap_or_else(|| {
        (
            false,
            format!("the time zone {} is not known here", hours.zone),
        )
    });
    Some(Requirement {
        what: "hours".into(),
        needed: hours.to_string(),
        found,
        met,
        mend: "wait for those hours".into(),
    })
}

fn blackout(facts: &Facts<'_>) -> Option<Requirement> {
    let blackout = facts.blackout?;
    Some(Requirement {
        what: "blackout".into(),
        needed: "none".into(),
        found: blackout.to_owned(),
        met: false,
        mend: "wait until it is over".into(),
    })
}
