//! Everything the agent depends on, looked at before a device is trusted with it. Nothing here waits for ever: each item
//! has a time limit, and an item that runs into it says so.

use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use crate::config::EdgeConfig;
use crate::finding::{Item, Status};
use crate::identity::Identity;
use crate::uplink::Pools;

mod bundle;
mod clock;
mod disk;
mod identity;
mod labels;
mod pool;
mod ports;
mod send;
mod wishes;

/// For one item, unless it says otherwise.
const LIMIT: Duration = Duration::from_secs(10);
/// Loading a bundle and running its golden samples, on a slow device.
const BUNDLE_LIMIT: Duration = Duration::from_secs(120);

/// What is to be checked.
#[derive(Debug, Clone)]
pub struct Subject {
    /// edge.toml. None: only bundle, clock and pool.
    pub config: Option<PathBuf>,
    /// Bundle that is checked in place of the configuration's.
    pub bundle: Option<PathBuf>,
    /// Pools that are checked in place of the configuration's.
    pub pools: Option<Pools>,
    /// Where the device's certificate is, instead of where the configuration says.
    pub identity: Option<PathBuf>,
    /// Plain text may leave the machine, also where the configuration does not say so.
    pub plaintext_beyond_loopback: bool,
    /// Only what a start depends on.
    pub is_local_only: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Nothing has failed.
    pub ok: bool,
    pub items: Vec<Item>,
}

impl Subject {
    /// What stands on the command line goes before what stands in the file.
    fn put_into(&self, config: &mut EdgeConfig) {
        self.pools.iter().for_each(|pools| config.offload.cloud.clone_from(&pools.urls));
        self.identity.iter().for_each(|dir| config.identity.dir.clone_from(dir));
        config.offload.plaintext_beyond_loopback |= self.plaintext_beyond_loopback;
    }
}

/// Looks at all of it.
pub async fn examine(subject: Subject) -> Report {
    let mut items = Vec::new();
    let mut config = match &subject.config {
        Some(path) => match EdgeConfig::load(path) {
            Ok(config) => {
                let (sources, sinks) = (config.sources.len(), config.sinks.len().max(1));
                items.push(Item::ok(
                    "config",
                    format!("{}: {sources} sources, {sinks} sinks", path.display()),
                ));
                Some(config)
            }
            Err(error) => {
                let advice = "correct the key named; deploy/edge/edge.toml documents every key";
                items.push(Item::failed("config", error.to_string(), advice));
                items.push(not_looked_at(&subject));
                None
            }
        },
        None => None,
    };
    let is_unread = subject.config.is_some() && config.is_none();
    if let Some(config) = &mut config {
        subject.put_into(config);
    }
    let bundle = subject.bundle.clone().or_else(|| config.as_ref().map(|config| config.bundle.clone()));
    let pools = match &config {
        Some(config) => {
            let config = config.clone();
            let open = move || config.pools(&Identity::open_or_bare(&config.identity));
            blocking("identity", LIMIT, open).await
        }
        None => Ok(subject.pools.clone()),
    };

    let opened = match bundle.clone() {
        Some(path) => {
            let (opened, found) = blocking("bundle", BUNDLE_LIMIT, {
                let config = config.clone();
                move || bundle::check(&path, config.as_ref())
            })
            .await
            .unwrap_or_else(|item| (None, vec![item]));
            items.extend(found);
            opened
        }
        None => None,
    };
    if let Some(config) = config {
        items.extend(device(config, subject.is_local_only).await);
    }
    items.extend(many("clock", move || vec![clock::check(bundle.as_deref())]).await);
    if !subject.is_local_only {
        match pools {
            Ok(Some(pools)) => items.extend(pool::check(&pools, opened.as_deref()).await),
            // What it names is not known.
            Ok(None) if is_unread => {}
            Ok(None) => items.push(Item::warning(
                "pool",
                "none is configured: decisions that want it are `degraded`",
                "set `offload.cloud` if there is one",
            )),
            Err(item) => items.push(item),
        }
    }
    Report { ok: items.iter().all(|item| item.status != Status::Failed), items }
}

/// Nothing is concluded about what the configuration may name.
fn not_looked_at(subject: &Subject) -> Item {
    let flags =
        [("bundle", subject.bundle.is_some()), ("pool", subject.pools.is_some() || subject.is_local_only)];
    let given = flags.iter().filter(|(_, is_given)| !is_given).map(|(name, _)| *name);
    let names: Vec<&str> =
        given.chain(["identity", "directories", "folders", "receivers", "ports"]).collect();
    let message = format!("{}: they stand in the configuration, which cannot be used", names.join(", "));
    Item::warning("not looked at", message, "correct the configuration, then check again")
}

/// What the configuration names on this device.
async fn device(config: EdgeConfig, is_local_only: bool) -> Vec<Item> {
    let mut items = Vec::new();
    let disks = config.clone();
    let (is_running, found) =
        blocking("disk", LIMIT, move || disk::check(&disks)).await.unwrap_or_else(|item| (false, vec![item]));
    items.extend(found);
    let state_dir = config.state_dir.clone();
    items.extend(many("drift", move || labels::check(&state_dir)).await);
    if !is_local_only {
        for source in config.sources.clone() {
            let name = format!("source {}", source.settings().name());
            items.extend(many(&name, move || source.settings().look_there()).await);
        }
        for (at, sink) in config.sinks.iter().cloned().enumerate() {
            let key = format!("sinks[{at}]");
            items.extend(many(&key.clone(), move || sink.settings().look_there(&key)).await);
        }
    }
    let (who, needs_tls) = (config.identity.clone(), has_tls(&config));
    items.extend(many("identity", move || identity::check(&who, needs_tls)).await);
    items.extend(many("ports", move || ports::check(&config, is_running)).await);
    items
}

fn has_tls(config: &EdgeConfig) -> bool {
    config.offload.cloud.iter().any(|url| url.starts_with("https://"))
}

async fn many(name: &str, work: impl FnOnce() -> Vec<Item> + Send + 'static) -> Vec<Item> {
    blocking(name, LIMIT, work).await.unwrap_or_else(|item| vec![item])
}

/// Runs `work` on a thread of its own, but waits for it only so long.
async fn blocking<T: Send + 'static>(
    name: &str,
    limit: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Item> {
    match within(limit, tokio::task::spawn_blocking(work)).await {
        Some(Ok(done)) => Ok(done),
        Some(Err(error)) => {
            Err(Item::failed(name, format!("the check itself failed: {error}"), "report this"))
        }
        None => Err(Item::failed(
            name,
            format!("no answer within {}", humantime::format_duration(limit)),
            "look for a disk or a network share that hangs",
        )),
    }
}

async fn within<T>(limit: Duration, work: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(limit, work).await.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_go_before_the_configuration() {
        let mut config = EdgeConfig::default();
        let mut subject = Subject {
            config: None,
            bundle: None,
            pools: None,
            identity: None,
            plaintext_beyond_loopback: false,
            is_local_only: false,
        };
        subject.put_into(&mut config);
        assert_eq!(config, EdgeConfig::default());
        subject.pools = Some(Pools::from("http://10.0.0.5:8001".to_owned()));
        subject.identity = Some("elsewhere".into());
        subject.plaintext_beyond_loopback = true;
        subject.put_into(&mut config);
        let pools = config.offload.pools();
        assert!(pools.parsed().is_ok());
        assert_eq!(
            (pools.urls, config.identity.dir),
            (vec!["http://10.0.0.5:8001".to_owned()], "elsewhere".into())
        );
    }
}
