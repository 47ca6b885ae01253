//! The byte budget at work: one lock, one small file in the state directory, and the device's clock.
//!
//! [`Ledger::take`] is called on a model thread before a call is handed to the uplink. It writes to disk once an advance
//! (a 64th of the smallest limit): what may not be on disk may not go. Without a limit nothing is written.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

use millgate_shared::files;

use super::budget::{Ask, Budget};
pub use super::budget::{Limits, Refused, Traffic};
use super::elapsed::Moment;
use super::kept::{self, Kept, KeptError};
use super::upload::Form;

#[cfg(test)]
mod tests;

/// `[offload.budget]`, `offload.metered` and where what is spent is kept.
#[derive(Debug, Clone, Default)]
pub struct LedgerConfig {
    pub limits: Limits,
    pub is_metered: bool,
    /// The state directory; `None`: nothing is kept, for a process that decides on a few files and ends.
    pub dir: Option<PathBuf>,
}

/// A handle to the device's account of bytes. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Ledger {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// Whether the configuration sets a limit.
    is_limited: bool,
    inner: Mutex<Inner>,
    counts: Counts,
}

#[derive(Debug)]
struct Inner {
    budget: Budget,
    /// When the process started, and the budget's time then.
    started: (Moment, u64),
    file: Option<PathBuf>,
    /// Whether the configuration says that the line costs by the byte.
    is_metered: bool,
    /// What the operator switched to while the agent runs; `None` leaves the configuration's word.
    switched: Option<bool>,
    /// Whether the last attempt to write failed.
    is_broken: bool,
}

/// Bytes that went and calls that did not, since the start.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    bytes: [[AtomicU64; 3]; 3],
    refused: [AtomicU64; 4],
}

/// The budget as it is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Snapshot {
    pub limits: Limits,
    /// Within the hour and within the day; `None` without a limit.
    pub left: [Option<u64>; 2],
    /// What the next live call must be worth, 0 to 1.
    pub price: f64,
    pub is_metered: bool,
    /// What is spent cannot be written, so that nothing more goes.
    pub is_broken: bool,
}

impl Ledger {
    /// Reads what was spent before. A file that cannot be read means that the budget is taken as spent.
    pub fn open(config: &LedgerConfig) -> Self {
        let now = Moment::now();
        let file = config.dir.as_deref().map(kept::path);
        let kept = file.as_deref().map_or(Ok(None), Kept::read);
        let (budget, switched) = match kept {
            Ok(None) => (Budget::new(config.limits, now.wall()), None),
            Ok(Some(kept)) => {
                let elapsed = kept.moment.until(&now);
                (Budget::restore(config.limits, &kept.budget, elapsed), kept.metered)
            }
            Err(error) => {
                let file = file.as_deref().unwrap_or(Path::new(""));
                let aside = error.is_damage().then(|| files::set_aside(file));
                tracing::error!(%error, file = %file.display(), ?aside, "what was spent of the byte budget is not known; it is taken as spent");
                (Budget::spent(config.limits, now.wall()), None)
            }
        };
        let started = (now, budget.now());
        let inner =
            Inner { budget, started, file, is_metered: config.is_metered, switched, is_broken: false };
        let is_limited = inner.budget.is_limited();
        let inner = Mutex::new(inner);
        Self { shared: Arc::new(Shared { is_limited, inner, counts: Counts::default() }) }
    }

    /// May so many bytes go? If so they are spent. `risk` is the local answer's; `None` where the mode asks without one.
    pub fn take(&self, traffic: Traffic, form: Form, bytes: u64, risk: Option<f64>) -> Result<(), Refused> {
        let taken = self.lock().take(traffic, bytes, risk);
        self.count(traffic, form, bytes, taken)
    }

    fn count(
        &self,
        traffic: Traffic,
        form: Form,
        bytes: u64,
        taken: Result<(), Refused>,
    ) -> Result<(), Refused> {
        match &taken {
            Ok(()) => self.shared.counts.sent(traffic, form).fetch_add(bytes, Ordering::Relaxed),
            Err(refused) => self.shared.counts.refusals(*refused).fetch_add(1, Ordering::Relaxed),
        };
        taken
    }

    /// May a live call that is out go once more, as a hedge or because its line broke? For async threads: it waits for
    /// nobody and writes nothing, so that the answer is no while another writes, or where what is spent must be written first.
    pub fn take_again(&self, form: Form, bytes: u64) -> Result<(), Refused> {
        let taken = match self.shared.is_limited.then(|| self.shared.inner.try_lock()) {
            None => Ok(()),
            Some(Ok(mut inner)) => inner.take_saved(bytes),
            Some(Err(TryLockError::Poisoned(poisoned))) => poisoned.into_inner().take_saved(bytes),
            Some(Err(TryLockError::WouldBlock)) => Err(Refused::Unsaved),
        };
        self.count(Traffic::Live, form, bytes, taken)
    }

