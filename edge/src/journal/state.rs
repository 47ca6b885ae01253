//! What stands in a journal, in memory: what is gone on with where the database cannot be read at the moment. Pure.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::change::{Change, Post};
use super::{Key, Known, Mark, Remembered};

/// The journal's tables.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct State {
    decided: BTreeMap<(Arc<str>, Key), Mark>,
    outbox: BTreeMap<u64, Post>,
    spooled: HashMap<String, bool>,
}

impl State {
    /// Does what the database does with a change.
    pub(super) fn apply(&mut self, change: Change) {
        match change {
            Change::Forget { source, key } => drop(self.decided.remove(&(source, key))),
            Change::Renewed { source, key, mark } => {
                if let Some(before) = self.decided.get_mut(&(source, key)) {
                    *before = mark;
                }
            }
            Change::Post { number, post, awaits } => {
                self.remember(&post.of);
                if awaits {
                    self.spooled.insert(post.id.clone(), false);
                }
                self.outbox.insert(number, post);
            }
            Change::Delivered { number, gone } => {
                self.outbox.remove(&number);
                for (source, key) in gone {
                    self.decided.remove(&(source, key));
                }
            }
            Change::Remembered { of } => self.remember(&of),
            Change::Awaits { ids } => self.spooled.extend(ids.into_iter().map(|id| (id, false))),
            Change::Amended { number, post } => {
                self.spooled.insert(post.id.clone(), true);
                self.outbox.insert(number, post);
            }
            Change::Closed { ids } => self.spooled.extend(ids.into_iter().map(|id| (id, true))),
            Change::Pruned { ids } => self.spooled.retain(|id, _| !ids.contains(id)),
        }
    }

    fn remember(&mut self, of: &[Remembered]) {
        for Remembered { source, key, mark } in of {
            self.decided.insert((Arc::clone(source), key.clone()), mark.clone());
        }
    }

    pub(super) fn known(&self, of: &str) -> Vec<Known> {
        let of = self.decided.iter().filter(|((source, _), _)| &**source == of);
        of.map(|((_, key), mark)| Known { key: key.clone(), mark: mark.clone() }).collect()
    }

    pub(super) fn outbox(&self) -> Vec<(u64, Post)> {
        self.outbox.iter().map(|(number, post)| (*number, post.clone())).collect()
    }

    pub(super) fn spooled(&self) -> HashMap<String, bool> {
        self.spooled.clone()
    }
}
