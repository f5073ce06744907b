//! Runs test binaries in a VM; what comes out reads as it does from this machine.
//!
//! An emulated machine can die under a test that did nothing wrong (see [`crate::vm`]). A new one is booted then, once for each
//! binary, for the tests that had not passed; how the first one died is shown, and a second death is a failure.

use std::io;
use std::path::PathBuf;

use super::again;
use super::build::TestBinary;
use super::run::{BINARY_LIMIT, WORLD, World, prefix};
use super::tally::{Failure, Tally};
use super::transcript::{Cut, Transcript};
use crate::chain;
use crate::vm::{Boot, Job, Machine, VmError};

/// A VM, and what to boot another one of.
pub(super) struct Guest {
    boot: Boot,
    machine: Machine,
}

impl Guest {
    /// Boots a VM with `files` and all `binaries` in it.
    pub(super) fn boot(binaries: &[TestBinary], files: Vec<PathBuf>) -> Result<Self, String> {
        let tests = binaries.iter().map(|binary| binary.path.clone());
        let boot = Boot {
            files: tests.chain(files).collect(),
            ..Boot::default()
        };
        let machine = Machine::boot(&boot).map_err(|error| chain(&error))?;
        Ok(Self { boot, machine })
    }

    /// Decides the few failures of `first` by a second run; `told` has what a person should read of it.
    pub(super) fn settle(
        &mut self,
        binary: &TestBinary,
        first: Tally,
        each: &mut (dyn FnMut(&str, &str) + Send),
        told: &mut Vec<String>,
    ) -> Tally {
        let mut died = Vec::new();
        let run =
            |args: &[String]| self.run(binary, args, &mut *each, |text| died.push(text.to_owned()));
        let tally = again::settle(first, run, |text| told.push(text.to_owned()));
        told.extend(died);
        tally
    }

    /// Runs `binary`, and what a dying VM left of it in another one. `each` hears of every test as it ends, `said` of a VM that died.
    pub(super) fn run(
        &mut self,
        binary: &TestBinary,
        args: &[String],
        mut each: impl FnMut(&str, &str) + Send,
        mut said: impl FnMut(&str),
    ) -> Tally {
        let cut = match self.once(binary, args, &mut each) {
            Ok(tally) => return tally,
            Err(cut) => cut,
        };
        said(&format!(
            "          {} was cut short {}\n          {} of its tests had passed; the others run in a new VM",
            binary.target,
            cut.ending.trim_end(),
            cut.passed.len()
        ));
        match Machine::boot(&self.boot) {
            Ok(machine) => self.machine = machine,
            Err(error) => return sum(cut, died(binary, chain(&error))),
        }
        // A name that was asked for is asked for again: it has not passed.
        let rest = if args.is_empty() {
            without(&cut.passed)
        } else {
            args.to_vec()
        };
        let second = match self.once(binary, &rest, &mut each) {
            Ok(tally) => tally,
            Err(again) => {
                let failure = died(binary, again.ending.clone());
                sum(again, failure)
            }
        };
        if args.is_empty() {
            sum(cut, second)
        } else {
            second
        }
    }

    fn once(
        &mut self,
        binary: &TestBinary,
        args: &[String],
        each: impl FnMut(&str, &str) + Send,
    ) -> Result<Tally, Cut> {
        let mut transcript = Transcript::new(prefix(World::Vm, binary), each);
        let job = job(binary, args);
        let ending = match self
            .machine
            .run(&job, &mut transcript, io::stderr(), BINARY_LIMIT)
        {
            Ok(0) => String::new(),
            Ok(code) => format!("with exit status: {code}"),
            Err(error @ VmError::Died { .. }) => {
                return Err(transcript.cut(format!("as {}", chain(&error))));
            }
            Err(error) => format!("as {}", chain(&error)),
        };
        Ok(transcript.end(&ending))
    }
}

fn job(binary: &TestBinary, args: &[String]) -> Job {
    let program = binary.path.display().to_string();
    let mut job = Job::new(
        std::iter::once(program)
            .chain(args.iter().cloned())
            .collect(),
    );
    job.folder.clone_from(&binary.folder);
    job.env.insert(
        "CARGO_MANIFEST_DIR".to_owned(),
        binary.folder.display().to_string(),
    );
    job.env
        .insert(WORLD.to_owned(), World::Vm.name().to_owned());
    job
}

/// The arguments that leave out the tests of these names and no other.
fn without(passed: &[String]) -> Vec<String> {
    let skips = passed
        .iter()
        .flat_map(|name| ["--skip".to_owned(), name.clone()]);
    std::iter::once("--exact".to_owned()).chain(skips).collect()
}

/// The results of a binary that ran in two VMs: tests that were skipped in the first one are skipped in the second one too.
fn sum(first: Cut, second: Tally) -> Tally {
    let mut tally = second;
    tally.passed += first.passed.len();
    for skip in first.skipped {
        if !tally.skipped.contains(&skip) {
            tally.skipped.push(skip);
        }
    }
    tally
}

fn died(binary: &TestBinary, text: String) -> Tally {
    Tally {
        failed: vec![Failure {
            name: format!("{}test binary", prefix(World::Vm, binary)),
            text,
        }],
        ..Tally::default()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tally::Skip;
    use super::*;

    #[test]
    fn what_had_passed_is_counted_once_and_not_run_again() {
        let skip = Skip {
            name: "vm: tests/worlds: c".to_owned(),
            reason: "no netem".to_owned(),
        };
        let cut = Cut {
            passed: vec!["a".to_owned(), "b".to_owned()],
            skipped: vec![skip.clone()],
            ending: String::new(),
        };
        assert_eq!(
            without(&cut.passed),
            ["--exact", "--skip", "a", "--skip", "b"]
        );
        let second = Tally {
            passed: 3,
            failed: Vec::new(),
            skipped: vec![skip],
        };
        assert_eq!(sum(cut, second).line(), "5 passed, 0 failed, 1 skipped");
    }
}
