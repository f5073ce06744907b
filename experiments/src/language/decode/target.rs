//! What a step is aimed at.

use super::container;
use crate::language::reader::{Cx, Fields, Variant};
use crate::language::source::At;
use crate::language::suggest::quoted;
use crate::language::tree::{Entry, Node, Value};
use crate::target::{HostTarget, NetnsSelector, ProcessSelector, Target};

const KINDS: &[&str] = &[
    "host",
    "process",
    "cgroup",
    "unit",
    "netns",
    "pod",
    "container",
];
const SEVERAL: &str = "make each target a step of its own";

/// PID_MAX_LIMIT of 64-bit Linux (include/linux/threads.h).
const PID_MOST: u32 = 4_194_304;

/// Reads `on:`.
pub(super) fn target(cx: &mut Cx<'_, '_>, entry: &Entry) -> Option<Target> {
    let variant = Variant::read(cx, entry.key_at, &entry.node, "a target", KINDS, SEVERAL)?;
    let Some(node) = variant.node else {
        if variant.word == "host" {
            return Some(Target::Host(HostTarget {}));
        }
        cx.error(variant.at, format!("it is not said which {}", variant.word))
            .mend(example(variant.word));
        return None;
    };
    match variant.word {
        "host" => {
            Fields::open(cx, variant.at, node, "`host`", &[]).map(|_| Target::Host(HostTarget {}))
        }
        "process" => process(cx, variant.at, node).map(Target::Process),
        "cgroup" => cgroup(cx, node).map(Target::Cgroup),
        "unit" => unit(cx, node).map(Target::Unit),
        "pod" => container::pod(cx, variant.at, node).map(Target::Pod),
        "container" => container::container(cx, variant.at, node).map(Target::Container),
        _ => netns(cx, variant.at, node).map(Target::Netns),
    }
}

fn example(word: &str) -> String {
    let inside = match word {
        "process" => "{ name: payment }",
        "cgroup" => "/system.slice/payment.service",
        "unit" => "payment.service",
        "pod" => "{ namespace: shop, labels: { app: payment } }",
        "container" => "{ name: payment }",
        _ => "shop",
    };
    format!("write `on: {{ {word}: {inside} }}`")
}

fn process(cx: &mut Cx<'_, '_>, owner: At, node: &Node) -> Option<ProcessSelector> {
    if let Value::Scalar { text, .. } = &node.value
        && !node.is_null()
    {
        let by = if text.parse::<u32>().is_ok() {
            "pid"
        } else {
            "name"
        };
        cx.error(node.at, "it is not said by what the process is selected")
            .mend(format!("write `process: {{ {by}: {text} }}`"));
        return None;
    }
    let known = ["name", "command", "pid", "user", "port"];
    let fields = Fields::open(cx, owner, node, "a process selector", &known)?;
    let said = known.iter().any(|k| fields.get(k).is_some());
    let name = fields.option("name", |e| name(cx, e));
    let command = fields.option("command", |e| command(cx, e));
    let pid = fields.option("pid", |e| pid(cx, e));
    let user = fields.option("user", |e| {
        cx.words(&e.node, "a user", "`postgres` or `999`")
    });
    let port = fields.option("port", |e| {
        let port = cx.whole(&e.node, "a port", 1..=65535)?;
        u16::try_from(port).ok()
    });
    if !said {
        cx.error(
            owner,
            "a process selector that says nothing matches every process",
        )
        .mend("say at least one of `name`, `command`, `pid`, `user` and `port`");
        return None;
    }
    Some(ProcessSelector {
        name: name?,
        command: command?,
        pid: pid?,
        user: user?,
        port: port?,
    })
}

fn name(cx: &mut Cx<'_, '_>, entry: &Entry) -> Option<String> {
    let text = cx.words(&entry.node, "a program's name", "`payment`")?;
    if matches!(text.as_str(), "squall" | "squall-agent" | "squall-agent:") {
        cx.error(
            entry.node.at,
            format!("{} is Squall itself, which no fault may hit", quoted(&text)),
        )
        .label("the agent refuses it")
        .mend("name the program under test");
        return None;
    }
    if let Some((_, base)) = text.rsplit_once('/') {
        cx.error(
            entry.node.at,
            format!("{} is a path; a name has no `/`", quoted(&text)),
        )
        .mend(format!(
            "write `name: {base}`, or `command: ^{text}` to match the whole path"
        ));
        return None;
    }
    if text.contains(char::is_whitespace) {
        cx.warning(entry.node.at, format!("{} contains a blank", quoted(&text)))
            .label("a program's name seldom does")
            .mend(format!("`command: {text}` looks at the whole command line"));
    }
    Some(text)
}

