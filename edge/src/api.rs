//! The agent's own gRPC: `millgate.v1.InferenceService` on loopback, with health and reflection.
//!
//! The same service as the pool's, so that a client need not know which of the two it talks to; here the pool is asked
//! only as the agent's policy says.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use millgate_shared::decision::Decision;
use millgate_shared::door::incoming::Door;
use millgate_shared::door::peer::Peer;
use millgate_shared::proto::v1::inference_service_server::{
    InferenceService, InferenceServiceServer, SERVICE_NAME as INFERENCE,
};
use millgate_shared::proto::v1::label_service_server::{LabelServiceServer, SERVICE_NAME as LABELS};
use millgate_shared::proto::{FILE_DESCRIPTOR_SET, MAX_MESSAGE_BYTES, v1};
use millgate_shared::shutdown::Tasks;
use millgate_shared::wire::stream_error;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::{Request, Response, Status, Streaming};
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::SERVICE_NAME as HEALTH;

use crate::agent::Agent;
use crate::audit::Audits;
use crate::crash::Hand;
use crate::crash::law::Item;
use crate::metrics::Metrics;
use crate::outbox::Outbox;

mod config;
mod labels;
mod request;
mod status;

pub use config::ApiConfig;
use labels::{LABEL_BYTES, LabelApi};

/// Samples of one stream that are decided at a time; more wait in the caller's window.
const PER_STREAM: usize = 16;

/// Calls of one connection at a time; a client holds back one more.
const PER_CONNECTION: u32 = 128;
/// A peer that says nothing is asked whether it lives after this time, and dropped after [`KEEPALIVE_TIMEOUT`].
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Calls at work, to be waited for.
#[derive(Debug, Clone, Default)]
pub struct Calls(TaskTracker);

impl Calls {
    /// Waits until none is left, or until `until`.
    pub async fn ended(&self, until: Instant) {
        self.0.close();
        // Those that are left are cut.
        let _late = tokio::time::timeout_at(until, self.0.wait()).await.is_err();
    }
}

#[derive(Debug, Clone)]
struct Api {
    agent: Agent,
    /// `None`: its decisions go to their callers alone.
    outbox: Option<Outbox>,
    hand: Hand,
    metrics: Arc<Metrics>,
    audits: Audits,
    calls: Calls,
    stop: CancellationToken,
}

/// What calls are served with.
pub(crate) struct Rooms {
    pub(crate) agent: Agent,
    /// Where decisions go as well, if there is one.
    pub(crate) outbox: Option<Outbox>,
    pub(crate) hand: Hand,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) audits: Audits,
}

