//! Whether a receiver can be reached.

use std::io;
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use super::way;
use crate::finding::Item;

const CONNECT_LIMIT: Duration = Duration::from_secs(3);

/// Looks only whether somebody listens: a test decision would be taken for a real one.
pub(super) fn look(key: &str, url: &str) -> Item {
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
    let uri: http::Uri = url.parse().ok()?;
    let port = uri.port_u16().unwrap_or(if uri.scheme_str() == Some("https") { 443 } else { 80 });
    Some(format!("{}:{port}", uri.host()?))
}
