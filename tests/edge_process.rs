//! `millgate-edge run` as a process of its own.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::{PATIENCE, binary};

/// Between two looks at a condition: the agent that is waited for needs the processor too.
const LOOK: Duration = Duration::from_millis(10);

/// Killed when it is dropped.
#[derive(Debug)]
pub struct EdgeProcess {
    child: Child,
    /// Where its gRPC and its admin port listen, if they do.
    pub grpc: Option<SocketAddr>,
    pub admin: Option<SocketAddr>,
}

impl EdgeProcess {
    /// Starts it and waits until it says that it is ready. The configuration must have `log.format = "json"`.
    pub fn start(config: &Path) -> Self {
        let mut child = Command::new(binary("millgate-edge"))
            .args(["run", "--config"])
            .arg(config)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the agent starts");
        let mut log = BufReader::new(child.stderr.take().expect("piped"));
        let mut text = String::new();
        let ready: Value = loop {
            let before = text.len();
            assert_ne!(log.read_line(&mut text).expect("its log is text"), 0, "it ended: {text}");
            let line = serde_json::from_str::<Value>(&text[before..]).unwrap_or_default();
            if field(&line, "message").is_some_and(|message| message == "ready") {
                break line;
            }
        };
        // The pipe must not fill up.
        let shows = std::env::var_os("SHOW_LOG").is_some();
        std::thread::spawn(move || match shows {
            true => std::io::copy(&mut log, &mut std::io::stderr()),
            false => std::io::copy(&mut log, &mut std::io::sink()),
        });
        let address = |name| field(&ready, name).and_then(|text| text.parse().ok());
        Self { child, grpc: address("grpc"), admin: address("admin") }
    }

    /// Sends a signal and waits for the end.
    pub fn signal(mut self, signal: Signal) -> ExitStatus {
        kill_process(Pid::from_child(&self.child), signal).expect("it runs");
        self.child.wait().expect("it is ours")
    }

    /// Sends a signal and waits for nothing.
    pub fn send(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("it runs");
    }

    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    pub fn kill(self) {
        self.signal(Signal::KILL);
    }

    /// Head and body of what the admin port answers.
    pub fn http(&self, method: &str, path: &str, body: &str) -> String {
        let mut socket = TcpStream::connect(self.admin.expect("an admin port")).expect("it listens");
        let length = body.len();
        write!(
            socket,
            "{method} {path} HTTP/1.1\r\nHost: agent\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        )
        .expect("it reads");
        let mut text = String::new();
        socket.read_to_string(&mut text).expect("it answers");
        text
    }

    /// The value of one series on the page of metrics, named with its labels.
    pub fn metric(&self, series: &str) -> f64 {
        let text = self.http("GET", "/metrics", "");
        let line = text.lines().find(|line| line.starts_with(series));
        let line = line.unwrap_or_else(|| panic!("{series}: {text}"));
        line.rsplit(' ').next().and_then(|value| value.parse().ok()).expect("a number")
    }
}

impl Drop for EdgeProcess {
    fn drop(&mut self) {
        let _already_gone = self.child.kill().is_err();
        let _already_gone = self.child.wait().is_err();
    }
}

/// Of a line of the log, wherever its format puts it.
fn field(line: &Value, name: &str) -> Option<String> {
    let found = line.get(name).or_else(|| line.get("fields")?.get(name));
    found.and_then(Value::as_str).map(str::to_owned)
}

/// Waits for a condition; `PATIENCE` is for failures.
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "never: {what}");
        std::thread::sleep(LOOK);
    }
}
