//! The node itself: an interface that is down, and the two ends of a node that nothing takes back.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

/// An interface is down: whoever speaks over it has no link. What the kernel forgets with it (routes, IPv6 addresses) is
/// written down before, and put back: see [`super::Holding::Journal`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NicDown {
    /// Which, as it is called inside the target's network namespace.
    pub interface: InterfaceName,
}

/// The name of a network interface, as the kernel allows it (`dev_valid_name`): 1 to 15 bytes, no `/`, `:` or white space.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
pub struct InterfaceName(String);

/// Why something is not an interface's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` cannot be an interface's name: 1 to 15 bytes, without `/`, `:` and white space")]
pub struct InterfaceNameError(String);

impl InterfaceName {
    /// The longest, in bytes (`IFNAMSIZ` without its NUL).
    pub const BYTES_MAX: usize = 15;

    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for InterfaceName {
    type Err = InterfaceNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::try_from(text.to_owned())
    }
}

impl TryFrom<String> for InterfaceName {
    type Error = InterfaceNameError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let odd = |c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control();
        if text.is_empty()
            || text.len() > Self::BYTES_MAX
            || matches!(text.as_str(), "." | "..")
            || text.contains(odd)
        {
            return Err(InterfaceNameError(text));
        }
        Ok(Self(text))
    }
}

impl From<InterfaceName> for String {
    fn from(name: InterfaceName) -> Self {
        name.0
    }
}

/// The node starts anew, without being asked: see [`super::Holding::Nothing`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Reboot {
    /// That this is known.
    pub irreversible: Irreversible,
}

/// The node is off: see [`super::Holding::Nothing`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Shutdown {
    /// That this is known.
    pub irreversible: Irreversible,
}

/// The word, `true`, without which there is no fault that nothing takes back. There is no other value of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "bool", into = "bool")]
pub struct Irreversible;

impl TryFrom<bool> for Irreversible {
    type Error = &'static str;

    fn try_from(known: bool) -> Result<Self, Self::Error> {
        known
            .then_some(Self)
            .ok_or("nothing takes it back: it is injected only with `irreversible: true`")
    }
}

impl From<Irreversible> for bool {
    fn from(Irreversible: Irreversible) -> Self {
        true
    }
}

impl fmt::Display for InterfaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for NicDown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "nicDown {}", self.interface)
    }
}
