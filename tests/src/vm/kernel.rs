//! Debian's kernels: found by flavour, downloaded, unpacked, and made quick to boot under emulation.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::str::FromStr;

use super::debian;
use super::error::{VmError, io};

/// Which of Debian's kernels to boot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Kernel {
    /// The release's cloud kernel: small, quick to boot, and all the lab needs. 6.1 on Debian 12.
    #[default]
    Cloud,
    /// The release's generic kernel.
    Generic,
    /// A package by name, such as `linux-image-6.12.9+bpo-cloud-amd64`.
    Package(String),
}

impl FromStr for Kernel {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text {
            "cloud" => Self::Cloud,
            "generic" => Self::Generic,
            package => Self::Package(package.to_owned()),
        })
    }
}

impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cloud => "cloud",
            Self::Generic => "generic",
            Self::Package(name) => name,
        })
    }
}

/// Folders of modules that go into the VM, with whatever those modules need in turn. The rest
/// (graphics, sound, storage) would only make the first file system slower to unpack.
const MODULES: [&str; 19] = [
    "kernel/arch/x86/crypto/crc32c",
    "kernel/crypto/crc32c",
    "kernel/crypto/crct10dif",
    "kernel/drivers/block/loop",
    "kernel/drivers/char/hw_random/virtio",
    "kernel/drivers/char/virtio_console",
    "kernel/drivers/net/dummy",
    "kernel/drivers/net/ifb",
    "kernel/drivers/net/macvlan",
    "kernel/drivers/net/tun",
    "kernel/drivers/net/veth",
    "kernel/drivers/virtio/",
    "kernel/fs/overlayfs/",
    "kernel/net/bridge/",
    "kernel/net/core/",
    "kernel/net/ipv4/",
    "kernel/net/ipv6/",
    "kernel/net/netfilter/",
    "kernel/net/sched/",
];

/// A kernel ready to boot.
#[derive(Debug)]
pub(crate) struct Prepared {
    /// What QEMU is given.
    pub(crate) image: PathBuf,
    /// The release, as `uname -r` will say.
    pub(crate) release: String,
    /// `lib/modules/<release>` of the unpacked package.
    pub(crate) modules: PathBuf,
}

impl Kernel {
    /// Downloads and unpacks this kernel, or finds it in the cache.
    pub(crate) fn prepare(&self, kmod: &Kmod) -> Result<Prepared, VmError> {
        let package = self.package()?;
        let tree = debian::once(&package, |tree| {
            debian::unpack(std::slice::from_ref(&package), tree)?;
            let release = release_in(tree)?;
            let packed = tree.join("boot").join(format!("vmlinuz-{release}"));
            let image = fs::read(&packed).map_err(io("read", &packed))?;
            let bare = tree.join("image");
            // Debian's kernels but the newest are LZ4 here; any other boots too, as it came,
            // a few seconds slower.
            fs::write(&bare, bare_kernel(&image).unwrap_or(image)).map_err(io("write", &bare))?;
            debian::output(kmod.command("depmod").arg("-b").arg(tree).arg(&release)).map(drop)
        })?;
        let release = release_in(&tree)?;
        let modules = tree.join("lib/modules").join(&release);
        Ok(Prepared {
            image: tree.join("image"),
            release,
            modules,
        })
    }

    fn package(&self) -> Result<String, VmError> {
        let meta = match self {
            Self::Cloud => format!("linux-image-cloud-{}", debian_architecture()),
            Self::Generic => format!("linux-image-{}", debian_architecture()),
            Self::Package(name) => return Ok(name.clone()),
        };
        let relations = debian::output(Command::new("apt-cache").args(["depends", &meta]))?;
        let dependency = relations
            .lines()
            .find_map(|line| line.trim().strip_prefix("Depends: linux-image-"));
        dependency
            .map(|rest| format!("linux-image-{rest}"))
            .ok_or_else(|| VmError::NoKernel {
                wanted: self.to_string(),
            })
    }
}

fn debian_architecture() -> &'static str {
    match std::env::consts::ARCH {
        "aarch64" => "arm64",
        _ => "amd64",
    }
}

