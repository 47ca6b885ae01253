use proptest::prelude::*;

use super::super::{Key, Mark, Post, Remembered};
use super::*;

fn post(number: u64) -> Change {
    let of = Remembered { source: "cam".into(), key: Key::new([7, 0, 255]), mark: Mark::new([0; 64]) };
    let line = format!("{{\"id\":\"{number}\"}}\n").into_bytes();
    Change::Post {
        number,
        post: Post { id: number.to_string(), version: 1, line, of: vec![of] },
        awaits: true,
    }
}

/// A log with a copy after commit 3, and commits up to `last`.
fn written(dir: &Path, last: u64) -> Wal {
    let mut wal = Wal::rewrite(dir, 3, |each| (0..3).try_for_each(|number| each(&post(number)))).unwrap();
    for number in 4..=last {
        wal.append(number, &[&post(number), &Change::Closed { ids: vec![number.to_string()] }]).unwrap();
    }
    wal
}

type Seen = Vec<(Option<u64>, Vec<Change>)>;

fn all(dir: &Path) -> (Found, Seen) {
    let mut seen = Vec::new();
    let found = read(
        dir,
        |_| true,
        |number, changes| {
            seen.push((number, changes));
            Ok(())
        },
    );
    (found.unwrap().unwrap(), seen)
}

#[test]
fn what_was_appended_is_read_back_and_more_is_appended_behind_it() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(read(dir.path(), |_| true, |_, _| Ok(())).unwrap(), None);
    let wal = written(dir.path(), 6);
    assert_eq!(wal.file.metadata().unwrap().mode() & 0o777, files::PRIVATE);
    let (found, seen) = all(dir.path());
    assert!(found.is_whole() && found.copied == Some(3) && found.last == 6, "{found:?}");
    assert_eq!(seen.len(), 6);
    assert_eq!(seen[0], (None, vec![post(0)]));
    assert_eq!(seen[5].1, [post(6), Change::Closed { ids: vec!["6".to_owned()] }]);
    assert_eq!(Wal::open(dir.path(), &found).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    drop(wal);
    let mut wal = Wal::open(dir.path(), &found).unwrap();
    wal.append(7, &[&post(7)]).unwrap();
    assert!(wal.is_there());
    std::fs::remove_file(dir.path().join(FILE_NAME)).unwrap();
    assert!(!wal.is_there());
}

#[test]
fn an_unfinished_line_is_cut_off_and_no_loss() {
    let dir = tempfile::tempdir().unwrap();
    drop(written(dir.path(), 5));
    let path = dir.path().join(FILE_NAME);
    let whole = std::fs::read(&path).unwrap();
    let before = whole[..whole.len() - 1].iter().rposition(|byte| *byte == b'\n').unwrap() + 1;
    for len in before..whole.len() {
        std::fs::write(&path, &whole[..len]).unwrap();
        let (found, _) = all(dir.path());
        assert!(found.is_whole() && found.last == 4 && found.len == before as u64, "{len}: {found:?}");
    }
    let (found, _) = all(dir.path());
    let mut wal = Wal::open(dir.path(), &found).unwrap();
    wal.append(5, &[&post(5)]).unwrap();
    let (found, _) = all(dir.path());
    assert!(found.is_whole() && found.last == 5, "{found:?}");
}

proptest! {
    /// Whatever bytes are changed, what is read is what was written or is counted as lost.
    #[test]
    fn no_damage_is_taken_for_a_commit(at in any::<prop::sample::Index>(), bit in 0..8_u32, zeroed in 1..200_usize) {
        let dir = tempfile::tempdir().unwrap();
        drop(written(dir.path(), 9));
        let (_, good) = all(dir.path());
        let path = dir.path().join(FILE_NAME);
        let mut bytes = std::fs::read(&path).unwrap();
        let at = at.index(bytes.len());
        let end = (at + zeroed).min(bytes.len());
        match zeroed % 2 {
            0 => bytes[at] ^= 1 << bit,
            _ => bytes[at..end].fill(0),
        }
        std::fs::write(&path, &bytes).unwrap();
        let (found, seen) = all(dir.path());
        for line in &seen {
            prop_assert!(good.contains(line));
        }
        if seen.len() < good.len() {
            // Behind a last line that lost its end nothing is known to be missing.
            prop_assert!(found.lost > 0 || found.last < 9, "{:?}", found);
        }
    }
}
