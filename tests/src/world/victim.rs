//! Victims: real processes that a fault can be aimed at. They are this very program, started again.
//!
//! A victim lives until its standard input ends, so that none outlives the test that started it, even
//! one that is killed.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::statvfs::statvfs;
use nix::unistd::Pid;

use super::cgroup::Cgroup;
use super::{Result, disk, until};

/// The first argument by which this program knows that it is to be a victim.
const ROLE: &str = "be-a-victim";

/// The first argument by which this program knows that it is to take what it is asked to take.
const TAKER: &str = "be-a-taker";

/// What a taker adds to a question's number when it could not take what was asked for.
const FAILED: u8 = 0x80;

/// Where a taker keeps its file: a folder that is on a disk wherever there is one.
pub const DISK: &str = "/var/tmp";

/// The length of a taker's file.
pub const FILE_BYTES: u64 = 16 << 20;

/// The first argument by which this program knows that it is to become another.
const LAUNCHED: &str = "be-launched";

/// The first argument by which this program knows that it is to take all memory there is.
const GREEDY: &str = "be-a-hog";

/// Call this first in `main` of a program that starts victims.
pub fn main_if_victim() -> Option<ExitCode> {
    let mut args = std::env::args().skip(1);
    match args.next().as_deref() {
        Some(ROLE) => {}
        Some(TAKER) => return Some(take_when_asked()),
        Some(LAUNCHED) => return Some(become_another(args.collect())),
        Some(GREEDY) => return Some(take_all_memory()),
        _ => return None,
    }
    let mut ready = std::io::stdout();
    let said = ready.write_all(b"!").and_then(|()| ready.flush());
    let ended = answer(&mut std::io::stdin(), &mut ready);
    Some(if said.is_ok() && ended.is_ok() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// What a taker can be asked to take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Wanted {
    /// A descriptor, for a moment.
    Descriptor,
    /// A descriptor, to keep.
    KeptDescriptor,
    /// Nothing: the descriptors that it keeps are closed, which it always can.
    NoDescriptor,
    /// Another of its kind, which waits for its end.
    Child,
    /// A thread, for a moment.
    Thread,
    /// A new file in its /tmp, for a moment.
    File,
    /// All of its file in [`DISK`], which it makes when it is asked for the first time, out of memory: it could not where any of it had
    /// to be read from the disk.
    Cached,
}

impl Wanted {
    const ALL: [Self; 7] = [
        Self::Descriptor,
        Self::KeptDescriptor,
        Self::NoDescriptor,
        Self::Child,
        Self::Thread,
        Self::File,
        Self::Cached,
    ];
}

/// What a taker has taken to keep.
#[derive(Default)]
struct Taken {
    children: Vec<Child>,
    descriptors: Vec<File>,
    file: Option<File>,
}

impl Taken {
    /// Takes what is asked for; whether it could.
    fn take(&mut self, wanted: u8) -> bool {
        match Wanted::ALL.into_iter().find(|what| *what as u8 == wanted) {
            Some(Wanted::Descriptor) => File::open("/dev/null").is_ok(),
            Some(Wanted::KeptDescriptor) => {
                let opened = File::open("/dev/null");
                opened.map(|file| self.descriptors.push(file)).is_ok()
            }
            Some(Wanted::NoDescriptor) => {
                self.descriptors.clear();
                true
            }
            Some(Wanted::Child) => {
                let other = Command::new("/proc/self/exe")
                    .arg(TAKER)
                    .stdin(Stdio::piped())
                    .stdout(Stdio::null())
                    .spawn();
                other.map(|child| self.children.push(child)).is_ok()
            }
            Some(Wanted::Thread) => {
                let started = std::thread::Builder::new().spawn(|| ());
                started.is_ok_and(|thread| thread.join().is_ok())
            }
            Some(Wanted::File) => tempfile::NamedTempFile::new_in("/tmp").is_ok(),
            Some(Wanted::Cached) => self.read_from_memory().unwrap_or(false),
            None => false,
        }
    }

    fn read_from_memory(&mut self) -> Result<bool> {
        let mut chunk = vec![1; 64 << 10];
        let each = (0..FILE_BYTES).step_by(chunk.len());
        let Some(file) = &self.file else {
            let mut file = tempfile::tempfile_in(DISK)?;
            for _ in each {
                file.write_all(&chunk)?;
            }
            // What has not reached the disk could not go from memory.
            file.sync_all()?;
            self.file = Some(file);
            return Ok(true);
        };
        let before = read_from_disk()?;
        for at in each {
            file.read_exact_at(&mut chunk, at)?;
        }
        Ok(read_from_disk()? == before)
    }
}

/// Bytes that were read from a disk for this process (proc_pid_io(5)).
fn read_from_disk() -> Result<u64> {
    let text = std::fs::read_to_string("/proc/self/io")?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("read_bytes: "));
    Ok(line.ok_or("/proc/self/io names no read_bytes")?.parse()?)
}

