//! A request's body as our request: the head, which is JSON, and the tensors that lie behind it as raw bytes.

use std::collections::BTreeMap;

use axum::http::HeaderMap;
use bytes::Bytes;
use millgate_shared::array::{Array, Datatype};

use super::head::{self, Head, Input, Output, Setting};
use super::path::Model;
use crate::failure::Failure;
use crate::oip::contents;
use crate::serving::request::{InferRequest, Named, Parameter, Parameters, Wanted};
use crate::serving::served::Served;

/// How long the head is, where tensors follow it.
pub(super) const HEAD_LENGTH: &str = "inference-header-content-length";

/// In which form the answer's outputs are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Forms {
    /// Whether outputs that say nothing of themselves are wanted as binary data.
    all_binary: bool,
    by_output: BTreeMap<String, bool>,
}

impl Forms {
    pub(super) fn is_binary(&self, output: &str) -> bool {
        self.by_output.get(output).copied().unwrap_or(self.all_binary)
    }
}

/// Length of the JSON head in bytes; `None` if the whole body is JSON.
pub(super) fn head_length(headers: &HeaderMap) -> Result<Option<usize>, Failure> {
    let Some(value) = headers.get(HEAD_LENGTH) else { return Ok(None) };
    let digits = value.to_str().ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    match digits.and_then(|digits| digits.parse().ok()) {
        Some(length) => Ok(Some(length)),
        None => Err(Failure::field(HEAD_LENGTH, "must be a number of bytes")),
    }
}

/// Bytes that a number in a list takes beyond its text, at most: its place three times over, while the list grows, and one in the
/// tensor.
const NUMBER: u64 = 32;

/// Bytes that `text` takes at most when it is read, beyond its own: by its commas and quotation marks.
fn unfolds_to(text: &[u8]) -> u64 {
    let count = |mark| text.iter().filter(|byte| **byte == mark).count() as u64;
    (count(b',') + 1).saturating_mul(NUMBER) + (count(b'"') / 2).saturating_mul(contents::TEXT)
}

/// A body whose first `head_length` bytes are JSON, or all of them. `make_room` is asked for what it takes beyond its own bytes,
/// before that is taken.
pub(super) fn read(
    model: Model,
    head_length: Option<usize>,
    mut body: Bytes,
    make_room: &mut dyn FnMut(u64) -> Result<(), Failure>,
) -> Result<(InferRequest, Forms), Failure> {
    let length = head_length.unwrap_or(body.len());
    if length > body.len() {
        let message = format!("is {length}, the body has {} bytes", body.len());
        return Err(Failure::field(HEAD_LENGTH, message));
    }
    let text = body.split_to(length);
    make_room(unfolds_to(&text))?;
    let Head { id, parameters, inputs, outputs } = head::parse(&text)?;
    drop(text);
    let mut tensors = body;
    let inputs =
        inputs.into_iter().enumerate().map(|(at, input)| read_input(at, input, &mut tensors, make_room));
    let inputs = inputs.collect::<Result<Vec<_>, _>>()?;
    if !tensors.is_empty() {
        return Err(Failure::field("body", format!("{} bytes are left after all inputs", tensors.len())));
    }
    let (mut parameters, mut forms) = (settings(parameters), Forms::default());
    if let Some(value) = parameters.remove("binary_data_output") {
        forms.all_binary = truth("parameters.binary_data_output", &value)?;
    }
    let outputs = outputs.into_iter().enumerate().map(|(at, output)| read_output(at, output, &mut forms));
    let outputs = outputs.collect::<Result<_, _>>()?;
    let (id, Model { model, version }) = (id.unwrap_or_default(), model);
    Ok((InferRequest { model, version, id, parameters, inputs, outputs }, forms))
}

