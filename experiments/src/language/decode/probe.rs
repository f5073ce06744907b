//! How the steady state is observed.

use super::{connection, kubernetes, load, log, observer, request};
use crate::language::reader::{Cx, Fields, Variant};
use crate::language::source::At;
use crate::language::suggest::quoted;
use crate::language::tree::{Entry, Node, Value};
use crate::probe::{Command, Http, Probe, Tcp, Trouble, every_default, timeout_default};
use crate::units::{Interval, Timeout};

mod dns;
mod grpc;
mod postgres;
mod redis;
mod server;

const KINDS: &[&str] = &[
    "http",
    "load",
    "tcp",
    "command",
    "prometheus",
    "webhook",
    "grpc",
    "dns",
    "postgres",
    "redis",
    "log",
    "kubernetes",
];

/// Reads `probe:`.
pub(super) fn probe(cx: &mut Cx<'_, '_>, entry: &Entry) -> Option<Probe> {
    let several = "make the other probe a steady state of its own";
    let variant = Variant::read(cx, entry.key_at, &entry.node, "a probe", KINDS, several)?;
    let Some(node) = variant.node else {
        cx.error(
            variant.at,
            format!("it is not said what the `{}` probe asks", variant.word),
        )
        .mend("write `probe: { http: { url: http://orders:8080/ } }`");
        return None;
    };
    match variant.word {
        "http" => http(cx, variant.at, node).map(Probe::Http),
        "load" => load::load(cx, variant.at, node).map(Probe::Load),
        "tcp" => tcp(cx, variant.at, node).map(Probe::Tcp),
        "prometheus" => observer::prometheus(cx, variant.at, node).map(Probe::Prometheus),
        "grpc" => grpc::grpc(cx, variant.at, node).map(Probe::Grpc),
        "postgres" => postgres::postgres(cx, variant.at, node).map(Probe::Postgres),
        "redis" => redis::redis(cx, variant.at, node).map(Probe::Redis),
        "dns" => dns::dns(cx, variant.at, node).map(Probe::Dns),
        "kubernetes" => kubernetes::kubernetes(cx, variant.at, node).map(Probe::Kubernetes),
        "log" => log::log(cx, variant.at, node).map(Probe::Log),
        "webhook" => observer::webhook(cx, variant.at, node).map(Probe::Webhook),
        _ => command(cx, variant.at, node).map(Probe::Command),
    }
}

pub(super) fn every(cx: &mut Cx<'_, '_>, fields: &Fields<'_>) -> Option<Interval> {
    fields.or("every", every_default(), |e| {
        cx.quantity(&e.node, "a time", "1s")
    })
}

pub(super) fn timeout(cx: &mut Cx<'_, '_>, fields: &Fields<'_>) -> Option<Timeout> {
    fields.or("timeout", timeout_default(), |e| {
        cx.quantity(&e.node, "a time", "2s")
    })
}

pub(super) fn is_text(node: &Node) -> bool {
    matches!(node.value, Value::Scalar { .. }) && !node.is_null()
}

fn http(cx: &mut Cx<'_, '_>, owner: At, node: &Node) -> Option<Http> {
    if is_text(node) {
        let request = request::bare(cx, node)?;
        return Some(Http {
            request,
            every: every_default(),
            trouble: Trouble::default(),
        });
    }
    let known = [
        "url", "method", "headers", "body", "auth", "tls", "timeout", "every", "retries", "onError",
    ];
    let fields = Fields::open(cx, owner, node, "an `http` probe", &known)?;
    let request = request::request(cx, &fields);
    let every = every(cx, &fields);
    let trouble = connection::trouble(cx, &fields);
    Some(Http {
        request: request?,
        every: every?,
        trouble: trouble?,
    })
}

fn tcp(cx: &mut Cx<'_, '_>, owner: At, node: &Node) -> Option<Tcp> {
    if is_text(node) {
        return Some(Tcp {
            address: address(cx, node, "db.shop", 5432)?,
            timeout: timeout_default(),
            every: every_default(),
            trouble: Trouble::default(),
        });
    }
    let fields = Fields::open(
        cx,
        owner,
        node,
        "a `tcp` probe",
        &["address", "timeout", "every", "retries", "onError"],
    )?;
    let address = fields
        .need(cx, "address", "address: db.shop:5432")
        .and_then(|e| address(cx, &e.node, "db.shop", 5432));
    let timeout = timeout(cx, &fields);
    let every = every(cx, &fields);
    let trouble = connection::trouble(cx, &fields);
    Some(Tcp {
        address: address?,
        timeout: timeout?,
        every: every?,
        trouble: trouble?,
    })
}

