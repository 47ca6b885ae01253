use http::{HeaderName, HeaderValue, Uri};

use super::*;

const HERE: Way = Way { is_plain: true, is_here: true };
const NEAR: Way = Way { is_plain: true, is_here: false };
const TLS: Way = Way { is_plain: false, is_here: true };

fn hosts() -> Hosts {
    let own = ["node-1", "press-pc", "pool.factory.example"].map(str::to_owned);
    Hosts::new(own, &["dash.example".to_owned(), "*.trusted.example".to_owned()])
}

fn admit(way: Way, method: &Method, headers: &[(&str, &str)]) -> Result<(), Foreign> {
    hosts().admit(method, &Uri::from_static("/v2/repository/models/m/unload"), &map(headers), way)
}

fn map(headers: &[(&str, &str)]) -> HeaderMap {
    let header = |(name, value): &(&str, &str)| {
        (HeaderName::try_from(*name).unwrap(), HeaderValue::from_str(value).unwrap())
    };
    headers.iter().map(header).collect()
}

#[test]
fn a_name_that_a_stranger_can_point_here_is_refused() {
    let of = |way, host: &str| admit(way, &Method::PUT, &[("host", host)]).is_ok();
    for host in [
        "localhost",
        "localhost:8000",
        "LOCALHOST.:8000",
        "app.localhost:1",
        "127.0.0.1:8012",
        "[::1]:8012",
        "[::1]",
        "10.1.2.3:8000",
        "192.168.0.9",
        "node-1:8000",
        "press-pc",
        "pool.factory.example:8000",
        "dash.example",
        "a.b.trusted.example:1",
    ] {
        assert!(of(HERE, host) && of(NEAR, host) && of(TLS, host), "{host}");
    }
    for host in [
        "evil.example",
        "evil.example:8000",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "trusted.example",
        "xtrusted.example",
        "evil@localhost",
        "",
        "a b",
        "127.0.0.1:80:80",
        "evil.example:8000@127.0.0.1",
    ] {
        assert!(!of(HERE, host) && !of(NEAR, host), "{host}");
    }
    // From this machine only its own names; from others also those that stand for something in a private network.
    for host in
        ["pool", "pool:8002", "pool.ns.svc", "pool.ns.svc.cluster.local:8002", "pool.internal", "pool.lan"]
    {
        assert!(!of(HERE, host) && of(NEAR, host), "{host}");
    }
    // A client over TLS has checked the name, and could not have come by another one.
    assert!(of(TLS, "evil.example"));
    // HTTP/1.0 without one; two.
    assert!(admit(HERE, &Method::GET, &[]).is_ok());
    let two = admit(HERE, &Method::GET, &[("host", "localhost"), ("host", "evil.example")]);
    assert!(matches!(two, Err(Foreign::Host(_))));
    // Whoever asks as a proxy is asked means what stands in the line.
    let mut map = HeaderMap::new();
    map.insert("host", HeaderValue::from_static("localhost"));
    let uri = "http://evil.example/metered".parse().unwrap();
    assert!(matches!(hosts().admit(&Method::GET, &uri, &map, HERE), Err(Foreign::Host(_))));
    assert!(hosts().with_any_name().admit(&Method::GET, &uri, &map, HERE).is_ok());
}

const HOST: (&str, &str) = ("host", "localhost:8000");
const FIREFOX: (&str, &str) =
    ("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:142.0) Gecko/20100101 Firefox/142.0");

