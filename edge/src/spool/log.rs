//! A log of segments over a [`Disk`]: entries are appended to the youngest, read by their place, and go with their whole
//! segment once none of it is needed any more.
//!
//! Nothing is ever overwritten. What a failed write left is cut off; where even that fails, the segment is left as it is
//! and a new one begun, so that no entry is written behind garbage. A damaged stretch is set aside and the entries around
//! it are kept.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use super::disk::Disk;
use super::frame::{self, Piece};

#[cfg(test)]
mod tests;

/// Numbers of segments begin here, and at a random one behind it, where it is not known which there are.
const UNSEEN: u64 = 1 << 40;

/// When a write counts as done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sync {
    /// A write is done once it is on the disk, and survives a power cut.
    Always,
    /// A write is done once the system has it, and survives a kill of the agent, not a power cut. The disk has it within a
    /// second.
    Second,
    /// A write is done once the system has it, which puts it on the disk when it likes.
    Never,
}

/// Where an entry lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) segment: u64,
    pub(crate) at: u64,
    /// Length of the whole frame, in bytes.
    pub(crate) len: u64,
}

/// An entry found at the start.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) seq: u64,
    pub(crate) place: Place,
    pub(crate) body: Vec<u8>,
}

#[derive(Debug)]
pub(crate) struct Log<D> {
    disk: D,
    sync: Sync,
    segment_bytes: u64,
    /// All of them, by number.
    segments: BTreeMap<u64, Segment>,
    /// The one that is appended to.
    current: Option<u64>,
    next_seq: u64,
    next_segment: u64,
    /// Appended and not yet known to be on the disk.
    is_unsynced: bool,
    /// Names have changed since they were last synced.
    has_new_name: bool,
    /// Segments that hold what could neither be read nor set aside.
    unread: BTreeSet<u64>,
    salt: fn() -> u32,
    pub(crate) counts: Counts,
}

/// Since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Bodies taken.
    pub(crate) accepted_bytes: u64,
    /// Written to segments, heads and moves included.
    pub(crate) written_bytes: u64,
    pub(crate) syncs: u64,
    /// Damaged stretches found.
    pub(crate) damaged: u64,
}

#[derive(Debug, Clone)]
struct Segment {
    name: String,
    salt: u32,
    len: u64,
}

impl<D: Disk> Log<D> {
    /// Reads every segment that `may_read` lets through by its name; hands each whole entry to `found` in the order of
    /// writing. What `found` cannot read, by its answer, stays, and its segment with it. So does a segment that is not let
    /// through.
    pub(crate) fn open<T>(
        disk: D,
        sync: Sync,
        segment_bytes: u64,
        salt: fn() -> u32,
        may_read: impl Fn(&str) -> Option<T>,
        mut found: impl FnMut(Found) -> bool,
    ) -> io::Result<Self> {
        let mut this = Self {
            disk,
            sync,
            segment_bytes,
            segments: BTreeMap::new(),
            current: None,
            next_seq: 0,
            next_segment: 0,
            is_unsynced: false,
            has_new_name: false,
            unread: BTreeSet::new(),
            salt,
            counts: Counts::default(),
        };
        for (name, len) in this.disk.list()? {
            match parse(&name) {
                Some((number, salt)) => drop(this.segments.insert(number, Segment { name, salt, len })),
                None => tracing::warn!(name, "a file is no segment of the spool; it is left alone"),
            }
        }
        let last = this.segments.keys().next_back().copied();
        this.next_segment = last.map_or(0, |last| last + 1);
        if this.disk.is_blind() {
            // Behind all that may lie there.
            this.next_segment = UNSEEN + u64::from((this.salt)());
        }
        for (number, segment) in this.segments.clone() {
            match may_read(&segment.name) {
                Some(_in_hand) => this.recover(number, &segment, Some(number) == last, &mut found),
                None => {
                    this.counts.damaged += 1;
                    this.unread.insert(number);
                }
            }
        }
        Ok(this)
    }

