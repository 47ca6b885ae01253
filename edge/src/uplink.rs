//! The agent's lines to its pools: live calls on one bidirectional gRPC stream a pool, and a back-log behind them.
//!
//! ```text
//! send ─────────> driver ── session (pure: where to, again, elsewhere, dial) ──┐
//!                   │                                                          │
//!                   ├─ line: one stream of live calls, over QUIC or TCP <──────┘
//!                   └─ rounds: resolver ─> race (order) ─> dial (handshake, first answer) ─> line
//! send_backlog ─> bulk ── pacing ── a connection of its own (TCP) or streams that give way (QUIC)
//! ```
//!
//! [`Pending::reply`] always returns by its deadline. Nothing here is awaited on a sample's path but that.

use std::error::Error as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use millgate_shared::bundle::BundleDigest;
use millgate_shared::decision::Missing;
use millgate_shared::proto::v1;
use millgate_shared::shutdown::Tasks;
use millgate_shared::transport::{quic, tcp};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{sleep_until, timeout};
use tonic::Code;

pub mod breaker;
pub mod budget;
mod bulk;
mod carrier;
mod counts;
mod dial;
mod driver;
mod elapsed;
pub mod estimate;
mod kept;
pub mod ledger;
mod line;
mod memory;
mod network;
mod other;
mod paced;
mod pacing;
pub mod pools;
mod race;
pub mod refusal;
mod resolver;
pub mod session;
mod split;
#[cfg(test)]
mod tests;
mod trial;
pub mod troubles;
pub mod upload;

pub use carrier::Carrier;
pub use counts::Counts;
pub use estimate::Estimate;
pub use kept::KeptError;
pub use pools::{Allowed, Pools, PoolsError, Transport};
pub use refusal::{NoLine, Refusal};
pub use trial::{Tried, try_each};

pub(crate) use bulk::MOST_OUT;
use bulk::{Bulk, Pace};
use dial::{Dialler, Means};
use driver::{Driver, EVENTS, Outlets};
use ledger::Ledger;
use memory::Memory;
use session::{LinkState, Session};
use split::{Plan, Split};
use troubles::{Trouble, Troubles};
use upload::{Form, Upload};

use crate::identity::Identity;

/// Calls that wait for the task; it takes them off at once, so that this fills only if the task is starved.
const QUEUE: usize = 256;

#[derive(Debug, Clone)]
pub struct UplinkConfig {
    pub pools: Pools,
    /// The bundle that the agent decides with at first (see [`Uplink::hold`]); a pool that does not answer for it is not
    /// asked.
    pub digest: BundleDigest,
    /// How long one way to a pool may take, handshake and first answer included.
    pub dial_timeout: Duration,
    pub breaker: breaker::Config,
    /// Pays for what goes out more than once; the first time is its caller's.
    pub ledger: Ledger,
}

/// Handle to the lines. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Uplink {
    calls: mpsc::Sender<Call>,
    backlog: mpsc::Sender<Call>,
    link: watch::Receiver<LinkState>,
    troubles: watch::Receiver<Vec<Trouble>>,
    estimate: watch::Receiver<Estimate>,
    live: watch::Receiver<Option<bulk::Live>>,
    events: mpsc::Sender<driver::Event>,
    held: watch::Sender<BundleDigest>,
    counts: Counts,
    split: Arc<Mutex<Split>>,
    diallers: Arc<[Dialler]>,
}

/// What the pool answered for one call.
#[derive(Debug, Clone)]
pub struct Reply {
    pub node: String,
    pub answers: Vec<v1::ExpertAnswer>,
}

#[derive(Debug)]
struct Call {
    request: v1::RunExpertsRequest,
    /// The bundle whose experts are asked.
    digest: BundleDigest,
    form: Form,
    /// On the line, each time that it goes out.
    bytes: u64,
    deadline: Instant,
    reply: oneshot::Sender<Result<Reply, Missing>>,
}

