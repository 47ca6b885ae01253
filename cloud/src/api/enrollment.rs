//! `EnrollmentService`: certificates for devices. What it writes to disk is written on a thread that may block.

use std::sync::Arc;
use std::time::Duration;

use millgate_shared::proto::v1;
use millgate_shared::proto::v1::enrollment_service_server::EnrollmentService;
use rustls::pki_types::CertificateDer;
use tokio::sync::Semaphore;
use tonic::{Request, Response, Status};

use super::status;
use crate::access::Access;
use crate::door::peer::{Line, Peer};
use crate::failure::{Failure, Kind};
use crate::identity::enrolment::{EnrolError, Enrolment, Issued};
use crate::metrics::Metrics;

/// A request for a certificate is a few hundred bytes.
pub(super) const LONGEST_MESSAGE: usize = 64 << 10;

/// They wait for each other's writes.
const AT_ONCE: usize = 64;
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// How long a request waits for the lock and the disk; agents wait a little longer.
const PATIENCE: Duration = Duration::from_secs(8);

#[derive(Debug, Clone)]
pub(crate) struct Enroller {
    /// `None`: this pool signs no certificates.
    enrolment: Option<Arc<Enrolment>>,
    access: Arc<Access>,
    metrics: Arc<Metrics>,
    room: Arc<Semaphore>,
}

impl Enroller {
    pub(crate) fn new(enrolment: Option<Arc<Enrolment>>, access: Arc<Access>, metrics: Arc<Metrics>) -> Self {
        Self { enrolment, access, metrics, room: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    async fn issue<T>(
        &self,
        request: Request<T>,
        issue: impl FnOnce(&Enrolment, T) -> Result<Issued, EnrolError> + Send + 'static,
    ) -> Result<v1::DeviceCertificate, Status>
    where
        T: Send + 'static,
    {
        let peer = request.extensions().get::<Peer>().cloned();
        if peer.as_ref().is_none_or(|peer| peer.line == Line::Plain) {
            let failure = Failure::Precondition("devices enrol over TLS only (`tls.enabled`)".to_owned());
            return Err(status::of(&failure));
        }
        let signs_none = || Failure::Precondition("this pool signs no certificates for devices".to_owned());
        let enrolment = self.enrolment.clone().ok_or_else(|| status::of(&signs_none()))?;
        let full = |_| Failure::Refused { what: "too many devices enrol at once", retry_after: RETRY_AFTER };
        let room = Arc::clone(&self.room).try_acquire_owned().map_err(|error| status::of(&full(error)))?;
        let (request, access) = (request.into_inner(), Arc::clone(&self.access));
        let signing = tokio::task::spawn_blocking(move || {
            let _room = room;
            let issued = issue(&enrolment, request)?;
            // At once, and not when the tables are next looked at.
            access.reload(false);
            Ok(answer(&enrolment, &issued))
        });
        let Ok(issued) = tokio::time::timeout(PATIENCE, signing).await else {
            // It goes on, in its room: the same key may ask again for the same.
            self.metrics.certificate_asked("failed");
            let late = Failure::Refused { what: "the pool's state is busy", retry_after: RETRY_AFTER };
            return Err(status::of(&late));
        };
        let issued = issued.unwrap_or_else(|error| Err(panicked(&error)));
        self.metrics.certificate_asked(issued.as_ref().err().map_or("issued", reason));
        issued.map_err(|error| {
            let addr = peer.map(|peer| tracing::field::display(peer.addr));
            let kind = kind(&error);
            // Anyone may ask, as often as they like.
            if let Some(others) = self.access.noted(noted_as(kind)) {
                match error {
                    EnrolError::State(_) => {
                        tracing::error!(addr, %error, others, "no certificate can be signed")
                    }
                    _ => tracing::info!(addr, %error, others, "no certificate"),
                }
            }
            status::of(&failure(kind, &error))
        })
    }
}

fn panicked(error: &tokio::task::JoinError) -> EnrolError {
    let (path, reason) = ("enrolment".into(), error.to_string());
    EnrolError::State(crate::identity::StateError::Content { path, reason })
}

fn answer(enrolment: &Enrolment, issued: &Issued) -> v1::DeviceCertificate {
    let der = |certificate: &CertificateDer<'_>| certificate.to_vec().into();
    v1::DeviceCertificate {
        tenant: issued.name.tenant().to_owned(),
        device: issued.name.device().to_owned(),
        chain: [&issued.certificate, enrolment.authority()].map(der).to_vec(),
        authorities: enrolment.anchors().iter().map(der).collect(),
    }
}

/// What the log keeps apart, so that one sort of refusal does not drown another.
fn noted_as(kind: Kind) -> &'static str {
    match kind {
        Kind::Unauthenticated => "enrolment_unauthenticated",
        Kind::Invalid => "enrolment_invalid",
        Kind::Taken => "enrolment_taken",
        Kind::Denied => "enrolment_denied",
        _ => "enrolment_failed",
    }
}

/// How metrics count an error.
fn reason(error: &EnrolError) -> &'static str {
    match error {
        EnrolError::State(_) => "failed",
        _ => "refused",
    }
}

fn kind(error: &EnrolError) -> Kind {
    match error {
        EnrolError::NoToken(_) | EnrolError::WrongPool | EnrolError::Unknown => Kind::Unauthenticated,
        EnrolError::Expired(_) | EnrolError::Used => Kind::Unauthenticated,
        EnrolError::Foreign | EnrolError::Replaced(_) | EnrolError::TooLate { .. } => Kind::Unauthenticated,
        EnrolError::Name(_) | EnrolError::OtherDevice(_) | EnrolError::NoDevice => Kind::Invalid,
        EnrolError::Request(_) | EnrolError::OtherKey => Kind::Invalid,
        EnrolError::Taken(_) => Kind::Taken,
        EnrolError::Revoked(_) => Kind::Denied,
        EnrolError::State(_) => Kind::Internal,
    }
}

fn failure(kind: Kind, error: &EnrolError) -> Failure {
    let message = match error {
        EnrolError::State(_) => "the pool cannot sign; see its log".to_owned(),
        error => error.to_string(),
    };
    Failure::Enrolment { kind, message }
}

#[tonic::async_trait]
impl EnrollmentService for Enroller {
    async fn enroll(
        &self,
        request: Request<v1::EnrollRequest>,
    ) -> Result<Response<v1::EnrollResponse>, Status> {
        let issue = |enrolment: &Enrolment, request: v1::EnrollRequest| {
            enrolment.enrol(&request.token, &request.device, &request.certificate_request)
        };
        let certificate = self.issue(request, issue).await?;
        Ok(Response::new(v1::EnrollResponse { certificate: Some(certificate) }))
    }

    async fn renew(&self, request: Request<v1::RenewRequest>) -> Result<Response<v1::RenewResponse>, Status> {
        let issue = |enrolment: &Enrolment, request: v1::RenewRequest| {
            enrolment.renew(&request.certificate, &request.certificate_request)
        };
        let certificate = self.issue(request, issue).await?;
        Ok(Response::new(v1::RenewResponse { certificate: Some(certificate) }))
    }
}
