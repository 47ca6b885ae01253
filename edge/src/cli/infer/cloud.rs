//! Waiting for a pool that is coming up: a person or a script that names one wants its answers, and has the time.
//!
//! In mode `confidence` that begins with the first decision that wants it. [`Outage`] decides, [`Cloud`] waits and says so on standard error. Each time that the pool is gone it is waited for once;
//! one that will not come by waiting (it turns the device away, or what is there is no pool) is not waited for.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use millgate_shared::bundle::manifest::{Manifest, Tier};
use millgate_shared::deciding::Mode;
use millgate_shared::telemetry;
use tokio::sync::watch;
use tokio::time::timeout_at;

use crate::agent::Agent;
use crate::uplink::session::LinkState;
use crate::uplink::troubles::Trouble;

/// The pool, as long as decisions want it.
pub(super) struct Cloud {
    link: watch::Receiver<LinkState>,
    troubles: watch::Receiver<Vec<Trouble>>,
    limit: Duration,
    outage: Mutex<Outage>,
}

impl Cloud {
    /// `None`: there is no pool, or none would ever be asked.
    pub(super) fn new(agent: &Agent, limit: Duration) -> Option<Self> {
        let epoch = agent.epoch();
        let is_wanted = wants_cloud(&epoch.policy().mode, epoch.manifest());
        let (link, troubles) = (agent.link_changes()?, agent.troubles()?);
        is_wanted.then(|| Self { link, troubles, limit, outage: Mutex::default() })
    }

    /// Returns when the pool can be asked, or when it is to be done without. True: it can.
    pub(super) async fn ready(&self) -> bool {
        let (mut link, mut troubles) = (self.link.clone(), self.troubles.clone());
        loop {
            let state = *link.borrow_and_update();
            let is_refused = troubles.borrow_and_update().iter().all(is_refused);
            let (next, says) = self.step(state, is_refused);
            if let Some(says) = says {
                telemetry::tell(&self.words(says));
            }
            let until = match next {
                Next::Ask => return true,
                Next::DoWithout => return false,
                Next::Wait(until) => until,
            };
            let changed = async {
                tokio::select! {
                    changed = link.changed() => changed,
                    changed = troubles.changed() => changed,
                }
            };
            if let Ok(Err(_gone)) = timeout_at(until.into(), changed).await {
                return false;
            }
        }
    }

    /// Whether the pool can be asked right now.
    pub(super) fn is_up(&self) -> bool {
        *self.link.borrow() == LinkState::Up
    }

    fn step(&self, state: LinkState, is_refused: bool) -> (Next, Option<Says>) {
        let mut outage = self.outage.lock().unwrap_or_else(PoisonError::into_inner);
        outage.step(state, is_refused, self.limit, Instant::now())
    }

    fn words(&self, says: Says) -> String {
        let limit = humantime::format_duration(self.limit);
        match says {
            Says::Waits => format!("waiting up to {limit} for the pool (--wait-cloud): {}", self.why()),
            Says::Back(after) => format!("the pool answers, after {:.1} s", after.as_secs_f64()),
            Says::GivenUp => format!("no pool within {limit}; deciding without it: {}", self.why()),
            Says::Refused => {
                format!("the pool is not waited for, since waiting does not help: {}", self.why())
            }
        }
    }

    /// Why there is no line.
    pub(super) fn why(&self) -> String {
        let troubles = self.troubles.borrow();
        let each = troubles.iter().map(|trouble| match &trouble.why {
            None => format!("{}: no answer yet", trouble.pool),
            Some(why) => match why.refusal {
                Some(refusal) => format!("{}: {why} ({})", trouble.pool, refusal.advice()),
                None => format!("{}: {why}", trouble.pool),
            },
        });
        each.collect::<Vec<_>>().join("; ")
    }
}

fn is_refused(trouble: &Trouble) -> bool {
    trouble.why.as_ref().is_some_and(|why| why.refusal.is_some())
}

/// Whether decisions in this mode ever ask a pool.
pub(super) fn wants_cloud(mode: &Mode, manifest: &Manifest) -> bool {
    let is_cloud = |name: &String| {
        let index = manifest.expert_index(name);
        index.is_some_and(|index| manifest.experts[index].tier == Tier::Cloud)
    };
    match mode {
        Mode::Never => false,
        Mode::Pinned(names) => names.iter().any(is_cloud),
        Mode::Confidence | Mode::Gate | Mode::Always => true,
    }
}

