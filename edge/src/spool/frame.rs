//! How one entry lies in a segment: a head with its own checksum, then a body with its own.
//!
//! ```text
//! marker u32 | length of body u32 | sequence u64 | CRC of body u32 | CRC of the head so far u32 | body
//! ```
//!
//! Numbers are little-endian. The head's checksum begins with a salt that stands in the segment's name alone: bytes inside
//! of an entry, which may come from outside, cannot pass for an entry when the reader looks for the next whole one behind
//! a damaged one.

use crc32fast::Hasher;

#[cfg(test)]
mod tests;

pub(super) const HEAD: usize = 24;
const MARKER: [u8; 4] = *b"MgSp";

/// One stretch of a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    /// `at` and `len` are those of the whole frame.
    Good { seq: u64, at: usize, len: usize },
    /// Damaged: neither a whole entry nor the beginning of one.
    Bad { at: usize, len: usize },
    /// The beginning of an entry whose writing was cut off, up to the segment's end.
    Torn { at: usize },
}

/// Appends one frame.
pub(super) fn write(out: &mut Vec<u8>, salt: u32, seq: u64, body: &[u8]) {
    let at = out.len();
    out.extend_from_slice(&MARKER);
    out.extend_from_slice(&(body.len() as u32).to_le_bytes());
    out.extend_from_slice(&seq.to_le_bytes());
    out.extend_from_slice(&crc32fast::hash(body).to_le_bytes());
    let head = head_crc(salt, &out[at..at + HEAD - 4]);
    out.extend_from_slice(&head.to_le_bytes());
    out.extend_from_slice(body);
}

/// The body of a frame that was read by its place; `None` if it is damaged.
pub(super) fn body(salt: u32, seq: u64, frame: &[u8]) -> Option<&[u8]> {
    let head = Head::read(salt, frame)?;
    let body = frame.get(HEAD..)?;
    (head.seq == seq && body.len() == head.len && crc32fast::hash(body) == head.body_crc).then_some(body)
}

/// Takes a segment apart. Never fails: what is no entry is a piece of its own.
pub(super) fn scan(salt: u32, bytes: &[u8]) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        match Head::read(salt, &bytes[at..]) {
            Some(head) => {
                let Some(body) = bytes.get(at + HEAD..at + HEAD + head.len) else {
                    pieces.push(Piece::Torn { at });
                    break;
                };
                let len = HEAD + head.len;
                pieces.push(match crc32fast::hash(body) == head.body_crc {
                    true => Piece::Good { seq: head.seq, at, len },
                    false => Piece::Bad { at, len },
                });
                at += len;
            }
            None if is_cut_off(&bytes[at..]) => {
                pieces.push(Piece::Torn { at });
                break;
            }
            None => {
                let next = next_whole(salt, bytes, at + 1);
                pieces.push(Piece::Bad { at, len: next - at });
                at = next;
            }
        }
    }
    pieces
}

struct Head {
    len: usize,
    seq: u64,
    body_crc: u32,
}

impl Head {
    fn read(salt: u32, bytes: &[u8]) -> Option<Self> {
        let head = bytes.get(..HEAD)?;
        let word = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        if head[..4] != MARKER || word(20) != head_crc(salt, &head[..20]) {
            return None;
        }
        let seq = u64::from(word(8)) | u64::from(word(12)) << 32;
        Some(Self { len: word(4) as usize, seq, body_crc: word(16) })
    }
}

fn head_crc(salt: u32, head: &[u8]) -> u32 {
    let mut hasher = Hasher::new_with_initial(salt);
    hasher.update(head);
    hasher.finalize()
}

/// Less than a head that begins as one, or zeros, which is what a power cut leaves of what was not yet written.
fn is_cut_off(rest: &[u8]) -> bool {
    let is_begun = rest.len() < HEAD && rest.iter().zip(&MARKER).all(|(byte, marker)| byte == marker);
    is_begun || rest.iter().all(|byte| *byte == 0)
}

/// Where the next entry with both checksums begins, or the end.
fn next_whole(salt: u32, bytes: &[u8], from: usize) -> usize {
    let is_whole = |at: usize| {
        Head::read(salt, &bytes[at..]).is_some_and(|head| {
            let body = bytes.get(at + HEAD..at + HEAD + head.len);
            body.is_some_and(|body| crc32fast::hash(body) == head.body_crc)
        })
    };
    (from..bytes.len()).find(|at| bytes[*at] == MARKER[0] && is_whole(*at)).unwrap_or(bytes.len())
}
