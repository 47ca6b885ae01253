//! Triton's classification extension: instead of an output, its largest values as text, `value:index` or
//! `value:index:label`.

use std::cmp::Ordering;
use std::fmt::Display;

use bytes::Bytes;
use millgate_shared::array::{Array, ArrayError, Datatype, Values};

/// True where an output of this datatype has values to rank.
pub(super) fn is_offered(datatype: Datatype) -> bool {
    !matches!(datatype, Datatype::Bool | Datatype::Bytes)
}

/// The `count` largest values, largest first, of each row or, without rows, of the whole: BYTES of shape
/// `[rows, count]` or `[count]`. A row that has fewer values gives all of them. Of equal values the first comes
/// first; NaN comes last.
pub(super) fn best(
    array: &Array,
    has_rows: bool,
    count: usize,
    labels: &[String],
) -> Result<Array, ArrayError> {
    let rows = if has_rows { array.rows() } else { 1 };
    let classes = array.values().len().checked_div(rows).unwrap_or(0);
    let want = Wanted { classes, count: count.min(classes), labels };
    let texts = match array.values() {
        Values::Uint8(values) => want.whole(values),
        Values::Uint16(values) => want.whole(values),
        Values::Uint32(values) => want.whole(values),
        Values::Uint64(values) => want.whole(values),
        Values::Int8(values) => want.whole(values),
        Values::Int16(values) => want.whole(values),
        Values::Int32(values) => want.whole(values),
        Values::Int64(values) => want.whole(values),
        Values::Fp16(values) => want.real(values),
        Values::Bf16(values) => want.real(values),
        Values::Fp32(values) => want.real(values),
        Values::Fp64(values) => want.real(values),
        Values::Bool(_) | Values::Bytes(_) => {
            return Err(ArrayError::Datatype { expected: Datatype::Fp32, found: array.datatype() });
        }
    };
    let shape = if has_rows { vec![rows, want.count] } else { vec![want.count] };
    Array::new(shape, texts.into())
}

struct Wanted<'a> {
    classes: usize,
    count: usize,
    labels: &'a [String],
}

impl Wanted<'_> {
    fn whole<T: Ord + Display>(&self, values: &[T]) -> Vec<Bytes> {
        self.ranked(values, T::cmp, T::to_string)
    }

    fn real<T: Copy + Into<f64>>(&self, values: &[T]) -> Vec<Bytes> {
        let order = |a: &T, b: &T| {
            let (a, b): (f64, f64) = ((*a).into(), (*b).into());
            // NaN is less than anything.
            a.partial_cmp(&b).unwrap_or_else(|| b.is_nan().cmp(&a.is_nan()))
        };
        let text = |value: &T| match (*value).into() {
            value if value.is_nan() => "nan".to_owned(),
            // As C's `%f`, which Triton's clients know.
            value => format!("{value:.6}"),
        };
        self.ranked(values, order, text)
    }

    fn ranked<T>(
        &self,
        values: &[T],
        order: impl Fn(&T, &T) -> Ordering,
        text: impl Fn(&T) -> String,
    ) -> Vec<Bytes> {
        let mut texts = Vec::new();
        for row in values.chunks_exact(self.classes.max(1)) {
            let largest_first = |a: &usize, b: &usize| order(&row[*b], &row[*a]).then(a.cmp(b));
            let mut indices: Vec<usize> = (0..row.len()).collect();
            if self.count < indices.len() {
                indices.select_nth_unstable_by(self.count, largest_first);
                indices.truncate(self.count);
            }
            indices.sort_unstable_by(largest_first);
            texts.extend(indices.into_iter().map(|index| {
                let value = text(&row[index]);
                Bytes::from(match self.labels.get(index) {
                    Some(label) => format!("{value}:{index}:{label}"),
                    None => format!("{value}:{index}"),
                })
            }));
        }
        texts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(array: &Array) -> Vec<String> {
        let Values::Bytes(values) = array.values() else { panic!("{array:?}") };
        values.iter().map(|value| String::from_utf8(value.to_vec()).unwrap()).collect()
    }

    #[test]
    fn the_largest_come_first_with_their_labels() {
        let array = Array::new(vec![2, 3], vec![0.25f32, 1.5, -1.0, 3.0, 2.0, 3.0].into()).unwrap();
        let labels = ["no".to_owned(), "yes".to_owned()];
        let best_two = best(&array, true, 2, &labels).unwrap();
        assert_eq!(best_two.shape(), [2, 2]);
        assert_eq!(texts(&best_two), ["1.500000:1:yes", "0.250000:0:no", "3.000000:0:no", "3.000000:2"]);
        let whole = best(&array, false, 100, &[]).unwrap();
        assert_eq!(whole.shape(), [6]);
        assert_eq!(texts(&whole)[5], "-1.000000:2");
    }

    #[test]
    fn every_number_can_be_ranked_and_nan_is_last() {
        let odd = vec![f64::NAN, f64::NEG_INFINITY, 1.0, f64::INFINITY];
        let ranked = best(&Array::new(vec![1, 4], odd.into()).unwrap(), true, 4, &[]).unwrap();
        assert_eq!(texts(&ranked), ["inf:3", "1.000000:2", "-inf:1", "nan:0"]);
        let wide = Array::new(vec![2], vec![u64::MAX - 1, u64::MAX].into()).unwrap();
        assert_eq!(texts(&best(&wide, false, 1, &[]).unwrap()), ["18446744073709551615:1"]);
        // One value a row, no value a row, no row.
        assert_eq!(best(&wide, true, 3, &[]).unwrap().shape(), [2, 1]);
        let none = Array::new(vec![2, 0], Vec::<f32>::new().into()).unwrap();
        assert_eq!(best(&none, true, 3, &[]).unwrap().shape(), [2, 0]);
        let none = Array::new(vec![0, 2], Vec::<f32>::new().into()).unwrap();
        assert_eq!(best(&none, true, 3, &[]).unwrap().shape(), [0, 0]);
        assert!(best(&Array::new(vec![1], vec![true].into()).unwrap(), true, 1, &[]).is_err());
    }
}
