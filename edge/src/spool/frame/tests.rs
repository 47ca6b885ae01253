use proptest::prelude::*;

use super::*;

const SALT: u32 = 77;

fn segment(bodies: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (seq, body) in bodies.iter().enumerate() {
        write(&mut bytes, SALT, seq as u64, body);
    }
    bytes
}

fn good(pieces: &[Piece]) -> Vec<u64> {
    let seq = |piece: &Piece| match piece {
        Piece::Good { seq, .. } => Some(*seq),
        Piece::Bad { .. } | Piece::Torn { .. } => None,
    };
    pieces.iter().filter_map(seq).collect()
}

fn bodies() -> impl Strategy<Value = Vec<Vec<u8>>> {
    prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..6)
}

proptest! {
    /// A kill at any byte leaves all entries before it, and is told from damage.
    #[test]
    fn a_cut_anywhere_leaves_all_before_it(bodies in bodies(), cut in any::<prop::sample::Index>()) {
        let bytes = segment(&bodies);
        let cut = cut.index(bytes.len() + 1);
        let pieces = scan(SALT, &bytes[..cut]);
        let mut whole = 0;
        let mut end = 0;
        for body in &bodies {
            end += HEAD + body.len();
            whole += usize::from(end <= cut);
        }
        prop_assert_eq!(good(&pieces), (0..whole as u64).collect::<Vec<_>>());
        let has_bad = pieces.iter().any(|piece| matches!(piece, Piece::Bad { .. }));
        prop_assert!(!has_bad, "{:?}", pieces);
    }

    /// A flipped byte costs the entry it is in and no other.
    #[test]
    fn a_flipped_byte_costs_one_entry(
        bodies in bodies(),
        at in any::<prop::sample::Index>(),
        flip in 1..=255_u8,
    ) {
        let mut bytes = segment(&bodies);
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        let mut end = 0;
        let hit = bodies.iter().position(|body| {
            end += HEAD + body.len();
            at < end
        });
        let expected: Vec<u64> =
            (0..bodies.len() as u64).filter(|seq| Some(*seq as usize) != hit).collect();
        prop_assert_eq!(good(&scan(SALT, &bytes)), expected);
    }

    /// Whatever the bytes: no panic, and the pieces cover them without a gap.
    #[test]
    fn any_bytes_are_covered(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut at = 0;
        for piece in scan(SALT, &bytes) {
            match piece {
                Piece::Good { at: begin, len, .. } | Piece::Bad { at: begin, len } => {
                    prop_assert_eq!(begin, at);
                    at += len;
                }
                Piece::Torn { at: begin } => {
                    prop_assert_eq!(begin, at);
                    at = bytes.len();
                }
            }
        }
        prop_assert_eq!(at, bytes.len());
    }
}

#[test]
fn an_entry_inside_a_damaged_one_does_not_pass_for_one() {
    let mut forged = Vec::new();
    write(&mut forged, SALT + 1, 9, b"forged");
    let mut bytes = segment(&[forged, b"next".to_vec()]);
    bytes[5] ^= 1;
    assert_eq!(good(&scan(SALT, &bytes)), [1]);
}

#[test]
fn zeros_at_the_end_are_a_cut_off_write() {
    let mut bytes = segment(&[b"one".to_vec()]);
    let end = bytes.len();
    bytes.extend([0; 100]);
    assert_eq!(scan(SALT, &bytes)[1..], [Piece::Torn { at: end }]);
}

#[test]
fn a_body_is_read_back_by_its_place_and_number() {
    let bytes = segment(&[b"one".to_vec()]);
    assert_eq!(body(SALT, 0, &bytes), Some(&b"one"[..]));
    assert_eq!(body(SALT, 1, &bytes), None);
    assert_eq!(body(SALT, 0, &bytes[..bytes.len() - 1]), None);
}
