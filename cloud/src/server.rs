//! A pool that listens: binds, loads, serves, drains. Nothing here is global, so several can share a process.

use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use millgate_shared::door::counts::Counts;
use millgate_shared::door::http1;
use millgate_shared::door::incoming::{Door, HTTP2_PREFACE};
use millgate_shared::door::origin::Hosts;
use millgate_shared::door::quic::QuicDoor;
use millgate_shared::door::seats::Seats;
use millgate_shared::identity::dial::H2;
use millgate_shared::shutdown::Tasks;
use millgate_shared::transport::quic::ALPN;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server as Grpc;
use tower::Layer;

use crate::access::Access;
use crate::admin;
use crate::api::Api;
use crate::api::enrollment::Enroller;
use crate::config::{CloudConfig, ConfigError, Loopback};
use crate::door::bounds::DoorBounds;
use crate::engines::{Engines, EnginesError, search};
use crate::guests::Guests;
use crate::holding::Holding;
use crate::identity::material::Material;
use crate::identity::{StateError, own};
use crate::metrics::Metrics;
use crate::pool::{Given, Pool, PoolError};
use crate::readiness::Readiness;
use crate::rest;
use crate::switching::Switcher;
use crate::switching::kept::Kept;
use crate::trace::{Traces, TracesError};
use upkeep::Upkeep;

mod bundles;
#[cfg(test)]
mod tests;
mod upkeep;

/// What REST is called in a TLS handshake.
const HTTP_1: &[u8] = b"http/1.1";
/// A peer that says nothing is asked whether it lives after this time, and dropped after [`KEEPALIVE_TIMEOUT`]: a
/// device whose power was cut holds a connection no longer than that.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes a client may send ahead at most, on a stream and on a connection. HTTP/2's default of 64 KiB costs a tensor several
/// round trips.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;
/// Doors where calls come in, each of which has so many connections.
const DOORS: usize = 2;
/// What the operators' side gets to finish after the last call.
const ADMIN_GRACE: Duration = Duration::from_millis(500);
/// What the collector gets to take the last spans.
const TRACE_GRACE: Duration = Duration::from_secs(2);
/// What a connection gets to notice that it was cut.
const CUT_GRACE: Duration = Duration::from_secs(1);

