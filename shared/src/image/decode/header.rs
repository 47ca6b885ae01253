//! Format and size from the first bytes, before any decoder runs.

use std::fmt;

use super::{DecodeError, jpeg, tiff, truncated};

/// The formats taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Png,
    Jpeg,
    Bmp,
    Tiff,
    Gif,
}

impl Format {
    /// The format that the content says it is.
    pub(super) fn of(bytes: &[u8]) -> Option<Self> {
        let is = |magic: &[u8]| bytes.starts_with(magic);
        if is(b"\x89PNG\r\n\x1a\n") {
            Some(Self::Png)
        } else if is(b"\xff\xd8\xff") {
            Some(Self::Jpeg)
        } else if is(b"II\x2a\0") || is(b"MM\0\x2a") {
            Some(Self::Tiff)
        } else if is(b"GIF87a") || is(b"GIF89a") {
            Some(Self::Gif)
        } else if is(b"BM") && matches!(u32_le(bytes, 14), Some(12 | 40 | 52 | 56 | 108 | 124)) {
            // "BM" alone opens many a text; the length of the second header is one of a few.
            Some(Self::Bmp)
        } else {
            None
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Png => "PNG",
            Self::Jpeg => "JPEG",
            Self::Bmp => "BMP",
            Self::Tiff => "TIFF",
            Self::Gif => "GIF",
        })
    }
}

/// Width and height in pixels as the header states them.
pub(super) fn size(format: Format, bytes: &[u8]) -> Result<(u32, u32), DecodeError> {
    let size = match format {
        Format::Png => u32_be(bytes, 16).zip(u32_be(bytes, 20)),
        Format::Gif => u16_le(bytes, 6).zip(u16_le(bytes, 8)),
        Format::Bmp if u32_le(bytes, 14) == Some(12) => u16_le(bytes, 18).zip(u16_le(bytes, 20)),
        // Signed: a negative height says that the top row comes first.
        Format::Bmp => {
            u32_le(bytes, 18).zip(u32_le(bytes, 22)).map(|(w, h)| (w, h.cast_signed().unsigned_abs()))
        }
        Format::Jpeg => return jpeg::size(bytes),
        Format::Tiff => return tiff::size(bytes),
    };
    size.ok_or_else(|| truncated(format, "it ends within the header"))
}

/// Run-length coding may leave pixels out, and a cut file looks just like that.
pub(super) fn check_bmp(bytes: &[u8]) -> Result<(), DecodeError> {
    const RUN_LENGTH_8_BIT: u32 = 1;
    const RUN_LENGTH_4_BIT: u32 = 2;
    let has_compression = u32_le(bytes, 14) >= Some(40);
    match u32_le(bytes, 30).filter(|_| has_compression) {
        Some(RUN_LENGTH_8_BIT | RUN_LENGTH_4_BIT) => {
            Err(DecodeError::Unsupported { format: Format::Bmp, feature: "run-length coding".to_owned() })
        }
        _ => Ok(()),
    }
}

fn u16_le(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|b| u32::from(u16::from_le_bytes(*b)))
}

fn u32_le(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|b| u32::from_le_bytes(*b))
}

fn u32_be(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|b| u32::from_be_bytes(*b))
}
