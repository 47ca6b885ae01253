//! What `millgate-edge queue` shows.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The spool as a whole.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Provisional decisions that await an amendment.
    pub entries: usize,
    /// Of them: by `sha256:<hex>` of the bundle that they were decided with, and are amended by.
    pub bundles: BTreeMap<String, usize>,
    /// Of them: being asked right now.
    pub asked: usize,
    /// On the disk, with what is not needed any more and not removed yet.
    pub bytes: u64,
    /// Of the entries alone.
    pub live_bytes: u64,
    pub max_bytes: u64,
    /// Age of the oldest, seconds.
    pub oldest_seconds: Option<f64>,
    /// Until the next entry is asked, as far as it is its own pause that is waited for, seconds.
    pub next_try_seconds: Option<f64>,
    /// What was taken over the last day, per hour.
    pub bytes_per_hour: f64,
    /// At that rate, until it is full; none while nothing comes in.
    pub hours_left: Option<f64>,
    /// Damaged stretches set aside in `quarantine`, and their bytes.
    pub quarantined: u64,
    pub quarantined_bytes: u64,
    /// Since the start of the agent, by why.
    pub closed: BTreeMap<String, u64>,
    /// Since the start of the agent: entries that found it full.
    pub refused_full: u64,
    /// refuse_new or drop_oldest.
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
    /// `sha256:<hex>`
    pub bundle: String,
}