/// Why a pool did not start.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("`{key}`: cannot listen on {address}: {source}")]
    Bind { key: &'static str, address: SocketAddr, source: std::io::Error },
    #[error(transparent)]
    Engines(#[from] EnginesError),
    #[error(transparent)]
    Pool(#[from] PoolError),
    #[error(transparent)]
    Traces(#[from] TracesError),
    #[error(transparent)]
    State(#[from] StateError),
    #[error("the loader stopped: {0}")]
    Loader(#[from] tokio::task::JoinError),
    #[error("reflection: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
}

impl ServeError {
    /// What was given is at fault, not the machine.
    pub fn is_bad_input(&self) -> bool {
        match self {
            Self::Config(_) | Self::Engines(_) | Self::Pool(_) | Self::Traces(_) => true,
            Self::State(error) => error.is_bad_input(),
            Self::Bind { .. } | Self::Loader(_) | Self::Reflection(_) => false,
        }
    }

    /// Only a change of the configuration helps. A bundle or a model may be half copied, a port or a descriptor in use, and
    /// a library not installed yet: trying again helps as soon as that is over.
    pub fn is_final(&self) -> bool {
        match self {
            Self::Config(error) => error.is_final(),
            Self::Traces(_) => true,
            Self::Engines(_)
            | Self::Pool(_)
            | Self::State(_)
            | Self::Bind { .. }
            | Self::Loader(_)
            | Self::Reflection(_) => false,
        }
    }
}

/// Starts pools.
#[derive(Debug, Clone, Copy)]
pub struct Server;

impl Server {
    /// Binds the listeners, then loads and proves the configured bundle, then serves. Returns when calls are answered.
    pub async fn start(config: CloudConfig) -> Result<Running, ServeError> {
        let listeners = Listeners::bind(&config).await?;
        let material = listeners.material(&config).await?;
        let Loaded { pool, .. } = load(&config, Kept::default()).await?;
        serve(&config, listeners, material, Arc::new(pool), None)
    }

    /// Starts a pool whose bundle can be switched while it runs, by commands and by [`Running::reload`]: it keeps copies
    /// of its bundles in `state_dir`, and serves the one that was switched to last.
    pub async fn start_switchable(config: CloudConfig) -> Result<Running, ServeError> {
        let listeners = Listeners::bind(&config).await?;
        let material = listeners.material(&config).await?;
        let state_dir = config.state_dir.clone();
        let kept = tokio::task::spawn_blocking(move || Kept::open(&state_dir)).await?;
        let Loaded { pool, given, kept } = load(&config, kept).await?;
        let (pool, configured) = (Arc::new(pool), config.bundle_path().map(Path::to_owned));
        let switched = Arc::clone(&pool);
        let switcher = tokio::task::spawn_blocking(move || {
            Switcher::new(switched, configured.as_deref(), given.as_ref(), kept)
        });
        serve(&config, listeners, material, pool, Some(Arc::new(switcher.await?)))
    }
}

/// Bound, and not yet answered on.
struct Listeners {
    grpc: TcpListener,
    grpc_addr: SocketAddr,
    /// The UDP socket for QUIC, at the address of `grpc`; `None`: QUIC is off.
    quic: Option<UdpSocket>,
    http: TcpListener,
    http_addr: SocketAddr,
    metrics: TcpListener,
    metrics_addr: SocketAddr,
}

impl Listeners {
    async fn bind(config: &CloudConfig) -> Result<Self, ServeError> {
        config.check()?;
        let (grpc, grpc_addr) = bind("grpc", config.grpc).await?;
        let quic = config.has_quic().then(|| millgate_shared::transport::quic::server::bind(grpc_addr));
        let refuse = |source| ServeError::Bind { key: "grpc", address: grpc_addr, source };
        let quic = quic.transpose().map_err(refuse)?;
        let (http, http_addr) = bind("http", config.http).await?;
        let (metrics, metrics_addr) = bind("metrics", config.metrics).await?;
        Ok(Self { grpc, grpc_addr, quic, http, http_addr, metrics, metrics_addr })
    }

    /// What they show and trust; `None` if none of them speaks TLS.
    async fn material(&self, config: &CloudConfig) -> Result<Option<Arc<Material>>, ServeError> {
        if !config.has_tls(config.grpc) && !config.has_tls(config.http) {
            return Ok(None);
        }
        let (config, listen) = (config.clone(), [self.grpc_addr, self.http_addr]);
        let opened = tokio::task::spawn_blocking(move || {
            Material::open(&config.state_dir, (&config.node, &listen), config.tls, &config.devices)
        });
        Ok(Some(Arc::new(opened.await??)))
    }
}

async fn bind(key: &'static str, address: SocketAddr) -> Result<(TcpListener, SocketAddr), ServeError> {
    let refuse = |source| ServeError::Bind { key, address, source };
    let listener = TcpListener::bind(address).await.map_err(refuse)?;
    let bound = listener.local_addr().map_err(refuse)?;
    Ok((listener, bound))
}

fn serve(
    config: &CloudConfig,
    listeners: Listeners,
    material: Option<Arc<Material>>,
    pool: Arc<Pool>,
    switcher: Option<Arc<Switcher>>,
) -> Result<Running, ServeError> {
    let Listeners { grpc, grpc_addr, quic, http, http_addr, metrics: operators, metrics_addr } = listeners;
    let traces = Traces::start(&config.traces, pool.node())?;
    let access = Arc::new(Access::open(&config.state_dir, config.access.clone(), config.tenants.clone())?);
    let counts = Arc::new(Counts::default());
    let holding = Holding::new(&config.holding, DOORS * config.max_connections);
    let metrics = Arc::new(Metrics::new(&pool, config.triton_metrics, |registry| {
        counts.register(registry);
        access.counts().register(registry);
        holding.counts().register(registry);
        traces.counts().register(registry);
        if let Some(switcher) = &switcher {
            switcher.counts().register(registry);
        }
    }));
    let (readiness, cut) = (pool.serving().readiness().clone(), CancellationToken::new());
    let (tasks, operator_tasks) = (Tasks::new(), Tasks::new());
    let api = Api::new(
        Arc::clone(&pool),
        Arc::clone(&metrics),
        tasks.token().clone(),
        config.default_deadline(),
        config.max_in_flight_per_stream,
        traces.are_exported().then_some(config.traces.sample_ratio),
    );
    let bounds = DoorBounds::fit(config.max_connections);
    let door = |listener, (name, bounds), listen, greeting, alpn| {
        let material = material.as_ref().filter(|_| config.has_tls(listen));
        let tls = material.map(|material| material.server_config(&[alpn]));
        Door::new(listener, Seats::new(name, bounds, cut.clone(), Arc::clone(&counts)), greeting, tls)
    };
    let hosts = Hosts::new(own::names(&config.tls.names, &config.node, &[]), &config.allowed_hosts);
    let rest = rest::router(api.clone(), readiness.clone())
        .layer(rest::holding(&holding))
        .layer(rest::access(&access))
        .layer(traces.layer());
    let guard = rest::guard(match config.access.loopback {
        Loopback::Full => hosts.clone(),
        // Being on this machine is no right then, so that it does not matter by what name a program is called.
        Loopback::Token => hosts.clone().with_any_name(),
    });
    let http = door(http, ("http", bounds.http), config.http, None, HTTP_1);
    tasks.spawn(http1::serve(http, rest, guard, tasks.clone()));
    let enrolment = material.as_ref().and_then(|material| material.enrolment().cloned());
    let enroller = Enroller::new(enrolment, Arc::clone(&access), Arc::clone(&metrics));
    let routes = api.routes(readiness.clone(), enroller)?;
    let held = Api::holding(&holding).layer(routes.clone());
    let layered = traces.layer().layer(Api::deadlines().layer(Api::access(&access).layer(held)));
    let window = holding.window(config.max_connections, CONNECTION_WINDOW);
    let server = Grpc::builder()
        .initial_stream_window_size(window.min(STREAM_WINDOW))
        .initial_connection_window_size(window)
        .max_concurrent_streams(config.max_streams)
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .layer(traces.layer())
        .layer(Api::deadlines())
        .layer(Api::access(&access))
        .layer(Api::holding(&holding))
        .add_routes(routes);
    let grpc = door(grpc, ("grpc", bounds.grpc), config.grpc, Some(HTTP2_PREFACE), H2);
    if let (Some(material), Some(socket)) = (&material, quic) {
        let (tls, seats) = (material.server_config(&[ALPN]), Arc::clone(grpc.seats()));
        let door = QuicDoor::open(socket, tls, seats, config.max_streams, window)
            .map_err(|source| ServeError::Bind { key: "grpc", address: grpc_addr, source })?;
        tasks.spawn(door.serve(layered, tasks.token().clone()));
    }
    let (seats, stop) = (Arc::clone(grpc.seats()), tasks.token().clone());
    tasks.spawn(async move {
        stop.cancelled().await;
        // tonic would wait for those that have said nothing.
        seats.clear();
    });
    let stop = tasks.token().clone().cancelled_owned();
    tasks.spawn(async move {
        if let Err(error) = server.serve_with_incoming_shutdown(grpc.connections(), stop).await {
            tracing::error!(%error, "gRPC has stopped");
        }
    });

    let upkeep = Upkeep::start((access, holding), material, Arc::clone(&metrics), &operator_tasks);
    if let Some(switcher) = &switcher {
        bundles::tend(switcher, config, &operator_tasks);
    }
    let router = admin::router(Arc::clone(&pool), Arc::clone(&metrics), readiness.clone());
    let seats = Seats::new("metrics", bounds.operators, CancellationToken::new(), Arc::clone(&counts));
    let operators = Door::new(operators, seats, None, None);
    let guard = admin::guard(hosts);
    operator_tasks.spawn(http1::serve(operators, router, guard, operator_tasks.clone()));
    announce(config, &pool, grpc_addr, http_addr, metrics_addr);
    Ok(Running {
        has_tls: config.has_tls(config.grpc),
        upkeep,
        switcher,
        grpc_addr,
        http_addr,
        metrics_addr,
        pool,
        metrics,
        traces,
        readiness,
        tasks,
        operator_tasks,
        cut,
    })
}

fn announce(config: &CloudConfig, pool: &Pool, grpc: SocketAddr, http: SocketAddr, metrics: SocketAddr) {
    let hosted = pool.hosted();
    let manifest = hosted.as_ref().map(|hosted| hosted.manifest());
    tracing::info!(
        node = pool.node(),
        %grpc,
        grpc_tls = config.has_tls(config.grpc),
        quic = config.has_quic(),
        %http,
        http_tls = config.has_tls(config.http),
        %metrics,
        bundle = manifest.map_or("none", |manifest| manifest.name.as_str()),
        version = manifest.map(|manifest| manifest.version.as_str()),
        digest = hosted.as_ref().map(|hosted| tracing::field::display(hosted.digest())),
        models = pool.models(),
        threads = pool.threads(),
        loaded_ms = pool.loaded_in().as_millis() as u64,
        "serving"
    );
}

/// A pool that was opened.
pub(crate) struct Loaded {
    pub(crate) pool: Pool,
    /// The bundle that it was opened with.
    given: Option<Given>,
    kept: Kept,
}

/// Opens the pool. `kept` knows whether another bundle is to be served than the configured one. Loading computes for a
/// while, so it gets a thread of its own.
pub(crate) async fn load(config: &CloudConfig, kept: Kept) -> Result<Loaded, ServeError> {
    let config = config.clone();
    let opened = tokio::task::spawn_blocking(move || {
        let open = |given: Option<&Given>| -> Result<Pool, ServeError> {
            let guests = Guests::new(config.worker_program.clone(), &config.guests);
            let engines = Engines::start(&config.engines, &config.state_dir, config.thread_count(), &guests)?;
            Ok(Pool::open(&config, engines, given)?)
        };
        let mut given = config.bundle_path().map(|path| kept.choose(path)).transpose()?;
        let pool = match open(given.as_ref()) {
            Err(error @ ServeError::Pool(PoolError::Bundle { .. })) => {
                let Some(before) = given.as_ref().and_then(|given| kept.before(given)) else {
                    return Err(error);
                };
                tracing::error!(%error, "the configured bundle cannot be served; the one that was served before is");
                let pool = open(Some(&before))?;
                given = Some(before);
                pool
            }
            opened => opened?,
        };
        search::log(pool.serving().engines().found(), &pool.missing());
        Ok(Loaded { pool, given, kept })
    });
    opened.await?
}

/// A pool that serves. Dropping it cuts every connection.
#[derive(Debug)]
pub struct Running {
    /// True: gRPC speaks TLS.
    has_tls: bool,
    upkeep: Upkeep,
    /// `None`: its bundle stays.
    switcher: Option<Arc<Switcher>>,
    grpc_addr: SocketAddr,
    http_addr: SocketAddr,
    metrics_addr: SocketAddr,
    pool: Arc<Pool>,
    metrics: Arc<Metrics>,
    traces: Traces,
    readiness: Readiness,
    /// gRPC and REST; stops taking connections and calls when told to.
    tasks: Tasks,
    /// `/metrics` and its like; outlives the drain, so that it can be watched.
    operator_tasks: Tasks,
    /// Cancelled: every connection ends at once.
    cut: CancellationToken,
}

/// What a drain came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drained {
    /// Calls that were cut because they outlasted the grace.
    pub cut_calls: usize,
}

impl Running {
    pub fn grpc_addr(&self) -> SocketAddr {
        self.grpc_addr
    }

    /// The address that gRPC clients connect to.
    pub fn url(&self) -> String {
        format!("{}://{}", if self.has_tls { "https" } else { "http" }, self.grpc_addr)
    }

    /// Reads certificates, devices and tokens again, whether their files seem to have changed or not.
    pub fn reload(&self) {
        self.upkeep.reload();
        if let Some(switcher) = &self.switcher {
            bundles::follow(switcher);
        }
    }

    /// The address that REST clients connect to.
    pub fn http_addr(&self) -> SocketAddr {
        self.http_addr
    }

    pub fn metrics_addr(&self) -> SocketAddr {
        self.metrics_addr
    }

    pub fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    /// Calls that are not answered yet.
    pub fn in_flight(&self) -> usize {
        self.metrics.in_flight()
    }

    /// A handle that can be asked while the pool drains.
    pub fn calls_in_flight(&self) -> impl Fn() -> usize + Send + use<> {
        let metrics = Arc::clone(&self.metrics);
        move || metrics.in_flight()
    }

    /// Says NOT_SERVING, stops taking calls, lets those in flight finish within `grace`, cuts the rest.
    pub async fn drain(self, grace: Duration) -> Drained {
        self.readiness.withdraw();
        let left = self.tasks.drain(grace).await;
        let cut_calls = if left == 0 { 0 } else { self.metrics.in_flight() };
        self.cut.cancel();
        self.tasks.drain(CUT_GRACE).await;
        self.traces.drain(TRACE_GRACE).await;
        self.operator_tasks.drain(ADMIN_GRACE).await;
        if left > 0 {
            tracing::warn!(cut_calls, grace_ms = grace.as_millis() as u64, "the grace is over");
        }
        Drained { cut_calls }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.readiness.withdraw();
        self.cut.cancel();
        self.tasks.stop();
        self.traces.stop();
        self.operator_tasks.stop();
    }
}
