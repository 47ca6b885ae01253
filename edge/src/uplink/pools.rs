//! The pools of an agent and how they may be reached, as the configuration says it.

use std::net::IpAddr;
use std::path::PathBuf;

use millgate_shared::transport::tcp::Proxy;
use serde::{Deserialize, Serialize};

use crate::identity::Identity;

/// More addresses than this are a mistake: each is kept connected.
pub const MOST_POOLS: usize = 8;

/// How bytes travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    Quic,
    Tcp,
}

impl Transport {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Quic => "quic",
            Self::Tcp => "tcp",
        }
    }
}

/// Transports that may be used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Allowed {
    /// Both are raced; what works is kept, and QUIC is tried again from time to time.
    #[default]
    Auto,
    Quic,
    Tcp,
}

/// The pools of an agent.
#[derive(Debug, Clone, Default)]
pub struct Pools {
    /// `https://host:port` or `http://host:port`, the preferred one first.
    pub urls: Vec<String>,
    pub transport: Allowed,
    /// `http://[user:password@]host:port`, for TCP.
    pub proxy: Option<String>,
    /// Plain text may leave the machine.
    pub plaintext_beyond_loopback: bool,
    /// For TLS.
    pub identity: Option<Identity>,
    /// Where it is remembered which transport worked.
    pub state_dir: Option<PathBuf>,
}

impl From<String> for Pools {
    fn from(url: String) -> Self {
        Self { urls: vec![url], ..Self::default() }
    }
}

/// What is wrong with which key of `[offload]`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct PoolsError {
    pub key: &'static str,
    pub message: String,
}

impl Pools {
    /// The addresses, parsed and checked together.
    pub fn parsed(&self) -> Result<(Vec<PoolUrl>, Option<Proxy>), PoolsError> {
        let refuse = |key, message: String| PoolsError { key, message };
        if self.urls.len() > MOST_POOLS {
            let message = format!("names {} pools, and at most {MOST_POOLS} are allowed", self.urls.len());
            return Err(refuse("cloud", message));
        }
        let mut pools: Vec<PoolUrl> = Vec::with_capacity(self.urls.len());
        for url in &self.urls {
            let pool = PoolUrl::parse(url).map_err(|message| refuse("cloud", message))?;
            if pools.contains(&pool) {
                return Err(refuse("cloud", format!("`{url}` stands twice")));
            }
            if !pool.is_tls && !pool.is_loopback() && !self.plaintext_beyond_loopback {
                let message = format!(
                    "`{url}` is not loopback, and what is said over http:// is neither encrypted nor authenticated: \
                     use https://, or set `offload.plaintext_beyond_loopback = true` if that is meant"
                );
                return Err(refuse("cloud", message));
            }
            if !pool.is_tls && self.transport == Allowed::Quic {
                return Err(refuse(
                    "transport",
                    format!("`quic` is always encrypted, and `{url}` is http://"),
                ));
            }
            pools.push(pool);
        }
        let proxy = self.proxy.as_deref().map(Proxy::parse).transpose();
        let proxy = proxy.map_err(|message| refuse("proxy", format!("the address {message}")))?;
        if proxy.is_some() && self.transport == Allowed::Quic {
            return Err(refuse("proxy", "is for TCP, and `transport` is `quic`".to_owned()));
        }
        Ok((pools, proxy))
    }
}

/// One pool's address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolUrl {
    pub is_tls: bool,
    /// A name or an address, without brackets.
    pub host: String,
    pub port: u16,
}

impl PoolUrl {
    pub fn parse(url: &str) -> Result<Self, String> {
        let uri: http::Uri = url.parse().map_err(|error| format!("`{url}` is not an address: {error}"))?;
        let form = || format!("`{url}` is not of the form https://host:port");
        let is_tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(form()),
        };
        let is_bare = matches!(uri.path(), "" | "/") && uri.query().is_none();
        let has_login = uri.authority().is_some_and(|authority| authority.as_str().contains('@'));
        let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
        match uri.port_u16() {
            Some(port) if port != 0 && !host.is_empty() && is_bare && !has_login => {
                Ok(Self { is_tls, host: host.to_owned(), port })
            }
            _ => Err(form()),
        }
    }

    pub fn is_loopback(&self) -> bool {
        self.host == "localhost" || self.host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }

    /// What may be used for it, the best first.
    pub fn transports(&self, allowed: Allowed) -> Vec<Transport> {
        match (self.is_tls, allowed) {
            (true, Allowed::Auto) => vec![Transport::Quic, Transport::Tcp],
            (true, Allowed::Quic) => vec![Transport::Quic],
            (_, Allowed::Tcp) | (false, _) => vec![Transport::Tcp],
        }
    }
}

impl std::fmt::Display for PoolUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scheme = if self.is_tls { "https" } else { "http" };
        if self.host.contains(':') {
            write!(f, "{scheme}://[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{scheme}://{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_scheme_a_host_and_a_port() {
        for url in ["https://pool:8001", "http://127.0.0.1:8001", "https://[::1]:8001"] {
            assert_eq!(PoolUrl::parse(url).unwrap().to_string(), url);
        }
        for url in
            ["pool:8001", "https://pool", "ftp://pool:1", "https://pool:8001/x", "https://a@pool:8001", ""]
        {
            assert!(PoolUrl::parse(url).is_err(), "{url}");
        }
    }

    #[test]
    fn plain_text_stays_on_the_machine_unless_it_is_meant_to_leave() {
        let mut pools = Pools::from("http://10.0.0.5:8001".to_owned());
        let refused = pools.parsed().unwrap_err();
        assert_eq!(refused.key, "cloud");
        assert!(refused.message.contains("plaintext_beyond_loopback"), "{refused}");
        pools.plaintext_beyond_loopback = true;
        assert!(pools.parsed().is_ok());
        for url in ["http://localhost:8001", "http://127.0.0.1:1", "http://[::1]:8001"] {
            assert!(Pools::from(url.to_owned()).parsed().is_ok(), "{url}");
        }
    }

    #[test]
    fn what_does_not_go_together_names_its_key() {
        let quic = Pools { transport: Allowed::Quic, ..Pools::from("http://127.0.0.1:1".to_owned()) };
        assert_eq!(quic.parsed().unwrap_err().key, "transport");
        let proxy = Some("http://proxy:3128".to_owned());
        let both = Pools { transport: Allowed::Quic, proxy, ..Pools::from("https://pool:8001".to_owned()) };
        assert_eq!(both.parsed().unwrap_err().key, "proxy");
        let twice = Pools { urls: vec!["https://a:1".to_owned(); 2], ..Pools::default() };
        assert_eq!(twice.parsed().unwrap_err().key, "cloud");
    }
}
