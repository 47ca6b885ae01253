//! What the doors show and trust: read at the start, read again when the files are exchanged. A file that is no good
//! leaves everything as it was, and is complained about once.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use millgate_shared::files::{Followed, Look};
use millgate_shared::identity::held::Chain;
use millgate_shared::identity::{Certificate, Fingerprint, Floor, Held, Roots, pem, tls};
use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;

use super::authority::Authority;
use super::config::{DevicesConfig, TlsConfig};
use super::enrolment::Enrolment;
use super::{StateDir, StateError, own};

#[derive(Debug)]
pub(crate) struct Material {
    state: StateDir,
    config: TlsConfig,
    /// `None`: certificates of pool and devices come from elsewhere.
    authority: Option<Arc<Authority>>,
    enrolment: Option<Arc<Enrolment>>,
    /// For the pool's own certificate.
    node: String,
    names: Vec<String>,
    held: Arc<Held>,
    clients: Arc<Roots>,
    clock: Arc<Floor>,
    files: Followed,
}

impl Material {
    /// Makes what is missing. `node` and the addresses it listens on stand in the certificate that it signs itself.
    /// Blocks.
    pub(crate) fn open(
        state_dir: &Path,
        (node, listen): (&str, &[SocketAddr]),
        tls: TlsConfig,
        devices: &DevicesConfig,
    ) -> Result<Self, StateError> {
        let (state, clock) = (StateDir::new(state_dir), Arc::new(Floor::unkept()));
        let needs_own = tls.certificate.is_none() || tls.client_ca.is_empty();
        let authority = needs_own.then(|| Authority::open_or_make(&state, clock.now())).transpose()?;
        let authority = authority.map(Arc::new);
        let clients = Roots::none(Arc::clone(&clock));
        let names = own::names(&tls.names, node, listen);
        let mut material = Self {
            files: Followed::new(watched_files(&tls)),
            node: node.to_owned(),
            state,
            config: tls,
            authority,
            enrolment: None,
            names,
            held: Held::new(None),
            clients,
            clock,
        };
        if material.config.certificate.is_none()
            && let Some(authority) = &material.authority
        {
            let now = material.clock.now();
            own::ensure(&material.state, authority, &material.node, &material.names, now)?;
        }
        if let Some(authority) = &material.authority {
            let (state, clock) = (material.state.clone(), Arc::clone(&material.clock));
            let enrolment = Enrolment::new(state, Arc::clone(authority), devices, clock)?;
            material.enrolment = Some(Arc::new(enrolment));
        }
        material.load()?;
        Ok(material)
    }

    /// Follows whatever is read later.
    pub(crate) fn server_config(&self, alpn: &[&[u8]]) -> Arc<ServerConfig> {
        tls::server(Arc::clone(&self.held), Some(Arc::clone(&self.clients)), Arc::clone(&self.clock), alpn)
    }

    /// `None`: this pool signs no certificates.
    pub(crate) fn enrolment(&self) -> Option<&Arc<Enrolment>> {
        self.enrolment.as_ref()
    }

    /// When the certificate that is shown ends.
    pub(crate) fn not_after(&self) -> Option<SystemTime> {
        Some(self.held.get()?.leaf().not_after)
    }

    /// Reads the files again if they have changed, or if that `is_asked` for. Blocks.
    pub(crate) fn reload(&self, is_asked: bool) {
        match self.files.look(is_asked, || self.load()) {
            Look::Same | Look::FailedAgain => {}
            Look::Read => {
                let not_after = self.not_after().and_then(|end| jiff::Timestamp::try_from(end).ok());
                let not_after = not_after.map(tracing::field::display);
                tracing::info!(not_after, "certificates were read again");
            }
            Look::Failed(error) => {
                tracing::error!(%error, "certificates cannot be read again; the old ones stay");
            }
        }
    }

    /// Renews the pool's own certificate when it is time. Waits for whoever enrols devices. Blocks.
    pub(crate) fn tend(&self) {
        if self.config.certificate.is_some() {
            return;
        }
        let Some(authority) = &self.authority else { return };
        match own::ensure(&self.state, authority, &self.node, &self.names, self.clock.now()) {
            Ok(true) => self.reload(true),
            Ok(false) => {}
            Err(error) => tracing::error!(%error, "the pool's certificate cannot be renewed"),
        }
    }

    fn load(&self) -> Result<(), StateError> {
        let chain = match (&self.config.certificate, &self.config.key) {
            (Some(certificate), Some(key)) => Chain::read(certificate, key)?,
            _ => {
                let file = own::path(&self.state, &self.node);
                Chain::read(&file, &file)?
            }
        };
        let mut clients: Vec<CertificateDer<'static>> =
            self.authority.iter().map(|authority| authority.certificate().clone()).collect();
        for path in &self.config.client_ca {
            clients.extend(pem::certificates(path)?);
        }
        let path = || self.config.client_ca.first().cloned().unwrap_or_default();
        let refuse = |source| StateError::Roots { path: path(), source };
        let anchor = self.enrolment.as_ref().and_then(|_| anchor(&chain));
        self.clients.set(clients).map_err(refuse)?;
        self.held.set(Some(chain));
        if let Some(enrolment) = &self.enrolment {
            enrolment.set_anchors(anchor.into_iter().collect());
        }
        Ok(())
    }
}

/// What devices that enrol are to trust the pool by.
fn anchor(chain: &Chain) -> Option<CertificateDer<'static>> {
    let last = chain.certificates().last()?;
    let read = Certificate::from_der(last).ok()?;
    if !read.is_authority {
        tracing::warn!(
            "`tls.certificate` does not end with its authority's certificate: no device can enrol here, and none \
             learns a new authority when it renews"
        );
        return None;
    }
    if !read.is_self_issued {
        tracing::warn!(
            "`tls.certificate` ends with an authority that another one has signed: devices that enrol trust that \
             one only, and lose the pool when another one signs its certificate"
        );
    }
    Some(last.clone())
}

fn watched_files(tls: &TlsConfig) -> Vec<PathBuf> {
    tls.certificate.iter().chain(&tls.key).chain(&tls.client_ca).cloned().collect()
}

/// The certificate that a claim token names: what the pool's own is trusted by. Makes the authority if there is none.
/// Blocks.
pub(crate) fn anchor_for_claims(state_dir: &Path, tls: &TlsConfig) -> Result<Fingerprint, StateError> {
    let Some(path) = &tls.certificate else {
        let state = StateDir::new(state_dir);
        return Ok(Authority::open_or_make(&state, SystemTime::now())?.fingerprint());
    };
    let refuse = |reason: &str| StateError::Content { path: path.clone(), reason: reason.to_owned() };
    let chain = pem::certificates(path)?;
    let last = chain.last().ok_or_else(|| refuse("is empty"))?;
    let read = Certificate::from_der(last);
    let read = read.map_err(|source| StateError::Certificate { path: path.clone(), source })?;
    match read.is_authority {
        true => Ok(read.fingerprint),
        false => Err(refuse("must end with its authority's certificate, so that a claim token can name it")),
    }
}

/// Reads the files that a configuration names, and makes nothing. Blocks.
pub(crate) fn check(tls: &TlsConfig) -> Result<(), StateError> {
    if let (Some(certificate), Some(key)) = (&tls.certificate, &tls.key) {
        Chain::read(certificate, key)?;
    }
    for path in &tls.client_ca {
        let roots = Roots::new(pem::certificates(path)?, Arc::new(Floor::unkept()));
        roots.map_err(|source| StateError::Roots { path: path.clone(), source })?;
    }
    Ok(())
}
