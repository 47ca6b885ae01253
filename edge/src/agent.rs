//! The agent: every input it accepts gets one decision, with or without the pool.
//!
//! [`Agent::decide`] is the shell round [`millgate_shared::deciding`]: one hop to a model thread (decode, gate, local
//! experts), at most one round trip to the pool, and the combine.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use millgate_shared::bundle::manifest::Manifest;
use millgate_shared::bundle::{Bundle, BundleDigest, BundleError};
use millgate_shared::deciding::{Mode, Policy};
use millgate_shared::decision::{Decision, Missing};
use millgate_shared::engine::Engine;
use millgate_shared::gate::{Place, tier_places};
use millgate_shared::image::BitDepth;
use millgate_shared::index::{By, ExpertIx};
use millgate_shared::runner::RunError;
use millgate_shared::shutdown::Tasks;
use millgate_shared::workers::WorkError;
use tokio::sync::watch;

use crate::crash::Held;
use crate::input::{Input, Naming};
use crate::settings::Refused;
use crate::uplink::breaker;
use crate::uplink::ledger::{Ledger, LedgerConfig};
use crate::uplink::session::LinkState;
use crate::uplink::troubles::Trouble;
use crate::uplink::upload::SendConfig;
use crate::uplink::{Counts, Pools, PoolsError, Uplink, UplinkConfig};
use crate::wishes::Wishes;

mod asking;
mod audit;
mod config;
mod deciding;
mod epoch;
mod error;
mod later;
mod live;
pub mod payload;
mod regions;
mod stuck;
#[cfg(test)]
mod tests;

pub(crate) use audit::Audit;
pub use config::OffloadConfig;
pub use epoch::{Epoch, Rules};
pub use error::DecideError;
pub(crate) use later::{Decided, Late, LateAnswers, Left};

#[derive(Debug, Clone)]
pub struct AgentConfig {
    /// A directory or a `.tar.zst`.
    pub bundle: PathBuf,
    /// Where the pools are.
    pub cloud: Option<Pools>,
    pub task: String,
    pub mode: Mode,
    /// `None` takes the bundle's default.
    pub risk: Option<f64>,
    /// From accepting a sample to its decision.
    pub deadline: Duration,
    /// How long further cloud answers are waited for once one has come.
    pub grace: Duration,
    /// Threads that run models.
    pub threads: usize,
    /// Samples that wait for them.
    pub queue: usize,
    pub bytes: BytesConfig,
    /// By source, how many bits of its 16-bit samples count.
    pub bit_depths: BTreeMap<String, BitDepth>,
    /// What is made of verdicts, and what each source says of its samples.
    pub wishes: Wishes,
    /// Runs the models; see [`crate::engines`].
    pub engine: &'static dyn Engine,
}

/// What goes up the line, and how much of it.
#[derive(Debug, Clone, Default)]
pub struct BytesConfig {
    pub send: SendConfig,
    pub ledger: LedgerConfig,
    /// Share of the decisions made here under the certificate that the pool is asked about as well, 0 to 1.
    pub audit: f64,
}

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("bundle {}: {source}", path.display())]
    Bundle { path: PathBuf, source: Box<BundleError> },
    #[error("bundle {}: {source}", path.display())]
    Models { path: PathBuf, source: Box<RunError> },
    #[error("task `{task}`: is not a task of bundle {bundle} (it has {})", known.join(", "))]
    UnknownTask { task: String, bundle: String, known: Vec<String> },
    #[error("mode pinned: `{0}` is not an expert of this bundle")]
    UnknownExpert(String),
    #[error("risk {0}: must be over 0 and under 1")]
    Risk(f64),
    #[error("`offload.{}`: {source}", source.key)]
    Cloud {
        #[from]
        source: PoolsError,
    },
    #[error("{refused} (bundle {})", path.display())]
    Wishes { path: PathBuf, refused: Refused },
    #[error("`offload.send.modality.{modality}`: is not a modality of bundle {bundle}")]
    UnknownModality { modality: String, bundle: String },
}

impl StartError {
    /// Opens a bundle, or says that it cannot be.
    pub(crate) fn open(path: &Path) -> Result<Bundle, Self> {
        Bundle::open(path)
            .map_err(|source| Self::Bundle { path: path.to_path_buf(), source: Box::new(source) })
    }

