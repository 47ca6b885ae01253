//! What a TIFF says of itself: size, sample type, number of pages.
//!
//! The decoder answers odd files with words like "color type Unknown(32)", and shows only the first page. Reading the
//! few tags here gives messages that name the cause, and the size before anything is allocated.

use super::{DecodeError, Format, corrupt, truncated};

// Tags and values of TIFF 6.0.
const NEW_SUBFILE_TYPE: u16 = 254;
const IMAGE_WIDTH: u16 = 256;
const IMAGE_LENGTH: u16 = 257;
const BITS_PER_SAMPLE: u16 = 258;
const COMPRESSION: u16 = 259;
const PHOTOMETRIC: u16 = 262;
const SAMPLES_PER_PIXEL: u16 = 277;
const SAMPLE_FORMAT: u16 = 339;
const REDUCED_RESOLUTION: u32 = 1;

/// More pages than any file with thumbnails has; ends a chain that runs in a circle.
const MAX_DIRECTORIES: usize = 16;

/// Width and height in pixels of the first page.
pub(super) fn size(bytes: &[u8]) -> Result<(u32, u32), DecodeError> {
    let file = File::new(bytes);
    let directory = file.directory(file.u32(4)?)?;
    let value = |tag, name| {
        directory.value(tag)?.ok_or_else(|| corrupt(Format::Tiff, format!("it does not state its {name}")))
    };
    Ok((value(IMAGE_WIDTH, "width")?, value(IMAGE_LENGTH, "height")?))
}

/// Refuses what has no rule in `docs/bundles.md` or no safe decoder.
pub(super) fn check(bytes: &[u8]) -> Result<(), DecodeError> {
    let file = File::new(bytes);
    let directory = file.directory(file.u32(4)?)?;
    let bits = directory.value(BITS_PER_SAMPLE)?.unwrap_or(1);
    let samples = directory.value(SAMPLES_PER_PIXEL)?.unwrap_or(1);
    let colour = match (directory.value(SAMPLE_FORMAT)?.unwrap_or(1), directory.value(PHOTOMETRIC)?) {
        (2, _) => Some("signed samples".to_owned()),
        (3, _) => Some(format!("{bits}-bit floating-point samples")),
        (_, Some(0..=2)) if ![1, 8, 16].contains(&bits) => Some(format!("{bits}-bit samples")),
        (_, Some(0 | 1)) if samples != 1 => Some(format!("{samples} samples a grey pixel")),
        (_, Some(0..=2)) => None,
        (_, Some(3)) => Some("a palette".to_owned()),
        (_, Some(5)) => Some("CMYK colour".to_owned()),
        (_, Some(6)) => Some("YCbCr colour".to_owned()),
        (_, other) => Some(format!("photometric interpretation {}", other.unwrap_or(0))),
    };
    if let Some(colour) = colour {
        return Err(DecodeError::UnsupportedColour { format: Format::Tiff, colour });
    }
    // The JPEG decoder within would complete a damaged strip with grey.
    if matches!(directory.value(COMPRESSION)?, Some(6 | 7)) {
        let feature = "JPEG compression".to_owned();
        return Err(DecodeError::Unsupported { format: Format::Tiff, feature });
    }
    let mut next = directory.next()?;
    for _ in 0..MAX_DIRECTORIES {
        if next == 0 {
            return Ok(());
        }
        let directory = file.directory(next)?;
        // A thumbnail of the first page is no second picture.
        if directory.value(NEW_SUBFILE_TYPE)?.unwrap_or(0) & REDUCED_RESOLUTION == 0 {
            break;
        }
        next = directory.next()?;
    }
    Err(DecodeError::Animated { format: Format::Tiff })
}

/// The bytes and their order.
struct File<'a> {
    bytes: &'a [u8],
    big_endian: bool,
}

impl<'a> File<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, big_endian: bytes.starts_with(b"MM") }
    }

    fn directory(&self, at: u32) -> Result<Directory<'_>, DecodeError> {
        let entries = usize::from(self.u16(at as usize)?);
        Ok(Directory { file: self, first: at as usize + 2, entries })
    }

    fn u16(&self, at: usize) -> Result<u16, DecodeError> {
        let read = if self.big_endian { u16::from_be_bytes } else { u16::from_le_bytes };
        self.chunk(at).map(read)
    }

    fn u32(&self, at: usize) -> Result<u32, DecodeError> {
        let read = if self.big_endian { u32::from_be_bytes } else { u32::from_le_bytes };
        self.chunk(at).map(read)
    }

    fn chunk<const N: usize>(&self, at: usize) -> Result<[u8; N], DecodeError> {
        let chunk = self.bytes.get(at..).and_then(<[u8]>::first_chunk).copied();
        chunk.ok_or_else(|| truncated(Format::Tiff, format!("a tag lies at byte {at}, beyond its end")))
    }
}

/// One page's list of tags, 12 bytes each: tag, type, count, and the values or where they lie.
struct Directory<'a> {
    file: &'a File<'a>,
    first: usize,
    entries: usize,
}

impl Directory<'_> {
    /// The first value of a tag of whole numbers.
    fn value(&self, tag: u16) -> Result<Option<u32>, DecodeError> {
        for entry in 0..self.entries {
            let at = self.first + 12 * entry;
            if self.file.u16(at)? != tag {
                continue;
            }
            let count = self.file.u32(at + 4)?;
            return match self.file.u16(at + 2)? {
                3 if count <= 2 => self.file.u16(at + 8).map(|v| Some(v.into())),
                3 => self.file.u16(self.file.u32(at + 8)? as usize).map(|v| Some(v.into())),
                4 if count <= 1 => self.file.u32(at + 8).map(Some),
                4 => self.file.u32(self.file.u32(at + 8)? as usize).map(Some),
                other => Err(corrupt(Format::Tiff, format!("tag {tag} has type {other}"))),
            };
        }
        Ok(None)
    }

    /// Where the next page's list lies; 0 for none.
    fn next(&self) -> Result<u32, DecodeError> {
        self.file.u32(self.first + 12 * self.entries)
    }
}
