use proptest::prelude::*;

use super::*;

fn tensor(values: Vec<f32>) -> Array {
    Array::new(vec![1, values.len()], values.into()).unwrap()
}

fn back(wire: &v1::Tensor) -> Array {
    let shape: Vec<usize> = wire.shape.iter().map(|axis| *axis as usize).collect();
    read_tensor("t", wire, &shape).unwrap()
}

#[test]
fn a_tensor_survives_the_wire() {
    let tensor = tensor(vec![0.5, -1.0, f32::MIN_POSITIVE]);
    assert_eq!(read_tensor("t", &write_tensor("x", &tensor), &[1, 3]).unwrap(), tensor);
}

#[test]
fn what_is_wrong_is_named() {
    let good = write_tensor("x", &tensor(vec![1.0, 2.0]));
    let field = |wire: v1::Tensor| read_tensor("t", &wire, &[1, 2]).unwrap_err().field;
    assert_eq!(field(v1::Tensor { shape: vec![2, 1], ..good.clone() }), "t.shape");
    assert_eq!(field(v1::Tensor { shape: vec![-1, 2], ..good.clone() }), "t.shape");
    assert_eq!(field(v1::Tensor { data: good.data.slice(..7), ..good.clone() }), "t.data");
    assert_eq!(field(v1::Tensor { data: good.data.slice(..4), ..good.clone() }), "t.data");
    assert_eq!(field(v1::Tensor { datatype: 0, ..good.clone() }), "t.datatype");
    assert_eq!(field(v1::Tensor { encoding: 7, ..good.clone() }), "t.encoding");
    assert_eq!(field(v1::Tensor { encoding: v1::Encoding::Zstd.into(), ..good.clone() }), "t.data");
    assert_eq!(field(v1::Tensor { scale: 1.0, ..good.clone() }), "t.scale");
    let half = write_packed("x", &tensor(vec![1.0, 2.0]), Numbers::Fp16, None);
    assert_eq!(field(v1::Tensor { data: half.data.slice(..3), ..half.clone() }), "t.data");
    let small = write_packed("x", &tensor(vec![1.0, 2.0]), Numbers::Int8, None);
    assert_eq!(field(v1::Tensor { scale: f32::NAN, ..small.clone() }), "t.scale");
    assert_eq!(field(v1::Tensor { scale: 0.0, ..small.clone() }), "t.offset");
    assert_eq!(field(v1::Tensor { offset: f32::INFINITY, ..small.clone() }), "t.offset");
    assert_eq!(field(v1::Tensor { scale: f32::MAX, ..small.clone() }), "t.data");
    let nan = tensor(vec![1.0, f32::NAN]);
    assert_eq!(field(write_tensor("x", &nan)), "t.data");
}

#[test]
fn whole_numbers_without_a_scale_are_the_values() {
    let wire = |datatype: v1::DataType| v1::Tensor {
        datatype: datatype.into(),
        shape: vec![1, 2],
        data: vec![3, 255].into(),
        ..v1::Tensor::default()
    };
    assert_eq!(back(&wire(v1::DataType::Uint8)).as_fp32().unwrap(), [3.0, 255.0]);
    assert_eq!(back(&wire(v1::DataType::Int8)).as_fp32().unwrap(), [3.0, -1.0]);
}

#[test]
fn a_frame_that_unfolds_to_more_is_refused_before_it_does() {
    // A gigabyte of zeros.
    let bomb = zstd::bulk::compress(&vec![0; 1 << 20], 19).unwrap().repeat(1 << 10);
    for (shape, datatype) in [(vec![1, 4], v1::DataType::Fp32), (vec![1, 1 << 20], v1::DataType::Int8)] {
        let wire = v1::Tensor {
            datatype: datatype.into(),
            shape: shape.clone(),
            data: bomb.clone().into(),
            encoding: v1::Encoding::Zstd.into(),
            ..v1::Tensor::default()
        };
        let shape: Vec<usize> = shape.iter().map(|axis| *axis as usize).collect();
        let error = read_tensor("t", &wire, &shape).unwrap_err();
        assert_eq!(error.field, "t.data");
        assert!(error.message.contains("at most"), "{error}");
    }
    // And one that unfolds to less.
    let short = v1::Tensor {
        datatype: v1::DataType::Int8.into(),
        shape: vec![1, 100],
        data: zstd::bulk::compress(&[0; 99], 3).unwrap().into(),
        encoding: v1::Encoding::Zstd.into(),
        ..v1::Tensor::default()
    };
    assert!(read_tensor("t", &short, &[1, 100]).unwrap_err().message.contains("unfolds to 99"));
}

