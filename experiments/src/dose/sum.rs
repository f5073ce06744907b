//! The doses of several pulses as one.

use super::{BackOff, DnsDose, Dose, HttpDose, NetworkDose, PulsedDose, TcpDose};

impl Dose {
    /// What this and a later pulse of the same fault did together: counts and times are summed, and what is said of
    /// *now* is the later one's.
    #[must_use]
    pub fn and(self, later: Self) -> Self {
        match (self, later) {
            (Self::Network(a), Self::Network(b)) => Self::Network(network(&a, &b)),
            (Self::Cpu(a), Self::Cpu(mut b)) => {
                b.seconds += a.seconds;
                b.back_off = back_off(a.back_off, b.back_off);
                Self::Cpu(b)
            }
            (Self::Memory(a), Self::Memory(mut b)) => {
                b.back_off = back_off(a.back_off, b.back_off);
                // What a pulse that has just begun has not taken yet was taken by the one before.
                b.resident_bytes = b.resident_bytes.max(a.resident_bytes);
                Self::Memory(b)
            }
            (Self::Kill(a), Self::Kill(mut b)) => {
                b.sent += a.sent;
                b.ended += a.ended;
                Self::Kill(b)
            }
            (Self::Dns(a), Self::Dns(b)) => Self::Dns(dns(&a, b)),
            (Self::Http(a), Self::Http(b)) => Self::Http(http(&a, b)),
            (Self::Pause(a), Self::Pause(mut b)) => {
                b.seconds += a.seconds;
                Self::Pause(b)
            }
            (Self::Fill(a), Self::Fill(mut b)) => {
                b.back_off = back_off(a.back_off, b.back_off);
                b.held_bytes = b.held_bytes.max(a.held_bytes);
                Self::Fill(b)
            }
            (Self::Io(a), Self::Io(mut b)) => {
                b.reads += a.reads;
                b.read_bytes += a.read_bytes;
                b.writes += a.writes;
                b.written_bytes += a.written_bytes;
                b.syncs += a.syncs;
                b.back_off = back_off(a.back_off, b.back_off);
                Self::Io(b)
            }
            (Self::Exhaust(a), Self::Exhaust(mut b)) => {
                b.held = b.held.max(a.held);
                b.dropped = a
                    .dropped
                    .zip(b.dropped)
                    .map_or(b.dropped, |(a, b)| Some(a + b));
                b.back_off = back_off(a.back_off, b.back_off);
                Self::Exhaust(b)
            }
            (Self::Tcp(a), Self::Tcp(b)) => Self::Tcp(tcp(&a, b)),
            (Self::NicDown(a), Self::NicDown(mut b)) => {
                b.seconds += a.seconds;
                b.forgotten = b.forgotten.max(a.forgotten);
                Self::NicDown(b)
            }
            (Self::Fds(a), Self::Fds(mut b)) => {
                b.seconds += a.seconds;
                b.let_go += a.let_go;
                Self::Fds(b)
            }
            (Self::Pulsed(a), Self::Pulsed(b)) => Self::Pulsed(pulsed(a, b)),
            // Two kinds have no sum; one fault has one kind.
            (_, later) => later,
        }
    }
}

/// Each pulse begins with all that is asked for.
fn back_off(a: Option<BackOff>, b: Option<BackOff>) -> Option<BackOff> {
    match (a, b) {
        (Some(a), Some(mut b)) => {
            b.times += a.times;
            Some(b)
        }
        (Some(mut a), None) => {
            a.share = 1.0;
            Some(a)
        }
        (None, b) => b,
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a mean over fewer packets than 2^53"
)]
fn network(a: &NetworkDose, b: &NetworkDose) -> NetworkDose {
    let weighed = |d: &NetworkDose| d.delay_mean_us.map(|us| us * d.delayed as f64);
    let delayed = a.delayed + b.delayed;
    let all = match (weighed(a), weighed(b)) {
        (Some(a), Some(b)) => Some(a + b),
        (a, b) => a.or(b),
    };
    NetworkDose {
        matched: a.matched + b.matched,
        bytes: a.bytes + b.bytes,
        dropped: a.dropped + b.dropped,
        delayed,
        delay_mean_us: all.filter(|_| delayed > 0).map(|all| all / delayed as f64),
        duplicated: a.duplicated + b.duplicated,
        corrupted: a.corrupted + b.corrupted,
        reordered: a.reordered + b.reordered,
        rejected: a.rejected + b.rejected,
        overflowed: a.overflowed + b.overflowed,
    }
}

