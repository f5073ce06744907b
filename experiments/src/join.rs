//! How an agent becomes one of a controller's: a join token, exchanged once for a certificate.
//!
//! The token carries the fingerprint of the controller's authority, so that an agent knows whom it speaks to before it
//! says a secret (as kubeadm's `--discovery-token-ca-cert-hash` does).

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// Where an agent exchanges a token for a certificate (POST, [`Join`] to [`Joined`]).
pub const JOIN_PATH: &str = "/agent/v1/join";
/// Where an agent renews its certificate (POST, [`Renewal`] to [`Joined`]); its old one is who it is.
pub const RENEW_PATH: &str = "/agent/v1/certificate";
/// Where an agent's link begins (GET, WebSocket, [`crate::wire`]).
pub const LINK_PATH: &str = "/agent/v1/link";

/// The most bytes of a node's name: what a DNS name may have (RFC 1035, section 2.3.4).
pub const NODE_BYTES_MAX: usize = 253;
/// The most labels of an agent, and the most bytes of a label's name and value (Kubernetes allows 63 for a value and
/// 253 + 1 + 63 for a name).
pub const LABELS_MAX: usize = 64;
/// See [`LABELS_MAX`].
pub const LABEL_BYTES_MAX: usize = 317;

/// SHA-256 over something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint(pub [u8; 32]);

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for Fingerprint {
    type Err = NotAToken;

    fn from_str(text: &str) -> Result<Self, NotAToken> {
        unhex(text).map(Self).ok_or(NotAToken)
    }
}

/// What lets an agent join: short-lived, counted, revocable.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    /// Its name: what lists show.
    pub id: String,
    /// What only its holder knows.
    pub secret: [u8; 32],
    /// SHA-256 over the authority's certificate (DER).
    pub authority: Fingerprint,
}

/// The first word of a token: its form.
const FORM: &str = "squall1";
/// Letters of a token's name.
const ID_LETTERS: usize = 12;

/// Not a join token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "this is no join token: it has the form squall1.NAME.SECRET.AUTHORITY; `squall token create` makes one"
)]
pub struct NotAToken;

impl JoinToken {
    /// Its name, and its secret in hexadecimal, as [`Join`] has them.
    #[must_use]
    pub fn halves(&self) -> (String, String) {
        (self.id.clone(), Fingerprint(self.secret).to_string())
    }

    /// The whole token, secret included: for its holder, never for a log.
    #[must_use]
    pub fn reveal(&self) -> String {
        let secret = Fingerprint(self.secret);
        format!("{FORM}.{}.{secret}.{}", self.id, self.authority)
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JoinToken({})", self.id)
    }
}

impl FromStr for JoinToken {
    type Err = NotAToken;

    fn from_str(text: &str) -> Result<Self, NotAToken> {
        let mut parts = text.trim().split('.');
        let mut next = || parts.next().ok_or(NotAToken);
        let (form, id, secret, authority) = (next()?, next()?, next()?, next()?);
        let named = id.len() == ID_LETTERS && id.bytes().all(|b| b.is_ascii_alphanumeric());
        if form != FORM || !named || parts.next().is_some() {
            return Err(NotAToken);
        }
        Ok(Self {
            id: id.to_owned(),
            secret: unhex(secret).ok_or(NotAToken)?,
            authority: authority.parse()?,
        })
    }
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    let mut bytes = [0; 32];
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok()?;
    }
    // What is written otherwise than we write it is not ours (`+1` is a number to from_str_radix).
    (Fingerprint(bytes).to_string() == text).then_some(bytes)
}

/// An agent asks to join.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Join {
    /// The join token's name.
    pub token: String,
    /// Its secret, in hexadecimal.
    pub secret: String,
    /// What the node is called.
    pub node: String,
    /// A certificate request (PKCS #10, PEM). Only its public key counts; the controller decides the rest.
    pub request: String,
}

impl fmt::Debug for Join {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Join({} by token {})", self.node, self.token)
    }
}

/// An agent asks for its next certificate.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Renewal {
    /// A certificate request (PKCS #10, PEM), with the old key or a new one.
    pub request: String,
}

