//! One round of dialling a pool: every way to it is tried with the real handshake, a little after one another, and the
//! first that answers is taken.
//!
//! A way counts once the pool has answered over it: a port that accepts, a proxy that connects and a firewall that lets
//! the first packets through prove nothing. Only a pool that was known a moment ago and has proven by its certificate
//! that it is there again is believed a round trip earlier.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use hyper_util::rt::TokioIo;
use millgate_shared::bundle::BundleDigest;
use millgate_shared::identity::dial::reason;
use millgate_shared::shutdown::Tasks;
use millgate_shared::transport::quic;
use millgate_shared::transport::tcp::{self, Proxy};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint, Uri};

use super::carrier::Carrier;
use super::counts::Counts;
use super::line::{Known, Line, list};
use super::memory::Memory;
use super::other::{self, Looked, Spoken};
use super::paced::{Paced, Rate};
use super::pools::{Allowed, PoolUrl, Transport};
use super::race::{Candidate, STAGGER, order};
use super::refusal::{NoLine, Refusal};
use super::resolver::Resolver;

/// A dead peer is noticed after this much silence, twice.
const KEEPALIVE: Duration = Duration::from_secs(1);
/// How long a connection for bulk may show no sign of life: a sign waits behind bytes that are let out slowly, and that is no
/// reason to give up. Whether the pool is there is known from the live line.
const BULK_KEEPALIVE: Duration = Duration::from_secs(15);

/// Dials one pool. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Dialler {
    parts: Arc<Parts>,
}

#[derive(Debug)]
struct Parts {
    pool: PoolUrl,
    /// The best first.
    transports: Vec<Transport>,
    proxy: Option<(Proxy, Resolver)>,
    resolver: Resolver,
    tls: Option<Arc<ClientConfig>>,
    quic: Option<quic::Endpoint>,
    held: Option<watch::Receiver<BundleDigest>>,
    /// For one way.
    limit: Duration,
    memory: Memory,
    counts: Counts,
    /// What the pool said when it last answered over a new line.
    known: Mutex<Option<Known>>,
    /// What else answers there.
    looked: Looked<Option<NoLine>>,
}

/// What a dialler needs besides the pool's address.
#[derive(Debug, Clone)]
pub(super) struct Means {
    pub(super) allowed: Allowed,
    pub(super) proxy: Option<Proxy>,
    pub(super) tls: Option<Arc<ClientConfig>>,
    pub(super) quic: Option<quic::Endpoint>,
    /// The bundle that the agent decides with; a pool that does not answer for it is not asked. `None`: any bundle will do.
    pub(super) held: Option<watch::Receiver<BundleDigest>>,
    pub(super) limit: Duration,
    pub(super) memory: Memory,
    pub(super) counts: Counts,
    pub(super) tasks: Tasks,
}

impl Dialler {
    pub(super) fn new(pool: PoolUrl, means: Means) -> Self {
        let Means { allowed, proxy, tls, quic, held, limit, memory, counts, tasks } = means;
        let proxy = proxy.map(|proxy| {
            let resolver = Resolver::new(proxy.host(), proxy.port(), tasks.clone());
            (proxy, resolver)
        });
        let resolver = Resolver::new(&pool.host, pool.port, tasks);
        let transports = pool.transports(allowed);
        let (known, looked) = (Mutex::new(None), Looked::new());
        let parts = Parts {
            pool,
            transports,
            proxy,
            resolver,
            tls,
            quic,
            held,
            limit,
            memory,
            counts,
            known,
            looked,
        };
        Self { parts: Arc::new(parts) }
    }

    pub(super) fn pool(&self) -> &PoolUrl {
        &self.parts.pool
    }

    pub(super) fn transports(&self) -> &[Transport] {
        &self.parts.transports
    }

    /// An address of the pool, or of the proxy, if one is known.
    pub(super) fn peer(&self) -> Option<SocketAddr> {
        let resolver = self.parts.proxy.as_ref().map_or(&self.parts.resolver, |(_, proxy)| proxy);
        resolver.known()
    }

    pub(super) fn best(&self) -> Option<Transport> {
        self.parts.transports.first().copied()
    }

    pub(super) fn can_upgrade(&self) -> bool {
        self.parts.transports.len() > 1
    }

    pub(super) fn memory(&self) -> &Memory {
        &self.parts.memory
    }

    /// Remembers what the pool said of itself; `None` makes it prove that anew.
    pub(super) fn knows(&self, known: Option<Known>) {
        *self.parts.known.lock().unwrap_or_else(PoisonError::into_inner) = known;
    }

    /// Name of the life (start of the process) in which the pool last answered; `None` if it has not said.
    pub(super) fn life(&self) -> Option<String> {
        self.known().map(|known| known.listed.life).filter(|life| !life.is_empty())
    }

