//! Who is next among those that have something in one queue: whoever shares a batch is taken along in the order of shares.
//! Who was given much more than somebody that waits elsewhere is left behind: a batch takes longer for each row, and who
//! leads it would pay with others' time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use super::queue::Queue;
use super::shares::{Shares, Turn};

/// The flows of one queue, by tenant: rank and turn of each.
#[derive(Debug)]
pub(super) struct Crowd {
    tenants: Vec<(u64, Turns)>,
}

/// A tenant's flows, the next one first.
type Turns = BinaryHeap<Reverse<(u8, Turn)>>;

impl Crowd {
    /// Looks at each flow of the queue once.
    pub(super) fn of<K, T>(queue: &Queue<K, T>, shares: &Shares) -> Self {
        let mut crowd = Self { tenants: Vec::new() };
        queue.flows().for_each(|flow| crowd.put(flow, queue, shares));
        crowd
    }

    /// Puts a flow back that was next, if it has something left in the queue.
    pub(super) fn put<K, T>(&mut self, number: u64, queue: &Queue<K, T>, shares: &Shares) {
        let Some(head) = queue.head(number) else { return };
        let (Some(flow), Some(turn)) = (shares.flow(number), shares.turn(number, head)) else { return };
        match self.tenants.iter_mut().find(|(tenant, _)| *tenant == flow.tenant) {
            Some((_, flows)) => flows.push(Reverse(turn)),
            None => self.tenants.push((flow.tenant, BinaryHeap::from([Reverse(turn)]))),
        }
    }

    /// Takes the flow out that is next; `ahead` is how much more it may have been given than another that waits.
    pub(super) fn next(&mut self, shares: &Shares, ahead: Duration) -> Option<u64> {
        loop {
            let waiting = self.tenants.iter_mut().filter(|(_, flows)| !flows.is_empty());
            let (tenant, flows) = waiting.min_by_key(|(tenant, _)| (shares.tag(Some(*tenant)), *tenant))?;
            if !shares.is_near(*tenant, ahead) {
                return None;
            }
            let Reverse((_, (_, _, flow))) = flows.pop()?;
            if shares.is_flow_near(flow, ahead) {
                return Some(flow);
            }
        }
    }
}
