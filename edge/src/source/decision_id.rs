//! The decision id of a source's sample.
//!
//! The id is derived, not drawn: when the agent was killed before a decision was committed to the journal, the sample comes again
//! and is decided again, and an entry of the spool that was written before is known to be the same one's. It has the form of a
//! UUIDv7, with the sample's own time as its time.

use sha2::{Digest, Sha256};

use crate::journal::{Key, Mark};

/// Derives it from what the sample is known by, from its face, and from whatever else tells its content, in pieces of fixed
/// lengths; no pieces where it was not read. `born` is the sample's time, milliseconds since 1970.
pub(crate) fn decision_id(source: &str, key: &Key, face: &Mark, content: &[&[u8]], born: u64) -> String {
    let mut hasher = Sha256::new();
    // A length before each part, so that no two samples give the same bytes.
    for part in [source.as_bytes(), key.as_bytes()] {
        hasher.update((part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    hasher.update(face.as_bytes());
    for piece in content {
        hasher.update(piece);
    }
    let digest = hasher.finalize();
    let mut random = [0; 10];
    random.copy_from_slice(&digest[..10]);
    uuid::Builder::from_unix_timestamp_millis(born, &random).into_uuid().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_sample_has_the_same_id_and_no_other_has() {
        let (key, face) = (Key::new("a.png"), Mark::new([1; 16]));
        let born = 1_700_000_000_123;
        let id = decision_id("cam1", &key, &face, &[&[7; 32], &[2; 8]], born);
        assert_eq!(id, decision_id("cam1", &key, &face, &[&[7; 32], &[2; 8]], born));
        assert_eq!(id.as_bytes()[14], b'7');
        assert!(id.starts_with("018bcfe5-687b"), "{id}");
        let others = [
            decision_id("cam2", &key, &face, &[&[7; 32], &[2; 8]], born),
            decision_id("cam1a", &Key::new(".png"), &face, &[&[7; 32], &[2; 8]], born),
            decision_id("cam1", &key, &Mark::new([2; 16]), &[&[7; 32], &[2; 8]], born),
            decision_id("cam1", &key, &face, &[], born),
            decision_id("cam1", &key, &face, &[&[8; 32], &[2; 8]], born),
            decision_id("cam1", &key, &face, &[&[7; 32], &[3; 8]], born),
        ];
        assert!(!others.contains(&id));
    }
}