    fn known(&self) -> Option<Known> {
        self.parts.known.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The bundle that the agent decides with.
    pub(super) fn digest(&self) -> Option<BundleDigest> {
        self.parts.held.as_ref().map(|held| *held.borrow())
    }

    /// Whether the pool answers calls that name a bundle, as far as is known.
    pub(super) fn may_hold(&self, digest: BundleDigest) -> bool {
        let known = self.parts.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.as_ref().is_none_or(|known| known.holds(digest))
    }

    /// Over any transport, or over `only` one. Dropping it gives every way up.
    pub(super) async fn race(&self, only: Option<Transport>) -> Result<Line, NoLine> {
        let parts = &self.parts;
        let late = || format!("no address within {} ms", parts.limit.as_millis());
        let (candidates, mut errors) =
            timeout(parts.limit, self.candidates(only)).await.map_err(|_| late())?;
        let mut candidates = candidates.into_iter();
        let mut running = FuturesUnordered::new();
        let mut next_at = Instant::now();
        loop {
            let has_more = candidates.len() > 0;
            tokio::select! {
                biased;
                Some(ended) = running.next(), if !running.is_empty() => match ended {
                    Ok(line) => return Ok(line),
                    Err(error) => {
                        errors.push(error);
                        next_at = Instant::now();
                    }
                },
                () = sleep_until(next_at), if has_more => {
                    next_at = Instant::now() + STAGGER;
                    if let Some(candidate) = candidates.next() {
                        running.push(self.attempt(candidate, only.is_some()));
                    }
                }
                else => {
                    errors.dedup();
                    return Err(if errors.is_empty() { "it has no address".into() } else { NoLine::of_all(&errors) });
                }
            }
        }
    }

    async fn candidates(&self, only: Option<Transport>) -> (Vec<Candidate>, Vec<NoLine>) {
        let Parts { pool, transports, proxy, resolver, memory, .. } = self.parts.as_ref();
        let mut ways = Vec::new();
        let mut errors = Vec::new();
        for transport in transports.iter().copied().filter(|it| only.is_none_or(|only| only == *it)) {
            let resolver = match (transport, proxy) {
                (Transport::Tcp, Some((_, proxy))) => proxy,
                _ => resolver,
            };
            match resolver.addresses().await {
                Ok(addresses) => ways.push((transport, addresses)),
                Err(error) => errors.push(error.into()),
            }
        }
        (order(ways, memory.winner(&pool.to_string())), errors)
    }

    async fn attempt(&self, candidate: Candidate, must_answer: bool) -> Result<Line, NoLine> {
        let Parts { pool, limit, counts, .. } = self.parts.as_ref();
        let Candidate { transport, address } = candidate;
        let digest = self.digest();
        let work = async {
            let carrier = self.connect(candidate, None).await?;
            let known = self.known().filter(|known| digest.is_none_or(|digest| known.holds(digest)));
            match known.filter(|_| pool.is_tls && !must_answer) {
                Some(known) => Ok(Line::open_again(carrier, known)),
                None => Line::open(carrier, digest).await,
            }
        };
        let (outcome, ended) = match timeout(*limit, work).await {
            Ok(Ok(line)) => ("ok", Ok(line)),
            Ok(Err(error)) => ("failed", Err(self.explained(error, candidate).await)),
            Err(_) => ("late", Err(format!("no answer within {} ms", limit.as_millis()).into())),
        };
        counts.dialled(&pool.to_string(), transport, outcome);
        let way = match (transport, &self.parts.proxy) {
            (Transport::Tcp, Some((proxy, _))) => format!("tcp through the proxy {proxy} ({address})"),
            _ => format!("{} {address}", transport.as_str()),
        };
        ended.map_err(|error| error.prefixed(&way))
    }

    /// A way that failed may lead to another port than the one that was meant.
    async fn explained(&self, error: NoLine, candidate: Candidate) -> NoLine {
        let Parts { pool, proxy, looked, .. } = self.parts.as_ref();
        let may_be_another = match error.refusal {
            None => !pool.is_tls,
            Some(refusal) => refusal == Refusal::NoPool,
        };
        if candidate.transport == Transport::Quic || proxy.is_some() || !may_be_another {
            return error;
        }
        let found = match looked.known() {
            Some(found) => found,
            None => looked.found(self.look(&error, candidate.address).await),
        };
        found.unwrap_or(error)
    }

    async fn look(&self, error: &NoLine, address: SocketAddr) -> Option<NoLine> {
        let pool = &self.parts.pool;
        let mut text = match pool.is_tls {
            true => error.text.clone(),
            false => match other::spoken(address).await? {
                Spoken::Http1 => "HTTP/1 is spoken there and no gRPC, as on a pool's REST port".to_owned(),
                Spoken::Tls => "TLS is spoken there: write https://".to_owned(),
            },
        };
        for port in other::instead_of(address.port()) {
            let try_it = async {
                let carrier = self.over_tcp(SocketAddr::new(address.ip(), port), None).await?;
                list(&carrier, None).await
            };
            if matches!(timeout(other::LIMIT, try_it).await, Ok(Ok(_))) {
                let meant = PoolUrl { port, ..pool.clone() };
                text.push_str(&format!("; a pool's gRPC answers at {meant}: is that meant?"));
                break;
            }
        }
        Some(NoLine { text, refusal: Some(Refusal::NoPool) })
    }

    /// A connection for bulk over TCP, whose bytes go out no faster than `rate`.
    pub(super) async fn bulk(&self, rate: &Arc<Rate>) -> Result<Carrier, NoLine> {
        let (candidates, errors) = self.candidates(Some(Transport::Tcp)).await;
        let mut last = errors.into_iter().next().unwrap_or_else(|| "it has no address".into());
        for candidate in candidates {
            match timeout(self.parts.limit, self.connect(candidate, Some(rate))).await {
                Ok(Ok(carrier)) => return Ok(carrier),
                Ok(Err(error)) => last = error,
                Err(_) => last = format!("no answer within {} ms", self.parts.limit.as_millis()).into(),
            }
        }
        Err(last)
    }

    async fn connect(&self, candidate: Candidate, rate: Option<&Arc<Rate>>) -> Result<Carrier, NoLine> {
        match candidate.transport {
            Transport::Quic => self.over_quic(candidate.address).await,
            Transport::Tcp => self.over_tcp(candidate.address, rate).await,
        }
    }

    async fn over_quic(&self, address: SocketAddr) -> Result<Carrier, NoLine> {
        let endpoint = self.parts.quic.as_ref().ok_or("there is no UDP socket")?;
        let connected = endpoint.connect(address, &self.parts.pool.host).await;
        connected
            .map(Carrier::Quic)
            .map_err(|error| NoLine { text: error.to_string(), refusal: Refusal::of_quic(&error) })
    }

    async fn over_tcp(&self, address: SocketAddr, rate: Option<&Arc<Rate>>) -> Result<Carrier, NoLine> {
        let Parts { pool, proxy, tls, .. } = self.parts.as_ref();
        let stream = match proxy {
            Some((proxy, _)) => tcp::connect_through(proxy, address, &pool.host, pool.port).await,
            None => tcp::connect(address).await,
        };
        let stream = stream.map_err(|error| match error {
            // Who is meant stands before it.
            tcp::ConnectError::Socket(_, error) => error.to_string(),
            tcp::ConnectError::Proxy(error) => error.to_string(),
        })?;
        let stream = Paced::new(stream, rate.cloned());
        let keepalive = if rate.is_some() { BULK_KEEPALIVE } else { KEEPALIVE };
        if !pool.is_tls {
            return http2(pool, stream, keepalive).await;
        }
        let tls = tls.as_ref().ok_or_else(|| NoLine {
            text: "this agent has no TLS: see `[identity]`".to_owned(),
            refusal: Some(Refusal::Unknown),
        })?;
        let name = ServerName::try_from(pool.host.clone())
            .map_err(|_| format!("`{}` is no name that a certificate can be for", pool.host))?;
        let shaken = TlsConnector::from(Arc::clone(tls)).connect(name, stream).await;
        let shaken = shaken.map_err(|error| NoLine {
            text: format!("TLS: {}", reason(&error)),
            refusal: Refusal::of_handshake(&error),
        })?;
        http2(pool, shaken, keepalive).await
    }
}

/// HTTP/2 on a connection that is made; it is not made again when it is lost.
async fn http2<T>(pool: &PoolUrl, io: T, keepalive: Duration) -> Result<Carrier, NoLine>
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let endpoint = Endpoint::from_shared(pool.to_string())
        .map_err(|error| error.to_string())?
        .http2_keep_alive_interval(keepalive)
        .keep_alive_timeout(keepalive)
        .keep_alive_while_idle(true);
    let slot = Mutex::new(Some(io));
    let once = tower::service_fn(move |_: Uri| {
        let io = slot.lock().unwrap_or_else(PoisonError::into_inner).take();
        std::future::ready(io.map(TokioIo::new).ok_or(io::Error::from(io::ErrorKind::NotConnected)))
    });
    let connecting: Pin<Box<dyn Future<Output = Result<Channel, tonic::transport::Error>> + Send>> =
        Box::pin(endpoint.connect_with_connector(once));
    connecting.await.map(Carrier::Tcp).map_err(|error| root_cause(&error).into())
}

fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
