//! Who this device is towards the pool: certificate, key, and the time by which certificates are judged.

use std::time::{Duration, SystemTime};

use millgate_shared::files;
use millgate_shared::identity::Floor;

use crate::finding::Item;
use crate::identity::keeping::Urgency;
use crate::identity::store::Store;
use crate::identity::{Identity, IdentityConfig};

const ENROL: &str =
    "enrol this device: `millgate-cloud enroll-token` at the pool, then `millgate-edge enroll`";

/// `needs_tls`: a pool with https is configured. Blocks.
pub(super) fn check(config: &IdentityConfig, needs_tls: bool) -> Vec<Item> {
    let identity = match Identity::open(config) {
        Ok(identity) => identity,
        Err(error) => {
            let advice = "is it readable by the agent's user? else enrol again with --force";
            return vec![Item::failed("identity", error.to_string(), advice)];
        }
    };
    let mut items = Vec::new();
    match identity.certificate() {
        Some(certificate) => {
            let name =
                certificate.device.as_ref().map_or_else(|| "no device".to_owned(), ToString::to_string);
            let ends = date(certificate.not_after);
            items.push(match Urgency::of(&certificate, identity.clock().now()) {
                Urgency::Calm => Item::ok("identity", format!("{name}, certificate until {ends}")),
                Urgency::Near => Item::warning(
                    "identity",
                    format!("{name}, certificate only until {ends}"),
                    "it should have been renewed: see the agent's log",
                ),
                Urgency::Over => Item::warning(
                    "identity",
                    format!("{name}, certificate ended on {ends}"),
                    "`run` renews it within the pool's grace; after that, enrol again with --force",
                ),
            });
            let store = Store::new(&config.dir);
            let path = store.key().display().to_string();
            match files::readable_by_others(&store.key()) {
                Ok(0) => {}
                Ok(_) => {
                    let message = format!("{path} can be read by others than its owner");
                    items.push(Item::failed("identity key", message, format!("chmod 600 {path}")));
                }
                Err(error) => {
                    let message = format!("{path}: who may read it is not known: {error}");
                    items.push(Item::warning("identity key", message, "look at it as the agent's user"));
                }
            }
        }
        None if !needs_tls => {}
        None if identity.trusts_anyone() => {
            items.push(Item::warning("identity", "this device has no certificate", ENROL));
        }
        None => items.push(Item::failed(
            "identity",
            "this device has no certificate, and nothing to know the pool by",
            ENROL,
        )),
    }
    items.extend(floor(identity.clock()));
    items
}

/// Only where the system's clock is behind what is certainly past.
fn floor(clock: &Floor) -> Option<Item> {
    let behind = clock.behind()?;
    let behind = humantime::format_duration(Duration::from_secs(behind.as_secs()));
    let message = format!(
        "the system's clock is {behind} behind the last known time; certificates are judged by {}",
        date(clock.now())
    );
    let advice = "the pool is reached all the same, but records carry the wrong time: set the clock";
    Some(Item::warning("clock floor", message, advice))
}

fn date(time: SystemTime) -> String {
    humantime::format_rfc3339_seconds(time).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Status;

    #[test]
    fn a_device_that_wakes_up_in_1970_is_told_so() {
        let clock = Floor::with_system(None, || SystemTime::UNIX_EPOCH);
        let item = floor(&clock).unwrap();
        assert_eq!(item.status, Status::Warning);
        assert!(item.message.contains("behind the last known time"), "{item:?}");
        assert!(floor(&Floor::unkept()).is_none());
    }

    #[test]
    fn a_device_without_a_certificate_is_wrong_only_where_one_is_needed() {
        let dir = tempfile::tempdir().unwrap();
        let config = IdentityConfig { dir: dir.path().join("identity"), ca: Vec::new() };
        assert!(check(&config, false).is_empty());
        let items = check(&config, true);
        assert_eq!((items.len(), items[0].status), (1, Status::Failed));
        assert!(items[0].advice.as_ref().unwrap().contains("millgate-edge enroll"));
    }
}
