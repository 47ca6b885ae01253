//! An image file's bytes to grey levels: the only place where foreign decoders run.
//!
//! The bytes come from a factory line's file share or from the network, so they are taken for hostile:
//! - the format is told by content, never by name;
//! - the size is read from the header by our own code and checked before a decoder is started;
//! - a picture that is not wholly there is refused, never completed with grey (the JPEG decoder would, see `jpeg.rs`);
//! - a panic in a decoder becomes an error.
//!
//! Orientation tags, colour profiles and gamma are ignored, as Pillow does.

mod header;
mod jpeg;
mod luma;
#[cfg(test)]
mod tests;
mod tiff;

use std::io::{Cursor, ErrorKind};
use std::panic::catch_unwind;

use image::codecs::{
    bmp::BmpDecoder, gif::GifDecoder, jpeg::JpegDecoder, png::PngDecoder, tiff::TiffDecoder,
};
use image::{AnimationDecoder, DynamicImage, ImageDecoder, ImageResult};

use super::GreyImage;
pub use header::Format;

/// What one file may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Width times height, in pixels. Default 100 million. A decode needs at most 16 times as many bytes at
    /// its peak, and far less for grey pictures.
    pub max_pixels: u64,
    /// Length of the file in bytes. Default 64 MiB.
    pub max_file_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_pixels: 100_000_000, max_file_bytes: 64 << 20 }
    }
}

/// The hungriest case, 16-bit RGBA held twice.
const BYTES_A_PIXEL: u64 = 16;

/// Room for palettes, profiles and compression windows, whatever the picture's size.
const DECODER_OVERHEAD_BYTES: u64 = 16 << 20;

/// Why a file is not a picture we take. The reasons are the decoder's own words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("file is empty")]
    Empty,
    #[error("not an image (PNG, JPEG, BMP, TIFF or GIF expected)")]
    NotAnImage,
    #[error("file of {bytes} bytes exceeds the limit of {limit} bytes")]
    FileTooLarge { bytes: u64, limit: u64 },
    #[error("{format} of {width}x{height} pixels exceeds the limit of {limit} pixels")]
    TooManyPixels { format: Format, width: u32, height: u32, limit: u64 },
    #[error("{format} file is truncated: {reason}")]
    Truncated { format: Format, reason: String },
    #[error("{format} file is corrupt: {reason}")]
    Corrupt { format: Format, reason: String },
    #[error("{format} with {colour} is not supported: save it as 8-bit grey or RGB")]
    UnsupportedColour { format: Format, colour: String },
    #[error("{format} feature is not supported: {feature}")]
    Unsupported { format: Format, feature: String },
    #[error("{format} {}: a sample is one picture", several(*.format))]
    Animated { format: Format },
}

fn several(format: Format) -> &'static str {
    if format == Format::Tiff { "has several pages" } else { "is animated" }
}

impl DecodeError {
    /// A word for machines, stable across versions.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Empty => "empty_file",
            Self::NotAnImage => "not_an_image",
            Self::FileTooLarge { .. } | Self::TooManyPixels { .. } => "too_large",
            Self::Truncated { .. } => "truncated",
            Self::Corrupt { .. } => "corrupt",
            Self::UnsupportedColour { .. } => "unsupported_colour",
            Self::Unsupported { .. } => "unsupported",
            Self::Animated { .. } => "animated",
        }
    }
}

