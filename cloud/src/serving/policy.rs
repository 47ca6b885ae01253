//! What a model's configuration says of its queue: levels of priority, how long and how many may wait at each.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::principal::USUAL_PRIORITY;
use crate::scheduling::MostWaiting;

/// The bounds of one level of priority.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Level {
    /// Deadline of a request, from its arrival; its own may be earlier, never later.
    pub(crate) timeout: Option<Duration>,
    /// Entries that may wait; one more is refused.
    pub(crate) most_waiting: Option<usize>,
}

/// The queue of one model.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct QueuePolicy {
    /// Levels 1 (first) to this; 0: a request's priority is taken as it is.
    pub(crate) levels: u64,
    /// The level of a request that names none, or one that is not there.
    pub(crate) default_level: u64,
    /// The bounds of every level that is not in `by_level`.
    pub(crate) default: Level,
    pub(crate) by_level: BTreeMap<u64, Level>,
}

impl QueuePolicy {
    /// The priority that a request gets, and its model's timeout there. `asked` is its own; 0 is as good as none.
    pub(super) fn of(&self, asked: Option<u64>) -> (u8, Option<Duration>) {
        let asked = asked.unwrap_or(0);
        if self.levels == 0 {
            let priority = if asked == 0 { USUAL_PRIORITY } else { u8::try_from(asked).unwrap_or(u8::MAX) };
            return (priority, self.default.timeout);
        }
        let level = if (1..=self.levels).contains(&asked) { asked } else { self.default_level };
        (self.priority(level), self.level(level).timeout)
    }

    /// The default level stands where requests of other models stand, the others before and behind it.
    fn priority(&self, level: u64) -> u8 {
        let centre = u64::from(USUAL_PRIORITY);
        let priority = if level < self.default_level {
            centre.saturating_sub(self.default_level - level)
        } else {
            centre.saturating_add(level - self.default_level)
        };
        u8::try_from(priority).unwrap_or(u8::MAX)
    }

    fn level(&self, level: u64) -> Level {
        self.by_level.get(&level).copied().unwrap_or(self.default)
    }

    pub(super) fn most_waiting(&self) -> MostWaiting {
        if self.levels == 0 {
            return self.default.most_waiting.map_or(MostWaiting::Unbounded, MostWaiting::All);
        }
        // Levels farther from the default share the priority of the farthest of these, and its bound.
        let (before, behind) = (u64::from(USUAL_PRIORITY), u64::from(u8::MAX - USUAL_PRIORITY));
        let near = self.default_level.saturating_sub(before).max(1)
            ..=self.levels.min(self.default_level.saturating_add(behind));
        let bounds: BTreeMap<u8, usize> =
            near.filter_map(|level| Some((self.priority(level), self.level(level).most_waiting?))).collect();
        if bounds.is_empty() { MostWaiting::Unbounded } else { MostWaiting::ByPriority(bounds) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_level_stands_where_other_models_stand() {
        let slow = Level { timeout: Some(Duration::from_secs(1)), most_waiting: Some(3) };
        let policy = QueuePolicy {
            levels: 3,
            default_level: 2,
            by_level: [(3, slow)].into(),
            ..QueuePolicy::default()
        };
        assert_eq!(policy.of(None), (128, None));
        assert_eq!(policy.of(Some(1)), (127, None));
        assert_eq!(policy.of(Some(3)), (129, slow.timeout));
        // What is no level is the default one.
        for asked in [0, 4, u64::MAX] {
            assert_eq!(policy.of(Some(asked)), (128, None));
        }
        assert_eq!(policy.most_waiting(), MostWaiting::ByPriority([(129, 3)].into()));
        let many = QueuePolicy { levels: u64::MAX, default_level: u64::MAX, default: slow, ..policy };
        assert_eq!(many.of(Some(1)), (0, slow.timeout));
        assert!(matches!(many.most_waiting(), MostWaiting::ByPriority(bounds) if bounds.len() == 129));
    }

    #[test]
    fn without_levels_a_priority_is_taken_as_it_is() {
        let timeout = Some(Duration::from_millis(5));
        let default = Level { timeout, most_waiting: Some(7) };
        let policy = QueuePolicy { default, ..QueuePolicy::default() };
        assert_eq!([None, Some(0), Some(9), Some(999)].map(|asked| policy.of(asked).0), [128, 128, 9, 255]);
        assert_eq!((policy.of(None).1, policy.most_waiting()), (timeout, MostWaiting::All(7)));
    }
}
