//! `serve`: a pool until SIGTERM or SIGINT.

use std::net::SocketAddr;
use std::path::PathBuf;

use millgate_shared::shutdown::{self, Asked, Signals};

use super::CommandError;
use crate::config::CloudConfig;
use crate::engines::EnginesConfig;
use crate::server::Server;

/// What overrides the file.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct ServeArgs {
    /// Configuration as a TOML file, which flags override; deploy/cloud/cloud.toml documents every key with its default
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Bundle to host: a folder or a .tar.zst [default: models/factory]
    #[arg(long, value_name = "PATH")]
    pub bundle: Option<PathBuf>,
    /// Host no bundle, only plain models
    #[arg(long, conflicts_with = "bundle")]
    pub no_bundle: bool,
    /// Folder of plain ONNX models to serve besides the bundle, laid out as for Triton or MLflow; may be given several times
    #[arg(long, value_name = "DIR")]
    pub model_repository: Vec<PathBuf>,
    /// Name of this node, which answers and metrics carry [default: node-1]
    #[arg(long)]
    pub node: Option<String>,
    /// Address and port to listen on for gRPC [default: 127.0.0.1:8001]
    #[arg(long, value_name = "ADDRESS")]
    pub grpc: Option<SocketAddr>,
    /// Address and port to listen on for REST [default: 127.0.0.1:8000]
    #[arg(long, value_name = "ADDRESS")]
    pub http: Option<SocketAddr>,
    /// Address and port to listen on for /metrics, /healthz and /readyz [default: 127.0.0.1:8002]
    #[arg(long, value_name = "ADDRESS")]
    pub metrics: Option<SocketAddr>,
    /// Threads that run models; 0 takes one for each core [default: 0]
    #[arg(long)]
    pub threads: Option<usize>,
    /// Path of libonnxruntime.so, with which models run where that is faster [default: the first that `engine list` shows]
    #[arg(long, value_name = "FILE", env = "MILLGATE_ONNXRUNTIME")]
    pub onnxruntime_library: Option<PathBuf>,
    /// Program that models' processes are started as; the binary sets it to itself.
    #[arg(skip)]
    pub worker_program: Option<PathBuf>,
}

impl ServeArgs {
    /// The file's configuration, or the default one, with the flags on top.
    pub fn resolve(self) -> Result<CloudConfig, CommandError> {
        let base = match &self.config {
            Some(path) => CloudConfig::read(path)?,
            None => CloudConfig::default(),
        };
        let config = CloudConfig {
            bundle: if self.no_bundle { PathBuf::new() } else { self.bundle.unwrap_or(base.bundle) },
            model_repository: match self.model_repository.is_empty() {
                true => base.model_repository,
                false => self.model_repository,
            },
            node: self.node.unwrap_or(base.node),
            grpc: self.grpc.unwrap_or(base.grpc),
            http: self.http.unwrap_or(base.http),
            metrics: self.metrics.unwrap_or(base.metrics),
            threads: self.threads.unwrap_or(base.threads),
            engines: EnginesConfig {
                onnxruntime_library: self.onnxruntime_library.or(base.engines.onnxruntime_library),
                ..base.engines
            },
            worker_program: self.worker_program,
            ..base
        };
        config.check()?;
        Ok(config)
    }
}

/// Serves until a signal, then drains.
pub async fn serve(config: CloudConfig) -> Result<(), CommandError> {
    let grace = config.drain_grace();
    // Asked for first: a hang-up that comes while models load must not end the pool, and a stop must not be lost.
    let mut signals = Signals::listen()?;
    let running = tokio::select! {
        biased;
        _ = signals.stop() => return Ok(()),
        started = Server::start_switchable(config) => started?,
    };
    loop {
        match signals.next().await {
            Asked::Stop(signal) => {
                tracing::info!(signal, "told to stop");
                break;
            }
            Asked::Reload => {
                tracing::info!(
                    signal = "SIGHUP",
                    "reading certificates, devices, tokens and the configured bundle again"
                );
                running.reload();
            }
            Asked::Nothing(signal) => shutdown::ignored(signal),
        }
    }
    tracing::info!(in_flight = running.in_flight(), grace_ms = grace.as_millis() as u64, "draining");
    let in_flight = running.calls_in_flight();
    let cut_calls = tokio::select! {
        drained = running.drain(grace) => drained.cut_calls,
        // A second signal ends the wait.
        signal = signals.stop() => {
            tracing::warn!(signal, "stopped at once");
            in_flight()
        }
    };
    tracing::info!(cut_calls, "stopped");
    match cut_calls {
        0 => Ok(()),
        calls => Err(CommandError::Cut(calls)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_override_the_file_and_the_file_the_defaults() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("cloud.toml");
        std::fs::write(&file, "node = \"from-file\"\nqueue = 7\n").unwrap();
        let args = |node: Option<&str>| ServeArgs {
            config: Some(file.clone()),
            node: node.map(str::to_owned),
            ..ServeArgs::default()
        };
        let config = args(None).resolve().unwrap();
        assert_eq!((config.node.as_str(), config.queue), ("from-file", 7));
        assert_eq!(args(Some("flag")).resolve().unwrap().node, "flag");
        let error = args(Some("a b")).resolve().unwrap_err();
        assert!(error.is_bad_input() && error.to_string().contains("`node`"), "{error}");
    }
}
