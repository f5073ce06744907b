//! The faults, each from its own fields; those on packets are in `network`.

use super::{disk, dns, http, network, node, tcp};
use crate::fault::{
    Cpu, CpuBase, Fault, Fds, Freeze, Kill, Memory, MemoryBase, MemorySize, Pause, Reboot,
    Shutdown, Signal,
};
use crate::language::reader::{Cx, Fields, Variant};
use crate::language::source::At;
use crate::language::suggest::{closest, quoted};
use crate::language::tree::{Entry, Node, Value};
use crate::units::{ByteRate, ByteSize, Interval, LoadPercent};

/// The words for the kinds, in the order of `FaultKind::ALL`.
const KINDS: &[&str] = &[
    "delay",
    "loss",
    "duplicate",
    "corrupt",
    "reorder",
    "rate",
    "partition",
    "kill",
    "cpu",
    "memory",
    "dns",
    "http",
    "pause",
    "fill",
    "io",
    "exhaust",
    "freeze",
    "tcp",
    "nicDown",
    "reboot",
    "shutdown",
    "fds",
];

/// More of the host than this, and the kernel's own choice of what to kill decides what the experiment shows.
const HOST_SHARE_SENSIBLE: u64 = 950_000;
/// All of one whole, in millionths.
const WHOLE: u64 = 1_000_000;

/// Reads one fault. `owner` is what introduces it.
pub(super) fn fault(cx: &mut Cx<'_, '_>, owner: At, node: &Node) -> Option<Fault> {
    if refused(cx, node) {
        return None;
    }
    let several = "put them into a list: `faults: [ { … }, { … } ]`";
    let variant = Variant::read(cx, owner, node, "a fault", KINDS, several)?;
    let at = variant.at;
    let Some(node) = variant.node else {
        return by_a_word(cx, at, variant.word);
    };
    match variant.word {
        "delay" => network::delay(cx, at, node).map(Fault::Delay),
        "loss" => network::loss(cx, at, node).map(Fault::Loss),
        "duplicate" => network::duplicate(cx, at, node).map(Fault::Duplicate),
        "corrupt" => network::corrupt(cx, at, node).map(Fault::Corrupt),
        "reorder" => network::reorder(cx, at, node).map(Fault::Reorder),
        "rate" => network::rate(cx, at, node).map(Fault::Rate),
        "partition" => network::partition(cx, at, node).map(Fault::Partition),
        "kill" => kill(cx, at, node).map(Fault::Kill),
        "cpu" => cpu(cx, at, node).map(Fault::Cpu),
        "dns" => dns::dns(cx, at, node).map(Fault::Dns),
        "http" => http::http(cx, at, node).map(Fault::Http),
        "pause" => lasting(cx, at, node, "a pause").map(|()| Fault::Pause(Pause {})),
        "freeze" => lasting(cx, at, node, "a freeze").map(|()| Fault::Freeze(Freeze {})),
        "fill" => disk::fill(cx, at, node).map(Fault::Fill),
        "io" => disk::io(cx, at, node).map(Fault::Io),
        "exhaust" => disk::exhaust(cx, at, node).map(Fault::Exhaust),
        "fds" => disk::fds(cx, at, node).map(Fault::Fds),
        "tcp" => tcp::tcp(cx, at, node).map(Fault::Tcp),
        "nicDown" => node::nic_down(cx, at, node).map(Fault::NicDown),
        "reboot" => node::for_good(cx, at, node, "reboot")
            .map(|irreversible| Fault::Reboot(Reboot { irreversible })),
        "shutdown" => node::for_good(cx, at, node, "shutdown")
            .map(|irreversible| Fault::Shutdown(Shutdown { irreversible })),
        _ => memory(cx, at, node).map(Fault::Memory),
    }
}

/// The fault of which nothing but the word is said, where that is enough.
fn by_a_word(cx: &mut Cx<'_, '_>, at: At, word: &str) -> Option<Fault> {
    match word {
        "kill" => Some(Fault::Kill(Kill {
            signal: Signal::default(),
            every: None,
        })),
        "partition" => Some(network::partition_of_all()),
        word @ ("dns" | "http" | "tcp") => {
            cx.error(at, format!("it is not said what a fault on {word} does"))
                .mend(format!("write `{{ {word}: {} }}`", network::example(word)));
            None
        }
        "pause" => Some(Fault::Pause(Pause {})),
        "freeze" => Some(Fault::Freeze(Freeze {})),
        "fds" => Some(Fault::Fds(Fds::default())),
        word @ ("reboot" | "shutdown") => {
            node::not_said(cx, at, word);
            None
        }
        "nicDown" => {
            cx.error(at, "it is not said which interface is down")
                .mend("write `{ nicDown: eth1 }`");
            None
        }
        word => {
            cx.error(at, format!("it is not said how much {word}"))
                .mend(format!("write `{{ {word}: {} }}`", network::example(word)));
            None
        }
    }
}

