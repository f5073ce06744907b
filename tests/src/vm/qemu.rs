//! QEMU: found on this machine, or unpacked from Debian into the cache; and how it is started.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::debian;
use super::error::VmError;
use super::image::on_path;
use super::protocol::PORTS;

#[cfg(target_arch = "x86_64")]
const PROGRAM: &str = "qemu-system-x86_64";
#[cfg(not(target_arch = "x86_64"))]
const PROGRAM: &str = "qemu-system-aarch64";

/// CPUs of the VM. Two, so that races show; more would only fight over the host's.
const CPUS: &str = "2";

/// Memory of the VM in MiB: unpacked test binaries live in it, besides what tests fill.
const MEMORY_MIB: &str = "3072";

/// A QEMU that can be started.
#[derive(Debug)]
pub(crate) struct Qemu {
    program: PathBuf,
    tree: Option<PathBuf>,
}

impl Qemu {
    pub(crate) fn find() -> Result<Self, VmError> {
        if let Some(program) = on_path(PROGRAM) {
            return Ok(Self {
                program,
                tree: None,
            });
        }
        let tree = debian::once("qemu", |tree| {
            debian::unpack(&debian::missing(&["qemu-system-x86"])?, tree)
        })?;
        Ok(Self {
            program: tree.join("usr/bin").join(PROGRAM),
            tree: Some(tree),
        })
    }

    /// The command that boots `kernel` with `initramfs`; `scratch` holds the ports' sockets and the console.
    pub(crate) fn command(&self, kernel: &Path, initramfs: &Path, scratch: &Path) -> Command {
        let mut qemu = Command::new(&self.program);
        if let Some(tree) = &self.tree {
            qemu.env("LD_LIBRARY_PATH", debian::library_path(tree));
            for roms in ["usr/share/qemu", "usr/share/seabios", "usr/lib/ipxe/qemu"] {
                qemu.arg("-L").arg(tree.join(roms));
            }
        }
        // q35 rather than microvm: microvm lost up to half its boots under emulation.
        qemu.args([
            "-machine", "q35", "-smp", CPUS, "-m", MEMORY_MIB, "-display", "none",
        ]);
        qemu.args(["-nodefaults", "-no-user-config", "-no-reboot"]);
        let acceleration: &[&str] = if hardware_virtualisation() {
            &["-accel", "kvm", "-cpu", "host"]
        } else {
            &["-accel", "tcg,thread=multi", "-cpu", "max"]
        };
        qemu.args(acceleration);
        qemu.arg("-kernel")
            .arg(kernel)
            .arg("-initrd")
            .arg(initramfs);
        // Self-tests, audit and CPU bug work-arounds only cost boot time in a VM that runs our own tests.
        // A processor that makes no headway for a minute (twice watchdog_thresh) will make none: the VM ends, and its user hears why.
        qemu.args([
            "-append",
            "console=ttyS0 panic=-1 quiet cryptomgr.notests mitigations=off audit=0 psi=1 softlockup_panic=1 watchdog_thresh=30",
        ]);
        qemu.arg("-serial")
            .arg(format!("file:{}", console(scratch).display()));
        qemu.args(["-device", "virtio-rng-pci", "-device", "virtio-serial-pci"]);
        for name in PORTS {
            let socket = socket(scratch, name);
            qemu.arg("-chardev")
                .arg(format!("socket,id={name},path={}", socket.display()));
            qemu.arg("-device")
                .arg(format!("virtserialport,name={name},chardev={name}"));
        }
        qemu
    }
}

/// Where the port's socket lies on the host.
pub(crate) fn socket(scratch: &Path, port: &str) -> PathBuf {
    scratch.join(format!("{port}.socket"))
}

/// Where the serial console is written to.
pub(crate) fn console(scratch: &Path) -> PathBuf {
    scratch.join("console")
}

/// /dev/kvm alone is no proof: where the CPU shows no vmx or svm, QEMU would hang half-way through the boot.
fn hardware_virtualisation() -> bool {
    let usable = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/kvm")
        .is_ok();
    let flags = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    usable
        && flags
            .split_whitespace()
            .any(|flag| flag == "vmx" || flag == "svm")
}
