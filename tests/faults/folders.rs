//! A folder below the watched one that is elsewhere for a while: renamed, or covered by a file system that is mounted over
//! it.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Pid;

use super::plan::Absence;

/// A folder that is away.
#[derive(Debug)]
pub enum Away {
    Renamed { place: PathBuf, kept: PathBuf },
    Covered { place: PathBuf },
}

impl Away {
    /// Takes a folder away. `agent` has mounts of its own, which nobody else sees. `None` where nothing may be mounted.
    pub fn take(place: &Path, how: Absence, agent: Option<Pid>) -> io::Result<Option<Self>> {
        match how {
            Absence::Renamed => {
                let mut kept = place.to_path_buf().into_os_string();
                kept.push(".elsewhere");
                // Beside the watched folder, where nobody looks.
                let around = place.parent().and_then(Path::parent).unwrap_or(Path::new("."));
                let kept = around.join(Path::new(&kept).file_name().unwrap_or_default());
                std::fs::rename(place, &kept)?;
                Ok(Some(Self::Renamed { place: place.to_path_buf(), kept }))
            }
            Absence::Covered => {
                let is_covered = agent.is_some_and(|agent| {
                    inside(agent, "mount")
                        .args(["-t", "tmpfs", "millgate-test"])
                        .arg(place)
                        .output()
                        .is_ok_and(|output| output.status.success())
                });
                Ok(is_covered.then(|| Self::Covered { place: place.to_path_buf() }))
            }
        }
    }

    /// Brings it back. An agent that was started meanwhile has other mounts.
    pub fn bring_back(self, agent: Option<Pid>) -> io::Result<()> {
        match self {
            Self::Renamed { place, kept } => std::fs::rename(kept, place),
            Self::Covered { place } => {
                // Where it was not covered, or is no more, this fails.
                if let Some(agent) = agent {
                    let _other = inside(agent, "umount").arg("-l").arg(&place).output().is_err();
                }
                let _other = Command::new("umount").arg("-l").arg(&place).output().is_err();
                Ok(())
            }
        }
    }
}

/// A command among the mounts of a process.
fn inside(process: Pid, program: &str) -> Command {
    let mut command = Command::new("nsenter");
    command.args(["-m", "-t"]).arg(process.as_raw_nonzero().to_string()).arg(program);
    command
}
