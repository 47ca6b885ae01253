//! The pool's own authority: made at the first start, it signs the pool's certificate and those of its devices.

use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use millgate_shared::identity::{Certificate, DeviceName, Fingerprint, pem};
use millgate_shared::{bounded, files};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SanType, SerialNumber,
};
use rustls::pki_types::{CertificateDer, CertificateSigningRequestDer};

use super::{StateDir, StateError};

const CERTIFICATE: &str = "ca.pem";
const KEY: &str = "ca.key";
const DAY: Duration = Duration::from_secs(24 * 3600);
/// Nobody renews it: who has enrolled would have to enrol again.
const LIFE: Duration = Duration::from_secs(20 * 365 * 24 * 3600);
/// A peer's clock may be behind ours by so much.
const SKEW: Duration = Duration::from_secs(3600);

/// Signs. The key never leaves `state_dir`.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
}

/// Why a request for a certificate is no good.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    #[error("is no request for a certificate that is signed with its own key: {0}")]
    Request(rcgen::Error),
    #[error(transparent)]
    State(#[from] StateError),
}

impl Authority {
    /// Makes it if there is none. Blocks.
    pub fn open_or_make(state: &StateDir, now: SystemTime) -> Result<Self, StateError> {
        let locked = state.lock()?;
        match (state.file(CERTIFICATE).exists(), state.file(KEY).exists()) {
            (true, true) => {}
            // Also where a first start was cut short: a key that nothing was signed with is worth nothing.
            (false, has_key) if !has_key || !state.is_in_use()? => {
                let (certificate, key) = make(now)?;
                state.write(&locked, KEY, key.serialize_pem().as_bytes(), files::PRIVATE)?;
                state.write(&locked, CERTIFICATE, certificate.as_bytes(), files::PUBLIC)?;
                tracing::info!(path = %state.file(CERTIFICATE).display(), "the pool's authority was made");
            }
            (false, _) => {
                let reason = format!("is missing, and {KEY} is there: restore it from a backup");
                return Err(StateError::Content { path: state.file(CERTIFICATE), reason });
            }
            (true, false) => {
                let reason = format!("is missing, and {CERTIFICATE} is there: restore it from a backup");
                return Err(StateError::Content { path: state.file(KEY), reason });
            }
        }
        Self::open(state)
    }

    fn open(state: &StateDir) -> Result<Self, StateError> {
        let (certificate_path, key_path) = (state.file(CERTIFICATE), state.file(KEY));
        let others = files::readable_by_others(&key_path);
        if others.is_ok_and(|bits| bits != 0) {
            tracing::warn!(path = %key_path.display(), "others can read the authority's key: chmod 600 it");
        }
        let certificate = pem::certificates(&certificate_path)?.remove(0);
        let io = |source| StateError::Io { path: key_path.clone(), source };
        let key = bounded::read_to_string(&key_path, bounded::RECORD).map_err(io)?;
        let bad =
            |error: rcgen::Error| StateError::Content { path: key_path.clone(), reason: error.to_string() };
        let key = KeyPair::from_pem(&key).map_err(bad)?;
        let public = millgate_shared::identity::certificate::digest(&key.subject_public_key_info());
        let read = Certificate::from_der(&certificate);
        let read =
            read.map_err(|source| StateError::Certificate { path: certificate_path.clone(), source })?;
        if read.key != public {
            let reason = format!("is not the key of {}", certificate_path.display());
            return Err(StateError::Content { path: key_path, reason });
        }
        let issuer = Issuer::from_ca_cert_der(&certificate, key)?;
        Ok(Self { issuer, certificate })
    }

    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    pub fn fingerprint(&self) -> Fingerprint {
        millgate_shared::identity::certificate::digest(&self.certificate)
    }

    /// A certificate for the pool itself, with a fresh key: both as one PEM text, with the authority's behind it.
    pub(super) fn sign_server(
        &self,
        names: &[String],
        now: SystemTime,
        life: Duration,
    ) -> Result<String, StateError> {
        let key = KeyPair::generate()?;
        let mut params = leaf(now, life, ExtendedKeyUsagePurpose::ServerAuth)?;
        let first = names.first().map_or("millgate-cloud", String::as_str);
        params.distinguished_name.push(DnType::CommonName, first);
        for name in names {
            params.subject_alt_names.push(match name.parse::<IpAddr>() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) => SanType::DnsName(name.as_str().try_into()?),
            });
        }
        let signed = params.signed_by(&key, &self.issuer)?;
        let chain = pem::write([&signed.der()[..], &self.certificate[..]]);
        Ok(chain + &key.serialize_pem())
    }

    /// A certificate for a device that has made this request (PKCS #10). Only the request's key is taken.
    pub fn sign_device(
        &self,
        name: &DeviceName,
        request: &[u8],
        now: SystemTime,
        life: Duration,
    ) -> Result<CertificateDer<'static>, RequestError> {
        let request = CertificateSigningRequestDer::from(request);
        let request = CertificateSigningRequestParams::from_der(&request).map_err(RequestError::Request)?;
        let sign = || {
            let mut params = leaf(now, life, ExtendedKeyUsagePurpose::ClientAuth)?;
            params.distinguished_name.push(DnType::CommonName, name.to_string());
            params.subject_alt_names.push(SanType::URI(name.urn().try_into()?));
            Ok::<_, StateError>(params.signed_by(&request.public_key, &self.issuer)?.der().clone())
        };
        Ok(sign()?)
    }
}

