//! `millgate-edge run`: the service until it is told to stop.

use std::io;
use std::path::{Path, PathBuf};

use clap::Args;
use millgate_shared::shutdown::{self, Asked, Signals};
use millgate_shared::telemetry;
use sd_notify::NotifyState;

use super::{FAILED, OK, UNUSABLE, complain};
use crate::config::{EdgeConfig, LogFormat};
use crate::service::{Running, Service};

#[derive(Debug, Args)]
pub struct RunArgs {
    /// Path of edge.toml; deploy/edge/edge.toml documents every key
    #[arg(long, value_name = "FILE", env = "MILLGATE_EDGE_CONFIG")]
    config: PathBuf,
}

/// Gives the exit code.
pub async fn run(args: RunArgs) -> io::Result<u8> {
    let mut config = match EdgeConfig::load(&args.config) {
        Ok(config) => config,
        Err(error) => {
            complain(&error);
            return Ok(if error.is_final() { UNUSABLE } else { FAILED });
        }
    };
    let format = match config.log.format {
        LogFormat::Text => telemetry::LogFormat::Text,
        LogFormat::Json => telemetry::LogFormat::Json,
    };
    telemetry::init(&config.log.level, format);
    // Asked for first: a stop while models load must not be lost, nor a hang-up end it.
    let mut signals = Signals::listen()?;
    let started = tokio::select! {
        biased;
        _ = signals.stop() => return Ok(OK),
        started = Service::start(config.clone()) => started,
    };
    let mut running = match started {
        Ok(running) => running,
        Err(error) => {
            complain(&error);
            return Ok(if error.is_final() { UNUSABLE } else { FAILED });
        }
    };
    announce(&running);
    let code = loop {
        tokio::select! {
            asked = signals.next() => match asked {
                Asked::Stop(signal) => {
                    tracing::info!(signal, "told to stop");
                    break OK;
                }
                Asked::Reload => reload(&running, &args.config, &mut config),
                Asked::Nothing(signal) => shutdown::ignored(signal),
            },
            why = running.broken() => {
                complain(&why);
                break FAILED;
            }
        }
    };
    drain(running, &mut signals).await;
    Ok(code)
}

/// The device's identity is read again, and the bundle is followed. The rest of the configuration is not: whoever has changed
/// it hears so.
fn reload(running: &Running, path: &Path, config: &mut EdgeConfig) {
    tell_systemd(NotifyState::Reloading);
    tracing::info!(
        signal = "SIGHUP",
        "reading the device's certificate, its authorities and the bundle again"
    );
    running.reload();
    match EdgeConfig::load(path) {
        Ok(now) => {
            config.bundle.clone_from(&now.bundle);
            if now != *config {
                tracing::warn!(path = %path.display(), "the configuration has changed; that takes effect at a restart");
            }
        }
        Err(error) => tracing::error!(%error, "the configuration has changed, and a restart would fail"),
    }
    running.follow_bundle(config.bundle.clone());
    tell_systemd(NotifyState::Ready);
}

fn announce(running: &Running) {
    let epoch = running.agent().epoch();
    let bundle = epoch.manifest();
    tracing::info!(
        bundle = bundle.name,
        version = bundle.version,
        digest = %epoch.digest(),
        grpc = running.grpc_addr().map(tracing::field::display),
        admin = running.admin_addr().map(tracing::field::display),
        "ready"
    );
    tell_systemd(NotifyState::Ready);
}

/// A second signal to stop ends the wait.
async fn drain(running: Running, signals: &mut Signals) {
    tracing::info!("draining");
    tell_systemd(NotifyState::Stopping);
    tokio::select! {
        drained = running.drain() => match (drained.files, drained.records) {
            (0, 0) => tracing::info!("drained"),
            (files, records) => {
                tracing::warn!(files, records, "drained, but not all; the rest is decided or delivered after the next start");
            }
        },
        signal = signals.stop() => {
            tracing::warn!(signal, "stopped at once; what was in flight is decided or delivered after the next start");
        }
    }
}

/// Does nothing where systemd is not waiting for it.
fn tell_systemd(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::debug!(%error, "systemd cannot be told");
    }
}
