//! What an operator can set. One TOML file, unknown keys refused; flags override it. `deploy/cloud/cloud.toml` shows
//! every key with its default. Each room has its own table; they are put together here.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use millgate_shared::door::origin;
use millgate_shared::text_file;
use millgate_shared::toml_file::{self, TomlError};
use millgate_shared::trouble::{self, Fault};
use serde::Deserialize;

use crate::access::config as access;
pub use crate::access::config::{AccessConfig, ClonePolicy, DeviceBounds, Loopback, TenantConfig};
pub use crate::door::config::QuicConfig;
use crate::engines::EnginesConfig;
pub use crate::guests::GuestsConfig;
pub use crate::holding::config::HoldingConfig;
pub use crate::identity::config::{DevicesConfig, TlsConfig};
pub use crate::serving::config::CacheConfig;
pub use crate::trace::config::TracesConfig;

#[cfg(test)]
mod tests;

/// The pool's configuration. Durations are in milliseconds, as the key says.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CloudConfig {
    /// The bundle to host: a directory or a `.tar.zst`, from the working directory; empty: none, only plain models are
    /// served. Default `models/factory`.
    pub bundle: PathBuf,
    /// Folders of plain ONNX models to serve besides, in the shapes that [`crate::repository`] names. Default none.
    pub model_repository: Vec<PathBuf>,
    /// This node's name; decisions say `cloud:<node>`. Letters, digits, `.`, `_`, `-`. Default `node-1`.
    pub node: String,
    /// gRPC listen address; port 0 takes a free one. Default `127.0.0.1:8001`.
    pub grpc: SocketAddr,
    /// REST listen address of the Open Inference Protocol; port 0 takes a free one. Default `127.0.0.1:8000`.
    pub http: SocketAddr,
    /// HTTP listen address of `/metrics`, `/healthz` and `/readyz`; port 0 takes a free one. Default `127.0.0.1:8002`.
    pub metrics: SocketAddr,
    /// Names by which this pool may be asked over HTTP without TLS, besides `localhost`, the node's and the machine's name
    /// and `tls.names`, and hosts whose pages may ask it from a browser; `*.example.com` is every name below it. Default
    /// none.
    pub allowed_hosts: Vec<String>,
    /// True: an address that other machines can reach may go without TLS; what is sent there is not encrypted and anyone
    /// may ask. Always needed for `metrics` there, which has no TLS. Default false.
    pub plaintext_beyond_loopback: bool,
    /// The folder where authority, certificates, devices and tokens are kept, copies of the active bundle and the one before, and
    /// which models have ended the pool while they were loaded. Default `pool-state`.
    pub state_dir: PathBuf,
    /// How long the bundle before a switch is still answered after it was last asked for by its digest, in milliseconds;
    /// it stays on disk, for a rollback. Default 600000.
    pub previous_bundle_idle_ms: u64,
    /// How long work may wait while none gets finished, in milliseconds: then the pool is not ready and takes no more, until
    /// some is finished. 0: for ever. Default 10000.
    pub stall_patience_ms: u64,
    /// Threads that run models, each with its own state; 0 takes one a core. Default 0.
    pub threads: usize,
    /// Entries (rows for one model, or pictures to decode) that may wait for a thread; one more is refused with
    /// RESOURCE_EXHAUSTED. Default 256.
    pub queue: usize,
    /// Connections, of gRPC and of REST each. For one more, whoever has the most of them gives one up, a quiet one at
    /// random; where nobody has more and none is quiet, the new one is closed at once. Default 256.
    pub max_connections: usize,
    /// HTTP/2 streams (calls) per connection; a client holds back one more. Default 128.
    pub max_streams: u32,
    /// Calls in flight on one gRPC stream; no more is read from it until one is answered. Default 32.
    pub max_in_flight_per_stream: usize,
    /// Deadline of a call that names none, in milliseconds from its arrival. Default 10000.
    pub default_deadline_ms: u64,
    /// How long a stopping pool lets calls in flight finish, in milliseconds. Default 10000.
    pub drain_grace_ms: u64,
    /// Served models under the names of Triton's metrics too. Default true.
    pub triton_metrics: bool,
    pub tls: TlsConfig,
    pub quic: QuicConfig,
    pub devices: DevicesConfig,
    pub access: AccessConfig,
    pub holding: HoldingConfig,
    pub tenants: Vec<TenantConfig>,
    pub cache: CacheConfig,
    pub traces: TracesConfig,
    /// What runs the models that are served by name.
    pub engines: EnginesConfig,
    /// The processes that models run in.
    pub guests: GuestsConfig,
    /// Program that a model's process is started as; it calls [`crate::worker::asked`] before all else. No key of the file:
    /// the binary sets it to itself. Default none: models run in this process.
    #[serde(skip)]
    pub worker_program: Option<PathBuf>,
}

