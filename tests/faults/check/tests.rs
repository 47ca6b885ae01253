//! Made-up histories: the judge must catch each kind of wrong.

use super::*;

const RULES: Rules = Rules {
    deadline: Duration::from_secs(1),
    stall: Duration::ZERO,
    amended: true,
    exactly_once: true,
    damaged: Vec::new(),
    delayed: BTreeMap::new(),
};

fn record(sample: &str, version: u64, state: &str) -> Record {
    let text = format!("{sample} {version} {state}");
    let (id, sample, state) = (format!("id-{sample}"), sample.to_owned(), state.to_owned());
    Record { id, version, state, sample, text, total: Duration::from_millis(20) }
}

fn samples() -> Vec<String> {
    ["a", "b", "c"].map(str::to_owned).to_vec()
}

/// a is final, b and c are provisional and amended.
fn good() -> Vec<Record> {
    vec![
        record("a", 1, "final"),
        record("b", 1, "provisional"),
        record("c", 1, "provisional"),
        record("c", 2, "amended"),
        record("b", 2, "amended"),
    ]
}

fn judged(change: impl FnOnce(&mut Vec<Record>)) -> Verdict {
    let mut records = good();
    change(&mut records);
    let verdict = check(&samples(), &records, &RULES);
    assert!(!verdict.is_good(&RULES), "{verdict}");
    verdict
}

/// Verdict on a history with one decision that is a microsecond late.
fn verdict_with(rules: &Rules) -> Verdict {
    let mut records = good();
    records[0].total = Duration::from_micros(1_000_001);
    check(&samples(), &records, rules)
}

#[test]
fn a_good_history_passes() {
    let verdict = check(&samples(), &good(), &RULES);
    assert!(verdict.is_good(&RULES), "{verdict}");
    assert_eq!((verdict.decided, verdict.provisional, verdict.amended), (3, 2, 2));
}

#[test]
fn a_lost_sample_is_caught_and_so_is_a_lost_first_version() {
    assert_eq!(judged(|records| drop(records.remove(0))).lost, ["a"]);
    let verdict = judged(|records| drop(records.remove(1)));
    assert_eq!(verdict.lost.len(), 1);
    assert!(verdict.wrong[0].contains("version 2 without"), "{verdict}");
}

#[test]
fn a_doubled_one_is_caught_whether_delivered_or_decided_twice() {
    let verdict = judged(|records| records.push(record("a", 1, "final")));
    assert_eq!((verdict.doubled.len(), verdict.repeated), (1, 1));
    let other = Record { id: "other".to_owned(), ..record("a", 1, "final") };
    let verdict = judged(|records| records.push(other));
    assert!(verdict.doubled[0].contains("decided as"), "{verdict}");
}

#[test]
fn a_late_one_is_caught() {
    let verdict = judged(|records| records[0].total = Duration::from_micros(1_000_001));
    assert_eq!(verdict.late.len(), 1);
    // Unless the machine stood still for longer than that.
    assert!(verdict_with(&Rules { stall: Duration::from_millis(1), ..RULES }).is_good(&RULES));
}

#[test]
fn a_provisional_that_stays_so_is_caught_unless_it_was_quarantined() {
    let verdict = judged(|records| drop(records.pop()));
    assert_eq!(verdict.unamended, ["b"]);
    let damaged = |samples: &[&str]| samples.iter().map(|sample| (*sample).to_owned()).collect();
    assert!(verdict.is_good(&Rules { damaged: vec![damaged(&["a", "b"])], ..RULES }));
    // It was not there when the spool was damaged.
    assert!(!verdict.is_good(&Rules { damaged: vec![damaged(&["a", "c"])], ..RULES }));
    assert!(verdict.is_good(&Rules { amended: false, ..RULES }));
}

#[test]
fn an_amendment_without_its_provisional_is_caught() {
    judged(|records| records.push(record("a", 2, "amended")));
    let verdict = judged(|records| records.swap(2, 3));
    assert!(verdict.wrong[0].contains("before"), "{verdict}");
}

#[test]
fn gaps_in_versions_and_wrong_states_are_caught() {
    judged(|records| records[3].version = 3);
    judged(|records| records.push(record("c", 3, "amended")));
    judged(|records| records[0].state = "amended".to_owned());
    judged(|records| records[3].state = "final".to_owned());
}

#[test]
fn two_contents_of_one_version_are_caught_in_one_sink_and_between_two() {
    let changed = Record { text: "another".to_owned(), ..record("a", 1, "final") };
    let verdict = judged(|records| records.push(changed.clone()));
    assert!(verdict.wrong[0].contains("two things"), "{verdict}");
    assert_eq!(differences(&good(), &good()), Vec::<String>::new());
    let mut theirs = good();
    theirs[0] = changed;
    theirs.pop();
    assert_eq!(differences(&good(), &theirs).len(), 2);
}

#[test]
fn what_was_never_given_is_caught() {
    judged(|records| records.push(record("d", 1, "final")));
}

#[test]
fn without_the_promise_of_exactly_once_a_redo_is_only_counted() {
    let rules = Rules { exactly_once: false, amended: false, ..RULES };
    let mut records = good();
    records.push(Record { text: "decided again".to_owned(), ..record("a", 1, "final") });
    records.push(record("a", 1, "final"));
    let verdict = check(&samples(), &records, &rules);
    assert!(verdict.is_good(&rules), "{verdict}");
    assert_eq!(verdict.repeated, 2);
}

#[test]
fn a_record_is_read_and_an_error_is_none() {
    let text = r#"{"id":"x","version":2,"state":"amended","sample":{"path":"/in/part_1.png"},"timings_us":{"total":1500}}"#;
    let read = Record::parse(text).unwrap();
    assert_eq!((&*read.sample, read.version, read.total), ("part_1.png", 2, Duration::from_micros(1500)));
    assert!(Record::parse(r#"{"path":"a.png","error":{"code":"x","message":"y"}}"#).is_err());
    assert!(Record::parse("{\"id\":").is_err());
}

#[test]
fn a_deadline_counts_from_when_a_sample_could_be_read() {
    let mut records = good();
    records[0].total = Duration::from_millis(5300);
    assert_eq!(check(&samples(), &records, &RULES).late.len(), 1);
    let delayed =
        |seconds: u64| Rules { delayed: [("a".to_owned(), Duration::from_secs(seconds))].into(), ..RULES };
    let verdict = check(&samples(), &records, &delayed(5));
    assert!(verdict.is_good(&delayed(5)) && verdict.delayed == 1 && verdict.over == 1, "{verdict}");
    assert!(!check(&samples(), &records, &delayed(4)).is_good(&delayed(4)));
}
