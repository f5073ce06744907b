//! Docker's Engine API over its unix socket (<https://docs.docker.com/reference/api/engine/>): which containers run, and
//! the main process of one.

use super::{ANSWER_BYTES_MAX, ANSWER_LIMIT, Container, ENTRIES_MAX, OPEN_LIMIT, Pairs};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1::handshake;
use hyper::header::HOST;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::path::PathBuf;
use tokio::net::UnixStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// An engine, by its socket.
#[derive(Debug, Clone)]
pub(super) struct Docker(pub(super) PathBuf);

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    id: String,
    #[serde(default)]
    names: Vec<String>,
    #[serde(default)]
    image: String,
    #[serde(default)]
    created: i64,
    // Go writes null for a map that was never made.
    labels: Option<Pairs>,
    host_config: Option<HostConfig>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HostConfig {
    network_mode: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Inspected {
    state: State,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct State {
    running: bool,
    pid: u32,
}

impl Docker {
    /// The containers that run.
    ///
    /// # Errors
    /// A sentence.
    pub(super) async fn containers(&self) -> Result<Vec<Container>, String> {
        let running: Vec<Entry> = self.get("/containers/json").await?;
        if running.len() > ENTRIES_MAX {
            let count = running.len();
            return Err(format!(
                "it runs {count} containers, and {ENTRIES_MAX} are the most that is taken in"
            ));
        }
        let container = |entry: Entry| {
            let labels = entry.labels.unwrap_or_default();
            // cri-dockerd's sandboxes are no containers of anybody's.
            if labels.get("io.kubernetes.docker.type").map(String::as_str) == Some("podsandbox") {
                return None;
            }
            let network = entry.host_config.and_then(|config| config.network_mode);
            let name = entry.names.first().map_or("", String::as_str);
            Some(Container {
                name: name.trim_start_matches('/').to_owned(),
                id: entry.id,
                labels,
                images: vec![entry.image],
                created: entry.created,
                pod: None,
                host_network: network.as_deref() == Some("host"),
            })
        };
        Ok(running.into_iter().filter_map(container).collect())
    }

    /// The main process of a container that runs.
    ///
    /// # Errors
    /// A sentence; also when it is gone.
    pub(super) async fn main(&self, id: &str) -> Result<u32, String> {
        let inspected: Inspected = self.get(&format!("/containers/{id}/json")).await?;
        if inspected.state.running && inspected.state.pid > 0 {
            Ok(inspected.state.pid)
        } else {
            Err("it does not run any more".to_owned())
        }
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, String> {
        let body = timeout(OPEN_LIMIT + ANSWER_LIMIT, self.fetch(path))
            .await
            .map_err(|_| format!("it did not answer GET {path} within {ANSWER_LIMIT:?}"))?
            .map_err(|error| format!("GET {path} failed: {error}"))?;
        serde_json::from_slice(&body)
            .map_err(|error| format!("its answer to GET {path} is none: {error}"))
    }

    async fn fetch(&self, path: &str) -> Result<Bytes, String> {
        let said = |error: &dyn std::error::Error| error.to_string();
        let stream = UnixStream::connect(&self.0).await.map_err(|e| said(&e))?;
        let (mut sender, connection) = handshake(TokioIo::new(stream))
            .await
            .map_err(|e| said(&e))?;
        // Its errors are those of the request that waits for it; it ends with this call, whatever the engine does.
        let mut driven = JoinSet::new();
        driven.spawn(async { drop(connection.await) });
        let request = hyper::Request::get(path)
            .header(HOST, "localhost")
            .body(Empty::<Bytes>::new())
            .map_err(|e| said(&e))?;
        let answer = sender.send_request(request).await.map_err(|e| said(&e))?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX);
        let body = body.collect().await.map_err(|e| e.to_string())?.to_bytes();
        if status.is_success() {
            return Ok(body);
        }
        let text: String = String::from_utf8_lossy(&body).chars().take(200).collect();
        Err(format!("{status}: {}", text.trim()))
    }
}
