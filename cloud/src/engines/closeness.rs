//! Whether two sets of outputs are the same but for rounding.

use millgate_shared::array::{Array, Values};

/// How far two values may lie apart: so much, and so much of the larger one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tolerance {
    pub(super) absolute: f64,
    pub(super) relative: f64,
}

/// Of one engine, for the same rows in another batch.
pub(super) const OF_BATCHES: Tolerance = Tolerance { absolute: 1e-5, relative: 1e-4 };
/// Of two engines, which add up in another order.
pub(super) const OF_ENGINES: Tolerance = Tolerance { absolute: 1e-4, relative: 1e-3 };

/// Half-precision values have two units in the last place.
const FP16: f64 = 2e-3;
const BF16: f64 = 1.6e-2;

/// Where and how they differ; `None`: they do not.
pub(super) fn difference(a: &Array, b: &Array, tolerance: Tolerance) -> Option<String> {
    if a.shape() != b.shape() {
        return Some(format!("has shape {:?}, not {:?}", a.shape(), b.shape()));
    }
    let coarse = |least: f64| Tolerance {
        absolute: tolerance.absolute.max(least),
        relative: tolerance.relative.max(least),
    };
    match (a.values(), b.values()) {
        (Values::Fp32(a), Values::Fp32(b)) => of(a, b, tolerance, |value| (*value).into()),
        (Values::Fp64(a), Values::Fp64(b)) => of(a, b, tolerance, |value| *value),
        (Values::Fp16(a), Values::Fp16(b)) => of(a, b, coarse(FP16), |value| value.to_f64()),
        (Values::Bf16(a), Values::Bf16(b)) => of(a, b, coarse(BF16), |value| value.to_f64()),
        (a, b) => (a != b).then(|| "is another".to_owned()),
    }
}

fn of<T>(a: &[T], b: &[T], tolerance: Tolerance, value: impl Fn(&T) -> f64) -> Option<String> {
    let is_close = |a: f64, b: f64| {
        let allowed = tolerance.absolute + tolerance.relative * a.abs().max(b.abs());
        (a.is_nan() && b.is_nan()) || a == b || (a - b).abs() <= allowed
    };
    let pairs = a.iter().map(&value).zip(b.iter().map(&value));
    let (at, (a, b)) = pairs.enumerate().find(|(_, (a, b))| !is_close(*a, *b))?;
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
