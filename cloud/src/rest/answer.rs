//! Our answer as a response: a head, which is JSON, and behind it the outputs that are wanted as raw bytes.

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::Response;
use bytes::Bytes;
use millgate_shared::array::{Array, Datatype, Values};
use serde::ser::{Error, SerializeSeq};
use serde::{Serialize, Serializer};

use super::body::Parts;
use super::encoding::{self, Encoding};
use super::request::{Forms, HEAD_LENGTH};
use crate::failure::Failure;
use crate::oip::contents;
use crate::serving::request::{InferResponse, Named, Parameter, Parameters};

/// A smaller answer is sent as it is: to pack it would take longer than to send it.
const WORTH_PACKING: usize = 1 << 10;

#[derive(Serialize)]
struct Head<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    id: &'a str,
    model_name: &'a str,
    model_version: &'a str,
    #[serde(skip_serializing_if = "Parameters::is_empty", serialize_with = "write_parameters")]
    parameters: &'a Parameters,
    outputs: Vec<Output<'a>>,
}

#[derive(Serialize)]
struct Output<'a> {
    name: &'a str,
    datatype: &'static str,
    shape: &'a [usize],
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<Size>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Elements<'a>>,
}

#[derive(Serialize)]
struct Size {
    binary_data_size: usize,
}

fn write_parameters<S: Serializer>(parameters: &Parameters, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(parameters.iter().map(|(name, value)| {
        let value = match value {
            Parameter::Bool(value) => serde_json::json!(value),
            Parameter::Int64(value) => serde_json::json!(value),
            Parameter::Uint64(value) => serde_json::json!(value),
            Parameter::Double(value) => serde_json::json!(value),
            Parameter::String(value) => serde_json::json!(value),
        };
        (name, value)
    }))
}

/// Every one of them is known to have a place in JSON.
struct Elements<'a>(&'a Values);

impl Serialize for Elements<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Values::Bool(values) => values.serialize(serializer),
            Values::Uint8(values) => values.serialize(serializer),
            Values::Uint16(values) => values.serialize(serializer),
            Values::Uint32(values) => values.serialize(serializer),
            Values::Uint64(values) => values.serialize(serializer),
            Values::Int8(values) => values.serialize(serializer),
            Values::Int16(values) => values.serialize(serializer),
            Values::Int32(values) => values.serialize(serializer),
            Values::Int64(values) => values.serialize(serializer),
            Values::Fp32(values) => values.serialize(serializer),
            Values::Fp64(values) => values.serialize(serializer),
            Values::Bytes(values) => {
                let mut list = serializer.serialize_seq(Some(values.len()))?;
                for value in values {
                    list.serialize_element(std::str::from_utf8(value).map_err(S::Error::custom)?)?;
                }
                list.end()
            }
            Values::Fp16(_) | Values::Bf16(_) => Err(S::Error::custom("only binary")),
        }
    }
}

/// What cannot stand in JSON must be asked for as binary data.
fn check(name: &str, array: &Array) -> Result<(), Failure> {
    let what = match array.values() {
        Values::Fp16(_) | Values::Bf16(_) => format!("is {}, which JSON does not have", array.datatype()),
        Values::Fp32(values) if values.iter().any(|value| !value.is_finite()) => not_finite(),
        Values::Fp64(values) if values.iter().any(|value| !value.is_finite()) => not_finite(),
        Values::Bytes(values) if values.iter().any(|value| std::str::from_utf8(value).is_err()) => {
            format!("holds {} that are not UTF-8, which JSON does not have", Datatype::Bytes)
        }
        _ => return Ok(()),
    };
    Err(Failure::field(format!("outputs `{name}`"), format!("{what}; ask for it with binary_data")))
}

fn not_finite() -> String {
    "holds a value that is not finite, which JSON does not have".to_owned()
}

pub(super) fn write(
    answer: &InferResponse,
    forms: &Forms,
    encoding: Option<Encoding>,
) -> Result<Response, Failure> {
    let mut parts = vec![Bytes::new()];
    let mut outputs = Vec::with_capacity(answer.outputs.len());
    for Named { name, array } in &answer.outputs {
        let (datatype, shape) = (array.datatype().name(), array.shape());
        outputs.push(if forms.is_binary(name) {
            let raw = contents::to_raw(array.values());
            let parameters = Some(Size { binary_data_size: raw.len() });
            parts.push(raw);
            Output { name, datatype, shape, parameters, data: None }
        } else {
            check(name, array)?;
            Output { name, datatype, shape, parameters: None, data: Some(Elements(array.values())) }
        });
    }
    let head = Head {
        id: &answer.id,
        model_name: &answer.model,
        model_version: &answer.version,
        parameters: &answer.parameters,
        outputs,
    };
    let failed = |error: String| Failure::Model(format!("the answer cannot be written: {error}"));
    let head = serde_json::to_vec(&head).map_err(|error| failed(error.to_string()))?;
    let (head_length, is_binary) = (head.len(), parts.len() > 1);
    parts[0] = head.into();
    let encoding = encoding.filter(|_| parts.iter().map(Bytes::len).sum::<usize>() >= WORTH_PACKING);
    if let Some(encoding) = encoding {
        parts = vec![encoding::pack(encoding, &parts).map_err(|error| failed(error.to_string()))?];
    }
    let mut response = Response::new(Body::new(Parts::from_iter(parts)));
    let headers = response.headers_mut();
    let content = if is_binary { "application/octet-stream" } else { "application/json" };
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content));
    if is_binary {
        headers.insert(HeaderName::from_static(HEAD_LENGTH), HeaderValue::from(head_length));
    }
    if let Some((name, value)) = encoding.map(Encoding::header) {
        headers.insert(name, value);
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn array(values: impl Into<Values>) -> Array {
        let values = values.into();
        Array::new(vec![values.len()], values).unwrap()
    }

    #[test]
    fn what_json_does_not_have_is_said_by_name() {
        assert!(check("y", &array(vec![1.0f32, -0.0])).is_ok());
        assert!(check("y", &array(vec![Bytes::from("grüße")])).is_ok());
        for refused in [
            array(vec![1.0, f32::NAN]),
            array(vec![f64::INFINITY]),
            array(vec![half::f16::ONE]),
            array(vec![Bytes::from_static(b"\xff")]),
        ] {
            let message = check("y", &refused).unwrap_err().to_string();
            assert!(message.contains("outputs `y`") && message.contains("binary_data"), "{message}");
        }
    }

    #[test]
    fn numbers_keep_every_bit_on_the_way_out() {
        let text = |values: Values| serde_json::to_string(&Elements(&values)).unwrap();
        assert_eq!(text(vec![u64::MAX, 1].into()), "[18446744073709551615,1]");
        assert_eq!(text(vec![i64::MIN].into()), "[-9223372036854775808]");
        for value in [0.1f32, f32::MAX, f32::MIN_POSITIVE, -1.5e-30] {
            let back: Vec<f64> = serde_json::from_str(&text(vec![value].into())).unwrap();
            assert_eq!(back[0] as f32, value);
        }
    }
}
