use super::*;

const VERSION: Version = Version { size: 10, modified: 20 };

#[tokio::test]
async fn what_was_entered_is_known_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let handle = Journal::open(dir.path()).unwrap().start(4).unwrap();
    for (source, name) in [("cam1", "a.png"), ("cam1", "b.png"), ("cam2", "c.png")] {
        let mut post = post(name, 1, Some(name));
        post.file.as_mut().unwrap().source = source.into();
        handle.post(post, false).await.unwrap();
    }
    assert!(handle.forget(&"cam1".into(), &[PathBuf::from("b.png")]).await);
    drop(handle);
    let journal = reopened(dir.path()).await;
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
    let change = Change::Post { number: 0, post: post("a", 1, Some("a.png")), awaits: false };
    journal.apply(&[&change]).unwrap();
    journal.reopen();
    assert_eq!(journal.known("cam1").unwrap().len(), 1);
}

async fn reopened(dir: &Path) -> Journal {
    loop {
        match Journal::open(dir) {
            Ok(journal) => return journal,
            Err(JournalError::InUse { .. }) => tokio::task::yield_now().await,
            Err(error) => panic!("{error}"),
        }
    }
}

fn post(id: &str, version: u32, file: Option<&str>) -> Post {
    let file = file.map(|name| FileVersion {
        source: "cam1".into(),
        relative: PathBuf::from(name),
        version: VERSION,
    });
    Post { id: id.to_owned(), version, line: format!("{id} {version}\n").into_bytes(), file }
}

#[tokio::test]
async fn a_record_stays_in_the_outbox_until_it_is_delivered() {
    let dir = tempfile::tempdir().unwrap();
    let handle = Journal::open(dir.path()).unwrap().start(4).unwrap();
    let first = handle.post(post("a", 1, Some("a.png")), true).await.unwrap();
    handle.post(post("b", 1, None), false).await.unwrap();
    handle.delivered(first, Some(("cam1".into(), PathBuf::from("a.png")))).await;
    drop(handle);
    let journal = reopened(dir.path()).await;
    let outbox = journal.outbox().unwrap();
    assert_eq!(outbox.iter().map(|(_, post)| post.clone()).collect::<Vec<_>>(), [post("b", 1, None)]);
    assert_eq!(journal.known("cam1").unwrap(), [], "it was tidied away");
    assert_eq!(journal.spooled().unwrap(), HashMap::from([("a".to_owned(), false)]));

    // Numbers go on behind what is there.
    let handle = journal.start(4).unwrap();
    assert!(handle.amended(post("a", 2, None)).await.unwrap() > outbox[0].0);
    handle.post(post("c", 1, Some("c.png")), true).await.unwrap();
    assert!(handle.closed(vec!["c".to_owned()]).await);
    handle.try_pruned(vec!["c".to_owned()]).unwrap();
    drop(handle);
    let journal = reopened(dir.path()).await;
    let ids = journal.outbox().unwrap().into_iter().map(|(_, post)| (post.id, post.version));
    assert_eq!(ids.collect::<Vec<_>>(), [("b".into(), 1), ("a".into(), 2), ("c".into(), 1)]);
    assert_eq!(journal.spooled().unwrap(), HashMap::from([("a".to_owned(), true)]));
    assert_eq!(journal.known("cam1").unwrap(), [(PathBuf::from("c.png"), VERSION)]);
}
