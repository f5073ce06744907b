//! A container image made by hand: one layer with busybox and whatever programs of this machine a test wants, each with its
//! libraries. No registry is reached.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use super::super::{Result, output};
use crate::vm::{libraries_of, on_path};

/// What busybox is called in the image.
const APPLETS: [&str; 13] = [
    "ln", "rm", "sh", "sleep", "cat", "ls", "mkdir", "chown", "chmod", "nc", "ip", "dd", "yes",
];

/// Makes `archive` in `scratch`: an image called `tag`, as `docker save` would write it, with `programs` and `folders` where they
/// lie here.
pub(super) fn make(
    scratch: &Path,
    tag: &str,
    programs: &[PathBuf],
    folders: &[PathBuf],
) -> Result<PathBuf> {
    let root = scratch.join("layer");
    for folder in [
        "bin", "etc", "tmp", "run", "proc", "sys", "dev", "var/log", "var/lib",
    ] {
        fs::create_dir_all(root.join(folder))?;
    }
    let busybox = on_path("busybox").ok_or("busybox is not installed")?;
    fs::copy(busybox, root.join("bin/busybox"))?;
    for applet in APPLETS {
        symlink("busybox", root.join("bin").join(applet))?;
    }
    fs::write(
        root.join("etc/passwd"),
        "root:x:0:0::/:/bin/sh\nnobody:x:65534:65534::/:/bin/false\npostgres:x:70:70::/:/bin/sh\n",
    )?;
    fs::write(root.join("etc/group"), "root:x:0:\nnogroup:x:65534:\n")?;
    for program in programs {
        put(&root, program)?;
        for library in libraries_of(program) {
            put(&root, &library)?;
        }
    }
    for folder in folders {
        whole(&root, folder)?;
    }
    let layer = scratch.join("layer.tar");
    pack(&layer, &root, ".")?;
    let sum = output(Command::new("busybox").arg("sha256sum").arg(&layer))?;
    let sum = sum.split_whitespace().next().ok_or("no sum")?.to_owned();
    let whole = scratch.join("image");
    fs::create_dir_all(&whole)?;
    fs::rename(layer, whole.join("layer.tar"))?;
    let config = json!({
        "architecture": architecture(), "os": "linux",
        "config": { "Cmd": ["/bin/sleep", "1000000"], "Env": ["PATH=/bin:/usr/bin:/usr/sbin"] },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{sum}")] },
    });
    fs::write(whole.join("config.json"), config.to_string())?;
    let manifest = json!([{ "Config": "config.json", "RepoTags": [tag], "Layers": ["layer.tar"] }]);
    fs::write(whole.join("manifest.json"), manifest.to_string())?;
    let archive = scratch.join("image.tar");
    pack(&archive, &whole, ".")?;
    fs::remove_dir_all(&root)?;
    fs::remove_dir_all(&whole)?;
    Ok(archive)
}

/// As Go calls it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "aarch64" => "arm64",
        _ => "amd64",
    }
}

fn pack(archive: &Path, folder: &Path, what: &str) -> Result<()> {
    let mut tar = Command::new("busybox");
    tar.arg("tar")
        .arg("-cf")
        .arg(archive)
        .arg("-C")
        .arg(folder)
        .arg(what);
    output(&mut tar).map(drop)
}

/// Puts a file where it lies here.
fn put(root: &Path, file: &Path) -> Result<()> {
    let inside = root.join(file.strip_prefix("/")?);
    if inside.exists() {
        return Ok(());
    }
    if let Some(folder) = inside.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::copy(file, &inside).map_err(|e| format!("cannot copy {}: {e}", file.display()))?;
    Ok(())
}

fn whole(root: &Path, folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder).map_err(|e| format!("{}: {e}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            whole(root, &path)?;
        } else {
            put(root, &path)?;
        }
    }
    Ok(())
}
