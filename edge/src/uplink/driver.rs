//! The task that owns the lines: it does what the session says, and tells it what happens.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use millgate_shared::bundle::BundleDigest;
use millgate_shared::decision::Missing;
use millgate_shared::proto::v1;
use millgate_shared::proto::v1::run_experts_stream_response::Result as InBand;
use millgate_shared::shutdown::Tasks;
use millgate_shared::transport::quic;
use millgate_shared::wire::framed_len;
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;
use tokio::time::{interval, sleep_until};
use tonic::Code;

use super::bulk::{Live, Pace};
use super::carrier::Carrier;
use super::counts::Counts;
use super::dial::Dialler;
use super::estimate::Estimate;
use super::ledger::Ledger;
use super::line::{Line, Reader, Writer};
use super::network::{self, Watch};
use super::refusal::NoLine;
use super::session::{self, Action, LinkState, NewLine, Replied, Session};
use super::troubles::Troubles;
use super::{Call, Reply, refused_in_band, reply};
use crate::identity::changed;

mod background;

/// Events that wait for this task; who brings one more waits too.
pub(super) const EVENTS: usize = 256;
/// The better transport is not better if the pool takes so much longer to answer over it.
const WORSE: f64 = 1.5;
const WORSE_BY: Duration = Duration::from_millis(10);
/// Without anything to do.
const LONG: Duration = Duration::from_secs(3600);

/// What happens beside the driver.
#[derive(Debug)]
pub(super) enum Event {
    Dialled {
        address: usize,
        is_upgrade: bool,
        result: Result<Box<Line>, NoLine>,
    },
    Received {
        line: u64,
        response: v1::RunExpertsStreamResponse,
    },
    Heard {
        line: u64,
    },
    Lost {
        line: u64,
        error: NoLine,
    },
    /// A call of the back-log was refused beside a line: live calls may be refused, too.
    Doubted {
        line: u64,
    },
}

/// A line in use.
#[derive(Debug)]
struct Open {
    address: usize,
    writer: Writer,
    carrier: Carrier,
    reader: AbortHandle,
    /// Whether the pool has said something over this line.
    has_answered: bool,
}

/// A caller and what it asked.
#[derive(Debug)]
struct Waiting {
    call: Call,
    /// Whether the call has gone out, so that each further time is paid for.
    is_out: bool,
}

/// What others see of the driver.
#[derive(Debug)]
pub(super) struct Outlets {
    pub(super) link: watch::Sender<LinkState>,
    pub(super) estimate: watch::Sender<Estimate>,
    pub(super) live: watch::Sender<Option<Live>>,
}

pub(super) struct Driver {
    session: Session,
    diallers: Vec<Dialler>,
    quic: Option<quic::Endpoint>,
    counts: Counts,
    pace: Pace,
    ledger: Ledger,
    outlets: Outlets,
    tasks: Tasks,
    lines: HashMap<u64, Open>,
    next_line: u64,
    waiting: HashMap<u64, Waiting>,
    /// By address, the oldest first.
    rounds: Vec<VecDeque<(Instant, AbortHandle)>>,
    troubles: Troubles,
    counted: session::Counts,
    events: mpsc::Sender<Event>,
}

impl Driver {
    #[expect(clippy::too_many_arguments, reason = "called once; each is a part of the uplink")]
    pub(super) fn start(
        session: Session,
        diallers: Vec<Dialler>,
        quic: Option<quic::Endpoint>,
        counts: Counts,
        pace: Pace,
        ledger: Ledger,
        troubles: Troubles,
        (events, incoming): (mpsc::Sender<Event>, mpsc::Receiver<Event>),
        outlets: Outlets,
        calls: mpsc::Receiver<Call>,
        certificate: Option<watch::Receiver<u64>>,
        held: watch::Receiver<BundleDigest>,
        tasks: &Tasks,
    ) {
        let driver = Self {
            session,
            quic,
            counts,
            pace,
            ledger,
            outlets,
            tasks: tasks.clone(),
            lines: HashMap::new(),
            next_line: 1,
            waiting: HashMap::new(),
            rounds: diallers.iter().map(|_| VecDeque::new()).collect(),
            troubles,
            diallers,
            counted: session::Counts::default(),
            events,
        };
        tasks.spawn(driver.run(calls, incoming, certificate, held));
    }

