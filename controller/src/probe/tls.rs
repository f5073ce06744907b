//! Whom a probe trusts over TLS, and who it says it is. Every probe that speaks TLS takes its settings from here.

use super::ProbeError;
use hyper_rustls::ConfigBuilderExt;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use squall_experiments::probe::Tls;
use std::error::Error;
use std::sync::Arc;

type Whatever = Box<dyn Error + Send + Sync>;

/// The settings for a connection: the system's authorities, unless the file names others.
pub(super) fn config(probe: &str, tls: Option<&Tls>) -> Result<ClientConfig, ProbeError> {
    // Named, so that a second provider somewhere in the dependencies cannot make the choice ambiguous.
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|source| bad(probe, "its TLS versions", "", source.into()))?;
    let default = Tls::default();
    let tls = tls.unwrap_or(&default);
    let builder = match &tls.ca {
        Some(path) => {
            let roots = roots(path).map_err(|source| bad(probe, "the authority", path, source))?;
            builder.with_root_certificates(roots)
        }
        None => builder
            .with_native_roots()
            .map_err(|source| ProbeError::Roots {
                probe: probe.to_owned(),
                source,
            })?,
    };
    let (Some(cert), Some(key)) = (&tls.cert, &tls.key) else {
        return Ok(builder.with_no_client_auth());
    };
    let chain = certificates(cert).map_err(|source| bad(probe, "the certificate", cert, source))?;
    let private = PrivateKeyDer::from_pem_file(key)
        .map_err(|source| bad(probe, "the private key", key, source.into()))?;
    builder
        .with_client_auth_cert(chain, private)
        .map_err(|source| bad(probe, "the private key", key, source.into()))
}

fn roots(path: &str) -> Result<RootCertStore, Whatever> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate)?;
    }
    Ok(roots)
}

fn certificates(path: &str) -> Result<Vec<CertificateDer<'static>>, Whatever> {
    let found = CertificateDer::pem_file_iter(path)?;
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
