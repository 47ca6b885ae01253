use super::*;

fn mark() -> Mark {
    Mark::new([7, 0, 255])
}

fn known(name: &str) -> Known {
    Known { key: Key::new(name), mark: mark() }
}

#[tokio::test]
async fn what_was_entered_is_known_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let handle = Journal::open(dir.path()).unwrap().start(4).unwrap();
    for (source, name) in [("cam1", "a.png"), ("cam1", "b.png"), ("cam2", "c.png")] {
        let mut post = post(name, 1, Some(name));
        post.of[0].source = source.into();
        handle.post(post, false).await.unwrap();
    }
    assert!(handle.forget(&"cam1".into(), vec![Key::new("b.png")]).await);
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

async fn reopened(dir: &Path) -> Journal {
    loop {
        match Journal::open(dir) {
            Ok(journal) => return journal,
            Err(JournalError::InUse { .. }) => tokio::task::yield_now().await,
            Err(error) => panic!("{error}"),
        }
    }
}

pub(super) fn post(id: &str, version: u32, key: Option<&str>) -> Post {
    let remembered = |key: &str| Remembered { source: "cam1".into(), key: Key::new(key), mark: mark() };
    let of = key.map(remembered).into_iter().collect();
    Post { id: id.to_owned(), version, line: format!("{id} {version}\n").into_bytes(), of }
}

#[tokio::test]
async fn a_record_stays_in_the_outbox_until_it_is_delivered() {
    let dir = tempfile::tempdir().unwrap();
    let handle = Journal::open(dir.path()).unwrap().start(4).unwrap();
    let first = handle.post(post("a", 1, Some("a.png")), true).await.unwrap();
    handle.post(post("b", 1, None), false).await.unwrap();
    handle.delivered(first, vec![("cam1".into(), Key::new("a.png"))]).await;
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

#[tokio::test]
async fn a_sample_may_be_known_by_another_mark_and_one_that_was_never_decided_is_not_known() {
    let dir = tempfile::tempdir().unwrap();
    let handle = Journal::open(dir.path()).unwrap().start(4).unwrap();
    handle.post(post("a", 1, Some("a.png")), false).await.unwrap();
    for key in ["a.png", "b.png"] {
        handle.renew(&"cam1".into(), Key::new(key), Mark::new("now")).await;
    }
    assert!(handle.flush().await);
    drop(handle);
    let journal = reopened(dir.path()).await;
    assert_eq!(journal.known("cam1").unwrap(), [Known { mark: Mark::new("now"), ..known("a.png") }]);
}

#[tokio::test]
async fn a_record_of_several_samples_has_them_all_decided_and_forgets_those_that_are_gone() {
    let dir = tempfile::tempdir().unwrap();
    let handle = Journal::open(dir.path()).unwrap().start(4).unwrap();
    let parts = ["a.image", "a.thermal", "a.force"];
    let joined =
        Post { of: parts.iter().flat_map(|key| post("a", 1, Some(key)).of).collect(), ..post("a", 1, None) };
    let number = handle.post(joined.clone(), false).await.unwrap();
    handle.post(post("b", 1, Some("b")), false).await.unwrap();
    assert!(handle.flush().await);
    drop(handle);
    let journal = reopened(dir.path()).await;
    assert_eq!(journal.outbox().unwrap()[0], (number, joined));
    assert_eq!(journal.known("cam1").unwrap().len(), 4);
    let handle = journal.start(4).unwrap();
    handle.delivered(number, vec![("cam1".into(), Key::new("a.image"))]).await;
    drop(handle);
    let journal = reopened(dir.path()).await;
    assert_eq!(journal.known("cam1").unwrap(), ["a.force", "a.thermal", "b"].map(known));
    assert_eq!(journal.outbox().unwrap(), [(number + 1, post("b", 1, Some("b")))]);
}

/// Whatever changes come, the database, the state in memory, and what is made of a copy of the database say the same.
#[test]
fn the_database_and_the_state_in_memory_take_changes_alike() {
    for seed in 0..20 {
        let mut random = fastrand::Rng::with_seed(seed);
        let dir = tempfile::tempdir().unwrap();
        let mut state = State::default();
        let changes: Vec<Change> = (0..400).map(|_| any(&mut random)).collect();
        let base = Base::make(&dir.path().join(FILE_NAME), |transaction| {
            change::apply(transaction, &changes)?;
            Ok(7)
        });
        let base = base.unwrap();
        changes.into_iter().for_each(|change| state.apply(change));
        let mut copied = State::default();
        base.read(|read| {
            assert_eq!(change::commits(read).unwrap(), 7);
            for source in ["cam1", "cam2"] {
                assert_eq!(change::known(read, source).unwrap(), state.known(source), "seed {seed}");
            }
            assert_eq!(change::outbox(read).unwrap(), state.outbox(), "seed {seed}");
            assert_eq!(change::spooled(read).unwrap(), state.spooled(), "seed {seed}");
            change::copy(read, |change| {
                copied.apply(change);
                Ok::<(), Failed>(())
            })
        })
        .unwrap();
        assert_eq!(copied, state, "seed {seed}");
    }
}

fn any(random: &mut fastrand::Rng) -> Change {
    let source: std::sync::Arc<str> = if random.bool() { "cam1" } else { "cam2" }.into();
    let key = Key::new([random.u8(..12)]);
    let mark = Mark::new([random.u8(..), random.u8(..)]);
    let ids: Vec<String> = (0..random.usize(..3)).map(|_| random.u8(..12).to_string()).collect();
    let number = random.u64(..12);
    let remembered = Remembered { source: source.clone(), key: key.clone(), mark: mark.clone() };
    let post = Post { of: vec![remembered.clone()], ..post(&number.to_string(), 1, None) };
    match random.u8(..9) {
        0 => Change::Forget { source, key },
        1 => Change::Renewed { source, key, mark },
        2 | 3 => Change::Post { number, post, awaits: random.bool() },
        4 => Change::Delivered {
            number: number + random.u64(..2) * 12,
            gone: if random.bool() { vec![(source, key)] } else { Vec::new() },
        },
        5 => Change::Remembered { of: vec![remembered] },
        // A number is used once.
        6 => Change::Amended { number: number + 12, post: Post { version: 2, of: Vec::new(), ..post } },
        7 => {
            if random.bool() {
                Change::Closed { ids }
            } else {
                Change::Awaits { ids }
            }
        }
        _ => Change::Pruned { ids },
    }
}
