//! An image file's bytes to samples: the only place where foreign decoders run.
//!
//! The bytes come from a factory line's file share or from the network, so they are taken for hostile:
//! - the format is told by content, never by name;
//! - the size is read from the header by our own code and checked before a decoder is started;
//! - a picture that is not wholly there is refused, never completed with grey (the JPEG decoder would, see `jpeg.rs`);
//! - a panic in a decoder becomes an error.
//!
//! What has to be assumed is said: [`read`] gives [`Remark`]s with the picture, which stand in the record of its decision.

mod depth;
mod foreign;
mod header;
mod jpeg;
mod need;
mod png;
mod remark;
mod samples;
#[cfg(test)]
mod tests;
mod tiff;

use image::metadata::Orientation;
use image::{DynamicImage, ImageBuffer};
use millgate_base::memory::{self, NoRoom};

use super::{Channels, Picture, PictureError};
pub use depth::BitDepth;
use foreign::Layout;
pub use header::Format;
pub use remark::Remark;
use samples::{Pixels, Scale};

/// What one file may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Width times height, in pixels, of a picture with up to 4 channels; one of more may have as many pixels fewer, so that
    /// its samples are no more. Default 100 million. A decode to grey takes up to 17 bytes for each at its peak, one of
    /// more channels up to 5 bytes for each sample of a pixel and 17 more; it is refused where there is no memory for them.
    pub max_pixels: u64,
    /// Length of the file in bytes. Default 64 MiB.
    pub max_file_bytes: u64,
}

impl Limits {
    /// The most pixels that a picture of so many channels may have.
    pub fn most_pixels(&self, channels: Channels) -> u64 {
        self.max_pixels / channels.count().div_ceil(4) as u64
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_pixels: 100_000_000, max_file_bytes: 64 << 20 }
    }
}

/// Why a file is not a picture we take. The reasons are the decoder's own words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("file is empty")]
    Empty,
    #[error("not an image (PNG, JPEG, BMP, TIFF or GIF expected)")]
    NotAnImage,
    #[error("{name} pictures are not supported: save it as PNG, JPEG, BMP or TIFF")]
    UnsupportedFormat { name: &'static str },
    #[error("file of {bytes} bytes exceeds the limit of {limit} bytes")]
    FileTooLarge { bytes: u64, limit: u64 },
    #[error("{format} of {width}x{height} pixels exceeds the limit of {limit} pixels")]
    TooManyPixels { format: Format, width: u32, height: u32, limit: u64 },
    #[error("{format} of {width}x{height} pixels {source}")]
    NoMemory { format: Format, width: u32, height: u32, source: NoRoom },
    #[error("{format} file is truncated: {reason}")]
    Truncated { format: Format, reason: String },
    #[error("{format} file is corrupt: {reason}")]
    Corrupt { format: Format, reason: String },
    #[error("{format} with {colour} is not supported: save it as 8-bit grey or RGB")]
    UnsupportedColour { format: Format, colour: String },
    #[error("{format} file has {}, the modality takes {}", counted(*.found), .wanted.count())]
    Channels { format: Format, found: u64, wanted: Channels },
    #[error("{format} feature is not supported: {feature}")]
    Unsupported { format: Format, feature: String },
    #[error("{format} {}: a sample is one picture", several(*.format))]
    Animated { format: Format },
    #[error(
        "{format} has {over} of {of} samples, up to {largest}, over what `bit_depth = {bits}` of its source can hold"
    )]
    BitDepth { format: Format, bits: u8, largest: u16, over: u64, of: u64 },
}

fn several(format: Format) -> &'static str {
    if format == Format::Tiff { "has several pages" } else { "is animated" }
}

fn counted(channels: u64) -> String {
    format!("{channels} channel{}", if channels == 1 { "" } else { "s" })
}

/// The code of what could be read if more memory were free, as there has been.
pub const NO_MEMORY: &str = "no_memory";

impl DecodeError {
    /// A word for machines, stable across versions.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Empty => "empty_file",
            Self::NotAnImage => "not_an_image",
            Self::NoMemory { source, .. } if source.may_pass() => NO_MEMORY,
            Self::FileTooLarge { .. } | Self::TooManyPixels { .. } | Self::NoMemory { .. } => "too_large",
            Self::Truncated { .. } => "truncated",
            Self::Corrupt { .. } => "corrupt",
            Self::UnsupportedColour { .. } => "unsupported_colour",
            Self::Channels { .. } => "channels",
            Self::Unsupported { .. } | Self::UnsupportedFormat { .. } => "unsupported",
            Self::Animated { .. } => "animated",
            Self::BitDepth { .. } => "bit_depth",
        }
    }
}

