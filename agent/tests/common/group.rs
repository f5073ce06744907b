//! A cgroup for a test's victims, v1 or v2, removed with the test.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The group in each hierarchy that the tests need.
pub(crate) struct Group {
    name: String,
    v2: bool,
}

const ROOT: &str = "/sys/fs/cgroup";

impl Group {
    pub(crate) fn new(what: &str) -> Self {
        let group = Self {
            name: format!("squall-test-{what}-{}", std::process::id()),
            v2: Path::new(ROOT).join("cgroup.controllers").exists(),
        };
        if group.v2 {
            let all = Path::new(ROOT).join("cgroup.subtree_control");
            std::fs::write(all, "+cpu +memory +pids").unwrap();
        }
        for directory in group.directories() {
            std::fs::create_dir_all(&directory).unwrap();
        }
        // What else this machine does is not what is measured: the group gets its processor when it wants it.
        let (file, most) = if group.v2 {
            ("cpu.weight", "10000")
        } else {
            ("cpu.shares", "262144")
        };
        std::fs::write(group.file("cpu", file), most).unwrap();
        group
    }

    fn directories(&self) -> Vec<PathBuf> {
        if self.v2 {
            vec![Path::new(ROOT).join(&self.name)]
        } else {
            ["cpu", "cpuacct", "memory", "pids"]
                .map(|c| Path::new(ROOT).join(c).join(&self.name))
                .to_vec()
        }
    }

    fn file(&self, controller: &str, name: &str) -> PathBuf {
        let root = Path::new(ROOT);
        let root = if self.v2 {
            root.to_owned()
        } else {
            root.join(controller)
        };
        root.join(&self.name).join(name)
    }

    /// As a file would name it.
    pub(crate) fn path(&self) -> String {
        format!("/{}", self.name)
    }

    pub(crate) fn add(&self, pid: u32) {
        for directory in self.directories() {
            std::fs::write(directory.join("cgroup.procs"), pid.to_string()).unwrap();
        }
    }

    pub(crate) fn quota(&self, cores: f64) {
        const PERIOD_US: f64 = 100_000.0;
        let quota = (PERIOD_US * cores).round();
        if self.v2 {
            std::fs::write(self.file("cpu", "cpu.max"), format!("{quota} {PERIOD_US}")).unwrap();
        } else {
            std::fs::write(self.file("cpu", "cpu.cfs_quota_us"), quota.to_string()).unwrap();
        }
    }

    pub(crate) fn limit(&self, bytes: u64) {
        let name = if self.v2 {
            "memory.max"
        } else {
            "memory.limit_in_bytes"
        };
        std::fs::write(self.file("memory", name), bytes.to_string()).unwrap();
    }

    /// The most processes and threads there may be in it.
    pub(crate) fn limit_pids(&self, most: u64) {
        std::fs::write(self.file("pids", "pids.max"), most.to_string()).unwrap();
    }

    /// Processes and threads in it.
    pub(crate) fn pids(&self) -> u64 {
        let text = std::fs::read_to_string(self.file("pids", "pids.current")).unwrap();
        text.trim().parse().unwrap()
    }

    /// Processor time used in it so far.
    pub(crate) fn cpu(&self) -> Duration {
        if self.v2 {
            let text = std::fs::read_to_string(self.file("cpu", "cpu.stat")).unwrap();
            let line = text
                .lines()
                .find_map(|l| l.strip_prefix("usage_usec "))
                .unwrap();
            Duration::from_micros(line.parse().unwrap())
        } else {
            let text = std::fs::read_to_string(self.file("cpuacct", "cpuacct.usage")).unwrap();
            Duration::from_nanos(text.trim().parse().unwrap())
        }
    }

    /// Bytes charged to it.
    pub(crate) fn memory(&self) -> u64 {
        let name = if self.v2 {
            "memory.current"
        } else {
            "memory.usage_in_bytes"
        };
        let text = std::fs::read_to_string(self.file("memory", name)).unwrap();
        text.trim().parse().unwrap()
    }
}

impl Drop for Group {
    /// Removes it when the last process is out: victims and agents were made later and are dropped before.
    fn drop(&mut self) {
        for directory in self.directories() {
            let begun = Instant::now();
            while std::fs::remove_dir(&directory).is_err() && directory.exists() {
                if begun.elapsed() > Duration::from_secs(5) {
                    eprintln!("{} stays behind", directory.display());
                    break;
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }
}
