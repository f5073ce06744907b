//! Quantities as people write them: always with a unit, always with a limit.
//!
//! Each type keeps an integer in one unit, reads every spelling a person would use and writes one
//! canonical spelling, so that two files that mean the same have the same digest.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Why a quantity could not be read. The text says what is wrong and how to mend it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    /// There is no number at the start.
    #[error("`{text}` is not {what}: write a number and a unit, such as `{example}`")]
    NotANumber {
        /// What was written.
        text: String,
        /// What was wanted, with its article.
        what: &'static str,
        /// A spelling that would be accepted.
        example: &'static str,
    },
    /// A bare number where a unit belongs.
    #[error("`{text}` has no unit: {what} needs one, such as `{example}`")]
    NoUnit {
        /// What was written.
        text: String,
        /// What was wanted, with its article.
        what: &'static str,
        /// A spelling that would be accepted.
        example: &'static str,
    },
    /// A unit that this quantity does not have.
    #[error("`{unit}` is not a unit of {what}: use one of {known}")]
    UnknownUnit {
        /// The unit that was written.
        unit: String,
        /// What was wanted, with its article.
        what: &'static str,
        /// The units there are.
        known: &'static str,
    },
    /// Outside the limits.
    #[error("`{text}` is outside what {what} may be: from {least} to {most}")]
    OutOfRange {
        /// What was written.
        text: String,
        /// What was wanted, with its article.
        what: &'static str,
        /// The least that is accepted.
        least: String,
        /// The most that is accepted.
        most: String,
    },
}

/// Splits `300ms` into the number and the unit; the number may have a fraction and blanks after it.
fn split(text: &str) -> Option<(f64, &str)> {
    let text = text.trim();
    let end = text
        .char_indices()
        .find(|(_, c)| !(c.is_ascii_digit() || *c == '.' || *c == '_'))
        .map_or(text.len(), |(at, _)| at);
    let digits: String = text[..end].chars().filter(|c| *c != '_').collect();
    let number: f64 = digits.parse().ok()?;
    number.is_finite().then_some((number, text[end..].trim()))
}

/// What a kind of quantity is called and which units it has, for reading and for messages.
struct Kind {
    what: &'static str,
    example: &'static str,
    known: &'static str,
    /// The unit's spelling and its size in the base unit.
    units: &'static [(&'static str, f64)],
}

impl Kind {
    /// Reads a quantity in the base unit, rounded to a whole number of it.
    fn read(&self, text: &str) -> Result<u64, UnitError> {
        let (number, unit) = split(text).ok_or_else(|| UnitError::NotANumber {
            text: text.to_owned(),
            what: self.what,
            example: self.example,
        })?;
        if unit.is_empty() {
            return Err(UnitError::NoUnit {
                text: text.to_owned(),
                what: self.what,
                example: self.example,
            });
        }
        let size = self.units.iter().find(|(name, _)| *name == unit);
        let (_, size) = size.ok_or_else(|| UnitError::UnknownUnit {
            unit: unit.to_owned(),
            what: self.what,
            known: self.known,
        })?;
        // 2^63 keeps the conversion below exact enough and the sum of two quantities from wrapping.
        let value = (number * size).round();
        if value > 9.2e18 {
            return Err(UnitError::OutOfRange {
                text: text.to_owned(),
                what: self.what,
                least: format!("0{}", self.units[0].0),
                most: format!("{:e}{}", 9.2e18, self.units[0].0),
            });
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "checked: finite, not negative, below 2^63"
        )]
        Ok(value as u64)
    }
}

/// Writes `value` in the largest unit that leaves a whole number.
fn write_largest(f: &mut fmt::Formatter<'_>, value: u64, units: &[(&str, u64)]) -> fmt::Result {
    let whole = units
        .iter()
        .find(|(_, size)| value.is_multiple_of(*size) && value >= *size);
    let (name, size) = whole.or(units.last()).copied().unwrap_or(("", 1));
    write!(f, "{}{name}", value / size)
}

