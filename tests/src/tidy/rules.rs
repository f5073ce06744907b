//! The rules. Each returns one sentence per breach; none means that it is kept.

use squall_experiments::fault::FaultKind;

use super::tree::{Tree, code};

/// Lines a file may have: beyond that it has more than one subject.
const FILE_LINES_MAX: usize = 600;

/// All that may lie at the top, besides dot-files.
const TOP_LEVEL: [&str; 11] = [
    "Cargo.toml",
    "Cargo.lock",
    "CHANGELOG.md",
    "LICENSE",
    "README.md",
    "rust-toolchain.toml",
    "agent",
    "controller",
    "deploy",
    "experiments",
    "tests",
];

/// Who must not depend on whom.
const NOT_ON: [(&str, &[&str]); 3] = [
    (
        "experiments",
        &["squall-agent", "squall-controller", "squall-tests"],
    ),
    ("agent", &["squall-controller", "squall-tests"]),
    ("controller", &["squall-tests"]),
];

/// Dependencies run one way: experiments ← agent, experiments ← controller, tests → all.
pub fn dependency_direction(tree: &Tree) -> Vec<String> {
    let mut breaches = Vec::new();
    for (package, forbidden) in NOT_ON {
        let manifest = format!("{package}/Cargo.toml");
        let lines = tree.text(&manifest).unwrap_or_default().lines();
        for line in lines {
            let name = line.split(['.', ' ', '=']).next().unwrap_or_default();
            if forbidden.contains(&name) {
                breaches.push(format!("{manifest}: {package} must not know {name}"));
            }
        }
    }
    breaches
}

/// The controller's library does not know the agent; its `main.rs` is the only door.
pub fn one_door(tree: &Tree) -> Vec<String> {
    let library = tree
        .rust("controller/")
        .filter(|(path, _)| *path != "controller/src/main.rs");
    let found = library.flat_map(|(path, text)| {
        code(text, true)
            .filter(|(_, line)| line.contains("squall_agent"))
            .map(move |(n, _)| format!("{path}:{n}"))
    });
    found
        .map(|place| format!("{place}: only controller/src/main.rs may know the agent's library"))
        .collect()
}

/// What a pure crate does not touch: files, sockets, processes, clocks, the environment, a runtime.
const IMPURE: [&str; 11] = [
    "std::fs",
    "std::process",
    "std::env",
    "std::thread",
    "net::TcpStream",
    "net::TcpListener",
    "net::UdpSocket",
    "time::Instant",
    "time::SystemTime",
    "tokio",
    "async fn",
];

/// `experiments` is pure: it can be tested without a kernel, and replayed.
pub fn purity(tree: &Tree) -> Vec<String> {
    let mut breaches = Vec::new();
    for (path, text) in tree.rust("experiments/src/") {
        for (number, line) in code(text, false) {
            for impure in IMPURE.iter().filter(|impure| line.contains(**impure)) {
                breaches.push(format!(
                    "{path}:{number}: experiments is pure, but this says `{impure}`"
                ));
            }
        }
    }
    breaches
}

/// Everything but the agent forbids unsafe code outright.
pub fn forbidden_unsafe(tree: &Tree) -> Vec<String> {
    let libraries = [
        "experiments/src/lib.rs",
        "controller/src/lib.rs",
        "tests/src/lib.rs",
    ];
    let lax = libraries.iter().filter(|path| {
        tree.text(path)
            .is_some_and(|text| !text.contains("#![forbid(unsafe_code)]"))
    });
    lax.map(|path| format!("{path}: must say #![forbid(unsafe_code)]"))
        .collect()
}