/// Whether the pool is waited for. Pure.
#[derive(Debug, Default)]
enum Outage {
    #[default]
    None,
    /// Since then.
    Waiting(Instant),
    /// Until it is there again.
    Over,
}

#[derive(Debug, PartialEq, Eq)]
enum Next {
    Ask,
    DoWithout,
    /// For a change, or until then.
    Wait(Instant),
}

/// For people, once each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Says {
    Waits,
    Back(Duration),
    GivenUp,
    Refused,
}

impl Outage {
    fn step(
        &mut self,
        link: LinkState,
        is_refused: bool,
        limit: Duration,
        now: Instant,
    ) -> (Next, Option<Says>) {
        match link {
            LinkState::Up => {
                let says = match self {
                    Self::Waiting(since) => Some(Says::Back(now.saturating_duration_since(*since))),
                    Self::None | Self::Over => None,
                };
                *self = Self::None;
                return (Next::Ask, says);
            }
            LinkState::Unconfigured => return (Next::DoWithout, None),
            // The first round of dialling has a bound of its own.
            LinkState::Unknown => return (Next::Wait(now + limit.max(FIRST_ROUND)), None),
            LinkState::Down { .. } => {}
        }
        match self {
            Self::Over => (Next::DoWithout, None),
            _ if is_refused => {
                *self = Self::Over;
                (Next::DoWithout, Some(Says::Refused))
            }
            Self::None if limit.is_zero() => {
                *self = Self::Over;
                (Next::DoWithout, None)
            }
            Self::None => {
                *self = Self::Waiting(now);
                (Next::Wait(now + limit), Some(Says::Waits))
            }
            Self::Waiting(since) if now >= *since + limit => {
                *self = Self::Over;
                (Next::DoWithout, Some(Says::GivenUp))
            }
            Self::Waiting(since) => (Next::Wait(*since + limit), None),
        }
    }
}

/// Longer than a round of dialling may take.
const FIRST_ROUND: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(30);
    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_pool_that_comes_up_is_waited_for_and_each_outage_once() {
        let (mut outage, now) = (Outage::default(), Instant::now());
        let down = LinkState::Down { since: now };
        assert!(matches!(outage.step(LinkState::Unknown, false, LIMIT, now), (Next::Wait(_), None)));
        assert_eq!(outage.step(down, false, LIMIT, now), (Next::Wait(now + LIMIT), Some(Says::Waits)));
        // Another picture that waits says nothing.
        let later = now + SECOND;
        assert_eq!(outage.step(down, false, LIMIT, later), (Next::Wait(now + LIMIT), None));
        let up = outage.step(LinkState::Up, false, LIMIT, later);
        assert_eq!(up, (Next::Ask, Some(Says::Back(SECOND))));
        assert_eq!(outage.step(LinkState::Up, false, LIMIT, later), (Next::Ask, None));
        // It goes, and does not come again.
        assert_eq!(outage.step(down, false, LIMIT, later).1, Some(Says::Waits));
        let over = later + LIMIT;
        assert_eq!(outage.step(down, false, LIMIT, over), (Next::DoWithout, Some(Says::GivenUp)));
        assert_eq!(outage.step(down, false, LIMIT, over), (Next::DoWithout, None));
        assert_eq!(outage.step(LinkState::Up, false, LIMIT, over + SECOND), (Next::Ask, None));
    }

    #[test]
    fn what_will_not_come_by_waiting_is_not_waited_for() {
        let (mut outage, now) = (Outage::default(), Instant::now());
        let down = LinkState::Down { since: now };
        assert_eq!(outage.step(down, true, LIMIT, now), (Next::DoWithout, Some(Says::Refused)));
        assert_eq!(outage.step(down, true, LIMIT, now), (Next::DoWithout, None));
        let mut outage = Outage::default();
        assert_eq!(outage.step(down, false, Duration::ZERO, now), (Next::DoWithout, None));
        // One that refuses only once it has come up.
        let mut outage = Outage::default();
        assert_eq!(outage.step(down, false, LIMIT, now).1, Some(Says::Waits));
        assert_eq!(outage.step(down, true, LIMIT, now), (Next::DoWithout, Some(Says::Refused)));
    }
}
