//! The lab in which Squall is tested: throw-away VMs, network worlds, victims and probes.

#![forbid(unsafe_code)]

pub mod tidy;
pub mod verify;
pub mod vm;
pub mod world;

/// An error with everything that caused it, in one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}
