//! The book, without a thread and without an agent.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use millgate_shared::part::Part;

use super::book::{Book, FILE_NAME, MOST_LISTED, OpenError, PICTURES, Step};
use super::config::LabelsConfig;
use super::counts::Counts;
use super::export::{Export, LABELS, SAID};
use super::keeper::{Noted, Novelty};
use super::kept::{Asked, Class, Kept, Refusal, Say};
use crate::drift::Kind;

fn open(dir: &Path, config: &LabelsConfig) -> Book {
    Book::open(dir, config, &Counts::default()).unwrap()
}

fn config() -> LabelsConfig {
    LabelsConfig { keep_bytes: 1 << 20, ..LabelsConfig::default() }
}

fn kept(id: &str) -> Kept {
    Kept {
        id: id.to_owned(),
        task: "inspect".to_owned(),
        label: "board/normal".to_owned(),
        probability: Some(0.9),
        disposition: None,
        state: "final".to_owned(),
        source: Some("cam1".to_owned()),
        part_id: None,
        captured_at: Some("2026-03-04T05:06:07Z".to_owned()),
        at: jiff::Timestamp::now().as_millisecond(),
        path: "nowhere/part.png".to_owned(),
        sha256: String::new(),
        modalities: vec!["image".to_owned()],
        bundle: "sha256:00".to_owned(),
        is_local: true,
        is_drawn: true,
        risk: 0.01,
        pool: None,
        is_error: None,
        pictures: Vec::new(),
        class: None,
        number: 0,
    }
}

fn noted(kept: Kept, class: Option<Class>, bytes: usize) -> Step {
    let parts = class.map(|_| Part::file("image", [b"\x89PNG", &vec![7; bytes][..]].concat()));
    let labels = vec!["board/normal".to_owned(), "board/open".to_owned()];
    let parts = parts.into_iter().collect();
    Step::Note(Box::new(Noted { kept, class, parts, labels, novelty: None }))
}

fn say(id: &str, label: &str) -> Say {
    let text = str::to_owned;
    Say { id: text(id), label: text(label), is_new: false, who: text("anna"), note: String::new() }
}

fn pictures(dir: &Path) -> usize {
    std::fs::read_dir(dir.join(PICTURES)).unwrap().count()
}

#[test]
fn what_a_person_says_is_kept_and_all_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut book = open(dir.path(), &config());
    book.note(vec![noted(kept("a"), Some(Class::Sample), 10), noted(kept("b"), None, 0)]).unwrap();
    assert_eq!(book.label(say("x", "board/open")), Err(Refusal::Unknown("x".to_owned())));
    let refused = book.label(say("a", "board/shrot")).unwrap_err().to_string();
    assert!(refused.contains("`board/shrot`") && refused.contains("board/open"), "{refused}");
    book.label(Say { is_new: true, ..say("a", "board/scratch") }).unwrap();
    let row = book.label(say("a", "board/open")).unwrap();
    let said: Vec<(&str, bool)> = row.said.iter().map(|said| (&*said.label, said.is_new)).collect();
    assert_eq!(said, [("board/scratch", true), ("board/open", false)]);
    assert_eq!(row.decision.class, Some(Class::Labelled));
    drop(book);
    // As after a kill: nothing was closed in order.
    let book = open(dir.path(), &config());
    let page = book.list(&Asked::default()).unwrap();
    assert_eq!((page.rows, page.next), (vec![row], None));
    for name in [FILE_NAME.into(), Path::new(PICTURES).join("a.image.png")] {
        let mode = std::fs::metadata(dir.path().join(&name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name:?}");
    }
    assert!(matches!(Book::open(dir.path(), &config(), &Counts::default()), Err(OpenError::InUse(_))));
}

#[test]
fn pages_go_on_where_the_last_one_ended() {
    let dir = tempfile::tempdir().unwrap();
    let mut book = open(dir.path(), &config());
    let ids: Vec<String> = (0..7).map(|number| format!("id-{number}")).collect();
    book.note(ids.iter().map(|id| noted(kept(id), Some(Class::Doubt), 1)).collect()).unwrap();
    for id in &ids[..5] {
        book.label(say(id, "board/open")).unwrap();
        book.label(say(id, "board/normal")).unwrap();
    }
    let (mut after, mut seen) = (String::new(), Vec::new());
    loop {
        let page = book.list(&Asked { after, most: 2, open: false }).unwrap();
        seen.extend(page.rows.into_iter().map(|row| row.decision.id));
        let Some(next) = page.next else { break };
        after = next;
    }
    assert_eq!(seen, ids[..5]);
    let open = book.list(&Asked { most: MOST_LISTED + 9, open: true, ..Asked::default() }).unwrap();
    let open: Vec<String> = open.rows.into_iter().map(|row| row.decision.id).collect();
    assert_eq!(open, ids[5..]);
}

