use super::*;

fn read(text: &str, datatype: Datatype, shape: &[usize]) -> Result<Values, String> {
    let data: Data = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let array = data.array("x", datatype, shape.to_vec()).map_err(|failure| failure.to_string())?;
    Ok(array.into_parts().1)
}

#[test]
fn flat_and_nested_lists_are_the_same_tensor() {
    let flat = read("[1, 2.5, 3, 4, 5, 6]", Datatype::Fp32, &[3, 2]).unwrap();
    assert_eq!(flat, vec![1.0f32, 2.5, 3.0, 4.0, 5.0, 6.0].into());
    assert_eq!(read("[[1, 2.5], [3, 4], [5, 6]]", Datatype::Fp32, &[3, 2]), Ok(flat));
    assert_eq!(read("[7]", Datatype::Int8, &[]), Ok(vec![7i8].into()));
    for (text, shape) in [("[]", vec![0, 3]), ("[]", vec![2, 0]), ("[[], []]", vec![2, 0])] {
        assert_eq!(read(text, Datatype::Fp64, &shape), Ok(Vec::<f64>::new().into()), "{text}");
    }
    for text in [
        "[[1, 2], [3, 4, 5], [6]]",
        "[[1, 2, 3], [4, 5, 6]]",
        "[[[1], [2]], [[3], [4]], [[5], [6]]]",
        "[1, 2, [3, 4], [5, 6]]",
        "[[1, 2], 3, 4, 5, 6]",
        "[[1, 2], [[3], [4]], [5, 6]]",
        "[[1, 2], [3, 4], []]",
    ] {
        let error = read(text, Datatype::Fp32, &[3, 2]).unwrap_err();
        assert!(error.contains("x.data") && error.contains("not nested as shape [3, 2]"), "{text}: {error}");
    }
    let short = read("[1, 2, 3]", Datatype::Fp32, &[3, 2]).unwrap_err();
    assert!(short.contains("needs 6 elements, got 3"), "{short}");
}

#[test]
fn integers_keep_every_bit() {
    let edges = "[9223372036854775807, -9223372036854775808, 9007199254740993]";
    let expected = vec![i64::MAX, i64::MIN, 9_007_199_254_740_993];
    assert_eq!(read(edges, Datatype::Int64, &[3]), Ok(expected.into()));
    let expected = vec![1, u64::MAX, 9_007_199_254_740_993];
    let edges = "[1, 18446744073709551615, 9007199254740993]";
    assert_eq!(read(edges, Datatype::Uint64, &[3]), Ok(expected.into()));
    assert_eq!(read("[18446744073709551615, 0]", Datatype::Uint64, &[2]), Ok(vec![u64::MAX, 0].into()));
    // What JSON's readers round by a bit is not rounded here.
    let exact = "[0.30000000000000004, 5e-324, 1.7976931348623157e308, 8.41470984807896507e-01]";
    let expected = vec![0.300_000_000_000_000_04, 5e-324, f64::MAX, 0.841_470_984_807_896_5];
    assert_eq!(read(exact, Datatype::Fp64, &[4]), Ok(expected.into()));
}

#[test]
fn an_element_that_does_not_fit_is_named() {
    for (text, datatype, words) in [
        ("[1, 256]", Datatype::Uint8, "element 1 is 256, which UINT8"),
        ("[1, -1]", Datatype::Uint64, "element 1 is -1, which UINT64"),
        ("[1, 128]", Datatype::Int8, "element 1 is 128, which INT8"),
        ("[1, 9223372036854775808]", Datatype::Int64, "element 1 is 9223372036854775808"),
        ("[1, 18446744073709551616]", Datatype::Uint64, "element 1 is"),
        ("[-1, 18446744073709551615]", Datatype::Uint64, "whole numbers"),
        ("[1, 1.5]", Datatype::Int32, "element 1 is 1.5"),
        ("[1, 2.0]", Datatype::Int32, "without a point"),
        ("[1, 1e39]", Datatype::Fp32, "which FP32 does not hold"),
        ("[1, 2]", Datatype::Fp16, "send it as binary"),
        ("[1, 2]", Datatype::Bf16, "send it as binary"),
        ("[1, 0]", Datatype::Bool, "true and false"),
        ("[true, false]", Datatype::Fp32, "truth values"),
        ("[1, 2]", Datatype::Bytes, "takes strings"),
        ("[\"1\", \"2\"]", Datatype::Int64, "strings"),
        ("[1, true]", Datatype::Fp32, "expected numbers throughout"),
        ("[\"a\", 2]", Datatype::Bytes, "expected strings throughout"),
        ("[1, null]", Datatype::Fp32, "null"),
        ("[1, {}]", Datatype::Fp32, "map"),
        ("[1, NaN]", Datatype::Fp32, "expected value"),
        ("[1, 1e999]", Datatype::Fp64, "out of range"),
        ("7", Datatype::Fp32, "a list of elements"),
    ] {
        let error = read(text, datatype, &[2]).unwrap_err();
        assert!(error.contains(words), "{text} as {datatype}: {error}");
    }
    let texts = read("[\"\", \"gr\\u00fc\\u00dfe\"]", Datatype::Bytes, &[2]).unwrap();
    assert_eq!(texts, vec![Bytes::new(), Bytes::from("grüße")].into());
}
