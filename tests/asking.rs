//! A client of the Open Inference Protocol, and requests made from numbers.

use fastrand::Rng;
use millgate_cloud::server::Running;
use millgate_shared::proto::inference::grpc_inference_service_client::GrpcInferenceServiceClient;
use millgate_shared::proto::inference::infer_parameter::ParameterChoice;
use millgate_shared::proto::inference::model_infer_request::InferInputTensor;
use millgate_shared::proto::inference::{
    InferParameter, ModelInferRequest, ModelInferResponse, ModelMetadataRequest, ModelMetadataResponse,
};
use tonic::transport::Channel;

pub type Client = GrpcInferenceServiceClient<Channel>;

/// Lets messages through that the pool does not.
pub async fn client(pool: &Running) -> Client {
    let client = GrpcInferenceServiceClient::connect(crate::url(pool)).await.expect("the pool listens");
    client.max_encoding_message_size(usize::MAX)
}

pub async fn metadata(client: &mut Client, model: &str) -> ModelMetadataResponse {
    let request = ModelMetadataRequest { name: model.to_owned(), version: String::new() };
    client.model_metadata(request).await.expect("the model is there").into_inner()
}

/// A number from -1 up to, not including, 1.
fn float(random: &mut Rng) -> f32 {
    2.0 * random.f32() - 1.0
}

/// Raw contents of `count` elements that every model of the tests takes: whole numbers are 1 to 4.
fn raw(datatype: &str, count: usize, random: &mut Rng) -> Vec<u8> {
    let mut raw = Vec::new();
    for _ in 0..count {
        match datatype {
            "FP32" => raw.extend(float(random).to_le_bytes()),
            "INT64" => raw.extend((1 + random.u64(..4)).to_le_bytes()),
            "BYTES" => {
                let text = format!("t{}", random.u64(..1000));
                raw.extend((text.len() as u32).to_le_bytes());
                raw.extend(text.as_bytes());
            }
            other => panic!("no test sends {other}"),
        }
    }
    raw
}

/// A good request of so many rows; free axes beyond the first are `width` long.
pub fn request(
    model: &ModelMetadataResponse,
    rows: usize,
    width: usize,
    random: &mut Rng,
) -> ModelInferRequest {
    let mut made = ModelInferRequest { model_name: model.name.clone(), ..ModelInferRequest::default() };
    for input in &model.inputs {
        let length = |(at, axis): (usize, &i64)| match (at, *axis) {
            (0, -1) => rows as i64,
            (_, -1) => width as i64,
            (_, fixed) => fixed,
        };
        let shape: Vec<i64> = input.shape.iter().enumerate().map(length).collect();
        let count: i64 = shape.iter().product();
        made.raw_input_contents.push(raw(&input.datatype, count as usize, random).into());
        let (name, datatype) = (input.name.clone(), input.datatype.clone());
        made.inputs.push(InferInputTensor { name, datatype, shape, ..InferInputTensor::default() });
    }
    made
}

pub fn set(request: &mut ModelInferRequest, name: &str, value: i64) {
    let parameter = InferParameter { parameter_choice: Some(ParameterChoice::Int64Param(value)) };
    request.parameters.insert(name.to_owned(), parameter);
}

/// Whether two answers agree: floats within 1e-4, all else exactly.
pub fn agree(got: &ModelInferResponse, alone: &ModelInferResponse) -> Result<(), String> {
    if got.outputs != alone.outputs {
        return Err(format!("outputs are {:?}, alone {:?}", got.outputs, alone.outputs));
    }
    let raw = got.raw_output_contents.iter().zip(&alone.raw_output_contents);
    for (output, (got, alone)) in alone.outputs.iter().zip(raw) {
        let floats = |raw: &[u8]| -> Vec<f32> {
            raw.chunks_exact(4).map(|raw| f32::from_le_bytes(raw.try_into().unwrap_or_default())).collect()
        };
        let close = |(got, alone): (f32, f32)| (got - alone).abs() <= 1e-5 + 1e-4 * alone.abs();
        let same = got.len() == alone.len()
            && match output.datatype.as_str() {
                "FP32" => floats(got).into_iter().zip(floats(alone)).all(close),
                _ => got == alone,
            };
        if !same {
            return Err(format!("`{}` differs from the lone answer", output.name));
        }
    }
    Ok(())
}
