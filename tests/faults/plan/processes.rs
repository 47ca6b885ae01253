//! What happens to processes, to their disks and files, and to the webhook's receiver.

use super::{Book, Damage, Disk, Fault, Kinds, Manners, Track, Whom};

#[derive(Debug, Clone, Copy)]
pub(super) enum OfProcess {
    PoolKill,
    PoolDrain,
    AgentKill,
    AgentStop,
    AgentKillAtWrite,
    Flip,
    Tear,
    StateFull,
    SinkFull,
    Refuses,
    Forgets,
    AgentStarved,
    PoolStarved,
    Journal,
    Unlinked,
    BundleAway,
}

pub(super) const DECK: &[(&str, OfProcess)] = &[
    ("pool-kill", OfProcess::PoolKill),
    ("pool-drain", OfProcess::PoolDrain),
    ("agent-kill", OfProcess::AgentKill),
    ("agent-kill-at-write", OfProcess::AgentKillAtWrite),
    ("agent-kill-at-write", OfProcess::AgentKillAtWrite),
    ("agent-stop", OfProcess::AgentStop),
    ("flip", OfProcess::Flip),
    ("tear", OfProcess::Tear),
    ("state-full", OfProcess::StateFull),
    ("sink-full", OfProcess::SinkFull),
    ("refuses", OfProcess::Refuses),
    ("forgets", OfProcess::Forgets),
    ("agent-descriptors", OfProcess::AgentStarved),
    ("pool-descriptors", OfProcess::PoolStarved),
    ("journal", OfProcess::Journal),
    ("journal-unlinked", OfProcess::Unlinked),
    ("bundle-away", OfProcess::BundleAway),
];

/// Bounds of the pause before each, in seconds.
const PAUSE: (f64, f64) = (2.0, 9.0);
const BOOKS: [Book; 2] = [Book::Base, Book::Log];
const DAMAGES: [Damage; 4] = [Damage::FlipBit, Damage::ZeroPage, Damage::CutShort, Damage::Delete];

impl Track {
    pub(super) fn processes(&mut self, kinds: &Kinds) {
        self.deal(DECK, kinds, PAUSE, Self::of_process);
    }

    fn of_process(&mut self, fault: OfProcess) {
        let down = self.by_size(0.2, 10.0 * self.pace.max(0.3));
        let full = self.between(2.0, 15.0) * self.pace.max(0.3);
        match fault {
            OfProcess::PoolKill => self.during(down, Fault::PoolKill, Fault::PoolStart),
            OfProcess::PoolDrain => self.during(down, Fault::PoolDrain, Fault::PoolStart),
            OfProcess::AgentKill => self.during(down, Fault::AgentKill, Fault::AgentStart),
            OfProcess::AgentStop => self.during(down, Fault::AgentStop, Fault::AgentStart),
            OfProcess::AgentKillAtWrite => {
                let writes = self.chance.u32(1..60);
                self.during(down + 2.0, Fault::AgentKillAtWrite(writes), Fault::AgentStart);
            }
            OfProcess::Flip => self.while_down(down, Fault::Flip),
            OfProcess::Tear => self.while_down(down, Fault::Tear),
            OfProcess::Journal => {
                let (book, damage) = (self.book(), DAMAGES[self.chance.usize(..DAMAGES.len())]);
                self.while_down(down, Fault::Journal(book, damage));
            }
            OfProcess::Unlinked => {
                let book = self.book();
                self.add(Fault::Unlink(book));
                // It goes on with the file that has no name, and then starts without one.
                self.at += full / 3.0;
                self.during(down, Fault::AgentKill, Fault::AgentStart);
            }
            OfProcess::BundleAway => {
                self.add(Fault::AgentKill);
                self.add(Fault::BundleAway(true));
                self.during(full, Fault::AgentStart, Fault::BundleAway(false));
            }
            OfProcess::AgentStarved => self.starve(full, Whom::Agent),
            OfProcess::PoolStarved => self.starve(full, Whom::Pool),
            OfProcess::StateFull => self.during(full, Fault::Fill(Disk::State), Fault::Empty(Disk::State)),
            OfProcess::SinkFull => self.during(full, Fault::Fill(Disk::Sink), Fault::Empty(Disk::Sink)),
            OfProcess::Refuses => {
                self.during(full, Fault::Receiver(Manners::Refuses), Fault::Receiver(Manners::Kind));
            }
            OfProcess::Forgets => {
                self.during(full / 3.0, Fault::Receiver(Manners::Forgets), Fault::Receiver(Manners::Kind));
            }
        }
    }

    fn while_down(&mut self, seconds: f64, damage: Fault) {
        self.add(Fault::AgentKill);
        self.during(seconds, damage, Fault::AgentStart);
    }

    fn starve(&mut self, seconds: f64, whom: Whom) {
        self.during(seconds, Fault::Starve(whom, true), Fault::Starve(whom, false));
    }

    fn book(&mut self) -> Book {
        BOOKS[self.chance.usize(..BOOKS.len())]
    }
}
