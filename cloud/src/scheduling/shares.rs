//! Whose turn it is: fair queueing in virtual time, by tenant and, inside a tenant, by principal. Knows what waits only by
//! its order, its place and its work.
//!
//! * A tenant's account grows by what it was given, divided by its share; the tenant with the least in its account is next.
//!   Whoever comes with nothing waiting starts where the one stands that was served last: nobody banks credit.
//! * Inside a tenant the best rank goes first. Inside a rank the principal that was given least goes first, by levels of
//!   [`LEVEL`]: among those of one level the earliest deadline decides, as it does inside a principal.
//! * What was given is estimated when a batch is taken and put right when it is over.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use super::queue::{Order, Waiting};
use crate::principal::{Principal, Standing, Tenant};
use account::Account;

mod account;

/// Principals of one tenant and rank that were given no more than this apart are served by deadline.
pub(super) const LEVEL: Duration = Duration::from_millis(5);
/// Accounts of those with nothing waiting that are remembered, of tenants, and of principals by tenant and rank. The
/// one that is least ahead is forgotten first.
const MOST_REMEMBERED: usize = 1024;

/// A principal's place in its rank: level, head, number.
pub(super) type Turn = (u64, Order, u64);

/// Where an account is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kept<Ready> {
    /// Nothing waits; perhaps something is under way.
    Apart,
    Idle(u64),
    Ready(Ready),
}

/// What one principal has waiting at one rank.
#[derive(Debug)]
pub(super) struct Flow {
    principal: Principal,
    pub(super) tenant: u64,
    pub(super) rank: u8,
    account: Account,
    /// Its batches under way.
    under_way: usize,
    pub(super) waiting: Waiting,
    /// All that waits, best first: its queue and its work.
    pub(super) ranked: BTreeMap<Order, (u64, Duration)>,
    /// The best of each queue.
    pub(super) heads: BTreeMap<Order, u64>,
    kept: Kept<Turn>,
}

/// All of a tenant's that has one rank.
#[derive(Debug, Default)]
pub(super) struct Rank {
    /// What the principal had been given that was served last.
    now: u64,
    pub(super) ready: BTreeSet<Turn>,
    idle: BTreeSet<(u64, u64)>,
    pub(super) work: Duration,
    /// The work of its principals, of each no more than a level.
    pub(super) leveled: Duration,
}

#[derive(Debug)]
pub(super) struct TenantShare {
    pub(super) name: Tenant,
    pub(super) share: u32,
    account: Account,
    under_way: usize,
    pub(super) waiting: Waiting,
    pub(super) ranks: BTreeMap<u8, Rank>,
    kept: Kept<u64>,
}

#[derive(Debug, Default)]
pub(super) struct Shares {
    /// What the tenant had been given that was served last.
    now: u64,
    tenants: HashMap<u64, TenantShare>,
    by_name: HashMap<Tenant, u64>,
    flows: HashMap<u64, Flow>,
    by_principal: HashMap<(Principal, u8), u64>,
    ready: BTreeSet<(u64, u64)>,
    idle: BTreeSet<(u64, u64)>,
    next: u64,
}

fn level(tag: u64) -> u64 {
    tag / LEVEL.as_nanos() as u64
}

impl Shares {
    /// The number of a principal's flow, which may be new, with the share that its tenant has now.
    pub(super) fn open(&mut self, standing: &Standing, rank: u8) -> u64 {
        let principal = &standing.principal;
        let tenant = match self.by_name.get(principal.tenant()) {
            Some(tenant) => *tenant,
            None => self.open_tenant(principal.tenant()),
        };
        if let Some(tenant) = self.tenants.get_mut(&tenant) {
            tenant.share = standing.share.max(1);
        }
        let key = (principal.clone(), rank);
        if let Some(flow) = self.by_principal.get(&key) {
            return *flow;
        }
        self.next += 1;
        let flow = Flow {
            principal: key.0.clone(),
            tenant,
            rank,
            account: Account::default(),
            under_way: 0,
            waiting: Waiting::default(),
            ranked: BTreeMap::new(),
            heads: BTreeMap::new(),
            kept: Kept::Apart,
        };
        self.flows.insert(self.next, flow);
        self.by_principal.insert(key, self.next);
        self.next
    }

    fn open_tenant(&mut self, name: &Tenant) -> u64 {
        self.next += 1;
        let tenant = TenantShare {
            name: name.clone(),
            share: 1,
            account: Account::default(),
            under_way: 0,
            waiting: Waiting::default(),
            ranks: BTreeMap::new(),
            kept: Kept::Apart,
        };
        self.tenants.insert(self.next, tenant);
        self.by_name.insert(name.clone(), self.next);
        self.next
    }

