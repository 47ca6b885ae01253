//! One call's server span: begun from its headers, ended with its status or when it is dropped.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use millgate_shared::wire::code_name;
use opentelemetry::propagation::{Extractor, TextMapPropagator};
use opentelemetry::trace::{Span as _, SpanKind, Status, TraceContextExt, Tracer};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracer;
use tonic::Code;
use tonic::codegen::http::{HeaderMap, HeaderName, Request, StatusCode, header};

/// Longer paths are cut: a client chooses them.
const LONGEST_PATH: usize = 256;
const GRPC_STATUS: &str = "grpc-status";

/// What a call's context carries besides its span, for those that make its children.
#[derive(Debug)]
pub(crate) struct Recorder {
    pub(crate) tracer: SdkTracer,
    /// When an answer was ready to be encoded, until it was.
    pub(super) answered: Mutex<Option<SystemTime>>,
}

impl Recorder {
    pub(crate) fn answered(&self, at: Option<SystemTime>) -> Option<SystemTime> {
        std::mem::replace(&mut *self.answered.lock().unwrap_or_else(PoisonError::into_inner), at)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Grpc,
    Http,
}

/// A call that is traced.
#[derive(Debug)]
pub(super) struct Call {
    context: Context,
    kind: Kind,
    has_status: bool,
}

struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(HeaderName::as_str).collect()
    }
}

impl Call {
    /// `None` if it is not sampled.
    pub(super) fn begin<B>(tracer: &SdkTracer, request: &Request<B>) -> Option<Self> {
        let path = request.uri().path();
        // Probes and reflection tell nothing and come all the time.
        if path.starts_with("/grpc.") || path.starts_with("/v2/health/") {
            return None;
        }
        let path = &path[..path.floor_char_boundary(LONGEST_PATH)];
        let content = request.headers().get(header::CONTENT_TYPE);
        let is_grpc = content.is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"));
        let (kind, name, attributes) = match is_grpc {
            true => {
                let method = path.trim_start_matches('/').to_owned();
                let attributes = vec![
                    KeyValue::new("rpc.system.name", "grpc"),
                    KeyValue::new("rpc.method", method.clone()),
                ];
                (Kind::Grpc, method, attributes)
            }
            false => {
                let method = request.method().as_str().to_owned();
                let attributes = vec![
                    KeyValue::new("http.request.method", method.clone()),
                    KeyValue::new("url.path", path.to_owned()),
                    KeyValue::new("url.scheme", "http"),
                ];
                (Kind::Http, method, attributes)
            }
        };
        let root = Context::new();
        let parent = TraceContextPropagator::new().extract_with_context(&root, &Headers(request.headers()));
        let builder = tracer.span_builder(name).with_kind(SpanKind::Server).with_attributes(attributes);
        let span = tracer.build_with_context(builder, &parent);
        if !span.is_recording() {
            return None;
        }
        let recorder = Recorder { tracer: tracer.clone(), answered: Mutex::new(None) };
        let context = parent.with_span(span).with_value(Arc::new(recorder));
        Some(Self { context, kind, has_status: false })
    }

    pub(super) fn context(&self) -> &Context {
        &self.context
    }

    /// An answer's head has come; it may hold the status already.
    pub(super) fn head(&mut self, status: StatusCode, headers: &HeaderMap) {
        match self.kind {
            Kind::Grpc => self.trailers(headers),
            Kind::Http => {
                self.has_status = true;
                let code = i64::from(status.as_u16());
                self.context.span().set_attribute(KeyValue::new("http.response.status_code", code));
                if status.is_server_error() {
                    self.failed(status.as_str().to_owned(), String::new());
                }
            }
        }
    }

    /// An answer's end has come.
    pub(super) fn trailers(&mut self, headers: &HeaderMap) {
        let Some(status) = headers.get(GRPC_STATUS).filter(|_| self.kind == Kind::Grpc) else { return };
        let message = headers.get("grpc-message").and_then(|message| message.to_str().ok());
        self.code(Code::from_bytes(status.as_bytes()), message.unwrap_or_default());
    }

    /// Bytes of an answer are ready.
    pub(super) fn data(&self) {
        let Some(recorder) = self.context.get::<Arc<Recorder>>() else { return };
        if let Some(from) = recorder.answered(None) {
            let builder = recorder.tracer.span_builder("encode").with_start_time(from);
            recorder.tracer.build_with_context(builder, &self.context).end();
        }
    }

    /// Ends a call to which there was no answer at all.
    pub(super) fn broken(&mut self) {
        match self.kind {
            Kind::Grpc => self.code(Code::Unknown, ""),
            Kind::Http => self.failed("no_answer".to_owned(), String::new()),
        }
    }

    fn code(&mut self, code: Code, message: &str) {
        self.has_status = true;
        self.context.span().set_attribute(KeyValue::new("rpc.response.status_code", code_name(code)));
        if is_ours(code) {
            self.failed(code_name(code).to_owned(), message.to_owned());
        }
    }

    fn failed(&self, kind: String, message: String) {
        let span = self.context.span();
        span.set_attribute(KeyValue::new("error.type", kind));
        span.set_status(Status::error(message));
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if !self.has_status && self.kind == Kind::Grpc {
            // Nobody waited for its end.
            self.code(Code::Cancelled, "");
        }
        self.context.span().end();
    }
}

/// Codes that are a server's fault, after the conventions for gRPC.
fn is_ours(code: Code) -> bool {
    matches!(
        code,
        Code::Unknown
            | Code::DeadlineExceeded
            | Code::Unimplemented
            | Code::Internal
            | Code::Unavailable
            | Code::DataLoss
    )
}
