//! Format and size from the first bytes, before any decoder runs.

use std::fmt;

use super::{DecodeError, Facts, jpeg, tiff, truncated};

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
        } else if is(b"II\x2a\0") || is(b"MM\0\x2a") || is(b"II\x2b\0") || is(b"MM\0\x2b") {
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
pub(super) fn check_bmp(bytes: &[u8]) -> Result<Facts, DecodeError> {
    const RUN_LENGTH_8_BIT: u32 = 1;
    const RUN_LENGTH_4_BIT: u32 = 2;
    let has_compression = u32_le(bytes, 14) >= Some(40);
    match u32_le(bytes, 30).filter(|_| has_compression) {
        Some(RUN_LENGTH_8_BIT | RUN_LENGTH_4_BIT) => {
            Err(DecodeError::Unsupported { format: Format::Bmp, feature: "run-length coding".to_owned() })
        }
        _ => Ok(Facts::default()),
    }
}

/// Names pictures of formats that are not taken: what is no picture at all is another matter.
pub(super) fn refused(bytes: &[u8]) -> DecodeError {
    let at = |at: usize, magic: &[u8]| bytes.get(at..).is_some_and(|rest| rest.starts_with(magic));
    let brand = |names: &[&[u8; 4]]| at(4, b"ftyp") && names.iter().any(|name| at(8, *name));
    let netpbm =
        matches!(bytes, [b'P', b'1'..=b'7', b' ' | b'\n' | b'\r' | b'\t', b'0'..=b'9' | b'#' | b'W', ..]);
    let name = match bytes {
        _ if at(0, b"RIFF") && at(8, b"WEBP") => "WebP",
        _ if brand(&[b"avif", b"avis"]) => "AVIF",
        _ if brand(&[b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1"]) => "HEIF",
        _ if at(0, b"\0\0\0\x0cjP  \r\n\x87\n") || at(0, b"\xff\x4f\xff\x51") => "JPEG 2000",
        _ if at(0, b"\xff\x0a") || at(0, b"\0\0\0\x0cJXL \r\n\x87\n") => "JPEG XL",
        _ if at(0, b"II\xbc\x01") || at(0, b"II\xbc\0") => "JPEG XR",
        _ if netpbm => "PNM",
        _ if at(0, b"8BPS") => "Photoshop",
        _ if at(0, b"v/1\x01") => "OpenEXR",
        _ if at(0, b"qoif") => "QOI",
        _ if at(0, b"DDS ") => "DDS",
        _ if at(128, b"DICM") => "DICOM",
        _ => return DecodeError::NotAnImage,
    };
    DecodeError::UnsupportedFormat { name }
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