/// An agent has joined.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Joined {
    /// Its certificate (PEM).
    pub certificate: String,
    /// The authority's (PEM).
    pub authority: String,
    /// Seconds since the Unix epoch after which the certificate is worth nothing.
    pub until_s: i64,
}

/// What an agent says of its node beside its name.
pub type Labels = BTreeMap<String, String>;

/// Why a node's name or its labels are not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadName {
    /// The name.
    #[error(
        "`{0}` is no name of a node: letters, digits, `-`, `_` and `.`, at most {NODE_BYTES_MAX}, beginning with a letter or digit"
    )]
    Node(String),
    /// The labels.
    #[error("at most {LABELS_MAX} labels of at most {LABEL_BYTES_MAX} printable bytes are taken")]
    Labels,
}

/// Checks a node's name: it goes into certificates, lists and logs.
///
/// # Errors
/// It has other letters than a host's name, or too many.
pub fn check_node(name: &str) -> Result<(), BadName> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    let begins = name
        .bytes()
        .next()
        .is_some_and(|b| b.is_ascii_alphanumeric());
    if begins && name.len() <= NODE_BYTES_MAX && name.bytes().all(allowed) {
        return Ok(());
    }
    let shown = name.chars().filter(|c| !c.is_control()).take(64).collect();
    Err(BadName::Node(shown))
}

/// Checks labels: they go into lists and selectors.
///
/// # Errors
/// Too many, too long, or with letters that do not print.
pub fn check_labels(labels: &Labels) -> Result<(), BadName> {
    let fine = |text: &String| {
        text.len() <= LABEL_BYTES_MAX && text.bytes().all(|b| (0x20..0x7f).contains(&b))
    };
    let all = labels
        .iter()
        .all(|(name, value)| !name.is_empty() && fine(name) && fine(value));
    if all && labels.len() <= LABELS_MAX {
        Ok(())
    } else {
        Err(BadName::Labels)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> JoinToken {
        JoinToken {
            id: "abcdef012345".into(),
            secret: [7; 32],
            authority: Fingerprint([0xab; 32]),
        }
    }

    #[test]
    fn a_token_is_read_as_it_is_written_and_shows_its_secret_to_no_log() {
        let text = token().reveal();
        assert_eq!(format!(" {text}\n").parse(), Ok(token()));
        let secret = Fingerprint([7; 32]).to_string();
        assert!(text.contains(&secret));
        assert!(!format!("{:?}", token()).contains(&secret));
    }

    #[test]
    fn what_is_almost_a_token_is_none() {
        let text = token().reveal();
        let broken = [
            String::new(),
            text.replace("squall1", "squall2"),
            format!("{text}.more"),
            text.replace("abcdef012345", "abcdef01234"),
            text.replace("abcdef012345", "abcdef01234/"),
            text.replace("0707", "+7+7"),
            text.replace("abab", "ABAB"),
            text[..text.len() - 1].to_owned(),
            text.replace("abab", "ä"),
        ];
        for text in broken {
            assert_eq!(text.parse::<JoinToken>(), Err(NotAToken), "{text}");
        }
    }

    #[test]
    fn names_that_could_mislead_are_not_taken() {
        for good in ["n", "node-7.eu_west", "0"] {
            assert_eq!(check_node(good), Ok(()));
        }
        let long = "n".repeat(NODE_BYTES_MAX + 1);
        for bad in [
            "",
            ".",
            "-n",
            "a b",
            "a/b",
            "a\nb",
            "ä",
            "a\u{1b}[31m",
            &long,
        ] {
            let error = check_node(bad).unwrap_err().to_string();
            assert!(!error.chars().any(char::is_control), "{error:?}");
        }
        let labels = |name: &str, value: &str| Labels::from([(name.into(), value.into())]);
        assert_eq!(check_labels(&labels("zone", "eu-1")), Ok(()));
        assert!(check_labels(&labels("", "eu-1")).is_err());
        assert!(check_labels(&labels("zone", "a\nb")).is_err());
    }
}