#[test]
fn pictures_have_a_bound_and_those_that_are_labelled_go_last() {
    let dir = tempfile::tempdir().unwrap();
    let mut book = open(dir.path(), &config());
    let big = 200 << 10;
    book.note(vec![noted(kept("first"), Some(Class::Sample), big)]).unwrap();
    book.label(say("first", "board/open")).unwrap();
    book.note(vec![noted(kept("doubt"), Some(Class::Doubt), big)]).unwrap();
    for number in 0..20 {
        book.note(vec![noted(kept(&format!("n{number}")), Some(Class::Sample), big)]).unwrap();
    }
    assert_eq!(pictures(dir.path()), 5, "200 KiB each, in 1 MiB");
    let has = |id: &str| dir.path().join(PICTURES).join(format!("{id}.image.png")).exists();
    assert!(has("first") && has("doubt") && has("n19") && !has("n0"));
    // An old one goes, whatever room there is; a labelled one stays.
    let old = LabelsConfig { keep_age: std::time::Duration::from_millis(1), ..config() };
    drop(book);
    let mut book = open(dir.path(), &old);
    let past = Kept { at: 0, ..kept("past") };
    book.note(vec![noted(past, Some(Class::Sample), 10)]).unwrap();
    assert!(!has("past") && has("first"));
}

#[test]
fn decisions_have_a_bound_and_labels_are_refused_where_there_is_no_room() {
    let dir = tempfile::tempdir().unwrap();
    let mut book = open(dir.path(), &LabelsConfig { remember: 3, ..config() });
    for number in 0..9 {
        book.note(vec![noted(kept(&format!("n{number}")), Some(Class::Sample), 10)]).unwrap();
    }
    assert!(matches!(book.label(say("n0", "board/open")), Err(Refusal::Unknown(_))));
    assert_eq!(pictures(dir.path()), 3);
    for number in 6..9 {
        book.label(say(&format!("n{number}"), "board/open")).unwrap();
    }
    book.note(vec![noted(kept("more"), None, 0)]).unwrap();
    assert_eq!(book.label(say("more", "board/open")), Err(Refusal::Full(3)));
    assert_eq!(book.forget(&["n6".to_owned(), "n7".to_owned(), "absent".to_owned()]), Ok(2));
    assert_eq!(pictures(dir.path()), 1);
    book.label(say("more", "board/open")).unwrap();
}

#[test]
fn what_is_torn_is_set_aside_and_what_nothing_leads_to_is_swept() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join(FILE_NAME), b"no database").unwrap();
    let mut book = open(dir.path(), &config());
    book.note(vec![noted(kept("a"), Some(Class::Doubt), 10)]).unwrap();
    drop(book);
    std::fs::write(dir.path().join(PICTURES).join("b.image.png"), b"left by a kill").unwrap();
    drop(open(dir.path(), &config()));
    assert_eq!(pictures(dir.path()), 1);
    // Cut at every 1000th byte it opens, whatever is left of it.
    let whole = std::fs::read(dir.path().join(FILE_NAME)).unwrap();
    for cut in (0..whole.len()).step_by(1000) {
        let other = tempfile::tempdir().unwrap();
        std::fs::write(other.path().join(FILE_NAME), &whole[..cut]).unwrap();
        let mut book = open(other.path(), &config());
        book.note(vec![noted(kept("c"), None, 0)]).unwrap();
        book.label(say("c", "board/open")).unwrap();
    }
}

