//! The agent as a service: folders → agent → sinks, with the local gRPC and the admin port beside.
//!
//! ```text
//! folder tasks ──Taken──> pump ──(room in flight)──> file task: read, decide ──> outbox: keep, commit, deliver, tidy
//!      ^                                                   │                        ^            ^
//!      └───────────────── Reply ───────────────────────────┘             gRPC calls ┘   back-log ┘ amended decisions
//! ```
//!
//! Back-pressure is one bound: `queue` files in flight, from being taken to being acknowledged by every sink. When a
//! sink stands still so do the folders, and files wait where nothing can lose them: on disk.
//!
//! A stop goes down the path: no more files and calls; those in flight end; sinks empty their queues; the uplink goes
//! last. All of it within `drain_grace`. What is not done by then is done after the next start: a file without a commit is
//! decided again, a record without its acknowledgements is delivered again.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use millgate_shared::shutdown::Tasks;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::{Instant, timeout_at};

use crate::admin;
use crate::agent::{Agent, AgentConfig, BytesConfig};
use crate::api::{self, Calls};
use crate::audit::Audits;
use crate::backlog::Backlog;
use crate::config::EdgeConfig;
use crate::crash::Hand;
use crate::epochs::{self, Epochs};
use crate::identity::Identity;
use crate::journal::{JournalError, JournalHandle, Known, Post};
use crate::metrics::Metrics;
use crate::outbox::Outbox;
use crate::settings::Refused;
use crate::sink::{Key, OpenError, Sinks, Told};
use crate::source::calm::Calm;
use crate::source::{Left, Starting, Taken, Tidy, joined};
use crate::spool::{self, Spool, Started};
use crate::uplink::ledger::LedgerConfig;
use desk::Desk;
use kept::Kept;
use ports::Ports;

mod beside;
mod desk;
mod kept;
mod ports;
#[cfg(test)]
mod tests;

/// How long connections that carry no call may linger.
const HANG_UP: Duration = Duration::from_millis(300);
/// Changes that wait for the journal's thread, at least.
const JOURNAL_QUEUE: usize = 256;

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Config(#[from] Refused),
    #[error("{}{}", .0, instead(.0))]
    Agent(Box<crate::agent::StartError>),
    #[error("the agent's start panicked")]
    Panicked,
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error(transparent)]
    Sink(#[from] OpenError),
    #[error(transparent)]
    Spool(#[from] spool::OpenError),
    #[error("`{key}`: cannot listen on {listen}: {source}")]
    Listen { key: &'static str, listen: SocketAddr, source: std::io::Error },
    #[error("reflection: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
}

/// What to do where there is no bundle.
fn instead(error: &crate::agent::StartError) -> &'static str {
    if error.lacks_bundle() { "; set `bundle` in the configuration to where one is" } else { "" }
}

impl StartError {
    /// True if only a change of the configuration helps. A bundle may be half copied, a port or a descriptor in use: trying
    /// again helps as soon as that is over.
    pub fn is_final(&self) -> bool {
        match self {
            Self::Config(_) | Self::Reflection(_) => true,
            Self::Agent(error) => error.is_of_configuration(),
            Self::Panicked | Self::Journal(_) | Self::Sink(_) | Self::Spool(_) | Self::Listen { .. } => false,
        }
    }
}

/// Starts services.
#[derive(Debug)]
pub struct Service;

/// A service at work.
#[derive(Debug)]
pub struct Running {
    agent: Agent,
    epochs: Epochs,
    identity: Identity,
    metrics: Arc<Metrics>,
    sinks: Sinks,
    journal: Option<JournalHandle>,
    grpc: Option<SocketAddr>,
    admin: Option<SocketAddr>,
    /// Folders and the pump.
    intake: Tasks,
    /// Files in flight.
    work: Tasks,
    api: Tasks,
    calls: Calls,
    /// The uplink and the admin port: the last to go.
    base: Tasks,
    hand: Hand,
    broken: watch::Receiver<Option<String>>,
    audits: Audits,
    grace: Duration,
}

/// What a drain left behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drained {
    /// Files that were not decided, delivered and remembered; the next start takes them again.
    pub files: usize,
    /// Records that a sink still had queued.
    pub records: usize,
}

