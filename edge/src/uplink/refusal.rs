//! Why there is no line to a pool, and whether that will pass by itself. A pool that is unreachable may come back at any time;
//! one that turns the device away does so until somebody acts, and must not look like an outage.

use std::io;
use std::time::{Duration, Instant};

use millgate_shared::transport::quic::{self, Alert};
use rustls::{AlertDescription, Error as TlsError};
use tonic::{Code, Status};

/// One that lasts is said again after this time.
const REMINDER: Duration = Duration::from_secs(3600);

/// Why a pool is of no use until somebody acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// The pool knows the device, and lets it ask for nothing: it is revoked, or has no rights.
    Denied,
    /// The pool does not know the device: there is no certificate, or it has ended, or another authority signed it.
    Unknown,
    /// The device does not trust the pool's certificate: authority, name or date.
    Untrusted,
    /// The pool holds another bundle, or none.
    Bundle,
    /// What answers there is no pool's gRPC port.
    NoPool,
}

impl Refusal {
    pub const ALL: [Self; 5] = [Self::Denied, Self::Unknown, Self::Untrusted, Self::Bundle, Self::NoPool];

    /// For metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Denied => "denied",
            Self::Unknown => "unknown_device",
            Self::Untrusted => "untrusted_pool",
            Self::Bundle => "other_bundle",
            Self::NoPool => "no_pool",
        }
    }

    /// What to do about it.
    pub fn advice(self) -> &'static str {
        match self {
            Self::Denied => {
                "the pool turns this device away: `millgate-cloud devices list` there says whether it is revoked, and \
                 `devices restore` lets it in again"
            }
            Self::Unknown => {
                "the pool does not know this device: enrol it (`millgate-cloud enroll-token` there, then \
                 `millgate-edge enroll --force`), and look at the clocks of both"
            }
            Self::Untrusted => {
                "this device does not trust that pool: look at `identity.ca`, the pool's name and the clock, or enrol again"
            }
            Self::Bundle => "give both the same bundle; until then the pool is not asked",
            Self::NoPool => "set `offload.cloud` to the pool's gRPC port (8001 by default)",
        }
    }

    /// From the status of a call that any device may make that is let in at all.
    pub(super) fn of_status(status: &Status) -> Option<Self> {
        if let Some(refusal) = in_chain(std::error::Error::source(status)) {
            return Some(refusal);
        }
        // What tonic says of a broken line has codes too.
        if std::error::Error::source(status).is_some() {
            return None;
        }
        match status.code() {
            Code::PermissionDenied => Some(Self::Denied),
            Code::Unauthenticated => Some(Self::Unknown),
            Code::FailedPrecondition => Some(Self::Bundle),
            Code::Unimplemented => Some(Self::NoPool),
            _ => None,
        }
    }

    /// From a handshake over TCP that failed.
    pub(super) fn of_handshake(error: &io::Error) -> Option<Self> {
        error.get_ref().and_then(|inner| in_chain(Some(inner)))
    }

    /// From a handshake over QUIC that failed.
    pub(super) fn of_quic(error: &quic::Error) -> Option<Self> {
        match error.alert()? {
            Alert::Ours(_) => Some(Self::Untrusted),
            Alert::Theirs(code) => Self::of_tls(&TlsError::AlertReceived(code.into())),
        }
    }

    fn of_tls(error: &TlsError) -> Option<Self> {
        match error {
            TlsError::InvalidCertificate(_) => Some(Self::Untrusted),
            TlsError::NoApplicationProtocol | TlsError::InvalidMessage(_) => Some(Self::NoPool),
            TlsError::AlertReceived(alert) => match alert {
                AlertDescription::NoApplicationProtocol => Some(Self::NoPool),
                AlertDescription::BadCertificate
                | AlertDescription::UnsupportedCertificate
                | AlertDescription::CertificateRevoked
                | AlertDescription::CertificateExpired
                | AlertDescription::CertificateUnknown
                | AlertDescription::CertificateRequired
                | AlertDescription::UnknownCA
                | AlertDescription::AccessDenied => Some(Self::Unknown),
                _ => None,
            },
            _ => None,
        }
    }
}