    /// Bytes that were taken a moment ago did not go.
    pub fn refund(&self, traffic: Traffic, form: Form, bytes: u64) {
        self.lock().budget.refund(bytes);
        self.shared.counts.sent(traffic, form).fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Seconds after which so many bytes of this traffic may find room; `None`: not with these limits.
    pub fn room_in(&self, traffic: Traffic, bytes: u64) -> Option<u64> {
        let mut inner = self.lock();
        inner.tick();
        inner.budget.room_in(traffic, bytes)
    }

    /// May so many bytes go right now, whatever they are worth? Nothing is spent, counted or written.
    pub fn has_room(&self, traffic: Traffic, bytes: u64) -> bool {
        let mut inner = self.lock();
        inner.tick();
        let ask = Ask { traffic, bytes, risk: None, is_metered: inner.is_metered() };
        !inner.is_broken && inner.budget.may(&ask).is_ok()
    }

    /// Whether the line costs by the byte: the switch, or else the configuration.
    pub fn is_metered(&self) -> bool {
        self.lock().is_metered()
    }

    /// Switches while running, also for the runs after this one; `None` goes back to the configuration.
    pub fn switch_metered(&self, metered: Option<bool>) -> Result<(), KeptError> {
        let mut inner = self.lock();
        inner.tick();
        inner.switched = metered;
        let saved = inner.budget.exact();
        inner.write(saved)
    }

    pub fn snapshot(&self) -> Snapshot {
        let mut inner = self.lock();
        inner.tick();
        let is_metered = inner.is_metered();
        Snapshot {
            limits: inner.budget.limits(),
            left: inner.budget.left(),
            price: inner.budget.price(0, is_metered),
            is_metered,
            is_broken: inner.is_broken,
        }
    }

    pub(crate) fn counts(&self) -> &Counts {
        &self.shared.counts
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Whoever panicked under it left numbers that add up.
        self.shared.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn is_metered(&self) -> bool {
        self.switched.unwrap_or(self.is_metered)
    }

    fn tick(&mut self) {
        let (started, then) = &self.started;
        let now = then.saturating_add(started.until(&Moment::now()));
        self.budget.tick(now);
    }

    fn take(&mut self, traffic: Traffic, bytes: u64, risk: Option<f64>) -> Result<(), Refused> {
        self.tick();
        self.budget.may(&Ask { traffic, bytes, risk, is_metered: self.is_metered() })?;
        if self.budget.must_save(bytes) {
            let saved = self.budget.advance(bytes);
            self.write(saved).map_err(|_| Refused::Unsaved)?;
        }
        self.budget.spend(bytes);
        Ok(())
    }

    /// Only what is within the advance that has been written.
    fn take_saved(&mut self, bytes: u64) -> Result<(), Refused> {
        self.tick();
        let ask = Ask { traffic: Traffic::Live, bytes, risk: None, is_metered: self.is_metered() };
        self.budget.may(&ask)?;
        if self.budget.must_save(bytes) {
            return Err(Refused::Unsaved);
        }
        self.budget.spend(bytes);
        Ok(())
    }

    fn write(&mut self, saved: super::budget::Saved) -> Result<(), KeptError> {
        let Some(file) = &self.file else {
            self.budget.has_saved(&saved);
            return Ok(());
        };
        let kept = Kept { moment: Moment::now(), metered: self.switched, budget: saved };
        let written = kept.write(file);
        match &written {
            Ok(()) => self.budget.has_saved(&kept.budget),
            Err(error) if !self.is_broken => {
                tracing::error!(%error, "nothing goes up the line until what is spent can be kept");
            }
            Err(_) => {}
        }
        self.is_broken = written.is_err();
        written
    }
}

impl Drop for Inner {
    /// An orderly end gives back what is left of the advance.
    fn drop(&mut self) {
        if self.file.is_none() || !self.budget.is_limited() {
            return;
        }
        self.tick();
        let saved = self.budget.exact();
        if let Err(error) = self.write(saved) {
            tracing::warn!(%error, "the byte budget loses its advance");
        }
    }
}

impl Counts {
    pub(crate) fn sent(&self, traffic: Traffic, form: Form) -> &AtomicU64 {
        &self.bytes[traffic as usize][form as usize]
    }

    fn refusals(&self, refused: Refused) -> &AtomicU64 {
        let index = Refused::NAMES.iter().position(|name| *name == refused.as_str()).unwrap_or(0);
        &self.refused[index]
    }

    /// By name.
    pub(crate) fn refused(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Refused::NAMES.into_iter().zip(self.refused.iter().map(|count| count.load(Ordering::Relaxed)))
    }
}
