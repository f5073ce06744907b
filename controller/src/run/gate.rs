//! What must be true before a run may touch anything. Pure.

use squall_experiments::capability::Capabilities;
use squall_experiments::experiment::Step;
use squall_experiments::fault::{Fault, FaultKind};
use std::collections::BTreeSet;

/// How the kernel says that a right is missing; what a node lacks for other reasons is named by its notes.
const EPERM: &str = "Operation not permitted";

/// The first gate that is closed, and why.
///
/// # Errors
/// Why the run may not start, and what would help.
pub(super) fn pass(step: &Step, node: &str, can: &Capabilities) -> Result<(), String> {
    let mut filters = step.faults.iter().filter_map(Fault::filter);
    let end = filters.find_map(|filter| filter.cluster_hosts().next());
    if let (Some((host, _)), false) = (end, can.cluster_ends) {
        return Err(format!(
            "node {node} cannot follow {host} to where it is: its agent is older than this controller; upgrade it"
        ));
    }
    let kinds: BTreeSet<FaultKind> = step.faults.iter().map(Fault::kind).collect();
    for kind in kinds {
        let Some(capability) = can.of(kind) else {
            return Err(format!(
                "node {node} does not know the fault `{kind}`: its agent is older than this controller"
            ));
        };
        if capability.means.is_empty() {
            let denied = |note: &String| note.contains(EPERM);
            let why = if capability.notes.is_empty() {
                "see `squall capabilities`".to_owned()
            } else if capability.notes.iter().any(denied) {
                "the agent may not: run as root (`sudo squall …`), or in a user namespace of your own \
                 (`unshare -rmn`); `squall capabilities` says what the kernel refused"
                    .to_owned()
            } else {
                capability.notes.join("; ")
            };
            return Err(format!("node {node} cannot inject `{kind}`: {why}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::fixture;
    use squall_experiments::capability::{Capability, Means};

    fn able(means: Vec<Means>, notes: &[&str]) -> Capabilities {
        let fault = FaultKind::Delay;
        let notes = notes.iter().map(ToString::to_string).collect();
        Capabilities {
            faults: vec![Capability {
                fault,
                means,
                held: fault.holding(),
                notes,
            }],
            ..Capabilities::default()
        }
    }

    #[test]
    fn what_the_node_cannot_do_is_refused_with_its_reason() {
        let step = fixture::experiment().method.remove(0);
        assert_eq!(pass(&step, "n", &able(vec![Means::Queue], &[])), Ok(()));
        let refused = pass(&step, "n", &able(vec![], &["run as root"]));
        assert!(refused.unwrap_err().contains("run as root"));
        let refused = pass(
            &step,
            "n",
            &able(vec![], &["no detour: Operation not permitted (os error 1)"]),
        );
        assert!(refused.unwrap_err().contains("sudo"));
        assert!(pass(&step, "n", &Capabilities::default()).is_err());
    }

    #[test]
    fn an_agent_that_does_not_follow_a_service_is_asked_for_no_fault_on_one() {
        let mut step = fixture::experiment().method.remove(0);
        let can = able(vec![Means::Queue], &[]);
        let Fault::Delay(delay) = &mut step.faults[0] else {
            panic!("no delay");
        };
        delay.filter =
            serde_json::from_str(r#"{"from": {"hosts": ["service/shop/payment"]}}"#).unwrap();
        let refused = pass(&step, "n", &can).unwrap_err();
        assert!(refused.contains("service/shop/payment") && refused.contains("upgrade"));
        let can = Capabilities {
            cluster_ends: true,
            ..can
        };
        assert_eq!(pass(&step, "n", &can), Ok(()));
    }
}
