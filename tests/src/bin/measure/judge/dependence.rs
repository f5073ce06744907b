//! Errors that come in bursts: what they do to the chance of a false stop, with a trial for each attempt and for each block.

use super::draws::{each, float};
use super::stops::ALPHA;
use squall_controller::judge::eprocess::EProcess;

/// Of `runs` healthy systems whose errors come in bursts of `burst` samples on average, and are in the long run `tolerated` of all,
/// how many are stopped within `samples` samples: with a trial for each attempt, and with blocks of so many.
pub(crate) fn stopped(
    tolerated: f64,
    burst: f64,
    block: u64,
    samples: u64,
    runs: u64,
) -> (u64, u64) {
    let ends = 1.0 / burst;
    // Each burst is followed by so much health that the share is what is tolerated; a burst of independent errors ends
    // after the first.
    let begins = tolerated / (1.0 - tolerated) * ends;
    let stopped = each("bursts", runs, |draws, _| {
        let mut single = EProcess::new(tolerated, ALPHA);
        let mut blocks = EProcess::new(tolerated, ALPHA);
        let (mut by_attempt, mut by_block) = (false, false);
        let (mut number, mut in_block) = (0, 0);
        while number < samples {
            let healthy = draws.gap(begins);
            single.take_healthy(healthy);
            let failing = if burst > 1.0 { 1 + draws.gap(ends) } else { 1 };
            for _ in 0..failing {
                single.take(1.0);
                by_attempt |= single.confirmed();
            }
            let mut take = |count: u64, fails: bool| {
                for _ in 0..count {
                    number += 1;
                    in_block += u64::from(fails);
                    if number % block == 0 {
                        blocks.take(float(in_block) / float(block));
                        by_block |= blocks.confirmed();
                        in_block = 0;
                    }
                }
            };
            take(healthy, false);
            take(failing, true);
        }
        (by_attempt, by_block)
    });
    let count = |which: fn(&(bool, bool)) -> bool| stopped.iter().filter(|run| which(run)).count();
    (count(|run| run.0) as u64, count(|run| run.1) as u64)
}