impl Service {
    /// Returns when samples are taken: the bundle is checked, ports are bound, sinks are open. A pool that is out of
    /// reach and a folder that is not there yet are no reason not to start.
    pub async fn start(config: EdgeConfig) -> Result<Running, StartError> {
        config.check()?;
        let base = Tasks::new();
        // Ports first: a second agent on the device fails at once, and not after loading its models.
        let ports = Ports::bind(&config).await?;
        kept::make_state_dir(config.state_dir.clone()).await?;
        let identity = start_identity(&config, &base).await?;
        let (agent, bundles) = start_agent(&config, &identity, &base).await?;
        let metrics = Arc::new(Metrics::of(&identity, &agent));
        let (break_service, broken) = watch::channel(None);
        let on_broken = move |message| {
            break_service.send_replace(Some(message));
        };
        let hand = open_hand(&config).await?;
        let kept = Kept::open(&config, &hand, &metrics.journal).await?;
        let undelivered = kept.undelivered.iter().map(|(_, post)| key(post)).collect();
        let sinks =
            Sinks::open(&config.sinks, config.queue, &undelivered, &kept.told, &metrics.sinks, on_broken)?;

        let (intake, work, api) = (Tasks::new(), Tasks::new(), Tasks::new());
        let Kept { journal, known, spooled, undelivered, told } = kept;
        let journal = journal.map(|journal| journal.start(config.queue.max(JOURNAL_QUEUE))).transpose()?;
        if let Some(journal) = &journal {
            let looking = journal.looking();
            let token = base.token().clone();
            base.spawn(async move {
                let _stopped = token.run_until_cancelled(looking).await.is_none();
            });
        }
        let started =
            start_spool(&config, journal.as_ref(), spooled, &undelivered, &told, &metrics, &hand).await?;
        let (spool, orphans) = started.map(|started| (started.spool, started.orphans)).unzip();
        let naming = (!config.sources.is_empty()).then(|| agent.naming());
        let epochs = Epochs::new(&agent, naming, spool.clone(), bundles, metrics.epochs.clone());
        epochs.begin().await;
        let (catching_up, stopping) = (epochs.clone().catch_up(), intake.token().clone());
        intake.spawn(async move {
            let _stopped = stopping.run_until_cancelled(catching_up).await;
        });
        let tidy = Tidy::new(&config.sources, &agent.naming(), &intake);
        let outbox = Outbox::new(
            sinks.clone(),
            journal.clone(),
            spool.clone(),
            tidy,
            &hand,
            metrics.outbox.clone(),
            &work,
        );
        work.spawn(outbox.clone().carry_on(undelivered, orphans.unwrap_or_default()));
        let audits = beside::start(&config, &agent, &metrics, &base).await?;
        audits.labels().tell(metrics.recent.clone());
        if let Some(journal) = journal.clone().filter(|_| !config.sources.is_empty()) {
            start_files(
                &config, known, told, &agent, &audits, &outbox, &hand, journal, &metrics, &intake, &work,
            );
        }
        if let Some(spool) = spool.clone() {
            let (agent, outbox, metrics) = (agent.clone(), outbox.clone(), Arc::clone(&metrics));
            let (epochs, audits) = (epochs.clone(), audits.clone());
            let backlog = Backlog {
                agent,
                audits,
                epochs,
                spool,
                outbox,
                hand: hand.clone(),
                metrics,
                work: work.clone(),
            };
            intake.spawn(backlog.run(config.spool.parallel, intake.token().clone()));
        }
        let calls = Calls::default();
        let ports = ports.open(&config, &metrics)?;
        let grpc = match ports.api {
            Some((door, address)) => {
                let outbox = config.api.record.then(|| outbox.clone());
                let rooms = api::Rooms {
                    agent: agent.clone(),
                    outbox,
                    hand: hand.clone(),
                    metrics: Arc::clone(&metrics),
                    audits: audits.clone(),
                };
                api::start(door, rooms, &calls, &api).await?;
                Some(address)
            }
            None => None,
        };
        let admin = ports.admin.map(|port| {
            let address = port.address;
            let kept = admin::Kept { spool, epochs: epochs.clone(), labels: audits.labels().clone() };
            admin::start(port, &config.admin, &agent, &metrics, kept, &intake, &base);
            address
        });
        let grace = config.drain_grace;
        Ok(Running {
            agent,
            epochs,
            identity,
            metrics,
            sinks,
            journal,
            grpc,
            admin,
            intake,
            work,
            api,
            calls,
            base,
            hand,
            broken,
            audits,
            grace,
        })
    }
}

