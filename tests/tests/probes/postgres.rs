//! The `postgres` probe against PostgreSQL.

use crate::ask::{attempts, failed, once, refused, unanswered, value};
use crate::certificates::Certificates;
use crate::secret;
use crate::{daemon, peer, test};
use lab::world::Result;
use lab::world::postgres::{Data, programs};
use lab::world::service::{Service, needing, own};
use squall_controller::judge::{Outcome, Trial};
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use tempfile::TempDir;

pub(crate) const PASSWORD: &str = "correct horse";

pub(crate) fn trials() -> Vec<libtest_mimic::Trial> {
    vec![
        needing(
            programs(),
            "postgresql",
            "postgres::a_real_server_is_understood",
            real,
        ),
        test("postgres::down_slow_and_garbage_are_told", down_and_garbage),
    ]
}

pub(crate) struct Real {
    pub(crate) service: Service,
    pub(crate) address: SocketAddr,
    pub(crate) certificates: Certificates,
    pub(crate) secrets: TempDir,
}

pub(crate) fn start(programs: &Path) -> Result<Real> {
    let (data, certificates) = (Data::new(programs, Some(PASSWORD))?, Certificates::new()?);
    for (name, from) in [
        ("cert.pem", certificates.cert()),
        ("key.pem", certificates.key()),
        ("ca.pem", certificates.ca()),
    ] {
        fs::copy(from, data.path(name))?;
        // It refuses a key that others may read.
        fs::set_permissions(data.path(name), fs::Permissions::from_mode(0o600))?;
        own(&data.path(name))?;
    }
    demand_certificate(&data.path("data/pg_hba.conf"))?;
    let file = |setting: &str, name: &str| format!("{setting}={}", data.path(name).display());
    let settings = [
        "ssl=on".to_owned(),
        file("ssl_cert_file", "cert.pem"),
        file("ssl_key_file", "key.pem"),
        file("ssl_ca_file", "ca.pem"),
    ];
    let (service, address) = data.start(&settings)?;
    Ok(Real {
        service,
        address,
        certificates,
        secrets: TempDir::new()?,
    })
}

/// One database wants a client's certificate; the first line that fits decides.
fn demand_certificate(rules: &Path) -> Result<()> {
    let others = fs::read_to_string(rules)?;
    let rule = "hostssl template1 all 127.0.0.1/32 scram-sha-256 clientcert=verify-ca";
    Ok(fs::write(rules, format!("{rule}\n{others}"))?)
}

/// A login costs both sides thousands of hashes, and unoptimised on a busy machine seconds: attempts must not pile up.
const PATIENT: &str = "every: 60s, timeout: 20s";

impl Real {
    fn ask(&self, more: &str) -> Result<String> {
        let (address, path) = (self.address, self.secrets.path());
        let password = secret(path, "password", PASSWORD)?;
        Ok(format!(
            "{{ postgres: {{ address: \"{address}\", user: squall, {password}, database: postgres, {PATIENT}{more} }} }}"
        ))
    }

    fn query(&self, query: &str) -> Result<String> {
        self.ask(&format!(", query: \"{query}\""))
    }
}

fn real(programs: &Path) -> Result<()> {
    let real = start(programs)?;
    value(&real.ask("")?, 1.0)?;
    value(
        &real.query("select count(*) from generate_series(1, 3)")?,
        3.0,
    )?;
    value(
        &real.query("select -0.25::float8, 'more' union all select 2, 'rows'")?,
        -0.25,
    )?;
    for without in ["select 'text'", "select null::int", "select 1 where false"] {
        let trial = once(&real.query(without)?)?;
        assert_eq!(
            (trial.value, &trial.outcome),
            (None, &Outcome::Success),
            "{without}"
        );
    }
    failed(
        &real.query("select nothing")?,
        &["SQLSTATE 42703", "nothing"],
    )?;
    failed(&real.query("select 1/0")?, &["SQLSTATE 22012"])?;
    failed(
        &real.query("select generate_series(1, 2000)")?,
        &["add `limit 1`"],
    )?;
    // Whatever it is called, it changes nothing.
    failed(
        &real.query("with gone as (delete from pg_description where false returning 1) select count(*) from gone")?,
        &["SQLSTATE 25006"],
    )?;
    login(&real)?;
    tls(&real)?;
    sessions(&real)?;
    slow(&real)
}

fn login(real: &Real) -> Result<()> {
    let right = secret(real.secrets.path(), "password", PASSWORD)?;
    let wrong = secret(real.secrets.path(), "wrong", "incorrect mule")?;
    let ask = real.ask("")?;
    failed(&ask.replace(&right, &wrong), &["SQLSTATE 28P01"])?;
    let told = format!("{:?}", once(&ask.replace(&right, &wrong))?);
    assert!(!told.contains("mule"), "{told}");
    let nobody = ask.replace("user: squall", "user: nobody");
    failed(&nobody, &["SQLSTATE 28P01"])?;
    let elsewhere = ask.replace("database: postgres", "database: nowhere");
    failed(&elsewhere, &["SQLSTATE 3D000", "nowhere"])?;
    let without = ask.replace(&format!("{right}, "), "");
    unanswered(&without, &["password missing"])?;
    let gone = refused(&ask.replace(&right, "password: { env: SQUALL_TEST_NO_SUCH_VARIABLE }"))?;
    assert!(gone.contains("SQUALL_TEST_NO_SUCH_VARIABLE"), "{gone}");
    Ok(())
}

