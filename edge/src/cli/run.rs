//! `millgate-edge run`: the service until it is told to stop.

use std::io;
use std::path::PathBuf;

use clap::Args;
use millgate_shared::shutdown::signal;
use millgate_shared::telemetry;
use sd_notify::NotifyState;

use super::{FAILED, OK, UNUSABLE, complain};
use crate::config::{EdgeConfig, LogFormat};
use crate::service::{Running, Service};

#[derive(Debug, Args)]
pub struct RunArgs {
    /// edge.toml
    #[arg(long, value_name = "FILE", env = "MILLGATE_EDGE_CONFIG")]
    config: PathBuf,
}

/// Gives the exit code.
pub async fn run(args: RunArgs) -> io::Result<u8> {
    let config = match EdgeConfig::load(&args.config) {
        Ok(config) => config,
        Err(error) => {
            complain(&error);
            return Ok(UNUSABLE);
        }
    };
    let format = match config.log.format {
        LogFormat::Text => telemetry::LogFormat::Text,
        LogFormat::Json => telemetry::LogFormat::Json,
    };
    telemetry::init(&config.log.level, format);
    // Asked for first, so that a stop while models load is not lost.
    let stop = signal();
    tokio::pin!(stop);
    let started = tokio::select! {
        started = Service::start(config) => started,
        stopped = &mut stop => return stopped.map(|()| OK),
    };
    let mut running = match started {
        Ok(running) => running,
        Err(error) => {
            complain(&error);
            return Ok(if error.is_final() { UNUSABLE } else { FAILED });
        }
    };
    announce(&running);
    let code = tokio::select! {
        stopped = &mut stop => {
            stopped?;
            OK
        }
        why = running.broken() => {
            complain(&why);
            FAILED
        }
    };
    drain(running).await?;
    Ok(code)
}

fn announce(running: &Running) {
    let bundle = running.agent().models().manifest();
    tracing::info!(
        bundle = bundle.name,
        version = bundle.version,
        digest = %running.agent().models().digest(),
        grpc = running.grpc_addr().map(tracing::field::display),
        admin = running.admin_addr().map(tracing::field::display),
        "ready"
    );
    tell_systemd(NotifyState::Ready);
}

/// A second signal ends the wait.
async fn drain(running: Running) -> io::Result<()> {
    tracing::info!("draining");
    tell_systemd(NotifyState::Stopping);
    tokio::select! {
        drained = running.drain() => match (drained.files, drained.records) {
            (0, 0) => tracing::info!("drained"),
            (files, records) => {
                tracing::warn!(files, records, "drained, but not all; the rest is decided or delivered after the next start");
            }
        },
        stopped = signal() => {
            stopped?;
            tracing::warn!("stopped at once; what was in flight is decided or delivered after the next start");
        }
    }
    Ok(())
}

/// Does nothing where systemd is not waiting for it.
fn tell_systemd(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::debug!(%error, "systemd cannot be told");
    }
}