#[test]
fn what_browsers_send_for_other_pages_is_refused() {
    let form = ("content-type", "application/x-www-form-urlencoded");
    for (method, headers) in [
        // A form; a script's fetch, with and without leave to read; a beacon.
        (
            Method::POST,
            &[HOST, FIREFOX, ("origin", "https://evil.example"), ("sec-fetch-site", "cross-site"), form][..],
        ),
        (Method::POST, &[HOST, FIREFOX, ("origin", "null"), form]),
        (
            Method::POST,
            &[
                HOST,
                FIREFOX,
                ("origin", "http://localhost:3000"),
                ("content-type", "text/plain;charset=UTF-8"),
            ],
        ),
        (Method::POST, &[HOST, ("origin", "http://localhost.evil.example:8000")]),
        (Method::POST, &[HOST, FIREFOX, ("sec-fetch-site", "same-site"), ("sec-fetch-mode", "no-cors")]),
        (
            Method::POST,
            &[HOST, FIREFOX, ("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate"), form],
        ),
        (Method::GET, &[HOST, FIREFOX, ("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "no-cors")]),
        (Method::GET, &[HOST, ("origin", "https://evil.example")]),
        (Method::PUT, &[HOST, ("origin", "https://evil.example")]),
        (Method::DELETE, &[HOST, ("referer", "https://evil.example/page")]),
        // Browsers of the time before these headers.
        (Method::POST, &[HOST, FIREFOX, form, ("referer", "http://evil.example/")]),
        (Method::POST, &[HOST, FIREFOX, form]),
        (Method::POST, &[HOST, ("content-type", "multipart/form-data; boundary=x")]),
        (Method::POST, &[HOST, ("content-type", "Text/Plain")]),
    ] {
        for way in [HERE, NEAR, TLS] {
            assert!(admit(way, &method, headers).is_err(), "{method} {headers:?}");
        }
    }
}

#[test]
fn what_programs_send_is_let_in() {
    for (method, headers) in [
        // curl, with nothing, with -d, with -T and with a type of its own.
        (Method::GET, &[HOST, ("user-agent", "curl/8.5.0"), ("accept", "*/*")][..]),
        (Method::POST, &[HOST, ("user-agent", "curl/8.5.0"), ("accept", "*/*")]),
        (
            Method::POST,
            &[HOST, ("user-agent", "curl/8.5.0"), ("content-type", "application/x-www-form-urlencoded")],
        ),
        (
            Method::PUT,
            &[HOST, ("user-agent", "curl/8.5.0"), ("content-type", "application/x-www-form-urlencoded")],
        ),
        (Method::PUT, &[HOST, ("content-type", "text/plain")]),
        (Method::POST, &[HOST, ("content-type", "application/json")]),
        // tritonclient over HTTP, with JSON alone and with binary tensors behind it; requests; KServe's.
        (Method::POST, &[HOST, ("user-agent", "python-gevent-http-client-2.3.5")]),
        (
            Method::POST,
            &[HOST, ("inference-header-content-length", "210"), ("content-type", "application/octet-stream")],
        ),
        (
            Method::POST,
            &[HOST, ("user-agent", "python-requests/2.32.3"), ("accept-encoding", "gzip, deflate")],
        ),
        (Method::POST, &[HOST, ("user-agent", "python-httpx/0.27"), ("content-type", "application/json")]),
        (
            Method::GET,
            &[HOST, ("user-agent", "Prometheus/3.5.0"), ("accept", "application/openmetrics-text")],
        ),
        // A person who types the address or follows a link to it, and a page that comes from here.
        (Method::GET, &[HOST, FIREFOX, ("sec-fetch-site", "none"), ("sec-fetch-mode", "navigate")]),
        (Method::GET, &[HOST, FIREFOX, ("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate")]),
        (
            Method::POST,
            &[HOST, FIREFOX, ("origin", "http://localhost:8000"), ("sec-fetch-site", "same-origin")],
        ),
        // A page that an operator has listed.
        (
            Method::POST,
            &[HOST, FIREFOX, ("origin", "https://dash.example"), ("sec-fetch-site", "cross-site")],
        ),
        (Method::POST, &[HOST, FIREFOX, ("origin", "https://a.trusted.example:8443")]),
    ] {
        for way in [HERE, NEAR, TLS] {
            assert_eq!(admit(way, &method, headers), Ok(()), "{method} {headers:?}");
        }
    }
}

#[test]
fn what_is_listed_must_be_a_name() {
    let check = |entry: &str| check(&[entry.to_owned()]);
    for entry in ["pool.example", "*.example", "*", "10.0.0.7", "fd00::7", "pool", "a_b.example"] {
        assert_eq!(check(entry), Ok(()), "{entry}");
    }
    for entry in ["", "*.", "http://pool.example", "pool.example:8000", "pool.example/", "a b", "*x"] {
        assert!(check(entry).unwrap_err().contains(&format!("`{entry}`")), "{entry}");
    }
}
