//! The agent: every input it accepts gets one decision, with or without the pool.
//!
//! [`Agent::decide`] is the shell round [`millgate_shared::deciding`]: one hop to a model thread (decode, gate, local
//! experts), at most one round trip to the pool, and the combine.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use millgate_shared::bundle::{Bundle, BundleError};
use millgate_shared::deciding::{Mode, Policy};
use millgate_shared::decision::{Decision, Missing};
use millgate_shared::gate::Place;
use millgate_shared::image::BitDepth;
use millgate_shared::index::{By, ExpertIx};
use millgate_shared::local::{prices, tier_places};
use millgate_shared::proof::golden;
use millgate_shared::runner::{Holding, Models, RunError};
use millgate_shared::shutdown::Tasks;
use millgate_shared::workers::{WorkError, Workers};
use tokio::sync::watch;

use crate::crash::Held;
use crate::input::Input;
use crate::uplink::breaker;
use crate::uplink::ledger::{Ledger, LedgerConfig};
use crate::uplink::session::LinkState;
use crate::uplink::troubles::Trouble;
use crate::uplink::upload::{SendConfig, UploadPolicy};
use crate::uplink::{Counts, Pools, PoolsError, Uplink, UplinkConfig};

mod asking;
mod config;
mod deciding;
mod error;
mod later;
mod live;
pub mod payload;

pub use config::OffloadConfig;
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
}

/// What goes up the line, and how much of it.
#[derive(Debug, Clone, Default)]
pub struct BytesConfig {
    pub send: SendConfig,
    pub ledger: LedgerConfig,
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
    #[error("`offload.send.modality.{modality}`: is not a modality of bundle {bundle}")]
    UnknownModality { modality: String, bundle: String },
}

impl StartError {
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
    task: String,
    policy: Policy,
    workers: Workers,
    uplink: Option<Uplink>,
    live: live::Live,
    upload: Arc<UploadPolicy>,
    ledger: Ledger,
    bit_depths: BTreeMap<String, BitDepth>,
}

impl Agent {
    /// Opens and checks the bundle, runs its golden samples, starts the model threads, and dials the pool in the
    /// background. Blocks while models load; returns before the pool has answered.
    pub fn start(config: AgentConfig, tasks: &Tasks) -> Result<Self, StartError> {
        let path = config.bundle.clone();
        let refuse = |source| StartError::Bundle { path: path.clone(), source: Box::new(source) };
        let bundle = Bundle::open(&config.bundle).map_err(refuse)?;
        let models = Arc::new(Models::load(&bundle, Holding::Edge).map_err(refuse)?);
        let policy = policy(&config, &models)?;
        if let Some(pools) = &config.cloud {
            pools.parsed()?;
        }
        let upload = UploadPolicy::new(&config.bytes.send, models.manifest()).map_err(|modality| {
            StartError::UnknownModality { modality, bundle: models.manifest().name.clone() }
        })?;
        golden::check(&bundle, &models).map_err(refuse)?;
        let ledger = Ledger::open(&config.bytes.ledger);
        let workers = Workers::start(&models, config.threads, config.queue)
            .map_err(|source| StartError::Models { path, source: Box::new(source) })?;
        let uplink = config.cloud.map(|pools| {
            let dial_timeout = config.deadline.clamp(Duration::from_millis(500), Duration::from_secs(5));
            let breaker = breaker::Config::default();
            let (digest, ledger) = (models.digest(), ledger.clone());
            Uplink::start(UplinkConfig { pools, digest, dial_timeout, breaker, ledger }, tasks)
        });
        let uplink = uplink.transpose()?;
        Ok(Self {
            parts: Arc::new(Parts {
                task: config.task,
                policy,
                workers,
                uplink,
                live: live::Live::default(),
                upload: Arc::new(upload),
                ledger,
                bit_depths: config.bit_depths,
            }),
        })
    }

    /// One decision, by the deadline of its policy. The pool's failures are never errors: they are in the record.
    pub async fn decide(&self, input: Input, ask: Ask) -> Result<Decision, DecideError> {
        deciding::decide(self, input, ask, None).await.map(|decided| decided.decision)
    }

    /// The same, and what a late answer of the pool needs to be worked in. What is `held` is let go once nothing of the
    /// sample is computed here any more.
    pub(crate) async fn decide_open(
        &self,
        input: Input,
        ask: Ask,
        held: Option<Held>,
    ) -> Result<Decided, DecideError> {
        deciding::decide(self, input, ask, held).await
    }

    /// What holds for samples that do not say otherwise.
    pub fn policy(&self) -> &Policy {
        &self.parts.policy
    }

    pub fn task(&self) -> &str {
        &self.parts.task
    }

    pub fn models(&self) -> &Arc<Models> {
        self.parts.workers.models()
    }

    pub fn threads(&self) -> usize {
        self.parts.workers.threads()
    }

    /// Samples that wait for a model thread.
    pub fn queued(&self) -> usize {
        self.parts.workers.queued()
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

    /// Where each expert can be run right now.
    fn places(&self) -> By<ExpertIx, Place> {
        let cloud = match self.link() {
            LinkState::Up | LinkState::Unknown => Place::Remote,
            LinkState::Unconfigured | LinkState::Down { .. } => Place::Absent(Missing::Offline),
        };
        let manifest = self.models().manifest();
        let mut places = tier_places(manifest, cloud);
        for expert in places.indices() {
            if places[expert] != Place::Local
                && let Some(modality) = self.parts.upload.withheld(manifest, expert)
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

    /// What may leave the device.
    pub fn upload_policy(&self) -> &UploadPolicy {
        &self.parts.upload
    }

    fn prices(&self) -> By<ExpertIx, f64> {
        prices(self.models().manifest())
    }
}

fn policy(config: &AgentConfig, models: &Models) -> Result<Policy, StartError> {
    let manifest = models.manifest();
    if manifest.task(&config.task).is_none() {
        return Err(StartError::UnknownTask {
            task: config.task.clone(),
            bundle: manifest.name.clone(),
            known: manifest.tasks.iter().map(|task| task.name.clone()).collect(),
        });
    }
    if let Mode::Pinned(names) = &config.mode
        && let Some(unknown) = names.iter().find(|name| manifest.expert_index(name).is_none())
    {
        return Err(StartError::UnknownExpert(unknown.clone()));
    }
    let risk = config.risk.unwrap_or(manifest.offload.default_risk);
    if !(risk > 0.0 && risk < 1.0) {
        return Err(StartError::Risk(risk));
    }
    Ok(Policy { mode: config.mode.clone(), risk, deadline: config.deadline, grace: config.grace })
}

impl From<WorkError> for DecideError {
    fn from(error: WorkError) -> Self {
        Self::Workers(error)
    }
}
