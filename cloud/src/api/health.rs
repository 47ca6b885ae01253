//! `grpc.health.v1`: the whole server (""), each service, and each expert as `expert/<name>`.

use std::future::ready;

use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use tonic::{Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_server::Health;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use super::status;
use crate::readiness::{Readiness, Unready};

/// How experts' names begin.
const EXPERT: &str = "expert/";

/// Whether the active bundle has an expert of this name.
type HasExpert = Box<dyn Fn(&str) -> bool + Send + Sync>;

/// Answers for services that are fixed at the start, and for the experts of the active bundle.
pub(crate) struct HealthService {
    services: [&'static str; 4],
    has_expert: HasExpert,
    readiness: Readiness,
}

impl std::fmt::Debug for HealthService {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HealthService").field("services", &self.services).finish_non_exhaustive()
    }
}

impl HealthService {
    pub(crate) fn new(services: [&'static str; 4], has_expert: HasExpert, readiness: Readiness) -> Self {
        Self { services, has_expert, readiness }
    }

    fn status(&self, name: &str) -> Option<ServingStatus> {
        let is_expert = || name.strip_prefix(EXPERT).is_some_and(|expert| (self.has_expert)(expert));
        (self.services.contains(&name) || is_expert()).then(|| status_of(self.readiness.is_ready()))
    }
}

fn status_of(is_ready: bool) -> ServingStatus {
    if is_ready { ServingStatus::Serving } else { ServingStatus::NotServing }
}

fn response(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status.into() }
}

#[tonic::async_trait]
impl Health for HealthService {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let name = &request.get_ref().service;
        let found = self.status(name).ok_or_else(|| status::unknown_health_name(name))?;
        Ok(Response::new(response(found)))
    }

    type WatchStream = BoxStream<'static, Result<HealthCheckResponse, Status>>;

    /// Ends when the pool drains, after saying so: a watcher must not hold the drain up.
    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let name = request.into_inner().service;
        let Some(now) = self.status(&name) else {
            let first = stream::once(ready(Ok(response(ServingStatus::ServiceUnknown))));
            let withdrawn = self.readiness.clone().withdrawn();
            let last = stream::once(async move {
                withdrawn.await;
                Ok(response(ServingStatus::ServiceUnknown))
            });
            return Ok(Response::new(first.chain(last).boxed()));
        };
        let is_ready = now == ServingStatus::Serving;
        let changes = stream::unfold(Some((self.readiness.clone(), is_ready)), async |at| {
            let (readiness, was) = at?;
            let is = tokio::select! {
                is = readiness.changed(was) => is,
                () = readiness.clone().withdrawn() => false,
            };
            let ends = readiness.why_not() == Some(Unready::Draining);
            // A pool that stood still says nothing new by that, and its watchers are not to hold up its end.
            if ends && !was {
                return None;
            }
            Some((Ok(response(status_of(is))), (!ends).then_some((readiness, is))))
        });
        Ok(Response::new(stream::once(ready(Ok(response(now)))).chain(changes).boxed()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service() -> HealthService {
        HealthService::new([""; 4], Box::new(|name| name == "a"), Readiness::default())
    }

    fn ask(service: &str) -> Request<HealthCheckRequest> {
        Request::new(HealthCheckRequest { service: service.to_owned() })
    }

    #[tokio::test]
    async fn it_serves_until_it_is_withdrawn() {
        let service = service();
        let check = |name: &'static str| service.check(ask(name));
        assert_eq!(check("expert/a").await.unwrap().into_inner().status(), ServingStatus::Serving);
        assert_eq!(check("expert/b").await.unwrap_err().code(), tonic::Code::NotFound);
        service.readiness.withdraw();
        assert_eq!(check("").await.unwrap().into_inner().status(), ServingStatus::NotServing);
    }

    #[tokio::test]
    async fn a_watcher_hears_of_the_drain_and_is_let_go() {
        let service = service();
        let mut watch = service.watch(ask("")).await.unwrap().into_inner();
        assert_eq!(watch.next().await.unwrap().unwrap().status(), ServingStatus::Serving);
        service.readiness.withdraw();
        assert_eq!(watch.next().await.unwrap().unwrap().status(), ServingStatus::NotServing);
        assert!(watch.next().await.is_none());
    }

    #[tokio::test]
    async fn a_watcher_of_a_pool_that_stands_still_is_let_go_by_its_end() {
        let service = service();
        let mut watch = service.watch(ask("")).await.unwrap().into_inner();
        assert_eq!(watch.next().await.unwrap().unwrap().status(), ServingStatus::Serving);
        service.readiness.set_stalled(true);
        assert_eq!(watch.next().await.unwrap().unwrap().status(), ServingStatus::NotServing);
        service.readiness.withdraw();
        assert!(watch.next().await.is_none());
    }

    #[tokio::test]
    async fn a_watcher_hears_of_a_stall_and_of_its_end() {
        let service = service();
        let mut watch = service.watch(ask("")).await.unwrap().into_inner();
        let mut next = async || watch.next().await.unwrap().unwrap().status();
        assert_eq!(next().await, ServingStatus::Serving);
        service.readiness.set_stalled(true);
        assert_eq!(next().await, ServingStatus::NotServing);
        service.readiness.set_stalled(false);
        assert_eq!(next().await, ServingStatus::Serving);
        service.readiness.withdraw();
        assert_eq!(next().await, ServingStatus::NotServing);
        assert!(watch.next().await.is_none());
    }
}
