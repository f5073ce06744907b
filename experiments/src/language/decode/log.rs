//! Lines that a program writes.

use super::connection;
use super::probe::every;
use crate::language::reader::{Cx, Fields};
use crate::language::source::At;
use crate::language::suggest::quoted;
use crate::language::tree::{Entry, Node};
use crate::probe::Log;

/// What a `log` probe follows.
pub(super) fn log(cx: &mut Cx<'_, '_>, owner: At, node: &Node) -> Option<Log> {
    let known = ["file", "journal", "pattern", "every", "onError"];
    let fields = Fields::open(cx, owner, node, "a `log` probe", &known)?;
    let pattern = fields
        .need(cx, "pattern", "pattern: \"ERROR|panic\"")
        .and_then(|e| pattern(cx, e));
    let every = every(cx, &fields);
    let trouble = connection::trouble(cx, &fields);
    if let Some(journal) = fields.get("journal") {
        cx.error(journal.key_at, "the journal is not read: that takes systemd's own library or another program")
            .label("Squall brings neither")
            .mend("let the unit write a file as well (`StandardOutput=append:PATH`) and say `file: PATH`, or count with a `command` probe");
        return None;
    }
    let file = fields
        .need(cx, "file", "file: /var/log/orders.log")
        .and_then(|e| file(cx, e));
    Some(Log {
        file: file?,
        pattern: pattern?,
        every: every?,
        trouble: trouble?,
    })
}

fn file(cx: &mut Cx<'_, '_>, entry: &Entry) -> Option<String> {
    let path = cx.words(&entry.node, "a file", "`/var/log/orders.log`")?;
    if path.ends_with('/') || path.contains(['*', '\0']) {
        cx.error(entry.node.at, format!("{} is not one file", quoted(&path)))
            .mend("name the file that is written now; it is found again when it is rotated");
        return None;
    }
    Some(path)
}

fn pattern(cx: &mut Cx<'_, '_>, entry: &Entry) -> Option<String> {
    let text = cx.text(&entry.node, "a regular expression", "`\"ERROR|panic\"`")?;
    match crate::language::regex(text) {
        Err(error) => {
            cx.error(
                entry.node.at,
                format!("this is not a regular expression: {error}"),
            )
            .mend("a sign such as `(`, `[` or `*` that is meant as itself needs a `\\` in front");
            None
        }
        Ok(regex) if regex.is_match("") => {
            cx.error(entry.node.at, "this expression matches every line")
                .mend("remove what makes all of it optional");
            None
        }
        Ok(_) => Some(text.to_owned()),
    }
}
