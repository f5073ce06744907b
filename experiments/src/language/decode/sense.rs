//! Whether the parts of a step make sense together.

use crate::fault::{CpuBase, Exhausted, Fault, FaultKind, MemoryBase, MemorySize};
use crate::filter::Filter;
use crate::language::reader::Cx;
use crate::language::source::At;
use crate::target::{NetnsSelector, Target};
use crate::units::Hold;

/// Whether the faults can hit the target, and get along with one another.
pub(super) fn together(cx: &mut Cx<'_, '_>, faults: &[(Fault, At)], target: &Target, on: At) {
    for (fault, at) in faults {
        fits(cx, fault, *at, target, on);
    }
    for (index, (fault, at)) in faults.iter().enumerate() {
        if let Some((_, first)) = faults[..index].iter().find(|(f, _)| f == fault) {
            let first = *first;
            cx.error(*at, format!("the same {} stands here twice", fault.kind()))
                .related(first, "first here")
                .mend("both would act, one after the other: remove one, or make it stronger");
        }
    }
}

fn fits(cx: &mut Cx<'_, '_>, fault: &Fault, at: At, target: &Target, on: At) {
    let kind = fault.kind();
    match target {
        Target::Process(_) | Target::Cgroup(_) | Target::Unit(_) if fault.may_have_owner() => {}
        Target::Process(_) | Target::Cgroup(_) | Target::Unit(_) if kind.is_network() => {
            whole_namespace(cx, kind, at, target, on);
        }
        Target::Netns(selector) if !kind.is_network() => {
            let mend = match selector {
                NetnsSelector::Process(selector) => {
                    format!("write `on: {{ process: {} }}`", surface(selector))
                }
                NetnsSelector::Name(_) => {
                    "name the processes: `on: { process: { name: … } }`".to_owned()
                }
            };
            cx.error(
                on,
                format!("{kind} acts on processes, not on a network namespace"),
            )
            .related(at, "acts on processes")
            .mend(mend);
        }
        Target::Process(_) if kind == FaultKind::Freeze => {
            cx.error(
                on,
                "freeze acts on a whole cgroup, not on a process",
            )
            .related(at, "everything in the cgroup stands still")
            .mend("name the `cgroup` or the `unit`; to make one process stand still, write `fault: pause`");
        }
        Target::Host(_) => on_host(cx, fault, at, on),
        Target::Pod(pod) if kind.is_network() && pod.container.is_some() => {
            cx.error(
                on,
                format!(
                    "{kind} acts on packets, and so on the whole pod, whose containers share one network namespace"
                ),
            )
            .related(at, "acts on packets")
            .mend("remove `container`");
        }
        _ => {}
    }
}

const WHOLE_NAMESPACE: &str = "everything in it is hit";

/// A fault on packets that cannot tell one owner's from another's.
fn whole_namespace(cx: &mut Cx<'_, '_>, kind: FaultKind, at: At, target: &Target, on: At) {
    let by_name = || {
        format!(
            "name the namespace: `on: {{ netns: {{ process: {{ name: … }} }} }}`: {WHOLE_NAMESPACE}"
        )
    };
    let (what, mend) = match target {
        Target::Process(selector) => {
            let selector = surface(selector);
            let mend =
                format!("write `on: {{ netns: {{ process: {selector} }} }}`: {WHOLE_NAMESPACE}");
            ("a process", mend)
        }
        Target::Cgroup(_) => ("a cgroup", by_name()),
        _ => ("a unit", by_name()),
    };
    cx.error(
        on,
        format!(
            "this {kind} acts on a network namespace, and cannot tell the packets of {what} in it"
        ),
    )
    .related(at, "acts on packets")
    .mend(mend);
}

