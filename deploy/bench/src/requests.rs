//! Requests made beforehand from what the server says of its models, so that making them costs nothing while measuring;
//! and poison: the same, broken on purpose.

use std::collections::BTreeMap;

use bytes::Bytes;
use millgate_shared::array::Datatype;
use millgate_shared::proto::inference::model_infer_request::InferInputTensor;
use millgate_shared::proto::inference::{ModelInferRequest, ModelInferResponse, ModelMetadataResponse};

use crate::LoadError;
use crate::random::Random;

/// Ways of breaking a request.
const POISONS: usize = 3;
/// A right answer may differ from the one given alone by this, relative to 1 plus its size: kernels for a batch add up
/// in another order.
const TOLERANCE: f32 = 1e-3;
/// Letters of an element of BYTES.
const LETTERS: usize = 8;

/// How requests are made where the metadata leaves it open.
#[derive(Debug, Clone)]
pub struct Shaping {
    /// What a free first axis is.
    pub rows: i64,
    /// Whole shapes, by input.
    pub shapes: BTreeMap<String, Vec<i64>>,
    /// Integers are drawn from 0 up to, not including, this.
    pub integers_below: usize,
    /// Different requests for each model.
    pub distinct: usize,
}

/// What is sent to one model.
#[derive(Debug, Clone)]
pub struct Requests {
    pub name: String,
    pub good: Vec<ModelInferRequest>,
    pub poisoned: Vec<ModelInferRequest>,
    /// For each good request, what was answered when it was alone; empty if answers are not compared.
    pub expected: Vec<ModelInferResponse>,
}

impl Requests {
    pub fn new(
        metadata: &ModelMetadataResponse,
        shaping: &Shaping,
        random: &mut Random,
    ) -> Result<Self, LoadError> {
        let good: Vec<_> = (0..shaping.distinct.max(1))
            .map(|_| good(metadata, shaping, random))
            .collect::<Result<_, _>>()?;
        let poisoned = (0..good.len().max(POISONS)).map(|at| poisoned(&good[at % good.len()], at)).collect();
        Ok(Self { name: metadata.name.clone(), good, poisoned, expected: Vec::new() })
    }
}

fn good(
    metadata: &ModelMetadataResponse,
    shaping: &Shaping,
    random: &mut Random,
) -> Result<ModelInferRequest, LoadError> {
    let mut request = ModelInferRequest { model_name: metadata.name.clone(), ..ModelInferRequest::default() };
    for input in &metadata.inputs {
        let refuse = |message: String| LoadError::Input {
            model: metadata.name.clone(),
            input: input.name.clone(),
            message,
        };
        let free = |(at, axis): (usize, &i64)| match (*axis, at) {
            (-1, 0) => shaping.rows,
            (-1, _) => 1,
            (axis, _) => axis,
        };
        let given = shaping.shapes.get(&input.name).cloned();
        let shape = given.unwrap_or_else(|| input.shape.iter().enumerate().map(free).collect());
        let count = shape.iter().try_fold(1usize, |all, axis| all.checked_mul(usize::try_from(*axis).ok()?));
        let count = count.ok_or_else(|| refuse(format!("{shape:?} is no shape")))?;
        let datatype = Datatype::from_name(&input.datatype)
            .ok_or_else(|| refuse(format!("`{}` is no datatype", input.datatype)))?;
        let mut raw = Vec::new();
        for _ in 0..count {
            element(&mut raw, datatype, shaping.integers_below, random);
        }
        request.raw_input_contents.push(raw.into());
        let (name, datatype) = (input.name.clone(), input.datatype.clone());
        request.inputs.push(InferInputTensor { name, datatype, shape, ..InferInputTensor::default() });
    }
    Ok(request)
}

/// Floats from -1 to 1, integers below the bound, letters.
fn element(raw: &mut Vec<u8>, datatype: Datatype, below: usize, random: &mut Random) {
    let float = 2.0 * random.share() - 1.0;
    let whole = random.below(below) as u64;
    match datatype {
        Datatype::Fp32 => raw.extend((float as f32).to_le_bytes()),
        Datatype::Fp64 => raw.extend(float.to_le_bytes()),
        // The upper half of an FP32.
        Datatype::Bf16 => raw.extend(&(float as f32).to_le_bytes()[2..]),
        // Any sign and fraction with the exponent of one half.
        Datatype::Fp16 => raw.extend((0x3800 | (random.bits() as u16 & 0x83ff)).to_le_bytes()),
        Datatype::Bool => raw.push((whole & 1) as u8),
        Datatype::Uint8 | Datatype::Int8 => raw.push((whole & 0x7f) as u8),
        Datatype::Uint16 | Datatype::Int16 => raw.extend(((whole & 0x7fff) as u16).to_le_bytes()),
        Datatype::Uint32 | Datatype::Int32 => raw.extend(((whole & 0x7fff_ffff) as u32).to_le_bytes()),
        Datatype::Uint64 | Datatype::Int64 => raw.extend(whole.to_le_bytes()),
        Datatype::Bytes => {
            raw.extend((LETTERS as u32).to_le_bytes());
            raw.extend((0..LETTERS).map(|_| b'a' + random.below(26) as u8));
        }
    }
}

