//! Faults on a file system: it is filled, or kept busy.

use crate::units::{ByteRate, ByteSize, Frequency, Percent, UnitError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A folder, by its whole path as the target sees it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FolderPath(String);

/// Why a text is no path of a folder; says how to mend it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// It depends on where one stands.
    #[error("`{0}` does not begin with `/`: write the whole path, such as `/var/lib/orders`")]
    Relative(String),
    /// It goes up again.
    #[error("`{0}` has `..` in it: write the path without detours")]
    Upwards(String),
    /// `PATH_MAX`, or a NUL.
    #[error("a path of {0} bytes cannot be one: it has up to 4095, and no NUL among them")]
    Impossible(usize),
}

impl FolderPath {
    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for FolderPath {
    type Err = PathError;
    fn from_str(text: &str) -> Result<Self, PathError> {
        /// limits.h, less the NUL at the end.
        const PATH_BYTES_MOST: usize = 4095;
        if text.len() > PATH_BYTES_MOST || text.contains('\0') {
            return Err(PathError::Impossible(text.len()));
        }
        if !text.starts_with('/') {
            return Err(PathError::Relative(text.to_owned()));
        }
        if text.split('/').any(|part| part == "..") {
            return Err(PathError::Upwards(text.to_owned()));
        }
        // One spelling for one folder, so that two files that mean the same have the same digest.
        let parts: Vec<&str> = text
            .split('/')
            .filter(|part| !part.is_empty() && *part != ".")
            .collect();
        Ok(Self(format!("/{}", parts.join("/"))))
    }
}

impl fmt::Display for FolderPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Text on the wire for what is read and written as text.
macro_rules! as_text {
    ($name:ident, $description:literal) => {
        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let text = String::deserialize(d)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
        impl JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string", "description": $description })
            }
        }
    };
}
as_text!(FolderPath, "A folder's whole path");
as_text!(IoRate, "Bytes (20MiB/s) or operations (200/s)");

/// A file system is filled by an unnamed file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Fill {
    /// A folder on it.
    pub path: FolderPath,
    /// How far.
    pub goal: FillGoal,
    /// How fast; as fast as the file system can where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<ByteRate>,
    /// What is always left free; given back where others come to need it. Not with [`FillGoal::Leave`], which says it.
    #[serde(default = "Fill::reserve_default")]
    pub reserve: ByteSize,
}

/// How far a file system is filled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum FillGoal {
    /// By so many bytes.
    Size(ByteSize),
    /// Until so much of it is in use, as `df` counts.
    To(Percent),
    /// Until no more than this is free.
    Leave(ByteSize),
}

impl Fill {
    /// 64 MiB.
    #[must_use]
    pub fn reserve_default() -> ByteSize {
        // Enough for a journal, a log and a core file of a small service; a node whose root file system is full to
        // the last byte is hard to enter.
        const RESERVE_BYTES: u64 = 64 << 20;
        ByteSize::new(RESERVE_BYTES).unwrap_or(NOTHING)
    }
}

const NOTHING: ByteSize = match ByteSize::new(0) {
    Some(size) => size,
    None => unreachable!(),
};

impl fmt::Display for Fill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.goal {
            FillGoal::Size(size) => write!(f, "fill {size} at {}", self.path),
            FillGoal::To(share) => write!(f, "fill {} to {share}", self.path),
            FillGoal::Leave(size) => write!(f, "fill {} but for {size}", self.path),
        }
    }
}

/// How much is read or written per second. Text: `20MiB/s` or `200/s`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum IoRate {
    /// So many bytes.
    Bytes(ByteRate),
    /// So many operations.
    Operations(Frequency),
}

impl fmt::Display for IoRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(rate) => rate.fmt(f),
            Self::Operations(rate) => rate.fmt(f),
        }
    }
}

impl FromStr for IoRate {
    type Err = UnitError;
    fn from_str(text: &str) -> Result<Self, UnitError> {
        let unit = text.trim_start_matches(|c: char| c.is_ascii_digit() || "._ ".contains(c));
        if unit.starts_with('/') {
            text.parse().map(Self::Operations)
        } else {
            text.parse().map(Self::Bytes)
        }
    }
}

/// A file system is kept busy through an unnamed file: reads and writes past the page cache, and syncs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Io {
    /// A folder on it.
    pub path: FolderPath,
    /// Reads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read: Option<IoRate>,
    /// Writes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub write: Option<IoRate>,
    /// Small writes with an `fdatasync` each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sync: Option<Frequency>,
    /// The size of one read or write; [`Io::block_of`] where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block: Option<ByteSize>,
    /// The size of the file that is read and written.
    #[serde(default = "Io::file_default")]
    pub file: ByteSize,
}

impl Io {
    /// The least block, and what every block is a multiple of: what direct I/O needs on any disk.
    pub const BLOCK_LEAST: u64 = 4 << 10;
    /// The greatest block.
    pub const BLOCK_MOST: u64 = 4 << 20;
    /// The least file.
    pub const FILE_LEAST: u64 = 1 << 20;
    /// The greatest file: it is written once before it is read.
    pub const FILE_MOST: u64 = 1 << 30;

    /// 16 MiB.
    #[must_use]
    pub fn file_default() -> ByteSize {
        // Written within the time that an arming has on a disk of 10 MiB/s; past the page cache, more is not slower.
        const FILE_BYTES: u64 = 16 << 20;
        ByteSize::new(FILE_BYTES).unwrap_or(NOTHING)
    }

    /// The bytes of one operation at this rate: 64 KiB where bytes are counted, 4 KiB where operations are.
    #[must_use]
    pub fn block_of(&self, rate: IoRate) -> u64 {
        const FOR_BYTES: u64 = 64 << 10;
        self.block.map_or(
            match rate {
                IoRate::Bytes(_) => FOR_BYTES,
                IoRate::Operations(_) => Self::BLOCK_LEAST,
            },
            ByteSize::get,
        )
    }
}

impl fmt::Display for Io {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("io")?;
        let rates = [("read", self.read), ("write", self.write)];
        for (what, rate) in rates {
            rate.map_or(Ok(()), |rate| write!(f, " {what} {rate}"))?;
        }
        self.sync.map_or(Ok(()), |rate| write!(f, " sync {rate}"))?;
        write!(f, " at {}", self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_has_one_spelling() {
        let path = |text: &str| text.parse::<FolderPath>().map(|path| path.to_string());
        assert_eq!(
            path("/var//lib/./orders/"),
            Ok("/var/lib/orders".to_owned())
        );
        assert_eq!(path("//"), Ok("/".to_owned()));
        assert!(matches!(path("var/lib"), Err(PathError::Relative(_))));
        assert!(matches!(path("/var/.."), Err(PathError::Upwards(_))));
        assert!(matches!(path("/a\0b"), Err(PathError::Impossible(4))));
        assert!(path("/var/..lib").is_ok());
    }

    #[test]
    fn a_rate_counts_bytes_or_operations() {
        let rate = |text: &str| text.parse::<IoRate>();
        assert!(matches!(rate("20MiB/s"), Ok(IoRate::Bytes(rate)) if rate.get() == 20 << 20));
        assert!(matches!(rate("1.5/s"), Ok(IoRate::Operations(_))));
        assert!(matches!(rate("90 /min"), Ok(IoRate::Operations(_))));
        assert!(rate("20").is_err() && rate("20MiB").is_err() && rate("/s").is_err());
        for text in ["20MiB/s", "1.5/s"] {
            assert_eq!(rate(text).map(|rate| rate.to_string()), Ok(text.to_owned()));
        }
    }
}
