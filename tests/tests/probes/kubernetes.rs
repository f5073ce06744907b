//! The `kubernetes` probe against answers as an API server gives them: there is no cluster here, so a small server plays
//! them back, cut down to what is asked for, and checks who asks.

use crate::ask::{attempts, failed, once, refused, unanswered, value};
use crate::stub::{Asked, Said, Stub};
use crate::{daemon, test};
use lab::world::Result;
use libtest_mimic::Trial;
use squall_controller::judge::Outcome;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use tempfile::TempDir;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        test("kubernetes::a_deployment_is_ready_or_not", deployment),
        test("kubernetes::restarts_count_from_the_first_look", pods),
        test("kubernetes::new_warnings_are_counted", events),
        test("kubernetes::what_the_api_server_refuses_is_told", refusals),
        test("kubernetes::a_kubeconfig_says_where_and_who", kubeconfig),
    ]
}

/// `kubectl get deployment payment -o json` of a 1.31 cluster, shortened.
const DEPLOYMENT: &str = r#"{
  "apiVersion": "apps/v1", "kind": "Deployment",
  "metadata": { "name": "payment", "namespace": "shop", "uid": "3f1c", "generation": 4, "resourceVersion": "81234" },
  "spec": { "replicas": 3, "selector": { "matchLabels": { "app": "payment" } } },
  "status": {
    "observedGeneration": 4, "replicas": 3, "updatedReplicas": 3, "readyReplicas": AVAILABLE, "availableReplicas": AVAILABLE,
    "conditions": [ { "type": "Available", "status": "True", "reason": "MinimumReplicasAvailable" } ]
  }
}"#;

/// A pod as the list of them shows it.
const POD: &str = r#"{
  "metadata": { "name": "payment-7f9-x2k", "namespace": "shop", "uid": "a1", "labels": { "app": "payment" } },
  "spec": { "nodeName": "n1", "containers": [ { "name": "payment" } ] },
  "status": { "phase": "Running", "containerStatuses": [ { "name": "payment", "ready": true, "restartCount": RESTARTS } ] }
}"#;

/// A warning as the list of them shows it.
const WARNING: &str = r#"{
  "metadata": { "name": "payment-7f9-x2k.17a", "namespace": "shop", "uid": "UID" },
  "type": "Warning", "reason": "BackOff", "message": "Back-off restarting failed container", "count": COUNT
}"#;

/// What an API server says to somebody it does not know.
const UNAUTHORIZED: &str = r#"{ "kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "Unauthorized", "reason": "Unauthorized", "code": 401 }"#;

