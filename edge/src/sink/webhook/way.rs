//! How a receiver is reached: directly, or through the proxy that the environment names. Pure: the environment is given.
//!
//! The variables are read as by curl and others: `http_proxy` for http://, `https_proxy` for https://, or else `all_proxy`,
//! each in small or large letters; `no_proxy` lists hosts, domains, addresses and networks that are reached directly, `*` all. What is on this
//! machine is never reached through a proxy, which would look for it on its own.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use http::Uri;
use ureq::Proxy;

/// Through it a receiver is reached.
#[derive(Debug, Clone)]
pub(super) struct Through {
    pub(super) proxy: Proxy,
    /// That names it.
    variable: &'static str,
}

impl Through {
    /// Gives host and port to connect to.
    pub(super) fn peer(&self) -> (&str, u16) {
        (self.proxy.host().trim_start_matches('[').trim_end_matches(']'), self.proxy.port())
    }
}

/// Shows it without the login.
impl fmt::Display for Through {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the proxy {}:{} of `{}`", self.proxy.host(), self.proxy.port(), self.variable)
    }
}

/// Finds the way that this process's environment says.
pub(super) fn from_env(url: &str) -> Result<Option<Through>, String> {
    find(url, |name| std::env::var(name).ok())
}

/// `None`: directly. An error names the variable.
fn find(url: &str, env: impl Fn(&str) -> Option<String>) -> Result<Option<Through>, String> {
    let uri: Uri = url.parse().map_err(|error| format!("the address: {error}"))?;
    let is_tls = uri.scheme_str() == Some("https");
    let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']').to_lowercase();
    let port = uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
    let set =
        |name: &'static str| env(name).filter(|value| !value.trim().is_empty()).map(|value| (name, value));
    let no_proxy = set("no_proxy").or_else(|| set("NO_PROXY")).map(|(_, list)| list).unwrap_or_default();
    if is_here(&host) || is_listed(&no_proxy, &host, port) {
        return Ok(None);
    }
    let of_scheme = match is_tls {
        true => ["https_proxy", "HTTPS_PROXY"],
        false => ["http_proxy", "HTTP_PROXY"],
    };
    let Some((variable, value)) = of_scheme.into_iter().chain(["all_proxy", "ALL_PROXY"]).find_map(set)
    else {
        return Ok(None);
    };
    match Proxy::new(value.trim()) {
        Ok(proxy) => Ok(Some(Through { proxy, variable })),
        // It may hold a password.
        Err(_) => Err(format!("`{variable}` names no proxy that can be used")),
    }
}

fn address(host: &str) -> Option<IpAddr> {
    host.parse::<IpAddr>().ok().map(|address| address.to_canonical())
}

fn is_here(host: &str) -> bool {
    let host = host.trim_end_matches('.');
    host == "localhost"
        || host.ends_with(".localhost")
        || address(host).is_some_and(|address| address.is_loopback() || address.is_unspecified())
}

fn is_listed(list: &str, host: &str, port: u16) -> bool {
    let entries = list.split([',', ' ', '\t']).filter(|entry| !entry.is_empty());
    entries.map(str::to_lowercase).any(|entry| is_meant(&entry, host, port))
}

fn is_meant(entry: &str, host: &str, port: u16) -> bool {
    if entry == "*" {
        return true;
    }
    if let Some((network, bits)) = entry.split_once('/') {
        return is_within(network, bits, host);
    }
    // An IPv6 address has colons of its own, unless it stands in brackets.
    let (name, its_port) = match entry.rsplit_once(':') {
        Some((name, digits)) if !name.contains(':') || name.ends_with(']') => {
            (name, digits.parse::<u16>().ok())
        }
        _ => (entry, None),
    };
    let name = name.trim_start_matches('[').trim_end_matches(']');
    if its_port.is_some_and(|its| its != port) {
        return false;
    }
    if let (Some(its), Some(own)) = (address(name), address(host)) {
        return its == own;
    }
    let domain = name.trim_start_matches('*').trim_start_matches('.').trim_end_matches('.');
    let host = host.trim_end_matches('.');
    let is_below = || host.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'));
    !domain.is_empty() && (host == domain || is_below())
}