#[test]
fn zstd_is_kept_only_where_it_is_smaller() {
    let flat = write_packed("x", &tensor(vec![0.25; 4096]), Numbers::Fp32, None);
    assert_eq!(flat.encoding, i32::from(v1::Encoding::Zstd));
    assert!(flat.data.len() < 64, "{}", flat.data.len());
    let mut state = 1_u32;
    let noise = (0..4096).map(|_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        f32::from_bits(0x3f00_0000 | (state >> 9))
    });
    let noise = write_packed("x", &tensor(noise.collect()), Numbers::Int8, None);
    assert_eq!(noise.encoding, i32::from(v1::Encoding::Unspecified));
    assert_eq!(noise.data.len(), 4096);
}

#[test]
fn each_grey_level_comes_back_as_it_was() {
    for (mean, std) in [(0.5, 0.25), (0.0, 1.0), (0.485, 0.229)] {
        let values: Vec<f32> = (0..=255).map(|grey| (grey as f32 / 255.0 - mean) / std).collect();
        let tensor = tensor(values.clone());
        let wire = write_packed("x", &tensor, Numbers::Int8, Scale::of_levels(mean, std));
        for (value, got) in values.iter().zip(back(&wire).as_fp32().unwrap()) {
            assert!((value - got).abs() < 2e-6, "{value} {got}");
        }
    }
}

#[test]
fn what_does_not_fit_goes_in_full() {
    for (values, numbers) in
        [(vec![70_000.0, 0.0], Numbers::Fp16), (vec![0.0, f32::MIN_POSITIVE], Numbers::Int8)]
    {
        let tensor = tensor(values);
        let wire = write_packed("x", &tensor, numbers, None);
        assert_eq!(wire.datatype, i32::from(v1::DataType::Fp32));
        assert_eq!(back(&wire), tensor);
    }
    let widest = tensor(vec![f32::MAX, f32::MIN]);
    let got = back(&write_packed("x", &widest, Numbers::Int8, None));
    assert!(
        got.is_finite() && (got.as_fp32().unwrap()[0] / f32::MAX - 1.0).abs() < 0.01,
        "{:?}",
        got.as_fp32().unwrap()
    );
    assert_eq!(Scale::of_values(&[1.0, f32::NAN]), None);
    assert_eq!(Scale::of_levels(0.5, 0.0), None);
}

proptest! {
    #[test]
    fn fp32_comes_back_as_it_was(values in prop::collection::vec(-1e30_f32..1e30, 1..300)) {
        let tensor = tensor(values);
        prop_assert_eq!(back(&write_packed("x", &tensor, Numbers::Fp32, None)), tensor);
    }

    #[test]
    fn fp16_is_off_by_at_most_half_of_its_last_bit(values in prop::collection::vec(-6e4_f32..6e4, 1..300)) {
        let tensor = tensor(values);
        let got = back(&write_packed("x", &tensor, Numbers::Fp16, None));
        for (value, got) in tensor.as_fp32().unwrap().iter().zip(got.as_fp32().unwrap()) {
            prop_assert!((value - got).abs() <= value.abs() / 2048.0 + 6e-8, "{value} {got}");
        }
    }

    #[test]
    fn int8_is_off_by_at_most_half_a_step(
        values in prop::collection::vec(-100.0_f32..100.0, 1..300),
        magnitude in -20_i32..20,
    ) {
        let values: Vec<f32> = values.into_iter().map(|value| value * 2_f32.powi(magnitude)).collect();
        let tensor = tensor(values);
        let wire = write_packed("x", &tensor, Numbers::Int8, None);
        let step = if wire.data.is_empty() { 0.0 } else { wire.scale };
        let largest = tensor.as_fp32().unwrap().iter().fold(0.0_f32, |most, value| most.max(value.abs()));
        for (value, got) in tensor.as_fp32().unwrap().iter().zip(back(&wire).as_fp32().unwrap()) {
            prop_assert!((value - got).abs() <= 0.5 * step + largest * 1e-6, "{value} {got} {step}");
        }
    }

    /// Whatever a stranger sends, reading it gives an answer.
    #[test]
    fn nothing_that_is_read_panics(
        data in prop::collection::vec(any::<u8>(), 0..100),
        datatype in -1_i32..6,
        encoding in 0_i32..3,
        scale in any::<f32>(),
        offset in any::<f32>(),
        shape in prop::collection::vec(-1_i64..9, 0..4),
    ) {
        let expected: Vec<usize> = shape.iter().map(|axis| (*axis).max(0) as usize).collect();
        let wire = v1::Tensor { data: data.into(), datatype, encoding, scale, offset, shape, ..Default::default() };
        let _read = read_tensor("t", &wire, &expected);
    }
}
