//! The agent's command line.
#![allow(clippy::print_stdout, reason = "a program talks to its user")]

use crate::boot::{self, Called};
use crate::link::dial::Address;
use clap::{Parser, Subcommand};
use squall_experiments::join::{Labels, check_labels};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Injects faults on this node that cannot outlive it.
#[derive(Debug, Parser)]
#[command(name = "squall-agent", version)]
struct Cli {
    #[command(subcommand)]
    command: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Serves a controller.
    Run {
        #[command(flatten)]
        controller: ControllerArgs,
        /// The node's policy; /etc/squall/policy.yaml where it is there, safe defaults where it is not.
        #[arg(long, value_name = "FILE")]
        policy: Option<PathBuf>,
    },
    /// Says what this node can inject, by which means, and why not where it cannot.
    Capabilities {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
}

/// The controller: one on another machine that is dialled, or a parent process at the other end of a socket.
#[derive(Debug, clap::Args)]
struct ControllerArgs {
    /// The number of an inherited socket that leads to it; 0 where it was given as standard input.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(0..1024), required_unless_present = "controller")]
    link_fd: Option<i32>,
    /// Where it serves: https://HOST:PORT.
    #[arg(long, value_name = "URL", conflicts_with = "link_fd")]
    controller: Option<hyper::Uri>,
    /// The file with the token of `squall token create` by which this agent joins; not read once it has.
    #[arg(long, value_name = "FILE", requires = "controller")]
    join_token_file: Option<PathBuf>,
    /// Where the agent keeps who it is.
    #[arg(
        long,
        value_name = "DIRECTORY",
        default_value = "/var/lib/squall-agent"
    )]
    state: PathBuf,
    /// What this node is called; as the kernel says where nothing is said.
    #[arg(long, value_name = "NAME", requires = "controller")]
    node: Option<String>,
    /// What this node is labelled with; may be given again.
    #[arg(long = "label", value_name = "NAME=VALUE", value_parser = label, requires = "controller")]
    labels: Vec<(String, String)>,
}

fn label(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write NAME=VALUE")?;
    let one = Labels::from([(name.to_owned(), value.to_owned())]);
    check_labels(&one).map_err(|error| error.to_string())?;
    Ok((name.to_owned(), value.to_owned()))
}

impl ControllerArgs {
    fn run(self, policy: Option<&Path>) -> ExitCode {
        let node = self.node.unwrap_or_else(|| Called::by_the_kernel().node);
        match (self.link_fd, self.controller) {
            (Some(link_fd), _) => boot::run(link_fd, policy),
            (None, Some(controller)) => {
                let address = Address {
                    controller,
                    state: self.state,
                    token_file: self.join_token_file,
                    node,
                };
                boot::dial(address, self.labels.into_iter().collect(), policy)
            }
            // clap asks for one of the two.
            (None, None) => ExitCode::from(2),
        }
    }
}

/// Runs the agent with a program's arguments, the program's name first. Call [`crate::hold::is_holder`] before.
///
/// Exit codes: 0 done, 2 the arguments or the policy are wrong, 3 the link or the kernel failed.
#[must_use]
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    match cli.command {
        Verb::Run { controller, policy } => controller.run(policy.as_deref()),
        Verb::Capabilities { json } => {
            let capabilities = crate::capabilities::probe();
            if json {
                match serde_json::to_string_pretty(&capabilities) {
                    Ok(text) => println!("{text}"),
                    Err(_) => return ExitCode::from(3),
                }
            } else {
                print_table(&capabilities);
            }
            ExitCode::SUCCESS
        }
    }
}

fn print_table(capabilities: &squall_experiments::capability::Capabilities) {
    println!(
        "Linux {}, cgroup {}",
        capabilities.kernel, capabilities.cgroup
    );
    for capability in &capabilities.faults {
        let means: Vec<String> = capability
            .means
            .iter()
            .map(|m| format!("{m:?}").to_lowercase())
            .collect();
        let means = if means.is_empty() {
            "no".to_owned()
        } else {
            means.join(", ")
        };
        println!("{:<10} {means}", capability.fault);
        for note in &capability.notes {
            println!("{:<10}   {note}", "");
        }
    }
}
