//! Who is let in: whether something can be in time, as far as that can be foreseen, and whether there is room.

use std::collections::BTreeSet;
use std::hash::Hash;
use std::time::{Duration, Instant};

use super::queue::{Order, Waiting};
use super::shares::{LEVEL, Rank, Turn};
use super::{ModelId, MostWaiting, Refusal, Scheduler};
use crate::principal::Standing;

/// Entries, flows or tenants looked at to tell how much stands before a newcomer.
const LOOKED_AT: usize = 64;
/// No retry is asked for sooner: a refused call has cost both sides about this much already.
const SHORTEST_RETRY: Duration = Duration::from_millis(1);

impl<K: Eq + Hash + Clone, T> Scheduler<K, T> {
    /// Whether something could be in time; optimistic.
    pub(super) fn foresee(
        &self,
        now: Instant,
        standing: &Standing,
        order: &Order,
        alone: Duration,
    ) -> Result<(), Refusal> {
        let in_time = |wait: Duration| {
            let end = now.checked_add(wait).and_then(|start| start.checked_add(alone));
            end.is_some_and(|end| end <= order.deadline)
        };
        if !in_time(Duration::ZERO) {
            return Err(Refusal::TooShort);
        }
        if self.running.len() < self.limits.workers && self.waiting.entries == 0 {
            return Ok(());
        }
        let under_way = self.running.values().map(|end| end.saturating_duration_since(now));
        let under_way: Duration = under_way.fold(Duration::ZERO, Duration::saturating_add);
        let before = self.before(standing, order).saturating_sub(self.held_before(order));
        let wait = under_way.saturating_add(before) / self.limits.workers.max(1) as u32;
        if in_time(wait) { Ok(()) } else { Err(Refusal::Hopeless) }
    }

    /// Work that would be done first: what of its own tenant stands before it, and what others are given meanwhile.
    fn before(&self, standing: &Standing, order: &Order) -> Duration {
        let own = self.shares.tenant_of(standing.principal.tenant());
        let of_own = self.before_in_tenant(own, standing, order);
        let share = standing.share.max(1);
        let turn = self.shares.tag(own).saturating_add(as_nanos(of_own) / u64::from(share));
        let others = self.shares.ready().filter(|(number, _)| Some(*number) != own);
        let given = others.take(LOOKED_AT).map(|(number, tenant)| {
            let ahead = turn.saturating_sub(self.shares.tag(Some(number)));
            let ahead = Duration::from_nanos(ahead.saturating_mul(u64::from(tenant.share)));
            ahead.min(tenant.waiting.work)
        });
        given.fold(of_own, Duration::saturating_add)
    }

    /// Better ranks are first; of others of the same rank, those whose turn is sooner, each with a level's work.
    fn before_in_tenant(&self, tenant: Option<u64>, standing: &Standing, order: &Order) -> Duration {
        let Some(tenant) = tenant.and_then(|tenant| self.shares.tenant(tenant)) else {
            return Duration::ZERO;
        };
        let better = tenant.ranks.range(..order.priority).map(|(_, rank)| rank.work);
        let better = better.fold(Duration::ZERO, Duration::saturating_add);
        let number = self.shares.find(&standing.principal, order.priority);
        let of_flow = number.map_or(Duration::ZERO, |number| self.before_in_flow(number, order));
        let Some(rank) = tenant.ranks.get(&order.priority) else { return better };
        let level = self.shares.level_after(number, Some(rank), of_flow);
        better + of_flow + self.others_before(rank, number, &(level, *order, u64::MAX))
    }

    /// Most newcomers are last or nearly so; for one that is neither last nor first among many the least it can be is
    /// taken. The same holds for flows.
    fn before_in_flow(&self, number: u64, order: &Order) -> Duration {
        let Some(flow) = self.shares.flow(number) else { return Duration::ZERO };
        let mut after = Duration::ZERO;
        for (at, (other, (_, work))) in flow.ranked.iter().rev().enumerate() {
            if other < order {
                return flow.waiting.work.saturating_sub(after);
            }
            if at >= LOOKED_AT {
                let first = flow.ranked.iter().take(LOOKED_AT).take_while(|(other, _)| *other < order);
                return first.map(|(_, (_, work))| *work).sum();
            }
            after = after.saturating_add(*work);
        }
        Duration::ZERO
    }

