//! What `tests/fuzz` feeds with bytes: the pool's own reading, which is private otherwise. Only with the feature
//! `fuzzing`, and no part of the API.

use millgate_shared::array::Array;
use millgate_shared::engine::Signature;
use millgate_shared::proto::inference as proto;
use millgate_shared::wire::codec;
use prost::Message;

use crate::oip::convert;

/// Bytes of a message, as they come off a connection.
pub fn decode(bytes: &[u8]) -> Result<proto::ModelInferRequest, String> {
    codec::bound::<proto::ModelInferRequest>(bytes).map_err(|status| status.message().to_owned())?;
    proto::ModelInferRequest::decode(bytes).map_err(|error| error.to_string())
}

/// A request as the pool checks it before it may wait: its inputs, in the client's order.
pub fn open_inference(
    request: proto::ModelInferRequest,
    signature: &Signature,
) -> Result<Vec<Array>, String> {
    let request = convert::request(request).map_err(|failure| failure.to_string())?;
    request.timeout().map_err(|failure| failure.to_string())?;
    let mut places: Vec<Option<Array>> = signature.inputs.iter().map(|_| None).collect();
    for input in &request.inputs {
        let at = signature.input(&input.name).ok_or_else(|| format!("`{}` is no input", input.name))?;
        if places[at].replace(input.array.clone()).is_some() {
            return Err(format!("`{}` stands twice", input.name));
        }
    }
    let ordered: Option<Vec<Array>> = places.into_iter().collect();
    let ordered = ordered.ok_or("an input is missing")?;
    signature.check(&ordered).map_err(|misfit| misfit.to_string())?;
    Ok(request.inputs.into_iter().map(|input| input.array).collect())
}

/// A body over HTTP, as the pool reads it: all JSON, or a head of so many bytes before binary tensors.
pub fn rest(head: Option<usize>, body: bytes::Bytes) -> Result<usize, String> {
    crate::rest::read_for_fuzzing(head, body).map_err(|failure| failure.to_string())
}

/// A `config.pbtxt`, parsed and held against a model.
pub fn config(text: &str, signature: &Signature) -> Result<(), String> {
    let config = crate::repository::parse_config(text)?;
    crate::repository::check_config(&config, signature)
}

/// A worker's answer, with the memory that it shares with the pool.
pub fn guest(said: &[u8], memory: &[u8]) -> Result<usize, String> {
    crate::guests::read_for_fuzzing(said, memory)
}
