//! The back-log's way to the pool: behind live calls, at a rate that they do not notice.
//!
//! Over TCP it has a connection of its own, dialled when there is something to send, closed when there is not, with its
//! bytes let out piece by piece. Over QUIC it shares the live connection, on streams that give way to those of live calls.

use std::error::Error as _;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use millgate_shared::decision::Missing;
use millgate_shared::proto::v1;
use millgate_shared::wire::framed_len;
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;

use super::carrier::Carrier;
use super::counts::Counts;
use super::dial::Dialler;
use super::driver::Event;
use super::paced::Rate;
use super::pacing::Pacing;
use super::troubles::may_be_of_all;
use super::{Call, Reply, refused, reply};

/// Calls that wait for the task; one more is refused as shed.
pub(super) const QUEUE: usize = 32;
/// Out at a time, and what `spool.parallel` may be at most: enough to keep a long line busy, few enough that none waits long for its turn.
pub(crate) const MOST_OUT: usize = 4;
/// A connection without work is closed after this time.
const IDLE: Duration = Duration::from_secs(10);

/// What carries live calls right now.
#[derive(Debug, Clone)]
pub(super) struct Live {
    pub(super) address: usize,
    pub(super) line: u64,
    pub(super) carrier: Carrier,
}

/// The rate, fed by live calls and by bulk itself. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Pace {
    pacing: Arc<Mutex<Pacing>>,
    rate: Arc<Rate>,
    out: Arc<AtomicUsize>,
}

impl Pace {
    pub(super) fn new(now: Instant) -> Self {
        let pacing = Pacing::new(now);
        let rate = Rate::new(pacing.rate());
        Self { pacing: Arc::new(Mutex::new(pacing)), rate, out: Arc::default() }
    }

    /// A live call spent `network` on the line.
    pub(super) fn live(&self, network: Duration, now: Instant) {
        let is_bulk_out = self.out.load(Ordering::Relaxed) > 0;
        self.change(|pacing| pacing.live(network, is_bulk_out, now));
    }

    fn change(&self, change: impl FnOnce(&mut Pacing)) {
        let mut pacing = self.pacing.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut pacing);
        self.rate.set(pacing.rate());
    }

    fn rate(&self) -> u64 {
        self.pacing.lock().unwrap_or_else(PoisonError::into_inner).rate()
    }
}

/// The task.
#[derive(Debug)]
pub(super) struct Bulk {
    pub(super) diallers: Vec<Dialler>,
    pub(super) live: watch::Receiver<Option<Live>>,
    pub(super) pace: Pace,
    pub(super) counts: Counts,
    /// The driver learns that calls are refused.
    pub(super) events: mpsc::Sender<Event>,
    /// A TCP connection of its own, with the number of the live line it was made beside: when that line is lost so is this
    /// one, whether it knows or not.
    pub(super) own: Option<(u64, Carrier)>,
}

/// One call that is out.
type Out = Pin<Box<dyn Future<Output = Ended> + Send>>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    /// The connection is as good as before.
    Well,
    /// The connection has to be made again.
    ConnectionLost,
}

impl Bulk {
    pub(super) async fn run(mut self, mut calls: mpsc::Receiver<Call>, token: CancellationToken) {
        let mut out: FuturesUnordered<Out> = FuturesUnordered::new();
        // When what has been sent has gone out at the rate.
        let mut clear_at = Instant::now();
        loop {
            let room = out.len() < MOST_OUT;
            tokio::select! {
                biased;
                () = token.cancelled() => return,
                Some(ended) = out.next(), if !out.is_empty() => {
                    if ended == Ended::ConnectionLost {
                        self.own = None;
                    }
                }
                call = async {
                    sleep_until(clear_at.into()).await;
                    calls.recv().await
                }, if room => {
                    let Some(call) = call else { return };
                    let bytes = framed_len(&call.request);
                    let Some(carrier) = self.carrier(call.deadline).await else {
                        self.counts.backlog("offline", self.pace.rate());
                        reply(call.reply, Err(Missing::Offline));
                        continue;
                    };
                    let time = Duration::from_secs_f64(bytes as f64 / self.pace.rate() as f64);
                    clear_at = clear_at.max(Instant::now()) + time;
                    out.push(Box::pin(self.ask(carrier, call, bytes)));
                }
                () = sleep(IDLE), if out.is_empty() && self.own.is_some() => self.own = None,
            }
            self.pace.out.store(out.len(), Ordering::Relaxed);
        }
    }

    /// A connection to the pool that takes live calls.
    async fn carrier(&mut self, deadline: Instant) -> Option<Carrier> {
        let live = self.live.borrow().clone()?;
        if let Some(carrier) = live.carrier.for_bulk() {
            self.own = None;
            return Some(carrier);
        }
        if let Some((line, carrier)) = &self.own
            && *line == live.line
        {
            return Some(carrier.clone());
        }
        let dialler = self.diallers.get(live.address)?;
        match timeout_at(deadline.into(), dialler.bulk(&self.pace.rate)).await {
            Ok(Ok(carrier)) => {
                self.own = Some((live.line, carrier.clone()));
                Some(carrier)
            }
            Ok(Err(error)) => {
                tracing::debug!(pool = %dialler.pool(), %error, "no connection for the back-log");
                None
            }
            Err(_) => None,
        }
    }

    fn ask(&self, carrier: Carrier, call: Call, bytes: u64) -> impl Future<Output = Ended> + Send + 'static {
        let (pace, counts) = (self.pace.clone(), self.counts.clone());
        let (events, line) = (self.events.clone(), self.live.borrow().as_ref().map(|live| live.line));
        let Call { mut request, digest, deadline, reply: to, .. } = call;
        async move {
            let started = Instant::now();
            let left = deadline.saturating_duration_since(started);
            request.call_id = 1;
            request.bundle_digest = digest.as_bytes().to_vec().into();
            request.timeout_us = u64::try_from(left.as_micros()).unwrap_or(u64::MAX);
            let mut request = tonic::Request::new(request);
            request.set_timeout(left);
            let mut client = carrier.experts();
            let answer = timeout_at(deadline.into(), client.run_experts(request)).await;
            let now = Instant::now();
            let (outcome, answer, ended) = match answer {
                Ok(Ok(response)) => {
                    pace.change(|pacing| pacing.passed(bytes, now - started, now));
                    ("answered", Ok(answered(response.into_inner())), Ended::Well)
                }
                Ok(Err(status)) => {
                    pace.change(|pacing| pacing.lost(now));
                    if let Some(line) = line
                        && may_be_of_all(status.code())
                    {
                        // Where there is no room now, the next refusal tells it.
                        let _later = events.try_send(Event::Doubted { line }).is_err();
                    }
                    // One on which the pool does not know the device is made anew too.
                    let is_lost =
                        matches!(status.code(), tonic::Code::Unavailable | tonic::Code::Unauthenticated)
                            || status.source().is_some();
                    let ended = if is_lost { Ended::ConnectionLost } else { Ended::Well };
                    tracing::debug!(code = ?status.code(), message = status.message(), "a call of the back-log failed");
                    ("refused", refused(&status), ended)
                }
                Err(_) => {
                    pace.change(|pacing| pacing.lost(now));
                    ("late", Err(Missing::Deadline), Ended::ConnectionLost)
                }
            };
            counts.backlog(outcome, pace.rate());
            reply(to, answer);
            ended
        }
    }
}

fn answered(response: v1::RunExpertsResponse) -> Reply {
    Reply { node: response.node, answers: response.answers }
}
