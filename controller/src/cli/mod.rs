//! The command line: what people type, what they read, and the exit codes.
//!
//! Results go to standard output, everything else to standard error; with `--json` standard output is one
//! JSON document. Colours and live pictures only where the output is a terminal.

mod access;
mod agents;
mod backup;
mod by_itself;
mod check;
mod database;
mod enough;
mod evidence;
mod files;
mod fleet;
mod game_day;
mod game_day_watch;
mod git;
mod kept;
mod login;
mod new;
mod node;
mod plan;
mod promote;
mod remote;
mod retention;
mod run;
mod say;
mod schedule;
mod serve;

use crate::demo;
use crate::fleet::Program;
use clap::{CommandFactory, Parser, Subcommand};
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

/// The exit code for bad input: a file or an argument.
const BAD_INPUT: u8 = 2;

/// The exit code when nothing can be said, because something that is needed is not there.
const INCONCLUSIVE: u8 = 3;

/// The exit code of whatever a gate refuses.
const REFUSED: u8 = 4;

/// Injects short, bounded faults to test a written hypothesis, and takes them back the instant the steady state breaks.
#[derive(Debug, Parser)]
#[command(name = "squall", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Writes an experiment to start from
    New(new::Args),
    /// Names every mistake of a file, with its place and its mend
    Check(check::Args),
    /// Prints the JSON Schema of experiment files, for editors, or of reports, for programs
    Schema {
        /// Of what
        #[arg(long, value_name = "DOCUMENT", default_value = "experiment")]
        of: check::Document,
    },
    /// Shows what a run would hit, where and how much; touches nothing
    Plan(plan::Args),
    /// Runs an experiment on this node, or on the nodes of a controller
    ///
    /// Exit codes: 0 held, 1 broken, 2 bad input, 3 inconclusive, 4 refused, 5 halted. Ctrl-C ends the faults and the run; a second
    /// Ctrl-C kills the agent at once, and the kernel ends its faults.
    Run(run::Args),
    /// Says what this node can inject, by which means, and why not where it cannot
    Capabilities(node::Args),
    /// Lists the runs that were kept
    Runs(kept::RunsArgs),
    /// Tells a run that was kept
    Report(kept::ReportArgs),
    /// Shows a controller's run as it happens, up to its verdict
    Watch(fleet::RunArgs),
    /// Stops a controller's run, and shows its end
    Stop(fleet::RunArgs),
    /// Stops everything that a controller runs; nothing starts until it is lifted
    Halt(fleet::HaltArgs),
    /// Serves agents, people and programs on one port: the controller
    Serve(serve::Args),
    /// Lists the agents that have joined a controller, and who is there; shuts out, forgets
    Agents(agents::AgentsArgs),
    /// Makes, lists and takes back the tokens by which agents join
    Token(agents::TokenArgs),
    /// Shows a schedule's next times; puts schedules into force, suspends and resumes them
    Schedule(schedule::Args),
    /// Holds a game day: go and no-go, notes, the lead, the report of it
    Gameday(game_day::Args),
    /// Shows what a Git repository would put into force
    Git(git::Args),
    /// Says what a file has earned and what it needs to run in an environment, and asks for approval
    ///
    /// Exit codes: 0 nothing is missing, 2 bad input, 4 something is.
    Promote(promote::PromoteArgs),
    /// Lists what others ask for, and says yes or no to it
    Approve(promote::ApproveArgs),
    /// Shows the twelve questions before production, and answers them
    Checklist(promote::ChecklistArgs),
    /// Lists, exports, imports and verifies what runs have shown
    Evidence(evidence::EvidenceArgs),
    /// Logs in at a controller, at the provider that it names; a browser on any machine confirms it
    Login(login::Args),
    /// Ends the login at a controller
    Logout(login::Args),
    /// Says who one is for a controller, and what one may
    Whoami(login::Args),
    /// Makes, lists and takes back what lets people and programs use a controller
    Access(access::AccessArgs),
    /// Lists who did what, and finds what was changed in that
    Audit(access::AuditArgs),
    /// Writes everything that a controller keeps into one file; it may be serving meanwhile
    Backup(backup::Args),
    /// Takes everything of a backup into a new data directory or database, before a controller serves from it
    Restore(backup::Args),
    /// Shows which runs and game days have been kept for long enough; removes them where no controller does
    Retention(retention::Args),
    /// Prints a shell's completions
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// Shows the point in two minutes: one experiment, a service that breaks and one that holds
    Demo(demo::Options),
    /// The services of the demo
    #[command(hide = true, disable_help_flag = true)]
    DemoService {
        /// Which, and its settings
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        rest: Vec<String>,
    },
    /// Serves a controller as this node's agent: see `squall agent --help`
    #[command(disable_help_flag = true)]
    Agent {
        /// The agent's own arguments
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        rest: Vec<OsString>,
    },
}

