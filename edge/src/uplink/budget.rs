//! The byte budget of the uplink: how much has gone up, what may still go, and at what price. Pure: it takes the time in
//! seconds of a clock that never runs back, and does no IO.
//!
//! # Windows
//! Both windows slide: in *any* sixty minutes no more than `per_hour` bytes go up, in any 24 hours no more than `per_day`.
//! A calendar hour would let twice as much through round its turn. Bytes are kept by slots of a minute and of a quarter of
//! an hour, and a slot counts until the whole of it is out of the window, so the sums are never too low.
//!
//! # Price
//! A live call is worth the risk of the local answer that it would replace: the calibrated probability, 0 to 1, that it is wrong.
//! With a share `z` of a window used, its price is `(k^z - 1) / (k - 1)`, `k = e * U / L`: the threshold function for the online knapsack
//! problem (Zhou, Chakrabarty and Lukose, 2008) for values from `L = 0.01` to `U = 1`, moved so that an untouched budget costs
//! nothing and a spent one more than anything is worth. Half a budget used costs 0.06, four fifths 0.32. In a sliding window the price
//! settles where what is worth it is as much as what falls out of the window: the bytes go to the highest risks.
//!
//! The price says who is asked, and nothing else: an answer's weight and the certified thresholds know nothing of it.
//!
//! # Live before the rest
//! The backlog may use three quarters of each window and bulk a half; the rest is for live calls.
//!
//! # Across restarts
//! What is on disk counts an advance on top of what was spent, and only bytes within it may go. So a kill loses at most an
//! advance of the budget, and never gives any back. See [`Budget::must_save`].

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// `[offload.budget]`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Bytes in any sixty minutes; 0: no limit.
    pub per_hour: u64,
    /// Bytes in any 24 hours; 0: no limit.
    pub per_day: u64,
}

impl Limits {
    pub fn is_none(self) -> bool {
        self == Self::default()
    }
}

/// Who wants to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Traffic {
    /// A sample's decision waits for it.
    Live,
    /// A sample that is decided, whose decision may still be amended.
    Backlog,
    /// What nobody waits for.
    Bulk,
}

impl Traffic {
    pub const ALL: [Self; 3] = [Self::Live, Self::Backlog, Self::Bulk];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Backlog => "backlog",
            Self::Bulk => "bulk",
        }
    }

    /// Hundredths of each window's bytes that this traffic may use.
    fn share(self) -> u64 {
        match self {
            Self::Live => 100,
            Self::Backlog => 75,
            Self::Bulk => 50,
        }
    }
}

/// Why bytes stay here.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum Refused {
    #[error("risk {risk:.4} < price {price:.4} of the byte budget")]
    Price { risk: f64, price: f64 },
    #[error("the byte budget is spent")]
    Spent,
    #[error("the line is metered")]
    Metered,
    #[error("the byte budget cannot be kept in the state directory")]
    Unsaved,
}

impl Refused {
    pub const NAMES: [&str; 4] = ["price", "spent", "metered", "unsaved"];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Price { .. } => "price",
            Self::Spent => "spent",
            Self::Metered => "metered",
            Self::Unsaved => "unsaved",
        }
    }
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ask {
    pub traffic: Traffic,
    pub bytes: u64,
    /// Risk of the local answer, 0 to 1; `None` where the operator's mode asks without one, at any price.
    pub risk: Option<f64>,
    /// Whether the line costs by the byte.
    pub is_metered: bool,
}

/// The budget's state as it lies in the state directory.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Saved {
    /// The budget's own clock, in seconds.
    pub now: u64,
    /// Bytes spent in the last hour, as (slot, bytes).
    hour: Vec<(u64, u64)>,
    day: Vec<(u64, u64)>,
    /// Bytes that may have gone up since the file was written.
    ahead: u64,
}

/// See the module's head.
#[derive(Debug, Clone)]
pub struct Budget {
    hour: Window,
    day: Window,
    now: u64,
    /// What is on disk counts so many bytes more than were spent.
    ahead: u64,
}

const HOUR: (u64, u64) = (60 * 60, 60);
const DAY: (u64, u64) = (24 * 60 * 60, 15 * 60);

