//! Devices, addresses and the namespace of a line, made with iproute2's `ip` and taken away again.
//!
//! ```text
//! namespace of the device                 │ here
//!   mgl-…a  198.18.N.2 ─── forwarder ─────┼── mgl-…p  198.18.N.1   the bad line (two TUN devices)
//!   mgl-…w  198.19.N.2 ─── veth ──────────┼── mgl-…v  198.19.N.1   the plant's own network, always whole
//! ```
//!
//! Every name carries the number of the process that made it, so that what a killed run left is known and removed by the
//! next one. The networks are those that RFC 2544 sets apart for measurements.

use std::fs::File;
use std::io;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// The beginning of every name.
const PREFIX: &str = "mgl-";
/// Where the pool's side of a line is, and how the device knows it where both are in one namespace.
pub(super) const POOL: u8 = 1;
pub(super) const MIRROR: u8 = 128;
/// The device's first address; each change takes the next.
pub(super) const FIRST_DEVICE: u8 = 2;
pub(super) const LAST_DEVICE: u8 = 99;

/// Why there is no line.
#[derive(Debug, thiserror::Error)]
pub enum LineError {
    #[error("`ip` is missing: install iproute2")]
    NoIp,
    #[error("a TUN device cannot be made: {0} (this needs root and /dev/net/tun)")]
    NoTun(#[source] io::Error),
    #[error("`ip {args}` failed: {output} (this needs root)")]
    Ip { args: String, output: String },
    #[error("all 256 networks for lines are taken")]
    NoNetwork,
    #[error("a thread or file of the line: {0}")]
    Io(#[from] io::Error),
}

/// Runs `ip` with these words.
pub(super) fn ip(args: &str) -> Result<String, LineError> {
    let output =
        Command::new("ip").args(args.split_whitespace()).output().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => LineError::NoIp,
            _ => LineError::Io(error),
        })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let output = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(LineError::Ip { args: args.to_owned(), output })
}

/// What a line has in the kernel. Removed on drop.
#[derive(Debug)]
pub(super) struct Network {
    name: String,
    number: u8,
    has_namespace: bool,
    /// Held as long as the number is ours.
    _lock: File,
}

