//! The fallback without root: a relay in user space for TCP and UDP, on one loopback port, with the weather of
//! the line model.
//!
//! What it cannot do: lose, reorder or drop what TCP carries (the kernel on either side of the relay has acknowledged it
//! already), change the device's address, or refuse a handshake while cut (a caller hangs one step later). A rate is
//! shared by all connections; a piece of a stream waits for room in the queue where a packet would be dropped.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use millgate_shared::shutdown::Tasks;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

use super::way::{Counts, Kind, Way, Weather};

/// Bytes of a stream that are read at a time; about what a packet carries.
const PIECE: usize = 1400;
const DATAGRAM: usize = 65_536;
/// Most pieces of one connection that have arrived and are not written yet.
const ARRIVED: usize = 64;
/// After a failed accept, and between looks for room in a full queue.
const PAUSE: Duration = Duration::from_millis(10);

/// Handle to a relay; it ends with its tasks. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Relay {
    addr: SocketAddr,
    up: Arc<Half>,
    down: Arc<Half>,
}

#[derive(Debug)]
struct Half {
    begun: Instant,
    way: Mutex<Way<Parcel>>,
    changed: Notify,
}

/// Something on its way, and to whom.
#[derive(Debug)]
enum Parcel {
    /// Empty: the end of the stream.
    Piece {
        to: mpsc::Sender<Vec<u8>>,
        bytes: Vec<u8>,
    },
    Datagram {
        from: Arc<UdpSocket>,
        to: SocketAddr,
        bytes: Vec<u8>,
    },
}

impl Half {
    fn new(seed: u64) -> Arc<Self> {
        let way = Mutex::new(Way::new(Weather::default(), seed));
        Arc::new(Self { begun: Instant::now(), way, changed: Notify::new() })
    }

