//! What breaks when: drawn from a seed before anything starts. Pure; the same seed and length give the same plan.
//!
//! Four tracks go on beside each other: the weather; what happens to the line; to processes and disks; to the folder that
//! samples come from and to the pool's door. Each deals its faults from a shuffled deck, so that none is left to chance.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::line::{Loss, Rebind, Weather};

mod line;
mod places;
mod processes;
#[cfg(test)]
mod tests;

/// A fault, or its end.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Fault {
    Weather(Weather),
    Cut,
    Whole,
    BlockUdp(bool),
    DropAddress,
    TakeAddress,
    Rebind(Rebind),
    PoolKill,
    PoolDrain,
    PoolStart,
    /// kill -9.
    AgentKill,
    /// SIGTERM.
    AgentStop,
    AgentStart,
    /// The agent is killed when it has written to its state this many times more.
    AgentKillAtWrite(u32),
    /// A byte of the spool is flipped, while the agent is down.
    Flip,
    /// Some bytes at the end of the spool's files are cut off, while the agent is down.
    Tear,
    Fill(Disk),
    Empty(Disk),
    Receiver(Manners),
    /// Files that arrive may not be read, until this ends: a copy tool that sets rights last.
    HideFiles(bool),
    /// The watched folder may not be read.
    HideFolder(bool),
    /// A folder below the watched one is elsewhere for a while.
    Away(Absence, bool),
    /// No file and no connection can be opened any more by one that runs.
    Starve(Whom, bool),
    /// One file of the journal is damaged, while the agent is down.
    Journal(Book, Damage),
    /// One file of the journal loses its name, while the agent runs.
    Unlink(Book),
    /// The bundle that the configuration names is not there.
    BundleAway(bool),
    /// Hundreds of connections a second that say nothing.
    Silent(bool),
    /// Callers of another tenant who ask for the first rank and never pause.
    Flood(bool),
}

/// How a folder is away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Absence {
    Renamed,
    /// An empty file system lies over it: a share that is not mounted, the other way round.
    Covered,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whom {
    Agent,
    Pool,
}

/// File of the agent's journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Book {
    Base,
    Log,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Damage {
    FlipBit,
    ZeroPage,
    CutShort,
    Delete,
}

/// Which kinds of faults a plan has: all, or those that are named.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Kinds(Option<BTreeSet<String>>);

impl Kinds {
    /// Reads names with commas between them; an error names what is none.
    pub fn named(text: &str) -> Result<Self, String> {
        let known: Vec<&str> = std::iter::once(WEATHER)
            .chain(line::DECK.iter().map(|(name, _)| *name))
            .chain(processes::DECK.iter().map(|(name, _)| *name))
            .chain(places::DECK.iter().map(|(name, _)| *name))
            .collect();
        let wanted: BTreeSet<String> = text.split(',').map(|name| name.trim().to_owned()).collect();
        match wanted.iter().find(|name| !known.contains(&name.as_str())) {
            Some(unknown) => Err(format!("`{unknown}` is no kind of fault; there are {}", known.join(", "))),
            None => Ok(Self(Some(wanted))),
        }
    }

    pub fn are_all(&self) -> bool {
        self.0.is_none()
    }

    fn has(&self, name: &str) -> bool {
        self.0.as_ref().is_none_or(|wanted| wanted.contains(name))
    }
}

/// The name of the weather among the kinds.
const WEATHER: &str = "weather";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disk {
    State,
    Sink,
}

/// How the webhook's receiver behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manners {
    Kind,
    /// 503, and takes nothing.
    Refuses,
    /// Takes it, and hangs up instead of answering.
    Forgets,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    pub at: Duration,
    pub what: Fault,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    pub seed: u64,
    pub length: Duration,
    /// By time.
    pub steps: Vec<Step>,
}

