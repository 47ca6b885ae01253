//! What a TIFF says of itself: size, sample type, number of pages.
//!
//! The decoder answers odd files with words like "color type Unknown(32)", and shows only the first page. Reading the
//! few tags here gives messages that name the cause, and the size before anything is allocated.

use image::metadata::Orientation;

use super::depth::BitDepth;
use super::foreign::Layout;
use super::{DecodeError, Facts, Format, corrupt, truncated};
use crate::image::Channels;

// Tags and values of TIFF 6.0.
const NEW_SUBFILE_TYPE: u16 = 254;
const IMAGE_WIDTH: u16 = 256;
const IMAGE_LENGTH: u16 = 257;
const BITS_PER_SAMPLE: u16 = 258;
const COMPRESSION: u16 = 259;
const PHOTOMETRIC: u16 = 262;
const FILL_ORDER: u16 = 266;
const ORIENTATION: u16 = 274;
const SAMPLES_PER_PIXEL: u16 = 277;
const MAX_SAMPLE_VALUE: u16 = 281;
const SAMPLE_FORMAT: u16 = 339;
const S_MAX_SAMPLE_VALUE: u16 = 341;
const REDUCED_RESOLUTION: u64 = 1;
const WHITE_IS_ZERO: u64 = 0;

// Types of values: whole numbers of 1, 2, 4 and 8 bytes.
const BYTE: u16 = 1;
const SHORT: u16 = 3;
const LONG: u16 = 4;
const LONG8: u16 = 16;

/// More pages than any file with thumbnails has; ends a chain that runs in a circle.
const MAX_DIRECTORIES: usize = 16;

/// What the header says of a TIFF's size and sort.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sort {
    /// In bits.
    pub(super) sample: u64,
    /// With alpha and others.
    pub(super) samples: u64,
}

/// Width and height in pixels of the first page.
pub(super) fn size(bytes: &[u8]) -> Result<(u32, u32), DecodeError> {
    let file = File::new(bytes);
    let directory = file.first()?;
    let value = |tag, name| {
        let value = directory.value(tag)?;
        let value = value.ok_or_else(|| corrupt(Format::Tiff, format!("it does not state its {name}")))?;
        u32::try_from(value).map_err(|_| corrupt(Format::Tiff, format!("a {name} of {value} pixels")))
    };
    Ok((value(IMAGE_WIDTH, "width")?, value(IMAGE_LENGTH, "height")?))
}

/// Bits and number of samples, for the memory that they take.
pub(super) fn sort(bytes: &[u8]) -> Result<Sort, DecodeError> {
    let file = File::new(bytes);
    let directory = file.first()?;
    let value = |tag| Ok::<_, DecodeError>(directory.value(tag)?.unwrap_or(1));
    Ok(Sort { sample: value(BITS_PER_SAMPLE)?, samples: value(SAMPLES_PER_PIXEL)? })
}