impl Network {
    /// A free number and a name; nothing is made yet but the namespace.
    pub(super) fn new(has_namespace: bool) -> Result<Self, LineError> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        static SWEPT: OnceLock<()> = OnceLock::new();
        SWEPT.get_or_init(sweep);
        let (number, lock) = free_number()?;
        // Of a device's name 15 letters count.
        let at = NEXT.fetch_add(1, Ordering::Relaxed) % 100;
        let name = format!("{PREFIX}{:x}-{at}", std::process::id());
        let network = Self { name, number, has_namespace, _lock: lock };
        if has_namespace {
            ip(&format!("netns add {}", network.name))?;
            ip(&format!("-n {} link set lo up", network.name))?;
        }
        Ok(network)
    }

    pub(super) fn namespace(&self) -> Option<&str> {
        self.has_namespace.then_some(&*self.name)
    }

    /// The first three bytes of the bad line's addresses.
    pub(super) fn net(&self) -> [u8; 3] {
        [198, 18, self.number]
    }

    pub(super) fn at(&self, last: u8) -> Ipv4Addr {
        Ipv4Addr::new(198, 18, self.number, last)
    }

    /// In the plant's own network: 1 is this side, 2 the device.
    pub(super) fn plant(&self, last: u8) -> Ipv4Addr {
        Ipv4Addr::new(198, 19, self.number, last)
    }

    pub(super) fn device(&self, role: char) -> String {
        format!("{}{role}", self.name)
    }

    /// `ip` on the device's side.
    pub(super) fn inside(&self, args: &str) -> Result<String, LineError> {
        match self.namespace() {
            Some(namespace) => ip(&format!("-n {namespace} {args}")),
            None => ip(args),
        }
    }

    /// Addresses for the two TUN devices, which exist; the device's goes into its namespace.
    pub(super) fn join(&self) -> Result<(), LineError> {
        let (agent, pool) = (self.device('a'), self.device('p'));
        ip(&format!("link set {pool} up"))?;
        ip(&format!("addr add {}/24 dev {pool}", self.at(POOL)))?;
        if let Some(namespace) = self.namespace() {
            ip(&format!("link set {agent} netns {namespace}"))?;
            self.join_plant(namespace)?;
        }
        self.inside(&format!("link set {agent} up"))?;
        self.add_address(FIRST_DEVICE)
    }

    fn join_plant(&self, namespace: &str) -> Result<(), LineError> {
        let (here, there) = (self.device('v'), self.device('w'));
        ip(&format!("link add {here} type veth peer name {there} netns {namespace}"))?;
        ip(&format!("addr add {}/30 dev {here}", self.plant(1)))?;
        ip(&format!("link set {here} up"))?;
        self.inside(&format!("addr add {}/30 dev {there}", self.plant(2)))?;
        self.inside(&format!("link set {there} up")).map(drop)
    }

    /// The device gets an address, and with it a way to the pool.
    pub(super) fn add_address(&self, last: u8) -> Result<(), LineError> {
        let (address, agent) = (self.at(last), self.device('a'));
        if self.has_namespace {
            return self.inside(&format!("addr add {address}/24 dev {agent}")).map(drop);
        }
        ip(&format!("addr add {address}/32 dev {agent}"))?;
        ip(&format!("route replace {}/32 dev {agent}", self.at(POOL + MIRROR))).map(drop)
    }

    pub(super) fn remove_address(&self, last: u8) -> Result<(), LineError> {
        let prefix = if self.has_namespace { 24 } else { 32 };
        self.inside(&format!("addr del {}/{prefix} dev {}", self.at(last), self.device('a'))).map(drop)
    }
}

impl Network {
    /// Ends what runs in the namespace and takes everything away.
    pub(super) fn remove(&self) {
        remove(&self.name);
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.remove();
    }
}

/// Processes, namespace and devices of a name; what is gone already is no error.
fn remove(name: &str) {
    if let Ok(pids) = ip(&format!("netns pids {name}")) {
        for pid in pids
            .split_whitespace()
            .filter_map(|pid| pid.parse().ok())
            .filter_map(rustix::process::Pid::from_raw)
        {
            let _ended = rustix::process::kill_process(pid, rustix::process::Signal::KILL).is_ok();
        }
    }
    let _gone = ip(&format!("netns del {name}")).is_err();
    for role in ['a', 'p', 'v'] {
        let _gone = ip(&format!("link del {name}{role}")).is_err();
    }
}

/// Removes what runs left behind that were killed.
fn sweep() {
    let mut names: Vec<String> = Vec::new();
    for folder in ["/sys/class/net", "/run/netns", "/var/run/netns"] {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        names.extend(entries.map(|entry| entry.file_name().to_string_lossy().into_owned()));
    }
    for name in names {
        let Some(rest) = name.strip_prefix(PREFIX) else { continue };
        let owner = rest.split('-').next().and_then(|pid| u32::from_str_radix(pid, 16).ok());
        let lives = owner.is_none_or(|pid| Path::new(&format!("/proc/{pid}")).exists());
        if !lives {
            remove(name.trim_end_matches(char::is_alphabetic));
        }
    }
}

/// A number that no other process of this machine uses for a line.
fn free_number() -> Result<(u8, File), LineError> {
    let first = u8::try_from(std::process::id() % 256).unwrap_or(0);
    for step in 0..=u8::MAX {
        let number = first.wrapping_add(step);
        let path = std::env::temp_dir().join(format!("millgate-line-{number}.lock"));
        let file = File::options().create(true).append(true).open(&path)?;
        // Also held within this process: each opening is a lock of its own.
        if file.try_lock().is_ok() {
            return Ok((number, file));
        }
    }
    Err(LineError::NoNetwork)
}