impl Running {
    pub fn agent(&self) -> &Agent {
        &self.agent
    }

    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Reads the device's certificate, key and authorities again. Does not wait for it.
    pub fn reload(&self) {
        self.identity.reload();
    }

    /// Switches to the bundle at the configured path, if another one lies there than when it was last followed. Does not
    /// wait for it; the log says what came of it.
    pub fn follow_bundle(&self, configured: PathBuf) {
        let epochs = self.epochs.clone();
        self.base.spawn(async move {
            if let Ok(report) = epochs.follow(configured).await
                && !report.changed
            {
                tracing::info!(active = %report.active, "the configured bundle is the one that was followed last");
            }
        });
    }

    /// Where the local gRPC listens.
    pub fn grpc_addr(&self) -> Option<SocketAddr> {
        self.grpc
    }

    /// Where `/metrics` is.
    pub fn admin_addr(&self) -> Option<SocketAddr> {
        self.admin
    }

    /// Returns only if the service cannot go on; says why.
    pub async fn broken(&mut self) -> String {
        match self.broken.wait_for(Option::is_some).await {
            Ok(message) => message.clone().unwrap_or_default(),
            // No sink is left that could break.
            Err(_) => std::future::pending().await,
        }
    }

    /// Stops: see the module's own words. Takes at most `drain_grace`.
    pub async fn drain(self) -> Drained {
        let until = Instant::now() + self.grace;
        self.api.stop();
        let intake = self.intake.drain(self.grace).await;
        // First the calls: each may still hand over a record.
        self.calls.ended(until).await;
        let files = self.work.drain(left(until)).await;
        self.api.drain(left(until).min(HANG_UP)).await;
        let records = self.sinks.close(until).await;
        if let Some(journal) = &self.journal {
            // What was delivered must not be delivered again; where the disk does not take that, it will be.
            let _late = timeout_at(until.max(Instant::now() + HANG_UP), journal.flush()).await.is_err();
        }
        let _late =
            timeout_at(until.max(Instant::now() + HANG_UP), self.audits.labels().flush()).await.is_err();
        self.base.drain(left(until).min(HANG_UP)).await;
        let hand = self.hand.clone();
        let _late = tokio::task::spawn_blocking(move || hand.end()).await.is_err();
        self.epochs.close();
        Drained { files: intake + files, records }
    }
}

fn left(until: Instant) -> Duration {
    until.saturating_duration_since(Instant::now())
}

/// Who the device is; renews its certificate from now on.
async fn start_identity(config: &EdgeConfig, tasks: &Tasks) -> Result<Identity, StartError> {
    let wanted = config.identity.clone();
    let open = move || Identity::open_or_bare(&wanted);
    let identity = tokio::task::spawn_blocking(open).await.map_err(|_| StartError::Panicked)?;
    let proxy = config.offload.parsed_proxy().map_err(StartError::Config)?;
    identity.keep(config.offload.cloud.iter().cloned(), proxy, tasks);
    Ok(identity)
}

async fn start_agent(
    config: &EdgeConfig,
    identity: &Identity,
    tasks: &Tasks,
) -> Result<(Agent, epochs::Kept), StartError> {
    let state_dir = config.state_dir.clone();
    let config = AgentConfig {
        bundle: config.bundle.clone(),
        cloud: config.pools(identity),
        task: config.task.clone(),
        mode: config.offload.parsed_mode()?,
        risk: config.offload.risk,
        deadline: config.offload.deadline,
        grace: config.offload.grace,
        threads: config.model_threads(),
        queue: config.queue,
        bytes: BytesConfig {
            send: config.offload.send.clone(),
            ledger: LedgerConfig {
                limits: config.offload.budget,
                is_metered: config.offload.metered,
                dir: Some(config.state_dir.clone()),
            },
            audit: config.offload.audit,
        },
        bit_depths: config.bit_depths(),
        wishes: config.wishes(),
        engine: config.parsed_engine()?,
    };
    let tasks = tasks.clone();
    let start =
        move || epochs::start(config, &state_dir, &tasks).map_err(|error| StartError::Agent(Box::new(error)));
    tokio::task::spawn_blocking(start).await.map_err(|_| StartError::Panicked)?
}

