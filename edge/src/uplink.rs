//! The agent's connection to the pool: one bidirectional gRPC stream that carries all calls.
//!
//! [`Pending::reply`] always returns by its deadline. One task owns the line: it dials in the background, matches answers to
//! calls, gives up a line that only lets deadlines pass, and dials again. The thinking is in [`session`].

use std::collections::HashMap;
use std::time::{Duration, Instant};

use millgate_shared::breaker;
use millgate_shared::bundle::BundleDigest;
use millgate_shared::decision::Missing;
use millgate_shared::proto::v1;
use millgate_shared::shutdown::Tasks;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{sleep_until, timeout};

pub mod estimate;
pub mod line;
pub mod session;

pub use estimate::Estimate;
use line::Line;
use session::{Admission, LinkState, Session};

/// Calls that wait for the task; it takes them off at once, so that this fills only if the task is starved.
const QUEUE: usize = 256;

/// The longest pause between dials. A dial costs one handshake and no sample waits for it, so that a line that is back
/// can be used within about a second however long it was gone.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Is this an address that can be dialled at all?
pub fn check_url(url: &str) -> Result<(), String> {
    line::endpoint(url).map(|_| ())
}

#[derive(Debug, Clone)]
pub struct UplinkConfig {
    /// `http://host:port`.
    pub url: String,
    /// Digest of the bundle that the agent holds; a pool with another one is not asked.
    pub digest: BundleDigest,
    /// How long one dial may take, handshake and first answer included.
    pub dial_timeout: Duration,
    pub breaker: breaker::Config,
}

/// Handle to the line. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Uplink {
    calls: mpsc::Sender<Call>,
    link: watch::Receiver<LinkState>,
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
    deadline: Instant,
    reply: oneshot::Sender<Result<Reply, Missing>>,
}

impl Uplink {
    pub fn start(config: UplinkConfig, tasks: &Tasks) -> Self {
        let (calls, receiver) = mpsc::channel(QUEUE);
        let (state, link) = watch::channel(LinkState::Unknown);
        let longest_pause = config.breaker.longest_pause.min(LONGEST_PAUSE);
        let task = Task {
            session: Session::new(breaker::Config { longest_pause, ..config.breaker }),
            config,
            waiting: HashMap::new(),
            held: HashMap::new(),
            line: None,
            state,
        };
        let token = tasks.token().clone();
        tasks.spawn(async move { task.run(receiver, token).await });
        Self { calls, link }
    }

    pub fn link(&self) -> LinkState {
        *self.link.borrow()
    }

    /// Follows the state of the line, for those who have work to send once it is up.
    pub fn subscribe(&self) -> watch::Receiver<LinkState> {
        self.link.clone()
    }

    /// What a call costs in time right now.
    pub fn estimate(&self) -> Estimate {
        Estimate::default()
    }

    /// Waits for the first dial to end, or for `limit`.
    pub async fn settled(&self, limit: Duration) -> LinkState {
        let mut link = self.link.clone();
        let settled = timeout(limit, link.wait_for(|state| *state != LinkState::Unknown)).await;
        drop(settled);
        self.link()
    }

    /// Sends a call at once; its answer is awaited apart. `request.call_id` and the digest are filled in here.
    pub fn send(&self, request: v1::RunExpertsRequest, deadline: Instant) -> Result<Pending, Missing> {
        // Cheaper than asking the task, and the common case of an outage.
        if matches!(self.link(), LinkState::Down { .. }) {
            return Err(Missing::Offline);
        }
        let (reply, answer) = oneshot::channel();
        let call = Call { request, deadline, reply };
        match self.calls.try_send(call) {
            Ok(()) => Ok(Pending { answer, deadline }),
            Err(_) => Err(Missing::Shed),
        }
    }
}

impl Uplink {
    /// A call that nobody is waiting for at the machine: it goes behind live calls, on a connection of its own. Its answer
    /// is as that of [`Uplink::send`]; `Missing::Shed` says that enough of them are out.
    pub fn send_backlog(
        &self,
        request: v1::RunExpertsRequest,
        deadline: Instant,
    ) -> Result<Pending, Missing> {
        self.send(request, deadline)
    }
}

/// A call that is out.
#[derive(Debug)]
pub struct Pending {
    answer: oneshot::Receiver<Result<Reply, Missing>>,
    deadline: Instant,
}

impl Pending {
    /// Returns by the deadline, whatever the line does.
    pub async fn reply(self) -> Result<Reply, Missing> {
        tokio::select! {
            answer = self.answer => answer.unwrap_or(Err(Missing::Offline)),
            () = sleep_until(self.deadline.into()) => Err(Missing::Deadline),
        }
    }
}

/// The task that owns the line.
struct Task {
    config: UplinkConfig,
    session: Session,
    /// Callers, by call.
    waiting: HashMap<u64, oneshot::Sender<Result<Reply, Missing>>>,
    /// Requests that wait for the first dial.
    held: HashMap<u64, v1::RunExpertsRequest>,
    line: Option<Line>,
    state: watch::Sender<LinkState>,
}

