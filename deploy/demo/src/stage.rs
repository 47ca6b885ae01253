//! What the run plays on: a real pool, a real agent, and the link between them.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use millgate_cloud::{CloudConfig, Running, ServeError, Server};
use millgate_edge::agent::{Agent, AgentConfig, BytesConfig, StartError};
use millgate_edge::input::Naming;
use millgate_edge::uplink::session::LinkState;
use millgate_shared::deciding::Mode;
use millgate_shared::proto::MAX_MESSAGE_BYTES;
use millgate_shared::proto::v1::inference_service_client::InferenceServiceClient;
use millgate_shared::shutdown::Tasks;
use tonic::transport::{Channel, Endpoint};

use crate::link::Link;

/// The task of the recorded samples.
pub const TASK: &str = "inspect";
/// Samples go one at a time, so that more threads would only cost memory.
const MOST_THREADS: usize = 4;
const QUEUE: usize = 64;
/// How long further cloud answers are waited for once one has come.
const GRACE: Duration = Duration::from_millis(10);
/// For the first dial; on loopback it takes milliseconds.
const DIAL_LIMIT: Duration = Duration::from_secs(5);
const DRAIN_GRACE: Duration = Duration::from_secs(2);

#[derive(Debug, Clone)]
pub struct StageConfig {
    pub bundle: PathBuf,
    /// `None` takes the bundle's default.
    pub risk: Option<f64>,
    /// The agent's, from accepting a sample to its decision.
    pub deadline: Duration,
}

#[derive(Debug, thiserror::Error)]
pub enum StageError {
    #[error("pool: {0}")]
    Pool(#[from] ServeError),
    #[error("agent: {0}")]
    Agent(#[from] Box<StartError>),
    #[error("link: {0}")]
    Link(#[from] std::io::Error),
    #[error("a client of the pool: {0}")]
    Client(#[from] tonic::transport::Error),
    #[error("the loader stopped: {0}")]
    Loader(#[from] tokio::task::JoinError),
    #[error("the agent does not reach the pool within {} s", DIAL_LIMIT.as_secs())]
    Dial,
}

/// What was set up.
#[derive(Debug, Clone)]
pub struct Facts {
    /// Name and version.
    pub bundle: String,
    pub risk: f64,
    pub deadline_ms: u64,
    /// Samples of the whole run.
    pub planned: usize,
    /// Loading and proving the bundle on both sides, and the first dial.
    pub started_in: Duration,
}

#[derive(Debug)]
pub struct Stage {
    pub(crate) pool: Running,
    pub(crate) link: Link,
    pub(crate) agent: Agent,
    /// To the pool, past the link.
    pub(crate) direct: InferenceServiceClient<Channel>,
    tasks: Tasks,
    started_in: Duration,
}

impl Stage {
    /// How the files of one sample are named.
    pub fn naming(&self) -> Naming {
        self.agent.naming()
    }

    /// Loads and proves the bundle on both sides; returns once the agent has reached the pool.
    pub async fn start(config: StageConfig) -> Result<Self, StageError> {
        let started = Instant::now();
        let tasks = Tasks::new();
        let free_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let threads = cores.min(MOST_THREADS);
        let pool = Server::start(CloudConfig {
            bundle: config.bundle.clone(),
            grpc: free_port,
            http: free_port,
            metrics: free_port,
            threads,
            ..CloudConfig::default()
        })
        .await?;
        let link = Link::start(pool.grpc_addr(), &tasks).await?;
        let agent_config = AgentConfig {
            bundle: config.bundle,
            cloud: Some(format!("http://{}", link.addr()).into()),
            task: TASK.to_owned(),
            mode: Mode::Confidence,
            risk: config.risk,
            deadline: config.deadline,
            grace: GRACE,
            threads,
            queue: QUEUE,
            bytes: BytesConfig::default(),
            bit_depths: BTreeMap::new(),
            wishes: Default::default(),
            engine: millgate_edge::engines::usual(),
        };
        let agent_tasks = tasks.clone();
        // Loading computes for a while.
        let start = move || Agent::start(agent_config, &agent_tasks).map_err(Box::new);
        let agent = tokio::task::spawn_blocking(start).await??;
        if agent.link_settled(DIAL_LIMIT).await != LinkState::Up {
            return Err(StageError::Dial);
        }
        let direct = Endpoint::from_shared(format!("http://{}", pool.grpc_addr()))?.tcp_nodelay(true);
        let direct = InferenceServiceClient::new(direct.connect().await?)
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        Ok(Self { pool, link, agent, direct, tasks, started_in: started.elapsed() })
    }

    pub fn facts(&self, planned: usize) -> Facts {
        let epoch = self.agent.epoch();
        let (manifest, policy) = (epoch.manifest(), epoch.policy());
        Facts {
            bundle: format!("{} {}", manifest.name, manifest.version),
            risk: policy.risk,
            deadline_ms: policy.deadline.as_millis() as u64,
            planned,
            started_in: self.started_in,
        }
    }

    /// Spawns here end with the stage.
    pub(crate) fn tasks(&self) -> &Tasks {
        &self.tasks
    }

    /// Stops agent and link, then the pool.
    pub async fn drain(self) {
        let left = self.tasks.drain(DRAIN_GRACE).await;
        // Its connections wait for a next request; nobody will make one.
        drop(self.direct);
        let drained = self.pool.drain(DRAIN_GRACE).await;
        tracing::debug!(left, cut_calls = drained.cut_calls, "the stage is drained");
    }
}
