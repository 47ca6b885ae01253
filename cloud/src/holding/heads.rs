//! Where gRPC's messages begin and end in a body, as its bytes pass. Pure: bytes in, pieces out.
//!
//! A message has a head of five bytes: a flag that says whether it is compressed, and its length. What follows the head passes on
//! as it comes; a head itself is withheld until it is whole.

use bytes::{Buf, Bytes};

/// Length of a message's head in bytes.
pub(super) const HEAD: usize = 5;

/// Part of a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    /// A message begins.
    Head { flag: u8, length: u32 },
    /// Bytes of the message, as many as have come.
    Content(Bytes),
    /// The message has ended.
    End,
}

#[derive(Debug)]
enum State {
    /// Inside a head: the bytes so far and their number.
    Head([u8; HEAD], usize),
    /// Inside a message: the number of bytes that are left of it.
    Message(usize),
}

/// Cuts one body into messages.
#[derive(Debug)]
pub(super) struct Heads(State);

impl Default for Heads {
    fn default() -> Self {
        Self(State::Head([0; HEAD], 0))
    }
}

impl Heads {
    /// Takes the next piece off `input`; `None` once all is taken.
    pub(super) fn next(&mut self, input: &mut Bytes) -> Option<Piece> {
        match &mut self.0 {
            State::Message(0) => {
                *self = Self::default();
                Some(Piece::End)
            }
            _ if input.is_empty() => None,
            State::Message(left) => {
                let taken = input.split_to(input.len().min(*left));
                *left -= taken.len();
                Some(Piece::Content(taken))
            }
            State::Head(head, filled) => {
                let taken = input.len().min(HEAD - *filled);
                input.copy_to_slice(&mut head[*filled..*filled + taken]);
                *filled += taken;
                if *filled < HEAD {
                    return None;
                }
                let [flag, length @ ..] = *head;
                let length = u32::from_be_bytes(length);
                self.0 = State::Message(length as usize);
                Some(Piece::Head { flag, length })
            }
        }
    }

    /// True where the last byte of a message has come, and its end has not been told.
    pub(super) fn is_whole(&self) -> bool {
        matches!(self.0, State::Message(0))
    }

    /// True while a message, or a head, has begun and not ended.
    pub(super) fn is_inside(&self) -> bool {
        !matches!(self.0, State::Head(_, 0))
    }
}

/// A message's head.
pub(super) fn head(flag: u8, length: u32) -> [u8; HEAD] {
    let [a, b, c, d] = length.to_be_bytes();
    [flag, a, b, c, d]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn messages_are_the_same_however_a_body_is_cut(
            messages in proptest::collection::vec((0_u8..3, proptest::collection::vec(any::<u8>(), 0..60)), 0..8),
            mut cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..20),
        ) {
            let body: Vec<u8> = messages
                .iter()
                .flat_map(|(flag, content)| head(*flag, content.len() as u32).into_iter().chain(content.iter().copied()))
                .collect();
            let mut at: Vec<usize> = cuts.drain(..).map(|cut| cut.index(body.len() + 1)).collect();
            at.push(body.len());
            at.sort_unstable();
            let (mut heads, mut begin) = (Heads::default(), 0);
            let (mut read, mut open): (Vec<(u8, Vec<u8>)>, _) = (Vec::new(), None::<(u8, u32, Vec<u8>)>);
            for end in at {
                let mut input = Bytes::copy_from_slice(&body[begin..end]);
                begin = end;
                while let Some(piece) = heads.next(&mut input) {
                    match piece {
                        Piece::Head { flag, length } => {
                            prop_assert!(open.is_none() && heads.is_inside());
                            open = Some((flag, length, Vec::new()));
                        }
                        Piece::Content(bytes) => open.as_mut().unwrap().2.extend(bytes),
                        Piece::End => {
                            let (flag, length, content) = open.take().unwrap();
                            prop_assert_eq!(length as usize, content.len());
                            read.push((flag, content));
                        }
                    }
                }
            }
            prop_assert_eq!(read, messages);
            prop_assert!(!heads.is_inside());
        }
    }
}
