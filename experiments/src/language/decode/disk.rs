//! The faults that use up what there is a limited amount of: room, operations, numbers.

use crate::fault::{
    Exhaust, ExhaustGoal, Exhausted, Fds, Fill, FillGoal, FolderPath, Io, IoRate, PathError,
};
use crate::language::reader::{Cx, Fields};
use crate::language::source::At;
use crate::language::suggest::quoted;
use crate::language::tree::{Entry, Node, Value};
use crate::units::{ByteRate, ByteSize, Frequency, Percent};

/// A folder's whole path.
fn folder(cx: &mut Cx<'_, '_>, node: &Node) -> Option<FolderPath> {
    let text = cx.text(node, "a folder", "`/var/lib/orders`")?;
    let error = match text.parse() {
        Ok(path) => return Some(path),
        Err(error) => error,
    };
    let (said, label, mend) = match error {
        PathError::Relative(_) => (
            format!("{} is not a whole path", quoted(text)),
            "does not begin with `/`",
            format!(
                "write it from the root, as the target sees it: `/{}`",
                text.trim_start_matches("./")
            ),
        ),
        PathError::Upwards(_) => (
            format!("{} goes up again", quoted(text)),
            "`..` in a path",
            "write the path without detours".to_owned(),
        ),
        PathError::Impossible(_) => (
            "this cannot be a path".to_owned(),
            "too long, or with a NUL",
            "a path has up to 4095 bytes".to_owned(),
        ),
    };
    cx.error(node.at, said).label(label).mend(mend);
    None
}

/// Which one of several fields is said; reports none, and more than one.
fn one_of<'n>(
    cx: &mut Cx<'_, '_>,
    fields: &Fields<'n>,
    names: [&'static str; 3],
    none: &str,
) -> Option<(&'static str, &'n Entry)> {
    let mut said = names
        .into_iter()
        .filter_map(|name| fields.get(name).map(|entry| (name, entry)));
    let Some(first) = said.next() else {
        cx.error(fields.owner, none)
            .label("how far is missing")
            .mend("add one of `size: 10GiB`, `to: 95%`, `leave: 200MiB`")
            .missing();
        return None;
    };
    if let Some((name, second)) = said.next() {
        cx.error(
            second.key_at,
            format!("`{}` says how far already; `{name}` says it again", first.0),
        )
        .related(first.1.key_at, "the first")
        .mend("keep one of them");
        return None;
    }
    Some(first)
}

fn goal(cx: &mut Cx<'_, '_>, name: &str, node: &Node) -> Option<FillGoal> {
    let goal = match name {
        "size" => FillGoal::Size(cx.quantity::<ByteSize>(node, "a size", "10GiB")?),
        "to" => FillGoal::To(cx.quantity::<Percent>(node, "a percentage", "95%")?),
        _ => FillGoal::Leave(cx.quantity::<ByteSize>(node, "a size", "200MiB")?),
    };
    let nothing = match goal {
        FillGoal::Size(size) => size.get() == 0,
        FillGoal::To(share) => share.get() == 0,
        FillGoal::Leave(_) => false,
    };
    if nothing {
        cx.error(node.at, "this fills nothing at all")
            .mend("write how far: `size: 10GiB`, `to: 95%`, or `leave: 200MiB`");
        return None;
    }
    Some(goal)
}

pub(super) fn fill(cx: &mut Cx<'_, '_>, owner: At, node: &Node) -> Option<Fill> {
    let known = ["path", "size", "to", "leave", "rate", "reserve"];
    let fields = Fields::open(cx, owner, node, "a fill", &known)?;
    let path = fields
        .need(cx, "path", "path: /var/lib/orders")
        .and_then(|e| folder(cx, &e.node));
    let none = "it is not said how far the file system is filled";
    let goal = one_of(cx, &fields, ["size", "to", "leave"], none)
        .and_then(|(name, e)| goal(cx, name, &e.node));
    let rate = fields.option("rate", |e| {
        cx.quantity::<ByteRate>(&e.node, "a growth rate", "100MiB/s")
    });
    let reserve = fields.or("reserve", Fill::reserve_default(), |e| {
        cx.quantity::<ByteSize>(&e.node, "a size", "64MiB")
    });
    let fill = Fill {
        path: path?,
        goal: goal?,
        rate: rate?,
        reserve: reserve?,
    };
    if let (FillGoal::Leave(left), Some(reserve)) = (fill.goal, fields.get("reserve")) {
        cx.error(
            reserve.key_at,
            format!("`leave: {left}` says what stays free; `reserve` says it again"),
        )
        .mend("remove `reserve`");
        return None;
    }
    Some(fill)
}

