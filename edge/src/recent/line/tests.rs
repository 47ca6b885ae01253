use serde_json::json;

use super::*;

fn decision(id: usize, label: &str, disposition: Option<&str>, state: &str) -> Arc<Decision> {
    let record = json!({
        "id": format!("id-{id}"), "version": 1, "state": state, "task": "inspect",
        "sample": {
            "path": format!("/in/cam/{id}.png"), "source": "cam", "part_id": null, "captured_at": null, "sha256": "",
            "modalities": ["image"]
        },
        "verdict": {"label": label, "probability": 0.9}, "disposition": disposition, "probabilities": {}, "experts": [],
        "degraded": null,
        "why": {"rule": "", "gate": {}, "price": {}, "masked": {}, "local_risk": null, "threshold": null},
        "uplink_bytes": 0, "bundle": {"name": "b", "version": "1", "digest": ""},
        "timings_us": {"decode": 0, "encode": 0, "gate": 0, "local": 0, "uplink": 0, "combine": 0, "total": 0}
    });
    Arc::new(serde_json::from_value(record).unwrap())
}

fn line() -> Line {
    Line::new(Timestamp::UNIX_EPOCH)
}

fn decided(line: &mut Line, decision: Arc<Decision>, second: u64) {
    line.decided(decision, Timestamp::UNIX_EPOCH, second);
}

#[test]
fn decisions_are_counted_by_what_is_done_with_the_part() {
    let mut line = line();
    decided(&mut line, decision(0, "p/good", Some("accept"), "final"), 0);
    decided(&mut line, decision(1, "p/bad", Some("reject"), "final"), 0);
    decided(&mut line, decision(2, "p/bad", Some("reject"), "provisional"), 0);
    decided(&mut line, decision(3, UNKNOWN, Some("review"), "final"), 0);
    decided(&mut line, decision(4, "p/odd", None, "final"), 0);
    line.undecided();
    let shown = line.shown(1);
    let wanted = Tally { accept: 1, reject: 2, review: 1, none: 1, unknown: 1, provisional: 1, undecided: 1 };
    assert_eq!(shown.tally, wanted);
    let pareto: Vec<(&str, u64)> = shown.pareto.iter().map(|(label, count)| (&**label, *count)).collect();
    assert_eq!(pareto, [("p/bad", 2), ("p/odd", 1), (UNKNOWN, 1)]);
    let last: Vec<&str> = shown.last.iter().map(|row| &*row.id).collect();
    assert_eq!(last, ["id-4", "id-3", "id-2", "id-1", "id-0"]);
    assert_eq!((&*shown.last[0].part, &*shown.last[0].source), ("4.png", "cam"));
}

#[test]
fn an_amended_decision_counts_as_it_stands_now() {
    let mut line = line();
    decided(&mut line, decision(0, "p/bad", Some("reject"), "provisional"), 0);
    line.amended(decision(0, "p/good", Some("accept"), "amended"));
    line.amended(decision(9, "p/good", Some("accept"), "amended"));
    let shown = line.shown(0);
    assert_eq!(shown.tally, Tally { accept: 1, ..Tally::default() });
    assert!(shown.pareto.is_empty());
    assert_eq!((shown.last.len(), shown.last[0].state), (1, State::Amended));
}

#[test]
fn the_rate_is_that_of_the_last_minute() {
    let mut line = line();
    for second in [0, 0, 30, 59, 60, 61] {
        decided(&mut line, decision(second as usize, "p/good", Some("accept"), "final"), second);
    }
    assert_eq!(line.shown(61).per_minute, 4, "60 has the place of 0");
    assert_eq!(line.shown(118).per_minute, 3);
    assert_eq!(line.shown(500).per_minute, 0);
}

#[test]
fn what_is_remembered_has_a_bound_and_counts_go_on() {
    let mut line = line();
    for at in 0..KEPT + 300 {
        decided(&mut line, decision(at, &format!("p/{at}"), Some("reject"), "final"), at as u64);
    }
    assert_eq!(line.shown(0).last.len(), LISTED);
    assert!(line.entry("id-0").is_none() && line.entry(&format!("id-{}", KEPT + 299)).is_some());
    assert_eq!(line.shown(0).tally.reject, (KEPT + 300) as u64);
    assert_eq!(line.labels.len(), MOST_LABELS + 1);
    assert_eq!(line.shown(0).pareto[0], (OTHER.to_owned(), (KEPT + 300 - MOST_LABELS) as u64));
}

#[test]
fn what_a_person_says_stands_beside_the_decision() {
    let mut line = line();
    decided(&mut line, decision(0, "p/good", Some("accept"), "final"), 0);
    line.labelled("id-0", "p/bad");
    line.labelled("id-7", "p/bad");
    assert_eq!(line.shown(0).last[0].said.as_deref(), Some("p/bad"));
    assert_eq!(line.shown(0).tally.accept, 1, "the yield is that of the decisions");
}
