//! The protocol's messages as our requests and answers.

use std::collections::HashMap;

use millgate_shared::array::Datatype;
use millgate_shared::proto::inference as proto;
use millgate_shared::proto::inference::infer_parameter::ParameterChoice;
use millgate_shared::proto::inference::model_infer_response::InferOutputTensor;
use prost_reflect::prost::Message;

use super::contents;
use crate::failure::Failure;
use crate::serving::request::{InferRequest, InferResponse, Named, Parameter, Parameters, Wanted};

/// A request, with every tensor read and checked against its own shape.
pub(crate) fn request(request: proto::ModelInferRequest) -> Result<InferRequest, Failure> {
    let raw = request.raw_input_contents;
    if !raw.is_empty() && raw.len() != request.inputs.len() {
        let message = format!("has {} entries for {} inputs", raw.len(), request.inputs.len());
        return Err(Failure::field("raw_input_contents", message));
    }
    let mut inputs = Vec::with_capacity(request.inputs.len());
    for (at, input) in request.inputs.into_iter().enumerate() {
        let field = format!("inputs[{at}] `{}`", input.name);
        let datatype = contents::datatype(&field, &input.datatype)?;
        let shape = contents::shape(&field, &input.shape)?;
        refuse_shared_memory(&field, &input.parameters)?;
        let array = match (raw.get(at), input.contents) {
            (Some(_), Some(contents)) if contents != proto::InferTensorContents::default() => {
                let message = "must not be given beside raw_input_contents";
                return Err(Failure::field(format!("{field}.contents"), message));
            }
            (Some(raw), _) => contents::raw(&field, datatype, shape, raw)?,
            (None, contents) => contents::typed(&field, datatype, shape, contents.unwrap_or_default())?,
        };
        inputs.push(Named { name: input.name, array });
    }
    let mut outputs = Vec::with_capacity(request.outputs.len());
    for (at, output) in request.outputs.into_iter().enumerate() {
        refuse_shared_memory(&format!("outputs[{at}] `{}`", output.name), &output.parameters)?;
        outputs.push(Wanted { name: output.name, parameters: parameters(output.parameters) });
    }
    Ok(InferRequest {
        model: request.model_name,
        version: request.model_version,
        id: request.id,
        parameters: parameters(request.parameters),
        inputs,
        outputs,
    })
}

fn refuse_shared_memory(
    field: &str,
    parameters: &HashMap<String, proto::InferParameter>,
) -> Result<(), Failure> {
    match parameters.contains_key("shared_memory_region") {
        true => Err(Failure::Unsupported(format!("`{field}`: no memory is shared with clients"))),
        false => Ok(()),
    }
}

/// Bytes of its tensors, about.
pub(crate) fn request_size(request: &proto::ModelInferRequest) -> usize {
    let typed = |input: &proto::model_infer_request::InferInputTensor| {
        input.contents.as_ref().map_or(0, |contents| contents.encoded_len())
    };
    let raw = request.raw_input_contents.iter().map(bytes::Bytes::len);
    raw.chain(request.inputs.iter().map(typed)).sum()
}

/// Bytes of memory that raw contents take when they are read, beyond their own.
pub(crate) fn unfolds_to(request: &proto::ModelInferRequest) -> u64 {
    let raw = request.inputs.iter().zip(&request.raw_input_contents);
    let cost = |(input, raw): (&proto::model_infer_request::InferInputTensor, &bytes::Bytes)| {
        Some(contents::unfolds_to(Datatype::from_name(&input.datatype)?, raw))
    };
    raw.filter_map(cost).sum()
}

/// True for a client that wants to read its answer as it wrote its request, in typed contents.
pub(crate) fn is_typed(request: &proto::ModelInferRequest) -> bool {
    request.raw_input_contents.is_empty() && request.inputs.iter().any(|input| input.contents.is_some())
}

