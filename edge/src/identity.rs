//! Who this device is towards the pool: its key, its certificate, the authorities that it trusts, and the time by which
//! it judges certificates.
//!
//! ```text
//! enroll (claim token) ──> store: key, certificate, authorities ──> Identity ──> client_config ──> uplink
//!                              ^                                       │
//!                              └──── renewal, at 2/3 of its life ──────┤ reload: files that were exchanged
//! ```
//!
//! * [`store`]: the files. [`asking`]: what is said to a pool to get a certificate. `keeping`: while the agent runs.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use millgate_shared::files::Followed;
use millgate_shared::identity::dial::H2;
use millgate_shared::identity::held::{Chain, HeldError};
use millgate_shared::identity::pem::{self, PemError};
use millgate_shared::identity::roots::RootsError;
use millgate_shared::identity::{Certificate, Floor, Held, Roots, tls};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use rustls::ClientConfig;
use tokio::sync::{Notify, watch};

use store::Store;

pub mod asking;
mod config;
pub(crate) mod keeping;
pub mod store;

pub use config::IdentityConfig;

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

/// A handle to the device's identity. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Identity {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    store: Store,
    /// PEM files of authorities that the configuration names.
    ca: Vec<PathBuf>,
    held: Arc<Held>,
    roots: Arc<Roots>,
    clock: Arc<Floor>,
    /// Counts the certificates that have been shown.
    changes: watch::Sender<u64>,
    files: Followed,
    /// Told when the files are to be read at once.
    asked: Notify,
    counts: Counts,
}

/// What is counted of renewals.
#[derive(Debug, Default)]
struct Counts {
    renewed: Counter,
    failed: Counter,
    /// When the certificate ends, in seconds since 1970; 0: there is none.
    end: Gauge,
}

impl Identity {
    /// Reads what is there. A device that is not enrolled has an identity too: one that shows no certificate. Blocks.
    pub fn open(config: &IdentityConfig) -> Result<Self, IdentityError> {
        Self::with_clock(config, Arc::new(Floor::kept(&Store::new(&config.dir).clock())))
    }

    /// Opens the identity with a clock other than the one kept beside it. Blocks.
    pub fn with_clock(config: &IdentityConfig, clock: Arc<Floor>) -> Result<Self, IdentityError> {
        let identity = Self::bare(config, clock);
        identity.inner.load()?;
        Ok(identity)
    }

    /// Opens the identity for an agent: where the files cannot be read it logs why and shows no certificate until they
    /// change. Blocks.
    pub fn open_or_bare(config: &IdentityConfig) -> Self {
        let identity = Self::bare(config, Arc::new(Floor::kept(&Store::new(&config.dir).clock())));
        if let Err(error) = identity.inner.load() {
            tracing::error!(%error, "the device's identity cannot be read; no pool with TLS will be reached");
        }
        identity
    }

    /// An identity of which no file was read yet.
    fn bare(config: &IdentityConfig, clock: Arc<Floor>) -> Self {
        let store = Store::new(&config.dir);
        let files = [store.certificate(), store.key(), store.authorities_file()];
        let inner = Inner {
            files: Followed::new(files.into_iter().chain(config.ca.iter().cloned())),
            asked: Notify::new(),
            counts: Counts::default(),
            store,
            ca: config.ca.clone(),
            held: Held::new(None),
            roots: Roots::none(Arc::clone(&clock)),
            clock,
            changes: watch::channel(0).0,
        };
        Self { inner: Arc::new(inner) }
    }

    /// TLS configuration of a connection to the pool; it follows renewals and exchanged files by itself.
    pub fn client_config(&self, alpn: &[&[u8]]) -> Arc<ClientConfig> {
        let Inner { roots, held, clock, .. } = self.inner.as_ref();
        tls::client(Arc::clone(roots), Some(Arc::clone(held)), Arc::clone(clock), alpn)
    }

    /// TLS configuration that shows no certificate: for renewing one that has ended.
    fn nameless_config(&self) -> Arc<ClientConfig> {
        let Inner { roots, clock, .. } = self.inner.as_ref();
        tls::client(Arc::clone(roots), None, Arc::clone(clock), &[H2])
    }

    /// Registers the metrics of renewals.
    pub fn register(&self, registry: &mut Registry) {
        let Counts { renewed, failed, end } = &self.inner.counts;
        let help = "Certificates that the pool has renewed";
        registry.register("certificate_renewals", help, renewed.clone());
        registry.register("certificate_renewals_failed", "Renewals that came to nothing", failed.clone());
        let help = "When the device's certificate ends, in seconds since 1970; 0: it has none";
        registry.register("certificate_expiry_timestamp_seconds", help, end.clone());
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

/// Waits for the next of [`Identity::changes`]; for ever where there is no identity.
pub(crate) async fn changed(changes: &mut Option<watch::Receiver<u64>>) {
    if let Some(changes) = changes
        && changes.changed().await.is_ok()
    {
        return;
    }
    std::future::pending().await
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
        let end = chain.as_ref().map(|chain| chain.leaf().not_after.duration_since(UNIX_EPOCH));
        let end = end.and_then(Result::ok).unwrap_or_default().as_secs();
        self.counts.end.set(end.try_into().unwrap_or(i64::MAX));
        if let Some(chain) = &chain {
            // It was signed then, so that time is past.
            self.clock.raise(chain.leaf().not_before);
        }
        let fingerprint = |chain: &Chain| chain.leaf().fingerprint;
        if self.held.get().as_deref().map(fingerprint) != chain.as_ref().map(fingerprint) {
            self.held.set(chain);
            self.changes.send_modify(|count| *count += 1);
        }
        Ok(())
    }
}
