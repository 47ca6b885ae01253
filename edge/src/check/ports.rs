//! Ports to listen on.

use std::io;
use std::net::{SocketAddr, TcpListener};

use crate::config::EdgeConfig;
use crate::finding::Item;

/// `is_running`: an agent with this configuration's state directory is at work, so that it will hold the ports.
pub(super) fn check(config: &EdgeConfig, is_running: bool) -> Vec<Item> {
    let listens = [
        ("api.listen", config.api.enabled, config.api.listen),
        ("admin.listen", config.admin.enabled, config.admin.listen),
    ];
    listens
        .iter()
        .filter(|(_, is_enabled, _)| *is_enabled)
        .map(|(key, _, at)| port(key, *at, is_running))
        .collect()
}

fn port(key: &str, listen: SocketAddr, is_running: bool) -> Item {
    match TcpListener::bind(listen) {
        Ok(_) => Item::ok(key, format!("{listen} is free")),
        Err(error) if is_running && error.kind() == io::ErrorKind::AddrInUse => {
            Item::ok(key, format!("{listen} is in use by a running agent"))
        }
        Err(error) => Item::failed(
            key,
            format!("{listen}: {error}"),
            format!("stop what holds it (`ss -ltnp` names it), or change `{key}`"),
        ),
    }
}
