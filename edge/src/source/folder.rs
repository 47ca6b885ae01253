//! A watched folder: the shell round `folder::core`. It listens for events, lists the folder from time to time, looks at files
//! that are due, and hands out what is ready as fast as it is taken.
//!
//! Events come from inotify by way of `notify`. They are never trusted to be complete: a network share has none, a full
//! event queue loses some, a folder made a moment ago is watched a moment late. What no event told of is found by the
//! next listing, at most `rescan` later.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use millgate_shared::trouble::{self, Fault, Trouble};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::calm::Turn;
use super::{Body, Outcome, Receipt, SourceMetrics, Starting, Taken};
use crate::input::Naming;
use crate::journal::{JournalHandle, Key};
use alarm::Alarm;
use core::{Core, Ready, Rules, Seen, Survey};
use face::{Content, Known, Reading, Stat, mark, path_of, unmark};
use listing::{Kind, Lister, Listing, Looked};
use reading::Reader;
use watch::{Notice, Watch};

mod alarm;
mod check;
mod config;
mod core;
pub(crate) mod face;
mod listing;
mod pattern;
mod reading;
mod tidy;
mod watch;

pub use config::{After, Existing, FolderConfig, Templates};

/// Replies that may wait; the source reads them at once.
const REPLIES: usize = 64;
/// How often it is asked whether a risk may be taken, while there is one.
const ASK: Duration = Duration::from_millis(200);

/// What became of a file that was handed out.
#[derive(Debug)]
struct Reply {
    relative: PathBuf,
    outcome: Outcome,
    /// What was read of it; `None` if nothing was.
    reading: Option<Reading>,
}

/// A file's receipt. That the outbox holds its decision changes nothing for it: it is tidied when every sink has that.
struct Slip {
    source: Arc<str>,
    relative: PathBuf,
    again: Option<Again>,
    reading: Arc<OnceLock<Reading>>,
    journal: JournalHandle,
    reply: mpsc::Sender<Reply>,
}

impl Receipt for Slip {
    fn end(self: Box<Self>, outcome: Outcome) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let Self { source, relative, again, reading, journal, reply } = *self;
            let reading = reading.get().copied();
            if let (Outcome::Same, Some(now)) = (outcome, reading)
                && again.is_some_and(|again| again.is_kept)
            {
                let mark = mark(now.stat.version, Some(now));
                journal.renew(&source, Key::from(&*relative), mark).await;
            }
            // A source that has stopped does not listen.
            let _stopped = reply.send(Reply { relative, outcome, reading }).await.is_err();
        })
    }
}

/// A decided file that is to be looked at again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Again {
    /// What it held when it was decided.
    content: Content,
    /// What it looks like now is worth keeping: it is not made up anew at each look.
    is_kept: bool,
}

/// A folder's task.
#[derive(Debug)]
struct Folder {
    config: FolderConfig,
    name: Arc<str>,
    core: Core,
    lister: Lister,
    naming: Naming,
    watch: Watch,
    out: mpsc::Sender<Taken>,
    reply: mpsc::Sender<Reply>,
    replies: mpsc::Receiver<Reply>,
    journal: JournalHandle,
    metrics: SourceMetrics,
    turn: Turn,
    alarm: Alarm,
    /// A listing at work.
    listing: Option<JoinHandle<std::io::Result<Listing>>>,
    listing_began: Instant,
    next_listing: Instant,
    is_first_listing: bool,
    /// The folder was not there last time; said once.
    is_absent: bool,
}

/// Starts watching.
fn start(config: FolderConfig, starting: Starting) {
    let Starting { left, turn, out, journal, metrics, naming, tasks } = starting;
    let now = now();
    let rules = Rules { settle: config.settle, patience: config.patience, templates: config.templates };
    let (reply, replies) = mpsc::channel(REPLIES);
    let known: Vec<Known> = left.known.iter().filter_map(Known::of).filter(Known::is_settled).collect();
    let risk = |(key, (face, risk)): (Key, _)| Some((path_of(&key), (unmark(&face)?.0, risk)));
    let risks = left.risks.into_iter().filter_map(risk).collect();
    let folder = Folder {
        name: config.name.as_str().into(),
        core: Core::new(rules, &known, risks, now),
        lister: Lister::new(&config, naming.clone()),
        naming,
        watch: Watch::new(&config),
        config,
        out,
        reply,
        replies,
        journal,
        metrics,
        turn,
        alarm: Alarm::default(),
        listing: None,
        listing_began: now,
        next_listing: now,
        is_first_listing: true,
        is_absent: false,
    };
    let token = tasks.token().clone();
    tasks.spawn(async move {
        // Dropping it in the middle loses nothing: files stay on disk, and nothing is remembered but by the journal.
        let _stopped = token.run_until_cancelled(folder.run()).await;
    });
}

