//! The back-log: once the line is up, entries are asked of the pool in order, behind live samples, as fast as line and
//! pool bear it, and their decisions amended.
//!
//! | the pool says | then |
//! | --- | --- |
//! | an answer | amended: one more record, to every sink |
//! | unreachable, full, too late | again after a pause, or once the line is back, for as long as it may be kept |
//! | NOT_FOUND, FAILED_PRECONDITION, PERMISSION_DENIED | it waits for a pool that has the expert and the bundle |
//! | INVALID_ARGUMENT | closed: no pool will ever answer it |
//! | any other failure | again, twelve times in all; then closed, amended with what did answer |
//! | nothing, and comes back in another life | again, with nothing else out; the third time so it is set aside (`blame`) |
//!
//! Where the byte budget has no room for an entry, or the line is metered, all wait until that is otherwise.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use millgate_shared::decision::{Decision, Late};
use millgate_shared::shutdown::Tasks;
use millgate_shared::wire::framed_len;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::agent::{Agent, LateAnswers, Left, Rules};
use crate::audit::Audits;
use crate::backoff::Backoff;
use crate::crash::law::Item;
use crate::crash::{Gate, Hand};
use crate::epochs::Epochs;
use crate::metrics::Metrics;
use crate::outbox::Outbox;
use crate::sink::Record;
use crate::spool::{Again, Closed, Millis, Spool, Work};
use crate::uplink::ledger::Traffic;
use crate::uplink::session::LinkState;
use blame::{Blame, Ended};
use pace::{End, Pace};
use partial::Partial;

pub(crate) mod blame;
mod pace;
mod partial;

/// An entry that failed so often is closed.
pub(crate) const MOST_TRIES: u32 = 12;
/// For one entry, and more for its bytes: a slow line must not keep a large one here for ever.
const DEADLINE: Duration = Duration::from_secs(30);
/// Bytes a second that even a bad line has.
const SLOWEST: u64 = 8 << 10;
/// Amended records that are on their way to the sinks; sinks that stand still stop the back-log.
const DELIVERING: usize = 32;
/// How often the line is looked at when nothing happens.
const LOOK: Duration = Duration::from_millis(250);
const TICK: Duration = Duration::from_secs(1);
/// Pauses of an entry that fails.
const PAUSES: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(600));
/// For an expert or a bundle that the pool does not have.
const NOT_HERE_PAUSE: Duration = Duration::from_secs(60);
/// Without room in the byte budget one entry tries its luck so often.
const NO_ROOM_PAUSE: Duration = Duration::from_secs(60);

#[derive(Clone)]
pub(crate) struct Backlog {
    pub(crate) audits: Audits,
    pub(crate) agent: Agent,
    pub(crate) epochs: Epochs,
    pub(crate) spool: Spool,
    pub(crate) outbox: Outbox,
    pub(crate) hand: Hand,
    pub(crate) metrics: Arc<Metrics>,
    /// Amended records are committed and delivered on these.
    pub(crate) work: Tasks,
}

type Asking = Pin<Box<dyn Future<Output = Asked> + Send>>;

struct Asked {
    work: Work,
    /// Rules of the bundle that the entry was made with; `None` where nothing is known of it here.
    rules: Option<Arc<Rules>>,
    late: LateAnswers,
    took: Duration,
    room: OwnedSemaphorePermit,
    /// Nothing of it went out this time.
    stayed_here: bool,
}

/// The loop's own.
struct Run {
    began: Instant,
    pace: Pace,
    asking: FuturesUnordered<Asking>,
    partial: Partial,
    blame: Blame,
    /// Amended records on their way.
    room: Arc<Semaphore>,
    /// So many bytes found no room in the budget; until when at the most that is believed.
    short_of: Option<(u64, Instant)>,
    /// All live calls that there were at the last look.
    live_calls: u64,
}

impl Run {
    fn now(&self) -> Millis {
        self.began.elapsed().as_millis() as Millis
    }

    /// Takes note of live calls, of those too that came and went between two looks.
    fn see_live_calls(&mut self, agent: &Agent) {
        let (out, ever) = agent.live_calls();
        if out > 0 || ever != self.live_calls {
            self.pace.live(self.now());
        }
        self.live_calls = ever;
    }

    fn is_short(&mut self, agent: &Agent) -> bool {
        let is_short = |(bytes, until): &(u64, Instant)| {
            Instant::now() < *until && !agent.ledger().has_room(Traffic::Backlog, *bytes)
        };
        self.short_of = self.short_of.filter(is_short);
        self.short_of.is_some()
    }