impl Uplink {
    /// Must be called within a tokio runtime. Dials in the background.
    pub fn start(config: UplinkConfig, tasks: &Tasks) -> Result<Self, PoolsError> {
        let UplinkConfig { pools, digest, dial_timeout, breaker, ledger } = config;
        let counts = Counts::default();
        let memory = Memory::open(pools.state_dir.as_deref());
        let certificate = pools.identity.as_ref().map(Identity::changes);
        let (held, holding) = watch::channel(digest);
        let (diallers, quic) = diallers(&pools, Some(holding.clone()), dial_timeout, memory, &counts, tasks)?;
        let now = Instant::now();
        let upgrade = diallers.iter().any(Dialler::can_upgrade);
        let config = session::Config { breaker, upgrade, seed: fastrand::u64(..) };
        let session = Session::new(config, diallers.len(), now);
        let first = session.link(now);

        let (calls, incoming) = mpsc::channel(QUEUE);
        let (backlog, behind) = mpsc::channel(bulk::QUEUE);
        let (link_out, link) = watch::channel(first);
        let (estimate_out, estimate) = watch::channel(Estimate::default());
        let (live_out, live) = watch::channel(None);
        let pace = Pace::new(now);
        let own = None;
        let (events, happened) = mpsc::channel(EVENTS);
        let bulk = Bulk {
            events: events.clone(),
            diallers: diallers.clone(),
            live: live.clone(),
            pace: pace.clone(),
            counts: counts.clone(),
            own,
        };
        tasks.spawn(bulk.run(behind, tasks.token().clone()));
        let all = diallers.clone().into();
        let outlets = Outlets { link: link_out, estimate: estimate_out, live: live_out };
        let counting = counts.clone();
        let named = diallers.iter().map(|dialler| dialler.pool().to_string()).collect();
        let (kept, troubles) = Troubles::new(named, counts.clone());
        Driver::start(
            session,
            diallers,
            quic,
            counting,
            pace,
            ledger,
            kept,
            (events.clone(), happened),
            outlets,
            incoming,
            certificate,
            holding,
            tasks,
        );
        let split = Arc::default();
        Ok(Self {
            calls,
            backlog,
            link,
            troubles,
            estimate,
            live,
            events,
            held,
            counts,
            split,
            diallers: all,
        })
    }

    /// The agent decides with this bundle from now on; a pool that does not answer for it is not asked any more.
    pub fn hold(&self, digest: BundleDigest) {
        self.held.send_if_modified(|held| std::mem::replace(held, digest) != digest);
    }

    /// Whether the pool that is asked now answers calls that name a bundle, as far as is known. Sending one that it does
    /// not answer would cost its bytes.
    pub fn may_hold(&self, digest: BundleDigest) -> bool {
        let live = self.live.borrow().as_ref().map(|live| live.address);
        live.and_then(|address| self.diallers.get(address)).is_none_or(|dialler| dialler.may_hold(digest))
    }

    /// Has the pool that is asked now say again what it holds, once in a while at most.
    pub(crate) fn look_again(&self) {
        if let Some(line) = self.live.borrow().as_ref().map(|live| live.line) {
            // Where there is no room, whoever asks next asks again.
            let _later = self.events.try_send(driver::Event::Doubted { line }).is_err();
        }
    }

    pub fn link(&self) -> LinkState {
        *self.link.borrow()
    }

    /// Follows the state of the lines, for those who have work to send once one is up.
    pub fn subscribe(&self) -> watch::Receiver<LinkState> {
        self.link.clone()
    }

    /// Follows why there is no line, pool by pool.
    pub fn troubles(&self) -> watch::Receiver<Vec<Trouble>> {
        self.troubles.clone()
    }

    /// By pool, which of its lives it was in when it last said so: another one means that it has been started anew.
    pub fn lives(&self) -> Vec<Option<String>> {
        self.diallers.iter().map(Dialler::life).collect()
    }

    /// What a call costs in time right now.
    pub fn estimate(&self) -> Estimate {
        *self.estimate.borrow()
    }

    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Waits for the first dial to end, or for `limit`.
    pub async fn settled(&self, limit: Duration) -> LinkState {
        let mut link = self.link.clone();
        let settled = timeout(limit, link.wait_for(|state| *state != LinkState::Unknown)).await;
        drop(settled);
        self.link()
    }

    /// Sends a call for experts of the bundle `digest` at once; its answer is awaited apart, until a little before the
    /// sample's deadline. A call that could not be answered by then is not sent, nor is one for a bundle that the pool does
    /// not hold. The call's number, the digest and the timeout are filled in here.
    pub fn send(&self, upload: Upload, digest: BundleDigest, deadline: Instant) -> Result<Pending, Missing> {
        self.check_link()?;
        if !self.may_hold(digest) {
            return Err(Missing::Offline);
        }
        let (plan, parts) = self.splitting(|split| split.plan(deadline, &self.estimate(), Instant::now()));
        self.counts.split(&parts);
        match plan {
            Plan::Send { until } => enter(&self.calls, upload, digest, until, Some(&self.split)),
            Plan::TooLate => {
                self.counts.unsendable();
                Err(Missing::Deadline)
            }
        }
    }

    /// A call that nobody is waiting for at the machine: it goes behind live calls, at a rate that they do not notice. Its
    /// answer is as that of [`Uplink::send`]; `Missing::Shed` says that enough of them are out.
    pub fn send_backlog(
        &self,
        upload: Upload,
        digest: BundleDigest,
        deadline: Instant,
    ) -> Result<Pending, Missing> {
        self.check_link()?;
        enter(&self.backlog, upload, digest, deadline, None)
    }

    /// Combining and recording a decision took so long: the pool gets that much less of the next deadline.
    pub fn combined(&self, took: Duration) {
        self.splitting(|split| split.combined(took));
    }