/// Serves until `tasks` stop.
pub(crate) async fn start(
    door: Door,
    rooms: Rooms,
    calls: &Calls,
    tasks: &Tasks,
) -> Result<(), tonic_reflection::server::Error> {
    let Rooms { agent, outbox, hand, metrics, audits } = rooms;
    let (reporter, health) = tonic_health::server::health_reporter();
    reporter.set_serving::<InferenceServiceServer<Api>>().await;
    reporter.set_serving::<LabelServiceServer<LabelApi>>().await;
    let reflection = || {
        // The descriptors hold the pool's services too, which are not offered here.
        let offered = [
            INFERENCE,
            LABELS,
            HEALTH,
            "grpc.reflection.v1.ServerReflection",
            "grpc.reflection.v1alpha.ServerReflection",
        ];
        offered
            .into_iter()
            .fold(tonic_reflection::server::Builder::configure(), |builder, name| {
                builder.with_service_name(name)
            })
            .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            // For clients that show the details of an error.
            .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
    };
    let (reflection_v1, reflection_v1alpha) = (reflection().build_v1()?, reflection().build_v1alpha()?);
    let labels = LabelServiceServer::new(LabelApi::new(audits.labels(), calls))
        .max_decoding_message_size(LABEL_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let (calls, stop) = (calls.clone(), tasks.token().clone());
    let api = Api { agent, outbox, hand, metrics, audits, calls, stop };
    let inference = InferenceServiceServer::new(api)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let stop = tasks.token().clone().cancelled_owned();
    let seats = Arc::clone(door.seats());
    let server = tonic::transport::Server::builder()
        .max_concurrent_streams(PER_CONNECTION)
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .add_service(health)
        .add_service(reflection_v1)
        .add_service(reflection_v1alpha)
        .add_service(inference)
        .add_service(labels)
        .serve_with_incoming_shutdown(door.connections(), stop);
    tasks.spawn(async move {
        if let Err(error) = server.await {
            tracing::error!(%error, "gRPC port has failed");
        }
    });
    let stop = tasks.token().clone();
    tasks.spawn(async move {
        stop.cancelled().await;
        // tonic would wait for those that have said nothing.
        seats.clear();
        reporter.set_not_serving::<InferenceServiceServer<Api>>().await;
        reporter.set_not_serving::<LabelServiceServer<LabelApi>>().await;
        // The agent as a whole, which most probes ask for.
        reporter.set_service_status("", ServingStatus::NotServing).await;
    });
    Ok(())
}

type Answers = Pin<Box<dyn Stream<Item = Result<v1::DecideStreamResponse, Status>> + Send>>;

#[tonic::async_trait]
impl InferenceService for Api {
    async fn decide(
        &self,
        request: Request<v1::DecideRequest>,
    ) -> Result<Response<v1::DecideResponse>, Status> {
        let _call = self.calls.0.token();
        is_served(&request);
        let limit = request::timeout(request.metadata());
        let request = request.into_inner();
        let request_id = request.request_id.clone();
        let decision = self.decide_one(request, limit).await?;
        Ok(Response::new(v1::DecideResponse { request_id, decision: Some(decision.into()) }))
    }

    type DecideStreamStream = Answers;

    async fn decide_stream(
        &self,
        request: Request<Streaming<v1::DecideRequest>>,
    ) -> Result<Response<Self::DecideStreamStream>, Status> {
        let call = self.calls.0.token();
        is_served(&request);
        let api = self.clone();
        // A stop ends the reading; what was read is still answered.
        let requests = request.into_inner().take_until(self.stop.clone().cancelled_owned());
        let answers = requests
            .map(move |request| {
                let api = api.clone();
                async move { api.answer(request?).await }
            })
            .buffer_unordered(PER_STREAM)
            .inspect(move |_| {
                // Held as long as the stream.
                let _held = &call;
            });
        Ok(Response::new(Box::pin(answers)))
    }
}

/// Notes that a caller asks for something: its connection stays, where one that only greets leaves for others.
fn is_served<T>(request: &Request<T>) {
    if let Some(peer) = request.extensions().get::<Peer>() {
        peer.is_served();
    }
}

impl Api {
    /// One of a stream: a sample that fails is answered in band.
    async fn answer(&self, request: v1::DecideRequest) -> Result<v1::DecideStreamResponse, Status> {
        use v1::decide_stream_response::Result as Answer;
        let request_id = request.request_id.clone();
        let result = match self.decide_one(request, None).await {
            Ok(decision) => Answer::Decision(decision.into()),
            Err(status) => Answer::Error(stream_error(&status)),
        };
        Ok(v1::DecideStreamResponse { request_id, result: Some(result) })
    }

    async fn decide_one(
        &self,
        request: v1::DecideRequest,
        limit: Option<Duration>,
    ) -> Result<Decision, Status> {
        let by = limit.map(|limit| Instant::now() + limit.saturating_sub(request::TRAVEL));
        let kept_back =
            |limit| self.outbox.as_ref().map_or(Duration::ZERO, |outbox| outbox.keeps_back(limit));
        let limit = limit.map(|limit| limit.saturating_sub(kept_back(limit)));
        // Read and decided by one bundle, whatever is switched meanwhile.
        let epoch = self.agent.epoch();
        let parsed = request::parse(request, &epoch, limit).inspect_err(|status| {
            self.metrics.undecided(status::code_name(status));
        })?;
        let held = self.hand.take(&Item::Call).await;
        let policy = parsed.ask.policy.clone().unwrap_or_else(|| epoch.policy().clone());
        let parts = parsed.input.parts.clone();
        match self.agent.decide_open(&epoch, parsed.input, parsed.ask, Some(held)).await {
            Ok(mut decided) => {
                self.metrics.decided(&decided.decision);
                self.audits.decided(&mut decided, &epoch, &policy, &parts);
                Ok(match &self.outbox {
                    Some(outbox) => outbox.call(decided, by).await,
                    None => decided.decision,
                })
            }
            Err(error) => {
                self.metrics.undecided(error.code());
                Err(status::of(&error))
            }
        }
    }
}
