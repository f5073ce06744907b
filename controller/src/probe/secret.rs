//! Secrets: read when the run starts, sent to whom they are for, and shown to nobody.

use super::ProbeError;
use squall_experiments::secret::{Said, SecretRef};
use std::fmt;
use std::io::Read;
use std::sync::Arc;

/// Tokens and passwords are shorter; a path that is not a secret's is not read to its end.
const SECRET_BYTES_MAX: u64 = 64 << 10;

/// What stands for a secret where it would be shown.
const HIDDEN: &str = "•••";

/// A secret's value. It has no way to be printed.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(Arc<str>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

impl Secret {
    /// Reads it from where the file says that it is. Blanks around it are not part of it: editors leave a line break.
    pub(crate) fn read(probe: &str, place: &SecretRef) -> Result<Self, ProbeError> {
        let missing = |why: String| ProbeError::Secret {
            probe: probe.to_owned(),
            place: place.to_string(),
            why,
        };
        let text = match place {
            SecretRef::Env(name) => std::env::var(name).map_err(|error| match error {
                std::env::VarError::NotPresent => missing("it is not set".into()),
                // Its own words would quote the value.
                std::env::VarError::NotUnicode(_) => missing("it is not text".into()),
            })?,
            SecretRef::File(path) => read(path).map_err(|error| missing(error.to_string()))?,
        };
        match text.trim() {
            "" => Err(missing("it is empty".into())),
            text => Ok(Self(text.into())),
        }
    }

    /// One that is at hand: a kubeconfig holds it.
    pub(super) fn at_hand(text: &str) -> Self {
        Self(text.into())
    }

    /// The value, for the one line that sends it.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

fn read(path: &str) -> std::io::Result<String> {
    let mut text = String::new();
    let file = std::fs::File::open(path)?;
    file.take(SECRET_BYTES_MAX).read_to_string(&mut text)?;
    Ok(text)
}

/// The secrets of one probe, to be taken out of whatever its other side says: some services quote what they refuse.
#[derive(Debug, Clone, Default)]
pub(super) struct Secrets(Vec<Secret>);

impl Secrets {
    /// Reads a secret and remembers it.
    pub(super) fn read(&mut self, probe: &str, place: &SecretRef) -> Result<Secret, ProbeError> {
        let secret = Secret::read(probe, place)?;
        self.0.push(secret.clone());
        Ok(secret)
    }

    /// Remembers one that is at hand.
    pub(super) fn keep(&mut self, secret: Secret) {
        self.0.push(secret);
    }

    /// A text that may be a secret, for the one line that sends it.
    pub(super) fn said(&mut self, probe: &str, said: &Said) -> Result<(String, bool), ProbeError> {
        Ok(match said {
            Said::Plain(text) => (text.clone(), false),
            Said::Secret(place) => (self.read(probe, place)?.reveal().to_owned(), true),
        })
    }

    /// A text without any of the secrets.
    pub(super) fn hide(&self, text: String) -> String {
        self.0.iter().fold(text, |text, secret| {
            if text.contains(secret.reveal()) {
                text.replace(secret.reveal(), HIDDEN)
            } else {
                text
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from_file(text: &str) -> Result<Secret, ProbeError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, text).unwrap();
        Secret::read("p", &SecretRef::File(path.display().to_string()))
    }

    #[test]
    fn a_secret_is_never_shown() {
        let secret = from_file("hunter2\n").unwrap();
        assert_eq!(secret.reveal(), "hunter2");
        let mut secrets = Secrets::default();
        secrets.0.push(secret.clone());
        let shown = format!("{secret:?} {secret} {:?} {secrets:?}", Some(&secret));
        assert!(!shown.contains("hunter2"), "{shown}");
        let said = secrets.hide("the token hunter2 is not known".into());
        assert_eq!(said, "the token ••• is not known");
    }

    #[test]
    fn a_missing_secret_is_named_by_its_place() {
        let gone = Secret::read("p", &SecretRef::File("/no/such/token".into())).unwrap_err();
        assert!(gone.to_string().contains("/no/such/token"), "{gone}");
        let unset = SecretRef::Env("SQUALL_TEST_NO_SUCH_VARIABLE".into());
        let unset = Secret::read("p", &unset).unwrap_err().to_string();
        assert!(unset.contains("`SQUALL_TEST_NO_SUCH_VARIABLE`"), "{unset}");
        assert!(unset.contains("not set"), "{unset}");
        let empty = from_file(" \n").unwrap_err().to_string();
        assert!(empty.contains("empty"), "{empty}");
    }
}
