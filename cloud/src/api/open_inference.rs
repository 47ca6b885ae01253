//! `inference.GRPCInferenceService`: the Open Inference Protocol with Triton's extensions.

use std::sync::Arc;
use std::time::Instant;

use futures_util::stream::BoxStream;
use millgate_shared::proto::inference as proto;
use millgate_shared::proto::inference::grpc_inference_service_server::GrpcInferenceService;
use tonic::{Request, Response, Status, Streaming};

use super::infer::Arrival;
use super::{Api, deadline, reply, status, stream};
use crate::access::{Caller, may_run};
use crate::failure::{Failure, without_places};
use crate::heavy;
use crate::holding::{Account, Hold};
use crate::oip::{convert, describe, settings};
use crate::readiness::Readiness;
use crate::serving::request::InferResponse;
use crate::serving::run::Deployed;

/// What we answer beyond the protocol itself, in Triton's words.
const EXTENSIONS: [&str; 7] = [
    "binary_tensor_data",
    "classification",
    "model_configuration",
    "model_repository",
    "parameters",
    "schedule_policy",
    "statistics",
];

pub(crate) fn server_metadata() -> proto::ServerMetadataResponse {
    proto::ServerMetadataResponse {
        name: "millgate".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        extensions: EXTENSIONS.iter().map(|name| (*name).to_owned()).collect(),
    }
}

/// The pool's API as the Open Inference Protocol has it, and whether work is wanted.
#[derive(Debug, Clone)]
pub(super) struct OpenInference {
    pub(super) api: Api,
    pub(super) readiness: Readiness,
}

fn unsupported<T>(what: &str) -> Result<Response<T>, Status> {
    Err(status::of(&Failure::Unsupported(format!("{what} is not offered"))))
}

impl OpenInference {
    /// Is the caller allowed to know of this model?
    fn check<T>(&self, request: &Request<T>, model: &str) -> Result<(), Status> {
        let checked = super::caller(request)?.may_run(self.api.pool.manifest().as_deref(), model);
        checked.map_err(|failure| status::of(&failure))
    }

    fn check_admin<T>(&self, request: &Request<T>) -> Result<(), Status> {
        super::caller(request)?.may_change_the_pool().map_err(|failure| status::of(&failure))
    }

    async fn infer(
        &self,
        method: &'static str,
        caller: &Caller,
        request: (proto::ModelInferRequest, Option<Hold>),
        arrived: Instant,
        whole: Option<Instant>,
    ) -> Result<proto::ModelInferResponse, Failure> {
        let (request, held) = (request.0, request.1.map(Arc::new));
        let (size, typed) = (convert::request_size(&request), convert::is_typed(&request));
        let kept = held.clone();
        let read = async {
            // The work keeps what the message holds, also once nobody waits for it any more.
            let work = move || {
                kept.iter().try_for_each(|held| held.grow(convert::unfolds_to(&request)))?;
                convert::request(request)
            };
            Ok((heavy::run(size, work).await??, held, typed))
        };
        let write = |response: InferResponse, typed| async move {
            heavy::run(response.size(), move || convert::response(response, typed)).await
        };
        let arrival = Arrival { method, at: arrived, deadline: whole };
        self.api.infer(arrival, caller, read, write).await
    }
}

#[tonic::async_trait]
impl GrpcInferenceService for OpenInference {
    async fn server_live(
        &self,
        _request: Request<proto::ServerLiveRequest>,
    ) -> Result<Response<proto::ServerLiveResponse>, Status> {
        Ok(Response::new(proto::ServerLiveResponse { live: true }))
    }

    async fn server_ready(
        &self,
        _request: Request<proto::ServerReadyRequest>,
    ) -> Result<Response<proto::ServerReadyResponse>, Status> {
        Ok(Response::new(proto::ServerReadyResponse { ready: self.readiness.is_ready() }))
    }

    async fn model_ready(
        &self,
        request: Request<proto::ModelReadyRequest>,
    ) -> Result<Response<proto::ModelReadyResponse>, Status> {
        self.check(&request, &request.get_ref().name)?;
        let request = request.get_ref();
        let ready = self.api.pool.serving().find(&request.name, &request.version).is_ok();
        Ok(Response::new(proto::ModelReadyResponse { ready }))
    }

