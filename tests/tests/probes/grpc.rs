//! The `grpc` probe against gRPC's own server, in Python.

use crate::ask::{failed, once, refused, unanswered};
use crate::certificates::Certificates;
use crate::{daemon, peer, test};
use lab::world::service::{Service, folder, needing, own, unprivileged};
use lab::world::stub::Stub;
use lab::world::{Result, until};
use libtest_mimic::Trial;
use nix::sys::signal::Signal;
use squall_controller::judge::Outcome;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;
use tempfile::TempDir;

/// How long Python may take to start on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(60);

/// Debian's own Python, which finds Debian's packages.
const PYTHON: &str = "/usr/bin/python3";

const SERVER: &str = include_str!("health_server.py");

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        needing(
            installed(),
            "python3-grpcio",
            "grpc::a_real_server_is_understood",
            |_| real(),
        ),
        test("grpc::down_slow_and_garbage_are_told", down_and_garbage),
    ]
}

/// Where Debian has gRPC's Python package, if it has it here.
pub(crate) fn installed() -> Option<PathBuf> {
    let module = PathBuf::from("/usr/lib/python3/dist-packages/grpc/__init__.py");
    Some(module).filter(|module| module.exists())
}

/// gRPC's server, on a port in the open, one without a health service, one behind TLS, and one that wants a client's certificate.
pub(crate) struct Real {
    pub(crate) service: Service,
    pub(crate) ports: Vec<u16>,
    pub(crate) certificates: Certificates,
    secrets: TempDir,
}

pub(crate) fn start() -> Result<Real> {
    let (folder, certificates) = (folder()?, Certificates::new()?);
    let copy = |name: &str, from: PathBuf| -> Result<PathBuf> {
        let to = folder.path().join(name);
        fs::copy(from, &to)?;
        own(&to)?;
        Ok(to)
    };
    let cert = copy("cert.pem", certificates.cert())?;
    let key = copy("key.pem", certificates.key())?;
    let ca = copy("ca.pem", certificates.ca())?;
    let mut command = unprivileged(PYTHON, Signal::SIGKILL);
    command.args(["-c", SERVER]).args([cert, key, ca]);
    let said = folder.path().join("said");
    let service = Service::start(command, Signal::SIGKILL, folder, &[])?;
    let ports = until("the ports of the gRPC server", START_LIMIT, || {
        let text = fs::read_to_string(&said).ok()?;
        let line = text.strip_suffix('\n')?;
        line.split(' ').map(|port| port.parse().ok()).collect()
    });
    let ports: Vec<u16> = ports.map_err(|error| {
        let said = fs::read_to_string(&said).unwrap_or_default();
        format!("{error}; it said: {said}")
    })?;
    Ok(Real {
        service,
        ports,
        certificates,
        secrets: TempDir::new()?,
    })
}

fn serving(probe: &str) -> Result<()> {
    let trial = once(probe)?;
    match trial.outcome {
        Outcome::Success => Ok(()),
        other => Err(format!("{probe}: {other:?}").into()),
    }
}

fn real() -> Result<()> {
    let real = start()?;
    let ask = |port: usize, more: &str| {
        let port = real.ports[port];
        format!("{{ grpc: {{ address: \"127.0.0.1:{port}\", every: 100ms{more} }} }}")
    };
    serving(&ask(0, ""))?;
    serving(&ask(0, ", service: shop.v1.Orders"))?;
    failed(&ask(0, ", service: sick"), &["`sick` is NOT_SERVING"])?;
    failed(&ask(0, ", service: unknown"), &["`unknown`", "UNKNOWN"])?;
    failed(&ask(0, ", service: new"), &["SERVICE_UNKNOWN"])?;
    failed(
        &ask(0, ", service: none.such"),
        &["NOT_FOUND", "`none.such`"],
    )?;
    let guarded = ["UNAUTHENTICATED: no token, naïve 100%"];
    failed(&ask(0, ", service: guarded"), &guarded)?;
    guarded_by_token(&real, ask)?;
    failed(&ask(1, ""), &["UNIMPLEMENTED", "no health service"])?;
    tls(&real, ask)?;
    real.service
        .stopped(|| unanswered(&ask(0, ", timeout: 300ms"), &["300ms"]))?;
    serving(&ask(0, ""))
}

/// Metadata reaches the server, and a secret in it never comes back in a reason.
fn guarded_by_token(real: &Real, ask: impl Fn(usize, &str) -> String) -> Result<()> {
    let with = |token: &str, tenant: &str| -> Result<String> {
        let file = real.secrets.path().join(token);
        fs::write(&file, token)?;
        let (file, service) = (file.display(), "service: guarded");
        let auth = format!("auth: {{ bearer: {{ file: {file} }} }}");
        Ok(ask(
            0,
            &format!(", {service}, {auth}, headers: {{ x-tenant: {tenant} }}"),
        ))
    };
    serving(&with("right", "shop")?)?;
    failed(&with("right", "other")?, &["UNAUTHENTICATED"])?;
    failed(&with("mule", "shop")?, &["UNAUTHENTICATED: Bearer •••"])?;
    let gone = ", auth: { bearer: { file: /no/such/token } }";
    let gone = refused(&ask(0, gone))?;
    assert!(gone.contains("/no/such/token"), "{gone}");
    Ok(())
}

fn tls(real: &Real, ask: impl Fn(usize, &str) -> String) -> Result<()> {
    let ca = format!("ca: {}", real.certificates.ca().display());
    let named = format!("{ca}, serverName: localhost");
    let own = format!(
        "{named}, cert: {}, key: {}",
        real.certificates.cert().display(),
        real.certificates.key().display()
    );
    serving(&ask(2, &format!(", tls: {{ {named} }}")))?;
    unanswered(
        &ask(2, &format!(", tls: {{ {ca} }}")),
        &["not valid for name"],
    )?;
    unanswered(
        &ask(2, ", tls: { serverName: localhost }"),
        &["UnknownIssuer"],
    )?;
    // Each speaks what the other does not.
    let short = ", timeout: 2s";
    unanswered(&ask(2, short), &[])?;
    unanswered(&ask(0, &format!("{short}, tls: {{ {named} }}")), &[])?;
    serving(&ask(3, &format!(", tls: {{ {own} }}")))?;
    unanswered(&ask(3, &format!(", tls: {{ {named} }}")), &[])?;
    let gone = refused(&ask(2, ", tls: { ca: /no/such/ca.pem }"))?;
    assert!(gone.contains("/no/such/ca.pem"), "{gone}");
    Ok(())
}

fn down_and_garbage() -> Result<()> {
    let at = |address: std::net::SocketAddr, more: &str| {
        format!("{{ grpc: {{ address: \"{address}\"{more} }} }}")
    };
    unanswered(&at(daemon::free()?, ""), &["refused"])?;
    unanswered(&at(peer::silent()?, ", timeout: 300ms"), &["300ms"])?;
    unanswered(&at(peer::saying(b"")?, ""), &[])?;
    unanswered(&at(peer::saying(b"SSH-2.0-OpenSSH_9.2\r\n")?, ""), &[])?;
    let web = Stub::saying(200, "<html>")?;
    unanswered(&at(web.address, ""), &[])
}