/// Refuses what has no rule in `docs/bundles.md` or no safe decoder, and another number of samples than the raw channels
/// that are wanted.
pub(super) fn check(bytes: &[u8], wanted: Channels) -> Result<Facts, DecodeError> {
    let file = File::new(bytes);
    let directory = file.first()?;
    let bits = directory.value(BITS_PER_SAMPLE)?.unwrap_or(1);
    let samples = directory.value(SAMPLES_PER_PIXEL)?.unwrap_or(1);
    let photometric = directory.value(PHOTOMETRIC)?;
    let colour = match (directory.value(SAMPLE_FORMAT)?.unwrap_or(1), photometric) {
        (2, _) => Some("signed samples".to_owned()),
        (3, _) => Some(format!("{bits}-bit floating-point samples")),
        (5 | 6, _) => Some("complex samples".to_owned()),
        (_, Some(0..=2)) if ![1, 8, 16].contains(&bits) || (wanted.are_raw() && bits == 1) => {
            Some(format!("{bits}-bit samples"))
        }
        // Every sample is a channel, whatever it stands for.
        (_, Some(1 | 2)) if wanted.are_raw() => None,
        // Grey and alpha, or another sample that is none of the picture.
        (_, Some(1)) if samples == 2 && bits != 1 => None,
        (_, Some(0 | 1)) if samples != 1 => Some(format!("{samples} samples a grey pixel")),
        (_, Some(0..=2)) => None,
        (_, Some(3)) => Some("a palette".to_owned()),
        (_, Some(5)) => Some("CMYK colour".to_owned()),
        (_, Some(6)) => Some("YCbCr colour".to_owned()),
        (_, Some(other)) => Some(format!("photometric interpretation {other}")),
        (_, None) => Some("no photometric interpretation".to_owned()),
    };
    if let Some(colour) = colour {
        return Err(DecodeError::UnsupportedColour { format: Format::Tiff, colour });
    }
    let unsupported =
        |feature: &str| DecodeError::Unsupported { format: Format::Tiff, feature: feature.to_owned() };
    // The JPEG decoder within would complete a damaged strip with grey.
    if matches!(directory.value(COMPRESSION)?, Some(6 | 7)) {
        return Err(unsupported("JPEG compression"));
    }
    // The decoder would read the bits of each byte the wrong way round.
    if directory.value(FILL_ORDER)?.unwrap_or(1) != 1 {
        return Err(unsupported("bits from the lowest to the highest (FillOrder 2)"));
    }
    file.check_pages(&directory)?;
    if wanted.are_raw() && samples != wanted.count() as u64 {
        return Err(DecodeError::Channels { format: Format::Tiff, found: samples, wanted });
    }
    // What is optional is not worth refusing a picture for.
    let optional = |tag| directory.value(tag).ok().flatten();
    let declared =
        [MAX_SAMPLE_VALUE, S_MAX_SAMPLE_VALUE].into_iter().filter_map(optional).filter_map(depth_of);
    Ok(Facts {
        depth: declared.min().filter(|_| bits == 16),
        orientation: optional(ORIENTATION)
            .and_then(|value| Orientation::from_exif(u8::try_from(value).unwrap_or(u8::MAX))),
        is_inverted: photometric == Some(WHITE_IS_ZERO),
        layout: match samples {
            _ if wanted.are_raw() => Layout::Bands(wanted),
            2 => Layout::GreyAlpha,
            _ => Layout::Usual,
        },
        ..Facts::default()
    })
}

/// The file as one whose samples have no meaning: of those that an RGB picture has beside its colours, the decoder would
/// keep none.
pub(super) fn as_bands(bytes: &[u8]) -> Result<Vec<u8>, DecodeError> {
    const BLACK_IS_ZERO: u8 = 1;
    let mut changed = bytes.to_vec();
    let file = File::new(bytes);
    if let Some(Place { size, at, .. }) = file.first()?.place(PHOTOMETRIC)?
        && let Some(value) = changed.get_mut(at..at.saturating_add(size))
    {
        value.fill(0);
        value[if file.big_endian { size - 1 } else { 0 }] = BLACK_IS_ZERO;
    }
    Ok(changed)
}

/// The depth whose largest sample this is. Another number is the largest of one picture, and says nothing of its scale.
fn depth_of(most: u64) -> Option<BitDepth> {
    let bits = (most + 1).is_power_of_two().then(|| (most + 1).trailing_zeros() as u8)?;
    BitDepth::try_from(bits).ok()
}

/// The bytes and their order.
struct File<'a> {
    bytes: &'a [u8],
    big_endian: bool,
    /// BigTIFF: places and counts are of eight bytes.
    is_big: bool,
}

