use super::super::kept::FILE_NAME;
use super::*;

fn ledger(dir: &Path, per_hour: u64) -> Ledger {
    let limits = Limits { per_hour, per_day: 0 };
    Ledger::open(&LedgerConfig { limits, is_metered: false, dir: Some(dir.to_owned()) })
}

fn take(ledger: &Ledger, bytes: u64) -> Result<(), Refused> {
    ledger.take(Traffic::Live, Form::Raw, bytes, None)
}

fn left(ledger: &Ledger) -> u64 {
    ledger.snapshot().left[0].unwrap()
}

#[test]
fn what_is_spent_is_spent_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let first = ledger(dir.path(), 1 << 20);
    take(&first, 300_000).unwrap();
    take(&first, 1000).unwrap();
    assert_eq!(left(&first), (1 << 20) - 301_000);
    drop(first);
    let second = ledger(dir.path(), 1 << 20);
    assert_eq!(left(&second), (1 << 20) - 301_000);
    // Killed: what lies on disk is all there is.
    take(&second, 100_000).unwrap();
    let killed = std::fs::read(dir.path().join(FILE_NAME)).unwrap();
    drop(second);
    std::fs::write(dir.path().join(FILE_NAME), killed).unwrap();
    let third = ledger(dir.path(), 1 << 20);
    let lost = (1 << 20) - 401_000 - left(&third);
    assert_eq!(lost, (1 << 20) / 64, "an advance, and never less than was spent");
    assert_eq!(take(&third, 1 << 20), Err(Refused::Spent));
    assert_eq!(third.room_in(Traffic::Live, 2 << 20), None);
}

#[test]
fn a_file_that_cannot_be_read_is_a_spent_budget() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join(FILE_NAME), "{").unwrap();
    let ledger = ledger(dir.path(), 10_000);
    assert_eq!(take(&ledger, 1), Err(Refused::Spent));
}

#[test]
fn nothing_goes_that_cannot_be_kept() {
    let dir = tempfile::tempdir().unwrap();
    // Its place is taken by a directory, so that the file cannot be put there.
    std::fs::write(dir.path().join("state"), "a file").unwrap();
    let blocked = ledger(&dir.path().join("state/below"), 10_000);
    // What cannot be told from "not there" is not there; but nothing can be written either.
    assert!(matches!(take(&blocked, 1), Err(Refused::Unsaved | Refused::Spent)));
    std::fs::create_dir(dir.path().join("late")).unwrap();
    let ledger = ledger(&dir.path().join("late"), 100_000);
    std::fs::create_dir(dir.path().join("late").join(FILE_NAME)).unwrap();
    assert_eq!(take(&ledger, 1), Err(Refused::Unsaved));
    assert!(ledger.snapshot().is_broken);
    std::fs::remove_dir(dir.path().join("late").join(FILE_NAME)).unwrap();
    assert_eq!(take(&ledger, 1), Ok(()));
    assert!(!ledger.snapshot().is_broken);
}

#[test]
fn the_switch_outlives_the_process() {
    let dir = tempfile::tempdir().unwrap();
    let first = ledger(dir.path(), 0);
    assert!(!first.is_metered());
    first.switch_metered(Some(true)).unwrap();
    drop(first);
    let second = ledger(dir.path(), 0);
    assert!(second.is_metered());
    let backlog = second.take(Traffic::Backlog, Form::Raw, 1, None);
    assert_eq!(backlog, Err(Refused::Metered));
    second.switch_metered(None).unwrap();
    assert!(!second.is_metered());
    assert!(!ledger(dir.path(), 0).is_metered());
}

#[test]
fn without_a_limit_nothing_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = ledger(dir.path(), 0);
    take(&ledger, 1 << 40).unwrap();
    drop(ledger);
    assert!(!dir.path().join(FILE_NAME).exists());
}

#[test]
fn a_refund_is_neither_counted_nor_spent() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = ledger(dir.path(), 10_000);
    take(&ledger, 5000).unwrap();
    ledger.refund(Traffic::Live, Form::Raw, 5000);
    assert_eq!(left(&ledger), 10_000);
    let sent = ledger.counts().sent(Traffic::Live, Form::Raw).load(Ordering::Relaxed);
    assert_eq!(sent, 0);
    assert_eq!(take(&ledger, 10_001), Err(Refused::Spent));
    assert!(ledger.counts().refused().any(|refused| refused == ("spent", 1)));
}

#[test]
fn another_send_is_spent_too_but_only_within_what_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let unlimited = ledger(dir.path(), 0);
    let ledger = ledger(dir.path(), 100_000);
    assert_eq!(ledger.take_again(Form::Raw, 10), Err(Refused::Unsaved));
    take(&ledger, 1000).unwrap();
    assert_eq!(ledger.take_again(Form::Raw, 1000), Ok(()));
    assert_eq!(left(&ledger), 98_000);
    assert_eq!(ledger.take_again(Form::Raw, 100_000), Err(Refused::Spent));
    let busy = ledger.lock();
    assert_eq!(ledger.take_again(Form::Raw, 10), Err(Refused::Unsaved));
    drop(busy);
    // Nobody is in the way of one that has no limit.
    let busy = unlimited.lock();
    assert_eq!(unlimited.take_again(Form::Raw, 1 << 40), Ok(()));
    drop(busy);
}

#[test]
fn whether_there_is_room_is_asked_without_spending_or_counting() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = ledger(dir.path(), 100_000);
    assert!(ledger.has_room(Traffic::Backlog, 75_000) && !ledger.has_room(Traffic::Backlog, 75_001));
    assert_eq!(left(&ledger), 100_000);
    ledger.switch_metered(Some(true)).unwrap();
    assert!(!ledger.has_room(Traffic::Backlog, 1) && ledger.has_room(Traffic::Live, 1));
    ledger.switch_metered(None).unwrap();
    assert!(ledger.has_room(Traffic::Backlog, 1));
    assert!(ledger.counts().refused().all(|(_, count)| count == 0));
}
