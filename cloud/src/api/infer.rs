//! One inference request, whatever protocol brings it: counted from its arrival, read, answered by its deadline,
//! written.

use std::sync::Arc;
use std::time::Instant;

use super::clock::Clock;
use super::{Api, status};
use crate::access::Caller;
use crate::failure::Failure;
use crate::holding::Hold;
use crate::pool::Pool;
use crate::serving::request::{Call, InferRequest, InferResponse, Kept};

/// What is known of a call before its request is read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arrival {
    /// The method's name in metrics.
    pub(crate) method: &'static str,
    pub(crate) at: Instant,
    /// The call's own deadline, beside the one that its request may name.
    pub(crate) deadline: Option<Instant>,
}

impl Api {
    /// `read` gives the request, what it holds, and what `write` needs to know of it.
    pub(crate) async fn infer<Noted, Answer, Write>(
        &self,
        arrival: Arrival,
        caller: &Caller,
        read: impl Future<Output = Result<(InferRequest, Option<Arc<Hold>>, Noted), Failure>>,
        write: impl FnOnce(InferResponse, Noted) -> Write,
    ) -> Result<Answer, Failure>
    where
        Write: Future<Output = Result<Answer, Failure>>,
    {
        let Arrival { method, at, deadline } = arrival;
        let clock = Clock::new(at, deadline, None, self.default_deadline);
        let mut guard = self.metrics.begin(method, clock.deadline);
        let answer = async {
            let (request, held, noted) = clock.limit(read).await?;
            caller.may_run(self.pool.manifest().as_deref(), &request.model)?;
            let timeout = request.timeout()?;
            let clock = Clock::new(at, deadline, timeout, self.default_deadline);
            guard.until(clock.deadline);
            let serving = self.pool.serving();
            let kept: Kept = held.clone().map(|held| held as _);
            let call = Call::new(caller.standing()?, at, clock.deadline).keeping(kept);
            let work = async {
                let response = serving.infer(request, call).await?;
                if let Some(held) = &held {
                    held.grow(response.size() as u64)?;
                }
                write(response, noted).await
            };
            clock.limit(work).await
        };
        let answer = answer.await;
        guard.end(status::name_of(&answer));
        answer
    }

    pub(crate) fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    /// Loading computes for a while, so it gets a thread of its own.
    pub(crate) async fn change_models(
        &self,
        change: impl FnOnce(&Pool) -> Result<(), Failure> + Send + 'static,
    ) -> Result<(), Failure> {
        let pool = Arc::clone(&self.pool);
        let done = tokio::task::spawn_blocking(move || change(&pool)).await;
        done.unwrap_or_else(|error| Err(Failure::Model(error.to_string())))
    }
}
