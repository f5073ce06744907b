//! How the controller is reached: one connection for many requests.

use std::path::Path;
use std::sync::Arc;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Method, Request, header};
use hyper_util::rt::TokioIo;
use lab::world::Result;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::fleet::PORT;

/// Whom to trust, and what to show.
pub(super) struct Door {
    tls: TlsConnector,
    bearer: String,
}

pub(super) type Connection = SendRequest<Full<Bytes>>;

impl Door {
    pub(super) fn open(directory: &Path) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        let pem = std::fs::read(directory.join("authority.pem"))?;
        roots.add(CertificateDer::from_pem_slice(&pem)?)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let token = std::fs::read_to_string(directory.join("admin.token"))?;
        Ok(Self {
            tls: TlsConnector::from(Arc::new(config)),
            bearer: format!("Bearer {}", token.trim()),
        })
    }

    pub(super) async fn connect(&self) -> Result<Connection> {
        let stream = TcpStream::connect(("127.0.0.1", PORT)).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from("127.0.0.1")?;
        let stream = self.tls.connect(name, stream).await?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(sender)
    }

    /// The whole answer to a GET.
    pub(super) async fn read(&self, connection: &mut Connection, path: &str) -> Result<Bytes> {
        self.ask(connection, Method::GET, path, String::new()).await
    }

    /// The same, of JSON.
    pub(super) async fn json(&self, connection: &mut Connection, path: &str) -> Result<Value> {
        Ok(serde_json::from_slice(&self.read(connection, path).await?)?)
    }

    /// The whole answer.
    pub(super) async fn ask(
        &self,
        connection: &mut Connection,
        method: Method,
        path: &str,
        body: String,
    ) -> Result<Bytes> {
        connection.ready().await?;
        let request = Request::builder()
            .method(method)
            .uri(format!("/api/v1{path}"))
            .header(header::HOST, "127.0.0.1")
            .header(header::AUTHORIZATION, &self.bearer)
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::from(body))?;
        let answer = connection.send_request(request).await?;
        let status = answer.status();
        let body = answer.into_body().collect().await?.to_bytes();
        match status.is_success() {
            true => Ok(body),
            false => Err(format!("{path}: {status}: {}", String::from_utf8_lossy(&body)).into()),
        }
    }
}
