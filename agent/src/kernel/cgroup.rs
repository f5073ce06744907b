//! Control groups, v1, v2 and both at once (cgroups(7), Documentation/admin-guide/cgroup-v2.rst).
//!
//! A group is held by a descriptor of its directory in each hierarchy: a group that is removed and made again under
//! the same name is another one, and these descriptors then answer ENODEV.

use rustix::fs::{Mode, OFlags};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

/// Which generation the node has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    V1,
    V2,
    /// v1's controllers, and a v2 tree beside them.
    Hybrid,
    /// No cgroup file system is mounted.
    None,
}

impl Version {
    /// As capabilities say it.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::V1 => "v1",
            Self::V2 => "v2",
            Self::Hybrid => "hybrid",
            Self::None => "none",
        }
    }
}

/// One mounted hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hierarchy {
    /// Where it is mounted.
    pub(crate) mount: PathBuf,
    /// Which of its groups is seen there: `/`, but for containers with a part of the tree mounted.
    root: PathBuf,
    /// v1: its controllers, a named one as `name=systemd`. v2: none.
    pub(crate) controllers: Vec<String>,
}

impl Hierarchy {
    /// Whether it is the v2 tree.
    pub(crate) fn is_v2(&self) -> bool {
        self.controllers.is_empty()
    }

    /// The directory of a group, where this mount shows it.
    pub(crate) fn directory(&self, path: &str) -> Option<PathBuf> {
        let inside = Path::new(path).strip_prefix(&self.root).ok()?;
        let plain = |c| matches!(c, std::path::Component::Normal(_));
        inside
            .components()
            .all(plain)
            .then(|| self.mount.join(inside))
    }
}

/// The directory of one group in one hierarchy, held.
#[derive(Debug)]
pub(crate) struct Group {
    /// v1: the hierarchy's controllers; v2: none.
    pub(crate) controllers: Vec<String>,
    /// Its path below the hierarchy's root.
    pub(crate) path: String,
    /// The directory.
    pub(crate) fd: OwnedFd,
}

/// The mounted hierarchies.
///
/// # Errors
/// /proc cannot be read.
pub(crate) fn hierarchies() -> io::Result<Vec<Hierarchy>> {
    Ok(parse_mounts(&std::fs::read_to_string(
        "/proc/self/mountinfo",
    )?))
}

/// proc_pid_mountinfo(5): `ID PARENT DEV ROOT MOUNT OPTIONS [TAGS…] - TYPE SOURCE SUPEROPTIONS`.
fn parse_mounts(text: &str) -> Vec<Hierarchy> {
    let mut found: Vec<Hierarchy> = Vec::new();
    for line in text.lines() {
        let Some((head, tail)) = line.split_once(" - ") else {
            continue;
        };
        let head: Vec<&str> = head.split(' ').collect();
        let tail: Vec<&str> = tail.split(' ').collect();
        let (Some(root), Some(mount), Some(kind)) = (head.get(3), head.get(4), tail.first()) else {
            continue;
        };
        let controllers: Vec<String> = match *kind {
            "cgroup2" => Vec::new(),
            "cgroup" => {
                // What is no mount option is a controller. A hierarchy with none is of no use to us.
                const OPTIONS: [&str; 7] = [
                    "rw",
                    "ro",
                    "xattr",
                    "noprefix",
                    "clone_children",
                    "none",
                    "favordynmods",
                ];
                let words = tail.get(2).copied().unwrap_or("").split(',');
                words
                    .filter(|word| !OPTIONS.contains(word) && !word.starts_with("release_agent="))
                    .map(str::to_owned)
                    .collect()
            }
            _ => continue,
        };
        if *kind == "cgroup" && controllers.is_empty() {
            continue;
        }
        // The same hierarchy mounted twice is one.
        if found.iter().any(|h| h.controllers == controllers) {
            continue;
        }
        found.push(Hierarchy {
            mount: PathBuf::from(mount),
            root: PathBuf::from(root),
            controllers,
        });
    }
    found
}

/// Which generation these hierarchies are.
pub(crate) fn version(hierarchies: &[Hierarchy]) -> Version {
    let v2 = hierarchies.iter().any(Hierarchy::is_v2);
    let v1 = hierarchies
        .iter()
        .any(|h| h.controllers.iter().any(|c| !c.starts_with("name=")));
    match (v1, v2) {
        (true, true) => Version::Hybrid,
        (true, false) => Version::V1,
        (false, true) => Version::V2,
        (false, false) => Version::None,
    }
}