/// `host:port`, `1.2.3.4:80` or `[::1]:80`; an example for messages.
fn address(cx: &mut Cx<'_, '_>, node: &Node, host: &str, port: u16) -> Option<String> {
    let text = cx.words(node, "an address", &format!("`{host}:{port}`"))?;
    match request::authority(&text) {
        Ok(Some(_)) => Some(text),
        Ok(None) => {
            cx.error(node.at, format!("{} has no port", quoted(&text)))
                .mend(format!(
                    "write `{text}:{port}`, with the port that is listened on"
                ));
            None
        }
        Err(problem) => {
            let url = text
                .split_once("://")
                .map(|(_, rest)| rest.trim_end_matches('/'));
            match url {
                Some(rest) => cx
                    .error(
                        node.at,
                        format!("{} is a URL, and an address belongs here", quoted(&text)),
                    )
                    .mend(format!("write `{rest}`")),
                None => cx
                    .error(
                        node.at,
                        format!("{} is not an address: {problem}", quoted(&text)),
                    )
                    .mend(format!(
                        "write `{host}:{port}`, `10.0.0.2:{port}` or `[fd00::2]:{port}`"
                    )),
            };
            None
        }
    }
}

fn command(cx: &mut Cx<'_, '_>, owner: At, node: &Node) -> Option<Command> {
    if matches!(node.value, Value::List(_)) || is_text(node) {
        return Some(Command {
            argv: argv(cx, node)?,
            timeout: timeout_default(),
            every: every_default(),
        });
    }
    let fields = Fields::open(
        cx,
        owner,
        node,
        "a `command` probe",
        &["argv", "timeout", "every"],
    )?;
    let argv = fields
        .need(
            cx,
            "argv",
            "argv: [ psql, -tAc, select count(*) from orders ]",
        )
        .and_then(|e| argv(cx, &e.node));
    let timeout = timeout(cx, &fields);
    let every = every(cx, &fields);
    Some(Command {
        argv: argv?,
        timeout: timeout?,
        every: every?,
    })
}

fn argv(cx: &mut Cx<'_, '_>, node: &Node) -> Option<Vec<String>> {
    if is_text(node) {
        let line = cx.text(node, "a command", "`[ program, argument ]`")?;
        shell_line(cx, node, line);
        return None;
    }
    let items = cx.list(node, "a list of words", "`[ psql, -tAc, select 1 ]`")?;
    let mut words = Some(Vec::new());
    for item in items {
        match (cx.text(item, "a word", "it in quotes"), &mut words) {
            (Some(word), Some(words)) => words.push(word.to_owned()),
            _ => words = None,
        }
    }
    let words = words?;
    let program = words.first().map(String::as_str).unwrap_or_default();
    if program.trim().is_empty() {
        cx.error(
            items.first().map_or(node.at, |i| i.at),
            "the program's name is empty",
        )
        .mend("the first word is the program: `[ psql, -tAc, select 1 ]`");
        return None;
    }
    if words.len() == 1 && program.contains(char::is_whitespace) {
        shell_line(cx, items.first().map_or(node, |i| i), program);
        return None;
    }
    if words.iter().any(|w| w.contains('\0')) {
        cx.error(node.at, "a word of a command cannot contain a NUL")
            .mend("remove it");
        return None;
    }
    Some(words)
}

fn shell_line(cx: &mut Cx<'_, '_>, node: &Node, line: &str) {
    let words: Vec<&str> = line.split_whitespace().collect();
    let shell = line.contains(['|', ';', '&', '>', '<', '$', '`', '"', '\'']);
    let draft = cx.error(
        node.at,
        "a command is a list of words, not a line for a shell",
    );
    if shell {
        draft.mend(
            "write `[ program, argument, … ]`; what needs a shell belongs into a script of its own",
        );
    } else {
        draft.mend(format!("write `[ {} ]`", words.join(", ")));
    }
}