/// Faults that other tools offer and that nothing could take back: their words, why not, and what to do instead.
const REFUSED: [(&[&str], &str, &str); 1] = [
    // time_namespaces(7): of the clocks, a namespace offsets CLOCK_MONOTONIC and CLOCK_BOOTTIME, and who calls unshare(2) does
    // not enter it, only the children made after that. CLOCK_REALTIME is the node's, and settimeofday(2) has no owner.
    (
        &["clock", "time", "timeskew", "timeSkew", "clockSkew"],
        "a clock cannot be shifted: nothing in the kernel would put it back",
        "a time namespace is for processes that are yet to be started and leaves the time of day alone, and the node's own \
         clock has no owner whose death would set it right; start a copy of the service under libfaketime and experiment on \
         that, or let what it trusts be late: `{ delay: { time: 2s, to: { port: 123 } } }`",
    ),
];

fn refused(cx: &mut Cx<'_, '_>, node: &Node) -> bool {
    let of = |word: &str| REFUSED.iter().find(|(words, ..)| words.contains(&word));
    let found = match &node.value {
        Value::Scalar { text, .. } => of(text).map(|why| (node.at, why)),
        Value::Map(entries) => {
            let mut each = entries.iter();
            each.find_map(|entry| Some((entry.key_at, of(&entry.key)?)))
        }
        Value::List(_) => None,
    };
    let Some((at, (_, why, mend))) = found else {
        return false;
    };
    cx.error(at, *why)
        .label("not a fault of Squall's")
        .mend(*mend);
    true
}

/// Whether a fault is said in one word: `loss: 30%`.
pub(super) fn is_short(node: &Node) -> bool {
    matches!(node.value, Value::Scalar { .. }) && !node.is_null()
}

fn signal(cx: &mut Cx<'_, '_>, node: &Node) -> Option<Signal> {
    const SIGNALS: [(&str, Signal); 9] = [
        ("KILL", Signal::Kill),
        ("TERM", Signal::Term),
        ("INT", Signal::Int),
        ("HUP", Signal::Hup),
        ("QUIT", Signal::Quit),
        ("ABRT", Signal::Abrt),
        ("SEGV", Signal::Segv),
        ("USR1", Signal::Usr1),
        ("USR2", Signal::Usr2),
    ];
    let text = cx.text(node, "a signal", "`TERM`")?;
    if let Some((_, signal)) = SIGNALS.iter().find(|(w, _)| *w == text) {
        return Some(*signal);
    }
    let known: Vec<&str> = SIGNALS.iter().map(|(w, _)| *w).collect();
    let upper = text.to_uppercase();
    let folded = upper.strip_prefix("SIG").unwrap_or(&upper);
    let numbered = match text {
        "9" => Some("KILL"),
        "15" => Some("TERM"),
        "2" => Some("INT"),
        "1" => Some("HUP"),
        _ => None,
    };
    let near = numbered.or_else(|| closest(folded, &known));
    let stops = matches!(folded, "STOP" | "TSTP" | "CONT");
    let draft = cx.error(
        node.at,
        format!("{} is not a signal that can be sent", quoted(text)),
    );
    if let Some(near) = near.filter(|_| !stops) {
        draft.label(format!("did you mean `{near}`?"));
    }
    if stops {
        draft.mend("a stopped process would stay stopped if Squall died; to make it stand still, write `fault: pause`");
    } else {
        draft.mend(format!("write one of {}", known.join(", ")));
    }
    None
}

fn kill(cx: &mut Cx<'_, '_>, owner: At, node: &Node) -> Option<Kill> {
    if is_short(node) {
        return signal(cx, node).map(|signal| Kill {
            signal,
            every: None,
        });
    }
    let fields = Fields::open(cx, owner, node, "a kill", &["signal", "every"])?;
    let signal = fields.or("signal", Signal::default(), |e| signal(cx, &e.node));
    let every = fields.option("every", |e| {
        cx.quantity::<Interval>(&e.node, "a time", "5s")
    });
    Some(Kill {
        signal: signal?,
        every: every?,
    })
}