/// A body that is nothing but the only input of `served`: Triton's raw binary request. Its shape is the model's, with
/// a first axis of 1; one free axis more takes what there is.
pub(super) fn raw(served: &Served, body: &[u8]) -> Result<(InferRequest, Forms), Failure> {
    let refuse = |message: String| Failure::field(HEAD_LENGTH, format!("is 0, but {message}"));
    let [port] = served.signature().inputs.as_slice() else {
        return Err(refuse(format!("`{}` has more inputs than one", served.name)));
    };
    let mut shape = port.wire_shape();
    if let Some(first @ -1) = shape.first_mut() {
        *first = 1;
    }
    let array = match port.datatype {
        Datatype::Bytes => {
            let text = vec![Bytes::copy_from_slice(body)];
            Array::new(shape.iter().map(|axis| axis.unsigned_abs() as usize).collect(), text.into())
                .map_err(|error| refuse(error.to_string()))?
        }
        datatype => {
            let known: i64 = shape.iter().filter(|axis| **axis >= 0).product();
            let size = datatype.size().unwrap_or(1) as i64 * known;
            let mut free = shape.iter_mut().filter(|axis| **axis < 0);
            if let Some(axis) = free.next() {
                *axis = (body.len() as i64).checked_div(size).unwrap_or(0);
            }
            if free.next().is_some() {
                return Err(refuse(format!("`{}` has more free axes than one", port.name)));
            }
            let field = format!("inputs[0] `{}`", port.name);
            contents::raw(&field, datatype, contents::shape(&field, &shape)?, body)?
        }
    };
    let inputs = vec![Named { name: port.name.clone(), array }];
    let (model, version) = (served.name.clone(), served.version.to_string());
    Ok((InferRequest { model, version, inputs, ..InferRequest::default() }, Forms::default()))
}

fn read_input(
    at: usize,
    input: Input,
    tensors: &mut Bytes,
    make_room: &mut dyn FnMut(u64) -> Result<(), Failure>,
) -> Result<Named, Failure> {
    let Input { name, shape, datatype, parameters, data } = input;
    let field = format!("inputs[{at}] `{name}`");
    let datatype = contents::datatype(&field, &datatype)?;
    let shape = contents::shape(&field, &shape)?;
    refuse_shared_memory(&field, &parameters)?;
    let size = parameters.get("binary_data_size").map(|Setting(size)| {
        let size = size.whole().and_then(|size| usize::try_from(size).ok());
        let field = format!("{field}.parameters.binary_data_size");
        size.ok_or_else(|| Failure::field(field, "must be a number of bytes"))
    });
    let array = match (size.transpose()?, data) {
        (Some(_), Some(_)) => {
            return Err(Failure::field(format!("{field}.data"), "must not be given beside binary_data_size"));
        }
        (None, None) => {
            return Err(Failure::field(format!("{field}.data"), "is missing, and so is binary_data_size"));
        }
        (None, Some(data)) => data.array(&field, datatype, shape)?,
        (Some(size), None) if size > tensors.len() => {
            let message = format!("is {size}, {} bytes are left of the body", tensors.len());
            return Err(Failure::field(format!("{field}.parameters.binary_data_size"), message));
        }
        (Some(size), None) => {
            let raw = tensors.split_to(size);
            make_room(contents::unfolds_to(datatype, &raw))?;
            contents::raw(&field, datatype, shape, &raw)?
        }
    };
    Ok(Named { name, array })
}

fn read_output(at: usize, output: Output, forms: &mut Forms) -> Result<Wanted, Failure> {
    let Output { name, parameters } = output;
    let field = format!("outputs[{at}] `{name}`");
    refuse_shared_memory(&field, &parameters)?;
    let mut parameters = settings(parameters);
    if let Some(value) = parameters.remove("binary_data") {
        let is_binary = truth(&format!("{field}.parameters.binary_data"), &value)?;
        forms.by_output.insert(name.clone(), is_binary);
    }
    Ok(Wanted { name, parameters })
}

fn refuse_shared_memory(field: &str, parameters: &BTreeMap<String, Setting>) -> Result<(), Failure> {
    match parameters.contains_key("shared_memory_region") {
        true => Err(Failure::Unsupported(format!("`{field}`: no memory is shared with clients"))),
        false => Ok(()),
    }
}

fn settings(settings: BTreeMap<String, Setting>) -> Parameters {
    settings.into_iter().map(|(name, Setting(value))| (name, value)).collect()
}

