use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

const NEEDS: [&str; 3] = ["image", "thermal", "force"];
const WAIT: Duration = Duration::from_secs(2);
const SPAN: Duration = Duration::from_millis(100);

fn rules(by: By, most: usize) -> Rules {
    Rules { by, needs: NEEDS.map(str::to_owned).to_vec(), wait: WAIT, most }
}

fn by_id() -> Joining<u32> {
    Joining::new(rules(By::PartId, 8))
}

fn by_time() -> Joining<u32> {
    Joining::new(rules(By::Time { span: SPAN }, 8))
}

fn part(modality: &str, id: &str, at: i64, body: u32) -> Part<u32> {
    Part { modality: modality.to_owned(), part_id: Some(id.to_owned()), at, body }
}

fn bodies(joined: &Joined<u32>) -> Vec<u32> {
    joined.parts.iter().map(|part| part.body).collect()
}

fn missing(joined: &Joined<u32>) -> Vec<(&str, &str)> {
    joined.missing.iter().map(|(modality, why)| (modality.as_str(), why.as_str())).collect()
}

fn why(result: Result<Vec<Joined<u32>>, Refused<u32>>) -> Refusal {
    result.unwrap_err().why
}

#[test]
fn a_sample_is_handed_out_once_it_is_whole_in_the_order_of_its_needs() {
    let (mut joining, now) = (by_id(), Instant::now());
    assert_eq!(joining.add(part("force", "a", 0, 3), now), Ok(vec![]));
    assert_eq!(joining.add(part("image", "a", 900, 1), now), Ok(vec![]));
    assert_eq!(joining.next_due(), Some(now + WAIT));
    let whole = joining.add(part("thermal", "a", -5, 2), now + WAIT / 2).unwrap();
    assert_eq!((whole.len(), bodies(&whole[0]), missing(&whole[0])), (1, vec![1, 2, 3], vec![]));
    assert_eq!((joining.waiting.len(), joining.next_due()), (0, None));
}

#[test]
fn what_is_missing_has_a_reason() {
    let (mut joining, now) = (by_id(), Instant::now());
    joining.add(part("image", "a", 0, 1), now).unwrap();
    assert_eq!(joining.due(now + WAIT - Duration::from_millis(1)), []);
    let late = joining.due(now + WAIT);
    assert_eq!(missing(&late[0]), [("thermal", "late"), ("force", "late")]);
    for (at, id) in ["0", "1", "2", "3", "4", "5", "6", "7"].into_iter().enumerate() {
        assert_eq!(joining.add(part("image", id, 0, at as u32), now), Ok(vec![]));
    }
    let full = joining.add(part("image", "8", 0, 8), now).unwrap();
    assert_eq!(
        (bodies(&full[0]), missing(&full[0])),
        (vec![0], vec![("thermal", "full"), ("force", "full")])
    );
    assert_eq!(joining.waiting.len(), 8);
    let ended = joining.end();
    assert!(ended.len() == 8 && ended.iter().all(|joined| joined.missing[0].1 == Missing::Ended));
}

#[test]
fn a_part_that_belongs_nowhere_is_refused_by_name() {
    let (mut joining, now) = (by_id(), Instant::now());
    assert_eq!(why(joining.add(part("smell", "a", 0, 1), now)), Refusal::Unwanted);
    assert_eq!(why(joining.add(part("image", "", 0, 1), now)), Refusal::NoPartId);
    assert_eq!(why(joining.add(Part { part_id: None, ..part("image", "a", 0, 1) }, now)), Refusal::NoPartId);
    joining.add(part("image", "a", 0, 1), now).unwrap();
    assert_eq!(why(joining.add(part("image", "a", 0, 2), now)), Refusal::Twice);
    joining.due(now + WAIT);
    let refused = joining.add(part("thermal", "a", 0, 7), now + WAIT).unwrap_err();
    assert_eq!((refused.part.body, refused.why.code()), (7, "late_part"));
    assert_eq!(Refusal::Twice.code(), "double_part");
    // Nothing but what belongs to it: another id begins another sample.
    assert_eq!(joining.add(part("thermal", "b", 0, 8), now + WAIT), Ok(vec![]));
}