/// The value that a price of 0 grows from, by `e * U / L` to the whole.
const LEAST_VALUE: f64 = 0.01;
/// A metered line asks the price of a budget that is used so far at the least.
const METERED_USE: f64 = 0.5;
/// An advance is so large a part of the smallest limit; it is what a kill can cost.
const ADVANCES: u64 = 64;
const LEAST_ADVANCE: u64 = 4 << 10;

impl Budget {
    pub fn new(limits: Limits, now: u64) -> Self {
        Self {
            hour: Window::new(HOUR, limits.per_hour),
            day: Window::new(DAY, limits.per_day),
            now,
            ahead: 0,
        }
    }

    /// Goes on from what was saved, `elapsed` seconds later. What may have been sent after saving counts as sent now.
    pub fn restore(limits: Limits, saved: &Saved, elapsed: u64) -> Self {
        let now = saved.now.saturating_add(elapsed);
        let mut this = Self::new(limits, now);
        this.hour.fill(&saved.hour, saved.now);
        this.day.fill(&saved.day, saved.now);
        for window in this.windows() {
            window.spend(now, saved.ahead);
        }
        this.tick(now);
        this
    }

    /// A budget of which all is spent: what to go on from if nobody knows what was.
    pub fn spent(limits: Limits, now: u64) -> Self {
        let mut this = Self::new(limits, now);
        for window in this.windows() {
            window.spend(now, window.limit);
        }
        this
    }

    fn windows(&mut self) -> [&mut Window; 2] {
        [&mut self.hour, &mut self.day]
    }

    /// The time; one that is earlier than another before it changes nothing.
    pub fn tick(&mut self, now: u64) {
        self.now = self.now.max(now);
        let now = self.now;
        for window in self.windows() {
            window.expire(now);
        }
    }

    /// Seconds of its own clock.
    pub fn now(&self) -> u64 {
        self.now
    }

    /// Whether so many bytes may go now. Nothing is spent yet.
    pub fn may(&self, ask: &Ask) -> Result<(), Refused> {
        if ask.is_metered && ask.traffic != Traffic::Live {
            return Err(Refused::Metered);
        }
        if ![&self.hour, &self.day].iter().all(|window| window.has_room(ask)) {
            return Err(Refused::Spent);
        }
        let price = self.price(ask.bytes, ask.is_metered);
        match ask.risk {
            Some(risk) if ask.traffic == Traffic::Live && risk < price => Err(Refused::Price { risk, price }),
            _ => Ok(()),
        }
    }

    /// What a live call of so many bytes must be worth.
    pub fn price(&self, bytes: u64, is_metered: bool) -> f64 {
        let used = self.hour.used(bytes).max(self.day.used(bytes));
        price(if is_metered { METERED_USE + (1.0 - METERED_USE) * used } else { used })
    }

    /// True if so many bytes may only go once [`Budget::advance`] is on disk.
    pub fn must_save(&self, bytes: u64) -> bool {
        self.is_limited() && bytes > self.ahead
    }

    /// What to put on disk so that these bytes may go, and some more after them.
    pub fn advance(&self, bytes: u64) -> Saved {
        let limits = [self.hour.limit, self.day.limit];
        let least = limits.into_iter().filter(|limit| *limit > 0).min().unwrap_or(0);
        self.saved(bytes.saturating_add((least / ADVANCES).max(LEAST_ADVANCE)))
    }

    /// What to put on disk at the end: nothing more will be spent.
    pub fn exact(&self) -> Saved {
        self.saved(0)
    }

    fn saved(&self, ahead: u64) -> Saved {
        Saved { now: self.now, hour: self.hour.slots(), day: self.day.slots(), ahead }
    }

    /// Takes note that `saved` is on the disk.
    pub fn has_saved(&mut self, saved: &Saved) {
        self.ahead = saved.ahead;
    }

    /// Spends the bytes of what goes up now.
    pub fn spend(&mut self, bytes: u64) {
        let now = self.now;
        for window in self.windows() {
            window.spend(now, bytes);
        }
        self.ahead = self.ahead.saturating_sub(bytes);
    }

    /// They did not go after all. Only for bytes that were spent a moment ago.
    pub fn refund(&mut self, bytes: u64) {
        for window in self.windows() {
            window.refund(bytes);
        }
    }

    /// Bytes that may still go within the hour and within the day; `None` without a limit.
    pub fn left(&self) -> [Option<u64>; 2] {
        [&self.hour, &self.day]
            .map(|window| (window.limit > 0).then(|| window.limit.saturating_sub(window.sum)))
    }

