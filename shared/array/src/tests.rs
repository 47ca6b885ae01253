use proptest::prelude::*;

use super::*;

fn text(elements: &[&str]) -> Values {
    elements.iter().map(|element| Bytes::copy_from_slice(element.as_bytes())).collect::<Vec<_>>().into()
}

#[test]
fn an_array_is_never_invalid() {
    assert!(Array::new(vec![2, 3], vec![0i64; 6].into()).is_ok());
    let short = Array::new(vec![2, 3], vec![0i64; 5].into()).unwrap_err();
    assert_eq!(short.to_string(), "shape [2, 3] needs 6 elements, got 5");
    assert_eq!(Array::new(vec![usize::MAX, 2], vec![0u8; 2].into()), Err(ArrayError::TooLarge));
    assert_eq!(Array::new(vec![0, usize::MAX, 2], Vec::<u8>::new().into()), Err(ArrayError::TooLarge));
    assert!(Array::new(vec![0, 7], Vec::<u8>::new().into()).is_ok());
    assert!(Array::new(vec![], vec![1.0f64].into()).is_ok());
    let raw = Array::from_raw(Datatype::Fp32, vec![1 << 62, 4], &[0; 16]);
    assert_eq!(raw, Err(ArrayError::TooLarge));
}

#[test]
fn malformed_lengths_of_bytes_say_which_element() {
    let read = |count, raw: &[u8]| Values::from_raw(Datatype::Bytes, count, raw);
    assert_eq!(read(2, b"\x02\0\0\0ab\0\0\0\0"), Ok(text(&["ab", ""])));
    assert_eq!(read(1, b"\x02\0\0"), Err(ArrayError::NoLength { element: 0, left: 3 }));
    assert_eq!(
        read(2, b"\0\0\0\0\xff\xff\xff\xffx"),
        Err(ArrayError::ElementLength { element: 1, length: 0xffff_ffff, left: 1 })
    );
    assert_eq!(read(1, b"\0\0\0\0x"), Err(ArrayError::Trailing { count: 1, left: 1 }));
    assert_eq!(read(usize::MAX, b""), Err(ArrayError::NoLength { element: 0, left: 0 }));
}

#[test]
fn what_is_shown_piece_by_piece_is_what_goes_over_the_line() {
    let all: [Values; 4] =
        [vec![true, false].into(), vec![1.5f32, f32::NAN].into(), text(&["ab", ""]), text(&[])];
    for values in all {
        let mut shown = Vec::new();
        values.visit_raw(|piece| shown.extend_from_slice(piece));
        assert_eq!(shown, values.to_raw(), "{}", values.datatype());
    }
}

#[test]
fn joined_and_split_again_is_the_same() {
    let part = |rows: usize, from: i32| {
        Array::new(vec![rows, 2], (from..from + 2 * rows as i32).collect::<Vec<_>>().into()).unwrap()
    };
    let (a, b) = (part(1, 0), part(3, 10));
    let joined = Array::join(&[&a, &b]).unwrap();
    assert_eq!(joined.shape(), [4, 2]);
    assert_eq!(joined.clone().split(&[1, 3]).unwrap(), [a.clone(), b]);
    assert_eq!(joined.split(&[1, 2]), Err(ArrayError::Rows { expected: 3, got: 4 }));
    let other = Array::new(vec![1, 2], vec![0u8; 2].into()).unwrap();
    assert!(Array::join(&[&a, &other]).is_err());
    let wide = Array::new(vec![1, 3], vec![0i32; 3].into()).unwrap();
    assert!(Array::join(&[&a, &wide]).is_err());
    let scalar = Array::new(vec![], vec![0i32].into()).unwrap();
    assert!(Array::join(&[&scalar]).is_err() && scalar.split(&[1]).is_err());
}

proptest! {
    #[test]
    fn raw_bytes_survive_both_ways(raw in prop::collection::vec(any::<u8>(), 0..256), which in 1usize..13) {
        let datatype = Datatype::ALL[which];
        let size = datatype.size().unwrap();
        let whole = raw.len() / size * size;
        let values = Values::from_raw(datatype, whole / size, &raw[..whole]).unwrap();
        prop_assert_eq!(values.datatype(), datatype);
        prop_assert_eq!(values.to_raw(), &raw[..whole]);
        if whole != raw.len() {
            prop_assert!(Values::from_raw(datatype, whole / size, &raw).is_err());
        }
    }

    #[test]
    fn any_bytes_are_elements_or_an_error(count in 0usize..9, raw in prop::collection::vec(any::<u8>(), 0..64)) {
        if let Ok(values) = Values::from_raw(Datatype::Bytes, count, &raw) {
            prop_assert_eq!(values.len(), count);
            prop_assert_eq!(values.to_raw(), raw);
        }
    }
}

#[test]
fn values_are_filled_where_they_stay() {
    let samples = [
        Values::Bool(vec![true, false]),
        Values::Uint8(vec![1, 2, 3]),
        Values::Int64(vec![-1, i64::MAX]),
        Values::Fp32(vec![0.5, -2.0]),
        Values::Bytes(vec![Bytes::from_static(b"ab"), Bytes::new()]),
        Values::Fp64(Vec::new()),
    ];
    for values in samples {
        let raw = values.to_raw();
        assert_eq!(values.raw_size(), raw.len());
        let filled = Values::filled::<ArrayError>(values.datatype(), values.len(), raw.len(), |bytes| {
            bytes.copy_from_slice(&raw);
            Ok(())
        });
        assert_eq!(filled, Ok(values));
    }
    let short = Values::filled::<ArrayError>(Datatype::Fp32, 2, 7, |_| Ok(()));
    assert!(matches!(short, Err(ArrayError::RawLength { expected: 8, got: 7, .. })));
    let vast = Values::filled::<ArrayError>(Datatype::Fp64, usize::MAX / 4, 8, |_| Ok(()));
    assert_eq!(vast, Err(ArrayError::TooLarge));
}
