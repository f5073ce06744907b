//! The `load` probe: users with cookies, bodies from a template, HTTP/2, against a server that has nothing of ours.

use crate::ask::{attempts, once, refused, unanswered};
use crate::certificates::Certificates;
use crate::{daemon, test, with};
use lab::world::Result;
use lab::world::stub::{Asked, Said, Stub};
use libtest_mimic::Trial;
use squall_controller::judge::Outcome;
use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};
use tempfile::TempDir;

/// nghttp2's own server, and its package.
const PROGRAM: (&str, &str) = ("nghttpd", "nghttp2-server");

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        test("load::users_keep_their_cookies_and_take_turns", users),
        test("load::bodies_are_filled_in", bodies),
        test("load::missing_data_refuses", missing_data),
        with(PROGRAM, "load::http2_without_and_with_tls", http2),
    ]
}

fn cookie(asked: &Asked) -> Option<String> {
    let mut headers = asked.headers.iter();
    headers.find_map(|header| Some(header.strip_prefix("cookie: ")?.to_owned()))
}

/// Each of three users is given a number with its first answer, and shows it ever after.
fn users() -> Result<()> {
    let given = AtomicU64::new(0);
    let stub = Stub::start(move |asked| {
        let mut said = Said::new(200, "")?;
        if cookie(asked).is_none() {
            let user = given.fetch_add(1, Ordering::Relaxed);
            said.head = format!("set-cookie: user={user}; Path=/; HttpOnly\r\n");
        }
        Some(said)
    })?;
    // Slow enough that each answer is there before its user's next turn, on a busy machine, too.
    let load = format!(
        "{{ load: {{ url: \"{}/\", rate: 5/s, sessions: 3, think: 600ms }} }}",
        stub.url()
    );
    attempts(&load, 15)?;
    let mut shown = BTreeMap::<String, usize>::new();
    for asked in stub.asked().iter().take(15) {
        *shown.entry(cookie(asked).unwrap_or_default()).or_default() += 1;
    }
    let wanted = [("", 3), ("user=0", 4), ("user=1", 4), ("user=2", 4)];
    let wanted = wanted.map(|(cookie, count)| (cookie.to_owned(), count));
    if shown == BTreeMap::from(wanted) {
        Ok(())
    } else {
        Err(format!("{shown:?}").into())
    }
}

fn bodies() -> Result<()> {
    let folder = TempDir::new()?;
    let data = folder.path().join("customers.csv");
    fs::write(&data, "id,name\n7,Ann\n8,\"Bob, jr\"\n")?;
    let stub = Stub::saying(200, "")?;
    let load = format!(
        "{{ load: {{ url: \"{}/\", method: POST, rate: 20/s, csv: {}, body: '{{{{seq}}}} {{{{csv.name}}}} {{{{csv.id}}}} {{{{uuid}}}}' }} }}",
        stub.url(),
        data.display()
    );
    attempts(&load, 4)?;
    let mut bodies: Vec<String> = stub.asked().into_iter().map(|asked| asked.body).collect();
    bodies.sort();
    bodies.truncate(4);
    let starts = ["1 Ann 7 ", "2 Bob, jr 8 ", "3 Ann 7 ", "4 Bob, jr 8 "];
    for (body, start) in bodies.iter().zip(starts) {
        let uuid = body.strip_prefix(start);
        if uuid.is_none_or(|uuid| uuid.len() != 36) {
            return Err(format!("{bodies:?}").into());
        }
    }
    bodies.dedup();
    assert_eq!(bodies.len(), 4);
    Ok(())
}

fn missing_data() -> Result<()> {
    let load = "{ load: { url: \"http://127.0.0.1:1/\", method: POST, rate: 20/s, csv: /no/such.csv, body: '{{csv.name}}' } }";
    let why = refused(load)?;
    if why.contains("/no/such.csv") {
        Ok(())
    } else {
        Err(why.into())
    }
}

fn http2() -> Result<()> {
    let (folder, certificates) = (TempDir::new()?, Certificates::new()?);
    fs::write(folder.path().join("index.html"), "here")?;
    let root = format!("--htdocs={}", folder.path().display());
    let on_loopback = "--address=127.0.0.1".to_owned();
    let (plain, secret) = (daemon::free()?, daemon::free()?);
    let common = |port: u16| vec![root.clone(), on_loopback.clone(), port.to_string()];
    let mut args = vec!["--no-tls".to_owned()];
    args.extend(common(plain.port()));
    daemon::start(PROGRAM.0, &args, plain)?;
    let mut args = common(secret.port());
    args.extend([certificates.key(), certificates.cert()].map(|path| path.display().to_string()));
    daemon::start(PROGRAM.0, &args, secret)?;
    let load = |url: &str, more: &str| {
        format!("{{ load: {{ url: \"{url}/\", rate: 50/s, timeout: 10s{more} }} }}")
    };
    let (plain, secret) = (
        format!("http://{plain}"),
        format!("https://localhost:{}", secret.port()),
    );
    let trust = format!(", tls: {{ ca: {} }}", certificates.ca().display());
    for load in [
        load(&plain, ", http2: true"),
        load(&secret, &format!(", http2: true{trust}")),
    ] {
        for trial in attempts(&load, 20)? {
            if trial.outcome != Outcome::Success {
                return Err(format!("{load}: {trial:?}").into());
            }
        }
    }
    // It is HTTP/2 that made it so: this server speaks nothing else.
    let trial = once(&load(&plain, ""))?;
    if trial.outcome == Outcome::Success {
        return Err("HTTP/1.1 was answered, too".into());
    }
    unanswered(&load(&secret, ", http2: true"), &["UnknownIssuer"])
}