    /// The bundle is at fault, and not what the configuration asks of it.
    pub(crate) fn is_of_bundle(&self) -> bool {
        matches!(self, Self::Bundle { .. } | Self::Models { .. })
    }

    /// The machine did not let the bundle be read, which says nothing of it.
    pub(crate) fn is_of_machine(&self) -> bool {
        matches!(self, Self::Bundle { source, .. } if source.is_of_machine())
    }

    /// The configuration is at fault, whatever bundle comes: trying again changes nothing. A bundle may be on its way, and what
    /// the configuration asks of one may come with the next.
    pub fn is_of_configuration(&self) -> bool {
        match self {
            Self::Risk(_) | Self::Cloud { .. } => true,
            Self::Bundle { .. }
            | Self::Models { .. }
            | Self::UnknownTask { .. }
            | Self::UnknownExpert(_)
            | Self::Wishes { .. }
            | Self::UnknownModality { .. } => false,
        }
    }

    /// There is none where it was looked for.
    pub fn lacks_bundle(&self) -> bool {
        matches!(self, Self::Bundle { source, .. } if source.is_absent())
    }
}

/// What one sample asks for, where it differs from the agent's own.
#[derive(Debug, Clone, Default)]
pub struct Ask {
    pub task: Option<String>,
    pub policy: Option<Policy>,
}

/// Handle to the agent. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Agent {
    parts: Arc<Parts>,
}

#[derive(Debug)]
struct Parts {
    config: AgentConfig,
    epoch: watch::Sender<Arc<Epoch>>,
    /// Epochs that some decision may still hold.
    alive: Mutex<Vec<Weak<Epoch>>>,
    uplink: Option<Uplink>,
    live: live::Live,
    ledger: Ledger,
    stuck: Mutex<stuck::Stuck>,
}

impl Agent {
    /// Opens and checks the configured bundle, runs its golden samples, starts the model threads, and dials the pool in the
    /// background. Blocks while models load; returns before the pool has answered.
    pub fn start(config: AgentConfig, tasks: &Tasks) -> Result<Self, StartError> {
        let bundle = StartError::open(&config.bundle)?;
        Self::start_with(&bundle, config, tasks)
    }

    /// Like [`Self::start`], with a bundle that is open already; the path in the configuration only names it in errors.
    pub fn start_with(bundle: &Bundle, config: AgentConfig, tasks: &Tasks) -> Result<Self, StartError> {
        if let Some(pools) = &config.cloud {
            pools.parsed()?;
        }
        let epoch = Arc::new(Epoch::start(bundle, &config.bundle, &config)?);
        let ledger = Ledger::open(&config.bytes.ledger);
        let uplink = config.cloud.clone().map(|pools| {
            let dial_timeout = config.deadline.clamp(Duration::from_millis(500), Duration::from_secs(5));
            let breaker = breaker::Config::default();
            let (digest, ledger) = (epoch.digest(), ledger.clone());
            Uplink::start(UplinkConfig { pools, digest, dial_timeout, breaker, ledger }, tasks)
        });
        let uplink = uplink.transpose()?;
        let alive = Mutex::new(vec![Arc::downgrade(&epoch)]);
        let epoch = watch::Sender::new(epoch);
        let (live, stuck) = (live::Live::default(), Mutex::default());
        let parts = Parts { config, epoch, alive, uplink, live, ledger, stuck };
        Ok(Self { parts: Arc::new(parts) })
    }

    /// The bundle in use, with all that hangs on it. Whoever needs several things of it takes it once.
    pub fn epoch(&self) -> Arc<Epoch> {
        Arc::clone(&self.parts.epoch.borrow())
    }

    /// Makes an epoch of a bundle and proves it, while the one in use goes on; nothing is switched yet. Errors name the
    /// bundle by `path`. Blocks while models load.
    pub(crate) fn prepare(&self, bundle: &Bundle, path: &Path) -> Result<Arc<Epoch>, StartError> {
        Epoch::start(bundle, path, &self.parts.config).map(Arc::new)
    }

    /// Every decision that begins from now on is one of this epoch.
    pub(crate) fn enter(&self, epoch: Arc<Epoch>) {
        let mut alive = self.alive();
        alive.retain(|epoch| epoch.strong_count() > 0);
        alive.push(Arc::downgrade(&epoch));
        drop(alive);
        let digest = epoch.digest();
        self.parts.epoch.send_replace(epoch);
        if let Some(uplink) = &self.parts.uplink {
            uplink.hold(digest);
        }
    }