/// Takes what it is asked to take, and says whether it could. A question is what is wanted, and a number that comes back.
fn take_when_asked() -> ExitCode {
    let (mut asked, mut answers) = (std::io::stdin(), std::io::stdout());
    let mut say = |byte: u8| answers.write_all(&[byte]).and_then(|()| answers.flush());
    let mut taken = Taken::default();
    let (mut question, mut said) = ([0; 2], say(b'!'));
    while said.is_ok() && asked.read_exact(&mut question).is_ok() {
        let [wanted, number] = question;
        said = say(if taken.take(wanted) {
            number
        } else {
            number | FAILED
        });
    }
    // Each child ends with its standard input, which ends with this process.
    drop(taken);
    ExitCode::SUCCESS
}

/// Waits for a word, and becomes the program that is named.
fn become_another(command: Vec<String>) -> ExitCode {
    let told = std::io::stdin().read_exact(&mut [0; 1]);
    if let (Ok(()), Some((program, args))) = (told, command.split_first()) {
        // Returns only where it failed.
        let _ = Command::new(program).args(args).exec();
    }
    ExitCode::FAILURE
}

/// Waits for a word, and takes memory until it is killed.
fn take_all_memory() -> ExitCode {
    const PIECE_BYTES: usize = 1 << 20;
    let mut taken: Vec<Vec<u8>> = Vec::new();
    let told = std::io::stdin().read_exact(&mut [0; 1]);
    while told.is_ok() {
        // Written to, or it would be no more than a promise.
        taken.push(vec![1; PIECE_BYTES]);
        std::thread::sleep(Duration::from_millis(1));
    }
    ExitCode::FAILURE
}

/// A program that takes all memory of its cgroup once it is told to.
#[derive(Debug)]
pub struct Hog(Child);

impl Hog {
    /// Starts one in `group`, which takes nothing yet.
    ///
    /// # Errors
    /// Without root.
    pub fn start(group: &Cgroup) -> Result<Self> {
        let child = Command::new("/proc/self/exe")
            .arg(GREEDY)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let hog = Self(child);
        group.adopt(hog.0.id())?;
        Ok(hog)
    }

    /// Has the kernel kill `pid` before this one (proc(5), `oom_score_adj`: 1000 is always chosen; less than before takes a capability
    /// that a container lacks, so that it cannot be said the other way round).
    ///
    /// # Errors
    /// When `pid` has ended.
    pub fn comes_after(&self, pid: u32) -> Result<()> {
        Ok(std::fs::write(
            format!("/proc/{pid}/oom_score_adj"),
            "1000",
        )?)
    }

    /// Lets it take what there is.
    ///
    /// # Errors
    /// When it has ended.
    pub fn feed(&mut self) -> Result<()> {
        let stdin = self.0.stdin.as_mut().ok_or("the hog has no ears")?;
        Ok(stdin.write_all(b"!")?)
    }
}

impl Drop for Hog {
    fn drop(&mut self) {
        // Dead already is as good.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts a program that is in `group` from its first instruction: what it touches is charged there, and so is what it starts.
///
/// # Errors
/// When it cannot be started or moved.
pub fn launch(group: &Cgroup, program: &Path, args: &[&str]) -> Result<Child> {
    let mut child = Command::new("/proc/self/exe")
        .arg(LAUNCHED)
        .arg(program)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()?;
    group.adopt(child.id())?;
    if let Some(stdin) = child.stdin.as_mut() {
        stdin.write_all(b"!")?;
    }
    Ok(child)
}

/// Answers each byte with itself until there are no more: how a process shows that it runs.
fn answer(asked: &mut impl Read, answers: &mut impl Write) -> std::io::Result<()> {
    let mut byte = [0; 1];
    while asked.read(&mut byte)? > 0 {
        answers.write_all(&byte)?;
        answers.flush()?;
    }
    Ok(())
}

/// A victim that waits to be hit.
#[derive(Debug)]
pub struct Victim {
    child: Child,
    /// The last question it was asked.
    asked: u8,
}

impl Victim {
    /// Starts one whose command line contains `tag`, so that it can be selected by it. It is in the
    /// network namespace of the calling thread.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(tag: &str) -> Result<Self> {
        Self::start_with(tag, Stdio::null())
    }

    /// The same, with a descriptor of its own: a socket that it has open is its as well as the caller's.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_with(tag: &str, open: impl Into<Stdio>) -> Result<Self> {
        Self::start_as(ROLE, tag, open, None)
    }

    /// Starts one that takes what it is asked to take ([`Self::takes`]).
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_taker(tag: &str) -> Result<Self> {
        Self::start_as(TAKER, tag, Stdio::null(), None)
    }

    /// The same, as another user.
    ///
    /// # Errors
    /// When it cannot be started; without root.
    pub fn start_taker_of(tag: &str, user: u32) -> Result<Self> {
        Self::start_as(TAKER, tag, Stdio::null(), Some(user))
    }

    /// The same, with a file system in memory of its own at /tmp, of so many bytes.
    ///
    /// # Errors
    /// Without root.
    pub fn start_taker_on_disk(tag: &str, bytes: u64) -> Result<Self> {
        disk::apart(|| {
            disk::in_memory("/tmp", bytes)?;
            Self::start_taker(tag)
        })
    }

