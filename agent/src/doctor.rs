//! What this node can do, what is missing, and how to get it.

use crate::kernel::{cgroup, process};
use crate::policy::Policy;
use crate::{capabilities, confine, halt, privileges};
use serde::Serialize;
use std::path::Path;

/// How it stands with one thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Standing {
    /// As it should be.
    Good,
    /// It works, but not in full.
    Limited,
    /// It does not work.
    Missing,
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Finding {
    /// What kind of thing: `fault`, `kernel`, `module`, `capability`, `mount`, `safety`, `node`.
    pub(crate) about: &'static str,
    /// Which.
    pub(crate) name: String,
    /// How it stands.
    pub(crate) standing: Standing,
    /// What was found.
    pub(crate) found: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) mends: Vec<String>,
}

/// All that was looked at.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Report {
    /// The node.
    pub(crate) node: String,
    /// Its kernel.
    pub(crate) kernel: String,
    /// What was found, thing by thing.
    pub(crate) findings: Vec<Finding>,
}

impl Report {
    /// The worst of it.
    pub(crate) fn is_sound(&self) -> bool {
        self.findings
            .iter()
            .all(|f| f.standing != Standing::Missing)
    }

    /// Whether an agent would not serve here.
    pub(crate) fn would_not_serve(&self) -> bool {
        self.findings
            .iter()
            .any(|f| f.name == POLICY && f.standing == Standing::Missing)
    }
}

const POLICY: &str = "policy";

/// Looks at everything; what can be tried is tried, in a scratch namespace, and leaves nothing.
pub(crate) fn examine(policy: Option<&Path>, state: &Path) -> Report {
    // One that cannot be read is told of below.
    let known = capabilities::probe(&Policy::load(policy).unwrap_or_default());
    let mut findings = faults(&known);
    findings.extend(kernel(&known.kernel));
    findings.extend(
        MODULES
            .iter()
            .map(|module| self::module(module, &known.kernel)),
    );
    findings.extend(rights());
    findings.extend(mounts());
    findings.extend(safety());
    findings.extend(node(policy, state));
    Report {
        node: rustix::system::uname()
            .nodename()
            .to_string_lossy()
            .into_owned(),
        kernel: known.kernel,
        findings,
    }
}

fn finding(
    about: &'static str,
    name: impl Into<String>,
    standing: Standing,
    found: impl Into<String>,
    mends: Vec<String>,
) -> Finding {
    Finding {
        about,
        name: name.into(),
        standing,
        found: found.into(),
        mends,
    }
}

/// The bottom line: each kind of fault, as the agent itself found out.
fn faults(known: &squall_experiments::capability::Capabilities) -> Vec<Finding> {
    let one = |capability: &squall_experiments::capability::Capability| {
        let means: Vec<String> = capability
            .means
            .iter()
            .map(|m| format!("{m:?}").to_lowercase())
            .collect();
        let standing = match (means.is_empty(), capability.notes.is_empty()) {
            (true, _) => Standing::Missing,
            (false, true) => Standing::Good,
            (false, false) => Standing::Limited,
        };
        let found = if means.is_empty() {
            "cannot be injected here".to_owned()
        } else {
            format!("by {}", means.join(", "))
        };
        finding(
            "fault",
            capability.fault.word(),
            standing,
            found,
            capability.notes.clone(),
        )
    };
    known.faults.iter().map(one).collect()
}

/// The releases that brought what the agent is built on (kernel sources: the commits' first releases).
const RELEASES: [(&str, (u32, u32), Standing, &str); 3] = [
    ("pidfd", (5, 3), Standing::Missing, "targets cannot be held"),
    (
        "nftables' owner flag",
        (5, 12),
        Standing::Missing,
        "no fault on packets can be held",
    ),
    (
        "nftables' egress hook",
        (5, 16),
        Standing::Limited,
        "packets are shaped in user space",
    ),
];

fn kernel(release: &str) -> Vec<Finding> {
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .map(|n| n.parse().unwrap_or(0));
    let here: (u32, u32) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let one = |(name, since, without, lost): (&str, (u32, u32), Standing, &str)| {
        let needed = format!("Linux {}.{}", since.0, since.1);
        if here >= since {
            return finding(
                "kernel",
                name,
                Standing::Good,
                format!("there since {needed}"),
                vec![],
            );
        }
        let mend = format!("boot {needed} or newer");
        finding(
            "kernel",
            name,
            without,
            format!("not in Linux {release}: {lost}"),
            vec![mend],
        )
    };
    RELEASES.into_iter().map(one).collect()
}