/// The path of a process in each hierarchy: (controllers, path), the v2 tree with no controllers.
///
/// # Errors
/// The process is gone.
pub(crate) fn paths_of(pid: u32) -> io::Result<Vec<(Vec<String>, String)>> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
    // cgroups(7): `ID:CONTROLLERS:PATH`, and `0::PATH` for v2.
    let line = |line: &str| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?);
        let controllers = controllers.split(',').filter(|c| !c.is_empty());
        Some((controllers.map(str::to_owned).collect(), path.to_owned()))
    };
    Ok(text.lines().filter_map(line).collect())
}

/// Takes hold of the groups of a process.
///
/// # Errors
/// It is gone, or a group lies outside what is mounted here.
pub(crate) fn groups_of(pid: u32, hierarchies: &[Hierarchy]) -> io::Result<Vec<Group>> {
    let mut groups = Vec::new();
    for (controllers, path) in paths_of(pid)? {
        let same = |h: &&Hierarchy| h.controllers == controllers;
        let Some(hierarchy) = hierarchies.iter().find(same) else {
            continue;
        };
        let directory = hierarchy.directory(&path).ok_or_else(|| {
            io::Error::other(format!(
                "its cgroup {path} lies outside the cgroup tree that the agent sees; run the agent in the node's \
                 cgroup namespace"
            ))
        })?;
        groups.push(open(controllers, path, &directory)?);
    }
    Ok(groups)
}

/// Takes hold of the group of this path in every hierarchy that has it; empty when none has.
///
/// # Errors
/// A directory that is there cannot be opened.
pub(crate) fn groups_at(path: &str, hierarchies: &[Hierarchy]) -> io::Result<Vec<Group>> {
    let path = format!("/{}", path.trim_matches('/'));
    let mut groups = Vec::new();
    for hierarchy in hierarchies {
        let Some(directory) = hierarchy.directory(&path) else {
            continue;
        };
        match open(hierarchy.controllers.clone(), path.clone(), &directory) {
            Ok(group) => groups.push(group),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(groups)
}

/// Of a target's groups, those whose controllers account processor time and memory, and one more of v1: pressure enters these and stays out
/// of the others (`name=systemd`, `devices`, …), which are about something else. Beside v1's, the v2 tree is such
/// another.
pub(crate) fn that_account(groups: Vec<Group>, more: Option<&str>) -> Vec<Group> {
    const ACCOUNTING: [&str; 4] = ["cpu", "cpuacct", "cpuset", "memory"];
    let accounts = |g: &Group| {
        g.controllers
            .iter()
            .any(|c| ACCOUNTING.contains(&c.as_str()))
    };
    let v1 = groups.iter().any(accounts);
    let wanted = |g: &Group| {
        if v1 {
            accounts(g) || g.controllers.iter().any(|c| Some(c.as_str()) == more)
        } else {
            g.controllers.is_empty()
        }
    };
    groups.into_iter().filter(wanted).collect()
}

fn open(controllers: Vec<String>, path: String, directory: &Path) -> io::Result<Group> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let fd = rustix::fs::open(directory, flags, Mode::empty())?;
    Ok(Group {
        controllers,
        path,
        fd,
    })
}

/// Whether a group of one of these names is somewhere below `path`, and which.
pub(crate) fn below<'a>(
    path: &str,
    hierarchies: &[Hierarchy],
    names: &'a [String],
) -> Option<&'a String> {
    // More than any node has; past so many, nobody waits for an answer.
    const LOOKED_AT_MAX: usize = 20_000;
    let mut looked_at = 0;
    let mut todo: Vec<PathBuf> = hierarchies
        .iter()
        .filter_map(|h| h.directory(path))
        .collect();
    while let Some(directory) = todo.pop() {
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            let name = entry.file_name();
            if let Some(found) = names
                .iter()
                .find(|wanted| name.to_str() == Some(wanted.as_str()))
            {
                return Some(found);
            }
            looked_at += 1;
            if looked_at > LOOKED_AT_MAX {
                return None;
            }
            todo.push(entry.path());
        }
    }
    None
}