    fn splitting<T>(&self, with: impl FnOnce(&mut Split) -> T) -> T {
        with(&mut self.split.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Cheaper than asking the task, and the common case of an outage.
    fn check_link(&self) -> Result<(), Missing> {
        match self.link() {
            LinkState::Down { .. } | LinkState::Unconfigured => Err(Missing::Offline),
            LinkState::Up | LinkState::Unknown => Ok(()),
        }
    }
}

fn enter(
    queue: &mpsc::Sender<Call>,
    upload: Upload,
    digest: BundleDigest,
    deadline: Instant,
    split: Option<&Arc<Mutex<Split>>>,
) -> Result<Pending, Missing> {
    let (reply, answer) = oneshot::channel();
    let (form, bytes) = (upload.form(), upload.bytes());
    match queue.try_send(Call { request: upload.into_request(), digest, form, bytes, deadline, reply }) {
        Ok(()) => Ok(Pending { answer, deadline, split: split.cloned() }),
        Err(_) => Err(Missing::Shed),
    }
}

/// A call that is out.
#[derive(Debug)]
pub struct Pending {
    answer: oneshot::Receiver<Result<Reply, Missing>>,
    deadline: Instant,
    /// Learns how late this machine's timers are.
    split: Option<Arc<Mutex<Split>>>,
}

impl Pending {
    /// Returns by the deadline, whatever the line does.
    pub async fn reply(self) -> Result<Reply, Missing> {
        let answer = tokio::select! {
            biased;
            answer = self.answer => answer.unwrap_or(Err(Missing::Offline)),
            () = sleep_until(self.deadline.into()) => Err(Missing::Deadline),
        };
        if let (Err(Missing::Deadline), Some(split)) = (&answer, self.split) {
            let late = self.deadline.elapsed();
            split.lock().unwrap_or_else(PoisonError::into_inner).woke(late);
        }
        answer
    }
}

fn diallers(
    pools: &Pools,
    held: Option<watch::Receiver<BundleDigest>>,
    limit: Duration,
    memory: Memory,
    counts: &Counts,
    tasks: &Tasks,
) -> Result<(Vec<Dialler>, Option<quic::Endpoint>), PoolsError> {
    let (urls, proxy) = pools.parsed()?;
    let is_tls = urls.iter().any(|url| url.is_tls);
    let tls = pools.identity.as_ref().filter(|_| is_tls);
    let uses_quic = urls.iter().any(|url| url.transports(pools.transport).contains(&Transport::Quic));
    let quic = tls.filter(|_| uses_quic).and_then(|identity| {
        let endpoint = quic::Endpoint::client(identity.client_config(&[quic::ALPN]), &quic::Tuning::agent());
        let refused = |error| tracing::warn!(%error, "no UDP socket: pools are reached over TCP alone");
        endpoint.map_err(refused).ok()
    });
    let means = Means {
        allowed: pools.transport,
        proxy,
        tls: tls.map(|identity| identity.client_config(&[tcp::ALPN])),
        quic: quic.clone(),
        held,
        limit,
        memory,
        counts: counts.clone(),
        tasks: tasks.clone(),
    };
    Ok((urls.into_iter().map(|url| Dialler::new(url, means.clone())).collect(), quic))
}

fn reply(to: oneshot::Sender<Result<Reply, Missing>>, answer: Result<Reply, Missing>) {
    // The caller may have gone.
    let _gone = to.send(answer).is_err();
}

/// A call of the back-log that was refused for what it is, and not for when it came, is a reply whose only answer names no
/// expert and carries the error.
fn refused(status: &tonic::Status) -> Result<Reply, Missing> {
    // What the pool says has no cause here: this is of the line, whatever code tonic has for it.
    if status.source().is_some() {
        return Err(Missing::Offline);
    }
    match missing(status.code()) {
        Missing::Failed => {
            let error = Some(millgate_shared::wire::stream_error(status));
            let answer = v1::ExpertAnswer { error, ..Default::default() };
            Ok(Reply { node: String::new(), answers: vec![answer] })
        }
        missing => Err(missing),
    }
}

/// Why there is no answer, from a gRPC code.
fn missing(code: Code) -> Missing {
    match code {
        Code::ResourceExhausted => Missing::Shed,
        // What tonic calls its own timer.
        Code::DeadlineExceeded | Code::Cancelled => Missing::Deadline,
        Code::Unavailable => Missing::Offline,
        _ => Missing::Failed,
    }
}

/// What a refusal in band of a live call comes to.
fn refused_in_band(error: &v1::StreamError) -> session::Replied {
    match Code::from_i32(error.code) {
        Code::ResourceExhausted => {
            let retry_after = (error.retry_after_us > 0).then(|| Duration::from_micros(error.retry_after_us));
            session::Replied::Shed { retry_after }
        }
        Code::Unavailable => session::Replied::Unavailable,
        // The pool has left this bundle behind; whether it holds the agent's is asked beside.
        Code::FailedPrecondition => session::Replied::Refused(Missing::Offline),
        code => session::Replied::Refused(missing(code)),
    }
}
