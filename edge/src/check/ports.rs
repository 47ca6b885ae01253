//! Ports to listen on, and receivers to reach.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::time::Duration;

use super::Item;
use crate::config::{EdgeConfig, SinkConfig};
use crate::sink::way;

const CONNECT_LIMIT: Duration = Duration::from_secs(3);

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

pub(super) fn check_webhooks(config: &EdgeConfig) -> Vec<Item> {
    let webhooks = config.sinks.iter().enumerate().filter_map(|(at, sink)| match sink {
        SinkConfig::Webhook(webhook) => Some((at, &webhook.url)),
        SinkConfig::Stdout(_) | SinkConfig::Jsonl(_) => None,
    });
    webhooks.map(|(at, url)| webhook(&format!("sinks[{at}].url"), url)).collect()
}

/// Only that somebody listens: a test decision would be taken for a real one.
fn webhook(key: &str, url: &str) -> Item {
    let Some(address) = address(url) else {
        return Item::failed(key, "names no host", format!("correct `{key}`"));
    };
    let through = match way::from_env(url) {
        Ok(through) => through,
        Err(error) => {
            let message = format!("{address}: {error}");
            return Item::failed(key, message, "correct the variable, or leave the host out with `no_proxy`");
        }
    };
    match &through {
        None => match connect(&address) {
            Ok(()) => Item::ok(key, format!("{address} accepts connections")),
            Err(error) => Item::warning(
                key,
                format!("{address}: {error}"),
                "start the receiver; until then decisions wait, and with `when_full = \"block\"` so do the folders",
            ),
        },
        Some(through) => match connect(&through.peer()) {
            Ok(()) => Item::ok(
                key,
                format!(
                    "{address} is reached through {through}, which accepts connections; whether the receiver does is not known"
                ),
            ),
            Err(error) => Item::warning(
                key,
                format!("{address}: through {through}: {error}"),
                "start the proxy, or leave the host out with `no_proxy`; until then decisions wait",
            ),
        },
    }
}

fn connect(to: &impl ToSocketAddrs) -> io::Result<()> {
    let mut found = to.to_socket_addrs()?;
    let found = found.next().ok_or_else(|| io::Error::other("has no address"))?;
    TcpStream::connect_timeout(&found, CONNECT_LIMIT).map(drop)
}

fn address(url: &str) -> Option<String> {
    let uri: tonic::transport::Uri = url.parse().ok()?;
    let port = uri.port_u16().unwrap_or(if uri.scheme_str() == Some("https") { 443 } else { 80 });
    Some(format!("{}:{port}", uri.host()?))
}