    pub(super) fn find(&self, principal: &Principal, rank: u8) -> Option<u64> {
        self.by_principal.get(&(principal.clone(), rank)).copied()
    }

    pub(super) fn flow(&self, flow: u64) -> Option<&Flow> {
        self.flows.get(&flow)
    }

    pub(super) fn flows(&self) -> impl Iterator<Item = (u64, &Flow)> {
        self.flows.iter().map(|(number, flow)| (*number, flow))
    }

    pub(super) fn tenant(&self, tenant: u64) -> Option<&TenantShare> {
        self.tenants.get(&tenant)
    }

    pub(super) fn tenant_of(&self, name: &Tenant) -> Option<u64> {
        self.by_name.get(name).copied()
    }

    /// Tenants that have something waiting, the next to be served first.
    pub(super) fn ready(&self) -> impl Iterator<Item = (u64, &TenantShare)> {
        self.ready.iter().filter_map(|(_, number)| Some((*number, self.tenants.get(number)?)))
    }

    /// Flows that have something waiting, in the order in which they are served.
    pub(super) fn in_turn(&self) -> impl Iterator<Item = (u64, &Flow)> {
        let ranks = self.ready().flat_map(|(_, tenant)| tenant.ranks.values());
        let turns = ranks.flat_map(|rank| &rank.ready);
        turns.filter_map(|(_, _, number)| Some((*number, self.flows.get(number)?)))
    }

    /// Where a tenant's next entry begins in virtual time; `None`: one that is not known.
    pub(super) fn tag(&self, tenant: Option<u64>) -> u64 {
        let tag = tenant.and_then(|tenant| self.tenants.get(&tenant)).map_or(0, |it| it.account.tag());
        let is_ready = tenant.and_then(|tenant| self.tenants.get(&tenant)).is_some_and(TenantShare::is_ready);
        if is_ready { tag } else { tag.max(self.now) }
    }

    /// The level of something at the end of so much of its flow's work; `None`: a flow that is not known.
    pub(super) fn level_after(&self, flow: Option<u64>, rank: Option<&Rank>, work: Duration) -> u64 {
        let floor = rank.map_or(0, |rank| rank.now);
        let tag = match flow.and_then(|flow| self.flows.get(&flow)) {
            None => floor,
            Some(flow) if matches!(flow.kept, Kept::Ready(_)) => flow.account.tag(),
            Some(flow) => flow.account.tag().max(floor),
        };
        level(tag.saturating_add(account::nanos(work)))
    }

    /// The place of a flow among those of its tenant, as it would be with this head.
    pub(super) fn turn(&self, number: u64, head: Order) -> Option<(u8, Turn)> {
        let flow = self.flows.get(&number)?;
        Some((flow.rank, (level(flow.account.tag()), head, number)))
    }

    /// Whether a tenant was given no more than this beyond another that waits, for each part of its share.
    pub(super) fn is_near(&self, tenant: u64, ahead: Duration) -> bool {
        let least = self.ready.first().map_or(u64::MAX, |(tag, _)| *tag);
        self.tag(Some(tenant)) <= least.saturating_add(account::nanos(ahead))
    }

    /// Whether a flow was given no more than this beyond another of its tenant and rank that waits, by levels.
    pub(super) fn is_flow_near(&self, number: u64, ahead: Duration) -> bool {
        let Some(flow) = self.flows.get(&number) else { return false };
        let rank = self.tenants.get(&flow.tenant).and_then(|tenant| tenant.ranks.get(&flow.rank));
        let least = rank.and_then(|rank| rank.ready.first()).map_or(u64::MAX, |(level, _, _)| *level);
        level(flow.account.tag()) <= least.saturating_add(level(account::nanos(ahead)))
    }

