//! From a request to what the agent takes. What is wrong is named by its field.

use std::time::Duration;

use millgate_shared::deciding::{Policy, PolicyError, Wish};
use millgate_shared::proto::v1;
use millgate_shared::transport::timeout;
use millgate_shared::wire::{read_parts, read_wish};
use tonic::Status;
use tonic::metadata::MetadataMap;

use super::status::{PARTS, bad_field, bundle_mismatch};
use crate::agent::{Ask, Epoch};
use crate::input::{Input, draw_id};

/// Taken off the caller's deadline, so that the answer is there before it.
pub(super) const TRAVEL: Duration = Duration::from_millis(5);

/// A request, understood.
#[derive(Debug)]
pub(super) struct Parsed {
    pub(super) input: Input,
    pub(super) ask: Ask,
}

/// `limit` is how long the caller waits.
pub(super) fn parse(
    request: v1::DecideRequest,
    epoch: &Epoch,
    limit: Option<Duration>,
) -> Result<Parsed, Status> {
    let held = epoch.digest();
    if !request.bundle_digest.is_empty() && request.bundle_digest[..] != held.as_bytes()[..] {
        return Err(bundle_mismatch(&request.bundle_digest, held));
    }
    let wish = read_wish(&request);
    let Some(sample) = request.sample else { return Err(bad_field("sample", "is missing")) };
    // A sample of a source that the configuration knows is decided as that source's are.
    let asked = epoch.asked(Some(&sample.source));
    let task = if sample.task.is_empty() { &asked.task } else { &sample.task };
    let task = task.clone();
    let policy = policy(epoch, &task, asked.policy.clone(), wish, limit)?;
    if sample.parts.is_empty() {
        return Err(bad_field(PARTS, "is empty"));
    }
    let parts = read_parts(PARTS, sample.parts).map_err(|error| bad_field(&error.field, &error.message))?;
    let given = |text: String| Some(text).filter(|text| !text.is_empty());
    let input = Input {
        id: draw_id(),
        path: sample.path,
        source: given(sample.source),
        part_id: given(sample.part_id),
        captured_at: given(sample.captured_at),
        parts,
        ..Input::default()
    };
    Ok(Parsed { input, ask: Ask { task: Some(task), policy: Some(policy) } })
}

fn policy(
    epoch: &Epoch,
    task: &str,
    standard: Policy,
    wish: Wish,
    limit: Option<Duration>,
) -> Result<Policy, Status> {
    let refuse = |error: PolicyError| bad_field(error.field, &error.message);
    let mut policy = standard.asked(wish).map_err(refuse)?;
    // A task that is not there is refused where it is looked for.
    if let Some(task) = epoch.manifest().task(task) {
        policy.check_scope(task).map_err(refuse)?;
    }
    if let Some(limit) = limit {
        policy.deadline = policy.deadline.min(limit.saturating_sub(TRAVEL));
    }
    Ok(policy)
}

/// How long the caller waits at most, from its header `grpc-timeout`; `None` without one, or where it is malformed.
pub(super) fn timeout(metadata: &MetadataMap) -> Option<Duration> {
    timeout::parse(metadata.get(timeout::HEADER)?.to_str().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_callers_deadline_is_read() {
        let read = |text: &str| {
            let mut metadata = MetadataMap::new();
            metadata.insert("grpc-timeout", text.parse().unwrap());
            timeout(&metadata)
        };
        assert_eq!(read("250m"), Some(Duration::from_millis(250)));
        assert_eq!(read("2S"), Some(Duration::from_secs(2)));
        assert_eq!(read("99999999H"), Some(Duration::from_secs(99_999_999 * 3600)));
        for text in ["", "m", "1", "1x", "-1S", "+5S", "123456789S"] {
            assert_eq!(read(text), None, "{text}");
        }
        assert_eq!(timeout(&MetadataMap::new()), None);
    }
}
