//! `InferenceService`: a raw sample in, a decision out.

use std::time::{Duration, Instant};

use futures_util::stream::BoxStream;
use millgate_shared::bundle::manifest::Manifest;
use millgate_shared::deciding::{Mode, Policy, PolicyError, Wish};
use millgate_shared::proto::v1;
use millgate_shared::proto::v1::inference_service_server::InferenceService;
use millgate_shared::sample::Origin;
use millgate_shared::wire::{read_parts, read_wish, unread};
use tonic::{Request, Response, Status, Streaming};

use super::clock::Clock;
use super::{Api, deadline, digest, reply, status, stream};
use crate::access::Caller;
use crate::failure::Failure;
use crate::holding::{Account, Hold};
use crate::metrics::RunResult;
use crate::mixture::{self, Question};
use crate::serving::request::Call;

#[tonic::async_trait]
impl InferenceService for Api {
    async fn decide(
        &self,
        request: Request<v1::DecideRequest>,
    ) -> Result<Response<v1::DecideResponse>, Status> {
        let clock = self.clock(&request, None);
        let caller = super::caller(&request)?;
        let held = super::held(&request);
        let request = request.into_inner();
        let request_id = request.request_id.clone();
        let decision = self.answer("Decide", clock, decide(self, &caller, (request, held), clock)).await;
        reply(decision.map(|decision| v1::DecideResponse { request_id, decision: Some(decision) }))
    }

    type DecideStreamStream = BoxStream<'static, Result<v1::DecideStreamResponse, Status>>;

    async fn decide_stream(
        &self,
        request: Request<Streaming<v1::DecideRequest>>,
    ) -> Result<Response<Self::DecideStreamStream>, Status> {
        use v1::decide_stream_response::Result as InBand;
        let whole = deadline::of(&request);
        let caller = super::caller(&request)?;
        let (api, account) = (self.clone(), super::claimed(&request));
        let call = move |request: v1::DecideRequest| {
            let held = account.as_ref().and_then(Account::next);
            let clock = Clock::new(Instant::now(), whole, None, api.default_deadline);
            let (api, caller) = (api.clone(), caller.clone());
            async move {
                let request_id = request.request_id.clone();
                let work = decide(&api, &caller, (request, held), clock);
                let decision = api.answer("DecideStream", clock, work).await;
                let result = match decision {
                    Ok(decision) => InBand::Decision(decision),
                    Err(failure) => InBand::Error(status::in_band(&failure)),
                };
                v1::DecideStreamResponse { request_id, result: Some(result) }
            }
        };
        let requests = request.into_inner();
        Ok(Response::new(stream::answers(requests, self.in_flight_per_stream, self.stop.clone(), call)))
    }
}

async fn decide(
    api: &Api,
    caller: &Caller,
    (request, held): (v1::DecideRequest, Option<Hold>),
    clock: Clock,
) -> Result<v1::Decision, Failure> {
    let pool = &api.pool;
    let hosted = match request.bundle_digest.is_empty() {
        true => pool.bundle()?,
        false => pool.bundle_of(digest::read(&request.bundle_digest)?)?,
    };
    let wish = read_wish(&request);
    let sample = request.sample.ok_or_else(|| Failure::field("sample", "is missing"))?;
    caller.may_ask(&sample.task)?;
    for expert in &request.pinned {
        caller.may_run(Some(hosted.manifest()), expert)?;
    }
    let policy = policy(hosted.manifest(), &sample.task, wish, clock)?;
    let origin = origin(&sample);
    let (task, parts) = (sample.task, read_parts("sample.parts", sample.parts)?);
    let question = Question { task: &task, policy, origin };
    let refuse = |error| unread("sample.parts", &error).into();
    let call = Call::new(caller.standing()?, clock.arrived, clock.deadline).keeping(super::kept(held));
    let decision =
        mixture::decide(&hosted, pool.serving(), &pool.place(), question, parts, refuse, call).await?;
    for share in &decision.experts {
        api.metrics.expert_run(&share.name, RunResult::Ok);
        api.metrics.computed(&share.name, Duration::from_micros(share.latency_us));
    }
    for missing in decision.degraded.iter().flat_map(|degraded| &degraded.missing) {
        api.metrics.expert_run(&missing.name, RunResult::Failed);
    }
    Ok(decision.into())
}

/// Every expert is within reach here, so modes differ only in whether the gate is asked.
fn policy(manifest: &Manifest, task: &str, wish: Wish, clock: Clock) -> Result<Policy, Failure> {
    let standard = Policy { mode: Mode::Gate, ..Policy::for_bundle(manifest) };
    let refuse = |error: PolicyError| Failure::field(error.field, error.message);
    let asked = standard.asked(wish).map_err(refuse)?;
    // A task that is not there is refused where it is looked for.
    if let Some(task) = manifest.task(task) {
        asked.check_scope(task).map_err(refuse)?;
    }
    let mode = match asked.mode {
        // The agent's question, whether to ask the cloud, does not arise in it.
        Mode::Confidence => Mode::Gate,
        mode => mode,
    };
    Ok(Policy { mode, deadline: clock.deadline - clock.arrived, ..asked })
}

fn origin(wire: &v1::Sample) -> Origin {
    let named = |text: &String| (!text.is_empty()).then(|| text.clone());
    Origin {
        path: wire.path.clone(),
        source: named(&wire.source),
        part_id: named(&wire.part_id),
        captured_at: named(&wire.captured_at),
        ..Origin::default()
    }
}