/// `unsafe` and calls into libc are the agent's, under agent/src/kernel, and nobody else's.
pub fn unsafe_stays_in_the_kernel_folder(tree: &Tree) -> Vec<String> {
    let outside = tree
        .rust("")
        .filter(|(path, _)| !path.starts_with("agent/src/kernel/"));
    let mut breaches = Vec::new();
    for (path, text) in outside {
        // Elsewhere the compiler forbids it, in test modules too; there these rules are quoted.
        for (number, line) in code(text, path.starts_with("agent/")) {
            let blocks = UNSAFE_BEFORE
                .iter()
                .any(|what| line.contains(&["unsafe", what].join(" ")));
            if blocks {
                breaches.push(format!(
                    "{path}:{number}: unsafe code belongs under agent/src/kernel"
                ));
            }
            if libc_call(line) {
                breaches.push(format!(
                    "{path}:{number}: system calls belong under agent/src/kernel"
                ));
            }
        }
    }
    breaches
}

/// What makes code unsafe, after the word.
const UNSAFE_BEFORE: [&str; 4] = ["{", "fn", "impl", "extern"];

/// Whether a function of libc is called, rather than one of its constants or types named.
fn libc_call(line: &str) -> bool {
    line.match_indices("libc::").any(|(at, found)| {
        let rest = &line[at + found.len()..];
        let name = rest
            .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .next()
            .unwrap_or_default();
        let after = &rest[name.len()..];
        !name.is_empty() && after.starts_with('(') && name.chars().all(|c| !c.is_ascii_uppercase())
    })
}

/// Programs that other tools lean on. Squall speaks to the kernel itself.
const OUTSIDE_TOOLS: [&str; 13] = [
    "tc",
    "nft",
    "iptables",
    "ip6tables",
    "ip",
    "nsenter",
    "sh",
    "/bin/sh",
    "bash",
    "stress-ng",
    "kill",
    "unshare",
    "modprobe",
];

/// Neither agent nor controller starts tc, nft, iptables, stress-ng or a shell. Their tests may: to look from outside.
pub fn outside_tools(tree: &Tree) -> Vec<String> {
    let mut breaches = Vec::new();
    let sources = tree.rust("agent/src/").chain(tree.rust("controller/src/"));
    for (path, text) in sources.filter(|(path, _)| !path.contains("_tests/")) {
        for (number, line) in code(text, false) {
            for tool in OUTSIDE_TOOLS {
                if line.contains(&format!("Command::new(\"{tool}\")")) {
                    breaches.push(format!(
                        "{path}:{number}: starts `{tool}`; speak to the kernel instead"
                    ));
                }
            }
        }
    }
    breaches
}

/// A file has one subject, and so an end.
pub fn file_length(tree: &Tree) -> Vec<String> {
    let long = tree
        .rust("")
        .map(|(path, text)| (path, text.lines().count()))
        .filter(|(_, n)| *n > FILE_LINES_MAX);
    long.map(|(path, n)| format!("{path}: {n} lines; split it by subject before {FILE_LINES_MAX}"))
        .collect()
}

/// Nothing is left for later: no placeholder, no marker, no test that is switched off.
pub fn leftovers(tree: &Tree) -> Vec<String> {
    // Taken apart, as this file is looked at too.
    let markers = [
        ["to", "do!("],
        ["unimple", "mented!("],
        ["FIX", "ME"],
        ["XX", "X"],
        ["TO", "DO"],
        ["#[ign", "ore"],
    ]
    .map(|m| m.concat());
    let mut breaches = Vec::new();
    for (path, text) in tree.rust("") {
        for (number, line) in text.lines().enumerate() {
            for marker in markers
                .iter()
                .filter(|marker| line.contains(marker.as_str()))
            {
                breaches.push(format!(
                    "{path}:{}: `{marker}` is left; do it, or write down why not",
                    number + 1
                ));
            }
        }
    }
    breaches
}

/// The top level holds what was agreed on, and no other folder.
pub fn top_level(tree: &Tree) -> Vec<String> {
    let mut names: Vec<&str> = tree
        .paths()
        .filter_map(|path| path.split('/').next())
        .collect();
    names.dedup();
    let strange = names
        .into_iter()
        .filter(|name| !name.starts_with('.') && !TOP_LEVEL.contains(name));
    strange
        .map(|name| format!("{name}: does not belong at the top level"))
        .collect()
}

