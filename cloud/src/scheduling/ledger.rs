//! What became of each tenant's entries, for an operator.

use std::collections::HashMap;
use std::time::Duration;

use super::Scheduler;
use crate::principal::Tenant;

/// Tenants that are counted each for itself; those that come when so many are known are counted together.
const MOST_TENANTS: usize = 1024;

/// Counted since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Compute in batches that are over: of each the part that its rows have.
    pub compute: Duration,
    /// Entries that were in a batch that is over.
    pub served: u64,
    /// Entries that were not let in for now.
    pub refused: u64,
    /// Entries that were let in and made room for others.
    pub shed: u64,
    /// Entries that were let in and dropped, since they could no longer be in time.
    pub expired: u64,
    /// Requests that asked for a better rank than they have a right to.
    pub outranked: u64,
}

impl Tally {
    pub fn add(&mut self, other: &Self) {
        self.compute = self.compute.saturating_add(other.compute);
        self.served += other.served;
        self.refused += other.refused;
        self.shed += other.shed;
        self.expired += other.expired;
        self.outranked += other.outranked;
    }
}

#[derive(Debug, Default)]
pub(super) struct Ledger {
    by_tenant: HashMap<Tenant, Tally>,
    rest: Tally,
}

impl Ledger {
    pub(super) fn of(&mut self, tenant: &Tenant) -> &mut Tally {
        if self.by_tenant.contains_key(tenant) || self.by_tenant.len() < MOST_TENANTS {
            // A name is cloned for each count, which is cheap.
            return self.by_tenant.entry(tenant.clone()).or_default();
        }
        &mut self.rest
    }
}

impl<K, T> Scheduler<K, T> {
    /// What each tenant has waiting now, in entries, and what became of what it had; `None` stands for those that are counted
    /// together.
    pub fn tenants(&self) -> Vec<(Option<Tenant>, usize, Tally)> {
        let waiting = |tenant: &Tenant| {
            let found = self.shares.tenant_of(tenant).and_then(|number| self.shares.tenant(number));
            found.map_or(0, |tenant| tenant.waiting.entries)
        };
        let known = self.ledger.by_tenant.iter();
        let mut all: Vec<_> =
            known.map(|(tenant, tally)| (Some(tenant.clone()), waiting(tenant), *tally)).collect();
        let known: usize = all.iter().map(|(_, waiting, _)| waiting).sum();
        all.push((None, self.waiting.entries.saturating_sub(known), self.ledger.rest));
        all
    }

    /// A request of a tenant asked for a better rank than it has a right to.
    pub fn outranked(&mut self, tenant: &Tenant) {
        self.ledger.of(tenant).outranked += 1;
    }
}