fn on_host(cx: &mut Cx<'_, '_>, fault: &Fault, at: At, on: At) {
    match fault {
        Fault::Kill(_) => {
            cx.error(on, "a kill on the host would be a kill of every process")
                .related(at, "sends signals")
                .mend("name the processes: `on: { process: { name: payment } }`");
        }
        Fault::Pause(_) => {
            cx.error(on, "a pause of the host would be a pause of every process")
                .related(at, "makes processes stand still")
                .mend("name the processes: `on: { process: { name: payment } }`");
        }
        Fault::Freeze(_) => {
            cx.error(on, "a freeze of the host would freeze Squall itself")
                .related(at, "everything in the cgroup stands still")
                .mend("name what is to stand still: `on: { unit: payment.service }`");
        }
        Fault::Fds(_) => {
            cx.error(on, "descriptors are each process's own, and the host has none that are used up")
                .related(at, "lowers the limit of processes")
                .mend("name the processes: `on: { process: { name: payment } }`, or a cgroup or unit of them");
        }
        Fault::Exhaust(exhaust) if exhaust.what == Exhausted::Pids => {
            cx.error(
                at,
                "the host has no limit of processes that a test may use up",
            )
            .related(on, "the target")
            .mend("name a process, cgroup or unit that has one (TasksMax=, or a container's)");
        }
        Fault::Exhaust(exhaust) if exhaust.what == Exhausted::PageCache => {
            cx.error(at, "the host has no memory limit to take a share of")
                .related(on, "the target")
                .mend("name a process, cgroup or unit that has one (MemoryMax=, or a container's)");
        }
        Fault::Exhaust(exhaust) if exhaust.what == Exhausted::Conntrack => {
            cx.warning(at, "no more connections of the whole node will begin, its pods' included")
                .related(on, "the target")
                .mend("this may be what you mean; to hit one service alone, name its network namespace or pod");
        }
        Fault::Cpu(cpu) if cpu.of == CpuBase::Quota => {
            cx.error(at, "the host has no processor quota")
                .related(on, "the target")
                .mend("write `of: core`, or name a process, cgroup or unit that has a quota");
        }
        Fault::Memory(memory)
            if memory.of == MemoryBase::Target && matches!(memory.size, MemorySize::Share(_)) =>
        {
            cx.error(at, "the host has no memory limit to take a share of")
                .related(on, "the target")
                .mend("write `of: host`");
        }
        Fault::Partition(partition) if is_everything(&partition.filter) => {
            cx.warning(at, "this cuts the whole node off")
                .label("nothing says to or from what")
                .mend("add `to:`, such as `to: { host: db.shop, port: 5432 }`");
        }
        _ => {}
    }
}

fn is_everything(filter: &Filter) -> bool {
    filter.to.is_none() && filter.from.is_none() && filter.protocol.is_none()
}

/// A selector as a file writes it.
fn surface(selector: &crate::target::ProcessSelector) -> String {
    let said = [
        selector.name.as_ref().map(|v| format!("name: {v}")),
        selector.command.as_ref().map(|v| format!("command: {v:?}")),
        selector.pid.map(|v| format!("pid: {v}")),
        selector.user.as_ref().map(|v| format!("user: {v}")),
        selector.port.map(|v| format!("port: {v}")),
    ];
    let said: Vec<String> = said.into_iter().flatten().collect();
    format!("{{ {} }}", said.join(", "))
}

/// Whether a step lasts long enough for its faults to do anything.
pub(super) fn long_enough(cx: &mut Cx<'_, '_>, faults: &[(Fault, At)], hold: Hold) {
    for (fault, at) in faults {
        match fault {
            Fault::Delay(delay) if delay.time.get() >= hold.get() => {
                cx.warning(
                    *at,
                    format!("a delay of {} in a step of {hold}", delay.time),
                )
                .label("no delayed packet arrives before the step is over")
                .mend("make `hold` several times as long as the delay");
            }
            Fault::Kill(kill) if kill.every.is_some_and(|every| every.get() >= hold.get()) => {
                cx.warning(*at, format!("a crash loop slower than the step of {hold}"))
                    .label("kills once")
                    .mend("make `hold` several times as long as `every`, or remove `every`");
            }
            _ => {}
        }
    }
}