/// Every path in README's table "where | what" is there.
pub fn code_map(tree: &Tree) -> Vec<String> {
    let readme = tree.text("README.md").unwrap_or_default();
    let mapped: Vec<String> = readme
        .lines()
        .filter_map(first_cell)
        .flat_map(expand)
        .collect();
    if mapped.is_empty() {
        return vec![
            "README.md: has no code map (a table whose rows begin with a `path`)".to_owned(),
        ];
    }
    let there = |path: &str| tree.holds(path) || tree.holds(&format!("{path}.rs"));
    let missing = mapped.iter().filter(|path| !there(path));
    missing
        .map(|path| format!("README.md: the code map names {path}, which is not there"))
        .collect()
}

/// The path in a row such as "| `agent/src/hold/` | … |".
fn first_cell(line: &str) -> Option<&str> {
    let cell = line.strip_prefix("| `")?.split_once("` |")?.0;
    (cell.contains('/') && !cell.contains(' ')).then_some(cell)
}

/// `a/{b,c}.rs` is `a/b.rs` and `a/c.rs`.
fn expand(path: &str) -> Vec<String> {
    let Some((head, rest)) = path.split_once('{') else {
        return vec![path.to_owned()];
    };
    let Some((choices, tail)) = rest.split_once('}') else {
        return vec![path.to_owned()];
    };
    choices
        .split(',')
        .map(|choice| format!("{head}{choice}{tail}"))
        .collect()
}

/// Every kind of fault is explained to the reader of README.
pub fn faults_are_told(tree: &Tree) -> Vec<String> {
    let readme = tree.text("README.md").unwrap_or_default().to_lowercase();
    let untold = FaultKind::ALL
        .into_iter()
        .filter(|kind| !readme.contains(&kind.word().to_lowercase()));
    untold
        .map(|kind| format!("README.md: says nothing of the fault `{kind}`"))
        .collect()
}

/// Bad files that a reader of experiments must have been tried on, at least.
const GOLDENS_MIN: usize = 60;

/// Where they are.
const GOLDENS: &str = "experiments/tests/goldens/err/";

