//! What callers hold of the pool: the bytes of their messages and answers, and their calls.
//!
//! Each message is bounded, and so is each connection's number of calls; here is what bounds their sums. Bytes are taken from one
//! ledger before they are read: from what a message says of its length where it says so, as they come where not, and step by step
//! where they are decompressed. They are given back when the answer is made, and those of the answer when they are sent.
//!
//! * `ledger`: who may have how much. `pace`: how long a message may take to arrive.
//!   `readers`: how long answers may be left unread. All are pure.
//! * `layer`: before the services, inside of [`crate::access`]: an [`Account`] for each call. `arriving`: the requests of gRPC, by
//!   way of `heads`, `unpack` and `unfolding`. `answering`: answers of any protocol.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use millgate_shared::memory;

use crate::access::Caller;
use crate::door::peer::Peer;
use crate::failure::Failure;
use crate::principal::{Principal, Tenant};
use config::HoldingConfig;
use counts::Counts;
use ledger::{Full, Holder, Ledger};
use messages::Messages;
use readers::Readers;

mod answering;
mod arriving;
pub(crate) mod config;
pub(crate) mod counts;
mod heads;
pub(crate) mod layer;
mod ledger;
mod messages;
pub(crate) mod pace;
mod readers;
#[cfg(test)]
mod tests;
mod unfolding;
mod unpack;

/// What a message takes while it is read, waits and runs, as a multiple of its length: its bytes, the tensors that are made of
/// them, and those that are joined to a batch.
const COPIES: u64 = 3;
/// What a call takes without any message, in bytes: its stream's state and buffers.
const CALL: u64 = 8 << 10;
/// The part of the memory that is left at the start which messages may take, as a divisor; the rest is for model runs.
const PART_OF_MEMORY: u64 = 4;
/// What messages may take where the kernel tells of no limit, in bytes.
const WITHOUT_A_LIMIT: u64 = 2 << 30;
/// What messages may take however little memory there is, in bytes.
const LEAST: u64 = HoldingConfig::LEAST_MIB << 20;
/// Least that a connection may send ahead, in bytes: what HTTP/2 grants every connection.
const LEAST_WINDOW: u32 = 64 << 10;
/// When one who is refused may ask again: others' answers are sent by then.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// The pool's one ledger.
#[derive(Debug)]
pub(crate) struct Holding {
    book: Mutex<Book>,
    calls_per_caller: u32,
    counts: Counts,
}

#[derive(Debug)]
struct Book {
    bytes: Ledger<Principal, Tenant>,
    /// Open calls.
    calls: HashMap<Principal, u32>,
    /// Connections with answers that are not sent.
    readers: Readers<SocketAddr, Peer>,
}

impl Holding {
    /// `callers`: how many are to have something for certain. Looks at the machine's memory.
    pub(crate) fn new(config: &HoldingConfig, callers: usize) -> Arc<Self> {
        let whole = match config.memory_mib {
            0 => memory::available().map_or(WITHOUT_A_LIMIT, |left| left / PART_OF_MEMORY).max(LEAST),
            mib => mib << 20,
        };
        let bytes = Ledger::new(whole, callers as u64);
        let book = Mutex::new(Book { bytes, calls: HashMap::new(), readers: Readers::default() });
        Arc::new(Self { book, calls_per_caller: config.calls_per_caller, counts: Counts::new(whole) })
    }

    pub(crate) fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Bytes that each of so many connections may send ahead: what lies in their buffers is not read yet and so on nobody's
    /// account, and all of them together may have as much as the floors do.
    pub(crate) fn window(&self, connections: usize, most: u32) -> u32 {
        let each = self.lock().bytes.floors() / connections.max(1) as u64;
        u32::try_from(each).unwrap_or(most).min(most).max(LEAST_WINDOW)
    }

    fn lock(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, holder: &Holder<Principal, Tenant>, bytes: u64) -> Result<(), Full> {
        let mut book = self.lock();
        let taken = book.bytes.take(holder, bytes);
        self.counts.hold(book.bytes.taken(), book.bytes.holders());
        taken
    }

    /// Ends the connections whose peers read nothing of their answers.
    pub(crate) fn tend(&self) {
        let stuck = self.lock().readers.stuck(Instant::now());
        for peer in stuck {
            self.counts.late("answer");
            tracing::debug!(peer = %peer.addr, "a connection was cut: nobody reads its answers");
            peer.cut();
        }
    }

    fn give(&self, holder: &Holder<Principal, Tenant>, bytes: u64) {
        let mut book = self.lock();
        book.bytes.give(holder, bytes);
        self.counts.hold(book.bytes.taken(), book.bytes.holders());
    }
}

/// Whoever makes a call, as the ledger knows it.
#[derive(Debug)]
struct Who {
    holding: Arc<Holding>,
    caller: Caller,
    holder: Holder<Principal, Tenant>,
}

impl Who {
    fn full(&self, full: Full) -> Failure {
        match full {
            Full::Share => {
                self.refused("share", "this caller's messages hold their share of the pool's memory")
            }
            Full::Whole => self.refused("memory", "messages hold all the memory that the pool has for them"),
            Full::Never => {
                self.holding.counts.refused("size");
                let most = self.holding.lock().bytes.most() / COPIES;
                Failure::TooLarge { what: "the message", most: usize::try_from(most).unwrap_or(usize::MAX) }
            }
        }
    }

