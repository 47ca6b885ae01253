//! The agent's ports: bound before anything else, and opened, with their bounds, when there is something to answer.
//!
//! Anyone on the device can connect to them. So each has its own places, whoever says nothing takes none of those of
//! who does, and all of them together leave the agent descriptors for its pictures.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use millgate_shared::door::descriptors;
use millgate_shared::door::incoming::{Door, HTTP2_PREFACE};
use millgate_shared::door::origin::Hosts;
use millgate_shared::door::seats::{Bounds, Seats};
use tokio::net::TcpListener;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::StartError;
use crate::admin::Port;
use crate::config::EdgeConfig;
use crate::metrics::Metrics;

/// How long the port of an agent that was killed a moment ago may linger.
const LEFTOVER: Duration = Duration::from_secs(2);
/// Connections of programs that ask for decisions, at a time.
const CALLERS: usize = 256;
/// Connections to the admin port, at a time.
const OPERATORS: usize = 64;
/// Connections to one port that have said nothing yet.
const KNOCKS: usize = 64;

/// The listeners; `None`: that port is off.
pub(super) struct Ports {
    api: Option<TcpListener>,
    admin: Option<TcpListener>,
}

/// The ports, ready to be answered on.
pub(super) struct Open {
    pub(super) api: Option<(Door, SocketAddr)>,
    pub(super) admin: Option<Port>,
}

impl Ports {
    pub(super) async fn bind(config: &EdgeConfig) -> Result<Self, StartError> {
        let api = bind("api.listen", config.api.enabled, config.api.listen).await?;
        let admin = bind("admin.listen", config.admin.enabled, config.admin.listen).await?;
        Ok(Self { api, admin })
    }

    /// Raises the process's limit of open files, and gives the doors what it has room for.
    pub(super) fn open(self, config: &EdgeConfig, metrics: &Metrics) -> Result<Open, StartError> {
        let limit = descriptors::raise().unwrap_or_else(|error| {
            tracing::warn!(%error, "the limit of open files cannot be read or raised");
            None
        });
        let mut bounds = [
            Bounds { connections: CALLERS, knocks: KNOCKS, has_spares: false },
            Bounds { connections: OPERATORS, knocks: KNOCKS, has_spares: true },
        ];
        if descriptors::fit(limit, &mut bounds) {
            let [api, admin] = bounds.map(|bounds| bounds.connections);
            tracing::warn!(
                files = limit,
                api,
                admin,
                "fewer connections are let in: the agent may open too few files"
            );
        }
        let [callers, operators] = bounds;
        let door = |(key, name), listen, bounds, listener: TcpListener, greeting| {
            let address =
                listener.local_addr().map_err(|source| StartError::Listen { key, listen, source })?;
            let seats = Seats::new(name, bounds, CancellationToken::new(), Arc::clone(&metrics.doors));
            Ok::<_, StartError>((Door::new(listener, seats, greeting, None), address))
        };
        let api = self.api.map(|listener| {
            door(("api.listen", "api"), config.api.listen, callers, listener, Some(HTTP2_PREFACE))
        });
        let admin = self
            .admin
            .map(|listener| door(("admin.listen", "admin"), config.admin.listen, operators, listener, None));
        let machine = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let hosts = Hosts::new([machine], &config.admin.allowed_hosts);
        let admin = admin.transpose()?.map(|(door, address)| Port { door, address, hosts });
        Ok(Open { api: api.transpose()?, admin })
    }
}

async fn bind(
    key: &'static str,
    is_enabled: bool,
    listen: SocketAddr,
) -> Result<Option<TcpListener>, StartError> {
    if !is_enabled {
        return Ok(None);
    }
    let until = Instant::now() + LEFTOVER;
    loop {
        match TcpListener::bind(listen).await {
            Ok(listener) => return Ok(Some(listener)),
            Err(error) if error.kind() == ErrorKind::AddrInUse && Instant::now() < until => {
                tokio::time::sleep(LEFTOVER / 20).await;
            }
            Err(source) => return Err(StartError::Listen { key, listen, source }),
        }
    }
}
