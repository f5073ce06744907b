//! Random numbers with a fixed seed, what is known of a share, and all cores at work.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

/// xoshiro256++ (Blackman & Vigna 2019), so that a seed means the same figures with every version of every library.
#[derive(Clone, Debug)]
pub(crate) struct Draws([u64; 4]);

impl Draws {
    pub(crate) fn new(seed: u64) -> Self {
        let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        // splitmix64, as its authors say to seed it.
        let mut next = || {
            state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mut mixed = state;
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            mixed ^ (mixed >> 31)
        };
        Self([next(), next(), next(), next()])
    }

    fn next(&mut self) -> u64 {
        let s = &mut self.0;
        let drawn = s[0].wrapping_add(s[3]).rotate_left(23).wrapping_add(s[0]);
        let shifted = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= shifted;
        s[3] = s[3].rotate_left(45);
        drawn
    }

    /// Above 0 and at most 1.
    #[allow(clippy::cast_precision_loss, reason = "53 bits")]
    pub(crate) fn unit(&mut self) -> f64 {
        ((self.next() >> 11) + 1) as f64 / (1_u64 << 53) as f64
    }

    /// How many trials do not violate before the next one that does: geometric, by inversion, and so exactly as if each
    /// trial had been drawn.
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "positive, and `as` saturates"
    )]
    pub(crate) fn gap(&mut self, rate: f64) -> u64 {
        (self.unit().ln() / (-rate).ln_1p()) as u64
    }
}

/// The share of `hits` in `of`, with its 95 % interval (Clopper & Pearson 1934).
pub(crate) fn share(hits: u64, of: u64) -> (f64, f64, f64) {
    const TAIL: f64 = 0.025;
    let middle = float(hits) / float(of.max(1));
    // The least share of which so many or more are not yet strange, and the greatest of which so few or fewer are not.
    let low = bisect(|p| 1.0 - at_most(hits.saturating_sub(1), of, p) >= TAIL);
    let high = bisect(|p| at_most(hits, of, p) < TAIL);
    let low = if hits == 0 { 0.0 } else { low };
    (middle, low, if hits >= of { 1.0 } else { high })
}

/// The least number from 0 to 1 for which it is so.
fn bisect(so: impl Fn(f64) -> bool) -> f64 {
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..50 {
        let middle = f64::midpoint(low, high);
        if so(middle) {
            high = middle;
        } else {
            low = middle;
        }
    }
    high
}

/// The chance of at most `hits` in `of`, each with chance `p`.
fn at_most(hits: u64, of: u64, p: f64) -> f64 {
    let (log_p, log_q) = (p.ln(), (-p).ln_1p());
    let mut log_term = float(of) * log_q;
    let mut log_sum = log_term;
    for k in 0..hits {
        log_term += (float(of - k) / float(k + 1)).ln() + log_p - log_q;
        let (most, least) = if log_term > log_sum {
            (log_term, log_sum)
        } else {
            (log_sum, log_term)
        };
        log_sum = most + (least - most).exp().ln_1p();
    }
    log_sum.exp().min(1.0)
}

#[allow(clippy::cast_precision_loss, reason = "far below 2^53")]
pub(crate) fn float(number: u64) -> f64 {
    number as f64
}

/// One result for each run from 0 to `runs`, in order, from all cores; what is done is told now and then.
pub(crate) fn each<T: Send>(
    what: &str,
    runs: u64,
    run: impl Fn(&mut Draws, u64) -> T + Sync,
) -> Vec<T> {
    const TOLD_TIMES: u64 = 10;
    let cores = thread::available_parallelism().map_or(1, usize::from) as u64;
    let done = AtomicU64::new(0);
    let part = |core: u64| {
        let mine = (core * runs / cores)..((core + 1) * runs / cores);
        let results = mine.map(|number| {
            let result = run(&mut Draws::new(number + 1), number);
            let now = done.fetch_add(1, Ordering::Relaxed) + 1;
            if now.is_multiple_of((runs / TOLD_TIMES).max(1)) {
                eprintln!("measure: {what}: {now} of {runs}");
            }
            result
        });
        results.collect::<Vec<T>>()
    };
    thread::scope(|scope| {
        let part = &part;
        let cores: Vec<_> = (0..cores)
            .map(|core| scope.spawn(move || part(core)))
            .collect();
        let parts = cores.into_iter().filter_map(|core| core.join().ok());
        parts.flatten().collect()
    })
}
