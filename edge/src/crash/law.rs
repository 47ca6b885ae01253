//! What follows from a death of the agent for what it had in hand. Pure.
//!
//! Whatever was in hand might be the reason: a picture whose decoding takes all memory, a segment that its reader cannot
//! stand. Or it was not: somebody sent SIGKILL, the power went. So a first death only makes suspects. A suspect comes when
//! there is nothing else, with nothing else in hand; whoever lives through that is none any more. One that is alone in hand
//! at two further deaths of the process is set aside. A restart of the whole machine says less: it counts half.

use serde::{Deserialize, Serialize};

use crate::journal::{Key, Mark};

#[cfg(test)]
mod tests;

/// Points at which a suspect is set aside.
const MOST: u32 = 4;
/// Points for a death of the process with the suspect alone in hand.
const ALONE: u32 = 2;
/// Points for a death that says less: the machine went down too, or other items were in hand as well.
const DOUBTFUL: u32 = 1;
/// Suspects that are remembered; of more, the oldest are forgotten.
const SUSPECTS: usize = 1024;

/// What to do with a sample that was in hand when the agent died.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Risk {
    /// Decide the file with nothing else in hand; files that are likelier to be the reason come later.
    Alone { points: u32 },
    /// Leave the file alone: the agent has died over it so many times.
    Aside { deaths: u32 },
}

/// Something that may be in hand.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub(crate) enum Item {
    /// A sample of a source.
    Sample {
        source: String,
        key: Key,
        /// Tells it from another of the same key: that one is no suspect.
        face: Mark,
    },
    /// A sample that came over gRPC; nobody brings the same one again.
    Call,
    /// Something in the state directory that a start reads.
    Part { name: String },
    /// An entry of the spool, by its decision's id.
    Entry { id: String },
}

/// An item that was in hand when the agent died.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Suspect {
    pub(crate) item: Item,
    /// Deaths of the agent with the item in hand.
    pub(crate) deaths: u32,
    pub(crate) points: u32,
}

impl Suspect {
    /// Whether the sample is not to be tried again.
    pub(crate) fn is_aside(&self) -> bool {
        self.points >= MOST
    }
}

/// How an earlier run has ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Death {
    pub(crate) in_hand: Vec<Item>,
    /// The machine has been started anew since.
    pub(crate) is_reboot: bool,
}

/// Who is suspected now. `before` were, and have not been found harmless since.
pub(crate) fn judge(before: Vec<Suspect>, death: &Death) -> Vec<Suspect> {
    let mut after = before;
    let is_alone = death.in_hand.len() == 1;
    for item in &death.in_hand {
        // Nobody can hand it over again.
        if *item == Item::Call {
            continue;
        }
        match after.iter_mut().find(|suspect| suspect.item == *item) {
            Some(suspect) => {
                suspect.deaths += 1;
                suspect.points += match (is_alone, death.is_reboot) {
                    (true, false) => ALONE,
                    (true, true) | (false, false) => DOUBTFUL,
                    (false, true) => 0,
                };
            }
            None => after.push(Suspect { item: item.clone(), deaths: 1, points: 0 }),
        }
    }
    let over = after.len().saturating_sub(SUSPECTS);
    after.drain(..over);
    after
}