impl Folder {
    async fn run(mut self) {
        tracing::info!(source = %self.name, path = %self.config.path.display(), "watching");
        let out = self.out.clone();
        loop {
            let now = now();
            self.start_listing(now);
            self.look_at_due(now).await;
            let counts = self.core.counts();
            self.metrics.waiting.set(counts.waiting as i64);
            self.metrics.held.set(counts.delayed as i64);
            self.tell_of_ends(counts.delayed, now);
            self.core.allow_risks(self.turn.may_risk(counts.busy, now));
            let wake = self.wake(now);
            let has_ready = self.core.has_ready(now);
            tokio::select! {
                biased;
                Some(reply) = self.replies.recv() => self.settle(&reply),
                notice = self.watch.next() => self.notice(&notice),
                listing = listed(&mut self.listing) => self.listed(listing).await,
                permit = out.reserve(), if has_ready => {
                    // The service has stopped.
                    let Ok(permit) = permit else { return };
                    if let Some(ready) = self.core.take(now) {
                        permit.send(self.hand_out(ready));
                    }
                }
                () = tokio::time::sleep_until(wake.into()) => {}
            }
        }
    }

    fn hand_out(&self, ready: Ready) -> Taken {
        let path = self.config.path.join(&ready.path);
        let (key, version, risk) = (Key::from(&*ready.path), ready.version, ready.risk);
        let (relative, again) = (ready.path.clone(), ready.decided);
        let shown = path.display().to_string();
        let reader = Reader::new(&self.name, path, ready, self.naming.clone());
        let reading = Arc::clone(&reader.reading);
        let (source, reply, journal) = (Arc::clone(&self.name), self.reply.clone(), self.journal.clone());
        Taken {
            source: Arc::clone(&self.name),
            key,
            face: version.face(),
            born: version.born(),
            path: shown,
            risk,
            body: Body::Unread(Box::new(reader)),
            others: Vec::new(),
            receipt: Box::new(Slip { source, relative, again, reading, journal, reply }),
        }
    }

    /// When there is something to do without anything having happened.
    fn wake(&self, now: Instant) -> Instant {
        // While a listing is at work its end is waited for.
        let next_listing = if self.listing.is_some() { now + self.config.rescan } else { self.next_listing };
        let ask = self.core.has_risks().then_some(now + ASK);
        self.core.next_due(now).into_iter().chain(ask).fold(next_listing, Instant::min)
    }

    fn settle(&mut self, reply: &Reply) {
        let now = now();
        self.core.settle(&reply.relative, reply.outcome, reply.reading, now);
        self.metrics.count(reply.outcome);
        if let Outcome::Delayed(trouble) = reply.outcome {
            self.alarm(trouble, &self.config.path.join(&reply.relative), now);
        }
    }

    /// The machine did not let something be read.
    fn alarm(&mut self, trouble: Trouble, path: &Path, now: Instant) {
        self.metrics.trouble(trouble);
        if self.alarm.note(trouble, now) {
            tracing::warn!(
                source = %self.name, path = %path.display(), trouble = trouble.name(), advice = trouble.advice(),
                "the machine does not let files be read; they wait, and are tried again and again"
            );
        }
    }

    fn tell_of_ends(&mut self, delayed: usize, now: Instant) {
        if delayed == 0 {
            for trouble in self.alarm.over(now) {
                tracing::info!(source = %self.name, trouble = trouble.name(), "files can be read again");
            }
        }
    }

    fn notice(&mut self, notice: &Notice) {
        match notice {
            Notice::File(path, seen) => self.see(path, *seen),
            Notice::List => self.next_listing = now(),
        }
    }

    /// An event told of a file or a folder.
    fn see(&mut self, path: &Path, seen: Seen) {
        let Some(relative) = self.lister.relative(path) else { return };
        let kind = self.lister.kind(&relative);
        match listing::look(path) {
            Ok(Some(stat)) => self.observe(&kind, stat, seen),
            Ok(None) if path.is_dir() => self.next_listing = now(),
            Ok(None) => {
                if let Some(Kind::Picture(picture)) = kind {
                    self.core.gone(&picture);
                }
            }
            // A listing finds it.
            Err(trouble) => self.alarm(trouble, path, now()),
        }
    }

