use std::net::Ipv4Addr;

use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio::net::TcpListener;

use super::*;

#[tokio::test]
async fn a_connection_is_set_for_a_bad_line() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let stream = connect(listener.local_addr().unwrap()).await.unwrap();
    let socket = SockRef::from(&stream);
    assert!(socket.tcp_nodelay().unwrap());
    #[cfg(target_os = "linux")]
    {
        assert_eq!(socket.tcp_notsent_lowat().unwrap(), NOTSENT_LOWAT);
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(DIALLED_TIMEOUT));
        let has_bbr = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_available_congestion_control")
            .is_ok_and(|names| names.split_whitespace().any(|name| name == "bbr"));
        let used = socket.tcp_congestion().unwrap();
        assert_eq!(used.starts_with(b"bbr"), has_bbr, "{}", String::from_utf8_lossy(&used));
    }
}

async fn answered(proxy: &str, answer: &str) -> (Result<(), ProxyError>, String) {
    let (mut ours, mut theirs) = duplex(1 << 16);
    let proxy = Proxy::parse(proxy).unwrap();
    theirs.write_all(answer.as_bytes()).await.unwrap();
    theirs.shutdown().await.unwrap();
    let result = proxy.tunnel(&mut ours, "pool.example", 8001).await;
    drop(ours);
    let mut request = String::new();
    theirs.read_to_string(&mut request).await.unwrap();
    (result, request)
}

#[tokio::test]
async fn a_proxy_is_asked_for_the_pool_with_its_login() {
    let (result, request) =
        answered("http://me:a%20b@proxy:3128", "HTTP/1.1 200 fine\r\nVia: x\r\n\r\n").await;
    result.unwrap();
    let expected = "CONNECT pool.example:8001 HTTP/1.1\r\nHost: pool.example:8001\r\n\
                    Proxy-Authorization: Basic bWU6YSBi\r\n\r\n";
    assert_eq!(request, expected);
}

#[tokio::test]
async fn what_a_proxy_says_instead_is_told() {
    let long = format!("HTTP/1.1 200 OK\r\nX: {}", "a".repeat(10_000));
    for (proxy, answer, said) in [
        ("http://proxy:3128", "HTTP/1.1 407 Login\r\n\r\n", "wants a login"),
        ("http://me:x@proxy:3128", "HTTP/1.1 407 Login\r\n\r\n", "refuses the login"),
        ("http://proxy:3128", "HTTP/1.0 403 Forbidden by policy\r\n\r\n", "403 Forbidden by policy"),
        ("http://proxy:3128", "SSH-2.0-OpenSSH\r\n\r\n", "not HTTP"),
        ("http://proxy:3128", "HTTP/1.1 200 OK\r\n", "closed the connection"),
        ("http://proxy:3128", "HTTP/1.1 200 OK\r\n\r\nhello", "bytes of its own"),
        ("http://proxy:3128", &long, "longer than"),
    ] {
        let message = answered(proxy, answer).await.0.unwrap_err().to_string();
        assert!(message.contains(said), "{answer:.40}: {message}");
    }
}

#[test]
fn a_proxy_address_is_checked_and_its_password_is_not_shown() {
    for (url, said) in [
        ("https://proxy:3128", "http://"),
        ("http://proxy", "port"),
        ("http://proxy:3128/x", "path"),
        ("http://%ff@proxy:3128", "UTF-8"),
        ("proxy", "http://"),
    ] {
        let message = Proxy::parse(url).unwrap_err();
        assert!(message.contains(said), "{url}: {message}");
    }
    let proxy = Proxy::parse("http://me:secret@[::1]:3128").unwrap();
    assert_eq!((proxy.host(), proxy.port()), ("::1", 3128));
    assert!(!format!("{proxy:?} {proxy}").contains("secret"));
}
