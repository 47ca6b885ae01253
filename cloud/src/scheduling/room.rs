//! Room for a newcomer, at the cost of whoever has the most waiting for its share.
//!
//! While nobody else wants it, the whole queue is anyone's. When it is full, an entry leaves of the tenant that has the most
//! waiting for its share; if that is the newcomer's own, one of a lower rank than the newcomer's, or one of the principal
//! that has the most waiting at that rank; if that is the newcomer's own too, the newcomer is refused. So each tenant and
//! each principal finds room up to its share, whatever others have waiting.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use super::queue::{Entry, Order, Place, Waiting};
use super::{ModelId, MostWaiting, Refusal, Scheduler, Shed};
use crate::principal::Standing;

/// Who wants to come in, with what.
#[derive(Debug, Clone, Copy)]
pub(super) struct Newcomer<'a> {
    pub(super) standing: &'a Standing,
    pub(super) priority: u8,
    pub(super) bytes: usize,
    pub(super) work: Duration,
}

impl<K: Eq + Hash + Clone, T> Scheduler<K, T> {
    /// Those who had to leave, the one at `first` before any other. Nobody is sent away unless that makes room enough.
    pub(super) fn make_room(
        &mut self,
        newcomer: Newcomer<'_>,
        first: Option<Place>,
    ) -> Result<Vec<Shed<T>>, Refusal> {
        let mut sent: Vec<((ModelId, K), Order, Entry<T>)> = Vec::new();
        sent.extend(first.and_then(|first| self.send_away(first)));
        while let Some(why) = self.over(newcomer.bytes, newcomer.work) {
            let left = self.most_over(newcomer, why).and_then(|place| self.send_away(place));
            let Some(left) = left else {
                for (key, order, entry) in sent {
                    self.attach(key, order, entry);
                }
                return Err(why);
            };
            sent.push(left);
        }
        let mut shed = Vec::with_capacity(sent.len());
        for (_, _, Entry { standing, payload, .. }) in sent {
            self.ledger.of(standing.principal.tenant()).shed += 1;
            shed.push(Shed { payload, retry_after: self.retry_after(&standing) });
        }
        Ok(shed)
    }

    fn send_away(&mut self, place: Place) -> Option<((ModelId, K), Order, Entry<T>)> {
        let key = self.queues.get(&place.queue)?.key();
        Some((key, place.order, self.detach(place)?))
    }

    /// The entry that has to make room, by what there is too little of.
    fn most_over(&self, newcomer: Newcomer<'_>, short_of: Refusal) -> Option<Place> {
        let amount = |waiting: Waiting| -> u128 {
            match short_of {
                Refusal::Bytes => waiting.bytes as u128,
                Refusal::Work => waiting.work.as_nanos(),
                _ => waiting.entries as u128,
            }
        };
        let mut its = Waiting::default();
        its.add(newcomer.bytes, newcomer.work);
        let its = amount(its);
        let own = self.shares.tenant_of(newcomer.standing.principal.tenant());
        let of_own = own.and_then(|own| self.shares.tenant(own)).map_or(0, |tenant| amount(tenant.waiting));
        let for_share = |amount: u128, share: u32| amount.saturating_mul(1 << 16) / u128::from(share.max(1));
        let others = self.shares.ready().filter(|(number, _)| Some(*number) != own);
        let others = others.map(|(_, tenant)| (for_share(amount(tenant.waiting), tenant.share), tenant));
        let most = others.max_by_key(|(over, _)| *over);
        if let Some((over, tenant)) = most
            && over > for_share(of_own + its, newcomer.standing.share)
        {
            let (_, rank) = tenant.ranks.iter().rev().find(|(_, rank)| !rank.ready.is_empty())?;
            let flows = rank.ready.iter().map(|(_, _, flow)| *flow);
            let most = flows.max_by_key(|flow| self.shares.flow(*flow).map(|flow| amount(flow.waiting)))?;
            return self.last_of(most);
        }
        let tenant = own.and_then(|own| self.shares.tenant(own))?;
        let (lowest, rank) = tenant.ranks.iter().rev().find(|(_, rank)| !rank.ready.is_empty())?;
        if *lowest < newcomer.priority {
            return None;
        }
        let flows = rank.ready.iter().map(|(_, _, flow)| *flow);
        let of_flow = |flow: u64| self.shares.flow(flow).map_or(0, |flow| amount(flow.waiting));
        let most = flows.max_by_key(|flow| of_flow(*flow))?;
        let own = self.shares.find(&newcomer.standing.principal, newcomer.priority);
        let is_over = *lowest > newcomer.priority || of_flow(most) > own.map_or(0, of_flow) + its;
        if is_over { self.last_of(most) } else { None }
    }

    fn last_of(&self, flow: u64) -> Option<Place> {
        let (order, (queue, _)) = self.shares.flow(flow)?.ranked.last_key_value()?;
        Some(Place { flow, queue: *queue, order: *order })
    }

    /// The entry that has to make room under a model's own bound: one of the tenant, or of the principal of the newcomer's, that has more of this
    /// model waiting for its share than the newcomer would have.
    pub(super) fn most_over_in_model(&self, model: ModelId, newcomer: Newcomer<'_>) -> Option<Place> {
        let of_one = matches!(self.models.get(&model)?.most_waiting, MostWaiting::ByPriority(_));
        let counts = |order: &Order| !of_one || order.priority == newcomer.priority;
        let of_model = self.queues.iter().filter(|(_, queue)| queue.model() == model);
        let entries = of_model.flat_map(|(number, queue)| {
            queue.iter().map(|(flow, order, _)| Place { flow, queue: *number, order: *order })
        });
        let mut by_flow: HashMap<u64, (u64, usize, Place)> = HashMap::new();
        let mut by_tenant: HashMap<u64, usize> = HashMap::new();
        for place in entries.filter(|place| counts(&place.order)) {
            let Some(flow) = self.shares.flow(place.flow) else { continue };
            *by_tenant.entry(flow.tenant).or_default() += 1;
            let (_, count, last) = by_flow.entry(place.flow).or_insert((flow.tenant, 0, place));
            *count += 1;
            if place.order > last.order {
                *last = place;
            }
        }
        let own = self.shares.tenant_of(newcomer.standing.principal.tenant());
        let own_flow = self.shares.find(&newcomer.standing.principal, newcomer.priority);
        let for_share = |count: usize, share: u32| count as f64 / f64::from(share.max(1));
        let of_own = own.and_then(|own| by_tenant.get(&own)).copied().unwrap_or(0);
        let others = by_tenant.iter().filter(|(tenant, _)| Some(**tenant) != own).map(|(tenant, count)| {
            let share = self.shares.tenant(*tenant).map_or(1, |tenant| tenant.share);
            (for_share(*count, share), *tenant)
        });
        let most = others.max_by(|(one, _), (other, _)| one.total_cmp(other));
        let from = most.filter(|(over, _)| *over > for_share(of_own + 1, newcomer.standing.share));
        let of_own_flow = own_flow.and_then(|flow| by_flow.get(&flow)).map_or(0, |(_, count, _)| *count);
        let victims = by_flow.into_values().filter(|(tenant, count, last)| match from {
            Some((_, from)) => *tenant == from,
            None => {
                Some(*tenant) == own && *count > of_own_flow + 1 && last.order.priority >= newcomer.priority
            }
        });
        victims.max_by_key(|(_, count, last)| (*count, last.order)).map(|(_, _, place)| place)
    }
}
