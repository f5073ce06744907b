//! How strong a fault is, in the measures a policy bounds. Pure.

use super::Limits;
use squall_experiments::fault::{
    CpuBase, DnsEffect, Exhaust, ExhaustGoal, Fault, Fds, FillGoal, HttpEffect, LossModel,
    MemorySize,
};
use squall_experiments::units::{Delay, LoadPercent, Percent};

/// One measure by which a fault is stronger than its node allows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TooStrong {
    /// Later than allowed.
    #[error("delays up to {most}, and this one may be {asked} late")]
    Delay {
        /// Asked for, with its jitter.
        asked: Delay,
        /// Allowed.
        most: Delay,
    },
    /// More is lost than allowed.
    #[error("up to {most} of the packets to be lost, and this fault loses {asked}")]
    Loss {
        /// Asked for, in the long run.
        asked: Percent,
        /// Allowed.
        most: Percent,
    },
    /// More processor time than allowed.
    #[error("processor loads up to {most}, and {asked} was asked for")]
    Load {
        /// Asked for.
        asked: LoadPercent,
        /// Allowed.
        most: LoadPercent,
    },
    /// More of something limited than allowed.
    #[error("up to {most} of memory, disk and the like to be taken, and {asked} was asked for")]
    Fill {
        /// Asked for.
        asked: Percent,
        /// Allowed.
        most: Percent,
    },
    /// How much of the limit it would be is not said.
    #[error(
        "up to {most} of memory, disk and the like to be taken, and how much this is of the whole is not known beforehand: write it as a share, such as `{most}`"
    )]
    NotAShare {
        /// Allowed.
        most: Percent,
    },
}

/// Whether the fault is within what a node allows of its kind.
///
/// # Errors
/// The first measure that is not.
pub(crate) fn within(fault: &Fault, limits: &Limits) -> Result<(), TooStrong> {
    if let Some(asked) = latest(fault).filter(|asked| *asked > limits.delay) {
        let most = limits.delay;
        return Err(TooStrong::Delay { asked, most });
    }
    if let Some(asked) = lost(fault).filter(|asked| *asked > limits.loss) {
        let most = limits.loss;
        return Err(TooStrong::Loss { asked, most });
    }
    if let (Fault::Cpu(cpu), Some(most)) = (fault, limits.load)
        && cpu.load > most
    {
        let asked = cpu.load;
        // A load of the target's own quota is bounded like one of a core: neither is more than its number says.
        let (CpuBase::Core | CpuBase::Quota) = cpu.of;
        return Err(TooStrong::Load { asked, most });
    }
    let most = limits.fill;
    match taken(fault) {
        Taken::Nothing => Ok(()),
        Taken::Share(asked) if asked > most => Err(TooStrong::Fill { asked, most }),
        Taken::Unknown if most < Percent::ALL => Err(TooStrong::NotAShare { most }),
        Taken::Share(_) | Taken::Unknown => Ok(()),
    }
}

/// The latest that the fault makes anything; a distribution with a tail may do more, seldom.
fn latest(fault: &Fault) -> Option<Delay> {
    match fault {
        Fault::Delay(delay) => {
            let jitter = delay.jitter.map_or(0, Delay::get);
            let sum = delay.time.get().saturating_add(jitter);
            Some(Delay::clamped(std::time::Duration::from_nanos(sum)))
        }
        Fault::Reorder(reorder) => Some(reorder.time),
        Fault::Dns(dns) => match dns.effect {
            DnsEffect::Delay(time) => Some(time),
            _ => None,
        },
        Fault::Http(http) => match http.effect {
            HttpEffect::Delay(time) => Some(time),
            _ => None,
        },
        _ => None,
    }
}

