//! Namespaces of the demo's own, so that nothing of the machine is touched and nothing can be left behind.

use super::{DemoError, Options, play};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getegid, geteuid};
use std::fs;
use std::io;
use std::path::PathBuf;
use std::process::{ExitCode, Stdio};
use tokio::io::AsyncReadExt as _;
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};

/// This very program, also when its file was replaced meanwhile by a new build.
pub(super) const SELF: &str = "/proc/self/exe";

/// Makes the namespaces, starts the first process in them and waits for it, handing signals on.
pub(super) fn enter(options: &Options) -> Result<ExitCode, DemoError> {
    // Made before anything is unshared, with the caller's own rights.
    let reports = reports_folder(options)?;
    own_namespaces()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(DemoError::io(
            "starting the runtime that waits for the demo",
        ))?;
    runtime.block_on(async {
        let mut play = Command::new(SELF);
        play.arg0("squall")
            .args(["demo-service", "play"])
            .arg(&reports)
            // Its end of file says that this process is gone.
            .stdin(Stdio::piped())
            // A group of its own: Ctrl-C comes to this process alone, which hands it on, once.
            .process_group(0)
            .kill_on_drop(true);
        let mut play = play
            .spawn()
            .map_err(DemoError::io("starting the demo's first process"))?;
        // Waiting for a child closes its standard input, unless somebody else holds it.
        let _input = play.stdin.take();
        let code = attend(&mut play).await?;
        // Without a code a signal ended it, which nobody but a person sends.
        Ok(ExitCode::from(code.unwrap_or(5)))
    })
}

/// The folder for the reports: the one asked for, else one in the current folder, else one for temporary files.
fn reports_folder(options: &Options) -> Result<PathBuf, DemoError> {
    let make = |folder: PathBuf| {
        fs::create_dir_all(&folder)
            .and_then(|()| fs::canonicalize(&folder))
            .and_then(|made| {
                // Said now, not after two minutes.
                let trial = made.join(".squall-demo-trial");
                fs::write(&trial, [])?;
                fs::remove_file(&trial)?;
                Ok(made)
            })
            .map_err(DemoError::io(format!(
                "making {} for the reports",
                folder.display()
            )))
    };
    match &options.reports {
        Some(folder) => make(folder.clone()),
        None => make("squall-demo".into()).or_else(|_| {
            make(std::env::temp_dir().join(format!("squall-demo-{}", std::process::id())))
        }),
    }
}

fn own_namespaces() -> Result<(), DemoError> {
    const APART: CloneFlags = CloneFlags::CLONE_NEWNET
        .union(CloneFlags::CLONE_NEWPID)
        .union(CloneFlags::CLONE_NEWNS);
    // Root needs no user namespace; a root without CAP_SYS_ADMIN is told so, and gets one like anybody.
    if geteuid().is_root() && unshare(APART).is_ok() {
        return Ok(());
    }
    let refused = |operation| move |source| DemoError::NoNamespaces { operation, source };
    let (user, group) = (geteuid(), getegid());
    unshare(APART | CloneFlags::CLONE_NEWUSER)
        .map_err(io::Error::from)
        .map_err(refused("unshare"))?;
    // user_namespaces(7): a group map may be written only after setgroups is given up.
    let maps = [
        ("/proc/self/setgroups", "deny".to_owned()),
        ("/proc/self/uid_map", format!("0 {user} 1")),
        ("/proc/self/gid_map", format!("0 {group} 1")),
    ];
    for (file, text) in maps {
        fs::write(file, text).map_err(refused("mapping this user to root in it"))?;
    }
    Ok(())
}

async fn attend(play: &mut Child) -> Result<Option<u8>, DemoError> {
    let listen = |kind| signal(kind).map_err(DemoError::io("listening for signals"));
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut terminate = listen(SignalKind::terminate())?;
    let mut hangup = listen(SignalKind::hangup())?;
    let pid = play.id().and_then(|pid| i32::try_from(pid).ok());
    loop {
        tokio::select! {
            ended = play.wait() => {
                let status = ended.map_err(DemoError::io("waiting for the demo's first process"))?;
                return Ok(status.code().and_then(|code| u8::try_from(code).ok()));
            }
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
        if let Some(pid) = pid {
            // Gone already: the next turn of the loop sees it.
            let _ = kill(Pid::from_raw(pid), Signal::SIGINT);
        }
    }
}

/// The first process in the new namespaces.
pub(super) fn play(args: &[String]) -> Result<ExitCode, DemoError> {
    let [reports] = args else {
        return Err(DemoError::Usage("play needs a folder".into()));
    };
    set_pdeathsig(Signal::SIGKILL)
        .map_err(io::Error::from)
        .map_err(DemoError::io(
            "tying the demo to the process that started it",
        ))?;
    own_proc()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(DemoError::io("starting the demo's runtime"))?;
    let code = runtime.block_on(async {
        tokio::select! {
            code = play::run(PathBuf::from(reports)) => code,
            // Died before the death signal was set: then there is nobody to play for.
            () = until_end_of_input() => Ok(ExitCode::from(5)),
        }
    });
    // What still runs below is ended by the kernel with this process, the first of its namespace.
    runtime.shutdown_background();
    code
}

/// Process ids of the new namespace need a /proc of the new namespace.
fn own_proc() -> Result<(), DemoError> {
    let refused = |operation| {
        move |source: nix::Error| DemoError::NoNamespaces {
            operation,
            source: source.into(),
        }
    };
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
        .map_err(refused("keeping mounts to itself"))?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("proc"), "/proc", Some("proc"), flags, none).map_err(refused("mounting /proc"))
}

/// Until whoever holds the other end of standard input is gone.
pub(super) async fn until_end_of_input() {
    let mut ignored = [0; 64];
    let mut input = tokio::io::stdin();
    while matches!(input.read(&mut ignored).await, Ok(read) if read > 0) {}
}
