//! Which bundles are answered: the active one, and the one before it until nobody has asked for it for a while. Pure.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use millgate_shared::bundle::BundleDigest;

/// What can be asked for by its digest.
pub(crate) trait Bundled {
    fn digest(&self) -> BundleDigest;
}

/// The active bundle, and the one before.
#[derive(Debug)]
pub(crate) struct Held<B> {
    active: B,
    before: Option<Before<B>>,
}

#[derive(Debug)]
struct Before<B> {
    bundle: B,
    /// When another one became active in its place.
    since: Instant,
    /// When it was last asked for: milliseconds from `since`.
    asked: AtomicU64,
}

impl<B> Before<B> {
    fn new(bundle: B, now: Instant) -> Self {
        Self { bundle, since: now, asked: AtomicU64::new(0) }
    }

    fn asked(&self, now: Instant) {
        self.asked.fetch_max(millis(now.saturating_duration_since(self.since)), Ordering::Relaxed);
    }

    fn idle(&self, now: Instant) -> Duration {
        let asked = self.since + Duration::from_millis(self.asked.load(Ordering::Relaxed));
        now.saturating_duration_since(asked)
    }
}

fn millis(time: Duration) -> u64 {
    time.as_millis().try_into().unwrap_or(u64::MAX)
}

impl<B: Bundled> Held<B> {
    pub(crate) fn new(active: B) -> Self {
        Self { active, before: None }
    }

    pub(crate) fn active(&self) -> &B {
        &self.active
    }

    /// `None`: there was none, or it was let go.
    pub(crate) fn before(&self) -> Option<&B> {
        self.before.as_ref().map(|before| &before.bundle)
    }

    /// How long the bundle before was not asked for; `None` where there is none.
    pub(crate) fn idle(&self, now: Instant) -> Option<Duration> {
        self.before.as_ref().map(|before| before.idle(now))
    }

    /// The bundle with this digest, which somebody asks for now; `None`: it is not answered here.
    pub(crate) fn find(&self, digest: BundleDigest, now: Instant) -> Option<&B> {
        if self.active.digest() == digest {
            return Some(&self.active);
        }
        let before = self.before.as_ref().filter(|before| before.bundle.digest() == digest)?;
        before.asked(now);
        Some(&before.bundle)
    }

    /// Makes `to` the active bundle, and the active one the one before. Gives what is answered no more: the one that was
    /// before, unless it is the one that becomes active. A switch to the active bundle changes nothing, and gives `to`
    /// back.
    pub(crate) fn switch(&mut self, to: B, now: Instant) -> Option<B> {
        if to.digest() == self.active.digest() {
            return Some(to);
        }
        let gone = self.before.take().map(|before| before.bundle);
        let active = std::mem::replace(&mut self.active, to);
        self.before = Some(Before::new(active, now));
        gone.filter(|gone| gone.digest() != self.active.digest())
    }

    /// Takes the bundle before out, if nobody has asked for it for `patience`.
    pub(crate) fn let_go(&mut self, now: Instant, patience: Duration) -> Option<B> {
        self.before.take_if(|before| before.idle(now) >= patience).map(|before| before.bundle)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    struct Toy(u8);

    impl Bundled for Toy {
        fn digest(&self) -> BundleDigest {
            digest(self.0)
        }
    }

    fn digest(byte: u8) -> BundleDigest {
        BundleDigest::from_bytes(&[byte; 32]).unwrap()
    }

    #[test]
    fn the_active_one_and_the_one_before_are_found_and_no_other() {
        let now = Instant::now();
        let mut held = Held::new(Toy(1));
        assert_eq!(held.switch(Toy(2), now), None);
        assert_eq!((*held.active(), held.before()), (Toy(2), Some(&Toy(1))));
        assert_eq!(held.find(digest(1), now), Some(&Toy(1)));
        assert_eq!(held.find(digest(2), now), Some(&Toy(2)));
        assert_eq!(held.find(digest(3), now), None);
        // A third one takes the place of the first.
        assert_eq!(held.switch(Toy(3), now), Some(Toy(1)));
        assert_eq!(held.find(digest(1), now), None);
    }

    #[test]
    fn a_way_back_loses_neither() {
        let now = Instant::now();
        let mut held = Held::new(Toy(1));
        held.switch(Toy(2), now);
        assert_eq!(held.switch(Toy(1), now), None);
        assert_eq!((*held.active(), held.before()), (Toy(1), Some(&Toy(2))));
        assert_eq!(held.switch(Toy(1), now), Some(Toy(1)));
        assert_eq!((*held.active(), held.before()), (Toy(1), Some(&Toy(2))));
    }

    #[test]
    fn the_one_before_goes_when_nobody_has_asked_for_it_for_a_while() {
        let (now, patience) = (Instant::now(), Duration::from_secs(600));
        let after = |seconds| now + Duration::from_secs(seconds);
        let mut held = Held::new(Toy(1));
        assert_eq!((held.let_go(after(900), patience), held.idle(now)), (None, None));
        held.switch(Toy(2), now);
        assert_eq!(held.let_go(after(599), patience), None);
        // Asking for the active one keeps nothing else.
        held.find(digest(2), after(599));
        held.find(digest(1), after(500));
        assert_eq!(held.idle(after(600)), Some(Duration::from_secs(100)));
        assert_eq!(held.let_go(after(1099), patience), None);
        assert_eq!(held.let_go(after(1100), patience), Some(Toy(1)));
        assert_eq!((held.find(digest(1), after(1100)), held.before()), (None, None));
    }
}
