//! How messages are read off a connection: prost, behind a bound on what a message may unfold to.
//!
//! An empty submessage is two bytes on the wire and hundreds in memory, so that a message of a legal size could ask
//! for gigabytes. What is repeated is therefore counted before anything is made of it.

use std::any::TypeId;

use bytes::Buf;
use prost::Message;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};
use tonic::Status;
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder};
use tonic_prost::{ProstCodec, ProstDecoder, ProstEncoder};

use crate::proto::{inference, v1};

/// Most fields of one message, those of its inputs or parts included. Elements of a tensor are not among them: they
/// lie one or two levels deeper, packed.
pub const MOST_FIELDS: usize = 1 << 14;

/// Codec of every service.
#[derive(Debug, Clone)]
pub struct BoundedCodec<Out, In> {
    prost: ProstCodec<Out, In>,
}

impl<Out, In> Default for BoundedCodec<Out, In> {
    fn default() -> Self {
        Self { prost: ProstCodec::new() }
    }
}

impl<Out, In> Codec for BoundedCodec<Out, In>
where
    Out: Message + Send + 'static,
    In: Message + Default + Send + 'static,
{
    type Encode = Out;
    type Decode = In;
    type Encoder = ProstEncoder<Out>;
    type Decoder = BoundedDecoder<In>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstEncoder::new(buffers())
    }

    fn decoder(&mut self) -> Self::Decoder {
        BoundedDecoder { prost: self.prost.decoder() }
    }
}

/// Decoder that refuses messages of too many fields before they are read.
#[derive(Debug, Clone)]
pub struct BoundedDecoder<In> {
    prost: ProstDecoder<In>,
}

impl<In: Message + Default + 'static> Decoder for BoundedDecoder<In> {
    type Item = In;
    type Error = Status;

    fn decode(&mut self, buf: &mut DecodeBuf<'_>) -> Result<Option<In>, Status> {
        // A message lies in one piece.
        if buf.chunk().len() == buf.remaining() {
            bound::<In>(buf.chunk())?;
        }
        self.prost.decode(buf)
    }

    fn buffer_settings(&self) -> BufferSettings {
        buffers()
    }
}

/// Sizes of a stream's buffers from its beginning, each way, and how much is encoded before it is passed on. A pool
/// holds a stream open for every agent, most of them idle, and a larger message makes its own room; tonic's own 8 KiB
/// each way are more than all the rest of a stream.
fn buffers() -> BufferSettings {
    BufferSettings::new(512, 32 << 10)
}

/// Refuses a message of more than [`MOST_FIELDS`]. One that cannot be read passes: reading it says why.
pub fn bound<In: 'static>(message: &[u8]) -> Result<(), Status> {
    match count(message, unfolds::<In>()) {
        Some(count) if count > MOST_FIELDS => Err(Status::invalid_argument(format!(
            "the message has more than {MOST_FIELDS} fields, its inputs' and parts' own included"
        ))),
        _ => Ok(()),
    }
}

/// Fields whose submessages are counted into as well, each within the one before it.
fn unfolds<In: 'static>() -> &'static [u32] {
    let is = |other: TypeId| TypeId::of::<In>() == other;
    if is(TypeId::of::<inference::ModelInferRequest>()) {
        // Inputs.
        &[5]
    } else if is(TypeId::of::<v1::DecideRequest>()) {
        // The sample and its parts.
        &[2, 2]
    } else if is(TypeId::of::<v1::RunExpertsRequest>()) {
        // Parts.
        &[4]
    } else {
        &[]
    }
}

/// Counts a message's fields, no further than one over the bound. `None` if it cannot be read.
fn count(mut message: &[u8], unfolds: &[u32]) -> Option<usize> {
    let mut fields = 0_usize;
    while message.has_remaining() && fields <= MOST_FIELDS {
        let (tag, kind) = decode_key(&mut message).ok()?;
        fields += 1;
        if kind != WireType::LengthDelimited {
            skip_field(kind, tag, &mut message, DecodeContext::default()).ok()?;
            continue;
        }
        let length = usize::try_from(decode_varint(&mut message).ok()?).ok()?;
        let inner = message.get(..length)?;
        if let Some((first, deeper)) = unfolds.split_first()
            && *first == tag
        {
            fields += count(inner, deeper)?;
        }
        message.advance(length);
    }
    Some(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(message: &inference::ModelInferRequest) -> Result<(), Status> {
        bound::<inference::ModelInferRequest>(&message.encode_to_vec())
    }

    #[test]
    fn a_message_does_not_unfold_to_more_than_it_may() {
        type Input = inference::model_infer_request::InferInputTensor;
        let inputs = |count: usize| inference::ModelInferRequest {
            inputs: vec![Input::default(); count],
            ..Default::default()
        };
        assert!(check(&inputs(MOST_FIELDS)).is_ok());
        let status = check(&inputs(MOST_FIELDS + 1)).unwrap_err();
        assert!(status.message().contains("more than 16384 fields"), "{status:?}");

        let mut nested = inputs(1);
        let parameter = |at: usize| (at.to_string(), inference::InferParameter::default());
        nested.inputs[0].parameters = (0..=MOST_FIELDS).map(parameter).collect();
        assert!(check(&nested).is_err());
        let attributes = |count: usize| (0..count).map(|at| (at.to_string(), String::new())).collect();
        let many = vec![v1::Part::default(); MOST_FIELDS + 1];
        let rich = vec![v1::Part { attributes: attributes(MOST_FIELDS + 1), ..Default::default() }];
        for parts in [many, rich] {
            let run = v1::RunExpertsRequest { parts: parts.clone(), ..Default::default() };
            assert!(bound::<v1::RunExpertsRequest>(&run.encode_to_vec()).is_err());
            let sample = v1::Sample { parts, ..Default::default() };
            let decide = v1::DecideRequest { sample: Some(sample), ..Default::default() };
            assert!(bound::<v1::DecideRequest>(&decide.encode_to_vec()).is_err());
        }
    }

    #[test]
    fn a_large_tensor_is_no_large_message() {
        let contents = inference::InferTensorContents {
            fp32_contents: vec![1.0; 100_000],
            bytes_contents: vec![bytes::Bytes::new(); 100_000],
            ..Default::default()
        };
        let mut request = inference::ModelInferRequest {
            inputs: vec![inference::model_infer_request::InferInputTensor {
                shape: vec![1; 100_000],
                contents: Some(contents),
                ..Default::default()
            }],
            ..Default::default()
        };
        assert!(check(&request).is_ok());
        request.inputs[0].contents = None;
        request.raw_input_contents = vec![[0x12, 0].repeat(100_000).into()];
        assert!(check(&request).is_ok());
        assert!(bound::<inference::ModelInferRequest>(&[0x2a, 200]).is_ok(), "reading it says what is wrong");
    }
}
