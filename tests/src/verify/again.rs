//! A measurement that failed is taken once more, alone.
//!
//! Tests that measure share their processors with whatever else the machine does, and an emulated machine stands still
//! whenever its host looks away. A second failure is a failure; so is the first one of many. What the first
//! one said is shown either way.

use super::build::TestBinary;
use super::tally::Tally;

/// More failures than this are no accident.
const AGAIN_MAX: usize = 5;

/// Whether the tests of `binary` measure.
pub(super) fn measures(binary: &TestBinary) -> bool {
    binary.package == "agent" || binary.target == super::WORLDS
}

/// `first`, with each of its few failures decided by a second run. `run` runs the tests that the arguments name; `said`
/// hears of those that pass then.
pub(super) fn settle(
    first: Tally,
    mut run: impl FnMut(&[String]) -> Tally,
    mut said: impl FnMut(&str),
) -> Tally {
    if first.failed.len() > AGAIN_MAX {
        return first;
    }
    let mut settled = Tally {
        failed: Vec::new(),
        ..first
    };
    for failure in first.failed {
        // `world: package/target: test`
        let test = failure.name.splitn(3, ": ").nth(2).unwrap_or_default();
        let second = run(&[test.to_owned(), "--exact".to_owned()]);
        if second.failed.is_empty() && second.passed == 1 {
            settled.passed += 1;
            said(&format!(
                "          {} passed when it was run again; first it said:\n{}",
                failure.name,
                failure.text.trim_end()
            ));
        } else {
            settled.failed.push(failure);
        }
    }
    settled
}

#[cfg(test)]
mod tests {
    use super::super::tally::Failure;
    use super::*;

    fn failed(names: &[&str]) -> Tally {
        let failure = |name: &&str| Failure {
            name: format!("vm: tests/worlds: {name}"),
            text: "late".to_owned(),
        };
        Tally {
            passed: 7,
            failed: names.iter().map(failure).collect(),
            skipped: Vec::new(),
        }
    }

    #[test]
    fn a_second_failure_is_a_failure() {
        let mut told = Vec::new();
        let once = |args: &[String]| {
            assert_eq!(args[1], "--exact");
            if args[0] == "dose::unlucky" {
                Tally {
                    passed: 1,
                    ..Tally::default()
                }
            } else {
                failed(&["dose::wrong"])
            }
        };
        let first = failed(&["dose::unlucky", "dose::wrong"]);
        let settled = settle(first, once, |text| told.push(text.to_owned()));
        assert_eq!(settled.line(), "8 passed, 1 failed, 0 skipped");
        assert!(settled.failed[0].name.ends_with("dose::wrong"));
        assert!(told[0].contains("dose::unlucky") && told[0].contains("late"));
    }

    #[test]
    fn a_run_of_nothing_settles_nothing() {
        let settled = settle(failed(&["gone"]), |_| Tally::default(), |_| {});
        assert_eq!(settled.failed.len(), 1);
    }

    #[test]
    fn many_failures_are_no_accident() {
        let all = ["a", "b", "c", "d", "e", "f"];
        let settled = settle(failed(&all), |_| unreachable!(), |_| {});
        assert_eq!(settled.failed.len(), all.len());
    }
}
