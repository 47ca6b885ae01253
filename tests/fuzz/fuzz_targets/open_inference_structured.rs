//! Requests that are nearly right: known names, shapes that fit or nearly fit, raw or typed contents or both. What is
//! let through must be what the signature says, and must come back as it went in.
#![no_main]

use std::sync::LazyLock;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use millgate_cloud::fuzzing;
use millgate_shared::engine::Signature;
use millgate_shared::proto::inference as proto;
use prost::Message;

static SIGNATURE: LazyLock<Signature> = LazyLock::new(millgate_fuzz::signature);
const DATATYPES: [&str; 14] = [
    "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "BF16", "FP32",
    "FP64", "BYTES",
];

#[derive(Debug, Arbitrary)]
enum Contents {
    /// Raw bytes: as many as the shape needs, plus so many.
    RawFitting(i8),
    Raw(Vec<u8>),
    Texts(Vec<Vec<u8>>),
    Fp32(Vec<f32>),
    Int(Vec<i32>),
    Int64(Vec<i64>),
    Uint(Vec<u32>),
    Both(Vec<u8>, Vec<f32>),
    Nothing,
}

#[derive(Debug, Arbitrary)]
struct Input {
    /// Index of a name of the signature's, or of another.
    name: u8,
    /// The port's own, or another.
    datatype: Option<u8>,
    shape: Vec<Axis>,
    contents: Contents,
    shared_memory: bool,
}

#[derive(Debug, Arbitrary)]
enum Axis {
    Small(u8),
    Any(i64),
    Power(u8),
}

#[derive(Debug, Arbitrary)]
struct Request {
    inputs: Vec<Input>,
    outputs: Vec<String>,
    timeout: Option<i64>,
    priority: Option<u64>,
    text: Option<String>,
}

fn raw(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at % 251) as u8).collect()
}

fn made(request: Request) -> proto::ModelInferRequest {
    use proto::infer_parameter::ParameterChoice as Choice;
    let mut made = proto::ModelInferRequest::default();
    let mut put = |name: &str, choice: Option<Choice>| {
        if let Some(choice) = choice {
            let parameter = proto::InferParameter { parameter_choice: Some(choice) };
            made.parameters.insert(name.to_owned(), parameter);
        }
    };
    put("timeout", request.timeout.map(Choice::Int64Param));
    put("priority", request.priority.map(Choice::Uint64Param));
    put("text", request.text.map(Choice::StringParam));
    for input in request.inputs {
        let port = SIGNATURE.inputs.get(usize::from(input.name % 5));
        let own = port.map_or("FP32", |port| port.datatype.name());
        let datatype = input.datatype.map_or(own, |at| DATATYPES[usize::from(at) % DATATYPES.len()]);
        let length = |axis: &Axis| match axis {
            Axis::Small(length) => i64::from(length % 5),
            Axis::Any(length) => *length,
            Axis::Power(power) => 1_i64 << (power % 63),
        };
        let shape: Vec<i64> = input.shape.iter().take(5).map(length).collect();
        let elements = shape.iter().try_fold(1_i64, |all, axis| all.checked_mul(*axis));
        let size = if datatype == "FP32" {
            4
        } else if datatype == "INT64" {
            8
        } else {
            1
        };
        let fitting = elements.filter(|count| (0..1 << 16).contains(count)).unwrap_or(1) as usize * size;
        let typed = |contents: proto::InferTensorContents| Some(contents);
        type Typed = proto::InferTensorContents;
        let (bytes, contents) = match input.contents {
            Contents::RawFitting(more) => (Some(raw(fitting.saturating_add_signed(more.into()))), None),
            Contents::Raw(bytes) => (Some(bytes), None),
            Contents::Texts(texts) => {
                let texts = texts.into_iter().map(Into::into).collect();
                (None, typed(Typed { bytes_contents: texts, ..Typed::default() }))
            }
            Contents::Fp32(values) => (None, typed(Typed { fp32_contents: values, ..Typed::default() })),
            Contents::Int(values) => (None, typed(Typed { int_contents: values, ..Typed::default() })),
            Contents::Int64(values) => (None, typed(Typed { int64_contents: values, ..Typed::default() })),
            Contents::Uint(values) => (None, typed(Typed { uint_contents: values, ..Typed::default() })),
            Contents::Both(bytes, values) => {
                (Some(bytes), typed(Typed { fp32_contents: values, ..Typed::default() }))
            }
            Contents::Nothing => (None, None),
        };
        made.raw_input_contents.extend(bytes.map(Into::into));
        let mut parameters = std::collections::HashMap::new();
        if input.shared_memory {
            parameters.insert("shared_memory_region".to_owned(), proto::InferParameter::default());
        }
        let name = port.map_or("other", |port| port.name.as_str()).to_owned();
        let datatype = datatype.to_owned();
        made.inputs.push(proto::model_infer_request::InferInputTensor {
            name,
            datatype,
            shape,
            parameters,
            contents,
        });
    }
    for name in request.outputs {
        made.outputs
            .push(proto::model_infer_request::InferRequestedOutputTensor { name, ..Default::default() });
    }
    made
}

fuzz_target!(|request: Request| {
    let made = made(request);
    let length = made.encoded_len();
    let bytes = made.encode_to_vec();
    assert!(fuzzing::decode(&bytes).is_ok());
    let checked = millgate_fuzz::in_proportion(length, 200, 1 << 16, || {
        fuzzing::open_inference(made.clone(), &SIGNATURE)
    });
    match checked {
        Err(message) => assert!(!message.is_empty()),
        Ok(arrays) => {
            for (array, input) in arrays.iter().zip(&made.inputs) {
                assert_eq!(array.datatype().name(), input.datatype);
                assert!(array.shape().iter().zip(&input.shape).all(|(got, sent)| *got as i64 == *sent));
                let again = array.values().to_raw();
                let read =
                    millgate_shared::array::Array::from_raw(array.datatype(), array.shape().to_vec(), &again);
                assert_eq!(read.map(|read| read.values().to_raw()), Ok(again));
            }
        }
    }
});
