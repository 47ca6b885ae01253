//! Who this device is towards the pool: its key, its certificate, the authorities that it trusts, and the time by which
//! it judges certificates.
//!
//! ```text
//! enroll (claim token) ──> store: key, certificate, authorities ──> Identity ──> client_config ──> uplink
//!                              ^                                       │
//!                              └──── renewal, at 2/3 of its life ──────┤ reload: files that were exchanged
//! ```

use std::path::{Path, PathBuf};
use std::sync::Arc;

use millgate_shared::identity::held::HeldError;
use millgate_shared::identity::pem::{self, PemError};
use millgate_shared::identity::roots::RootsError;
use millgate_shared::identity::{Certificate, Floor, Held, Roots, tls};
use rustls::ClientConfig;
use tokio::sync::watch;

use crate::config::IdentityConfig;
use store::Store;

pub mod store;

/// Why key, certificate and authorities cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    #[error(transparent)]
    Held(#[from] HeldError),
    #[error(transparent)]
    Pem(#[from] PemError),
    #[error("{}: {source}", path.display())]
    Authority { path: PathBuf, source: RootsError },
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: std::io::Error },
    #[error("{}: {reason}", path.display())]
    Record { path: PathBuf, reason: String },
}

/// Handle to it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Identity {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    store: Store,
    /// Of the configuration.
    ca: Vec<PathBuf>,
    held: Arc<Held>,
    roots: Arc<Roots>,
    clock: Arc<Floor>,
    /// Counts the certificates that have been shown.
    changes: watch::Sender<u64>,
}

impl Identity {
    /// Reads what is there. A device that is not enrolled has an identity too: one that shows no certificate. Blocks.
    pub fn open(config: &IdentityConfig) -> Result<Self, IdentityError> {
        let store = Store::new(&config.dir);
        let clock = Arc::new(Floor::kept(&store.clock()));
        Self::with_clock(config, clock)
    }

    /// The same with another clock.
    pub fn with_clock(config: &IdentityConfig, clock: Arc<Floor>) -> Result<Self, IdentityError> {
        let inner = Inner {
            store: Store::new(&config.dir),
            ca: config.ca.clone(),
            held: Held::new(None),
            roots: Roots::new(Vec::new(), Arc::clone(&clock))
                .map_err(|source| authority(&config.dir, source))?,
            clock,
            changes: watch::channel(0).0,
        };
        inner.load()?;
        Ok(Self { inner: Arc::new(inner) })
    }

    /// For a connection to the pool; follows renewals and exchanged files by itself.
    pub fn client_config(&self, alpn: &[&[u8]]) -> Arc<ClientConfig> {
        let Inner { roots, held, clock, .. } = self.inner.as_ref();
        tls::client(Arc::clone(roots), Some(Arc::clone(held)), Arc::clone(clock), alpn)
    }

    /// The device's certificate, if it is enrolled.
    pub fn certificate(&self) -> Option<Certificate> {
        self.inner.held.get().map(|chain| chain.leaf().clone())
    }

    pub fn clock(&self) -> &Arc<Floor> {
        &self.inner.clock
    }

    /// Is there anyone by whom a pool could be known?
    pub fn trusts_anyone(&self) -> bool {
        !self.inner.roots.authorities().is_empty()
    }

    /// Changes when another certificate is shown: a connection that shows the old one is to be made again, at leisure.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.inner.changes.subscribe()
    }
}

fn authority(path: &Path, source: RootsError) -> IdentityError {
    IdentityError::Authority { path: path.to_owned(), source }
}

impl Inner {
    /// Takes what the files hold now. On an error everything stays as it was.
    fn load(&self) -> Result<(), IdentityError> {
        let chain = self.store.chain()?;
        let mut authorities = self.store.authorities()?;
        for path in &self.ca {
            authorities.extend(pem::certificates(path)?);
        }
        self.roots.set(authorities).map_err(|source| authority(&self.store.authorities_file(), source))?;
        if let Some(chain) = &chain {
            // It was signed then, so that time is past.
            self.clock.raise(chain.leaf().not_before);
        }
        let fingerprint = |chain: &millgate_shared::identity::held::Chain| chain.leaf().fingerprint;
        if self.held.get().as_deref().map(fingerprint) != chain.as_ref().map(fingerprint) {
            self.held.set(chain);
            self.changes.send_modify(|count| *count += 1);
        }
        Ok(())
    }
}