/// The share of packets that do not arrive as they were sent. What is corrupted is thrown away by whoever receives it,
/// and a partition loses all.
fn lost(fault: &Fault) -> Option<Percent> {
    match fault {
        Fault::Loss(loss) => match &loss.model {
            LossModel::Random(chance) => Some(chance.probability),
            LossModel::Gemodel(ge) => {
                // The share of time spent in the bad state, in the long run, is p / (p + r).
                let (p, r) = (u128::from(ge.p.get()), u128::from(ge.r.get()));
                let (bad, good) = (u128::from(ge.bad.get()), u128::from(ge.good.get()));
                let mean = (p * bad + r * good).checked_div(p + r).unwrap_or(good);
                u64::try_from(mean).ok().and_then(Percent::new)
            }
        },
        Fault::Corrupt(corrupt) => Some(corrupt.chance.probability),
        Fault::Partition(_) => Some(Percent::ALL),
        _ => None,
    }
}

/// How much of something limited a fault takes.
enum Taken {
    /// It takes nothing.
    Nothing,
    /// So much of the whole.
    Share(Percent),
    /// A number of something, of which the whole is not known here.
    Unknown,
}

fn taken(fault: &Fault) -> Taken {
    match fault {
        Fault::Memory(memory) => match memory.size {
            MemorySize::Share(share) => Taken::Share(share),
            MemorySize::Bytes(_) => Taken::Unknown,
        },
        Fault::Fill(fill) => match fill.goal {
            FillGoal::To(share) => Taken::Share(share),
            _ => Taken::Unknown,
        },
        Fault::Exhaust(Exhaust { goal, .. }) | Fault::Fds(Fds { goal }) => match *goal {
            ExhaustGoal::To(share) => Taken::Share(share),
            ExhaustGoal::Leave(_) => Taken::Unknown,
        },
        _ => Taken::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(text: &str) -> Fault {
        serde_json::from_str(text).unwrap()
    }

    fn refused(limits: &Limits, text: &str) -> bool {
        within(&fault(text), limits).is_err()
    }

    #[test]
    fn each_measure_is_bounded_where_it_is_met() {
        let limits = Limits {
            delay: "100ms".parse().unwrap(),
            loss: "10%".parse().unwrap(),
            load: Some("150%".parse().unwrap()),
            fill: "80%".parse().unwrap(),
            ..Limits::default()
        };
        for (text, over) in [
            (r#"{"delay": {"time": "90ms", "jitter": "10ms"}}"#, false),
            (r#"{"delay": {"time": "90ms", "jitter": "11ms"}}"#, true),
            (
                r#"{"reorder": {"chance": {"probability": "1%"}, "time": "101ms"}}"#,
                true,
            ),
            (r#"{"dns": {"effect": {"delay": "101ms"}}}"#, true),
            (r#"{"dns": {"effect": "nxdomain"}}"#, false),
            (r#"{"http": {"effect": {"delay": "101ms"}}}"#, true),
            (r#"{"http": {"effect": "reset"}}"#, false),
            (
                r#"{"loss": {"model": {"random": {"probability": "10%"}}}}"#,
                false,
            ),
            (
                r#"{"loss": {"model": {"random": {"probability": "10.1%"}}}}"#,
                true,
            ),
            // A tenth of the time in the bad state, where all is lost.
            (
                r#"{"loss": {"model": {"gemodel": {"p": "1%", "r": "9%"}}}}"#,
                false,
            ),
            (
                r#"{"loss": {"model": {"gemodel": {"p": "1%", "r": "8%"}}}}"#,
                true,
            ),
            (
                r#"{"loss": {"model": {"gemodel": {"p": "0%", "r": "0%"}}}}"#,
                false,
            ),
            (r#"{"corrupt": {"chance": {"probability": "11%"}}}"#, true),
            (
                r#"{"duplicate": {"chance": {"probability": "90%"}}}"#,
                false,
            ),
            (r#"{"partition": {}}"#, true),
            (r#"{"cpu": {"load": "150%"}}"#, false),
            (r#"{"cpu": {"load": "151%"}}"#, true),
            (r#"{"memory": {"size": "80%"}}"#, false),
            (r#"{"memory": {"size": "81%"}}"#, true),
            (r#"{"memory": {"size": "1MiB"}}"#, true),
            (r#"{"kill": {}}"#, false),
        ] {
            assert_eq!(refused(&limits, text), over, "{text}");
            assert!(!refused(&Limits::default(), text), "{text} by default");
        }
    }
}
