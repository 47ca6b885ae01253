//! Runs the decoders of others, within memory for the size that was announced.

use std::io::{Cursor, ErrorKind};
use std::panic::catch_unwind;

use image::codecs::{
    bmp::BmpDecoder, gif::GifDecoder, jpeg::JpegDecoder, png::PngDecoder, tiff::TiffDecoder,
};
use image::{AnimationDecoder, DynamicImage, ImageBuffer, ImageDecoder, ImageResult};
use tiff::decoder::DecodingResult;

use super::samples::Pixels;
use super::{DecodeError, Facts, Format, Remark, corrupt};
use crate::image::Channels;
use crate::image::picture::interleave;

/// The hungriest case, 16-bit RGBA held twice.
const BYTES_A_PIXEL: u64 = 16;
/// Room for palettes, profiles and compression windows, whatever the picture's size.
const DECODER_OVERHEAD_BYTES: u64 = 16 << 20;

/// A picture in its own pixel type, and what its decoder alone can tell of it.
#[derive(Debug)]
pub(super) struct Picture {
    pub(super) pixels: Pixels,
    pub(super) remark: Option<Remark>,
}

/// How a file's samples lie, as far as that chooses its decoder.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Layout {
    /// Grey or RGB, with or without alpha.
    #[default]
    Usual,
    /// A TIFF of grey and alpha.
    GreyAlpha,
    /// A TIFF of so many samples a pixel, all of which are wanted.
    Bands(Channels),
}

/// Runs the format's decoder. A panic in it becomes an error.
pub(super) fn picture(
    format: Format,
    bytes: &[u8],
    (width, height): (u32, u32),
    facts: &Facts,
) -> Result<Picture, DecodeError> {
    // The decoders are fuzzed by their makers but index and unwrap; nothing of theirs survives the unwinding.
    catch_unwind(|| match facts.layout {
        Layout::Usual => run(format, bytes, width, height),
        Layout::GreyAlpha => grey_alpha(bytes, width, height),
        Layout::Bands(channels) => bands(bytes, width, height, channels),
    })
    .unwrap_or_else(|_| Err(corrupt(format, "its decoder panicked".to_owned())))
}

fn run(format: Format, bytes: &[u8], width: u32, height: u32) -> Result<Picture, DecodeError> {
    let mut limits = image::Limits::default();
    limits.max_image_width = Some(width);
    limits.max_image_height = Some(height);
    limits.max_alloc = Some(most_bytes(width, height));
    let reader = Cursor::new(bytes);
    let foreign = |error| translate(format, &error);
    match format {
        Format::Png => {
            let decoder = PngDecoder::with_limits(reader, limits).map_err(foreign)?;
            if decoder.is_apng().map_err(foreign)? {
                return Err(DecodeError::Animated { format });
            }
            with_profile(decoder).map_err(foreign)
        }
        Format::Jpeg => JpegDecoder::new(reader).and_then(|d| within(d, limits)).map_err(foreign),
        Format::Bmp => BmpDecoder::new(reader).and_then(|d| within(d, limits)).map_err(foreign),
        Format::Tiff => {
            let mut decoder = TiffDecoder::new(reader).map_err(foreign)?;
            decoder.set_limits(limits).map_err(foreign)?;
            with_profile(decoder).map_err(foreign)
        }
        Format::Gif => gif(reader, limits),
    }
}

fn most_bytes(width: u32, height: u32) -> u64 {
    u64::from(width) * u64::from(height) * BYTES_A_PIXEL + DECODER_OVERHEAD_BYTES
}

fn within<D: ImageDecoder>(mut decoder: D, limits: image::Limits) -> ImageResult<Picture> {
    decoder.set_limits(limits)?;
    Ok(Picture { pixels: Pixels::Image(DynamicImage::from_decoder(decoder)?), remark: None })
}

/// Looks at the colour profile too; one that cannot be read is none.
fn with_profile<D: ImageDecoder>(mut decoder: D) -> ImageResult<Picture> {
    let profile = decoder.icc_profile().ok().flatten();
    let remark = profile.filter(|profile| !super::is_srgb(profile)).map(|_| Remark::Profile);
    Ok(Picture { pixels: Pixels::Image(DynamicImage::from_decoder(decoder)?), remark })
}

