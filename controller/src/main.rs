//! `squall`: the controller, and the tool people type. This file is the one door between the controller and the agent, so that
//! one program can be both.

use squall_controller::cli;
use squall_controller::fleet::Program;
use std::ffi::OsString;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    let itself = Program {
        path: "/proc/self/exe".into(),
        args: vec!["agent".into(), "run".into()],
    };
    cli::main(args, &itself)
}
