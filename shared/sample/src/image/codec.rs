//! Pictures for the line: lossless, in the smallest of a few forms.
//!
//! | form | for | bytes for a 64x64 crop of a circuit board, mean (p95) |
//! | --- | --- | --- |
//! | [`Codec::Source`] | everything: the file as it was read, or a PNG made here | 169 (283) as a PNG |
//! | [`Codec::Bilevel`] | two grey levels, as thresholding cameras give | 20 (43) |
//! | [`Codec::BilevelReferenced`] | two grey levels, beside a similar picture that the receiver has | 29 (56) |
//! | [`Codec::Planes`] | five channels and more, and no file: a PNG of the channels, one under the other | |
//!
//! Over the 1,845 test crops of DeepPCB a template and its crop take 49 bytes together, at most 156. Packed bits under
//! DEFLATE take 125 (p95 249), whether or not the crop is XORed with its template first.

mod bilevel;
mod range;
#[cfg(test)]
mod tests;

use millgate_base::memory::{self, NoRoom};

use super::picture::interleave;
use super::{Channels, DecodeError, Limits, Picture, PictureError, decode};

/// The form of a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    /// An image file's bytes.
    Source,
    /// Two grey levels, context-coded; see `bilevel.rs`.
    Bilevel,
    /// Two grey levels, coded with contexts that look at the reference picture too.
    BilevelReferenced,
    /// A grey PNG that shows every channel, one under the other, as high as all of them together.
    Planes,
}

/// A picture as it goes up the line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    pub codec: Codec,
    pub bytes: Vec<u8>,
}

/// Why a payload is not a picture.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PayloadError {
    #[error(transparent)]
    File(#[from] DecodeError),
    #[error(transparent)]
    Size(#[from] PictureError),
    #[error("picture is of {found_width}x{found_height} pixels, not of {width}x{height} as announced")]
    OtherSize { width: u32, height: u32, found_width: u32, found_height: u32 },
    #[error("picture of {width}x{height} pixels exceeds the limit of {limit} pixels")]
    TooManyPixels { width: u32, height: u32, limit: u64 },
    #[error("payload refers to a picture of {width}x{height} pixels and two grey levels, which is not here")]
    NoReference { width: u32, height: u32 },
    #[error("this codec has no colour, and the modality takes {}", .channels.count())]
    NoColour { channels: Channels },
    #[error("picture of {width}x{height} pixels {source}")]
    NoMemory { width: u32, height: u32, source: NoRoom },
    #[error("payload is corrupt, or was made against another reference")]
    Corrupt,
}

/// Two levels of more pixels take over 50 ms to code.
const QUICK_PIXELS: usize = 1 << 20;

/// Above it, a JPEG's header is small beside what its losses save.
const PNG_BEATS_JPEG_PIXELS: usize = 256 * 256;

/// The smallest lossless form of `image`.
///
/// `source` is the file it was decoded from, and passes through untouched where nothing is smaller. `reference` is a
/// picture that the receiver has already; it is of use if it has the same size and both have two grey levels.
pub fn encode(image: &Picture, source: Option<&[u8]>, reference: Option<&Picture>) -> Encoded {
    let levels = two_levels(image, reference);
    // A PNG is never smaller than two levels context-coded. It can beat a JPEG only by the JPEG's header, and takes
    // some 35 ns a pixel to find out.
    let from_jpeg = source.is_some_and(|bytes| bytes.starts_with(b"\xff\xd8\xff"));
    let png_may_win = levels.is_none() && !(from_jpeg && image.pixel_count() > PNG_BEATS_JPEG_PIXELS);
    match smaller(levels, source) {
        Some(known) if !png_may_win => known,
        known => {
            let png = png(image);
            known.into_iter().chain([png]).min_by_key(|form| form.bytes.len()).expect("there is the PNG")
        }
    }
}

/// The smallest of those forms that cost next to nothing to make, if there is one.
pub fn encode_if_quick(
    image: &Picture,
    source: Option<&[u8]>,
    reference: Option<&Picture>,
) -> Option<Encoded> {
    let is_small = image.pixel_count() <= QUICK_PIXELS;
    smaller(is_small.then(|| two_levels(image, reference)).flatten(), source)
}

/// Two grey levels, context-coded.
fn two_levels(image: &Picture, reference: Option<&Picture>) -> Option<Encoded> {
    let alone = bilevel::encode(image, None).map(|bytes| Encoded { codec: Codec::Bilevel, bytes });
    let referenced = reference
        .and_then(|reference| bilevel::encode(image, Some(reference)))
        .map(|bytes| Encoded { codec: Codec::BilevelReferenced, bytes });
    [alone, referenced].into_iter().flatten().min_by_key(|form| form.bytes.len())
}

/// The file only where it is smaller.
fn smaller(form: Option<Encoded>, source: Option<&[u8]>) -> Option<Encoded> {
    let most = form.as_ref().map_or(usize::MAX, |form| form.bytes.len());
    let source = source.filter(|bytes| bytes.len() < most);
    source.map(|bytes| Encoded { codec: Codec::Source, bytes: bytes.to_vec() }).or(form)
}

/// What stands beside a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Announced {
    /// Width in pixels; 0, as the height, takes the size of a [`Codec::Source`] as it is.
    pub width: u32,
    /// Height in pixels; 0, as the width, takes the size of a [`Codec::Source`] as it is.
    pub height: u32,
    /// Channels that the modality takes.
    pub channels: Channels,
}

