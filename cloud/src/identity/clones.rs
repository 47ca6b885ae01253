//! The devices that were at two places at once, as the list of devices shows them: a row for each, and the last time that it
//! was noticed.

use std::net::IpAddr;

use jiff::Timestamp;
use millgate_shared::identity::DeviceName;
use serde::{Deserialize, Serialize};

use super::devices::Device;
use super::{StateDir, StateError};

const TABLE: &str = "clones.json";
/// Most rows that are kept; the oldest go first.
const MOST: usize = 1000;

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Noticed {
    pub tenant: String,
    pub device: String,
    pub noticed: Timestamp,
    /// Two addresses from which it has called by turns.
    pub addresses: [IpAddr; 2],
}

impl Noticed {
    pub fn new(name: &DeviceName, noticed: Timestamp, addresses: [IpAddr; 2]) -> Self {
        let (tenant, device) = (name.tenant().to_owned(), name.device().to_owned());
        Self { tenant, device, noticed, addresses }
    }

    fn is(&self, other: &Self) -> bool {
        self.tenant == other.tenant && self.device == other.device
    }
}

/// Writes down what was noticed, each in place of what was known of its device. Blocks.
pub fn note(state: &StateDir, noticed: Vec<Noticed>) -> Result<(), StateError> {
    let locked = state.lock()?;
    let mut rows: Vec<Noticed> = state.rows(TABLE)?;
    for clone in noticed {
        rows.retain(|row| !row.is(&clone));
        rows.push(clone);
    }
    rows.sort_by_key(|row| row.noticed);
    rows.drain(..rows.len().saturating_sub(MOST));
    state.write_rows(&locked, TABLE, &rows)
}

/// All that were noticed.
pub fn list(state: &StateDir) -> Result<Vec<Noticed>, StateError> {
    state.rows(TABLE)
}

/// What was noticed of a device since it enrolled with the key that it has.
pub fn of<'a>(clones: &'a [Noticed], device: &Device) -> Option<&'a Noticed> {
    let found = clones.iter().find(|row| row.tenant == device.tenant && row.device == device.device)?;
    (device.enrolled.is_none_or(|enrolled| enrolled < found.noticed)).then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_device_has_a_row_with_the_last_time() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::new(dir.path());
        let name = |device: &str| DeviceName::new("acme", device).unwrap();
        let at = |second| Timestamp::from_second(second).unwrap();
        let addresses = ["10.0.0.1", "10.0.0.2"].map(|address| address.parse().unwrap());
        note(&state, vec![Noticed::new(&name("a"), at(5), addresses)]).unwrap();
        let more =
            [("a", 9), ("b", 7)].map(|(device, second)| Noticed::new(&name(device), at(second), addresses));
        note(&state, more.into()).unwrap();
        let rows = list(&state).unwrap();
        let shown: Vec<_> = rows.iter().map(|row| (row.device.as_str(), row.noticed)).collect();
        assert_eq!(shown, [("b", at(7)), ("a", at(9))]);
    }
}