/// Every bad file says what is expected of it, and there are enough of them.
pub fn goldens(tree: &Tree) -> Vec<String> {
    let bad: Vec<&str> = tree
        .paths()
        .filter_map(|path| path.strip_prefix(GOLDENS)?.strip_suffix(".yaml"))
        .collect();
    let silent = bad
        .iter()
        .filter(|name| tree.text(&format!("{GOLDENS}{name}.expect")).is_none());
    let mut breaches: Vec<String> = silent
        .map(|name| format!("{GOLDENS}{name}.yaml: has no {name}.expect beside it"))
        .collect();
    if bad.len() < GOLDENS_MIN {
        breaches.push(format!(
            "{GOLDENS}: {} bad files; {GOLDENS_MIN} kinds of mistakes are promised",
            bad.len()
        ));
    }
    breaches
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rule objects to the tree, and names what.
    fn objects(rule: fn(&Tree) -> Vec<String>, files: &[(&str, &str)], to: &str) {
        let said = rule(&Tree::of(files));
        assert!(
            said.iter().any(|sentence| sentence.contains(to)),
            "nothing about {to} in {said:?}"
        );
    }

    fn content(rule: fn(&Tree) -> Vec<String>, files: &[(&str, &str)]) {
        assert_eq!(rule(&Tree::of(files)), Vec::<String>::new());
    }

    #[test]
    fn a_dependency_the_wrong_way() {
        objects(
            dependency_direction,
            &[("agent/Cargo.toml", "squall-controller.workspace = true")],
            "agent must not",
        );
        objects(
            dependency_direction,
            &[("experiments/Cargo.toml", "squall-agent = {}")],
            "squall-agent",
        );
        content(
            dependency_direction,
            &[("controller/Cargo.toml", "squall-agent.workspace = true")],
        );
    }

    #[test]
    fn a_second_door() {
        objects(
            one_door,
            &[("controller/src/run/mod.rs", "use squall_agent::x;")],
            "controller/src/run/mod.rs:1",
        );
        content(
            one_door,
            &[("controller/src/main.rs", "use squall_agent::x;")],
        );
        content(
            one_door,
            &[("controller/src/lib.rs", "//! Knows no squall_agent.")],
        );
    }

    #[test]
    fn an_impure_crate() {
        objects(
            purity,
            &[("experiments/src/a.rs", "\nuse std::time::Instant;")],
            "a.rs:2",
        );
        content(
            purity,
            &[(
                "experiments/src/a.rs",
                "use std::net::IpAddr;\n#[cfg(test)]\nmod t { use std::fs; }",
            )],
        );
    }

    #[test]
    fn unsafe_in_the_wrong_place() {
        objects(
            unsafe_stays_in_the_kernel_folder,
            &[("agent/src/link.rs", "unsafe { x() }")],
            "link.rs:1",
        );
        objects(
            unsafe_stays_in_the_kernel_folder,
            &[("agent/src/link.rs", "libc::getpid()")],
            "system calls",
        );
        content(
            unsafe_stays_in_the_kernel_folder,
            &[("agent/src/kernel/a.rs", "unsafe { libc::getpid() }")],
        );
        content(
            unsafe_stays_in_the_kernel_folder,
            &[("agent/src/link.rs", "f(libc::SIGKILL, 1 as libc::c_int)")],
        );
        objects(forbidden_unsafe, &[("controller/src/lib.rs", "")], "forbid");
    }

    #[test]
    fn a_tool_of_others() {
        objects(
            outside_tools,
            &[("agent/src/a.rs", "Command::new(\"tc\")")],
            "starts `tc`",
        );
        content(outside_tools, &[("agent/src/a.rs", "Command::new(path)")]);
    }

    #[test]
    fn a_file_without_end() {
        objects(
            file_length,
            &[("agent/src/a.rs", &"x\n".repeat(601))],
            "601 lines",
        );
        content(file_length, &[("agent/src/a.rs", &"x\n".repeat(600))]);
    }

    #[test]
    fn something_left_for_later() {
        let marker = ["FIX", "ME"].concat();
        objects(
            leftovers,
            &[("agent/src/a.rs", &format!("// {marker} later"))],
            "a.rs:1",
        );
        content(leftovers, &[("agent/src/a.rs", "// done")]);
    }

    #[test]
    fn something_at_the_top() {
        objects(top_level, &[("scripts/x.sh", "")], "scripts");
        content(
            top_level,
            &[("README.md", ""), (".ci/run", ""), ("agent/Cargo.toml", "")],
        );
    }

    #[test]
    fn a_map_of_what_is_not_there() {
        objects(
            code_map,
            &[
                ("README.md", "| `agent/src/{a,b}.rs` | x |"),
                ("agent/src/a.rs", ""),
            ],
            "agent/src/b.rs",
        );
        content(
            code_map,
            &[
                ("README.md", "| `agent/src/hold/` | x |"),
                ("agent/src/hold/a.rs", ""),
            ],
        );
        objects(code_map, &[("README.md", "no table")], "no code map");
    }

    #[test]
    fn a_fault_nobody_tells_of() {
        objects(faults_are_told, &[("README.md", "delay")], "partition");
    }

    #[test]
    fn a_golden_without_expectation() {
        objects(
            goldens,
            &[("experiments/tests/goldens/err/a.yaml", "")],
            "a.expect",
        );
        objects(goldens, &[], "0 bad files");
    }
}
