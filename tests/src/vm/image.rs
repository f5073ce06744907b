//! The VM's first and only file system: modules, a few tools of this machine, and what is to run.

use std::fs::{self, File};
use std::io::BufWriter;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::cpio::Archive;
use super::debian;
use super::error::{VmError, io};
use super::kernel::{Kmod, Prepared, wanted_modules};

/// Programs of this machine that tests call inside the VM as well. One that is not installed
/// here is not there either: the test that wants it says so.
const TOOLS: [&str; 17] = [
    "busybox",
    "sh",
    "ip",
    "tc",
    "ss",
    "nft",
    "nsenter",
    "unshare",
    "mount",
    "umount",
    "ps",
    "cat",
    "ls",
    "sleep",
    "strace",
    "stress-ng",
    "ping",
];

/// Empty folders every program expects.
const FOLDERS: [&str; 12] = [
    "proc",
    "sys",
    "dev",
    "run",
    "tmp",
    "root",
    "mnt",
    "etc",
    "var/tmp",
    "var/lib",
    "usr/sbin",
    "usr/local/bin",
];

/// Index files of the module tools.
const MODULE_INDEX: [&str; 8] = [
    "modules.dep",
    "modules.dep.bin",
    "modules.alias.bin",
    "modules.symbols.bin",
    "modules.builtin",
    "modules.builtin.bin",
    "modules.builtin.alias.bin",
    "modules.softdep",
];

/// Text files without which name look-ups fail.
const ETC: [(&str, &str); 5] = [
    (
        "etc/passwd",
        "root:x:0:0::/root:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n",
    ),
    ("etc/group", "root:x:0:\nnogroup:x:65534:\n"),
    ("etc/hosts", "127.0.0.1 localhost\n::1 localhost\n"),
    ("etc/nsswitch.conf", "hosts: files dns\n"),
    // Container runtimes copy it into every pod.
    ("etc/resolv.conf", "# Nobody answers here.\n"),
];

/// Writes the file system to `path`: `init` becomes process 1, each of `files` lies where it lies here.
pub(crate) fn write(
    path: &Path,
    kernel: &Prepared,
    kmod: &Kmod,
    init: &Path,
    files: &[PathBuf],
) -> Result<(), VmError> {
    let file = File::create(path).map_err(io("create", path))?;
    let mut archive = Archive::new(BufWriter::new(file)).map_err(io("write", path))?;
    fill(&mut archive, path)?;
    modules(&mut archive, kernel)?;
    program(
        &mut archive,
        &kmod.binary,
        Path::new("usr/bin/kmod"),
        kmod.tree.as_deref(),
    )?;
    archive
        .symlink(Path::new("usr/sbin/modprobe"), "../bin/kmod")
        .map_err(io("write", path))?;
    for tool in TOOLS {
        if let Some(found) = on_path(tool) {
            program(&mut archive, &found, &found, None)?;
        }
    }
    program(&mut archive, init, Path::new("init"), None)?;
    for file in files {
        whole(&mut archive, file)?;
    }
    archive.finish().map_err(io("write", path)).map(drop)
}

fn fill<W: std::io::Write>(archive: &mut Archive<W>, path: &Path) -> Result<(), VmError> {
    for folder in FOLDERS {
        archive
            .directory(Path::new(folder))
            .map_err(io("write", path))?;
    }
    for (name, text) in ETC {
        archive
            .file(Path::new(name), 0o644, text.as_bytes())
            .map_err(io("write", path))?;
    }
    Ok(())
}

fn modules<W: std::io::Write>(archive: &mut Archive<W>, kernel: &Prepared) -> Result<(), VmError> {
    let wanted = wanted_modules(&kernel.modules)?;
    let inside = Path::new("lib/modules").join(&kernel.release);
    for name in wanted.iter().map(String::as_str).chain(MODULE_INDEX) {
        let source = kernel.modules.join(name);
        if source.exists() {
            copy(archive, &source, &inside.join(name))?;
        }
    }
    Ok(())
}

/// A file, or a folder with all that is in it; programs bring their libraries.
fn whole<W: std::io::Write>(archive: &mut Archive<W>, source: &Path) -> Result<(), VmError> {
    if source.is_dir() {
        archive.directory(source).map_err(io("archive", source))?;
        for entry in fs::read_dir(source).map_err(io("list", source))? {
            whole(archive, &entry.map_err(io("list", source))?.path())?;
        }
        return Ok(());
    }
    program(archive, source, source, None)
}