/// There is a pool that may answer later, and something that may be amended.
fn has_spool(config: &EdgeConfig) -> bool {
    let has_records = !config.sources.is_empty() || (config.api.enabled && config.api.record);
    config.spool.enabled && !config.offload.cloud.is_empty() && has_records
}

/// Opens the notes of what is in hand; an agent that keeps nothing notes nothing.
async fn open_hand(config: &EdgeConfig) -> Result<Hand, StartError> {
    if config.sources.is_empty() && !has_spool(config) {
        return Ok(Hand::default());
    }
    let dir = config.state_dir.clone();
    tokio::task::spawn_blocking(move || Hand::open(&dir)).await.map_err(|_| StartError::Panicked)
}

fn key(post: &Post) -> Key {
    Key { id: post.id.clone(), version: post.version }
}

async fn start_spool(
    config: &EdgeConfig,
    journal: Option<&JournalHandle>,
    spooled: HashMap<String, bool>,
    undelivered: &[(u64, Post)],
    told: &Told,
    metrics: &Metrics,
    hand: &Hand,
) -> Result<Option<Started>, StartError> {
    let (hand, told) = (hand.clone(), told.clone());
    let Some(journal) = journal.filter(|_| has_spool(config)).cloned() else {
        // Writes a small file.
        tokio::task::spawn_blocking(move || hand.has_started()).await.map_err(|_| StartError::Panicked)?;
        return Ok(None);
    };
    let (dir, config) = (config.state_dir.clone(), config.spool.clone());
    let undelivered = undelivered.iter().map(|(_, post)| post.id.clone()).collect();
    let metrics = metrics.spool.clone();
    // The whole log is read.
    let start = move || {
        let started =
            Spool::start(&dir, &config, journal, spooled, &undelivered, |id| told.knows(id), metrics, &hand);
        hand.has_started();
        started
    };
    let started = tokio::task::spawn_blocking(start).await.map_err(|_| StartError::Panicked)??;
    Ok(Some(started))
}

/// Folders, the pump, and what a file's task needs.
#[expect(clippy::too_many_arguments, reason = "called once, to take a long function apart")]
fn start_files(
    config: &EdgeConfig,
    known: Vec<Vec<Known>>,
    told: Told,
    agent: &Agent,
    audits: &Audits,
    outbox: &Outbox,
    hand: &Hand,
    journal: JournalHandle,
    metrics: &Arc<Metrics>,
    intake: &Tasks,
    work: &Tasks,
) {
    let (out, taken) = mpsc::channel(1);
    let calm = Calm::new(config.sources.len(), (Instant::now() + hand.calm()).into_std());
    for (number, (source, known)) in config.sources.iter().zip(known).enumerate() {
        let settings = source.settings();
        let out = match settings.join() {
            Some(join) => joined::start(join, out.clone(), intake),
            None => out.clone(),
        };
        settings.start(Starting {
            left: Left { known, risks: hand.risks(settings.name()) },
            turn: calm.turn(number),
            out,
            journal: journal.clone(),
            metrics: metrics.sources.of(settings.name()),
            naming: agent.naming(),
            tasks: intake.clone(),
        });
    }
    let desk = Desk::new(agent, outbox, hand, metrics, audits.clone(), told, intake.token().clone());
    intake.spawn(pump(taken, Arc::new(desk), config.queue, intake.token().clone(), work.clone()));
}

/// Gives each file a task of its own, as soon as there is room.
async fn pump(
    mut taken: mpsc::Receiver<Taken>,
    desk: Arc<Desk>,
    queue: usize,
    token: tokio_util::sync::CancellationToken,
    work: Tasks,
) {
    let room = Arc::new(Semaphore::new(queue));
    loop {
        let next = async {
            let permit = Arc::clone(&room).acquire_owned().await.ok()?;
            Some((permit, taken.recv().await?))
        };
        // A file that is dropped here is still in its folder.
        let Some(Some((permit, taken))) = token.run_until_cancelled(next).await else { return };
        let desk = Arc::clone(&desk);
        work.spawn(async move {
            desk.handle(taken).await;
            drop(permit);
        });
    }
}
