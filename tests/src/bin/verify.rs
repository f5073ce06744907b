//! `cargo verify [--world here|vm] [FILTER]`: see [`lab::verify`].
#![allow(
    clippy::print_stdout,
    reason = "the last line of standard output is the result"
)]
#![allow(
    clippy::print_stderr,
    reason = "progress goes to standard error when the result is JSON"
)]

use std::process::ExitCode;

use clap::Parser;
use lab::verify::{Options, World, verify};

/// Runs every check and test of the project and ends with `N passed, N failed, N skipped`.
#[derive(Parser)]
struct Arguments {
    /// Only this world; both otherwise.
    #[arg(long)]
    world: Option<World>,
    /// Print the results as JSON on standard output, and the progress on standard error.
    #[arg(long)]
    json: bool,
    /// Run only tests whose names contain this; formatting and lints are left out then.
    filter: Option<String>,
}

fn main() -> ExitCode {
    lab::vm::main_if_init();
    let arguments = Arguments::parse();
    let strict = std::env::var_os("CI").is_some_and(|value| value == "true");
    let options = Options {
        world: arguments.world,
        filter: arguments.filter,
        strict,
    };
    let mut say = |line: &str| {
        if arguments.json {
            eprintln!("{line}")
        } else {
            println!("{line}")
        }
    };
    let summary = verify(&options, &mut say);
    for skip in &summary.results.skipped {
        say(&format!("skipped {}: {}", skip.name, skip.reason));
    }
    for failure in &summary.results.failed {
        say(&format!("failed  {}", failure.name));
    }
    if arguments.json {
        println!(
            "{}",
            serde_json::to_string_pretty(&summary).unwrap_or_default()
        );
        eprintln!("{}", summary.results.line());
    } else {
        println!("{}", summary.results.line());
    }
    if summary.results.failed.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
