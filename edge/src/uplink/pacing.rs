//! How fast bulk may go, so that live calls do not notice: pure. While they take as long as they do without bulk it goes
//! faster; when they take longer, or one is lost, it goes at a fraction.

use std::time::{Duration, Instant};

/// Bytes a second at first; the bounds follow.
const FIRST: f64 = 256.0 * 1024.0;
const SLOWEST: f64 = 8.0 * 1024.0;
const FASTEST: f64 = 256.0 * 1024.0 * 1024.0;
/// A live call that takes this much longer on the line than the fastest of the last minute waits for bulk.
const TOLERATED: Duration = Duration::from_millis(25);
/// A live call may also take longer by this share of the fastest.
const TOLERATED_SHARE: f64 = 0.5;
const GROWTH: f64 = 1.1;
const CUT: f64 = 0.6;
/// The rate is changed no more often: what is under way has to show its effect.
const STEP: Duration = Duration::from_millis(200);
/// After a live call that waited half of what is tolerated there is no growth for so long, or until one did not wait.
const DOUBT: Duration = Duration::from_secs(2);
/// The fastest call is forgotten after this time: lines change.
const MEMORY: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(super) struct Pacing {
    rate: f64,
    changed: Instant,
    /// The fastest round trip on the line, and when it was seen.
    fastest: Option<(Duration, Instant)>,
    /// Live calls wait a little; until then.
    doubted: Instant,
}

impl Pacing {
    pub(super) fn new(now: Instant) -> Self {
        Self { rate: FIRST, changed: now, fastest: None, doubted: now }
    }

    pub(super) fn rate(&self) -> u64 {
        self.rate as u64
    }

    /// A live call spent `network` on the line.
    pub(super) fn live(&mut self, network: Duration, is_bulk_out: bool, now: Instant) {
        let is_old = |seen: Instant| now.saturating_duration_since(seen) > MEMORY;
        if self.fastest.is_none_or(|(fastest, seen)| network <= fastest || is_old(seen)) {
            self.fastest = Some((network, now));
        }
        let fastest = self.fastest.map_or(network, |(fastest, _)| fastest);
        let tolerated = TOLERATED.max(fastest.mul_f64(TOLERATED_SHARE));
        self.doubted = if network > fastest + tolerated / 2 { now + DOUBT } else { now };
        if is_bulk_out && network > fastest + tolerated {
            self.change(CUT, now);
        }
    }

    /// A bulk call of `bytes` was answered and took `took`.
    pub(super) fn passed(&mut self, bytes: u64, took: Duration, now: Instant) {
        // Growth beyond what passes would mean nothing.
        let passes = bytes as f64 / took.as_secs_f64().max(1e-3);
        if passes * 4.0 > self.rate && now >= self.doubted {
            self.change(GROWTH, now);
        }
    }

    /// One was not.
    pub(super) fn lost(&mut self, now: Instant) {
        self.change(CUT, now);
    }

    fn change(&mut self, factor: f64, now: Instant) {
        if now.saturating_duration_since(self.changed) >= STEP {
            self.rate = (self.rate * factor).clamp(SLOWEST, FASTEST);
            self.changed = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// A line of `capacity` bytes a second and 40 ms, on which bulk of the pace's rate queues up and live calls wait
    /// behind it. Gives the mean rate and the mean wait of the last minute.
    fn simulated(capacity: f64) -> (f64, f64) {
        let mut now = Instant::now();
        let mut pacing = Pacing::new(now);
        let (mut queue, mut rates, mut waits) = (0.0_f64, Vec::new(), Vec::new());
        for step in 0..12_000 {
            now += MS * 10;
            queue = (queue + pacing.rate / 100.0 - capacity / 100.0).max(0.0);
            let wait = queue / capacity;
            if step % 5 == 0 {
                pacing.live(MS * 40 + Duration::from_secs_f64(wait), true, now);
            }
            let passes = pacing.rate.min(capacity);
            pacing.passed(passes as u64 / 100, MS * 10, now);
            if step >= 6_000 {
                rates.push(passes / capacity);
                waits.push(wait);
            }
        }
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
        (mean(&rates), mean(&waits))
    }

    #[test]
    fn bulk_finds_the_line_s_rate_and_keeps_its_queue_short() {
        for capacity in [12_500.0, 125_000.0, 2_500_000.0] {
            let (used, wait) = simulated(capacity);
            assert!(used > 0.6 && wait < 0.1, "{capacity}: {used} of the line, {wait} s");
        }
    }

    #[test]
    fn the_rate_has_bounds() {
        let mut now = Instant::now();
        let mut pacing = Pacing::new(now);
        for _ in 0..200 {
            now += MS * 300;
            pacing.lost(now);
        }
        assert_eq!(pacing.rate(), SLOWEST as u64);
        for _ in 0..200 {
            now += MS * 300;
            pacing.passed(1 << 40, MS, now);
        }
        assert_eq!(pacing.rate(), FASTEST as u64);
    }
}
