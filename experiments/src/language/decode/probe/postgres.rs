//! A query to PostgreSQL.

use super::super::connection::{tls, trouble};
use super::server::{connection, password, plain, server};
use super::{every, timeout};
use crate::language::reader::{Cx, Fields};
use crate::language::source::At;
use crate::language::tree::{Entry, Node};
use crate::probe::Postgres;

/// What a query that changes something begins with.
const WRITES: &[&str] = &[
    "alter", "analyze", "call", "copy", "create", "delete", "do", "drop", "grant", "insert",
    "lock", "merge", "refresh", "reindex", "revoke", "truncate", "update", "vacuum",
];

/// What would end the transaction that only reads, or make it another.
const STEERS: &[&str] = &[
    "abort", "begin", "commit", "discard", "end", "prepare", "reset", "rollback", "set", "start",
];

pub(super) fn postgres(cx: &mut Cx<'_, '_>, owner: At, node: &Node) -> Option<Postgres> {
    let known = [
        "address",
        "user",
        "password",
        "database",
        "query",
        "connection",
        "tls",
        "timeout",
        "every",
        "retries",
        "onError",
    ];
    let fields = Fields::open(cx, owner, node, "a `postgres` probe", &known)?;
    let address = fields
        .need(cx, "address", "address: db.shop:5432")
        .and_then(|e| server(cx, &e.node, "db.shop", Postgres::PORT));
    let user = fields
        .need(cx, "user", "user: squall")
        .and_then(|e| plain(cx, &e.node, "a user", "`squall`"));
    let password = password(cx, &fields);
    let database = fields.option("database", |e| plain(cx, &e.node, "a database", "`orders`"));
    let query = fields.or("query", Postgres::query_default(), |e| query(cx, e));
    let connection = connection(cx, &fields);
    let tls = tls(cx, &fields, None);
    let timeout = timeout(cx, &fields);
    let every = every(cx, &fields);
    let trouble = trouble(cx, &fields);
    let user = user?;
    Some(Postgres {
        address: address?,
        password: password?,
        // As every client of it has it.
        database: database?.unwrap_or_else(|| user.clone()),
        user,
        query: query?,
        connection: connection?,
        tls: tls?,
        timeout: timeout?,
        every: every?,
        trouble: trouble?,
    })
}

fn query(cx: &mut Cx<'_, '_>, entry: &Entry) -> Option<String> {
    let query = plain(cx, &entry.node, "a query", "`select count(*) from orders`")?;
    // The server sees to it as well; here it is told before anything is asked.
    for statement in query.split(';') {
        let first = statement
            .trim_start()
            .split(|c: char| !c.is_ascii_alphabetic())
            .next()
            .unwrap_or_default()
            .to_ascii_lowercase();
        let problem = if WRITES.contains(&first.as_str()) {
            "changes something"
        } else if STEERS.contains(&first.as_str()) {
            "steers the transaction in which it reads"
        } else {
            continue;
        };
        cx.error(
            entry.node.at,
            format!("a probe only reads, and `{first}` {problem}"),
        )
        .mend("write a query, such as `select count(*) from orders`; what writes is a `command` probe's business");
        return None;
    }
    Some(query)
}
