//! A real nginx in a network namespace.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::netns::Netns;
use super::{Result, until};

/// How long it may take to start.
const START_LIMIT: Duration = Duration::from_secs(10);

/// One that serves; it ends with this value.
#[derive(Debug)]
pub struct Nginx(Child);

impl Nginx {
    /// Lets it listen at an address; `server` is what its configuration says of that server beside `listen`, and `tls` whether it is
    /// reached over TLS alone. What it needs is written to the folder `home`.
    ///
    /// # Errors
    /// Where there is no nginx, or it does not listen in time.
    pub fn start(
        netns: &Netns,
        at: SocketAddr,
        tls: bool,
        server: &str,
        home: &Path,
    ) -> Result<Self> {
        let (folder, tls) = (home.display(), if tls { " ssl" } else { "" });
        let settings = format!(
            "daemon off; master_process off; pid {folder}/pid; error_log {folder}/errors; events {{}}
http {{ access_log off; server {{ listen {at}{tls}; {server} }} }}"
        );
        let file = home.join("nginx.conf");
        fs::write(&file, settings)?;
        let mut nginx = Command::new("nginx");
        nginx.arg("-c").arg(&file).stdin(Stdio::null());
        let spawned = netns.enter(|| Ok(nginx.spawn()?));
        let server = Self(spawned.map_err(|e| format!("nginx (nginx-light): {e}"))?);
        until("nginx listens", START_LIMIT, || {
            listens(netns, at).then_some(())
        })?;
        Ok(server)
    }
}

fn listens(netns: &Netns, at: SocketAddr) -> bool {
    netns.enter(|| Ok(TcpStream::connect(at)?)).is_ok()
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // One that has ended was seen to: nobody was served.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