/// A file that is to be read.
#[derive(Debug, Clone, Copy)]
pub struct File<'a> {
    /// The whole file.
    pub bytes: &'a [u8],
    /// Channels that are wanted: grey and RGB are made of whatever the file holds, every other number must be the file's own.
    pub channels: Channels,
    /// Bits of a 16-bit sample that count, where the file's source is known to have so many.
    pub depth: Option<BitDepth>,
}

/// A picture, and how it was read.
#[derive(Debug, Clone, PartialEq)]
pub struct Decoded {
    pub image: Picture,
    pub remarks: Vec<Remark>,
    /// The file's own bytes give this picture to whoever knows nothing but them. Otherwise it must not be sent as they are.
    pub is_plain: bool,
    /// How 16-bit samples were read; `None` where there are none.
    depth: Option<depth::Chosen>,
}

/// What a file says of its picture besides size and pixels.
#[derive(Debug, Default)]
struct Facts {
    /// Bits of a 16-bit sample that count.
    depth: Option<BitDepth>,
    orientation: Option<Orientation>,
    /// The file with what it lacks.
    mended: Option<Vec<u8>>,
    remarks: Vec<Remark>,
    /// 0 is white in the file; its decoder turns that round.
    is_inverted: bool,
    layout: Layout,
}

/// Decodes a PNG, JPEG, BMP, TIFF or GIF file to so many channels by the rules of `docs/bundles.md`.
pub fn decode(bytes: &[u8], channels: Channels, limits: &Limits) -> Result<Picture, DecodeError> {
    read(&File { bytes, channels, depth: None }, limits).map(|decoded| decoded.image)
}

/// Decodes like [`decode`], and says what was assumed.
pub fn read(file: &File<'_>, limits: &Limits) -> Result<Decoded, DecodeError> {
    read_as(file, None, limits)
}

