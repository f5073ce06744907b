//! Any bytes at all: reading ends, explains itself, and what is accepted survives being kept and read back.
//!
//! `cargo +nightly fuzz run language -- -max_total_time=600 -max_len=4096` in `experiments/`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use squall_experiments::experiment::Experiment;
use squall_experiments::language::{Colour, Severity, read_bytes};

fuzz_target!(|bytes: &[u8]| {
    let (reading, text) = read_bytes("fuzz.yaml", bytes);
    let errors = reading
        .diagnostics
        .iter()
        .any(|d| d.severity == Severity::Error);
    assert_eq!(reading.experiment.is_none(), errors);
    for diagnostic in reading.diagnostics.iter().take(8) {
        assert!(!diagnostic.render(&text, Colour::Never).is_empty());
    }
    if let Some(experiment) = reading.experiment {
        let json = serde_json::to_string(&experiment).expect("an experiment is JSON");
        let kept: Experiment = serde_json::from_str(&json).expect("and is read back");
        assert_eq!(kept.digest(), experiment.digest());
    }
});
