//! The repository's rules (see `lab::tidy`), on the repository.

use std::collections::BTreeSet;
use std::process::Command;

use lab::tidy::{self, Tree};

fn kept(rule: fn(&Tree) -> Vec<String>) {
    let tree = Tree::checkout().expect("tests run in a checkout");
    let breaches = rule(&tree);
    assert!(breaches.is_empty(), "\n{}\n", breaches.join("\n"));
}

#[test]
fn dependencies_run_one_way() {
    kept(tidy::dependency_direction);
}

#[test]
fn the_controllers_main_is_the_only_door_to_the_agent() {
    kept(tidy::one_door);
}

#[test]
fn experiments_is_pure() {
    kept(tidy::purity);
}

#[test]
fn all_but_the_agent_forbid_unsafe() {
    kept(tidy::forbidden_unsafe);
}

#[test]
fn unsafe_stays_in_the_kernel_folder() {
    kept(tidy::unsafe_stays_in_the_kernel_folder);
}

#[test]
fn no_outside_tool_is_started() {
    kept(tidy::outside_tools);
}

#[test]
fn files_have_an_end() {
    kept(tidy::file_length);
}

#[test]
fn nothing_is_left_for_later() {
    kept(tidy::leftovers);
}

#[test]
fn the_top_level_is_as_agreed() {
    kept(tidy::top_level);
}

#[test]
fn the_code_map_is_true() {
    kept(tidy::code_map);
}

#[test]
fn readme_tells_of_every_fault() {
    kept(tidy::faults_are_told);
}

#[test]
fn every_bad_file_has_its_expectation() {
    kept(tidy::goldens);
}

/// The crates of the workspace's programs, or of those and its tests, each with its features.
fn crates(edges: &str) -> BTreeSet<String> {
    let mut tree = Command::new(env!("CARGO"));
    tree.args(["tree", "--workspace", "--no-dedupe", "--prefix", "none"]);
    tree.args(["--offline", "--format", "{p} {f}", "--edges", edges]);
    let answer = tree.output().expect("cargo starts");
    let said = String::from_utf8_lossy(&answer.stderr);
    assert!(answer.status.success(), "{said}");
    let lines = String::from_utf8_lossy(&answer.stdout).into_owned();
    lines.lines().map(str::to_owned).collect()
}

#[test]
fn tests_ask_for_no_other_features() {
    let (programs, tests) = (crates("normal,build"), crates("normal,build,dev"));
    let other: Vec<&String> = programs.difference(&tests).collect();
    assert!(
        other.is_empty(),
        "tests build these with more features: ask for them in tests/Cargo.toml, or all is built twice: {other:#?}"
    );
}
