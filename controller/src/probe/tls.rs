//! Whom a probe trusts over TLS, and who it says it is. Every probe that speaks TLS takes its settings from here.

use super::ProbeError;
use hyper_rustls::ConfigBuilderExt;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use squall_experiments::probe::Tls;
use std::error::Error;
use std::sync::Arc;

/// Certificates that are at hand and in no file: a kubeconfig holds them.
#[derive(Default)]
pub(super) struct Inline {
    pub(super) ca: Option<Vec<u8>>,
    pub(super) cert: Option<Vec<u8>>,
    pub(super) key: Option<Vec<u8>>,
}

type Whatever = Box<dyn Error + Send + Sync>;

/// The settings for a connection: the system's authorities, unless the file names others.
pub(super) fn config(probe: &str, tls: Option<&Tls>) -> Result<ClientConfig, ProbeError> {
    let default = Tls::default();
    let tls = tls.unwrap_or(&default);
    inline_config(probe, &read(probe, tls, Inline::default())?, tls)
}

/// Reads what is named and not at hand.
pub(super) fn read(probe: &str, tls: &Tls, at_hand: Inline) -> Result<Inline, ProbeError> {
    let read = |what: &'static str, at_hand: Option<Vec<u8>>, path: Option<&String>| match path {
        Some(path) if at_hand.is_none() => std::fs::read(path)
            .map(Some)
            .map_err(|error| bad(probe, what, path, error.into())),
        _ => Ok(at_hand),
    };
    Ok(Inline {
        ca: read("the authority", at_hand.ca, tls.ca.as_ref())?,
        cert: read("the certificate", at_hand.cert, tls.cert.as_ref())?,
        key: read("the private key", at_hand.key, tls.key.as_ref())?,
    })
}

/// The same with what is at hand; `from` says where it is from.
pub(super) fn inline_config(
    probe: &str,
    inline: &Inline,
    from: &Tls,
) -> Result<ClientConfig, ProbeError> {
    let wrong = |what: &'static str, path: Option<&String>, source: Whatever| {
        bad(probe, what, path.map_or("", String::as_str), source)
    };
    // Named, so that a second provider somewhere in the dependencies cannot make the choice ambiguous.
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|source| wrong("the TLS version", None, source.into()))?;
    let builder = match &inline.ca {
        Some(pem) => {
            let ca = from.ca.as_ref();
            let roots = roots(pem).map_err(|source| wrong("the authority", ca, source))?;
            builder.with_root_certificates(roots)
        }
        None => builder
            .with_native_roots()
            .map_err(|source| ProbeError::Roots {
                probe: probe.to_owned(),
                source,
            })?,
    };
    let (Some(cert), Some(key)) = (&inline.cert, &inline.key) else {
        return Ok(builder.with_no_client_auth());
    };
    let (cert_from, key_from) = (from.cert.as_ref(), from.key.as_ref());
    let chain = certificates(cert).map_err(|source| wrong("the certificate", cert_from, source))?;
    let private = PrivateKeyDer::from_pem_slice(key)
        .map_err(|source| wrong("the private key", key_from, source.into()))?;
    builder
        .with_client_auth_cert(chain, private)
        .map_err(|source| wrong("the private key", key_from, source.into()))
}

fn roots(pem: &[u8]) -> Result<RootCertStore, Whatever> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(pem)? {
        roots.add(certificate)?;
    }
    Ok(roots)
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Whatever> {
    let found = CertificateDer::pem_slice_iter(pem);
    let found: Vec<_> = found.collect::<Result<_, _>>()?;
    if found.is_empty() {
        return Err("there is no certificate in it".into());
    }
    Ok(found)
}

fn bad(probe: &str, what: &'static str, path: &str, source: Whatever) -> ProbeError {
    ProbeError::Tls {
        probe: probe.to_owned(),
        what,
        path: path.to_owned(),
        source,
    }
}
