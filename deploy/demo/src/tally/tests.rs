use std::collections::BTreeMap;

use millgate_shared::decision::{
    BundleInfo, Degraded, ExpertShare, MissingExpert, SampleInfo, Timings, Verdict, Why,
};

use super::*;
use crate::reference::CloudOnly;

fn decision(id: &str, label: &str, place: &str, missing: Option<Missing>) -> Decision {
    let degraded = missing.map(|reason| Degraded {
        reason,
        missing: vec![MissingExpert { name: "large".to_owned(), reason }],
        weight_mass: 0.5,
        later: None,
    });
    Decision {
        id: id.to_owned(),
        version: 1,
        state: if degraded.is_some() { State::Provisional } else { State::Final },
        task: "inspect".to_owned(),
        sample: SampleInfo {
            path: String::new(),
            source: None,
            part_id: None,
            captured_at: None,
            sha256: String::new(),
            modalities: Vec::new(),
            notes: Vec::new(),
            region: None,
            regions: None,
        },
        verdict: Verdict { label: label.to_owned(), probability: Some(0.9) },
        probabilities: BTreeMap::new(),
        experts: vec![ExpertShare {
            name: "small".to_owned(),
            place: place.to_owned(),
            weight: 1.0,
            competence: 0.9,
            latency_us: 1,
            engine: "tract".to_owned(),
            batch: 1,
        }],
        degraded,
        why: Why {
            rule: String::new(),
            gate: BTreeMap::new(),
            price: BTreeMap::new(),
            masked: BTreeMap::new(),
            local_risk: None,
            threshold: None,
        },
        uplink_bytes: 10,
        bundle: BundleInfo { name: String::new(), version: String::new(), digest: String::new() },
        timings_us: Timings::default(),
        disposition: None,
        novelty: None,
        checks: Vec::new(),
        historical: None,
    }
}

fn measured(path: &str, decision: Result<Decision, String>, in_outage: bool) -> Event {
    Event::Measured(Box::new(Measured {
        path: path.to_owned(),
        truth: "a/b".to_owned(),
        decision,
        latency: Duration::from_millis(3),
        in_outage,
        edge_only: Ok("a/c".to_owned()),
        cloud_only: CloudOnly { verdict: Ok("a/b".to_owned()), bytes: 100 },
    }))
}

#[test]
fn decisions_are_counted_where_they_were_made() {
    let mut tally = Tally::default();
    tally.take(&measured("1", Ok(decision("1", "a/b", "cloud:node-1", None)), false));
    tally.take(&measured("2", Ok(decision("2", "a/c", "edge", Some(Missing::Deadline))), true));
    tally.take(&measured("3", Ok(decision("3", "a/b", "edge", Some(Missing::Offline))), true));
    assert_eq!((tally.samples, tally.decided, tally.lost(), tally.duplicates), (3, 3, 0, 0));
    assert_eq!((tally.up.decided(), tally.outage.decided()), (1, 2));
    assert_eq!((tally.outage.provisional, tally.outage.ran_into_deadline), (2, 1));
    assert_eq!(tally.cloud_share(), Some(1.0 / 3.0));
    assert_eq!(tally.up.cloud_share(), Some(1.0));
    assert_eq!((tally.uplink_bytes, tally.all_cloud_bytes), (30, 300));
    assert_eq!(tally.edge_only, Score { right: 0, answered: 3 });
    assert_eq!(tally.mixture, Score { right: 2, answered: 3 });
    assert_eq!(tally.cloud_only, Score { right: 3, answered: 3 });
}

#[test]
fn what_is_unknown_is_neither_right_nor_wrong() {
    let mut tally = Tally::default();
    tally.take(&measured("1", Ok(decision("1", "a/b", "edge", None)), false));
    tally.take(&measured("2", Ok(decision("2", UNKNOWN, "edge", None)), false));
    assert_eq!((tally.decided, tally.unknown, tally.up.decided()), (2, 1, 2));
    assert_eq!(tally.mixture, Score { right: 1, answered: 1 });
    for answer in [UNKNOWN, "a/b"] {
        tally.take(&Event::Poisoned { path: "", answer: Ok(answer.to_owned()) });
    }
    assert_eq!((tally.poisoned, tally.swallowed), (2, 1));
}

#[test]
fn a_sample_without_a_decision_is_lost() {
    let mut tally = Tally::default();
    tally.take(&measured("1", Err("no decision".to_owned()), true));
    assert_eq!((tally.samples, tally.decided, tally.lost()), (1, 0, 1));
    assert_eq!(tally.mixture.accuracy(), None);
}

#[test]
fn a_second_answer_makes_up_for_no_lost_one() {
    let mut tally = Tally::default();
    tally.take(&measured("1", Ok(decision("1", "a/b", "edge", None)), false));
    tally.take(&measured("2", Ok(decision("1", "a/b", "edge", None)), false));
    assert_eq!((tally.duplicates, tally.lost()), (1, 1));
}

#[test]
fn outages_add_up() {
    let (mut tally, start) = (Tally::default(), Instant::now());
    let at = |seconds| start + Duration::from_secs(seconds);
    tally.take(&Event::Cut { at: at(1) });
    tally.take(&Event::Restored { at: at(3) });
    assert_eq!(tally.outage_lasted(at(10)), Duration::from_secs(2));
    tally.take(&Event::Cut { at: at(20) });
    assert_eq!(tally.outage_lasted(at(21)), Duration::from_secs(3));
    tally.take(&Event::Recovered { after: Duration::from_secs(2) });
    tally.take(&Event::Recovered { after: Duration::from_secs(1) });
    assert_eq!(tally.recovered_after, Some(Duration::from_secs(2)));
}

#[test]
fn quantiles_are_exact() {
    let micros = |quantile| quantile_of((1..=100).rev().collect(), quantile).map(|value| value.as_micros());
    assert_eq!(
        (micros(0.5), micros(0.99), micros(1.0), micros(0.0)),
        (Some(50), Some(99), Some(100), Some(1))
    );
    assert_eq!(quantile_of(vec![7], 0.99), Some(Duration::from_micros(7)));
    assert_eq!(quantile_of(Vec::new(), 0.5), None);
}
