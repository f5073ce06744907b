//! `squall`: the controller, and the tool people type. This file is the one door between the controller and the agent, so that
//! one program can be both.

use squall_controller::cli;
use squall_controller::fleet::Program;
use std::ffi::OsString;
use std::process::ExitCode;

fn main() -> ExitCode {
    // A holder must not become anything else first: no threads, no parsing.
    if squall_agent::hold::is_holder() {
        return squall_agent::hold::main();
    }
    let args: Vec<OsString> = std::env::args_os().collect();
    if args.get(1).is_some_and(|word| word == "agent") {
        // `agent` stands where a program's name would.
        return squall_agent::main(args.into_iter().skip(1));
    }
    let itself = Program {
        path: "/proc/self/exe".into(),
        args: vec!["agent".into(), "run".into()],
    };
    cli::main(args, &itself)
}