/// An answer: raw, or typed if that is wanted and the protocol has it for every output. The two are never mixed.
pub(crate) fn response(response: InferResponse, typed: bool) -> proto::ModelInferResponse {
    let contents = |output: &Named| contents::to_typed(output.array.values());
    let typed = match typed {
        true => response.outputs.iter().map(contents).collect::<Option<Vec<_>>>(),
        false => None,
    };
    let raw_output_contents = match typed {
        Some(_) => Vec::new(),
        None => response.outputs.iter().map(|output| contents::to_raw(output.array.values())).collect(),
    };
    let mut typed = typed.unwrap_or_default().into_iter();
    let mut outputs = Vec::with_capacity(response.outputs.len());
    for Named { name, array } in response.outputs {
        outputs.push(InferOutputTensor {
            name,
            datatype: array.datatype().name().to_owned(),
            shape: array.shape().iter().map(|axis| *axis as i64).collect(),
            contents: typed.next(),
            ..InferOutputTensor::default()
        });
    }
    proto::ModelInferResponse {
        model_name: response.model,
        model_version: response.version,
        id: response.id,
        parameters: response.parameters.into_iter().map(|(name, value)| (name, parameter(value))).collect(),
        outputs,
        raw_output_contents,
    }
}

fn parameters(parameters: HashMap<String, proto::InferParameter>) -> Parameters {
    let read = |choice| match choice {
        ParameterChoice::BoolParam(value) => Parameter::Bool(value),
        ParameterChoice::Int64Param(value) => Parameter::Int64(value),
        ParameterChoice::StringParam(value) => Parameter::String(value),
        ParameterChoice::DoubleParam(value) => Parameter::Double(value),
        ParameterChoice::Uint64Param(value) => Parameter::Uint64(value),
    };
    parameters.into_iter().filter_map(|(name, value)| Some((name, read(value.parameter_choice?)))).collect()
}

fn parameter(value: Parameter) -> proto::InferParameter {
    let choice = match value {
        Parameter::Bool(value) => ParameterChoice::BoolParam(value),
        Parameter::Int64(value) => ParameterChoice::Int64Param(value),
        Parameter::String(value) => ParameterChoice::StringParam(value),
        Parameter::Double(value) => ParameterChoice::DoubleParam(value),
        Parameter::Uint64(value) => ParameterChoice::Uint64Param(value),
    };
    proto::InferParameter { parameter_choice: Some(choice) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> proto::ModelInferRequest {
        proto::ModelInferRequest {
            model_name: "m".to_owned(),
            inputs: vec![proto::model_infer_request::InferInputTensor {
                name: "x".to_owned(),
                datatype: "FP32".to_owned(),
                shape: vec![1, 2],
                ..Default::default()
            }],
            raw_input_contents: vec![vec![0; 8].into()],
            ..Default::default()
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert!(request(good()).is_ok());
        let refused = |change: fn(&mut proto::ModelInferRequest)| {
            let mut changed = good();
            change(&mut changed);
            request(changed).unwrap_err().to_string()
        };
        for (text, words) in [
            (refused(|r| r.raw_input_contents.push(vec![].into())), "2 entries for 1 inputs"),
            (refused(|r| r.raw_input_contents[0] = vec![0; 7].into()), "are 8 bytes, got 7"),
            (refused(|r| r.inputs[0].datatype = "FLOAT".to_owned()), "`FLOAT` is not a datatype"),
            (refused(|r| r.inputs[0].shape = vec![-1, 2]), "negative"),
            (
                refused(|r| {
                    let contents =
                        proto::InferTensorContents { fp32_contents: vec![1.0; 2], ..Default::default() };
                    r.inputs[0].contents = Some(contents);
                }),
                "must not be given beside raw_input_contents",
            ),
            (refused(|r| r.raw_input_contents.clear()), "needs 2 elements, got 0"),
            (
                refused(|r| {
                    r.inputs[0].parameters.insert("shared_memory_region".to_owned(), Default::default());
                }),
                "no memory is shared",
            ),
        ] {
            assert!(text.contains(words), "{text}");
        }
    }
}