fn command(cx: &mut Cx<'_, '_>, entry: &Entry) -> Option<String> {
    let text = cx.text(&entry.node, "a regular expression", "`^/usr/bin/payment `")?;
    match crate::language::regex(text) {
        Err(why) => {
            cx.error(
                entry.node.at,
                format!("this regular expression cannot be used: {why}"),
            )
            .mend("mend it, or put a backslash before the sign that is meant as itself");
            None
        }
        // What is found in nothing is found in everything.
        Ok(regex) if regex.is_match("") => {
            cx.error(
                entry.node.at,
                format!("{} matches every process", quoted(text)),
            )
            .mend("name something that only the target's command line contains");
            None
        }
        Ok(_) => Some(text.to_owned()),
    }
}

fn pid(cx: &mut Cx<'_, '_>, entry: &Entry) -> Option<u32> {
    let pid = cx.whole(&entry.node, "a process id", 1..=PID_MOST)?;
    if pid == 1 {
        cx.error(entry.node.at, "process 1 is never a target")
            .label("without it the machine goes down")
            .mend("name the service's own process");
        return None;
    }
    Some(pid)
}

/// The path below the hierarchy's root, with a `/` before and none behind.
fn cgroup(cx: &mut Cx<'_, '_>, node: &Node) -> Option<String> {
    let text = cx.words(node, "a cgroup's path", "`/system.slice/payment.service`")?;
    let error = |cx: &mut Cx<'_, '_>, message: String, mend: String| {
        cx.error(node.at, message).mend(mend);
        None
    };
    if let Some(below) = text.strip_prefix("/sys/fs/cgroup") {
        let below = if below.is_empty() { "/" } else { below };
        return error(
            cx,
            "a cgroup is named by its path below the hierarchy's root".into(),
            format!("write `cgroup: {below}`"),
        );
    }
    let parts: Vec<&str> = text.split('/').filter(|p| !p.is_empty()).collect();
    if parts.is_empty() {
        return error(
            cx,
            "the root cgroup is the whole node".into(),
            "say `on: host`, if that is what was meant".into(),
        );
    }
    if parts
        .iter()
        .any(|p| *p == "." || *p == ".." || p.contains('\0'))
    {
        return error(
            cx,
            format!("{} is not a cgroup's path", quoted(&text)),
            "write it without `.` and `..`".into(),
        );
    }
    Some(format!("/{}", parts.join("/")))
}

/// systemd.unit(5): a name and a suffix that says of what kind.
fn unit(cx: &mut Cx<'_, '_>, node: &Node) -> Option<String> {
    /// The kinds that have a cgroup with processes in it.
    const SUFFIXES: [&str; 3] = [".service", ".scope", ".slice"];
    let text = cx.words(node, "a systemd unit", "`payment.service`")?;
    let letter = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c);
    if SUFFIXES
        .iter()
        .any(|s| text.ends_with(s) && text.len() > s.len())
        && text.chars().all(letter)
    {
        return Some(text);
    }
    let mend = if text.contains('/') {
        "write the unit's name without a path".to_owned()
    } else if text.contains('.') {
        "a `.service`, `.scope` or `.slice` has processes; other units have none".to_owned()
    } else {
        format!("write `{text}.service`")
    };
    cx.error(
        node.at,
        format!("{} is not a unit with processes", quoted(&text)),
    )
    .mend(mend);
    None
}

fn netns(cx: &mut Cx<'_, '_>, owner: At, node: &Node) -> Option<NetnsSelector> {
    if let Value::Scalar { .. } = node.value {
        return netns_name(cx, node).map(NetnsSelector::Name);
    }
    let variant = Variant::read(
        cx,
        owner,
        node,
        "a network namespace",
        &["name", "process"],
        SEVERAL,
    )?;
    match (variant.word, variant.node) {
        ("name", Some(node)) => netns_name(cx, node).map(NetnsSelector::Name),
        ("process", Some(node)) => process(cx, variant.at, node).map(NetnsSelector::Process),
        _ => None,
    }
}

/// A file name below /run/netns (ip-netns(8)).
fn netns_name(cx: &mut Cx<'_, '_>, node: &Node) -> Option<String> {
    const FILE_NAME_BYTES_MAX: usize = 255;
    let text = cx.words(node, "a network namespace's name", "`shop`")?;
    if let Some(base) = text
        .strip_prefix("/run/netns/")
        .or_else(|| text.strip_prefix("/var/run/netns/"))
    {
        cx.error(node.at, "a network namespace is named without its path")
            .mend(format!("write `netns: {base}`"));
        return None;
    }
    if text.contains(['/', '\0'])
        || matches!(text.as_str(), "." | "..")
        || text.len() > FILE_NAME_BYTES_MAX
    {
        cx.error(
            node.at,
            format!("{} is not a network namespace's name", quoted(&text)),
        )
        .mend("write a name that `ip netns list` shows, or `netns: { process: { name: … } }`");
        return None;
    }
    Some(text)
}