/// Runs the command line. `agent` is how a local agent is started. The caller has taken `squall agent …` out before.
#[must_use]
pub fn main(args: impl IntoIterator<Item = OsString>, agent: &Program) -> ExitCode {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            // Nothing can be said where nothing can be written.
            let _unwritable = error.print();
            return ExitCode::from(if error.use_stderr() { BAD_INPUT } else { 0 });
        }
    };
    log();
    match cli.command {
        Verb::New(args) => new::new(&args),
        Verb::Check(args) => check::check(&args),
        Verb::Schema { of } => check::schema(of),
        Verb::Plan(args) => block_on(plan::plan(&args, agent)),
        Verb::Run(args) => block_on(run::run(&args, agent)),
        Verb::Capabilities(args) => block_on(node::capabilities(&args, agent)),
        Verb::Runs(args) => block_on(kept::runs(&args)),
        Verb::Report(args) => block_on(kept::report(&args)),
        Verb::Watch(args) => block_on(fleet::watch(&args)),
        Verb::Stop(args) => block_on(fleet::stop(&args)),
        Verb::Halt(args) => block_on(fleet::halt(&args)),
        Verb::Serve(args) => block_on(serve::serve(&args)),
        Verb::Agents(args) => block_on(agents::agents(&args)),
        Verb::Token(args) => block_on(agents::token(&args)),
        Verb::Schedule(args) => block_on(schedule::schedule(&args)),
        Verb::Gameday(args) => block_on(game_day::game_day(&args)),
        Verb::Git(args) => block_on(git::git(&args)),
        Verb::Promote(args) => block_on(promote::promote(&args)),
        Verb::Approve(args) => block_on(promote::approve(&args)),
        Verb::Checklist(args) => block_on(promote::checklist(&args)),
        Verb::Evidence(args) => block_on(evidence::evidence(&args)),
        Verb::Login(args) => block_on(login::login(&args)),
        Verb::Logout(args) => block_on(login::logout(&args)),
        Verb::Whoami(args) => block_on(login::whoami(&args)),
        Verb::Access(args) => block_on(access::access(&args)),
        Verb::Audit(args) => block_on(access::audit(&args)),
        Verb::Backup(args) => block_on(backup::backup(&args)),
        Verb::Restore(args) => block_on(backup::restore(&args)),
        Verb::Retention(args) => block_on(retention::retention(&args)),
        Verb::Completions { shell } => {
            let mut command = Cli::command();
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut command, "squall", &mut text);
            say::out!("{}", String::from_utf8_lossy(&text));
            ExitCode::SUCCESS
        }
        Verb::Demo(options) => demo::main(&options),
        Verb::DemoService { rest } => demo::service_main(&rest),
        Verb::Agent { .. } => say::failed(INCONCLUSIVE, &NoAgentHere),
    }
}

/// The library cannot be an agent; the program can.
#[derive(Debug, thiserror::Error)]
#[error("this program was built without an agent: run `squall-agent`")]
struct NoAgentHere;

/// Logs go to standard error; `SQUALL_LOG` says what (`debug`, `squall_controller=trace`), warnings where it is silent.
fn log() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("SQUALL_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn"));
    // A second logger is refused; then the first goes on.
    let _already = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // Who cannot log cannot complain of it either: that would panic.
        .log_internal_errors(false)
        .try_init();
}

fn block_on(work: impl Future<Output = ExitCode>) -> ExitCode {
    match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime.block_on(work),
        Err(error) => say::failed(INCONCLUSIVE, &error),
    }
}

/// An experiment file.
#[derive(Debug, Clone, clap::Args)]
struct FileArg {
    /// The experiment file; `-` is standard input
    file: PathBuf,
}

#[cfg(test)]
mod tests {
    use super::Cli;
    use clap::{CommandFactory, Parser};

    #[test]
    fn every_command_is_read_as_it_is_meant() {
        Cli::command().debug_assert();
        for line in [
            "promote f.yaml --why --environment production --json",
            "promote f.yaml --because x --controller https://c:1",
            "approve list --environment staging",
            "approve yes ID --because x --json",
            "checklist f.yaml --answer 1=yes --answer 2=no --because x",
            "evidence export RUN --environment staging --out f.json",
            "evidence verify f.json --key k",
            "access create ann --role operator --environment staging --namespace shop --days 3",
            "audit verify --noted 7:00",
            "retention --config c.yaml --policy p.yaml --most 5 --json",
            "login --controller https://c:1",
            "whoami --json",
            "gameday open f.yaml --controller https://c:1 --json",
            "gameday go last --step 2 --because x",
            "gameday no-go last --because x",
            "gameday action last x --owner ann --due 2026-12-31",
            "gameday hand-over last --to bob --because x",
            "gameday report last --html",
        ] {
            let words = std::iter::once("squall").chain(line.split(' '));
            assert!(Cli::try_parse_from(words).is_ok(), "{line}");
        }
        for line in [
            "promote f.yaml",
            "checklist f.yaml --answer 1=yes",
            "checklist f.yaml --answer 1=maybe --because x",
            "gameday no-go last",
            "gameday action last x",
            "gameday action last x --owner ann --due soon",
        ] {
            let words = std::iter::once("squall").chain(line.split(' '));
            assert!(Cli::try_parse_from(words).is_err(), "{line}");
        }
    }
}
