//! A command to Redis.

use super::super::connection::{tls, trouble};
use super::server::{connection, password, plain, server};
use super::{every, is_text, timeout};
use crate::language::reader::{Cx, Fields};
use crate::language::source::At;
use crate::language::suggest::{all, closest, quoted};
use crate::language::tree::{Entry, Node, Value};
use crate::probe::{Connection, Redis, Trouble, every_default, timeout_default};

/// So many words a harmless command never needs.
const COMMAND_WORDS_MOST: usize = 64;

pub(super) fn redis(cx: &mut Cx<'_, '_>, owner: At, node: &Node) -> Option<Redis> {
    if is_text(node) {
        return Some(Redis {
            address: server(cx, node, "cache.shop", Redis::PORT)?,
            user: None,
            password: None,
            db: 0,
            command: Redis::command_default(),
            connection: Connection::default(),
            tls: None,
            timeout: timeout_default(),
            every: every_default(),
            trouble: Trouble::default(),
        });
    }
    let known = [
        "address",
        "user",
        "password",
        "db",
        "command",
        "connection",
        "tls",
        "timeout",
        "every",
        "retries",
        "onError",
    ];
    let fields = Fields::open(cx, owner, node, "a `redis` probe", &known)?;
    let address = fields
        .need(cx, "address", "address: cache.shop:6379")
        .and_then(|e| server(cx, &e.node, "cache.shop", Redis::PORT));
    let mut user = fields.option("user", |e| plain(cx, &e.node, "a user", "`squall`"));
    let password = password(cx, &fields);
    if let (Some(Some(_)), Some(None), Some(entry)) = (&user, &password, fields.get("user")) {
        cx.error(entry.key_at, "a user without a password")
            .mend("add `password: { env: CACHE_PASSWORD }`, or remove `user`");
        user = None;
    }
    let db = fields.or("db", 0, |e| {
        cx.whole(&e.node, "a database's number", 0..=Redis::DB_MAX)
    });
    let command = fields.or("command", Redis::command_default(), |e| command(cx, e));
    let connection = connection(cx, &fields);
    let tls = tls(cx, &fields, None);
    let timeout = timeout(cx, &fields);
    let every = every(cx, &fields);
    let trouble = trouble(cx, &fields);
    Some(Redis {
        address: address?,
        user: user?,
        password: password?,
        db: db?,
        command: command?,
        connection: connection?,
        tls: tls?,
        timeout: timeout?,
        every: every?,
        trouble: trouble?,
    })
}

/// A list of words, or one word.
fn command(cx: &mut Cx<'_, '_>, entry: &Entry) -> Option<Vec<String>> {
    let node = &entry.node;
    let example = "`[ LLEN, orders ]`";
    let mut words = Vec::new();
    if is_text(node) {
        let line = cx.words(node, "a command", example)?;
        if line.contains(char::is_whitespace) {
            let words: Vec<&str> = line.split_whitespace().collect();
            cx.error(node.at, "a command is a list of words, not a line")
                .mend(format!("write `[ {} ]`", words.join(", ")));
            return None;
        }
        words.push(line);
    } else {
        for item in cx.list(node, "a list of words", example)? {
            words.push(cx.text(item, "a word", "it in quotes")?.to_owned());
        }
    }
    if words.len() > COMMAND_WORDS_MOST {
        cx.error(node.at, format!("a command of {} words", words.len()))
            .mend(format!("write at most {COMMAND_WORDS_MOST}"));
        return None;
    }
    let name = words.first()?;
    if !Redis::COMMANDS.contains(&name.as_str()) {
        let at = match &node.value {
            Value::List(items) => items.first().map_or(node.at, |item| item.at),
            _ => node.at,
        };
        refuse(cx, at, name);
        return None;
    }
    Some(words)
}

fn refuse(cx: &mut Cx<'_, '_>, at: At, name: &str) {
    let near = closest(name, &Redis::COMMANDS);
    let draft = cx.error(at, format!("a probe may not send {}", quoted(name)));
    match near {
        Some(near) => draft.label(format!("did you mean `{near}`?")),
        None => draft.label("it may change something, or be slow where there is much data"),
    };
    draft.mend(format!("use one of {}", all(&Redis::COMMANDS)));
}
