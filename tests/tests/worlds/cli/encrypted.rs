//! A service that is reached over TLS alone, and a fault that acts on what HTTP says.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use lab::world::netns::Netns;
use lab::world::wire::{Ip, victim};
use lab::world::{Result, until};
use rcgen::{CertificateParams, KeyPair};

use super::{Bench, FAULT_LIMIT, Fingerprint, RUN_LIMIT, expect};

const PORT: u16 = 7_443;

/// Nothing of it can be read, so nothing is touched, and users are served as well as before: that is no pass, and the verdict says why.
pub(super) fn nothing_to_read() -> Result<()> {
    let bench = Bench::new()?;
    let _server = Server::start(&bench)?;
    let before = Fingerprint::of(&bench.wire.victim)?;
    let (got, said) = bench.start(&experiment(&bench)?)?.end(RUN_LIMIT)?;
    let said = said.to_lowercase();
    for words in ["inconclusive", "are encrypted, which it cannot read"] {
        expect((got, said.clone()), 3, words)?;
    }
    bench.is_as_before(&before)
}

/// One that refuses what it can read.
fn experiment(bench: &Bench) -> Result<PathBuf> {
    let file = bench.home.path().join("encrypted.yaml");
    let text = format!(
        "apiVersion: squall/v1
kind: Experiment
metadata: {{ name: refused-requests, owner: lab, runbook: \"https://wiki.example/refused\" }}
hypothesis: Users are served while requests are refused.
steadyState:
  - name: service
    probe: {{ load: {{ url: \"https://{}:{PORT}/\", rate: 20/s, timeout: 3s, tls: {{ ca: server.pem }} }} }}
    expect: [ success >= 90% ]
method:
  - name: refused requests
    fault: {{ http: {{ abort: 503, to: {{ port: {PORT} }}, direction: ingress }} }}
    on: {{ netns: {{ name: {} }} }}
    hold: 5s
baseline: 6s
recovery: 20s
",
        victim(Ip::V4),
        bench.wire.victim.name()
    );
    fs::write(&file, text)?;
    Ok(file)
}

/// nginx, which closes each connection after its answer: connections that are older than the fault are not led away. It ends with
/// this value.
struct Server(Child);

impl Server {
    fn start(bench: &Bench) -> Result<Self> {
        let home = bench.home.path();
        let key = KeyPair::generate()?;
        let names = vec![victim(Ip::V4).to_string()];
        let own = CertificateParams::new(names)?.self_signed(&key)?;
        fs::write(home.join("server.pem"), own.pem())?;
        fs::write(home.join("server.key"), key.serialize_pem())?;
        let (home, netns) = (home.display(), &bench.wire.victim);
        let settings = format!(
            "daemon off; master_process off; pid {home}/pid; error_log {home}/errors; events {{}}
http {{ access_log off; keepalive_timeout 0; server {{
    listen {}:{PORT} ssl; ssl_certificate {home}/server.pem; ssl_certificate_key {home}/server.key;
    return 200 served; }} }}",
            victim(Ip::V4)
        );
        let file = bench.home.path().join("nginx.conf");
        fs::write(&file, settings)?;
        let mut nginx = Command::new("nginx");
        nginx.arg("-c").arg(&file).stdin(Stdio::null());
        let server = Self(netns.enter(|| Ok(nginx.spawn()?))?);
        until("a server", FAULT_LIMIT, || listens(netns).then_some(()))
            .map_err(|error| format!("{error}; it needs nginx: apt-get install nginx-light"))?;
        Ok(server)
    }
}

fn listens(netns: &Netns) -> bool {
    let at = SocketAddr::new(victim(Ip::V4), PORT);
    netns.enter(|| Ok(TcpStream::connect(at)?)).is_ok()
}

impl Drop for Server {
    fn drop(&mut self) {
        // One that has ended has been seen to: its users were not served.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
