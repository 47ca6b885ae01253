//! A site: a device with an agent, a pool, the line between them, disks that can be full, and who collects the records.

use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use millgate_shared::shutdown::Tasks;

use super::check::Record;
use super::feed::BELOW;
use super::nobody::{AS_NOBODY, copy, give};
use super::plan::Disk;
use super::process::Process;
use super::receiver::Receiver;
use super::tenant::{Target, make_nobody};
use super::volume::Volume;
use crate::line::relay::Relay;
use crate::line::{Line, LineError, Rebind, Weather};
use crate::{PATIENCE, binary, bundle, run};

/// What lies between device and pool.
#[derive(Debug)]
pub enum Ground {
    Line(Box<Line>),
    /// Without root.
    Relay {
        relay: Relay,
        tasks: Tasks,
        runtime: tokio::runtime::Runtime,
        why: LineError,
    },
}

/// Everything of it, in a directory of its own that goes with it.
#[derive(Debug)]
pub struct Site {
    // Dropped in this order: processes before what they stand on.
    pub agent: Process,
    pub pool: Process,
    pub receiver: Receiver,
    pub ground: Ground,
    disks: Vec<Volume>,
    admin: SocketAddr,
    target: SocketAddr,
    /// Where the pool listens, on its own side of the line.
    pub pool_addr: SocketAddr,
    /// True if the agent is another user than the test, which is root: what the agent may not read it does not.
    pub can_hide: bool,
    is_secure: bool,
    /// API token of another tenant, once it is made.
    token: Option<String>,
    dir: tempfile::TempDir,
}

/// What can be chosen.
#[derive(Debug, Clone)]
pub struct Choice {
    pub seed: u64,
    /// Deadline of each decision.
    pub deadline: Duration,
    /// Room of the small disks, bytes.
    pub disk: u64,
    /// TLS with an enrolled device, and so QUIC and TCP raced; otherwise plain TCP.
    pub is_secure: bool,
}

impl Site {
    /// Builds it; nothing runs yet.
    pub fn build(choice: &Choice) -> io::Result<Self> {
        sweep();
        let dir = tempfile::Builder::new().prefix(&format!("{PREFIX}{}-", std::process::id())).tempdir()?;
        let at = |name: &str| dir.path().join(name);
        for folder in ["in", "state", "sink", "pool", "identity"] {
            std::fs::create_dir(at(folder))?;
        }
        std::fs::create_dir(at("in").join(BELOW))?;
        copy(&bundle(), &at("bundle"))?;
        let disks = [at("state"), at("sink")].map(|path| Volume::mount(&path, choice.disk));
        let can_hide = give(dir.path())?;
        let line = Line::open(choice.seed);
        let here = line.as_ref().map_or(Ipv4Addr::LOCALHOST, Line::pool_ip);
        let pool_addr = free(here)?;
        let (ground, target, plant, device) = match line {
            Ok(line) => {
                let target = SocketAddr::from((line.target_ip(), pool_addr.port()));
                let (plant, device) = (line.plant_ip(), line.plant_device_ip());
                (Ground::Line(Box::new(line)), target, plant, device)
            }
            Err(why) => {
                let runtime =
                    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
                let tasks = Tasks::new();
                let relay = runtime.block_on(Relay::start(pool_addr, choice.seed, &tasks))?;
                let target = relay.addr();
                (
                    Ground::Relay { relay, tasks, runtime, why },
                    target,
                    Ipv4Addr::LOCALHOST,
                    Ipv4Addr::LOCALHOST,
                )
            }
        };
        let receiver = Receiver::start(plant)?;
        // In its namespace every port is free.
        let admin = if device == Ipv4Addr::LOCALHOST { free(device)? } else { (device, 8012).into() };
        std::fs::write(at("cloud.toml"), cloud_toml(&dir, pool_addr, choice))?;
        std::fs::write(at("edge.toml"), edge_toml(&dir, target, admin, &receiver, choice))?;

        let cloud = (binary("millgate-cloud"), at("cloud.toml"));
        let pool = Process::new("pool", &at("pool.log"), move || {
            let mut command = Command::new(&cloud.0);
            command.args(["serve", "--config"]).arg(&cloud.1);
            command
        });
        let agent =
            Process::new("agent", &at("agent.log"), agent_command(&ground, &at("edge.toml"), can_hide));
        let disks = disks.into_iter().flatten().collect();
        let (is_secure, token) = (choice.is_secure, None);
        Ok(Self {
            agent,
            pool,
            receiver,
            ground,
            disks,
            admin,
            target,
            pool_addr,
            can_hide,
            is_secure,
            token,
            dir,
        })
    }

