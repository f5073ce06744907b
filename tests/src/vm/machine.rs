//! A booted VM, seen from the host: boot, run jobs, be gone.

use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::error::{VmError, io};
use super::image;
use super::kernel::{Kernel, Kmod};
use super::protocol::{Job, PORTS, Word, copy_until};
use super::qemu::{self, Qemu};

/// How long a boot may take until the guest says "ready"; usual are 3 s, and a boot hangs now and
/// then under emulation. Nothing has run by then, so trying again is safe.
const READY_LIMIT: Duration = Duration::from_secs(60);

/// How often a boot is tried. Two in a row that hang were never seen; three say something is wrong.
const BOOT_ATTEMPTS: u32 = 3;

/// How much of a dead VM's console is shown.
const CONSOLE_SHOWN_BYTES: usize = 6000;

/// How long an idle wait lasts before the state of things is looked at again.
const GLANCE: Duration = Duration::from_millis(20);

/// What to boot.
#[derive(Clone, Debug, Default)]
pub struct Boot {
    /// Which of Debian's kernels.
    pub kernel: Kernel,
    /// Programs and files that shall lie in the VM where they lie here.
    pub files: Vec<PathBuf>,
}

/// A running VM. Dropping it ends it.
#[derive(Debug)]
pub struct Machine {
    qemu: Child,
    control: UnixStream,
    words: mpsc::Receiver<Word>,
    outputs: [UnixStream; 2],
    scratch: TempDir,
}

impl Machine {
    /// Boots, as often as it takes to hear the guest say "ready" (at most [`BOOT_ATTEMPTS`] times).
    /// The calling program's own binary becomes the guest's process 1: its `main` must begin with
    /// [`super::guest::main_if_init`].
    ///
    /// # Errors
    /// When a kernel, QEMU or the file system cannot be prepared, or no boot succeeds.
    pub fn boot(boot: &Boot) -> Result<Self, VmError> {
        let kmod = Kmod::find()?;
        let kernel = boot.kernel.prepare(&kmod)?;
        let qemu = Qemu::find()?;
        // By this name the binary is still there after a rebuild has replaced its file.
        let init = PathBuf::from(format!("/proc/{}/exe", std::process::id()));
        let shared = scratch()?;
        let initramfs = shared.path().join("initramfs");
        image::write(&initramfs, &kernel, &kmod, &init, &boot.files)?;
        let mut console = String::new();
        for _ in 0..BOOT_ATTEMPTS {
            match Self::attempt(&qemu, &kernel.image, &initramfs)? {
                Ok(machine) => return Ok(machine),
                Err(said) => console = said,
            }
        }
        Err(VmError::Boot {
            attempts: BOOT_ATTEMPTS,
            console,
        })
    }

    /// One boot; the inner error is what its console said.
    fn attempt(
        qemu: &Qemu,
        kernel: &Path,
        initramfs: &Path,
    ) -> Result<Result<Self, String>, VmError> {
        let scratch = scratch()?;
        let mut listeners = Vec::new();
        for port in PORTS {
            let path = qemu::socket(scratch.path(), port);
            listeners.push(UnixListener::bind(&path).map_err(io("listen at", &path))?);
        }
        let mut command = qemu.command(kernel, initramfs, scratch.path());
        let log = scratch.path().join("qemu");
        let complaints = fs::File::create(&log).map_err(io("create", &log))?;
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(complaints);
        let mut child = command
            .spawn()
            .map_err(io("start", Path::new(command.get_program())))?;
        let limit = Instant::now() + READY_LIMIT;
        let Some([control, stdout, stderr]) = accept_all(&listeners, &mut child, limit)? else {
            return Ok(Err(end(&mut child, scratch.path())));
        };
        let words = listen(control.try_clone().map_err(io("clone", scratch.path()))?);
        while Instant::now() < limit && matches!(child.try_wait(), Ok(None)) {
            match words.recv_timeout(GLANCE) {
                Ok(Word::Ready) => {
                    let outputs = [stdout, stderr];
                    return Ok(Ok(Self {
                        qemu: child,
                        control,
                        words,
                        outputs,
                        scratch,
                    }));
                }
                Ok(Word::Exited(_)) | Err(mpsc::RecvTimeoutError::Disconnected) => break,
                Err(mpsc::RecvTimeoutError::Timeout) => {}
            }
        }
        Ok(Err(end(&mut child, scratch.path())))
    }