/// What may be a module, what it is for, and the package of it where distributions split it off.
const MODULES: [(&str, &str); 6] = [
    ("nf_tables", "faults on packets"),
    (
        "nfnetlink_queue",
        "shaping packets in user space, and DNS faults",
    ),
    ("sch_netem", "shaping packets in the kernel"),
    ("ifb", "shaping packets in the kernel"),
    ("nft_fwd_netdev", "shaping packets in the kernel"),
    ("nft_redir", "HTTP faults, and DNS faults over TCP"),
];

fn module((name, what_for): &(&'static str, &'static str), release: &str) -> Finding {
    let folder = Path::new("/lib/modules").join(release);
    let listed = |file: &str| {
        let text = std::fs::read_to_string(folder.join(file)).unwrap_or_default();
        let is = |line: &str| {
            let path = line.split(':').next().unwrap_or_default();
            let file = path.rsplit('/').next().unwrap_or_default();
            file.split('.')
                .next()
                .is_some_and(|stem| stem.replace('-', "_") == *name)
        };
        text.lines().any(is)
    };
    if Path::new("/sys/module").join(name).exists() {
        return finding("module", *name, Standing::Good, "loaded", vec![]);
    }
    if listed("modules.builtin") {
        return finding("module", *name, Standing::Good, "built in", vec![]);
    }
    if listed("modules.dep") {
        return finding(
            "module",
            *name,
            Standing::Good,
            "loads when it is needed",
            vec![],
        );
    }
    // A part that is built in and has no parameters shows nowhere: what was tried above decides.
    let found = format!("not seen; it is for {what_for}");
    let mend = format!(
        "if the fault is missing above: `modprobe {name}`, or install the kernel's extra modules \
         (linux-modules-extra-{release} on Ubuntu, kernel-modules-extra on Fedora)"
    );
    finding("module", *name, Standing::Limited, found, vec![mend])
}

fn rights() -> Vec<Finding> {
    let missing = privileges::missing();
    let one = |need: privileges::Need| {
        if missing.iter().all(|other| other.name != need.name) {
            return finding(
                "capability",
                need.name,
                Standing::Good,
                need.what_for,
                vec![],
            );
        }
        let found = format!("not held: no {}", need.what_for);
        let short = need.name.trim_start_matches("CAP_");
        let mend = format!(
            "run as root, or grant it: `AmbientCapabilities={}` in a unit, `capabilities: {{ add: [ {short} ] }}` in a pod",
            need.name
        );
        finding(
            "capability",
            need.name,
            Standing::Limited,
            found,
            vec![mend],
        )
    };
    privileges::NEEDS.into_iter().map(one).collect()
}

fn mounts() -> Vec<Finding> {
    let mut findings = Vec::new();
    let hierarchies = cgroup::hierarchies().unwrap_or_default();
    let version = cgroup::version(&hierarchies).word();
    findings.push(if hierarchies.is_empty() {
        let mend =
            "mount one: `mount -t cgroup2 none /sys/fs/cgroup`; in a container, mount the node's"
                .to_owned();
        finding(
            "mount",
            "cgroup",
            Standing::Missing,
            "no cgroup file system",
            vec![mend],
        )
    } else {
        finding("mount", "cgroup", Standing::Good, version, vec![])
    });
    let own = |pid: u32| std::fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
    let hidden = std::fs::read_dir("/proc/1/ns").is_err();
    let node = own(1).is_some() && own(1) == own(std::process::id());
    findings.push(match (node, hidden) {
        (true, _) => finding("mount", "/proc", Standing::Good, "shows this pid namespace, from PID 1 on", vec![]),
        (false, _) => {
            let mend = "run as root with CAP_SYS_PTRACE, without `hidepid`, and in a pod with `hostPID: true`".to_owned();
            finding("mount", "/proc", Standing::Limited, "PID 1 cannot be looked into", vec![mend])
        }
    });
    findings
}