fn truth(field: &str, value: &Parameter) -> Result<bool, Failure> {
    match value {
        Parameter::Bool(value) => Ok(*value),
        _ => Err(Failure::field(field, "must be true or false")),
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;
    use serde_json::{Value, json};

    use super::*;

    fn model() -> Model {
        Model { model: "m".to_owned(), version: String::new() }
    }

    /// A head, and the tensors behind it.
    fn body(head: &Value, tensors: &[u8]) -> (Option<usize>, Bytes) {
        let text = head.to_string();
        let length = (!tensors.is_empty()).then_some(text.len());
        (length, [text.as_bytes(), tensors].concat().into())
    }

    fn good() -> Value {
        json!({
            "id": "7",
            "parameters": { "timeout": 5000, "binary_data_output": true },
            "inputs": [
                { "name": "a", "shape": [1, 2], "datatype": "FP32", "parameters": { "binary_data_size": 8 } },
                { "name": "b", "shape": [2], "datatype": "INT64", "data": [1, 2] },
                { "name": "c", "shape": [1], "datatype": "BYTES", "parameters": { "binary_data_size": 5 } },
            ],
            "outputs": [{ "name": "y" }, { "name": "z", "parameters": { "binary_data": false } }],
        })
    }

    #[test]
    fn tensors_lie_behind_the_head_in_the_order_of_the_inputs() {
        let (length, bytes) = body(&good(), b"\0\0\x80\x3f\0\0\0\x40\x01\0\0\0x");
        let (request, forms) = read(model(), length, bytes, &mut |_| Ok(())).unwrap();
        assert_eq!((request.model.as_str(), request.id.as_str()), ("m", "7"));
        assert_eq!(request.inputs[0].array.as_fp32().unwrap(), [1.0, 2.0]);
        assert_eq!(request.inputs[2].array.values(), &vec![Bytes::from("x")].into());
        assert_eq!(request.parameters.keys().collect::<Vec<_>>(), ["timeout"]);
        assert!(forms.is_binary("y") && !forms.is_binary("z"));
    }

    #[test]
    fn lengths_that_do_not_agree_are_named() {
        let tensors = b"\0\0\x80\x3f\0\0\0\x40\x01\0\0\0x";
        for (path, value, words) in [
            ("/inputs/0/parameters/binary_data_size", json!(7), "are 8 bytes, got 7"),
            ("/inputs/0/parameters/binary_data_size", json!(99), "99, 13 bytes are left"),
            ("/inputs/0/parameters/binary_data_size", json!(-1), "must be a number of bytes"),
            ("/inputs/0/parameters/binary_data_size", json!("8"), "must be a number of bytes"),
            ("/inputs/0/parameters/binary_data_size", json!(u64::MAX), "bytes are left"),
            ("/inputs/2/parameters/binary_data_size", json!(4), "BYTES"),
            ("/inputs/0/shape", json!([-1, 2]), "negative"),
            ("/inputs/0/shape", json!([1i64 << 62, 8]), "overflows"),
            ("/inputs/0/datatype", json!("FLOAT"), "`FLOAT` is not a datatype"),
            ("/inputs/0/parameters", json!({}), "data"),
            ("/inputs/1/parameters", json!({ "binary_data_size": 0 }), "beside binary_data_size"),
            ("/inputs/1/parameters", json!({ "shared_memory_region": "r" }), "no memory is shared"),
            ("/outputs/1/parameters/binary_data", json!(1), "must be true or false"),
            ("/parameters/binary_data_output", json!("yes"), "must be true or false"),
        ] {
            let mut head = good();
            if path.starts_with("/inputs/1/parameters") {
                head["inputs"][1]["parameters"] = Value::Null;
            }
            *head.pointer_mut(path).unwrap() = value;
            let (length, bytes) = body(&head, tensors);
            let message = read(model(), length, bytes, &mut |_| Ok(())).unwrap_err().to_string();
            assert!(message.contains(words), "{path}: {message}");
        }
        let (length, bytes) = body(&good(), &[tensors, &b"more"[..]].concat());
        assert!(
            read(model(), length, bytes, &mut |_| Ok(()))
                .unwrap_err()
                .to_string()
                .contains("4 bytes are left")
        );
        let (_, bytes) = body(&good(), tensors);
        assert!(read(model(), Some(usize::MAX), bytes.clone(), &mut |_| Ok(())).is_err());
        assert!(read(model(), None, bytes, &mut |_| Ok(())).is_err());
        for text in ["x", "-1", "1e2", "", "+1", "99999999999999999999"] {
            let mut headers = HeaderMap::new();
            headers.insert(HEAD_LENGTH, HeaderValue::from_static(text));
            assert!(head_length(&headers).is_err(), "{text}");
        }
    }
}