    /// The device gets its certificate from the running pool, over the line, with the real commands.
    pub fn enrol(&self) -> io::Result<()> {
        let cloud = self.path("cloud.toml").display().to_string();
        let made = run("millgate-cloud", &["enroll-token", "--config", &cloud, "--device", "cam-1"]);
        let (dir, token) = (self.path("identity").display().to_string(), made.stdout.trim().to_owned());
        let pool = format!("https://{}", self.target);
        let until = Instant::now() + PATIENCE;
        loop {
            let mut command = self.ground.command(&binary("millgate-edge"));
            let args = ["enroll", "--pool", &pool, "--token", &token, "--device", "cam-1", "--dir", &dir];
            let output = command.args(args).output()?;
            if output.status.success() {
                return Ok(());
            }
            // The pool has only just been started.
            if Instant::now() > until {
                let said = String::from_utf8_lossy(&output.stderr).into_owned();
                return Err(io::Error::other(format!("enrolment: {said}; {}", made.stderr)));
            }
        }
    }

    /// What a flood of another tenant needs; `None` where callers have no names. The token is made at the first call.
    pub fn other_tenant(&mut self) -> io::Result<Option<Target>> {
        if !self.is_secure {
            return Ok(None);
        }
        if self.token.is_none() {
            let cloud = self.path("cloud.toml").display().to_string();
            let args = ["api-token", "create", "--config", &cloud, "--name", "flood", "--tenant", "beta"];
            let made = run("millgate-cloud", &args).stdout.trim().to_owned();
            if made.is_empty() {
                return Err(io::Error::other("no token is made for another tenant"));
            }
            self.token = Some(made);
        }
        Ok(Some(Target {
            url: format!("https://{}", self.pool_addr),
            token: self.token.clone().unwrap_or_default(),
            identity: self.path("identity"),
            nobody: make_nobody(self.dir.path())?,
        }))
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// True once it answers that it takes samples.
    pub fn agent_is_ready(&self) -> bool {
        get(self.admin, "/readyz").is_ok_and(|text| text.starts_with("HTTP/1.1 200"))
    }

    /// The agent's page of metrics, empty if it does not answer.
    pub fn metrics(&self) -> String {
        get(self.admin, "/metrics").unwrap_or_default()
    }

    /// Records in the file, and what in it is none.
    pub fn in_file(&self) -> (Vec<Record>, Vec<String>) {
        let text = std::fs::read(self.path("sink/decisions.jsonl")).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        // An unfinished last line is not written yet.
        let whole = &text[..text.rfind('\n').map_or(0, |at| at + 1)];
        read(whole.lines())
    }

    pub fn received(&self) -> (Vec<Record>, Vec<String>) {
        let kept = self.receiver.kept();
        let (records, mut wrong) = read(kept.bodies.iter().map(String::as_str));
        wrong.extend(kept.wrong);
        (records, wrong)
    }

    pub fn fill(&self, disk: Disk) -> io::Result<()> {
        self.disk(disk).map_or(Ok(()), Volume::fill)
    }

    pub fn empty(&self, disk: Disk) -> io::Result<()> {
        self.disk(disk).map_or(Ok(()), Volume::empty)
    }

    fn disk(&self, disk: Disk) -> Option<&Volume> {
        let name = match disk {
            Disk::State => "state",
            Disk::Sink => "sink",
        };
        self.disks.iter().find(|volume| volume.path().ends_with(name))
    }

    /// The spool's files with something in them.
    pub fn spool_files(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.path("state/spool")).into_iter().flatten().flatten();
        let full =
            entries.filter(|entry| entry.metadata().is_ok_and(|data| data.is_file() && data.len() > 0));
        let mut files: Vec<PathBuf> = full.map(|entry| entry.path()).collect();
        files.sort();
        files
    }

    /// In a word for the report.
    pub fn describe(&self) -> String {
        let disks =
            if self.disks.is_empty() { "; disks that cannot be full: none could be mounted" } else { "" };
        let user = if self.can_hide {
            ""
        } else {
            "; nothing can be hidden from the agent: it is the test's own user"
        };
        format!("{}{disks}{user}", self.ground.describe())
    }

    /// Keeps the directory, for whoever looks for a reason.
    pub fn keep(&mut self) -> PathBuf {
        self.dir.disable_cleanup(true);
        self.dir.path().to_path_buf()
    }
}

impl Ground {
    pub fn set(&self, weather: Weather) {
        let keep = |now: &mut Weather| {
            let (is_cut, blocks_udp) = (now.is_cut, now.blocks_udp);
            *now = Weather { is_cut, blocks_udp, ..weather };
        };
        match self {
            Self::Line(line) => line.change(keep),
            Self::Relay { relay, .. } => relay.change(keep),
        }
    }

    pub fn cut(&self, is_cut: bool) {
        let change = |weather: &mut Weather| weather.is_cut = is_cut;
        match self {
            Self::Line(line) => line.change(change),
            Self::Relay { relay, .. } => relay.change(change),
        }
    }

    pub fn block_udp(&self, is_blocked: bool) {
        match self {
            Self::Line(line) => line.block_udp(is_blocked),
            Self::Relay { relay, .. } => relay.block_udp(is_blocked),
        }
    }

    pub fn drop_address(&self) -> Result<(), LineError> {
        match self {
            Self::Line(line) => line.drop_address(),
            Self::Relay { .. } => Ok(()),
        }
    }