    /// Runs `job` in the guest, passing on its output as it comes, and returns its exit code
    /// (128 + the signal's number where a signal ended it). All that the job left running is killed.
    ///
    /// # Errors
    /// When the VM dies or the job outlives `limit`; the VM is ended then and no more jobs run in it.
    pub fn run(
        &mut self,
        job: &Job,
        stdout: impl Write + Send,
        stderr: impl Write + Send,
        limit: Duration,
    ) -> Result<i32, VmError> {
        let command = job.argv.join(" ");
        let text = serde_json::to_string(job).map_err(|e| io("encode", &job.folder)(e.into()))?;
        if writeln!(self.control, "{text}").is_err() {
            return Err(self.died(command));
        }
        let mark = job.mark.as_bytes();
        let [out, err] = &self.outputs;
        let (qemu, words) = (&mut self.qemu, &self.words);
        let (code, whole) = thread::scope(|scope| {
            let pumps = [
                scope.spawn(move || copy_until(mark, out, stdout)),
                scope.spawn(move || copy_until(mark, err, stderr)),
            ];
            let code = words.recv_timeout(limit);
            if code.is_err() {
                // Without its process the sockets end, and so do the pumps.
                let _ = qemu.kill();
            }
            let whole = pumps.map(|pump| matches!(pump.join(), Ok(Ok(true)))) == [true, true];
            (code, whole)
        });
        match code {
            Ok(Word::Exited(code)) if whole => Ok(code),
            Err(mpsc::RecvTimeoutError::Timeout) => Err(VmError::TimedOut { command, limit }),
            _ => Err(self.died(command)),
        }
    }

    fn died(&mut self, command: String) -> VmError {
        VmError::Died {
            command,
            console: end(&mut self.qemu, self.scratch.path()),
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        end(&mut self.qemu, self.scratch.path());
    }
}

fn scratch() -> Result<TempDir, VmError> {
    tempfile::Builder::new()
        .prefix("squall-vm-")
        .tempdir()
        .map_err(io("create", &std::env::temp_dir()))
}

/// Ends QEMU and returns the last of what it and its guest's console said.
fn end(qemu: &mut Child, scratch: &Path) -> String {
    // It may be dead already, which is as good.
    let _ = qemu.kill();
    let _ = qemu.wait();
    let said = ["qemu", "console"]
        .map(|name| fs::read(scratch.join(name)).unwrap_or_default())
        .concat();
    let from = said.len().saturating_sub(CONSOLE_SHOWN_BYTES);
    String::from_utf8_lossy(&said[from..]).into_owned()
}

/// QEMU's connections to the ports, in their order; none when it ended or time ran out.
fn accept_all(
    listeners: &[UnixListener],
    qemu: &mut Child,
    limit: Instant,
) -> Result<Option<[UnixStream; 3]>, VmError> {
    let mut streams = Vec::new();
    for listener in listeners {
        let socket = Path::new("a port's socket");
        listener
            .set_nonblocking(true)
            .map_err(io("set up", socket))?;
        loop {
            match listener.accept() {
                Ok((stream, _)) => {
                    stream
                        .set_nonblocking(false)
                        .map_err(io("set up", socket))?;
                    streams.push(stream);
                    break;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(io("accept on", socket)(error)),
            }
            if Instant::now() >= limit || !matches!(qemu.try_wait(), Ok(None)) {
                return Ok(None);
            }
            thread::sleep(GLANCE);
        }
    }
    Ok(<[UnixStream; 3]>::try_from(streams).ok())
}

/// Reads the guest's words on a thread of its own, so that they can be waited for with a limit.
fn listen(control: UnixStream) -> mpsc::Receiver<Word> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(control).lines().map_while(Result::ok) {
            let Ok(word) = serde_json::from_str(&line) else {
                continue;
            };
            if sender.send(word).is_err() {
                return;
            }
        }
    });
    receiver
}