impl Default for CloudConfig {
    fn default() -> Self {
        Self {
            bundle: PathBuf::from("models/factory"),
            model_repository: Vec::new(),
            node: "node-1".to_owned(),
            grpc: SocketAddr::from((Ipv4Addr::LOCALHOST, 8001)),
            http: SocketAddr::from((Ipv4Addr::LOCALHOST, 8000)),
            metrics: SocketAddr::from((Ipv4Addr::LOCALHOST, 8002)),
            allowed_hosts: Vec::new(),
            plaintext_beyond_loopback: false,
            state_dir: PathBuf::from("pool-state"),
            previous_bundle_idle_ms: 600_000,
            stall_patience_ms: 10_000,
            threads: 0,
            queue: 256,
            max_connections: 256,
            max_streams: 128,
            max_in_flight_per_stream: 32,
            default_deadline_ms: 10_000,
            drain_grace_ms: 10_000,
            triton_metrics: true,
            tls: TlsConfig::default(),
            quic: QuicConfig::default(),
            devices: DevicesConfig::default(),
            access: AccessConfig::default(),
            holding: HoldingConfig::default(),
            tenants: Vec::new(),
            cache: CacheConfig::default(),
            traces: TracesConfig::default(),
            engines: EnginesConfig::default(),
            guests: GuestsConfig::default(),
            worker_program: None,
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: std::io::Error },
    #[error(transparent)]
    Toml(#[from] TomlError),
    /// A value that parses but cannot be used.
    #[error("`{key}`: {message}")]
    Value { key: &'static str, message: String },
}

impl ConfigError {
    /// Trying again changes nothing: what the file says is wrong. A file that cannot be read may come, or be set right.
    pub fn is_final(&self) -> bool {
        match self {
            Self::Io { source, .. } => trouble::judge(source) == Fault::Itself,
            Self::Toml(_) | Self::Value { .. } => true,
        }
    }
}

impl CloudConfig {
    /// Reads a file; the result is not yet checked, since flags may change it.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text =
            text_file::read(path).map_err(|source| ConfigError::Io { path: path.to_path_buf(), source })?;
        Ok(toml_file::parse(&path.display().to_string(), &text)?)
    }

    /// Most connections that can be asked for: as many as a process can have descriptors.
    pub const MOST_CONNECTIONS: usize = 1 << 20;

    /// Refuses what cannot be used, naming the key.
    pub fn check(&self) -> Result<(), ConfigError> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if self.node.is_empty() || self.node.len() > 64 || !self.node.bytes().all(plain) {
            let message = format!("`{}` must be 1 to 64 letters, digits, `.`, `_` or `-`", self.node);
            return Err(ConfigError::Value { key: "node", message });
        }
        for (key, bound) in [
            ("queue", self.queue),
            ("max_connections", self.max_connections),
            ("max_streams", self.max_streams as usize),
            ("max_in_flight_per_stream", self.max_in_flight_per_stream),
            ("default_deadline_ms", self.default_deadline_ms.try_into().unwrap_or(usize::MAX)),
        ] {
            if bound == 0 {
                return Err(ConfigError::Value { key, message: "must be at least 1".to_owned() });
            }
        }
        if self.max_connections > Self::MOST_CONNECTIONS {
            let message = format!("must be at most {}", Self::MOST_CONNECTIONS);
            return Err(ConfigError::Value { key: "max_connections", message });
        }
        let rooms = [
            origin::check(&self.allowed_hosts).map_err(|message| ("allowed_hosts", message)),
            self.traces.check(),
            self.tls.check(),
            self.devices.check(),
            access::check(&self.tenants),
            self.holding.check(),
            self.engines.check(),
            self.guests.check(),
        ];
        if let Some((key, message)) = rooms.into_iter().find_map(Result::err) {
            return Err(ConfigError::Value { key, message });
        }
        if self.state_dir.as_os_str().is_empty() {
            return Err(ConfigError::Value { key: "state_dir", message: "is empty".to_owned() });
        }
        for (key, address) in [("grpc", self.grpc), ("http", self.http)] {
            self.check_plain(key, address, self.has_tls(address), "turn `tls.enabled` on")?;
        }
        self.check_plain(
            "metrics",
            self.metrics,
            false,
            "it has no TLS: let a proxy on this machine offer it",
        )
    }

    /// Is TLS spoken on this listen address?
    pub fn has_tls(&self, address: SocketAddr) -> bool {
        self.tls.enabled.unwrap_or(!address.ip().is_loopback() && !self.plaintext_beyond_loopback)
    }

    /// gRPC is offered over QUIC too.
    pub fn has_quic(&self) -> bool {
        self.quic.enabled && self.has_tls(self.grpc)
    }

    fn check_plain(
        &self,
        key: &'static str,
        address: SocketAddr,
        has_tls: bool,
        instead: &str,
    ) -> Result<(), ConfigError> {
        if address.ip().is_loopback() || has_tls || self.plaintext_beyond_loopback {
            return Ok(());
        }
        let message = format!(
            "{address} can be reached from other machines, unencrypted and by anyone; listen on a loopback address, \
             {instead}, or accept that with `plaintext_beyond_loopback = true`"
        );
        Err(ConfigError::Value { key, message })
    }

    /// The bundle, if one is to be hosted.
    pub fn bundle_path(&self) -> Option<&Path> {
        (!self.bundle.as_os_str().is_empty()).then_some(self.bundle.as_path())
    }

    /// `threads`, with 0 resolved.
    pub fn thread_count(&self) -> usize {
        match self.threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            threads => threads,
        }
    }

    pub fn default_deadline(&self) -> Duration {
        Duration::from_millis(self.default_deadline_ms)
    }

    pub fn previous_bundle_idle(&self) -> Duration {
        Duration::from_millis(self.previous_bundle_idle_ms)
    }

    pub fn stall_patience(&self) -> Duration {
        Duration::from_millis(self.stall_patience_ms)
    }

    pub fn drain_grace(&self) -> Duration {
        Duration::from_millis(self.drain_grace_ms)
    }
}
