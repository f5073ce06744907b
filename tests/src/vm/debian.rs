//! Debian packages, unpacked into the cache instead of installed: works without root, and the
//! machine's own packages stay as they are (bookworm's QEMU would remove a backported qemu-utils).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::fcntl::{Flock, FlockArg};

use super::error::{VmError, io};

/// Where unpacked packages are kept: `$SQUALL_VM_CACHE`, else `squall-vm` in the user's cache folder.
pub(crate) fn cache() -> Result<PathBuf, VmError> {
    let set = |name: &str| {
        std::env::var_os(name)
            .filter(|v| !v.is_empty())
            .map(PathBuf::from)
    };
    let folder = set("SQUALL_VM_CACHE")
        .or_else(|| set("XDG_CACHE_HOME").map(|c| c.join("squall-vm")))
        .or_else(|| set("HOME").map(|h| h.join(".cache/squall-vm")))
        .unwrap_or_else(|| PathBuf::from("/var/tmp/squall-vm"));
    fs::create_dir_all(&folder).map_err(io("create", &folder))?;
    Ok(folder)
}

/// The folder `name` of the cache, filled by `make` the first time. Two runs at once take turns,
/// and an interrupted `make` leaves nothing that looks finished.
pub(crate) fn once(
    name: &str,
    make: impl FnOnce(&Path) -> Result<(), VmError>,
) -> Result<PathBuf, VmError> {
    let cache = cache()?;
    let done = cache.join(name);
    let lock_path = cache.join("lock");
    let lock = fs::File::create(&lock_path).map_err(io("create", &lock_path))?;
    let _turn = Flock::lock(lock, FlockArg::LockExclusive)
        .map_err(|(_, errno)| io("lock", &lock_path)(errno.into()))?;
    if done.exists() {
        return Ok(done);
    }
    let partial = cache.join(format!("{name}.partial"));
    if partial.exists() {
        fs::remove_dir_all(&partial).map_err(io("remove", &partial))?;
    }
    fs::create_dir_all(&partial).map_err(io("create", &partial))?;
    make(&partial)?;
    fs::rename(&partial, &done).map_err(io("rename", &partial))?;
    Ok(done)
}

/// Downloads `packages` and unpacks them into `tree`.
pub(crate) fn unpack(packages: &[String], tree: &Path) -> Result<(), VmError> {
    let debs = tree.join("debs");
    fs::create_dir_all(&debs).map_err(io("create", &debs))?;
    // As root apt would download as the user _apt, who cannot write into root's cache.
    let mut download = Command::new("apt-get");
    download
        .args(["-qq", "-o", "APT::Sandbox::User=root", "download"])
        .args(packages)
        .current_dir(&debs);
    output(&mut download)?;
    for deb in fs::read_dir(&debs).map_err(io("list", &debs))? {
        let deb = deb.map_err(io("list", &debs))?.path();
        output(Command::new("dpkg").arg("-x").arg(&deb).arg(tree))?;
    }
    fs::remove_dir_all(&debs).map_err(io("remove", &debs))
}

/// `packages` and all they depend on, without what is installed already.
pub(crate) fn missing(packages: &[&str]) -> Result<Vec<String>, VmError> {
    let mut query = Command::new("apt-cache");
    query.args([
        "depends",
        "--recurse",
        "--no-recommends",
        "--no-suggests",
        "--no-conflicts",
    ]);
    query
        .args(["--no-breaks", "--no-replaces", "--no-enhances"])
        .args(packages);
    let needed = output(&mut query)?;
    let installed =
        output(Command::new("dpkg-query").args(["-W", "-f", "${Package} ${db:Status-Status}\n"]))?;
    let installed: Vec<&str> = installed
        .lines()
        .filter_map(|line| line.strip_suffix(" installed"))
        .collect();
    // Package names stand at the start of a line; relations are indented, virtual packages in <>.
    let named = needed
        .lines()
        .filter(|line| line.starts_with(|c: char| c.is_ascii_alphanumeric()));
    let mut missing: Vec<String> = named
        .filter(|name| !installed.contains(name))
        .map(str::to_owned)
        .collect();
    missing.sort_unstable();
    missing.dedup();
    Ok(missing)
}

/// The folders of an unpacked `tree` in which its programs look for libraries, as `LD_LIBRARY_PATH`.
pub(crate) fn library_path(tree: &Path) -> String {
    let multiarch = format!("{}-linux-gnu", std::env::consts::ARCH);
    let folders =
        ["usr/lib", "lib"].map(|base| tree.join(base).join(&multiarch).display().to_string());
    folders.join(":")
}

/// What `command` wrote, or an error with its last words.
pub(crate) fn output(command: &mut Command) -> Result<String, VmError> {
    let shown = format!("{command:?}").replace('"', "");
    let result = command.output().map_err(|error| VmError::Program {
        command: shown.clone(),
        answer: error.to_string(),
    })?;
    if result.status.success() {
        return Ok(String::from_utf8_lossy(&result.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&result.stderr);
    Err(VmError::Program {
        command: shown,
        answer: format!("{}: {}", result.status, said.trim()),
    })
}
