//! What breaks when: drawn from a seed before anything starts. Pure; the same seed and length give the same plan.
//!
//! Three tracks go on beside each other: the weather; what happens to the line; what happens to processes and disks. Each
//! deals its faults from a shuffled deck, so that none is left to chance.

use std::time::Duration;

use crate::line::{Loss, Rebind, Weather};

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
}

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

#[derive(Debug, Clone, Copy)]
enum OfLine {
    Cut,
    LongCut,
    BlockUdp,
    Address,
    Ports,
    Router,
}

#[derive(Debug, Clone, Copy)]
enum OfProcess {
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
}

impl Plan {
    pub fn new(seed: u64, length: Duration) -> Self {
        let mut chance = fastrand::Rng::with_seed(seed);
        let mut tracks = [chance.fork(), chance.fork(), chance.fork()].map(|chance| Track {
            chance,
            pace: (length.as_secs_f64() / FULL).clamp(0.1, 1.0),
            at: 0.0,
            end: length.as_secs_f64(),
            steps: Vec::new(),
        });
        tracks[0].weather();
        tracks[1].line();
        tracks[2].processes();
        let mut steps: Vec<Step> = tracks.into_iter().flat_map(|track| track.steps).collect();
        steps.sort_by_key(|step| step.at);
        Self { seed, length, steps }
    }
}

/// One of the three, while it is drawn.
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

    fn line(&mut self) {
        let all = [
            OfLine::Cut,
            OfLine::Cut,
            OfLine::LongCut,
            OfLine::BlockUdp,
            OfLine::Address,
            OfLine::Ports,
            OfLine::Router,
        ];
        loop {
            let mut deck = all;
            self.chance.shuffle(&mut deck);
            for fault in deck {
                if !self.pause(2.0, 12.0) {
                    return;
                }
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
    }

    fn processes(&mut self) {
        let all = [
            OfProcess::PoolKill,
            OfProcess::PoolDrain,
            OfProcess::AgentKill,
            OfProcess::AgentKill,
            OfProcess::AgentKillAtWrite,
            OfProcess::AgentKillAtWrite,
            OfProcess::AgentStop,
            OfProcess::Flip,
            OfProcess::Tear,
            OfProcess::StateFull,
            OfProcess::SinkFull,
            OfProcess::Refuses,
            OfProcess::Forgets,
        ];
        loop {
            let mut deck = all;
            self.chance.shuffle(&mut deck);
            for fault in deck {
                if !self.pause(3.0, 15.0) {
                    return;
                }
                self.deal(fault);
            }
        }
    }

    fn deal(&mut self, fault: OfProcess) {
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
            OfProcess::Flip | OfProcess::Tear => {
                self.add(Fault::AgentKill);
                let damage = if matches!(fault, OfProcess::Flip) { Fault::Flip } else { Fault::Tear };
                self.during(down, damage, Fault::AgentStart);
            }
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
}
