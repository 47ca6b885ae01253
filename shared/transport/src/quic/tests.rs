use std::net::Ipv4Addr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::{Stream, StreamExt, stream};
use millgate_rim::shutdown::Tasks;
use millgate_wire::proto::MAX_MESSAGE_BYTES;
use millgate_wire::proto::v1::expert_service_client::ExpertServiceClient;
use millgate_wire::proto::v1::expert_service_server::{ExpertService, ExpertServiceServer};
use millgate_wire::proto::v1::{
    ListExpertsRequest, ListExpertsResponse, RunExpertsRequest, RunExpertsResponse, RunExpertsStreamResponse,
};
use quinn::Connection;
use rustls::pki_types::PrivateKeyDer;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tonic::codec::CompressionEncoding;
use tonic::{Request, Response, Streaming};

use super::server::{Limits, bind, listen, serve};
use super::*;

mod calls;
mod endings;

/// Answers with what it is asked; `experts[0]` says how.
#[derive(Debug, Clone, Default)]
struct Echo {
    /// Calls that are being worked on.
    working: Arc<AtomicUsize>,
}

struct Working(Arc<AtomicUsize>);

impl Working {
    fn new(echo: &Echo) -> Self {
        echo.working.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(&echo.working))
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[tonic::async_trait]
impl ExpertService for Echo {
    async fn run_experts(
        &self,
        request: Request<RunExpertsRequest>,
    ) -> Result<Response<RunExpertsResponse>, Status> {
        let _working = Working::new(self);
        let (metadata, extensions, message) = request.into_parts();
        match message.experts.first().map_or("", String::as_str) {
            "never" => std::future::pending::<()>().await,
            "panic" => panic!("asked to"),
            "refuse" => {
                let mut status =
                    Status::with_details(Code::ResourceExhausted, "füll: 100 %", vec![1, 0, 255].into());
                status.metadata_mut().insert("retry", "later".parse().unwrap());
                return Err(status);
            }
            _ => {}
        }
        let mut response = Response::new(RunExpertsResponse {
            call_id: message.call_id,
            node: extensions.get::<String>().cloned().unwrap_or_default(),
            ..Default::default()
        });
        // As large as what came.
        response
            .get_mut()
            .answers
            .push(millgate_wire::proto::v1::ExpertAnswer { outputs: message.tensors, ..Default::default() });
        for key in ["echo", "echo-bin"] {
            if let Some(value) = metadata.as_ref().get(key) {
                response.metadata_mut().as_mut().insert(key, value.clone());
            }
        }
        Ok(response)
    }

    type RunExpertsStreamStream =
        Pin<Box<dyn Stream<Item = Result<RunExpertsStreamResponse, Status>> + Send>>;

    async fn run_experts_stream(
        &self,
        request: Request<Streaming<RunExpertsRequest>>,
    ) -> Result<Response<Self::RunExpertsStreamStream>, Status> {
        let working = Working::new(self);
        let answers = request.into_inner().map(move |message| {
            let _working = &working;
            message.map(|message| RunExpertsStreamResponse { call_id: message.call_id, result: None })
        });
        Ok(Response::new(answers.boxed()))
    }

    async fn list_experts(
        &self,
        _: Request<ListExpertsRequest>,
    ) -> Result<Response<ListExpertsResponse>, Status> {
        Ok(Response::new(ListExpertsResponse::default()))
    }
}

/// A server on loopback, and a client's channel to it.
struct Both {
    echo: Echo,
    channel: Channel,
    endpoint: Endpoint,
    /// The server's end of the channel.
    connection: Connection,
    stop: CancellationToken,
    serving: AbortOnDropHandle<Error>,
    _listener: quinn::Endpoint,
}

async fn both(limits: Limits) -> Both {
    let certified = rcgen::generate_simple_self_signed(vec!["pool".to_owned()]).unwrap();
    let certificate = certified.cert.der().clone();
    let key = PrivateKeyDer::Pkcs8(certified.signing_key.serialize_der().into());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let server = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate).unwrap();
    let client = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let socket = bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let listener = listen(socket, Arc::new(server), &Tuning::pool(limits.streams)).unwrap();
    let endpoint = Endpoint::client(Arc::new(client), &Tuning::agent()).unwrap();
    let accepted = async { listener.accept().await.unwrap().await.unwrap() };
    let address = listener.local_addr().unwrap();
    let (connection, channel) = tokio::join!(accepted, endpoint.connect(address, "pool"));
    let (echo, stop) = (Echo::default(), CancellationToken::new());
    let service = ExpertServiceServer::new(echo.clone())
        .accept_compressed(CompressionEncoding::Gzip)
        .send_compressed(CompressionEncoding::Gzip)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let mut extensions = http::Extensions::new();
    extensions.insert("from the connection".to_owned());
    let served = serve(connection.clone(), service, extensions, limits, stop.clone());
    let serving = AbortOnDropHandle::new(Tasks::new().spawn(served));
    Both { echo, channel: channel.unwrap(), endpoint, connection, stop, serving, _listener: listener }
}

fn client(both: &Both) -> ExpertServiceClient<Channel> {
    ExpertServiceClient::new(both.channel.clone())
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES)
}

fn ask(how: &str) -> RunExpertsRequest {
    RunExpertsRequest { call_id: 7, experts: vec![how.to_owned()], ..Default::default() }
}

/// Waits until a count is what it should be.
async fn until(count: &AtomicUsize, wanted: usize) {
    let reached = async {
        while count.load(Ordering::SeqCst) != wanted {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), reached).await.expect("in time");
}
