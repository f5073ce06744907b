//! Reads what a test binary prints, be it libtest's or libtest-mimic's, here or out of the VM.

use std::io::{self, Write};

use super::tally::{Failure, Skip, Tally};

/// A writer that understands test output line by line and calls `each` for every finished test.
pub(super) struct Transcript<F> {
    prefix: String,
    each: F,
    rest: Vec<u8>,
    part: Part,
    finished: bool,
    passed: Vec<String>,
    tally: Tally,
}

/// What a test binary had come to when the machine under it died.
pub(super) struct Cut {
    /// The names of its tests that had passed, as the binary writes them.
    pub(super) passed: Vec<String>,
    /// Those it had skipped.
    pub(super) skipped: Vec<Skip>,
    /// How the machine died.
    pub(super) ending: String,
}

/// Where in the output we are.
#[derive(PartialEq, Eq)]
enum Part {
    /// `test NAME ... ok`
    Results,
    /// After the first `failures:`: what each failed test said, under a line `---- NAME stdout ----`.
    Details,
    /// After the second `failures:`: their names once more.
    Names,
}

impl<F: FnMut(&str, &str)> Transcript<F> {
    /// Names are given `prefix`; `each` hears every test's name and result.
    pub(super) fn new(prefix: String, each: F) -> Self {
        let (rest, part, tally) = (Vec::new(), Part::Results, Tally::default());
        Self {
            prefix,
            each,
            rest,
            part,
            finished: false,
            passed: Vec::new(),
            tally,
        }
    }

    /// What there is of the results of a binary that never came to its end. Failures count for nothing: what they said is lost.
    pub(super) fn cut(self, ending: String) -> Cut {
        Cut {
            passed: self.passed,
            skipped: self.tally.skipped,
            ending,
        }
    }

    /// The results, once the binary has ended with `ending` (an empty text: exit code 0).
    pub(super) fn end(mut self, ending: &str) -> Tally {
        let rest = std::mem::take(&mut self.rest);
        if !rest.is_empty() {
            self.line(&String::from_utf8_lossy(&rest));
        }
        // A binary that aborts takes its summary with it; one that reports success must end with 0.
        let broken = if !self.finished {
            Some(format!("ended before it had reported its result {ending}"))
        } else if self.tally.failed.is_empty() && !ending.is_empty() {
            Some(format!("reported no failure, but ended {ending}"))
        } else {
            None
        };
        if let Some(text) = broken {
            self.tally.failed.push(Failure {
                name: format!("{}test binary", self.prefix),
                text,
            });
        }
        self.tally
    }

    fn line(&mut self, line: &str) {
        if line == "failures:" {
            self.part = if self.part == Part::Results {
                Part::Details
            } else {
                Part::Names
            };
        } else if let Some(summary) = line.strip_prefix("test result: ") {
            self.summary(summary);
        } else if self.part == Part::Details {
            self.detail(line);
        } else if let Some((name, result)) = line
            .strip_prefix("test ")
            .and_then(|test| test.rsplit_once(" ... "))
        {
            self.result(name.trim(), result);
        }
    }

    fn result(&mut self, name: &str, result: &str) {
        let reason = result
            .strip_prefix("ignored")
            .map(|r| r.trim_matches([' ', ',', '(', ')']));
        if let Some(reason) = reason {
            let reason = if reason.is_empty() {
                "no reason given"
            } else {
                reason
            };
            let skip = Skip {
                name: format!("{}{name}", self.prefix),
                reason: reason.to_owned(),
            };
            self.tally.skipped.push(skip);
        } else if result == "ok" {
            self.passed.push(name.to_owned());
        }
        (self.each)(name, result);
    }

    fn detail(&mut self, line: &str) {
        let head = line
            .strip_prefix("---- ")
            .and_then(|l| l.strip_suffix(" ----"));
        if let Some(name) = head {
            let name = format!("{}{}", self.prefix, name.trim_end_matches(" stdout"));
            self.tally.failed.push(Failure {
                name,
                text: String::new(),
            });
        } else if let Some(failure) = self.tally.failed.last_mut() {
            failure.text.push_str(line);
            failure.text.push('\n');
        }
    }

