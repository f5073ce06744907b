//! What an API server answers, cut down to what a schema demands and to what is asked for. `schema.rs` holds every one of them against
//! Kubernetes' own schemas.

use serde_json::{Value, json};

/// `kubectl get deployment payment -o json`: three replicas, all well.
pub(crate) fn deployment() -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {
            "name": "payment", "namespace": "shop", "uid": "3f1c", "generation": 4, "resourceVersion": "81234",
            "creationTimestamp": "2026-11-02T08:30:00Z", "labels": { "app": "payment" },
        },
        "spec": {
            "replicas": 3, "selector": { "matchLabels": { "app": "payment" } }, "revisionHistoryLimit": 10, "progressDeadlineSeconds": 600,
            "strategy": { "type": "RollingUpdate", "rollingUpdate": { "maxUnavailable": "25%", "maxSurge": "25%" } },
            "template": {
                "metadata": { "labels": { "app": "payment" } },
                "spec": { "containers": [ { "name": "payment", "image": "shop/payment:7" } ] },
            },
        },
        "status": {
            "observedGeneration": 4, "replicas": 3, "updatedReplicas": 3, "readyReplicas": 3, "availableReplicas": 3,
            "conditions": [
                { "type": "Available", "status": "True", "reason": "MinimumReplicasAvailable", "message": "Deployment has minimum availability." },
                { "type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable" },
            ],
        },
    })
}

/// The same with another status.
pub(crate) fn deployment_with(status: &Value) -> Value {
    let mut deployment = deployment();
    deployment["status"] = status.clone();
    deployment
}

/// A pod as the list of them shows it.
pub(crate) fn pod(uid: &str, restarts: u64) -> Value {
    json!({
        "metadata": { "name": "payment-7f9-x2k", "namespace": "shop", "uid": uid, "labels": { "app": "payment" } },
        "spec": { "nodeName": "n1", "containers": [ { "name": "payment", "image": "shop/payment:7" } ] },
        "status": { "phase": "Running", "containerStatuses": [ container("payment", restarts) ] },
    })
}

/// How one container of a pod is.
pub(crate) fn container(name: &str, restarts: u64) -> Value {
    json!({
        "name": name, "ready": true, "started": true, "restartCount": restarts, "image": "shop/payment:7",
        "imageID": "sha256:11", "containerID": "containerd://22", "state": { "running": { "startedAt": "2026-11-02T08:30:05Z" } },
    })
}

/// A warning as the list of them shows it: as it is told by components that count themselves.
pub(crate) fn warning(uid: &str, count: u64) -> Value {
    json!({
        "metadata": { "name": format!("payment-7f9-x2k.{uid}"), "namespace": "shop", "uid": uid },
        "involvedObject": { "kind": "Pod", "namespace": "shop", "name": "payment-7f9-x2k", "uid": "a1" },
        "type": "Warning", "reason": "BackOff", "message": "Back-off restarting failed container", "count": count,
        "firstTimestamp": "2026-11-02T08:31:00Z", "lastTimestamp": "2026-11-02T08:32:00Z",
        "source": { "component": "kubelet", "host": "n1" }, "eventTime": null,
        "reportingComponent": "kubelet", "reportingInstance": "n1",
    })
}

/// The same as it is told by components that use the newer API: a series, and no count of its own. The first of a series has none.
pub(crate) fn warning_of_series(uid: &str, count: Option<u64>) -> Value {
    let time = "2026-11-02T08:31:00.000000Z";
    let mut event = warning(uid, 0);
    event["eventTime"] = json!(time);
    event["action"] = json!("Binding");
    for field in ["count", "firstTimestamp", "lastTimestamp", "source"] {
        event.as_object_mut().map(|event| event.remove(field));
    }
    if let Some(count) = count {
        event["series"] = json!({ "count": count, "lastObservedTime": time });
    }
    event
}

/// A page of a list; `next` names the one after it.
pub(crate) fn list(kind: &str, items: &[Value], next: Option<&str>) -> String {
    let mut metadata = json!({ "resourceVersion": "81240" });
    if let Some(next) = next {
        metadata["continue"] = json!(next);
        metadata["remainingItemCount"] = json!(1);
    }
    json!({ "kind": kind, "apiVersion": "v1", "metadata": metadata, "items": items }).to_string()
}

fn status(code: u16, reason: &str, message: &str, details: &Value) -> String {
    let mut status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message, "reason": reason, "code": code,
    });
    if !details.is_null() {
        status["details"] = details.clone();
    }
    status.to_string()
}

/// What an API server says to somebody it does not know.
pub(crate) fn unauthorized() -> String {
    status(401, "Unauthorized", "Unauthorized", &Value::Null)
}

/// To somebody it knows, and who may not.
pub(crate) fn forbidden() -> String {
    let message = "pods is forbidden: User \"system:serviceaccount:shop:squall\" cannot list resource \"pods\" in API group \"\" in the namespace \"shop\"";
    status(403, "Forbidden", message, &json!({ "kind": "pods" }))
}

/// Of a deployment that is not there.
pub(crate) fn not_found() -> String {
    let details = json!({ "name": "orders", "group": "apps", "kind": "deployments" });
    status(
        404,
        "NotFound",
        "deployments.apps \"orders\" not found",
        &details,
    )
}

/// Of a page that it has forgotten.
pub(crate) fn gone() -> String {
    let message = "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter.";
    status(410, "Expired", message, &Value::Null)
}

/// While it starts, or has too much to do.
pub(crate) fn too_many() -> String {
    let details = json!({ "retryAfterSeconds": 1 });
    status(
        429,
        "TooManyRequests",
        "the server has received too many requests and has asked us to try again later",
        &details,
    )
}
