//! What is in the spool: which entries, in what order, how old, who is next, what goes when there is no room. Pure: it
//! takes `now` in milliseconds of a clock that only goes forward, and knows no disk.
//!
//! ```text
//! insert ──> held ──release──> waiting ──take──> asked ──> remove (amended, refused)
//!              │                  ^                └─retry─┐
//!              │                  └────────────────────────┘      expire, drop: from held and waiting
//!              └ its first decision is still on its way to the sinks, and must be there before the amended one
//! ```

use std::collections::{BTreeMap, BTreeSet, HashMap};

use millgate_shared::bundle::BundleDigest;

use super::config::SpoolFull;
use super::log::Place;

#[cfg(test)]
mod tests;

/// Milliseconds.
pub(crate) type Millis = i64;

#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// On the disk, in all segments.
    pub(crate) bytes: u64,
    /// Older entries are closed without an amendment.
    pub(crate) age: Millis,
    pub(crate) when_full: SpoolFull,
}

/// An entry as the index knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) id: String,
    pub(crate) place: Place,
    /// When its sample was decided, on the index's clock.
    pub(crate) born: Millis,
    /// The bundle it was decided with; it is amended by that one.
    pub(crate) digest: BundleDigest,
    pub(crate) state: State,
    /// How many times the pool was asked and gave no answer.
    pub(crate) tries: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Held,
    Waiting {
        due: Millis,
        /// Whether `due` holds even if the line is back before.
        is_firm: bool,
    },
    Asked,
}

/// Why an entry is asked again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Again {
    /// The line, the pool or the disk was in trouble: at once where the line is back.
    Trouble,
    /// The pool cannot answer it at the moment.
    NotHere,
    /// The expert failed; that is counted.
    Failed,
}

/// What is to be done for an entry of so many bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Room {
    Fits,
    /// Move what is needed of this segment up and remove it; then ask again.
    Compact(u64),
    /// These go, oldest first, with their segment; then ask again.
    Drop(Vec<u64>),
    Refused,
}

#[derive(Debug, Default)]
struct Segment {
    bytes: u64,
    live: BTreeSet<u64>,
    live_bytes: u64,
    /// Entries of it that are closed: what is remembered of them elsewhere can be forgotten with the segment.
    closed: Vec<String>,
}

#[derive(Debug)]
pub(crate) struct Index {
    limits: Limits,
    entries: BTreeMap<u64, Entry>,
    by_id: HashMap<String, u64>,
    waiting: BTreeSet<(Millis, u64)>,
    by_age: BTreeSet<(Millis, u64)>,
    segments: BTreeMap<u64, Segment>,
}

/// A segment that nothing needs any more.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Emptied {
    pub(crate) segment: u64,
    /// Entries that lay in it.
    pub(crate) closed: Vec<String>,
}