    fn refused(&self, reason: &'static str, what: &'static str) -> Failure {
        self.holding.counts.refused(reason);
        if let Some(others) = self.caller.noted(reason) {
            tracing::warn!(caller = %self.holder.own, reason, others, "a message or a call was refused: {what}");
        }
        Failure::Refused { what, retry_after: RETRY_AFTER }
    }
}

/// One call's account; in the extensions of each request. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Account {
    who: Arc<Who>,
    messages: Arc<Mutex<Messages>>,
}

impl Account {
    fn new(holding: &Arc<Holding>, caller: &Caller, principal: &Principal) -> Self {
        let holder = Holder { own: principal.clone(), group: principal.tenant().clone() };
        let who = Who { holding: Arc::clone(holding), caller: caller.clone(), holder };
        Self { who: Arc::new(who), messages: Arc::default() }
    }

    /// A place among the caller's calls; a refusal is counted.
    fn enter(&self) -> Result<Seat, Failure> {
        let bytes = self.take(CALL)?;
        let (holding, own) = (&self.who.holding, &self.who.holder.own);
        let mut book = holding.lock();
        let open = book.calls.entry(own.clone()).or_default();
        if *open >= holding.calls_per_caller {
            drop(book);
            return Err(self.who.refused("calls", "this caller has as many calls open as it may"));
        }
        *open += 1;
        drop(book);
        Ok(Seat { account: self.clone(), _bytes: bytes })
    }

    /// Takes so many bytes; a refusal is not counted.
    fn try_take(&self, bytes: u64) -> Result<Hold, Full> {
        self.who.holding.take(&self.who.holder, bytes)?;
        Ok(Hold { who: Arc::clone(&self.who), bytes: bytes.into() })
    }

    /// Takes what a message of so many bytes needs until it is answered; a refusal is not counted.
    fn try_take_message(&self, length: u64) -> Result<Hold, Full> {
        self.try_take(length.saturating_mul(COPIES))
    }

    /// What comes of a refusal; counted.
    fn full(&self, full: Full) -> Failure {
        self.who.full(full)
    }

    /// Takes so many bytes, and no more; a refusal is counted.
    pub(crate) fn take(&self, bytes: u64) -> Result<Hold, Failure> {
        self.try_take(bytes).map_err(|full| self.full(full))
    }

    /// The caller asks with [`Self::next`] about every message that is to come.
    pub(crate) fn claim(&self) {
        self.messages().claim();
    }

    /// What the oldest message holds that nobody has asked about yet. Whoever asks keeps it until its answer is made; who never
    /// asks has it kept until the next message begins, or the answer.
    pub(crate) fn next(&self) -> Option<Hold> {
        self.messages().next()
    }

    fn messages(&self) -> MutexGuard<'_, Messages> {
        self.messages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What comes of a message that takes too long; counted.
    pub(crate) fn late(&self) -> Failure {
        self.who.holding.counts.late("message");
        Failure::Late("the message")
    }
}

/// Bytes that a caller holds; dropping it gives them back.
#[derive(Debug)]
#[must_use]
pub(crate) struct Hold {
    who: Arc<Who>,
    bytes: AtomicU64,
}

impl Hold {
    /// Takes so many bytes more.
    pub(crate) fn grow(&self, bytes: u64) -> Result<(), Failure> {
        let who = &self.who;
        who.holding.take(&who.holder, bytes).map_err(|full| {
            // What could not be held even alone is not to be tried again.
            let all = self.bytes.load(Ordering::Relaxed).saturating_add(bytes);
            let is_never = all > who.holding.lock().bytes.most();
            who.full(if is_never { Full::Never } else { full })
        })?;
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }

    /// Takes what is wanting of what a message of so many bytes needs.
    pub(crate) fn grow_to_message(&self, length: u64) -> Result<(), Failure> {
        self.grow(length.saturating_mul(COPIES).saturating_sub(self.bytes.load(Ordering::Relaxed)))
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let bytes = *self.bytes.get_mut();
        if bytes > 0 {
            self.who.holding.give(&self.who.holder, bytes);
        }
    }
}

/// A piece of an answer that is not sent; dropping it says that it has left, or is wanted no more.
#[derive(Debug)]
struct Unsent {
    who: Arc<Who>,
}

impl Unsent {
    fn new(who: &Arc<Who>) -> Self {
        if let Some(peer) = who.caller.peer() {
            who.holding.lock().readers.waits(&peer.addr, peer, Instant::now());
        }
        Self { who: Arc::clone(who) }
    }
}

impl Drop for Unsent {
    fn drop(&mut self) {
        if let Some(peer) = self.who.caller.peer() {
            self.who.holding.lock().readers.left(&peer.addr, Instant::now());
        }
    }
}

/// One open call; dropping it gives its place back.
#[derive(Debug)]
struct Seat {
    account: Account,
    _bytes: Hold,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let who = &self.account.who;
        let own = who.holder.own.clone();
        if let Entry::Occupied(mut open) = who.holding.lock().calls.entry(own) {
            *open.get_mut() -= 1;
            if *open.get() == 0 {
                open.remove();
            }
        }
    }
}
