//! Wire ↔ domain. The only module that turns generated types into ours and back; sizes and names are checked here, once.

use crate::proto::v1;

pub mod codec;
mod decision;
mod error;
mod image;
pub mod proto;
mod tensor;

pub use error::WireError;
pub use image::{
    ImageSource, REFERENCE, depth, read_images, write_image, write_image_if_quick, write_images,
};
pub use tensor::{Numbers, Scale, read_tensor, write_packed, write_tensor};

/// Bytes that a message takes on a gRPC stream: itself and the 5-byte frame head.
pub fn framed_len(message: &impl prost::Message) -> u64 {
    message.encoded_len() as u64 + 5
}

/// A status, in band.
pub fn stream_error(status: &tonic::Status) -> v1::StreamError {
    v1::StreamError { code: status.code() as i32, message: status.message().to_owned(), retry_after_us: 0 }
}

/// A message as it is kept on disk.
pub fn to_bytes(message: &impl prost::Message) -> Vec<u8> {
    message.encode_to_vec()
}

/// And read again. What is on the disk was checked by a CRC; it is not what a stranger sent.
pub fn from_bytes<M: prost::Message + Default>(bytes: &[u8]) -> Result<M, WireError> {
    M::decode(bytes).map_err(|error| WireError::new("message", error.to_string()))
}
