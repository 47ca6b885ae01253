//! A set of numbers of which any can be drawn at random, or taken out, in the same time however many there are.

use std::collections::HashMap;

use fastrand::Rng;

#[derive(Debug, Default)]
pub(super) struct Draw {
    all: Vec<u64>,
    /// Where each stands in `all`.
    places: HashMap<u64, usize>,
}

impl Draw {
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    pub(super) fn insert(&mut self, number: u64) {
        self.places.insert(number, self.all.len());
        self.all.push(number);
    }

    pub(super) fn remove(&mut self, number: u64) {
        let Some(place) = self.places.remove(&number) else { return };
        self.all.swap_remove(place);
        if let Some(moved) = self.all.get(place) {
            self.places.insert(*moved, place);
        }
    }

    pub(super) fn any(&self, rng: &mut Rng) -> Option<u64> {
        self.all.get(rng.usize(..self.all.len().max(1))).copied()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = u64> {
        self.all.iter().copied()
    }
}
