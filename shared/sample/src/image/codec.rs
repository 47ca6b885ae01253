//! Pictures for the line: lossless, in the smallest of a few forms.
//!
//! | form | for | bytes for a 64x64 crop of a circuit board, mean (p95) |
//! | --- | --- | --- |
//! | [`Codec::Source`] | everything: the file as it was read, or a PNG made here | 169 (283) as a PNG |
//! | [`Codec::Bilevel`] | two grey levels, as thresholding cameras give | 20 (43) |
//! | [`Codec::BilevelReferenced`] | the same, beside a similar picture that the receiver has | 29 (56) |
//!
//! Over the 1,845 test crops of DeepPCB a template and its crop take 49 bytes together, at most 156. Packed bits under
//! DEFLATE take 125 (p95 249), whether or not the crop is XORed with its template first.

mod bilevel;
mod range;
#[cfg(test)]
mod tests;

use millgate_rim::memory::{self, NoRoom};

use super::{DecodeError, GreyImage, ImageError, Limits, decode};

/// The form of a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    /// An image file's bytes.
    Source,
    /// Two grey levels, context-coded; see `bilevel.rs`.
    Bilevel,
    /// The same with contexts that look at the reference picture too.
    BilevelReferenced,
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
    Size(#[from] ImageError),
    #[error("picture is of {found_width}x{found_height} pixels, not of {width}x{height} as announced")]
    OtherSize { width: u32, height: u32, found_width: u32, found_height: u32 },
    #[error("picture of {width}x{height} pixels exceeds the limit of {limit} pixels")]
    TooManyPixels { width: u32, height: u32, limit: u64 },
    #[error("payload refers to a picture of {width}x{height} pixels and two grey levels, which is not here")]
    NoReference { width: u32, height: u32 },
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
pub fn encode(image: &GreyImage, source: Option<&[u8]>, reference: Option<&GreyImage>) -> Encoded {
    let levels = two_levels(image, reference);
    // A PNG is never smaller than two levels context-coded. It can beat a JPEG only by the JPEG's header, and takes
    // some 35 ns a pixel to find out.
    let from_jpeg = source.is_some_and(|bytes| bytes.starts_with(b"\xff\xd8\xff"));
    let png_may_win = levels.is_none() && !(from_jpeg && image.pixels().len() > PNG_BEATS_JPEG_PIXELS);
    match smaller(levels, source) {
        Some(known) if !png_may_win => known,
        known => {
            let png = Encoded { codec: Codec::Source, bytes: png(image) };
            known.into_iter().chain([png]).min_by_key(|form| form.bytes.len()).expect("there is the PNG")
        }
    }
}

/// The smallest of those forms that cost next to nothing to make, if there is one.
pub fn encode_if_quick(
    image: &GreyImage,
    source: Option<&[u8]>,
    reference: Option<&GreyImage>,
) -> Option<Encoded> {
    let is_small = image.pixels().len() <= QUICK_PIXELS;
    smaller(is_small.then(|| two_levels(image, reference)).flatten(), source)
}

/// Two grey levels, context-coded.
fn two_levels(image: &GreyImage, reference: Option<&GreyImage>) -> Option<Encoded> {
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

/// The picture that [`encode`] was given.
///
/// `width` and `height` are in pixels, as announced beside the payload; both 0 take the size of a
/// [`Codec::Source`] as it is. `reference` must be the one that the sender used.
pub fn decode_payload(
    codec: Codec,
    bytes: &[u8],
    width: u32,
    height: u32,
    reference: Option<&GreyImage>,
    limits: &Limits,
) -> Result<GreyImage, PayloadError> {
    let reference = match codec {
        Codec::Source => {
            let image = decode(bytes, limits)?;
            let (found_width, found_height) = (image.width(), image.height());
            if (width, height) != (0, 0) && (width, height) != (found_width, found_height) {
                return Err(PayloadError::OtherSize { width, height, found_width, found_height });
            }
            return Ok(image);
        }
        Codec::Bilevel => None,
        Codec::BilevelReferenced => Some(reference.ok_or(PayloadError::NoReference { width, height })?),
    };
    if u64::from(width) * u64::from(height) > limits.max_pixels {
        return Err(PayloadError::TooManyPixels { width, height, limit: limits.max_pixels });
    }
    let no_memory = |source| PayloadError::NoMemory { width, height, source };
    let _room = memory::reserve(3 * u64::from(width) * u64::from(height)).map_err(no_memory)?;
    bilevel::decode(bytes, width, height, reference)
}

/// An 8-bit grey PNG file.
fn png(image: &GreyImage) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, image.width(), image.height());
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_compression(png::Compression::Balanced);
    encoder.set_filter(png::Filter::Adaptive);
    let written = encoder.write_header().and_then(|mut file| file.write_image_data(image.pixels()));
    written.expect("writing to memory a picture that has as many bytes as pixels");
    bytes
}
