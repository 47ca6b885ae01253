//! The pool as a process of its own, with what it listens on and what it takes of the machine.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::{binary, bundle, run};

/// A pool that serves; killed when dropped.
#[derive(Debug)]
pub struct CloudProcess {
    child: Child,
    pub grpc: SocketAddr,
    pub http: SocketAddr,
    pub metrics: SocketAddr,
}

impl CloudProcess {
    /// Writes a configuration with `more` into `dir`: the shipped bundle on free ports of loopback, with a state directory of its
    /// own.
    pub fn configure(dir: &Path, more: &str) -> PathBuf {
        let text = format!(
            "bundle = {:?}\nstate_dir = {:?}\ngrpc = \"127.0.0.1:0\"\nhttp = \"127.0.0.1:0\"\n\
             metrics = \"127.0.0.1:0\"\n{more}",
            bundle(),
            dir.join("state"),
        );
        std::fs::write(dir.join("cloud.toml"), text).expect("written");
        dir.join("cloud.toml")
    }

    /// Starts it under the limits that `ulimit` is to set, such as `-d 2000000`; none if that is empty.
    pub fn start(config: &Path, limits: &str) -> Self {
        let script = match limits {
            "" => "exec \"$0\" \"$@\"".to_owned(),
            limits => format!("ulimit {limits} && exec \"$0\" \"$@\""),
        };
        let mut child = Command::new("sh")
            .args(["-c", &script])
            .arg(binary("millgate-cloud"))
            .args(["--log-json", "serve", "--config"])
            .arg(config)
            .stderr(Stdio::piped())
            .spawn()
            .expect("the pool starts");
        let log = BufReader::new(child.stderr.take().expect("its log"));
        let mut lines = log.lines().map_while(Result::ok);
        let mut said = Vec::new();
        let serving = lines.by_ref().find_map(|line| {
            let fields = serde_json::from_str::<Value>(&line).ok();
            said.push(line);
            fields.filter(|line| line["fields"]["message"] == "serving")
        });
        let serving = serving.unwrap_or_else(|| panic!("it does not serve: {said:?}"));
        // The pipe must not fill up.
        std::thread::spawn(move || lines.for_each(drop));
        let address = |key: &str| {
            serving["fields"][key].as_str().and_then(|text| text.parse().ok()).expect("an address")
        };
        let (grpc, http, metrics) = (address("grpc"), address("http"), address("metrics"));
        Self { child, grpc, http, metrics }
    }

    /// Makes an API token for a client of a tenant.
    pub fn token(config: &Path, tenant: &str, name: &str) -> String {
        let config = config.to_str().expect("a plain path");
        let args = ["api-token", "create", "--config", config, "--name", name, "--tenant", tenant];
        let made = run("millgate-cloud", &args);
        assert_eq!(made.code, 0, "{}", made.stderr);
        made.stdout.trim().to_owned()
    }

    /// The most memory that it ever had, in bytes.
    pub fn peak(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("it runs");
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("its peak");
        let kilobytes = line.split_whitespace().nth(1).and_then(|number| number.parse::<u64>().ok());
        kilobytes.expect("a number") << 10
    }

    /// False once it has ended.
    pub fn lives(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for CloudProcess {
    fn drop(&mut self) {
        let _already_gone = self.child.kill().is_err();
        let _already_gone = self.child.wait().is_err();
    }
}