/// `10.0.0.0/8`, `fd00::/8`.
fn is_within(network: &str, bits: &str, host: &str) -> bool {
    let (Some(network), Some(host), Ok(bits)) = (address(network), address(host), bits.parse::<u32>()) else {
        return false;
    };
    let wide = |address: IpAddr| match address {
        IpAddr::V4(address) => (u128::from(address.to_bits()) << 96, 32),
        IpAddr::V6(address) => (Ipv6Addr::to_bits(address), 128),
    };
    let ((network, width), (host, own)) = (wide(network), wide(host));
    let mask = u128::MAX.checked_shl(128 - bits.min(128)).unwrap_or(0);
    width == own && bits <= width && network & mask == host & mask
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(url: &str, variables: &[(&str, &str)]) -> String {
        let env =
            |name: &str| variables.iter().find(|(its, _)| *its == name).map(|(_, value)| (*value).to_owned());
        match find(url, env) {
            Ok(None) => "directly".to_owned(),
            Ok(Some(through)) => through.to_string(),
            Err(error) => error,
        }
    }

    #[test]
    fn what_is_on_this_machine_is_reached_directly() {
        let all = [("http_proxy", "http://p:1"), ("https_proxy", "http://p:1"), ("ALL_PROXY", "http://p:1")];
        for host in
            ["127.0.0.1", "127.1.2.3", "[::1]", "[::ffff:127.0.0.1]", "localhost", "a.localhost", "LocalHost"]
        {
            assert_eq!(shown(&format!("http://{host}:9000/hook"), &all), "directly", "{host}");
            assert_eq!(shown(&format!("https://{host}/hook"), &all), "directly", "{host}");
        }
        assert_ne!(shown("http://128.0.0.1/", &all), "directly");
        assert_ne!(shown("http://notlocalhost/", &all), "directly");
    }

    #[test]
    fn each_scheme_has_its_variable() {
        let both = [("http_proxy", "http://plain:1"), ("HTTPS_PROXY", "http://user:secret@tls:2")];
        assert_eq!(shown("http://mes.example/", &both), "the proxy plain:1 of `http_proxy`");
        assert_eq!(shown("https://mes.example/", &both), "the proxy tls:2 of `HTTPS_PROXY`");
        // One for https alone is none for http.
        assert_eq!(shown("http://mes.example/", &both[1..]), "directly");
        assert_eq!(shown("http://mes.example/", &[("ALL_PROXY", "any:3")]), "the proxy any:3 of `ALL_PROXY`");
        assert_eq!(shown("http://mes.example/", &[("http_proxy", "")]), "directly");
        let bad = shown("http://mes.example/", &[("http_proxy", "nonsense://user:secret@x")]);
        assert_eq!(bad, "`http_proxy` names no proxy that can be used");
    }

    #[test]
    fn a_list_of_exceptions_is_read_as_others_read_it() {
        for (list, host, is_direct) in [
            ("mes.example", "mes.example", true),
            ("example", "mes.example", true),
            (".example", "mes.example", true),
            ("*.example", "mes.example", true),
            ("ple", "mes.example", false),
            ("MES.example", "mes.EXAMPLE", true),
            ("other, mes.example", "mes.example", true),
            ("mes.example:80", "mes.example", true),
            ("mes.example:81", "mes.example", false),
            ("*", "anything", true),
            ("10.0.0.5", "10.0.0.5", true),
            ("10.0.0.0/8", "10.200.0.5", true),
            ("10.0.0.0/8", "11.0.0.5", false),
            ("10.0.0.0/33", "10.0.0.5", false),
            ("0.0.0.0/0", "11.0.0.5", true),
            ("0.0.0.0/0", "[fd00::1]", false),
            ("fd00::/8", "[fd12::1]", true),
            ("[fd12::1]:80", "[fd12::1]", true),
            ("fd12::1", "[fd12::1]", true),
            ("10.0.0.0/8", "mes.example", false),
            (",, ,", "mes.example", false),
        ] {
            let way = shown(&format!("http://{host}/"), &[("http_proxy", "p:1"), ("no_proxy", list)]);
            assert_eq!(way == "directly", is_direct, "{list} {host}");
        }
        // Small letters go before large ones.
        let both = [("http_proxy", "p:1"), ("no_proxy", "a"), ("NO_PROXY", "b")];
        assert_eq!(
            (shown("http://a/", &both) == "directly", shown("http://b/", &both) == "directly"),
            (true, false)
        );
    }
}
