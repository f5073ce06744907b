//! `cargo verify`: every check and test of the project, in both worlds, and one line at the end.

mod again;
mod build;
mod guest;
mod meanwhile;
mod packages;
mod run;
mod tally;
mod transcript;

use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;

pub use packages::{node_package, python_package};
pub use run::{WORLD, World};
pub use tally::{Failure, Skip, Tally};

use crate::world::postgres;
use crate::world::service::Service;
use build::TestBinary;
use meanwhile::{Done, InVm, Meanwhile};

/// What the person asked for.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Only this world; both where none is named.
    pub world: Option<World>,
    /// Only tests whose names contain this.
    pub filter: Option<String>,
    /// Whether a skip is a failure, as it is in CI.
    pub strict: bool,
}

/// One step that was taken.
#[derive(Clone, Debug, Serialize)]
pub struct Step {
    /// Its name.
    pub name: String,
    /// How long it took.
    pub seconds: f64,
}

/// All that `cargo verify` found.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// Every result.
    pub results: Tally,
    /// What was done, and how long it took.
    pub steps: Vec<Step>,
}

/// Tests of these targets run in both worlds: the agent's are about the kernel.
const KERNEL_TESTS: [(&str, &str); 5] = [
    ("agent", "squall_agent"),
    ("agent", "faults"),
    ("agent", "groups"),
    ("agent", "life"),
    ("tests", WORLDS),
];

/// Whether nothing of `binary` can run without root. It is skipped whole then: tests that return early would read as passed.
fn needs_root(binary: &TestBinary) -> bool {
    binary.package == "agent" && binary.target != "squall_agent"
}

fn is_about_the_kernel(binary: &TestBinary) -> bool {
    KERNEL_TESTS.contains(&(binary.package.as_str(), binary.target.as_str()))
}

/// Whether its tests measure so much that in the VM they run with the machine to themselves.
fn is_alone_in_vm(binary: &TestBinary) -> bool {
    ["squall_agent", WORLDS].contains(&binary.target.as_str())
}

fn name_in_vm(binary: &TestBinary) -> String {
    format!("vm: {}/{}", binary.package, binary.target)
}

/// The library with the controller's store.
const STORE: (&str, &str) = ("controller", "squall_controller");

/// The end-to-end test binary.
const WORLDS: &str = "worlds";

/// Those of its tests that run the shipped experiments: they take as long as these say, and judge no time.
const LIBRARY: &str = "library::";

fn is_worlds(binary: &TestBinary) -> bool {
    (binary.package.as_str(), binary.target.as_str()) == ("tests", WORLDS)
}

/// Does everything `options` ask for; `say` hears of every step and test as it happens.
pub fn verify(options: &Options, say: &mut (dyn FnMut(&str) + Send)) -> Summary {
    let mut verify = Verify {
        options,
        say,
        started: Instant::now(),
        summary: Summary {
            results: Tally::default(),
            steps: Vec::new(),
        },
    };
    verify.all();
    let Verify { mut summary, .. } = verify;
    if options.strict {
        summary.results = summary.results.without_skips();
    }
    summary
}

struct Verify<'a> {
    options: &'a Options,
    say: &'a mut (dyn FnMut(&str) + Send),
    started: Instant,
    summary: Summary,
}

