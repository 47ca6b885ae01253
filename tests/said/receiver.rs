//! A webhook's receiver and the proxies that an environment names.

use std::io::{BufRead, BufReader, Read, Write};

use super::*;

/// Takes one record; gives it.
fn receiver() -> (SocketAddr, std::thread::JoinHandle<Value>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    let served = std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut reader = BufReader::new(stream);
        let mut length = 0;
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            if line == "\r\n" {
                break;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        reader.into_inner().write_all(b"HTTP/1.1 204 Taken\r\n\r\n").unwrap();
        serde_json::from_slice(&body).unwrap()
    });
    (at, served)
}

/// An agent with one picture to tell the receiver of, in an environment with a proxy.
fn start(dir: &Path, url: &str, proxy: u16, check: bool) -> (Process, String) {
    let folder = folder(dir);
    let folder = folder.split("[[sinks]]").next().unwrap();
    let config =
        config(dir, free_port(), &format!("{folder}[[sinks]]\ntype = \"webhook\"\nurl = \"{url}\"\n"));
    let proxy = format!("http://127.0.0.1:{proxy}");
    let env = [("http_proxy", &*proxy), ("ALL_PROXY", &*proxy), ("no_proxy", "")];
    std::fs::copy(&recorded_of("xsdd", 1)[0].path, dir.join("in/part.png")).unwrap();
    let start = |command: &str| Process::logged_with("millgate-edge", &[command, "--config", &config], &env);
    let said = if check { start("check").ended().stdout } else { String::new() };
    (start("run"), said)
}

#[test]
fn a_receiver_on_this_machine_is_reached_whatever_proxy_there_is() {
    let (dir, (at, served)) = (tempfile::tempdir().unwrap(), receiver());
    // The check would take the receiver's one connection.
    let (agent, _) = start(dir.path(), &format!("http://{at}/hook"), free_port(), false);
    let record = served.join().unwrap();
    assert!(record["verdict"].is_object(), "{record}");
    assert_eq!(agent.end(Signal::TERM).code(), Some(0));
}

#[test]
fn an_error_names_the_receiver_and_the_proxy_on_the_way() {
    let (dir, proxy) = (tempfile::tempdir().unwrap(), free_port());
    let (agent, check) = start(dir.path(), "http://mes.invalid:9000/hook", proxy, true);
    let through = format!("the proxy 127.0.0.1:{proxy} of `http_proxy`");
    assert!(check.contains(&format!("mes.invalid:9000: through {through}")), "{check}");
    let words = format!("http://mes.invalid:9000/hook, through {through}");
    until("it is said", || agent.log().contains(&words));
}