    fn lock(&self) -> MutexGuard<'_, Way<Parcel>> {
        self.way.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, parcel: Parcel, kind: Kind) {
        let len = match &parcel {
            Parcel::Piece { bytes, .. } | Parcel::Datagram { bytes, .. } => bytes.len(),
        };
        self.lock().push(self.begun.elapsed(), parcel, len, kind);
        self.changed.notify_one();
    }

    /// Waits until the line is whole and its queue has room.
    async fn room(&self) {
        loop {
            let has_room = {
                let mut way = self.lock();
                !way.weather().is_cut && way.room(self.begun.elapsed()) >= PIECE
            };
            if has_room {
                return;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Hands over what has arrived, for ever.
    async fn carry(&self) {
        loop {
            let (parcel, next) = {
                let mut way = self.lock();
                (way.pop(self.begun.elapsed()), way.next())
            };
            match (parcel, next) {
                (Some(Parcel::Piece { to, bytes }), _) => {
                    // A reader that stands still holds up the others no more than a packet network would: its own
                    // sender waits for room long before.
                    let _closed = to.send(bytes).await.is_err();
                }
                (Some(Parcel::Datagram { from, to, bytes }), _) => {
                    let _lost = from.send_to(&bytes, to).await.is_err();
                }
                (None, Some(at)) => {
                    tokio::select! {
                        () = tokio::time::sleep_until(self.begun + at) => {}
                        () = self.changed.notified() => {}
                    }
                }
                (None, None) => self.changed.notified().await,
            }
        }
    }
}

impl Relay {
    /// Listens on a free loopback port, TCP and UDP, and relays to the same port of `upstream`'s address.
    pub async fn start(upstream: SocketAddr, seed: u64, tasks: &Tasks) -> io::Result<Self> {
        let (listener, socket) = both().await?;
        let addr = listener.local_addr()?;
        let relay = Self { addr, up: Half::new(seed), down: Half::new(seed.wrapping_add(1)) };
        let run = {
            let relay = relay.clone();
            let tasks = tasks.clone();
            async move {
                tokio::join!(
                    relay.up.carry(),
                    relay.down.carry(),
                    relay.accept(&listener, upstream, &tasks),
                    relay.datagrams(Arc::new(socket), upstream, &tasks),
                );
            }
        };
        let stop = tasks.token().clone();
        tasks.spawn(async move {
            let _stopped = stop.run_until_cancelled(run).await.is_none();
        });
        Ok(relay)
    }

    /// Where to connect instead of upstream.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub fn set(&self, weather: Weather) {
        self.change(|now| *now = weather);
    }

    pub fn change(&self, change: impl Fn(&mut Weather)) {
        for half in [&self.up, &self.down] {
            let mut way = half.lock();
            let mut weather = way.weather();
            change(&mut weather);
            way.set(half.begun.elapsed(), weather);
            drop(way);
            half.changed.notify_one();
        }
    }

    pub fn weather(&self) -> Weather {
        self.up.lock().weather()
    }

    pub fn cut(&self) {
        self.change(|weather| weather.is_cut = true);
    }

    pub fn restore(&self) {
        self.change(|weather| weather.is_cut = false);
    }

    pub fn block_udp(&self, is_blocked: bool) {
        self.change(|weather| weather.blocks_udp = is_blocked);
    }

    /// To upstream, and back, since the beginning.
    pub fn counts(&self) -> (Counts, Counts) {
        (self.up.lock().counts(), self.down.lock().counts())
    }

    async fn accept(&self, listener: &TcpListener, upstream: SocketAddr, tasks: &Tasks) {
        loop {
            match listener.accept().await {
                Ok((client, _)) => {
                    let relay = self.clone();
                    let stop = tasks.token().clone();
                    tasks.spawn(async move {
                        let _ended = stop.run_until_cancelled(relay.connection(client, upstream)).await;
                    });
                }
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    async fn connection(&self, client: TcpStream, upstream: SocketAddr) {
        self.up.room().await;
        let Ok(server) = TcpStream::connect(upstream).await else { return };
        if client.set_nodelay(true).is_err() || server.set_nodelay(true).is_err() {
            return;
        }
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        tokio::join!(stream(from_client, to_server, &self.up), stream(from_server, to_client, &self.down));
    }

    /// Each sender gets a socket towards upstream, as through a NAT.
    async fn datagrams(&self, socket: Arc<UdpSocket>, upstream: SocketAddr, tasks: &Tasks) {
        let mut flows: HashMap<SocketAddr, Arc<UdpSocket>> = HashMap::new();
        let mut buffer = vec![0; DATAGRAM];
        loop {
            let Ok((len, client)) = socket.recv_from(&mut buffer).await else { continue };
            let flow = match flows.get(&client) {
                Some(flow) => Arc::clone(flow),
                None => {
                    let Ok(flow) = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await else { continue };
                    let flow = Arc::new(flow);
                    flows.insert(client, Arc::clone(&flow));
                    let (answers, socket, down) =
                        (Arc::clone(&flow), Arc::clone(&socket), Arc::clone(&self.down));
                    let stop = tasks.token().clone();
                    tasks.spawn(async move {
                        let _ended = stop.run_until_cancelled(back(&answers, &socket, client, &down)).await;
                    });
                    flow
                }
            };
            let bytes = buffer[..len].to_vec();
            self.up.push(Parcel::Datagram { from: flow, to: upstream, bytes }, Kind::Udp);
        }
    }
}

/// A TCP and a UDP port of one number.
async fn both() -> io::Result<(TcpListener, UdpSocket)> {
    const ATTEMPTS: u32 = 20;
    let mut error = io::Error::from(io::ErrorKind::AddrInUse);
    for _ in 0..ATTEMPTS {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        match UdpSocket::bind(listener.local_addr()?).await {
            Ok(socket) => return Ok((listener, socket)),
            Err(taken) => error = taken,
        }
    }
    Err(error)
}

/// One direction of a connection. Its end waits its turn as its bytes do.
async fn stream(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, half: &Half) {
    let (arrive, mut arrived) = mpsc::channel::<Vec<u8>>(ARRIVED);
    let read = async {
        let mut buffer = vec![0; PIECE];
        loop {
            let len = from.read(&mut buffer).await.unwrap_or(0);
            half.room().await;
            half.push(Parcel::Piece { to: arrive.clone(), bytes: buffer[..len].to_vec() }, Kind::Stream);
            if len == 0 {
                return;
            }
        }
    };
    let write = async {
        while let Some(bytes) = arrived.recv().await {
            if bytes.is_empty() || to.write_all(&bytes).await.is_err() {
                break;
            }
        }
        let _gone = to.shutdown().await.is_err();
    };
    tokio::join!(read, write);
}

async fn back(flow: &UdpSocket, socket: &Arc<UdpSocket>, client: SocketAddr, half: &Half) {
    let mut buffer = vec![0; DATAGRAM];
    loop {
        // An error here is that upstream's port was closed when we last sent.
        let Ok((len, _)) = flow.recv_from(&mut buffer).await else { continue };
        let bytes = buffer[..len].to_vec();
        half.push(Parcel::Datagram { from: Arc::clone(socket), to: client, bytes }, Kind::Udp);
    }
}
