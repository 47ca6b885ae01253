//! What the spool counts.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::Closed;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Why {
    reason: String,
}

/// Cheap to clone: all clones are one.
#[derive(Debug, Clone, Default)]
pub(crate) struct SpoolMetrics {
    /// `spool_entries`: provisional decisions that await an amendment.
    pub(crate) entries: Gauge,
    /// `spool_bytes`: on the disk.
    pub(crate) bytes: Gauge,
    /// `spool_live_bytes`: of the entries alone.
    pub(crate) live_bytes: Gauge,
    /// `spool_oldest_seconds`: age of the oldest entry; 0 when there is none.
    pub(crate) oldest_seconds: Gauge<f64, AtomicU64>,
    /// `spool_accepted_total`: entries taken.
    pub(crate) accepted: Counter,
    /// `spool_accepted_bytes_total`: bytes of entries taken.
    pub(crate) accepted_bytes: Counter,
    /// `spool_written_bytes_total`: bytes written for them. The ratio of the two is the write amplification.
    pub(crate) written_bytes: Counter,
    /// `spool_syncs_total`: waits for the disk.
    pub(crate) syncs: Counter,
    /// `spool_damaged_total`: damaged stretches that were set aside.
    pub(crate) damaged: Counter,
    /// `spool_retries_total`: entries asked without an answer.
    pub(crate) retries: Counter,
    /// `spool_refused_full_total`: provisional decisions that found it full and will not be amended.
    pub(crate) refused_full: Counter,
    /// `spool_refused_disk_total`: attempts to write an entry that failed; files try again.
    pub(crate) refused_disk: Counter,
    closed: Family<Why, Counter>,
}

impl SpoolMetrics {
    /// `spool_closed_total{reason}`: entries closed.
    pub(crate) fn closed(&self, why: Closed) -> Counter {
        self.closed.get_or_create(&Why { reason: why.as_str().to_owned() }).clone()
    }

    /// Shows them on `/metrics`.
    pub(crate) fn register(&self, registry: &mut Registry) {
        for why in Closed::ALL {
            self.closed(why);
        }
        let spool = registry.sub_registry_with_prefix("spool");
        spool.register("entries", "Provisional decisions that await an amendment", self.entries.clone());
        spool.register("bytes", "Bytes on the disk", self.bytes.clone());
        spool.register("live_bytes", "Bytes of entries that are needed", self.live_bytes.clone());
        spool.register("oldest_seconds", "Age of the oldest entry", self.oldest_seconds.clone());
        spool.register("accepted", "Entries taken", self.accepted.clone());
        spool.register("accepted_bytes", "Bytes of entries taken", self.accepted_bytes.clone());
        spool.register("written_bytes", "Bytes written for entries taken", self.written_bytes.clone());
        spool.register("syncs", "Waits for the disk", self.syncs.clone());
        spool.register("damaged", "Damaged stretches that were set aside", self.damaged.clone());
        spool.register("retries", "Entries asked without an answer", self.retries.clone());
        spool.register("refused_full", "Provisional decisions that found it full", self.refused_full.clone());
        spool.register("refused_disk", "Writes of entries that failed", self.refused_disk.clone());
        spool.register("closed", "Entries closed, by why", self.closed.clone());
    }
}
