//! When people are told that the machine is in trouble: at once, and then once in a while as long as it lasts. Pure.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use millgate_shared::trouble::Trouble;

/// How long nothing more is said of trouble of the same kind.
const PERIOD: Duration = Duration::from_secs(600);
/// Trouble that has not been met for so long is over, if no file waits for its end.
const QUIET: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
pub(super) struct Alarm {
    /// When each kind was last said, and last met.
    kinds: BTreeMap<Trouble, (Instant, Instant)>,
}

impl Alarm {
    /// Takes note of trouble; true if it is to be said.
    pub(super) fn note(&mut self, trouble: Trouble, now: Instant) -> bool {
        match self.kinds.get_mut(&trouble) {
            Some((said, met)) => {
                *met = now;
                let is_due = now.duration_since(*said) >= PERIOD;
                if is_due {
                    *said = now;
                }
                is_due
            }
            None => {
                self.kinds.insert(trouble, (now, now));
                true
            }
        }
    }

    /// Takes note that no file waits for the end of trouble; gives the kinds that are over by that.
    pub(super) fn over(&mut self, now: Instant) -> Vec<Trouble> {
        let is_over = |met: Instant| now.duration_since(met) >= QUIET;
        let over = self.kinds.iter().filter(|(_, (_, met))| is_over(*met)).map(|(kind, _)| *kind).collect();
        self.kinds.retain(|_, (_, met)| !is_over(*met));
        over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_said_at_once_and_then_once_a_period() {
        let (mut alarm, start) = (Alarm::default(), Instant::now());
        let mut said = 0;
        for second in 0..1_300 {
            said += u32::from(alarm.note(Trouble::Rights, start + Duration::from_secs(second)));
        }
        assert_eq!(said, 3);
        let end = start + Duration::from_secs(1_300);
        assert!(alarm.note(Trouble::Device, end));
        assert_eq!(alarm.over(end + QUIET / 2), []);
        assert_eq!(alarm.over(end + QUIET), [Trouble::Rights, Trouble::Device]);
        assert!(alarm.note(Trouble::Rights, end + QUIET), "it is news again");
    }
}