    pub fn limits(&self) -> Limits {
        Limits { per_hour: self.hour.limit, per_day: self.day.limit }
    }

    pub fn is_limited(&self) -> bool {
        !self.limits().is_none()
    }

    /// Seconds until so many bytes of this traffic would find room if no others came; `None`: never, they are too many.
    pub fn room_in(&self, traffic: Traffic, bytes: u64) -> Option<u64> {
        let waits = [&self.hour, &self.day].map(|window| window.room_in(traffic, bytes, self.now));
        waits.into_iter().try_fold(0, |longest, wait| Some(longest.max(wait?)))
    }
}

/// With a share `used` of a window gone, 0 to 1.
fn price(used: f64) -> f64 {
    let growth = std::f64::consts::E / LEAST_VALUE;
    (growth.powf(used) - 1.0) / (growth - 1.0)
}

/// The bytes of one sliding window.
#[derive(Debug, Clone)]
struct Window {
    /// Seconds.
    length: u64,
    grain: u64,
    /// 0: none.
    limit: u64,
    /// (slot, bytes), oldest first; a slot is the time over the grain.
    spent: VecDeque<(u64, u64)>,
    sum: u64,
}

impl Window {
    fn new((length, grain): (u64, u64), limit: u64) -> Self {
        Self { length, grain, limit, spent: VecDeque::new(), sum: 0 }
    }

    /// Fills the window with a file's slots, sorted, and none later than the file was written.
    fn fill(&mut self, slots: &[(u64, u64)], now: u64) {
        let mut slots: Vec<(u64, u64)> =
            slots.iter().map(|(slot, bytes)| ((*slot).min(now / self.grain), *bytes)).collect();
        slots.sort_unstable();
        self.sum = slots.iter().fold(0, |sum, (_, bytes)| sum.saturating_add(*bytes));
        self.spent = slots.into();
    }

    fn slots(&self) -> Vec<(u64, u64)> {
        self.spent.iter().copied().collect()
    }

    /// First second at which a slot is wholly out of the window.
    fn out_at(&self, slot: u64) -> u64 {
        (slot.saturating_add(1)).saturating_mul(self.grain).saturating_add(self.length)
    }

    fn expire(&mut self, now: u64) {
        while let Some((slot, bytes)) = self.spent.front().copied()
            && self.out_at(slot) <= now
        {
            self.spent.pop_front();
            self.sum = self.sum.saturating_sub(bytes);
        }
    }

    fn spend(&mut self, now: u64, bytes: u64) {
        if bytes == 0 {
            return;
        }
        let slot = now / self.grain;
        match self.spent.back_mut() {
            Some((last, sum)) if *last >= slot => *sum = sum.saturating_add(bytes),
            _ => self.spent.push_back((slot, bytes)),
        }
        self.sum = self.sum.saturating_add(bytes);
    }

    fn refund(&mut self, bytes: u64) {
        if let Some((_, last)) = self.spent.back_mut() {
            let back = bytes.min(*last);
            *last -= back;
            self.sum = self.sum.saturating_sub(back);
        }
    }

    fn allowed(&self, traffic: Traffic) -> u64 {
        (u128::from(self.limit) * u128::from(traffic.share()) / 100) as u64
    }

    fn has_room(&self, ask: &Ask) -> bool {
        self.limit == 0 || self.sum.saturating_add(ask.bytes) <= self.allowed(ask.traffic)
    }

    /// Share of it with so many bytes more.
    fn used(&self, bytes: u64) -> f64 {
        match self.limit {
            0 => 0.0,
            limit => (self.sum.saturating_add(bytes) as f64 / limit as f64).min(1.0),
        }
    }

    fn room_in(&self, traffic: Traffic, bytes: u64, now: u64) -> Option<u64> {
        let allowed = self.allowed(traffic);
        if self.limit == 0 {
            return Some(0);
        }
        if bytes > allowed {
            return None;
        }
        let mut sum = self.sum.saturating_add(bytes);
        let mut wait = 0;
        for (slot, gone) in &self.spent {
            if sum <= allowed {
                break;
            }
            sum = sum.saturating_sub(*gone);
            wait = self.out_at(*slot).saturating_sub(now);
        }
        Some(wait)
    }
}

#[cfg(test)]
mod tests;
