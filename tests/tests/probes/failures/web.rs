//! The probes that ask over HTTP. The real server is Prometheus, which is one like any other to those that do not ask it for a number.

use super::Failure;
use super::cell::{Case, Cell};
use super::servers::Servers;
use crate::prometheus::Real;
use lab::world::Result;
use lab::world::stub::Stub;

const PROMETHEUS: &str = "Prometheus";
const PEER: &str = "a peer";
const NOT_INSTALLED: &str = "the server is not installed here";

pub(super) fn http(failure: Failure, servers: &Servers) -> Result<Cell> {
    plain(failure, servers, "")
}

pub(super) fn load(failure: Failure, servers: &Servers) -> Result<Cell> {
    plain(failure, servers, "method: POST, ")
}

/// A probe for which any answer below 400 is a success.
fn plain(failure: Failure, servers: &Servers, more: &str) -> Result<Cell> {
    let Some(mut cases) = common(failure, servers, more) else {
        return Ok(Cell::Senseless(NOT_INSTALLED));
    };
    if failure == Failure::Garbage {
        // What it says is HTTP, and not what is expected.
        let fields = format!("{more}url: \"{}\"", Stub::saying(200, "<html>")?.url());
        let case = Case::new(PEER, fields, &["not satisfy body $.ok", "no JSON"]);
        cases.push(case.seen_by("body $.ok == true"));
    }
    if failure == Failure::Empty {
        let fields = format!("{more}url: \"{}\"", Stub::saying(204, "")?.url());
        let case = Case::new(PEER, fields, &["not satisfy body $.ok", "no JSON"]);
        cases.push(case.seen_by("body $.ok == true"));
    }
    Ok(Cell::Runs(cases))
}

pub(super) fn prometheus(failure: Failure, servers: &Servers) -> Result<Cell> {
    let query = "query: vector(1), ";
    let (Some(mut cases), Some(real)) = (common(failure, servers, query), &servers.prometheus)
    else {
        return Ok(Cell::Senseless(NOT_INSTALLED));
    };
    let open = format!("url: \"http://{}\"", real.open);
    if failure == Failure::Garbage {
        cases.extend(answers(query, &["not an answer of Prometheus"])?);
        let fields = format!("query: sum by, {open}");
        cases.push(Case::new(PROMETHEUS, fields, &["bad_data", "parse error"]));
        let fields = format!("query: 0 / 0, {open}");
        cases.push(Case::new(PROMETHEUS, fields, &["NaN", "no number"]));
    }
    if failure == Failure::Empty {
        cases.extend(nothing(query)?);
        let fields = format!("query: no_such_series, {open}");
        cases.push(Case::new(PROMETHEUS, fields, &["no result", "absent"]));
    }
    Ok(Cell::Runs(cases))
}

pub(super) fn webhook(failure: Failure, servers: &Servers) -> Result<Cell> {
    let Some(mut cases) = common(failure, servers, "") else {
        return Ok(Cell::Senseless(NOT_INSTALLED));
    };
    if failure == Failure::Garbage {
        cases.extend(answers("", &["the answer is not { \"ok\""])?);
    }
    if failure == Failure::Empty {
        cases.extend(nothing("")?);
    }
    Ok(Cell::Runs(cases))
}

/// Something that is HTTP, and not what is asked for.
fn answers(more: &str, words: &'static [&'static str]) -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    for body in ["<html>please log in", "{\"a\":"] {
        let fields = format!("{more}url: \"{}\"", Stub::saying(200, body)?.url());
        cases.push(Case::new(PEER, fields, words));
    }
    Ok(cases)
}

/// A whole answer with nothing in it.
fn nothing(more: &str) -> Result<Vec<Case>> {
    let fields = format!("{more}url: \"{}\"", Stub::saying(200, "")?.url());
    Ok(vec![Case::new(PEER, fields, &["it is empty"])])
}

/// What is the same for all that asks over HTTP.
fn common(failure: Failure, servers: &Servers, more: &str) -> Option<Vec<Case>> {
    let real = servers.prometheus.as_deref()?;
    let at = |address: std::net::SocketAddr| format!("{more}url: \"http://{address}\"");
    Some(match failure {
        Failure::Down => vec![Case::new("nobody", at(servers.nobody), &["refused"])],
        Failure::Slow => {
            let case = Case::new(PEER, at(servers.silent), &["no answer within 300ms"]);
            vec![case.in_vain()]
        }
        Failure::Tls => tls(real, servers, more),
        Failure::Auth => {
            let trusting = format!("tls: {{ ca: {} }}", real.certificates.ca().display());
            let closed = |auth: &str| closed(real, "localhost", &format!("{more}{trusting}{auth}"));
            let wrong = format!(
                ", auth: {{ basic: {{ user: squall, password: {{ file: {} }} }} }}",
                servers.path("wrong")
            );
            let words: &[&str] = &["status 401"];
            vec![
                Case::new(PROMETHEUS, closed(""), words),
                Case::new(PROMETHEUS, closed(&wrong), words),
            ]
        }
        Failure::Garbage => vec![Case::new(PEER, at(servers.rubbish), &["not HTTP"])],
        Failure::Empty => vec![Case::new(PEER, at(servers.mute), &["closed"])],
    })
}

fn closed(real: &Real, host: &str, more: &str) -> String {
    let port = real.closed.port();
    format!("url: \"https://{host}:{port}\", {more}")
}

fn tls(real: &Real, servers: &Servers, more: &str) -> Vec<Case> {
    let trusting = |ca: std::path::PathBuf| format!("{more}tls: {{ ca: {} }}", ca.display());
    let own = || trusting(real.certificates.ca());
    let mutual = real.mutual.port();
    let (open, plain) = (real.open.port(), real.closed.port());
    let case = |fields: String, words| Case::new(PROMETHEUS, fields, words);
    let foreign = closed(real, "localhost", &trusting(servers.foreign.ca()));
    vec![
        case(foreign, &["invalid peer certificate"]),
        case(
            closed(real, "127.0.0.1", &own()),
            &["certificate not valid for name"],
        ),
        // One wants a certificate of the client's; one speaks no TLS; one speaks nothing else.
        case(
            format!("url: \"https://localhost:{mutual}\", {}", own()),
            &["ertificate"],
        ),
        case(
            format!("url: \"https://localhost:{open}\", {}", own()),
            &["does not speak TLS"],
        ),
        case(
            format!("{more}url: \"http://localhost:{plain}\""),
            &["status 400"],
        ),
    ]
}
