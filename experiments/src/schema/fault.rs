//! The faults, and which packets they touch.

use super::{LIST_MOST, disk, object, one_of, or_short, quantity, redirect, text, word};
use crate::fault::FaultKind;
use crate::units::{BitRate, ByteRate, ByteSize, Delay, Interval, LoadPercent, Percent};
use serde_json::{Value, json};

const SIGNALS: [&str; 9] = [
    "KILL", "TERM", "INT", "HUP", "QUIT", "ABRT", "SEGV", "USR1", "USR2",
];

pub(super) fn fault() -> Value {
    let kinds = FaultKind::ALL.map(|kind| (kind.word(), of_kind(kind)));
    json!({
        "oneOf": [
            { "enum": ["kill", "partition", "pause", "freeze", "fds"] },
            one_of("Exactly one fault", kinds),
        ],
        "description": "What is injected",
    })
}

fn of_kind(kind: FaultKind) -> Value {
    match kind {
        FaultKind::Delay => delay(),
        FaultKind::Loss => loss(),
        FaultKind::Duplicate => chance("Packets arrive twice"),
        FaultKind::Corrupt => chance("A bit of a packet is flipped"),
        FaultKind::Reorder => reorder(),
        FaultKind::Rate => rate(),
        FaultKind::Partition => partition(),
        FaultKind::Kill => kill(),
        FaultKind::Cpu => cpu(),
        FaultKind::Memory => memory(),
        FaultKind::Dns => redirect::dns(),
        FaultKind::Http => redirect::http(),
        FaultKind::Pause => lasting("Processes stand still for as long as the step is held"),
        FaultKind::Freeze => lasting(
            "A cgroup stands still for as long as the step is held; forbidden by a node unless its policy allows it",
        ),
        FaultKind::Fill => disk::fill(),
        FaultKind::Io => disk::io(),
        FaultKind::Exhaust => disk::exhaust(),
        FaultKind::Tcp => redirect::tcp(),
        FaultKind::NicDown => nic_down(),
        FaultKind::Reboot => for_good("The node starts anew"),
        FaultKind::Shutdown => for_good("The node is off"),
        FaultKind::Fds => fds(),
    }
}

