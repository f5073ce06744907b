//! Numbers as people read them.

use super::summary::{ExpectationReport, FaultOutcome, Unit};
use squall_experiments::dose::{
    DnsDose, Dose, ExhaustDose, FdsDose, FillDose, FreezeDose, HttpDose, IoDose, NicDownDose,
    PauseDose, PulsedDose, TcpDose,
};
use squall_experiments::event::StopReason;
use squall_experiments::run_life::RunState;
use squall_experiments::wire::EndCause;

/// `850 ms`, `2.3 s`, `1 min 20 s`, `1 h 5 min`.
pub(crate) fn span_ms(ms: f64) -> String {
    let seconds = ms / 1000.0;
    if !ms.is_finite() {
        "unknown".into()
    } else if ms < 10.0 {
        format!("{} ms", trimmed(ms, 1))
    } else if ms < 999.5 {
        format!("{ms:.0} ms")
    } else if seconds < 59.95 {
        format!("{} s", trimmed(seconds, 1))
    } else if seconds < 3599.5 {
        let whole = seconds.round();
        two((whole / 60.0).floor(), "min", whole % 60.0, "s")
    } else {
        let minutes = (seconds / 60.0).round();
        two((minutes / 60.0).floor(), "h", minutes % 60.0, "min")
    }
}

fn two(large: f64, large_unit: &str, small: f64, small_unit: &str) -> String {
    if small < 0.5 {
        format!("{large:.0} {large_unit}")
    } else {
        format!("{large:.0} {large_unit} {small:.0} {small_unit}")
    }
}

/// With up to `digits` decimals, without trailing zeros.
fn trimmed(value: f64, digits: usize) -> String {
    let text = format!("{value:.digits$}");
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

/// A measured value with its unit: `99.2%`, `412 ms`, `48.2/s`.
pub(crate) fn value_in_words(value: f64, unit: Unit) -> String {
    match unit {
        Unit::Fraction => format!("{}%", percent(value)),
        Unit::Microseconds if value < 999.5 => format!("{value:.0} µs"),
        Unit::Microseconds => span_ms(value / 1000.0),
        Unit::PerSecond => format!("{}/s", trimmed(value, 1)),
        Unit::Number => trimmed(value, 3),
    }
}

/// The worst window under fault, beside what the control allowed in it; a dash where there was none.
pub(super) fn worst_in_words(of: &ExpectationReport) -> String {
    if of.windows_under_fault == 0 {
        return "–".into();
    }
    let show = |value| value_in_words(value, of.unit);
    let worst = of.worst_under_fault.map_or("no data".into(), show);
    match of.worst_beside {
        Some(bound) => format!("{worst} beside {}", show(bound)),
        None => worst,
    }
}

/// Two decimals, and never rounded up to a hundred: 99.996 % of something is not all of it.
fn percent(fraction: f64) -> String {
    let hundredths = fraction * 10_000.0;
    let shown = if fraction < 1.0 {
        hundredths.round().min(9_999.0)
    } else {
        hundredths.round()
    };
    trimmed(shown / 100.0, 2)
}

/// 12345678 as `12,345,678`.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 packet`, `12 packets`.
pub(crate) fn counted(number: u64, one: &str) -> String {
    let s = if number == 1 { "" } else { "s" };
    format!("{} {one}{s}", count(number))
}

#[expect(
    clippy::cast_precision_loss,
    reason = "shown with one decimal; 2^53 bytes are more than any target has"
)]
fn bytes(number: u64) -> String {
    const UNITS: [(&str, u64); 4] = [
        ("TiB", 1 << 40),
        ("GiB", 1 << 30),
        ("MiB", 1 << 20),
        ("KiB", 1 << 10),
    ];
    UNITS.iter().find(|(_, size)| number >= *size).map_or_else(
        || format!("{number} B"),
        |(name, size)| format!("{} {name}", trimmed(number as f64 / *size as f64, 1)),
    )
}

fn pause_in_words(d: &PauseDose) -> String {
    format!(
        "stood still for {} s, lately {} in {}",
        trimmed(d.seconds, 1),
        counted(d.threads, "thread"),
        processes(d.processes)
    )
}

fn freeze_in_words(d: &FreezeDose) -> String {
    format!(
        "frozen for {} s, lately {}",
        trimmed(d.seconds, 1),
        processes(d.processes)
    )
}

fn exhaust_in_words(d: &ExhaustDose) -> String {
    let dropped = d.dropped.map_or_else(String::new, |packets| {
        format!(
            ", {} of new connections dropped",
            counted(packets, "packet")
        )
    });
    format!(
        "{} of {} held, {} left{dropped}",
        count(d.held),
        count(d.limit),
        count(d.left)
    )
}