    async fn run(
        mut self,
        mut calls: mpsc::Receiver<Call>,
        mut incoming: mpsc::Receiver<Event>,
        mut certificate: Option<watch::Receiver<u64>>,
        mut held: watch::Receiver<BundleDigest>,
    ) {
        let token = self.tasks.token().clone();
        let mut look = interval(network::PERIOD);
        let mut network = Watch::default();
        loop {
            self.session.tick(Instant::now());
            self.act();
            self.publish();
            let wake = self.session.next_event(Instant::now()).unwrap_or_else(|| Instant::now() + LONG);
            tokio::select! {
                biased;
                () = token.cancelled() => break,
                Some(event) = incoming.recv() => self.happened(event),
                call = calls.recv() => match call {
                    Some(call) => self.call(call),
                    None => break,
                },
                _ = look.tick() => self.look(&mut network),
                () = changed(&mut certificate) => self.certificate_changed(),
                Ok(()) = held.changed() => self.bundle_changed(),
                () = sleep_until(wake.into()) => {}
            }
        }
        self.end();
    }

    fn call(&mut self, call: Call) {
        let now = Instant::now();
        match self.session.admit(call.deadline, now) {
            Ok(id) => {
                self.waiting.insert(id, Waiting { call, is_out: false });
            }
            Err(reason) => reply(call.reply, Err(reason)),
        }
    }

    fn happened(&mut self, event: Event) {
        let now = Instant::now();
        match event {
            Event::Dialled { address, is_upgrade, result: Ok(line) } => {
                self.dialled(address, is_upgrade, *line, now);
            }
            Event::Dialled { is_upgrade: true, result: Err(error), address } => {
                tracing::debug!(pool = %self.diallers[address].pool(), %error, "the better transport does not work yet");
            }
            Event::Dialled { address, result: Err(error), .. } => {
                self.troubles.failed(address, error, now);
                self.session.dial_failed(address, now);
            }
            Event::Received { line, response } => self.received(line, response, now),
            Event::Heard { line } => {
                if let Some(open) = self.lines.get_mut(&line) {
                    open.has_answered = true;
                    self.troubles.works(open.address);
                }
                self.session.heard(line, now);
            }
            Event::Doubted { line } => {
                if let Some(open) = self.lines.get(&line)
                    && self.troubles.is_to_be_proven(open.address, now)
                {
                    self.prove(open.address, line, open.carrier.clone(), true);
                }
            }
            Event::Lost { line, error } => {
                if let Some(open) = self.lines.remove(&line) {
                    self.doubt(&open);
                    let dialler = &self.diallers[open.address];
                    let pool = dialler.pool();
                    tracing::debug!(%pool, transport = open.carrier.transport().as_str(), %error, "a line is lost");
                    self.counts.line_lost(&pool.to_string());
                    if error.refusal.is_some() {
                        // The next line has to prove itself.
                        dialler.knows(None);
                    }
                    open.reader.abort();
                    self.troubles.failed(open.address, error, now);
                    self.session.lost(line, now);
                }
            }
        }
    }

    fn dialled(&mut self, address: usize, is_upgrade: bool, line: Line, now: Instant) {
        let dialler = &self.diallers[address];
        let (pool, transport) = (dialler.pool().to_string(), line.carrier.transport());
        let usual = self.session.network_of(address);
        if is_upgrade && usual.is_some_and(|usual| line.known.answered_in > usual.mul_f64(WORSE) + WORSE_BY) {
            tracing::debug!(
                pool,
                transport = transport.as_str(),
                "the other transport works, but is no better"
            );
            return;
        }
        if !is_upgrade {
            self.rounds[address].drain(..).for_each(|(_, round)| round.abort());
        }
        let is_best = dialler.best() == Some(transport);
        if dialler.memory().is_news(&pool, transport) {
            let (memory, pool) = (dialler.memory().clone(), pool.clone());
            // Writes a small file.
            self.tasks.spawn(async move {
                if tokio::task::spawn_blocking(move || memory.won(&pool, transport)).await.is_err() {
                    tracing::debug!("which transport worked is not remembered");
                }
            });
        }
        tracing::info!(
            pool,
            node = line.known.listed.node,
            transport = transport.as_str(),
            "the pool answers"
        );
        let id = self.next_line;
        self.next_line += 1;
        let Line { writer, reader, carrier, known, is_proven } = line;
        let answered_in = known.answered_in;
        if is_proven {
            dialler.knows(Some(known));
            self.troubles.works(address);
        } else {
            self.prove(address, id, carrier.clone(), false);
        }
        let reader = self.tasks.spawn(read(id, reader, self.events.clone())).abort_handle();
        self.lines.insert(id, Open { address, writer, carrier, reader, has_answered: is_proven });
        self.session.dialled(address, NewLine { line: id, is_best, answered_in }, now);
    }