/// A bounded quantity: text on the wire and in files, an integer of its base unit inside.
macro_rules! quantity {
    ($(#[$doc:meta])* $name:ident, $kind:expr, $base:literal, $least:expr, $most:expr, $show:expr, $pattern:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(u64);

        impl $name {
            /// The least value, in the base unit.
            pub const LEAST: u64 = $least;
            /// The greatest value, in the base unit.
            pub const MOST: u64 = $most;

            #[doc = concat!("From a number of ", $base, "; `None` outside the limits.")]
            #[must_use]
            pub const fn new(value: u64) -> Option<Self> {
                if value >= Self::LEAST && value <= Self::MOST { Some(Self(value)) } else { None }
            }

            #[doc = concat!("The value in ", $base, ".")]
            #[must_use]
            pub const fn get(self) -> u64 {
                self.0
            }
        }

        impl FromStr for $name {
            type Err = UnitError;
            fn from_str(text: &str) -> Result<Self, UnitError> {
                let value = $kind.read(text)?;
                Self::new(value).ok_or_else(|| UnitError::OutOfRange {
                    text: text.to_owned(),
                    what: $kind.what,
                    least: Self(Self::LEAST).to_string(),
                    most: Self(Self::MOST).to_string(),
                })
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                $show(f, self.0)
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let text = String::deserialize(d)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }

        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({
                    "type": "string",
                    "pattern": $pattern,
                    "description": format!("{} from {} to {}", $kind.what, Self(Self::LEAST), Self(Self::MOST)),
                })
            }
        }
    };
}

const SPAN: Kind = Kind {
    what: "a time",
    example: "300ms",
    known: "ns, us, ms, s, min, h",
    units: &[
        ("ns", 1.0),
        ("us", 1e3),
        ("µs", 1e3),
        ("ms", 1e6),
        ("s", 1e9),
        ("sec", 1e9),
        ("m", 6e10),
        ("min", 6e10),
        ("h", 3.6e12),
    ],
};

fn show_span(f: &mut fmt::Formatter<'_>, ns: u64) -> fmt::Result {
    const UNITS: [(&str, u64); 6] = [
        ("h", 3_600_000_000_000),
        ("min", 60_000_000_000),
        ("s", 1_000_000_000),
        ("ms", 1_000_000),
        ("us", 1_000),
        ("ns", 1),
    ];
    if ns == 0 {
        f.write_str("0s")
    } else {
        write_largest(f, ns, &UNITS)
    }
}

const MS: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MS;
const HOUR: u64 = 3_600 * SECOND;

