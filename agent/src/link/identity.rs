//! Who this agent is: its key, its certificate and the authority that it trusts, in one file of its own.

use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use serde::{Deserialize, Serialize};
use squall_experiments::join::Joined;
use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The file, below the agent's state directory.
const FILE: &str = "identity.json";
/// A file of some 3 KiB; what is much longer is not ours.
const BYTES_MAX: u64 = 64 << 10;

/// Why the agent does not know who it is.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IdentityError {
    /// Its file.
    #[error("the agent's identity `{path}` cannot be {what}")]
    File {
        /// Which.
        path: PathBuf,
        /// Read or written.
        what: &'static str,
        /// What the kernel said.
        #[source]
        source: std::io::Error,
    },
    /// What is in it.
    #[error("the agent's identity `{path}` is damaged: remove it and join again with a new token")]
    Damaged {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A key.
    #[error("no key can be made")]
    Key(#[from] rcgen::Error),
    /// TLS.
    #[error("the agent's certificate cannot be used")]
    Tls(#[from] rustls::Error),
}

/// Who this agent is.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Identity {
    /// The node's name.
    pub(crate) node: String,
    /// The private key (PKCS #8, PEM).
    key: String,
    /// What the controller signed.
    pub(crate) joined: Joined,
}

/// A key that is not signed yet.
pub(crate) struct Candidate {
    key: KeyPair,
    /// The certificate request (PEM).
    pub(crate) request: String,
}

impl Candidate {
    /// Makes a key, and a request for it.
    pub(crate) fn new() -> Result<Self, IdentityError> {
        let key = KeyPair::generate()?;
        let request = CertificateParams::default()
            .serialize_request(&key)?
            .pem()?;
        Ok(Self { key, request })
    }

    /// With what the controller answered.
    pub(crate) fn signed(self, node: &str, joined: Joined) -> Identity {
        Identity {
            node: node.to_owned(),
            key: self.key.serialize_pem(),
            joined,
        }
    }
}

impl Identity {
    /// Reads it; none where the agent has not joined yet.
    pub(crate) fn load(directory: &Path) -> Result<Option<Self>, IdentityError> {
        let path = directory.join(FILE);
        let failed = |source| IdentityError::File {
            path: path.clone(),
            what: "read",
            source,
        };
        match std::fs::metadata(&path) {
            Ok(meta) if meta.len() > BYTES_MAX => {
                return Err(failed(ErrorKind::FileTooLarge.into()));
            }
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            _ => {}
        }
        let text = std::fs::read(&path).map_err(failed)?;
        let identity = serde_json::from_slice(&text).map_err(|source| IdentityError::Damaged {
            path: path.clone(),
            source: source.into(),
        })?;
        Ok(Some(identity))
    }

    /// Writes it, whole or not at all, readable to its owner alone.
    pub(crate) fn save(&self, directory: &Path) -> Result<(), IdentityError> {
        let path = directory.join(FILE);
        let draft = directory.join(format!("{FILE}.new"));
        let failed = |source| IdentityError::File {
            path: path.clone(),
            what: "written",
            source,
        };
        let text = serde_json::to_vec_pretty(self).map_err(|error| failed(error.into()))?;
        std::fs::create_dir_all(directory).map_err(failed)?;
        let _absent = std::fs::remove_file(&draft);
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&draft)
            .map_err(failed)?;
        file.write_all(&text).map_err(failed)?;
        file.sync_all().map_err(failed)?;
        std::fs::rename(&draft, &path).map_err(failed)
    }

    /// TLS that trusts the controller's authority alone, and says who this is.
    pub(crate) fn tls(&self) -> Result<Arc<ClientConfig>, IdentityError> {
        let damaged = |source: rustls::pki_types::pem::Error| IdentityError::Damaged {
            path: FILE.into(),
            source: source.into(),
        };
        let mut roots = RootCertStore::empty();
        let authority = self.joined.authority.as_bytes();
        roots.add(CertificateDer::from_pem_slice(authority).map_err(damaged)?)?;
        let certificate = self.joined.certificate.as_bytes();
        let chain = vec![CertificateDer::from_pem_slice(certificate).map_err(damaged)?];
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes()).map_err(damaged)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)?;
        Ok(Arc::new(config))
    }

    /// Whether it is time to renew: a third of the certificate's life is over. `life_s` is how long a new one lives.
    pub(crate) const fn is_due(&self, now_s: i64, life_s: i64) -> bool {
        self.joined.until_s - now_s < life_s / 3 * 2
    }
}
