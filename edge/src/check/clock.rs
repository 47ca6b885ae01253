//! The clock: decisions carry its time, and a device without a battery starts in the past.

use std::path::Path;
use std::time::{Duration, SystemTime};

use millgate_shared::bundle::manifest;
use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};

use crate::finding::Item;

const ADVICE: &str =
    "set the clock, and let systemd-timesyncd or chrony keep it (`timedatectl set-ntp true`)";
/// Time zones and copying may make a file a little younger than now.
const SLACK: Duration = Duration::from_secs(24 * 3600);
/// Made by systemd-timesyncd when it has set the clock.
const SYNCHRONISED: &str = "/run/systemd/timesync/synchronized";
/// There while chrony or ntpd runs.
const DAEMONS: [&str; 3] = ["/run/chrony/chronyd.pid", "/run/chronyd.pid", "/run/ntpd.pid"];

/// The file may be left over from a daemon that was killed.
fn is_running(pid: &Path) -> bool {
    let number = std::fs::read_to_string(pid).ok().and_then(|text| text.trim().parse().ok());
    let asked = number.and_then(Pid::from_raw).map(test_kill_process);
    matches!(asked, Some(Ok(()) | Err(Errno::PERM)))
}

pub(super) fn check(bundle: Option<&Path>) -> Item {
    let now = SystemTime::now();
    let modified = |path: &Path| path.metadata().and_then(|metadata| metadata.modified()).ok();
    let built = std::env::current_exe().ok().and_then(|path| modified(&path));
    let bundled =
        bundle.and_then(|path| modified(&path.join(manifest::FILE_NAME)).or_else(|| modified(path)));
    let text = humantime::format_rfc3339_seconds(now).to_string();
    if let Some(latest) = built.max(bundled)
        && now + SLACK < latest
    {
        let message = format!("{text} is before this program or the bundle was made");
        return Item::failed("clock", message, ADVICE);
    }
    if Path::new(SYNCHRONISED).exists() {
        return Item::ok("clock", format!("{text}, synchronised"));
    }
    if DAEMONS.iter().any(|pid| is_running(Path::new(pid))) {
        return Item::ok("clock", format!("{text}, kept by a time daemon"));
    }
    Item::warning("clock", format!("{text}; nothing tells that it is synchronised"), ADVICE)
}
