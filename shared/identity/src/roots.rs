//! The authorities that one side trusts. They can be exchanged while connections are made.
//!
//! A certificate of the peer that is not valid *yet* is judged at its own beginning instead: an authority that is
//! trusted has signed it, so that its beginning is past, whatever our clock says. The floor of our clock rises to the
//! beginning of each server's certificate that is accepted, and no further. One that has ended stays refused.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme,
};

use super::Certificate;
use super::clock::Floor;
use crate::provider::provider;

/// Most certificates of a chain that may each be "not valid yet" in turn.
const LONGEST_CHAIN: usize = 4;

/// Reason why a certificate cannot be trusted as an authority.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("authority {at}: {reason}")]
pub struct RootsError {
    /// Place of the certificate in the list, counted from 1.
    pub at: usize,
    pub reason: String,
}

/// Authorities that are trusted. Shared by a TLS configuration and whoever exchanges them.
#[derive(Debug)]
pub struct Roots {
    trusted: RwLock<Arc<Trusted>>,
    clock: Arc<Floor>,
}

#[derive(Debug, Default)]
struct Trusted {
    authorities: Vec<CertificateDer<'static>>,
    /// Verifier of servers; `None` while nobody is trusted.
    servers: Option<Arc<WebPkiServerVerifier>>,
    clients: Option<Arc<dyn ClientCertVerifier>>,
}

impl Roots {
    /// Trusts `authorities`. With an empty list nobody is trusted.
    pub fn new(
        authorities: Vec<CertificateDer<'static>>,
        clock: Arc<Floor>,
    ) -> Result<Arc<Self>, RootsError> {
        let trusted = RwLock::new(Arc::new(Trusted::new(authorities)?));
        Ok(Arc::new(Self { trusted, clock }))
    }

    /// Trusts nobody yet.
    pub fn none(clock: Arc<Floor>) -> Arc<Self> {
        Arc::new(Self { trusted: RwLock::default(), clock })
    }

    /// Exchanges the authorities. On an error the old ones stay.
    pub fn set(&self, authorities: Vec<CertificateDer<'static>>) -> Result<(), RootsError> {
        let trusted = Arc::new(Trusted::new(authorities)?);
        *self.trusted.write().unwrap_or_else(PoisonError::into_inner) = trusted;
        Ok(())
    }

    pub fn authorities(&self) -> Vec<CertificateDer<'static>> {
        self.trusted().authorities.clone()
    }

    /// True if one of the authorities has signed this client's certificate, as it was valid at that time.
    pub fn vouch_for_client(&self, der: &CertificateDer<'_>, at: SystemTime) -> bool {
        let at = at.duration_since(UNIX_EPOCH).unwrap_or_default();
        self.verify_client_cert(der, &[], UnixTime::since_unix_epoch(at)).is_ok()
    }

    fn trusted(&self) -> Arc<Trusted> {
        Arc::clone(&self.trusted.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Trusted {
    fn new(authorities: Vec<CertificateDer<'static>>) -> Result<Self, RootsError> {
        let mut store = RootCertStore::empty();
        for (at, authority) in authorities.iter().enumerate() {
            store
                .add(authority.clone())
                .map_err(|error| RootsError { at: at + 1, reason: error.to_string() })?;
        }
        if store.is_empty() {
            return Ok(Self::default());
        }
        let refuse =
            |error: rustls::server::VerifierBuilderError| RootsError { at: 1, reason: error.to_string() };
        let store = Arc::new(store);
        let servers = WebPkiServerVerifier::builder_with_provider(Arc::clone(&store), provider());
        let clients = WebPkiClientVerifier::builder_with_provider(store, provider()).allow_unauthenticated();
        Ok(Self {
            authorities,
            servers: Some(servers.build().map_err(refuse)?),
            clients: Some(clients.build().map_err(refuse)?),
        })
    }
}

/// Retries a check at the time at which the earliest not-yet-valid certificate becomes valid.
fn at_its_beginning<T>(
    now: UnixTime,
    verify: impl Fn(UnixTime) -> Result<T, Error>,
) -> (UnixTime, Result<T, Error>) {
    let mut at = now;
    for _ in 0..LONGEST_CHAIN {
        match verify(at) {
            Err(Error::InvalidCertificate(CertificateError::NotValidYetContext { not_before, .. })) => {
                at = not_before;
            }
            verified => return (at, verified),
        }
    }
    (at, verify(at))
}

fn no_tls12() -> Result<HandshakeSignatureValid, Error> {
    Err(Error::General("TLS 1.3 only".to_owned()))
}

fn by_tls13(
    message: &[u8],
    cert: &CertificateDer<'_>,
    dss: &DigitallySignedStruct,
) -> Result<HandshakeSignatureValid, Error> {
    let algorithms = &provider().signature_verification_algorithms;
    rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
}

fn schemes() -> Vec<SignatureScheme> {
    provider().signature_verification_algorithms.supported_schemes()
}

impl ServerCertVerifier for Roots {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let trusted = self.trusted();
        let unknown = || Error::InvalidCertificate(CertificateError::UnknownIssuer);
        let servers = trusted.servers.as_ref().ok_or_else(unknown)?;
        let (at, verified) = at_its_beginning(now, |at| {
            servers.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, at)
        });
        if verified.is_ok() {
            // Not to `now`: that is only what our own clock says.
            if at != now {
                self.clock.raise(UNIX_EPOCH + Duration::from_secs(at.as_secs()));
            }
            if let Ok(leaf) = Certificate::from_der(end_entity) {
                self.clock.raise(leaf.not_before);
            }
        }
        verified
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        no_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        by_tls13(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        schemes()
    }
}

/// Lets a client come without a certificate: what it may ask is decided by who it says it is.
impl ClientCertVerifier for Roots {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    /// No hints: a client has one certificate, and shows it.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let trusted = self.trusted();
        let unknown = || Error::InvalidCertificate(CertificateError::UnknownIssuer);
        let clients = trusted.clients.as_ref().ok_or_else(unknown)?;
        at_its_beginning(now, |at| clients.verify_client_cert(end_entity, intermediates, at)).1
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        no_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        by_tls13(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        schemes()
    }
}

/// Verifier that trusts whoever shows a chain with one certain certificate in it: for the first contact with a pool.
#[derive(Debug)]
pub struct Pinned {
    authority: super::Fingerprint,
    clock: Arc<Floor>,
}

impl Pinned {
    pub fn new(authority: super::Fingerprint, clock: Arc<Floor>) -> Arc<Self> {
        Arc::new(Self { authority, clock })
    }
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let mut shown = std::iter::once(end_entity).chain(intermediates);
        let authority = shown.find(|der| super::certificate::digest(der) == self.authority);
        let unknown = Error::InvalidCertificate(CertificateError::UnknownIssuer);
        let authority = authority.ok_or(unknown)?.clone().into_owned();
        let roots = Roots::new(vec![authority], Arc::clone(&self.clock));
        let roots = roots.map_err(|error| Error::General(error.to_string()))?;
        ServerCertVerifier::verify_server_cert(
            roots.as_ref(),
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        )
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        no_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        by_tls13(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        schemes()
    }
}

#[cfg(test)]
mod tests;
