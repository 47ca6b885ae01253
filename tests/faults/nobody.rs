//! The agent's user where the test is root: nobody, so that files can be hidden from it.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use crate::binary;

/// The agent's user and group where the test is root: nobody's.
const NOBODY: u32 = 65_534;

/// Command that runs a program as nobody.
pub(super) const AS_NOBODY: [&str; 6] = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"];

/// Gives the agent's folders to nobody, if this is root and nobody may run the agent at all; else it runs as who we are.
pub(super) fn give(dir: &Path) -> io::Result<bool> {
    if !rustix::process::geteuid().is_root() {
        // What the agent may not read the camera may not write either.
        return Ok(false);
    }
    std::fs::set_permissions(dir, PermissionsExt::from_mode(0o711))?;
    let may_run = Command::new(AS_NOBODY[0])
        .args(&AS_NOBODY[1..])
        .arg(binary("millgate-edge"))
        .arg("--version")
        .output()
        .is_ok_and(|output| output.status.success());
    if may_run {
        for folder in ["in", "state", "sink", "identity"] {
            std::os::unix::fs::chown(dir.join(folder), Some(NOBODY), Some(NOBODY))?;
        }
    }
    Ok(may_run)
}

/// Copies a folder with what is in it.
pub(super) fn copy(from: &Path, to: &Path) -> io::Result<()> {
    std::fs::create_dir(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type()?.is_dir() {
            copy(&from, &to)?;
        } else {
            std::fs::copy(&from, &to)?;
        }
    }
    Ok(())
}