/// The picture that [`encode`] was given. `reference` must be the one that the sender used.
pub fn decode_payload(
    codec: Codec,
    bytes: &[u8],
    announced: Announced,
    reference: Option<&Picture>,
    limits: &Limits,
) -> Result<Picture, PayloadError> {
    let Announced { width, height, channels } = announced;
    let no_memory = |source| PayloadError::NoMemory { width, height, source };
    let is_sized = (width, height) != (0, 0);
    let of_size = |image: Picture, width: u32, height: u32| {
        let (found_width, found_height) = (image.width(), image.height());
        let is_so = (width, height) == (found_width, found_height);
        is_so.then_some(image).ok_or(PayloadError::OtherSize { width, height, found_width, found_height })
    };
    if codec == Codec::Source {
        let image = decode(bytes, channels, limits)?;
        return if is_sized { of_size(image, width, height) } else { Ok(image) };
    }
    let limit = limits.most_pixels(channels);
    if u64::from(width) * u64::from(height) > limit {
        return Err(PayloadError::TooManyPixels { width, height, limit });
    }
    let reference = match codec {
        Codec::Source | Codec::Bilevel => None,
        Codec::BilevelReferenced => Some(reference.ok_or(PayloadError::NoReference { width, height })?),
        Codec::Planes => {
            let count = channels.count() as u64;
            let limits = Limits { max_pixels: limits.max_pixels.saturating_mul(count), ..*limits };
            let planes = decode(bytes, Channels::GREY, &limits)?;
            let planes = of_size(planes, width, height.saturating_mul(count as u32))?;
            let _room = memory::reserve(planes.samples().len() as u64).map_err(no_memory)?;
            return Ok(Picture::new(width, height, channels, interleave(planes.samples(), channels))?);
        }
    };
    if channels != Channels::GREY {
        return Err(PayloadError::NoColour { channels });
    }
    let _room = memory::reserve(3 * u64::from(width) * u64::from(height)).map_err(no_memory)?;
    bilevel::decode(bytes, width, height, reference)
}

/// An 8-bit PNG file: of the picture, or of its channels one under the other where a PNG cannot have so many.
fn png(image: &Picture) -> Encoded {
    let colour = match image.channels().count() {
        1 => png::ColorType::Grayscale,
        2 => png::ColorType::GrayscaleAlpha,
        3 => png::ColorType::Rgb,
        4 => png::ColorType::Rgba,
        count => {
            let planes: Vec<u8> = (0..count).flat_map(|channel| image.plane(channel)).collect();
            let height = image.height().saturating_mul(count as u32);
            let bytes = png_of(image.width(), height, png::ColorType::Grayscale, &planes);
            return Encoded { codec: Codec::Planes, bytes };
        }
    };
    let bytes = png_of(image.width(), image.height(), colour, image.samples());
    Encoded { codec: Codec::Source, bytes }
}

fn png_of(width: u32, height: u32, colour: png::ColorType, samples: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width, height);
    encoder.set_color(colour);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_compression(png::Compression::Balanced);
    encoder.set_filter(png::Filter::Adaptive);
    let written = encoder.write_header().and_then(|mut file| file.write_image_data(samples));
    written.expect("writing to memory a picture that has as many bytes as samples");
    bytes
}
