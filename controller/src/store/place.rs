//! Where a person's runs are kept.

use std::env;
use std::path::PathBuf;

/// `$SQUALL_DATA` where it is set; `$XDG_DATA_HOME/squall` where that is (XDG Base Directory Specification 0.8);
/// `/var/lib/squall` for root; else `~/.local/share/squall`, below the current directory where there is no home.
#[must_use]
pub fn place() -> PathBuf {
    let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty());
    if let Some(data) = set("SQUALL_DATA") {
        return data.into();
    }
    if let Some(data) = set("XDG_DATA_HOME") {
        return PathBuf::from(data).join("squall");
    }
    if nix::unistd::geteuid().is_root() {
        return "/var/lib/squall".into();
    }
    let home = set("HOME").map(PathBuf::from).unwrap_or_default();
    home.join(".local/share/squall")
}
