//! How often bundles were switched, as `/metrics` shows it.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

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
struct ResultLabels {
    result: &'static str,
}

/// Switches by result.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    switches: Family<ResultLabels, Counter>,
}

impl Counts {
    pub(crate) fn register(&self, registry: &mut Registry) {
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
        self.switches.get_or_create(&ResultLabels { result }).inc();
    }
}