fn make(now: SystemTime) -> Result<(String, KeyPair), StateError> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    validity(&mut params, now - DAY, now + LIFE);
    params.serial_number = Some(serial()?);
    let name =
        format!("Millgate pool authority {}", millgate_shared::digest::hex(&serial()?.to_bytes()[..4]));
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let certificate = params.self_signed(&key)?;
    Ok((pem::write([&certificate.der()[..]]), key))
}

fn leaf(
    now: SystemTime,
    life: Duration,
    purpose: ExtendedKeyUsagePurpose,
) -> Result<CertificateParams, StateError> {
    let mut params = CertificateParams::default();
    validity(&mut params, now - SKEW, now + life);
    params.serial_number = Some(serial()?);
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![purpose];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

fn validity(params: &mut CertificateParams, from: SystemTime, to: SystemTime) {
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let seconds =
        |time: SystemTime| Duration::from_secs(time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs());
    params.not_before = epoch + seconds(from);
    params.not_after = epoch + seconds(to);
}

/// Random, positive, 127 bits.
fn serial() -> Result<SerialNumber, StateError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)
        .map_err(|error| StateError::Random(std::io::Error::other(error.to_string())))?;
    bytes[0] &= 0x7f;
    bytes[0] |= 0x01;
    Ok(SerialNumber::from_slice(&bytes))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use millgate_shared::identity::{Floor, Roots};

    use super::*;

    #[test]
    fn it_is_made_once_and_its_key_is_its_owners() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::new(dir.path());
        let now = SystemTime::now();
        let one = Authority::open_or_make(&state, now).unwrap();
        let two = Authority::open_or_make(&state, now).unwrap();
        assert_eq!(one.fingerprint(), two.fingerprint());
        assert_eq!(files::readable_by_others(&state.file(KEY)).unwrap(), 0);
        std::fs::write(state.file(KEY), KeyPair::generate().unwrap().serialize_pem()).unwrap();
        let error = Authority::open_or_make(&state, now).unwrap_err().to_string();
        assert!(error.contains("ca.key") && error.contains("is not the key of"), "{error}");
        std::fs::remove_file(state.file(KEY)).unwrap();
        let error = Authority::open_or_make(&state, now).unwrap_err().to_string();
        assert!(error.contains("ca.key") && error.contains("backup"), "{error}");
    }

    #[test]
    fn a_key_without_its_certificate_is_not_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::new(dir.path());
        Authority::open_or_make(&state, SystemTime::now()).unwrap();
        std::fs::write(state.file("server-node-1.pem"), "signed").unwrap();
        let key = std::fs::read(state.file(KEY)).unwrap();
        std::fs::remove_file(state.file(CERTIFICATE)).unwrap();
        let error = Authority::open_or_make(&state, SystemTime::now()).unwrap_err().to_string();
        assert!(error.contains("ca.pem") && error.contains("backup"), "{error}");
        assert_eq!(std::fs::read(state.file(KEY)).unwrap(), key);
        assert!(!state.file(CERTIFICATE).exists());
    }

    #[test]
    fn a_first_start_that_was_cut_short_is_begun_again() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::new(dir.path());
        drop(state.lock().unwrap());
        std::fs::write(state.file(KEY), KeyPair::generate().unwrap().serialize_pem()).unwrap();
        let made = Authority::open_or_make(&state, SystemTime::now()).unwrap();
        let again = Authority::open_or_make(&state, SystemTime::now()).unwrap();
        assert_eq!(made.fingerprint(), again.fingerprint());
    }

    #[test]
    fn a_device_gets_its_name_and_its_own_key_and_nothing_it_asked_for_besides() {
        let dir = tempfile::tempdir().unwrap();
        let now = SystemTime::now();
        let authority = Authority::open_or_make(&StateDir::new(dir.path()), now).unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["pool.example".to_owned()]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let request = params.serialize_request(&key).unwrap();
        let name = DeviceName::new("acme", "cam-7").unwrap();
        let signed = authority.sign_device(&name, request.der(), now, DAY).unwrap();
        let read = Certificate::from_der(&signed).unwrap();
        assert_eq!((read.device, read.is_authority, read.names.len()), (Some(name.clone()), false, 0));
        let clock = Arc::new(Floor::unkept());
        let roots = Roots::new(vec![authority.certificate().clone()], clock).unwrap();
        assert!(roots.vouch_for_client(&signed, now));
        assert!(!roots.vouch_for_client(&signed, now + 2 * DAY));
        let mut forged = request.der().to_vec();
        let last = forged.len() - 1;
        forged[last] ^= 1;
        for bad in [&forged[..], b"", b"nonsense"] {
            let error = authority.sign_device(&name, bad, now, DAY).unwrap_err();
            assert!(matches!(error, RequestError::Request(_)), "{error}");
        }
    }
}
