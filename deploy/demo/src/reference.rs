//! What each side alone would have said of a sample. Not part of what is timed.

use std::time::Duration;

use millgate_edge::agent::Ask;
use millgate_edge::input::Input;
use millgate_shared::deciding::{Mode, Policy};
use millgate_shared::proto::v1;
use millgate_shared::wire::{framed_len, write_part};

use crate::stage::{Stage, TASK};

/// Far over what an answer takes: here the answer counts, not its time.
const PATIENCE: Duration = Duration::from_secs(5);

/// The pool's verdict on the raw files, and what it cost to send them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloudOnly {
    pub verdict: Result<String, String>,
    /// The request's, gRPC framing included: counted as the agent counts its own.
    pub bytes: u64,
}

impl Stage {
    /// The agent's local experts, never the pool.
    pub async fn edge_only(&self, input: Input) -> Result<String, String> {
        let policy = Policy { mode: Mode::Never, deadline: PATIENCE, ..self.agent.epoch().policy().clone() };
        let ask = Ask { policy: Some(policy), ..Ask::default() };
        let decision = self.agent.decide(input, ask).await.map_err(|error| error.to_string())?;
        Ok(decision.verdict.label)
    }

    /// The pool, asked directly: the link may be cut.
    pub async fn cloud_only(&self, input: Input) -> CloudOnly {
        let parts = input.parts.into_iter().map(write_part).collect();
        let sample = v1::Sample { task: TASK.to_owned(), parts, ..v1::Sample::default() };
        let message = v1::DecideRequest { sample: Some(sample), ..v1::DecideRequest::default() };
        let bytes = framed_len(&message);
        let mut request = tonic::Request::new(message);
        request.set_timeout(PATIENCE);
        let answered = self.direct.clone().decide(request).await;
        let verdict = match answered {
            Ok(response) => response
                .into_inner()
                .decision
                .and_then(|decision| decision.verdict)
                .map(|verdict| verdict.label)
                .ok_or_else(|| "the pool's answer holds no verdict".to_owned()),
            Err(status) => Err(status.message().to_owned()),
        };
        CloudOnly { verdict, bytes }
    }
}