fn tls(real: &Real) -> Result<()> {
    let (address, port) = (real.address.to_string(), real.address.port());
    let ca = real.certificates.ca();
    let encrypted = "query: select ssl::int from pg_stat_ssl where pid = pg_backend_pid()";
    let trusting = format!(", tls: {{ ca: {} }}, {encrypted}", ca.display());
    let named = real
        .ask(&trusting)?
        .replace(&address, &format!("localhost:{port}"));
    value(&named, 1.0)?;
    value(&real.ask(&format!(", {encrypted}"))?, 0.0)?;
    unanswered(&real.ask(&trusting)?, &["not valid for name"])?;
    let unknown = real.ask(", tls: { serverName: localhost }")?;
    unanswered(&unknown, &["UnknownIssuer"])?;
    // A client's certificate: the right one, none, and that of an authority that the server does not know.
    let client = |client: &str| -> Result<String> {
        let tls = format!(
            ", tls: {{ ca: {}, serverName: localhost{client} }}",
            ca.display()
        );
        Ok(real
            .ask(&tls)?
            .replace("database: postgres", "database: template1"))
    };
    value(&client(&format!(", {}", real.certificates.client()))?, 1.0)?;
    failed(&client("")?, &["SQLSTATE 28000", "client certificate"])?;
    let foreign = Certificates::new()?;
    // Which alert it is depends on whether the authorities have the same name.
    unanswered(
        &client(&format!(", {}", foreign.client()))?,
        &["received fatal alert"],
    )
}

/// The numbers of the sessions that served the first attempts, all of them successes.
fn pids_of(ask: &str, count: usize) -> Result<Vec<u64>> {
    let pid = |trial: Trial| match (trial.outcome, trial.value) {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a process's number"
        )]
        (Outcome::Success, Some(pid)) => Ok(pid as u64),
        other => Err(format!("{ask}: {other:?}").into()),
    };
    attempts(ask, count)?.into_iter().map(pid).collect()
}

/// One session serves many attempts; one that the server ends is opened anew, and nobody notices.
fn sessions(real: &Real) -> Result<()> {
    let pids = |more: &str, count: usize| -> Result<Vec<u64>> {
        let ask = real.ask(&format!(", query: select pg_backend_pid(){more}"))?;
        pids_of(&ask.replace("every: 60s", "every: 200ms"), count)
    };
    let kept = pids("", 10)?;
    assert!(kept.windows(2).any(|pair| pair[0] == pair[1]), "{kept:?}");
    let new = pids(", connection: new", 3)?;
    assert!(new.windows(2).all(|pair| pair[0] != pair[1]), "{new:?}");
    // This query ends the session that it finds, as a server does that is restarted; not one that was opened for it.
    let ends = "select pg_backend_pid(), case when now() - backend_start > '2s' then pg_terminate_backend(pid) end \
                from pg_stat_activity where pid = pg_backend_pid()";
    let ask = real.query(ends)?.replace("every: 60s", "every: 3s");
    let ended = pids_of(&ask, 2)?;
    assert_ne!(ended[0], ended[1], "the session was not ended");
    Ok(())
}

fn slow(real: &Real) -> Result<()> {
    let sleeps = real.query("select pg_sleep(20)")?;
    let sleeps = sleeps.replace("timeout: 20s", "timeout: 1500ms");
    unanswered(&sleeps, &["1.5s"]).or_else(|_| failed(&sleeps, &["SQLSTATE 57014"]))?;
    // Nobody waits for it any more, and so nobody runs it any more.
    let left = "select count(*) from pg_stat_activity where query ~ 'pg_sleep.20.' and pid <> pg_backend_pid() and state = 'active'";
    value(&real.query(left)?, 0.0)?;
    real.service
        .stopped(|| unanswered(&real.ask("")?.replace("20s", "300ms"), &["300ms"]))?;
    value(&real.ask("")?, 1.0)
}

fn down_and_garbage() -> Result<()> {
    let at = |address: SocketAddr, more: &str| {
        format!("{{ postgres: {{ address: \"{address}\", user: squall{more} }} }}")
    };
    unanswered(&at(daemon::free()?, ""), &["refused"])?;
    unanswered(&at(peer::silent()?, ", timeout: 300ms"), &["300ms"])?;
    unanswered(&at(peer::saying(b"")?, ""), &[])?;
    let certificates = Certificates::new()?;
    let tls = format!(", tls: {{ ca: {} }}", certificates.ca().display());
    failed(&at(peer::saying(b"N")?, &tls), &["does not speak TLS"])?;
    failed(&at(peer::saying(b"HTTP")?, &tls), &["not PostgreSQL's"])?;
    let web = peer::saying(b"HTTP/1.1 400 Bad Request\r\n\r\n")?;
    unanswered(&at(web, ""), &[])?;
    // An error as the server words it, from somebody who does not even ask for a password.
    let error = b"E\0\0\0\x26SFATAL\0C57P03\0Mstarting up, wait\0\0";
    failed(
        &at(peer::saying(error)?, ""),
        &["SQLSTATE 57P03", "starting up"],
    )
}