    /// `ok. 7 passed; 0 failed; …`: the count of the passed is the harness's own; a failure without
    /// details is added. Doc tests come as several such summaries after each other.
    fn summary(&mut self, summary: &str) {
        let number = |word: &str| -> usize {
            let part = summary
                .split(['.', ';'])
                .find_map(|part| part.trim().strip_suffix(word));
            part.and_then(|n| n.trim().parse().ok()).unwrap_or(0)
        };
        self.tally.passed += number("passed");
        for n in self.tally.failed.len()..number("failed") {
            let text = "the harness counted a failure, but showed none".to_owned();
            self.tally.failed.push(Failure {
                name: format!("{}unnamed {n}", self.prefix),
                text,
            });
        }
        self.finished = true;
        self.part = Part::Results;
    }
}

impl<F: FnMut(&str, &str)> Write for Transcript<F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.rest.extend_from_slice(bytes);
        while let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.rest.drain(..=end).collect();
            self.line(String::from_utf8_lossy(&line[..end]).trim_end_matches('\r'));
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, ending: &str) -> Tally {
        let mut transcript = Transcript::new("here: ".to_owned(), |_, _| {});
        // In two pieces, as a pipe would hand it over.
        let (a, b) = text.as_bytes().split_at(text.len() / 3);
        transcript.write_all(a).unwrap();
        transcript.write_all(b).unwrap();
        transcript.end(ending)
    }

    const LIBTEST: &str = "\nrunning 3 tests\ntest a::b ... ok\ntest c ... ignored, needs root\ntest d ... FAILED\n\n\
        failures:\n\n---- d stdout ----\nthread 'd' panicked at x.rs:1:\nboom\n\n\nfailures:\n    d\n\n\
        test result: FAILED. 1 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s\n\n";

    #[test]
    fn libtest_is_understood() {
        let tally = read(LIBTEST, "with 101");
        assert_eq!(tally.line(), "1 passed, 1 failed, 1 skipped");
        assert_eq!(tally.failed[0].name, "here: d");
        assert!(tally.failed[0].text.contains("boom"));
        assert_eq!(tally.skipped[0].reason, "needs root");
    }

    #[test]
    fn libtest_mimic_is_understood() {
        let text = "running 2 tests\ntest x ... ignored (no netem)\ntest y ... FAILED\n\nfailures:\n\n---- y ----\nlate\n\n\n\
            failures:\n    y\n\n\ntest result: FAILED. 0 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0s\n";
        let tally = read(text, "with 101");
        assert_eq!(tally.line(), "0 passed, 1 failed, 1 skipped");
        assert_eq!(tally.failed[0].name, "here: y");
        assert_eq!(tally.skipped[0].reason, "no netem");
    }

    #[test]
    fn a_binary_that_dies_is_a_failure() {
        assert_eq!(
            read("running 9 tests\ntest a ... ok\n", "with signal 11")
                .failed
                .len(),
            1
        );
        assert_eq!(read("", "").failed.len(), 1);
    }

    #[test]
    fn what_had_passed_is_known_of_a_binary_whose_machine_died() {
        let mut transcript = Transcript::new("vm: ".to_owned(), |_, _| {});
        let text = b"running 9 tests\ntest a ... ok\ntest b ... FAILED\ntest c ... ignored, no netem\ntest d ... o";
        transcript.write_all(text).unwrap();
        let cut = transcript.cut("as the VM died".to_owned());
        assert_eq!(cut.passed, ["a"]);
        assert_eq!(cut.skipped[0].name, "vm: c");
    }

    #[test]
    fn a_good_report_with_a_bad_exit_code_is_a_failure() {
        let text = "test a ... ok\ntest result: ok. 1 passed; 0 failed; 0 ignored\n";
        assert_eq!(read(text, "").line(), "1 passed, 0 failed, 0 skipped");
        assert_eq!(read(text, "with 1").line(), "1 passed, 1 failed, 0 skipped");
    }

    #[test]
    fn a_counted_failure_without_details_is_not_lost() {
        let text = "test result: FAILED. 0 passed; 2 failed; 0 ignored\n";
        assert_eq!(read(text, "with 101").failed.len(), 2);
    }
}