/// Decodes a PNG, JPEG, BMP, TIFF or GIF file to grey by the rules of `docs/bundles.md`; the size is kept.
pub fn decode(bytes: &[u8], limits: &Limits) -> Result<GreyImage, DecodeError> {
    if bytes.is_empty() {
        return Err(DecodeError::Empty);
    }
    if bytes.len() as u64 > limits.max_file_bytes {
        return Err(DecodeError::FileTooLarge { bytes: bytes.len() as u64, limit: limits.max_file_bytes });
    }
    let format = Format::of(bytes).ok_or(DecodeError::NotAnImage)?;
    let (width, height) = header::size(format, bytes)?;
    let pixels = u64::from(width) * u64::from(height);
    if pixels > limits.max_pixels {
        return Err(DecodeError::TooManyPixels { format, width, height, limit: limits.max_pixels });
    }
    if pixels == 0 {
        return Err(corrupt(format, format!("size of {width}x{height} pixels")));
    }
    match format {
        Format::Jpeg => jpeg::check(bytes)?,
        Format::Tiff => tiff::check(bytes)?,
        Format::Bmp => header::check_bmp(bytes)?,
        Format::Png | Format::Gif => {}
    }
    // The decoders are fuzzed by their makers but index and unwrap; nothing of theirs survives the unwinding.
    let picture = catch_unwind(|| decode_foreign(format, bytes, width, height))
        .unwrap_or_else(|_| Err(corrupt(format, "its decoder panicked".to_owned())))?;
    let colour = picture.color();
    let pixels = luma::to_grey(picture).ok_or_else(|| DecodeError::UnsupportedColour {
        format,
        colour: format!("colour type {colour:?}"),
    })?;
    GreyImage::new(width, height, pixels).map_err(|error| corrupt(format, error.to_string()))
}

/// Runs the format's decoder within memory for `width` times `height` pixels.
fn decode_foreign(
    format: Format,
    bytes: &[u8],
    width: u32,
    height: u32,
) -> Result<DynamicImage, DecodeError> {
    let mut limits = image::Limits::default();
    limits.max_image_width = Some(width);
    limits.max_image_height = Some(height);
    let pixels = u64::from(width) * u64::from(height);
    limits.max_alloc = Some(pixels * BYTES_A_PIXEL + DECODER_OVERHEAD_BYTES);
    let reader = Cursor::new(bytes);
    let foreign = |error| translate(format, &error);
    match format {
        Format::Png => {
            let decoder = PngDecoder::with_limits(reader, limits).map_err(foreign)?;
            if decoder.is_apng().map_err(foreign)? {
                return Err(DecodeError::Animated { format });
            }
            DynamicImage::from_decoder(decoder).map_err(foreign)
        }
        Format::Jpeg => JpegDecoder::new(reader).and_then(|d| within(d, limits)).map_err(foreign),
        Format::Bmp => BmpDecoder::new(reader).and_then(|d| within(d, limits)).map_err(foreign),
        Format::Tiff => TiffDecoder::new(reader).and_then(|d| within(d, limits)).map_err(foreign),
        Format::Gif => {
            let mut decoder = GifDecoder::new(reader).map_err(foreign)?;
            decoder.set_limits(limits).map_err(foreign)?;
            let mut frames = decoder.into_frames();
            let no_frame = || corrupt(format, "no picture in it".to_owned());
            let first = frames.next().ok_or_else(no_frame)?.map_err(foreign)?;
            match frames.next() {
                None => {}
                Some(Ok(_)) => return Err(DecodeError::Animated { format }),
                Some(Err(error)) => return Err(foreign(error)),
            }
            let first = first.into_buffer();
            if first.pixels().any(|p| p.0[3] == 0) {
                // The decoder has already put black in place of the colour below.
                return Err(DecodeError::UnsupportedColour {
                    format,
                    colour: "transparent pixels".to_owned(),
                });
            }
            Ok(DynamicImage::ImageRgba8(first))
        }
    }
}

fn within<D: ImageDecoder>(mut decoder: D, limits: image::Limits) -> ImageResult<DynamicImage> {
    decoder.set_limits(limits)?;
    DynamicImage::from_decoder(decoder)
}

fn translate(format: Format, error: &image::ImageError) -> DecodeError {
    use image::ImageError as Foreign;
    let reason = error.to_string();
    match error {
        Foreign::IoError(io) if io.kind() == ErrorKind::UnexpectedEof => {
            DecodeError::Truncated { format, reason }
        }
        Foreign::Unsupported(_) => DecodeError::Unsupported { format, feature: reason },
        _ => corrupt(format, reason),
    }
}

fn corrupt(format: Format, reason: String) -> DecodeError {
    DecodeError::Corrupt { format, reason }
}

fn truncated(format: Format, reason: impl Into<String>) -> DecodeError {
    DecodeError::Truncated { format, reason: reason.into() }
}
