//! A service that is reached over TLS alone, and a fault that acts on what HTTP says.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;

use lab::world::Result;
use lab::world::nginx::Nginx;
use lab::world::wire::{Ip, victim};
use rcgen::{CertificateParams, KeyPair};

use super::{Bench, Fingerprint, RUN_LIMIT, expect};

const PORT: u16 = 7_443;

/// Nothing of it can be read, so nothing is touched, and users are served as well as before: that is no pass, and the verdict says why.
pub(super) fn nothing_to_read() -> Result<()> {
    let bench = Bench::new()?;
    let _server = serve(&bench)?;
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

/// One that closes each connection after its answer: connections that are older than the fault are not led away.
fn serve(bench: &Bench) -> Result<Nginx> {
    let home = bench.home.path();
    let key = KeyPair::generate()?;
    let names = vec![victim(Ip::V4).to_string()];
    let own = CertificateParams::new(names)?.self_signed(&key)?;
    fs::write(home.join("server.pem"), own.pem())?;
    fs::write(home.join("server.key"), key.serialize_pem())?;
    let folder = home.display();
    let server = format!(
        "keepalive_timeout 0; return 200 served;
    ssl_certificate {folder}/server.pem; ssl_certificate_key {folder}/server.key;"
    );
    let at = SocketAddr::new(victim(Ip::V4), PORT);
    Nginx::start(&bench.wire.victim, at, true, &server, home)
}