    fn received(&mut self, line: u64, response: v1::RunExpertsStreamResponse, now: Instant) {
        let Some(open) = self.lines.get_mut(&line) else { return };
        open.has_answered = true;
        let address = open.address;
        let pool = self.diallers[address].pool().to_string();
        self.counts.received(&pool, open.carrier.transport(), framed_len(&response));
        let attempt = response.call_id;
        let (replied, answer) = match response.result {
            Some(InBand::Response(response)) => {
                let times = response.answers.iter().map(|answer| answer.queue_us + answer.compute_us);
                let pool = Duration::from_micros(times.max().unwrap_or(0));
                let answer = Reply { node: response.node, answers: response.answers };
                (Replied::Answer { pool }, Some(answer))
            }
            Some(InBand::Error(error)) => {
                let carrier = open.carrier.clone();
                let is_current = self.session.line_of(address) == Some(line);
                if error.code == Code::Unauthenticated as i32 && is_current {
                    self.diallers[address].knows(None);
                    self.session.outdated(address, now);
                }
                if self.troubles.call_refused(address, &error, now) && is_current {
                    self.prove(address, line, carrier, true);
                }
                (refused_in_band(&error), None)
            }
            None => (Replied::Refused(Missing::Failed), None),
        };
        let sent = self.session.sent_at(attempt);
        let answered = self.session.replied(line, attempt, replied, now);
        if let (Some(call), Some(answer)) = (answered, answer) {
            if let (Some(sent), Replied::Answer { pool: computing }) = (sent, replied) {
                let took = now.saturating_duration_since(sent);
                self.counts.took(&pool, took);
                self.pace.live(took.saturating_sub(computing), now);
            }
            if let Some(waiting) = self.waiting.remove(&call) {
                reply(waiting.call.reply, Ok(answer));
            }
        }
    }

    fn certificate_changed(&mut self) {
        for (address, dialler) in self.diallers.iter().enumerate().filter(|(_, it)| it.pool().is_tls) {
            // The next line has to prove itself.
            dialler.knows(None);
            self.session.certificate_changed(address, Instant::now());
        }
    }

    /// The agent decides with another bundle: each pool has to say that it answers for that one, too.
    fn bundle_changed(&mut self) {
        for address in 0..self.diallers.len() {
            match self.session.line_of(address).and_then(|line| Some((line, self.lines.get(&line)?))) {
                Some((line, open)) => self.prove(address, line, open.carrier.clone(), true),
                None => {
                    // What was refused for its bundle may be accepted now.
                    self.diallers[address].knows(None);
                    self.session.dial_now(address, Instant::now());
                }
            }
        }
    }

    /// Everything that the session wants done.
    fn act(&mut self) {
        while let Some(action) = self.session.poll_action() {
            match action {
                Action::Dial { address } => self.dial(address),
                Action::Upgrade { address } => {
                    if let Some(best) = self.diallers[address].best() {
                        let round = self.round(address, Some(best));
                        drop(round);
                    }
                }
                Action::Ping { line } => self.ping(line),
                Action::Send { line, attempt, call } => self.send(line, attempt, call),
                Action::Fail { call, reason } => {
                    if let Some(waiting) = self.waiting.remove(&call) {
                        reply(waiting.call.reply, Err(reason));
                    }
                }
                Action::Close { line, reason } => {
                    if let Some(open) = self.lines.remove(&line) {
                        self.doubt(&open);
                        let pool = self.diallers[open.address].pool();
                        tracing::debug!(%pool, reason, "a line is closed");
                        open.reader.abort();
                        // One that another has taken over from is no trouble.
                        if self.session.line_of(open.address).is_none() {
                            self.troubles.failed(open.address, reason.into(), Instant::now());
                        }
                    }
                }
            }
        }
    }

