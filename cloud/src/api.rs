//! The gRPC services as one router, and what every call goes through: a clock, a count, one mapping of errors.

use std::sync::Arc;
use std::time::{Duration, Instant};

use millgate_shared::proto::inference::grpc_inference_service_server::{
    GrpcInferenceServiceServer, SERVICE_NAME as OPEN_INFERENCE,
};
use millgate_shared::proto::v1::enrollment_service_server::EnrollmentServiceServer;
use millgate_shared::proto::v1::expert_service_server::{ExpertServiceServer, SERVICE_NAME as EXPERTS};
use millgate_shared::proto::v1::inference_service_server::{
    InferenceServiceServer, SERVICE_NAME as INFERENCE,
};
use millgate_shared::proto::{FILE_DESCRIPTOR_SET, MAX_MESSAGE_BYTES};
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::codec::CompressionEncoding;
use tonic::service::Routes;
use tonic::{Request, Response, Status};
use tonic_health::pb::health_server::HealthServer;
use tonic_reflection::server::Error as ReflectionError;

use crate::access::layer::AccessLayer;
use crate::access::{Access, Caller};
use crate::failure::Failure;
use crate::holding::layer::{HoldingLayer, Protocol};
use crate::holding::{Account, Hold, Holding};
use crate::metrics::Metrics;
use crate::pool::Pool;
use crate::readiness::Readiness;
use crate::serving::request::Kept;
use clock::Clock;
use enrollment::Enroller;
use health::HealthService;
use open_inference::OpenInference;
pub(crate) use open_inference::server_metadata;
pub(crate) use status::shortened;

mod clock;
mod deadline;
mod decide;
mod digest;
pub(crate) mod enrollment;
mod experts;
mod health;
pub(crate) mod infer;
mod input;
mod listing;
mod open_inference;
mod status;
mod stream;

/// What anyone may call: whether the server lives, and how to become somebody.
const OPEN: [&str; 4] = [
    "/grpc.health.v1.Health/",
    "/inference.GRPCInferenceService/ServerLive",
    "/inference.GRPCInferenceService/ServerReady",
    "/millgate.v1.EnrollmentService/",
];

/// Both services of `millgate.v1`, and the Open Inference Protocol. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Api {
    pool: Arc<Pool>,
    metrics: Arc<Metrics>,
    /// Cancelled when no more calls are taken.
    stop: CancellationToken,
    default_deadline: Duration,
    in_flight_per_stream: usize,
    /// The share of calls that are traced, of those that bring no decision along; `None`: none ever is.
    sampled: Option<f64>,
}

impl Api {
    pub(crate) fn new(
        pool: Arc<Pool>,
        metrics: Arc<Metrics>,
        stop: CancellationToken,
        default_deadline: Duration,
        in_flight_per_stream: usize,
        sampled: Option<f64>,
    ) -> Self {
        Self { pool, metrics, stop, default_deadline, in_flight_per_stream, sampled }
    }

    pub(crate) fn sampled(&self) -> Option<f64> {
        self.sampled
    }

    /// The services, with health and reflection (v1 and v1alpha).
    pub(crate) fn routes(self, readiness: Readiness, enroller: Enroller) -> Result<Routes, ReflectionError> {
        let pool = Arc::clone(&self.pool);
        let has_expert = move |name: &str| pool.manifest().is_some_and(|it| it.expert_index(name).is_some());
        let services = ["", INFERENCE, EXPERTS, OPEN_INFERENCE];
        let health = HealthService::new(services, Box::new(has_expert), readiness.clone());
        let descriptors = || {
            tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
                // For clients that show the details of an error.
                .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
        };
        let open_inference = OpenInference { api: self.clone(), readiness };
        let open_inference = GrpcInferenceServiceServer::new(open_inference)
            .accept_compressed(CompressionEncoding::Gzip)
            .send_compressed(CompressionEncoding::Gzip)
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        let inference = InferenceServiceServer::new(self.clone())
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        let experts = ExpertServiceServer::new(self)
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        let enrollment = EnrollmentServiceServer::new(enroller)
            .max_decoding_message_size(enrollment::LONGEST_MESSAGE)
            .max_encoding_message_size(enrollment::LONGEST_MESSAGE);
        Ok(Routes::new(inference)
            .add_service(experts)
            .add_service(enrollment)
            .add_service(open_inference)
            .add_service(HealthServer::new(health))
            .add_service(descriptors().build_v1()?)
            .add_service(descriptors().build_v1alpha()?))
    }

    /// The layer that must wrap the routes; see [`deadline`].
    pub(crate) fn deadlines() -> deadline::DeadlineLayer {
        deadline::DeadlineLayer
    }

    /// The layer that must wrap the routes inside of the deadlines; see [`crate::access`].
    pub(crate) fn access(access: &Arc<Access>) -> AccessLayer<Body> {
        AccessLayer::new(Arc::clone(access), is_open, |failure| status::of(failure).into_http())
    }

    /// The layer that must wrap the routes inside of that of access; see [`crate::holding`].
    pub(crate) fn holding(holding: &Arc<Holding>) -> HoldingLayer<Body> {
        let protocol = Protocol::<Body> {
            is_open,
            refuse: |failure| status::of(failure).into_http(),
            arriving: Some((MAX_MESSAGE_BYTES, status::of)),
            fail: |failure| Ok(status::last(failure)),
        };
        HoldingLayer::new(Arc::clone(holding), protocol)
    }

    /// The clock of a unary call that may name a `timeout` besides its gRPC deadline.
    fn clock<T>(&self, request: &Request<T>, timeout: Option<Duration>) -> Clock {
        Clock::new(Instant::now(), deadline::of(request), timeout, self.default_deadline)
    }

    /// Runs a call to its end or its deadline, whichever is first, and counts it.
    async fn answer<T>(
        &self,
        method: &'static str,
        clock: Clock,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let guard = self.metrics.begin(method, clock.deadline);
        let answer = clock.limit(work).await;
        guard.end(status::name_of(&answer));
        answer
    }
}

/// True for what anyone may call.
fn is_open(path: &str) -> bool {
    OPEN.iter().any(|open| path.starts_with(open))
}

/// The caller of a request; an error if it came past the layer of access.
fn caller<T>(request: &Request<T>) -> Result<Caller, Status> {
    crate::access::caller(request.extensions()).map_err(|failure| status::of(&failure))
}

/// What the messages of a request hold; `None` if it came past the layer of holding.
fn account<T>(request: &Request<T>) -> Option<Account> {
    request.extensions().get::<Account>().cloned()
}

/// What a unary request holds.
fn held<T>(request: &Request<T>) -> Option<Hold> {
    request.extensions().get::<Account>()?.next()
}

/// What a message holds, for as long as its work lasts.
fn kept(held: Option<Hold>) -> Kept {
    held.map(|held| Arc::new(held) as _)
}

/// The account of a stream, each of whose messages is asked about.
fn claimed<T>(request: &Request<T>) -> Option<Account> {
    let account = account(request);
    account.iter().for_each(Account::claim);
    account
}

fn reply<T>(answer: Result<T, Failure>) -> Result<Response<T>, Status> {
    answer.map(Response::new).map_err(|failure| status::of(&failure))
}
