//! What a run came to, for programs and for people.

use std::io::{self, Write};
use std::time::Duration;

use crate::stage::Facts;
use crate::tally::Tally;

mod json;
mod text;

pub use text::{bytes, millis, percent, ratio};

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Complete,
    /// The audience left before the last sample.
    Quit,
    /// By a signal, or by a fault of the demo.
    BrokenOff,
}

#[derive(Debug, Clone)]
pub struct Ended {
    pub facts: Facts,
    pub tally: Tally,
    pub end: End,
    /// From the first sample on.
    pub lasted: Duration,
    /// The cable was cut for so long.
    pub outage_lasted: Duration,
}

impl Ended {
    pub fn is_success(&self) -> bool {
        self.tally.lost() == 0 && self.tally.duplicates == 0 && self.end != End::BrokenOff
    }
}

/// One object on one line.
pub fn write_json(out: &mut impl Write, ended: &Ended) -> io::Result<()> {
    serde_json::to_writer(&mut *out, &json::Report::of(ended))?;
    writeln!(out)?;
    out.flush()
}

/// A table and what it means.
pub fn write_text(out: &mut impl Write, ended: &Ended) -> io::Result<()> {
    text::write(out, ended)?;
    out.flush()
}
