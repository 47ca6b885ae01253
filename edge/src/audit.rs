//! What happens with a decision beside its delivery: it is noted for people to label, and a few that were made here are put
//! to the pool as well, so that the true error of local answers is known. Nothing of this delays a decision, and nothing of it
//! changes one.

use std::sync::Arc;

use millgate_shared::deciding::Policy;
use millgate_shared::part::Part;
use millgate_shared::scope::Scope;
use millgate_shared::shutdown::Tasks;
use tokio::sync::mpsc;

use crate::agent::{Agent, Audit, Decided, Epoch};
use crate::labels::{About, Audited, Counts, Labels};

/// Audits that wait; of more none are made. Each holds its sample.
const QUEUE: usize = 16;

/// Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Audits {
    labels: Labels,
    counts: Counts,
    waiting: mpsc::Sender<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    audit: Audit,
    /// The label that was decided.
    label: String,
    /// The labels that could have been.
    scope: Scope,
}

impl Audits {
    /// Asks one at a time until `tasks` stop.
    pub(crate) fn start(agent: &Agent, labels: Labels, counts: &Counts, tasks: &Tasks) -> Self {
        let (waiting, mut audits) = mpsc::channel::<Waiting>(QUEUE);
        let this = Self { labels: labels.clone(), counts: counts.clone(), waiting };
        let (agent, counts, token) = (agent.clone(), counts.clone(), tasks.token().clone());
        tasks.spawn(async move {
            while let Some(Some(Waiting { audit, label, scope })) =
                token.run_until_cancelled(audits.recv()).await
            {
                let id = audit.id.clone();
                let Some(answered) = token.run_until_cancelled(audit.ask(&agent, &scope)).await else {
                    return;
                };
                counts.audited(match &answered {
                    Ok(pools) if *pools == label => Audited::Agreed,
                    Ok(_) => Audited::Disagreed,
                    Err(audited) => *audited,
                });
                let Ok(pools) = answered else { continue };
                if pools != label {
                    tracing::warn!(id, label, pool = pools, "audit: the pool says otherwise");
                }
                labels.audited(&id, &pools);
            }
        });
        this
    }

    /// A decision was made of these parts, by this policy.
    pub(crate) fn decided(&self, decided: &mut Decided, epoch: &Arc<Epoch>, policy: &Policy, parts: &[Part]) {
        let (manifest, risk) = (epoch.manifest(), policy.risk);
        self.labels.note(&decided.decision, About { manifest, risk }, parts);
        // One test, one risk: what a caller asked for another is not part of it.
        let own = epoch.asked(decided.decision.sample.source.as_deref()).policy.risk;
        let Some(audit) = decided.audit.take().filter(|_| risk == own) else { return };
        let label = decided.decision.verdict.label.clone();
        let scope = policy.scope.clone();
        if self.waiting.try_send(Waiting { audit, label, scope }).is_err() {
            self.counts.audited(Audited::Skipped);
        }
    }

    pub(crate) fn labels(&self) -> &Labels {
        &self.labels
    }
}
