//! The queue, for people.

use std::io::{self, Write};
use std::time::Duration;

use crate::spool::status::{Listed, Status};

pub(super) fn show(
    out: &mut impl Write,
    status: &Status,
    entries: Option<&[Listed]>,
    is_running: bool,
) -> io::Result<()> {
    let awaits = if status.entries == 1 { "decision awaits" } else { "decisions await" };
    writeln!(out, "{} provisional {awaits} an amendment", status.entries)?;
    let mut line = |name: &str, text: String| writeln!(out, "  {name:12} {text}");
    let share = status.bytes as f64 * 100.0 / status.max_bytes.max(1) as f64;
    let (used, most) = (bytes(status.bytes), bytes(status.max_bytes));
    line(
        "on the disk",
        format!("{used} of {most} ({share:.1} %), {} of it needed", bytes(status.live_bytes)),
    )?;
    line("oldest", status.oldest_seconds.map_or_else(|| "-".to_owned(), seconds))?;
    let next = match (is_running, status.next_try_seconds) {
        (false, _) => "the agent is not running".to_owned(),
        (true, None) => "-".to_owned(),
        (true, Some(0.0)) => "as soon as the pool can be asked".to_owned(),
        (true, Some(next)) => format!("in {}", seconds(next)),
    };
    line("next try", next)?;
    let left = status.hours_left.map_or_else(
        || "nothing comes in".to_owned(),
        |hours| {
            let rate = bytes(status.bytes_per_hour as u64);
            format!("{} at the last day's {rate} an hour, then {}", seconds(hours * 3600.0), status.when_full)
        },
    );
    line("room left", left)?;
    for (bundle, count) in &status.bundles {
        line("of bundle", format!("{bundle}: {count}"))?;
    }
    line("quarantined", format!("{} pieces, {}", status.quarantined, bytes(status.quarantined_bytes)))?;
    if is_running {
        let closed: Vec<String> = status.closed.iter().map(|(why, count)| format!("{why} {count}")).collect();
        let closed = if closed.is_empty() { "none".to_owned() } else { closed.join(", ") };
        line("closed", format!("{closed} (since the agent's start)"))?;
        line("found full", format!("{} (since the agent's start)", status.refused_full))?;
        if let Some(factor) = status.write_amplification {
            line("written", format!("{factor:.3} bytes for each byte taken"))?;
        }
    }
    for entry in entries.unwrap_or_default() {
        let Listed { id, state, tries, bundle, .. } = entry;
        let (age, size) = (seconds(entry.age_seconds), bytes(entry.bytes));
        writeln!(out, "{id}  {state:12} {size:>10}  {age:>10}  {tries} tries  {bundle}")?;
    }
    Ok(())
}

fn bytes(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{:.1} KiB", bytes as f64 / 1024.0),
        1_048_576..1_073_741_824 => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
        _ => format!("{:.1} GiB", bytes as f64 / 1_073_741_824.0),
    }
}

fn seconds(seconds: f64) -> String {
    let whole = Duration::try_from_secs_f64(seconds.max(0.0).round()).unwrap_or(Duration::MAX);
    let mut parts = humantime::format_duration(whole).to_string();
    // Two units are enough.
    if let Some((at, _)) = parts.match_indices(' ').nth(1) {
        parts.truncate(at);
    }
    parts
}