    /// The bundles that some decision is still made with.
    pub(crate) fn digests(&self) -> BTreeSet<BundleDigest> {
        self.alive().iter().filter_map(Weak::upgrade).map(|epoch| epoch.digest()).collect()
    }

    /// What an amendment needs of an earlier epoch, by its manifest.
    pub(crate) fn rules(&self, digest: BundleDigest, manifest: Arc<Manifest>) -> Result<Rules, StartError> {
        Rules::new(digest, manifest, &self.parts.config)
    }

    fn alive(&self) -> MutexGuard<'_, Vec<Weak<Epoch>>> {
        self.parts.alive.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One decision, by the deadline of its policy. The pool's failures are never errors: they are in the record.
    pub async fn decide(&self, input: Input, ask: Ask) -> Result<Decision, DecideError> {
        self.decide_open(&self.epoch(), input, ask, None).await.map(|decided| decided.decision)
    }

    /// One decision of an epoch, and what a late answer of the pool needs to be worked in. What is `held` is let go once
    /// nothing of the sample is computed here any more.
    pub(crate) async fn decide_open(
        &self,
        epoch: &Arc<Epoch>,
        input: Input,
        ask: Ask,
        held: Option<Held>,
    ) -> Result<Decided, DecideError> {
        deciding::decide(self, epoch, input, ask, held).await
    }

    /// How the files of one sample are named, by the bundle in use.
    pub fn naming(&self) -> Naming {
        Naming::of(self.epoch().manifest())
    }

    /// Threads that run models.
    pub fn threads(&self) -> usize {
        self.epoch().workers.threads()
    }

    /// Samples that wait for a model thread.
    pub fn queued(&self) -> usize {
        self.epoch().workers.queued()
    }

    pub fn link(&self) -> LinkState {
        self.parts.uplink.as_ref().map_or(LinkState::Unconfigured, Uplink::link)
    }

    /// By pool, which of its lives it was in when it last said so.
    pub(crate) fn lives(&self) -> Vec<Option<String>> {
        self.parts.uplink.as_ref().map_or_else(Vec::new, Uplink::lives)
    }

    /// What the uplink counts, if there is one.
    pub fn uplink_counts(&self) -> Option<&Counts> {
        self.parts.uplink.as_ref().map(Uplink::counts)
    }

    /// Told of each change of [`Self::link`]; `None` without a pool.
    pub(crate) fn link_changes(&self) -> Option<watch::Receiver<LinkState>> {
        self.parts.uplink.as_ref().map(Uplink::subscribe)
    }

    /// Follows why there is no line to a pool; `None` without one.
    pub(crate) fn troubles(&self) -> Option<watch::Receiver<Vec<Trouble>>> {
        self.parts.uplink.as_ref().map(Uplink::troubles)
    }

    /// Waits until it is known whether the pool answers, or for `limit`.
    pub async fn link_settled(&self, limit: Duration) -> LinkState {
        match &self.parts.uplink {
            Some(uplink) => uplink.settled(limit).await,
            None => LinkState::Unconfigured,
        }
    }

    /// Where each expert of an epoch can be run right now.
    fn places(&self, epoch: &Epoch) -> By<ExpertIx, Place> {
        let is_asked = |uplink: &Uplink| uplink.may_hold(epoch.digest());
        let cloud = match self.link() {
            LinkState::Up | LinkState::Unknown if self.parts.uplink.as_ref().is_some_and(is_asked) => {
                Place::Remote
            }
            _ => Place::Absent(Missing::Offline),
        };
        let manifest = epoch.manifest();
        let mut places = tier_places(manifest, cloud);
        for expert in places.indices() {
            if places[expert] != Place::Local
                && let Some(modality) = epoch.upload_policy().withheld(manifest, expert)
            {
                places[expert] = Place::Withheld(modality);
            }
        }
        places
    }

    /// What has gone up, and what may still.
    pub fn ledger(&self) -> &Ledger {
        &self.parts.ledger
    }
}

impl From<WorkError> for DecideError {
    fn from(error: WorkError) -> Self {
        Self::Workers(error)
    }
}
