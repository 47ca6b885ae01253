//! What happens to the folder that samples come from, and who stands at the pool's door.

use super::{Absence, Fault, Kinds, Track};

#[derive(Debug, Clone, Copy)]
pub(super) enum OfPlace {
    HiddenFiles,
    HiddenFolder,
    Renamed,
    Covered,
    Silent,
    Flood,
}

pub(super) const DECK: &[(&str, OfPlace)] = &[
    ("hidden-files", OfPlace::HiddenFiles),
    ("hidden-folder", OfPlace::HiddenFolder),
    ("folder-renamed", OfPlace::Renamed),
    ("folder-covered", OfPlace::Covered),
    ("silent", OfPlace::Silent),
    ("tenant", OfPlace::Flood),
];

/// Bounds of the pause before each, in seconds.
const PAUSE: (f64, f64) = (5.0, 20.0);
/// Bounds of how long files may not be read or a folder is away, in seconds: less and more than two rescans, and less and
/// more than an agent is patient with a picture that is not whole.
const SHORTEST: f64 = 1.0;
const LONGEST: f64 = 15.0;

impl Track {
    pub(super) fn places(&mut self, kinds: &Kinds) {
        self.deal(DECK, kinds, PAUSE, Self::of_place);
    }

    fn of_place(&mut self, fault: OfPlace) {
        // In a short plan some are long enough for two rescans all the same.
        let seconds = self.by_size(SHORTEST, LONGEST * self.pace.max(0.4));
        match fault {
            OfPlace::HiddenFiles => self.during(seconds, Fault::HideFiles(true), Fault::HideFiles(false)),
            OfPlace::HiddenFolder => self.during(seconds, Fault::HideFolder(true), Fault::HideFolder(false)),
            OfPlace::Renamed => self.away(seconds, Absence::Renamed),
            OfPlace::Covered => self.away(seconds, Absence::Covered),
            OfPlace::Flood => self.during(seconds, Fault::Flood(true), Fault::Flood(false)),
            OfPlace::Silent => self.during(seconds, Fault::Silent(true), Fault::Silent(false)),
        }
    }

    fn away(&mut self, seconds: f64, how: Absence) {
        self.during(seconds, Fault::Away(how, true), Fault::Away(how, false));
    }
}
