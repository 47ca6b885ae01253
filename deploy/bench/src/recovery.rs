//! How a server takes bursts and how soon after one it is as it was before. Pure.
//!
//! One burst says little, since few requests fall into 10 ms; so all bursts of a run are laid over each other, aligned
//! at their ends.

use std::time::Duration;

use serde::Serialize;

use crate::schedule::Burst;
use crate::summary::Sample;

const WINDOW: Duration = Duration::from_millis(10);
/// Recovered is a window whose share of requests answered in time is this part of the share before the bursts...
const NEARLY: f64 = 0.95;
/// ...and so are this many after it.
const HELD: usize = 3;

/// Recovery of good requests, over all bursts of a run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Recovery {
    pub bursts: usize,
    /// Requests per second in the bursts.
    pub offered: f64,
    /// Right answers within the deadline that came while a burst lasted, per second.
    pub goodput: f64,
    /// Share of the requests due in the bursts that was answered in time.
    pub share: f64,
    /// Share of the requests due outside, before each burst, that was answered in time.
    pub share_before: f64,
    /// Milliseconds from a burst's end to the first 10 ms from which on requests are answered in time as before; `None` if
    /// that was not seen before the next burst.
    pub recovery_ms: Option<f64>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Tally {
    due: usize,
    in_time: usize,
}

impl Tally {
    fn add(&mut self, in_time: bool) {
        self.due += 1;
        self.in_time += usize::from(in_time);
    }

    fn share(self) -> f64 {
        self.in_time as f64 / self.due.max(1) as f64
    }
}

/// `None` if there was no burst.
pub fn of(
    samples: &[Sample],
    burst: Burst,
    starts: &[Duration],
    deadline: Option<Duration>,
) -> Option<Recovery> {
    if starts.is_empty() {
        return None;
    }
    let calm = burst.every.saturating_sub(burst.length);
    let mut after = vec![Tally::default(); (calm.as_nanos() / WINDOW.as_nanos()) as usize / 2];
    let (mut during, mut before, mut answered) = (Tally::default(), Tally::default(), 0);
    for sample in samples.iter().filter(|sample| !sample.is_poison) {
        let in_time = sample.is_in_time(deadline);
        for start in starts {
            let end = *start + burst.length;
            answered += usize::from(in_time && (*start..end).contains(&sample.done));
            if (*start..end).contains(&sample.due) {
                during.add(in_time);
            } else if sample.due >= end && sample.due < end + calm / 2 {
                let window = ((sample.due - end).as_nanos() / WINDOW.as_nanos()) as usize;
                if let Some(tally) = after.get_mut(window) {
                    tally.add(in_time);
                }
            } else if sample.due < *start && sample.due + calm / 2 >= *start {
                before.add(in_time);
            }
        }
    }
    let seconds = burst.length.as_secs_f64() * starts.len() as f64;
    let recovered = first_held(&after, NEARLY * before.share());
    Some(Recovery {
        bursts: starts.len(),
        offered: during.due as f64 / seconds,
        goodput: answered as f64 / seconds,
        share: during.share(),
        share_before: before.share(),
        recovery_ms: recovered.map(|window| window as f64 * WINDOW.as_secs_f64() * 1e3),
    })
}

/// The first window from which on `HELD + 1` in a row reach `wanted`; windows in which nothing was due say nothing.
fn first_held(windows: &[Tally], wanted: f64) -> Option<usize> {
    let mut told = windows.iter().enumerate().filter(|(_, tally)| tally.due > 0).peekable();
    let mut held: Option<(usize, usize)> = None;
    while let Some((at, tally)) = told.next() {
        held = match (tally.share() >= wanted, held) {
            (false, _) => None,
            (true, None) => Some((at, 1)),
            (true, Some((first, length))) => Some((first, length + 1)),
        };
        if let Some((first, length)) = held
            && (length > HELD || told.peek().is_none())
        {
            return Some(first);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::summary::End;
    use tonic::Code;

    const DEADLINE: Duration = Duration::from_millis(50);

    fn burst() -> Burst {
        let ms = Duration::from_millis;
        Burst { rate: 1000.0, first: ms(1000), length: ms(200), every: ms(2000) }
    }

    /// One request a millisecond; late from the burst's start until so long after its end.
    fn samples(late_for: u64) -> Vec<Sample> {
        let one = |at: u64| {
            let due = Duration::from_millis(at);
            let is_late = (at + 1000) % 2000 < 200 + late_for;
            let end = if is_late { End::Failed(Code::DeadlineExceeded) } else { End::Ok };
            Sample { model: 0, is_poison: false, due, sent: due, done: due + Duration::from_millis(5), end }
        };
        (0..6000).map(one).collect()
    }

    #[test]
    fn recovery_is_the_time_from_a_bursts_end_to_answers_as_before() {
        let starts = [1, 3].map(Duration::from_secs);
        let of = |late_for| of(&samples(late_for), burst(), &starts, Some(DEADLINE)).unwrap();
        for (late_for, recovery_ms) in [(0, Some(0.0)), (37, Some(40.0)), (120, Some(120.0)), (899, None)] {
            let seen = of(late_for);
            assert_eq!((seen.recovery_ms, seen.bursts), (recovery_ms, 2), "{late_for}");
            assert!((seen.offered - 1000.0).abs() < 1e-6);
        }
        assert_eq!((of(37).share, of(37).share_before), (0.0, 1.0));
        // What was due just before the burst was answered in it.
        assert!((of(37).goodput - 25.0).abs() < 1e-6);
    }

    #[test]
    fn a_window_that_is_well_by_chance_is_no_recovery() {
        let tally = |share: usize| Tally { due: 10, in_time: share };
        let windows: Vec<Tally> = [0, 10, 0, 10, 10, 10, 10, 10].map(tally).to_vec();
        assert_eq!(first_held(&windows, 0.95), Some(3));
        assert_eq!(first_held(&[tally(0), Tally::default(), tally(10)], 0.95), Some(2));
        assert_eq!(first_held(&[tally(0)], 0.95), None);
        assert!(of(&[], burst(), &[], None).is_none());
    }
}