    /// Never fails: a segment that cannot be read is left where it is and counts as damaged.
    fn recover(
        &mut self,
        number: u64,
        segment: &Segment,
        is_last: bool,
        found: &mut impl FnMut(Found) -> bool,
    ) {
        let name = &segment.name;
        let bytes = match self.disk.read(name, 0, segment.len as usize) {
            Ok(bytes) => bytes,
            Err(error) => {
                tracing::error!(segment = name, %error, "a segment of the spool cannot be read; it is left alone");
                self.counts.damaged += 1;
                // Its entries are gone for this run, its bytes are not.
                self.unread.insert(number);
                return;
            }
        };
        let mut end = segment.len;
        for piece in frame::scan(segment.salt, &bytes) {
            match piece {
                Piece::Good { seq, at, len } => {
                    self.next_seq = self.next_seq.max(seq + 1);
                    let place = Place { segment: number, at: at as u64, len: len as u64 };
                    let body = bytes[at + frame::HEAD..at + len].to_vec();
                    if !found(Found { seq, place, body }) {
                        self.unread.insert(number);
                    }
                }
                Piece::Bad { at, len } => self.set_aside(number, name, at as u64, &bytes[at..at + len]),
                // A kill or a power cut in the middle of a write: acknowledged at most where `sync` does not wait.
                Piece::Torn { at } if is_last => {
                    tracing::info!(segment = name, bytes = bytes.len() - at, "cut off an unfinished entry");
                    end = at as u64;
                }
                Piece::Torn { at } => self.set_aside(number, name, at as u64, &bytes[at..]),
            }
        }
        // Appending goes on in a segment of its own, so that this need not work; the bound counts what is there.
        if end < segment.len && self.disk.truncate(name, end).is_ok() {
            self.set_len(number, end);
        }
    }

    fn set_aside(&mut self, number: u64, name: &str, at: u64, bytes: &[u8]) {
        let aside = format!("{name}.{at}");
        match self.disk.set_aside(&aside, bytes) {
            Ok(true) => {
                self.counts.damaged += 1;
                tracing::error!(
                    segment = name,
                    at,
                    bytes = bytes.len(),
                    aside,
                    "a damaged stretch of the spool is set aside"
                );
            }
            Ok(false) => {}
            Err(error) => {
                self.counts.damaged += 1;
                self.unread.insert(number);
                tracing::error!(segment = name, at, %error, "a damaged stretch of the spool cannot be set aside");
            }
        }
    }

    /// Keeps a whole entry for someone to look at before it is closed.
    pub(crate) fn keep_aside(&mut self, place: Place, body: &[u8]) -> io::Result<()> {
        let Some(segment) = self.segments.get(&place.segment) else { return Ok(()) };
        let aside = format!("{}.{}", segment.name, place.at);
        self.disk.set_aside(&aside, body).map(drop)
    }

    /// Appends bodies together; all of them are there when this returns, or none. Gives their numbers and places.
    pub(crate) fn append(&mut self, bodies: &[&[u8]]) -> io::Result<Vec<(u64, Place)>> {
        let first = self.next_seq;
        // Also of an attempt that fails: what it wrote may not be cut off, and is found at the next start.
        self.next_seq += bodies.len() as u64;
        let numbered: Vec<(u64, &[u8])> = (first..).zip(bodies.iter().copied()).collect();
        let places = self.append_numbered(&numbered, self.sync == Sync::Always)?;
        self.counts.accepted_bytes += bodies.iter().map(|body| body.len() as u64).sum::<u64>();
        Ok((first..).zip(places).collect())
    }

    /// Writes entries again, to the youngest segment, under their own numbers. They are on the disk when this returns,
    /// whatever `sync` says: where they were before goes.
    pub(crate) fn move_up(&mut self, bodies: &[(u64, &[u8])]) -> io::Result<Vec<Place>> {
        self.append_numbered(bodies, true)
    }

    fn append_numbered(&mut self, bodies: &[(u64, &[u8])], is_synced: bool) -> io::Result<Vec<Place>> {
        let len: usize = bodies.iter().map(|(_, body)| frame::HEAD + body.len()).sum();
        let (number, segment) = self.writable(len as u64)?;
        let mut bytes = Vec::with_capacity(len);
        let mut places = Vec::with_capacity(bodies.len());
        for (seq, body) in bodies {
            let at = segment.len + bytes.len() as u64;
            frame::write(&mut bytes, segment.salt, *seq, body);
            places.push(Place { segment: number, at, len: segment.len + bytes.len() as u64 - at });
        }
        let was_unsynced = std::mem::replace(&mut self.is_unsynced, true);
        let appended = self.disk.append(&segment.name, &bytes);
        let appended =
            appended.and_then(|()| if is_synced { self.sync_segment(&segment.name) } else { Ok(()) });
        if let Err(error) = appended {
            // Also after a failed sync: nobody knows what the disk has. A kill in between leaves entries that nobody was
            // told of; the caller's own commit tells them from others.
            let is_cut = self.disk.truncate(&segment.name, segment.len).is_ok();
            if segment.len == 0 {
                // It is no segment yet. What cannot be removed is looked at by the next start.
                let _left = self.disk.remove(&segment.name).is_err();
                self.is_unsynced = was_unsynced;
            } else if !is_cut {
                self.current = None;
            }
            return Err(error);
        }
        self.counts.written_bytes += bytes.len() as u64;
        self.current = Some(number);
        self.segments.insert(number, Segment { len: segment.len + bytes.len() as u64, ..segment });
        Ok(places)
    }