impl Index {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            entries: BTreeMap::new(),
            by_id: HashMap::new(),
            waiting: BTreeSet::new(),
            by_age: BTreeSet::new(),
            segments: BTreeMap::new(),
        }
    }

    /// Can an entry of `bytes`, in a frame, be taken? `current` is the segment that is appended to; `stuck` ones cannot be
    /// moved at the moment.
    pub(crate) fn room(&self, bytes: u64, current: Option<u64>, stuck: &BTreeSet<u64>) -> Room {
        if bytes > self.limits.bytes {
            return Room::Refused;
        }
        if self.bytes() + bytes <= self.limits.bytes {
            return Room::Fits;
        }
        // What is moved takes room before it gives some: only where more is won than moved.
        let sparse = self.segments.iter().filter(|(number, segment)| {
            let may_move = Some(**number) != current && !stuck.contains(number) && !segment.live.is_empty();
            may_move && segment.live_bytes * 2 <= segment.bytes
        });
        let sparsest = sparse.min_by_key(|(_, segment)| segment.live_bytes * 1000 / segment.bytes.max(1));
        if let Some((number, _)) = sparsest {
            return Room::Compact(*number);
        }
        match self.limits.when_full {
            SpoolFull::RefuseNew => Room::Refused,
            SpoolFull::DropOldest => self.oldest_segment(),
        }
    }

    /// Entries that are being asked are never dropped: their answer may be on its way.
    fn oldest_segment(&self) -> Room {
        let is_asked = |seq: &u64| self.entries.get(seq).is_some_and(|entry| entry.state == State::Asked);
        let droppable = self.segments.values();
        let droppable =
            droppable.filter(|segment| !segment.live.is_empty() && !segment.live.iter().any(is_asked));
        match droppable.min_by_key(|segment| segment.live.first().copied()) {
            Some(segment) => Room::Drop(segment.live.iter().copied().collect()),
            None => Room::Refused,
        }
    }

    /// An entry has been written. One with the same id is replaced: it was never committed, or it was moved. Gives the
    /// segment that this empties.
    pub(crate) fn insert(&mut self, seq: u64, entry: Entry) -> Option<Emptied> {
        // First, so that the segment is not taken for empty when the other goes.
        let segment = self.segments.entry(entry.place.segment).or_default();
        segment.live.insert(seq);
        segment.live_bytes += entry.place.len;
        segment.bytes = segment.bytes.max(entry.place.at + entry.place.len);
        let before = self.by_id.get(&entry.id).copied();
        let emptied = before.and_then(|before| self.take_out(before, false));
        self.by_id.insert(entry.id.clone(), seq);
        self.by_age.insert((entry.born, seq));
        if let State::Waiting { due, .. } = entry.state {
            self.waiting.insert((due, seq));
        }
        self.entries.insert(seq, entry);
        emptied
    }

    /// A segment's length on the disk, where more lies in it than entries that are needed.
    pub(crate) fn note_segment(&mut self, segment: u64, bytes: u64) {
        self.segments.entry(segment).or_default().bytes = bytes;
    }

    /// An entry of a segment is known to be closed.
    pub(crate) fn note_closed(&mut self, segment: u64, id: String) {
        self.segments.entry(segment).or_default().closed.push(id);
    }

    /// A segment that nothing needs could not be removed: it takes `bytes` until it can.
    pub(crate) fn keep(&mut self, emptied: Emptied, bytes: u64) {
        let segment = self.segments.entry(emptied.segment).or_default();
        segment.bytes = bytes;
        segment.closed.extend(emptied.closed);
    }

    /// Segments without a single entry that is needed.
    pub(crate) fn empty_segments(&mut self) -> Vec<Emptied> {
        let empty = self.segments.iter().filter(|(_, segment)| segment.live.is_empty());
        let numbers: Vec<u64> = empty.map(|(number, _)| *number).collect();
        numbers.into_iter().filter_map(|number| self.emptied(number)).collect()
    }

    /// Lets an entry be asked from now on, since its first decision has reached the sinks.
    pub(crate) fn release(&mut self, id: &str, now: Millis) {
        let Some(seq) = self.by_id.get(id).copied() else { return };
        if let Some(entry) = self.entries.get_mut(&seq)
            && entry.state == State::Held
        {
            entry.state = State::Waiting { due: now, is_firm: false };
            self.waiting.insert((now, seq));
        }
    }

    /// Takes the entry that is to be asked next; `None` if none is due.
    pub(crate) fn take(&mut self, now: Millis) -> Option<(u64, Place)> {
        let (due, seq) = self.waiting.first().copied()?;
        if due > now {
            return None;
        }
        self.waiting.pop_first();
        let entry = self.entries.get_mut(&seq)?;
        entry.state = State::Asked;
        Some((seq, entry.place))
    }

    /// Puts an entry that was asked back, to be asked again at `due`.
    pub(crate) fn retry(&mut self, seq: u64, due: Millis, why: Again) {
        let Some(entry) = self.entries.get_mut(&seq) else { return };
        if entry.state == State::Asked {
            entry.tries += u32::from(why == Again::Failed);
            entry.state = State::Waiting { due, is_firm: why != Again::Trouble };
            self.waiting.insert((due, seq));
        }
    }

    /// The line is back: all that waits for nothing else is due now.
    pub(crate) fn wake(&mut self, now: Millis) {
        for (due, seq) in std::mem::take(&mut self.waiting) {
            let mut at = due;
            if let Some(entry) = self.entries.get_mut(&seq)
                && let State::Waiting { due, is_firm: false } = &mut entry.state
            {
                *due = now.min(*due);
                at = *due;
            }
            self.waiting.insert((at, seq));
        }
    }

    /// Removes an entry that was amended, refused, expired or dropped. Gives its segment if nothing else in it is needed.
    pub(crate) fn remove(&mut self, seq: u64) -> Option<Emptied> {
        self.take_out(seq, true)
    }

    fn take_out(&mut self, seq: u64, is_closed: bool) -> Option<Emptied> {
        let entry = self.entries.remove(&seq)?;
        self.by_age.remove(&(entry.born, seq));
        if let State::Waiting { due, .. } = entry.state {
            self.waiting.remove(&(due, seq));
        }
        if self.by_id.get(&entry.id) == Some(&seq) {
            self.by_id.remove(&entry.id);
        }
        let number = entry.place.segment;
        let segment = self.segments.get_mut(&number)?;
        segment.live.remove(&seq);
        segment.live_bytes -= entry.place.len;
        if is_closed {
            segment.closed.push(entry.id);
        }
        if segment.live.is_empty() { self.emptied(number) } else { None }
    }

    fn emptied(&mut self, number: u64) -> Option<Emptied> {
        let segment = self.segments.remove(&number)?;
        Some(Emptied { segment: number, closed: segment.closed })
    }

    /// Entries that are too old by now; not those that are being asked. How old those of earlier runs are (born before 0) is
    /// known only where the wall clock is to be believed: then `shift` is how much later it is by that than they were taken to
    /// be born by. Else their age counts from this start.
    pub(crate) fn expired(&self, now: Millis, shift: Option<Millis>) -> Vec<u64> {
        let is_old = |born: Millis| match (born < 0, shift) {
            (true, Some(shift)) => born + self.limits.age <= now + shift,
            (true, None) => self.limits.age <= now,
            (false, _) => born + self.limits.age <= now,
        };
        // From a certain age on none is old, whichever way it is counted.
        let latest = now.max(now.saturating_add(shift.unwrap_or(0)));
        let old = self.by_age.iter().take_while(|(born, _)| *born + self.limits.age <= latest);
        let old = old.filter(|(born, _)| is_old(*born));
        let is_asked = |seq: u64| self.entries.get(&seq).is_some_and(|entry| entry.state == State::Asked);
        old.map(|(_, seq)| *seq).filter(|seq| !is_asked(*seq)).collect()
    }

    /// When the next entry is to be asked.
    pub(crate) fn next_due(&self) -> Option<Millis> {
        self.waiting.first().map(|(due, _)| *due)
    }

    /// An entry by its id.
    pub(crate) fn find(&self, id: &str) -> Option<(u64, &Entry)> {
        let seq = self.by_id.get(id).copied()?;
        self.entries.get(&seq).map(|entry| (seq, entry))
    }

    pub(crate) fn get(&self, seq: u64) -> Option<&Entry> {
        self.entries.get(&seq)
    }

    /// In the order in which they are asked, as long as none is asked again.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, &Entry)> {
        self.entries.iter().map(|(seq, entry)| (*seq, entry))
    }

    pub(crate) fn has_segment(&self, number: u64) -> bool {
        self.segments.contains_key(&number)
    }

    /// What is needed of a segment.
    pub(crate) fn live(&self, segment: u64) -> Vec<u64> {
        self.segments.get(&segment).map_or_else(Vec::new, |segment| segment.live.iter().copied().collect())
    }

    /// How many entries there are of each bundle.
    pub(crate) fn bundles(&self) -> BTreeMap<BundleDigest, usize> {
        self.entries.values().fold(BTreeMap::new(), |mut bundles, entry| {
            *bundles.entry(entry.digest).or_default() += 1;
            bundles
        })
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Bytes of all segments on the disk.
    pub(crate) fn bytes(&self) -> u64 {
        self.segments.values().map(|segment| segment.bytes).sum()
    }

    /// Bytes of the entries that are still needed.
    pub(crate) fn live_bytes(&self) -> u64 {
        self.segments.values().map(|segment| segment.live_bytes).sum()
    }

    pub(crate) fn oldest(&self) -> Option<Millis> {
        self.by_age.first().map(|(born, _)| *born)
    }
}
