//! The `prometheus` probe against Prometheus.

use crate::ask::{attempts, failed, once, refused, unanswered, value};
use crate::certificates::Certificates;
use crate::{daemon, test, with};
use lab::world::stub::{Said, Stub};
use lab::world::{Result, output};
use libtest_mimic::Trial;
use squall_controller::judge::Outcome;
use std::fs;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use tempfile::TempDir;

pub(crate) fn trials() -> Vec<Trial> {
    let real = |name: &str, check: fn(&Real) -> Result<()>| {
        with(PROGRAM, &format!("prometheus::{name}"), move || {
            check(&*real()?)
        })
    };
    vec![
        real("a_number_is_the_value", numbers),
        real("a_range_becomes_one_number", ranges),
        real("what_is_not_one_number_says_why", not_one_number),
        real("its_own_error_is_passed_on", own_error),
        real("a_wrong_certificate_is_told", certificate),
        real(
            "a_client_certificate_is_shown_and_a_foreign_one_refused",
            mutual,
        ),
        real("a_wrong_password_is_told", password),
        test("prometheus::down_slow_and_garbage_are_told", || {
            down()?;
            garbage()
        }),
        test(
            "prometheus::a_secret_that_is_missing_refuses",
            missing_secret,
        ),
        test("prometheus::a_secret_is_not_quoted_back", quoted_secret),
    ]
}

/// The program, and its package.
pub(crate) const PROGRAM: (&str, &str) = ("prometheus", "prometheus");

/// What the password's hash below was made of; as long as the test's own.
const PASSWORD: &str = "correct horse";

/// A Prometheus that scrapes itself, in the open; another behind TLS and a password; and one that wants a client's certificate.
pub(crate) struct Real {
    pub(crate) open: SocketAddr,
    pub(crate) closed: SocketAddr,
    pub(crate) mutual: SocketAddr,
    pub(crate) certificates: Certificates,
    pub(crate) folder: TempDir,
}

/// Those that all tests ask.
static SHARED: Mutex<Option<Arc<Real>>> = Mutex::new(None);

pub(crate) fn real() -> Result<Arc<Real>> {
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    match &*shared {
        Some(real) => Ok(Arc::clone(real)),
        None => Ok(Arc::clone(shared.insert(Arc::new(start()?)))),
    }
}

/// Takes away what they had, once they have ended.
pub(crate) fn clear() {
    drop(SHARED.lock().unwrap_or_else(PoisonError::into_inner).take());
}

pub(crate) fn start() -> Result<Real> {
    let (folder, certificates) = (TempDir::new()?, Certificates::new()?);
    let path = |name: &str| folder.path().join(name);
    fs::write(path("password"), PASSWORD)?;
    fs::write(path("wrong"), "incorrect mule")?;
    // The C library's own bcrypt, as a person would use htpasswd.
    let program = format!("print crypt('{PASSWORD}', '$2b$04$abcdefghijklmnopqrstuu')");
    let hash = output(Command::new("perl").args(["-e", &program]))?;
    let web = format!(
        "tls_server_config: {{ cert_file: {}, key_file: {} }}\nbasic_auth_users: {{ squall: '{hash}' }}\n",
        certificates.cert().display(),
        certificates.key().display()
    );
    fs::write(path("web.yml"), web)?;
    let web = format!(
        "tls_server_config: {{ cert_file: {}, key_file: {}, client_ca_file: {}, client_auth_type: RequireAndVerifyClientCert }}\n",
        certificates.cert().display(),
        certificates.key().display(),
        certificates.ca().display()
    );
    fs::write(path("mutual.yml"), web)?;
    let (open, closed, mutual) = (daemon::free()?, daemon::free()?, daemon::free()?);
    fs::write(
        path("prometheus.yml"),
        format!(
            "global: {{ scrape_interval: 1s }}\nscrape_configs:\n  - job_name: itself\n    static_configs: [ {{ targets: [ '{open}' ] }} ]\n"
        ),
    )?;
    let run = |address: SocketAddr, name: &str, more: Option<String>| {
        let config = path("prometheus.yml").display().to_string();
        let mut args = vec![
            format!("--config.file={config}"),
            format!("--storage.tsdb.path={}", path(name).display()),
            format!("--web.listen-address={address}"),
        ];
        args.extend(more);
        daemon::start("prometheus", &args, address)
    };
    run(open, "open", None)?;
    let web = |name: &str| Some(format!("--web.config.file={}", path(name).display()));
    run(closed, "closed", web("web.yml"))?;
    run(mutual, "mutual", web("mutual.yml"))?;
    Ok(Real {
        open,
        closed,
        mutual,
        certificates,
        folder,
    })
}

