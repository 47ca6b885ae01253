//! What happens to the line.

use super::{Fault, Kinds, LONGEST_CUT, SHORTEST_CUT, Track};
use crate::line::Rebind;

#[derive(Debug, Clone, Copy)]
pub(super) enum OfLine {
    Cut,
    LongCut,
    BlockUdp,
    Address,
    Ports,
    Router,
}

pub(super) const DECK: &[(&str, OfLine)] = &[
    ("cut", OfLine::Cut),
    ("cut", OfLine::Cut),
    ("long-cut", OfLine::LongCut),
    ("udp", OfLine::BlockUdp),
    ("address", OfLine::Address),
    ("ports", OfLine::Ports),
    ("router", OfLine::Router),
];

/// Bounds of the pause before each, in seconds.
const PAUSE: (f64, f64) = (2.0, 12.0);

impl Track {
    pub(super) fn line(&mut self, kinds: &Kinds) {
        self.deal(DECK, kinds, PAUSE, Self::of_line);
    }

    fn of_line(&mut self, fault: OfLine) {
        match fault {
            OfLine::Cut => {
                let seconds = self.by_size(SHORTEST_CUT, 5.0);
                self.during(seconds, Fault::Cut, Fault::Whole);
            }
            OfLine::LongCut => {
                // A fifth of a short plan at most.
                let most = LONGEST_CUT.min(self.end / 5.0);
                let seconds = self.by_size(most / 6.0, most);
                self.during(seconds, Fault::Cut, Fault::Whole);
            }
            OfLine::BlockUdp => {
                let seconds = self.between(5.0, 40.0) * self.pace;
                self.during(seconds, Fault::BlockUdp(true), Fault::BlockUdp(false));
            }
            OfLine::Address => {
                let seconds = self.between(0.0, 2.0);
                self.during(seconds, Fault::DropAddress, Fault::TakeAddress);
            }
            OfLine::Ports => self.add(Fault::Rebind(Rebind::Ports)),
            OfLine::Router => self.add(Fault::Rebind(Rebind::Address)),
        }
    }
}
