//! `cargo verify`: every check and test of the project, in both worlds, and one line at the end.

mod again;
mod build;
mod guest;
mod packages;
mod run;
mod tally;
mod transcript;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::Serialize;

pub use packages::{node_package, python_package};
pub use run::{WORLD, World};
pub use tally::{Failure, Skip, Tally};

use crate::world::postgres;
use crate::world::service::Service;
use build::TestBinary;
use guest::Guest;

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

/// The library with the controller's store.
const STORE: (&str, &str) = ("controller", "squall_controller");

/// The end-to-end test binary.
const WORLDS: &str = "worlds";

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
        // Not a check of the project: what is missing shows as skipped or failed tests, with reasons.
        if let Err(missing) = packages::provide() {
            (self.say)(&format!("packages: {missing}"));
        }
        if self.options.filter.is_none() {
            self.check("format", || build::cargo(&["fmt", "--all", "--check"]));
            self.check("lints", || {
                let strict = [
                    "--workspace",
                    "--all-targets",
                    "--quiet",
                    "--",
                    "-D",
                    "warnings",
                ];
                build::cargo(&[&["clippy"], &strict[..]].concat())
            });
        }
        let mut built = Vec::new();
        self.check("build", || {
            build::test_binaries().map(|binaries| built = binaries)
        });
        if self.wants(World::Here) {
            for binary in &built {
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
                self.step(
                    &format!("here: {}/{}", binary.package, binary.target),
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
        if self.wants(World::Vm) {
            self.vm(&built);
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

    fn vm(&mut self, built: &[TestBinary]) {
        let wanted =
            |b: &&TestBinary| KERNEL_TESTS.contains(&(b.package.as_str(), b.target.as_str()));
        let binaries: Vec<&TestBinary> = built.iter().filter(wanted).collect();
        if binaries.is_empty() {
            return;
        }
        let files = programs(&binaries);
        let mut booted = None;
        self.check("vm: boot", || {
            Guest::boot(&binaries, files).map(|guest| booted = Some(guest))
        });
        let Some(mut guest) = booted else { return };
        for binary in binaries {
            let mut told = Vec::new();
            self.step(
                &format!("vm: {}/{}", binary.package, binary.target),
                |args, each| {
                    let mut run = |args: &[String]| {
                        guest.run(binary, args, &mut *each, |text| told.push(text.to_owned()))
                    };
                    let first = run(args);
                    let mut settled = Vec::new();
                    let tally = again::settle(first, run, |text| settled.push(text.to_owned()));
                    told.extend(settled);
                    tally
                },
            );
            told.iter().for_each(|text| (self.say)(text));
        }
    }

    /// A single check, shown when it begins and when it ends.
    fn check(&mut self, name: &str, check: impl FnOnce() -> Result<(), String>) {
        self.announce(name);
        let begun = Instant::now();
        let tally = Tally::of_check(name, check());
        self.done(name, begun, tally);
    }

    /// A test binary. Its tests are shown one by one where they are slow enough to be waited for.
    fn step(
        &mut self,
        name: &str,
        run: impl FnOnce(&[String], &mut (dyn FnMut(&str, &str) + Send)) -> Tally,
    ) {
        self.announce(name);
        let begun = Instant::now();
        let args: Vec<String> = self.options.filter.iter().cloned().collect();
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
        self.done(name, begun, tally);
    }

    fn announce(&mut self, name: &str) {
        let elapsed = self.started.elapsed().as_secs();
        (self.say)(&format!(
            "[{:02}:{:02}]   {name} …",
            elapsed / 60,
            elapsed % 60
        ));
    }

    fn done(&mut self, name: &str, begun: Instant, tally: Tally) {
        let seconds = begun.elapsed().as_secs_f64();
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
fn programs(binaries: &[&TestBinary]) -> Vec<PathBuf> {
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