impl Real {
    fn asking(&self, query: &str) -> String {
        let open = self.open;
        format!("{{ prometheus: {{ url: \"http://{open}\", query: '{query}', every: 100ms }} }}")
    }

    fn closed(&self, host: &str, more: &str) -> String {
        let port = self.closed.port();
        format!(
            "{{ prometheus: {{ url: \"https://{host}:{port}\", query: vector(1), every: 100ms, {more} }} }}"
        )
    }

    fn auth(&self, file: &str) -> String {
        let file = self.folder.path().join(file);
        let file = file.display();
        format!("auth: {{ basic: {{ user: squall, password: {{ file: {file} }} }} }}")
    }
}

fn numbers(real: &Real) -> Result<()> {
    value(&real.asking("6 * 7"), 42.0)?;
    value(&real.asking("vector(-0.5)"), -0.5)?;
    // Once it has scraped itself.
    value(&real.asking("up{job=\"itself\"}"), 1.0)?;
    value(&real.asking("sum(up) / count(up)"), 1.0)
}

fn ranges(real: &Real) -> Result<()> {
    let range = |query: &str, range: &str| {
        let open = real.open;
        format!(
            "{{ prometheus: {{ url: \"http://{open}/\", query: '{query}', range: {range}, every: 100ms }} }}"
        )
    };
    value(&range("vector(3)", "5s"), 3.0)?;
    value(
        &range("vector(3)", "{ over: 4s, step: 2s, reduce: sum }"),
        9.0,
    )?;
    value(&range("time() - time()", "{ over: 4s, reduce: avg }"), 0.0)?;
    // Time goes on: over ten seconds it grows by ten, and its extremes are apart.
    let trial = |reduce: &str| {
        let range = range("time()", &format!("{{ over: 10s, reduce: {reduce} }}"));
        Ok::<f64, Box<dyn std::error::Error + Send + Sync>>(once(&range)?.value.ok_or("no value")?)
    };
    let (least, most) = (trial("min")?, trial("max")?);
    if most - least < 9.0 {
        return Err(format!("{least} to {most}").into());
    }
    Ok(())
}

fn not_one_number(real: &Real) -> Result<()> {
    let two = "label_replace(vector(1), \"a\", \"b\", \"\", \"\") or vector(2)";
    failed(&real.asking(two), &["2 results", "sum("])?;
    failed(&real.asking("no_such_series"), &["absent"])?;
    failed(&real.asking("0 / 0"), &["NaN"])?;
    failed(&real.asking("vector(1) / 0"), &["+Inf"])?;
    failed(&real.asking("\"text\""), &["text"])
}

fn own_error(real: &Real) -> Result<()> {
    failed(&real.asking("sum by"), &["bad_data", "parse error"])
}

fn certificate(real: &Real) -> Result<()> {
    let (ca, auth) = (real.certificates.ca(), real.auth("password"));
    let trusting = format!("tls: {{ ca: {} }}", ca.display());
    value(
        &real.closed("localhost", &format!("{trusting}, {auth}")),
        1.0,
    )?;
    // The system's authorities do not know it.
    unanswered(&real.closed("localhost", &auth), &["UnknownIssuer"])?;
    // By its address its certificate does not know it, unless the name is said.
    let by_address = real.closed("127.0.0.1", &format!("{trusting}, {auth}"));
    unanswered(&by_address, &["certificate not valid for name"])?;
    let named = format!(
        "tls: {{ ca: {}, serverName: localhost }}, {auth}",
        ca.display()
    );
    value(&real.closed("127.0.0.1", &named), 1.0)?;
    // What speaks TLS is not asked in plain text, and the other way round.
    let port = real.open.port();
    let plain = format!(
        "{{ prometheus: {{ url: \"https://localhost:{port}\", query: vector(1), {trusting} }} }}"
    );
    unanswered(&plain, &["corrupt message"])?;
    let no_file = real.closed("localhost", "tls: { ca: /no/such/ca.pem }");
    let why = refused(&no_file)?;
    if !why.contains("/no/such/ca.pem") {
        return Err(why.into());
    }
    Ok(())
}

