use super::*;

const VERSION: Version = Version { size: 10, modified: 20 };
const READING: Reading =
    Reading { stat: Stat { version: VERSION, inode: 3, changed: 30 }, content: Content([7; 32]) };

fn known(name: &str) -> Known {
    Known { relative: PathBuf::from(name), version: VERSION, reading: Some(READING) }
}

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
    assert_eq!(journal.known("cam1").unwrap(), [known("a.png")]);
    assert_eq!(journal.known("cam2").unwrap(), [known("c.png")]);
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
        reading: Some(READING),
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
    assert_eq!(journal.known("cam1").unwrap(), [known("c.png")]);
}

/// As the agent of before wrote it: no table but these two, nothing of what was read.
#[tokio::test]
async fn a_journal_of_an_agent_of_before_is_gone_on_with() {
    use redb::TableDefinition;
    const DECIDED: TableDefinition<'_, (&str, &[u8]), (u64, i64)> = TableDefinition::new("decided");
    type Row<'a> = (&'a str, u32, &'a [u8], &'a str, &'a [u8], u64, i64);
    const OUTBOX: TableDefinition<'_, u64, Row<'_>> = TableDefinition::new("outbox");
    let dir = tempfile::tempdir().unwrap();
    let before = Database::create(dir.path().join(FILE_NAME)).unwrap();
    let transaction = before.begin_write().unwrap();
    transaction.open_table(DECIDED).unwrap().insert(("cam1", &b"a.png"[..]), (10, 20)).unwrap();
    let row: Row<'_> = ("a", 1, b"line\n", "cam1", b"a.png", 10, 20);
    transaction.open_table(OUTBOX).unwrap().insert(4, row).unwrap();
    transaction.commit().unwrap();
    drop(before);

    let journal = Journal::open(dir.path()).unwrap();
    assert_eq!(journal.known("cam1").unwrap(), [Known { reading: None, ..known("a.png") }]);
    let outbox = journal.outbox().unwrap();
    assert_eq!((outbox[0].0, outbox[0].1.file.as_ref().unwrap().reading), (4, None));
    let handle = journal.start(4).unwrap();
    handle.seen(&"cam1".into(), Path::new("a.png"), READING).await;
    // Of one that was never decided, or is another version by now, nothing is remembered.
    handle.seen(&"cam1".into(), Path::new("b.png"), READING).await;
    assert!(handle.flush().await);
    drop(handle);
    let journal = reopened(dir.path()).await;
    assert_eq!(journal.known("cam1").unwrap(), [known("a.png")]);
    drop(journal);

    // That agent again: what it decides anew is not taken for what this one has read.
    let before = Database::create(dir.path().join(FILE_NAME)).unwrap();
    let transaction = before.begin_write().unwrap();
    transaction.open_table(DECIDED).unwrap().insert(("cam1", &b"a.png"[..]), (10, 21)).unwrap();
    transaction.commit().unwrap();
    drop(before);
    let version = Version { modified: 21, ..VERSION };
    let journal = Journal::open(dir.path()).unwrap();
    assert_eq!(journal.known("cam1").unwrap(), [Known { version, reading: None, ..known("a.png") }]);
}

#[tokio::test]
async fn a_journal_that_is_none_is_kept_aside_and_a_new_one_begun() {
    let dir = tempfile::tempdir().unwrap();
    let change = Change::Post { number: 0, post: post("a", 1, Some("a.png")), awaits: false };
    Journal::open(dir.path()).unwrap().apply(&[&change]).unwrap();
    let path = dir.path().join(FILE_NAME);
    let good = std::fs::read(&path).unwrap();
    let mut flipped = good.clone();
    flipped[..4096].fill(0x5a);
    for (at, bytes) in [b"no journal at all".to_vec(), vec![0; 8192], flipped].into_iter().enumerate() {
        std::fs::write(&path, &bytes).unwrap();
        let journal = Journal::open_soon(dir.path()).await.unwrap();
        assert_eq!(journal.known("cam1").unwrap(), [], "case {at}");
        drop(journal);
        let aside = std::fs::read(dir.path().join(format!("{FILE_NAME}.aside-{}", at + 1))).unwrap();
        assert_eq!(aside, bytes);
    }
    // A good one stays.
    std::fs::write(&path, good).unwrap();
    assert_eq!(Journal::open_soon(dir.path()).await.unwrap().known("cam1").unwrap().len(), 1);
}