fn release_in(tree: &Path) -> Result<String, VmError> {
    let folder = tree.join("lib/modules");
    let mut releases = fs::read_dir(&folder)
        .map_err(io("list", &folder))?
        .flatten();
    let release = releases
        .next()
        .map(|entry| entry.file_name().to_string_lossy().into_owned());
    release.ok_or_else(|| VmError::Kernel {
        tree: tree.to_owned(),
        what: "no modules".to_owned(),
    })
}

/// The ELF kernel inside an LZ4 bzImage: emulation is slow at unpacking, this machine is not.
/// Offsets from linux/Documentation/arch/x86/boot.rst.
fn bare_kernel(bz_image: &[u8]) -> Option<Vec<u8>> {
    let word = |at: usize| {
        let bytes = bz_image.get(at..at + 4)?;
        usize::try_from(u32::from_le_bytes(bytes.try_into().ok()?)).ok()
    };
    let setup_sectors = match *bz_image.get(0x1f1)? {
        0 => 4,
        sectors => usize::from(sectors),
    };
    let start = (setup_sectors + 1) * 512 + word(0x248)?;
    // The last four bytes are the unpacked size, which is not part of the LZ4 stream.
    let payload = bz_image.get(start..start + word(0x24c)?.checked_sub(4)?)?;
    let mut elf = Vec::new();
    lz4_flex::frame::FrameDecoder::new(payload)
        .read_to_end(&mut elf)
        .ok()?;
    elf.starts_with(b"\x7fELF").then_some(elf)
}

/// The module files (relative to the modules folder) that go into the VM.
pub(crate) fn wanted_modules(modules: &Path) -> Result<BTreeSet<String>, VmError> {
    let path = modules.join("modules.dep");
    let text = fs::read_to_string(&path).map_err(io("read", &path))?;
    Ok(with_dependencies(&text))
}

fn with_dependencies(modules_dep: &str) -> BTreeSet<String> {
    let needs: BTreeMap<&str, &str> = modules_dep
        .lines()
        .filter_map(|line| line.split_once(':'))
        .collect();
    let mut wanted = BTreeSet::new();
    for (module, dependencies) in needs {
        if MODULES.iter().any(|prefix| module.starts_with(prefix)) {
            wanted.insert(module.to_owned());
            wanted.extend(dependencies.split_whitespace().map(str::to_owned));
        }
    }
    wanted
}

/// The tools that index and load modules: this machine's, else Debian's out of the cache.
#[derive(Debug)]
pub(crate) struct Kmod {
    /// The `kmod` binary.
    pub(crate) binary: PathBuf,
    /// The tree it was unpacked into, when it is not installed.
    pub(crate) tree: Option<PathBuf>,
}

impl Kmod {
    pub(crate) fn find() -> Result<Self, VmError> {
        if let Some(binary) = super::image::on_path("kmod") {
            return Ok(Self { binary, tree: None });
        }
        let tree = debian::once("kmod", |tree| {
            debian::unpack(&debian::missing(&["kmod"])?, tree)
        })?;
        let binary = ["usr/bin/kmod", "bin/kmod"]
            .map(|p| tree.join(p))
            .into_iter()
            .find(|p| p.exists());
        let binary = binary.ok_or_else(|| VmError::Kernel {
            tree: tree.clone(),
            what: "no kmod".to_owned(),
        })?;
        Ok(Self {
            binary,
            tree: Some(tree),
        })
    }

    /// kmod acts as the tool whose name it is called by.
    fn command(&self, tool: &str) -> Command {
        use std::os::unix::process::CommandExt;
        let mut command = Command::new(&self.binary);
        command.arg0(tool);
        if let Some(tree) = &self.tree {
            command.env("LD_LIBRARY_PATH", debian::library_path(tree));
        }
        command
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_bring_what_they_need() {
        let index =
            "kernel/net/sched/sch_netem.ko: kernel/lib/a.ko kernel/lib/b.ko\nkernel/sound/x.ko:\n";
        let wanted = with_dependencies(index);
        assert_eq!(
            wanted.into_iter().collect::<Vec<_>>(),
            [
                "kernel/lib/a.ko",
                "kernel/lib/b.ko",
                "kernel/net/sched/sch_netem.ko"
            ]
        );
    }

    #[test]
    fn something_else_than_a_kernel_is_refused() {
        assert!(bare_kernel(b"").is_none());
        assert!(bare_kernel(&[0xff; 4096]).is_none());
    }
}