    fn observe(&mut self, kind: &Option<Kind>, stat: Stat, seen: Seen) {
        match kind {
            Some(Kind::Picture(picture)) => self.core.observe(picture, stat, seen, now()),
            Some(Kind::TemplateOf(picture)) => self.core.observe_template(picture, stat, seen, now()),
            None => {}
        }
    }

    async fn look_at_due(&mut self, now: Instant) {
        let due = self.core.due(now);
        if due.is_empty() {
            return;
        }
        // A share that hangs must not hold an async thread.
        let lister = self.lister.clone();
        let Ok(looks) = tokio::task::spawn_blocking(move || lister.look(due)).await else { return };
        for look in looks {
            match look.seen {
                Looked::There { stat, template } => {
                    if let Some(stat) = template {
                        self.core.observe_template(&look.picture, stat, Seen::Listed, now);
                    }
                    self.core.observe(&look.picture, stat, Seen::Listed, now);
                }
                Looked::Gone => self.core.gone(&look.picture),
                Looked::Unseen(trouble) => {
                    self.core.unseen(&look.picture, trouble, now);
                    self.alarm(trouble, &self.config.path.join(&look.picture), now);
                }
            }
        }
    }

    fn start_listing(&mut self, now: Instant) {
        if self.listing.is_none() && now >= self.next_listing {
            self.next_listing = now + self.config.rescan;
            let keeper = self.watch.keeper();
            let lister = self.lister.clone();
            self.listing_began = now;
            self.listing = Some(tokio::task::spawn_blocking(move || {
                // Before the listing, so that what comes in between is told of by an event.
                keeper.lock().unwrap_or_else(PoisonError::into_inner).ensure();
                lister.list()
            }));
        }
    }

    async fn listed(&mut self, listing: std::io::Result<Listing>) {
        self.next_listing = self.next_listing.max(now() + self.config.rescan / 2);
        let listing = match listing {
            Ok(listing) => listing,
            Err(error) => {
                // Nothing of it is waited for.
                self.turn.listed();
                self.unlisted(&error);
                return;
            }
        };
        if std::mem::take(&mut self.is_absent) {
            tracing::info!(source = %self.name, "folder is there again");
        }
        let now = now();
        for (trouble, path) in &listing.troubles {
            self.alarm(*trouble, path, now);
        }
        let is_skipped = std::mem::take(&mut self.is_first_listing) && self.config.existing == Existing::Skip;
        let unseen = listing.unseen.into_iter().filter_map(|kind| match kind {
            Kind::Picture(picture) => Some(picture),
            Kind::TemplateOf(_) => None,
        });
        let mut present: BTreeSet<PathBuf> = unseen.collect();
        for (kind, stat) in listing.files {
            match kind {
                Kind::Picture(picture) => {
                    self.core.listed(&picture, stat, self.listing_began, now);
                    if is_skipped {
                        self.core.skip(&picture, stat.version);
                    }
                    present.insert(picture);
                }
                Kind::TemplateOf(picture) => self.core.observe_template(&picture, stat, Seen::Listed, now),
            }
        }
        self.turn.listed();
        let survey = Survey { present, folders: listing.folders };
        let forgotten = self.core.prune(&survey, self.listing_began, now);
        let keys: Vec<Key> = forgotten.iter().map(|path| Key::from(&**path)).collect();
        if !keys.is_empty() && !self.journal.forget(&self.name, keys).await {
            tracing::debug!(source = %self.name, "journal has stopped");
        }
    }

    /// The folder itself could not be listed: nothing is concluded from that.
    fn unlisted(&mut self, error: &std::io::Error) {
        let path = self.config.path.clone();
        match trouble::judge(error) {
            Fault::Machine(trouble) => self.alarm(trouble, &path, now()),
            Fault::Absent | Fault::Itself => {
                if !std::mem::replace(&mut self.is_absent, true) {
                    let path = path.display();
                    tracing::warn!(source = %self.name, %path, %error, "folder cannot be read; trying again");
                }
            }
        }
    }
}

/// The listing at work; for ever, if none is.
async fn listed(listing: &mut Option<JoinHandle<std::io::Result<Listing>>>) -> std::io::Result<Listing> {
    let Some(handle) = listing else { return std::future::pending().await };
    let result = handle.await;
    *listing = None;
    result.unwrap_or_else(|error| Err(std::io::Error::other(error)))
}

/// tokio's clock, so that it can be paused.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
