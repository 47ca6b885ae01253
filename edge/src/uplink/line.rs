//! One dialled line: a channel, the stream on it, and what the pool said of itself.

use std::time::Duration;

use millgate_shared::bundle::BundleDigest;
use millgate_shared::proto::v1::expert_service_client::ExpertServiceClient;
use millgate_shared::proto::{MAX_MESSAGE_BYTES, v1};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::{Channel, Endpoint};

use super::UplinkConfig;

/// Requests that wait for the transport.
const QUEUE: usize = 64;
/// A dead peer is noticed after this much silence, twice.
const KEEPALIVE: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Line {
    requests: mpsc::Sender<v1::RunExpertsRequest>,
    responses: Streaming<v1::RunExpertsStreamResponse>,
    digest: BundleDigest,
    named_bundle: bool,
    node: String,
}

impl Line {
    /// Connects, asks the pool what it holds, and opens the stream. The caller bounds the time.
    pub(super) async fn dial(config: &UplinkConfig) -> Result<Self, String> {
        let mut client = client(&config.url, config.dial_timeout).await?;
        let listed = client
            .list_experts(v1::ListExpertsRequest {})
            .await
            .map_err(|status| format!("the pool refuses ListExperts: {}", status.message()))?
            .into_inner();
        if BundleDigest::from_bytes(&listed.bundle_digest) != Some(config.digest) {
            return Err(format!(
                "the pool holds bundle {} {}, the agent another one: one of the two has to be updated",
                listed.bundle_name, listed.bundle_version
            ));
        }
        let (requests, receiver) = mpsc::channel(QUEUE);
        let responses = client
            .run_experts_stream(ReceiverStream::new(receiver))
            .await
            .map_err(|status| format!("the pool refuses RunExpertsStream: {}", status.message()))?
            .into_inner();
        Ok(Self { requests, responses, digest: config.digest, named_bundle: false, node: listed.node })
    }

    pub(super) fn node(&self) -> &str {
        &self.node
    }

    /// False if the queue to the transport is full. The first request names the bundle for all.
    pub(super) fn send(&mut self, mut request: v1::RunExpertsRequest) -> bool {
        if !self.named_bundle {
            request.bundle_digest = self.digest.as_bytes().to_vec().into();
        }
        let sent = self.requests.try_send(request).is_ok();
        self.named_bundle |= sent;
        sent
    }

    /// The next answer. Cancel-safe.
    pub(super) async fn receive(&mut self) -> Result<v1::RunExpertsStreamResponse, String> {
        match self.responses.message().await {
            Ok(Some(response)) => Ok(response),
            Ok(None) => Err("the pool closed the stream".to_owned()),
            Err(status) => Err(format!("the stream broke: {}", status.message())),
        }
    }
}

/// A client on a fresh connection.
pub async fn client(url: &str, connect_timeout: Duration) -> Result<ExpertServiceClient<Channel>, String> {
    let channel = endpoint(url)?
        .connect_timeout(connect_timeout)
        .connect()
        .await
        .map_err(|error| format!("cannot connect: {}", root_cause(&error)))?;
    Ok(ExpertServiceClient::new(channel)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES))
}

/// Checks a pool's address and sets what every connection to it shares.
pub fn endpoint(url: &str) -> Result<Endpoint, String> {
    let endpoint =
        Endpoint::from_shared(url.to_owned()).map_err(|error| format!("`{url}` is no URL: {error}"))?;
    match endpoint.uri().scheme_str() {
        Some("http") => {}
        _ => return Err(format!("`{url}` must begin with http://")),
    }
    Ok(endpoint
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE)
        .keep_alive_while_idle(true))
}

fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