/// A time type: the quantity, and its `Duration`.
macro_rules! span {
    ($(#[$doc:meta])* $name:ident, $least:expr, $most:expr) => {
        quantity!($(#[$doc])* $name, SPAN, "nanoseconds", $least, $most, show_span,
            r"^[0-9][0-9_.]* *(ns|us|µs|ms|s|sec|m|min|h)$");
        impl $name {
            /// As the standard library has it.
            #[must_use]
            pub const fn duration(self) -> Duration {
                Duration::from_nanos(self.0)
            }
            /// The nearest value of this type: what is below or above the limits becomes the limit.
            #[must_use]
            pub fn clamped(duration: Duration) -> Self {
                let ns = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
                Self(ns.clamp(Self::LEAST, Self::MOST))
            }
        }
    };
}

span!(/// How late a packet is made: at most 60 s, past which no transport waits and the fault is a partition.
    Delay, 0, 60 * SECOND);
span!(/// How long a phase of a run lasts: from 100 ms to 2 h, the longest that the default node policy lets a fault stay.
    Hold, 100 * MS, 2 * HOUR);
span!(/// How long an agent keeps a fault without word from the controller: from 200 ms to 60 s.
    Lease, 200 * MS, 60 * SECOND);
span!(/// How often a probe or a crash loop acts: from 10 ms to 1 h.
    Interval, 10 * MS, HOUR);
span!(/// How long an answer is waited for: from 1 ms to 10 min.
    Timeout, MS, 600 * SECOND);
span!(/// How late something may still begin: up to a week.
    Wait, 0, 7 * 24 * HOUR);
span!(/// A latency bound in an expectation: up to 10 min.
    Latency, 0, 600 * SECOND);

const AGE: Kind = Kind {
    what: "a time",
    example: "14d",
    known: "s, min, h, d",
    units: &[
        ("s", 1.0),
        ("m", 60.0),
        ("min", 60.0),
        ("h", 3600.0),
        ("d", 86_400.0),
    ],
};
const SHOW_AGE: [(&str, u64); 4] = [("d", 86_400), ("h", 3600), ("min", 60), ("s", 1)];
quantity!(/// How long something stays true or is kept: from 1 s to 3,650 days.
    Age, AGE, "seconds", 1, 3650 * 86_400, |f: &mut fmt::Formatter<'_>, v| write_largest(f, v, &SHOW_AGE),
    r"^[0-9][0-9_.]* *(s|m|min|h|d)$");
impl Age {
    /// So many days, up to the most.
    #[must_use]
    pub fn days(days: u32) -> Self {
        Self((u64::from(days) * 86_400).clamp(Self::LEAST, Self::MOST))
    }
    /// As the standard library has it.
    #[must_use]
    pub const fn duration(self) -> Duration {
        Duration::from_secs(self.0)
    }
}

const BYTES: Kind = Kind {
    what: "a size",
    example: "512MiB",
    known: "B, KB, MB, GB, TB (powers of 1000), KiB, MiB, GiB, TiB (powers of 1024)",
    units: &[
        ("B", 1.0),
        ("KB", 1e3),
        ("kB", 1e3),
        ("MB", 1e6),
        ("GB", 1e9),
        ("TB", 1e12),
        ("KiB", 1024.0),
        ("MiB", 1_048_576.0),
        ("GiB", 1_073_741_824.0),
        ("TiB", 1_099_511_627_776.0),
    ],
};
const SHOW_BYTES: [(&str, u64); 5] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("B", 1),
];
quantity!(/// An amount of memory or data, up to 1 PiB.
    ByteSize, BYTES, "bytes", 0, 1 << 50, |f: &mut fmt::Formatter<'_>, v| write_largest(f, v, &SHOW_BYTES),
    r"^[0-9][0-9_.]* *(B|[kK]B|MB|GB|TB|KiB|MiB|GiB|TiB)$");

const BYTE_RATE: Kind = Kind {
    what: "a growth rate",
    example: "100MiB/s",
    known: "B/s, KB/s, MB/s, GB/s, KiB/s, MiB/s, GiB/s",
    units: &[
        ("B/s", 1.0),
        ("KB/s", 1e3),
        ("kB/s", 1e3),
        ("MB/s", 1e6),
        ("GB/s", 1e9),
        ("KiB/s", 1024.0),
        ("MiB/s", 1_048_576.0),
        ("GiB/s", 1_073_741_824.0),
    ],
};
quantity!(/// How fast something grows: from 4 KiB/s to 1 TiB/s.
    ByteRate, BYTE_RATE, "bytes per second", 4096, 1 << 40,
    |f: &mut fmt::Formatter<'_>, v| { write_largest(f, v, &SHOW_BYTES)?; f.write_str("/s") },
    r"^[0-9][0-9_.]* *(B|[kK]B|MB|GB|KiB|MiB|GiB)/s$");

const BIT_RATE: Kind = Kind {
    what: "a bit rate",
    example: "10mbit",
    known: "bit, kbit, mbit, gbit (per second; not kbps, which means bytes to some tools and bits to others)",
    units: &[
        ("bit", 1.0),
        ("kbit", 1e3),
        ("mbit", 1e6),
        ("gbit", 1e9),
        ("bit/s", 1.0),
        ("kbit/s", 1e3),
        ("mbit/s", 1e6),
        ("gbit/s", 1e9),
        ("Kbit", 1e3),
        ("Mbit", 1e6),
        ("Gbit", 1e9),
        ("Kbit/s", 1e3),
        ("Mbit/s", 1e6),
        ("Gbit/s", 1e9),
    ],
};
quantity!(/// A throughput limit in bits per second: from 8 kbit (1,000 bytes a second) to 400 gbit.
    BitRate, BIT_RATE, "bits per second", 8_000, 400_000_000_000,
    |f: &mut fmt::Formatter<'_>, v| write_largest(f, v, &[("gbit", 1_000_000_000), ("mbit", 1_000_000), ("kbit", 1_000), ("bit", 1)]),
    r"^[0-9][0-9_.]* *[kmgKMG]?bit(/s)?$");

const PERCENT: Kind = Kind {
    what: "a percentage",
    example: "30%",
    known: "%",
    units: &[("%", 1e4)],
};
fn show_percent(f: &mut fmt::Formatter<'_>, millionths: u64) -> fmt::Result {
    let whole = millionths / 10_000;
    let rest = format!("{:04}", millionths % 10_000);
    match rest.trim_end_matches('0') {
        "" => write!(f, "{whole}%"),
        digits => write!(f, "{whole}.{digits}%"),
    }
}
quantity!(/// A share of a whole, from 0 % to 100 %, kept in millionths.
    Percent, PERCENT, "millionths", 0, 1_000_000, show_percent, r"^[0-9][0-9_.]* *%$");
quantity!(/// A load that may exceed one whole (several cores), from 1 % to 100,000 %, kept in millionths.
    LoadPercent, PERCENT, "millionths", 10_000, 1_000_000_000, show_percent, r"^[0-9][0-9_.]* *%$");

impl Percent {
    /// All of it.
    pub const ALL: Self = Self(1_000_000);
    /// Nothing of it.
    pub const NONE: Self = Self(0);
    /// As a fraction from 0 to 1.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "at most one million")]
    pub fn fraction(self) -> f64 {
        self.0 as f64 / 1e6
    }
}

impl LoadPercent {
    /// As a multiple of one whole.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "at most a billion")]
    pub fn fraction(self) -> f64 {
        self.0 as f64 / 1e6
    }
}

const FREQUENCY: Kind = Kind {
    what: "a rate",
    example: "50/s",
    known: "/s, /min, /h",
    units: &[("/s", 1e3), ("/min", 1e3 / 60.0), ("/h", 1e3 / 3600.0)],
};
quantity!(/// How often per second, kept in thousandths: from 0.001/s to 100,000/s.
    Frequency, FREQUENCY, "thousandths per second", 1, 100_000_000,
    |f: &mut fmt::Formatter<'_>, v: u64| {
        let rest = format!("{:03}", v % 1000);
        match rest.trim_end_matches('0') {
            "" => write!(f, "{}/s", v / 1000),
            digits => write!(f, "{}.{digits}/s", v / 1000),
        }
    },
    r"^[0-9][0-9_.]* */(s|min|h)$");

