//! Asking a pool for a certificate: with a claim token the first time, with the key of the old one afterwards.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use millgate_shared::identity::dial::{DialError, H2, dial_through};
use millgate_shared::identity::held::Chain;
use millgate_shared::identity::roots::Pinned;
use millgate_shared::identity::secret::{Claim, ClaimError};
use millgate_shared::identity::{Certificate, Floor, Roots, pem, tls};
use millgate_shared::proto::v1;
use millgate_shared::proto::v1::enrollment_service_client::EnrollmentServiceClient;
use millgate_shared::transport::tcp::Proxy;
use millgate_shared::{bounded, files};
use rcgen::{CertificateParams, KeyPair};
use rustls::ClientConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tonic::{Code, Status};

use super::IdentityError;
use super::store::{Record, Store};

/// For the connection, and for the answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    #[error("the token {0}")]
    Token(#[from] ClaimError),
    #[error("`{0}` is not of the form https://host:port: a device enrols over TLS only")]
    Url(String),
    #[error("this device is enrolled already, as {0}; to do it again, say --force")]
    Enrolled(String),
    #[error("pool {0}")]
    Dial(#[from] DialError),
    #[error("pool {url}: {message}")]
    Refused { url: String, message: String },
    #[error("pool {url}: no answer: {message}")]
    NoAnswer { url: String, message: String },
    #[error("pool {url}: its answer is no good: {reason}")]
    Answer { url: String, reason: String },
    #[error("cannot make a key: {0}")]
    Key(rcgen::Error),
    #[error("{}: {source}", path.display())]
    Authority { path: PathBuf, source: millgate_shared::identity::roots::RootsError },
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

impl AskError {
    /// Trying the same again changes nothing.
    pub fn is_final(&self) -> bool {
        match self {
            Self::Token(_) | Self::Url(_) | Self::Enrolled(_) | Self::Refused { .. } => true,
            Self::Authority { .. } | Self::Identity(_) => true,
            Self::Dial(_) | Self::NoAnswer { .. } | Self::Answer { .. } | Self::Key(_) => false,
        }
    }
}

/// What an enrolment needs.
#[derive(Debug, Clone)]
pub struct Enrolment {
    /// `https://host:port`.
    pub pool: String,
    /// A claim token.
    pub token: String,
    /// Name of the device; empty where the token names it.
    pub device: String,
    /// PEM files of authorities to trust instead of the one that the token names.
    pub ca: Vec<PathBuf>,
    /// Proxy on the way to the pool; `None` connects directly.
    pub proxy: Option<Proxy>,
    /// Enrols even if the device is enrolled already.
    pub force: bool,
}

/// Enrols the device and keeps what comes of it; gives its certificate. What fails leaves an earlier enrolment as it was.
pub async fn enrol(store: &Store, ask: &Enrolment) -> Result<Certificate, AskError> {
    let claim: Claim = ask.token.parse()?;
    let is_https = ask.pool.parse::<http::Uri>().is_ok_and(|uri| uri.scheme_str() == Some("https"));
    if !is_https {
        return Err(AskError::Url(ask.pool.clone()));
    }
    if let (false, Some(chain)) = (ask.force, store.chain()?) {
        let name = chain.leaf().device.as_ref().map_or_else(|| "?".to_owned(), ToString::to_string);
        return Err(AskError::Enrolled(name));
    }
    let key = match read_key(store)? {
        Some(key) => key,
        None => {
            let key = KeyPair::generate().map_err(AskError::Key)?;
            store.write_key(&key.serialize_pem())?;
            key
        }
    };
    let clock = Arc::new(Floor::kept(&store.clock()));
    let tls = trusting(&claim, &ask.ca, &clock)?;
    let channel = dial_through(ask.proxy.as_ref(), &ask.pool, &tls, PATIENCE).await?;
    let request = v1::EnrollRequest {
        token: ask.token.trim().to_owned(),
        device: ask.device.clone(),
        certificate_request: request(&key)?.into(),
    };
    let answer = within(&ask.pool, EnrollmentServiceClient::new(channel).enroll(request)).await?;
    let certificate = answer.certificate.unwrap_or_default();
    let record = Record {
        tenant: certificate.tenant.clone(),
        device: certificate.device.clone(),
        pool: ask.pool.clone(),
    };
    store.write_record(&record)?;
    let leaf = accept(store, &key, &ask.pool, certificate)?;
    clock.raise(leaf.not_before);
    clock.keep().map_err(|source| IdentityError::Io { path: store.clock(), source })?;
    Ok(leaf)
}

/// Renews the device's certificate, over `tls`, through a proxy if there is one.
pub(super) async fn renew(
    store: &Store,
    old: &CertificateDer<'static>,
    pool: &str,
    tls: &Arc<ClientConfig>,
    proxy: Option<&Proxy>,
) -> Result<Certificate, AskError> {
    let key = read_key(store)?.ok_or_else(|| {
        let source = std::io::ErrorKind::NotFound.into();
        IdentityError::Io { path: store.key(), source }
    })?;
    let channel = dial_through(proxy, pool, tls, PATIENCE).await?;
    let request =
        v1::RenewRequest { certificate_request: request(&key)?.into(), certificate: old.to_vec().into() };
    let answer = within(pool, EnrollmentServiceClient::new(channel).renew(request)).await?;
    let (store, pool) = (store.clone(), pool.to_owned());
    let certificate = answer.certificate.unwrap_or_default();
    let url = pool.clone();
    let kept = tokio::task::spawn_blocking(move || accept(&store, &key, &pool, certificate)).await;
    kept.map_err(|error| AskError::Answer { url, reason: error.to_string() })?
}

fn read_key(store: &Store) -> Result<Option<KeyPair>, AskError> {
    let path = store.key();
    match bounded::read_to_string(&path, bounded::RECORD) {
        Ok(text) => {
            let bad = |error: rcgen::Error| IdentityError::Record { path, reason: error.to_string() };
            Ok(Some(KeyPair::from_pem(&text).map_err(bad)?))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(IdentityError::Io { path, source }.into()),
    }
}

fn request(key: &KeyPair) -> Result<Vec<u8>, AskError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    let request = params.serialize_request(key).map_err(AskError::Key)?;
    Ok(request.der().to_vec())
}

/// The authority that the token names, or those that the operator names.
fn trusting(claim: &Claim, ca: &[PathBuf], clock: &Arc<Floor>) -> Result<Arc<ClientConfig>, AskError> {
    if ca.is_empty() {
        let pinned = Pinned::new(claim.authority, Arc::clone(clock));
        return Ok(tls::client_with(pinned, None, Arc::clone(clock), &[H2]));
    }
    let mut authorities = Vec::new();
    for path in ca {
        authorities.extend(pem::certificates(path).map_err(IdentityError::from)?);
    }
    let refuse = |source| AskError::Authority { path: ca[0].clone(), source };
    let roots = Roots::new(authorities, Arc::clone(clock)).map_err(refuse)?;
    Ok(tls::client(roots, None, Arc::clone(clock), &[H2]))
}

async fn within<T>(
    url: &str,
    answer: impl Future<Output = Result<tonic::Response<T>, Status>>,
) -> Result<T, AskError> {
    let url = || url.to_owned();
    let late =
        |_| AskError::NoAnswer { url: url(), message: format!("none within {} s", PATIENCE.as_secs()) };
    match tokio::time::timeout(PATIENCE, answer).await.map_err(late)? {
        Ok(answer) => Ok(answer.into_inner()),
        Err(status) => Err(match status.code() {
            Code::Unimplemented => AskError::Refused {
                url: url(),
                message: "it does not know enrolment: is it the gRPC port (8001) of a pool?".to_owned(),
            },
            Code::Unavailable | Code::Unknown | Code::Internal | Code::Cancelled | Code::DeadlineExceeded => {
                AskError::NoAnswer { url: url(), message: root_cause(&status) }
            }
            // Another time it has room.
            Code::ResourceExhausted => {
                AskError::NoAnswer { url: url(), message: status.message().to_owned() }
            }
            _ => AskError::Refused { url: url(), message: status.message().to_owned() },
        }),
    }
}

/// tonic says only "transport error"; the reason is behind it.
fn root_cause(status: &Status) -> String {
    let mut cause: &dyn std::error::Error = status;
    while let Some(source) = cause.source() {
        cause = source;
    }
    match std::ptr::addr_eq(cause, status) {
        true => status.message().to_owned(),
        false => cause.to_string(),
    }
}

/// Looks at what a pool has signed, and keeps it. The certificate is written last: with it the device is enrolled.
fn accept(
    store: &Store,
    key: &KeyPair,
    url: &str,
    signed: v1::DeviceCertificate,
) -> Result<Certificate, AskError> {
    let refuse = |reason: String| AskError::Answer { url: url.to_owned(), reason };
    let chain = signed.chain.iter().map(|der| CertificateDer::from(der.to_vec())).collect();
    let own = PrivateKeyDer::try_from(key.serialize_der()).map_err(|error| refuse(error.to_owned()))?;
    let checked = Chain::new(chain, own, Path::new("the certificate"), Path::new("the device's key"));
    let leaf = checked.map_err(|error| refuse(error.to_string()))?.leaf().clone();
    // A renewal may leave out what is known.
    let learns = !signed.authorities.is_empty();
    if !learns && store.authorities()?.is_empty() {
        return Err(refuse("it names no authority".to_owned()));
    }
    for der in &signed.authorities {
        Certificate::from_der(der).map_err(|error| refuse(format!("its authority {error}")))?;
    }
    if learns {
        let authorities = pem::write(signed.authorities.iter().map(|der| &der[..]));
        store.write(store.authorities_file(), authorities.as_bytes(), files::PUBLIC)?;
    }
    let chain = pem::write(signed.chain.iter().map(|der| &der[..]));
    store.write(store.certificate(), chain.as_bytes(), files::PUBLIC)?;
    Ok(leaf)
}
