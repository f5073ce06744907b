//! What runs beside other steps, on the time that they leave over; it is shown when it is waited for.

use std::thread::{self, JoinHandle};
use std::time::Instant;

use super::build::{self, TestBinary};
use super::guest::Guest;
use super::tally::Tally;
use super::{WORLDS, name_in_vm, programs};

/// A step that is over.
pub(super) struct Done {
    pub(super) name: String,
    pub(super) begun: Instant,
    pub(super) seconds: f64,
    pub(super) tally: Tally,
    /// What is to be shown with it.
    pub(super) told: Vec<String>,
}

impl Done {
    /// Takes the step. What it tells is told by its second argument.
    fn take(name: &str, step: impl FnOnce(&mut Vec<String>) -> Tally) -> Self {
        let (begun, mut told) = (Instant::now(), Vec::new());
        let tally = step(&mut told);
        Self {
            name: name.to_owned(),
            begun,
            seconds: begun.elapsed().as_secs_f64(),
            tally,
            told,
        }
    }
}

/// Steps on a thread of their own, and what they leave.
pub(super) struct Meanwhile<T> {
    name: &'static str,
    thread: JoinHandle<(T, Vec<Done>)>,
}

impl Meanwhile<()> {
    /// The linter, in time that nobody else wants.
    pub(super) fn lints() -> Self {
        let strict = ["clippy", "--workspace", "--all-targets", "--quiet"];
        let warnings = ["--", "-D", "warnings"];
        let lint = move || build::cargo_when_idle(&[&strict[..], &warnings].concat());
        let step = move || Done::take("lints", |_| Tally::of_check("lints", lint()));
        Self::start("lints", move || ((), vec![step()]))
    }
}

impl Meanwhile<Option<Guest>> {
    /// A VM with all `binaries` in it, which runs those that do not need the machine to themselves.
    pub(super) fn vm(binaries: Vec<TestBinary>, args: Vec<String>) -> Self {
        Self::start("vm", move || {
            let mut steps = Vec::new();
            if binaries.is_empty() {
                return (None, steps);
            }
            let mut booted = None;
            steps.push(Done::take("vm: boot", |_| {
                let guest = Guest::boot(&binaries, programs(&binaries));
                Tally::of_check("vm: boot", guest.map(|guest| booted = Some(guest)))
            }));
            if let Some(guest) = &mut booted {
                for binary in binaries.iter().filter(|binary| binary.target != WORLDS) {
                    steps.push(Done::take(&name_in_vm(binary), |told| {
                        guest.settle(binary, &args, &mut |_, _| {}, told)
                    }));
                }
            }
            (booted, steps)
        })
    }
}

impl<T: Default + Send + 'static> Meanwhile<T> {
    fn start(name: &'static str, steps: impl FnOnce() -> (T, Vec<Done>) + Send + 'static) -> Self {
        Self {
            name,
            thread: thread::spawn(steps),
        }
    }

    /// Waits for its end.
    pub(super) fn settle(self) -> (T, Vec<Done>) {
        let name = self.name;
        self.thread.join().unwrap_or_else(|_| {
            let panicked = Err("the thread that ran it panicked".to_owned());
            let step = Done::take(name, |_| Tally::of_check(name, panicked));
            (T::default(), vec![step])
        })
    }
}
