//! The spool at the agent's start: what the log holds against what the journal knows of it.
//!
//! | in the log | in the journal | then |
//! | --- | --- | --- |
//! | yes | awaits | it waits for the pool, unless its first decision is still in the outbox |
//! | yes | closed | nothing; it goes with its segment |
//! | yes | no, from a folder | nothing: the kill came before the commit, and the file is decided again |
//! | yes | no, but a sink's file has its record | as if the journal knew what the file says: it awaits, or is closed |
//! | yes | no, from gRPC | its record is posted now: the caller may have had the answer |
//! | no | awaits | it was damaged or removed; the decision stays provisional |

use std::collections::HashSet;

use millgate_shared::identity::clock::built;

use super::*;

/// A decision of a gRPC call that was killed before its commit.
#[derive(Debug)]
pub(crate) struct Orphan {
    pub(crate) id: String,
    /// With its line feed.
    pub(crate) line: String,
}

/// A spool at work, and what is to be done about what was found.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) spool: Spool,
    pub(crate) orphans: Vec<Orphan>,
}

impl Spool {
    /// Reads the log and starts the thread. `spooled` is what the journal knows (see [`crate::journal`]); of
    /// `undelivered` ids the first decision is still on its way; `told` says whether a sink's file has the record of an id that
    /// the journal does not know, and if so whether it was amended. Each segment is in `hand` while it is read.
    #[expect(clippy::too_many_arguments, reason = "called once, with all that a start knows")]
    pub(crate) fn start(
        state_dir: &std::path::Path,
        config: &SpoolConfig,
        journal: JournalHandle,
        spooled: HashMap<String, bool>,
        undelivered: &HashSet<String>,
        told: impl Fn(&str) -> Option<bool>,
        metrics: SpoolMetrics,
        hand: &Hand,
    ) -> Result<Started, OpenError> {
        let path = crate::spool::dir(state_dir);
        let refuse = |source| OpenError { path: path.clone(), source };
        let disk = Dir::open(path.clone());
        let (keeper, orphans) = Keeper::open(
            disk,
            config,
            journal,
            spooled,
            undelivered,
            told,
            metrics,
            hand,
            Ticking::kept(state_dir),
        )
        .map_err(refuse)?;
        let (jobs, receiver) = mpsc::channel(QUEUE);
        std::thread::spawn(move || keeper.run(receiver));
        Ok(Started { spool: Self { jobs }, orphans })
    }
}

/// Segments are so small that a full spool can be emptied in steps, and so large that they are few.
pub(super) fn segment_bytes(max_bytes: u64) -> u64 {
    (max_bytes / 16).clamp(64 << 10, 8 << 20)
}

