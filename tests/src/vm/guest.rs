//! Process 1 inside the VM: mounts what Linux programs expect, says "ready", runs the host's jobs one
//! after the other and leaves nothing of a job behind when it reports its end.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::protocol::{Job, PORTS, Word};

/// What is mounted, in this order: file system, place, options.
const MOUNTS: [(&str, &str, &str); 9] = [
    ("proc", "/proc", ""),
    ("sysfs", "/sys", ""),
    ("devtmpfs", "/dev", ""),
    ("devpts", "/dev/pts", "ptmxmode=666"),
    ("tmpfs", "/dev/shm", ""),
    ("tmpfs", "/run", "mode=755"),
    // As systemd mounts it.
    ("cgroup2", "/sys/fs/cgroup", "nsdelegate"),
    ("bpf", "/sys/fs/bpf", ""),
    ("tracefs", "/sys/kernel/tracing", ""),
];

/// Drivers the ports hang on, loaded before anything can be said.
const DRIVERS: [&str; 3] = ["virtio_pci", "virtio_console", "virtio_rng"];

/// Commands that finish the system, run in order once the file systems are there.
const SET_UP: [&[&str]; 2] = [&["ip", "link", "set", "lo", "up"], &["nft", HOOKS]];

/// A chain that does nothing at every hook that faults use. The first chain at a hook, and the last, make the kernel write over its
/// own running code (a static key: Documentation/staging/static-keys.rst); an emulated processor that runs that very
/// instruction on another thread can keep the breakpoint it saw there for ever ("soft lockup" in `__netif_receive_skb_core`, about
/// once in a thousand faults). With these the code is written once. [`keep_a_group`] does the same for cgroups.
const HOOKS: &str = "add table netdev lab; \
    add chain netdev lab in { type filter hook ingress device lo priority 0; }; \
    add chain netdev lab out { type filter hook egress device lo priority 0; }; \
    add table inet lab; \
    add chain inet lab prerouting { type filter hook prerouting priority 0; }; \
    add chain inet lab input { type filter hook input priority 0; }; \
    add chain inet lab forward { type filter hook forward priority 0; }; \
    add chain inet lab output { type filter hook output priority 0; }; \
    add chain inet lab postrouting { type filter hook postrouting priority 0; }";

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How long the ports may take to appear after their driver; the host gives up on a boot after that.
const PORTS_LIMIT: Duration = Duration::from_secs(50);

/// Call this first in `main` of every program that boots VMs: where the program finds itself to be
/// process 1 of one, it serves as its init and never returns.
pub fn main_if_init() {
    if std::process::id() == 1 && Path::new("/init").exists() {
        let Err(error) = serve();
        // Standard error is the console here, which the host shows when a VM dies; the kernel panics
        // when its first process ends, and QEMU ends with it (panic=-1, -no-reboot).
        let _ = writeln!(io::stderr(), "squall-vm init: {error}");
        std::process::exit(1);
    }
}

fn serve() -> io::Result<std::convert::Infallible> {
    leave_the_first_root()?;
    for (kind, place, options) in MOUNTS {
        fs::create_dir_all(place)?;
        mount(
            Some(kind),
            place,
            Some(kind),
            MsFlags::empty(),
            Some(options),
        )
        .map_err(|errno| io::Error::other(format!("cannot mount {kind} at {place}: {errno}")))?;
    }
    run_quietly("modprobe", &[&["-a"], &DRIVERS[..]].concat());
    let [control, stdout, stderr] = ports()?;
    give_every_controller("/sys/fs/cgroup")?;
    keep_a_group("/sys/fs/cgroup/lab")?;
    nix::unistd::sethostname("vm")?;
    for command in SET_UP {
        run_quietly(command[0], &command[1..]);
    }
    say(&control, Word::Ready)?;
    for line in BufReader::new(&control).lines() {
        let job: Job = serde_json::from_str(&line?)?;
        let code = run(&job, &stdout, &stderr).unwrap_or_else(|error| {
            let _ = writeln!(&stderr, "cannot run {}: {error}", job.argv.join(" "));
            127
        });
        end_of_job()?;
        (&stdout).write_all(job.mark.as_bytes())?;
        (&stderr).write_all(job.mark.as_bytes())?;
        say(&control, Word::Exited(code))?;
    }
    Err(io::Error::other("the host hung up"))
}

