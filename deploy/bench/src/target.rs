//! The server under load: its connections and the calls on them.

use std::time::{Duration, Instant};

use millgate_shared::proto::MAX_MESSAGE_BYTES;
use millgate_shared::proto::inference::grpc_inference_service_client::GrpcInferenceServiceClient;
use millgate_shared::proto::inference::{ModelMetadataRequest, ModelMetadataResponse, ModelReadyRequest};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

use crate::LoadError;

pub type Client = GrpcInferenceServiceClient<Channel>;

/// Flow-control windows in bytes, as the pool has them, so that neither side waits for the other's.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;
const DIALLED_AGAIN_AFTER: Duration = Duration::from_millis(100);

pub async fn connect(url: &str) -> Result<Client, LoadError> {
    let refuse = |source| LoadError::Connect { url: url.to_owned(), source };
    let endpoint = Endpoint::from_shared(url.to_owned()).map_err(refuse)?;
    let endpoint = endpoint
        .tcp_nodelay(true)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW);
    let channel = endpoint.connect().await.map_err(refuse)?;
    Ok(GrpcInferenceServiceClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES))
}

pub(crate) fn failed(what: String) -> impl FnOnce(Status) -> LoadError {
    move |status| LoadError::Call { what, status: Box::new(status) }
}

pub async fn metadata(client: &mut Client, model: &str) -> Result<ModelMetadataResponse, LoadError> {
    let request = ModelMetadataRequest { name: model.to_owned(), version: String::new() };
    let answer = client.model_metadata(request).await;
    answer.map(tonic::Response::into_inner).map_err(failed(format!("ModelMetadata of `{model}`")))
}

/// Waits until a server answers there and every model is ready.
pub async fn wait_until_ready(url: &str, models: &[String], patience: Duration) -> Result<(), LoadError> {
    let end = Instant::now() + patience;
    while Instant::now() < end {
        if let Ok(mut client) = connect(url).await
            && are_ready(&mut client, models).await
        {
            return Ok(());
        }
        tokio::time::sleep(DIALLED_AGAIN_AFTER).await;
    }
    Err(LoadError::NotReady(patience.as_secs_f64()))
}

async fn are_ready(client: &mut Client, models: &[String]) -> bool {
    for name in models {
        let mut request = Request::new(ModelReadyRequest { name: name.clone(), version: String::new() });
        request.set_timeout(Duration::from_secs(5));
        if !client.model_ready(request).await.is_ok_and(|answer| answer.get_ref().ready) {
            return false;
        }
    }
    true
}
