//! One look at a Kubernetes API server.

use super::client::{Answer, Client, escaped};
use super::cluster;
use super::{ProbeError, Seen, first_line};
use crate::judge::Outcome;
use hyper::body::Bytes;
use hyper::{Method, Uri};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use squall_experiments::probe::{Kubernetes as Asked, Object};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A look, ready to be taken again and again.
pub(super) struct Looking {
    client: Client,
    uri: Uri,
    object: Object,
    every: Duration,
    counted: Mutex<Counted>,
}

/// How often each thing had happened when it was first seen, and when it was last looked at. Things are known by their uid and, for
/// containers, their name.
#[derive(Debug, Default)]
struct Counted {
    at_first: BTreeMap<String, u64>,
    last: BTreeMap<String, u64>,
    looked: Option<Instant>,
}

impl Looking {
    pub(super) fn new(probe: &str, asked: &Asked) -> Result<Self, ProbeError> {
        let client = cluster::client(probe, asked)?;
        let path = match &asked.object {
            Object::Deployment(of) => format!(
                "/apis/apps/v1/namespaces/{}/deployments/{}",
                of.namespace, of.name
            ),
            Object::Pods(of) => format!(
                "/api/v1/namespaces/{}/pods?labelSelector={}",
                of.namespace,
                escaped(&of.selector)
            ),
            Object::Events(of) => format!(
                "/api/v1/namespaces/{}/events?fieldSelector=type%3DWarning",
                of.namespace
            ),
        };
        let server = client.uri().to_string();
        let url = format!("{}{path}", server.trim_end_matches('/'));
        let uri = url
            .parse()
            .map_err(|error: hyper::http::uri::InvalidUri| ProbeError::Url {
                probe: probe.to_owned(),
                url: url.clone(),
                why: error.to_string(),
            })?;
        Ok(Self {
            client,
            uri,
            object: asked.object.clone(),
            every: asked.every.duration(),
            counted: Mutex::default(),
        })
    }

    pub(super) async fn look(&self) -> Seen {
        let request = self
            .client
            .request(Method::GET, self.uri.clone(), Bytes::new());
        let answer = match self.client.send(request).await {
            Ok(answer) => answer,
            Err(none) => return none.seen(),
        };
        let seen = match &self.object {
            Object::Deployment(_) => read(&answer).map(|of| deployment(&of)),
            Object::Pods(_) => read(&answer).map(|pods| self.pods(&pods)),
            Object::Events(_) => read(&answer).map(|events| self.events(&events)),
        };
        let seen = seen.unwrap_or_else(|outcome| {
            Seen::only(match outcome {
                Outcome::Unanswered(why) => Outcome::Unanswered(self.client.hide(why)),
                Outcome::Failed(why) => Outcome::Failed(self.client.hide(why)),
                Outcome::Success => Outcome::Success,
            })
        });
        Seen {
            status: Some(answer.status.as_u16()),
            ..seen
        }
    }

    /// Restarts since the first look. A container that was not there then counts from its own first start.
    fn pods(&self, pods: &List<Pod>) -> Seen {
        if pods.items.is_empty() {
            return Seen::only(Outcome::Failed("no pod matches the selector".into()));
        }
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        let is_first = counted.looked.replace(Instant::now()).is_none();
        let (mut restarts, mut most) = (0, None);
        for pod in &pods.items {
            for container in &pod.status.container_statuses {
                let key = format!("{}/{}", pod.metadata.uid, container.name);
                let now = container.restart_count;
                let before = if is_first { now } else { 0 };
                let before = *counted.at_first.entry(key.clone()).or_insert(before);
                counted.last.insert(key, now);
                if now > before {
                    most = Some(format!("{} in {}", container.name, pod.metadata.name));
                }
            }
        }
        // A pod that is gone keeps its restarts: they happened.
        for (key, last) in &counted.last {
            restarts += last.saturating_sub(counted.at_first.get(key).copied().unwrap_or(0));
        }
        let outcome = match (restarts, most) {
            (0, _) => Outcome::Success,
            (n, Some(which)) => Outcome::Failed(format!("{n} restarts, of {which}")),
            (n, None) => Outcome::Failed(format!("{n} restarts")),
        };
        Seen {
            value: Some(float(restarts)),
            ..Seen::only(outcome)
        }
    }