/// An error of TLS among the causes, also where one is wrapped in an error of reading or writing.
fn in_chain(mut cause: Option<&(dyn std::error::Error + 'static)>) -> Option<Refusal> {
    while let Some(error) = cause {
        if let Some(tls) = error.downcast_ref::<TlsError>() {
            return Refusal::of_tls(tls);
        }
        let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        cause = match wrapped {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}

/// Why a way to a pool, or all of them, did not work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoLine {
    pub text: String,
    /// `None`: it may pass.
    pub refusal: Option<Refusal>,
}

impl NoLine {
    /// Sums up several ways: the pool refuses if one of them does.
    pub(super) fn of_all(ways: &[Self]) -> Self {
        let texts = ways.iter().map(|way| way.text.as_str()).collect::<Vec<_>>();
        Self { text: texts.join("; "), refusal: ways.iter().find_map(|way| way.refusal) }
    }

    pub(super) fn prefixed(self, with: &str) -> Self {
        Self { text: format!("{with}: {}", self.text), ..self }
    }
}

impl From<String> for NoLine {
    fn from(text: String) -> Self {
        Self { text, refusal: None }
    }
}

impl From<&str> for NoLine {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

impl std::fmt::Display for NoLine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

/// What was last said of a trouble that lasts, so that it is said once and then now and again. Pure.
#[derive(Debug, Clone)]
pub(super) struct Said<T> {
    last: Option<(T, Instant)>,
}

impl<T> Default for Said<T> {
    fn default() -> Self {
        Self { last: None }
    }
}

impl<T: PartialEq> Said<T> {
    /// Whether it is to be said now.
    pub(super) fn is_news(&mut self, what: T, now: Instant) -> bool {
        let is_old = self
            .last
            .as_ref()
            .is_some_and(|(last, at)| *last == what && now.saturating_duration_since(*at) < REMINDER);
        if !is_old {
            self.last = Some((what, now));
        }
        !is_old
    }

    /// Ends the trouble; true if it was said.
    pub(super) fn is_over(&mut self) -> bool {
        self.last.take().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lasts_is_told_from_what_may_pass() {
        for (code, refusal) in [
            (Code::PermissionDenied, Some(Refusal::Denied)),
            (Code::Unauthenticated, Some(Refusal::Unknown)),
            (Code::FailedPrecondition, Some(Refusal::Bundle)),
            (Code::Unimplemented, Some(Refusal::NoPool)),
            (Code::Unavailable, None),
            (Code::DeadlineExceeded, None),
            (Code::ResourceExhausted, None),
        ] {
            assert_eq!(Refusal::of_status(&Status::new(code, "")), refusal, "{code:?}");
        }
        let alert = |alert| {
            let tls = TlsError::AlertReceived(alert);
            // As it comes through HTTP/2: an error of reading, wrapped.
            let io = io::Error::new(io::ErrorKind::InvalidData, tls);
            let outer = io::Error::other(io);
            (Refusal::of_handshake(&outer), Refusal::of_status(&Status::from_error(Box::new(outer))))
        };
        let unknown = Some(Refusal::Unknown);
        assert_eq!(alert(AlertDescription::UnknownCA), (unknown, unknown));
        assert_eq!(alert(AlertDescription::InternalError), (None, None));
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        assert_eq!(Refusal::of_handshake(&refused), None);
        assert_eq!(Refusal::of_status(&Status::from_error(Box::new(refused))), None);
    }

    #[test]
    fn one_way_that_is_refused_makes_the_pool_refuse() {
        let denied = NoLine { text: "denied".to_owned(), refusal: Some(Refusal::Denied) };
        let all = NoLine::of_all(&["silent".into(), denied]);
        assert_eq!((all.text.as_str(), all.refusal), ("silent; denied", Some(Refusal::Denied)));
        assert_eq!(NoLine::of_all(&["silent".into()]).refusal, None);
    }

    #[test]
    fn what_lasts_is_said_once_and_then_now_and_again() {
        let (mut said, now) = (Said::default(), Instant::now());
        assert!(said.is_news(Refusal::Denied, now));
        assert!(!said.is_news(Refusal::Denied, now + REMINDER / 2));
        assert!(said.is_news(Refusal::Bundle, now + REMINDER / 2));
        assert!(said.is_news(Refusal::Bundle, now + REMINDER * 2));
        assert!(said.is_over() && !said.is_over());
        assert!(said.is_news(Refusal::Bundle, now + REMINDER * 2));
    }
}