/// The right client certificate, none, and one of an authority that the server does not know; the server decides.
fn mutual(real: &Real) -> Result<()> {
    let (port, ca) = (real.mutual.port(), real.certificates.ca());
    let asking = |client: &str| {
        format!(
            "{{ prometheus: {{ url: \"https://localhost:{port}\", query: vector(1), every: 100ms, tls: {{ ca: {}{client} }} }} }}",
            ca.display()
        )
    };
    value(&asking(&format!(", {}", real.certificates.client())), 1.0)?;
    unanswered(&asking(""), &["ertificate"])?;
    let foreign = Certificates::new()?;
    unanswered(&asking(&format!(", {}", foreign.client())), &["ertificate"])?;
    // A key that is not the certificate's is found before anything begins.
    let (own, other) = (real.certificates.client(), foreign.client());
    let mixed = own.split(", ").next().zip(other.split(", ").nth(1));
    let (cert, key) = mixed.ok_or("no certificate")?;
    let why = refused(&asking(&format!(", {cert}, {key}")))?;
    if why.contains("cannot be used") {
        Ok(())
    } else {
        Err(why.into())
    }
}

fn password(real: &Real) -> Result<()> {
    let trusting = format!("tls: {{ ca: {} }}", real.certificates.ca().display());
    let none = real.closed("localhost", &trusting);
    unanswered(&none, &["status 401"])?;
    let wrong = real.closed("localhost", &format!("{trusting}, {}", real.auth("wrong")));
    unanswered(&wrong, &["status 401"])
}

fn down() -> Result<()> {
    let asking = |address: SocketAddr, more: &str| {
        format!(
            "{{ prometheus: {{ url: \"http://{address}\", query: vector(1), every: 1h{more} }} }}"
        )
    };
    unanswered(&asking(daemon::free()?, ""), &["refused"])?;
    let silent = Stub::silent()?;
    unanswered(&asking(silent.address, ", timeout: 200ms"), &["200ms"])?;
    // Tries are one attempt: three requests, one answer.
    let before = silent.asked().len();
    let tried = asking(silent.address, ", timeout: 600ms, retries: 2");
    unanswered(&tried, &["tried 3 times"])?;
    let asked = silent.asked().len() - before;
    if asked != 3 {
        return Err(format!("asked {asked} times").into());
    }
    Ok(())
}

fn garbage() -> Result<()> {
    for (status, body, why) in [
        (
            200,
            "<html>please log in</html>",
            "`<html>please log in</html>`",
        ),
        (200, "", "it is empty"),
        (
            200,
            "{\"status\":\"success\"}",
            "not an answer of Prometheus",
        ),
        (502, "<html>bad gateway</html>", "status 502"),
    ] {
        let stub = Stub::saying(status, body)?;
        let asking = format!("{{ prometheus: {{ url: \"{}\", query: up }} }}", stub.url());
        unanswered(&asking, &[why])?;
    }
    Ok(())
}

fn missing_secret() -> Result<()> {
    let stub = Stub::saying(200, "{}")?;
    let asking = format!(
        "{{ prometheus: {{ url: \"{}\", query: up, auth: {{ bearer: {{ env: SQUALL_NO_SUCH_TOKEN }} }} }} }}",
        stub.url()
    );
    let why = refused(&asking)?;
    if why.contains("`SQUALL_NO_SUCH_TOKEN`") && stub.asked().is_empty() {
        Ok(())
    } else {
        Err(why.into())
    }
}

/// A service that tells everybody what it was sent must not bring a secret into a report.
fn quoted_secret() -> Result<()> {
    let folder = TempDir::new()?;
    let file = folder.path().join("token");
    fs::write(&file, "hunter2\n")?;
    let stub = Stub::start(|asked| {
        let said = asked
            .headers
            .iter()
            .find(|h| h.starts_with("authorization"));
        let said = said.cloned().unwrap_or_default();
        let body = format!(
            "{{\"status\":\"error\",\"errorType\":\"internal\",\"error\":\"no user for {said}\"}}"
        );
        Said::new(500, body)
    })?;
    let asking = format!(
        "{{ prometheus: {{ url: \"{}\", query: up, every: 50ms, auth: {{ bearer: {{ file: {} }} }} }} }}",
        stub.url(),
        file.display()
    );
    let trials = attempts(&asking, 2)?;
    let shown = format!("{trials:?}");
    let sent = stub.asked();
    let was_sent = sent.iter().all(|asked| {
        let mut headers = asked.headers.iter();
        headers.any(|header| header == "authorization: Bearer hunter2")
    });
    match &trials[0].outcome {
        Outcome::Failed(why)
            if was_sent && why.contains("Bearer •••") && !shown.contains("hunter2") =>
        {
            Ok(())
        }
        _ => Err(format!("{shown}\n{sent:?}").into()),
    }
}