    async fn server_metadata(
        &self,
        _request: Request<proto::ServerMetadataRequest>,
    ) -> Result<Response<proto::ServerMetadataResponse>, Status> {
        Ok(Response::new(server_metadata()))
    }

    async fn model_metadata(
        &self,
        request: Request<proto::ModelMetadataRequest>,
    ) -> Result<Response<proto::ModelMetadataResponse>, Status> {
        self.check(&request, &request.get_ref().name)?;
        let request = request.get_ref();
        let serving = self.api.pool.serving();
        let found = serving.find(&request.name, &request.version);
        reply(found.map(|served| describe::metadata(&served, &serving.versions(&request.name))))
    }

    async fn model_infer(
        &self,
        request: Request<proto::ModelInferRequest>,
    ) -> Result<Response<proto::ModelInferResponse>, Status> {
        let (arrived, whole) = (Instant::now(), deadline::of(&request));
        let (caller, held) = (super::caller(&request)?, super::held(&request));
        reply(self.infer("ModelInfer", &caller, (request.into_inner(), held), arrived, whole).await)
    }

    type ModelStreamInferStream = BoxStream<'static, Result<proto::ModelStreamInferResponse, Status>>;

    async fn model_stream_infer(
        &self,
        request: Request<Streaming<proto::ModelInferRequest>>,
    ) -> Result<Response<Self::ModelStreamInferStream>, Status> {
        let whole = deadline::of(&request);
        let caller = super::caller(&request)?;
        let (service, account) = (self.clone(), super::claimed(&request));
        let call = move |request: proto::ModelInferRequest| {
            let held = account.as_ref().and_then(Account::next);
            let (service, caller, arrived) = (service.clone(), caller.clone(), Instant::now());
            async move {
                let id = request.id.clone();
                match service.infer("ModelStreamInfer", &caller, (request, held), arrived, whole).await {
                    Ok(response) => proto::ModelStreamInferResponse {
                        error_message: String::new(),
                        infer_response: Some(response),
                    },
                    // The id tells the client which of its requests it was.
                    Err(failure) => proto::ModelStreamInferResponse {
                        error_message: status::of(&failure).message().to_owned(),
                        infer_response: Some(proto::ModelInferResponse { id, ..Default::default() }),
                    },
                }
            }
        };
        let (limit, stop) = (self.api.in_flight_per_stream, self.api.stop.clone());
        Ok(Response::new(stream::answers(request.into_inner(), limit, stop, call)))
    }

    async fn model_config(
        &self,
        request: Request<proto::ModelConfigRequest>,
    ) -> Result<Response<proto::ModelConfigResponse>, Status> {
        self.check(&request, &request.get_ref().name)?;
        let request = request.get_ref();
        let found = self.api.pool.serving().find(&request.name, &request.version);
        reply(found.map(|served| proto::ModelConfigResponse { config: Some(describe::config(&served)) }))
    }

    async fn model_statistics(
        &self,
        request: Request<proto::ModelStatisticsRequest>,
    ) -> Result<Response<proto::ModelStatisticsResponse>, Status> {
        let rights = super::caller(&request)?.rights().map_err(|failure| status::of(&failure))?;
        if !request.get_ref().name.is_empty() {
            self.check(&request, &request.get_ref().name)?;
        }
        let request = request.get_ref();
        let pool = &self.api.pool;
        let serving = pool.serving();
        let is_allowed =
            |served: &Arc<Deployed>| may_run(&rights, pool.manifest().as_deref(), &served.name).is_ok();
        let found = match request.name.is_empty() {
            true => Ok(serving.all().into_iter().filter(is_allowed).collect()),
            false => serving.find_all(&request.name, &request.version),
        };
        reply(found.map(|served| proto::ModelStatisticsResponse {
            model_stats: served.iter().map(|served| describe::statistics(served)).collect(),
        }))
    }

    async fn repository_index(
        &self,
        request: Request<proto::RepositoryIndexRequest>,
    ) -> Result<Response<proto::RepositoryIndexResponse>, Status> {
        let rights = super::caller(&request)?.rights().map_err(|failure| status::of(&failure))?;
        let ready_only = request.get_ref().ready;
        let index = self.api.pool.serving().index();
        let models = index.into_iter().filter(|listed| !ready_only || listed.reason.is_none());
        let models = models
            .filter(|listed| may_run(&rights, self.api.pool.manifest().as_deref(), &listed.name).is_ok());
        let models = models.map(|listed| proto::repository_index_response::ModelIndex {
            name: listed.name,
            version: listed.version,
            state: if listed.reason.is_none() { "READY" } else { "UNAVAILABLE" }.to_owned(),
            reason: without_places(&listed.reason.or(listed.note).unwrap_or_default()),
        });
        Ok(Response::new(proto::RepositoryIndexResponse { models: models.collect() }))
    }

