//! Lines that a program writes.

use super::connection;
use super::probe::every;
use crate::language::reader::{Cx, Fields};
use crate::language::source::At;
use crate::language::suggest::quoted;
use crate::language::tree::{Entry, Node};
use crate::probe::{Lines, Log};

/// What a `log` probe follows.
pub(super) fn log(cx: &mut Cx<'_, '_>, owner: At, node: &Node) -> Option<Log> {
    let known = ["file", "journal", "folder", "pattern", "every", "onError"];
    let fields = Fields::open(cx, owner, node, "a `log` probe", &known)?;
    let of = lines(cx, &fields);
    let pattern = fields
        .need(cx, "pattern", "pattern: \"ERROR|panic\"")
        .and_then(|e| pattern(cx, e));
    let every = every(cx, &fields);
    let trouble = connection::trouble(cx, &fields);
    Some(Log {
        of: of?,
        pattern: pattern?,
        every: every?,
        trouble: trouble?,
    })
}

fn lines(cx: &mut Cx<'_, '_>, fields: &Fields<'_>) -> Option<Lines> {
    match (fields.get("file"), fields.get("journal")) {
        (Some(file_entry), None) => {
            if let Some(folder) = fields.get("folder") {
                cx.error(folder.key_at, "`folder` belongs to `journal`")
                    .related(file_entry.key_at, "a file is named by its whole path")
                    .mend("remove `folder`");
                return None;
            }
            file(cx, file_entry).map(Lines::File)
        }
        (None, Some(unit_entry)) => {
            let unit = unit(cx, unit_entry);
            let folder = fields.option("folder", |e| folder(cx, e));
            Some(Lines::Journal {
                unit: unit?,
                folder: folder?,
            })
        }
        (Some(file), Some(journal)) => {
            cx.error(
                journal.key_at,
                "a probe follows a file or the journal; `journal` is a second",
            )
            .related(file.key_at, "the first")
            .mend("make the other a steady state of its own");
            None
        }
        (None, None) => {
            cx.error(fields.owner, "it is not said which log is followed")
                .label("`file` or `journal` is missing")
                .mend("add `file: /var/log/orders.log` or `journal: orders.service`")
                .missing();
            None
        }
    }
}

/// systemd.unit(5): a name and a suffix that says of what kind.
fn unit(cx: &mut Cx<'_, '_>, entry: &Entry) -> Option<String> {
    const KINDS: [&str; 11] = [
        "service",
        "socket",
        "device",
        "mount",
        "automount",
        "swap",
        "target",
        "path",
        "timer",
        "slice",
        "scope",
    ];
    let text = cx.words(&entry.node, "a systemd unit", "`orders.service`")?;
    let letter = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c);
    let is_unit = text
        .rsplit_once('.')
        .is_some_and(|(name, kind)| !name.is_empty() && KINDS.contains(&kind));
    if is_unit && text.chars().all(letter) {
        return Some(text);
    }
    let mend = if text.chars().all(letter) && !is_unit {
        format!("write `{text}.service`")
    } else {
        "write the unit's whole name as `systemctl` shows it, without a path or a `*`".to_owned()
    };
    cx.error(
        entry.node.at,
        format!("{} is not a unit's name", quoted(&text)),
    )
    .mend(mend);
    None
}

fn folder(cx: &mut Cx<'_, '_>, entry: &Entry) -> Option<String> {
    let path = cx.words(&entry.node, "a folder", "`/var/log/journal`")?;
    if path.contains(['*', '\0']) || path.ends_with(".journal") {
        cx.error(
            entry.node.at,
            format!("{} is not one folder", quoted(&path)),
        )
        .mend("name the folder that holds the journal: its files are found again when they are rotated");
        return None;
    }
    Some(path)
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
