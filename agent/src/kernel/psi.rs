//! Pressure stall information: how much of the time work waited for memory (Documentation/accounting/psi.rst).

/// How long tasks have stalled for memory in total, in microseconds, read from a `memory.pressure` or
/// `/proc/pressure/memory` text (the `some` line). `None` when the kernel has no such account.
pub(crate) fn stalled_us(text: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.starts_with("some "))?;
    let total = line.split("total=").nth(1)?;
    total.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_is_found() {
        let text = "some avg10=0.12 avg60=0.00 avg300=0.00 total=1234\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=99\n";
        assert_eq!(stalled_us(text), Some(1234));
        assert_eq!(stalled_us(""), None);
    }
}
