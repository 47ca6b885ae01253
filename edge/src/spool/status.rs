//! What `millgate-edge queue` shows.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The spool as a whole.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Provisional decisions that await an amendment.
    pub entries: usize,
    /// Entries by the `sha256:<hex>` of the bundle that decided them, and that amends them.
    pub bundles: BTreeMap<String, usize>,
    /// How many of the entries are being asked right now.
    pub asked: usize,
    /// Bytes on the disk, with those that are not needed any more and not removed yet.
    pub bytes: u64,
    /// Bytes of the entries alone.
    pub live_bytes: u64,
    pub max_bytes: u64,
    /// Age of the oldest entry in seconds; `None` where there is none.
    pub oldest_seconds: Option<f64>,
    /// Seconds until the next entry's own pause is over; `None` where no entry waits for its pause.
    pub next_try_seconds: Option<f64>,
    /// Bytes taken in an hour, on the average of the last day.
    pub bytes_per_hour: f64,
    /// Hours until the spool is full at that rate; `None` while nothing comes in.
    pub hours_left: Option<f64>,
    /// How many damaged stretches were set aside in the folder `quarantine`.
    pub quarantined: u64,
    pub quarantined_bytes: u64,
    /// Entries closed since the start of the agent, by reason.
    pub closed: BTreeMap<String, u64>,
    /// Entries that found the spool full, since the start of the agent.
    pub refused_full: u64,
    /// What happens to an entry that finds the spool full: `refuse_new` or `drop_oldest`.
    pub when_full: String,
    /// Bytes written for each byte taken, since the start of the agent.
    pub write_amplification: Option<f64>,
}

/// One entry.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Listed {
    pub id: String,
    /// held, waiting or asked.
    pub state: String,
    pub bytes: u64,
    pub age_seconds: f64,
    pub tries: u32,
    /// Digest of the bundle that decided, as `sha256:<hex>`.
    pub bundle: String,
}
