//! A cgroup of one's own, on either version of the hierarchy, with a limit and what is used in it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::Signal;

use super::{Result, shout, until};

/// Where the hierarchies are mounted.
const ROOT: &str = "/sys/fs/cgroup";

/// The v1 hierarchies the lab uses: its controllers', and the one in which systemd keeps its units; v2 has one for all.
const V1_HIERARCHIES: [&str; 5] = ["cpu", "cpuacct", "memory", "freezer", "systemd"];

/// The one that counts processes, which not every kernel has ([`counts_processes`]).
const PIDS: &str = "pids";

/// The period of a CPU quota in microseconds: the kernel's default.
const PERIOD_US: u32 = 100_000;

/// How long it may take until a group's processes are killed one by one.
const KILL_LIMIT: Duration = Duration::from_secs(2);

/// Whether a cgroup here can have a limit of processes: the pids controller is an option of the kernel's (`CONFIG_CGROUP_PIDS`).
pub fn counts_processes() -> bool {
    let root = Path::new(ROOT);
    match fs::read_to_string(root.join("cgroup.controllers")) {
        Ok(known) => known.split_ascii_whitespace().any(|name| name == PIDS),
        Err(_) => root.join(PIDS).join("cgroup.procs").exists(),
    }
}

/// A cgroup that is removed when this guard is dropped.
#[derive(Debug)]
pub struct Cgroup {
    path: String,
    folders: Vec<PathBuf>,
    unified: bool,
}

impl Cgroup {
    /// Makes `/name` in every hierarchy the lab uses.
    ///
    /// # Errors
    /// Without root, or where no controllers are mounted.
    pub fn create(name: &str) -> Result<Self> {
        let unified = Path::new(ROOT).join("cgroup.controllers").exists();
        let parents: Vec<PathBuf> = if unified {
            vec![ROOT.into()]
        } else {
            let pids = counts_processes().then_some(PIDS);
            V1_HIERARCHIES
                .into_iter()
                .chain(pids)
                .map(|hierarchy| Path::new(ROOT).join(hierarchy))
                .collect()
        };
        let mut cgroup = Self {
            path: format!("/{name}"),
            folders: Vec::new(),
            unified,
        };
        for parent in parents {
            let folder = parent.join(name);
            // cpu and cpuacct may be one and the same folder.
            if !folder.exists() {
                fs::create_dir(&folder)
                    .map_err(|e| format!("cannot create {}: {e}", folder.display()))?;
            }
            cgroup.folders.push(folder);
        }
        cgroup.favour()?;
        Ok(cgroup)
    }

    /// Thaws it, whoever froze it: what is frozen on v1 cannot even be killed, and a test would wait for ever.
    pub fn thaw(&self) {
        for (file, word) in [("cgroup.freeze", "0"), ("freezer.state", "THAWED")] {
            // One of them is there.
            let _ = self.write(file, word);
        }
    }

