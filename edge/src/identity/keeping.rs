//! While the agent runs: files that were exchanged are read again, the certificate is renewed in time, and the last known
//! time is kept. No sample waits for any of it.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use millgate_shared::files::Look;
use millgate_shared::identity::Certificate;
use millgate_shared::identity::dial::H2;
use millgate_shared::shutdown::Tasks;
use millgate_shared::transport::tcp::Proxy;
use tokio::time::Instant;

use super::asking::{self, AskError};
use super::{Identity, Inner};
use crate::backoff::{Backoff, jittered};

/// From one look at files and dates to the next.
const LOOK: Duration = Duration::from_secs(2);
/// The first pause after a renewal that failed, and the longest.
const PAUSES: Backoff = Backoff::new(Duration::from_secs(30), Duration::from_secs(3600));

impl Identity {
    /// Keeps it good until `tasks` stop. `pools` are asked for renewals, then the one where the device has enrolled; those
    /// without https are left out. All of them through the proxy, if there is one.
    pub fn keep(&self, pools: impl IntoIterator<Item = String>, proxy: Option<Proxy>, tasks: &Tasks) {
        let pools: Vec<String> = pools.into_iter().filter(|url| url.starts_with("https://")).collect();
        let (identity, stop) = (self.clone(), tasks.token().clone());
        tasks.spawn(async move {
            let mut renewals = Renewals::new(fastrand::f64());
            loop {
                let is_asked = tokio::select! {
                    () = stop.cancelled() => return,
                    () = identity.inner.asked.notified() => true,
                    () = tokio::time::sleep(LOOK) => false,
                };
                let look = {
                    let identity = identity.clone();
                    move || identity.inner.look(is_asked)
                };
                if tokio::task::spawn_blocking(look).await.is_err() {
                    tracing::error!("a look at the device's certificate has failed");
                }
                if !renewals.is_due(identity.certificate().as_ref(), identity.clock().now(), Instant::now()) {
                    continue;
                }
                let renewing = Box::pin(identity.renew(&pools, proxy.as_ref(), &mut renewals));
                if stop.run_until_cancelled(renewing).await.is_none() {
                    return;
                }
            }
        });
    }

    /// Reads certificate, key and authorities again, whether their files seem to have changed or not: soon, where
    /// [`Identity::keep`] is at work.
    pub fn reload(&self) {
        self.inner.asked.notify_one();
    }

    async fn renew(&self, pools: &[String], proxy: Option<&Proxy>, renewals: &mut Renewals) {
        let Some(chain) = self.inner.held.get() else { return };
        let old = &chain.certificates()[0];
        let counts = &self.inner.counts;
        let mut failure = None;
        for pool in self.pools(pools) {
            match self.renew_at(&pool, proxy, old).await {
                Ok(certificate) => {
                    let not_after = date(certificate.not_after);
                    match self.load_renewed().await {
                        Ok(()) => {
                            tracing::info!(pool, not_after, "the device's certificate was renewed");
                            counts.renewed.inc();
                            return renewals.succeeded();
                        }
                        // Another pool would sign the same.
                        Err(error) => {
                            failure = Some((pool, error));
                            break;
                        }
                    }
                }
                Err(error) => failure = Some((pool, error.to_string())),
            }
        }
        let Some((pool, error)) = failure else { return };
        counts.failed.inc();
        let pause = renewals.failed(Instant::now());
        let ends = date(chain.leaf().not_after);
        let again_in = humantime::format_duration(Duration::from_secs(pause.as_secs())).to_string();
        match Urgency::of(chain.leaf(), self.clock().now()) {
            Urgency::Calm => tracing::warn!(pool, %error, ends, again_in, "the certificate was not renewed"),
            Urgency::Near => {
                tracing::error!(pool, %error, ends, again_in, "the certificate ends soon and is not renewed");
            }
            Urgency::Over => {
                tracing::error!(pool, %error, ends, again_in, "the certificate has ended and is not renewed");
            }
        }
    }

    async fn load_renewed(&self) -> Result<(), String> {
        let inner = Arc::clone(&self.inner);
        let loaded = tokio::task::spawn_blocking(move || inner.load()).await;
        let loaded = loaded.map_err(|error| error.to_string())?;
        loaded.map_err(|error| format!("it was renewed, and what came cannot be used: {error}"))
    }

    /// With the certificate, and then without: one that the pool takes for ended is proved by its key alone.
    async fn renew_at(
        &self,
        pool: &str,
        proxy: Option<&Proxy>,
        old: &rustls::pki_types::CertificateDer<'static>,
    ) -> Result<Certificate, AskError> {
        let store = &self.inner.store;
        match asking::renew(store, old, pool, &self.client_config(&[H2]), proxy).await {
            Err(AskError::Dial(_) | AskError::NoAnswer { .. }) => {}
            answered => return answered,
        }
        asking::renew(store, old, pool, &self.nameless_config(), proxy).await
    }