impl<'a> File<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        let is_big = matches!(bytes.first_chunk(), Some(b"II\x2b\0" | b"MM\0\x2b"));
        Self { bytes, big_endian: bytes.starts_with(b"MM"), is_big }
    }

    fn first(&self) -> Result<Directory<'_>, DecodeError> {
        self.directory(self.place(if self.is_big { 8 } else { 4 })?)
    }

    fn directory(&self, at: u64) -> Result<Directory<'_>, DecodeError> {
        let at = usize::try_from(at).unwrap_or(usize::MAX);
        let entries = if self.is_big { self.u64(at)? } else { self.u16(at)?.into() };
        let first = at + if self.is_big { 8 } else { 2 };
        Ok(Directory { file: self, first, entries: usize::try_from(entries).unwrap_or(usize::MAX) })
    }

    /// Refuses a second picture.
    fn check_pages(&self, first: &Directory<'_>) -> Result<(), DecodeError> {
        let mut next = first.next()?;
        for _ in 0..MAX_DIRECTORIES {
            if next == 0 {
                return Ok(());
            }
            let directory = self.directory(next)?;
            // A thumbnail of the first page is no second picture.
            if directory.value(NEW_SUBFILE_TYPE)?.unwrap_or(0) & REDUCED_RESOLUTION == 0 {
                break;
            }
            next = directory.next()?;
        }
        Err(DecodeError::Animated { format: Format::Tiff })
    }

    /// A place in the file, or a count: four bytes, or eight.
    fn place(&self, at: usize) -> Result<u64, DecodeError> {
        if self.is_big { self.u64(at) } else { self.u32(at).map(u64::from) }
    }

    fn u16(&self, at: usize) -> Result<u16, DecodeError> {
        let read = if self.big_endian { u16::from_be_bytes } else { u16::from_le_bytes };
        self.chunk(at).map(read)
    }

    fn u32(&self, at: usize) -> Result<u32, DecodeError> {
        let read = if self.big_endian { u32::from_be_bytes } else { u32::from_le_bytes };
        self.chunk(at).map(read)
    }

    fn u64(&self, at: usize) -> Result<u64, DecodeError> {
        let read = if self.big_endian { u64::from_be_bytes } else { u64::from_le_bytes };
        self.chunk(at).map(read)
    }

    fn chunk<const N: usize>(&self, at: usize) -> Result<[u8; N], DecodeError> {
        let chunk = self.bytes.get(at..).and_then(<[u8]>::first_chunk).copied();
        chunk.ok_or_else(|| truncated(Format::Tiff, format!("a tag lies at byte {at}, beyond its end")))
    }
}

/// One page's list of tags, 12 bytes each (BigTIFF: 20): tag, type, count, and the values or where they lie.
struct Directory<'a> {
    file: &'a File<'a>,
    first: usize,
    entries: usize,
}

/// The first value of a tag.
struct Place<'a> {
    /// Length in bytes.
    size: usize,
    /// First byte in the file; it may lie beyond its end.
    at: usize,
    file: &'a File<'a>,
}

impl Directory<'_> {
    /// The first value of a tag of whole numbers; `None` if the page has no such tag.
    fn value(&self, tag: u16) -> Result<Option<u64>, DecodeError> {
        let Some(Place { size, at, file }) = self.place(tag)? else { return Ok(None) };
        match size {
            1 => file.chunk::<1>(at).map(|[value]| Some(value.into())),
            2 => file.u16(at).map(|value| Some(value.into())),
            4 => file.u32(at).map(|value| Some(value.into())),
            _ => file.u64(at).map(Some),
        }
    }

    /// Where the first value of a tag of whole numbers lies; `None` if the page has no such tag.
    fn place(&self, tag: u16) -> Result<Option<Place<'_>>, DecodeError> {
        let (entry, count_at, room) = if self.file.is_big { (20, 12, 8) } else { (12, 8, 4) };
        for number in 0..self.entries {
            let at = self.first.saturating_add(number.saturating_mul(entry));
            if self.file.u16(at)? != tag {
                continue;
            }
            let size: usize = match self.file.u16(at + 2)? {
                BYTE => 1,
                SHORT => 2,
                LONG => 4,
                LONG8 => 8,
                other => return Err(corrupt(Format::Tiff, format!("tag {tag} has type {other}"))),
            };
            let count = self.file.place(at + 4)?;
            let at = match count.saturating_mul(size as u64) <= room {
                true => at + count_at,
                false => usize::try_from(self.file.place(at + count_at)?).unwrap_or(usize::MAX),
            };
            return Ok(Some(Place { size, at, file: self.file }));
        }
        Ok(None)
    }

    /// Where the next page's list lies; 0 for none.
    fn next(&self) -> Result<u64, DecodeError> {
        let entry = if self.file.is_big { 20 } else { 12 };
        self.file.place(self.first.saturating_add(self.entries.saturating_mul(entry)))
    }
}
