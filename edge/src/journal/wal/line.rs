//! One line of the journal's log, as bytes.

use std::io;

use serde::Serialize;

use super::super::change::Change;

/// What a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    Format,
    Copied,
    End,
    Commit,
}

/// A line whose checksum is right.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line<'a> {
    pub(super) what: What,
    /// The commit's; of a format, the format's.
    pub(super) number: u64,
    pub(super) json: &'a [u8],
}

/// Digits of the checksum.
const DIGITS: usize = 8;

impl What {
    fn letter(self) -> char {
        match self {
            Self::Format => 'f',
            Self::Copied => 's',
            Self::End => 'e',
            Self::Commit => 'c',
        }
    }

    fn of(letter: &[u8]) -> Option<Self> {
        match letter {
            b"f" => Some(Self::Format),
            b"s" => Some(Self::Copied),
            b"e" => Some(Self::End),
            b"c" => Some(Self::Commit),
            _ => None,
        }
    }
}

/// Writes a line, with its line feed.
pub(super) fn write(what: What, number: u64, json: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut text = format!("{:DIGITS$} {} {number} ", "", what.letter()).into_bytes();
    serde_json::to_writer(&mut text, json)?;
    let sum = format!("{:08x}", crc32fast::hash(&text[DIGITS + 1..]));
    text[..DIGITS].copy_from_slice(sum.as_bytes());
    text.push(b'\n');
    Ok(text)
}

/// Reads a line without its line feed; `None` if it is none, or is not as it was written.
pub(super) fn read(text: &[u8]) -> Option<Line<'_>> {
    let (sum, rest) = text.split_at_checked(DIGITS)?;
    let rest = rest.strip_prefix(b" ")?;
    let sum = u32::from_str_radix(std::str::from_utf8(sum).ok()?, 16).ok()?;
    if crc32fast::hash(rest) != sum {
        return None;
    }
    let mut pieces = rest.splitn(3, |byte| *byte == b' ');
    let what = What::of(pieces.next()?)?;
    let number = std::str::from_utf8(pieces.next()?).ok()?.parse().ok()?;
    Some(Line { what, number, json: pieces.next()? })
}

/// The changes of a line; `None` if another version has written it.
pub(super) fn changes(json: &[u8]) -> Option<Vec<Change>> {
    serde_json::from_slice(json).ok()
}
