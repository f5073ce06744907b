//! One question to a name server each interval.

use super::{Trouble, every_default, timeout_default};
use crate::units::{Interval, Timeout};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One question each interval; success is an answer without an error that has at least one record of the type
/// asked for. How many there are is `value`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Dns {
    /// Who is asked, with the port; the first name server of `/etc/resolv.conf` where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// What is asked for: up to 253 letters, without the dot at the end.
    pub name: String,
    /// The type of the records.
    #[serde(rename = "type", default)]
    pub kind: RecordType,
    /// How it is asked; over UDP an answer that does not fit is fetched over TCP.
    #[serde(default)]
    pub transport: DnsTransport,
    /// After this the question counts as failed.
    #[serde(default = "timeout_default")]
    pub timeout: Timeout,
    /// How often.
    #[serde(default = "every_default")]
    pub every: Interval,
    /// What becomes of an attempt without an answer.
    #[serde(default, skip_serializing_if = "Trouble::is_default")]
    pub trouble: Trouble,
}

/// What a record says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum RecordType {
    /// An IPv4 address.
    #[default]
    A,
    /// An IPv6 address.
    Aaaa,
    /// Another name for the same.
    Cname,
    /// A text.
    Txt,
    /// A service's host and port.
    Srv,
    /// A mail server.
    Mx,
}

impl RecordType {
    /// Every type, in the order of a list for people.
    pub const ALL: [Self; 6] = [
        Self::A,
        Self::Aaaa,
        Self::Cname,
        Self::Txt,
        Self::Srv,
        Self::Mx,
    ];

    /// The word for it in a file.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::A => "A",
            Self::Aaaa => "AAAA",
            Self::Cname => "CNAME",
            Self::Txt => "TXT",
            Self::Srv => "SRV",
            Self::Mx => "MX",
        }
    }

    /// Its number in a message (RFC 1035, 2782 and 3596).
    #[must_use]
    pub const fn number(self) -> u16 {
        match self {
            Self::A => 1,
            Self::Cname => 5,
            Self::Mx => 15,
            Self::Txt => 16,
            Self::Aaaa => 28,
            Self::Srv => 33,
        }
    }
}

/// How a name server is asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DnsTransport {
    /// One packet there and one back; what gets lost is not sent again.
    #[default]
    Udp,
    /// One connection for each question.
    Tcp,
}
