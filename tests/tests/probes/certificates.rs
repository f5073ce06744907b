//! An authority and a server's certificate, made for one test.

use lab::world::Result;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
};
use std::fs;
use std::path::PathBuf;
use tempfile::TempDir;

/// PEM files in a folder that goes with this value.
pub(crate) struct Certificates {
    folder: TempDir,
}

impl Certificates {
    /// For a server called `localhost`.
    pub(crate) fn new() -> Result<Self> {
        let folder = TempDir::new()?;
        let mut params = CertificateParams::new(Vec::new())?;
        // Named otherwise than the server's: OpenSSL takes a certificate that is named as its authority for its own authority.
        params
            .distinguished_name
            .push(DnType::CommonName, "an authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority_key = KeyPair::generate()?;
        let authority = params.self_signed(&authority_key)?;
        let issuer = Issuer::new(params, authority_key);
        let key = KeyPair::generate()?;
        let server = CertificateParams::new(vec!["localhost".to_owned()])?;
        let server = server.signed_by(&key, &issuer)?;
        let client_key = KeyPair::generate()?;
        let mut client = CertificateParams::new(Vec::new())?;
        client.distinguished_name.push(DnType::CommonName, "squall");
        client.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let client = client.signed_by(&client_key, &issuer)?;
        fs::write(folder.path().join("ca.pem"), authority.pem())?;
        fs::write(folder.path().join("cert.pem"), server.pem())?;
        fs::write(folder.path().join("key.pem"), key.serialize_pem())?;
        fs::write(folder.path().join("client.pem"), client.pem())?;
        fs::write(
            folder.path().join("client-key.pem"),
            client_key.serialize_pem(),
        )?;
        Ok(Self { folder })
    }

    /// The authority's certificate.
    pub(crate) fn ca(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// The server's certificate.
    pub(crate) fn cert(&self) -> PathBuf {
        self.folder.path().join("cert.pem")
    }

    /// The server's key.
    pub(crate) fn key(&self) -> PathBuf {
        self.folder.path().join("key.pem")
    }

    /// A client's certificate of this authority, called `squall`, and its key, as a `tls` names them.
    pub(crate) fn client(&self) -> String {
        let path = |name: &str| self.folder.path().join(name).display().to_string();
        format!(
            "cert: {}, key: {}",
            path("client.pem"),
            path("client-key.pem")
        )
    }
}
