//! Memory that is taken.

use crate::units::{ByteRate, ByteSize, Percent};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

/// An amount of memory: bytes, or a share of a limit. Text: `512MiB` or `80%`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MemorySize {
    /// So many bytes.
    Bytes(ByteSize),
    /// A share of what [`Memory::of`] names.
    Share(Percent),
}

/// What a share of memory is a share of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum MemoryBase {
    /// The memory limit of the target's cgroup; refused where it has none.
    #[default]
    Target,
    /// The node's memory.
    Host,
}

/// Memory is taken inside the target's cgroup and kept resident.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Memory {
    /// How much.
    pub size: MemorySize,
    /// What a share is a share of.
    #[serde(default)]
    pub of: MemoryBase,
    /// How fast it grows; as fast as the machine can where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<ByteRate>,
    /// What is always left free below the limit, so that the target is squeezed and not killed.
    #[serde(default = "Memory::reserve_default")]
    pub reserve: ByteSize,
}

impl Memory {
    /// 16 MiB.
    #[must_use]
    pub fn reserve_default() -> ByteSize {
        // Enough for a process to handle an error and for the kernel to reclaim at all.
        const RESERVE_BYTES: u64 = 16 << 20;
        ByteSize::new(RESERVE_BYTES).unwrap_or(Self::NO_RESERVE)
    }

    const NO_RESERVE: ByteSize = match ByteSize::new(0) {
        Some(size) => size,
        None => unreachable!(),
    };
}

impl fmt::Display for MemorySize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(bytes) => bytes.fmt(f),
            Self::Share(share) => share.fmt(f),
        }
    }
}

impl std::str::FromStr for MemorySize {
    type Err = crate::units::UnitError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.trim_end().ends_with('%') {
            text.parse().map(Self::Share)
        } else {
            text.parse().map(Self::Bytes)
        }
    }
}

impl Serialize for MemorySize {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for MemorySize {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for MemorySize {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "MemorySize".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "description": "Bytes (512MiB) or a share (80%)" })
    }
}
