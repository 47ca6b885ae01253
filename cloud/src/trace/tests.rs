use std::sync::Mutex;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use axum::routing::get;
use opentelemetry::Context;
use opentelemetry::trace::{SpanKind, Status};
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{Span, SpanData, SpanProcessor};
use tower::{Layer, Service};

use super::*;

/// Keeps what ends.
#[derive(Debug, Clone, Default)]
struct Kept(Arc<Mutex<Vec<SpanData>>>);

impl SpanProcessor for Kept {
    fn on_start(&self, _span: &mut Span, _context: &Context) {}

    fn on_end(&self, span: SpanData) {
        self.0.lock().unwrap().push(span);
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _timeout: Duration) -> OTelSdkResult {
        Ok(())
    }
}

impl Kept {
    fn layer(&self) -> layer::TraceLayer {
        let provider = SdkTracerProvider::builder().with_span_processor(self.clone()).build();
        layer::TraceLayer::new(Some(provider.tracer("test")))
    }

    fn take(&self) -> Vec<SpanData> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

fn router() -> Router {
    Router::new()
        .route("/v2/models/m", get(|| std::future::ready("here")))
        .route("/v2/health/live", get(|| std::future::ready("")))
        .route("/broken", get(|| std::future::ready(StatusCode::SERVICE_UNAVAILABLE)))
        .route("/never", get(std::future::pending::<&str>))
}

fn asked(path: &str, headers: &[(&str, &str)]) -> Request<Body> {
    let mut request = Request::get(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Body::empty()).unwrap()
}

fn attribute(span: &SpanData, name: &str) -> String {
    let found = span.attributes.iter().find(|attribute| attribute.key.as_str() == name);
    found.map_or_else(String::new, |attribute| attribute.value.to_string())
}

#[tokio::test]
async fn plain_http_gets_a_span_with_its_status() {
    let kept = Kept::default();
    // Around a router, and within one: both compile and do the same.
    let mut service = kept.layer().layer(router());
    let mut routed: Router = router().layer(kept.layer());
    for path in ["/v2/models/m", "/v2/health/live", "/broken"] {
        drop(service.call(asked(path, &[])).await.unwrap());
        drop(routed.call(asked(path, &[])).await.unwrap());
    }
    let spans = kept.take();
    assert_eq!(spans.len(), 4, "probes are not traced: {spans:?}");
    let (well, broken) = (&spans[0], &spans[2]);
    assert!(well.name == "GET" && well.span_kind == SpanKind::Server && well.status == Status::Unset);
    assert_eq!(attribute(well, "url.path"), "/v2/models/m");
    assert_eq!(attribute(well, "http.response.status_code"), "200");
    assert_eq!(
        (attribute(broken, "error.type"), broken.status.clone()),
        ("503".to_owned(), Status::error(""))
    );
}

#[tokio::test]
async fn a_call_that_is_dropped_was_cancelled_and_keeps_its_parent() {
    let kept = Kept::default();
    let mut service = kept.layer().layer(router());
    let headers = [
        ("content-type", "application/grpc"),
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    ];
    let call = service.call(asked("/never", &headers));
    assert!(tokio::time::timeout(Duration::ZERO, call).await.is_err());
    let span = kept.take().remove(0);
    assert_eq!((span.name.as_ref(), attribute(&span, "rpc.method").as_str()), ("never", "never"));
    assert_eq!(attribute(&span, "rpc.response.status_code"), "CANCELLED");
    assert_eq!(span.span_context.trace_id().to_string(), "0af7651916cd43dd8448eb211c80319c");
    assert!(span.parent_span_id.to_string() == "b7ad6b7169203331" && span.parent_span_is_remote);
}

#[tokio::test]
async fn a_malformed_context_begins_a_new_trace() {
    let kept = Kept::default();
    let mut service = kept.layer().layer(router());
    for parent in ["", "00-0-0-01", "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "\u{7f}é"] {
        let Ok(value) = http::HeaderValue::from_bytes(parent.as_bytes()) else { continue };
        let mut request = asked("/broken", &[]);
        request.headers_mut().insert("traceparent", value);
        drop(service.call(request).await.unwrap());
        let span = kept.take().remove(0);
        assert!(!span.parent_span_is_remote && span.span_context.is_valid(), "{parent}");
    }
}

#[tokio::test]
async fn a_collector_that_cannot_be_named_is_refused() {
    for (endpoint, words) in [("not a url", "not a url"), ("https://127.0.0.1:4317", "TLS")] {
        let config = TracesConfig { endpoint: Some(endpoint.to_owned()), ..TracesConfig::default() };
        let message = Traces::start(&config, "node-1").unwrap_err().to_string();
        assert!(message.starts_with("`traces.endpoint`: ") && message.contains(words), "{message}");
    }
}
