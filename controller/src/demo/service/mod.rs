//! The two services of the demo: ordinary HTTP services, each a process in a network namespace of its own.
//!
//! A service and the demo talk over its standard input and output, a line each way at a time:
//!
//! ```text
//!  service: apart        it has left for a network namespace of its own; links can be moved there
//!  demo:    {"links":…}  its addresses, and what it needs to know
//!  service: serving      it accepts connections
//!  demo:    (end of file) it ends
//! ```

mod orders;
mod payment;

use super::net::Net;
use super::{DemoError, sandbox};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl::{set_name, set_pdeathsig};
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};
use std::ffi::CString;
use std::io::{self, BufRead as _, Write as _};
use std::net::{IpAddr, SocketAddr};
use tokio::net::TcpListener;

pub(super) use orders::{Stats, Version};

/// What a service says when it is in its own namespace.
pub(super) const APART: &str = "apart";
/// What a service says when it accepts connections.
pub(super) const SERVING: &str = "serving";

/// All that a service needs to know.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Setup {
    /// The links that it is given.
    pub(super) links: Vec<Link>,
    /// Where it listens.
    pub(super) listen: SocketAddr,
    /// Where payment is, for the order service.
    pub(super) payment: Option<SocketAddr>,
    /// How the order service is made.
    pub(super) version: Version,
}

/// A link and the address it is to have.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Link {
    pub(super) name: String,
    pub(super) address: IpAddr,
    pub(super) prefix: u8,
}

/// One service, from its start to its end. `args[0]` is its name, which is also the name `ps` shows.
pub(super) fn main(args: &[String]) -> Result<(), DemoError> {
    let name = args.first().map_or("service", String::as_str);
    let shown = CString::new(name).map_err(|_| DemoError::Usage("a name with a zero".into()))?;
    let apart = || {
        set_name(&shown)?;
        unshare(CloneFlags::CLONE_NEWNET)?;
        // After the last change of namespaces, some of which clear it.
        set_pdeathsig(Signal::SIGKILL)
    };
    apart()
        .map_err(io::Error::from)
        .map_err(|source| DemoError::NoNamespaces {
            operation: "a network namespace for a service",
            source,
        })?;
    tell(APART)?;
    let mut line = String::new();
    io::stdin()
        .lock()
        .read_line(&mut line)
        .map_err(DemoError::io("reading what the service is to be"))?;
    let setup: Setup = serde_json::from_str(&line)
        .map_err(|error| DemoError::Usage(format!("a service was told `{line}`: {error}")))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(DemoError::io("starting the service's runtime"))?;
    let ended = runtime.block_on(async {
        tokio::select! {
            ended = serve(name, setup) => ended,
            () = sandbox::until_end_of_input() => Ok(()),
        }
    });
    // The reader of standard input may wait in a thread for a line that never comes.
    runtime.shutdown_background();
    ended
}

async fn serve(name: &str, setup: Setup) -> Result<(), DemoError> {
    let net = Net::open()?;
    net.up("lo").await?;
    for link in &setup.links {
        net.address(&link.name, link.address, link.prefix).await?;
    }
    let listener = TcpListener::bind(setup.listen)
        .await
        .map_err(DemoError::io(format!(
            "{name} listening on {}",
            setup.listen
        )))?;
    let router = match setup.payment {
        Some(payment) => orders::router(payment, setup.version),
        None => payment::router(),
    };
    tell(SERVING)?;
    axum::serve(listener, router)
        .await
        .map_err(DemoError::io(format!("{name} serving on {}", setup.listen)))
}

fn tell(line: &str) -> Result<(), DemoError> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")
        .and_then(|()| out.flush())
        .map_err(DemoError::io("telling the demo that the service is ready"))
}