impl Verify<'_> {
    fn all(&mut self) {
        // No build needs them.
        let packages = thread::spawn(packages::provide);
        if self.options.filter.is_none() {
            self.check("format", || build::cargo(&["fmt", "--all", "--check"]));
        }
        let mut built = Vec::new();
        self.check("build", || {
            build::test_binaries().map(|binaries| built = binaries)
        });
        // Not a check of the project: what is missing shows as skipped or failed tests, with reasons.
        if let Ok(Err(missing)) = packages.join() {
            (self.say)(&format!("packages: {missing}"));
        }
        let (measuring, others): (Vec<_>, Vec<_>) = built.iter().partition(|b| again::measures(b));
        let (is_whole, worlds) = (
            self.options.filter.is_none(),
            built.iter().find(|b| is_worlds(b)),
        );
        self.here(
            &measuring,
            if is_whole { &["--skip", LIBRARY] } else { &[] },
        );
        // What follows mostly waits, and leaves time to others.
        let lints = is_whole.then(Meanwhile::lints);
        if let Some(worlds) = worlds.filter(|_| is_whole) {
            self.here(&[worlds], &[LIBRARY]);
        }
        let vm = self.wants(World::Vm).then(|| self.begin_vm(&built));
        self.here(&others, &[]);
        if let Some(lints) = lints {
            self.settle(lints);
        }
        if let Some(vm) = vm {
            let vm = self.settle(vm);
            self.end_vm(vm, &built);
        }
    }

    /// Waits for what runs beside, and shows what came of it.
    fn settle<T: Default + Send + 'static>(&mut self, meanwhile: Meanwhile<T>) -> T {
        let (result, steps) = meanwhile.settle();
        steps.into_iter().for_each(|step| self.show(step));
        result
    }

    fn show(&mut self, step: Done) {
        self.announce_at(&step.name, step.begun);
        self.done(&step.name, step.seconds, step.tally);
        step.told.iter().for_each(|text| (self.say)(text));
    }

    /// Runs tests on this machine, of the worlds' only those that `of_worlds` leaves.
    fn here(&mut self, binaries: &[&TestBinary], of_worlds: &[&str]) {
        let binaries = if self.wants(World::Here) {
            binaries
        } else {
            &[]
        };
        for binary in binaries {
            if needs_root(binary) && !nix::unistd::geteuid().is_root() {
                self.summary.results.skipped.push(Skip {
                    name: format!("here: {}/{}", binary.package, binary.target),
                    reason: "needs root: it holds faults in namespaces and cgroups".to_owned(),
                });
                continue;
            }
            let mut told = Vec::new();
            let database = self.database(binary);
            let database = database.as_ref().map(|(_, address)| address.as_str());
            let more = if is_worlds(binary) { of_worlds } else { &[] };
            let name = format!("here: {}/{}", binary.package, binary.target);
            self.step(
                &[&[name.as_str()], more].concat().join(" "),
                more,
                |args, each| {
                    let first = run::here(binary, args, database, &mut *each);
                    if !again::measures(binary) {
                        return first;
                    }
                    let run = |args: &[String]| run::here(binary, args, database, &mut *each);
                    again::settle(first, run, |text| told.push(text.to_owned()))
                },
            );
            told.iter().for_each(|text| (self.say)(text));
        }
    }

    /// A server for the tests of the controller's store, which run on both databases.
    fn database(&mut self, binary: &TestBinary) -> Option<(Service, String)> {
        if (binary.package.as_str(), binary.target.as_str()) != STORE {
            return None;
        }
        let name = "here: controller: the store on PostgreSQL".to_owned();
        let results = &mut self.summary.results;
        let Some(programs) = postgres::programs() else {
            let reason = "needs postgresql: apt-get install postgresql".to_owned();
            results.skipped.push(Skip { name, reason });
            return None;
        };
        match postgres::open_to_all(&programs) {
            Ok(server) => Some(server),
            Err(error) => {
                let text = error.to_string();
                results.failed.push(Failure { name, text });
                None
            }
        }
    }

    fn wants(&self, world: World) -> bool {
        self.options.world.is_none_or(|only| only == world)
    }

    /// Boots the VM, and runs there what does not measure.
    fn begin_vm(&self, built: &[TestBinary]) -> Meanwhile<InVm> {
        let binaries: Vec<TestBinary> = built
            .iter()
            .filter(|b| is_about_the_kernel(b))
            .cloned()
            .collect();
        let args: Vec<String> = self.options.filter.iter().cloned().collect();
        Meanwhile::vm(binaries, args)
    }

    /// With the machine to the VM alone: what failed beside others once more, and what measures.
    fn end_vm(&mut self, vm: InVm, built: &[TestBinary]) {
        let Some(mut guest) = vm.guest else { return };
        for (binary, mut done) in vm.undecided {
            let (first, told) = (std::mem::take(&mut done.tally), &mut done.told);
            done.tally = guest.settle(&binary, first, &mut |_, _| {}, told);
            self.show(done);
        }
        let alone = |b: &&TestBinary| is_about_the_kernel(b) && is_alone_in_vm(b);
        for binary in built.iter().filter(alone) {
            let mut told = Vec::new();
            self.step(&name_in_vm(binary), &[], |args, each| {
                let first = guest.run(binary, args, &mut *each, |text| told.push(text.to_owned()));
                guest.settle(binary, first, each, &mut told)
            });
            told.iter().for_each(|text| (self.say)(text));
        }
    }

    /// A single check, shown when it begins and when it ends.
    fn check(&mut self, name: &str, check: impl FnOnce() -> Result<(), String>) {
        self.announce(name);
        let begun = Instant::now();
        let tally = Tally::of_check(name, check());
        self.done(name, begun.elapsed().as_secs_f64(), tally);
    }

    /// A test binary, with arguments beside the filter. Its tests are shown one by one where they are slow enough to be waited for.
    fn step(
        &mut self,
        name: &str,
        more: &[&str],
        run: impl FnOnce(&[String], &mut (dyn FnMut(&str, &str) + Send)) -> Tally,
    ) {
        self.announce(name);
        let begun = Instant::now();
        let more = more.iter().map(|more| (*more).to_owned());
        let args: Vec<String> = self.options.filter.iter().cloned().chain(more).collect();
        let say = &mut *self.say;
        let mut last = Instant::now();
        let mut each = |test: &str, result: &str| {
            if last.elapsed() > SHOWN_ABOVE || result == "FAILED" {
                say(&format!(
                    "          {test} ... {result} ({:.1} s)",
                    last.elapsed().as_secs_f64()
                ));
            }
            last = Instant::now();
        };
        let tally = run(&args, &mut each);
        self.done(name, begun.elapsed().as_secs_f64(), tally);
    }

    fn announce(&mut self, name: &str) {
        self.announce_at(name, Instant::now());
    }

    fn announce_at(&mut self, name: &str, begun: Instant) {
        let elapsed = begun.duration_since(self.started).as_secs();
        (self.say)(&format!(
            "[{:02}:{:02}]   {name} …",
            elapsed / 60,
            elapsed % 60
        ));
    }

    fn done(&mut self, name: &str, seconds: f64, tally: Tally) {
        (self.say)(&format!("          {} in {seconds:.1} s", tally.line()));
        for failure in &tally.failed {
            (self.say)(&format!(
                "\n---- {} ----\n{}",
                failure.name,
                failure.text.trim_end()
            ));
        }
        self.summary.results.add(tally);
        self.summary.steps.push(Step {
            name: name.to_owned(),
            seconds,
        });
    }
}

/// Tests that take longer than this are named while the others only count.
const SHOWN_ABOVE: Duration = Duration::from_millis(500);

/// What the worlds' tests start or read: the project's programs, its shipped experiments.
fn programs(binaries: &[TestBinary]) -> Vec<PathBuf> {
    let Some(first) = binaries.first() else {
        return Vec::new();
    };
    let built = first.path.ancestors().nth(2).into_iter();
    let programs =
        built.flat_map(|folder| ["squall", "squall-agent"].map(|name| folder.join(name)));
    let root = first.folder.parent().into_iter();
    let data = root.flat_map(|root| {
        [
            "experiments/library",
            "experiments/tests",
            "agent/README.md",
        ]
        .map(|path| root.join(path))
    });
    let node = crate::world::pods::programs();
    let all = programs.chain(data).chain(node);
    all.filter(|path| path.exists()).collect()
}
