//! The `redis` probe against Redis.

use crate::ask::{LIMIT, attempts, failed, once, refused, unanswered, value};
use crate::certificates::Certificates;
use crate::secret;
use crate::{daemon, peer, test};
use lab::world::service::{Service, folder, needing, own, unprivileged};
use lab::world::stub::Stub;
use lab::world::{Result, output, until};
use libtest_mimic::Trial;
use nix::sys::signal::Signal;
use squall_controller::judge::Outcome;
use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;

pub(crate) const PASSWORD: &str = "correct horse";

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        needing(
            // The same program as the server: it looks at the name that it is called by.
            lab::vm::on_path("redis-check-rdb"),
            "redis-tools",
            "redis::a_real_server_is_understood",
            real,
        ),
        test("redis::down_slow_and_garbage_are_told", down_and_garbage),
    ]
}

pub(crate) struct Real {
    pub(crate) service: Service,
    pub(crate) plain: SocketAddr,
    pub(crate) tls: SocketAddr,
    pub(crate) certificates: Certificates,
    pub(crate) secrets: TempDir,
}

pub(crate) fn start(program: &Path) -> Result<Real> {
    let (folder, certificates) = (folder()?, Certificates::new()?);
    let at = |name: &str| folder.path().join(name).display().to_string();
    symlink(program, at("redis-server"))?;
    for (name, from) in [
        ("cert.pem", certificates.cert()),
        ("key.pem", certificates.key()),
        ("ca.pem", certificates.ca()),
    ] {
        std::fs::copy(from, at(name))?;
        own(at(name).as_ref())?;
    }
    let (plain, tls) = (daemon::free()?, daemon::free()?);
    let mut command = unprivileged(at("redis-server"), Signal::SIGKILL);
    command.args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
    command.args(["--port", &plain.port().to_string()]);
    command.args(["--tls-port", &tls.port().to_string()]);
    command.args(["--tls-auth-clients", "no", "--requirepass", PASSWORD]);
    command.args(["--tls-cert-file", &at("cert.pem")]);
    command.args(["--tls-key-file", &at("key.pem")]);
    command.args(["--tls-ca-cert-file", &at("ca.pem")]);
    command.args([
        "--user", "reader", "on", ">reads", "~*", "+@read", "+select",
    ]);
    let secrets = TempDir::new()?;
    let service = Service::start(command, Signal::SIGKILL, folder, &[plain, tls])?;
    Ok(Real {
        service,
        plain,
        tls,
        certificates,
        secrets,
    })
}

impl Real {
    /// Says something to the server as its administrator.
    fn say(&self, words: &[&str]) -> Result<String> {
        let port = self.plain.port().to_string();
        let mut command = Command::new("redis-cli");
        command.args(["-h", "127.0.0.1", "-p", &port, "-a", PASSWORD]);
        output(command.arg("--no-auth-warning").args(words))
    }

    fn ask(&self, more: &str) -> Result<String> {
        let (plain, path) = (self.plain, self.secrets.path());
        let password = secret(path, "password", PASSWORD)?;
        Ok(format!(
            "{{ redis: {{ address: \"{plain}\", every: 50ms, {password}{more} }} }}"
        ))
    }
}

fn real(program: &Path) -> Result<()> {
    let real = start(program)?;
    real.say(&["rpush", "queue", "a", "b", "c"])?;
    real.say(&["set", "reading", "41.5"])?;
    real.say(&["-n", "3", "set", "elsewhere", "1"])?;
    assert_eq!(once(&real.ask("")?)?.outcome, Outcome::Success);
    value(&real.ask(", command: [ LLEN, queue ]")?, 3.0)?;
    value(&real.ask(", command: [ GET, reading ]")?, 41.5)?;
    value(&real.ask(", command: [ EXISTS, nothing ]")?, 0.0)?;
    value(&real.ask(", db: 3, command: DBSIZE")?, 1.0)?;
    failed(&real.ask(", command: [ GET, nothing ]")?, &["nil"])?;
    failed(&real.ask(", command: [ GET, queue ]")?, &["WRONGTYPE"])?;
    failed(
        &real.ask(", db: 99")?,
        &["the choice of the database failed", "out of range"],
    )?;
    login(&real)?;
    tls(&real)?;
    kept(&real)?;
    real.service
        .stopped(|| unanswered(&real.ask(", timeout: 300ms")?, &["300ms"]))?;
    value(&real.ask(", command: [ LLEN, queue ]")?, 3.0)
}