/// A size within limits, in whole blocks.
fn blocks(cx: &mut Cx<'_, '_>, node: &Node, least: u64, most: u64) -> Option<ByteSize> {
    let size = cx.quantity::<ByteSize>(node, "a size", "64KiB")?;
    if (least..=most).contains(&size.get()) && size.get().is_multiple_of(Io::BLOCK_LEAST) {
        return Some(size);
    }
    let show = |bytes| ByteSize::new(bytes).map_or(String::new(), |size| size.to_string());
    cx.error(
        node.at,
        format!("{size} cannot be read or written past the page cache"),
    )
    .label("not a size for this")
    .mend(format!(
        "write something from {} to {}, in whole multiples of {}",
        show(least),
        show(most),
        show(Io::BLOCK_LEAST)
    ));
    None
}

pub(super) fn io(cx: &mut Cx<'_, '_>, owner: At, node: &Node) -> Option<Io> {
    let known = ["path", "read", "write", "sync", "block", "file"];
    let fields = Fields::open(cx, owner, node, "an I/O load", &known)?;
    let path = fields
        .need(cx, "path", "path: /var/lib/orders")
        .and_then(|e| folder(cx, &e.node));
    let mut rate = |name| fields.option(name, |e| io_rate(cx, &e.node));
    let (read, write) = (rate("read"), rate("write"));
    let sync = fields.option("sync", |e| {
        cx.quantity::<Frequency>(&e.node, "a rate", "50/s")
    });
    let block = fields.option("block", |e| {
        blocks(cx, &e.node, Io::BLOCK_LEAST, Io::BLOCK_MOST)
    });
    let file = fields.or("file", Io::file_default(), |e| {
        blocks(cx, &e.node, Io::FILE_LEAST, Io::FILE_MOST)
    });
    if ["read", "write", "sync"]
        .iter()
        .all(|name| fields.get(name).is_none())
    {
        cx.error(owner, "it is not said what is done to the disk")
            .label("no reads, no writes, no syncs")
            .mend("add at least one of `read: 20MiB/s`, `write: 200/s`, `sync: 50/s`")
            .missing();
        return None;
    }
    let io = Io {
        path: path?,
        read: read?,
        write: write?,
        sync: sync?,
        block: block?,
        file: file?,
    };
    if let (Some(block), Some(entry)) = (io.block, fields.get("block"))
        && block > io.file
    {
        cx.error(
            entry.node.at,
            format!("a block of {block} does not fit into a file of {}", io.file),
        )
        .mend("make `file` larger, or `block` smaller");
        return None;
    }
    Some(io)
}

fn io_rate(cx: &mut Cx<'_, '_>, node: &Node) -> Option<IoRate> {
    let text = cx.text(node, "a rate", "`20MiB/s` or `200/s`")?;
    match text.parse() {
        Ok(rate) => Some(rate),
        Err(error) => {
            cx.unit_error(node.at, text, &error, "20MiB/s");
            None
        }
    }
}

/// What others offer and cannot be held: the word, why, and what to write instead.
const NOT_WHAT: [(&str, &str, &str); 4] = [
    (
        "threads",
        "threads are counted together with processes",
        "write `exhaust: pids`, which takes both up to the limit of the target's cgroup",
    ),
    (
        "fds",
        "a process's descriptors are its own: no other process can hold one of them open",
        "write `fault: { fds: { leave: 10 } }`, which lowers the process's own limit, and which a node's policy must allow; or \
         `exhaust: ports`, whose end it meets in the same places and which needs no such leave",
    ),
    (
        "sockets",
        "sockets have no limit of their own: they end with descriptors, which are each process's own, with ports, or with memory",
        "write `fault: { fds: { leave: 10 } }`, `exhaust: ports`, or `memory`",
    ),
    (
        "processes",
        "processes and threads are counted together, as `pids`",
        "write `exhaust: pids`",
    ),
];

fn what_is_exhausted(cx: &mut Cx<'_, '_>, node: &Node) -> Option<Exhausted> {
    let not = |text: &str| NOT_WHAT.iter().find(|(word, ..)| *word == text);
    if let Value::Scalar { text, .. } = &node.value
        && let Some((word, why, mend)) = not(text)
    {
        cx.error(node.at, format!("`{word}` cannot be exhausted: {why}"))
            .mend(*mend);
        return None;
    }
    let words = Exhausted::ALL.map(|what| (what.word(), what));
    cx.word(node, "what is exhausted", &words)
}