fn fds_in_words(d: &FdsDose) -> String {
    let go = match d.let_go {
        0 => String::new(),
        several => format!(", {} set their own", processes(several)),
    };
    format!(
        "short of descriptors for {} s, lately {}, of which one could open only {} more below its limit of {}{go}",
        trimmed(d.seconds, 1),
        processes(d.processes),
        count(d.left),
        count(d.limit)
    )
}

fn fill_in_words(d: &FillDose) -> String {
    format!(
        "{} taken of {} asked for, {} left free",
        bytes(d.held_bytes),
        bytes(d.asked_bytes),
        bytes(d.free_bytes)
    )
}

fn io_in_words(d: &IoDose) -> String {
    let each = [
        (d.reads, "read", Some(d.read_bytes)),
        (d.writes, "write", Some(d.written_bytes)),
        (d.syncs, "sync", None),
    ];
    let mut said = Vec::new();
    for (number, what, size) in each {
        if number > 0 {
            let size = size.map_or(String::new(), |size| format!(" ({})", bytes(size)));
            said.push(format!("{}{size}", counted(number, what)));
        }
    }
    said.push(format!(
        "lately {} of {} a second asked for",
        trimmed(d.per_second, 1),
        trimmed(d.asked_per_second, 1)
    ));
    said.join(", ")
}

fn processes(number: u64) -> String {
    counted(number, "process").replace("processs", "processes")
}

/// What a fault did, in words. What did not happen is not said.
pub(crate) fn dose_in_words(dose: &Dose) -> String {
    let mut said = done_in_words(dose);
    if let Some(back) = dose.back_off() {
        said.push_str(&format!(
            ", backed off {}, lately to {} %: {}",
            counted(back.times, "time"),
            percent(back.share),
            back.why
        ));
    }
    said
}

fn done_in_words(dose: &Dose) -> String {
    match dose {
        Dose::Network(d) => {
            let mut said = vec![format!("{} matched", counted(d.matched, "packet"))];
            let each = [
                (d.delayed, "delayed"),
                (d.dropped, "dropped"),
                (d.rejected, "rejected"),
                (d.duplicated, "duplicated"),
                (d.corrupted, "corrupted"),
                (d.reordered, "reordered"),
                (d.overflowed, "let through untouched at a limit"),
            ];
            for (number, what) in each {
                if number > 0 {
                    let mean = d.delay_mean_us.filter(|_| what == "delayed");
                    let mean = mean.map_or(String::new(), |us| {
                        format!(" by {} on average", value_in_words(us, Unit::Microseconds))
                    });
                    said.push(format!("{} {what}{mean}", count(number)));
                }
            }
            said.join(", ")
        }
        Dose::Cpu(d) => format!(
            "{} s of processor time, lately {} of {} cores asked for",
            trimmed(d.seconds, 1),
            trimmed(d.cores, 2),
            trimmed(d.cores_asked, 2)
        ),
        Dose::Memory(d) => format!(
            "{} resident of {} asked for",
            bytes(d.resident_bytes),
            bytes(d.asked_bytes)
        ),
        Dose::Kill(d) => format!(
            "{} sent, {} seen to end",
            counted(d.sent, "signal"),
            processes(d.ended)
        ),
        Dose::Pause(d) => pause_in_words(d),
        Dose::Freeze(d) => freeze_in_words(d),
        Dose::Fds(d) => fds_in_words(d),
        Dose::Fill(d) => fill_in_words(d),
        Dose::Io(d) => io_in_words(d),
        Dose::Exhaust(d) => exhaust_in_words(d),
        Dose::Pulsed(d) => pulses_in_words(d),
        Dose::Dns(d) => dns_in_words(d),
        Dose::Http(d) => http_in_words(d),
        Dose::Tcp(d) => tcp_in_words(d),
        Dose::NicDown(d) => nic_down_in_words(d),
        Dose::NodeEnd(d) if d.ordered => "ordered, and nothing takes it back".to_owned(),
        Dose::NodeEnd(_) => "not done".to_owned(),
    }
}

fn nic_down_in_words(d: &NicDownDose) -> String {
    format!(
        "down for {} s; addresses and routes to be put back: {}",
        trimmed(d.seconds, 1),
        count(d.forgotten)
    )
}

fn pulses_in_words(d: &PulsedDose) -> String {
    let times = format!(
        "{} ({} s in force), released {} ({} s)",
        counted(u64::from(d.times_on), "pulse"),
        trimmed(d.seconds_on, 1),
        counted(u64::from(d.times_off), "time"),
        trimmed(d.seconds_off, 1)
    );
    match &d.of {
        Some(of) => format!("{times}: {}", done_in_words(of)),
        None => times,
    }
}

