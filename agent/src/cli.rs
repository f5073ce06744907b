//! The agent's command line.
#![allow(clippy::print_stdout, reason = "a program talks to its user")]

use crate::boot;
use crate::inventory::containers::Sockets;
use clap::{Parser, Subcommand};
use std::ffi::OsString;
use std::path::PathBuf;
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
        /// The number of an inherited socket that leads to it; 0 where it was given as standard input.
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(0..1024))]
        link_fd: i32,
        /// The node's policy; /etc/squall/policy.yaml where it is there, safe defaults where it is not.
        #[arg(long, value_name = "FILE")]
        policy: Option<PathBuf>,
        /// A socket at which a container runtime speaks CRI, instead of those that are usual; may be said several times.
        #[arg(long, value_name = "PATH")]
        cri_socket: Vec<PathBuf>,
        /// A socket at which a Docker engine listens, instead of those that are usual; may be said several times.
        #[arg(long, value_name = "PATH")]
        docker_socket: Vec<PathBuf>,
    },
    /// Says what this node can inject, by which means, and why not where it cannot.
    Capabilities {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
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
        Verb::Run {
            link_fd,
            policy,
            cri_socket,
            docker_socket,
        } => boot::run(
            link_fd,
            policy.as_deref(),
            Sockets {
                cri: cri_socket,
                docker: docker_socket,
            },
        ),
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