/// What makes faults safer, and is not needed for any.
fn safety() -> Vec<Finding> {
    let mut findings = Vec::new();
    findings.push(
        if std::fs::read_to_string("/proc/pressure/memory").is_ok() {
            finding(
                "safety",
                "PSI",
                Standing::Good,
                "the kernel tells how long work waits",
                vec![],
            )
        } else {
            let mend = "boot with `psi=1`".to_owned();
            finding(
                "safety",
                "PSI",
                Standing::Limited,
                "off: faults that press cannot see the pressure they make",
                vec![mend],
            )
        },
    );
    let yama = std::fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope").unwrap_or_default();
    findings.push(match yama.trim() {
        "3" => {
            let mend = "set kernel.yama.ptrace_scope to 2 or less and boot again".to_owned();
            finding(
                "safety",
                "Yama",
                Standing::Missing,
                "nobody may trace, so nothing can be paused",
                vec![mend],
            )
        }
        "" => finding("safety", "Yama", Standing::Good, "not there", vec![]),
        scope => finding(
            "safety",
            "Yama",
            Standing::Good,
            format!("ptrace_scope {scope}"),
            vec![],
        ),
    });
    findings.push(pidfd());
    findings.extend(confinement());
    findings
}

/// Whether the kernel keeps the agent and its holders from what they never do.
fn confinement() -> [Finding; 2] {
    let one = |name, known: bool, kept, lost, mend: &str| {
        if known {
            return finding("safety", name, Standing::Good, kept, vec![]);
        }
        finding(
            "safety",
            name,
            Standing::Limited,
            lost,
            vec![mend.to_owned()],
        )
    };
    [
        one(
            "seccomp",
            confine::knows_seccomp(),
            "system calls that nothing here makes are refused",
            "agent and holders may make any system call",
            "use a kernel with CONFIG_SECCOMP_FILTER",
        ),
        one(
            "Landlock",
            confine::knows_landlock(),
            "holders that work on files open those in the named folder only",
            "holders that work on files could open others",
            "use Linux 5.13 or newer with `landlock` in its `lsm=` parameter",
        ),
    ]
}

fn pidfd() -> Finding {
    match process::pidfd_open(std::process::id()) {
        Ok(_) => finding(
            "safety",
            "pidfd",
            Standing::Good,
            "processes are held, not named",
            vec![],
        ),
        Err(error) => {
            let mend = "a seccomp profile or a sandbox forbids pidfd_open(2): allow it".to_owned();
            finding(
                "safety",
                "pidfd",
                Standing::Missing,
                error.to_string(),
                vec![mend],
            )
        }
    }
}

/// What somebody decided for this node.
fn node(policy: Option<&Path>, state: &Path) -> Vec<Finding> {
    let policy = match Policy::load(policy) {
        Ok(policy) if policy == Policy::default() => {
            finding("node", POLICY, Standing::Good, "the defaults", vec![])
        }
        Ok(_) => finding("node", POLICY, Standing::Good, "understood", vec![]),
        Err(error) => {
            let told = crate::hold::held::chain(&error);
            let mend = "mend it: until then the agent does not serve".to_owned();
            finding("node", POLICY, Standing::Missing, told, vec![mend])
        }
    };
    let halted = match halt::read(state) {
        None => finding("node", "halt", Standing::Good, "not halted", vec![]),
        Some(halt) => {
            let mend = "when it is over: `squall-agent halt --lift`".to_owned();
            finding(
                "node",
                "halt",
                Standing::Limited,
                halt.to_string(),
                vec![mend],
            )
        }
    };
    vec![policy, halted]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_kernel_is_told_what_it_lacks() {
        let lacks = |release: &str| {
            let lost = |f: &Finding| (f.standing != Standing::Good).then(|| f.name.clone());
            kernel(release).iter().filter_map(lost).collect::<Vec<_>>()
        };
        assert_eq!(lacks("6.1.0-30-cloud-amd64"), Vec::<String>::new());
        assert_eq!(lacks("5.15.0-1"), ["nftables' egress hook"]);
        assert_eq!(lacks("5.4.0").len(), 2);
        assert_eq!(lacks("nonsense").len(), 3);
    }

    #[test]
    fn what_is_missing_says_what_to_do() {
        let report = examine(None, Path::new("/nonexistent"));
        for finding in &report.findings {
            let good = finding.standing == Standing::Good;
            assert!(good || !finding.mends.is_empty(), "{finding:?}");
        }
    }
}