fn dns_in_words(d: &DnsDose) -> String {
    let each = [
        (d.matched, "hit"),
        (d.answered, "answered falsely"),
        (d.dropped, "left without an answer"),
        (d.delayed, "delayed"),
        (d.forwarded, "let through"),
        (d.overflowed, "let through untouched at a limit"),
    ];
    let seen = counted(d.seen, "query").replace("querys", "queries");
    what_happened(seen, &each)
}

fn http_in_words(d: &HttpDose) -> String {
    let each = [
        (d.matched, "hit"),
        (d.aborted, "aborted"),
        (d.delayed, "delayed"),
        (d.truncated, "cut short"),
        (d.reset, "reset"),
        (d.replaced, "changed"),
        (d.tls_passed, "encrypted connections let through"),
        (d.other_passed, "other connections let through"),
    ];
    let on = counted(d.connections, "connection");
    what_happened(format!("{} on {on}", counted(d.requests, "request")), &each)
}

fn tcp_in_words(d: &TcpDose) -> String {
    let mean = d.delay_mean_us.map_or_else(String::new, |us| {
        format!(" by {} on average", span_ms(us / 1e3))
    });
    let held = format!("ends held back{mean}");
    let each = [
        (d.matched, "hit"),
        (d.delayed, held.as_str()),
        (d.overflowed, "packets let through untouched at a limit"),
    ];
    what_happened(counted(d.connections, "connection"), &each)
}

/// What came by, and what happened to it.
fn what_happened(seen: String, each: &[(u64, &str)]) -> String {
    let happened = each.iter().filter(|(number, _)| *number > 0);
    let said = happened.map(|(number, what)| format!("{} {what}", count(*number)));
    std::iter::once(seen)
        .chain(said)
        .collect::<Vec<_>>()
        .join(", ")
}

/// The phase that a state stands for, in words.
pub(crate) fn state_in_words(state: RunState) -> String {
    match state {
        RunState::Planned => "planned".into(),
        RunState::Gated => "allowed to start".into(),
        RunState::Baseline => "baseline".into(),
        RunState::Injecting(stage) => format!("stage {}", stage + 1),
        RunState::Recovering => "recovery".into(),
        RunState::Finished => "finished".into(),
    }
}

/// Why a run was to end, in words.
pub(crate) fn stop_in_words(reason: &StopReason) -> String {
    match reason {
        StopReason::Done => "the method is through".into(),
        StopReason::Violated => "an expectation was violated".into(),
        StopReason::Person => "a person said so".into(),
        StopReason::Fault(why) | StopReason::Baseline(why) => why.clone(),
    }
}

/// What ended a fault, in words.
pub(crate) fn cause_in_words(cause: &EndCause) -> String {
    match cause {
        EndCause::Stopped => "stopped".into(),
        EndCause::LeaseEnded => "its lease ended".into(),
        EndCause::HolderKilled(by) => format!("its holder was killed ({by})"),
        EndCause::TargetGone => "its target went away".into(),
        EndCause::Done => "done".into(),
        EndCause::Failed(why) => format!("it failed: {why}"),
    }
}

/// What became of a fault, in words.
pub(super) fn outcome_in_words(outcome: &FaultOutcome) -> String {
    match outcome {
        FaultOutcome::NotReached => "not reached".into(),
        FaultOutcome::Refused(why) => format!("not injected: {why}"),
        FaultOutcome::InForce => "no end was recorded".into(),
        FaultOutcome::Ended(cause) => cause_in_words(cause),
        FaultOutcome::Stuck(why) => format!("NOT SHOWN GONE: {why}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_read_well() {
        let cases = [
            (0.42, "0.4 ms"),
            (850.4, "850 ms"),
            (999.9, "1 s"),
            (2_340.0, "2.3 s"),
            (59_990.0, "1 min"),
            (80_000.0, "1 min 20 s"),
            (3_900_000.0, "1 h 5 min"),
        ];
        for (ms, words) in cases {
            assert_eq!(span_ms(ms), words);
        }
    }

    #[test]
    fn nearly_all_is_not_all() {
        assert_eq!(value_in_words(0.99999, Unit::Fraction), "99.99%");
        assert_eq!(value_in_words(1.0, Unit::Fraction), "100%");
        assert_eq!(value_in_words(0.5, Unit::Fraction), "50%");
        assert_eq!(count(1_234_567), "1,234,567");
    }
}
