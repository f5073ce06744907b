//! The agent's command line.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program talks to its user"
)]

use crate::boot::{self, Called, Setup};
use crate::inventory::containers::Sockets;
use crate::link::dial::Address;
use crate::policy::Policy;
use crate::{doctor, halt};
use clap::{Parser, Subcommand};
use squall_experiments::fault::Holding;
use squall_experiments::join::{Labels, check_labels};
use squall_experiments::units::Timeout;
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
    Run(Box<RunArgs>),
    /// Stops every fault of this node at once, and keeps any from starting until the halt is lifted. Needs no
    /// controller, and no agent that answers.
    Halt {
        /// Lifts it.
        #[arg(long, conflicts_with = "because")]
        lift: bool,
        /// Why, for whoever is refused.
        #[arg(long, value_name = "TEXT")]
        because: Option<String>,
        /// The state directory of the agent.
        #[arg(long, value_name = "DIR", default_value = halt::STATE)]
        state: PathBuf,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Says what this node can do, what is missing, and how to get it.
    Doctor {
        /// The node's policy.
        #[arg(long, value_name = "FILE")]
        policy: Option<PathBuf>,
        /// The state directory of the agent.
        #[arg(long, value_name = "DIR", default_value = halt::STATE)]
        state: PathBuf,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Says what this node can inject, by which means, and why not where it cannot.
    Capabilities {
        /// As JSON.
        #[arg(long)]
        json: bool,
        /// The node's policy, as with `run`.
        #[arg(long, value_name = "FILE")]
        policy: Option<PathBuf>,
    },
}

/// How to serve.
#[derive(Debug, clap::Args)]
struct RunArgs {
    #[command(flatten)]
    controller: ControllerArgs,
    /// The node's policy; /etc/squall/policy.yaml where it is there, safe defaults where it is not.
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// A socket at which a container runtime speaks CRI, instead of those that are usual; may be said several times.
    #[arg(long, value_name = "PATH")]
    cri_socket: Vec<PathBuf>,
    /// A socket at which a Docker engine listens, instead of those that are usual; may be said several times.
    #[arg(long, value_name = "PATH")]
    docker_socket: Vec<PathBuf>,
    /// Where the node keeps what must survive its agent.
    #[arg(long, value_name = "DIR", default_value = halt::STATE)]
    state: PathBuf,
    /// How long the agent may be silent while faults live before its watchdog kills it, and so them; from 1 s.
    #[arg(long, value_name = "TIME", default_value = "8s")]
    watchdog: Timeout,
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

impl RunArgs {
    fn run(self) -> ExitCode {
        self.controller.run(Setup {
            policy: self.policy.as_deref(),
            state: self.state,
            sockets: Sockets {
                cri: self.cri_socket,
                docker: self.docker_socket,
            },
            watchdog: self.watchdog.duration(),
        })
    }
}

impl ControllerArgs {
    fn run(self, setup: Setup<'_>) -> ExitCode {
        let node = self.node.unwrap_or_else(|| Called::by_the_kernel().node);
        match (self.link_fd, self.controller) {
            (Some(link_fd), _) => boot::run(link_fd, setup),
            (None, Some(controller)) => {
                let address = Address {
                    controller,
                    state: setup.state.clone(),
                    token_file: self.join_token_file,
                    node,
                };
                boot::dial(address, self.labels.into_iter().collect(), setup)
            }
            // clap asks for one of the two.
            (None, None) => ExitCode::from(2),
        }
    }
}

/// Runs the agent with a program's arguments, the program's name first. Call [`crate::hold::is_holder`] before.
///
/// Exit codes: 0 done, 2 the arguments or the policy are wrong, 3 the link or the kernel failed; of `doctor` also 1,
/// something is missing.
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
        Verb::Run(args) => args.run(),
        Verb::Halt {
            lift: true,
            state,
            json,
            ..
        } => lift(&state, json),
        Verb::Halt {
            because,
            state,
            json,
            ..
        } => halt(&state, because, json),
        Verb::Doctor {
            policy,
            state,
            json,
        } => doctor(policy.as_deref(), &state, json),
        Verb::Capabilities { json, policy } => capabilities(policy.as_deref(), json),
    }
}

fn capabilities(policy: Option<&Path>, json: bool) -> ExitCode {
    let policy = match Policy::load(policy) {
        Ok(policy) => policy,
        Err(error) => {
            eprintln!("{}", crate::hold::held::chain(&error));
            return ExitCode::from(2);
        }
    };
    let capabilities = crate::capabilities::probe(&policy);
    if json {
        return print_json(&capabilities, 0);
    }
    print_table(&capabilities);
    ExitCode::SUCCESS
}

fn print_json(what: &impl serde::Serialize, code: u8) -> ExitCode {
    match serde_json::to_string_pretty(what) {
        Ok(text) => println!("{text}"),
        Err(_) => return ExitCode::from(3),
    }
    ExitCode::from(code)
}

fn halt(state: &Path, because: Option<String>, json: bool) -> ExitCode {
    let halted = match halt::halt(state, because) {
        Ok(halted) => halted,
        Err(error) => {
            eprintln!(
                "cannot halt: {} cannot be written ({error}): run as root. `pkill -KILL squall` ends every fault, too",
                state.display()
            );
            return ExitCode::from(3);
        }
    };
    let code = if halted.left.is_empty() { 0 } else { 3 };
    if json {
        return print_json(&halted, code);
    }
    println!("{}", halted.halt);
    match (halted.faults, halted.killed) {
        (0, _) => println!("no fault was live"),
        (n, 0) => println!("{n} faults ended"),
        (n, killed) => println!(
            "{n} faults ended; no agent answered for {killed} of them, whose holders were killed"
        ),
    }
    if !halted.left.is_empty() {
        let left = &halted.left;
        println!("still there: {left:?}; they wait inside the kernel: see /proc/PID/stack");
    }
    println!("nothing starts on this node until `squall-agent halt --lift`");
    ExitCode::from(code)
}

fn lift(state: &Path, json: bool) -> ExitCode {
    match halt::lift(state) {
        Ok(was) if json => print_json(&serde_json::json!({ "lifted": was }), 0),
        Ok(true) => {
            println!("lifted: faults may be injected again");
            ExitCode::SUCCESS
        }
        Ok(false) => {
            println!("it was not halted");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!(
                "the halt under {} cannot be lifted ({error}): run as root",
                state.display()
            );
            ExitCode::from(3)
        }
    }
}

fn doctor(policy: Option<&Path>, state: &Path, json: bool) -> ExitCode {
    let report = doctor::examine(policy, state);
    let code = match (report.would_not_serve(), report.is_sound()) {
        (true, _) => 2,
        (false, false) => 1,
        (false, true) => 0,
    };
    if json {
        return print_json(&report, code);
    }
    println!("{}, Linux {}", report.node, report.kernel);
    for finding in &report.findings {
        let sign = match finding.standing {
            doctor::Standing::Good => "good",
            doctor::Standing::Limited => "limited",
            doctor::Standing::Missing => "missing",
        };
        let (about, name) = (finding.about, &finding.name);
        println!("{sign:<8} {about:<10} {name:<22} {}", finding.found);
        for mend in &finding.mends {
            println!("{:<8} {:<10} {:<22}   {mend}", "", "", "");
        }
    }
    ExitCode::from(code)
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
        let held = match capability.held {
            Holding::Kernel => String::new(),
            other => format!("  (held: {})", other.word()),
        };
        println!("{:<10} {means}{held}", capability.fault);
        for note in &capability.notes {
            println!("{:<10}   {note}", "");
        }
    }
}
