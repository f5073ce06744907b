//! Evidence that travels: an in-toto Statement v1 (<https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md>)
//! in a DSSE envelope (<https://github.com/secure-systems-lab/dsse/blob/master/protocol.md>), signed with Ed25519 (RFC 8032).

use super::evidence::Evidence;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use squall_experiments::join::Fingerprint;
use std::collections::BTreeMap;

/// The type of an envelope's payload, as in-toto has it.
pub const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";
/// The type of a statement.
pub const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v1";
/// What a statement says of its subject: [`Evidence`], version 1. A name, not a page to open.
pub const PREDICATE_TYPE: &str = "urn:squall:run-evidence:v1";
/// The subject's digest over what the experiment does; `sha256` beside it is over the file's bytes.
pub const BEHAVIOUR: &str = "squallBehaviour";
/// Bytes of an Ed25519 public key.
const KEY_BYTES: usize = 32;

/// An envelope, as it lies beside the file in Git.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Envelope {
    /// [`PAYLOAD_TYPE`].
    pub payload_type: String,
    /// A [`Statement`] as JSON, in base64.
    pub payload: String,
    /// At least one.
    pub signatures: Vec<Signature>,
}

/// One signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Signature {
    /// SHA-256 over the public key, in hexadecimal: a hint, never a proof.
    #[serde(default)]
    pub keyid: String,
    /// Over the payload and its type, in base64.
    pub sig: String,
}

/// What is signed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Statement {
    /// [`STATEMENT_TYPE`].
    #[serde(rename = "_type")]
    pub kind: String,
    /// The experiment: one.
    pub subject: Vec<Subject>,
    /// [`PREDICATE_TYPE`].
    pub predicate_type: String,
    /// What happened to it.
    pub predicate: Evidence,
}

/// What a statement is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    /// The experiment's name.
    pub name: String,
    /// [`BEHAVIOUR`] and `sha256`, in hexadecimal.
    pub digest: BTreeMap<String, String>,
}

/// Why an envelope is not believed, or a key not usable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StatementError {
    /// The key's file.
    #[error(
        "the signing key is no Ed25519 key in PKCS #8; remove `evidence.key` to have a new one made, and have others trust that"
    )]
    Key,
    /// The system's random numbers, or the signing.
    #[error("no signature can be made: the system gives no random numbers")]
    Random,
    /// The form.
    #[error("this is no DSSE envelope with an in-toto statement: {0}")]
    Form(String),
    /// Nobody known signed it.
    #[error(
        "no key that is trusted has signed this, or it was changed since; the policy's `trust` lists the keys"
    )]
    Untrusted,
    /// Subject and predicate differ.
    #[error("the statement's subject is not the experiment that its predicate tells of")]
    Subject,
}

/// Who signs here.
pub struct Signer {
    pair: Ed25519KeyPair,
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Signer({})", self.public())
    }
}

impl Signer {
    /// From what [`Signer::generate`] made.
    ///
    /// # Errors
    /// It is something else.
    pub fn read(pkcs8: &[u8]) -> Result<Self, StatementError> {
        let pair = Ed25519KeyPair::from_pkcs8(pkcs8).map_err(|_| StatementError::Key)?;
        Ok(Self { pair })
    }

