//! Answers kept, to be given again to who asks the same: opt-in, bounded in bytes, the least recently used go first.
//!
//! * An answer is found by the load of the model that gave it and a SHA-256 of what was asked: whatever a client sends,
//!   it cannot make two questions look alike.
//! * A load's number, not a digest of its file: weights may lie beside the file, and a load is never confused with
//!   another. The bundle is loaded once, so for its models this is the bundle's digest.
//! * What was asked is compared by bits: NaN equals itself, 0 and -0 differ. An answer is kept whole, so that who asks
//!   for fewer outputs is served from it.
//! * Two who ask the same at once are both computed; the later answer stays.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lru::LruCache;
use millgate_shared::array::Array;
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;

use super::config::CacheConfig;
use super::served::Served;
use crate::failure::Failure;
use crate::scheduling::ModelId;

/// More is hashed on a thread of its own, so that no other call waits for it.
const HASHED_HERE: usize = 256 << 10;
/// Large inputs hashed at a time.
const HASHED_ELSEWHERE: usize = 2;
/// What an answer takes beside its values: key, list, shapes.
const OVERHEAD: usize = 256;

/// What finds an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    model: ModelId,
    asked: [u8; 32],
}

/// What the cache holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) bytes: usize,
    pub(crate) capacity: usize,
    pub(crate) entries: usize,
    /// Answers that made room for others.
    pub(crate) evictions: u64,
}

#[derive(Debug)]
pub(crate) struct Cache {
    capacity: usize,
    /// The bundle's models are cached too.
    bundle: bool,
    kept: Mutex<Kept>,
    hashing: Semaphore,
}

#[derive(Debug)]
struct Kept {
    answers: LruCache<Key, Arc<Vec<Array>>>,
    bytes: usize,
    evictions: u64,
}

impl Cache {
    /// `None` where no bytes are granted.
    pub(super) fn new(config: &CacheConfig) -> Option<Self> {
        let kept = Kept { answers: LruCache::unbounded(), bytes: 0, evictions: 0 };
        (config.bytes > 0).then(|| Self {
            capacity: config.bytes,
            bundle: config.bundle,
            kept: Mutex::new(kept),
            hashing: Semaphore::new(HASHED_ELSEWHERE),
        })
    }

    /// Whether this model's answers are kept. A decision is a record of its own each time, so a composite's are not.
    pub(super) fn is_for(&self, served: &Served) -> bool {
        let opted_in = match served.traits.is_fixed {
            true => self.bundle,
            false => served.traits.config.response_cache.as_ref().is_some_and(|cache| cache.enable),
        };
        opted_in && !served.is_composite
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the inputs back. `parameters`: the request's own, as text.
    pub(super) async fn key(
        &self,
        model: ModelId,
        parameters: &str,
        inputs: Vec<Array>,
    ) -> Result<(Key, Vec<Array>), Failure> {
        let bytes: usize = inputs.iter().map(|input| input.values().size()).sum();
        if bytes <= HASHED_HERE {
            return Ok((Key { model, asked: digest(parameters, &inputs) }, inputs));
        }
        let stopped = |_| Failure::Stopped;
        let _permit = self.hashing.acquire().await.map_err(stopped)?;
        let parameters = parameters.to_owned();
        let hashed = tokio::task::spawn_blocking(move || (digest(&parameters, &inputs), inputs)).await;
        let (asked, inputs) = hashed.map_err(|error| Failure::Model(error.to_string()))?;
        Ok((Key { model, asked }, inputs))
    }

    /// All outputs, in the signature's order.
    pub(super) fn get(&self, key: &Key) -> Option<Arc<Vec<Array>>> {
        self.lock().answers.get(key).cloned()
    }

    /// Keeps an answer, at the cost of those that were not asked for the longest; one that is larger than all the room
    /// there is is not kept.
    pub(super) fn put(&self, key: Key, outputs: Vec<Array>) {
        let bytes = size(&outputs);
        if bytes > self.capacity {
            return;
        }
        let mut kept = self.lock();
        if let Some(before) = kept.answers.put(key, Arc::new(outputs)) {
            kept.bytes -= size(&before);
        }
        kept.bytes += bytes;
        while kept.bytes > self.capacity
            && let Some((_, oldest)) = kept.answers.pop_lru()
        {
            kept.bytes -= size(&oldest);
            kept.evictions += 1;
        }
    }

    /// A load is over; an answer that is under way to the cache is never found, and goes as others do.
    pub(super) fn forget(&self, model: ModelId) {
        let mut kept = self.lock();
        let gone: Vec<Key> =
            kept.answers.iter().map(|(key, _)| *key).filter(|key| key.model == model).collect();
        for key in gone {
            if let Some(outputs) = kept.answers.pop(&key) {
                kept.bytes -= size(&outputs);
            }
        }
    }

    pub(super) fn usage(&self) -> Usage {
        let kept = self.lock();
        let (entries, evictions) = (kept.answers.len(), kept.evictions);
        Usage { bytes: kept.bytes, capacity: self.capacity, entries, evictions }
    }
}

fn size(outputs: &[Array]) -> usize {
    OVERHEAD + outputs.iter().map(|output| output.values().size()).sum::<usize>()
}

/// Every part is preceded by its length, so that no two questions are the same bytes.
fn digest(parameters: &str, inputs: &[Array]) -> [u8; 32] {
    let mut hash = Sha256::new();
    let number = |hash: &mut Sha256, number: usize| hash.update((number as u64).to_le_bytes());
    number(&mut hash, parameters.len());
    hash.update(parameters);
    number(&mut hash, inputs.len());
    for input in inputs {
        let name = input.datatype().name();
        number(&mut hash, name.len());
        hash.update(name);
        number(&mut hash, input.shape().len());
        for axis in input.shape() {
            number(&mut hash, *axis);
        }
        // The shape says how many elements follow; each says how long it is.
        input.values().visit_raw(|raw| hash.update(raw));
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests;