    /// Warnings since the last look, per second. What was there at the first does not count.
    fn events(&self, events: &List<Event>) -> Seen {
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let before = counted.looked.replace(now);
        let (mut new, mut last) = (0, None);
        let mut counts = BTreeMap::new();
        for event in &events.items {
            let count = event.count.or(event.series.as_ref().map(|s| s.count));
            let count = count.unwrap_or(1);
            let known = counted.last.get(&event.metadata.uid).copied();
            let more = count.saturating_sub(known.unwrap_or(0));
            if more > 0 && before.is_some() {
                new += more;
                last = Some(format!("{}: {}", event.reason, event.message));
            }
            counts.insert(event.metadata.uid.clone(), count);
        }
        // Events that the cluster forgot are forgotten here, too.
        counted.last = counts;
        let since = before.map_or(self.every, |before| now - before);
        let outcome = match last {
            None => Outcome::Success,
            Some(last) => Outcome::Failed(self.client.hide(last)),
        };
        Seen {
            value: Some(float(new) / since.max(self.every).as_secs_f64()),
            ..Seen::only(outcome)
        }
    }
}

fn deployment(of: &Deployment) -> Seen {
    // What was not told has its default (`spec.replicas` is 1), and zero counts are left out.
    let wanted = of.spec.replicas.unwrap_or(1);
    let available = of.status.available_replicas.unwrap_or(0);
    let seen_of_spec = of.status.observed_generation >= of.metadata.generation;
    let outcome = if !seen_of_spec {
        Outcome::Failed("its last change was not rolled out yet".into())
    } else if available >= wanted {
        Outcome::Success
    } else {
        Outcome::Failed(format!("{available} of {wanted} replicas are available"))
    };
    Seen {
        value: Some(float(available)),
        ..Seen::only(outcome)
    }
}

/// The answer, or what the API server says instead.
fn read<T: DeserializeOwned>(answer: &Answer) -> Result<T, Outcome> {
    let status = answer.status.as_u16();
    if answer.status.is_success() {
        return serde_json::from_slice(&answer.body).map_err(|error| {
            let text = first_line(&answer.body);
            Outcome::Unanswered(format!(
                "this is not an answer of Kubernetes: {error}: {text}"
            ))
        });
    }
    let said = serde_json::from_slice::<Status>(&answer.body).map(|status| status.message);
    let why = format!("status {status}: {}", said.unwrap_or_default());
    let why = why.trim_end_matches([':', ' ']).to_owned();
    // What is not there was asked for: that is an answer.
    Err(if status == 404 {
        Outcome::Failed(why)
    } else {
        Outcome::Unanswered(why)
    })
}

#[expect(clippy::cast_precision_loss, reason = "counts of pods and events")]
const fn float(count: u64) -> f64 {
    count as f64
}

#[derive(Deserialize)]
struct Status {
    message: String,
}

#[derive(Deserialize)]
struct List<T> {
    items: Vec<T>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Metadata {
    name: String,
    uid: String,
    generation: u64,
}

#[derive(Deserialize)]
struct Deployment {
    metadata: Metadata,
    spec: DeploymentSpec,
    #[serde(default)]
    status: DeploymentStatus,
}

#[derive(Deserialize)]
struct DeploymentSpec {
    replicas: Option<u64>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct DeploymentStatus {
    available_replicas: Option<u64>,
    observed_generation: u64,
}

#[derive(Deserialize)]
struct Pod {
    metadata: Metadata,
    #[serde(default)]
    status: PodStatus,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct PodStatus {
    container_statuses: Vec<Container>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Container {
    name: String,
    restart_count: u64,
}

#[derive(Deserialize)]
struct Event {
    metadata: Metadata,
    #[serde(default)]
    reason: String,
    #[serde(default)]
    message: String,
    count: Option<u64>,
    series: Option<Repeated>,
}

#[derive(Deserialize)]
struct Repeated {
    count: u64,
}
