//! Whether two sets of outputs are the same but for rounding.

use millgate_shared::array::{Array, Values};

/// How far two values may lie apart: so much, and so much of the larger one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tolerance {
    pub(super) absolute: f64,
    pub(super) relative: f64,
    /// The tolerance for 8-bit integers; other integers, and text, are the same or not.
    pub(super) levels: f64,
}

/// The tolerance between answers of one engine to the same rows in different batches.
pub(super) const OF_BATCHES: Tolerance = Tolerance { absolute: 1e-5, relative: 1e-4, levels: 0.0 };
/// The tolerance between two engines, which add up in another order.
pub(super) const OF_ENGINES: Tolerance = Tolerance { absolute: 1e-4, relative: 1e-3, levels: 0.0 };
/// The tolerance between two engines that compute with 8-bit numbers: a value half way between two steps is rounded to either.
pub(super) const OF_QUANTISED: Tolerance = Tolerance { levels: 1.0, ..OF_ENGINES };

/// Half-precision values have two units in the last place.
const FP16: f64 = 2e-3;
const BF16: f64 = 1.6e-2;

/// Where and how they differ; `None`: they do not.
pub(super) fn difference(a: &Array, b: &Array, tolerance: Tolerance) -> Option<String> {
    if a.shape() != b.shape() {
        return Some(format!("has shape {:?}, not {:?}", a.shape(), b.shape()));
    }
    match numbers(a, b, tolerance) {
        Some(Numbers { a, b, tolerance }) => of(&a, &b, tolerance),
        None => (a.values() != b.values()).then(|| "is another".to_owned()),
    }
}

/// How far they lie apart, in what is allowed: above 1 they differ.
pub(super) fn distance(a: &Array, b: &Array, tolerance: Tolerance) -> f64 {
    if a.shape() != b.shape() {
        return f64::INFINITY;
    }
    match numbers(a, b, tolerance) {
        Some(Numbers { a, b, tolerance }) => {
            a.iter().zip(&b).map(|(a, b)| apart(*a, *b, tolerance)).fold(0.0, f64::max)
        }
        None if a.values() == b.values() => 0.0,
        None => f64::INFINITY,
    }
}

/// Two arrays that are compared by value.
struct Numbers {
    a: Vec<f64>,
    b: Vec<f64>,
    tolerance: Tolerance,
}

/// `None` where nothing but equality counts.
fn numbers(a: &Array, b: &Array, tolerance: Tolerance) -> Option<Numbers> {
    let coarse = |least: f64| Tolerance {
        absolute: tolerance.absolute.max(least),
        relative: tolerance.relative.max(least),
        ..tolerance
    };
    let levels = || Tolerance { absolute: tolerance.levels, relative: 0.0, ..tolerance };
    macro_rules! of {
        ($a:expr, $b:expr, $tolerance:expr, $value:expr) => {
            Some(Numbers {
                a: $a.iter().map($value).collect(),
                b: $b.iter().map($value).collect(),
                tolerance: $tolerance,
            })
        };
    }
    match (a.values(), b.values()) {
        (Values::Fp32(a), Values::Fp32(b)) => of!(a, b, tolerance, |value| f64::from(*value)),
        (Values::Fp64(a), Values::Fp64(b)) => of!(a, b, tolerance, |value| *value),
        (Values::Fp16(a), Values::Fp16(b)) => of!(a, b, coarse(FP16), |value| value.to_f64()),
        (Values::Bf16(a), Values::Bf16(b)) => of!(a, b, coarse(BF16), |value| value.to_f64()),
        (Values::Uint8(a), Values::Uint8(b)) => of!(a, b, levels(), |value| f64::from(*value)),
        (Values::Int8(a), Values::Int8(b)) => of!(a, b, levels(), |value| f64::from(*value)),
        _ => None,
    }
}

fn apart(a: f64, b: f64, tolerance: Tolerance) -> f64 {
    if a == b || (a.is_nan() && b.is_nan()) {
        return 0.0;
    }
    let allowed = tolerance.absolute + tolerance.relative * a.abs().max(b.abs());
    let apart = (a - b).abs() / allowed;
    // Nothing is near to what is no number, or without end.
    if apart.is_finite() { apart } else { f64::INFINITY }
}

fn of(a: &[f64], b: &[f64], tolerance: Tolerance) -> Option<String> {
    let mut pairs = a.iter().zip(b).enumerate();
    let (at, (a, b)) = pairs.find(|(_, (a, b))| apart(**a, **b, tolerance) > 1.0)?;
    Some(format!("is {a} at {at}, not {b}"))
}

#[cfg(test)]
mod tests {
    use half::f16;

    use super::*;

    fn array(values: impl Into<Values>) -> Array {
        let values = values.into();
        Array::new(vec![values.len()], values).unwrap()
    }

    #[test]
    fn a_level_is_rounding_where_8_bit_numbers_are_computed_with() {
        let of = |a: u8, b: u8, tolerance| difference(&array(vec![a]), &array(vec![b]), tolerance);
        assert_eq!(of(200, 201, OF_QUANTISED), None);
        assert_eq!(of(200, 217, OF_QUANTISED).unwrap(), "is 200 at 0, not 217");
        assert_eq!(of(200, 201, OF_ENGINES).unwrap(), "is 200 at 0, not 201");
        assert!(difference(&array(vec![1i64]), &array(vec![2i64]), OF_QUANTISED).is_some());
    }

    #[test]
    fn the_distance_is_counted_in_what_is_allowed() {
        let of = |a: f32, b: f32| distance(&array(vec![0.0, a]), &array(vec![0.0, b]), OF_ENGINES);
        assert_eq!(of(f32::NAN, f32::NAN), 0.0);
        assert!(of(1.0, 1.000_5) < 1.0 && of(1.0, 1.1) > 10.0 && of(1.0, 1.2) > of(1.0, 1.1));
        assert_eq!((of(1.0, f32::NAN), of(1.0, f32::INFINITY)), (f64::INFINITY, f64::INFINITY));
        assert_eq!(distance(&array(vec![1i64]), &array(vec![2i64]), OF_ENGINES), f64::INFINITY);
    }

    #[test]
    fn rounding_is_no_difference_and_anything_else_is() {
        let of = |a: Array, b: Array| difference(&a, &b, OF_BATCHES);
        let same = vec![1.0f32, f32::NAN, f32::INFINITY];
        assert_eq!(of(array(same.clone()), array(same)), None);
        assert_eq!(of(array(vec![1.0f32, 1000.0]), array(vec![1.000_01f32, 1000.05])), None);
        let found = of(array(vec![0.0f32, 0.5]), array(vec![0.0f32, 0.75])).unwrap();
        assert_eq!(found, "is 0.5 at 1, not 0.75");
        assert!(of(array(vec![1.0f32]), array(vec![f32::NAN])).is_some());
        assert!(of(array(vec![1.0f32]), array(vec![1.0f32, 2.0])).unwrap().contains("shape"));
        assert!(of(array(vec![1i64]), array(vec![2i64])).is_some());
        assert!(of(array(vec![1i64]), array(vec![1i32])).is_some());
        let half = |value: f32| array(vec![f16::from_f32(value)]);
        assert_eq!(of(half(1.0), half(1.001)), None);
    }
}
