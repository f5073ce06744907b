//! Everything that needs a real kernel, run here and in the VM: the lab itself, the kill matrix, the
//! doses, the command line. Some run side by side, each in a world of its own; those that take the machine's processors, or look at
//! the host as a whole, run alone.

#![allow(
    clippy::print_stderr,
    reason = "the kill matrix is shown beside the tests' results"
)]

mod cli;
mod cluster;
mod conntrack;
mod dose;
mod fleet;
mod halt;
mod journal;
mod kill_matrix;
mod lab_itself;
mod library;
mod nic;
mod node;
mod node_end;
mod owner;
mod owner_reads;
mod pods;
mod policy;
mod pressure;
mod privileges;
mod redirect;
mod runs;
mod scene;
mod steps;
mod tcp;
mod walk;
mod watchdog;

use std::process::ExitCode;
use std::sync::{PoisonError, RwLock};

use lab::world::agent::Agent;
use lab::world::{shop, talker, victim};
use libtest_mimic::{Arguments, Completion, Failed, Trial};

fn main() -> ExitCode {
    lab::vm::main_if_init();
    let other = victim::main_if_victim().or_else(talker::main_if_talker);
    let other = other.or_else(node_end::main_if_inside);
    if let Some(code) = other.or_else(shop::main_if_instance) {
        return code;
    }
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(at_once());
    let mut trials = lab_itself::trials();
    // Those that may run beside others first, and of them the ones that wait longest.
    trials.extend(node::trials());
    match Agent::start() {
        Ok(agent) => {
            let capabilities = agent.hello().capabilities.clone();
            trials.extend(dose::trials(&capabilities));
            trials.extend(redirect::trials(&capabilities));
            trials.extend(tcp::trials(&capabilities));
            trials.extend(conntrack::trials(&capabilities));
            trials.extend(owner::trials(&capabilities));
            trials.extend(owner_reads::trials(&capabilities));
            trials.extend(kill_matrix::trials(&arguments, &capabilities));
            trials.extend(walk::trials(&capabilities));
        }
        // What the node can do is not known then: one failure stands for all that could not be asked for.
        Err(error) => {
            let reason = error.to_string();
            trials.push(as_root("agent::starts_and_says_what_it_can", || {
                Err(reason.into())
            }));
        }
    }
    trials.extend(pressure::trials());
    trials.extend(pods::trials());
    trials.extend(journal::trials());
    trials.extend(nic::trials());
    trials.extend(policy::trials());
    trials.extend(halt::trials());
    trials.extend(privileges::trials());
    trials.extend(watchdog::trials());
    trials.extend(cli::trials());
    trials.extend(fleet::trials());
    // They take minutes of real load: an emulated machine could not keep the pace that the files ask for.
    if !dose::emulated() {
        trials.extend(library::trials(&arguments));
        trials.extend(steps::trials());
        trials.extend(node_end::trials());
        trials.extend(runs::trials());
        trials.extend(cluster::trials());
    }
    let mut exit = libtest_mimic::run(&arguments, trials).exit_code();
    if let Some(left) = pods::close() {
        eprintln!("\n{left}\n");
        exit = ExitCode::FAILURE;
    }
    if let Some(table) = kill_matrix::table() {
        eprintln!("\n{table}\n");
    }
    exit
}

/// Whether the command line asks for this test.
fn is_wanted(arguments: &Arguments, name: &str) -> bool {
    arguments.filter.as_ref().is_none_or(|filter| {
        if arguments.exact {
            name == filter
        } else {
            name.contains(filter.as_str())
        }
    })
}

/// So many tests run at once, of those that can: they are mostly waiting. An emulated machine has less to share.
fn at_once() -> usize {
    if dose::emulated() { 2 } else { 3 }
}

/// Held by each test while it runs: shared by those that may run beside others, and whole by those that run alone.
static TURN: RwLock<()> = RwLock::new(());

/// A test that needs root, and runs alone: it looks at the host as a whole, or takes its processors.
fn as_root(
    name: impl Into<String>,
    test: impl FnOnce() -> lab::world::Result<()> + Send + 'static,
) -> Trial {
    rooted(name, || {
        // One that panicked has failed; its turn is over all the same.
        let _turn = TURN.write().unwrap_or_else(PoisonError::into_inner);
        test()
    })
}

/// A test that needs root, and has all that it looks at to itself: a wire, an agent, victims of its own.
fn beside_others(
    name: impl Into<String>,
    test: impl FnOnce() -> lab::world::Result<()> + Send + 'static,
) -> Trial {
    rooted(name, || {
        let _turn = TURN.read().unwrap_or_else(PoisonError::into_inner);
        test()
    })
}

/// Without root, a test is skipped and says so.
fn rooted(
    name: impl Into<String>,
    test: impl FnOnce() -> lab::world::Result<()> + Send + 'static,
) -> Trial {
    Trial::ignorable_test(name, || {
        if !nix::unistd::geteuid().is_root() {
            return Ok(Completion::ignored_with(
                "needs root: namespaces, cgroups, netfilter",
            ));
        }
        test()
            .map(|()| Completion::Completed)
            .map_err(|error| Failed::from(error.to_string()))
    })
}
