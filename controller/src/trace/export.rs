//! The exporter of OpenTelemetry, spoken through the HTTP client that Squall has already.

use crate::probe::client::{Client, Http};
use crate::probe::{ProbeError, Source};
use async_trait::async_trait;
use hyper::body::Bytes;
use hyper::{Request, Response};
use opentelemetry::KeyValue;
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{
    ExporterBuildError, Protocol, SpanExporter, WithExportConfig, WithHttpConfig,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SpanExporter as _;
use squall_experiments::probe::Tls;
use std::fmt;
use std::sync::Arc;

/// Of whom spans tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Service {
    /// This controller: called as `OTEL_SERVICE_NAME` says, or `squall`.
    Controller,
    /// Agents: `squall-agent`; each span says on which node.
    Agent,
}

/// Brings requests to the receiver. Cloning it is another handle to the same.
#[derive(Clone)]
pub(super) struct Courier(Arc<Client>);

impl fmt::Debug for Courier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Its requests' headers are secrets.
        f.write_str("Courier")
    }
}

fn set(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

impl Courier {
    /// To an address, with what the environment says of TLS.
    pub(super) fn new(url: &str) -> Result<Self, ProbeError> {
        let tls = Tls {
            ca: set("OTEL_EXPORTER_OTLP_CERTIFICATE"),
            cert: set("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE"),
            key: set("OTEL_EXPORTER_OTLP_CLIENT_KEY"),
            ..Tls::default()
        };
        let source = Source {
            tls: Some(tls),
            ..Source::bare(url.to_owned())
        };
        Ok(Self(Arc::new(Client::new("otlp", &source, Http::One)?)))
    }
}

#[async_trait]
impl HttpClient for Courier {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (parts, body) = request.into_parts();
        let mut request = self.0.request(parts.method, parts.uri, body);
        request.headers_mut().extend(parts.headers);
        let answer = self.0.send(request).await.map_err(|none| none.reason)?;
        let mut response = Response::new(answer.body);
        *response.status_mut() = answer.status;
        *response.headers_mut() = answer.headers;
        Ok(response)
    }
}

/// An exporter to the receiver. Its headers are those of the environment (`OTEL_EXPORTER_OTLP_HEADERS`), which it reads itself.
pub(super) fn exporter(
    courier: &Courier,
    url: &str,
    service: Service,
) -> Result<SpanExporter, ExporterBuildError> {
    let mut exporter = SpanExporter::builder()
        .with_http()
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(url)
        .with_http_client(courier.clone())
        .build()?;
    let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
    let resource = Resource::builder().with_attribute(version);
    let resource = match (service, set("OTEL_SERVICE_NAME")) {
        (Service::Controller, Some(name)) => resource.with_service_name(name),
        (Service::Controller, None) => resource.with_service_name("squall"),
        (Service::Agent, _) => resource.with_service_name("squall-agent"),
    };
    exporter.set_resource(&resource.build());
    Ok(exporter)
}
