//! The names of what a network holder makes: `sq`, the holder's pid, a hyphen, and chance.
//!
//! A link has 15 bytes for its name. The pid tells whose it is (base 36: five digits hold `PID_MAX_LIMIT`, 2^22); the
//! rest keeps two faults of one pid, and holders of other pid namespaces, apart. Whether an ifb is still in use is
//! *not* judged by the pid, which other containers cannot see and which comes round again: it is in use exactly as
//! long as the owned table of the same name is there, and the kernel removes that with its owner.

use crate::kernel::net::links::NAME_BYTES_MAX;
use crate::kernel::net::qdisc::PREFIX;
use std::sync::OnceLock;

const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
const RADIX: u32 = 36;
/// 36^6 is over two thousand million: a clash among the few faults of one holder is not to be met, and refused if it is.
const CHANCE_DIGITS: usize = 6;

static ACTS_FOR: OnceLock<u32> = OnceLock::new();

/// From now on what this process makes bears another holder's pid: that of the pattern whose pulse it holds.
pub(crate) fn act_for(holder: Option<u32>) {
    if let Some(pid) = holder {
        let _ = ACTS_FOR.set(pid);
    }
}

/// A fresh name for something that this process holds.
pub(crate) fn mine() -> String {
    fresh(ACTS_FOR.get().copied().unwrap_or_else(std::process::id))
}

/// A fresh name for something of the holder with that pid.
pub(crate) fn fresh(pid: u32) -> String {
    let chance: String = (0..CHANCE_DIGITS)
        .map(|_| char::from(DIGITS[rand::random_range(0..DIGITS.len())]))
        .collect();
    let name = format!("{PREFIX}{}-{chance}", base36(pid));
    debug_assert!(name.len() <= NAME_BYTES_MAX);
    name
}

/// The pid in a name of ours; `None` for any other name.
pub(crate) fn owner(name: &str) -> Option<u32> {
    let (pid, chance) = name.strip_prefix(PREFIX)?.split_once('-')?;
    let plain = |text: &str| text.bytes().all(|b| DIGITS.contains(&b));
    if pid.is_empty() || chance.len() != CHANCE_DIGITS || !plain(pid) || !plain(chance) {
        return None;
    }
    u32::from_str_radix(pid, RADIX).ok()
}

fn base36(mut number: u32) -> String {
    let mut digits = Vec::new();
    loop {
        digits.push(DIGITS[(number % RADIX) as usize]);
        number /= RADIX;
        if number == 0 {
            break;
        }
    }
    digits.iter().rev().map(|b| char::from(*b)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_fits_a_link_and_tells_its_pid() {
        for pid in [1, 36, 4_194_304] {
            let name = fresh(pid);
            assert!(name.len() <= NAME_BYTES_MAX, "{name}");
            assert_eq!(owner(&name), Some(pid), "{name}");
        }
        assert_ne!(fresh(7), fresh(7));
    }

    #[test]
    fn names_of_others_are_nobodys() {
        for name in [
            "sq",
            "sq-",
            "sqlite0",
            "squid-abcdef1",
            "sq1-ABCDEF",
            "sq-abcdef",
            "veth-abcdef",
            "sq+1-abcdef",
        ] {
            assert_eq!(owner(name), None, "{name}");
        }
    }
}