    /// Makes one below this one, which has no controllers of v2 of its own.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn below(&self, name: &str) -> Result<Self> {
        let mut cgroup = Self {
            path: format!("{}/{name}", self.path),
            folders: Vec::new(),
            unified: self.unified,
        };
        for parent in &self.folders {
            let folder = parent.join(name);
            fs::create_dir(&folder)
                .map_err(|e| format!("cannot create {}: {e}", folder.display()))?;
            cgroup.folders.push(folder);
        }
        Ok(cgroup)
    }

    /// What else this machine does is not what is measured: the group gets its processor when it wants it (most weight:
    /// cpu.weight of cgroup-v2.rst, cpu.shares of sched-design-CFS.rst).
    fn favour(&self) -> Result<()> {
        if self.unified {
            return self.write("cpu.weight", "10000");
        }
        self.write("cpu.shares", "262144")
    }

    /// Its path below the hierarchy's root, as an experiment file names it.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Moves a process in.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn adopt(&self, pid: u32) -> Result<()> {
        for folder in &self.folders {
            let file = folder.join("cgroup.procs");
            fs::write(&file, pid.to_string())
                .map_err(|e| format!("cannot move {pid} to {}: {e}", file.display()))?;
        }
        Ok(())
    }

    /// Limits the processor to `percent` of a core.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn limit_cpu(&self, percent: u32) -> Result<()> {
        let quota = PERIOD_US / 100 * percent;
        if self.unified {
            return self.write("cpu.max", &format!("{quota} {PERIOD_US}"));
        }
        self.write("cpu.cfs_quota_us", &quota.to_string())
    }

    /// Limits the memory.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn limit_memory(&self, bytes: u64) -> Result<()> {
        let file = if self.unified {
            "memory.max"
        } else {
            "memory.limit_in_bytes"
        };
        self.write(file, &bytes.to_string())
    }

    /// Limits how many processes and threads there may be in it.
    ///
    /// # Errors
    /// When the kernel refuses, or has no such limit ([`counts_processes`]).
    pub fn limit_processes(&self, most: u64) -> Result<()> {
        self.write("pids.max", &most.to_string())
    }

    /// How many processes and threads are in it.
    ///
    /// # Errors
    /// When the kernel's account cannot be read.
    pub fn processes_and_threads(&self) -> Result<u64> {
        Ok(self.read("pids.current")?.trim().parse()?)
    }

    /// Slows down whoever takes more than `bytes`: real memory pressure (memory.high of cgroup-v2.rst). v2 alone has it.
    ///
    /// # Errors
    /// On v1, and when the kernel refuses.
    pub fn throttle_memory(&self, bytes: u64) -> Result<()> {
        self.write("memory.high", &bytes.to_string())
    }

    /// Whether it is a cgroup of v2.
    pub fn is_unified(&self) -> bool {
        self.unified
    }

    /// Processor time used in it so far.
    ///
    /// # Errors
    /// When the kernel's account cannot be read.
    pub fn cpu_used(&self) -> Result<Duration> {
        if !self.unified {
            return Ok(Duration::from_nanos(
                self.read("cpuacct.usage")?.trim().parse()?,
            ));
        }
        let stat = self.read("cpu.stat")?;
        let line = stat
            .lines()
            .find_map(|line| line.strip_prefix("usage_usec "));
        Ok(Duration::from_micros(
            line.ok_or("cpu.stat names no usage")?.parse()?,
        ))
    }

    /// Anonymous memory resident in it, in bytes: the page cache is the kernel's own business.
    ///
    /// # Errors
    /// When the kernel's account cannot be read.
    pub fn memory_used(&self) -> Result<u64> {
        let name = if self.unified { "anon " } else { "rss " };
        let stat = self.read("memory.stat")?;
        let line = stat.lines().find_map(|line| line.strip_prefix(name));
        Ok(line
            .ok_or("memory.stat names no anonymous memory")?
            .parse()?)
    }

    /// All memory charged to it now, in bytes, with the page cache that is first touched in it.
    ///
    /// # Errors
    /// When the kernel's account cannot be read.
    pub fn memory_charged(&self) -> Result<u64> {
        let file = if self.unified {
            "memory.current"
        } else {
            "memory.usage_in_bytes"
        };
        Ok(self.read(file)?.trim().parse()?)
    }

    /// How often the kernel has killed a process of it for want of memory.
    ///
    /// # Errors
    /// When the kernel's account cannot be read.
    pub fn oom_kills(&self) -> Result<u64> {
        let file = if self.unified {
            "memory.events"
        } else {
            "memory.oom_control"
        };
        let text = self.read(file)?;
        let line = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        Ok(line.ok_or("no count of OOM kills")?.parse()?)
    }

    /// Kills all that is in it: at one stroke where the kernel can (cgroup.kill of cgroup-v2.rst, since Linux 5.14), and else each
    /// process by itself until none is left.
    ///
    /// # Errors
    /// When the kernel refuses, or processes come faster than they are killed.
    pub fn kill(&self) -> Result<()> {
        if self.unified {
            return self.write("cgroup.kill", "1");
        }
        until("an end of the cgroup's processes", KILL_LIMIT, || {
            let left = self.processes();
            for pid in &left {
                // Gone already is as good.
                let _ = super::victim::signal(*pid, Signal::SIGKILL);
            }
            left.is_empty().then_some(())
        })
    }

    /// The processes in it.
    pub fn processes(&self) -> Vec<u32> {
        let listed = self.read("cgroup.procs").unwrap_or_default();
        listed
            .lines()
            .filter_map(|line| line.parse().ok())
            .collect()
    }

    fn file(&self, name: &str) -> Result<PathBuf> {
        let found = self
            .folders
            .iter()
            .map(|folder| folder.join(name))
            .find(|file| file.exists());
        found.ok_or_else(|| format!("cgroup {} has no {name}", self.path).into())
    }

    fn read(&self, name: &str) -> Result<String> {
        Ok(fs::read_to_string(self.file(name)?)?)
    }

    fn write(&self, name: &str, value: &str) -> Result<()> {
        let file = self.file(name)?;
        fs::write(&file, value)
            .map_err(|e| format!("cannot write {value} to {}: {e}", file.display()).into())
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        for folder in &self.folders {
            // A process that has just died is counted for a moment longer.
            let gone = until("an empty cgroup", Duration::from_secs(2), || {
                (fs::remove_dir(folder).is_ok() || !folder.exists()).then_some(())
            });
            if gone.is_err() {
                shout(&format!("cgroup {}", folder.display()));
            }
        }
    }
}
