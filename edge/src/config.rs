//! `edge.toml`: what is typed, parsed strictly; what it must mean is checked in `config::check`.
//!
//! Every key has a default, so that an empty file is a valid agent that serves its local gRPC and prints decisions.
//! `deploy/edge/edge.toml` shows them all; a test keeps the two equal. Relative paths are relative to the directory the
//! agent was started in. Durations are text with a unit: "500ms", "2s", "1h".

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use millgate_shared::image::BitDepth;
use millgate_shared::text_file;
use millgate_shared::toml_file::{self, TomlError};
use serde::{Deserialize, Deserializer};

use crate::identity::Identity;
use crate::uplink::{Allowed, Pools};

use crate::uplink::ledger::Limits;
use crate::uplink::upload::SendConfig;

mod check;
mod identity;
mod sink;
mod source;
mod spool;
#[cfg(test)]
mod tests;

pub use check::Refused;
pub use identity::IdentityConfig;
pub use sink::{JsonlConfig, SinkConfig, StdoutConfig, WebhookConfig, WhenFull};
pub use source::{After, Existing, FolderConfig, SourceConfig, Templates};
pub use spool::{SpoolConfig, SpoolFull, SpoolSync};

/// The whole file.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EdgeConfig {
    /// Directory or `.tar.zst` of the bundle.
    pub bundle: PathBuf,
    /// The task that files are decided for; one of the bundle's.
    pub task: String,
    /// Where the agent remembers which files it has decided, and keeps what is still to be delivered or amended. Must
    /// survive restarts.
    pub state_dir: PathBuf,
    /// Threads that run models. 0: one a core, at most 4.
    pub threads: usize,
    /// Samples that may wait for a model thread, and files that may be between being taken and being acknowledged by
    /// every sink. When it is full, folders wait (their files stay on disk) and gRPC calls are refused.
    pub queue: usize,
    /// How long a stop waits for samples in flight and for sinks.
    #[serde(with = "humantime_serde")]
    pub drain_grace: Duration,
    pub log: LogConfig,
    pub offload: OffloadConfig,
    pub identity: IdentityConfig,
    pub spool: SpoolConfig,
    pub sources: Vec<SourceConfig>,
    /// None: standard output.
    pub sinks: Vec<SinkConfig>,
    pub api: ApiConfig,
    pub admin: AdminConfig,
}

/// When the pool is asked.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OffloadConfig {
    /// The pools, each `https://host:port`, the preferred one first; one alone needs no list. None: the agent decides alone,
    /// and says so in each decision that wanted a pool.
    #[serde(deserialize_with = "one_or_many")]
    pub cloud: Vec<String>,
    /// auto, quic or tcp.
    pub transport: Allowed,
    /// `http://[user:password@]host:port` of an HTTP proxy, for TCP.
    pub proxy: Option<String>,
    /// Allows `http://` to pools that are not on this machine.
    pub plaintext_beyond_loopback: bool,
    /// confidence, gate, always, never or pinned.
    pub mode: String,
    /// Accepted error rate among samples that stay local, above 0 and below 1. None: the bundle's own.
    pub risk: Option<f64>,
    /// Experts for mode pinned.
    pub pinned: Vec<String>,
    /// From the start of a sample to its decision. A pool that hangs costs at most this.
    #[serde(with = "humantime_serde")]
    pub deadline: Duration,
    /// How long further answers of the pool are waited for once enough have come.
    #[serde(with = "humantime_serde")]
    pub grace: Duration,
    /// The line costs by the byte: only live calls that are worth it go up, backlog and bulk wait. Can be switched while
    /// the agent runs; see `docs/bytes.md`.
    pub metered: bool,
    /// What leaves the device.
    pub send: SendConfig,
    /// How much of it.
    pub budget: Limits,
}

/// The agent's own gRPC, `millgate.v1.InferenceService`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ApiConfig {
    pub enabled: bool,
    pub listen: SocketAddr,
    /// Allows `listen` to be other than loopback, where anyone on the network may call it and read along.
    pub plaintext_beyond_loopback: bool,
    /// Its decisions also go to the sinks. The caller has its answer and does not wait for a sink: while sinks stand still
    /// and too many records wait for them, a record is left out there, and counted.
    pub record: bool,
}

