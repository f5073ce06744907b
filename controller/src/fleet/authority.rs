//! The controller's own certificate authority: who an agent is, and who the controller is.
//!
//! Its certificate and key lie in the data directory, made on first use. Whoever has the key is the controller: it is
//! readable to its owner alone. Keys are ECDSA P-256.

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use sha2::{Digest, Sha256};
use squall_experiments::join::{Fingerprint, Joined};
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use time::{Duration, OffsetDateTime};
use x509_parser::prelude::{FromDer, X509Certificate};

/// The authority's certificate, below the data directory; not secret.
pub const CERTIFICATE_FILE: &str = "authority.pem";
/// Its key.
const KEY_FILE: &str = "authority.key";

/// How long an agent's certificate is worth something. It renews at a third of it, so that a controller may be away for
/// weeks; revocation does not wait for it.
pub const AGENT_DAYS: i64 = 30;
/// How long the controller's own is: it makes a new one at each start.
const SERVER_DAYS: i64 = 397;
/// How long the authority is: until then every agent must have joined anew.
const AUTHORITY_DAYS: i64 = 3650;
/// Clocks of nodes that are behind by this much still take a new certificate.
const SKEW: Duration = Duration::minutes(10);

/// Why there is no authority, or no certificate.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// Its files.
    #[error(
        "the controller's authority `{}` cannot be read or made: it needs a directory that is its own and can be written",
        path.display()
    )]
    File {
        /// Which.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: std::io::Error,
    },
    /// One of the two is missing.
    #[error(
        "`{}` is missing while its other half is there: bring it back from a backup; removing the other one too makes a \
         new authority, which every agent must join again", path.display()
    )]
    Half {
        /// Which.
        path: PathBuf,
    },
    /// What is in the files, or in a request.
    #[error("{what} cannot be used")]
    Certificate {
        /// What.
        what: String,
        /// Why.
        #[source]
        source: rcgen::Error,
    },
}

/// Signs certificates.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    pem: String,
}

/// The controller's side of TLS.
pub struct Server {
    /// Its certificate and the authority's.
    pub chain: Vec<CertificateDer<'static>>,
    /// Its key.
    pub key: PrivateKeyDer<'static>,
}

/// A certificate for an agent.
#[derive(Debug, Clone)]
pub struct Issued {
    /// What the agent is told.
    pub joined: Joined,
    /// SHA-256 over its public key: what the store knows it by.
    pub key: Fingerprint,
}

/// Who is on the other end of a connection, as its certificate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// The node.
    pub node: String,
    /// SHA-256 over its public key.
    pub key: Fingerprint,
}

impl Authority {
    /// Reads the authority below `directory`, or makes it.
    ///
    /// # Errors
    /// Its files cannot be read or made, or are not what they should be.
    pub fn open(directory: &Path) -> Result<Self, AuthorityError> {
        if let Some((pem, key)) = Self::read(directory)? {
            return Self::from_pem(pem, &key);
        }
        let (pem, key) = Self::draft()?;
        // The key first: a certificate without a key is found out as a half, never as a whole.
        write(&directory.join(KEY_FILE), key.as_bytes(), 0o600)?;
        write(&directory.join(CERTIFICATE_FILE), pem.as_bytes(), 0o644)?;
        Self::from_pem(pem, &key)
    }

    /// The certificate and the key below `directory`, in PEM, where they are there.
    ///
    /// # Errors
    /// They cannot be read, or one is there without the other.
    pub fn read(directory: &Path) -> Result<Option<(String, String)>, AuthorityError> {
        let (certificate, key) = (directory.join(CERTIFICATE_FILE), directory.join(KEY_FILE));
        match (read(&certificate)?, read(&key)?) {
            (Some(pem), Some(key)) => Ok(Some((pem, key))),
            (None, None) => Ok(None),
            (None, Some(_)) => Err(AuthorityError::Half { path: certificate }),
            (Some(_), None) => Err(AuthorityError::Half { path: key }),
        }
    }

    /// Puts a certificate and its key below `directory`, where there are none.
    ///
    /// # Errors
    /// They are not what they should be, or cannot be written.
    pub fn place(directory: &Path, pem: &str, key: &str) -> Result<(), AuthorityError> {
        Self::from_pem(pem.to_owned(), key)?;
        write(&directory.join(KEY_FILE), key.as_bytes(), 0o600)?;
        write(&directory.join(CERTIFICATE_FILE), pem.as_bytes(), 0o644)
    }

    /// Writes the certificate below `directory`, for commands on this machine.
    pub(super) fn publish(&self, directory: &Path) -> Result<(), AuthorityError> {
        write(
            &directory.join(CERTIFICATE_FILE),
            self.pem.as_bytes(),
            0o644,
        )
    }

    pub(super) fn from_pem(pem: String, key: &str) -> Result<Self, AuthorityError> {
        let bad = |source| AuthorityError::Certificate {
            what: "the authority's key".into(),
            source,
        };
        let key = KeyPair::from_pem(key).map_err(bad)?;
        let certificate = CertificateDer::from_pem_slice(pem.as_bytes())
            .map_err(|_| bad(rcgen::Error::CouldNotParseCertificate))?;
        let issuer = Issuer::from_ca_cert_der(&certificate, key).map_err(bad)?;
        Ok(Self {
            issuer,
            certificate,
            pem,
        })
    }

    /// A new certificate and its key, in PEM.
    pub(super) fn draft() -> Result<(String, String), AuthorityError> {
        let bad = |source| AuthorityError::Certificate {
            what: "a new authority".into(),
            source,
        };
        let pair = KeyPair::generate().map_err(bad)?;
        let mut params = params("Squall controller", AUTHORITY_DAYS);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let pem = params.self_signed(&pair).map_err(bad)?.pem();
        Ok((pem, pair.serialize_pem()))
    }