fn dns(a: &DnsDose, mut b: DnsDose) -> DnsDose {
    b.seen += a.seen;
    b.matched += a.matched;
    b.answered += a.answered;
    b.dropped += a.dropped;
    b.delayed += a.delayed;
    b.forwarded += a.forwarded;
    b.overflowed += a.overflowed;
    b
}

fn http(a: &HttpDose, mut b: HttpDose) -> HttpDose {
    b.connections += a.connections;
    b.requests += a.requests;
    b.matched += a.matched;
    b.aborted += a.aborted;
    b.delayed += a.delayed;
    b.truncated += a.truncated;
    b.reset += a.reset;
    b.replaced += a.replaced;
    b.tls_passed += a.tls_passed;
    b.other_passed += a.other_passed;
    b
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a mean over fewer packets than 2^53"
)]
fn tcp(a: &TcpDose, mut b: TcpDose) -> TcpDose {
    let weighed = |d: &TcpDose| d.delay_mean_us.map(|us| us * d.delayed as f64);
    let all = match (weighed(a), weighed(&b)) {
        (Some(a), Some(b)) => Some(a + b),
        (a, b) => a.or(b),
    };
    b.packets += a.packets;
    b.connections += a.connections;
    b.matched += a.matched;
    b.delayed += a.delayed;
    b.delay_mean_us = all
        .filter(|_| b.delayed > 0)
        .map(|all| all / b.delayed as f64);
    b.overflowed += a.overflowed;
    b
}

fn pulsed(a: PulsedDose, b: PulsedDose) -> PulsedDose {
    let of = match (a.of, b.of) {
        (Some(a), Some(b)) => Some(Box::new(a.and(*b))),
        (a, b) => a.or(b),
    };
    PulsedDose {
        of,
        times_on: a.times_on + b.times_on,
        times_off: a.times_off + b.times_off,
        seconds_on: a.seconds_on + b.seconds_on,
        seconds_off: a.seconds_off + b.seconds_off,
        is_on: b.is_on,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dose::{CpuDose, MemoryDose};

    #[test]
    fn pulses_add_up_and_the_last_is_now() {
        let network = |delayed, mean| {
            Dose::Network(NetworkDose {
                matched: delayed,
                delayed,
                delay_mean_us: Some(mean),
                ..NetworkDose::default()
            })
        };
        let Dose::Network(sum) = network(10, 100.0).and(network(30, 200.0)) else {
            panic!("another kind");
        };
        assert_eq!((sum.matched, sum.delay_mean_us), (40, Some(175.0)));
        let cpu = |seconds, cores| {
            Dose::Cpu(CpuDose {
                seconds,
                cores,
                ..CpuDose::default()
            })
        };
        assert_eq!(cpu(2.0, 1.0).and(cpu(0.5, 0.5)), cpu(2.5, 0.5));
        let memory = Dose::Memory(MemoryDose {
            resident_bytes: 7,
            ..MemoryDose::default()
        });
        let begun = Dose::Memory(MemoryDose::default());
        assert!(memory.and(begun).in_force());
        let pressed = |times, share| {
            Dose::Cpu(CpuDose {
                back_off: Some(BackOff {
                    times,
                    share,
                    why: String::new(),
                }),
                ..CpuDose::default()
            })
        };
        assert_eq!(pressed(2, 0.5).and(pressed(3, 0.7)), pressed(5, 0.7));
        assert_eq!(pressed(2, 0.5).and(cpu(0.0, 0.0)), pressed(2, 1.0));
    }
}
