//! Names of pools as addresses. During an outage names do not resolve either, and a lookup may hang for long; so the last
//! addresses that were found are kept and used, and no more than one lookup is under way.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use millgate_shared::shutdown::Tasks;
use tokio::sync::watch;

/// Addresses are looked up again after this time, when they are needed.
const FRESH: Duration = Duration::from_secs(30);

#[derive(Debug, Clone)]
pub(super) struct Resolver {
    host: String,
    port: u16,
    tasks: Tasks,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    found: watch::Sender<Option<Found>>,
    is_looking: AtomicBool,
}

#[derive(Debug, Clone)]
struct Found {
    at: Instant,
    result: Result<Vec<SocketAddr>, String>,
}

impl Resolver {
    pub(super) fn new(host: &str, port: u16, tasks: Tasks) -> Self {
        let shared = Shared { found: watch::channel(None).0, is_looking: AtomicBool::new(false) };
        Self { host: host.to_owned(), port, tasks, shared: Arc::new(shared) }
    }

    /// At once, except for a name that was never found. The caller bounds the time.
    pub(super) async fn addresses(&self) -> Result<Vec<SocketAddr>, String> {
        if let Ok(ip) = self.host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(ip, self.port)]);
        }
        let mut found = self.shared.found.subscribe();
        let known = found.borrow_and_update().clone();
        let is_fresh = known.as_ref().is_some_and(|known| known.result.is_ok() && known.at.elapsed() < FRESH);
        if !is_fresh {
            self.look();
        }
        match known {
            Some(Found { result: Ok(addresses), .. }) => Ok(addresses),
            _ => {
                let looked = found.changed().await;
                let result = found.borrow().as_ref().map(|found| found.result.clone());
                match (looked, result) {
                    (Ok(()), Some(result)) => result,
                    _ => Err(format!("`{}` was not looked up", self.host)),
                }
            }
        }
    }

    /// The first one, without looking.
    pub(super) fn known(&self) -> Option<SocketAddr> {
        if let Ok(ip) = self.host.parse::<IpAddr>() {
            return Some(SocketAddr::new(ip, self.port));
        }
        let found = self.shared.found.borrow();
        found.as_ref().and_then(|found| found.result.as_ref().ok()?.first().copied())
    }

    fn look(&self) {
        if self.shared.is_looking.swap(true, Ordering::AcqRel) {
            return;
        }
        let Self { host, port, shared, tasks } = self.clone();
        let stop = tasks.token().clone();
        tasks.spawn(async move {
            let looking = tokio::net::lookup_host((host.as_str(), port));
            let result = match stop.run_until_cancelled(looking).await {
                Some(Ok(addresses)) => Ok(addresses.collect::<Vec<_>>()),
                Some(Err(error)) => Err(format!("`{host}` cannot be resolved: {error}")),
                None => return,
            };
            let result = result.and_then(|all| match all.is_empty() {
                true => Err(format!("`{host}` has no address")),
                false => Ok(all),
            });
            shared.found.send_modify(|found| {
                // Addresses that were good are better than none.
                let keeps = result.is_err() && found.as_ref().is_some_and(|found| found.result.is_ok());
                if !keeps {
                    *found = Some(Found { at: Instant::now(), result });
                }
            });
            shared.is_looking.store(false, Ordering::Release);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_address_needs_no_lookup_and_a_name_gets_one() {
        let tasks = Tasks::new();
        let resolver = Resolver::new("::1", 80, tasks.clone());
        assert_eq!(resolver.addresses().await.unwrap(), ["[::1]:80".parse::<SocketAddr>().unwrap()]);
        let resolver = Resolver::new("localhost", 80, tasks.clone());
        let found = resolver.addresses().await.unwrap();
        assert!(found.iter().all(|address| address.ip().is_loopback()), "{found:?}");
        // From memory.
        assert_eq!(resolver.addresses().await.unwrap(), found);
        let nobody = Resolver::new("nobody.invalid", 80, tasks);
        assert!(nobody.addresses().await.unwrap_err().contains("nobody.invalid"));
    }
}