    /// One came back.
    fn ended(&mut self, asked: &Asked) {
        let end = match &asked.late.left {
            Some(Left::Trouble) => End::Trouble,
            _ if asked.stayed_here => End::StayedHere,
            _ => End::Answered,
        };
        self.pace.ended(end, asked.took.as_millis() as Millis, self.now());
        let how = match (&asked.late.left, asked.late.broke) {
            (Some(Left::Trouble), true) => Ended::Broke,
            (Some(Left::Trouble), false) => Ended::Stayed,
            _ if asked.stayed_here => Ended::Stayed,
            _ => Ended::Answered,
        };
        self.blame.ended(asked.work.seq, how);
        if let Some(Left::NoRoom(bytes)) = asked.late.left {
            self.short_of = Some((bytes, Instant::now() + NO_ROOM_PAUSE));
        }
    }
}

impl Backlog {
    /// Until `stop`; what is being asked then is asked again after the next start.
    pub(crate) async fn run(self, parallel: usize, stop: CancellationToken) {
        let began = Instant::now();
        let mut run = Run {
            began,
            pace: Pace::new(parallel),
            asking: FuturesUnordered::new(),
            partial: Partial::default(),
            blame: Blame::default(),
            room: Arc::new(Semaphore::new(DELIVERING)),
            short_of: None,
            live_calls: 0,
        };
        let mut link = self.agent.link_changes();
        let mut was_up = false;
        let mut ticked = began;
        loop {
            // Also a line that was lost and came back between two looks is a new one.
            let is_new = link.as_mut().is_some_and(|link| link.has_changed().unwrap_or(false));
            if let Some(link) = &mut link {
                link.mark_unchanged();
            }
            let is_up = self.agent.link() == LinkState::Up;
            if is_up && (!was_up || is_new) {
                self.spool.wake().await;
                run.pace.reset();
            }
            was_up = is_up;
            run.see_live_calls(&self.agent);
            if ticked.elapsed() >= TICK {
                ticked = Instant::now();
                self.spool.tick().await;
            }
            run.blame.look(&self.agent.lives());
            let wait = if is_up { self.fill(&mut run).await } else { LOOK };
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                Some(asked) = run.asking.next() => {
                    run.see_live_calls(&self.agent);
                    run.ended(&asked);
                    self.settle(asked, &mut run).await;
                }
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Sends what may be sent; gives how long to wait for more.
    async fn fill(&self, run: &mut Run) -> Duration {
        loop {
            let now = run.now();
            if let Err(until) = run.pace.may_send(now) {
                let until = until.map(|until| Duration::from_millis((until - now).max(1) as u64));
                return until.unwrap_or(LOOK).min(LOOK);
            }
            if run.is_short(&self.agent) {
                return LOOK;
            }
            if run.blame.has_suspect_out() {
                return LOOK;
            }
            let Ok(permit) = Arc::clone(&run.room).try_acquire_owned() else { return LOOK };
            let Some(work) = self.spool.take().await else { return LOOK };
            if run.blame.is_guilty(work.seq) {
                self.set_aside(work, permit, run).await;
                continue;
            }
            if run.blame.is_suspect(work.seq) && !run.asking.is_empty() {
                self.spool.retry(work.seq, PAUSES.first, Again::NotHere).await;
                return LOOK;
            }
            run.pace.sent();
            run.blame.sent(work.seq, self.agent.lives());
            let before = run.partial.take(work.seq);
            run.asking.push(Box::pin(ask(self.agent.clone(), self.epochs.clone(), work, before, permit)));
        }
    }

    /// A pool has died over it too often. What others have answered of it is not lost.
    async fn set_aside(&self, work: Work, room: OwnedSemaphorePermit, run: &mut Run) {
        let (seq, id, deaths) = (work.seq, work.entry.head.id.clone(), run.blame.deaths(work.seq));
        tracing::error!(id, deaths, "a pool died each time that it was asked this; it is set aside");
        run.blame.forget(seq);
        let late = run.partial.take(seq);
        let rules = self.epochs.rules(work.entry.head.digest).await.ok();
        let amended = match rules.filter(|_| !late.answers.is_empty()) {
            Some(rules) => self.amend(&rules, work, late).ok(),
            None => None,
        };
        match amended {
            None => self.spool.close(seq, Closed::Crashed).await,
            Some((decision, record)) => self.commit(seq, decision, record, room, Closed::Crashed),
        }
    }

    /// Waits for no disk: what is to be committed is, apart from this.
    async fn settle(&self, asked: Asked, run: &mut Run) {
        let Asked { work, rules, late, room, .. } = asked;
        let (seq, id, tries) = (work.seq, work.entry.head.id.clone(), work.tries);
        let is_last = match &late.left {
            None | Some(Left::Never(_)) => true,
            Some(Left::Failed) => tries + 1 >= MOST_TRIES,
            Some(Left::Trouble | Left::NoRoom(_) | Left::NotHere(_) | Left::Withheld(_)) => false,
        };
        if !is_last {
            run.partial.keep(seq, &late);
            return self.again(seq, tries, late.left.as_ref()).await;
        }
        if let Some(left) = &late.left {
            tracing::warn!(
                id,
                ?left,
                answered = late.answers.len(),
                "the pool will not answer all that a decision lacks"
            );
        }
        let Some(rules) = rules.filter(|_| !late.answers.is_empty()) else {
            return self.refuse(seq, &id).await;
        };
        match self.amend(&rules, work, late) {
            Ok((decision, record)) => self.commit(seq, decision, record, room, Closed::Amended),
            Err(error) => {
                tracing::error!(id, error, "a decision cannot be amended");
                self.refuse(seq, &id).await;
            }
        }
    }

    /// In hand while it is computed.
    fn amend(&self, rules: &Rules, work: Work, late: LateAnswers) -> Result<(Decision, Record), String> {
        match self.hand.entry(&work.entry.head.id) {
            Gate::Open(_in_hand) => amend(rules, work, late),
            Gate::Aside { .. } => Err("the agent died over it".to_owned()),
        }
    }

    fn commit(&self, seq: u64, decision: Decision, record: Record, room: OwnedSemaphorePermit, why: Closed) {
        let this = self.clone();
        self.work.spawn(async move {
            this.amended(seq, &decision, record, why).await;
            // Lived through, should it have been a suspect.
            let (hand, item) = (this.hand.clone(), Item::Entry { id: decision.id });
            if tokio::task::spawn_blocking(move || hand.acquit(&item)).await.is_err() {
                tracing::error!("the list of suspects cannot be written");
            }
            drop(room);
        });
    }

    /// Committed, closed, delivered.
    async fn amended(&self, seq: u64, decision: &Decision, record: Record, why: Closed) {
        match self.outbox.amended(record).await {
            Ok(delivery) => {
                self.metrics.amended(decision);
                self.audits.labels().amended(decision);
                self.spool.close(seq, why).await;
                delivery.await;
            }
            // The journal has stopped, and so does the agent; or no disk takes it at the moment.
            Err(_) => self.spool.retry(seq, PAUSES.longest, Again::NotHere).await,
        }
    }

    async fn again(&self, seq: u64, tries: u32, left: Option<&Left>) {
        let (pause, why) = match left {
            Some(Left::NotHere(message)) => {
                tracing::debug!(seq, message, "the pool cannot amend a decision at the moment");
                (NOT_HERE_PAUSE, Again::NotHere)
            }
            Some(Left::Withheld(message)) => {
                tracing::debug!(seq, message, "a waiting request may not be sent");
                (PAUSES.longest, Again::NotHere)
            }
            Some(Left::Failed) => (PAUSES.of(tries + 1), Again::Failed),
            _ => (PAUSES.first, Again::Trouble),
        };
        self.spool.retry(seq, pause, why).await;
    }

    async fn refuse(&self, seq: u64, id: &str) {
        tracing::warn!(id, "a decision stays provisional");
        self.spool.close(seq, Closed::Refused).await;
    }
}

/// `before` is what earlier attempts have brought.
async fn ask(
    agent: Agent,
    epochs: Epochs,
    mut work: Work,
    before: LateAnswers,
    room: OwnedSemaphorePermit,
) -> Asked {
    let began = Instant::now();
    let requests = std::mem::take(&mut work.entry.requests);
    let rules = epochs.rules(work.entry.head.digest).await;
    let mut late = match &rules {
        Ok(rules) => {
            let bytes: u64 = requests.iter().map(framed_len).sum();
            let deadline = began + DEADLINE + Duration::from_secs(bytes / SLOWEST);
            agent.ask_late(rules, requests, &before.answers, deadline).await
        }
        Err(why) => LateAnswers { left: Some(Left::Withheld(why.clone())), ..LateAnswers::default() },
    };
    let stayed_here = late.stayed_here();
    late.add(before);
    Asked { work, rules: rules.ok(), late, took: began.elapsed(), room, stayed_here }
}

/// The amended record.
fn amend(rules: &Rules, work: Work, late: LateAnswers) -> Result<(Decision, Record), String> {
    let manifest = rules.manifest();
    let entry = work.entry;
    let outcome = entry.open.amend(manifest, &late.answers).map_err(|error| error.to_string())?;
    let first: Decision = serde_json::from_str(&entry.line).map_err(|error| error.to_string())?;
    let decided_at =
        jiff::Timestamp::from_millisecond(entry.head.decided_at).map_err(|error| error.to_string())?;
    let late = Late {
        outcome,
        runs: late.runs,
        uplink_bytes: late.bytes,
        decided_at: decided_at.to_string(),
        amended_at: jiff::Timestamp::now().to_string(),
    };
    let amended = first.amend(manifest, late).ok_or("its task is not in the bundle")?;
    let record = Record::of_decision(&amended).map_err(|error| error.to_string())?;
    Ok((amended, record))
}
