//! A kind of modality as somebody would add it: one file, and one line in a table.

use std::sync::Arc;

use millgate_shared::array::{Array, ArrayError};
use millgate_shared::modality::{Effort, File, Modality, Prepare, Reading, Refused, Spec, Table, keys};
use millgate_shared::part::{Limits, Part, Unreadable, Value};
use serde::Deserialize;

/// The differences to the reference, as a tensor.
const DELTA: &str = "delta";

/// So many numbers, in files of JSON: `[1.5, -2, 0]`.
#[derive(Debug)]
pub(crate) struct Vectors;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    length: usize,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Preprocess {
    scale: f32,
}

impl Vectors {
    fn length(spec: &Spec) -> Result<usize, Refused> {
        keys::<Settings>("settings", &spec.settings).map(|settings| settings.length)
    }

    fn of_length(spec: &Spec, value: Value) -> Result<Value, Unreadable> {
        let (found, wanted) = (value.array().shape(), Self::length(spec).unwrap_or_default());
        match found == [wanted] {
            true => Ok(value),
            false => {
                let message = format!("has the shape {found:?}, `{}` has {wanted} numbers", spec.name);
                Err(Unreadable::new("data", "length", message))
            }
        }
    }
}

impl Modality for Vectors {
    fn kind(&self) -> &'static str {
        "vector"
    }

    fn endings(&self) -> &'static [&'static str] {
        &["json"]
    }

    fn check(&self, spec: &Spec) -> Result<(), Refused> {
        Self::length(spec).map(drop)
    }

    fn input(&self, spec: &Spec, shape: &[usize], preprocess: &Table) -> Result<Arc<dyn Prepare>, Refused> {
        let length = Self::length(spec)?;
        if shape != [length] {
            return Err(Refused::new("shape", format!("must be [{length}]")));
        }
        Ok(Arc::new(keys::<Preprocess>("preprocess", preprocess)?))
    }

    fn read(&self, files: &[File<'_>], limits: &Limits) -> Result<Vec<Reading>, (usize, Unreadable)> {
        let read = |file: &File<'_>| {
            let bytes = &file.part.bytes;
            if bytes.len() as u64 > limits.max_bytes {
                return Err(Unreadable::new("data", "too_large", "is too large"));
            }
            let numbers: Vec<f32> = serde_json::from_slice(bytes)
                .map_err(|error| Unreadable::new("data", "no_numbers", error.to_string()))?;
            let array = Array::new(vec![numbers.len()], numbers.into())
                .map_err(|error| Unreadable::new("data", "no_numbers", error.to_string()))?;
            let value = Self::of_length(file.spec, Value::from(array))?;
            Ok(Reading { value: value.with_original(Some(bytes.clone())), remarks: Vec::new() })
        };
        files.iter().enumerate().map(|(at, file)| read(file).map_err(|error| (at, error))).collect()
    }

    fn encode(&self, spec: &Spec, value: &Value, reference: Option<&Value>, _: Effort) -> Option<Part> {
        let Some(reference) = reference else { return Some(Part::tensor(&spec.name, value.array())) };
        let array = with(value, reference, |number, reference| number - reference)?;
        Some(Part { codec: DELTA.into(), ..Part::tensor(&spec.name, &array) })
    }

    fn decode(
        &self,
        spec: &Spec,
        part: &Part,
        reference: Option<&Value>,
        limits: &Limits,
    ) -> Result<Value, Unreadable> {
        if part.codec != DELTA {
            return Self::of_length(spec, part.read_tensor(limits)?.into());
        }
        let tensor = Part { codec: millgate_shared::part::TENSOR.into(), ..part.clone() };
        let delta = Value::from(tensor.read_tensor(limits)?);
        let sum =
            reference.and_then(|reference| with(&delta, reference, |delta, reference| delta + reference));
        let sum = sum.ok_or_else(|| Unreadable::new("data", "no_reference", "its reference is not here"))?;
        Self::of_length(spec, sum.into())
    }
}

fn with(one: &Value, other: &Value, of: impl Fn(f32, f32) -> f32) -> Option<Array> {
    let (one, other) = (one.array(), other.array());
    let pairs = one.as_fp32().ok()?.iter().zip(other.as_fp32().ok()?);
    let numbers: Vec<f32> = pairs.map(|(one, other)| of(*one, *other)).collect();
    Array::new(one.shape().to_vec(), numbers.into()).ok()
}

impl Prepare for Preprocess {
    fn prepare(&self, value: &Value) -> Result<Array, ArrayError> {
        let numbers: Vec<f32> = value.array().as_fp32()?.iter().map(|number| number * self.scale).collect();
        Array::new(vec![1, numbers.len()], numbers.into())
    }
}
