//! The layer that gives every call its server span, for gRPC (tonic) and plain HTTP (axum) alike.

use std::pin::Pin;
use std::task::{Context, Poll};

use opentelemetry::context::FutureExt;
use opentelemetry_sdk::trace::SdkTracer;
use tonic::codegen::http::{Request, Response};
use tower::{Layer, Service};

use super::body::TracedBody;
use super::call::Call;

/// Without a tracer it only passes on.
#[derive(Debug, Clone)]
pub(crate) struct TraceLayer {
    tracer: Option<SdkTracer>,
}

impl TraceLayer {
    pub(super) fn new(tracer: Option<SdkTracer>) -> Self {
        Self { tracer }
    }
}

impl<S> Layer<S> for TraceLayer {
    type Service = Traced<S>;

    fn layer(&self, inner: S) -> Traced<S> {
        Traced { inner, tracer: self.tracer.clone() }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Traced<S> {
    inner: S,
    tracer: Option<SdkTracer>,
}

impl<S, In, Out> Service<Request<In>> for Traced<S>
where
    S: Service<Request<In>, Response = Response<Out>>,
    S::Future: Send + 'static,
{
    type Response = Response<TracedBody<Out>>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<In>) -> Self::Future {
        let begun = self.tracer.as_ref().and_then(|tracer| Call::begin(tracer, &request));
        let Some(mut call) = begun else {
            let answer = self.inner.call(request);
            return Box::pin(async move { Ok(answer.await?.map(|body| TracedBody::new(body, None))) });
        };
        let answer = {
            let _guard = call.context().clone().attach();
            self.inner.call(request)
        };
        Box::pin(async move {
            match answer.with_context(call.context().clone()).await {
                Ok(response) => {
                    call.head(response.status(), response.headers());
                    Ok(response.map(|body| TracedBody::new(body, Some(call))))
                }
                Err(error) => {
                    call.broken();
                    Err(error)
                }
            }
        })
    }
}
