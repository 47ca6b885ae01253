//! `millgate-edge run` as a process of its own.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::{PATIENCE, binary, bundle};

/// Between two looks at a condition: the agent that is waited for needs the processor too.
const LOOK: Duration = Duration::from_millis(10);

/// The `edge.toml` of an agent under one directory: state in `state`, a watched folder `in`, records in `decisions.jsonl`,
/// gRPC and admin port on free ports, the log in JSON.
#[derive(Debug)]
pub struct EdgeToml {
    dir: PathBuf,
    bundle: PathBuf,
    offload: String,
    has_folder: bool,
    sink: String,
    more: String,
}

impl EdgeToml {
    pub fn new(dir: &Path) -> Self {
        let (offload, sink, more) = <(String, String, String)>::default();
        Self { dir: dir.to_path_buf(), bundle: bundle(), offload, has_folder: true, sink, more }
    }

    pub fn bundle(self, bundle: &Path) -> Self {
        Self { bundle: bundle.to_path_buf(), ..self }
    }

    /// Lines of `[offload]`.
    pub fn offload(self, lines: impl Into<String>) -> Self {
        Self { offload: lines.into(), ..self }
    }

    /// Watches no folder.
    pub fn without_folder(self) -> Self {
        Self { has_folder: false, ..self }
    }

    /// Further lines of the file of records.
    pub fn sink(self, lines: impl Into<String>) -> Self {
        Self { sink: lines.into(), ..self }
    }

    /// Further tables, at the end.
    pub fn more(self, tables: impl Into<String>) -> Self {
        Self { more: tables.into(), ..self }
    }

    pub fn text(&self) -> String {
        let Self { dir, bundle, offload, sink, more, .. } = self;
        // What a test counts at the pool is what it asked for.
        let audit = if offload.contains("audit") { "" } else { "audit = 0" };
        let folder = if self.has_folder {
            format!(
                "[[sources]]\ntype = \"folder\"\nname = \"cam1\"\npath = {:?}\nsettle = \"50ms\"\nrescan = \"100ms\"\n",
                dir.join("in")
            )
        } else {
            String::new()
        };
        format!(
            r#"
bundle = {bundle:?}
state_dir = {state:?}
threads = 1
log.format = "json"

[offload]
{audit}
{offload}

{folder}
[[sinks]]
type = "jsonl"
path = {records:?}
{sink}

[api]
listen = "127.0.0.1:0"

[admin]
listen = "127.0.0.1:0"

{more}
"#,
            state = dir.join("state"),
            records = dir.join("decisions.jsonl"),
        )
    }

    /// Writes it to `edge.toml` in its directory and gives the path.
    pub fn write(&self) -> PathBuf {
        let path = self.dir.join("edge.toml");
        std::fs::write(&path, self.text()).expect("the directory is there");
        path
    }
}

/// Killed when it is dropped.
#[derive(Debug)]
pub struct EdgeProcess {
    child: Child,
    /// Where its gRPC and its admin port listen, if they do.
    pub grpc: Option<SocketAddr>,
    pub admin: Option<SocketAddr>,
    said: Arc<Mutex<String>>,
}

impl EdgeProcess {
    /// Starts it and waits until it says that it is ready. The configuration must have `log.format = "json"`.
    pub fn start(config: &Path) -> Self {
        Self::start_by(Command::new(binary("millgate-edge")), config)
    }

    /// Starts it by a command that names the program, and perhaps its user.
    pub fn start_by(mut command: Command, config: &Path) -> Self {
        command.args(["run", "--config"]).arg(config).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the agent starts");
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
        let said = Arc::new(Mutex::new(text));
        let heard = Arc::clone(&said);
        std::thread::spawn(move || {
            let mut line = String::new();
            while log.read_line(&mut line).is_ok_and(|read| read > 0) {
                if shows && std::io::stderr().write_all(line.as_bytes()).is_err() {
                    return;
                }
                heard.lock().unwrap_or_else(PoisonError::into_inner).push_str(&line);
                line.clear();
            }
        });
        let address = |name| field(&ready, name).and_then(|text| text.parse().ok());
        Self { child, grpc: address("grpc"), admin: address("admin"), said }
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).clone()
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
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
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

/// Reads a field of a line of the log, wherever its format puts it.
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