impl Frequency {
    /// Times per second.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "at most 10^8")]
    pub fn per_second(self) -> f64 {
        self.0 as f64 / 1e3
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_value_are_equal_and_written_one_way() {
        for text in ["300ms", "0.3s", "300_000us", "300 ms"] {
            assert_eq!(
                text.parse::<Delay>().unwrap().to_string(),
                "300ms",
                "{text}"
            );
        }
        assert_eq!("99.90%".parse::<Percent>().unwrap().to_string(), "99.9%");
        assert_eq!("1024MiB".parse::<ByteSize>().unwrap().to_string(), "1GiB");
        assert_eq!("1000kbit".parse::<BitRate>().unwrap().to_string(), "1mbit");
        assert_eq!("90/min".parse::<Frequency>().unwrap().to_string(), "1.5/s");
    }

    #[test]
    fn what_is_wrong_is_said() {
        assert!(matches!(
            "300".parse::<Delay>(),
            Err(UnitError::NoUnit { .. })
        ));
        assert!(matches!(
            "300parsec".parse::<Delay>(),
            Err(UnitError::UnknownUnit { .. })
        ));
        assert!(matches!(
            "61s".parse::<Delay>(),
            Err(UnitError::OutOfRange { .. })
        ));
        assert!(matches!(
            "-1s".parse::<Delay>(),
            Err(UnitError::NotANumber { .. })
        ));
        assert!(matches!(
            "1e400%".parse::<Percent>(),
            Err(UnitError::UnknownUnit { .. })
        ));
        assert!(matches!(
            "99999999999999999999h".parse::<Delay>(),
            Err(UnitError::OutOfRange { .. })
        ));
        assert!(matches!(
            "1.2.3s".parse::<Delay>(),
            Err(UnitError::NotANumber { .. })
        ));
    }
}
