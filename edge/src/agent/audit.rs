//! A decision that was made here alone, put to the pool as well: what is asked, and what it answers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use millgate_shared::bundle::manifest::Tier;
use millgate_shared::decision::{Decision, UNKNOWN};
use millgate_shared::embedding::Embeddings;
use millgate_shared::index::ExpertIx;
use millgate_shared::sample::Sample;
use millgate_shared::scope::Scope;

use super::payload::{self, Seen};
use super::{Agent, Epoch, Left};
use crate::labels::{Audited, draw, is_local};
use crate::uplink::session::LinkState;
use crate::uplink::upload::Upload;

/// Nobody waits for the answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is to be asked.
#[derive(Debug)]
pub(crate) struct Audit {
    pub(crate) id: String,
    expert: ExpertIx,
    epoch: Arc<Epoch>,
    sample: Sample,
    embeddings: Option<Embeddings>,
}

impl Audit {
    /// One of a decision that was drawn for it by its id, if it was made here under the certificate, the line is up and an
    /// expert of the pool may see the sample.
    pub(super) fn of(
        agent: &Agent,
        epoch: &Arc<Epoch>,
        decision: &Decision,
        sample: Sample,
        embeddings: Option<Embeddings>,
    ) -> Option<Self> {
        let is_asked = draw(&decision.id) < agent.parts.config.bytes.audit && is_local(decision);
        if !is_asked || agent.link() != LinkState::Up {
            return None;
        }
        // Those that the gate could have chosen: none that policy or scope withholds. The one that it likes best is asked.
        let manifest = epoch.manifest();
        let eligible = decision.why.gate.iter().filter_map(|(name, score)| {
            let expert = manifest.expert_index(name)?;
            (manifest.experts[expert].tier == Tier::Cloud).then_some((expert, *score))
        });
        let (expert, _) = eligible.max_by(|(_, a), (_, b)| a.total_cmp(b))?;
        Some(Self { id: decision.id.clone(), expert, epoch: Arc::clone(epoch), sample, embeddings })
    }

    /// Asks the pool behind everything else, within the budget; gives its label, of those
    /// that could have been the answer.
    pub(crate) async fn ask(self, agent: &Agent, scope: &Scope) -> Result<String, Audited> {
        let Self { id: _, expert, epoch, sample, embeddings } = self;
        let of = Arc::clone(&epoch);
        // Pictures are encoded.
        let requests = tokio::task::spawn_blocking(move || {
            let embeddings = embeddings.unwrap_or_default();
            let seen = Seen { sample: &sample, embeddings: &embeddings };
            let uploads = payload::uploads(of.manifest(), of.upload_policy(), seen, [expert]);
            uploads.into_iter().filter_map(|(_, upload)| upload.ok().map(Upload::into_request)).collect()
        });
        let requests: Vec<_> = requests.await.map_err(|_| Audited::Withheld)?;
        if requests.is_empty() {
            return Err(Audited::Withheld);
        }
        let late = agent.ask_late(epoch.rules(), requests, &[], Instant::now() + PATIENCE).await;
        let Some(answer) = late.answers.first() else {
            return Err(match late.left {
                Some(Left::NoRoom(_) | Left::Withheld(_)) => Audited::Withheld,
                _ => Audited::Unanswered,
            });
        };
        let labels = &epoch.manifest().experts[expert].labels;
        let likeliest = answer.probabilities.iter().zip(labels).filter(|(_, label)| scope.allows(label));
        let likeliest = likeliest.max_by(|(a, _), (b, _)| a.total_cmp(b));
        Ok(likeliest.map_or_else(|| UNKNOWN.to_owned(), |(_, label)| label.clone()))
    }
}