/// The path of a systemd unit's group, searched in systemd's own hierarchy (v1) or the v2 tree.
pub(crate) fn unit_path(unit: &str, hierarchies: &[Hierarchy]) -> Option<String> {
    // Slices nest; systemd.slice(5) and user managers stay within six levels.
    const DEPTH_MAX: usize = 8;
    let systemd = |h: &&Hierarchy| h.controllers.iter().any(|c| c == "name=systemd");
    let hierarchy = hierarchies
        .iter()
        .find(systemd)
        .or_else(|| hierarchies.iter().find(|h| h.is_v2()))?;
    let mut level = vec![hierarchy.mount.clone()];
    for _ in 0..DEPTH_MAX {
        let mut below = Vec::new();
        for directory in &level {
            for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
                if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    continue;
                }
                if entry.file_name().to_str() == Some(unit) {
                    let inside = entry.path();
                    let inside = inside.strip_prefix(&hierarchy.mount).ok()?;
                    return Some(hierarchy.root.join(inside).to_str()?.to_owned());
                }
                below.push(entry.path());
            }
        }
        level = below;
    }
    None
}

/// A file of the group, or of its ancestor so many levels up.
pub(crate) fn read(group: impl AsFd, up: usize, file: &str) -> io::Result<String> {
    let name = format!("{}{file}", "../".repeat(up));
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(group, name, flags, Mode::empty())?;
    let mut text = String::new();
    std::fs::File::from(fd).read_to_string(&mut text)?;
    Ok(text)
}

/// Moves this process into the group, all its threads with it.
///
/// # Errors
/// `EBUSY`: a v2 group that has controllers enabled for its children takes no processes. `ENODEV`: it is gone.
pub(crate) fn enter(group: impl AsFd) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(group, "cgroup.procs", flags, Mode::empty())?;
    std::fs::File::from(fd).write_all(b"0")
}

/// The processes in the group itself, as seen from here.
///
/// # Errors
/// `ENODEV`: it is gone; `EOPNOTSUPP`: a threaded v2 group.
pub(crate) fn processes(group: impl AsFd) -> io::Result<Vec<u32>> {
    let text = read(group, 0, "cgroup.procs")?;
    Ok(text.lines().filter_map(|line| line.parse().ok()).collect())
}

/// The pids of a group's processes and of those in the groups below it. A group that is gone has none.
pub(crate) fn processes_below(group: impl AsFd) -> Vec<u32> {
    /// systemd and container runtimes nest half as deep.
    const DEPTH_MAX: usize = 16;
    fn gather(folder: &Path, deeper: usize, found: &mut Vec<u32>) {
        let listed = std::fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
        found.extend(
            listed
                .lines()
                .filter_map(|line| line.trim().parse::<u32>().ok()),
        );
        let Some(deeper) = deeper.checked_sub(1) else {
            return;
        };
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                gather(&entry.path(), deeper, found);
            }
        }
    }
    use std::os::fd::AsRawFd;
    // By our own descriptor: the group that is held, not one that was made anew under its name.
    let own = format!("/proc/self/fd/{}", group.as_fd().as_raw_fd());
    let mut found = Vec::new();
    gather(Path::new(&own), DEPTH_MAX, &mut found);
    found
}

/// Whether there are groups below it; yes when it cannot be told.
pub(crate) fn has_children(group: impl AsFd) -> bool {
    // The link count of a cgroup's directory is two and one for each directory in it, on v1 and v2.
    rustix::fs::fstat(group).map_or(true, |stat| stat.st_nlink > 2)
}

/// How many levels the group is below the hierarchy's root.
pub(crate) fn depth(path: &str) -> usize {
    path.split('/').filter(|part| !part.is_empty()).count()
}

/// The CPU quota in force for the group, in cores: the least of its own and its ancestors'. `None` where there is none.
pub(crate) fn cpu_quota(group: impl AsFd, path: &str, v2: bool) -> Option<f64> {
    let at = |up: usize| {
        if v2 {
            let text = read(&group, up, "cpu.max").ok()?;
            let (quota, period) = text.trim().split_once(' ')?;
            Some(quota.parse::<f64>().ok()? / period.parse::<f64>().ok()?)
        } else {
            let number = |file| read(&group, up, file).ok()?.trim().parse::<f64>().ok();
            let quota = number("cpu.cfs_quota_us")?;
            (quota > 0.0).then_some(quota / number("cpu.cfs_period_us")?)
        }
    };
    (0..=depth(path)).filter_map(at).reduce(f64::min)
}

/// File pages in memory that are charged to the group and those below it, in bytes; what is in a tmpfs is not among them.
pub(crate) fn file_bytes(group: impl AsFd, v2: bool) -> Option<u64> {
    let stat = read(group, 0, "memory.stat").ok()?;
    let of = |key: &str| -> Option<u64> {
        let line = stat.lines().find_map(|line| line.strip_prefix(key))?;
        line.trim().parse().ok()
    };
    let (all, shared) = if v2 {
        (of("file "), of("shmem "))
    } else {
        (of("total_cache "), of("total_shmem "))
    };
    Some(all?.saturating_sub(shared.unwrap_or(0)))
}

