//! The agent's program.

use std::process::ExitCode;

fn main() -> ExitCode {
    if squall_agent::hold::is_holder() {
        return squall_agent::hold::main();
    }
    squall_agent::main(std::env::args_os())
}