    /// What an agent knows the authority by before it has joined.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint(Sha256::digest(&self.certificate).into())
    }

    /// Its certificate, in PEM.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// Its certificate.
    #[must_use]
    pub const fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// A certificate for the controller under these names and addresses.
    ///
    /// # Errors
    /// One of them is not a name.
    pub fn server(&self, names: &[String]) -> Result<Server, AuthorityError> {
        let bad = |source| AuthorityError::Certificate {
            what: format!("a certificate for {}", names.join(", ")),
            source,
        };
        let pair = KeyPair::generate().map_err(bad)?;
        let named = CertificateParams::new(names).map_err(bad)?;
        let mut params = params("squall", SERVER_DAYS);
        params.subject_alt_names = named.subject_alt_names;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let signed = params.signed_by(&pair, &self.issuer).map_err(bad)?;
        Ok(Server {
            chain: vec![signed.der().clone(), self.certificate.clone()],
            key: PrivatePkcs8KeyDer::from(pair.serialize_der()).into(),
        })
    }

    /// A certificate for the agent of `node`. Of the request only the public key counts, of which it proves the possession.
    ///
    /// # Errors
    /// It is no request, or its signature is not that of its key.
    pub fn agent(&self, node: &str, request: &str) -> Result<Issued, AuthorityError> {
        let bad = |source| AuthorityError::Certificate {
            what: format!("the certificate request of {node}"),
            source,
        };
        let mut request = CertificateSigningRequestParams::from_pem(request).map_err(bad)?;
        request.params = params(node, AGENT_DAYS);
        request.params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let until = request.params.not_after;
        let signed = request.signed_by(&self.issuer).map_err(bad)?;
        let named = name(signed.der()).ok_or(bad(rcgen::Error::CouldNotParseCertificate))?;
        Ok(Issued {
            joined: Joined {
                certificate: signed.pem(),
                authority: self.pem.clone(),
                until_s: until.unix_timestamp(),
            },
            key: named.key,
        })
    }
}

/// Who a certificate says that it is for. It must have been verified before.
#[must_use]
pub fn name(certificate: &CertificateDer<'_>) -> Option<Named> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let mut names = certificate.subject().iter_common_name();
    let node = names.next()?.as_str().ok()?.to_owned();
    let key = Sha256::digest(certificate.public_key().raw).into();
    Some(Named {
        node,
        key: Fingerprint(key),
    })
}

fn params(common_name: &str, days: i64) -> CertificateParams {
    let mut params = CertificateParams::default();
    let now = OffsetDateTime::now_utc();
    params.not_before = now - SKEW;
    params.not_after = now + Duration::days(days);
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, common_name);
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params
}

fn read(path: &Path) -> Result<Option<String>, AuthorityError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(source) => Err(AuthorityError::File {
            path: path.to_owned(),
            source,
        }),
    }
}

/// Writes a file, whole or not at all.
fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<(), AuthorityError> {
    let failed = |source| AuthorityError::File {
        path: path.to_owned(),
        source,
    };
    let draft = path.with_extension("new");
    let make = |path: &Path| -> std::io::Result<File> {
        let _absent = std::fs::remove_file(path);
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(path)
    };
    let mut file = make(&draft).map_err(failed)?;
    file.write_all(bytes).map_err(failed)?;
    file.sync_all().map_err(failed)?;
    std::fs::rename(&draft, path).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn request(pair: &KeyPair) -> String {
        // What the agent wants to be called does not count.
        let params = CertificateParams::new(vec!["controller".to_owned()]).unwrap();
        params.serialize_request(pair).unwrap().pem().unwrap()
    }

    #[test]
    fn the_authority_is_made_once_and_its_key_is_for_its_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let first = Authority::open(folder.path()).unwrap().fingerprint();
        assert_eq!(Authority::open(folder.path()).unwrap().fingerprint(), first);
        let key = folder.path().join(KEY_FILE);
        let mode = std::fs::metadata(&key).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        std::fs::remove_file(key).unwrap();
        assert!(matches!(
            Authority::open(folder.path()),
            Err(AuthorityError::Half { .. })
        ));
    }

    #[test]
    fn an_agent_is_called_what_the_controller_says_whatever_it_asks_for() {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::open(folder.path()).unwrap();
        let pair = KeyPair::generate().unwrap();
        let issued = authority.agent("node-7", &request(&pair)).unwrap();
        let pem = issued.joined.certificate;
        let certificate = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
        let (_, read) = X509Certificate::from_der(&certificate).unwrap();
        assert_eq!(name(&certificate).unwrap().node, "node-7");
        assert_eq!(name(&certificate).unwrap().key, issued.key);
        assert!(read.subject_alternative_name().unwrap().is_none());
        assert!(!read.is_ca());
        let usage = read.extended_key_usage().unwrap().unwrap().value;
        assert!(usage.client_auth && !usage.server_auth);
    }

    #[test]
    fn a_request_that_was_tampered_with_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::open(folder.path()).unwrap();
        let mine = request(&KeyPair::generate().unwrap());
        let mut lines: Vec<&str> = mine.lines().collect();
        let last = lines.len() - 2;
        let other = request(&KeyPair::generate().unwrap());
        lines[last] = other.lines().nth(last).unwrap();
        for bad in [lines.join("\n"), String::new(), "nonsense".into()] {
            assert!(authority.agent("node", &bad).is_err(), "{bad}");
        }
    }
}