/// In turn: a value that no model takes (not a number, or an index out of any range), a byte too few, an axis too long.
fn poisoned(request: &ModelInferRequest, kind: usize) -> ModelInferRequest {
    let mut request = request.clone();
    let (Some(raw), Some(input)) = (request.raw_input_contents.first_mut(), request.inputs.first_mut())
    else {
        return request;
    };
    match kind % POISONS {
        0 => {
            let size =
                Datatype::from_name(&input.datatype).and_then(Datatype::size).unwrap_or(4).min(raw.len());
            let mut changed = raw.to_vec();
            // All ones but the sign: NaN for floats, the largest of signed integers, an absurd length of BYTES.
            changed[..size].fill(0xff);
            if let Some(last) = changed[..size].last_mut() {
                *last = 0x7f;
            }
            *raw = changed.into();
        }
        1 => *raw = raw.slice(..raw.len().saturating_sub(1)),
        _ => {
            if let Some(axis) = input.shape.last_mut() {
                *axis += 1;
            }
        }
    }
    request
}

/// Whether an answer says what another did. Answers that are not raw are not compared.
pub fn is_same(expected: &ModelInferResponse, got: &ModelInferResponse) -> bool {
    if expected.raw_output_contents.is_empty() {
        return true;
    }
    let same = |(output, (expected, got)): (_, (&Bytes, &Bytes))| match is_fp32(output) {
        true => are_close(expected, got),
        false => expected == got,
    };
    expected.outputs.len() == got.outputs.len()
        && expected.outputs.iter().zip(&got.outputs).all(|(a, b)| a.name == b.name && a.shape == b.shape)
        && expected.raw_output_contents.len() == got.raw_output_contents.len()
        && expected
            .outputs
            .iter()
            .zip(expected.raw_output_contents.iter().zip(&got.raw_output_contents))
            .all(same)
}

fn is_fp32(output: &millgate_shared::proto::inference::model_infer_response::InferOutputTensor) -> bool {
    output.datatype == Datatype::Fp32.name()
}

fn are_close(expected: &[u8], got: &[u8]) -> bool {
    let floats = |raw: &[u8]| {
        let (chunks, _) = raw.as_chunks::<4>();
        chunks.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect::<Vec<_>>()
    };
    let close = |(a, b): (&f32, &f32)| a == b || (a - b).abs() <= TOLERANCE * (1.0 + a.abs());
    expected.len() == got.len() && floats(expected).iter().zip(&floats(got)).all(close)
}

#[cfg(test)]
mod tests {
    use super::*;
    use millgate_shared::proto::inference::model_infer_response::InferOutputTensor;
    use millgate_shared::proto::inference::model_metadata_response::TensorMetadata;

    fn metadata(datatype: &str, shape: &[i64]) -> ModelMetadataResponse {
        let input =
            TensorMetadata { name: "x".to_owned(), datatype: datatype.to_owned(), shape: shape.to_vec() };
        ModelMetadataResponse {
            name: "m".to_owned(),
            inputs: vec![input],
            ..ModelMetadataResponse::default()
        }
    }

    fn shaping() -> Shaping {
        Shaping { rows: 2, shapes: BTreeMap::new(), integers_below: 10, distinct: 4 }
    }

    #[test]
    fn a_good_request_has_the_bytes_that_its_shape_needs_and_a_poisoned_one_differs() {
        for datatype in Datatype::ALL {
            let made =
                Requests::new(&metadata(datatype.name(), &[-1, 3]), &shaping(), &mut Random::new(1)).unwrap();
            assert_eq!((made.good.len(), made.poisoned.len()), (4, 4));
            for good in &made.good {
                assert_eq!(good.inputs[0].shape, [2, 3]);
                let size = datatype.size().unwrap_or(4 + LETTERS);
                assert_eq!(good.raw_input_contents[0].len(), 6 * size, "{datatype}");
            }
            assert!((0..3).all(|at| made.poisoned[at] != made.good[at]), "{datatype}");
        }
        let nan = Requests::new(&metadata("FP32", &[-1, 3]), &shaping(), &mut Random::new(1)).unwrap();
        let first: [u8; 4] = nan.poisoned[0].raw_input_contents[0][..4].try_into().unwrap();
        assert!(f32::from_le_bytes(first).is_nan());
    }

    #[test]
    fn what_cannot_be_made_names_the_input() {
        for (datatype, shape) in [("FLOAT", [1, 3]), ("FP32", [-7, 3])] {
            let error =
                Requests::new(&metadata(datatype, &shape), &shaping(), &mut Random::new(1)).unwrap_err();
            assert!(error.to_string().contains("input `x`"), "{error}");
        }
    }

    #[test]
    fn answers_are_compared_up_to_rounding() {
        let answer = |values: [f32; 2]| ModelInferResponse {
            outputs: vec![InferOutputTensor { datatype: "FP32".to_owned(), ..InferOutputTensor::default() }],
            raw_output_contents: vec![values.iter().flat_map(|value| value.to_le_bytes()).collect()],
            ..ModelInferResponse::default()
        };
        let alone = answer([1.0, -2.0]);
        assert!(is_same(&alone, &answer([1.000_01, -2.0])));
        assert!(!is_same(&alone, &answer([1.0, -2.1])));
        assert!(!is_same(&alone, &ModelInferResponse::default()));
    }
}
