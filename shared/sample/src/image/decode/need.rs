//! The memory that a decode takes at its peak, told from the header.

use super::{DecodeError, Format, jpeg, tiff};

/// For the decoder's windows, tables and rows.
const OVERHEAD: u64 = 4 << 20;
/// What comes after a decode (grey, turned, or coded for the line) takes so many bytes a pixel.
const LEAST: u64 = 3;

/// In bytes, for the file's pixels and its grey. `pixels` is width times height.
pub(super) fn bytes(format: Format, file: &[u8], pixels: u64) -> Result<u64, DecodeError> {
    let a_pixel = match format {
        // The picture as it stands in the file, and its grey.
        Format::Png => png_pixel(file) + 1,
        Format::Jpeg => {
            let jpeg::Sort { components, holds_coefficients } = jpeg::sort(file);
            let components = u64::from(components);
            components + 1 + if holds_coefficients { 2 * components } else { 0 }
        }
        Format::Bmp => 4 + 1,
        // The canvas, the frame, and what is made of them, four bytes each.
        Format::Gif => 12 + 1,
        // Once as it stands in the file, once in the order that is wanted.
        Format::Tiff => {
            let tiff::Sort { sample, samples } = tiff::sort(file)?;
            sample.div_ceil(8).saturating_mul(samples).saturating_mul(2) + 1
        }
    };
    let of_pixels = pixels.saturating_mul(a_pixel.max(LEAST));
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
