//! How much memory this process holds, and held at most since it was last asked.

use std::fs;

/// Written to the kernel's file, it begins a new peak.
const NEW_PEAK: &str = "5";
const RESET: &str = "/proc/self/clear_refs";
const STATUS: &str = "/proc/self/status";

/// Begins a new peak, and gives what is held now, in bytes; `None` where the kernel does not say.
pub(super) fn begin() -> Option<u64> {
    fs::write(RESET, NEW_PEAK).ok()?;
    value(&fs::read_to_string(STATUS).ok()?, "VmRSS:")
}

/// The most that was held since [`begin`], in bytes.
pub(super) fn peak() -> Option<u64> {
    value(&fs::read_to_string(STATUS).ok()?, "VmHWM:")
}

/// Value of a line like `VmRSS:   1024 kB`, in bytes.
fn value(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peak_is_seen_after_it_has_passed() {
        const MIB: usize = 1 << 20;
        // Tests beside this one begin and free memory too, in the same process.
        let is_seen = || {
            let Some(before) = begin() else { return true };
            let taken = std::hint::black_box(vec![1_u8; 64 * MIB]);
            drop(taken);
            peak().unwrap() >= before + 32 * MIB as u64
        };
        assert!((0..20).any(|_| is_seen()));
        assert_eq!(value("VmRSS:\t  12 kB\nVmHWM:\t 20 kB\n", "VmHWM:"), Some(20 << 10));
        assert_eq!(value("VmRSS:\t12 pages\n", "VmRSS:"), None);
    }
}