    fn pools(&self, pools: &[String]) -> Vec<String> {
        let record = self.inner.store.record().ok().flatten().map(|record| record.pool);
        let mut all = pools.to_vec();
        all.extend(record.filter(|pool| !pools.contains(pool)));
        all
    }
}

impl Inner {
    /// With `is_asked` the files are read whether they seem to have changed or not. Blocks.
    fn look(&self, is_asked: bool) {
        match self.files.look(is_asked, || self.load()) {
            Look::Same | Look::FailedAgain => {}
            Look::Read => tracing::info!("the device's identity was read again"),
            Look::Failed(error) => {
                tracing::error!(%error, "the device's identity cannot be read; the old one stays");
            }
        }
        if let Err(error) = self.clock.keep() {
            tracing::debug!(%error, "the last known time cannot be kept");
        }
    }
}

fn date(time: SystemTime) -> String {
    humantime::format_rfc3339_seconds(time).to_string()
}

/// When to renew. Pure.
#[derive(Debug)]
struct Renewals {
    /// Devices that enrolled together do not renew together.
    jitter: f64,
    failures: u32,
    /// Not before then, after a failure.
    pause: Option<Instant>,
}

impl Renewals {
    fn new(jitter: f64) -> Self {
        Self { jitter, failures: 0, pause: None }
    }

    /// From two thirds of its life on, a little later for some.
    fn is_due(&self, certificate: Option<&Certificate>, time: SystemTime, now: Instant) -> bool {
        let Some(certificate) = certificate else { return false };
        let life = certificate.not_after.duration_since(certificate.not_before).unwrap_or_default();
        time >= certificate.renewal() + life.mul_f64(self.jitter / 20.0)
            && self.pause.is_none_or(|until| now >= until)
    }

    fn succeeded(&mut self) {
        (self.failures, self.pause) = (0, None);
    }

    /// How long to wait.
    fn failed(&mut self, now: Instant) -> Duration {
        self.failures += 1;
        let pause = jittered(PAUSES.of(self.failures), self.jitter);
        self.pause = Some(now + pause);
        pause
    }
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Urgency {
    Calm,
    /// The last tenth of its life.
    Near,
    Over,
}

impl Urgency {
    pub(crate) fn of(certificate: &Certificate, time: SystemTime) -> Self {
        let life = certificate.not_after.duration_since(certificate.not_before).unwrap_or_default();
        match certificate.not_after.duration_since(time) {
            Err(_) => Self::Over,
            Ok(left) if left < life / 10 => Self::Near,
            Ok(_) => Self::Calm,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 3600);

    fn certificate(from: SystemTime) -> Certificate {
        Certificate {
            device: None,
            key: [0; 32],
            fingerprint: [0; 32],
            serial: String::new(),
            not_before: from,
            not_after: from + 90 * DAY,
            names: Vec::new(),
            is_authority: false,
            is_self_issued: false,
        }
    }

    #[test]
    fn it_renews_after_two_thirds_and_waits_longer_after_each_failure() {
        let (from, now) = (SystemTime::UNIX_EPOCH + 20_000 * DAY, Instant::now());
        let certificate = certificate(from);
        let due =
            |renewals: &Renewals, day: u32, now| renewals.is_due(Some(&certificate), from + day * DAY, now);
        let (first, last) = (Renewals::new(0.0), Renewals::new(1.0));
        assert!(!due(&first, 59, now) && due(&first, 60, now));
        assert!(!due(&last, 64, now) && due(&last, 65, now));
        assert!(!first.is_due(None, from + 80 * DAY, now));
        let mut renewals = Renewals::new(1.0);
        let pauses: Vec<u64> = (0..10).map(|_| renewals.failed(now).as_secs()).collect();
        assert_eq!(pauses, [30, 60, 120, 240, 480, 960, 1920, 3600, 3600, 3600]);
        assert!(!due(&renewals, 80, now) && due(&renewals, 80, now + PAUSES.longest));
        renewals.succeeded();
        assert!(due(&renewals, 80, now));
        assert!(Renewals::new(0.0).failed(now) >= PAUSES.first / 2);
    }

    #[test]
    fn the_end_is_near_in_the_last_tenth() {
        let from = SystemTime::UNIX_EPOCH + 20_000 * DAY;
        let of = |day: u32| Urgency::of(&certificate(from), from + day * DAY);
        assert_eq!(
            [of(0), of(80), of(82), of(91)],
            [Urgency::Calm, Urgency::Calm, Urgency::Near, Urgency::Over]
        );
    }
}
