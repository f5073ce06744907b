//! Processor load: threads that burn, each steered by its own clock.
//!
//! Each of `n` threads keeps a share of one core: in every [`PERIOD`] it burns until its processor time is what the
//! share of the time since the start asks for, and sleeps for the rest. The error of one period is made good in the
//! next, so that the mean over seconds is exact whatever the scheduler does; a debt that could not be worked off
//! (the quota is used up, others want the core) is forgotten past [`DEBT_MAX`], or the load would later
//! exceed what was asked for.

use super::held::{Held, HoldError};
use super::holder::Grip;
use super::strain::{self, Resource, Strain};
use crate::kernel::{cgroup, clock};
use squall_experiments::dose::{CpuDose, Dose, Evidence};
use squall_experiments::fault::{Cpu, CpuBase};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// One turn of burning and sleeping: short against the 100 ms period of a quota and against what people call a pause,
/// long against a timer's slack of 50 µs and a scheduler's tick of 1 to 4 ms.
const PERIOD: Duration = Duration::from_millis(20);
/// The most burning that is caught up on: one period.
const DEBT_MAX: Duration = PERIOD;
/// How long burning goes on between two looks at the clock: a look costs under 1 µs.
const BURN_SLICE: Duration = Duration::from_micros(50);
/// A burner calls nothing deep.
const STACK_BYTES: usize = 64 << 10;
/// The threads must show processor time within this: even a tiny quota grants some each 100 ms.
const FIRST_BURN: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct Burners {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    /// What each thread keeps of its core now, an `f64`'s bits.
    share: Arc<AtomicU64>,
    burnt_before: Duration,
    asked: f64,
    strain: Strain,
    /// The last second: when it began, what was burnt by then, and the cores' worth it came to.
    mark: (Instant, Duration),
    cores: f64,
}

/// Starts the burners in the cgroup that this process has entered.
pub(crate) fn arm(
    fault: &Cpu,
    grip: &Grip,
    limits: &strain::Limits,
) -> Result<(Box<dyn Held>, Evidence), HoldError> {
    let group = grip.group("cpu");
    let quota = group.and_then(|(g, v2)| cgroup::cpu_quota(&g.fd, &g.path, v2));
    let path = group.map_or("/", |(g, _)| g.path.as_str());
    let asked = match fault.of {
        CpuBase::Core => fault.load.fraction(),
        CpuBase::Quota => {
            quota.ok_or_else(|| {
                HoldError::Unable(format!(
                    "cgroup {path} has no CPU quota to take a share of: say `of: core`"
                ))
            })? * fault.load.fraction()
        }
    };
    let there = usable_cores()?;
    let most = quota.map_or(there, |quota| quota.min(there));
    if asked > most + 1e-9 {
        let why = if most < there {
            format!("the quota of cgroup {path}")
        } else {
            "what this node has".into()
        };
        return Err(HoldError::Unable(format!(
            "{} is {asked:.2} cores, and {why} is {most:.2}: ask for at most that",
            fault.load
        )));
    }
    let burners = Burners::start(asked, Strain::new(&[Resource::Cpu], limits))?;
    let first = burners.first_burn()?;
    let quota = quota.map_or("no quota".to_owned(), |q| format!("quota {q:.2} cores"));
    let evidence = Evidence {
        means: "burner threads in the target's cgroup".to_owned(),
        read_back: vec![
            format!(
                "{} threads for {asked:.3} cores, in cgroup {path} ({quota})",
                burners.threads.len()
            ),
            format!(
                "the kernel accounts {} us of processor time to them",
                first.as_micros()
            ),
        ],
        warnings: burners.strain.warnings(),
    };
    Ok((Box::new(burners), evidence))
}

/// Cores this process may run on: its cpuset counts.
#[expect(clippy::cast_precision_loss, reason = "a node has few thousand cores")]
fn usable_cores() -> Result<f64, HoldError> {
    let set = nix::sched::sched_getaffinity(nix::unistd::Pid::from_raw(0)).map_err(
        HoldError::kernel("read", "the processors this process may use"),
    )?;
    let count = (0..nix::sched::CpuSet::count())
        .filter(|cpu| set.is_set(*cpu).unwrap_or(false))
        .count();
    Ok(count.max(1) as f64)
}

