//! Everything that needs a real kernel, run here and in the VM: the lab itself, the kill matrix, the
//! doses, the command line. One test at a time, as they measure.

mod lab_itself;

use std::process::ExitCode;

use lab::world::victim;
use libtest_mimic::{Arguments, Completion, Failed, Trial};

fn main() -> ExitCode {
    if let Some(code) = victim::main_if_victim() {
        return code;
    }
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(1);
    let trials = lab_itself::trials();
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// A test that needs root; without, it is skipped and says so.
fn as_root(
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