/// A file and, where it is a dynamic program, the libraries the loader would give it here.
fn program<W: std::io::Write>(
    archive: &mut Archive<W>,
    source: &Path,
    inside: &Path,
    tree: Option<&Path>,
) -> Result<(), VmError> {
    if archive.holds(inside) {
        return Ok(());
    }
    copy(archive, source, inside)?;
    let mut ldd = Command::new("ldd");
    ldd.arg(source);
    if let Some(tree) = tree {
        ldd.env("LD_LIBRARY_PATH", debian::library_path(tree));
    }
    // ldd fails on what is no dynamic program: a script, a static binary, data. Those need nothing.
    let Ok(listed) = debian::output(&mut ldd) else {
        return Ok(());
    };
    for library in libraries(&listed) {
        let inside = tree
            .and_then(|tree| library.strip_prefix(tree).ok())
            .unwrap_or(&library)
            .to_owned();
        if !archive.holds(&inside) {
            copy(archive, &library, &inside)?;
        }
    }
    Ok(())
}

/// The libraries of a dynamic program, asked of the loader itself: inside the VM there is no ldd. None for anything else.
pub fn libraries_of(program: &Path) -> Vec<PathBuf> {
    const LOADERS: [&str; 2] = ["/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1"];
    let Some(loader) = LOADERS.iter().find(|loader| Path::new(loader).exists()) else {
        return Vec::new();
    };
    let mut list = Command::new(loader);
    list.arg("--list").arg(program);
    debian::output(&mut list).map_or_else(|_| Vec::new(), |listed| libraries(&listed))
}

/// The paths in ldd's answer: `libc.so.6 => /lib/…/libc.so.6 (0x…)` or `/lib64/ld-linux… (0x…)`.
fn libraries(ldd: &str) -> Vec<PathBuf> {
    let paths = ldd.lines().filter_map(|line| {
        let found = line.split_once("=> ").map_or(line, |(_, path)| path).trim();
        let path = found.split_once(" (0x").map(|(path, _)| path)?;
        path.starts_with('/').then(|| PathBuf::from(path))
    });
    paths.collect()
}

fn copy<W: std::io::Write>(
    archive: &mut Archive<W>,
    source: &Path,
    inside: &Path,
) -> Result<(), VmError> {
    let mode = fs::metadata(source)
        .map_err(io("read", source))?
        .permissions()
        .mode();
    let data = without_debug_info(source)?;
    archive
        .file(inside, mode, &data)
        .map_err(io("archive", source))
}

/// Sizes above this are worth a run of `strip`: debug information makes a test binary ten times as
/// long, and the VM has to unpack it. Panics name file and line without it.
const STRIP_ABOVE_BYTES: u64 = 2 << 20;

fn without_debug_info(source: &Path) -> Result<Vec<u8>, VmError> {
    let length = fs::metadata(source).map_err(io("read", source))?.len();
    let strippable = length > STRIP_ABOVE_BYTES && source.extension().is_none_or(|e| e != "ko");
    if strippable && let Ok(stripped) = tempfile::NamedTempFile::new() {
        let mut strip = Command::new("strip");
        strip
            .arg("--strip-debug")
            .arg("-o")
            .arg(stripped.path())
            .arg(source);
        if debian::output(&mut strip).is_ok() {
            return fs::read(stripped.path()).map_err(io("read", stripped.path()));
        }
    }
    fs::read(source).map_err(io("read", source))
}

/// The program `name` as a shell would find it, also in the folders only root has on its path.
pub fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
    folders.map(|folder| folder.join(name)).find(|candidate| {
        fs::metadata(candidate).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loaders_answer_is_read() {
        let ldd = "\tlinux-vdso.so.1 (0x00007ffd)\n\tlibc.so.6 => /lib/x/libc.so.6 (0x00007f)\n\t\
                   libx.so => not found\n\t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n";
        assert_eq!(
            libraries(ldd),
            [
                Path::new("/lib/x/libc.so.6"),
                Path::new("/lib64/ld-linux-x86-64.so.2")
            ]
        );
    }
}
