//! What is said of something that anyone can make happen as often as they like: one line for each reason in a while. Pure.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// By reason; those are few and fixed.
#[derive(Debug)]
pub struct Quiet {
    pause: Duration,
    said: HashMap<&'static str, Said>,
}

#[derive(Debug)]
struct Said {
    at: Instant,
    /// How often the reason was left unsaid since.
    others: u64,
}

impl Quiet {
    pub fn new(pause: Duration) -> Self {
        Self { pause, said: HashMap::new() }
    }

    /// Counts a refusal; gives how many were left unsaid if this one is to be logged, else `None`.
    pub fn note(&mut self, reason: &'static str, now: Instant) -> Option<u64> {
        let Some(said) = self.said.get_mut(reason) else {
            self.said.insert(reason, Said { at: now, others: 0 });
            return Some(0);
        };
        if now.duration_since(said.at) < self.pause {
            said.others += 1;
            return None;
        }
        said.at = now;
        Some(std::mem::take(&mut said.others))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_one_line_and_a_number() {
        let (mut quiet, now) = (Quiet::new(Duration::from_secs(10)), Instant::now());
        let after = |ms| now + Duration::from_millis(ms);
        assert_eq!(quiet.note("a", now), Some(0));
        assert_eq!(quiet.note("b", after(1)), Some(0));
        for ms in 0..5000 {
            assert_eq!(quiet.note("a", after(ms)), None);
        }
        assert_eq!(quiet.note("a", after(10_000)), Some(5000));
        assert_eq!(quiet.note("a", after(20_000)), Some(0));
    }
}
