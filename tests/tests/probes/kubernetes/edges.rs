//! Answers that are rare, and right all the same: fields that are left out, things that have only begun, lists in pages.

use super::answers::{
    container, deployment, deployment_with, gone, list, pod, too_many, warning_of_series,
};
use super::{Api, EVENTS, EVENTS_PATH, OBJECT, PATH, PODS, PODS_PATH};
use crate::ask::{attempts, failed, unanswered, value};
use lab::world::Result;
use lab::world::stub::{Said, Stub};
use serde_json::{Value, json};
use squall_controller::judge::Outcome;

/// A status of a deployment of three, and what is said of it.
const STATUSES: [(&str, &str); 7] = [
    // Created a moment ago.
    ("null", "not rolled out yet: nothing was done"),
    ("{}", "not rolled out yet: nothing was done"),
    (
        "{ \"observedGeneration\": 3, \"replicas\": 3, \"updatedReplicas\": 3, \"availableReplicas\": 3 }",
        "not rolled out yet: nothing was done",
    ),
    // Zero is left out.
    ("{ \"observedGeneration\": 4 }", "0 of 3 replicas have it"),
    (
        "{ \"observedGeneration\": 4, \"replicas\": 4, \"updatedReplicas\": 1, \"availableReplicas\": 3 }",
        "1 of 3 replicas have it",
    ),
    (
        "{ \"observedGeneration\": 4, \"replicas\": 4, \"updatedReplicas\": 3, \"availableReplicas\": 4 }",
        "1 replicas without it are left",
    ),
    (
        "{ \"observedGeneration\": 4, \"replicas\": 3, \"updatedReplicas\": 3, \"unavailableReplicas\": 3 }",
        "0 of 3 replicas are available",
    ),
];

/// All deployments that are asked about here.
pub(super) fn deployments() -> Result<Vec<Value>> {
    let mut all = Vec::new();
    for (status, _) in STATUSES {
        let mut one = deployment_with(&serde_json::from_str(status)?);
        if one["status"].is_null() {
            one.as_object_mut().map(|one| one.remove("status"));
        }
        all.push(one);
    }
    all.extend([scaled_to_nothing(), of_one()]);
    Ok(all)
}

fn scaled_to_nothing() -> Value {
    let mut none = deployment_with(&json!({ "observedGeneration": 4 }));
    none["spec"]["replicas"] = json!(0);
    none
}

/// `replicas` is not said: it is one.
fn of_one() -> Value {
    let mut one = deployment_with(
        &json!({ "observedGeneration": 4, "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1 }),
    );
    one["spec"]
        .as_object_mut()
        .map(|spec| spec.remove("replicas"));
    one
}

pub(super) fn deployment_in_every_state() -> Result<()> {
    let with = |one: Value| Api::serving(PATH, move |_| one.to_string());
    for (one, (_, why)) in deployments()?.into_iter().zip(STATUSES) {
        failed(&with(one)?.probe(OBJECT), &[why])?;
    }
    value(&with(deployment())?.probe(OBJECT), 3.0)?;
    value(&with(scaled_to_nothing())?.probe(OBJECT), 0.0)?;
    value(&with(of_one())?.probe(OBJECT), 1.0)
}

/// A pod that waits for a node, and one whose restarts are of a container that runs beside the others.
pub(super) fn rare_pods(restarts: u64) -> [Value; 3] {
    let mut waiting = pod("c1", 0);
    waiting["status"] = json!({ "phase": "Pending", "conditions": [ { "type": "PodScheduled", "status": "False", "reason": "Unschedulable" } ] });
    let mut unknown = pod("c2", 0);
    unknown.as_object_mut().map(|pod| pod.remove("status"));
    let mut beside = pod("c3", 0);
    beside["status"]["initContainerStatuses"] = json!([container("proxy", restarts)]);
    [waiting, unknown, beside]
}

pub(super) fn pods() -> Result<()> {
    let api = Api::serving(PODS_PATH, |look| list("PodList", &rare_pods(look), None))?;
    let trials = attempts(&api.probe(PODS), 2)?;
    let told = Outcome::Failed("1 restarts, of proxy in payment-7f9-x2k".into());
    match (&trials[0].outcome, &trials[1].outcome) {
        (Outcome::Success, second) if *second == told => Ok(()),
        _ => Err(format!("{trials:?}").into()),
    }
}

/// Warnings that are counted as series: the first has none, and the next is the second.
pub(super) fn series() -> Result<()> {
    let api = Api::serving(EVENTS_PATH, |look| {
        let count = (look > 0).then_some(look + 1);
        list("EventList", &[warning_of_series("s", count)], None)
    })?;
    let trials = attempts(&api.probe(EVENTS), 2)?;
    match (&trials[0].outcome, &trials[1].outcome) {
        (Outcome::Success, Outcome::Failed(why)) if why.contains("BackOff") => Ok(()),
        _ => Err(format!("{trials:?}").into()),
    }
}

/// Three pages, the middle one of which is at last forgotten by the server.
pub(super) fn pages() -> Result<()> {
    let stub = Stub::start(|asked| {
        let of = |restarts| [pod("p1", restarts)];
        match asked.line.split("&continue=").nth(1) {
            None => Said::new(200, list("PodList", &of(0), Some("a/b="))),
            Some("a%2Fb%3D HTTP/1.1") => {
                Said::new(200, list("PodList", &[pod("p2", 0)], Some("c")))
            }
            Some("c HTTP/1.1") => Said::new(200, list("PodList", &[pod("p3", 0)], None)),
            Some(_) => Said::new(400, ""),
        }
    })?;
    let probe = |stub: &Stub| {
        format!(
            "{{ kubernetes: {{ {PODS}, url: \"{}\", every: 60s }} }}",
            stub.url()
        )
    };
    value(&probe(&stub), 0.0)?;
    let asked = stub.asked();
    if asked.len() != 3 || !asked.iter().all(|asked| asked.line.contains("limit=50")) {
        return Err(format!("{asked:?}").into());
    }
    let forgets = Stub::start(|asked| match asked.line.contains("&continue=") {
        false => Said::new(200, list("PodList", &[pod("p1", 0)], Some("a"))),
        true => Said::new(410, gone()),
    })?;
    unanswered(&probe(&forgets), &["status 410", "too old"])?;
    let endless = Stub::start(|_| Said::new(200, list("PodList", &[pod("p1", 0)], Some("a"))))?;
    unanswered(&probe(&endless), &["more than 100", "narrow the selector"])?;
    let busy = Stub::saying(429, &too_many())?;
    unanswered(&probe(&busy), &["status 429", "try again later"])
}