/// Puts the file system that the kernel unpacked over itself: pivot_root(2), by which containers get their root, refuses the very
/// first one.
fn leave_the_first_root() -> io::Result<()> {
    let none = None::<&str>;
    mount(Some("/"), "/mnt", none, MsFlags::MS_BIND, none)?;
    nix::unistd::chdir("/mnt")?;
    mount(Some("."), "/", none, MsFlags::MS_MOVE, none)?;
    nix::unistd::chroot(".")?;
    Ok(nix::unistd::chdir("/")?)
}

/// A helper that is not there is not worth a dead VM: what needed its work will say so.
fn run_quietly(program: &str, args: &[&str]) {
    let _ = Command::new(program)
        .args(args)
        .env("PATH", PATH)
        .stdin(Stdio::null())
        .status();
}

/// Makes all of cgroup v2 usable one level down, as systemd would.
fn give_every_controller(root: &str) -> io::Result<()> {
    for controller in fs::read_to_string(format!("{root}/cgroup.controllers"))?.split_whitespace() {
        fs::write(
            format!("{root}/cgroup.subtree_control"),
            format!("+{controller}"),
        )?;
    }
    Ok(())
}

/// A group with a limit of its own, for as long as the VM lives: the first group and the last one switch the keys of memory accounting,
/// socket accounting and cpusets, the first limit of processor time and the last one that of bandwidth (`mem_cgroup_css_alloc` in
/// mm/memcontrol.c, `cpuset_css_online`, `cfs_bandwidth_usage_inc`), which hangs emulated processors as [`HOOKS`] says.
fn keep_a_group(path: &str) -> io::Result<()> {
    fs::create_dir_all(path)?;
    fs::write(format!("{path}/cpu.max"), "50000 100000")
}

/// The three ports, found by name: without udev there are no links in /dev.
fn ports() -> io::Result<[File; 3]> {
    let limit = Instant::now() + PORTS_LIMIT;
    while Instant::now() < limit {
        let found: Option<Vec<PathBuf>> = PORTS.iter().map(|name| port(name)).collect();
        if let Some(devices) = found {
            let open = |device: &PathBuf| OpenOptions::new().read(true).write(true).open(device);
            let files = devices
                .iter()
                .map(open)
                .collect::<io::Result<Vec<File>>>()?;
            if let Ok(files) = <[File; 3]>::try_from(files) {
                return Ok(files);
            }
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Err(io::Error::other("the host's ports did not appear"))
}

fn port(wanted: &str) -> Option<PathBuf> {
    let devices = fs::read_dir("/sys/class/virtio-ports").ok()?.flatten();
    let mut named = devices.filter(|device| {
        fs::read_to_string(device.path().join("name")).is_ok_and(|name| name.trim() == wanted)
    });
    named
        .next()
        .map(|device| Path::new("/dev").join(device.file_name()))
        .filter(|path| path.exists())
}

fn say(mut control: &File, word: Word) -> io::Result<()> {
    let mut line = serde_json::to_string(&word)?;
    line.push('\n');
    control.write_all(line.as_bytes())
}

fn run(job: &Job, stdout: &File, stderr: &File) -> io::Result<i32> {
    fs::create_dir_all(&job.folder)?;
    let program = job
        .argv
        .first()
        .ok_or_else(|| io::Error::other("empty command"))?;
    let child = Command::new(program)
        .args(&job.argv[1..])
        .env_clear()
        .envs(&job.env)
        .env("PATH", PATH)
        .env("HOME", "/root")
        .current_dir(&job.folder)
        .stdin(Stdio::null())
        .stdout(stdout.try_clone()?)
        .stderr(stderr.try_clone()?)
        .spawn()?;
    let pid = i32::try_from(child.id()).map_err(io::Error::other)?;
    // Orphans of the job become ours; they are reaped along the way.
    loop {
        match waitpid(None, None) {
            Ok(WaitStatus::Exited(ended, code)) if ended.as_raw() == pid => return Ok(code),
            Ok(WaitStatus::Signaled(ended, signal, _)) if ended.as_raw() == pid => {
                return Ok(128
                    + ExitStatus::from_raw(signal as i32)
                        .signal()
                        .unwrap_or_default());
            }
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Kills and reaps whatever the job left behind, so that no late output reaches the next job.
fn end_of_job() -> io::Result<()> {
    match kill(Pid::from_raw(-1), Signal::SIGKILL) {
        Ok(()) | Err(Errno::ESRCH) => {}
        Err(errno) => return Err(errno.into()),
    }
    loop {
        match waitpid(None, Some(WaitPidFlag::empty())) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(Errno::ECHILD) => return Ok(()),
            Err(errno) => return Err(errno.into()),
        }
    }
}
