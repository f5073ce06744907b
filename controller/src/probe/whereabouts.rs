//! Where the services and pods are that a file names as ends of conversations, and where they go.

use super::client::{Client, escaped};
use super::kubernetes::read;
use super::{ProbeError, cluster};
use crate::judge::Outcome;
use hyper::body::Bytes;
use hyper::{Method, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use squall_experiments::experiment::Experiment;
use squall_experiments::fault::Fault;
use squall_experiments::filter::{ClusterHost, Found, Host, Network, POD_NAME};
use squall_experiments::probe::Cluster;
use squall_experiments::units::Timeout;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior};

/// How often a cluster is asked. A cluster itself takes a second or two until its nodes know that an endpoint has moved.
const EVERY: Duration = Duration::from_secs(1);

/// How long one look may take, with all that it asks.
const LOOK: Duration = Duration::from_secs(5);

/// A token is read again after so long; Kubernetes writes one anew when a fifth of its hour is left.
const SAME_CLIENT: Duration = Duration::from_secs(60);

/// What was found is believed for so long after it was last asked for. An address that was given up is another pod's some time later, and
/// that one was not named.
const BELIEVED: Duration = Duration::from_secs(10);

/// The most addresses of one host: each is a rule for the packets of the target to pass.
const ADDRESSES_MAX: usize = 256;

/// A page of a list has so many things at most: a pod is some ten kilobytes, a slice with its hundred endpoints some forty, and a
/// megabyte of an answer is read.
const PAGE_ITEMS_MAX: usize = 20;

/// So many pages are read at one look.
const PAGES_MAX: usize = 50;

/// Where the ends of conversations are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Places {
    /// Each of them. One without addresses is nobody.
    pub found: Vec<Found>,
    /// Why that is not known any more; then none has an address.
    pub unknown: Option<String>,
}

/// A cluster and what is looked for in it.
pub(crate) struct Whereabouts {
    cluster: Option<Cluster>,
    /// Who asks, and since when: a service account's token is written anew long before it is over, and is read again.
    client: Mutex<Option<(Arc<Client>, Instant)>>,
    hosts: Vec<(Host, ClusterHost)>,
    /// The pods that endpoints stand for, by their uid, and whether each has an address of its own. That never changes.
    own: Mutex<BTreeMap<String, bool>>,
}

impl Whereabouts {
    /// None where the experiment names nothing of a cluster.
    ///
    /// # Errors
    /// It is not known how the cluster is reached.
    pub(crate) fn of(experiment: &Experiment) -> Result<Option<Self>, ProbeError> {
        let faults = experiment.method.iter().flat_map(|step| &step.faults);
        let filters = faults.filter_map(Fault::filter);
        let hosts: BTreeSet<(Host, ClusterHost)> = filters
            .flat_map(|filter| filter.cluster_hosts())
            .map(|(host, of)| (host.clone(), of.clone()))
            .collect();
        if hosts.is_empty() {
            return Ok(None);
        }
        let cluster = experiment.cluster.clone();
        let client = client(cluster.as_ref())?;
        Ok(Some(Self {
            client: Mutex::new(Some((Arc::new(client), Instant::now()))),
            cluster,
            hosts: hosts.into_iter().collect(),
            own: Mutex::default(),
        }))
    }