/// A fault of which nothing is said but that it is there.
fn lasting(cx: &mut Cx<'_, '_>, owner: At, node: &Node, what: &'static str) -> Option<()> {
    if is_short(node) {
        cx.error(node.at, format!("{what} lasts as long as its step is held"))
            .label("not said here")
            .mend(format!(
                "write `fault: {}`, and how long in the step's `hold`",
                what.trim_start_matches("a ")
            ));
        return None;
    }
    Fields::open(cx, owner, node, what, &[])?;
    Some(())
}

fn cpu(cx: &mut Cx<'_, '_>, owner: At, node: &Node) -> Option<Cpu> {
    if is_short(node) {
        let load = cx.quantity(node, "a percentage", "80%")?;
        return Some(Cpu {
            load,
            of: CpuBase::Core,
        });
    }
    let fields = Fields::open(cx, owner, node, "a processor load", &["load", "of"])?;
    let load_entry = fields.need(cx, "load", "load: 80%");
    let load = load_entry.and_then(|e| cx.quantity::<LoadPercent>(&e.node, "a percentage", "80%"));
    let of = fields.or("of", CpuBase::default(), |e| {
        cx.word(
            &e.node,
            "what a load is a share of",
            &[("core", CpuBase::Core), ("quota", CpuBase::Quota)],
        )
    });
    let cpu = Cpu {
        load: load?,
        of: of?,
    };
    if let (CpuBase::Quota, Some(entry)) = (cpu.of, load_entry)
        && cpu.load.get() > WHOLE
    {
        cx.error(
            entry.node.at,
            format!("{} of a quota is more than there is", cpu.load),
        )
        .mend("write at most 100%, or `of: core`");
        return None;
    }
    Some(cpu)
}

fn memory(cx: &mut Cx<'_, '_>, owner: At, node: &Node) -> Option<Memory> {
    if is_short(node) {
        let size = size(cx, node)?;
        return Some(Memory {
            size,
            of: MemoryBase::Target,
            rate: None,
            reserve: Memory::reserve_default(),
        });
    }
    let fields = Fields::open(
        cx,
        owner,
        node,
        "a memory squeeze",
        &["size", "of", "rate", "reserve"],
    )?;
    let size_entry = fields.need(cx, "size", "size: 80%");
    let size = size_entry.and_then(|e| size(cx, &e.node));
    let of = fields.or("of", MemoryBase::default(), |e| {
        cx.word(
            &e.node,
            "what a share is a share of",
            &[("target", MemoryBase::Target), ("host", MemoryBase::Host)],
        )
    });
    let rate = fields.option("rate", |e| {
        cx.quantity::<ByteRate>(&e.node, "a growth rate", "100MiB/s")
    });
    let reserve = fields.or("reserve", Memory::reserve_default(), |e| {
        cx.quantity::<ByteSize>(&e.node, "a size", "16MiB")
    });
    let memory = Memory {
        size: size?,
        of: of?,
        rate: rate?,
        reserve: reserve?,
    };
    if let (MemorySize::Bytes(_), Some(of)) = (memory.size, fields.get("of")) {
        useless_base(cx, of, &memory);
    }
    if let (MemorySize::Share(share), MemoryBase::Host, Some(entry)) =
        (memory.size, memory.of, size_entry)
        && share.get() > HOST_SHARE_SENSIBLE
    {
        cx.warning(entry.node.at, format!("{share} of the host's memory"))
            .label("the kernel may kill anything on the node to make room")
            .mend("stay at or below 95%");
    }
    Some(memory)
}

fn useless_base(cx: &mut Cx<'_, '_>, of: &Entry, memory: &Memory) {
    cx.warning(
        of.key_at,
        format!("`of` says nothing about a size in bytes ({})", memory.size),
    )
    .mend("remove it, or write the size as a percentage");
}

fn size(cx: &mut Cx<'_, '_>, node: &Node) -> Option<MemorySize> {
    let text = cx.text(node, "a size", "`512MiB` or `80%`")?;
    match text.parse::<MemorySize>() {
        Ok(MemorySize::Bytes(b)) if b.get() == 0 => nothing(cx, node),
        Ok(MemorySize::Share(s)) if s.get() == 0 => nothing(cx, node),
        Ok(size) => Some(size),
        Err(error) => {
            cx.unit_error(node.at, text, &error, "512MiB");
            None
        }
    }
}

fn nothing<T>(cx: &mut Cx<'_, '_>, node: &Node) -> Option<T> {
    cx.error(node.at, "this takes no memory at all")
        .mend("write how much: `512MiB`, or `80%` of the target's limit");
    None
}
