//! Cuts a stream's bytes into head, messages and trailers. Pure: bytes in, pieces out, nothing kept but a head that is
//! not whole yet.
//!
//! Every block begins with a tag and a big-endian length of four bytes. Tags 0 and 1 are gRPC's own messages (plain and
//! compressed); they pass through with their prefix, in whatever pieces they come.

use bytes::{Buf, Bytes, BytesMut};

/// Length of a block's prefix, its tag and length, in bytes.
pub const PREFIX: usize = 5;
/// Largest head or trailers, in bytes.
pub const MOST_BYTES: usize = 16 << 10;

/// Kind of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Message,
    Request,
    Response,
    Trailers,
}

impl Kind {
    /// Tag of the block; its first bit tells ours from gRPC's.
    pub(super) fn tag(self) -> u8 {
        match self {
            Self::Message => 0,
            Self::Trailers => 0x80,
            Self::Request => 0x81,
            Self::Response => 0x82,
        }
    }

    fn of(tag: u8) -> Option<Self> {
        Some(match tag {
            0 | 1 => Self::Message,
            0x80 => Self::Trailers,
            0x81 => Self::Request,
            0x82 => Self::Response,
            _ => return None,
        })
    }
}

/// Part of a stream, as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// Head of a call or an answer, as the room `head` decodes it.
    Head(Bytes),
    /// Bytes of messages, with their prefixes.
    Body(Bytes),
    /// Trailers, as the room `head` decodes them; nothing follows.
    Trailers(Bytes),
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    #[error("no block has the tag {0:#04x}")]
    Tag(u8),
    #[error("a block of kind {0:?} stands where it must not")]
    Order(Kind),
    #[error("a head of {0} bytes: it may have {MOST_BYTES}")]
    Large(usize),
    #[error("bytes follow the trailers")]
    Surplus,
    #[error("the stream ends in the middle of a block")]
    Cut,
    #[error("the stream ends before its head")]
    Headless,
}

/// Direction of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Request: a head, then messages.
    Request,
    /// Response: a head, messages and trailers; or a head alone that holds the status.
    Response,
}

#[derive(Debug)]
enum State {
    /// Inside a prefix: the bytes so far and their number.
    Prefix([u8; PREFIX], usize),
    /// Inside a head or trailers: the bytes so far, and the length it will have.
    Head(Kind, BytesMut, usize),
    /// Inside a message: the number of bytes that are left of it.
    Message(usize),
    End,
}

impl State {
    const START: Self = Self::Prefix([0; PREFIX], 0);
}

/// Cuts one stream into its parts.
#[derive(Debug)]
pub struct Blocks {
    side: Side,
    state: State,
    has_head: bool,
    has_message: bool,
}

impl Blocks {
    pub fn new(side: Side) -> Self {
        Self { side, state: State::START, has_head: false, has_message: false }
    }

    /// Takes the next piece off `input`; `None` once all is taken.
    pub fn next(&mut self, input: &mut Bytes) -> Result<Option<Piece>, BlockError> {
        while !input.is_empty() {
            match &mut self.state {
                State::Prefix(prefix, filled) => {
                    let taken = input.len().min(PREFIX - *filled);
                    input.copy_to_slice(&mut prefix[*filled..*filled + taken]);
                    *filled += taken;
                    if *filled == PREFIX {
                        let prefix = *prefix;
                        if let Some(piece) = self.begin(prefix, input)? {
                            return Ok(Some(piece));
                        }
                    }
                }
                State::Head(kind, so_far, length) => {
                    let taken = input.split_to(input.len().min(*length - so_far.len()));
                    so_far.extend_from_slice(&taken);
                    if so_far.len() == *length {
                        let (kind, head) = (*kind, so_far.split().freeze());
                        return Ok(Some(self.head(kind, head)));
                    }
                }
                State::Message(left) => {
                    let taken = input.split_to(input.len().min(*left));
                    *left -= taken.len();
                    if *left == 0 {
                        self.state = State::START;
                    }
                    return Ok(Some(Piece::Body(taken)));
                }
                State::End => return Err(BlockError::Surplus),
            }
        }
        Ok(None)
    }

    fn begin(&mut self, prefix: [u8; PREFIX], input: &mut Bytes) -> Result<Option<Piece>, BlockError> {
        let [tag, length @ ..] = prefix;
        let kind = Kind::of(tag).ok_or(BlockError::Tag(tag))?;
        let is_in_order = match kind {
            Kind::Message => self.has_head,
            Kind::Trailers => self.has_head && self.side == Side::Response,
            Kind::Request => !self.has_head && self.side == Side::Request,
            Kind::Response => !self.has_head && self.side == Side::Response,
        };
        if !is_in_order {
            return Err(BlockError::Order(kind));
        }
        let length = u32::from_be_bytes(length) as usize;
        if kind == Kind::Message {
            self.has_message = true;
            self.state = if length == 0 { State::START } else { State::Message(length) };
            return Ok(Some(Piece::Body(Bytes::copy_from_slice(&prefix))));
        }
        if length > MOST_BYTES {
            return Err(BlockError::Large(length));
        }
        if input.len() >= length {
            let head = input.split_to(length);
            return Ok(Some(self.head(kind, head)));
        }
        self.state = State::Head(kind, BytesMut::new(), length);
        Ok(None)
    }