    fn others_before(&self, rank: &Rank, own: Option<u64>, turn: &Turn) -> Duration {
        let leveled = |flow: u64| {
            let flow = self.shares.flow(flow).filter(|_| Some(flow) != own);
            flow.map_or(Duration::ZERO, |flow| flow.waiting.work.min(LEVEL))
        };
        let of_own = own.and_then(|own| self.shares.flow(own));
        let of_own = of_own.map_or(Duration::ZERO, |flow| flow.waiting.work.min(LEVEL));
        let all = rank.leveled.saturating_sub(of_own);
        if all.is_zero() {
            return all;
        }
        let sum = |turns: &mut dyn Iterator<Item = &Turn>| turns.map(|(_, _, flow)| leveled(*flow)).sum();
        let ready: &BTreeSet<Turn> = &rank.ready;
        let mut after = ready.iter().rev().take(LOOKED_AT + 1).take_while(|other| *other > turn);
        let after: Vec<&Turn> = after.by_ref().collect();
        if after.len() > LOOKED_AT {
            return sum(&mut ready.iter().take(LOOKED_AT).take_while(|other| *other < turn));
        }
        let after: Duration = sum(&mut after.into_iter());
        all.saturating_sub(after)
    }

    /// Whether no more of a model may wait at a priority.
    pub(super) fn is_full(&self, model: ModelId, priority: u8) -> bool {
        let waiting = |priorities: std::ops::RangeInclusive<u8>| -> usize {
            let (first, last) = priorities.into_inner();
            self.waiting_of.range((model, first)..=(model, last)).map(|(_, count)| count).sum()
        };
        match self.models.get(&model).map(|profile| &profile.most_waiting) {
            None | Some(MostWaiting::Unbounded) => false,
            Some(MostWaiting::All(most)) => waiting(0..=u8::MAX) >= *most,
            Some(MostWaiting::ByPriority(most)) => {
                most.get(&priority).is_some_and(|most| waiting(priority..=priority) >= *most)
            }
        }
    }

    /// What there is no room for, if so much more came.
    pub(super) fn over(&self, bytes: usize, work: Duration) -> Option<Refusal> {
        let Waiting { entries, bytes: held, work: waits } = self.waiting;
        // Whatever its size, one may always wait.
        if entries == 0 {
            return None;
        }
        if entries >= self.limits.entries {
            Some(Refusal::Full)
        } else if held.saturating_add(bytes) > self.limits.bytes {
            Some(Refusal::Bytes)
        } else if waits.saturating_add(work) > self.limits.work {
            Some(Refusal::Work)
        } else {
            None
        }
    }

    /// About how long half of what its tenant has waiting takes: a caller that comes back then finds room.
    pub(super) fn retry_after(&self, standing: &Standing) -> Duration {
        let own = self.shares.tenant_of(standing.principal.tenant());
        let own = own.and_then(|own| self.shares.tenant(own)).map_or(Duration::ZERO, |it| it.waiting.work);
        let mut shares = self.shares.ready().take(LOOKED_AT).map(|(_, tenant)| tenant.share);
        let all: u32 = shares.by_ref().fold(0, u32::saturating_add);
        // As if all others asked for their shares until then.
        let shared = own.saturating_mul(all.max(1)) / standing.share.max(1);
        let wait = shared.min(self.waiting.work) / self.limits.workers.max(1) as u32;
        (wait / 2).max(SHORTEST_RETRY)
    }
}

fn as_nanos(time: Duration) -> u64 {
    time.as_nanos().try_into().unwrap_or(u64::MAX)
}