    fn send(&mut self, line: u64, attempt: u64, call: u64) {
        let Some(Waiting { call, is_out }) = self.waiting.get_mut(&call) else { return };
        if *is_out && self.ledger.take_again(call.form, call.bytes).is_err() {
            return self.session.withheld(attempt);
        }
        let now = Instant::now();
        let sent = self.lines.get_mut(&line).is_some_and(|open| {
            let mut request = call.request.clone();
            request.call_id = attempt;
            // What is left for the pool once the line has had its share.
            let network = self.session.network_of(open.address).unwrap_or_default();
            let left = call.deadline.saturating_duration_since(now + network);
            request.timeout_us = u64::try_from(left.as_micros()).unwrap_or(u64::MAX).max(1);
            let bytes = framed_len(&request);
            let sent = open.writer.send(request, call.digest);
            if sent {
                let pool = self.diallers[open.address].pool().to_string();
                self.counts.sent(&pool, open.carrier.transport(), bytes);
            }
            sent
        });
        *is_out |= sent;
        if !sent {
            self.session.unsent(attempt, now);
        }
    }

    /// A line on which nothing was ever heard: the next one waits for the pool's first answer again.
    fn doubt(&self, open: &Open) {
        if !open.has_answered {
            self.diallers[open.address].knows(None);
        }
    }

    /// Has the device another address?
    fn look(&mut self, network: &mut Watch) {
        let own: Vec<Option<IpAddr>> =
            self.diallers.iter().map(|dialler| dialler.peer().and_then(network::own_address)).collect();
        if !network.look(own) {
            return;
        }
        tracing::info!("the network has changed; looking at the lines");
        if let Some(quic) = &self.quic
            && let Err(error) = quic.rebind()
        {
            tracing::debug!(%error, "no new UDP socket");
        }
        self.session.network_changed(Instant::now());
    }

    fn publish(&mut self) {
        let now = Instant::now();
        let link = self.session.link(now);
        let before = *self.outlets.link.borrow();
        if link != before {
            if matches!(link, LinkState::Down { .. }) && !matches!(before, LinkState::Down { .. }) {
                tracing::warn!(reason = self.troubles.text(), "no line to a pool; deciding alone");
            }
            self.outlets.link.send_replace(link);
        }
        let estimate = self.session.estimate();
        self.outlets.estimate.send_if_modified(|old| {
            let is_new = *old != estimate;
            *old = estimate;
            is_new
        });
        let line = self.session.live_line(now);
        if self.outlets.live.borrow().as_ref().map(|live| live.line) != line {
            let live = line.and_then(|line| {
                let open = self.lines.get(&line)?;
                Some(Live { address: open.address, line, carrier: open.carrier.clone() })
            });
            self.outlets.live.send_replace(live);
            for (address, dialler) in self.diallers.iter().enumerate() {
                let open = self.session.line_of(address).and_then(|line| self.lines.get(&line));
                let transport = open.map(|open| open.carrier.transport());
                self.counts.carries(&dialler.pool().to_string(), transport);
            }
        }
        let counts = self.session.counts();
        if counts != self.counted {
            self.counts.session(self.counted, counts);
            self.counted = counts;
        }
    }

    /// Nobody will answer any more.
    fn end(&mut self) {
        self.rounds.iter_mut().flat_map(|rounds| rounds.drain(..)).for_each(|(_, round)| round.abort());
        self.lines.drain().for_each(|(_, open)| open.reader.abort());
        self.outlets.live.send_replace(None);
        self.waiting.drain().for_each(|(_, waiting)| reply(waiting.call.reply, Err(Missing::Offline)));
        if let Some(quic) = &self.quic {
            quic.close();
        }
    }
}

async fn read(line: u64, mut reader: Reader, events: mpsc::Sender<Event>) {
    loop {
        let event = match reader.next().await {
            Ok(response) => Event::Received { line, response },
            Err(error) => Event::Lost { line, error },
        };
        let is_last = matches!(event, Event::Lost { .. });
        if events.send(event).await.is_err() || is_last {
            return;
        }
    }
}
