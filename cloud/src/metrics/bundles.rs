//! The bundles that are answered: the active one, and the one before it while it is kept.

use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;

use crate::pool::Pool;

/// For a registry whose prefix is `millgate`.
#[derive(Debug)]
pub(super) struct Bundles {
    pub(super) pool: Arc<Pool>,
}

impl Collector for Bundles {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> std::fmt::Result {
        let Some(active) = self.pool.hosted() else { return Ok(()) };
        let before = self.pool.before().map(|before| ("before", before.hosted));
        let help = "The bundles that are answered";
        let mut family = encoder.encode_descriptor("bundle", help, None, MetricType::Info)?;
        for (state, hosted) in std::iter::once(("active", active)).chain(before) {
            let manifest = hosted.manifest();
            let digest = hosted.digest().to_string();
            let labels = [
                ("name", manifest.name.as_str()),
                ("version", manifest.version.as_str()),
                ("digest", digest.as_str()),
                ("state", state),
            ];
            family.encode_info(&labels)?;
        }
        Ok(())
    }
}