#[test]
fn the_first_word_is_an_observation_and_a_persons_later_one_a_correction() {
    let dir = tempfile::tempdir().unwrap();
    let mut book = open(dir.path(), &config());
    let foreign = Kept { is_drawn: false, ..kept("foreign") };
    let steps = ["a", "b"].map(|id| noted(kept(id), Some(Class::Sample), 1)).into_iter();
    book.note(steps.chain([noted(foreign, None, 0)]).collect()).unwrap();
    let audit = |id: &str, label: &str| Step::Audited { id: id.to_owned(), label: label.to_owned() };
    book.note(vec![audit("a", "board/open"), audit("b", "board/normal"), audit("absent", "x")]).unwrap();
    let of = |book: &Book| {
        let state = book.state();
        let errors = state.streams.into_iter().find(|stream| stream.kind == Kind::Error).unwrap();
        (errors.hits, errors.seen)
    };
    assert_eq!(of(&book), (1, 2));
    let open = book.list(&Asked { open: true, ..Asked::default() }).unwrap();
    assert_eq!(open.rows.len(), 1, "what the pool contradicts is to be looked at");
    assert_eq!(open.rows[0].decision.pool.as_deref(), Some("board/open"));
    book.label(say("a", "board/normal")).unwrap();
    assert_eq!(of(&book), (0, 2));
    // What was not drawn says nothing of the rate: somebody chose it.
    book.label(say("foreign", "board/open")).unwrap();
    assert_eq!(of(&book), (0, 2));
    drop(book);
    let mut book = open_again(dir.path());
    assert_eq!(of(&book), (0, 2));
    assert_eq!(book.reset(Some("cam1")), Ok(1));
    assert!(book.state().streams.is_empty());
}

fn open_again(dir: &Path) -> Book {
    open(dir, &config())
}

#[test]
fn samples_that_are_unlike_the_known_ones_raise_an_alarm_that_stays() {
    let dir = tempfile::tempdir().unwrap();
    let counts = Counts::default();
    let mut book = Book::open(dir.path(), &config(), &counts).unwrap();
    let novelty = Novelty { is_hit: true, bound: 0.02, calibration_samples: 1000, detectors: 1 };
    for number in 0..30 {
        let mut step = noted(kept(&format!("n{number}")), None, 0);
        if let Step::Note(noted) = &mut step {
            noted.novelty = Some(novelty);
        }
        book.note(vec![step]).unwrap();
    }
    assert_eq!(counts.alarms(), ["alarm: novelty of source cam1"]);
    drop(book);
    let counts = Counts::default();
    drop(Book::open(dir.path(), &config(), &counts).unwrap());
    assert_eq!(counts.alarms().len(), 1);
    let told = super::state::read(dir.path()).unwrap().unwrap();
    assert!(told.streams[0].is_alarmed && told.streams[0].to_string().ends_with("ALARM"));
}

#[test]
fn an_export_has_the_last_word_with_its_picture() {
    let dir = tempfile::tempdir().unwrap();
    let (state, out) = (dir.path().join("state"), dir.path().join("out"));
    std::fs::create_dir(&state).unwrap();
    let mut book = open(&state, &config());
    // One whose file still lies there, with a template beside it; one whose file has changed.
    let path = dir.path().join("part.png");
    std::fs::write(&path, b"picture").unwrap();
    std::fs::write(dir.path().join("part.template.png"), b"template").unwrap();
    let sha256 = millgate_shared::digest::sha256_hex(b"picture");
    let there = Kept {
        path: path.display().to_string(),
        sha256: sha256.clone(),
        modalities: vec!["image".to_owned(), "template".to_owned()],
        part_id: Some("17".to_owned()),
        ..kept("there")
    };
    let changed = Kept { sha256: "00".to_owned(), id: "changed".to_owned(), ..there.clone() };
    book.note(vec![noted(kept("a"), Some(Class::Doubt), 9), noted(there, None, 0), noted(changed, None, 0)])
        .unwrap();
    for id in ["a", "there", "changed"] {
        book.label(say(id, "board/normal")).unwrap();
        book.label(say(id, "board/open")).unwrap();
    }
    let mut export = Export::begin(&state, &out).unwrap();
    for row in book.list(&Asked::default()).unwrap().rows {
        export.add(&row).unwrap();
    }
    export.end().unwrap();
    assert_eq!((export.written.len(), &*export.without), (2, &["changed".to_owned()][..]));
    let lines = |name: &str| {
        let text = std::fs::read_to_string(out.join(name)).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<serde_json::Value>>()
    };
    let labels = lines(LABELS);
    let expected = serde_json::json!({
        "image": "pictures/there.image.png", "template": "pictures/there.template.png",
        "label": "board/open", "group": "cam1/17"
    });
    assert_eq!(labels[1], expected);
    assert_eq!(labels[0]["group"], "cam1/2026-03-04");
    assert!(out.join("pictures/a.image.png").exists() && out.join("pictures/there.template.png").exists());
    let said = lines(SAID);
    assert_eq!(said.len(), 6);
    assert_eq!((&said[0]["who"], &said[0]["verdict"]), (&"anna".into(), &"board/normal".into()));
    assert!(Export::begin(&state, &out).is_err(), "an export is not mixed with another");
}