    fn head(&mut self, kind: Kind, head: Bytes) -> Piece {
        self.has_head = true;
        if kind == Kind::Trailers {
            self.state = State::End;
            return Piece::Trailers(head);
        }
        self.state = State::START;
        Piece::Head(head)
    }

    /// Checks a stream that has ended here: it must have said all that it had to. An answer of a head alone has.
    pub fn finish(&self) -> Result<(), BlockError> {
        match self.state {
            State::End => Ok(()),
            State::Prefix(_, 0) if !self.has_head => Err(BlockError::Headless),
            State::Prefix(_, 0) if self.side == Side::Request || !self.has_message => Ok(()),
            _ => Err(BlockError::Cut),
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;
    use proptest::prelude::*;

    use super::super::head::{RequestHead, ResponseHead, encode_trailers};
    use super::*;

    fn message(compressed: bool, payload: &[u8]) -> Vec<u8> {
        let mut block = vec![u8::from(compressed)];
        block.extend((payload.len() as u32).to_be_bytes());
        block.extend(payload);
        block
    }

    /// Cut at the given places; body pieces joined.
    fn read(side: Side, stream: &[u8], cuts: &[usize]) -> Result<(usize, Vec<u8>, usize), BlockError> {
        let mut blocks = Blocks::new(side);
        let (mut heads, mut body, mut trailers, mut at) = (0, Vec::new(), 0, 0);
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (stream.len() + 1)).collect();
        cuts.push(stream.len());
        cuts.sort_unstable();
        for cut in cuts {
            let mut input = Bytes::copy_from_slice(&stream[at..cut]);
            at = cut;
            while let Some(piece) = blocks.next(&mut input)? {
                match piece {
                    Piece::Head(_) => heads += 1,
                    Piece::Body(bytes) => body.extend(bytes),
                    Piece::Trailers(_) => trailers += 1,
                }
            }
        }
        blocks.finish()?;
        Ok((heads, body, trailers))
    }

    proptest! {
        #[test]
        fn a_stream_is_the_same_however_it_is_cut(
            payloads in proptest::collection::vec((any::<bool>(), proptest::collection::vec(any::<u8>(), 0..100)), 0..6),
            cuts in proptest::collection::vec(any::<usize>(), 0..30),
        ) {
            let body: Vec<u8> = payloads.iter().flat_map(|(compressed, payload)| message(*compressed, payload)).collect();
            let mut request = RequestHead::encode("/a.B/C", &HeaderMap::new()).unwrap().to_vec();
            request.extend(&body);
            prop_assert_eq!(read(Side::Request, &request, &cuts), Ok((1, body.clone(), 0)));
            let mut response = ResponseHead::encode(http::StatusCode::OK, &HeaderMap::new()).unwrap().to_vec();
            response.extend(&body);
            response.extend(encode_trailers(&HeaderMap::new()).unwrap());
            prop_assert_eq!(read(Side::Response, &response, &cuts), Ok((1, body, 1)));
        }

        #[test]
        fn anything_else_is_an_error_and_no_panic(stream: Vec<u8>, cuts: Vec<usize>) {
            for side in [Side::Request, Side::Response] {
                if let Ok((heads, body, _)) = read(side, &stream, &cuts) {
                    prop_assert!(heads == 1 && body.len() < stream.len());
                }
            }
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let request = RequestHead::encode("/a.B/C", &HeaderMap::new()).unwrap().to_vec();
        let response = ResponseHead::encode(http::StatusCode::OK, &HeaderMap::new()).unwrap().to_vec();
        let trailers = encode_trailers(&HeaderMap::new()).unwrap().to_vec();
        let with = |first: &[u8], more: &[u8]| [first, more].concat();
        for (side, stream, error) in [
            (Side::Request, vec![], BlockError::Headless),
            (Side::Request, vec![7, 0, 0, 0, 0], BlockError::Tag(7)),
            (Side::Request, message(false, b"x"), BlockError::Order(Kind::Message)),
            (Side::Request, response.clone(), BlockError::Order(Kind::Response)),
            (Side::Request, with(&request, &request), BlockError::Order(Kind::Request)),
            (Side::Request, with(&request, &trailers), BlockError::Order(Kind::Trailers)),
            (Side::Request, vec![0x81, 1, 0, 0, 0], BlockError::Large(1 << 24)),
            (Side::Request, with(&request, &message(true, b"abc")[..6]), BlockError::Cut),
            (Side::Response, with(&response, &message(true, b"abc")), BlockError::Cut),
            (Side::Response, with(&response, &with(&trailers, &[0])), BlockError::Surplus),
        ] {
            assert_eq!(read(side, &stream, &[]), Err(error));
        }
        assert_eq!(read(Side::Response, &response, &[]), Ok((1, vec![], 0)));
    }
}