    /// The segment that takes `len` more bytes; a new one is among the others once something has been written to it.
    fn writable(&mut self, len: u64) -> io::Result<(u64, Segment)> {
        if let Some(number) = self.current
            && let Some(segment) = self.segments.get(&number)
            && segment.len + len <= self.segment_bytes
        {
            return Ok((number, segment.clone()));
        }
        if self.current.is_some() && self.sync != Sync::Never {
            self.flush()?;
        }
        let (number, salt) = (self.next_segment, (self.salt)());
        self.next_segment += 1;
        self.has_new_name = true;
        Ok((number, Segment { name: format!("{number:012x}-{salt:08x}.seg"), salt, len: 0 }))
    }

    /// What was appended is on the disk when this returns.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        let name =
            self.current.and_then(|number| self.segments.get(&number)).map(|segment| segment.name.clone());
        match name.filter(|_| self.is_unsynced) {
            Some(name) => self.sync_segment(&name),
            None => Ok(()),
        }
    }

    fn sync_segment(&mut self, name: &str) -> io::Result<()> {
        self.disk.sync(name)?;
        self.counts.syncs += 1;
        if self.has_new_name {
            self.disk.sync_names()?;
            self.has_new_name = false;
        }
        self.is_unsynced = false;
        Ok(())
    }

    /// An entry's body. A damaged one is set aside and gives `None`.
    pub(crate) fn read(&mut self, seq: u64, place: Place) -> io::Result<Option<Vec<u8>>> {
        let Some(segment) = self.segments.get(&place.segment).cloned() else { return Ok(None) };
        let bytes = self.disk.read(&segment.name, place.at, place.len as usize)?;
        match frame::body(segment.salt, seq, &bytes) {
            Some(body) => Ok(Some(body.to_vec())),
            None => {
                self.set_aside(place.segment, &segment.name, place.at, &bytes);
                Ok(None)
            }
        }
    }

    /// Nothing of it is needed any more. True if it is gone and stays gone, also after a power cut; otherwise this is to be
    /// tried again.
    pub(crate) fn remove(&mut self, number: u64) -> bool {
        if self.is_unread(number) {
            return false;
        }
        if let Some(segment) = self.segments.get(&number) {
            if let Err(error) = self.disk.remove(&segment.name)
                && error.kind() != io::ErrorKind::NotFound
            {
                tracing::warn!(segment = segment.name, %error, "a segment cannot be removed; it still takes room");
                return false;
            }
            self.segments.remove(&number);
            if self.current == Some(number) {
                self.current = None;
                self.is_unsynced = false;
            }
        }
        // Also of one that was removed before and whose name could not be synced then.
        self.has_synced_names()
    }

    /// What has been removed stays removed.
    pub(crate) fn has_synced_names(&mut self) -> bool {
        let synced = self.disk.sync_names();
        synced.inspect_err(|error| tracing::warn!(%error, "a removed segment may come back")).is_ok()
    }

    /// Bytes of one segment on the disk; 0 if there is no such segment.
    pub(crate) fn len_of(&self, number: u64) -> u64 {
        self.segments.get(&number).map_or(0, |segment| segment.len)
    }

    /// Bytes of all segments on the disk.
    pub(crate) fn bytes(&self) -> u64 {
        self.segments.values().map(|segment| segment.len).sum()
    }

    pub(crate) fn segments(&self) -> impl Iterator<Item = u64> + '_ {
        self.segments.keys().copied()
    }

    /// The one that is appended to.
    pub(crate) fn current(&self) -> Option<u64> {
        self.current
    }

    /// True if a segment holds something that could neither be read nor set aside, and must not be removed.
    pub(crate) fn is_unread(&self, number: u64) -> bool {
        self.unread.contains(&number)
    }

    /// True if there may be entries that were not handed out.
    pub(crate) fn has_unread(&self) -> bool {
        !self.unread.is_empty() || self.disk.is_blind()
    }

    /// Pieces set aside, and their bytes.
    pub(crate) fn aside(&mut self) -> (u64, u64) {
        self.disk.aside().unwrap_or((0, 0))
    }

    fn set_len(&mut self, number: u64, len: u64) {
        if let Some(segment) = self.segments.get_mut(&number) {
            segment.len = len;
        }
    }
}

/// `<number, hex>-<salt, hex>.seg`
fn parse(name: &str) -> Option<(u64, u32)> {
    let (number, salt) = name.strip_suffix(".seg")?.split_once('-')?;
    Some((u64::from_str_radix(number, 16).ok()?, u32::from_str_radix(salt, 16).ok()?))
}
