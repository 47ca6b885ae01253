//! A camera that is stuck gives the same picture again and again: told by the bytes of a source's pictures. Pure.

use std::collections::BTreeMap;

use millgate_shared::decision::FailedCheck;

/// Sources that are remembered; those of requests are named by their senders.
const MOST_SOURCES: usize = 1024;

/// The last picture of each source, and how often it came in a row.
#[derive(Debug, Default)]
pub(super) struct Stuck {
    last: BTreeMap<String, Last>,
}

#[derive(Debug)]
struct Last {
    sha256: String,
    times: u32,
}

impl Stuck {
    /// Takes the next picture of a source. Gives the check that it fails if the same bytes have come `after` times in a row; 0:
    /// that is not looked at.
    pub(super) fn came(
        &mut self,
        source: &str,
        modality: &str,
        sha256: &str,
        after: u32,
    ) -> Option<FailedCheck> {
        if after == 0 {
            return None;
        }
        if !self.last.contains_key(source) && self.last.len() >= MOST_SOURCES {
            self.last.pop_first();
        }
        let last = self.last.entry(source.to_owned());
        let last = last.or_insert_with(|| Last { sha256: String::new(), times: 0 });
        if last.sha256 == sha256 {
            last.times = last.times.saturating_add(1);
        } else {
            *last = Last { sha256: sha256.to_owned(), times: 1 };
        }
        (last.times >= after).then(|| FailedCheck {
            modality: modality.to_owned(),
            check: "stuck".to_owned(),
            value: f64::from(last.times),
            bounds: [1.0, f64::from(after - 1)],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_picture_again_and_again_is_a_camera_that_is_stuck() {
        let mut stuck = Stuck::default();
        let mut times = |sha256: &str| stuck.came("cam1", "image", sha256, 3).map(|failed| failed.value);
        assert_eq!([times("a"), times("a"), times("a"), times("a")], [None, None, Some(3.0), Some(4.0)]);
        assert_eq!([times("b"), times("a"), times("a"), times("a")], [None, None, None, Some(3.0)]);
    }

    #[test]
    fn each_source_is_by_itself_and_nothing_is_looked_at_unless_asked_for() {
        let mut stuck = Stuck::default();
        assert_eq!(stuck.came("cam1", "image", "a", 2), None);
        assert_eq!(stuck.came("cam2", "image", "a", 2), None);
        assert!(stuck.came("cam1", "image", "a", 2).is_some());
        for _ in 0..9 {
            assert_eq!(stuck.came("cam3", "image", "a", 0), None);
        }
    }

    #[test]
    fn sources_without_end_are_forgotten() {
        let mut stuck = Stuck::default();
        for source in 0..2 * MOST_SOURCES {
            stuck.came(&format!("cam{source}"), "image", "a", 2);
        }
        assert_eq!(stuck.last.len(), MOST_SOURCES);
    }
}
