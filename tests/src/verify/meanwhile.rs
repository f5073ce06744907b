//! What runs beside other steps, on the time that they leave over; it is shown when it is waited for.

use std::thread::{self, JoinHandle};
use std::time::Instant;

use super::build::{self, TestBinary};
use super::guest::Guest;
use super::tally::Tally;
use super::{is_alone_in_vm, name_in_vm, programs};

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

/// A VM, and what its tests have come to that ran beside others: a failure among them is not decided.
#[derive(Default)]
pub(super) struct InVm {
    pub(super) guest: Option<Guest>,
    pub(super) undecided: Vec<(TestBinary, Done)>,
}

impl Meanwhile<InVm> {
    /// A VM with all `binaries` in it, which runs those that do not need the machine to themselves.
    pub(super) fn vm(binaries: Vec<TestBinary>, args: Vec<String>) -> Self {
        Self::start("vm", move || {
            let (mut vm, mut steps) = (InVm::default(), Vec::new());
            if binaries.is_empty() {
                return (vm, steps);
            }
            steps.push(Done::take("vm: boot", |_| {
                let guest = Guest::boot(&binaries, programs(&binaries));
                Tally::of_check("vm: boot", guest.map(|guest| vm.guest = Some(guest)))
            }));
            let Some(guest) = &mut vm.guest else {
                return (vm, steps);
            };
            for binary in binaries.into_iter().filter(|b| !is_alone_in_vm(b)) {
                let done = Done::take(&name_in_vm(&binary), |told| {
                    guest.run(&binary, &args, |_, _| {}, |text| told.push(text.to_owned()))
                });
                vm.undecided.push((binary, done));
            }
            (vm, steps)
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
