//! Pressure stall information: how much of the time work waited (Documentation/accounting/psi.rst).

/// Which work is meant, by the beginning of its line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Line {
    /// Some of it waited, while other work may have gone on.
    Some,
    /// All of it waited at once: nothing was done.
    Full,
}

impl Line {
    /// Its word in the account.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Some => "some",
            Self::Full => "full",
        }
    }
}

/// For how long work has stood still in total, in microseconds, read from a text such as `/proc/pressure/memory` has.
/// `None` when the kernel has no such account.
pub(crate) fn stalled_us(text: &str, line: Line) -> Option<u64> {
    let of = |at: &str| at.strip_prefix(line.word()).map(str::to_owned);
    let total = text.lines().find_map(of)?;
    total.split("total=").nth(1)?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_is_found() {
        let text = "some avg10=0.12 avg60=0.00 avg300=0.00 total=1234\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=99\n";
        assert_eq!(stalled_us(text, Line::Some), Some(1234));
        assert_eq!(stalled_us(text, Line::Full), Some(99));
        assert_eq!(stalled_us("", Line::Some), None);
    }
}