    /// A new key (PKCS #8, RFC 8410), to be kept.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub fn generate() -> Result<Vec<u8>, StatementError> {
        let random = ring::rand::SystemRandom::new();
        let key = Ed25519KeyPair::generate_pkcs8(&random).map_err(|_| StatementError::Random)?;
        Ok(key.as_ref().to_vec())
    }

    /// The public key in base64: what others write below `trust`.
    #[must_use]
    pub fn public(&self) -> String {
        STANDARD.encode(self.pair.public_key().as_ref())
    }

    /// Signs what happened.
    ///
    /// # Errors
    /// It cannot be written as JSON.
    pub fn sign(&self, evidence: &Evidence) -> Result<Envelope, StatementError> {
        let statement = Statement {
            kind: STATEMENT_TYPE.to_owned(),
            subject: vec![Subject {
                name: evidence.experiment.clone(),
                digest: digests(evidence),
            }],
            predicate_type: PREDICATE_TYPE.to_owned(),
            predicate: Evidence {
                signed_by: None,
                recorded: 0,
                ..evidence.clone()
            },
        };
        let payload = serde_json::to_vec(&statement);
        let payload = payload.map_err(|error| StatementError::Form(error.to_string()))?;
        let signature = self.pair.sign(&pre_authentication(PAYLOAD_TYPE, &payload));
        Ok(Envelope {
            payload_type: PAYLOAD_TYPE.to_owned(),
            payload: STANDARD.encode(&payload),
            signatures: vec![Signature {
                keyid: key_id(self.pair.public_key().as_ref()),
                sig: STANDARD.encode(signature.as_ref()),
            }],
        })
    }
}

fn digests(evidence: &Evidence) -> BTreeMap<String, String> {
    BTreeMap::from([
        (BEHAVIOUR.to_owned(), evidence.digest.clone()),
        ("sha256".to_owned(), evidence.file.clone()),
    ])
}

/// What DSSE signs: the lengths make it impossible to read one pair of type and body as another.
fn pre_authentication(kind: &str, payload: &[u8]) -> Vec<u8> {
    let mut bytes = format!("DSSEv1 {} {kind} {} ", kind.len(), payload.len()).into_bytes();
    bytes.extend_from_slice(payload);
    bytes
}

fn key_id(public: &[u8]) -> String {
    let hash: [u8; 32] = Sha256::digest(public).into();
    Fingerprint(hash).to_string()
}

/// Reads an envelope that one of `keys` (base64) has signed. What it says is then this key's word: `signed_by` says whose.
///
/// # Errors
/// It is no such envelope, none of the keys has signed it, or it was changed.
pub fn verify<'k>(
    envelope: &Envelope,
    keys: impl IntoIterator<Item = &'k str>,
) -> Result<Evidence, StatementError> {
    let form = |why: &str| StatementError::Form(why.to_owned());
    let payload = decode(&envelope.payload).ok_or_else(|| form("its payload is not base64"))?;
    let said = pre_authentication(&envelope.payload_type, &payload);
    let signed = |key: &&str| {
        let public = decode(key).filter(|public| public.len() == KEY_BYTES);
        public.is_some_and(|public| {
            let public = UnparsedPublicKey::new(&ED25519, public);
            let mut signatures = envelope.signatures.iter().filter_map(|s| decode(&s.sig));
            signatures.any(|signature| public.verify(&said, &signature).is_ok())
        })
    };
    // Nothing of it is read before somebody known vouches for it.
    let key = keys
        .into_iter()
        .find(signed)
        .ok_or(StatementError::Untrusted)?;
    if envelope.payload_type != PAYLOAD_TYPE {
        return Err(form("its payload is of another type"));
    }
    let statement: Statement = serde_json::from_slice(&payload)
        .map_err(|error| StatementError::Form(error.to_string()))?;
    if statement.kind != STATEMENT_TYPE || statement.predicate_type != PREDICATE_TYPE {
        return Err(form(
            "it is a statement of another kind, or of another version",
        ));
    }
    let evidence = statement.predicate;
    match statement.subject.as_slice() {
        [subject] if subject.digest == digests(&evidence) => Ok(Evidence {
            signed_by: Some(key.to_owned()),
            recorded: 0,
            ..evidence
        }),
        _ => Err(StatementError::Subject),
    }
}

/// Both alphabets, as DSSE says.
fn decode(text: &str) -> Option<Vec<u8>> {
    STANDARD
        .decode(text)
        .or_else(|_| URL_SAFE.decode(text))
        .ok()
}