/// A network fault's own fields with those of the filter.
pub(super) fn packets(
    description: &str,
    own: Vec<(&'static str, Value)>,
    required: &[&str],
) -> Value {
    let end = || json!({ "$ref": "#/$defs/endpoint" });
    let mut fields = own;
    fields.extend([
        ("to", end()),
        ("from", end()),
        (
            "protocol",
            word(&["tcp", "udp", "icmp"], "Any where nothing is said"),
        ),
        (
            "direction",
            word(
                &["egress", "ingress", "both"],
                "Leaving the target, arriving at it, or both, which it is where nothing is said",
            ),
        ),
    ]);
    object(description, fields, required)
}

fn correlation() -> (&'static str, Value) {
    (
        "correlation",
        quantity::<Percent>("How much each packet fares like the one before"),
    )
}

fn probability() -> (&'static str, Value) {
    ("probability", quantity::<Percent>("How often"))
}

fn delay() -> Value {
    let own = vec![
        ("time", quantity::<Delay>("How late")),
        ("jitter", quantity::<Delay>("How much that varies")),
        (
            "distribution",
            word(
                &["uniform", "normal", "pareto", "paretonormal"],
                "The shape of the variation; uniform where nothing is said",
            ),
        ),
        correlation(),
    ];
    or_short(
        quantity::<Delay>("How late"),
        packets("", own, &["time"]),
        "Packets arrive late",
    )
}

fn loss() -> Value {
    let percent = |what: &str| quantity::<Percent>(what);
    let gemodel = [
        ("p", percent("The chance, per packet, that a burst begins")),
        ("r", percent("The chance, per packet, that it ends")),
        (
            "bad",
            percent("Loss inside a burst; 100% where nothing is said"),
        ),
        ("good", percent("Loss outside; 0% where nothing is said")),
    ];
    let gemodel = object("Loss in bursts (Gilbert-Elliott)", gemodel, &["p", "r"]);
    let mut long = packets(
        "",
        vec![probability(), correlation(), ("gemodel", gemodel)],
        &[],
    );
    if let Value::Object(long) = &mut long {
        let either = json!([
            { "required": ["probability"] },
            { "required": ["gemodel"], "not": { "required": ["correlation"] } },
        ]);
        long.insert("oneOf".into(), either);
    }
    or_short(quantity::<Percent>("How often"), long, "Packets are lost")
}

fn chance(description: &str) -> Value {
    let long = packets("", vec![probability(), correlation()], &["probability"]);
    or_short(quantity::<Percent>("How often"), long, description)
}

fn reorder() -> Value {
    let gap = json!({
        "type": "integer",
        "minimum": 1,
        "maximum": 1_000_000,
        "description": "Only every n-th packet may overtake; 1 where nothing is said",
    });
    let own = vec![
        probability(),
        correlation(),
        ("time", quantity::<Delay>("How late the others are")),
        ("gap", gap),
    ];
    packets(
        "Chosen packets go at once, the others late",
        own,
        &["probability", "time"],
    )
}

fn rate() -> Value {
    let limit = || quantity::<BitRate>("Bits per second that get through");
    or_short(
        limit(),
        packets("", vec![("limit", limit())], &["limit"]),
        "A link with less bandwidth",
    )
}

fn partition() -> Value {
    let mode = || {
        word(
            &["drop", "reject"],
            "Silently, which it is where nothing is said, or with a refusal",
        )
    };
    let mut long = packets("", vec![("mode", mode())], &[]);
    nullable(&mut long);
    or_short(mode(), long, "Nothing gets through")
}

fn kill() -> Value {
    let signal = || word(&SIGNALS, "KILL where nothing is said");
    let fields = [
        ("signal", signal()),
        (
            "every",
            quantity::<Interval>("A crash loop: again this often; once where nothing is said"),
        ),
    ];
    let mut long = object("", fields, &[]);
    nullable(&mut long);
    or_short(signal(), long, "Processes are sent a signal")
}

fn lasting(description: &str) -> Value {
    let mut nothing = object(description, [], &[]);
    nullable(&mut nothing);
    nothing
}

fn fds() -> Value {
    let fields = disk::rest(
        "How many descriptors can still be opened; none where nothing is said",
        "Until this share of each process's soft limit is in use",
    );
    let mut fds = object(
        "Processes run out of file descriptors; forbidden by a node unless its policy allows it",
        fields,
        &[],
    );
    nullable(&mut fds);
    if let Value::Object(fds) = &mut fds {
        fds.insert("not".into(), json!({ "required": ["leave", "to"] }));
    }
    fds
}

fn nic_down() -> Value {
    let name = || {
        json!({
            "type": "string",
            "pattern": "^[^/:\\s]{1,15}$",
            "description": "The interface, as it is called inside the target",
        })
    };
    or_short(
        name(),
        object("", [("interface", name())], &["interface"]),
        "An interface is down for as long as the step is held; forbidden by a node unless its policy allows it",
    )
}

fn for_good(what: &str) -> Value {
    let known = json!({ "const": true, "description": "That this is known" });
    let description = format!(
        "{what}, which nothing takes back; forbidden by a node unless its policy allows it"
    );
    object(&description, [("irreversible", known)], &["irreversible"])
}

/// `kill:` with nothing behind it is a kill with its defaults.
fn nullable(schema: &mut Value) {
    if let Value::Object(schema) = schema {
        schema.insert("type".into(), json!(["object", "null"]));
    }
}

fn cpu() -> Value {
    let load = || quantity::<LoadPercent>("How much; 250% of a core keeps two and a half busy");
    let of = word(
        &["core", "quota"],
        "What it is a share of; a core where nothing is said",
    );
    or_short(
        load(),
        object("", [("load", load()), ("of", of)], &["load"]),
        "Processor time is burnt",
    )
}

fn memory() -> Value {
    let size = || {
        json!({
            "type": "string",
            "pattern": "^[0-9][0-9_.]* *(%|B|[kK]B|MB|GB|TB|KiB|MiB|GiB|TiB)$",
            "description": "Bytes (512MiB), or a share (80%)",
        })
    };
    let fields = [
        ("size", size()),
        (
            "of",
            word(
                &["target", "host"],
                "What a share is a share of: the target's limit, or the node's memory",
            ),
        ),
        (
            "rate",
            quantity::<ByteRate>("How fast it grows; at once where nothing is said"),
        ),
        (
            "reserve",
            quantity::<ByteSize>("What stays free below the limit; 16MiB where nothing is said"),
        ),
    ];
    or_short(
        size(),
        object("", fields, &["size"]),
        "Memory is taken and kept resident",
    )
}

fn service() -> Value {
    object(
        "A service of a Kubernetes cluster: its own addresses and its ready endpoints', kept current",
        [
            ("namespace", text("Its namespace")),
            ("name", text("Its name")),
        ],
        &["namespace", "name"],
    )
}

fn pods() -> Value {
    let labels = json!({
        "type": "object",
        "additionalProperties": { "type": ["string", "number", "boolean"] },
        "minProperties": 1,
        "description": "Labels that they have",
    });
    let mut pods = object(
        "Pods of a Kubernetes cluster by their labels, their name, or both, kept current",
        [
            ("namespace", text("Their namespace")),
            ("name", text("The name of one")),
            ("labels", labels),
        ],
        &["namespace"],
    );
    if let Value::Object(pods) = &mut pods {
        let either = ["name", "labels"].map(|word| json!({ "required": [word] }));
        pods.insert("anyOf".into(), json!(either));
    }
    pods
}

pub(super) fn endpoint() -> Value {
    let host = || json!({ "type": "string", "minLength": 1, "description": "An address, a CIDR block or a DNS name" });
    let port = || {
        json!({
            "oneOf": [
                { "type": "integer", "minimum": 1, "maximum": 65535 },
                { "type": "string", "pattern": "^[0-9]+( *- *[0-9]+)?$" },
            ],
            "description": "A port, or a range such as 8000-8099",
        })
    };
    let several = |one: Value, description: &str| {
        let list = json!({ "type": "array", "items": one, "minItems": 1, "maxItems": LIST_MOST });
        or_short(one, list, description)
    };
    let mut long = object(
        "",
        [
            ("host", host()),
            ("hosts", several(host(), "Any of these hosts")),
            ("port", port()),
            ("ports", several(port(), "Any of these ports")),
            ("service", service()),
            ("pod", pods()),
        ],
        &[],
    );
    if let Value::Object(long) = &mut long {
        long.insert("minProperties".into(), json!(1));
        long.insert("not".into(), json!({ "anyOf": [{ "required": ["host", "hosts"] }, { "required": ["port", "ports"] }] }));
    }
    json!({
        "oneOf": [
            host(),
            { "type": "array", "items": host(), "minItems": 1, "maxItems": LIST_MOST },
            long,
        ],
        "description": "One end of a conversation: db.shop, 10.0.0.2:8080, { port: 9090 }, { hosts: [ … ], ports: [ … ] }, { service: { namespace: shop, name: payment } }",
    })
}
