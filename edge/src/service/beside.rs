//! What stands beside the way of decisions: the labels that are kept of them, and their audits.

use millgate_shared::shutdown::Tasks;

use super::StartError;
use crate::agent::Agent;
use crate::audit::Audits;
use crate::config::EdgeConfig;
use crate::labels::{Labels, Law};
use crate::metrics::Metrics;
use crate::uplink::upload::SendForm;

/// Opens the labels, and begins to audit until `tasks` stop.
pub(super) async fn start(
    config: &EdgeConfig,
    agent: &Agent,
    metrics: &Metrics,
    tasks: &Tasks,
) -> Result<Audits, StartError> {
    let send = &config.offload.send;
    // What may never leave the device as it is is not gathered here to be exported either.
    let may_be_kept = |form: SendForm| form != SendForm::Features;
    let named = send.modality.iter().map(|(name, form)| (name.clone(), may_be_kept(*form))).collect();
    let law = Law {
        share: config.labels.keep_share.max(config.offload.audit),
        has_pictures: config.labels.enabled && config.labels.keep_bytes > 0,
        keeps_others: may_be_kept(send.default),
        named,
    };
    let (dir, labels, counts) = (config.state_dir.clone(), config.labels.clone(), metrics.labels.clone());
    // Every page of a database is read.
    let open = move || Labels::start(dir, &labels, law, &counts);
    let labels = tokio::task::spawn_blocking(open).await.map_err(|_| StartError::Panicked)?;
    Ok(Audits::start(agent, labels, &metrics.labels, tasks))
}
