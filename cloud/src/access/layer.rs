//! The layer before all services, for gRPC and REST alike: it puts the [`super::Caller`] and the
//! [`crate::principal::Principal`] into each request, and turns away at once whoever is nobody. What is open to all is a
//! short list of paths.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};
use tower::{Layer, Service};

use super::Access;
use super::book::Denial;
use crate::door::peer::Peer;
use crate::failure::Failure;

/// For answers with bodies of one kind.
#[derive(Debug)]
pub(crate) struct AccessLayer<Out> {
    access: Arc<Access>,
    is_open: fn(&str) -> bool,
    refuse: fn(&Failure) -> Response<Out>,
}

impl<Out> AccessLayer<Out> {
    /// `is_open`: paths that anyone may call.
    pub(crate) fn new(
        access: Arc<Access>,
        is_open: fn(&str) -> bool,
        refuse: fn(&Failure) -> Response<Out>,
    ) -> Self {
        Self { access, is_open, refuse }
    }
}

impl<Out> Clone for AccessLayer<Out> {
    fn clone(&self) -> Self {
        Self { access: Arc::clone(&self.access), is_open: self.is_open, refuse: self.refuse }
    }
}

impl<S, Out> Layer<S> for AccessLayer<Out> {
    type Service = Guarded<S, Out>;

    fn layer(&self, inner: S) -> Guarded<S, Out> {
        Guarded { inner, layer: self.clone() }
    }
}

#[derive(Debug)]
pub(crate) struct Guarded<S, Out> {
    inner: S,
    layer: AccessLayer<Out>,
}

impl<S: Clone, Out> Clone for Guarded<S, Out> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), layer: self.layer.clone() }
    }
}

impl<S, In, Out> Service<Request<In>> for Guarded<S, Out>
where
    S: Service<Request<In>, Response = Response<Out>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
    In: Send + 'static,
    Out: Send + 'static,
{
    type Response = Response<Out>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Out>, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<In>) -> Self::Future {
        let AccessLayer { access, is_open, refuse } = self.layer.clone();
        let caller = access.caller(request.extensions().get::<Peer>(), request.headers());
        let is_open = is_open(request.uri().path());
        let granted = if is_open { Ok(caller.granted().ok()) } else { caller.granted().map(Some) };
        if granted == Err(Denial::UnknownToken) {
            // It may have been made a moment ago. The one that is ready serves; its clone is made ready at the next call.
            let next = self.inner.clone();
            let mut inner = std::mem::replace(&mut self.inner, next);
            return Box::pin(async move {
                access.look_for_new_tokens().await;
                let rights = match caller.rights() {
                    Ok(rights) => rights,
                    Err(failure) => return Ok(refuse(&failure)),
                };
                caller.is_served();
                request.extensions_mut().insert(caller.principal(Some(&rights)));
                request.extensions_mut().insert(caller);
                inner.call(request).await
            });
        }
        let rights = match granted {
            Ok(rights) => rights,
            Err(denial) => {
                let failure = caller.denied(denial);
                return Box::pin(std::future::ready(Ok(refuse(&failure))));
            }
        };
        if !is_open {
            caller.is_served();
        }
        request.extensions_mut().insert(caller.principal(rights.as_deref()));
        request.extensions_mut().insert(caller);
        Box::pin(self.inner.call(request))
    }
}