    fn start_as(role: &str, tag: &str, open: impl Into<Stdio>, user: Option<u32>) -> Result<Self> {
        let mut command = Command::new("/proc/self/exe");
        if let Some(user) = user {
            command.uid(user);
        }
        let mut child = command
            .args([role, tag])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(open)
            .spawn()
            .map_err(|error| format!("cannot start a victim: {error}"))?;
        let mut ready = [0; 1];
        if let Some(stdout) = child.stdout.as_mut() {
            stdout.read_exact(&mut ready)?;
        }
        Ok(Self { child, asked: 0 })
    }

    /// Starts one that has a file system in memory of its own at /tmp, of so many bytes.
    ///
    /// # Errors
    /// Without root.
    pub fn start_on_disk(tag: &str, bytes: u64) -> Result<Self> {
        disk::apart(|| {
            disk::in_memory("/tmp", bytes)?;
            Self::start(tag)
        })
    }

    /// Bytes free on its file system at this path.
    ///
    /// # Errors
    /// When it has ended.
    pub fn room(&self, path: &str) -> Result<u64> {
        let all = statvfs(format!("/proc/{}/root{path}", self.pid()).as_str())?;
        Ok(all.blocks_available() * all.fragment_size())
    }

    /// Asks it for a sign of life; returns how long that took. Late answers to earlier questions are passed over.
    ///
    /// # Errors
    /// When it does not answer within `patience`, or has ended.
    pub fn ask(&mut self, patience: Duration) -> Result<Duration> {
        let begun = Instant::now();
        self.asked = self.asked.wrapping_add(1);
        let (Some(stdin), Some(stdout)) = (&mut self.child.stdin, &mut self.child.stdout) else {
            return Err("the victim has no ears".into());
        };
        stdin.write_all(&[self.asked])?;
        let mut answer = [0; 1];
        while answer[0] != self.asked {
            let mut fds = [PollFd::new(stdout.as_fd(), PollFlags::POLLIN)];
            let limit = PollTimeout::try_from(patience.saturating_sub(begun.elapsed()))?;
            if poll(&mut fds, limit)? == 0 {
                return Err(format!("the victim did not answer within {patience:?}").into());
            }
            stdout.read_exact(&mut answer)?;
        }
        Ok(begun.elapsed())
    }

    /// Asks a taker to take something; whether it could.
    ///
    /// # Errors
    /// When it does not answer within `patience`, or has ended.
    pub fn takes(&mut self, wanted: Wanted, patience: Duration) -> Result<bool> {
        self.asked = self.asked % (FAILED - 1) + 1;
        let number = self.asked;
        let (Some(stdin), Some(stdout)) = (&mut self.child.stdin, &mut self.child.stdout) else {
            return Err("the victim has no ears".into());
        };
        stdin.write_all(&[wanted as u8, number])?;
        let mut fds = [PollFd::new(stdout.as_fd(), PollFlags::POLLIN)];
        if poll(&mut fds, PollTimeout::try_from(patience)?)? == 0 {
            return Err(format!("the victim did not answer within {patience:?}").into());
        }
        let mut answer = [0; 1];
        stdout.read_exact(&mut answer)?;
        match answer[0] {
            answer if answer == number => Ok(true),
            answer if answer == number | FAILED => Ok(false),
            other => Err(format!("the victim was asked {number} and answered {other}").into()),
        }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it still runs; a dead one is reaped by this.
    pub fn lives(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Ends it in the hardest way and waits until it is gone.
    ///
    /// # Errors
    /// When it does not go within five seconds.
    pub fn kill(&mut self) -> Result<()> {
        self.kill_within(Duration::from_secs(5))
    }

    /// The same, with another limit. Of the end of a process that is traced the kernel tells its parent only after its tracer, which may be
    /// stopped itself (ptrace(2), "Death under ptrace").
    ///
    /// # Errors
    /// When it does not go within `limit`.
    pub fn kill_within(&mut self, limit: Duration) -> Result<()> {
        self.child.kill()?;
        until("the victim's end", limit, || (!self.lives()).then_some(()))
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        // Dead already is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The limit of open files of a process (proc_pid_limits(5)), as the kernel tells it: soft and hard.
///
/// # Errors
/// When it has ended.
pub fn open_files(pid: u32) -> Result<String> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/limits"))?;
    let line = text.lines().find(|line| line.starts_with("Max open files"));
    let words = line.ok_or("no such limit")?.split_ascii_whitespace();
    Ok(words.skip(3).take(2).collect::<Vec<_>>().join(" "))
}

/// Sends `signal` to the process `pid`.
///
/// # Errors
/// When it is gone or not ours to signal.
pub fn signal(pid: u32, signal: Signal) -> Result<()> {
    let number = i32::try_from(pid)?;
    kill(Pid::from_raw(number), signal)
        .map_err(|e| format!("cannot send {signal} to process {pid}: {e}").into())
}