fn login(real: &Real) -> Result<()> {
    let plain = real.plain;
    failed(&format!("{{ redis: \"{plain}\" }}"), &["NOAUTH"])?;
    let wrong = secret(real.secrets.path(), "wrong", "incorrect mule")?;
    let wrong = format!("{{ redis: {{ address: \"{plain}\", {wrong} }} }}");
    failed(&wrong, &["the login failed", "WRONGPASS"])?;
    let told = format!("{:?}", once(&wrong)?);
    assert!(!told.contains("mule"), "{told}");
    let reads = secret(real.secrets.path(), "reads", "reads")?;
    let reader = |command: &str| {
        format!(
            "{{ redis: {{ address: \"{plain}\", user: reader, {reads}, command: {command} }} }}"
        )
    };
    value(&reader("[ LLEN, queue ]"), 3.0)?;
    failed(&reader("PING"), &["NOPERM"])?;
    let gone = "{ redis: { address: \"127.0.0.1:1\", password: { file: /no/such/password } } }";
    let gone = refused(gone)?;
    assert!(gone.contains("/no/such/password"), "{gone}");
    Ok(())
}

fn tls(real: &Real) -> Result<()> {
    let port = real.tls.port();
    let ask = |host: &str, tls: &str| -> Result<String> {
        let (plain, tls_port) = (real.plain.to_string(), format!("{host}:{port}"));
        Ok(real
            .ask(&format!(", timeout: 5s{tls}"))?
            .replace(&plain, &tls_port))
    };
    let ca = real.certificates.ca();
    let trusting = format!(", tls: {{ ca: {} }}", ca.display());
    let trial = once(&ask("localhost", &trusting)?)?;
    assert_eq!(trial.outcome, Outcome::Success, "{trial:?}");
    unanswered(&ask("127.0.0.1", &trusting)?, &["not valid for name"])?;
    unanswered(&ask("localhost", ", tls: {}")?, &["UnknownIssuer"])?;
    // It waits for TLS, or is hung up on: both are no answer.
    unanswered(&ask("localhost", "")?.replace("5s", "500ms"), &[])
}

/// How many connections the server has taken so far.
fn connections(real: &Real) -> Result<u64> {
    let info = real.say(&["info", "stats"])?;
    let line = info
        .lines()
        .find_map(|line| line.strip_prefix("total_connections_received:"));
    Ok(line
        .ok_or("no total_connections_received")?
        .trim()
        .parse()?)
}

/// One connection serves many attempts; one that was closed meanwhile is opened anew, and nobody notices.
fn kept(real: &Real) -> Result<()> {
    const ATTEMPTS: usize = 20;
    let ask = real.ask(", command: [ LLEN, queue ]")?;
    let before = connections(real)?;
    let trials = std::thread::scope(|scope| -> Result<_> {
        let probing = scope.spawn(|| attempts(&ask, ATTEMPTS).map_err(|error| error.to_string()));
        until("the probe's connection", LIMIT, || {
            let clients = real.say(&["client", "list"]).ok()?;
            clients.contains("cmd=llen").then_some(())
        })?;
        real.say(&["client", "kill", "type", "normal", "skipme", "yes"])?;
        Ok(probing.join().map_err(|_| "the probe panicked")??)
    })?;
    let wrong = trials
        .iter()
        .find(|trial| trial.outcome != Outcome::Success);
    assert!(wrong.is_none(), "{wrong:?}");
    let kept = connections(real)? - before;
    let new = format!("{}, connection: new }} }}", ask.trim_end_matches(" } }"));
    let before = connections(real)?;
    attempts(&new, ATTEMPTS)?;
    let new = connections(real)? - before;
    let wanted = u64::try_from(ATTEMPTS)?;
    assert!(new >= wanted, "{new} connections for {ATTEMPTS} attempts");
    // The administrator's own among them.
    assert!(
        kept < wanted,
        "{kept} connections for {ATTEMPTS} attempts that keep theirs"
    );
    Ok(())
}

fn down_and_garbage() -> Result<()> {
    let at = |address: SocketAddr, more: &str| {
        format!("{{ redis: {{ address: \"{address}\"{more} }} }}")
    };
    unanswered(&at(daemon::free()?, ""), &["refused"])?;
    unanswered(&at(peer::silent()?, ", timeout: 300ms"), &["300ms"])?;
    unanswered(&at(peer::saying(b"")?, ""), &["closed the connection"])?;
    unanswered(
        &at(peer::saying(b"$5\r\nhel")?, ""),
        &["closed the connection"],
    )?;
    failed(
        &at(peer::saying(b"+PONG\r\n+PONG\r\n")?, ""),
        &["more than one reply"],
    )?;
    failed(
        &at(peer::saying(b"$-7\r\n")?, ""),
        &["not in Redis' protocol"],
    )?;
    let web = Stub::saying(200, "<html>")?;
    failed(&at(web.address, ""), &["not in Redis' protocol"])
}