impl Task {
    async fn run(mut self, mut calls: mpsc::Receiver<Call>, token: tokio_util::sync::CancellationToken) {
        let mut dialling: Option<tokio::task::JoinHandle<_>> = None;
        loop {
            let now = Instant::now();
            if dialling.is_none() && self.session.may_dial(now) {
                let config = self.config.clone();
                // Ends with its own timeout, and is aborted below.
                #[expect(
                    clippy::disallowed_methods,
                    reason = "owned and awaited by this task, which is tracked"
                )]
                let dial = tokio::spawn(async move {
                    timeout(config.dial_timeout, Line::dial(&config)).await.unwrap_or_else(|_| {
                        Err(format!("no answer within {} ms", config.dial_timeout.as_millis()))
                    })
                });
                dialling = Some(dial);
            }
            let wake = self.session.next_event().unwrap_or(now + Duration::from_secs(3600));
            tokio::select! {
                biased;
                () = token.cancelled() => break,
                dialled = async { dialling.as_mut().expect("guarded").await }, if dialling.is_some() => {
                    dialling = None;
                    self.dialled(dialled.unwrap_or_else(|error| Err(error.to_string())));
                }
                received = async { self.line.as_mut().expect("guarded").receive().await }, if self.line.is_some() => {
                    self.received(received);
                }
                call = calls.recv() => match call {
                    Some(call) => self.call(call),
                    None => break,
                },
                () = sleep_until(wake.into()), if dialling.is_none() || wake > now => self.expire(),
            }
            self.state.send_if_modified(|state| {
                let changed = *state != self.session.link();
                *state = self.session.link();
                changed
            });
        }
        if let Some(dial) = dialling {
            dial.abort();
        }
        self.drop_line();
    }

    fn dialled(&mut self, line: Result<Line, String>) {
        match line {
            Ok(line) => {
                tracing::info!(url = self.config.url, node = line.node(), "the pool answers");
                self.line = Some(line);
                for id in self.session.dialled() {
                    if let Some(request) = self.held.remove(&id) {
                        self.send(id, request);
                    }
                }
            }
            Err(error) => self.give_up(&error),
        }
    }

    fn received(&mut self, received: Result<v1::RunExpertsStreamResponse, String>) {
        let response = match received {
            Ok(response) => response,
            Err(error) => return self.give_up(&error),
        };
        if !self.session.answered(response.call_id) {
            return;
        }
        let answer = match response.result {
            Some(v1::run_experts_stream_response::Result::Response(response)) => {
                Ok(Reply { node: response.node, answers: response.answers })
            }
            Some(v1::run_experts_stream_response::Result::Error(error)) => {
                tracing::warn!(code = error.code, message = error.message, "the pool refused a call");
                Err(missing(error.code))
            }
            None => Err(Missing::Failed),
        };
        self.answer(response.call_id, answer);
    }

    fn call(&mut self, call: Call) {
        match self.session.admit(call.deadline) {
            Admission::Send(id) => {
                self.waiting.insert(id, call.reply);
                self.send(id, call.request);
            }
            Admission::Queue(id) => {
                self.waiting.insert(id, call.reply);
                self.held.insert(id, call.request);
            }
            Admission::Offline => reply(call.reply, Err(Missing::Offline)),
            Admission::Shed => reply(call.reply, Err(Missing::Shed)),
        }
    }

    fn send(&mut self, id: u64, mut request: v1::RunExpertsRequest) {
        request.call_id = id;
        let sent = self.line.as_mut().is_some_and(|line| line.send(request));
        if !sent {
            // The line takes nothing off its queue: as good as full.
            self.session.cancelled(id);
            self.answer(id, Err(Missing::Shed));
        }
    }

    fn expire(&mut self) {
        let (expired, give_up) = self.session.expire(Instant::now());
        for id in expired {
            self.held.remove(&id);
            self.answer(id, Err(Missing::Deadline));
        }
        if give_up {
            self.give_up("deadlines pass without an answer");
        }
    }

    fn give_up(&mut self, reason: &str) {
        if !matches!(self.session.link(), LinkState::Down { .. }) {
            tracing::warn!(url = self.config.url, reason, "no line to the pool; deciding alone");
        }
        self.drop_line();
    }

    /// Every call that is out is answered: nobody will.
    fn drop_line(&mut self) {
        self.line = None;
        self.held.clear();
        for id in self.session.lost(Instant::now()) {
            self.answer(id, Err(Missing::Offline));
        }
    }

    fn answer(&mut self, id: u64, answer: Result<Reply, Missing>) {
        if let Some(waiting) = self.waiting.remove(&id) {
            reply(waiting, answer);
        }
    }
}

fn reply(to: oneshot::Sender<Result<Reply, Missing>>, answer: Result<Reply, Missing>) {
    // The caller may have gone.
    let _gone = to.send(answer).is_err();
}

/// Why there is no answer, from a gRPC code.
fn missing(code: i32) -> Missing {
    match tonic::Code::from_i32(code) {
        tonic::Code::ResourceExhausted => Missing::Shed,
        // What tonic calls its own timer.
        tonic::Code::DeadlineExceeded | tonic::Code::Cancelled => Missing::Deadline,
        tonic::Code::Unavailable => Missing::Offline,
        _ => Missing::Failed,
    }
}
