//! What stands in a certificate that we need to know.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sha2::{Digest, Sha256};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::DeviceName;

/// SHA-256 of a certificate or of a public key.
pub type Fingerprint = [u8; 32];

/// Certificate, read as far as is needed here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// Device that the certificate names, if any.
    pub device: Option<DeviceName>,
    /// SHA-256 of the public key: the same across renewals with one key.
    pub key: Fingerprint,
    /// SHA-256 of the whole certificate.
    pub fingerprint: Fingerprint,
    /// Serial number, in hex digits.
    pub serial: String,
    pub not_before: SystemTime,
    pub not_after: SystemTime,
    /// DNS names and addresses.
    pub names: Vec<String>,
    pub is_authority: bool,
    /// True if the certificate names itself as its issuer.
    pub is_self_issued: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("is no certificate: {0}")]
pub struct CertificateError(String);

impl Certificate {
    pub fn from_der(der: &[u8]) -> Result<Self, CertificateError> {
        let (_, parsed) =
            X509Certificate::from_der(der).map_err(|error| CertificateError(error.to_string()))?;
        let alternatives = parsed.subject_alternative_name().ok().flatten();
        let alternatives = alternatives.map_or(&[][..], |extension| &extension.value.general_names);
        let device = alternatives.iter().find_map(|name| match name {
            GeneralName::URI(uri) => DeviceName::from_urn(uri),
            _ => None,
        });
        let validity = parsed.validity();
        Ok(Self {
            device,
            key: digest(parsed.public_key().raw),
            fingerprint: digest(der),
            serial: millgate_base::digest::hex(parsed.raw_serial()),
            not_before: time(validity.not_before.timestamp()),
            not_after: time(validity.not_after.timestamp()),
            names: alternatives.iter().filter_map(name).collect(),
            is_authority: parsed.is_ca(),
            is_self_issued: parsed.subject().as_raw() == parsed.issuer().as_raw(),
        })
    }

    /// Time at which two thirds of its life are over: from then on it is to be renewed.
    pub fn renewal(&self) -> SystemTime {
        let life = self.not_after.duration_since(self.not_before).unwrap_or_default();
        self.not_before + life * 2 / 3
    }
}

pub fn digest(bytes: &[u8]) -> Fingerprint {
    Sha256::digest(bytes).into()
}

/// Reads a fingerprint from 64 hex digits, as [`millgate_base::digest::hex`] writes it; `None` if the text is another.
pub fn fingerprint(hex: &str) -> Option<Fingerprint> {
    let mut bytes = Fingerprint::default();
    if hex.len() != 2 * bytes.len() || !hex.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).ok()?;
    }
    Some(bytes)
}

fn time(unix: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(unix.try_into().unwrap_or_default())
}

fn name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => match <[u8; 4]>::try_from(*bytes) {
            Ok(v4) => Some(std::net::Ipv4Addr::from(v4).to_string()),
            Err(_) => Some(std::net::Ipv6Addr::from(<[u8; 16]>::try_from(*bytes).ok()?).to_string()),
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_tells_its_device_names_and_key() {
        let key = rcgen::KeyPair::generate().unwrap();
        let name = DeviceName::new("acme", "cam-7").unwrap();
        let params = |names: Vec<String>| {
            let mut params = rcgen::CertificateParams::new(names).unwrap();
            params.subject_alt_names.push(rcgen::SanType::URI(name.urn().try_into().unwrap()));
            params
        };
        let one = params(vec!["pool.example".to_owned(), "10.0.0.5".to_owned()]).self_signed(&key).unwrap();
        let read = Certificate::from_der(one.der()).unwrap();
        assert_eq!(read.device, Some(name.clone()));
        assert_eq!(read.names, ["pool.example", "10.0.0.5"]);
        assert!(read.not_before < read.renewal() && read.renewal() < read.not_after);
        let other = Certificate::from_der(params(Vec::new()).self_signed(&key).unwrap().der()).unwrap();
        assert_eq!(other.key, read.key);
        assert_ne!(other.fingerprint, read.fingerprint);
        assert!(Certificate::from_der(b"nonsense").is_err());
        assert!(read.is_self_issued && !read.is_authority);
        assert_eq!(fingerprint(&millgate_base::digest::hex(&read.key)), Some(read.key));
        for bad in ["", "00", &"+1".repeat(32), &"é".repeat(32)] {
            assert_eq!(fingerprint(bad), None, "{bad}");
        }
    }
}
