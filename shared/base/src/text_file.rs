//! Text files as people's editors write them: UTF-8, with or without a byte order mark. Other encodings are refused by
//! their name, and so is what was cut off or is no text.

use std::io::{Error, ErrorKind, Result};
use std::path::Path;

use crate::bounded;

/// Reason why bytes are no text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotText {
    #[error("is UTF-{0}, as some editors and shells on Windows write it; save it as UTF-8")]
    OtherUtf(u8),
    #[error("line {line}: holds a zero byte; was the file copied whole?")]
    Zero { line: usize },
    #[error("line {line}: byte 0x{byte:02x} is not UTF-8; save the file as UTF-8")]
    Byte { line: usize, byte: u8 },
}

const MARK: &str = "\u{feff}";

/// Gives `text` without a byte order mark.
pub fn without_mark(text: &str) -> &str {
    text.strip_prefix(MARK).unwrap_or(text)
}

/// Decodes `bytes` as UTF-8, without a byte order mark.
pub fn decode(bytes: &[u8]) -> std::result::Result<&str, NotText> {
    if let Some(bits) = other_utf(bytes) {
        return Err(NotText::OtherUtf(bits));
    }
    let line = |at: usize| 1 + bytes.iter().take(at).filter(|byte| **byte == b'\n').count();
    if let Some(at) = bytes.iter().position(|byte| *byte == 0) {
        return Err(NotText::Zero { line: line(at) });
    }
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let at = error.valid_up_to();
        NotText::Byte { line: line(at), byte: bytes.get(at).copied().unwrap_or_default() }
    })?;
    Ok(without_mark(text))
}

/// Reads a file as text, without a byte order mark. Where it is no text, the error is [`ErrorKind::InvalidData`] with
/// a [`NotText`] inside; where it is larger than [`bounded::TEXT`], it is as [`bounded::read`] has it.
pub fn read(path: &Path) -> Result<String> {
    let bytes = bounded::read(path, bounded::TEXT)?;
    decode(&bytes).map(str::to_owned).map_err(|error| Error::new(ErrorKind::InvalidData, error))
}

/// Bits of a unit of another UTF encoding, told by its mark, or by the zero beside the first letter where there is no
/// mark. `None` if the bytes look like no such encoding.
fn other_utf(bytes: &[u8]) -> Option<u8> {
    match bytes {
        [0xff, 0xfe, 0, 0, ..] | [0, 0, 0xfe, 0xff, ..] => Some(32),
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => Some(16),
        [letter, 0, other, 0, ..] | [0, letter, 0, other, ..] if *letter != 0 && *other != 0 => Some(16),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_passed_over_and_other_encodings_have_a_name() {
        assert_eq!(decode(b"\xef\xbb\xbfa = 1\r\n"), Ok("a = 1\r\n"));
        assert_eq!(decode("grüße".as_bytes()), Ok("grüße"));
        assert_eq!(decode(b""), Ok(""));
        for (bytes, expected) in [
            (&b"\xff\xfea\0=\0"[..], NotText::OtherUtf(16)),
            (b"\xfe\xff\0a", NotText::OtherUtf(16)),
            (b"a\0=\0", NotText::OtherUtf(16)),
            (b"\0a\0=", NotText::OtherUtf(16)),
            (b"\xff\xfe\0\0a\0\0\0", NotText::OtherUtf(32)),
            (b"a = 1\nb = 2\n\0\0\0\0", NotText::Zero { line: 3 }),
            (b"a = 1\nb = \"caf\xe9\"\n", NotText::Byte { line: 2, byte: 0xe9 }),
        ] {
            assert_eq!(decode(bytes), Err(expected), "{bytes:?}");
        }
        let error = decode(b"\xff\xfea\0").unwrap_err().to_string();
        assert!(error.contains("UTF-16") && error.contains("save it as UTF-8"), "{error}");
    }

    #[test]
    fn a_file_is_read_without_its_mark() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        std::fs::write(&path, "\u{feff}a").unwrap();
        assert_eq!(read(&path).unwrap(), "a");
        std::fs::write(&path, b"\xff\xfea\0").unwrap();
        assert_eq!(read(&path).unwrap_err().kind(), ErrorKind::InvalidData);
        assert_eq!(read(&dir.path().join("y")).unwrap_err().kind(), ErrorKind::NotFound);
    }
}