impl<D: Disk> Keeper<D> {
    #[expect(clippy::too_many_arguments, reason = "called once, but for tests")]
    pub(super) fn open(
        disk: D,
        config: &SpoolConfig,
        journal: JournalHandle,
        spooled: HashMap<String, bool>,
        undelivered: &HashSet<String>,
        told: impl Fn(&str) -> Option<bool>,
        metrics: SpoolMetrics,
        hand: &Hand,
        ticking: Ticking,
    ) -> io::Result<(Self, Vec<Orphan>)> {
        let limits = Limits {
            bytes: config.max_bytes,
            age: Millis::try_from(config.max_age.as_millis()).unwrap_or(Millis::MAX / 2),
            when_full: config.when_full,
        };
        let mut index = Index::new(limits);
        let mut rate = Rate::new(0);
        let mut orphans = Vec::new();
        let mut met = HashSet::new();
        let mut learnt: [Vec<String>; 2] = Default::default();
        let wall = ticking.now().unwrap_or_else(wall);
        let meet = |found: Found| {
            let Found { seq, place, body } = found;
            index.note_segment(place.segment, place.at + place.len);
            let head = match Head::read(&body) {
                Ok(head) => head,
                Err(error) => {
                    tracing::error!(seq, %error, "an entry cannot be read; it is left alone");
                    return false;
                }
            };
            met.insert(head.id.clone());
            let by_file = || {
                let is_amended = told(&head.id)?;
                learnt[usize::from(is_amended)].push(head.id.clone());
                Some(is_amended)
            };
            let is_awaited = match (spooled.get(&head.id).copied().or_else(by_file), head.origin) {
                (Some(true), _) => {
                    index.note_closed(place.segment, head.id);
                    return true;
                }
                (Some(false), _) => true,
                (None, Origin::File) => return true,
                (None, Origin::Api) => false,
            };
            if !is_awaited && !orphans.iter().any(|orphan: &Orphan| orphan.id == head.id) {
                match Entry::read(&body) {
                    Ok(entry) => orphans.push(Orphan { id: head.id.clone(), line: entry.line }),
                    Err(error) => {
                        tracing::error!(seq, %error, "an entry cannot be read; it is left alone");
                        return false;
                    }
                }
            }
            let born = born(head.decided_at, wall);
            rate.note(born, place.len);
            let is_held = !is_awaited || undelivered.contains(&head.id);
            let state = if is_held { State::Held } else { State::Waiting { due: 0, is_firm: false } };
            let Head { digest, id, .. } = head;
            let known = Known { id, place, born, digest, state, tries: 0 };
            // Emptied segments are found below, all at once.
            if let Some(emptied) = index.insert(seq, known) {
                index.note_segment(emptied.segment, 0);
                emptied.closed.into_iter().for_each(|id| index.note_closed(emptied.segment, id));
            }
            true
        };
        let may_read = |name: &str| match hand.part(&format!("{}/{name}", crate::spool::DIR_NAME)) {
            Gate::Open(held) => Some(held),
            Gate::Aside { deaths } => {
                tracing::error!(
                    segment = name,
                    deaths,
                    "the agent died each time that it read this; it is left alone"
                );
                None
            }
        };
        let log = Log::open(disk, config.sync, segment_bytes(config.max_bytes), salt, may_read, meet)?;
        let mut this = Self {
            log,
            index,
            rate,
            config: config.clone(),
            journal,
            hand: hand.clone(),
            metrics,
            telling: VecDeque::new(),
            began: Instant::now(),
            ticking,
            began_at: wall,
            closed: HashMap::new(),
            refused_full: 0,
            counted: super::super::log::Counts::default(),
            is_failing: false,
            stuck: BTreeSet::new(),
        };
        let [open, closed] = learnt;
        if !open.is_empty() {
            this.telling.push_back(Telling::Awaits(open));
        }
        if !closed.is_empty() {
            this.telling.push_back(Telling::Closed(closed));
        }
        for emptied in this.index.empty_segments() {
            this.forget(Some(emptied));
        }
        for number in this.log.segments().collect::<Vec<_>>() {
            // Nothing in it but what has been set aside.
            if !this.index.has_segment(number) && !this.log.remove(number) {
                let emptied = Emptied { segment: number, closed: Vec::new() };
                this.index.keep(emptied, this.log.len_of(number));
            }
        }
        // What could not be read today may be read tomorrow, and must still be known then.
        if !this.log.has_unread() && this.log.has_synced_names() {
            this.forget_unmet(spooled, &met);
        }
        this.tell();
        this.measure(0);
        Ok((this, orphans))
    }

    /// Ids of the journal that no entry belongs to.
    fn forget_unmet(&mut self, mut spooled: HashMap<String, bool>, met: &HashSet<String>) {
        spooled.retain(|id, _| !met.contains(id));
        let lost = spooled.values().filter(|is_closed| !**is_closed).count();
        if lost > 0 {
            tracing::error!(
                entries = lost,
                "decisions are in the journal and not in the spool; they stay provisional"
            );
            *self.closed.entry(Closed::Damaged.as_str()).or_default() += lost as u64;
            self.metrics.closed(Closed::Damaged).inc_by(lost as u64);
        }
        if !spooled.is_empty() {
            self.telling.push_back(Telling::Pruned(spooled.into_keys().collect()));
        }
    }
}

/// When a sample was decided, on a clock that is 0 now. A clock that was not set then, or is behind now, gives no age.
pub(crate) fn born(decided_at: i64, wall: i64) -> Millis {
    // As for certificates: the day of the build is certainly past.
    let is_set = UNIX_EPOCH + Duration::from_millis(decided_at.max(0) as u64) >= built();
    let age = if is_set { wall.saturating_sub(decided_at).max(0) } else { 0 };
    -age
}
