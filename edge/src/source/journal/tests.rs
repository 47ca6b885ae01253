use super::*;

const VERSION: Version = Version { size: 10, modified: 20 };

#[tokio::test]
async fn what_was_entered_is_known_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two): (Arc<str>, Arc<str>) = ("cam1".into(), "cam2".into());
    let handle = Journal::open(dir.path()).unwrap().start(4);
    assert!(handle.decided(&one, Path::new("a.png"), VERSION).await);
    assert!(handle.decided(&one, Path::new("b.png"), VERSION).await);
    assert!(handle.decided(&two, Path::new("c.png"), VERSION).await);
    assert!(handle.forget(&one, &[PathBuf::from("b.png")]).await);
    drop(handle);
    let journal = loop {
        match Journal::open(dir.path()) {
            Ok(journal) => break journal,
            Err(JournalError::InUse { .. }) => tokio::task::yield_now().await,
            Err(error) => panic!("{error}"),
        }
    };
    assert_eq!(journal.known("cam1").unwrap(), [(PathBuf::from("a.png"), VERSION)]);
    assert_eq!(journal.known("cam2").unwrap(), [(PathBuf::from("c.png"), VERSION)]);
    assert_eq!(journal.known("cam").unwrap(), []);
}

#[test]
fn a_second_agent_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let _first = Journal::open(dir.path()).unwrap();
    assert!(matches!(Journal::open(dir.path()), Err(JournalError::InUse { .. })));
}

#[test]
fn a_journal_that_cannot_be_opened_anew_takes_nothing_as_written() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(dir.path()).unwrap();
    std::fs::remove_dir_all(dir.path()).unwrap();
    journal.reopen();
    assert!(journal.apply(&[]).is_err());
    assert!(journal.known("cam").is_err());
}

#[test]
fn reopening_keeps_what_was_there() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(dir.path()).unwrap();
    let change = Change { source: "cam".into(), relative: PathBuf::from("a"), version: Some(VERSION) };
    journal.apply(&[&change]).unwrap();
    journal.reopen();
    assert_eq!(journal.known("cam").unwrap().len(), 1);
}