/// The memory limit nearest to being reached, among the group's and its ancestors': (limit, room left below it), in
/// bytes. `None` where there is none.
/// Idle page cache counts as room; the kernel is asked for it only where less than `enough` is left without, because
/// summing a group's statistics is what costs here.
pub(crate) fn memory_room(
    group: impl AsFd,
    path: &str,
    v2: bool,
    enough: u64,
) -> Option<MemoryRoom> {
    // v1 writes "none" as the greatest multiple of the page size that fits (memory.rst, "2.1 design").
    const NONE_V1: u64 = 1 << 60;
    let at = |up: usize| {
        let number = |file| read(&group, up, file).ok()?.trim().parse::<u64>().ok();
        let limit = number(if v2 {
            "memory.max"
        } else {
            "memory.limit_in_bytes"
        })?;
        if limit >= NONE_V1 {
            return None;
        }
        let usage = number(if v2 {
            "memory.current"
        } else {
            "memory.usage_in_bytes"
        })?;
        if limit.saturating_sub(usage) >= enough {
            return Some(MemoryRoom {
                limit,
                left: limit - usage,
            });
        }
        // Page cache that nobody has used lately is given back for the asking.
        let stat = read(&group, up, "memory.stat").unwrap_or_default();
        let key = if v2 {
            "inactive_file "
        } else {
            "total_inactive_file "
        };
        let cache = stat
            .lines()
            .find_map(|line| line.strip_prefix(key)?.parse().ok());
        let hard = usage.saturating_sub(cache.unwrap_or(0));
        Some(MemoryRoom {
            limit,
            left: limit.saturating_sub(hard),
        })
    };
    let rooms: Vec<MemoryRoom> = (0..=depth(path)).filter_map(at).collect();
    let limit = rooms.iter().map(|room| room.limit).min()?;
    let left = rooms.iter().map(|room| room.left).min()?;
    Some(MemoryRoom { limit, left })
}

/// The limit of processes and threads nearest to being reached, among the group's and its ancestors': (limit, how many
/// more there may be). `None` where there is none.
pub(crate) fn pids_room(group: impl AsFd, path: &str) -> Option<(u64, u64)> {
    let at = |up: usize| {
        let number = |file| read(&group, up, file).ok()?.trim().parse::<u64>().ok();
        // "max" is no number.
        let limit = number("pids.max")?;
        Some((limit, limit.saturating_sub(number("pids.current")?)))
    };
    (0..=depth(path))
        .filter_map(at)
        .min_by_key(|(_, left)| *left)
}

/// A memory limit and how far it is from being reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MemoryRoom {
    /// Bytes.
    pub(crate) limit: u64,
    /// Bytes that can still be taken, counting idle page cache as free.
    pub(crate) left: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
31 25 0:27 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu,cpuacct
32 25 0:28 / /sys/fs/cgroup/systemd rw,relatime shared:9 - cgroup cgroup rw,xattr,name=systemd
33 25 0:29 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory
34 25 0:30 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw,nsdelegate
35 25 0:30 / /mnt/again rw - cgroup2 cgroup2 rw
36 25 0:31 / /proc rw - proc proc rw
";

    #[test]
    fn mounts_are_read() {
        let found = parse_mounts(HYBRID);
        assert_eq!(found.len(), 4);
        assert_eq!(found[0].controllers, ["cpu", "cpuacct"]);
        assert_eq!(found[1].controllers, ["name=systemd"]);
        assert_eq!(version(&found), Version::Hybrid);
        assert_eq!(version(&found[3..]), Version::V2);
        assert_eq!(version(&found[1..]), Version::Hybrid);
        assert_eq!(version(&found[1..2]), Version::None);
    }

    #[test]
    fn a_path_never_leaves_the_mount() {
        let found = parse_mounts(HYBRID);
        let memory = &found[2];
        assert_eq!(
            memory.directory("/docker/abc/x").unwrap(),
            Path::new("/sys/fs/cgroup/memory/x")
        );
        assert_eq!(memory.directory("/docker/other"), None);
        assert_eq!(memory.directory("/docker/abc/../other"), None);
        assert_eq!(found[0].directory("/../../etc"), None);
    }
}
