//! `millgate.v1.LabelService`: what people say of decisions, for programs on the same device.

use millgate_shared::proto::v1;
use millgate_shared::proto::v1::label_service_server::LabelService;
use tonic::{Request, Response, Status};

use super::{Calls, is_served, status};
use crate::labels::Labels;
use crate::labels::kept::{Asked, Row, Say};

/// The longest request, in bytes: its texts have bounds of their own.
pub(super) const LABEL_BYTES: usize = 64 << 10;

/// The service.
#[derive(Debug, Clone)]
pub(super) struct LabelApi {
    labels: Labels,
    calls: Calls,
}

impl LabelApi {
    pub(super) fn new(labels: &Labels, calls: &Calls) -> Self {
        Self { labels: labels.clone(), calls: calls.clone() }
    }
}

#[tonic::async_trait]
impl LabelService for LabelApi {
    async fn label(&self, request: Request<v1::LabelRequest>) -> Result<Response<v1::LabelResponse>, Status> {
        let _call = self.calls.0.token();
        is_served(&request);
        let v1::LabelRequest { id, label, is_new, who, note } = request.into_inner();
        let said = self.labels.label(Say { id, label, is_new, who, note }).await;
        let row = said.map_err(|refusal| status::of_label(&refusal))?;
        Ok(Response::new(v1::LabelResponse { decision: Some(shown(row)) }))
    }

    async fn list_labels(
        &self,
        request: Request<v1::ListLabelsRequest>,
    ) -> Result<Response<v1::ListLabelsResponse>, Status> {
        let _call = self.calls.0.token();
        is_served(&request);
        let v1::ListLabelsRequest { page_size, page_token, open } = request.into_inner();
        let most = usize::try_from(page_size).unwrap_or(usize::MAX);
        let page = self.labels.list(Asked { after: page_token, most, open }).await;
        let page = page.map_err(|refusal| status::of_label(&refusal))?;
        Ok(Response::new(v1::ListLabelsResponse {
            decisions: page.rows.into_iter().map(shown).collect(),
            next_page_token: page.next.unwrap_or_default(),
        }))
    }
}

fn shown(row: Row) -> v1::LabelledDecision {
    let Row { decision, said } = row;
    let given = said.into_iter().map(|said| v1::GivenLabel {
        label: said.label,
        is_new: said.is_new,
        who: said.who,
        note: said.note,
        at: said.at,
    });
    v1::LabelledDecision {
        has_pictures: !decision.pictures.is_empty(),
        id: decision.id,
        task: decision.task,
        verdict: decision.label,
        source: decision.source.unwrap_or_default(),
        path: decision.path,
        pool: decision.pool.unwrap_or_default(),
        labels: given.collect(),
    }
}
