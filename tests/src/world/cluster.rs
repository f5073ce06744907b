//! What a Kubernetes API server says of services and pods, cut down to what a schema demands and to what is asked for. The tests of
//! probes hold each against Kubernetes' own schemas. Lists come in pages of one thing, whatever is asked for.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::Result;
use super::netns::Netns;

/// One pod.
#[derive(Clone, Debug)]
pub struct Pod {
    /// Its name and its uid.
    pub name: &'static str,
    /// Its addresses.
    pub ips: Vec<IpAddr>,
    /// It has its node's network.
    pub host_network: bool,
    /// It has ended.
    pub over: bool,
}

impl Pod {
    /// One that runs, in a network of its own.
    pub fn at(name: &'static str, ips: &[IpAddr]) -> Self {
        Self {
            name,
            ips: ips.to_vec(),
            host_network: false,
            over: false,
        }
    }
}

/// What there is: the service `payment` of the namespace `shop`, and its pods.
#[derive(Clone, Debug, Default)]
pub struct Shop {
    /// The service's own addresses; none where it is headless.
    pub service: Vec<IpAddr>,
    /// The pods behind it.
    pub pods: Vec<Pod>,
    /// The service is there.
    pub is_there: bool,
}

/// `kubectl get service payment -o json`.
pub fn service(own: &[IpAddr]) -> Value {
    let own: Vec<String> = match own {
        [] => vec!["None".to_owned()],
        own => own.iter().map(ToString::to_string).collect(),
    };
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": { "name": "payment", "namespace": "shop", "uid": "5b1e", "resourceVersion": "81200" },
        "spec": {
            "type": "ClusterIP", "clusterIP": own[0], "clusterIPs": own, "selector": { "app": "payment" },
            "ipFamilies": ["IPv4"], "ipFamilyPolicy": "PreferDualStack", "sessionAffinity": "None", "internalTrafficPolicy": "Cluster",
            "ports": [ { "name": "http", "port": 9090, "protocol": "TCP", "targetPort": 9090 } ],
        },
        "status": { "loadBalancer": {} },
    })
}

/// Its endpoint slices: one for each address of each pod, none of which is ready.
pub fn endpoint_slices(pods: &[Pod]) -> Vec<Value> {
    let of_pod = |pod: &Pod| {
        let name = pod.name;
        let slice = move |ip: &IpAddr| {
            json!({
                "metadata": {
                    "name": format!("payment-{}", ip.to_string().replace([':', '.'], "-")), "namespace": "shop", "uid": ip.to_string(),
                    "labels": { "kubernetes.io/service-name": "payment", "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io" },
                },
                "addressType": if ip.is_ipv4() { "IPv4" } else { "IPv6" },
                "endpoints": [ {
                    "addresses": [ip], "nodeName": "n1", "conditions": { "ready": false, "serving": false, "terminating": false },
                    "targetRef": { "kind": "Pod", "namespace": "shop", "name": name, "uid": name },
                } ],
                "ports": [ { "name": "http", "port": 9090, "protocol": "TCP" } ],
            })
        };
        pod.ips.iter().map(slice).collect::<Vec<Value>>()
    };
    pods.iter().flat_map(of_pod).collect()
}

/// `kubectl get pod -o json`.
pub fn pod(pod: &Pod) -> Value {
    let ips: Vec<Value> = pod.ips.iter().map(|ip| json!({ "ip": ip })).collect();
    let mut spec = json!({ "nodeName": "n1", "containers": [ { "name": "payment", "image": "shop/payment:7" } ] });
    if pod.host_network {
        spec["hostNetwork"] = json!(true);
    }
    json!({
        "metadata": { "name": pod.name, "namespace": "shop", "uid": pod.name, "labels": { "app": "payment" } },
        "spec": spec,
        "status": { "phase": if pod.over { "Succeeded" } else { "Running" }, "podIP": pod.ips.first(), "podIPs": ips },
    })
}

/// A page of a list, and where the next is.
pub fn page(api: &str, kind: &str, items: &[Value], next: Option<usize>) -> Value {
    let mut metadata = json!({ "resourceVersion": "81240" });
    if let Some(next) = next {
        metadata["continue"] = json!(format!("{next}="));
    }
    json!({ "apiVersion": api, "kind": kind, "metadata": metadata, "items": items })
}

/// What is answered to `GET path`.
fn answer(path: &str, shop: &Shop) -> Option<Value> {
    const SLICES: &str = "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices?labelSelector=kubernetes.io%2Fservice-name%3Dpayment&";
    const PODS: &str = "/api/v1/namespaces/shop/pods?labelSelector=app%3Dpayment&";
    const NAMED: &str = "/api/v1/namespaces/shop/pods?fieldSelector=metadata.name%3D";
    let paged = |api: &str, kind: &str, all: &[Value]| {
        let at = path.split("&continue=").nth(1);
        let at = at.map_or(Some(0), |at| at.strip_suffix("%3D")?.parse().ok())?;
        let next = Some(at + 1).filter(|next| *next < all.len());
        let items = all.get(at..at + 1).unwrap_or_default();
        Some(page(api, kind, items, next))
    };
    if path.starts_with(SLICES) {
        let all = endpoint_slices(&shop.pods);
        paged("discovery.k8s.io/v1", "EndpointSliceList", &all)
    } else if path.starts_with(PODS) {
        let all: Vec<Value> = shop.pods.iter().map(pod).collect();
        paged("v1", "PodList", &all)
    } else if let Some(named) = path.strip_prefix(NAMED) {
        let (name, _) = named.split_once('&')?;
        let one: Vec<Value> = (shop.pods.iter().filter(|pod| pod.name == name))
            .map(pod)
            .collect();
        paged("v1", "PodList", &one)
    } else if path == "/api/v1/namespaces/shop/services/payment" {
        shop.is_there.then(|| service(&shop.service))
    } else {
        let name = path.strip_prefix("/api/v1/namespaces/shop/pods/")?;
        shop.pods.iter().find(|pod| pod.name == name).map(pod)
    }
}