/// `/metrics`, `/healthz` and `/readyz` over HTTP.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdminConfig {
    pub enabled: bool,
    pub listen: SocketAddr,
    /// Allows `listen` to be other than loopback.
    pub plaintext_beyond_loopback: bool,
}

/// Log lines go to standard error.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    pub format: LogFormat,
    /// error, warn, info, debug, trace, or a `tracing` filter; the variable MILLGATE_LOG overrides it.
    pub level: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    Text,
    Json,
}

impl Default for EdgeConfig {
    fn default() -> Self {
        Self {
            bundle: PathBuf::from("/var/lib/millgate/bundle"),
            task: "inspect".to_owned(),
            state_dir: PathBuf::from("/var/lib/millgate/state"),
            threads: 0,
            queue: 64,
            drain_grace: Duration::from_secs(10),
            log: LogConfig::default(),
            offload: OffloadConfig::default(),
            identity: IdentityConfig::default(),
            spool: SpoolConfig::default(),
            sources: Vec::new(),
            sinks: Vec::new(),
            api: ApiConfig::default(),
            admin: AdminConfig::default(),
        }
    }
}

impl Default for OffloadConfig {
    fn default() -> Self {
        Self {
            cloud: Vec::new(),
            transport: Allowed::Auto,
            proxy: None,
            plaintext_beyond_loopback: false,
            mode: "confidence".to_owned(),
            risk: None,
            pinned: Vec::new(),
            deadline: Duration::from_secs(1),
            grace: Duration::from_millis(10),
            metered: false,
            send: SendConfig::default(),
            budget: Limits::default(),
        }
    }
}

impl Default for ApiConfig {
    fn default() -> Self {
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 8011));
        Self { enabled: true, listen, plaintext_beyond_loopback: false, record: true }
    }
}

impl Default for AdminConfig {
    fn default() -> Self {
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 8012));
        Self { enabled: true, listen, plaintext_beyond_loopback: false }
    }
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { format: LogFormat::Text, level: "info".to_owned() }
    }
}

/// A text, or a list of them.
fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "expected an address or a list of them")]
    enum OneOrMany {
        One(String),
        Many(Vec<String>),
    }
    Ok(match OneOrMany::deserialize(deserializer)? {
        OneOrMany::One(one) => vec![one],
        OneOrMany::Many(many) => many,
    })
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("{}: {source}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{0}")]
    Parse(#[from] TomlError),
    #[error("{file}: {refused}")]
    Refused { file: String, refused: Refused },
}

impl EdgeConfig {
    /// Reads, parses and checks a file.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text =
            text_file::read(path).map_err(|source| ConfigError::Read { path: path.to_path_buf(), source })?;
        Self::parse(&path.display().to_string(), &text)
    }

    /// `file` only names it in errors.
    pub fn parse(file: &str, text: &str) -> Result<Self, ConfigError> {
        let config: Self = toml_file::parse(file, text)?;
        config.check().map_err(|refused| ConfigError::Refused { file: file.to_owned(), refused })?;
        Ok(config)
    }

    /// Where the pools are and who this device is towards them.
    pub fn pools(&self, identity: &Identity) -> Option<Pools> {
        let (identity, state_dir) = (Some(identity.clone()), Some(self.state_dir.clone()));
        (!self.offload.cloud.is_empty()).then(|| Pools { identity, state_dir, ..self.offload.pools() })
    }

    /// By source that has one.
    pub fn bit_depths(&self) -> BTreeMap<String, BitDepth> {
        let known = |source: &SourceConfig| Some((source.name().to_owned(), source.bit_depth()?));
        self.sources.iter().filter_map(known).collect()
    }

    /// `threads`, with 0 made into a number.
    pub fn model_threads(&self) -> usize {
        // More than this and a small device has nothing left for its camera.
        const MOST: usize = 4;
        let cores = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        if self.threads > 0 { self.threads } else { cores().min(MOST) }
    }
}
