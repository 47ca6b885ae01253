//! Wire ↔ domain. The only crate that turns generated types into ours and back; sizes and names are checked here, once.
//!
//! Rooms, lowest first; each uses only rooms of a line above its own:
//!
//! * [`proto`]: the generated types, which services and clients name too. `error`: why a message is refused.
//! * [`codec`]: a bound on the fields of a message, before it is read. `decision`, `tensor`, `wish`: records, tensors and what is asked,
//!   written and read.
//!
//! ```
//! use millgate_array::{Array, Values};
//! use millgate_wire::{read_tensor, write_tensor};
//!
//! let array = Array::new(vec![1, 2], Values::Fp32(vec![0.5, 1.0]))?;
//! let message = write_tensor("logits", &array);
//! assert_eq!(read_tensor("outputs[0]", &message, &[1, 2])?, array);
//! assert!(read_tensor("outputs[0]", &message, &[1, 3]).is_err());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use crate::proto::v1;

mod code;
pub mod codec;
mod decision;
mod error;
mod part;
pub mod proto;
mod tensor;
mod wish;

pub use code::code_name;
pub use error::WireError;
pub use part::{read_parts, unread, write_part};
pub use tensor::{Numbers, read_tensor, write_packed, write_tensor};
pub use wish::read_wish;

/// Number of bytes that a message takes on a gRPC stream: itself and the 5-byte frame head.
pub fn framed_len(message: &impl prost::Message) -> u64 {
    message.encoded_len() as u64 + 5
}

/// Writes a status as a message of a stream.
pub fn stream_error(status: &tonic::Status) -> v1::StreamError {
    v1::StreamError { code: status.code() as i32, message: status.message().to_owned(), retry_after_us: 0 }
}

/// Writes a message as it is kept on disk.
pub fn to_bytes(message: &impl prost::Message) -> Vec<u8> {
    message.encode_to_vec()
}

/// Reads a message that [`to_bytes`] wrote. What is on the disk was checked by a CRC; it is not what a stranger sent.
pub fn from_bytes<M: prost::Message + Default>(bytes: &[u8]) -> Result<M, WireError> {
    M::decode(bytes).map_err(|error| WireError::new("message", error.to_string()))
}
