//! The memory that a decode takes at its peak, told from the header.

use super::{DecodeError, Format, jpeg, tiff};
use crate::image::Channels;

/// For the decoder's windows, tables and rows.
const OVERHEAD: u64 = 4 << 20;
/// What comes after a decode (samples, turned, or coded for the line) takes so many bytes for each of a pixel's samples.
const LEAST: u64 = 3;

/// Bytes for the file's pixels and for the samples of the channels that are wanted. `pixels` is width times height.
pub(super) fn bytes(format: Format, file: &[u8], pixels: u64, wanted: Channels) -> Result<u64, DecodeError> {
    let wanted = wanted.count() as u64;
    let a_pixel = match format {
        // The picture as it stands in the file, and what is made of it.
        Format::Png => png_pixel(file) + wanted,
        Format::Jpeg => {
            let jpeg::Sort { components, holds_coefficients } = jpeg::sort(file);
            let components = u64::from(components);
            components + wanted + if holds_coefficients { 2 * components } else { 0 }
        }
        Format::Bmp => 4 + wanted,
        // The canvas, the frame, and what is made of them, four bytes each.
        Format::Gif => 12 + wanted,
        // Once as it stands in the file, once in the order that is wanted.
        Format::Tiff => {
            let tiff::Sort { sample, samples } = tiff::sort(file)?;
            sample.div_ceil(8).saturating_mul(samples).saturating_mul(2).saturating_add(wanted)
        }
    };
    let of_pixels = pixels.saturating_mul(a_pixel.max(LEAST * wanted));
    // Decoders and what makes a file whole may copy it.
    Ok(of_pixels.saturating_add(2 * file.len() as u64).saturating_add(OVERHEAD))
}

/// Bytes of a decoded pixel, by bit depth and colour type; palettes become colours, with alpha where there is some.
fn png_pixel(file: &[u8]) -> u64 {
    const PALETTE: u8 = 3;
    let &[depth, colour_type] = file.get(24..).and_then(<[u8]>::first_chunk).unwrap_or(&[16, 6]);
    let samples = match colour_type {
        0 => 2,
        2 | PALETTE | 6 => 4,
        _ => 2,
    };
    samples * u64::from(depth.div_ceil(8))
}
