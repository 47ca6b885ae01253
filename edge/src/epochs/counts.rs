//! Which bundles the agent has, and how often it was switched, as `/metrics` shows it.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::Named;

/// What came of a switch, a rollback, or a look at the configured bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Switched,
    /// The bundle was active already.
    Unchanged,
    /// The bundle was at fault.
    Refused,
    /// Another switch was under way, there was nothing to go back to, or the state directory was at fault.
    Failed,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Shown {
    digest: String,
    version: String,
    /// active or before.
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Ended {
    result: &'static str,
}

/// Cheap to clone: all clones are one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counts {
    /// `bundle_info{digest,version,state}`: 1 for the active bundle and for the one before.
    info: Family<Shown, Gauge>,
    /// `bundle_switches_total{result}`: switched, unchanged, refused or failed.
    switches: Family<Ended, Counter>,
}

impl Counts {
    /// Shows them on `/metrics`.
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register("bundle_info", "The bundles of this process, always 1", self.info.clone());
        let help = "Switches of the bundle, rollbacks among them, by result";
        registry.register("bundle_switches", help, self.switches.clone());
    }

    pub(super) fn count(&self, outcome: Outcome) {
        let result = match outcome {
            Outcome::Switched => "switched",
            Outcome::Unchanged => "unchanged",
            Outcome::Refused => "refused",
            Outcome::Failed => "failed",
        };
        self.switches.get_or_create(&Ended { result }).inc();
    }

    pub(super) fn show(&self, active: &Named, previous: Option<&Named>) {
        self.info.clear();
        let states = previous.map(|previous| (previous, "before")).into_iter().chain([(active, "active")]);
        for (Named { digest, version, .. }, state) in states {
            let shown = Shown { digest: digest.clone(), version: version.clone(), state };
            self.info.get_or_create(&shown).set(1);
        }
    }
}
