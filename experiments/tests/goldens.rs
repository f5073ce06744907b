//! Files that are right and files that are wrong, each with what is said of it.
//!
//! `tests/goldens/ok/*.yaml` must be readable; `err/*.yaml` must not; so too in the folders of the other kinds of file. Beside each stands `NAME.expect`: every
//! diagnostic as a person sees it (for `ok`, the warnings). `SQUALL_BLESS=1 cargo test -p squall-experiments
//! --test goldens` writes them anew; read the difference before it is committed.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot read its own files should say so and stop"
)]

use squall_experiments::fault::{Fault, FaultKind};
use squall_experiments::language::{
    self, Colour, Diagnostic, Severity, read, read_game_day, read_schedule,
};
use std::fs;
use std::path::{Path, PathBuf};

fn files(of: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(of);
    let mut files: Vec<PathBuf> = fs::read_dir(&folder)
        .unwrap_or_else(|e| panic!("{}: {e}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "yaml"))
        .collect();
    files.sort();
    files
}

/// Compares with the expected text, or writes it.
fn check(path: &Path, said: &str, wrong: &mut Vec<String>) {
    let beside = path.with_extension("expect");
    if std::env::var_os("SQUALL_BLESS").is_some() {
        if said.is_empty() {
            fs::remove_file(&beside).ok();
        } else {
            fs::write(&beside, said).unwrap();
        }
        return;
    }
    let expected = fs::read_to_string(&beside).unwrap_or_default();
    if expected != said {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        wrong.push(format!(
            "--- {name}: expected\n{expected}\n--- {name}: said\n{said}"
        ));
    }
}

fn said(path: &Path) -> (bool, String) {
    let text = fs::read_to_string(path).unwrap();
    let name = path.file_name().unwrap().to_string_lossy().into_owned();
    let reading = read(&name, &text);
    let mut said = reading.render(&text, Colour::Never);
    if !said.is_empty() {
        said.push('\n');
    }
    let errors = reading
        .diagnostics
        .iter()
        .any(|d| d.severity == Severity::Error);
    assert_eq!(
        reading.experiment.is_none(),
        errors,
        "{name}: an experiment or an error, not both"
    );
    assert_eq!(
        reading.experiment.is_some(),
        reading.digest.is_some(),
        "{name}"
    );
    (!errors, said)
}

fn all(of: &str, good: bool, at_least: usize) {
    let files = files(of);
    assert!(files.len() >= at_least, "{of}: only {} files", files.len());
    let mut wrong = Vec::new();
    for path in files {
        let (is_good, said) = said(&path);
        if is_good != good {
            wrong.push(format!("--- {}: good is {is_good}\n{said}", path.display()));
        }
        check(&path, &said, &mut wrong);
    }
    assert!(
        wrong.is_empty(),
        "{} wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

#[test]
fn good_files_are_read() {
    all("tests/goldens/ok", true, 15);
}

#[test]
fn bad_files_are_explained() {
    all("tests/goldens/err", false, 60);
}

/// Whether a file of another kind is good, and all that is said of it.
type Other = fn(&str, &str) -> (bool, Vec<Diagnostic>, String);

fn schedule(name: &str, text: &str) -> (bool, Vec<Diagnostic>, String) {
    let read = read_schedule(name, text);
    let said = read.render(text, Colour::Never);
    (read.value.is_some(), read.diagnostics, said)
}

fn game_day(name: &str, text: &str) -> (bool, Vec<Diagnostic>, String) {
    let read = read_game_day(name, text);
    let said = read.render(text, Colour::Never);
    (read.value.is_some(), read.diagnostics, said)
}

fn all_of_kind(folder: &str, kind: &str, other: Other) {
    let mut wrong = Vec::new();
    for (of, wanted) in [("ok", true), ("err", false)] {
        for path in files(&format!("tests/goldens/{folder}/{of}")) {
            let text = fs::read_to_string(&path).unwrap();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            assert_eq!(language::kind(&text).as_deref(), Some(kind), "{name}");
            let (is_good, diagnostics, mut said) = other(&name, &text);
            let errors = diagnostics.iter().any(|d| d.severity == Severity::Error);
            assert_eq!(is_good, !errors, "{name}: a value or an error, not both");
            if is_good != wanted {
                wrong.push(format!("--- {name}: good is {is_good}\n{said}"));
            }
            if !said.is_empty() {
                said.push('\n');
            }
            check(&path, &said, &mut wrong);
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn schedules_are_read_and_explained() {
    all_of_kind("schedule", "Schedule", schedule);
}

#[test]
fn game_days_are_read_and_explained() {
    all_of_kind("game-day", "GameDay", game_day);
}

/// A shutdown is a reboot without the way back, and has no file of its own.
#[test]
fn the_library_has_a_file_for_each_kind_of_fault() {
    let text = |path: &PathBuf| fs::read_to_string(path).unwrap();
    let read = |path| language::read("a.yaml", &text(path)).experiment;
    let experiments: Vec<_> = files("library").iter().filter_map(read).collect();
    let steps = experiments.iter().flat_map(|e| &e.method);
    let used: Vec<FaultKind> = steps.flat_map(|s| &s.faults).map(Fault::kind).collect();
    let without = |kind: &&FaultKind| !used.contains(kind) && **kind != FaultKind::Shutdown;
    let missing: Vec<_> = FaultKind::ALL.iter().filter(without).collect();
    assert!(missing.is_empty(), "no file for {missing:?}");
}

#[test]
fn the_library_is_read_without_a_warning() {
    for path in files("library") {
        let text = fs::read_to_string(&path).unwrap();
        let (good, said) = match language::kind(&text).as_deref() {
            Some("GameDay") => {
                let day = read_game_day("day.yaml", &text).value.unwrap();
                for round in day.experiments {
                    let beside = path.with_file_name(&round.file);
                    assert!(beside.exists(), "{}", round.file);
                }
                let (good, _, said) = game_day("day.yaml", &text);
                (good, said)
            }
            _ => said(&path),
        };
        assert!(good && said.is_empty(), "{}:\n{said}", path.display());
    }
}