fn gif(reader: Cursor<&[u8]>, limits: image::Limits) -> Result<Picture, DecodeError> {
    let format = Format::Gif;
    let foreign = |error| translate(format, &error);
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
        let colour = "transparent pixels".to_owned();
        return Err(DecodeError::UnsupportedColour { format, colour });
    }
    Ok(Picture { pixels: Pixels::Image(DynamicImage::ImageRgba8(first)), remark: None })
}

/// Reads a TIFF of grey and alpha, which the `image` crate does not take.
fn grey_alpha(bytes: &[u8], width: u32, height: u32) -> Result<Picture, DecodeError> {
    let mut decoder = tiff_decoder(bytes, most_bytes(width, height))?;
    let pixels = (width as usize).saturating_mul(height as usize);
    let pixels = match decoder.read_image().map_err(|error| translate_tiff(&error))? {
        // Planes one after the other: the first is the grey.
        DecodingResult::U8(grey) if grey.len() == pixels => {
            ImageBuffer::from_raw(width, height, grey).map(DynamicImage::ImageLuma8)
        }
        DecodingResult::U16(grey) if grey.len() == pixels => {
            ImageBuffer::from_raw(width, height, grey).map(DynamicImage::ImageLuma16)
        }
        DecodingResult::U8(both) => ImageBuffer::from_raw(width, height, both).map(DynamicImage::ImageLumaA8),
        DecodingResult::U16(both) => {
            ImageBuffer::from_raw(width, height, both).map(DynamicImage::ImageLumaA16)
        }
        _ => None,
    };
    let wrong = || corrupt(Format::Tiff, "grey and alpha of another size than announced".to_owned());
    Ok(Picture { pixels: Pixels::Image(pixels.ok_or_else(wrong)?), remark: None })
}

/// Reads every sample of a TIFF, whatever the samples stand for.
fn bands(bytes: &[u8], width: u32, height: u32, channels: Channels) -> Result<Picture, DecodeError> {
    let samples = u64::from(width) * u64::from(height) * channels.count() as u64;
    let wrong = || corrupt(Format::Tiff, "samples of another number than announced".to_owned());
    let count = usize::try_from(samples).map_err(|_| wrong())?;
    // Samples are of two bytes at most, and the whole fits, else only the first plane would be read.
    let as_bands = super::tiff::as_bands(bytes)?;
    let mut decoder = tiff_decoder(&as_bands, 2 * samples + DECODER_OVERHEAD_BYTES)?;
    let mut read = DecodingResult::U8(Vec::new());
    let layout = decoder.read_image_to_buffer(&mut read).map_err(|error| translate_tiff(&error))?;
    let is_planar = layout.planes > 1;
    let pixels = match read {
        DecodingResult::U8(all) if all.len() == count => {
            Pixels::Bands8(if is_planar { interleave(&all, channels) } else { all })
        }
        DecodingResult::U16(all) if all.len() == count => {
            Pixels::Bands16(if is_planar { interleave(&all, channels) } else { all })
        }
        _ => return Err(wrong()),
    };
    Ok(Picture { pixels, remark: None })
}

/// A decoder that may hold so many bytes.
fn tiff_decoder(bytes: &[u8], most: u64) -> Result<tiff::decoder::Decoder<Cursor<&[u8]>>, DecodeError> {
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    let mut limits = tiff::decoder::Limits::default();
    (limits.decoding_buffer_size, limits.intermediate_buffer_size, limits.ifd_value_size) =
        (most, most, most);
    let decoder = tiff::decoder::Decoder::new(Cursor::new(bytes)).map_err(|error| translate_tiff(&error))?;
    Ok(decoder.with_limits(limits))
}

fn translate_tiff(error: &tiff::TiffError) -> DecodeError {
    let format = Format::Tiff;
    match error {
        tiff::TiffError::IoError(io) if io.kind() == ErrorKind::UnexpectedEof => {
            DecodeError::Truncated { format, reason: io.to_string() }
        }
        tiff::TiffError::UnsupportedError(feature) => {
            DecodeError::Unsupported { format, feature: feature.to_string() }
        }
        other => corrupt(format, other.to_string()),
    }
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