    /// Whether a flow or its tenant has less than half of its part of what waits: whoever asks for so little is not let
    /// down so that others are served better. With nobody beside it nobody does.
    pub(super) fn is_modest(&self, number: u64) -> bool {
        let Some(flow) = self.flows.get(&number) else { return false };
        let Some(tenant) = self.tenants.get(&flow.tenant) else { return false };
        let is_little = |own: Duration, part: u64, of: u64, all: Duration| {
            own.as_nanos() * 2 * u128::from(of) < all.as_nanos() * u128::from(part)
        };
        let Some(rank) = tenant.ranks.get(&flow.rank) else { return false };
        if rank.ready.len() > 1 && is_little(flow.waiting.work, 1, rank.ready.len() as u64, rank.work) {
            return true;
        }
        let (mut shares, mut work) = (0, Duration::ZERO);
        if self.ready.len() > 1 {
            for (_, tenant) in self.ready() {
                shares += u64::from(tenant.share);
                work = work.saturating_add(tenant.waiting.work);
            }
        }
        is_little(tenant.waiting.work, tenant.share.into(), shares, work)
    }

    /// Something more waits.
    pub(super) fn add(&mut self, number: u64, order: Order, (queue, bytes, work): (u64, usize, Duration)) {
        self.change(number, |flow, waiting| {
            flow.ranked.insert(order, (queue, work));
            waiting.add(bytes, work);
        });
    }

    /// Something waits no more.
    pub(super) fn remove(&mut self, number: u64, order: Order, (bytes, work): (usize, Duration)) {
        self.change(number, |flow, waiting| {
            flow.ranked.remove(&order);
            waiting.remove(bytes, work);
        });
    }

    /// A queue's best of a flow is another one now.
    pub(super) fn rehead(&mut self, number: u64, queue: u64, before: Option<Order>, after: Option<Order>) {
        let Some(flow) = self.flows.get_mut(&number).filter(|_| before != after) else { return };
        if let Some(before) = before {
            flow.heads.remove(&before);
        }
        if let Some(after) = after {
            flow.heads.insert(after, queue);
        }
        self.settle(number);
    }

    fn change(&mut self, number: u64, mut change: impl FnMut(&mut Flow, &mut Waiting)) {
        let Some(flow) = self.flows.get_mut(&number) else { return };
        let before = flow.waiting;
        let mut after = before;
        change(flow, &mut after);
        flow.waiting = after;
        let Some(tenant) = self.tenants.get_mut(&flow.tenant) else { return };
        tenant.waiting.replace(before, after);
        let rank = tenant.ranks.entry(flow.rank).or_default();
        rank.work = rank.work.saturating_sub(before.work).saturating_add(after.work);
        rank.leveled =
            rank.leveled.saturating_sub(before.work.min(LEVEL)).saturating_add(after.work.min(LEVEL));
    }

    /// A worker is given what a flow has at its head: virtual time goes on to there.
    pub(super) fn serve(&mut self, number: u64) {
        let Some(flow) = self.flows.get(&number) else { return };
        let (tag, of, rank) = (flow.account.tag(), flow.tenant, flow.rank);
        let Some(tenant) = self.tenants.get_mut(&of) else { return };
        self.now = self.now.max(tenant.account.tag());
        let Some(rank) = tenant.ranks.get_mut(&rank) else { return };
        rank.now = rank.now.max(tag);
        let now = rank.now;
        let idle = rank.idle.iter().take_while(|(tag, _)| *tag <= now).map(|(_, flow)| *flow);
        // Whoever waits and stands behind was passed over, as what is held back is: it banks nothing.
        let behind = rank.ready.iter().take_while(|(at, ..)| *at < level(now)).map(|(_, _, flow)| *flow);
        let past: Vec<u64> = idle.chain(behind).collect();
        for number in past {
            if let Some(flow) = self.flows.get_mut(&number) {
                flow.account.start(now);
            }
            self.settle(number);
        }
        let now = self.now;
        let idle = self.idle.iter().take_while(|(tag, _)| *tag <= now).map(|(_, tenant)| *tenant);
        let behind = self.ready.iter().take_while(|(tag, _)| *tag < now).map(|(_, tenant)| *tenant);
        let past: Vec<u64> = idle.chain(behind).collect();
        for number in past {
            if let Some(tenant) = self.tenants.get_mut(&number) {
                tenant.account.start(now);
            }
            self.settle_tenant(number);
        }
    }

    /// A batch is under way that has something of a flow.
    pub(super) fn begin(&mut self, number: u64) {
        let Some(flow) = self.flows.get_mut(&number) else { return };
        flow.under_way += 1;
        if let Some(tenant) = self.tenants.get_mut(&flow.tenant) {
            tenant.under_way += 1;
        }
    }

    /// The batch is over.
    pub(super) fn end(&mut self, number: u64) {
        let Some(flow) = self.flows.get_mut(&number) else { return };
        flow.under_way = flow.under_way.saturating_sub(1);
        if let Some(tenant) = self.tenants.get_mut(&flow.tenant) {
            tenant.under_way = tenant.under_way.saturating_sub(1);
        }
        self.settle(number);
    }