#[test]
fn by_time_parts_within_one_span_are_one_sample() {
    let (mut joining, now) = (by_time(), Instant::now());
    joining.add(part("image", "", 1_000, 1), now).unwrap();
    joining.add(part("image", "", 1_101, 4), now).unwrap();
    assert_eq!(why(joining.add(part("image", "", 1_020, 9), now)), Refusal::Twice);
    assert_eq!(joining.add(part("force", "", 1_100, 5), now), Ok(vec![]), "it is nearer to the second");
    assert_eq!(joining.add(part("thermal", "", 930, 2), now), Ok(vec![]));
    // From 930 to 1030 is a whole span; one more millisecond is none.
    assert_eq!(why(joining.add(part("force", "", 1_031, 6), now)), Refusal::Twice);
    let whole = joining.add(part("force", "", 1_030, 3), now);
    assert_eq!(whole.map(|out| bodies(&out[0])).ok(), Some(vec![1, 2, 3]));
    assert_eq!(why(joining.add(part("thermal", "", 1_000, 7), now)), Refusal::Gone);
}

/// Some parts of some samples: which modalities each sample has, by number; all parts of one lie within a span, and samples
/// two spans apart.
fn events() -> impl Strategy<Value = Vec<Part<u32>>> {
    let event = (prop::collection::vec(any::<bool>(), 3), prop::collection::vec(0..=100_i64, 3));
    let parts = prop::collection::vec(event, 1..8).prop_map(|events| {
        let mut parts = Vec::new();
        for (number, (has, offsets)) in events.into_iter().enumerate() {
            for (at, modality) in NEEDS.into_iter().enumerate().filter(|(at, _)| has[*at]) {
                let body = (number * 3 + at) as u32;
                parts.push(part(modality, &number.to_string(), number as i64 * 300 + offsets[at], body));
            }
        }
        parts
    });
    parts.prop_shuffle()
}

/// All samples, each by its parts, and what each lacks.
fn all(mut joining: Joining<u32>, parts: &[Part<u32>]) -> BTreeSet<(Vec<u32>, Vec<String>)> {
    let now = Instant::now();
    let mut out = Vec::new();
    for part in parts {
        out.extend(joining.add(part.clone(), now).unwrap());
    }
    out.extend(joining.due(now + WAIT));
    assert_eq!(joining.waiting.len(), 0);
    let of = |joined: &Joined<u32>| {
        (bodies(joined), joined.missing.iter().map(|(modality, _)| modality.clone()).collect())
    };
    out.iter().map(of).collect()
}

proptest! {
    #[test]
    fn the_order_in_which_parts_arrive_changes_no_sample(parts in events()) {
        let mut sorted = parts.clone();
        sorted.sort_by_key(|part| part.body);
        let expected = all(by_id(), &sorted);
        prop_assert_eq!(&all(by_id(), &parts), &expected);
        prop_assert_eq!(&all(by_time(), &parts), &expected);
        let numbers: BTreeSet<u32> = parts.iter().map(|part| part.body / 3).collect();
        prop_assert_eq!(expected.len(), numbers.len());
    }

    #[test]
    fn whatever_comes_whenever_no_part_is_lost_or_doubled_and_few_samples_wait(
        steps in prop::collection::vec((0..4_usize, 0..6_u8, 0..2_000_i64, 0..900_u64), 0..120),
        most in 1..4_usize,
        is_by_time in any::<bool>(),
    ) {
        let by = if is_by_time { By::Time { span: SPAN } } else { By::PartId };
        let mut joining = Joining::new(rules(by, most));
        let mut now = Instant::now();
        let (mut seen, mut whole) = (Vec::new(), Vec::new());
        let count = steps.len();
        for (body, (modality, id, at, pause)) in steps.into_iter().enumerate() {
            now += Duration::from_millis(pause);
            whole.extend(joining.due(now));
            let modality = ["image", "thermal", "force", "smell"][modality];
            match joining.add(part(modality, &id.to_string(), at, body as u32), now) {
                Ok(out) => whole.extend(out),
                Err(refused) => seen.push(refused.part.body),
            }
            prop_assert!(joining.waiting.len() <= most);
            prop_assert!(joining.next_due().is_none_or(|due| due > now && due <= now + WAIT));
        }
        whole.extend(joining.end());
        for joined in &whole {
            prop_assert_eq!(joined.parts.len() + joined.missing.len(), NEEDS.len());
            seen.extend(bodies(joined));
        }
        seen.sort_unstable();
        prop_assert_eq!(seen, (0..count as u32).collect::<Vec<_>>());
    }
}
