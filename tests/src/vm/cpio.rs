//! Archives in the "newc" cpio format, which the kernel unpacks as its first root file system
//! (linux/Documentation/driver-api/early-userspace/buffer-format.rst).

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::{Component, Path, PathBuf};

const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const SYMLINK: u32 = 0o120_000;

/// Top-level folders that are links into /usr on every Debian since 12.
const MERGED_INTO_USR: [&str; 4] = ["bin", "sbin", "lib", "lib64"];

/// A writer of one archive. A path that was added before is left as it was.
pub(crate) struct Archive<W> {
    out: W,
    written: u64,
    entries: u32,
    seen: BTreeSet<PathBuf>,
}

impl<W: Write> Archive<W> {
    /// An archive with a merged /usr and nothing else in it yet.
    pub(crate) fn new(out: W) -> io::Result<Self> {
        let mut archive = Self {
            out,
            written: 0,
            entries: 0,
            seen: BTreeSet::new(),
        };
        for name in MERGED_INTO_USR {
            archive.directory(&Path::new("usr").join(name))?;
            archive.entry(
                Path::new(name),
                SYMLINK | 0o777,
                format!("usr/{name}").as_bytes(),
            )?;
            archive.seen.insert(name.into());
        }
        Ok(archive)
    }

    /// Adds `path` and every folder above it.
    pub(crate) fn directory(&mut self, path: &Path) -> io::Result<()> {
        let path = place(path);
        let above: Vec<_> = path.ancestors().collect();
        for folder in above
            .into_iter()
            .rev()
            .filter(|p| !p.as_os_str().is_empty())
        {
            if self.seen.insert(folder.to_owned()) {
                self.entry(folder, DIRECTORY | 0o755, b"")?;
            }
        }
        Ok(())
    }

    /// Adds a regular file with the permission bits of `mode`.
    pub(crate) fn file(&mut self, path: &Path, mode: u32, data: &[u8]) -> io::Result<()> {
        self.leaf(path, REGULAR | (mode & 0o7777), data)
    }

    /// Adds a symbolic link at `path`.
    pub(crate) fn symlink(&mut self, path: &Path, target: &str) -> io::Result<()> {
        self.leaf(path, SYMLINK | 0o777, target.as_bytes())
    }

    /// Whether something is at `path` already.
    pub(crate) fn holds(&self, path: &Path) -> bool {
        self.seen.contains(&place(path))
    }

    /// Writes the trailer and hands back the writer.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        self.entry(Path::new("TRAILER!!!"), 0, b"")?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn leaf(&mut self, path: &Path, mode: u32, data: &[u8]) -> io::Result<()> {
        let path = place(path);
        if let Some(folder) = path.parent() {
            self.directory(folder)?;
        }
        if self.seen.insert(path.clone()) {
            self.entry(&path, mode, data)?;
        }
        Ok(())
    }

    fn entry(&mut self, path: &Path, mode: u32, data: &[u8]) -> io::Result<()> {
        self.entries += 1;
        let name = path.as_os_str().as_encoded_bytes();
        let size = u32::try_from(data.len()).map_err(|_| {
            io::Error::new(io::ErrorKind::FileTooLarge, "newc holds files below 4 GiB")
        })?;
        let name_size = u32::try_from(name.len() + 1).map_err(|_| {
            io::Error::new(io::ErrorKind::InvalidFilename, "name too long for newc")
        })?;
        // ino, mode, uid, gid, nlink, mtime, filesize, devmajor, devminor, rdevmajor, rdevminor, namesize, check
        let fields = [
            self.entries,
            mode,
            0,
            0,
            1,
            0,
            size,
            0,
            0,
            0,
            0,
            name_size,
            0,
        ];
        let mut head = b"070701".to_vec();
        for field in fields {
            write!(head, "{field:08X}")?;
        }
        head.extend_from_slice(name);
        head.push(0);
        self.padded(&head)?;
        self.padded(data)
    }

    /// Header-with-name and data each end on a multiple of four.
    fn padded(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)?;
        self.written += bytes.len() as u64;
        let short = (4 - self.written % 4) % 4;
        self.out.write_all(&[0; 3][..short as usize])?;
        self.written += short;
        Ok(())
    }
}

/// Where `path` lies in the archive: relative, without `.` and `..`, with /usr merged.
fn place(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => plain.push(name),
            Component::ParentDir => {
                plain.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    let merged = plain.components().next().is_some_and(|first| {
        MERGED_INTO_USR
            .iter()
            .any(|name| first.as_os_str() == *name)
    });
    if merged && plain.components().nth(1).is_some() {
        Path::new("usr").join(plain)
    } else {
        plain
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn paths_are_laid_out_as_on_a_merged_debian() {
        assert_eq!(
            place(Path::new("/lib64/ld.so")),
            Path::new("usr/lib64/ld.so")
        );
        assert_eq!(place(Path::new("/a/./b/../c")), Path::new("a/c"));
        assert_eq!(place(Path::new("/usr/bin/ip")), Path::new("usr/bin/ip"));
    }

    #[test]
    fn another_reader_of_cpio_agrees() {
        let mut archive = Archive::new(Vec::new()).unwrap();
        archive.file(Path::new("/bin/tool"), 0o755, b"odd").unwrap();
        archive
            .file(
                Path::new("/usr/bin/tool"),
                0o755,
                b"a second one is ignored",
            )
            .unwrap();
        archive.symlink(Path::new("/etc/link"), "target").unwrap();
        let bytes = archive.finish().unwrap();
        let mut busybox = Command::new("busybox")
            .args(["cpio", "-t"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        busybox.stdin.take().unwrap().write_all(&bytes).unwrap();
        let listed = String::from_utf8(busybox.wait_with_output().unwrap().stdout).unwrap();
        let names: Vec<_> = listed
            .lines()
            .filter(|n| n.contains("tool") || n.contains("link"))
            .collect();
        assert_eq!(names, ["usr/bin/tool", "etc/link"]);
    }
}