/// An API server over TLS, which answers who has the token. Its threads end with the test program.
#[derive(Debug)]
pub struct Api {
    /// Where it is.
    pub at: SocketAddr,
    folder: TempDir,
    state: Arc<Mutex<(Shop, String)>>,
}

impl Api {
    /// One that listens at `at` in a network namespace.
    ///
    /// # Errors
    /// The port is taken, or no certificate can be made.
    pub fn start(netns: &Netns, at: SocketAddr, shop: Shop) -> Result<Self> {
        let folder = TempDir::new()?;
        let (authority, config) = certified(at.ip())?;
        fs::write(folder.path().join("ca.pem"), authority)?;
        let state = Arc::new(Mutex::new((shop, "first".to_owned())));
        let listener = netns.enter(move || Ok(TcpListener::bind(at)?))?;
        let (config, held) = (Arc::new(config), Arc::clone(&state));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (config, held) = (Arc::clone(&config), Arc::clone(&held));
                thread::spawn(move || serve(stream, config, &held));
            }
        });
        let api = Self { at, folder, state };
        api.grant("first")?;
        Ok(api)
    }

    /// From now on there is this.
    pub fn is(&self, shop: Shop) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.0 = shop;
    }

    /// From now on this token counts, which is in the file, and no other.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn grant(&self, token: &str) -> Result<()> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.1 = token.to_owned();
        Ok(fs::write(self.folder.path().join("token"), token)?)
    }

    /// As an experiment's `cluster` names it.
    pub fn named(&self) -> String {
        let path = |name: &str| self.folder.path().join(name).display().to_string();
        format!(
            "{{ url: \"https://{}\", auth: {{ bearer: {{ file: {} }} }}, tls: {{ ca: {} }} }}",
            self.at,
            path("token"),
            path("ca.pem")
        )
    }

    /// A kubeconfig that names it.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn kubeconfig(&self) -> Result<PathBuf> {
        let path = self.folder.path().join("kubeconfig");
        let at = self.at;
        fs::write(
            &path,
            format!(
                "apiVersion: v1\nkind: Config\ncurrent-context: here\ncontexts: [ {{ name: here, context: {{ cluster: c, user: u }} }} ]\n\
                 clusters: [ {{ name: c, cluster: {{ server: \"https://{at}\", certificate-authority: ca.pem }} }} ]\n\
                 users: [ {{ name: u, user: {{ tokenFile: token }} }} ]\n"
            ),
        )?;
        Ok(path)
    }
}

/// An authority's certificate, and what a server at `at` needs that it vouches for.
fn certified(at: IpAddr) -> Result<(String, ServerConfig)> {
    let mut params = CertificateParams::new(Vec::new())?;
    params
        .distinguished_name
        .push(DnType::CommonName, "kubernetes");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority_key = KeyPair::generate()?;
    let authority = params.self_signed(&authority_key)?.pem();
    let issuer = Issuer::new(params, authority_key);
    let key = KeyPair::generate()?;
    let own = CertificateParams::new(vec![at.to_string()])?.signed_by(&key, &issuer)?;
    let key = PrivateKeyDer::try_from(key.serialize_der())?;
    let own: CertificateDer<'static> = own.der().clone();
    let ring = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(ring).with_safe_default_protocol_versions()?;
    let config = config.with_no_client_auth();
    Ok((authority, config.with_single_cert(vec![own], key)?))
}

/// One connection, with one request after the other.
fn serve(
    stream: TcpStream,
    config: Arc<ServerConfig>,
    state: &Mutex<(Shop, String)>,
) -> Option<()> {
    let tls = StreamOwned::new(ServerConnection::new(config).ok()?, stream);
    let mut reader = BufReader::new(tls);
    loop {
        let mut head = Vec::new();
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).ok()? == 0 {
                return None;
            }
            if line == "\r\n" {
                break;
            }
            head.push(line.trim_end().to_owned());
        }
        let (shop, token) = state.lock().ok()?.clone();
        let bearer = format!("authorization: Bearer {token}");
        let may = head.contains(&bearer);
        let path = head.first()?.split(' ').nth(1)?;
        let (status, body) = match answer(path, &shop) {
            _ if !may => ("401 Unauthorized", said(401, "Unauthorized")),
            Some(body) => ("200 OK", body),
            None => ("404 Not Found", said(404, "NotFound")),
        };
        let body = body.to_string();
        let length = body.len();
        let answer = format!(
            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        reader.get_mut().write_all(answer.as_bytes()).ok()?;
        reader.get_mut().flush().ok()?;
    }
}

fn said(code: u16, reason: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Failure", "message": reason, "reason": reason, "code": code,
    })
}
