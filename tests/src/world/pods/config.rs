//! What containerd and the CNI plugins are told.

use std::fs;
use std::path::{Path, PathBuf};

use super::super::Result;
use super::{CNI, IMAGE, SOCKET};
use crate::vm::on_path;

/// Writes containerd's and CNI's configuration; all that they keep is in the scratch folder.
pub(super) fn write(scratch: &Path) -> Result<PathBuf> {
    let cni = scratch.join("cni");
    fs::create_dir_all(&cni)?;
    let network = serde_json::json!({
        "cniVersion": "0.4.0", "name": "lab", "plugins": [{
            "type": "bridge", "bridge": "lab0", "isGateway": true, "ipMasq": false,
            "ipam": {
                "type": "host-local", "dataDir": scratch.join("ipam"),
                "ranges": [[{ "subnet": "10.88.0.0/16" }]], "routes": [{ "dst": "0.0.0.0/0" }],
            },
        }],
    });
    fs::write(cni.join("10-lab.conflist"), network.to_string())?;
    let runc = on_path("runc").ok_or("runc is not installed")?;
    let at = |name: &str| scratch.join(name).display().to_string();
    let text = format!(
        r#"version = 2
root = "{root}"
state = "{state}"
disabled_plugins = ["io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs"]
[grpc]
address = "{SOCKET}"
[plugins."io.containerd.internal.v1.opt"]
path = "{opt}"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{IMAGE}"
disable_apparmor = true
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".containerd]
default_runtime_name = "runc"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
SystemdCgroup = false
BinaryName = "{runc}"
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{CNI}"
conf_dir = "{cni}"
"#,
        root = at("root"),
        state = at("state"),
        opt = at("opt"),
        runc = runc.display(),
        cni = cni.display(),
    );
    let config = scratch.join("config.toml");
    fs::write(&config, text)?;
    Ok(config)
}
