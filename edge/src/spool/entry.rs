//! What is kept of a provisional decision: enough to deliver it, to ask for it, and to amend it.
//!
//! ```text
//! format u8 | origin u8 | decided at, ms since 1970, i64 | bundle digest, 32 bytes | id: length u16, text
//!   | JSON {open, line}: length u32, text | requests: count u32, each length u32, protobuf
//! ```

use std::sync::Arc;

use millgate_shared::bundle::BundleDigest;
use millgate_shared::deciding::Open;
use millgate_shared::proto::v1;
use millgate_shared::wire;
use serde::{Deserialize, Serialize};

const FORMAT: u8 = 2;

/// Where the sample came from, which says what an entry without a commit in the journal means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A folder, where the file still is: it will be decided again.
    File,
    /// The agent's gRPC: its caller may have had the answer, and nobody will decide it again.
    Api,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    pub(crate) head: Head,
    pub(crate) open: Open,
    /// The record of the first decision, as the sinks get it, with its line feed.
    pub(crate) line: String,
    /// Requests as they would have been sent; each names its experts.
    pub(crate) requests: Vec<v1::RunExpertsRequest>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) origin: Origin,
    /// Milliseconds since 1970, by the device's clock.
    pub(crate) decided_at: i64,
    pub(crate) digest: BundleDigest,
    pub(crate) id: String,
}

/// An entry as it goes to the disk. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Written {
    pub(crate) head: Head,
    pub(crate) body: Arc<[u8]>,
}

#[derive(Serialize, Deserialize)]
struct Text {
    open: Open,
    line: String,
}

/// Why a body is no entry. A CRC has passed it, so it was written by another version, or by a bug.
#[derive(Debug, thiserror::Error)]
#[error("spool entry: {0}")]
pub(crate) struct EntryError(String);

fn wrong(message: impl ToString) -> EntryError {
    EntryError(message.to_string())
}

impl Entry {
    /// Copies what may be megabytes.
    pub(crate) fn into_written(self) -> Result<Written, EntryError> {
        let body = self.write()?.into();
        Ok(Written { head: self.head, body })
    }

    pub(crate) fn write(&self) -> Result<Vec<u8>, EntryError> {
        let text = Text { open: self.open.clone(), line: self.line.clone() };
        let text = serde_json::to_vec(&text).map_err(wrong)?;
        let id = self.head.id.as_bytes();
        let mut out = Vec::with_capacity(128 + text.len());
        out.push(FORMAT);
        out.push(match self.head.origin {
            Origin::File => 0,
            Origin::Api => 1,
        });
        out.extend(self.head.decided_at.to_le_bytes());
        out.extend(self.head.digest.as_bytes());
        out.extend(u16::try_from(id.len()).map_err(wrong)?.to_le_bytes());
        out.extend(id);
        put(&mut out, &text)?;
        out.extend((self.requests.len() as u32).to_le_bytes());
        for request in &self.requests {
            put(&mut out, &wire::to_bytes(request))?;
        }
        Ok(out)
    }

    pub(crate) fn read(body: &[u8]) -> Result<Self, EntryError> {
        let mut rest = body;
        let head = Head::take(&mut rest)?;
        let text: Text = serde_json::from_slice(take_sized(&mut rest)?).map_err(wrong)?;
        let count = u32::from_le_bytes(array(&mut rest)?);
        let mut requests = Vec::new();
        for _ in 0..count {
            requests.push(wire::from_bytes(take_sized(&mut rest)?).map_err(wrong)?);
        }
        Ok(Self { head, open: text.open, line: text.line, requests })
    }
}

impl Head {
    pub(crate) fn read(body: &[u8]) -> Result<Self, EntryError> {
        let mut rest = body;
        Self::take(&mut rest)
    }

    fn take(rest: &mut &[u8]) -> Result<Self, EntryError> {
        let [format, origin] = array(rest)?;
        if format != FORMAT {
            return Err(wrong(format!("is of format {format}, this agent reads {FORMAT}")));
        }
        let origin = match origin {
            0 => Origin::File,
            1 => Origin::Api,
            other => return Err(wrong(format!("has origin {other}"))),
        };
        let decided_at = i64::from_le_bytes(array(rest)?);
        let digest: [u8; 32] = array(rest)?;
        let digest = BundleDigest::from_bytes(&digest).ok_or_else(|| wrong("has no digest"))?;
        let len = u16::from_le_bytes(array(rest)?);
        let id = std::str::from_utf8(take(rest, usize::from(len))?).map_err(wrong)?.to_owned();
        Ok(Self { origin, decided_at, digest, id })
    }
}

fn put(out: &mut Vec<u8>, bytes: &[u8]) -> Result<(), EntryError> {
    out.extend(u32::try_from(bytes.len()).map_err(wrong)?.to_le_bytes());
    out.extend(bytes);
    Ok(())
}

fn take<'a>(rest: &mut &'a [u8], len: usize) -> Result<&'a [u8], EntryError> {
    let (taken, left) = rest.split_at_checked(len).ok_or_else(|| wrong("ends too early"))?;
    *rest = left;
    Ok(taken)
}

fn take_sized<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], EntryError> {
    let len = u32::from_le_bytes(array(rest)?);
    take(rest, len as usize)
}

fn array<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], EntryError> {
    take(rest, N)?.try_into().map_err(wrong)
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeMap;

    use millgate_shared::decision::Why;
    use millgate_shared::scope::Scope;

    use super::*;

    pub(crate) fn entry(id: &str, payload: usize) -> Entry {
        let why = Why {
            rule: "test".to_owned(),
            gate: BTreeMap::new(),
            price: BTreeMap::new(),
            masked: BTreeMap::new(),
            local_risk: None,
            threshold: None,
        };
        let part = v1::Part { data: vec![7; payload].into(), ..Default::default() };
        Entry {
            head: Head {
                origin: Origin::File,
                decided_at: 1_700_000_000_000,
                digest: BundleDigest::from_bytes(&[1; 32]).unwrap(),
                id: id.to_owned(),
            },
            open: Open {
                task: "inspect".to_owned(),
                answers: vec![],
                missing: vec![],
                why,
                scope: Scope::default(),
                novelty: None,
                checks: vec![],
                recipe: None,
            },
            line: format!("{{\"id\":\"{id}\"}}\n"),
            requests: vec![v1::RunExpertsRequest { parts: vec![part], ..Default::default() }],
        }
    }

    #[test]
    fn an_entry_is_read_back_as_it_was() {
        let entry = entry("id-1", 100);
        let body = entry.write().unwrap();
        assert_eq!(Entry::read(&body).unwrap(), entry);
        assert_eq!(Head::read(&body).unwrap(), entry.head);
    }

    #[test]
    fn a_body_that_ends_anywhere_is_an_error_and_no_panic() {
        let body = entry("id-1", 10).write().unwrap();
        for end in 0..body.len() {
            assert!(Entry::read(&body[..end]).is_err());
        }
        let mut other = body;
        other[0] = 9;
        assert!(Entry::read(&other).unwrap_err().to_string().contains("format 9"));
    }
}