/// The length at which pauses have their full size; a shorter plan is denser.
const FULL: f64 = 600.0;
/// Bounds of every cut, in seconds.
const SHORTEST_CUT: f64 = 0.2;
const LONGEST_CUT: f64 = 120.0;

impl Plan {
    pub fn new(seed: u64, length: Duration, kinds: &Kinds) -> Self {
        let mut chance = fastrand::Rng::with_seed(seed);
        let chances = [chance.fork(), chance.fork(), chance.fork(), chance.fork()];
        let mut tracks = chances.map(|chance| Track {
            chance,
            pace: (length.as_secs_f64() / FULL).clamp(0.1, 1.0),
            at: 0.0,
            end: length.as_secs_f64(),
            steps: Vec::new(),
        });
        if kinds.has(WEATHER) {
            tracks[0].weather();
        }
        tracks[1].line(kinds);
        tracks[2].processes(kinds);
        tracks[3].places(kinds);
        let mut steps: Vec<Step> = tracks.into_iter().flat_map(|track| track.steps).collect();
        steps.sort_by_key(|step| step.at);
        Self { seed, length, steps }
    }
}

/// One of the plan's tracks, while it is drawn.
struct Track {
    chance: fastrand::Rng,
    pace: f64,
    /// Seconds.
    at: f64,
    end: f64,
    steps: Vec<Step>,
}

impl Track {
    fn between(&mut self, least: f64, most: f64) -> f64 {
        least + (most - least) * self.chance.f64()
    }

    /// Small ones as often as large ones.
    fn by_size(&mut self, least: f64, most: f64) -> f64 {
        self.between(least.ln(), most.ln()).exp()
    }

    fn add(&mut self, what: Fault) {
        self.steps.push(Step { at: Duration::from_secs_f64(self.at.min(self.end)), what });
    }

    /// Something, and its end after so many seconds.
    fn during(&mut self, seconds: f64, begin: Fault, end: Fault) {
        self.add(begin);
        self.at += seconds;
        self.add(end);
    }

    fn pause(&mut self, least: f64, most: f64) -> bool {
        self.at += self.between(least, most) * self.pace;
        self.at < self.end
    }

    fn weather(&mut self) {
        loop {
            let weather = self.draw_weather();
            self.add(Fault::Weather(weather));
            if !self.pause(5.0, 20.0) {
                return;
            }
        }
    }

    fn draw_weather(&mut self) -> Weather {
        let share = self.between(0.0, 0.1);
        let length = self.chance.u32(2..=8);
        let loss = match self.chance.u8(0..4) {
            0 => Loss::None,
            1 => Loss::Bursts { share, length },
            2 => Loss::States { to_bad: share / 4.0, to_good: 0.25, lost_in_good: 0.0, lost_in_bad: 0.8 },
            _ => Loss::Random(share),
        };
        let delay = self.by_size(0.005, 0.4);
        Weather {
            loss,
            delay: Duration::from_secs_f64(delay),
            jitter: Duration::from_secs_f64(delay * self.between(0.0, 0.25)),
            reorder: if self.chance.bool() { self.between(0.0, 0.05) } else { 0.0 },
            rate: Some(self.by_size(100_000.0, 20_000_000.0) as u64),
            queue: self.chance.usize(16..=128) << 10,
            ..Weather::default()
        }
    }

    /// Deals all of a deck that are wanted, in ever new order, with a pause before each.
    fn deal<T: Copy>(
        &mut self,
        deck: &[(&'static str, T)],
        kinds: &Kinds,
        pause: (f64, f64),
        mut carry_out: impl FnMut(&mut Self, T),
    ) {
        let wanted: Vec<T> =
            deck.iter().filter(|(name, _)| kinds.has(name)).map(|(_, fault)| *fault).collect();
        while !wanted.is_empty() {
            let mut deck = wanted.clone();
            self.chance.shuffle(&mut deck);
            for fault in deck {
                if !self.pause(pause.0, pause.1) {
                    return;
                }
                carry_out(self, fault);
            }
        }
    }
}
