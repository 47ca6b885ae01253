//! The certificate that one side shows, with its key. It can be exchanged while connections are made: each handshake
//! takes what is held then.

use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::pem::{self, PemError};
use super::{Certificate, certificate::CertificateError};
use crate::provider::provider;

/// Reason why a certificate cannot be shown.
#[derive(Debug, thiserror::Error)]
pub enum HeldError {
    #[error(transparent)]
    Pem(#[from] PemError),
    #[error("{}: {source}", path.display())]
    Certificate { path: std::path::PathBuf, source: CertificateError },
    #[error("{}: is a key of a kind that is not supported: {reason}", path.display())]
    Key { path: std::path::PathBuf, reason: String },
    #[error("{} is not the key of {}", key.display(), certificate.display())]
    Mismatch { certificate: std::path::PathBuf, key: std::path::PathBuf },
}

/// Chain of certificates with its key, ready for handshakes, and what stands in its first certificate.
#[derive(Debug)]
pub struct Chain {
    key: Arc<CertifiedKey>,
    leaf: Certificate,
}

impl Chain {
    /// Reads a chain from two PEM files: one of the certificate, followed by those that lead to its authority, and
    /// one of its key.
    pub fn read(certificate: &Path, key: &Path) -> Result<Self, HeldError> {
        Self::new(pem::certificates(certificate)?, pem::key(key)?, certificate, key)
    }

    /// Makes a chain from what was read. The paths only name what is wrong in errors.
    pub fn new(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        certificate_path: &Path,
        key_path: &Path,
    ) -> Result<Self, HeldError> {
        let refuse = |source| HeldError::Certificate { path: certificate_path.to_owned(), source };
        let leaf = Certificate::from_der(chain.first().map_or(&[], |first| first)).map_err(refuse)?;
        let bad_key =
            |error: rustls::Error| HeldError::Key { path: key_path.to_owned(), reason: error.to_string() };
        let key = provider().key_provider.load_private_key(key).map_err(bad_key)?;
        let key = CertifiedKey::new(chain, key);
        if key.keys_match().is_err() {
            return Err(HeldError::Mismatch {
                certificate: certificate_path.to_owned(),
                key: key_path.to_owned(),
            });
        }
        Ok(Self { key: Arc::new(key), leaf })
    }

    pub fn leaf(&self) -> &Certificate {
        &self.leaf
    }

    /// Certificates of the chain, the leaf first.
    pub fn certificates(&self) -> &[CertificateDer<'static>] {
        &self.key.cert
    }
}

/// Chain that is shown at the moment, if any. Shared by a TLS configuration and whoever exchanges the chain.
#[derive(Debug, Default)]
pub struct Held(RwLock<Option<Arc<Chain>>>);

impl Held {
    pub fn new(chain: Option<Chain>) -> Arc<Self> {
        Arc::new(Self(RwLock::new(chain.map(Arc::new))))
    }

    pub fn get(&self) -> Option<Arc<Chain>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn set(&self, chain: Option<Chain>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = chain.map(Arc::new);
    }

    fn shown(&self) -> Option<Arc<CertifiedKey>> {
        self.get().map(|chain| Arc::clone(&chain.key))
    }
}

impl ResolvesServerCert for Held {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.shown()
    }
}

impl ResolvesClientCert for Held {
    fn resolve(&self, _authorities: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.shown()
    }

    fn has_certs(&self) -> bool {
        self.get().is_some()
    }
}
