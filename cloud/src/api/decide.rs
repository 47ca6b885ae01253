//! `InferenceService`: a raw sample in, a decision out. The whole decision is one job on one model thread.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::stream::BoxStream;
use millgate_shared::bundle::sha256_hex;
use millgate_shared::deciding::{Mode, Policy};
use millgate_shared::decision::{Context, Decision, Timings};
use millgate_shared::gate::Place;
use millgate_shared::image::Limits;
use millgate_shared::local::{Ask, Stay, prices};
use millgate_shared::proto::v1;
use millgate_shared::proto::v1::inference_service_server::InferenceService;
use millgate_shared::runner::Runner;
use millgate_shared::sample::Origin;
use millgate_shared::wire::read_images;
use millgate_shared::workers::Ticket;
use tonic::{Request, Response, Status, Streaming};

use super::clock::Clock;
use super::{Api, deadline, digest, reply, status, stream};
use crate::failure::Failure;
use crate::metrics::RunResult;
use crate::pool::Pool;

#[tonic::async_trait]
impl InferenceService for Api {
    async fn decide(
        &self,
        request: Request<v1::DecideRequest>,
    ) -> Result<Response<v1::DecideResponse>, Status> {
        let clock = self.clock(&request, None);
        let request = request.into_inner();
        let request_id = request.request_id.clone();
        let decision = self.answer("Decide", clock, decide(self, request, clock)).await;
        reply(decision.map(|decision| v1::DecideResponse { request_id, decision: Some(decision) }))
    }

    type DecideStreamStream = BoxStream<'static, Result<v1::DecideStreamResponse, Status>>;

    async fn decide_stream(
        &self,
        request: Request<Streaming<v1::DecideRequest>>,
    ) -> Result<Response<Self::DecideStreamStream>, Status> {
        use v1::decide_stream_response::Result as InBand;
        let whole = deadline::of(&request);
        let api = self.clone();
        let call = move |request: v1::DecideRequest| {
            let clock = Clock::new(Instant::now(), whole, None, api.default_deadline);
            let api = api.clone();
            async move {
                let request_id = request.request_id.clone();
                let decision = api.answer("DecideStream", clock, decide(&api, request, clock)).await;
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

async fn decide(api: &Api, request: v1::DecideRequest, clock: Clock) -> Result<v1::Decision, Failure> {
    let pool = &api.pool;
    if !request.bundle_digest.is_empty() {
        digest::check(&request.bundle_digest, pool.digest())?;
    }
    let policy = policy(pool, &request, clock)?;
    let sample = request.sample.ok_or_else(|| Failure::field("sample", "is missing"))?;
    let here = Arc::clone(pool);
    let work = pool.workers().run(move |runner, ticket| {
        let queued = ticket.queued;
        decide_here(&here, runner, ticket, &sample, policy, clock).map(|decision| (decision, queued))
    });
    let (decision, queued) = work.await.map_err(|error| Failure::from_work(pool, error))??;
    api.metrics.queued(queued);
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
fn policy(pool: &Pool, request: &v1::DecideRequest, clock: Clock) -> Result<Policy, Failure> {
    let mode = match request.mode.as_str() {
        // The agent's question, whether to ask the cloud, does not arise in it.
        "" | "confidence" => Mode::Gate,
        name => Mode::from_name(name, request.pinned.clone()).ok_or_else(|| {
            Failure::field("mode", format!("`{name}` is not one of {}", Mode::NAMES.join(", ")))
        })?,
    };
    if request.pinned.is_empty() && matches!(mode, Mode::Pinned(_)) {
        return Err(Failure::field("pinned", "must name the experts of mode `pinned`"));
    }
    let standard = Policy::for_bundle(pool.manifest());
    let risk = match request.risk {
        0.0 => standard.risk,
        risk if risk > 0.0 && risk < 1.0 => risk,
        risk => return Err(Failure::field("risk", format!("{risk} is not between 0 and 1"))),
    };
    Ok(Policy { mode, risk, deadline: clock.deadline - clock.arrived, ..standard })
}

/// On a model thread: decode, gate, experts, combine, record.
fn decide_here(
    pool: &Pool,
    runner: &mut Runner,
    ticket: Ticket<'_>,
    wire: &v1::Sample,
    policy: Policy,
    clock: Clock,
) -> Result<Decision, Failure> {
    if clock.is_over() {
        return Err(Failure::Deadline);
    }
    let started = Instant::now();
    let manifest = pool.manifest();
    let sample = read_images(manifest, "sample.images", &wire.images, &Limits::default())?;
    let decode = started.elapsed();

    let places = vec![Place::Local; manifest.experts.len()];
    let ask = Ask { task: &wire.task, policy, places, prices: prices(manifest) };
    let mut stay = Stay::begin(runner, sample, ask, clock.arrived)?;
    let todo = stay.start();
    stay.run(runner, todo, &|| ticket.is_cancelled() || clock.is_over());
    if clock.is_over() {
        return Err(Failure::Deadline);
    }

    let Stay { deciding, sample, mut runs, encode, gate, local } = stay;
    for run in runs.values_mut() {
        run.place = pool.place();
    }
    let combining = Instant::now();
    let outcome = deciding.finish()?;
    let timings = Timings {
        decode: decode.as_micros() as u64,
        encode: encode.as_micros() as u64,
        gate: gate.as_micros() as u64,
        local: local.as_micros() as u64,
        uplink: 0,
        combine: combining.elapsed().as_micros() as u64,
        total: clock.arrived.elapsed().as_micros() as u64,
    };
    let task = manifest.task(&wire.task).ok_or_else(|| Failure::field("sample.task", "is unknown"))?;
    let context = Context {
        id: uuid::Uuid::now_v7().to_string(),
        manifest,
        digest: pool.digest(),
        task,
        sample: &sample,
        origin: origin(pool, wire),
        runs,
        uplink_bytes: 0,
        timings,
    };
    Ok(Decision::record(outcome, context))
}

/// The digest is that of the picture of the bundle's first modality that is there, as it came.
fn origin(pool: &Pool, wire: &v1::Sample) -> Origin {
    let named = |text: &String| (!text.is_empty()).then(|| text.clone());
    let first = wire.images.iter().min_by_key(|image| pool.manifest().modality_index(&image.modality));
    Origin {
        path: wire.path.clone(),
        source: named(&wire.source),
        part_id: named(&wire.part_id),
        captured_at: named(&wire.captured_at),
        sha256: first.map_or_else(String::new, |image| sha256_hex(&image.data)),
    }
}
