//! A container image made by hand: one layer with busybox and whatever programs of this machine a test wants, each with its
//! libraries. No registry is reached.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

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
    let config =
        json!({ "Cmd": ["/bin/sleep", "1000000"], "Env": ["PATH=/bin:/usr/bin:/usr/sbin"] });
    archive(scratch, &root, tag, &config)
}

/// Makes an image as a stage of a recipe (Containerfile) says that starts from nothing; `built` has the programs that an earlier stage
/// built, by their names. One that was built here and not for shipping needs this machine's libraries, which are put beside it.
pub(super) fn from_recipe(
    scratch: &Path,
    tag: &str,
    recipe: &str,
    stage: &str,
    built: &dyn Fn(&str) -> Result<PathBuf>,
) -> Result<PathBuf> {
    let begin = format!("FROM scratch AS {stage}");
    let lines = recipe.lines().skip_while(|line| *line != begin).skip(1);
    let lines = lines.take_while(|line| !line.starts_with("FROM "));
    let root = scratch.join("layer");
    fs::create_dir_all(&root)?;
    let mut config = json!({});
    for line in lines.filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let words: Vec<&str> = line.split(' ').collect();
        match *words.as_slice() {
            ["COPY", "--from=build", from, to] => {
                let program = built(from.rsplit('/').next().unwrap_or(from))?;
                fs::copy(&program, root.join(to.trim_start_matches('/')))?;
                for library in libraries_of(&program) {
                    put(&root, &library)?;
                }
            }
            ["ENTRYPOINT", ..] => {
                config["Entrypoint"] = serde_json::from_str(&line["ENTRYPOINT ".len()..])?;
            }
            ["CMD", ..] => config["Cmd"] = serde_json::from_str(&line["CMD ".len()..])?,
            _ => return Err(format!("the lab does not know how to do `{line}`").into()),
        }
    }
    if config["Entrypoint"].is_null() {
        return Err(format!("the recipe has no stage `{begin}` with an ENTRYPOINT").into());
    }
    archive(scratch, &root, tag, &config)
}

/// An image as `docker save` would write it, with all that is in `root`, which is taken away.
fn archive(scratch: &Path, root: &Path, tag: &str, config: &Value) -> Result<PathBuf> {
    let layer = scratch.join("layer.tar");
    pack(&layer, root, ".")?;
    let sum = output(Command::new("busybox").arg("sha256sum").arg(&layer))?;
    let sum = sum.split_whitespace().next().ok_or("no sum")?.to_owned();
    let whole = scratch.join("image");
    fs::create_dir_all(&whole)?;
    fs::rename(layer, whole.join("layer.tar"))?;
    let config = json!({
        "architecture": architecture(), "os": "linux", "config": config,
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{sum}")] },
    });
    fs::write(whole.join("config.json"), config.to_string())?;
    let manifest = json!([{ "Config": "config.json", "RepoTags": [tag], "Layers": ["layer.tar"] }]);
    fs::write(whole.join("manifest.json"), manifest.to_string())?;
    let archive = scratch.join("image.tar");
    pack(&archive, &whole, ".")?;
    fs::remove_dir_all(root)?;
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