/// How much is left over: `leave` or `to`; nothing where neither is said.
fn rest(cx: &mut Cx<'_, '_>, leave: Option<&Entry>, to: Option<&Entry>) -> Option<ExhaustGoal> {
    /// More than any of the limits is in practice.
    const LEAVE_MOST: u32 = 1_000_000_000;
    match (leave, to) {
        (None, None) => Some(ExhaustGoal::default()),
        (Some(leave), None) => cx
            .whole(&leave.node, "how many are left over", 0..=LEAVE_MOST)
            .map(ExhaustGoal::Leave),
        (None, Some(to)) => cx
            .quantity::<Percent>(&to.node, "a percentage", "95%")
            .map(ExhaustGoal::To),
        (Some(leave), Some(to)) => {
            cx.error(
                to.key_at,
                "`leave` says how far already; `to` says it again",
            )
            .related(leave.key_at, "the first")
            .mend("keep one of them");
            None
        }
    }
}

/// `fds: { leave: 10 }`, or `fds: { to: 95% }`; `fds` alone leaves none.
pub(super) fn fds(cx: &mut Cx<'_, '_>, owner: At, node: &Node) -> Option<Fds> {
    if super::fault::is_short(node) {
        cx.error(
            node.at,
            "it is not said whether so many descriptors are left over or in use",
        )
        .label("one of `leave` and `to`")
        .mend("write `{ fds: { leave: 10 } }`, `{ fds: { to: 95% } }`, or `fault: fds`, which leaves none");
        return None;
    }
    let known = ["leave", "to"];
    let fields = Fields::open(cx, owner, node, "an end of descriptors", &known)?;
    let goal = rest(cx, fields.get("leave"), fields.get("to"))?;
    Some(Fds { goal })
}

pub(super) fn exhaust(cx: &mut Cx<'_, '_>, owner: At, node: &Node) -> Option<Exhaust> {
    let short = super::fault::is_short(node);
    let fields = if short {
        None
    } else {
        let known = ["what", "leave", "to", "path"];
        Some(Fields::open(cx, owner, node, "an exhaustion", &known)?)
    };
    let what = match &fields {
        None => what_is_exhausted(cx, node),
        Some(fields) => fields
            .need(cx, "what", "what: pids")
            .and_then(|e| what_is_exhausted(cx, &e.node)),
    };
    let get = |name| fields.as_ref().and_then(|fields| fields.get(name));
    let goal = rest(cx, get("leave"), get("to"));
    let path = match get("path") {
        None => Some(None),
        Some(entry) => folder(cx, &entry.node).map(Some),
    };
    let exhaust = Exhaust {
        what: what?,
        goal: goal?,
        path: path?,
    };
    place(cx, owner, &exhaust, get("path"))?;
    Some(exhaust)
}

/// Inodes and page cache are some file system's; the others are not. Page cache is taken up to a share of a limit.
fn place(cx: &mut Cx<'_, '_>, owner: At, exhaust: &Exhaust, path: Option<&Entry>) -> Option<()> {
    let example = match exhaust.what {
        Exhausted::PageCache => "{ exhaust: { what: pageCache, path: /var/lib/orders, to: 90% } }",
        _ => "{ exhaust: { what: inodes, path: /var/lib/orders } }",
    };
    match (exhaust.what, path) {
        (Exhausted::Inodes | Exhausted::PageCache, None) => {
            let word = exhaust.what.word();
            cx.error(owner, format!("it is not said which file system's {word}"))
                .label("`path` is missing")
                .mend(format!("write `{example}`"))
                .missing();
            None
        }
        (Exhausted::PageCache, Some(_)) if matches!(exhaust.goal, ExhaustGoal::Leave(_)) => {
            cx.error(
                owner,
                "page cache is taken up to a share of the target's memory limit",
            )
            .label("`to` is missing")
            .mend(format!("write `{example}`"))
            .missing();
            None
        }
        (Exhausted::Pids | Exhausted::Ports | Exhausted::Conntrack, Some(entry)) => {
            cx.error(
                entry.key_at,
                format!("{} are not a file system's", exhaust.what.word()),
            )
            .mend("remove `path`");
            None
        }
        _ => Some(()),
    }
}
