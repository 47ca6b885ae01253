//! What a request wants of its decision.

use millgate_model::deciding::Wish;

use crate::proto::v1;

/// Reads what a request names of it; what is left empty is not wished for.
pub fn read_wish(request: &v1::DecideRequest) -> Wish {
    Wish {
        mode: request.mode.clone(),
        risk: request.risk,
        pinned: request.pinned.clone(),
        labels: request.labels.clone(),
        false_alarms: request.false_alarms,
    }
}
