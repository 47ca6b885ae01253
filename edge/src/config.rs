//! `edge.toml`: what is typed, parsed strictly; each table belongs to the room that goes by it, and is put together and
//! checked here.
//!
//! Every key has a default, so that an empty file is a valid agent that serves its local gRPC and prints decisions.
//! `deploy/edge/edge.toml` shows them all; a test keeps the two equal. Relative paths are relative to the directory the
//! agent was started in. Durations are text with a unit: "500ms", "2s", "1h".

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use millgate_shared::door::origin;
use millgate_shared::engine::Engine;
use millgate_shared::image::BitDepth;
use millgate_shared::text_file;
use millgate_shared::toml_file::{self, TomlError};
use millgate_shared::trouble::{self, Fault};
use serde::Deserialize;

use crate::admin::AdminConfig;
use crate::agent::OffloadConfig;
use crate::api::ApiConfig;
use crate::identity::{Identity, IdentityConfig};
use crate::labels::LabelsConfig;
use crate::settings::{Refused, check_listen, refuse};
use crate::sink::SinkConfig;
use crate::source::SourceConfig;
use crate::spool::SpoolConfig;
use crate::uplink::Pools;
use crate::wishes::{RecipeConfig, Wishes};
use crate::{engines, sink, source};

#[cfg(test)]
mod tests;

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
    /// The engine that runs models: `tract`.
    pub engine: String,
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
    pub recipe: RecipeConfig,
    pub identity: IdentityConfig,
    pub spool: SpoolConfig,
    pub labels: LabelsConfig,
    pub sources: Vec<SourceConfig>,
    /// None: standard output.
    pub sinks: Vec<SinkConfig>,
    pub api: ApiConfig,
    pub admin: AdminConfig,
}

/// Log lines go to standard error.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    pub format: LogFormat,
    /// error, warn, info, debug, trace, or levels by target (`info,millgate_edge=debug`); the variable MILLGATE_LOG overrides it.
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
            engine: engines::usual().name().to_owned(),
            threads: 0,
            queue: 64,
            drain_grace: Duration::from_secs(10),
            log: LogConfig::default(),
            offload: OffloadConfig::default(),
            recipe: RecipeConfig::default(),
            identity: IdentityConfig::default(),
            spool: SpoolConfig::default(),
            labels: LabelsConfig::default(),
            sources: Vec::new(),
            sinks: Vec::new(),
            api: ApiConfig::default(),
            admin: AdminConfig::default(),
        }
    }
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { format: LogFormat::Text, level: "info".to_owned() }
    }
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

impl ConfigError {
    /// Trying again changes nothing: what the file says is wrong. A file that cannot be read may come, or be set right.
    pub fn is_final(&self) -> bool {
        match self {
            Self::Read { source, .. } => trouble::judge(source) == Fault::Itself,
            Self::Parse(_) | Self::Refused { .. } => true,
        }
    }
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

    /// `engine`, as the agent takes it.
    pub fn parsed_engine(&self) -> Result<&'static dyn Engine, Refused> {
        engines::named(&self.engine).ok_or_else(|| Refused {
            key: "engine".to_owned(),
            message: format!("`{}` is none of {}", self.engine, engines::names().join(", ")),
        })
    }

    /// Gives the first thing that is wrong.
    pub fn check(&self) -> Result<(), Refused> {
        if self.task.is_empty() {
            return refuse("task", "is empty");
        }
        self.parsed_engine()?;
        if self.queue == 0 {
            return refuse("queue", "must be at least 1");
        }
        if self.threads > 1024 {
            return refuse("threads", "is over 1024");
        }
        self.offload.check()?;
        self.recipe.check()?;
        self.spool.check()?;
        self.labels.check()?;
        check_listen("api", self.api.listen, self.api.plaintext_beyond_loopback)?;
        if let Err(message) = origin::check(&self.admin.allowed_hosts) {
            return refuse("admin.allowed_hosts", message);
        }
        check_listen("admin", self.admin.listen, self.admin.plaintext_beyond_loopback)?;
        if self.api.enabled
            && self.admin.enabled
            && self.api.listen == self.admin.listen
            && self.api.listen.port() != 0
        {
            return refuse("admin.listen", format!("{} is taken by `api.listen`", self.admin.listen));
        }
        source::check(&self.sources)?;
        sink::check(&self.sinks)
    }

    /// Where the pools are and who this device is towards them.
    pub fn pools(&self, identity: &Identity) -> Option<Pools> {
        let (identity, state_dir) = (Some(identity.clone()), Some(self.state_dir.clone()));
        (!self.offload.cloud.is_empty()).then(|| Pools { identity, state_dir, ..self.offload.pools() })
    }

    /// How many bits of its 16-bit samples count, by each source that says so.
    pub fn bit_depths(&self) -> BTreeMap<String, BitDepth> {
        let known = |source: &SourceConfig| {
            let settings = source.settings();
            Some((settings.name().to_owned(), settings.bit_depth()?))
        };
        self.sources.iter().filter_map(known).collect()
    }

    /// What is wanted of samples, by all and by each source.
    pub fn wishes(&self) -> Wishes {
        let of = |(at, source): (usize, &SourceConfig)| {
            let settings = source.settings();
            (settings.name().to_owned(), (format!("sources[{at}]"), settings.wish()))
        };
        let sources = self.sources.iter().enumerate().map(of).collect();
        Wishes { recipe: self.recipe.clone(), labels: Vec::new(), sources }
    }

    /// `threads`, with 0 made into a number.
    pub fn model_threads(&self) -> usize {
        // More than this and a small device has nothing left for its camera.
        const MOST: usize = 4;
        let cores = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        if self.threads > 0 { self.threads } else { cores().min(MOST) }
    }
}
