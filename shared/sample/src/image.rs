//! From a file to what a model takes, and back to bytes for the line.
//!
//! ```text
//! file bytes --decode--> Picture --resize--> Picture of the model's size --> (sample / 255 - mean) / std
//!                           |                                                one plane for each channel
//!                           +--codec::encode--> payload ~~line~~> codec::decode_payload --> the same Picture
//! ```
//!
//! Agent and pool both decode and resize, so both must get the same samples from the same bytes: the arithmetic
//! is integer, fixed in `docs/bundles.md`, and the codec is lossless.

pub mod codec;
pub mod decode;
mod picture;
mod prepare;
pub mod region;
mod resize;
mod statistics;

pub use codec::{Announced, Codec, Encoded, PayloadError, decode_payload, encode, encode_if_quick};
pub use decode::{
    BitDepth, DecodeError, Decoded, File, Format, Limits, NO_MEMORY, Remark, decode, read, read_all,
};
pub use picture::{Channels, Picture, PictureError, luma};
pub use prepare::{PerChannel, PrepareError, prepare};
pub use resize::resize;
pub use statistics::{Measures, STATISTICS, measures, statistics};
