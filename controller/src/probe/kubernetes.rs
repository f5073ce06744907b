//! One look at a Kubernetes API server.

use super::client::{Answer, Client, NoAnswer, escaped};
use super::cluster;
use super::{ProbeError, Seen, first_line};
use crate::judge::Outcome;
use hyper::body::Bytes;
use hyper::http::uri::InvalidUri;
use hyper::{Method, Uri};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use squall_experiments::probe::{Kubernetes as Asked, Object};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A page of a list has so many things at most: a pod is some ten kilobytes, and so much of an answer is read that they fit.
const PAGE_ITEMS_MAX: usize = 50;

/// So many pages are read at one look.
const PAGES_MAX: usize = 100;

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
        let client = cluster::client(probe, asked.cluster.as_ref(), asked.timeout)?;
        let path = match &asked.object {
            Object::Deployment(of) => format!(
                "/apis/apps/v1/namespaces/{}/deployments/{}",
                of.namespace, of.name
            ),
            Object::Pods(of) => format!(
                "/api/v1/namespaces/{}/pods?labelSelector={}&limit={PAGE_ITEMS_MAX}",
                of.namespace,
                escaped(&of.selector)
            ),
            Object::Events(of) => format!(
                "/api/v1/namespaces/{}/events?fieldSelector=type%3DWarning&limit={PAGE_ITEMS_MAX}",
                of.namespace
            ),
        };
        let server = client.uri().to_string();
        let url = format!("{}{path}", server.trim_end_matches('/'));
        let uri = url.parse().map_err(|error: InvalidUri| ProbeError::Url {
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
        let seen = match &self.object {
            Object::Deployment(_) => self.get(&self.uri).await.map(|of| deployment(&of)),
            Object::Pods(_) => self.list().await.map(|pods| self.pods(&pods)),
            Object::Events(_) => self.list().await.map(|events| self.events(&events)),
        };
        seen.unwrap_or_else(|none| none)
    }

    /// One object, or what was seen in its place.
    async fn get<T: DeserializeOwned>(&self, uri: &Uri) -> Result<T, Seen> {
        let request = self.client.request(Method::GET, uri.clone(), Bytes::new());
        let answer = self.client.send(request).await.map_err(NoAnswer::seen)?;
        read(&answer).map_err(|outcome| Seen {
            status: Some(answer.status.as_u16()),
            ..Seen::only(match outcome {
                Outcome::Unanswered(why) => Outcome::Unanswered(self.client.hide(why)),
                Outcome::Failed(why) => Outcome::Failed(self.client.hide(why)),
                Outcome::Success => Outcome::Success,
            })
        })
    }

    /// All things of a list, page after page. A page that the server has forgotten meanwhile (status 410) ends the attempt: half a list
    /// says nothing.
    async fn list<T: DeserializeOwned>(&self) -> Result<Vec<T>, Seen> {
        let mut things = Vec::new();
        let mut uri = self.uri.clone();
        for _ in 0..PAGES_MAX {
            let page: List<T> = self.get(&uri).await?;
            things.extend(page.items);
            if page.metadata.next.is_empty() {
                return Ok(things);
            }
            let next = format!("{}&continue={}", self.uri, escaped(&page.metadata.next));
            uri = next.parse().map_err(|error: InvalidUri| {
                let why = format!("the server names a page that cannot be asked for: {error}");
                Seen::only(Outcome::Unanswered(why))
            })?;
        }
        let why = format!("there are more than {}; narrow the selector", things.len());
        Err(Seen::only(Outcome::Unanswered(why)))
    }

    /// Restarts since the first look. A container that was not there then counts from its own first start.
    fn pods(&self, pods: &[Pod]) -> Seen {
        if pods.is_empty() {
            return Seen::only(Outcome::Failed("no pod matches the selector".into()));
        }
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        let is_first = counted.looked.replace(Instant::now()).is_none();
        let (mut restarts, mut most) = (0, None);
        for pod in pods {
            for container in pod.status.containers() {
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
    fn events(&self, events: &[Event]) -> Seen {
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let before = counted.looked.replace(now);
        let (mut new, mut last) = (0, None);
        let mut counts = BTreeMap::new();
        for event in events {
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

/// As `kubectl rollout status` sees it: the controller has seen the last change, all wanted replicas have it, none without it is left, and
/// they are available.
fn deployment(of: &Deployment) -> Seen {
    // What was not told has its default (`spec.replicas` is 1), and zero counts are left out.
    let wanted = of.spec.replicas.unwrap_or(1);
    let status = &of.status;
    let available = status.available_replicas;
    let outcome = if status.observed_generation < of.metadata.generation {
        Outcome::Failed("its last change was not rolled out yet: nothing was done about it".into())
    } else if status.updated_replicas < wanted {
        let updated = status.updated_replicas;
        Outcome::Failed(format!(
            "its last change was not rolled out yet: {updated} of {wanted} replicas have it"
        ))
    } else if status.replicas > status.updated_replicas {
        let old = status.replicas - status.updated_replicas;
        Outcome::Failed(format!(
            "its last change was not rolled out yet: {old} replicas without it are left"
        ))
    } else if available < wanted {
        Outcome::Failed(format!("{available} of {wanted} replicas are available"))
    } else {
        Outcome::Success
    };
    Seen {
        value: Some(float(available)),
        ..Seen::only(outcome)
    }
}

/// The answer, or what the API server says instead.
pub(super) fn read<T: DeserializeOwned>(answer: &Answer) -> Result<T, Outcome> {
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
    #[serde(default)]
    metadata: Page,
    items: Vec<T>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Page {
    /// Names the next page; empty on the last.
    #[serde(rename = "continue")]
    next: String,
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
    replicas: u64,
    updated_replicas: u64,
    available_replicas: u64,
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
    /// Those that run before the others, and those that run beside them all along (`restartPolicy: Always`).
    init_container_statuses: Vec<Container>,
    container_statuses: Vec<Container>,
}

impl PodStatus {
    fn containers(&self) -> impl Iterator<Item = &Container> {
        let all = [&self.init_container_statuses, &self.container_statuses];
        all.into_iter().flatten()
    }
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