fn list(kind: &str, items: &[String]) -> String {
    let items = items.join(",");
    format!(r#"{{ "kind": "{kind}", "apiVersion": "v1", "metadata": {{}}, "items": [ {items} ] }}"#)
}

struct Api {
    stub: Stub,
    folder: TempDir,
}

impl Api {
    /// Answers at `path` to who has the token, and refuses everybody else.
    fn serving(path: &str, answer: impl Fn(u64) -> String + Send + Sync + 'static) -> Result<Self> {
        let folder = TempDir::new()?;
        fs::write(folder.path().join("token"), "right\n")?;
        fs::write(folder.path().join("wrong"), "wrong\n")?;
        let (line, looks) = (format!("GET {path} HTTP/1.1"), AtomicU64::new(0));
        let stub = Stub::start(move |asked: &Asked| {
            if !asked
                .headers
                .contains(&"authorization: Bearer right".to_owned())
            {
                return Said::new(401, UNAUTHORIZED);
            }
            if asked.line != line {
                let message = format!("not this: {}", asked.line);
                return Said::new(404, format!(r#"{{ "message": "{message}" }}"#));
            }
            Said::new(200, answer(looks.fetch_add(1, Ordering::Relaxed)))
        })?;
        Ok(Self { stub, folder })
    }

    fn probe(&self, object: &str) -> String {
        self.probe_as("token", object)
    }

    fn probe_as(&self, token: &str, object: &str) -> String {
        let token = self.folder.path().join(token);
        format!(
            "{{ kubernetes: {{ {object}, url: \"{}\", auth: {{ bearer: {{ file: {} }} }}, every: 50ms }} }}",
            self.stub.url(),
            token.display()
        )
    }

    fn kubeconfig(&self, user: &str) -> Result<PathBuf> {
        let path = self.folder.path().join("kubeconfig");
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: here\ncontexts:\n  - name: here\n    context: {{ cluster: c, user: u }}\n\
             clusters:\n  - name: c\n    cluster: {{ server: \"{}\" }}\nusers:\n  - name: u\n    user: {user}\n",
            self.stub.url()
        );
        fs::write(&path, text)?;
        Ok(path)
    }
}

const PATH: &str = "/apis/apps/v1/namespaces/shop/deployments/payment";
const OBJECT: &str = "deployment: { namespace: shop, name: payment }";

fn deployment() -> Result<()> {
    let with = |available: &'static str| {
        Api::serving(PATH, move |_| DEPLOYMENT.replace("AVAILABLE", available))
    };
    value(&with("3")?.probe(OBJECT), 3.0)?;
    failed(&with("1")?.probe(OBJECT), &["1 of 3 replicas"])?;
    let stale = |_| {
        DEPLOYMENT
            .replace("AVAILABLE", "3")
            .replace("\"generation\": 4", "\"generation\": 5")
    };
    failed(
        &Api::serving(PATH, stale)?.probe(OBJECT),
        &["not rolled out"],
    )
}

fn pods() -> Result<()> {
    let path = "/api/v1/namespaces/shop/pods?labelSelector=app%3Dpayment%2Ctier%21%3Dtest";
    let object = "pods: { namespace: shop, selector: \"app=payment,tier!=test\" }";
    // It had been restarted seven times before; then twice more; then its pod is replaced by one that was restarted once.
    let api = Api::serving(path, |look| {
        let pod = match look {
            0 => POD.replace("RESTARTS", "7"),
            1 => POD.replace("RESTARTS", "9"),
            _ => POD.replace("RESTARTS", "1").replace("a1", "b2"),
        };
        list("PodList", &[pod])
    })?;
    let trials = attempts(&api.probe(object), 3)?;
    let values: Vec<_> = trials.iter().map(|trial| trial.value).collect();
    if values != [Some(0.0), Some(2.0), Some(3.0)] || trials[0].outcome != Outcome::Success {
        return Err(format!("{trials:?}").into());
    }
    let told = Outcome::Failed("2 restarts, of payment in payment-7f9-x2k".into());
    if trials[1].outcome != told {
        return Err(format!("{trials:?}").into());
    }
    let none = Api::serving(path, |_| list("PodList", &[]))?;
    failed(&none.probe(object), &["no pod matches"])
}

fn events() -> Result<()> {
    let path = "/api/v1/namespaces/shop/events?fieldSelector=type%3DWarning";
    let object = "events: { namespace: shop }";
    let warning = |uid: &str, count: &str| WARNING.replace("UID", uid).replace("COUNT", count);
    // One is old; it then comes once more, with a new one beside it; then nothing.
    let api = Api::serving(path, move |look| match look {
        0 => list("EventList", &[warning("a", "4")]),
        _ => list("EventList", &[warning("a", "5"), warning("b", "1")]),
    })?;
    let trials = attempts(&api.probe(object), 3)?;
    let quiet = |at: usize| trials[at].outcome == Outcome::Success && trials[at].value == Some(0.0);
    let loud = matches!(&trials[1].outcome, Outcome::Failed(why) if why.contains("BackOff"));
    if quiet(0) && loud && trials[1].value > Some(0.0) && quiet(2) {
        Ok(())
    } else {
        Err(format!("{trials:?}").into())
    }
}

fn refusals() -> Result<()> {
    let api = Api::serving(PATH, |_| DEPLOYMENT.replace("AVAILABLE", "3"))?;
    unanswered(&api.probe_as("wrong", OBJECT), &["401", "Unauthorized"])?;
    let other = "deployment: { namespace: shop, name: orders }";
    failed(&api.probe(other), &["404", "deployments/orders"])?;
    let garbage = Api::serving(PATH, |_| "<html>".to_owned())?;
    unanswered(&garbage.probe(OBJECT), &["not an answer of Kubernetes"])?;
    let free = daemon::free()?;
    let down = format!("{{ kubernetes: {{ {OBJECT}, url: \"http://{free}\" }} }}");
    unanswered(&down, &["refused"])?;
    let silent = Stub::silent()?;
    let slow = format!(
        "{{ kubernetes: {{ {OBJECT}, url: \"{}\", timeout: 200ms }} }}",
        silent.url()
    );
    unanswered(&slow, &["200ms"])?;
    let outside = refused(&format!("{{ kubernetes: {{ {OBJECT} }} }}"));
    match (std::env::var_os("KUBERNETES_SERVICE_HOST"), outside) {
        // These tests may themselves run in a cluster.
        (Some(_), _) => Ok(()),
        (None, Ok(why)) if why.contains("does not run in a cluster") => Ok(()),
        (None, other) => Err(format!("{other:?}").into()),
    }
}

fn kubeconfig() -> Result<()> {
    let api = Api::serving(PATH, |_| DEPLOYMENT.replace("AVAILABLE", "3"))?;
    let asking = |user: &str| -> Result<String> {
        let file = api.kubeconfig(user)?;
        let file = file.display();
        Ok(format!(
            "{{ kubernetes: {{ {OBJECT}, kubeconfig: {file}, every: 50ms }} }}"
        ))
    };
    value(&asking("{ token: right }")?, 3.0)?;
    value(&asking("{ tokenFile: token }")?, 3.0)?;
    let wrong = once(&asking("{ token: hunter2 }")?)?;
    if format!("{wrong:?}").contains("hunter2") {
        return Err(format!("{wrong:?}").into());
    }
    let exec = refused(&asking("{ exec: { command: aws } }")?)?;
    if exec.contains("`exec`") {
        Ok(())
    } else {
        Err(exec.into())
    }
}
