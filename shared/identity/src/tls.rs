//! The two TLS configurations, for TCP and QUIC alike: TLS 1.3 only, certificates and authorities that can be exchanged
//! while they are in use, and a clock with a floor.
//!
//! Sessions are not resumed. A resumed session carries the certificates of the first one along: past a renewal, past
//! their end, past a revocation. In TLS 1.3 it would save bytes, not a round trip.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use rustls::client::Resumption;
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::UnixTime;
use rustls::server::WebPkiClientVerifier;
use rustls::version::TLS13;
use rustls::{AlertDescription, CertificateError, ClientConfig, Error, ServerConfig};

use crate::clock::Floor;
use crate::held::Held;
use crate::provider::provider;
use crate::roots::Roots;

/// Configures a client that trusts `roots` and shows `certificate`, if it is given and holds one.
pub fn client(
    roots: Arc<Roots>,
    certificate: Option<Arc<Held>>,
    clock: Arc<Floor>,
    alpn: &[&[u8]],
) -> Arc<ClientConfig> {
    client_with(roots, certificate, clock, alpn)
}

/// Configures a client like [`client`], with a caller-supplied `verifier` of servers.
pub fn client_with(
    verifier: Arc<dyn ServerCertVerifier>,
    certificate: Option<Arc<Held>>,
    clock: Arc<Floor>,
    alpn: &[&[u8]],
) -> Arc<ClientConfig> {
    let builder = ClientConfig::builder_with_details(provider(), clock)
        .with_protocol_versions(&[&TLS13])
        .expect("the provider has suites of TLS 1.3")
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match certificate {
        Some(certificate) => builder.with_client_cert_resolver(certificate),
        None => builder.with_no_client_auth(),
    };
    config.resumption = Resumption::disabled();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    Arc::new(config)
}

/// Configures a server that shows `certificate` and lets clients in with a certificate that `clients` vouches for, or
/// with none.
pub fn server(
    certificate: Arc<Held>,
    clients: Option<Arc<Roots>>,
    clock: Arc<Floor>,
    alpn: &[&[u8]],
) -> Arc<ServerConfig> {
    let builder = ServerConfig::builder_with_details(provider(), clock)
        .with_protocol_versions(&[&TLS13])
        .expect("the provider has suites of TLS 1.3");
    let builder = match clients {
        Some(clients) => builder.with_client_cert_verifier(clients),
        None => builder.with_client_cert_verifier(WebPkiClientVerifier::no_client_auth()),
    };
    let mut config = builder.with_cert_resolver(certificate);
    config.send_tls13_tickets = 0;
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    Arc::new(config)
}

/// Explains for people why a handshake failed: what to look at.
pub fn explain(error: &Error) -> String {
    let at = |time: &UnixTime| {
        let time = UNIX_EPOCH + Duration::from_secs(time.as_secs());
        jiff::Timestamp::try_from(time).map_or_else(|_| "?".to_owned(), |time| time.to_string())
    };
    match error {
        Error::InvalidCertificate(CertificateError::ExpiredContext { time, not_after }) => format!(
            "its certificate ended on {}, and this machine's clock says {}: is the clock right?",
            at(not_after),
            at(time)
        ),
        Error::InvalidCertificate(CertificateError::NotValidYetContext { time, not_before }) => format!(
            "its certificate begins on {}, and this machine's clock says {}: is the clock right?",
            at(not_before),
            at(time)
        ),
        Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            "its certificate is signed by an authority that is not trusted here".to_owned()
        }
        Error::InvalidCertificate(CertificateError::BadSignature) => {
            "its certificate is signed by an authority that is not trusted here; another one of that name is"
                .to_owned()
        }
        Error::InvalidCertificate(CertificateError::NotValidForNameContext { expected, presented }) => {
            let presented: Vec<&str> = presented.iter().map(|name| shown(name)).collect();
            format!(
                "its certificate is for {}, not for `{}`: add that to the pool's `tls.names`",
                presented.join(", "),
                expected.to_str()
            )
        }
        Error::InvalidMessage(_) => "it does not speak TLS: is it a plain-text port?".to_owned(),
        Error::AlertReceived(AlertDescription::NoApplicationProtocol) => {
            "it speaks TLS and no gRPC: is it the pool's REST port?".to_owned()
        }
        Error::AlertReceived(alert) => format!("it refused the handshake ({alert:?})"),
        error => error.to_string(),
    }
}

/// Name inside a debug text such as `DnsName("a")`: here `a`.
fn shown(name: &str) -> &str {
    name.split('"').nth(1).unwrap_or(name)
}
