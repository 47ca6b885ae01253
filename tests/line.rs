//! A bad line between a device and a pool: loss, bursts, delay, jitter, reordering, a rate with a bounded queue, cuts,
//! blocked UDP, a change of address, a router that forgets its mappings.
//!
//! [`Line`] stands below the transports: two TUN devices, the device's in a network namespace of its own, and between them
//! a forwarder in user space whose rules are [`way::Way`]. The kernel's TCP and whatever stands on UDP meet it as they
//! meet a real line. It needs root, `/dev/net/tun` and `ip` (iproute2), and no module of the kernel such as netem.
//! [`relay::Relay`] is for machines without: a relay for TCP and UDP on loopback that delays, limits, cuts, and loses
//! datagrams, but cannot lose what TCP carries.
//!
//! ```no_run
//! use system_tests::line::{Line, Loss, Weather};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let line = Line::open(42)?; // a namespace; `Line::open_here` for client and server in one process
//! line.set(Weather { loss: Loss::Random(0.03), rate: Some(20_000_000), ..Weather::default() });
//! // A server binds line.pool_ip(); a client, started with line.command("…"), connects to line.target_ip().
//! let mut client = line.command("curl").arg(format!("http://{}:8000/", line.target_ip())).spawn()?;
//! line.cut();
//! line.restore();
//! line.change_address()?;
//! client.wait()?;
//! # Ok(())
//! # }
//! ```

use std::ffi::OsStr;
use std::io;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::sync::PoisonError;

use tun_rs::{DeviceBuilder, SyncDevice};

use forward::{Direction, Forwarder};
use nat::Nat;
use network::{FIRST_DEVICE, LAST_DEVICE, MIRROR, Network, POOL};

mod forward;
mod nat;
mod network;
mod packet;
pub mod pcap;
pub mod relay;
pub mod way;

pub use nat::Rebind;
pub use network::LineError;
pub use way::{Counts, Loss, Weather};

/// Largest packet of an Ethernet, in bytes.
const MTU: u16 = 1500;

/// A line at work. Everything it made is removed on drop, and with it every process in its namespace.
#[derive(Debug)]
pub struct Line {
    forwarder: Forwarder,
    /// The device's address right now.
    device: Mutex<Option<u8>>,
    last_device: Mutex<u8>,
    network: Network,
}

impl Line {
    /// A perfect line to a device in a namespace of its own. The seed is for everything that is drawn.
    pub fn open(seed: u64) -> Result<Self, LineError> {
        Self::between(seed, true)
    }

    /// Opens a line without a namespace, for a client and a server in one process: the client connects to
    /// [`Line::target_ip`], which is the pool behind the line, and its packets do go by the line.
    pub fn open_here(seed: u64) -> Result<Self, LineError> {
        Self::between(seed, false)
    }

    fn between(seed: u64, has_namespace: bool) -> Result<Self, LineError> {
        let network = Network::new(has_namespace)?;
        let (agent, pool) = (tun(&network.device('a'))?, tun(&network.device('p'))?);
        network.join()?;
        let nat = match has_namespace {
            true => Nat::plain(network.net(), POOL),
            false => Nat::mirrored(network.net(), POOL + MIRROR, POOL, MIRROR),
        };
        let forwarder = Forwarder::start(agent, pool, nat, Weather::default(), seed)?;
        let (device, last_device) = (Mutex::new(Some(FIRST_DEVICE)), Mutex::new(FIRST_DEVICE));
        Ok(Self { forwarder, device, last_device, network })
    }

    /// Where a pool binds.
    pub fn pool_ip(&self) -> Ipv4Addr {
        self.network.at(POOL)
    }

    /// Where the device connects to.
    pub fn target_ip(&self) -> Ipv4Addr {
        self.network.at(if self.namespace().is_some() { POOL } else { POOL + MIRROR })
    }

    /// The device's address on the line, if it has one.
    pub fn device_ip(&self) -> Option<Ipv4Addr> {
        self.device.lock().unwrap_or_else(PoisonError::into_inner).map(|last| self.network.at(last))
    }

    /// This side's address in the plant's own network, which is always whole; with a namespace only.
    pub fn plant_ip(&self) -> Ipv4Addr {
        self.network.plant(1)
    }

    /// The device's address in it.
    pub fn plant_device_ip(&self) -> Ipv4Addr {
        self.network.plant(2)
    }

    pub fn namespace(&self) -> Option<&str> {
        self.network.namespace()
    }

    /// A command that will run on the device.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        match self.namespace() {
            Some(namespace) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", namespace]).arg(program);
                command
            }
            None => Command::new(program),
        }
    }

    /// Sets the weather of both ways.
    pub fn set(&self, weather: Weather) {
        self.set_ways(weather, weather);
    }

    /// Device to pool, and back.
    pub fn set_ways(&self, up: Weather, down: Weather) {
        self.forwarder.change(Direction::Up, |weather| *weather = up);
        self.forwarder.change(Direction::Down, |weather| *weather = down);
    }

    /// Changes both ways' weather.
    pub fn change(&self, change: impl Fn(&mut Weather)) {
        self.forwarder.change(Direction::Up, &change);
        self.forwarder.change(Direction::Down, &change);
    }

    /// Device to pool.
    pub fn weather(&self) -> Weather {
        self.forwarder.weather(Direction::Up)
    }

    /// Pulls the cable somewhere on the way: nobody is told.
    pub fn cut(&self) {
        self.change(|weather| weather.is_cut = true);
    }

    pub fn restore(&self) {
        self.change(|weather| weather.is_cut = false);
    }

    pub fn block_udp(&self, is_blocked: bool) {
        self.change(|weather| weather.blocks_udp = is_blocked);
    }

    /// The device's address is gone and another is there, as after a switch from one network to another.
    pub fn change_address(&self) -> Result<(), LineError> {
        self.drop_address()?;
        self.take_address()
    }

    /// The device has no address, and so no way to the pool.
    pub fn drop_address(&self) -> Result<(), LineError> {
        match self.device.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(last) => self.network.remove_address(last),
            None => Ok(()),
        }
    }

    /// The device gets a new one.
    pub fn take_address(&self) -> Result<(), LineError> {
        self.drop_address()?;
        let mut last = self.last_device.lock().unwrap_or_else(PoisonError::into_inner);
        *last = if *last == LAST_DEVICE { FIRST_DEVICE } else { *last + 1 };
        self.network.add_address(*last)?;
        *self.device.lock().unwrap_or_else(PoisonError::into_inner) = Some(*last);
        Ok(())
    }

    /// The router on the way forgets its mappings: flows that go on come from elsewhere.
    pub fn rebind(&self, what: Rebind) {
        self.forwarder.rebind(what);
    }

    /// Device to pool, and back, since the beginning.
    pub fn counts(&self) -> (Counts, Counts) {
        (self.forwarder.counts(Direction::Up), self.forwarder.counts(Direction::Down))
    }

    /// From now on what is put on the line is written to a pcap file, also what the line then loses.
    pub fn capture(&self, path: &Path) -> io::Result<()> {
        self.forwarder.capture(path)
    }

    pub fn end_capture(&self) -> io::Result<()> {
        self.forwarder.end_capture()
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.forwarder.stop();
        // Only without its device does a thread that reads from it wake up.
        self.network.remove();
        self.forwarder.join();
    }
}

fn tun(name: &str) -> Result<SyncDevice, LineError> {
    DeviceBuilder::new().name(name).mtu(MTU).enable(false).build_sync().map_err(LineError::NoTun)
}