    /// Puts what it was given into a flow's account and into its tenant's.
    pub(super) fn charge(&mut self, number: u64, given: Duration) {
        let (Some(flow), given) = (self.flows.get_mut(&number), account::nanos(given)) else { return };
        flow.account.charge(given);
        if let Some(tenant) = self.tenants.get_mut(&flow.tenant) {
            tenant.account.charge(given / u64::from(tenant.share));
        }
        self.settle(number);
    }

    /// Less was given than was charged.
    pub(super) fn credit(&mut self, number: u64, too_much: Duration) {
        let (Some(flow), too_much) = (self.flows.get_mut(&number), account::nanos(too_much)) else { return };
        flow.account.credit(too_much);
        if let Some(tenant) = self.tenants.get_mut(&flow.tenant) {
            tenant.account.credit(too_much / u64::from(tenant.share));
        }
    }

    /// Forgets who was given what; nothing may wait or be under way.
    pub(super) fn clear(&mut self) {
        let next = self.next;
        *self = Self { next, ..Self::default() };
    }

    /// Puts a flow where it belongs after a change, and its tenant.
    fn settle(&mut self, number: u64) {
        let Some(flow) = self.flows.get_mut(&number) else { return };
        let of = flow.tenant;
        let Some(tenant) = self.tenants.get_mut(&of) else { return };
        let rank = tenant.ranks.entry(flow.rank).or_default();
        match flow.kept {
            Kept::Apart => {}
            Kept::Idle(tag) => drop(rank.idle.remove(&(tag, number))),
            Kept::Ready(turn) => drop(rank.ready.remove(&turn)),
        }
        let was_ready = matches!(flow.kept, Kept::Ready(_));
        flow.kept = Kept::Apart;
        let mut forgotten = None;
        if let Some((head, _)) = flow.heads.first_key_value() {
            if !was_ready {
                flow.account.start(rank.now);
            }
            let turn = (level(flow.account.tag()), *head, number);
            flow.kept = Kept::Ready(turn);
            rank.ready.insert(turn);
        } else if flow.under_way == 0 {
            if flow.account.tag() <= rank.now {
                forgotten = Some(number);
            } else {
                flow.kept = Kept::Idle(flow.account.tag());
                rank.idle.insert((flow.account.tag(), number));
                if rank.idle.len() > MOST_REMEMBERED {
                    forgotten = rank.idle.pop_first().map(|(_, number)| number);
                }
            }
        }
        if let Some(flow) = forgotten.and_then(|number| self.flows.remove(&number)) {
            self.by_principal.remove(&(flow.principal, flow.rank));
        }
        self.settle_tenant(of);
    }

    fn settle_tenant(&mut self, number: u64) {
        let Some(tenant) = self.tenants.get_mut(&number) else { return };
        match tenant.kept {
            Kept::Apart => {}
            Kept::Idle(tag) => drop(self.idle.remove(&(tag, number))),
            Kept::Ready(tag) => drop(self.ready.remove(&(tag, number))),
        }
        let was_ready = tenant.is_ready();
        tenant.kept = Kept::Apart;
        if tenant.waiting.entries > 0 {
            if !was_ready {
                tenant.account.start(self.now);
            }
            tenant.kept = Kept::Ready(tenant.account.tag());
            self.ready.insert((tenant.account.tag(), number));
        } else if tenant.under_way == 0 {
            if tenant.account.tag() <= self.now {
                self.forget_tenant(number);
                return;
            }
            tenant.kept = Kept::Idle(tenant.account.tag());
            self.idle.insert((tenant.account.tag(), number));
            if self.idle.len() > MOST_REMEMBERED
                && let Some((_, number)) = self.idle.pop_first()
            {
                self.forget_tenant(number);
            }
        }
    }

    /// Forgets a tenant of which nothing waits or is under way, and all its principals.
    fn forget_tenant(&mut self, number: u64) {
        let Some(tenant) = self.tenants.remove(&number) else { return };
        self.by_name.remove(&tenant.name);
        for (_, flow) in tenant.ranks.into_values().flat_map(|rank| rank.idle) {
            if let Some(flow) = self.flows.remove(&flow) {
                self.by_principal.remove(&(flow.principal, flow.rank));
            }
        }
    }
}

impl TenantShare {
    fn is_ready(&self) -> bool {
        matches!(self.kept, Kept::Ready(_))
    }
}
