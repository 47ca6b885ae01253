//! What an operator can set of worker processes: `[guests]`.

use std::time::Duration;

use millgate_shared::memory;
use serde::Deserialize;

/// Less memory than this runs no model worth the name.
const LEAST_MEMORY: u64 = 64;
/// What a process may take where the kernel tells of no limit, in bytes.
const UNKNOWN: u64 = 4 << 30;
/// The least that is derived, in bytes: an engine with a small model and room for its requests.
const LEAST_DERIVED: u64 = 256 << 20;

/// `[guests]`: the processes that models run in. Durations are in milliseconds, as the key says.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GuestsConfig {
    /// Memory that one process may take, in MiB; what it asks for beyond fails its run, or ends it. 0 takes half of what
    /// the machine or the pool's control group has left when the pool starts. Default 0.
    pub memory_mib: u64,
    /// How long a process may take to load a model, in milliseconds; then it is ended. Default 60000.
    pub load_limit_ms: u64,
    /// How long one run may take in any case, in milliseconds; then its process is ended. Default 60000.
    pub longest_run_ms: u64,
}

impl Default for GuestsConfig {
    fn default() -> Self {
        Self { memory_mib: 0, load_limit_ms: 60_000, longest_run_ms: 60_000 }
    }
}

impl GuestsConfig {
    /// What cannot be used, as the key and what is wrong with it.
    pub(crate) fn check(&self) -> Result<(), (&'static str, String)> {
        if (1..LEAST_MEMORY).contains(&self.memory_mib) {
            return Err(("guests.memory_mib", format!("must be 0 or at least {LEAST_MEMORY}")));
        }
        for (key, limit) in
            [("guests.load_limit_ms", self.load_limit_ms), ("guests.longest_run_ms", self.longest_run_ms)]
        {
            if limit == 0 {
                return Err((key, "must be at least 1".to_owned()));
            }
        }
        Ok(())
    }

    pub(crate) fn limits(&self) -> Limits {
        Limits::of(self, memory::available())
    }
}

/// What holds for every process, once everything is put together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Bytes that one process may take.
    pub(crate) memory: u64,
    /// Bytes that all of them may take together.
    pub(crate) memory_for_all: u64,
    pub(crate) load: Duration,
    pub(crate) run: Duration,
}

impl Limits {
    /// `available`: bytes that this process may still take, if that is known.
    fn of(config: &GuestsConfig, available: Option<u64>) -> Self {
        let available = available.unwrap_or(UNKNOWN);
        let memory = match config.memory_mib {
            0 => (available / 2).max(LEAST_DERIVED),
            mib => mib.saturating_mul(1 << 20),
        };
        Self {
            memory,
            // The rest is left to the pool itself.
            memory_for_all: (available - available / 4).max(memory),
            load: Duration::from_millis(config.load_limit_ms),
            run: Duration::from_millis(config.longest_run_ms),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_half_of_what_there_is_unless_it_is_said() {
        let limits = Limits::of(&GuestsConfig::default(), Some(3 << 30));
        assert_eq!((limits.memory, limits.memory_for_all), (3 << 29, 9 << 28));
        let said = GuestsConfig { memory_mib: 128, ..GuestsConfig::default() };
        assert_eq!(Limits::of(&said, Some(3 << 30)).memory, 128 << 20);
        assert_eq!(Limits::of(&GuestsConfig::default(), Some(0)).memory, LEAST_DERIVED);
        assert_eq!(Limits::of(&GuestsConfig::default(), None).memory, UNKNOWN / 2);
    }

    #[test]
    fn what_cannot_be_used_is_refused_by_its_key() {
        let refused = |config: GuestsConfig| config.check().unwrap_err().0;
        let usual = GuestsConfig::default();
        usual.check().unwrap();
        assert_eq!(refused(GuestsConfig { memory_mib: 1, ..usual.clone() }), "guests.memory_mib");
        assert_eq!(refused(GuestsConfig { load_limit_ms: 0, ..usual.clone() }), "guests.load_limit_ms");
        assert_eq!(refused(GuestsConfig { longest_run_ms: 0, ..usual }), "guests.longest_run_ms");
    }
}
