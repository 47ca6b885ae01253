//! A collector of traces in this process, which keeps what it gets.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use millgate_shared::shutdown::Tasks;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::Span;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

/// A span as it came.
#[derive(Debug, Clone)]
pub(super) struct Exported {
    /// The resource's name.
    pub(super) service: String,
    pub(super) span: Span,
}

impl Exported {
    pub(super) fn trace(&self) -> String {
        hex(&self.span.trace_id)
    }

    pub(super) fn id(&self) -> String {
        hex(&self.span.span_id)
    }

    pub(super) fn parent(&self) -> String {
        hex(&self.span.parent_span_id)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn text(value: Option<&AnyValue>) -> String {
    match value.and_then(|value| value.value.as_ref()) {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::BoolValue(flag)) => flag.to_string(),
        _ => String::new(),
    }
}

fn find(attributes: &[KeyValue], name: &str) -> String {
    text(attributes.iter().find(|attribute| attribute.key == name).and_then(|found| found.value.as_ref()))
}

/// Empty if there is none.
pub(super) fn attribute(exported: &Exported, name: &str) -> String {
    find(&exported.span.attributes, name)
}

#[derive(Debug, Clone, Default)]
struct Service {
    spans: Arc<Mutex<Vec<Exported>>>,
}

#[tonic::async_trait]
impl TraceService for Service {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let mut spans = self.spans.lock().unwrap();
        for of_resource in request.into_inner().resource_spans {
            let service = find(&of_resource.resource.unwrap_or_default().attributes, "service.name");
            for span in of_resource.scope_spans.into_iter().flat_map(|of_scope| of_scope.spans) {
                spans.push(Exported { service: service.clone(), span });
            }
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

#[derive(Debug)]
pub(super) struct Collector {
    address: SocketAddr,
    service: Service,
    tasks: Tasks,
}

impl Collector {
    pub(super) async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (service, tasks) = (Service::default(), Tasks::new());
        let server =
            tonic::transport::Server::builder().add_service(TraceServiceServer::new(service.clone()));
        let stop = tasks.token().clone().cancelled_owned();
        tasks.spawn(server.serve_with_incoming_shutdown(TcpListenerStream::new(listener), stop));
        Self { address, service, tasks }
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// In the order in which they began.
    pub(super) fn spans(&self) -> Vec<Exported> {
        let mut spans = self.service.spans.lock().unwrap().clone();
        spans.sort_by_key(|exported| exported.span.start_time_unix_nano);
        spans
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.tasks.stop();
    }
}
