//! When attempts are due.

use super::ProbeError;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// So many due attempts may wait to be started; the probe's task starts thousands in a millisecond. What would not fit waits in the
/// timer, and its latency counts from its due time all the same.
const DUE_WAITING_MAX: usize = 4096;

/// A thread that says when attempts are due, for as long as somebody listens: `t0`, `t0 + every`, …, by multiplication, so that no error adds up.
///
/// Each of the groups hears of the same moments, so that their attempts are pairs.
///
/// A thread, because the runtime's timers are a millisecond coarse, and what they are late would be counted as the service's latency.
pub(super) fn pacer(
    probe: &str,
    every: Duration,
    groups: usize,
) -> Result<Vec<mpsc::Receiver<Instant>>, ProbeError> {
    let channels = (0..groups).map(|_| mpsc::channel(DUE_WAITING_MAX));
    let (mut say, hear): (Vec<_>, Vec<_>) = channels.unzip();
    let tick = move || {
        let began = Instant::now();
        for number in 0_u64.. {
            let due = began + every.mul_f64(float(number));
            while let Some(rest) = due.checked_duration_since(Instant::now()) {
                // In slices, so that the thread of a slow probe ends soon after its run.
                std::thread::sleep(rest.min(SLICE));
                if say.iter().any(mpsc::Sender::is_closed) {
                    return;
                }
            }
            // Each time another group goes first: whoever is second finds the machine a little busier.
            say.rotate_left(1);
            for say in &say {
                if say.blocking_send(due).is_err() {
                    return;
                }
            }
        }
    };
    std::thread::Builder::new()
        .name("pace".into())
        .spawn(tick)
        .map_err(|source| ProbeError::Thread {
            probe: probe.to_owned(),
            source,
        })?;
    Ok(hear)
}

/// How long the timer thread may outlive its run.
const SLICE: Duration = Duration::from_millis(100);

#[expect(clippy::cast_precision_loss, reason = "exact to 2^53 attempts")]
const fn float(number: u64) -> f64 {
    number as f64
}