    pub fn take_address(&self) -> Result<(), LineError> {
        match self {
            Self::Line(line) => line.take_address(),
            Self::Relay { .. } => Ok(()),
        }
    }

    pub fn rebind(&self, what: Rebind) {
        match self {
            Self::Line(line) => line.rebind(what),
            Self::Relay { .. } => {}
        }
    }

    /// A command that will run on the device.
    pub fn command(&self, program: &Path) -> Command {
        match self {
            Self::Line(line) => line.command(program),
            Self::Relay { .. } => Command::new(program),
        }
    }

    /// In a word for the report.
    pub fn describe(&self) -> String {
        match self {
            Self::Line(line) => format!("two TUN devices, namespace {}", line.namespace().unwrap_or("none")),
            Self::Relay { why, .. } => {
                format!("a relay in user space, no loss on TCP, no change of address ({why})")
            }
        }
    }
}

fn agent_command(ground: &Ground, config: &Path, is_another: bool) -> impl Fn() -> Command + Send + use<> {
    let namespace = match ground {
        Ground::Line(line) => line.namespace().map(str::to_owned),
        Ground::Relay { .. } => None,
    };
    let (edge, config) = (binary("millgate-edge"), config.to_path_buf());
    move || {
        // Each becomes the next: a kill of the one is a kill of the other.
        let mut words: Vec<&OsStr> = Vec::new();
        if let Some(namespace) = &namespace {
            words.extend(["ip", "netns", "exec", namespace].map(OsStr::new));
        }
        if is_another {
            words.extend(AS_NOBODY.map(OsStr::new));
        }
        words.push(edge.as_os_str());
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).args(["run", "--config"]).arg(&config);
        command
    }
}

fn read<'a>(lines: impl Iterator<Item = &'a str>) -> (Vec<Record>, Vec<String>) {
    let (mut records, mut wrong) = (Vec::new(), Vec::new());
    for line in lines {
        match Record::parse(line) {
            Ok(record) => records.push(record),
            Err(error) => wrong.push(error),
        }
    }
    (records, wrong)
}

/// A port that is free right now.
fn free(ip: Ipv4Addr) -> io::Result<SocketAddr> {
    TcpListener::bind((ip, 0))?.local_addr()
}

fn get(addr: SocketAddr, path: &str) -> io::Result<String> {
    const TIMEOUT: Duration = Duration::from_secs(2);
    let mut stream = TcpStream::connect_timeout(&addr, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

fn cloud_toml(dir: &tempfile::TempDir, grpc: SocketAddr, choice: &Choice) -> String {
    format!(
        r#"bundle = "{bundle}"
grpc = "{grpc}"
http = "127.0.0.1:0"
metrics = "127.0.0.1:0"
state_dir = "{dir}/pool"
plaintext_beyond_loopback = {is_plain}
threads = 1
drain_grace_ms = 3000

[tls]
enabled = {is_secure}
"#,
        bundle = bundle().display(),
        dir = dir.path().display(),
        is_plain = !choice.is_secure,
        is_secure = choice.is_secure,
    )
}

fn edge_toml(
    dir: &tempfile::TempDir,
    target: SocketAddr,
    admin: SocketAddr,
    receiver: &Receiver,
    choice: &Choice,
) -> String {
    format!(
        r#"bundle = "{dir}/bundle"
state_dir = "{dir}/state"
threads = 1
drain_grace = "5s"

[offload]
cloud = "{scheme}://{target}"
plaintext_beyond_loopback = {is_plain}
mode = "always"
deadline = "{deadline}ms"

[identity]
dir = "{dir}/identity"

[[sources]]
type = "folder"
name = "cam1"
path = "{dir}/in"
patterns = ["*.png"]
rescan = "1s"

[[sinks]]
type = "jsonl"
path = "{dir}/sink/decisions.jsonl"
rotate_bytes = 0

[[sinks]]
type = "webhook"
url = "{url}"
timeout = "2s"

[api]
enabled = false

[admin]
listen = "{admin}"
plaintext_beyond_loopback = {beyond}
"#,
        dir = dir.path().display(),
        is_plain = !choice.is_secure,
        scheme = if choice.is_secure { "https" } else { "http" },
        deadline = choice.deadline.as_millis(),
        url = receiver.url(),
        beyond = admin.ip() != IpAddr::V4(Ipv4Addr::LOCALHOST),
    )
}

/// The beginning of a site's directory; the number of its process follows.
const PREFIX: &str = "millgate-faults-";

/// Unmounts and removes what runs left behind that were killed.
fn sweep() {
    let temp = std::env::temp_dir();
    for entry in std::fs::read_dir(&temp).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(rest) = name.strip_prefix(PREFIX) else { continue };
        let owner = rest.split('-').next().unwrap_or_default();
        if owner.parse::<u32>().is_ok() && !Path::new(&format!("/proc/{owner}")).exists() {
            for disk in ["state", "sink", "in/line2"] {
                let _gone = Command::new("umount").arg("-l").arg(entry.path().join(disk)).output().is_err();
            }
            let _gone = std::fs::remove_dir_all(entry.path()).is_err();
        }
    }
}