    async fn repository_model_load(
        &self,
        request: Request<proto::RepositoryModelLoadRequest>,
    ) -> Result<Response<proto::RepositoryModelLoadResponse>, Status> {
        self.check_admin(&request)?;
        self.check(&request, &request.get_ref().model_name)?;
        let request = request.into_inner();
        if let Some(name) = request.parameters.keys().next() {
            return unsupported(&format!("parameter `{name}`"));
        }
        let loaded = self.api.change_models(move |pool| pool.load_model(&request.model_name)).await;
        reply(loaded.map(|()| proto::RepositoryModelLoadResponse {}))
    }

    async fn repository_model_unload(
        &self,
        request: Request<proto::RepositoryModelUnloadRequest>,
    ) -> Result<Response<proto::RepositoryModelUnloadResponse>, Status> {
        self.check_admin(&request)?;
        self.check(&request, &request.get_ref().model_name)?;
        let name = request.into_inner().model_name;
        let unloaded = self.api.change_models(move |pool| pool.unload_model(&name)).await;
        reply(unloaded.map(|()| proto::RepositoryModelUnloadResponse {}))
    }

    async fn system_shared_memory_status(
        &self,
        _request: Request<proto::SystemSharedMemoryStatusRequest>,
    ) -> Result<Response<proto::SystemSharedMemoryStatusResponse>, Status> {
        Ok(Response::new(proto::SystemSharedMemoryStatusResponse::default()))
    }

    async fn system_shared_memory_register(
        &self,
        _request: Request<proto::SystemSharedMemoryRegisterRequest>,
    ) -> Result<Response<proto::SystemSharedMemoryRegisterResponse>, Status> {
        unsupported("shared memory")
    }

    async fn system_shared_memory_unregister(
        &self,
        _request: Request<proto::SystemSharedMemoryUnregisterRequest>,
    ) -> Result<Response<proto::SystemSharedMemoryUnregisterResponse>, Status> {
        unsupported("shared memory")
    }

    async fn cuda_shared_memory_status(
        &self,
        _request: Request<proto::CudaSharedMemoryStatusRequest>,
    ) -> Result<Response<proto::CudaSharedMemoryStatusResponse>, Status> {
        Ok(Response::new(proto::CudaSharedMemoryStatusResponse::default()))
    }

    async fn cuda_shared_memory_register(
        &self,
        _request: Request<proto::CudaSharedMemoryRegisterRequest>,
    ) -> Result<Response<proto::CudaSharedMemoryRegisterResponse>, Status> {
        unsupported("shared memory")
    }

    async fn cuda_shared_memory_unregister(
        &self,
        _request: Request<proto::CudaSharedMemoryUnregisterRequest>,
    ) -> Result<Response<proto::CudaSharedMemoryUnregisterResponse>, Status> {
        unsupported("shared memory")
    }

    async fn trace_setting(
        &self,
        request: Request<proto::TraceSettingRequest>,
    ) -> Result<Response<proto::TraceSettingResponse>, Status> {
        self.check_admin(&request)?;
        let model = &request.get_ref().model_name;
        if !model.is_empty() {
            self.api.pool.serving().find(model, "").map_err(|failure| status::of(&failure))?;
        }
        let Some(name) = request.get_ref().settings.keys().next() else {
            return Ok(Response::new(settings::trace_response(self.api.sampled)));
        };
        unsupported(&format!("changing trace settings (`{name}`)"))
    }

    async fn log_settings(
        &self,
        request: Request<proto::LogSettingsRequest>,
    ) -> Result<Response<proto::LogSettingsResponse>, Status> {
        self.check_admin(&request)?;
        let Some(name) = request.get_ref().settings.keys().next() else {
            return Ok(Response::new(settings::log_response()));
        };
        unsupported(&format!("changing log settings (`{name}`)"))
    }
}
