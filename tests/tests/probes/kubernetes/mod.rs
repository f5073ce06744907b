//! The `kubernetes` probe against answers as an API server gives them: there is no cluster here, so a small server plays
//! them back, cut down to what is asked for, and checks who asks.

pub(crate) mod answers;
mod edges;
mod schema;

use crate::ask::{attempts, failed, once, refused, unanswered, value};
use crate::{daemon, test};
use answers::{deployment_with, list, pod, warning};
use lab::world::Result;
use lab::world::stub::{Asked, Said, Stub};
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
        test(
            "kubernetes::a_deployment_is_understood_in_every_state",
            edges::deployment_in_every_state,
        ),
        test(
            "kubernetes::pods_without_containers_and_with_more_are_read",
            edges::pods,
        ),
        test(
            "kubernetes::warnings_of_a_series_are_counted",
            edges::series,
        ),
        test("kubernetes::a_list_is_read_page_by_page", edges::pages),
        schema::trial(),
    ]
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
                return Said::new(401, answers::unauthorized());
            }
            if asked.line != line {
                return Said::new(404, answers::not_found());
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

const PODS_PATH: &str =
    "/api/v1/namespaces/shop/pods?labelSelector=app%3Dpayment%2Ctier%21%3Dtest&limit=50";
const PODS: &str = "pods: { namespace: shop, selector: \"app=payment,tier!=test\" }";
const EVENTS_PATH: &str = "/api/v1/namespaces/shop/events?fieldSelector=type%3DWarning&limit=50";
const EVENTS: &str = "events: { namespace: shop }";

/// Three replicas of which so many are available.
fn available(count: u64) -> String {
    let status = serde_json::json!({
        "observedGeneration": 4, "replicas": 3, "updatedReplicas": 3, "availableReplicas": count,
    });
    deployment_with(&status).to_string()
}

fn deployment() -> Result<()> {
    let with = |count: u64| Api::serving(PATH, move |_| available(count));
    value(&with(3)?.probe(OBJECT), 3.0)?;
    failed(&with(1)?.probe(OBJECT), &["1 of 3 replicas"])
}

fn pods() -> Result<()> {
    // It had been restarted seven times before; then twice more; then its pod is replaced by one that was restarted once.
    let api = Api::serving(PODS_PATH, |look| {
        let pod = match look {
            0 => pod("a1", 7),
            1 => pod("a1", 9),
            _ => pod("b2", 1),
        };
        list("PodList", &[pod], None)
    })?;
    let trials = attempts(&api.probe(PODS), 3)?;
    let values: Vec<_> = trials.iter().map(|trial| trial.value).collect();
    if values != [Some(0.0), Some(2.0), Some(3.0)] || trials[0].outcome != Outcome::Success {
        return Err(format!("{trials:?}").into());
    }
    let told = Outcome::Failed("2 restarts, of payment in payment-7f9-x2k".into());
    if trials[1].outcome != told {
        return Err(format!("{trials:?}").into());
    }
    let none = Api::serving(PODS_PATH, |_| list("PodList", &[], None))?;
    failed(&none.probe(PODS), &["no pod matches"])
}

fn events() -> Result<()> {
    // One is old; it then comes once more, with a new one beside it; then nothing.
    let api = Api::serving(EVENTS_PATH, move |look| match look {
        0 => list("EventList", &[warning("a", 4)], None),
        _ => list("EventList", &[warning("a", 5), warning("b", 1)], None),
    })?;
    let trials = attempts(&api.probe(EVENTS), 3)?;
    let quiet = |at: usize| trials[at].outcome == Outcome::Success && trials[at].value == Some(0.0);
    let loud = matches!(&trials[1].outcome, Outcome::Failed(why) if why.contains("BackOff"));
    if quiet(0) && loud && trials[1].value > Some(0.0) && quiet(2) {
        Ok(())
    } else {
        Err(format!("{trials:?}").into())
    }
}

fn refusals() -> Result<()> {
    let api = Api::serving(PATH, |_| available(3))?;
    unanswered(&api.probe_as("wrong", OBJECT), &["401", "Unauthorized"])?;
    let other = "deployment: { namespace: shop, name: orders }";
    failed(&api.probe(other), &["404", "\"orders\" not found"])?;
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
    let api = Api::serving(PATH, |_| available(3))?;
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