impl Burners {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "the caller has bounded it by the node's cores"
    )]
    fn start(asked: f64, strain: Strain) -> Result<Self, HoldError> {
        let count = (asked - 1e-9).ceil().max(1.0) as usize;
        let share = Arc::new(AtomicU64::new((asked / count as f64).to_bits()));
        let stop = Arc::new(AtomicBool::new(false));
        let burnt_before = clock::process_cpu();
        let mut threads = Vec::with_capacity(count);
        for number in 0..count {
            let (told, share) = (Arc::clone(&stop), Arc::clone(&share));
            // Not all at once: n threads that start their periods together would be a square wave of n cores.
            let offset = PERIOD.mul_f64(number as f64 / count as f64);
            let thread = std::thread::Builder::new()
                .name("squall-burner".to_owned())
                .stack_size(STACK_BYTES)
                .spawn(move || burn(&share, offset, &told))
                .map_err(HoldError::kernel(
                    "start",
                    format!("burner thread {number}"),
                ))?;
            threads.push(thread);
        }
        Ok(Self {
            stop,
            threads,
            share,
            burnt_before,
            asked,
            strain,
            mark: (Instant::now(), Duration::ZERO),
            cores: 0.0,
        })
    }

    fn burnt(&self) -> Duration {
        clock::process_cpu().saturating_sub(self.burnt_before)
    }

    /// The cores' worth of the last half second or more.
    fn measure(&mut self) -> Duration {
        /// Below this the quotient says more about the clock than about the load.
        const WINDOW_LEAST: Duration = Duration::from_millis(500);
        let burnt = self.burnt();
        let window = self.mark.0.elapsed();
        if window >= WINDOW_LEAST || self.cores == 0.0 {
            self.cores = (burnt.saturating_sub(self.mark.1)).as_secs_f64() / window.as_secs_f64();
            if window >= WINDOW_LEAST {
                self.mark = (Instant::now(), burnt);
            }
        }
        burnt
    }

    /// Waits until the kernel accounts work to the threads.
    fn first_burn(&self) -> Result<Duration, HoldError> {
        const SHOWN: Duration = Duration::from_micros(200);
        let begun = Instant::now();
        loop {
            let burnt = self.burnt();
            if burnt >= SHOWN {
                return Ok(burnt);
            }
            if begun.elapsed() > FIRST_BURN {
                return Err(HoldError::Unable(format!(
                    "the burner threads got {} us of processor time in {} ms: the cgroup is frozen, or starved",
                    burnt.as_micros(),
                    FIRST_BURN.as_millis()
                )));
            }
            std::thread::sleep(Duration::from_micros(200));
        }
    }
}

/// One thread's whole life.
fn burn(kept: &AtomicU64, offset: Duration, stop: &AtomicBool) {
    std::thread::sleep(offset);
    let mut bits = kept.load(Ordering::Relaxed);
    let mut begun = Instant::now();
    let mut base = clock::thread_cpu();
    let mut turn = 0u32;
    while !stop.load(Ordering::Relaxed) {
        let now = kept.load(Ordering::Relaxed);
        if now != bits {
            // Another share counts from now on.
            (bits, begun, base, turn) = (now, Instant::now(), clock::thread_cpu(), 0);
        }
        turn += 1;
        let end = PERIOD * turn;
        let goal = end.mul_f64(f64::from_bits(bits));
        loop {
            let used = clock::thread_cpu() - base;
            let now = begun.elapsed();
            if used >= goal || now >= end {
                if goal.saturating_sub(used) > DEBT_MAX || turn == u32::MAX {
                    // Start counting anew, with the debt forgotten.
                    begun = Instant::now();
                    base = clock::thread_cpu();
                    turn = 0;
                }
                break;
            }
            spin((goal - used).min(BURN_SLICE));
        }
        if turn > 0 {
            std::thread::sleep(end.saturating_sub(begun.elapsed()));
        }
    }
}

/// Works for about so long.
fn spin(length: Duration) {
    let begun = Instant::now();
    let mut sum = 0u64;
    while begun.elapsed() < length {
        for step in 0..256u64 {
            sum = std::hint::black_box(
                sum.wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(step),
            );
        }
    }
}

impl Held for Burners {
    fn next_turn(&self) -> Option<Instant> {
        Some(self.strain.next_look())
    }

    #[expect(clippy::cast_precision_loss, reason = "as many as there are cores")]
    fn turn(&mut self) -> Result<(), HoldError> {
        self.measure();
        let share = self.strain.share(self.cores / self.asked);
        let each = self.asked * share / self.threads.len() as f64;
        self.share.store(each.to_bits(), Ordering::Relaxed);
        Ok(())
    }

    fn dose(&mut self) -> Result<Dose, HoldError> {
        let burnt = self.measure();
        Ok(Dose::Cpu(CpuDose {
            seconds: burnt.as_secs_f64(),
            cores: self.cores,
            cores_asked: self.asked,
            back_off: self.strain.said(),
        }))
    }

    fn release(mut self: Box<Self>) -> Result<Dose, HoldError> {
        self.stop.store(true, Ordering::Relaxed);
        self.dose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_a_core_is_met_by_the_threads_own_clock() {
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let before = clock::thread_cpu();
            burn(&AtomicU64::new(0.2_f64.to_bits()), Duration::ZERO, &told);
            clock::thread_cpu() - before
        });
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(2) {
            std::thread::sleep(Duration::from_millis(10));
        }
        stop.store(true, Ordering::Relaxed);
        let length = begun.elapsed().as_secs_f64();
        let share = thread.join().unwrap().as_secs_f64() / length;
        assert!((share - 0.2).abs() < 0.03, "{share}");
    }
}
