//! From a file to a tensor, and back to bytes for the line.
//!
//! ```text
//! file bytes --decode--> GreyImage --resize--> GreyImage of the model's size --> (grey / 255 - mean) / std
//!                            |
//!                            +--codec::encode--> payload ~~line~~> codec::decode_payload --> the same GreyImage
//! ```
//!
//! Agent and pool both decode and resize, so both must get the same grey levels from the same bytes: the arithmetic
//! is integer, fixed in `docs/bundles.md`, and the codec is lossless.

pub mod codec;
pub mod decode;
pub mod resize;

use std::fmt;

pub use codec::{Codec, Encoded, PayloadError, decode_payload, encode, encode_if_quick};
pub use decode::{BitDepth, DecodeError, Decoded, Format, Limits, Remark, decode, read, read_all};
pub use resize::resize;

/// A picture of 8-bit grey levels, 0 black to 255 white; never empty.
#[derive(Clone, PartialEq, Eq)]
pub struct GreyImage {
    width: u32,
    height: u32,
    /// Row-major, top row first, `width * height` of them.
    pixels: Vec<u8>,
}

/// Why a buffer is not a [`GreyImage`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    #[error("image of {width}x{height} pixels has no pixels")]
    NoPixels { width: u32, height: u32 },
    #[error("image of {width}x{height} pixels given {given} bytes")]
    WrongLength { width: u32, height: u32, given: usize },
}

impl GreyImage {
    /// Takes `width * height` grey levels, row-major, top row first.
    pub fn new(width: u32, height: u32, pixels: Vec<u8>) -> Result<Self, ImageError> {
        if width == 0 || height == 0 {
            return Err(ImageError::NoPixels { width, height });
        }
        // Two u32 cannot overflow a u64; a product beyond usize cannot be the length of a Vec.
        if u64::from(width) * u64::from(height) != pixels.len() as u64 {
            return Err(ImageError::WrongLength { width, height, given: pixels.len() });
        }
        Ok(Self { width, height, pixels })
    }

    /// In pixels.
    pub fn width(&self) -> u32 {
        self.width
    }

    /// In pixels.
    pub fn height(&self) -> u32 {
        self.height
    }

    /// Grey levels, row-major, top row first.
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    /// The grey levels, without a copy.
    pub fn into_pixels(self) -> Vec<u8> {
        self.pixels
    }
}

impl fmt::Debug for GreyImage {
    /// Only the size: pixels in a log help nobody and may be a trade secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GreyImage({}x{})", self.width, self.height)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_has_as_many_bytes_as_pixels() {
        assert_eq!(GreyImage::new(2, 3, vec![7; 6]).unwrap().pixels(), [7; 6]);
        let wrong = GreyImage::new(2, 3, vec![7; 5]).unwrap_err();
        assert_eq!(wrong.to_string(), "image of 2x3 pixels given 5 bytes");
        assert_eq!(GreyImage::new(0, 3, vec![]), Err(ImageError::NoPixels { width: 0, height: 3 }));
        let huge = GreyImage::new(u32::MAX, u32::MAX, vec![1]).unwrap_err();
        assert_eq!(huge, ImageError::WrongLength { width: u32::MAX, height: u32::MAX, given: 1 });
    }

    #[test]
    fn debug_shows_no_pixels() {
        assert_eq!(format!("{:?}", GreyImage::new(2, 1, vec![1, 2]).unwrap()), "GreyImage(2x1)");
    }
}