/// Decodes the pictures of one sample, which come from one source: where nobody says how many bits count, the picture that
/// shows the most of them tells for the others. Gives, of the first that fails, its index.
pub fn read_all(files: &[File<'_>], limits: &Limits) -> Result<Vec<Decoded>, (usize, DecodeError)> {
    let each = files.iter().enumerate();
    let read_one = |(at, file): (usize, &File<'_>)| read(file, limits).map_err(|error| (at, error));
    let mut all = each.map(read_one).collect::<Result<Vec<_>, _>>()?;
    let depths = all.iter().filter_map(|decoded| decoded.depth).map(|chosen| chosen.depth);
    let Some(most) = depths.filter(|depth| *depth < BitDepth::WHOLE).max() else { return Ok(all) };
    for (at, decoded) in all.iter_mut().enumerate() {
        if decoded.depth.is_some_and(|chosen| chosen.is_guess && chosen.depth < most) {
            *decoded = read_as(&files[at], Some(most), limits).map_err(|error| (at, error))?;
        }
    }
    Ok(all)
}

/// Reads a file; `guess` is a depth that comes from another picture of the sample.
fn read_as(file: &File<'_>, guess: Option<BitDepth>, limits: &Limits) -> Result<Decoded, DecodeError> {
    let File { bytes, channels: wanted, depth: said } = *file;
    if bytes.is_empty() {
        return Err(DecodeError::Empty);
    }
    if bytes.len() as u64 > limits.max_file_bytes {
        return Err(DecodeError::FileTooLarge { bytes: bytes.len() as u64, limit: limits.max_file_bytes });
    }
    let format = Format::of(bytes).ok_or_else(|| header::refused(bytes))?;
    let (width, height) = header::size(format, bytes)?;
    let pixels = u64::from(width) * u64::from(height);
    let limit = limits.most_pixels(wanted);
    if pixels > limit {
        return Err(DecodeError::TooManyPixels { format, width, height, limit });
    }
    if pixels == 0 {
        return Err(corrupt(format, format!("size of {width}x{height} pixels")));
    }
    let no_memory = |source| DecodeError::NoMemory { format, width, height, source };
    let _room = memory::reserve(need::bytes(format, bytes, pixels, wanted)?).map_err(no_memory)?;
    let mut facts = match format {
        Format::Jpeg => jpeg::check(bytes)?,
        Format::Tiff => tiff::check(bytes, wanted)?,
        Format::Png => png::facts(bytes),
        Format::Bmp => header::check_bmp(bytes)?,
        Format::Gif => Facts::default(),
    };
    let run = |bytes: &[u8]| foreign::picture(format, bytes, (width, height), &facts);
    let picture = match &facts.mended {
        None => run(bytes)?,
        // Its decoder alone knows whether every pixel is there, and may not ask for the end.
        Some(mended) if format == Format::Png => {
            run(bytes).or_else(|error| run(mended).map_err(|_| error))?
        }
        Some(mended) => run(mended)?,
    };
    facts.remarks.extend(picture.remark);
    if let Pixels::Image(image) = &picture.pixels
        && wanted.are_raw()
    {
        // What was drawn of a GIF's colours has alpha, and nothing in it.
        let found = if format == Format::Gif { 3 } else { u64::from(image.color().channel_count()) };
        if found != wanted.count() as u64 {
            return Err(DecodeError::Channels { format, found, wanted });
        }
    }
    let whole = Whole { format, width, height, wanted, pixels: picture.pixels };
    whole.finish(facts, said, guess)
}

/// A file's pixels, all there.
struct Whole {
    format: Format,
    width: u32,
    height: u32,
    wanted: Channels,
    pixels: Pixels,
}

impl Whole {
    /// Makes the samples that are wanted, upright.
    fn finish(
        self,
        mut facts: Facts,
        said: Option<BitDepth>,
        guess: Option<BitDepth>,
    ) -> Result<Decoded, DecodeError> {
        let Self { format, width, height, wanted, pixels } = self;
        if samples::is_transparent(&pixels, wanted, format == Format::Bmp) {
            facts.remarks.push(Remark::Transparent);
        }
        let depth = match depth::Seen::of(&pixels, wanted, facts.is_inverted) {
            None => None,
            Some(seen) => {
                let over = |most| depth::count_over(&pixels, wanted, facts.is_inverted, most);
                let (mut chosen, mut remark) = depth::choose(format, seen, said, facts.depth, over)?;
                if let Some(guess) = guess.filter(|guess| chosen.is_guess && *guess > chosen.depth) {
                    chosen.depth = guess;
                    remark = Some(seen.guessed(guess));
                }
                facts.remarks.extend(remark);
                Some(chosen)
            }
        };
        let is_whole = depth.is_none_or(|chosen| chosen.depth == BitDepth::WHOLE);
        let scale = Scale {
            depth: depth.map_or(BitDepth::WHOLE, |chosen| chosen.depth),
            is_inverted: facts.is_inverted,
        };
        let colour = match &pixels {
            Pixels::Image(image) => format!("colour type {:?}", image.color()),
            Pixels::Bands8(_) | Pixels::Bands16(_) => wanted.to_string(),
        };
        let unsupported = || DecodeError::UnsupportedColour { format, colour };
        let samples = samples::of(pixels, wanted, scale).ok_or_else(unsupported)?;
        let wrong = |error: PictureError| corrupt(format, error.to_string());
        let image = Picture::new(width, height, wanted, samples).map_err(wrong)?;
        let turned = facts.orientation.filter(|orientation| *orientation != Orientation::NoTransforms);
        facts.remarks.extend(turned.map(|turned| Remark::Turned { orientation: turned.to_exif() }));
        let image = match turned {
            Some(turned) => turn(image, turned).map_err(wrong)?,
            None => image,
        };
        let is_plain = is_whole && turned.is_none() && facts.mended.is_none();
        Ok(Decoded { image, remarks: facts.remarks, is_plain, depth })
    }
}

fn turn(image: Picture, orientation: Orientation) -> Result<Picture, PictureError> {
    let (width, height, channels) = (image.width(), image.height(), image.channels());
    let whole = match channels.count() {
        1 => ImageBuffer::from_raw(width, height, image.into_samples()).map(DynamicImage::ImageLuma8),
        2 => ImageBuffer::from_raw(width, height, image.into_samples()).map(DynamicImage::ImageLumaA8),
        3 => ImageBuffer::from_raw(width, height, image.into_samples()).map(DynamicImage::ImageRgb8),
        4 => ImageBuffer::from_raw(width, height, image.into_samples()).map(DynamicImage::ImageRgba8),
        _ => return image.map_planes(|plane| turn(plane, orientation)),
    };
    let mut whole = whole.ok_or(PictureError::WrongLength { width, height, channels, given: 0 })?;
    whole.apply_orientation(orientation);
    Picture::new(whole.width(), whole.height(), channels, whole.into_bytes())
}

/// Whether a colour profile is that of ordinary pictures, by its name within: sRGB, or the grey of the same gamma.
fn is_srgb(profile: &[u8]) -> bool {
    // Names stand in ASCII or in UTF-16.
    let text: Vec<u8> = profile.iter().copied().filter(|byte| *byte != 0).collect();
    ["sRGB", "Gamma 2.2"].iter().any(|name| text.windows(name.len()).any(|part| part == name.as_bytes()))
}

fn corrupt(format: Format, reason: String) -> DecodeError {
    DecodeError::Corrupt { format, reason }
}

fn truncated(format: Format, reason: impl Into<String>) -> DecodeError {
    DecodeError::Truncated { format, reason: reason.into() }
}