    /// Where all of them are now, sorted.
    ///
    /// # Errors
    /// A sentence: the cluster does not say, or says what cannot be aimed at.
    pub(crate) async fn look(&self) -> Result<Vec<Found>, String> {
        let late = |_| format!("the cluster did not say within {} s", LOOK.as_secs());
        let all = tokio::time::timeout(LOOK, self.look_at_all()).await;
        let all = all.map_err(late).flatten();
        if all.is_err() {
            // Who may not ask any more may again with what is in the files now.
            *self.client.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
        all
    }

    fn client(&self) -> Result<Arc<Client>, String> {
        let mut held = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((client, since)) = &*held
            && since.elapsed() < SAME_CLIENT
        {
            return Ok(Arc::clone(client));
        }
        let made = client(self.cluster.as_ref()).map_err(|error| error.to_string())?;
        let made = Arc::new(made);
        *held = Some((Arc::clone(&made), Instant::now()));
        Ok(made)
    }

    async fn look_at_all(&self) -> Result<Vec<Found>, String> {
        let mut all = Vec::new();
        for (host, of) in &self.hosts {
            let found = match of {
                ClusterHost::Service { namespace, name } => self.service(namespace, name).await,
                ClusterHost::Pods {
                    namespace,
                    selector,
                } => self.pods(namespace, selector).await,
            };
            let addresses =
                found.map_err(|why| format!("where {host} is cannot be found out: {why}"))?;
            if addresses.len() > ADDRESSES_MAX {
                return Err(format!(
                    "{host} has more than {ADDRESSES_MAX} addresses: name a part of it"
                ));
            }
            let networks = addresses.into_iter().map(Network::single).collect();
            let host = host.clone();
            all.push(Found { host, networks });
        }
        Ok(all)
    }

    /// Looks again and again until nobody hears, and says what is not as before. A cluster that does not answer has not moved anything,
    /// but what it said is not believed for ever.
    pub(crate) fn watch(self, found: Vec<Found>) -> mpsc::Receiver<Places> {
        let (say, hear) = mpsc::channel(1);
        tokio::spawn(async move {
            // Nobody hears: nobody needs to know.
            tokio::select! {
                () = say.closed() => {}
                () = self.tell(found, &say) => {}
            }
        });
        hear
    }

    async fn tell(&self, found: Vec<Found>, say: &mpsc::Sender<Places>) {
        let mut ticks = tokio::time::interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut last = Places {
            found,
            unknown: None,
        };
        let mut answered = Instant::now();
        loop {
            ticks.tick().await;
            let asked = Instant::now();
            let now = match self.look().await {
                Ok(found) => {
                    answered = asked;
                    let unknown = None;
                    Places { found, unknown }
                }
                Err(why) if answered.elapsed() >= BELIEVED => self.nowhere(why),
                Err(error) => {
                    tracing::warn!(error, "the last known addresses stay for now");
                    continue;
                }
            };
            // Why it is not known may be said in other words each time; once is enough.
            let news = match (&last.unknown, &now.unknown) {
                (Some(_), Some(_)) => false,
                _ => last != now,
            };
            if news {
                last = now.clone();
                if say.send(now).await.is_err() {
                    return;
                }
            }
        }
    }

    fn nowhere(&self, why: String) -> Places {
        let nowhere = |(host, _): &(Host, ClusterHost)| Found {
            host: host.clone(),
            networks: Vec::new(),
        };
        Places {
            found: self.hosts.iter().map(nowhere).collect(),
            unknown: Some(why),
        }
    }

    /// A target's packets carry the service's own address where the node translates it later, and an endpoint's where that was
    /// done before, or they go to it straight (headless services, programs that ask the cluster themselves): both are meant. So are
    /// endpoints that are not ready: conversations with them go on, and a fault that makes one so must not end by that.
    async fn service(&self, namespace: &str, name: &str) -> Result<BTreeSet<IpAddr>, String> {
        let core = format!("/api/v1/namespaces/{namespace}/services/{name}");
        let Some(service) = self.ask::<Service>(&core).await? else {
            return Ok(BTreeSet::new());
        };
        if let Some(other) = &service.spec.external_name {
            return Err(format!(
                "it is another name of `{other}`: write `host: {other}`"
            ));
        }
        let slices = format!(
            "/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices?labelSelector=kubernetes.io%2Fservice-name%3D{name}"
        );
        let slices: Vec<Slice> = self.list(&slices).await?;
        // A headless service has `None` in place of an address, an endpoint by name a name: neither is one.
        let read = |address: &String| address.parse::<IpAddr>().ok();
        let mut all: BTreeSet<IpAddr> = service.spec.cluster_ips.iter().filter_map(read).collect();
        for endpoint in slices.iter().flat_map(|slice| &slice.endpoints) {
            let pod = endpoint.target.as_ref().filter(|of| of.kind == "Pod");
            if let Some(pod) = pod
                && !self.has_its_own(namespace, pod).await?
            {
                continue;
            }
            all.extend(endpoint.addresses.iter().filter_map(read));
            if all.len() > ADDRESSES_MAX {
                break;
            }
        }
        Ok(all)
    }

    /// Whether a pod that an endpoint stands for has an address of its own: one in its node's network shares it with all else that runs
    /// there. Of one that is not there any more nothing is known, and it is left alone.
    async fn has_its_own(&self, namespace: &str, pod: &Target) -> Result<bool, String> {
        let known = |own: &Mutex<BTreeMap<String, bool>>| {
            let own = own.lock().unwrap_or_else(PoisonError::into_inner);
            own.get(&pod.uid).copied()
        };
        if let Some(known) = known(&self.own) {
            return Ok(known);
        }
        let path = format!("/api/v1/namespaces/{namespace}/pods/{}", escaped(&pod.name));
        let there: Option<Pod> = self.ask(&path).await?;
        let Some(there) = there.filter(|there| there.metadata.uid == pod.uid) else {
            return Ok(false);
        };
        let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        own.insert(pod.uid.clone(), !there.spec.host_network);
        Ok(!there.spec.host_network)
    }

    async fn pods(&self, namespace: &str, selector: &str) -> Result<BTreeSet<IpAddr>, String> {
        let pods: Vec<Pod> = self.list(&pods_path(namespace, selector)).await?;
        // The address of one that has ended may be another's by now, and one in its node's network has the node's.
        let own = |pod: &&Pod| {
            let over = matches!(pod.status.phase.as_str(), "Succeeded" | "Failed");
            !over && !pod.spec.host_network
        };
        let addresses = pods.iter().filter(own).flat_map(|pod| &pod.status.pod_ips);
        Ok(addresses.filter_map(|of| of.ip.parse().ok()).collect())
    }

    /// All of a list, page after page. Half a list says nothing: where a page is missing there is none.
    async fn list<T: DeserializeOwned>(&self, path: &str) -> Result<Vec<T>, String> {
        let mut all = Vec::new();
        let first = format!("{path}&limit={PAGE_ITEMS_MAX}");
        let mut next = first.clone();
        for _ in 0..PAGES_MAX {
            let page: Option<List<T>> = self.ask(&next).await?;
            let page = page.ok_or("the server does not know such lists")?;
            all.extend(page.items);
            if page.metadata.next.is_empty() {
                return Ok(all);
            }
            next = format!("{first}&continue={}", escaped(&page.metadata.next));
        }
        Err(format!("there are more than {}: name a part", all.len()))
    }

    /// None where there is no such thing.
    async fn ask<T: DeserializeOwned>(&self, path: &str) -> Result<Option<T>, String> {
        let client = self.client()?;
        let server = client.uri().to_string();
        let url = format!("{}{path}", server.trim_end_matches('/'));
        let uri = url.parse().map_err(|error| format!("{url}: {error}"))?;
        let request = client.request(Method::GET, uri, Bytes::new());
        let answer = client.send(request).await;
        let answer = answer.map_err(|none| none.reason)?;
        if answer.status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        read(&answer).map(Some).map_err(|outcome| match outcome {
            Outcome::Unanswered(why) | Outcome::Failed(why) => client.hide(why),
            Outcome::Success => "nothing".to_owned(),
        })
    }
}

/// A pod's name is a field of it, and all else that selects it a label: the server takes them apart.
fn pods_path(namespace: &str, selector: &str) -> String {
    let is_name = |term: &&str| term.split_once('=').is_some_and(|(key, _)| key == POD_NAME);
    let (fields, labels): (Vec<&str>, Vec<&str>) = selector.split(',').partition(is_name);
    let parts = [("fieldSelector", fields), ("labelSelector", labels)];
    let said = parts.into_iter().filter(|(_, terms)| !terms.is_empty());
    let query: Vec<String> = said
        .map(|(word, terms)| format!("{word}={}", escaped(&terms.join(","))))
        .collect();
    format!("/api/v1/namespaces/{namespace}/pods?{}", query.join("&"))
}

fn client(of: Option<&Cluster>) -> Result<Client, ProbeError> {
    cluster::client("cluster", of, Timeout::clamped(LOOK))
}

#[derive(Deserialize)]
struct List<T> {
    items: Vec<T>,
    #[serde(default)]
    metadata: ListMeta,
}

#[derive(Deserialize, Default)]
struct ListMeta {
    #[serde(rename = "continue", default)]
    next: String,
}

#[derive(Deserialize)]
struct Service {
    spec: ServiceSpec,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ServiceSpec {
    #[serde(rename = "clusterIPs", default)]
    cluster_ips: Vec<String>,
    external_name: Option<String>,
}

#[derive(Deserialize)]
struct Slice {
    #[serde(default)]
    endpoints: Vec<Endpoint>,
}

#[derive(Deserialize)]
struct Endpoint {
    #[serde(default)]
    addresses: Vec<String>,
    /// None where somebody wrote the endpoint down by hand.
    #[serde(rename = "targetRef")]
    target: Option<Target>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Target {
    kind: String,
    name: String,
    uid: String,
}

#[derive(Deserialize)]
struct Pod {
    metadata: Metadata,
    #[serde(default)]
    spec: PodSpec,
    #[serde(default)]
    status: PodStatus,
}

#[derive(Deserialize)]
struct Metadata {
    #[serde(default)]
    uid: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct PodSpec {
    #[serde(default)]
    host_network: bool,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct PodStatus {
    phase: String,
    #[serde(rename = "podIPs")]
    pod_ips: Vec<PodIp>,
}

#[derive(Deserialize)]
struct PodIp {
    ip: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"
apiVersion: squall/v1
kind: Experiment
metadata: { name: orders }
hypothesis: Orders keep succeeding.
cluster: { url: "http://127.0.0.1:1" }
steadyState:
  - { name: orders, probe: { http: { url: "http://127.0.0.1:1/" } }, expect: success >= 99% }
method:
  - fault: { delay: { time: 300ms, to: { service: { namespace: shop, name: payment } } } }
    on: { netns: shop }
    hold: 10s
"#;

    /// Time goes on by itself whenever everything waits.
    #[tokio::test(start_paused = true)]
    async fn what_was_found_is_not_believed_for_ever() {
        let experiment = squall_experiments::language::read("a.yaml", FILE).experiment;
        let whereabouts = Whereabouts::of(&experiment.unwrap()).unwrap().unwrap();
        assert!(
            whereabouts
                .look()
                .await
                .unwrap_err()
                .contains("service/shop/payment")
        );
        let host: Host = "service/shop/payment".parse().unwrap();
        let began = Instant::now();
        let mut news = whereabouts.watch(vec![Found {
            host: host.clone(),
            networks: vec!["10.0.0.2".parse().unwrap()],
        }]);
        let places = news.recv().await.unwrap();
        assert!(began.elapsed() >= BELIEVED, "{:?}", began.elapsed());
        assert!(places.unknown.is_some());
        let networks = Vec::new();
        assert_eq!(places.found, [Found { host, networks }]);
        // Once is enough.
        let more = tokio::time::timeout(Duration::from_secs(60), news.recv());
        assert!(more.await.is_err());
    }
}
