use super::*;

fn file(name: &str) -> Item {
    Item::Sample { source: "cam1".to_owned(), key: Key::new(name), face: Mark::new([1, 2]) }
}

/// Leaves the directory as a process does that dies with these in hand.
async fn die(dir: &Path, in_hand: &[Item]) {
    let hand = Hand::open(dir);
    let mut held = Vec::new();
    for item in in_hand {
        held.push(hand.take(item).await);
    }
    let notes = std::fs::read(dir.join("in_hand")).unwrap();
    drop((held, hand));
    std::fs::write(dir.join("in_hand"), notes).unwrap();
}

#[tokio::test]
async fn a_file_that_is_alone_in_hand_at_three_deaths_is_set_aside_and_its_neighbour_is_not() {
    let dir = tempfile::tempdir().unwrap();
    die(dir.path(), &[file("bad.png"), file("good.png")]).await;
    let hand = Hand::open(dir.path());
    assert!(
        hand.risks("cam1").values().all(|(_, risk)| *risk == Risk::Alone { points: 0 })
            && hand.risks("cam1").len() == 2
    );
    assert!(hand.risks("cam2").is_empty());
    let calm = hand.calm();
    // The good one is lived through, the other is not.
    hand.acquit(&file("good.png"));
    hand.end();
    drop(hand);
    for _ in 0..2 {
        die(dir.path(), &[file("bad.png")]).await;
    }
    let hand = Hand::open(dir.path());
    let bad = &Key::new("bad.png");
    assert_eq!(hand.risks("cam1")[bad].1, Risk::Aside { deaths: 3 });
    assert_eq!((hand.risks("cam1").len(), hand.calm()), (1, calm));
    hand.acquit(&file("bad.png"));
    assert!(Hand::open(dir.path()).risks("cam1").is_empty(), "also not from the disk");
}

#[tokio::test]
async fn a_suspect_is_alone_in_hand_and_waits_for_one_that_never_ends_no_longer_than_it_may() {
    let (hand, suspect) = (Hand::default(), file("a.png"));
    let shared = hand.take(&Item::Call).await;
    let mut alone = Box::pin(hand.take_alone(&suspect));
    assert!(futures_util::poll!(&mut alone).is_pending());
    // Others do not wait for it.
    drop(hand.take(&Item::Call).await);
    drop(shared);
    let alone = alone.await.unwrap();
    let call = Item::Call;
    let mut later = Box::pin(hand.take(&call));
    assert!(futures_util::poll!(&mut later).is_pending());
    drop(alone);
    let _endless = later.await;
    assert!(hand.take_alone(&suspect).await.is_none());
    hand.take(&Item::Call).await;
}

#[test]
fn what_a_start_reads_is_left_alone_after_three_deaths_over_it_and_cleared_by_a_start() {
    let dir = tempfile::tempdir().unwrap();
    let die = || {
        let hand = Hand::open(dir.path());
        let gate = hand.part("journal");
        let notes = std::fs::read(dir.path().join("in_hand")).unwrap();
        let is_open = matches!(gate, Gate::Open(_));
        drop((gate, hand));
        std::fs::write(dir.path().join("in_hand"), notes).unwrap();
        is_open
    };
    assert!(die() && die());
    let hand = Hand::open(dir.path());
    assert!(matches!(hand.part("journal"), Gate::Open(_)));
    hand.has_started();
    hand.end();
    drop(hand);
    assert!(die() && die() && die(), "it was lived through between");
    let hand = Hand::open(dir.path());
    assert!(
        matches!(hand.part("journal"), Gate::Aside { deaths: 3 })
            && matches!(hand.part("other"), Gate::Open(_))
    );
    hand.has_started();
    assert!(matches!(hand.part("journal"), Gate::Aside { .. }));
}

#[test]
fn a_directory_that_takes_nothing_keeps_nobody_from_work() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("state"), b"a file").unwrap();
    let hand = Hand::open(&dir.path().join("state"));
    assert!(matches!(hand.part("journal"), Gate::Open(_)) && hand.risks("cam1").is_empty());
    hand.end();
}
